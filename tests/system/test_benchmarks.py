"""The benchmarks' machinery at tiny sizes: same work on both sides, ratios pair by pair, bars that
can be missed.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.ppo import PPO
from isthmus.learning.sac import SAC
from isthmus.learning.trpo import TRPO
from isthmus.methods.es_maml import ESMAML
from isthmus.training.executor import Executor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "measure",
    "bare",
    "sb3",
    "dap_rounds",
    "environment_steps",
    "ppo_training",
    "trpo_training",
    "sac_updates",
    "landscapes",
    "member_updates",
    "es_generation",
    "robots",
    "startup",
    "run",
)


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmarks' modules, importable as they are for run.py."""
    sys.path.insert(0, str(BENCHMARKS))
    modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in NAMES}
    yield SimpleNamespace(**modules)
    sys.path.remove(str(BENCHMARKS))
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture
def peer(bench):
    if not bench.sb3.PYTHON.exists():
        pytest.skip("the peers' environment is not there: `make bench` makes it")
    with bench.sb3.Peer() as peer:
        yield peer


def test_sides_take_turns(bench) -> None:
    order: list[str] = []
    sides = [lambda s=s: order.append(s) or float(len(order)) for s in "AB"]
    assert bench.measure.alternate("turns", 3, *sides) == [[1, 3, 5], [2, 4, 6]]
    assert "".join(order) == "ABABAB"


def test_the_ratio_is_the_median_over_pairs(bench, tmp_path, capsys) -> None:
    row = bench.measure.Row(
        "steps", "bare", 0.9, "steps", [10, 40, 10], [10, 10, 20], sizes={"worlds": 2}
    )
    assert row.ratios == [1, 4, 0.5] and row.ratio == 1
    missed = bench.measure.Row("training", "peer", 5, "steps", [30], [10], aim=8)
    path = tmp_path / "latest.json"
    assert bench.measure.report({"first": [missed, row]}, {}, path) == 1
    assert "missed" in capsys.readouterr().out
    assert bench.measure.report({"second": [missed]}, {"numpy": "2"}, path) == 1
    assert bench.measure.report({"first": [row]}, {}, path) == 0, (
        "what was measured again replaces what was there"
    )
    records = json.loads(path.read_text())
    assert [
        [r[k] for k in ("comparison", "work", "against", "ratio", "at_least")] for r in records
    ] == [
        ["second", "training", "peer", 3, 5],
        ["first", "steps", "bare", 1, 0.9],
    ]
    assert [r["versions"] for r in records] == [{"numpy": "2"}, {}]


def test_bare_physics_repeats_collect_to_the_bit(bench) -> None:
    domain = parse_domain("hopper/torso_mass=1..9,friction=x0.5..x2,gravity=x0.5..x2")
    behaviour = UniformBehaviour(domain.spaces.low, domain.spaces.high)
    before, _ = rollout_steps(domain, domain.worlds(8, seed=3), behaviour, 10)
    bare = bench.bare.Bare(domain, before)
    after, tr = rollout_steps(domain, before, behaviour, 60)
    resets = bare.prepare(before, tr)
    assert sum(len(r.ids) for r in resets) >= 8
    bare.run(tr.action, resets)
    bare.check(after)
    bare.run(tr.action[:1], resets[:1])
    with pytest.raises(RuntimeError, match="other work"):
        bare.check(after)


def test_environment_steps(bench) -> None:
    (row,) = bench.environment_steps.compare(
        bench.environment_steps.Sizes(worlds=8, steps=30, pairs=2)
    )
    assert len(row.ratios) == 2 and row.at_least == 0.9 and min(row.ours) > 0


class FakePeer:
    """Answers as peer.py does; with 4 environments it trains fastest."""

    def ask(self, request: str, **arguments):
        if request == "begin":
            self.environments = arguments["environments"]
            return None
        return arguments["rounds"] * (1.0 if self.environments == 4 else 2.0)


SMALL = PPO(worlds=4, steps=16, hidden=(8,), epochs=1, minibatch=16)


