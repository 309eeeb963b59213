"""Where independent work runs. The contract: `map(function, jobs)` yields each job's result as it ends.

A job is a picklable value and `function` a module-level one; both must give the same result on any executor. Here:
processes of this machine. A worker computes on one CPU (NPROC) and shares MuJoCo's threads out evenly; neither changes
a bit of any result.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from isthmus.types import BadValue, IsthmusError


class Executor(Protocol):
    workers: int

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], poll: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(index, result) of each job as it ends; `poll` is called twice a second meanwhile.

        A job that raises makes this raise the same, after the jobs that run have ended; jobs not begun are dropped.
        """
        ...


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Fresh processes, by default one a CPU."""

    def __init__(self, workers: int | None = None):
        if workers is not None and not 1 <= workers <= 1000:
            raise BadValue(f"workers={workers}: needs a whole number in 1..1000")
        self.workers = workers or cpus()

    def map(self, function, jobs, poll=None):
        workers = min(self.workers, len(jobs)) or 1
        threads = str(max(1, cpus() // workers))
        context = multiprocessing.get_context("spawn")
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(workers, context, _begin_worker, (threads, os.environ.get("NPROC", "1")))
        waiting, running = deque(enumerate(jobs)), {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:  # no more than can begin: the rest can still be dropped
                    i, job = waiting.popleft()
                    with _ctrl_c_waits():
                        running[pool.submit(_work, function, job)] = i
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                if poll:
                    poll()
                for future in done:
                    yield running.pop(future), future.result()
        except KeyboardInterrupt:
            _stop(set(multiprocessing.active_children()) - before)
            raise
        except BrokenProcessPool:
            raise IsthmusError(
                "a worker process was killed (out of memory?); what it had saved is kept: give the command again"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Processes begun in here never see a terminal's Ctrl-C, not even before their first line; ours comes after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(workers: set[BaseProcess]) -> None:
    """Ask again until they have ended: what trains saves first, the rest ends at once."""
    while alive := [worker for worker in workers if worker.is_alive()]:
        for worker in alive:
            worker.terminate()
        multiprocessing.connection.wait([worker.sentinel for worker in alive], timeout=1.0)


def _begin_worker(threads: str, nproc: str) -> None:
    os.environ["ISTHMUS_THREADS"], os.environ["NPROC"] = threads, nproc
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all: the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed stops as one that is asked to: what trains saves first."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1.0)


def _work(function: Callable[[Any], Any], job: Any) -> Any:
    try:
        return function(job)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error that cannot travel would break the pool and not be told
            kind = IsthmusError if isinstance(error, IsthmusError) else RuntimeError
            raise kind(str(error) if kind is IsthmusError else f"{type(error).__name__}: {error}") from None
        raise


EXECUTORS = {"processes": Processes}
