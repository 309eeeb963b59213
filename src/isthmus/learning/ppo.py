"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), clipped surrogate.

1.  act with the policy, observations normalized by moments frozen for the round
2.  V, V': values of all states and of their true next states
3.  advantages by GAE, bootstrapped where a time limit cut the episode
4.  for each epoch, for each minibatch:
5.      L = E[-min(rho A, clip(rho, 1 +- eps) A)] + c_v E[(V - R)^2] - c_h H
6.      Adam on L, gradients clipped by their global norm
7.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

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
from isthmus.learning.distributions import gaussian_entropy, gaussian_log_prob
from isthmus.learning.learner import BaseLearner, Health, S, check_minibatch
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import (
    Moments,
    Normalizer,
    discounted_returns,
    drop_unknown_rows,
    normalize_with_missing,
    reward_scale,
)
from isthmus.learning.policies import GaussianBehaviour, GaussianPolicy, UniformBehaviour
from isthmus.learning.settings import (
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitFloat,
)
from isthmus.types import Array, Metrics, Spaces, Transition

# States whose rounds are one program's in `PPO.learn_each`; no bit depends on it.
MEMBERS_PER_SHARD = 8

Networks = TypeVar("Networks")  # a tree with an actor, a critic and log deviations
Rows = TypeVar("Rows")  # what an update learns from: a tree of rows (B, ...)


class PPONetworks(NamedTuple):
    """The policy's mean and deviations, and its value function."""

    actor: MLP
    log_std: Array
    critic: MLP


class PPOState(NamedTuple):
    """What is learned: networks, their optimizer, and running moments."""

    networks: PPONetworks
    optimizer: optax.OptState
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    paid: np.bool_  # whether any reward was not 0 since the state began or crossed elsewhere
    low: np.ndarray
    high: np.ndarray


class Rollout(NamedTuple):
    """What one update needs, rows (B, ...)."""

    obs: Array
    critic_obs: Array
    sample: Array
    log_prob: Array
    advantage: Array
    target: Array


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
    optimizer: optax.OptState
    normalize: Normalizer
    normalize_parameters: Normalizer
    scale: Array  # of rewards
    any_reward: Array
    arrays: _RoundArrays


class RoundObs(NamedTuple):
    """A round's normalized observations [T, N, ...], as actor and critic see them."""

    actor: Array
    critic: Array
    next_critic: Array


