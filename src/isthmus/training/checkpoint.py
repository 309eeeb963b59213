"""Checkpoints: a whole run as one tree of arrays on disk, exact to the bit.

A checkpoint is a folder, `<name>/`, of a manifest (JSON) and pieces (safetensors). The manifest
holds the tree's structure, from which the tree is made again (`structure`). Leaves carry their path
in the tree as their name. Small leaves share one piece; larger ones are cut along axis 0
into pieces of about 4 MiB, so that a replay buffer of which a few rows have changed costs a few
pieces. A piece is named by the SHA-256 of its file, and one that the last checkpoint holds already
is linked, not written again.

A checkpoint is written under a temporary name, synced and renamed: whatever stops a save, what can
be found under a final name is whole. Two checkpoints may share a piece's disk blocks, so bad blocks
there spoil both; nothing else does.

Nothing here unpickles or evaluates: safetensors and JSON hold numbers and text. Checkpoints of
older versions have no structure: they are loaded into a tree that is like the one they hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save as to_safetensors

from isthmus.learning.blocks import is_blocks
from isthmus.training.checkpoint_reader import FORMAT, MANIFEST, Reader, hash_json, piece_name
from isthmus.training.leaves import (
    BlocksLeaf,
    CheckpointError,
    describe_record,
    leaf_bits,
    leaf_kind,
    make_record,
    restore_leaf,
)
from isthmus.training.structure import StructureError, describe_tree

PIECE = 4 * 2**20  # bytes
PARTIAL = ".partial"  # being written or being removed: never read, cleaned by the next save
REPLACED = ".old"  # the former checkpoint of a name, for the moment between two renames

STORED_FIELDS = {
    ".usage": ".book",
    ".obs_moments": ".observations",
    ".effect_memory": ".gap_memory",
}  # today's: on disk
FIELD = re.compile(r"\.\w+")


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
    """Write `tree` as the checkpoint `name` (rounds or steps, rising) of `folder`; return its path.

    The tree's leaves are NumPy or JAX arrays, typed PRNG keys, and NumPy or Python scalars. `extra`
    is JSON: counters, offsets into logs, versions. Afterwards the newest `keep` checkpoints up to
    `name` are left; one of a greater name belongs to a future that this run has left (it was
    damaged, and the run went on from an earlier one) and goes too. Pieces that the newest
    checkpoint of the folder `beside` holds already are linked as well.

    Raises CheckpointError for a leaf that cannot be stored, and where the disk refuses (full,
    read-only): the last good checkpoint is then still there.
    """
    path = path_of(folder, name)
    partial = path.with_suffix(PARTIAL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        sources = _checkpoints(folder)[:1]
        if beside:
            sources += _checkpoints(beside)[:1]
        os.mkdir(partial)
        _write_checkpoint(partial, tree, extra, sources)
        _rename_in_place(partial, path)
        _remove_stale(folder, path, keep)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path} ({error.strerror or error}); the last good one is "
            "kept: make room or mend the folder, then resume the run"
        ) from error
    return path


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed save left."""
    for leftover in folder.glob(f"*{PARTIAL}"):
        shutil.rmtree(leftover)


def _write_checkpoint(
    folder: Path, tree: Any, extra: Mapping[str, Any], sources: list[Path]
) -> None:
    """Write the pieces and the manifest of a tree, synced; pieces of `sources` are linked."""

    def put(piece: str, data: bytes) -> None:
        if (folder / piece).exists():
            return  # equal rows of one leaf, such as a buffer's empty ones
        if not any(_link_piece(source / piece, folder / piece, data) for source in sources):
            _write(folder / piece, data)

    body = {
        "format": FORMAT,
        "leaves": _pack(tree, put),
        "extra": json.loads(json.dumps(extra, default=np.generic.item)),
    }
    with contextlib.suppress(StructureError):  # such a tree is loaded as an older version's is
        body["structure"] = describe_tree(_mark_blocks(tree), _stored_field)
    _write(folder / MANIFEST, json.dumps(body | {"sha256": hash_json(body)}, indent=1).encode())
    _sync(folder)


def _link_piece(source: Path, target: Path, data: bytes) -> bool:
    """Link a piece that is there already; return whether it was, and the file system has links."""
    with contextlib.suppress(OSError):
        if source.read_bytes() == data:  # a damaged piece is not handed on
            os.link(source, target)
            return True
    return False


def _rename_in_place(partial: Path, path: Path) -> None:
    if path.exists():
        replaced = path.with_suffix(REPLACED)
        _remove(replaced)
        os.rename(path, replaced)
    os.rename(partial, path)
    _sync(path.parent)


def _remove_stale(folder: Path, path: Path, keep: int | None) -> None:
    """Remove all checkpoints but the newest `keep` up to `path`."""
    known = _checkpoints(folder)
    current = [past for past in paths(folder) if past.name <= path.name]
    for stale in set(known) - set(current[:keep]):
        _remove(stale)


