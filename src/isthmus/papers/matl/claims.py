"""What MATL's paper claims, M1 to M30, and the comparisons that decide each. Scores are normalized
by experiment, times are shares of the training's length, and equal means within 10 % of what
can be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

from isthmus.papers.matl.experiments import (
    SHIFT_SIZES,
    VARIED_SETTINGS,
)
from isthmus.papers.matl.selection import choose_curves, count_wins
from isthmus.papers.matl.variation import (
    compare_instability,
    compare_lambdas,
    compare_shift_sizes,
)
from isthmus.studies.claims import Claim, adjust_p_values, describe_missing
from isthmus.studies.contrasts import Contrast, Contrasts, Wanted
from isthmus.studies.learning_curves import (
    CurveSet,
    Scores,
    compare_paired,
    compare_scores,
    compare_times,
    compare_unpaired,
)

SPARSE = ("cartpole-sparse", "reacher-sparse")
UNINFORMATIVE = ("hopper-uninformative",)
NONE = ("cartpole-none", "reacher-none", "hopper-none")
ENGINES = ("reacher-dart", "hopper-dart")
HOPPERS = ("hopper-uninformative", "hopper-none", "hopper-dart")
BASELINES, UNILATERAL, MUTUAL, TUNED = (
    ("independent", "direct_transfer", "fine_tuning"), "matlu", "matl", "matlf",
)  # fmt: skip
MATLS = (UNILATERAL, MUTUAL, TUNED)
WITHOUT_DIRECT = ("independent", "fine_tuning", *MATLS)  # what trains on the robot
FOREMOST = ("M2", "M4", "M9", "M13", "M16", "M21")
"""The claims that the paper exists for."""

Test = Callable[[list[CurveSet]], Contrasts]


def on_each_experiment(test: Callable[[CurveSet], Contrasts]) -> Test:
    """Return the test of a claim that compares on every experiment that it is about."""

    def test_each(curve_sets: list[CurveSet]) -> Contrasts:
        for curves in curve_sets:
            yield from test(curves)

    return test_each


def start_from_one_policy(a: str, b: str) -> bool:
    """Return whether seed i of both is, or starts from, one run: direct transfer's. All others
    begin from nothing.
    """
    return {a, b} <= {"direct_transfer", "fine_tuning", TUNED}


def _compare_score(c: CurveSet, score: str, a: str, b: str, wanted: Wanted) -> Contrast | None:
    """Compare two approaches by a score of the curves."""
    read = {"J": c.final, "AUC": c.area, "slope": c.slope}[score]
    label, shared = f"{c.name}: {score} {a} - {b}", start_from_one_policy(a, b)
    return compare_scores(label, read(a), read(b), wanted, c.margin, shared=shared)


def _higher(c: CurveSet, a: str, b: str) -> Contrast | None:
    return _compare_score(c, "J", a, b, "above")


def _lower(c: CurveSet, a: str, b: str) -> Contrast | None:
    return _compare_score(c, "J", a, b, "below")


def _more(c: CurveSet, a: str, b: str) -> Contrast | None:
    return _compare_score(c, "AUC", a, b, "above")


def _less(c: CurveSet, a: str, b: str) -> Contrast | None:
    return _compare_score(c, "AUC", a, b, "below")


def _as_much(c: CurveSet, a: str, b: str) -> Contrast | None:
    return _compare_score(c, "AUC", a, b, "equal")


def _sooner(c: CurveSet, a: str, b: str) -> Contrast | None:
    label, shared = f"{c.name}: T80 {a} - {b}", start_from_one_policy(a, b)
    return compare_times(label, c.time(a), c.time(b), shared=shared)


@on_each_experiment
def _test_direct_transfer(c: CurveSet) -> Contrasts:
    yield _lower(c, "direct_transfer", "independent")


@on_each_experiment
def _test_speed_up(c: CurveSet) -> Contrasts:
    for method in (MUTUAL, UNILATERAL):
        yield _more(c, method, "independent")
        yield _sooner(c, method, "independent")


@on_each_experiment
def _test_fine_tuning(c: CurveSet) -> Contrasts:
    yield _sooner(c, "fine_tuning", "independent")
    times = c.time("fine_tuning", 0.95)
    label = f"{c.name}: share until fine_tuning has 0.95 of the best J, - 0.1"
    yield compare_paired(label, times, dict.fromkeys(times, 0.1), "below")


@on_each_experiment
def _test_fastest(c: CurveSet) -> Contrasts:
    for other in (*BASELINES, UNILATERAL, MUTUAL):
        yield _sooner(c, TUNED, other)


@on_each_experiment
def _test_stands_still(c: CurveSet) -> Contrasts:
    low, high = c.limits
    independent = c.final("independent")
    zero = dict.fromkeys(independent, -low / (high - low))
    label = f"{c.name}: distance of independent"
    yield compare_paired(f"{label} - 0", independent, zero, "equal", c.margin)
    source = c.measured("direct_transfer", "source_forward", "final")
    for seed, distance in source.items():
        source[seed] = (distance - low) / (high - low)
    label = f"{label} - the source policy's in the source"
    yield compare_unpaired(label, independent, source, "below")


@on_each_experiment
def _test_slightly_farther(c: CurveSet) -> Contrasts:
    for method in ("direct_transfer", "fine_tuning"):
        yield _higher(c, method, "independent")
    halfway = _average_scores(c, "independent", MUTUAL, "independent", UNILATERAL)
    for method in ("direct_transfer", "fine_tuning"):
        label = f"{c.name}: J {method} - halfway from independent to MATL and MATLu"
        yield compare_unpaired(label, c.final(method), halfway, "below")


def _average_scores(c: CurveSet, *approaches: str) -> Scores:
    """Return the mean J of approaches, for the seeds that all have."""
    finals = [c.final(approach) for approach in approaches]
    means = {}
    for seed in set.intersection(*map(set, finals)):
        means[seed] = sum(map(itemgetter(seed), finals)) / len(finals)
    return means


@on_each_experiment
def _test_farther(c: CurveSet) -> Contrasts:
    for method in MATLS:
        for other in BASELINES:
            yield _higher(c, method, other)


@on_each_experiment
def _test_tuned_is_best(c: CurveSet) -> Contrasts:
    for other in (*BASELINES, UNILATERAL, MUTUAL):
        yield _higher(c, TUNED, other)


def _test_tuned_wins(curve_sets: list[CurveSet]) -> Contrasts:
    """Test that MATLf is best, and has the highest maximum of a seed's five approaches more often
    than one of five has by chance.
    """
    yield from _test_tuned_is_best(curve_sets)
    wins = count_wins(curve_sets)
    chance = dict.fromkeys(wins, 1 / len(WITHOUT_DIRECT))
    label = f"share of scenarios in which {TUNED} has the highest maximum - that by chance"
    yield compare_paired(label, wins, chance)


@on_each_experiment
def _test_learns(c: CurveSet) -> Contrasts:
    for method in (MUTUAL, UNILATERAL):
        yield _compare_with_start(c, method, "above")


@on_each_experiment
def _test_no_progress(c: CurveSet) -> Contrasts:
    for method in ("independent", "fine_tuning"):
        yield _compare_with_start(c, method, "equal")


def _compare_with_start(c: CurveSet, method: str, wanted: Wanted) -> Contrast | None:
    label = f"{c.name}: {method}, final - initial"
    return compare_paired(label, c.final(method), c.initial(method), wanted, c.margin)


@on_each_experiment
def _test_dragged_down(c: CurveSet) -> Contrasts:
    """Test that MATLf is, and that MATL and MATLu are not: M21's comparisons."""
    yield _less(c, TUNED, MUTUAL)
    for method in (MUTUAL, UNILATERAL):
        yield _more(c, method, "independent")
        yield _sooner(c, method, "independent")


