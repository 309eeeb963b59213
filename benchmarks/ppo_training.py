"""PPO on Hopper: our training loop against Stable-Baselines3's PPO, and against the physics that it steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bare import Bare, sizes
from measure import Row, alternate, console, timed
from sb3 import Peer

from isthmus.domains.collect import collect
from isthmus.domains.domain import Domain
from isthmus.domains.problem import Problem
from isthmus.learning.ppo import PPO
from isthmus.methods.method import State
from isthmus.methods.single_domain import SourceOnly
from isthmus.training.train import MetricsLog, counters

CANDIDATES = [(n, processes, threads) for n in (1, 4, 8, 16, 32) for processes in (False, True) for threads in (1, 2)]
"""Environments, each in a process of its own or not, torch's threads."""


@dataclass(frozen=True)
class Sizes:
    learner: PPO = field(default_factory=PPO)  # the configuration that meets the learning bar
    rounds: int = 4  # a turn
    pairs: int = 9
    candidates: tuple[tuple[int, bool, int], ...] = tuple(CANDIDATES)
    finalists: int = 3


def compare(size: Sizes, peer: Peer) -> Iterator[Row]:
    learner, method = size.learner, SourceOnly(size.learner)
    domain = Domain.parse("hopper")
    problem = Problem(domain, domain)
    round_steps = learner.worlds * learner.steps
    count = size.rounds * round_steps
    equal = {
        "steps": round_steps, "minibatch": learner.minibatch, "epochs": learner.epochs, "hidden": list(learner.hidden),
    }  # fmt: skip
    best = choose(size, peer, equal)
    begin(peer, best, equal)

    state = method.init(problem, seed=0)
    state, _ = method.step(problem, state)  # compiles
    bare = Bare(domain, state.worlds)
    states: list[State] = []

    with tempfile.TemporaryDirectory() as folder:
        log = MetricsLog(Path(folder) / "metrics.jsonl", 0)

        def train(s: State) -> State:
            """As the training loop does: a round, its metrics to the log."""
            for _ in range(size.rounds):
                states.append(s)
                s, metrics = method.step(problem, s)
                log.write("round", {**counters(s), **metrics})
            return s

        def ours() -> float:
            nonlocal state
            states.clear()
            seconds, state = timed(lambda: train(state))
            return count / seconds

        def physics() -> float:
            """What the turn of ours moved, collected once more to know it, and repeated bare."""
            work = []
            for s in states:
                _, tr = collect(domain, s.worlds, learner.behaviour(s.learner), learner.steps)
                work.append((tr.action, bare.prepare(s.worlds, tr)))
            seconds, _ = timed(lambda: [bare.run(*each) for each in work])
            bare.check(state.worlds)
            return count / seconds

        a, b, c = alternate(
            "PPO training", size.pairs, ours, physics, lambda: count / peer.ask("train", rounds=size.rounds)
        )
    common: dict[str, Any] = sizes(domain, learner.worlds, **equal, rounds=size.rounds, pairs=size.pairs)
    work = "PPO training, Hopper, equal network, steps per round, minibatch and epochs"
    yield Row(work, f"Stable-Baselines3 PPO, {told(best)}", 5, "steps", a, c, 8, common)
    yield Row(work, "bare physics of the same worlds", 0.5, "steps", a, b, 0.7, common)


def told(candidate: tuple[int, bool, int]) -> str:
    n, processes, threads = candidate
    where = "SubprocVecEnv" if processes else "DummyVecEnv"
    return f"{n} environments ({where}), {threads} torch threads"


def begin(peer: Peer, candidate: tuple[int, bool, int], equal: dict[str, Any]) -> None:
    """A new training of the peer's, its first round done: what starts up with it is not its speed."""
    n, processes, threads = candidate
    peer.ask("begin", environments=n, processes=processes, threads=threads, **equal)
    peer.ask("train", rounds=1)


def choose(size: Sizes, peer: Peer, equal: dict[str, Any]) -> tuple[int, bool, int]:
    """The peer's fastest way to train: all candidates in a round, the fastest of them again in three."""

    def speed(candidate: tuple[int, bool, int], rounds: int) -> float:
        begin(peer, candidate, equal)
        found = rounds * equal["steps"] / peer.ask("train", rounds=rounds)
        console.print(f"  SB3, {told(candidate)}: {found:,.0f} steps/s", highlight=False)
        return found

    first = {candidate: speed(candidate, 1) for candidate in size.candidates}
    finalists = sorted(first, key=first.__getitem__, reverse=True)[: size.finalists]
    return max(finalists, key=lambda candidate: speed(candidate, 3))
