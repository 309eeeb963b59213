"""Claims of a paper, each with the comparisons that decide it: *holds*, *does not hold* or *undecided*, and why.

A claim is decided by `Contrast`s, differences over seeds paired by seed. A difference counts where its interval leaves
zero out and its p-value, adjusted for all differences of the same figure (Holm), stays below 5 %. "Equal" means shown
to be within a margin (two one-sided tests), not "no detectable difference". Under `statistics.FEW` seeds a verdict is
at most "points to ...".
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from isthmus.evaluation import statistics
from isthmus.evaluation.statistics import Estimate

HOLDS, NOT, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
COLUMNS = ("claim", "figure", "verdict", "why", "text", "statistic", "comparison", "wanted", "outcome", "value", "low",
           "high", "seeds", "p", "p_holm")  # fmt: skip


Wanted = Literal["above", "below", "equal"]


@dataclass(frozen=True)
class Contrast:
    """One comparison. The claim wants the estimate above zero, below it, or within `margin` of it ("equal").

    `within` says whether the latter was shown. `pvalue` is adjusted by `judge`.
    """

    said: str
    estimate: Estimate
    wanted: Wanted = "above"
    margin: float = math.nan
    within: bool = False
    pvalue: float = math.nan

    @property
    def outcome(self) -> str:
        e = self.estimate
        if e.n < 2:
            return UNDECIDED
        if self.wanted == "equal":
            return HOLDS if self.within else NOT if e.low > self.margin or e.high < -self.margin else UNDECIDED
        side = "above" if e.low > 0.0 else "below" if e.high < 0.0 else None
        if side and not self.pvalue >= 1.0 - statistics.LEVEL:
            return HOLDS if side == self.wanted else NOT
        return NOT if self.within else UNDECIDED


def contrast(
    said: str, a: Sequence[float], b: Sequence[float], wanted: Wanted = "above",
    margin: float = math.nan,
) -> Contrast:  # fmt: skip
    """The contrast a - b, row i of both being one seed. With a margin (in the scores' units) a difference that is shown
    to be smaller speaks against "above" and "below".
    """
    estimate = statistics.difference(a, b, paired=True)
    within = margin > 0.0 and statistics.equivalent(a, b, margin, paired=True)
    return Contrast(said, estimate, wanted, margin, within, estimate.pvalue)


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
            return rank, strength

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
        wanted = "" if need == total else f"; {need} needed"
        holds, falls = count[HOLDS] >= need, count[NOT] > total - need
        rest = f"; {self.partial}" if self.partial else ""
        if not holds and not falls:
            return UNDECIDED, f"{shown}{contrary}{wanted}; {seeds} seeds leave the rest open{rest}"
        if self.partial and (holds if need == total else falls):  # what is missing could turn it
            return UNDECIDED, f"{shown}{contrary}{wanted} over {seeds} seeds{rest}"
        word = HOLDS if count[HOLDS] >= need else NOT
        return (word if seeds >= statistics.FEW else f"points to: {word}"), f"{shown}{contrary}{wanted}; {seeds} seeds"


def judge(claims: Sequence[Claim]) -> list[Claim]:
    """The claims with their p-values adjusted: Holm over all differences of one figure."""
    out = list(claims)
    for figure in {claim.figure for claim in claims}:
        family = [
            (i, j)
            for i, claim in enumerate(out) if claim.figure == figure
            for j, each in enumerate(claim.contrasts) if each.wanted != "equal" and math.isfinite(each.estimate.pvalue)
        ]  # fmt: skip
        adjusted = statistics.holm([out[i].contrasts[j].estimate.pvalue for i, j in family])
        for (i, j), pvalue in zip(family, adjusted, strict=True):
            contrasts = list(out[i].contrasts)
            contrasts[j] = replace(contrasts[j], pvalue=pvalue)
            out[i] = replace(out[i], contrasts=tuple(contrasts))
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
            numbers = [f"{x:.4g}" if math.isfinite(x) else "" for x in (e.value, e.low, e.high)]
            ps = [f"{p:.2g}" if math.isfinite(p) else "" for p in (e.pvalue, each.pvalue)]
            writer.writerow([*head, each.said, each.wanted, each.outcome, *numbers, e.n, *ps])
        if not claim.contrasts:
            writer.writerow(head + [""] * 9)
    return text.getvalue()


def span(each: Contrast) -> str:
    """A contrast in words: what, how much, and its interval."""
    e = each.estimate
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
