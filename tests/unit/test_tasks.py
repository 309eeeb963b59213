"""Every task that names a Gymnasium reference equals it to the bit, in a batch, at any number of
threads; the others are what their sources say.
"""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportAssignmentType=false

from __future__ import annotations

from functools import cache

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.seeding import np_random

from isthmus import plugins
from isthmus.domains.physics_simulation import build_simulator
from isthmus.physics.mujoco import MujocoSimulator, load_parameters
from isthmus.physics.random import Single, Streams, fold, keys
from isthmus.tasks import task as tasks
from isthmus.tasks.imports import import_files
from isthmus.tasks.task import Task, find_main_body, find_task, register
from isthmus.types import BadValue, UnknownName

# One world a row: its seed and how strong its random actions are. Weak ones let walkers stand for a
# while, and the last are beyond the bounds, which motors clip and the control cost does not.
WORLDS = [(0, 1.0), (1, 0.3), (2, 0.03), (3, 1.5)]
STEPS = 1000
ALL = sorted(tasks.BUILT_IN)
REFERENCED = [name for name in ALL if tasks.find_task(name).reference]


def bits(array: np.ndarray) -> tuple:
    array = np.asarray(array)
    return array.dtype, array.shape, array.tobytes()


def make(task: tasks.Task, n: int, names: tuple[str, ...] = ()) -> MujocoSimulator:
    simulator = build_simulator(task, "mujoco", names, n)
    assert isinstance(simulator, MujocoSimulator)
    return simulator


def actions(task: tasks.Task, steps: int) -> np.ndarray:
    """float32 [T, N, A]"""
    size = make(task, 1).control.shape[1]
    draws = [
        np.random.default_rng(seed).uniform(-scale, scale, (steps, size)) for seed, scale in WORLDS
    ]
    return np.stack(draws, axis=1).astype(np.float32)


# A task's model

PLAIN = (
    '<mujoco><worldbody><body><joint type="hinge"/><geom size=".1"/></body></worldbody></mujoco>'
)
OWN = """
from isthmus.tasks.hopper import Hopper
from isthmus.tasks.task import register

@register
class Own(Hopper):
    name = "{name}"
    {model}
"""


def own_task(folder, name: str, model: str) -> tasks.Task:
    """A task in a file of its own, with an MJCF file beside it and one in a folder beside it."""
    (folder / "parts").mkdir(parents=True)
    (folder / "hopper.xml").write_text(PLAIN)
    (folder / "parts" / "robot.xml").write_text(PLAIN)
    (folder / f"{name}.py").write_text(OWN.format(name=name, model=model))
    import_files([str(folder / f"{name}.py")])
    return tasks.find_task(name)


@pytest.mark.parametrize(
    ("name", "model", "found"),
    [
        ("own_beside", 'model = "hopper.xml"', "hopper.xml"),
        ("own_dotted", 'model = "./hopper.xml"', "hopper.xml"),
        ("own_folder", 'model = "parts/robot.xml"', "parts/robot.xml"),
    ],
)
def test_a_model_is_sought_beside_the_file_that_names_it(tmp_path, monkeypatch, name, model, found):
    monkeypatch.chdir("/")
    assert (
        own_task(tmp_path / name, name, model).model_path() == (tmp_path / name / found).resolve()
    )


def test_a_model_that_is_inherited_or_gymnasiums_stays(tmp_path, monkeypatch):
    """Named by another class, it lies beside that one's file; where none lies there, a bare name is
    Gymnasium's.
    """
    monkeypatch.chdir(tmp_path)
    gymnasiums = tasks.find_task("hopper").model_path()
    assert gymnasiums.is_file() and gymnasiums.parent.name == "assets"
    assert own_task(tmp_path / "inherits", "own_inherits", "pass").model_path() == gymnasiums
    ant = own_task(tmp_path / "ant", "own_ant", 'model = "ant.xml"')
    assert ant.model_path() == tasks.find_task("ant").model_path()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "robot.xml").write_text(PLAIN)
    working = own_task(tmp_path / "working", "own_working", 'model = "here/robot.xml"')
    assert working.model_path() == tasks.Path("here/robot.xml")


