"""Inverse dynamics: which action led from s to s'? An ensemble fitted to a log; arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.learner import ABOVE_ZERO, WHOLE, check_settings
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.types import Array


class InverseState(NamedTuple):
    members: MLP  # leaves with a leading axis N
    optimizer: Any
    mean: Array  # (2 O,) of s and s' - s in the log
    deviation: Array  # (2 O,)


@dataclass(frozen=True)
class InverseModels:
    """N networks g_i(s, s') = a that differ in their first weights and in the batches they saw.

    Raises BadValue for a number that cannot be.
    """

    hidden: tuple[int, ...] = (256, 256)
    members: int = 5
    learning_rate: float = 1e-3
    minibatch: int = 256

    def __post_init__(self) -> None:
        check_settings(
            self,
            (("members", "minibatch"), WHOLE),
            (("learning_rate",), ABOVE_ZERO),
            where="inverse.",
        )

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, obs: Array, next_obs: Array, action: int, key: Array) -> InverseState:
        """Models of a log's transitions (B, O), (B, O), whose moments they normalize by."""
        x = np.concatenate([obs, next_obs - obs], -1).astype(np.float64)
        spread = x.std(0)  # what never changes in the log is not blown up where it does
        mean, deviation = (
            y.astype(np.float32) for y in (x.mean(0), np.where(spread > 1e-6, spread + 1e-6, 1))
        )
        sizes = (x.shape[1], *self.hidden, action)
        members = [init_mlp(each, sizes, 0.1) for each in jax.random.split(key, self.members)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return InverseState(
            stacked, self._adam.init(stacked), jnp.asarray(mean), jnp.asarray(deviation)
        )

    def actions(self, s: InverseState, obs: Array, next_obs: Array) -> Array:
        """g_i(s, s') of every member, [N, ..., A], of transitions (..., O)."""
        x = (jnp.concatenate([obs, next_obs - obs], -1) - s.mean) / s.deviation
        return jax.vmap(lambda network: mlp(network, x, jax.nn.relu))(s.members)

    @partial(jax.jit, static_argnums=(0, 2))
    def fit(
        self, s: InverseState, steps: int, obs: Array, next_obs: Array, action: Array, key: Array
    ) -> tuple[InverseState, Array]:
        """`steps` Adam steps on mean |g_i(s, s') - a|^2 over the log (B, ...), each member on
        batches of its own; the error of the last of them.
        """
        x = (jnp.concatenate([obs, next_obs - obs], -1) - s.mean) / s.deviation

        def loss(network: MLP, rows: Array) -> Array:
            return jnp.square(mlp(network, x[rows], jax.nn.relu) - action[rows]).mean()

        def step(carry: tuple[MLP, Any], key: Array) -> tuple[tuple[MLP, Any], Array]:
            members, optimizer = carry
            rows = jax.random.randint(key, (self.members, self.minibatch), 0, len(x))
            total = lambda members: jax.vmap(loss)(members, rows).sum()
            value, gradient = jax.value_and_grad(total)(members)
            change, optimizer = self._adam.update(gradient, optimizer)
            return (optax.apply_updates(members, change), optimizer), value / self.members

        (members, optimizer), errors = jax.lax.scan(
            step, (s.members, s.optimizer), jax.random.split(key, steps)
        )
        return s._replace(members=members, optimizer=optimizer), errors[-1]
