"""Checkpoints: a whole run as one tree of arrays on disk, exact to the bit.

A checkpoint is a folder, `<name>/`, of a manifest (JSON) and pieces (safetensors). Leaves carry
their path in the tree as their name. Small leaves share one piece; larger ones are cut along axis 0
into pieces of about 4 MiB, so that a replay buffer of which a few rows have changed costs a few
pieces. A piece is named by the SHA-256 of its file, and one that the last checkpoint holds already
is linked, not written again.

A checkpoint is written under a temporary name, synced and renamed: whatever stops a save, what can
be found under a final name is whole. Two checkpoints may share a piece's disk blocks, so bad blocks
there spoil both; nothing else does.

Nothing here unpickles or evaluates: safetensors and JSON hold numbers and text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from isthmus.types import IsthmusError

FORMAT = 1
PIECE = 4 * 2**20  # bytes
MANIFEST = "manifest.json"
PARTIAL = ".partial"  # being written or being removed: never read, cleaned by the next save
REPLACED = ".old"  # the former checkpoint of a name, for the moment between two renames
SCALARS = {bool: np.bool_, int: np.int64, float: np.float64}

STORED_FIELDS = {
    ".usage": ".book",
    ".obs_moments": ".observations",
    ".effect_memory": ".gap_memory",
}  # today's: on disk
FIELD = re.compile(r"\.\w+")


class CheckpointError(IsthmusError):
    """A checkpoint that cannot be written, found, trusted, or used for this run."""


@dataclass(frozen=True)
class Difference:
    """Where two checkpoints first differ: the leaf's path in the tree, the index in it (None where
    one lacks the leaf, or has it in another shape or type) and what each of them holds there.
    """

    leaf: str
    index: tuple[int, ...] | None
    first: Any
    second: Any


def save(
    folder: Path,
    tree: Any,
    *,
    extra: Mapping[str, Any],
    name: int,
    keep: int | None = 2,
    beside: Path | None = None,
) -> Path:
    """Writes `tree` as the checkpoint `name` (rounds or steps, rising) of `folder` and returns its
    path.

    The tree's leaves are NumPy or JAX arrays, typed PRNG keys, and NumPy or Python scalars. `extra`
    is JSON: counters, offsets into logs, versions. Afterwards the newest `keep` checkpoints up to
    `name` are left; one of a greater name belongs to a future that this run has left (it was
    damaged, and the run went on from an earlier one) and goes too. Pieces that the newest
    checkpoint of the folder `beside` holds already are linked as well.

    Raises CheckpointError for a leaf that cannot be stored, and where the disk refuses (full,
    read-only): the last good checkpoint is then still there.
    """
    path = path_of(folder, name)
    partial, replaced = path.with_suffix(PARTIAL), path.with_suffix(REPLACED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{PARTIAL}"):  # what a killed save left
            shutil.rmtree(leftover)
        known = [next(iter(_checkpoints(place)), None) for place in (folder, beside) if place]
        sources = [path for path in known if path]
        os.mkdir(partial)

        def put(piece: str, data: bytes) -> None:
            if (partial / piece).exists():
                return  # equal rows of one leaf, such as a buffer's empty ones
            for source in sources:
                with contextlib.suppress(
                    OSError
                ):  # it lacks the piece, or the file system has no links
                    if (source / piece).read_bytes() == data:  # a damaged piece is not handed on
                        return os.link(source / piece, partial / piece)
            _write(partial / piece, data)

        body = {
            "format": FORMAT,
            "leaves": _pack(tree, put),
            "extra": json.loads(json.dumps(extra, default=np.generic.item)),
        }
        _write(partial / MANIFEST, json.dumps(body | {"sha256": _hash(body)}, indent=1).encode())
        _sync(partial)
        if path.exists():
            _remove(replaced)
            os.rename(path, replaced)
        os.rename(partial, path)
        _sync(folder)

        known = _checkpoints(folder)
        current = [c for c in known if c.suffix != REPLACED and c.name <= path.name]
        for stale in set(known) - set(current[:keep]):
            _remove(stale)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path} ({error.strerror or error}); the last good one is "
            "kept: "
            "make room or mend the folder, then resume the run"
        ) from error
    return path


def load(
    path: Path, like: Any, defaults: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """The tree and the `extra` of the checkpoint at `path`.

    `like` is a tree of the same structure, shapes and dtypes; each leaf comes back as the kind that
    stands there: a NumPy array, a JAX array, a typed key, a NumPy or Python scalar. 64-bit leaves
    never pass through JAX. `defaults` are, by a leaf's last name, what stands for leaves that the
    checkpoint, an older one, lacks.

    Raises CheckpointError, naming the leaf, where the tree does not fit, and where anything on disk
    is not as written.
    """
    reader = _Reader(path)
    leaves, known = _named(like), defaults or {}
    last = {name: name.rpartition(".")[2] for name, _ in leaves}
    lacking = {name for name in last if name not in reader.leaves and last[name] in known}
    ours = {name: _record(name, *_bits(name, leaf)) for name, leaf in leaves if name not in lacking}
    for name in reader.leaves | ours:
        there, here = _describe(reader.leaves.get(name)), _describe(ours.get(name))
        if there != here:
            raise CheckpointError(
                f"{path}: leaf {name} is {there} in the checkpoint and {here} in this run: "
                "resume with the settings, and the version, that the run was begun with"
            )
    restored = [
        known[last[name]] if name in lacking else _restore(leaf, reader.array(name))
        for name, leaf in leaves
    ]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), restored), reader.extra


def latest(folder: Path) -> tuple[Path, list[str]]:
    """The newest good checkpoint of `folder`, and one line for each newer one that is damaged.

    Raises CheckpointError where there is none.
    """
    notes = []
    for path in _checkpoints(folder):
        try:
            verify(path)
        except CheckpointError as error:
            notes.append(f"skipped {error}")
        else:
            return path, notes
    raise CheckpointError("; ".join([f"{folder} holds no good checkpoint", *notes]))


def verify(path: Path) -> str:
    """Reads all of the checkpoint at `path` and returns its `digest`; raises CheckpointError at the
    first damage.
    """
    reader = _Reader(path)
    for name in reader.leaves:
        reader.array(name)
    return _hash([*reader.leaves.values()])


def paths(folder: Path) -> list[Path]:
    """The checkpoints of `folder`, good or damaged, newest first."""
    return [path for path in _checkpoints(folder) if path.suffix != REPLACED]


def path_of(folder: Path, name: int) -> Path:
    """Where the checkpoint `name` of `folder` lies."""
    return folder / f"{name:012d}"


def read_extra(path: Path) -> dict[str, Any]:
    """The `extra` of the checkpoint at `path`; of it, only the manifest is read. Raises
    CheckpointError.
    """
    return _Reader(path).extra


def keep_only(folder: Path, names: Collection[int]) -> None:
    """Removes the checkpoints of `folder` but for those named."""
    for path in _checkpoints(folder):
        if path.suffix == REPLACED or int(path.name) not in names:
            _remove(path)


def digest(tree: Any) -> str:
    """A SHA-256 of a tree's names, shapes, dtypes and bits; of a checkpoint, given its Path, that
    of the saved tree.

    A NumPy and a JAX array of the same bits have the same digest.
    """
    leaves = (
        [*_Reader(tree).leaves.values()]
        if isinstance(tree, Path)
        else _pack(tree, lambda piece, data: None)
    )
    return _hash(leaves)


def differences(path_a: Path, path_b: Path) -> Difference | None:
    """The first leaf, in the tree's order, in which two checkpoints differ by a bit; None where
    they are the same.
    """
    first, second = _Reader(path_a), _Reader(path_b)
    for name in first.leaves | second.leaves:
        a, b = first.leaves.get(name), second.leaves.get(name)
        if a is None or b is None or _describe(a) != _describe(b):
            return Difference(name, None, _describe(a), _describe(b))
        if a["pieces"] == b["pieces"]:
            continue
        left, right = first.array(name), second.array(name)
        unequal = [
            np.frombuffer(x.tobytes(), np.uint8).reshape(left.size, left.itemsize)
            for x in (left, right)
        ]
        rows = np.flatnonzero((unequal[0] != unequal[1]).any(axis=1))
        if rows.size:  # bits, not values: -0.0 is not 0.0, and a NaN equals itself
            index = tuple(int(i) for i in np.unravel_index(rows[0], left.shape))
            return Difference(name, index, left[index], right[index])
    return None


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Return a tree's leaves as C-ordered arrays, by their path in the tree. Raises CheckpointError
    as `save` does.
    """
    return {name: _bits(name, leaf)[0] for name, leaf in _named(tree)}