def surrogate(ratio: Array, advantage: Array, clip: float) -> Array:
    """Return Eq. 7 of PPO: min(rho A, clip(rho, 1 - eps, 1 + eps) A), one sample."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


@dataclass(frozen=True)
class Proximal(BaseLearner[S], Generic[S, Networks, Rows]):
    """What PPO is for any network: its settings, and box lines 4 to 7.

    A kind of it adds `loss(networks, minibatch)`, which ends in `objective`. Raises BadValue for a
    setting that cannot learn.
    """

    worlds: PositiveInt = 64
    steps: PositiveInt = 64
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: PositiveFloat = 3e-4
    epochs: PositiveInt = 10
    minibatch: PositiveInt = 64
    discount: UnitFloat = 0.99
    gae_decay: UnitFloat = 0.95
    clip: PositiveFloat = 0.2
    value_weight: NonNegativeFloat = 0.5
    entropy_weight: NonNegativeFloat = 0.0
    max_gradient: PositiveFloat = 0.5
    initial_log_std: FiniteFloat = 0.0
    # steps over which the learning rate falls, in a line, to a tenth; 0: it stays
    annealing: NonNegativeInt = 0
    # stop a round's updates when the policy has moved this far (nats); 0: never
    target_kl: NonNegativeFloat = 0.0
    # the critic sees the drawn dynamics; for a target's, their mean in training
    privileged: bool = False

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue for a minibatch beyond a round."""
        check_minibatch(self.minibatch, worlds, steps)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        rate = self.learning_rate
        if self.annealing:
            round_ = self.worlds * self.steps
            descents = self.annealing * self.epochs * (round_ // self.minibatch) // round_
            rate = optax.linear_schedule(rate, rate / 10, descents)
        return optax.chain(optax.clip_by_global_norm(self.max_gradient), optax.adam(rate, eps=1e-5))

    def normalize_obs(self, inputs: Any) -> RoundObs:
        """Return what the networks see of a round; a privileged critic also sees the dynamics."""
        arrays = inputs.arrays
        obs, next_obs = inputs.normalize(arrays.obs), inputs.normalize(arrays.next_obs)
        if not self.privileged:
            return RoundObs(obs, obs, next_obs)
        dynamics = normalize_with_missing(inputs.normalize_parameters, arrays.parameters)
        critic_obs = jnp.concatenate([obs, dynamics], -1)
        return RoundObs(obs, critic_obs, jnp.concatenate([next_obs, dynamics], -1))

    def loss(self, networks: Networks, batch: Rows) -> tuple[Array, Health]:
        """Return box line 5 over a minibatch, and metrics."""
        raise NotImplementedError

    def objective(
        self, batch: Rollout, mean: Array, log_std: Array, value: Array
    ) -> tuple[Array, Health]:
        """Return box line 5 over a minibatch (B, ...), and metrics.

        Advantages are standardized in it; means (B, A) and values (B,) are the new networks'.
        """
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        log_prob = jax.vmap(gaussian_log_prob, (0, 0, None))(batch.sample, mean, log_std)
        log_ratio = log_prob - batch.log_prob
        ratio = jnp.exp(log_ratio)
        policy_loss = -surrogate(ratio, advantage, self.clip).mean()
        value_loss = jnp.square(value - batch.target).mean()
        entropy = gaussian_entropy(log_std)
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        health = {"policy_loss": policy_loss, "value_loss": value_loss}
        return loss, health | self._measure_change(ratio, log_ratio)

    def _measure_change(self, ratio: Array, log_ratio: Array) -> Health:
        """Return how far the policy has moved from the round's, by rho (B,) and its logarithm."""
        return {
            # Schulman's low-variance estimator of KL(old || new)
            "kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > self.clip).mean(),
        }

    def improve(
        self, networks: Networks, optimizer: optax.OptState, rows: Rows, size: int, key: Array
    ) -> tuple[Networks, optax.OptState, Health]:
        """Return networks, optimizer and health after box lines 4 to 6.

        `rows` is a tree of rows (B, ...), taken in minibatches of `size`. Health is the mean over
        all minibatches; kl that over the last epoch's.
        """

        def epoch(descent: Descent, key: Array) -> tuple[Descent, Health]:
            return jax.lax.scan(self._descend, descent, _draw_minibatches(rows, size, key))

        start = Descent(networks, optimizer, jnp.zeros((), bool))
        end, health = jax.lax.scan(epoch, start, jax.random.split(key, self.epochs))
        means = {name: x.mean() for name, x in health.items()}
        return end.networks, end.optimizer, means | {"kl": health["kl"][-1].mean()}

    def _descend(self, descent: Descent, batch: Rows) -> tuple[Descent, Health]:
        """Box line 6, one step of Adam; beyond `target_kl` networks and optimizer stay."""
        networks, optimizer, stopped = descent
        (_, health), gradient = jax.value_and_grad(self.loss, has_aux=True)(networks, batch)
        updates, new_optimizer = self._optimizer.update(gradient, optimizer, networks)
        new_networks = optax.apply_updates(networks, updates)
        if self.target_kl:
            stopped = stopped | (health["kl"] > 1.5 * self.target_kl)
            new_networks = _keep_where(stopped, networks, new_networks)
            new_optimizer = _keep_where(stopped, optimizer, new_optimizer)
        return Descent(new_networks, new_optimizer, stopped), health

    def observe(self, s: Any, tr: Transition) -> Any:
        """Box line 7: merge a round into the moments, or the random steps before the first."""
        done = tr.terminated | tr.truncated
        returns, running = discounted_returns(s.running, tr.reward, done, self.discount)
        parameters = s.parameters
        if self.privileged:
            parameters = parameters.merge(drop_unknown_rows(flat(tr.parameters)))
        return s._replace(
            obs_moments=s.obs_moments.merge(flat(tr.obs)),
            parameters=parameters,
            returns=s.returns.merge(flat(returns)),
            running=running,
            paid=any_reward(s.paid, tr.reward),
        )


class Descent(NamedTuple):
    """What a minibatch changes, and whether `target_kl` has stopped the round's updates."""

    networks: Any
    optimizer: optax.OptState
    stopped: Array  # bool


def _draw_minibatches(rows: Any, size: int, key: Array) -> Any:
    """Return a tree of rows (B, ...) in random order, [B // size, size, ...]."""
    length = len(jax.tree.leaves(rows)[0])
    count = length // size
    order = jax.random.permutation(key, length)[: count * size]
    return jax.tree.map(lambda x: x[order].reshape(count, size, *x.shape[1:]), rows)


def _keep_where(kept: Array, old: Any, new: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(kept, a, b), old, new)


@dataclass(frozen=True)
class PPO(Proximal[PPOState, PPONetworks, Rollout]):
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
            self._optimizer.init(networks),
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
            optimizer=self._optimizer.init(s.networks),
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
        networks, optimizer, metrics = self._round(self._gather(s, tr), key)
        s = self.observe(s._replace(networks=networks, optimizer=optimizer), tr)
        return s, {k: float(v) for k, v in metrics.items()}

    def learn_each(
        self, states: Sequence[PPOState], trs: Sequence[Transition], keys: Sequence[Array]
    ) -> list[PPOState]:
        """Return what `learn` makes of each state, by one program for any number of them.

        It is `lax.map` over shards of a fixed size.
        """
        inputs = [jax.device_get(self._gather(s, tr)) for s, tr in zip(states, trs, strict=True)]
        learned = []
        for start in range(0, len(inputs), MEMBERS_PER_SHARD):
            shard = slice(start, start + MEMBERS_PER_SHARD)
            learned += self._learn_shard(inputs[shard], keys[shard])
        after = []
        for s, tr, (networks, optimizer) in zip(states, trs, learned, strict=True):
            after.append(self.observe(s._replace(networks=networks, optimizer=optimizer), tr))
        return after

    def _learn_shard(
        self, inputs: Sequence[_RoundInput], keys: Sequence[Array]
    ) -> list[tuple[PPONetworks, optax.OptState]]:
        """Return networks and optimizer after the rounds of at most MEMBERS_PER_SHARD states.

        The last one fills the shard up.
        """
        count = len(inputs)
        members = [min(m, count - 1) for m in range(MEMBERS_PER_SHARD)]
        stacked = jax.tree.map(lambda *x: np.stack(x), *[inputs[m] for m in members])
        used = np.arange(MEMBERS_PER_SHARD) < count
        learned = self._rounds(used, stacked, jnp.stack([keys[m] for m in members]))
        learned = jax.device_get(learned)
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
    def _rounds(
        self, used: Array, inputs: _RoundInput, keys: Array
    ) -> tuple[PPONetworks, optax.OptState]:
        """`_round` of those (SHARD, ...) that are used: the others cost nothing."""

        def learn(inputs: _RoundInput, key: Array) -> tuple[PPONetworks, optax.OptState]:
            return self._round(inputs, key)[:2]

        def keep(inputs: _RoundInput, key: Array) -> tuple[PPONetworks, optax.OptState]:
            return inputs[:2]

        return jax.lax.map(lambda x: jax.lax.cond(x[0], learn, keep, *x[1:]), (used, inputs, keys))

    @partial(jax.jit, static_argnums=0)
    def _round(self, inputs: _RoundInput, key: Array) -> tuple[PPONetworks, optax.OptState, Health]:
        obs = self.normalize_obs(inputs)
        # 2.
        valued = self._estimate_values(inputs, obs)
        # 3.
        rows = self._make_rows(inputs, obs, valued)
        # 4. to 6.
        networks, optimizer, metrics = self.improve(
            inputs.networks, inputs.optimizer, rows, self.minibatch, key
        )
        metrics |= {
            "explained_variance": explained_variance(flat(valued.value), rows.target),
            "entropy": gaussian_entropy(networks.log_std),
            "value": valued.value.mean(),
            "reward_scale": inputs.scale,
        }
        return networks, optimizer, metrics

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

    def loss(self, networks: PPONetworks, batch: Rollout) -> tuple[Array, Health]:
        """Return box line 5 over a minibatch, and metrics."""
        value = mlp(networks.critic, batch.critic_obs)[:, 0]
        return self.objective(batch, mlp(networks.actor, batch.obs), networks.log_std, value)
