"""The learned reward: what it is fitted to, what it is shown, and that no true one reaches the
adaptation.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from isthmus.domains.rollout import rollout_steps
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.ppo import PPO
from isthmus.methods import operators
from isthmus.methods.es_maml import GainedMoments
from isthmus.methods.learned_reward import LearnedReward, Rewarded
from isthmus.problems.problem import Access, make_problem
from isthmus.tasks.task import find_task as find_task
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Transition

LEARNER = PPO(worlds=8, steps=64, hidden=(8,), epochs=2, minibatch=16)
PROBLEM = make_problem("hopper/gravity=x2", access="few_shot", uncertainty="torso_mass=1..9")
SMALL = LearnedReward(
    LEARNER,
    pairs=2,
    episodes=1,
    updates=2,
    adaptation_worlds=2,
    adaptation_steps=16,
    fitting=0,
    reward_hidden=(8,),
)
TARGETS = np.array([[3.0], [8.0]])


@pytest.fixture
def unpaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is collected to adapt from is paid NaN."""

    def blind(*args: Any, **named: Any) -> Any:
        worlds, tr = rollout_steps(*args, **named)
        return worlds, tr._replace(reward=tr.reward * np.nan)

    monkeypatch.setattr(operators, "rollout_steps", blind)


def adapted(method: LearnedReward, s: Any) -> list[str]:
    return [
        digest(policy)
        for policy in method.adapt(s, PROBLEM, PROBLEM.randomized_source, TARGETS, 5)[0]
    ]


def test_no_true_reward_reaches_what_adapts(request: pytest.FixtureRequest) -> None:
    """Not in a target, and not in the members of a generation: NaN in its place changes no bit of
    either.
    """
    s = SMALL.init(PROBLEM, 0)
    after, there = SMALL.step(PROBLEM, s)[0], adapted(SMALL, s)
    annealed = replace(SMALL, annealing=1)
    request.getfixturevalue("unpaid")
    assert digest(SMALL.step(PROBLEM, s)[0]) == digest(after)
    assert adapted(SMALL, s) == there
    assert adapted(annealed, s) == there, "the true reward is annealed out in the source alone"
    with pytest.raises(BadValue, match="not finite"):  # the poison is one
        annealed.step(PROBLEM, s)
    assert len(set(there)) == 2


def test_the_true_reward_is_annealed_out() -> None:
    method = replace(SMALL, annealing=4)
    s = method.init(PROBLEM, 0)
    tr = Transition(
        *[np.zeros((3, 2, n), np.float32) for n in (11, 3)],
        np.ones((3, 2), np.float32),
        *[np.zeros(0)] * 4,
        {},
    )
    learned = method.relabel(s.learner.center, tr).reward
    for generation, share in ((0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0), (9, 0.0)):
        mixed = method.relabel_at(generation)(s.learner.center, tr).reward
        np.testing.assert_allclose(mixed, (1 - share) * learned + share, rtol=1e-6)


def test_it_is_fitted_to_the_sources_reward() -> None:
    """On episodes that it was not fitted to, what it pays goes with what the task pays; a random
    one's does not.
    """
    method = replace(SMALL, fitting=2000, reward_hidden=(32, 32))
    s = method.init(PROBLEM, 0)
    assert s.source_steps == 2 * 8 * 64
    _, tr = rollout_steps(
        PROBLEM.randomized_source,
        PROBLEM.randomized_source.worlds(8, 99),
        LEARNER.behaviour(s.learner.center),
        64,
    )
    told = method.relabel(s.learner.center, tr).reward
    assert np.corrcoef(told.ravel(), tr.reward.ravel())[0, 1] > 0.8
    random = SMALL.relabel(SMALL.init(PROBLEM, 0).learner.center, tr).reward
    assert abs(np.corrcoef(random.ravel(), tr.reward.ravel())[0, 1]) < 0.5


