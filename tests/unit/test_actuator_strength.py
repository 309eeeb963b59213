"""Strength scales the force of every kind of actuator, at every state; damping, armature and names
are the whole model's.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from isthmus.audit.audit import audit
from isthmus.domains.domain import RobotDomain
from isthmus.domains.effects import EFFECTS
from isthmus.domains.parse import parse_domain
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.mujoco import (
    MujocoSimulator,
    action_scales_force,
    load_model,
    load_parameters,
    load_withheld,
)
from isthmus.tasks.task import Task, register
from isthmus.types import BadValue, UnknownName

ROBOT = """
<mujoco>
  <extension><plugin plugin="mujoco.pid"/></extension>
  <option gravity="0 0 0" {option}><flag {flag}/></option>
  <worldbody>
    <geom type="plane" size="5 5 1"/><site name="reference"/>
    <body name="arm" pos="0 0 {height}">
      <joint name="a" type="hinge" axis="0 1 0" damping=".5" {joint}/>
      <geom name="arm" type="capsule" fromto="0 0 0 .3 0 0" size=".05" mass="1"/>
      <site name="tip" pos=".3 0 0"/>
      <body name="hand" pos=".3 0 0">
        <joint name="b" type="hinge" axis="0 0 1"/><geom type="box" size=".1 .1 .1" mass="1"/>
        <body name="ball" pos=".2 0 0"><joint name="c" type="ball"/><geom size=".05" mass=".5"/></body>
      </body>
    </body>
  </worldbody>
  <tendon><fixed name="cord" {tendon}><joint joint="a" coef=".5"/><joint joint="b" coef="-1.5"/></fixed></tendon>
  <actuator>{actuators}</actuator>
