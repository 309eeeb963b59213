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

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import explained_variance, flat, gae, paid_yet
from isthmus.learning.distributions import gaussian_entropy, gaussian_log_prob
from isthmus.learning.learner import (
    ABOVE_ZERO,
    FINITE,
    FRACTION,
    FROM_ZERO,
    WHOLE,
    LearnerDefaults,
    check_minibatch,
    check_settings,
)
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import (
    Moments,
    Normalizer,
    discounted_returns,
    drop_unknown_rows,
    normalize_with_missing,
)
from isthmus.learning.policies import GaussianBehaviour, GaussianPolicy, UniformBehaviour
from isthmus.types import Array, Metrics, Spaces, Transition

MEMBERS_PER_SHARD = (
    8  # states whose rounds are one program's in `PPO.learn_each`; no bit depends on it
)


class PPONetworks(NamedTuple):
    actor: MLP
    log_std: Array
    critic: MLP


class PPOState(NamedTuple):
    networks: PPONetworks
    optimizer: Any
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    paid: (
        np.bool_
    )  # whether anything but 0 was paid since the state began or crossed to other worlds
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


def surrogate(ratio: Array, advantage: Array, clip: float) -> Array:
    """Eq. 7 of PPO: min(rho A, clip(rho, 1 - eps, 1 + eps) A), one sample."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


@dataclass(frozen=True)
class Proximal(LearnerDefaults):
    """What PPO is for any network: its settings, and box lines 4 to 7; a kind adds `_optimizer` and
    `loss(networks, minibatch)`, which ends in `objective`.

    Raises BadValue for a setting that cannot learn.
    """

    worlds: int = 64
    steps: int = 64
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    epochs: int = 10
    minibatch: int = 64
    discount: float = 0.99
    gae_decay: float = 0.95
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    max_gradient: float = 0.5
    initial_log_std: float = 0.0
    annealing: int = (
        0  # steps over which the learning rate falls, in a line, to a tenth; 0: it stays
    )
    target_kl: float = (
        0.0  # stop a round's updates when the policy has moved this far (nats); 0: never
    )
    privileged: bool = (
        False  # the critic sees the drawn dynamics; for a target's, their mean in training
    )

    def __post_init__(self) -> None:
        check_settings(
            self,
            (("worlds", "steps", "epochs", "minibatch"), WHOLE),
            (("learning_rate", "clip", "max_gradient"), ABOVE_ZERO),
            (("discount", "gae_decay"), FRACTION),
            (("value_weight", "entropy_weight", "target_kl", "annealing"), FROM_ZERO),
            (("initial_log_std",), FINITE),
        )

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """(worlds, steps) of one round."""
        return self.worlds, self.steps

    def with_num_worlds(self, worlds: int) -> Self:
        """The same learner for another number of worlds."""
        return replace(self, worlds=worlds)

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

    def loss(self, networks: Any, batch: Any) -> tuple[Array, dict[str, Array]]:
        raise NotImplementedError

    def objective(
        self, batch: Rollout, mean: Array, log_std: Array, value: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Box line 5, over a minibatch (B, ...) with advantages standardized in it, for new means
        (B, A) and values (B,).
        """
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        log_ratio = (
            jax.vmap(gaussian_log_prob, (0, 0, None))(batch.sample, mean, log_std) - batch.log_prob
        )
        ratio = jnp.exp(log_ratio)
        policy_loss = -surrogate(ratio, advantage, self.clip).mean()
        value_loss = jnp.square(value - batch.target).mean()
        entropy = gaussian_entropy(log_std)
        health = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "kl": (
                ratio - 1 - log_ratio
            ).mean(),  # Schulman's low-variance estimator of KL(old || new)
            "clip_fraction": (jnp.abs(ratio - 1) > self.clip).mean(),
        }
        return policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy, health

    def improve(
        self, networks: Any, optimizer: Any, rows: Any, size: int, key: Array
    ) -> tuple[Any, Any, Any]:
        """Box lines 4 to 6, over a tree of rows (B, ...) in minibatches of `size`: networks,
        optimizer, health.

        Health is the mean over all minibatches; kl that over the last epoch's.
        """
        length = len(jax.tree.leaves(rows)[0])
        count = length // size
        descent = self._optimizer

        def minibatch(carry, batch):
            networks, optimizer, stopped = carry
            (_, health), gradient = jax.value_and_grad(self.loss, has_aux=True)(networks, batch)
            updates, new_optimizer = descent.update(gradient, optimizer, networks)
            new = optax.apply_updates(networks, updates)
            if self.target_kl:
                stopped = stopped | (health["kl"] > 1.5 * self.target_kl)
                keep = lambda old, fresh: jnp.where(stopped, old, fresh)
                new = jax.tree.map(keep, networks, new)
                new_optimizer = jax.tree.map(keep, optimizer, new_optimizer)
            return (new, new_optimizer, stopped), health

        def epoch(carry, key):
            order = jax.random.permutation(key, length)[: count * size]
            batches = jax.tree.map(lambda x: x[order].reshape(count, size, *x.shape[1:]), rows)
            return jax.lax.scan(minibatch, carry, batches)

        keys = jax.random.split(key, self.epochs)
        (networks, optimizer, _), health = jax.lax.scan(
            epoch, (networks, optimizer, jnp.zeros((), bool)), keys
        )
        return (
            networks,
            optimizer,
            {name: x.mean() for name, x in health.items()} | {"kl": health["kl"][-1].mean()},
        )

    def observe(self, s: Any, tr: Transition) -> Any:
        """Box line 7: merge a round into the moments (also that of random steps before the first)."""
        returns, running = discounted_returns(
            s.running, tr.reward, tr.terminated | tr.truncated, self.discount
        )
        return s._replace(
            obs_moments=s.obs_moments.merge(flat(tr.obs)),
            parameters=s.parameters.merge(drop_unknown_rows(flat(tr.parameters)))
            if self.privileged
            else s.parameters,
            returns=s.returns.merge(flat(returns)),
            running=running,
            paid=paid_yet(s.paid, tr.reward),
        )


