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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.evaluate import SEED, draw_targets
from isthmus.methods import registry
from isthmus.problems.problem import Access, Budget, Problem
from isthmus.training.executor import Executor, Processes, check_shared
from isthmus.training.run import Run
from isthmus.training.run_files import make_folder, write_text
from isthmus.types import BadValue, Episodes, UnknownName

FLOOR, CEILING = "source_only", "target_only"
COMPARISON, EVALUATION, LANDSCAPE = "comparison.json", "evaluation.csv", "landscape.csv"
MAX_SEEDS = 1000


@dataclass(frozen=True)
class ComparisonRow:
    """One method's line: mean true return in the target per seed, what it took, and the difference
    from the floor.
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
    learner: str = ""  # what it learned by; older comparisons do not say, nor the next
    against_floor_interval: str = ""  # the kind of the difference's interval


@dataclass(frozen=True)
class Comparison:
    """Methods compared on one problem; the floor is the first row."""

    folder: Path
    problem: dict[str, Any]
    seeds: int
    steps: int
    episodes: int
    rows: list[ComparisonRow]

    @staticmethod
    def read(folder: Path) -> Comparison:
        """Read a comparison's folder; older files lack some fields of a row."""
        data = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
        rows = [ComparisonRow(**{"logged_transitions": 0, **row}) for row in data.pop("rows")]
        return Comparison(folder=folder, rows=rows, **data)

    @property
    def unlike(self) -> str:
        """Which methods do not learn by what the floor does, of which a difference is no transfer;
        else empty.
        """
        learner_of = {row.method: row.learner for row in self.rows}
        others: dict[str, list[str]] = {}
        for method, learner in learner_of.items():
            if learner and learner != learner_of.get(FLOOR):
                others.setdefault(learner, []).append(method)
        if not others:
            return ""
        by_learner = [f"{', '.join(methods)} by {learner}" for learner, methods in others.items()]
        setting = f"learner={next(iter(others))}" if len(others) == 1 else "learner=..."
        return (
            f"{FLOOR}, the floor, learned by {learner_of[FLOOR]}, {'; '.join(by_learner)}: give "
            f"both the same, --set {setting}, or compare them apart."
        )

    @property
    def intervals(self) -> str:
        """Which statistic the intervals are of; older comparisons, whose differences were paired,
        do not say.
        """
        kinds = [*filter(None, (row.against_floor_interval for row in self.rows)), "paired by seed"]
        return f"{self.rows[0].interval}; of differences: {kinds[0]}"

    def save(self) -> None:
        """Write `comparison.json`."""
        data = asdict(self)
        del data["folder"]
        write_text(self.folder / COMPARISON, json.dumps(data, indent=2) + "\n")


@dataclass(frozen=True)
class ComparisonJob:
    """One training of a comparison, as what a process needs for it."""

    method: str
    problem: dict[str, Any]
    seed: int
    steps: int
    settings: dict[str, Any]
    folder: Path
    episodes: int
    imports: tuple[str, ...]


class JobResult(NamedTuple):
    """What one training reached in the target, and what it took."""

    score: float
    source_steps: int
    target_transitions: int
    logged_transitions: int
    adaptation_transitions: int


def run_job(job: ComparisonJob) -> JobResult:
    """Train (or go on, or find it done), then play the deployed policy in the true target."""
    from isthmus.evaluation.evaluate import evaluate_method
    from isthmus.evaluation.landscape import make_landscape
    from isthmus.tasks.imports import import_files

    import_files(job.imports)
    check_shared(job.folder.parent)
    problem = Problem.from_data(job.problem)
    run = _ensure_trained(job, problem)
    state, method = run.state(), run.method
    evaluation = evaluate_method(method, state, problem, problem.evaluation_target, job.episodes)
    episodes = evaluation.episodes
    write_text(job.folder / EVALUATION, _format_episodes(problem.target.names, episodes))
    if len(problem.target.grid) == 2:
        landscape = make_landscape(problem.target, episodes, method.trained_in(problem))
        write_text(job.folder / LANDSCAPE, landscape.csv())
    log = run.config.get("log")
    return JobResult(
        score=evaluation.mean,
        source_steps=int(state.source_steps),
        target_transitions=int(state.usage.transitions),
        logged_transitions=log["transitions"] if log else 0,
        adaptation_transitions=int(evaluation.adaptation.transitions),
    )


def _ensure_trained(job: ComparisonJob, problem: Problem) -> Run:
    from isthmus.training.train import resume, train

    if (job.folder / "run.json").exists():
        run = Run.open(job.folder)
        if not run.finished:
            run = resume(job.folder, quiet=True)
    else:
        run = train(
            job.method,
            problem,
            seed=job.seed,
            steps=job.steps,
            settings=job.settings,
            out=job.folder,
            quiet=True,
            imports=job.imports,
        )
    if not run.finished:
        raise KeyboardInterrupt
    return run


