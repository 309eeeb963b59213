"""A replay buffer that is a value: adding gives a new one, and neither costs a copy of all.

The newest rows lie in `recent`, a few thousand, which each addition copies; the rest in `old`, a
ring of `capacity` rows on the device. When `recent` is full it is merged into the ring: one copy of
all in some thousand steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

    old: Any  # JAX arrays (capacity, ...); row i is ring slot i
    recent: Any  # NumPy arrays
    added: np.int64  # rows, ever
    merged: np.int64  # of them, those in `old`

    @staticmethod
    def empty(capacity: int, row: Any) -> Replay:
        """Return a replay of no rows; `row` is a tree of one row's arrays, for their types."""
        old = jax.tree.map(jnp.asarray, _zero_rows(capacity, row))
        recent = _zero_rows(min(RECENT_ROWS, capacity), row)
        return Replay(old, recent, np.int64(0), np.int64(0))

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
        replay, room = self, _count_rows(self.recent)
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

        def put(old: Array, recent: np.ndarray) -> Array:
            whole = np.array(old)
            whole[slots] = recent[: len(slots)]
            return jnp.asarray(whole)

        return self._replace(old=jax.tree.map(put, self.old, self.recent), merged=self.added)

    def view(self) -> ReplayView:
        """Return what `sample` draws from."""
        begin, fresh = self.merged % self.capacity, self.added - self.merged
        return ReplayView(
            self.old, self.recent, np.int32(begin), np.int32(fresh), np.int32(self.size)
        )


def _zero_rows(count: int, row: Any) -> Any:
    return jax.tree.map(lambda x: np.zeros((count, *np.shape(x)), np.asarray(x).dtype), row)


def _count_rows(rows: Any) -> int:
    return len(jax.tree.leaves(rows)[0])


def sample(view: ReplayView, n: int, key: Array) -> Any:
    """Return n rows, each drawn uniformly from all, with replacement; for use inside jit."""
    capacity = _count_rows(view.old)
    slot = jax.random.randint(key, (n,), 0, view.size)
    place = (slot - view.begin) % capacity
    newer = place < view.fresh

    def take(old: Array, recent: Array) -> Array:
        which = newer.reshape(-1, *(1,) * (old.ndim - 1))
        return jnp.where(which, recent[jnp.where(newer, place, 0)], old[slot])

    return jax.tree.map(take, view.old, view.recent)
