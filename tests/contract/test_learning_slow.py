"""That the learners teach a robot to move: minutes each; `make test-slow` runs these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import isthmus
from isthmus.types import Episodes

STEPS = 300_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def played(
    method: str, problem: isthmus.Problem, domain: isthmus.Domain, steps: int, folder: Path
) -> Episodes:
    """100 episodes in `domain` of what `method` deploys after `steps`."""
    run = isthmus.train(method, problem, seed=0, steps=steps, out=folder, quiet=True)
    return isthmus.evaluate(run.policy, domain, episodes=100).episodes


def test_ppo_learns_to_hop(tmp_path: Path) -> None:
    """Three seeds reached 1184, 1431 and 2465; before the first update the policy, which hardly
    moves, got 108.
    """
    problem = isthmus.problem("hopper")
    before = played("source_only", problem, problem.source, 1, tmp_path / "before")
    after = played("source_only", problem, problem.source, STEPS, tmp_path / "after")
    assert before.returns.mean() < 200
    assert after.returns.mean() > 800


def test_randomization_learns_in_its_whole_box(tmp_path: Path) -> None:
    """Three seeds reached means of 707, 717 and 870 in the box, and at least 568 in each quarter of
    its masses.
    """
    problem = isthmus.problem("hopper", uncertainty="torso_mass=1..9,foot_friction=1.5..2.5")
    before = played(
        "domain_randomization", problem, problem.randomized_source, 1, tmp_path / "before"
    )
    after = played(
        "domain_randomization", problem, problem.randomized_source, STEPS, tmp_path / "after"
    )
    mass = after.parameters[:, problem.randomized_source.names.index("torso_mass")]
    quarters = np.floor((mass - 1) / 2).astype(int)
    assert before.returns.mean() < 200
    assert after.returns.mean() > 500
    assert sorted(set(quarters)) == [0, 1, 2, 3]
    assert all(after.returns[quarters == quarter].mean() > 300 for quarter in range(4))


def test_ppo_learns_to_reach(tmp_path: Path) -> None:
    """Two seeds brought the tip within 2 cm at the end of 100 of 100 episodes."""
    settings = {
        "learner.steps": 64, "learner.epochs": 5, "learner.minibatch": 1024,
        "learner.learning_rate": 6e-4, "learner.hidden": (128, 128),
        "learner.initial_log_std": -0.7,
    }  # fmt: skip
    run = isthmus.train(
        "source_only", "arm", seed=0, steps=600_000, settings=settings, out=tmp_path / "arm",
        quiet=True,
    )  # fmt: skip
    episodes = isthmus.evaluate(run.policy, "arm", episodes=100).episodes
    assert episodes.success.mean() >= 0.95
