"""The diagonal Gaussian in one place; every function unbatched: one observation's action."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from isthmus.types import Array


def gaussian_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """log N(x; mean, exp(log_std)^2 I), x (A,)."""
    z = (x - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(z * z) - jnp.sum(log_std) - 0.5 * x.shape[-1] * np.log(2 * np.pi)


def gaussian_entropy(log_std: Array) -> Array:
    """Differential entropy in nats of N(., exp(log_std)^2 I), log_std (A,)."""
    return jnp.sum(log_std + 0.5 * np.log(2 * np.pi * np.e))


def gaussian_kl(mean: Array, log_std: Array, new_mean: Array, new_log_std: Array) -> Array:
    """KL(old || new) in nats of two diagonal Gaussians, each (A,)."""
    shrunk = jnp.exp(log_std - new_log_std)
    moved = (new_mean - mean) * jnp.exp(-new_log_std)
    return jnp.sum(new_log_std - log_std + 0.5 * (shrunk**2 + moved**2 - 1))
