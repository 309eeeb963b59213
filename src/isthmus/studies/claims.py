"""Claims of a paper, each with the comparisons that decide it: *holds*, *does not hold* or
*undecided*, and why.

A claim is decided by `Contrast`s, differences of means over seeds, tested by Student's t: paired
where seed i of both sides stands on the same run or log, by Welch's test where they share nothing.
A difference counts where its interval leaves zero out and its p-value stays below 5 %. "Equal"
means shown to be within a margin (two one-sided tests), not "no detectable difference". Under
`statistics.FEW` seeds, of the comparisons that carry it, a verdict is at most "points to ...".

What is corrected for is the number of claims of a figure (Holm), a claim that spans several figures
with those of all of them. Within a claim: one of all its k comparisons has the largest of their
p-values, as it is (the intersection-union test), and falls by any one of them, whose p-value is
taken k times; in between see `statistics.conjunction`. A claim's two verdicts exclude each other,
and count once (Shaffer 1986).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.statistics import Estimate

HOLDS, NOT, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
SEEDS, SCALE, EXPERIMENTS = "seeds", "scale", "experiments not run"  # by what a claim is undecided
COLUMNS: tuple[str, ...] = (
    "claim", "figure", "verdict", "why", "text", "statistic", "comparison", "wanted", "outcome", "value", "low", "high",
    "seeds", "p", "p_holm", "margin", "p_within", "p_within_holm", "role", "method", "detectable", "p_holds",
    "p_holds_holm", "p_falls", "p_falls_holm", "undecided_by", "scope",
)  # fmt: skip
UNCORRECTED = dict.fromkeys(("p_holm", "p_within_holm"), "")  # a control's cells

ALPHA = 1.0 - statistics.CONFIDENCE_LEVEL
Wanted = Literal["above", "below", "equal"]


class PValues(NamedTuple):
    """Of a contrast's two possible conclusions: it is `apart` from zero (where equality is wanted:
    from all that is within the margin), or `within` the margin. NaN where that cannot be concluded.
    """

    apart: float = math.nan
    within: float = math.nan


class ClaimPValues(NamedTuple):
    """Of a claim's two possible verdicts; NaN where its comparisons cannot lead to that verdict."""

    holds: float = math.nan
    falls: float = math.nan


UNTESTED = PValues()
UNJUDGED = ClaimPValues()


@dataclass(frozen=True)
class Contrast:
    """One comparison. The claim wants the estimate above zero, below it, or within `margin` of it
    ("equal").

    `judge` gives the adjusted p-values, which decide: times what they are corrected for, within the
    claim and over the figure's claims; `level` is what the p-value for the claim has to stay below.
    `censored` is one of times that neither side ever reached: of it nothing can be told.
    """

    label: str
    estimate: Estimate
    wanted: Wanted = "above"
    margin: float = math.nan
    raw: PValues = UNTESTED
    adjusted: PValues = UNTESTED
    censored: bool = False
    level: float = ALPHA

    @property
    def supporting(self) -> float:
        """The p-value for what the claim wants; 1 where the difference is on the other side."""
        if self.wanted == "equal":
            return self.raw.within
        return self.raw.apart if self.on_wanted_side else _unless_untested(self.raw.apart)

    @property
    def contradicting(self) -> float:
        """The p-value against it: of the other side, or of less than the margin. What is above zero
        by itself, however little, does not speak against a claim that wants it to be.
        """
        if self.wanted == "equal":
            return self.raw.apart
        if not self.on_wanted_side:
            return float(np.fmin(self.raw.apart, self.raw.within))
        if self.raw.apart < ALPHA or math.isnan(self.raw.within):
            return _unless_untested(self.raw.apart)
        return self.raw.within

    @property
    def detectable(self) -> float:
        """What these seeds, with the spread that they showed, would show in four cases of five at
        `level`: the smallest difference, or where equality is wanted the smallest margin.
        """
        detect = (
            statistics.detectable_margin
            if self.wanted == "equal"
            else statistics.detectable_difference
        )
        return detect(self.estimate, self.level)

    @property
    def on_wanted_side(self) -> bool:
        """Whether the difference has the sign that the claim wants (of "above" and "below")."""
        return (self.estimate.value > 0.0) == (self.wanted == "above")

    @property
    def _side(self) -> str:
        """Where all of the interval lies, of zero or the margin; empty where it holds some of that."""
        bound = self.margin if self.wanted == "equal" else 0.0
        if self.estimate.low > bound:
            return "above"
        return "below" if self.estimate.high < -bound else ""

    @property
    def outcome(self) -> str:
        if self.estimate.n < 2 or self.censored:
            return UNDECIDED
        if self._side and self.adjusted.apart < ALPHA:
            return HOLDS if self._side == self.wanted else NOT
        if self.wanted == "equal" and self.adjusted.within < ALPHA:
            return HOLDS
        if self.adjusted.within < ALPHA and self.contradicting <= self.raw.within:
            return NOT
        return UNDECIDED


