"""DARC, DAP, DAP+U: rounds, a step and an update each, against our SAC's of the same sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Row, alternate, timed

from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.record import record_log
from isthmus.logs.write import write_log
from isthmus.methods import registry
from isthmus.problems.problem import make_problem


@dataclass(frozen=True)
class Sizes:
    task: str = "half_cheetah-dap"
    logged: int = 10_000  # transitions
    rounds: int = 4  # a turn
    pairs: int = 9
    learner: tuple[tuple[str, Any], ...] = (
        ("learner.capacity", 10_000),
        ("learner.random_steps", 512),
    )


class Rounds:
    """A method's training, from the first round in which it learns."""

    def __init__(self, name: str, size: Sizes, log: Path):
        self.method = registry.build(name, {"learner": "sac", **dict(size.learner)})
        self.problem = make_problem(size.task, access="dataset", data=str(log))
        self.state = self.method.init(self.problem, 0)
        while self.state.source_steps <= self.method.learner.random_steps:
            self._round()
        self._round()  # compiles
        self.rounds, (worlds, steps) = size.rounds, self.method.learner.rollout_shape
        self.count = size.rounds * worlds * steps

    def turn(self) -> float:
        """Steps a second."""
        return self.count / timed(lambda: [self._round() for _ in range(self.rounds)])[0]

    def _round(self) -> None:
        self.state, _ = self.method.step(self.problem, self.state)


@dataclass(frozen=True)
class Work:
    """A method, and how many times as long as SAC's own its rounds may take."""

    name: str
    title: str
    at_most: float


WORKS = (Work("darc", "DARC", 1.3), Work("dap", "DAP", 1.5), Work("dap_u", "DAP+U", 1.8))


def compare(size: Sizes) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.npz"
        target = make_problem(size.task).target
        random = UniformBehaviour(target.spaces.low, target.spaces.high)
        write_log(log, record_log(target, random, size.logged), {}, target)
        floor = Rounds("source_only", size, log)
        for work in WORKS:
            yield compare_one(work, floor, Rounds(work.name, size, log), size)


def compare_one(work: Work, floor: Rounds, ours: Rounds, size: Sizes) -> Row:
    a, b = alternate(work.title, size.pairs, ours.turn, floor.turn)
    learner = ours.method.learner
    sizes = {
        "members": ours.method.classifiers.members,
        "hidden": list(learner.hidden),
        "minibatch": learner.minibatch,
        "worlds": learner.worlds,
        "logged": size.logged,
        "rounds": size.rounds,
        "pairs": size.pairs,
    }
    return Row(
        f"{work.title}, HalfCheetah, a step and an update",
        "our SAC",
        round(1 / work.at_most, 3),
        "steps",
        a,
        b,
        None,
        sizes,
    )
