"""Physical parameters do what their names say, to the defaults, in any order; and their grammar
says one thing.
"""

# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from scipy import stats

from isthmus.domains.parse import parse_domain
from isthmus.physics.friction import find_inert_foot_friction
from isthmus.physics.geom_contacts import find_colliding, is_scenery
from isthmus.physics.mujoco import MujocoSimulator, load_model, load_parameters, load_withheld
from isthmus.physics.parameters import (
    Distribution,
    Grid,
    Parameter,
    find_parameter,
    format_setting,
    parse_setting,
)
from isthmus.physics.random import Streams, keys
from isthmus.tasks import task as tasks
from isthmus.types import BadValue, UnknownName

ROBOTS = sorted(tasks.BUILT_IN)
# Those whose actions go to their actuators as they are; gains are in test_servos.py.
DIRECT = [name for name in ROBOTS if tasks.find_task(name).servo is None]

# A Reacher moves in a horizontal plane and touches nothing; its goal's mass has no force to obey.
WITHOUT_EFFECT = {("reacher", "gravity"), ("reacher", "friction"), ("reacher", "target_mass")}


WALKERS = ["ant", "half_cheetah", "hopper", "walker2d"]


def table_of(robot: str) -> dict[str, Parameter]:
    return load_parameters(tasks.find_task(robot).model_path())


def times(parameter: Parameter, factor: float) -> float:
    """A multiple of a parameter's default; where that is zero, of a tenth."""
    return (parameter.default or 0.1) * factor


def make(robot: str, names: tuple[str, ...], n: int) -> MujocoSimulator:
    task = tasks.find_task(robot)
    return MujocoSimulator(task.model_path(), names, n, task.frame_skip, task.forces)


def with_values(robot: str, n: int = 1, **values: float) -> MujocoSimulator:
    """A simulator whose worlds all have these values."""
    simulator = make(robot, tuple(values), n)
    simulator.set_parameters(np.arange(n), np.tile(list(values.values()), (n, 1)))
    return simulator


def rollout(simulator: MujocoSimulator, robot: str, steps: int, scale: float = 1.0) -> np.ndarray:
    """All worlds from one start under the same actions; their rows over time [T, N, S]."""
    task, ids = tasks.find_task(robot), np.arange(simulator.n)
    qpos, qvel = task.start(simulator, Streams(np.repeat(keys(0, 1), simulator.n)))
    simulator.reset(ids, qpos, qvel)
    draws = np.random.default_rng(0).uniform(-scale, scale, (steps, simulator.control.shape[1]))
    rows = []
    for action in draws:
        simulator.step(ids, np.tile(action, (simulator.n, 1)))
        rows.append(simulator.rows.copy())
    return np.array(rows)


def arrays(model: mujoco.MjModel) -> dict[str, bytes]:
    """All that physics reads of a model."""
    fields = {
        f: getattr(model, f) for f in dir(model) if isinstance(getattr(model, f, None), np.ndarray)
    }
    fields["opt.gravity"] = model.opt.gravity
    return {name: np.ascontiguousarray(value).tobytes() for name, value in fields.items()}