</mujoco>"""  # noqa: E501


def write(folder: Path, actuators: str, **parts: str) -> Path:
    """Write a robot of a hinge, a second one and a ball joint; `height` 0 lets it touch the
    floor.
    """
    path = folder / "robot.xml"
    empty = {"option": "", "flag": "", "joint": "", "tendon": "", "height": "3"}
    path.write_text(ROBOT.format(actuators=actuators, **(empty | parts)))
    for cached in (load_model, load_parameters, load_withheld, action_scales_force):
        cached.cache_clear()
    return path


def write_hinge(folder: Path, actuators: str, joint: str = 'damping=".5"') -> Path:
    """Write a robot that is one hinge, without gravity."""
    path = folder / "robot.xml"
    path.write_text(f"""
        <mujoco><option gravity="0 0 0"/>
        <worldbody><body name="arm"><joint name="a" axis="0 1 0" {joint}/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".05" mass="1"/></body></worldbody>
        <actuator>{actuators}</actuator></mujoco>""")
    for cached in (load_model, load_parameters, load_withheld, action_scales_force):
        cached.cache_clear()
    return path


def spin(path: Path, **values: float) -> float:
    """What is left of 10 rad/s at joint `a` after a second."""
    simulator = make(path, **values)
    simulator.reset(np.arange(1), np.zeros((1, 1)), np.full((1, 1), 10.0))
    for _ in range(500):
        simulator.step(np.arange(1), np.zeros((1, simulator.model.nu)))
    return float(simulator.qvel[0, 0])


def make(path: Path, **values: float) -> MujocoSimulator:
    """One world with these values."""
    simulator = MujocoSimulator(path, tuple(values), 1, 1)
    simulator.set_parameters(np.arange(1), np.array([list(values.values())]).reshape(1, -1))
    return simulator


def forces(path: Path, states: int = 20, **values: float) -> np.ndarray:
    """The actuators' forces on the joints [states, nv] at random states, as MuJoCo computes
    them.
    """
    model = make(path, **values).world_model(0)
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    out = []
    for _ in range(states):
        data.qpos[:] = random.uniform(-1, 1, model.nq)
        mujoco.mj_normalizeQuat(model, data.qpos)
        data.qvel[:] = random.uniform(-3, 3, model.nv)
        data.ctrl[:] = random.uniform(0, 1, model.nu)
        data.act[:] = random.uniform(0, 1, model.na)
        mujoco.mj_forward(model, data)
        out.append(data.qfrc_actuator.copy())
    return np.array(out)


ONE_JOINT = {
    "motor": '<motor joint="a" gear="3"/>',
    "motor, clamped": '<motor joint="a" gear="3" forcerange="-.3 .3"/>',
    "motor with damping and rotor": '<motor joint="a" gear="3" damping=".2" armature=".1"/>',
    "motor with a lag": '<general joint="a" gear="3" dyntype="filter" dynprm=".1"/>',
    "position": '<position joint="a" kp="20" kv="2" gear="3"/>',
    "position, clamped": '<position joint="a" kp="20" dampratio="1" forcerange="-4 6"/>',
    "velocity": '<velocity joint="a" kv="2" gear="2"/>',
    "intvelocity": '<intvelocity joint="a" kp="4" actrange="-1 1"/>',
    "damper": '<damper joint="a" kv="2" ctrlrange="0 1" gear="2"/>',
    "cylinder": '<cylinder joint="a" area="2" timeconst=".1" bias=".3 -1 -.5"/>',
    "muscle": '<muscle joint="a" lengthrange="-1 1" ctrlrange="0 1"/>',
    "muscle of known force": '<muscle joint="a" force="70" lengthrange="-1 1" ctrlrange="0 1"/>',
    "affine": '<general joint="a" gaintype="affine" gainprm="2 1 -.5" biastype="affine" '
    'biasprm=".4 -3 -1" gear="2"/>',
    "muscle's bias": '<general joint="a" gainprm="2" biastype="muscle" biasprm=".75 1.05 30 '
    '200 .5 1.6 1.5 1.3 1.2"'
    ' lengthrange="-1 1"/>',
    "in parent": '<position jointinparent="a" kp="7"/>',
    "pid": '<pid joint="a" kp="10" kv="1" input="pos vel"/>',
    "pid with an integral": '<pid joint="a" kp="10" ki="3"/>',
    "two servos": '<position joint="a" kp="20" ctrlrange="-1 1"/><velocity joint="a" kv="2"/>',
}
ELSEWHERE = {
    "motor of a tendon": '<motor tendon="cord" gear="2"/>',
    "servo of a tendon": '<position tendon="cord" kp="9" kv="1" gear="2"/>',
    "motor of a site": '<motor site="tip" gear="0 0 1 0 1 0"/>',
    "servo of a site": '<position site="tip" refsite="reference" kp="8" gear="1 0 1 0 0 0"/>',
    "crank": '<position cranksite="tip" slidersite="reference" cranklength="2" kp="5"/>',
    "adhesion": '<adhesion body="hand" gain="5" ctrlrange="0 1"/>',
    "servo of a ball": '<position joint="c" kp="5" gear="0 0 2"/>',
    "geodesic servo": '<orientation joint="c" kp="5" kv="1" forcerange="0 4"/>',
}


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.5])
@pytest.mark.parametrize("kind", [*ONE_JOINT, *ELSEWHERE])
def test_strength_scales_the_force_at_every_state(kind, factor, tmp_path):
    path = write(tmp_path, (ONE_JOINT | ELSEWHERE)[kind], height="0" if kind == "adhesion" else "3")
    usual, names = forces(path), ["motor_strength"] + ["a_strength"] * (kind in ONE_JOINT)
    assert np.abs(usual).max() > 0.01
    for name in names:
        assert np.allclose(
            forces(path, **{name: factor}), factor * usual, rtol=1e-12, atol=1e-13
        ), name
        assert "force" in load_parameters(path)[name].meaning
        assert load_parameters(path)[name].unit == "x"


@pytest.mark.parametrize("kind", ONE_JOINT)
def test_a_joints_strength_leaves_other_motors(kind, tmp_path):
    path = write(tmp_path, ONE_JOINT[kind] + '<position joint="b" kp="3"/>')
    usual, weak = forces(path), forces(path, a_strength=0.5)
    assert np.array_equal(weak[:, 1], usual[:, 1]) and usual[:, 1].any()
    assert np.allclose(weak[:, 0], 0.5 * usual[:, 0], rtol=1e-12)
    both = forces(path, a_strength=0.5, motor_strength=3.0)
    assert np.allclose(both, [1.5, 3, 0, 0, 0] * usual, rtol=1e-12)


def test_strength_scales_a_joints_and_a_tendons_limit_of_force(tmp_path):
    """Limits bind at other forces, so that all of it is half at every state, also where they do."""
    actuators = '<velocity joint="a" kv="9"/><position tendon="cord" kp="40"/>'
    path = write(
        tmp_path, actuators, joint='actuatorfrcrange="-2 1"', tendon='actuatorfrcrange="-1 1"'
    )
    usual = forces(path)
    assert usual[:, 0].max() == 1 and usual[:, 0].min() == -2 and np.isclose(usual[:, 1].max(), 1.5)
    assert np.allclose(forces(path, motor_strength=0.5), 0.5 * usual, rtol=1e-12)
    assert "limits of the actuator force" in load_parameters(path)["motor_strength"].meaning


def test_a_weak_motor_with_its_own_damping_and_rotor_keeps_them(tmp_path):
    """They reach the joint by the gear's square, which therefore stays."""
    path = write(tmp_path, '<motor joint="a" gear="3" damping=".2" armature=".1"/>')
    usual = damping_and_inertia(path)
    assert np.isclose(usual[0][0], -2.0 * (0.5 + 0.2 * 9))
    for name in ("a_strength", "motor_strength"):
        assert np.array_equal(damping_and_inertia(path, **{name: 0.5, "density": 1.0}), usual)


