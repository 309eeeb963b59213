"""The second engine against the first and against known answers: bodies, motion, contact, exact
state, parameters.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np
import pytest
import tiny

import isthmus
from isthmus.audit.audit import audit
from isthmus.audit.effect import NO_CHANGE, SHIFT
from isthmus.domains.domain import RobotDomain, _simulation
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.physics import dart, dart_model
from isthmus.physics import mujoco as reference
from isthmus.physics.dart import DartSimulator
from isthmus.physics.dart_contacts import plan_shapes
from isthmus.physics.dart_world import import_dartpy
from isthmus.physics.geom_contacts import find_colliding, find_colliding_contacts
from isthmus.physics.mujoco import MujocoSimulator, load_model
from isthmus.physics.random import Streams, keys
from isthmus.rendering import CannotRender, find_backend
from isthmus.report.watch import film
from isthmus.tasks import task as tasks
from isthmus.training import train as loop
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Decision, UnknownName

# On Linux `make setup` installs dartpy: there, a missing one is a failure.
pytestmark = pytest.mark.skipif(
    find_spec("dartpy") is None and sys.platform != "linux", reason="no dartpy here"
)

ROBOTS = ["ball", "cartpole_swingup", "half_cheetah", "hopper", "reacher", "walker2d"]
G = 9.81


def make(
    robot: str, n: int = 4, names: tuple[str, ...] = (), frame_skip: int | None = None
) -> DartSimulator:
    task = tasks.find_task(robot)
    return DartSimulator(task.model_path(), names, n, frame_skip or task.frame_skip)


def built(
    folder: Path, bodies: str, names: tuple[str, ...] = (), dt: float = 0.002, more: str = ""
) -> DartSimulator:
    """One world of a model of one's own, a substep a step."""
    path = folder / f"{abs(hash(bodies + more))}.xml"
    path.write_text(
        f'<mujoco><option timestep="{dt}"/><worldbody>{bodies}</worldbody>{more}</mujoco>'
    )
    return DartSimulator(path, names, 1, 1)


def begin(robot: str, simulator: Any, seed: int = 0) -> None:
    ids = np.arange(simulator.n)
    simulator.reset(ids, *tasks.find_task(robot).start(simulator, Streams(keys(seed, simulator.n))))


def control(simulator: Any, t: int) -> np.ndarray:
    return np.random.default_rng(t).uniform(-1, 1, (simulator.n, simulator.model.nu))


def run(simulator: Any, steps: range) -> np.ndarray:
    """Rows over time [T, N, S] under random control."""
    rows = []
    for t in steps:
        assert not simulator.step(np.arange(simulator.n), control(simulator, t)).any()
        rows.append(simulator.rows.copy())
    return np.array(rows)


def coast(simulator: DartSimulator, steps: int, force: float = 0.0) -> np.ndarray:
    """[qpos, qvel] over time [T, S] of the one world, under a constant control."""
    rows = []
    for _ in range(steps):
        assert not simulator.step(np.array([0]), np.full((1, simulator.model.nu), force)).any()
        rows.append(simulator.rows[0].copy())
    return np.array(rows)


# The robot is the model's


@pytest.mark.parametrize("robot", ROBOTS)
def test_bodies_are_where_and_as_heavy_as_in_mujoco(robot):
    """Mass matrix, Coriolis and gravity forces and all poses, at random configurations and
    velocities.
    """
    simulator = make(robot, n=1)
    model, world = simulator.model, simulator._worlds[0]
    data, inertia, rng = (
        mujoco.MjData(model),
        np.zeros((model.nv, model.nv)),
        np.random.default_rng(0),
    )
    for _ in range(10):
        data.qpos[:], data.qvel[:] = rng.uniform(-2, 2, model.nq), rng.uniform(-3, 3, model.nv)
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, inertia)
        world.robot.setPositions(data.qpos)
        world.robot.setVelocities(data.qvel)
        inertia -= np.diag(model.dof_armature)
        assert np.allclose(
            world.robot.getMassMatrix(), inertia, rtol=0, atol=1e-9 * abs(inertia).max()
        )
        bias = world.robot.getCoriolisAndGravityForces()
        assert np.allclose(
            bias, data.qfrc_bias, rtol=0, atol=1e-9 * max(1.0, abs(data.qfrc_bias).max())
        )
        for b, node in world.bodies.items():
            assert np.allclose(node.getWorldTransform().translation(), data.xpos[b], atol=1e-12)
            assert np.allclose(
                node.getWorldTransform().rotation().ravel(), data.xmat[b], atol=1e-12
            )
        simulator.qpos[0] = data.qpos
        for b in range(1, model.nbody):
            assert np.allclose(simulator.position(model.body(b).name)[0], data.xpos[b], atol=1e-12)


def test_a_robot_on_a_stand_and_parts_without_mass(tmp_path):
    """Bodies that stand still carry the robot; a sensor's body weighs nothing."""
    simulator = built(
        tmp_path,
        '<body pos="0 1 2" euler="90 0 0"><geom type="box" size=".1 .1 .1"/><body pos="0 0 '
        '.3" euler="0 30 0">'
        '<joint type="hinge" axis="0 1 0" pos=".1 0 0" ref="20"/><geom type="capsule" '
        'size=".02 .3" mass="1"/>'
        '<body name="tip" pos="0 0 .5"><site/></body></body></body>',
    )
    model, world = simulator.model, simulator._worlds[0]
    data = mujoco.MjData(model)
    data.qpos[0] = 1.3
    mujoco.mj_forward(model, data)
    world.robot.setPositions(data.qpos)
    assert np.isclose(world.robot.getMassMatrix()[0, 0], data.M[0], rtol=1e-9)
    tip = world.bodies[model.body("tip").id]
    assert np.allclose(tip.getWorldTransform().translation(), data.body("tip").xpos, atol=1e-12)
    assert world.robot.getMass() == pytest.approx(1.0, abs=1e-9)


def test_what_collides_is_what_mujoco_lets_collide(tmp_path):
    """Balls in one place: kinds, parents, the excluded, parts of one body, what stands still."""
    simulator = built(
        tmp_path,
        '<geom size=".3" pos="0 .01 0"/><body><geom size=".3" pos=".02 0 0"/></body>'
        '<body name="a"><freejoint/><geom size=".3"/><body pos=".1 0 0"><geom size=".3"/></body>'
        '<body name="b" pos=".05 0 0"><joint/><geom size=".3"/><geom size=".3" pos="0 .05 0"/>'
        '<body name="c" pos="0 .06 0"><joint/><geom size=".3"/></body></body></body>'
        '<body name="d" pos="0 0 .07"><freejoint/><geom size=".3"/></body>'
        '<body name="e" pos="0 .08 .02"><freejoint/><geom size=".3" contype="2" '
        'conaffinity="4"/></body>'
        '<body name="f" pos=".08 .08 0"><freejoint/><geom size=".3" contype="8" '
        'conaffinity="2"/></body>'
        '<body name="g" pos=".08 0 .08"><freejoint/><geom size=".3" contype="0" '
        'conaffinity="0"/></body>',
        more='<contact><exclude body1="d" body2="a"/></contact>',
    )
    data = mujoco.MjData(simulator.model)
    mujoco.mj_forward(simulator.model, data)
    theirs = {tuple(sorted(map(int, contact.geom))) for contact in data.contact}
    assert theirs == set(find_colliding(simulator.model))
    simulator.step(np.array([0]), np.zeros((1, 0)))
    assert theirs == {tuple(sorted(pair)) for pair, _ in simulator.contacts(0)} and len(theirs) > 12


