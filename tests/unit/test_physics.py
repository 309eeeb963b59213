"""The engine's contract: exact state out and in, contained divergence, no bit from threads or
neighbours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isthmus.physics.engine import VELOCITY_BOUND
from isthmus.physics.mujoco import MujocoSimulator, load_model, load_parameters, threads
from isthmus.physics.random import Streams, keys
from isthmus.tasks import task as tasks
from isthmus.types import BadValue

ROBOTS = sorted(tasks.BUILT_IN)
N = 5
EVERYONE = np.arange(N)


def make(
    robot: str, n: int = N, forces: bool | None = None, names: tuple[str, ...] | None = None
) -> MujocoSimulator:
    """A simulator in which all of a robot's parameters may differ between worlds."""
    task = tasks.find_task(robot)
    if names is None:
        names = tuple(load_parameters(task.model_path()))
    return MujocoSimulator(
        task.model_path(), names, n, task.frame_skip, task.forces if forces is None else forces
    )


def own_dynamics(simulator: MujocoSimulator, seed: int = 0) -> np.ndarray:
    """(n, P): each world with dynamics of its own, within a factor of 1.3 of the robot's (of 0.02
    for none).
    """
    defaults = np.array([p.default or 0.02 for p in simulator.parameters])
    return defaults * np.exp(
        np.random.default_rng(seed).uniform(-0.26, 0.26, (simulator.n, len(defaults)))
    )


def begin(robot: str, simulator: MujocoSimulator, seed: int = 0) -> None:
    ids = np.arange(simulator.n)
    simulator.reset(ids, *tasks.find_task(robot).start(simulator, Streams(keys(seed, simulator.n))))


def control(simulator: MujocoSimulator, t: int, ids: np.ndarray = EVERYONE) -> np.ndarray:
    """(n, A): what worlds `ids` are told at step t, whoever else is."""
    return np.array(
        [np.random.default_rng([t, i]).uniform(-1, 1, simulator.control.shape[1]) for i in ids]
    )


def run(simulator: MujocoSimulator, steps: range, ids: np.ndarray = EVERYONE) -> np.ndarray:
    """Rows over time [T, N, S]."""
    rows = []
    for t in steps:
        assert not simulator.step(ids, control(simulator, t, ids)).any()
        rows.append(simulator.rows.copy())
    return np.array(rows)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("kept", [False, True], ids=["shared data", "data per world"])
def test_rows_continue_to_the_bit_in_another_simulator(robot, kept):
    """A fresh one or one with a past, with one MjData a world or one a thread, in other places."""
    task = tasks.find_task(robot)
    first = make(robot, forces=kept)
    dynamics = own_dynamics(first)
    first.set_parameters(EVERYONE, dynamics)
    begin(robot, first)
    run(first, range(25))
    saved = first.rows.copy()
    view = tasks.SimView(first, EVERYONE)
    positions, want = [], []
    for t in range(25, 50):
        first.step(EVERYONE, control(first, t))
        want.append(first.rows.copy())
        positions.append(view.position(task.main_body).copy())
    assert len(np.unique(want[-1], axis=0)) == N

    for other_kept in (False, True):
        fresh = make(robot, forces=other_kept)
        used = make(robot, n=N + 3, forces=other_kept)
        used.set_parameters(np.arange(N + 3), own_dynamics(used, seed=1))
        begin(robot, used, seed=1)
        run(used, range(10), np.arange(N + 3))
        for simulator, places in ((fresh, EVERYONE), (used, np.array([0, 2, 3, 5, 7]))):
            simulator.set_parameters(places, dynamics)
            simulator.rows[places] = saved
            for t in range(25, 50):
                simulator.step(places, control(simulator, t))
                assert np.array_equal(simulator.rows[places], want[t - 25])
                assert np.array_equal(simulator.position(task.main_body)[places], positions[t - 25])


def test_contact_forces_continue_with_the_rows():
    first, second = make("ant"), make("ant")
    begin("ant", first)
    run(first, range(30))
    second.rows[:] = first.rows
    seen = []
    for t in range(30, 60):
        for simulator in (first, second):
            simulator.step(EVERYONE, control(simulator, t))
        seen.append(first.contact_forces(EVERYONE))
        assert np.array_equal(seen[-1], second.contact_forces(EVERYONE))
        some = np.array([1, 3])
        assert np.array_equal(seen[-1][some], first.contact_forces(some))
    assert np.abs(seen).max() > 0.1


