"""What foreign environments are held to: the seconds of a step, Gymnasium's contract, bounds,
success, their limits.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import pytest
import tiny
from gymnasium.spaces import Box
from gymnasium.wrappers import FlattenObservation, OrderEnforcing, TimeLimit

import isthmus
from isthmus.domains import foreign, foreign_environment, foreign_simulation
from isthmus.domains.domain import Domain
from isthmus.domains.foreign_contract import check_reset, check_step, read_success
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.domains.simulated_time import find_clocks, is_simulation, measure_clocks
from isthmus.problems.problem import Access, Budget, Problem, TargetUsage
from isthmus.training.collect import log_target
from isthmus.training.older_runs import keep_shapes
from isthmus.training.run import Run
from isthmus.types import BadValue, Decision

MODEL = mujoco.MjModel.from_xml_string("""<mujoco><option timestep="0.005"/><worldbody><body>
    <joint name="hinge" type="hinge" axis="0 1 0" damping=".1"/><geom size=".1" pos="0 0 -.5"/>
</body></worldbody><actuator><motor joint="hinge" ctrlrange="-1 1"/></actuator></mujoco>""")


class Swing(gymnasium.Env):
    """A pendulum in MuJoCo, two physics steps of 5 ms a step; neither its dt nor its pictures' rate
    is that.
    """

    metadata = {"render_fps": 50}
    dt = 0.005
    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self):
        self.data = mujoco.MjData(MODEL)
        self.skips = lambda: 2

    def observe(self):
        return np.concatenate([self.data.qpos, self.data.qvel])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(MODEL, self.data)
        self.data.qpos[:] = self.np_random.uniform(-0.1, 0.1)
        return self.observe(), {}

    def step(self, action):
        self.data.ctrl[:] = action
        mujoco.mj_step(MODEL, self.data, nstep=self.skips())
        return self.observe(), 1.0, False, False, {}


class RepeatAction(gymnasium.Wrapper):
    def __init__(self, env: gymnasium.Env, times: int):
        super().__init__(env)
        self.times = times

    def step(self, action):
        total = 0.0
        for _ in range(self.times):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class Holder(gymnasium.Env):
    """Steps a Swing that it keeps somewhere, as mazes keep their robots."""

    metadata = {"render_fps": 50}
    observation_space, action_space = Swing.observation_space, Swing.action_space

    def __init__(self):
        self.keep(Swing())

    def keep(self, swing: Swing):
        self.point_env = OrderEnforcing(swing)
        self.reset, self.step = self.point_env.reset, self.point_env.step


class Simulator(Holder):
    """As mujoco-py's: env.sim.data.time, and nothing else to look into."""

    def keep(self, swing):
        class Sim:
            __slots__ = ("data",)

        class MjData:
            __module__ = "mujoco_py.cymj"
            time = 0.0

        self.sim = Sim()
        self.sim.data = MjData()  # type: ignore[attr-defined]

        def step(action):
            result = swing.step(action)
            self.sim.data.time = swing.data.time  # type: ignore[attr-defined]
            return result

        self.reset, self.step = swing.reset, step


class Suite(Holder):
    """As dm_control's by shimmy: env._env.physics.data.time, a property of a wrapped structure."""

    def keep(self, swing):
        class Physics:
            @property
            def data(self):
                return swing.data

        self._env = SimpleNamespace(physics=Physics())
        self.reset, self.step = swing.reset, swing.step


class Packaged(Swing):
    """A simulation by where its class comes from."""

    __module__ = "gymnasium_robotics.envs.pendulum"


class Renewed(Swing):
    """Makes its data anew at each reset, and keeps a copy that stands still."""

    def reset(self, *, seed=None, options=None):
        self.data, self.before = mujoco.MjData(MODEL), self.data
        return super().reset(seed=seed, options=options)


class Told(gymnasium.Wrapper):
    """Somebody else's physics, which tells its time itself."""

    steps = 0

    @property
    def simulated_time(self):
        return 0.04 * self.steps

    def step(self, action):
        self.steps += 1
        return self.env.step(action)


