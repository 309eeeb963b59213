"""Robots in URDF, written by a few words a link and a joint."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

BOX = '<collision><geometry><box size=".2 .2 .1"/></geometry></collision>'
BALL = '<collision><geometry><sphere radius=".05"/></geometry></collision>'
LIMIT = '<limit lower="-1" upper="1" effort="20" velocity="10"/>'
MASS = (
    '<inertial><mass value="{mass}"/><inertia ixx="{i}" ixy="0" ixz="0" iyy="{i}" iyz="0" '
    'izz="{i}"/></inertial>'
)


def link(name: str, shapes: str = BOX, mass: float | None = 1.0, inertia: float = 0.01) -> str:
    """A link; without a mass it has no <inertial>."""
    inertial = "" if mass is None else MASS.format(mass=mass, i=inertia)
    return f'<link name="{name}">{inertial}{shapes}</link>'


def joint(
    name: str,
    parent: str,
    child: str,
    kind: str = "revolute",
    inside: str = LIMIT,
    xyz: str = "0 0 -.3",
) -> str:
    """A joint about or along y."""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{xyz}"/><axis xyz="0 1 0"/>{inside}</joint>'
    )


def robot(*parts: str) -> str:
    return f'<robot name="own">{"".join(parts)}</robot>'


PENDULUM = robot(link("base"), link("arm"), joint("hinge", "base", "arm"))


def write(folder: Path, *parts: str) -> Path:
    """A URDF file of these parts, or of one whole text."""
    path = folder / "robot.urdf"
    text = parts[0] if parts[0].startswith(("<robot", "<?xml")) else robot(*parts)
    path.write_text(text, encoding="utf-8")
    return path


def write_stl(path: Path, size: float = 0.1) -> Path:
    """A tetrahedron as a binary STL."""
    corners = size * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces: Sequence[tuple[int, int, int]] = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    content = b"\0" * 80 + struct.pack("<I", len(faces))
    for face in faces:
        content += struct.pack("<12fH", 0, 0, 0, *corners[list(face)].ravel(), 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mesh(filename: str, role: str = "visual", scale: str = "1 1 1") -> str:
    """A mesh as a shape of a link."""
    return f'<{role}><geometry><mesh filename="{filename}" scale="{scale}"/></geometry></{role}>'
