"""Actuators for an imported robot: URDF has none, and so what is written here is a first guess.

A servo's stiffness kp is such that its whole effort is reached at an error of FULL_EFFORT_ERROR,
or more where the robot's own weight would make it sag; so that its error stays below SAG; its
damping kv makes it critical with the joint's inertia.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import mujoco
import numpy as np

from isthmus.physics.urdf.description import MOVING, UrdfJoint, UrdfRobot
from isthmus.physics.urdf.scalar_joints import find_scalar_joints
from isthmus.physics.urdf.scene import add_section_entry
from isthmus.types import BadValue

KINDS = ("position", "motor")
"""The actuators that can be asked for."""

FULL_EFFORT_ERROR = {"revolute": 0.5, "continuous": 0.5, "prismatic": 0.05}  # rad, rad, m
SAG = {"revolute": 0.02, "continuous": 0.02, "prismatic": 0.002}  # rad, rad, m
FULL_EFFORT_SHARE = 0.5  # of the speed limit: a speed servo's error at which its effort is whole
MIN_FREQUENCY, MAX_FREQUENCY = 12.0, 200.0  # rad/s, of a servo on its joint's inertia
TURN = math.pi  # rad either way: the targets of a joint without limits


class JointLoad(NamedTuple):
    """What a joint moves at the start."""

    inertia: float  # kg m2, or kg
    weight: float  # N m, or N: what gravity asks of it


class ActuatorChoice(NamedTuple):
    """An actuator of a joint, as it is written."""

    joint: str
    kind: str  # "position", "velocity" or "motor"
    low: float  # of its control
    high: float
    kp: float = 0.0
    kv: float = 0.0


def measure_loads(model: mujoco.MjModel, data: mujoco.MjData) -> dict[str, JointLoad]:
    """Return what each hinge and slide moves at the state of `data`, by name."""
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    loads = {}
    for name, joint in find_scalar_joints(model).items():
        dof = model.jnt_dofadr[joint]
        weight = abs(float(data.qfrc_bias[dof]))
        loads[name] = JointLoad(float(inertia[dof, dof]), weight)
    return loads


def choose_actuators(
    path: Path, robot: UrdfRobot, kind: str, loads: dict[str, JointLoad]
) -> list[ActuatorChoice]:
    """Return an actuator for each joint that moves and mimics no other.

    Raises BadValue for a motor on a joint without an effort limit, and for a robot with nothing to
    drive.
    """
    driven = [joint for joint in robot.joints_of(*MOVING) if joint.mimics is None]
    if not driven:
        raise BadValue(
            f"{path} has no joint that moves (of {', '.join(MOVING)}), and so nothing to act with"
        )
    choices = []
    for joint in driven:
        if kind == "motor":
            choices.append(_choose_motor(path, joint))
        elif joint.kind == "continuous" and joint.velocity and joint.effort:
            choices.append(_choose_speed_servo(joint, joint.effort, joint.velocity))
        else:
            choices.append(_choose_servo(joint, loads[joint.name]))
    return choices


def _choose_motor(path: Path, joint: UrdfJoint) -> ActuatorChoice:
    if not joint.effort:
        raise BadValue(
            f"{path}: joint {joint.name!r} has no effort limit, which bounds a motor; write "
            'effort="..." into its <limit>, or take --actuators position'
        )
    effort = abs(joint.effort)
    return ActuatorChoice(joint.name, "motor", -effort, effort)


def _choose_speed_servo(joint: UrdfJoint, effort: float, velocity: float) -> ActuatorChoice:
    """Return what drives a wheel: a joint that turns without end, by its speed."""
    speed = abs(velocity)
    gain = abs(effort) / (FULL_EFFORT_SHARE * speed)
    return ActuatorChoice(joint.name, "velocity", -speed, speed, kv=gain)


def _choose_servo(joint: UrdfJoint, load: JointLoad) -> ActuatorChoice:
    low, high = joint.range or (-TURN, TURN)
    if low == high:
        low, high = -TURN, TURN
    stiffness = max(load.weight / SAG[joint.kind], load.inertia * MIN_FREQUENCY**2)
    if joint.effort:
        stiffness = max(stiffness, abs(joint.effort) / FULL_EFFORT_ERROR[joint.kind])
    stiffness = min(stiffness, load.inertia * MAX_FREQUENCY**2)
    critical = 2 * math.sqrt(stiffness * load.inertia)
    damping = max(critical - joint.damping, 0.0)
    return ActuatorChoice(joint.name, "position", low, high, kp=stiffness, kv=damping)


def add_actuators(mjcf: Element, choices: list[ActuatorChoice]) -> None:
    """Write actuators into an MJCF, each called as its joint is."""
    for choice in choices:
        attributes = {"name": choice.joint, "joint": choice.joint}
        if choice.kp:
            attributes["kp"] = f"{choice.kp:.4g}"
        if choice.kv:
            attributes["kv"] = f"{choice.kv:.4g}"
        attributes["ctrlrange"] = f"{choice.low:.6g} {choice.high:.6g}"
        add_section_entry(mjcf, "actuator", choice.kind, **attributes)