def forward(
    simulator: MujocoSimulator, qpos=None, qvel=None, control=None
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """World 0's own model, and MuJoCo's own calculation of a state of it."""
    model = simulator.batch.get_model(0)
    data = mujoco.MjData(model)
    for field, value in (("qpos", qpos), ("qvel", qvel), ("ctrl", control)):
        if value is not None:
            getattr(data, field)[:] = value
    mujoco.mj_forward(model, data)
    return model, data


def high(simulator: MujocoSimulator) -> np.ndarray:
    """World 0's configuration far above the floor, limited joints in the middle of their ranges."""
    model, qpos = simulator.batch.get_model(0), simulator.qpos0.copy()
    free = model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    if free or model.joint(1).name == "rootz":
        qpos[2 if free else 1] += 10
    for j in model.actuator_trnid[:, 0]:
        if model.jnt_limited[j]:
            qpos[model.jnt_qposadr[j]] = model.jnt_range[j].mean()
    return qpos


# What a name means, written down a second time and against MuJoCo's named access alone.


def meant(model: mujoco.MjModel, robot: str, name: str, value: float) -> None:
    """Change a model by hand as the parameter's name says."""
    joints = [model.joint(int(model.actuator_trnid[a, 0])) for a in range(model.nu)]
    part, _, what = name.rpartition("_")
    if name == "gravity":
        model.opt.gravity[2] = -9.81 * (value / 9.81)
    elif name == "friction":
        default = {"hopper": 2.0, "half_cheetah": 0.4, "walker2d": 1.9, "ant": 1.0, "reacher": 1.0}[
            robot
        ]
        model.geom_friction[:, 0] *= value / default
    elif name == "foot_friction":
        feet = {
            "hopper": ["foot_geom"],
            "half_cheetah": ["bfoot", "ffoot"],
            "walker2d": ["foot_geom", "foot_left_geom"],
        }
        for foot in feet[robot]:
            model.geom(foot).friction[0] = value
    elif name == "density":
        model.body_mass *= value
        model.body_inertia *= value
    elif what == "mass":
        model.body(part).mass = value
    elif name in ("damping", "armature"):
        for joint in joints:
            setattr(joint, name, getattr(joint, name) * value)
    elif name == "motor_strength":
        model.actuator_gear *= value
    elif name == "joint_range":
        for joint in joints:
            if model.jnt_limited[joint.id]:
                joint.range *= value
    else:
        joints = [model.joint(j) for j in range(model.njnt)]
        (joint,) = [j for j in joints if j.name in (part, f"{part}_joint")]
        if what == "strength":
            for a in range(model.nu):
                if model.actuator_trnid[a, 0] == joint.id:
                    model.actuator_gear[a] *= value
        elif what == "range":
            joint.range *= value
        else:
            setattr(joint, what, value)
    mujoco.mj_setConst(model, mujoco.MjData(model))


def changed_and_not(robot: str, name: str, factor: float) -> MujocoSimulator:
    """Two worlds: one where a parameter is `factor` times its default, one where it is the
    default.
    """
    simulator = make(robot, (name,), 2)
    parameter = table_of(robot)[name]
    simulator.set_parameters(
        np.arange(2), np.array([[times(parameter, factor)], [parameter.default]])
    )
    return simulator


@pytest.mark.represented("hopper", "ball")
@pytest.mark.parametrize("robot", DIRECT)
def test_every_parameter_changes_what_it_names_and_constants_follow(robot):
    """The whole model of a world, derived constants included, is bit for bit the model that one
    gets by hand, and the world's motion that of this model alone; its neighbour keeps the robot's
    own model.
    """
    steps, task = 20, tasks.find_task(robot)
    path = str(task.model_path())
    untouched = arrays(mujoco.MjModel.from_xml_path(path))
    for name, parameter in table_of(robot).items():
        simulator = changed_and_not(robot, name, 1.25)
        model = mujoco.MjModel.from_xml_path(path)
        meant(model, robot, name, times(parameter, 1.25))
        want, got = arrays(model), arrays(simulator.batch.get_model(0))
        assert got.keys() == want.keys()
        assert {field for field in want if got[field] != want[field]} == set(), name
        assert want != untouched, name
        assert arrays(simulator.batch.get_model(1)) == untouched, name

        rows = rollout(simulator, robot, steps)
        data = mujoco.MjData(model)
        qpos, qvel = task.start(simulator, Streams(keys(0, 1)))
        data.qpos[:], data.qvel[:] = qpos[0], qvel[0]
        mujoco.mj_forward(model, data)
        for action in np.random.default_rng(0).uniform(-1, 1, (steps, model.nu)):
            data.ctrl[:] = action
            mujoco.mj_step(model, data, nstep=task.frame_skip)
        state = np.empty(rows.shape[2])
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        assert np.array_equal(rows[-1, 0], state), name


@pytest.mark.represented("hopper", "ball")
@pytest.mark.parametrize("robot", DIRECT)
def test_every_parameter_changes_the_motion_except_where_it_cannot(robot):
    same = set()
    for name in table_of(robot):
        # A wider range binds nothing, and friction below the floor's is no change.
        simulator = changed_and_not(robot, name, 0.05 if name.endswith("range") else 2.0)
        rows = rollout(simulator, robot, round(1.5 / simulator.dt))
        assert np.isfinite(rows).all()
        if np.array_equal(rows[:, 0], rows[:, 1]):
            same.add(name)
    assert same == {name for r, name in WITHOUT_EFFECT if r == robot}


@pytest.mark.parametrize("robot", DIRECT)
def test_parameters_never_compound_and_defaults_restore_the_bits(robot):
    table = table_of(robot)
    names, defaults = tuple(table), np.array([[p.default for p in table.values()]])
    everyone = np.arange(2)
    fresh, fresh_changed = make(robot, (), 1), make(robot, names, 1)
    changed = lambda factor: np.array([[times(p, factor) for p in table.values()]])
    fresh_changed.set_parameters(np.arange(1), changed(0.7))
    used = make(robot, names, 2)
    for factor in (3.0, 0.2, 0.7):
        used.set_parameters(everyone, np.repeat(changed(factor), 2, axis=0))
    used.set_parameters(np.array([1]), defaults)
    assert arrays(used.batch.get_model(0)) == arrays(fresh_changed.batch.get_model(0))
    assert arrays(used.batch.get_model(1)) == arrays(fresh.batch.get_model(0))
    rows = rollout(used, robot, 50)
    assert np.array_equal(rows[:, 0], rollout(fresh_changed, robot, 50)[:, 0])
    assert np.array_equal(rows[:, 1], rollout(fresh, robot, 50)[:, 0])
    assert not np.array_equal(rows[:, 0], rows[:, 1])


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_order_of_names_changes_nothing(robot):
    table = table_of(robot)
    names = list(table)
    value = {name: times(table[name], 1.1 + 0.01 * i) for i, name in enumerate(names)}
    want = arrays(with_values(robot, **value).batch.get_model(0))
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(names)
        assert (
            arrays(with_values(robot, **{n: value[n] for n in shuffled}).batch.get_model(0)) == want
        )


def test_a_part_overrules_the_whole():
    for names in (("density", "torso_mass"), ("torso_mass", "density")):
        value = {"density": 2.0, "torso_mass": 6.0}
        model = with_values("hopper", **{n: value[n] for n in names}).batch.get_model(0)
        assert model.body("torso").mass[0] == 6
        assert (
            model.body("leg").mass[0]
            == 2 * load_model(tasks.find_task("hopper").model_path()).body("leg").mass[0]
        )
        assert value == {"density": 2.0, "torso_mass": 6.0}


# What parameters do, measured.


@pytest.mark.parametrize("robot", WALKERS)
def test_gravity_scales_free_fall(robot):
    """The centre of mass falls at g, beside what springs and rotors do to it in a world without
    gravity.
    """
    factors, ids = np.array([0.0, 0.1, 1.0, 2.0]), np.arange(4)
    simulator = make(robot, ("gravity",), 4)
    simulator.set_parameters(ids, 9.81 * factors[:, None])
    simulator.reset(ids, np.tile(high(simulator), (4, 1)), np.zeros((4, simulator.nv)))
    simulator.step(ids, np.zeros((4, simulator.control.shape[1])))
    velocity = []
    for i in ids:
        _, data = forward(simulator, simulator.qpos[i], simulator.qvel[i])
        assert data.ncon == 0
        mujoco.mj_subtreeVel(simulator.model, data)
        velocity.append(data.subtree_linvel[0, 2])
    assert np.allclose(np.array(velocity) - velocity[0], -9.81 * factors * simulator.dt, rtol=1e-5)


def test_a_mass_leaves_inertia_and_constants_follow():
    default = load_model(tasks.find_task("hopper").model_path())
    model = with_values("hopper", torso_mass=6.0).batch.get_model(0)
    torso = default.body("torso").id
    assert np.array_equal(model.body_inertia, default.body_inertia)
    assert np.isclose(
        model.body_subtreemass[0], default.body_subtreemass[0] - default.body_mass[torso] + 6
    )
    assert model.dof_invweight0[0] < default.dof_invweight0[0]  # a heavier robot yields less
    assert np.array_equal(np.delete(model.body_mass, torso), np.delete(default.body_mass, torso))


@pytest.mark.parametrize("robot", ROBOTS)
def test_density_scales_the_whole_inertia(robot):
    def inertia(factor: float) -> np.ndarray:
        """The joint-space inertia matrix without rotors."""
        model, data = forward(with_values(robot, density=factor))
        full = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, data, full)
        return full - np.diag(model.dof_armature)

    assert np.allclose(inertia(3.0), 3 * inertia(1.0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("robot", WALKERS)
def test_friction_is_the_friction_of_contacts(robot):
    """`friction` is what MuJoCo's contacts have between feet (Ant: anything) and floor;
    `foot_friction` is that only above the floor's own.
    """
    table = table_of(robot)
    floor = {"hopper": 1.0, "half_cheetah": 0.4, "walker2d": 0.7, "ant": 1.0}[robot]
    cases = [("friction", v, v) for v in (0.05, table["friction"].default, 3.0)]
    if robot != "ant":
        cases += [("foot_friction", v, max(v, floor)) for v in (0.0, 0.1, floor, 1.5, 2.9)]
    else:
        assert "foot_friction" not in table
    for name, value, want in cases:
        simulator = with_values(robot, **{name: value})
        rollout(simulator, robot, 60, scale=0.1)
        model, data = simulator.batch.get_model(0), mujoco.MjData(simulator.model)
        simulator.batch.get_data(0, data)
        mujoco.mj_forward(model, data)
        measured = []
        for contact in data.contact:
            geoms = [model.geom(g).name for g in contact.geom]
            if "floor" in geoms and (robot == "ant" or any("foot" in g for g in geoms)):
                measured += [contact.friction[0], contact.friction[1]]
        assert measured, "no foot on the floor"
        assert np.allclose(measured, want, rtol=1e-12, atol=1e-5), (
            name,
            value,
        )  # MuJoCo's least friction is 1e-5


def test_less_friction_slides_farther():
    """A body sliding at v stops after v^2 / (2 mu g): a HalfCheetah thrown along the floor."""
    distance = []
    for mu in (0.1, 0.2, 0.4):
        simulator = with_values("half_cheetah", friction=mu)
        ids, rest = np.arange(1), np.zeros((1, 6))
        simulator.reset(ids, simulator.qpos0[None], np.zeros((1, 9)))
        for _ in range(40):
            simulator.step(ids, rest)
        simulator.qvel[0, 0] = 2.0
        start = simulator.qpos[0, 0]
        for _ in range(120):
            simulator.step(ids, rest)
        distance.append(simulator.qpos[0, 0] - start)
    assert distance[0] > 1.5 * distance[1] > 2.25 * distance[2] > 0


def test_hoppers_foot_friction_below_the_floors_is_no_change():
    """Contact takes the larger of foot and floor. The model's own foot (2.0) is above the floor
    (1.0): going from it to 0.5 is a change, to contact friction 1; from 1.0 to 0.5 is none, to the
    bit.
    """
    table = table_of("hopper")
    assert table["foot_friction"].default == table["friction"].default == 2
    rows = {
        v: rollout(with_values("hopper", foot_friction=v), "hopper", 200)
        for v in (0.1, 0.5, 1.0, 2.0)
    }
    assert np.array_equal(rows[0.5], rows[1.0])
    assert np.array_equal(rows[0.1], rows[1.0])
    assert not np.array_equal(rows[0.5], rows[2.0])
    assert "floor's 1" in table["foot_friction"].meaning


@pytest.mark.parametrize("robot", ROBOTS)
def test_motor_strength_scales_the_motors_force(robot):
    control = np.linspace(-1, 0.9, make(robot, (), 1).control.shape[1])
    _, usual = forward(make(robot, (), 1), control=control)
    model, weak = forward(with_values(robot, motor_strength=0.3), control=control)
    assert np.allclose(weak.qfrc_actuator, 0.3 * usual.qfrc_actuator, rtol=1e-12)
    assert usual.qfrc_actuator.any()
    for a in range(model.nu):
        name = model.joint(int(model.actuator_trnid[a, 0])).name.removesuffix("_joint")
        _, one = forward(with_values(robot, **{f"{name}_strength": 0.0}), control=control)
        dof = model.jnt_dofadr[model.actuator_trnid[a, 0]]
        assert one.qfrc_actuator[dof] == 0
        assert np.array_equal(
            np.delete(one.qfrc_actuator, dof), np.delete(usual.qfrc_actuator, dof)
        )


@pytest.mark.parametrize("robot", ROBOTS)
def test_damping_and_armature_of_all_and_of_one(robot):
    table = table_of(robot)
    qvel = np.linspace(0.5, 1.5, make(robot, (), 1).nv)
    model, usual = forward(make(robot, (), 1), qvel=qvel)
    driven = [int(model.jnt_dofadr[j]) for j in model.actuator_trnid[:, 0]]
    factor = np.ones(model.nv)
    factor[driven] = 2.5
    if "damping" in table:
        _, damped = forward(with_values(robot, damping=2.5), qvel=qvel)
        assert np.allclose(damped.qfrc_damper, factor * usual.qfrc_damper, rtol=1e-12)
    assert usual.qfrc_damper[driven].all() == ("damping" in table), (
        "a factor of nothing is not offered"
    )

    def rotors(simulator: MujocoSimulator) -> np.ndarray:
        """What armature adds to the inertia matrix's diagonal."""
        model, data = forward(simulator)
        full = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, data, full)
        return np.diag(full)

    assert model.dof_armature[driven].all() == ("armature" in table)
    if "armature" in table:
        added = rotors(with_values(robot, armature=2.5)) - rotors(make(robot, (), 1))
        assert np.allclose(added, (factor - 1) * model.dof_armature, rtol=1e-9, atol=1e-12)
    for j, dof in zip(model.actuator_trnid[:, 0], driven, strict=True):
        name = model.joint(int(j)).name.removesuffix("_joint")
        default = table[f"{name}_damping"].default
        assert default == model.dof_damping[dof]
        _, one = forward(with_values(robot, **{f"{name}_damping": default + 3}), qvel=qvel)
        change = one.qfrc_damper - usual.qfrc_damper
        assert np.isclose(change[dof], -3 * qvel[dof])
        assert not np.delete(change, dof).any()
        added = rotors(
            with_values(robot, **{f"{name}_armature": table[f"{name}_armature"].default + 2})
        ) - rotors(make(robot, (), 1))
        assert np.allclose(added, 2 * (np.arange(model.nv) == dof), atol=1e-12)


def test_passive_joints_have_damping_and_friction_and_floating_bodies_have_not():
    names = {
        robot: {n.rpartition("_")[0] for n in table_of(robot) if n.endswith("_damping")}
        for robot in ROBOTS
    }
    assert names["cartpole_swingup"] == {"cart", "pole"}
    assert names["hopper"] == {"thigh", "leg", "foot"} and names["reacher"] == {"joint0", "joint1"}
    assert "pole_strength" not in table_of("cartpole_swingup") and len(names["ant"]) == 8
    qvel = np.array([0.0, 2.0])
    _, data = forward(with_values("cartpole_swingup", pole_damping=0.3), qvel=qvel)
    assert np.allclose(data.qfrc_damper, [0, -0.6])
    table = table_of("cartpole_swingup")
    assert [table[f"cart_{n}"].unit for n in ("damping", "frictionloss", "armature")] == [
        "N s/m",
        "N",
        "kg",
    ]
    assert [table[f"pole_{n}"].unit for n in ("damping", "frictionloss")] == ["N m s/rad", "N m"]


def test_dry_friction_holds_a_joint_and_slows_it_at_any_speed():
    """Below the friction a push moves nothing; above it the rest accelerates. A free ball loses f/m
    of its speed a second.
    """
    simulator, ids = make("ball", ("x_frictionloss", "x_damping"), 4), np.arange(4)
    simulator.set_parameters(ids, np.array([[0.5, 0.0]] * 4))
    simulator.reset(
        ids, np.zeros((4, 2)), np.array([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    )
    push = np.zeros((4, 2))
    push[:2, 0] = 0.4, 0.9
    for _ in range(20):
        simulator.step(ids, push)
    assert np.allclose(
        simulator.qvel[:, 0], [0.0, 0.4, 1.5, 0.5], atol=0.01
    )  # after a second, of a kilogram
    for _ in range(50):
        simulator.step(ids, np.zeros((4, 2)))
    assert np.allclose(simulator.qvel[3], 0, atol=1e-3)


@pytest.mark.parametrize("robot", ROBOTS)
def test_ranges_move_where_joints_stop(robot):
    """A limit acts beyond the scaled end and not before it, on every limited joint, and on none but
    the one named.
    """
    model = make(robot, (), 1).batch.get_model(0)
    factor = 0.6
    for j in model.actuator_trnid[:, 0]:
        joint = model.joint(int(j))
        name = joint.name.removesuffix("_joint")
        if not model.jnt_limited[j]:
            assert f"{name}_range" not in table_of(robot)
            continue
        for simulator in (
            with_values(robot, joint_range=factor),
            with_values(robot, **{f"{name}_range": factor}),
        ):
            for end in joint.range[joint.range != 0]:
                for inside in (True, False):
                    qpos = high(simulator)
                    outward = 1 if end == joint.range[1] else -1
                    qpos[model.jnt_qposadr[j]] = end * factor + outward * (
                        -0.01 if inside else 0.01
                    )
                    _, data = forward(simulator, qpos=qpos)
                    limits = data.efc_type == mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT
                    stopped = data.efc_id[limits].tolist()
                    assert (int(j) in stopped) == (not inside)
                    assert set(stopped) <= {int(j)}


# Models of one's own.


def own_model(tmp_path: Path, gravity: str, friction: str, motor: str) -> dict[str, Parameter]:
    path = tmp_path / "own.xml"
    path.write_text(f"""
        <mujoco><option gravity="{gravity}"/>
        <worldbody><geom type="plane" size="1 1 1" friction="{friction}"/>
        <body name="box" pos="0 0 1">
        <joint name="lift_joint" type="slide" axis="0 0 1"/><joint type="slide" axis="1 0 0"/>
        <geom name="box" type="box" size=".1 .1 .1" friction="{friction}"/></body></worldbody>
        <actuator>{motor}</actuator></mujoco>""")
    return load_parameters(path)


def test_a_parameter_that_a_model_lacks_is_not_offered(tmp_path):
    bare = own_model(tmp_path, "0 0 0", "0 0 0", "")
    assert set(bare) == {"density", "box_mass"}


def test_a_tilted_gravity_keeps_its_direction(tmp_path):
    table = own_model(tmp_path, "3 0 -4", "0.5", '<motor joint="lift_joint"/>')
    assert table["gravity"].default == 5
    assert table["friction"].default == 0.5
    assert {"lift_strength", "lift_damping", "lift_armature", "motor_strength"} <= set(table)
    assert not {"damping", "armature"} & set(table)
    assert "joint_range" not in table
    simulator = MujocoSimulator(tmp_path / "own.xml", ("gravity",), 1, 1)
    simulator.set_parameters(np.arange(1), np.array([[10.0]]))
    assert np.allclose(simulator.batch.get_model(0).opt.gravity, [6, 0, -8])


# The friction of contacts, in models that are not a plain robot on a plain floor.

BOX = (
    '<body name="{0}" pos="0 0 .099"><freejoint/><geom name="{0}" type="box" size=".1 .1 '
    '.1" {1}/>{2}</body>'
)
PLANE = '<geom name="floor" type="plane" size="5 5 1" {}/>'


def contact_frictions(tmp_path: Path, world: str, more: str = "", **values: float) -> set[float]:
    """The sliding friction of all contacts with something that stands still, under these
    parameters.
    """
    path = tmp_path / "model.xml"
    path.write_text(f"<mujoco><worldbody>{world}</worldbody>{more}</mujoco>")
    simulator = MujocoSimulator(path, tuple(values), 1, 1, forces=True)
    simulator.set_parameters(np.arange(1), np.array([list(values.values())]))
    simulator.reset(np.arange(1), simulator.qpos0[None], np.zeros((1, simulator.nv)))
    still = is_scenery(simulator.model)
    found = {round(mu, 9) for geoms, mu in simulator.contacts(0) if still[list(geoms)].any()}
    assert found
    return found


FRICTION_MODELS = {
    # of the issue: a visual geom of more friction; a foot, then a floor, of higher priority; an
    # explicit pair
    "visual": (
        PLANE.format('friction=".6"')
        + BOX.format(
            "box",
            'friction=".6"',
            '<geom size=".1" friction="1" contype="0" conaffinity="0" mass="0"/>',
        ),
        "",
    ),
    "foot first": (
        PLANE.format('friction="1"') + BOX.format("foot", 'friction=".4" priority="1"', ""),
        "",
    ),
    "floor first": (
        PLANE.format('friction=".5" priority="2"') + BOX.format("foot", 'friction="1.5"', ""),
        "",
    ),
    "pair": (
        PLANE.format("") + BOX.format("foot", "", ""),
        '<contact><pair geom1="floor" geom2="foot" friction=".7 .7"/></contact>',
    ),
    # their siblings: a floor in a body that stands still; priorities on both sides; a floor that
    # masks keep away; a pair between geoms whose masks do not meet; a rough floor that the
    # exclusion of bodies keeps away
    "stand": (
        '<body name="stand" pos="0 0 -.1"><geom type="box" size="2 2 .1" friction="1.5"/></body>'
        + BOX.format("box", 'friction=".5"', ""),
        "",
    ),
    "both first": (
        PLANE.format('friction=".8" priority="3"')
        + BOX.format("box", 'friction="2" priority="1"', ""),
        "",
    ),
    "masks": (
        PLANE.format('friction="2" contype="4" conaffinity="4"')
        + '<geom type="box" size="2 2 .1" pos="0 0 -.1" friction=".5"/>'
        + BOX.format("box", 'friction=".4"', ""),
        "",
    ),
    "pair past masks": (
        PLANE.format('contype="0" conaffinity="0"') + BOX.format("foot", "", ""),
        '<contact><pair geom1="foot" geom2="floor" friction=".9 .9"/></contact>',
    ),
    "excluded": (
        '<body name="pit" pos="0 0 -1"><geom type="box" size="1 1 .9" friction="3"/></body>'
        + PLANE.format('friction=".6"')
        + BOX.format("box", 'friction=".2"', ""),
        '<contact><exclude body1="pit" body2="box"/></contact>',
    ),
}


@pytest.mark.parametrize("name", FRICTION_MODELS)
@pytest.mark.parametrize("value", [0.3, 1.7])
def test_friction_is_what_the_contact_has_whatever_decides_it(name, value, tmp_path):
    world, more = FRICTION_MODELS[name]
    assert contact_frictions(tmp_path, world, more, friction=value) == {value}


@pytest.mark.parametrize("name", FRICTION_MODELS)
def test_the_default_of_friction_is_the_contacts(name, tmp_path):
    world, more = FRICTION_MODELS[name]
    (measured,) = contact_frictions(tmp_path, world, more)
    assert load_parameters(tmp_path / "model.xml")["friction"].default == pytest.approx(
        measured, abs=1e-9
    )


TWO_FLOORS = (
    '<geom name="ice" type="box" size="2 2 .1" pos="0 0 -.1" friction=".1"/>'
    '<geom name="rough" type="box" size="2 2 .1" pos="50 0 -.1" friction="1.5"/>'
)
SECOND_FOOT = '<geom name="foot_r" type="sphere" pos=".3 0 0" size=".1" friction="{}"/>'
UNLIKE_MODELS = {
    # a floor that nobody ever touches; two feet; a gripper that could reach the table
    "two floors": (
        TWO_FLOORS + BOX.format("foot", 'friction=".2"', ""),
        "",
        "foot with ice 0.2, foot with rough 1.5",
    ),
    "two feet": (
        PLANE.format('friction=".1"')
        + BOX.format("foot_l", 'friction=".4"', SECOND_FOOT.format(".9")),
        "",
        "foot_l with floor 0.4, foot_r with floor 0.9",
    ),
    "gripper": (
        PLANE.format("")
        + BOX.format("cube", 'friction=".5"', "")
        + '<body name="finger" pos="1 0 .1"><joint type="slide"/><geom name="finger" size=".1" '
        'friction="2"/></body>',
        "",
        "cube with floor 1, finger with floor 2",
    ),
    # their siblings: a wheel and a skid, of which no one is called a foot; a pair that rubs by two
    # directions; two pairs of the same geoms; a foot that slides on one floor without friction
    "wheel and skid": (
        PLANE.format('friction=".1"')
        + BOX.format("wheel", 'friction=".8"', "")
        + BOX.format("skid", 'friction=".2"', "").replace("0 0 .099", "1 0 .099"),
        "",
        "skid with floor 0.2, wheel with floor 0.8",
    ),
    "skate": (
        PLANE.format("") + BOX.format("foot", "", ""),
        '<contact><pair geom1="floor" geom2="foot" friction=".9 .3"/></contact>',
        "foot with floor in the second direction 0.3, foot with floor 0.9",
    ),
    "two pairs": (
        PLANE.format("") + BOX.format("foot", "", ""),
        '<contact><pair geom1="floor" geom2="foot" friction=".9 .9"/>'
        '<pair geom1="foot" geom2="floor" friction=".3 .3"/></contact>',
        "foot with floor 0.3, foot with floor 0.9",
    ),
    "one floor without friction": (
        PLANE.format('condim="1" priority="1"')
        + '<geom name="mat" type="box" size="2 2 .1" pos="5 0 -.1" friction=".6"/>'
        + BOX.format("foot", 'friction=".5"', ""),
        "",
        "foot with floor 0, foot with mat 0.6",
    ),
}


@pytest.mark.parametrize("name", UNLIKE_MODELS)
def test_friction_is_withheld_where_one_value_would_not_hold_and_a_factor_takes_its_place(
    name, tmp_path
):
    world, more, words = UNLIKE_MODELS[name]
    default = contact_frictions(tmp_path, world, more)
    path = tmp_path / "model.xml"
    assert "friction" not in load_parameters(path) and "friction_scale" not in load_withheld(path)
    reason = load_withheld(path)["friction"]
    assert (
        f"by default: {words}; " in reason
        and "friction_scale=x0.5" in reason
        and "\n" not in reason
    )
    scale = load_parameters(path)["friction_scale"]
    assert (scale.default, scale.unit) == (1.0, "x") and parse_setting("x0.5", scale) == 0.5
    (tmp_path / "b").mkdir()
    halved = contact_frictions(tmp_path / "b", world, more, friction_scale=0.5)
    assert sorted(halved) == pytest.approx([mu / 2 for mu in sorted(default)], abs=1e-9)


def test_a_factor_scales_the_second_direction_of_a_pair_too(tmp_path):
    world, more, _ = UNLIKE_MODELS["skate"]
    path = tmp_path / "model.xml"
    path.write_text(f"<mujoco><worldbody>{world}</worldbody>{more}</mujoco>")
    simulator = MujocoSimulator(path, ("friction_scale",), 1, 1)
    simulator.set_parameters(np.arange(1), np.array([[2.0]]))
    assert np.allclose(simulator.world_model(0).pair_friction[0, :2], [1.8, 0.6], rtol=1e-12)


@pytest.mark.parametrize("name", FRICTION_MODELS)
def test_no_factor_is_offered_where_friction_is(name, tmp_path):
    world, more = FRICTION_MODELS[name]
    path = tmp_path / "model.xml"
    path.write_text(f"<mujoco><worldbody>{world}</worldbody>{more}</mujoco>")
    assert "friction" in load_parameters(path) and "friction_scale" not in load_parameters(path)


@pytest.mark.parametrize("foot", ["Left_Foot", "LFOOT", "foot"])
def test_a_foot_is_one_in_any_case_of_letters(foot, tmp_path):
    """The knee, which a fall brings to the floor, follows in proportion: 2 * 0.3 / 1.4."""
    knee = '<geom name="knee" type="sphere" size=".1" pos=".5 0 0" friction="2"/>'
    world = PLANE.format("") + BOX.format(foot, 'friction="1.4"', knee)
    assert contact_frictions(tmp_path, world, friction=0.3) == {0.3, round(0.6 / 1.4, 9)}
    assert load_parameters(tmp_path / "model.xml")["foot_friction"].default == 1.4


def test_feet_that_differ_agree_on_a_floor_that_is_rougher_than_all(tmp_path):
    """Each contact has the floor's: `friction` holds, but no one coefficient is the default of both
    feet.
    """
    world = PLANE.format("") + BOX.format("foot_l", 'friction=".4"', SECOND_FOOT.format(".9"))
    assert contact_frictions(tmp_path, world, friction=0.3) == {0.3}
    path = tmp_path / "model.xml"
    reason = load_withheld(path)["foot_friction"]
    assert (
        reason
        == "the feet's own coefficients differ by default: foot_l 0.4, foot_r 0.9; set friction"
    )
    (tmp_path / "b").mkdir()
    contact_frictions(tmp_path / "b", *UNLIKE_MODELS["two feet"][:2])
    assert load_withheld(tmp_path / "b" / "model.xml")["foot_friction"].endswith(
        "; set friction_scale"
    )


def test_a_contact_of_condim_1_is_without_friction_whatever_its_coefficient(tmp_path):
    box = BOX.format("box", 'friction=".5" condim="1"', "")
    assert contact_frictions(tmp_path, PLANE.format('condim="1"') + box) == {0.0}
    (tmp_path / "b").mkdir()
    assert contact_frictions(tmp_path / "b", PLANE.format("") + box) == {
        1.0
    }  # the floor's condim of 3 wins


def test_a_foot_that_touches_nothing_does_not_name_the_friction(tmp_path):
    """The visual foot of friction 2 does not count, the sole beneath it does."""
    foot = '<geom name="foot" size=".1" friction="2" contype="0" conaffinity="0" mass="0"/>'
    world = PLANE.format('friction=".1"') + BOX.format("sole", 'friction=".8"', foot)
    assert contact_frictions(tmp_path, world, friction=0.3) == {0.3}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foot first", "for the feet have the higher priority"),
        ("visual", None),
        ("masks", None),
    ],
)
def test_foot_friction_is_offered_where_it_is_what_its_meaning_says(name, words, tmp_path):
    world, more = FRICTION_MODELS[name]
    world = world.replace('"box"', '"foot"').replace('type="foot"', 'type="box"')
    floor = {"visual": 0.6, "masks": 0.5}.get(name, 0.0)
    for value in (0.05, 0.3, 1.7):
        assert contact_frictions(tmp_path, world, more, foot_friction=value) == {max(value, floor)}
    meaning = load_parameters(tmp_path / "model.xml")["foot_friction"].meaning
    assert (words or f"up to the floor's {floor:g} are the same") in meaning
    assert find_inert_foot_friction(load_model(tmp_path / "model.xml")) == (floor or None)


@pytest.mark.parametrize(
    ("world", "more", "words"),
    [
        (*FRICTION_MODELS["floor first"], "the priority of floor is above that of foot"),
        (*FRICTION_MODELS["pair"], "<contact><pair> gives foot and floor a friction of their own"),
        (
            PLANE.format("") + BOX.format("foot", 'contype="2" conaffinity="2"', ""), "",
            "no geom called a foot can touch the floor",
        ),
        (
            PLANE.format('condim="1"') + BOX.format("foot", 'condim="1"', ""), "",
            "foot touches floor without friction (condim 1)",
        ),
        (
            PLANE.format('priority="1"') + BOX.format("foot", 'priority="1"', "")
            + '<body pos="0 0 -1"><geom name="deck" size=".1"/></body>',
            "",
            "higher priority than some floors only",
        ),
    ],
)  # fmt: skip
def test_foot_friction_that_would_not_hold_is_withheld_with_the_reason(
    world, more, words, tmp_path
):
    path = tmp_path / "model.xml"
    path.write_text(f"<mujoco><worldbody>{world}</worldbody>{more}</mujoco>")
    assert "foot_friction" not in load_parameters(path)
    assert words in load_withheld(path)["foot_friction"]


@pytest.mark.parametrize(
    ("option", "geom", "words"),
    [
        (
            '<option><flag override="enable"/></option>',
            "",
            "all contacts have the option o_friction",
        ),
        ("", 'condim="1"', "without friction (condim 1)"),
        ("", 'friction="0"', "is 0 by default, and it is set by scaling"),
    ],
)
def test_friction_that_no_coefficient_decides_is_withheld(option, geom, words, tmp_path):
    path = tmp_path / "model.xml"
    path.write_text(
        f"<mujoco>{option}<worldbody>{PLANE.format(geom)}{BOX.format('box', geom, '')}</worldbody></mujoco>"  # noqa: E501
    )
    assert "friction" not in load_parameters(path)
    assert words in load_withheld(path)["friction"]


def test_a_domain_says_why_a_name_is_withheld(tmp_path, monkeypatch):
    path = tmp_path / "model.xml"
    path.write_text(f"<mujoco><worldbody>{FRICTION_MODELS['floor first'][0]}</worldbody></mujoco>")
    monkeypatch.setattr(type(tasks.find_task("hopper")), "model_path", lambda self: path)
    with pytest.raises(
        BadValue, match=r"hopper has no foot_friction: the priority of floor"
    ) as caught:
        parse_domain("hopper/foot_friction=1")
    assert "\n" not in str(caught.value)
    assert parse_domain("hopper/friction=0.3").names == ("friction",)


@pytest.mark.parametrize(
    "flag", ["", '<flag filterparent="disable"/>', '<flag contact="disable"/>']
)
def test_colliding_pairs_are_mujocos(flag, tmp_path):
    """Balls in one place: parent, child, grandchild, a rigid part, two that stand still."""
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option>{flag}</option><worldbody><geom size=".3"/><body><geom size=".3" '
        f'pos=".01 0 0"/></body>'
        '<body><joint/><geom size=".3" pos="0 .01 0"/><body><geom size=".3" pos="0 0 .01"/></body>'
        '<body pos=".02 0 0"><joint/><geom size=".3"/>'
        '<body><joint/><geom size=".3" pos="0 .02 0"/></body></body></body>'
        "</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert {tuple(sorted(map(int, contact.geom))) for contact in data.contact} == set(
        find_colliding(model)
    )
    assert len(find_colliding(model)) == {"": 10, '<flag filterparent="disable"/>': 13}.get(flag, 0)