@on_each_experiment
def _test_mutual(c: CurveSet) -> Contrasts:
    yield _more(c, MUTUAL, UNILATERAL)
    yield _higher(c, MUTUAL, UNILATERAL)


@on_each_experiment
def _test_inhibits_exploration(c: CurveSet) -> Contrasts:
    tuned, independent = "fine_tuning", "independent"
    label = f"{c.name}: entropy in the first quarter, {tuned} - {independent}"
    yield _compare_measures(c, label, (tuned, "entropy"), (independent, "entropy"), "below")
    label = f"{c.name}: states covered at first, {tuned} - {independent}"
    yield _compare_measures(c, label, (tuned, "coverage"), (independent, "coverage"), "below")
    yield _compare_score(c, "slope", tuned, independent, "below")


def _compare_measures(
    c: CurveSet, label: str, a: tuple[str, str], b: tuple[str, str], wanted: Wanted = "above"
) -> Contrast | None:
    """Compare measures, each of an approach and by its key, of runs that share nothing."""
    return compare_unpaired(label, c.measured(*a), c.measured(*b), wanted)


@on_each_experiment
def _test_losses(c: CurveSet) -> Contrasts:
    shifted = {seed: area - c.margin for seed, area in c.area("matl_confusion").items()}
    label = f"{c.name}: AUC confusion - independent - the margin"
    yield compare_unpaired(label, shifted, c.area("independent"), "below")
    yield _more(c, MUTUAL, "independent")


