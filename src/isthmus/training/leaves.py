"""The leaves of a tree as exact bits: to C-ordered arrays, and back to the kinds that they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.learning.blocks import Blocks
from isthmus.types import IsthmusError

SCALAR_TYPES = {bool: np.bool_, int: np.int64, float: np.float64}
LEAF_KINDS = ("jax", "key", "numpy", "blocks", "number", "bool", "int", "float")
"""A JAX array, a typed PRNG key, a NumPy array, one in Blocks, a NumPy number, and Python's own
numbers."""


class CheckpointError(IsthmusError):
    """A checkpoint that cannot be written, found, trusted, or used for this run."""


class BlocksLeaf:
    """Stands for Blocks in a tree that is described: a leaf, which Blocks are not to JAX."""


def leaf_kind(leaf: Any) -> str:
    """Return which of LEAF_KINDS a leaf is; of anything else, its type's name."""
    if _is_key(leaf):
        return "key"
    if isinstance(leaf, Blocks | BlocksLeaf):
        return "blocks"
    for kind, leaf_type in (("jax", jax.Array), ("numpy", np.ndarray), ("number", np.generic)):
        if isinstance(leaf, leaf_type):
            return kind
    return type(leaf).__name__


def leaf_bits(name: str, leaf: Any) -> tuple[np.ndarray | Blocks, str]:
    """Return a leaf's bits as a C-ordered array, in blocks where it is, and what they are: "array"
    or, for typed keys, "key<implementation>".

    Raises CheckpointError for a leaf that cannot be stored.
    """
    if _is_key(leaf):
        return np.asarray(jax.random.key_data(leaf)), f"key<{jax.random.key_impl(leaf)}>"
    if type(leaf) in SCALAR_TYPES:
        return _scalar_bits(name, leaf), "array"
    if isinstance(leaf, Blocks):
        _check_array(name, leaf.parts[0])
        return leaf, "array"
    _check_array(name, leaf)
    return np.asarray(leaf, order="C"), "array"


def restore_leaf(kind: str, record: Mapping[str, Any], data: np.ndarray) -> Any:
    """Return the bits `data` as a leaf of a kind of LEAF_KINDS; `record` names a key's
    implementation.

    64-bit leaves of NumPy and Python never pass through JAX.
    """
    if kind == "key":
        implementation = record["kind"].removeprefix("key<").removesuffix(">")
        return jax.random.wrap_key_data(jnp.array(data), impl=implementation)
    if kind == "jax":
        # A copy, for JAX may reuse its buffer; `jnp.array` would make a program of each shape.
        return jax.device_put(data.copy())
    if kind == "numpy":
        return data
    if kind == "blocks":
        return Blocks.split(data)
    if kind == "number":
        return data[()]
    return data.item()


def make_record(
    name: str, data: np.ndarray | Blocks, kind: str, pieces: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a leaf's entry in a manifest."""
    return {
        "name": name,
        "kind": kind,
        "dtype": data.dtype.name,
        "shape": list(data.shape),
        "pieces": list(pieces),
    }


def describe_record(record: Mapping[str, Any] | None) -> str:
    """Return a leaf's kind, type and shape in words."""
    if record is None:
        return "absent"
    return "{kind} of {dtype}{shape}".format_map(record)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _scalar_bits(name: str, leaf: bool | int | float) -> np.ndarray:
    try:
        return np.asarray(leaf, dtype=SCALAR_TYPES[type(leaf)])
    except OverflowError as error:
        raise CheckpointError(
            f"leaf {name} is an int beyond 64 bits: keep it in `extra`"
        ) from error


def _check_array(name: str, leaf: Any) -> None:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise CheckpointError(
            f"leaf {name} is a {type(leaf).__name__}: a checkpoint holds arrays, keys and numbers"
        )
    if isinstance(leaf, jax.Array) and leaf.weak_type:
        # It would come back strongly typed, which promotes differently and compiles once more.
        raise CheckpointError(f"leaf {name} is weakly typed: give it a dtype, as in jnp.float32(x)")
    if leaf.dtype.kind not in "biuf" or leaf.dtype.itemsize > 8 or leaf.dtype.isbuiltin != 1:
        raise CheckpointError(
            f"leaf {name} is of dtype {leaf.dtype}: a checkpoint holds bool, int and float of up "
            "to 64 bits"
        )