# The grammar.

MASS = Parameter("torso_mass", "kg", 4.0, 0.5, 50.0, (), lambda fields, values: None, "")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("6", 6.0),
        ("+6.5", 6.5),
        (".5", 0.5),
        ("5e-1", 0.5),
        ("x2", 8.0),
        ("x.5", 2.0),
        ("1..9", Distribution("uniform", 1.0, 9.0)),
        ("x0.5..x2", Distribution("uniform", 2.0, 8.0)),
        ("1..x2", Distribution("uniform", 1.0, 8.0)),
        ("1...5e1", Distribution("uniform", 1.0, 5.0)),
        ("3..3", Distribution("uniform", 3.0, 3.0)),
        ("log:0.5..10", Distribution("log", 0.5, 10.0)),
        ("log:x.5..x2", Distribution("log", 2.0, 8.0)),
        ("normal:6:1.5:3..9", Distribution("normal", 3.0, 9.0, 6.0, 1.5)),
        ("normal:x1:x0.1:3..9", Distribution("normal", 3.0, 9.0, 4.0, 0.4)),
        ("0.5..11.5:12", Grid(tuple(0.5 + i for i in range(12)))),
        ("log:1..16:5", Grid((1.0, 2.0, 4.0, 8.0, 16.0))),
        ("2..2:1", Grid((2.0,))),
    ],
)
def test_settings_read(text, setting):
    got = parse_setting(text, MASS)
    assert type(got) is type(setting)
    if isinstance(setting, Grid):
        assert np.allclose(got.values, setting.values, rtol=1e-14)
        assert all(type(v) is float for v in got.values)
    else:
        assert got == setting


