"""A replay buffer that is a value: adding gives a new one, and neither costs a copy of all.

The newest rows lie in `recent`, a few thousand, which each addition copies; the rest in `old`, a
ring of `capacity` rows in blocks. When `recent` is full it is merged into the ring, which copies
the blocks that it falls into; the others are shared. Blocks without rows take no memory.

Minibatches are gathered on the host. `sample` does the same inside jit, of whole arrays: a log, or
a replay's `view`, which costs a copy of all after each merge.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.learning.blocks import Blocks, Gathering, is_blocks
from isthmus.types import Array

RECENT_ROWS = 4096  # rows


class ReplayView(NamedTuple):
    """What `sample` needs, as a jitted function takes it.

    Slots [begin, begin + fresh) of the ring are in `recent`.
    """

    old: Any
    recent: Any
    begin: np.int32
    fresh: np.int32
    size: np.int32


class Replay(NamedTuple):
    """The last `capacity` rows of a tree of arrays (rows, ...), in the order of their addition."""

    old: Any  # Blocks of (capacity, ...); row i is ring slot i; whole arrays in older checkpoints
    recent: Any  # NumPy arrays
    added: np.int64  # rows, ever
    merged: np.int64  # of them, those in `old`

    @staticmethod
    def empty(capacity: int, row: Any) -> Replay:
        """Return a replay of no rows; `row` is a tree of one row's arrays, for their types."""

        def make_ring(x: Any) -> Blocks:
            return Blocks.zeros(capacity, np.shape(x), np.asarray(x).dtype)

        recent = _zero_rows(min(RECENT_ROWS, capacity), row)
        return Replay(jax.tree.map(make_ring, row), recent, np.int64(0), np.int64(0))

    @property
    def capacity(self) -> int:
        """Rows that it can hold."""
        return _count_rows(self.old)

    @property
    def size(self) -> int:
        """Rows that it holds."""
        return min(int(self.added), self.capacity)

    def cleared(self, capacity: int | None = None) -> Replay:
        """Return an empty one of the same rows, of the same capacity where none is given."""
        return Replay.empty(capacity or self.capacity, jax.tree.map(lambda x: x[0], self.recent))

    def add(self, rows: Any) -> Replay:
        """Return the replay with rows (B, ...) added, the oldest forgotten."""
        replay, room = self._in_blocks(), _count_rows(self.recent)
        for start in range(0, _count_rows(rows), room):
            part = slice(start, start + room)
            replay = replay._add(jax.tree.map(lambda x, part=part: x[part], rows))
        return replay

    def _add(self, rows: Any) -> Replay:
        count = _count_rows(rows)
        start = int(self.added - self.merged)
        if start + count > _count_rows(self.recent):
            return self._merge()._add(rows)

        def put(recent: np.ndarray, new: Array) -> np.ndarray:
            recent = recent.copy()
            recent[start : start + count] = new
            return recent

        return self._replace(
            recent=jax.tree.map(put, self.recent, rows), added=np.int64(self.added + count)
        )

    def _merge(self) -> Replay:
        slots = np.arange(self.merged, self.added) % self.capacity

        def put(recent: np.ndarray, old: Blocks) -> Blocks:
            return old.put(slots, recent[: len(slots)])

        return self._replace(old=jax.tree.map(put, self.recent, self.old), merged=self.added)

    def _in_blocks(self) -> Replay:
        """Return the replay with its ring in blocks, where an older checkpoint held it whole."""
        if all(map(is_blocks, jax.tree.leaves(self.old, is_leaf=is_blocks))):
            return self

        def split(old: Any) -> Blocks:
            return old if is_blocks(old) else Blocks.split(old)

        return self._replace(old=jax.tree.map(split, self.old, is_leaf=is_blocks))

    def view(self) -> ReplayView:
        """Return what `sample` draws from, of whole arrays."""

        def join(old: Any) -> Array:
            return old.whole if is_blocks(old) else old

        old = jax.tree.map(join, self.old, is_leaf=is_blocks)
        return ReplayView(old, self.recent, *self._bounds())

    def _bounds(self) -> tuple[np.int32, np.int32, np.int32]:
        """Return `begin`, `fresh` and `size` of a ReplayView."""
        begin, fresh = self.merged % self.capacity, self.added - self.merged
        return np.int32(begin), np.int32(fresh), np.int32(self.size)

    def draw(self, n: int, keys: Array) -> Any:
        """Return minibatches (K, n, ...) on the host, by each of K keys the rows that `sample`
        draws from the `view`.
        """
        replay = self._in_blocks()
        begin, fresh, size = replay._bounds()
        slots = np.asarray(_draw_slots(n, size, keys))
        rings = jax.tree.leaves(replay.old, is_leaf=is_blocks)
        block_rows, blocks = rings[0].block_rows, len(rings[0].parts)
        slot = slots.ravel()
        place = (slot - begin) % replay.capacity
        newer = place < fresh
        owners = np.where(newer, blocks, slot // block_rows)
        gathering = Gathering.plan(
            owners, np.where(newer, place, slot % block_rows), arrays=blocks + 1
        )

        def take(recent: np.ndarray, old: Blocks) -> np.ndarray:
            taken = gathering.take([*old.parts, recent])
            return taken.reshape(*slots.shape, *recent.shape[1:])

        return jax.tree.map(take, replay.recent, replay.old)


def _zero_rows(count: int, row: Any) -> Any:
    return jax.tree.map(lambda x: np.zeros((count, *np.shape(x)), np.asarray(x).dtype), row)


def _count_rows(rows: Any) -> int:
    return len(jax.tree.leaves(rows, is_leaf=is_blocks)[0])


@partial(jax.jit, static_argnums=0)
def _draw_slots(n: int, size: Array, keys: Array) -> Array:
    """Return n of `size` slots by each of K keys, (K, n)."""
    return jax.vmap(partial(_draw_slot, n, size))(keys)


def _draw_slot(n: int, size: Array, key: Array) -> Array:
    return jax.random.randint(key, (n,), 0, size)


def sample(view: ReplayView, n: int, key: Array) -> Any:
    """Return n rows, each drawn uniformly from all, with replacement; for use inside jit."""
    capacity = _count_rows(view.old)
    slot = _draw_slot(n, view.size, key)
    place = (slot - view.begin) % capacity
    newer = place < view.fresh

    def take(old: Array, recent: Array) -> Array:
        which = newer.reshape(-1, *(1,) * (old.ndim - 1))
        return jnp.where(which, recent[jnp.where(newer, place, 0)], old[slot])

    return jax.tree.map(take, view.old, view.recent)
