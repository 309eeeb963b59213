"""What is common to methods that learn by SAC in the source and look at a log of the target."""

from __future__ import annotations

import weakref
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
from isthmus.learning.sac import SAC, Carry, SACBatch, SACState
from isthmus.problems.problem import Problem
from isthmus.types import Array, BadValue, Metrics, Spaces, Worlds


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


_log_views: dict[tuple[Any, ...], ReplayView] = {}


def log_view(problem: Problem) -> ReplayView:
    """Return the target's log as `sample` takes it: rows of SACBatch, actions in -1..1.

    It is on the device, and made once for as long as the log lives.
    """
    log, spaces = problem.log(), problem.target.spaces
    columns = log.obs, log.action, log.reward, log.next_obs, log.terminated
    name = *map(id, columns), spaces.low.tobytes(), spaces.high.tobytes()
    if name not in _log_views:
        _log_views[name] = _make_log_view(SACBatch(*columns), spaces)
        for column in columns:  # an id names another array when this one is gone
            weakref.finalize(column, _log_views.pop, name, None)
    return _log_views[name]


def _make_log_view(log: SACBatch, spaces: Spaces) -> ReplayView:
    action = 2 * (log.action - spaces.low) / (spaces.high - spaces.low) - 1
    # Copies: what aliased an array of the log would keep it alive.
    rows = jax.block_until_ready(jax.tree.map(jnp.array, log._replace(action=action)))
    none = np.int32(0)
    return ReplayView(
        rows, jax.tree.map(lambda x: x[:1], rows), none, none, np.int32(len(log.reward))
    )


@partial(jax.jit, static_argnums=(1, 2))
def draw_batches(view: ReplayView, size: int, n: int, key: Array) -> SACBatch:
    """Return n minibatches [n, size, ...], each drawn uniformly from all rows."""

    def draw(_: None, key: Array) -> tuple[None, SACBatch]:
        return None, sample(view, size, key)

    _, batches = jax.lax.scan(draw, None, jax.random.split(key, n))
    return batches


# Equal methods share what is compiled; their bound `update`s are not equal.
@partial(jax.jit, static_argnums=0)
def scan(
    method: Any, carry: Carry, source: SACBatch, target: ReplayView, key: Array
) -> tuple[Carry, Health]:
    """Do `method.update(carry, (batch of the source, batch of the target), key)` n times.

    The source's batches [n, B, ...] are those that `SAC.draw` made by the same key. Returns the
    carry and the means of the metrics.
    """

    def step(carry: Carry, inputs: tuple[SACBatch, Array]) -> tuple[Carry, Health]:
        batch, key = inputs
        k_sample, k_update = jax.random.split(key)
        logged = sample(target, method.learner.minibatch, beside(k_sample))
        return method.update(carry, (batch, logged), k_update)

    keys = jax.random.split(key, len(source.reward))
    carry, health = jax.lax.scan(step, carry, (source, keys))
    return carry, jax.tree.map(jnp.mean, health)