@on_each_experiment
def _test_aligned(c: CurveSet) -> Contrasts:
    for a, b in (("independent", UNILATERAL), (UNILATERAL, MUTUAL)):
        label = f"{c.name}: accuracy of a fresh classifier {a} - {b}"
        yield _compare_measures(c, label, (a, "accuracy"), (b, "accuracy"))


@on_each_experiment
def _test_visited_states(c: CurveSet) -> Contrasts:
    key = "visited_return"
    label = f"{c.name}: the simulator's return from the robot's states, matl - matlu"
    yield _compare_measures(c, label, (MUTUAL, key), (UNILATERAL, key))


@on_each_experiment
def _test_gait(c: CurveSet) -> Contrasts:
    sides = "matl in the target - source policy in the source"
    robot, source = MUTUAL, "direct_transfer"
    for key, name in (("ankle_work", "work"), ("ankle_range", "range")):
        label = f"{c.name}: ankle's {name}, {sides}"
        yield _compare_measures(c, label, (robot, key), (source, key))
    label = f"{c.name}: speed, {sides}"
    yield _compare_measures(c, label, (robot, "speed"), (source, "speed"), "below")


@on_each_experiment
def _test_fine_tuning_is_worse(c: CurveSet) -> Contrasts:
    yield _less(c, "fine_tuning", "independent")


@on_each_experiment
def _test_state_wise(c: CurveSet) -> Contrasts:
    yield _less(c, "state_alignment", MUTUAL)


@on_each_experiment
def _test_state_wise_is_adequate(c: CurveSet) -> Contrasts:
    yield _as_much(c, "state_alignment", MUTUAL)


@on_each_experiment
def _test_mutual_equals_unilateral(c: CurveSet) -> Contrasts:
    yield _as_much(c, MUTUAL, UNILATERAL)


@on_each_experiment
def _test_single_states(c: CurveSet) -> Contrasts:
    yield _as_much(c, MUTUAL, "matl_pairs")


@on_each_experiment
def _test_confusion(c: CurveSet) -> Contrasts:
    yield _more(c, MUTUAL, "matl_min_max")


@on_each_experiment
def _test_final(c: CurveSet) -> Contrasts:
    yield _higher(c, MUTUAL, "independent")


class MatlClaim(NamedTuple):
    """What decides a claim: figure, experiments, and the test of those that were run."""

    id: str
    figure: str
    experiments: tuple[str, ...]
    text: str
    statistic: str
    test: Test


