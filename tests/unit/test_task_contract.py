"""A task of one's own is held to its contract before anything is trained: each mistake is a line
that names the fix.
"""

from __future__ import annotations

import numpy as np
import own
import pytest

import isthmus
from isthmus.audit.audit import audit
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation, build_simulator, control_bounds
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.random import Streams, keys
from isthmus.tasks import task as tasks
from isthmus.tasks.contract import check_contract
from isthmus.types import BadValue, IsthmusError


@pytest.fixture(autouse=True)
def clean():
    yield
    own.forget()


def find_fault(folder, **attributes) -> str:
    """What is said of a leg whose class has these attributes, in one line."""
    with pytest.raises(IsthmusError) as error:
        parse_domain(own.register(folder, **attributes)).ready()
    assert "\n" not in str(error.value)
    return str(error.value)


def wrap(**terms):
    """A method `rewards` whose terms are made by functions of the number of worlds."""
    return lambda self, view, memory, action: {
        name: make(len(view.ids)) for name, make in terms.items()
    }


@pytest.mark.parametrize("name", sorted(tasks.BUILT_IN))
def test_built_in_tasks_keep_their_contract(name):
    task = tasks.find_task(name)
    bounds = control_bounds(task)
    check_contract(task, bounds, lambda n: build_simulator(task, "mujoco", (), n))
    observation, spaces = parse_domain(name).worlds(2, 0).observation, parse_domain(name).spaces
    assert observation.shape == (2, spaces.observation) == (2, len(task.observation_names))
    assert np.isfinite(observation).all()
    np.testing.assert_array_equal(spaces.low, bounds[0])
    np.testing.assert_array_equal(spaces.high, bounds[1])


def test_a_task_that_keeps_it_is_rehearsed_once(tmp_path):
    asked = []

    def count(self, view):
        asked.append(len(view.ids))
        return own.Leg.progress(self, view)

    domain = parse_domain(own.register(tmp_path, progress=count))
    domain.ready()
    first = list(asked)
    assert {1, 3} <= set(first)
    domain.ready()
    domain.worlds(2, seed=0)
    assert asked == first


REWARDS = [
    (
        {"alive": lambda n: np.ones(1)},
        "float64 of shape (1,) for 'alive'; with n=3 it needs an array of numbers",
    ),
    ({"alive": lambda n: 1.0}, "gives a float for 'alive'"),
    ({"alive": lambda n: np.float64(1.0)}, "gives a float64 for 'alive'"),
    ({"alive": lambda n: [1.0] * n}, "gives a list for 'alive'"),
    ({"alive": lambda n: np.ones(n, bool)}, "gives bool of shape (1,) for 'alive'"),
    ({"alive": lambda n: np.ones((n, 1))}, "gives float64 of shape (1, 1) for 'alive'"),
    ({"alive": np.ones, "tilt": lambda n: np.full(n, np.nan)}, "'tilt' is nan in world 0"),
    ({"alive": lambda n: np.full(n, np.inf)}, "'alive' is inf in world 0"),
    ({}, "must give a dict of named terms"),
]


@pytest.mark.parametrize("terms, said", REWARDS, ids=[said for _, said in REWARDS])
def test_rewards_that_are_none(tmp_path, terms, said):
    fault = find_fault(tmp_path, rewards=wrap(**terms))
    assert fault.startswith("leg.rewards") and said in fault


def see(view):
    return own.Leg.observe(own.Leg(), view)


def begin(make):
    """A method `start` whose rows of qpos are made by a function of the streams' and the
    simulator's worlds.
    """

    def start(self, simulator, random):
        qpos = make(len(random.uniform(0, 1, 0)), simulator.n)
        return qpos, np.zeros((*qpos.shape[:-1], 7))

    return start


def begin_active(self, simulator, random):
    n = len(random.uniform(0, 1, 0))
    return tasks.Start(np.tile(own.START, (n, 1)), np.zeros((n, 7)), np.zeros((n, 1)))


