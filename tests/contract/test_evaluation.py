"""Evaluation: one batch, its own seeds, every cell; landscapes whose cells are those of the cell
alone, to the bit.
"""

from __future__ import annotations

import csv
import io

import jax
import numpy as np
import pytest
import tiny

import isthmus
from isthmus.domains import rollout as collecting
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.evaluation.evaluate import SEED, draw_targets, evaluate, evaluate_method
from isthmus.evaluation.landscape import Landscape, landscape, make_landscape, training_box
from isthmus.learning.ppo import PPO
from isthmus.training.run import Run
from isthmus.types import BadValue

GRID = "hopper/torso_mass=3..9:3,friction=0.5..2:2"


@pytest.fixture(scope="module")
def policy():
    """A policy that does something: a fresh one's weights, made larger."""
    learner = PPO()
    state = learner.init(RobotDomain("hopper").spaces, jax.random.key(3))
    actor = jax.tree.map(lambda x: 3 * x, state.networks.actor)
    return learner.policy(state._replace(networks=state.networks._replace(actor=actor)))


@pytest.fixture(scope="module")
def randomized(tmp_path_factory) -> Run:
    return tiny.train("domain_randomization", tmp_path_factory.mktemp("run") / "run", 4)


def test_a_hundred_episodes_are_one_batch(policy, monkeypatch):
    steps, worlds = [], []
    step, new = collecting.SteppedWorlds.step, collecting.SteppedWorlds.new

    def watched(self, ids, **actions):
        steps.append(len(ids))
        return step(self, ids, **actions)

    def begun(domain, key, *rest, **named):
        worlds.append(len(key))
        return new(domain, key, *rest, **named)

    monkeypatch.setattr(collecting.SteppedWorlds, "step", watched)
    monkeypatch.setattr(collecting.SteppedWorlds, "new", staticmethod(begun))
    e = evaluate(policy, RobotDomain("hopper")).episodes
    assert worlds == [100] and steps[0] == 100
    assert len(steps) == e.lengths.max() and sum(steps) == e.lengths.sum(), (
        "living worlds alone are stepped"
    )
    assert len(e.returns) == 100 and len(np.unique(e.returns)) == 100
    assert e.terminated.all() and not e.diverged.any()


def test_the_same_bits_whatever_happened_before(policy, tmp_path):
    domain = parse_domain("hopper/gravity=x2")
    first = evaluate(policy, domain, 20)
    tiny.train("target_only", tmp_path / "run", 2)
    second = evaluate(policy, domain, 20)
    assert all(np.array_equal(a, b) for a, b in zip(first.episodes, second.episodes, strict=True))
    third = evaluate(policy, domain, 20, seed=SEED + 1)
    assert not np.array_equal(first.episodes.returns, third.episodes.returns)
    assert first.mean == first.episodes.returns.mean() and first.domain == domain


def test_every_cell_of_a_grid_is_visited(policy):
    domain = parse_domain(GRID)
    e = evaluate(policy, domain, 18).episodes
    assert domain.names == ("friction", "torso_mass")
    cells, counts = np.unique(e.parameters, axis=0, return_counts=True)
    assert cells.tolist() == [[f, m] for f in (0.5, 2.0) for m in (3.0, 6.0, 9.0)]
    assert counts.tolist() == [3] * 6
    assert len(evaluate(policy, domain, 1).episodes.returns) == 6, "at least one episode a cell"


def test_a_law_draws_for_each_episode(policy):
    domain = parse_domain("hopper/torso_mass=3..9,gravity=x2")
    e = evaluate(policy, domain, 30).episodes
    gravity, mass = e.parameters.T
    assert (
        len(np.unique(mass)) == 30
        and (gravity == 2 * 9.81).all()
        and mass.min() >= 3
        and mass.max() <= 9
    )
    draws, each = draw_targets(domain, 30, SEED, adapting=True)
    assert draws.shape == (10, 2) and each == 3, (
        "a method that adapts does so ten times, not thirty"
    )
    draws, each = draw_targets(domain, 4, SEED, adapting=True)
    assert draws.shape == (4, 2) and each == 1


