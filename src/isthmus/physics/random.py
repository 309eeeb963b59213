"""Counter-based random numbers: what a world draws depends on its own key and counter alone.

A batch of N generators has the two methods of `numpy.random.Generator` that tasks need, so that a
task's start is written once: `Streams` serves a batch, `Single` serves one Gymnasium environment
with Gymnasium's own bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def mix(x: np.ndarray) -> np.ndarray:
    """Return the finalizer of splitmix64, a bijection of uint64 with full avalanche.

    Steele, Lea and Flood 2014.
    """
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


def fold(key: np.ndarray, *counters: np.ndarray | int) -> np.ndarray:
    """Return keys (uint64 [N]) derived from keys and counters (broadcast).

    Equal inputs give equal keys, and a fold by two counters is a fold by the first, then the other.
    """
    key = np.asarray(key, np.uint64)
    with np.errstate(over="ignore"):
        for counter in counters:
            key = _fold_steps(mix(key + GOLDEN), _count_steps(counter))
    return key


def _count_steps(counter: np.ndarray | int) -> np.ndarray:
    """Return the step of splitmix64 that a counter is."""
    return np.asarray(counter).astype(np.uint64) * GOLDEN


def _fold_steps(mixed: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return keys of mixed keys and steps (broadcast)."""
    return mix(mixed + steps)


@lru_cache(maxsize=256)
def _count_places(first: int, size: int) -> np.ndarray:
    """Return the steps of `size` places of a stream, from the `first` on, uint64 [size]."""
    return _count_steps(np.arange(first, first + size))


def keys(seed: int, n: int) -> np.ndarray:
    """Return n world keys (uint64 [n]) of a seed; the first n of a longer list are the same."""
    return fold(np.full(n, seed % 2**64, np.uint64), np.arange(n))


class Streams:
    """One stream of random numbers a world.

    Worlds that are left out by `where` (bool [n]) keep their place in the stream.
    """

    def __init__(self, key: np.ndarray, *counters: np.ndarray | int):
        """Make streams of the keys (n,) that `fold` gives: once something is drawn."""
        self._key, self._counters = key, counters
        self._mixed: np.ndarray | None = None  # uint64 [n, 1]
        self._place: int | np.ndarray = 0  # one for all while none was left out, else int64 [n]

    def select(self, ids: np.ndarray) -> Streams:
        """Return streams of some (k,) of the keys, as they begin."""
        streams = Streams(self._key)
        streams._mixed = self._mix_keys()[ids]
        return streams

    def _mix_keys(self) -> np.ndarray:
        if self._mixed is None:
            self._mixed = mix(fold(self._key, *self._counters) + GOLDEN)[:, None]
        return self._mixed

    def _bits(self, size: int, where: np.ndarray | None) -> np.ndarray:
        mixed = self._mix_keys()
        place = self._place
        if isinstance(place, int):
            steps = _count_places(place, size)
        else:
            steps = _count_steps(place[:, None] + np.arange(size))
        self._place = place + (size if where is None else size * where)
        return _fold_steps(mixed, steps)

    def uniform(
        self, low: float, high: float, size: int, where: np.ndarray | None = None
    ) -> np.ndarray:
        """Return numbers in [low, high), float64 [n, size]."""
        return low + (high - low) * ((self._bits(size, where) >> _11) * 2.0**-53)

    def standard_normal(self, size: int, where: np.ndarray | None = None) -> np.ndarray:
        """Return standard normal numbers, float64 [n, size], by Box and Muller (1958)."""
        u = ((self._bits(2 * size, where) >> _11) + 0.5) * 2.0**-53
        return np.sqrt(-2 * np.log(u[:, :size])) * np.cos(2 * np.pi * u[:, size:])


class Single:
    """A `numpy.random.Generator` behind the interface of `Streams`, for one world."""

    def __init__(self, generator: np.random.Generator):
        self.generator = generator

    def uniform(
        self, low: float, high: float, size: int, where: np.ndarray | None = None
    ) -> np.ndarray:
        """Return numbers in [low, high), float64 [1, size]."""
        return self.generator.uniform(low, high, size)[None]

    def standard_normal(self, size: int, where: np.ndarray | None = None) -> np.ndarray:
        """Return standard normal numbers, float64 [1, size]."""
        return self.generator.standard_normal(size)[None]
