"""Is a shift real, how large is it, and where does it show? Two domains from equal worlds, under
equal actions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from isthmus.audit.comparison import ComparisonResult, compare_all
from isthmus.audit.contacts import measure_contacts
from isthmus.audit.effect import NO_CHANGE
from isthmus.audit.observed import list_observed
from isthmus.audit.plan import FOOT, AuditPlan, Comparison, FootFriction, PlannedDifference
from isthmus.audit.result import Audit, AuditPoint, ComparedValues, Difference, ObservedDimension
from isthmus.domains.domain import Domain
from isthmus.types import BadValue

Results = dict[Comparison, ComparisonResult]


def audit(
    source: Domain | str,
    target: Domain | str,
    episodes: int = 16,
    seed: int = 0,
    policy: Any = None,
) -> Audit:
    """Compare two domains of one task, or what their texts say, from equal worlds.

    The actions of `episodes` episodes are random, from weak to as strong as the motors allow; with
    a `policy` there are as many others in which it acts, on what it observes in the source. A
    distribution that is the same on both sides is held at its middle. Raises BadValue where the two
    cannot be put into equal worlds.
    """
    source, target = Domain.coerce(source), Domain.coerce(target)
    _check_comparable(source, target)
    plan = AuditPlan(source, target)
    together, differences, feet = plan.together(), plan.differences(), plan.inert_feet()
    comparisons = list(together)
    for difference in differences:
        comparisons += [point.comparison for point in difference.points]
    results = compare_all(plan, [*comparisons, *feet.values()], episodes, seed, policy)
    alone = tuple(_measure_alone(difference, results) for difference in differences)
    notes = [*_note_inert_feet(plan, feet, results), *_note_inert_settings(alone)]
    notes += dict.fromkeys([*source.left_out(), *target.left_out()])
    notes += _note_rewards(source, target)
    return Audit(
        str(source),
        str(target),
        _measure_points(plan, together, results, seed),
        alone,
        _measure_dimensions(source, [results[comparison] for comparison in together]),
        tuple(notes),
        episodes if policy is None else 2 * episodes,
    )


def _check_comparable(source: Domain, target: Domain) -> None:
    """Raise BadValue where two domains cannot be put into equal worlds."""
    for domain in (source, target):
        if not domain.replayable:
            raise BadValue(
                f"{domain} cannot be audited: its worlds cannot be put into a given state"
            )
    if source.task != target.task:
        raise BadValue(f"an audit compares two domains of one task, not {source} and {target}")
    sizes = source.spaces.observation, target.spaces.observation
    if sizes[0] != sizes[1]:
        raise BadValue(
            f"a policy sees {sizes[0]} numbers in {source} and {sizes[1]} in {target}: they do not "
            "fit"
        )


def _measure_points(
    plan: AuditPlan, together: list[Comparison], results: Results, seed: int
) -> tuple[AuditPoint, ...]:
    variants = []
    for comparison in together:
        variants += comparison
    contacts = measure_contacts(plan, variants, seed)
    points = []
    for k, comparison in enumerate(together):
        result = results[comparison]
        contact = _join_contacts(contacts[2 * k], contacts[2 * k + 1])
        points.append(
            AuditPoint(plan.label(k), result.effect, contact, result.lengths, result.diverged)
        )
    return tuple(points)


def _join_contacts(
    source: dict[str, float], target: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """Return the friction in source and target by part, NaN where one never touched the floor."""
    joined = {}
    for part in sorted({*source, *target}):
        joined[part] = source.get(part, math.nan), target.get(part, math.nan)
    return joined


def _measure_alone(difference: PlannedDifference, results: Results) -> Difference:
    points = []
    for source, target, comparison in difference.points:
        points.append(ComparedValues(source, target, results[comparison].effect))
    return Difference(difference.name, difference.source, difference.target, tuple(points))


def _measure_dimensions(
    source: Domain, results: list[ComparisonResult]
) -> tuple[ObservedDimension, ...]:
    """Return each observed number at worst of all points."""
    std = np.max([result.std for result in results], axis=0)
    one_step = np.max([result.one_step for result in results], axis=0)
    apart = np.max([result.apart for result in results], axis=0)
    dimensions = []
    for i, name in enumerate(list_observed(source)):
        numbers = float(std[i]), float(one_step[i]), float(apart[i])
        dimensions.append(ObservedDimension(name, *numbers))
    return tuple(dimensions)


def _note_inert_feet(
    plan: AuditPlan, feet: dict[FootFriction, Comparison], results: Results
) -> list[str]:
    notes = []
    for friction, comparison in feet.items():
        if results[comparison].effect.identical:
            notes.append(
                f"{FOOT}={friction.foot:g} is below the floor's {friction.floor:g}: contact takes "
                f"the larger, so it is {NO_CHANGE} against {FOOT}={friction.floor:g}, to the bit; "
                f"`{plan.of_all_contacts}` changes foot and floor"
            )
    return notes


def _note_inert_settings(differences: tuple[Difference, ...]) -> list[str]:
    inert = [difference.name for difference in differences if difference.is_inert]
    return [f"{name} has no effect here: {NO_CHANGE} by it alone, to the bit" for name in inert]


def _note_rewards(source: Domain, target: Domain) -> list[str]:
    if source.reward == target.reward:
        return []
    return [
        f"the rewards differ, {source.reward} -> {target.reward}: not compared here, dynamics are"
    ]
