"""What a URDF file says of a robot: links, joints, limits, shapes; checked, and nothing computed.

Lengths are metres, angles radians, masses kilograms, forces newtons or newton metres, as the format
has them.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.etree.ElementTree import Element

from isthmus.types import BadValue

LIMITED = ("revolute", "prismatic")
MOVING = (*LIMITED, "continuous")
JOINT_KINDS = (*MOVING, "fixed", "floating", "planar")
SHAPES = ("box", "cylinder", "sphere", "capsule", "mesh")
KNOWN_TAGS = ("link", "joint", "material", "mujoco")


class UrdfShape(NamedTuple):
    """A visual or collision shape of a link."""

    link: str
    role: str  # "visual" or "collision"
    kind: str  # of SHAPES
    mesh: str  # the file as it is written; empty for other kinds


class UrdfLink(NamedTuple):
    """A rigid body."""

    name: str
    mass: float | None  # kg; None without <inertial>
    shapes: tuple[UrdfShape, ...]


class UrdfJoint(NamedTuple):
    """What ties two links. None: not written."""

    name: str
    kind: str  # of JOINT_KINDS
    parent: str
    child: str
    range: tuple[float, float] | None  # of revolute and prismatic joints
    effort: float | None
    velocity: float | None
    damping: float
    friction: float
    mimics: str | None
    has_safety: bool


Part = TypeVar("Part", UrdfLink, UrdfJoint)
Default = TypeVar("Default", float, None)


class UrdfRobot(NamedTuple):
    """A robot as its file describes it."""

    name: str
    links: dict[str, UrdfLink]
    joints: dict[str, UrdfJoint]
    root: str
    colors: int  # materials that give a colour, in the robot or its links
    textures: int
    others: Counter[str]  # elements below <robot> that speak to other programs, by tag

    @property
    def shapes(self) -> list[UrdfShape]:
        """All shapes, in the order of their links."""
        shapes = []
        for link in self.links.values():
            shapes.extend(link.shapes)
        return shapes

    def joints_of(self, *kinds: str) -> list[UrdfJoint]:
        """Return the joints of some kinds, in their order."""
        return [joint for joint in self.joints.values() if joint.kind in kinds]


def describe_robot(path: Path, root: Element) -> UrdfRobot:
    """Return what the tree of a URDF file says.

    Raises BadValue for what is missing, not finite, named twice, or no tree.
    """
    links: dict[str, UrdfLink] = {}
    for element in root.findall("link"):
        _add_named(path, "link", links, _read_link(path, element))
    joints: dict[str, UrdfJoint] = {}
    for element in root.findall("joint"):
        _add_named(path, "joint", joints, _read_joint(path, element))
    if not links:
        raise BadValue(f"{path} has no <link>: it describes no robot")
    base = _find_root(path, links, joints)
    _check_mimics(path, joints)
    return UrdfRobot(
        name=root.get("name", "robot"),
        links=links,
        joints=joints,
        root=base,
        colors=len(list(root.iter("color"))),
        textures=len(list(root.iter("texture"))),
        others=_count_others(root),
    )


def _count_others(root: Element) -> Counter[str]:
    others: Counter[str] = Counter()
    for part in root:
        if part.tag not in KNOWN_TAGS:
            others[part.tag.rpartition("}")[2]] += 1
    return others


def _add_named(path: Path, word: str, named: dict[str, Part], part: Part) -> None:
    """Add a link or a joint to those by name. Raises BadValue for a name that two have."""
    if part.name in named:
        raise BadValue(f"{path}: two {word}s are called {part.name!r}; rename one")
    named[part.name] = part


def _read_link(path: Path, element: Element) -> UrdfLink:
    name = _require(path, element, "name", "a <link>")
    label = f"link {name!r}"
    shapes = []
    for role in ("visual", "collision"):
        for part in element.findall(role):
            shapes.append(_read_shape(path, name, role, part))
    inertial = element.find("inertial")
    if inertial is None:
        return UrdfLink(name, None, tuple(shapes))
    mass = inertial.find("mass")
    if None in (mass, inertial.find("inertia")):
        raise BadValue(f"{path}: {label} has an <inertial> without <mass> or <inertia>; write both")
    value = _read_number(path, mass, "value", label, -1.0)
    if value < 0:
        raise BadValue(f"{path}: {label} needs a mass of 0 kg or more: <mass value=.../>")
    return UrdfLink(name, value, tuple(shapes))


def _read_shape(path: Path, link: str, role: str, element: Element) -> UrdfShape:
    for kind in SHAPES:
        shape = element.find(f"geometry/{kind}")
        if shape is None:
            continue
        mesh = ""
        if kind == "mesh":
            mesh = _require(path, shape, "filename", f"the <mesh> of link {link!r}")
        return UrdfShape(link, role, kind, mesh)
    raise BadValue(
        f"{path}: a <{role}> of link {link!r} has no shape; write one of "
        f"{', '.join(SHAPES)} into its <geometry>"
    )


def _read_joint(path: Path, element: Element) -> UrdfJoint:
    name = _require(path, element, "name", "a <joint>")
    label = f"joint {name!r}"
    kind = _require(path, element, "type", label)
    if kind not in JOINT_KINDS:
        raise BadValue(
            f"{path}: {label} has the type {kind!r}, which URDF has not; its types: "
            f"{', '.join(JOINT_KINDS)}"
        )
    ends = []
    for tag in ("parent", "child"):
        end = element.find(tag)
        if end is None:
            raise BadValue(f"{path}: {label} has no <{tag}>; write <{tag} link=.../>")
        ends.append(_require(path, end, "link", f"the <{tag}> of {label}"))
    limit, dynamics = element.find("limit"), element.find("dynamics")
    mimics = None
    if (mimic := element.find("mimic")) is not None:
        mimics = _require(path, mimic, "joint", f"<mimic> of {label}")
    return UrdfJoint(
        name=name,
        kind=kind,
        parent=ends[0],
        child=ends[1],
        range=_read_range(path, limit, kind, label),
        effort=_read_number(path, limit, "effort", label, None),
        velocity=_read_number(path, limit, "velocity", label, None),
        damping=_read_number(path, dynamics, "damping", label, 0.0),
        friction=_read_number(path, dynamics, "friction", label, 0.0),
        mimics=mimics,
        has_safety=element.find("safety_controller") is not None,
    )


def _read_range(
    path: Path, limit: Element | None, kind: str, label: str
) -> tuple[float, float] | None:
    """Return the lowest and the highest position of a joint that has both ends."""
    if kind not in LIMITED:
        return None
    written = set() if limit is None else set(limit.attrib)
    if written.isdisjoint(("lower", "upper")):
        return None
    low = _read_number(path, limit, "lower", label, 0.0)
    high = _read_number(path, limit, "upper", label, 0.0)
    if low > high:
        raise BadValue(
            f"{path}: {label} has lower={low:g} above upper={high:g}; MuJoCo would leave it "
            "without limits: swap them"
        )
    return low, high


def _require(path: Path, element: Element, attribute: str, label: str) -> str:
    value = element.get(attribute, "").strip()
    if not value:
        raise BadValue(f"{path}: {label} has no {attribute}; write {attribute}=...")
    return value


def _read_number(
    path: Path, element: Element | None, attribute: str, label: str, default: Default
) -> float | Default:
    """Return a number of an element, or the default where it is not written."""
    if element is None or attribute not in element.attrib:
        return default
    text = element.attrib[attribute]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadValue(f"{path}: {label} has {attribute}={text!r}; write a finite number")
    return value


def _find_root(path: Path, links: dict[str, UrdfLink], joints: dict[str, UrdfJoint]) -> str:
    """Return the one link that is no joint's child. Raises BadValue where links form no tree."""
    tied: dict[str, str] = {}
    for joint in joints.values():
        for end in (joint.parent, joint.child):
            if end not in links:
                raise BadValue(
                    f"{path}: joint {joint.name!r} names the link {end!r}, which is not there"
                )
        if joint.child in tied:
            raise BadValue(
                f"{path}: link {joint.child!r} hangs on two joints, {tied[joint.child]!r} and "
                f"{joint.name!r}; URDF describes trees: take one out"
            )
        tied[joint.child] = joint.name
    roots = [name for name in links if name not in tied]
    if not roots:
        raise BadValue(f"{path}: every link is some joint's child, so that none is the root")
    if len(roots) > 1:
        raise BadValue(
            f"{path}: the links {', '.join(map(repr, roots))} hang on no joint; one robot has one "
            "root: tie the others to it"
        )
    _check_reached(path, roots[0], links, joints)
    return roots[0]


def _check_reached(
    path: Path, root: str, links: dict[str, UrdfLink], joints: dict[str, UrdfJoint]
) -> None:
    """Refuse links that hang on each other in a circle, and so not on the root."""
    reached = {root}
    grows = True
    while grows:
        children = {joint.child for joint in joints.values() if joint.parent in reached}
        grows = not children <= reached
        reached |= children
    for name in links:
        if name not in reached:
            raise BadValue(
                f"{path}: link {name!r} hangs in a circle of joints, and not on the root {root!r}"
            )


def _check_mimics(path: Path, joints: dict[str, UrdfJoint]) -> None:
    for joint in joints.values():
        if joint.mimics is not None and joint.mimics not in joints:
            raise BadValue(
                f"{path}: joint {joint.name!r} mimics {joint.mimics!r}, which is not there"
            )
