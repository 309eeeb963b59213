"""Position targets: torques at every physics step, gains as parameters, and what does not fit."""

from __future__ import annotations

import mujoco
import numpy as np
import own
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.mujoco import load_model
from isthmus.physics.random import keys
from isthmus.tasks.servo import Servo
from isthmus.types import IsthmusError

TORQUE = '<motor name="hip" joint="hip" ctrlrange="-9 9" gear="2"/>'
LINED = Servo(scale=0.5, kp=40, kd=1.5, effort=6, speed=3, stall=8)
N, STEPS = 5, 20


@pytest.fixture(autouse=True)
def clean():
    yield
    own.forget()


def register(folder, actuators=TORQUE, servo=LINED, **attributes):
    return own.register(
        folder, actuators, base=own.Leg, servo=servo, time_limit=1000, keyframe="home", **attributes
    )


def begin(text: str, n: int = N) -> SteppedWorlds:
    return SteppedWorlds.new(parse_domain(text), keys(0, n))


def simulation(live: SteppedWorlds) -> PhysicsSimulation:
    assert isinstance(live.simulation, PhysicsSimulation)
    return live.simulation


def actions(n: int = N) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (STEPS, n, 1)).astype(np.float32)


def test_the_law_is_that_of_a_loop_over_physics_steps(tmp_path):
    live = begin(register(tmp_path))
    model = load_model(tmp_path / "leg.xml")
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.ctrl[:] = 0
    for action in actions():
        live.step(live.all, commanded=action)
        for _ in range(own.Leg.frame_skip):
            speed = data.qvel[6]
            torque = 40 * (0.8 + 0.5 * np.float64(action[2, 0]) - data.qpos[7]) - 1.5 * speed
            high = np.clip(8 - 8 / 3 * speed, 0, 6)
            low = -np.clip(8 + 8 / 3 * speed, 0, 6)
            data.ctrl[:] = np.clip(torque, low, high) / 2
            mujoco.mj_step(model, data)
    np.testing.assert_allclose(live.simulation.rows[2, 1:9], data.qpos, rtol=1e-9, atol=1e-12)
    assert abs(data.qpos[7] - 0.8) > 1e-2


@pytest.mark.parametrize("text", ["", "/kp=x0.5..x2,hip_kd=1..2"])
def test_one_thread_and_two_give_the_same_bits(tmp_path, monkeypatch, text):
    name = register(tmp_path)
    rows = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ISTHMUS_THREADS", threads)
        own.tiny.forget_simulations()
        live = begin(name + text)
        for action in actions():
            live.step(live.all, commanded=action)
        rows.append(live.simulation.rows.copy())
    assert np.array_equal(rows[0], rows[1])


def test_worlds_go_on_to_the_bit_and_alone(tmp_path):
    domain = parse_domain(f"{register(tmp_path)}/kp=x0.5..x2")
    live = SteppedWorlds.new(domain, keys(0, N))
    first, second = actions()[: STEPS // 2], actions()[STEPS // 2 :]
    for action in first:
        live.step(live.all, commanded=action)
    value = live.worlds()
    for action in second:
        live.step(live.all, commanded=action)
    rows = live.simulation.rows.copy()
    again = SteppedWorlds.resume(domain, value)
    for action in second:
        again.step(np.array([1, 3]), commanded=action[[1, 3]])
    assert np.array_equal(again.simulation.rows[[1, 3]], rows[[1, 3]])


def swing(text: str) -> float:
    """The angle of a leg after three steps on its way to another target."""
    live = begin(text, 1)
    for _ in range(3):
        live.step(live.all, commanded=np.full((1, 1), 0.5, np.float32))
    return float(simulation(live).simulator.qpos[0, 7])


@pytest.mark.parametrize("actuators, servo", [
    (TORQUE, Servo(kp=40, kd=1)),
    ('<position joint="hip" kp="40" kv="1" ctrlrange="-2 2"/>', Servo()),
])  # fmt: skip
def test_gains_are_parameters(tmp_path, actuators, servo):
    name = register(tmp_path, actuators, servo)
    table = parse_domain(name).table()
    assert table["hip_kp"].default == 40 and table["hip_kd"].default == 1
    assert (table["hip_kp"].unit, table["kp"].unit) == ("N m/rad", "x")
    moved = [swing(f"{name}/{part}") for part in ("kp=x1", "kp=x0.5", "hip_kp=20")]
    assert moved[0] == swing(name) and moved[1] == moved[2] != moved[0]


def test_a_weaker_spring_hangs_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "MODEL", own.MODEL.replace('<freejoint name="root"/>', "").replace(
        'gravity="0 0 0"', "").replace("0 0 1 1 0 0 0 0.8", "0.8"))  # fmt: skip

    def observe(self, view):
        return np.tile(view.qpos, (1, 15))

    name = own.register(
        tmp_path, TORQUE, servo=Servo(kp=40, kd=2), observe=observe, keyframe="home"
    )

    def find_angle(text):
        live = begin(text, 1)
        for _ in range(300):
            live.step(live.all, commanded=np.zeros((1, 1), np.float32))
        return float(simulation(live).simulator.qpos[0, 0])

    assert 0.8 > find_angle(name) > find_angle(f"{name}/kp=x0.5") > 0
    assert find_angle(f"{name}/weak_motors=0.5") == find_angle(f"{name}/motor_strength=0.5")
    stiff = find_angle(name)
    assert 40 * (0.8 - stiff) == pytest.approx(9.81 * 0.2 * np.sin(stiff), rel=0.02)


