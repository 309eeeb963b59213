"""What DAP's paper claims, D1 to D26, and the comparisons that decide each. Scores are returns in
the target: J is the mean over a run's last tenth; equal means within a fifth of what the source's
policy is worth there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.evaluation import statistics
from isthmus.studies.claims import Claim, Contrast, Wanted, adjust_p_values, best_among, tell_lacks
from isthmus.studies.learning_curves import CurveSet, Scores, compared, paired, unpaired

TASKS = ("half_cheetah", "walker2d", "hopper", "ant")
PAIR = "pair"  # the linear pair of domains, in a task's place
BASELINES = ("source", "h2o", "darc", "garat")
PAPERS = (*BASELINES, "dap", "dap_u")
Tests = Iterable[Contrast | None]


def j(f: CurveSet, approach: str) -> Scores:
    """The mean return of a run's last tenth."""
    low, high = f.limits
    return {s: low + (high - low) * v for s, v in f.final(approach).items()}


def highest(f: CurveSet, approach: str) -> Scores:
    return {s: float(curve[:, 1].max()) for s, curve in f.raw.get(approach, {}).items()}


def times(factor: float, scores: Scores) -> Scores:
    return {s: factor * v for s, v in scores.items()}


def auc(f: CurveSet, approach: str) -> Scores:
    """The mean height of a curve."""
    return {s: statistics.area(curve, f.horizon) for s, curve in f.raw.get(approach, {}).items()}


def margin(f: CurveSet, floor: str = "source") -> float:
    found = [*j(f, floor).values()]
    return 0.2 * abs(float(np.mean(found))) if found else float("nan")


def compare(
    f: CurveSet, a: str, b: str, wanted: Wanted = "above", floor: str = "source"
) -> Contrast | None:
    said, shared = f"{f.name}: J {a} - {b}", share_logs(a, b)
    return compared(said, j(f, a), j(f, b), wanted, margin(f, floor), shared=shared)


def policy_behind(approach: str) -> str:
    """Return the approach whose policy of the same seed logs the target for this one: itself of
    those that log.
    """
    if approach == "target" or approach.endswith("_expert"):
        return "target"
    return "ppo" if approach == "ppo" or approach.startswith("garat") else "source"


def share_logs(a: str, b: str) -> bool:
    """Whether seed i of both stands on one policy's log, or made it."""
    return policy_behind(a) == policy_behind(b)


def best_of(f: CurveSet, approaches: Iterable[str]) -> str:
    """The one with the highest mean J among those that were run."""
    return max((a for a in approaches if f.raw.get(a)), key=lambda a: np.mean([*j(f, a).values()]))


def _floor(f: CurveSet) -> Tests:
    yield unpaired(
        f"{f.name}: highest source - target", highest(f, "source"), highest(f, "target"), "below"
    )


def _h2o(f: CurveSet) -> Tests:
    yield compare(f, "h2o", "source", "below")


def _needs_an_expert(f: CurveSet) -> Tests:
    yield compare(f, "h2o_expert", "h2o")

    def gain(method: str) -> Scores:
        plain, expert = j(f, method), j(f, f"{method}_expert")
        return {s: expert[s] - plain[s] for s in plain.keys() & expert.keys()}

    a, b = gain("h2o"), gain("dap")
    yield paired(f"{f.name}: what an expert's log adds to J, h2o - dap", a, b)


def _no_better(f: CurveSet) -> Tests:
    for a, floor in (
        ("darc", "source"),
        ("garat", "ppo"),
    ):  # each against the policy that it has without the log
        yield compare(f, a, floor, "equal", floor)


def _outperforms(f: CurveSet) -> Tests:
    for b in BASELINES:
        yield compare(f, "dap", b)


def _doubles(f: CurveSet) -> Tests:
    yield paired(f"{f.name}: J dap - 2 J source", j(f, "dap"), times(2, j(f, "source")))


def _uncertainty(f: CurveSet) -> Tests:
    yield compare(f, "dap_u", "dap")


