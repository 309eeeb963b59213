"""Multi-layer perceptrons and cells with a memory, as plain trees of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from isthmus.types import Array

MLP = tuple[tuple[Array, Array], ...]


def orthogonal(key: Array, shape: tuple[int, int], scale: float = 1.0) -> Array:
    """Return weights (in, out) with orthogonal rows or columns of length `scale`.

    Saxe et al. 2014. They depend on the key alone, not on the CPU: no BLAS, whose kernels and
    threads differ between machines, has a part in them, and float64 is cast down at the end. Not
    for traced keys.
    """
    long, short = max(shape), min(shape)
    rows = _draw_normal(key, long * short).reshape(long, short).T.copy()
    _orthonormalize(rows)
    weights = rows.T if shape == (long, short) else rows
    return jnp.asarray((scale * weights).astype(np.float32))


def _draw_normal(key: Array, count: int) -> np.ndarray:
    """Draw standard normal numbers, float64 [count]; the first do not depend on the count."""
    # Few sizes, for each is a program that XLA compiles.
    enough = max(2**16, 1 << (count - 1).bit_length())
    bits = np.asarray(jax.random.bits(key, (enough,), jnp.uint32))[:count]
    return ndtri((bits + 0.5) / 2**32)


def _orthonormalize(rows: np.ndarray) -> None:
    """Make rows [short, long] orthonormal in place, one after the other (modified Gram-Schmidt).

    The factor of a QR decomposition whose R has a positive diagonal: uniform among all such
    (Mezzadri 2007).
    """
    for i, row in enumerate(rows):
        row /= np.sqrt(np.square(row).sum())
        later = rows[i + 1 :]
        later -= (later * row).sum(1, keepdims=True) * row


def init_mlp(key: Array, sizes: Sequence[int], last_scale: float) -> MLP:
    """Return orthogonal weights, scale sqrt(2) and `last_scale` at the output; biases zero."""
    layers = []
    for i, shape in enumerate(itertools.pairwise(sizes)):
        scale = last_scale if i == len(sizes) - 2 else np.sqrt(2)
        weights = orthogonal(jax.random.fold_in(key, i), shape, scale)
        layers.append((weights, jnp.zeros(shape[1], jnp.float32)))
    return tuple(layers)


def mlp(layers: MLP, x: Array, activation: Callable[[Array], Array] = jnp.tanh) -> Array:
    """Return the output (..., out) for x (..., in); no `activation` after the last layer."""
    for weights, bias in layers[:-1]:
        x = activation(x @ weights + bias)
    weights, bias = layers[-1]
    return x @ weights + bias


def normalize_layer(x: Array) -> Array:
    """Return x (..., units) with mean 0 and deviation 1 over its units (Ba et al. 2016).

    Without a gain and an offset of its own: the next layer has them.
    """
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


class LSTM(NamedTuple):
    """H units (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Memory (..., 2H): their output, then their inner state.
    """

    into: Array  # (I, 4H): input, forget, candidate and output
    back: Array  # (H, 4H)
    bias: Array  # (4H,)

    @staticmethod
    def init(key: Array, inputs: int, units: int) -> LSTM:
        """Return a cell whose forget gates begin open (Jozefowicz et al. 2015)."""
        into, back = _init_weights(key, inputs, units, 4)
        bias = jnp.zeros((4, units), jnp.float32).at[1].set(1.0).ravel()
        return LSTM(into, back, bias)

    @property
    def initial_carry(self) -> np.ndarray:
        """The memory before any input."""
        return np.zeros(2 * self.back.shape[0], np.float32)

    @staticmethod
    def apply_gates(driven: Array, returned: Array, memory: Array) -> Array:
        """Return the next memory from what inputs and units drive, (..., 4H) each."""
        enter, stay, candidate, leave = jnp.split(driven + returned, 4, -1)
        _, state = jnp.split(memory, 2, -1)
        state = jax.nn.sigmoid(stay) * state + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        return jnp.concatenate([jax.nn.sigmoid(leave) * jnp.tanh(state), state], -1)


class GRU(NamedTuple):
    """H units (Cho et al. 2014, arXiv 1406.1078; the reset gate after the product).

    Memory (..., H): their output.
    """

    into: Array  # (I, 3H): reset, update and candidate
    back: Array  # (H, 3H)
    bias: Array  # (3H,)

    @staticmethod
    def init(key: Array, inputs: int, units: int) -> GRU:
        """Return a cell."""
        into, back = _init_weights(key, inputs, units, 3)
        return GRU(into, back, jnp.zeros(3 * units, jnp.float32))

    @property
    def initial_carry(self) -> np.ndarray:
        """The memory before any input."""
        return np.zeros(self.back.shape[0], np.float32)

    @staticmethod
    def apply_gates(driven: Array, returned: Array, memory: Array) -> Array:
        """Return the next memory from what inputs and units drive, (..., 3H) each."""
        reset, update, candidate = jnp.split(driven, 3, -1)
        reset_back, update_back, candidate_back = jnp.split(returned, 3, -1)
        update = jax.nn.sigmoid(update + update_back)
        new = jnp.tanh(candidate + jax.nn.sigmoid(reset + reset_back) * candidate_back)
        return (1 - update) * new + update * memory


Cell = LSTM | GRU
CELLS: dict[str, type[Cell]] = {"lstm": LSTM, "gru": GRU}


def _init_weights(key: Array, inputs: int, units: int, gates: int) -> tuple[Array, Array]:
    """Return orthogonal weights of inputs and of units, scale 1."""
    into = orthogonal(jax.random.fold_in(key, 0), (inputs, gates * units))
    back = orthogonal(jax.random.fold_in(key, 1), (units, gates * units))
    return into, back


def cell_output(cell: Cell, memory: Array) -> Array:
    """Return the units' output, (..., H) of (..., M)."""
    return memory[..., : cell.back.shape[0]]


def cell_step(cell: Cell, memory: Array, x: Array) -> Array:
    """Return the memory (..., M) after an input (..., I)."""
    return cell.apply_gates(
        x @ cell.into + cell.bias, cell_output(cell, memory) @ cell.back, memory
    )


def unroll(cell: Cell, memory: Array, x: Array, fresh: Array) -> Array:
    """Return memories [T, B, M] after each input [T, B, I], from `memory` [B, M] on.

    The memory is blank before an input that is `fresh`. Back through time, one product a step is
    left: the gradient of the weights is one product over all steps, and all slopes of the gates are
    found at once.
    """
    return _unroll(cell, memory, x, fresh[..., None])


class _Unrolled(NamedTuple):
    """What the way back needs of an unrolled cell, [T, B, ...]."""

    cell: Cell
    x: Array
    fresh: Array
    before: Array  # memories before each input
    returned: Array  # what units drove at each step


@jax.custom_vjp
def _unroll(cell: Cell, memory: Array, x: Array, fresh: Array) -> Array:
    return _forward(cell, memory, x, fresh)[0]


def _forward(cell: Cell, memory: Array, x: Array, fresh: Array) -> tuple[Array, _Unrolled]:
    """Return memories [T, B, M], and what `_backward` needs."""

    def step(memory: Array, now: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array, Array]]:
        x, fresh = now
        before = jnp.where(fresh, 0.0, memory)
        returned = cell_output(cell, before) @ cell.back
        after = cell.apply_gates(x @ cell.into + cell.bias, returned, before)
        return after, (after, before, returned)

    _, (memories, before, returned) = jax.lax.scan(step, memory, (x, fresh))
    return memories, _Unrolled(cell, x, fresh, before, returned)


