"""What MATL's paper claims, M1 to M30, and the comparisons that decide each. Scores are normalized
a frame (`frames`), times are shares of the training's length, and equal means within 10 % of what
can be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from isthmus.studies.claims import Claim, Contrast, Wanted, adjust_p_values, best_among, tell_lacks
from isthmus.studies.learning_curves import CurveSet, Scores, compared, paired, sooner, unpaired

SPARSE = ("cartpole-sparse", "reacher-sparse")
UNINFORMATIVE = ("hopper-uninformative",)
NONE = ("cartpole-none", "reacher-none", "hopper-none")
ENGINES = ("reacher-dart", "hopper-dart")
HOPPERS = ("hopper-uninformative", "hopper-none", "hopper-dart")
BASELINES, UNILATERAL, MUTUAL, TUNED = (
    ("independent", "direct_transfer", "fine_tuning"), "matlu", "matl", "matlf",
)  # fmt: skip
MATLS = (UNILATERAL, MUTUAL, TUNED)

Tests = Iterable[Contrast | None]
Test = Callable[[list[CurveSet]], Tests]


def each(test: Callable[[CurveSet], Tests]) -> Test:
    """The comparisons of every frame that a claim is about."""
    return lambda frames: [contrast for frame in frames for contrast in test(frame)]


def start_from_one_policy(a: str, b: str) -> bool:
    """Whether seed i of both is, or starts from, one run: direct transfer's. All others begin from
    nothing.
    """
    return {a, b} <= {"direct_transfer", "fine_tuning", TUNED}


def _against(kind: str, wanted: Wanted) -> Callable[[CurveSet, str, str], Contrast | None]:
    """A comparison of two approaches by a score of the frame's."""

    def test(frame: CurveSet, a: str, b: str) -> Contrast | None:
        score: Callable[[str], Scores] = {
            "J": frame.final,
            "AUC": frame.area,
            "slope": frame.slope,
        }[kind]
        said, shared = f"{frame.name}: {kind} {a} - {b}", start_from_one_policy(a, b)
        return compared(said, score(a), score(b), wanted, frame.margin, shared=shared)

    return test


def _sooner(frame: CurveSet, a: str, b: str) -> Contrast | None:
    return sooner(
        f"{frame.name}: T80 {a} - {b}",
        frame.time(a),
        frame.time(b),
        shared=start_from_one_policy(a, b),
    )


HIGHER, LOWER = _against("J", "above"), _against("J", "below")
MORE, LESS, AS_MUCH = _against("AUC", "above"), _against("AUC", "below"), _against("AUC", "equal")


@each
def _direct(f: CurveSet) -> Tests:
    yield LOWER(f, "direct_transfer", "independent")


@each
def _speed_up(f: CurveSet) -> Tests:
    for method in (MUTUAL, UNILATERAL):
        yield MORE(f, method, "independent")
        yield _sooner(f, method, "independent")


@each
def _fine_tuning(f: CurveSet) -> Tests:
    yield _sooner(f, "fine_tuning", "independent")
    near = f.time("fine_tuning", 0.95)
    yield paired(
        f"{f.name}: share until fine_tuning has 0.95 of the best J, - 0.1",
        near,
        dict.fromkeys(near, 0.1),
        "below",
    )


@each
def _fastest(f: CurveSet) -> Tests:
    for other in (*BASELINES, UNILATERAL, MUTUAL):
        yield _sooner(f, TUNED, other)


@each
def _stands_still(f: CurveSet) -> Tests:
    zero = -f.limits[0] / (f.limits[1] - f.limits[0])
    mine = f.final("independent")
    yield paired(
        f"{f.name}: distance of independent - 0", mine, dict.fromkeys(mine, zero), "equal", f.margin
    )
    low, high = f.limits
    source = {
        s: (v - low) / (high - low)
        for s, v in f.measured("direct_transfer", "source_forward", "final").items()
    }
    yield unpaired(
        f"{f.name}: distance of independent - the source policy's in the source",
        mine,
        source,
        "below",
    )


@each
def _slightly(f: CurveSet) -> Tests:
    for method in ("direct_transfer", "fine_tuning"):
        yield HIGHER(f, method, "independent")


