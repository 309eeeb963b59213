"""Logs in Minari's data sets: one HDF5 group an episode, with a JSON of metadata beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.checks import check_column, check_flag, check_numbers, parse_json
from isthmus.logs.log import Log, LogFile, close_episodes
from isthmus.logs.next_obs import note_lost
from isthmus.logs.repair import repair_episodes
from isthmus.types import BadValue

MAIN_FILE, METADATA_FILE = "main_data.hdf5", "metadata.json"
COLUMN_KEYS = ("observations", "actions", "rewards", "terminations", "truncations")


class _Episode(NamedTuple):
    """The arrays of an episode of T steps as Minari holds them: T + 1 observations, or T."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.action)

    @property
    def loses_last(self) -> bool:
        """Return whether the last transition has no next state: its observation is missing."""
        return 0 < self.steps == len(self.obs)

    def transitions(self, number: int) -> Log:
        """Return the transitions that have a next state, as episode `number`."""
        steps = self.steps - self.loses_last
        return Log(
            self.obs[:steps],
            self.action[:steps],
            self.reward[:steps],
            self.obs[1:],
            self.terminated[:steps],
            self.truncated[:steps],
            np.full(steps, number),
        )


def read_minari(path: Path, domain: Domain) -> LogFile:
    """Read a Minari data set: its folder, the `data` in it, or the HDF5 file itself.

    Raises BadValue, and what h5py raises. No environment is made.
    """
    folder = _find_folder(path)
    metadata = _read_metadata(folder)
    _check_storage(metadata)
    _check_is_minari(path, folder)
    with h5py.File(folder / MAIN_FILE, "r") as file:
        episodes = [_read_episode(file, number) for number in _list_episodes(file)]
    log, repairs = repair_episodes(_join_episodes(episodes), domain)
    notes = (*_note_missing_steps(metadata, episodes), *_note_lost_ends(episodes), *repairs)
    if isinstance(metadata.get("isthmus"), dict):
        metadata = metadata["isthmus"]
    return LogFile(log, metadata, notes)


def _find_folder(path: Path) -> Path:
    for folder in (path / "data", path):
        if folder.is_dir():
            return folder
    return path.parent


def _read_metadata(folder: Path) -> dict[str, Any]:
    file = folder / METADATA_FILE
    return parse_json(file.read_bytes(), METADATA_FILE) if file.exists() else {}


def _check_storage(metadata: dict[str, Any]) -> None:
    """Raise BadValue where Minari's storage is one that it does not read back as it was written."""
    storage = metadata.get("data_format", "hdf5")
    if storage in ("arrow", "parquet"):
        raise BadValue(
            f"is in Minari's format {storage}, of which episodes of 32,768 steps or more come back "
            "in pieces and appending replaces what was there; only hdf5 is read: collect with "
            "data_format='hdf5'"
        )
    if storage != "hdf5":
        raise BadValue(f"is in Minari's format {storage}; only its hdf5 is read")


def _check_is_minari(path: Path, folder: Path) -> None:
    """Raise BadValue where a path is no data set; a file beside the data set's is none."""
    main = folder / MAIN_FILE
    if main.exists() and (path.name == MAIN_FILE or not path.is_file()):
        return
    if path.suffix in (".hdf5", ".h5"):
        raise BadValue(
            "is not read as it is; of D4RL's, take the robot's data set from Minari (minari "
            "download mujoco/hopper/medium-v0), or make it an .npz as docs/guide/datasets.md says "
            "under D4RL's files"
        )
    raise BadValue(
        f"is no data set: neither an .npz nor a folder of Minari's, which has data/{MAIN_FILE}"
    )


def _list_episodes(file: h5py.File) -> list[int]:
    """Return the numbers of the episodes in a file, in their order."""
    numbers = []
    for name in file:
        match = re.fullmatch(r"episode_(\d+)", name)
        if match:
            numbers.append(int(match[1]))
    return sorted(numbers)


def _read_episode(file: h5py.File, number: int) -> _Episode:
    """Read one episode. Raises BadValue where it lacks an array, or where their lengths differ."""
    episode = _Episode(*_read_columns(file, number))
    episode = episode._replace(
        reward=check_column(episode.reward, f"rewards of episode {number}"),
        terminated=check_flag(episode.terminated, f"terminations of episode {number}"),
        truncated=check_flag(episode.truncated, f"truncations of episode {number}"),
    )
    _check_episode(episode, number)
    return episode


def _read_columns(file: h5py.File, number: int) -> list[np.ndarray]:
    """Read the arrays of COLUMN_KEYS. Raises BadValue where one is missing, or holds no numbers."""
    group: Any = file[f"episode_{number}"]
    for key in COLUMN_KEYS:
        if key not in group or not isinstance(group[key], h5py.Dataset):
            raise BadValue(
                f"has no plain array {key} in episode {number}: only boxes of floats are read"
            )
    columns = []
    for key in COLUMN_KEYS:
        columns.append(check_numbers(group[key][()], f"{key} of episode {number}"))
    return columns


def _check_episode(episode: _Episode, number: int) -> None:
    """Raise BadValue where an episode's lengths differ, or where it has an end in its middle."""
    steps = episode.steps
    one_a_step = {len(column) for column in episode[1:]} == {steps}
    if not one_a_step or len(episode.obs) not in (steps, steps + 1):
        counts = [f"{len(x)} {key}" for x, key in zip(episode, COLUMN_KEYS, strict=True)]
        raise BadValue(
            f"has unequal lengths in episode {number}: {', '.join(counts)}; n steps need n + 1 "
            "observations"
        )
    if (episode.terminated | episode.truncated)[:-1].any():
        raise BadValue(
            f"has an end in the middle of episode {number}: each episode needs a group of its own"
        )


def _join_episodes(episodes: list[_Episode]) -> Log:
    """Return the transitions of all episodes. Raises BadValue where there is none."""
    logs: list[Log] = []
    for episode in episodes:
        transitions = episode.transitions(len(logs))
        if transitions.size:
            logs.append(transitions)
    if not logs:
        raise BadValue("holds no transition")
    return close_episodes(Log(*map(np.concatenate, zip(*logs))))


def _note_missing_steps(metadata: dict[str, Any], episodes: list[_Episode]) -> tuple[str, ...]:
    """Return a note where a Minari file holds other than its own count of steps.

    Appending or a crash may have lost some.
    """
    counted, held = metadata.get("total_steps"), sum(episode.steps for episode in episodes)
    if not isinstance(counted, int | float) or int(counted) == held:
        return ()
    return (
        f"the file counts {int(counted):,} steps and holds {held:,}: what is not there is not read",
    )


def _note_lost_ends(episodes: list[_Episode]) -> tuple[str, ...]:
    """Return a note of the episodes whose last transition has no next state."""
    count, falls = 0, 0
    for episode in episodes:
        if episode.loses_last:
            count += 1
            falls += int(episode.terminated[-1])
    return note_lost(count, falls)
