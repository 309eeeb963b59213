"""The training loop, once for all methods: progress, metrics, evaluation, checkpoints, signals,
resume.

state = method.init(problem, seed)
while steps are left:
    state, metrics = method.step(problem, state)        or its shards on an executor's workers, and their merge
    log; evaluate and save when due
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.evaluation.evaluate import SEED
from isthmus.logs.checks import warn_if_small
from isthmus.methods import registry
from isthmus.methods.es_maml import Evolution
from isthmus.methods.single_domain import DomainRandomization
from isthmus.physics.concurrency import check_jax_survived
from isthmus.problems.problem import Access, Problem, make_problem
from isthmus.tasks.imports import import_files
from isthmus.training import checkpoint
from isthmus.training.best import BestCheckpoint
from isthmus.training.executor import Executor
from isthmus.training.progress import Progress
from isthmus.training.run import Run, RunError, versions, write_text
from isthmus.types import BadValue, BudgetExceeded, Metrics, Worlds

SAVE_SECONDS = 20.0
EVALUATIONS = 10  # a run, evenly spaced in steps, besides that of the initial policy
EVALUATION_EPISODES = 16


def train(
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
    """Train a method on a problem, or on what its text says (`hopper/gravity=x2`); the finished
    run.

    `steps` counts all environment steps, of source and target; `settings` changes the method's
    (`{"learner.learning_rate": 1e-3}`); `start` is a run whose learner to begin from, `RUN@best` as
    it was at its best evaluation in the source. `evaluations` on the way, besides that of the
    initial policy, are 10 if nothing is said, of `evaluation_episodes` each, 16. Ctrl-C saves and
    stops. On an `executor` the rounds of a method that can share them out are done by its workers,
    to the same bits.
    """
    check_jax_survived()
    _check_spreads(method, executor)
    problem = make_problem(problem) if isinstance(problem, str) else problem
    begun = start if isinstance(start, Run) or start is None else Run.open(start)
    if begun:
        _ = begun.digest  # raises where nothing good is left of it
    config = Run.plan(method, problem, seed, steps, settings or {}, begun, imports)
    randomizes = issubclass(registry.find_method(method), DomainRandomization | Evolution)
    if randomizes and problem.randomized_source == problem.source and not quiet:
        Progress.note(
            "this problem has no uncertainty: nothing is randomized; say what you believe, "
            "--uncertainty ..."
        )
    for note in (
        (*problem.dataset.notes, *warn_if_small(problem.log()))
        if config["log"] and not quiet
        else ()
    ):
        Progress.note(note)
    if not quiet:
        _note_left_out(problem)
    if executor:
        _check_workers(executor, problem, imports)
    config["evaluations"] = evaluations or EVALUATIONS
    config["evaluation_episodes"] = evaluation_episodes or EVALUATION_EPISODES
    run = Run.create(Path(out), config) if out else Run.create_under(Path("runs"), config, problem)
    try:
        return _loop(run, None, {}, quiet, executor, imports)
    except (RunError, checkpoint.CheckpointError):  # the disk's: once it is mended, resume goes on
        raise
    except (
        Exception
    ):  # before the first checkpoint, a folder left behind would be in the way of the right command
        run.discard()
        raise


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
    _check_spreads(run.name, executor)
    run.check_log()
    state, extra, notes = run.restore() if run.begun else (None, {}, [])
    told = Progress.note if not quiet else lambda text: None
    for note in notes:
        told(note)
    run.problem.ready()
    now = versions(run.problem.source.engine, run.problem.target.engine)
    was = run.config["versions"]
    told_of = lambda found, k: found.get(k, "not recorded") or "unset"
    if changed := [
        f"{k} {told_of(was, k)}, now {told_of(now, k)}"
        for k in was | now
        if was.get(k) != now.get(k)
    ]:
        told(f"made with {'; '.join(changed)}: its bits may differ from here on")
    return _loop(run, state, extra, quiet, executor, imports)


def counters(s: Any) -> dict[str, int]:
    return {"source_steps": int(s.source_steps), "target_transitions": int(s.usage.transitions)}


def _check_spreads(method: str, executor: Executor | None) -> None:
    if executor and executor.workers > 1 and not hasattr(registry.find_method(method), "shards"):
        able = [name for name in registry.METHODS if hasattr(registry.find_method(name), "shards")]
        raise BadValue(
            f"{method} does its rounds in one process, {' and '.join(able)} can share theirs out: "
            "leave out --workers "
            "and --executor (isthmus compare trains seeds side by side)"
        )


def _check_workers(executor: Executor, problem: Problem, imports: tuple[str, ...]) -> None:
    """Have a worker open the problem before anything is made: raise what is wrong with workers, or
    unknown to them.
    """
    job = (imports, pickle.dumps(replace(problem, access=Access.NONE, data=None, ledger=None)))
    for _ in executor.map(open_problem, [job]):
        pass


def open_problem(job: tuple[tuple[str, ...], bytes]) -> None:
    """Know a problem's source, in a worker. Raises UnknownName or BadValue where that cannot be."""
    imports, content = job
    import_files(imports)
    _ = pickle.loads(content).source.spaces