@each
def _farther(f: CurveSet) -> Tests:
    for method in MATLS:
        for other in BASELINES:
            yield HIGHER(f, method, other)


@each
def _best_tuned(f: CurveSet) -> Tests:
    for other in (*BASELINES, UNILATERAL, MUTUAL):
        yield HIGHER(f, TUNED, other)


@each
def _learns(f: CurveSet) -> Tests:
    for method in (MUTUAL, UNILATERAL):
        yield paired(
            f"{f.name}: {method}, final - initial",
            f.final(method),
            f.initial(method),
            "above",
            f.margin,
        )


@each
def _no_progress(f: CurveSet) -> Tests:
    for method in ("independent", "fine_tuning"):
        yield paired(
            f"{f.name}: {method}, final - initial",
            f.final(method),
            f.initial(method),
            "equal",
            f.margin,
        )


@each
def _dragged_down(f: CurveSet) -> Tests:
    """And MATL and MATLu are not: M21's comparisons."""
    yield LESS(f, TUNED, MUTUAL)
    for method in (MUTUAL, UNILATERAL):
        yield MORE(f, method, "independent")
        yield _sooner(f, method, "independent")


@each
def _mutual(f: CurveSet) -> Tests:
    yield MORE(f, MUTUAL, UNILATERAL)
    yield HIGHER(f, MUTUAL, UNILATERAL)


@each
def _inhibited(f: CurveSet) -> Tests:
    for key, said in (
        ("entropy", "entropy in the first quarter"),
        ("coverage", "states covered at first"),
    ):
        a, b = (f.measured(method, key) for method in ("fine_tuning", "independent"))
        yield unpaired(f"{f.name}: {said}, fine_tuning - independent", a, b, "below")
    yield _against("slope", "below")(f, "fine_tuning", "independent")


@each
def _losses(f: CurveSet) -> Tests:
    shifted = {s: v - f.margin for s, v in f.area("matl_confusion").items()}
    yield unpaired(
        f"{f.name}: AUC confusion - independent - the margin",
        shifted,
        f.area("independent"),
        "below",
    )
    yield MORE(f, MUTUAL, "independent")


@each
def _aligned(f: CurveSet) -> Tests:
    told = {m: f.measured(m, "accuracy") for m in ("independent", UNILATERAL, MUTUAL)}
    for a, b in (("independent", UNILATERAL), (UNILATERAL, MUTUAL)):
        yield unpaired(f"{f.name}: accuracy of a fresh classifier {a} - {b}", told[a], told[b])


@each
def _visited(f: CurveSet) -> Tests:
    a, b = (f.measured(method, "visited_return") for method in (MUTUAL, UNILATERAL))
    yield unpaired(f"{f.name}: the simulator's return from the robot's states, matl - matlu", a, b)


@each
def _gait(f: CurveSet) -> Tests:
    a, b = f.measured(MUTUAL, "ankle_work"), f.measured("direct_transfer", "ankle_work")
    yield unpaired(
        f"{f.name}: ankle's work, matl in the target - source policy in the source", a, b
    )
    a, b = f.measured(MUTUAL, "speed"), f.measured("direct_transfer", "speed")
    yield unpaired(
        f"{f.name}: speed, matl in the target - source policy in the source", a, b, "below"
    )


def weights(f: CurveSet) -> dict[float, str]:
    """The approaches that differ in lambda alone, by lambda."""
    found = {a: a.removeprefix("matl_") for a in f.raw if a.startswith("matl_")}
    return dict(
        sorted((float(text), a) for a, text in found.items() if text.replace(".", "").isdigit())
    )


