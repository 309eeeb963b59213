"""Bring in a user's own tasks, methods and learners: `--import my_robot.py` or `--import
package.module`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from isthmus.types import BadValue


def import_files(names: Iterable[str]) -> None:
    """Run files or modules that the user named; what they `register` is then known. Raises
    BadValue, in one line.
    """
    for name in names:
        path = Path(name)
        try:
            if path.suffix == ".py" or path.exists():
                key = "isthmus_import_" + str(path.resolve()).replace("/", "_").replace(".", "_")
                if key in sys.modules:
                    continue
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
            else:
                importlib.import_module(name)
        except BadValue:
            raise
        except ModuleNotFoundError as error:
            raise BadValue(f"--import {name}: {error}") from None
        except Exception as error:
            raise BadValue(f"--import {name}: {type(error).__name__}: {error}") from error
