"""Contrasts: differences of means over seeds, and what each says for or against a claim.

They are tested by Student's t: paired where seed i of both sides stands on the same run or log, by
Welch's test where the sides share nothing. A difference counts where its interval leaves zero out
and its p-value stays below 5 %. "Equal" means shown to be within a margin (two one-sided tests),
not "no detectable difference".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.statistics import Estimate

HOLDS, NOT, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
ALPHA = 1.0 - statistics.CONFIDENCE_LEVEL
Wanted = Literal["above", "below", "equal"]


class PValues(NamedTuple):
    """Of a contrast's two possible conclusions: it is `apart` from zero (where equality is wanted:
    from all that is within the margin), or `within` the margin. NaN where that cannot be concluded.
    """

    apart: float = math.nan
    within: float = math.nan


UNTESTED = PValues()


@dataclass(frozen=True)
class Contrast:
    """One comparison. The claim wants the estimate above zero, below it, or within `margin` of it
    ("equal").

    `adjust_p_values` gives the adjusted p-values, which decide: times what they are corrected for,
    within the claim and over the figure's claims; `level` is what the p-value for the claim has to
    stay below. A `censored` contrast is of times that neither side ever reached: it shows nothing.
    `paper_effect` is what the paper reports of this difference, in the estimate's units; NaN where
    it gives no number.
    """

    label: str
    estimate: Estimate
    wanted: Wanted = "above"
    margin: float = math.nan
    raw: PValues = UNTESTED
    adjusted: PValues = UNTESTED
    censored: bool = False
    level: float = ALPHA
    paper_effect: float = math.nan

    @property
    def supporting(self) -> float:
        """The p-value for what the claim wants; 1 where the difference is on the other side."""
        if self.wanted == "equal":
            return self.raw.within
        if self.on_wanted_side:
            return self.raw.apart
        return _one_unless_untested(self.raw.apart)

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
            return _one_unless_untested(self.raw.apart)
        return self.raw.within

    @property
    def detectable(self) -> float:
        """What these seeds, with the spread that they showed, would show in four cases of five at
        `level`: the smallest difference, or where equality is wanted the smallest margin.
        """
        if self.wanted == "equal":
            return statistics.detectable_margin(self.estimate, self.level)
        return statistics.detectable_difference(self.estimate, self.level)

    @property
    def power(self) -> float:
        """How probably these seeds, with the spread that they showed, show the paper's own effect
        at `level`; NaN where that is not known.
        """
        if math.isnan(self.paper_effect):
            return math.nan
        return statistics.power(self.estimate, self.paper_effect, self.level)

    @property
    def on_wanted_side(self) -> bool:
        """Whether the difference has the sign that the claim wants (of "above" and "below")."""
        return (self.estimate.value > 0.0) == (self.wanted == "above")

    @property
    def outcome(self) -> str:
        """`HOLDS`, `NOT` or `UNDECIDED`, by the adjusted p-values."""
        if self.estimate.n < 2 or self.censored:
            return UNDECIDED
        if self._side and self.adjusted.apart < ALPHA:
            return HOLDS if self._side == self.wanted else NOT
        if self.adjusted.within < ALPHA:
            return self._outcome_within_margin
        return UNDECIDED

    @property
    def _side(self) -> str:
        """Where all of the interval lies, of zero or the margin; else empty."""
        bound = self.margin if self.wanted == "equal" else 0.0
        if self.estimate.low > bound:
            return "above"
        if self.estimate.high < -bound:
            return "below"
        return ""

    @property
    def _outcome_within_margin(self) -> str:
        """What it means that the difference is shown to be smaller than the margin."""
        if self.wanted == "equal":
            return HOLDS
        if self.contradicting <= self.raw.within:
            return NOT
        return UNDECIDED


Contrasts = Iterable[Contrast | None]
"""A claim's comparisons, None for each that was not run."""


def contrast(
    label: str, a: Sequence[float], b: Sequence[float], wanted: Wanted = "above",
    margin: float = math.nan, *, paired: bool = True,
) -> Contrast:  # fmt: skip
    """Test the difference a - b of scores [S]; `paired` where row i of both is one seed that they
    share something by. With a margin (in the scores' units) a difference that is shown to be
    smaller speaks against "above" and "below".
    """
    estimate = statistics.difference(a, b, paired=paired)
    raw = PValues(estimate.pvalue)
    if margin > 0.0:
        within, beyond = statistics.against_margin(a, b, margin, paired=paired)
        raw = PValues(beyond if wanted == "equal" else estimate.pvalue, within)
    return Contrast(label, estimate, wanted, margin, raw, raw)


def best_among(best: Contrast, among: int) -> Contrast:
    """Correct a contrast that was looked at because it is the largest of so many: its difference's
    p-value pays for all of them (Bonferroni).
    """
    raw = best.raw._replace(apart=min(among * best.raw.apart, 1.0))
    return replace(best, raw=raw, adjusted=raw)


def correct_contrast(contrast: Contrast, supporting: float, contradicting: float) -> Contrast:
    """Multiply the p-values by the factors that a conclusion for the claim (`supporting`) and one
    against it (`contradicting`) are corrected by.
    """
    if contrast.censored:
        return contrast
    apart_factor = within_factor = contradicting
    if contrast.wanted == "equal":
        within_factor = supporting
    elif contrast.on_wanted_side:
        apart_factor = supporting
    adjusted = PValues(
        _multiply_p_value(contrast.raw.apart, apart_factor),
        _multiply_p_value(contrast.raw.within, within_factor),
    )
    return replace(contrast, adjusted=adjusted, level=ALPHA / supporting)


def _multiply_p_value(p_value: float, factor: float) -> float:
    return math.nan if math.isnan(p_value) else min(1.0, p_value * factor)


def _one_unless_untested(p_value: float) -> float:
    return math.nan if math.isnan(p_value) else 1.0
