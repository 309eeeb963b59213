"""PPO on Hopper: our training loop against Stable-Baselines3's PPO, and against the physics that it
steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bare import Bare, sizes
from measure import Row, alternate, console, timed
from sb3 import Peer

from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.ppo import PPO
from isthmus.methods.method import State
from isthmus.methods.single_domain import SourceOnly
from isthmus.problems.problem import Problem
from isthmus.training.train import MetricsLog, counters

CANDIDATES = [
    (n, processes, threads)
    for n in (1, 4, 8, 16, 32)
    for processes in (False, True)
    for threads in (1, 2)
]
"""Environments, each in a process of its own or not, torch's threads."""


@dataclass(frozen=True)
class Sizes:
    learner: PPO = field(default_factory=PPO)  # the configuration that meets the learning bar
    rounds: int = 4  # a turn
    pairs: int = 9
    candidates: tuple[tuple[int, bool, int], ...] = tuple(CANDIDATES)
    finalists: int = 3


class Training:
    """Our side: Hopper as the training loop trains on it, `rounds` a turn, each round's metrics to
    the log.
    """

    def __init__(self, learner: Any, rounds: int):
        self.domain = parse_domain("hopper")
        self.problem, self.method = Problem(self.domain, self.domain), SourceOnly(learner)
        worlds, steps = learner.rollout_shape
        self.rounds, self.count = rounds, rounds * worlds * steps
        self.state, _ = self.method.step(
            self.problem, self.method.init(self.problem, seed=0)
        )  # compiles
        self.states: list[State] = []  # before each round of the last turn

    def __enter__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.log = MetricsLog(Path(self.folder.name) / "metrics.jsonl", 0)

    def __exit__(self, *_: Any) -> None:
        self.folder.cleanup()

    def turn(self) -> float:
        """Steps a second."""
        self.states.clear()
        return self.count / timed(self._train)[0]

    def _train(self) -> None:
        for _ in range(self.rounds):
            self.states.append(self.state)
            self.state, metrics = self.method.step(self.problem, self.state)
            self.log.write("round", {**counters(self.state), **metrics})


def compare(size: Sizes, peer: Peer) -> Iterator[Row]:
    learner = size.learner
    equal = {
        "steps": learner.worlds * learner.steps,
        "minibatch": learner.minibatch,
        "epochs": learner.epochs,
        "hidden": list(learner.hidden),
    }
    best = choose(size, peer, equal)
    begin(peer, best, equal)

    training = Training(learner, size.rounds)
    bare = Bare(training.domain, training.state.worlds)

    def physics() -> float:
        """What the turn of ours moved, collected once more to know it, and repeated bare."""
        work = []
        for s in training.states:
            _, tr = rollout_steps(
                training.domain, s.worlds, learner.behaviour(s.learner), learner.steps
            )
            work.append((tr.action, bare.prepare(s.worlds, tr)))
        seconds, _ = timed(lambda: [bare.run(*each) for each in work])
        bare.check(training.state.worlds)
        return training.count / seconds

    theirs = lambda: training.count / peer.ask("train", rounds=size.rounds)
    with training:
        a, b, c = alternate("PPO training", size.pairs, training.turn, physics, theirs)
    common: dict[str, Any] = sizes(
        training.domain, learner.worlds, **equal, rounds=size.rounds, pairs=size.pairs
    )
    work = "PPO training, Hopper, equal network, steps per round, minibatch and epochs"
    yield Row(work, f"Stable-Baselines3 PPO, {told(best)}", 5, "steps", a, c, 8, common)
    yield Row(work, "bare physics of the same worlds", 0.5, "steps", a, b, 0.7, common)


def told(candidate: tuple[int, bool, int]) -> str:
    n, processes, threads = candidate
    where = "SubprocVecEnv" if processes else "DummyVecEnv"
    return f"{n} environments ({where}), {threads} torch threads"


def begin(peer: Peer, candidate: tuple[int, bool, int], equal: dict[str, Any]) -> None:
    """A new training of the peer's, its first round done: what starts up with it is not its
    speed.
    """
    n, processes, threads = candidate
    peer.ask("begin", environments=n, processes=processes, threads=threads, **equal)
    peer.ask("train", rounds=1)


def choose(size: Any, peer: Peer, equal: dict[str, Any]) -> tuple[int, bool, int]:
    """The peer's fastest way to train: all candidates in a round, the fastest of them again in
    three.
    """

    def speed(candidate: tuple[int, bool, int], rounds: int) -> float:
        begin(peer, candidate, equal)
        found = rounds * equal["steps"] / peer.ask("train", rounds=rounds)
        console.print(f"  SB3, {told(candidate)}: {found:,.0f} steps/s", highlight=False)
        return found

    first = {candidate: speed(candidate, 1) for candidate in size.candidates}
    finalists = sorted(first, key=first.__getitem__, reverse=True)[: size.finalists]
    return max(finalists, key=lambda candidate: speed(candidate, 3))