# Motion, by formula


def test_a_body_falls_as_semi_implicit_euler_has_it(tmp_path):
    simulator = built(
        tmp_path, '<body pos="0 0 50"><freejoint/><geom type="sphere" size=".1"/></body>'
    )
    simulator.qvel[0, :3] = [1.0, 0.0, 2.0]
    n, dt = 500, 0.002
    last = coast(simulator, n)[-1]
    assert np.allclose(
        last[:3], [n * dt, 0.0, 50 + 2 * n * dt - G * dt**2 * n * (n + 1) / 2], atol=1e-9
    )
    assert last[7 + 2] == pytest.approx(2 - G * n * dt, abs=1e-9)


def test_a_free_body_turns_as_in_mujoco(tmp_path):
    """Velocities are linear in the world's frame and angular in the body's, quaternions do not
    jump.
    """
    body = (
        '<body pos="0 0 5"><freejoint/><geom type="box" size=".1 .2 .3" contype="0" '
        'conaffinity="0"/></body>'
    )
    simulator = built(tmp_path, body, dt=0.0005)
    model = simulator.model
    data = mujoco.MjData(model)
    start = np.array([0.3, -0.2, 0.5, 2.0, -3.0, 1.0])
    quaternion = np.array([0.2, -0.4, 0.5, 0.1])
    data.qpos[3:], data.qvel[:] = quaternion / np.linalg.norm(quaternion), start
    simulator.reset(np.array([0]), data.qpos[None], data.qvel[None])
    for rows in coast(simulator, 2000):
        mujoco.mj_step(model, data)
        assert np.allclose(rows[:7], data.qpos, atol=5e-3) and np.allclose(
            rows[7:], data.qvel, atol=2e-2
        )
    assert np.linalg.norm(simulator.qpos[0, 3:7]) == pytest.approx(1.0, abs=1e-12)


def test_a_pendulum_keeps_its_energy_and_its_period(tmp_path):
    simulator = built(
        tmp_path,
        '<body><joint type="hinge" axis="0 1 0"/><geom type="sphere" pos="0 0 -1" size=".1" '
        'mass="2"/></body>',
    )
    inertia = 2 * (1 + 0.4 * 0.1**2)
    simulator.qpos[0] = 0.1
    rows = coast(simulator, 5000)  # 10 s
    energy = 0.5 * inertia * rows[:, 1] ** 2 + 2 * G * (1 - np.cos(rows[:, 0]))
    assert np.ptp(energy) < 0.01 * energy.mean()
    up = np.flatnonzero((rows[:-1, 0] < 0) & (rows[1:, 0] >= 0))
    period = np.diff(up).mean() * 0.002
    assert period == pytest.approx(
        2 * np.pi * np.sqrt(inertia / (2 * G)) * (1 + 0.1**2 / 16), rel=1e-3
    )


SLIDE = (
    '<body><joint name="x" type="slide" axis="1 0 0" {}/><geom type="sphere" size=".1" '
    'mass="2"/></body>'
)
MOTOR = '<actuator><motor joint="x" gear="{}" ctrllimited="true" ctrlrange="-1 1"/></actuator>'


def test_damping_friction_and_springs_do_what_their_formulas_say(tmp_path):
    dt, n = 0.002, 500
    damped = built(tmp_path, SLIDE.format('damping="3"'))
    damped.qvel[0] = 1.0
    assert coast(damped, n)[-1, 1] == pytest.approx((1 + dt * 3 / 2) ** -n, rel=1e-9)  # implicit
    rubbed = built(tmp_path, SLIDE.format('frictionloss="4"'))
    rubbed.qvel[0] = 1.0
    rows = coast(rubbed, n)
    assert rows[-1, 0] == pytest.approx(1 / (2 * 4 / 2), rel=0.01) and abs(rows[-1, 1]) < 1e-6
    sprung = built(tmp_path, SLIDE.format('stiffness="50" springref=".3"'))
    rows = coast(sprung, 2000)
    assert rows[:, 0].mean() == pytest.approx(0.3, abs=0.02)
    ups = np.flatnonzero((rows[:-1, 0] < 0.3) & (rows[1:, 0] >= 0.3))
    assert np.diff(ups).mean() * dt == pytest.approx(2 * np.pi * np.sqrt(2 / 50), rel=5e-3)


def test_a_motor_pushes_by_its_gear_and_no_more_than_its_range(tmp_path):
    for force, want in ((0.5, 3.0), (1.0, 6.0), (7.0, 6.0), (-7.0, -6.0)):
        simulator = built(tmp_path, SLIDE.format(""), more=MOTOR.format(6))
        assert coast(simulator, 100, force)[-1, 1] == pytest.approx(want / 2 * 0.2, rel=1e-9)


def test_joints_stop_at_their_limits(tmp_path):
    simulator = built(
        tmp_path, SLIDE.format('limited="true" range="-.2 .5"'), more=MOTOR.format(20)
    )
    assert (
        coast(simulator, 1000, 1.0)[:, 0].max() < 0.5 + 0.01
        and abs(simulator.qpos[0, 0] - 0.5) < 0.01
    )
    assert abs(coast(simulator, 1000, -1.0)[-1, 0] + 0.2) < 0.01
    hopper = make("hopper")
    begin("hopper", hopper)
    low, high = hopper.model.jnt_range[3:].T
    seen = run(hopper, range(100))[:, :, 3:6]
    assert (seen > low - 0.1).all() and (seen < high + 0.1).all()
    assert (seen < low + 0.05).any() or (seen > high - 0.05).any()


# Contact

FLOOR = '<geom type="plane" size="5 5 1" friction="{}"/>'
PARTS = {"box": (".1 .2 .15", 0.15), "sphere": (".1", 0.1), "capsule": (".06 .2", 0.06)}


@pytest.mark.parametrize("kind", PARTS)
def test_what_lies_on_the_floor_is_carried_by_it(kind, tmp_path):
    size, height = PARTS[kind]
    lying = 'euler="0 90 0"' if kind == "capsule" else ""
    body = (
        f'<body pos="0 0 .2"><freejoint/><geom type="{kind}" size="{size}" {lying} mass="2"/>'
        f"</body>"
    )
    simulator = built(tmp_path, FLOOR.format(1) + body)
    coast(simulator, 1000)
    assert (
        height - 3e-3 < simulator.qpos[0, 2] < height + 1e-4 and np.abs(simulator.qvel).max() < 2e-3
    )
    contacts = simulator._worlds[0].world.getLastCollisionResult().getContacts()
    assert len(contacts) == {"box": 4, "sphere": 1, "capsule": 2}[kind]
    assert np.allclose(sum(c.force for c in contacts), [0, 0, 2 * G], atol=1e-6)


