"""Where independent work runs. The contract: `map(function, jobs)` yields each job's result as it
ends.

A job is a picklable value and `function` a module-level one, pure as far as results go: both give
the same on any executor, and a job whose worker is lost is done again. Here: processes of this
machine; `training.ray` has a cluster's. A worker computes on one CPU (NPROC), which changes no bit
of any result; nor does its share of MuJoCo's threads.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import os
import pickle
import platform
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from isthmus.physics.concurrency import count_cpus
from isthmus.training.main_guard import check_main_guard
from isthmus.types import BadValue, IsthmusError

READY_MESSAGE = b"ready"  # a worker's first word; no pickle begins so
MAX_WORKERS_A_JOB = 3  # a job that takes too much memory would take every other worker's too


class Executor:
    """Workers that stay until `close`, or the end of a `with`; the first `map` begins them.

    Each kind says how to begin a job (`_begin`), which jobs have ended (`_ended`) and how to stop
    them (`_stop`).
    """

    workers: int

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later `map` begins others."""

    def map(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[Any],
        poll: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) of each job as it ends; `poll` is called at least twice a second
        meanwhile.

        A job that raises makes this raise the same, after the jobs that run have ended; jobs not
        begun are dropped. Ctrl-C stops the jobs that run: what trains saves first.
        """
        waiting, running = deque(enumerate(jobs)), {}
        try:
            while waiting or running:
                # No more than can begin: the rest can still be dropped.
                while waiting and len(running) < self.workers:
                    i, job = waiting.popleft()
                    running[self._begin(pickle.dumps((function, job)))] = i
                ended = []
                for task, outcome in self._ended(running, 0.5):
                    ended.append((running.pop(task), outcome))
                if poll:
                    poll()
                for i, outcome in ended:
                    yield i, _unpack_outcome(outcome)
        except (KeyboardInterrupt, SystemExit):
            self._stop(running)
            raise
        except BaseException:
            self._wait(running)
            raise

    def _wait(self, running: dict[Any, int]) -> None:
        """Wait until all tasks have ended."""
        while running:
            for task, _ in self._ended(running, 0.5):
                del running[task]

    def _begin(self, content: bytes) -> Any:
        """Begin `run_task(content)` on an idle worker; return what it is known by from here on."""
        raise NotImplementedError

    def _ended(self, tasks: Collection[Any], timeout: float) -> list[tuple[Any, bytes]]:
        """Return those of `tasks` that have ended, and what `run_task` gave; wait so many seconds
        for one.
        """
        raise NotImplementedError

    def _stop(self, tasks: Collection[Any]) -> None:
        """Ask until they have ended: what trains saves first, the rest ends at once."""
        raise NotImplementedError


def check_workers(workers: int | None) -> int | None:
    """Return the number of workers. Raises BadValue for one that cannot be."""
    if workers is not None and not 1 <= workers <= 1000:
        raise BadValue(f"workers={workers}: needs a whole number in 1..1000")
    return workers


def check_shared(folder: Path) -> None:
    """Raise BadValue on a worker to which a folder of the user's cannot be seen."""
    if not folder.is_dir():
        raise BadValue(
            f"no folder {folder} on {platform.node()}: a cluster's machines must share it at the "
            "same place, docs/guide/scale_out.md"
        )


# What a worker does


def run_task(content: bytes) -> bytes:
    """Do a job, `(function, job)`, and give (whether it went well, its result or error); all of it
    pickled.
    """
    try:
        function, job = pickle.loads(content)
        return pickle.dumps((True, function(job)))
    except KeyboardInterrupt as error:
        return pickle.dumps((False, error))
    except Exception as error:
        return pickle.dumps((False, _tellable(error)))


def failed(error: BaseException) -> bytes:
    """Return what `run_task` gives where a job fails."""
    return pickle.dumps((False, error))