CLAIMS: tuple[MatlClaim, ...] = (
    MatlClaim("M1", "3", SPARSE, "Sparse: direct transfer is unsuited",
        "J(direct) - J(independent) < 0", _test_direct_transfer),
    MatlClaim("M2", "3", SPARSE, "Sparse: alignment speeds training up",
        "AUC and T80 vs independent", _test_speed_up),
    MatlClaim("M3", "3", SPARSE,
        "Sparse: fine tuning beats independent, near the best of all within a tenth of training",
        "T80, and time until 0.95 of the best J", _test_fine_tuning),
    MatlClaim("M4", "3", SPARSE, "Sparse: MATLf is the fastest of all six",
        "T80(MATLf) - T80(each other) < 0", _test_fastest),
    MatlClaim("M5", "pairs", SPARSE, "Sparse: single states suffice the discriminator",
        "AUC(n=0) = AUC(t, t+4)", _test_single_states),
    MatlClaim("M6", "3", SPARSE, "Sparse: mutual is as good as unilateral",
        "AUC(MATL) = AUC(MATLu)", _test_mutual_equals_unilateral),
    MatlClaim("M7", "4", UNINFORMATIVE, "Uninformative: independent stands still",
        "distance = 0, and below the source policy's", _test_stands_still),
    MatlClaim("M8", "4", UNINFORMATIVE,
        "Uninformative: direct transfer and fine tuning move slightly farther than independent",
        "distance differences > 0, and below half of MATL's and MATLu's mean lead",
        _test_slightly_farther),
    MatlClaim("M9", "4", UNINFORMATIVE,
        "Uninformative: every MATL moves farther than every baseline", "9 distance differences > 0",
        _test_farther),
    MatlClaim("M10", "4", UNINFORMATIVE, "Uninformative: MATLf is best",
        "distance(MATLf) - each other > 0", _test_tuned_is_best),
    MatlClaim("M11", "4-lambda", ("hopper-uninformative", "cartpole-sparse"),
        "Lambda is critical where rewards conflict; its best is above 0.1",
        "J(best above 0.1) - J(0.1); range of J over lambda, against a sparse task's",
        compare_lambdas),
    MatlClaim("M12", "4", UNINFORMATIVE, "The conflict gives a conservative, ankle-based gait",
        "ankle's share of joint work and of range, speed: MATL vs source policy", _test_gait),
    MatlClaim("M13", "5", NONE, "No robot reward: MATL and MATLu still learn",
        "ratio, final - initial > 0", _test_learns),
    MatlClaim("M14", "5", NONE, "No robot reward: MATLf wins everywhere",
        "ratio(MATLf) - each other > 0; the highest maximum on more seeds than by chance",
        _test_tuned_wins),
    MatlClaim("M15", "5", NONE, "No robot reward: independent and fine tuning stay where they are",
        "final - initial = 0", _test_no_progress),
    MatlClaim("M16", "4, 5, 6", HOPPERS, "Locomotion: mutual beats unilateral",
        "AUC and J, MATL - MATLu > 0", _test_mutual),
    MatlClaim("M17", "6", ENGINES, "Engines: direct transfer is low",
        "J(direct) - J(independent) < 0", _test_direct_transfer),
    MatlClaim("M18", "6", ENGINES, "Engines: fine tuning is worse than independent",
        "AUC(fine tuning) - AUC(independent) < 0", _test_fine_tuning_is_worse),
    MatlClaim("M19", "6", ENGINES, "Why: the overfitted policy inhibits exploration",
        "entropy, coverage, slope", _test_inhibits_exploration),
    MatlClaim("M20", "6", ENGINES, "Engines: MATLf is dragged down, MATL and MATLu are not",
        "AUC(MATLf) - AUC(MATL) < 0, and M21's", _test_dragged_down),
    MatlClaim("M21", "6", ENGINES, "Engines: MATL and MATLu speed training up",
        "AUC and T80 vs independent", _test_speed_up),
    MatlClaim("M22", "6", ENGINES,
        "Engines: confusion brings no improvement, a Wasserstein loss does",
        "AUC(loss) - AUC(independent): below a tenth, above 0", _test_losses),
    MatlClaim("M23", "losses", SPARSE, "Confusion suits better than min-max",
        "AUC(log D) - AUC(-log(1-D)) > 0", _test_confusion),
    MatlClaim("M24", "3", SPARSE, "Alignment brings the state distributions together",
        "accuracy of a fresh classifier: independent > MATLu > MATL", _test_aligned),
    MatlClaim("M25", "3", SPARSE,
        "Mutual alignment makes the simulator's agent better where the robot goes",
        "its return from the robot's states, MATL - MATLu > 0", _test_visited_states),
    MatlClaim("M26", "3, 4", SPARSE + UNINFORMATIVE, "Alignment can raise final performance",
        "J(MATL) - J(independent) > 0", _test_final),
    MatlClaim("M27", "shift-size", tuple(SHIFT_SIZES),
        "Works where direct transfer fails, given limited variation",
        "the smallest shift: AUC vs independent, J vs direct transfer > 0; AUC's slope by the "
        "log of the shift, MATL - independent < 0", compare_shift_sizes),
    MatlClaim("M28", "4-lambda, settings", ("cartpole-sparse",),
        "Adversarial training is unstable and sensitive to its settings",
        f"J's scatter over seeds and the share of seeds lost, MATL over {len(VARIED_SETTINGS)} "
        "settings - independent > 0; best setting - worst > 0", compare_instability),
    MatlClaim("M29", "state-wise", SPARSE + UNINFORMATIVE, "State-wise alignment brings little",
        "AUC(state-wise) - AUC(MATL) < 0", _test_state_wise),
    MatlClaim("M30", "state-wise", ("ball",),
        "State-wise alignment is adequate for a ball in a plane", "AUC(state-wise) = AUC(MATL)",
        _test_state_wise_is_adequate),
)  # fmt: skip
ONCE = ("M26",)  # "can": one comparison suffices


