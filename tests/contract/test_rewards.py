"""Reward variants: what each pays, which tasks have it, and that the dense one and the physics stay
as they are.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import cache

import jax
import numpy as np
import pytest
import tiny
from comparing import few
from test_problem import poison

import isthmus
from isthmus.cli.main import main
from isthmus.cli.tables import tabulate_comparison
from isthmus.domains.domain import RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.evaluation.evaluate import SEED, evaluate_method
from isthmus.physics.mujoco import MujocoSimulator
from isthmus.physics.random import Streams, keys
from isthmus.problems.problem import Problem
from isthmus.tasks import task as tasks
from isthmus.training import train as loop
from isthmus.training.run import Run
from isthmus.types import BadValue, IsthmusError, UnknownName

ALL = sorted(tasks.BUILT_IN)
FALLING = {"ant", "cartpole_swingup", "hopper", "quadruped", "walker2d"}
N, STEPS = 16, 60


@cache
def lived(text: str, n: int = N, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Random lives [T, N] in a domain, worlds that fell stepped on: rewards, falls, goals,
    positions.
    """
    domain = parse_domain(text)
    simulation = domain.build(n)
    assert isinstance(simulation, PhysicsSimulation)
    ids, random = np.arange(n), np.random.default_rng(0)
    _, memory = simulation.begin(ids, np.zeros((n, 0)), Streams(keys(0, n)))
    out: dict[str, list] = {name: [] for name in ("reward", "fell", "goal", "qpos", "sum")}
    for _ in range(steps):
        action = random.uniform(-1, 1, (n, len(domain.spaces.low))).astype(np.float32)
        _, reward, fell, _, diverged, memory = simulation.step(
            ids, memory, commanded=action, applied=action
        )
        assert not diverged.any()
        told = (
            reward,
            fell,
            simulation.at_goal(ids),
            simulation.simulator.qpos,
            sum(simulation.terms.values()),
        )
        for name, value in zip(out, told, strict=True):
            out[name].append(np.array(value))
    return {name: np.array(rows) for name, rows in out.items()}


def variants(name: str) -> tuple[str, ...]:
    return tasks.find_task(name).variants


@pytest.mark.parametrize("name", ALL)
def test_what_each_variant_pays(name):
    dense = lived(name)
    assert variants(name) == tuple(
        v for v in tasks.VARIANTS if v != "uninformative" or name in FALLING
    )
    for variant in variants(name):
        life = lived(name if variant == "dense" else f"{name}/reward={variant}")
        assert np.array_equal(life["qpos"], dense["qpos"]), "physics knows no reward"
        assert np.array_equal(life["goal"], dense["goal"]) and np.array_equal(
            life["fell"], dense["fell"]
        )
        assert np.allclose(life["reward"], life["sum"], atol=1e-6), (
            "the terms are those of the variant"
        )
    assert np.array_equal(lived(f"{name}/reward=sparse")["reward"], dense["goal"].astype(float))
    assert not lived(f"{name}/reward=none")["reward"].any()


@pytest.mark.parametrize("name", sorted(FALLING))
def test_uninformative_pays_for_falls_alone(name):
    weak = ",weak_motors=0.1" if name == "quadruped" else ""  # which stands else
    life = lived(f"{name}/reward=uninformative{weak}", steps=90)
    paid, cost = {"cartpole_swingup": (0.0, 100.0), "quadruped": (0.0, 5.0)}.get(name, (1.0, 1.0))
    assert np.array_equal(life["reward"], np.where(life["fell"], paid - cost, paid))
    assert life["fell"].any() and not life["fell"].all()


def test_dense_costs_nothing_more():
    """The simulation calls the task's own `rewards`."""
    simulation = parse_domain("hopper").build(1)
    assert isinstance(simulation, PhysicsSimulation)
    assert simulation.rewards == simulation.task.rewards


def at_goal(name: str, qpos: list[list[float]]) -> list[bool]:
    task = tasks.find_task(name)
    simulator = MujocoSimulator(task.model_path(), (), len(qpos), task.frame_skip, task.forces)
    ids = np.arange(len(qpos))
    simulator.reset(ids, np.array(qpos), np.zeros((len(qpos), simulator.nv)))
    return task.at_goal(tasks.SimView(simulator, ids)).tolist()


