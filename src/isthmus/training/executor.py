"""Where independent work runs. The contract: `map(function, jobs)` yields each job's result as it ends.

A job is a picklable value and `function` a module-level one; both must give the same result on any executor. Here:
processes of this machine. A worker computes on one CPU (NPROC) and shares MuJoCo's threads out evenly; neither changes
a bit of any result.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, Protocol


class Executor(Protocol):
    workers: int

    def map(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], poll: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(index, result) of each job as it ends; `poll` is called twice a second meanwhile.

        A job that raises makes this raise, after the jobs that run have ended; jobs not begun are dropped.
        """
        ...


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Fresh processes, by default one a CPU."""

    def __init__(self, workers: int | None = None):
        self.workers = workers or cpus()

    def map(self, function, jobs, poll=None):
        workers = min(self.workers, len(jobs)) or 1
        threads = str(max(1, cpus() // workers))
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, _begin_worker, (threads, os.environ.get("NPROC", "1")))
        try:
            index = {pool.submit(function, job): i for i, job in enumerate(jobs)}
            pending = set(index)
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                if poll:
                    poll()
                for future in done:
                    yield index[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(threads: str, nproc: str) -> None:
    os.environ["ISTHMUS_THREADS"], os.environ["NPROC"] = threads, nproc


EXECUTORS = {"processes": Processes}
