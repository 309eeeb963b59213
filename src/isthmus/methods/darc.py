"""DARC: domain adaptation with rewards from classifiers (Eysenbach et al. 2020, arXiv 2006.13916).

1.  pi (SAC), q_SA, q_SAS <- initialize; D_src <- random steps in the source; D_tgt <- the target's
    log, or nothing
    repeat:
2.      roll out pi in the source, into D_src; online also in the target, into D_tgt, a step for
        every ten
        for each source step:
3.          q_SA, q_SAS <- a gradient step on their cross-entropies, over batches of D_src and D_tgt
4.          delta_r(s, a, s') of the batch of D_src (Eq. 2), anew each time; 0 before `warmup`
            source steps
5.          pi <- SAC's update with r + delta_r
    deploy pi
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.classifiers import Classifiers, ClassifiersState, TransitionBatch
from isthmus.learning.keys import beside
from isthmus.learning.learner import Health
from isthmus.learning.replay import ReplayView
from isthmus.learning.sac import SAC, Learned, SACBatch, SACState, rows
from isthmus.learning.settings import NonNegativeInt, Settings
from isthmus.methods.logged import log_view, roll_out, scan
from isthmus.methods.method import (
    MethodDefaults,
    SourceAndTarget,
    State,
    check_dynamics,
    fold_key,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics


class DARCState(NamedTuple):
    """What is learned, and the replay of a target that is stepped."""

    sac: SACState
    classifiers: ClassifiersState
    target: Any  # SAC's replay of it; None where it is known by its log


class DARCCarry(NamedTuple):
    """What an update changes, and whether delta_r counts yet."""

    learned: Learned
    classifiers: ClassifiersState
    counts: Array  # float32, 0 or 1


def without_rewards(batch: SACBatch) -> TransitionBatch:
    """Return a batch as classifiers take it."""
    return TransitionBatch(batch.obs, batch.action, batch.next_obs)


def check_learner(learner: Any) -> None:
    """Raise BadValue for a learner other than SAC."""
    if not isinstance(learner, SAC):
        raise BadValue("this method learns by SAC; leave learner=sac")


@dataclass(frozen=True)
class DARC(Settings, MethodDefaults):
    """As the box.

    Defaults are those of the authors' code, but for the warm-up (1e5 steps in their commands) and
    their scale of 0.1 on all rewards (`learner.reward_scale`). Raises BadValue for a learner other
    than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    classifiers: Classifiers = field(default_factory=Classifiers)
    warmup: NonNegativeInt = 10_000  # source steps

    def __post_init__(self) -> None:
        check_learner(self.learner)
        super().__post_init__()

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.source

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner.sac)

    def behaviour(self, s: State) -> Any:
        """Return the behaviour that collects, which explores."""
        return self.learner.behaviour(s.learner.sac)

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        s = start_in_source(self.learner, problem.source, seed, start)
        spaces, sac = problem.source.spaces, s.learner
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        if problem.access == Access.DATASET:
            problem.log()  # raises for one that cannot be read
            learned = DARCState(sac, classifiers, None)
            return s._replace(learner=learned, worlds=SourceAndTarget(s.worlds, None))
        check_dynamics(self.learner, problem.source, problem.target)
        usage, worlds = problem.target_worlds(s.usage, 1, seed)
        learned = DARCState(sac, classifiers, sac.replay.cleared())
        return s._replace(learner=learned, worlds=SourceAndTarget(s.worlds, worlds), usage=usage)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 5."""
        # 2.
        behaviour = self.behaviour(s)
        source, sac, metrics = roll_out(
            problem.source, s.worlds.source, self.learner, s.learner.sac, behaviour
        )
        if s.learner.target is not None:
            s = self._collect_target(problem, s, behaviour)
        steps = self.learner.worlds * self.learner.steps
        learned, target = s.learner._replace(sac=sac), s.learner.target
        if self.learner.ready(sac) and (target is None or target.size):
            # 3. to 5.
            target_view = log_view(problem) if target is None else target.view()
            learned, health = learn_with_classifiers(self, steps, s, learned, target_view)
            metrics |= health
        return s._replace(
            learner=learned,
            worlds=s.worlds._replace(source=source),
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + steps),
        ), metrics

    def _collect_target(self, problem: Problem, s: State, behaviour: Any) -> State:
        """Step the target for every ten steps of the source; nothing of its reward stays.

        In the first round also for the random steps before it.
        """
        steps = self.learner.worlds * self.learner.steps
        begun = int(s.source_steps) // 10 if s.round else 0
        due = int(s.source_steps + steps) // 10 - begun
        if due <= 0:
            return s
        usage, worlds, tr = problem.collect(s.usage, s.worlds.target, behaviour, due)
        worlds = worlds._replace(returns=np.zeros(worlds.size))
        target = s.learner.target.add(rows(tr._replace(reward=np.zeros_like(tr.reward))))
        return s._replace(
            learner=s.learner._replace(target=target),
            worlds=s.worlds._replace(target=worlds),
            usage=usage,
        )

    def update(
        self, carry: DARCCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[DARCCarry, Health]:
        """Do box lines 3 to 5, a gradient step each, on batches of source and target."""
        batch, logged = batches
        transitions = without_rewards(batch)
        # 3.
        classifiers, metrics = self.classifiers.update(
            carry.classifiers, transitions, without_rewards(logged), beside(key)
        )
        # 4.
        delta = self.classifiers.delta(classifiers, transitions, transitions)
        # 5.
        corrected = batch._replace(reward=batch.reward + carry.counts * delta)
        learned, health = self.learner.update(carry.learned, corrected, key)
        health |= metrics | {"delta_reward": delta.mean(), "delta_reward_sd": delta.std()}
        return DARCCarry(learned, classifiers, carry.counts), health


def learn_with_classifiers(
    method: Any, steps: int, s: State, learned: DARCState, target: ReplayView
) -> tuple[DARCState, Metrics]:
    """Return what is learned after as many of `method.update` as there were source steps."""
    counts = np.float32(s.source_steps >= method.warmup)
    carry = DARCCarry(learned.sac.learned, learned.classifiers, counts)
    key = fold_key(s.key, 1, int(s.phase), int(s.round))
    carry, health = scan(method, steps, carry, learned.sac.replay.view(), target, key)
    sac = learned.sac._replace(learned=carry.learned)
    metrics = {name: float(x) for name, x in health.items()}
    return learned._replace(sac=sac, classifiers=carry.classifiers), metrics