def from_arrays(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a tree like `like` with the leaves in `arrays`; one that is not there stays as it is
    in `like`.

    Raises CheckpointError, naming the leaf, where `like` has none of that name, shape and type.
    """
    named = dict(_named(like))
    for name, data in arrays.items():
        here = _describe(_record(name, *_bits(name, named[name])) if name in named else None)
        if _bits_of(data) != here.partition(" of ")[2]:
            raise CheckpointError(f"leaf {name} is {_bits_of(data)} in the file and {here} here")
    leaves = [
        _restore(leaf, arrays[name]) if name in arrays else leaf for name, leaf in named.items()
    ]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)


def _bits_of(data: np.ndarray) -> str:
    return f"{data.dtype.name}{list(data.shape)}"


class _Reader:
    """A checkpoint on disk, each part checked against its hash as it is read."""

    def __init__(self, path: Path):
        self.path = path
        self._shared: dict[str, dict[str, np.ndarray]] = {}
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            written, version = manifest.pop("sha256"), manifest["format"]
            self.leaves: dict[str, dict[str, Any]] = {
                record["name"]: record for record in manifest["leaves"]
            }
            self.extra: dict[str, Any] = manifest["extra"]
        except OSError as error:
            raise CheckpointError(
                f"{path}: no readable manifest ({error.strerror}): no checkpoint"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: damaged, {MANIFEST} is not a checkpoint's manifest"
            ) from error
        if version != FORMAT:
            raise CheckpointError(
                f"{path}: of format {version}, this Isthmus reads {FORMAT}: use the version that "
                "wrote it"
            )
        if written != _hash(manifest):
            raise CheckpointError(
                f"{path}: damaged, {MANIFEST} does not have the hash it was written with"
            )

    def array(self, name: str) -> np.ndarray:
        """One leaf's bits, as a fresh array."""
        record = self.leaves[name]
        try:
            data = np.concatenate(
                [np.atleast_1d(self._piece(piece)[name]) for piece in record["pieces"]]
            )
            data = data.reshape(record["shape"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: damaged, its pieces do not hold the leaf {name}"
            ) from error
        if data.dtype.name != record["dtype"]:
            raise CheckpointError(
                f"{self.path}: damaged, its pieces hold the leaf {name} as {data.dtype}"
            )
        return data

    def _piece(self, piece: str) -> dict[str, np.ndarray]:
        if piece in self._shared:
            return self._shared[piece]
        file = self.path / piece
        try:
            data = file.read_bytes()
            tensors = from_safetensors(data)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: damaged, cannot read {piece} ({error.strerror})"
            ) from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: refused, {piece} is not a safetensors file; a pickle, or any other "
                "format, is not loaded"
            ) from error
        if piece != _piece_name(data):
            raise CheckpointError(
                f"{self.path}: damaged, the bytes of {piece} do not have its hash"
            )
        if len(tensors) > 1:  # the small leaves: read once
            self._shared[piece] = tensors
        return tensors


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Return a tree's leaves with their names on disk, which stay what they were when a field is
    renamed.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(_stored_name(jax.tree_util.keystr(path)), leaf) for path, leaf in leaves]