class Quiet(gymnasium.Env):
    """A robot: no simulated time. It remembers how it was moved, and gives what it is told to."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)
    moves: list[str] = []
    change: dict[str, Any] = {}

    def reset(self, *, seed=None, options=None):
        self.moves.append("reset")
        return self.change.get("reset", (np.zeros(2, np.float32), {}))

    def step(self, action):
        self.moves.append("step")
        result = {
            "obs": np.zeros(2, np.float32),
            "reward": 1.0,
            "terminated": False,
            "truncated": False,
            "info": {},
        }
        result |= {k: v for k, v in self.change.items() if k in result}
        return self.change.get("step", tuple(result.values()))


class Faulty(Quiet):
    """The same as a simulation."""

    simulated_time = 0.0

    def step(self, action):
        self.simulated_time += 0.02
        return super().step(action)


class Twin(Quiet):
    """A robot whose environment keeps a MuJoCo model beside, to compare with."""

    def __init__(self):
        self.data = mujoco.MjData(MODEL)

    def step(self, action):
        mujoco.mj_step(MODEL, self.data)
        return super().step(action)


class Log(Quiet):
    """A robot that keeps its last message, which has a time, under every name that data is kept
    by.
    """

    def __init__(self):
        self.data = self._data = SimpleNamespace(time=0.0)
        self.sim = self.physics = SimpleNamespace(data=self.data)

    def step(self, action):
        self.data.time += 0.02
        return super().step(action)


def hopper_repeated():
    return RepeatAction(gymnasium.make("Hopper-v5"), 4)


def ours_repeated():
    return RepeatAction(gymnasium.make("isthmus/Hopper-v0"), 3)


def swing_repeated():
    return RepeatAction(FlattenObservation(Packaged()), 7)


def told():
    return Told(Quiet())


ONE = Faulty()


def one_env():
    return ONE


def one_env_wrapped():
    return TimeLimit(ONE, 20)


def last_step():
    """Its first step ends the episode."""
    return RepeatAction(TimeLimit(Packaged(), 1), 1)


def cut_short():
    """Its second step is half as long as the first: the episode ends in it."""
    return RepeatAction(TimeLimit(Packaged(), 6), 4)


def uneven():
    env = Packaged()
    env.skips = iter([2, 3, 2, 3]).__next__
    return env


def disagreeing():
    env = Holder()
    other = Swing()
    other.step(np.zeros(1))
    env.other_env = other  # type: ignore[attr-defined]
    step = env.step
    env.step = lambda action: (mujoco.mj_step(MODEL, other.data), step(action))[1]
    env.__class__ = type("Maze", (Holder,), {"__module__": "gymnasium_robotics.envs.maze"})
    return env


class Policy(NamedTuple):
    value: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key=None):
        return (self.value, memory) if key is None else (Decision(self.value), memory)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(Quiet, "moves", [])
    monkeypatch.setattr(Quiet, "change", {})
    monkeypatch.setattr(foreign, "_warned", set())
    yield
    foreign_simulation._kept.clear()
    foreign_environment._spare.clear()
    foreign_environment.read_facts.cache_clear()
    foreign_environment.rehearse_step.cache_clear()


def domain(name: str, settings: str = "time_limit=30") -> Domain:
    return parse_domain(f"{__name__}:{name}/{settings}")


# The seconds of a step


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("Packaged", 0.01),
        ("swing_repeated", 0.07),
        ("hopper_repeated", 0.032),
        ("ours_repeated", 0.024),
        ("told", 0.04),
        ("last_step", 0.01),
        ("cut_short", 0.04),
    ],
)
def test_a_steps_seconds_are_measured(name, seconds):
    assert domain(name).step_seconds == seconds


@pytest.mark.parametrize("kind", [Swing, Holder, Simulator, Suite, Renewed])
def test_data_is_found_wherever_it_is_kept(kind):
    """In a class of the user's own, which is a simulation only where it says so."""
    assert measure_clocks("x", kind()) == 0.01 and not is_simulation(kind())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Quiet", "holds no simulated time"),
        ("uneven", "does not move by one and the same amount each step"),
        ("disagreeing", "does not move by one and the same amount each step"),
    ],
)
def test_where_they_cannot_be_measured_they_are_asked_for(name, words):
    with pytest.raises(BadValue, match=rf"{words}.*; write \S+/step_seconds=SECONDS") as caught:
        domain(name).ready()
    assert "\n" not in str(caught.value)
    assert domain(name).spaces.observation == 2
    assert domain(name, "time_limit=30,step_seconds=0.25").step_seconds == 0.25


