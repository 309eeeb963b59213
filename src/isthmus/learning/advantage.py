"""From rewards and values to advantages."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.types import Array


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    done: Array,
    discount: float,
    decay: float,
) -> Array:
    """Return advantages (T,) of one world: Eqs. 11 and 12 of Schulman et al. 2015 (1506.02438).

    delta_t = r_t + discount V(s'_t) (0 where terminated) - V(s_t); A_t = delta_t + discount decay
    A_{t+1}, cut where an episode is `done`. At a time limit V(s'_t) stays: it is no death (Pardo et
    al. 2018).
    """
    delta = reward + discount * next_value * (1.0 - terminated) - value
    carry = discount * decay * (1.0 - done)

    def back(after: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = x[0] + x[1] * after
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros(()), (delta, carry), reverse=True)[1]


class ValuedRound(NamedTuple):
    """A round's scaled rewards, the critic's values and where episodes end, [T, N] each."""

    reward: Array
    value: Array
    next_value: Array
    terminated: Array
    done: Array

    def advantages(self, discount: float, decay: float) -> Array:
        """Return `gae` of every world, [T, N]."""
        of_worlds = jax.vmap(gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
        return of_worlds(*self, discount, decay)


def scale_rewards(reward: Array, scale: Array) -> Array:
    """Return rewards as critics learn them: scaled, and cut to -10..10."""
    return jnp.clip(reward * scale, -10.0, 10.0)


def any_reward(before: Array, reward: Array) -> np.bool_:
    """Return whether any reward was not 0, `before` or in `reward`.

    Until then advantages are the residue of a critic, and standardizing makes a full step of any
    residue: the policy stays. Later a round without a reward may be an episode's beginning, and
    what the critic expects of it counts.
    """
    return np.bool_(before or np.any(np.asarray(reward) != 0))


def explained_variance(value: Array, target: Array) -> Array:
    """Return 1 - Var(target - value) / Var(target): 1 perfect, 0 no better than the mean."""
    return 1 - jnp.var(target - value) / (jnp.var(target) + 1e-8)


def flat(x: Array) -> Array:
    """Return [T, N, ...] as rows [B, ...]."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
