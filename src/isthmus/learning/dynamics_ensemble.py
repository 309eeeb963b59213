"""An ensemble of models of one domain's dynamics, each a Gaussian (PETS, arXiv 1805.12114).

p_i(s' | s, a) = N(s + m_i(s, a), v_i(s, a)), for i = 1 .. M, by their negative log likelihoods.
Members differ by their first weights and by the rows that each learns from, drawn anew from every
batch. What is predicted, s' - s, and what it is predicted from are normalized by moments of the
domain's own transitions, merged as they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.settings import PositiveFloat, PositiveInt, Settings
from isthmus.types import Array

LOG_VARIANCES = -10.0, 0.5  # what a log variance is softly held to, of normalized numbers


class DynamicsState(NamedTuple):
    """The members, and their optimizer."""

    members: MLP  # leaves with a leading axis, one for each member
    optimizer: optax.OptState


class DynamicsMoments(NamedTuple):
    """What members are normalized by, as it is merged on the host."""

    inputs: Moments  # of (s, a)
    changes: Moments  # of s' - s

    @staticmethod
    def empty(observation: int, action: int) -> DynamicsMoments:
        """Return the moments of no transition."""
        return DynamicsMoments(Moments.empty(observation + action), Moments.empty(observation))

    def merge(self, batch: TransitionBatch) -> DynamicsMoments:
        """Return the moments with transitions (B, ...) added."""
        inputs = np.concatenate([batch.obs, batch.action], -1)
        changes = np.asarray(batch.next_obs) - np.asarray(batch.obs)
        return DynamicsMoments(self.inputs.merge(inputs), self.changes.merge(changes))

    def scales(self) -> Scales:
        """Return the moments as updates take them."""
        return Scales(Normalizer.of(self.inputs), Normalizer.of(self.changes))


class Scales(NamedTuple):
    """Normalizers of (s, a) and of s' - s."""

    inputs: Normalizer
    changes: Normalizer


def bound_log_variance(raw: Array) -> Array:
    """Return log variances within LOG_VARIANCES, by two soft cuts as in PETS."""
    low, high = LOG_VARIANCES
    cut = high - jax.nn.softplus(high - raw)
    return low + jax.nn.softplus(cut - low)


@dataclass(frozen=True)
class DynamicsEnsemble(Settings):
    """As above. Raises BadValue for a number that cannot be."""

    PREFIX: ClassVar[str] = "dynamics."
    members: PositiveInt = 7
    hidden: tuple[int, ...] = (200, 200)
    learning_rate: PositiveFloat = 1e-3

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, observation: int, action: int, key: Array) -> DynamicsState:
        """Return models of so many numbers in an observation and in an action, of no transition."""
        sizes = (observation + action, *self.hidden, 2 * observation)
        made = [init_mlp(k, sizes, 1.0) for k in jax.random.split(key, self.members)]
        members = jax.tree.map(lambda *x: jnp.stack(x), *made)
        return DynamicsState(members, self._adam.init(members))

    def update(
        self, s: DynamicsState, scales: Scales, batch: TransitionBatch, key: Array
    ) -> tuple[DynamicsState, Array]:
        """Do one Adam step on transitions (B, ...); also the mean loss of a member before it."""
        rows = jax.random.randint(key, (self.members, len(batch.obs)), 0, len(batch.obs))
        resampled = jax.tree.map(lambda x: x[rows], batch)  # (M, B, ...)
        wanted = scales.changes(resampled.next_obs - resampled.obs)
        seen = scales.inputs(jnp.concatenate([resampled.obs, resampled.action], -1))

        def loss(members: MLP) -> Array:
            mean, log_variance = predict_normalized(members, seen)
            squared = jnp.square(mean - wanted) * jnp.exp(-log_variance)
            return (squared + log_variance).mean((1, 2)).sum()

        value, gradient = jax.value_and_grad(loss)(s.members)
        change, optimizer = self._adam.update(gradient, s.optimizer)
        members = optax.apply_updates(s.members, change)
        return DynamicsState(members, optimizer), value / self.members

    def predict(self, s: DynamicsState, scales: Scales, obs: Array, action: Array) -> Array:
        """Return each member's mean next observation, (M, B, O)."""
        seen = scales.inputs(jnp.concatenate([obs, action], -1))
        mean, _ = predict_normalized(s.members, jnp.stack([seen] * self.members))
        return obs + scales.changes.mean + scales.changes.std * mean


def predict_normalized(members: MLP, seen: Array) -> tuple[Array, Array]:
    """Return the members' means and log variances (M, B, O) of their own inputs (M, B, I)."""
    out = jax.vmap(partial(mlp, activation=jax.nn.silu))(members, seen)
    mean, raw = jnp.split(out, 2, -1)
    return mean, bound_log_variance(raw)