def test_the_meter_counts_the_robots_seconds():
    target = domain("hopper_repeated", "time_limit=1000")
    problem = Problem(target, target, Access.ONLINE)
    book, worlds = problem.target_worlds(TargetUsage(), 1, seed=0)
    book, _, _ = problem.collect(book, worlds, Policy(np.zeros(3, np.float32)), 100)
    assert np.isclose(book.seconds, 3.2, rtol=1e-9)


def test_what_is_written_holds_and_a_disagreement_is_said_once():
    written = domain("Swing", "time_limit=30,step_seconds=0.5")
    with pytest.warns(
        UserWarning, match=r"step_seconds=0.5 is written, and a step took 0.01 s"
    ) as caught:
        rollout_steps(written, written.worlds(3, seed=0), Policy(np.zeros(1, np.float32)), 4)
    assert written.step_seconds == 0.5 and len(caught) == 1 and "\n" not in str(caught[0].message)
    for same in (
        domain("Swing", "time_limit=30,step_seconds=0.01"),
        domain("Quiet", "time_limit=9,step_seconds=0.1"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            rollout_steps(same, same.worlds(1, seed=0), Policy(np.zeros(1, np.float32)), 2)


def test_a_rehearsed_instance_is_no_worlds():
    """What was measured leaves no trace: each world's environment is a fresh one."""
    made = domain("told")
    assert made.step_seconds == 0.04 and Quiet.moves == ["reset", "step", "step", "step"]
    made.worlds(2, seed=0)
    assert [env.steps for env in foreign_simulation._kept[-1].envs] == [0, 0]  # type: ignore[attr-defined]


# What may be a robot stays where it is


@pytest.mark.parametrize(
    ("name", "words"),
    [("Log", "holds no simulated time"), ("Twin", "declares an attribute simulated_time")],
)
@pytest.mark.parametrize("access", ["online", "few_shot"])
def test_a_robot_that_looks_like_a_simulation_is_not_moved(name, words, access):
    """Its step's seconds are asked for as soon as the problem is made."""
    with pytest.raises(
        BadValue, match=rf"{words}.*; write \S+:{name}/step_seconds=SECONDS"
    ) as caught:
        isthmus.problem(str(domain(name)), access=access)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadValue, match=words):
        domain(name).step_seconds
    assert Quiet.moves == []


def test_a_twin_that_declares_its_time_is_measured(monkeypatch):
    monkeypatch.setattr(
        Twin, "simulated_time", property(lambda self: self.data.time), raising=False
    )
    assert domain("Twin").step_seconds == 0.005 and Quiet.moves == ["reset", "step", "step", "step"]


@pytest.mark.parametrize("name", ["one_env", "one_env_wrapped"])
def test_one_and_the_same_environment_is_not_moved_to_be_measured(name):
    """Neither before a world has it nor afterwards."""
    words = r"returns the same environment again.*; write \S+/step_seconds=SECONDS"
    with pytest.raises(BadValue, match=words):
        domain(name).ready()
    with pytest.raises(BadValue, match=words):
        target = domain(name)
        Problem(target, target, Access.ONLINE).target_worlds(TargetUsage(), 1, seed=0)
    assert Quiet.moves == []
    domain(name).worlds(1, seed=0)
    assert Quiet.moves == ["reset"]
    with pytest.raises(BadValue, match=words):
        domain(name).ready()
    assert Quiet.moves == ["reset"]


def count_moves(monkeypatch) -> list[str]:
    """The moves of every MujocoEnv from now on."""
    from gymnasium.envs.mujoco import MujocoEnv
    from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

    moves: list[str] = []
    reset, step = MujocoEnv.reset, HopperEnv.step
    monkeypatch.setattr(
        MujocoEnv, "reset", lambda self, **how: (moves.append("reset"), reset(self, **how))[1]
    )
    monkeypatch.setattr(
        HopperEnv, "step", lambda self, action: (moves.append("step"), step(self, action))[1]
    )
    return moves


def written_log(folder, like: Domain, **said: float) -> str:
    from isthmus.logs.log import Log as Logged
    from isthmus.logs.write import write_log

    o, a = like.spaces.observation, like.spaces.action
    obs = np.zeros((4, o), np.float32)
    ends = np.array([False, False, False, True])
    log = Logged(
        obs,
        np.zeros((4, a), np.float32),
        np.ones(4, np.float32),
        obs,
        np.zeros(4, bool),
        ends,
        np.zeros(4, int),
    )
    write_log(folder, log, {"domain": str(like), **said}, like)
    return str(folder)


@pytest.mark.parametrize("target", ["", "log"])
@pytest.mark.parametrize("name", ["gym:Hopper-v5", f"{__name__}:Faulty/time_limit=30"])
def test_a_log_is_read_and_audited_without_a_move(tmp_path, monkeypatch, name, target):
    from isthmus.audit.coverage import describe_coverage

    moves = count_moves(monkeypatch)
    data = written_log(tmp_path / "log", parse_domain(name))
    problem = isthmus.problem(name, target=target, access="dataset", data=data)
    assert problem.log().size == 4
    assert Problem.from_data(problem.describe(), trusted=False).log().size == 4
    text = "\n".join(describe_coverage(problem.dataset, problem.target).lines())
    assert "4 transitions, an unknown time of the robot" in text
    assert moves == [] and Quiet.moves == []
    written = name + ("," if "/" in name else "/") + "step_seconds=0.5"
    told = isthmus.problem(written, target=target, access="dataset", data=data)
    assert "4 transitions, 2 s of the robot" in "\n".join(
        describe_coverage(told.dataset, told.target).lines()
    )


def test_a_logs_seconds_are_those_that_its_file_says(tmp_path):
    from isthmus.audit.coverage import describe_coverage

    data = written_log(tmp_path / "log", domain("Faulty"), seconds=24.0, transitions=8)
    problem = isthmus.problem(str(domain("Faulty")), access="dataset", data=data)
    assert describe_coverage(problem.dataset, problem.target).seconds == 12 and Quiet.moves == []


@pytest.mark.parametrize("name", ["Quiet", "Twin", "Log"])
def test_evaluation_and_collection_ask_before_anything_moves(tmp_path, name):
    words = r"write \S+/step_seconds=SECONDS"
    with pytest.raises(BadValue, match=words):
        isthmus.evaluate(Policy(np.zeros(1, np.float32)), domain(name), episodes=1)
    source = domain("Quiet", "time_limit=30,step_seconds=0.1")
    run = SimpleNamespace(
        problem=Problem(source, source),
        method=SimpleNamespace(explores=True, has_source_action=False),
        behaviour=None,
    )
    with pytest.raises(BadValue, match=words):
        log_target(run, Problem(source, domain(name)), tmp_path / "log", 5)  # type: ignore[arg-type]
    assert Quiet.moves == [] and not (tmp_path / "log").exists()


def test_a_report_moves_no_target_that_was_not_touched():
    from isthmus.report.entries import RunCounters
    from isthmus.report.sections import describe_run

    run = SimpleNamespace(
        problem=Problem(domain("Faulty"), domain("Faulty")),
        seed=0,
        config={"start": None},
        finished=True,
    )
    entry = SimpleNamespace(
        counters=RunCounters("", 0, 0),
        run=run,
        label="",
        status="",
        last_evaluation=0,
        played=0,
        has_goal="",
    )
    assert describe_run(entry)["target_seconds"] == "0 s" and Quiet.moves == []  # type: ignore[arg-type]


@pytest.mark.parametrize("access", ["none", "dataset"])
def test_a_target_that_may_not_be_touched_is_not(access):
    """Not even to find it faulty, or to ask how long its steps last."""
    for name in ("Faulty", "Quiet", "Twin"):
        problem = Problem(
            domain("Quiet", "time_limit=30,step_seconds=0.1"), domain(name), Access(access)
        )
        problem.ready()
        keep_shapes(problem)
    assert Quiet.moves == []


def test_making_an_online_problem_moves_nothing(monkeypatch):
    moves = count_moves(monkeypatch)
    problem = isthmus.problem("gym:Hopper-v5", access="online")
    shapes = keep_shapes(problem)
    shapes.target_worlds(TargetUsage(), 2, seed=0)
    assert moves == []
    problem.ready()
    assert moves == ["reset", "step", "step", "step"]


def test_an_environment_is_measured_once_whoever_asks():
    trusted, doubted = (
        domain("Faulty"),
        parse_domain(f"{__name__}:Faulty/time_limit=30", trusted=False),
    )
    assert trusted.step_seconds == doubted.step_seconds == 0.02
    assert Quiet.moves == ["reset", "step", "step", "step"]


# Runs of older versions, whose problems say no step_seconds


def old(name: str) -> Domain:
    return parse_domain(f"{__name__}:{name}/time_limit=30", trusted=False)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"dt": 0.25, "metadata": {"render_fps": 8}}, 0.25),
        ({"metadata": {"render_fps": 8}}, 0.125),
        ({"dt": np.float32(0.5)}, 0.5),
    ],
)
@pytest.mark.parametrize("name", ["Quiet", "Twin"])
def test_an_old_problems_seconds_are_the_declared_ones(monkeypatch, changes, seconds, name):
    for attribute, value in changes.items():
        monkeypatch.setattr(Quiet, attribute, value, raising=False)
    problem = Problem(old(name), old(name), Access.ONLINE, Budget(seconds=9))
    with pytest.warns(
        UserWarning, match=rf"says no step_seconds: {seconds:g} s are taken"
    ) as caught:
        assert problem.target.step_seconds == old(name).step_seconds == seconds
    assert len(caught) == 1 and "\n" not in str(caught[0].message) and Quiet.moves == []
    with pytest.raises(BadValue, match="write"):
        domain(name).step_seconds


