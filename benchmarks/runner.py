"""A decision of `isthmus.Runner`, a policy of 64-64 on Hopper, beside a process that keeps a core
busy: the 99th percentile against a millisecond.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Row, console, table

import isthmus
from isthmus.deploy.onnx_export import export_run
from isthmus.deploy.runner import Guards, Runner

SETTINGS = {"learner.worlds": 8, "learner.steps": 16, "learner.minibatch": 32}
BUSY = [sys.executable, "-c", "while True: pass"]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    decisions: int = 5000
    pairs: int = 5


SMALL = Sizes(200, 1)


def measure_decisions(runner: Runner, observations: np.ndarray) -> float:
    """Return the 99th percentile of the seconds of a decision."""
    seconds = np.empty(len(observations))
    for i, observation in enumerate(observations):
        begun = time.perf_counter()
        runner.decide(observation)
        seconds[i] = time.perf_counter() - begun
    return float(np.percentile(seconds, 99))


def compare(size: Sizes) -> Iterator[Row]:
    """Yield the row: decisions a second at the 99th percentile, against 1,000."""
    with tempfile.TemporaryDirectory() as folder:
        run = isthmus.train(
            "source_only",
            "hopper",
            steps=128,
            settings=SETTINGS,
            out=Path(folder) / "run",
            quiet=True,
        )
        runner = Runner(export_run(run, Path(folder) / "out").folder, Guards(range="ignore"))
        runner.begin_episode()
        observations = np.random.default_rng(0).normal(size=(size.decisions, 11))
        measure_decisions(runner, observations)
        core = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
        with subprocess.Popen(BUSY) as neighbour:
            ours = [1 / measure_decisions(runner, observations) for _ in range(size.pairs)]
            neighbour.kill()
    yield Row(
        "a decision of Runner, 99th percentile, a policy of 64-64, a busy core",
        "a millisecond",
        1.0, "decisions", ours, [1000.0] * size.pairs, None,
        {"decisions": size.decisions, "pairs": size.pairs},
    )  # fmt: skip


if __name__ == "__main__":
    console.print(table(list(compare(SMALL))))
