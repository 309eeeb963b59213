"""How sure a comparison is: intervals over seeds, differences, verdicts.

A score is what one seed (one independent training run) reached, already averaged over its episodes:
episodes are not seeds, and a hundred episodes of one policy say nothing of how the next training
run will end. Scores come as [S], or as [S, tasks] where one method was run on several tasks; higher
is better.

Intervals, differences and their p-values are of one statistic: the mean over seeds, by Student's t.
Two sides are compared seed by seed (paired) where seed i of both stands on the same run or log, and
by Welch's test where nothing is shared by seed.

`iqm_interval` is the interquartile mean with a stratified bootstrap, as Agarwal et al. (2021),
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", recommend for scores over
many tasks. It has no p-value: with ten seeds the percentile bootstrap rejects a true null nearly
six times too often at 0.0015.
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
from scipy import optimize, stats

from isthmus.types import BadValue

FEW_SEEDS = 5  # below so many seeds nothing is claimed: a difference at most "points to"
MANY_SEEDS = 30  # below so many seeds a bootstrap over seeds is too narrow
RESAMPLES = 10_001  # so that the 2.5 % and 97.5 % points are draws
CONFIDENCE_LEVEL = 0.95
POWER = 0.8
INTERVALS = f"intervals are of the mean over seeds, {CONFIDENCE_LEVEL:.0%} by Student's t"
"""What printed intervals are, in words."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and how far it can be trusted.

    `n` is the number of seeds behind it (of the smaller side, for a difference). From one seed
    there is no interval: `low` and `high` are infinite and `method` says so. `pvalue` (two-sided,
    of "zero") belongs to the interval: it is below 1 - level where the interval leaves zero out.
    `standard_error` and `freedom` are those of a t test, NaN where there is none.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    pvalue: float = math.nan
    standard_error: float = math.nan
    freedom: float = math.nan


def iqm(scores: ArrayLike) -> float:
    """The interquartile mean of scores [S] or [S, tasks], over seeds and tasks together."""
    return float(stats.trim_mean(_scores(scores).ravel(), 0.25))


def interval(scores: ArrayLike, level: float = CONFIDENCE_LEVEL) -> Estimate:
    """What a method reaches, from scores [S] or [S, tasks]: the mean with a Student interval over
    seed means.

    Raises BadValue for scores of another shape, none, or one that is not finite.
    """
    means = _scores(scores).mean(axis=1)
    if len(means) == 1:
        return _no_interval(means[0])
    return _student(
        means.mean(), lambda: stats.ttest_1samp(means, 0.0), level, len(means), "Student over seeds"
    )


def iqm_interval(scores: ArrayLike, level: float = CONFIDENCE_LEVEL) -> Estimate:
    """The interquartile mean of scores [S] or [S, tasks] with a bootstrap interval that resamples
    seeds within each task, without a p-value. For many tasks: of one task, or under `MANY` seeds,
    it is too narrow, and `interval` is right.

    Raises BadValue for scores that `interval` refuses.
    """
    scores = _scores(scores)
    if len(scores) == 1:
        return _no_interval(iqm(scores))
    return _bootstrap(_pooled_iqm, scores.T, level, len(scores), "stratified bootstrap of the IQM")


def difference(
    a: ArrayLike, b: ArrayLike, *, paired: bool = False, level: float = CONFIDENCE_LEVEL
) -> Estimate:
    """How much the mean of `a` [Sa] or [Sa, tasks] is above that of `b` [Sb] or [Sb, tasks];
    `paired` where row i of both is one seed and something is shared by it.

    Unpaired: Welch's interval of the difference of means. Paired: `interval` of the differences
    seed by seed.

    Raises BadValue for scores that `interval` refuses or that do not fit each other.
    """
    a, b = _alike(a, b, paired)
    if paired:
        estimate = interval(a - b, level)
        return (
            replace(estimate, method=f"{estimate.method}, paired") if estimate.n > 1 else estimate
        )
    left, right = a.mean(axis=1), b.mean(axis=1)
    value, n = left.mean() - right.mean(), min(len(a), len(b))
    if n == 1:
        return _no_interval(value)
    return _student(
        value, lambda: stats.ttest_ind(left, right, equal_var=False), level, n, "Welch over seeds"
    )


