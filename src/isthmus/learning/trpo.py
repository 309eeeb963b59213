"""Trust region policy optimization (Schulman et al. 2015, arXiv 1502.05477), with a value function
fitted apart.

1.  act with the policy, observations normalized by moments frozen for the round
2.  V, V': values of all states and of their true next states
3.  advantages A by GAE, bootstrapped where a time limit cut the episode; standardized over the batch
4.  g = gradient of the surrogate L = E[rho A], rho = pi / pi_old
5.  x = (F + damping I)^-1 g by conjugate gradients, F the Fisher matrix of the policy over every k-th state
6.  step = sqrt(2 max_kl / x^T (F + damping I) x) x
7.  shrink the step until L has improved and KL(pi_old || pi) <= max_kl; none does: the policy stays
8.  fit V to A + V (before A is standardized)
9.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from isthmus.learning.advantage import explained_variance, flat, gae, paid_yet
from isthmus.learning.distributions import gaussian_entropy, gaussian_kl, gaussian_log_prob
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
from isthmus.types import Array, Metrics, Spaces, Transition, UnknownName


class TRPONetworks(NamedTuple):
    """The policy's parameters."""

    actor: MLP
    log_std: Array


class Value(NamedTuple):
    """All that belongs to the value of one stream of rewards, and nothing of the policy."""

    critic: MLP  # one layer where the critic is linear in its features
    optimizer: Any
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    age: np.ndarray  # int64 [N], steps of the worlds' episodes so far
    paid: (
        np.bool_
    )  # whether anything but 0 was paid since the state began or crossed to other worlds


class TRPOState(NamedTuple):
    networks: TRPONetworks
    value: Value
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    low: np.ndarray
    high: np.ndarray


class Gaussians(NamedTuple):
    """The policy's distributions in B states."""

    mean: Array  # (B, A)
    log_std: Array  # (A,)

    @staticmethod
    def of(networks: TRPONetworks, obs: Array) -> Gaussians:
        return Gaussians(mlp(networks.actor, obs), networks.log_std)

    def log_prob(self, sample: Array) -> Array:
        """(B,)"""
        return jax.vmap(gaussian_log_prob, (0, 0, None))(sample, *self)

    def kl(self, new: Gaussians) -> Array:
        """Mean over the states of KL(self || new)."""
        return jax.vmap(gaussian_kl, (0, None, 0, None))(*self, *new).mean()

    def metric(self, tangent: Gaussians) -> Gaussians:
        """The Hessian of `kl` by `new`, at `new` = `self`, times a tangent: 1/sd^2 for means, 2 for
        log deviations.
        """
        return Gaussians(
            tangent.mean * jnp.exp(-2 * self.log_std) / len(self.mean), 2 * tangent.log_std
        )


def fisher_product(networks: TRPONetworks, obs: Array) -> tuple[Gaussians, Callable]:
    """Distributions at `obs`, and v -> F v of trees like `networks`.

    F = J^T M J, J the Jacobian of the distributions' parameters and M the `metric`: at `networks`
    itself this is the whole Hessian of the mean KL, since the KL's slope, which would multiply
    second derivatives, is zero there.
    """
    old, push = jax.linearize(lambda n: Gaussians.of(n, obs), networks)
    pull = jax.linear_transpose(push, networks)
    return old, lambda v: pull(old.metric(push(v)))[0]


def conjugate_gradients(
    product: Callable[[Array], Array], b: Array, iterations: int
) -> tuple[Array, Array]:
    """x with product(x) = b for a symmetric positive definite product, and |b - product(x)| / |b|.

    Hestenes and Stiefel 1952; stops early where the residual is 1e-5 of b, about what float32
    resolves.
    """
    enough = 1e-10 * (b @ b)

    def more(carry) -> Array:
        i, _, _, _, square = carry
        return (i < iterations) & (square > enough)

    def iteration(carry):
        i, x, residual, direction, square = carry
        image = product(direction)
        length = square / (direction @ image)
        x, residual = x + length * direction, residual - length * image
        new = residual @ residual
        return i + 1, x, residual, residual + new / square * direction, new

    _, x, _, _, square = jax.lax.while_loop(more, iteration, (0, jnp.zeros_like(b), b, b, b @ b))
    return x, jnp.sqrt(square / jnp.maximum(b @ b, 1e-30))


