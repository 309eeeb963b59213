"""What a robot recorded, as any reader hands it on: streams of numbers with stamps."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from isthmus.types import BadValue

Progress = Callable[[int, int], None]
"""Called with how many messages or rows are read, and how many there are."""


class Stream(NamedTuple):
    """Messages of one topic, in the order in which they were recorded."""

    stamps: np.ndarray  # float64 [n] seconds since the recording began
    values: dict[str, np.ndarray]  # float64 [n] by source; NaN where a message holds none
    received: np.ndarray | None = None  # float64 [n] seconds by the recorder's clock


Take = dict[str, Stream]
"""The streams of one stretch of recording, by topic."""


class RobotRecording(NamedTuple):
    """All takes of a recording; no transition reaches from one into the next."""

    takes: list[Take]
    notes: tuple[str, ...]
    unused: dict[str, int]  # messages of the topics that the map does not name
    claimed_rate: float | None = None  # Hz, as the files say


class TableColumns(NamedTuple):
    """Which columns of a table hold the time and the episode; None: the rows are even."""

    time: str | None
    time_unit: str
    episode: str | None


def import_extra(module: str) -> ModuleType:
    """Return a module of the extra `logs`. Raises BadValue where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise BadValue(
            f"isthmus import needs {package} for this file: pip install 'isthmus[logs]'"
        ) from None


def sort_naturally(paths: list[Path]) -> list[Path]:
    """Return paths with `episode_2` before `episode_10`."""
    return sorted(paths, key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
