"""A problem: a source, a target, what is believed of the target, and how much it may be touched.

The meter is here: the only way in which training touches the target.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.behaviours import Behaviour
from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.identification.fit import Fit, is_fit_file
from isthmus.logs.log import DataSet, Log
from isthmus.logs.paths import resolve_path
from isthmus.logs.read import read_log
from isthmus.problems.catalog import CATALOG, CatalogEntry
from isthmus.problems.ledger import UsageLedger
from isthmus.tasks.task import list_tasks
from isthmus.types import BadValue, BudgetExceeded, Transition, UnknownName, Worlds, decode_text


class Access(StrEnum):
    """How training may touch the target: not at all, by a log, freely, or for a few steps."""

    NONE = "none"
    DATASET = "dataset"
    ONLINE = "online"
    FEW_SHOT = "few_shot"

    @staticmethod
    def parse(text: str) -> Access:
        """Return the access of that name. Raises UnknownName."""
        if text not in list(Access):
            raise UnknownName("access", text, list(Access))
        return Access(text)


@dataclass(frozen=True)
class Budget:
    """The most that training may take from the target; None: no limit.

    Seconds are the robot's, at its control rate.
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
        """Return this and so much more."""
        return TargetUsage(
            np.int64(self.transitions + transitions),
            np.int64(self.episodes + episodes),
            np.float64(self.seconds + seconds),
        )


