"""Trust region policy optimization (Schulman et al. 2015, arXiv 1502.05477), with a value function
fitted apart.

1.  act with the policy, observations normalized by moments frozen for the round
2.  V, V': values of all states and of their true next states
3.  advantages A by GAE, bootstrapped where a time limit cut the episode; standardized over the
    batch
4.  g = gradient of the surrogate L = E[rho A], rho = pi / pi_old
5.  x = (F + damping I)^-1 g by conjugate gradients, F the Fisher matrix of the policy over every
    k-th state
6.  step = sqrt(2 max_kl / x^T (F + damping I) x) x
7.  shrink the step until L has improved and KL(pi_old || pi) <= max_kl; none does: the policy stays
8.  fit V to A + V (before A is standardized)
9.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from isthmus.learning.advantage import (
    ValuedRound,
    any_reward,
    explained_variance,
    flat,
    scale_rewards,
)
from isthmus.learning.conjugate_gradients import conjugate_gradients
from isthmus.learning.distributions import gaussian_entropy
from isthmus.learning.fisher import Gaussians, fisher_product
from isthmus.learning.learner import BaseLearner, Health, check_minibatch
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
from isthmus.learning.ridge import ridge
from isthmus.learning.settings import (
    FiniteFloat,
    NonNegativeFloat,
    OpenUnitFloat,
    PositiveFloat,
    PositiveInt,
    UnitFloat,
)
from isthmus.types import Array, Metrics, Spaces, Transition, UnknownName


class TRPONetworks(NamedTuple):
    """The policy's parameters."""

    actor: MLP
    log_std: Array


class Value(NamedTuple):
    """All that belongs to the value of one stream of rewards, and nothing of the policy."""

    critic: MLP  # one layer where the critic is linear in its features
    optimizer: optax.OptState  # () of a linear one
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    age: np.ndarray  # int64 [N], steps of the worlds' episodes so far
    paid: np.bool_  # whether any reward was not 0 since the state began or crossed elsewhere


class TRPOState(NamedTuple):
    """What is learned: the policy, its value, and running moments."""

    networks: TRPONetworks
    value: Value
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    low: np.ndarray
    high: np.ndarray


class _RoundArrays(NamedTuple):
    """What a round's update takes of its transitions, [T, N, ...]."""

    obs: Array
    next_obs: Array
    parameters: Array
    age: Array
    sample: Array
    reward: Array
    terminated: Array
    done: Array


class _FittedCritic(NamedTuple):
    """The critic and its optimizer."""

    critic: MLP
    optimizer: optax.OptState


class _RoundInput(NamedTuple):
    """All that a round learns from, but its key."""

    networks: TRPONetworks
    fitted: _FittedCritic
    normalize: Normalizer
    normalize_parameters: Normalizer
    scale: Array  # of rewards
    any_reward: Array
    arrays: _RoundArrays


class LineSearchStep(NamedTuple):
    """A step of the policy, and what it did."""

    networks: TRPONetworks
    gain: Array  # of the surrogate
    kl: Array

    def is_taken(self, max_kl: float) -> Array:
        """Return whether it improves the surrogate within the trust region (box line 7)."""
        return (self.gain > 0) & (self.kl <= max_kl)


