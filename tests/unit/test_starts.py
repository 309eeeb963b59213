"""Where episodes begin, what holds a robot there, and what bounds its actions."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
from pathlib import Path

import mujoco
import numpy as np
import own
import pytest

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.actuator_controls import control_box, find_holding_control, holds_poses
from isthmus.physics.engine import Start
from isthmus.physics.keyframes import load_keyframe
from isthmus.physics.mujoco import MujocoSimulator
from isthmus.tasks import task as tasks
from isthmus.types import BadValue, UnknownName


@pytest.fixture(autouse=True)
def clean():
    yield
    own.forget()


def follow_hip(domain: Domain, told: float, steps: int = 15) -> np.ndarray:
    """The hip's angle [T + 1] in the second of two worlds, which are told one thing."""
    live = SteppedWorlds.resume(domain, domain.worlds(2, seed=0))
    assert isinstance(live.simulation, PhysicsSimulation)
    angles = [live.simulation.simulator.qpos[1, 7]]
    for _ in range(steps):
        live.step(live.all, commanded=np.full((2, domain.spaces.action), told, np.float32))
        angles.append(live.simulation.simulator.qpos[1, 7])
    return np.array(angles)


# Keyframes

INTEGRATED = '<intvelocity joint="hip" kp="60" kv="5" actrange="-2 2" ctrlrange="-1 1"/>'


class FromPair(own.Leg):
    """Begins with a noise of its own on the keyframe's configuration, and says nothing of the
    rest.
    """

    keyframe = "home"

    def start(self, simulator, random):
        whole = tasks.Task.start(self, simulator, random)
        assert isinstance(whole, Start)
        return whole.qpos + random.uniform(0.0, 1e-6, 8), whole.qvel


class Noisy(own.Leg):
    """As docs/guide/own_task.md has it."""

    keyframe = "home"

    def start(self, simulator, random):
        home = super().start(simulator, random)
        return home._replace(qpos=home.qpos + random.uniform(-1e-6, 1e-6, home.qpos.shape[1]))


@pytest.mark.parametrize("base", [own.Leg, FromPair, Noisy])
def test_a_keyframe_begins_whole(tmp_path, base):
    """An integrated servo holds the pose that its activation says."""
    name = own.register(tmp_path, INTEGRATED, 'act="0.8"', base, keyframe="home")
    for text in (name, f"{name}/action_delay=3", f"{name}/action_delay=1,previous_action=1"):
        assert np.allclose(follow_hip(parse_domain(text), 0.0), 0.8, atol=1e-3)


def test_without_its_activation_the_servo_falls(tmp_path):
    """What the test above would see if activations were left out: a pair of qpos and qvel alone is
    as it was.
    """
    assert follow_hip(parse_domain(own.register(tmp_path, INTEGRATED)), 0.0)[-1] < 0.3


def test_everything_that_a_keyframe_says(tmp_path):
    key = 'act="0.7" ctrl="0.25" qvel="0 0 0 0 0 0 0.5" mpos="3 2 1" mquat="0 1 0 0"'
    name = own.register(tmp_path, INTEGRATED, key, keyframe="home")
    simulation = parse_domain(name).simulation(3)
    assert isinstance(simulation, PhysicsSimulation)
    live = SteppedWorlds.resume(parse_domain(name), parse_domain(name).worlds(3, seed=0))
    batch = live.simulation.simulator.batch  # pyright: ignore[reportAttributeAccessIssue]
    want = {"qpos": own.START, "qvel": [0] * 6 + [0.5], "act": [0.7], "ctrl": [0.25]}
    for field, row in {**want, "mocap_pos": [[3, 2, 1]], "mocap_quat": [[0, 1, 0, 0]]}.items():
        assert np.array_equal(batch.bind(field), np.array([row] * 3)), field


def test_an_episode_after_another_begins_whole_again(tmp_path):
    """Of some worlds, in a simulation whose others go on."""
    domain = parse_domain(own.register(tmp_path, INTEGRATED, 'act="0.8"', keyframe="home"))
    live = SteppedWorlds.resume(domain, domain.worlds(3, seed=0))
    first = live.simulation.rows.copy()
    live.step(live.all, commanded=np.full((3, 1), -1.0, np.float32))
    moved = live.simulation.rows.copy()
    live.begin(np.array([0, 2]))
    assert np.array_equal(live.simulation.rows[[0, 2]], first[[0, 2]])
    assert np.array_equal(live.simulation.rows[1], moved[1]) and not np.array_equal(
        moved[1], first[1]
    )