def settle(path: Path, target: float, **values: float) -> float:
    """Where joint `a` comes to rest."""
    simulator = make(path, **values)
    for _ in range(4000):
        simulator.step(np.arange(1), np.full((1, simulator.model.nu), target))
    assert abs(simulator.qvel[0, 0]) < 1e-3
    return float(simulator.qpos[0, 0])


@pytest.mark.parametrize("name", ["a_strength", "motor_strength"])
@pytest.mark.parametrize("gear", [1, 2])
def test_a_weak_servo_settles_where_it_is_told(name, gear, tmp_path):
    path = write_hinge(tmp_path, f'<position joint="a" kp="20" ctrlrange="-1 1" gear="{gear}"/>')
    for factor in (1.0, 0.5, 3.0):
        assert np.isclose(settle(path, 0.6, **{name: factor}), 0.6 / gear, atol=1e-3)


PLUGIN = '<plugin joint="a" plugin="mujoco.pid"><config key="kp" value="4"/></plugin>'


@pytest.mark.parametrize(
    ("actuator", "reason"),
    [
        (
            '<dcmotor name="hub" joint="a" motorconst="1" resistance="2"/>',
            "'hub' cannot be scaled: a DC motor's force",
        ),
        ('<pid joint="a" kp="10" kv="1" input="pos vel ff"/>', "cannot be scaled: its feedforward"),
        (PLUGIN, "its force is a plugin's"),
        ('<general joint="a" gaintype="user"/>', "a user's callback"),
        ('<general joint="a" gaintype="fixed" biastype="user"/>', "a user's callback"),
    ],
)
def test_a_force_that_no_number_scales_has_no_strength_and_a_reason(actuator, reason, tmp_path):
    write(tmp_path, actuator + '<position joint="b" kp="1" ctrlrange="-1 1"/>')
    name = task_of(tmp_path)
    assert not {"a_strength", "motor_strength"} & set(RobotDomain(name).table())
    for text in ("a_strength=x0.5", "motor_strength=2", "weak_motors=0.5"):
        with pytest.raises(BadValue, match=reason) as error:
            parse_domain(f"{name}/{text}")
        assert text.partition("=")[0] in str(error.value) and "\n" not in str(error.value)
    assert parse_domain(f"{name}/b_strength=x0.5,a_damping=2").names == ("a_damping", "b_strength")
    with pytest.raises(UnknownName):
        parse_domain(f"{name}/c_strength=1")


# Tasks of one's own.


