"""Is a shift real, how large is it, and where does it show? Two domains from equal worlds, under
equal actions.
"""

from __future__ import annotations

import math

import numpy as np

from isthmus.audit.comparison import ComparisonResult, compare_all
from isthmus.audit.contacts import Frictions, measure_contacts
from isthmus.audit.effect import NO_CHANGE
from isthmus.audit.observed import list_observed
from isthmus.audit.plan import (
    FOOT,
    AuditPlan,
    FootFriction,
    PlannedDifference,
    VariantComparison,
)
from isthmus.audit.result import (
    Audit,
    AuditPoint,
    ComparedValues,
    ObservedDimension,
    SettingDifference,
)
from isthmus.audit.stepping import count_episodes
from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.types import BadValue

Results = dict[VariantComparison, ComparisonResult]


def audit(
    source: Domain | str,
    target: Domain | str,
    episodes: int = 16,
    seed: int = 0,
    policy: PolicyLike | None = None,
) -> Audit:
    """Compare two domains of one task, or what their texts say, from equal worlds.

    The actions of `episodes` episodes are random, from weak to as strong as the motors allow; with
    a `policy` there are as many others in which it acts, on what it observes in the source. A
    distribution that is the same on both sides is held at its middle. Raises BadValue where the two
    cannot be put into equal worlds.
    """
    source, target = as_domain(source), as_domain(target)
    _check_comparable(source, target)
    plan = AuditPlan(source, target)
    together, differences, feet = (
        plan.list_together(),
        plan.list_differences(),
        plan.list_inert_feet(),
    )
    comparisons = [*together, *_list_comparisons(differences), *feet.values()]
    results = compare_all(plan, comparisons, episodes, seed, policy)
    alone = _measure_alone(differences, results)
    notes = (
        *_note_inert_feet(plan, feet, results),
        *_note_inert_settings(alone),
        *dict.fromkeys([*source.left_out(), *target.left_out()]),
        *_note_rewards(source, target),
    )
    return Audit(
        source=str(source),
        target=str(target),
        points=_measure_points(plan, together, results, seed),
        alone=alone,
        dimensions=_measure_dimensions(source, together, results),
        notes=notes,
        episodes=count_episodes(episodes, policy),
    )


def _list_comparisons(differences: list[PlannedDifference]) -> list[VariantComparison]:
    comparisons = []
    for difference in differences:
        for point in difference.points:
            comparisons.append(point.comparison)
    return comparisons


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
    plan: AuditPlan, together: list[VariantComparison], results: Results, seed: int
) -> tuple[AuditPoint, ...]:
    contacts = measure_contacts(plan, together, seed)
    points = []
    for k, comparison in enumerate(together):
        result = results[comparison]
        contact = _join_contacts(contacts[comparison.source], contacts[comparison.target])
        points.append(
            AuditPoint(
                plan.format_point(k), result.effect, contact, result.lengths, result.diverged
            )
        )
    return tuple(points)


def _join_contacts(source: Frictions, target: Frictions) -> dict[str, tuple[float, float]]:
    """Return the friction in source and target by part, NaN where one never touched the floor."""
    joined = {}
    for part in sorted({*source, *target}):
        joined[part] = source.get(part, math.nan), target.get(part, math.nan)
    return joined


def _measure_alone(
    differences: list[PlannedDifference], results: Results
) -> tuple[SettingDifference, ...]:
    alone = []
    for name, source, target, planned in differences:
        points = []
        for point in planned:
            effect = results[point.comparison].effect
            points.append(ComparedValues(point.source, point.target, effect))
        alone.append(SettingDifference(name, source, target, tuple(points)))
    return tuple(alone)


def _measure_dimensions(
    source: Domain, together: list[VariantComparison], results: Results
) -> tuple[ObservedDimension, ...]:
    """Return each observed number at worst of all points."""
    numbers = []
    for comparison in together:
        result = results[comparison]
        numbers.append((result.std, result.one_step, result.apart))
    worst = np.max(numbers, axis=0)  # [3, O]
    dimensions = map(ObservedDimension, list_observed(source), *worst.tolist())
    return tuple(dimensions)


def _note_inert_feet(
    plan: AuditPlan, feet: dict[FootFriction, VariantComparison], results: Results
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


def _note_inert_settings(differences: tuple[SettingDifference, ...]) -> list[str]:
    notes = []
    for difference in differences:
        if difference.is_inert:
            notes.append(
                f"{difference.name} has no effect here: {NO_CHANGE} by it alone, to the bit"
            )
    return notes


def _note_rewards(source: Domain, target: Domain) -> list[str]:
    if source.reward == target.reward:
        return []
    return [
        f"the rewards differ, {source.reward} -> {target.reward}: not compared here, dynamics are"
    ]
