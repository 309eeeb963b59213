"""Keyframes of MJCF files: where episodes may begin."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from isthmus.physics.engine import Start
from isthmus.physics.mujoco import load_model, name_file
from isthmus.types import UnknownName


@lru_cache(maxsize=32)
def load_keyframe(path: Path, name: str) -> Start:
    """Read a keyframe of an MJCF file, whole but for its time.

    `act` and `ctrl` are None where the file is silent. Raises UnknownName with the nearest
    keyframes.
    """
    model = load_model(path)
    names = [model.key(i).name for i in range(model.nkey)]
    if name not in names:
        raise UnknownName(f"keyframe of {path.name}", name, filter(None, names))
    key = model.key(name)
    return Start(
        qpos=np.array(key.qpos),
        qvel=np.array(key.qvel),
        act=_read_written(path, key, "act"),
        ctrl=_read_written(path, key, "ctrl"),
        mocap_pos=np.reshape(key.mpos, (-1, 3)).copy(),
        mocap_quat=np.reshape(key.mquat, (-1, 4)).copy(),
    )


def _read_written(path: Path, key: Any, field: str) -> np.ndarray | None:
    """Return a field of a compiled keyframe; None where the file is silent.

    The compiled model has zeros there.
    """
    values = np.array(getattr(key, field))
    if values.any():
        return values
    for written in mujoco.MjSpec.from_file(name_file(path)).keys:
        if written.name == key.name and len(getattr(written, field)):
            return values
    return None
