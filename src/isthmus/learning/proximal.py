"""What proximal policy optimization is for any network: box lines 4 to 7 of `ppo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import (
    any_reward,
    flat,
)
from isthmus.learning.distributions import gaussian_entropy, gaussian_log_prob
from isthmus.learning.learner import BaseLearner, Health, S, check_minibatch
from isthmus.learning.normalization import (
    discounted_returns,
    drop_unknown_rows,
    normalize_with_missing,
)
from isthmus.learning.second_core import run_both
from isthmus.learning.settings import (
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitFloat,
)
from isthmus.types import Array, Transition


class Optimizers(NamedTuple):
    """Adam's states."""

    policy: optax.OptState  # of the actor and its deviations
    critic: optax.OptState


class Rollout(NamedTuple):
    """What one update needs, rows (B, ...)."""

    obs: Array
    critic_obs: Array
    sample: Array
    log_prob: Array
    advantage: Array
    target: Array


class RoundObs(NamedTuple):
    """A round's normalized observations [T, N, ...], as actor and critic see them."""

    actor: Array
    critic: Array
    next_critic: Array


class Descent(NamedTuple):
    """What a minibatch changes, and whether `target_kl` has stopped the round's updates."""

    weights: Any
    optimizer: optax.OptState
    stopped: Array  # bool


class Descended(NamedTuple):
    """What is left of a round's descents: weights, optimizer, and metrics."""

    weights: Any
    optimizer: optax.OptState
    health: Health


class Improved(NamedTuple):
    """What a round makes of networks and optimizers, and metrics."""

    networks: Any
    optimizer: Optimizers
    health: Health


Loss = Callable[[Any, Any], tuple[Array, Health]]  # of weights and a minibatch


