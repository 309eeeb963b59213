"""What the study of identification asks: I1 to I3 of intervals, I4 to I6 of returns, I7 of
adaptation without a log.

A share is a mean over hidden robots, of each the share of its identified parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.es_sim2real.regions import ResultsByAgent, region_scores
from isthmus.papers.identification.returns import (
    group_agents,
    group_returns,
    target_returns,
    way_to_ceiling,
)
from isthmus.papers.identification.scores import (
    CoverageResults,
    group_coverage,
    held_shares,
    missed_shares,
    mistaken_shares,
)
from isthmus.papers.identification.trials import ESTIMATING
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.contrasts import Contrast, Contrasts, contrast
from isthmus.studies.learning_curves import ResultsBySeed, compare_paired, compare_unpaired
from isthmus.studies.results import Results

LOWEST, HIGHEST, CLAIMED_NOISE = 0.90, 0.99, "noise0.01"
NOMINAL = 0.95
TOLERATED = 0.05  # of verdicts
FITTED = "system_identification"
OTHER_ROBOTS = ("hopper", "walker2d", "ant")
GroupedReturns = Mapping[str, Mapping[str, ResultsBySeed]]


def decide_identification_claims(results: Mapping[str, Results]) -> list[Claim]:
    """Return every claim with what the files show of it."""
    coverage, returns = group_coverage(results), group_returns(results)
    claims = [
        Claim(
            "I1",
            "95 % intervals hold the truth at noise 0.01: coverage of 0.90 to 0.99 in each robot",
            f"held - {NOMINAL} within {NOMINAL - LOWEST:.2g}",
            "coverage",
            _keep_run(_test_coverage(coverage)),
        ),
        Claim(
            "I2",
            "what no log can tell is called so",
            f"untold parameters called identified < {TOLERATED:.0%}",
            "coverage",
            _keep_run(_test_share(mistaken_shares(coverage))),
        ),
        Claim(
            "I3",
            "what a log can tell is called identified",
            f"told parameters called not identified < {TOLERATED:.0%}",
            "coverage",
            _keep_run(_test_share(missed_shares(coverage))),
        ),
        Claim(
            "I4",
            "system_identification goes nine tenths of the way on half_cheetah-dap",
            "way from floor to ceiling - 0.9 > 0",
            "return",
            _keep_run(_test_way(returns, ("half_cheetah",), 0.9)),
        ),
        Claim(
            "I5",
            "it goes seven tenths of the way on two of the other three robots' shifts",
            "way from floor to ceiling - 0.7 > 0",
            "return",
            _keep_run(_test_way(returns, OTHER_ROBOTS, 0.7)),
            need=2,
            planned=len(OTHER_ROBOTS),
        ),
        Claim(
            "I6",
            "it outperforms the methods that learn from the same log, on half_cheetah-dap",
            "return in the target, system_identification - others > 0",
            "return",
            _keep_run(_test_others(returns)),
        ),
        Claim(
            "I7",
            "an estimator of the dynamics adapts better than a memory, with equal steps",
            "outside the box: up_osi, rma - recurrent_randomization > 0",
            "adaptation",
            _keep_run(_test_estimators(group_agents(results))),
        ),
    ]
    return adjust_p_values([_note_not_run(claim) for claim in claims])


def _keep_run(contrasts: Contrasts) -> tuple[Contrast, ...]:
    return tuple(filter(None, contrasts))


def _note_not_run(claim: Claim) -> Claim:
    return claim if claim.contrasts else replace(claim, inconclusive_because="not run")


def _test_way(returns: GroupedReturns, shifts: Sequence[str], bound: float) -> Contrasts:
    for shift in shifts:
        way = way_to_ceiling(returns.get(shift, {}), FITTED)
        yield compare_paired(f"{shift}: way - {bound}", way, dict.fromkeys(way, bound))


def _test_others(returns: GroupedReturns) -> Contrasts:
    group = returns.get("half_cheetah", {})
    fitted = target_returns(group, FITTED)
    for other in ("dap_inverse", "darc", "h2o", "domain_randomization"):
        yield compare_paired(f"{FITTED} - {other}", fitted, target_returns(group, other))


def _test_estimators(agents: ResultsByAgent) -> Contrasts:
    memory = region_scores(agents, "recurrent", "outside")
    for agent in ESTIMATING:
        scores = region_scores(agents, agent, "outside")
        yield compare_unpaired(f"outside: {agent} - recurrent", scores, memory)


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
