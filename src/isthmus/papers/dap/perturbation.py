"""After a kick: a deployed policy whose motors go wild for a moment, in the target, against itself
left alone (D23).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.evaluate import SEED
from isthmus.types import Array

AT, LENGTH = 200, 10  # steps
RECOVERING = 50  # steps after the kick in which a policy finds back to itself, or does not
SETTLING_STEPS = 150  # steps after the kick, from RECOVERING on, in which it has settled
WORLDS = 50


class PerturbedPolicy(NamedTuple):
    """A policy but for `LENGTH` steps from `AT` on, in which it acts at random, in each world
    otherwise.
    """

    policy: Any

    def memory(self) -> tuple:
        return np.int32(0), self.policy.memory()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        t, inner = memory
        action, inner = self.policy.act(inner, observation)
        bits = jax.lax.bitcast_convert_type(jnp.asarray(observation, jnp.float32).sum(), jnp.int32)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), bits), t)
        wild = jax.random.uniform(
            key, action.shape, minval=self.policy.low, maxval=self.policy.high
        )
        return jnp.where((t >= AT) & (t < AT + LENGTH), wild, action), (t + 1, inner)


class Trajectory(NamedTuple):
    rewards: np.ndarray  # [T, N], 0 after an episode's end
    observations: np.ndarray  # [T, N, O], before each step
    alive: np.ndarray  # bool [T, N], before each step


def trace(domain: Domain, policy: Any) -> Trajectory:
    """What `WORLDS` episodes were paid and saw, until the window's end or longer."""
    returns: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    alive: list[np.ndarray] = []

    def watch(live: SteppedWorlds, done: int) -> None:
        returns.append(live.state["returns"].copy())
        seen.append(live.state["observation"].astype(np.float32))
        alive.append(live.state["finished"] == 0)

    rollout_episodes(domain, domain.worlds(WORLDS, SEED + 2), policy, watch)
    return Trajectory(np.diff(np.stack(returns), axis=0), np.stack(seen[:-1]), np.stack(alive[:-1]))


def recovery(kicked: Trajectory, alone: Trajectory) -> float | None:
    """Reward right after a kick, as a share of the same episodes' without one; None where that is
    no gain.
    """
    at = slice(AT + LENGTH, AT + LENGTH + RECOVERING)
    after, usual = (float(each.rewards[at].sum()) for each in (kicked, alone))
    return after / usual if usual > 0 else None


def uncertainty(kicked: Trajectory, policy: Any, of: Any) -> tuple[float, float] | None:
    """The mean of `of(observations, actions)` over living worlds right after the kick, and once it
    should have passed; None where no world lives then.
    """
    out = []
    for at in (
        slice(AT + LENGTH, AT + LENGTH + 10),
        slice(AT + LENGTH + RECOVERING, AT + LENGTH + SETTLING_STEPS),
    ):
        obs = kicked.observations[at][kicked.alive[at]]
        if not len(obs):
            return None
        out.append(float(np.mean(of(obs, jax.vmap(lambda o: policy.act((), o)[0])(obs)))))
    return out[0], out[1]
