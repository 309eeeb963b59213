"""Is a transition of the target or of the grounded simulator? GARAT's discriminator D(s, a, s').

Desai et al. 2020 (arXiv 2008.01594), as the authors' code has it. Its logit is positive for the
target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.learner import Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Settings
from isthmus.types import Array, Metrics


class TransitionNetwork(NamedTuple):
    """Two networks whose outputs are added: a deep one, and a layer with a ReLU behind it."""

    deep: MLP
    skip: MLP

    def __call__(self, x: Array) -> Array:
        """Return the logit (...) of rows (..., 2 O + A)."""
        return (mlp(self.deep, x, jax.nn.relu) + jax.nn.relu(mlp(self.skip, x)))[..., 0]


class TransitionDiscriminatorState(NamedTuple):
    """A network, its optimizer, and the moments that it normalizes by."""

    judge: TransitionNetwork
    optimizer: optax.OptState
    mean: Array  # (2 O + A,) of the transitions it last learned from, either side counting half
    deviation: Array


class _Rows(NamedTuple):
    """Standardized transitions (B, 2 O + A) of either side."""

    real: Array  # the target's
    fake: Array


class _Descent(NamedTuple):
    """What a gradient step changes."""

    network: TransitionNetwork
    optimizer: optax.OptState


def slope_penalty(network: TransitionNetwork, target: Array, simulated: Array, key: Array) -> Array:
    """Return the mean of (|dD/dx| - 1)^2 at points between rows (B, ...) of either side.

    Gulrajani et al. 2017 (arXiv 1704.00028).
    """
    between = simulated + jax.random.uniform(key, (len(target), 1)) * (target - simulated)
    slope = jax.vmap(jax.grad(lambda x: network(x)))(between)
    return jnp.square(jnp.sqrt(jnp.square(slope).sum(-1) + 1e-12) - 1).mean()


@dataclass(frozen=True)
class TransitionDiscriminator(Settings):
    """GARAT's discriminator: sizes, rate, decay and penalty are those of the authors' code.

    Raises BadValue for a number that cannot be.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 1e-3
    penalty: NonNegativeFloat = 10.0
    steps: PositiveInt = 10  # gradient steps a round
    minibatch: PositiveInt = 512  # transitions of either side

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adamw(self.learning_rate, weight_decay=self.weight_decay))

    def init(self, observation: int, action: int, key: Array) -> TransitionDiscriminatorState:
        """Return a discriminator of so many numbers in an observation and in an action."""
        first, second = jax.random.split(key)
        numbers = 2 * observation + action
        network = TransitionNetwork(
            init_mlp(first, (numbers, *self.hidden, 1), 1.0), init_mlp(second, (numbers, 1), 1.0)
        )
        mean, deviation = np.zeros(numbers, np.float32), np.ones(numbers, np.float32)
        return TransitionDiscriminatorState(network, self._adam.init(network), mean, deviation)

    def learn(
        self,
        s: TransitionDiscriminatorState,
        target: TransitionBatch,
        simulated: TransitionBatch,
        key: Array,
    ) -> tuple[TransitionDiscriminatorState, Metrics]:
        """Do gradient steps on the cross-entropy with transitions (B, ...) of either side.

        They are standardized by their moments. `discriminator_accuracy` is measured before the
        steps: 0.5 where the two cannot be told apart.
        """
        s, metrics = self._learn(s, target, simulated, key)
        return s, {name: float(x) for name, x in metrics.items()}

    @partial(jax.jit, static_argnums=0)
    def _learn(
        self,
        s: TransitionDiscriminatorState,
        target: TransitionBatch,
        simulated: TransitionBatch,
        key: Array,
    ) -> tuple[TransitionDiscriminatorState, Health]:
        real, fake = jnp.concatenate(target, -1), jnp.concatenate(simulated, -1)
        mean, deviation = _pool_moments(real, fake)
        rows = _Rows((real - mean) / deviation, (fake - mean) / deviation)
        accuracy = _measure_accuracy(s.judge, rows)
        start, keys = _Descent(s.judge, s.optimizer), jax.random.split(key, self.steps)
        end, losses = jax.lax.scan(partial(self._descend, rows), start, keys)
        health = {"discriminator_accuracy": accuracy, "discriminator_loss": losses[-1]}
        return TransitionDiscriminatorState(end.network, end.optimizer, mean, deviation), health

    def _descend(self, rows: _Rows, descent: _Descent, key: Array) -> tuple[_Descent, Array]:
        """Do one gradient step on a batch of either side; also return the loss before it."""
        k_real, k_fake, k_between = jax.random.split(key, 3)
        batch = self._draw(rows.real, k_real), self._draw(rows.fake, k_fake)
        loss, gradient = jax.value_and_grad(self._loss)(descent.network, *batch, k_between)
        change, optimizer = self._adam.update(gradient, descent.optimizer, descent.network)
        return _Descent(optax.apply_updates(descent.network, change), optimizer), loss

    def _draw(self, rows: Array, key: Array) -> Array:
        return rows[jax.random.randint(key, (self.minibatch,), 0, len(rows))]

    def _loss(self, network: TransitionNetwork, real: Array, fake: Array, key: Array) -> Array:
        entropy = jax.nn.softplus(-network(real)).mean() + jax.nn.softplus(network(fake)).mean()
        return entropy / 2 + self.penalty * slope_penalty(network, real, fake, key)

    def reward(self, s: TransitionDiscriminatorState, batch: TransitionBatch) -> np.ndarray:
        """Return -log(1 - sigmoid(D(s, a, s'))), float32 (...), of transitions (..., O or A)."""
        return np.asarray(self._reward(s, batch))

    @partial(jax.jit, static_argnums=0)
    def _reward(self, s: TransitionDiscriminatorState, batch: TransitionBatch) -> Array:
        return jax.nn.softplus(s.judge((jnp.concatenate(batch, -1) - s.mean) / s.deviation))


def _measure_accuracy(network: TransitionNetwork, rows: _Rows) -> Array:
    """Return the share of rows whose side is told right, each side counting half."""
    return ((network(rows.real) > 0).mean() + (network(rows.fake) <= 0).mean()) / 2


def _pool_moments(real: Array, fake: Array) -> tuple[Array, Array]:
    """Return mean and deviation of rows (B, ...) of either side, each counting half."""
    apart = jnp.square(real.mean(0) - fake.mean(0)) / 4
    mean = (real.mean(0) + fake.mean(0)) / 2
    return mean, jnp.sqrt((real.var(0) + fake.var(0)) / 2 + apart) + 1e-8
