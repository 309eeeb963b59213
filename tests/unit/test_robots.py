"""What robots share: sensors and their names, commands and pushes drawn on the way, and faults."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import own
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.random import keys
from isthmus.tasks.arm import Arm
from isthmus.tasks.command import Command, Push
from isthmus.tasks.observation import (
    Commanded,
    JointAngles,
    Orientation,
    Part,
    ProjectedGravity,
    Sensor,
    Velocity,
)
from isthmus.tasks.quadruped import Quadruped
from isthmus.tasks.robot import RobotTask
from isthmus.tasks.rotations import rotate, rotate_back, tilt_of
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import SimView, register
from isthmus.types import IsthmusError

N = 6


class Short(Quadruped):
    """Commands and pushes that change within a second."""

    name = "short_walk"
    command = Command({"forward [m/s]": (-1, 1), "left [m/s]": (0, 0.5), "turn [rad/s]": (-1, 1)},
                      seconds=(0.1, 0.3), rest=0.3)  # fmt: skip
    push = Push(speed=0.5, seconds=(0.2, 0.4))


@pytest.fixture(autouse=True)
def clean():
    register(Short)
    yield
    own.forget()


def begin(text: str, n: int = N) -> SteppedWorlds:
    return SteppedWorlds.new(parse_domain(text), keys(0, n))


def simulation(live: SteppedWorlds) -> PhysicsSimulation:
    assert isinstance(live.simulation, PhysicsSimulation)
    return live.simulation


def walk(live: SteppedWorlds, actions: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
    """Observations [T, n, O] of worlds under actions [T, N, A]."""
    ids = live.all if ids is None else ids
    seen = []
    for action in actions:
        live.step(ids, commanded=action[ids])
        seen.append(live.state["observation"][ids].copy())
    return np.array(seen)


def actions(steps: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.3, 0.3, (steps, N, size)).astype(np.float32)


# What is observed


def test_names_carry_units():
    names = Quadruped().observation_names
    assert len(names) == 48 and len(set(names)) == 48
    for name in ("gyro x [rad/s]", "FL_hip [rad]", "RR_knee velocity [rad/s]", "down z"):
        assert name in names
    assert "tip to goal x [m]" in Arm().observation_names


def look(parts: tuple[Part, ...], **attributes: Any) -> tuple[SteppedWorlds, np.ndarray]:
    task = register(type("Look", (Quadruped,), {"name": "look", "observed": parts, **attributes}))
    live = begin(task.name)
    return live, walk(live, actions(40))[-1]


def test_sensors_bodies_and_gravity_are_mujocos_own():
    parts = (Sensor("gyro"), Sensor("accelerometer"), Sensor("FL_foot"), Sensor("orientation"),
             Orientation("FL_shank"), Velocity("FL_shank"), ProjectedGravity())  # fmt: skip
    live, obs = look(parts)
    simulator: Any = simulation(live).simulator
    body = simulator.model.body("FL_shank").id
    np.testing.assert_array_equal(obs[2, 0:3], simulator.derived("sensordata")[2, 0:3])
    assert obs[2, 6] == simulator.derived("sensordata")[2, 13]
    np.testing.assert_array_equal(obs[2, 11:15], simulator.derived("xquat")[2, body])
    # MuJoCo's own function, of the state as it is now.
    fresh = mujoco.MjData(simulator.model)
    fresh.qpos[:], fresh.qvel[:] = simulator.qpos[2], simulator.qvel[2]
    mujoco.mj_forward(simulator.model, fresh)
    want = np.zeros(6)
    mujoco.mj_objectVelocity(simulator.model, fresh, mujoco.mjtObj.mjOBJ_XBODY, body, want, 0)
    simulator.batch.forward(np.array([2]))
    velocity = SimView(simulator, np.array([2])).velocity("FL_shank")[0]
    np.testing.assert_allclose(velocity, np.concatenate([want[3:], want[:3]]), atol=1e-9)
    matrix = fresh.body("trunk").xmat.reshape(3, 3)
    np.testing.assert_allclose(obs[2, 21:24], matrix.T @ [0, 0, -1], atol=1e-9)


def test_rotations():
    random = np.random.default_rng(0)
    quaternion = random.normal(size=(20, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    vector, want = random.normal(size=(20, 3)), np.zeros(3)
    for q, v, got in zip(quaternion, vector, rotate(quaternion, vector), strict=True):
        mujoco.mju_rotVecQuat(want, v, q)
        np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_allclose(rotate_back(quaternion, rotate(quaternion, vector)), vector)
    down = rotate_back(quaternion, np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(rotate(tilt_of(down), down), np.tile([0, 0, -1], (20, 1)), atol=1e-9)
    upside_down = np.array([[0.0, 0.0, 1.0]])
    np.testing.assert_allclose(rotate(tilt_of(upside_down), upside_down), -upside_down, atol=1e-9)


# What is told, and what pushes


def test_a_worlds_commands_and_pushes_are_its_own():
    everyone = walk(begin("short_walk"), actions(60))
    some = walk(begin("short_walk"), actions(60), np.array([1, 4]))
    np.testing.assert_array_equal(everyone[:, [1, 4]], some)
    told = everyone[..., 9:12]
    changes = (np.diff(told[..., 0], axis=0) != 0).sum(axis=0)
    assert (changes >= 2).all() and len(np.unique(told[:, 0, 0])) > 3
    assert told[..., 1].min() >= 0 and np.abs(told).max() <= 1
    assert 0.1 < (told == 0).all(axis=-1).mean() < 0.6


def test_pushes_come_and_move():
    quiet = type("Quiet", (Short,), {"name": "quiet_walk", "push": None})
    register(quiet)
    pushed, still = walk(begin("short_walk"), actions(30)), walk(begin("quiet_walk"), actions(30))
    np.testing.assert_array_equal(pushed[:8], still[:8])
    assert (np.abs(pushed[-1] - still[-1]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("text", ["short_walk/kp=x0.8..x1.2,action_delay=1", "arm/kp=x0.8..x1.2"])
def test_worlds_go_on_to_the_bit(text):
    domain = parse_domain(text)
    chosen = actions(40, len(domain.spaces.low))
    live = SteppedWorlds.new(domain, keys(0, N))
    walk(live, chosen[:17])
    value = live.worlds()
    end = walk(live, chosen[17:])
    np.testing.assert_array_equal(walk(SteppedWorlds.resume(domain, value), chosen[17:]), end)


def test_threads_change_no_bit(monkeypatch):
    ends = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ISTHMUS_THREADS", threads)
        own.tiny.forget_simulations()
        ends.append(walk(begin("short_walk"), actions(30)))
    np.testing.assert_array_equal(ends[0], ends[1])


def test_the_neutral_action_is_the_start():
    live = begin("quadruped/action_delay=1")
    simulator = simulation(live).simulator
    actuation = Quadruped().find_actuation()
    told = actuation.control(simulation(live).neutral_action(live.all))
    np.testing.assert_allclose(told, simulator.qpos[:, actuation.angles], atol=1e-7)


# What does not fit


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"observed": (Sensor("gyros"),)}, "unknown sensor of the model 'gyros'; did you mean gyro"),
    ({"observed": (Orientation("trunc"),)}, "unknown body of the model 'trunc'"),
    ({"observed": (Commanded(),), "command": None}, "observes a command and has none"),
    ({"command": Command({"x [m/s]": (1, -1)})}, "x [m/s] has the range 1..-1"),
    ({"command": Command({"x [m/s]": (0, float("inf"))})}, "both are finite"),
    ({"command": Command({})}, "has no ranges"),
    ({"command": Command({"x [m/s]": (0, 1)}, seconds=(0, 1))}, "seconds=0..1"),
    ({"command": Command({"x [m/s]": (0, 1)}, rest=2)}, "rest=2; it is a share"),
    ({"push": Push(speed=-1, seconds=(1, 2))}, "speed=-1"),
    ({"servo": None}, "has no servo"),
    ({"keyframe": "hme"}, "unknown keyframe of quadruped.xml 'hme'"),
    ({"feet": ("FL_feet",)}, "unknown sensor of the model 'FL_feet'"),
]  # fmt: skip


@pytest.mark.parametrize("attributes, said", FAULTS, ids=[said for _, said in FAULTS])
def test_faults_are_a_line(attributes, said):
    with pytest.raises(IsthmusError) as error:
        register(type("Faulty", (Quadruped,), {"name": "faulty", **attributes}))
        parse_domain("faulty").ready()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_base_that_does_not_float_is_a_line():
    class Fixed(RobotTask):
        name, model, frame_skip, main_body = "fixed", Arm.model, 4, "base"
        servo, observed = Servo(), (JointAngles(), ProjectedGravity())

    register(Fixed)
    with pytest.raises(IsthmusError, match="base has no free joint"):
        parse_domain("fixed").ready()
