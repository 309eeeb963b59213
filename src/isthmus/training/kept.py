"""What a run hands over to those that start from it, in one small file: for results that must
outlast a machine.

A run trained again on another kind of CPU has other bits, so that what started from the first can
never be finished. A kept run is a safetensors file: what `Learner.warm_start` leaves of the learner
(weights and moments, no worlds, no replay), and in its metadata the run's `run.json` and digest.
Nothing here unpickles or evaluates.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from isthmus.logs.log import Log
from isthmus.training import checkpoint
from isthmus.training.checkpoint import CheckpointError
from isthmus.training.run_files import RunError, check_config
from isthmus.training.starts import initial_learner
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.training.run import Run

KEPT_METADATA = "isthmus"  # the metadata's name in the file


def read_kept_config(path: Path) -> dict[str, Any]:
    """Return a kept run's metadata: its run.json, its digest, and that of what the file holds.

    Raises RunError where the file is none.
    """
    try:
        config = _read_arrays(path, only_metadata=True)[1]
    except BadValue as error:
        raise RunError(str(error)) from None
    check_config(config, path, path)
    if not all(isinstance(config.get(name), str) for name in ("digest", "handed_over")):
        raise RunError(f"{path} is damaged: it does not say what it keeps")
    return config


def read_learner(run: Run) -> Any:
    """Return the state of a kept run's learner. Raises CheckpointError where the file is damaged or
    of another version.
    """
    arrays, _ = _read_arrays(run.folder)
    if checkpoint.digest(arrays) != run.config["handed_over"]:
        raise CheckpointError(
            f"{run.folder} is damaged: its numbers are not those that were written"
        )
    try:
        return checkpoint.from_arrays(initial_learner(run), arrays)
    except CheckpointError as error:
        raise CheckpointError(
            f"{run.folder}: {error}: use the version of Isthmus that wrote it"
        ) from None


def keep_run(run: Run, path: Path) -> None:
    """Write what a finished run hands over, without zeros that are a new learner's too, such as an
    empty replay's.

    Raises BadValue where the run's method holds more than a learner.
    """
    learned, like = run.state().learner, initial_learner(run)
    if type(learned) is not type(like):
        raise BadValue(f"{run.folder} cannot be kept: {run.name} holds more than its learner")
    handed_over = run.method.learner.warm_start(learned)
    new, arrays = checkpoint.to_arrays(like), {}
    for name, data in checkpoint.to_arrays(handed_over).items():
        if data.any() or not _same_bits(data, new[name]):
            arrays[name] = data
    # Where a run lay on the machine that made it is nobody's business.
    config = run.config | {"start": None, "start_at": "end", "imports": []}
    if str(run.config["start"]).endswith("@best"):
        config["start_at"] = "best"
    _write(path, arrays, config | {"digest": run.digest, "handed_over": checkpoint.digest(arrays)})


def keep_log(log: Log, metadata: dict[str, Any], path: Path) -> None:
    """Write a log's transitions, each state once; where an episode ends, its last state is added.

    Raises BadValue where the disk refuses.
    """
    # A fall at the time limit is a fall.
    log = log._replace(truncated=log.truncated & ~log.terminated)
    ends = log.terminated | log.truncated
    follows = np.append((log.next_obs[:-1] == log.obs[1:]).all(1), False)
    arrays = {
        "obs": log.obs,
        "action": log.action,
        "reward": log.reward,
        "terminated": log.terminated,
        "ends": ends,
        "last_obs": log.next_obs[~follows],
        "follows": follows,
    }
    _write(path, arrays, {"log": metadata, "digest": log.digest()})


def read_kept_log(path: Path) -> tuple[Log, dict[str, Any]]:
    """Read what `keep_log` wrote. Raises BadValue where it is damaged."""
    arrays, config = _read_arrays(path)
    try:
        obs, ends, follows = arrays["obs"], arrays["ends"], arrays["follows"]
        next_obs = np.empty_like(obs)
        next_obs[:-1][follows[:-1]] = obs[1:][follows[:-1]]
        next_obs[~follows] = arrays["last_obs"]
        episode = np.append(0, np.cumsum(ends)[:-1]).astype(np.int64)
        terminated = arrays["terminated"]
        log = Log(
            obs,
            arrays["action"],
            arrays["reward"],
            next_obs,
            terminated,
            ends & ~terminated,
            episode,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise BadValue(f"{path} keeps no log: {error}") from None
    if log.digest() != config.get("digest"):
        raise BadValue(f"{path} is damaged: its transitions are not those that were written")
    return log, config["log"]


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _write(path: Path, arrays: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    temporary = path.with_name(f"{os.getpid()}-{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # `save_file` would leave a file that its owner alone may read.
        temporary.write_bytes(save(arrays, {KEPT_METADATA: json.dumps(config, sort_keys=True)}))
        os.replace(temporary, path)
    except OSError as error:
        raise BadValue(f"cannot write {path}: {error.strerror or error}") from None


def _read_arrays(
    path: Path, only_metadata: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with safe_open(path, "numpy") as file:
            config = json.loads((file.metadata() or {})[KEPT_METADATA])
            if only_metadata:
                return {}, config
            names = list(file.keys())
            return dict(zip(names, map(file.get_tensor, names), strict=True)), config
    except FileNotFoundError:
        raise BadValue(f"there is no file {path}") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadValue(f"{path} is no file that Isthmus kept: {type(error).__name__}") from None
