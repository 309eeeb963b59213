"""Scores of ES-sim2real's claims: mean returns over parts of a landscape, by agent and seed."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from isthmus.studies.learning_curves import ResultsBySeed, Scores, subtract_scores
from isthmus.studies.results import Results

KEY, BEFORE = "as_published", "as_published-before"
BOX_FRICTION, BOX_MASS = (1.5, 2.5), (1.0, 9.0)  # the training range, kg
CELL_FRICTION, CELL_MASS = 0.2, 1.0  # a cell of the published grid, kg
ResultsByAgent = dict[str, ResultsBySeed]


class Regions(NamedTuple):
    """Mean returns over parts of a landscape."""

    all: float
    box: float
    outside: float
    gripping: float  # outside, friction above 1
    near: float  # outside, at most two cells from the box
    far: float
    spread: float  # standard deviation over the box's cells
    worst: float  # mean of the box's worst tenth


def average_regions(result: Results, key: str) -> Regions:
    """Average a landscape over its regions: the training box has 48 of 180 cells."""
    friction, mass, returns = result.cells(key)
    friction_away = _measure_distance(friction, BOX_FRICTION)[:, None]
    mass_away = _measure_distance(mass, BOX_MASS)[None]
    box = (friction_away < 1e-6) & (mass_away < 1e-6)
    cells_away = np.maximum(friction_away / CELL_FRICTION, mass_away / CELL_MASS)
    inside = returns[box]
    num_worst = max(1, box.sum() // 10)
    return Regions(
        all=float(returns.ravel().mean()),
        box=_average(returns, box),
        outside=_average(returns, ~box),
        gripping=_average(returns, ~box & (friction > 1)[:, None]),
        near=_average(returns, ~box & (cells_away < 2.5)),
        far=_average(returns, cells_away >= 2.5),
        spread=float(inside.std()),
        worst=float(np.sort(inside)[:num_worst].mean()),
    )


def _measure_distance(x: np.ndarray, interval: tuple[float, float]) -> np.ndarray:
    low, high = interval
    return np.maximum(np.maximum(low - x, x - high), 0)


def _average(returns: np.ndarray, cells: np.ndarray) -> float:
    return float(returns[cells].mean()) if cells.any() else np.nan


def region_scores(r: ResultsByAgent, agent: str, region: str, key: str = KEY) -> Scores:
    """Return an agent's mean returns over a region, for the seeds that have the landscape."""
    scores = {}
    for seed, result in r.get(agent, {}).items():
        if result.has("cell", key):
            scores[seed] = getattr(average_regions(result, key), region)
    return scores


def source_scores(r: ResultsByAgent, agent: str) -> Scores:
    """Return the returns at mass 6 and friction 2, the source."""
    results = r.get(agent, {})
    return {seed: result.value("final", "source_return") for seed, result in results.items()}


def adaptation_gains(r: ResultsByAgent, agent: str, region: str = "outside") -> Scores:
    """Return what adapting adds."""
    after, before = (region_scores(r, agent, region, key) for key in (KEY, BEFORE))
    return subtract_scores(after, before)


def run_behind(r: ResultsByAgent, agent: str) -> str:
    """Return the agent whose runs this one's start from, seed by seed; itself where they start from
    nothing.
    """
    names: set[str] = set()
    for result in r.get(agent, {}).values():
        start = re.sub(r"-s\d+$", "", str(result.meta.get("start") or agent))
        names.add(start.rsplit("-", 1)[-1])
    return names.pop() if len(names) == 1 else agent


def share_runs(r: ResultsByAgent, a: str, b: str) -> bool:
    """Return whether seed i of both stands on one run."""
    return run_behind(r, a) == run_behind(r, b)