def _recovers(f: CurveSet) -> Tests:
    a, b = (f.measured(method, "recovery") for method in ("dap_u", "dap"))
    yield paired(f"{f.name}: reward after a kick, as a share, dap_u - dap", a, b)
    a, b = (f.measured("dap_u", key) for key in ("kick_u", "settled_u"))
    yield paired(f"{f.name}: u right after a kick - once settled", a, b)


def _nearly(f: CurveSet) -> Tests:
    yield unpaired(
        f"{f.name}: J dap_u - 0.9 highest target", j(f, "dap_u"), times(0.9, highest(f, "target"))
    )


def _below(f: CurveSet) -> Tests:
    """The best of the paper's methods against the ceiling."""
    if not {"dap", "dap_u", "target"} <= f.raw.keys():
        yield None
    elif f.name == "half_cheetah":
        best = best_of(f, PAPERS)
        yield unpaired(
            f"{f.name}: J {best} - highest target", j(f, best), highest(f, "target"), "below"
        )


def _smallest(frames: Mapping[str, CurveSet]) -> Tests:
    """What the best method reaches of the ceiling, HalfCheetah less each other robot."""

    def reached(f: CurveSet) -> Scores:
        if not {"dap", "dap_u", "target"} <= f.raw.keys():
            return {}
        ours, ceiling = j(f, best_of(f, PAPERS)), highest(f, "target")
        return {s: ours[s] / ceiling[s] for s in ours.keys() & ceiling.keys()}

    share = {task: reached(frames[task]) for task in TASKS if task in frames}
    for task in TASKS[1:]:
        if task in share and TASKS[0] in share:
            yield unpaired(
                f"best of the highest target, {TASKS[0]} - {task}",
                share[TASKS[0]],
                share[task],
                "below",
            )


def _easier(f: CurveSet) -> Tests:
    def paid(method: str) -> Scores:
        reward, delta = (f.measured(method, key) for key in ("reward", "delta_reward"))
        return {s: reward[s] + delta[s] for s in reward.keys() & delta.keys()}

    yield paired(
        f"{f.name}: r + delta_r a step, in the source, dap - darc", paid("dap"), paid("darc")
    )


def _unregularized(f: CurveSet) -> Tests:
    yield compare(f, "dap_0", "dap", "below")


def _chases(f: CurveSet) -> Tests:
    for key, said in (("delta_reward", "delta_r"), ("action_gap", "|a_src - a_tgt|^2")):
        yield paired(
            f"{f.name}: {said}, lambda 0 - lambda", f.measured("dap_0", key), f.measured("dap", key)
        )
    yield compare(f, "dap_0", "dap", "below")


def _like_darc(f: CurveSet) -> Tests:
    yield compare(f, "dap_10", "darc", "equal")
    yield paired(
        f"{f.name}: |a_src - a_tgt|^2 of lambda 10 - of lambda",
        f.measured("dap_10", "action_gap"), f.measured("dap", "action_gap"), "below",
    )  # fmt: skip


def _scan(f: CurveSet, prefix: str) -> dict[float, str]:
    """The approaches that differ in one number alone, by that number."""
    found = {a: a.removeprefix(prefix) for a in f.raw if a.startswith(prefix)}
    return dict(
        sorted((float(text), a) for a, text in found.items() if text.replace(".", "").isdigit())
    )


def _interior(f: CurveSet) -> Tests:
    scan = _scan(f, "dap_")
    if len(scan) < 6:
        yield None
        return
    first, *inner, last = scan.values()
    best = best_of(f, inner)
    for end in (first, last):
        found = compare(f, best, end)
        yield found and best_among(found, len(inner))
    at = inner.index(best)
    beside = best_of(f, [*inner[max(at - 1, 0) : at], *inner[at + 1 : at + 2]])
    yield compare(f, best, beside, "equal")


def _resampled(
    betas: tuple[str, ...], wanted: Wanted, against: str = "dap_u_0"
) -> Callable[[CurveSet], Tests]:
    def test(f: CurveSet) -> Tests:
        for beta in betas:
            yield compare(f, f"dap_u_{beta}", against, wanted)

    return test


