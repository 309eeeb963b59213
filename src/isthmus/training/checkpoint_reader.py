"""Reading a checkpoint's folder: the manifest, and each piece against its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from isthmus.training.leaves import CheckpointError, restore_leaf
from isthmus.training.structure import StructureError, build_tree

FORMAT = 1
MANIFEST = "manifest.json"


def piece_name(data: bytes) -> str:
    """Return the name of a piece that holds `data`."""
    return f"{hashlib.sha256(data).hexdigest()}.safetensors"


def hash_json(body: Any) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Reader:
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
            self.has_structure = "structure" in manifest
            self._structure = manifest.get("structure")
        except OSError as error:
            raise CheckpointError(
                f"{path}: no readable manifest ({error.strerror}): no checkpoint"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: damaged, {MANIFEST} is not a checkpoint's manifest"
            ) from error
        if version != FORMAT:
            raise CheckpointError(
                f"{path}: of format {version}, this Isthmus reads {FORMAT}: use the version that "
                "wrote it"
            )
        if written != hash_json(manifest):
            raise CheckpointError(
                f"{path}: damaged, {MANIFEST} does not have the hash it was written with"
            )

    def kinds(self, packages: Collection[str], stored_name: Callable[[str], str]) -> Any:
        """Return the tree, with each leaf's kind in the leaf's place, of classes of `packages`."""
        if not self.has_structure:
            raise CheckpointError(
                f"{self.path}: holds no structure: the version of Isthmus that wrote it needs to "
                "be told what it holds"
            )
        try:
            return build_tree(self._structure, packages, stored_name)
        except StructureError as error:
            raise CheckpointError(
                f"{self.path}: {error}: name with --import what the run was begun with, or use the "
                "version of Isthmus that wrote it"
            ) from None

    def has_known_classes(
        self, packages: Collection[str], stored_name: Callable[[str], str]
    ) -> bool:
        """Return whether a tree can be made of the structure, by classes of `packages`."""
        try:
            build_tree(self._structure, packages, stored_name)
        except StructureError:
            return False
        return True

    def leaf(self, name: str, kind: str) -> Any:
        """Return one leaf, of a kind of `leaves`."""
        try:
            return restore_leaf(kind, self.leaves[name], self.array(name))
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"{self.path}: damaged, the leaf {name} cannot be a {kind}: {error}"
            ) from error

    def array(self, name: str) -> np.ndarray:
        """Return one leaf's bits, as a fresh array."""
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
            tensors = load(data)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: damaged, cannot read {piece} ({error.strerror})"
            ) from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: refused, {piece} is not a safetensors file; a pickle, or any other "
                "format, is not loaded"
            ) from error
        if piece != piece_name(data):
            raise CheckpointError(
                f"{self.path}: damaged, the bytes of {piece} do not have its hash"
            )
        if len(tensors) > 1:  # the small leaves: read once
            self._shared[piece] = tensors
        return tensors
