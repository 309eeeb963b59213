"""ES-sim2real's study: measures of its runs, reports, pictures and claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape, landscape, make_grid
from isthmus.papers.es_sim2real.claims import decide_es_claims
from isthmus.papers.es_sim2real.regions import (
    BOX_FRICTION,
    BOX_MASS,
    ResultsByAgent,
    adaptation_gains,
    average_regions,
    region_scores,
    source_scores,
)
from isthmus.papers.es_sim2real.trials import (
    AGENTS,
    BASE,
    COARSE,
    FIGURES,
    OPERATORS,
    READINGS,
    SCALES,
    SMOKE,
    UPDATES,
    WHOLE,
    GridAxes,
    format_axes,
    list_es_trials,
)
from isthmus.studies.claims import Claim
from isthmus.studies.learning_curves import Scores, subtract_scores
from isthmus.studies.results import Results, Row, list_cell_rows
from isthmus.studies.study import Line, Panel, Study, TitledLandscape
from isthmus.studies.trial import parse_trial_name
from isthmus.training.run import Run

# box, outside, outside with friction > 1: read off the figure's colours (+-15); "before": a sibling
# plot
PUBLISHED = {
    "naive": (1306, 661, 671),
    "domain_randomization": (2918, 969, 1021),
    "es_maml": (3157, 1429, 1447),
    "es_maml-before": (3108, 1151, 1208),
}
CAPTIONS = {
    "es_maml": "ES-MAML",
    "es_gradient": "ES gradient",
    "few_shot_ppo": "few-shot PPO",
    "rl2": "RL$^2$",
}
REPORTED_REGIONS = ("box", "outside", "gripping")
COMPARED_REGIONS = ("box", "outside")


def measure_es_run(run: Run, reference: Run | None) -> list[Row]:
    """Return, of what adapts, the landscapes before it does, and after so many updates on a coarser
    grid.
    """
    rows: list[Row] = []
    if not run.method.adapts:
        return rows
    for reading in READINGS:
        scape = _play_landscape(run, reading, WHOLE, None)
        rows += list_cell_rows(f"{reading}-before", scape)
    if run.name in ("few_shot_ppo", "es_maml") and _adapts_by_ppo(run):
        for updates in UPDATES:
            scape = _play_landscape(run, "as_published", COARSE, updates)
            rows += list_cell_rows(f"updates-{updates}", scape)
    return rows


def _adapts_by_ppo(run: Run) -> bool:
    return getattr(run.method, "operator", "ppo") == "ppo"


def _play_landscape(run: Run, reading: str, axes: GridAxes, updates: int | None) -> Landscape:
    """Play a run's policy in every cell, after so many updates there."""
    episodes = run.config["evaluation_episodes"]
    if episodes == SCALES["smoke"].episodes:
        axes = SMOKE
    grid = make_grid(run.problem.evaluation_target, format_axes(reading, axes))
    adapting = None
    if updates:
        adapting = (replace(run.method, updates=updates), run.state(), run.problem)
    return landscape(run.policy, grid, episodes, method=adapting)


def group_by_agent(results: dict[str, Results]) -> ResultsByAgent:
    """Return the results by agent and seed, in the study's order."""
    by_agent: ResultsByAgent = {name: {} for name in AGENTS}
    for name, result in results.items():
        trial = parse_trial_name(name)
        by_agent[trial.approach][trial.seed] = result
    return {name: by_seed for name, by_seed in by_agent.items() if by_seed}


def report_es(results: dict[str, Results]) -> list[str]:
    """Return, as lines, what each agent reached in each region."""
    by_agent = group_by_agent(results)
    lines = [statistics.INTERVALS]
    for reading in READINGS:
        lines += _report_regions(by_agent, reading)
    naive, randomized = source_scores(by_agent, "naive"), source_scores(by_agent, BASE)
    if naive and randomized:
        price = statistics.difference([*naive.values()], [*randomized.values()])
        lines.append(
            f"what randomization costs at mass 6 and friction 2 ({price.method}): "
            f"{_format_estimate(price)}"
        )
    lines += _report_differences(by_agent)
    steps = [f"{name} {_describe_steps(by_agent, name)}" for name in by_agent]
    lines.append(f"source steps, those of the start among them: {', '.join(steps)}")
    return lines


