"""What ES-sim2real claims, E1 to E13, and the comparisons that decide each: means over the cells of
the landscape with friction as published, in the training box and outside of it, a number a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from isthmus.papers.es_sim2real.regions import (
    BEFORE,
    KEY,
    ResultsByAgent,
    adaptation_gains,
    region_scores,
    share_runs,
    source_scores,
)
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.contrasts import Contrast, Contrasts
from isthmus.studies.learning_curves import (
    Scores,
    compare_paired,
    compare_scores,
    compare_unpaired,
    scale_scores,
)


def _compare_regions(r: ResultsByAgent, a: str, b: str, *regions: str) -> Contrasts:
    """Compare two agents by their returns in each of the regions."""
    for region in regions:
        scores = region_scores(r, a, region), region_scores(r, b, region)
        yield compare_scores(f"{region}: {a} - {b}", *scores, shared=share_runs(r, a, b))


def _compare_gains(r: ResultsByAgent, a: str, b: str, label: str) -> Contrast | None:
    """Compare what adapting adds to two agents."""
    gains = adaptation_gains(r, a), adaptation_gains(r, b)
    return compare_scores(label, *gains, shared=share_runs(r, a, b))


def _compare_with_before(r: ResultsByAgent, agent: str) -> Contrast | None:
    """Compare an agent outside the box with itself before it adapts."""
    after, before = (region_scores(r, agent, "outside", key) for key in (KEY, BEFORE))
    return compare_paired(f"outside: {agent} after - before", after, before)


def _test_generalises(r: ResultsByAgent) -> Contrasts:
    yield from _compare_regions(r, "domain_randomization", "naive", "all", "outside")


def _test_limited(r: ResultsByAgent) -> Contrasts:
    agent = "domain_randomization"
    box, outside = region_scores(r, agent, "box"), region_scores(r, agent, "outside")
    yield compare_paired(f"{agent}: box - outside", box, outside)
    # As published, 60 of the 70 cells far from the box have a friction that is of no effect.
    near, far = (region_scores(r, agent, region, "contact") for region in ("near", "far"))
    yield compare_paired(f"{agent}: near the box - far from it, true friction", near, far)


def _test_out_of_distribution(r: ResultsByAgent) -> Contrasts:
    yield from _compare_regions(r, "es_maml", "domain_randomization", "outside", "gripping")


def _test_out_of_distribution_longer(r: ResultsByAgent) -> Contrasts:
    yield from _compare_regions(r, "es_maml", "longer_randomization", "outside", "gripping")


def _test_loses_nothing(r: ResultsByAgent) -> Contrasts:
    yield _compare_with_nine_tenths(r, "domain_randomization")


def _test_loses_nothing_to_longer(r: ResultsByAgent) -> Contrasts:
    yield _compare_with_nine_tenths(r, "longer_randomization")


def _compare_with_nine_tenths(r: ResultsByAgent, randomized: str) -> Contrast | None:
    nine_tenths = scale_scores(0.9, region_scores(r, randomized, "box"))
    label, shared = f"box: es_maml - 0.9 {randomized}", share_runs(r, "es_maml", randomized)
    return compare_scores(label, region_scores(r, "es_maml", "box"), nine_tenths, shared=shared)


def _test_adaptation(r: ResultsByAgent) -> Contrasts:
    yield _compare_with_before(r, "es_maml")
    six, none = (region_scores(r, "es_maml", "outside", f"updates-{n}") for n in (6, 0))
    label = "outside, on the coarser grid: es_maml after 6 updates - none"
    yield compare_paired(label, six, none)


def _test_more_than_ppo(r: ResultsByAgent) -> Contrasts:
    label = "outside: what adapting adds, es_maml - few_shot_ppo"
    yield _compare_gains(r, "es_maml", "few_shot_ppo", label)


def _test_beats_evolution(r: ResultsByAgent) -> Contrasts:
    yield from _compare_regions(r, "es_maml", "evolution", "outside", "box")


def _test_operator(r: ResultsByAgent) -> Contrasts:
    for operator in ("es_gradient", "average_hill_climbing", "batch_hill_climbing"):
        label = f"outside: what adapting adds, PPO - {operator}"
        yield _compare_gains(r, "es_maml", operator, label)


def _test_beats_memory(r: ResultsByAgent) -> Contrasts:
    for recurrent in ("recurrent", "rl2"):
        yield from _compare_regions(r, "es_maml", recurrent, "box", "outside")


def _test_learned_reward(r: ResultsByAgent) -> Contrasts:
    yield from _compare_regions(r, "learned_reward", "es_maml", "outside")


def _test_without_reward(r: ResultsByAgent) -> Contrasts:
    for agent in ("learned_reward", "learned_reward_masked"):
        yield _compare_with_before(r, agent)


def _test_reality_gap(r: ResultsByAgent) -> Contrasts:
    in_source, outside = source_scores(r, "naive"), region_scores(r, "naive", "outside")
    yield compare_paired("naive: in its source - outside", in_source, outside)


def _test_overfits(r: ResultsByAgent) -> Contrasts:
    def score(region: str) -> tuple[Scores, Scores]:
        randomized = region_scores(r, "domain_randomization", region)
        return region_scores(r, "naive", region), randomized

    naive, randomized = score("spread")
    label = "spread over the box: naive - domain_randomization"
    yield compare_unpaired(label, naive, randomized)
    naive, randomized = score("worst")
    label = "worst tenth of the box: domain_randomization - naive"
    yield compare_unpaired(label, randomized, naive)


class EsClaim(NamedTuple):
    """What decides a claim: its figure, and the test."""

    id: str
    figure: str
    text: str
    statistic: str
    test: Callable[[ResultsByAgent], Contrasts]


CLAIMS: tuple[EsClaim, ...] = (
    EsClaim("E1", "1", "Randomization generalises better than fixed physics",
        "DR - naive > 0: all cells, outside", _test_generalises),
    EsClaim("E2", "1", "Randomization stays limited to its training range",
        "DR: box - outside > 0, near - far > 0", _test_limited),
    EsClaim("E3", "1", "ES-sim2real generalises out of the distribution",
        "ES - DR > 0: outside, outside with friction > 1", _test_out_of_distribution),
    EsClaim("E4", "1", "ES-sim2real loses nothing inside, or less than a tenth",
        "box: ES - 0.9 DR > 0", _test_loses_nothing),
    EsClaim("E5", "1", "Few-shot adaptation is what transfers",
        "outside: after - before > 0, six updates - none > 0", _test_adaptation),
    EsClaim("E6", "1", "It is more than PPO at test time",
        "outside: what adapting adds, ES - (DR + the same updates; at laptop scale of a third of "
        "the source steps) > 0", _test_more_than_ppo),
    EsClaim("E7", "1", "ES-MAML beats evolution strategies without an inner loop",
        "ES-MAML - ES > 0: outside, box", _test_beats_evolution),
    EsClaim("E8", "operators", "PPO works as the inner loop's operator",
        "outside: what adapting adds, PPO - others > 0; at laptop scale by 3,072 steps of a "
        "target, others by 4 episodes", _test_operator),
    EsClaim("E9", "memory",
        "ES-sim2real beats implicit meta-learners, of which recurrent PPO is a weak form (Ni 2022)",
        "ES - DR with LSTM, ES - RL^2 > 0: box, outside; at laptop scale with fewer source steps "
        "for what remembers", _test_beats_memory),
    EsClaim("E10", "reward", "A learned reward leads to even better outcomes",
        "outside: by r_psi - by the true reward > 0", _test_learned_reward),
    EsClaim("E11", "reward", "Adaptation works without any reward in the target",
        "outside: after - before > 0, by r_psi, also where it is not shown the velocity",
        _test_without_reward),
    EsClaim("E12", "1", "Good in simulation, poor elsewhere",
        "naive: return in its source - outside > 0", _test_reality_gap),
    EsClaim("E13", "1", "Randomization prevents overfitting to one set of parameters",
        "over the box: naive's spread - DR's > 0, DR's worst tenth - naive's > 0", _test_overfits),
)  # fmt: skip


CONTROLS: dict[str, Callable[[ResultsByAgent], Contrasts]] = {
    "E3": _test_out_of_distribution_longer,
    "E4": _test_loses_nothing_to_longer,
}
"""Against randomization for longer (at laptop scale for as many steps), which the paper's claims do
not ask for.
"""


FOREMOST = ("E1", "E3", "E5", "E6", "E7")
"""The claims that the paper exists for."""

PAPER_EFFECTS = {
    "outside: domain_randomization - naive": 969.0 - 661.0,
    "domain_randomization: box - outside": 2918.0 - 969.0,
    "outside: es_maml - domain_randomization": 1429.0 - 969.0,
    "gripping: es_maml - domain_randomization": 1447.0 - 1021.0,
    "box: es_maml - 0.9 domain_randomization": 3157.0 - 0.9 * 2918.0,
    "outside: es_maml after - before": 1444.0 - 1151.0,
}
"""What the paper's figures give for a comparison, returns read off by its label."""


def decide_es_claims(results: ResultsByAgent, scope: str = "") -> list[Claim]:
    """Return every claim with what the files show of it; where comparisons are missing it can fall,
    but not hold. `scope` is how much shorter the training was than at paper scale.
    """
    return adjust_p_values([_decide_claim(claim, results, scope) for claim in CLAIMS])


def _decide_claim(claim: EsClaim, results: ResultsByAgent, scope: str) -> Claim:
    tests = [*claim.test(results)]
    contrasts = tuple(map(_add_paper_effect, filter(None, tests)))
    controls: tuple[Contrast, ...] = ()
    if contrasts and claim.id in CONTROLS:
        controls = tuple(filter(None, CONTROLS[claim.id](results)))
    return Claim(
        claim.id,
        claim.text,
        claim.statistic,
        claim.figure,
        contrasts,
        inconclusive_because="" if contrasts else "not run",
        partial="some comparisons not run" if contrasts and None in tests else "",
        scope=scope,
        controls=controls,
        foremost=claim.id in FOREMOST,
    )


def _add_paper_effect(contrast: Contrast) -> Contrast:
    return replace(contrast, paper_effect=PAPER_EFFECTS.get(contrast.label, math.nan))
