"""The mismatch of one step: what a trained method's two policies do in the source, and what its
classifiers make of it, on its own transitions.

Means over a replay, which training reports, are mostly of what the policy no longer does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.rollout import rollout_steps
from isthmus.evaluation.evaluate import SEED
from isthmus.learning.advantage import flat
from isthmus.learning.classifiers import TransitionBatch
from isthmus.training.run import Run
from isthmus.types import Array, Decision

WORLDS, STEPS = 16, 300


class WithBothActions(NamedTuple):
    """A policy as what collects; with a transition comes what the other one would do."""

    acting: Any
    other: Any

    def memory(self) -> tuple:
        """Return the memory before the first step: none."""
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        """Return the decision, with the other policy's action as `other`, and the memory."""
        action, _ = self.acting.act((), observation)
        other, _ = self.other.act((), observation)
        return Decision(action, extra={"other": other}), memory


class _Steps(NamedTuple):
    """Single steps, one of them of the source, the others from the very same states in the target.

    obs                                 [B, O]
    a_src, a_tgt                        [B, A]
    reward                              [B]
    next_obs                            [B, O], in the source by a_src
    target_next_obs, crossed_next_obs   [B, O], in the target by a_src, by a_tgt
    """

    obs: np.ndarray
    a_src: np.ndarray
    a_tgt: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    target_next_obs: np.ndarray
    crossed_next_obs: np.ndarray


def scale_actions(actions: Any, bounds: Any) -> Any:
    """Return actions in -1..1, as float32, from those in `bounds.low`..`bounds.high`."""
    low, high = bounds.low, bounds.high
    return (2 * (actions - low) / (high - low) - 1).astype(np.float32)


def measure_one_step_mismatch(run: Run) -> dict[str, float]:
    """Return means over `WORLDS` times `STEPS` steps of the source, without exploring.

    action_gap       |a_src - a_tgt|^2, actions in -1..1
    mismatch         |s'_src - s'_tgt|^2, s'_tgt being where a_src leads from the very same state in
                     the target
    crossing         the same, s'_tgt being where a_tgt leads: 0 where it does in the target what
                     a_src did
    reward           a step
    delta_reward     Eq. 3 at s'_src, by the run's own classifiers
    source_dynamics  Eq. 2, a_src alone, at s'_src: how likely it is in the target's dynamics rather
                     than the source's
    target_dynamics  the same at s'_tgt of a_src: the difference is what they see of the dynamics
    dynamics_told    how often it is larger there, on transitions that no classifier was trained on;
                     0.5: they are blind, or both domains are one
    """
    state, spaces = run.state(), run.problem.source.spaces
    steps = _take_steps(run, state)
    a_src, a_tgt = scale_actions(steps.a_src, spaces), scale_actions(steps.a_tgt, spaces)
    measures = {
        "action_gap": np.square(a_src - a_tgt).sum(-1).mean(),
        "mismatch": np.square(steps.next_obs - steps.target_next_obs).sum(-1).mean(),
        "crossing": np.square(steps.next_obs - steps.crossed_next_obs).sum(-1).mean(),
        "reward": steps.reward.mean(),
    }
    if hasattr(run.method, "classifiers"):
        measures |= _ask_classifiers(run.method, state, steps, a_src, a_tgt)
    return {key: float(value) for key, value in measures.items()}


def _take_steps(run: Run, state: Any) -> _Steps:
    source, target = run.problem.source, run.problem.evaluation_target
    simulated, deployed = run.method.source_policy(state), run.method.policy(state)
    acting, crossing = WithBothActions(simulated, deployed), WithBothActions(deployed, simulated)
    worlds, twins = source.worlds(WORLDS, SEED + 3), target.worlds(WORLDS, SEED + 3)
    batches: list[_Steps] = []
    for _ in range(STEPS):
        twins = worlds._replace(parameters=twins.parameters)
        _, in_target = rollout_steps(target, twins, acting, 1)
        _, crossed = rollout_steps(target, twins, crossing, 1)
        worlds, step = rollout_steps(source, worlds, acting, 1)
        arrays = (
            step.obs, step.action, step.extra["other"], step.reward, step.next_obs,
            in_target.next_obs, crossed.next_obs,
        )  # fmt: skip
        batches.append(_Steps(*map(flat, arrays)))
    return _Steps(*map(np.concatenate, zip(*batches, strict=True)))


def _ask_classifiers(
    method: Any, state: Any, steps: _Steps, a_src: np.ndarray, a_tgt: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what a run's classifiers make of these steps, actions in -1..1."""

    def delta(next_obs: np.ndarray, *actions: np.ndarray) -> np.ndarray:
        batches = [TransitionBatch(steps.obs, action, next_obs) for action in actions]
        return np.asarray(method.classifiers.delta(state.learner.classifiers, *batches))

    # With two actions Eq. 3 could not tell: where a_tgt does what a_src did, its ratio is the same
    # at both s'.
    at_source = delta(steps.next_obs, a_src, a_src)
    at_target = delta(steps.target_next_obs, a_src, a_src)
    return {
        "delta_reward": delta(steps.next_obs, a_src, a_tgt).mean(),
        "source_dynamics": at_source.mean(),
        "target_dynamics": at_target.mean(),
        "dynamics_told": (0.5 + 0.5 * np.sign(at_target - at_source)).mean(),
    }
