"""Runs of older versions, whose checkpoints hold no structure: a state of the same shapes, to load
theirs into.

Such a state is made as the run's first was, so that a rollout is collected for it. A target that
cannot be replayed does not move meanwhile, and a log is not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from isthmus.domains.domain import Domain
from isthmus.domains.simulation import SimulationStep
from isthmus.learning.ppo import PPOState
from isthmus.learning.proximal import Optimizers
from isthmus.learning.recurrent_ppo import RecurrentState
from isthmus.logs.log import Log
from isthmus.methods.method import Method, State
from isthmus.problems.problem import Access, Problem

NEW_FIELDS = {"paid": np.True_}
"""Fields of a state that older runs lack, and what continues those: they took steps whether or not
they were paid."""


def make_like(method: Method, problem: Problem, seed: int, phase: int) -> State:
    """Return a state with the structure and shapes of a run's in a phase.

    A later phase has worlds of its own; a method reaches it at once when it is given a learner to
    start from.
    """
    problem = keep_shapes(problem)
    state = method.init(problem, seed)
    if phase != state.phase:
        state = method.init(problem, seed, state.learner)
    return join_optimizers(state)


def split_optimizers(state: Any) -> Any:
    """Return a state in which each learner of PPO's kind has an Adam for its policy and one for its
    critic, in place of an older version's for both.
    """

    def split(node: Any) -> Any:
        if not _is_proximal(node) or isinstance(node.optimizer, Optimizers):
            return node
        clip, (adam, rate) = node.optimizer

        def select(part: Callable[[Any], Any]) -> Any:
            mu = _select(part, adam.mu, node.networks)
            nu = _select(part, adam.nu, node.networks)
            return clip, (adam._replace(mu=mu, nu=nu), rate)

        return node._replace(optimizer=Optimizers(select(_policy_of), select(_critic_of)))

    return jax.tree.map(split, state, is_leaf=_is_proximal)


def join_optimizers(state: Any) -> Any:
    """Return a state of the shapes that an older version's had: one Adam for both."""

    def join(node: Any) -> Any:
        if not _is_proximal(node):
            return node
        clip, (adam, rate) = node.optimizer.policy
        moments = jax.tree.map(np.zeros_like, node.networks)
        if isinstance(adam.mu, jax.Array):  # one array of all
            moments, _ = ravel_pytree(moments)
        return node._replace(optimizer=(clip, (adam._replace(mu=moments, nu=moments), rate)))

    return jax.tree.map(join, state, is_leaf=_is_proximal)


def _is_proximal(node: Any) -> bool:
    return isinstance(node, PPOState | RecurrentState)


def _policy_of(networks: Any) -> Any:
    return networks.actor, networks.log_std


def _critic_of(networks: Any) -> Any:
    return networks.critic


def _select(part: Callable[[Any], Any], moments: Any, networks: Any) -> Any:
    """Return a part of Adam's moments of networks: a tree like them, or one array of all."""
    if isinstance(moments, type(networks)):
        return part(moments)
    _, unravel = ravel_pytree(networks)
    selected, _ = ravel_pytree(part(unravel(moments)))
    return selected


def keep_shapes(problem: Problem) -> Problem:
    """Return the problem with domains that cost nothing to touch, and a log of one row."""
    changed = {"source": still(problem.source), "target": still(problem.target), "ledger": None}
    fields = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    return _ShapesOfProblem(**{**fields, **changed})


def still(domain: Domain) -> Domain:
    """Return a domain of the same shapes; one that cannot be replayed does not move."""
    if domain.replayable:
        return domain
    kind = type(f"Still{type(domain).__name__}", (_Still, type(domain)), {})
    return kind(**vars(domain))


class _ShapesOfProblem(Problem):
    def log(self) -> Log:
        if self.access != Access.DATASET:
            return super().log()  # raises
        obs = np.zeros((1, self.target.spaces.observation), np.float32)
        action = np.zeros((1, self.target.spaces.action), np.float32)
        no, yes, reward = np.zeros(1, bool), np.ones(1, bool), np.zeros(1, np.float32)
        return Log(obs, action, reward, obs, no, yes, np.zeros(1, np.int64))


class _Still:
    """What a domain becomes in which nothing moves: all that it says of itself, and zeros for
    observations and rewards.
    """

    seconds: float | None

    @property
    def step_seconds(self) -> float:
        """Return the seconds that are written; a step that would have to be measured lasts none."""
        return self.seconds or 0.0

    def simulation(self, n: int, purpose: str = "collect", rows: np.ndarray | None = None) -> Any:
        """Return n worlds in which nothing moves."""
        return _StillSimulation(self, n)


class _StillSimulation:
    def __init__(self, domain: Any, n: int):
        spaces = domain.inner_spaces()
        self.time_limit = domain.time_limit
        self.observation, self.action = spaces.observation, spaces.action
        self.rows = np.zeros((n, 2))  # of the shape of a foreign simulation's
        self.terms: Mapping[str, np.ndarray] = {}

    def restore(self, rows, parameters):
        return True

    def begin(self, ids, parameters, random):
        return np.zeros((len(ids), self.observation)), np.empty((len(ids), 0))

    def neutral_action(self, ids):
        return np.zeros((len(ids), self.action))

    def step(self, ids, memory, *, commanded, applied):
        obs, reward = np.zeros((len(ids), self.observation)), np.zeros(len(ids))
        terminated, truncated, diverged = np.zeros((3, len(ids)), bool)
        return SimulationStep(obs, reward, terminated, truncated, diverged, memory)

    def progress(self, ids):
        return np.zeros(len(ids))

    def at_goal(self, ids):
        return np.zeros(len(ids), bool)