def test_an_old_problem_that_declares_nothing_is_asked_when_seconds_are_needed():
    problem = Problem(old("Quiet"), old("Quiet"), Access.ONLINE)
    with pytest.raises(BadValue, match="write"):
        problem.target_worlds(TargetUsage(), 1, seed=0)
    assert Quiet.moves == []


def test_an_old_run_opens_evaluates_and_goes_on(tmp_path):
    problem = isthmus.problem("gym:Pendulum-v1/step_seconds=0.05", access="online")
    run = tiny.train("target_only", tmp_path / "run", 2, problem=problem)
    path = run.folder / "run.json"
    path.write_text(path.read_text().replace("/step_seconds=0.05", ""))
    foreign_simulation._kept.clear()
    opened = Run.open(run.folder)
    assert str(opened.problem.target) == "gym:Pendulum-v1"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert int(opened.state().usage.transitions) == 2 * tiny.ROUND
    isthmus.evaluate(opened.policy, opened.problem.target, episodes=2)
    with pytest.warns(UserWarning, match=r"0.05 s are taken for a step, from its dt") as caught:
        again = isthmus.resume(run.folder, quiet=True)
        assert again.problem.target.step_seconds == 0.05
    assert len([w for w in caught if "step_seconds" in str(w.message)]) == 1


