"""Claims: verdicts by hand, Holm within a figure, what is said where nothing can be concluded."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from isthmus.evaluation import statistics
from isthmus.studies.claims import (
    HOLDS,
    NOT,
    NOT_RUN,
    UNDECIDED,
    Claim,
    Contrast,
    Wanted,
    chosen,
    contrast,
    judge,
    lines,
    table,
)

HIGH, LOW = [10.0, 11.0, 12.0, 11.0, 10.0], [1.0, 2.0, 1.0, 2.0, 1.0]
NOISE = [1.0, -1.2, 0.3, -0.4, 0.2]


def claim(*contrasts, figure="3", **more) -> Claim:
    return Claim("X1", "one is above the other", "a - b > 0", figure, contrasts, **more)


@pytest.mark.parametrize(
    ("a", "b", "wanted", "margin", "outcome"),
    [
        (HIGH, LOW, "above", math.nan, HOLDS),
        (HIGH, LOW, "below", math.nan, NOT),
        (LOW, HIGH, "below", math.nan, HOLDS),
        (NOISE, [0.0] * 5, "above", math.nan, UNDECIDED),
        (NOISE, [0.0] * 5, "above", 5.0, NOT),  # shown to be smaller than what would count
        (NOISE, [0.0] * 5, "equal", 5.0, HOLDS),
        (NOISE, [0.0] * 5, "equal", 0.1, UNDECIDED),
        (HIGH, LOW, "equal", 1.0, NOT),
        ([3.0], [1.0], "above", math.nan, UNDECIDED),
    ],
)
def test_a_contrasts_outcome(a, b, wanted, margin, outcome):
    assert contrast("", a, b, wanted, margin).outcome == outcome


def test_a_difference_is_paired():
    shared = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    estimate = contrast("", np.add(shared, [3, 4, 5, 4, 4]), shared).estimate
    assert estimate == statistics.difference(np.add(shared, [3, 4, 5, 4, 4]), shared, paired=True)


def test_verdicts():
    good, bad, open_ = contrast("", HIGH, LOW), contrast("", LOW, HIGH), contrast("", NOISE, [0.0] * 5)
    assert claim(good, good).verdict == HOLDS
    assert claim(good, bad).verdict == NOT and claim(open_, bad).verdict == NOT
    assert claim(good, open_).verdict == UNDECIDED and "1 of 2 comparisons shown" in claim(good, open_).why
    assert claim(good, bad, need=1).verdict == HOLDS and claim(bad, open_, need=1).verdict == UNDECIDED
    assert claim(bad, bad, need=1).verdict == NOT
    assert claim().verdict == NOT_RUN and claim(blocked="needs figure 7").why == "needs figure 7"
    little = claim(good, blocked="too little training")
    assert (little.verdict, little.why) == (UNDECIDED, "too little training")


def test_few_seeds_point():
    few = claim(contrast("", HIGH[:4], LOW[:4]))
    assert few.verdict == "points to: holds" and "4 seeds" in few.why
    assert claim(contrast("", LOW[:3], HIGH[:3])).verdict == "points to: does not hold"
    assert claim(contrast("", HIGH[:4], LOW[:4], "equal", 100.0)).verdict == UNDECIDED, "four seeds show no equality"
    assert claim(contrast("", [3.0], [1.0])).why == "one seed has no interval"


def near(*shifts: float) -> list[Contrast]:
    """Each is significant by itself, at 0.01 to 0.05."""
    found = [contrast("", np.add([4, 1, 3, 2, 0.5], shift), [0.0] * 5) for shift in shifts]
    assert all(each.outcome == HOLDS and 0.01 < each.raw.apart < 0.05 for each in found)
    return found


def test_holm_within_a_figure():
    """Together, by Holm, none is significant; another figure's is left alone."""
    three = near(0.0, 0.1, 0.2)
    judged = judge([claim(*three[:2]), claim(three[2]), claim(three[0], figure="4")])
    wanted = statistics.holm([each.estimate.pvalue for each in three])
    assert [each.adjusted.apart for each in (*judged[0].contrasts, *judged[1].contrasts)] == wanted
    assert [each.verdict for each in judged] == [UNDECIDED, UNDECIDED, HOLDS]


def test_equality_is_adjusted_too_for_a_claim_and_against_it():
    """p = 0.02 by itself that the difference is within the margin; among five comparisons it is nothing."""
    margin = 1.2
    decided: list[tuple[Wanted, str]] = [("above", NOT), ("below", NOT), ("equal", HOLDS)]
    for wanted, alone in decided:
        small = contrast("small", NOISE, [0.0] * 5, wanted, margin)
        assert 0.01 < small.raw.within < 0.05 and claim(small).verdict == alone
        others = [contrast(f"{i}", np.add(NOISE, i / 10), [0.0] * 5) for i in range(4)]
        judged, _ = judge([claim(small), claim(*others)])
        assert judged.verdict == UNDECIDED
        assert judged.contrasts[0].adjusted.within == pytest.approx(5 * small.raw.within)
    beyond = contrast("large", np.add(NOISE, 3.0), [0.0] * 5, "equal", 1.5)
    assert beyond.outcome == NOT and 0.01 < beyond.raw.apart < 0.05 and beyond.raw.apart > beyond.estimate.pvalue
    assert judge([claim(beyond), claim(*others)])[0].verdict == UNDECIDED


