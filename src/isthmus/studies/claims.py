"""Claims of a paper, each with the comparisons that decide it: *holds*, *does not hold* or *undecided*, and why.

A claim is decided by `Contrast`s, differences over seeds paired by seed. A difference counts where its interval leaves
zero out and its p-value stays below 5 %. "Equal" means shown to be within a margin (two one-sided tests), not "no
detectable difference". Under `statistics.FEW` seeds a verdict is at most "points to ...".

P-values are adjusted (Holm) over all that could be concluded on a figure, differences and equalities alike, for a claim
and against it; a claim that spans several figures is adjusted with the claims of all of them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from isthmus.evaluation import statistics
from isthmus.evaluation.statistics import Estimate

HOLDS, NOT, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
COLUMNS = ("claim", "figure", "verdict", "why", "text", "statistic", "comparison", "wanted", "outcome", "value", "low",
           "high", "seeds", "p", "p_holm", "margin", "p_within", "p_within_holm")  # fmt: skip


ALPHA = 1.0 - statistics.LEVEL
Wanted = Literal["above", "below", "equal"]


class PValues(NamedTuple):
    """Of a contrast's two possible conclusions: it is `apart` from zero (where equality is wanted: from all that is
    within the margin), or `within` the margin. NaN where that cannot be concluded.
    """

    apart: float = math.nan
    within: float = math.nan


UNTESTED = PValues()


@dataclass(frozen=True)
class Contrast:
    """One comparison. The claim wants the estimate above zero, below it, or within `margin` of it ("equal").

    `judge` gives the adjusted p-values, which decide. `censored` is one of times that neither side ever reached: of it
    nothing can be told.
    """

    said: str
    estimate: Estimate
    wanted: Wanted = "above"
    margin: float = math.nan
    raw: PValues = UNTESTED
    adjusted: PValues = UNTESTED
    censored: bool = False

    @property
    def tested(self) -> Hashable:
        """What is tested: contrasts alike in this are one."""
        return self.said, self.estimate, f"{self.margin}", self.wanted == "equal"

    @property
    def outcome(self) -> str:
        e, bound = self.estimate, self.margin if self.wanted == "equal" else 0.0
        if e.n < 2 or self.censored:
            return UNDECIDED
        side = "above" if e.low > bound else "below" if e.high < -bound else None
        if side and self.adjusted.apart < ALPHA:
            return HOLDS if side == self.wanted else NOT
        if self.adjusted.within < ALPHA:
            return HOLDS if self.wanted == "equal" else NOT
        return UNDECIDED


def contrast(
    said: str, a: Sequence[float], b: Sequence[float], wanted: Wanted = "above",
    margin: float = math.nan,
) -> Contrast:  # fmt: skip
    """The contrast a - b, row i of both being one seed. With a margin (in the scores' units) a difference that is shown
    to be smaller speaks against "above" and "below".
    """
    estimate = statistics.difference(a, b, paired=True)
    apart, within = estimate.pvalue, math.nan
    if margin > 0.0:
        within, more = statistics.against_margin(a, b, margin, paired=True)
        apart = more if wanted == "equal" else apart
    return Contrast(said, estimate, wanted, margin, raw := PValues(apart, within), raw)


def chosen(best: Contrast, among: int) -> Contrast:
    """A contrast that was looked at because it is the largest of so many: its difference's p-value pays for all of them
    (Bonferroni).
    """
    raw = best.raw._replace(apart=min(among * best.raw.apart, 1.0))
    return replace(best, raw=raw, adjusted=raw)


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the statistic that decides it, and its contrasts.

    `need` of them must hold (None: all). `blocked` says why nothing can be concluded whatever they give
    (too little training); a claim without any was not run, and `blocked` says what it lacks. `partial` says which of
    its experiments are missing: then a claim of all can fall but not hold, one that needs a few hold but not fall.
    """

    id: str
    text: str
    statistic: str
    figure: str = ""
    contrasts: tuple[Contrast, ...] = ()
    need: int | None = None
    blocked: str = ""
    partial: str = ""

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
    def weakest(self) -> Contrast | None:
        """The contrast that speaks least for the claim."""

        def support(each: Contrast) -> tuple[int, float]:
            rank = [NOT, UNDECIDED, HOLDS].index(each.outcome)
            e = each.estimate
            strength = {"above": e.low, "below": -e.high, "equal": -max(abs(e.low), abs(e.high))}[each.wanted]
            return rank, -math.inf if each.censored else strength

        return min(self.contrasts, key=support, default=None)

    def _judged(self) -> tuple[str, str]:
        if not self.contrasts:
            return NOT_RUN, self.blocked
        if self.blocked:
            return UNDECIDED, self.blocked
        seeds, total = min(t.estimate.n for t in self.contrasts), len(self.contrasts)
        if seeds < 2:
            return UNDECIDED, "one seed has no interval"
        count = {word: sum(t.outcome == word for t in self.contrasts) for word in (HOLDS, NOT, UNDECIDED)}
        need = total if self.need is None else self.need
        shown = f"{count[HOLDS]} of {total} comparisons shown"
        contrary = f", {count[NOT]} contrary" if count[NOT] else ""
        if censored := sum(t.censored for t in self.contrasts):
            contrary += f", {censored} censored"
        wanted = "" if need == total else f"; {need} needed"
        holds, falls = count[HOLDS] >= need, count[NOT] > total - need
        rest = f"; {self.partial}" if self.partial else ""
        if not holds and not falls:
            return UNDECIDED, f"{shown}{contrary}{wanted}; {seeds} seeds leave the rest open{rest}"
        if self.partial and (holds if self.need is None else falls):  # what is missing could turn it
            return UNDECIDED, f"{shown}{contrary}{wanted} over {seeds} seeds{rest}"
        word = HOLDS if count[HOLDS] >= need else NOT
        return (word if seeds >= statistics.FEW else f"points to: {word}"), f"{shown}{contrary}{wanted}; {seeds} seeds"


def judge(claims: Sequence[Claim]) -> list[Claim]:
    """The claims with their p-values adjusted, each over all conclusions that the comparisons of the claims on its
    figures could come to: so that on any one figure something is concluded wrongly once in twenty times at most.
    """
    out = []
    for claim in claims:
        family = [t for other in claims if claim.figures & other.figures for t in other.contrasts if not t.censored]
        # Of "no difference" and "the margin or more" one at most is true; what two claims compare is tested once.
        tests = {(t.tested, i): p for t in family for i, p in enumerate(t.raw) if math.isfinite(p)}
        pvalues = statistics.holm([*tests.values()], [tested for tested, _ in tests])
        adjusted = dict(zip(tests, pvalues, strict=True))
        contrasts = [
            replace(t, adjusted=PValues(*(adjusted.get((t.tested, i), math.nan) for i in range(2))))
            for t in claim.contrasts
        ]
        out.append(replace(claim, contrasts=tuple(contrasts)))
    return out


def table(claims: Sequence[Claim]) -> str:
    """CSV: a row a contrast, and one for a claim without any."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for claim in claims:
        head = [claim.id, claim.figure, claim.verdict, claim.why, claim.text, claim.statistic]
        for each in claim.contrasts:
            e = each.estimate
            told = (math.nan,) * 3 if each.censored else (e.value, e.low, e.high)
            (p, within), (p_holm, within_holm) = each.raw, each.adjusted
            numbers = [f"{x:.4g}" if math.isfinite(x) else "" for x in (*told, each.margin)]
            ps = [f"{x:.2g}" if math.isfinite(x) else "" for x in (p, p_holm, within, within_holm)]
            outcome = "censored" if each.censored else each.outcome
            writer.writerow([*head, each.said, each.wanted, outcome, *numbers[:3], e.n, *ps[:2], numbers[3], *ps[2:]])
        if not claim.contrasts:
            writer.writerow(head + [""] * (len(COLUMNS) - len(head)))
    return text.getvalue()


def span(each: Contrast) -> str:
    """A contrast in words: what, how much, and its interval."""
    e = each.estimate
    if each.censored:
        return f"{each.said} cannot be told: neither ever, in any seed (censored)"
    ends = f" [{e.low:.2f}, {e.high:.2f}]" if e.n > 1 else ""
    return f"{each.said} {e.value:.2f}{ends}"


def lines(claims: Sequence[Claim]) -> list[str]:
    """The claims as text: a line each, and one for the contrast that speaks least for it."""
    out = []
    for claim in claims:
        out.append(f"{claim.id:4} {claim.verdict}: {claim.text}{f' ({claim.why})' if claim.why else ''}")
        if claim.weakest:
            out.append(f"     {span(claim.weakest)}")
    return out