def test_no_clock_is_read_into_an_environment_that_has_none():
    assert find_clocks(Quiet()) == [] and find_clocks(gymnasium.make("Pendulum-v1")) == []
    env = Quiet()
    env.data = np.zeros(3)  # type: ignore[attr-defined]
    env.time = 3.0  # type: ignore[attr-defined]
    assert find_clocks(TimeLimit(env, 3)) == []


# The contract

FAULTS = {
    "reward of shape (1,)": ({"reward": np.ones(1)}, "reward must be one number.* shape \\(1,\\)"),
    "reward is None": ({"reward": None}, "reward must be one number"),
    "reward is text": ({"reward": "1.0"}, "reward must be one number"),
    "NaN reward": ({"reward": np.nan}, "the reward is nan"),
    "infinite reward": ({"reward": np.float32(np.inf)}, "the reward is inf"),
    "integer terminated": (
        {"terminated": 0},
        "terminated must be a bool, such as bool\\(terminated\\), not 0",
    ),
    "terminated of shape (1,)": ({"terminated": np.zeros(1, bool)}, "terminated must be a bool"),
    "truncated is None": ({"truncated": None}, "truncated must be a bool"),
    "observation too long": (
        {"obs": np.zeros(3)},
        "observation of an array of shape \\(3,\\).* shape \\(2,\\)",
    ),
    "observation as a column": ({"obs": np.zeros((2, 1))}, "shape \\(2, 1\\)"),
    "ragged observation": ({"obs": [np.zeros(2), 1.0]}, "is no array"),
    "observation is a long dict": (
        {"obs": {str(i): np.zeros((2, 2)) for i in range(9)}},
        "observation",
    ),
    "observation is a dict": ({"obs": {"position": np.zeros(2)}}, "observation"),
    "no info": ({"info": None}, "info that is a dict"),
    "old step": (
        {"step": (np.zeros(2), 1.0, False, {})},
        "\\(observation, reward, .*not a tuple of 4",
    ),
    "old reset": ({"reset": np.zeros(2)}, "reset must return \\(observation, info\\)"),
    "reset too long": ({"reset": (np.zeros(3), {})}, "reset returned an observation.*\\(3,\\)"),
    "reset without numbers": (
        {"reset": (np.array([np.nan, 0.0]), {})},
        "reset returned an observation with NaN",
    ),
    "success of three": (
        {"info": {"success": [True, False, True]}},
        "info\\['success'\\] must be one bool",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_simulations_fault_is_one_line_before_anything_begins(name, monkeypatch):
    change, words = FAULTS[name]
    monkeypatch.setattr(Quiet, "change", change)
    problem = Problem(
        domain("Quiet", "time_limit=30,step_seconds=0.1"), domain("Faulty"), Access.ONLINE
    )
    with pytest.raises(BadValue, match=words) as caught:
        problem.ready()
    assert "\n" not in str(caught.value) and f"{__name__}:Faulty" in str(caught.value)
    assert foreign_simulation._kept == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_robots_fault_is_one_line_at_the_first_counted_move(tmp_path, name, monkeypatch):
    """What may be a robot is not moved before that is counted, and its first result is checked."""
    change, words = FAULTS[name]
    monkeypatch.setattr(Quiet, "change", change)
    target = domain("Quiet", "time_limit=30,step_seconds=0.1")
    problem = Problem(target, target, Access.ONLINE).with_ledger(tmp_path / "ledger")
    assert Quiet.moves == []
    with pytest.raises(BadValue, match=words) as caught:
        book, worlds = problem.target_worlds(TargetUsage(), 1, seed=0)
        problem.collect(book, worlds, Policy(np.zeros(1, np.float32)), 5)
    assert "\n" not in str(caught.value) and len(Quiet.moves) <= 2
    counted = [json.loads(line) for line in (tmp_path / "ledger").open()]
    assert sum(line.get("transitions", 0) for line in counted) == Quiet.moves.count("step")


@pytest.mark.parametrize(
    "change",
    [
        {"reward": 1},
        {"reward": np.float32(1)},
        {"reward": np.array(1.0)},
        {"terminated": np.bool_(False)},
        {"truncated": np.array(False)},
        {"obs": [0.0, 1.0]},
        {"obs": np.zeros(2)},
        {"obs": np.zeros(2, int)},
    ],
)
def test_what_keeps_the_contract_is_taken(change, monkeypatch):
    monkeypatch.setattr(Quiet, "change", change)
    good = domain("Faulty")
    _, tr = rollout_steps(good, good.worlds(2, seed=0), Policy(np.zeros(1, np.float32)), 3)
    assert (tr.reward == 1).all() and not tr.terminated.any()


def test_an_observation_that_is_not_finite_is_a_simulation_that_blew_up():
    step = check_step("x", (np.array([np.nan, 0.0]), np.nan, False, False, {}), (2,))
    assert np.isnan(step.reward)
    with pytest.raises(BadValue, match="the reward is nan, beside a finite observation"):
        check_step("x", (np.zeros(2), np.nan, False, False, {}), (2,))
    observation, info = check_reset("x", ([0.0, 1.0], {"a": 1}), (2,))
    assert observation.tolist() == [0.0, 1.0] and info == {"a": 1}


class Raising(Faulty):
    def step(self, action):
        raise AssertionError


class Shapeless(Faulty):
    def reset(self, *, seed=None, options=None):
        raise KeyError("no such joint\nat all")


def test_an_error_in_a_rehearsal_says_what_and_where():
    with pytest.raises(
        BadValue,
        match=r"Raising: step failed: AssertionError without a message in .*contract.py:\d+: raise",
    ):
        domain("Raising").ready()
    with pytest.raises(
        BadValue, match=r"Shapeless: reset failed: KeyError: 'no such joint"
    ) as caught:
        domain("Shapeless").ready()
    assert "\n" not in str(caught.value)


def test_a_training_that_would_meet_a_fault_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Quiet, "change", {"reward": np.nan})
    with pytest.raises(BadValue, match="the reward is nan"):
        isthmus.train(
            "target_only", isthmus.problem(f"{__name__}:Faulty/time_limit=30"), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists() and Quiet.moves == ["reset", "step"]


# Bounds


def strict(low, high, dtype):
    """An environment that raises where an action is not within its own bounds, in its own
    precision.
    """

    class Strict(Faulty):
        action_space = Box(np.array([low], dtype), np.array([high], dtype), dtype=dtype)

        def step(self, action):
            assert self.action_space.contains(action), repr(action)
            self.moves.append(action)  # type: ignore[arg-type]
            return super().step(action)

    return Strict


@pytest.mark.parametrize("push", [-5.0, 5.0])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.float64, -0.1, 0.1),
        (np.float64, -0.3, 0.7),
        (np.float32, -0.1, 0.7),
        (np.float16, -0.1, 0.3),
    ],
)
def test_actions_keep_the_environments_own_bounds(monkeypatch, dtype, low, high, push):
    monkeypatch.setitem(globals(), "made_strict", strict(low, high, dtype))
    strictly = domain("made_strict")
    rollout_steps(strictly, strictly.worlds(1, seed=0), Policy(np.float32([push])), 1)
    action = next(move for move in reversed(Quiet.moves) if not isinstance(move, str))
    assert action.dtype == dtype and action[0] == dtype(low if push < 0 else high)  # type: ignore[attr-defined]


