"""The diagonal Gaussian policy of PPO and TRPO: what is deployed, what collects, and random actions."""

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
        return ()

    def act(self, memory: tuple, observation: Array) -> tuple[Array, tuple]:
        return jnp.clip(mlp(self.actor, self.normalizer(observation)), self.low, self.high), memory


class GaussianBehaviour(NamedTuple):
    """What collects: a sample. Its unclipped value comes back with the transition as `sample`."""

    policy: GaussianPolicy
    log_std: Array  # (A,)

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        mean = mlp(self.policy.actor, self.policy.normalizer(observation))
        sample = mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape)
        action = jnp.clip(sample, self.policy.low, self.policy.high)
        return Decision(action, extra={"sample": sample}), memory


class UniformBehaviour(NamedTuple):
    """Random actions between the bounds: what feeds normalizers before the first round, and benchmarks."""

    low: Array
    high: Array

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        action = jax.random.uniform(key, self.low.shape, minval=self.low, maxval=self.high)
        return Decision(action, extra={"sample": action}), memory
