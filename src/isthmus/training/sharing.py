"""Rounds whose parts an executor's workers do: `Method.shards`, `work` and `merge`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from isthmus.methods import registry
from isthmus.methods.method import Method, State
from isthmus.problems.problem import Access, Problem
from isthmus.tasks.imports import import_files
from isthmus.training.executor import Executor
from isthmus.types import BadValue, Metrics

PickledJob = tuple[tuple[str, ...], bytes]  # the user's modules, which come before the pickle


def check_shares_rounds(method: str, executor: Executor | None) -> None:
    """Raise BadValue where several workers would have nothing to share."""
    if executor is None or executor.workers == 1:
        return
    if registry.find_method(method).shares_rounds:
        return
    able = [name for name in registry.METHODS if registry.find_method(name).shares_rounds]
    raise BadValue(
        f"{method} does its rounds in one process, {' and '.join(able)} can share theirs out: "
        "leave out --workers and --executor (isthmus compare trains seeds side by side)"
    )


def check_opens(executor: Executor, problem: Problem, imports: tuple[str, ...]) -> None:
    """Have a worker open the problem before anything is made: raise what is wrong with workers, or
    unknown to them.
    """
    job = imports, pickle.dumps(_without_target(problem))
    for _ in executor.map(open_problem, [job]):
        pass


def open_problem(job: PickledJob) -> None:
    """Know a problem's source, in a worker. Raises UnknownName or BadValue where that cannot be."""
    imports, content = job
    import_files(imports)
    _ = pickle.loads(content).source.spaces


def shared_step(
    executor: Executor,
    method: Method[Any],
    problem: Problem,
    s: State,
    imports: tuple[str, ...] = (),
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[State, Metrics]:
    """Do `Method.step` by an executor's workers, who import the user's modules first.

    `on_part` hears how many parts ended. What goes to a worker can simulate, but not touch the
    target.
    """
    problem = _without_target(problem)
    jobs = [(imports, pickle.dumps((method, problem, shard))) for shard in method.shards(s)]
    return method.merge(s, _run_shards(executor, jobs, on_part))


def _run_shards(
    executor: Executor, jobs: Sequence[PickledJob], on_part: Callable[[int, int], None]
) -> list[Any]:
    """Return the jobs' results in their order, whichever ends first."""
    results: list[Any] = [None] * len(jobs)
    for done, (i, result) in enumerate(executor.map(run_shard, jobs), start=1):
        results[i] = result
        on_part(done, len(jobs))
    return results


def run_shard(job: PickledJob) -> Any:
    """Return a shard's result; the user's modules must be there before what they define is read."""
    imports, content = job
    import_files(imports)
    method, problem, shard = pickle.loads(content)
    return method.work(problem, shard)


def _without_target(problem: Problem) -> Problem:
    """Return the problem for what simulates, but may not touch the target."""
    return replace(problem, access=Access.NONE, data=None, ledger=None)