def task_of(folder: Path) -> str:
    """Register a task for `robot.xml`; its name."""
    title, xml = f"own_{folder.name}", load_model(folder / "robot.xml")

    class Own(Task):
        name, model, frame_skip, time_limit = title, folder / "robot.xml", 5, 400
        observation_names = tuple(str(i) for i in range(xml.nq + xml.nv))

        def start(self, simulator, random):
            n = random.uniform(0.0, 1.0, 1).shape[0]
            return np.tile(simulator.qpos0, (n, 1)), np.zeros((n, simulator.nv))

        def observe(self, view):
            return np.concatenate([view.qpos, view.qvel], axis=1)

        def remember(self, view):
            return np.zeros((len(view.ids), 0))

        def rewards(self, view, memory, action):
            return {"alive": np.ones(len(view.ids))}

        def progress(self, view):
            return view.qpos[:, 0].copy()

    register(Own)
    return title


def play(text: str, action: list[float], steps: int, n: int = 2) -> np.ndarray:
    """Positions of joint `a` over time [steps, n]."""
    domain = parse_domain(text)
    live = SteppedWorlds.resume(domain, domain.worlds(n, seed=0))
    out = []
    for _ in range(steps):
        live.step(live.all, commanded=np.tile(np.array(action, np.float32), (n, 1)))
        out.append(live.state["observation"][:, 0].copy())
    return np.array(out)


SERVOS = {
    "motor": '<motor joint="a" ctrlrange="-1 1"/>',
    "position": '<position joint="a" kp="20" kv="4" ctrlrange="-1 1"/>',
    "intvelocity": '<intvelocity joint="a" kp="20" actrange="-2 2" ctrlrange="-1 1"/>',
    "muscle": '<muscle joint="a" force="30" lengthrange="-2 2" ctrlrange="0 1"/>',
    "clamped motor": '<motor joint="a" gear="3" forcerange="-.2 .2" ctrlrange="-1 1"/>',
    "motor that always pushes": '<motor joint="a" ctrlrange=".5 1"/>',
}


@pytest.mark.parametrize("kind", [kind for kind in SERVOS if kind != "motor"])
def test_weak_motors_are_of_less_strength_where_the_action_is_no_force(kind, tmp_path):
    write(tmp_path, SERVOS[kind])
    task = task_of(tmp_path)
    usual, weak = play(task, [0.6], 40), play(f"{task}/weak_motors=0.5", [0.6], 40)
    assert np.array_equal(weak, play(f"{task}/motor_strength=0.5", [0.6], 40))
    assert not np.allclose(weak, usual)
    both = play(f"{task}/weak_motors=0.5,motor_strength=0.4,a_damping=0.7", [0.6], 40)
    assert np.array_equal(both, play(f"{task}/motor_strength=0.2,a_damping=0.7", [0.6], 40))
    assert str(parse_domain(f"{task}/weak_motors=0.5")) == f"{task}/weak_motors=0.5"
    assert parse_domain(f"{task}/weak_motors=0.5").spaces.parameters == 0


def test_weak_motors_leave_a_servos_target(tmp_path):
    write(tmp_path, SERVOS["position"])
    assert np.allclose(play(f"{task_of(tmp_path)}/weak_motors=0.5", [0.6], 390)[-1], 0.6, atol=1e-3)


def test_weak_motors_scale_a_torque_motors_action_to_the_bit(tmp_path):
    write(tmp_path, '<motor joint="a" gear="3" ctrlrange="-1 1"/>')
    task = task_of(tmp_path)
    weak = play(f"{task}/weak_motors=0.5", [0.6], 40)
    assert np.array_equal(weak, play(task, [np.float32(0.6) * np.float32(0.5)], 40))
    assert parse_domain(f"{task}/weak_motors=0.5").motor_force is None


def test_dart_weakens_motors_as_mujoco_does(tmp_path):
    """Pushes of 0.5 to 1 cannot be scaled by the action, which is clipped to them."""
    pytest.importorskip("dartpy")
    write_hinge(tmp_path, SERVOS["motor that always pushes"])
    task = task_of(tmp_path)
    weak = play(f"{task}/engine=dart,weak_motors=0.5", [0.5], 40)
    assert np.array_equal(weak, play(f"{task}/engine=dart,motor_strength=0.5", [0.5], 40))
    assert (
        np.allclose(weak, play(f"{task}/weak_motors=0.5", [0.5], 40), atol=1e-2)
        and weak[-1, 0] > 0.1
    )


