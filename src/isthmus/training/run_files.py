"""The files of a run's folder: how they are written, and whether a run.json is one."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.problems.problem import Problem
from isthmus.types import BadValue, IsthmusError, UnknownName

FORMAT = 1
CONFIG_FIELDS = {  # of run.json, and of which kind
    "method": str,
    "settings": dict,
    "problem": dict,
    "seed": int,
    "steps": int,
    "start": str | None,
    "imports": list,
    "versions": dict,
}


class RunError(IsthmusError):
    """A folder that is no run, a run that cannot be read, or a place that cannot be written."""


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all. Raises RunError where the disk or the folder
    refuses.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        # A name that was no text to the locale, such as a folder's, is written as its bytes.
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
    version = config.get("format") if isinstance(config, dict) else None
    if version != FORMAT:
        raise RunError(f"{run} is a run of format {version}; this version reads format {FORMAT}")
    for name, kind in CONFIG_FIELDS.items():
        if not isinstance(config.get(name), kind):
            raise RunError(f"{file} is damaged: {name} is {config.get(name)!r}")


def read_config(run: Path) -> dict[str, Any]:
    """Return a run's run.json. Raises RunError where the folder is no run, or the file damaged."""
    path = run / "run.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{run} is no run: it has no run.json") from None
    except NotADirectoryError:
        raise RunError(f"{run} is no run: it is a file, not a folder") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{run}/run.json cannot be read: {error}") from None
    check_config(config, run, path)
    return config


def split_reference(reference: Path | str) -> tuple[Path, str]:
    """Return a run's folder and the checkpoint meant, "" or "best". Raises UnknownName for another
    one.
    """
    head, at, which = str(reference).rpartition("@")
    if not at or Path(reference).exists() or not (Path(head) / "run.json").exists():
        return Path(reference), ""
    if which != "best":
        raise UnknownName("checkpoint", which, ["best"])
    return Path(head), which


def new_folder(root: Path, method: str, problem: Problem, seed: int) -> Path:
    """Return a name nobody has yet, `root/method-problem-s0`, `...-s0-2`."""
    slug = re.sub(r"[^\w.=-]", "-", problem.name)[:60].strip("-")
    base = root / f"{method}-{slug}-s{seed}"
    folder, i = base, 2
    while os.path.lexists(folder):
        folder, i = base.with_name(f"{base.name}-{i}"), i + 1
    return folder
