"""Claims of a paper, each with the comparisons that decide it: *holds*, *does not hold* or
*undecided*, and why.

A claim is decided by `Contrast`s. Under `statistics.FEW_SEEDS` seeds, of the comparisons that carry
it, a verdict is at most "points to ...".

What is corrected for is the number of claims of a figure (Holm), a claim that spans several figures
with those of all of them. Within a claim: one of all its k comparisons has the largest of their
p-values, as it is (the intersection-union test), and falls by any one of them, whose p-value is
taken k times; in between see `statistics.conjunction`. A claim's two verdicts exclude each other,
and count once (Shaffer 1986).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from isthmus.evaluation import statistics
from isthmus.studies.contrasts import (
    ALPHA,
    HOLDS,
    NOT,
    NOT_RUN,
    UNDECIDED,
    Contrast,
    correct_contrast,
)

SEEDS, SCALE, ROBOTS, UNITS = "seeds", "scale", "robots", "missing units"  # by what it is undecided


class ClaimPValues(NamedTuple):
    """Of a claim's two possible verdicts; NaN where its comparisons cannot lead to that verdict."""

    holds: float = math.nan
    falls: float = math.nan


class Verdict(NamedTuple):
    """A claim's verdict and the reason for it, in words."""

    word: str
    reason: str


UNJUDGED = ClaimPValues()