def test_weak_motors_scale_the_action_where_nobody_knows_the_motors(tmp_path):
    foreign = parse_domain("gym:Pendulum-v1/step_seconds=0.05,weak_motors=0.5")
    action = np.array([[0.8]], np.float32)
    assert foreign.action_scales_force()
    assert (
        foreign.effect_chain().act(np.empty((1, 0)), commanded=action, applied=action).tolist()
        == (action / 2).tolist()
    )
    assert "not ours: the applied action" in EFFECTS["weak_motors"].meaning
    write(tmp_path, SERVOS["position"])
    logged = parse_domain(f"log:{task_of(tmp_path)}/weak_motors=0.5")
    assert logged.effect_chain().effects == () and logged.spaces.action == 1


def test_weak_worlds_continue_from_their_value(tmp_path):
    """Worlds that are put back keep their weak motors, also in a simulation that had others."""
    write(tmp_path, SERVOS["position"])
    domain = parse_domain(f"{task_of(tmp_path)}/weak_motors=0.5,a_damping=0.1..2")
    live = SteppedWorlds.resume(domain, domain.worlds(3, seed=0))
    action = np.full((3, 1), 0.6, np.float32)
    live.step(live.all, commanded=action)
    saved = live.worlds()
    live.step(live.all, commanded=action)
    again = SteppedWorlds.resume(domain, saved)
    again.step(again.all, commanded=action)
    assert np.array_equal(again.worlds().rows, live.worlds().rows)


def test_the_audit_weakens_servos_as_domains_do(tmp_path):
    write(tmp_path, SERVOS["position"] + '<motor joint="b" ctrlrange="-1 1"/>')
    task = task_of(tmp_path)

    def found(target: str) -> float:
        return audit(
            parse_domain(task), parse_domain(f"{task}/{target}"), episodes=2
        ).effect.one_step

    assert found("weak_motors=0.5") == found("motor_strength=0.5") > 0
    assert found("weak_motors=1") == 0


# Gravity compensation through the actuators.

WEIGHT = 9.81 * 0.15  # N m at joint `a` of one link, held out level
THROUGH = 'actuatorgravcomp="true"'
LINK = '<geom type="capsule" fromto="0 0 0 .3 0 0" size=".05" mass="1"/>'


def write_compensated(
    folder: Path, a: str, b: str | None = None, actuators: str = "", option: str = ""
) -> Path:
    """Write an arm whose links are compensated: of joint `a`, and of `b` behind it where something
    is said of that.
    """
    hand = (
        f'<body pos=".3 0 0" gravcomp="1"><joint name="b" axis="0 1 0" {b}/>{LINK}</body>'
        if b is not None
        else ""
    )
    path = folder / "robot.xml"
    path.write_text(f"""
        <mujoco>{option}<worldbody><body gravcomp="1"><joint name="a" axis="0 1 0" damping="1" {a}/>{LINK}
        {hand}</body></worldbody><actuator>{actuators or SERVOS["motor"]}</actuator></mujoco>""")  # noqa: E501
    for cached in (load_model, load_parameters, load_withheld, action_scales_force):
        cached.cache_clear()
    return path


@pytest.mark.parametrize("kind", ["motor", "position", "clamped motor"])
def test_strength_scales_gravity_compensation_that_acts_through_the_actuators(kind, tmp_path):
    """MuJoCo counts it in `qfrc_actuator`: an arm that it holds level falls where its motors have
    no strength.
    """
    path = write_compensated(tmp_path, THROUGH, actuators=SERVOS[kind])
    task, usual = task_of(tmp_path), forces(path)
    data = mujoco.MjData(load_model(path))
    mujoco.mj_forward(load_model(path), data)
    assert np.allclose(data.qfrc_actuator, -WEIGHT)
    for name in ("a_strength", "motor_strength"):
        for factor in (0.0, 0.5, 2.5):
            assert np.allclose(
                forces(path, **{name: factor}), factor * usual, rtol=1e-12, atol=1e-13
            )
        assert "gravity compensation through the actuators" in load_parameters(path)[name].meaning
    assert np.allclose(play(task, [0.0], 300)[-1], 0.0)
    fallen = play(f"{task}/motor_strength=0", [0.0], 300)
    assert np.allclose(fallen[-1], np.pi / 2, atol=0.05)
    assert np.array_equal(play(f"{task}/weak_motors=0", [0.0], 300), fallen)


