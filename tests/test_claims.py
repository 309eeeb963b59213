"""Claims: verdicts by hand, Holm within a figure, what is said where nothing can be concluded."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from isthmus.evaluation import statistics
from isthmus.studies.claims import HOLDS, NOT, NOT_RUN, UNDECIDED, Claim, contrast, judge, lines, table

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


def test_holm_within_a_figure():
    """Each is significant by itself, at 0.01 to 0.05; together, by Holm, none is; another figure's is left alone."""
    near = [contrast("", np.add([4, 1, 3, 2, 0.5], shift), [0.0] * 5) for shift in (0.0, 0.1, 0.2)]
    assert all(each.outcome == HOLDS and 0.01 < each.pvalue < 0.05 for each in near)
    equal = contrast("", NOISE, [0.0] * 5, "equal", 5.0)
    judged = judge([claim(*near[:2]), claim(near[2], equal), claim(near[0], figure="4")])
    wanted = statistics.holm([each.estimate.pvalue for each in near])
    assert [each.pvalue for each in (*judged[0].contrasts, judged[1].contrasts[0])] == wanted
    assert [each.verdict for each in judged] == [UNDECIDED, UNDECIDED, HOLDS]
    assert judged[1].contrasts[1] == equal, "equality is no difference"


def test_a_claim_of_which_a_part_was_not_run_can_fall_and_not_hold():
    above, below = contrast("", HIGH, LOW), contrast("", LOW, HIGH)
    (judged,) = judge([Claim("X1", "", "", "3", (above,), partial="the other task not run")])
    assert (judged.verdict, judged.why) == (UNDECIDED, "1 of 1 comparisons shown over 5 seeds; the other task not run")
    (judged,) = judge([Claim("X1", "", "", "3", (below,), partial="the other task not run")])
    assert judged.verdict == NOT


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
