"""The names of a robot's controls: its actuators', or what they drive."""

from __future__ import annotations

from pathlib import Path

import mujoco

from isthmus.physics.actuator_controls import DRIVEN_PARTS


def name_motors(path: Path) -> tuple[str, ...]:
    """Return the names of the controls of an MJCF file's robot, A of them, each once.

    An actuator without a name has that of the joint, or of whatever else it drives.
    """
    from isthmus.physics.mujoco import load_model

    model = load_model(path)
    names: list[str] = []
    for actuator in range(len(model.actuator_ctrlnum)):
        name = _name_actuator(model, actuator)
        count = int(model.actuator_ctrlnum[actuator])
        for control in range(count):
            names.append(name if count == 1 else f"{name} {control}")
    return tuple(_number_twins(names))


def _name_actuator(model: mujoco.MjModel, actuator: int) -> str:
    if name := model.actuator(actuator).name:
        return name
    kind = mujoco.mjtTrn(model.actuator_trntype[actuator])
    if kind in DRIVEN_PARTS:
        part = mujoco.mj_id2name(
            model, DRIVEN_PARTS[kind][1], int(model.actuator_trnid[actuator, 0])
        )
        if part:
            return part
    return f"motor {actuator}"


def _number_twins(names: list[str]) -> list[str]:
    """Return names of which none is there twice: twins get their index."""
    numbered = []
    for i, name in enumerate(names):
        numbered.append(name if names.count(name) == 1 else f"{name} {i}")
    return numbered