def load(
    path: Path,
    like: Any = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    packages: Collection[str] = (),
) -> tuple[Any, dict[str, Any]]:
    """Return the tree and the `extra` of the checkpoint at `path`.

    The tree is made from the manifest's structure, of classes that are imported already and belong
    to `packages`, or to files that the user named. An older checkpoint has none: it is loaded into
    `like`, a tree of the same structure, shapes and dtypes. Each leaf comes back as the kind that
    it was: a NumPy array, a JAX array, a typed key, a NumPy or Python scalar. 64-bit leaves never
    pass through JAX. `defaults` are, by a leaf's last name, what stands for leaves that the
    checkpoint, an older one, lacks.

    Raises CheckpointError, naming the leaf, where the tree does not fit, and where anything on disk
    is not as written.
    """
    reader, known = Reader(path), defaults or {}
    if like is None:
        kinds = reader.kinds(packages, _stored_field)
        _check_names(reader, kinds, known)
    else:
        kinds = jax.tree.map(leaf_kind, like, is_leaf=is_blocks)
        _check_fits(reader, like, known)
    leaves = []
    for name, kind in _named(kinds):
        if name in reader.leaves:
            leaves.append(reader.leaf(name, kind))
        else:
            leaves.append(known[_last_name(name)])
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(kinds), leaves), reader.extra


def _check_names(reader: Reader, kinds: Any, defaults: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a checkpoint's structure and its leaves are not of one tree."""
    unknown = set(reader.leaves)
    for name, _ in _named(kinds):
        unknown.discard(name)
        if name not in reader.leaves and _last_name(name) not in defaults:
            raise CheckpointError(
                f"{reader.path}: leaf {name} is absent in the checkpoint: use the version of "
                "Isthmus that wrote it"
            )
    if unknown:
        raise CheckpointError(f"{reader.path}: damaged, its structure lacks {sorted(unknown)[0]}")


def _check_fits(reader: Reader, like: Any, defaults: Mapping[str, Any]) -> None:
    """Raise CheckpointError for the first leaf that is another in a checkpoint than in `like`."""
    current = {}
    for name, leaf in _named(like):
        if name in reader.leaves or _last_name(name) not in defaults:
            current[name] = make_record(name, *leaf_bits(name, leaf))
    for name in reader.leaves | current:
        stored = describe_record(reader.leaves.get(name))
        wanted = describe_record(current.get(name))
        if stored != wanted:
            raise CheckpointError(
                f"{reader.path}: leaf {name} is {stored} in the checkpoint and {wanted} in this "
                "run: resume with the settings, and the version, that the run was begun with"
            )


def has_structure(path: Path, packages: Collection[str] | None = None) -> bool:
    """Return whether the checkpoint at `path` holds its tree's structure; given `packages`, also
    whether these define its classes.

    Those of older versions hold none, nor does one of a class with static fields. Raises
    CheckpointError.
    """
    reader = Reader(path)
    if not reader.has_structure or packages is None:
        return reader.has_structure
    return reader.has_known_classes(packages, _stored_field)


def latest(folder: Path) -> tuple[Path, list[str]]:
    """Return the newest good checkpoint of `folder`, and a line for each newer one that is damaged.

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
    """Read all of the checkpoint at `path` and return its `digest`. Raises CheckpointError at the
    first damage.
    """
    reader = Reader(path)
    for name in reader.leaves:
        reader.array(name)
    return hash_json([*reader.leaves.values()])


def paths(folder: Path) -> list[Path]:
    """Return the checkpoints of `folder`, good or damaged, newest first."""
    return [path for path in _checkpoints(folder) if path.suffix != REPLACED]


def path_of(folder: Path, name: int) -> Path:
    """Return where the checkpoint `name` of `folder` lies."""
    return folder / f"{name:012d}"


def read_extra(path: Path) -> dict[str, Any]:
    """Return the `extra` of the checkpoint at `path`; of it, only the manifest is read. Raises
    CheckpointError.
    """
    return Reader(path).extra


def keep_only(folder: Path, names: Collection[int]) -> None:
    """Remove the checkpoints of `folder` but for those named."""
    for path in _checkpoints(folder):
        if path.suffix == REPLACED or int(path.name) not in names:
            _remove(path)


def digest(tree: Any) -> str:
    """Return a SHA-256 of a tree's names, shapes, dtypes and bits; of a checkpoint, given its Path,
    that of the saved tree.

    A NumPy and a JAX array of the same bits have the same digest.
    """
    if isinstance(tree, Path):
        return hash_json([*Reader(tree).leaves.values()])
    return hash_json(_pack(tree, lambda piece, data: None))


def differences(path_a: Path, path_b: Path) -> Difference | None:
    """Return the first leaf, in the tree's order, in which two checkpoints differ by a bit; None
    where they are the same.
    """
    first, second = Reader(path_a), Reader(path_b)
    for name in first.leaves | second.leaves:
        a, b = first.leaves.get(name), second.leaves.get(name)
        if a is None or b is None or describe_record(a) != describe_record(b):
            return Difference(name, None, describe_record(a), describe_record(b))
        if a["pieces"] == b["pieces"]:
            continue
        left, right = first.array(name), second.array(name)
        rows = np.flatnonzero((_bytes_of(left) != _bytes_of(right)).any(axis=1))
        if rows.size:  # bits, not values: -0.0 is not 0.0, and a NaN equals itself
            index = tuple(int(i) for i in np.unravel_index(rows[0], left.shape))
            return Difference(name, index, left[index], right[index])
    return None


def _bytes_of(data: np.ndarray) -> np.ndarray:
    """Return an array's bytes, uint8 (numbers, bytes a number)."""
    return np.frombuffer(data.tobytes(), np.uint8).reshape(data.size, data.itemsize)


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Return a tree's leaves as C-ordered arrays, by their path in the tree. Raises CheckpointError
    as `save` does.
    """
    return {name: np.asarray(leaf_bits(name, leaf)[0]) for name, leaf in _named(tree)}


def from_arrays(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a tree like `like` with the leaves in `arrays`; one that is not there stays as it is
    in `like`.

    Raises CheckpointError, naming the leaf, where `like` has none of that name, shape and type.
    """
    named = dict(_named(like))
    records = {name: make_record(name, *leaf_bits(name, leaf)) for name, leaf in named.items()}
    for name, data in arrays.items():
        wanted = describe_record(records.get(name))
        if _bits_of(data) != wanted.partition(" of ")[2]:
            raise CheckpointError(f"leaf {name} is {_bits_of(data)} in the file and {wanted} here")
    for name, data in arrays.items():
        named[name] = restore_leaf(leaf_kind(named[name]), records[name], data)
    structure = jax.tree_util.tree_structure(like, is_leaf=is_blocks)
    return jax.tree_util.tree_unflatten(structure, list(named.values()))


def _bits_of(data: np.ndarray) -> str:
    return f"{data.dtype.name}{list(data.shape)}"


def _mark_blocks(tree: Any) -> Any:
    """Return a tree with a leaf in the place of Blocks: on disk they are one array."""

    def mark(node: Any) -> Any:
        return BlocksLeaf() if is_blocks(node) else node

    return jax.tree.map(mark, tree, is_leaf=is_blocks)


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Return a tree's leaves with their names on disk, which stay what they were when a field is
    renamed.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_blocks)[0]
    return [(_stored_name(jax.tree_util.keystr(path)), leaf) for path, leaf in leaves]