@pytest.mark.parametrize(
    "text",
    [
        "six",
        "6kg",
        "x",
        "xx2",
        "2x",
        "-6",
        "0",
        "0.4",
        "50.1",
        "x100",
        "nan",
        "inf",
        "1e999",
        "0x10",
        "6.",
        "1,5",
        "1_0",
        "1..",
        "..9",
        "9..1",
        "1..99",
        "0..9",
        "1..9..2",
        "1..9:0",
        "1..9:1",
        "1..9:1001",
        "1..9:x2",
        "1..9:2.5",
        "log:9",
        "log:9..1",
        "log:0..9",
        "log:0..9:3",
        "lin:1..9",
        "uniform:1..9",
        "normal:6:1.5",
        "normal:6:0:3..9",
        "normal:6:-1:3..9",
        "normal:1:1:3..9",
        "normal:6:1:9..3",
        "normal:6:1:3..3",
        "normal:6:1:3..9:4",
        "normal:6:1:0..9",
        "[1,2]",
        "1;2",
        "",
        " ",
        "6 7",
        "6\n",
        "1 .. 9",
    ],
)
def test_what_is_no_setting_gets_one_line_that_names_it(text):
    with pytest.raises(BadValue) as error:
        parse_setting(text, MASS)
    message = str(error.value)
    assert "torso_mass" in message
    assert "\n" not in message
    assert len(message) < 200