def test_where_the_goals_are():
    angle = np.arccos(0.8)
    assert at_goal(
        "cartpole_swingup", [[0, 0], [2, angle - 0.01], [0, angle + 0.01], [0, np.pi], [3.1, 0]]
    ) == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert at_goal("ball", [[0, 0], [0.07, 0.07], [0.1, 0.01], [-0.09, 0]]) == [
        True,
        True,
        False,
        True,
    ]
    # A stretched arm ends at x = 0.21.
    assert at_goal("reacher", [[0, 0, 0.2, 0.04], [0, 0, 0.2, 0.06], [0, 0, 0.155, 0]]) == [
        True,
        False,
        False,
    ]
    for name in ("hopper", "half_cheetah", "walker2d", "ant"):
        task = tasks.find_task(name)
        rest = MujocoSimulator(task.model_path(), (), 1, 1).qpos0
        there = [np.concatenate([[x], rest[1:]]).tolist() for x in (4.99, 5.0, -5.0)]
        assert at_goal(name, there) == [False, True, False]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("reacher", 0.005, 0.15), ("cartpole_swingup", 2e-4, 0.05)]
)
def test_chance_meets_a_sparse_goal_seldom_but_does(name, low, high):
    life = lived(f"{name}/reward=sparse", 512, tasks.find_task(name).time_limit)
    alive = np.cumsum(life["fell"], axis=0) == 0
    assert low < life["reward"][alive].mean() < high


def test_a_reward_is_a_setting_like_any_other():
    domain = parse_domain("hopper/reward=uninformative,gravity=x2,action_delay=1")
    assert domain.reward == "uninformative" and domain.with_reward("dense").reward == "dense"
    assert str(domain) == "hopper/gravity=19.62,action_delay=1,reward=uninformative"
    assert (
        parse_domain(str(domain)) == domain and domain.shift("gravity=x1").reward == "uninformative"
    )
    assert str(parse_domain("hopper/reward=dense")) == "hopper" == str(domain.without_settings())
    assert parse_domain("hopper/reward=none") != parse_domain("hopper")
    problem = isthmus.problem("reacher", source="reward=sparse", target="damping=x3,reward=none")
    assert (problem.source.reward, problem.target.reward) == ("sparse", "none")
    assert (
        problem.randomized_source.reward == "sparse"
        and Problem.from_data(problem.describe()) == problem
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hopper/reward=spars", "unknown reward 'spars'; did you mean sparse?"),
        (
            "reacher/reward=uninformative",
            "reward=uninformative: reacher cannot fall; its rewards: dense, sparse, none",
        ),
        ("hopper/rewrd=none", "unknown parameter of hopper 'rewrd'; did you mean reward?"),
        (
            "gym:Hopper-v5/reward=none",
            "unknown setting of gym:Hopper-v5, whose physics is not ours 'reward'",
        ),
    ],
)
def test_a_reward_that_there_is_not(text, said):
    with pytest.raises(IsthmusError) as error:
        parse_domain(text)
    assert said in str(error.value) and "\n" not in str(error.value)


class Aimless(tasks.Task):
    name = "aimless"
    costs = ("fall",)
    falling = ("fall",)

    def rewards(self, view, memory, action):
        return {"speed": np.full(len(view.ids), 2.0), "fall": np.full(len(view.ids), -3.0)}


class Three:
    ids = np.arange(3)


def test_a_task_of_ones_own_has_the_variants_that_it_says():
    task = Aimless()
    assert task.variants == ("dense", "uninformative", "none")
    assert not task.at_goal(Three()).any()  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        BadValue, match="aimless has no goal; its rewards: dense, uninformative, none"
    ):
        task.with_reward("sparse")
    with pytest.raises(UnknownName, match="did you mean none"):
        task.with_reward("non")
    for variant, want in (("dense", -1.0), ("uninformative", -3.0), ("none", 0.0)):
        terms = task.with_reward(variant)(Three(), np.empty((3, 0)), np.empty((3, 0)))  # pyright: ignore[reportArgumentType]
        assert task.total(terms).tolist() == [want] * 3


# Success: where an episode ends


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pushing:
    """To the ball's goal, or away from it."""

    toward: float

    def memory(self):
        return ()

    def act(self, memory, observation):
        return self.toward * (-8 * observation[:2] - 4 * observation[2:]), memory


@pytest.mark.parametrize("toward", [1.0, -1.0])
def test_success_is_to_end_at_the_goal(toward):
    for text in ("ball", "ball/reward=sparse", "ball/reward=none"):
        episodes = isthmus.evaluate(Pushing(toward), parse_domain(text), 20).episodes
        assert episodes.success.dtype == bool and episodes.success.tolist() == [toward > 0] * 20
        assert np.array_equal(episodes.success, episodes.forward < 0.1)
        if text == "ball/reward=sparse":
            assert (episodes.returns.any() and (episodes.returns < 80).all()) == (toward > 0)


# What methods are judged by


UNPAID = "hopper/gravity=x2,reward=none"


@pytest.fixture(autouse=True)
def clean():
    yield
    tiny.forget_simulations()


