"""Probes that every learner solves in the same way: what its critic says of domains whose values are known."""

from __future__ import annotations

from typing import Any

import probes
import pytest
import test_ppo
import test_recurrent_ppo
import test_sac
import test_trpo

LEARNERS = {
    "ppo": test_ppo.LEARNER,
    "recurrent_ppo": test_recurrent_ppo.LEARNER,
    "trpo": test_trpo.LEARNER,
    "sac": test_sac.LEARNER,
}


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_value_one(learner: Any) -> None:
    s, metrics = probes.train(learner, probes.VALUE_ONE, 40)
    assert probes.values(s, 0.0) == pytest.approx(1.0, abs=0.06)
    # The reward's spread is 0.2; SAC scales none.
    assert metrics.get("reward_scale", 5.0) == pytest.approx(5.0, rel=0.01)


def test_value_is_the_observation(learner: Any) -> None:
    s, metrics = probes.train(learner, probes.OBSERVED_VALUE, 40)
    assert [*probes.values(s, -1.0), *probes.values(s, 1.0)] == pytest.approx([-1.0, 1.0], abs=0.02)
    assert metrics.get("explained_variance", 1.0) > 0.99


def test_discount(learner: Any) -> None:
    s, _ = probes.train(learner, probes.DISCOUNT, 40)
    assert probes.values(s, 0.0, 1.0) == pytest.approx([0.9, 1.0], abs=0.01)


def test_death_ends_all_value(learner: Any) -> None:
    # A reward of 1 a step for four steps: 1 + 0.9 + 0.81 + 0.729 = 3.439, 2.71, 1.9, 1.
    s, _ = probes.train(learner, probes.DEATH, 60)
    assert probes.values(s, 0.0, 1.0, 2.0, 3.0) == pytest.approx([3.439, 2.71, 1.9, 1.0], abs=0.03)


def test_a_time_limit_ends_no_value(learner: Any) -> None:
    # The same reward for ever: 1 / (1 - 0.9) = 10, though episodes are cut after eight steps.
    s, _ = probes.train(learner, probes.TIME_LIMIT, 60)
    assert probes.values(s, 0.0) == pytest.approx(10.0, abs=0.1)
