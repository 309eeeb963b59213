"""A problem: a source, a target, what is believed of the target, and how much it may be touched.
The meter is here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.datasets import DataSet, Log, read_log, resolve_path
from isthmus.tasks.task import list_tasks
from isthmus.types import BadValue, BudgetExceeded, Transition, UnknownName, Worlds, decode_text


class Access(StrEnum):
    """How the target may be touched in training: not at all, by a log, freely, or for a few steps
    of adaptation.
    """

    NONE = "none"
    DATASET = "dataset"
    ONLINE = "online"
    FEW_SHOT = "few_shot"

    @staticmethod
    def parse(text: str) -> Access:
        if text not in list(Access):
            raise UnknownName("access", text, list(Access))
        return Access(text)


@dataclass(frozen=True)
class Budget:
    """The most that training may take from the target; None: no limit. Seconds are the robot's, at
    its control rate.
    """

    transitions: int | None = None
    episodes: int | None = None
    seconds: float | None = None


class TargetUsage(NamedTuple):
    """What training has taken from the target. Part of the run's tree: rolled back with it."""

    transitions: np.int64 = np.int64(0)
    episodes: np.int64 = np.int64(0)  # begun
    seconds: np.float64 = np.float64(0.0)

    def add(self, transitions: int, episodes: int, seconds: float) -> TargetUsage:
        return TargetUsage(
            np.int64(self.transitions + transitions),
            np.int64(self.episodes + episodes),
            np.float64(self.seconds + seconds),
        )


def _ends_amid_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


