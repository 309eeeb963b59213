"""What a robot is told to do and what pushes it, drawn in each world from its own key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.physics.random import Streams
from isthmus.types import BadValue

COMMANDS, PUSHES = 1, 2
"""What a world's draws on the way are for."""


@dataclass(frozen=True)
class Command:
    """Numbers that a robot is told, uniform in `ranges`, by names with units: {"x [m/s]": (0, 1)}.

    One is held for a time uniform in `seconds`, and then drawn anew; None: for the whole episode.
    A share `rest` of them is zero.
    """

    ranges: Mapping[str, tuple[float, float]]
    seconds: tuple[float, float] | None = None
    rest: float = 0.0

    def check(self, task: str) -> None:
        """Raise BadValue, in one line, where it cannot be drawn."""
        if not self.ranges:
            raise BadValue(f"{task}.command has no ranges; write {{'x [m/s]': (-1, 1)}}")
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise BadValue(
                    f"{task}.command: {name} has the range {low:g}..{high:g}; the lower end comes "
                    "first, and both are finite"
                )
        if not 0 <= self.rest <= 1:
            raise BadValue(f"{task}.command: rest={self.rest:g}; it is a share, 0..1")
        if self.seconds is not None:
            _check_seconds(f"{task}.command", self.seconds)

    @property
    def size(self) -> int:
        """How many numbers are told."""
        return len(self.ranges)

    def draw(self, key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the commands (n, C) of worlds and how long they hold, seconds (n,).

        `key` (n,) are the episodes' keys, `count` (n,) how many were drawn before.
        """
        u = Streams(key, COMMANDS, count).uniform(0.0, 1.0, self.size + 2)
        low, high = np.array(list(self.ranges.values()), float).T
        drawn = low + (high - low) * u[:, : self.size]
        drawn[u[:, self.size] < self.rest] = 0.0
        if self.seconds is None:
            return drawn, np.full(len(key), np.inf)
        shortest, longest = self.seconds
        return drawn, shortest + (longest - shortest) * u[:, self.size + 1]


@dataclass(frozen=True)
class Push:
    """Kicks of a floating robot: its speed over the ground jumps by up to `speed`, m/s.

    The time between two is uniform in `seconds`.
    """

    speed: float
    seconds: tuple[float, float]

    def check(self, task: str) -> None:
        """Raise BadValue, in one line, where it cannot be drawn."""
        if not (math.isfinite(self.speed) and self.speed >= 0):
            raise BadValue(f"{task}.push: speed={self.speed:g}; it is 0 or more, in m/s")
        _check_seconds(f"{task}.push", self.seconds)

    def draw(self, key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kicks (n, 2) of worlds, m/s, and the seconds (n,) until they come.

        `key` (n,) are the episodes' keys, `count` (n,) how many were drawn before.
        """
        u = Streams(key, PUSHES, count).uniform(0.0, 1.0, 3)
        size, angle = self.speed * np.sqrt(u[:, 0]), 2 * np.pi * u[:, 1]
        shortest, longest = self.seconds
        kick = np.stack([size * np.cos(angle), size * np.sin(angle)], axis=1)
        return kick, shortest + (longest - shortest) * u[:, 2]


def _check_seconds(label: str, seconds: tuple[float, float]) -> None:
    shortest, longest = seconds
    if not 0 < shortest <= longest < math.inf:
        raise BadValue(
            f"{label}: seconds={shortest:g}..{longest:g}; the shorter comes first, above 0"
        )