@pytest.mark.parametrize(
    ("floor", "own", "true"), [(0.2, 0.5, 0.5), (0.6, 0.3, 0.6), (0.4, 0.4, 0.4)]
)
def test_contact_rubs_by_the_larger_friction_of_the_two(floor, own, true, tmp_path):
    """As in MuJoCo, where DART would take the smaller: a box slides v^2 / (2 mu g)."""
    body = (
        f'<body pos="0 0 .0999"><freejoint/><geom type="box" size=".3 .3 .1" '
        f'friction="{own}"/></body>'
    )
    simulator = built(tmp_path, FLOOR.format(floor) + body)
    coast(simulator, 100)
    start = simulator.qpos[0, 0]
    simulator.qvel[0, 0] = 2.0
    assert abs(coast(simulator, 1000)[-1, 7]) < 1e-3
    assert simulator.qpos[0, 0] - start == pytest.approx(4 / (2 * true * G), rel=0.02)
    assert {friction for _, friction in simulator.contacts(0)} == {true}


def test_the_hoppers_foot_carries_it():
    """Held upright by nothing it falls, but not before it has stood: feet on the floor, not in
    it.
    """
    simulator = make("hopper", n=1)
    simulator.reset(np.array([0]), simulator.qpos0[None], np.zeros((1, 6)))
    for _ in range(15):
        simulator.step(np.array([0]), np.zeros((1, 3)))
    contacts = simulator._worlds[0].world.getLastCollisionResult().getContacts()
    assert {pair for pair, _ in simulator.contacts(0)} == {(4, 0)} and {
        mu for _, mu in simulator.contacts(0)
    } == {2.0}
    weight = simulator.model.body_mass.sum() * G
    assert sum(c.force[2] for c in contacts) == pytest.approx(weight, rel=0.2)
    assert max(c.penetrationDepth for c in contacts) < 2e-3


def slide_on(tmp_path: Path, world: str) -> float:
    """How far a box in the last body slides from 2 m/s."""
    simulator = built(tmp_path, world)
    coast(simulator, 100)
    start = simulator.qpos[0, -7]
    simulator.qvel[0, -6] = 2.0
    coast(simulator, 1000)
    return simulator.qpos[0, -7] - start


SLIDER = '<body pos="0 0 .0999"><freejoint/><geom type="box" size=".3 .3 .1" {}/></body>'


@pytest.mark.parametrize(
    ("others", "own", "true"),
    [
        # of the issue: a rough box 50 m away, which moves or stands still
        (
            '<body pos="50 0 2"><freejoint/><geom type="box" size=".1 .1 .1" friction="1"/></body>',
            'friction=".2"',
            0.3,
        ),
        ('<geom type="box" size=".1 .1 .1" pos="50 0 2" friction="1"/>', 'friction=".2"', 0.3),
        # a priority, of the box and of the far one; a far box without friction
        ("", 'friction=".1" priority="1"', 0.1),
        (
            '<geom type="box" size=".1 .1 .1" pos="50 0 2" friction="1" priority="5"/>',
            'friction=".4"',
            0.4,
        ),
        (
            '<geom type="box" size=".1 .1 .1" pos="50 0 2" friction="0" priority="5"/>',
            'friction=".4"',
            0.4,
        ),
    ],
)
def test_contact_rubs_by_the_pairs_own_friction(others, own, true, tmp_path):
    distance = slide_on(tmp_path, FLOOR.format(0.3) + others + SLIDER.format(own))
    assert distance == pytest.approx(4 / (2 * true * G), rel=0.02)


def test_condim_1_is_without_friction(tmp_path):
    """On a floor of condim 1 a box of condim 1 slides on; of condim 3 it stops."""
    floor = '<geom type="plane" size="9 9 1" condim="1" friction="{}"/>'
    assert slide_on(tmp_path, floor.format(0.8) + SLIDER.format('condim="1"')) == pytest.approx(
        4.0, rel=1e-3
    )
    assert slide_on(tmp_path, floor.format(0.5) + SLIDER.format('friction=".5"')) == pytest.approx(
        4 / G, rel=0.02
    )


def test_parts_that_rub_less_on_each_other_than_on_the_floor(tmp_path):
    """A slider on a slab: both have 0.2, the floor has 1. The slab stays, the slider slides by
    0.2.
    """
    slab = (
        '<body pos="0 0 .05"><freejoint/><geom type="box" size="3 1 .05" friction=".2" '
        'mass="9"/></body>'
    )
    slider = (
        '<body pos="0 0 .2"><freejoint/><geom type="box" size=".3 .3 .1" friction=".2" '
        'mass="1"/></body>'
    )
    simulator = built(tmp_path, FLOOR.format(1) + slab + slider)
    coast(simulator, 100)
    simulator.qvel[0, 6] = 2.0
    start = simulator.qpos[0, [0, 7]]
    coast(simulator, 1000)
    assert np.allclose(
        simulator.qpos[0, [0, 7]] - start, [0.0, 4 / (2 * 0.2 * G)], rtol=0.02, atol=1e-3
    )
    assert set(simulator.contacts(0)) == {((1, 0), 1.0), ((2, 1), 0.2)}


def test_the_hoppers_limbs_do_not_rub_on_each_other():
    """They are of condim 1; on the floor, of condim 3, they rub."""
    simulator = make("hopper", 1)
    simulator.reset(np.array([0]), np.array([[0, 1.25, 0, -2.6, -2.6, 0.5]]), np.zeros((1, 6)))
    among_limbs = []
    for _ in range(40):
        simulator.step(np.array([0]), np.zeros((1, 3)))
        among_limbs += [friction for pair, friction in simulator.contacts(0) if 0 not in pair]
    assert set(among_limbs) == {0.0}


PILE = [
    ('friction=".3"', 'friction=".3"', 'friction=".3"', 'friction="1"'),
    ('friction=".3"', 'friction=".7" priority="1"', 'friction="1.5"', 'friction=".5"'),
    (
        'friction=".3" condim="1"',
        'friction=".7" condim="1"',
        'friction="1.5"',
        'friction=".5" condim="1"',
    ),
    ('friction=".1"', 'friction="2"', 'friction="1"', 'friction=".2" priority="-1"'),
    ('friction=".1" priority="2"', 'friction=".4"', 'friction=".2" priority="1"', 'friction=".3"'),
]


@pytest.mark.parametrize("geoms", PILE)
def test_every_contact_has_mujocos_friction(geoms, tmp_path):
    """Four balls and two floors, all in one another: each pair touches once in both engines, and
    rubs alike.
    """
    places = ("0 0 .1", ".05 0 .1", "0 .05 .1", ".05 .05 .1")
    world = FLOOR.format(0.6) + f'<geom type="box" size="1 1 .1" pos="0 0 -.09" {geoms[0]}/>'
    for place, attributes in zip(places, geoms, strict=True):
        world += f'<body pos="{place}"><freejoint/><geom size=".1" {attributes}/></body>'
    simulator = built(tmp_path, world)
    (path,) = tmp_path.glob("*.xml")
    other = MujocoSimulator(path, (), 1, 1, forces=True)
    other.reset(np.array([0]), other.qpos0[None], np.zeros((1, other.nv)))
    simulator.step(np.array([0]), np.zeros((1, 0)))
    ours, theirs = ({frozenset(pair): mu for pair, mu in s.contacts(0)} for s in (simulator, other))
    assert ours == theirs and len(theirs) == 14