def _format_episodes(parameters: Sequence[str], e: Episodes) -> str:
    """Return a CSV with a row an episode: its parameters, and what came of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*parameters, "return", "length", "fell", "forward", "success"])
    for i in range(len(e.returns)):
        writer.writerow(
            [
                *(f"{value:.6g}" for value in e.parameters[i]),
                f"{e.returns[i]:.3f}",
                e.lengths[i],
                int(e.terminated[i]),
                f"{e.forward[i]:.4f}",
                int(e.success[i]),
            ]
        )
    return text.getvalue()


def compare(  # noqa: PLR0913 (keywords of the public API)
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
    """Train every method on every seed and compare each with the floor.

    The floor `source_only` is always there; the ceiling `target_only` too, where the target can be
    stepped freely (it is given online access for that, whatever the problem's, and trains on the
    true reward, which the others do not see). Runs that are there already are not trained again.

    Raises BadValue and UnknownName for wrong arguments and for runs of another comparison, before
    anything is trained.
    """
    if not 1 <= seeds <= MAX_SEEDS:
        raise BadValue(f"seeds={seeds}: needs a whole number in 1..{MAX_SEEDS}")
    draw_targets(problem.target, episodes, SEED)  # raises for a wrong number
    folder, settings = Path(out), settings or {}
    jobs: list[ComparisonJob] = []
    for seed in range(seeds):
        for method in _list_methods(problem, methods, ceiling):
            jobs.append(
                ComparisonJob(
                    method,
                    _find_problem(method, problem).describe(),
                    seed,
                    steps,
                    _select_settings(method, settings),
                    folder / f"{method}-s{seed}",
                    episodes,
                    imports,
                )
            )
    _check_settings_are_used(settings, jobs)
    plans = _plan_jobs(jobs)
    make_folder(folder, "--out")
    results = _run_jobs(jobs, executor, poll)
    rows = []
    for method in results:
        learner = plans[method]["settings"].get("learner", "")
        runs = [f"{method}-s{seed}" for seed in range(seeds)]
        rows.append(_make_row(method, results, runs, learner))
    comparison = Comparison(folder, problem.describe(), seeds, steps, episodes, rows)
    comparison.save()
    return comparison


def _list_methods(problem: Problem, methods: Sequence[str], ceiling: bool) -> list[str]:
    """Return the floor, the methods, and the ceiling where the target can be stepped freely."""
    names = list(dict.fromkeys([FLOOR, *methods]))
    if ceiling and CEILING not in names and problem.target.replayable:
        names.append(CEILING)
    return names


def _find_problem(method: str, problem: Problem) -> Problem:
    """Return a method's problem: the ceiling's is the true target, to be stepped freely."""
    if method != CEILING:
        return problem
    target = problem.evaluation_target
    return replace(problem, target=target, access=Access.ONLINE, budget=Budget(), data=None)


def _select_settings(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that this method has."""
    known = registry.settings_of(registry.with_learner(method, settings))
    return {name: settings[name] for name in settings if name in known}


def _check_settings_are_used(settings: dict[str, Any], jobs: Sequence[ComparisonJob]) -> None:
    """Raise UnknownName for a setting that no method has, which would be dropped without a word."""
    used = set[str]().union(*(job.settings for job in jobs))
    for name in settings:
        if name not in used:
            known: set[str] = set()
            for method in {job.method for job in jobs}:
                known |= registry.settings_of(registry.with_learner(method, settings)).keys()
            raise UnknownName("setting of these methods", name, known)


def _plan_jobs(jobs: Sequence[ComparisonJob]) -> dict[str, dict[str, Any]]:
    """Return each method's plan; raises BadValue where a run that is there is of another one."""
    plans: dict[str, dict[str, Any]] = {}
    for job in jobs:
        if job.method not in plans:
            own_problem = Problem.from_data(job.problem)
            plans[job.method] = Run.plan(job.method, own_problem, 0, job.steps, job.settings)
        if (job.folder / "run.json").exists():
            Run.open(job.folder).expect({**plans[job.method], "seed": job.seed})
    return plans


def _run_jobs(
    jobs: Sequence[ComparisonJob],
    executor: Executor | None,
    poll: Callable[[list[Path]], None] | None,
) -> dict[str, list[JobResult]]:
    """Run all jobs and return their results by method, seed after seed."""

    def show() -> None:
        if poll:
            poll([job.folder for job in jobs])

    results: dict[int, JobResult] = {}
    with ExitStack() as stack:
        workers = executor or stack.enter_context(Processes())
        results.update(workers.map(run_job, jobs, show if poll else None))
    by_method: dict[str, list[JobResult]] = {}
    for i, job in enumerate(jobs):
        by_method.setdefault(job.method, []).append(results[i])
    return by_method


def _make_row(
    method: str, results: dict[str, list[JobResult]], runs: list[str], learner: str
) -> ComparisonRow:
    scores = [result.score for result in results[method]]
    interval = statistics.interval(scores)
    first = results[method][0]
    row = ComparisonRow(
        method=method,
        role={FLOOR: "floor", CEILING: "ceiling"}.get(method, ""),
        scores=scores,
        low=_finite_or_none(interval.low),
        high=_finite_or_none(interval.high),
        interval=interval.method,
        value=interval.value,
        against_floor=None,
        against_floor_low=None,
        against_floor_high=None,
        verdict="the floor",
        source_steps=first.source_steps,
        target_transitions=first.target_transitions,
        logged_transitions=first.logged_transitions,
        adaptation_transitions=first.adaptation_transitions,
        runs=runs,
        learner=learner,
    )
    if method == FLOOR:
        return row
    # Unpaired: a seed is a draw of its own for each method, and nothing that two of them share.
    floor = [result.score for result in results[FLOOR]]
    difference = statistics.difference(scores, floor)
    return replace(
        row,
        against_floor=difference.value,
        against_floor_low=_finite_or_none(difference.low),
        against_floor_high=_finite_or_none(difference.high),
        verdict=statistics.verdict(difference),
        against_floor_interval=difference.method,
    )


def _finite_or_none(x: float) -> Any:
    """Return None for what JSON does not have: an interval from one seed is infinite."""
    return float(x) if np.isfinite(x) else None
