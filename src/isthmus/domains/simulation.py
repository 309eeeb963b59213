"""N worlds that can be stepped, whoever's physics it is, and what their random numbers are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from isthmus.tasks.task import Random

# What a world's random numbers are for; each purpose has a stream of its own.
DYNAMICS, START, SENSE, BEHAVE = 1, 2, 3, 4


class SimulationStep(NamedTuple):
    """What a step of n worlds gave, before effects and time limits."""

    observation: np.ndarray  # float64 [n, O]
    reward: np.ndarray  # [n]
    terminated: np.ndarray  # bool [n]
    truncated: np.ndarray  # bool [n]
    diverged: np.ndarray  # bool [n]
    memory: np.ndarray  # float64 [n, ?], the task's


class Simulation(Protocol):
    """N worlds of one domain that can be stepped: a task in an engine, or somebody else's
    environment.

    What rollouts and the Gymnasium environments drive. Rows as in `isthmus.physics.engine`.
    """

    rows: np.ndarray
    time_limit: int
    terms: Mapping[str, np.ndarray]
    """The reward of the last step by term, (n,) each."""

    def restore(self, rows: np.ndarray, parameters: np.ndarray) -> bool:
        """Make the worlds continue from `rows`.

        Return False where the environment cannot: episodes then begin anew.
        """
        ...

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray, random: Random
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begin episodes; return first observations (n, O) and the task's memory (n, ?)."""
        ...

    def neutral_action(self, ids: np.ndarray) -> np.ndarray:
        """Return what the robots were told before the first decision of an episode, (n, A)."""
        ...

    def step(
        self, ids: np.ndarray, memory: np.ndarray, *, commanded: np.ndarray, applied: np.ndarray
    ) -> SimulationStep:
        """Step worlds `ids`; `applied` (n, A) goes to the actuators, `commanded` is charged."""
        ...

    def progress(self, ids: np.ndarray) -> np.ndarray:
        """Return the task's own measure, (n,)."""
        ...

    def at_goal(self, ids: np.ndarray) -> np.ndarray:
        """Return which worlds are where the task wants them, bool (n,).

        Nowhere where the task has no goal.
        """
        ...