def _report_regions(by_agent: ResultsByAgent, reading: str) -> list[str]:
    lines = [
        f"{reading}: mean returns over the training box's cells, those outside, and outside "
        "with friction > 1"
    ]
    for name in by_agent:
        for when in ("-before", ""):
            lines += _describe_regions(by_agent, name, reading, when)
    return lines


def _describe_regions(by_agent: ResultsByAgent, name: str, reading: str, when: str) -> list[str]:
    """Return a line of an agent's returns by region; none where no seed has the landscape."""
    values = []
    num_seeds = 0
    for region in REPORTED_REGIONS:
        scores = region_scores(by_agent, name, region, reading + when)
        if not scores:
            return []
        num_seeds = len(scores)
        values.append(f"{region} {_format_interval(scores.values())}")
    if reading == "as_published" and name + when in PUBLISHED:
        values.append(f"published {PUBLISHED[name + when]}")
    seeds = statistics.seeds(num_seeds)
    return [f"  {name:22} {when.removeprefix('-'):6} {', '.join(values)}, {seeds}"]


def _report_differences(by_agent: ResultsByAgent) -> list[str]:
    """Return what adapting adds to each agent, and evolution to randomization."""
    lines = []
    for name in by_agent:
        gains = {region: adaptation_gains(by_agent, name, region) for region in COMPARED_REGIONS}
        lines += _describe_differences(f"{name}, what adapting adds", gains)
    differences = {}
    for region in COMPARED_REGIONS:
        evolution = region_scores(by_agent, "evolution", region)
        differences[region] = subtract_scores(evolution, region_scores(by_agent, BASE, region))
    lines += _describe_differences(f"evolution - {BASE}", differences)
    if lines:
        lines.insert(
            0,
            "differences seed by seed, as published, not corrected for how many they are; the "
            "claims' are below:",
        )
    return lines


def _describe_differences(label: str, differences: dict[str, Scores]) -> list[str]:
    """Return a line of differences by region; none where a region has no seed."""
    if not all(differences.values()):
        return []
    values = []
    for region, scores in differences.items():
        values.append(f"{region} {_format_interval(scores.values())}")
    seeds = statistics.seeds(len(differences[COMPARED_REGIONS[0]]))
    return [f"  {label}: {', '.join(values)}, {seeds}"]


def _format_interval(scores: Iterable[float]) -> str:
    return _format_estimate(statistics.interval([*scores]))


def _format_estimate(estimate: statistics.Estimate) -> str:
    value = f"{estimate.value:.0f}"
    return f"{value} [{estimate.low:.0f}, {estimate.high:.0f}]" if estimate.n > 1 else value


def _describe_steps(by_agent: ResultsByAgent, name: str) -> str:
    """Return how many source steps an agent took, over its seeds."""
    totals = {_count_steps(by_agent, name, seed) for seed in by_agent[name]} - {0}
    if not totals:
        return "?"
    return " to ".join(f"{total:,}" for total in sorted({min(totals), max(totals)}))


def _count_steps(by_agent: ResultsByAgent, name: str, seed: int) -> int:
    """Return the source steps that an agent took, with those of what it started from; 0 where that
    is not there.
    """
    meta = by_agent[name][seed].meta
    steps = int(meta.get("source_steps", meta["steps"]))
    start = AGENTS[name].start if meta.get("start") else None
    if not start:
        return steps
    if seed not in by_agent.get(start, {}):
        return 0
    return steps + _count_steps(by_agent, start, seed)


PICTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "1": (("naive", ""), (BASE, ""), ("es_maml", "-before"), ("es_maml", "")),
    "controls": (("few_shot_ppo", ""), ("evolution", ""), ("longer_randomization", "")),
    "operators": tuple((operator, "") for operator in OPERATORS),
    "memory": (("recurrent", ""), ("rl2", "-before"), ("rl2", "")),
    "reward": (
        ("learned_reward", "-before"),
        ("learned_reward", ""),
        ("learned_reward_masked", "-before"),
        ("learned_reward_masked", ""),
    ),
}
"""Figure -> its landscapes: agent, and whether before it adapts."""


def _draw_es(results: dict[str, Results]) -> dict[str, list[TitledLandscape] | list[Panel]]:
    """Return a picture a figure and reading of friction: landscapes are means over seeds, with the
    training range as a box.
    """
    pictures: dict[str, list[TitledLandscape] | list[Panel]] = {}
    by_agent = group_by_agent(results)
    for figure, agents in PICTURES.items():
        for reading in READINGS:
            landscapes = []
            for name, when in agents:
                landscapes += _draw_landscape(by_agent, name, reading, when)
            if landscapes:
                pictures[f"figure{figure}-{reading}.png"] = landscapes
    panels = [_draw_updates(by_agent, region) for region in COMPARED_REGIONS]
    if any(panel.lines for panel in panels):
        pictures["figureupdates.png"] = panels
    return pictures


def _draw_landscape(
    by_agent: ResultsByAgent, name: str, reading: str, when: str
) -> list[TitledLandscape]:
    """Return an agent's landscape with its title; none where no seed has it."""
    key = reading + when
    results = [result for result in by_agent.get(name, {}).values() if result.has("cell", key)]
    if not results:
        return []
    friction, mass, _ = results[0].cells(key)
    # Seeds stand in the place of episodes.
    returns = np.stack([result.cells(key).returns for result in results], -1)
    box = ((2.0, 2.0), (6.0, 6.0)) if name == "naive" else (BOX_FRICTION, BOX_MASS)
    lengths = np.full_like(returns, np.nan)
    names = (READINGS[reading], "torso_mass")
    before = ", before" if when else ""
    title = f"{_caption(name)}{before}, {statistics.seeds(len(results))}"
    return [(title, Landscape(names, (friction, mass), returns, lengths, box))]


def _draw_updates(by_agent: ResultsByAgent, region: str) -> Panel:
    """Return the curves of a region's return over the number of updates."""
    lines = []
    for name, by_seed in by_agent.items():
        curves = []
        for result in by_seed.values():
            if result.has("cell", f"updates-{UPDATES[-1]}"):
                curves.append(_make_updates_curve(result, region))
        if curves:
            lines.append(Line(_caption(name), curves))
    return Panel(f"{region}, as published", "updates", "return", lines)


def _make_updates_curve(result: Results, region: str) -> np.ndarray:
    points = []
    for updates in UPDATES:
        regions = average_regions(result, f"updates-{updates}")
        points.append([updates, getattr(regions, region)])
    return np.array(points)


def _caption(agent: str) -> str:
    return CAPTIONS.get(agent, agent.replace("_", " "))


def _claim_es(results: dict[str, Results]) -> list[Claim]:
    scale = parse_trial_name(next(iter(results))).scale
    return decide_es_claims(group_by_agent(results), describe_training(scale))


def describe_training(scale: str) -> str:
    """Return how much shorter a scale's training is than paper scale's, in words."""
    if scale == "paper":
        return ""
    size, paper = SCALES[scale], SCALES["paper"]
    return (
        f"{size.base:,} of paper scale's {paper.base:,} source steps, what goes on from there "
        f"{size.more:,} of {paper.more:,}"
    )


STUDY = Study(
    "es-sim2real",
    "ES-sim2real, Figure 1 and what it leaves open",
    FIGURES,
    list_es_trials,
    report_es,
    _draw_es,
    _claim_es,
    measure_es_run,
)