def ridge(features: Array, target: Array, penalty: float) -> MLP:
    """One layer (w, b) that minimizes mean((features w + b - target)^2) + penalty (|w|^2 + b^2);
    (B, F), (B,).

    By Gram and Schmidt's elimination of the stacked rows, target last (Björck 1967), which is as
    stable as any QR: the normal equations would square a condition number that float32 cannot bear,
    and LAPACK's threads would wait busily.
    """
    n, width = features.shape
    rows = jnp.concatenate([features, jnp.ones((n, 1)), target[:, None]], -1)
    stacked = jnp.concatenate([rows, jnp.sqrt(n * penalty) * jnp.eye(width + 1, width + 2)])

    def eliminate(rest: Array, k: Array) -> tuple[Array, Array]:
        q = rest[:, k] / jnp.linalg.norm(rest[:, k])
        along = q @ rest
        return rest - jnp.outer(q, along), along

    _, r = jax.lax.scan(eliminate, stacked, jnp.arange(width + 1))
    weights = jax.scipy.linalg.solve_triangular(r[:, :-1], r[:, -1])
    return ((weights[:-1, None], weights[-1:]),)


@dataclass(frozen=True)
class TRPO(LearnerDefaults):
    """A learner. The policy's step has no rate; `learning_rate`, `epochs` and `minibatch` are the
    critic's.

    `critic` is "mlp", or "linear": ridge regression on the normalized observation, its square and
    the episode's time with its powers (Duan et al. 2016, arXiv 1604.06778), solved anew each round.
    Raises BadValue for a setting that cannot learn; in the first update, for a minibatch larger
    than a round.
    """

    worlds: int = 64
    steps: int = 64
    hidden: tuple[int, ...] = (64, 64)
    max_kl: float = 0.01  # nats, mean over a round's states
    damping: float = 0.1
    cg_iterations: int = 10
    fisher_stride: int = 5  # k: a tenth of the states is enough for F, by the paper's appendix C.1
    backtracks: int = 10
    shrink: float = 0.8
    critic: str = "mlp"
    learning_rate: float = 3e-3
    epochs: int = 5
    minibatch: int = 256
    discount: float = 0.99
    gae_decay: float = 0.95
    initial_log_std: float = 0.0
    privileged: bool = (
        False  # the critic sees the drawn dynamics; for a target's, their mean in training
    )

    def __post_init__(self) -> None:
        check_settings(
            self,
            (
                (
                    "worlds",
                    "steps",
                    "cg_iterations",
                    "fisher_stride",
                    "backtracks",
                    "epochs",
                    "minibatch",
                ),
                WHOLE,
            ),
            (("max_kl", "learning_rate"), ABOVE_ZERO),
            (("damping",), FROM_ZERO),
            (("shrink",), (lambda x: 0 < x < 1, "a number between 0 and 1")),
            (("discount", "gae_decay"), FRACTION),
            (("initial_log_std",), FINITE),
        )
        if self.critic not in ("mlp", "linear"):
            raise UnknownName("critic", self.critic, ("mlp", "linear"))

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """(worlds, steps) of one round."""
        return self.worlds, self.steps

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate, eps=1e-5))

    def _begin(self, critic: MLP) -> Any:
        return self._optimizer.init(critic) if self.critic == "mlp" else ()

    def init(self, spaces: Spaces, key: Array) -> TRPOState:
        k_actor, k_critic = jax.random.split(key)
        extra = spaces.parameters if self.privileged else 0
        networks = TRPONetworks(
            init_mlp(k_actor, (spaces.observation, *self.hidden, spaces.action), 0.01),
            jnp.full(spaces.action, self.initial_log_std, jnp.float32),
        )
        seen = spaces.observation + extra
        if self.critic == "mlp":
            critic = init_mlp(k_critic, (seen, *self.hidden, 1), 1.0)
        else:
            critic = ((jnp.zeros((2 * seen + 3, 1), jnp.float32), jnp.zeros(1, jnp.float32)),)
        none = np.zeros(self.worlds, np.int64)
        return TRPOState(
            networks,
            Value(
                critic,
                self._begin(critic),
                Moments.empty(()),
                np.zeros(self.worlds),
                none,
                np.bool_(False),
            ),
            Moments.empty(spaces.observation),
            Moments.empty(extra),
            np.asarray(spaces.low, np.float32),
            np.asarray(spaces.high, np.float32),
        )

    def warm_start(self, s: TRPOState) -> TRPOState:
        """The state to go on with in other worlds: weights and moments stay, the optimizer begins
        anew.
        """
        none = np.zeros(self.worlds, np.int64)
        value = s.value._replace(
            optimizer=self._begin(s.value.critic),
            running=np.zeros(self.worlds),
            age=none,
            paid=np.bool_(False),
        )
        return s._replace(value=value)

    def with_num_worlds(self, worlds: int) -> TRPO:
        """The same learner for another number of worlds."""
        return replace(self, worlds=worlds)

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue for a minibatch of the network that is the critic beyond a round."""
        if self.critic == "mlp":
            check_minibatch(self.minibatch, worlds, steps)

    def random(self, s: TRPOState) -> UniformBehaviour:
        """What collects before the first round."""
        return UniformBehaviour(s.low, s.high)

    def policy(self, s: TRPOState) -> GaussianPolicy:
        return GaussianPolicy(Normalizer.of(s.obs_moments), s.networks.actor, s.low, s.high)

    def behaviour(self, s: TRPOState) -> GaussianBehaviour:
        return GaussianBehaviour(self.policy(s), s.networks.log_std)

    def observe(self, s: TRPOState, tr: Transition) -> TRPOState:
        """Box line 9: merge a round into the moments (also that of random steps before the first)."""
        done = tr.terminated | tr.truncated
        returns, running = discounted_returns(s.value.running, tr.reward, done, self.discount)
        return s._replace(
            value=s.value._replace(
                returns=s.value.returns.merge(flat(returns)),
                running=running,
                age=ages(s.value.age, done)[-1],
                paid=paid_yet(s.value.paid, tr.reward),
            ),
            obs_moments=s.obs_moments.merge(flat(tr.obs)),
            parameters=s.parameters.merge(drop_unknown_rows(flat(tr.parameters)))
            if self.privileged
            else s.parameters,
        )

    def learn(self, s: TRPOState, tr: Transition, key: Array) -> tuple[TRPOState, Metrics]:
        """One round: transitions [T, N, ...] to a new state."""
        self.check_rollout_shape(*reversed(tr.reward.shape))
        done = tr.terminated | tr.truncated
        age = ages(s.value.age, done)[:-1].astype(np.float32)
        arrays = (
            tr.obs,
            tr.next_obs,
            tr.parameters,
            age,
            tr.extra["sample"],
            tr.reward,
            tr.terminated,
            done,
        )
        scale = np.float32(1 / np.sqrt(s.value.returns.variance + 1e-8))
        norms = (Normalizer.of(s.obs_moments), Normalizer.of(s.parameters))
        fitted = s.value.critic, s.value.optimizer
        paid = paid_yet(s.value.paid, tr.reward)
        networks, (critic, optimizer), metrics = self._round(
            s.networks, fitted, norms, scale, paid, arrays, key
        )
        value = s.value._replace(critic=critic, optimizer=optimizer)
        s = self.observe(s._replace(networks=networks, value=value), tr)
        return s, {k: float(v) for k, v in metrics.items()}

    @partial(jax.jit, static_argnums=0)
    def _round(self, networks: TRPONetworks, fitted, norms, scale, paid, arrays, key):
        obs, next_obs, parameters, age, sample, reward, terminated, done = arrays
        reward = jnp.clip(reward * scale, -10.0, 10.0)
        normalize, normalize_parameters = norms
        obs, next_obs = normalize(obs), normalize(next_obs)
        dynamics = (
            normalize_with_missing(normalize_parameters, parameters) if self.privileged else None
        )
        # 2.
        seen = self._see(obs, dynamics, age)
        value = mlp(fitted[0], seen)[..., 0]
        next_value = mlp(fitted[0], self._see(next_obs, dynamics, age + 1))[..., 0]
        # 3.
        advantage = jax.vmap(gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)(
            reward, value, next_value, terminated, done, self.discount, self.gae_decay
        )
        target = flat(advantage + value)
        advantage = jnp.where(paid, advantage, 0.0)
        standard = (flat(advantage) - advantage.mean()) / (advantage.std() + 1e-8)
        networks, metrics = self.improve(networks, flat(obs), flat(sample), standard)
        # 8.
        fitted, value_loss = self._fit(fitted, flat(seen), target, key)
        metrics |= {
            "value_loss": value_loss,
            "explained_variance": explained_variance(flat(value), target),
            "value": value.mean(),
            "reward_scale": scale,
        }
        return networks, fitted, metrics

    def improve(
        self, networks: TRPONetworks, obs: Array, sample: Array, advantage: Array
    ) -> tuple[TRPONetworks, dict[str, Array]]:
        """Box lines 4 to 7, over a batch (B, ...) of normalized observations, samples and
        advantages.

        Metrics: kl and surrogate_gain of the step taken; step_fraction, what is left of the full
        step (0: none was taken); cg_residual, relative; entropy.
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
        damped = lambda v: ravel_pytree(fisher(unravel(v)))[0] + self.damping * v
        x, residual = conjugate_gradients(damped, gradient, self.cg_iterations)
        # 6.
        step = jnp.sqrt(2 * self.max_kl / jnp.maximum(x @ damped(x), 1e-30)) * x
        start, _ = ravel_pytree(networks)

        # 7.
        def attempt(tried: Array):
            new = unravel(start + self.shrink**tried * step)
            after = Gaussians.of(new, obs)
            return new, surrogate(after) - gain, old.kl(after)

        def refused(carry) -> Array:
            tried, (_, improvement, kl) = carry
            return ~((improvement > 0) & (kl <= self.max_kl)) & (tried < self.backtracks)

        tried, (new, improvement, kl) = jax.lax.while_loop(
            refused,
            lambda carry: (carry[0] + 1, attempt(carry[0] + 1)),
            (0, attempt(jnp.zeros((), int))),
        )
        taken = (improvement > 0) & (kl <= self.max_kl)
        networks = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, networks)
        return networks, {
            "kl": jnp.where(taken, kl, 0.0),
            "surrogate_gain": jnp.where(taken, improvement, 0.0),
            "step_fraction": jnp.where(taken, self.shrink**tried, 0.0),
            "cg_residual": residual,
            "entropy": gaussian_entropy(networks.log_std),
        }

    def _see(self, obs: Array, dynamics: Array, age: Array) -> Array:
        """What the critic sees, (..., ?), of normalized observations and dynamics and the episodes'
        ages in steps.
        """
        seen = jnp.concatenate([obs, dynamics], -1) if self.privileged else obs
        if self.critic == "mlp":
            return seen
        time = age[..., None] / 100
        return jnp.concatenate([seen, seen**2, time, time**2, time**3], -1)

    def _fit(self, fitted, seen: Array, target: Array, key: Array):
        """Box line 8: the critic and its optimizer after, and the mean squared error."""
        if self.critic == "linear":
            critic = ridge(seen, target, 1e-5)
            return (critic, ()), jnp.square(mlp(critic, seen)[:, 0] - target).mean()
        size = len(target)
        count = size // self.minibatch

        def loss(critic: MLP, rows: tuple[Array, Array]) -> Array:
            return jnp.square(mlp(critic, rows[0])[:, 0] - rows[1]).mean()

        def minibatch(carry, rows):
            critic, optimizer = carry
            error, gradient = jax.value_and_grad(loss)(critic, rows)
            updates, optimizer = self._optimizer.update(gradient, optimizer, critic)
            return (optax.apply_updates(critic, updates), optimizer), error

        def epoch(carry, key):
            order = jnp.argsort(jax.random.bits(key, (size,)))[
                : count * self.minibatch
            ]  # `permutation` sorts twice
            batches = jax.tree.map(
                lambda x: x[order].reshape(count, self.minibatch, *x.shape[1:]), (seen, target)
            )
            return jax.lax.scan(minibatch, carry, batches)

        fitted, errors = jax.lax.scan(epoch, fitted, jax.random.split(key, self.epochs))
        return fitted, errors[-1].mean()


def ages(start: np.ndarray, done: Array) -> np.ndarray:
    """Steps since each world's episode began, [T + 1, N]: at every step of done [T, N], and after
    the last.
    """
    out = np.empty((len(done) + 1, len(start)), np.int64)
    out[0] = start
    for t, ended in enumerate(done):
        out[t + 1] = np.where(ended, 0, out[t] + 1)
    return out
