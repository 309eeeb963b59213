"""`isthmus cross`: does a policy cross from one simulation to another, and if not, for what reason?

1.  the contract: its reference replayed and rebuilt, its recorded return reached
2.  the source, which everything below is compared with, from equal starts
3.  the same engine with other numerics, one at a time
4.  the other engines; what they lack, taken out of the source alone
5.  the target
6.  where it breaks there: each group of its parameters as in the source; then groups together
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.deploy.crossing import (
    TOLERANCE,
    Crossing,
    CrossRow,
    EpisodeJudge,
    Outcome,
    Stage,
    join,
)
from isthmus.deploy.crossing_contract import ask_contract, ask_recorded_return
from isthmus.deploy.crossing_numerics import list_other_numerics
from isthmus.domains.batched import describe_policy
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parameter_groups import copy_groups, list_differing_groups
from isthmus.domains.parse import as_domain
from isthmus.evaluation.evaluate import SEED, OnStep, evaluate, evaluate_method
from isthmus.physics.engine import ENGINES
from isthmus.training.run import Run
from isthmus.types import BadValue, Episodes, IsthmusError, UnknownName

STAGES = (Stage.CONTRACT, Stage.NUMERICS, Stage.ENGINE, Stage.TARGET)
"""What may be asked; the source is always played."""
ARMATURE = "armature"

OnRow = Callable[[str], OnStep | None]
"""Told what is played next; gives what is called after each of its steps."""

MEANINGS = {
    (Stage.NUMERICS, Outcome.HOLDS): "it does not hang on this",
    (Stage.NUMERICS, Outcome.BREAKS): "it learned how this simulator computes, not the robot",
    (Stage.ENGINE, Outcome.HOLDS): "other contacts and limits do not matter to it",
    (Stage.ENGINE, Outcome.BREAKS): "it needs this engine's contacts, limits or armature",
    (Stage.TARGET, Outcome.HOLDS): "it crosses",
    (Stage.TARGET, Outcome.BREAKS): "it does not cross; the rows below say why",
    (Stage.CAUSE, Outcome.HOLDS): "mends it: the cause",
    (Stage.CAUSE, Outcome.BREAKS): "not this alone",
}
UNCLEAR = "too few episodes to tell"


def cross(
    policy: Any,
    source: Domain | str,
    target: Domain | str | None = None,
    episodes: int = 100,
    *,
    seed: int = SEED,
    tolerance: float = TOLERANCE,
    stages: Sequence[str] = STAGES,
    on_row: OnRow | None = None,
) -> Crossing:
    """Play a policy as the module says, and say whether it crosses.

    `policy` is a run or anything that `evaluate` plays, `source` where it is supposed to work.
    Every row has `episodes` episodes from equal starts. `tolerance` is what may be lost: a share of
    the source's mean return (of its standard deviation, where that is larger), and of episodes that
    fall more. One policy is one seed: all intervals are over episodes. Raises BadValue where the
    policy or the domains do not fit, UnknownName for another stage.
    """
    source = as_domain(source)
    if target is not None:
        target = as_domain(target).with_reward(source.reward)
        _check_target(source, target)
    if not 0 < tolerance < 1:
        raise BadValue(f"--tolerance {tolerance:g}: needs a share between 0 and 1")
    crosser = _Crosser(policy, source, target, episodes, seed, tolerance, on_row)
    rows = tuple(crosser.run(tuple(map(_read_stage, stages))))
    described = {"run": policy.reference} if isinstance(policy, Run) else describe_policy(policy)
    place = str(target or "")
    return Crossing(described, str(source), place, episodes, seed, tolerance, rows)


def _read_stage(text: str) -> Stage:
    if text not in STAGES:
        raise UnknownName("stage", text, STAGES)
    return Stage(text)


def _check_target(source: Domain, target: Domain) -> None:
    for domain in (source, target):
        if not domain.measurable:
            raise BadValue(f"{domain} is known only by its log: nothing can be played there")
    own, other = source.spaces, target.spaces
    if (own.observation, own.action) != (other.observation, other.action):
        raise BadValue(
            f"{source} has {own.observation} observations and {own.action} actions, {target} "
            f"{other.observation} and {other.action}: a policy of one cannot act in the other"
        )


@dataclass
class _Crosser:
    """Plays what is asked, row by row."""

    policy: Any
    source: Domain
    target: Domain | None
    episodes: int
    seed: int
    tolerance: float
    on_row: OnRow | None
    _judge: EpisodeJudge | None = field(default=None, init=False)
    _state: Any = field(default=None, init=False)  # of a run

    @property
    def judge(self) -> EpisodeJudge:
        """What compares with the source, which has been played."""
        assert self._judge is not None
        return self._judge

    def run(self, stages: Sequence[Stage]) -> Iterator[CrossRow]:
        """Yield the rows; after a contract that is broken, no more."""
        is_sound = True
        if Stage.CONTRACT in stages:
            for row in ask_contract(self.policy, self.source):
                is_sound = is_sound and row.outcome != Outcome.BREAKS
                yield row
        if not is_sound:
            return
        played = self.play(self.source)
        self._judge = EpisodeJudge(played, self.tolerance)
        first = CrossRow(
            Stage.SOURCE, "in the source", str(self.source), Outcome.REFERENCE, "what the rest is "
            "compared with"
        )  # fmt: skip
        yield self.judge.judge(first, played)._replace(
            outcome=Outcome.REFERENCE, loss=None, falls=None
        )
        if Stage.CONTRACT in stages:
            row = ask_recorded_return(self.policy, self.source, played, self.judge)
            yield from filter(None, [row])
            if row is not None and row.outcome == Outcome.BREAKS:
                return
        questions = {
            Stage.NUMERICS: self.ask_numerics,
            Stage.ENGINE: self.ask_engines,
            Stage.TARGET: self.ask_target,
        }
        for stage, ask in questions.items():
            if stage in stages:
                yield from ask()

    # What is played

    def play(self, domain: Domain) -> Episodes:
        """Return episodes of the policy, of a run after it adapted where its method does."""
        on_step = self.on_row(str(domain)) if self.on_row else None
        policy = self.policy
        if not isinstance(policy, Run):
            return evaluate(policy, domain, self.episodes, self.seed, on_step).episodes
        if self._state is None:
            self._state = policy.state()
        return evaluate_method(
            policy.method, self._state, policy.problem, domain, self.episodes, self.seed, on_step
        ).episodes

    def compare(
        self, stage: Stage, question: str, done: str, make: Callable[[], Domain]
    ) -> CrossRow:
        """Play a domain and compare it with the source; say in a line where it cannot be played."""
        row = CrossRow(stage, question, done, Outcome.NOT_ASKED, "")
        try:
            domain = make()
            domain.ready()
        except IsthmusError as error:
            return row._replace(meaning=str(error))
        paired = self.source.replayable and domain.replayable and self.source.task == domain.task
        row = self.judge.judge(row, self.play(domain), paired)
        return row._replace(meaning=MEANINGS.get((row.stage, row.outcome), UNCLEAR))

    # Numerics

    def ask_numerics(self) -> Iterator[CrossRow]:
        """Do box line 3."""
        question = "other numerics"
        if not isinstance(self.source, RobotDomain):
            yield _skip(Stage.NUMERICS, question, f"how {self.source} computes is not ours to set")
            return
        for text in list_other_numerics(self.source):
            yield self.compare(Stage.NUMERICS, question, text, _shifted(self.source, text))

    # Engines

    def ask_engines(self) -> Iterator[CrossRow]:
        """Do box line 4."""
        question = "another engine"
        if not isinstance(self.source, RobotDomain):
            yield _skip(Stage.ENGINE, question, f"{self.source} is a simulation of its own")
            return
        for engine in ENGINES:
            if engine == self.source.engine:
                continue
            text = f"engine={engine}"
            row = self.compare(Stage.ENGINE, question, text, _shifted(self.source, text))
            yield row
            if row.outcome in (Outcome.BREAKS, Outcome.UNCLEAR):
                yield from self._explain_engine(engine)

    def _explain_engine(self, engine: str) -> Iterator[CrossRow]:
        """Take out of the source what the engine lacks: is it that?"""
        assert isinstance(self.source, RobotDomain)
        own, other = self.source.table(), self.source.shift(f"engine={engine}").table()
        if ARMATURE not in own or ARMATURE in other:
            return
        question = f"is it the armature that {engine} lacks?"
        text = f"{ARMATURE}=x0 in {self.source.engine}"
        row = self.compare(Stage.CAUSE, question, text, _shifted(self.source, f"{ARMATURE}=x0"))
        said = {
            Outcome.BREAKS: "yes: without it this engine breaks the policy, too",
            Outcome.HOLDS: "no: contacts and joint limits are what is left",
        }
        # It explains a break, and mends nothing.
        yield row._replace(
            outcome=Outcome.REFERENCE, meaning=said.get(row.outcome, row.meaning or UNCLEAR)
        )

    # The target

    def ask_target(self) -> Iterator[CrossRow]:
        """Do box lines 5 and 6."""
        target = self.target
        if target is None or target == self.source:
            yield _skip(Stage.TARGET, "in the target", "there is none: --target names one")
            return
        row = self.compare(Stage.TARGET, "in the target", str(target), lambda: target)
        yield row
        if row.outcome != Outcome.BREAKS:
            return
        if not (isinstance(self.source, RobotDomain) and isinstance(target, RobotDomain)):
            yield _skip(Stage.CAUSE, "which parameters", f"those of {target} are not ours to copy")
            return
        if self.source.task != target.task:
            yield _skip(Stage.CAUSE, "which parameters", "the target is another robot")
            return
        yield from self._ask_causes(self.source, target)

    def _ask_causes(self, source: RobotDomain, target: RobotDomain) -> Iterator[CrossRow]:
        """Copy each group alone; where none mends it, add groups, the most helpful first."""
        losses: dict[str, float] = {}
        is_mended = False
        groups = list_differing_groups(source, target)
        if len(groups) < 2:
            yield self._name_only_group(groups)
            return
        for group in groups:
            row = self._copy(source, target, [group])
            yield row
            is_mended = is_mended or row.outcome == Outcome.HOLDS
            if row.loss is not None:
                losses[group] = row.loss.value
        helpful = sorted(losses, key=losses.__getitem__)
        for count in range(2, len(helpful)):
            if is_mended:
                return
            row = self._copy(source, target, helpful[:count])
            yield row
            is_mended = row.outcome == Outcome.HOLDS

    def _name_only_group(self, groups: Sequence[str]) -> CrossRow:
        """Say that nothing is to be played: with the one group copied, the target is the source."""
        name = join(groups) if groups else "nothing"
        meaning = "all in which the target differs from the source"
        return CrossRow(Stage.CAUSE, "which parameters", name, Outcome.HOLDS, meaning)

    def _copy(self, source: RobotDomain, target: RobotDomain, groups: Sequence[str]) -> CrossRow:
        row = self.compare(
            Stage.CAUSE,
            "which parameters",
            join(groups),
            lambda: copy_groups(source, target, groups),
        )
        return row._replace(question="copied from the source")


def _skip(stage: Stage, question: str, reason: str) -> CrossRow:
    return CrossRow(stage, question, "", Outcome.NOT_ASKED, reason)


def _shifted(domain: Domain, text: str) -> Callable[[], Domain]:
    def shift() -> Domain:
        return domain.shift(text)

    return shift