@pytest.mark.parametrize(
    ("name", "model", "place"),
    [
        ("own_none", "robot.xml", "gymnasium/envs/mujoco/assets/robot.xml"),
        ("own_nowhere", "no/robot.xml", "/no/robot.xml"),
    ],
)
def test_a_model_that_is_nowhere_names_both_places(tmp_path, name, model, place):
    own = own_task(tmp_path / name, name, f'model = "{model}"')
    with pytest.raises(
        BadValue,
        match=rf"no MJCF file {model} of task {name}, neither at {tmp_path}.* nor at .*{place}",
    ):
        own.model_path()


@cache
def gymnasium_episodes(name: str) -> dict[str, np.ndarray]:
    """The reference, stepped on after a fall: [T, N, ...], and [N, ...] for starts."""
    task = tasks.find_task(name)
    chosen = actions(task, STEPS)
    env = gymnasium.make(task.reference).unwrapped
    columns = []
    for world, (seed, _) in enumerate(WORLDS):
        first, _ = env.reset(seed=seed)
        start = {"qpos": env.data.qpos.copy(), "qvel": env.data.qvel.copy(), "first": first}
        steps = [env.step(chosen[t, world]) for t in range(STEPS)]
        obs, reward, terminated = (np.array([s[i] for s in steps]) for i in range(3))
        columns.append({**start, "obs": obs, "reward": reward, "terminated": terminated})
    env.close()
    out = {k: np.stack([c[k] for c in columns]) for k in ("qpos", "qvel", "first")}
    return out | {
        k: np.stack([c[k] for c in columns], axis=1) for k in ("obs", "reward", "terminated")
    }


@pytest.mark.represented("1 thread-ant", "2 threads-hopper", "default parameters, set-walker2d")
@pytest.mark.parametrize("name", REFERENCED)
@pytest.mark.parametrize("setting", ["1 thread", "2 threads", "default parameters, set"])
def test_episodes_equal_gymnasium(name, setting, monkeypatch):
    monkeypatch.setenv("ISTHMUS_THREADS", "1" if setting == "1 thread" else "2")
    task, want = tasks.find_task(name), gymnasium_episodes(name)
    chosen, n = actions(task, STEPS), len(WORLDS)
    ids = np.arange(n)
    if setting == "default parameters, set":
        table = load_parameters(task.model_path())
        simulator = make(task, n, tuple(table))
        defaults = np.tile([p.default for p in table.values()], (n, 1))
        simulator.set_parameters(ids, defaults * 0.9)
        simulator.set_parameters(ids, defaults)
    else:
        simulator = make(task, n)
    simulator.reset(ids, want["qpos"], want["qvel"])
    view = tasks.SimView(simulator, ids)
    assert bits(task.observe(view)) == bits(want["first"])
    for t in range(STEPS):
        memory = task.remember(view)
        assert not simulator.step(ids, chosen[t]).any()
        reward = task.total(task.rewards(view, memory, chosen[t]))
        assert bits(task.observe(view)) == bits(want["obs"][t]), t
        assert bits(reward) == bits(want["reward"][t]), t
        assert bits(task.terminated(view)) == bits(want["terminated"][t]), t


@pytest.mark.parametrize("name", REFERENCED)
def test_episodes_are_worth_comparing(name):
    """Worlds fall where they can, not at once; Ant feels the ground."""
    want = gymnasium_episodes(name)
    if name in ("hopper", "walker2d", "ant"):
        alive = (~want["terminated"]).sum(0)
        assert (alive > 10).all()
        assert (alive < STEPS).any()
    if name == "ant":
        assert (want["obs"][..., 27:] != 0).any(axis=(0, 2)).all()


