"""The off-dynamics study: where each method ends between the target's own floor and ceiling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.off_dynamics.trials import (
    CEILING,
    FLOOR,
    HOME,
    METHODS,
    PUBLISHED,
    SCALES,
    list_off_dynamics_trials,
    name_robot,
)
from isthmus.studies.learning_curves import Scores
from isthmus.studies.results import Results
from isthmus.studies.study import Line, Panel, Study
from isthmus.studies.trial import parse_trial_name

SMALLEST_WAY = 0.1  # of the ceiling: where floor and ceiling are nearer, no score is given

Table = dict[str, dict[str, dict[int, Results]]]
"""Results by target, approach and seed."""


class Way(NamedTuple):
    """What lies between a target's floor and its ceiling, means over seeds."""

    floor: float
    ceiling: float

    @property
    def is_open(self) -> bool:
        """Whether the ceiling is far enough above the floor to score by."""
        return self.ceiling - self.floor > SMALLEST_WAY * abs(self.ceiling)


def group_results(results: dict[str, Results]) -> Table:
    """Return the results by target, approach and seed."""
    table: Table = {}
    for name, result in results.items():
        _, target, approach, seed = parse_trial_name(name)
        if approach != HOME:
            table.setdefault(target, {}).setdefault(approach, {})[seed] = result
    return table


def measure_returns(by_seed: dict[int, Results]) -> Scores:
    """Return the final policy's mean return in the target, a number a seed."""
    return {seed: result.value("final", "target_return") for seed, result in by_seed.items()}


def measure_way(by_approach: dict[str, dict[int, Results]]) -> Way | None:
    """Return a target's floor and ceiling; None where either was not run."""
    if not {FLOOR, CEILING} <= by_approach.keys():
        return None
    ends = (measure_returns(by_approach[approach]) for approach in (FLOOR, CEILING))
    return Way(*(float(np.mean([*scores.values()])) for scores in ends))


def report_off_dynamics(results: dict[str, Results]) -> list[str]:
    """Return, as lines, what each method reached in each target, and the share of the way from
    floor to ceiling.
    """
    table = group_results(results)
    lines = [statistics.INTERVALS]
    for target, by_approach in table.items():
        way = measure_way(by_approach)
        lines.append(_describe_target(target, way))
        for approach in METHODS:
            if approach in by_approach:
                lines.append(_describe_approach(target, approach, by_approach, way))
    return lines


def _describe_target(target: str, way: Way | None) -> str:
    if way is None:
        return f"{target}: floor or ceiling not run"
    if not way.is_open:
        return (
            f"{target}: floor {way.floor:.0f} and ceiling {way.ceiling:.0f} leave nothing to cross"
        )
    return f"{target}: floor {way.floor:.0f}, ceiling {way.ceiling:.0f}"


def _describe_approach(
    target: str, approach: str, by_approach: dict[str, dict[int, Results]], way: Way | None
) -> str:
    returns = np.array([*measure_returns(by_approach[approach]).values()])
    line = (
        f"  {approach:22} J {_describe_interval(returns, '.0f')}, {statistics.seeds(len(returns))}"
    )
    if way is not None and way.is_open and approach not in (FLOOR, CEILING):
        shares = (returns - way.floor) / (way.ceiling - way.floor)
        line += f", {_describe_interval(shares, '.2f')} of the way"
    published = PUBLISHED.get(target, {}).get(approach)
    return line if published is None else f"{line} (VGDF's Table 1: {published})"


def _describe_interval(values: np.ndarray, form: str) -> str:
    found = statistics.interval(values)
    if found.n < 2:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def draw_off_dynamics(results: dict[str, Results]) -> dict[str, list[Panel]]:
    """Return a picture a robot: its panels are targets, curves of the return in the target."""
    pictures: dict[str, list[Panel]] = {}
    for target, by_approach in group_results(results).items():
        pictures.setdefault(f"{name_robot(target)}.png", []).append(
            _draw_target(target, by_approach)
        )
    return pictures


def _draw_target(target: str, by_approach: dict[str, dict[int, Results]]) -> Panel:
    lines = []
    for approach in METHODS:
        by_seed = by_approach.get(approach, {})
        if by_seed and approach in (FLOOR, CEILING):
            role = "floor" if approach == FLOOR else "ceiling"
            levels = [np.array([[0.0, height]]) for height in measure_returns(by_seed).values()]
            lines.append(Line(METHODS[approach], levels, role))
        elif by_seed:
            lines.append(Line(approach.replace("_", " "), [*map(_read_curve, by_seed.values())]))
    return Panel(target, "steps in the source", "return in the target", lines)


def _read_curve(result: Results) -> np.ndarray:
    """Return [points, 2]: steps of the source, and the return in the target; of what steps the
    target alone its end, as a level.
    """
    curve = result.curve("target_return")[:, [0, 2]]
    if curve[:, 0].any():
        return curve
    return np.array([[0.0, statistics.final(curve)]])


STUDY = Study(
    "off-dynamics",
    "ODRL's shifts between floor and ceiling",
    SCALES["paper"].targets,
    list_off_dynamics_trials,
    report_off_dynamics,
    draw_off_dynamics,
)
