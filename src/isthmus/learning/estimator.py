"""What the last observations and actions tell of a robot: a network that is fitted by regression,
and policies that act on its estimate. Arrays only.

Shape letters: H pairs in a history, K numbers that are estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.advantage import flat
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.replay import Replay, ReplayView, sample
from isthmus.learning.settings import PositiveFloat, PositiveInt, Settings
from isthmus.types import Array, Decision, Metrics, Spaces, Transition

LIMIT = 10.0  # of an estimate's numbers, as of a normalizer's


class PairHistory(NamedTuple):
    """The last H pairs of an observation and the action that followed it, of one task."""

    pairs: Array  # float32 (..., H, O + A), the newest last; zeros before the task's first
    age: Array  # int32 (...), pairs since the task began, H at most

    @staticmethod
    def empty(length: int, size: int) -> PairHistory:
        """Return the history at the begin of a task, of pairs of so many numbers."""
        return PairHistory(np.zeros((length, size), np.float32), np.zeros((), np.int32))

    def append(self, observation: Array, action: Array) -> PairHistory:
        """Return the history after one more pair; the oldest is forgotten."""
        pair = jnp.concatenate([observation, action])
        pairs = jnp.concatenate([self.pairs[1:], pair[None]])
        return PairHistory(pairs, jnp.minimum(self.age + 1, len(pairs)))


class Estimator(NamedTuple):
    """A network over a history and the observation that came of it, and its normalizer.

    Its inputs are H normalized steps (o, a, o' - o), in which a step that has not been is zeros as
    the mean one is, the newest observation, and the share of the history that is filled. A change
    is no news beside both observations, but it is small beside their spread, and says most.
    """

    network: MLP
    normalizer: Normalizer  # of steps (o, a, o' - o)
    limit: Array  # of the estimate's numbers, either way

    def __call__(self, history: PairHistory, observation: Array) -> Array:
        """Return the estimate (..., K) by histories (..., H, O + A) and observations (..., O)."""
        return self.estimate(self.inputs(history, observation))

    def inputs(self, history: PairHistory, observation: Array) -> Array:
        """Return what the network sees, (..., I)."""
        length, size = history.pairs.shape[-2], observation.shape[-1]
        before = history.pairs[..., :size]
        after = jnp.concatenate([before[..., 1:, :], observation[..., None, :]], -2)
        steps = self.normalizer(jnp.concatenate([history.pairs, after - before], -1))
        is_filled = jnp.arange(length) >= length - history.age[..., None]
        steps = jnp.where(is_filled[..., None], steps, 0.0)
        mean, std = self.normalizer
        newest = Normalizer(mean[:size], std[:size])(observation)
        share = history.age[..., None] / np.float32(length)
        return jnp.concatenate([steps.reshape(*steps.shape[:-2], -1), newest, share], -1)

    def estimate(self, inputs: Array) -> Array:
        """Return the estimate (..., K) by what the network sees."""
        return jnp.clip(mlp(self.network, inputs, jax.nn.relu), -self.limit, self.limit)


class Remembered(NamedTuple):
    """A memory: that of the policy inside, and the history."""

    inner: Any
    history: PairHistory


class EstimatingPolicy(NamedTuple):
    """What is deployed: a policy that observes (o, estimate), the estimator, an empty history."""

    policy: Any
    estimator: Estimator
    empty: PairHistory

    def memory(self) -> Remembered:
        """Return the memory at the begin of a task."""
        return Remembered(self.policy.memory(), self.empty)

    def act(self, memory: Remembered, observation: Array) -> tuple[Array, Remembered]:
        """Return an action (A,) for an observation (O,), and the memory with both."""
        estimate = self.estimator(memory.history, observation)
        seen = jnp.concatenate([observation, estimate])
        action, inner = self.policy.act(memory.inner, seen)
        return action, Remembered(inner, memory.history.append(observation, action))


class EstimatingBehaviour(NamedTuple):
    """A behaviour that observes (o, estimate); the history comes back with each transition."""

    behaviour: Any
    estimator: Estimator
    empty: PairHistory

    def memory(self) -> Remembered:
        """Return the memory at the begin of a task."""
        return Remembered(self.behaviour.memory(), self.empty)

    def act(
        self, memory: Remembered, observation: Array, key: Array
    ) -> tuple[Decision, Remembered]:
        """Return a decision for an observation (O,), and the memory with both."""
        estimate = self.estimator(memory.history, observation)
        return decide_with_history(self.behaviour, memory, observation, estimate, key)


def decide_with_history(
    behaviour: Any, memory: Remembered, observation: Array, known: Array, key: Array
) -> tuple[Decision, Remembered]:
    """Return the decision of a behaviour that observes (o, known), and the memory after it.

    With the transition come `known` (K,) and the history before the decision, `pairs` and `age`.
    """
    seen = jnp.concatenate([observation, known])
    decision, inner = behaviour.act(memory.inner, seen, key)
    extra = {**decision.extra, **memory.history._asdict(), "known": known}
    history = memory.history.append(observation, decision.action)
    return decision._replace(extra=extra), Remembered(inner, history)


class EstimatorRows(NamedTuple):
    """What is learned from, rows (B, ...)."""

    history: PairHistory
    obs: Array  # (B, O)
    target: Array  # (B, K)

    @staticmethod
    def of(tr: Transition, target: Array) -> EstimatorRows:
        """Return the rows of transitions [T, N, ...] with histories, and what is to be estimated,
        [T, N, K].
        """
        history = PairHistory(flat(tr.extra["pairs"]), flat(tr.extra["age"]))
        return EstimatorRows(history, flat(tr.obs), flat(np.asarray(target, np.float32)))


class EstimatorState(NamedTuple):
    """A network, its optimizer, the moments of pairs, and the rows that it is fitted to."""

    network: MLP
    optimizer: optax.OptState
    moments: Moments  # of steps (O + A + O,)
    rows: Replay  # of EstimatorRows


class _Fit(NamedTuple):
    """What a gradient step changes."""

    network: MLP
    optimizer: optax.OptState


@dataclass(frozen=True)
class Regression(Settings):
    """Least squares by Adam, on the newest of all histories.

    Raises BadValue for a number that cannot be.
    """

    PREFIX: ClassVar[str] = "estimator."
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: PositiveFloat = 1e-3
    minibatch: PositiveInt = 256
    updates: PositiveInt = 200  # gradient steps a round
    kept: PositiveInt = 2048  # histories of a round, drawn at random
    capacity: PositiveInt = 50_000  # histories, the newest

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, length: int, spaces: Spaces, numbers: int, key: Array) -> EstimatorState:
        """Return an estimator of so many numbers K by histories of `length` pairs.

        Its last layer is small: before it is fitted it says next to nothing, about zeros.
        """
        history = PairHistory.empty(length, spaces.observation + spaces.action)
        width = history.pairs.size + (length + 1) * spaces.observation + 1
        network = init_mlp(key, (width, *self.hidden, numbers), 0.01)
        zeros = np.zeros(spaces.observation, np.float32), np.zeros(numbers, np.float32)
        rows = Replay.empty(self.capacity, EstimatorRows(history, *zeros))
        moments = Moments.empty(history.pairs.shape[-1] + spaces.observation)
        return EstimatorState(network, self._adam.init(network), moments, rows)

    def observe(self, s: EstimatorState, tr: Transition) -> EstimatorState:
        """Return the state with the steps of transitions [T, N, ...] merged into its moments."""
        changes = flat(tr.next_obs) - flat(tr.obs)
        steps = np.concatenate([flat(tr.obs), flat(tr.action), changes], -1)
        return s._replace(moments=s.moments.merge(steps))

    def empty_history(self, s: EstimatorState) -> PairHistory:
        """Return the history at the begin of a task."""
        return PairHistory.empty(*s.rows.recent.history.pairs.shape[1:])

    def estimator(self, s: EstimatorState, limit: float = LIMIT) -> Estimator:
        """Return the estimator, whose numbers are within -limit..limit."""
        return Estimator(s.network, Normalizer.of(s.moments), np.float32(limit))

    def learn(
        self, s: EstimatorState, rows: EstimatorRows, key: Array
    ) -> tuple[EstimatorState, Metrics]:
        """Fit the network to a round's rows (B, ...) and those kept of the rounds before.

        `estimation_error` is measured before the fit, on rows that it has not learned from, as a
        mean square; `estimation_spread` is the variance of what is estimated, the error of one who
        knows its mean and no more.
        """
        k_kept, k_fit = jax.random.split(key)
        metrics = self._measure(self.estimator(s), rows)
        order = np.asarray(jax.random.permutation(k_kept, len(rows.obs)))[: self.kept]
        replay = s.rows.add(jax.tree.map(lambda x: np.asarray(x)[order], rows))
        fitted = self._fit(_Fit(s.network, s.optimizer), self.estimator(s), replay.view(), k_fit)
        s = s._replace(network=fitted.network, optimizer=fitted.optimizer, rows=replay)
        return s, {name: float(value) for name, value in metrics.items()}

    @partial(jax.jit, static_argnums=0)
    def _measure(self, estimator: Estimator, rows: EstimatorRows) -> dict[str, Array]:
        error = estimator(rows.history, rows.obs) - rows.target
        return {
            "estimation_error": jnp.square(error).mean(),
            "estimation_spread": rows.target.var(0).mean(),
        }

    @partial(jax.jit, static_argnums=0)
    def _fit(self, start: _Fit, before: Estimator, view: ReplayView, key: Array) -> _Fit:
        """Do a round's gradient steps; of the estimator `before` inputs are normalized alike."""

        def descend(fit: _Fit, key: Array) -> tuple[_Fit, None]:
            rows = sample(view, self.minibatch, key)
            inputs = before.inputs(rows.history, rows.obs)
            gradient = jax.grad(_squared_error)(fit.network, inputs, rows.target)
            change, optimizer = self._adam.update(gradient, fit.optimizer)
            return _Fit(optax.apply_updates(fit.network, change), optimizer), None

        return jax.lax.scan(descend, start, jax.random.split(key, self.updates))[0]


def _squared_error(network: MLP, inputs: Array, target: Array) -> Array:
    return jnp.square(mlp(network, inputs, jax.nn.relu) - target).mean()