def test_a_fixed_value_beside_a_grid():
    draws, each = draw_targets(parse_domain("hopper/torso_mass=3..9:2,gravity=x2"), 10, SEED)
    assert draws.tolist() == [[2 * 9.81, 3.0], [2 * 9.81, 9.0]] and each == 5


@pytest.mark.parametrize(
    ("episodes", "domain"),
    [(0, "hopper"), (-5, "hopper"), (10**9, "hopper"), (10**30, "hopper"),
     (1, "hopper/torso_mass=1..9:1000,friction=1..2:1000")],
)  # fmt: skip
def test_a_number_of_episodes_that_is_none(policy, episodes, domain):
    with pytest.raises(BadValue, match="needs 1 to 200,000 in all"):
        evaluate(policy, parse_domain(domain), episodes)


def test_training_randomization_stays_in_training(randomized):
    problem = randomized.problem
    assert len(problem.randomized_source.names) == 1 and problem.source.names == ()
    state = randomized.state()
    assert len(np.unique(state.worlds.parameters)) > 1, "it was there"
    assert evaluate(randomized.policy, problem.source, 5).episodes.parameters.shape == (5, 0)
    target = evaluate(randomized.policy, problem.target, 5).episodes.parameters
    assert problem.target.names == ("gravity",) and (target == 2 * 9.81).all()


def test_evaluating_a_method_that_adapts(tmp_path):
    run = tiny.train("few_shot_ppo", tmp_path / "run", 3)
    problem, state = run.problem, run.state()
    grid = parse_domain("hopper/torso_mass=3..9:2,friction=0.5..2:2")
    e = evaluate_method(run.method, state, problem, grid, 8)
    assert e.adaptation.transitions == 4 * 16, "for each target"
    assert e.episodes.parameters[:, 1].tolist() == [3.0, 3.0, 9.0, 9.0] * 2
    naive = evaluate(run.policy, grid, 8)
    assert np.array_equal(e.episodes.parameters, naive.episodes.parameters)
    assert not np.array_equal(e.episodes.returns, naive.episodes.returns), "it adapted"
    scape = landscape(run.policy, grid, 2, method=(run.method, state, problem))
    assert np.array_equal(scape.returns.ravel(), e.episodes.returns)


def test_nobody_is_judged_in_worlds_that_it_adapted_in(tmp_path, monkeypatch):
    run = tiny.train("few_shot_ppo", tmp_path / "run", 3)
    begun: list[set[int]] = []
    worlds = Domain.worlds

    def watched(self, *args, **named):
        made = worlds(self, *args, **named)
        begun.append(set(made.key.tolist()))
        return made

    monkeypatch.setattr(Domain, "worlds", watched)
    evaluate_method(run.method, run.state(), run.problem, parse_domain("hopper/gravity=x2"), 8)
    *adapted, judged = begun[-2:]
    assert len(judged) == 8 and not judged & adapted[0]


# Landscapes


@pytest.fixture(scope="module")
def scape(policy) -> Landscape:
    return landscape(
        policy, parse_domain(GRID), 3, trained_in=parse_domain("hopper/torso_mass=5..10,friction=2")
    )


def test_a_cell_is_that_of_the_cell_alone_to_the_bit(policy, scape):
    grid = parse_domain(GRID)
    parameters, each = draw_targets(grid, 18, SEED)
    whole = grid.worlds(18, SEED, np.repeat(parameters, each, axis=0))
    assert scape.returns.shape == (2, 3, 3)
    for i in range(6):
        rows = slice(3 * i, 3 * i + 3)
        alone = collecting.rollout_episodes(
            grid, jax.tree.map(lambda x, rows=rows: x[rows], whole), policy
        )
        x, y = np.unravel_index(i, (2, 3))
        assert np.array_equal(alone.returns, scape.returns[x, y])
        assert np.array_equal(
            alone.parameters, np.repeat([[scape.axes[0][x], scape.axes[1][y]]], 3, axis=0)
        )
        assert scape.mean[x, y] == alone.returns.mean()


