"""N environments of somebody else's as a simulation, and those that each thread keeps."""

from __future__ import annotations

import math
import secrets
import warnings
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from isthmus.domains.foreign_contract import (
    ForeignStep,
    Info,
    call_environment,
    check_reset,
    check_step,
    read_success,
)
from isthmus.domains.foreign_environment import make_environment, take_spare
from isthmus.domains.simulated_time import find_clocks, measure_gain, read_clocks
from isthmus.domains.simulation import SimulationStep
from isthmus.physics.concurrency import ThreadList
from isthmus.tasks.task import Random
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.domains.foreign import ForeignDomain

MAX_KEPT, MAX_KEPT_ALIKE = 8, 3
"""Simulations that a thread keeps: in all, and of one domain and size."""


class ForeignSimulation:
    """N environments, each stepped and reset by name.

    There is no autoreset, so that every observation is a true next state. `rows` (n, 2) hold no
    state, only what tells whether this simulation still is where a value of worlds left it: its
    token, and how often each environment has moved. Episodes are seeded by the worlds' own streams.
    """

    def __init__(self, domain: ForeignDomain, n: int):
        self.domain, self.time_limit = domain, domain.time_limit
        self.obs_shape = (domain.inner_spaces().observation,)
        self.envs = _make_environments(domain.task, n)
        # Learners see the bounds in float32; an environment's own may lie between two of those
        # numbers.
        space: Any = self.envs[0].action_space
        self.low, self.high, self.dtype = space.low, space.high, space.dtype
        # Whether simulated time, if there is any, is still to be compared with what is written.
        self.seconds_unchecked = domain.seconds is not None
        self.terms: Mapping[str, np.ndarray] = {}
        self.rows = np.zeros((n, 2))
        self.rows[:, 0] = secrets.randbits(53)  # what a float64 holds exactly
        self.x_position = np.full(n, np.nan)
        self.success = np.zeros(n, bool)
        self._closing = weakref.finalize(self, _close_all, self.envs)  # at the process's end, too

    def holds(self, rows: np.ndarray) -> bool:
        """Return whether the environments are where `rows` were taken."""
        return np.array_equal(rows, self.rows)

    def restore(self, rows: np.ndarray, parameters: np.ndarray) -> bool:
        """Return whether the environments can go on from `rows`: if they are still there."""
        return self.holds(rows)

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray, random: Random
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reset environments, by seeds from `random`; return observations (n, O), memory (n, 0)."""
        seeds = (random.uniform(0, 1, 1)[:, 0] * 2**31).astype(int)
        self.rows[ids, 1] += 1
        observation = np.empty((len(ids), *self.obs_shape))
        for row, i in enumerate(ids):
            observation[row], info = self._reset(i, int(seeds[row]))
            self._read_info(i, info)
        return observation, np.empty((len(ids), 0))

    def _reset(self, i: int, seed: int) -> tuple[np.ndarray, Info]:
        result = call_environment(self.domain.task, "reset", lambda: self.envs[i].reset(seed=seed))
        return check_reset(self.domain.task, result, self.obs_shape)

    def neutral_action(self, ids: np.ndarray) -> np.ndarray:
        """Return the actions (n, A) nearest to zero: what would be neutral is not known."""
        return np.tile(np.clip(0.0, self.low, self.high), (len(ids), 1))

    def step(
        self, ids: np.ndarray, memory: np.ndarray, *, commanded: np.ndarray, applied: np.ndarray
    ) -> SimulationStep:
        """Step environments by what is applied; what they charge is theirs to know."""
        self.rows[ids, 1] += 1
        # The bounds are numbers of the space's own precision: what is clipped first is within them
        # once it is rounded.
        actions = np.clip(np.asarray(applied, np.float64), self.low, self.high).astype(self.dtype)
        result = self._empty_step(len(ids), memory)
        for row, i in enumerate(ids):
            step = self._step(i, actions[row])
            result.observation[row], result.reward[row] = step.observation, step.reward
            result.terminated[row], result.truncated[row] = step.terminated, step.truncated
            self._read_info(i, step.info)
        self.terms = {"reward": result.reward}
        finite = np.isfinite(result.observation).all(1) & np.isfinite(result.reward)
        return result._replace(diverged=~finite)

    def _empty_step(self, n: int, memory: np.ndarray) -> SimulationStep:
        return SimulationStep(
            observation=np.empty((n, *self.obs_shape)),
            reward=np.empty(n),
            terminated=np.empty(n, bool),
            truncated=np.empty(n, bool),
            diverged=np.zeros(n, bool),
            memory=memory,
        )

    def _step(self, i: int, action: np.ndarray) -> ForeignStep:
        task, env = self.domain.task, self.envs[i]
        if not self.seconds_unchecked:
            result = call_environment(task, "step", lambda: env.step(action))
            return check_step(task, result, self.obs_shape)
        self.seconds_unchecked = False
        clocks = find_clocks(env)
        before = read_clocks(clocks)
        result = call_environment(task, "step", lambda: env.step(action))
        self._compare_seconds(measure_gain(before, read_clocks(clocks)))
        return check_step(task, result, self.obs_shape)

    def _compare_seconds(self, measured: float | None) -> None:
        """Warn where a step's simulated time is not what is written; what is written holds."""
        written = self.domain.step_seconds
        if measured is not None and not math.isclose(measured, written, rel_tol=1e-6):
            warnings.warn(
                f"{self.domain.task}: step_seconds={written:g} is written, and a step took "
                f"{measured:g} s of simulated time; what is written counts",
                stacklevel=2,
            )

    def _read_info(self, i: int, info: Info) -> None:
        self.x_position[i] = info.get("x_position", np.nan)
        self.success[i] = read_success(self.domain.task, info)

    def progress(self, ids: np.ndarray) -> np.ndarray:
        """Return metres forward where the environment reports `x_position`; else NaN; (n,)."""
        return self.x_position[ids]

    def at_goal(self, ids: np.ndarray) -> np.ndarray:
        """Return where the last info says so by `success` or `is_success`, bool (n,)."""
        return self.success[ids]

    def close(self) -> None:
        """Close the environments."""
        self._closing()


