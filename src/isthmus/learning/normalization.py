"""Running mean and variance, merged in float64 outside jit: part of the policy, frozen within a
round.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from isthmus.learning.networks import MLP
from isthmus.types import Array


class Moments(NamedTuple):
    """Count, mean and variance of rows seen so far."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  (a tuple's method that nobody calls here)
    mean: np.ndarray  # float64 [...]
    variance: np.ndarray  # float64 [...]

    @staticmethod
    def empty(shape: int | tuple[int, ...]) -> Moments:
        """Return the moments of no rows."""
        return Moments(np.int64(0), np.zeros(shape), np.ones(shape))

    def merge(self, rows: np.ndarray) -> Moments:
        """Return the moments with rows [B, ...] added (Chan, Golub and LeVeque 1983)."""
        rows = np.asarray(rows, np.float64)
        if not len(rows):
            return self
        return self.join(Moments(np.int64(len(rows)), rows.mean(0), rows.var(0)))

    def join(self, other: Moments) -> Moments:
        """Return the moments of the rows of both."""
        n, total = other.count, self.count + other.count
        if not n:
            return self
        delta = other.mean - self.mean
        second = self.variance * self.count + other.variance * n + delta**2 * self.count * n / total
        return Moments(np.int64(total), self.mean + delta * n / total, second / total)


def reward_scale(returns: Moments) -> np.float32:
    """Return the factor that gives discounted returns a standard deviation of 1."""
    return np.float32(1 / np.sqrt(returns.variance + 1e-8))


class Normalizer(NamedTuple):
    """Moments as a policy carries them, float32: x to (x - mean) / std, clipped to +-10."""

    mean: Array
    std: Array

    @staticmethod
    def of(moments: Moments) -> Normalizer:
        """Return the normalizer of some moments."""
        return Normalizer(
            np.asarray(moments.mean, np.float32),
            np.asarray(np.sqrt(moments.variance + 1e-8), np.float32),
        )

    def __call__(self, x: Array) -> Array:
        """Return x (...) normalized."""
        return jnp.clip((x - self.mean) / self.std, -10.0, 10.0)


def normalize_with_missing(normalize: Normalizer, dynamics: Array) -> Array:
    """Return dynamics (..., P) as a critic sees them.

    Those that nobody knows, NaN, are as they were in training on average.
    """
    return jnp.nan_to_num(normalize(dynamics), nan=0.0)


def drop_unknown_rows(rows: np.ndarray) -> np.ndarray:
    """Return those rows of dynamics (B, P) of which all is known."""
    return rows[~np.isnan(rows).any(-1)]


def popart_inputs(layers: MLP, before: Moments, after: Moments) -> MLP:
    """Return a network that computes under `after` what `layers` computes under `before`.

    The moments normalize its first inputs: Pop-Art's step (van Hasselt et al. 2016, arXiv
    1602.07714) at the input, for a learner whose weights do not themselves follow the moments as
    they move. Inputs clipped at 10 deviations differ, and so do those that hardly varied before,
    whose weights would explode.
    """
    (weights, bias), *rest = layers
    n = len(before.mean)
    std, new_std = np.sqrt(before.variance + 1e-8), np.sqrt(after.variance + 1e-8)
    varied = new_std < 10 * std
    old = np.array(weights, np.float64)
    new = old.copy()
    new[:n] *= np.where(varied, new_std / std, 1.0)[:, None]
    shift = (np.where(varied, (after.mean - before.mean) / std, 0.0)[:, None] * old[:n]).sum(0)
    new_bias = (np.asarray(bias, np.float64) + shift).astype(np.float32)
    return ((new.astype(np.float32), new_bias), *rest)


def popart_outputs(layers: MLP, before: Moments, after: Moments) -> MLP:
    """Return a network whose output, in deviations of `after`, is that of `layers` in `before`'s.

    Pop-Art's own step.
    """
    *rest, (weights, bias) = layers
    factor = np.float32(1)
    if before.count:
        factor = np.float32(np.sqrt((before.variance + 1e-8) / (after.variance + 1e-8)))
    return (*rest, (weights * factor, bias * factor))


def discounted_returns(
    start: Array, reward: Array, done: Array, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return running discounted sums R_t = discount R_{t-1} + r_t, [T, N], and the last, [N].

    They are cut where an episode ends. Their spread scales rewards (Engstrom et al. 2020, "reward
    scaling").
    """
    returns, running = np.empty(reward.shape), np.array(start, np.float64)
    for t in range(len(reward)):
        running = discount * running + reward[t]
        returns[t] = running
        running = np.where(done[t], 0.0, running)
    return returns, running
