"""After a perturbation: a deployed policy whose motors go wild for a moment, in the target, against
itself left alone (D23).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.evaluate import SEED
from isthmus.types import Array

FIRST_STEP, NUM_STEPS = 200, 10  # of the perturbation
RECOVERING_STEPS = 50  # after it, in which a policy finds back to itself, or does not
SETTLING_STEPS = 150  # after it, from RECOVERING_STEPS on, in which it has settled
WORLDS = 50


class PerturbedPolicy(NamedTuple):
    """A policy but for `NUM_STEPS` steps from `FIRST_STEP` on, in which it acts at random, in each
    world otherwise.
    """

    policy: Any

    def memory(self) -> tuple:
        """Return the steps taken, and the policy's own memory."""
        return np.int32(0), self.policy.memory()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        """Return the action and the memory after it."""
        t, inner = memory
        action, inner = self.policy.act(inner, observation)
        bits = jax.lax.bitcast_convert_type(jnp.asarray(observation, jnp.float32).sum(), jnp.int32)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), bits), t)
        wild = jax.random.uniform(
            key, action.shape, minval=self.policy.low, maxval=self.policy.high
        )
        perturbed = (t >= FIRST_STEP) & (t < FIRST_STEP + NUM_STEPS)
        return jnp.where(perturbed, wild, action), (t + 1, inner)


class Trajectory(NamedTuple):
    """What episodes were paid and observed, step by step."""

    rewards: np.ndarray  # [T, N], 0 after an episode's end
    observations: np.ndarray  # [T, N, O], before each step
    alive: np.ndarray  # bool [T, N], before each step


def record_trajectory(domain: Domain, policy: Any) -> Trajectory:
    """Play `WORLDS` episodes and record them, until the window's end or longer."""
    returns: list[np.ndarray] = []
    observations: list[np.ndarray] = []
    alive: list[np.ndarray] = []

    def record(worlds: SteppedWorlds, done: int) -> None:
        returns.append(worlds.state["returns"].copy())
        observations.append(worlds.state["observation"].astype(np.float32))
        alive.append(worlds.state["finished"] == 0)

    rollout_episodes(domain, domain.worlds(WORLDS, SEED + 2), policy, record)
    rewards = np.diff(np.stack(returns), axis=0)
    return Trajectory(rewards, np.stack(observations[:-1]), np.stack(alive[:-1]))


def _after(first: int, last: int) -> slice:
    """Return the steps from `first` until `last` after the perturbation."""
    end = FIRST_STEP + NUM_STEPS
    return slice(end + first, end + last)


def measure_recovery(perturbed: Trajectory, undisturbed: Trajectory) -> float | None:
    """Return the reward right after a perturbation, as a share of the same episodes' without one;
    None where that is no gain.
    """
    window = _after(0, RECOVERING_STEPS)
    after = float(perturbed.rewards[window].sum())
    usual = float(undisturbed.rewards[window].sum())
    return after / usual if usual > 0 else None


def average_after(
    perturbed: Trajectory, policy: Any, measure: Callable[[Array, Array], Array]
) -> tuple[float, float] | None:
    """Return the mean of `measure(observations, actions)` over living worlds right after the
    perturbation, and once it should have passed; None where no world lives then.
    """
    soon = _average_in(_after(0, 10), perturbed, policy, measure)
    if soon is None:
        return None
    late = _average_in(_after(RECOVERING_STEPS, SETTLING_STEPS), perturbed, policy, measure)
    return None if late is None else (soon, late)


def _average_in(
    window: slice, perturbed: Trajectory, policy: Any, measure: Callable[[Array, Array], Array]
) -> float | None:
    observations = perturbed.observations[window][perturbed.alive[window]]
    if not len(observations):
        return None
    actions = jax.vmap(lambda observation: policy.act((), observation)[0])(observations)
    return float(np.mean(measure(observations, actions)))