def _stored_name(path: str) -> str:
    """Return the name on disk of the leaf at `path`: older checkpoints and recorded digests hold
    it.
    """
    return FIELD.sub(lambda field: STORED_FIELDS.get(field[0], field[0]), path)


def _stored_field(name: str) -> str:
    return _stored_name(f".{name}")[1:]


def _last_name(name: str) -> str:
    return name.rpartition(".")[2]


def _pack(tree: Any, put: Callable[[str, bytes], None]) -> list[dict[str, Any]]:
    """Hand a tree's pieces to `put` one by one; return the leaves' records for the manifest."""

    def piece(tensors: dict[str, np.ndarray]) -> str:
        data = to_safetensors(tensors)
        name = piece_name(data)
        put(name, data)
        return name

    records: dict[str, dict[str, Any]] = {}
    small: dict[str, np.ndarray] = {}
    for name, leaf in _named(tree):
        if name in records:
            raise CheckpointError(
                f"two leaves of the tree are called {name}: rename one, or neither can be restored"
            )
        data, kind = leaf_bits(name, leaf)
        if data.nbytes <= PIECE:
            small[name], pieces = np.asarray(data), []
        else:
            rows = max(1, PIECE * len(data) // data.nbytes)
            pieces = [piece({name: data[i : i + rows]}) for i in range(0, len(data), rows)]
        records[name] = make_record(name, data, kind, pieces)
    if small:
        bundle = piece(small)
        for name in small:
            records[name]["pieces"] = [bundle]
    return list(records.values())


def _checkpoints(folder: Path) -> list[Path]:
    """Everything under a final name, newest first."""
    pattern = re.compile(rf"\d{{12}}({re.escape(REPLACED)})?")
    found = [path for path in folder.glob("*") if pattern.fullmatch(path.name)]
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
    """Remove a checkpoint so that a stop halfway leaves no torn one under a final name."""
    if checkpoint.exists():
        leftover = checkpoint.with_name(checkpoint.name + PARTIAL)
        os.rename(checkpoint, leftover)
        shutil.rmtree(leftover)