def _backward(saved: _Unrolled, slope: Array) -> tuple[Cell, Array, Array, None]:
    """Return the slopes of cell, first memory and inputs from those of the memories [T, B, M]."""
    cell, x, before = saved.cell, saved.x, saved.before
    driven = x @ cell.into + cell.bias
    pulls = jax.vmap(partial(_pull_gates, cell))(driven, saved.returned, before)
    memory, driven_slope, returned_slope = _pull_steps(cell, slope, pulls, saved)
    weights = type(cell)(
        _sum_products(x, driven_slope),
        _sum_products(cell_output(cell, before), returned_slope),
        driven_slope.sum((0, 1)),
    )
    return weights, memory, driven_slope @ cell.into.T, None


def _pull_gates(cell: Cell, driven: Array, returned: Array, memory: Array) -> Callable:
    """Return the map from slopes of the next memory to those of what made it."""
    return jax.vjp(cell.apply_gates, driven, returned, memory)[1]


def _pull_steps(
    cell: Cell, slope: Array, pulls: Callable, saved: _Unrolled
) -> tuple[Array, Array, Array]:
    """Return the slopes of the first memory and, [T, B, ...], of what inputs and units drove."""
    across = cell.back.T

    def step(later: Array, now: tuple[Array, Callable, Array]) -> tuple[Array, tuple[Array, Array]]:
        slope, pull, fresh = now
        driven, returned, before = pull(slope + later)
        before = before.at[:, : len(cell.back)].add(returned @ across)
        return jnp.where(fresh, 0.0, before), (driven, returned)

    last = jnp.zeros_like(saved.before[0])
    now = (slope, pulls, saved.fresh)
    memory, (driven, returned) = jax.lax.scan(step, last, now, reverse=True)
    return memory, driven, returned


def _sum_products(a: Array, b: Array) -> Array:
    """Return the sum over steps and rows of a^T b: (I, H) of [T, B, I] and [T, B, H]."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


_unroll.defvjp(_forward, _backward)
