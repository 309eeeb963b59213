"""Multi-layer perceptrons as plain trees of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.types import Array

MLP = tuple[tuple[Array, Array], ...]

# Physics waits for each call of a policy, and to hand so short a one to another thread takes longer than the call. It
# can only be said before anything is computed; no bit depends on it.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def init_mlp(key: Array, sizes: Sequence[int], last_scale: float) -> MLP:
    """Orthogonal weights (Saxe et al. 2014), scale sqrt(2) and `last_scale` at the output; biases zero."""
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        scale = last_scale if i == len(sizes) - 2 else np.sqrt(2)
        weights = jax.nn.initializers.orthogonal(scale)(jax.random.fold_in(key, i), (fan_in, fan_out), jnp.float32)
        layers.append((weights, jnp.zeros(fan_out, jnp.float32)))
    return tuple(layers)


def mlp(layers: MLP, x: Array, activation: Callable[[Array], Array] = jnp.tanh) -> Array:
    """`activation` between layers, none after the last; x (..., in) to (..., out)."""
    for weights, bias in layers[:-1]:
        x = activation(x @ weights + bias)
    weights, bias = layers[-1]
    return x @ weights + bias
