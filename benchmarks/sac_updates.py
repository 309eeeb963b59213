"""SAC's gradient steps on HalfCheetah's shapes, drawn from the replay: alone, and two seeds at once
on two cores.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import jax
from measure import Row, alternate, console, timed
from sb3 import Peer

from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.sac import SAC

PEERS_TASK = "HalfCheetah-v5"


@dataclass(frozen=True)
class Sizes:
    learner: SAC = field(default_factory=lambda: SAC(capacity=10_000))
    task: str = "half_cheetah"
    updates: int = 128  # a turn
    pairs: int = 9
    threads: tuple[int, ...] = (1, 2)  # of torch's: the faster one is compared


class Updates:
    """Our side: rounds of updates, as `SAC.learn` makes them, on a replay of random steps."""

    def __init__(self, size: Sizes, seed: int = 0):
        learner, domain = size.learner, parse_domain(size.task)
        self.size, self.key = size, jax.random.key(seed)
        s = learner.init(domain.spaces, self.key)
        _, tr = rollout_steps(
            domain, domain.worlds(learner.worlds, seed), learner.random(s), 1000 // learner.worlds
        )
        s = learner.observe(s, tr)
        self.learned, self.replay = s.learned, s.replay
        self.turn()  # compiles

    def turn(self) -> float:
        """Updates a second."""
        seconds, self.learned = timed(self._round)
        return self.size.updates / seconds

    def _round(self) -> Any:
        batches = self.size.learner.draw(self.replay, self.size.updates, self.key)
        learned, _ = self.size.learner.learn_batches(self.learned, batches, self.key)
        return jax.block_until_ready(learned)


_mine: dict[str, Updates] = {}


def _begin(size: Sizes, seed: int) -> None:
    _mine["updates"] = Updates(size, seed)


def _turn() -> float:
    return _mine["updates"].turn()


def together(sides: Sequence[Callable[[], float]], updates: int) -> float:
    """Updates a second of all sides at once: all that they did, by the time in which the last one
    was through.
    """
    with ThreadPoolExecutor(len(sides)) as pool:
        seconds, _ = timed(
            lambda: [each.result() for each in [pool.submit(side) for side in sides]]
        )
    return len(sides) * updates / seconds


def compare(size: Sizes, peer: Peer, second: Callable[[], Any] = Peer) -> Iterator[Row]:
    learner, n = size.learner, size.updates
    sizes = {
        "hidden": list(learner.hidden),
        "minibatch": learner.minibatch,
        "updates": n,
        "pairs": size.pairs,
    }
    work = f"SAC gradient step, {PEERS_TASK}'s shapes"

    def theirs(one: Any) -> float:
        return n / one.ask("update_sac", updates=n, minibatch=learner.minibatch)

    def begin(threads: int, *peers: Any) -> None:
        for one in peers:
            one.ask("begin_sac", task=PEERS_TASK, threads=threads)
            theirs(one)

    def best(name: str, speed: Callable[[], float], *peers: Any) -> int:
        found = {}
        for threads in size.threads:
            begin(threads, *peers)
            found[threads] = speed()
            console.print(
                f"  SB3, {name}, {threads} torch threads: {found[threads]:,.0f} updates/s",
                highlight=False,
            )
        threads = max(found, key=found.__getitem__)
        begin(threads, *peers)
        return threads

    threads = best("one run", lambda: theirs(peer), peer)
    mine = Updates(size)
    a, b = alternate("SAC updates", size.pairs, mine.turn, lambda: theirs(peer))
    yield Row(
        work, f"Stable-Baselines3 SAC, {threads} torch threads", 2, "updates", a, b, 2.4, sizes
    )

    with ExitStack() as stack:
        peers = peer, stack.enter_context(second())
        context = multiprocessing.get_context("spawn")
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, _begin, (size, seed)))
            for seed in (0, 1)
        ]
        pair = lambda: together([lambda one=one: theirs(one) for one in peers], n)
        threads = best("two runs", pair, *peers)
        ours = lambda: together(
            [lambda pool=pool: pool.submit(_turn).result() for pool in pools], n
        )
        ours()  # compiles
        a, b = alternate("SAC updates, two seeds at once", size.pairs, ours, pair)
    yield Row(
        f"{work}, two seeds at once",
        f"two runs of Stable-Baselines3 SAC at once, {threads} torch threads each",
        3,
        "updates",
        a,
        b,
        4,
        sizes,
    )
