"""The diagonal Gaussian in one place; densities are of one observation's action, unbatched."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from isthmus.types import Array


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Return draws of `jax.random.normal`, made in one long row.

    XLA unrolls short inner axes, which makes updates of SAC with classifiers compile for half as
    long again.
    """
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


LEVELS = 2**16
# The medians of as many equally likely parts of N(0, 1); symmetric, up to 4.3, variance 0.99998.
NORMAL_LEVELS = ndtri((np.arange(LEVELS) + 0.5) / LEVELS).astype(np.float32)


def coarse_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Return draws of N(0, 1) rounded to 65,536 equally likely values.

    For noise that is drawn by the ten thousands: two draws of one random word, each looked up,
    take 0.4 of the time of `normal`.
    """
    count = math.prod(shape)
    words = jax.random.bits(key, (-(-count // 2),), jnp.uint32)
    level = jnp.concatenate([words % LEVELS, words // LEVELS])[:count]
    return jnp.asarray(NORMAL_LEVELS)[level].reshape(shape)


def gaussian_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """Return log N(x; mean, exp(log_std)^2 I), x (A,)."""
    z = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(z * z) - jnp.sum(log_std) - 0.5 * x.shape[-1] * np.log(2 * np.pi)


def gaussian_entropy(log_std: Array) -> Array:
    """Return the differential entropy in nats of N(., exp(log_std)^2 I), log_std (A,)."""
    return jnp.sum(log_std + 0.5 * np.log(2 * np.pi * np.e))


def gaussian_kl(mean: Array, log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
    """Return KL(old || new) in nats of two diagonal Gaussians, each (A,)."""
    ratio = jnp.exp(log_std - new_log_std)
    shift = (new_mean - mean) * jnp.exp(-new_log_std)
    return jnp.sum(new_log_std - log_std + 0.5 * (ratio**2 + shift**2 - 1))
