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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from isthmus.logs.log import Log
from isthmus.methods.method import initial_state
from isthmus.training import checkpoint
from isthmus.training.checkpoint import CheckpointError
from isthmus.training.run import KEPT_METADATA, Run, RunError, check_config
from isthmus.types import BadValue


@dataclass(frozen=True)
class KeptRun(Run):
    """A run of which only this file is left; `folder` is its path. It can be started from, played
    and logged with.

    Its state has no worlds. Nothing can be resumed from it, and its metrics are gone.
    """

    @property
    def begun(self) -> bool:
        return True

    @property
    def finished(self) -> bool:
        return True

    @property
    def digest(self) -> str:
        """Of the last checkpoint of the run that was kept."""
        return self.config["digest"]

    def checkpoint(self) -> tuple[Path, list[str]]:
        raise RunError(
            f"{self.folder} keeps what a run handed over, not its checkpoints: train the run again "
            "for those"
        )

    def restore(self) -> tuple[Any, dict[str, Any], list[str]]:
        """The state without worlds; raises CheckpointError where the file is damaged or of another
        version.
        """
        arrays, _ = _read_arrays(self.folder)
        if checkpoint.digest(arrays) != self.config["handed_over"]:
            raise CheckpointError(
                f"{self.folder} is damaged: its numbers are not those that were written"
            )
        try:
            learner = checkpoint.from_arrays(_initial_learner(self), arrays)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.folder}: {error}: use the version of Isthmus that wrote it"
            ) from None
        state = initial_state(self.seed, learner, None, None)  # pyright: ignore[reportArgumentType]
        return state._replace(source_steps=np.int64(self.steps)), {}, []

    def metrics(self) -> list[dict[str, Any]]:
        return []


def keep_run(run: Run, path: Path) -> None:
    """Write what a finished run hands over, without zeros that are a new learner's too, such as an
    empty replay's.

    Raises BadValue where the run's method holds more than a learner.
    """
    learned, like = run.state().learner, _initial_learner(run)
    if type(learned) is not type(like):
        raise BadValue(f"{run.folder} cannot be kept: {run.name} holds more than its learner")
    handed_over = run.method.learner.warm_start(learned)
    new = checkpoint.to_arrays(like)
    arrays = {
        k: v
        for k, v in checkpoint.to_arrays(handed_over).items()
        if v.any() or not _same_bits(v, new[k])
    }
    # Where a run lay on the machine that made it is nobody's business.
    start_at = "best" if str(run.config["start"]).endswith("@best") else "end"
    config = run.config | {"start": None, "start_at": start_at, "imports": []}
    _write(path, arrays, config | {"digest": run.digest, "handed_over": checkpoint.digest(arrays)})


def open_kept(path: Path) -> Run:
    """Read a kept run's metadata. Raises RunError where it is none."""
    try:
        config = _read_arrays(path, only_metadata=True)[1]
    except BadValue as error:
        raise RunError(str(error)) from None
    check_config(config, path, path)
    if not all(isinstance(config.get(name), str) for name in ("digest", "handed_over")):
        raise RunError(f"{path} is damaged: it does not say what it keeps")
    return KeptRun(path, config)


def keep_log(log: Log, metadata: dict[str, Any], path: Path) -> None:
    """Write a log's transitions, each state once: where an episode ends, its last state is added."""
    log = log._replace(
        truncated=log.truncated & ~log.terminated
    )  # a fall at the time limit is a fall
    ends = log.terminated | log.truncated
    follows = np.append((log.next_obs[:-1] == log.obs[1:]).all(1), False)
    arrays = {
        "obs": log.obs, "action": log.action, "reward": log.reward, "terminated": log.terminated, "ends": ends,
        "last_obs": log.next_obs[~follows], "follows": follows,
    }  # fmt: skip
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


def _initial_learner(run: Run) -> Any:
    spaces = run.method.trained_in(run.problem).spaces
    return run.method.learner.init(spaces, jax.random.key(0))


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
            names = [] if only_metadata else file.keys()
            return {name: file.get_tensor(name) for name in names}, config
    except FileNotFoundError:
        raise BadValue(f"there is no file {path}") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadValue(f"{path} is no file that Isthmus kept: {type(error).__name__}") from None
