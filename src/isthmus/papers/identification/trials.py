"""The study of identification as trials.

coverage   hidden robots, three noises each: do the intervals hold the truth?
"""

from __future__ import annotations

from typing import NamedTuple

from isthmus.papers.identification.coverage import measure_coverage
from isthmus.studies.trial import AnyTrial, Measurement

FIGURES = ("coverage",)
COVERED_TASKS = ("hopper", "half_cheetah", "walker2d")
NOISES = (0.01, 0.0, 0.05)  # of each observed number's spread; the one that claims ask for first
COVERAGE = "coverage_"  # before the robot's name, in a trial's


class CoverageScale(NamedTuple):
    """How many hidden robots of each task, and how long a log of each."""

    tasks: tuple[str, ...]
    noises: tuple[float, ...]
    robots: int
    transitions: int


SCALES = {
    "smoke": CoverageScale(("hopper",), (0.0,), 2, 300),
    "laptop": CoverageScale(COVERED_TASKS, NOISES, 100, 5_000),
    "paper": CoverageScale(COVERED_TASKS, NOISES, 100, 5_000),
}


def list_identification_trials(scale: str, figure: str | None) -> list[AnyTrial]:
    """Return a figure's trials, or all: robot after robot, so that a study cut short has of all
    tasks.
    """
    if figure not in (None, "coverage"):
        return []
    size = SCALES[scale]
    trials: list[AnyTrial] = []
    for noise in size.noises:
        for seed in range(size.robots):
            for task in size.tasks:
                given = {"task": task, "transitions": size.transitions, "noise": noise}
                name = f"{scale}-{COVERAGE}{task}-noise{noise:g}-s{seed}"
                trials.append(Measurement(name, measure_coverage, seed, given))
    return trials