def test_a_plan_of_shapes_gives_each_pair_its_friction_once():
    """Random frictions, priorities and bodies of several geoms: one pair of shapes a pair of geoms,
    of its friction.
    """
    rng = np.random.default_rng(0)
    copied = 0
    for _ in range(30):
        world = FLOOR.format(0.5)
        for _ in range(4):
            geoms = (
                f'<geom size=".1" friction="{rng.choice([0.1, 0.5, 1])}" '
                f'condim="{rng.choice([1, 3])}" '
                f'priority="{rng.choice([0, 0, 1])}"/>'
                for _ in range(rng.integers(1, 3))
            )
            world += f"<body><freejoint/>{''.join(geoms)}</body>"
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{world}</worldbody></mujoco>")
        contacts = find_colliding_contacts(model)
        plan = plan_shapes(model, contacts, model.geom_friction[:, 0])
        copied += len(plan.copies)
        shapes = {int(b): [] for b in range(model.nbody)}
        for g, friction in plan.frictions.items():
            shapes[int(model.geom_bodyid[g])].append((g, friction))
        for k, copy in enumerate(plan.copies):
            shapes[model.nbody + k] = [tuple(copy)]
        got = []
        for b, c in plan.touching:
            for (g, mu), (h, nu) in product(shapes[b], shapes[c]):
                got.append((min(g, h), max(g, h), min(mu, nu)))
        assert sorted(got) == sorted(
            (*sorted(contact[:2]), contact.friction) for contact in contacts
        )
    assert copied > 30


def test_a_world_that_needs_other_shapes_is_as_one_made_with_them(tmp_path):
    """From one friction to another that needs second shapes, and back: the bits of a fresh
    world.
    """
    box = (
        '<body pos="{} 0 {}"><freejoint/><geom name="{}" type="box" size=".1 .1 .1" '
        'friction=".2"/></body>'
    )
    world = FLOOR.format(0.2) + box.format(0, 0.11, "foot") + box.format(0.05, 0.32, "other")
    used, fresh = (built(tmp_path, world, ("foot_friction", "friction")) for _ in range(2))
    assert not used._worlds[0].plan.copies
    one, two = np.array([[0.9, 0.2]]), np.array([[0.2, 0.2]])
    for values, copies in ((two, 0), (one, 1), (two, 0)):
        used.set_parameters(np.array([0]), values)
        assert len(used._worlds[0].plan.copies) == copies
    used.set_parameters(np.array([0]), one)
    fresh.set_parameters(np.array([0]), one)
    for s in (used, fresh):
        s.qvel[0, 6] = 1.0
    assert np.array_equal(coast(used, 200), coast(fresh, 200))


# Exact state


def dynamics(simulator: DartSimulator, seed: int = 0) -> np.ndarray:
    defaults = np.array([p.default for p in simulator.parameters])
    return defaults * np.exp(
        np.random.default_rng(seed).uniform(-0.26, 0.26, (simulator.n, len(defaults)))
    )


@pytest.mark.parametrize("robot", ["hopper", "reacher", "half_cheetah"])
def test_rows_continue_to_the_bit_in_fresh_and_used_worlds(robot):
    names = tuple(dart.load_dart_parameters(tasks.find_task(robot).model_path()))
    first, fresh, used = make(robot, 3, names), make(robot, 3, names), make(robot, 5, names)
    own = dynamics(first)
    first.set_parameters(np.arange(3), own)
    begin(robot, first)
    saved = run(first, range(60))[-1]
    want = run(first, range(60, 120))
    assert len(np.unique(want[-1], axis=0)) == 3
    used.set_parameters(np.arange(5), dynamics(used, seed=1))
    begin(robot, used, seed=1)
    run(used, range(30))
    for simulator, places in ((fresh, np.arange(3)), (used, np.array([0, 2, 4]))):
        simulator.set_parameters(places, own)
        simulator.rows[places] = saved
        for t in range(60, 120):
            simulator.step(places, control(first, t))
            assert np.array_equal(simulator.rows[places], want[t - 60])
            for body in (tasks.find_task(robot).main_body,):
                places_of = [s.position(body) for s in (simulator, first)]
                assert t < 119 or np.array_equal(places_of[0][places], places_of[1])


@pytest.mark.parametrize(
    "pieces", [["box"], ["capsule", "capsule", "sphere"], ["box", "capsule", "sphere", "box"]]
)
def test_contacts_of_the_past_are_forgotten(pieces, tmp_path):
    """Left alone, ODE's detector would add them to new ones: a box on a plane would not continue to
    the bit.
    """
    bodies = [
        f'<body pos="{0.1 * i} 0 {0.4 + 0.35 * i}"><freejoint/><geom type="{k}" '
        f'size="{PARTS[k][0]}" mass="1"/></body>'
        for i, k in enumerate(pieces)
    ]
    simulator = built(tmp_path, FLOOR.format(1) + "".join(bodies), dt=0.005)
    rng = np.random.default_rng(0)
    turned = simulator.qpos0 + rng.uniform(-0.1, 0.1, simulator.nq)
    simulator.reset(np.array([0]), turned[None], rng.uniform(-0.5, 0.5, (1, simulator.nv)))
    rows = coast(simulator, 300)
    for t in rng.permutation(299):
        simulator.rows[0] = rows[t]
        assert np.array_equal(coast(simulator, 1)[0], rows[t + 1])


def test_contacts_of_second_shapes_are_forgotten_too(tmp_path):
    body = '<body pos="0 0 {}"><freejoint/><geom type="box" size=".1 .1 .1" friction=".2"/></body>'
    simulator = built(
        tmp_path,
        FLOOR.format(1) + "".join(body.format(0.12 + 0.22 * k) for k in range(3)),
        dt=0.005,
    )
    assert simulator._worlds[0].plan.copies
    simulator.qvel[0, [6, 12]] = 0.5, -0.5
    rows = coast(simulator, 200)
    for t in np.random.default_rng(0).permutation(199):
        simulator.rows[0] = rows[t]
        assert np.array_equal(coast(simulator, 1)[0], rows[t + 1])


def test_some_worlds_step_and_the_others_wait():
    whole, part = make("hopper"), make("hopper")
    begin("hopper", whole)
    begin("hopper", part)
    want = run(whole, range(10))
    for t in range(10):
        part.step(np.array([1, 3]), control(part, t)[[1, 3]])
    assert np.array_equal(part.rows[[1, 3]], want[-1][[1, 3]])
    part.rows[[1, 3]] = np.nan
    begun = make("hopper")
    begin("hopper", begun)
    assert np.array_equal(part.rows[[0, 2]], begun.rows[[0, 2]])


@pytest.mark.parametrize("robot", ["hopper", "reacher"])
@pytest.mark.parametrize(
    "how", ["absurd velocity", "far away", "nan velocity", "infinite position", "nan control"]
)
def test_a_diverging_world_is_told_and_kept_apart(robot, how):
    simulator, healthy = make(robot), make(robot)
    for s in (simulator, healthy):
        begin(robot, s)
        run(s, range(3))
    rows, column = {
        "absurd velocity": (simulator.qvel, 1e9), "far away": (simulator.qpos, 1e12),
        "nan velocity": (simulator.qvel, np.nan), "infinite position": (simulator.qpos, np.inf),
        "nan control": (np.zeros((4, 1)), 0.0),
    }[how]  # fmt: skip
    rows[2, 0] = column
    for t in range(3, 12):
        action = control(simulator, t)
        if how == "nan control":
            action[2, -1] = np.nan
        assert simulator.step(np.arange(4), action).tolist() == [False, False, True, False]
        healthy.step(np.arange(4), control(healthy, t))
        assert np.array_equal(simulator.rows[[0, 1, 3]], healthy.rows[[0, 1, 3]])
    begin(robot, simulator)
    begin(robot, healthy)
    assert np.array_equal(run(simulator, range(10)), run(healthy, range(10)))


