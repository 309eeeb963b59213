"""What an explanation says, as sentences and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from isthmus.evaluation.boxes import BoxTest, QuantileBox
from isthmus.evaluation.explain import LIMIT, Explanation, FailureRegion
from isthmus.evaluation.sensitivity import judge_indices
from isthmus.evaluation.statistics import CONFIDENCE_LEVEL, Estimate


def describe_box(explanation: Explanation, box: QuantileBox) -> str:
    """Say which values of which parameters a box holds; those of the whole range are left out.

    The empty text is the whole range.
    """
    ends, parts = explanation.locate(box), []
    for parameter in explanation.parameters:
        low, high = ends[parameter.name]
        bounded = (low > parameter.law.low, high < parameter.law.high)
        if bounded == (True, True):
            parts.append(f"{parameter.name} {low:.3g}..{high:.3g}")
        elif bounded == (True, False):
            parts.append(f"{parameter.name} above {low:.3g}")
        elif bounded == (False, True):
            parts.append(f"{parameter.name} below {high:.3g}")
    return ", ".join(parts)


def write_sentence(explanation: Explanation) -> str:
    """Return the largest box that holds, or that none does, as one sentence."""
    test = explanation.box
    if test is None:
        smallest = explanation.boxes[0]
        where = describe_box(explanation, smallest.box)
        if not where:
            where = "the whole range"
        return (
            f"No box around the nominal is known to keep failures under {LIMIT:.0%}: in the "
            f"smallest tried, {where}, {_count_failures(explanation, smallest)}."
        )
    where, place = describe_box(explanation, test.box), "In the whole range"
    if where:
        place = f"Within {where}"
    counted = _count_failures(explanation, test)
    return f"{place}, failures stay under {LIMIT:.0%}: {counted}."


def _count_failures(explanation: Explanation, test: BoxTest) -> str:
    return (
        f"{test.failures:,} of {test.episodes:,} fresh episodes {explanation.failing}, at most "
        f"{test.upper:.1%} at {CONFIDENCE_LEVEL:.0%} confidence (Clopper-Pearson)"
    )


def write_lines(explanation: Explanation) -> list[str]:
    """Return what the indices allow to say, the regions, and the box."""
    lines = []
    for what, indices in explanation.indices.items():
        lines.append(judge_indices(indices, what))
    for region in explanation.regions:
        lines.append(_write_region(explanation, region))
    if not explanation.regions:
        lines.append("no region was found in which failures are more frequent than elsewhere")
    return [*lines, write_sentence(explanation)]


def _write_region(explanation: Explanation, region: FailureRegion) -> str:
    share, where = region.failed, describe_box(explanation, region.box)
    if not where:
        where = "the whole range"
    return (
        f"{where}: {share.value:.0%} [{100 * share.low:.0f}, {100 * share.high:.0f}] of "
        f"{share.n:,} fresh episodes {explanation.failing}"
    )


def to_data(explanation: Explanation) -> dict[str, Any]:
    """Return all numbers as JSON has them."""
    parameters, indices, regions, boxes = [], {}, [], []
    for parameter in explanation.parameters:
        law, nominal = parameter.law, parameter.nominal
        ends = {"low": law.low, "high": law.high}
        parameters.append({"name": parameter.name, "law": law.kind, **ends, "nominal": nominal})
    for what, found in explanation.indices.items():
        indices[what] = [
            {"name": i.name, "first": _plain_estimate(i.first), "total": _plain_estimate(i.total)}
            for i in found
        ]
    for region in explanation.regions:
        box = explanation.locate(region.box)
        regions.append({"box": box, "failed": _plain_estimate(region.failed)})
    for test in explanation.boxes:
        boxes.append({**test._asdict(), "box": explanation.locate(test.box)})
    return {
        "domain": str(explanation.domain),
        "parameters": parameters,
        "threshold": explanation.threshold,
        "episodes": {"explored": explanation.explored, "fresh": explanation.fresh},
        "failed": _plain_estimate(explanation.failed_share),
        "indices": indices,
        "regions": regions,
        "boxes": boxes,
        "sentence": write_sentence(explanation),
    }


def _plain_estimate(estimate: Estimate) -> dict[str, Any]:
    data = asdict(estimate)
    for name in ("pvalue", "standard_error", "freedom"):
        del data[name]
    return data