def shared_step(
    executor: Executor,
    method: Any,
    problem: Problem,
    s: Any,
    imports: tuple[str, ...] = (),
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Any, Metrics]:
    """`Method.step` by an executor's workers, who import the user's modules first; `tell` hears how
    many parts ended.

    What goes to a worker can simulate, but not touch the target.
    """
    problem = replace(problem, access=Access.NONE, data=None, ledger=None)
    shards = method.shards(s)
    jobs = [(imports, pickle.dumps((method, problem, shard))) for shard in shards]
    results: dict[int, Any] = {}
    for i, result in executor.map(run_shard, jobs):
        results[i] = result
        tell(len(results), len(jobs))
    return method.merge(s, [results[i] for i in range(len(jobs))])


def run_shard(job: tuple[tuple[str, ...], bytes]) -> Any:
    """A shard's result; the user's modules must be there before what they define is read."""
    imports, content = job
    import_files(imports)
    method, problem, shard = pickle.loads(content)
    return method.work(problem, shard)


def _note_left_out(problem: Problem) -> None:
    """Print what the engines of source and target leave out of the robot, each line once."""
    for line in dict.fromkeys([*problem.source.left_out(), *problem.target.left_out()]):
        Progress.note(line)


def _loop(
    run: Run,
    state: Any,
    extra: dict[str, Any],
    quiet: bool,
    executor: Executor | None,
    imports: tuple[str, ...],
) -> Run:
    method, problem, wanted = run.method, run.problem, run.config.get("evaluations", EVALUATIONS)
    spread = executor if hasattr(method, "shards") else None
    log = MetricsLog(run.folder / "metrics.jsonl", extra.get("metrics_offset", 0))
    with Progress(run, quiet) as progress, stop_requested() as stop:
        if state is None:
            state = run.initial()
        evaluations = extra.get("evaluations", 0)
        best = BestCheckpoint(run.folder, extra.get("best"))
        seen = _divergences(state)
        saved = time.monotonic()

        def save() -> None:
            nonlocal saved
            record = {
                "phase": int(state.phase), "metrics_offset": log.sync(), "evaluations": evaluations,
                "best": best.record, **counters(state),
            }  # fmt: skip
            checkpoint.save(
                best.newest,
                state,
                extra=record,
                name=sum(counters(state).values()),
                beside=best.folder,
            )
            best.forget_former()
            saved = time.monotonic()

        def tell(now: dict[str, int]) -> None:
            scores = _evaluate(
                method, state, problem, run.config.get("evaluation_episodes", EVALUATION_EPISODES)
            )
            log.write("evaluation", {**now, **scores})
            best.offer(state, {"phase": int(state.phase), **now}, sum(now.values()), scores)
            progress.evaluated(now, scores)

        if not extra:
            tell(counters(state))
            save()
        while (done := sum(counters(state).values())) < run.steps and not stop():
            began = time.monotonic()
            try:
                if spread:
                    state, metrics = shared_step(
                        spread, method, problem, state, imports, progress.part
                    )
                else:
                    state, metrics = method.step(problem, state)
            except BudgetExceeded as error:
                save()
                raise BudgetExceeded(
                    f"{error}; what was learned is saved: isthmus evaluate {run.folder}"
                ) from None
            now = counters(state)
            log.write("round", {**now, **metrics, "seconds": time.monotonic() - began})
            progress.update(sum(now.values()), now, metrics)
            seen = _keep_divergences(run.folder, state, seen, progress)
            if sum(now.values()) * wanted >= (evaluations + 1) * run.steps:
                evaluations = sum(now.values()) * wanted // run.steps
                tell(now)
            if time.monotonic() - saved > SAVE_SECONDS or sum(now.values()) >= run.steps:
                save()
        random = getattr(
            getattr(method, "learner", None), "random_steps", 0
        )  # SAC's, but of a policy that was there
        took = int(state.source_steps) or int(state.usage.transitions)
        if done >= run.steps > 0 and int(state.round) == 0 and not quiet:
            progress.note(
                f"nothing was learned: all {done:,} steps were the first, random rollout; ask for "
                "more --steps"
            )
        elif done >= run.steps > 0 and not run.config["start"] and took < random and not quiet:
            progress.note(
                f"nothing was learned: SAC acts at random for its first {random:,} steps; ask for "
                "more --steps, or for fewer --set learner.random_steps"
            )
        elif (
            done >= run.steps
            and int(state.phase) == 0
            and hasattr(method, "pretraining")
            and not quiet
        ):
            progress.note(
                f"all {done:,} steps went into the first phase, in the source, and none into what "
                "follows it: "
                f"ask for more --steps, or for less --set pretraining={method.pretraining}"
            )
        if done < run.steps:
            save()
            progress.stopped()
            return run
    path, _ = run.checkpoint()
    write_text(
        run.folder / "finished.json",
        json.dumps({"digest": checkpoint.digest(path), **counters(state)}) + "\n",
    )
    return run


