"""Evaluation: a deployed policy in a domain of its own, never under training's randomization."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from isthmus.domains.behaviours import Policy, PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.domains.robots import check_fits
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.parameters import Distribution
from isthmus.physics.random import keys
from isthmus.problems.problem import Problem, TargetUsage
from isthmus.types import BadValue, Episodes, Worlds

SEED = 20_000_000
"""Evaluation's own seed: all methods meet the same starts and dynamics.

None of them is a training seed's.
"""

# From a seed of evaluation to that of the worlds adapted in before it.
ADAPTATION_SEED_OFFSET = 1_000_000
MAX_EPISODES = 200_000  # episodes in one batch; a world takes some kilobytes
ADAPTED_DRAWS = 10  # where dynamics are drawn and a method adapts, it adapts to so many draws

OnStep = Callable[[SteppedWorlds, int], None]
"""Called after each step with the worlds and the number of episodes that have ended."""


class Adapter(Protocol):
    """What evaluation asks of a method: policies for targets, and what adapting to them took."""

    adapts: ClassVar[bool]  # whether the method adapts to each target before it is measured

    def adapt(
        self, s: Any, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[Sequence[Policy], TargetUsage]:
        """Return one policy a target, of dynamics (M, P), and the usage of each."""
        ...


class Evaluation(NamedTuple):
    """Finished episodes in `domain`, and what adapting took from each target."""

    domain: Domain
    episodes: Episodes
    adaptation: TargetUsage

    @property
    def mean(self) -> float:
        """Return the mean return over episodes, in the task's reward units."""
        return float(self.episodes.returns.mean())


def draw_targets(
    domain: Domain, episodes: int, seed: int, adapting: bool = False
) -> tuple[np.ndarray, int]:
    """Return the dynamics (M, P) to evaluate in and the episodes for each.

    A grid has its cells, a distribution one draw an episode, anything else one. Raises BadValue
    where that is no number of episodes that can be played as one batch.
    """
    _check_episodes(domain, episodes)
    if domain.grid:
        parameters = _list_cells(domain, seed)
    else:
        count = _count_draws(domain, episodes, adapting)
        parameters = domain.draw(keys(seed, count), np.ones(count, np.int64))
    return parameters, max(1, round(episodes / len(parameters)))


def _check_episodes(domain: Domain, episodes: int) -> None:
    """Raise BadValue for no episode, or more episodes or cells than one batch may have."""
    cells = math.prod(map(len, domain.grid.values()))
    if episodes < 1 or max(episodes, cells) > MAX_EPISODES:
        where = f"{episodes} episodes" + f" in {cells} cells" * (cells > 1)
        raise BadValue(f"{where}: needs 1 to {MAX_EPISODES:,} in all")


def _list_cells(domain: Domain, seed: int) -> np.ndarray:
    """Return the cells of a grid, (M, P); what it does not vary has its value, or one draw."""
    fixed = domain.draw(keys(seed, 1), np.ones(1, np.int64))[0]
    axes = []
    for name, value in zip(domain.names, fixed, strict=True):
        axes.append(domain.grid.get(name, (value,)))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _count_draws(domain: Domain, episodes: int, adapting: bool) -> int:
    """Return how many dynamics are drawn: one where the domain has no distribution."""
    for _, setting in domain.settings:
        if isinstance(setting, Distribution):
            return min(ADAPTED_DRAWS, episodes) if adapting else episodes
    return 1


def evaluate(
    policy: PolicyLike,
    domain: Domain | str,
    episodes: int = 100,
    seed: int = SEED,
    on_step: OnStep | None = None,
) -> Evaluation:
    """Play a policy as it is, in `episodes` episodes of one batch; in a grid at least one a cell.

    `policy` is a run's, or from elsewhere (`isthmus.domains.behaviours.PolicyLike`). `domain` is a
    domain or its text, `hopper/gravity=x2`. Returns are in
    `Evaluation.episodes.returns` (E,), in reward units of the task.
    """
    domain = as_domain(domain)
    domain.check_timed()
    worlds = _begin_worlds(domain, *draw_targets(domain, episodes, seed), seed)
    return Evaluation(domain, rollout_episodes(domain, worlds, policy, on_step), TargetUsage())


def _begin_worlds(domain: Domain, parameters: np.ndarray, episodes: int, seed: int) -> Worlds:
    """Return worlds for so many episodes in each of the dynamics (M, P), in their order."""
    repeated = np.repeat(parameters, episodes, axis=0)
    return domain.worlds(len(repeated), seed, repeated)


def evaluate_method(
    method: Adapter,
    s: Any,
    problem: Problem,
    domain: Domain,
    episodes: int = 100,
    seed: int = SEED,
    on_step: OnStep | None = None,
) -> Evaluation:
    """Evaluate what a method deploys; where it adapts, after it adapted to each target.

    Adapting is training: it has the reward of the problem's target, also where `domain` is the
    evaluation target. Raises BadValue for a domain of other spaces than the problem's, or of
    another robot.
    """
    check_fits(problem.source, domain)
    domain.check_timed()
    parameters, count = draw_targets(domain, episodes, seed, method.adapts)
    # In worlds of its own: what adapted in the starts that it is judged by would have seen them.
    policies, usage = method.adapt(
        s,
        problem,
        domain.with_reward(problem.target.reward),
        parameters,
        seed + ADAPTATION_SEED_OFFSET,
    )
    worlds = _begin_worlds(domain, parameters, count, seed)
    return Evaluation(domain, rollout_episodes(domain, worlds, policies, on_step), usage)
