"""Servos in DART: they settle where their formula says, and move as in MuJoCo."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isthmus
from isthmus.domains.parse import parse_domain
from isthmus.physics.dart import DartSimulator
from isthmus.physics.mujoco import MujocoSimulator
from isthmus.tasks import task as tasks

pytestmark = pytest.mark.skipif(
    find_spec("dartpy") is None and sys.platform != "linux", reason="no dartpy here"
)

ARM = """<mujoco>
  <option timestep="0.002" integrator="Euler"/>
  <worldbody>
    <body name="torso" pos="0 0 1">
      <joint name="shoulder" axis="0 1 0" damping="0.2"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1"/>
      <body name="forearm" pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.5"/>
      </body>
    </body>
  </worldbody>
  <actuator>{}</actuator>
</mujoco>"""
SERVOS = {
    "position": '<position joint="shoulder" kp="40" kv="2" ctrlrange="-1 1"/>'
    '<position joint="elbow" kp="20" kv="1" ctrlrange="-1 1"/>',
    "damping ratio": '<position joint="shoulder" kp="40" dampratio="1" ctrlrange="-1 1"/>'
    '<position joint="elbow" kp="20" dampratio="0.5" ctrlrange="-1 1"/>',
    "force limits": '<position joint="shoulder" kp="40" kv="2" ctrlrange="-1 1" '
    'forcerange="-3 2"/><position joint="elbow" kp="20" kv="1" ctrlrange="-.3 .3"/>',
    "gears": '<position joint="shoulder" kp="4" kv="0.2" gear="3" ctrlrange="-1 1"/>'
    '<position joint="elbow" kp="20" kv="1" gear="-1" ctrlrange="-1 1"/>',
    "velocity": '<velocity joint="shoulder" kv="3" ctrlrange="-1 1"/>'
    '<velocity joint="elbow" kv="2" ctrlrange="-1 1" forcerange="-.5 .5"/>',
    "motors": '<motor joint="shoulder" gear="2" ctrlrange="-1 1" forcerange="-.5 .4"/>'
    '<general joint="elbow" gainprm="2" ctrlrange="-1 1"/>',
    "mixed": '<motor joint="elbow" gear="2" ctrlrange="-1 1"/>'
    '<position joint="shoulder" kp="40" kv="2" ctrlrange="-1 1"/>'
    '<general joint="elbow" biastype="affine" gainprm="2" biasprm="1 -2 -.1" ctrlrange="-1 1"/>',
}


def write(folder: Path, actuators: str) -> Path:
    path = folder / "arm.xml"
    path.write_text(ARM.format(actuators))
    return path


def move(simulator: Any, steps: int, seed: int = 0) -> np.ndarray:
    """Rows [T, N, 4] of arms under random controls, some beyond their range."""
    ids, rng = np.arange(simulator.n), np.random.default_rng(seed)
    start = rng.uniform(-0.5, 0.5, (simulator.n, 2))
    simulator.reset(ids, start, np.zeros((simulator.n, 2)))
    rows = []
    for _ in range(steps):
        control = rng.uniform(-1.5, 1.5, (simulator.n, simulator.model.nu))
        assert not simulator.step(ids, control).any()
        rows.append(np.concatenate([simulator.qpos, simulator.qvel], axis=1))
    return np.array(rows)


@pytest.mark.parametrize("name", SERVOS)
def test_servos_move_as_in_mujoco(tmp_path: Path, name: str) -> None:
    """The same formula, before each time step: what differs is rounding, which an arm blows up."""
    path = write(tmp_path, SERVOS[name])
    ours = move(DartSimulator(path, (), 3, 10), 100)
    theirs = move(MujocoSimulator(path, (), 3, 10), 100)
    assert np.ptp(theirs[..., 0]) > 0.2
    assert np.allclose(ours[:10], theirs[:10], rtol=0, atol=1e-9)
    assert np.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_servo_settles_where_its_formula_says(tmp_path: Path) -> None:
    """kp (u - q) holds the arm's weight; against its limit the arm sinks."""
    simulator = DartSimulator(write(tmp_path, SERVOS["position"]), (), 2, 10)
    control = np.array([[0.2, -0.4], [-0.3, 0.5]])
    simulator.reset(np.arange(2), np.zeros((2, 2)), np.zeros((2, 2)))
    for _ in range(500):
        simulator.step(np.arange(2), control)
    assert np.abs(simulator.qvel).max() < 1e-6
    upper, lower = simulator.qpos.T
    elbow = 0.5 * 9.81 * 0.1 * np.cos(upper + lower)
    shoulder = (1.0 * 0.15 + 0.5 * 0.3) * 9.81 * np.cos(upper) + elbow
    assert np.allclose(20 * (control[:, 1] - lower), -elbow, atol=1e-6)
    assert np.allclose(40 * (control[:, 0] - upper), -shoulder, atol=1e-6)


def test_an_episode_begins_at_the_control_that_holds_it(tmp_path: Path) -> None:
    path = write(tmp_path, SERVOS["gears"])
    pose = np.array([[0.1, -0.2]])
    controls = []
    for kind in (DartSimulator, MujocoSimulator):
        simulator = kind(path, (), 1, 1)
        simulator.reset(np.array([0]), pose, 0 * pose)
        controls.append(simulator.control.copy())
    assert np.allclose(controls[0], [[0.3, 0.2]]) and np.allclose(*controls)


def test_strength_scales_gain_bias_and_limit(tmp_path: Path) -> None:
    """Half as strong, world by world, as in MuJoCo."""
    path = write(tmp_path, SERVOS["force limits"])
    found = []
    for kind in (DartSimulator, MujocoSimulator):
        simulator = kind(path, ("motor_strength",), 2, 10)
        simulator.set_parameters(np.arange(2), np.array([[1.0], [0.5]]))
        found.append(move(simulator, 20))
    assert np.allclose(*found, rtol=0, atol=1e-7)
    assert not np.allclose(found[0][:, 0], found[0][:, 1])


class Arm(tasks.Task):
    name = "arm"
    frame_skip = 10
    time_limit = 20
    observation_names = ("shoulder", "elbow", "shoulder velocity", "elbow velocity")

    def start(self, simulator, random):
        noise = random.uniform(-0.5, 0.5, 2)
        return noise, np.zeros_like(noise)

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def rewards(self, view, memory, action):
        return {"elbow": -np.abs(view.qpos[:, 1])}

    def progress(self, view):
        return view.qpos[:, 1].copy()


def test_a_task_with_servos_in_both_engines(tmp_path: Path, monkeypatch: Any) -> None:
    """Weakened, delayed by the neutral action, which holds the start: returns agree."""
    monkeypatch.setattr(tasks.TASKS, "_entries", dict(tasks.TASKS._entries))
    name = tasks.register(type("Own", (Arm,), {"model": write(tmp_path, SERVOS["position"])})).name

    def act(observations: np.ndarray) -> np.ndarray:
        return np.tanh(observations[:, :2])

    returns = []
    for engine in ("mujoco", "dart"):
        domain = f"{name}/engine={engine},weak_motors=0.5,action_delay=2"
        returns.append(isthmus.evaluate(act, domain, 8).episodes.returns)
    assert np.allclose(*returns, rtol=0, atol=1e-5) and returns[0].std() > 0.1
    assert "motor_strength" in parse_domain(f"{name}/engine=dart").table()
