"""Groups of what may differ between two domains of one robot, and domains with one group copied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from isthmus.domains.domain import RobotDomain
from isthmus.domains.effects import EFFECTS
from isthmus.domains.parse import parse_domain

GAPS, NUMERICS_GROUP, ENGINE_GROUP = "gaps", "numerics", "engine"

GROUP_ENDINGS = {
    "gravity": ("gravity",),
    "masses": ("mass", "density"),
    "friction": ("friction", "friction_scale"),
    "damping": ("damping", "frictionloss"),
    "armature": ("armature",),
    "actuators": ("strength",),
    "joint ranges": ("range",),
}
"""Parameters by how their names end, alone or after a part's: `density`, `torso_mass`."""
OTHER = "other parameters"


def find_group(name: str) -> str:
    """Return the group of a parameter, or of an effect that is a domain's setting."""
    if name in EFFECTS:
        return GAPS
    for group, endings in GROUP_ENDINGS.items():
        for ending in endings:
            if name == ending or name.endswith(f"_{ending}"):
                return group
    return OTHER


def list_differing_groups(source: RobotDomain, target: RobotDomain) -> list[str]:
    """Return the groups in which two domains of one robot differ, in the table's order."""
    own, other = dict(source.settings), dict(target.settings)
    names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
    differing = set(map(find_group, names))
    if source.effects != target.effects:
        differing.add(GAPS)
    if source.numerics != target.numerics:
        differing.add(NUMERICS_GROUP)
    if source.engine != target.engine:
        differing.add(ENGINE_GROUP)
    order = (*GROUP_ENDINGS, OTHER, GAPS, NUMERICS_GROUP, ENGINE_GROUP)
    return [group for group in order if group in differing]


def copy_groups(source: RobotDomain, target: RobotDomain, groups: Iterable[str]) -> RobotDomain:
    """Return the target with some groups of settings as the source has them.

    Raises BadValue, in one line, where its engine lacks one of them.
    """
    copied = target
    for group in groups:
        copied = _copy_group(source, copied, group)
    # Read again: what no engine can compute together is refused.
    checked = parse_domain(str(copied))
    assert isinstance(checked, RobotDomain)
    return checked


def _copy_group(source: RobotDomain, target: RobotDomain, group: str) -> RobotDomain:
    if group == ENGINE_GROUP:
        return replace(target, engine=source.engine)
    if group == NUMERICS_GROUP:
        return replace(target, numerics=source.numerics)
    settings = {}
    for domain, is_taken in ((target, False), (source, True)):
        for name, setting in domain.settings:
            if (find_group(name) == group) == is_taken:
                settings[name] = setting
    copied = replace(target, settings=tuple(sorted(settings.items())))
    if group == GAPS:
        copied = replace(copied, effects=source.effects)
    return copied
