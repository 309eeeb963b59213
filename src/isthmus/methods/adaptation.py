"""What a few-shot method does at deployment: K updates in each target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.learner import Learner
from isthmus.learning.ppo import PPO
from isthmus.learning.settings import PositiveInt, Settings
from isthmus.methods.method import State, fold_key
from isthmus.methods.operators import Members, MemberUsage, adapt_by_updates
from isthmus.physics import random
from isthmus.problems.problem import Access, AdaptationMeter, Problem, TargetUsage
from isthmus.types import Array, BadValue, Transition, Worlds


def update_seed(seed: int, update: int) -> int:
    """Return the seed of an update's own worlds; the first one's is the seed itself."""
    return int(random.fold(np.array([seed % 2**64], np.uint64), update)[0]) if update else seed


def largest_usage(target: Domain, taken: MemberUsage) -> TargetUsage:
    """Return the most that was taken of one target."""
    steps = int(taken.steps.max())
    return TargetUsage().add(steps, int(taken.episodes.max()), steps * target.step_seconds)


class FewShot:
    """What goes on learning in each target that it meets, within the target's budget.

    It is named before a method's base.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.FEW_SHOT, Access.ONLINE})
    adapts: ClassVar[bool] = True

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the method's first state. Raises BudgetExceeded long before `adapt` would."""
        self.meter(problem, problem.target)
        return super().init(problem, seed, start)  # pyright: ignore[reportAttributeAccessIssue]

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        """Return the most that adapting may take of a target, and the settings that decide it.

        Transitions, episodes, and the settings' names for an error.
        """
        raise NotImplementedError

    def meter(self, problem: Problem, target: Domain) -> AdaptationMeter:
        """Return a meter of what `adapt` takes of a target.

        Raises BudgetExceeded where the target's budget does not allow what it may take.
        """
        transitions, episodes, settings = self.max_usage(target)
        meter = problem.adaptation(target, settings)
        meter.allow(transitions, episodes)
        return meter


@dataclass(frozen=True)
class GradientFewShot(FewShot, Settings):
    """K updates in each target at deployment: for a method of one learner, named before its base.

    Raises BadValue for a number that cannot be; in `init`, for a learner to which an update is too
    small.
    """

    learner: Learner[Any] = field(default_factory=PPO)
    updates: PositiveInt = 3
    adaptation_worlds: PositiveInt = 8
    adaptation_steps: PositiveInt = 512

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the method's first state. Raises BadValue where an update is too small."""
        self.check_update()
        return super().init(problem, seed, start)

    def check_update(self) -> None:
        """Raise BadValue where an update is too small to be learned from."""
        try:
            self.learner.check_rollout_shape(self.adaptation_worlds, self.adaptation_steps)
        except BadValue as error:
            raise BadValue(f"{error}, or raise adaptation_worlds or adaptation_steps") from None

    def learned(self, s: State) -> Any:
        """Return the learner's state that adaptation begins from."""
        return s.learner

    def relabel(self, s: Any, tr: Transition) -> Transition:
        """Return what a learner's state learns from, of what it collected in a target.

        Or in the source as if it were one: nobody knows a target's dynamics, nor which of them
        training drew. A critic sees as many as it learned with.
        """
        if not self.learner.privileged:
            return tr
        unknown = np.full((*tr.reward.shape, *s.parameters.mean.shape), np.nan, np.float32)
        return tr._replace(parameters=unknown)

    def operate(self, states: list[Any], members: Members) -> tuple[list[Any], MemberUsage]:
        """Return the learners' states after U, and what it took; in a target, by its meter."""
        learner = self.learner.with_num_worlds(self.adaptation_worlds)
        return adapt_by_updates(learner, states, members, self.updates, self.adaptation_steps)

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        """Return the most that adapting may take of a target, and the settings that decide it.

        Of the episodes only those that begin first are known: others, as robots fall, are counted
        as they begin.
        """
        steps = self.updates * self.adaptation_worlds * self.adaptation_steps
        return steps, self.adaptation_worlds, "updates, adaptation_worlds or adaptation_steps"

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[list[Any], TargetUsage]:
        """Do `Method.adapt`. Raises BudgetExceeded where a target's budget does not allow it."""
        members = TargetMembers(self, target, self.meter(problem, target), s.key, parameters, seed)
        states, taken = self.operate([self.learned(s)] * len(parameters), members)
        return [self.learner.policy(each) for each in states], largest_usage(target, taken)


class TargetMembers(Members):
    """One member a target, of dynamics `parameters` (M, P); the members share their keys."""

    def __init__(
        self,
        method: GradientFewShot,
        target: Domain,
        meter: AdaptationMeter,
        run_key: Array,
        parameters: np.ndarray,
        seed: int,
    ):
        super().__init__(target, meter)
        self.method = method
        self.run_key = run_key
        self.parameters = parameters
        self.seed = seed

    def worlds(self, n: int, update: int) -> Worlds:
        """Return n worlds at their begin for each target, in order."""
        rows = np.repeat(self.parameters, n, axis=0)
        return self.domain.worlds(len(rows), update_seed(self.seed, update), rows)

    def relabel(self, s: Any, tr: Transition) -> Transition:
        """Return what the method's learner learns from, of what it collected."""
        return self.method.relabel(s, tr)

    def key(self, member: int, update: int) -> Array:
        """Return the key of an update: the same in every target."""
        return fold_key(self.run_key, 2, self.seed % 2**32, update)
