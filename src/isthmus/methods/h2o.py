"""H2O: dynamics-aware hybrid offline-and-online reinforcement learning (Niu et al. 2022).

arXiv 2206.13464.

1.  pi and Q_1, Q_2 (SAC), D_sa and D_sas <- initialize; D_src <- random steps in the source
    repeat:
2.      roll out pi in the source, into D_src
        for each source step, on batches of D_src and of the target's log:
3.          D_sa, D_sas <- a gradient step on their cross-entropies
4.          u(s, a) = E_s' log p_src(s'|s,a) / p_tgt(s'|s,a), cut to 0..10, s' near the batch's;
            omega = u / sum u
5.          w(s, a, s') = p_tgt(s'|s,a) / p_src(s'|s,a), cut to 1e-5..1
6.          Q_i <- squared errors, those of D_src times w,
            + weight [log sum_src omega exp Q_i - mean_log Q_i]
7.          pi <- SAC's step, over both halves
    deploy pi
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.learning.classifiers import Classifiers, ClassifiersState
from isthmus.learning.distributions import normal
from isthmus.learning.learner import Health
from isthmus.learning.replay import ReplayView
from isthmus.learning.sac import SAC, Learned, QFunction, SACBatch, SACState
from isthmus.learning.settings import NonNegativeFloat, Settings
from isthmus.methods.darc import check_learner, without_rewards
from isthmus.methods.logged import check_has_rewards, log_view, roll_out, scan
from isthmus.methods.method import MethodDefaults, State, fold_key, start_in_source
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics

POLICY_DRAWS = 10  # next states that u is a mean over
TINY, LARGEST = 1e-30, 10.0  # what u is cut to; the code has 1e-45, which float32 may take for 0
IMPORTANCE_RANGE = 1e-5, 1.0  # what w is cut to


class H2OState(NamedTuple):
    """What is learned."""

    sac: SACState
    classifiers: ClassifiersState


class H2OCarry(NamedTuple):
    """What an update changes, and the spread of the log's states."""

    learned: Learned
    classifiers: ClassifiersState
    spread: Array  # (O,) of the log's states


@dataclass(frozen=True)
class H2O(Settings, MethodDefaults):
    """As the box, with the values of the authors' code. Half of each minibatch is the log's.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=lambda: SAC(capacity=200_000, soft_targets=False))
    classifiers: Classifiers = field(
        default_factory=lambda: Classifiers(hidden=(256, 256), noise=0.1, bound=2.0)
    )
    weight: NonNegativeFloat = 0.01

    def __post_init__(self) -> None:
        check_learner(self.learner)
        if self.learner.minibatch % 2:
            raise BadValue(
                f"learner.minibatch={self.learner.minibatch}: needs an even number, half is the "
                "log's"
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

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.sac

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        check_has_rewards(problem)
        s = start_in_source(self.learner, problem.source, seed, start)
        spaces = problem.source.spaces
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        return s._replace(learner=H2OState(s.learner, classifiers))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 7."""
        # 2.
        worlds, sac, metrics = roll_out(
            problem.source, s.worlds, self.learner, s.learner.sac, self.behaviour(s)
        )
        steps, learned = self.learner.worlds * self.learner.steps, s.learner._replace(sac=sac)
        if self.learner.ready(sac):
            # 3. to 7.
            learned, health = self._learn(steps, s, learned, log_view(problem))
            metrics |= health
        return s._replace(
            learner=learned,
            worlds=worlds,
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + steps),
        ), metrics

    def _learn(
        self, n: int, s: State, learned: H2OState, log: ReplayView
    ) -> tuple[H2OState, Metrics]:
        """Do box lines 3 to 7, n times."""
        sac = learned.sac
        carry = H2OCarry(sac.learned, learned.classifiers, np.asarray(log.old.obs).std(0))
        key = fold_key(s.key, 1, int(s.phase), int(s.round))
        source = self.learner.draw(sac.replay, n, key)
        carry, health = scan(self, carry, source, log, key)
        metrics = {name: float(x) for name, x in health.items()}
        return H2OState(sac._replace(learned=carry.learned), carry.classifiers), metrics

    def update(
        self, carry: H2OCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[H2OCarry, Health]:
        """Do box lines 3 to 7, a gradient step each, on batches of source and log."""
        k_classifiers, k_near, k_sac = jax.random.split(key, 3)
        # 3.
        carry, metrics = self._learn_classifiers(carry, batches, k_classifiers)
        halves = jax.tree.map(lambda x: x[: self.learner.minibatch // 2], batches)
        # 4.
        u = self._measure_gap(carry, halves[0], k_near)
        # 5.
        w = jnp.clip(jnp.exp(self._log_ratio(carry.classifiers, halves[0])), *IMPORTANCE_RANGE)
        # 6. and 7.
        learned, health = self._learn_conservatively(carry.learned, halves, u, w, k_sac)
        metrics |= {"gap": u.mean(), "importance": w.mean()}
        return carry._replace(learned=learned), health | metrics

    def _learn_classifiers(
        self, carry: H2OCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[H2OCarry, Health]:
        """Do box line 3, on whole batches."""
        source, logged = batches
        classifiers, metrics = self.classifiers.update(
            carry.classifiers, without_rewards(source), without_rewards(logged), key
        )
        return carry._replace(classifiers=classifiers), metrics

    def _log_ratio(self, classifiers: ClassifiersState, batch: SACBatch) -> Array:
        """Return log p_tgt(s'|s,a) / p_src(s'|s,a), (B,)."""
        return self.classifiers.log_ratio(classifiers, without_rewards(batch))

    def _measure_gap(self, carry: H2OCarry, source: SACBatch, key: Array) -> Array:
        """Return u (B,), box line 4."""
        noise = carry.spread * normal(key, (POLICY_DRAWS, *source.next_obs.shape))
        # All draws in one batch, which is one product a layer.
        near = jax.tree.map(lambda x: jnp.concatenate([x] * POLICY_DRAWS), source)
        near = near._replace(next_obs=near.next_obs + noise.reshape(near.next_obs.shape))
        ratio = self._log_ratio(carry.classifiers, near).reshape(POLICY_DRAWS, -1)
        return jnp.clip(-ratio.mean(0), TINY, LARGEST)

    def _learn_conservatively(
        self, learned: Learned, halves: tuple[SACBatch, SACBatch], u: Array, w: Array, key: Array
    ) -> tuple[Learned, Health]:
        """Do box lines 6 and 7 on half a batch of either side, by its u and w (B/2,)."""
        log_omega = jnp.log(u) - jnp.log(u.sum())

        def conservative_term(q: QFunction, batch: SACBatch, key: Array) -> Array:
            simulated, real = jnp.split(q(batch.obs, batch.action), 2, axis=1)  # (2, B/2)
            gap = jax.nn.logsumexp(simulated + log_omega, axis=1) - real.mean(1)
            # Theirs is beside two means of squares, SAC's half mean has a fourth.
            return self.weight / 4 * gap.sum()

        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *halves)
        weight = jnp.concatenate([w, jnp.ones(len(w))])
        return self.learner.update(
            learned, batch, key, weight=weight, critic_term=conservative_term
        )