def _improves(f: CurveSet) -> Tests:
    """One of the two best values leads, and the scan's ends are below it."""
    inner = ("dap_u_0.05", "dap_u_0.1")
    yield from _resampled(("0.05", "0.1"), "above")(f)
    if all(f.raw.get(a) for a in inner):
        best = best_of(f, inner)
        for end in ("dap_u_0.01", "dap_u_0.2"):
            found = compare(f, best, end)
            yield found and best_among(found, len(inner))


def _fails(f: CurveSet) -> Tests:
    yield from _resampled(("0.15", "0.2"), "below", "dap_u_0.1")(f)
    yield compare(f, "dap_u_0.2", "source", "below")


def _sizes(f: CurveSet) -> Tests:
    for size in ("15000", "10000"):
        yield compare(f, f"dap_u_{size}", "dap_u", "equal")
        yield paired(
            f"{f.name}: AUC dap_u_{size} - dap_u",
            auc(f, f"dap_u_{size}"),
            auc(f, "dap_u"),
            "equal",
            margin(f),
        )


def _declines(f: CurveSet) -> Tests:
    at = lambda a: {s: float(np.interp(0.4 * f.horizon, *c.T)) for s, c in f.raw.get(a, {}).items()}
    late = lambda a: {s: v - at(a)[s] for s, v in j(f, a).items()}
    yield paired(
        f"{f.name}: J - return at 0.4 of training, 5000",
        j(f, "dap_u_5000"),
        at("dap_u_5000"),
        "below",
    )
    yield paired(
        f"{f.name}: the same less that of 20000", late("dap_u_5000"), late("dap_u"), "below"
    )


def _one_episode(f: CurveSet) -> Tests:
    yield compare(f, "dap_u_1episode", "source", "equal")


def _separate(f: CurveSet) -> Tests:
    yield compare(f, "dap", "dap_separate")
    yield paired(
        f"{f.name}: |s' of a_tgt in the target - s' of a_src|^2, one policy - two",
        f.measured("dap", "crossing"), f.measured("dap_separate", "crossing"), "below",
    )  # fmt: skip


def _coverage(f: CurveSet) -> Tests:
    for size in ("5000", "1episode"):
        yield compare(f, f"garat_{size}", "garat", "below")


def _optimistic(f: CurveSet) -> Tests:
    for n in sorted(f.units, key=len):
        for key, where in (("bias_off", "off the log"), ("bias_led", "where delta_r leads")):
            error = f.measured(n, key)
            yield paired(
                f"{f.name}, {n}: mean error of delta_r {where}", error, dict.fromkeys(error, 0.0)
            )


def _marks(f: CurveSet) -> Tests:
    for n in sorted(f.units, key=len):
        rank = f.measured(n, "spearman")
        yield paired(f"{f.name}, {n}: Spearman of u with |error|", rank, dict.fromkeys(rank, 0.0))


def _balances(f: CurveSet) -> Tests:
    if f.name != "pair":
        yield compare(f, "dap_u", "dap_u_n2")
        yield compare(f, "dap_u", "dap_u_n10", "equal")
        five, ten = (f.measured(a, "seconds") for a in ("dap_u", "dap_u_n10"))
        yield paired(f"{f.name}: seconds of a round, N = 5 - 10", five, ten, "below")
        return
    rank, cost = (
        {n: f.measured(n, key) for n in ("n2", "n5", "n10")} for key in ("spearman", "microseconds")
    )
    yield paired(f"{f.name}: Spearman, N = 5 - 2", rank["n5"], rank["n2"])
    yield paired(f"{f.name}: Spearman, N = 10 - 5", rank["n10"], rank["n5"], "equal", 0.05)
    yield paired(f"{f.name}: time of an update, N = 5 - 10", cost["n5"], cost["n10"], "below")


TableRow = tuple[str, str, tuple[str, ...], str, str, int | None, Callable[[CurveSet], Tests]]
"""Claim, figure, tasks, text, statistic, how many tasks it needs (None: all), and its comparisons on one."""

