"""Tests of what varies: lambda (M11), the shift's size (M27), and what seeds and settings do to
adversarial training (M28).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from isthmus.papers.matl.experiments import LAMBDAS, SHIFT_SIZES, VARIED_SETTINGS
from isthmus.studies.contrasts import Contrast, Contrasts, best_among
from isthmus.studies.learning_curves import (
    CurveSet,
    Scores,
    compare_unpaired,
    scan_approaches,
)


def compare_lambdas(curve_sets: list[CurveSet]) -> Contrasts:
    """Test that the best lambda lies above 0.1 where rewards conflict, and that its range matters
    more there than on a sparse task.
    """
    hopper, cart = curve_sets
    by_lambda = scan_approaches(hopper.raw, "matl_")
    if not {*LAMBDAS} <= by_lambda.keys() or not scan_approaches(cart.raw, "matl_"):
        yield None
        return
    scores = {weight: hopper.final(approach) for weight, approach in by_lambda.items()}
    above = [weight for weight in by_lambda if weight > 0.1]
    best = max(above, key=lambda weight: sum(scores[weight].values()) / len(scores[weight]))
    label = f"{hopper.name}: J of lambda {best:g} - of 0.1"
    largest = compare_unpaired(label, scores[best], scores[0.1], "above", hopper.margin)
    yield largest and best_among(largest, len(above))
    yield compare_unpaired(
        "range of J over lambda, hopper-uninformative - cartpole-sparse",
        _measure_spread(hopper),
        _measure_spread(cart),
    )


def _measure_spread(c: CurveSet) -> Scores:
    """Return the range of J over lambda, for the seeds that all lambdas have."""
    scores = [c.final(approach) for approach in scan_approaches(c.raw, "matl_").values()]
    spread = {}
    for seed in set.intersection(*map(set, scores)):
        finals = [of_lambda[seed] for of_lambda in scores]
        spread[seed] = max(finals) - min(finals)
    return spread


def compare_shift_sizes(curve_sets: list[CurveSet]) -> Contrasts:
    """Test that MATL gains where direct transfer fails, at the smallest shift, and gains less the
    larger the shift. AUC's slope is a seed's own, by the logarithm of the shift's size.
    """
    by_size = {SHIFT_SIZES[curves.name]: curves for curves in curve_sets}
    if len(by_size) < len(SHIFT_SIZES):
        yield None
        return
    smallest = by_size[min(by_size)]
    for score, name, other in (
        (smallest.area, "AUC", "independent"),
        (smallest.final, "J", "direct_transfer"),
    ):
        label = f"{smallest.name}: {name} matl - {other}"
        yield compare_unpaired(label, score("matl"), score(other), "above", smallest.margin)
    label = "slope of AUC by the log of the shift, matl - independent"
    slopes = _measure_slopes(by_size, "matl"), _measure_slopes(by_size, "independent")
    yield compare_unpaired(label, *slopes, "below")


def _measure_slopes(by_size: Mapping[float, CurveSet], approach: str) -> Scores:
    """Return AUC's slope by the shift's logarithm, for the seeds that all sizes have."""
    areas = {math.log(size): curves.area(approach) for size, curves in by_size.items()}
    slopes = {}
    for seed in set.intersection(*map(set, areas.values())):
        heights = [of_size[seed] for of_size in areas.values()]
        slopes[seed] = float(np.polyfit([*areas], heights, 1)[0])
    return slopes


def compare_instability(curve_sets: list[CurveSet]) -> Contrasts:
    """Test that MATL's seeds scatter more than independent's, over lambda and the discriminator's
    settings (Brown and Forsythe 1974), that more of them collapse, and that settings matter.
    """
    for c in curve_sets:
        if not {*VARIED_SETTINGS, "independent"} <= c.raw.keys():
            yield None
            continue
        for name, measure in (("|J - its median|", _scatter), ("share of seeds lost", _collapse)):
            of_matl = _average_over_settings(c, VARIED_SETTINGS, measure)
            of_independent = _average_over_settings(c, ["independent"], measure)
            label = f"{c.name}: {name}, matl over its settings - independent"
            yield compare_unpaired(label, of_matl, of_independent)
        yield _compare_extremes(c)


def _average_over_settings(
    c: CurveSet, settings: Iterable[str], measure: Callable[[CurveSet, Scores], Scores]
) -> Scores:
    """Return a measure's mean over settings, for each seed that any of them has."""
    by_seed: dict[int, list[float]] = {}
    for approach in settings:
        for seed, value in measure(c, c.final(approach)).items():
            by_seed.setdefault(seed, []).append(value)
    return {seed: float(np.mean(values)) for seed, values in by_seed.items()}


def _scatter(c: CurveSet, finals: Scores) -> Scores:
    """Return how far each seed's J is from their median."""
    values = np.array([*finals.values()])
    return dict(zip(finals, np.abs(values - np.median(values)), strict=True))


def _collapse(c: CurveSet, finals: Scores) -> Scores:
    """Return 1 for each seed that gains less than half of what the median gains, else 0."""
    values = np.array([*finals.values()])
    half = c.start + 0.5 * (np.median(values) - c.start)
    return dict(zip(finals, (values < half).astype(float), strict=True))


def _compare_extremes(c: CurveSet) -> Contrast | None:
    """Compare the best setting's J with the worst's, which were picked as such."""

    def mean_final(approach: str) -> float:
        return float(np.mean([*c.final(approach).values()]))

    best, worst = max(VARIED_SETTINGS, key=mean_final), min(VARIED_SETTINGS, key=mean_final)
    label = f"{c.name}: J {best} - {worst}"
    largest = compare_unpaired(label, c.final(best), c.final(worst), "above", c.margin)
    return largest and best_among(largest, math.comb(len(VARIED_SETTINGS), 2))
