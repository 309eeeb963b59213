"""What is common to methods that learn by SAC in the source and look at a log of the target."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.learning.keys import beside
from isthmus.learning.learner import Health
from isthmus.learning.replay import ReplayView, sample
from isthmus.learning.sac import SAC, Carry, SACBatch, SACState, updates
from isthmus.problems.problem import Problem
from isthmus.types import Array, BadValue, Metrics, Worlds


def roll_out(
    domain: Domain, worlds: Worlds, learner: SAC, sac: SACState, behaviour: Any
) -> tuple[Worlds, SACState, Metrics]:
    """Collect a round of the source into SAC's replay: worlds, learner's state and metrics."""
    after, tr = rollout_steps(domain, worlds, behaviour, learner.rollout_shape[1])
    returns = finished_returns(worlds, tr)
    metrics = {"training_return": float(returns.mean())} if len(returns) else {}
    return after, learner.observe(sac, tr), metrics | {"episodes": float(len(returns))}


def check_has_rewards(problem: Problem) -> None:
    """Raise BadValue where a method needs the log's rewards, and nobody knows them."""
    if not problem.log().has_rewards:
        raise BadValue(
            f"{problem.data} has no rewards, and this method learns from them: take one that reads "
            "states and actions alone (dap, dap_inverse, darc, garat), or write rewards into it"
        )


def log_view(problem: Problem) -> ReplayView:
    """Return the target's log as `sample` takes it: rows of SACBatch, actions in -1..1."""
    log, spaces = problem.log(), problem.target.spaces
    action = 2 * (log.action - spaces.low) / (spaces.high - spaces.low) - 1
    rows = SACBatch(log.obs, action, log.reward, log.next_obs, log.terminated)
    none = np.int32(0)
    return ReplayView(rows, jax.tree.map(lambda x: x[:1], rows), none, none, np.int32(log.size))


# Equal methods share what is compiled; their bound `update`s are not equal.
@partial(jax.jit, static_argnums=(0, 1))
def scan(
    method: Any, n: int, carry: Carry, source: ReplayView, target: ReplayView, key: Array
) -> tuple[Carry, Health]:
    """Do n times `method.update(carry, (batch of the source, batch of the target), key)`.

    Returns the carry and the means of the metrics. The source's batches, and the keys, are those
    that SAC's own rounds would draw.
    """

    def draw(key: Array) -> tuple[SACBatch, SACBatch]:
        size = method.learner.minibatch
        return sample(source, size, key), sample(target, size, beside(key))

    carry, health = updates(carry, draw, method.update, n, key)
    return carry, jax.tree.map(jnp.mean, health)
