"""ES-MAML: the estimator on a function whose top is known, pairs, what a bit may depend on, what a
target takes.
"""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from isthmus.domains.rollout import rollout_steps
from isthmus.learning.networks import mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.ppo import PPO
from isthmus.methods import es_maml, operators
from isthmus.methods.adaptation import update_seed
from isthmus.methods.es_maml import (
    ESMAML,
    AntitheticPair,
    Evaluated,
    Evolution,
    GainedMoments,
    centred_ranks,
)
from isthmus.methods.method import fold_key
from isthmus.methods.single_domain import FewShotPPO
from isthmus.problems.problem import Access, Budget, make_problem
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, BudgetExceeded, UnknownName

LEARNER = PPO(worlds=4, steps=16, hidden=(8,), epochs=2, minibatch=16)
PROBLEM = make_problem("hopper/gravity=x2", access="few_shot", uncertainty="torso_mass=1..9")
SMALL = ESMAML(LEARNER, pairs=3, episodes=1, updates=2, adaptation_worlds=2, adaptation_steps=16)


def theta(s: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(s.learner.center.networks)[0])


def pairs_of(s: Any) -> list[AntitheticPair]:
    """All pairs of the generation that comes."""
    return [
        SMALL.pair(PROBLEM.randomized_source, shard, i)
        for shard in SMALL.shards(s)
        for i in shard.pairs
    ]


def test_centred_ranks() -> None:
    np.testing.assert_allclose(centred_ranks(np.array([3.0, -1.0, 10.0])), [0.0, -0.5, 0.5])
    np.testing.assert_allclose(centred_ranks(np.array([2.0, 2.0, 5.0, 1.0])), [0, 0, 0.5, -0.5])
    np.testing.assert_allclose(centred_ranks(np.array([7.0])), [-0.5])


def test_centred_ranks_are_those_of_counting_to_the_bit() -> None:
    random = np.random.default_rng(0)
    for size in (2, 3, 32, 101):
        fitness = random.integers(0, size, size) / 7
        below = (fitness[None] < fitness[:, None]).sum(1)
        up_to = (fitness[None] <= fitness[:, None]).sum(1)
        counted = (below + up_to - 1) / 2 / (size - 1) - 0.5
        np.testing.assert_array_equal(centred_ranks(fitness), counted)