def test_what_explodes_within_a_step_is_contained():
    """Velocities near the bound, all at once: the process lives, the world is told, its like goes
    on as if nothing.
    """
    simulator, healthy = make("hopper", 3), make("hopper", 3)
    for s in (simulator, healthy):
        begin("hopper", s)
    simulator.qvel[1] = 9e3
    told = [simulator.step(np.arange(3), np.zeros((3, 3))).tolist() for _ in range(5)]
    assert told[-1] == [False, True, False]
    begin("hopper", simulator)
    assert np.array_equal(run(simulator, range(20)), run(healthy, range(20)))


# What the model says and most do not

SWING = (
    '<body pos="0 0 1"><joint name="x" type="hinge" axis="0 1 0" {}/>'
    '<geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass="1"/></body>'
)


def swing(tmp_path: Path, flag: str, joint: str, more: str) -> tuple[np.ndarray, np.ndarray]:
    """Angles over 300 steps of a hinge that begins at 0.5 rad, at a control of 2, in DART and in
    MuJoCo.
    """
    option = (
        f'<option timestep=".001"><flag {flag}="disable"/></option>'
        if flag
        else '<option timestep=".001"/>'
    )
    simulator = built(tmp_path, SWING.format(joint), dt=0.001, more=option + more)
    data = mujoco.MjData(simulator.model)
    data.qpos[0] = simulator.qpos[0] = 0.5
    data.ctrl[:] = 2.0
    rows = []
    for _ in range(300):
        mujoco.mj_step(simulator.model, data)
        rows.append(data.qpos[0])
    return coast(simulator, 300, 2.0)[:, 0], np.array(rows)


@pytest.mark.parametrize(
    ("flag", "joint", "more"),
    [
        ("gravity", "", ""),
        ("actuation", "", '<actuator><motor joint="x" gear="3"/></actuator>'),
        ("damper", 'damping=".5"', ""),
        ("spring", 'stiffness="5"', ""),
        (
            "clampctrl",
            "",
            '<actuator><motor joint="x" gear="1" ctrlrange="-1 1" ctrllimited="true"/></actuator>',
        ),
        ("limit", 'limited="true" range="0 40"', ""),
        ("frictionloss", 'frictionloss="1"', ""),
        ("constraint", 'frictionloss="1" limited="true" range="0 40"', ""),
    ],
)
def test_what_a_flag_disables_is_off_in_both_engines(flag, joint, more, tmp_path):
    ours, theirs = swing(tmp_path, flag, joint, more)
    assert np.allclose(ours, theirs, atol=2e-3)
    assert np.abs(ours - swing(tmp_path, "", joint, more)[0]).max() > 0.05


def test_contacts_disabled(tmp_path):
    simulator = built(
        tmp_path,
        FLOOR.format(1) + SLIDER.format(""),
        more='<option><flag contact="disable"/></option>',
    )
    coast(simulator, 500)
    assert simulator.qpos[0, 2] < -4 and simulator.contacts(0) == []


def test_parents_and_children_collide_where_their_filter_is_off(tmp_path):
    upper, lower = (
        '<joint axis="0 1 0"/><geom size=".1"/>',
        '<joint axis="0 1 0"/><geom size=".1" pos=".1 0 0"/>',
    )
    arm = f"<body>{upper}<body>{lower}</body></body>"
    touching = {}
    for flag in ("enable", "disable"):
        simulator = built(tmp_path, arm, more=f'<option><flag filterparent="{flag}"/></option>')
        coast(simulator, 1)
        touching[flag] = len(simulator.contacts(0))
    assert touching == {"enable": 0, "disable": 1}


def test_a_joint_stops_at_its_margin(tmp_path):
    """Pushed against its end: MuJoCo's joint, soft, comes to rest there too, within 0.02 rad."""
    joint = 'limited="true" range="-90 45" margin=".2" damping=".3"'
    more = '<actuator><motor joint="x" gear="3"/></actuator>'
    ours, theirs = swing(tmp_path, "gravity", joint, more)
    assert ours[-1] == pytest.approx(np.pi / 4 - 0.2, abs=5e-3) and theirs[-1] == pytest.approx(
        ours[-1], abs=0.02
    )


SERVO_ON = '<actuator><{}="1" joint="x"/></actuator>'
NO_MOTOR = "actuators that are no motors or servos of joints"
MOTOR_ON = '<actuator><motor joint="x" gear="3" {}/></actuator>'


@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        (
            SWING.format('actuatorfrcrange="-1 1"'),
            MOTOR_ON.format(""),
            "joints with actuatorfrcrange",
        ),
        (
            SWING.format(""),
            MOTOR_ON.format('delay=".1" nsample="60"'),
            "actuators with delay or history",
        ),
        (SWING.format(""), MOTOR_ON.format('damping="1"'), "actuators with damping or armature"),
        (SWING.format(""), MOTOR_ON.format('armature="1"'), "actuators with damping or armature"),
        (SWING.format('damping=".1 5"'), "", "polynomial damping"),
        (SWING.format('stiffness="1 5"'), "", "polynomial stiffness"),
        (
            FLOOR.format(1) + SLIDER.format('surfacevel="1 0 0 0 0 0"'),
            "",
            "geoms with surfacevel",
        ),
        (
            '<body><joint type="free" name="x"/><geom size=".1"/></body>',
            MOTOR_ON.format(""),
            "motors on free joints",
        ),
        (
            '<body><joint type="free" stiffness="3"/><geom size=".1"/></body>',
            "",
            "free joints with .* springs",
        ),
        (
            '<body><joint type="free" armature=".5"/><geom size=".1"/></body>',
            "",
            "free joints with armature",
        ),
        (
            '<body><joint type="free" damping=".1" armature=".5"/><geom size=".1"/></body>',
            "",
            "free joints with damping, dry friction or springs, free joints with armature",
        ),
        (
            SWING.format('limited="true" range="0 40" solreflimit=".1 1"'),
            "",
            "joint limits with solreflimit",
        ),
        (
            SWING.format('limited="true" range="0 40" solreflimit="-900 -9"'),
            "",
            "joint limits with solreflimit",
        ),
        (
            FLOOR.format(1) + SLIDER.format('condim="4"'),
            "",
            r"contacts with torsional or rolling friction .*",
        ),
        (FLOOR.format(1) + SLIDER.format('margin=".01"'), "", "contact margins above 2 mm"),
        (FLOOR.format(1) + SLIDER.format('margin=".001" gap=".001"'), "", "geoms with gap"),
        (
            SWING.format(""),
            '<option><flag override="enable"/></option>',
            '<flag override="enable"/>',
        ),
        (
            SWING.format(""),
            '<option><flag speculative="enable"/></option>',
            '<flag speculative="enable"/>',
        ),
        (
            SWING.format(""),
            '<option actuatorgroupdisable="0"/>' + MOTOR_ON.format(""),
            "disabled groups of actuators",
        ),
        ('<body gravcomp="1"><joint/><geom size=".1"/></body>', "", "gravity compensation"),
        (SWING.format(""), '<option viscosity="1"/>', "a fluid"),
        (
            SWING.format(""),
            SERVO_ON.format('position timeconst=".1" kp'),
            f"{NO_MOTOR}, actuators whose control is a position",
        ),
        (
            SWING.format(""),
            SERVO_ON.format('intvelocity actrange="-1 1" kp'),
            f"{NO_MOTOR}, actuators whose control is a velocity",
        ),
        (
            SWING.format(""),
            SERVO_ON.format("cylinder area"),
            f"{NO_MOTOR}, actuators whose control is a pressure",
        ),
        (
            SWING.format(""),
            SERVO_ON.format("pid kp"),
            f"{NO_MOTOR}, actuators whose control is a position, actuators whose control is a "
            "velocity, "
            "actuators with several controls",
        ),
        (
            SWING.format(""),
            '<actuator><general joint="x" input="pos"/></actuator>',
            "actuators whose control is a position",
        ),
    ],
)
def test_what_the_builder_does_not_read_is_refused_by_name(body, more, words, tmp_path):
    with pytest.raises(
        BadValue, match=f"engine=dart does not build [^ ]*: it has {words}$"
    ) as caught:
        built(tmp_path, body, more=more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("joint", "flag"),
    [
        ('solreflimit=".1 1"', ""),  # of no limits
        ('limited="true" range="0 40" solreflimit=".1 1"', "limit"),
        ('limited="true" range="0 40" solreflimit=".02 1"', ""),  # MuJoCo's default, written
    ],
)
def test_a_softness_that_does_not_count_is_not_refused(joint, flag, tmp_path):
    more = f'<option><flag {flag}="disable"/></option>' if flag else ""
    simulator = built(tmp_path, SWING.format(joint), more=more)
    assert dart_model.describe_left_out(simulator.model) == []


