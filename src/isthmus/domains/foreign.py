"""Somebody else's Gymnasium environment as a domain.

    gym:Hopper-v5                                                   any Gymnasium id
    my_robot:make/action_delay=2,time_limit=500,step_seconds=0.05   any function that makes one

The settings follow the last `/`; a Gymnasium id may hold others (`gym:namespace/Name-v0`).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Self

import gymnasium
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.effects import EFFECTS
from isthmus.domains.foreign_environment import (
    EnvironmentFacts,
    check_imported,
    read_facts,
    rehearse_step,
)
from isthmus.domains.foreign_simulation import ForeignSimulation, find_simulation
from isthmus.domains.grammar import is_common_setting
from isthmus.domains.gym_ids import register_ids
from isthmus.domains.simulation import Simulation
from isthmus.tasks.task import Task
from isthmus.types import BadValue, Spaces, UnknownName

register_ids()  # which a text may name, or a function that makes an environment

_warned: set[str] = set()
"""Tasks of which it was said that a step's seconds are the declared ones."""


@dataclass(frozen=True)
class ForeignDomain(Domain):
    """Somebody else's environment: `gym:ID`, or `module:function` for a function that returns one.

    Its physics has no parameters by name; effects apply to it as to ours, but `weak_motors` scales
    the action, whatever that means there. `limit` (steps, written `time_limit`) is needed where the
    environment declares none, `seconds` (written `step_seconds`) where it holds no simulated time
    or is not known to be a simulation (`isthmus.domains.simulated_time`). Otherwise, where none is
    written, one instance is rehearsed when the seconds are first needed: its step is measured, and
    its contract held to. Any other might be a robot: it does not move before that is counted.

    A module is imported when the environment is first needed, and only if the text is `trusted` or
    the module already imported. Its worlds cannot be put back as they were, unless the environments
    that hold them have not moved since; each thread has environments of its own, so worlds that
    another thread continues begin a new episode there.
    """

    limit: int | None = None
    seconds: float | None = None
    trusted: bool = field(default=True, compare=False)

    @staticmethod
    def read(text: str, trusted: bool = True) -> ForeignDomain:
        """Read `gym:ID/name=value,...` or `module:function/name=value,...`.

        Raises UnknownName or BadValue.
        """
        task, slash, settings = text.rpartition("/")
        if not slash or "=" not in settings:
            task, settings = text, ""
        module, _, name = task.partition(":")
        if module == "gym":
            if ":" not in name and name not in gymnasium.registry:
                raise UnknownName("Gymnasium environment", name, gymnasium.registry)
        elif not _is_dotted_name(f"{module}.{name}"):
            raise BadValue(f"{task!r} is no environment; write gym:ID or module:function")
        return ForeignDomain(task, trusted=trusted).shift(settings)

    def _change(self, name: str, value: str) -> Self:
        if name == "time_limit":
            return replace(self, limit=_read_steps(value))
        if name == "step_seconds":
            return replace(self, seconds=_read_seconds(value))
        if is_common_setting(name):
            if ".." in value:
                raise BadValue(
                    f"{name}={value}: gaps are drawn in robots of ours alone; write one number"
                )
            return super()._change(name, value)
        known = [*EFFECTS, "episodes_per_task", "time_limit", "step_seconds"]
        raise UnknownName(f"setting of {self.task}, whose physics is not ours", name, known)

    def _parts(self) -> list[str]:
        parts = super()._parts()
        if self.limit is not None:
            parts.append(f"time_limit={self.limit}")
        if self.seconds is not None:
            parts.append(f"step_seconds={self.seconds!r}")
        return parts

    def without_settings(self) -> ForeignDomain:
        """Return the environment without effects; what is written of its time stays."""
        return replace(self, effects=(), episodes_per_task=1)

    @property
    def facts(self) -> EnvironmentFacts:
        """What the environment says of itself; nothing moves. Raises UnknownName or BadValue."""
        if not self.trusted:
            check_imported(self.task)
        return read_facts(self.task)

    @property
    def step_seconds(self) -> float:
        """Seconds a step lasts on the robot: as written, else measured by rehearsing an instance.

        Where it can be neither: as a run's environment declares it, if the text is not `trusted`;
        else raises BadValue.
        """
        if self.seconds:
            return self.seconds
        measured = self._not_measurable() or rehearse_step(self.task)
        return self._declared_seconds(measured) if isinstance(measured, str) else measured

    @property
    def stated_seconds(self) -> float:
        """Seconds a step lasts as they are written, else NaN."""
        return self.seconds or math.nan

    def check_timed(self) -> None:
        """Raise BadValue where a step's seconds have to be written, and are not."""
        if self.trusted and not self.seconds:
            reason = self._not_measurable()
            if reason:
                raise self._seconds_missing(reason)

    def ready(self, moved: bool = True) -> None:
        """Raise BadValue where the environment cannot be made or used.

        Where it is to be `moved` and its step has to be measured, it is rehearsed now: a step's
        seconds may need to be written, or the contract be broken.
        """
        _ = self.spaces
        if moved:
            _ = self.step_seconds

    def _not_measurable(self) -> str:
        """Say why a step cannot be measured, or not without moving what may be a robot.

        Empty where it can.
        """
        facts = self.facts
        if not facts.timed:
            return "holds no simulated time that would say how long a step lasts"
        if not facts.simulated:
            return (
                "holds MuJoCo's data, as a robot's environment may too, and is not moved to "
                "measure a step unless it declares an attribute simulated_time, in seconds"
            )
        return ""

    def _seconds_missing(self, reason: str) -> BadValue:
        words = ", ".join(f"{name} {value:g}" for name, value in self.facts.declared.items())
        hint = f" (its {words} may be something else)" if words else ""
        return BadValue(f"{self.task} {reason}{hint}; write {self.task}/step_seconds=SECONDS")

    def _declared_seconds(self, reason: str) -> float:
        """Return a step's seconds as a run of an older version took them.

        Raises BadValue where that is no such run's.
        """
        declared = self.facts.declared
        if self.trusted or not declared:
            raise self._seconds_missing(reason)
        name, value = next(iter(declared.items()))
        seconds = value if name == "dt" else 1 / value
        if self.task not in _warned:
            _warned.add(self.task)
            warnings.warn(
                f"{self.task} {reason}, and the run's problem says no step_seconds: {seconds:g} s "
                f"are taken for a step, from its {name}, as older versions did",
                stacklevel=3,
            )
        return seconds

    @property
    def time_limit(self) -> int:
        """Steps after which an episode is cut: the fewer of those written and those declared.

        Raises BadValue where there are neither.
        """
        limits = [limit for limit in (self.limit, self.facts.time_limit) if limit]
        if not limits:
            raise BadValue(
                f"{self.task} declares no time limit; write {self.task}/time_limit=STEPS"
            )
        return min(limits)

    def inner_spaces(self) -> Spaces:
        """Return the environment's spaces. Raises BadValue where its time limit is missing."""
        _ = self.time_limit  # better now than amid training
        return self.facts.spaces

    def description(self) -> Task:
        """Return a task that says what is known: numbered observations and the time limit."""
        names = tuple(str(i) for i in range(self.inner_spaces().observation))
        declared = {"name": self.task, "observation_names": names, "time_limit": self.time_limit}
        return type("ForeignTask", (Task,), declared)()

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        """Return this thread's simulation of n worlds that holds `rows`, or another."""
        return find_simulation(self, n, rows)

    def build(self, n: int) -> Simulation:
        """Build a new simulation of n environments."""
        return ForeignSimulation(self, n)


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _read_steps(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise BadValue(f"time_limit={value}: needs a whole number of steps, 1 or more")
    return int(value)


def _read_seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadValue(f"step_seconds={value}: needs a number above 0")
    return seconds
