"""What a few-shot method does at deployment: K updates in each target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.learner import WHOLE, check_settings
from isthmus.learning.ppo import PPO
from isthmus.methods.method import State, fold_key
from isthmus.methods.operators import Begin, Key, MemberUsage, Pay, Watch, adapt_by_updates
from isthmus.physics import random
from isthmus.problems.problem import Access, AdaptationMeter, Problem, TargetUsage
from isthmus.types import BadValue, Transition


def update_seed(seed: int, update: int) -> int:
    """The seed of an update's own worlds; the first one's is the seed itself."""
    return int(random.fold(np.array([seed % 2**64], np.uint64), update)[0]) if update else seed


def largest_usage(target: Domain, taken: MemberUsage) -> TargetUsage:
    """What is told of each target: the most that was taken of one."""
    steps = int(taken.steps.max())
    return TargetUsage().add(steps, int(taken.episodes.max()), steps * target.step_seconds)


class FewShot:
    """What goes on learning in each target that it meets, within the target's budget; named before
    a method's base.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.FEW_SHOT, Access.ONLINE})
    adapts: ClassVar[bool] = True

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        self.meter(problem, problem.target)  # what cannot be is told long before it is needed
        return super().init(problem, seed, start)  # pyright: ignore[reportAttributeAccessIssue]

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        """Transitions and episodes that adapting may take of a target, and the settings that say
        so.
        """
        raise NotImplementedError

    def meter(self, problem: Problem, target: Domain) -> AdaptationMeter:
        """Raises BudgetExceeded where a target's budget does not allow what `adapt` may take."""
        transitions, episodes, settings = self.max_usage(target)
        meter = problem.adaptation(target, settings)
        meter.allow(transitions, episodes)
        return meter


@dataclass(frozen=True)
class GradientFewShot(FewShot):
    """K updates in each target at deployment: for a method of one learner, named before its base.

    Raises BadValue for a number that cannot be; in `init`, for a learner to which an update is too
    small.
    """

    learner: Any = field(default_factory=PPO)
    updates: int = 3
    adaptation_worlds: int = 8
    adaptation_steps: int = 512

    def __post_init__(self) -> None:
        if after := getattr(super(), "__post_init__", None):
            after()
        check_settings(self, (("updates", "adaptation_worlds", "adaptation_steps"), WHOLE))

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        self.check_update()
        return super().init(problem, seed, start)

    def check_update(self) -> None:
        """Raise BadValue where an update is too small to be learned from."""
        try:
            self.learner.check_rollout_shape(self.adaptation_worlds, self.adaptation_steps)
        except BadValue as error:
            raise BadValue(f"{error}, or raise adaptation_worlds or adaptation_steps") from None

    def learned(self, s: State) -> Any:
        """The learner's state that adaptation begins from."""
        return s.learner

    def paid(self, s: Any, tr: Transition) -> Transition:
        """What a learner's state learns from, of what it collected in a target, or in the source as
        if it were one.

        Nobody knows a target's dynamics, nor which of them training drew: a critic sees as many as
        it learned with.
        """
        if not self.learner.privileged:
            return tr
        return tr._replace(
            parameters=np.full((*tr.reward.shape, *s.parameters.mean.shape), np.nan, np.float32)
        )

    def operate(
        self, members: list[Any], domain: Domain, begin: Begin, key: Key, pay: Pay, watch: Watch | None = None,
        meter: AdaptationMeter | None = None,
    ) -> tuple[list[Any], MemberUsage]:  # fmt: skip
        """U: the learners' states after it, and what it took; in a target, by its meter."""
        learner = self.learner.with_num_worlds(self.adaptation_worlds)
        return adapt_by_updates(
            learner,
            members,
            domain,
            begin,
            self.updates,
            self.adaptation_steps,
            key,
            pay,
            watch,
            meter,
        )

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        # Of the episodes only those that begin first are known: others, as robots fall, are counted
        # as they begin.
        steps = self.updates * self.adaptation_worlds * self.adaptation_steps
        return steps, self.adaptation_worlds, "updates, adaptation_worlds or adaptation_steps"

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[list[Any], TargetUsage]:
        """`Method.adapt`. Raises BudgetExceeded where a target's budget does not allow it."""
        meter = self.meter(problem, target)
        members = [self.learned(s)] * len(parameters)
        begin = lambda n, update: target.worlds(
            len(parameters) * n, update_seed(seed, update), np.repeat(parameters, n, axis=0)
        )
        key = lambda _, update: fold_key(s.key, 2, seed % 2**32, update)
        members, taken = self.operate(members, target, begin, key, self.paid, meter=meter)
        return [self.learner.policy(each) for each in members], largest_usage(target, taken)
