"""Whether the files of a run or of a comparison hold what a report says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.studies.compare import Comparison, ComparisonRow

CONFIG_KINDS = {
    "method": str,
    "settings": dict,
    "versions": dict,
    "seed": int,
    "steps": int,
    "start": str | None,
    "problem": dict,
}
PROBLEM_KINDS = {"name": str, "source": str, "target": str, "budget": dict}


def find_wrong_fields(config: Mapping[str, Any]) -> list[str]:
    """Return the fields of a run.json that are missing, or of another type than they should be."""
    wrong = _find_wrong_types(config, CONFIG_KINDS)
    if wrong:
        return wrong
    wrong = _find_wrong_types(config["problem"], PROBLEM_KINDS)
    if wrong:
        return wrong
    limits = config["problem"]["budget"]
    return _find_wrong_types(limits, dict.fromkeys(limits, int | float | None))


def _find_wrong_types(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    # Ellipsis stands for what is missing: it is of no type that a file has.
    return [name for name, kind in kinds.items() if not isinstance(values.get(name, ...), kind)]


def check_comparison(comparison: Comparison) -> None:
    """Raise ValueError or TypeError where a table could not be made of a comparison."""
    problem, rows = comparison.problem, comparison.rows
    texts = [problem["name"], problem["source"], problem["target"]]
    numbers = [comparison.seeds, comparison.steps, comparison.episodes]
    numbers += _drop_missing(problem["budget"].values())
    for row in rows:
        texts += [row.method, row.role, row.interval, row.verdict, *row.runs]
        numbers += _list_numbers(row)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is not what it should be")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not what it should be")
    if not rows:
        raise ValueError("there are no rows")
    for row in rows:
        if not row.scores or not row.runs:
            raise ValueError("there are rows without seeds")


def _list_numbers(row: ComparisonRow) -> list[float]:
    """Return all numbers of a row; the ends of intervals may be missing."""
    floor = (row.against_floor, row.against_floor_low, row.against_floor_high)
    return [
        row.value,
        *row.scores,
        row.source_steps,
        row.target_transitions,
        row.logged_transitions,
        row.adaptation_transitions,
        *_drop_missing((row.low, row.high, *floor)),
    ]


def _drop_missing(numbers: Iterable[float | None]) -> list[float]:
    return [number for number in numbers if number is not None]
