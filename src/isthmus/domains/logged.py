"""A target known only by its log."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.simulation import Simulation
from isthmus.tasks.task import Task
from isthmus.types import BadValue, Spaces


@dataclass(frozen=True)
class LoggedDomain(Domain):
    """A target known only by its log, written `log:DOMAIN`: that domain's spaces and names.

    Nothing can move in it: whatever would play in it raises BadValue, for its return is not known,
    and none is made up.
    """

    wrapped: Domain | None = None

    @staticmethod
    def of(domain: Domain) -> LoggedDomain:
        """Return the target of that domain's spaces and names."""
        return LoggedDomain(domain.task, effects=domain.effects, wrapped=domain)

    @property
    def _named(self) -> Domain:
        assert self.wrapped is not None
        return self.wrapped

    def __str__(self) -> str:
        return f"log:{self.wrapped}"

    def _unplayable(self) -> BadValue:
        return BadValue(
            f"{self} is a target known only by its log, in which nothing can be played or "
            "measured; name a domain that stands for it: --domain, or --target in place of log"
        )

    def shift(self, text: str) -> LoggedDomain:
        """Return this domain where the text is empty. Raises BadValue for any setting."""
        if text:
            raise self._unplayable()
        return self

    def without_settings(self) -> LoggedDomain:
        """Return this domain: it has no settings of its own."""
        return self

    def action_scales_force(self) -> bool:
        """Return what the domain that it names says."""
        return self._named.action_scales_force()

    @property
    def measurable(self) -> bool:
        """Whether a policy can be played here: never."""
        return False

    @property
    def step_seconds(self) -> float:
        """Seconds a step lasts, where that is known without moving anything, else BadValue."""
        if math.isnan(self.stated_seconds):
            raise self._unplayable()
        return self.stated_seconds

    @property
    def stated_seconds(self) -> float:
        """Seconds a step lasts where nothing has to move to tell them, else NaN."""
        return self._named.stated_seconds

    def ready(self, moved: bool = True) -> None:
        """Raise BadValue where a task of the user's own breaks its contract."""
        if isinstance(self.wrapped, RobotDomain):
            self.wrapped.without_settings().ready()

    @property
    def time_limit(self) -> int:
        """Steps after which an episode is cut."""
        return self._named.time_limit

    def description(self) -> Task:
        """Return the task of the domain that it names."""
        return self._named.description()

    def inner_spaces(self) -> Spaces:
        """Return the named domain's spaces, without parameters: nobody knows the dynamics."""
        return self._named.inner_spaces()._replace(parameters=0)

    def draw(self, key: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Raise BadValue: nobody knows the dynamics."""
        raise self._unplayable()

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        """Raise BadValue: nothing can be played."""
        raise self._unplayable()

    def build(self, n: int) -> Simulation:
        """Raise BadValue: nothing can be played."""
        raise self._unplayable()