@pytest.mark.parametrize("robot", ROBOTS)
def test_threads_change_no_bit(robot, monkeypatch):
    runs = []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("ISTHMUS_THREADS", count)
        simulator = make(robot)
        assert simulator.batch.nthread == int(count)
        simulator.set_parameters(EVERYONE, own_dynamics(simulator))
        begin(robot, simulator)
        runs.append(run(simulator, range(40)))
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("robot", ROBOTS)
def test_some_worlds_step_and_the_others_wait(robot):
    whole, part = make(robot), make(robot)
    for simulator in (whole, part):
        simulator.set_parameters(EVERYONE, own_dynamics(simulator))
        begin(robot, simulator)
    want = run(whole, range(20))
    run(part, range(10))
    before, some, others = part.rows.copy(), np.array([1, 4]), np.array([0, 2, 3])
    run(part, range(10, 20), some)
    assert np.array_equal(part.rows[some], want[-1][some])
    assert np.array_equal(part.rows[others], before[others])
    run(part, range(10, 20), others)
    assert np.array_equal(part.rows, want[-1])
    # Beginning anew and other dynamics, too, are a world's own affair.
    before = part.rows.copy()
    part.set_parameters(some, own_dynamics(part, seed=5)[some])
    part.reset(some, np.tile(part.qpos0, (2, 1)), np.zeros((2, part.nv)))
    assert np.array_equal(part.rows[others], before[others])
    assert not np.array_equal(part.rows[some], before[some])
    assert np.array_equal(
        run(part, range(20, 30), others)[-1][others], run(whole, range(20, 30))[-1][others]
    )


def test_reset_leaves_nothing_of_the_past():
    """Warm starts, controls and times included."""
    used, fresh = make("hopper"), make("hopper")
    begin("hopper", used, seed=1)
    run(used, range(30))
    begin("hopper", used)
    begin("hopper", fresh)
    assert np.array_equal(used.rows, fresh.rows)
    assert np.array_equal(run(used, range(10)), run(fresh, range(10)))


def make_sick(simulator: MujocoSimulator, world: int, how: str) -> None:
    if how == "absurd velocity":
        simulator.qvel[world, 0] = 1e9
    elif how == "fast but finite":
        simulator.qvel[world, 0] = 1e6
    elif how == "nan velocity":
        simulator.qvel[world, -1] = np.nan
    elif how == "infinite position":
        simulator.qpos[world, 0] = np.inf


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize(
    "how",
    [
        "absurd velocity",
        "fast but finite",
        "nan velocity",
        "infinite position",
        "nan control",
        "inf control",
    ],
)
def test_a_diverging_world_is_told_and_kept_apart(robot, how):
    sick, well = 2, np.array([0, 1, 3, 4])
    simulator, healthy = make(robot), make(robot)
    for s in (simulator, healthy):
        s.set_parameters(EVERYONE, own_dynamics(s))
        begin(robot, s)
    want = run(healthy, range(20))
    run(simulator, range(5))
    make_sick(simulator, sick, how)
    for t in range(5, 20):
        action = control(simulator, t)
        if how.endswith("control"):
            action[sick, -1] = np.nan if how.startswith("nan") else -np.inf
        diverged = simulator.step(EVERYONE, action)
        if (
            t == 5 or how != "fast but finite"
        ):  # friction or damping may tame the fast one in the end
            assert diverged.tolist() == [i == sick for i in EVERYONE]
        assert np.array_equal(simulator.rows[well], want[t][well])
        if robot == "ant":
            assert np.isfinite(simulator.contact_forces(well)).all()
    if how in (
        "absurd velocity",
        "nan velocity",
        "infinite position",
    ):  # shown as it is, not reset behind our back
        fast = np.abs(simulator.qvel[sick]) >= VELOCITY_BOUND
        assert fast.any() or not np.isfinite(simulator.rows[sick]).all()
    # And it can begin anew as if nothing had been.
    begin(robot, simulator)
    begin(robot, healthy)
    assert np.array_equal(run(simulator, range(20)), run(healthy, range(20)))


def test_impossible_dynamics_diverge_and_are_told():
    """Motors a hundred times too strong on a torso of a gram."""
    simulator = make("half_cheetah", names=("motor_strength", "torso_mass"))
    healthy = make("half_cheetah", names=("motor_strength", "torso_mass"))
    values = np.tile([p.default for p in simulator.parameters], (N, 1))
    values[3] = [100.0, 0.001]
    simulator.set_parameters(EVERYONE, values)
    for s in (simulator, healthy):
        begin("half_cheetah", s)
    told = np.zeros(N, bool)
    for t in range(50):
        told |= simulator.step(EVERYONE, control(simulator, t))
        healthy.step(EVERYONE, control(healthy, t))
        assert np.array_equal(np.delete(simulator.rows, 3, 0), np.delete(healthy.rows, 3, 0))
    assert told.tolist() == [False, False, False, True, False]


BEYOND = np.nextafter(VELOCITY_BOUND, np.inf)


