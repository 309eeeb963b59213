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
    """Return the interquartile mean of scores [S] or [S, tasks], over seeds and tasks together."""
    return float(stats.trim_mean(_scores(scores).ravel(), 0.25))


def interval(scores: ArrayLike, level: float = CONFIDENCE_LEVEL) -> Estimate:
    """Return the mean of scores [S] or [S, tasks], with a Student interval over seed means.

    Raises BadValue for scores of another shape, none, or one that is not finite.
    """
    means = _scores(scores).mean(axis=1)
    if len(means) == 1:
        return _no_interval(means[0])
    with _constant_scores_allowed():
        test = stats.ttest_1samp(means, 0.0)
        return _student(means.mean(), test, level, len(means), "Student over seeds")


def iqm_interval(scores: ArrayLike, level: float = CONFIDENCE_LEVEL) -> Estimate:
    """Return the interquartile mean of scores [S] or [S, tasks] with a bootstrap interval.

    It resamples seeds within each task, and has no p-value. For many tasks: of one task, or under
    MANY_SEEDS, it is too narrow, and `interval` is right.

    Raises BadValue for scores that `interval` refuses.
    """
    scores = _scores(scores)
    if len(scores) == 1:
        return _no_interval(iqm(scores))
    return _bootstrap(_pooled_iqm, scores.T, level, len(scores), "stratified bootstrap of the IQM")


def difference(
    a: ArrayLike, b: ArrayLike, *, paired: bool = False, level: float = CONFIDENCE_LEVEL
) -> Estimate:
    """Return how much the mean of `a` [Sa] or [Sa, tasks] is above that of `b` [Sb] or [Sb, tasks].

    `paired` where row i of both is one seed and something is shared by it: then `interval` of the
    differences seed by seed, else Welch's interval of the difference of means.

    Raises BadValue for scores that `interval` refuses or that do not fit each other.
    """
    a, b = _check_alike(a, b, paired)
    if paired:
        return _paired_difference(a - b, level)
    left, right = a.mean(axis=1), b.mean(axis=1)
    n = min(len(a), len(b))
    if n == 1:
        return _no_interval(left.mean() - right.mean())
    with _constant_scores_allowed():
        test = stats.ttest_ind(left, right, equal_var=False)
        return _student(left.mean() - right.mean(), test, level, n, "Welch over seeds")


def _paired_difference(differences: Scores, level: float) -> Estimate:
    estimate = interval(differences, level)
    if estimate.n == 1:
        return estimate
    return replace(estimate, method=f"{estimate.method}, paired")


def detectable_difference(
    estimate: Estimate, level: float = 1.0 - CONFIDENCE_LEVEL, power: float = POWER
) -> float:
    """Return the smallest true difference that a two-sided t test at `level` finds with `power`.

    Given this many seeds and the spread that they showed, in the scores' units; infinite from one
    seed.
    """
    if not math.isfinite(estimate.standard_error):
        return math.inf

    def lacking(noncentrality: float) -> float:
        return power - _find_power(noncentrality, estimate.freedom, level)

    above = 1.0
    while lacking(above) > 0.0:
        above *= 2.0
    return float(optimize.brentq(lacking, 0.0, above)) * estimate.standard_error  # pyright: ignore[reportArgumentType]


def power(estimate: Estimate, difference: float, level: float = 1.0 - CONFIDENCE_LEVEL) -> float:
    """Return with which probability a two-sided t test at `level` finds a true difference, on its
    own side of zero.

    Given this many seeds and the spread that they showed; 0 from one seed, 1 without any spread.
    """
    if not math.isfinite(estimate.standard_error):
        return 0.0
    if estimate.standard_error == 0.0:
        return 1.0
    return _find_power(abs(difference) / estimate.standard_error, estimate.freedom, level)


def _find_power(noncentrality: float, freedom: float, level: float) -> float:
    threshold = stats.t.isf(level / 2, freedom)
    return float(stats.nct.sf(threshold, freedom, noncentrality))


def detectable_margin(
    estimate: Estimate, level: float = 1.0 - CONFIDENCE_LEVEL, power: float = POWER
) -> float:
    """Return the smallest margin within which a true difference of zero is shown with `power`.

    By two one-sided t tests at `level`, with the spread of `detectable_difference`; infinite under
    FEW_SEEDS, which show no equality.
    """
    if not math.isfinite(estimate.standard_error) or estimate.n < FEW_SEEDS:
        return math.inf
    half = stats.t.isf(level, estimate.freedom) + stats.t.isf((1.0 - power) / 2, estimate.freedom)
    return float(half) * estimate.standard_error


