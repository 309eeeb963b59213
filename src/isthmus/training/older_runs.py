"""Runs of older versions, whose checkpoints hold no structure: a state of the same shapes, to load
theirs into.

Such a state is made as the run's first was, so that a rollout is collected for it. A target that
cannot be replayed does not move meanwhile, and a log is not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.simulation import SimulationStep
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
    return state if phase == state.phase else method.init(problem, seed, state.learner)


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
