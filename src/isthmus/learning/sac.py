"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290) with a temperature of its own (2018,
arXiv 1812.05905).

1.  act with the policy, tanh of a Gaussian, in several worlds; at random until `random_steps`
2.  transitions to the replay, true next states, death apart from time limits
3.  for each of them, on a batch drawn uniformly from the replay:
4.      a' ~ pi(s'),  y = r + gamma (1 - death) (min_i Q'_i(s', a') - alpha log pi(a'|s'))
5.      Adam on sum_i E[(Q_i(s, a) - y)^2] / 2
6.      a ~ pi(s),  Adam on E[alpha log pi(a|s) - min_i Q_i(s, a)] by the policy
7.      Adam on -log alpha E[log pi(a|s) + target entropy] by log alpha
8.      Q' <- Q' + tau (Q - Q')
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import flat
from isthmus.learning.distributions import gaussian_log_prob, normal
from isthmus.learning.learner import BaseLearner, Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.policies import Actor, SquashedBehaviour, SquashedPolicy, squashed_parameters
from isthmus.learning.replay import Replay
from isthmus.learning.settings import NonNegativeInt, PositiveFloat, PositiveInt, UnitFloat
from isthmus.types import Array, BadValue, Metrics, Spaces, Transition

Critics = tuple[MLP, ...]
QFunction = Callable[[Array, Array], Array]  # observations and actions: (critics, B)
CriticTerm = Callable[[QFunction, "SACBatch", Array], Array]
Carry = TypeVar("Carry")  # what a scan of updates changes
Batch = TypeVar("Batch")


class SACBatch(NamedTuple):
    """Transitions (B, ...), as the replay's rows are. Actions are the policy's own, in -1..1."""

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array  # bool: death, which ends all value, not a time limit


def rows(tr: Transition) -> SACBatch:
    """Return transitions [T, N, ...] as rows of the replay."""
    batch = SACBatch(tr.obs, tr.extra["sample"], tr.reward, tr.next_obs, tr.terminated)
    return SACBatch(*map(flat, batch))


class Learned(NamedTuple):
    """What an update changes."""

    actor: Actor
    critics: Critics
    targets: Critics
    log_temperature: Array
    # of actor, critics, temperature
    optimizers: tuple[optax.OptState, optax.OptState, optax.OptState]


class SACState(NamedTuple):
    """What is learned, and the replay it is learned from."""

    learned: Learned
    replay: Replay  # of SACBatch
    low: np.ndarray
    high: np.ndarray
    seen: np.int64  # transitions ever


def squashed_log_prob(before: Array, mean: Array, log_std: Array) -> Array:
    """Return log pi of tanh(before), one sample (A,): Eq. 21 of 1801.01290 (appendix C).

    log N(u) - sum log(1 - tanh(u)^2), the last as 2 (log 2 - u - softplus(-2 u)), which is exact
    where tanh(u) is 1.
    """
    return gaussian_log_prob(before, mean, log_std) - 2 * jnp.sum(
        np.log(2) - before - jax.nn.softplus(-2 * before)
    )


def squashed_sample(actor: Actor, obs: Array, noise: Array) -> tuple[Array, Array]:
    """Return actions in -1..1 (B, A) and their log probabilities (B,).

    They are for observations (B, O) and standard normal noise (B, A).
    """
    mean, log_std = squashed_parameters(actor, obs)
    before = mean + jnp.exp(log_std) * noise
    return jnp.tanh(before), jax.vmap(squashed_log_prob)(before, mean, log_std)


def q_values(critics: Critics, obs: Array, action: Array) -> Array:
    """Return the values of actions (B, A) by each of the critics, (critics, B)."""
    x = jnp.concatenate([obs, action], -1)
    return jnp.stack([mlp(critic, x, jax.nn.relu)[..., 0] for critic in critics])


def soft_target(
    reward: Array,
    terminated: Array,
    next_q: Array,
    next_log_prob: Array,
    temperature: Array,
    discount: float,
) -> Array:
    """Return y of one transition, with next_q (critics,): Eqs. 2 and 3 of 1812.05905.

    r + gamma (1 - death) (min_i Q_i - alpha log pi)
    """
    return reward + discount * (1.0 - terminated) * (next_q.min() - temperature * next_log_prob)


@partial(jax.jit, static_argnums=0)
def _sample_keys(n: int, key: Array) -> Array:
    """Return the keys [n] by which the minibatches of n updates are drawn."""
    return jax.vmap(lambda k: jax.random.split(k)[0])(jax.random.split(key, n))


@dataclass(frozen=True)
class SAC(BaseLearner[SACState]):
    """SAC. Defaults are the papers' and SB3's; `random_steps` is rl-zoo's `learning_starts`.

    A round is `worlds` x `steps` transitions and as many updates. Observations are not normalized.
    Each state carries a replay of `capacity` rows. Raises BadValue for a setting that cannot learn.
    """

    worlds: PositiveInt = 8
    steps: PositiveInt = 8
    hidden: tuple[int, ...] = (256, 256)
    # networks that share the numbers of an action out; 2: DAP's "separate policies"
    actors: PositiveInt = 1
    learning_rate: PositiveFloat = 3e-4
    minibatch: PositiveInt = 256
    discount: UnitFloat = 0.99
    tau: UnitFloat = 0.005
    capacity: PositiveInt = 1_000_000
    random_steps: NonNegativeInt = 10_000
    reward_scale: PositiveFloat = 1.0
    soft_targets: bool = True  # whether entropy counts in y

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity < self.minibatch:
            raise BadValue(
                f"capacity={self.capacity} is less than a minibatch of {self.minibatch}; raise it"
            )

    @property
    def adam(self) -> optax.GradientTransformation:
        """The optimizer of actor, critics and temperature."""
        return optax.flatten(optax.adam(self.learning_rate))

    def _init_optimizers(
        self, actor: Actor, critics: Critics, temperature: Array
    ) -> tuple[optax.OptState, optax.OptState, optax.OptState]:
        return self.adam.init(actor), self.adam.init(critics), self.adam.init(temperature)

    def init(self, spaces: Spaces, key: Array) -> SACState:
        """Return the state before any transition. Raises BadValue for uneven `actors`."""
        k_actor, *k_critics = jax.random.split(key, 1 + self.count_critics())
        if spaces.action % self.actors:
            raise BadValue(
                f"actors={self.actors} cannot share {spaces.action} numbers of an action out evenly"
            )
        widths = (spaces.observation, *self.hidden, 2 * spaces.action // self.actors)
        actor = tuple(init_mlp(k, widths, 0.01) for k in jax.random.split(k_actor, self.actors))
        sizes = (spaces.observation + spaces.action, *self.hidden, 1)
        critics = tuple(init_mlp(k, sizes, 1.0) for k in k_critics)
        temperature = jnp.zeros((), jnp.float32)
        optimizers = self._init_optimizers(actor, critics, temperature)
        learned = Learned(actor, critics, critics, temperature, optimizers)
        low, high = np.asarray(spaces.low, np.float32), np.asarray(spaces.high, np.float32)
        return SACState(learned, self._init_replay(spaces), low, high, np.int64(0))

    def _init_replay(self, spaces: Spaces) -> Replay:
        obs, action = np.zeros(spaces.observation, np.float32), np.zeros(spaces.action, np.float32)
        row = SACBatch(obs, action, np.float32(0), obs, np.bool_(False))
        return Replay.empty(self.capacity, row)

    def count_critics(self) -> int:
        """Return the number of critics."""
        return 2

    def warm_start(self, s: SACState) -> SACState:
        """Return the state for other worlds.

        The weights stay, the replay empties, the optimizers begin anew.
        """
        new = s.learned
        optimizers = self._init_optimizers(new.actor, new.critics, new.log_temperature)
        return s._replace(
            learned=new._replace(optimizers=optimizers), replay=s.replay.cleared(self.capacity)
        )

    def random(self, s: SACState) -> SquashedBehaviour:
        """Return the behaviour that collects before the first round."""
        return SquashedBehaviour(self.policy(s), np.bool_(True))

    def policy(self, s: SACState) -> SquashedPolicy:
        """Return the policy that is deployed."""
        return SquashedPolicy(s.learned.actor, s.low, s.high)

    def behaviour(self, s: SACState) -> SquashedBehaviour:
        """Return the behaviour that collects."""
        return SquashedBehaviour(self.policy(s), np.bool_(s.seen < self.random_steps))

    def observe(self, s: SACState, tr: Transition) -> SACState:
        """Box line 2: add transitions to the replay."""
        return s._replace(replay=s.replay.add(rows(tr)), seen=np.int64(s.seen + tr.reward.size))

    def ready(self, s: SACState) -> bool:
        """Return whether there is enough to learn from: not while actions are random."""
        return bool(s.seen >= self.random_steps and s.replay.size >= self.minibatch)

    def learn(self, s: SACState, tr: Transition, key: Array) -> tuple[SACState, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state. Random actions teach nothing."""
        s = self.observe(s, tr)
        if not self.ready(s):
            return s, {}
        batches = self.draw(s.replay, tr.reward.size, key)
        learned, metrics = self.learn_batches(s.learned, batches, key)
        return s._replace(learned=learned), {k: float(v) for k, v in metrics.items()}

    def draw(self, replay: Replay, n: int, key: Array) -> SACBatch:
        """Return the minibatches of n updates, [n, B, ...], each drawn uniformly from all rows."""
        return replay.draw(self.minibatch, _sample_keys(n, key))

    def learn_batches(
        self, learned: Learned, batches: SACBatch, key: Array
    ) -> tuple[Learned, Health]:
        """Do box lines 4 to 8 on each of the minibatches [n, B, ...]; also return mean metrics.

        `key` is that by which they were drawn.
        """
        return self._learn_batches(learned, batches, key)

    @partial(jax.jit, static_argnums=0)
    def _learn_batches(
        self, learned: Learned, batches: SACBatch, key: Array
    ) -> tuple[Learned, Health]:
        def step(learned: Learned, inputs: tuple[SACBatch, Array]) -> tuple[Learned, Health]:
            batch, key = inputs
            return self.update(learned, batch, jax.random.split(key)[1])

        keys = jax.random.split(key, len(batches.reward))
        learned, health = jax.lax.scan(step, learned, (batches, keys))
        return learned, {name: x.mean() for name, x in health.items()}

    def update(
        self,
        s: Learned,
        batch: SACBatch,
        key: Array,
        *,
        weight: Array | float = 1.0,
        critic_term: CriticTerm | None = None,
    ) -> tuple[Learned, Health]:
        """Do box lines 4 to 8, one gradient step, on a batch (B, ...); pure.

        `weight` (B,) is on the critics' squared errors. `critic_term(q, batch, key)`, a scalar, is
        added to their loss; q(obs, action) gives (critics, B).
        """
        k_noise, k_term = jax.random.split(key)
        next_noise, noise = normal(k_noise, (2, *batch.action.shape))
        of_actor, of_critics, of_temperature = s.optimizers
        # 4.
        target = self._targets(s, batch, next_noise, key)

        # 5.
        def critic_loss(critics: Critics) -> tuple[Array, tuple[Array, Array]]:
            q = self.q_values(critics, batch.obs, batch.action)
            loss = 0.5 * (weight * jnp.square(q - target)).mean(1).sum()
            term = (
                critic_term(partial(self.q_values, critics), batch, k_term) if critic_term else 0.0
            )
            return loss + term, (loss, q.mean())

        gradient, (loss, value) = jax.grad(critic_loss, has_aux=True)(s.critics)
        critics, of_critics = self._descend(s.critics, gradient, of_critics)
        # 6.
        temperature = jnp.exp(s.log_temperature)

        def actor_loss(actor: Actor) -> tuple[Array, Array]:
            action, log_prob = squashed_sample(actor, batch.obs, noise)
            q = self.value_of_actor(self.q_values(critics, batch.obs, action))
            return (temperature * log_prob - q).mean(), log_prob.mean()

        gradient, log_prob = jax.grad(actor_loss, has_aux=True)(s.actor)
        actor, of_actor = self._descend(s.actor, gradient, of_actor)
        # 7.
        gradient = -(log_prob - batch.action.shape[-1])  # the target entropy is -A
        log_temperature, of_temperature = self._descend(s.log_temperature, gradient, of_temperature)
        # 8.
        targets = jax.tree.map(lambda slow, new: slow + self.tau * (new - slow), s.targets, critics)
        optimizers = of_actor, of_critics, of_temperature
        health = {
            "critic_loss": loss,
            "value": value,
            "entropy": -log_prob,
            "temperature": temperature,
        }
        return Learned(actor, critics, targets, log_temperature, optimizers), health

    def q_values(self, critics: Critics, obs: Array, action: Array) -> Array:
        """Return the values of actions (B, A) by each of the critics, (critics, B)."""
        return q_values(critics, obs, action)

    def value_of_actor(self, q: Array) -> Array:
        """Return what box line 6 raises (B,), of the critics' values (critics, B): the least."""
        return q.min(0)

    def choose_targets(self, targets: Critics, key: Array) -> Critics:
        """Return those of the slow critics that box line 4 asks: all. `key` is the update's."""
        return targets

    def _targets(self, s: Learned, batch: SACBatch, noise: Array, key: Array) -> Array:
        """Return y (B,), box line 4."""
        temperature = jnp.exp(s.log_temperature)
        next_action, next_log_prob = squashed_sample(s.actor, batch.next_obs, noise)
        chosen = self.choose_targets(s.targets, key)
        return jax.vmap(soft_target, (0, 0, 1, 0, None, None))(
            self.reward_scale * batch.reward,
            batch.terminated,
            self.q_values(chosen, batch.next_obs, next_action),
            next_log_prob,
            temperature * self.soft_targets,
            self.discount,
        )

    def _descend(
        self, weights: Carry, gradient: Carry, optimizer: optax.OptState
    ) -> tuple[Carry, optax.OptState]:
        step, optimizer = self.adam.update(gradient, optimizer)
        return optax.apply_updates(weights, step), optimizer
