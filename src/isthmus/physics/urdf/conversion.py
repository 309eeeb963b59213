"""A URDF's robot as MuJoCo builds it, and the MJCF of that: every link a body, every shape a geom.

MuJoCo's own defaults would weld the root to the world without its mass, melt links on fixed joints
into their parents, leave out visual shapes, and look for meshes by their bare names in the
URDF's folder.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import mujoco

from isthmus.physics.mujoco import collect_warnings
from isthmus.physics.urdf.description import KNOWN_TAGS, MOVING, UrdfLink, UrdfRobot
from isthmus.physics.urdf.inertias import mend_inertias
from isthmus.physics.urdf.meshes import find_mesh
from isthmus.types import BadValue

DENSITY = 1000.0
"""kg/m3: of what MuJoCo computes masses from shapes by."""

FLAT = "volume is too small"
"""In what MuJoCo says of a mesh without a volume, from which it would compute a mass."""

REMEDIES = {
    FLAT: "give its link an <inertial>, or the mesh some thickness",
    "balanceinertia": (
        "correct its ixx, iyy, izz, or write <mujoco><compiler balanceinertia=\"true\"/></mujoco> "
        "below <robot>"
    ),
    "coplanar": "write a thin box instead",
    "mjMINVAL": "write its mass and its inertia larger than 0",
    "ASCII": "save it as a binary STL",
    "only be used on top level": "only the root can float; give the joint another type",
}  # fmt: skip
"""What to do where MuJoCo's message has these words."""


class Conversion(NamedTuple):
    """What became of a URDF's tree."""

    mjcf: Element  # <mujoco>
    mended: list[str]  # links whose inertia no body can have


def convert_robot(
    path: Path, root: Element, robot: UrdfRobot, packages: Mapping[str, Path], visuals: bool
) -> Conversion:
    """Return the MJCF <mujoco> of a URDF's tree as MuJoCo builds it, meshes by absolute paths.

    Raises BadValue where a mesh is missing, a moving link has no mass, or MuJoCo refuses.
    """
    _check_masses(path, robot)
    prepared = _prepare(path, root, robot, packages, visuals)
    mended = mend_inertias(prepared, robot)
    collect_warnings()  # the survey tells what matters of them
    text = ElementTree.tostring(prepared, encoding="unicode")
    try:
        mjcf = ElementTree.fromstring(_compile_urdf(text, robot))
    except ValueError as error:
        raise BadValue(f"{path}: {describe_refusal(error)}") from None
    _name_geoms(mjcf)
    return Conversion(mjcf, mended)


def _compile_urdf(text: str, robot: UrdfRobot) -> str:
    """Return the MJCF of a URDF. Raises ValueError where MuJoCo refuses it."""
    try:
        return _compile_meshes(text, shells=False)
    except ValueError as error:
        # A sheet has no volume, and needs none where no mass is computed from it.
        if FLAT not in str(error) or _computes_masses(robot):
            raise
    return _compile_meshes(text, shells=True)


def _compile_meshes(text: str, shells: bool) -> str:
    """Return the MJCF of a URDF; meshes that are `shells` need no volume. Raises ValueError."""
    spec = mujoco.MjSpec.from_string(text)
    if shells:
        for mesh in spec.meshes:
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    spec.compile()
    return spec.to_xml()


def _computes_masses(robot: UrdfRobot) -> bool:
    """Return whether a mass depends on a mesh's volume: of a link without <inertial>."""
    for shape in robot.shapes:
        if shape.mesh and shape.role == "collision" and robot.links[shape.link].mass is None:
            return True
    return False


def describe_refusal(error: ValueError) -> str:
    """Return in one line why MuJoCo builds no model, and what to do where that is known."""
    reason = " ".join(str(error).split()).removeprefix("Error: ")
    for word, remedy in REMEDIES.items():
        if word in reason:
            return f"MuJoCo cannot build it: {reason}; {remedy}"
    return f"MuJoCo cannot build it: {reason}"


