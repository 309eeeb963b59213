"""A dual action policy by inverse dynamics: ours, beside DAP's own (`dap.py`, arXiv 2410.12250).

Eq. 3's estimator is not the ratio that it stands for where the two actions differ. What a_tgt should be is known
without it: the action that in the target leads from s to the s' that a_src led to.

    input: source, log of the target, w
1.  g_1..g_N <- inverse models a = g_i(s, s') fitted to the log; pi over A x A (SAC) <- initialize
    repeat:
2.      (a_src, a_tgt) ~ pi(s); a_src is executed in the source and leads to s'
3.      pi <- SAC with r - w mean_i |a_tgt - g_i(s, s')|^2
    deploy a_tgt

The mean over the ensemble is |a_tgt - g|^2, g the members' mean, plus their spread: a_src is paid for leading where the
log knows the target, and nothing that the target's motors cannot do (g outside -1..1) comes free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.collect import collect, finished_returns
from isthmus.domains.domain import Domain
from isthmus.domains.problem import Access, Problem
from isthmus.learning.inverse import InverseModels, InverseState
from isthmus.learning.sac import SAC, SACState
from isthmus.methods.dap import DualBehaviour, begin_dual, half, halves
from isthmus.methods.method import NoAdaptation, State, fold
from isthmus.types import Array, BadValue, Metrics

FIT = 500  # steps a round


class Inverted(NamedTuple):
    sac: SACState
    inverse: InverseState


@dataclass(frozen=True)
class DAPInverse(NoAdaptation):
    """As the box. Raises BadValue for a learner other than SAC or a number that cannot be."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})
    learner: SAC = field(default_factory=SAC)
    inverse: InverseModels = field(default_factory=InverseModels)
    fitting: int = 5_000  # gradient steps
    weight: float = 3.0  # w

    def __post_init__(self) -> None:
        if not isinstance(self.learner, SAC):
            raise BadValue("this method learns by SAC; leave learner=sac")
        for name in ("fitting", "weight"):
            if not 0 <= (value := getattr(self, name)) < np.inf:
                raise BadValue(f"{name}={value}: needs a number from 0 on")

    def trained_in(self, problem: Problem) -> Domain:
        return problem.source

    def policy(self, s: State) -> Any:
        return half(self.learner.policy(s.learner.sac), 1)

    def simulated(self, s: State) -> Any:
        return half(self.learner.policy(s.learner.sac), 0)

    def behaviour(self, s: State) -> DualBehaviour:
        return DualBehaviour(self.learner.behaviour(s.learner.sac), None, np.float32(0))

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        s, log = begin_dual(self.learner, problem, seed, start), problem.log()
        inverse = self.inverse.init(log.obs, log.next_obs, problem.source.spaces.action, fold(s.key, 5))
        return s._replace(learner=Inverted(s.learner, inverse))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        key, (sac, inverse) = fold(s.key, 1, int(s.phase), int(s.round)), s.learner
        if s.phase == 0 and s.round * FIT < self.fitting:
            # 1.
            log, (_, low, high, _) = problem.log(), problem.target.spaces
            action = 2 * (log.action - low) / (high - low) - 1
            inverse, error = self.inverse.fit(inverse, FIT, log.obs, log.next_obs, action, key)
            s = s._replace(learner=Inverted(sac, inverse), round=np.int64(s.round + 1))
            return s, {"inverse_error": float(error)}
        if s.phase == 0:
            s = s._replace(phase=np.int64(1), round=np.int64(0))
        # 2.
        worlds, tr = collect(problem.source, s.worlds, self.behaviour(s), self.learner.steps)
        # 3.
        cost, health = self.cost(inverse, tr.obs, tr.extra["sample"], tr.next_obs)
        sac, metrics = self.learner.learn(sac, tr._replace(reward=tr.reward - np.asarray(cost)), key)
        returns = finished_returns(s.worlds, tr)
        metrics |= {name: float(x) for name, x in health.items()} | {"episodes": float(len(returns))}
        if len(returns):
            metrics["training_return"] = float(returns.mean())
        return s._replace(
            learner=Inverted(sac, inverse), worlds=worlds, round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics  # fmt: skip

    @partial(jax.jit, static_argnums=0)
    def cost(self, inverse: InverseState, obs: Array, both: Array, next_obs: Array) -> tuple[Array, dict[str, Array]]:
        """w mean_i |a_tgt - g_i(s, s')|^2 of transitions [T, N, ...], and what it is made of."""
        found, (a_src, a_tgt) = self.inverse.actions(inverse, obs, next_obs), halves(both)
        missed = jnp.square(a_tgt - found).sum(-1).mean(0)
        return self.weight * missed, {
            "action_missed": missed.mean(), "inverse_spread": found.var(0).sum(-1).mean(),
            "action_gap": jnp.square(a_src - a_tgt).sum(-1).mean(),
        }  # fmt: skip