def test_a_keyframe_is_read_once_and_by_its_name(tmp_path):
    path = own.write_model(tmp_path, own.SERVO)
    silent = load_keyframe(path, "home")
    assert silent.qpos.tolist() == own.START and silent.ctrl is None  # the compiled model says 0
    with pytest.raises(UnknownName, match=r"keyframe of leg\.xml 'hone'; did you mean home"):
        load_keyframe(path, "hone")
    spoken = tmp_path / "spoken"
    spoken.mkdir()
    written = load_keyframe(own.write_model(spoken, own.SERVO, 'ctrl="0"'), "home")
    assert written.ctrl is not None and written.ctrl.tolist() == [0.0]


def test_an_environment_begins_there_too(tmp_path):
    from isthmus.domains.gym import Environment

    env = Environment(own.register(tmp_path, INTEGRATED, 'act="0.8"', keyframe="home"))
    first, _ = env.reset(seed=1)
    assert first[:8].tolist() == own.START
    for _ in range(10):
        obs, *_ = env.step(np.zeros(1, np.float32))
    assert np.isclose(obs[7], 0.8, atol=1e-3)


def test_a_keyframe_in_another_engine(tmp_path):
    pytest.importorskip("dartpy")
    path = own.write_model(tmp_path, own.MOTOR, 'ctrl="0.5" qvel="0 0 0 0 0 0 0.25"')
    path.write_text(path.read_text().replace('<body name="marker" mocap="true" pos="1 0 0"/>', ""))
    tasks.register(type("Own", (own.Leg,), {"model": path, "keyframe": "home"}))
    for engine in ("mujoco", "dart"):
        worlds = parse_domain(f"leg/engine={engine},action_delay=2").worlds(2, seed=0)
        assert worlds.effect_memory.tolist() == [[0.5, 0.5]] * 2
        assert worlds.observation.tolist() == [[*own.START, 0, 0, 0, 0, 0, 0, 0.25]] * 2


# The control that holds a pose

HOLDING = {
    "motor": (own.MOTOR, [0.0]),
    "position": (own.SERVO, [0.8]),
    "position, geared": ('<position joint="hip" kp="60" gear="2" ctrlrange="-3 3"/>', [1.6]),
    "position, beyond its range": ('<position joint="hip" kp="60" ctrlrange="-0.5 0.5"/>', [0.5]),
    "position, filtered": (
        '<position joint="hip" kp="60" timeconst="0.1" ctrlrange="-1 1"/>',
        [0.8],
    ),
    "velocity": ('<velocity joint="hip" kv="5" ctrlrange="-1 1"/>', [0.0]),
    "integrated": (INTEGRATED, [0.0]),
    "damper": ('<damper joint="hip" kv="5" ctrlrange="0 1"/>', [0.0]),
    "muscle": ('<muscle joint="hip" ctrlrange="0 1" lengthrange="-1 1"/>', [0.0]),
    # 30 u - 6 - 60 * 0.8 = 0
    "general": (
        '<general joint="hip" gainprm="30" biastype="affine" biasprm="-6 -60 -5" '
        'ctrlrange="-3 3"/>',
        [1.8],
    ),
    # (10 + 5 * 0.8) u - 7 = 0
    "general, its gain by length": (
        '<general joint="hip" gaintype="affine" gainprm="10 5" biastype="affine" '
        'biasprm="-7" ctrlrange="-3 3"/>',
        [0.5],
    ),
    "two": (own.SERVO + '<motor joint="hip" ctrlrange="-1 1"/>', [0.8, 0.0]),
}


