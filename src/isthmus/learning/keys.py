"""Keys of purposes that stand beside another one."""

from __future__ import annotations

import jax

from isthmus.types import Array

BESIDE_COUNTER = 2**32 - 1


def beside(key: Array) -> Array:
    """Return a key for what is drawn next to the purpose that `key` itself is handed to, once for
    each key.

    What a learner or a policy draws is then the same whether or not a method draws beside it. Small
    numbers would not do: under JAX's partitionable keys `split(key, n)` is `fold_in(key, 0)` to
    `fold_in(key, n - 1)`.
    """
    return jax.random.fold_in(key, BESIDE_COUNTER)
