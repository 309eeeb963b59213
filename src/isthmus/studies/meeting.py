"""What a trained method's two policies do in the source, and what its classifiers say of it, on its own transitions.

Means over a replay, which training reports, are mostly of what the policy no longer does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.collect import collect
from isthmus.evaluation.evaluate import SEED
from isthmus.learning.advantage import flat
from isthmus.learning.classifiers import Seen
from isthmus.training.run import Run
from isthmus.types import Array, Decision

WORLDS, STEPS = 16, 300


class Acting(NamedTuple):
    """The simulated policy as what collects; with a transition comes what the deployed one would do, `deployed`."""

    simulated: Any
    deployed: Any

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        action, _ = self.simulated.act((), observation)
        other, _ = self.deployed.act((), observation)
        return Decision(action, extra={"deployed": other}), memory


def meeting(run: Run) -> dict[str, float]:
    """Means over `WORLDS` times `STEPS` steps of the source, without exploring:

    action_gap      |a_src - a_tgt|^2, actions in -1..1
    mismatch        |s'_src - s'_tgt|^2, s'_tgt being where a_src leads from the very same state in the target
    reward          a step
    delta_reward    Eq. 3 at s'_src, by the run's own classifiers
    delta_at_target the same at s'_tgt: the difference is what they see of the dynamics
    """
    state, method, problem = run.state(), run.method, run.problem
    source, target = problem.source, problem.true_target
    acting = Acting(method.simulated(state), method.policy(state))
    worlds, beside = source.worlds(WORLDS, SEED + 3), target.worlds(WORLDS, SEED + 3)
    kept: list[tuple[np.ndarray, ...]] = []
    for _ in range(STEPS):
        there = {name: value for name, value in worlds._asdict().items() if name != "parameters"}
        _, other = collect(target, beside._replace(**there), acting, 1)
        worlds, tr = collect(source, worlds, acting, 1)
        kept.append(
            (*map(flat, (tr.obs, tr.action, tr.extra["deployed"], tr.reward, tr.next_obs)), flat(other.next_obs))
        )
    obs, simulated, deployed, reward, here, there = (np.concatenate(column) for column in zip(*kept, strict=True))
    low, high = source.spaces.low, source.spaces.high
    unit = lambda a: (2 * (a - low) / (high - low) - 1).astype(np.float32)  # noqa: E731
    told = {
        "action_gap": np.square(unit(simulated) - unit(deployed)).sum(-1).mean(),
        "mismatch": np.square(here - there).sum(-1).mean(),
        "reward": reward.mean(),
    }
    if hasattr(method, "classifiers"):
        for key, after in (("delta_reward", here), ("delta_at_target", there)):
            executed, other = (Seen(obs, unit(a), after) for a in (simulated, deployed))
            told[key] = np.asarray(method.classifiers.delta(state.learner.classifiers, executed, other)).mean()
    return {key: float(value) for key, value in told.items()}
