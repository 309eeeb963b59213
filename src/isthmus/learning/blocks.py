"""A long array as a value that is cheap to change: blocks of rows, which its successors share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.types import Array

BLOCK_ROWS = 2**16  # rows


@partial(jax.tree_util.register_dataclass, data_fields=["parts"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Blocks:
    """An array (rows, ...) in parts, all of the first's length but for the last, which may be less.

    Nobody writes to a part: `put` copies those that it changes. To JAX it is a tree of its parts.
    """

    parts: tuple[np.ndarray, ...]

    @staticmethod
    def zeros(count: int, shape: Sequence[int], dtype: Any) -> Blocks:
        """Return `count` rows of zeros, all in one block's memory."""
        rows = min(BLOCK_ROWS, count)
        block = np.zeros((rows, *shape), dtype)
        full, rest = divmod(count, rows)
        last = (block[:rest],) if rest else ()
        return Blocks((block,) * full + last)

    @staticmethod
    def split(whole: Array | np.ndarray) -> Blocks:
        """Return an array in blocks, which are copies: the whole can go. Zeros share memory."""
        whole = np.asarray(whole)
        blocks = Blocks.zeros(len(whole), whole.shape[1:], whole.dtype)
        parts = []
        for index, zeros in enumerate(blocks.parts):
            start = index * blocks.block_rows
            part = whole[start : start + len(zeros)].copy()
            parts.append(part if part.view(np.uint8).any() else zeros)  # bits: -0.0 is not 0.0
        return Blocks(tuple(parts))

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return len(self.parts[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The whole's shape."""
        return (len(self), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The whole's type."""
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        """The whole's bytes, whether or not blocks share memory."""
        return sum(part.nbytes for part in self.parts)

    def __len__(self) -> int:
        return self.block_rows * (len(self.parts) - 1) + len(self.parts[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return some rows, in order and of step 1, without a copy where one block holds them."""
        start, stop, _ = rows.indices(len(self))
        first, last = start // self.block_rows, max(start, stop - 1) // self.block_rows
        offset = first * self.block_rows
        parts = self.parts[first : last + 1]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return whole[start - offset : stop - offset]

    @cached_property
    def whole(self) -> Array:
        """The whole array for XLA: a copy, kept until the next `put`."""
        return jnp.asarray(np.asarray(self))

    def put(self, slots: np.ndarray, rows: np.ndarray) -> Blocks:
        """Return the array with `rows` at `slots`, which are distinct; other blocks are shared."""
        self.__dict__.pop("whole", None)  # made anew if anybody wants it
        parts, owners = list(self.parts), slots // self.block_rows
        for index in np.unique(owners):
            mine = owners == index
            parts[index] = parts[index].copy()
            parts[index][slots[mine] - index * self.block_rows] = rows[mine]
        return Blocks(tuple(parts))


class Gathering(NamedTuple):
    """Which rows (n,) to take from which of several arrays: sorted by the array, then put back."""

    takes: list[tuple[int, np.ndarray]]  # an array, and the rows of it
    places: np.ndarray  # of the n rows in what was taken

    @staticmethod
    def plan(owners: np.ndarray, rows: np.ndarray, arrays: int) -> Gathering:
        """Return how to take row `rows[i]` of array `owners[i]`, one of `arrays`, for each i."""
        order = np.argsort(owners.astype(np.uint16), kind="stable")  # in 16 bits: a radix sort
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        ordered = rows[order].astype(np.intp)  # what `take` would make of them, once for all
        ends = np.cumsum(np.bincount(owners, minlength=arrays)).tolist()
        takes = []
        for index, (start, end) in enumerate(pairwise([0, *ends])):
            if end > start:
                takes.append((index, ordered[start:end]))
        return Gathering(takes, places)

    def take(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return the rows (n, ...)."""
        taken = np.concatenate([arrays[index].take(rows, axis=0) for index, rows in self.takes])
        return taken.take(self.places, axis=0)


def is_blocks(node: Any) -> bool:
    """Return whether a tree's node is Blocks, to take it for a leaf."""
    return isinstance(node, Blocks)
