"""Conjugate gradients (Hestenes and Stiefel 1952), for use inside jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from isthmus.types import Array


class Solution(NamedTuple):
    """An x with product(x) = b, as nearly as the iterations allow."""

    x: Array
    product: Array  # product(x)
    residual: Array  # |b - product(x)| / |b|


def conjugate_gradients(product: Callable[[Array], Array], b: Array, iterations: int) -> Solution:
    """Solve product(x) = b for a symmetric positive definite product.

    Stops early where the residual is 1e-5 of b, about what float32 resolves.
    """
    x, _ = cg(product, b, tol=1e-5, maxiter=iterations)
    image = product(x)
    residual = jnp.linalg.norm(b - image) / jnp.maximum(jnp.linalg.norm(b), 1e-15)
    return Solution(x, image, residual)