def test_a_cell_is_the_fixed_domain(policy, scape):
    """The first cell has the first worlds' keys: a domain fixed at its values plays the same
    episodes.
    """
    fixed = evaluate(policy, parse_domain("hopper/torso_mass=3,friction=0.5"), 3)
    assert np.array_equal(fixed.episodes.returns, scape.returns[0, 0])


def test_a_landscape_as_csv(scape):
    header, *rows = csv.reader(io.StringIO(scape.csv()))
    assert header == [
        "friction",
        "torso_mass",
        "mean_return",
        "sd",
        "mean_length",
        "episodes",
        "in_training_box",
    ]
    assert len(rows) == 6 and {row[5] for row in rows} == {"3"}
    assert [row[:2] for row in rows] == [[f, m] for f in ("0.5", "2") for m in ("3", "6", "9")]
    assert [row[6] for row in rows] == ["0", "0", "0", "0", "1", "1"]
    for row, mean, sd in zip(rows, scape.mean.ravel(), scape.returns.std(-1).ravel(), strict=True):
        assert float(row[2]) == pytest.approx(mean, abs=0.005) and float(row[3]) == pytest.approx(
            sd, abs=0.005
        )
    assert "\r" not in scape.csv()


def test_the_training_box(scape):
    assert scape.names == ("friction", "torso_mass") and scape.box == ((2.0, 2.0), (5.0, 10.0))
    assert scape.inside.tolist() == [[False, False, False], [False, True, True]]
    names = ("torso_mass", "gravity")
    assert training_box(parse_domain("hopper/torso_mass=1..9:3"), names) == (
        (1.0, 9.0),
        (9.81, 9.81),
    )
    assert training_box(RobotDomain("hopper"), names) == (
        pytest.approx((3.665, 3.665), abs=1e-3),
        (9.81, 9.81),
    )
    assert training_box(
        parse_domain("hopper/gravity=log:1..9,torso_mass=normal:5:1:2..8"), names
    ) == ((2, 8), (1, 9))


def test_without_a_training_box_all_is_inside(policy):
    grid = parse_domain(GRID)
    scape = make_landscape(grid, evaluate(policy, grid, 6).episodes)
    assert scape.box == (None, None) and scape.inside.all()


@pytest.mark.parametrize(
    "domain",
    ["hopper", "hopper/torso_mass=1..9:3", GRID + ",gravity=1..9:2", "hopper/gravity=1..9"],
)
def test_a_landscape_has_two_axes(policy, domain):
    with pytest.raises(
        BadValue,
        match=r"a landscape has two axes, this domain has [013]: write name=low..high:count",
    ):
        landscape(policy, parse_domain(domain), 1)


def test_the_api_mirrors_the_commands(policy):
    problem = isthmus.problem("hopper/gravity=x2")
    assert isthmus.evaluate(policy, problem.target, episodes=7).episodes.returns.shape == (7,)
    assert isthmus.landscape(policy, parse_domain(GRID), episodes=1).returns.shape == (2, 3, 1)


def test_a_text_does_where_a_domain_or_a_problem_is_wanted(tmp_path):
    run = isthmus.train(
        "source_only",
        "ball/ball_mass=2",
        steps=64,
        out=tmp_path / "run",
        quiet=True,
        evaluations=1,
        evaluation_episodes=1,
        settings=tiny.settings("source_only"),
    )
    assert str(run.problem.target) == "ball/ball_mass=2" and str(run.problem.source) == "ball"
    one, two = (
        isthmus.evaluate(run.policy, domain, 2) for domain in ("ball", isthmus.parse_domain("ball"))
    )
    np.testing.assert_array_equal(one.episodes.returns, two.episodes.returns)
    grid = "ball/ball_mass=1..2:2,damping=x1..x2:2"
    assert isthmus.landscape(run.policy, grid, 1).mean.shape == (2, 2)
    assert isthmus.audit("ball", "ball/ball_mass=2", 2) == isthmus.audit(
        run.problem.source, run.problem.target, 2
    )