def test_a_limit_of_force_and_the_compensation_within_it_are_scaled_together(tmp_path):
    path = write_compensated(
        tmp_path, THROUGH + ' actuatorfrcrange="-1 1"', actuators=SERVOS["position"]
    )
    usual = forces(path)
    assert usual.min() == -1
    assert np.allclose(forces(path, motor_strength=0.5), 0.5 * usual, rtol=1e-12)


def test_compensation_through_all_joints_is_scaled_for_all_but_not_for_one(tmp_path):
    """Scaling the hand's for one joint alone would change the other's."""
    path = write_compensated(
        tmp_path, THROUGH, THROUGH, SERVOS["motor"] + '<motor joint="b" ctrlrange="-1 1"/>'
    )
    usual, task = forces(path), task_of(tmp_path)
    assert (
        np.allclose(forces(path, motor_strength=0.5), 0.5 * usual, rtol=1e-12)
        and usual.any(0).all()
    )
    assert np.array_equal(
        play(f"{task}/weak_motors=.5", [0, 0], 40), play(f"{task}/motor_strength=.5", [0, 0], 40)
    )
    for name, other in (("a", "b"), ("b", "a")):
        with pytest.raises(
            BadValue,
            match=f"joint '{name}' has actuatorgravcomp, .* without that of joint '{other}'",
        ):
            parse_domain(f"{task}/{name}_strength=0.5")


@pytest.mark.parametrize(
    ("a", "b", "offered"), [(THROUGH, "", "b_strength"), ("", THROUGH, "a_strength")]
)
def test_compensation_that_acts_elsewhere_too_withholds_strength(a, b, offered, tmp_path):
    """The other joint's is a passive force, which would be scaled with it."""
    path = write_compensated(
        tmp_path, a, b, SERVOS["motor"] + '<motor joint="b" ctrlrange="-1 1"/>'
    )
    task = task_of(tmp_path)
    refused = {"a_strength", "b_strength"} - {offered}
    for name in (*refused, "motor_strength", "weak_motors"):
        with pytest.raises(
            BadValue, match="has actuatorgravcomp, so that its motors' force includes"
        ) as error:
            parse_domain(f"{task}/{name}=0.5")
        assert name in str(error.value) and "\n" not in str(error.value)
    column = "ab".index(offered[0])
    usual, weak = forces(path), forces(path, **{offered: 0.5})
    assert np.allclose(weak[:, column], 0.5 * usual[:, column], rtol=1e-12)
    assert np.array_equal(weak[:, 1 - column], usual[:, 1 - column]) and usual.any(0).all()


@pytest.mark.parametrize(
    "option", ['<option gravity="0 0 0"/>', '<option><flag gravity="disable"/></option>']
)
def test_without_gravity_nothing_is_compensated(option, tmp_path):
    path = write_compensated(tmp_path, THROUGH, "", option=option)
    assert action_scales_force(path) and load_parameters(path)["a_strength"].fields == (
        "actuator_gear",
    )


def test_compensation_as_a_passive_force_is_no_motors(tmp_path):
    """The arm hangs on in its place whatever its motors' strength."""
    path = write_compensated(tmp_path, "")
    assert action_scales_force(path) and load_parameters(path)["motor_strength"].fields == (
        "actuator_gear",
    )
    assert np.allclose(play(f"{task_of(tmp_path)}/motor_strength=0", [0.0], 100)[-1], 0.0)


# Actuators with several controls.