def _evaluate(method: Any, state: Any, problem: Problem, episodes: int) -> dict[str, float]:
    """Returns in the source and the true target, outside every book: evaluation is metered apart,
    and selects nothing but the best checkpoint, by the source's return alone.

    A target that cannot be replayed is not touched here: only `isthmus evaluate` does, when its
    user says so.
    """
    out: dict[str, float] = {}
    for name, domain, policy in (
        ("source", problem.source, method.source_policy(state)), ("target", problem.evaluation_target, method.policy(state))
    ):  # fmt: skip
        if domain.replayable:
            # A grid's cells are drawn, not visited: the curve is a sketch of what `landscape`
            # measures.
            worlds = domain.worlds(episodes, SEED + 1)
            from isthmus.domains.rollout import rollout_episodes

            played = rollout_episodes(domain, worlds, policy)
            out[f"{name}_return"] = float(played.returns.mean())
            out[f"{name}_length"] = float(played.lengths.mean())
            out[f"{name}_forward"] = float(played.forward.mean())
            out[f"{name}_success"] = float(played.success.mean())
    return out


def _worlds(state: Any) -> list[Worlds]:
    import jax

    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Worlds))
    return [leaf for leaf in leaves if isinstance(leaf, Worlds)]


def _divergences(state: Any) -> int:
    return sum(int(w.diverged.sum()) for w in _worlds(state))


def _keep_divergences(folder: Path, state: Any, seen: int, progress: Progress) -> int:
    """Save the last finite states of worlds that diverged, for somebody to look at."""
    now = _divergences(state)
    if now > seen:
        worlds = [w for w in _worlds(state) if w.diverged.any()]
        target = folder / "diverged"
        try:
            target.mkdir(exist_ok=True)
            for i, w in enumerate(worlds):
                which = w.diverged > 0
                np.savez(
                    target / f"{i}.npz",
                    rows=w.diverged_rows[which],
                    times=w.diverged[which],
                    key=w.key[which],
                )
        except OSError as error:
            raise RunError(
                f"cannot write {target}: {error.strerror}; mend the folder, then resume the run"
            ) from None
        progress.note(
            f"{now - seen} worlds diverged and began anew; their last states are in {target}"
        )
    return now  # fewer than before where a phase began with fresh worlds


class MetricsLog:
    """metrics.jsonl, cut to the checkpoint's offset on resume, so that no round is told twice."""

    def __init__(self, path: Path, offset: int):
        self.path = path
        try:
            with path.open("ab") as file:
                file.truncate(
                    min(offset, file.tell())
                )  # where the file was lost, zeros would not bring it back
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None

    def write(self, kind: str, values: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, **{k: _short(v) for k, v in values.items()}})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> RunError:
        return RunError(
            f"cannot write {self.path}: {error.strerror}; the last checkpoint is good: make room, "
            "resume"
        )

    def sync(self) -> int:
        """Force it to the disk; its length in bytes."""
        try:
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise self._refused(error) from None


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


@contextmanager
def stop_requested() -> Iterator[Any]:
    """A function that says whether Ctrl-C or SIGTERM came; a second Ctrl-C interrupts at once."""
    asked: list[int] = []  # a list, for a lock could be held where a signal arrives
    if threading.current_thread() is not threading.main_thread():
        yield lambda: bool(asked)
        return

    def handler(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, old in before.items():
            signal.signal(number, old)
