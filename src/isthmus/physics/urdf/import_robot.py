"""From a URDF to an MJCF to go on from, with what was kept, dropped, added and checked."""

from __future__ import annotations

import copy
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import mujoco

from isthmus.physics.actuator_controls import control_box
from isthmus.physics.mujoco import load_model
from isthmus.physics.mujoco_parameters import mujoco_parameters
from isthmus.physics.urdf.actuators import (
    KINDS,
    ActuatorChoice,
    add_actuators,
    choose_actuators,
    measure_loads,
)
from isthmus.physics.urdf.conversion import convert_robot, describe_refusal
from isthmus.physics.urdf.description import UrdfRobot, describe_robot
from isthmus.physics.urdf.scalar_joints import read_positions
from isthmus.physics.urdf.scene import add_excludes, add_floating_base, add_scene, lower_floor
from isthmus.physics.urdf.settling import Settling, settle
from isthmus.physics.urdf.start_pose import (
    HOME,
    Pairs,
    add_keyframe,
    find_base_neighbours,
    find_overlaps,
    place_robot,
)
from isthmus.physics.urdf.survey import SurveyRow, survey_robot
from isthmus.physics.urdf.xml import read_xml
from isthmus.types import BadValue, UnknownName


class ImportedRobot(NamedTuple):
    """What an import found and made."""

    robot: UrdfRobot
    survey: list[SurveyRow]
    actuators: list[ActuatorChoice]
    home: dict[str, float]  # rad or m: where joints begin, by name
    mended: list[str]  # links whose inertia no body can have: it was made round
    overlaps: Pairs  # bodies that overlap at the start, and so do not collide
    settling: Settling
    mjcf: str  # the text of the MJCF, meshes by absolute paths


def import_robot(
    path: Path,
    out: Path | None = None,
    actuators: str = "position",
    floating_base: bool | None = None,
    packages: Mapping[str, Path] | None = None,
    visuals: bool = True,
) -> ImportedRobot:
    """Return what MuJoCo makes of a URDF, and write it as an MJCF to `out` where that is given.

    `actuators` are "position" servos or "motor"s (N m); `floating_base` None: it floats, unless the
    file ties it to a link called world. `packages` are folders of ROS packages by name; without
    `visuals` the robot has collision shapes alone. Raises BadValue, in one line that names the fix.
    """
    if actuators not in KINDS:
        raise UnknownName("actuators", actuators, KINDS)
    if out is not None:
        _check_out(path, out)
    root = read_xml(path)
    robot = describe_robot(path, root)
    mjcf, mended = convert_robot(path, root, robot, packages or {}, visuals)
    add_scene(mjcf)
    floats = _choose_base(path, robot, floating_base)
    if floats:
        add_floating_base(path, mjcf, robot)
    bare = _compile(path, mjcf)
    data, lowest = place_robot(bare)
    if lowest < 0:
        lower_floor(mjcf, lowest)
    overlaps = find_overlaps(bare, data)
    neighbours = [] if floats else find_base_neighbours(robot)
    add_excludes(mjcf, sorted({*overlaps, *neighbours}))
    choices = choose_actuators(path, robot, actuators, measure_loads(bare, data))
    add_actuators(mjcf, choices)
    add_keyframe(mjcf, bare, data, choices)
    ElementTree.indent(mjcf)
    model = _compile(path, mjcf)
    mujoco_parameters(model)  # a robot whose names clash is refused here, and not by its first task
    control_box(model, str(path))
    if out is not None:
        _write(path, out, mjcf)
    return ImportedRobot(
        robot=robot,
        survey=survey_robot(robot, model, "floats" if floats else "fixed to the world"),
        actuators=choices,
        home=read_positions(model, data.qpos),
        mended=mended,
        overlaps=overlaps,
        settling=settle(model, HOME),
        mjcf=ElementTree.tostring(mjcf, encoding="unicode"),
    )


def _check_out(path: Path, out: Path) -> None:
    if out.exists():
        raise BadValue(f"{out} is there already; name another with -o, or remove it")
    if out.suffix != ".xml":
        raise BadValue(f"{out}: an MJCF is called NAME.xml")
    if not out.resolve().parent.is_dir():
        raise BadValue(f"there is no folder {out.resolve().parent} to write {out.name} into")


def _choose_base(path: Path, robot: UrdfRobot, floating: bool | None) -> bool:
    """Return whether the base is to float. Raises BadValue where it does and should not."""
    frees = robot.joints_of("floating")
    if floating is False and frees:
        raise BadValue(
            f'{path}: joint {frees[0].name!r} is floating; write type="fixed" there to fix the base'
        )
    if floating is None:
        return robot.root != "world" or bool(frees)
    return floating


def _compile(path: Path, mjcf: Element) -> mujoco.MjModel:
    text = ElementTree.tostring(mjcf, encoding="unicode")
    try:
        return mujoco.MjModel.from_xml_string(text)
    except ValueError as error:
        raise BadValue(f"{path}: {describe_refusal(error)}") from None


def _write(path: Path, out: Path, mjcf: Element) -> None:
    """Write an MJCF, meshes by paths from its folder, and read it back."""
    written = copy.deepcopy(mjcf)
    folder = out.resolve().parent
    for mesh in written.iter("mesh"):
        mesh.set("file", Path(os.path.relpath(mesh.get("file", ""), folder)).as_posix())
    note = (
        f" From {path.name}, by isthmus import-robot. kp, kv and the keyframe are first guesses; "
        "rotors' armature and the contacts' friction are not in a URDF. "
    )
    written.insert(0, ElementTree.Comment(note.replace("--", "- -")))
    ElementTree.indent(written)
    out.write_text(ElementTree.tostring(written, encoding="unicode") + "\n", encoding="utf-8")
    load_model(out.resolve())
