"""The files that an MJCF consists of: itself, what it includes or attaches, meshes, textures."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from isthmus.physics.mujoco import load_model

COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
PART = re.compile(rb"<(?:include|model)\s[^>]*?\bfile\s*=\s*([\"'])(.*?)\1", re.DOTALL)
"""An element that names another MJCF; a `<model>` is one that is attached."""
FOLDER = re.compile(rb"(\bfile\s*=\s*[\"'])[^\"']*[/\\]")
"""What stands before a file's own name, where an MJCF names it."""


def list_model_files(path: Path) -> list[Path]:
    """Return the files of which an MJCF is compiled: itself, other MJCFs, then assets.

    Raises BadValue where it does not compile.
    """
    model = load_model(path)
    texts = [path.absolute()]
    for text in texts:  # grows on the way
        for part in _find_parts(path, text):
            if part not in texts:
                texts.append(part)
    # MuJoCo knows its assets by their whole paths.
    assets = {Path(os.fsdecode(name)) for name in bytes(model.paths).split(b"\0") if name}
    return texts + sorted(path.absolute().parent / asset for asset in assets)


def _find_parts(main: Path, text: Path) -> Iterator[Path]:
    """Yield the MJCFs that a file names: by paths from the main file's folder, or its own."""
    content = COMMENT.sub(b"", text.read_bytes())
    for _, name in PART.findall(content):
        for folder in (main.absolute().parent, text.parent):
            part = folder / os.fsdecode(name)
            if part.is_file():
                yield Path(os.path.normpath(part))
                break


def digest_model(path: Path) -> str:
    """Return the SHA-256 of an MJCF's files, wherever they lie; of one file, of its bytes.

    Raises BadValue where it does not compile.
    """
    files = list_model_files(path)
    if len(files) == 1:
        return hashlib.sha256(files[0].read_bytes()).hexdigest()
    digests = []
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".xml":
            content = FOLDER.sub(rb"\1", content)
        digests.append(hashlib.sha256(content).hexdigest())
    # In an order that no folder's name moves.
    return hashlib.sha256("".join([digests[0], *sorted(digests[1:])]).encode()).hexdigest()