def _unless_untested(pvalue: float) -> float:
    return math.nan if math.isnan(pvalue) else 1.0


def contrast(
    said: str, a: Sequence[float], b: Sequence[float], wanted: Wanted = "above",
    margin: float = math.nan, *, paired: bool = True,
) -> Contrast:  # fmt: skip
    """The contrast a - b; `paired` where row i of both is one seed that they share something by.
    With a margin (in the scores' units) a difference that is shown to be smaller speaks against
    "above" and "below".
    """
    estimate = statistics.difference(a, b, paired=paired)
    apart, within = estimate.pvalue, math.nan
    if margin > 0.0:
        within, more = statistics.against_margin(a, b, margin, paired=paired)
        apart = more if wanted == "equal" else apart
    return Contrast(said, estimate, wanted, margin, raw := PValues(apart, within), raw)


def best_among(best: Contrast, among: int) -> Contrast:
    """A contrast that was looked at because it is the largest of so many: its difference's p-value
    pays for all of them (Bonferroni).
    """
    raw = best.raw._replace(apart=min(among * best.raw.apart, 1.0))
    return replace(best, raw=raw, adjusted=raw)


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the statistic that decides it, and its contrasts.

    `need` of them must hold (None: all), of `planned` with all its experiments (0: of those that
    are there). `blocked` says why nothing can be concluded whatever they give (too little
    training); a claim without any was not run, and `blocked` says what it lacks. `partial` says
    which of its experiments are missing, `beyond` which of them are not of this scale at all: then
    a claim of all can fall but not hold, and one that needs a few hold, but fall only where it is
    known how many are `planned`. `scope` says of what training and robots a verdict is. `controls`
    are comparisons beside it, that it does not ask for: told without any correction, and of no
    weight.
    """

    id: str
    text: str
    statistic: str
    figure: str = ""
    contrasts: tuple[Contrast, ...] = ()
    need: int | None = None
    inconclusive_because: str = ""
    partial: str = ""
    beyond: str = ""
    planned: int = 0
    scope: str = ""
    controls: tuple[Contrast, ...] = ()
    adjusted: ClaimPValues = UNJUDGED

    @property
    def figures(self) -> set[str]:
        """`figure` may name several: "3, 4"."""
        return {*self.figure.split(", ")}

    @property
    def verdict(self) -> str:
        return self._judged()[0]

    @property
    def why(self) -> str:
        return self._judged()[1]

    @property
    def conclusion(self) -> str:
        """The verdict with its scope, where it is one."""
        decided = self.verdict not in (UNDECIDED, NOT_RUN)
        return f"{self.verdict} ({self.scope})" if self.scope and decided else self.verdict

    @property
    def raw(self) -> ClaimPValues:
        """P-values of the two verdicts, not corrected for other claims."""
        supporting, contradicting = self._tested()
        complete = self.need is not None or not self._missing
        holds = statistics.conjunction(supporting, self._needed) if complete else math.nan
        return ClaimPValues(holds, statistics.conjunction(contradicting, self._contrary_needed))

    @property
    def undecided_by(self) -> tuple[str, ...]:
        """What an undecided claim lacks: seeds, scale, experiments that were not run."""
        if self.verdict != UNDECIDED:
            return ()
        lacking = {
            SEEDS: bool(self.inconclusive_because or self._open),
            SCALE: bool(self.inconclusive_because or self.beyond)
            or any(each.censored for each in self.contrasts),
            EXPERIMENTS: bool(self.partial),
        }
        return tuple(cause for cause, lacks in lacking.items() if lacks)

    @property
    def weakest(self) -> Contrast | None:
        """The contrast that speaks least for the claim."""
        return min(self.contrasts, key=_rank_support, default=None)

    def within_factors(self) -> ClaimPValues:
        """Return what the p-value of one comparison is corrected for, so that as many as are needed
        lead to a verdict where its own p-value does.
        """
        supporting, contradicting = self._tested()
        holds = max(1, len(supporting) - self._needed + 1)
        return ClaimPValues(holds, max(1, len(contradicting) - self._contrary_needed + 1))

    @property
    def _missing(self) -> bool:
        return bool(self.partial or self.beyond)

    @property
    def _needed(self) -> int:
        return len(self.contrasts) if self.need is None else self.need

    @property
    def _contrary_needed(self) -> int:
        """How many comparisons have to be contrary for the claim to fall; more than there are where
        none can tell.
        """
        if self.need is None:
            return 1
        if self._missing and not self.planned:
            return len(self.contrasts) + 1
        return max(self.planned, len(self.contrasts)) - self.need + 1

    @property
    def _open(self) -> list[Contrast]:
        return [each for each in self.contrasts if each.outcome == UNDECIDED and not each.censored]

    def _tested(self) -> tuple[list[float], list[float]]:
        """The p-values for the claim and against it, of the comparisons that have such."""
        supporting = [each.supporting for each in self.contrasts if not each.censored]
        contradicting = [each.contradicting for each in self.contrasts if not each.censored]
        return [p for p in supporting if not math.isnan(p)], [
            p for p in contradicting if not math.isnan(p)
        ]

    def _judged(self) -> tuple[str, str]:
        if not self.contrasts:
            return NOT_RUN, self.inconclusive_because
        if self.inconclusive_because:
            return UNDECIDED, self.inconclusive_because
        if all(each.estimate.n < 2 for each in self.contrasts):
            return UNDECIDED, "one seed has no interval"
        supporting, contrary = (self._seeds_of(word) for word in (HOLDS, NOT))
        complete = self.need is not None or not self._missing
        if complete and len(supporting) >= self._needed:
            return self._decided(HOLDS, supporting[self._needed - 1])
        if len(contrary) >= self._contrary_needed:
            return self._decided(NOT, contrary[self._contrary_needed - 1])
        return UNDECIDED, "; ".join([self._count(), *self._lacks()])

    def _seeds_of(self, outcome: str) -> list[int]:
        """Seeds behind the comparisons with this outcome, the most first."""
        return sorted(
            (each.estimate.n for each in self.contrasts if each.outcome == outcome), reverse=True
        )

    def _decided(self, word: str, seeds: int) -> tuple[str, str]:
        """The verdict and why; `seeds` is the fewest of the comparisons that carry it."""
        verdict = word if seeds >= statistics.FEW_SEEDS else f"points to: {word}"
        return verdict, f"{self._count()}; {statistics.seeds(seeds)}"

    def _count(self) -> str:
        total = len(self.contrasts)
        shown = f"{len(self._seeds_of(HOLDS))} of {total} comparisons shown"
        if contrary := len(self._seeds_of(NOT)):
            shown += f", {contrary} contrary"
        if censored := sum(each.censored for each in self.contrasts):
            shown += f", {censored} censored"
        if self._needed == total and not self.planned:
            return shown
        return f"{shown}; {self._needed} needed" + (f" of {self.planned}" if self.planned else "")

    def _lacks(self) -> list[str]:
        """What keeps the claim open, a phrase each."""
        lacks = []
        if self._open:
            lacks.append(
                f"{SEEDS}: {_tell_power(min(self._open, key=_rank_support), len(self._open))}"
            )
        if any(each.censored for each in self.contrasts):
            lacks.append(f"{SCALE}: too little training, neither side ever is there")
        if self.beyond:
            lacks.append(f"{SCALE}: {self.beyond}")
        if self.partial:
            lacks.append(f"experiments: {self.partial}")
        return lacks


def tell_lacks(experiments: Sequence[str], *, incomplete: bool) -> str:
    """Return, in words, which experiments were not run; `incomplete` where another lacks some of
    its comparisons.
    """
    lacks = [f"{', '.join(experiments)} not run"] if experiments else []
    if incomplete:
        lacks.append("some comparisons not run")
    return "; ".join(lacks)


def _rank_support(each: Contrast) -> tuple[int, float]:
    """Order comparisons by how much they speak for the claim, the least first."""
    rank = [NOT, UNDECIDED, HOLDS].index(each.outcome)
    if each.censored:
        return rank, -math.inf
    e = each.estimate
    strength = {"above": e.low, "below": -e.high, "equal": -max(abs(e.low), abs(e.high))}
    return rank, strength[each.wanted]


def _tell_power(weakest: Contrast, total: int) -> str:
    """Return what the seeds of the weakest of so many open comparisons can show, in words."""
    several = f" (the weakest of {total} open)" if total > 1 else ""
    if weakest.estimate.n < 2:
        return f"{weakest.label} has one, and no interval{several}"
    seeds, value = statistics.seeds(weakest.estimate.n), weakest.estimate.value
    if weakest.wanted != "equal":
        showing = (
            f"{seeds} would show a difference of {_plain(weakest.detectable)} in four cases of five"
        )
    elif weakest.estimate.n < statistics.FEW_SEEDS:
        showing = f"{seeds} show no equality, whatever the margin"
    else:
        showing = (
            f"{seeds} would show 0 to be within {_plain(weakest.detectable)} in four cases of five"
        )
    found = _plain(value)
    if weakest.wanted == "equal":
        found += f", margin {_plain(weakest.margin)}"
    return f"{showing}, found {found}: {weakest.label}{several}"


def _plain(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2g}"


def adjust_p_values(claims: Sequence[Claim]) -> list[Claim]:
    """The claims with their p-values adjusted (Holm) over the claims on their figures, so that on
    any one figure a wrong verdict is come to once in twenty times at most.
    """
    return [
        _judge_among(claim, [other for other in claims if claim.figures & other.figures])
        for claim in claims
    ]


def _judge_among(claim: Claim, family: Sequence[Claim]) -> Claim:
    tests = [
        (id(other), verdict, p)
        for other in family
        for verdict, p in _verdict_pvalues(other).items()
    ]
    adjusted = statistics.holm([p for _, _, p in tests], [name for name, _, _ in tests])
    # Where Holm stops, all that it rejected stay below this level too, and nothing else does.
    undecided = {name for (name, _, _), p in zip(tests, adjusted, strict=True) if not p < ALPHA}
    number = max(1, len(undecided))
    corrected = {
        verdict: p
        for (name, verdict, _), p in zip(tests, adjusted, strict=True)
        if name == id(claim)
    }
    holds, falls = (number * factor for factor in claim.within_factors())
    contrasts = tuple(_correct(each, holds, falls) for each in claim.contrasts)
    return replace(claim, contrasts=contrasts, adjusted=ClaimPValues(**corrected))


def _verdict_pvalues(claim: Claim) -> dict[str, float]:
    """The p-values of a claim's verdicts that count in Holm's procedure. Where all its comparisons
    are two-sided tests of zero the verdicts are their two sides, and only the smaller p-value is
    one.
    """
    found = {verdict: p for verdict, p in claim.raw._asdict().items() if math.isfinite(p)}
    if len(found) > 1 and not any(math.isfinite(each.raw.within) for each in claim.contrasts):
        smaller = min(found, key=lambda verdict: found[verdict])
        return {smaller: found[smaller]}
    return found


def _correct(each: Contrast, holds: float, falls: float) -> Contrast:
    """A contrast whose p-values are multiplied by what each of its conclusions is corrected for."""
    if each.censored:
        return each
    supports = each.wanted != "equal" and each.on_wanted_side
    apart = min(1.0, each.raw.apart * (holds if supports else falls))
    within = min(1.0, each.raw.within * (holds if each.wanted == "equal" else falls))
    adjusted = PValues(
        *(math.nan if math.isnan(p) else q for p, q in zip(each.raw, (apart, within), strict=True))
    )
    return replace(each, adjusted=adjusted, level=ALPHA / holds)


def table(claims: Sequence[Claim]) -> str:
    """CSV: a row a contrast, a claim's or a control's, and one for a claim without any."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for claim in claims:
        head = _claim_cells(claim)
        rows = [{"role": "claim"} | _contrast_cells(each) for each in claim.contrasts]
        rows += [
            {"role": "control"} | _contrast_cells(each) | UNCORRECTED for each in claim.controls
        ]
        writer.writerows(head | row for row in rows or [{}])
    return text.getvalue()