def test_the_true_target_is_paid_by_the_sources_reward():
    problem = isthmus.problem(
        "hopper", source="reward=uninformative", target="gravity=x2,reward=none"
    )
    assert str(problem.evaluation_target) == "hopper/gravity=19.62,reward=uninformative"
    assert problem.target.reward == "none"
    same = isthmus.problem("hopper/gravity=x2")
    assert same.evaluation_target is same.target
    foreign = isthmus.problem("hopper", source="reward=sparse", target="gym:Hopper-v5")
    assert foreign.evaluation_target is foreign.target
    assert isthmus.problem(
        "gym:Hopper-v5", target="hopper/reward=none"
    ).evaluation_target == RobotDomain("hopper")


@pytest.mark.represented("fine_tuning")
@pytest.mark.parametrize("method", ["target_only", "fine_tuning"])
def test_training_is_paid_by_the_target_and_never_sees_the_true_reward(
    tmp_path, monkeypatch, method
):
    problem = isthmus.problem("hopper/gravity=x2,reward=uninformative", access="online")
    clean = tiny.train(method, tmp_path / "clean", problem=problem)
    poison(monkeypatch, problem.evaluation_target)
    poisoned = tiny.train(method, tmp_path / "poisoned", problem=problem)
    told = [row["target_return"] for row in tiny.lines(poisoned) if row["kind"] == "evaluation"]
    assert told and np.isnan(told).all(), "the loop judges by the true reward"
    assert poisoned.digest == clean.digest
    monkeypatch.undo()
    tiny.forget_simulations()
    other = replace(problem, target=problem.evaluation_target)
    assert tiny.train(method, tmp_path / "other", problem=other).digest != clean.digest, (
        "it is paid"
    )


def test_adapting_is_paid_by_the_target_and_never_sees_the_true_reward(tmp_path, monkeypatch):
    problem = isthmus.problem(UNPAID, access="few_shot", uncertainty="torso_mass=3..4")
    run = tiny.train("few_shot_ppo", tmp_path / "run", 3, problem=problem)
    state, paid = run.state(), isthmus.evaluate(run.policy, problem.evaluation_target, 4).mean
    first = evaluate_method(run.method, state, problem, problem.evaluation_target, 4).episodes
    assert paid > 1 and first.returns.mean() > 1, "judged by the true reward"
    poison(monkeypatch, problem.evaluation_target)
    again = evaluate_method(run.method, state, problem, problem.evaluation_target, 4).episodes
    assert np.isnan(again.returns).all(), "the poison was there"
    assert np.array_equal(again.forward, first.forward) and np.array_equal(
        again.lengths, first.lengths
    )


def test_the_loop_tells_what_episodes_came_to(tmp_path):
    run = tiny.train(
        "source_only", tmp_path / "run", problem=isthmus.problem(UNPAID, access="online")
    )
    last = [row for row in tiny.lines(run) if row["kind"] == "evaluation"][-1]
    for name, domain in (("source", run.problem.source), ("target", run.problem.evaluation_target)):
        e = isthmus.evaluate(run.policy, domain, loop.EVALUATION_EPISODES, SEED + 1).episodes
        assert (
            last[f"{name}_return"] == pytest.approx(e.returns.mean(), rel=1e-5)
            and e.returns.mean() > 1
        )
        assert last[f"{name}_forward"] == pytest.approx(e.forward.mean(), rel=1e-5, abs=1e-6)
        assert last[f"{name}_success"] == e.success.mean() == 0


def test_a_comparison_is_judged_by_the_true_reward_and_its_ceiling_trains_on_it(tmp_path):
    problem = isthmus.problem(UNPAID, access="online")
    made = few(tmp_path / "c", ["fine_tuning"], problem=problem, seeds=1)
    assert [row.method for row in made.rows] == ["source_only", "fine_tuning", "target_only"]
    assert all(row.value > 1 for row in made.rows) and made.problem["target"] == str(problem.target)
    asked = {row.method: Run.open(made.folder / row.runs[0]).problem.target for row in made.rows}
    assert asked == {
        "source_only": problem.target,
        "fine_tuning": problem.target,
        "target_only": problem.evaluation_target,
    }
    for row in made.rows:
        with (made.folder / row.runs[0] / "evaluation.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert {r["success"] for r in table} == {"0"}
        assert np.mean([float(r["return"]) for r in table]) == pytest.approx(row.value, abs=1e-3)
    assert f"return in {problem.evaluation_target}, 1 seed" in str(tabulate_comparison(made).title)


def test_evaluate_says_success_by_the_true_reward(tmp_path, capsys, monkeypatch):
    problem = isthmus.problem(
        "ball", source="reward=sparse", target="damping=x3,reward=none", access="online"
    )
    run = tiny.train("source_only", tmp_path / "run", 2, problem=problem)
    monkeypatch.setenv("COLUMNS", "160")
    main(["evaluate", str(run.folder), "--episodes=3"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == [
        "ball/reward=sparse",
        "ball/damping=3,reward=sparse",
    ]
    assert all(row.split()[5] == "0%" for row in rows) and "success" in head
