"""What DAP's paper claims, D1 to D26, and the comparisons that decide each. Scores are returns in
the target: J is the mean over a run's last tenth; equal means within a fifth of what the source's
policy is worth there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from isthmus.papers.dap.scope import (
    Training,
    describe_beyond,
    describe_partial,
    describe_scope,
    find_scales,
    list_trained_tasks,
)
from isthmus.papers.dap.scores import (
    best_of,
    compare_finals,
    equality_margin,
    final_returns,
    highest_returns,
    mean_returns,
    returns_at,
)
from isthmus.papers.dap.trials import CROSSABLE, PAIR, TASKS
from isthmus.studies.claims import Claim, adjust_p_values
from isthmus.studies.contrasts import Contrast, Contrasts, best_among
from isthmus.studies.learning_curves import (
    CurveSet,
    Scores,
    compare_paired,
    compare_unpaired,
    scale_scores,
    scan_approaches,
    subtract_scores,
)

BASELINES = ("source", "h2o", "darc", "garat")
PAPERS_METHODS = (*BASELINES, "dap", "dap_u")


def _test_floor(c: CurveSet) -> Contrasts:
    source, target = highest_returns(c, "source"), highest_returns(c, "target")
    yield compare_unpaired(f"{c.name}: highest source - target", source, target, "below")


def _test_h2o(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "h2o", "source", "below")


def _test_needs_expert(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "h2o_expert", "h2o")
    h2o = subtract_scores(final_returns(c, "h2o_expert"), final_returns(c, "h2o"))
    dap = subtract_scores(final_returns(c, "dap_expert"), final_returns(c, "dap"))
    yield compare_paired(f"{c.name}: what an expert's log adds to J, h2o - dap", h2o, dap)


def _test_no_better(c: CurveSet) -> Contrasts:
    """Compare each with the policy that it has without the log."""
    yield compare_finals(c, "darc", "source", "equal", floor="source")
    yield compare_finals(c, "garat", "ppo", "equal", floor="ppo")


def _test_outperforms(c: CurveSet) -> Contrasts:
    for baseline in BASELINES:
        difference = compare_finals(c, "dap", baseline)
        if difference and baseline == "source":  # which DAP at least doubles, as the paper says
            floor = float(np.mean([*final_returns(c, baseline).values()]))
            difference = replace(difference, paper_effect=floor)
        yield difference


def _test_doubles(c: CurveSet) -> Contrasts:
    twice = scale_scores(2, final_returns(c, "source"))
    yield compare_paired(f"{c.name}: J dap - 2 J source", final_returns(c, "dap"), twice)


def _test_uncertainty(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap_u", "dap")


def _test_recovers(c: CurveSet) -> Contrasts:
    dap_u, dap = c.measured("dap_u", "recovery"), c.measured("dap", "recovery")
    yield compare_paired(f"{c.name}: reward after a kick, as a share, dap_u - dap", dap_u, dap)
    soon, late = c.measured("dap_u", "kick_u"), c.measured("dap_u", "settled_u")
    yield compare_paired(f"{c.name}: u right after a kick - once settled", soon, late)


def _test_nearly_matches(c: CurveSet) -> Contrasts:
    ceiling = scale_scores(0.9, highest_returns(c, "target"))
    label = f"{c.name}: J dap_u - 0.9 highest target"
    yield compare_unpaired(label, final_returns(c, "dap_u"), ceiling)


def _has_ceiling(c: CurveSet) -> bool:
    return {"dap", "dap_u", "target"} <= c.raw.keys()


def _test_below_ceiling(c: CurveSet) -> Contrasts:
    """Compare the best of the paper's methods with the ceiling."""
    if not _has_ceiling(c):
        yield None
    elif c.name == "half_cheetah":
        best = best_of(c, PAPERS_METHODS)
        label = f"{c.name}: J {best} - highest target"
        returns, ceiling = final_returns(c, best), highest_returns(c, "target")
        yield compare_unpaired(label, returns, ceiling, "below")


