"""What the study of identification asks: I1 to I3, of the coverage of intervals.

A share is a mean over hidden robots, of each the share of its identified parameters.
"""

from __future__ import annotations

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.identification.scores import (
    CoverageResults,
    held_shares,
    missed_shares,
    mistaken_shares,
)
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.contrasts import Contrast, Contrasts, contrast

LOWEST, HIGHEST, CLAIMED_NOISE = 0.90, 0.99, "noise0.01"
NOMINAL = 0.95
TOLERATED = 0.05  # of verdicts


def decide_identification_claims(coverage: CoverageResults) -> list[Claim]:
    """Return every claim with what the files show of it."""
    claims = [
        _decide(
            "I1",
            "95 % intervals hold the truth at noise 0.01: coverage of 0.90 to 0.99 in each robot",
            f"held - {NOMINAL} within {NOMINAL - LOWEST:.2g}",
            _test_coverage(coverage),
        ),
        _decide(
            "I2",
            "what no log can tell is called so",
            f"untold parameters called identified < {TOLERATED:.0%}",
            _test_share(mistaken_shares(coverage)),
        ),
        _decide(
            "I3",
            "what a log can tell is called identified",
            f"told parameters called not identified < {TOLERATED:.0%}",
            _test_share(missed_shares(coverage)),
        ),
    ]
    return adjust_p_values(claims)


def _decide(name: str, text: str, statistic: str, contrasts: Contrasts) -> Claim:
    tested = tuple(filter(None, contrasts))
    missing = "" if tested else "not run"
    return Claim(name, text, statistic, "coverage", tested, inconclusive_because=missing)


def _test_coverage(coverage: CoverageResults) -> Contrasts:
    for (task, noise), results in coverage.items():
        if noise == CLAIMED_NOISE:
            shares = held_shares(results)
            yield _compare(f"{task}: coverage - {NOMINAL}", shares, NOMINAL, NOMINAL - LOWEST)


def _test_share(by_task: dict[str, list[float]]) -> Contrasts:
    for task, shares in by_task.items():
        yield _compare(f"{task}: share - {TOLERATED}", shares, TOLERATED)


def _compare(label: str, shares: list[float], bound: float, margin: float = 0.0) -> Contrast | None:
    """Compare a mean share with a bound: to be within a margin of it, or else below."""
    if not shares:
        return None
    bounds = np.full(len(shares), bound).tolist()
    if margin:
        return contrast(label, shares, bounds, "equal", margin)
    return contrast(label, shares, bounds, "below")


def describe_share(shares: list[float]) -> str:
    """Return a mean share with its interval, in words."""
    estimate = statistics.interval(shares)
    ends = f" [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.n > 1 else ""
    return f"{estimate.value:.3f}{ends}"
