"""A replay buffer that is a value: adding gives a new one, the old one stays what it was, and
neither costs a copy.

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
    """What `sample` needs, as a jitted function takes it: slots [begin, begin + fresh) of the ring
    are in `recent`.
    """

    old: Any
    recent: Any
    begin: np.int32
    fresh: np.int32
    size: np.int32


class Replay(NamedTuple):
    """The last `capacity` rows of a tree of arrays (rows, ...), in the order in which they came."""

    old: Any  # JAX arrays (capacity, ...); row i is ring slot i
    recent: Any  # NumPy arrays
    added: np.int64  # rows, ever
    merged: np.int64  # of them, those in `old`

    @staticmethod
    def empty(capacity: int, row: Any) -> Replay:
        """`row`: a tree of one row's arrays, for their shapes and types."""
        zeros = lambda n: jax.tree.map(
            lambda x: np.zeros((n, *np.shape(x)), np.asarray(x).dtype), row
        )
        old = jax.tree.map(jnp.asarray, zeros(capacity))
        return Replay(old, zeros(min(RECENT_ROWS, capacity)), np.int64(0), np.int64(0))

    @property
    def capacity(self) -> int:
        return len(jax.tree.leaves(self.old)[0])

    @property
    def size(self) -> int:
        """Rows held."""
        return min(int(self.added), self.capacity)

    def cleared(self, capacity: int | None = None) -> Replay:
        """An empty one of the same rows, and of the same capacity where none is given."""
        return Replay.empty(capacity or self.capacity, jax.tree.map(lambda x: x[0], self.recent))

    def add(self, rows: Any) -> Replay:
        """With rows (B, ...) added, the oldest forgotten."""
        replay, n, room = self, len(jax.tree.leaves(rows)[0]), len(jax.tree.leaves(self.recent)[0])
        for start in range(0, n, room):
            replay = replay._add(jax.tree.map(lambda x, start=start: x[start : start + room], rows))
        return replay

    def _add(self, rows: Any) -> Replay:
        n, room = len(jax.tree.leaves(rows)[0]), len(jax.tree.leaves(self.recent)[0])
        at = int(self.added - self.merged)
        if at + n > room:
            return self._merge()._add(rows)

        def put(recent: np.ndarray, new: Array) -> np.ndarray:
            recent = recent.copy()
            recent[at : at + n] = new
            return recent

        return self._replace(
            recent=jax.tree.map(put, self.recent, rows), added=np.int64(self.added + n)
        )

    def _merge(self) -> Replay:
        slots = np.arange(self.merged, self.added) % self.capacity

        def put(old: Array, recent: np.ndarray) -> Array:
            whole = np.array(old)
            whole[slots] = recent[: len(slots)]
            return jnp.asarray(whole)

        return self._replace(old=jax.tree.map(put, self.old, self.recent), merged=self.added)

    def view(self) -> ReplayView:
        begin, fresh = self.merged % self.capacity, self.added - self.merged
        return ReplayView(self.old, self.recent, *(np.int32(x) for x in (begin, fresh, self.size)))


def sample(view: ReplayView, n: int, key: Array) -> Any:
    """n rows, each drawn uniformly from all that are held, with replacement; for use inside jit."""
    capacity = len(jax.tree.leaves(view.old)[0])
    slot = jax.random.randint(key, (n,), 0, view.size)
    place = (slot - view.begin) % capacity
    newer = place < view.fresh

    def take(old: Array, recent: Array) -> Array:
        which = newer.reshape(-1, *(1,) * (old.ndim - 1))
        return jnp.where(which, recent[jnp.where(newer, place, 0)], old[slot])

    return jax.tree.map(take, view.old, view.recent)
