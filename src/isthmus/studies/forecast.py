"""A forecast of what the rest of a study will cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.studies.results import read_whole
from isthmus.studies.scheduling import list_missing, schedule
from isthmus.studies.trial import SCALE_NAMES, AnyTrial, Trial

Rates = dict[str, list[float]]
"""Seconds a training step, or a whole trial, of finished files, by experiment or method."""


def forecast(trials: Sequence[AnyTrial], results: Path, runs: Path, workers: int) -> str:
    """Return in words what is left to run will cost, a trial by the wall time a step of the same
    experiment's files (any seed, also of another scale, but that smoke is no measure of others);
    else of its method's; else of all. Medians, for some of them were made on busy machines.
    """
    left: list[AnyTrial] = []
    for wave in schedule(trials, results, runs):
        left += wave
    if not left:
        return _describe_none_left(trials, results)
    amount = _describe_left(left, trials, results)
    smoke = left[0].name.startswith("smoke-")
    rates = _read_rates(results, smoke)
    if not rates:
        return f"{amount}; no unit has been timed yet"
    seconds = _forecast_seconds(left, trials, rates, _read_durations(results, smoke))
    minutes = f"{seconds / 60 / workers:,.0f}"
    return f"{amount}: about {minutes} minutes, {workers} at once, at the rates of finished units"


def _describe_none_left(trials: Sequence[AnyTrial], results: Path) -> str:
    waiting = len(list_missing(trials, results))
    if waiting:
        return f"{waiting} of {len(trials)} units wait"
    return f"all {len(trials)} units are there"


def _describe_left(left: Sequence[AnyTrial], trials: Sequence[AnyTrial], results: Path) -> str:
    steps = sum(trial.steps for trial in left)
    missing = len(list_missing(left, results))
    again = len(left) - missing
    amount = f"{missing} of {len(trials)} units are left, {steps:,} training steps"
    if again:
        amount += (
            f" with those of {again} more whose runs others stand on and are not there any more"
        )
    return amount


def _forecast_seconds(
    left: Sequence[AnyTrial], trials: Sequence[AnyTrial], rates: Rates, durations: Rates
) -> float:
    """Return the seconds that what is left of the trials will take, one after another."""
    seconds, of_methods = 0.0, _pool_by_method(trials, rates)
    for trial in left:
        if trial.steps:
            seconds += trial.steps * _find_rate(trial, rates, of_methods)
        else:
            seconds += np.median(durations.get(_strip_scale_and_seed(trial.name), [0.0]))
    return seconds


def _find_rate(trial: AnyTrial, rates: Rates, of_methods: Rates) -> float:
    """Return the seconds a training step of a trial."""
    known = rates.get(_strip_scale_and_seed(trial.name))
    if not known and isinstance(trial, Trial):
        known = of_methods.get(trial.method)
    return float(np.median(known or np.concatenate([*rates.values()])))


def _pool_by_method(trials: Sequence[AnyTrial], rates: Rates) -> Rates:
    method_of: dict[str, str] = {}
    for trial in trials:
        if isinstance(trial, Trial):
            method_of[_strip_scale_and_seed(trial.name)] = trial.method
    pooled: Rates = {}
    for experiment, method in method_of.items():
        pooled.setdefault(method, []).extend(rates.get(experiment, []))
    return pooled


def _read_rates(results: Path, smoke: bool) -> Rates:
    """Read the seconds a training step of the files that are there, by experiment."""
    rates: Rates = {}
    for experiment, seconds, steps in _read_times(results, smoke):
        if steps:
            rates.setdefault(experiment, []).append(seconds / steps)
    return rates


def _read_durations(results: Path, smoke: bool) -> Rates:
    """Read the seconds of the files whose trials take no steps, by experiment."""
    durations: Rates = {}
    for experiment, seconds, steps in _read_times(results, smoke):
        if not steps:
            durations.setdefault(experiment, []).append(seconds)
    return durations


def _read_times(results: Path, smoke: bool) -> list[tuple[str, float, float]]:
    """Read each file's experiment, wall seconds and training steps."""
    times = []
    for path in sorted(results.glob("*.csv")):
        if not path.stem.endswith("-claims") and path.stem.startswith("smoke-") == smoke:
            meta = read_whole(path)
            seconds, steps = meta.value("meta", "wall_seconds"), meta.value("meta", "steps")
            times.append((_strip_scale_and_seed(path.stem), seconds, steps))
    return times


def _strip_scale_and_seed(name: str) -> str:
    """Return a trial's name without scale and seed."""
    return re.sub(rf"^({'|'.join(SCALE_NAMES)})-|-s\d+$", "", name)
