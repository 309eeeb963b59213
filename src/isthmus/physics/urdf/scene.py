"""What an imported robot needs around it: a ground, a light, a base that floats or is fixed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

import mujoco
import numpy as np

from isthmus.physics.urdf.conversion import collect_names, find_free_name, has_mass
from isthmus.physics.urdf.description import UrdfRobot
from isthmus.types import BadValue

FLOOR = "floor"
ROOT_JOINT = "root"
IMU = "imu"
CLEARANCE = 1e-3  # m, of the lowest point above the ground


def add_scene(mjcf: Element) -> None:
    """Add the ground, a light, and an integrator that takes stiff servos.

    The ground is at height 0; `lower_floor` moves it.
    """
    option = _find_section(mjcf, "option")
    option.set("integrator", "implicitfast")
    assets = _find_section(mjcf, "asset")
    checker = {
        "name": "grid", "type": "2d", "builtin": "checker", "rgb1": ".84 .87 .89",
        "rgb2": ".94 .95 .96", "width": "300", "height": "300",
    }  # fmt: skip
    ElementTree.SubElement(assets, "texture", checker)
    grid = {"name": "grid", "texture": "grid", "texrepeat": "5 5", "texuniform": "true"}
    ElementTree.SubElement(assets, "material", grid)
    world = _find_section(mjcf, "worldbody")
    light = {"name": "sun", "type": "directional", "pos": "0 0 3", "dir": "0 .3 -1"}
    world.insert(0, Element("light", light))
    name = find_free_name(FLOOR, collect_names(mjcf, "geom"))
    floor = {"name": name, "type": "plane", "size": "0 0 .05", "material": "grid"}
    world.insert(1, Element("geom", floor))


def _find_section(mjcf: Element, tag: str) -> Element:
    """Return a section of an MJCF, which is made where it is not there."""
    section = mjcf.find(tag)
    if section is None:
        section = Element(tag)
        mjcf.insert(_find_place(mjcf, tag), section)
    return section


ORDER = (
    "compiler", "option", "size", "default", "asset", "worldbody", "contact", "equality", "tendon",
    "actuator", "sensor", "keyframe",
)  # fmt: skip
"""In which order an MJCF's sections are written here."""


def _find_place(mjcf: Element, tag: str) -> int:
    earlier = ORDER[: ORDER.index(tag)]
    place = 0
    for index, part in enumerate(mjcf):
        if part.tag in earlier:
            place = index + 1
    return place


def add_section_entry(mjcf: Element, section: str, tag: str, **attributes: str) -> Element:
    """Add an element to a section of an MJCF, and return it."""
    return ElementTree.SubElement(_find_section(mjcf, section), tag, attributes)


def _find_body(mjcf: Element, name: str) -> Element:
    """Return a body of an MJCF by its name."""
    (body,) = (body for body in mjcf.iter("body") if body.get("name") == name)
    return body


def find_base(path: Path, robot: UrdfRobot) -> str:
    """Return the link that floats where the robot does.

    That is the root, or where the root is MuJoCo's `world`, the one link on it. Raises BadValue
    where several are.
    """
    if robot.root != "world":
        return robot.root
    children = [joint.child for joint in robot.joints.values() if joint.parent == "world"]
    if len(children) != 1:
        raise BadValue(
            f"{path}: the links {', '.join(children)} hang on the link world, so that no one link "
            "is the base; take --floating-base off"
        )
    return children[0]


def add_floating_base(path: Path, mjcf: Element, robot: UrdfRobot) -> None:
    """Give the base a free joint, and sensors of an IMU: at the link called so, or at the base.

    Raises BadValue where the base has no mass, or a joint ties it to the world.
    """
    base = find_base(path, robot)
    _add_imu(mjcf, base)
    for joint in robot.joints.values():
        if joint.child != base:
            continue
        if joint.kind == "floating":
            return
        if joint.kind != "fixed":
            raise BadValue(
                f"{path}: joint {joint.name!r} ties the base {base!r} to the world; take "
                "--floating-base off"
            )
    if not has_mass(robot, base):
        raise BadValue(
            f"{path}: the base {base!r} has no mass, so that it cannot float; write an <inertial> "
            "into it, or add --fixed-base"
        )
    name = find_free_name(ROOT_JOINT, collect_names(mjcf, "joint"))
    _find_body(mjcf, base).insert(0, Element("freejoint", {"name": name}))


def _add_imu(mjcf: Element, base: str) -> None:
    mount = base
    for body in mjcf.iter("body"):
        if IMU in body.get("name", "").lower():
            mount = body.get("name", "")
            break
    site = find_free_name(IMU, collect_names(mjcf, "site"))
    ElementTree.SubElement(_find_body(mjcf, mount), "site", {"name": site, "size": ".01"})
    add_section_entry(mjcf, "sensor", "gyro", name="gyro", site=site)
    add_section_entry(mjcf, "sensor", "accelerometer", name="accelerometer", site=site)
    add_section_entry(mjcf, "sensor", "framequat", name="orientation", objtype="site", objname=site)


def add_excludes(mjcf: Element, pairs: Iterable[tuple[str, str]]) -> None:
    """Let pairs of bodies pass through each other."""
    for first, second in pairs:
        add_section_entry(mjcf, "contact", "exclude", body1=first, body2=second)


def lower_floor(mjcf: Element, height: float) -> None:
    """Move the ground to a height, in metres."""
    world = _find_section(mjcf, "worldbody")
    floor = world.find("geom")
    assert floor is not None
    floor.set("pos", f"0 0 {height:.6g}")


def find_lowest_point(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Return the height of the lowest point of all geoms that collide, but planes."""
    collides = np.asarray(model.geom_contype | model.geom_conaffinity) != 0
    solid = np.asarray(model.geom_type) != mujoco.mjtGeom.mjGEOM_PLANE
    geoms = np.flatnonzero(collides & solid).tolist()
    return min((_find_bottom(model, data, geom) for geom in geoms), default=0.0)


def _find_bottom(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Return the height of a geom's lowest point: its centre's, less how far it reaches down."""
    down = data.geom_xmat[geom].reshape(3, 3)[2]
    size, kind = model.geom_size[geom], model.geom_type[geom]
    shape = mujoco.mjtGeom
    if kind == shape.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        reach = -float((model.mesh_vert[first : first + count] @ down).min())
    elif kind == shape.mjGEOM_BOX:
        reach = float(np.abs(down) @ size)
    elif kind == shape.mjGEOM_CAPSULE:
        reach = size[0] + abs(down[2]) * size[1]
    elif kind == shape.mjGEOM_CYLINDER:
        reach = np.hypot(down[0], down[1]) * size[0] + abs(down[2]) * size[1]
    else:
        reach = size[0]
    return float(data.geom_xpos[geom][2] - reach)
