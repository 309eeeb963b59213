"""PAR: policy adaptation by representation mismatch (Lyu et al. 2024, arXiv 2405.15369).

1.  pi, Q_1, Q_2 (SAC); encoders f, g <- initialize; D_src, D_tgt as two_replays'
    repeat:
2.      collect, as two_replays'
        for each source step, on half a batch of D_src and half of D_tgt:
3.          f, g <- a gradient step on |g(f(s), a) - f(s')|^2 of the target's, f(s') held
4.          r <- r - penalty * |g(f(s), a) - f(s')|^2 of the source's, by slow copies of f and g
5.          pi, Q_1, Q_2 <- SAC's update on both halves
    deploy pi
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from isthmus.learning.learner import Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.sac import SACBatch, SACState
from isthmus.learning.settings import NonNegativeFloat, PositiveFloat, PositiveInt
from isthmus.methods.two_replays import Halves, Knowledge, TwoReplays
from isthmus.types import Array, Spaces


class Encoders(NamedTuple):
    """f and g."""

    state: MLP  # (O,) to the latent
    transition: MLP  # latent and action to the next latent


class EncodersState(NamedTuple):
    """The encoders, their slow copies and their optimizer."""

    encoders: Encoders
    slow: Encoders
    optimizer: optax.OptState


def encode(network: MLP, obs: Array) -> Array:
    """Return f(s), (B, Z), each scaled to a mean magnitude of 1, so that it cannot shrink to 0."""
    latent = mlp(network, obs, jax.nn.elu)
    return latent / jnp.maximum(jnp.abs(latent).mean(-1, keepdims=True), 1e-8)


def measure_deviation(encoders: Encoders, batch: SACBatch) -> Array:
    """Return the mean over latents of (g(f(s), a) - f(s'))^2, (B,); f(s') has no slope."""
    following = jax.lax.stop_gradient(encode(encoders.state, batch.next_obs))
    inputs = jnp.concatenate([encode(encoders.state, batch.obs), batch.action], -1)
    predicted = mlp(encoders.transition, inputs, jax.nn.elu)
    return jnp.square(predicted - following).mean(-1)


@dataclass(frozen=True)
class PAR(TwoReplays):
    """As the box. Sizes, the scaled latent and the slow copies are those of ODRL's code, and so is
    `penalty`, its beta; it takes an encoders' step for every 200 of SAC, and this one for each.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    penalty: NonNegativeFloat = 0.1
    latent: PositiveInt = 256
    encoder_hidden: tuple[int, ...] = (256, 256)
    encoder_rate: PositiveFloat = 3e-4

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.encoder_rate))

    def init_model(self, spaces: Spaces, sac: SACState, key: Array) -> EncodersState:
        """Return the encoders of box line 1."""
        first, second = jax.random.split(key)
        encoders = Encoders(
            init_mlp(first, (spaces.observation, *self.encoder_hidden, self.latent), 1.0),
            init_mlp(second, (self.latent + spaces.action, *self.encoder_hidden, self.latent), 1.0),
        )
        return EncodersState(encoders, encoders, self._adam.init(encoders))

    def update(
        self, known: Knowledge, halves: Halves, context: Any, key: Array
    ) -> tuple[Knowledge, Health]:
        """Do box lines 3 to 5."""
        # 3.
        model, loss = self._learn_encoders(known.model, halves.target)
        # 4.
        deviation = measure_deviation(model.slow, halves.source)
        reward = halves.source.reward - self.penalty * deviation
        paid = halves._replace(source=halves.source._replace(reward=reward))
        # 5.
        learned, health = self.learner.update(known.learned, paid.joined, key)
        health |= {"encoder_loss": loss, "deviation": deviation.mean()}
        return Knowledge(learned, model), health

    def _learn_encoders(self, s: EncodersState, target: SACBatch) -> tuple[EncodersState, Array]:
        """Do box line 3; also return the loss before the step."""

        def loss(encoders: Encoders) -> Array:
            return measure_deviation(encoders, target).mean()

        value, gradient = jax.value_and_grad(loss)(s.encoders)
        change, optimizer = self._adam.update(gradient, s.optimizer)
        encoders = optax.apply_updates(s.encoders, change)
        tau = self.learner.tau
        slow = jax.tree.map(lambda old, new: old + tau * (new - old), s.slow, encoders)
        return EncodersState(encoders, slow, optimizer), value
