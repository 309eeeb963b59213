"""The meter: the target is touched through it alone, whole batches or none, and both books are
right.
"""

from __future__ import annotations

import errno
import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
from gymnasium.spaces import Box

import isthmus
from isthmus.domains import rollout as collecting
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.evaluation import evaluate as evaluation
from isthmus.learning.policies import UniformBehaviour
from isthmus.methods import registry
from isthmus.problems.catalog import CATALOG
from isthmus.problems.ledger import UsageLedger
from isthmus.problems.problem import Access, Budget, Problem, TargetUsage
from isthmus.training import train as loop
from isthmus.types import BadValue, BudgetExceeded, IsthmusError, UnknownName

N, T = 8, 16
BATCH = N * T


def made(access: str = "online", text: str = "hopper/gravity=x2", **budget: Any) -> Problem:
    return isthmus.problem(text, access=access, budget=Budget(**budget))


def uniform(problem: Problem) -> UniformBehaviour:
    spaces = problem.target.spaces
    return UniformBehaviour(spaces.low, spaces.high)


def begun(problem: Problem, seed: int = 0) -> tuple[TargetUsage, Any, UniformBehaviour]:
    return *problem.target_worlds(TargetUsage(), N, seed), uniform(problem)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may move: neither worlds begin nor steps are made."""

    def moved(*_: Any, **__: Any) -> None:
        raise AssertionError("the target moved")

    monkeypatch.setattr(Domain, "worlds", moved)
    monkeypatch.setattr(collecting, "rollout_steps", moved)


@pytest.mark.parametrize("access", ["none", "dataset"])
def test_a_target_that_may_not_be_stepped(request, access):
    problem = made(access)
    worlds = problem.source.worlds(N, 0)
    request.getfixturevalue("still")
    with pytest.raises(
        BudgetExceeded, match=f"access is {access}: training may not step its target"
    ):
        problem.target_worlds(TargetUsage(), N, 0)
    with pytest.raises(BudgetExceeded, match=f"access is {access}"):
        problem.collect(TargetUsage(), worlds, None, T)


@pytest.mark.parametrize("access", ["online", "few_shot"])
def test_the_book_says_what_was_taken(access):
    problem = made(access)
    book, worlds, behaviour = begun(problem)
    assert book == (0, N, 0.0)
    for batch in range(1, 4):
        book, worlds, tr = problem.collect(book, worlds, behaviour, T)
        assert tr.reward.shape == (T, N)
        ended = int(np.logical_or(tr.terminated, tr.truncated).sum())
        assert int(book.transitions) == batch * BATCH == int(worlds.total.sum())
        assert int(book.episodes) == int(worlds.episode.sum())
        assert float(book.seconds) == pytest.approx(
            batch * BATCH * 0.008
        )  # Hopper: 4 steps of 2 ms
    assert ended and int(book.episodes) > N, "episodes that began inside a batch count"


def test_counts_outlast_32_bits():
    book = TargetUsage().add(2**40, 2**33, 1e9).add(1, 1, 0.5)
    assert (int(book.transitions), int(book.episodes)) == (2**40 + 1, 2**33 + 1)
    assert [leaf.dtype for leaf in book] == [np.int64, np.int64, np.float64]


def test_a_batch_is_granted_whole_or_not_at_all(monkeypatch):
    problem = made(transitions=2 * BATCH + 44)
    book, worlds, behaviour = begun(problem)
    for _ in range(2):
        book, worlds, _ = problem.collect(book, worlds, behaviour, T)
    before = book, worlds
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "rollout_steps", lambda *_: pytest.fail("the target moved"))
        with pytest.raises(
            BudgetExceeded, match="budget is 300 transitions: 256 are spent and 128 more were asked"
        ):
            problem.collect(book, worlds, behaviour, T)
    assert (book, worlds) == before
    book, worlds, _ = problem.collect(book, worlds, behaviour, 5)  # 40 more still fit
    assert int(book.transitions) == 296
    with pytest.raises(BudgetExceeded):
        problem.collect(book, worlds, behaviour, 1)


def test_a_budget_of_seconds():
    problem = made(seconds=1.1)  # 137.5 steps of 8 ms
    book, worlds, behaviour = begun(problem)
    book, worlds, _ = problem.collect(book, worlds, behaviour, T)
    with pytest.raises(
        BudgetExceeded, match=r"budget is 1\.1 seconds: 1\.024 are spent and 0\.128 more"
    ):
        problem.collect(book, worlds, behaviour, 2)
    book, _, _ = problem.collect(book, worlds, behaviour, 1)
    assert float(book.seconds) == pytest.approx(1.088)


def test_a_budget_of_episodes(still):
    with pytest.raises(
        BudgetExceeded, match="budget is 7 episodes: 0 are spent and 8 more were asked for"
    ):
        made(episodes=7).target_worlds(TargetUsage(), N, 0)


def test_episodes_that_begin_inside_a_batch_refuse_the_next():
    problem = made(episodes=N)
    book, worlds, behaviour = begun(problem)
    while int(book.episodes) == N:
        book, worlds, _ = problem.collect(book, worlds, behaviour, T)
    with pytest.raises(BudgetExceeded, match="budget is 8 episodes"):
        problem.collect(book, worlds, behaviour, T)


def test_evaluation_is_outside_the_books(tmp_path, monkeypatch):
    """The number of evaluations changes no count; and evaluating afterwards changes nothing at
    all.
    """
    few = tiny.train("target_only", tmp_path / "few")
    monkeypatch.setattr(loop, "EVALUATIONS", 1)
    fewer = tiny.train("target_only", tmp_path / "fewer")
    told = [[row["kind"] for row in tiny.lines(run)].count("evaluation") for run in (few, fewer)]
    assert told[0] > told[1] == 2, "the initial policy's, and one"
    state = few.state()
    assert few.digest == fewer.digest
    assert int(state.usage.transitions) == 6 * tiny.ROUND and int(state.source_steps) == 0
    assert evaluation.evaluate(few.policy, few.problem.target, 5).adaptation == TargetUsage()
    assert few.digest == fewer.digest


# Targets that cannot be replayed


class Robot(gymnasium.Env):
    """A robot that keeps what happened to it in `events`, where the ledger's syncs are written down
    too.
    """

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    metadata = {"render_fps": 50, "render_modes": []}
    events: list[str] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.events.append("reset")
        self.position = self.np_random.uniform(-1, 1, 3)
        return self.position.copy(), {}

    def step(self, action):
        self.events.append("step")
        self.position = 0.9 * self.position + 0.1 * float(action[0])
        return (
            self.position.copy(),
            float(self.position.sum()),
            bool(self.position.sum() > 2.0),
            False,
            {},
        )


gymnasium.register("tests/Robot-v0", Robot, max_episode_steps=10)
FOREIGN = "gym:tests/Robot-v0/step_seconds=0.02"


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    events: list[str] = []
    monkeypatch.setattr(Robot, "events", events)
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (sync(number), events.append("sync"))[0])
    return events


def foreign(path: Path, **budget: Any) -> Problem:
    return made(text=FOREIGN, **budget).with_ledger(path)


def test_the_ledger_is_synced_before_anything_moves(tmp_path, robot):
    problem = foreign(tmp_path / "ledger")
    book, worlds, behaviour = begun(problem)
    assert robot == ["sync"] + ["reset"] * N
    robot.clear()
    book, worlds, _ = problem.collect(book, worlds, behaviour, 5)
    assert robot == (["sync"] + ["step"] * N) * 5
    read = UsageLedger(tmp_path / "ledger")
    assert (
        (read.transitions, read.episodes)
        == (5 * N, N)
        == (int(book.transitions), int(book.episodes))
    )
    _, _, tr = problem.collect(book, worlds, behaviour, 6)  # over the time limit
    assert tr.truncated.any() and UsageLedger(tmp_path / "ledger").episodes > N


def test_the_ledger_is_not_rolled_back(tmp_path, robot):
    """A run continues from an older book; what the robot did since is spent all the same."""
    problem = foreign(tmp_path / "ledger", transitions=4 * BATCH)
    older = begun(problem)
    for _ in range(2):
        book, worlds, _ = problem.collect(*older, T)
        assert int(book.transitions) == BATCH, "the book in the tree is rolled back with it"
    again = foreign(tmp_path / "ledger", transitions=4 * BATCH)
    assert again.ledger.transitions == 2 * BATCH
    book, worlds, _ = again.collect(book, worlds, uniform(again), T)
    book, worlds, _ = again.collect(book, worlds, uniform(again), T)
    with pytest.raises(BudgetExceeded, match="512 are spent"):
        again.collect(book, worlds, uniform(again), 1)


ADAPTING = [(name, {}) for name in registry.METHODS if registry.build(name).adapts]
CLIMBING = {"operator": "batch_hill_climbing", "queries": 2}


@pytest.mark.parametrize(
    ("name", "settings"),
    [*ADAPTING, ("es_maml", CLIMBING), ("few_shot_ppo", {"learner.privileged": True})],
)
def test_adapting_is_in_the_ledger(tmp_path, robot, name, settings):
    """Before anything moves, and as often as it is done: each time has the whole budget."""
    ledger = tmp_path / "ledger"
    problem = isthmus.problem(
        FOREIGN, access="few_shot", budget=Budget(transitions=200)
    ).with_ledger(ledger)
    method = registry.build(name, tiny.settings(name) | settings)
    s = method.init(problem, 0)
    robot.clear()
    _, book = method.adapt(s, problem, problem.target, np.zeros((1, 0)), 3)
    first = robot.index("reset")
    assert robot[:first] == ["sync"] * first and first and "step" not in robot[:first]
    assert all(robot[i - 1] != "reset" for i, event in enumerate(robot) if event == "step"), (
        "a sync comes between"
    )
    read = UsageLedger(ledger)
    assert (read.transitions, read.episodes) == (
        int(book.transitions),
        int(book.episodes),
    ) and read.transitions > 0
    method.adapt(s, problem, problem.target, np.zeros((1, 0)), 4)
    assert UsageLedger(ledger).transitions > read.transitions


@pytest.mark.parametrize("budget", [{"seconds": 3 * BATCH / 50}, {"episodes": 3 * N}])
def test_every_kind_of_budget_counts_what_was_rolled_back(tmp_path, robot, budget):
    book, worlds, behaviour = begun(foreign(tmp_path / "ledger", **budget))
    problem = foreign(tmp_path / "ledger", **budget)
    with pytest.raises(BudgetExceeded, match=f"{next(iter(budget))}: "):
        for _ in range(4):
            problem.collect(book, worlds, behaviour, T)  # each time from the older book
    assert robot.count("step") <= 3 * BATCH


@pytest.mark.parametrize("method", ["target_only", "fine_tuning"])
def test_a_first_round_beyond_the_budget_resets_nothing(tmp_path, robot, method):
    """Refused before any world is reset, with nothing in the ledger, and no folder left behind."""
    problem = isthmus.problem(FOREIGN, access="online", budget=tiny.ROUND - 1)
    settings = tiny.settings(method) | ({"pretraining": 0} if method == "fine_tuning" else {})
    with pytest.raises(
        BudgetExceeded, match=f"budget is 127 transitions: 0 are spent and {tiny.ROUND} more"
    ):
        tiny.train(method, tmp_path / "run", 2, problem=problem, settings=settings)
    if method == "target_only":  # fine tuning's source is the same robot, and trains first
        assert "reset" not in robot and "step" not in robot and not (tmp_path / "run").exists()


def test_a_line_cut_short_is_no_step_and_swallows_none(tmp_path):
    path = tmp_path / "ledger"
    ledger = UsageLedger(path)
    ledger.enter(transitions=8)
    whole = path.read_bytes()
    for cut in range(1, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        ledger = UsageLedger(path)
        assert ledger.transitions == 8
        ledger.enter(transitions=5)
        ledger.enter(episodes=2)
        assert (
            (UsageLedger(path).transitions, UsageLedger(path).episodes)
            == (13, 2)
            == (ledger.transitions, ledger.episodes)
        )


def test_no_step_without_its_line(tmp_path, monkeypatch, robot):
    problem = foreign(tmp_path / "ledger")
    book, worlds, behaviour = begun(problem)
    robot.clear()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IsthmusError, match="No space left on device") as error:
        problem.collect(book, worlds, behaviour, T)
    assert "step" not in robot and "\n" not in str(error.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadValue, match="cannot be read"):
        UsageLedger(tmp_path / "folder")


def test_training_on_a_robot(tmp_path, robot):
    """The whole loop: only training steps it, evaluation does not, and resume goes on with the
    ledger.
    """
    problem = isthmus.problem(FOREIGN, access="online")
    run = tiny.train("target_only", tmp_path / "run", 4, problem=problem)
    assert (
        robot.count("step")
        == 4 * tiny.ROUND
        == UsageLedger(run.folder / "ledger.jsonl").transitions
    )
    assert robot.count("reset") == UsageLedger(run.folder / "ledger.jsonl").episodes
    assert [row for row in tiny.lines(run) if row["kind"] == "evaluation"], (
        "the loop's evaluations were due"
    )
    assert not any("target_return" in row for row in tiny.lines(run))
    robot.clear()
    tiny.forget_simulations()
    again = isthmus.resume(run.folder, quiet=True)
    assert "step" not in robot and "reset" not in robot, (
        "a finished run, opened and loaded, touches nothing"
    )
    assert again.digest == json.loads((run.folder / "finished.json").read_text())["digest"]


# Poison: what a method must not see


def poison(monkeypatch: pytest.MonkeyPatch, where: Domain) -> None:
    """NaN for every reward in a domain."""
    init, step = PhysicsSimulation.__init__, PhysicsSimulation.step

    def remember(self, domain, n):
        init(self, domain, n)
        self.poisoned = domain == where

    def poisoned(self, ids, memory, **actions):
        result = step(self, ids, memory, **actions)
        if not self.poisoned:
            return result
        return result._replace(reward=np.full_like(result.reward, np.nan))

    monkeypatch.setattr(PhysicsSimulation, "__init__", remember)
    monkeypatch.setattr(PhysicsSimulation, "step", poisoned)
    tiny.forget_simulations()


@pytest.fixture(autouse=True)
def clean():
    yield
    tiny.forget_simulations()


PAID_IN_THE_TARGET = (
    "target_only",
    "matl",
    "matlu",
    "state_alignment",
    "rlpd",
    "par",
    "vgdf",
)  # from their first round on


@pytest.mark.parametrize(
    "method", tiny.each(m for m in registry.METHODS if m not in PAID_IN_THE_TARGET)
)
def test_the_targets_reward_is_not_seen(tmp_path, monkeypatch, method):
    """NaN in the target's reward changes no bit of training that must not see it: all of it, or a
    whole first phase.
    """
    problem, settings = tiny.problem(method), tiny.settings(method)
    if method in ("fine_tuning", "matlf"):
        settings |= {"pretraining": 10**6}
        clean = tiny.train(method, tmp_path / "clean", problem=problem, settings=settings)
    else:
        clean = tiny.trained(method)
    poison(monkeypatch, problem.target)
    poisoned = tiny.train(method, tmp_path / "poisoned", problem=problem, settings=settings)
    told = [row["target_return"] for row in tiny.lines(poisoned) if row["kind"] == "evaluation"]
    assert told and np.isnan(told).all(), "the poison was there"
    assert poisoned.digest == clean.digest
    rounds = [
        [row for row in tiny.lines(run) if row["kind"] == "round"] for run in (clean, poisoned)
    ]
    assert rounds[0] == rounds[1]


@pytest.mark.parametrize("method", tiny.each(registry.METHODS))
def test_evaluation_returns_are_not_seen(tmp_path, monkeypatch, method):
    clean = tiny.trained(method)
    play = loop.rollout_episodes

    def poisoned(*arguments, **named):
        episodes = play(*arguments, **named)
        return episodes._replace(returns=np.full_like(episodes.returns, np.nan))

    monkeypatch.setattr(loop, "rollout_episodes", poisoned)
    run = tiny.train(method, tmp_path / "poisoned")
    assert any(np.isnan(row.get("target_return", 0.0)) for row in tiny.lines(run)), (
        "the poison was there"
    )
    assert run.digest == clean.digest


# Problems as text and as data


@pytest.mark.parametrize("name", CATALOG)
def test_a_row_of_the_catalog(name):
    problem = isthmus.problem(name)
    row = CATALOG[name]
    assert problem.access == row.access and row.citation and problem.name == name
    assert problem.source.spaces.observation == problem.target.spaces.observation
    assert str(problem.source) != str(problem.target)
    assert Problem.from_data(json.loads(json.dumps(problem.describe()))) == problem
    assert set(problem.randomized_source.names) >= {
        s.partition("=")[0] for s in row.uncertainty.split(",") if s
    }


def test_gravity_and_friction_are_those_of_odrl():
    """x0.1, x0.5, x2 and x5; on Hopper the robot's friction alone, and the true contact's under a
    name of ours.
    """
    for robot in ("hopper", "half_cheetah", "walker2d", "ant"):
        changed = {
            "gravity": "gravity",
            "friction": "foot_friction" if robot == "hopper" else "friction",
        }
        if robot == "hopper":
            changed["contact_friction"] = "friction"
        for (name, parameter), factor in product(changed.items(), (0.1, 0.5, 2, 5)):
            problem = isthmus.problem(row := f"{robot}-{name}-{factor:g}")
            ((setting, value),) = problem.target.settings
            assert setting == parameter
            assert value == pytest.approx(factor * problem.source.table()[parameter].default)
            assert problem.source == RobotDomain(robot)
            assert CATALOG[row].citation.startswith(
                "ours" if name == "contact_friction" else "ODRL"
            )


def test_kinematic_shifts_are_those_of_odrl():
    """Ranges x0.8, x0.5 and x0.2 of all joints of a kind (ODRL's XML files); Ant's ankles cannot be
    said.
    """
    levels = {"easy": 0.8, "medium": 0.5, "hard": 0.2}
    joints = {
        "half_cheetah-kinematic-foot": ["bfoot", "ffoot"],
        "half_cheetah-kinematic-thigh": ["bthigh", "fthigh"],
        "hopper-kinematic-foot": ["foot"],
        "hopper-kinematic-leg": ["leg"],
        "walker2d-kinematic-foot": ["foot", "foot_left"],
        "walker2d-kinematic-thigh": ["thigh", "thigh_left"],
        "ant-kinematic-hip": ["hip_1", "hip_2", "hip_3", "hip_4"],
    }
    names = {f"{name}-{level}" for name in joints for level in levels}
    assert names == {name for name in CATALOG if "kinematic" in name}
    for name, level in product(joints, levels):
        settings = dict(isthmus.problem(f"{name}-{level}").target.settings)
        assert settings == {
            f"{joint}_range": pytest.approx(levels[level]) for joint in joints[name]
        }


def test_the_catalog_holds_no_measured_result():
    """What was measured stands in results/, with its seeds."""
    for row in CATALOG.values():
        assert not re.search(r"seed|\d+ (here|in the source)|trained here|steps", row.note), (
            row.note
        )


def test_the_problems_of_matl():
    """What is sparse is so in both domains; what is without a reward has the same shift, and the
    same true reward.
    """
    made = {
        name.removeprefix("matl-"): isthmus.problem(name)
        for name in CATALOG
        if name.startswith("matl-")
    }
    assert {name for name, p in made.items() if p.source.reward == "sparse"} == {
        "cartpole-sparse", "cartpole-none", "cartpole-damped", "reacher-sparse", "reacher-none",
        *(f"cartpole-damping-{value}" for value in ("0.0125", "0.025", "0.05", "0.1", "0.2")),
    }  # fmt: skip
    for name, problem in made.items():
        assert CATALOG[f"matl-{name}"].note and problem.access == "online"
        assert problem.evaluation_target.reward == problem.source.reward
        paid = next(
            (v for v in ("none", "uninformative") if name.endswith(v)), problem.source.reward
        )
        assert problem.target.reward == paid
    for robot, other in (
        ("cartpole", "sparse"),
        ("reacher", "sparse"),
        ("hopper", "uninformative"),
    ):
        assert made[f"{robot}-none"].evaluation_target == made[f"{robot}-{other}"].evaluation_target
        assert made[f"{robot}-none"].source == made[f"{robot}-{other}"].source
    assert [made[f"{n}-dart"].target.engine for n in ("reacher", "hopper")] == ["dart", "dart"]


def test_any_shift_is_a_problem():
    problem = isthmus.problem(
        "hopper/gravity=x2,action_delay=1",
        source="torso_mass=6",
        target="torso_mass=1..9:3",
        access="few_shot",
        uncertainty="torso_mass=2..3",
        budget=Budget(transitions=5, seconds=1.5),
    )
    assert (
        str(problem.source) == "hopper/torso_mass=6.0"
        or str(problem.source) == "hopper/torso_mass=6"
    )
    assert (
        problem.target.grid == {"torso_mass": (1.0, 5.0, 9.0)} and problem.access is Access.FEW_SHOT
    )
    again = Problem.from_data(json.loads(json.dumps(problem.describe())))
    assert again == problem and again.budget == Budget(transitions=5, seconds=1.5)
    assert (
        dict(problem.randomized_source.settings)["torso_mass"]
        != dict(problem.source.settings)["torso_mass"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": "hoper"}, "unknown problem 'hoper'; did you mean hopper"),
        ({"text": "hopper-es-sim2rael"}, "did you mean hopper-es-sim2real"),
        ({"text": "hoper/gravity=2"}, "unknown task 'hoper'; did you mean hopper"),
        ({"text": "hopper/gravty=2"}, "did you mean gravity"),
        ({"text": "hopper", "access": "onlin"}, "unknown access 'onlin'; did you mean online?"),
        ({"text": "hopper", "target": "gravity"}, "'gravity' is no setting; write name=value"),
        ({"text": "hopper", "source": "gravity=-1"}, "gravity=-1 is out of bounds"),
        ({"text": "hopper", "uncertainty": "torso_mass=9..1"}, "the lower end comes first"),
        (
            {"text": "hopper", "target": "history=3"},
            "do not fit: 11 observations and 3 actions in hopper, 33",
        ),
    ],
)
def test_a_problem_that_is_none(arguments, said):
    with pytest.raises(IsthmusError) as error:
        isthmus.problem(**arguments)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_source_and_target_need_the_same_spaces():
    with pytest.raises(
        BadValue,
        match="source and target do not fit: 17 observations and 6 actions in walker2d, 11",
    ):
        Problem(parse_domain("walker2d"), parse_domain("hopper"))


def test_a_runs_folder_imports_nothing(tmp_path, monkeypatch):
    """A foreign environment that a folder names is not imported unless its user does it."""
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    data = {**made().describe(), "source": "stranger:make", "target": "stranger:make"}
    with pytest.raises(BadValue, match="would import stranger") as error:
        Problem.from_data(data, trusted=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"source": None}, {"budget": {"miles": 3}}, {"budget": 3}, {"access": "any"}]
)
def test_a_damaged_description(change):
    with pytest.raises(IsthmusError) as error:
        Problem.from_data({**made().describe(), **change})
    assert "\n" not in str(error.value)
    with pytest.raises(BadValue, match="damaged"):
        Problem.from_data({})


def test_access_is_spelt_out():
    assert Access.parse("few_shot") is Access.FEW_SHOT
    with pytest.raises(UnknownName):
        Access.parse("fewshot!")
