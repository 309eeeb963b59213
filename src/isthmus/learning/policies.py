"""Policies and behaviours: of PPO and TRPO, a diagonal Gaussian, and of SAC, its tanh."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isthmus.learning.networks import MLP, mlp
from isthmus.learning.normalization import Normalizer
from isthmus.types import Array, Decision


class GaussianPolicy(NamedTuple):
    """What is deployed: the mean action, clipped to the robot's bounds. Carries its normalizer."""

    normalizer: Normalizer
    actor: MLP
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        """Return an action (A,) for an observation (O,), and the memory."""
        return jnp.clip(mlp(self.actor, self.normalizer(observation)), self.low, self.high), memory


class GaussianBehaviour(NamedTuple):
    """What collects: a sample. Its unclipped value comes back with the transition as `sample`."""

    policy: GaussianPolicy
    log_std: Array  # (A,)

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        """Return a decision for an observation (O,), and the memory."""
        mean = mlp(self.policy.actor, self.policy.normalizer(observation))
        sample = mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape)
        action = jnp.clip(sample, self.policy.low, self.policy.high)
        return Decision(action, extra={"sample": sample}), memory


class UniformBehaviour(NamedTuple):
    """Random actions between the bounds: they feed normalizers before the first round."""

    low: Array
    high: Array

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        """Return a decision for an observation (O,), and the memory."""
        action = jax.random.uniform(key, self.low.shape, minval=self.low, maxval=self.high)
        return Decision(action, extra={"sample": action}), memory


# Networks that share the numbers of an action out evenly, in order; mostly one.
Actor = tuple[MLP, ...]


def squashed_parameters(actor: Actor, observation: Array) -> tuple[Array, Array]:
    """Return mean and log standard deviation (..., A) before the tanh.

    The latter is in -20..2, as in SAC's authors' code.
    """
    means, log_stds = [], []
    for network in actor:
        mean, log_std = jnp.split(mlp(network, observation, jax.nn.relu), 2, -1)
        means.append(mean)
        log_stds.append(log_std)
    return jnp.concatenate(means, -1), jnp.clip(jnp.concatenate(log_stds, -1), -20.0, 2.0)


class SquashedPolicy(NamedTuple):
    """What is deployed: the tanh of the mean, scaled from -1..1 to the robot's bounds."""

    actor: Actor
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        """Return an action (A,) for an observation (O,), and the memory."""
        return self.scaled(jnp.tanh(squashed_parameters(self.actor, observation)[0])), memory

    def scaled(self, unit: Array) -> Array:
        """Return an action in -1..1 scaled to the robot's bounds, which rounding does not leave."""
        return jnp.clip(self.low + 0.5 * (unit + 1) * (self.high - self.low), self.low, self.high)


class SquashedBehaviour(NamedTuple):
    """What collects: a sample, or where `random` is true a uniform action.

    The unscaled action comes back with the transition as `sample`.
    """

    policy: SquashedPolicy
    random: Array  # bool

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        """Return a decision for an observation (O,), and the memory."""
        k_noise, k_uniform = jax.random.split(key)
        mean, log_std = squashed_parameters(self.policy.actor, observation)
        sampled = jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(k_noise, mean.shape))
        uniform = jax.random.uniform(k_uniform, mean.shape, minval=-1.0, maxval=1.0)
        unit = jnp.where(self.random, uniform, sampled)
        return Decision(self.policy.scaled(unit), extra={"sample": unit}), memory