def test_actuators_with_several_controls_have_parameters_and_spaces(tmp_path):
    path = write(
        tmp_path,
        '<pid joint="a" kp="20" kv="4" input="pos vel" posrange="-1 1" velrange="-5 5"/>'
        '<motor joint="b" ctrlrange="-2 2"/>',
    )
    assert {"a_strength", "a_damping", "b_strength", "motor_strength"} <= set(load_parameters(path))
    task = task_of(tmp_path)
    assert RobotDomain(task).spaces.high.tolist() == [1, 5, 2]
    for text in (task, f"{task}/a_strength=0.5", f"{task}/weak_motors=0.5"):
        assert np.allclose(play(text, [0.4, 0.05, 0.0], 390)[-1], 0.4 + (4 * 0.05) / 20, atol=2e-3)


@pytest.mark.parametrize(("flag", "option"), [("sleep", ""), ("ipc", 'integrator="discrete"')])
def test_a_model_whose_worlds_cannot_be_kept_is_refused_in_one_line(flag, option, tmp_path):
    path = write(tmp_path, '<motor joint="a"/>', flag=f'{flag}="enable"', option=option)
    with pytest.raises(
        BadValue, match=f'robot.xml: worlds cannot be kept with <flag {flag}="enable"/>'
    ):
        make(path)


# Damping and armature.


def damping_and_inertia(
    path: Path, qvel: float = 2.0, **values: float
) -> tuple[np.ndarray, np.ndarray]:
    """The dampers' force on each degree of freedom, all at one speed, and the inertia matrix's
    diagonal.
    """
    model = make(path, **values).world_model(0)
    data, full = mujoco.MjData(model), np.zeros((model.nv, model.nv))
    data.qvel[:] = qvel
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, full)
    return data.qfrc_damper.copy(), np.diag(full).copy()


def test_damping_scales_polynomial_terms_too(tmp_path):
    """f(v) = -.1 v - 5 v |v| at 2 rad/s: 20.2 N m; a tenth of it under damping=x0.1."""
    path = write(tmp_path, '<motor joint="a"/>')
    text = (
        path.read_text()
        .replace('damping=".5"', 'damping=".1 5"')
        .replace('name="b"', 'name="b" damping="7"')
    )
    path.write_text(text)
    usual, _ = damping_and_inertia(path)
    assert np.allclose(usual, [-20.2, -14, 0, 0, 0])
    assert np.allclose(damping_and_inertia(path, damping=0.1)[0], [-2.02, -14, 0, 0, 0])
    assert "polynomial" in load_parameters(path)["damping"].meaning


def test_a_polynomially_damped_hinge_spins_on_without_damping(tmp_path):
    """After a second of v' = -(.1 v + 5 v |v|) / I, 10 rad/s is next to nothing; without damping it
    is 10.
    """
    path = write_hinge(tmp_path, "", joint='damping=".1 5"')
    assert "damping" not in load_parameters(path)  # it is passive
    path = write_hinge(tmp_path, '<motor joint="a"/>', joint='damping=".1 5"')
    assert np.isclose(spin(path, damping=0.0), 10)
    assert spin(path) < spin(path, damping=0.5) < 1


def test_a_joints_own_parameters_say_that_a_tendons_stay(tmp_path):
    """The cord adds damping and more to the joint, which no parameter of the joint sets."""
    for tendon, name in (
        ('damping="3"', "a_damping"), ('damping="0 2"', "b_damping"),
        ('frictionloss="1"', "a_frictionloss"), ('armature=".1"', "a_armature"),
    ):  # fmt: skip
        path = write(tmp_path, '<motor joint="a"/>', tendon=tendon)
        table = load_parameters(path)
        said = [
            key
            for key in ("a_damping", "b_damping", "a_frictionloss", "a_armature")
            if "tendon" in table[key].meaning
        ]
        assert name in said and {key.partition("_")[2] for key in said} == {name.partition("_")[2]}
        assert table[name].meaning.endswith("; the tendons' stays")
    path = write(tmp_path, '<motor joint="a"/>', tendon='damping="3"')
    coefficients = np.array([[0.5], [-1.5]])
    cord = -3 * (coefficients @ coefficients.T) @ [2, 2]  # -B^T b B v at 2 rad/s
    assert np.allclose(damping_and_inertia(path, a_damping=0.0)[0][:2], cord)


