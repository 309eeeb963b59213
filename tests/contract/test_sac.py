"""SAC: each equation by hand, one update against NumPy, and what it learns where the answer is
known.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from tiny import compilations

from isthmus.learning.policies import SquashedBehaviour, SquashedPolicy, squashed_parameters
from isthmus.learning.replay import Replay
from isthmus.learning.sac import (
    SAC,
    Learned,
    SACBatch,
    q_values,
    soft_target,
    squashed_log_prob,
    squashed_sample,
)  # fmt: skip
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Spaces, Transition

f32 = np.float32
LEARNER = SAC(
    worlds=8,
    steps=8,
    hidden=(32, 32),
    learning_rate=3e-3,
    minibatch=64,
    discount=0.9,
    tau=0.05,
    capacity=4096,
    random_steps=64,
)
update = jax.jit(SAC.update, static_argnums=0)
SPACES = Spaces(2, np.array([-1.0, 0.0], f32), np.array([1.0, 4.0], f32))


# Each equation.


@pytest.mark.parametrize(
    ("before", "mean", "log_std", "expected"),
    [
        # log N(0; 0, 1) = -0.918939, and 1 - tanh(0)^2 = 1.
        ([0.0], [0.0], [0.0], -0.918939),
        # tanh(1)^2 = 0.580026: -0.918939 - 0.5 - log(0.419974) = -1.418939 + 0.867562.
        ([1.0], [0.0], [0.0], -0.551377),
        # sd 2, z 1: -0.5 - log 2 - 0.918939 = -2.112086; u = 2: -log(1 - 0.929349) = 2.650004; and
        # the one above.
        ([2.0, 1.0], [0.0, 0.0], [np.log(2), 0.0], 0.537918 - 0.551377),
        # u = 30, where tanh is 1 in floats: log(4 exp(-60)) = 1.386294 - 60, so -0.918939 +
        # 58.613706.
        ([30.0], [30.0], [0.0], 57.694767),
        ([-30.0], [-30.0], [0.0], 57.694767),
    ],
)
def test_log_prob_by_hand(
    before: list[float], mean: list[float], log_std: list[float], expected: float
) -> None:
    found = squashed_log_prob(*(np.array(x, f32) for x in (before, mean, log_std)))
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_squashed_density_integrates_to_one() -> None:
    action = np.linspace(-1, 1, 40_001)[1:-1]
    before = np.arctanh(action).astype(f32)[:, None]
    density = np.exp(
        jax.vmap(squashed_log_prob, (0, None, None))(
            before, np.array([0.3], f32), np.array([-0.5], f32)
        )
    )
    assert np.sum(density) * 5e-5 == pytest.approx(1, rel=1e-3)


def test_a_sample_is_what_its_noise_says() -> None:
    # mean 0.5, log sd 0: before = 0.5 + noise.
    actor = (((np.zeros((1, 2), f32), np.array([0.5, 0.0], f32)),),)
    action, log_prob = squashed_sample(actor, np.zeros((2, 1), f32), np.array([[0.5], [-0.5]], f32))
    np.testing.assert_allclose(action[:, 0], [np.tanh(1), 0.0], rtol=1e-6)
    # -0.918939 - 0.125 + 0.867562, and the same without the tanh's part.
    np.testing.assert_allclose(log_prob, [-0.176377, -1.043939], rtol=1e-5)


def test_log_deviations_stay_within_their_bounds() -> None:
    actor = (((np.zeros((1, 4), f32), np.array([0.0, 0.0, 50.0, -50.0], f32)),),)
    mean, log_std = squashed_parameters(actor, np.zeros(1, f32))
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_array_equal(log_std, [2.0, -20.0])


@pytest.mark.parametrize(
    ("terminated", "expected"), [(False, 2 + 0.5 * (3 + 0.1 * 4)), (True, 2.0)]
)
def test_target_by_hand(terminated: bool, expected: float) -> None:
    # The smaller Q is 3; -alpha log pi = 0.4 for a log probability of -4.
    found = soft_target(
        f32(2), np.bool_(terminated), np.array([5.0, 3.0], f32), f32(-4), f32(0.1), 0.5
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_critics_have_relu_layers_and_see_the_action() -> None:
    # Hidden: relu(1 - 2, 1 + 2) = (0, 3); outputs 3 * 2 + 1 and -3.
    first = (np.array([[1.0, 1.0], [-1.0, 1.0]], f32), np.zeros(2, f32))
    critics = (
        (first, (np.array([[7.0], [2.0]], f32), np.ones(1, f32))),
        (first, (np.array([[7.0], [-1.0]], f32), np.zeros(1, f32))),
    )
    found = q_values(critics, np.array([[1.0]], f32), np.array([[2.0]], f32))
    np.testing.assert_array_equal(found, [[7.0], [-3.0]])


def test_each_update_has_a_batch_of_its_own() -> None:
    learner = SAC(minibatch=3, capacity=100)
    replay = Replay.empty(100, f32(0)).add(np.arange(100, dtype=f32))
    drawn: Any = learner.draw(replay, 5, jax.random.key(0))
    assert drawn.shape == (5, 3)
    assert len({row.tobytes() for row in drawn}) == 5


def test_actors_share_the_numbers_of_an_action_out() -> None:
    first, second = (((np.full((1, 2), x, f32), np.zeros(2, f32)),) for x in (1.0, 2.0))
    mean, log_std = squashed_parameters((first, second), np.array([0.5], f32))
    np.testing.assert_array_equal(mean, [0.5, 1.0])
    np.testing.assert_array_equal(log_std, [0.5, 1.0])
    one, two = (
        SAC(actors=n, hidden=(8,)).init(SPACES, jax.random.key(0)).learned.actor for n in (1, 2)
    )
    assert [each[-1][0].shape for each in one] == [(8, 4)] and [
        each[-1][0].shape for each in two
    ] == [(8, 2)] * 2
    assert not np.array_equal(two[0][0][0], two[1][0][0]), "each begins with weights of its own"
    with pytest.raises(BadValue, match=r"actors=3 cannot share 2 numbers of an action out evenly"):
        SAC(actors=3).init(SPACES, jax.random.key(0))


# One update: linear networks, so that every gradient is a short formula; float64 NumPy.


def linear(random: np.random.Generator, learner: SAC) -> Learned:
    """Observations of 2, actions of 1."""
    layer = lambda i, o: (
        (random.normal(size=(i, o)).astype(f32) / 2, random.normal(size=o).astype(f32) / 2),
    )
    actor, critics, targets = (layer(2, 2),), (layer(3, 1), layer(3, 1)), (layer(3, 1), layer(3, 1))
    temperature = jnp.float32(-0.7)
    return jax.tree.map(
        jnp.asarray,
        Learned(
            actor,
            critics,
            targets,
            temperature,
            learner._init_optimizers(actor, critics, temperature),
        ),
    )


def a_batch(random: np.random.Generator, n: int) -> SACBatch:
    draw = lambda *shape: random.normal(size=shape).astype(f32)
    return SACBatch(draw(n, 2), np.tanh(draw(n, 1)), draw(n), draw(n, 2), random.random(n) < 0.3)


def double(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def adam(gradient: np.ndarray, rate: float) -> np.ndarray:
    """The first step: the bias corrections leave g / (|g| + 1e-8)."""
    return -rate * gradient / (np.abs(gradient) + 1e-8)


def test_one_update_against_numpy() -> None:
    learner = replace(LEARNER, learning_rate=0.01, discount=0.8, tau=0.1, reward_scale=0.5)
    random, key = np.random.default_rng(0), jax.random.key(3)
    s, batch = linear(random, learner), a_batch(random, 16)
    new, metrics = update(learner, s, batch, key)

    k_noise, _ = jax.random.split(key)
    next_noise, noise = double(jax.random.normal(k_noise, (2, 16, 1)))
    s, obs, action, next_obs = double(s), *double((batch.obs, batch.action, batch.next_obs))
    alpha = np.exp(-0.7)

    def act(weights: Any, obs: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        mean, log_std = np.split(obs @ weights[0][0] + weights[0][1], 2, -1)
        u = mean + np.exp(log_std) * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)
        return np.tanh(u), log_prob[:, 0], log_std

    def q(critic: Any, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        return (np.concatenate([obs, action], -1) @ critic[0][0] + critic[0][1])[:, 0]

    next_action, next_log_prob, _ = act(s.actor[0], next_obs, next_noise)
    after = (
        np.minimum(*(q(critic, next_obs, next_action) for critic in s.targets))
        - alpha * next_log_prob
    )
    target = 0.5 * batch.reward + 0.8 * ~batch.terminated * after

    rows, critics, loss = np.concatenate([obs, action], -1), [], 0.0
    for (((w, b),), ((slow_w, slow_b),)), found, slow in zip(
        zip(s.critics, s.targets), new.critics, new.targets
    ):
        error = q(((w, b),), obs, action) - target
        loss += 0.5 * np.mean(error**2)
        w, b = (
            w + adam((rows.T @ error / 16)[:, None], 0.01),
            b + adam(error.mean(keepdims=True), 0.01),
        )
        np.testing.assert_allclose(found[0][0], w, atol=2e-6)
        np.testing.assert_allclose(found[0][1], b, atol=2e-6)
        np.testing.assert_allclose(slow[0][0], 0.9 * slow_w + 0.1 * w, atol=2e-6)
        np.testing.assert_allclose(slow[0][1], 0.9 * slow_b + 0.1 * b, atol=2e-6)
        critics.append(((w, b),))
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-5)

    # d/du of alpha log pi is 2 alpha tanh(u), of Q its weight for the action times 1 - tanh(u)^2; u
    # = mean + sd noise, and log pi has -log sd besides. The critics are those after their step.
    chosen, log_prob, log_std = act(s.actor[0], obs, noise)
    values = [q(critic, obs, chosen) for critic in critics]
    slope = np.where(values[0] < values[1], critics[0][0][0][2, 0], critics[1][0][0][2, 0])[:, None]
    by_u = 2 * alpha * chosen - slope * (1 - chosen**2)
    by_out = np.concatenate([by_u, by_u * np.exp(log_std) * noise - alpha], -1) / 16
    np.testing.assert_allclose(
        new.actor[0][0][0], s.actor[0][0][0] + adam(obs.T @ by_out, 0.01), atol=2e-6
    )
    np.testing.assert_allclose(
        new.actor[0][0][1], s.actor[0][0][1] + adam(by_out.sum(0), 0.01), atol=2e-6
    )
    # The entropy, -E log pi, is above or below its target, -1: the temperature falls or rises.
    entropy = -log_prob.mean()
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(new.log_temperature, -0.7 - 0.01 * np.sign(entropy + 1), atol=1e-6)


def test_an_update_is_pure_and_its_length_shows_in_adam() -> None:
    random, key = np.random.default_rng(1), jax.random.key(0)
    s, batch = linear(random, LEARNER), a_batch(random, 8)
    before = digest(s)
    first, second = (update(LEARNER, s, batch, key)[0] for _ in range(2))
    assert digest(first) == digest(second) != before == digest(s)
    for optimizer in first.optimizers:
        assert [leaf for leaf in jax.tree.leaves(optimizer) if leaf.dtype == np.int32] == [1]


def test_a_term_is_added_to_the_critics_loss_and_to_nothing_else() -> None:
    random, key = np.random.default_rng(2), jax.random.key(0)
    s, batch = linear(random, LEARNER), a_batch(random, 8)
    # Where the term is huge, the critics' first step has its sign: down both biases, and weights by
    # the mean row.
    term = lambda q, batch, key: 1e6 * q(batch.obs, batch.action).mean()
    plain, metrics = update(LEARNER, s, batch, key)
    pushed, told = jax.jit(partial(LEARNER.update, critic_term=term))(s, batch, key)
    for old, new in zip(s.critics, pushed.critics):
        np.testing.assert_allclose(new[0][1], old[0][1] - 3e-3, rtol=1e-4)
        rows = np.concatenate([batch.obs, batch.action], -1).mean(0)
        np.testing.assert_allclose(
            new[0][0][:, 0], old[0][0][:, 0] - 3e-3 * np.sign(rows), atol=1e-5
        )
    assert told["critic_loss"] == metrics["critic_loss"]
    assert digest(plain.log_temperature) == digest(pushed.log_temperature)


def test_members_side_by_side_learn_as_alone() -> None:
    random = np.random.default_rng(3)
    members = [(linear(random, LEARNER), a_batch(random, 8), jax.random.key(i)) for i in range(2)]
    together, _ = jax.jit(jax.vmap(LEARNER.update))(
        *jax.tree.map(lambda *x: jnp.stack(x), *members)
    )
    for i, member in enumerate(members):
        alone, _ = update(LEARNER, *member)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together)):
            np.testing.assert_allclose(a, b[i], rtol=2e-4, atol=1e-6)


# Rounds.


def transitions(steps: int, worlds: int, random: np.random.Generator) -> Transition:
    draw = lambda *shape: random.normal(size=(steps, worlds, *shape)).astype(f32)
    none = np.zeros((steps, worlds), bool)
    # A NaN action: the replay holds what the policy said, not what the bounds made of it.
    return Transition(
        draw(2),
        np.full((steps, worlds, 2), np.nan, f32),
        draw(),
        draw(2),
        none.copy(),
        none.copy(),
        draw(0),
        {"sample": np.tanh(draw(2))},
    )


def test_a_time_limit_is_stored_as_life() -> None:
    tr = transitions(8, 8, np.random.default_rng(0))
    tr.truncated[2, 3] = tr.terminated[4, 5] = True
    s = LEARNER.observe(LEARNER.init(SPACES, jax.random.key(0)), tr)
    rows = s.replay.recent
    np.testing.assert_array_equal(np.flatnonzero(rows.terminated), [4 * 8 + 5])
    np.testing.assert_array_equal(rows.next_obs[2 * 8 + 3], tr.next_obs[2, 3])
    np.testing.assert_array_equal(rows.action[:64], tr.extra["sample"].reshape(64, 2))
    assert (s.seen, s.replay.size) == (64, 64)
    assert type(s.seen) is np.int64


def test_random_steps_come_first_and_no_update_with_them() -> None:
    learner = replace(LEARNER, random_steps=128, minibatch=16, capacity=300)
    s, key = learner.init(SPACES, jax.random.key(0)), jax.random.key(1)
    random = np.random.default_rng(0)
    assert learner.behaviour(s).random and learner.random(s).random
    one, metrics = learner.learn(s, transitions(8, 8, random), key)
    assert (
        metrics == {} and digest(one.learned) == digest(s.learned) and learner.behaviour(one).random
    )
    two, metrics = learner.learn(one, transitions(8, 8, random), key)
    assert (
        metrics and digest(two.learned) != digest(s.learned) and not learner.behaviour(two).random
    )
    # As many updates as transitions.
    assert [leaf for leaf in jax.tree.leaves(two.learned.optimizers) if leaf.dtype == np.int32] == [
        64
    ] * 3
    shapes = lambda tree: jax.tree.map(lambda x: (np.shape(x), x.dtype), tree)
    assert (
        shapes(learner.behaviour(one))
        == shapes(learner.behaviour(two))
        == shapes(learner.random(s))
    )


def test_transfer_keeps_the_weights_and_empties_the_replay() -> None:
    learner, random = replace(LEARNER, minibatch=100), np.random.default_rng(0)
    s, key = learner.init(SPACES, jax.random.key(0)), jax.random.key(1)
    for _ in range(2):
        s, _ = learner.learn(s, transitions(8, 8, random), key)
    t = learner.warm_start(s)
    kept = ("actor", "critics", "targets", "log_temperature")
    assert all(
        digest(getattr(t.learned, name)) == digest(getattr(s.learned, name)) for name in kept
    )
    assert digest(t.learned.optimizers) == digest(learner.init(SPACES, key).learned.optimizers)
    assert (t.replay.size, s.replay.size, t.seen) == (0, 128, 128)
    assert not learner.behaviour(t).random
    t, metrics = learner.learn(t, transitions(8, 8, random), key)
    assert metrics == {}  # 64 rows are no minibatch of 100
    t, metrics = learner.learn(t, transitions(8, 8, random), key)
    assert metrics


def test_nothing_compiles_after_the_first_update_whatever_the_replay_does() -> None:
    learner, random = replace(LEARNER, capacity=300, minibatch=16), np.random.default_rng(0)
    s, key = learner.init(SPACES, jax.random.key(0)), jax.random.key(1)
    s, _ = learner.learn(s, transitions(8, 8, random), key)
    with compilations() as compiled:
        for _ in range(12):  # the ring is full, and has been merged twice
            s, _ = learner.learn(s, transitions(8, 8, random), key)
    assert compiled == []
    assert s.replay.merged > 300


# What acts.


def test_what_is_deployed_is_the_mean_scaled_to_the_bounds() -> None:
    # tanh(0) = 0 is the middle, 0.5 of the way up 0..4 is tanh^-1... tanh(0.549306) = 0.5: 3.
    actor = (((np.zeros((1, 4), f32), np.array([0.0, 0.549306, 0.0, 0.0], f32)),),)
    policy = SquashedPolicy(actor, SPACES.low, SPACES.high)
    action, memory = policy.act(policy.memory(), np.zeros(1, f32))
    np.testing.assert_allclose(action, [0.0, 3.0], atol=1e-5)
    assert memory == ()


def test_what_collects_draws_from_the_policy_or_uniformly() -> None:
    actor = (((np.zeros((1, 4), f32), np.array([0.5, -0.5, -1.0, -1.0], f32)),),)
    policy = SquashedPolicy(actor, SPACES.low, SPACES.high)
    keys = jax.random.split(jax.random.key(0), 20_000)

    def draw(random: bool) -> tuple[np.ndarray, np.ndarray]:
        behaviour = SquashedBehaviour(policy, np.bool_(random))
        decision = jax.vmap(lambda k: behaviour.act((), np.zeros(1, f32), k)[0])(keys)
        return np.asarray(decision.action), np.asarray(decision.extra["sample"])

    action, sample = draw(False)
    before = np.arctanh(sample)
    np.testing.assert_allclose(before.mean(0), [0.5, -0.5], atol=4 * np.exp(-1) / np.sqrt(20_000))
    np.testing.assert_allclose(before.std(0), np.exp(-1.0), rtol=0.02)
    np.testing.assert_allclose(action, sample * [1, 2] + [0, 2], atol=1e-6)
    action, sample = draw(True)
    assert np.abs(sample).max() <= 1 and np.abs(sample.mean(0)).max() < 4 / np.sqrt(3 * 20_000)
    np.testing.assert_allclose(sample.var(0), 1 / 3, rtol=0.03)
    assert (action >= SPACES.low).all() and (action <= SPACES.high).all()


# What it learns.


@probes.over_seeds
def test_it_finds_the_best_action_and_holds_its_entropy(seeds: range) -> None:
    def found(seed: int) -> list[float]:
        s, metrics = probes.train(LEARNER, probes.ACTION, 40, seed)
        return [*probes.actions(LEARNER, s, -1.0, 1.0), metrics["entropy"]]

    probes.check(found, seeds, [-0.55, 0.45, -1.2], [-0.45, 0.55, -0.8])


@pytest.mark.parametrize(("log_std", "sign"), [(0.0, -1), (-3.0, 1)])
def test_the_temperature_falls_above_the_target_entropy_and_rises_below(
    log_std: float, sign: int
) -> None:
    """A policy that cannot change: sd 1 has an entropy of about 0.6, sd 0.05 one of -1.6; the
    target is -1.
    """
    random = np.random.default_rng(0)
    s, batch = linear(random, LEARNER), a_batch(random, 64)
    still = (((jnp.zeros((2, 2)), jnp.array([0.0, log_std])),),)
    for i in range(10):
        s, _ = update(LEARNER, s._replace(actor=still), batch, jax.random.key(i))
    assert sign * (float(s.log_temperature) + 0.7) == pytest.approx(10 * 3e-3, rel=0.1)


@pytest.mark.parametrize(
    ("setting", "needs"),
    [
        ({"minibatch": 0}, "minibatch=0: needs a whole number from 1 on"),
        ({"capacity": 0}, "capacity=0: needs a whole number from 1 on"),
        ({"tau": 1.5}, r"tau=1.5: needs a number in 0..1"),
        ({"random_steps": -1}, "random_steps=-1: needs a whole number from 0 on"),
        ({"reward_scale": 0.0}, "reward_scale=0.0: needs a number above 0"),
        ({"capacity": 10}, "capacity=10 is less than a minibatch of 256; raise it"),
    ],
)
def test_settings_that_cannot_learn_are_refused(setting: dict[str, Any], needs: str) -> None:
    with pytest.raises(BadValue, match=needs):
        SAC(**setting)
