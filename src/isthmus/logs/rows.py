"""Rows of a log as a file holds them, before its episodes are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NO_ROWS = np.zeros(0, int)


class LogRows(NamedTuple):
    """Transitions [B, ...] as a file holds them."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Return which rows are marked as an end, bool [B]."""
        return self.terminated | self.truncated

    @property
    def has_columns(self) -> bool:
        """Return whether there are rows, and observations of several numbers."""
        return self.obs.ndim == 2 and len(self.obs) > 0

    def take(self, which: np.ndarray) -> LogRows:
        """Return the rows at indices, or where a mask [B] is true."""
        return LogRows(*(column[which] for column in self))


class RepairedRows(NamedTuple):
    """Rows without those that never were transitions.

    `begins` marks the first row of each stretch that nothing joins to the row before, bool [B].
    """

    rows: LogRows
    begins: np.ndarray
    notes: tuple[str, ...]

    @property
    def episode(self) -> np.ndarray:
        """Return each row's stretch, int64 [B], from 0 on."""
        return np.cumsum(self.begins) - self.begins[:1].sum()


def are_close(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which rows [B, ...] are equal but for rounding, bool [B]."""
    same: np.ndarray = np.isclose(first, second, rtol=1e-5, atol=1e-6)
    return np.all(same, axis=tuple(range(1, first.ndim)))


def measure_steps(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """Return how far each row leads, [B].

    The median of all observed numbers, each in units of its own median step.
    """
    # What is not finite is refused later, by name.
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.abs(next_obs.astype(np.float64) - obs)
    usual = np.median(step, axis=0)
    moving = usual > 0
    if not moving.any():
        return np.zeros(len(step))
    return np.median(step[:, moving] / usual[moving], axis=1)


def quartile_ranges(obs: np.ndarray) -> np.ndarray:
    """Return each number's interquartile range, [O]."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(obs.astype(np.float64), (0.25, 0.75), axis=0)
        return high - low
