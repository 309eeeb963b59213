"""Intervals over episodes: of one policy, which is one seed. They say how exactly it was measured,
and nothing of what another training would give.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from isthmus.evaluation import statistics
from isthmus.evaluation.statistics import CONFIDENCE_LEVEL, Estimate
from isthmus.types import Episodes

OVER_EPISODES = "one policy is one seed: 95 % intervals over episodes, none over trainings"


class EpisodeSummary(NamedTuple):
    """Returns of one policy's episodes, and the shares that fell and that ended at the goal."""

    returns: Estimate
    spread: float  # standard deviation of a return
    fell: Estimate
    success: Estimate
    length: float


def summarize_episodes(episodes: Episodes) -> EpisodeSummary:
    """Return what E episodes of one policy say, with intervals over episodes: Student's of the
    mean return, Wilson's of shares.
    """
    return EpisodeSummary(
        returns=over_episodes(statistics.interval(episodes.returns)),
        spread=float(np.std(episodes.returns)),
        fell=wilson(episodes.terminated),
        success=wilson(episodes.success),
        length=float(np.mean(episodes.lengths)),
    )


def wilson(outcomes: ArrayLike, level: float = CONFIDENCE_LEVEL) -> Estimate:
    """Return the share of outcomes (bool [E]) that are true, with Wilson's interval (1927)."""
    outcomes = np.asarray(outcomes, bool)
    test = stats.binomtest(int(outcomes.sum()), len(outcomes))
    found = test.proportion_ci(level, method="wilson")
    return Estimate(
        float(outcomes.mean()), float(found.low), float(found.high), len(outcomes),
        "Wilson over episodes",
    )  # fmt: skip


def paired_episodes(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return how much the mean of `first` (E,) is above that of `second` (E,), paired by episode:
    both from equal starts in equal dynamics.
    """
    return over_episodes(statistics.difference(first, second, paired=True))


def compare_shares(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return how much the share of true outcomes in `first` (bool [E]) is above that in `second`.

    Newcombe's interval from the two of Wilson (1998, Statistics in Medicine 17:873, method 10):
    wider than pairing by episode would give, and right where no episode or all are true.
    """
    a, b = wilson(first), wilson(second)
    below = math.hypot(a.value - a.low, b.high - b.value)
    above = math.hypot(a.high - a.value, b.value - b.low)
    value = a.value - b.value
    return Estimate(value, value - below, value + above, min(a.n, b.n), "Newcombe over episodes")


def over_episodes(estimate: Estimate) -> Estimate:
    """Return an estimate whose rows were episodes, and say so."""
    return replace(estimate, method=estimate.method.replace("seed", "episode"))
