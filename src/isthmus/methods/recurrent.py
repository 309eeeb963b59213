"""Policies with a memory: they may find out, while they act, which robot it is.

recurrent_randomization  1. collect in the source, dynamics drawn per task from what is believed of the target
                         2. recurrent PPO; the memory begins anew with each task, which is one episode       repeat
rl2                      the same with tasks of K episodes, through which the memory is kept (RL^2, Duan et al. 2016,
                         arXiv 1611.02779; Wang et al. 2016, arXiv 1611.05763)
                         3. at deployment, K - 1 episodes in each target, metered; what is remembered of them is where
                            the deployed policy begins
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import jax
import numpy as np

from isthmus.domains.collect import WIDTH, Live, repeated
from isthmus.domains.domain import Domain
from isthmus.domains.problem import Access, Book, Problem
from isthmus.learning.learner import Learner, check
from isthmus.learning.recurrent_ppo import Memory, RecurrentBehaviour, RecurrentPPO
from isthmus.methods.method import State
from isthmus.methods.single_domain import DomainRandomization
from isthmus.physics.random import keys
from isthmus.types import BadValue, BudgetExceeded


@dataclass(frozen=True)
class RecurrentRandomization(DomainRandomization):
    """Domain randomization of a policy that remembers (Peng et al. 2018).

    Raises BadValue for a learner that does not.
    """

    learner: Learner = field(default_factory=RecurrentPPO)

    def __post_init__(self) -> None:
        if not isinstance(self.learner, RecurrentPPO):
            raise BadValue("this method is about a memory; leave learner=recurrent_ppo")


@dataclass(frozen=True)
class RL2(RecurrentRandomization):
    """Learning to find out: a task's episodes share one robot and one memory."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.FEW_SHOT, Access.ONLINE})
    adapts: ClassVar[bool] = True
    episodes_per_task: int = 2  # K

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, (("episodes_per_task",), (lambda x: 2 <= x <= 1000, "a whole number in 2..1000")))

    def trained_in(self, problem: Problem) -> Domain:
        return problem.believed.shift(f"episodes_per_task={self.episodes_per_task}")

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        self.check_adaptation(problem, problem.target)  # long before it is needed
        return super().init(problem, seed, start)

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[list[Any], Book]:
        """3. The book is the mean over the targets, rounded up. Raises BudgetExceeded where a target's budget is less
        than the longest episodes would take.
        """
        self.check_adaptation(problem, target)
        live = Live.new(target, keys(seed, len(parameters)), parameters)
        memory = explored(live, self.learner.behaviour(s.learner), self.episodes_per_task - 1)
        policy = self.policy(s)
        policies = [policy._replace(begin=kept) for kept in memory.kept]
        taken = -(-int(live.state["total"].sum()) // len(parameters))
        return policies, Book().add(taken, self.episodes_per_task - 1, taken * target.step_seconds)

    def check_adaptation(self, problem: Problem, target: Domain) -> None:
        """Raises BudgetExceeded as `adapt` does."""
        episodes = self.episodes_per_task - 1
        most = episodes * target.time_limit
        for what, asked in (("transitions", most), ("episodes", episodes), ("seconds", most * target.step_seconds)):
            limit = getattr(problem.budget, what)
            if limit is not None and asked > limit:
                raise BudgetExceeded(
                    f"adaptation takes up to {asked:g} {what} a target and the budget is {limit:g}; "
                    "lower episodes_per_task"
                )


def explored(live: Live, behaviour: RecurrentBehaviour, episodes: int) -> Memory:
    """What is remembered in each of the worlds, rows [N], after so many episodes there, which it goes through.

    Worlds that are done stand still; no bit of a world depends on the others.
    """
    s, ids = live.state, live.all
    memory = repeated(behaviour.memory(), len(ids))
    action = np.zeros((len(ids), len(live.domain.spaces.low)), np.float32)
    while len(ids := ids[s["finished"][ids] < episodes]):
        drawn = live.behaviour_keys(1)[0]
        for start in range(0, len(ids), WIDTH):
            chunk = ids[start : start + WIDTH]
            rows = np.pad(chunk, (0, WIDTH - len(chunk)), mode="edge")
            before = jax.tree.map(lambda x, rows=rows: x[rows], memory)
            action[rows], after = _decide()(behaviour, before, s["observation"][rows].astype(np.float32), drawn[rows])
            for leaf, new in zip(memory, after, strict=True):
                leaf[rows] = new
        _, terminated, truncated = live.step(ids, action[ids])
        again = ids[(terminated | truncated) & (s["finished"][ids] < episodes)]
        if len(again):
            live.begin(again)
    return memory


@cache
def _decide() -> Any:
    """The jitted call of a behaviour: its action and the memory after it, rows [WIDTH]."""

    def one(behaviour, memory, observation, key):
        decision, memory = behaviour.act(memory, observation, jax.random.wrap_key_data(key))
        return decision.action, memory

    return jax.jit(jax.vmap(one, (None, 0, 0, 0)))
