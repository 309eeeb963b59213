"""MATL: what its box promises, beyond the contract that tests/contract/test_methods.py holds every
method to.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.learning.normalization import Normalizer
from isthmus.learning.sequence_discriminator import SequenceDiscriminator
from isthmus.methods import registry
from isthmus.methods.method import State
from isthmus.methods.state_alignment import distances
from isthmus.problems.problem import Access, Problem
from isthmus.types import BadValue, Transition, UnknownName

PROBLEM = Problem(parse_domain("hopper"), parse_domain("hopper/torso_mass=6"), Access.ONLINE)
SMALL = {"learner.worlds": 8, "learner.steps": 16, "learner.minibatch": 32}
BATCH = 8 * 16


def run(
    name: str, rounds: int, problem: Problem = PROBLEM, start: Any = None, **settings: Any
) -> State:
    known = registry.settings_of(registry.build(name))
    small = (
        SMALL
        | {"inner": 2, "learner": "trpo"}
        | {k.replace("__", "."): v for k, v in settings.items()}
    )
    method = registry.build(name, {k: v for k, v in small.items() if k in known})
    s = method.init(problem, 0, start)
    for _ in range(rounds):
        s, metrics = method.step(problem, s)
        assert all(np.isfinite(v) for v in metrics.values()), metrics
    return s


def equal(a: Any, b: Any) -> bool:
    same = jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)
    return all(jax.tree.leaves(same))


def test_without_alignment_the_agents_are_those_of_source_and_target_only() -> None:
    """To the bit: the robot `target_only`, the simulator of M inner iterations `source_only` of (M
    + 1) N rounds.
    """
    s = run("matlu", 2, alignment=0.0)
    robot, simulator = run("target_only", 2), run("source_only", 2 * 3)
    assert equal(s.learner.robot, robot.learner) and s.usage == robot.usage
    assert (
        equal(s.learner.simulator, simulator.learner) and s.source_steps == simulator.source_steps
    )


def test_the_books_of_source_and_target() -> None:
    s = run("matl", 3)
    assert s.usage.transitions == (1 + 3) * BATCH and s.source_steps == (1 + 3 * 3) * BATCH


def test_unilateral_alignment_leaves_the_simulator_alone() -> None:
    free, strong = (run("matlu", 2, alignment=value).learner for value in (0.0, 1.0))
    assert equal(free.simulator, strong.simulator) and not equal(free.robot, strong.robot)


def test_mutual_alignment_moves_both() -> None:
    free, strong = (run("matl", 2, alignment=value).learner for value in (0.0, 1.0))
    assert not equal(free.simulator.networks, strong.simulator.networks)
    assert not equal(free.robot.networks, strong.robot.networks)


def test_the_simulators_own_value_function_never_sees_an_auxiliary_reward() -> None:
    """Its rewards' spread, by which they are scaled, is that of r_S; the aligned one's is not."""
    s = run("matl", 2, alignment=1000.0, offset="none", inner=1).learner
    assert s.aligned.returns.variance > 100 * s.simulator.value.returns.variance


def test_matlf_begins_both_agents_where_source_only_stopped() -> None:
    source = run("source_only", 3)
    from_run = run("matlf", 0, start=source.learner)
    own = run(
        "matlf", 4, pretraining=4 * BATCH
    )  # the random steps and three rounds; then its first of MATL's
    again = run("matlf", 1, start=source.learner)
    for agent in (from_run.learner.simulator, from_run.learner.robot):
        assert equal(agent.networks, source.learner.networks)
    assert own.phase == again.phase == 1 and own.round == again.round == 1
    assert own.source_steps == 4 * BATCH + 3 * BATCH
    first = run("matlf", 3, pretraining=4 * BATCH)
    assert first.phase == 0 and equal(first.learner, source.learner)


@pytest.mark.parametrize(
    ("offset", "quantity", "value"),
    [
        ("mean", np.mean, 0.0),
        ("floor", lambda paid: np.quantile(paid, 0.05), 0.0),
        ("none", np.mean, -1.5),
    ],
)
def test_the_offset_moves_the_auxiliary_reward_and_keeps_its_differences(
    offset: str, quantity: Any, value: float
) -> None:
    method = registry.build("matl", {"alignment": 0.5, "offset": offset})
    zeros = np.zeros((5, 4), np.float32)
    tr = Transition(
        zeros[..., None],
        zeros[..., None],
        zeros,
        zeros[..., None],
        zeros > 0,
        zeros > 0,
        zeros[..., None],
        {},
    )
    rho = np.random.default_rng(0).normal(0, 1, (5, 4)).astype(np.float32)
    rho += -3 - rho.mean()
    paid = method._align(tr, rho).reward
    assert paid.dtype == np.float32 and quantity(paid) == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(
        np.diff(paid.ravel()), 0.5 * np.diff(rho.ravel()), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("loss", ["confusion", "min_max", "wasserstein"])
def test_every_loss_pays_what_its_equation_says(loss: str) -> None:
    """Eqs. 4 and 5, Eq. 2's parts and the dual's f, by NumPy from what a round leaves."""
    judge = run("matl", 1, discriminator__loss=loss).learner.discriminator
    assert judge.sequences.count == 2 * BATCH  # both agents', two states of 11 numbers each
    zeta = np.random.default_rng(0).normal(size=(9, 22)).astype(np.float32)
    x = np.asarray(Normalizer.of(judge.sequences)(zeta))
    *hidden, (weights, bias) = judge.network
    for w, b in hidden:
        x = np.tanh(x @ np.asarray(w) + np.asarray(b))
    logit = (x @ np.asarray(weights) + np.asarray(bias))[:, 0]
    log_d, log_not_d = -np.log1p(np.exp(-logit)), -np.log1p(np.exp(logit))
    expected = {
        "confusion": (-log_d, log_d),
        "min_max": (-log_d, -log_not_d),
        "wasserstein": (-logit, logit),
    }[loss]
    found = SequenceDiscriminator(loss=loss).rewards(judge, zeta)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def trajectories(states: np.ndarray) -> Transition:
    """One-dimensional episodes (T, N) that all begin in the first row."""
    zero = np.zeros(states.shape, np.float32)
    time = np.repeat(np.arange(len(states))[:, None], states.shape[1], axis=1)
    extra = {"start": np.repeat(states[:1, :, None], len(states), axis=0), "time": time}
    obs = states[..., None].astype(np.float32)
    return Transition(obs, zero[..., None], zero, obs, zero > 0, zero > 0, zero[..., None], extra)


def test_state_alignment_compares_the_same_time_of_the_nearest_start() -> None:
    mine = trajectories(np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]))
    other = trajectories(
        np.array([[9.0, 1.0], [9.5, 3.0]])
    )  # two steps alone: the third is held against the last
    apart = distances(mine, other, np.array([1.0]))
    np.testing.assert_allclose(apart, [[1.0, 1.0], [2.0, 1.5], [1.0, 2.5]])


def test_state_alignment_has_no_discriminator_and_learns() -> None:
    begun, s = run("state_alignment", 0).learner, run("state_alignment", 2).learner
    assert s.discriminator == ()
    for name in ("simulator", "robot"):
        assert not equal(getattr(s, name).networks, getattr(begun, name).networks)


@pytest.mark.parametrize(
    "setting", [{"alignment": -1.0}, {"inner": -1}, {"stride": 0}, {"extent": -1}]
)
def test_wrong_numbers_are_one_line(setting: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=r"needs a (whole )?number from"):
        registry.build("matl", setting)


def test_a_task_of_several_episodes_is_refused() -> None:
    several = Problem(
        parse_domain("hopper/episodes_per_task=3"), parse_domain("hopper"), Access.ONLINE
    )
    with pytest.raises(BadValue, match="episodes_per_task"):
        run("matl", 0, problem=several)


def test_an_unknown_offset_is_one_line() -> None:
    with pytest.raises(UnknownName, match="floor"):
        registry.build("matl", {"offset": "flor"})


def test_it_learns_by_trpo() -> None:
    with pytest.raises(BadValue, match="trpo"):
        registry.build("matl", {"learner": "ppo"})


def test_the_discriminators_settings_are_its_own() -> None:
    method = registry.build(
        "matl", {"discriminator.loss": "wasserstein", "discriminator.steps": "7"}
    )
    assert method.discriminator == SequenceDiscriminator(loss="wasserstein", steps=7)
