"""Landscapes as data: read from files, averaged over seeds, and where a parameter does nothing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.evaluation.landscape import Landscape
from isthmus.training.run import RunError
from isthmus.types import BadValue


def read_landscape(path: Path, box: tuple[Any, Any] = (None, None)) -> Landscape:
    """Read the landscape of a `landscape.csv`, one mean a cell.

    Raises RunError, in one line, where the file is damaged.
    """
    try:
        names, rows = _read_rows(path)
        x, y = np.unique(rows[:, 0]), np.unique(rows[:, 1])
        cells = np.full((len(x), len(y), 2), np.nan)
        cells[np.searchsorted(x, rows[:, 0]), np.searchsorted(y, rows[:, 1])] = rows[:, 2:]
        if not np.isfinite(cells).all():
            raise ValueError("cells are missing")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, IndexError, csv.Error) as error:
        raise RunError(f"{path} is damaged: it is no landscape ({error})") from None
    return Landscape(names, (x, y), cells[..., :1], cells[..., 1:], box)


def _read_rows(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Read the names of the axes, and cells [n, 4]: both values, mean return and mean length.

    Raises ValueError where there are none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = tuple((reader.fieldnames or ())[:2])
        rows = []
        for row in reader:
            rows.append([float(row[key]) for key in (*names, "mean_return", "mean_length")])
    if not rows:
        raise ValueError("cells are missing")
    return names, np.array(rows)


def average_landscapes(landscapes: Sequence[Landscape]) -> Landscape:
    """Return the mean over seeds of landscapes of one method on one grid.

    Raises BadValue where the grids differ.
    """
    first = landscapes[0]
    for other in landscapes[1:]:
        if not _is_same_grid(first, other):
            raise BadValue("the landscapes of these seeds have different grids")
    returns = np.concatenate([landscape.returns for landscape in landscapes], -1)
    lengths = np.concatenate([landscape.lengths for landscape in landscapes], -1)
    return first._replace(returns=returns, lengths=lengths)


def _is_same_grid(first: Landscape, second: Landscape) -> bool:
    if first.names != second.names or first.returns.shape[:2] != second.returns.shape[:2]:
        return False
    return all(map(np.allclose, first.axes, second.axes))


def find_inert_limit(domain: Domain | None, name: str) -> float | None:
    """Return the value up to which a parameter has no effect of its own.

    None where it has one everywhere, or nobody knows. The contact of a foot takes the larger of
    its own friction and the floor's (MuJoCo's rule for equal priorities).
    """
    if name != "foot_friction" or domain is None:
        return None
    from isthmus.physics.friction import OF_ALL_CONTACTS, find_inert_foot_friction
    from isthmus.physics.mujoco import load_model

    if set(OF_ALL_CONTACTS) & set(domain.names):
        return None
    return find_inert_foot_friction(load_model(domain.description().model_path())) or None
