"""The floor, the ceiling and the plain ways between them: one policy in one domain at a time.

source_only             1. collect in the source          2. learn         repeat; deploy as it is
domain_randomization    1. collect in the source, dynamics drawn per task from what is believed of
                           the target
                        2. learn         repeat; deploy as it is
target_only             1. collect in the target, metered  2. learn         repeat
fine_tuning             1. source_only (or --start)
                        2. target_only from there, under the moments of 1
few_shot_ppo            1. domain_randomization
                        2. at deployment, K PPO updates in each target, metered
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.learner import Learner
from isthmus.learning.ppo import PPO
from isthmus.learning.settings import NonNegativeInt, Settings
from isthmus.methods.adaptation import GradientFewShot
from isthmus.methods.method import (
    MethodDefaults,
    State,
    check_dynamics,
    fold_key,
    initial_state,
    source_round,
    start_in_source,
    target_round,
)
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Metrics


@dataclass(frozen=True)
class SourceOnly(Settings, MethodDefaults):
    """Train in the source, deploy as it is: "naive", "direct transfer". The floor."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.NONE})
    explores: ClassVar[bool] = True
    learner: Learner[Any] = field(default_factory=PPO)

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source."""
        return problem.source

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the state before the first round."""
        self.learner.check_rollout_shape(*self.learner.rollout_shape)
        return start_in_source(self.learner, self.trained_in(problem), seed, start)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of the box."""
        return source_round(self.learner, self.trained_in(problem), s)

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner)

    def behaviour(self, s: State) -> Any:
        """Return the policy as it explores: `isthmus collect` logs a target with it."""
        return self.learner.behaviour(s.learner)


@dataclass(frozen=True)
class DomainRandomization(SourceOnly):
    """Train in the source under dynamics drawn per task from the problem's uncertainty.

    Peng et al. 2018.
    """

    randomizes: ClassVar[bool] = True

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source under what is believed of the target."""
        return problem.randomized_source


@dataclass(frozen=True)
class TargetOnly(Settings, MethodDefaults):
    """Train in the target: "RL on target". The ceiling, where the target's budget allows it.

    From another run's learner (`start`) it begins at phase 1, as `fine_tuning` goes on.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: Learner[Any] = field(default_factory=PPO)

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.target

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the state before the first round."""
        n, steps = self.learner.rollout_shape
        self.learner.check_rollout_shape(n, steps)  # before anything is taken of the target
        usage, worlds = problem.target_worlds(TargetUsage(), n, seed, batch=steps)
        s = initial_state(seed, None, worlds, usage)
        if start is not None:
            return s._replace(learner=self.learner.warm_start(start), phase=np.int64(1))
        new = self.learner.init(problem.target.spaces, fold_key(s.key, 0))
        usage, worlds, tr = problem.collect(usage, worlds, self.learner.random(new), steps)
        return s._replace(learner=self.learner.observe(new, tr), worlds=worlds, usage=usage)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of the box."""
        return target_round(self.learner, problem, s)

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner)

    def behaviour(self, s: State) -> Any:
        """Return the behaviour that collects, which explores."""
        return self.learner.behaviour(s.learner)


@dataclass(frozen=True)
class FineTuning(TargetOnly):
    """Train in the source, go on in the target; with `start` the first phase is another run's."""

    pretraining: NonNegativeInt = 500_000  # source steps of the first phase

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the state before the first round."""
        check_dynamics(self.learner, problem.source, problem.target)
        self.learner.check_rollout_shape(*self.learner.rollout_shape)
        s = start_in_source(self.learner, problem.source, seed, start)
        return s if start is None else self._cross(problem, s)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of the box."""
        if s.phase == 0 and s.source_steps < self.pretraining:
            return source_round(self.learner, problem.source, s)
        if s.phase == 0:
            s = self._cross(problem, s)
        return target_round(self.learner, problem, s)

    def _cross(self, problem: Problem, s: State) -> State:
        """Go to the second phase: worlds of the target, which may have other shapes."""
        n, steps = self.learner.rollout_shape
        usage, worlds = problem.target_worlds(s.usage, n, int(s.key[-1]), batch=steps)
        learner = self.learner.warm_start(s.learner)
        return s._replace(
            learner=learner, worlds=worlds, phase=np.int64(1), round=np.int64(0), usage=usage
        )


@dataclass(frozen=True)
class FewShotPPO(GradientFewShot, DomainRandomization):
    """Domain randomization, then K PPO updates in each target.

    The control that ES-sim2real's abstract leaves out. K = 3 updates of 4,096 steps are the
    abstract's inner loop.
    """