def test_bounds_are_inclusive_and_named():
    assert parse_setting("0.5", MASS) == 0.5
    assert parse_setting("50", MASS) == 50
    with pytest.raises(BadValue, match=r"torso_mass=60 is out of bounds; allowed: 0\.5\.\.50 kg"):
        parse_setting("60", MASS)
    for robot in ROBOTS:
        for parameter in table_of(robot).values():
            assert parameter.low <= parameter.default <= parameter.high
            assert parse_setting("x1", parameter) == parameter.default


def test_settings_survive_their_text():
    """format and parse are inverse, for settings of every kind over many magnitudes."""
    random = np.random.default_rng(0)
    wide = Parameter("p", "1", 0.3, 0.0, 1e9, (), lambda fields, values: None, "")

    def number() -> float:
        value = float(10 ** random.uniform(-6, 8))
        return [value, float(f"{value:.3g}"), float(round(value)) or 1.0][random.integers(3)]

    settings: list[float | Distribution | Grid] = [0.0, 1e9, Grid((0.1,))]
    for _ in range(500):
        low, high = sorted([number(), number() + 1e-7])
        mean, count = float(random.uniform(low, high)), int(random.integers(2, 40))
        settings += [
            low,
            Distribution("uniform", low, high),
            Distribution("log", low, high),
            Distribution("normal", low, high, mean, number()),
        ]
        settings += [
            parse_setting(f"{low!r}..{high!r}:{count}", wide),
            parse_setting(f"log:{low!r}..{high!r}:{count}", wide),
        ]
    for setting in settings:
        text = format_setting(setting)
        assert parse_setting(text, wide) == setting, text
        assert format_setting(parse_setting(text, wide)) == text
        assert " " not in text
        assert "," not in text
        assert "/" not in text  # they stand in names: problem/gravity=2,torso_mass=1..9


