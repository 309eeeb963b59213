"""Of an experiment's curves, those that a claim is decided by; and maxima, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from isthmus.papers.matl.experiments import MADE_AGAIN, OTHERS, TUNED_SUFFIX
from isthmus.studies.learning_curves import CurveSet, Scores


def choose_curves(figure: str, name: str, curve_sets: Mapping[str, CurveSet]) -> CurveSet | None:
    """Return an experiment's curves by the better settings where they have as many seeds, of a
    claim of a figure that was made again.
    """
    first, again = curve_sets.get(name), curve_sets.get(name + TUNED_SUFFIX)
    if again is None or not {*figure.split(", ")} <= MADE_AGAIN:
        return first
    if first and _count_seeds(again) < _count_seeds(first):
        return first
    return again


def _count_seeds(c: CurveSet) -> int:
    return len(c.raw.get("independent", ()))


def count_wins(curve_sets: list[CurveSet]) -> Scores:
    """Return, by seed, in which share of the scenarios MATLf has the highest maximum."""
    by_seed: dict[int, list[bool]] = {}
    for c in curve_sets:
        highest = [_find_maxima(c, approach) for approach in OTHERS]
        for seed in set.intersection(*map(set, highest)):
            maxima = [*map(itemgetter(seed), highest)]
            by_seed.setdefault(seed, []).append(maxima[-1] >= max(maxima))
    return {seed: sum(wins) / len(wins) for seed, wins in by_seed.items()}


def _find_maxima(c: CurveSet, approach: str) -> Scores:
    return {seed: float(curve[:, 1].max()) for seed, curve in c.curves(approach).items()}