class UsageLedger:
    """The second book, for targets that cannot be replayed: a file that only grows, synced before
    each step.

    A robot that moved has moved, whatever checkpoint a run continues from; this book is never
    rolled back.
    """

    def __init__(self, path: Path):
        self.path = path
        self.transitions = 0
        self.episodes = 0
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        except (OSError, ValueError) as error:
            raise BadValue(
                f"the ledger {path} cannot be read, and what it counted not be known: {error}"
            ) from None
        for line in lines:
            try:
                self._count(json.loads(line))
            except json.JSONDecodeError:
                # a line cut short by a crash: its step was not taken, for the sync comes first
                continue

    def _count(self, entry: Mapping[str, int]) -> None:
        self.transitions += entry.get("transitions", 0)
        self.episodes += entry.get("episodes", 0)

    def enter(self, **counts: int) -> None:
        """Count before it happens. Raises BadValue where the disk refuses: then it must not happen."""
        try:
            with self.path.open("a+b") as file:
                if _ends_amid_a_line(file):
                    file.write(b"\n")  # or the line that was cut short would swallow this one
                file.write(json.dumps(counts).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BadValue(
                f"cannot write the ledger {self.path} ({error.strerror}), so that the target is "
                "not touched; make room"
            ) from None
        self._count(counts)


@dataclass(frozen=True)
class Problem:
    """Two domains and what is allowed between them.

    `uncertainty` is what the user believes of the target: settings of the source's parameters as
    laws, in the one grammar (`torso_mass=1..9,foot_friction=1.5..2.5`). `data` names the target's
    log where access is `dataset` (`isthmus.logs.datasets`); `log()` is the only door to it, and the
    target itself is then left to evaluation. `target.reward` is what training is paid there; what
    methods are judged by is `true_target`.
    """

    source: Domain
    target: Domain
    access: Access = Access.NONE
    budget: Budget = Budget()
    uncertainty: str = ""
    data: str | None = None
    name: str = ""
    ledger: Any = None  # a Ledger, set by the training loop where the target cannot be replayed

    def __post_init__(self) -> None:
        if self.data and self.access != Access.DATASET:
            raise BadValue(
                f"data is read with access dataset alone, this problem's is {self.access}; say "
                "dataset"
            )
        if not self.target.measurable and self.metered:
            raise BadValue(
                f"{self.target} is known only by its log, and nothing can be played in it, as "
                f"access {self.access} "
                "would; train with --access dataset --data D, or name a target that moves"
            )
        source, target = self.source.spaces, self.target.spaces
        if source.observation != target.observation or source.action != target.action:
            raise BadValue(
                f"source and target do not fit: {source.observation} observations and "
                f"{source.action} actions in "
                f"{self.source}, {target.observation} and {target.action} in {self.target}"
            )
        if self.metered:
            self.target.check_timed()
        _ = (
            self.randomized_source,
            self.evaluation_target,
        )  # a wrong setting should be said now, not in the middle of training

    @property
    def metered(self) -> bool:
        """Whether training may move the target, which is then counted."""
        return self.access in (Access.ONLINE, Access.FEW_SHOT)

    def ready(self) -> None:
        """Raises BadValue where source or target cannot be trained in; better said before than in
        the middle of it.

        Foreign simulations whose step is to be measured are rehearsed now; a target that may not be
        touched is not.
        """
        self.source.ready()
        self.target.ready(moved=self.metered)

    @property
    def randomized_source(self) -> Domain:
        """The source under the user's uncertainty: what domain randomization trains in."""
        return self.source.shift(self.uncertainty)

    @property
    def evaluation_target(self) -> Domain:
        """The target, paid by the source's reward: what the task is worth there, whatever training
        is told of it.

        A foreign environment has one reward, its own. Raises BadValue where the target's task lacks
        the source's.
        """
        return self.target.with_reward(self.source.reward)

    def describe(self) -> dict[str, Any]:
        """The problem as plain data, enough to make it again with `from_data`."""
        return {
            "name": self.name, "source": str(self.source), "target": str(self.target), "access": str(self.access),
            "uncertainty": self.uncertainty, "data": self.data,
            "budget": {k: v for k, v in vars(self.budget).items() if v is not None},
        }  # fmt: skip

    @staticmethod
    def from_data(data: dict[str, Any], trusted: bool = True) -> Problem:
        """The problem that `describe` described; for `trusted` see `Domain.parse`. Raises
        UnknownName or BadValue.
        """
        try:
            return Problem(
                Domain.parse(data["source"], trusted), Domain.parse(data["target"], trusted),
                Access.parse(data["access"]), Budget(**data["budget"]), data["uncertainty"], data["data"], data["name"],
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise BadValue(
                f"a damaged description of a problem: {type(error).__name__}: {error}"
            ) from None

    def with_ledger(self, path: Path) -> Problem:
        return self if self.target.replayable else replace(self, ledger=UsageLedger(path))

    def log(self) -> Log:
        """The target's log, read and checked once: what training may know of the target where
        access is `dataset`.

        Raises BudgetExceeded where the access is another, BadValue where there is no data or it is
        not the target's.
        """
        if self.access != Access.DATASET:
            raise BudgetExceeded(
                f"this problem's access is {self.access}: training may not read a log of its target"
            )
        return self.dataset.log

    @cached_property
    def dataset(self) -> DataSet:
        """The log with what its file says of it, for audits and reports; training reads `log()`."""
        if not self.data:
            raise BadValue(
                "access dataset needs the target's log: --data D, made by isthmus collect PROBLEM "
                "--policy RUN --out D"
            )
        return read_log(self.data, self.target)

    # The meter: the only way in which training touches the target.

    def target_worlds(
        self,
        book: TargetUsage,
        n: int,
        seed: int,
        parameters: np.ndarray | None = None,
        *,
        batch: int = 0,
    ) -> tuple[TargetUsage, Worlds]:
        """Begin n worlds of the target; their first episodes are counted.

        `batch` is how many steps a world the first `collect` will ask for. Raises BudgetExceeded,
        before anything is reset, where those would go over the budget.
        """
        seconds = (
            self.target.step_seconds
        )  # what is wrong with it should be said before worlds begin
        self.check_budget(book, batch * n, n, batch * n * seconds)
        if self.ledger:
            self.ledger.enter(episodes=n)
        return book.add(0, n, 0.0), self.target.worlds(n, seed, parameters)

    def collect(
        self, book: TargetUsage, worlds: Worlds, behaviour: Any, steps: int, members: bool = False
    ) -> tuple[TargetUsage, Worlds, Transition]:
        """`isthmus.domains.rollout.collect` in the target, granted whole or not at all; its
        dynamics are not told.

        Raises BudgetExceeded before anything moves if the transitions or seconds would go over the
        budget. Episodes that end inside the batch may begin others: they are counted, and refuse
        the next batch.
        """
        from isthmus.domains.rollout import rollout_steps

        transitions = steps * worlds.size
        seconds = transitions * self.target.step_seconds
        self.check_budget(book, transitions, 0, seconds)
        before = (lambda n: self.ledger.enter(transitions=n)) if self.ledger else None
        begun = int(worlds.episode.sum())
        worlds, tr = rollout_steps(
            self.target, worlds, behaviour, steps, members, before_step=before
        )
        episodes = int(worlds.episode.sum()) - begun
        if self.ledger and episodes:
            self.ledger.enter(episodes=episodes)
        return book.add(transitions, episodes, seconds), worlds, tr.of_target()

    def adaptation(self, target: Domain, settings: str) -> AdaptationMeter:
        """The meter of an adaptation to a target, or to several alike; `settings` say how much it
        takes.
        """
        return AdaptationMeter(
            self.budget, target, settings, None if target.replayable else self.ledger
        )

    def check_budget(
        self, book: TargetUsage, transitions: int, episodes: int, seconds: float
    ) -> None:
        if not self.metered:
            raise BudgetExceeded(
                f"this problem's access is {self.access}: training may not step its target"
            )
        spent_t, spent_e, spent_s = int(book.transitions), int(book.episodes), float(book.seconds)
        if self.ledger:
            spent_t, spent_e = (
                max(spent_t, self.ledger.transitions),
                max(spent_e, self.ledger.episodes),
            )
            spent_s = max(spent_s, self.ledger.transitions * self.target.step_seconds)
        for what, spent, asked, limit in (
            ("transitions", spent_t, transitions, self.budget.transitions),
            ("episodes", spent_e, episodes, self.budget.episodes),
            ("seconds", spent_s, seconds, self.budget.seconds),
        ):
            if limit is not None and spent + asked > limit:
                raise BudgetExceeded(
                    f"the target's budget is {limit:g} {what}: {spent:g} are spent and {asked:g} "
                    "more were asked for "
                    "(a round's are learner.worlds times learner.steps)"
                )


@dataclass(frozen=True)
class AdaptationMeter:
    """The meter of what a method takes of each target that it adapts to: each time it does, each
    has the whole budget.

    What cannot be replayed is counted in the ledger, before each step.
    """

    budget: Budget
    target: Domain
    settings: str
    ledger: UsageLedger | None

    def allow(self, transitions: int, episodes: int) -> None:
        """Raise BudgetExceeded where so many of one target, known or possible, are more than its
        budget.
        """
        seconds = transitions * self.target.step_seconds
        for what, asked in (
            ("transitions", transitions),
            ("episodes", episodes),
            ("seconds", seconds),
        ):
            limit = getattr(self.budget, what)
            if limit is not None and asked > limit:
                raise BudgetExceeded(
                    f"adaptation takes up to {asked:g} {what} a target and the budget is "
                    f"{limit:g}; "
                    f"lower {self.settings}"
                )

    def step(self, transitions: int) -> None:
        """To be called before any of the targets' worlds move."""
        if self.ledger:
            self.ledger.enter(transitions=transitions)

    def begin(self, episodes: int) -> None:
        """To be called when so many episodes begin."""
        if self.ledger and episodes:
            self.ledger.enter(episodes=episodes)


def make_problem(
    text: str,
    *,
    source: str = "",
    target: str = "",
    access: str | None = None,
    uncertainty: str | None = None,
    data: str | None = None,
    budget: Budget | int | None = None,
) -> Problem:
    """A problem by name or by shift. Raises UnknownName or BadValue, in one line.

    `text` is a row of the catalog, or a target written `task/shift`, whose source is then the task
    as it is. `source` and `target` change either domain by further settings, or name another one
    (`target="gym:Hopper-v5"`); the other arguments override the row's. `data` is the target's log,
    `PATH[:size]`, and means access `dataset` where none is said; `target="log"` is a target of
    which nothing else is known. A number as `budget` is one of transitions.
    """
    from isthmus.problems.catalog import CATALOG

    text = decode_text(text)
    if not re.search("[/:]", text) and text not in (known := [*CATALOG, *list_tasks()]):
        raise UnknownName("problem", text, known)
    if text in CATALOG:
        row = CATALOG[text]
        first, second, default, believed = row.source, row.target, row.access, row.uncertainty
    else:
        whole = Domain.parse(text)
        first, second, default, believed = str(whole.without_settings()), str(whole), "online", ""
    begin = _changed(Domain.parse(first), source)
    return Problem(
        begin,
        Domain.parse(f"log:{begin}") if target == "log" else _changed(Domain.parse(second), target),
        Access.parse(access or ("dataset" if data else default)),
        budget if isinstance(budget, Budget) else Budget(transitions=budget),
        believed if uncertainty is None else uncertainty,
        resolve_path(data) if data else None,
        text,
    )


def _changed(domain: Domain, text: str) -> Domain:
    """The domain by further settings, or another one where the text begins with a task, `gym:` or
    `module:`.
    """
    text = decode_text(text)
    head = text.partition("/")[0]
    return (
        Domain.parse(text)
        if "=" not in head and (":" in head or head in list_tasks())
        else domain.shift(text)
    )
