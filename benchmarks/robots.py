"""A robot with servos: environment steps with torques at each physics step, PPO's rounds on it, and
an observation of sensors.

Against bare `mujoco.batch`, whose model has position actuators of its own in the place of the
torque motors, and nothing else; against the same task observed from positions and velocities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mujoco
import mujoco.batch
import numpy as np
from measure import Row, alternate, timed

from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import rollout_steps
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.learning.ppo import PPO
from isthmus.methods.single_domain import SourceOnly
from isthmus.physics.mujoco import threads
from isthmus.physics.random import keys
from isthmus.problems.problem import Problem
from isthmus.tasks.observation import ObservedRobot, Part
from isthmus.tasks.quadruped import Quadruped
from isthmus.tasks.task import register
from isthmus.tasks.view import SimView


@dataclass(frozen=True)
class Sizes:
    worlds: int = 256
    steps: int = 50
    pairs: int = 9
    rounds: int = 2
    learner: PPO = field(
        default_factory=lambda: PPO(
            worlds=128, steps=32, epochs=4, minibatch=1024, hidden=(128, 128), learning_rate=6e-4,
            initial_log_std=-0.5, entropy_weight=0.002,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class State(Part):
    """Positions but the place on the ground, and velocities: as many numbers as the sensors."""

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        model = robot.find_model()
        return tuple(f"number {i}" for i in range(model.nq - 2 + model.nv))

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        return np.concatenate([view.qpos[:, 2:], view.qvel], axis=1)


class QuadrupedState(Quadruped):
    """The same task, observed from the simulator's state."""

    name = "quadruped_state"
    observed = (State(), *Quadruped.observed[3:4], *Quadruped.observed[6:7])


class PositionBatch:
    """Worlds of the same robot that MuJoCo's own position actuators drive, from `rows` on."""

    def __init__(self, simulation: Any):
        task = simulation.task
        assert isinstance(task, Quadruped)
        self.actuation, self.nstep = task.find_actuation(), task.frame_skip
        servos = self.actuation.servos
        assert servos is not None
        spec = mujoco.MjSpec.from_file(str(task.model_path()))
        for i, actuator in enumerate(spec.actuators):
            actuator.set_to_position(kp=servos.kp[i], kv=servos.kd[i])
            actuator.ctrllimited = False
            actuator.forcelimited = True
            actuator.forcerange = [-servos.effort[i], servos.effort[i]]
        self.batch = mujoco.batch.Batch(spec.compile(), simulation.simulator.n, threads())
        self.control, self.qpos, self.qvel = map(self.batch.bind, ("ctrl", "qpos", "qvel"))

    def begin(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self.qpos[:], self.qvel[:] = qpos, qvel
        self.batch.forward()

    def run(self, targets: np.ndarray) -> None:
        """Step all worlds under targets [T, N, A], or [T, 1, A]."""
        for target in targets:
            self.control[:] = target
            self.batch.step(nstep=self.nstep)


def begin(domain: Domain, n: int) -> tuple[SteppedWorlds, PhysicsSimulation]:
    live = SteppedWorlds.new(domain, keys(0, n), purpose="bench")
    assert isinstance(live.simulation, PhysicsSimulation)
    return live, live.simulation


def hold(domain: Domain, size: Sizes):
    """A turn of environment steps that hold the pose, resets where episodes end; steps a second."""
    live, _ = begin(domain, size.worlds)
    action = np.zeros((size.worlds, len(domain.spaces.low)), np.float32)

    def work() -> None:
        for _ in range(size.steps):
            outcome = live.step(live.all, commanded=action)
            ended = np.flatnonzero(outcome.terminated | outcome.truncated)
            if len(ended):
                live.begin(ended)

    return lambda: size.worlds * size.steps / timed(work)[0]


def compare_steps(size: Sizes) -> Iterator[Row]:
    register(QuadrupedState)
    domain, plain = parse_domain("quadruped"), parse_domain("quadruped_state")
    bare = PositionBatch(domain.build(size.worlds))
    _, simulation = begin(domain, size.worlds)
    bare.begin(simulation.simulator.qpos, simulation.simulator.qvel)
    targets = np.tile(bare.actuation.pose, (size.steps, 1, 1))
    count = size.worlds * size.steps
    ours, from_state = hold(domain, size), hold(plain, size)
    physics = lambda: count / timed(lambda: bare.run(targets))[0]
    a, b, c = alternate("servos", size.pairs, ours, physics, from_state)
    common = {"worlds": size.worlds, "steps": size.steps, "MuJoCo threads": threads(),
              "pairs": size.pairs}  # fmt: skip
    yield Row(
        f"environment steps of quadruped, torques at each physics step, {size.worlds} worlds",
        "bare mujoco.batch, the same targets by its own position actuators",
        0.8, "steps", a, b, None, common,
    )  # fmt: skip
    yield Row(
        f"environment steps of quadruped, observed by sensors, {size.worlds} worlds",
        "the same task observed from qpos and qvel",
        0.95, "steps", a, c, None, common,
    )  # fmt: skip


def compare_training(size: Sizes) -> Iterator[Row]:
    domain, learner = parse_domain("quadruped"), size.learner
    problem, method = Problem(domain, domain), SourceOnly(learner)
    state, _ = method.step(problem, method.init(problem, seed=0))  # compiles
    bare = PositionBatch(domain.build(learner.worlds))
    count = size.rounds * learner.worlds * learner.steps
    before = []

    def train() -> None:
        nonlocal state
        before.clear()
        for _ in range(size.rounds):
            before.append(state)
            state, _ = method.step(problem, state)

    def physics() -> float:
        seconds = 0.0
        for s in before:
            live = SteppedWorlds.resume(domain, s.worlds, "bench")
            assert isinstance(live.simulation, PhysicsSimulation)
            simulator = live.simulation.simulator
            bare.begin(simulator.qpos, simulator.qvel)
            behaviour = learner.behaviour(s.learner)
            _, tr = rollout_steps(domain, s.worlds, behaviour, learner.steps)
            targets = np.stack([bare.actuation.control(np.clip(a, -1, 1)) for a in tr.action])
            seconds += timed(lambda targets=targets: bare.run(targets))[0]
        return count / seconds

    a, b = alternate("PPO on quadruped", size.pairs, lambda: count / timed(train)[0], physics)
    yield Row(
        "PPO training, quadruped, whole rounds",
        "bare physics of the same worlds under the same targets, without resets",
        0.6, "steps", a, b, None,
        {"worlds": learner.worlds, "steps": learner.steps, "epochs": learner.epochs,
         "minibatch": learner.minibatch, "hidden": list(learner.hidden), "pairs": size.pairs,
         "MuJoCo threads": threads()},
    )  # fmt: skip


def compare(size: Sizes) -> Iterator[Row]:
    yield from compare_steps(size)
    yield from compare_training(size)