def _stored_name(path: str) -> str:
    """Return the name on disk of the leaf at `path`: older checkpoints and recorded digests hold
    it.
    """
    return FIELD.sub(lambda field: STORED_FIELDS.get(field[0], field[0]), path)


def _pack(tree: Any, put: Callable[[str, bytes], None]) -> list[dict[str, Any]]:
    """Hands a tree's pieces to `put` one by one, and returns the leaves' records for the manifest."""

    def piece(tensors: dict[str, np.ndarray]) -> str:
        data = to_safetensors(tensors)
        name = _piece_name(data)
        put(name, data)
        return name

    records: dict[str, dict[str, Any]] = {}
    small: dict[str, np.ndarray] = {}
    for name, leaf in _named(tree):
        if name in records:
            raise CheckpointError(
                f"two leaves of the tree are called {name}: rename one, or neither can be restored"
            )
        data, kind = _bits(name, leaf)
        if data.nbytes <= PIECE:
            small[name], pieces = data, []
        else:
            rows = max(1, PIECE * len(data) // data.nbytes)
            pieces = [piece({name: data[i : i + rows]}) for i in range(0, len(data), rows)]
        records[name] = _record(name, data, kind, pieces)
    if small:
        bundle = piece(small)
        for name in small:
            records[name]["pieces"] = [bundle]
    return list(records.values())


def _bits(name: str, leaf: Any) -> tuple[np.ndarray, str]:
    """A leaf's bits as a C-ordered array, and its kind: "array" or, for typed keys,
    "key<implementation>".
    """
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), f"key<{jax.random.key_impl(leaf)}>"
    if isinstance(leaf, jax.Array) and leaf.weak_type:
        # It would come back strongly typed, which promotes differently and compiles once more.
        raise CheckpointError(f"leaf {name} is weakly typed: give it a dtype, as in jnp.float32(x)")
    if type(leaf) in SCALARS:
        try:
            return np.asarray(leaf, dtype=SCALARS[type(leaf)]), "array"
        except OverflowError as error:
            raise CheckpointError(
                f"leaf {name} is an int beyond 64 bits: keep it in `extra`"
            ) from error
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise CheckpointError(
            f"leaf {name} is a {type(leaf).__name__}: a checkpoint holds arrays, keys and numbers"
        )
    if leaf.dtype.kind not in "biuf" or leaf.dtype.itemsize > 8 or leaf.dtype.isbuiltin != 1:
        raise CheckpointError(
            f"leaf {name} is of dtype {leaf.dtype}: a checkpoint holds bool, int and float of up "
            "to 64 bits"
        )
    return np.asarray(leaf, order="C"), "array"


