"""Import a user's own tasks, methods and learners: `--import my_robot.py` or `package.module`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from isthmus.types import BadValue


def import_files(names: Iterable[str]) -> None:
    """Run files or modules that the user named; what they `register` is then known.

    Raises BadValue, in one line.
    """
    for name in names:
        try:
            _import_file_or_module(name)
        except BadValue:
            raise
        except ModuleNotFoundError as error:
            raise BadValue(f"--import {name}: {error}") from None
        except Exception as error:
            raise BadValue(f"--import {name}: {type(error).__name__}: {error}") from error


def _import_file_or_module(name: str) -> None:
    path = Path(name)
    if path.suffix == ".py" or path.exists():
        _import_file(name, path)
    else:
        importlib.import_module(name)


def _import_file(name: str, path: Path) -> None:
    """Run a Python file once a process, as a module that is named by its path."""
    key = "isthmus_import_" + str(path.resolve()).replace("/", "_").replace(".", "_")
    if key in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadValue(f"--import {name}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