def _claim_cells(claim: Claim) -> dict[str, Any]:
    return {
        "claim": claim.id, "figure": claim.figure, "verdict": claim.verdict, "why": claim.why, "text": claim.text,
        "statistic": claim.statistic, "p_holds": _number(claim.raw.holds, 2), "p_falls": _number(claim.raw.falls, 2),
        "p_holds_holm": _number(claim.adjusted.holds, 2), "p_falls_holm": _number(claim.adjusted.falls, 2),
        "undecided_by": ", ".join(claim.undecided_by), "scope": claim.scope,
    }  # fmt: skip


def _contrast_cells(each: Contrast) -> dict[str, Any]:
    e = each.estimate
    cells = {
        "comparison": each.label, "wanted": each.wanted, "outcome": "censored" if each.censored else each.outcome,
        "seeds": e.n, "margin": _number(each.margin), "method": e.method,
    }  # fmt: skip
    if each.censored:
        return cells
    return cells | {
        "value": _number(e.value), "low": _number(e.low), "high": _number(e.high),
        "p": _number(each.raw.apart, 2), "p_holm": _number(each.adjusted.apart, 2),
        "p_within": _number(each.raw.within, 2), "p_within_holm": _number(each.adjusted.within, 2),
        "detectable": _number(each.detectable, 2),
    }  # fmt: skip