def _restore(like: Any, data: np.ndarray) -> Any:
    """The bits as the kind of leaf that `like` is."""
    if isinstance(like, jax.Array):
        array = jnp.array(data)  # a copy: JAX may reuse its buffer
        if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        return array
    if isinstance(like, np.ndarray):
        return data
    return data[()] if isinstance(like, np.generic) else data.item()


def _record(name: str, data: np.ndarray, kind: str, pieces: Sequence[str] = ()) -> dict[str, Any]:
    shape = list(data.shape)
    return {
        "name": name,
        "kind": kind,
        "dtype": data.dtype.name,
        "shape": shape,
        "pieces": list(pieces),
    }


def _describe(record: Mapping[str, Any] | None) -> str:
    return "absent" if record is None else "{kind} of {dtype}{shape}".format_map(record)


def _piece_name(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}.safetensors"


def _hash(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _checkpoints(folder: Path) -> list[Path]:
    """Everything under a final name, newest first."""
    found = [
        path
        for path in folder.glob("*")
        if re.fullmatch(rf"\d{{12}}({re.escape(REPLACED)})?", path.name)
    ]
    return sorted(found, key=lambda path: (path.stem, path.suffix == ""), reverse=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint so that a stop halfway leaves no torn one under a final name."""
    if checkpoint.exists():
        leftover = checkpoint.with_name(checkpoint.name + PARTIAL)
        os.rename(checkpoint, leftover)
        shutil.rmtree(leftover)
