"""The files of a run's folder: how they are written, and whether a run.json is one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.types import BadValue, IsthmusError

FORMAT = 1
CONFIG_FIELDS = {  # of run.json, and of which kind
    "method": str, "settings": dict, "problem": dict, "seed": int, "steps": int, "start": str | None, "imports": list,
    "versions": dict,
}  # fmt: skip


class RunError(IsthmusError):
    """A folder that is no run, a run that cannot be read, or a place that cannot be written."""


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all. Raises RunError where the disk or the folder
    refuses.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        # A name that was no text to the locale, such as a folder's, is written as the bytes that it
        # is.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def make_folder(folder: Path, option: str) -> None:
    """Make a folder where none is. Raises BadValue, naming the option that names another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadValue(
            f"cannot make the folder {folder}: {error.strerror}; name another with {option}"
        ) from None


def check_config(config: Any, run: Path, file: Path) -> None:
    """Raise RunError where a run's `run.json`, as read, is of another format, or damaged."""
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise RunError(f"{run} is a run of format {found}; this version reads format {FORMAT}")
    for name, kind in CONFIG_FIELDS.items():
        if not isinstance(config.get(name), kind):
            raise RunError(f"{file} is damaged: {name} is {config.get(name)!r}")
