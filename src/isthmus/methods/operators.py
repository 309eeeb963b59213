"""Adaptation operators U: K updates of a learner's state, in many worlds' dynamics at once.

ppo                     the learner's own updates on what it collects, ES-sim2real's
es_gradient             the actor moves along the slope that antithetic pairs of perturbed actors
                        find
average_hill_climbing   to a perturbed actor, where the mean of its episodes is the better one
batch_hill_climbing     to the best of a batch of perturbed actors, an episode each, where one is
                        better

The last three are ES-MAML's (Song et al. 2019, arXiv 1910.01215; 2020, arXiv 2003.01239): they play
episodes and see their returns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.learning.learner import Learner
from isthmus.learning.ppo import PPO, PPOState
from isthmus.problems.problem import AdaptationMeter
from isthmus.types import Array, Episodes, Transition, Worlds


class Members:
    """How M members adapt, each in worlds of its own: what an operator asks for.

    One object a call of an operator; a meter counts where the worlds are a target's.
    """

    def __init__(self, domain: Domain, meter: AdaptationMeter | None = None):
        self.domain = domain
        self.meter = meter

    def worlds(self, n: int, update: int) -> Worlds:
        """Return n worlds at their begin for each member, in the members' order."""
        raise NotImplementedError

    def key(self, member: int, update: int) -> Array:
        """Return the key of a member's update."""
        raise NotImplementedError

    def relabel(self, s: Any, tr: Transition) -> Transition:
        """Return what a learner's state `s` learns from, of what it collected."""
        return tr

    def record(self, member: int, s: Any, tr: Transition) -> None:
        """Take note of a member's state before an update, and of what the update learns from."""

    def begin_episodes(self, count: int) -> None:
        """Count episodes that begin. Raises BudgetExceeded where the budget does not allow them."""
        if self.meter:
            self.meter.begin(count)

    @property
    def before_step(self) -> Callable[..., None] | None:
        """What is called before each step: the meter's count."""
        return self.meter.step if self.meter else None


class MemberUsage(NamedTuple):
    """What was taken of each member's worlds, int64 (M,)."""

    steps: np.ndarray
    episodes: np.ndarray  # begun


def adapt_by_updates(
    learner: Learner[Any], states: Sequence[Any], members: Members, updates: int, steps: int
) -> tuple[list[Any], MemberUsage]:
    """Return each of M learners' states after so many updates of its own, and what they took.

    The members' worlds are stepped as one batch, their updates are one program where the learner
    has one for many, and no bit of a member depends on the others. Raises BudgetExceeded after an
    update in which episodes that ended began more others than the members' meter allows.
    """
    n, count = learner.rollout_shape[0], len(states)
    members.begin_episodes(n * count)
    worlds = members.worlds(n, 0)
    states = [learner.warm_start(s) for s in states]
    for update in range(updates):
        behaviours = _stack([learner.behaviour(s) for s in states])
        before = worlds.episode
        worlds, tr = rollout_steps(
            members.domain, worlds, behaviours, steps, members=True, before_step=members.before_step
        )
        if members.meter:
            members.meter.begin(int(worlds.episode.sum() - before.sum()))
            begun = _count_begun(worlds, tr, count, last=update == updates - 1)
            members.meter.allow((update + 1) * n * steps, int(begun.max()))
        states = _learn_each(learner, states, members, tr, update)
    taken = np.full(count, updates * steps * n)
    return states, MemberUsage(taken, _sum_by_member(worlds.episode, count))


def _count_begun(worlds: Worlds, tr: Transition, count: int, *, last: bool) -> np.ndarray:
    """Return the episodes that each member has begun, (M,), after an update's transitions."""
    begun = _sum_by_member(worlds.episode, count)
    if last:  # those that begin with the last step are never played
        return begun - _sum_by_member((tr.terminated | tr.truncated)[-1], count)
    return begun


def _learn_each(
    learner: Learner[Any], states: Sequence[Any], members: Members, tr: Transition, update: int
) -> list[Any]:
    """Return the members' states after an update on the transitions [T, M n, ...] of all."""
    n = learner.rollout_shape[0]
    relabelled = [members.relabel(s, _columns(tr, m, n)) for m, s in enumerate(states)]
    for m, (s, own) in enumerate(zip(states, relabelled, strict=True)):
        members.record(m, s, own)
    keys = [members.key(m, update) for m in range(len(states))]
    return learner.learn_each(states, relabelled, keys)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def _columns(tr: Transition, member: int, n: int) -> Transition:
    """Return the transitions [T, n, ...] of one member's worlds."""
    own = slice(member * n, (member + 1) * n)
    return jax.tree.map(lambda x: x[:, own], tr)


