"""Environment steps with resets: `collect` with random actions against bare `mujoco.batch` with the
same resets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bare import Bare, sizes
from measure import Row, alternate, timed

from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.policies import UniformBehaviour


@dataclass(frozen=True)
class Sizes:
    worlds: int = 256
    steps: int = 100
    pairs: int = 11
    domain: str = "hopper/torso_mass=1..9,friction=x0.5..x2"


def compare(size: Sizes) -> Iterator[Row]:
    domain = parse_domain(size.domain)
    behaviour = UniformBehaviour(domain.spaces.low, domain.spaces.high)
    worlds, _ = rollout_steps(
        domain, domain.worlds(size.worlds, seed=0), behaviour, size.steps
    )  # compiles
    bare = Bare(domain, worlds)
    count = size.worlds * size.steps
    pending = []
    resets = 0

    def ours() -> float:
        nonlocal worlds, resets
        before = worlds
        seconds, (worlds, tr) = timed(lambda: rollout_steps(domain, before, behaviour, size.steps))
        pending[:] = [(tr.action, bare.prepare(before, tr))]
        resets += int(worlds.finished.sum() - before.finished.sum())
        return count / seconds

    def theirs() -> float:
        seconds, _ = timed(lambda: bare.run(*pending[0]))
        bare.check(worlds)
        return count / seconds

    a, b = alternate("environment steps", size.pairs, ours, theirs)
    every = f"every {count * size.pairs / max(resets, 1):.0f} steps"
    yield Row(
        f"environment steps with resets, Hopper, {size.worlds} worlds, random actions, parameters "
        "per world",
        "bare mujoco.batch with the same resets", 0.9, "steps", a, b,
        sizes=sizes(domain, size.worlds, steps=size.steps, resets=every, pairs=size.pairs),
    )  # fmt: skip
