"""Jobs for the executor's tests: what a worker imports must be light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from isthmus.types import UnknownName


def square(x: float) -> float:
    time.sleep(0.05 if x == 0 else 0.0)  # the first ends last
    return x * x


def environment(_: int) -> tuple[str, str]:
    return os.environ["NPROC"], os.environ["ISTHMUS_THREADS"]


def number(seconds: float) -> int:
    """The process's, after a while in which others begin theirs."""
    time.sleep(seconds)
    return os.getpid()


def place(_: int) -> str:
    return os.getcwd()


def work_or_wait(job: tuple) -> object:
    """A shard of a training; but on the machine that is to be lost it never ends."""
    import ray

    from isthmus.training.sharing import run_shard

    folder = Path(os.environ["LOST"])
    if ray.get_runtime_context().get_node_id() == (folder / "node").read_text():
        (folder / "begun").touch()
        time.sleep(300)
    return run_shard(job)


def find_task(name: str) -> str:
    from isthmus.tasks.task import find_task

    return find_task(name).name


def import_and_find(job: tuple[str, str]) -> str:
    from isthmus.tasks.imports import import_files

    import_files([job[0]])
    return find_task(job[1])


def untellable(_: int) -> object:
    return lambda: 0


class Untellable(Exception):
    """An error that cannot be made again from its message, as many libraries' cannot."""

    def __init__(self, first: int, second: int):
        super().__init__(f"{first} and {second}")


def fail(job: tuple[str, Path]) -> str:
    """Leaves a trace, how often it began, then does what the job says."""
    what, folder = job
    begun = folder / f"{what}-begun"
    times = int(begun.read_text()) + 1 if begun.exists() else 1
    begun.write_text(str(times))
    if what == "value":
        raise ValueError("no such value")
    if what == "name":
        raise UnknownName("colour", "gren", ["green", "blue"])
    if what == "untellable":
        raise Untellable(1, 2)
    if what == "leave":
        os._exit(7)
    if what == "die" or (what == "die-once" and times == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupted":
        raise KeyboardInterrupt
    if what == "slow":
        time.sleep(1.0)
    if what == "saves":  # as the training loop: asked to stop, it saves
        asked: list[int] = []
        stop = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda number, _: asked.append(number)) for number in stop]
        (folder / "ready").touch()
        while not asked:
            time.sleep(0.05)
        (folder / "saved").touch()
        for number, old in zip(stop, before, strict=True):
            signal.signal(number, old)
        raise KeyboardInterrupt
    (folder / f"{what}-ended").touch()
    return what