def _sum_by_member(x: Array, count: int) -> np.ndarray:
    """Return the sums over each member's worlds, (M,) of (M n,)."""
    return x.reshape(count, -1).sum(1)


class Operator(NamedTuple):
    """Two functions of an actor theta (D,).

    `propose` makes of theta and perturbations (Q, D) the actors that are tried (Q, D); `move` makes
    of theta, those actors and their returns (Q,) the next theta.
    """

    propose: Callable[[Array, Array], Array]
    move: Callable[[Array, Array, Array], Array]


def antithetic_pairs(theta: Array, noise: Array) -> Array:
    """Return theta with the first half of the perturbations added, then subtracted."""
    half = len(noise) // 2
    return jnp.concatenate([theta + noise[:half], theta - noise[:half]])


def slope_step(theta: Array, actors: Array, returns: Array) -> Array:
    """Return theta moved by the mean over pairs of perturbation times standardized gain.

    It is the antithetic estimate of the slope.
    """
    half = len(actors) // 2
    gain = (returns[:half] - returns[half:]) / 2 / (returns.std() + 1e-8)
    return theta + (gain[:, None] * (actors[:half] - theta)).mean(0)


def actor_vs_candidate(theta: Array, noise: Array) -> Array:
    """Return theta itself for half of the episodes, one perturbed actor for the others."""
    is_theta = jnp.arange(len(noise))[:, None] < len(noise) // 2
    return theta + jnp.where(is_theta, 0, noise[0])


def better_mean(theta: Array, actors: Array, returns: Array) -> Array:
    """Return the candidate where its mean return is the better one, theta elsewhere."""
    half = len(actors) // 2
    return jnp.where(returns[half:].mean() > returns[:half].mean(), actors[-1], theta)


def here_and_around(theta: Array, noise: Array) -> Array:
    """Return theta itself, then perturbed actors."""
    return theta + noise.at[0].set(0)


def keep_best(theta: Array, actors: Array, returns: Array) -> Array:
    """Return the actor of the best return."""
    return actors[jnp.argmax(returns)]


OPERATORS = {
    "es_gradient": Operator(antithetic_pairs, slope_step),
    "average_hill_climbing": Operator(actor_vs_candidate, better_mean),
    "batch_hill_climbing": Operator(here_and_around, keep_best),
}


class Search(NamedTuple):
    """An operator of ES-MAML, the episodes of each of its updates, and how far it perturbs."""

    operator: Operator
    queries: int
    radius: float

    def propose(self, theta: Array, key: Array) -> Array:
        """Return the actors (Q, D) that are tried around theta (D,)."""
        noise = self.radius * jax.random.normal(key, (self.queries, len(theta)))
        return self.operator.propose(theta, noise)


def hill_climb(
    learner: PPO, states: Sequence[PPOState], members: Members, updates: int, search: Search
) -> tuple[list[PPOState], MemberUsage]:
    """Return each of M learners' states after so many updates of its actor, and what they took."""
    count, queries = len(states), search.queries
    states = [learner.warm_start(s) for s in states]
    steps = np.zeros(count, np.int64)
    for update in range(updates):
        thetas = [ravel_pytree(s.networks.actor)[0] for s in states]
        actors = [search.propose(theta, members.key(m, update)) for m, theta in enumerate(thetas)]
        episodes = _play_actors(learner, states, actors, members, update)
        returns = jnp.asarray(episodes.returns, jnp.float32).reshape(count, queries)
        steps += episodes.lengths.reshape(count, queries).sum(1)
        thetas = map(search.operator.move, thetas, actors, returns)
        states = [with_actor(s, theta) for s, theta in zip(states, thetas, strict=True)]
    return states, MemberUsage(steps, np.full(count, updates * queries))


def _play_actors(
    learner: PPO,
    states: Sequence[PPOState],
    actors: Sequence[Array],
    members: Members,
    update: int,
) -> Episodes:
    """Play an episode with each of the actors (Q, D) that each member tries."""
    policies = []
    for s, tried in zip(states, actors, strict=True):
        policies += [learner.policy(with_actor(s, theta)) for theta in tried]
    members.begin_episodes(len(policies))
    worlds = members.worlds(len(actors[0]), update)
    return rollout_episodes(members.domain, worlds, policies, before_step=members.before_step)


def with_actor(s: PPOState, theta: Array) -> PPOState:
    """Return a learner's state with another actor, given as a vector."""
    _, unravel = ravel_pytree(s.networks.actor)
    return s._replace(networks=s.networks._replace(actor=unravel(theta)))
