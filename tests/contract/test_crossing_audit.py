"""The oracle of a crossing, on shifts of which it is known whether a second action crosses them."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.audit.crossing import measure_crossing, solve_box
from isthmus.domains.parse import parse_domain
from isthmus.types import BadValue

SOURCE = parse_domain("half_cheetah")


def act_weakly(observations: np.ndarray) -> np.ndarray:
    """Act by what is observed, never above 0.6."""
    return (0.6 * np.sin(3.0 * observations[:, 2:8] + 0.5)).astype(np.float32)


def act_fully(observations: np.ndarray) -> np.ndarray:
    """Act as strongly as the motors allow."""
    return np.where(observations[:, 2:8] > 0.0, 1.0, -1.0).astype(np.float32)


def measure(shift: str, policy, steps: int = 60):
    return measure_crossing(SOURCE, SOURCE.shift(shift), policy, episodes=4, steps=steps)


def test_stronger_motors_are_crossed_exactly() -> None:
    """By a_tgt = a_src / 1.5, in every motor."""
    found = measure("motor_strength=x1.5", act_weakly)
    assert found.best_mismatch < 1e-3 * found.mismatch and found.mismatch > 1.0
    for motor in found.motors:
        assert motor.scale == pytest.approx(1 / 1.5, abs=0.02) and motor.at_bounds < 0.02
    assert found.cost > 0.0 and found.verdict == "crossable by a second action"


def test_weak_motors_are_not_where_the_policy_uses_all_that_they_have() -> None:
    found = measure("motor_strength=x0.3", act_fully)
    assert found.best_mismatch > 0.3 * found.mismatch
    assert min(motor.at_bounds for motor in found.motors) > 0.5
    text = "\n".join(found.lines())
    assert "bthigh" in text and found.verdict in text and "gives back" in text


def test_no_shift_needs_no_second_action() -> None:
    found = measure_crossing(SOURCE, SOURCE, act_weakly, episodes=2, steps=20)
    assert found.mismatch == 0.0 and found.best_mismatch == 0.0
    assert found.verdict.startswith("nothing to cross")
    assert "gives back" not in "\n".join(found.lines())
    assert max(motor.gap for motor in found.motors) == 0.0
    np.testing.assert_array_equal(found.by_oracle, found.in_target)


def test_a_box_keeps_the_least_squares_within() -> None:
    """By hand: one axis free, one at its bound; and a direction that leads nowhere stays 0."""
    jacobian = np.array([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    residual = np.array([[-1.0, -5.0]])
    low, high = np.full((1, 3), -1.0), np.full((1, 3), 1.0)
    np.testing.assert_allclose(solve_box(jacobian, residual, low, high), [[0.5, 1.0, 0.0]], 1e-6)


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(BadValue, match="leave out its delays"):
        measure("action_delay=2", act_weakly)
    with pytest.raises(BadValue, match=r"MuJoCo|engines"):
        measure_crossing(SOURCE, parse_domain("hopper/engine=dart"), act_weakly)