@dataclass(frozen=True)
class Problem:
    """Two domains and what is allowed between them.

    `uncertainty` is what the user believes of the target: settings of the source's parameters as
    distributions, in the one grammar (`torso_mass=1..9,foot_friction=1.5..2.5`). `data` names the
    target's log where access is `dataset` (`isthmus.logs.log`); `log()` is the only door to it, and
    the target itself is then left to evaluation. `target.reward` is what training is paid there;
    what methods are judged by is `evaluation_target`.
    """

    source: Domain
    target: Domain
    access: Access = Access.NONE
    budget: Budget = Budget()
    uncertainty: str = ""
    data: str | None = None
    name: str = ""
    # Set by the training loop where the target cannot be replayed.
    ledger: UsageLedger | None = None

    def __post_init__(self) -> None:
        if self.data and self.access != Access.DATASET:
            raise BadValue(
                f"data is read with access dataset alone, this problem's is {self.access}; say "
                "dataset"
            )
        if self.metered and not self.target.measurable:
            raise BadValue(
                f"{self.target} is known only by its log, and nothing can be played in it, as "
                f"access {self.access} would; train with --access dataset --data D, or name a "
                "target that moves"
            )
        source, target = self.source.spaces, self.target.spaces
        if (source.observation, source.action) != (target.observation, target.action):
            raise BadValue(
                f"source and target do not fit: {source.observation} observations and "
                f"{source.action} actions in {self.source}, {target.observation} and "
                f"{target.action} in {self.target}"
            )
        if self.metered:
            self.target.check_timed()
        # A wrong setting should be named now, not in the middle of training.
        _ = self.randomized_source, self.evaluation_target

    @property
    def metered(self) -> bool:
        """Whether training may move the target, which is then counted."""
        return self.access in (Access.ONLINE, Access.FEW_SHOT)

    def ready(self) -> None:
        """Raise BadValue where source or target cannot be trained in.

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
        """The target, paid by the source's reward: what the task is worth there.

        Training may be paid otherwise. A foreign environment has one reward, its own. Raises
        BadValue where the target's task lacks the source's.
        """
        return self.target.with_reward(self.source.reward)

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data, enough to make it again with `from_data`."""
        return {
            "name": self.name,
            "source": str(self.source),
            "target": str(self.target),
            "access": str(self.access),
            "uncertainty": self.uncertainty,
            "data": self.data,
            "budget": {k: v for k, v in vars(self.budget).items() if v is not None},
        }

    @staticmethod
    def from_data(data: dict[str, Any], trusted: bool = True) -> Problem:
        """Return the problem that `describe` described; for `trusted` see `parse_domain`.

        Raises UnknownName or BadValue.
        """
        try:
            return Problem(
                source=parse_domain(data["source"], trusted),
                target=parse_domain(data["target"], trusted),
                access=Access.parse(data["access"]),
                budget=Budget(**data["budget"]),
                uncertainty=data["uncertainty"],
                data=data["data"],
                name=data["name"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadValue(
                f"a damaged description of a problem: {type(error).__name__}: {error}"
            ) from None

    def with_ledger(self, path: Path) -> Problem:
        """Return this problem with a ledger at `path`, if its target cannot be replayed."""
        if self.target.replayable:
            return self
        return replace(self, ledger=UsageLedger(path))

    def log(self) -> Log:
        """Return the target's log, read and checked once: what training may know of the target.

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
        usage: TargetUsage,
        n: int,
        seed: int,
        parameters: np.ndarray | None = None,
        *,
        batch: int = 0,
    ) -> tuple[TargetUsage, Worlds]:
        """Begin n worlds of the target, whose first episodes are counted.

        `batch` is how many steps a world the first `collect` will ask for. Raises BudgetExceeded,
        before anything is reset, where those would go over the budget.
        """
        # Asked for first: what is wrong with it should be said before worlds begin.
        seconds = self.target.step_seconds
        self.check_budget(usage, batch * n, n, batch * n * seconds)
        if self.ledger:
            self.ledger.enter(episodes=n)
        return usage.add(0, n, 0.0), self.target.worlds(n, seed, parameters)

    def collect(
        self,
        usage: TargetUsage,
        worlds: Worlds,
        behaviour: Behaviour,
        steps: int,
        members: bool = False,
    ) -> tuple[TargetUsage, Worlds, Transition]:
        """Roll a behaviour out in the target, granted whole or not at all.

        As `isthmus.domains.rollout.rollout_steps`, but the target's dynamics are not known. Raises
        BudgetExceeded before anything moves if the transitions or seconds would go over the budget.
        Episodes that end inside the batch may begin others: they are counted, and refuse
        the next batch.
        """
        from isthmus.domains.rollout import rollout_steps

        transitions = steps * worlds.size
        seconds = transitions * self.target.step_seconds
        self.check_budget(usage, transitions, 0, seconds)
        begun = int(worlds.episode.sum())
        worlds, tr = rollout_steps(
            self.target, worlds, behaviour, steps, members, before_step=self._enter_transitions
        )
        episodes = int(worlds.episode.sum()) - begun
        if self.ledger and episodes:
            self.ledger.enter(episodes=episodes)
        return usage.add(transitions, episodes, seconds), worlds, tr.of_target()

    def _enter_transitions(self, n: int) -> None:
        if self.ledger:
            self.ledger.enter(transitions=n)

    def adaptation(self, target: Domain, settings: str) -> AdaptationMeter:
        """Return the meter of an adaptation to a target, or to several alike.

        `settings` are those of the method that say how much it takes.
        """
        meter = AdaptationMeter(self.budget, target, settings, self.ledger)
        if target.replayable:
            return replace(meter, ledger=None)
        return meter

    def check_budget(
        self, usage: TargetUsage, transitions: int, episodes: int, seconds: float
    ) -> None:
        """Raise BudgetExceeded where so much more would go over the budget."""
        if not self.metered:
            raise BudgetExceeded(
                f"this problem's access is {self.access}: training may not step its target"
            )
        spent = self._spent(usage)
        demand = {"transitions": transitions, "episodes": episodes, "seconds": seconds}
        for unit, amount in demand.items():
            limit = getattr(self.budget, unit)
            if limit is not None and spent[unit] + amount > limit:
                raise BudgetExceeded(
                    f"the target's budget is {limit:g} {unit}: {spent[unit]:g} are spent and "
                    f"{amount:g} more were asked for (a round's are learner.worlds times "
                    "learner.steps)"
                )

    def _spent(self, usage: TargetUsage) -> dict[str, float]:
        """Return what was taken by whichever book says more, by the budget's units."""
        spent = {
            "transitions": int(usage.transitions),
            "episodes": int(usage.episodes),
            "seconds": float(usage.seconds),
        }
        if not self.ledger:
            return spent
        transitions = self.ledger.transitions
        entered = {
            "transitions": transitions,
            "episodes": self.ledger.episodes,
            "seconds": transitions * self.target.step_seconds,
        }
        return {unit: max(amount, entered[unit]) for unit, amount in spent.items()}


@dataclass(frozen=True)
class AdaptationMeter:
    """The meter of what a method takes of each target that it adapts to.

    Each has the whole budget, each time. What cannot be replayed is counted in the ledger, before
    each step.
    """

    budget: Budget
    target: Domain
    settings: str
    ledger: UsageLedger | None

    def allow(self, transitions: int, episodes: int) -> None:
        """Raise BudgetExceeded where so many of one target, known or possible, are too many."""
        seconds = transitions * self.target.step_seconds
        demand = {"transitions": transitions, "episodes": episodes, "seconds": seconds}
        for unit, amount in demand.items():
            limit = getattr(self.budget, unit)
            if limit is not None and amount > limit:
                raise BudgetExceeded(
                    f"adaptation takes up to {amount:g} {unit} a target and the budget is "
                    f"{limit:g}; lower {self.settings}"
                )

    def step(self, transitions: int) -> None:
        """Count transitions, before any of the targets' worlds move."""
        if self.ledger:
            self.ledger.enter(transitions=transitions)

    def begin(self, episodes: int) -> None:
        """Count episodes when they begin."""
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
    """Make a problem by its name or by a shift. Raises UnknownName or BadValue, in one line.

    `text` is a row of the catalog, or a target written `task/shift`, whose source is then the task
    as it is. `source` and `target` change either domain by further settings, or name another one
    (`target="gym:Hopper-v5"`); the other arguments override the row's. `data` is the target's log,
    `PATH[:size]`, and means access `dataset` where none is said; a fit's file as `source` or
    `target` gives the fitted values, as `uncertainty` their law (the problem holds the numbers, not
    the path); `target="log"` is a target of
    which nothing else is known. A number as `budget` is one of transitions.
    """
    text = decode_text(text)
    entry = _find_entry(text)
    source_domain = change_domain(parse_domain(entry.source), source)
    if target == "log":
        target_domain = parse_domain(f"log:{source_domain}")
    else:
        target_domain = change_domain(parse_domain(entry.target), target)
    if not access:
        access = entry.access
        if data:
            access = "dataset"
    if not isinstance(budget, Budget):
        budget = Budget(transitions=budget)
    return Problem(
        source=source_domain,
        target=target_domain,
        access=Access.parse(access),
        budget=budget,
        uncertainty=_read_uncertainty(entry, uncertainty, source_domain),
        data=resolve_path(data) if data else None,
        name=text,
    )


def _find_entry(text: str) -> CatalogEntry:
    """Return a row of the catalog, or one of a target's text. Raises UnknownName or BadValue."""
    if text in CATALOG:
        return CATALOG[text]
    known = [*CATALOG, *list_tasks()]
    if text not in known and not re.search("[/:]", text):
        raise UnknownName("problem", text, known)
    target = parse_domain(text)
    return CatalogEntry(str(target.without_settings()), str(target), "online", "", "")


def _read_uncertainty(entry: CatalogEntry, text: str | None, source: Domain) -> str:
    """Return the settings that are meant: the row's, the given ones, or a fit's law."""
    if text is None:
        return entry.uncertainty
    if is_fit_file(decode_text(text)):
        return _load_fit(text, source).law()
    return text


def _load_fit(path: str, domain: Domain) -> Fit:
    """Read the fit of a domain's robot. Raises BadValue."""
    fit = Fit.load(path)
    fit.check_task(domain.task)
    return fit


def change_domain(domain: Domain, text: str) -> Domain:
    """Return the domain by further settings, or the other one that the text names.

    It names one if it begins with a task, `gym:` or `module:`; a fit's file gives its values.
    Raises UnknownName or BadValue.
    """
    if is_fit_file(decode_text(text)):
        return domain.shift(_load_fit(text, domain).settings())
    text = decode_text(text)
    head = text.partition("/")[0]
    if "=" not in head and (":" in head or head in list_tasks()):
        return parse_domain(text)
    return domain.shift(text)
