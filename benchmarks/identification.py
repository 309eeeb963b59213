"""Identification: a fit of six parameters, against bare physics of the worlds stepped in it.

python benchmarks/identification.py          one pair, for a quick look
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import mujoco.batch
import numpy as np
from measure import Row, alternate, console, table, timed

from isthmus.domains.domain import RobotDomain
from isthmus.identification.identify import identify
from isthmus.logs.record import record_log
from isthmus.types import Decision


@dataclass(frozen=True)
class Sizes:
    transitions: int = 2000
    pairs: int = 5


SMALL = Sizes(pairs=1)


class RandomActions(NamedTuple):
    shape: Any

    def memory(self) -> tuple[()]:
        return ()

    def act(self, memory, observation, key):
        import jax

        return Decision(jax.random.uniform(key, self.shape.shape, minval=-1, maxval=1)), memory


def compare(size: Sizes) -> Iterator[Row]:
    target = RobotDomain.read("half_cheetah/damping=x3")
    behaviour = RandomActions(np.zeros(target.spaces.action, np.float32))
    log = record_log(target, behaviour, size.transitions)
    batches, fit = collected(lambda: identify("half_cheetah", log))
    for parameter in fit.parameters:
        truth = parameter.default * (3 if parameter.name == "damping" else 1)
        if abs(parameter.value / truth - 1) > 1e-3:
            raise RuntimeError(f"{parameter.name} was found as {parameter.value}")

    def fitted() -> float:
        seconds, again = timed(lambda: identify("half_cheetah", log))
        return again.world_steps / seconds

    def bare() -> float:
        seconds = 0.0
        for batch, before, control, nstep in batches:
            batch.state[:] = before
            batch.bind("ctrl")[:] = control
            seconds += timed(lambda: batch.step(None, nstep=nstep))[0]
        return fit.world_steps / seconds

    ours, theirs = alternate("identification", size.pairs, fitted, bare)
    work = f"a fit of six parameters, HalfCheetah, {size.transitions:,} transitions"
    sizes = {"world steps": fit.world_steps, "pairs": size.pairs}
    yield Row(work, "bare physics of its worlds", 0.75, "steps", ours, theirs, None, sizes)


def collected(work):
    """Each step of a batch that `work` takes, as (batch, state before, control, substeps)."""
    found = []
    step = mujoco.batch.Batch.step

    def recorded(batch, ids=None, nstep=1, **more):
        found.append((batch, batch.state.copy(), batch.bind("ctrl").copy(), nstep))
        return step(batch, ids, nstep, **more)

    with mock.patch.object(mujoco.batch.Batch, "step", recorded):
        return found, work()


if __name__ == "__main__":
    console.print(table(list(compare(SMALL))))