def test_the_neutral_action_is_the_start(tmp_path):
    live = begin(f"{register(tmp_path)}/action_delay=2", 1)
    simulator = simulation(live).simulator
    for _ in range(2):
        live.step(live.all, commanded=np.ones((1, 1), np.float32))
        assert simulator.qpos[0, 7] == pytest.approx(0.8, abs=1e-9)
    live.step(live.all, commanded=np.ones((1, 1), np.float32))
    assert simulator.qpos[0, 7] > 0.81


def test_dart_refuses_in_one_line(tmp_path):
    name = register(tmp_path)
    with pytest.raises(IsthmusError, match="engine=dart") as error:
        parse_domain(f"{name}/engine=dart").ready()
    assert "\n" not in str(error.value)


POSITION = '<position name="hip" joint="hip" kp="40" ctrlrange="-2 2"/>'
FREE = '<motor name="hip" joint="hip"/>'
FAULTS = [
    (TORQUE, Servo(kp=-1, kd=1), "kp of hip is -1; it needs a number 0 or more"),
    (TORQUE, Servo(kp=1, kd=-1), "kd of hip is -1"),
    (TORQUE, Servo(kp=1, kd=1, effort=0), "effort of hip is 0; it needs a number above 0"),
    (TORQUE, Servo(kp=1, kd=1, speed=0), "speed of hip is 0"),
    (TORQUE, Servo(kp=float("nan"), kd=1), "kp of hip is nan"),
    (TORQUE, Servo(kp={"knee": 1}, kd=1), "no kp for joint hip; kp has knee"),
    (TORQUE, Servo(kp={"hip": 1, "knee": 1}, kd=1), "'knee'"),
    (TORQUE, Servo(kp=1), "kp and kd go together"),
    (TORQUE, Servo(), "is no <position> servo; give kp and kd"),
    (POSITION, Servo(kp=1, kd=1), "is no torque <motor>"),
    (FREE, Servo(kp=1, kd=1), "has no ctrlrange; give its effort"),
]


@pytest.mark.parametrize("actuators, servo, said", FAULTS, ids=[said for _, _, said in FAULTS])
def test_what_does_not_fit_is_a_line(tmp_path, actuators, servo, said):
    with pytest.raises(IsthmusError) as error:
        parse_domain(register(tmp_path, actuators, servo)).ready()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_pose_beyond_the_limits_is_a_line(tmp_path, monkeypatch):
    limited = own.MODEL.replace('<joint name="hip"', '<joint name="hip" range="-30 30"')
    monkeypatch.setattr(own, "MODEL", limited)
    with pytest.raises(IsthmusError, match=r"the pose has hip at 0\.8, beyond its limits -0\.52"):
        parse_domain(register(tmp_path)).ready()
