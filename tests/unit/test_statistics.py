"""Intervals and verdicts: by hand, by simulation, and against rliable where it is installed."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from isthmus.evaluation.statistics import (
    FEW_SEEDS,
    Estimate,
    against_margin,
    area,
    conjunction,
    detectable_difference,
    detectable_margin,
    difference,
    final,
    first_time,
    holm,
    interval,
    iqm,
    iqm_interval,
    probability_of_improvement,
    verdict,
)
from isthmus.types import BadValue

T_2 = 4.302652729749464  # Student's 97.5 % point with two degrees of freedom, from the tables


def test_student_interval_by_hand():
    estimate = interval([1.0, 2.0, 3.0])
    assert (estimate.value, estimate.n, estimate.method) == (2.0, 3, "Student over seeds")
    assert estimate.low == pytest.approx(2.0 - T_2 / math.sqrt(3.0))
    assert estimate.high == pytest.approx(2.0 + T_2 / math.sqrt(3.0))


def test_tasks_are_averaged_before_the_interval():
    """Tasks are no seeds either: the interval is over seed means."""
    assert interval([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]) == interval([1.0, 2.0, 3.0])


def test_welch_by_hand():
    """Variances 1 and 16 over 3 seeds: Welch's degrees of freedom are (17/3)^2 / ((1/3)^2 / 2 +
    (16/3)^2 / 2).
    """
    estimate = difference([11.0, 12.0, 13.0], [1.0, 5.0, 9.0])
    freedom = (17 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (16 / 3) ** 2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(17 / 3)
    assert estimate.value == pytest.approx(7.0)
    assert (estimate.low, estimate.high) == pytest.approx((7.0 - half, 7.0 + half))
    assert estimate.method == "Welch over seeds"


def test_pairing_removes_what_seeds_share():
    shared = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    a, b = shared + np.array([3.0, 4.0, 5.0, 4.0, 4.0]), shared
    paired, unpaired = difference(a, b, paired=True), difference(a, b)
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(4.0)
    assert verdict(paired) == "better" and verdict(unpaired) == "no detectable difference"
    assert paired.method == "Student over seeds, paired"


@pytest.mark.parametrize("seeds", [10, 29, 40])
def test_any_number_of_seeds_is_a_mean_by_student(seeds):
    """One statistic for the value, its interval and its p-value: no IQM takes over from ten seeds
    on.
    """
    scores = np.arange(float(seeds)) ** 2 - 10
    error = np.std(scores, ddof=1) / math.sqrt(seeds)
    estimate = interval(scores)
    half = stats.t.ppf(0.975, seeds - 1) * error
    assert (estimate.value, estimate.method) == (
        pytest.approx(np.mean(scores)),
        "Student over seeds",
    )
    assert (estimate.low, estimate.high) == pytest.approx(
        (np.mean(scores) - half, np.mean(scores) + half)
    )
    assert estimate.pvalue == pytest.approx(2 * stats.t.sf(abs(np.mean(scores)) / error, seeds - 1))
    assert (estimate.standard_error, estimate.freedom) == (pytest.approx(error), seeds - 1)
    assert difference(scores, np.zeros(seeds)).method == "Welch over seeds"
    assert difference(scores, np.zeros(seeds), paired=True) == replace(
        estimate, method="Student over seeds, paired"
    )


def test_the_iqm_has_an_interval_of_its_own():
    scores = np.arange(10.0) ** 2  # trimming 25 % of ten leaves the third to the eighth
    estimate = iqm_interval(scores)
    assert estimate.value == iqm(scores) == pytest.approx(np.mean(scores[2:8]))
    assert estimate.method == "stratified bootstrap of the IQM" and math.isnan(estimate.pvalue)
    assert estimate.low < estimate.value < estimate.high
    again = iqm_interval(scores)
    assert (estimate.low, estimate.high) == (again.low, again.high), (
        "the same scores, the same interval"
    )
    assert iqm_interval([3.0]).method == "no interval from one seed"


def test_strata_are_resampled_by_themselves():
    """Two tasks far apart: resampling within each leaves every draw's IQM between the tasks'
    spread, so that the interval is as narrow as the seeds' spread and does not see the distance of
    the tasks.
    """
    rng = np.random.default_rng(0)
    near, far = rng.normal(0.0, 1.0, size=(12, 1)), rng.normal(1000.0, 1.0, size=(12, 1))
    estimate = iqm_interval(np.hstack([near, far]))
    assert estimate.high - estimate.low < 3.0
    assert 490.0 < estimate.value < 510.0


def test_differences_over_tasks_are_of_seed_means():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.0, 1.0, size=(12, 3)), rng.normal(0.0, 1.0, size=(15, 3))
    estimate = difference(a, b)
    assert estimate.value == pytest.approx(a.mean() - b.mean()) and estimate.n == 12
    assert verdict(estimate) == "better" and verdict(difference(b, a)) == "worse"
    paired = difference(a, b[:12], paired=True)
    assert paired.value == pytest.approx((a - b[:12]).mean()) and paired.method.endswith("paired")


@pytest.mark.represented("5")
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_true_nulls_are_rejected_as_often_as_is_said(seeds):
    """1000 experiments without a difference: of 50 rejections at 5 % one standard deviation is
    7.
    """
    draws = np.random.default_rng(100 + seeds).normal(size=(1000, 2, seeds))
    paired = sum(difference(a, b, paired=True).pvalue < 0.05 for a, b in draws) / 1000
    welch = sum(difference(a, b).pvalue < 0.05 for a, b in draws) / 1000
    assert 0.03 < paired < 0.07
    assert 0.015 < welch < 0.07, "with three seeds a side Welch is known to be cautious"


def test_far_below_five_percent_they_are_too():
    """At 0.0015, what a figure's claims are tested at, ten seeds; 40,000 experiments by SciPy at
    once, of which `interval` gives the same p-values. The bootstrap of the IQM gave 5.8 times too
    many.
    """
    draws = np.random.default_rng(7).normal(size=(40_000, 10))
    pvalues = stats.ttest_1samp(draws, 0.0, axis=1).pvalue
    assert 0.0009 < np.mean(pvalues < 0.0015) < 0.0021, "60 are expected, with a deviation of 7.7"
    assert [interval(x).pvalue for x in draws[:50]] == pytest.approx(pvalues[:50])


@pytest.mark.represented("5")
@pytest.mark.parametrize("seeds", [2, 3, 5, 9])
def test_student_intervals_cover(seeds):
    """1000 experiments: a true 95 % falls outside [0.93, 0.97] once in 250 times, and the seeds are
    fixed.
    """
    rng = np.random.default_rng(seeds)
    hits = paired = welch = 0
    experiments = 1000
    for a, b in rng.normal(size=(experiments, 2, seeds)):
        estimate = interval(5.0 + 2.0 * a)
        hits += estimate.low <= 5.0 <= estimate.high
        estimate = difference(a, b, paired=True)
        paired += estimate.low <= 0.0 <= estimate.high
        estimate = difference(a, b)
        welch += estimate.low <= 0.0 <= estimate.high
    assert 0.93 < hits / experiments < 0.97
    assert 0.93 < paired / experiments < 0.97
    assert 0.93 < welch / experiments < 0.99  # with two seeds a side Welch is known to be too wide


@pytest.mark.full
def test_bootstrap_intervals_cover():
    rng = np.random.default_rng(0)
    estimates = [iqm_interval(scores) for scores in rng.normal(size=(300, 10))]
    assert 0.9 < np.mean([e.low <= 0.0 <= e.high for e in estimates]) < 0.98


@pytest.mark.parametrize("seeds", [4, 12])
def test_pvalues_belong_to_their_intervals(seeds):
    rng = np.random.default_rng(1)
    estimates = [
        difference(rng.normal(0.7, 1.0, seeds), rng.normal(0.0, 1.0, seeds)) for _ in range(120)
    ]
    outside = [not e.low <= 0.0 <= e.high for e in estimates]
    assert outside == [e.pvalue < 0.05 for e in estimates]
    assert 0 < sum(outside) < 120


def test_one_seed_has_no_interval():
    for estimate in (
        interval([3.0]),
        difference([5.0], [2.0]),
        difference([5.0], [2.0], paired=True),
    ):
        assert (estimate.value, estimate.low, estimate.high) == (3.0, -math.inf, math.inf)
        assert estimate.method == "no interval from one seed"
        assert verdict(estimate) == "no verdict from one seed"
    assert verdict(difference([5.0, 6.0, 7.0], [2.0])) == "no verdict from one seed"


def test_verdicts():
    def given(low, high, n):
        return Estimate((low + high) / 2, low, high, n, "given")

    assert verdict(given(1.0, 2.0, 5)) == "better"
    assert verdict(given(-2.0, -1.0, 5)) == "worse"
    assert verdict(given(1.0, 2.0, 4)) == "points to better"
    assert verdict(given(-2.0, -1.0, 2)) == "points to worse"
    assert verdict(given(-1.0, 2.0, 50)) == "no detectable difference"
    assert verdict(given(0.0, 2.0, 50)) == "no detectable difference"
    assert verdict(given(1.0, 2.0, 5), pvalue=0.2) == "no detectable difference"
    assert verdict(given(1.0, 2.0, 5), pvalue=0.01) == "better"


def test_seeds_that_all_score_the_same():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = difference([1000.0] * 5, [1000.0] * 5)
        assert (same.low, same.high, same.pvalue) == (0.0, 0.0, 1.0)
        assert verdict(same) == "no detectable difference"
        assert (
            interval([7.0] * 5).low
            == 7.0
            == interval([7.0] * 12).high
            == iqm_interval([7.0] * 12).high
        )


def test_probability_of_improvement():
    assert probability_of_improvement([2.0, 4.0], [1.0, 3.0]).value == 0.75
    assert probability_of_improvement([1.0, 1.0], [1.0, 1.0]).value == 0.5
    few = probability_of_improvement([5.0, 6.0, 7.0], [1.0, 2.0, 3.0])
    assert (few.value, few.low, few.high) == (1.0, 0.0, 1.0), (
        "no overlap of three seeds is no certainty"
    )
    rng = np.random.default_rng(0)
    assert probability_of_improvement(rng.normal(9, 1, 29), rng.normal(0, 1, 40)).low == 0.0, (
        "nor of 29"
    )
    many = probability_of_improvement(rng.normal(1.0, 1.0, (40, 2)), rng.normal(0.0, 1.0, (30, 2)))
    assert many.low < many.value < many.high and many.n == 30
    assert many.low < stats.norm.cdf(1.0 / math.sqrt(2.0)) < many.high


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_so_many_of_k_by_hand():
    """All: the largest as it is (Berger 1982). Any one: the smallest times their number. Two of
    three: the second, twice (Benjamini and Heller 2008).
    """
    p = [0.03, 0.001, 0.02]
    assert [conjunction(p, needed) for needed in (3, 1, 2)] == pytest.approx([0.03, 0.003, 0.04])
    assert conjunction([0.6, 0.7], 1) == 1.0 and conjunction([0.01], 1) == 0.01
    assert math.isnan(conjunction(p, 4)) and math.isnan(conjunction([], 1))


@pytest.mark.parametrize(("needed", "true"), [(1, 0), (2, 1), (3, 2)])
def test_so_many_of_k_err_as_seldom_as_is_said(needed, true):
    """Three tests of which one too few is true, without any doubt; the others' p-values are
    uniform.
    """
    pvalues = np.random.default_rng(needed).uniform(size=(10_000, 3))
    pvalues[:, :true] = 0.0
    wrong = np.mean([conjunction(each, needed) < 0.05 for each in pvalues])
    assert 0.04 < wrong < 0.058, "500 are expected at most, with a deviation of 22"


@pytest.mark.parametrize(("seeds", "deviations"), [(3, 19.1), (5, 4.33), (10, 1.77)])
def test_what_seeds_could_show(seeds, deviations):
    """Of 34 comparisons, in standard deviations, with 80 % power; from three seeds on independently
    computed.
    """
    scores = np.random.default_rng(0).normal(size=seeds)
    estimate = interval((scores - scores.mean()) / scores.std(ddof=1))
    assert detectable_difference(estimate, 0.05 / 34) == pytest.approx(deviations, rel=0.01)
    assert detectable_difference(interval([1.0])) == math.inf


def test_what_seeds_could_show_is_shown_so_often():
    spread = interval([-1.0, 0.0, 1.0, 0.5, -0.5])
    sigma = spread.standard_error * math.sqrt(5)
    found, equal = detectable_difference(spread, 0.01), detectable_margin(spread, 0.01)
    draws = np.random.default_rng(1).normal(0.0, sigma, (20_000, 5))
    shown = stats.ttest_1samp(draws + found, 0.0, axis=1).pvalue < 0.01
    assert np.mean(shown) == pytest.approx(0.8, abs=0.01)
    one_sided = [stats.ttest_1samp(draws + shift * equal, 0.0, axis=1, alternative=side).pvalue
                 for shift, side in ((1, "greater"), (-1, "less"))]  # fmt: skip
    assert np.mean(np.maximum(*one_sided) < 0.01) > 0.75, (
        "as an approximation: the bounds are estimated"
    )
    assert detectable_margin(interval([1.0, 2.0, 3.0, 4.0])) == math.inf, (
        "four seeds show no equality"
    )


def test_what_a_curve_ends_at():
    assert final([[0, 1], [1, 2], [2, 9]]) == 9.0
    assert final(np.stack([np.arange(21), np.arange(21)], 1)) == 19.5, "two of twenty-one"


def test_the_area_under_a_curve():
    triangle = [[0, 0], [10, 10]]
    assert area(triangle, 10) == 5.0 and area(triangle, 5) == 2.5
    assert area(triangle, 20) == 7.5, "level after its last evaluation"
    assert area([[4, 2], [10, 2]], 8) == 2.0, "level before its first"
    assert area([[4, 0], [8, 4]], 8) == 1.0
    assert area([[3, 7]], 100) == 7.0


def test_when_a_curve_first_is_at_a_level():
    curve = [[0, 0], [10, 4], [20, 2], [30, 8]]
    assert (
        first_time(curve, 4) == 10.0
        and first_time(curve, 3) == 7.5
        and first_time(curve, 5) == 25.0
    )
    assert first_time(curve, -1) == 0.0 and first_time(curve, 8.1) == math.inf
    assert first_time([[5, 1], [6, 1]], 1) == 5.0


def equivalent(*args, **more) -> bool:
    return against_margin(*args, **more)[0] < 0.05


def test_equivalence_has_to_be_shown():
    rng = np.random.default_rng(0)
    a = rng.normal(0.0, 1.0, 40)
    b = rng.permutation(a)
    assert equivalent(a, b, 1.0) and not equivalent(a, b, 0.1)
    assert not equivalent(a, b + 3.0, 1.0) and not equivalent(a, b - 3.0, 1.0)
    assert equivalent(a, a + 0.5, 0.6, paired=True) and not equivalent(a, a + 0.5, 0.4, paired=True)
    assert not equivalent(a[:4], a[:4], 100.0), "four seeds show nothing"
    assert not equivalent([1.0] * 5, [2.0] * 5, 1.0) and equivalent([1.0] * 5, [2.0] * 5, 1.1)


def test_pvalues_against_a_margin_by_hand():
    """Mean 0.2, standard error 0.1, four degrees of freedom: t = 3 and 1 against -0.1 and 0.1, -3
    against 0.5.
    """
    a = 0.2 + np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) * 0.1 * math.sqrt(5 / 2.5)
    below = lambda t: stats.t.cdf(t, 4)
    less, more = against_margin(a, np.zeros(5), 0.1, paired=True)
    assert less == pytest.approx(max(below(-3.0), below(1.0))) and more == pytest.approx(
        2 * below(-1.0)
    )
    assert against_margin(-a, np.zeros(5), 0.1, paired=True) == pytest.approx((less, more))
    assert against_margin(a, np.zeros(5), 0.5, paired=True)[0] == pytest.approx(below(-3.0))


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_beyond_a_margin_is_what_its_interval_says(paired):
    rng = np.random.default_rng(4)
    found = []
    for a, b in rng.normal(size=(200, 2, 5)):
        low, high = (e := difference(a + 1.5, b, paired=paired)).low, e.high
        found.append(low > 0.3 or high < -0.3)
        assert found[-1] == (against_margin(a + 1.5, b, 0.3, paired=paired)[1] < 0.05)
    assert 0 < sum(found) < 200
    assert math.isnan(against_margin([1.0], [0.0], 0.3, paired=paired)[1])


def test_holm_by_groups_of_which_one_at_most_is_true():
    """Three tests of two quantities: the first counts two, and so does the next, for either's other
    may yet be true.
    """
    assert holm([0.01, 0.02, 0.5], ["x", "y", "x"]) == pytest.approx([0.02, 0.04, 0.5])
    assert holm([0.01, 0.02, 0.5], ["x", "x", "y"]) == pytest.approx([0.02, 0.04, 0.5])
    assert holm([0.5, 0.01, 0.012], ["y", "x", "x"]) == pytest.approx([0.5, 0.02, 0.024])
    assert holm([0.04, 0.9], ["x", "x"]) == pytest.approx([0.04, 0.9]), "one quantity, two sides"


def test_groups_keep_the_error_of_the_family():
    """Six quantities, each tested for a difference and for its smallness; half have no difference,
    half one of the margin: something wrong is said in one family of twenty at most (2000 families:
    0.065 is three sigma above).
    """
    margin, shifts = 1.0, np.array([0.0] * 3 + [1.0] * 3)
    scores = np.random.default_rng(5).normal(shifts, 0.6, (FEW_SEEDS, 2000, 6))
    test = lambda x, side: stats.ttest_1samp(x, 0.0, alternative=side).pvalue
    apart, within = (
        test(scores, "two-sided"),
        np.maximum(test(scores + margin, "greater"), test(scores - margin, "less")),
    )
    wrong = 0
    for pvalues in np.concatenate([apart, within], axis=1):
        adjusted = np.array(holm(pvalues, [*range(6)] * 2))
        wrong += (adjusted[[0, 1, 2, 9, 10, 11]] < 0.05).any()
    assert 0.02 < wrong / 2000 < 0.065


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval([]), "at least one"),
        (lambda: interval(np.zeros((2, 2, 2))), "shape"),
        (lambda: interval([1.0, 2.0, math.nan]), "row 2"),
        (lambda: difference([1.0, 2.0], [1.0], paired=True), "same seeds"),
        (lambda: difference(np.zeros((3, 2)), np.zeros((3, 3))), "same tasks"),
        (lambda: against_margin([1.0], [1.0], 0.0), "margin"),
    ],
)
def test_scores_that_make_no_sense(call, message):
    with pytest.raises(BadValue, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tasks", [1, 4])
def test_agrees_with_rliable(tasks):
    """Development only: the library that made these estimates the field's habit gives the same
    numbers.
    """
    library = pytest.importorskip(
        "rliable.library", reason="rliable is not installed (a development-only check)"
    )
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(tasks)
    a, b = rng.gamma(2.0, 1.0, (30, tasks)), rng.gamma(1.5, 1.0, (35, tasks))
    np.random.seed(0)  # rliable draws from NumPy's global generator

    def peer(scores, statistic):
        points, intervals = library.get_interval_estimates(
            {"": scores}, lambda *x: np.array([statistic(*x)]), reps=4000
        )
        return points[""][0], *intervals[""][:, 0]

    for ours, theirs in (
        (iqm_interval(a), peer(a, metrics.aggregate_iqm)),
        (
            probability_of_improvement(a, b),
            peer([a, b], lambda x, y: np.mean(np.sign(x[:, None] - y[None]) / 2 + 0.5)),
        ),
    ):
        assert ours.value == pytest.approx(theirs[0], abs=1e-12)
        width = theirs[2] - theirs[1]
        assert (ours.low, ours.high) == pytest.approx(theirs[1:], abs=0.06 * width), (
            "but for the draws' own noise"
        )
    ours = probability_of_improvement(a, b).value
    assert ours == pytest.approx(metrics.probability_of_improvement(a, b), abs=1e-12)