ARMATURE_NOTE = "DART has no joint armature: that of {} is left out"
SOFTNESS_NOTE = "DART has hard joint limits: solimplimit of {} is left out"
NAMELESS = SWING.replace('<body pos="0 0 1">', '<body name="pole" pos="0 0 1">').replace(
    'name="x" ', ""
)
SOFT = 'limited="true" range="0 40" solimplimit="0 .8 .03"'


@pytest.mark.parametrize(
    ("bodies", "notes"),
    [
        (SWING.format(""), []),
        (SWING.format('armature=".3"'), [ARMATURE_NOTE.format("x")]),
        (NAMELESS.format('armature=".3"'), [ARMATURE_NOTE.format("a joint of body pole")]),
        (
            SWING.format(f'armature=".3" {SOFT}'),
            [ARMATURE_NOTE.format("x"), SOFTNESS_NOTE.format("x")],
        ),
        (SWING.format('solimplimit="0 .8 .03"'), []),  # of no limits
        (
            "".join(SWING.replace('"x"', f'"x{k}"').format('armature="1"') for k in range(10)),
            [ARMATURE_NOTE.format("x0, x1, x2, x3, x4, x5, x6, x7, 2 others")],
        ),
    ],
)
def test_what_is_left_out_of_joints_is_told(bodies, notes, tmp_path):
    assert dart_model.describe_left_out(built(tmp_path, bodies).model) == notes


def test_what_is_left_out_of_the_robots_here():
    found = {
        robot: parse_domain(f"{robot}/engine=dart").left_out()
        for robot in ("hopper", "half_cheetah", "ball")
    }
    assert found["ball"] == () and parse_domain("hopper").left_out() == ()
    joints = "thigh_joint, leg_joint, foot_joint"
    assert found["hopper"] == (f"{ARMATURE_NOTE.format(joints)} (see docs/guide/engines.md)",)
    assert [line.partition(":")[0] for line in found["half_cheetah"]] == [
        "DART has no joint armature", "DART has hard joint limits",
    ]  # fmt: skip


def test_training_tells_what_dart_leaves_out(tmp_path, capsys):
    problem = isthmus.problem("hopper/engine=dart")
    tiny.train("source_only", tmp_path / "run", 1, problem=problem, quiet=False)
    assert (
        capsys.readouterr().err.count("DART has no joint armature: that of thigh_joint, leg_joint")
        == 1
    )
    tiny.train("source_only", tmp_path / "quiet", 1, problem=problem)
    assert "DART" not in capsys.readouterr().err


def test_the_factor_of_all_contacts_is_dart_s_too(tmp_path):
    """A foot of .2 on ice of .1, and a rough floor that it never touches: half of each."""
    rough = '<geom type="box" size="1 1 .1" pos="50 0 -.1" friction="1.5"/>'
    bodies = FLOOR.format(0.1) + rough + SLIDER.format('name="foot" friction=".2"')
    for names, friction in (((), 0.2), (("friction_scale",), 0.1)):
        simulator = built(tmp_path, bodies, names)
        simulator.set_parameters(np.arange(1), np.full((1, len(names)), 0.5))
        coast(simulator, 200)
        assert {mu for _, mu in simulator.contacts(0)} == {friction}
    assert "friction" not in dart.load_dart_parameters(next(tmp_path.glob("*.xml")))


def test_geoms_that_touch_nothing_may_have_anything(tmp_path):
    drawn = (
        '<geom size=".1" contype="0" conaffinity="0" mass="0" margin="1" gap=".5" '
        'condim="6" surfacevel="1 0 0 0 0 0"/>'
    )
    assert built(tmp_path, SWING.format("").replace("</body>", drawn + "</body>")).nv == 1


def test_every_field_of_a_model_is_in_the_table_or_refused_when_changed():
    """Also those that no test above names, and those of a later MuJoCo."""
    plain = load_plain()
    fields = dart_model.list_fields(plain)
    known = dart_model.READ | dart_model.SOLVER | dart_model.WITHOUT_EFFECT
    assert known <= set(fields) and set(dart_model.COUNTED) <= set(fields)
    assert dart_model.find_unread(plain) == []
    refused = set()
    for field in fields:
        owner, name = (plain.opt, field[4:]) if field.startswith("opt.") else (plain, field)
        value = getattr(owner, name)
        if dart_model.is_known(field) or not isinstance(value, np.ndarray) or not value.size:
            continue
        before = value.copy()
        value[-1:] = 1 - value[-1:] if value.dtype == bool else value[-1:] + 1
        assert dart_model.find_unread(plain) == [dart_model.LABELS.get(field, field)]
        value[:] = before
        refused.add(field)
    assert {
        "jnt_actfrclimited",
        "actuator_plugin",
        "geom_adhesion",
        "dof_dampingpoly",
        "body_gravcomp",
    } <= refused
    assert len(refused) > 15


def load_plain() -> mujoco.MjModel:
    """Two geoms that touch, so that what is said of geoms counts."""
    return mujoco.MjModel.from_xml_string(
        dart_model.PLAIN.replace("<worldbody>", '<worldbody><geom size="1"/>')
    )


