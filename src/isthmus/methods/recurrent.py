"""Policies with a memory: they may find out, while they act, which robot it is.

recurrent_randomization  1. collect in the source, dynamics drawn per task from what is believed of
                            the target
                         2. recurrent PPO; the memory begins anew with each task, which is one
                            episode       repeat
rl2                      the same with tasks of K episodes, through which the memory is kept (RL^2,
                         Duan et al. 2016, arXiv 1611.02779; Wang et al. 2016, arXiv 1611.05763)
                         3. at deployment, K - 1 episodes in each target, metered; with the memory
                            of them the deployed policy begins
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_full_episodes
from isthmus.learning.learner import Learner
from isthmus.learning.recurrent_ppo import RecurrentPPO
from isthmus.methods.adaptation import FewShot, largest_usage
from isthmus.methods.method import State
from isthmus.methods.operators import MemberUsage
from isthmus.methods.single_domain import DomainRandomization
from isthmus.problems.problem import Problem, TargetUsage
from isthmus.types import BadValue


@dataclass(frozen=True)
class RecurrentRandomization(DomainRandomization):
    """Domain randomization of a recurrent policy (Peng et al. 2018).

    Raises BadValue for a learner without a memory.
    """

    learner: Learner[Any] = field(default_factory=RecurrentPPO)

    def __post_init__(self) -> None:
        if not isinstance(self.learner, RecurrentPPO):
            raise BadValue("this method is about a memory; leave learner=recurrent_ppo")
        super().__post_init__()


@dataclass(frozen=True)
class RL2(FewShot, RecurrentRandomization):
    """Learning to find out: a task's episodes share one robot and one memory."""

    episodes_per_task: Annotated[int, Ge(2), Le(1000)] = 2  # K

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.randomized_source.shift(f"episodes_per_task={self.episodes_per_task}")

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        """Return the most that adapting may take of a target, and the settings that decide it."""
        episodes = self.episodes_per_task - 1
        return episodes * target.time_limit, episodes, "episodes_per_task"

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[list[Any], TargetUsage]:
        """Do box line 3. Raises BudgetExceeded where the longest episodes would exceed a budget."""
        meter, episodes = self.meter(problem, target), self.episodes_per_task - 1
        meter.begin(episodes * len(parameters))
        worlds = target.worlds(len(parameters), seed, parameters)
        worlds, memory = rollout_full_episodes(
            target, worlds, self.learner.behaviour(s.learner), episodes, meter.step
        )
        policies = [self.policy(s)._replace(begin=kept) for kept in memory.kept]
        return policies, largest_usage(target, MemberUsage(worlds.total, worlds.finished))