@pytest.mark.parametrize("kind", HOLDING)
def test_the_control_that_holds_a_pose(tmp_path, kind):
    """By hand, at a hip angle of 0.8; where a range leaves room, the actuator's force is then
    zero.
    """
    actuators, want = HOLDING[kind]
    simulator = MujocoSimulator(own.write_model(tmp_path, actuators), (), 2, 4)
    qpos = np.array([own.START] * 2)
    qpos[1, 7] = 0.0
    simulator.reset(np.array([0]), qpos[:1], np.ones((1, 7)))
    assert np.allclose(simulator.control[0], want, atol=1e-12) and not simulator.control[1].any()
    if kind in ("position", "position, geared", "general", "general, its gain by length", "two"):
        data = mujoco.MjData(simulator.model)
        data.qpos[:], data.ctrl[:] = qpos[0], want
        mujoco.mj_forward(simulator.model, data)
        assert np.allclose(data.actuator_force, 0, atol=1e-9)


def test_set_points_by_name(tmp_path):
    """An actuator of several controls: the position is the length, the velocity zero."""
    pid = '<pid joint="hip" kp="60" kv="3" gear="2" input="pos vel" ctrlrange="-3 3"/>'
    model = mujoco.MjModel.from_xml_path(str(own.write_model(tmp_path, own.MOTOR + pid)))
    data = mujoco.MjData(model)
    data.qpos[:] = own.START
    mujoco.mj_forward(model, data)
    gain, bias = model.actuator_gainprm[None], model.actuator_biasprm[None]
    assert holds_poses(model)
    data.ctrl[:] = find_holding_control(model, data.actuator_length[None], np.zeros(3), gain, bias)[
        0
    ]
    assert np.allclose(data.ctrl, [0.0, 1.6, 0.0])
    mujoco.mj_forward(model, data)
    assert np.allclose(data.actuator_force, 0.0)


def test_each_world_is_held_at_its_own_start(tmp_path):
    simulator = MujocoSimulator(own.write_model(tmp_path, own.SERVO), (), 3, 4)
    qpos = np.array([own.START] * 2)
    qpos[:, 7] = [0.1, -0.4]
    simulator.reset(np.array([0, 2]), qpos, np.zeros((2, 7)))
    assert np.allclose(simulator.control[:, 0], [0.1, 0.0, -0.4])


def test_a_delay_of_the_models_own_begins_with_it_too(tmp_path):
    """MuJoCo's actuators may be late themselves; what they pass on at first is what holds the
    start, not zero.
    """
    late = '<position joint="hip" kp="60" ctrlrange="-1 1" delay="0.1" nsample="40"/>'
    for name, key, keyframe in (("silent", "", None), ("spoken", 'ctrl="0.8"', "home")):
        (tmp_path / name).mkdir()
        domain = parse_domain(
            own.register(tmp_path / name, late, key, name=name, keyframe=keyframe)
        )
        assert np.allclose(follow_hip(domain, 0.8), 0.8, atol=1e-3)


# Activations that follow their control

