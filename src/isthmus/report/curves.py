"""Learning curves as data: what runs logged while they trained, and bands over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.training.run import Run

COLUMN_KEYS = ("source_steps", "target_transitions", "source_return", "target_return")
SOURCE_STEPS, TARGET_TRANSITIONS, SOURCE_RETURN, TARGET_RETURN = range(4)

HEALTH_TITLES = {
    "training_return": "return while training",
    "explained_variance": "explained variance of the critic",
    "kl": "KL of the update, nats",
    "clip_fraction": "clipped fraction of the ratios",
    "entropy": "entropy of the policy, nats",
}
"""The metrics of a learner's health, by their name in metrics.jsonl, and their titles."""

MIN_BAND_SEEDS = 3
"""Seeds from which on curves get a band: of two, it is 13 times as wide as they lie apart."""


class Curves(NamedTuple):
    """One method's training.

    `seeds` has one array a seed, float64 [evaluations, 4]: source steps, target transitions, source
    return, target return (NaN where a domain was not evaluated). `health` has one mapping a seed:
    metric -> float64 [rounds, 2], steps in both domains together and the metric.
    """

    name: str
    role: str  # "floor", "ceiling" or ""
    seeds: list[np.ndarray]
    health: list[dict[str, np.ndarray]]

    def is_known(self, column: int) -> bool:
        """Return whether any evaluation has a value in a column."""
        return bool(np.isfinite(np.concatenate(self.seeds)[:, column]).any())


class Band(NamedTuple):
    """Steps, the mean over seeds, and the ends of its interval, each float64 [evaluations].

    The ends are NaN where there is one seed only.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def read_curves(name: str, runs: Sequence[Run], role: str = "") -> Curves:
    """Read what runs of one method, one a seed, logged; lines that are damaged are left out."""
    seeds, health = [], []
    for run in runs:
        rows = read_metrics(run)
        seeds.append(_collect_evaluations(rows))
        health.append(_collect_health(rows))
    return Curves(name, role, seeds, health)


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl that are as the training loop writes them.

    Each has a kind, and numbers, both counters among them.
    """
    try:
        rows = run.metrics()
    except (OSError, ValueError):  # it cannot be read, or is no text
        return []
    return list(filter(_is_sound, rows))


def _is_sound(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    numbers = {**row}
    kind = numbers.pop("kind", None)
    if kind is None or not {"source_steps", "target_transitions"} <= numbers.keys():
        return False
    return all(isinstance(number, int | float) for number in numbers.values())


def _collect_evaluations(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the evaluations, float64 [evaluations, 4], in the order of COLUMN_KEYS."""
    points = []
    for row in rows:
        if row["kind"] == "evaluation":
            points.append([row.get(key, np.nan) for key in COLUMN_KEYS])
    return np.array(points, np.float64).reshape(-1, 4)


def _collect_health(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the learner's metrics of all rounds, metric -> [rounds, 2]."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["kind"] == "round":
            steps = row["source_steps"] + row["target_transitions"]
            for metric in HEALTH_TITLES.keys() & row.keys():
                points.setdefault(metric, []).append((steps, row[metric]))
    return {metric: np.array(pairs) for metric, pairs in points.items()}


def estimate_band(seeds: Sequence[np.ndarray], x: int, y: int) -> Band:
    """Return the mean of column `y` over seeds and its interval, at the mean of column `x`.

    At the evaluations that all seeds have reached; the interval is `statistics.interval`'s.
    """
    reached = []
    for seed in seeds:
        evaluated = seed[np.isfinite(seed[:, y])]
        if len(evaluated):
            reached.append(evaluated)
    points = []
    for i in range(min(map(len, reached), default=0)):
        step = np.mean([seed[i, x] for seed in reached])
        estimate = statistics.interval([seed[i, y] for seed in reached])
        points.append((step, estimate.value, estimate.low, estimate.high))
    columns = np.array(points, np.float64).reshape(-1, 4).T
    columns[~np.isfinite(columns)] = np.nan
    return Band(*columns)


def spends(seeds: Sequence[np.ndarray], column: int) -> bool:
    """Return whether a method took any of what a column of its seeds counts."""
    return bool((np.concatenate(seeds)[:, column] > 0).any())
