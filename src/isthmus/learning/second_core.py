"""A second process, which stays and computes on the other core what this one would compute next.

XLA runs the loops of all of a process's programs on one thread (with `NPROC=1`, which holds the
bits), so that a second thread gains nothing; a process has its own. It computes what would be
computed here, by the same program, and no bit depends on it: where it is missing, still starting,
has not compiled a program yet, or has ended, the work is done here.

It is begun once a process has learned for some seconds, where a core is free: not where
ISTHMUS_THREADS=1 (as in a worker of many), not on a GPU, not with ISTHMUS_SECOND_CORE=off.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import BrokenExecutor, Future
from functools import cache
from typing import Any, TypeVar

import jax
from loky import ProcessPoolExecutor, cpu_count

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 3.0  # seconds of work here before a second process is begun
IDLE = 600.0  # seconds without work after which it ends; it is begun again where there is some


def run_both(first: Callable[[], A], second: Callable[..., B], *args: Any) -> tuple[A, B]:
    """Return `first()` and `second(*args)`, at once where there is a second core.

    `second` is a module's function, and its arguments are arrays, or can be pickled.
    """
    core = _get_core(os.getpid())
    if not core.is_ready(second, args):
        return core.run_here(first, second, args)
    future = core.submit(second, args)
    result = first()
    return result, core.receive(future, second, args)


def is_wanted() -> bool:
    """Return whether a second process would have a core, and may be begun."""
    if os.environ.get("ISTHMUS_SECOND_CORE") == "off":
        return False
    if os.environ.get("ISTHMUS_THREADS") == "1":
        return False
    if jax.default_backend() != "cpu":
        return False
    return cpu_count() > 1


@cache
def _get_core(process: int) -> SecondCore:
    """Return this process's; one that was forked begins its own."""
    return SecondCore()


class SecondCore:
    """The second process, and the programs that it has compiled or is compiling."""

    def __init__(self) -> None:
        self.work_seconds = 0.0
        self._executor: ProcessPoolExecutor | None = None
        self._closed = False
        self._programs: dict[Hashable, Future] = {}

    def is_ready(self, second: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Return whether work of this kind can be given away now.

        Where it could be but for a program that is not compiled yet, let the process compile it.
        """
        if not self._may_begin():
            return False
        kind = _describe_kind(second, args)
        if kind not in self._programs:
            # doing the work once, for nothing, compiles it
            self._programs[kind] = self.submit(second, args)
            return False
        compiled = self._programs[kind]
        if not compiled.done():
            return False
        if compiled.exception() is not None:
            self.close()
            return False
        return True

    def _may_begin(self) -> bool:
        if self._closed:
            return False
        return self.work_seconds >= PATIENCE and is_wanted()

    def submit(self, second: Callable[..., B], args: tuple[Any, ...]) -> Future:
        """Give work away."""
        executor = self._executor
        if executor is None:
            executor = self._executor = _begin()
        try:
            return executor.submit(_compute, second, jax.device_get(args))
        except (BrokenExecutor, RuntimeError) as error:
            future = Future()
            future.set_exception(error)
            return future

    def receive(self, future: Future, second: Callable[..., B], args: tuple[Any, ...]) -> B:
        """Return what came of work that was given away; do it here if the process has ended."""
        try:
            return jax.device_put(future.result())
        except (BrokenExecutor, RuntimeError, pickle.PicklingError):
            self.close()
            return second(*args)

    def run_here(
        self, first: Callable[[], A], second: Callable[..., B], args: tuple[Any, ...]
    ) -> tuple[A, B]:
        """Return `first()` and `second(*args)`, one after the other."""
        begun = time.monotonic()
        results = first(), second(*args)
        self.work_seconds += time.monotonic() - begun
        return results

    def close(self) -> None:
        """End the process; what comes is done here."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False, kill_workers=True)


def _begin() -> ProcessPoolExecutor:
    environment = {"ISTHMUS_THREADS": "1"}
    return ProcessPoolExecutor(
        1, timeout=IDLE, initializer=_serve, initargs=(os.getpid(),), env=environment
    )


def _serve(parent: int) -> None:
    """Leave a terminal's Ctrl-C to the process that gives the work, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "fork"):  # elsewhere a parent's number stays when it has ended: IDLE ends it
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _compute(second: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return jax.device_get(second(*args))


def _describe_kind(second: Callable[..., Any], args: tuple[Any, ...]) -> Hashable:
    """Return what programs a job needs: the function, its plain arguments, its arrays' shapes."""
    leaves, structure = jax.tree.flatten(args)
    return second, structure, *map(_describe_leaf, leaves)


def _describe_leaf(x: Any) -> Hashable:
    if hasattr(x, "shape"):
        return x.shape, str(x.dtype)
    return x
