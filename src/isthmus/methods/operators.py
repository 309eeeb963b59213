"""Adaptation operators U: K updates of a learner's state, in many worlds' dynamics at once.

ppo                     the learner's own updates on what it collects, ES-sim2real's
es_gradient             the actor moves along the slope that antithetic pairs of perturbed actors find
average_hill_climbing   to a perturbed actor, where the mean of its episodes is the better one
batch_hill_climbing     to the best of a batch of perturbed actors, an episode each, where one is better

The last three are ES-MAML's (Song et al. 2019, arXiv 1910.01215; 2020, arXiv 2003.01239): they play
episodes and see their returns alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.learning.learner import learn_each
from isthmus.problems.problem import AdaptationMeter
from isthmus.types import Array, Transition, Worlds

Begin = Callable[
    [int, int], Worlds
]  # n, update: worlds at their begin, n for each member, in order
Key = Callable[[int, int], Array]  # member, update
Pay = Callable[
    [Any, Transition], Transition
]  # a learner's state, what it collected: what it learns from
Watch = Callable[
    [int, Any, Transition], None
]  # member, its state before the update, what the update learns from


class MemberUsage(NamedTuple):
    """Of each member's world, int64 (M,)."""

    steps: np.ndarray
    episodes: np.ndarray  # begun


def adapt_by_updates(
    learner: Any,
    members: list[Any],
    domain: Domain,
    begin: Begin,
    updates: int,
    steps: int,
    key: Key,
    pay: Pay,
    watch: Watch | None = None,
    meter: AdaptationMeter | None = None,
) -> tuple[list[Any], MemberUsage]:
    """Each of M learners' states after so many updates of its own, and what they took.

    The members' worlds are stepped as one batch, their updates are one program where the learner
    has one for many, and no bit of a member depends on the others. Raises BudgetExceeded after an
    update in which episodes that ended began more others than `meter` allows.
    """
    n = learner.rollout_shape[0]
    each = lambda x: x.reshape(len(members), n).sum(1)
    begun = lambda worlds: each(worlds.episode)
    if meter:
        meter.begin(n * len(members))
    worlds = begin(n, 0)
    members = [learner.warm_start(member) for member in members]
    for update in range(updates):
        behaviours = jax.tree.map(
            lambda *x: np.stack(x), *[learner.behaviour(member) for member in members]
        )
        already = begun(worlds).sum()
        worlds, tr = rollout_steps(
            domain, worlds, behaviours, steps, members=True, before_step=meter and meter.step
        )
        if meter:
            meter.begin(int(begun(worlds).sum() - already))
            idle = (
                each((tr.terminated | tr.truncated)[-1]) if update == updates - 1 else 0
            )  # begun, and never played
            meter.allow((update + 1) * n * steps, int((begun(worlds) - idle).max()))
        paid = [
            pay(member, jax.tree.map(lambda x, m=m: x[:, m * n : (m + 1) * n], tr))
            for m, member in enumerate(members)
        ]
        if watch:
            for m, (member, mine) in enumerate(zip(members, paid, strict=True)):
                watch(m, member, mine)
        members = learn_each(learner, members, paid, [key(m, update) for m in range(len(members))])
    return members, MemberUsage(np.full(len(members), updates * steps * n), begun(worlds))


class Operator(NamedTuple):
    """An actor theta (D,), `queries` perturbations (Q, D), the actors to be tried (Q, D), their
    returns (Q,).
    """

    propose: Callable[[Array, Array], Array]  # theta, perturbations: actors
    move: Callable[[Array, Array, Array], Array]  # theta, actors, returns: theta


def slope_step(theta: Array, actors: Array, returns: Array) -> Array:
    """By the mean over pairs of perturbation times standardized gain: the antithetic estimate of
    the slope.
    """
    half = len(actors) // 2
    gain = (returns[:half] - returns[half:]) / 2 / (returns.std() + 1e-8)
    return theta + (gain[:, None] * (actors[:half] - theta)).mean(0)


def better_mean(theta: Array, actors: Array, returns: Array) -> Array:
    half = len(actors) // 2
    return jnp.where(returns[half:].mean() > returns[:half].mean(), actors[-1], theta)


def antithetic_pairs(theta: Array, e: Array) -> Array:
    half = len(e) // 2
    return jnp.concatenate([theta + e[:half], theta - e[:half]])


def actor_vs_candidate(theta: Array, e: Array) -> Array:
    return theta + jnp.where(jnp.arange(len(e))[:, None] < len(e) // 2, 0, e[0])


def here_and_around(theta: Array, e: Array) -> Array:
    return theta + e.at[0].set(0)


def keep_best(theta: Array, actors: Array, returns: Array) -> Array:
    return actors[jnp.argmax(returns)]


OPERATORS = {
    "es_gradient": Operator(antithetic_pairs, slope_step),
    "average_hill_climbing": Operator(actor_vs_candidate, better_mean),
    "batch_hill_climbing": Operator(here_and_around, keep_best),
}


def hill_climb(
    learner: Any, members: list[Any], domain: Domain, begin: Begin, updates: int, queries: int, radius: float,
    operator: Operator, key: Key, meter: AdaptationMeter | None = None,
) -> tuple[list[Any], MemberUsage]:  # fmt: skip
    """Each of M learners' states after so many updates of its actor, by `queries` episodes each,
    and what they took.
    """
    members, steps = (
        [learner.warm_start(each) for each in members],
        np.zeros(len(members), np.int64),
    )
    for update in range(updates):
        thetas = [ravel_pytree(member.networks.actor)[0] for member in members]
        tried = [
            operator.propose(
                theta, radius * jax.random.normal(key(m, update), (queries, len(theta)))
            )
            for m, theta in enumerate(thetas)
        ]
        policies = [
            learner.policy(with_actor(member, theta))
            for member, several in zip(members, tried, strict=True) for theta in several
        ]  # fmt: skip
        if meter:
            meter.begin(len(policies))
        played = rollout_episodes(
            domain, begin(queries, update), policies, before_step=meter and meter.step
        )
        returns = jnp.asarray(played.returns, jnp.float32).reshape(len(members), queries)
        steps += played.lengths.reshape(len(members), queries).sum(1)
        moved = map(operator.move, thetas, tried, returns)
        members = [with_actor(member, theta) for member, theta in zip(members, moved, strict=True)]
    return members, MemberUsage(steps, np.full(len(members), updates * queries))


def with_actor(s: Any, theta: Array) -> Any:
    """A learner's state with another actor, given as a vector."""
    _, unravel = ravel_pytree(s.networks.actor)
    return s._replace(networks=s.networks._replace(actor=unravel(theta)))
