"""MATL: whole rounds of its box against the bare physics of the worlds that they step, of source
and target.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock

from bare import Bare, Resets, sizes
from measure import Row, alternate, timed

from isthmus.domains import rollout as collecting
from isthmus.domains.domain import Domain
from isthmus.methods import matl
from isthmus.methods.method import State
from isthmus.problems.problem import make_problem
from isthmus.types import Array, Transition, Worlds

Collected = tuple[Domain, Worlds, Transition]  # where, from, what


@dataclass(frozen=True)
class Sizes:
    method: matl.MATL = field(default_factory=matl.MATL)  # as it comes: M = 10
    problems: tuple[tuple[str, float], ...] = (
        ("matl-cartpole-sparse", 0.4),
        ("matl-hopper-uninformative", 0.6),
    )
    rounds: int = 1  # a turn
    pairs: int = 15


class Rounds:
    """One problem's training, and the physics in it."""

    def __init__(self, method: matl.MATL, problem: str, rounds: int):
        self.method, self.problem, self.rounds = method, make_problem(problem), rounds
        self.state, _ = self.method.step(
            self.problem, self.method.init(self.problem, seed=0)
        )  # compiles
        self.before: list[State] = []  # each round of the last turn
        worlds = self.state.worlds
        self.bare = [
            Bare(self.problem.source, worlds.source),
            Bare(self.problem.target, worlds.target),
        ]
        n, steps = method.learner.rollout_shape
        self.count = rounds * (method.inner + 2) * n * steps

    def ours(self) -> float:
        """Steps a second."""
        self.before.clear()
        return self.count / timed(self._train)[0]

    def _train(self) -> None:
        for _ in range(self.rounds):
            self.before.append(self.state)
            self.state, _ = self.method.step(self.problem, self.state)

    def physics(self) -> float:
        """What the turn of ours moved, trained once more to know it, and repeated bare."""
        found: list[Collected] = []

        def recorded(domain: Domain, worlds: Worlds, *more, **named) -> tuple[Worlds, Transition]:
            after, tr = collect(domain, worlds, *more, **named)
            found.append((domain, worlds, tr))
            return after, tr

        collect = collecting.rollout_steps
        with (
            mock.patch.object(collecting, "rollout_steps", recorded),
            mock.patch.object(matl, "rollout_steps", recorded),
        ):
            for s in self.before:
                self.method.step(self.problem, s)
        work: list[tuple[Bare, Array, list[Resets]]] = []
        for domain, worlds, tr in found:
            bare = self.bare[domain == self.problem.target]
            work.append((bare, tr.action, bare.prepare(worlds, tr)))
        seconds, _ = timed(lambda: [bare.run(action, resets) for bare, action, resets in work])
        for bare, worlds in zip(
            self.bare, (self.state.worlds.source, self.state.worlds.target), strict=True
        ):
            bare.check(worlds)
        return self.count / seconds


def compare(size: Sizes) -> Iterator[Row]:
    for problem, at_least in size.problems:
        rounds = Rounds(size.method, problem, size.rounds)
        a, b = alternate(f"MATL, {problem}", size.pairs, rounds.ours, rounds.physics)
        learner = size.method.learner
        yield Row(
            f"MATL, {problem}, whole rounds with M = {size.method.inner}",
            "bare physics of the same worlds",
            at_least,
            "steps",
            a,
            b,
            None,
            sizes(
                rounds.problem.target,
                learner.worlds,
                steps=learner.steps,
                rounds=size.rounds,
                pairs=size.pairs,
            ),
        )
