"""Scores that DAP's claims compare: returns in the target of an approach's runs, by seed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from isthmus.evaluation import statistics
from isthmus.studies.contrasts import Contrast, Wanted
from isthmus.studies.learning_curves import CurveSet, Scores, compare_scores


def final_returns(c: CurveSet, approach: str) -> Scores:
    """Return J: the mean return of a run's last tenth."""
    low, high = c.limits
    return {seed: low + (high - low) * final for seed, final in c.final(approach).items()}


def highest_returns(c: CurveSet, approach: str) -> Scores:
    """Return the highest return of each run."""
    curves = c.raw.get(approach, {})
    return {seed: float(curve[:, 1].max()) for seed, curve in curves.items()}


def mean_returns(c: CurveSet, approach: str) -> Scores:
    """Return AUC: the mean height of a curve."""
    curves = c.raw.get(approach, {})
    return {seed: statistics.area(curve, c.horizon) for seed, curve in curves.items()}


def returns_at(c: CurveSet, approach: str, share: float) -> Scores:
    """Return the returns after a share of training."""
    returns = {}
    for seed, curve in c.raw.get(approach, {}).items():
        returns[seed] = float(np.interp(share * c.horizon, *curve.T))
    return returns


def equality_margin(c: CurveSet, floor: str = "source") -> float:
    """Return what counts as equal: a fifth of the floor's mean J; NaN where that was not run."""
    returns = [*final_returns(c, floor).values()]
    return 0.2 * abs(float(np.mean(returns))) if returns else float("nan")


def compare_finals(
    c: CurveSet, a: str, b: str, wanted: Wanted = "above", floor: str = "source"
) -> Contrast | None:
    """Compare two approaches by J."""
    return compare_scores(
        f"{c.name}: J {a} - {b}",
        final_returns(c, a),
        final_returns(c, b),
        wanted,
        equality_margin(c, floor),
        shared=share_logs(a, b),
    )


def policy_behind(approach: str) -> str:
    """Return the approach whose policy of the same seed logs the target for this one: itself of
    those that log.
    """
    if approach == "target" or approach.endswith("_expert"):
        return "target"
    return "ppo" if approach == "ppo" or approach.startswith("garat") else "source"


def share_logs(a: str, b: str) -> bool:
    """Return whether seed i of both stands on one policy's log, or made it."""
    return policy_behind(a) == policy_behind(b)


def best_of(c: CurveSet, approaches: Iterable[str]) -> str:
    """Return the one with the highest mean J among those that were run."""

    def mean_final(approach: str) -> float:
        return float(np.mean([*final_returns(c, approach).values()]))

    return max(filter(c.raw.get, approaches), key=mean_final)