def _number(x: float, digits: int = 4) -> str:
    return f"{x:.{digits}g}" if math.isfinite(x) else ""


def span(each: Contrast) -> str:
    """A contrast in words: what, how much, and its interval."""
    e = each.estimate
    if each.censored:
        return f"{each.label} cannot be told: neither ever, in any seed (censored)"
    ends = f" [{e.low:.2f}, {e.high:.2f}]" if e.n > 1 else ""
    return f"{each.label} {e.value:.2f}{ends}"


def lines(claims: Sequence[Claim]) -> list[str]:
    """The claims as text: a line each, one for the contrast that speaks least for it and one for
    each control, and the verdicts in short.
    """
    out = []
    for claim in claims:
        out.append(
            f"{claim.id:4} {claim.conclusion}: {claim.text}{f' ({claim.why})' if claim.why else ''}"
        )
        if claim.weakest:
            out.append(f"     {span(claim.weakest)}")
        out += [f"     beside it, not corrected: {span(control)}" for control in claim.controls]
    verdicts = [(claim.id, claim.verdict, ", ".join(claim.undecided_by)) for claim in claims]
    return [*out, "", *summarize(verdicts)]


def summarize(verdicts: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return a line for each verdict with the claims that have it, from each claim's id, verdict
    and what it is undecided by.
    """
    by_verdict: dict[str, list[str]] = {}
    for claim, verdict, causes in verdicts:
        by_verdict.setdefault(f"{verdict} by {causes}" if causes else verdict, []).append(claim)
    return [f"{verdict}: {', '.join(ids)}" for verdict, ids in sorted(by_verdict.items())]
