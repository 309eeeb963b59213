"""What PAR, VGDF and RLPD share: SAC on batches whose halves are the source's and the target's.

1.  pi (SAC), what the method knows of the target <- initialize; D_src <- random steps in the
    source; D_tgt <- the target's log, or nothing
    repeat:
2.      roll out in the source, into D_src; online also pi in the target, into D_tgt, a step for
        every `target_interval`
        for each source step:
3.          the method's own update, on half a batch of D_src and half a batch of D_tgt
    deploy pi

Other than DARC these methods are paid in the target: the log has rewards, or the target's are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.keys import beside
from isthmus.learning.learner import Health
from isthmus.learning.replay import Replay
from isthmus.learning.sac import SAC, Learned, SACBatch, SACState, rows
from isthmus.learning.settings import PositiveInt, Settings
from isthmus.methods.darc import check_learner
from isthmus.methods.logged import check_has_rewards, draw_batches, log_view, roll_out
from isthmus.methods.method import (
    MethodDefaults,
    SourceAndTarget,
    State,
    check_dynamics,
    fold_key,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics, Spaces


class TwoReplaysState(NamedTuple):
    """What is learned, and the replay of a target that is stepped."""

    sac: SACState
    model: Any  # what the method learns of the target; () where it is nothing
    observed: Any  # what it counts of the target's transitions, on the host; () likewise
    target: Replay | None  # None where the target is known by its log


class Knowledge(NamedTuple):
    """What an update changes."""

    learned: Learned
    model: Any


class Halves(NamedTuple):
    """Half a batch of either domain, (B/2, ...)."""

    source: SACBatch
    target: SACBatch

    @property
    def joined(self) -> SACBatch:
        """The source's rows, then the target's, (B, ...)."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), self.source, self.target)


@dataclass(frozen=True)
class TwoReplays(Settings, MethodDefaults):
    """As the box. A method of this kind has an `update`, and an `init_model` where it needs one.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    target_interval: PositiveInt = 10  # source steps for a step of the target

    def __post_init__(self) -> None:
        check_learner(self.learner)
        if self.learner.minibatch % 2:
            raise BadValue(
                f"learner.minibatch={self.learner.minibatch}: needs an even number, half is the "
                "target's"
            )
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

    def source_behaviour(self, s: State) -> Any:
        """Return the behaviour that collects in the source: the same."""
        return self.behaviour(s)

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.sac

    def init_model(self, spaces: Spaces, sac: SACState, key: Array) -> Any:
        """Return what the method learns of the target, before any of it: nothing."""
        return ()

    def init_observed(self, spaces: Spaces) -> Any:
        """Return what the method counts of the target's transitions, before any: nothing."""
        return ()

    def observe_target(self, observed: Any, seen: SACBatch) -> Any:
        """Return what is counted, with new transitions (B, ...) of the target."""
        return observed

    def context(self, s: State) -> Any:
        """Return what a round's updates know beside what they change: nothing."""
        return ()

    def update(
        self, known: Knowledge, halves: Halves, context: Any, key: Array
    ) -> tuple[Knowledge, Health]:
        """Do box line 3; pure. `context` is the round's."""
        raise NotImplementedError

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        s = start_in_source(self.learner, problem.source, seed, start)
        sac, spaces = s.learner, problem.source.spaces
        model = self.init_model(spaces, sac, fold_key(s.key, 5))
        known = TwoReplaysState(sac, model, self.init_observed(spaces), None)
        if problem.access == Access.DATASET:
            check_has_rewards(problem)
            logged = self.observe_target(known.observed, log_view(problem).old)
            known = known._replace(observed=logged)
            return s._replace(learner=known, worlds=SourceAndTarget(s.worlds, None))
        check_dynamics(self.learner, problem.source, problem.target)
        usage, worlds = problem.target_worlds(s.usage, 1, seed)
        known = known._replace(target=sac.replay.cleared())
        return s._replace(learner=known, worlds=SourceAndTarget(s.worlds, worlds), usage=usage)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 and 3."""
        steps = self.learner.worlds * self.learner.steps
        # 2.
        source, sac, metrics = roll_out(
            problem.source, s.worlds.source, self.learner, s.learner.sac, self.source_behaviour(s)
        )
        if s.learner.target is not None:
            s = self._collect_target(problem, s, steps)
        known, target = s.learner._replace(sac=sac), s.learner.target
        if self.learner.ready(sac) and (target is None or target.size):
            # 3.
            known, health = self._learn(problem, s, known, steps)
            metrics |= health
        return s._replace(
            learner=known,
            worlds=s.worlds._replace(source=source),
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + steps),
        ), metrics

    def _collect_target(self, problem: Problem, s: State, steps: int) -> State:
        """Step the target by pi, as often as a round's source steps are due; also for the random
        steps before the first.
        """
        begun = int(s.source_steps) // self.target_interval if s.round else 0
        due = int(s.source_steps + steps) // self.target_interval - begun
        if due <= 0:
            return s
        usage, worlds, tr = problem.collect(s.usage, s.worlds.target, self.behaviour(s), due)
        seen, known = rows(tr), s.learner
        known = known._replace(
            target=known.target.add(seen), observed=self.observe_target(known.observed, seen)
        )
        return s._replace(learner=known, worlds=s.worlds._replace(target=worlds), usage=usage)

    def _learn(
        self, problem: Problem, s: State, known: TwoReplaysState, n: int
    ) -> tuple[TwoReplaysState, Metrics]:
        """Do box line 3, n times."""
        key = fold_key(s.key, 1, int(s.phase), int(s.round))
        half = replace(self.learner, minibatch=self.learner.minibatch // 2)
        source = half.draw(known.sac.replay, n, key)
        if known.target is None:
            target = draw_batches(log_view(problem), half.minibatch, n, beside(key))
        else:
            target = half.draw(known.target, n, beside(key))
        before = Knowledge(known.sac.learned, known.model)
        context = self.context(s._replace(learner=known))
        (learned, model), health = scan_updates(self, before, Halves(source, target), context, key)
        known = known._replace(sac=known.sac._replace(learned=learned), model=model)
        return known, {name: float(x) for name, x in health.items()}


# Equal methods share what is compiled.
@partial(jax.jit, static_argnums=0)
def scan_updates(
    method: TwoReplays, known: Knowledge, batches: Halves, context: Any, key: Array
) -> tuple[Knowledge, Health]:
    """Do `method.update` on each of the batches [n, B/2, ...] of either domain; mean metrics."""

    def step(known: Knowledge, inputs: tuple[Halves, Array]) -> tuple[Knowledge, Health]:
        halves, key = inputs
        return method.update(known, halves, context, jax.random.split(key)[1])

    keys = jax.random.split(key, len(batches.source.reward))
    known, health = jax.lax.scan(step, known, (batches, keys))
    return known, jax.tree.map(jnp.mean, health)
