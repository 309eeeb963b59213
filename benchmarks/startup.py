"""What a user waits for before the first result: whole commands in processes of their own, with a
compile cache that an earlier command filled (warm) and with an empty one (cold).

Where ISTHMUS_BENCH_PEER names a checkout of another commit, against its commands; else warm against
cold.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import Row, alternate

import isthmus

OURS = Path(isthmus.__file__).parents[1]
PEER = "ISTHMUS_BENCH_PEER"


@dataclass(frozen=True)
class Sizes:
    task: str = "hopper/gravity=x2"
    method: str = "source_only"
    settings: tuple[str, ...] = ()
    steps: int = 8192  # the random ones before the first round, and the first round
    episodes: int = 1
    pairs: int = 7


@dataclass(frozen=True)
class Side:
    """Commands of one source tree, with a cache of programs that stays, or an empty one each."""

    source: Path
    cache: Path
    warm: bool

    def run(self, *arguments: str) -> float:
        """Seconds of a Python process with these arguments."""
        with tempfile.TemporaryDirectory(dir=self.cache) as empty:
            kept = {name: v for name, v in os.environ.items() if not name.startswith("JAX_")}
            environment = kept | {
                "PYTHONPATH": str(self.source),
                "ISTHMUS_COMPILE_CACHE": str(self.cache / "warm") if self.warm else empty,
            }
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], env=environment, check=True, capture_output=True
            )
            return time.perf_counter() - begun


def compare(size: Sizes) -> Iterator[Row]:
    peer = os.environ.get(PEER)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        warm, cold = Side(OURS, cache, warm=True), Side(OURS, cache, warm=False)
        if peer is None:
            for command, bar in (("train", 1.4), ("evaluate", 0.95)):
                yield compare_command(size, command, warm, cold, "the same, cold", bar)
            return
        theirs = Side(Path(peer) / "src", cache, warm=False)
        against = f"the same of {Path(peer).name}"
        for command, bar in (("train", 1.7), ("evaluate", 1.05)):
            yield compare_command(size, command, warm, theirs, against, bar)
            yield compare_command(size, command, cold, theirs, against, 0.95)
        for command in ("import isthmus", "--help"):
            yield compare_command(size, command, warm, theirs, against, 0.9)


def compare_command(
    size: Sizes, command: str, ours: Side, theirs: Side, against: str, bar: float
) -> Row:
    """One command of both sides, in turns; the first of each fills its caches and the disk's."""
    work = make_work(size, command, ours.cache)
    for side in (ours, theirs):
        work(side)
    unit, count = ("steps", size.steps) if command == "train" else ("commands", 1)

    def turn(side: Side) -> Callable[[], float]:
        return lambda: count / work(side)

    state = "" if command in ("import isthmus", "--help") else ", warm" if ours.warm else ", cold"
    a, b = alternate(f"{command}{state}", size.pairs, turn(ours), turn(theirs))
    sizes = {"task": size.task, "method": size.method, "steps": size.steps, "pairs": size.pairs}
    name = command if command == "import isthmus" else f"isthmus {command}"
    return Row(f"{name}{state}", against, bar, unit, a, b, None, sizes)


def make_work(size: Sizes, command: str, folder: Path) -> Callable[[Side], float]:
    """What gives a side's seconds for a command."""
    run = folder / "run"
    flags = [f"--set={setting}" for setting in size.settings]
    train = ["-m", "isthmus", "train", size.method, "-p", size.task, f"--steps={size.steps}"]

    def time_training(side: Side) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            return side.run(*train, *flags, f"--out={out}/run", "--quiet")

    def time_evaluation(side: Side) -> float:
        if not run.exists():
            side.run(*train, *flags, f"--out={run}", "--quiet")
        return side.run("-m", "isthmus", "evaluate", str(run), f"--episodes={size.episodes}")

    if command == "train":
        return time_training
    if command == "evaluate":
        return time_evaluation
    if command == "--help":
        return lambda side: side.run("-m", "isthmus", "--help")
    return lambda side: side.run("-c", command)
