"""Ridge regression as a network of one layer, for use inside jit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from isthmus.learning.networks import MLP
from isthmus.types import Array


def ridge(features: Array, target: Array, penalty: float) -> MLP:
    """Return the layer (w, b) that minimizes mean((features w + b - target)^2) + its penalty.

    Features are (B, F), targets (B,), the penalty is `penalty` (|w|^2 + b^2). By Gram and Schmidt's
    elimination of the stacked rows, target last (Björck 1967), which is as stable as any QR: the
    normal equations would square a condition number that float32 cannot bear, and LAPACK's threads
    would wait busily.
    """
    n, width = features.shape
    rows = jnp.concatenate([features, jnp.ones((n, 1)), target[:, None]], -1)
    stacked = jnp.concatenate([rows, jnp.sqrt(n * penalty) * jnp.eye(width + 1, width + 2)])
    _, r = jax.lax.scan(_eliminate, stacked, jnp.arange(width + 1))
    weights = jax.scipy.linalg.solve_triangular(r[:, :-1], r[:, -1])
    return ((weights[:-1, None], weights[-1:]),)


def _eliminate(rest: Array, k: Array) -> tuple[Array, Array]:
    """Return what is left without the direction of column k, and row k of R."""
    q = rest[:, k] / jnp.linalg.norm(rest[:, k])
    along = q @ rest
    return rest - jnp.outer(q, along), along
