"""A robot's log: what it observed and did, as `isthmus check` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.deploy.contract import ObservationContract, PolicyContract
from isthmus.logs.read import UNREADABLE_ERRORS
from isthmus.logs.read_npz import COLUMN_NAMES
from isthmus.types import BadValue


class RobotLog(NamedTuple):
    """What a robot recorded."""

    observations: np.ndarray  # float32 [T, O]
    actions: np.ndarray  # float32 [T, A]
    begins: np.ndarray  # bool [T] an episode's first row
    task_begins: np.ndarray | None  # bool [T] the same of a task, where the log says it


def read_robot_log(path: Path, contract: PolicyContract) -> RobotLog:
    """Read observations and actions from an `.npz` by the names that data sets have.

    Ends of episodes are read where they are there. Raises BadValue, in one line; nothing is
    unpickled.
    """
    held = _load_columns(path)
    for field in ("obs", "action"):
        if field not in held:
            names = ", ".join(held) or "nothing known"
            raise BadValue(f"{path} has no {COLUMN_NAMES[field][0]}; it holds: {names}")
    observations = _take_newest(_read_rows(path, held["obs"]), contract.observations)
    actions = _read_rows(path, held["action"])
    _check_lengths(path, contract, observations, actions)
    begins = _find_begins(held, len(actions))
    tasks = held.get("task_begins")
    if tasks is None:
        return RobotLog(observations, actions, begins, None)
    if tasks.shape != begins.shape:
        raise BadValue(f"{path} has {tasks.size} task_begins for {begins.size} rows")
    return RobotLog(observations, actions, begins | tasks.astype(bool), tasks.astype(bool))


def _load_columns(path: Path) -> dict[str, np.ndarray]:
    """Return a file's columns by field, and `task_begins`. Raises BadValue where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {field: file[name] for field, name in _find_columns(file.files).items()}
            if "task_begins" in file.files:
                columns["task_begins"] = file["task_begins"]
    except FileNotFoundError:
        raise BadValue(f"the log {path} is missing") from None
    except UNREADABLE_ERRORS:
        raise BadValue(f"{path} cannot be read: it is no .npz of arrays, or damaged") from None
    return columns


def _find_begins(columns: dict[str, np.ndarray], rows: int) -> np.ndarray:
    """Return where episodes begin, bool [T]: after every end that a log marks."""
    ends = np.zeros(rows, bool)
    for field in ("terminated", "truncated", "done"):
        if field in columns and columns[field].shape == ends.shape:
            ends |= columns[field].astype(bool)
    return np.append(True, ends[:-1])


def _find_columns(held: list[str]) -> dict[str, str]:
    """Return what a file calls each column that it has."""
    found = {}
    for field, known in COLUMN_NAMES.items():
        for name in reversed(known):
            if name in held:
                found[field] = name
    return found


def _read_rows(path: Path, values: np.ndarray) -> np.ndarray:
    """Return float32 [T, ...]. Raises BadValue where they are no finite numbers in rows."""
    if values.dtype.kind not in "fiu" or values.ndim != 2 or not len(values):
        raise BadValue(f"{path}: observations and actions need rows of numbers, [T, O] and [T, A]")
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if bad.size:
        raise BadValue(f"{path}: row {bad[0]} holds a number that is not finite")
    return values.astype(np.float32)


def _take_newest(rows: np.ndarray, observed: ObservationContract) -> np.ndarray:
    """Return the newest observations of rows that hold a history and the previous action too."""
    size, length = len(observed.names), observed.history_inside
    if length > 1 and rows.shape[1] >= size * length:
        return rows[:, size * (length - 1) : size * length]
    if observed.previous_action_inside and rows.shape[1] > size:
        return rows[:, :size]
    return rows


def _check_lengths(
    path: Path, contract: PolicyContract, observations: np.ndarray, actions: np.ndarray
) -> None:
    sizes = observations.shape[1], actions.shape[1]
    wanted = len(contract.observations.names), len(contract.actions.names)
    if sizes != wanted:
        raise BadValue(
            f"{path} has {sizes[0]} observations and {sizes[1]} actions a row; the policy has "
            f"{wanted[0]} and {wanted[1]}"
        )
    if len(observations) != len(actions):
        raise BadValue(f"{path} has {len(observations)} observations and {len(actions)} actions")
