"""A study is one paper's table of trials, and the analysis of what they wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from isthmus.evaluation.landscape import Landscape
from isthmus.studies.claims import Claim
from isthmus.studies.results import Results, Row
from isthmus.studies.trial import AnyTrial
from isthmus.training.run import Run


class Line(NamedTuple):
    """One approach in a panel: one array [points, 2] a seed. One that never leaves x = 0 is drawn
    as a level.
    """

    name: str
    seeds: list[np.ndarray]
    role: str = ""  # "floor", "ceiling" or ""


class Panel(NamedTuple):
    """Curves of approaches, means with their intervals over seeds."""

    title: str
    x: str
    y: str
    lines: list[Line]


TitledLandscape = tuple[str, Landscape]
Pictures = Mapping[str, Sequence[TitledLandscape] | Sequence[Panel]]
"""Each picture's name and what is on it side by side: landscapes with titles, or panels."""

Measure = Callable[[Run, Run | None], list[Row]]
"""Gives rows of the study's own for a trial's file, from its run and the one that it is measured
against, or else started from. It is a module's function: processes call it.
"""


def measure_nothing(run: Run, reference: Run | None) -> list[Row]:
    """Return no rows: a study that measures nothing of its own."""
    return []


def _draw_nothing(results: dict[str, Results]) -> Pictures:
    return {}


def _claim_nothing(results: dict[str, Results]) -> list[Claim]:
    return []


@dataclass(frozen=True)
class Study:
    """`trials(scale, figure)` is the table; `report` gives what came out as lines, `claims` what it
    means for the paper's claims, `pictures` what to draw, as data. `scenes` are, by figure, titles
    and domains to look at.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    trials: Callable[[str, str | None], Sequence[AnyTrial]]
    report: Callable[[dict[str, Results]], list[str]]
    pictures: Callable[[dict[str, Results]], Pictures] = _draw_nothing
    claims: Callable[[dict[str, Results]], list[Claim]] = _claim_nothing
    measure: Measure = measure_nothing
    scenes: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