def test_it_is_fitted_to_as_long_a_rollout_as_adapting_takes() -> None:
    """And what it pays there scales the first update, as the true reward's returns scale PPO's."""
    method = replace(SMALL, fitting=10, updates=3, adaptation_steps=40)
    s = method.init(PROBLEM, 0)
    assert s.source_steps == 8 * 64 + 8 * 120
    center = s.learner.center
    assert center.returns.count == 8 * 120
    start = replace(SMALL, fitting=0).init(PROBLEM, 0).learner.center
    _, tr = rollout_steps(
        PROBLEM.randomized_source,
        PROBLEM.randomized_source.worlds(8, 0),
        LEARNER.behaviour(start),
        120,
    )
    returns, running = np.zeros((120, 8)), np.zeros(8)
    paid = np.asarray(
        method.reward(center.networks.reward, Normalizer.of(center.obs_moments), tr.obs, tr.action)
    )
    for t in range(120):
        running = LEARNER.discount * running + paid[t]
        returns[t] = running
        running = np.where(tr.terminated[t] | tr.truncated[t], 0, running)
    assert float(center.returns.variance) == pytest.approx(returns.var(), rel=1e-4)


def test_what_is_masked_is_not_seen() -> None:
    s = SMALL.init(PROBLEM, 0)
    obs, action = np.ones((4, 11), np.float32), np.zeros((4, 3), np.float32)
    faster = obs.copy()
    faster[:, 5] = 7.0
    same = Normalizer(np.zeros(11, np.float32), np.ones(11, np.float32))
    for method, sees in ((SMALL, True), (replace(SMALL, masked=(6,)), False)):
        slow, fast = (
            np.asarray(method.reward(s.learner.center.networks.reward, same, o, action))
            for o in (obs, faster)
        )
        assert (slow != fast).all() == sees
    assert find_task("hopper").observation_names[5] == "x velocity"


def test_updates_leave_the_reward_alone_and_generations_do_not() -> None:
    s = SMALL.init(PROBLEM, 0)
    center = s.learner.center
    assert isinstance(center.networks, Rewarded) and center.returns.count == 0
    pair = SMALL.pair(PROBLEM.randomized_source, SMALL.shards(s)[0], 0)
    (member,), _, _ = SMALL.adapted([center], PROBLEM.randomized_source, [pair])
    assert digest(member.networks.reward) == digest(center.networks.reward)
    assert digest(member.networks.actor) != digest(center.networks.actor)
    after = SMALL.step(PROBLEM, s)[0].learner.center
    assert digest(after.networks.reward) != digest(center.networks.reward)


def test_psi_alone() -> None:
    method = replace(SMALL, evolve_policy=False)
    s = method.init(PROBLEM, 0)
    before, after = s.learner.center, method.step(PROBLEM, s)[0].learner.center
    as_before = method.follow_moments(
        before.networks, GainedMoments.of(before), GainedMoments.of(after)
    )
    assert digest(after.networks._replace(reward=())) == digest(as_before._replace(reward=()))
    assert digest(after.networks.reward) != digest(before.networks.reward)
    assert GainedMoments.of(after)[0].count > GainedMoments.of(before)[0].count


def test_a_reward_pays_as_before_under_other_moments() -> None:
    """Also where numbers are masked, whose moments it must not hear of."""
    method = replace(SMALL, masked=(2, 6))
    center = method.init(PROBLEM, 0).learner.center
    random, size = np.random.default_rng(0), len(center.obs_moments.mean)
    before = center.obs_moments
    shift = np.sqrt(before.variance) * random.normal(size=size)
    after = Moments(before.count, before.mean + shift, before.variance * random.uniform(1, 3, size))
    networks = method.follow_moments(
        center.networks, GainedMoments(before, center.returns), GainedMoments(after, center.returns)
    )
    obs = (before.mean + np.sqrt(before.variance) * random.normal(size=(50, size))).astype(
        np.float32
    )
    action = random.normal(size=(50, 3)).astype(np.float32)
    then, now = (
        method.reward(net.reward, Normalizer.of(moments), obs, action)
        for net, moments in ((center.networks, before), (networks, after))
    )
    np.testing.assert_allclose(now, then, atol=1e-3 * np.abs(then).max())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"operator": "es_gradient"}, "climbs by the true return"),
        ({"annealing": -1}, "annealing=-1"),
    ],
)
def test_numbers_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        LearnedReward(**wrong)
    with pytest.raises(BadValue, match=r"masked=\(12,\): .* observes numbers 1 to 11"):
        replace(SMALL, masked=(12,)).init(PROBLEM, 0)


def test_it_begins_where_randomization_stopped() -> None:
    other = LEARNER.init(PROBLEM.source.spaces, jax.random.key(3))
    s = SMALL.init(PROBLEM, 0, other)
    assert digest(s.learner.center.networks.actor) == digest(other.networks.actor)
    assert SMALL.accepts == {Access.FEW_SHOT, Access.ONLINE}
