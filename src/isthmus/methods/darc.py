"""DARC: domain adaptation with rewards from classifiers (Eysenbach et al. 2020, arXiv 2006.13916).

1.  pi (SAC), q_SA, q_SAS <- initialize; D_src <- random steps in the source; D_tgt <- the target's log, or nothing
    repeat:
2.      roll out pi in the source, into D_src; online also in the target, into D_tgt, a step for every ten
        for each source step:
3.          q_SA, q_SAS <- a gradient step on their cross-entropies, over batches of D_src and D_tgt
4.          delta_r(s, a, s') of the batch of D_src (Eq. 2), anew each time; 0 before `warmup` source steps
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
from isthmus.learning.sac import SAC, Learned, SACBatch, SACState, rows
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
    """What is learned and remembered."""

    sac: SACState
    classifiers: ClassifiersState
    target: Any  # where it is stepped: SAC's replay of it


class DARCCarry(NamedTuple):
    """What an update changes, and whether delta_r counts yet."""

    learned: Learned
    classifiers: ClassifiersState
    counts: Array  # float32, 0 or 1


def seen(batch: SACBatch) -> TransitionBatch:
    return TransitionBatch(batch.obs, batch.action, batch.next_obs)


@dataclass(frozen=True)
class DARC(MethodDefaults):
    """As the box. Defaults are those of the authors' code, but for the warm-up (1e5 steps in their
    commands) and their scale of 0.1 on all rewards (`learner.reward_scale`).

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    classifiers: Classifiers = field(default_factory=Classifiers)
    warmup: int = 10_000  # source steps

    def __post_init__(self) -> None:
        check_settings(self)

    def trained_in(self, problem: Problem) -> Domain:
        return problem.source

    def policy(self, s: State) -> Any:
        return self.learner.policy(s.learner.sac)

    def behaviour(self, s: State) -> Any:
        return self.learner.behaviour(s.learner.sac)

    def learner_state(self, s: State) -> Any:
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """1."""
        s = start_in_source(self.learner, problem.source, seed, start)
        spaces, sac = problem.source.spaces, s.learner
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        if problem.access == Access.DATASET:
            problem.log()  # one that cannot be read should be told now
            return s._replace(
                learner=DARCState(sac, classifiers, None), worlds=SourceAndTarget(s.worlds, None)
            )
        check_dynamics(self.learner, problem.source, problem.target)
        book, worlds = problem.target_worlds(s.usage, 1, seed)
        memory = sac.replay.cleared()
        return s._replace(
            learner=DARCState(sac, classifiers, memory),
            worlds=SourceAndTarget(s.worlds, worlds),
            usage=book,
        )

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        (sac, classifiers, target), (source, robot), behaviour = (
            s.learner,
            s.worlds,
            self.behaviour(s),
        )
        source, sac, metrics = roll_out(problem.source, source, self.learner, sac, behaviour)
        n, book = self.learner.worlds * self.learner.steps, s.usage
        begun = int(s.source_steps) // 10 if s.round else 0
        due = (
            int(s.source_steps + n) // 10 - begun
        )  # in the first round for the random steps before it, too
        if target is not None and due > 0:
            book, robot, tr = problem.collect(book, robot, behaviour, due)
            robot = robot._replace(
                returns=np.zeros(robot.size)
            )  # nothing of the target's reward stays
            target = target.add(rows(tr._replace(reward=np.zeros_like(tr.reward))))
        if self.learner.ready(sac) and (target is None or target.size):
            views = sac.replay.view(), log_view(problem) if target is None else target.view()
            carry = DARCCarry(sac.learned, classifiers, np.float32(s.source_steps >= self.warmup))
            key = fold_key(s.key, 1, int(s.phase), int(s.round))
            carry, health = scan(self, n, carry, *views, key)
            sac, classifiers = sac._replace(learned=carry.learned), carry.classifiers
            metrics |= {name: float(x) for name, x in health.items()}
        return s._replace(
            learner=DARCState(sac, classifiers, target), worlds=SourceAndTarget(source, robot), usage=book,
            round=np.int64(s.round + 1), source_steps=np.int64(s.source_steps + n),
        ), metrics  # fmt: skip

    def update(
        self, carry: DARCCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[DARCCarry, dict[str, Array]]:
        batch, logged = batches
        # 3.
        classifiers, told = self.classifiers.update(
            carry.classifiers, seen(batch), seen(logged), beside(key)
        )
        # 4.
        delta = self.classifiers.delta(classifiers, seen(batch), seen(batch))
        # 5.
        paid = batch._replace(reward=batch.reward + carry.counts * delta)
        learned, health = self.learner.update(carry.learned, paid, key)
        health |= told | {"delta_reward": delta.mean(), "delta_reward_sd": delta.std()}
        return DARCCarry(learned, classifiers, carry.counts), health


def check_settings(method: Any) -> None:
    """Raise BadValue for a learner other than SAC or a warm-up that cannot be."""
    if not isinstance(method.learner, SAC):
        raise BadValue("this method learns by SAC; leave learner=sac")
    if method.warmup < 0:
        raise BadValue(f"warmup={method.warmup}: needs a whole number from 0 on")