def _lambda(frames: list[CurveSet]) -> Tests:
    hopper, cart = frames
    found = {weight: hopper.final(a) for weight, a in weights(hopper).items()}
    if 0.1 not in found or not weights(cart):
        yield None
        return
    average = {weight: sum(scores.values()) / len(scores) for weight, scores in found.items()}
    if not {0.03, 0.1, 0.3, 1.0, 3.0} <= {*found}:
        yield None
        return
    above = [w for w in average if w > 0.1]
    best = max(above, key=lambda w: average[w])
    largest = unpaired(
        f"{hopper.name}: J of lambda {best:g} - of 0.1",
        found[best],
        found[0.1],
        "above",
        hopper.margin,
    )
    yield largest and best_among(largest, len(above))

    def spread(f: CurveSet) -> Scores:
        each = [f.final(a) for a in weights(f).values()]
        seeds = set.intersection(*(set(scores) for scores in each))
        return {s: max(x[s] for x in each) - min(x[s] for x in each) for s in seeds}

    yield unpaired(
        "range of J over lambda, hopper-uninformative - cartpole-sparse",
        spread(hopper),
        spread(cart),
    )


@each
def _state_wise(f: CurveSet) -> Tests:
    yield LESS(f, "state_alignment", MUTUAL)


@each
def _adequate(f: CurveSet) -> Tests:
    yield AS_MUCH(f, "state_alignment", MUTUAL)


@each
def _equal(f: CurveSet) -> Tests:
    yield AS_MUCH(f, MUTUAL, UNILATERAL)


@each
def _single(f: CurveSet) -> Tests:
    yield AS_MUCH(f, MUTUAL, "matl_pairs")


@each
def _confusion(f: CurveSet) -> Tests:
    yield MORE(f, MUTUAL, "matl_min_max")


@each
def _final(f: CurveSet) -> Tests:
    yield HIGHER(f, MUTUAL, "independent")


TableRow = tuple[str, str, tuple[str, ...], str, str, Test | None]
"""Claim, figure, experiments, text, statistic and comparisons."""

TABLE: tuple[TableRow, ...] = (
    ("M1", "3", SPARSE, "Sparse: direct transfer is unsuited", "J(direct) - J(independent) < 0", _direct),
    ("M2", "3", SPARSE, "Sparse: alignment speeds training up", "AUC and T80 vs independent", _speed_up),
    ("M3", "3", SPARSE, "Sparse: fine tuning beats independent, near the best of all within a tenth of training",
     "T80, and time until 0.95 of the best J", _fine_tuning),
    ("M4", "3", SPARSE, "Sparse: MATLf is the fastest of all six", "T80(MATLf) - T80(each other) < 0", _fastest),
    ("M5", "pairs", SPARSE, "Sparse: single states suffice the discriminator", "AUC(n=0) = AUC(t, t+4)", _single),
    ("M6", "3", SPARSE, "Sparse: mutual is as good as unilateral", "AUC(MATL) = AUC(MATLu)", _equal),
    ("M7", "4", UNINFORMATIVE, "Uninformative: independent stands still", "distance = 0, and below the source policy's",
     _stands_still),
    ("M8", "4", UNINFORMATIVE, "Uninformative: direct transfer and fine tuning move slightly farther than independent",
     "distance differences > 0; how small: M9", _slightly),
    ("M9", "4", UNINFORMATIVE, "Uninformative: every MATL moves farther than every baseline",
     "9 distance differences > 0", _farther),
    ("M10", "4", UNINFORMATIVE, "Uninformative: MATLf is best", "distance(MATLf) - each other > 0", _best_tuned),
    ("M11", "4-lambda", ("hopper-uninformative", "cartpole-sparse"),
     "Lambda is critical where rewards conflict; its best is above 0.1",
     "J(best above 0.1) - J(0.1); range of J over lambda, against a sparse task's", _lambda),
    ("M12", "4", UNINFORMATIVE, "The conflict gives a conservative, ankle-based gait",
     "ankle's share of joint work, speed: MATL vs source policy", _gait),
    ("M13", "5", NONE, "No robot reward: MATL and MATLu still learn", "ratio, final - initial > 0", _learns),
    ("M14", "5", NONE, "No robot reward: MATLf wins everywhere", "ratio(MATLf) - each other > 0", _best_tuned),
    ("M15", "5", NONE, "No robot reward: independent and fine tuning stay where they are", "final - initial = 0",
     _no_progress),
    ("M16", "4, 5, 6", HOPPERS, "Locomotion: mutual beats unilateral", "AUC and J, MATL - MATLu > 0", _mutual),
    ("M17", "6", ENGINES, "Engines: direct transfer is low", "J(direct) - J(independent) < 0", _direct),
    ("M18", "6", ENGINES, "Engines: fine tuning is worse than independent", "AUC(fine tuning) - AUC(independent) < 0",
     each(lambda f: [LESS(f, "fine_tuning", "independent")])),
    ("M19", "6", ENGINES, "Why: the overfitted policy inhibits exploration", "entropy, coverage, slope", _inhibited),
    ("M20", "6", ENGINES, "Engines: MATLf is dragged down, MATL and MATLu are not",
     "AUC(MATLf) - AUC(MATL) < 0, and M21's", _dragged_down),
    ("M21", "6", ENGINES, "Engines: MATL and MATLu speed training up", "AUC and T80 vs independent", _speed_up),
    ("M22", "6", ENGINES, "Engines: confusion brings no improvement, a Wasserstein loss does",
     "AUC(loss) - AUC(independent): below a tenth, above 0", _losses),
    ("M23", "losses", SPARSE, "Confusion suits better than min-max", "AUC(log D) - AUC(-log(1-D)) > 0", _confusion),
    ("M24", "3", SPARSE, "Alignment brings the state distributions together",
     "accuracy of a fresh classifier: independent > MATLu > MATL", _aligned),
    ("M25", "3", SPARSE, "Mutual alignment makes the simulator's agent better where the robot goes",
     "its return from the robot's states, MATL - MATLu > 0", _visited),
    ("M26", "3, 4", SPARSE + UNINFORMATIVE, "Alignment can raise final performance", "J(MATL) - J(independent) > 0",
     _final),
    ("M27", "", (), "Works where direct transfer fails, given limited variation", "gain against shift size", None),
    ("M28", "", (), "Adversarial training is unstable", "seed SD over lambda and discriminator steps", None),
    ("M29", "state-wise", SPARSE + UNINFORMATIVE, "State-wise alignment brings little",
     "AUC(state-wise) - AUC(MATL) < 0", _state_wise),
    ("M30", "state-wise", ("ball",), "State-wise alignment is adequate for a ball in a plane",
     "AUC(state-wise) = AUC(MATL)", _adequate),
)  # fmt: skip
ONCE = ("M26",)  # "can": one comparison suffices


