"""Running a study's trials: train or go on, evaluate, write each trial's file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.domains.domain import Domain
from isthmus.evaluation.evaluate import Evaluation
from isthmus.problems.problem import Problem
from isthmus.studies.needed_runs import (
    is_available,
    is_finished,
    kept_path,
    name_checkpoint,
    open_needed,
)
from isthmus.studies.results import (
    Row,
    config_mismatches,
    list_cell_rows,
    measure_row,
    read_whole,
    write_results,
)
from isthmus.studies.scheduling import schedule
from isthmus.studies.study import Measure, measure_nothing
from isthmus.studies.trial import AnyTrial, Measurement, Trial
from isthmus.training.executor import Executor, check_shared
from isthmus.training.run import Run, versions
from isthmus.training.run_files import make_folder
from isthmus.types import BadValue

COUNTS = ("kind", "source_steps", "target_transitions")
"""Of an evaluation's line in metrics.jsonl; all else is what was measured."""


class TrialJob(NamedTuple):
    """What a process needs to run a trial: its folders and the study's own measure, too."""

    trial: AnyTrial
    results: Path
    runs: Path
    measure: Measure


def run_trials(
    trials: Sequence[AnyTrial],
    results: Path,
    runs: Path,
    executor: Executor,
    poll: Callable[[], None] | None = None,
    measure: Measure = measure_nothing,
) -> None:
    """Run the trials that have no file yet, first those whose runs others start from.

    Raises BadValue where a run that one starts from or is measured against is not what its own
    trial asks for, or what its own trial's file tells of.
    """
    make_folder(results, "--results")
    make_folder(runs, "--runs")
    waves = schedule(trials, results, runs)
    for trial in _list_needed(waves, trials):
        _check_needed(trial, results, runs)
    for wave in waves:
        jobs = [TrialJob(trial, results, runs, measure) for trial in wave]
        for _ in executor.map(run_trial, jobs, poll):
            pass
        _keep_starts(trials, results, runs)


def run_trial(job: TrialJob) -> str:
    """Train and evaluate, or measure, and write the trial's file. Where that is there, and others
    stand on a run that is not any more, only train; raises BadValue where other bits come of it
    than the file tells of.
    """
    for folder in (job.results, job.runs):
        check_shared(folder)
    trial, path = job.trial, job.results / f"{job.trial.name}.csv"
    start = time.monotonic()
    if isinstance(trial, Measurement):
        rows, meta = _take_measurement(trial)
    else:
        run, problem = ensure_trained(trial, job.results, job.runs)
        if path.exists():
            _check_same(run, path)
            return trial.name
        rows, meta = evaluate_trial(trial, run, problem, job)
    seconds = max(float(meta.get("wall_seconds", 0)), time.monotonic() - start)
    write_results(path, rows, meta | {"wall_seconds": f"{seconds:.0f}"})
    return trial.name


def _take_measurement(trial: Measurement) -> tuple[list[Row], dict[str, Any]]:
    measures = trial.function(trial.seed, **trial.given)
    rows = [measure_row(key, value) for key, value in measures.items()]
    return rows, {**versions(), "steps": trial.steps, "seed": trial.seed, **trial.given}


def ensure_trained(trial: Trial, results: Path, runs: Path) -> tuple[Run, Problem]:
    """Return a trial's training and its problem; one cut short goes on from its checkpoint."""
    from isthmus.problems.problem import make_problem
    from isthmus.training.train import resume, train

    folder = runs / trial.name
    data = ensure_log(trial, results, runs) if trial.log else None
    access = trial.access or ("dataset" if data else None)
    drawn = trial.uncertainty or None
    problem = make_problem(trial.problem, access=access, data=data, uncertainty=drawn)
    start = open_needed(trial.start, results, runs, trial.start_at) if trial.start else None
    if (folder / "run.json").exists():
        run = Run.open(folder)
        run.expect(Run.plan(trial.method, problem, trial.seed, trial.steps, trial.settings, start))
        if not run.finished:
            run = resume(folder, quiet=True)
    else:
        run = train(
            trial.method,
            problem,
            seed=trial.seed,
            steps=trial.steps,
            settings=trial.settings,
            start=start,
            out=folder,
            evaluations=trial.evaluations,
            evaluation_episodes=trial.evaluation_episodes,
            quiet=True,
        )
    if not run.finished:
        raise KeyboardInterrupt  # stopped by its user: saved, and no result yet
    return run, problem