# Success


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"success": True}, True),
        ({"is_success": 1.0}, True),
        ({"success": np.bool_(False)}, False),
        ({"success": np.array([1.0])}, True),
        ({"is_success": np.array(0)}, False),
        ({}, False),
        ({"success": False, "is_success": True}, True),
        ({"success": np.nan}, False),
        ({"success": None}, False),
    ],
)
def test_success_is_read_from_the_info(info, said):
    assert read_success("x", info) is said


@pytest.mark.parametrize("key", ["success", "is_success"])
def test_an_episode_succeeds_by_its_last_info(monkeypatch, key):
    """At the end, as of our own tasks: to have been at the goal on the way is no success."""

    class Goal(Faulty):
        def reset(self, *, seed=None, options=None):
            self.at, self.late = 0, seed % 2 == 0
            return super().reset(seed=seed)

        def step(self, action):
            self.at += 1
            obs, reward, terminated, truncated, _ = super().step(action)
            there = np.float32(self.at >= 5) if self.late else self.at == 3
            return obs, reward, terminated, truncated, {key: there}

    monkeypatch.setitem(globals(), "made_goal", Goal)
    goal = domain("made_goal", "time_limit=6")
    played = rollout_episodes(goal, goal.worlds(8, seed=0), Policy(np.zeros(1, np.float32)))
    late = [env.late for env in foreign_simulation._kept[-1].envs]  # type: ignore[attr-defined]
    assert played.success.tolist() == late and 0 < sum(late) < 8


