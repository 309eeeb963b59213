"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), clipped surrogate.

1.  act with the policy, observations normalized by moments frozen for the round
2.  V, V': values of all states and of their true next states
3.  advantages by GAE, bootstrapped where a time limit cut the episode
    policy and value function at once, which share no weights:
4.  for each epoch, for each minibatch, the same for both:
5.      L_pi = E[-min(rho A, clip(rho, 1 +- eps) A)] - c_h H;  L_V = c_v E[(V - R)^2]
6.      Adam on each, each one's gradients clipped by their norm (the paper has one loss of both)
7.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import (
    ValuedRound,
    any_reward,
    explained_variance,
    flat,
    scale_rewards,
)
from isthmus.learning.distributions import gaussian_log_prob
from isthmus.learning.learner import Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import (
    Moments,
    Normalizer,
    reward_scale,
)
from isthmus.learning.policies import GaussianBehaviour, GaussianPolicy, UniformBehaviour
from isthmus.learning.proximal import Descended, Improved, Optimizers, Proximal, Rollout, RoundObs
from isthmus.types import Array, Metrics, Spaces, Transition

# States whose rounds are one program's in `PPO.learn_each`; no bit depends on it.
MEMBERS_PER_SHARD = 8


class PPONetworks(NamedTuple):
    """The policy's mean and deviations, and its value function."""

    actor: MLP
    log_std: Array
    critic: MLP


class PPOState(NamedTuple):
    """What is learned: networks, their optimizers, and running moments."""

    networks: PPONetworks
    optimizer: Optimizers
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    paid: np.bool_  # whether any reward was not 0 since the state began or crossed elsewhere
    low: np.ndarray
    high: np.ndarray


class _RoundArrays(NamedTuple):
    """What a round's update takes of its transitions, [T, N, ...]."""

    obs: Array
    next_obs: Array
    parameters: Array
    sample: Array
    reward: Array
    terminated: Array
    done: Array


class _RoundInput(NamedTuple):
    """All that a round learns from, but its key."""

    networks: PPONetworks
    optimizer: Optimizers
    normalize: Normalizer
    normalize_parameters: Normalizer
    scale: Array  # of rewards
    any_reward: Array
    arrays: _RoundArrays


