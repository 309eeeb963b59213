"""Conjugate gradients (Hestenes and Stiefel 1952), for use inside jit."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from isthmus.types import Array


def conjugate_gradients(
    product: Callable[[Array], Array], b: Array, iterations: int
) -> tuple[Array, Array]:
    """Return x with product(x) = b, and |b - product(x)| / |b|.

    The product is symmetric and positive definite. Stops early where the residual is 1e-5 of b,
    about what float32 resolves.
    """
    enough = 1e-10 * (b @ b)

    def more(carry) -> Array:
        i, _, _, _, square = carry
        return (i < iterations) & (square > enough)

    def iteration(carry):
        i, x, residual, direction, square = carry
        image = product(direction)
        length = square / (direction @ image)
        x, residual = x + length * direction, residual - length * image
        new = residual @ residual
        return i + 1, x, residual, residual + new / square * direction, new

    _, x, _, _, square = jax.lax.while_loop(more, iteration, (0, jnp.zeros_like(b), b, b, b @ b))
    return x, jnp.sqrt(square / jnp.maximum(b @ b, 1e-30))
