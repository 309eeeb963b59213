"""A study is a table of units. A finished unit is one small CSV file; what is there is not run again.

kind,key,x,y,value
meta,...        versions, wall seconds, the run's digest
curve,...       x = source steps, y = target transitions
final,...       mean returns over the final episodes
cell,KEY,...    one cell of the landscape KEY: x and y its parameters
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.evaluation.landscape import Landscape
from isthmus.training.executor import Executor
from isthmus.types import BadValue


@dataclass(frozen=True)
class Unit:
    """One training and its final evaluation. `landscapes` maps a name to the grid's settings."""

    name: str
    method: str
    problem: str
    seed: int
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    access: str | None = None
    episodes: int = 100  # final evaluation in the source
    landscapes: dict[str, str] = field(default_factory=dict)
    landscape_episodes: int = 10


@dataclass(frozen=True)
class Study:
    """`units(scale, figure)` is the table; `report` says in lines what came out; `pictures` names each picture and what
    is on it, as data: landscapes side by side, with titles.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    units: Callable[[str, str | None], list[Unit]]
    report: Callable[[dict[str, Results]], list[str]]
    pictures: Callable[[dict[str, Results]], dict[str, list[tuple[str, Landscape]]]] = lambda results: {}


@dataclass(frozen=True)
class Results:
    """What a unit's file says."""

    rows: list[dict[str, str]]

    @staticmethod
    def read(path: Path) -> Results:
        with path.open(newline="") as file:
            return Results(list(csv.DictReader(file)))

    def value(self, kind: str, key: str) -> float:
        found = [r["value"] for r in self.rows if r.get("kind") == kind and r.get("key") == key]
        try:
            return float(found[0])
        except (IndexError, TypeError, ValueError):
            raise BadValue(f"a unit's file has no number {kind},{key}: remove it and run the unit again") from None

    def cells(self, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes [X], [Y] and mean returns [X, Y] of a landscape."""
        rows = [r for r in self.rows if r["kind"] == "cell" and r["key"] == key]
        x, y = (np.unique([float(r[k]) for r in rows]) for k in ("x", "y"))
        return x, y, np.array([float(r["value"]) for r in rows]).reshape(len(x), len(y))

    def curve(self, key: str) -> np.ndarray:
        """[points, 3]: source steps, target transitions, value."""
        rows = [r for r in self.rows if r["kind"] == "curve" and r["key"] == key]
        return np.array([[float(r[k]) for k in ("x", "y", "value")] for r in rows])


SCALES = ("smoke", "laptop", "paper")


def run_unit(job: tuple[Unit, Path, Path]) -> str:
    """Train, evaluate, write the unit's file; a training cut short goes on from its checkpoint."""
    from isthmus.domains.problem import make_problem
    from isthmus.evaluation.evaluate import evaluate
    from isthmus.evaluation.landscape import landscape, over
    from isthmus.training import checkpoint
    from isthmus.training.run import Run, write_text
    from isthmus.training.train import resume, train

    unit, results, runs = job
    began = time.monotonic()
    folder = runs / unit.name
    problem = make_problem(unit.problem, access=unit.access)
    if (folder / "run.json").exists():
        run = Run.open(folder)
        run.expect(Run.plan(unit.method, problem, unit.seed, unit.steps, unit.settings))
        run = run if run.finished else resume(folder, quiet=True)
    else:
        run = train(
            unit.method, problem, seed=unit.seed, steps=unit.steps, settings=unit.settings, out=folder, quiet=True
        )
    if not run.finished:
        raise KeyboardInterrupt  # stopped by its user: saved, and no result yet
    state, method = run.state(), run.method
    rows: list[tuple[str, str, Any, Any, Any]] = []
    for line in run.metrics():
        if line["kind"] == "evaluation":
            for key in ("source_return", "target_return"):
                rows.append(("curve", key, line["source_steps"], line["target_transitions"], line[key]))
    final = evaluate(run.policy, problem.source, unit.episodes)
    rows.append(("final", "source_return", "", "", f"{final.mean:.2f}"))
    rows.append(("final", "source_return_sd", "", "", f"{final.episodes.returns.std():.2f}"))
    rows.append(("final", "source_length", "", "", f"{final.episodes.lengths.mean():.1f}"))
    for key, settings in unit.landscapes.items():
        grid = over(problem.target, settings)
        adapting = (method, state, problem) if method.adapts else None
        result = landscape(run.policy, grid, unit.landscape_episodes, method=adapting)
        for i, x in enumerate(result.axes[0]):
            for j, y in enumerate(result.axes[1]):
                rows.append(("cell", key, f"{x:.6g}", f"{y:.6g}", f"{result.mean[i, j]:.2f}"))
    trained = sum(line["seconds"] for line in run.metrics() if line["kind"] == "round")  # before an interruption too
    seconds = max(trained, time.monotonic() - began)
    meta = {**run.config["versions"], "wall_seconds": f"{seconds:.0f}", "steps": unit.steps,
            "method": unit.method, "problem": unit.problem, "seed": unit.seed,
            "digest": checkpoint.digest(run.checkpoint()[0])}  # fmt: skip
    rows += [("meta", key, "", "", value) for key, value in meta.items()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "key", "x", "y", "value"])
    writer.writerows(rows)
    write_text(results / f"{unit.name}.csv", text.getvalue())
    return unit.name


def missing(units: Sequence[Unit], results: Path) -> list[Unit]:
    return [unit for unit in units if not (results / f"{unit.name}.csv").exists()]


def run_units(
    units: Sequence[Unit], results: Path, runs: Path, executor: Executor, poll: Callable[[], None] | None = None
) -> None:
    """Run the units that have no file yet."""
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadValue(f"cannot make the folder {results}: {error.strerror}; name another with --results") from None
    jobs = [(unit, results, runs) for unit in missing(units, results)]
    for _ in executor.map(run_unit, jobs, poll) if jobs else ():
        pass


def forecast(units: Sequence[Unit], results: Path, workers: int) -> str:
    """What the units without a file will cost, from the wall time of those that have one, per step."""
    left = missing(units, results)
    done = [Results.read(results / f"{u.name}.csv") for u in units if u not in left]
    if not left:
        return f"all {len(units)} units are there"
    steps = sum(u.steps for u in left)
    said = f"{len(left)} of {len(units)} units are left, {steps:,} training steps"
    if not done:
        return f"{said}; no unit has been timed yet"
    rate = sum(r.value("meta", "wall_seconds") for r in done) / sum(r.value("meta", "steps") for r in done)
    return (
        f"{said}: about {steps * rate / 60 / workers:.0f} minutes on {workers} processes, at the finished units' rate"
    )
