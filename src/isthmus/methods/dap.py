"""Dual action policy (arXiv 2410.12250), Algorithm 1: an action for each of source and target.

    input: source, log of the target, lambda; DAP+U: beta, N classifier pairs
1.  pi over A x A (SAC), q_SA^i and q_SAS^i <- initialize; D_src <- random steps in the source
    repeat:
2.      (a_src, a_tgt) ~ pi(s); DAP+U redraws each from Normal(a, beta u),
        u = std_i log q_SA^i(tgt | s, a)    (Eq. 5)
        a_src is applied in the source; (s, a_src, a_tgt, r, s') into D_src
        for each source step, on batches of D_src and of the log:
3.          q^i <- a gradient step on their cross-entropies: (s, a_src, s') of D_src against
            (s, a, s') of the log
4.          delta_r(s, a_src, a_tgt, s') of the batch of D_src by Eq. 3, anew each time; 0 before
            `warmup` source steps
        for each of the batches of D_src:
5.          pi <- SAC's update with r + delta_r - lambda |a_src - a_tgt|^2    (Eq. 4)
    deploy a_tgt, as pi says

As in DARC the two loops are what one would be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.classifiers import (
    Classifiers,
    ClassifiersState,
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
    DARCState,
    check_learner,
    learn_with_classifiers,
    summarize_delta,
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

    @partial(jax.jit, static_argnums=0)
    def learn_classifiers(
        self, classifiers: ClassifiersState, source: SACBatch, logged: SACBatch, key: Array
    ) -> tuple[ClassifiersState, Array, Health]:
        """Do box lines 3 and 4 on a round's batches [n, B, ...] of source and log.

        Returns the classifiers, delta_r [n, B] and mean metrics.
        """
        a_src, a_tgt = halves(source.action)
        applied = TransitionBatch(source.obs, a_src, source.next_obs)
        return self.classifiers.learn(classifiers, applied, without_rewards(logged), key, a_tgt)

    @partial(jax.jit, static_argnums=0)
    def correct_rewards(
        self, source: SACBatch, delta: Array, counts: Array
    ) -> tuple[SACBatch, Health]:
        """Return a round's batches [n, B, ...] as box line 5 pays them, and mean metrics.

        `counts`, 0 or 1, is whether delta_r [n, B] counts yet.
        """
        a_src, a_tgt = halves(source.action)
        gap = jnp.square(a_src - a_tgt).sum(-1)
        reward = source.reward + counts * delta - self.regularization * gap
        metrics = summarize_delta(delta) | {"action_gap": gap.mean()}
        return source._replace(reward=reward), metrics


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