def lean_on_the_first(self, view, memory, action):
    return {"moved": view.qpos[:, 7] - memory[0, 0]}


def number_worlds(self, view):
    return 1.0 * view.ids[:, None]


BREAKS = {
    "no dict": ({"rewards": lambda self, v, m, a: v.qpos[:, 0]}, "leg.rewards must give a dict"),
    "terminated (1,)": (
        {"terminated": lambda self, v: np.zeros(1, bool)},
        "leg.terminated gives bool of shape (1,)",
    ),
    "integer terminated": (
        {"terminated": lambda self, v: v.ids},
        "leg.terminated gives int64 of shape (1,)",
    ),
    "one bool": ({"terminated": lambda self, v: False}, "leg.terminated gives a bool"),
    "goal by number": ({"at_goal": lambda self, v: v.qpos[:, 0]}, "leg.at_goal gives float64"),
    "a column": (
        {"progress": lambda self, v: v.qpos[:, :1].copy()},
        "leg.progress gives float64 of shape (1, 1)",
    ),
    "another size": (
        {"observe": lambda self, v: v.qpos * 1},
        "gives 8 numbers a world and observation_names has 15",
    ),
    "another length": (
        {"observation_names": ("one",)},
        "gives 15 numbers a world and observation_names has 1",
    ),
    "flat": ({"observe": lambda self, v: see(v)[0]}, "leg.observe gives float64 of shape (15,)"),
    "whole numbers": ({"observe": lambda self, v: see(v).astype(int)}, "leg.observe gives int64"),
    "NaN observed": (
        {"observe": lambda self, v: np.arccos(see(v) + 9)},
        "leg.observe: 'number 0' is nan",
    ),
    "flat memory": (
        {"remember": lambda self, v: v.qpos[:, 0].copy()},
        "leg.remember gives float64 of shape (1,)",
    ),
    "live memory": (
        {"remember": lambda self, v: v.qpos[:, 7:]},
        "leg.remember returns the simulator's own array",
    ),
    "live place": (
        {"remember": lambda self, v: v.position("leg")},
        "leg.remember returns the simulator's own",
    ),
    "first memory": (
        {"rewards": lean_on_the_first, "remember": number_worlds},
        "leg.rewards gives 'moved' other numbers when other worlds are asked for",
    ),
    "mean over worlds": (
        {"observe": lambda self, v: see(v) - see(v).mean(0)},
        "leg.observe gives other numbers",
    ),
    "chance": (
        {"progress": lambda self, v: np.random.uniform(size=len(v.ids))},
        "leg.progress gives other numbers",
    ),
    "no method": ({"progress": tasks.Task.progress}, "leg has no method progress"),
    "a traceback": (
        {"terminated": lambda self, v: v.qpos[:, 9] > 1},
        "leg.terminated raises IndexError: index 9 is",
    ),
    "unknown cost": (
        {"costs": ("contrl",)},
        "unknown reward term in leg.costs 'contrl'; known: alive, forward",
    ),
    "unknown fall": (
        {"falling": ("aliv",)},
        "unknown reward term in leg.falling 'aliv'; did you mean alive?",
    ),
    "no rows": (
        {"start": begin(lambda n, all_of: np.array(own.START))},
        "leg.start gives float64 of shape (8,) for qpos",
    ),
    "one row": (
        {"start": begin(lambda n, all_of: np.array([own.START]))},
        "leg.start gives float64 of shape (1, 8) for qpos; with n=3",
    ),
    "all worlds": (
        {"start": begin(lambda n, all_of: np.tile(own.START, (all_of, 1)))},
        "leg.start gives a world another qpos when others begin with it",
    ),
    "start by chance": (
        {
            "start": begin(
                lambda n, all_of: np.tile(own.START, (n, 1)) + np.random.uniform(size=(n, 1))
            )
        },
        "leg.start gives a world another qpos when others begin with it",
    ),
    "no velocity": (
        {"start": lambda self, s, r: (np.array([own.START]), None)},
        "leg.start gives a NoneType for qvel",
    ),
    "another act": (
        {"start": begin_active},
        "leg.start gives float64 of shape (1, 1) for act; with n=1",
    ),
    "no pair": (
        {"start": lambda self, s, r: np.zeros((2, 8))},
        "leg.start must give a Start, or the pair of qpos and",
    ),
    "NaN at first": (
        {"start": begin(lambda n, all_of: np.full((n, 8), np.nan))},
        "numbers for qpos that are not finite",
    ),
    "unknown keyframe": (
        {"keyframe": "hom"},
        "unknown keyframe of leg.xml 'hom'; did you mean home?",
    ),
    "neutral too long": (
        {"neutral_action": (0.0, 0.0)},
        "is (0.0, 0.0); it needs a number for each of: -1..1",
    ),
    "neutral out of bounds": ({"neutral_action": (2.0,)}, "leg.neutral_action is (2.0,)"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_mistakes_are_one_line(tmp_path, kind):
    attributes, said = BREAKS[kind]
    assert said in find_fault(tmp_path, **attributes)


DECLARED = [
    ({"observation_names": "x"}, "leg.observation_names is 'x': needs a tuple"),
    ({"costs": "control"}, "leg.costs is 'control': needs a tuple"),
    ({"falling": (1,)}, "leg.falling is (1,): needs a tuple"),
    ({"frame_skip": 0}, "leg.frame_skip is 0: needs a whole number"),
    ({"time_limit": 2.5}, "leg.time_limit is 2.5: needs a whole number"),
    ({"name": "my leg"}, "the task Own has name = 'my leg'"),
]


@pytest.mark.parametrize("attributes, said", DECLARED, ids=[said for _, said in DECLARED])
def test_declarations_are_read_where_a_task_is_registered(tmp_path, attributes, said):
    assert said in find_fault(tmp_path, **attributes)


def test_what_a_task_must_declare():
    with pytest.raises(BadValue, match="the task Bare declares no model"):

        @tasks.register
        class Bare(tasks.Task):
            name = "bare"


def test_costs_that_are_not_declared_need_not_be_paid(tmp_path):
    """`control` is the default, and a leg has no such term; what a class says itself, or one
    between, must be there.
    """
    assert own.Leg.costs == ("control",)
    parse_domain(own.register(tmp_path)).ready()
    between = type("Between", (own.Leg,), {"costs": ("control",)})
    assert "leg.costs 'control'" in find_fault(tmp_path, base=between)


# Where a task is met


BROKEN = {"terminated": lambda self, view: np.zeros(1, bool)}


def test_nothing_is_written_for_a_task_that_breaks_its_contract(tmp_path):
    name = own.register(tmp_path, **BROKEN)
    problem = isthmus.problem(f"{name}/leg_mass=2")
    with pytest.raises(BadValue, match=r"leg\.terminated"):
        isthmus.train("source_only", problem, steps=100, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_worlds_audits_and_environments_rehearse_too(tmp_path):
    from isthmus.domains.gym import Environment

    name = own.register(tmp_path, **BROKEN)
    domain = parse_domain(name)
    for use in (
        lambda: domain.worlds(1, seed=0),
        lambda: audit(domain, domain.shift("leg_mass=2")),
        lambda: Environment(name),
    ):
        with pytest.raises(BadValue, match=r"leg\.terminated"):
            use()


def test_a_rehearsal_takes_no_random_numbers(tmp_path):
    """The starts of worlds are those of a task that was rehearsed long ago."""
    domain = parse_domain(own.register(tmp_path))
    first = domain.worlds(3, seed=5)
    again = domain.worlds(3, seed=5)
    assert np.array_equal(first.rows, again.rows) and np.array_equal(
        first.observation, again.observation
    )


# Numbers that are none, later


def test_a_reward_that_is_no_number_later_on_is_named(tmp_path):
    """A rehearsal's actions do not reach the bounds, where the root is of less than nothing."""

    def rewards(self, view, memory, action):
        return {"alive": np.ones(len(view.ids)), "root": np.sqrt(0.9 - action[:, 0])}

    domain = parse_domain(own.register(tmp_path, rewards=rewards))
    simulation = domain.simulation(2)
    ids = np.arange(2)
    _, memory = simulation.begin(ids, np.empty((2, 0)), Streams(keys(0, 2)))
    action = np.array([[0.25], [1.0]], np.float32)
    simulation.step(ids, memory, commanded=action[[0, 0]], applied=action[[0, 0]])
    with pytest.raises(
        BadValue, match=r"^leg\.rewards: 'root' is nan in world 1, whose state is finite"
    ):
        simulation.step(ids, memory, commanded=action, applied=action)
    with pytest.raises(BadValue, match="in world 1"):  # where it alone is stepped
        simulation.step(ids[1:], memory[1:], commanded=action[1:], applied=action[1:])


def test_an_observation_that_is_no_number_later_on_is_named(tmp_path):
    def observe(self, view):
        obs = own.Leg.observe(self, view)
        with np.errstate(divide="ignore"):
            obs[:, 3] = 1 / (1.0 - (view.qpos[:, 7] > 2))
        return obs

    domain = parse_domain(own.register(tmp_path, observe=observe))
    simulation = domain.simulation(1)
    assert isinstance(simulation, PhysicsSimulation)
    _, memory = simulation.begin(np.arange(1), np.empty((1, 0)), Streams(keys(0, 1)))
    simulation.simulator.qpos[0, 7] = 3.0
    with pytest.raises(BadValue, match=r"^leg\.observe: 'number 3' is inf in world 0"):
        simulation.step(np.arange(1), memory, commanded=np.zeros((1, 1)), applied=np.zeros((1, 1)))


def test_a_world_that_diverged_is_no_fault_of_its_task(tmp_path):
    domain = parse_domain(own.register(tmp_path))
    simulation = domain.simulation(2)
    assert isinstance(simulation, PhysicsSimulation)
    _, memory = simulation.begin(np.arange(2), np.empty((2, 0)), Streams(keys(0, 2)))
    simulation.simulator.qvel[1, 0] = np.nan
    *_, diverged, _ = simulation.step(
        np.arange(2), memory, commanded=np.zeros((2, 1)), applied=np.zeros((2, 1))
    )
    assert diverged.tolist() == [False, True]


def scatter(self, view, random):
    view.write_state(0, np.random.default_rng().uniform(size=(len(view.ids), 1)))


def hand_on(self, view, random):
    view.write_state(0, np.full((len(view.ids), 1), 1.0 * len(view.ids)))


@pytest.mark.parametrize("begin", [scatter, hand_on])
def test_a_state_that_is_not_a_worlds_own(tmp_path, begin):
    fault = find_fault(tmp_path, state_size=1, begin=begin)
    assert fault.startswith("leg.begin writes a world another state when others begin with it")


def test_a_task_keeps_a_state_of_its_own(tmp_path):
    def begin(self, view, random):
        view.write_state(0, random.uniform(1.0, 2.0, 1))

    def advance(self, view, action):
        view.write_state(0, view.state + 1)

    def rewards(self, view, memory, action):
        return {"count": view.state[:, 0]}

    name = own.register(tmp_path, state_size=1, begin=begin, advance=advance, rewards=rewards)
    live = SteppedWorlds.new(parse_domain(name), keys(0, 3))
    paid = [live.step(live.all, commanded=np.zeros((3, 1), np.float32)).reward for _ in range(3)]
    assert ((paid[0] >= 1) & (paid[0] < 2)).all() and len(set(paid[0])) == 3
    np.testing.assert_array_equal(np.diff(paid, axis=0).round(9), 1.0)


def test_a_view_shows_what_a_task_needs_alone(tmp_path):
    fault = find_fault(tmp_path, observe=lambda self, view: np.tile(view.effort, (1, 15)))
    assert "write needs = ('efforts',)" in fault
