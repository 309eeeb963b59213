"""A task in a physics engine: the simulation of a robot's domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from isthmus.domains.simulation import SimulationStep
from isthmus.physics.engine import NO_EQUIPMENT, Simulator, find_engine
from isthmus.physics.numerics import AS_MODELLED, Numerics
from isthmus.tasks.contract import check_contract_once, check_finite, is_finite
from isthmus.tasks.motors import command_motors, find_actuation, find_equipment
from isthmus.tasks.task import MomentView, Random, SimView, Task, find_task, is_built_in

if TYPE_CHECKING:
    from isthmus.domains.domain import RobotDomain

MOTOR_STRENGTH = "motor_strength"
"""The parameter that scales the force of all motors."""


def control_bounds(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest actions of a task, float32 (A,) each.

    Raises BadValue where an actuator has none, or the task's servo does not fit.
    """
    if actuation := find_actuation(task):
        return actuation.low, actuation.high
    from isthmus.physics.actuator_controls import control_box
    from isthmus.physics.mujoco import load_model

    return control_box(load_model(task.model_path()), task.name)


def build_simulator(
    task: Task,
    engine: str,
    names: tuple[str, ...],
    n: int,
    numerics: Numerics = AS_MODELLED,
    *,
    forces: bool = False,
) -> Simulator:
    """Build n worlds of a task's robot, in which the parameters `names` may differ.

    With contact forces where the task needs them, or `forces` says so. Raises BadValue where the
    engine lacks what the task needs.
    """
    found, equipment = find_engine(engine), find_equipment(task)
    build = partial(found.simulator, forces=task.forces or forces)
    if numerics != AS_MODELLED:  # an engine from outside need not know of them
        build = partial(build, numerics=numerics)
    if equipment != NO_EQUIPMENT:  # nor of it
        found.check_equipment(task.name, equipment)
        build = partial(build, equipment=equipment)
    return build(task.model_path(), names, n, task.frame_skip)


def rehearse_task(task: Task, engine: str) -> None:
    """Hold a task of the user's own to its contract, the first time it is used.

    Raises BadValue or UnknownName.
    """
    check_contract_once(
        task, engine, control_bounds(task), partial(build_simulator, task, engine, ())
    )


class PhysicsSimulation:
    """A task of ours in a physics engine.

    `motor_force` (float64 [n], or None) multiplies each world's `motor_strength`, whether that is a
    parameter of the domain or not: it is what `weak_motors` does to a robot with servos.
    """

    terms: Mapping[str, np.ndarray]

    def __init__(self, domain: RobotDomain, n: int):
        self.task = find_task(domain.task)
        self.low, self.high = control_bounds(self.task)
        rehearse_task(self.task, domain.engine)
        names = domain.names
        self.motor_force: np.ndarray | None = None
        if domain.motor_force is not None:
            self.motor_force = np.full(n, domain.motor_force)
            if MOTOR_STRENGTH not in names:
                names = (*names, MOTOR_STRENGTH)
            self._strength_column = names.index(MOTOR_STRENGTH)
        self.simulator = build_simulator(self.task, domain.engine, names, n, domain.numerics)
        self.rows = self.simulator.rows
        self.time_limit = self.task.time_limit
        self.rewards = self.task.with_reward(domain.reward)
        # A user's numbers are not known to be finite wherever the state is.
        self._needs_check = not is_built_in(self.task)
        self.terms = {}

    def restore(self, rows: np.ndarray, parameters: np.ndarray) -> bool:
        """Continue from `rows`, exactly."""
        self.rows[:] = rows
        self._set_parameters(np.arange(self.simulator.n), parameters)
        return True

    def _set_parameters(self, ids: np.ndarray, parameters: np.ndarray) -> None:
        """Give worlds the domain's parameters (n, P), their motors weakened."""
        if self.motor_force is not None:
            width = max(parameters.shape[1], self._strength_column + 1)
            values = np.ones((len(ids), width))
            values[:, : parameters.shape[1]] = parameters
            values[:, self._strength_column] *= self.motor_force[ids]
            parameters = values
        self.simulator.set_parameters(ids, parameters)

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray, random: Random
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begin episodes where the task says; return observations (n, O) and memory (n, ?)."""
        self._set_parameters(ids, parameters)
        self.simulator.reset(ids, *self.task.complete(self.task.start(self.simulator, random)))
        view = MomentView(self.simulator, ids)
        self.task.begin(view, random)
        obs = self.task.observe(view)
        if self._needs_check and not is_finite(obs):
            check_finite(self.task, view, obs, {}, np.ones(len(ids), bool))
        return obs, self.task.remember(view)

    def neutral_action(self, ids: np.ndarray) -> np.ndarray:
        """Return what the task declares, else what the start told the actuators, within bounds."""
        if self.task.neutral_action is not None:
            return np.tile(np.asarray(self.task.neutral_action, float), (len(ids), 1))
        if actuation := find_actuation(self.task):
            return actuation.neutral_action(self.simulator, ids)
        return np.clip(self.simulator.control[ids], self.low, self.high)

    def step(
        self, ids: np.ndarray, memory: np.ndarray, *, commanded: np.ndarray, applied: np.ndarray
    ) -> SimulationStep:
        """Step worlds, and pay for what was `commanded`."""
        diverged = self.simulator.step(ids, command_motors(self.task, applied))
        view = MomentView(self.simulator, ids)
        with np.errstate(invalid="ignore", over="ignore"):
            self.terms = self.rewards(view, memory, commanded)
            terminated = self.task.terminated(view)
            self.task.advance(view, commanded)
            obs, reward = self.task.observe(view), self.task.total(self.terms)
            if self._needs_check and not is_finite(obs, reward):
                check_finite(self.task, view, obs, self.terms, ~diverged)
            return SimulationStep(
                observation=obs,
                reward=reward,
                terminated=terminated,
                truncated=np.zeros(len(ids), bool),
                diverged=diverged,
                memory=self.task.remember(view),
            )

    def progress(self, ids: np.ndarray) -> np.ndarray:
        """Return the task's own measure, (n,)."""
        with np.errstate(invalid="ignore"):  # of a world that diverged
            return self.task.progress(SimView(self.simulator, ids))

    def at_goal(self, ids: np.ndarray) -> np.ndarray:
        """Return which worlds are where the task wants them, bool (n,)."""
        with np.errstate(invalid="ignore"):
            return self.task.at_goal(SimView(self.simulator, ids))