def verdict(estimate: Estimate, pvalue: float | None = None) -> str:
    """Return a difference in words: "better", "worse", or "no detectable difference".

    Under FEW_SEEDS at most "points to better" or "points to worse"; from one seed "no verdict from
    one seed". `pvalue` replaces the estimate's own where several comparisons were made at once (see
    `holm`): both the interval and it must then leave zero out.
    """
    if estimate.n < 2:
        return "no verdict from one seed"
    if estimate.low <= 0.0 <= estimate.high:
        return "no detectable difference"
    if pvalue is not None and pvalue >= 1.0 - CONFIDENCE_LEVEL:
        return "no detectable difference"
    word = "better" if estimate.low > 0.0 else "worse"
    return word if estimate.n >= FEW_SEEDS else f"points to {word}"


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, level: float = CONFIDENCE_LEVEL
) -> Estimate:
    """Return P(a seed of `a` scores above a seed of `b`), averaged over tasks.

    As Agarwal et al. (2021). Ties count half. The interval is the stratified bootstrap's; under
    MANY_SEEDS on either side it is all of [0, 1], since a bootstrap of few seeds that do not
    overlap would claim certainty.
    """
    a, b = _check_alike(a, b)
    n, columns = min(len(a), len(b)), [*a.T, *b.T]
    if n < MANY_SEEDS:
        value = float(_share_above(*columns, axis=-1))
        return Estimate(value, 0.0, 1.0, n, f"no interval under {MANY_SEEDS} seeds")
    return _bootstrap(_share_above, columns, level, n, "stratified bootstrap")


def _share_above(*columns: Scores, axis: int) -> Scores:
    """Return P(a > b) of columns [..., S], the first half those of `a`, one a task."""
    tasks = len(columns) // 2
    signs = []
    for a, b in zip(columns[:tasks], columns[tasks:], strict=True):
        signs.append(np.sign(a[..., :, None] - b[..., None, :]).mean(axis=(-2, -1)))
    return 0.5 + 0.5 * np.mean(signs, axis=0)


def against_margin(
    a: ArrayLike, b: ArrayLike, margin: float, *, paired: bool = False
) -> tuple[float, float]:
    """Return p-values for the means of `a` and `b` differing by less than `margin`, and by more.

    Less: two one-sided t tests (Schuirmann 1987), the larger of their p-values; "no detectable
    difference" does not show that, and under FEW_SEEDS nothing does (NaN). More: twice the smaller
    p-value of the opposite tests, below 5 % where Student's 95 % interval of the difference leaves
    out all of [-margin, margin]; NaN from one seed.

    Raises BadValue for a margin that is not above zero and for scores that `difference` refuses.
    """
    if not margin > 0.0:
        raise BadValue(f"a margin of equivalence is above zero, not {margin}")
    a, b = _check_alike(a, b, paired)
    n = min(len(a), len(b))
    if n < 2:
        return math.nan, math.nan
    test = _test_paired if paired else _test_unpaired
    left, right = a.mean(axis=1), b.mean(axis=1)
    less = max(test(left, right, -margin, "greater"), test(left, right, margin, "less"))
    least = min(test(left, right, margin, "greater"), test(left, right, -margin, "less"))
    return less if n >= FEW_SEEDS else math.nan, min(1.0, 2.0 * least)


def _test_paired(left: Scores, right: Scores, bound: float, alternative: str) -> float:
    """Return the p-value of left - right being beyond a bound, seed by seed."""
    with _constant_scores_allowed():
        return _known_pvalue(stats.ttest_1samp(left - right, bound, alternative=alternative))


def _test_unpaired(left: Scores, right: Scores, bound: float, alternative: str) -> float:
    """Return the p-value of the difference of means being beyond a bound, by Welch's test."""
    with _constant_scores_allowed():
        return _known_pvalue(
            stats.ttest_ind(left, right + bound, equal_var=False, alternative=alternative)
        )


def _known_pvalue(result: Any) -> float:
    """Return a test's p-value; 1 for 0 / 0, where all scores are at the bound without spread."""
    return 1.0 if math.isnan(result.pvalue) else float(result.pvalue)


