"""How sure a comparison is: intervals over seeds, differences, verdicts.

A score is what one seed (one independent training run) reached, already averaged over its episodes: episodes are not
seeds, and a hundred episodes of one policy say nothing of how the next training run will end. Scores come as [S], or
as [S, tasks] where one method was run on several tasks; higher is better.

Few seeds leave no more than a mean and its Student interval: a bootstrap of five numbers is far too narrow. From `MANY`
seeds on, the interquartile mean (IQM) with a stratified bootstrap, as Agarwal et al. (2021), "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", recommend.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from isthmus.types import BadValue

FEW = 5  # below so many seeds nothing is claimed: a difference at most "points to"
MANY = 10  # from so many seeds on the bootstrap of the IQM takes over from Student
RESAMPLES = 10_001  # so that the 2.5 % and 97.5 % points are draws, and p-values agree with intervals to the draw
LEVEL = 0.95

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and how far it can be trusted.

    `n` is the number of seeds behind it (of the smaller side, for a difference). From one seed there is no interval:
    `low` and `high` are infinite and `method` says so. `pvalue` (two-sided, of "zero") belongs to the interval: it is
    below 1 - level where the interval leaves zero out.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    pvalue: float = math.nan


def iqm(scores: ArrayLike) -> float:
    """The interquartile mean of scores [S] or [S, tasks], over seeds and tasks together."""
    return float(stats.trim_mean(_scores(scores).ravel(), 0.25))


def interval(scores: ArrayLike, level: float = LEVEL) -> Estimate:
    """What a method reaches, from scores [S] or [S, tasks]: the mean with a Student interval over seed means, or from
    `MANY` seeds on the IQM with a bootstrap interval that resamples seeds within each task.

    Raises BadValue for scores of another shape, none, or one that is not finite.
    """
    scores = _scores(scores)
    n = len(scores)
    if n >= MANY:
        return _bootstrap(_pooled_iqm, scores.T, level, n, "stratified bootstrap of the IQM")
    means = scores.mean(axis=1)
    if n == 1:
        return _no_interval(means[0])
    return _student(means.mean(), lambda: stats.ttest_1samp(means, 0.0), level, n, "Student over seeds")


def difference(a: ArrayLike, b: ArrayLike, *, paired: bool = False, level: float = LEVEL) -> Estimate:
    """How much `a` [Sa] or [Sa, tasks] is above `b` [Sb] or [Sb, tasks]; `paired` where row i of both is one seed.

    Unpaired: Welch's interval of the difference of means, or, with `MANY` seeds on both sides, the bootstrapped
    difference of IQMs. Paired: `interval` of the differences seed by seed (from `MANY` seeds on that is the IQM of the
    differences, which is not the difference of the IQMs).

    Raises BadValue for scores that `interval` refuses or that do not fit each other.
    """
    a, b = _alike(a, b, paired)
    if paired:
        estimate = interval(a - b, level)
        return replace(estimate, method=f"{estimate.method}, paired") if estimate.n > 1 else estimate
    n = min(len(a), len(b))
    if n >= MANY:

        def between(*columns: Scores, axis: int) -> Scores:
            tasks = a.shape[1]
            return _pooled_iqm(*columns[:tasks], axis=axis) - _pooled_iqm(*columns[tasks:], axis=axis)

        return _bootstrap(between, [*a.T, *b.T], level, n, "stratified bootstrap of the IQMs' difference")
    left, right = a.mean(axis=1), b.mean(axis=1)
    value = left.mean() - right.mean()
    if n == 1:
        return _no_interval(value)
    return _student(value, lambda: stats.ttest_ind(left, right, equal_var=False), level, n, "Welch over seeds")


def verdict(estimate: Estimate, pvalue: float | None = None) -> str:
    """A difference in words: "better", "worse", or "no detectable difference"; under `FEW` seeds at most "points to
    better" or "points to worse"; from one seed "no verdict from one seed".

    `pvalue` replaces the estimate's own where several comparisons were made at once (see `holm`): both the interval
    and it must then leave zero out.
    """
    if estimate.n < 2:
        return "no verdict from one seed"
    if estimate.low <= 0.0 <= estimate.high or (pvalue is not None and pvalue >= 1.0 - LEVEL):
        return "no detectable difference"
    word = "better" if estimate.low > 0.0 else "worse"
    return word if estimate.n >= FEW else f"points to {word}"


def probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Estimate:
    """P(a seed of `a` scores above a seed of `b`), ties counting half, averaged over tasks (Agarwal et al. 2021).

    The interval is the stratified bootstrap's; under `MANY` seeds on either side it is all of [0, 1], since a
    bootstrap of few seeds that do not overlap would claim certainty.
    """
    a, b = _alike(a, b)
    tasks, n = a.shape[1], min(len(a), len(b))

    def above(*columns: Scores, axis: int) -> Scores:
        pairs = (x[..., :, None] - y[..., None, :] for x, y in zip(columns[:tasks], columns[tasks:], strict=True))
        return 0.5 + 0.5 * np.mean([np.sign(pair).mean(axis=(-2, -1)) for pair in pairs], axis=0)

    columns = [*a.T, *b.T]
    if n < MANY:
        return Estimate(float(above(*columns, axis=-1)), 0.0, 1.0, n, f"no interval under {MANY} seeds")
    estimate = _bootstrap(above, columns, level, n, "stratified bootstrap")
    return replace(estimate, pvalue=math.nan)  # zero is no hypothesis about a probability


def against_margin(a: ArrayLike, b: ArrayLike, margin: float, *, paired: bool = False) -> tuple[float, float]:
    """P-values for the means of `a` and `b` differing by less than `margin`, and by more.

    Less: two one-sided t tests (Schuirmann 1987), the larger of their p-values; "no detectable difference" does not
    show that, and under `FEW` seeds nothing does (NaN). More: twice the smaller p-value of the opposite tests, below
    5 % where Student's 95 % interval of the difference leaves out all of [-margin, margin]; NaN from one seed.

    Raises BadValue for a margin that is not above zero and for scores that `difference` refuses.
    """
    if not margin > 0.0:
        raise BadValue(f"a margin of equivalence is above zero, not {margin}")
    a, b = _alike(a, b, paired)
    if (n := min(len(a), len(b))) < 2:
        return math.nan, math.nan
    left, right = a.mean(axis=1), b.mean(axis=1)

    def beyond(bound: float, alternative: str) -> float:
        with _constant_scores_allowed():
            if paired:
                _, pvalue = stats.ttest_1samp(left - right, bound, alternative=alternative)
            else:
                _, pvalue = stats.ttest_ind(left, right + bound, equal_var=False, alternative=alternative)
        return 1.0 if math.isnan(pvalue) else float(pvalue)  # 0 / 0: all of them at the bound

    less = max(beyond(-margin, "greater"), beyond(margin, "less"))
    more = min(1.0, 2.0 * min(beyond(margin, "greater"), beyond(-margin, "less")))
    return less if n >= FEW else math.nan, more


def final(curve: ArrayLike) -> float:
    """What a training curve [evaluations, 2] (x, value) ends at: the mean of its last 10 % of values, at least one."""
    values = np.asarray(curve, np.float64)[:, 1]
    return float(values[-max(1, round(len(values) / 10)) :].mean())


def area(curve: ArrayLike, until: float) -> float:
    """The area under a curve [evaluations, 2] from 0 to `until`, over `until`: its mean height.

    Linear between evaluations; level before the first and after the last.
    """
    x, values = np.asarray(curve, np.float64).T
    at = np.unique(np.clip([0.0, *x, until], 0.0, until))
    return float(np.trapezoid(np.interp(at, x, values), at) / until)


def first_time(curve: ArrayLike, level: float) -> float:
    """The x at which a curve [evaluations, 2] first is at `level`, linear between evaluations; infinite if never."""
    x, values = np.asarray(curve, np.float64).T
    above = np.flatnonzero(values >= level)
    if not len(above):
        return math.inf
    if not (i := int(above[0])):
        return float(x[0])
    return float(x[i - 1] + (x[i] - x[i - 1]) * (level - values[i - 1]) / (values[i] - values[i - 1]))


def holm(pvalues: Sequence[float], groups: Sequence[Hashable] | None = None) -> list[float]:
    """P-values adjusted for having made all these tests at once (Holm 1979), in the order given.

    `groups` names a group for each test where at most one null hypothesis of a group can be true, as with "no
    difference" and "a difference of the margin or more": then groups count, not tests (Shaffer 1986).
    """
    order = np.argsort(pvalues, kind="stable")
    names = range(len(order)) if groups is None else groups
    left = Counter(names[i] for i in order)
    adjusted, least = [1.0] * len(order), 0.0
    for i in order:
        least = max(least, len(left) * pvalues[i])
        adjusted[i] = min(least, 1.0)
        left[names[i]] -= 1
        left += Counter()  # without those that are done
    return adjusted


def seeds(n: int) -> str:
    """How many there were, in words."""
    return f"{n} seed{'s' * (n != 1)}"


def _scores(scores: ArrayLike) -> Scores:
    """Scores as float64 [S, tasks]."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise BadValue(f"scores have one row a seed, [S] or [S, tasks], and at least one: not the shape {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadValue(f"row {row} of the scores is not finite: a seed without a score is left out by name or mended")
    return array.reshape(len(array), -1)


def _alike(a: ArrayLike, b: ArrayLike, paired: bool = False) -> tuple[Scores, Scores]:
    first, second = _scores(a), _scores(b)
    if first.shape[1] != second.shape[1] or (paired and len(first) != len(second)):
        needed = "seeds and tasks" if paired else "tasks"
        raise BadValue(f"scores of {first.shape} and {second.shape} do not compare: they need the same {needed}")
    return first, second


def _no_interval(value: float) -> Estimate:
    return Estimate(float(value), -math.inf, math.inf, 1, "no interval from one seed")


def _constant_scores_allowed() -> warnings.catch_warnings:
    """SciPy warns of lost precision where all seeds score the same, which a task with a best score brings about."""
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def _student(value: float, test: Callable[[], Any], level: float, n: int, method: str) -> Estimate:
    """An estimate from one of SciPy's t tests, given as a function of no argument."""
    with _constant_scores_allowed():
        result = test()
        low, high = result.confidence_interval(level)
    pvalue = 1.0 if math.isnan(result.pvalue) else float(result.pvalue)  # 0 / 0: the same scores, without any spread
    return Estimate(float(value), float(low), float(high), n, method, pvalue)


def _pooled_iqm(*columns: Scores, axis: int) -> Scores:
    return stats.trim_mean(np.concatenate(columns, axis=axis), 0.25, axis=axis)


def _bootstrap(
    statistic: Callable[..., Scores], columns: Sequence[Scores] | Scores, level: float, n: int, method: str
) -> Estimate:
    """A percentile bootstrap that resamples each column (one task of one method, [S]) by itself: the strata.

    The same scores give the same interval: the generator starts anew each time.
    """
    result = stats.bootstrap(
        tuple(columns),
        statistic,
        n_resamples=RESAMPLES,
        batch=1000,  # bounds the memory for many seeds and tasks
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    draws = result.bootstrap_distribution
    beyond = min(np.count_nonzero(draws <= 0.0), np.count_nonzero(draws >= 0.0))
    pvalue = min(1.0, 2.0 * max(1, beyond) / RESAMPLES)  # inverts the percentile interval (Efron, Tibshirani 1993)
    low, high = result.confidence_interval
    return Estimate(float(statistic(*columns, axis=-1)), float(low), float(high), n, method, pvalue)
