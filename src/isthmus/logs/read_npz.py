"""Logs in `.npz` files: arrays by D4RL's names, or by what others call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.checks import check_column, check_flag, check_numbers, parse_json
from isthmus.logs.log import LogFile
from isthmus.logs.repair import repair_rows, repair_without_next_obs
from isthmus.logs.rows import LogRows
from isthmus.types import BadValue

COLUMN_NAMES = {
    "obs": ("observations", "observation", "obs", "states", "state"),
    "action": ("actions", "action", "acts"),
    "reward": ("rewards", "reward"),
    "next_obs": ("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
    "terminated": ("terminals", "terminal", "terminated", "terminations"),
    "truncated": ("timeouts", "timeout", "truncated", "truncations"),
    "done": ("dones", "done"),
}
"""Arrays of an `.npz`: ours first (they are D4RL's), then what others call them."""


class EndFlags(NamedTuple):
    """Death and time limit apart, bool [B]."""

    terminated: np.ndarray
    truncated: np.ndarray


class _Columns(NamedTuple):
    """Arrays [B, ...] by field, what the file calls each, and its metadata."""

    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    metadata: dict[str, Any]


def read_npz(path: Path, domain: Domain) -> LogFile:
    """Read an `.npz`. Raises BadValue, and what `numpy.load` raises; nothing is unpickled."""
    columns = _load_columns(path)
    _check_shapes(columns)
    arrays, names = columns.arrays, columns.names
    flags = _read_flags(columns)
    followed = "next_obs" in arrays
    ends = split_ends(flags, followed)
    reward = check_column(arrays["reward"], names["reward"])
    rows = LogRows(arrays["obs"], arrays["action"], reward, arrays["obs"], *ends)
    if followed:
        log, notes = repair_rows(rows._replace(next_obs=arrays["next_obs"]), domain)
    else:
        log, notes = repair_without_next_obs(rows, domain)
    if flags.keys() == {"truncated"}:
        notes += (note_no_terminals(names["truncated"]),)
    return LogFile(log, columns.metadata, notes)


def note_no_terminals(name: str) -> str:
    """Return a note that a file marks no falls: its flags of time limits are called `name`."""
    return (
        f"{name} without terminals: no transition counts as a fall; give terminals if the robot "
        "can fall"
    )


def _read_flags(columns: _Columns) -> dict[str, np.ndarray]:
    """Return the flags of ends that a file has, bool [B] by field."""
    flags = {}
    for field in ("terminated", "truncated", "done"):
        if field in columns.arrays:
            flags[field] = check_flag(columns.arrays[field], columns.names[field])
    return flags


def _load_columns(path: Path) -> _Columns:
    """Load the arrays that are known by name; all others are not looked at."""
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise BadValue("is one array, not an .npz of several")
    with loaded as file:
        names = _find_names(file.files)
        arrays = {field: check_numbers(file[name], name) for field, name in names.items()}
        metadata = {}
        if "metadata" in file.files:
            metadata = parse_json(str(file["metadata"]), "metadata")
    return _Columns(arrays, names, metadata)


def _find_names(held: list[str]) -> dict[str, str]:
    """Return what the file calls each field. Raises BadValue where one is missing."""
    names = {}
    for field, known in COLUMN_NAMES.items():
        for name in reversed(known):
            if name in held:
                names[field] = name
    for field in ("obs", "action", "reward"):
        if field not in names:
            raise BadValue(
                f"has no {COLUMN_NAMES[field][0]}; it holds: {', '.join(held) or 'nothing'}"
            )
    return names


def _check_shapes(columns: _Columns) -> None:
    """Raise BadValue where arrays do not have the rewards' length, or there is no row.

    Next observations need the shape of observations.
    """
    arrays, names = columns.arrays, columns.names
    size = len(arrays["reward"])
    for field, array in arrays.items():
        if len(array) != size:
            raise BadValue(
                f"has {len(array)} {names[field]} and {size} {names['reward']}: they need equal "
                "lengths"
            )
    if not size:
        raise BadValue("holds no transition")
    obs, next_obs = arrays["obs"], arrays.get("next_obs")
    if next_obs is not None and next_obs.shape != obs.shape:
        raise BadValue(
            f"has next_observations of shape {next_obs.shape} and observations of {obs.shape}"
        )


def split_ends(flags: dict[str, np.ndarray], followed: bool) -> EndFlags:
    """Tell death from time limit, by the flags [B] that a file has.

    `followed`: it has next observations, which show an end without a mark. Raises BadValue where
    the flags do not tell.
    """
    terminated, truncated = flags.get("terminated"), flags.get("truncated")
    done = flags.get("done")
    if terminated is None and truncated is None:
        if done is not None:
            raise BadValue(
                "has dones alone, which do not tell death from a time limit; give terminals and "
                "timeouts"
            )
        raise BadValue("does not say where episodes end; give terminals and timeouts")
    if truncated is None:
        assert terminated is not None
        if done is None and not followed:
            raise BadValue(
                "has neither timeouts nor next_observations: transitions would reach across "
                "episodes; give one"
            )
        truncated = np.zeros_like(terminated) if done is None else done & ~terminated
    elif terminated is None:
        terminated = np.zeros_like(truncated) if done is None else done & ~truncated
    return EndFlags(terminated, truncated)
