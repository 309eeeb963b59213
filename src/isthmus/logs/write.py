"""Logs written: an `.npz` by D4RL's names, or a Minari data set."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.log import Log
from isthmus.logs.paths import check_path_is_free
from isthmus.logs.read_npz import COLUMN_NAMES
from isthmus.types import BadValue


def write_log(path: Path, log: Log, metadata: dict[str, Any], domain: Domain) -> None:
    """Write a log as `.npz`, or else as a Minari data set, whole or not at all.

    Raises BadValue where something is there already, or the disk refuses.
    """
    check_path_is_free(path)
    # Absolute, since Minari's own size is wrong of a relative one.
    part = path.absolute().with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            _write_npz(part, log, metadata)
        else:
            shutil.rmtree(part, ignore_errors=True)
            _write_minari(part, path.name, log, metadata, domain)
        os.replace(part, path)
    except OSError as error:
        raise BadValue(f"cannot write {path}: {error.strerror or error}") from None


def _write_npz(path: Path, log: Log, metadata: dict[str, Any]) -> None:
    arrays = {}
    for field, names in COLUMN_NAMES.items():
        if field != "done":
            arrays[names[0]] = getattr(log, field)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, metadata=np.array(json.dumps(metadata)), **arrays)


def _write_minari(
    folder: Path, name: str, log: Log, metadata: dict[str, Any], domain: Domain
) -> None:
    from gymnasium.spaces import Box
    from minari import __version__
    from minari.dataset.minari_storage import MinariStorage

    (folder / "data").mkdir(parents=True)
    spaces = domain.spaces
    obs_space = Box(-np.inf, np.inf, (spaces.observation,), np.float32)
    action_space = Box(spaces.low, spaces.high, dtype=np.float32)
    storage = MinariStorage.new(folder / "data", obs_space, action_space)
    storage.update_episodes(_split_episodes(log))
    slug = re.sub(r"[^-\w]", "_", name)
    dataset_id = slug if re.search(r"-v\d+$", slug) else f"{slug}-v0"
    storage.update_metadata(
        {"dataset_id": dataset_id, "minari_version": __version__, "isthmus": metadata}
    )


def _split_episodes(log: Log) -> list[Any]:
    """Return a Minari `EpisodeBuffer` an episode: T steps with T + 1 observations."""
    from minari.data_collector import EpisodeBuffer

    episodes = []
    for end, length in zip(np.cumsum(log.lengths), log.lengths, strict=True):
        rows = slice(end - length, end)
        columns: dict[str, Any] = {
            "observations": np.concatenate([log.obs[rows], log.next_obs[rows][-1:]]),
            "actions": log.action[rows],
            "rewards": log.reward[rows],
            "terminations": log.terminated[rows],
            "truncations": log.truncated[rows],
        }
        episodes.append(EpisodeBuffer(**columns))
    return episodes