def decide_matl_claims(
    curve_sets: Mapping[str, CurveSet], training: Mapping[str, str] | None = None
) -> list[Claim]:
    """Return every claim with what the curves show of it; where experiments are missing it can
    fall, but not hold. `training` gives, by experiment, how much shorter it was than at paper
    scale.
    """
    claims = [_decide_claim(claim, curve_sets, training or {}) for claim in CLAIMS]
    return adjust_p_values(claims)


def _decide_claim(
    claim: MatlClaim, curve_sets: Mapping[str, CurveSet], training: Mapping[str, str]
) -> Claim:
    chosen = {name: choose_curves(claim.figure, name, curve_sets) for name in claim.experiments}
    missing = [name for name, curves in chosen.items() if curves is None]
    present = [*filter(None, chosen.values())]
    contrasts = _run_test(claim, present)
    undecided = Claim(
        claim.id, claim.text, claim.statistic, claim.figure, foremost=claim.id in FOREMOST
    )
    lacks = describe_missing(missing, incomplete=None in contrasts)
    if not any(contrasts):
        return replace(undecided, inconclusive_because=lacks or "no unit measures it")
    decided = replace(
        undecided,
        contrasts=tuple(filter(None, contrasts)),
        partial=lacks,
        scope=_describe_scope(present, training),
    )
    if claim.id in ONCE:
        return replace(decided, need=1, planned=len(claim.experiments))
    return replace(decided, inconclusive_because=_find_inconclusive(present))


def _find_inconclusive(present: list[CurveSet]) -> str:
    """Return why nothing can be concluded of the first experiment of which that is so."""
    return next(filter(None, (curves.inconclusive_because for curves in present)), "")


def _run_test(claim: MatlClaim, present: list[CurveSet]) -> Sequence[Contrast | None]:
    """Return a claim's comparisons on the experiments that were run: M11 compares two."""
    if not present:
        return []
    if claim.id == "M11" and len(present) < len(claim.experiments):
        return []
    return [*claim.test(present)]


def _describe_scope(present: list[CurveSet], training: Mapping[str, str]) -> str:
    """Return of how much training a verdict is, in words."""
    return ", ".join(filter(None, (training.get(curves.name) for curves in present)))