@dataclass(frozen=True)
class Claim:
    """A claim in our words, the statistic that decides it, and its contrasts.

    `need` of them must hold (None: all), of `planned` with all its experiments (0: of those that
    are there). `inconclusive_because` says why nothing can be concluded whatever they give (too
    little training), or of a claim without any contrast what it lacks. `partial` says which of its
    experiments are missing, `beyond` which of them are not of this scale at all: then a claim of
    all can fall but not hold, and one that needs a few hold, but fall only where it is known how
    many are `planned`. `scope` says of what training and robots a verdict is. `controls` are
    further comparisons that it does not ask for: printed without any correction, and of no weight.
    `foremost` are the claims that a paper exists for; `can_hold_at` names the scales that train
    what a verdict of *holds* needs.
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
    foremost: bool = False
    can_hold_at: str = ""

    @property
    def figures(self) -> set[str]:
        """The figures that it is read off: `figure` may name several, "3, 4"."""
        return {*self.figure.split(", ")}

    @property
    def verdict(self) -> str:
        """What can be said of the claim, in words."""
        return self._decide().word

    @property
    def why(self) -> str:
        """What the verdict stands on, or what it lacks."""
        return self._decide().reason

    @property
    def conclusion(self) -> str:
        """The verdict with its scope, where it is one."""
        if not self.scope or self.verdict in (UNDECIDED, NOT_RUN):
            return self.verdict
        return f"{self.verdict} ({self.scope})"

    @property
    def raw(self) -> ClaimPValues:
        """P-values of the two verdicts, not corrected for other claims."""
        holds = math.nan
        if self._can_hold:
            holds = statistics.conjunction(self._supporting, self._needed)
        return ClaimPValues(
            holds, statistics.conjunction(self._contradicting, self._contrary_needed)
        )

    @property
    def undecided_by(self) -> tuple[str, ...]:
        """What an undecided claim lacks: seeds, training, robots of a larger scale, units."""
        if self.verdict != UNDECIDED:
            return ()
        causes = [SEEDS, SCALE]
        if not self.inconclusive_because:
            causes = [SEEDS] if self._open else []
            causes += [SCALE] if self._num_censored else []
        if self.beyond:
            causes.append(ROBOTS)
        if self.partial:
            causes.append(UNITS)
        return tuple(causes)

    @property
    def power(self) -> float:
        """How probably its tests show the paper's own effects, the least of those that are known;
        NaN where none is.
        """
        return min(_drop_untested(map(_get_power, self.contrasts)), default=math.nan)

    @property
    def weakest(self) -> Contrast | None:
        """The contrast that speaks least for the claim."""
        return min(self.contrasts, key=_rank_support, default=None)

    def within_factors(self) -> ClaimPValues:
        """Return what the p-value of one comparison is corrected for, so that as many as are needed
        lead to a verdict where its own p-value does.
        """
        holds = max(1, len(self._supporting) - self._needed + 1)
        return ClaimPValues(holds, max(1, len(self._contradicting) - self._contrary_needed + 1))

    @property
    def _missing(self) -> bool:
        return bool(self.partial or self.beyond)

    @property
    def _can_hold(self) -> bool:
        """Whether what is missing leaves the claim a chance: one of all comparisons has none."""
        return self.need is not None or not self._missing

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
    def _uncensored(self) -> list[Contrast]:
        return [contrast for contrast in self.contrasts if not contrast.censored]

    @property
    def _num_censored(self) -> int:
        return len(self.contrasts) - len(self._uncensored)

    @property
    def _open(self) -> list[Contrast]:
        return [contrast for contrast in self._uncensored if contrast.outcome == UNDECIDED]

    @property
    def _supporting(self) -> list[float]:
        """The p-values for the claim, of the comparisons that have such."""
        return _drop_untested(contrast.supporting for contrast in self._uncensored)

    @property
    def _contradicting(self) -> list[float]:
        """The p-values against the claim, of the comparisons that have such."""
        return _drop_untested(contrast.contradicting for contrast in self._uncensored)

    def _decide(self) -> Verdict:
        if not self.contrasts:
            return Verdict(NOT_RUN, self.inconclusive_because)
        if self.inconclusive_because:
            return Verdict(UNDECIDED, self.inconclusive_because)
        if max(contrast.estimate.n for contrast in self.contrasts) < 2:
            return Verdict(UNDECIDED, "one seed has no interval")
        supporting, contrary = self._list_seeds(HOLDS), self._list_seeds(NOT)
        if self._can_hold and len(supporting) >= self._needed:
            return self._make_verdict(HOLDS, supporting[self._needed - 1])
        if len(contrary) >= self._contrary_needed:
            return self._make_verdict(NOT, contrary[self._contrary_needed - 1])
        return Verdict(UNDECIDED, "; ".join([self._describe_count(), *self._describe_lacks()]))

    def _list_seeds(self, outcome: str) -> list[int]:
        """Return the seeds behind the comparisons with this outcome, the most first."""
        seeds = [contrast.estimate.n for contrast in self.contrasts if contrast.outcome == outcome]
        return sorted(seeds, reverse=True)

    def _make_verdict(self, word: str, seeds: int) -> Verdict:
        """Return a verdict by comparisons of which the one with the fewest has so many seeds."""
        verdict = word if seeds >= statistics.FEW_SEEDS else f"points to: {word}"
        return Verdict(verdict, f"{self._describe_count()}; {statistics.seeds(seeds)}")

    def _describe_count(self) -> str:
        total = len(self.contrasts)
        count = f"{len(self._list_seeds(HOLDS))} of {total} comparisons shown"
        if contrary := len(self._list_seeds(NOT)):
            count += f", {contrary} contrary"
        if self._num_censored:
            count += f", {self._num_censored} censored"
        if self._needed != total or self.planned:
            count += f"; {self._needed} needed"
        if self.planned:
            count += f" of {self.planned}"
        return count

    def _describe_lacks(self) -> list[str]:
        """Return what keeps the claim open, a phrase each."""
        lacks = []
        if self._open:
            weakest = min(self._open, key=_rank_support)
            lacks.append(f"{SEEDS}: {_describe_power(weakest, len(self._open))}")
        if self._num_censored:
            lacks.append(f"{SCALE}: too little training, neither side ever is there")
        if self.beyond:
            lacks.append(f"{ROBOTS}: {self.beyond}")
        if self.partial:
            lacks.append(f"{UNITS}: {self.partial}")
        return lacks


def describe_missing(experiments: Sequence[str], *, incomplete: bool) -> str:
    """Return, in words, which experiments were not run; `incomplete` where another lacks some of
    its comparisons.
    """
    lacks = [f"{', '.join(experiments)} not run"] if experiments else []
    if incomplete:
        lacks.append("some comparisons not run")
    return "; ".join(lacks)


def _get_power(contrast: Contrast) -> float:
    return contrast.power


def _drop_untested(p_values: Iterable[float]) -> list[float]:
    return [p_value for p_value in p_values if not math.isnan(p_value)]


def _rank_support(contrast: Contrast) -> tuple[int, float]:
    """Order comparisons by how much they speak for the claim, the least first."""
    rank = [NOT, UNDECIDED, HOLDS].index(contrast.outcome)
    if contrast.censored:
        return rank, -math.inf
    low, high = contrast.estimate.low, contrast.estimate.high
    strength = {"above": low, "below": -high, "equal": -max(abs(low), abs(high))}
    return rank, strength[contrast.wanted]


def _describe_power(weakest: Contrast, total: int) -> str:
    """Return what the seeds of the weakest of so many open comparisons can show, in words."""
    several = f" (the weakest of {total} open)" if total > 1 else ""
    if weakest.estimate.n < 2:
        return f"{weakest.label} has one, and no interval{several}"
    value = _format_plain(weakest.estimate.value)
    if weakest.wanted == "equal":
        value += f", margin {_format_plain(weakest.margin)}"
    return f"{_describe_detectable(weakest)}, found {value}: {weakest.label}{several}"


def _describe_detectable(contrast: Contrast) -> str:
    seeds = statistics.seeds(contrast.estimate.n)
    if contrast.wanted != "equal":
        size = _format_plain(contrast.detectable)
        return f"{seeds} would show a difference of {size} in four cases of five"
    if contrast.estimate.n < statistics.FEW_SEEDS:
        return f"{seeds} show no equality, whatever the margin"
    size = _format_plain(contrast.detectable)
    return f"{seeds} would show 0 to be within {size} in four cases of five"


def _format_plain(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.2g}"


def adjust_p_values(claims: Sequence[Claim]) -> list[Claim]:
    """Adjust the claims' p-values (Holm) over the claims on their figures, so that on any one
    figure a wrong verdict is come to once in twenty times at most.
    """
    adjusted = []
    for claim in claims:
        family = [other for other in claims if claim.figures & other.figures]
        adjusted.append(_adjust_in_family(claim, family))
    return adjusted


class _VerdictTest(NamedTuple):
    """One hypothesis of Holm's procedure: a verdict of a claim, named by its identity."""

    claim: int
    verdict: str
    p_value: float


