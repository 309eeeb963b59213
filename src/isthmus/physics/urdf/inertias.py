"""Inertias that no body can have, of links that only carry a name.

Exporters give a frame's link, such as a camera's or a root for ROS, no mass, or numbers without a
body, such as six times 1e-6. MuJoCo refuses them. Where such a link is rigid with others they can
be made round, for they hardly count; a link that moves by itself needs its own, and is refused.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from isthmus.physics.urdf.description import UrdfRobot

TINY_MASS, TINY_INERTIA = 1e-9, 1e-12  # kg, kg m2: larger than MuJoCo's least, and nothing


def mend_inertias(root: Element, robot: UrdfRobot) -> list[str]:
    """Make inertias round that no body can have, in a URDF's tree; return whose, by name.

    Only of links that a fixed joint ties to another.
    """
    tied: set[str] = set()
    for joint in robot.joints_of("fixed"):
        tied |= {joint.parent, joint.child}
    mended = []
    for link in root.findall("link"):
        name = link.get("name", "").strip()
        if name in tied and _make_round(link):
            mended.append(name)
    return mended


def _make_round(link: Element) -> bool:
    """Mend a link's inertia where it must be; return whether it was."""
    mass, inertia = link.find("inertial/mass"), link.find("inertial/inertia")
    if mass is None or inertia is None:
        return False
    weightless = float(mass.get("value", "0")) <= 0
    if not weightless and _is_possible(inertia):
        return False
    moments = [float(inertia.get(axis, "0")) for axis in ("ixx", "iyy", "izz")]
    mean = TINY_INERTIA if weightless else max(sum(moments) / 3, TINY_INERTIA)
    for axis in ("ixx", "iyy", "izz"):
        inertia.set(axis, repr(mean))
    for product in ("ixy", "ixz", "iyz"):
        inertia.set(product, "0")
    if weightless:
        mass.set("value", repr(TINY_MASS))
    return True


def _is_possible(inertia: Element) -> bool:
    """Return whether some body has this inertia: no moment exceeds the other two's sum."""
    xx, yy, zz, xy, xz, yz = (
        float(inertia.get(name, "0")) for name in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
    )
    try:
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    except (np.linalg.LinAlgError, ValueError):
        return True  # MuJoCo says what is wrong with it
    return bool(moments[0] > TINY_INERTIA and moments[0] + moments[1] >= moments[2])
