"""REINFORCE (Williams 1992): a policy gradient without a critic.

1.  act with the policy, observations normalized by moments frozen for the round
2.  G: the discounted sum of the rewards that follow a step in its episode, within the round
3.  one step of Adam on -E[log pi(a|s) A], A = G less its mean over the worlds at the same step of
    the round (what is cut off at the round's end is cut off in all), divided by its deviation
4.  merge the round's observations into the moments
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import flat
from isthmus.learning.distributions import gaussian_log_prob
from isthmus.learning.learner import BaseLearner
from isthmus.learning.networks import init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.policies import GaussianBehaviour, GaussianPolicy, UniformBehaviour
from isthmus.learning.settings import PositiveFloat, PositiveInt, UnitFloat
from isthmus.methods.registry import register_learner


class ReinforceState(NamedTuple):
    """All that is learned: one tree of arrays."""

    networks: Any  # (actor, log standard deviations)
    optimizer: Any
    obs_moments: Moments
    low: Any  # (A,)
    high: Any  # (A,)


def returns_to_go(reward, done, discount):
    """G [T, N] of rewards [T, N]; an episode ends where it is `done`."""
    out, following = np.empty(reward.shape), np.zeros(reward.shape[1])
    for t in reversed(range(len(reward))):
        following = reward[t] + discount * np.where(done[t], 0.0, following)
        out[t] = following
    return out


@register_learner("reinforce")
@dataclass(frozen=True)
class Reinforce(BaseLearner[ReinforceState]):
    """A learner: settings, and pure functions of its state."""

    worlds: PositiveInt = 16
    steps: PositiveInt = 64
    hidden: tuple[int, ...] = (32,)
    learning_rate: PositiveFloat = 3e-2
    discount: UnitFloat = 0.98

    @property
    def _optimizer(self):
        return optax.adam(self.learning_rate)

    def init(self, spaces, key):
        actor = init_mlp(key, (spaces.observation, *self.hidden, spaces.action), 0.01)
        networks = actor, jnp.zeros(spaces.action)
        moments = Moments.empty(spaces.observation)
        return ReinforceState(
            networks, self._optimizer.init(networks), moments, spaces.low, spaces.high
        )

    def warm_start(self, s):
        return s._replace(optimizer=self._optimizer.init(s.networks))

    def random(self, s):
        return UniformBehaviour(s.low, s.high)

    def policy(self, s):
        return GaussianPolicy(Normalizer.of(s.obs_moments), s.networks[0], s.low, s.high)

    def behaviour(self, s):
        return GaussianBehaviour(self.policy(s), s.networks[1])

    def observe(self, s, transitions):
        # 4.
        return s._replace(obs_moments=s.obs_moments.merge(flat(transitions.obs)))

    def learn(self, s, transitions, key):
        # 2.
        done = transitions.terminated | transitions.truncated
        returns = returns_to_go(transitions.reward, done, self.discount)
        advantage = returns - returns.mean(axis=1, keepdims=True)
        advantage = advantage / (advantage.std() + 1e-8)
        # 3.
        obs = Normalizer.of(s.obs_moments)(transitions.obs)
        sample = transitions.extra["sample"]
        networks, optimizer, loss = self._descend(s.networks, s.optimizer, obs, sample, advantage)
        s = s._replace(networks=networks, optimizer=optimizer)
        return self.observe(s, transitions), {"policy_loss": float(loss)}

    @partial(jax.jit, static_argnums=0)
    def _descend(self, networks, optimizer, obs, sample, advantage):
        def loss(networks):
            actor, log_std = networks
            log_prob = jax.vmap(gaussian_log_prob, (0, 0, None))(
                flat(sample), mlp(actor, flat(obs)), log_std
            )
            return -(log_prob * flat(advantage)).mean()

        value, gradient = jax.value_and_grad(loss)(networks)
        updates, optimizer = self._optimizer.update(gradient, optimizer)
        return optax.apply_updates(networks, updates), optimizer, value
