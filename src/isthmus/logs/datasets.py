"""A target known only by its log: `log:DOMAIN`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.domains.domain import Domain, Simulation
from isthmus.physics.parameters import Parameter
from isthmus.tasks.task import Task
from isthmus.types import BadValue, Spaces


@dataclass(frozen=True)
class LoggedDomain(Domain):
    """A target known only by its log, written `log:DOMAIN`: that domain's spaces and names, and
    nothing can move in it.

    Whatever would play in it raises BadValue: its return is not known, and none is made up.
    """

    wrapped: Domain | None = None

    @staticmethod
    def of(like: Domain) -> LoggedDomain:
        return LoggedDomain(like.task, effects=like.effects, wrapped=like)

    @property
    def _like(self) -> Domain:
        assert self.wrapped is not None
        return self.wrapped

    def __str__(self) -> str:
        return f"log:{self.wrapped}"

    def _unknown(self) -> BadValue:
        return BadValue(
            f"{self} is a target known only by its log, in which nothing can be played or "
            "measured; name a domain that "
            "stands for it: --domain, or --target in place of log"
        )

    def shift(self, text: str) -> Domain:
        if text:
            raise self._unknown()
        return self

    def without_settings(self) -> Domain:
        return self

    def with_reward(self, reward: str) -> Domain:
        return self  # what its log says

    def table(self) -> dict[str, Parameter]:
        return {}

    def action_scales_force(self) -> bool:
        return self._like.action_scales_force()

    @property
    def replayable(self) -> bool:
        return False

    @property
    def measurable(self) -> bool:
        return False

    @property
    def step_seconds(self) -> float:
        if math.isnan(self.stated_seconds):
            raise self._unknown()
        return self.stated_seconds

    @property
    def stated_seconds(self) -> float:
        return self._like.stated_seconds

    @property
    def time_limit(self) -> int:
        return self._like.time_limit

    def description(self) -> Task:
        return self._like.description()

    def inner_spaces(self) -> Spaces:
        return self._like.inner_spaces()._replace(parameters=0)

    def draw(self, key: np.ndarray, task: np.ndarray) -> np.ndarray:
        raise self._unknown()

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        raise self._unknown()

    def build(self, n: int) -> Simulation:
        raise self._unknown()