def test_a_motors_own_damping_and_armature_are_the_joints(tmp_path):
    """Both reach it by the square of the gear, 9: .5 + .2 x 9 = 2.3 and .3 + .1 x 9 = 1.2."""
    path = write_hinge(
        tmp_path,
        '<motor joint="a" gear="3" damping=".2 .01" armature=".1"/>',
        joint='damping=".5" armature=".3"',
    )
    table = load_parameters(path)
    assert np.isclose(table["a_damping"].default, 2.3) and np.isclose(
        table["a_armature"].default, 1.2
    )
    assert (
        "motors' own" in table["a_damping"].meaning and "motors' own" in table["a_armature"].meaning
    )
    (damper,), (inertia,) = damping_and_inertia(path)
    assert np.isclose(damper, -(2.3 * 2 + 0.09 * 4))
    bare = inertia - 1.2
    assert np.allclose(damping_and_inertia(path, damping=0.5), [[damper / 2], [inertia]])
    assert np.allclose(damping_and_inertia(path, armature=3.0), [[damper], [bare + 3.6]])
    assert np.allclose(damping_and_inertia(path, armature=0.0, damping=0.0), [[0], [bare]])
    assert np.allclose(
        damping_and_inertia(path, a_damping=4.0, a_armature=5.0), [[-8.36], [bare + 5]]
    )
    assert np.allclose(damping_and_inertia(path, a_damping=0.0, a_armature=0.0), [[-0.36], [bare]])


def test_motors_of_one_joint_share_its_damping_and_their_defaults_change_no_bit(tmp_path):
    motors = (
        '<motor joint="a" gear="1.7" damping=".3" armature=".1"/><position joint="a" '
        'kp="3" damping=".7" gear=".3"/>'
    )
    path = write_hinge(tmp_path, motors, joint='damping=".1" armature=".2"')
    table = load_parameters(path)
    assert np.isclose(table["a_damping"].default, 0.1 + 0.3 * 1.7**2 + 0.7 * 0.3**2)
    defaults = {
        name: table[name].default
        for name in ("a_damping", "a_armature", "a_strength", "damping", "armature")
    }
    assert spin(path, **defaults) == spin(path)
    assert spin(path, **(defaults | {"a_damping": 1.0})) > spin(path)


def test_what_tendons_add_is_left_out_and_said(tmp_path):
    path = write(
        tmp_path,
        '<motor joint="a"/><motor tendon="cord" damping="3" armature=".1"/>',
        tendon='damping=".2"',
    )
    assert load_parameters(path)["damping"].meaning == "all actuated joints; the tendons' stays"
    assert load_parameters(path)["a_damping"].default == 0.5
    usual, weak = damping_and_inertia(path)[0], damping_and_inertia(path, damping=0.0)[0]
    assert np.allclose(weak - usual, [1, 0, 0, 0, 0])


def test_all_degrees_of_freedom_of_a_driven_ball_have_its_damping(tmp_path):
    path = write(tmp_path, '<motor joint="c" gear="1 0 0"/>')
    usual, inertia = damping_and_inertia(path)
    damper, heavier = damping_and_inertia(path, c_damping=0.5, c_armature=2.0)
    assert np.allclose(damper - usual, [0, 0, -1, -1, -1])
    assert np.allclose(heavier - inertia, [0, 0, 2, 2, 2])


def test_a_joints_damping_is_the_linear_term_and_says_so(tmp_path):
    path = write(tmp_path, '<motor joint="a"/>')
    path.write_text(path.read_text().replace('damping=".5"', 'damping=".1 5 2"'))
    parameter = load_parameters(path)["a_damping"]
    assert parameter.default == 0.1
    assert parameter.meaning == "absolute; the linear term, polynomial terms stay"
    assert np.isclose(damping_and_inertia(path, a_damping=3.0)[0][0], -(3 * 2 + 5 * 4 + 2 * 8))
    assert np.isclose(damping_and_inertia(path, a_damping=3.0, damping=0.0)[0][0], -3 * 2)