def test_a_comparison_counts_once():
    """Its two conclusions exclude each other, and another claim's same comparison is the same."""
    small = contrast("small", NOISE, [0.0] * 5, "above", 1.5)
    assert judge([claim(small)])[0].contrasts[0].adjusted == small.raw
    same = contrast("small", NOISE, [0.0] * 5, "below", 1.5)
    assert [each.contrasts[0].adjusted for each in judge([claim(small), claim(same)])] == [small.raw, small.raw]


def test_the_largest_of_several_pays_for_the_choice():
    (one,) = near(0.0)
    best = chosen(one, 4)
    assert best.raw.apart == best.adjusted.apart == pytest.approx(4 * one.raw.apart) and best.outcome == UNDECIDED
    assert judge([claim(best)])[0].contrasts[0].adjusted == best.raw
    assert chosen(one, 1000).raw.apart == 1.0 and math.isnan(chosen(contrast("", [1.0], [0.0]), 4).raw.apart)


def test_a_claim_that_spans_figures_is_adjusted_with_all_of_them():
    one, two, three, four = near(0.0, 0.1, 0.2, 0.3)
    judged = judge([claim(one, figure="3"), claim(two, figure="4"), claim(three, figure="3, 4"), claim(four)])
    first, second, both, _ = (each.contrasts[0].adjusted.apart for each in judged)
    of = lambda *family: statistics.holm([each.estimate.pvalue for each in family])  # noqa: E731
    assert first == of(one, three, four)[0], "figure 3's, with what spans it"
    assert second == of(two, three)[0] and both == of(three, one, two, four)[0]
    assert judge([claim(one, figure="4-lambda"), claim(two, figure="4")])[0].contrasts[0].adjusted == one.raw


def test_a_claim_of_which_a_part_was_not_run_can_fall_and_not_hold():
    above, below = contrast("", HIGH, LOW), contrast("", LOW, HIGH)
    (judged,) = judge([Claim("X1", "", "", "3", (above,), partial="the other task not run")])
    assert (judged.verdict, judged.why) == (UNDECIDED, "1 of 1 comparisons shown over 5 seeds; the other task not run")
    (judged,) = judge([Claim("X1", "", "", "3", (below,), partial="the other task not run")])
    assert judged.verdict == NOT


def test_one_that_needs_a_few_can_hold_and_not_fall():
    above, below = contrast("a", HIGH, LOW), contrast("b", LOW, HIGH)
    verdict = lambda *tests, need: judge([Claim("X1", "", "", "3", tests, need, partial="the rest not run")])[0].verdict  # noqa: E731
    assert verdict(above, need=1) == verdict(above, below, need=1) == HOLDS
    assert verdict(below, need=1) == verdict(below, below, need=2) == verdict(above, below, need=2) == UNDECIDED


def test_the_weakest_comparison():
    strong, weak = contrast("strong", HIGH, LOW), contrast("weak", [2.0, 3.0, 2.5, 2.0, 3.0], LOW)
    assert claim(strong, weak).weakest == weak
    assert claim(strong, weak, contrast("open", NOISE, [0.0] * 5)).weakest.said == "open"
    assert claim().weakest is None


def test_as_a_table_and_as_text():
    made = judge([claim(contrast("a, b", HIGH, LOW), contrast("c", [3.0], [1.0])), claim(blocked="needs more")])
    rows = list(csv.DictReader(io.StringIO(table(made))))
    assert [row["comparison"] for row in rows] == ["a, b", "c", ""]
    first, second, third = rows
    assert float(first["value"]) == pytest.approx(9.4) and first["outcome"] == HOLDS and first["seeds"] == "5"
    assert float(first["low"]) < 9.4 < float(first["high"]) and 0 < float(first["p"]) <= float(first["p_holm"])
    assert (second["value"], second["low"], second["p"], second["outcome"]) == ("2", "", "", UNDECIDED)
    assert (third["verdict"], third["why"], third["value"]) == (NOT_RUN, "needs more", "")
    assert "nan" not in table(made) and "inf" not in table(made)
    text = lines(made)
    assert text[0] == "X1   undecided: one is above the other (one seed has no interval)" and text[1] == "     c 2.00"
    assert text[2].startswith("X1   not run")