@pytest.mark.parametrize("name", REFERENCED)
def test_start_equals_gymnasium(name):
    task, want = tasks.find_task(name), gymnasium_episodes(name)
    simulator = make(task, 1)
    for world, (seed, _) in enumerate(WORLDS):
        qpos, qvel = task.start(simulator, Single(np_random(seed)[0]))
        assert bits(qpos) == bits(want["qpos"][world : world + 1])
        assert bits(qvel) == bits(want["qvel"][world : world + 1])


@pytest.mark.parametrize("name", ALL)
def test_start_depends_on_a_worlds_own_key_alone(name):
    task = tasks.find_task(name)
    simulator = make(task, 3)
    key = fold(keys(7, 64), 1)
    together = task.start(simulator, Streams(key))
    alone = [task.start(simulator, Streams(key[i : i + 1])) for i in range(len(key))]
    for part in range(2):
        assert bits(together[part]) == bits(np.concatenate([a[part] for a in alone]))
    assert len(np.unique(np.concatenate(together, axis=1), axis=0)) == len(key)


def test_reachers_goals_fill_the_disc():
    task = tasks.find_task("reacher")
    qpos, qvel = task.start(make(task, 1), Streams(keys(0, 20_000)))
    radius = np.hypot(*qpos[:, -2:].T) / 0.2
    assert radius.max() < 1
    # Uniform in the disc: P(radius < r) = r^2.
    assert np.allclose(
        [(radius < r).mean() for r in (0.3, 0.5, 0.8)], [0.09, 0.25, 0.64], atol=0.012
    )
    assert not qvel[:, -2:].any()


@pytest.mark.parametrize("name", REFERENCED)
def test_a_task_is_described_as_its_reference(name):
    task = tasks.find_task(name)
    reference = gymnasium.make(task.reference)
    assert (
        len(task.observation_names)
        == len(set(task.observation_names))
        == reference.observation_space.shape[0]
    )
    assert task.time_limit == reference.spec.max_episode_steps
    simulator = make(task, 1)
    assert simulator.dt == reference.unwrapped.dt
    assert np.array_equal(simulator.model.actuator_ctrlrange.T[0], reference.action_space.low)
    assert simulator.position(task.main_body).shape == (1, 3)
    reference.close()


@pytest.mark.parametrize("name", ALL)
def test_a_task_describes_itself(name):
    task = tasks.find_task(name)
    simulator, ids = make(task, 2), np.arange(2)
    simulator.reset(ids, *task.start(simulator, Streams(keys(0, 2))))
    view = tasks.SimView(simulator, ids)
    assert (
        len(task.observation_names)
        == len(set(task.observation_names))
        == task.observe(view).shape[1]
    )
    assert (
        simulator.position(task.main_body).shape == (2, 3)
        and simulator.model.actuator_ctrllimited.all()
    )
    chosen = np.zeros((2, simulator.control.shape[1]), np.float32)
    for term, values in task.rewards(view, task.remember(view), chosen).items():
        assert np.shape(values) == (2,), term
    assert task.terminated(view).dtype == bool


