"""ES-MAML: a whole generation shared by two processes, against bare physics of its worlds and
against two Ray workers.

python benchmarks/es_generation.py          a small generation, for a quick look
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from bare import Bare, sizes
from measure import Row, alternate, console, table, timed

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_steps
from isthmus.methods import operators
from isthmus.methods.es_maml import ESMAML
from isthmus.methods.method import State
from isthmus.problems.problem import make_problem
from isthmus.training.checkpoint import digest
from isthmus.training.executor import Executor, Processes
from isthmus.training.ray import Ray
from isthmus.training.train import shared_step
from isthmus.types import Transition, Worlds


@dataclass(frozen=True)
class Sizes:
    method: ESMAML = field(
        default_factory=lambda: ESMAML(pairs=32)
    )  # 64 evaluations of 3 x 4,096 steps
    problem: str = "hopper-es-sim2real"
    workers: int = 2
    pairs: int = 5


SMALL = Sizes(ESMAML(pairs=8, adaptation_steps=128), pairs=3)


def compare(size: Sizes) -> Iterator[Row]:
    with Processes(size.workers) as processes, Ray(size.workers) as ray:
        yield from measured(size, processes, ray)


def measured(size: Sizes, processes: Executor, ray: Executor | None) -> Iterator[Row]:
    method, problem = size.method, make_problem(size.problem, access="few_shot")
    first = method.init(problem, seed=0)
    work, after = collected(lambda: method.step(problem, first)[0])
    expected, count = digest(after), int(after.source_steps - first.source_steps)

    def generation(executor: Executor) -> Callable[[], float]:
        """Steps a second; the same generation each time, which begins as `first` and must end as it
        did here.
        """

        def turn() -> float:
            seconds, (s, _) = timed(lambda: shared_step(executor, method, problem, first))
            if digest(s) != expected:
                raise RuntimeError(
                    "workers did other work than one process: the generation ended elsewhere"
                )
            return count / seconds

        turn()  # imports and compiles
        return turn

    def physics() -> float:
        """What the members learned from, repeated bare; a batch after the other, on all threads."""
        seconds, steps = 0.0, 0
        for domain, before, tr, end in work:
            bare = Bare(domain, before)
            resets = bare.prepare(before, tr)
            seconds += timed(lambda: bare.run(tr.action, resets))[0]
            bare.check(end)
            steps += tr.reward.size
        return steps / seconds

    sides = [generation(processes), physics, *([generation(ray)] if ray else [])]
    ours, bare, *clustered = alternate("ES-MAML, a generation", size.pairs, *sides)
    what = (
        f"{2 * method.pairs} evaluations x {method.updates} x "
        f"{method.adaptation_worlds * method.adaptation_steps}"
    )
    common: dict[str, Any] = sizes(
        problem.randomized_source,
        method.adaptation_worlds,
        members=2 * method.pairs,
        updates=method.updates,
        steps=method.adaptation_steps,
        workers=size.workers,
        pairs=size.pairs,
    )
    work_done = f"ES-MAML, one generation, Hopper, {what} steps, {size.workers} processes"
    yield Row(work_done, "bare physics of the same worlds", 0.6, "steps", ours, bare, 0.75, common)
    for theirs in clustered:
        on_ray = f"ES-MAML, the same generation, {size.workers} Ray workers"
        yield Row(on_ray, f"{size.workers} processes", 0.9, "steps", theirs, ours, None, common)


Collected = tuple[Domain, Worlds, Transition, Worlds]  # where, from, what, to


def collected(step: Callable[[], State]) -> tuple[list[Collected], State]:
    """What a generation's members collect to learn from, and the state after it."""
    found: list[Collected] = []

    def recorded(
        domain: Domain, worlds: Worlds, *more: Any, **named: Any
    ) -> tuple[Worlds, Transition]:
        after, tr = rollout_steps(domain, worlds, *more, **named)
        found.append((domain, worlds, tr, after))
        return after, tr

    with mock.patch.object(operators, "rollout_steps", recorded):
        return found, step()


if __name__ == "__main__":
    console.print(table(list(compare(SMALL))))
