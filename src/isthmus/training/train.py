"""The training loop, once for all methods: progress, metrics, evaluation, checkpoints, signals,
resume.

state = method.init(problem, seed)
while steps are left:
    state, metrics = method.step(problem, state)    or its shards, on an executor's workers
    log; evaluate and save when due
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from isthmus.domains.rollout import rollout_episodes
from isthmus.evaluation.evaluate import SEED
from isthmus.methods import registry
from isthmus.methods.method import Method, State
from isthmus.physics.concurrency import check_jax_survived
from isthmus.problems.problem import Problem, make_problem
from isthmus.training import checkpoint
from isthmus.training.advice import advise_after, advise_before
from isthmus.training.best import BestCheckpoint
from isthmus.training.divergence import DivergenceLog
from isthmus.training.executor import Executor
from isthmus.training.metrics_log import MetricsLog
from isthmus.training.models import check_models
from isthmus.training.progress import Progress
from isthmus.training.run import RestoredRun, Run, versions
from isthmus.training.run_files import RunError, write_text
from isthmus.training.sharing import check_opens, check_shares_rounds, shared_step
from isthmus.training.signals import stop_requested
from isthmus.types import BadValue, BudgetExceeded, Metrics

SAVE_SECONDS = 20.0
EVALUATIONS = 10  # a run, evenly spaced in steps, besides that of the initial policy
EVALUATION_EPISODES = 16


def train(  # noqa: PLR0913 (keywords of the public API)
    method: str,
    problem: Problem | str,
    *,
    seed: int = 0,
    steps: int = 1_000_000,
    out: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    start: Run | Path | str | None = None,
    imports: tuple[str, ...] = (),
    evaluations: int | None = None,
    evaluation_episodes: int | None = None,
    quiet: bool = False,
    executor: Executor | None = None,
) -> Run:
    """Train a method on a problem, or on what its text says (`hopper/gravity=x2`); return the
    finished run.

    `steps` counts all environment steps, of source and target; `settings` changes the method's
    (`{"learner.learning_rate": 1e-3}`); `start` is a run whose learner to begin from, `RUN@best` as
    it was at its best evaluation in the source. `evaluations` on the way, besides that of the
    initial policy, are 10 if nothing is said, of `evaluation_episodes` each, 16. Ctrl-C saves and
    stops. On an `executor` the rounds of a method that can share them out are done by its workers,
    to the same bits.
    """
    check_jax_survived()
    check_shares_rounds(method, executor)
    if isinstance(problem, str):
        problem = make_problem(problem)
    started = _open_start(start)
    config = Run.plan(method, problem, seed, steps, settings or {}, started, imports)
    config["evaluations"] = evaluations or EVALUATIONS
    config["evaluation_episodes"] = evaluation_episodes or EVALUATION_EPISODES
    if not quiet:
        _print_notes(advise_before(registry.find_method(method), problem, bool(config["log"])))
    if executor:
        check_opens(executor, problem, imports)
    run = Run.create(Path(out), config) if out else Run.create_under(Path("runs"), config, problem)
    try:
        return _loop(run, None, quiet, executor, imports)
    except (RunError, checkpoint.CheckpointError):  # the disk's: once it is mended, resume goes on
        raise
    except Exception:
        # Before the first checkpoint, a folder left behind would be in the way of the right
        # command.
        run.discard()
        raise


def _open_start(start: Run | Path | str | None) -> Run | None:
    """Open a run to start from. Raises CheckpointError where nothing good is left of it."""
    if isinstance(start, Path | str):
        start = Run.open(start)
    if start:
        _ = start.digest
    return start


def resume(
    folder: Path | str,
    quiet: bool = False,
    executor: Executor | None = None,
    imports: tuple[str, ...] = (),
) -> Run:
    """Go on with a run from its newest good checkpoint; it ends with the bits of one that was never
    stopped.

    `imports` are the user's modules, of which an executor's workers know nothing yet.
    """
    check_jax_survived()
    run = Run.open(folder)
    if run.which:
        raise BadValue(
            f"a run goes on from its newest checkpoint: leave out @best, or begin another, --start "
            f"{folder}"
        )
    check_shares_rounds(run.name, executor)
    run.check_log()
    check_models(run)
    restored = run.restore() if run.begun else None
    if restored and not quiet:
        _print_notes(restored.notes)
    run.problem.ready()
    now = versions(run.problem.source.engine, run.problem.target.engine)
    was = run.config["versions"]
    if not quiet:
        _print_notes(_describe_changes(was, now))
    return _loop(run, restored, quiet, executor, imports)


def _print_notes(lines: Iterable[str]) -> None:
    for line in lines:
        Progress.note(line)


def _describe_changes(was: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return a line on versions that are not those that a run was made with; none where all are."""
    changed = []
    for name in was | now:
        former, current = was.get(name, "not recorded"), now.get(name, "not recorded")
        if former != current:
            changed.append(f"{name} {former or 'unset'}, now {current or 'unset'}")
    if not changed:
        return []
    return [f"made with {'; '.join(changed)}: its bits may differ from here on"]


def read_counters(s: State) -> dict[str, int]:
    """Return the steps that a run took, of source and target, by their names in metrics.jsonl."""
    return {"source_steps": int(s.source_steps), "target_transitions": int(s.usage.transitions)}


def _count_steps(s: State) -> int:
    return sum(read_counters(s).values())