def detectable_difference(
    estimate: Estimate, level: float = 1.0 - CONFIDENCE_LEVEL, power: float = POWER
) -> float:
    """Return the smallest true difference that a two-sided t test at `level` would find with
    `power`, given this many seeds and the spread that they showed, in the scores' units; infinite
    from one seed.
    """
    if not math.isfinite(estimate.standard_error):
        return math.inf
    freedom = estimate.freedom
    threshold = stats.t.isf(level / 2, freedom)

    def lacking(noncentrality: float) -> float:
        return power - float(stats.nct.sf(threshold, freedom, noncentrality))

    above = 1.0
    while lacking(above) > 0.0:
        above *= 2.0
    return float(optimize.brentq(lacking, 0.0, above)) * estimate.standard_error  # pyright: ignore[reportArgumentType]


def detectable_margin(
    estimate: Estimate, level: float = 1.0 - CONFIDENCE_LEVEL, power: float = POWER
) -> float:
    """Return the smallest margin within which two one-sided t tests at `level` would show a true
    difference of zero to lie with `power`, as `detectable_difference` does; infinite under `FEW`
    seeds, which show no equality.
    """
    if not math.isfinite(estimate.standard_error) or estimate.n < FEW_SEEDS:
        return math.inf
    half = stats.t.isf(level, estimate.freedom) + stats.t.isf((1.0 - power) / 2, estimate.freedom)
    return float(half) * estimate.standard_error


def verdict(estimate: Estimate, pvalue: float | None = None) -> str:
    """A difference in words: "better", "worse", or "no detectable difference"; under `FEW` seeds at
    most "points to better" or "points to worse"; from one seed "no verdict from one seed".

    `pvalue` replaces the estimate's own where several comparisons were made at once (see `holm`):
    both the interval and it must then leave zero out.
    """
    if estimate.n < 2:
        return "no verdict from one seed"
    if estimate.low <= 0.0 <= estimate.high or (
        pvalue is not None and pvalue >= 1.0 - CONFIDENCE_LEVEL
    ):
        return "no detectable difference"
    word = "better" if estimate.low > 0.0 else "worse"
    return word if estimate.n >= FEW_SEEDS else f"points to {word}"


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, level: float = CONFIDENCE_LEVEL
) -> Estimate:
    """P(a seed of `a` scores above a seed of `b`), ties counting half, averaged over tasks (Agarwal
    et al. 2021).

    The interval is the stratified bootstrap's; under `MANY` seeds on either side it is all of [0,
    1], since a bootstrap of few seeds that do not overlap would claim certainty.
    """
    a, b = _alike(a, b)
    tasks, n = a.shape[1], min(len(a), len(b))

    def above(*columns: Scores, axis: int) -> Scores:
        pairs = (
            x[..., :, None] - y[..., None, :]
            for x, y in zip(columns[:tasks], columns[tasks:], strict=True)
        )
        return 0.5 + 0.5 * np.mean([np.sign(pair).mean(axis=(-2, -1)) for pair in pairs], axis=0)

    columns = [*a.T, *b.T]
    if n < MANY_SEEDS:
        return Estimate(
            float(above(*columns, axis=-1)), 0.0, 1.0, n, f"no interval under {MANY_SEEDS} seeds"
        )
    return _bootstrap(above, columns, level, n, "stratified bootstrap")


