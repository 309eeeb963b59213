"""K updates of a learner in many worlds' dynamics at once: what a few-shot method does in each target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np

from isthmus.domains.collect import collect
from isthmus.domains.domain import Domain
from isthmus.domains.problem import Access, Book, Problem
from isthmus.learning.learner import WHOLE, check
from isthmus.learning.ppo import PPO
from isthmus.methods.method import State, check_dynamics, fold
from isthmus.types import Array, BudgetExceeded, Transition, Worlds

Watch = Callable[[int, Any, Transition], None]  # member, its state before the update, what the update learns from


def adapted(
    learner: Any,
    members: list[Any],
    domain: Domain,
    worlds: Worlds,
    updates: int,
    steps: int,
    key: Callable[[int, int], Array],
    watch: Watch | None = None,
) -> tuple[list[Any], Worlds]:
    """Each of M learners' states after so many updates of its own, and all their worlds: [0, N/M) are the first's.

    `key(member, update)` is an update's. The members' worlds are stepped as one batch, and no bit of a member depends
    on the others.
    """
    n = worlds.size // len(members)
    members = [learner.transfer(each) for each in members]
    for update in range(updates):
        behaviours = jax.tree.map(lambda *x: np.stack(x), *[learner.behaviour(each) for each in members])
        worlds, tr = collect(domain, worlds, behaviours, steps, members=True)
        for m, before in enumerate(members):
            mine = jax.tree.map(lambda x, m=m: x[:, m * n : (m + 1) * n], tr)
            members[m], _ = learner.learn(before, mine, key(m, update))
            if watch:
                watch(m, before, mine)
    return members, worlds


@dataclass(frozen=True)
class Adapting:
    """K updates in each target at deployment: for a method of one learner, named before its base.

    Raises BadValue for a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.FEW_SHOT, Access.ONLINE})
    adapts: ClassVar[bool] = True
    learner: Any = field(default_factory=PPO)
    updates: int = 3
    adaptation_worlds: int = 8
    adaptation_steps: int = 512

    def __post_init__(self) -> None:
        if after := getattr(super(), "__post_init__", None):
            after()
        check(self, (("updates", "adaptation_worlds", "adaptation_steps"), WHOLE))

    def learned(self, s: State) -> Any:
        """The learner's state that adaptation begins from."""
        return s.learner

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[list[Any], Book]:
        """`Method.adapt`. Raises BudgetExceeded where a target's budget does not allow it, BadValue where what was
        learned cannot go on in it.
        """
        spent = self.check_adaptation(problem, target)
        members, n = len(parameters), self.adaptation_worlds
        learner = self.learner.resized(n)
        worlds = target.worlds(members * n, seed, np.repeat(parameters, n, axis=0))
        key = lambda _, update: fold(s.key, 2, seed, update)  # noqa: E731
        learners, worlds = adapted(
            learner, [self.learned(s)] * members, target, worlds, self.updates, self.adaptation_steps, key
        )
        episodes = int(worlds.episode.sum()) // members
        return [learner.policy(each) for each in learners], Book().add(spent, episodes, spent * target.step_seconds)

    def check_adaptation(self, problem: Problem, target: Domain) -> int:
        """The transitions that adapting takes of a target. Raises as `adapt` does."""
        check_dynamics(self.learner, problem.believed, target)
        n = self.adaptation_worlds
        spent = self.updates * n * self.adaptation_steps
        # Of the episodes only those that begin first are known: how many follow is up to the robot.
        for what, asked in (("transitions", spent), ("episodes", n), ("seconds", spent * target.step_seconds)):
            limit = getattr(problem.budget, what)
            if limit is not None and asked > limit:
                raise BudgetExceeded(
                    f"adaptation takes {asked:g} {what} a target and the budget is {limit:g}; "
                    f"lower updates, adaptation_worlds or adaptation_steps"
                )
        return spent