TABLE: tuple[TableRow, ...] = (
    ("D1", "2", TASKS, "RL on source is far below RL on target", "highest returns, each task", None, _floor),
    ("D2", "2", TASKS, "H2O is poor, often below RL on source", "J(H2O) - J(source) < 0, two tasks of four", 2, _h2o),
    ("D3", "logs", ("half_cheetah",), "H2O is poor because it needs optimal target data",
     "J(H2O) with the log of RL on target - J(H2O) > 0, and more than DAP gains by it", None, _needs_an_expert),
    ("D4", "2", TASKS, "Offline DARC and GARAT are about as good as RL on source", "J within a fifth",
     None, _no_better),
    ("D5", "2", TASKS, "DAP outperforms all baselines", "J differences > 0, 4 x 4 pairs", None, _outperforms),
    ("D6", "2", TASKS, "DAP at least doubles RL on source", "J(DAP) - 2 J(source) > 0", None, _doubles),
    ("D7", "2", TASKS, "DAP+U improves on DAP on most tasks", "J differences > 0, three of four", 3, _uncertainty),
    ("D8", "2", TASKS, "DAP+U nearly matches RL on target in some cases", "J - 0.9 of the highest > 0, one task", 1,
     _nearly),
    ("D9", "2", TASKS, "HalfCheetah stays hardest, far below its optimum",
     "best J - highest of RL on target < 0; its share of it less than the other robots'", None, _below),
    ("D10", "2", TASKS, "Two actions make the source's reward easier to maximise",
     "r + delta_r of the trained policies, DAP - DARC > 0", None, _easier),
    ("D11", "3a", ("half_cheetah",), "Without lambda the target's return deteriorates", "J(0) - J(lambda) < 0", None,
     _unregularized),
    ("D12", "3a", ("half_cheetah",), "Because a_tgt then chases the shaping term",
     "delta_r and the gap, 0 - lambda > 0; J < 0", None, _chases),
    ("D13", "3a", ("half_cheetah",), "A large lambda makes DAP like DARC", "J(10) = J(DARC); the gap falls", None,
     _like_darc),
    ("D14", "3a", ("half_cheetah",), "The best lambda is an inner one, in a stable range",
     "J(best) - J(smallest), - J(largest) > 0; a neighbour within a fifth", None, _interior),
    ("D15", "separate", ("half_cheetah",), "One policy for both actions beats two",
     "J difference > 0; a_tgt in the target leads closer to where a_src led", None, _separate),
    ("D16", "3b", ("walker2d",), "beta = 0.01 gains nothing that lasts", "J(0.01) = J(0)", None,
     _resampled(("0.01",), "equal")),
    ("D17", "3b", ("walker2d",), "beta = 0.05 and 0.1 improve, and one of them is best",
     "J(beta) - J(0) > 0; J(best) - J(0.01), - J(0.2) > 0", None, _improves),
    ("D18", "3b", ("walker2d",), "beta = 0.15 and 0.2 deteriorate, and 0.2 fails",
     "J(beta) - J(0.1) < 0; J(0.2) - J(source) < 0", None, _fails),
    ("D19", "3c", ("walker2d",), "15,000 and 10,000 transitions do as well", "J and AUC within a fifth", None,
     _sizes),
    ("D20", "3c", ("walker2d",), "5,000 transitions decline late in training",
     "J - return at 0.4 of training < 0, and below 20,000's", None, _declines),
    ("D21", "3c", ("walker2d",), "One episode stays near RL on source", "J within a fifth", None, _one_episode),
    ("D22", "classifiers", ("pair",), "The classifiers are over-optimistic off the data",
     "the linear pair, noise 0.1: mean error of delta_r > 0, off the log and at the actions that it pays most", None,
     _optimistic),
    ("D23", "2", TASKS, "Resampling gives self-correction", "after a kick: DAP+U's recovery - DAP's > 0, and u decays",
     None, _recovers),
    ("D24", "classifiers", ("pair",), "The ensemble's spread marks uncertain dynamics",
     "the linear pair, noise 0.1: Spearman of u with the errors of delta_r > 0", None, _marks),
    ("D25", "classifiers, members", ("pair", "walker2d"), "The chosen N balances accuracy and speed",
     "Spearman and J of N = 5 above those of 2, within 0.05 and a fifth of 10's; less time than with 10", None,
     _balances),
    ("D26", "logs", ("half_cheetah",), "Grounding depends on the log's coverage", "J(GARAT), smaller logs - 20,000 < 0",
     None, _coverage),
)  # fmt: skip