def claims(frames: dict[str, CurveSet], training: Mapping[str, str] | None = None) -> list[Claim]:
    """Every claim with what the frames say of it; where experiments are missing it can fall, but
    not hold. `training` says of an experiment how much shorter it was than at paper scale.
    """
    return adjust_p_values([_claim(row, frames, training or {}) for row in TABLE])


def _claim(row: TableRow, frames: dict[str, CurveSet], training: Mapping[str, str]) -> Claim:
    name, figure, needs, text, statistic, test = row
    missing = [need for need in needs if need not in frames]
    here = [frames[need] for need in needs if need in frames]
    found = [*test(here)] if test and _comparable(name, here, missing) else []
    contrasts = tuple(each for each in found if each)
    lacks = tell_lacks(missing, incomplete=None in found)
    if not contrasts:
        return Claim(
            name, text, statistic, figure, inconclusive_because=lacks or "no unit measures it"
        )
    scope = _tell_scope(here, training)
    if name in ONCE:
        return Claim(
            name,
            text,
            statistic,
            figure,
            contrasts,
            1,
            partial=lacks,
            planned=len(needs),
            scope=scope,
        )
    blocked = next(filter(None, (frame.inconclusive_because for frame in here)), "")
    return Claim(
        name,
        text,
        statistic,
        figure,
        contrasts,
        inconclusive_because=blocked,
        partial=lacks,
        scope=scope,
    )


def _tell_scope(here: list[CurveSet], training: Mapping[str, str]) -> str:
    """Return of how much training a verdict is, in words."""
    return ", ".join(training[frame.name] for frame in here if training.get(frame.name))


def _comparable(name: str, here: list[CurveSet], missing: list[str]) -> bool:
    """Whether the frames that are there can be tested: M11 compares two experiments."""
    return bool(here) and not (missing and name == "M11")
