"""Scores of the study: shares of parameters, a number a hidden robot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from isthmus.identification.log_space import WHOLE_ROBOT
from isthmus.papers.identification.trials import COVERAGE
from isthmus.studies.results import Results
from isthmus.studies.trial import parse_trial_name


class Condition(NamedTuple):
    """A task and a noise's name, as a trial has it."""

    task: str
    noise: str


class Judged(NamedTuple):
    """What a fit said of one parameter of one robot."""

    name: str
    held: bool
    identified: bool
    tellable: bool
    width: float
    error: float


CoverageResults = Mapping[Condition, list[Results]]


def group_coverage(results: Mapping[str, Results]) -> CoverageResults:
    """Return the results of hidden robots by task and noise."""
    groups: dict[Condition, list[Results]] = {}
    for name, result in results.items():
        _, experiment, approach, _ = parse_trial_name(name)
        if experiment.startswith(COVERAGE):
            condition = Condition(experiment.removeprefix(COVERAGE), approach)
            groups.setdefault(condition, []).append(result)
    return groups


def list_judged(result: Results) -> list[Judged]:
    """Return what was said of each of a robot's parameters; nothing where the fit refused."""
    judged = []
    for name in WHOLE_ROBOT:
        if result.has("measure", f"{name}_held"):
            judged.append(
                Judged(
                    name,
                    bool(result.value("measure", f"{name}_held")),
                    bool(result.value("measure", f"{name}_identified")),
                    bool(result.value("measure", f"{name}_tellable")),
                    result.value("measure", f"{name}_width"),
                    result.value("measure", f"{name}_error"),
                )
            )
    return judged


def held_shares(results: Iterable[Results]) -> list[float]:
    """Return of each robot the share of its identified parameters whose interval holds the truth.

    A robot whose parameters are all not identified has none.
    """
    shares = []
    for result in results:
        held = [row.held for row in list_judged(result) if row.identified]
        if held:
            shares.append(float(np.mean(held)))
    return shares


def mistaken_shares(coverage: CoverageResults) -> dict[str, list[float]]:
    """Return by task, of each robot, the share of parameters that no log tells and that were called
    identified.
    """
    return _share_verdicts(coverage, tellable=False, identified=True)


def missed_shares(coverage: CoverageResults) -> dict[str, list[float]]:
    """Return by task, of each robot, the share of parameters that a log can tell and that were
    called not identified.
    """
    return _share_verdicts(coverage, tellable=True, identified=False)


def _share_verdicts(
    coverage: CoverageResults, *, tellable: bool, identified: bool
) -> dict[str, list[float]]:
    shares: dict[str, list[float]] = {}
    for condition, results in coverage.items():
        for result in results:
            rows = [row for row in list_judged(result) if row.tellable == tellable]
            if rows:
                share = float(np.mean([row.identified == identified for row in rows]))
                shares.setdefault(condition.task, []).append(share)
    return shares