def _test_smallest_share(curve_sets: Mapping[str, CurveSet]) -> Contrasts:
    """Compare what the best method reaches of the ceiling, HalfCheetah less each other robot."""
    first, *others = TASKS
    if first not in curve_sets:
        return
    share = _measure_share(curve_sets[first])
    for task in others:
        if task in curve_sets:
            label = f"best of the highest target, {first} - {task}"
            yield compare_unpaired(label, share, _measure_share(curve_sets[task]), "below")


def _measure_share(c: CurveSet) -> Scores:
    """Return the best method's J as a share of the ceiling."""
    if not _has_ceiling(c):
        return {}
    best = final_returns(c, best_of(c, PAPERS_METHODS))
    ceiling = highest_returns(c, "target")
    return {seed: best[seed] / ceiling[seed] for seed in best.keys() & ceiling.keys()}


def _test_easier(c: CurveSet) -> Contrasts:
    label = f"{c.name}: r + delta_r a step, in the source, dap - darc"
    yield compare_paired(label, _sum_payments(c, "dap"), _sum_payments(c, "darc"))


def _sum_payments(c: CurveSet, method: str) -> Scores:
    reward, delta = c.measured(method, "reward"), c.measured(method, "delta_reward")
    return {seed: reward[seed] + delta[seed] for seed in reward.keys() & delta.keys()}