def ensure_log(trial: Trial, results: Path, runs: Path) -> str:
    """Return the log that a trial learns from, as a problem's data; one that is made now is kept
    with the results.
    """
    from isthmus.problems.problem import make_problem

    run, problem = open_needed(str(trial.log), results, runs), make_problem(trial.problem)
    policy = run.digest[:12]  # one trained anew has another log
    target = re.sub("[^a-z0-9_.-]+", "-", trial.problem)
    name = f"{trial.log}-{policy}-in-{target}-{trial.log_steps}"
    path = runs / f"{name}.npz"
    if not path.exists():
        # Others of the same wave may be making it, too.
        own_path = path.with_name(f"{os.getpid()}-{path.name}")
        _make_log(trial, run, problem, own_path, kept_path(results, name))
        os.replace(own_path, path)
    return f"{path}{trial.log_size}"


def _make_log(trial: Trial, run: Run, problem: Problem, path: Path, kept: Path) -> None:
    """Write a log from what is kept of it, or by the run's policy, and keep that."""
    from isthmus.logs.read import read_log
    from isthmus.logs.write import write_log
    from isthmus.training.collect import log_target
    from isthmus.training.kept import keep_log, read_kept_log

    if kept.exists():
        write_log(path, *read_kept_log(kept), problem.target)
        return
    size = log_target(run, problem, path, trial.log_steps, seed=trial.seed).size
    if size < trial.log_steps:  # stopped by its user
        path.unlink()
        raise KeyboardInterrupt
    data = read_log(str(path), problem.target)
    keep_log(data.log, data.metadata, kept)


def evaluate_trial(
    trial: Trial, run: Run, problem: Problem, job: TrialJob
) -> tuple[list[Row], dict[str, Any]]:
    """Return what came of a training, as rows, and how it was made."""
    state, needed = run.state(), trial.beside or trial.start
    reference = open_needed(needed, job.results, job.runs) if needed else None
    rows = _list_curve_rows(run)
    rows += _evaluate_source(trial, run, state, problem)
    if not problem.evaluation_target.grid:  # its cells are what landscapes are for
        rows += _evaluate_target(trial, run, state, problem)
    rows += job.measure(run, reference)
    rows += _play_landscapes(trial, run, state, problem)
    return rows, _describe_training(trial, run, int(state.source_steps), job)


def _list_curve_rows(run: Run) -> list[Row]:
    rows = []
    for line in _select_lines(run, "evaluation"):
        x, y = line["source_steps"], line["target_transitions"]
        for key in line:
            if key not in COUNTS:
                rows.append(Row("curve", key, x, y, line[key]))
    return rows


def _select_lines(run: Run, kind: str) -> list[dict[str, Any]]:
    return [line for line in run.metrics() if line["kind"] == kind]


def _evaluate_source(trial: Trial, run: Run, state: Any, problem: Problem) -> list[Row]:
    from isthmus.evaluation.evaluate import evaluate

    if run.method.adapts:
        evaluation = _evaluate_deployed(trial, run, state, problem, problem.source)
    else:
        evaluation = evaluate(run.method.source_policy(state), problem.source, trial.episodes)
    return _list_final_rows("source", evaluation)


def _evaluate_target(trial: Trial, run: Run, state: Any, problem: Problem) -> list[Row]:
    evaluation = _evaluate_deployed(trial, run, state, problem, problem.evaluation_target)
    rows = _list_final_rows("target", evaluation)
    if run.method.adapts:
        transitions = int(evaluation.adaptation.transitions)
        rows.insert(0, Row("final", "adaptation_transitions", "", "", transitions))
    return rows


def _evaluate_deployed(
    trial: Trial, run: Run, state: Any, problem: Problem, domain: Domain
) -> Evaluation:
    from isthmus.evaluation.evaluate import evaluate_method

    return evaluate_method(run.method, state, problem, domain, trial.episodes)


def _list_final_rows(domain: str, evaluation: Evaluation) -> list[Row]:
    episodes = evaluation.episodes
    means = {
        "return": episodes.returns.mean(),
        "return_sd": episodes.returns.std(),
        "length": episodes.lengths.mean(),
        "forward": episodes.forward.mean(),
        "success": episodes.success.mean(),
    }
    return [Row("final", f"{domain}_{key}", "", "", f"{mean:.6g}") for key, mean in means.items()]


def _play_landscapes(trial: Trial, run: Run, state: Any, problem: Problem) -> list[Row]:
    from isthmus.evaluation.landscape import landscape, make_grid

    adapting = (run.method, state, problem) if run.method.adapts else None
    rows: list[Row] = []
    for key, settings in trial.landscapes.items():
        grid = make_grid(problem.evaluation_target, settings)
        result = landscape(run.policy, grid, trial.landscape_episodes, method=adapting)
        rows += list_cell_rows(key, result)
    return rows