@dataclass(frozen=True)
class TRPO(BaseLearner[TRPOState]):
    """TRPO. The policy's step has no rate: `learning_rate`, `epochs`, `minibatch` are the critic's.

    `critic` is "mlp", or "linear": ridge regression on the normalized observation, its square and
    the episode's time with its powers (Duan et al. 2016, arXiv 1604.06778), solved anew each round.
    Raises BadValue for a setting that cannot learn; in the first update, for a minibatch larger
    than a round.
    """

    worlds: PositiveInt = 64
    steps: PositiveInt = 64
    hidden: tuple[int, ...] = (64, 64)
    max_kl: PositiveFloat = 0.01  # nats, mean over a round's states
    damping: NonNegativeFloat = 0.1
    cg_iterations: PositiveInt = 10
    # k: a tenth of the states is enough for F, by the paper's appendix C.1
    fisher_stride: PositiveInt = 5
    backtracks: PositiveInt = 10
    shrink: OpenUnitFloat = 0.8
    critic: str = "mlp"
    learning_rate: PositiveFloat = 3e-3
    epochs: PositiveInt = 5
    minibatch: PositiveInt = 256
    discount: UnitFloat = 0.99
    gae_decay: UnitFloat = 0.95
    initial_log_std: FiniteFloat = 0.0
    # the critic sees the drawn dynamics; for a target's, their mean in training
    privileged: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic not in ("mlp", "linear"):
            raise UnknownName("critic", self.critic, ("mlp", "linear"))

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue for a minibatch of the network that is the critic beyond a round."""
        if self.critic == "mlp":
            check_minibatch(self.minibatch, worlds, steps)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate, eps=1e-5))

    def _init_optimizer(self, critic: MLP) -> optax.OptState:
        return self._optimizer.init(critic) if self.critic == "mlp" else ()

    def init(self, spaces: Spaces, key: Array) -> TRPOState:
        """Return the state before any transition; the last layer of the actor is small."""
        k_actor, k_critic = jax.random.split(key)
        extra = spaces.parameters if self.privileged else 0
        networks = TRPONetworks(
            init_mlp(k_actor, (spaces.observation, *self.hidden, spaces.action), 0.01),
            jnp.full(spaces.action, self.initial_log_std, jnp.float32),
        )
        return TRPOState(
            networks,
            self._init_value(k_critic, spaces.observation + extra),
            Moments.empty(spaces.observation),
            Moments.empty(extra),
            np.asarray(spaces.low, np.float32),
            np.asarray(spaces.high, np.float32),
        )

    def _init_value(self, key: Array, inputs: int) -> Value:
        if self.critic == "mlp":
            critic = init_mlp(key, (inputs, *self.hidden, 1), 1.0)
        else:
            weights = jnp.zeros((2 * inputs + 3, 1), jnp.float32)
            critic = ((weights, jnp.zeros(1, jnp.float32)),)
        return Value(
            critic,
            self._init_optimizer(critic),
            Moments.empty(()),
            np.zeros(self.worlds),
            np.zeros(self.worlds, np.int64),
            np.bool_(False),
        )

    def warm_start(self, s: TRPOState) -> TRPOState:
        """Return the state for other worlds: weights and moments stay, not the optimizer's."""
        value = s.value._replace(
            optimizer=self._init_optimizer(s.value.critic),
            running=np.zeros(self.worlds),
            age=np.zeros(self.worlds, np.int64),
            paid=np.bool_(False),
        )
        return s._replace(value=value)

    def random(self, s: TRPOState) -> UniformBehaviour:
        """Return the behaviour that collects before the first round."""
        return UniformBehaviour(s.low, s.high)

    def policy(self, s: TRPOState) -> GaussianPolicy:
        """Return the policy that is deployed."""
        return GaussianPolicy(Normalizer.of(s.obs_moments), s.networks.actor, s.low, s.high)

    def behaviour(self, s: TRPOState) -> GaussianBehaviour:
        """Return the behaviour that collects."""
        return GaussianBehaviour(self.policy(s), s.networks.log_std)

    def observe(self, s: TRPOState, tr: Transition) -> TRPOState:
        """Box line 9: merge a round into the moments, or the random steps before the first."""
        done = tr.terminated | tr.truncated
        returns, running = discounted_returns(s.value.running, tr.reward, done, self.discount)
        value = s.value._replace(
            returns=s.value.returns.merge(flat(returns)),
            running=running,
            age=ages(s.value.age, done)[-1],
            paid=any_reward(s.value.paid, tr.reward),
        )
        parameters = s.parameters
        if self.privileged:
            parameters = parameters.merge(drop_unknown_rows(flat(tr.parameters)))
        return s._replace(
            value=value, obs_moments=s.obs_moments.merge(flat(tr.obs)), parameters=parameters
        )

    def learn(self, s: TRPOState, tr: Transition, key: Array) -> tuple[TRPOState, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state, and metrics."""
        networks, fitted, metrics = self._round(self._gather(s, tr), key)
        value = s.value._replace(critic=fitted.critic, optimizer=fitted.optimizer)
        s = self.observe(s._replace(networks=networks, value=value), tr)
        return s, {k: float(v) for k, v in metrics.items()}

    def _gather(self, s: TRPOState, tr: Transition) -> _RoundInput:
        self.check_rollout_shape(*reversed(tr.reward.shape))
        done = tr.terminated | tr.truncated
        arrays = _RoundArrays(
            tr.obs,
            tr.next_obs,
            tr.parameters,
            ages(s.value.age, done)[:-1].astype(np.float32),
            tr.extra["sample"],
            tr.reward,
            tr.terminated,
            done,
        )
        return _RoundInput(
            s.networks,
            _FittedCritic(s.value.critic, s.value.optimizer),
            Normalizer.of(s.obs_moments),
            Normalizer.of(s.parameters),
            reward_scale(s.value.returns),
            any_reward(s.value.paid, tr.reward),
            arrays,
        )

    @partial(jax.jit, static_argnums=0)
    def _round(self, inputs: _RoundInput, key: Array) -> tuple[TRPONetworks, _FittedCritic, Health]:
        obs, sample = inputs.normalize(inputs.arrays.obs), flat(inputs.arrays.sample)
        # 2.
        features, valued = self._estimate_values(inputs, obs)
        # 3.
        advantage, target = self._estimate_advantages(inputs, valued)
        # 4. to 7.
        networks, metrics = self.improve(inputs.networks, flat(obs), sample, advantage)
        # 8.
        fitted, value_loss = self._fit(inputs.fitted, flat(features), target, key)
        metrics |= {
            "value_loss": value_loss,
            "explained_variance": explained_variance(flat(valued.value), target),
            "value": valued.value.mean(),
            "reward_scale": inputs.scale,
        }
        return networks, fitted, metrics

    def _estimate_values(self, inputs: _RoundInput, obs: Array) -> tuple[Array, ValuedRound]:
        """Return box line 2: the critic's inputs [T, N, F], and its values."""
        arrays, critic = inputs.arrays, inputs.fitted.critic
        reward = scale_rewards(arrays.reward, inputs.scale)
        next_obs = inputs.normalize(arrays.next_obs)
        dynamics = None
        if self.privileged:
            dynamics = normalize_with_missing(inputs.normalize_parameters, arrays.parameters)
        features = self._critic_features(obs, dynamics, arrays.age)
        value = mlp(critic, features)[..., 0]
        next_features = self._critic_features(next_obs, dynamics, arrays.age + 1)
        next_value = mlp(critic, next_features)[..., 0]
        return features, ValuedRound(reward, value, next_value, arrays.terminated, arrays.done)

    def _estimate_advantages(self, inputs: _RoundInput, valued: ValuedRound) -> tuple[Array, Array]:
        """Return box line 3, and what V is fitted to, (B,) each."""
        advantage = valued.advantages(self.discount, self.gae_decay)
        target = flat(advantage + valued.value)
        advantage = jnp.where(inputs.any_reward, advantage, 0.0)
        return (flat(advantage) - advantage.mean()) / (advantage.std() + 1e-8), target

    def improve(
        self, networks: TRPONetworks, obs: Array, sample: Array, advantage: Array
    ) -> tuple[TRPONetworks, Health]:
        """Return the policy after box lines 4 to 7, and metrics.

        Observations are normalized, (B, ...) as samples and advantages. Metrics: kl and
        surrogate_gain of the step taken; step_fraction, what is left of the full step (0: none was
        taken); cg_residual, relative; entropy.
        """
        old, pull = jax.vjp(lambda n: Gaussians.of(n, obs), networks)
        _, fisher = fisher_product(networks, obs[:: self.fisher_stride])
        log_prob = old.log_prob(sample)

        def surrogate(new: Gaussians) -> Array:
            return (jnp.exp(new.log_prob(sample) - log_prob) * advantage).mean()

        # 4.
        gain, slope = jax.value_and_grad(surrogate)(old)
        gradient, unravel = ravel_pytree(*pull(slope))

        # 5.
        def damped(v: Array) -> Array:
            return ravel_pytree(fisher(unravel(v)))[0] + self.damping * v

        solved = conjugate_gradients(damped, gradient, self.cg_iterations)
        # 6.
        curvature = jnp.maximum(solved.x @ solved.product, 1e-30)
        direction = jnp.sqrt(2 * self.max_kl / curvature) * solved.x
        start, _ = ravel_pytree(networks)

        # 7.
        def attempt(tried: Array) -> LineSearchStep:
            new = unravel(start + self.shrink**tried * direction)
            after = Gaussians.of(new, obs)
            return LineSearchStep(new, surrogate(after) - gain, old.kl(after))

        tried, step = self._search(attempt)
        taken = step.is_taken(self.max_kl)
        networks = jax.tree.map(lambda a, b: jnp.where(taken, a, b), step.networks, networks)
        return networks, {
            "kl": jnp.where(taken, step.kl, 0.0),
            "surrogate_gain": jnp.where(taken, step.gain, 0.0),
            "step_fraction": jnp.where(taken, self.shrink**tried, 0.0),
            "cg_residual": solved.residual,
            "entropy": gaussian_entropy(networks.log_std),
        }

    def _search(self, attempt: Callable[[Array], LineSearchStep]) -> tuple[Array, LineSearchStep]:
        """Return the number of the first attempt that is taken, or of the last, and its step."""

        def is_refused(carry: tuple[Array, LineSearchStep]) -> Array:
            tried, step = carry
            return ~step.is_taken(self.max_kl) & (tried < self.backtracks)

        def try_next(carry: tuple[Array, LineSearchStep]) -> tuple[Array, LineSearchStep]:
            tried = carry[0] + 1
            return tried, attempt(tried)

        first = attempt(jnp.zeros((), int))
        return jax.lax.while_loop(is_refused, try_next, (0, first))

    def _critic_features(self, obs: Array, dynamics: Array | None, age: Array) -> Array:
        """Return the critic's inputs, (..., F).

        They are of normalized observations and dynamics, and the episodes' ages in steps.
        """
        features = obs if dynamics is None else jnp.concatenate([obs, dynamics], -1)
        if self.critic == "mlp":
            return features
        time = age[..., None] / 100
        return jnp.concatenate([features, features**2, time, time**2, time**3], -1)

    def _fit(
        self, fitted: _FittedCritic, features: Array, target: Array, key: Array
    ) -> tuple[_FittedCritic, Array]:
        """Box line 8: return the fitted critic, and the mean squared error."""
        if self.critic == "linear":
            critic = ridge(features, target, 1e-5)
            return _FittedCritic(critic, ()), jnp.square(
                mlp(critic, features)[:, 0] - target
            ).mean()

        def epoch(fitted: _FittedCritic, key: Array) -> tuple[_FittedCritic, Array]:
            batches = self._draw_minibatches((features, target), key)
            return jax.lax.scan(self._descend, fitted, batches)

        fitted, errors = jax.lax.scan(epoch, fitted, jax.random.split(key, self.epochs))
        return fitted, errors[-1].mean()

    def _draw_minibatches(self, rows: tuple[Array, Array], key: Array) -> tuple[Array, Array]:
        """Return rows (B, ...) in random order, [B // minibatch, minibatch, ...]."""
        count = len(rows[0]) // self.minibatch
        # `permutation` sorts twice.
        order = jnp.argsort(jax.random.bits(key, rows[1].shape))[: count * self.minibatch]
        return jax.tree.map(lambda x: x[order].reshape(count, self.minibatch, *x.shape[1:]), rows)

    def _descend(
        self, fitted: _FittedCritic, batch: tuple[Array, Array]
    ) -> tuple[_FittedCritic, Array]:
        """Return the critic after a step of Adam on a minibatch, and its mean squared error."""

        def loss(critic: MLP) -> Array:
            features, target = batch
            return jnp.square(mlp(critic, features)[:, 0] - target).mean()

        error, gradient = jax.value_and_grad(loss)(fitted.critic)
        updates, optimizer = self._optimizer.update(gradient, fitted.optimizer, fitted.critic)
        return _FittedCritic(optax.apply_updates(fitted.critic, updates), optimizer), error


def ages(start: np.ndarray, done: Array) -> np.ndarray:
    """Return steps since each world's episode began, [T + 1, N].

    They are those at every step of done [T, N], and after the last.
    """
    steps = np.empty((len(done) + 1, len(start)), np.int64)
    steps[0] = start
    for t, ended in enumerate(done):
        steps[t + 1] = np.where(ended, 0, steps[t] + 1)
    return steps
