"""ES-sim2real: landscapes over torso mass and friction (1), with the controls that the abstract
lacks, the number of updates against the return ("updates"), other operators than PPO ("operators"),
agents that remember ("memory") and a learned reward ("reward"). Its claims: `es_claims`.

Both readings of friction: as published (the foot's own coefficient, of no effect below the floor's
1) and the true friction of the contact (floor and robot together). A cell's return is "before"
adaptation or, where nothing is said, after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape, landscape, make_grid
from isthmus.papers.es_sim2real import claims as es_claims
from isthmus.studies.claims import Claim
from isthmus.studies.study import Line, Panel, Results, Row, Study, Trial
from isthmus.training.run import Run

PROBLEM = "hopper-es-sim2real"
READINGS = {"as_published": "foot_friction", "contact": "friction"}
WHOLE, COARSE, SMOKE = (
    ("0.5..11.5:12", "0.1..2.9:15"),
    ("0.5..10.5:6", "0.1..2.9:8"),
    ("1..11:3", "0.5..2.5:3"),
)
UPDATES = (0, 1, 2, 3, 6)

# Chosen on seeds that are not reported: docs/es_sim2real.md.
PPO = {"learner.privileged": True, "learner.discount": 0.995}
TINY = PPO | {"learner.worlds": 8, "learner.steps": 64, "learner.hidden": (8,), "learner.epochs": 2}
RECURRENT = PPO | {"learner.worlds": 4, "learner.steps": 32, "learner.hidden": (8,), "learner.units": 8,
                   "learner.epochs": 1, "learner.minibatch": 32}  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """A row of the study. `budget` names the scale's number of source steps, which those of `start`
    precede; "" is none of its own.
    """

    method: str
    budget: str
    figure: str
    start: str | None = None
    settings: dict[str, Any] | None = None
    few: bool = False  # three seeds at laptop scale

    @property
    def evolves(self) -> bool:
        return self.method in ("es_maml", "evolution", "learned_reward")


BASE = "domain_randomization"
AGENTS = {  # in the order in which they are run
    "naive": Agent("source_only", "base", "1"),
    BASE: Agent("domain_randomization", "base", "1"),
    "few_shot_ppo": Agent(
        "few_shot_ppo", "", "1", BASE
    ),  # randomization as it is, and es_maml's updates in the target
    "evolution": Agent("evolution", "more", "1", BASE),
    "es_maml": Agent("es_maml", "more", "1", BASE),
    "longer_randomization": Agent(
        "domain_randomization", "longer", "1"
    ),  # not a warm restart, which un-anneals it
    "recurrent": Agent("recurrent_randomization", "recurrent", "memory"),
    "rl2": Agent("rl2", "recurrent", "memory"),
    "learned_reward": Agent("learned_reward", "more", "reward", BASE, few=True),
    "learned_reward_masked": Agent(
        "learned_reward", "more", "reward", BASE, {"masked": (6,)}, few=True
    ),
    **{
        name: Agent("es_maml", "more", "operators", BASE, {"operator": name}, few=True)
        for name in ("es_gradient", "average_hill_climbing", "batch_hill_climbing")
    },
}
NAMES = {
    "es_maml": "ES-MAML",
    "es_gradient": "ES gradient",
    "few_shot_ppo": "few-shot PPO",
    "rl2": "RL$^2$",
}  # as pictures write them
FIGURES = ("1", "updates", "operators", "memory", "reward")


class Scale(NamedTuple):
    base: int  # source steps
    more: int
    longer: int
    recurrent: int
    seeds: int
    episodes: int  # a cell
    scratch: bool  # evolution starts from nothing
    learner: dict[str, Any]
    evolution: dict[str, Any]
    adaptation: dict[str, Any]
    queries: dict[
        str, Any
    ]  # of the other operators, for about as many steps of a target as PPO's updates take


SCALES = {
    "smoke": Scale(1_024, 1_500, 2_524, 512, 1, 1, False, TINY, {"pairs": 1, "episodes": 1},
                   {"adaptation_worlds": 2, "adaptation_steps": 32}, {"updates": 1}),
    "laptop": Scale(2_000_000, 4_000_000, 6_000_000, 1_000_000, 5, 5, False, PPO, {"pairs": 16},
                    {"adaptation_steps": 128}, {"updates": 1}),
    "paper": Scale(10_000_000, 2_400_000_000, 30_000_000, 10_000_000, 5, 20, True, PPO, {"pairs": 192}, {},
                   {"updates": 3}),
}  # fmt: skip


def axes(reading: str, cells: tuple[str, str]) -> str:
    mass, friction = cells
    return f"torso_mass={mass},{READINGS[reading]}={friction}"


def units(scale: str, figure: str | None) -> list[Trial]:
    """Agent after agent, each with what it starts from."""
    wanted = [name for name, agent in AGENTS.items() if figure in (None, agent.figure)]
    if figure is not None:
        wanted = [*(n for n in ("few_shot_ppo", "es_maml") if figure == "updates"), *wanted]
        wanted += [
            n for n in ("es_maml",) if figure != "1" and n not in wanted
        ]  # what all others are held against
    needed = [n for name in wanted for n in (AGENTS[name].start, name) if n]
    return [
        unit(scale, name, seed)
        for name in dict.fromkeys(needed)
        for seed in range(3 if AGENTS[name].few and scale == "laptop" else SCALES[scale].seeds)
    ]


def unit(scale: str, name: str, seed: int) -> Trial:
    size, agent = SCALES[scale], AGENTS[name]
    start = agent.start if not (agent.evolves and size.scratch) else None
    settings = dict(RECURRENT if scale == "smoke" and agent.budget == "recurrent" else size.learner)
    if agent.evolves:
        settings |= size.evolution
    if agent.method in ("few_shot_ppo", "es_maml", "learned_reward"):
        settings |= size.adaptation | (size.queries if agent.figure == "operators" else {})
    steps = getattr(size, agent.budget) if agent.budget else 0
    settings["learner.annealing"] = steps  # over all its own; K updates in a target hardly begin it
    cells = SMOKE if scale == "smoke" else WHOLE
    return Trial(
        f"{scale}-{name}-s{seed}", agent.method, PROBLEM, seed, steps, settings | (agent.settings or {}),
        start=start and f"{scale}-{start}-s{seed}", evaluation_episodes=size.episodes,
        landscapes={reading: axes(reading, cells) for reading in READINGS}, landscape_episodes=size.episodes,
    )  # fmt: skip


def measure(run: Run, other: Run | None) -> list[Row]:
    """Of what adapts, the landscapes before it does, and after so many updates on a coarser grid."""
    if not run.method.adapts:
        return []
    episodes = run.config["evaluation_episodes"]
    smoke = episodes == SCALES["smoke"].episodes
    rows: list[Row] = []

    def play(key: str, reading: str, cells: tuple[str, str], method: Any) -> None:
        grid = make_grid(run.problem.evaluation_target, axes(reading, SMOKE if smoke else cells))
        found = landscape(
            run.policy, grid, episodes, method=method and (method, state, run.problem)
        )
        rows.extend(
            ("cell", key, f"{x:.6g}", f"{y:.6g}", f"{found.mean[i, j]:.2f}")
            for i, x in enumerate(found.axes[0]) for j, y in enumerate(found.axes[1])
        )  # fmt: skip

    state = run.state()
    for reading in READINGS:
        play(f"{reading}-before", reading, WHOLE, None)
    if run.name in ("few_shot_ppo", "es_maml") and getattr(run.method, "operator", "ppo") == "ppo":
        for updates in UPDATES:
            play(
                f"updates-{updates}",
                "as_published",
                COARSE,
                updates and replace(run.method, updates=updates),
            )
    return rows


def by_agent(results: dict[str, Results]) -> dict[str, dict[int, Results]]:
    """Files by agent and seed, in the study's order."""
    found: dict[str, dict[int, Results]] = {name: {} for name in AGENTS}
    for name, result in results.items():
        _, agent, seed = name.split("-")
        found[agent][int(seed[1:])] = result
    return {name: seeds for name, seeds in found.items() if seeds}