@pytest.mark.parametrize(
    ("field", "value", "lost"),
    [
        ("qvel", VELOCITY_BOUND, True),
        ("qvel", -BEYOND, True),
        ("qvel", np.nextafter(VELOCITY_BOUND, 0), False),
        ("qvel", np.nan, True),
        ("qpos", np.inf, True),
        ("qpos", np.nan, True),
        ("qpos", 1e300, False),
        ("control", np.nan, True),
        ("control", -np.inf, True),
    ],
)
@pytest.mark.parametrize("ids", [EVERYONE, np.array([1, 3])])
def test_a_world_has_diverged_where_its_own_numbers_have(field, value, lost, ids, monkeypatch):
    """Physics is left out: what is judged is what is written here. Two of 1e300 add up, too."""
    simulator = make("hopper", names=())
    begin("hopper", simulator)
    monkeypatch.setattr(simulator, "_advance", lambda ids: None)
    action = np.zeros((N, simulator.control.shape[1]))
    numbers = {"qvel": simulator.qvel, "qpos": simulator.qpos, "control": action}[field]
    numbers[3, :2] = value
    want = lost & (ids == 3)
    assert simulator.step(ids, action[ids]).tolist() == want.tolist()


def test_the_velocity_bound_is_far_from_what_robots_do():
    for robot in ROBOTS:
        simulator = make(robot, names=())
        begin(robot, simulator)
        for t in range(200):
            assert not simulator.step(EVERYONE, np.sign(control(simulator, t // 20))).any()
        assert np.abs(simulator.qvel).max() < VELOCITY_BOUND / 40


def test_an_error_of_the_engine_is_one_worlds_divergence(tmp_path):
    """Thirty boxes in one place need more memory than the model grants: MuJoCo raises, the others
    go on.
    """
    boxes = "".join(
        f'<body pos="{i} 0 1"><freejoint/><geom type="box" size=".2 .2 .2"/></body>'
        for i in range(30)
    )
    path = tmp_path / "crowd.xml"
    path.write_text(
        f'<mujoco><size memory="64K"/><worldbody><geom type="plane" size="9 9 '
        f'1"/>{boxes}</worldbody></mujoco>'
    )
    simulator, healthy = MujocoSimulator(path, (), 3, 2), MujocoSimulator(path, (), 3, 2)
    ids, nothing = np.arange(3), np.zeros((3, 0))
    for s in (simulator, healthy):
        s.reset(ids, np.tile(s.qpos0, (3, 1)), np.zeros((3, s.nv)))
    simulator.qpos[1].reshape(30, 7)[:, 0] = 0.0
    for _ in range(3):
        assert not healthy.step(ids, nothing).any()
        assert simulator.step(ids, nothing).tolist() == [False, True, False]
        assert np.array_equal(simulator.rows[[0, 2]], healthy.rows[[0, 2]])
    assert simulator.step(np.array([1, 2]), nothing[:2]).tolist() == [True, False]


def test_divergence_prints_nothing_and_writes_no_file(tmp_path):
    """Nor does a model whose XML MuJoCo calls deprecated. In a process of its own: a handler is set
    once.
    """
    code = """
import numpy as np
from isthmus.physics import mujoco as engine
from isthmus.tasks import task as tasks
task = tasks.find_task("half_cheetah")
simulator = engine.MujocoSimulator(task.model_path(), (), 8, task.frame_skip)
ids = np.arange(8)
simulator.reset(ids, np.tile(simulator.qpos0, (8, 1)), np.full((8, simulator.nv), np.nan))
assert simulator.step(ids, np.full((8, 6), np.nan)).all()
assert any("deprecated" in w for w in engine.warnings) and any("Nan" in w for w in engine.warnings)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "", "²"])
def test_a_number_of_threads_that_is_none(text, monkeypatch):
    monkeypatch.setenv("ISTHMUS_THREADS", text)
    with pytest.raises(BadValue, match="ISTHMUS_THREADS"):
        threads()


def test_all_processors_by_default(monkeypatch):
    monkeypatch.delenv("ISTHMUS_THREADS", raising=False)
    everything = threads()
    assert everything >= 1
    monkeypatch.setenv("ISTHMUS_THREADS", "0")
    assert threads() == everything


def test_a_model_that_is_none_gets_one_line(tmp_path):
    with pytest.raises(BadValue, match=r"no MJCF file at .*absent\.xml"):
        load_model(tmp_path / "absent.xml")
    broken = tmp_path / "broken.xml"
    for text in (
        "<mujoco><worldbody><body></mujoco>",
        "no xml",
        '<mujoco><worldbody><geom size="-1"/></worldbody></mujoco>',
    ):
        broken.write_text(text)
        with pytest.raises(BadValue, match=r"broken\.xml does not compile") as error:
            load_model(broken)
        assert "\n" not in str(error.value)


def test_simulators_do_not_share_their_models():
    """Compiled once a file, but each with dynamics of its own."""
    path: Path = tasks.find_task("hopper").model_path()
    assert load_model(path) is load_model(path)
    heavy, usual = make("hopper", names=("torso_mass",)), make("hopper", names=("torso_mass",))
    heavy.set_parameters(EVERYONE, np.full((N, 1), 9.0))
    for s in (heavy, usual):
        begin("hopper", s)
    assert not np.array_equal(run(heavy, range(10)), run(usual, range(10)))
    assert load_model(path).body("torso").mass[0] == load_parameters(path)["torso_mass"].default