def test_texts_are_short():
    table = table_of("hopper")
    for name, text in [
        ("torso_mass", "6"),
        ("gravity", "19.62"),
        ("torso_mass", "normal:6.0:1.5:3.0..9.0"),
    ]:
        assert format_setting(parse_setting(text, table[name])) == text
    assert format_setting(parse_setting("x2", table["gravity"])) == "19.62"


def test_an_unknown_parameter_names_its_neighbours():
    with pytest.raises(
        UnknownName, match="unknown parameter of hopper 'toso_mass'; did you mean torso_mass"
    ):
        find_parameter(table_of("hopper"), "toso_mass", "hopper")
    with pytest.raises(UnknownName, match=r"known: .*gravity"):
        find_parameter(table_of("hopper"), "qqq", "hopper")


# Laws.


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("1..9", stats.uniform(1, 8)),
        ("log:0.5..10", stats.loguniform(0.5, 10)),
        ("normal:6:1.5:3..9", stats.truncnorm(-2, 2, 6, 1.5)),
        ("normal:3:5:3..20", stats.truncnorm(0, 3.4, 3, 5)),
        ("normal:20:0.5:1..50", stats.truncnorm(-38, 60, 20, 0.5)),
    ],
)
def test_draws_follow_their_law(text, law):
    setting = parse_setting(text, MASS)
    assert isinstance(setting, Distribution)
    x = setting.draw(Streams(keys(3, 50_000)))
    assert x.shape == (50_000,)
    assert x.min() >= setting.low
    assert x.max() <= setting.high
    assert stats.kstest(x, law.cdf).pvalue > 1e-3
    assert abs(x.mean() - law.mean()) < 4 * law.std() / len(x) ** 0.5
    assert abs(x.std() / law.std() - 1) < 0.02


@pytest.mark.parametrize("text", ["1..9", "log:0.5..10", "normal:6:1.5:3..9", "3..3", "log:3..3"])
def test_a_draw_depends_on_its_own_stream(text):
    law = parse_setting(text, MASS)
    assert isinstance(law, Distribution)
    key = keys(0, 17)
    together = law.draw(Streams(key))
    assert np.array_equal(together, [law.draw(Streams(key[i : i + 1]))[0] for i in range(17)])


@pytest.mark.parametrize(
    "text", ["1..9", "log:0.5..10", "normal:6:1.5:3..9", "normal:20:0.1:1..50", "log:0.7..0.9"]
)
def test_draws_stay_inside_at_the_extremes(text):
    class Extreme(Streams):
        def uniform(self, low, high, size, where=None):
            return np.array([[0.0], [np.nextafter(1, 0)], [0.5]])

    law = parse_setting(text, MASS)
    assert isinstance(law, Distribution)
    x = law.draw(Extreme(keys(0, 3)))
    assert np.isfinite(x).all()
    assert (x >= law.low).all()
    assert (x <= law.high).all()
