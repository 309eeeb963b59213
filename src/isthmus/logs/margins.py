"""Contact margins: robots that MuJoCo 3.5 made others than they were, and logs of them as before.

Until MuJoCo 3.4 two geoms touched within the larger of their margins, since 3.5 within the sum. A
robot whose own geoms and floor both have one stands higher by the smaller: Gymnasium's Ant by 1 cm,
its Hopper by 1 mm.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import mujoco
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.robots import find_robot
from isthmus.logs.starts import find_simulated
from isthmus.physics.mujoco import load_model
from isthmus.tasks.task import BUILT_IN, find_task

Version = tuple[int, ...]

MARGINS_ADD_UP_SINCE = (3, 5)
VERSION_CLAUSE = re.compile(r"(===?|~=|[<>]=?|!=)?\s*(\d+(?:\.\d+)*)(\.\*)?")
MUJOCO_REQUIREMENT = re.compile(
    r"\s*mujoco\s*(?:\[[^]]*\])?\s*\(?([<>=!~][^;)]*)\)?\s*(?:;.*)?", re.IGNORECASE
)


class ContactMargin(NamedTuple):
    """Within how many metres two geoms touch, at most: before MuJoCo 3.5, and since."""

    before: float
    since: float

    @property
    def differs(self) -> bool:
        """Return whether the rule makes the robot another one."""
        return self.since > self.before


class VersionRange(NamedTuple):
    """The least version that is allowed, and the first above all that are (None: none)."""

    least: Version
    above: Version | None


def contact_margin(model: mujoco.MjModel) -> ContactMargin:
    """Return the largest margin of a contact in a compiled model, by either rule."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    margins = np.sort(model.geom_margin[collides])[::-1]
    if len(margins) < 2:
        return ContactMargin(0.0, 0.0)
    return ContactMargin(float(margins[0]), float(margins[0] + margins[1]))


def note_other_margins(metadata: dict[str, Any], domain: Domain) -> tuple[str, ...]:
    """Return a note where a data set was made under a MuJoCo whose robot is another one."""
    version = mujoco_version(metadata)
    if adds_margins(version) is not False:
        return ()
    model = _load_robot(domain)
    if model is None:
        return ()
    margin = contact_margin(model)
    if not margin.differs:
        return ()
    return (
        f"made under MuJoCo {version}, for which {find_robot(str(domain)) or domain} is another "
        "robot: since 3.5 the margins of two geoms add up, so that it touches the floor within "
        f"{1000 * margin.since:g} mm and not {1000 * margin.before:g}; here MuJoCo is "
        f"{mujoco.__version__}",
    )


def mujoco_version(metadata: dict[str, Any]) -> str:
    """Return the MuJoCo that a data set's metadata names; empty where it names none.

    Ours names a version, Minari's `requirements` what follows the name in one of them,
    `>=3.1.1,<3.2`.
    """
    versions = metadata.get("versions")
    if isinstance(versions, dict) and isinstance(versions.get("mujoco"), str):
        return versions["mujoco"]
    requirements = metadata.get("requirements")
    if not isinstance(requirements, list):
        return ""
    for text in requirements:
        match = MUJOCO_REQUIREMENT.fullmatch(str(text))
        if match:
            return match[1].strip()
    return ""


def adds_margins(version: str) -> bool | None:
    """Return whether margins add up in every MuJoCo that a version or requirement allows.

    None where it allows both.
    """
    adds = None
    for sign, number, star in VERSION_CLAUSE.findall(version):
        allowed = _find_range(sign, tuple(map(int, number.split("."))), bool(star))
        if allowed.above is not None and allowed.above <= MARGINS_ADD_UP_SINCE:
            return False
        if allowed.least >= MARGINS_ADD_UP_SINCE:
            adds = True
    return adds


def _find_range(sign: str, number: Version, star: bool) -> VersionRange:
    """Return the versions that a clause of a requirement allows."""
    if sign in ("", "==", "==="):
        return VersionRange(number, _raise_last(number) if star else (*number, 1))
    if sign == "~=":
        return VersionRange(number, _raise_last(number[:-1]))
    if sign == "<":
        return VersionRange((), _strip_zeros(number))
    if sign == "<=":
        return VersionRange((), (*number, 1))
    if sign in (">", ">="):
        return VersionRange(number, None)
    return VersionRange((), None)


def _raise_last(number: Version) -> Version:
    return (*number[:-1], number[-1] + 1)


def _strip_zeros(number: Version) -> Version:
    """Return the version without zeros at its end: 3.5.0 is 3.5."""
    while number[-1:] == (0,):
        number = number[:-1]
    return number


def _load_robot(domain: Domain) -> mujoco.MjModel | None:
    """Return the compiled model of a domain's robot.

    Of a foreign environment that of the task by the same name, if any.
    """
    simulated = find_simulated(domain)
    if simulated.replayable:
        return load_model(simulated.description().model_path())
    title = find_robot(str(domain))
    if title:
        for name in BUILT_IN:
            if find_robot(name) == title:
                return load_model(find_task(name).model_path())
    return None