@dataclass(frozen=True)
class PPO(Proximal):
    """A learner. Defaults are CleanRL's and SB3's sizes, in 64 worlds of 64 steps a round.

    Raises BadValue for a setting that cannot learn.
    """

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(super()._optimizer)  # as one array: many short ones take longer

    def init(self, spaces: Spaces, key: Array) -> PPOState:
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
        """The state to go on with in other worlds: weights and moments stay, the optimizer begins
        anew.
        """
        return s._replace(
            optimizer=self._optimizer.init(s.networks),
            running=np.zeros(self.worlds),
            paid=np.bool_(False),
        )

    def random(self, s: PPOState) -> UniformBehaviour:
        """What collects before the first round."""
        return UniformBehaviour(s.low, s.high)

    def policy(self, s: PPOState) -> GaussianPolicy:
        return GaussianPolicy(Normalizer.of(s.obs_moments), s.networks.actor, s.low, s.high)

    def behaviour(self, s: PPOState) -> GaussianBehaviour:
        return GaussianBehaviour(self.policy(s), s.networks.log_std)

    def learn(self, s: PPOState, tr: Transition, key: Array) -> tuple[PPOState, Metrics]:
        """One round: transitions [T, N, ...] to a new state."""
        networks, optimizer, metrics = self._round(*self._given(s, tr), key)
        s = self.observe(s._replace(networks=networks, optimizer=optimizer), tr)
        return s, {k: float(v) for k, v in metrics.items()}

    def learn_each(
        self, states: list[PPOState], trs: list[Transition], keys: list[Array]
    ) -> list[PPOState]:
        """`learner.learn_each`: one program for any number of states, `lax.map` over shards of a
        fixed size.
        """
        rows = [jax.device_get(self._given(s, tr)) for s, tr in zip(states, trs, strict=True)]
        learned = []
        for at in range(0, len(rows), MEMBERS_PER_SHARD):
            count = len(rows[at : at + MEMBERS_PER_SHARD])
            shard = [at + min(m, count - 1) for m in range(MEMBERS_PER_SHARD)]
            given = jax.tree.map(lambda *x: np.stack(x), *[rows[m] for m in shard])
            found = jax.device_get(
                self._rounds(
                    np.arange(MEMBERS_PER_SHARD) < count, given, jnp.stack([keys[m] for m in shard])
                )
            )
            learned += [jax.tree.map(lambda x, m=m: x[m], found) for m in range(count)]
        return [
            self.observe(s._replace(networks=networks, optimizer=optimizer), tr)
            for s, tr, (networks, optimizer) in zip(states, trs, learned, strict=True)
        ]

    def _given(self, s: PPOState, tr: Transition) -> tuple[Any, ...]:
        """What a round learns from, but its key."""
        self.check_rollout_shape(*reversed(tr.reward.shape))
        arrays = (tr.obs, tr.next_obs, tr.parameters, tr.extra["sample"], tr.reward, tr.terminated,
                  tr.terminated | tr.truncated)  # fmt: skip
        scale = np.float32(1 / np.sqrt(s.returns.variance + 1e-8))
        norms = (Normalizer.of(s.obs_moments), Normalizer.of(s.parameters))
        return s.networks, s.optimizer, norms, scale, paid_yet(s.paid, tr.reward), arrays

    @partial(jax.jit, static_argnums=0)
    def _rounds(self, used: Array, given: Any, keys: Array) -> tuple[PPONetworks, Any]:
        """`_round` of those (SHARD, ...) that are used: the others only fill the shard up, and cost
        nothing.
        """
        learn = lambda given, key: self._round(*given, key)[:2]
        keep = lambda given, key: given[:2]
        return jax.lax.map(lambda x: jax.lax.cond(x[0], learn, keep, *x[1:]), (used, given, keys))

    @partial(jax.jit, static_argnums=0)
    def _round(self, networks: PPONetworks, optimizer, norms, scale, paid, arrays, key):
        obs, next_obs, parameters, sample, reward, terminated, done = arrays
        reward = jnp.clip(reward * scale, -10.0, 10.0)
        normalize, normalize_parameters = norms
        obs, next_obs = normalize(obs), normalize(next_obs)
        see = obs, next_obs
        if self.privileged:
            dynamics = normalize_with_missing(normalize_parameters, parameters)
            see = tuple(jnp.concatenate([x, dynamics], -1) for x in see)
        # 2.
        value, next_value = (mlp(networks.critic, x)[..., 0] for x in see)
        # 3.
        advantage = jax.vmap(gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)(
            reward, value, next_value, terminated, done, self.discount, self.gae_decay
        )
        target = advantage + value
        log_prob = jax.vmap(gaussian_log_prob, (0, 0, None))(
            flat(sample), mlp(networks.actor, flat(obs)), networks.log_std
        )
        rows = Rollout(
            flat(obs),
            flat(see[0]),
            flat(sample),
            log_prob,
            flat(jnp.where(paid, advantage, 0.0)),
            flat(target),
        )
        # 4. to 6.
        networks, optimizer, metrics = self.improve(networks, optimizer, rows, self.minibatch, key)
        metrics |= {
            "explained_variance": explained_variance(flat(value), rows.target),
            "entropy": gaussian_entropy(networks.log_std),
            "value": value.mean(),
            "reward_scale": scale,
        }
        return networks, optimizer, metrics

    def loss(self, networks: PPONetworks, batch: Rollout) -> tuple[Array, dict[str, Array]]:
        """Box line 5, over a minibatch."""
        value = mlp(networks.critic, batch.critic_obs)[:, 0]
        return self.objective(batch, mlp(networks.actor, batch.obs), networks.log_std, value)
