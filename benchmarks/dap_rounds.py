"""DAP+U: whole rounds, a step and an update each, against our SAC's of the same sizes."""

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
    logged: int = 2_000  # transitions
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


def compare(size: Sizes) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.npz"
        target = make_problem(size.task).target
        random = UniformBehaviour(target.spaces.low, target.spaces.high)
        write_log(log, record_log(target, random, size.logged), {}, target)
        floor, ours = Rounds("source_only", size, log), Rounds("dap_u", size, log)
        a, b = alternate("DAP+U", size.pairs, ours.turn, floor.turn)
    learner = ours.method.learner
    sizes = {
        "members": ours.method.classifiers.members,
        "hidden": list(learner.hidden),
        "minibatch": learner.minibatch,
        "worlds": learner.worlds,
        "rounds": size.rounds,
        "pairs": size.pairs,
    }
    yield Row(
        "DAP+U, HalfCheetah, a step and an update",
        "our SAC",
        round(1 / 1.8, 3),
        "steps",
        a,
        b,
        None,
        sizes,
    )