def find_rigid(robot: UrdfRobot, link: str) -> list[str]:
    """Return the links that move as one with a link: itself, and what fixed joints hang on it."""
    rigid = [link]
    for name in rigid:  # grows on the way
        for joint in robot.joints_of("fixed"):
            if joint.parent == name:
                rigid.append(joint.child)
    return rigid


def has_mass(robot: UrdfRobot, link: str) -> bool:
    """Return whether a link, or what is rigid with it, has a mass or a shape to give it one."""
    return any(_can_have_mass(robot.links[name]) for name in find_rigid(robot, link))


def _can_have_mass(link: UrdfLink) -> bool:
    """Return whether a link has a mass, or a shape for MuJoCo to compute one of."""
    if link.mass is not None:
        return link.mass > 0
    return "collision" in {shape.role for shape in link.shapes}


def _check_masses(path: Path, robot: UrdfRobot) -> None:
    for joint in robot.joints_of(*MOVING, "floating", "planar"):
        if not has_mass(robot, joint.child):
            raise BadValue(
                f"{path}: link {joint.child!r} moves on joint {joint.name!r} and has no mass; "
                "write an <inertial> into it, or a <collision> shape, of which MuJoCo computes "
                f"one by {DENSITY:g} kg/m3"
            )


def _prepare(
    path: Path, root: Element, robot: UrdfRobot, packages: Mapping[str, Path], visuals: bool
) -> Element:
    """Return a copy of the tree as MuJoCo is to read it."""
    prepared = copy.deepcopy(root)
    _remove_others(prepared)
    _drop_repeated_names(prepared)
    meshdir = _set_compiler(prepared)
    roles = ["collision", "visual"]
    if not visuals:
        _remove_visuals(prepared)
        roles.remove("visual")
    files: dict[str, Path] = {}
    for shape in robot.shapes:
        if shape.mesh and shape.role in roles:
            files[shape.mesh] = find_mesh(path, shape, packages, meshdir)
    for mesh in prepared.iter("mesh"):
        mesh.set("filename", str(files[mesh.get("filename", "").strip()]))
    return prepared


def _remove_others(robot: Element) -> None:
    """Take out what speaks to other programs."""
    for part in list(robot):
        if part.tag not in KNOWN_TAGS:
            robot.remove(part)


def _drop_repeated_names(robot: Element) -> None:
    """Take the names off shapes that are called as another is."""
    taken: set[str] = set()
    for tag in ("collision", "visual"):
        for shape in robot.iter(tag):
            name = shape.attrib.pop("name", "")
            if name and name not in taken:
                shape.set("name", name)
                taken.add(name)


def _remove_visuals(robot: Element) -> None:
    for link in robot.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)


def _set_compiler(robot: Element) -> str | None:
    """Write how MuJoCo is to build a robot; return the folder of meshes that was written there."""
    extension = robot.find("mujoco")
    if extension is None:
        extension = ElementTree.SubElement(robot, "mujoco")
    compiler = extension.find("compiler")
    if compiler is None:
        compiler = ElementTree.SubElement(extension, "compiler")
    for option in ("discardvisual", "fusestatic", "strippath"):
        compiler.set(option, "false")
    return compiler.attrib.pop("meshdir", None)


def _name_geoms(mjcf: Element) -> None:
    """Give each geom the name of its link, and hide the collision shapes of links with visuals."""
    taken = collect_names(mjcf, "geom")
    for body in mjcf.iter("body"):
        geoms = body.findall("geom")
        has_visuals = any(map(_is_visual, geoms))
        for geom in geoms:
            role = "visual"
            if not _is_visual(geom):
                role = "collision"
                geom.set("group", "3" if has_visuals else "0")
            if geom.get("name"):
                continue
            name = find_free_name(f"{body.get('name')}_{role}", taken)
            geom.set("name", name)
            taken.add(name)


def _is_visual(geom: Element) -> bool:
    """Return whether a geom of a converted robot collides with nothing."""
    return geom.get("contype") == "0"


def collect_names(mjcf: Element, tag: str) -> set[str | None]:
    """Return the names of the elements of a tag."""
    return {element.get("name") for element in mjcf.iter(tag)}


def find_free_name(name: str, taken: set[str | None]) -> str:
    """Return a name, with the first number behind it that makes it one of its own."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
