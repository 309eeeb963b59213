"""Compare methods on one problem: seeds, a floor, a ceiling, the same starts and dynamics for all,
and intervals.

A comparison is a folder: one run a method and seed, `evaluation.csv` and (for a grid of two axes)
`landscape.csv` in each, and `comparison.json` with the table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.evaluate import SEED, targets
from isthmus.methods import registry
from isthmus.problems.problem import Problem
from isthmus.training.executor import Executor, Processes, check_shared
from isthmus.types import BadValue, UnknownName

FLOOR, CEILING = "source_only", "target_only"
COMPARISON, EVALUATION, LANDSCAPE = "comparison.json", "evaluation.csv", "landscape.csv"
MAX_SEEDS = 1000  # seeds


@dataclass(frozen=True)
class ComparisonRow:
    """One method's line: mean true return in the target per seed, what it took, what can be said
    against the floor.
    """

    method: str
    role: str  # "floor", "ceiling" or ""
    scores: list[float]
    low: float
    high: float
    interval: str  # the kind of interval
    value: float
    against_floor: float | None
    against_floor_low: float | None
    against_floor_high: float | None
    verdict: str
    source_steps: int
    target_transitions: int  # in training
    logged_transitions: int  # of the target's log, where that is all that a method knows of it
    adaptation_transitions: int  # for each target, at deployment
    runs: list[str]
    learner: str = ""  # what it learned by; older comparisons do not say
    against_floor_interval: str = (
        ""  # the kind of the difference's interval; older comparisons do not say
    )


@dataclass(frozen=True)
class Comparison:
    folder: Path
    problem: dict[str, Any]
    seeds: int
    steps: int
    episodes: int
    rows: list[ComparisonRow]

    @staticmethod
    def read(folder: Path) -> Comparison:
        data = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
        rows = [
            ComparisonRow(**{"logged_transitions": 0, **row}) for row in data.pop("rows")
        ]  # older ones do not say
        return Comparison(folder=folder, rows=rows, **data)

    @property
    def unlike(self) -> str:
        """Says which methods do not learn by what the floor does, of which a difference is no
        transfer; else empty.
        """
        found = {row.method: row.learner for row in self.rows}
        others: dict[str, list[str]] = {}
        for method, learner in found.items():
            if learner and learner != found.get(FLOOR):
                others.setdefault(learner, []).append(method)
        said = "; ".join(
            f"{', '.join(methods)} by {learner}" for learner, methods in others.items()
        )
        fix = f"--set learner={next(iter(others))}" if len(others) == 1 else "--set learner=..."
        same = f"give both the same, {fix}, or compare them apart"
        return f"{FLOOR}, the floor, learned by {found[FLOOR]}, {said}: {same}." if others else ""

    @property
    def intervals(self) -> str:
        """Which statistic the intervals are of; older comparisons, whose differences were paired,
        do not say.
        """
        kinds = [row.against_floor_interval for row in self.rows if row.against_floor_interval]
        return f"{self.rows[0].interval}; of differences: {kinds[0] if kinds else 'paired by seed'}"

    def save(self) -> None:
        from isthmus.training.run_files import write_text

        data = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_text(self.folder / COMPARISON, json.dumps(data, indent=2) + "\n")


@dataclass(frozen=True)
class Job:
    method: str
    problem: dict[str, Any]
    seed: int
    steps: int
    settings: dict[str, Any]
    folder: Path
    episodes: int
    imports: tuple[str, ...]


def run_job(job: Job) -> dict[str, Any]:
    """Train (or go on, or find it done), then play the deployed policy in the true target."""
    from isthmus.evaluation.evaluate import evaluate_method
    from isthmus.evaluation.landscape import from_episodes
    from isthmus.tasks.imports import import_files
    from isthmus.training.run import Run
    from isthmus.training.run_files import write_text
    from isthmus.training.train import resume, train

    import_files(job.imports)
    check_shared(job.folder.parent)
    problem = Problem.from_data(job.problem)
    if (job.folder / "run.json").exists():
        run = Run.open(job.folder)
        run = run if run.finished else resume(job.folder, quiet=True)
    else:
        run = train(job.method, problem, seed=job.seed, steps=job.steps, settings=job.settings, out=job.folder,
                    quiet=True, imports=job.imports)  # fmt: skip
    if not run.finished:
        raise KeyboardInterrupt
    state, method = run.state(), run.method
    played = evaluate_method(method, state, problem, problem.evaluation_target, job.episodes)
    e = played.episodes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*problem.target.names, "return", "length", "fell", "forward", "success"])
    for i in range(len(e.returns)):
        row = [f"{v:.6g}" for v in e.parameters[i]]
        writer.writerow([
            *row, f"{e.returns[i]:.3f}", e.lengths[i], int(e.terminated[i]), f"{e.forward[i]:.4f}", int(e.success[i]),
        ])  # fmt: skip
    write_text(job.folder / EVALUATION, text.getvalue())
    if len(problem.target.grid) == 2:
        trained_in = method.trained_in(problem)
        write_text(job.folder / LANDSCAPE, from_episodes(problem.target, e, trained_in).csv())
    return {
        "score": played.mean,
        "source_steps": int(state.source_steps),
        "target_transitions": int(state.usage.transitions),
        "logged_transitions": run.config["log"]["transitions"] if run.config.get("log") else 0,
        "adaptation_transitions": int(played.adaptation.transitions),
    }


def compare(
    problem: Problem,
    methods: Sequence[str],
    *,
    seeds: int = 5,
    steps: int = 1_000_000,
    out: Path | str = "runs/comparison",
    episodes: int = 100,
    settings: dict[str, Any] | None = None,
    ceiling: bool = True,
    executor: Executor | None = None,
    imports: tuple[str, ...] = (),
    poll: Callable[[list[Path]], None] | None = None,
) -> Comparison:
    """Train every method on every seed and say what can be said.

    The floor `source_only` is always there; the ceiling `target_only` too, where the target can be
    stepped freely (it is given online access for that, whatever the problem's, and trains on the
    true reward, which the others do not see). Runs that are there already are not trained again.
    """
    from dataclasses import replace

    from isthmus.problems.problem import Access, Budget
    from isthmus.training.run import Run
    from isthmus.training.run_files import make_folder

    if not 1 <= seeds <= MAX_SEEDS:
        raise BadValue(f"seeds={seeds}: needs a whole number in 1..{MAX_SEEDS}")
    targets(
        problem.target, episodes, SEED
    )  # a wrong number is said before the training, as is all that follows
    names = list(dict.fromkeys([FLOOR, *methods]))
    if ceiling and CEILING not in names and problem.target.replayable:
        names.append(CEILING)
    folder = Path(out)
    ceiling_problem = replace(
        problem, target=problem.evaluation_target, access=Access.ONLINE, budget=Budget(), data=None
    )
    jobs = [
        Job(name, (ceiling_problem if name == CEILING else problem).describe(), seed, steps, _relevant(name, settings),
            folder / f"{name}-s{seed}", episodes, imports)
        for seed in range(seeds) for name in names
    ]  # fmt: skip
    for key in settings or {}:  # one that no method has would be dropped without a word
        if not any(key in job.settings for job in jobs):
            known = {
                k
                for name in names
                for k in registry.settings_of(registry.with_learner(name, settings))
            }
            raise UnknownName("setting of these methods", key, known)
    plans = {}
    for job in jobs:
        if job.method not in plans:
            plans[job.method] = Run.plan(
                job.method, Problem.from_data(job.problem), 0, steps, job.settings
            )
        if (job.folder / "run.json").exists():
            Run.open(job.folder).expect({**plans[job.method], "seed": job.seed})
    make_folder(folder, "--out")
    results: dict[int, dict[str, Any]] = {}
    show = (lambda: poll([job.folder for job in jobs])) if poll else None
    with ExitStack() as stack:
        for index, result in (executor or stack.enter_context(Processes())).map(
            run_job, jobs, show
        ):
            results[index] = result
    rows = []
    by_method = {
        name: [results[i] for i, job in enumerate(jobs) if job.method == name] for name in names
    }
    floor = [r["score"] for r in by_method[FLOOR]]
    for name in names:
        scores = [r["score"] for r in by_method[name]]
        e = statistics.interval(scores)
        # Unpaired: a seed is a draw of its own for each method, and nothing that two of them share.
        d = None if name == FLOOR else statistics.difference(scores, floor)
        first = by_method[name][0]
        rows.append(
            ComparisonRow(
                name, {FLOOR: "floor", CEILING: "ceiling"}.get(name, ""), scores, _finite(e.low), _finite(e.high),
                e.method, e.value, *((d.value, _finite(d.low), _finite(d.high)) if d else (None, None, None)),
                statistics.verdict(d) if d else "the floor", first["source_steps"], first["target_transitions"],
                first["logged_transitions"], first["adaptation_transitions"],
                [job.folder.name for job in jobs if job.method == name], plans[name]["settings"].get("learner", ""),
                d.method if d else "",
            )
        )  # fmt: skip
    comparison = Comparison(folder, problem.describe(), seeds, steps, episodes, rows)
    comparison.save()
    return comparison


def _relevant(method: str, settings: dict[str, Any] | None) -> dict[str, Any]:
    """The settings that this method has."""
    known = registry.settings_of(registry.with_learner(method, settings))
    return {k: v for k, v in (settings or {}).items() if k in known}


def _finite(x: float) -> Any:
    return (
        float(x) if np.isfinite(x) else None
    )  # JSON has no infinity; an interval from one seed is none