def report(results: dict[str, Results]) -> list[str]:
    lines, found = [statistics.INTERVALS], by_agent(results)
    for reading in READINGS:
        lines.append(
            f"{reading}: mean returns over the training box's cells, those outside, and outside "
            "with friction > 1"
        )
        for name, seeds in found.items():
            for key in (f"{reading}-before", reading):
                told = [es_claims.regions(r, key) for r in seeds.values() if es_claims.has(r, key)]
                if not told:
                    continue
                values = [
                    f"{where} {_interval(getattr(each, where) for each in told)}"
                    for where in ("box", "outside", "gripping")
                ]
                published = reading == "as_published" and es_claims.PUBLISHED.get(
                    name + "-before" * key.endswith("before")
                )
                values += [f"published {published}"] * bool(published)
                when = "before" if key.endswith("before") else ""
                lines.append(
                    f"  {name:22} {when:6} {', '.join(values)}, {statistics.seeds(len(told))}"
                )
    naive, randomized = (es_claims.at_home(found, name) for name in ("naive", BASE))
    if naive and randomized:
        price = statistics.difference([*naive.values()], [*randomized.values()])
        lines.append(
            f"what randomization costs at mass 6 and friction 2 ({price.method}): {_tell(price)}"
        )
    differences = {
        f"{name}, what adapting adds": [(where, es_claims.gain(found, name, where)) for where in ("box", "outside")]
        for name in found
    } | {
        f"evolution - {BASE}": [
            (where, es_claims.minus(*(es_claims.where(found, name, where) for name in ("evolution", BASE))))
            for where in ("box", "outside")
        ]
    }  # fmt: skip
    said = [
        f"  {what}: "
        f"{', '.join(f'{where} {_interval(scores.values())}' for where, scores in told)}, "
        f"{statistics.seeds(len(told[0][1]))}"
        for what, told in differences.items() if all(scores for _, scores in told)
    ]  # fmt: skip
    if said:
        heading = "differences seed by seed, as published, not corrected for how many they are; the claims' are below:"
        lines += [heading, *said]
    taken = []
    for name, seeds in found.items():
        totals = [n for seed in seeds if (n := total(found, name, seed))]
        taken.append(
            " to ".join(f"{n:,}" for n in sorted({min(totals), max(totals)})) if totals else "?"
        )
    lines.append(
        "source steps, those of the start among them: "
        + ", ".join(map("{} {}".format, found, taken))
    )
    return lines


