"""Claims: verdicts by hand, Holm over a figure's claims, what is said where nothing can be
concluded.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isthmus.evaluation import statistics
from isthmus.papers import registry
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.claims_table import (
    COLUMNS,
    describe_claims,
    format_claims_csv,
    group_by_verdict,
)
from isthmus.studies.contrasts import (
    HOLDS,
    NOT,
    NOT_RUN,
    UNDECIDED,
    Contrast,
    Wanted,
    best_among,
    contrast,
)
from isthmus.studies.results import read_results

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
    good, bad, open_ = (
        contrast("", HIGH, LOW),
        contrast("", LOW, HIGH),
        contrast("", NOISE, [0.0] * 5),
    )
    assert claim(good, good).verdict == HOLDS
    assert claim(good, bad).verdict == NOT and claim(open_, bad).verdict == NOT
    assert (
        claim(good, open_).verdict == UNDECIDED
        and "1 of 2 comparisons shown" in claim(good, open_).why
    )
    assert (
        claim(good, bad, need=1).verdict == HOLDS and claim(bad, open_, need=1).verdict == UNDECIDED
    )
    assert claim(bad, bad, need=1).verdict == NOT
    assert (
        claim().verdict == NOT_RUN
        and claim(inconclusive_because="needs figure 7").why == "needs figure 7"
    )
    little = claim(good, inconclusive_because="too little training")
    assert (little.verdict, little.why) == (UNDECIDED, "too little training")


def test_few_seeds_point():
    few = claim(contrast("", HIGH[:4], LOW[:4]))
    assert few.verdict == "points to: holds" and "4 seeds" in few.why
    assert claim(contrast("", LOW[:3], HIGH[:3])).verdict == "points to: does not hold"
    assert claim(contrast("", HIGH[:4], LOW[:4], "equal", 100.0)).verdict == UNDECIDED, (
        "four seeds show no equality"
    )
    assert claim(contrast("", [3.0], [1.0])).why == "one seed has no interval"


def test_the_seeds_that_count_are_those_that_carry_the_verdict():
    """It falls by one comparison with five seeds, whatever the others have; it holds by all, the
    fewest among them.
    """
    five, three = contrast("five", LOW, HIGH), contrast("three", LOW[:3], HIGH[:3])
    still_open = contrast("open", NOISE[:3], [0.0] * 3)
    assert claim(five, still_open).verdict == NOT and claim(five, still_open).why.endswith(
        "5 seeds"
    )
    assert claim(five, three).verdict == NOT, "one of five is enough"
    assert claim(three, contrast("", NOISE, [0.0] * 5)).verdict == f"points to: {NOT}"
    for_it, few_for_it = contrast("five", HIGH, LOW), contrast("three", HIGH[:3], LOW[:3])
    assert claim(for_it, few_for_it).verdict == f"points to: {HOLDS}", "all carry it"
    assert claim(for_it, few_for_it, need=1).verdict == HOLDS
    assert claim(for_it, few_for_it, for_it, need=2).verdict == HOLDS
    assert claim(five, three, still_open, need=2).verdict == f"points to: {NOT}", (
        "two of three have to be contrary"
    )
    one = contrast("one seed", [1.0], [5.0])
    assert claim(five, one).verdict == NOT and claim(for_it, one).verdict == UNDECIDED


def near(*shifts: float) -> list[Contrast]:
    """Each is significant by itself, at 0.01 to 0.05."""
    found = [contrast("", np.add([4, 1, 3, 2, 0.5], shift), [0.0] * 5) for shift in shifts]
    assert all(each.outcome == HOLDS and 0.01 < each.raw.apart < 0.05 for each in found)
    return found


def test_holm_over_the_claims_of_a_figure():
    """Three claims with p of 0.03, 0.028 and 0.026, none of which survives that; another figure's
    is left alone.
    """
    three = near(0.0, 0.1, 0.2)
    judged = adjust_p_values([*map(claim, three), claim(three[0], figure="4")])
    wanted = statistics.holm([each.estimate.pvalue for each in three])
    assert [each.adjusted.holds for each in judged[:3]] == wanted
    assert [each.verdict for each in judged] == [UNDECIDED] * 3 + [HOLDS]
    assert judged[3].adjusted.holds == three[0].raw.apart


def test_a_claim_of_all_is_an_intersection_union_test():
    """By hand: as a claim of three its p is the largest, as it is; beside another claim it counts
    as one.
    """
    three = near(0.0, 0.1, 0.2)
    (alone,) = adjust_p_values([claim(*three)])
    assert alone.verdict == HOLDS and alone.raw.holds == alone.adjusted.holds == max(
        t.raw.apart for t in three
    )
    assert [t.adjusted for t in alone.contrasts] == [t.raw for t in three]
    sure = claim(contrast("", HIGH, LOW))
    assert [each.verdict for each in adjust_p_values([claim(*three), sure])] == [HOLDS, HOLDS], (
        "Holm is done with the other"
    )
    both = adjust_p_values([claim(*three), claim(contrast("", NOISE, [0.0] * 5))])
    assert both[0].verdict == UNDECIDED
    assert both[0].adjusted.holds == pytest.approx(2 * max(t.raw.apart for t in three))


def test_falling_by_any_one_is_corrected_within():
    """p = 0.03 against it by itself; as one of two that it could have fallen by, 0.06."""
    (against,) = [replace(each, wanted="below") for each in near(0.0)]
    assert adjust_p_values([claim(against)])[0].verdict == NOT
    (judged,) = adjust_p_values([claim(against, contrast("", NOISE, [0.0] * 5, "below"))])
    assert judged.verdict == UNDECIDED
    assert judged.raw.falls == judged.adjusted.falls == pytest.approx(2 * against.raw.apart)
    assert judged.contrasts[0].adjusted.apart == pytest.approx(2 * against.raw.apart)
    three = [replace(each, wanted="below") for each in near(0.0, 0.1, 0.2)]
    assert adjust_p_values([claim(*three)])[0].verdict == UNDECIDED, "each of them three times"
    assert adjust_p_values([claim(*three, need=1)])[0].verdict == NOT, (
        "all have to be contrary: the largest"
    )


def test_holding_by_any_one_is_corrected_within():
    (above,) = near(0.0)
    (judged,) = adjust_p_values([claim(above, contrast("", NOISE, [0.0] * 5), need=1)])
    assert judged.verdict == UNDECIDED and judged.raw.holds == pytest.approx(2 * above.raw.apart)
    two_of_three = adjust_p_values(
        [claim(*near(0.0, 0.1), contrast("", NOISE, [0.0] * 5), need=2)]
    )[0]
    assert two_of_three.raw.holds == pytest.approx(
        2 * max(each.raw.apart for each in near(0.0, 0.1))
    )


def test_verdicts_by_counting_are_those_of_the_claims_pvalues():
    rng = np.random.default_rng(0)
    decided = set()
    for _ in range(60):
        family = []
        for _ in range(4):
            k = rng.integers(1, 4)
            shifts, need = rng.choice([-2.0, 0.0, 2.0, 4.0], k), rng.choice([None, 1, int(k)])
            margin = rng.choice([math.nan, 2.5])
            tests = (
                contrast(f"{i}", rng.normal(x, 1, 5), [0.0] * 5, "above", margin)
                for i, x in enumerate(shifts)
            )
            family.append(claim(*tests, need=need))
        for each in adjust_p_values(family):
            holds, falls = (p < 0.05 for p in each.adjusted)
            decided.add(each.verdict)
            assert (each.verdict == HOLDS) == holds and (each.verdict == NOT) == (
                falls and not holds
            )
    assert decided == {HOLDS, NOT, UNDECIDED}


@pytest.mark.slow
def test_a_figure_comes_to_a_wrong_verdict_as_seldom_as_is_said():
    """Five claims, of one, two or three comparisons, half of them with nothing in them: 0.05 of
    1000 figures is 50, and one standard deviation 7.
    """
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(1000):
        family = [
            claim(contrast("", rng.normal(0, 1, 5), [0.0] * 5)),
            claim(
                contrast("", rng.normal(0, 1, 5), [0.0] * 5),
                contrast("", rng.normal(9, 1, 5), [0.0] * 5),
            ),
            claim(
                *(
                    contrast("", rng.normal(0, 1, 5), rng.normal(0, 1, 5), paired=False)
                    for _ in range(3)
                ),
                need=1,
            ),
            claim(contrast("", rng.normal(9, 1, 5), [0.0] * 5)),
            claim(contrast("", rng.normal(1, 0.4, 5), [0.0] * 5, "above", 1.0)),
        ]
        judged = adjust_p_values(family)
        assert judged[3].verdict == HOLDS
        wrong += any(each.verdict != UNDECIDED for each in judged[:3]) or judged[4].verdict == NOT
    assert wrong / 1000 < 0.07


def test_equality_is_adjusted_too_for_a_claim_and_against_it():
    """p = 0.02 by itself that the difference is within the margin; among five claims it is
    nothing.
    """
    margin = 1.2
    decided: list[tuple[Wanted, str]] = [("above", NOT), ("below", NOT), ("equal", HOLDS)]
    others = [claim(contrast(f"{i}", np.add(NOISE, i / 10), [0.0] * 5)) for i in range(4)]
    for wanted, alone in decided:
        small = contrast("small", NOISE, [0.0] * 5, wanted, margin)
        assert 0.01 < small.raw.within < 0.05 and claim(small).verdict == alone
        judged = adjust_p_values([claim(small), *others])[0]
        assert judged.verdict == UNDECIDED
        assert judged.contrasts[0].adjusted.within == pytest.approx(5 * small.raw.within)
    beyond = contrast("large", np.add(NOISE, 3.0), [0.0] * 5, "equal", 1.5)
    assert (
        beyond.outcome == NOT
        and 0.01 < beyond.raw.apart < 0.05
        and beyond.raw.apart > beyond.estimate.pvalue
    )
    assert adjust_p_values([claim(beyond), *others])[0].verdict == UNDECIDED


def test_a_claims_two_verdicts_count_once():
    """They exclude each other; the same comparison in two claims is two claims."""
    small = contrast("small", NOISE, [0.0] * 5, "above", 1.5)
    assert adjust_p_values([claim(small)])[0].contrasts[0].adjusted == small.raw
    same = contrast("small", NOISE, [0.0] * 5, "below", 1.5)
    twice = [each.contrasts[0].adjusted for each in adjust_p_values([claim(small), claim(same)])]
    assert [each.within for each in twice] == pytest.approx([2 * small.raw.within] * 2)


def test_what_is_above_zero_by_itself_does_not_speak_against_it():
    """It is shown to be smaller than the margin, too, and more surely: no verdict where the other
    is lost by Holm.
    """
    scores = [0.05, 0.3, 0.2, 0.1, 0.4]
    small = contrast("", scores, [0.0] * 5, "above", 1.0)
    assert small.raw.apart < 0.05 and small.raw.within < 0.001 and small.outcome == HOLDS
    assert small.contradicting == 1.0
    others = [claim(contrast(f"{i}", NOISE, [0.0] * 5)) for i in range(4)]
    judged = adjust_p_values([claim(small), *others])[0]
    assert judged.verdict == UNDECIDED and judged.contrasts[0].adjusted.within < 0.05


def test_unpaired_where_nothing_is_shared():
    unpaired = contrast("", HIGH, LOW[:3], paired=False)
    assert unpaired.estimate == statistics.difference(HIGH, LOW[:3]) and unpaired.estimate.n == 3
    within, more = statistics.against_margin(HIGH, LOW, 1.0)
    assert contrast("", HIGH, LOW, "equal", 1.0, paired=False).raw == (more, within)


def test_the_largest_of_several_pays_for_the_choice():
    (one,) = near(0.0)
    best = best_among(one, 4)
    assert (
        best.raw.apart == best.adjusted.apart == pytest.approx(4 * one.raw.apart)
        and best.outcome == UNDECIDED
    )
    assert adjust_p_values([claim(best)])[0].contrasts[0].adjusted == best.raw
    assert best_among(one, 1000).raw.apart == 1.0 and math.isnan(
        best_among(contrast("", [1.0], [0.0]), 4).raw.apart
    )


def test_a_claim_that_spans_figures_is_adjusted_with_all_of_them():
    one, two, three, four = near(0.0, 0.1, 0.2, 0.3)
    judged = adjust_p_values(
        [claim(one, figure="3"), claim(two, figure="4"), claim(three, figure="3, 4"), claim(four)]
    )
    first, second, both, _ = (each.adjusted.holds for each in judged)
    of = lambda *family: statistics.holm([each.estimate.pvalue for each in family])
    assert first == of(one, three, four)[0], "figure 3's, with what spans it"
    assert second == of(two, three)[0] and both == of(three, one, two, four)[0]
    assert (
        adjust_p_values([claim(one, figure="4-lambda"), claim(two, figure="4")])[0]
        .contrasts[0]
        .adjusted
        == one.raw
    )


def test_a_claim_of_which_a_part_was_not_run_can_fall_and_not_hold():
    above, below = contrast("", HIGH, LOW), contrast("", LOW, HIGH)
    (judged,) = adjust_p_values(
        [Claim("X1", "", "", "3", (above,), partial="the other task not run")]
    )
    assert judged.verdict == UNDECIDED and judged.undecided_by == ("missing units",)
    assert judged.why == "1 of 1 comparisons shown; missing units: the other task not run"
    assert math.isnan(judged.raw.holds) and judged.raw.falls == 1.0
    (judged,) = adjust_p_values(
        [Claim("X1", "", "", "3", (below,), partial="the other task not run")]
    )
    assert judged.verdict == NOT


def test_what_an_undecided_claim_lacks():
    """Seeds, scale or experiments, and which of them at which scale."""
    still_open = contrast("a - b", NOISE, [0.0] * 5)
    lacking = adjust_p_values([claim(still_open, scope="100 of 400 iterations")])[0]
    assert lacking.undecided_by == ("seeds",) and lacking.conclusion == UNDECIDED
    shown = statistics.detectable_difference(still_open.estimate, 0.05)
    assert (
        f"seeds: 5 seeds would show a difference of {shown:.2g} in four cases of five, found -0.02"
        in lacking.why
    )
    among_two = adjust_p_values([claim(still_open), claim(contrast("c", NOISE, [0.0] * 5))])[
        0
    ].contrasts[0]
    assert among_two.detectable == pytest.approx(
        statistics.detectable_difference(still_open.estimate, 0.025)
    )
    assert among_two.detectable > shown
    margin = contrast("a - b", NOISE, [0.0] * 5, "equal", 0.5)
    needed = statistics.detectable_margin(margin.estimate)
    assert (
        f"5 seeds would show 0 to be within {needed:.2g} in four cases of five, found -0.02, "
        "margin 0.5" in (claim(margin).why)
    )
    assert (
        "4 seeds show no equality, whatever the margin"
        in claim(contrast("", NOISE[:4], [0.0] * 4, "equal", 9)).why
    )
    robots = claim(
        contrast("", HIGH, LOW), beyond="ant at paper scale only", partial="hopper not run", need=3
    )
    assert robots.undecided_by == ("robots", "missing units")
    assert robots.why.endswith(
        "3 needed; robots: ant at paper scale only; missing units: hopper not run"
    )
    assert claim(still_open, inconclusive_because="too little training").undecided_by == (
        "seeds",
        "scale",
    )
    assert claim(contrast("", HIGH, LOW)).undecided_by == claim().undecided_by == ()
    never = replace(still_open, censored=True)
    assert claim(never).undecided_by == ("scale",) and "too little training" in claim(never).why
    assert claim(contrast("", [1.0], [0.0])).undecided_by == ("seeds",)


def test_the_power_for_a_papers_own_effect():
    """At the test's own correction; NaN where the paper gives no number. A sixth of a standard
    error is hardly ever found, ten of them always.
    """
    still_open = contrast("a - b", NOISE, [0.0] * 5)
    assert math.isnan(still_open.power) and math.isnan(claim(still_open).power)
    found = replace(still_open, paper_effect=still_open.detectable)
    assert found.power == pytest.approx(0.8, abs=1e-6)
    assert replace(found, level=0.01).power < 0.7
    assert replace(found, paper_effect=-found.paper_effect).power == pytest.approx(found.power)
    assert replace(contrast("", [3.0], [1.0]), paper_effect=1.0).power == 0.0
    assert replace(contrast("", [3.0, 3.0], [1.0, 1.0]), paper_effect=1.0).power == 1.0
    sure = replace(still_open, paper_effect=100.0)
    assert claim(sure, found, still_open).power == found.power
    judged = adjust_p_values([claim(found), claim(contrast("c", NOISE, [0.0] * 5))])
    assert judged[0].power < 0.8
    row = next(csv.DictReader(io.StringIO(format_claims_csv([claim(found, foremost=True)]))))
    assert (row["power"], row["foremost"]) == ("0.8", "yes") and row["paper_effect"]


def test_a_verdict_says_what_it_is_of():
    judged = adjust_p_values(
        [claim(contrast("", LOW, HIGH), scope="150 of 1,000 steps, one robot alone")]
    )[0]
    assert (
        judged.verdict == NOT
        and judged.conclusion == f"{NOT} (150 of 1,000 steps, one robot alone)"
    )
    assert describe_claims([judged])[0].startswith(
        f"X1   {NOT} (150 of 1,000 steps, one robot alone): one is above"
    )
    assert (
        next(csv.DictReader(io.StringIO(format_claims_csv([judged]))))["scope"]
        == "150 of 1,000 steps, one robot alone"
    )


def test_controls_stand_beside_and_decide_nothing():
    control = contrast("longer", LOW, HIGH)
    (with_it,), (without,) = (
        adjust_p_values([claim(contrast("a - b", HIGH, LOW), controls=c)]) for c in ((control,), ())
    )
    assert with_it.verdict == without.verdict == HOLDS and with_it.adjusted == without.adjusted
    rows = [*csv.DictReader(io.StringIO(format_claims_csv([with_it])))]
    assert [row["role"] for row in rows] == ["claim", "control"]
    assert rows[0]["p_holm"] and rows[1]["p"] and not rows[1]["p_holm"]
    assert describe_claims([with_it])[2].startswith("     beside it, not corrected: longer -9.40 [")


def test_three_of_four_fall_by_two():
    """Where it is known how many there should be, those that are missing can no longer turn it."""
    above, below = contrast("a", HIGH, LOW), contrast("b", LOW, HIGH)
    of_four = lambda *tests: adjust_p_values(
        [claim(*tests, need=3, planned=4, partial="the rest not run")]
    )[0]
    assert (
        of_four(below).verdict
        == of_four(above, above).verdict
        == of_four(above, below).verdict
        == UNDECIDED
    )
    assert of_four(below, below).verdict == NOT and of_four(above, above, above).verdict == HOLDS
    assert of_four(below, below).raw.falls == max(below.raw.apart, below.raw.apart), (
        "both of two: no correction"
    )
    assert "0 of 1 comparisons shown, 1 contrary; 3 needed of 4" in of_four(below).why


def test_the_verdicts_in_short():
    found = group_by_verdict(
        [
            ("A1", HOLDS, ""),
            ("A2", UNDECIDED, "seeds"),
            ("A3", HOLDS, ""),
            ("A4", UNDECIDED, "scale"),
        ]
    )
    assert found == ["holds: A1, A3", "undecided by scale: A4", "undecided by seeds: A2"]
    judged = adjust_p_values([claim(contrast("", HIGH, LOW))])
    assert describe_claims(judged)[-2:] == ["", "holds: X1"]


def test_one_that_needs_a_few_can_hold_and_not_fall():
    above, below = contrast("a", HIGH, LOW), contrast("b", LOW, HIGH)
    verdict = lambda *tests, need: (
        adjust_p_values([Claim("X1", "", "", "3", tests, need, partial="the rest not run")])[
            0
        ].verdict
    )
    assert verdict(above, need=1) == verdict(above, below, need=1) == HOLDS
    assert (
        verdict(below, need=1)
        == verdict(below, below, need=2)
        == verdict(above, below, need=2)
        == UNDECIDED
    )


def test_the_weakest_comparison():
    strong, weak = contrast("strong", HIGH, LOW), contrast("weak", [2.0, 3.0, 2.5, 2.0, 3.0], LOW)
    assert claim(strong, weak).weakest == weak
    assert claim(strong, weak, contrast("open", NOISE, [0.0] * 5)).weakest.label == "open"
    assert claim().weakest is None


def test_as_a_table_and_as_text():
    made = adjust_p_values(
        [
            claim(contrast("a, b", HIGH, LOW), contrast("c", [3.0], [1.0])),
            claim(inconclusive_because="needs more"),
        ]
    )
    rows = list(csv.DictReader(io.StringIO(format_claims_csv(made))))
    assert [row["comparison"] for row in rows] == ["a, b", "c", ""]
    first, second, third = rows
    assert (
        float(first["value"]) == pytest.approx(9.4)
        and first["outcome"] == HOLDS
        and first["seeds"] == "5"
    )
    assert float(first["low"]) < 9.4 < float(first["high"]) and 0 < float(first["p"]) <= float(
        first["p_holm"]
    )
    assert (second["value"], second["low"], second["p"], second["outcome"]) == (
        "2",
        "",
        "",
        UNDECIDED,
    )
    assert (third["verdict"], third["why"], third["value"]) == (NOT_RUN, "needs more", "")
    assert "nan" not in format_claims_csv(made) and "inf" not in format_claims_csv(made)
    text = describe_claims(made)
    lacks = "seeds: c has one, and no interval"
    assert text[0] == f"X1   undecided: one is above the other (1 of 2 comparisons shown; {lacks})"
    assert text[1] == "     c 2.00"
    assert text[2].startswith("X1   not run")


# What lies in results/ and stands on the pages


ROOT = Path(__file__).parents[2]
OLD_COLUMNS = (
    "claim",
    "figure",
    "verdict",
    "why",
    "text",
    "statistic",
    "comparison",
    "wanted",
    "outcome",
    "value",
    "low",
    "high",
    "seeds",
    "p",
    "p_holm",
    "margin",
    "p_within",
    "p_within_holm",
)
PAGES = {"matl": "matl.md", "dap": "dap.md", "es-sim2real": "es_sim2real.md"}


def written(study: str) -> dict[str, tuple[str, str, str]]:
    with (ROOT / "results" / study / "laptop-claims.csv").open(newline="") as file:
        return {
            r["claim"]: (r["claim"], r["verdict"], r["undecided_by"]) for r in csv.DictReader(file)
        }


@pytest.mark.parametrize("study", PAGES)
def test_the_pages_list_every_verdict(study):
    """Each as the results have it: all of the undecided, and not 16 of 23."""
    page, verdicts = (
        (ROOT / "docs" / "lab" / PAGES[study]).read_text(encoding="utf-8"),
        written(study),
    )
    for line in group_by_verdict(verdicts.values()):
        assert "| {} | {} |".format(*line.rsplit(": ", 1)) in page
    rows = [
        row
        for row in page.splitlines()
        if row.startswith(("| undecided", "| holds", "| does not", "| points to"))
    ]
    listed = [claim for row in rows for claim in row.strip("| ").rsplit("| ", 1)[1].split(", ")]
    assert sorted(listed) == sorted(
        claim for claim, verdict, _ in verdicts.values() if verdict != NOT_RUN
    )


@pytest.mark.parametrize("study", PAGES)
def test_the_written_verdicts_are_those_of_the_units_files(study):
    found = registry.find_study(study)
    done, _ = read_results(found.trials("laptop", None), ROOT / "results" / study)
    claims = found.claims(done)
    assert {c.id: (c.id, c.verdict, ", ".join(c.undecided_by)) for c in claims} == written(study)
    assert (
        (ROOT / "results" / study / "laptop.txt")
        .read_text(encoding="utf-8")
        .endswith("\n".join(describe_claims(claims)) + "\n")
    )


def test_older_files_columns_come_first():
    assert COLUMNS[: len(OLD_COLUMNS)] == OLD_COLUMNS
    old = (
        ",".join(OLD_COLUMNS)
        + "\nX1,3,holds,all,text,J,a - b,above,holds,1,0.5,1.5,5,0.01,0.02,,,\n"
    )
    (row,) = csv.DictReader(io.StringIO(old))
    new = next(
        csv.DictReader(
            io.StringIO(format_claims_csv(adjust_p_values([claim(contrast("a - b", HIGH, LOW))])))
        )
    )
    assert row.keys() <= new.keys() and (row["verdict"], row["seeds"]) == (
        new["verdict"],
        new["seeds"],
    )


def test_verdicts_that_moved_by_statistics_alone():
    """E1 holds as an intersection-union test; D4 and D5 fall by comparisons with five seeds
    each.
    """
    es, dap = written("es-sim2real"), written("dap")
    assert es["E1"][1] == HOLDS and dap["D4"][1] == dap["D5"][1] == NOT
    page = (ROOT / "docs" / "guide" / "statistics.md").read_text(encoding="utf-8")
    assert "| E1 | undecided | holds |" in page
    assert all(f"| {d} | points to: does not hold | does not hold |" in page for d in ("D4", "D5"))
