"""DARC: domain adaptation with rewards from classifiers (Eysenbach et al. 2020, arXiv 2006.13916).

1.  pi (SAC), q_SA, q_SAS <- initialize; D_src <- random steps in the source; D_tgt <- the target's
    log, or nothing
    repeat:
2.      roll out pi in the source, into D_src; online also in the target, into D_tgt, a step for
        every ten
        for each source step, on batches of D_src and D_tgt:
3.          q_SA, q_SAS <- a gradient step on their cross-entropies
4.          delta_r(s, a, s') of the batch of D_src (Eq. 2), anew each time; 0 before `warmup`
            source steps
        for each of the batches of D_src:
5.          pi <- SAC's update with r + delta_r
    deploy pi

A round's batches are drawn first, and what is in them does not depend on what pi learns from them:
so the two loops are what one would be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.classifiers import Classifiers, ClassifiersState, TransitionBatch
from isthmus.learning.keys import beside
from isthmus.learning.learner import Health
from isthmus.learning.replay import ReplayView
from isthmus.learning.sac import SAC, SACBatch, SACState, rows
from isthmus.learning.settings import NonNegativeInt, Settings
from isthmus.methods.logged import draw_batches, log_view, roll_out
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

    @partial(jax.jit, static_argnums=0)
    def learn_classifiers(
        self, classifiers: ClassifiersState, source: SACBatch, logged: SACBatch, key: Array
    ) -> tuple[ClassifiersState, Array, Health]:
        """Do box lines 3 and 4 on a round's batches [n, B, ...] of source and target.

        Returns the classifiers, delta_r [n, B] and mean metrics.
        """
        return self.classifiers.learn(
            classifiers, without_rewards(source), without_rewards(logged), key
        )

    @partial(jax.jit, static_argnums=0)
    def correct_rewards(
        self, source: SACBatch, delta: Array, counts: Array
    ) -> tuple[SACBatch, Health]:
        """Return a round's batches [n, B, ...] as box line 5 pays them, and mean metrics.

        `counts`, 0 or 1, is whether delta_r [n, B] counts yet.
        """
        return source._replace(reward=source.reward + counts * delta), summarize_delta(delta)


def summarize_delta(delta: Array) -> Health:
    """Return metrics of delta_r [n, B]: means over the n batches."""
    return {"delta_reward": delta.mean(), "delta_reward_sd": delta.std(1).mean()}


def learn_batches(
    method: Any, s: DARCState, batches: tuple[SACBatch, SACBatch], counts: Array, key: Array
) -> tuple[DARCState, Health]:
    """Do box lines 3 to 5 on a round's batches [n, B, ...] of source and target.

    Also returns mean metrics. `key` is that by which SAC drew the source's.
    """
    source, logged = batches
    # 3. and 4.
    classifiers, delta, metrics = method.learn_classifiers(
        s.classifiers, source, logged, beside(key)
    )
    # 5.
    corrected, paid = method.correct_rewards(source, delta, counts)
    learned, health = method.learner.learn_batches(s.sac.learned, corrected, key)
    sac = s.sac._replace(learned=learned)
    return s._replace(sac=sac, classifiers=classifiers), health | metrics | paid


def learn_with_classifiers(
    method: Any, steps: int, s: State, learned: DARCState, target: ReplayView
) -> tuple[DARCState, Metrics]:
    """Draw as many batches as there were source steps; return what is learned from them."""
    key = fold_key(s.key, 1, int(s.phase), int(s.round))
    source = method.learner.draw(learned.sac.replay, steps, key)
    logged = draw_batches(target, method.learner.minibatch, steps, beside(beside(key)))
    counts = np.float32(s.source_steps >= method.warmup)
    learned, health = learn_batches(method, learned, (source, logged), counts, key)
    return learned, {name: float(x) for name, x in health.items()}