FILTERS = {
    "filterexact": ('<position joint="hip" kp="60" timeconst=".05" ctrlrange="-1 1"/>', 0.8, 0.8),
    "filter": (
        '<general joint="hip" dyntype="filter" dynprm=".05" gainprm="60" biastype="affine" '
        'biasprm="0 -60" '
        'ctrlrange="-1 1"/>',
        0.8,
        0.8,
    ),
    "geared": (
        '<position joint="hip" kp="60" gear="2" timeconst=".05" ctrlrange="-3 3"/>',
        1.6,
        1.6,
    ),
    "late": (
        '<position joint="hip" kp="60" timeconst=".05" ctrlrange="-1 1" delay=".1" nsample="40"/>',
        0.8,
        0.8,
    ),
    "limited": (
        '<general joint="hip" dyntype="filterexact" dynprm=".05" gainprm="60" '
        'biastype="affine" biasprm="0 -60" '
        'ctrlrange="-1 1" actrange="-.5 .5"/>',
        0.8,
        0.5,
    ),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_begins_where_its_control_holds(tmp_path, kind):
    """From zero it would throw the leg: .8, .60, .41 in two steps of 20 ms."""
    actuators, control, activation = FILTERS[kind]
    domain = parse_domain(own.register(tmp_path, actuators))
    live = SteppedWorlds.resume(domain, domain.worlds(2, seed=0))
    assert isinstance(live.simulation, PhysicsSimulation)
    simulator = live.simulation.simulator
    assert isinstance(simulator, MujocoSimulator)
    assert np.allclose(simulator.control, control) and np.allclose(
        simulator.batch.bind("act"), activation
    )
    if activation == control:
        assert np.allclose(follow_hip(domain, control), 0.8, atol=1e-3)


def test_each_filter_begins_at_its_own_worlds_start(tmp_path):
    """Beside an integrator and a muscle, whose activations are no controls and stay zero."""
    muscle = '<muscle joint="hip" ctrlrange="0 1" lengthrange="-1 1"/>'
    simulator = MujocoSimulator(
        own.write_model(tmp_path, INTEGRATED + FILTERS["geared"][0] + muscle), (), 3, 4
    )
    qpos = np.array([own.START] * 2)
    qpos[:, 7] = [0.1, -0.4]
    simulator.reset(np.array([0, 2]), qpos, np.zeros((2, 7)))
    assert np.allclose(simulator.batch.bind("act"), [[0, 0.2, 0], [0, 0, 0], [0, -0.8, 0]])


def test_a_filter_begins_at_the_control_that_a_start_gives(tmp_path):
    """As the history of a late actuator: as if it had been told so all along, in bounds; a motor
    with a lag too.
    """
    lag = '<general joint="hip" dyntype="filter" dynprm=".1" ctrlrange="-1 1"/>'
    simulator = MujocoSimulator(
        own.write_model(tmp_path, FILTERS["filterexact"][0] + lag), (), 2, 4
    )
    ids, start, ctrl = np.arange(2), np.array([own.START] * 2), np.array([[0.3, -0.5], [2.0, 0.25]])
    simulator.reset(ids, start, np.zeros((2, 7)), ctrl=ctrl)
    activation = simulator.batch.bind("act")
    assert np.array_equal(activation, [[0.3, -0.5], [1.0, 0.25]])
    simulator.reset(ids, start, np.zeros((2, 7)), act=np.full((2, 2), 0.1), ctrl=ctrl)
    assert np.array_equal(activation, np.full((2, 2), 0.1))
    simulator.reset(ids, start, np.zeros((2, 7)), act=np.zeros((2, 2)))
    assert not activation.any() and np.allclose(simulator.control, [0.8, 0.0])


@pytest.mark.parametrize(
    ("key", "activation"),
    [("", 0.8), ('act="0"', 0.0), ('act="0.3"', 0.3), ('ctrl="0.6"', 0.6), ('ctrl="0"', 0.0)],
)
def test_a_filter_begins_as_its_keyframe_says_or_where_that_is_silent_holds(
    tmp_path, key, activation
):
    name = own.register(tmp_path, FILTERS["filterexact"][0], key, keyframe="home")
    live = SteppedWorlds.resume(parse_domain(name), parse_domain(name).worlds(2, seed=0))
    batch = live.simulation.simulator.batch  # pyright: ignore[reportAttributeAccessIssue]
    assert np.allclose(batch.bind("act"), activation)
    assert (load_keyframe(tmp_path / "leg.xml", "home").act is None) == ("act" not in key)


# What bounds actions

UNBOUNDED = {
    '<motor name="m" joint="hip"/>': "leg: actuator 'm' has no ctrlrange",
    '<motor joint="hip"/>': "leg: actuator 0 (of joint 'hip') has no ctrlrange",
    own.MOTOR
    + '<velocity joint="hip" kv="1"/>': "leg: actuator 1 (of joint 'hip') has no ctrlrange",
    '<position joint="hip" kp="5"/>': 'would have no bounds; write ctrlrange="-1 1" there',
    '<muscle joint="hip" lengthrange="-1 1"/>': 'write ctrlrange="0 1" there',
    '<intvelocity joint="hip" kp="5" actrange="-1 1"/>': "has no ctrlrange",
    '<motor joint="hip" ctrlrange="1 -1"/>': 'has ctrlrange="1 -1", which is no range',
    '<motor joint="hip" ctrlrange="1 1"/>': 'has ctrlrange="1 1", which is no range',
    '<motor joint="hip" ctrlrange="-inf inf"/>': 'has ctrlrange="-inf inf", which is no range',
    '<motor joint="hip" ctrlrange="-1e40 1e40"/>': "which is no range",  # in float32
    '<motor joint="hip" ctrlrange="-1 1" ctrllimited="false"/>': 'has ctrllimited="false"',
    '<pid joint="hip" kp="2" input="pos vel" ctrlrange="-1 1"/>': "(of joint 'hip'), control 1 "
    "has no velrange",
    '<pid joint="hip" kp="2" input="vel" ctrlrange="-1 1"/>': "has no velrange, and the "
    "policy's actions would have",
    '<pid joint="hip" kp="2" velrange="-1 1" posrange="1 -1"/>': 'control 0 has posrange="1 '
    '-1", which is no range',
    '<pid joint="hip" kp="2" posrange="-1 1" velrange="-1 1" ctrllimited="false"/>': "its posrange "
    "bounds "
    "nothing",
    '<general body="leg" ctrlrange="0 0"/>': "actuator 0 (of body 'leg') has no ctrlrange",
    "": "leg has no actuators",
}


ADVISED = (
    '<motor joint="hip"/>',
    '<pid joint="hip" kp="2" input="pos vel" ctrlrange="-1 1"/>',
    '<pid joint="hip" kp="2" input="pos vel" posrange="-1 1" velrange="1 -1"/>',
    '<pid joint="hip" kp="2" input="vel" ctrlrange="-1 1"/>',
    '<pid joint="hip" kp="2" input="vel ff" ctrlrange="-1 1"/>',
    '<pid joint="hip" kp="2" input="pos vel ff"/>',
    '<dcmotor joint="hip" motorconst="1" resistance="1" input="pos vel"/>',
)


@pytest.mark.parametrize("actuators", ADVISED)
def test_advice_can_be_followed(tmp_path, actuators):
    """What the message says to write is written, until the model has bounds."""
    written = []
    while True:
        try:
            low, high = control_box(load_actuators(tmp_path, actuators), "leg")
        except BadValue as error:
            attribute = re.findall(r'write (\w+)="-1 1" there$', str(error))[0]
            assert attribute not in written
            written.append(attribute)
            others = re.sub(rf' {attribute}="[^"]*"', "", actuators)
            actuators = others.replace("/>", f' {attribute}="-1 1"/>')
        else:
            break
    assert written and low.tolist() == [-1.0] * len(low) and high.tolist() == [1.0] * len(low)


def load_actuators(folder: Path, actuators: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(own.write_model(folder, actuators)))


@pytest.mark.parametrize("actuators", UNBOUNDED)
def test_actuators_without_bounds_are_named(tmp_path, actuators):
    domain = RobotDomain(own.register(tmp_path, actuators))
    with pytest.raises(BadValue) as error:
        _ = domain.spaces
    assert UNBOUNDED[actuators] in str(error.value) and "\n" not in str(error.value)


def test_where_an_actuator_without_bounds_is_met(tmp_path):
    """A problem, an environment, another engine: nothing is trained to the end by a robot that
    cannot move.
    """
    import isthmus
    from isthmus.audit.audit import audit
    from isthmus.domains.gym import Environment, VectorEnvironment

    name = own.register(tmp_path, '<motor name="m" joint="hip"/>')
    domain = parse_domain(name)
    for use in (
        lambda: isthmus.problem(f"{name}/leg_mass=2"),
        lambda: audit(domain, domain.shift("leg_mass=2")),
        lambda: Environment(name),
        lambda: VectorEnvironment(2, name),
        lambda: domain.worlds(2, seed=0),
        lambda: isthmus.problem("ball", target=name),
    ):
        with pytest.raises(BadValue, match="actuator 'm' has no ctrlrange"):
            use()


def test_bounds_that_are_inherited(tmp_path):
    path = own.write_model(tmp_path, '<position joint="hip" kp="5" inheritrange="0.5"/>')
    path.write_text(path.read_text().replace('damping="2"', 'damping="2" range="-60 60"'))
    model = mujoco.MjModel.from_xml_path(str(path))
    low, high = control_box(model, "leg")
    assert np.allclose([low, high], [[-np.pi / 6], [np.pi / 6]]) and low.dtype == np.float32


def test_another_engine_asks_for_bounds_too(tmp_path):
    path = own.write_model(tmp_path, '<motor name="m" joint="hip"/>')
    path.write_text(path.read_text().replace('<body name="marker" mocap="true" pos="1 0 0"/>', ""))
    tasks.register(type("Own", (own.Leg,), {"model": path}))
    with pytest.raises(BadValue, match="actuator 'm' has no ctrlrange"):
        _ = parse_domain("leg/engine=dart").spaces