def _describe_training(trial: Trial, run: Run, source_steps: int, job: TrialJob) -> dict[str, Any]:
    """Return what a trial's file records of how it was made."""
    seconds = 0
    for line in _select_lines(run, "round"):  # before an interruption too
        seconds += line["seconds"]
    start_at = {"start_at": trial.start_at} if trial.start_at else {}
    return {
        **run.config["versions"], "wall_seconds": seconds, "steps": trial.steps,
        "source_steps": source_steps, "start": trial.start or "", **start_at,
        "method": trial.method, "problem": trial.problem, "seed": trial.seed, **trial.logged,
        **trial.drawn, "settings": json.dumps(run.config["settings"], sort_keys=True),
        "needs": json.dumps(_list_needed_digests(trial, run, job)),
        "digest": run.digest,
    }  # fmt: skip


def _list_needed_digests(trial: Trial, run: Run, job: TrialJob) -> dict[str, str]:
    digests = {}
    for name in sorted(trial.needs):
        digests[name] = open_needed(name, job.results, job.runs).digest
    if trial.start and run.config.get("start_digest"):
        start = name_checkpoint(trial.start, trial.start_at)
        digests[start] = run.config["start_digest"]  # and not what lies there by now
    return digests


def _check_same(run: Run, path: Path) -> None:
    """Raise BadValue where a run is not the one that its trial's file tells of: what stands on it
    would be no pair of what stood on the other.
    """
    meta = read_whole(path, "digest").meta
    if run.digest == meta["digest"]:
        return
    why = ", ".join(_list_version_differences(run, meta)) or "another CPU or code"
    raise BadValue(
        f"{run.folder} has other bits than the run that {path} tells of ({why}), and others stand "
        "on it: run the study anew with --results and --runs elsewhere, or put back what that run "
        f"left, {kept_path(path.parent, path.stem)} (docs/guide/reproducibility.md)"
    )


def _list_version_differences(run: Run, meta: Mapping[str, Any]) -> list[str]:
    differences = []
    for name, version in run.config["versions"].items():
        if meta.get(name, version) != version:
            differences.append(f"{name} {version or 'unset'} instead of {meta[name] or 'unset'}")
    return differences


def _list_needed(waves: list[list[AnyTrial]], trials: Sequence[AnyTrial]) -> list[AnyTrial]:
    """Return, by name, the trials whose runs those of the waves need."""
    needed: set[str] = set()
    for wave in waves:
        needed = needed.union(*(trial.needs for trial in wave))
    needed_trials = [trial for trial in trials if trial.name in needed]
    return sorted(needed_trials, key=lambda trial: trial.name)


def _check_needed(trial: AnyTrial, results: Path, runs: Path) -> None:
    """Raise BadValue, before anything is trained, where the run that others need of a trial is not
    what the trial asks for, or not what its file tells of.
    """
    path = results / f"{trial.name}.csv"
    run = None
    if is_available(trial.name, results, runs):
        run = open_needed(trial.name, results, runs)
        config = {name: value for name, value in run.config.items() if name != "problem"}
        if mismatches := config_mismatches(trial, config):
            raise BadValue(
                f"{run.folder} was made with {', '.join(mismatches)}, and others start from it; "
                "remove it"
            )
    if path.exists():
        if mismatches := config_mismatches(trial, read_whole(path, "digest").meta):
            raise BadValue(
                f"{path} was made with {', '.join(mismatches)}, and others stand on what it was; "
                "remove it"
            )
        if run:
            _check_same(run, path)


def _keep_starts(trials: Iterable[AnyTrial], results: Path, runs: Path) -> None:
    """Keep, with the results, what others of a study start from: these runs' bits cannot be had on
    another machine.
    """
    from isthmus.training.kept import keep_run

    for name, at in sorted(_list_starts(trials)):
        is_done = (results / f"{name}.csv").exists() and is_finished(name, runs)
        kept = kept_path(results, name_checkpoint(name, at))
        if is_done and not kept.exists():
            with suppress(BadValue):  # of a method that is more than a learner nothing can be kept
                keep_run(open_needed(name, results, runs, at), kept)


def _list_starts(trials: Iterable[AnyTrial]) -> set[tuple[str, str]]:
    """Return the names of trials that others start from or learn a log of, each with the checkpoint
    that they take.
    """
    starts: set[tuple[str, str]] = set()
    for trial in trials:
        if isinstance(trial, Measurement):
            continue
        if trial.log:
            starts.add((trial.log, ""))
        if trial.start:
            starts |= {(trial.start, ""), (trial.start, trial.start_at)}
    return starts