@dataclass(frozen=True)
class PPO(Proximal[PPOState]):
    """PPO. Defaults are CleanRL's and SB3's sizes, in 64 worlds of 64 steps a round.

    Raises BadValue for a setting that cannot learn.
    """

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(super()._optimizer)  # as one array: many short ones take longer

    def init(self, spaces: Spaces, key: Array) -> PPOState:
        """Return the state before any transition; the last layer of the actor is small."""
        k_actor, k_critic = jax.random.split(key)
        extra = spaces.parameters if self.privileged else 0
        networks = PPONetworks(
            init_mlp(k_actor, (spaces.observation, *self.hidden, spaces.action), 0.01),
            jnp.full(spaces.action, self.initial_log_std, jnp.float32),
            init_mlp(k_critic, (spaces.observation + extra, *self.hidden, 1), 1.0),
        )
        return PPOState(
            networks,
            self.init_optimizers(networks),
            Moments.empty(spaces.observation),
            Moments.empty(extra),
            Moments.empty(()),
            np.zeros(self.worlds),
            np.bool_(False),
            np.asarray(spaces.low, np.float32),
            np.asarray(spaces.high, np.float32),
        )

    def warm_start(self, s: PPOState) -> PPOState:
        """Return the state for other worlds: weights and moments stay, not the optimizer's."""
        return s._replace(
            optimizer=self.init_optimizers(s.networks),
            running=np.zeros(self.worlds),
            paid=np.bool_(False),
        )

    def random(self, s: PPOState) -> UniformBehaviour:
        """Return the behaviour that collects before the first round."""
        return UniformBehaviour(s.low, s.high)

    def policy(self, s: PPOState) -> GaussianPolicy:
        """Return the policy that is deployed."""
        return GaussianPolicy(Normalizer.of(s.obs_moments), s.networks.actor, s.low, s.high)

    def behaviour(self, s: PPOState) -> GaussianBehaviour:
        """Return the behaviour that collects."""
        return GaussianBehaviour(self.policy(s), s.networks.log_std)

    def learn(self, s: PPOState, tr: Transition, key: Array) -> tuple[PPOState, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state, and metrics."""
        inputs = self._gather(s, tr)
        # 2. and 3.
        rows, metrics = self._prepare(inputs)
        # 4. to 6.
        after = self.improve(inputs, rows, self.minibatch, key)
        s = self.observe(s._replace(networks=after.networks, optimizer=after.optimizer), tr)
        return s, {k: float(v) for k, v in (metrics | after.health).items()}

    def learn_each(
        self, states: Sequence[PPOState], trs: Sequence[Transition], keys: Sequence[Array]
    ) -> list[PPOState]:
        """Return what `learn` makes of each state, by one program for any number of them.

        It is `lax.map` over shards of a fixed size.
        """
        inputs = [jax.device_get(self._gather(s, tr)) for s, tr in zip(states, trs, strict=True)]
        learned: list[Improved] = []
        for start in range(0, len(inputs), MEMBERS_PER_SHARD):
            shard = slice(start, start + MEMBERS_PER_SHARD)
            learned += self._learn_shard(inputs[shard], keys[shard])
        after = []
        for s, tr, new in zip(states, trs, learned, strict=True):
            after.append(
                self.observe(s._replace(networks=new.networks, optimizer=new.optimizer), tr)
            )
        return after

    def _learn_shard(self, inputs: Sequence[_RoundInput], keys: Sequence[Array]) -> list[Improved]:
        """Return what comes of the rounds of at most MEMBERS_PER_SHARD states.

        The last one fills the shard up.
        """
        count = len(inputs)
        members = [min(m, count - 1) for m in range(MEMBERS_PER_SHARD)]
        stacked = jax.tree.map(lambda *x: np.stack(x), *[inputs[m] for m in members])
        used = np.arange(MEMBERS_PER_SHARD) < count
        networks, optimizer = stacked.networks, stacked.optimizer
        rows = self._prepare_each(stacked)
        batch = rows.target.shape[1]
        orders = np.stack([self.draw_order(batch, self.minibatch, keys[m]) for m in members])
        policy = networks.actor, networks.log_std
        of_policy = self._improve_policies(used, (policy, optimizer.policy, rows, orders))
        of_critic = self._improve_critics(used, (networks.critic, optimizer.critic, rows, orders))
        learned = jax.device_get(self.put_together(networks, of_policy, of_critic))
        return [jax.tree.map(lambda x, m=m: x[m], learned) for m in range(count)]

    def _gather(self, s: PPOState, tr: Transition) -> _RoundInput:
        self.check_rollout_shape(*reversed(tr.reward.shape))
        done = tr.terminated | tr.truncated
        arrays = _RoundArrays(
            tr.obs, tr.next_obs, tr.parameters, tr.extra["sample"], tr.reward, tr.terminated, done
        )
        return _RoundInput(
            s.networks,
            s.optimizer,
            Normalizer.of(s.obs_moments),
            Normalizer.of(s.parameters),
            reward_scale(s.returns),
            any_reward(s.paid, tr.reward),
            arrays,
        )

    @partial(jax.jit, static_argnums=0)
    def _prepare(self, inputs: _RoundInput) -> tuple[Rollout, Health]:
        """Return box lines 2 and 3, and metrics."""
        obs = self.normalize_obs(inputs)
        # 2.
        valued = self._estimate_values(inputs, obs)
        # 3.
        rows = self._make_rows(inputs, obs, valued)
        return rows, {
            "explained_variance": explained_variance(flat(valued.value), rows.target),
            "value": valued.value.mean(),
            "reward_scale": inputs.scale,
        }

    @partial(jax.jit, static_argnums=0)
    def _prepare_each(self, inputs: _RoundInput) -> Rollout:
        """Return the rows of a shard's states (SHARD, ...)."""
        return jax.lax.map(lambda one: self._prepare(one)[0], inputs)

    @partial(jax.jit, static_argnums=0)
    def _improve_policies(self, used: Array, members: Any) -> Descended:
        """`_improve_policy` of those (SHARD, ...) that are used: the others cost nothing."""
        return _map_used(self._improve_policy, used, members)

    @partial(jax.jit, static_argnums=0)
    def _improve_critics(self, used: Array, members: Any) -> Descended:
        """`_improve_critic` of those (SHARD, ...) that are used: the others cost nothing."""
        return _map_used(self._improve_critic, used, members)

    def _estimate_values(self, inputs: _RoundInput, obs: RoundObs) -> ValuedRound:
        """Return box line 2."""
        arrays, critic = inputs.arrays, inputs.networks.critic
        reward = scale_rewards(arrays.reward, inputs.scale)
        value = mlp(critic, obs.critic)[..., 0]
        next_value = mlp(critic, obs.next_critic)[..., 0]
        return ValuedRound(reward, value, next_value, arrays.terminated, arrays.done)

    def _make_rows(self, inputs: _RoundInput, obs: RoundObs, valued: ValuedRound) -> Rollout:
        """Return box line 3 with all else that an update learns from."""
        networks, sample = inputs.networks, flat(inputs.arrays.sample)
        advantage = valued.advantages(self.discount, self.gae_decay)
        target = advantage + valued.value
        mean = mlp(networks.actor, flat(obs.actor))
        return Rollout(
            flat(obs.actor),
            flat(obs.critic),
            sample,
            jax.vmap(gaussian_log_prob, (0, 0, None))(sample, mean, networks.log_std),
            flat(jnp.where(inputs.any_reward, advantage, 0.0)),
            flat(target),
        )

    def read_means(self, actor: MLP, batch: Rollout) -> Array:
        """Return the policy's means (B, A) over a minibatch."""
        return mlp(actor, batch.obs)

    def rows_of_critic(self, rows: Rollout) -> Rollout:
        """Return rows without what only the policy learns from."""
        return rows._replace(obs=None, sample=None, log_prob=None, advantage=None)

    def read_values(self, critic: MLP, batch: Rollout) -> Array:
        """Return the critic's values (B,) over a minibatch."""
        return mlp(critic, batch.critic_obs)[:, 0]


def _map_used(improve: Callable[..., Descended], used: Array, members: Any) -> Descended:
    """Return `improve(*member)` of the members (SHARD, ...) that are used, one by one."""

    def keep(weights: Any, optimizer: optax.OptState, *rest: Any) -> Descended:
        made = jax.eval_shape(improve, weights, optimizer, *rest)
        health = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), made.health)
        return Descended(weights, optimizer, health)

    return jax.lax.map(lambda x: jax.lax.cond(x[0], improve, keep, *x[1]), (used, members))
