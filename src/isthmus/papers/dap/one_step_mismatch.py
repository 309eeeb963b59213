"""What a trained method's two policies do in the source, and what its classifiers say of it, on its
own transitions.

Means over a replay, which training reports, are mostly of what the policy no longer does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.rollout import rollout_steps
from isthmus.evaluation.evaluate import SEED
from isthmus.learning.advantage import flat
from isthmus.learning.classifiers import TransitionBatch
from isthmus.methods.dap import DAP
from isthmus.methods.darc import DARC
from isthmus.methods.h2o import H2O
from isthmus.training.run import Run
from isthmus.types import Array, Decision

WORLDS, STEPS = 16, 300


class WithBothActions(NamedTuple):
    """A policy as what collects; with a transition comes what the other one would do."""

    acts: Any
    other: Any

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        action, _ = self.acts.act((), observation)
        other, _ = self.other.act((), observation)
        return Decision(action, extra={"other": other}), memory


def one_step_mismatch(run: Run) -> dict[str, float]:
    """Means over `WORLDS` times `STEPS` steps of the source, without exploring:

    action_gap      |a_src - a_tgt|^2, actions in -1..1
    mismatch        |s'_src - s'_tgt|^2, s'_tgt being where a_src leads from the very same state in the target
    crossing        the same, s'_tgt being where a_tgt leads: 0 where it does in the target what a_src did
    reward          a step
    delta_reward    Eq. 3 at s'_src, by the run's own classifiers
    source_dynamics Eq. 2, a_src alone, at s'_src: how likely it is in the target's dynamics rather
    than the source's target_dynamics the same at s'_tgt of a_src: the difference is what they see
    of the dynamics
    dynamics_told   how often it is larger there, on transitions that no classifier was trained on; 0.5: they are blind,
                    or where both domains are one
    """
    state, method, problem = run.state(), run.method, run.problem
    source, target = problem.source, problem.evaluation_target
    simulated, deployed = method.source_policy(state), method.policy(state)
    acting, crossing = WithBothActions(simulated, deployed), WithBothActions(deployed, simulated)
    worlds, beside = source.worlds(WORLDS, SEED + 3), target.worlds(WORLDS, SEED + 3)
    kept: list[tuple[np.ndarray, ...]] = []
    for _ in range(STEPS):
        there = {name: value for name, value in worlds._asdict().items() if name != "parameters"}
        led = [
            flat(rollout_steps(target, beside._replace(**there), each, 1)[1].next_obs)
            for each in (acting, crossing)
        ]
        worlds, tr = rollout_steps(source, worlds, acting, 1)
        kept.append(
            (*map(flat, (tr.obs, tr.action, tr.extra["other"], tr.reward, tr.next_obs)), *led)
        )
    obs, a_src, a_tgt, reward, here, there, crossed = (
        np.concatenate(column) for column in zip(*kept, strict=True)
    )
    low, high = source.spaces.low, source.spaces.high
    unit = lambda a: (2 * (a - low) / (high - low) - 1).astype(np.float32)
    told = {
        "action_gap": np.square(unit(a_src) - unit(a_tgt)).sum(-1).mean(),
        "mismatch": np.square(here - there).sum(-1).mean(),
        "crossing": np.square(here - crossed).sum(-1).mean(),
        "reward": reward.mean(),
    }
    if isinstance(method, DAP | DARC | H2O):
        delta = lambda after, *actions: np.asarray(
            method.classifiers.delta(
                state.learner.classifiers, *(TransitionBatch(obs, unit(a), after) for a in actions)
            )
        )
        # With two actions Eq. 3 could not tell: where a_tgt does what a_src did, its ratio is the
        # same at both s'.
        at_source, at_target = (delta(after, a_src, a_src) for after in (here, there))
        told |= {"delta_reward": delta(here, a_src, a_tgt).mean(), "source_dynamics": at_source.mean(),
                 "target_dynamics": at_target.mean(),
                 "dynamics_told": (0.5 + 0.5 * np.sign(at_target - at_source)).mean()}  # fmt: skip
    return {key: float(value) for key, value in told.items()}