def _test_unregularized(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap_0", "dap", "below")


def _test_chases_shaping(c: CurveSet) -> Contrasts:
    for key, name in (("delta_reward", "delta_r"), ("action_gap", "|a_src - a_tgt|^2")):
        unregularized, regularized = c.measured("dap_0", key), c.measured("dap", key)
        label = f"{c.name}: {name}, lambda 0 - lambda"
        yield compare_paired(label, unregularized, regularized)
    yield compare_finals(c, "dap_0", "dap", "below")


def _test_like_darc(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap_10", "darc", "equal")
    large, chosen = c.measured("dap_10", "action_gap"), c.measured("dap", "action_gap")
    label = f"{c.name}: |a_src - a_tgt|^2 of lambda 10 - of lambda"
    yield compare_paired(label, large, chosen, "below")


def _test_inner_lambda(c: CurveSet) -> Contrasts:
    scan = scan_approaches(c.raw, "dap_")
    if len(scan) < 6:
        yield None
        return
    first, *inner, last = scan.values()
    best = best_of(c, inner)
    for end in (first, last):
        yield _compare_best(c, best, end, len(inner))
    at = inner.index(best)
    neighbours = [*inner[max(at - 1, 0) : at], *inner[at + 1 : at + 2]]
    yield compare_finals(c, best, best_of(c, neighbours), "equal")


def _compare_best(c: CurveSet, best: str, other: str, among: int) -> Contrast | None:
    """Compare by J an approach that was picked as the best of so many."""
    difference = compare_finals(c, best, other)
    return difference and best_among(difference, among)


def _test_smallest_beta(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap_u_0.01", "dap_u_0", "equal")


def _test_best_betas(c: CurveSet) -> Contrasts:
    """Test that one of the two best values leads, and the scan's ends are below it."""
    inner = ("dap_u_0.05", "dap_u_0.1")
    for approach in inner:
        yield compare_finals(c, approach, "dap_u_0", "above")
    if all(map(c.raw.get, inner)):
        best = best_of(c, inner)
        for end in ("dap_u_0.01", "dap_u_0.2"):
            yield _compare_best(c, best, end, len(inner))


def _test_large_betas(c: CurveSet) -> Contrasts:
    for approach in ("dap_u_0.15", "dap_u_0.2"):
        yield compare_finals(c, approach, "dap_u_0.1", "below")
    yield compare_finals(c, "dap_u_0.2", "source", "below")


def _test_log_sizes(c: CurveSet) -> Contrasts:
    for size in ("15000", "10000"):
        approach = f"dap_u_{size}"
        yield compare_finals(c, approach, "dap_u", "equal")
        smaller, whole = mean_returns(c, approach), mean_returns(c, "dap_u")
        label = f"{c.name}: AUC {approach} - dap_u"
        yield compare_paired(label, smaller, whole, "equal", equality_margin(c))


def _test_declines(c: CurveSet) -> Contrasts:
    early, final = returns_at(c, "dap_u_5000", 0.4), final_returns(c, "dap_u_5000")
    label = f"{c.name}: J - return at 0.4 of training, 5000"
    yield compare_paired(label, final, early, "below")
    late = subtract_scores(final, early)
    whole_late = subtract_scores(final_returns(c, "dap_u"), returns_at(c, "dap_u", 0.4))
    label = f"{c.name}: the same less that of 20000"
    yield compare_paired(label, late, whole_late, "below")


def _test_one_episode(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap_u_1episode", "source", "equal")


def _test_separate_policies(c: CurveSet) -> Contrasts:
    yield compare_finals(c, "dap", "dap_separate")
    one, two = c.measured("dap", "crossing"), c.measured("dap_separate", "crossing")
    label = f"{c.name}: |s' of a_tgt in the target - s' of a_src|^2, one policy - two"
    yield compare_paired(label, one, two, "below")


def _test_coverage(c: CurveSet) -> Contrasts:
    for size in ("5000", "1episode"):
        yield compare_finals(c, f"garat_{size}", "garat", "below")


def _test_optimistic(c: CurveSet) -> Contrasts:
    for members in sorted(c.results, key=len):
        for key, place in (("bias_off", "off the log"), ("bias_led", "where delta_r leads")):
            label = f"{c.name}, {members}: mean error of delta_r {place}"
            yield _compare_with_zero(label, c.measured(members, key))


def _test_marks_uncertainty(c: CurveSet) -> Contrasts:
    for members in sorted(c.results, key=len):
        label = f"{c.name}, {members}: Spearman of u with |error|"
        yield _compare_with_zero(label, c.measured(members, "spearman"))


def _compare_with_zero(label: str, scores: Scores) -> Contrast | None:
    return compare_paired(label, scores, dict.fromkeys(scores, 0.0))


def _test_balances(c: CurveSet) -> Contrasts:
    if c.name == PAIR:
        yield from _test_balances_on_pair(c)
        return
    yield compare_finals(c, "dap_u", "dap_u_n2")
    yield compare_finals(c, "dap_u", "dap_u_n10", "equal")
    five, ten = c.measured("dap_u", "seconds"), c.measured("dap_u_n10", "seconds")
    yield compare_paired(f"{c.name}: seconds of a round, N = 5 - 10", five, ten, "below")


def _test_balances_on_pair(c: CurveSet) -> Contrasts:
    two, five, ten = (c.measured(members, "spearman") for members in ("n2", "n5", "n10"))
    yield compare_paired(f"{c.name}: Spearman, N = 5 - 2", five, two)
    yield compare_paired(f"{c.name}: Spearman, N = 10 - 5", ten, five, "equal", 0.05)
    five, ten = c.measured("n5", "microseconds"), c.measured("n10", "microseconds")
    yield compare_paired(f"{c.name}: time of an update, N = 5 - 10", five, ten, "below")


class DapClaim(NamedTuple):
    """What decides a claim: figure, tasks, how many of them it needs (None: all), and the test on
    one of them.
    """

    id: str
    figure: str
    tasks: tuple[str, ...]
    text: str
    statistic: str
    need: int | None
    test: Callable[[CurveSet], Contrasts]


CLAIMS: tuple[DapClaim, ...] = (
    DapClaim("D1", "2", TASKS, "RL on source is far below RL on target",
        "highest returns, each task", None, _test_floor),
    DapClaim("D2", "2", TASKS, "H2O is poor, often below RL on source",
        "J(H2O) - J(source) < 0, two tasks of four", 2, _test_h2o),
    DapClaim("D3", "logs", ("half_cheetah",), "H2O is poor because it needs optimal target data",
        "J(H2O) with the log of RL on target - J(H2O) > 0, and more than DAP gains by it", None,
        _test_needs_expert),
    DapClaim("D4", "2", TASKS, "Offline DARC and GARAT are about as good as RL on source",
        "J within a fifth", None, _test_no_better),
    DapClaim("D5", "2", TASKS, "DAP outperforms all baselines", "J differences > 0, 4 x 4 pairs",
        None, _test_outperforms),
    DapClaim("D6", "2", TASKS, "DAP at least doubles RL on source", "J(DAP) - 2 J(source) > 0",
        None, _test_doubles),
    DapClaim("D7", "2", TASKS, "DAP+U improves on DAP on most tasks",
        "J differences > 0, three of four", 3, _test_uncertainty),
    DapClaim("D8", "2", TASKS, "DAP+U nearly matches RL on target in some cases",
        "J - 0.9 of the highest > 0, one task", 1, _test_nearly_matches),
    DapClaim("D9", "2", TASKS, "HalfCheetah stays hardest, far below its optimum",
        "best J - highest of RL on target < 0; its share of it less than the other robots'", None,
        _test_below_ceiling),
    DapClaim("D10", "2", TASKS, "Two actions make the source's reward easier to maximise",
        "r + delta_r of the trained policies, DAP - DARC > 0", None, _test_easier),
    DapClaim("D11", "3a", ("half_cheetah",), "Without lambda the target's return deteriorates",
        "J(0) - J(lambda) < 0", None, _test_unregularized),
    DapClaim("D12", "3a", ("half_cheetah",), "Because a_tgt then chases the shaping term",
        "delta_r and the gap, 0 - lambda > 0; J < 0", None, _test_chases_shaping),
    DapClaim("D13", "3a", ("half_cheetah",), "A large lambda makes DAP like DARC",
        "J(10) = J(DARC); the gap falls", None, _test_like_darc),
    DapClaim("D14", "3a", ("half_cheetah",), "The best lambda is an inner one, in a stable range",
        "J(best) - J(smallest), - J(largest) > 0; a neighbour within a fifth", None,
        _test_inner_lambda),
    DapClaim("D15", "separate", ("half_cheetah",), "One policy for both actions beats two",
        "J difference > 0; a_tgt in the target leads closer to where a_src led", None,
        _test_separate_policies),
    DapClaim("D16", "3b", ("damping",), "beta = 0.01 gains nothing that lasts", "J(0.01) = J(0)",
        None, _test_smallest_beta),
    DapClaim("D17", "3b", ("damping",), "beta = 0.05 and 0.1 improve, and one of them is best",
        "J(beta) - J(0) > 0; J(best) - J(0.01), - J(0.2) > 0", None, _test_best_betas),
    DapClaim("D18", "3b", ("damping",), "beta = 0.15 and 0.2 deteriorate, and 0.2 fails",
        "J(beta) - J(0.1) < 0; J(0.2) - J(source) < 0", None, _test_large_betas),
    DapClaim("D19", "3c", ("damping",), "15,000 and 10,000 transitions do as well",
        "J and AUC within a fifth", None, _test_log_sizes),
    DapClaim("D20", "3c", ("damping",), "5,000 transitions decline late in training",
        "J - return at 0.4 of training < 0, and below 20,000's", None, _test_declines),
    DapClaim("D21", "3c", ("damping",), "One episode stays near RL on source", "J within a fifth",
        None, _test_one_episode),
    DapClaim("D22", "classifiers", ("pair",), "The classifiers are over-optimistic off the data",
        "the linear pair, noise 0.1: mean error of delta_r > 0, off the log and at the actions "
        "that it pays most", None, _test_optimistic),
    DapClaim("D23", "2", TASKS, "Resampling gives self-correction",
        "after a kick: DAP+U's recovery - DAP's > 0, and u decays", None, _test_recovers),
    DapClaim("D24", "classifiers", ("pair",), "The ensemble's spread marks uncertain dynamics",
        "the linear pair, noise 0.1: Spearman of u with the errors of delta_r > 0", None,
        _test_marks_uncertainty),
    DapClaim("D25", "classifiers, members", ("pair", "damping"),
        "The chosen N balances accuracy and speed",
        "Spearman and J of N = 5 above those of 2, within 0.05 and a fifth of 10's; less time "
        "than with 10", None, _test_balances),
    DapClaim("D26", "logs", ("half_cheetah",), "Grounding depends on the log's coverage",
        "J(GARAT), smaller logs - 20,000 < 0", None, _test_coverage),
)  # fmt: skip


ACROSS: dict[str, Callable[[Mapping[str, CurveSet]], Contrasts]] = {"D9": _test_smallest_share}
"""Comparisons of tasks with each other, in addition to the claims' own."""

CONTROLLED = ("2", "3a")
"""Figures whose comparisons are also made where a second action can cross the shift."""

FOREMOST = ("D5", "D6", "D7", "D11", "D17")
"""The claims that the paper exists for."""


def decide_dap_claims(
    curve_sets: Mapping[str, CurveSet], training: Training | None = None
) -> list[Claim]:
    """Return every claim with what the curves show of it; where tasks are missing one of all tasks
    can fall, but not hold, and is told apart by whether this scale trains them at all.
    """
    claims = [_decide_claim(claim, curve_sets, training or Training()) for claim in CLAIMS]
    return adjust_p_values(claims)


def _decide_claim(claim: DapClaim, curve_sets: Mapping[str, CurveSet], training: Training) -> Claim:
    undecided = Claim(
        claim.id,
        claim.text,
        claim.statistic,
        claim.figure,
        foremost=claim.id in FOREMOST,
        can_hold_at=find_scales(claim.id, claim.tasks, claim.need),
    )
    by_task = {task: _run_test(claim, curve_sets.get(task)) for task in claim.tasks}
    contrasts = [*chain(*by_task.values(), _compare_tasks(claim, curve_sets))]
    if not any(contrasts):
        return replace(undecided, inconclusive_because="not run")
    absent = [task for task, tests in by_task.items() if {*tests} == {None}]
    trained = list_trained_tasks(claim.id, training.robots)
    beyond = [task for task in absent if task not in trained]
    return replace(
        undecided,
        contrasts=tuple(filter(None, contrasts)),
        need=claim.need,
        partial=describe_partial(by_task, absent, beyond),
        beyond=describe_beyond(beyond, len(claim.tasks), claim.need),
        planned=len(claim.tasks) if claim.need else 0,
        scope=describe_scope(claim.tasks, absent, training.length),
        controls=_run_controls(claim, curve_sets),
    )


def _run_controls(claim: DapClaim, curve_sets: Mapping[str, CurveSet]) -> tuple[Contrast, ...]:
    """Return the same comparisons on shifts that a second action can cross, of a claim about the
    paper's methods, or lambda, on shifts as the paper's.
    """
    controls: list[Contrast | None] = []
    if claim.figure in CONTROLLED:
        for task in CROSSABLE:
            controls += _run_test(claim, curve_sets.get(task))
    return tuple(filter(None, controls))


def _compare_tasks(claim: DapClaim, curve_sets: Mapping[str, CurveSet]) -> Contrasts:
    """Return a claim's comparisons of tasks with each other, if it has such."""
    return ACROSS[claim.id](curve_sets) if claim.id in ACROSS else ()


def _run_test(claim: DapClaim, curves: CurveSet | None) -> list[Contrast | None]:
    """Return a claim's comparisons on one task, None for what was not run."""
    return [*claim.test(curves)] if curves else [None]
