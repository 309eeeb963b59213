"""Inverse dynamics: which action led from s to s'? An ensemble fitted to a log; arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.settings import PositiveFloat, PositiveInt, Settings
from isthmus.types import Array


class InverseState(NamedTuple):
    """An ensemble of inverse models, their optimizer, and the moments that they normalize by."""

    members: MLP  # leaves with a leading axis N
    optimizer: optax.OptState
    mean: Array  # (2 O,) of s and s' - s in the log
    deviation: Array  # (2 O,)


@dataclass(frozen=True)
class InverseModels(Settings):
    """N networks g_i(s, s') = a that differ in their first weights and in their batches.

    Raises BadValue for a number that cannot be.
    """

    PREFIX: ClassVar[str] = "inverse."
    hidden: tuple[int, ...] = (256, 256)
    members: PositiveInt = 5
    learning_rate: PositiveFloat = 1e-3
    minibatch: PositiveInt = 256

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, obs: Array, next_obs: Array, action: int, key: Array) -> InverseState:
        """Return models of a log's transitions (B, O), (B, O), whose moments they normalize by."""
        x = np.concatenate([obs, next_obs - obs], -1).astype(np.float64)
        spread = x.std(0)
        # What never changes in the log is not blown up where it does.
        deviation = np.where(spread > 1e-6, spread + 1e-6, 1)
        sizes = (x.shape[1], *self.hidden, action)
        members = [init_mlp(k, sizes, 0.1) for k in jax.random.split(key, self.members)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return InverseState(
            stacked,
            self._adam.init(stacked),
            jnp.asarray(x.mean(0).astype(np.float32)),
            jnp.asarray(deviation.astype(np.float32)),
        )

    def actions(self, s: InverseState, obs: Array, next_obs: Array) -> Array:
        """Return g_i(s, s') of every member, [N, ..., A], of transitions (..., O)."""
        x = _normalize(s, obs, next_obs)
        return jax.vmap(lambda network: mlp(network, x, jax.nn.relu))(s.members)

    @partial(jax.jit, static_argnums=(0, 2))
    def fit(
        self, s: InverseState, steps: int, obs: Array, next_obs: Array, action: Array, key: Array
    ) -> tuple[InverseState, Array]:
        """Do `steps` Adam steps on mean |g_i(s, s') - a|^2 over the log (B, ...).

        Each member has batches of its own. Returns the models and the error of the last step.
        """
        descend = partial(self._descend, _normalize(s, obs, next_obs), action)
        s, errors = jax.lax.scan(descend, s, jax.random.split(key, steps))
        return s, errors[-1]

    def _descend(
        self, x: Array, action: Array, s: InverseState, key: Array
    ) -> tuple[InverseState, Array]:
        """Do an Adam step of every member; also return their mean error before it."""
        rows = jax.random.randint(key, (self.members, self.minibatch), 0, len(x))

        def total_loss(members: MLP) -> Array:
            return jax.vmap(_squared_error)(members, x[rows], action[rows]).sum()

        error, gradient = jax.value_and_grad(total_loss)(s.members)
        change, optimizer = self._adam.update(gradient, s.optimizer)
        members = optax.apply_updates(s.members, change)
        return s._replace(members=members, optimizer=optimizer), error / self.members


def _squared_error(network: MLP, x: Array, action: Array) -> Array:
    return jnp.square(mlp(network, x, jax.nn.relu) - action).mean()


def _normalize(s: InverseState, obs: Array, next_obs: Array) -> Array:
    return (jnp.concatenate([obs, next_obs - obs], -1) - s.mean) / s.deviation
