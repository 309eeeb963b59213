"""Units of what a robot observes, and of what its actuators are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.physics.joint_parameters import SLIDE
from isthmus.tasks.motors import find_actuation
from isthmus.tasks.task import Task
from isthmus.types import BadValue

if TYPE_CHECKING:
    import mujoco

UNIT = re.compile(r"\[(.+)\]$")
"""What a name ends with: `gyro x [rad/s]`."""


def list_observation_units(task: Task) -> tuple[str, ...]:
    """Return the unit of each observed number, O of them; empty where nobody says.

    Raises BadValue where a task declares another number of units than of names.
    """
    names, units = task.observation_names, task.observation_units
    if units and len(units) != len(names):
        raise BadValue(
            f"the task {task.name} has {len(names)} observation_names and {len(units)} "
            "observation_units; give one for each"
        )
    return tuple(units) if units else tuple(map(_read_unit, names))


def _read_unit(name: str) -> str:
    found = UNIT.search(name)
    return found[1] if found else ""


def list_action_units(domain: Domain) -> tuple[str, ...]:
    """Return what one unit of each action is, A of them; empty where nobody says.

    "200 N m": the torque that an action of 1 gives; "rad": the target of MuJoCo's own servo; "1":
    a servo of the task, whose targets are `pose + scale * action`.
    """
    size = domain.spaces.action
    if not isinstance(domain, RobotDomain):
        return ("",) * size
    task = domain.description()
    if find_actuation(task):
        return ("1",) * size
    from isthmus.physics.mujoco import load_model

    model = load_model(task.model_path())
    return tuple(_describe_actuator(model, actuator) for actuator in range(size))


def _describe_actuator(model: mujoco.MjModel, actuator: int) -> str:
    import mujoco

    from isthmus.physics.servos import find_position_actuators

    if model.actuator_trntype[actuator] != mujoco.mjtTrn.mjTRN_JOINT:
        return ""
    slides = model.jnt_type[model.actuator_trnid[actuator, 0]] == SLIDE
    if actuator in find_position_actuators(model):
        return "m" if slides else "rad"
    plain = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtDyn.mjDYN_NONE)
    kind = (
        model.actuator_gaintype[actuator],
        model.actuator_biastype[actuator],
        model.actuator_dyntype[actuator],
    )
    if kind != plain:
        return ""
    force = float(model.actuator_gear[actuator, 0] * model.actuator_gainprm[actuator, 0])
    return f"{force:g} N" if slides else f"{force:g} N m"
