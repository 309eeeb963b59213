"""Memories of policies and behaviours in N worlds: trees of arrays with a leading axis [N]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isthmus.domains.behaviours import Memory
from isthmus.types import Array

MAX_BATCH = 64
"""Rows of a block when playing: a row's bits depend on the batch's size (not on its neighbours), so
it is fixed."""


def initial_memory(behaviours: Sequence[Any], n: int) -> Memory:
    """Return the memories [N, ...] that worlds begin with, which are shared out evenly among the
    behaviours or policies.
    """
    import jax

    memories = [behaviour.memory() for behaviour in behaviours]
    share = n // len(behaviours)
    return jax.tree.map(lambda *x: np.repeat(np.stack(x), share, axis=0), *memories)


def renew_memory(memory: Memory, initial: Memory, renewed: np.ndarray) -> Memory:
    """Return a memory [N, ...] with the worlds `renewed` (bool [N]) at the initial one again."""
    import jax

    if not renewed.any():
        return memory

    def renew(leaf: Array, first: Array) -> np.ndarray:
        where = renewed.reshape((-1,) + (1,) * (first.ndim - 1))
        return np.where(where, first, np.asarray(leaf))

    return jax.tree.map(renew, memory, initial)


def pad_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Return rows [..., size], the last one repeated."""
    return rows[..., np.minimum(np.arange(size), rows.shape[-1] - 1)]


def take_rows(memory: Memory, rows: np.ndarray) -> Memory:
    """Return what is remembered of `rows` (n,), which may be repeated."""
    import jax

    return jax.tree.map(lambda leaf: leaf[rows], memory)


def write_rows(memory: Memory, rows: np.ndarray, renewed: Memory) -> None:
    """Write what is remembered of `rows` (n,), which may be repeated, in place."""
    import jax

    for leaf, new in zip(jax.tree.leaves(memory), jax.tree.leaves(renewed), strict=True):
        leaf[rows] = np.asarray(new)