def _tellable(error: Exception) -> Exception:
    """Return the error, or where it cannot be made again from what pickle keeps of it, one that
    says the same.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        if isinstance(error, IsthmusError):
            return IsthmusError(str(error))
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _unpack_outcome(outcome: bytes) -> Any:
    good, value = pickle.loads(outcome)
    if good:
        return value
    raise value


# Processes


@dataclass(eq=False)
class _Task:
    content: bytes
    worker: _Worker
    lost: int = 0  # workers that died of it


class Processes(Executor):
    """Processes of this machine, by default one a CPU. A job whose worker was killed is done again
    by a new one.
    """

    def __init__(self, workers: int | None = None):
        self.workers = check_workers(workers) or count_cpus()
        self._all: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._threads = 1

    def map(self, function, jobs, poll=None):
        """Yield (index, result) of each job; those at work share MuJoCo's threads."""
        busy = max(1, min(self.workers, len(jobs)))
        self._threads = max(1, count_cpus() // busy)
        return super().map(function, jobs, poll)

    def close(self) -> None:
        """End the processes."""
        self._idle.clear()
        _end(self._all)
        atexit.unregister(self.close)

    def _begin(self, content):
        return _Task(content, self._give(content))

    def _give(self, content: bytes) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.give(self._threads, content):
                return worker
            self._all.remove(worker)  # it was killed while it had nothing to do
        if not self._all:
            check_main_guard()
            atexit.register(self.close)
        with _ctrl_c_waits():  # until it is known as one to be ended
            worker = _Worker()
            self._all.append(worker)
        worker.give(self._threads, content)  # where this fails, `_ended` sees it
        return worker

    def _ended(self, tasks, timeout):
        ready = multiprocessing.connection.wait([task.worker.pipe for task in tasks], timeout)
        ended = []
        for task in tasks:
            if task.worker.pipe in ready:
                outcome = self._receive(task)
                if outcome is not None:
                    ended.append((task, outcome))
        return ended

    def _receive(self, task: _Task) -> bytes | None:
        """Return what came of a task whose worker has something to say; None where it goes on."""
        worker = task.worker
        try:
            outcome = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._all.remove(worker)
            return self._begin_again(task)
        if outcome == READY_MESSAGE:
            worker.ready = True
            return None
        self._idle.append(worker)
        return outcome

    def _begin_again(self, task: _Task) -> bytes | None:
        """Give a task whose worker ended to another; return an error where none would do better."""
        if task.worker.failed_to_start():
            return failed(IsthmusError(_describe_failed_start(task.worker.fate())))
        task.lost += 1
        if task.lost < MAX_WORKERS_A_JOB:
            task.worker = self._give(task.content)
            return None
        return failed(IsthmusError(
            f"a worker process was killed ({task.worker.fate()}), as were the "
            f"{MAX_WORKERS_A_JOB - 1} before it that did the same work; out of memory? what was "
            "saved is kept: give the command again, with fewer --workers"
        ))  # fmt: skip

    def _stop(self, tasks):
        self.close()


class _Worker:
    """A process that does one job after the other, until this end of its pipe is closed."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_end = context.Pipe()
        nproc = os.environ.get("NPROC", "1")
        self.process = context.Process(target=_serve, args=(worker_end, nproc))
        self.ready = False
        self.process.start()
        worker_end.close()  # so that its death is the pipe's end

    def give(self, threads: int, content: bytes) -> bool:
        """Send it a job; return whether it was there to take it."""
        try:
            self.pipe.send((threads, content))
        except OSError:
            return False
        return True

    def failed_to_start(self) -> bool:
        """Return whether it ended by itself before it could take a job: what it imports raised."""
        return not self.ready and self._exit_code() > 0

    def fate(self) -> str:
        """Return how it ended: a signal's name, or an exit status."""
        code = self._exit_code()
        if code >= 0:
            return f"exit status {code}"
        return signal.strsignal(-code) or f"signal {-code}"

    def _exit_code(self) -> int:
        self.process.join()
        return self.process.exitcode or 0


def _describe_failed_start(fate: str) -> str:
    return (
        f"a worker process could not begin ({fate}): it imports the script that began it, and "
        "something there failed, as is said above; put what the script does under "
        'if __name__ == "__main__":'
    )


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Processes begun in here never see a terminal's Ctrl-C, not even before their first line; ours
    comes after.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: list[_Worker]) -> None:
    """Ask again until they have ended: what trains saves first, the rest ends at once."""
    while alive := [worker.process for worker in workers if worker.process.is_alive()]:
        sentinels = []
        for process in alive:
            process.terminate()
            sentinels.append(process.sentinel)
        multiprocessing.connection.wait(sentinels, timeout=1.0)
    for worker in workers:
        worker.pipe.close()
    workers.clear()


def _serve(pipe: Connection, nproc: str) -> None:
    os.environ["NPROC"] = nproc
    # A terminal's Ctrl-C reaches all: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent closed the pipe, or died
        pipe.send_bytes(READY_MESSAGE)
        while True:
            threads, content = pipe.recv()
            os.environ["ISTHMUS_THREADS"] = str(threads)
            pipe.send_bytes(run_task(content))


def _end_with_parent() -> None:
    """A worker whose parent was killed stops as one that is asked to: what trains saves first."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1.0)