def _adjust_in_family(claim: Claim, family: Sequence[Claim]) -> Claim:
    tests: list[_VerdictTest] = []
    for other in family:
        tests += _list_verdict_tests(other)
    adjusted = statistics.holm([test.p_value for test in tests], [test.claim for test in tests])
    # Where Holm stops, all that it rejected stay below this level too, and nothing else does.
    undecided: set[int] = set()
    corrected: dict[str, float] = {}
    for test, p_value in zip(tests, adjusted, strict=True):
        if not p_value < ALPHA:
            undecided.add(test.claim)
        if test.claim == id(claim):
            corrected[test.verdict] = p_value
    number = max(1, len(undecided))
    holds, falls = (number * factor for factor in claim.within_factors())
    contrasts = tuple(correct_contrast(contrast, holds, falls) for contrast in claim.contrasts)
    return replace(claim, contrasts=contrasts, adjusted=ClaimPValues(**corrected))


def _list_verdict_tests(claim: Claim) -> list[_VerdictTest]:
    """Return the tests of a claim's verdicts that count in Holm's procedure. Where all its
    comparisons are two-sided tests of zero the verdicts are their two sides, and only the smaller
    p-value is one.
    """
    tests = []
    for verdict, p_value in claim.raw._asdict().items():
        if math.isfinite(p_value):
            tests.append(_VerdictTest(id(claim), verdict, p_value))
    with_margin = any(math.isfinite(contrast.raw.within) for contrast in claim.contrasts)
    if len(tests) > 1 and not with_margin:
        return [min(tests, key=lambda test: test.p_value)]
    return tests
