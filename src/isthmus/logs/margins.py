"""Contact margins: robots that MuJoCo 3.5 made others than they were, and logs of them as they were
before.

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
from isthmus.physics.mujoco import load_model
from isthmus.tasks.task import BUILT_IN
from isthmus.tasks.task import find_task as find_task

MARGINS_ADD_UP_SINCE = (3, 5)


class ContactMargin(NamedTuple):
    """Within how many metres two geoms touch, at most: before MuJoCo 3.5, and since."""

    before: float
    since: float

    @property
    def differs(self) -> bool:
        return self.since > self.before


def contact_margin(model: mujoco.MjModel) -> ContactMargin:
    """Return the largest margin of a contact in a compiled model, by either rule."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    margins = np.sort(model.geom_margin[collides])[::-1]
    if len(margins) < 2:
        return ContactMargin(0.0, 0.0)
    return ContactMargin(float(margins[0]), float(margins[0] + margins[1]))


def note_other_margins(metadata: dict[str, Any], domain: Domain) -> tuple[str, ...]:
    """Say where a data set was made under a MuJoCo in which the domain's robot was another one."""
    version = mujoco_version(metadata)
    if not version or adds_margins(version) is not False:
        return ()
    model = _robots_model(domain)
    if model is None:
        return ()
    margin = contact_margin(model)
    if not margin.differs:
        return ()
    return (
        f"made under MuJoCo {version}, for which {find_robot(str(domain)) or domain} is another robot: "
        "since 3.5 the "
        f"margins of two geoms add up, so that it touches the floor within {1000 * margin.since:g} "
        "mm and not "
        f"{1000 * margin.before:g}; here MuJoCo is {mujoco.__version__}",
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
    for text in requirements if isinstance(requirements, list) else []:
        named = re.fullmatch(
            r"\s*mujoco\s*(?:\[[^]]*\])?\s*\(?([<>=!~][^;)]*)\)?\s*(?:;.*)?",
            str(text),
            re.IGNORECASE,
        )
        if named:
            return named[1].strip()
    return ""


def adds_margins(version: str) -> bool | None:
    """Whether margins add up in every MuJoCo that a version or requirement allows; None where it
    allows both.
    """
    clauses = re.findall(r"(===?|~=|[<>]=?|!=)?\s*(\d+(?:\.\d+)*)(\.\*)?", version)
    bounds = [
        _bounds(sign, tuple(map(int, number.split("."))), bool(star))
        for sign, number, star in clauses
    ]
    if any(above is not None and above <= MARGINS_ADD_UP_SINCE for _, above in bounds):
        return False
    if any(least >= MARGINS_ADD_UP_SINCE for least, _ in bounds):
        return True
    return None


Version = tuple[int, ...]


def _bounds(sign: str, number: Version, star: bool) -> tuple[Version, Version | None]:
    """The least version that a clause of a requirement allows, and the first above all that it
    allows (None: none).
    """
    if sign in ("", "==", "==="):
        return number, _next(number) if star else (*number, 1)
    if sign == "~=":
        return number, _next(number[:-1])
    if sign == "<":
        return (), _stripped(number)
    if sign == "<=":
        return (), (*number, 1)
    if sign in (">", ">="):
        return number, None
    return (), None


def _next(number: Version) -> Version:
    return (*number[:-1], number[-1] + 1)


def _stripped(number: Version) -> Version:
    """The version without zeros at its end: 3.5.0 is 3.5."""
    while number and number[-1] == 0:
        number = number[:-1]
    return number


def _robots_model(domain: Domain) -> mujoco.MjModel | None:
    """The compiled model of a domain's robot; of a foreign environment that of the task by the same
    name, if any.
    """
    like = getattr(domain, "like", None) or domain
    if like.replayable:
        return load_model(like.description().model_path())
    title = find_robot(str(domain))
    name = next((name for name in BUILT_IN if title and find_robot(name) == title), None)
    return load_model(find_task(name).model_path()) if name else None
