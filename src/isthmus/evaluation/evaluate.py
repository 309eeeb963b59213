"""Evaluation: a deployed policy in a domain it names itself, never under the training's
randomization.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.domains.robots import check_fits
from isthmus.domains.rollout import rollout_episodes
from isthmus.physics.parameters import Distribution
from isthmus.physics.random import keys
from isthmus.problems.problem import TargetUsage
from isthmus.types import BadValue, Episodes

SEED = 20_000_000
"""Evaluation's own seed: all methods meet the same starts and dynamics, and none of them is a training seed's."""

ADAPTATION_SEED_OFFSET = (
    1_000_000  # from a seed of evaluation to that of the worlds adapted in before it
)

MAX_EPISODES = 200_000  # episodes in one batch; a world takes some kilobytes

TARGETS = 10  # where dynamics are drawn and a method adapts, it adapts to so many draws


class Evaluation(NamedTuple):
    """Finished episodes in `domain`, and what adapting took from each target."""

    domain: Domain
    episodes: Episodes
    adaptation: TargetUsage

    @property
    def mean(self) -> float:
        return float(self.episodes.returns.mean())


def targets(
    domain: Domain, episodes: int, seed: int, adapting: bool = False
) -> tuple[np.ndarray, int]:
    """The dynamics (M, P) to evaluate in and the episodes for each.

    A grid has its cells, a law one draw an episode, anything else one. Raises BadValue where that
    is no number of episodes that can be played as one batch.
    """
    grid, laws = (
        domain.grid,
        any(isinstance(setting, Distribution) for _, setting in domain.settings),
    )
    cells = math.prod(len(values) for values in grid.values())
    if episodes < 1 or max(episodes, cells) > MAX_EPISODES:
        where = f"{episodes} episodes" + f" in {cells} cells" * (cells > 1)
        raise BadValue(f"{where}: needs 1 to {MAX_EPISODES:,} in all")
    if grid:
        fixed = domain.draw(keys(seed, 1), np.ones(1, np.int64))[0]
        axes = [grid.get(name, (value,)) for name, value in zip(domain.names, fixed, strict=True)]
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        return cells, max(1, round(episodes / len(cells)))
    count = min(TARGETS if adapting else episodes, episodes) if laws else 1
    draws = domain.draw(keys(seed, count), np.ones(count, np.int64))
    return draws, max(1, round(episodes / count))


def evaluate(
    policy: Any, domain: Domain | str, episodes: int = 100, seed: int = SEED, on_step: Any = None
) -> Evaluation:
    """Play a policy as it is: `episodes` episodes as one batch (for a grid, at least one a cell).

    `domain` is a domain or its text, `hopper/gravity=x2`. Returns are in
    `Evaluation.episodes.returns` (E,), in reward units of the task.
    """
    domain = as_domain(domain)
    domain.check_timed()
    parameters, each = targets(domain, episodes, seed)
    worlds = domain.worlds(len(parameters) * each, seed, np.repeat(parameters, each, axis=0))
    return Evaluation(domain, rollout_episodes(domain, worlds, policy, on_step), TargetUsage())


def evaluate_method(
    method: Any,
    s: Any,
    problem: Any,
    domain: Domain,
    episodes: int = 100,
    seed: int = SEED,
    on_step: Any = None,
) -> Evaluation:
    """Evaluate what a method deploys: where it adapts, it adapts to each target first, at the
    target's cost.

    Adapting is training: it is paid as the problem's target pays, also where `domain` is the true
    target. Raises BadValue for a domain of other spaces than the problem's, or of another robot.
    """
    check_fits(problem.source, domain)
    domain.check_timed()
    adapting = method.adapts
    parameters, each = targets(domain, episodes, seed, adapting)
    # In worlds of its own: what adapted in the starts that it is judged by would have seen them.
    policies, book = method.adapt(
        s,
        problem,
        domain.with_reward(problem.target.reward),
        parameters,
        seed + ADAPTATION_SEED_OFFSET,
    )
    worlds = domain.worlds(len(parameters) * each, seed, np.repeat(parameters, each, axis=0))
    return Evaluation(domain, rollout_episodes(domain, worlds, policies, on_step), book)
