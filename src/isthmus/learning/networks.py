"""Multi-layer perceptrons and cells with a memory, as plain trees of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from isthmus.types import Array

MLP = tuple[tuple[Array, Array], ...]

# Physics waits for each call of a policy, and to hand so short a one to another thread takes longer
# than the call. It can only be said before anything is computed; no bit depends on it.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def orthogonal(key: Array, shape: tuple[int, int], scale: float = 1.0) -> Array:
    """Return weights (in, out) with orthogonal rows or columns of length `scale` (Saxe et al.
    2014).

    They depend on the key alone, not on the CPU: no BLAS, whose kernels and threads differ between
    machines, has a part in them, and float64 is cast down at the end. Not for traced keys.
    """
    long, short = max(shape), min(shape)
    rows = _draw_normal(key, long * short).reshape(long, short).T.copy()
    _orthonormalize(rows)
    weights = rows.T if shape == (long, short) else rows
    return jnp.asarray((scale * weights).astype(np.float32))


def _draw_normal(key: Array, count: int) -> np.ndarray:
    """Draw standard normal numbers, float64 [count]; the first ones do not depend on how many
    follow.
    """
    enough = max(
        2**16, 1 << (count - 1).bit_length()
    )  # few sizes, for each is a program that XLA compiles
    bits = np.asarray(jax.random.bits(key, (enough,), jnp.uint32))[:count]
    return ndtri((bits + 0.5) / 2**32)


def _orthonormalize(rows: np.ndarray) -> None:
    """Make the rows [short, long] orthonormal in place, one after the other (modified
    Gram-Schmidt).

    The factor of a QR decomposition whose R has a positive diagonal: uniform among all such
    (Mezzadri 2007).
    """
    for i, row in enumerate(rows):
        row /= np.sqrt(np.square(row).sum())
        later = rows[i + 1 :]
        later -= (later * row).sum(1, keepdims=True) * row


def init_mlp(key: Array, sizes: Sequence[int], last_scale: float) -> MLP:
    """Orthogonal weights, scale sqrt(2) and `last_scale` at the output; biases zero."""
    layers = []
    for i, shape in enumerate(itertools.pairwise(sizes)):
        scale = last_scale if i == len(sizes) - 2 else np.sqrt(2)
        layers.append(
            (orthogonal(jax.random.fold_in(key, i), shape, scale), jnp.zeros(shape[1], jnp.float32))
        )
    return tuple(layers)


def mlp(layers: MLP, x: Array, activation: Callable[[Array], Array] = jnp.tanh) -> Array:
    """`activation` between layers, none after the last; x (..., in) to (..., out)."""
    for weights, bias in layers[:-1]:
        x = activation(x @ weights + bias)
    weights, bias = layers[-1]
    return x @ weights + bias


class LSTM(NamedTuple):
    """H units (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000); memory
    (..., 2H): what they say, then what they keep.
    """

    into: Array  # (I, 4H): input, forget, candidate and output
    back: Array  # (H, 4H)
    bias: Array  # (4H,)

    @staticmethod
    def init(key: Array, inputs: int, units: int) -> LSTM:
        """Forget gates begin open (Jozefowicz et al. 2015)."""
        return LSTM(
            *_weights(key, inputs, units, 4),
            jnp.zeros((4, units), jnp.float32).at[1].set(1.0).ravel(),
        )

    @property
    def initial_carry(self) -> np.ndarray:
        """The memory of nothing."""
        return np.zeros(2 * self.back.shape[0], np.float32)

    @staticmethod
    def apply_gates(driven: Array, returned: Array, memory: Array) -> Array:
        """The next memory from what input and units drive, (..., 4H) each."""
        enter, stay, candidate, leave = jnp.split(driven + returned, 4, -1)
        kept = jax.nn.sigmoid(stay) * jnp.split(memory, 2, -1)[1] + jax.nn.sigmoid(
            enter
        ) * jnp.tanh(candidate)
        return jnp.concatenate([jax.nn.sigmoid(leave) * jnp.tanh(kept), kept], -1)


class GRU(NamedTuple):
    """H units (Cho et al. 2014, arXiv 1406.1078; the reset gate after the product); memory (...,
    H): what they say.
    """

    into: Array  # (I, 3H): reset, update and candidate
    back: Array  # (H, 3H)
    bias: Array  # (3H,)

    @staticmethod
    def init(key: Array, inputs: int, units: int) -> GRU:
        return GRU(*_weights(key, inputs, units, 3), jnp.zeros(3 * units, jnp.float32))

    @property
    def initial_carry(self) -> np.ndarray:
        return np.zeros(self.back.shape[0], np.float32)

    @staticmethod
    def apply_gates(driven: Array, returned: Array, memory: Array) -> Array:
        (reset, update, candidate), (reset_, update_, candidate_) = (
            jnp.split(x, 3, -1) for x in (driven, returned)
        )
        update = jax.nn.sigmoid(update + update_)
        return (1 - update) * jnp.tanh(
            candidate + jax.nn.sigmoid(reset + reset_) * candidate_
        ) + update * memory


Cell = LSTM | GRU
CELLS: dict[str, type[Cell]] = {"lstm": LSTM, "gru": GRU}


def _weights(key: Array, inputs: int, units: int, gates: int) -> tuple[Array, Array]:
    """Orthogonal, scale 1."""
    shapes = (inputs, gates * units), (units, gates * units)
    into, back = (orthogonal(jax.random.fold_in(key, i), shape) for i, shape in enumerate(shapes))
    return into, back


def cell_output(cell: Cell, memory: Array) -> Array:
    """What the units say, (..., H) of (..., M)."""
    return memory[..., : cell.back.shape[0]]


def cell_step(cell: Cell, memory: Array, x: Array) -> Array:
    """The memory (..., M) after an input (..., I)."""
    return cell.apply_gates(
        x @ cell.into + cell.bias, cell_output(cell, memory) @ cell.back, memory
    )


def unroll(cell: Cell, memory: Array, x: Array, fresh: Array) -> Array:
    """Memories [T, B, M] after each input [T, B, I], from `memory` [B, M] on; blank before an input
    that is `fresh`.

    Back through time, one product a step is left: the gradient of the weights is one product over
    all steps, and all slopes of the gates are found at once.
    """
    return _unroll(cell, memory, x, fresh[..., None])


@jax.custom_vjp
def _unroll(cell: Cell, memory: Array, x: Array, fresh: Array) -> Array:
    return _forward(cell, memory, x, fresh)[0]


def _forward(cell: Cell, memory: Array, x: Array, fresh: Array):
    def step(memory: Array, now: tuple[Array, Array]):
        x, fresh = now
        before = jnp.where(fresh, 0.0, memory)
        returned = cell_output(cell, before) @ cell.back
        after = cell.apply_gates(x @ cell.into + cell.bias, returned, before)
        return after, (after, before, returned)

    _, (memories, before, returned) = jax.lax.scan(step, memory, (x, fresh))
    return memories, (cell, x, fresh, before, returned)


def _backward(saved: tuple, slope: Array):
    cell, x, fresh, before, returned = saved
    across = cell.back.T
    pulls = jax.vmap(lambda *at: jax.vjp(cell.apply_gates, *at)[1])(
        x @ cell.into + cell.bias, returned, before
    )

    def step(later: Array, now: tuple):
        slope, pull, fresh = now
        driven, returned, before = pull(slope + later)
        before = before.at[:, : len(cell.back)].add(returned @ across)
        return jnp.where(fresh, 0.0, before), (driven, returned)

    memory, (driven, returned) = jax.lax.scan(
        step, jnp.zeros_like(before[0]), (slope, pulls, fresh), reverse=True
    )
    over = lambda a, b: a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
    weights = type(cell)(
        over(x, driven), over(cell_output(cell, before), returned), driven.sum((0, 1))
    )
    return weights, memory, driven @ cell.into.T, None


_unroll.defvjp(_forward, _backward)