@pytest.mark.parametrize("name", REFERENCED)
def test_progress(name):
    """Metres forward; for Reacher from fingertip to goal."""
    task = tasks.find_task(name)
    simulator, ids = make(task, 2), np.arange(2)
    qpos, qvel = task.start(simulator, Streams(keys(0, 2)))
    if name == "reacher":
        qpos[:] = 0.0
        qpos[:, 2:] = [[0.21, 0.0], [0.21, 0.2]]  # the stretched arm ends at x = 0.1 + 0.11
        want = [0.0, 0.2]
    else:
        qpos[:, 0] = want = [0.0, 2.5]
    simulator.reset(ids, qpos, qvel)
    assert np.allclose(task.progress(tasks.SimView(simulator, ids)), want, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_a_view_of_some_worlds_is_a_part_of_the_whole(name):
    task = tasks.find_task(name)
    simulator, everyone, some = make(task, 5), np.arange(5), np.array([1, 4])
    simulator.reset(everyone, *task.start(simulator, Streams(keys(3, 5))))
    chosen = (
        np.random.default_rng(0).uniform(-1, 1, (5, simulator.control.shape[1])).astype(np.float32)
    )
    whole, part = tasks.SimView(simulator, everyone), tasks.SimView(simulator, some)
    before = task.remember(whole)
    assert bits(task.remember(part)) == bits(before[some])
    for _ in range(40):
        simulator.step(everyone, chosen)
    assert bits(task.observe(part)) == bits(task.observe(whole)[some])
    assert bits(task.terminated(part)) == bits(task.terminated(whole)[some])
    assert bits(task.progress(part)) == bits(task.progress(whole)[some])
    terms = task.rewards(whole, before, chosen)
    for term, values in task.rewards(part, before[some], chosen[some]).items():
        assert bits(values) == bits(terms[term][some]), term


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("ids", [np.arange(5), np.array([1, 4])])
def test_a_moments_view_shows_what_a_live_one_does(name, ids):
    task = tasks.find_task(name)
    simulator, everyone = make(task, 5), np.arange(5)
    simulator.reset(everyone, *task.start(simulator, Streams(keys(3, 5))))
    chosen = np.full((5, simulator.control.shape[1]), 0.5, np.float32)
    memory = task.remember(tasks.SimView(simulator, ids))
    for _ in range(30):
        simulator.step(everyone, chosen)
    live, moment = tasks.SimView(simulator, ids), tasks.MomentView(simulator, ids)
    for _ in range(2):  # what is kept is nobody's to write to
        for method in (task.observe, task.terminated, task.remember, task.progress, task.at_goal):
            assert bits(method(moment)) == bits(method(live))
        terms = task.rewards(live, memory, chosen[ids])
        for term, values in task.rewards(moment, memory, chosen[ids]).items():
            assert bits(values) == bits(terms[term]), term


@pytest.mark.parametrize("ids", [np.arange(3), np.array([0, 2])])
def test_a_moments_view_computes_and_copies_once(ids):
    task = tasks.find_task("hopper")
    simulator, computed = make(task, 3), []
    simulator.reset(np.arange(3), *task.start(simulator, Streams(keys(3, 3))))

    def compute(view):
        computed.append(len(view.ids))
        return view.qpos[:, 0] + 1

    moment, live = tasks.MomentView(simulator, ids), tasks.SimView(simulator, ids)
    assert moment.once(compute) is moment.once(compute) and computed == [len(ids)]
    assert moment.qpos is moment.qpos
    simulator.qpos[:] += 1
    assert bits(live.once(compute)) == bits(moment.once(compute) + 1)
    assert computed == [len(ids)] * 2


@pytest.mark.parametrize("name", ["hopper", "walker2d", "ant"])
def test_falls_where_gymnasium_says(name):
    """On both sides of every bound, and on it."""
    task = tasks.find_task(name)
    env = gymnasium.make(task.reference).unwrapped
    env.reset(seed=0)
    nq, nv = env.model.nq, env.model.nv
    bounds = {0.7, 0.8, 2.0, 0.2, 1.0, 100.0, 10.0, np.inf, np.nan}
    values = [w for v in bounds for w in (v, -v, np.nextafter(v, 0), np.nextafter(v, np.inf))]
    rest = np.concatenate([env.init_qpos, env.init_qvel])
    states = np.repeat(rest[None], len(values) * len(rest), axis=0)
    for i in range(len(rest)):
        states[i * len(values) : (i + 1) * len(values), i] = values
    simulator = make(task, len(states))
    simulator.qpos[:], simulator.qvel[:] = (
        states[:, :nq],
        states[:, nq:],
    )  # no physics: only what the task says of it
    view = tasks.SimView(simulator, np.arange(len(states)))
    want, seen = [], []
    for state in states:
        env.data.qpos[:], env.data.qvel[:] = state[:nq], state[nq:]
        want.append(not env.is_healthy)
        seen.append(env._get_obs()[: nq + nv - 2])
    assert 0 < sum(want) < len(want)
    assert bits(task.terminated(view)) == bits(np.array(want))
    if name != "ant":  # whose contact forces would need physics
        assert bits(task.observe(view)[:, : nq + nv - 2]) == bits(np.array(seen))
    env.close()


def test_a_control_cost_depends_on_no_neighbour_and_no_layout():
    action = np.random.default_rng(0).uniform(-1, 1, (1000, 8)).astype(np.float32)
    want = np.array([-(0.1 * np.sum(np.square(row))) for row in action])
    for same in (
        action,
        np.asfortranarray(action),
        action[::-1][::-1],
        np.repeat(action, 2, axis=1)[:, ::2],
    ):
        assert bits(tasks.control_cost(0.1, same)) == bits(want)


@pytest.mark.parametrize("name", ALL)
def test_what_a_task_remembers_is_its_own(name):
    """Not a view of live state, which the step would change."""
    task = tasks.find_task(name)
    simulator, ids = make(task, 1), np.arange(1)
    simulator.reset(ids, *task.start(simulator, Streams(keys(0, 1))))
    view = tasks.SimView(simulator, ids)
    kept = [task.remember(view), task.observe(view), task.progress(view)]
    copies = [k.copy() for k in kept]
    simulator.step(ids, np.ones((1, simulator.control.shape[1])))
    assert all(bits(a) == bits(b) for a, b in zip(kept, copies, strict=True))


# Tasks of ours


def started(name: str, n: int) -> tuple[tasks.Task, MujocoSimulator, tasks.SimView]:
    task = tasks.find_task(name)
    simulator = make(task, n)
    simulator.reset(np.arange(n), *task.start(simulator, Streams(keys(0, n))))
    return task, simulator, tasks.SimView(simulator, np.arange(n))


def test_cartpole_is_rllabs():
    """Duan et al. 2016: starts, time step, masses, and 10 N that accelerate the whole by what
    Lagrange says.
    """
    task, simulator, view = started("cartpole_swingup", 20_000)
    assert np.isclose(simulator.dt, 0.05)
    first = np.stack([view.qpos[:, 0], view.qvel[:, 0], view.qpos[:, 1], view.qvel[:, 1]], axis=1)
    low, high = np.array([-1, -2, np.pi - 1, -3]), np.array([1, 2, np.pi + 1, 3])
    assert (first >= low).all() and (first < high).all()
    assert np.allclose(first.mean(0), (low + high) / 2, atol=0.05)
    assert np.allclose(first.std(0), (high - low) / 12**0.5, rtol=0.02)
    seen = task.observe(view)  # turns are not counted
    assert (np.abs(seen[:, 2]) <= np.pi).all() and np.allclose(
        np.exp(1j * seen[:, 2]), np.exp(1j * first[:, 2])
    )
    assert np.array_equal(seen[:, [0, 1, 3]], first[:, [0, 1, 3]])
    model = simulator.model
    assert model.body("cart").mass == 1 and model.body("pole").mass == 0.1
    assert not model.dof_damping.any() and not model.dof_frictionloss.any()
    # Upright, at rest: M [x'', a''] = [10, m g l sin a], uncoupled but for the pole's half length l
    # = 0.5.
    data = mujoco.MjData(model)
    data.ctrl[0] = 1
    mujoco.mj_forward(model, data)
    inertia = 0.1 * (0.5**2 + (1 + 0.06**2) / 12)  # a uniform bar about its end
    mass = np.array([[1.1, 0.1 * 0.5], [0.1 * 0.5, inertia]])
    assert np.allclose(data.qacc, np.linalg.solve(mass, [10, 0]), rtol=1e-6)


def test_a_swing_keeps_its_energy():
    """A passive pole loses and wins less than a part in fifty of what hanging and standing differ
    by, in 200 steps.
    """
    task, simulator, _ = started("cartpole_swingup", 32)
    model, ids = mujoco.MjModel.from_xml_path(str(task.model_path())), np.arange(32)
    model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    data = mujoco.MjData(model)

    def energy() -> np.ndarray:
        out = []
        for i in ids:
            data.qpos[:], data.qvel[:] = simulator.qpos[i], simulator.qvel[i]
            mujoco.mj_forward(model, data)
            out.append(data.energy.sum())
        return np.array(out)

    first, swing = energy(), 0.1 * 9.81 * 1.0
    for t in range(task.time_limit):
        simulator.step(ids, np.zeros((32, 1)))
        if t % 10 == 9:
            assert np.abs(energy() - first).max() < swing / 50


def test_cartpole_pays_for_height_and_ends_beyond_the_rail():
    task, simulator, view = started("cartpole_swingup", 4)
    simulator.qpos[:] = [
        [0, 0],
        [3, 2 * np.pi / 3],
        [3.001, 0],
        [-4, np.pi],
    ]  # no physics: only what the task says
    terms = task.rewards(view, task.remember(view), np.ones((4, 1), np.float32))
    assert task.terminated(view).tolist() == [False, False, True, True]
    assert np.allclose(terms["upright"], [1, -0.5, 0, 0]) and terms["fall"].tolist() == [
        0,
        0,
        -100,
        -100,
    ]
    assert np.allclose(task.total(terms), [1, -0.5, -100, -100])
    assert np.allclose(task.progress(view), [1, -0.5, 1, -1])


def test_a_ball_starts_away_from_its_goal_and_can_be_brought_there():
    task, simulator, view = started("ball", 1000)
    first = view.qpos.copy()
    assert (first >= 0.5).all() and (first < 1.5).all() and np.allclose(first.mean(0), 1, atol=0.03)
    assert not view.qvel.any()
    for _ in range(task.time_limit):
        push = np.clip(-8 * view.qpos - 4 * view.qvel, -1, 1).astype(np.float32)
        simulator.step(view.ids, push)
    assert not task.terminated(view).any() and (task.progress(view) < 0.01).all()
    terms = task.rewards(view, task.remember(view), np.ones((1000, 2), np.float32))
    assert np.allclose(terms["distance"], -np.linalg.norm(view.qpos, axis=1)) and np.allclose(
        terms["control"], -0.02
    )


def test_an_installed_package_adds_a_task_by_an_entry_point(monkeypatch):
    class Point:
        name, value = "packaged", "a_package"

        def load(self):
            register(type("Packaged", (type(find_task("hopper")),), {"name": "packaged"}))

    found = {"isthmus.tasks": [Point()]}
    monkeypatch.setattr(plugins, "_loaded_groups", set())
    monkeypatch.setattr(plugins, "entry_points", lambda group: found.get(group, []))
    try:
        assert "packaged" not in tasks.TASKS._entries
        assert find_task("packaged").name == "packaged" and "packaged" in tasks.list_tasks()
    finally:
        tasks.TASKS._entries.pop("packaged", None)


def test_an_unknown_task_names_its_neighbours():
    with pytest.raises(UnknownName, match="half_cheetah"):
        tasks.find_task("halfcheetah")


def test_a_built_in_name_is_not_taken_by_another_task():
    class Mine(find_task("hopper").__class__):
        name = "hopper"

    with pytest.raises(
        BadValue, match="Mine cannot be called hopper, as a built-in one is; choose another name"
    ):
        register(Mine)
    assert type(find_task("hopper")).__module__ == "isthmus.tasks.hopper"


def test_the_body_that_a_camera_follows():
    """The one that is named; where none is, the torso or the first body that moves. A misspelt one
    is told.
    """
    bodies = ["world", "trunk", "shin"]
    plain = type("Plain", (Task,), {"name": "plain"})()
    assert (
        find_main_body(plain, bodies) == 1
        and find_main_body(plain, ["world", "shin", "torso"]) == 2
    )
    named = type("Named", (Task,), {"name": "named", "main_body": "shin"})()
    assert find_main_body(named, bodies) == 2
    wrong = type("Wrong", (Task,), {"name": "wrong", "main_body": "trnk"})()
    with pytest.raises(
        UnknownName, match="unknown body of wrong, for its main_body 'trnk'; did you mean trunk"
    ):
        find_main_body(wrong, bodies)