def surrogate(ratio: Array, advantage: Array, clip: float) -> Array:
    """Return Eq. 7 of PPO: min(rho A, clip(rho, 1 - eps, 1 + eps) A), one sample."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


@dataclass(frozen=True)
class Proximal(BaseLearner[S], Generic[S]):
    """What PPO is for any network: its settings, and box lines 4 to 7.

    A kind of it says how actor and critic read a minibatch. Raises BadValue for a setting that
    cannot learn.
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
    # stop a round's updates of the policy when it has moved this far (nats); 0: never
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

    def init_optimizers(self, networks: Any) -> Optimizers:
        """Return the optimizers before the first descent."""
        policy = networks.actor, networks.log_std
        return Optimizers(self._optimizer.init(policy), self._optimizer.init(networks.critic))

    def read_means(self, actor: Any, batch: Any) -> Array:
        """Return the policy's means (B, A) over a minibatch."""
        raise NotImplementedError

    def read_values(self, critic: Any, batch: Any) -> Array:
        """Return the critic's values (B,) over a minibatch."""
        raise NotImplementedError

    def read_rows(self, batch: Any) -> Rollout:
        """Return a minibatch as rows (B, ...), in the order of means and values."""
        return batch

    def policy_loss(self, policy: tuple[Any, Array], batch: Any) -> tuple[Array, Health]:
        """Return L_pi of box line 5 over a minibatch (B, ...), and metrics.

        The policy is an actor and its log deviations (A,). Advantages are standardized in the
        minibatch.
        """
        actor, log_std = policy
        mean, rows = self.read_means(actor, batch), self.read_rows(batch)
        advantage = (rows.advantage - rows.advantage.mean()) / (rows.advantage.std() + 1e-8)
        log_prob = jax.vmap(gaussian_log_prob, (0, 0, None))(rows.sample, mean, log_std)
        log_ratio = log_prob - rows.log_prob
        ratio = jnp.exp(log_ratio)
        loss = -surrogate(ratio, advantage, self.clip).mean()
        entropy = gaussian_entropy(log_std)
        health = {"policy_loss": loss} | self._measure_change(ratio, log_ratio)
        return loss - self.entropy_weight * entropy, health

    def critic_loss(self, critic: Any, batch: Any) -> tuple[Array, Health]:
        """Return L_V of box line 5 over a minibatch (B, ...), and metrics."""
        value, rows = self.read_values(critic, batch), self.read_rows(batch)
        loss = jnp.square(value - rows.target).mean()
        return self.value_weight * loss, {"value_loss": loss}

    def _measure_change(self, ratio: Array, log_ratio: Array) -> Health:
        """Return how far the policy has moved from the round's, by rho (B,) and its logarithm."""
        return {
            # Schulman's low-variance estimator of KL(old || new)
            "kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > self.clip).mean(),
        }

    def improve(self, inputs: Any, rows: Any, size: int, key: Array) -> Improved:
        """Return networks, optimizers and health after box lines 4 to 6, on both cores.

        `inputs` has `networks` and `optimizer`; `rows` is a tree of rows (B, ...), taken in
        minibatches of `size`. Health is the mean over all minibatches; kl that over the last
        epoch's.
        """
        networks, optimizer = inputs.networks, inputs.optimizer
        policy = networks.actor, networks.log_std
        order = self.draw_order(jax.tree.leaves(rows)[0].shape[0], size, key)

        def improve_policy() -> Descended:
            return jax.block_until_ready(
                self._improve_policy(policy, optimizer.policy, rows, order)
            )

        of_policy, of_critic = run_both(
            improve_policy,
            improve_critic,
            self,
            networks.critic,
            optimizer.critic,
            self.rows_of_critic(rows),
            order,
        )
        return self.put_together(networks, of_policy, of_critic)

    def draw_order(self, count: int, size: int, key: Array) -> np.ndarray:
        """Return the rows of each epoch's minibatches, int32 [epochs, minibatches, size].

        Every epoch is a random order of the `count` rows; those beyond its last full minibatch are
        left out.
        """
        bits = np.asarray(_draw_bits(key, self.epochs, count))
        order = np.argsort(bits.view(np.uint64)[..., 0], axis=1).astype(np.int32)
        minibatches = count // size
        return order[:, : minibatches * size].reshape(self.epochs, minibatches, size)

    def rows_of_critic(self, rows: Any) -> Any:
        """Return rows without what only the policy learns from."""
        return rows

    def put_together(self, networks: Any, of_policy: Descended, of_critic: Descended) -> Improved:
        """Return networks, optimizers and health of the two descents of a round."""
        actor, log_std = of_policy.weights
        return Improved(
            networks._replace(actor=actor, log_std=log_std, critic=of_critic.weights),
            Optimizers(of_policy.optimizer, of_critic.optimizer),
            of_policy.health | of_critic.health,
        )

    @partial(jax.jit, static_argnums=0)
    def _improve_policy(
        self, policy: Any, optimizer: optax.OptState, rows: Any, order: Array
    ) -> Descended:
        """Do the policy's part of box lines 4 to 6."""
        after = self._descend_round(self.policy_loss, (policy, optimizer), rows, order)
        _, log_std = after.weights
        return after._replace(health=after.health | {"entropy": gaussian_entropy(log_std)})

    @partial(jax.jit, static_argnums=0)
    def _improve_critic(
        self, critic: Any, optimizer: optax.OptState, rows: Any, order: Array
    ) -> Descended:
        """Do the critic's part of box lines 4 to 6."""
        return self._descend_round(self.critic_loss, (critic, optimizer), rows, order)

    def _descend_round(
        self, loss: Loss, learned: tuple[Any, optax.OptState], rows: Any, order: Array
    ) -> Descended:
        def epoch(descent: Descent, order: Array) -> tuple[Descent, Health]:
            batches = jax.tree.map(lambda x: x[order], rows)
            return jax.lax.scan(partial(self._descend, loss), descent, batches)

        end, health = jax.lax.scan(epoch, Descent(*learned, jnp.zeros((), bool)), order)
        means = {name: x.mean() for name, x in health.items()}
        if "kl" in health:
            means["kl"] = health["kl"][-1].mean()
        return Descended(end.weights, end.optimizer, means)

    def _descend(self, loss: Loss, descent: Descent, batch: Any) -> tuple[Descent, Health]:
        """Box line 6, one step of Adam; beyond `target_kl` a policy stays."""
        weights, optimizer, stopped = descent
        (_, health), gradient = jax.value_and_grad(loss, has_aux=True)(weights, batch)
        updates, new_optimizer = self._optimizer.update(gradient, optimizer, weights)
        new_weights = optax.apply_updates(weights, updates)
        if self.target_kl and "kl" in health:
            stopped = stopped | (health["kl"] > 1.5 * self.target_kl)
            new_weights = _keep_where(stopped, weights, new_weights)
            new_optimizer = _keep_where(stopped, optimizer, new_optimizer)
        return Descent(new_weights, new_optimizer, stopped), health

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


def improve_critic(
    learner: Proximal, critic: Any, optimizer: optax.OptState, rows: Any, order: Array
) -> Descended:
    """Do the critic's part of a learner's box lines 4 to 6."""
    return jax.block_until_ready(learner._improve_critic(critic, optimizer, rows, order))


@partial(jax.jit, static_argnums=(1, 2))
def _draw_bits(key: Array, epochs: int, count: int) -> Array:
    """Return 64 random bits for each row of each epoch, uint32 [epochs, count, 2]."""
    return jax.random.bits(key, (epochs, count, 2), np.uint32)


def _keep_where(kept: Array, old: Any, new: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(kept, a, b), old, new)
