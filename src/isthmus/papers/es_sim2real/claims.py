"""What ES-sim2real claims, E1 to E13, and the comparisons that decide each: means over the cells of
the landscape with friction as published, in the training box and outside of it, a number a seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from isthmus.studies.claims import Claim, Contrast, adjust_p_values
from isthmus.studies.learning_curves import Scores, compared, paired, unpaired
from isthmus.studies.study import Results

# box, outside, outside with friction > 1: read off the figure's colours (+-15); "before": a sibling
# plot
PUBLISHED = {
    "naive": (1306, 661, 671),
    "domain_randomization": (2918, 969, 1021),
    "es_maml": (3157, 1429, 1447),
    "es_maml-before": (3108, 1151, 1208),
}
KEY, BEFORE = "as_published", "as_published-before"
Found = dict[str, dict[int, Results]]
Tests = Iterable[Contrast | None]


class Regions(NamedTuple):
    """Mean returns over parts of a landscape."""

    all: float
    box: float
    outside: float
    gripping: float  # outside, friction above 1
    near: float  # outside, at most two cells from the box
    far: float
    spread: float  # standard deviation over the box's cells
    worst: float  # mean of the box's worst tenth


def has(result: Results, key: str) -> bool:
    return any(row["kind"] == "cell" and row["key"] == key for row in result.rows)


def regions(result: Results, key: str) -> Regions:
    """The training range is friction 1.5..2.5 and mass 1..9 kg: 48 of 180 cells."""
    friction, mass, returns = result.cells(key)
    beyond = lambda x, low, high: np.maximum(np.maximum(low - x, x - high), 0)
    away = [beyond(friction, 1.5, 2.5), beyond(mass, 1, 9)]
    box = (away[0] < 1e-6)[:, None] & (away[1] < 1e-6)[None]
    # In cells of the published grid: 0.2 of friction, 1 kg.
    distance = np.maximum(away[0][:, None] / 0.2, away[1][None] / 1.0)
    inside, worst = returns[box], max(1, box.sum() // 10)
    parts = (
        np.ones_like(box),
        box,
        ~box,
        ~box & (friction > 1)[:, None],
        ~box & (distance < 2.5),
        distance >= 2.5,
    )
    means = [float(returns[part].mean()) if part.any() else np.nan for part in parts]
    return Regions(*means, spread=float(inside.std()), worst=float(np.sort(inside)[:worst].mean()))  # pyright: ignore[reportCallIssue]


def where(found: Found, agent: str, region: str, key: str = KEY) -> Scores:
    return {
        s: getattr(regions(r, key), region) for s, r in found.get(agent, {}).items() if has(r, key)
    }


def at_home(found: Found, agent: str) -> Scores:
    """The return at mass 6 and friction 2, the source."""
    return {s: r.value("final", "source_return") for s, r in found.get(agent, {}).items()}


def minus(a: Scores, b: Scores) -> Scores:
    return {s: a[s] - b[s] for s in a.keys() & b.keys()}


def gain(found: Found, agent: str, region: str = "outside") -> Scores:
    """What adapting adds."""
    return minus(where(found, agent, region), where(found, agent, region, BEFORE))


def run_behind(found: Found, agent: str) -> str:
    """Return the agent whose runs this one's start from, seed by seed; itself where they start from
    nothing.
    """
    starts = {str(r.meta.get("start") or agent) for r in found.get(agent, {}).values()}
    names = {re.sub(r"-s\d+$", "", start).rsplit("-", 1)[-1] for start in starts}
    return names.pop() if len(names) == 1 else agent


def share_runs(found: Found, a: str, b: str) -> bool:
    """Whether seed i of both stands on one run."""
    return run_behind(found, a) == run_behind(found, b)


def apart(found: Found, a: str, b: str, *wanted: str) -> Tests:
    for region in wanted:
        scores = where(found, a, region), where(found, b, region)
        yield compared(f"{region}: {a} - {b}", *scores, shared=share_runs(found, a, b))


def compare_gains(found: Found, a: str, b: str, said: str) -> Contrast | None:
    """Compare what adapting adds to two agents."""
    return compared(said, gain(found, a), gain(found, b), shared=share_runs(found, a, b))


def _generalises(f: Found) -> Tests:
    yield from apart(f, "domain_randomization", "naive", "all", "outside")


def _limited(f: Found) -> Tests:
    of = lambda region, key=KEY: where(f, "domain_randomization", region, key)
    yield paired("domain_randomization: box - outside", of("box"), of("outside"))
    # As published, 60 of the 70 cells far from the box have a friction that is of no effect.
    near, far = of("near", "contact"), of("far", "contact")
    yield paired("domain_randomization: near the box - far from it, true friction", near, far)


def _beyond(f: Found) -> Tests:
    yield from apart(f, "es_maml", "domain_randomization", "outside", "gripping")


def _beyond_longer(f: Found) -> Tests:
    yield from apart(f, "es_maml", "longer_randomization", "outside", "gripping")


def compare_with_nine_tenths(f: Found, randomized: str) -> Contrast | None:
    nine_tenths = {s: 0.9 * x for s, x in where(f, randomized, "box").items()}
    shared = share_runs(f, "es_maml", randomized)
    return compared(
        f"box: es_maml - 0.9 {randomized}", where(f, "es_maml", "box"), nine_tenths, shared=shared
    )


def _loses_nothing(f: Found) -> Tests:
    yield compare_with_nine_tenths(f, "domain_randomization")


def _loses_nothing_to_longer(f: Found) -> Tests:
    yield compare_with_nine_tenths(f, "longer_randomization")


def _adaptation(f: Found) -> Tests:
    yield paired(
        "outside: es_maml after - before",
        where(f, "es_maml", "outside"),
        where(f, "es_maml", "outside", BEFORE),
    )
    at = lambda n: where(f, "es_maml", "outside", f"updates-{n}")
    yield paired("outside, on the coarser grid: es_maml after 6 updates - none", at(6), at(0))


def _more_than_ppo(f: Found) -> Tests:
    yield compare_gains(
        f, "es_maml", "few_shot_ppo", "outside: what adapting adds, es_maml - few_shot_ppo"
    )


def _beats_evolution(f: Found) -> Tests:
    yield from apart(f, "es_maml", "evolution", "outside", "box")


def _operator(f: Found) -> Tests:
    for other in ("es_gradient", "average_hill_climbing", "batch_hill_climbing"):
        yield compare_gains(f, "es_maml", other, f"outside: what adapting adds, PPO - {other}")


def _beats_memory(f: Found) -> Tests:
    for other in ("recurrent", "rl2"):
        yield from apart(f, "es_maml", other, "box", "outside")


def _better_still(f: Found) -> Tests:
    yield from apart(f, "learned_reward", "es_maml", "outside")


def _without_reward(f: Found) -> Tests:
    for agent in ("learned_reward", "learned_reward_masked"):
        yield paired(
            f"outside: {agent} after - before",
            where(f, agent, "outside"),
            where(f, agent, "outside", BEFORE),
        )


def _gap(f: Found) -> Tests:
    yield paired(
        "naive: in its source - outside", at_home(f, "naive"), where(f, "naive", "outside")
    )


def _overfits(f: Found) -> Tests:
    naive, randomized = (
        lambda region, a=a: where(f, a, region) for a in ("naive", "domain_randomization")
    )
    yield unpaired(
        "spread over the box: naive - domain_randomization", naive("spread"), randomized("spread")
    )
    yield unpaired(
        "worst tenth of the box: domain_randomization - naive", randomized("worst"), naive("worst")
    )


TABLE: tuple[tuple[str, str, str, str, Callable[[Found], Tests]], ...] = (
    ("E1", "1", "Randomization generalises better than fixed physics", "DR - naive > 0: all cells, outside",
     _generalises),
    ("E2", "1", "Randomization stays limited to its training range", "DR: box - outside > 0, near - far > 0", _limited),
    ("E3", "1", "ES-sim2real generalises out of the distribution",
     "ES - DR > 0: outside, outside with friction > 1", _beyond),
    ("E4", "1", "ES-sim2real loses nothing inside, or less than a tenth",
     "box: ES - 0.9 DR > 0", _loses_nothing),
    ("E5", "1", "Few-shot adaptation is what transfers", "outside: after - before > 0, six updates - none > 0",
     _adaptation),
    ("E6", "1", "It is more than PPO at test time",
     "outside: what adapting adds, ES - (DR + the same updates; at laptop scale of a third of the "
     "source steps) > 0",
     _more_than_ppo),
    ("E7", "1", "ES-MAML beats evolution strategies without an inner loop", "ES-MAML - ES > 0: outside, box",
     _beats_evolution),
    ("E8", "operators", "PPO works as the inner loop's operator",
     "outside: what adapting adds, PPO - others > 0; at laptop scale by 3,072 steps of a target, "
     "others by 4 episodes",
     _operator),
    ("E9", "memory", "ES-sim2real beats implicit meta-learners, of which recurrent PPO is a weak form (Ni 2022)",
     "ES - DR with LSTM, ES - RL^2 > 0: box, outside; at laptop scale with fewer source steps for "
     "what remembers",
     _beats_memory),
    ("E10", "reward", "A learned reward leads to even better outcomes", "outside: by r_psi - by the true reward > 0",
     _better_still),
    ("E11", "reward", "Adaptation works without any reward in the target",
     "outside: after - before > 0, by r_psi, also where it is not shown the velocity", _without_reward),
    ("E12", "1", "Good in simulation, poor elsewhere", "naive: return in its source - outside > 0", _gap),
    ("E13", "1", "Randomization prevents overfitting to one set of parameters",
     "over the box: naive's spread - DR's > 0, DR's worst tenth - naive's > 0", _overfits),
)  # fmt: skip


CONTROLS: dict[str, Callable[[Found], Tests]] = {
    "E3": _beyond_longer,
    "E4": _loses_nothing_to_longer,
}
"""Against randomization for longer (at laptop scale for as many steps), which the paper's claims do not ask for."""


def claims(found: Found, scope: str = "") -> list[Claim]:
    """Every claim with what the files say of it; where comparisons are missing it can fall, but not
    hold. `scope` says how much shorter the training was than at paper scale.
    """
    out = []
    for name, figure, text, statistic, test in TABLE:
        tests = [*test(found)]
        there = tuple(t for t in tests if t)
        partial = "some comparisons not run" if there and None in tests else ""
        blocked = "" if there else "not run"
        controls = tuple(t for t in CONTROLS.get(name, _no_controls)(found) if t) if there else ()
        out.append(
            Claim(
                name,
                text,
                statistic,
                figure,
                there,
                inconclusive_because=blocked,
                partial=partial,
                scope=scope,
                controls=controls,
            )
        )
    return adjust_p_values(out)


def _no_controls(found: Found) -> Tests:
    return ()