def test_ppo_training_against_physics_and_the_fastest_peer(bench) -> None:
    candidates = ((1, False, 1), (4, False, 1), (2, True, 1))
    size = bench.ppo_training.Sizes(SMALL, rounds=2, pairs=2, candidates=candidates, finalists=2)
    against_peer, against_physics = bench.ppo_training.compare(size, FakePeer())
    assert "4 environments" in against_peer.against
    assert against_peer.theirs == [SMALL.worlds * SMALL.steps] * 2
    assert against_peer.ours == against_physics.ours and min(against_physics.theirs) > 0


def test_trpo_training_against_the_fastest_peer(bench) -> None:
    learner = TRPO(worlds=4, steps=16, hidden=(8,), epochs=1, minibatch=16)
    candidates = ((1, False, 1), (4, False, 1))
    size = bench.trpo_training.Sizes(learner, rounds=2, pairs=2, candidates=candidates, finalists=1)
    (row,) = bench.trpo_training.compare(size, FakePeer())
    assert "sb3-contrib TRPO, 4 environments" in row.against
    assert row.theirs == [64, 64] and min(row.ours) > 0
    assert row.sizes["steps"] == 64 and row.sizes["trust"]["cg_max_steps"] == learner.cg_iterations


class FakeSAC:
    """Answers as peer.py does; with 2 threads an update takes half the time."""

    def ask(self, request: str, **arguments):
        if request == "begin_sac":
            self.threads = arguments["threads"]
            return None
        return arguments["updates"] / (100 * self.threads)


def test_rounds_with_classifiers_against_sacs(bench) -> None:
    learner = (
        ("learner.hidden", (8,)),
        ("learner.capacity", 500),
        ("learner.random_steps", 64),
        ("learner.minibatch", 8),
    )
    size = bench.dap_rounds.Sizes(logged=50, rounds=1, pairs=2, learner=learner)
    rows = [*bench.dap_rounds.compare(size)]
    assert [row.sizes["members"] for row in rows] == [1, 1, 5]
    assert [row.at_least for row in rows] == [0.769, 0.667, 0.556]
    for row in rows:
        assert len(row.ratios) == 2 and row.ratio > 0


def test_members_updates_are_the_same_work(bench) -> None:
    (row,) = bench.member_updates.compare(
        bench.member_updates.Sizes(worlds=2, steps=(32,), epochs=1, pairs=2)
    )
    assert len(row.ratios) == 2 and row.ratio > 0 and row.sizes["members"] == 8


def test_commands_from_the_first_to_the_last(bench, monkeypatch) -> None:
    """Warm against cold; where a checkout is named, its commands too."""
    monkeypatch.delenv(bench.startup.PEER, raising=False)
    settings = ("learner.worlds=8", "learner.steps=16", "learner.epochs=1", "learner.minibatch=32")
    size = bench.startup.Sizes(settings=settings, steps=256, pairs=1)
    rows = list(bench.startup.compare(size))
    assert [row.work for row in rows] == ["isthmus train, warm", "isthmus evaluate, warm"]
    assert all(row.ratio > 0 and row.against == "the same, cold" for row in rows)
    monkeypatch.setenv(bench.startup.PEER, str(BENCHMARKS.parent))
    timed: list[tuple[str, bool]] = []

    def run(side, *arguments: str) -> float:
        timed.append((arguments[-1], side.warm))
        return 2.0 if side.warm else 4.0

    monkeypatch.setattr(bench.startup.Side, "run", run)
    against_commit = list(bench.startup.compare(size))
    assert [row.ratio for row in against_commit] == [2, 1, 2, 1, 2, 2]
    assert timed[-2:] == [("--help", True), ("--help", False)]


def test_sac_updates_against_the_faster_peer(bench) -> None:
    learner = SAC(hidden=(8,), minibatch=16, capacity=1000)
    size = bench.sac_updates.Sizes(learner, updates=4, pairs=2)
    row = next(iter(bench.sac_updates.compare(size, FakeSAC())))
    assert "2 torch threads" in row.against and row.at_least == 2
    assert row.theirs == [200, 200] and min(row.ours) > 0


def test_sides_at_once_are_timed_to_the_last(bench) -> None:
    both = threading.Barrier(2)
    speed = bench.sac_updates.together(
        [lambda: both.wait(10), lambda: (both.wait(10), time.sleep(0.1))], 8
    )
    assert 40 < speed < 160  # 16 updates in a tenth of a second and a little


