"""The pose in which an imported robot begins: its keyframe `home`."""

from __future__ import annotations

from itertools import product
from xml.etree.ElementTree import Element

import mujoco
import numpy as np

from isthmus.physics.urdf.actuators import ActuatorChoice
from isthmus.physics.urdf.conversion import find_rigid
from isthmus.physics.urdf.description import MOVING, UrdfRobot
from isthmus.physics.urdf.scalar_joints import find_base_address, find_scalar_joints
from isthmus.physics.urdf.scene import CLEARANCE, add_section_entry, find_lowest_point

HOME = "home"
Pairs = list[tuple[str, str]]


def place_robot(model: mujoco.MjModel) -> tuple[mujoco.MjData, float]:
    """Return a state with each joint at 0, or amid its range where that leaves 0 out.

    A floating base is as high as leaves its lowest point CLEARANCE above the ground. The second
    number is the height of the lowest point.
    """
    data = mujoco.MjData(model)
    for joint in find_scalar_joints(model).values():
        low, high = model.jnt_range[joint]
        if model.jnt_limited[joint] and not low <= 0 <= high:
            data.qpos[model.jnt_qposadr[joint]] = (low + high) / 2
    _follow_masters(model, data)
    mujoco.mj_kinematics(model, data)
    lowest = find_lowest_point(model, data)
    base = find_base_address(model)
    if base is not None:
        data.qpos[base + 2] += CLEARANCE - lowest
        lowest = CLEARANCE
    mujoco.mj_forward(model, data)
    return data, lowest


def _follow_masters(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Put joints that mimic others where these lead them."""
    for equality in np.flatnonzero(model.eq_type == mujoco.mjtEq.mjEQ_JOINT):
        follower, master = model.eq_obj1id[equality], model.eq_obj2id[equality]
        if master >= 0:
            position = data.qpos[model.jnt_qposadr[master]]
            polynomial = model.eq_data[equality, :5]
            value = np.polynomial.polynomial.polyval(position, polynomial)
            data.qpos[model.jnt_qposadr[follower]] = value


def find_overlaps(model: mujoco.MjModel, data: mujoco.MjData) -> Pairs:
    """Return the pairs of bodies, but the world, that overlap at a state; by name."""
    pairs: set[tuple[str, str]] = set()
    for contact in data.contact[: data.ncon]:
        first, second = np.sort(model.geom_bodyid[contact.geom])
        if first != 0 and contact.dist < 0:
            pairs.add((model.body(first).name, model.body(second).name))
    return sorted(pairs)


def find_base_neighbours(robot: UrdfRobot) -> Pairs:
    """Return the links of a fixed base, each with those that its joints move.

    MuJoCo lets a body pass through its parent, but not where the parent stands still.
    """
    base = find_rigid(robot, robot.root)
    pairs: Pairs = []
    for joint in robot.joints_of(*MOVING):
        if joint.parent in base:
            pairs.extend(product(base, find_rigid(robot, joint.child)))
    return [pair for pair in pairs if pair[0] != "world"]


def add_keyframe(
    mjcf: Element, model: mujoco.MjModel, data: mujoco.MjData, choices: list[ActuatorChoice]
) -> None:
    """Write the state as the keyframe HOME, with the controls that hold it."""
    controls = []
    for choice in choices:
        held = 0.0
        if choice.kind == "position":
            held = data.qpos[model.jnt_qposadr[model.joint(choice.joint).id]]
        controls.append(held)
    pose = {"qpos": _write_numbers(data.qpos), "ctrl": _write_numbers(controls)}
    add_section_entry(mjcf, "keyframe", "key", name=HOME, **pose)


def _write_numbers(values: np.ndarray | list[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
