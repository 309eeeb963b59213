"""H2O: dynamics-aware hybrid offline-and-online reinforcement learning (Niu et al. 2022, arXiv
2206.13464).

1.  pi and Q_1, Q_2 (SAC), D_sa and D_sas <- initialize; D_src <- random steps in the source
    repeat:
2.      roll out pi in the source, into D_src
        for each source step, on batches of D_src and of the target's log:
3.          D_sa, D_sas <- a gradient step on their cross-entropies
4.          u(s, a) = E_s' log p_src(s'|s,a) / p_tgt(s'|s,a), cut to 0..10, s' near the one seen; omega = u / sum u
5.          w(s, a, s') = p_tgt(s'|s,a) / p_src(s'|s,a), cut to 1e-5..1
6.          Q_i <- squared errors, those of D_src times w, + weight [log sum_src omega exp Q_i - mean_log Q_i]
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
from isthmus.learning.sac import SAC, Learned, SACBatch, SACState
from isthmus.methods.darc import seen
from isthmus.methods.logged import log_view, roll_out, scan
from isthmus.methods.method import MethodDefaults, State, fold_key, start_in_source
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics

POLICY_DRAWS = 10  # next states that u is a mean over
TINY, LARGEST = 1e-30, 10.0  # what u is cut to; the code has 1e-45, which float32 may take for 0
IMPORTANCE_RANGE = 1e-5, 1.0  # what w is cut to


class H2OState(NamedTuple):
    sac: SACState
    classifiers: ClassifiersState


class H2OCarry(NamedTuple):
    learned: Learned
    classifiers: ClassifiersState
    spread: Array  # (O,) of the log's states


@dataclass(frozen=True)
class H2O(MethodDefaults):
    """As the box, with the values of the authors' code. Half of each minibatch is the log's.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    explores: ClassVar[bool] = True
    learner: SAC = field(default_factory=lambda: SAC(capacity=200_000, soft_targets=False))
    classifiers: Classifiers = field(
        default_factory=lambda: Classifiers(hidden=(256, 256), noise=0.1, bound=2.0)
    )
    weight: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.learner, SAC):
            raise BadValue("this method learns by SAC; leave learner=sac")
        if self.learner.minibatch % 2:
            raise BadValue(
                f"learner.minibatch={self.learner.minibatch}: needs an even number, half is the "
                "log's"
            )
        if not 0 <= self.weight < np.inf:
            raise BadValue(f"weight={self.weight}: needs a number from 0 on")

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
        problem.log()  # one that cannot be read should be told now
        s, spaces = (
            start_in_source(self.learner, problem.source, seed, start),
            problem.source.spaces,
        )
        classifiers = self.classifiers.init(spaces.observation, spaces.action, fold_key(s.key, 5))
        return s._replace(learner=H2OState(s.learner, classifiers))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        sac, classifiers = s.learner
        worlds, sac, metrics = roll_out(
            problem.source, s.worlds, self.learner, sac, self.behaviour(s)
        )
        n = self.learner.worlds * self.learner.steps
        if self.learner.ready(sac):
            log = log_view(problem)
            carry = H2OCarry(sac.learned, classifiers, log.old.obs.std(0))
            key = fold_key(s.key, 1, int(s.phase), int(s.round))
            carry, health = scan(self, n, carry, sac.replay.view(), log, key)
            sac, classifiers = sac._replace(learned=carry.learned), carry.classifiers
            metrics |= {name: float(x) for name, x in health.items()}
        return s._replace(
            learner=H2OState(sac, classifiers), worlds=worlds, round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + n),
        ), metrics  # fmt: skip

    def update(
        self, carry: H2OCarry, batches: tuple[SACBatch, SACBatch], key: Array
    ) -> tuple[H2OCarry, dict[str, Array]]:
        k_classifiers, k_near, k_sac = jax.random.split(key, 3)
        # 3.
        source, logged = batches
        classifiers, told = self.classifiers.update(
            carry.classifiers, seen(source), seen(logged), k_classifiers
        )
        half = self.learner.minibatch // 2
        source, logged = (jax.tree.map(lambda x: x[:half], b) for b in batches)
        # 4.
        ratio = lambda b: self.classifiers.delta(classifiers, seen(b), seen(b))
        near = carry.spread * normal(k_near, (POLICY_DRAWS, *source.next_obs.shape))
        u = jax.vmap(lambda noise: -ratio(source._replace(next_obs=source.next_obs + noise)))(
            near
        ).mean(0)
        u = jnp.clip(u, TINY, LARGEST)
        log_omega = jnp.log(u) - jnp.log(u.sum())
        # 5.
        w = jnp.clip(jnp.exp(ratio(source)), *IMPORTANCE_RANGE)

        # 6.
        def conservative(q: Any, both: SACBatch, key: Array) -> Array:
            simulated, real = jnp.split(q(both.obs, both.action), 2, axis=1)  # (2, B/2)
            gap = jax.nn.logsumexp(simulated + log_omega, axis=1) - real.mean(1)
            return (
                self.weight / 4 * gap.sum()
            )  # theirs is beside two means of squares, SAC's half mean has a fourth

        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), source, logged)
        weight = jnp.concatenate([w, jnp.ones(half)])
        # 7.
        learned, health = self.learner.update(
            carry.learned, both, k_sac, weight=weight, critic_term=conservative
        )
        health |= told | {"gap": u.mean(), "importance": w.mean()}
        return H2OCarry(learned, classifiers, carry.spread), health