def _loop(
    run: Run,
    restored: RestoredRun | None,
    quiet: bool,
    executor: Executor | None,
    imports: tuple[str, ...],
) -> Run:
    """Train a run to its end, or until it is asked to stop; `restored` is where it goes on."""
    progress = Progress(run, quiet)
    step = _choose_step(run, executor, imports, progress)
    recorder = Recorder(run, restored.extra if restored else {}, progress)
    with progress, stop_requested() as stop:
        if restored:
            state = restored.state
        else:
            state = run.initial()
            recorder.evaluate(state)
            recorder.save(state)
        divergences = DivergenceLog(run.folder, state)
        while _count_steps(state) < run.steps and not stop():
            began = time.monotonic()
            try:
                state, metrics = step(state)
            except BudgetExceeded as error:
                recorder.save(state)
                raise BudgetExceeded(
                    f"{error}; what was learned is saved: isthmus evaluate {run.folder}"
                ) from None
            recorder.record_round(state, metrics, time.monotonic() - began)
            _print_notes(divergences.update(state))
            recorder.evaluate_if_due(state)
            recorder.save_if_due(state)
        steps = _count_steps(state)
        if steps < run.steps:
            recorder.save(state)
            progress.show_stop()
            return run
        if not quiet:
            _print_notes(advise_after(run, state, steps))
    _finish(run, state)
    return run


def _choose_step(
    run: Run, executor: Executor | None, imports: tuple[str, ...], progress: Progress
) -> Callable[[State], tuple[State, Metrics]]:
    """Return what does a round: the method, or an executor's workers where it can be shared."""
    method, problem = run.method, run.problem
    if executor and method.shares_rounds:
        return lambda state: shared_step(
            executor, method, problem, state, imports, progress.show_part
        )
    return lambda state: method.step(problem, state)


def _finish(run: Run, state: State) -> None:
    """Write the final digest and counters."""
    path, _ = run.checkpoint()
    finished = {"digest": checkpoint.digest(path), **read_counters(state)}
    write_text(run.folder / "finished.json", json.dumps(finished) + "\n")


class Recorder:
    """What a run leaves behind while it trains: metrics.jsonl, checkpoints, and the best one by its
    evaluations. `extra` is the checkpoint's that the run goes on from.
    """

    def __init__(self, run: Run, extra: dict[str, Any], progress: Progress):
        self.run, self.progress = run, progress
        self.metrics_log = MetricsLog(run.folder / "metrics.jsonl", extra.get("metrics_offset", 0))
        self.best = BestCheckpoint(run.folder, extra.get("best"))
        self.evaluations: int = extra.get("evaluations", 0)  # that were due
        self.last_save = time.monotonic()

    def record_round(self, state: State, metrics: Metrics, seconds: float) -> None:
        """Write a round's line, and move the progress bar."""
        counters = read_counters(state)
        self.metrics_log.write("round", {**counters, **metrics, "seconds": seconds})
        self.progress.update(sum(counters.values()), metrics)

    def evaluate_if_due(self, state: State) -> None:
        """Evaluate where the steps have passed another of the evenly spaced evaluations."""
        wanted, steps = self.run.config.get("evaluations", EVALUATIONS), _count_steps(state)
        if steps * wanted >= (self.evaluations + 1) * self.run.steps:
            self.evaluations = steps * wanted // self.run.steps
            self.evaluate(state)

    def evaluate(self, state: State) -> None:
        """Evaluate, write the evaluation's line, and keep the state where it is the best."""
        counters = read_counters(state)
        episodes = self.run.config.get("evaluation_episodes", EVALUATION_EPISODES)
        scores = _evaluate(self.run.method, state, self.run.problem, episodes)
        self.metrics_log.write("evaluation", {**counters, **scores})
        extra = {"phase": int(state.phase), **counters}
        self.best.offer(state, extra, sum(counters.values()), scores)
        self.progress.show_scores(counters, scores)

    def save_if_due(self, state: State) -> None:
        """Save where the last save is long ago, and at the end."""
        ended = _count_steps(state) >= self.run.steps
        if ended or time.monotonic() - self.last_save > SAVE_SECONDS:
            self.save(state)

    def save(self, state: State) -> None:
        """Save a checkpoint. Raises CheckpointError or RunError where the disk refuses."""
        extra = {
            "phase": int(state.phase),
            "metrics_offset": self.metrics_log.sync(),
            "evaluations": self.evaluations,
            "best": self.best.record,
            **read_counters(state),
        }
        checkpoint.save(
            self.best.newest,
            state,
            extra=extra,
            name=_count_steps(state),
            beside=self.best.folder,
        )
        self.best.forget_former()
        self.last_save = time.monotonic()


def _evaluate(
    method: Method[Any], state: State, problem: Problem, episodes: int
) -> dict[str, float]:
    """Return scores in the source and the true target, outside every count: evaluation is metered
    apart, and selects nothing but the best checkpoint, by the source's return alone.

    A target that cannot be replayed is not touched here: only `isthmus evaluate` does, when its
    user says so.
    """
    scores: dict[str, float] = {}
    for name, domain, policy in (
        ("source", problem.source, method.source_policy(state)),
        ("target", problem.evaluation_target, method.policy(state)),
    ):
        if not domain.replayable:
            continue
        # A grid's cells are drawn, not visited: the curve is a sketch of what `landscape` measures.
        worlds = domain.worlds(episodes, SEED + 1)
        played = rollout_episodes(domain, worlds, policy)
        scores[f"{name}_return"] = float(played.returns.mean())
        scores[f"{name}_length"] = float(played.lengths.mean())
        scores[f"{name}_forward"] = float(played.forward.mean())
        scores[f"{name}_success"] = float(played.success.mean())
    return scores