# Parameters by name


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_parameter_that_dart_has_changes_the_motion(robot):
    """But those that change nothing in MuJoCo either."""
    task = tasks.find_task(robot)
    table = dart.load_dart_parameters(task.model_path())
    assert not any("armature" in name for name in table) and "density" in table
    names = tuple(table)
    simulator = make(robot, len(names) + 1, names)
    other = MujocoSimulator(task.model_path(), names, len(names) + 1, task.frame_skip)
    ids = np.arange(len(names) + 1)
    values = np.tile([p.default for p in table.values()], (len(ids), 1))
    for k, p in enumerate(table.values()):
        values[k, k] = np.clip(0.5 if p.default == 0 else 0.6 * p.default, p.low, p.high)
    moved = []
    for s in (simulator, other):
        s.set_parameters(ids, values)
        start = tasks.find_task(robot).start(s, Streams(keys(0, 1)))
        s.reset(ids, *(np.repeat(x, len(ids), 0) for x in start))
        if robot == "hopper":
            s.qvel[:, 0] = 1.0  # so that the foot rubs
        for t in range(40):
            s.step(ids, np.repeat(control(s, t)[:1], len(ids), 0))
        state = np.concatenate([s.qpos, s.qvel], axis=1)
        moved.append({name: bool((state[k] != state[-1]).any()) for k, name in enumerate(names)})
    different = {name for name in names if moved[0][name] != moved[1][name]}
    assert not {
        n for n in different if "range" not in n and "friction" not in n
    }  # limits and slips, if reached at all
    assert sum(moved[0].values()) > len(names) / 2


def test_parameters_are_those_of_the_model():
    names = (
        "gravity",
        "torso_mass",
        "density",
        "foot_range",
        "thigh_damping",
        "thigh_frictionloss",
        "leg_strength",
    )
    simulator = make("hopper", 2, names)
    values = np.array(
        [[p.default for p in simulator.parameters], [5.0, 7.0, 2.0, 0.5, 3.0, 0.25, 2.0]]
    )
    simulator.set_parameters(np.arange(2), values)
    usual, changed = simulator._worlds
    assert np.allclose(usual.world.getGravity(), [0, 0, -9.81]) and np.allclose(
        changed.world.getGravity(), [0, 0, -5]
    )
    model = simulator.world_model(1)
    assert (
        changed.bodies[1].getMass() == model.body_mass[1] == 7.0
    )  # density first, then the torso's own mass
    assert changed.bodies[2].getMass() == pytest.approx(2 * usual.bodies[2].getMass())
    assert changed.joints[5].getPositionUpperLimit(0) == pytest.approx(np.pi / 8)
    thigh = changed.joints[3]
    assert (thigh.getDampingCoefficient(0), thigh.getCoulombFriction(0)) == (3.0, 0.25)
    gear = simulator._actuators.fields["actuator_gear"]
    assert gear[:, 1, 0].tolist() == [200.0, 400.0]
    simulator.set_parameters(np.array([1]), values[:1])
    assert (
        np.allclose(changed.world.getGravity(), [0, 0, -9.81])
        and changed.joints[3].getCoulombFriction(0) == 0
    )
    assert np.array_equal(simulator.world_model(1).body_mass, simulator.model.body_mass)
    assert simulator.world_model(1) is not simulator.model


@pytest.mark.parametrize(("value", "true"), [(0.3, 1.0), (1.0, 1.0), (1.5, 1.5)])
def test_a_foot_below_the_floor_has_the_floors_friction(value, true):
    simulator = make("hopper", 1, ("foot_friction",))
    simulator.set_parameters(np.array([0]), np.array([[value]]))
    assert simulator._worlds[0].shapes[4].getDynamicsAspect().getFrictionCoeff() == true


# Domains


class Noise(NamedTuple):
    """Uniform actions from the world's own key; as a policy, a fixed push."""

    scale: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key=None):
        if key is None:
            return 0.1 * self.scale, memory
        return Decision(
            jax.random.uniform(key, self.scale.shape, minval=-self.scale, maxval=self.scale)
        ), memory


def test_a_domain_is_written_and_read():
    domain = parse_domain("hopper/gravity=x2,engine=dart")
    assert (
        domain.engine == "dart"
        and parse_domain(str(domain)) == domain
        and "engine=dart" in str(domain)
    )
    assert domain.without_settings() == RobotDomain("hopper") and domain.shift(
        "engine=mujoco"
    ) == parse_domain("hopper/gravity=x2")
    assert domain.table() == dart.load_dart_parameters(tasks.find_task("hopper").model_path())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "hopper/engine=dart,armature=x0",
            "armature cannot be set with engine=dart: DART has no armature",
        ),
        (
            "hopper/foot_armature=2,engine=dart",
            "foot_armature cannot be set .* DART has no armature",
        ),
        ("ant/engine=dart", "no contact forces"),
    ],
)
def test_what_dart_has_not_is_refused_in_one_line(text, words):
    with pytest.raises(BadValue, match=words) as caught:
        parse_domain(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_and_an_unknown_parameter_get_the_nearest_names():
    with pytest.raises(UnknownName, match="did you mean mujoco"):
        parse_domain("hopper/engine=mujuco")
    with pytest.raises(UnknownName, match="did you mean gravity"):
        parse_domain("hopper/engine=dart,gravty=2")
    with pytest.raises(BadValue, match="contact forces"):
        make("hopper", 1).contact_forces(np.array([0]))


@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        ('<body><joint type="ball"/><geom size=".1"/></body>', "", "ball joints"),
        (
            '<body><freejoint/><geom type="cylinder" size=".1 .1"/></body><geom size=".1"/>',
            "",
            "colliding geoms",
        ),
        (
            SLIDE.format(""),
            '<actuator><damper joint="x" kv="3" ctrlrange="0 1"/></actuator>',
            "no mo",
        ),
        (
            SLIDE.format(""),
            '<tendon><fixed><joint joint="x" coef="1"/></fixed></tendon>',
            "tendons",
        ),
        (SLIDE.format(""), '<equality><joint joint1="x"/></equality>', "equality constraints"),
        (
            '<body><joint type="free" damping="1"/><geom size=".1"/></body>',
            "",
            "free joints with damping",
        ),
        (
            '<body><freejoint/><geom size=".1"/><geom size=".1" contype="2"/></body>'
            '<body><freejoint/><geom size=".1" contype="0"/></body>' + FLOOR.format(1),
            "",
            "bodies whose geoms collide with different others",
        ),
        ('<body mocap="true"><geom size=".1"/></body>', "", "mocap"),
    ],
)
def test_a_model_that_is_not_built_says_why(body, more, words, tmp_path):
    with pytest.raises(BadValue, match=f"engine=dart does not build .*{words}") as caught:
        built(tmp_path, body, more=more)
    assert "\n" not in str(caught.value)


def test_without_dartpy_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dartpy", None)
    assert "armature" not in parse_domain("hopper/engine=dart").table()  # reading needs none
    problem = isthmus.problem("hopper/engine=dart")
    for use in (
        import_dartpy,
        lambda: make("hopper", 1),
        lambda: isthmus.train("source_only", problem, out=tmp_path / "run"),
    ):
        with pytest.raises(BadValue, match=r"pip install 'isthmus\[dart\]'") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("robot", ROBOTS)
def test_both_engines_have_the_same_spaces_and_starts(robot):
    problem = isthmus.problem(f"{robot}/engine=dart")
    source, target = problem.source, problem.target
    assert (source.engine, target.engine) == ("mujoco", "dart")
    for one, other in zip(source.spaces, target.spaces, strict=True):
        assert np.array_equal(one, other)
    assert (source.step_seconds, source.time_limit) == (target.step_seconds, target.time_limit)
    ours, theirs = source.worlds(3, 0), target.worlds(3, 0)
    assert np.allclose(ours.observation, theirs.observation, atol=1e-12)