def _interval(values: Iterable[float]) -> str:
    return _tell(statistics.interval([*values]))


def _tell(e: statistics.Estimate) -> str:
    return f"{e.value:.0f} [{e.low:.0f}, {e.high:.0f}]" if e.n > 1 else f"{e.value:.0f}"


def total(found: dict[str, dict[int, Results]], name: str, seed: int) -> int:
    """Source steps that an agent took, with those of what it started from; 0 where that is not
    there.
    """
    meta = found[name][seed].meta
    start = AGENTS[name].start if meta.get("start") else None
    if start and seed not in found.get(start, {}):
        return 0
    return int(meta.get("source_steps", meta["steps"])) + (
        total(found, start, seed) if start else 0
    )


def titled(name: str) -> str:
    """An agent as pictures call it."""
    return NAMES.get(name, name.replace("_", " "))


PANELS = {
    "1": [("naive", ""), (BASE, ""), ("es_maml", "-before"), ("es_maml", "")],
    "controls": [("few_shot_ppo", ""), ("evolution", ""), ("longer_randomization", "")],
    "operators": [(name, "") for name, agent in AGENTS.items() if agent.figure == "operators"],
    "memory": [("recurrent", ""), ("rl2", "-before"), ("rl2", "")],
    "reward": [
        (name, when)
        for name in ("learned_reward", "learned_reward_masked")
        for when in ("-before", "")
    ],
}


def pictures(results: dict[str, Results]) -> dict[str, list[tuple[str, Landscape]] | list[Panel]]:
    """Landscapes are means over seeds, with the training range as a box; a picture a figure and
    reading of friction.
    """
    out: dict[str, list[tuple[str, Landscape]] | list[Panel]] = {}
    found = by_agent(results)
    for figure, wanted in PANELS.items():
        for reading, parameter in READINGS.items():
            panels = []
            for name, when in wanted:
                cells = [
                    r.cells(reading + when)
                    for r in found.get(name, {}).values()
                    if es_claims.has(r, reading + when)
                ]
                if not cells:
                    continue
                friction, mass, _ = cells[0]
                returns = np.stack([c[2] for c in cells], -1)  # seeds in the place of episodes
                box = ((2.0, 2.0), (6.0, 6.0)) if name == "naive" else ((1.5, 2.5), (1.0, 9.0))
                scape = Landscape(
                    (parameter, "torso_mass"),
                    (friction, mass),
                    returns,
                    np.full_like(returns, np.nan),
                    box,
                )
                said = f"{titled(name)}{', before' * bool(when)}, {statistics.seeds(len(cells))}"
                panels.append((said, scape))
            if panels:
                out[f"figure{figure}-{reading}.png"] = panels
    curves = {
        (name, where): [
            np.array([[u, getattr(es_claims.regions(r, f"updates-{u}"), where)] for u in UPDATES])
            for r in seeds.values() if es_claims.has(r, f"updates-{UPDATES[-1]}")
        ]
        for name, seeds in found.items() for where in ("box", "outside")
    }  # fmt: skip
    if any(curves.values()):
        out["figureupdates.png"] = [
            Panel(f"{where}, as published", "updates", "return", [
                Line(titled(name), lines)
                for (name, place), lines in curves.items() if lines and place == where
            ])
            for where in ("box", "outside")
        ]  # fmt: skip
    return out


def claims(results: dict[str, Results]) -> list[Claim]:
    scale = next(iter(results)).split("-")[0]
    return es_claims.claims(by_agent(results), tell_training(scale))


def tell_training(scale: str) -> str:
    """Return how much shorter a scale's training is than paper scale's, in words; empty for that."""
    if scale == "paper":
        return ""
    size, whole = SCALES[scale], SCALES["paper"]
    return (
        f"{size.base:,} of paper scale's {whole.base:,} source steps, what goes on from there "
        f"{size.more:,} of {whole.more:,}"
    )


STUDY = Study("es-sim2real", "ES-sim2real, Figure 1 and what it leaves open", FIGURES, units, report, pictures, claims,
              measure)  # fmt: skip
