"""PPO's updates of a shard's members as one program, against a call for each: the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from measure import Row, alternate

from isthmus.domains.rollout import rollout_steps
from isthmus.learning.ppo import MEMBERS_PER_SHARD, PPO
from isthmus.problems.problem import make_problem
from isthmus.training.checkpoint import digest


@dataclass(frozen=True)
class Sizes:
    task: str = "hopper/gravity=x2"
    worlds: int = 8
    steps: tuple[int, ...] = (
        128,
        512,
    )  # of an update: the study's at laptop scale, and the abstract's
    epochs: int = 10
    pairs: int = 15


def compare(size: Sizes) -> Iterator[Row]:
    """By processor time: what runs beside is no part of it."""
    domain = make_problem(size.task).source
    for steps in size.steps:
        learner = PPO(worlds=size.worlds, steps=steps, epochs=size.epochs)
        keys = [jax.random.key(m) for m in range(MEMBERS_PER_SHARD)]
        states = [learner.init(domain.spaces, key) for key in keys]
        trs = [
            rollout_steps(domain, domain.worlds(size.worlds, m), learner.behaviour(s), steps)[1]
            for m, s in enumerate(states)
        ]

        def together() -> list[Any]:
            return learner.learn_each(states, trs, keys)

        def one_by_one() -> list[Any]:
            return [learner.learn(*each)[0] for each in zip(states, trs, keys, strict=True)]

        assert [digest(s) for s in together()] == [digest(s) for s in one_by_one()]

        def turn(work: Callable[[], list[Any]]) -> Callable[[], float]:
            def speed() -> float:
                begun = time.process_time()
                jax.block_until_ready([s.networks for s in work()])
                return MEMBERS_PER_SHARD * size.worlds * steps / (time.process_time() - begun)

            return speed

        a, b = alternate(f"updates of {steps} steps", size.pairs, turn(together), turn(one_by_one))
        sizes = {
            "members": MEMBERS_PER_SHARD,
            "worlds": size.worlds,
            "steps": steps,
            "epochs": size.epochs,
            "pairs": size.pairs,
        }
        yield Row(
            f"PPO's updates of {MEMBERS_PER_SHARD} members, one program, Hopper, {size.worlds} x "
            f"{steps} steps",
            "a call for each member, by processor time", 1.0, "steps", a, b, None, sizes,
        )  # fmt: skip
