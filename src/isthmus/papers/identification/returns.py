"""Scores of policies: what is reached in the target, as the way from floor to ceiling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isthmus.evaluation import statistics
from isthmus.papers.es_sim2real.regions import region_scores
from isthmus.papers.identification.trials import APPROACHES, ESTIMATING, SHIFTS
from isthmus.studies.learning_curves import ResultsBySeed, Scores
from isthmus.studies.results import Results
from isthmus.studies.trial import parse_trial_name

FLOOR, CEILING = "source", "target"
AGENTS = (*ESTIMATING, "recurrent", "rl2", "es_maml")
ByApproach = Mapping[str, ResultsBySeed]


def group_returns(results: Mapping[str, Results]) -> dict[str, dict[str, ResultsBySeed]]:
    """Return the results by shift, approach and seed."""
    groups: dict[str, dict[str, ResultsBySeed]] = {}
    for name, result in results.items():
        _, shift, approach, seed = parse_trial_name(name)
        if shift in SHIFTS:
            groups.setdefault(shift, {}).setdefault(approach, {})[seed] = result
    return groups


def group_agents(results: Mapping[str, Results]) -> dict[str, ResultsBySeed]:
    """Return the results of agents that adapt without a log, by agent and seed."""
    agents: dict[str, ResultsBySeed] = {}
    for name, result in results.items():
        _, experiment, agent, seed = parse_trial_name(name)
        if not experiment and agent in AGENTS:
            agents.setdefault(agent, {})[seed] = result
    return agents


def target_returns(group: ByApproach, approach: str) -> Scores:
    """Return what an approach's policies are worth in the target, by seed."""
    of_seed = group.get(approach, {})
    return {seed: result.value("final", "target_return") for seed, result in of_seed.items()}


def way_to_ceiling(group: ByApproach, approach: str) -> Scores:
    """Return the way from floor (0) to ceiling (1), both means over their seeds; none without."""
    floor, ceiling = (target_returns(group, level) for level in (FLOOR, CEILING))
    if not floor or not ceiling:
        return {}
    low, high = float(np.mean([*floor.values()])), float(np.mean([*ceiling.values()]))
    returns = target_returns(group, approach)
    return {seed: (value - low) / (high - low) for seed, value in returns.items()}


def describe_returns(results: Mapping[str, Results]) -> list[str]:
    """Return a line an approach: its return, and its way from floor to ceiling."""
    lines: list[str] = []
    for shift, group in group_returns(results).items():
        lines.append(f"{shift}: return in the target, and the way from floor to ceiling")
        for approach in APPROACHES:
            returns = target_returns(group, approach)
            if returns:
                text = _describe_interval(returns, 0)
                way = way_to_ceiling(group, approach)
                share = f"; {_describe_interval(way, 2)}" if way else ""
                lines.append(f"  {approach:22} {text}{share}; {statistics.seeds(len(returns))}")
    return lines


def describe_agents(results: Mapping[str, Results]) -> list[str]:
    """Return a line an agent: its mean return in the box and outside of it."""
    agents = group_agents(results)
    lines = ["adaptation without a log: box, outside"] if agents else []
    for agent in agents:
        parts = []
        for region in ("box", "outside"):
            scores = region_scores(agents, agent, region)
            parts.append(_describe_interval(scores, 0) if scores else "none")
        lines.append(f"  {agent:22} {', '.join(parts)}; {statistics.seeds(len(agents[agent]))}")
    return lines


def _describe_interval(scores: Scores, digits: int) -> str:
    estimate = statistics.interval([*scores.values()])
    ends = f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]" if estimate.n > 1 else ""
    return f"{estimate.value:.{digits}f}{ends}"