ACROSS: dict[str, Callable[[Mapping[str, CurveSet]], Tests]] = {"D9": _smallest}
"""Comparisons of tasks with each other, beside the rows' own."""


FLOORS = ("D1",)
"""Claims of the floor and the ceiling alone, which figure "shifts" trains on all robots."""


@dataclass(frozen=True)
class Training:
    """What a scale trains: the robots of figure 2, and how much shorter than the paper (empty: as
    long).
    """

    robots: tuple[str, ...] = TASKS
    length: str = ""


def claims(frames: dict[str, CurveSet], training: Training | None = None) -> list[Claim]:
    """Every claim with what the frames say of it; where tasks are missing one of all tasks can
    fall, but not hold, and is told apart by whether this scale trains them at all.
    """
    return adjust_p_values([_claim(row, frames, training or Training()) for row in TABLE])


def _claim(row: TableRow, frames: dict[str, CurveSet], training: Training) -> Claim:
    name, figure, tasks, text, statistic, need, test = row
    tests = {task: _compare_on(test, frames.get(task)) for task in tasks}
    contrasts = [*_made(found for each in tests.values() for found in each)]
    contrasts += _made(ACROSS.get(name, _compare_nothing)(frames))
    if not contrasts:
        return Claim(name, text, statistic, figure, inconclusive_because="not run")
    absent = [task for task, found in tests.items() if found and not any(found)]
    trained = {*tasks} if name in FLOORS else {*training.robots, PAIR}
    incomplete = any(None in found and any(found) for found in tests.values())
    return Claim(
        name, text, statistic, figure, tuple(contrasts), need,
        partial=tell_lacks(_keep(absent, trained), incomplete=incomplete),
        beyond=_tell_beyond(_keep(absent, {*tasks} - trained), len(tasks), need),
        planned=len(tasks) if need else 0,
        scope=_tell_scope(tasks, absent, training.length),
    )  # fmt: skip


def _compare_on(test: Callable[[CurveSet], Tests], frame: CurveSet | None) -> list[Contrast | None]:
    """A claim's comparisons on one task, None for what was not run."""
    return [*test(frame)] if frame else [None]


def _keep(tasks: Iterable[str], among: set[str]) -> list[str]:
    return [task for task in tasks if task in among]


def _made(tests: Tests) -> list[Contrast]:
    """The comparisons that there are."""
    return [each for each in tests if each]


def _compare_nothing(frames: Mapping[str, CurveSet]) -> Tests:
    return ()


def _tell_beyond(tasks: list[str], total: int, need: int | None) -> str:
    """Return which robots a scale does not train, and what can be concluded without them."""
    if not tasks:
        return ""
    possible = total - len(tasks)
    can_hold = need is not None and need <= possible
    can_fall = need is None or total - need + 1 <= possible
    conclusions = {
        (False, True): "here it can fall, and hold there only",
        (True, False): "here it can hold, and fall there only",
        (False, False): "here it can do neither",
        (True, True): "here it can do both",
    }
    return f"{', '.join(tasks)} at paper scale only, {conclusions[can_hold, can_fall]}"


def _tell_scope(tasks: tuple[str, ...], absent: list[str], length: str) -> str:
    """Return of which robots and what training a verdict is."""
    there = [task for task in tasks if task not in absent]
    parts = [f"{', '.join(there)} alone"] if absent else []
    if length and there != [PAIR]:
        parts.append(length)
    return "; ".join(parts)