def test_it_climbs_a_hill_whose_top_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitness -|theta - top|^2 in place of physics: ranks and Adam bring the distance to a small
    part of itself.
    """
    method = Evolution(LEARNER, pairs=32, sigma=0.05, outer_rate=0.05)
    s = method.init(PROBLEM, 0)
    top = theta(s) + np.random.default_rng(0).normal(size=theta(s).shape).astype(np.float32) / 2

    def evaluate(self: Evolution, believed: Any, center: Any, pairs: Any) -> list[Evaluated]:
        here = np.asarray(ravel_pytree(center.networks)[0])
        moves = [self.sigma * np.asarray(pair.noise) for pair in pairs]
        members = [here + sign * move for move in moves for sign in (1, -1)]
        return [
            Evaluated(
                -float(np.square(np.asarray(m) - top).sum()), GainedMoments.empty(center), 0, 5
            )
            for m in members
        ]

    monkeypatch.setattr(Evolution, "evaluate", evaluate)
    first = np.linalg.norm(theta(s) - top)
    for _ in range(60):
        s, metrics = method.step(PROBLEM, s)
    assert np.linalg.norm(theta(s) - top) < 0.25 * first
    assert s.source_steps == 64 + 60 * 64 * 5 and metrics["played_steps"] == 320


def test_the_slope_is_that_of_the_paper() -> None:
    """1 / (2 n sigma) sum (f+ - f-) e over the ranks, and Adam's first step of size `outer_rate`
    along it.
    """
    s = SMALL.init(PROBLEM, 0)
    pairs = pairs_of(s)
    found = SMALL.evaluate(PROBLEM.randomized_source, s.learner.center, pairs)
    ranks = centred_ranks(np.array([each.fitness for each in found])).reshape(3, 2)
    noise = np.stack([np.asarray(pair.noise) for pair in pairs])
    slope = (ranks[:, 0] - ranks[:, 1]) @ noise / (2 * 3 * SMALL.sigma)
    after, metrics = SMALL.step(PROBLEM, s)
    assert metrics["slope"] == pytest.approx(np.linalg.norm(slope), rel=1e-5)
    _, unravel = ravel_pytree(s.learner.center.networks)
    moved = unravel(jnp.asarray(theta(s) + SMALL.outer_rate * np.sign(slope), jnp.float32))
    expected = SMALL.follow_moments(
        moved, GainedMoments.of(s.learner.center), GainedMoments.of(after.learner.center)
    )
    np.testing.assert_allclose(
        theta(after), ravel_pytree(expected)[0], atol=0.02 * SMALL.outer_rate
    )


@pytest.mark.parametrize("privileged", [False, True])
def test_a_policy_acts_as_before_under_the_moments_of_its_members(privileged: bool) -> None:
    """Steps of next to nothing: only the moments move, and neither policy nor values with them."""
    method = replace(SMALL, learner=replace(LEARNER, privileged=privileged), outer_rate=1e-9)
    s = method.init(PROBLEM, 0)
    after, _ = method.step(PROBLEM, s)
    old, new = s.learner.center, after.learner.center
    assert np.abs(new.obs_moments.mean - old.obs_moments.mean).max() > 0.1
    obs = Normalizer.of(old.obs_moments)
    obs = (obs.mean + np.random.default_rng(0).normal(size=(50, 11)) * obs.std).astype(np.float32)

    def does(state: Any, seen: Moments, paid: Moments) -> tuple[np.ndarray, np.ndarray]:
        seen_obs = Normalizer.of(seen)(obs)
        told = (
            np.concatenate([seen_obs, np.ones((50, 1), np.float32)], 1) if privileged else seen_obs
        )
        value = np.asarray(mlp(state.networks.critic, told)) * np.sqrt(paid.variance)
        return np.asarray(mlp(state.networks.actor, seen_obs)), value

    assert abs(new.returns.variance / old.returns.variance - 1) > 0.01
    before, now, still = (
        does(old, *GainedMoments.of(old)),
        does(new, *GainedMoments.of(new)),
        does(old, *GainedMoments.of(new)),
    )
    for mine, theirs, other in zip(now, before, still, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())
        assert np.abs(other - theirs).max() > 0.01 * np.abs(theirs).max(), (
            "weights that stay would have done otherwise"
        )


def test_a_pair_shares_its_task_and_its_random_numbers() -> None:
    """Noise of nothing: both members of a pair come to the same, to the bit; pairs differ."""
    s = SMALL.init(PROBLEM, 0)
    pairs = pairs_of(s)[:2]
    still = [pair._replace(noise=0 * pair.noise) for pair in pairs]
    a, b, c, d = SMALL.evaluate(PROBLEM.randomized_source, s.learner.center, still)
    assert a.fitness == b.fitness and c.fitness == d.fitness != a.fitness
    assert digest(a.gained) == digest(b.gained) != digest(c.gained)
    assert len({seed for pair in pairs for seed in pair.seeds}) == 4, (
        "judged in other worlds than adapted in"
    )
    assert pairs[0].task != pairs[1].task and 1 <= pairs[0].task[0] <= 9
    again = pairs_of(s._replace(round=np.int64(1)))[0]
    assert again.task != pairs[0].task and again.seeds != pairs[0].seeds


def test_shards_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    s = SMALL.init(PROBLEM, 0)
    whole, _ = SMALL.step(PROBLEM, s)
    monkeypatch.setattr(es_maml, "PAIRS_PER_SHARD", 1)
    assert len(SMALL.shards(s)) == 3
    assert digest(SMALL.step(PROBLEM, s)[0]) == digest(whole)


def test_a_shard_can_be_sent() -> None:
    """What a process elsewhere is given: the same members come of it, to the bit."""
    s = SMALL.init(PROBLEM, 0)
    (shard,) = SMALL.shards(s)
    method, problem, sent = pickle.loads(pickle.dumps((SMALL, PROBLEM, shard)))
    assert digest(method.work(problem, sent)) == digest(SMALL.work(PROBLEM, shard))


def test_members_adapt_as_a_target_does() -> None:
    """The inner loop is what deployment does: from the same state, in the same worlds, with the
    same keys.
    """
    s = SMALL.init(PROBLEM, 0)
    pair = pairs_of(s)[0]
    begun = {update_seed(pair.seeds[0], update) for update in range(50)}
    assert pair.seeds[1] not in begun, "judged in worlds that no update had"
    pair = pair._replace(seeds=(7, 8), key=fold_key(s.key, 2, 7))
    (alone, other), gained, steps = SMALL.adapt_members(
        [s.learner.center] * 2, PROBLEM.randomized_source, [pair, pair]
    )
    assert digest(alone) == digest(other) and steps.tolist() == [2 * 2 * 16] * 2
    assert gained[0][0].count == steps[0] and digest(alone.networks) != digest(
        s.learner.center.networks
    )
    joint = s.learner.center.obs_moments.join(gained[0][0])
    assert joint.count == alone.obs_moments.count
    np.testing.assert_allclose(joint.mean, alone.obs_moments.mean, rtol=1e-12)
    np.testing.assert_allclose(joint.variance, alone.obs_moments.variance, rtol=1e-9)
    (policy,), book = SMALL.adapt(s, PROBLEM, PROBLEM.randomized_source, pair.task[None], 7)
    assert digest(policy) == digest(LEARNER.policy(alone)) and book.transitions == steps[0]


def test_what_a_target_cannot_give_is_told_before_the_training() -> None:
    with pytest.raises(
        BudgetExceeded, match="adaptation takes up to 64 transitions a target and the budget is 63"
    ):
        SMALL.init(replace(PROBLEM, budget=Budget(transitions=63)), 0)


class Still(PPO):
    """A learner that adapts nothing: what it takes is counted all the same."""

    def learn_each(self, states, transitions, keys):
        return list(states)


def test_an_episode_that_begins_with_the_last_step_is_not_counted_against_the_budget() -> None:
    cheetah = make_problem(
        "half_cheetah/gravity=x2",
        access="few_shot",
        budget=Budget(episodes=1),
        uncertainty="gravity=x1..x3",
    )
    few = FewShotPPO(Still(**vars(LEARNER)), updates=1, adaptation_worlds=1, adaptation_steps=1000)
    few.adapt(few.init(cheetah, 0), cheetah, cheetah.target, np.zeros((1, 1)), 0)
    with pytest.raises(BudgetExceeded, match="takes up to 2 episodes"):
        longer = replace(few, adaptation_steps=1024)
        longer.adapt(longer.init(cheetah, 0), cheetah, cheetah.target, np.zeros((1, 1)), 0)


def test_what_no_minibatch_is_drawn_from_may_be_small() -> None:
    """Evolution learns from no round of its own, nor do other operators."""
    small = replace(LEARNER, worlds=1, steps=4, minibatch=32)
    Evolution(small, pairs=2, episodes=1).init(PROBLEM, 0)
    climbing = replace(
        SMALL, learner=small, operator="es_gradient", adaptation_worlds=1, adaptation_steps=4
    )
    climbing.init(PROBLEM, 0)
    with pytest.raises(BadValue, match="more than a round's 4 transitions"):
        replace(climbing, operator="ppo").init(PROBLEM, 0)


@pytest.mark.represented("8")
@pytest.mark.parametrize("updates", [1, 8])
def test_episodes_that_adapting_began_are_refused_after_the_update(updates: int) -> None:
    """How many begin is up to the robot: with 2 worlds at least 2, and so many more as it falls."""
    method = replace(SMALL, updates=updates, adaptation_steps=16 if updates > 1 else 512)
    s, task = method.init(PROBLEM, 0), np.array([[3.0]])
    _, book = method.adapt(s, PROBLEM, PROBLEM.randomized_source, task, 5)
    assert book.episodes > 4
    with pytest.raises(
        BudgetExceeded, match="episodes a target and the budget is 2; lower updates"
    ):
        method.adapt(
            s, replace(PROBLEM, budget=Budget(episodes=2)), PROBLEM.randomized_source, task, 5
        )


def test_a_privileged_critic_is_told_what_is_usual() -> None:
    """Nobody knows a target's dynamics: what is not known counts as the mean of training's, in the
    inner loop too.
    """
    method = replace(SMALL, learner=replace(LEARNER, privileged=True))
    problem = make_problem(
        "hopper/torso_mass=3",
        access="few_shot",
        source="torso_mass=6",
        uncertainty="torso_mass=1..9",
    )
    s = method.init(problem, 0)
    usual = s.learner.center.parameters.mean
    assert usual.shape == (1,) and 1 < usual[0] < 9
    _, tr = rollout_steps(
        problem.randomized_source,
        problem.randomized_source.worlds(4, 5),
        LEARNER.behaviour(s.learner.center),
        16,
    )
    hidden = method.relabel(s.learner.center, tr)
    assert hidden.parameters.shape == tr.parameters.shape and np.isnan(hidden.parameters).all()
    average = tr._replace(parameters=np.full_like(tr.parameters, usual.astype(np.float32)))
    learned = [
        method.learner.learn(s.learner.center, each, jax.random.key(0))[0]
        for each in (hidden, average, tr)
    ]
    assert digest(learned[0].networks) == digest(learned[1].networks) != digest(learned[2].networks)
    assert digest(learned[0].parameters) == digest(s.learner.center.parameters), (
        "what is told is not seen"
    )
    after, _ = method.step(problem, s)
    assert after.learner.center.obs_moments.count == after.source_steps > 64 + 6 * 64
    assert after.learner.center.parameters.count == 64
    elsewhere = make_problem("hopper/gravity=x2").target  # which sets another parameter
    assert len(method.adapt(s, problem, elsewhere, np.array([[10.0]]), 0)[0]) == 1


def test_the_control_adapts_nothing() -> None:
    method = Evolution(LEARNER, pairs=2, episodes=1)
    problem = replace(PROBLEM, access=Access.NONE)
    s, _ = method.step(problem, method.init(problem, 0))
    assert not method.adapts and s.usage.transitions == 0
    assert s.learner.center.obs_moments.count == s.source_steps, (
        "the first random steps, and what was judged"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pairs": 0}, "pairs=0"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"outer_rate": float("nan")}, "outer_rate=nan"),
        ({"updates": 0}, "updates=0"),
        ({"learner": object()}, "leave learner=ppo"),
    ],
)
def test_numbers_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        ESMAML(**wrong)


def test_moments_join_as_if_seen_together() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    whole = Moments.empty(3).merge(rows)
    parts = (
        Moments.empty(3)
        .merge(rows[:20])
        .join(Moments.empty(3).merge(rows[20:]))
        .join(Moments.empty(3))
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# The other operators, on a function in the place of physics.

THETA = np.zeros(6, np.float32)
TOP = np.linspace(-1, 1, 6, dtype=np.float32)


def climb(
    operator: operators.Operator, updates: int, queries: int, radius: float
) -> list[np.ndarray]:
    theta, path = jnp.asarray(THETA), []
    for update in range(updates):
        e = radius * jax.random.normal(jax.random.key(update), (queries, 6))
        actors = operator.propose(theta, e)
        theta = operator.move(theta, actors, -jnp.square(actors - TOP).sum(1))
        path.append(np.asarray(theta))
    return path


@pytest.mark.parametrize("name", sorted(operators.OPERATORS))
def test_operators_climb(name: str) -> None:
    path = climb(operators.OPERATORS[name], 150, 8, 0.1)
    distance = [float(np.linalg.norm(theta - TOP)) for theta in [THETA, *path]]
    assert distance[-1] < 0.3 * distance[0]
    if name != "es_gradient":
        assert all(b <= a for a, b in itertools.pairwise(distance)), (
            "it never moves to what is worse"
        )


def test_operators_by_hand() -> None:
    e = jnp.asarray([[1.0], [3.0], [5.0], [7.0]])
    slope, average, batch = (
        operators.OPERATORS[n]
        for n in ("es_gradient", "average_hill_climbing", "batch_hill_climbing")
    )
    assert slope.propose(jnp.ones(1), e).ravel().tolist() == [2, 4, 0, -2]
    returns = jnp.asarray([4.0, 0.0, 0.0, 0.0])  # its standard deviation is sqrt(3)
    assert slope.move(jnp.ones(1), slope.propose(jnp.ones(1), e), returns) == pytest.approx(
        1 + 2 / np.sqrt(3) / 2
    )
    assert average.propose(jnp.ones(1), e).ravel().tolist() == [1, 1, 2, 2]
    for told, moved in (([3.0, 0.0, 1.0, 1.0], 1), ([0.0, 1.0, 0.0, 3.0], 2)):
        assert (
            average.move(jnp.ones(1), average.propose(jnp.ones(1), e), jnp.asarray(told)) == moved
        )
    assert batch.propose(jnp.ones(1), e).ravel().tolist() == [1, 4, 6, 8]
    for told, moved in (([3.0, 0.0, 3.0, 1.0], 1), ([0.0, 1.0, 5.0, 3.0], 6)):
        assert batch.move(jnp.ones(1), batch.propose(jnp.ones(1), e), jnp.asarray(told)) == moved


@pytest.mark.parametrize("name", sorted(operators.OPERATORS))
def test_a_generation_with_another_operator(name: str) -> None:
    """What it takes of a target is counted by the step, and granted before by what it may take."""
    method = replace(SMALL, operator=name, queries=4, radius=0.1)
    s, metrics = method.step(PROBLEM, method.init(PROBLEM, 0))
    assert s.source_steps > 64 + metrics["played_steps"]
    assert s.learner.center.obs_moments.count == 64 + metrics["played_steps"], (
        "what is judged is seen, queries are not"
    )
    policies, book = method.adapt(
        s, PROBLEM, PROBLEM.randomized_source, np.array([[3.0], [8.0]]), 5
    )
    assert book.episodes == 8 and 8 <= book.transitions < 8 * 1000
    # Nearly every actor that is far from this one, which has learned nothing, falls sooner.
    more, _ = replace(method, updates=8, radius=0.01).adapt(
        s, PROBLEM, PROBLEM.randomized_source, np.array([[3.0], [8.0]]), 5
    )
    assert all(digest(each) != digest(method.policy(s)) for each in more)
    if name == "es_gradient":  # the others choose among what is the same for all targets
        assert digest(policies[0]) != digest(policies[1])
    with pytest.raises(
        BudgetExceeded, match=r"takes up to 8000 transitions .* lower updates or queries"
    ):
        method.init(replace(PROBLEM, budget=Budget(transitions=7999)), 0)


def test_operators_that_cannot_be() -> None:
    with pytest.raises(UnknownName, match="unknown operator 'hill_climbing'; did you mean"):
        ESMAML(operator="hill_climbing")
    with pytest.raises(BadValue, match="queries=3: needs an even number"):
        ESMAML(queries=3)