def final(curve: ArrayLike) -> float:
    """Return what a training curve [evaluations, 2] (x, value) ends at.

    The mean of its last 10 % of values, at least one.
    """
    values = np.asarray(curve, np.float64)[:, 1]
    return float(values[-max(1, round(len(values) / 10)) :].mean())


def area(curve: ArrayLike, until: float) -> float:
    """Return the area under a curve [evaluations, 2] from 0 to `until`, over `until`.

    Its mean height. Linear between evaluations; level before the first and after the last.
    """
    x, values = np.asarray(curve, np.float64).T
    at = np.unique(np.clip([0.0, *x, until], 0.0, until))
    return float(np.trapezoid(np.interp(at, x, values), at) / until)


def first_time(curve: ArrayLike, level: float) -> float:
    """Return the x at which a curve [evaluations, 2] first is at `level`; infinite if never.

    Linear between evaluations.
    """
    x, values = np.asarray(curve, np.float64).T
    above = np.flatnonzero(values >= level)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return float(x[0])
    rise, missing = values[i] - values[i - 1], level - values[i - 1]
    return float(x[i - 1] + (x[i] - x[i - 1]) * missing / rise)


def holm(pvalues: Sequence[float], groups: Sequence[Hashable] | None = None) -> list[float]:
    """Return p-values adjusted for having made all these tests at once (Holm 1979), in their order.

    `groups` names a group for each test where at most one null hypothesis of a group can be true,
    as with "no difference" and "a difference of the margin or more": then groups count, not tests
    (Shaffer 1986).
    """
    order = np.argsort(pvalues, kind="stable")
    names = range(len(order)) if groups is None else groups
    left = Counter(map(names.__getitem__, order))
    adjusted, least = [1.0] * len(order), 0.0
    for i in order:
        least = max(least, len(left) * pvalues[i])
        adjusted[i] = min(least, 1.0)
        left[names[i]] -= 1
        left += Counter()  # without those that are done
    return adjusted


def conjunction(pvalues: Sequence[float], needed: int) -> float:
    """Return a p-value for at least `needed` of these tests' alternatives being true.

    As Benjamini and Heller (2008), by Bonferroni: that of the test which comes `needed`-th, times
    the number of tests from it on. For all of them it is the largest, without any correction (the
    intersection-union test, Berger 1982); for any one it is Bonferroni's smallest. NaN where there
    are not so many tests.
    """
    if not 1 <= needed <= len(pvalues):
        return math.nan
    return min(1.0, (len(pvalues) - needed + 1) * sorted(pvalues)[needed - 1])


def seeds(n: int) -> str:
    """Return a number of seeds in words."""
    return f"{n} seed{'s' * (n != 1)}"


def _scores(scores: ArrayLike) -> Scores:
    """Return scores as float64 [S, tasks]. Raises BadValue for other shapes, none, NaN."""
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


def _check_alike(a: ArrayLike, b: ArrayLike, paired: bool = False) -> tuple[Scores, Scores]:
    """Return both sides' scores. Raises BadValue for other tasks; `paired`, for other seeds too."""
    first, second = _scores(a), _scores(b)
    shared, needed = slice(1, 2), "tasks"
    if paired:
        shared, needed = slice(0, 2), "seeds and tasks"
    if first.shape[shared] != second.shape[shared]:
        raise BadValue(
            f"scores of {first.shape} and {second.shape} do not compare: they need the same "
            f"{needed}"
        )
    return first, second


def _no_interval(value: float) -> Estimate:
    return Estimate(float(value), -math.inf, math.inf, 1, "no interval from one seed")


def _constant_scores_allowed() -> warnings.catch_warnings:
    """Silence SciPy where all seeds score the same, which a task with a best score brings about.

    It warns of lost precision there.
    """
    return warnings.catch_warnings(action="ignore", category=RuntimeWarning)


def _student(value: float, test: Any, level: float, n: int, method: str) -> Estimate:
    """Return an estimate from the result of one of SciPy's t tests."""
    low, high = test.confidence_interval(level)
    error = (high - low) / 2 / stats.t.ppf(0.5 + level / 2, test.df)
    return Estimate(
        float(value),
        float(low),
        float(high),
        n,
        method,
        pvalue=_known_pvalue(test),
        standard_error=float(error),
        freedom=float(test.df),
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
    """Return a percentile bootstrap that resamples each column (one task of one method, [S]).

    Columns are the strata. The same scores give the same interval: the generator starts anew each
    time.
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
