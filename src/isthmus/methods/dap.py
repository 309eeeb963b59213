"""Dual action policy (arXiv 2410.12250), Algorithm 1: one policy, an action for the source and
another for the target.

    input: source, log of the target, lambda; DAP+U: beta, N classifier pairs
1.  pi over A x A (SAC), q_SA^i and q_SAS^i <- initialize; D_src <- random steps in the source
    repeat:
2.      (a_src, a_tgt) ~ pi(s); DAP+U redraws each from Normal(a, beta u), u = std_i log q_SA^i(tgt | s, a)    (Eq. 5)
        a_src is applied in the source; (s, a_src, a_tgt, r, s') into D_src
        for each source step:
3.          q^i <- a gradient step on their cross-entropies: (s, a_src, s') of D_src against (s, a, s') of the log
4.          delta_r(s, a_src, a_tgt, s') of the batch of D_src by Eq. 3, anew each time; 0 before `warmup` source steps
5.          pi <- SAC's update with r + delta_r - lambda |a_src - a_tgt|^2                                     (Eq. 4)
    deploy a_tgt, as pi says
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.classifiers import (
    Classifiers,
    DomainClassifier,
    TransitionBatch,
    disagreement,
)
from isthmus.learning.keys import beside
from isthmus.learning.policies import SquashedBehaviour, SquashedPolicy
from isthmus.learning.sac import SAC, SACBatch
from isthmus.methods.darc import DARCCarry, DARCState, check_settings, seen
from isthmus.methods.logged import log_view, roll_out, scan
from isthmus.methods.method import MethodDefaults, State, fold_key, initial_state
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces


class DualBehaviour(NamedTuple):
    """Box line 2: the pair comes back as `sample`, in -1..1; its first half is applied and charged."""

    behaviour: SquashedBehaviour  # over A x A
    pairs: DomainClassifier | None  # DAP+U's classifiers
    scale: Array  # beta

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        decision, _ = self.behaviour.act((), observation, key)
        both = decision.extra["sample"]
        if self.pairs is not None:
            noise = jax.random.normal(beside(key), both.shape)
            doubt = [disagreement(self.pairs, observation, a) for a in halves(both)]
            both = jnp.clip(
                both + self.scale * jnp.repeat(jnp.stack(doubt), len(both) // 2) * noise, -1.0, 1.0
            )
        return Decision(
            halves(self.behaviour.policy.scaled(both))[0], extra={"sample": both}
        ), memory


def halves(both: Array) -> tuple[Array, Array]:
    """a_src and a_tgt, (..., A) each, of (..., 2 A)."""
    first, second = jnp.split(both, 2, -1)
    return first, second


def dual_spaces(spaces: Spaces) -> Spaces:
    """The spaces of a policy with two actions."""
    return spaces._replace(low=np.tile(spaces.low, 2), high=np.tile(spaces.high, 2))


def half(policy: SquashedPolicy, which: int) -> SquashedPolicy:
    """The policy of one of the two actions: 0 the source's, 1 the target's."""
    n = len(policy.low) // 2
    mine = slice(which * n, (which + 1) * n)
    if len(policy.actor) == 2:  # separate policies
        return SquashedPolicy((policy.actor[which],), policy.low[mine], policy.high[mine])
    ((*layers, (weights, bias)),) = policy.actor
    columns = np.r_[mine, slice(mine.start + 2 * n, mine.stop + 2 * n)]  # means, then deviations
    network = (*layers, (weights[:, columns], bias[columns]))
    return SquashedPolicy((network,), policy.low[mine], policy.high[mine])


def begin_dual(learner: SAC, problem: Problem, seed: int, start: Any) -> State:
    """A learner over A x A, fed by one round of random steps in the source. Raises BadValue for a
    `start`.
    """
    if start is not None:
        raise BadValue("a policy with two actions can start from no other run; leave --start out")
    if learner.actors > 2:
        raise BadValue(
            f"learner.actors={learner.actors}: 1 for one policy with two actions, 2 for a policy "
            "each"
        )
    problem.log()  # one that cannot be read should be told now
    n, steps = learner.rollout_shape
    s = initial_state(seed, None, problem.source.worlds(n, seed), TargetUsage())
    sac = learner.init(dual_spaces(problem.source.spaces), fold_key(s.key, 0))
    worlds, tr = rollout_steps(
        problem.source, s.worlds, DualBehaviour(learner.random(sac), None, np.float32(0)), steps
    )
    return s._replace(
        learner=learner.observe(sac, tr), worlds=worlds, source_steps=np.int64(n * steps)
    )


@dataclass(frozen=True)
class DAP(MethodDefaults):
    """As the box, with one pair of classifiers and no redrawing.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    has_source_action: ClassVar[bool] = True
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    classifiers: Classifiers = field(default_factory=Classifiers)
    warmup: int = 10_000  # source steps
    regularization: float = 1.0  # lambda

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 <= self.regularization < np.inf:
            raise BadValue(f"regularization={self.regularization}: needs a number from 0 on")

    def trained_in(self, problem: Problem) -> Domain:
        return problem.source

    def policy(self, s: State) -> Any:
        return half(self.learner.policy(s.learner.sac), 1)

    def source_policy(self, s: State) -> Any:
        return half(self.learner.policy(s.learner.sac), 0)

    def behaviour(self, s: State) -> DualBehaviour:
        return DualBehaviour(self.learner.behaviour(s.learner.sac), None, np.float32(0))

    def learner_state(self, s: State) -> Any:
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """1."""
        s, spaces = begin_dual(self.learner, problem, seed, start), problem.source.spaces
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        return s._replace(learner=DARCState(s.learner, classifiers, None))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        sac, classifiers, _ = s.learner
        worlds, sac, metrics = roll_out(
            problem.source, s.worlds, self.learner, sac, self.behaviour(s)
        )
        n = self.learner.worlds * self.learner.steps
        if self.learner.ready(sac):
            carry = DARCCarry(sac.learned, classifiers, np.float32(s.source_steps >= self.warmup))
            key = fold_key(s.key, 1, int(s.phase), int(s.round))
            views = sac.replay.view(), log_view(problem)
            carry, health = scan(self, n, carry, *views, key)
            sac, classifiers = sac._replace(learned=carry.learned), carry.classifiers
            metrics |= {name: float(x) for name, x in health.items()}
        return s._replace(
            learner=DARCState(sac, classifiers, None), worlds=worlds, round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + n),
        ), metrics  # fmt: skip

    def update(
        self, carry: DARCCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[DARCCarry, dict[str, Array]]:
        batch, logged = batches
        a_src, a_tgt = halves(batch.action)
        applied, deployed = (TransitionBatch(batch.obs, a, batch.next_obs) for a in (a_src, a_tgt))
        # 3.
        classifiers, told = self.classifiers.update(
            carry.classifiers, applied, seen(logged), beside(key)
        )
        # 4.
        delta = self.classifiers.delta(classifiers, applied, deployed)
        # 5.
        apart = jnp.square(a_src - a_tgt).sum(-1)
        paid = batch._replace(
            reward=batch.reward + carry.counts * delta - self.regularization * apart
        )
        learned, health = self.learner.update(carry.learned, paid, key)
        health |= told | {
            "delta_reward": delta.mean(),
            "delta_reward_sd": delta.std(),
            "action_gap": apart.mean(),
        }
        return DARCCarry(learned, classifiers, carry.counts), health


@dataclass(frozen=True)
class DAPu(DAP):
    """DAP+U: an ensemble of classifiers, and actions redrawn in training where they disagree."""

    classifiers: Classifiers = field(default_factory=lambda: Classifiers(members=5))
    redraw: float = 0.1  # beta

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifiers.bound:
            raise BadValue(
                f"classifiers.bound={self.classifiers.bound}: u is of logits without a bound; "
                "leave it 0"
            )
        if not 0 <= self.redraw < np.inf:
            raise BadValue(f"redraw={self.redraw}: needs a number from 0 on")
        if self.classifiers.members < 2:
            raise BadValue(
                "classifiers.members=1: one pair cannot disagree, and u would be 0; take more, or "
                "method dap"
            )

    def behaviour(self, s: State) -> DualBehaviour:
        return (
            super()
            .behaviour(s)
            ._replace(pairs=s.learner.classifiers.pairs, scale=np.float32(self.redraw))
        )
