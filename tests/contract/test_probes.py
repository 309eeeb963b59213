"""Probes that every learner solves in the same way: what its critic says of domains whose values
are known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import probes
import pytest
import test_ppo
import test_recurrent_ppo
import test_sac
import test_trpo

# Learners of the same shapes: one process compiles them once.
pytestmark = pytest.mark.xdist_group("probes")

LEARNERS = {
    "ppo": test_ppo.LEARNER,
    "recurrent_ppo": test_recurrent_ppo.LEARNER,
    "trpo": test_trpo.LEARNER,
    "sac": replace(test_sac.LEARNER, minibatch=256),  # with 64 its values have a deviation of 0.025
}


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Any:
    return request.param


@probes.over_seeds
def test_value_one(learner: Any, seeds: range) -> None:
    def found(seed: int) -> list[float]:
        s, metrics = probes.train(learner, probes.VALUE_ONE, 60, seed)
        return [*probes.values(s, 0.0), metrics.get("reward_scale", 1 / 0.15)]  # SAC scales none

    probes.check(found, seeds, [0.94, 6.6], [1.06, 6.73])  # the reward's spread is 0.15


@probes.over_seeds
def test_value_is_the_observation(learner: Any, seeds: range) -> None:
    def found(seed: int) -> list[float]:
        s, metrics = probes.train(learner, probes.OBSERVED_VALUE, 40, seed)
        return [
            *probes.values(s, -1.0),
            *probes.values(s, 1.0),
            metrics.get("explained_variance", 1.0),
        ]

    probes.check(found, seeds, [-1.02, 0.98, 0.99], [-0.98, 1.02, np.inf])


@probes.over_seeds
def test_discount(learner: Any, seeds: range) -> None:
    def found(seed: int) -> np.ndarray:
        return probes.values(probes.train(learner, probes.DISCOUNT, 40, seed)[0], 0.0, 1.0)

    probes.check(found, seeds, *probes.around([0.9, 1.0], 0.01))


@probes.over_seeds
def test_death_ends_all_value(learner: Any, seeds: range) -> None:
    # A reward of 1 a step for four steps: 1 + 0.9 + 0.81 + 0.729 = 3.439, 2.71, 1.9, 1.
    def found(seed: int) -> np.ndarray:
        return probes.values(probes.train(learner, probes.DEATH, 60, seed)[0], 0.0, 1.0, 2.0, 3.0)

    probes.check(found, seeds, *probes.around([3.439, 2.71, 1.9, 1.0], 0.03))


@probes.over_seeds
def test_a_time_limit_ends_no_value(learner: Any, seeds: range) -> None:
    # The same reward for ever: 1 / (1 - 0.9) = 10, though episodes are cut after eight steps.
    def found(seed: int) -> np.ndarray:
        return probes.values(probes.train(learner, probes.TIME_LIMIT, 60, seed)[0], 0.0)

    probes.check(found, seeds, *probes.around(10.0, 0.1))


# What the checks themselves say.


def test_a_probe_without_room_over_ten_seeds_is_refused() -> None:
    """Ten numbers within the bounds, with a deviation of 0.03: 0.08 is too narrow for them, 0.1 is
    not.
    """
    numbers = 0.03 * np.array([-1.0, 1.0] * 5) / np.std([-1.0, 1.0] * 5, ddof=1)
    probes.check(numbers.__getitem__, probes.TEN, *probes.around(0.0, 0.1))
    with pytest.raises(AssertionError, match="too near"):
        probes.check(numbers.__getitem__, probes.TEN, *probes.around(0.0, 0.08))
    with pytest.raises(AssertionError, match="not in"):
        probes.check(lambda seed: float(seed == 7), probes.TEN, *probes.around(0.0, 0.5))
    probes.check(
        numbers.__getitem__, probes.TEN[:1], *probes.around(0.0, 0.08)
    )  # one seed has no deviation