# Spaces and time limits


def dictionary():
    env = Swing()
    env.observation_space = gymnasium.spaces.Dict({"x": Box(-1, 1, (2,))})  # type: ignore[assignment]
    return env


def test_a_dict_is_told_how_to_become_a_box():
    with pytest.raises(BadValue, match=r"only a Box of floats.*FlattenObservation makes one"):
        domain("dictionary").spaces


def limited():
    return TimeLimit(Swing(), 40)


def limited_twice():
    return OrderEnforcing(TimeLimit(RepeatAction(TimeLimit(Swing(), 25), 1), 40))


def limited_anew():
    return TimeLimit(gymnasium.make("Hopper-v5").unwrapped, 70)


class Counting(Swing):
    _max_episode_steps = 60


@pytest.mark.parametrize(
    ("name", "limit"),
    [("limited", 40), ("limited_twice", 25), ("limited_anew", 70), ("Counting", 60)],
)
def test_a_wrappers_time_limit_is_read(name, limit):
    made = parse_domain(f"{__name__}:{name}")
    assert made.time_limit == limit and made.spaces.observation
    assert parse_domain(f"{__name__}:{name}/time_limit=20").time_limit == 20


# Messages


def test_an_environment_that_fails_without_a_word_is_told_by_its_place(monkeypatch):
    def silent():
        raise AssertionError

    monkeypatch.setitem(globals(), "silent", silent)
    with pytest.raises(
        BadValue,
        match=r"could not be made: AssertionError without a message in .*:\d+: raise Asser",
    ):
        domain("silent").spaces