@pytest.mark.parametrize("robot", ["hopper", "reacher"])
def test_collecting_goes_on_to_the_bit(robot):
    """In one go; cut in two with another simulation for the second half; and beside other
    worlds.
    """
    domain = parse_domain(f"{robot}/engine=dart,motor_strength=0.5..1.5,action_delay=1")
    worlds = domain.worlds(6, 0)
    noise = Noise(np.ones(domain.spaces.action, np.float32))
    whole, tr = rollout_steps(domain, worlds, noise, 80)
    half, first = rollout_steps(domain, worlds, noise, 40)
    _simulation.cache_clear()
    rest, second = rollout_steps(domain, half, noise, 40)
    assert np.array_equal(np.concatenate([first.next_obs, second.next_obs]), tr.next_obs)
    for one, other in zip(whole, rest, strict=True):
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, other)
    assert whole.finished.sum() > 0


@pytest.mark.full
def test_a_run_is_resumed_to_the_bit(tmp_path, monkeypatch):
    """Trained in the second engine, stopped amid and gone on with, in simulations that are not the
    first's.
    """
    problem = tiny.problem("target_only", "hopper/engine=dart")
    whole = tiny.train("target_only", tmp_path / "whole", 4, problem=problem)
    with monkeypatch.context() as patch:
        asked = iter([False] * 2)

        @contextmanager
        def stop_requested():
            yield lambda: next(asked, True)

        patch.setattr(loop, "stop_requested", stop_requested)
        stopped = tiny.train("target_only", tmp_path / "cut", 4, problem=problem)
    assert (
        not stopped.finished and stopped.config["versions"]["dartpy"] == import_dartpy().__version__
    )
    _simulation.cache_clear()
    again = loop.resume(stopped.folder, quiet=True)
    assert again.finished and digest(again.state()) == digest(whole.state())


def test_play_and_its_return_are_the_same_again():
    domain = parse_domain("reacher/engine=dart")
    _simulation.cache_clear()
    first = rollout_episodes(domain, domain.worlds(3, 1), Noise(np.ones(2, np.float32)))
    _simulation.cache_clear()
    again = rollout_episodes(domain, domain.worlds(3, 1), Noise(np.ones(2, np.float32)))
    assert np.array_equal(first.returns, again.returns) and (first.lengths == 50).all()


# The audit


def test_an_audit_shows_the_gap_between_the_engines_and_that_armature_is_most_of_it():
    found = audit(parse_domain("hopper"), parse_domain("hopper/engine=dart"))
    (engine,) = found.alone
    assert (engine.name, engine.source, engine.target) == ("engine", "mujoco", "dart")
    (_, _, as_it_is), (source, _, bare) = engine.points
    assert (
        source == "mujoco with armature=x0" and as_it_is == found.effect and found.verdict == SHIFT
    )
    assert bare.one_step < as_it_is.one_step / 4 and bare.apart < as_it_is.apart / 4
    assert found.points[0].contact["foot"] == (2.0, 2.0)
    text = "\n".join(found.lines())
    assert "mujoco with armature=x0 -> dart alone" in text
    assert (
        "DART has no joint armature: that of thigh_joint, leg_joint, foot_joint is left out" in text
    )
    removed = audit(parse_domain("hopper/armature=x0"), parse_domain("hopper/engine=dart"))
    assert removed.effect == bare and len(removed.alone[0].points) == 1


def test_engines_and_settings_are_weighed_apart():
    found = audit(parse_domain("hopper"), parse_domain("hopper/engine=dart,friction=1"))
    effects = {one.name: one for one in found.alone}
    assert set(effects) == {"engine", "friction"}
    assert found.points[0].contact["foot"] == (2.0, 1.0)
    within = audit(parse_domain("hopper"), parse_domain("hopper/friction=1"))
    assert effects["friction"].points[0][2] == within.effect


def test_an_audit_within_dart():
    assert (
        audit(parse_domain("hopper/engine=dart"), parse_domain("hopper/engine=dart")).verdict
        == NO_CHANGE
    )
    shifted = audit(
        parse_domain("hopper/engine=dart"), parse_domain("hopper/engine=dart,gravity=x2")
    )
    assert shifted.verdict == SHIFT and [one.name for one in shifted.alone] == ["gravity"]
    slid = audit(
        parse_domain("hopper/engine=dart,foot_friction=1"),
        parse_domain("hopper/engine=dart,foot_friction=0.4"),
    )
    assert slid.verdict == NO_CHANGE and any("below the floor's 1" in note for note in slid.notes)


def test_an_engine_that_blows_up_without_armature_is_said():
    """MuJoCo integrates Reacher's damping explicitly: on links without armature that explodes."""
    found = audit(parse_domain("reacher"), parse_domain("reacher/engine=dart"))
    assert (
        "mujoco with armature=x0 -> dart alone: cannot be compared: every episode blew up"
        in "\n".join(found.lines())
    )
    assert found.verdict == SHIFT and np.isfinite(found.effect.one_step)


@pytest.mark.parametrize("robot", ["cartpole_swingup", "ball"])
def test_without_contact_armature_and_runge_kutta_the_engines_are_one(robot):
    """Both integrate by semi-implicit Euler, with damping taken implicitly."""
    found = audit(parse_domain(robot), parse_domain(f"{robot}/engine=dart"))
    assert found.effect.one_step < 1e-11 and found.effect.apart < 1e-11
    assert len(found.alone[0].points) == 1


def test_without_contact_and_armature_the_engines_agree_but_for_their_integrators(tmp_path):
    """A leg of Hopper's in the air, in MuJoCo without armature and by small steps: the same motion,
    to first order.
    """
    text = tasks.find_task("hopper").model_path().read_text()
    path = tmp_path / "air.xml"
    path.write_text(
        text.replace('armature="1"', 'armature="0"').replace(
            'timestep="0.002"', 'timestep="0.0002"'
        )
    )
    ours, theirs = DartSimulator(path, (), 1, 10), MujocoSimulator(path, (), 1, 10)
    high = ours.qpos0 + np.array([0, 3, 0, -0.5, -0.9, 0.2])
    for s in (ours, theirs):
        s.reset(np.array([0]), high[None], np.zeros((1, 6)))
        for t in range(50):
            s.step(np.array([0]), 0.3 * control(s, t // 5))
    assert np.abs(ours.qpos - high).max() > 0.1
    assert np.allclose(ours.qpos, theirs.qpos, atol=2e-3) and np.allclose(
        ours.qvel, theirs.qvel, atol=5e-2
    )


def test_a_robot_in_dart_is_filmed():
    """By MuJoCo's renderer, which knows the same configuration."""
    try:
        find_backend()
    except CannotRender as error:
        pytest.skip(str(error))
    still = Noise(np.zeros(3, np.float32))
    clip = film(
        still, parse_domain("hopper"), parse_domain("hopper/engine=dart"), 0.4, size=(96, 72)
    )
    assert "Target hopper/engine=dart: it fell" in clip.caption
    first, last = (np.asarray(clip.frames[i]).astype(int)[:, 112:] for i in (0, 10))
    assert np.abs(first - last).max() > 50  # it moves


def test_a_camera_gets_the_worlds_own_model():
    simulator = make("hopper", 2, ("torso_mass",))
    simulator.set_parameters(np.arange(2), np.array([[3.0], [6.0]]))
    assert [simulator.world_model(i).body("torso").mass[0] for i in range(2)] == [3.0, 6.0]
    assert reference.load_parameters(tasks.find_task("hopper").model_path())[
        "torso_mass"
    ].default == pytest.approx(
        load_model(tasks.find_task("hopper").model_path()).body("torso").mass[0]
    )