def test_es_generation_against_its_physics(bench) -> None:
    """Worlds whose dynamics are given keep them through every episode; the executor's bits are held
    against ours.
    """
    method = ESMAML(SMALL, pairs=2, episodes=1, updates=2, adaptation_worlds=2, adaptation_steps=64)
    size = bench.es_generation.Sizes(method, pairs=2)
    against_physics, on_ray = bench.es_generation.measured(size, InOrder(), InOrder())
    assert against_physics.at_least == 0.6 and min(against_physics.theirs) > 0
    assert on_ray.theirs == against_physics.ours and "Ray" in on_ray.work

    class Wrong(InOrder):
        def map(self, function, jobs, poll=None):
            for i, result in super().map(function, jobs):
                yield i, [each._replace(fitness=0.0) for each in result]

    with pytest.raises(RuntimeError, match="other work"):
        list(bench.es_generation.measured(size, Wrong(), None))


class InOrder(Executor):
    """An executor without processes."""

    workers = 1

    def map(self, function, jobs, poll=None):
        for i, job in enumerate(jobs):
            yield i, function(job)


def test_returns_that_do_not_agree_are_seen(bench) -> None:
    returns = np.random.default_rng(0).normal(100, 5, (2, 3, 10))
    scape = SimpleNamespace(returns=returns)
    cells = np.array([1, 4])
    same = returns.reshape(6, 10)[cells] + np.random.default_rng(1).normal(0, 1, (2, 10))
    bench.landscapes.check_returns(scape, [(cells, {"returns": same.tolist()})])
    with pytest.raises(RuntimeError, match="do not agree"):
        bench.landscapes.check_returns(scape, [(cells, {"returns": (same + 20).tolist()})])


def test_a_missing_environment_is_one_line(bench, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(bench.sb3, "PYTHON", tmp_path / "python")
    assert bench.run.main([]) == 2
    assert "make bench" in capsys.readouterr().out
    assert bench.run.main(["nothing"]) == 2


def test_sb3_trains_and_plays_our_policy(bench, peer) -> None:
    """The peer itself, where it is there: a round of its training, and our weights in its hands."""
    size = bench.ppo_training.Sizes(
        SMALL, rounds=1, pairs=1, candidates=((2, False, 1), (2, True, 1)), finalists=1
    )
    assert len(list(bench.ppo_training.compare(size, peer))) == 2
    learner = TRPO(worlds=4, steps=16, hidden=(8,), epochs=1, minibatch=16)
    size = bench.trpo_training.Sizes(
        learner, rounds=1, pairs=1, candidates=((2, False, 1), (2, True, 1)), finalists=1
    )
    assert len(list(bench.trpo_training.compare(size, peer))) == 1
    grid = "hopper/torso_mass=2..8:2,foot_friction=1..2:2"
    size = bench.landscapes.Sizes(grid, episodes=4, training=4096, pairs=2, cells=2)
    run, model, against_run = bench.landscapes.compare(size, peer)
    assert min(run.theirs) > 0 and model.ours == against_run.ours and run.ours == against_run.theirs
    with pytest.raises(bench.sb3.PeerError, match="no_such_request"):
        peer.ask("no_such_request")


def test_a_robots_comparisons(bench) -> None:
    learner = PPO(worlds=4, steps=8, epochs=1, minibatch=16, hidden=(8,))
    sizes = bench.robots.Sizes(worlds=4, steps=3, pairs=1, rounds=1, learner=learner)
    rows = list(bench.robots.compare(sizes))
    assert [row.at_least for row in rows] == [0.8, 0.95, 0.6]
    assert all(speed > 0 for row in rows for speed in (*row.ours, *row.theirs))


def test_position_actuators_move_a_robot_as_its_servos_do(bench) -> None:
    """Nearly: MuJoCo's are implicit in their damping, and know no torque-speed line."""
    domain = parse_domain("quadruped")
    live, simulation = bench.robots.begin(domain, 2)
    bare = bench.robots.PositionBatch(simulation)
    bare.begin(simulation.simulator.qpos, simulation.simulator.qvel)
    for _ in range(20):
        live.step(live.all, commanded=np.zeros((2, 12), np.float32))
    bare.run(np.tile(bare.actuation.pose, (20, 1, 1)))
    np.testing.assert_allclose(simulation.simulator.qpos, bare.qpos, atol=0.02)