def test_what_is_known_of_gymnasium_robotics_is_said(tmp_path, monkeypatch):
    package = tmp_path / "gymnasium_robotics"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "fetch.py").write_text(
        "import mujoco, numpy as np\ndef make():\n    kind = np.int32(3)\n"
        "    assert kind in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)\n"
        "def other():\n    raise OSError('no mesh')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("gymnasium_robotics", "gymnasium_robotics.fetch"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    with pytest.raises(
        BadValue, match=r"fetch.py:4: assert kind in .*1.4.2 does not work with MuJoCo 4"
    ) as caught:
        parse_domain("gymnasium_robotics.fetch:make").spaces
    assert "\n" not in str(caught.value)
    with pytest.raises(BadValue, match=r"OSError: no mesh$"):
        parse_domain("gymnasium_robotics.fetch:other").spaces


class Breaking(Quiet):
    """A robot whose motors are lost at a reset, or after two steps."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps > 2:
            raise RuntimeError("motor lost")
        return super().step(action)


def make_breaking():
    return Breaking()


def test_what_a_robot_raises_is_one_line_that_names_it():
    target = domain("make_breaking", "time_limit=30,step_seconds=0.1")
    with pytest.raises(
        BadValue, match="make_breaking: step failed: RuntimeError: motor lost"
    ) as error:
        isthmus.evaluate(Policy(np.zeros(1, np.float32)), target, 1)
    assert "\n" not in str(error.value) and isinstance(error.value.__cause__, RuntimeError)


CLOSING = """
import numpy as np, isthmus, test_foreign_contract as here
class Robot(here.Quiet):
    def close(self):
        print("closed")
here.Robot = Robot
target = isthmus.parse_domain("test_foreign_contract:Robot/time_limit=3,step_seconds=0.1")
isthmus.evaluate(here.Policy(np.zeros(1, np.float32)), target, 2)
print("done")
"""


def test_environments_are_closed_at_the_processs_end():
    here = os.pathsep.join(map(str, Path(__file__).parents[:2]))
    done = subprocess.run(
        [sys.executable, "-c", CLOSING],
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["done", "closed", "closed"], done.stderr
