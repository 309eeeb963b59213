"""Is a transition of the target or of the grounded simulator? GARAT's discriminator D(s, a, s')
(Desai et al. 2020, arXiv 2008.01594), as the authors' code has it. Its logit is positive for the
target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.learner import ABOVE_ZERO, FROM_ZERO, WHOLE, check_settings
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.types import Array, Metrics


class TransitionNetwork(NamedTuple):
    """Two networks whose outputs are added: one deep, and one of a single layer with a ReLU behind
    it, the skip.
    """

    deep: MLP
    skip: MLP

    def __call__(self, x: Array) -> Array:
        """The logit (...) of rows (..., 2 O + A)."""
        return (mlp(self.deep, x, jax.nn.relu) + jax.nn.relu(mlp(self.skip, x)))[..., 0]


class TransitionDiscriminatorState(NamedTuple):
    judge: TransitionNetwork
    optimizer: Any
    mean: Array  # (2 O + A,) of the transitions it last learned from, either side counting half
    deviation: Array


def slope_penalty(judge: TransitionNetwork, target: Array, simulated: Array, key: Array) -> Array:
    """Mean (|dD/dx| - 1)^2 at points between rows (B, ...) of either side (Gulrajani et al. 2017,
    arXiv 1704.00028).
    """
    between = simulated + jax.random.uniform(key, (len(target), 1)) * (target - simulated)
    slope = jax.vmap(jax.grad(lambda x: judge(x)))(between)
    return jnp.square(jnp.sqrt(jnp.square(slope).sum(-1) + 1e-12) - 1).mean()


@dataclass(frozen=True)
class TransitionDiscriminator:
    """Sizes, rate, decay and penalty are those of the authors' code. Raises BadValue for a number
    that cannot be.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    penalty: float = 10.0
    steps: int = 10  # gradient steps a round
    minibatch: int = 512  # transitions of either side

    def __post_init__(self) -> None:
        check_settings(
            self,
            (("steps", "minibatch"), WHOLE),
            (("learning_rate",), ABOVE_ZERO),
            (("weight_decay", "penalty"), FROM_ZERO),
        )

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adamw(self.learning_rate, weight_decay=self.weight_decay))

    def init(self, observation: int, action: int, key: Array) -> TransitionDiscriminatorState:
        """A discriminator of transitions of so many numbers in an observation and in an action."""
        first, second = jax.random.split(key)
        numbers = 2 * observation + action
        judge = TransitionNetwork(
            init_mlp(first, (numbers, *self.hidden, 1), 1.0), init_mlp(second, (numbers, 1), 1.0)
        )
        return TransitionDiscriminatorState(
            judge,
            self._adam.init(judge),
            np.zeros(numbers, np.float32),
            np.ones(numbers, np.float32),
        )

    def learn(
        self,
        s: TransitionDiscriminatorState,
        target: TransitionBatch,
        simulated: TransitionBatch,
        key: Array,
    ) -> tuple[TransitionDiscriminatorState, Metrics]:
        """Gradient steps on the cross-entropy with transitions (B, ...) of either side,
        standardized by their moments.

        `discriminator_accuracy` is measured before the steps: 0.5 where the two cannot be told
        apart.
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
    ) -> tuple[TransitionDiscriminatorState, dict[str, Array]]:
        real, fake = (jnp.concatenate(x, -1) for x in (target, simulated))
        apart = jnp.square(real.mean(0) - fake.mean(0)) / 4
        mean, deviation = (
            (real.mean(0) + fake.mean(0)) / 2,
            jnp.sqrt((real.var(0) + fake.var(0)) / 2 + apart) + 1e-8,
        )
        real, fake = (real - mean) / deviation, (fake - mean) / deviation
        right = (s.judge(real) > 0).mean() + (s.judge(fake) <= 0).mean()

        def loss(judge: TransitionNetwork, a: Array, b: Array, key: Array) -> Array:
            entropy = jax.nn.softplus(-judge(a)).mean() + jax.nn.softplus(judge(b)).mean()
            return entropy / 2 + self.penalty * slope_penalty(judge, a, b, key)

        def step(
            carry: tuple[TransitionNetwork, Any], key: Array
        ) -> tuple[tuple[TransitionNetwork, Any], Array]:
            judge, optimizer = carry
            k_a, k_b, k_between = jax.random.split(key, 3)
            a, b = (
                x[jax.random.randint(k, (self.minibatch,), 0, len(x))]
                for x, k in ((real, k_a), (fake, k_b))
            )
            value, gradient = jax.value_and_grad(loss)(judge, a, b, k_between)
            change, optimizer = self._adam.update(gradient, optimizer, judge)
            return (optax.apply_updates(judge, change), optimizer), value

        (judge, optimizer), values = jax.lax.scan(
            step, (s.judge, s.optimizer), jax.random.split(key, self.steps)
        )
        told = {"discriminator_accuracy": right / 2, "discriminator_loss": values[-1]}
        return TransitionDiscriminatorState(judge, optimizer, mean, deviation), told

    def reward(self, s: TransitionDiscriminatorState, seen: TransitionBatch) -> np.ndarray:
        """-log(1 - sigmoid(D(s, a, s'))), float32 (...), of transitions (..., O), (..., A), (...,
        O).
        """
        return np.asarray(self._reward(s, seen))

    @partial(jax.jit, static_argnums=0)
    def _reward(self, s: TransitionDiscriminatorState, seen: TransitionBatch) -> Array:
        return jax.nn.softplus(s.judge((jnp.concatenate(seen, -1) - s.mean) / s.deviation))
