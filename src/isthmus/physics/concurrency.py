"""What threads and processes share, and what they must not: CPUs, simulations, forked threads."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections import UserList
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Generic, TypeVar

from isthmus.types import IsthmusError

T = TypeVar("T")
SPAWN_ADVICE = (
    "start processes with multiprocessing.get_context('spawn') (a DataLoader: "
    "multiprocessing_context='spawn')"
)


class ForkedError(IsthmusError):
    """A process that was forked needs threads that only its parent has."""


def count_cpus() -> int:
    """Return how many CPUs this process may use.

    Where the system does not say (macOS): how many there are.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ThreadCache(Generic[T]):
    """`functools.lru_cache` with a cache for each thread.

    For values that are stepped, and so cannot be shared by threads. Each thread keeps at most
    `maxsize` of them, until it ends.
    """

    def __init__(self, make: Callable[..., T], maxsize: int):
        self._make, self._maxsize = make, maxsize
        self._own = threading.local()

    def __call__(self, *key: Hashable) -> T:
        """Return this thread's value for `key`, made by `make(*key)` where it has none."""
        if getattr(self._own, "process", None) != os.getpid():  # what a parent kept is the parent's
            self._own.cache = lru_cache(self._maxsize)(self._make)
            self._own.process = os.getpid()
        return self._own.cache(*key)

    def cache_clear(self) -> None:
        """Forget this thread's values."""
        self._own.__dict__.clear()


class ThreadList(threading.local, UserList[T]):
    """A list for each thread, empty when the thread begins."""


# Threads do not survive os.fork: in the child, what waits for one waits for ever.

# owner -> what has the threads
_pools: weakref.WeakKeyDictionary[object, object] = weakref.WeakKeyDictionary()
_jax_computed = False  # when this process, or one that it was forked from, last forked
_jax_lost = False


def register_pool(owner: object, pool: object) -> None:
    """Note a pool of threads that lives as long as `owner`.

    It joins them when it is destroyed, which hangs after a fork, where they are gone. A forked
    process therefore never destroys it.
    """
    _pools[owner] = pool


def check_same_process(process: int) -> None:
    """Raise ForkedError where threads that were begun in `process` are needed in another one."""
    if process != os.getpid():
        raise ForkedError(
            "this simulation was made before a fork, which its threads did not survive: "
            f"{SPAWN_ADVICE}"
        )


def check_jax_survived() -> None:
    """Raise ForkedError in a process that was forked after jax had computed: jax may hang there."""
    if _jax_lost:
        raise ForkedError(
            "this process was forked after jax had computed, whose threads are lost here: "
            f"{SPAWN_ADVICE}"
        )


def _has_jax_computed() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is None:
        return False
    # Not public; where a jax has it no more, one that is imported is taken to have computed.
    initialized = getattr(bridge, "backends_are_initialized", None)
    return initialized is None or initialized()


def _before_fork() -> None:
    global _jax_computed
    _jax_computed = _has_jax_computed()


def _after_fork() -> None:
    global _jax_lost
    _jax_lost = _jax_lost or _jax_computed
    for pool in _pools.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
