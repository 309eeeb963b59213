"""Running mean and variance, merged in float64 outside jit: part of the policy, frozen within a
round.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from isthmus.types import Array


class Moments(NamedTuple):
    """Count, mean and variance of rows seen so far."""

    count: np.int64  # pyright: ignore[reportIncompatibleMethodOverride]  (a tuple's method that nobody calls here)
    mean: np.ndarray  # float64 [...]
    variance: np.ndarray  # float64 [...]

    @staticmethod
    def empty(shape: int | tuple[int, ...]) -> Moments:
        return Moments(np.int64(0), np.zeros(shape), np.ones(shape))

    def merge(self, rows: np.ndarray) -> Moments:
        """Add rows [B, ...] (Chan, Golub and LeVeque 1983)."""
        rows = np.asarray(rows, np.float64)
        return (
            self.join(Moments(np.int64(len(rows)), rows.mean(0), rows.var(0)))
            if len(rows)
            else self
        )

    def join(self, other: Moments) -> Moments:
        """Of both sets of rows."""
        n, total = other.count, self.count + other.count
        if not n:
            return self
        delta = other.mean - self.mean
        second = self.variance * self.count + other.variance * n + delta**2 * self.count * n / total
        return Moments(np.int64(total), self.mean + delta * n / total, second / total)


class Normalizer(NamedTuple):
    """Moments as a policy carries them, float32: x to (x - mean) / std, clipped to +-10."""

    mean: Array
    std: Array

    @staticmethod
    def of(moments: Moments) -> Normalizer:
        return Normalizer(
            np.asarray(moments.mean, np.float32),
            np.asarray(np.sqrt(moments.variance + 1e-8), np.float32),
        )

    def __call__(self, x: Array) -> Array:
        return jnp.clip((x - self.mean) / self.std, -10.0, 10.0)


def normalize_with_missing(normalize: Normalizer, dynamics: Array) -> Array:
    """Dynamics (..., P) as a critic sees them: those that nobody knows, NaN, as they were in
    training on average.
    """
    return jnp.nan_to_num(normalize(dynamics), nan=0.0)


def drop_unknown_rows(rows: np.ndarray) -> np.ndarray:
    """Of dynamics (B, P) those of which all is known."""
    return rows[~np.isnan(rows).any(-1)]


def popart_inputs(layers: Any, before: Moments, after: Moments) -> Any:
    """A network whose first inputs are normalized by `after` and which computes what `layers`
    computes of those normalized by `before`: Pop-Art's step (van Hasselt et al. 2016, arXiv
    1602.07714) at the input. For a learner whose weights do not themselves follow the moments as
    they move.

    Inputs clipped at 10 deviations differ, and so do those that hardly varied before, whose weights
    would explode.
    """
    ((weights, bias), *rest), n = layers, len(before.mean)
    std, new_std = (np.sqrt(moments.variance + 1e-8) for moments in (before, after))
    varied = new_std < 10 * std
    old = np.array(weights, np.float64)
    new = old.copy()
    new[:n] *= np.where(varied, new_std / std, 1.0)[:, None]
    shift = (np.where(varied, (after.mean - before.mean) / std, 0.0)[:, None] * old[:n]).sum(0)
    return (
        (new.astype(np.float32), (np.asarray(bias, np.float64) + shift).astype(np.float32)),
        *rest,
    )


def popart_outputs(layers: Any, before: Moments, after: Moments) -> Any:
    """Pop-Art's own step: a network that says in deviations of `after` what `layers` says in those
    of `before`.
    """
    *rest, (weights, bias) = layers
    factor = (
        np.float32(np.sqrt((before.variance + 1e-8) / (after.variance + 1e-8)))
        if before.count
        else np.float32(1)
    )
    return (*rest, (weights * factor, bias * factor))


def discounted_returns(
    start: Array, reward: Array, done: Array, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """Running discounted reward sums R_t = discount R_{t-1} + r_t, cut where an episode ends: [T,
    N] and the last [N].

    Their spread scales rewards (Engstrom et al. 2020, "reward scaling").
    """
    out, running = np.empty(reward.shape), np.array(start, np.float64)
    for t in range(len(reward)):
        running = discount * running + reward[t]
        out[t] = running
        running = np.where(done[t], 0.0, running)
    return out, running
