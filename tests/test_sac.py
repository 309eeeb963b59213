"""SAC: each equation by hand, one update against another computation, and what it learns where the answer is known."""

from __future__ import annotations

import numpy as np
import probes
import pytest

from isthmus.learning.sac import SAC

LEARNER = SAC(
    worlds=8, steps=8, hidden=(32, 32), learning_rate=3e-3, minibatch=64, discount=0.9, tau=0.05, capacity=4096,
    random_steps=64,
)  # fmt: skip


def test_it_finds_the_best_action() -> None:
    s, metrics = probes.train(LEARNER, probes.ACTION, 40)
    np.testing.assert_allclose(probes.actions(LEARNER, s, -1.0, 1.0), [-0.5, 0.5], atol=0.05)
    assert metrics["entropy"] == pytest.approx(-1.0, abs=0.2)  # the target, which the temperature holds
