"""Dual action policy (arXiv 2410.12250), Algorithm 1: an action for each of source and target.

    input: source, log of the target, lambda; DAP+U: beta, N classifier pairs
1.  pi over A x A (SAC), q_SA^i and q_SAS^i <- initialize; D_src <- random steps in the source
    repeat:
2.      (a_src, a_tgt) ~ pi(s); DAP+U redraws each from Normal(a, beta u),
        u = std_i log q_SA^i(tgt | s, a)    (Eq. 5)
        a_src is applied in the source; (s, a_src, a_tgt, r, s') into D_src
        for each source step:
3.          q^i <- a gradient step on their cross-entropies: (s, a_src, s') of D_src against
            (s, a, s') of the log
4.          delta_r(s, a_src, a_tgt, s') of the batch of D_src by Eq. 3, anew each time; 0 before
            `warmup` source steps
5.          pi <- SAC's update with r + delta_r - lambda |a_src - a_tgt|^2    (Eq. 4)
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
from isthmus.learning.learner import Health
from isthmus.learning.policies import SquashedBehaviour, SquashedPolicy
from isthmus.learning.sac import SAC, SACBatch
from isthmus.learning.settings import NonNegativeFloat, NonNegativeInt, Settings
from isthmus.methods.darc import (
    DARCCarry,
    DARCState,
    check_learner,
    learn_with_classifiers,
    without_rewards,
)
from isthmus.methods.logged import log_view, roll_out
from isthmus.methods.method import MethodDefaults, State, fold_key, initial_state
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces


class DualBehaviour(NamedTuple):
    """Box line 2: the pair comes back as `sample`, in -1..1; a_src is applied and charged."""

    behaviour: SquashedBehaviour  # over A x A
    pairs: DomainClassifier | None  # DAP+U's classifiers
    scale: Array  # beta

    def memory(self) -> tuple:
        """Return the empty memory."""
        return ()

    def act(self, memory: tuple, observation: Array, key: Array) -> tuple[Decision, tuple]:
        """Return a decision for an observation (O,), and the memory."""
        decision, _ = self.behaviour.act((), observation, key)
        pair = decision.extra["sample"]
        if self.pairs is not None:
            pair = self._redraw(self.pairs, observation, pair, beside(key))
        action, _ = halves(self.behaviour.policy.scaled(pair))
        return Decision(action, extra={"sample": pair}), memory

    def _redraw(
        self, classifiers: DomainClassifier, observation: Array, pair: Array, key: Array
    ) -> Array:
        """Return both actions redrawn by Eq. 5."""
        noise = jax.random.normal(key, pair.shape)
        u = jnp.stack([disagreement(classifiers, observation, a) for a in halves(pair)])
        return jnp.clip(pair + self.scale * jnp.repeat(u, len(pair) // 2) * noise, -1.0, 1.0)


def halves(pair: Array) -> tuple[Array, Array]:
    """Return a_src and a_tgt, (..., A) each, of (..., 2 A)."""
    first, second = jnp.split(pair, 2, -1)
    return first, second


class _ActionPair(NamedTuple):
    """The same transitions (B, ...) by either action."""

    applied: TransitionBatch  # a_src
    deployed: TransitionBatch  # a_tgt

    @staticmethod
    def of(batch: SACBatch) -> _ActionPair:
        """Return those of a policy with two actions."""
        a_src, a_tgt = halves(batch.action)
        applied = TransitionBatch(batch.obs, a_src, batch.next_obs)
        return _ActionPair(applied, TransitionBatch(batch.obs, a_tgt, batch.next_obs))


def dual_spaces(spaces: Spaces) -> Spaces:
    """Return the spaces of a policy with two actions."""
    return spaces._replace(low=np.tile(spaces.low, 2), high=np.tile(spaces.high, 2))


def half(policy: SquashedPolicy, which: int) -> SquashedPolicy:
    """Return the policy of one of the two actions: 0 the source's, 1 the target's."""
    n = len(policy.low) // 2
    own = slice(which * n, (which + 1) * n)
    if len(policy.actor) == 2:  # separate policies
        return SquashedPolicy((policy.actor[which],), policy.low[own], policy.high[own])
    ((*layers, (weights, bias)),) = policy.actor
    columns = np.r_[own, slice(own.start + 2 * n, own.stop + 2 * n)]  # means, then deviations
    network = (*layers, (weights[:, columns], bias[columns]))
    return SquashedPolicy((network,), policy.low[own], policy.high[own])


def _check_dual(learner: SAC, start: Any) -> None:
    if start is not None:
        raise BadValue("a policy with two actions can start from no other run; leave --start out")
    if learner.actors > 2:
        raise BadValue(
            f"learner.actors={learner.actors}: 1 for one policy with two actions, 2 for a policy "
            "each"
        )


def begin_dual(learner: SAC, problem: Problem, seed: int, start: Any) -> State:
    """Return a state with a learner over A x A, fed by one round of random steps in the source.

    Raises BadValue for a `start`, and for more than two actors.
    """
    _check_dual(learner, start)
    problem.log()  # raises for one that cannot be read
    n, steps = learner.rollout_shape
    s = initial_state(seed, None, problem.source.worlds(n, seed), TargetUsage())
    sac = learner.init(dual_spaces(problem.source.spaces), fold_key(s.key, 0))
    behaviour = DualBehaviour(learner.random(sac), None, np.float32(0))
    worlds, tr = rollout_steps(problem.source, s.worlds, behaviour, steps)
    return s._replace(
        learner=learner.observe(sac, tr), worlds=worlds, source_steps=np.int64(n * steps)
    )


@dataclass(frozen=True)
class DAP(Settings, MethodDefaults):
    """As the box, with one pair of classifiers and no redrawing.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    has_source_action: ClassVar[bool] = True
    takes_start: ClassVar[bool] = False
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=SAC)
    classifiers: Classifiers = field(default_factory=Classifiers)
    warmup: NonNegativeInt = 10_000  # source steps
    regularization: NonNegativeFloat = 1.0  # lambda

    def __post_init__(self) -> None:
        check_learner(self.learner)
        super().__post_init__()

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.source

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return half(self.learner.policy(s.learner.sac), 1)

    def source_policy(self, s: State) -> Any:
        """Return the policy that acts in the source."""
        return half(self.learner.policy(s.learner.sac), 0)

    def behaviour(self, s: State) -> DualBehaviour:
        """Return the behaviour that collects, which explores."""
        return DualBehaviour(self.learner.behaviour(s.learner.sac), None, np.float32(0))

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        s, spaces = begin_dual(self.learner, problem, seed, start), problem.source.spaces
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        return s._replace(learner=DARCState(s.learner, classifiers, None))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 5."""
        # 2.
        worlds, sac, metrics = roll_out(
            problem.source, s.worlds, self.learner, s.learner.sac, self.behaviour(s)
        )
        steps, learned = self.learner.worlds * self.learner.steps, s.learner._replace(sac=sac)
        if self.learner.ready(sac):
            # 3. to 5.
            learned, health = learn_with_classifiers(self, steps, s, learned, log_view(problem))
            metrics |= health
        return s._replace(
            learner=learned,
            worlds=worlds,
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + steps),
        ), metrics

    def update(
        self, carry: DARCCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[DARCCarry, Health]:
        """Do box lines 3 to 5, a gradient step each, on batches of source and log."""
        source, logged = batches
        pair = _ActionPair.of(source)
        # 3.
        classifiers, metrics = self.classifiers.update(
            carry.classifiers, pair.applied, without_rewards(logged), beside(key)
        )
        carry = carry._replace(classifiers=classifiers)
        # 4. and 5.
        reward, reward_metrics = self._correct_reward(carry, source.reward, pair)
        learned, health = self.learner.update(carry.learned, source._replace(reward=reward), key)
        return carry._replace(learned=learned), health | metrics | reward_metrics

    def _correct_reward(
        self, carry: DARCCarry, reward: Array, pair: _ActionPair
    ) -> tuple[Array, Health]:
        """Return the reward (B,) of box line 5, with line 4's delta, and metrics."""
        # 4.
        delta = self.classifiers.delta(carry.classifiers, pair.applied, pair.deployed)
        # 5.
        gap = jnp.square(pair.applied.action - pair.deployed.action).sum(-1)
        reward = reward + carry.counts * delta - self.regularization * gap
        return reward, {
            "delta_reward": delta.mean(),
            "delta_reward_sd": delta.std(),
            "action_gap": gap.mean(),
        }


@dataclass(frozen=True)
class DAPu(DAP):
    """DAP+U: an ensemble of classifiers, and actions redrawn in training where they disagree."""

    classifiers: Classifiers = field(default_factory=lambda: Classifiers(members=5))
    redraw: NonNegativeFloat = 0.1  # beta

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifiers.bound:
            raise BadValue(
                f"classifiers.bound={self.classifiers.bound}: u is of logits without a bound; "
                "leave it 0"
            )
        if self.classifiers.members < 2:
            raise BadValue(
                "classifiers.members=1: one pair cannot disagree, and u would be 0; take more, or "
                "method dap"
            )

    def behaviour(self, s: State) -> DualBehaviour:
        """Return the behaviour that collects, which redraws its actions."""
        behaviour = super().behaviour(s)
        pairs = s.learner.classifiers.pairs
        return behaviour._replace(pairs=pairs, scale=np.float32(self.redraw))
