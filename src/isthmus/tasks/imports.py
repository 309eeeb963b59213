"""Import a user's own tasks, methods and learners: `--import my_robot.py` or `package.module`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from isthmus.types import BadValue


def import_files(names: Iterable[str]) -> None:
    """Run files or modules that the user named; what they `register` is then known.

    Raises BadValue, in one line.
    """
    for name in names:
        import_named(name, f"--import {name}")


def import_named(name: str, label: str) -> ModuleType:
    """Return a file or module that the user named, imported.

    Raises BadValue, in one line that begins with `label`.
    """
    try:
        path = Path(name)
        if path.suffix == ".py" or path.exists():
            return _import_file(label, path)
        return importlib.import_module(name)
    except BadValue:
        raise
    except ModuleNotFoundError as error:
        raise BadValue(f"{label}: {error}") from None
    except Exception as error:
        raise BadValue(f"{label}: {type(error).__name__}: {error}") from error


def _import_file(label: str, path: Path) -> ModuleType:
    """Run a Python file once a process, as a module that is named by its path."""
    key = "isthmus_import_" + str(path.resolve()).replace("/", "_").replace(".", "_")
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadValue(f"{label}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
    return module
