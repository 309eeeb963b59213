"""What methods share that learn by SAC in the source while they look at a log of the target."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.learning.keys import beside
from isthmus.learning.replay import ReplayView, sample
from isthmus.learning.sac import SAC, SACBatch, SACState, updates
from isthmus.problems.problem import Problem
from isthmus.types import Array, Metrics, Worlds


def roll_out(
    domain: Domain, worlds: Worlds, learner: SAC, sac: SACState, behaviour: Any
) -> tuple[Worlds, SACState, Metrics]:
    """One round of the source into SAC's replay."""
    after, tr = rollout_steps(domain, worlds, behaviour, learner.rollout_shape[1])
    returns = finished_returns(worlds, tr)
    metrics = {"training_return": float(returns.mean())} if len(returns) else {}
    return after, learner.observe(sac, tr), metrics | {"episodes": float(len(returns))}


def log_view(problem: Problem) -> ReplayView:
    """The target's log as `sample` takes it: rows of Batch, actions in -1..1."""
    log, (_, low, high, _) = problem.log(), problem.target.spaces
    rows = SACBatch(
        log.obs, 2 * (log.action - low) / (high - low) - 1, log.reward, log.next_obs, log.terminated
    )
    none = np.int32(0)
    return ReplayView(rows, jax.tree.map(lambda x: x[:1], rows), none, none, np.int32(log.size))


@partial(
    jax.jit, static_argnums=(0, 1)
)  # equal methods share what is compiled; their bound `update`s are not equal
def scan(
    method: Any, n: int, carry: Any, source: ReplayView, target: ReplayView, key: Array
) -> tuple[Any, dict[str, Array]]:
    """n times `method.update(carry, (batch of the source, batch of the target), key)`; the means of
    its metrics.

    The source's batches, and the keys, are those that SAC's own rounds would draw.
    """

    def draw(key: Array) -> tuple[Any, Any]:
        size = method.learner.minibatch
        return sample(source, size, key), sample(target, size, beside(key))

    carry, health = updates(carry, draw, method.update, n, key)
    return carry, jax.tree.map(jnp.mean, health)