def against_margin(
    a: ArrayLike, b: ArrayLike, margin: float, *, paired: bool = False
) -> tuple[float, float]:
    """P-values for the means of `a` and `b` differing by less than `margin`, and by more.

    Less: two one-sided t tests (Schuirmann 1987), the larger of their p-values; "no detectable
    difference" does not show that, and under `FEW` seeds nothing does (NaN). More: twice the
    smaller p-value of the opposite tests, below 5 % where Student's 95 % interval of the difference
    leaves out all of [-margin, margin]; NaN from one seed.

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
                _, pvalue = stats.ttest_ind(
                    left, right + bound, equal_var=False, alternative=alternative
                )
        return 1.0 if math.isnan(pvalue) else float(pvalue)  # 0 / 0: all of them at the bound

    less = max(beyond(-margin, "greater"), beyond(margin, "less"))
    more = min(1.0, 2.0 * min(beyond(margin, "greater"), beyond(-margin, "less")))
    return less if n >= FEW_SEEDS else math.nan, more


def final(curve: ArrayLike) -> float:
    """What a training curve [evaluations, 2] (x, value) ends at: the mean of its last 10 % of
    values, at least one.
    """
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
    """The x at which a curve [evaluations, 2] first is at `level`, linear between evaluations;
    infinite if never.
    """
    x, values = np.asarray(curve, np.float64).T
    above = np.flatnonzero(values >= level)
    if not len(above):
        return math.inf
    if not (i := int(above[0])):
        return float(x[0])
    return float(
        x[i - 1] + (x[i] - x[i - 1]) * (level - values[i - 1]) / (values[i] - values[i - 1])
    )


def holm(pvalues: Sequence[float], groups: Sequence[Hashable] | None = None) -> list[float]:
    """P-values adjusted for having made all these tests at once (Holm 1979), in the order given.

    `groups` names a group for each test where at most one null hypothesis of a group can be true,
    as with "no difference" and "a difference of the margin or more": then groups count, not tests
    (Shaffer 1986).
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


def conjunction(pvalues: Sequence[float], needed: int) -> float:
    """Return a p-value for at least `needed` of these tests' alternatives being true (Benjamini and
    Heller 2008, by Bonferroni): that of the test which comes `needed`-th, times the number of tests
    from it on.

    For all of them it is the largest, without any correction (the intersection-union test, Berger
    1982); for any one it is Bonferroni's smallest. NaN where there are not so many tests.
    """
    if not 1 <= needed <= len(pvalues):
        return math.nan
    return min(1.0, (len(pvalues) - needed + 1) * sorted(pvalues)[needed - 1])


def seeds(n: int) -> str:
    """How many there were, in words."""
    return f"{n} seed{'s' * (n != 1)}"


def _scores(scores: ArrayLike) -> Scores:
    """Scores as float64 [S, tasks]."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise BadValue(
            f"scores have one row a seed, [S] or [S, tasks], and at least one: not the shape "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadValue(
            f"row {row} of the scores is not finite: a seed without a score is left out by name or "
            "mended"
        )
    return array.reshape(len(array), -1)


def _alike(a: ArrayLike, b: ArrayLike, paired: bool = False) -> tuple[Scores, Scores]:
    first, second = _scores(a), _scores(b)
    if first.shape[1] != second.shape[1] or (paired and len(first) != len(second)):
        needed = "seeds and tasks" if paired else "tasks"
        raise BadValue(
            f"scores of {first.shape} and {second.shape} do not compare: they need the same "
            f"{needed}"
        )
    return first, second


def _no_interval(value: float) -> Estimate:
    return Estimate(float(value), -math.inf, math.inf, 1, "no interval from one seed")


def _constant_scores_allowed() -> warnings.catch_warnings:
    """SciPy warns of lost precision where all seeds score the same, which a task with a best score
    brings about.
    """
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def _student(value: float, test: Callable[[], Any], level: float, n: int, method: str) -> Estimate:
    """An estimate from one of SciPy's t tests, given as a function of no argument."""
    with _constant_scores_allowed():
        result = test()
        low, high = result.confidence_interval(level)
    pvalue = (
        1.0 if math.isnan(result.pvalue) else float(result.pvalue)
    )  # 0 / 0: the same scores, without any spread
    half = (high - low) / 2
    error = half / stats.t.ppf(0.5 + level / 2, result.df)
    return Estimate(
        float(value), float(low), float(high), n, method, pvalue, float(error), float(result.df)
    )


def _pooled_iqm(*columns: Scores, axis: int) -> Scores:
    return stats.trim_mean(np.concatenate(columns, axis=axis), 0.25, axis=axis)


def _bootstrap(
    statistic: Callable[..., Scores],
    columns: Sequence[Scores] | Scores,
    level: float,
    n: int,
    method: str,
) -> Estimate:
    """A percentile bootstrap that resamples each column (one task of one method, [S]) by itself:
    the strata.

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
    low, high = result.confidence_interval
    return Estimate(float(statistic(*columns, axis=-1)), float(low), float(high), n, method)