def _make_environments(task: str, n: int) -> list[gymnasium.Env]:
    """Return n environments, the spare one first. Raises BadValue where they are not n."""
    spare, envs = take_spare(task), []
    if spare is not None:
        envs.append(spare)
    while len(envs) < n:
        envs.append(make_environment(task))
    if len({id(env.unwrapped) for env in envs}) < n:
        raise BadValue(
            f"{task} returns the same environment again; {n} worlds need {n} environments"
        )
    return envs


def _close_all(envs: list[gymnasium.Env]) -> None:
    for env in envs:
        # What holds a robot's connection should end, whatever the others do.
        with suppress(Exception):
            env.close()


_kept: ThreadList[ForeignSimulation] = ThreadList()
"""This thread's simulations, the least recently used first."""


def find_simulation(domain: ForeignDomain, n: int, rows: np.ndarray | None) -> ForeignSimulation:
    """Return the simulation that holds `rows`; else one that is new, or has long not been used.

    Several are kept, since training in a source, training in a target and evaluation may all use
    equal environments at the same time, each of which must find its own again.
    """
    simulation = _find_kept(domain, n, rows)
    if simulation is not None:
        _kept.remove(simulation)
    else:
        simulation = ForeignSimulation(domain, n)
        if len(_kept) == MAX_KEPT:
            _kept.pop(0).close()
    _kept.append(simulation)
    return simulation


def _find_kept(domain: ForeignDomain, n: int, rows: np.ndarray | None) -> ForeignSimulation | None:
    alike = [kept for kept in _kept if (kept.domain, len(kept.envs)) == (domain, n)]
    if rows is not None:
        for simulation in alike:
            if simulation.holds(rows):
                return simulation
    if len(alike) == MAX_KEPT_ALIKE:
        return alike[0]
    return None
