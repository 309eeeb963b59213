"""PPO: each equation by hand, one round against NumPy, and what it learns in probes whose answer is
known.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

from isthmus.learning.advantage import explained_variance, gae
from isthmus.learning.distributions import gaussian_entropy, gaussian_log_prob
from isthmus.learning.networks import mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.policies import GaussianBehaviour, GaussianPolicy, UniformBehaviour
from isthmus.learning.ppo import MEMBERS_PER_SHARD, PPO, PPONetworks, PPOState
from isthmus.learning.proximal import Rollout, surrogate
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Spaces, Transition

f32 = np.float32


# The Gaussian.


@pytest.mark.parametrize(
    ("x", "mean", "log_std", "expected"),
    [
        # -ln(2 pi)/2 = -0.918939; z = 1 takes 0.5.
        ([1.0], [0.0], [0.0], -1.418939),
        # sd (1, 2), z (1, 1): -(1 + 1)/2 - ln 2 - ln(2 pi) = -1 - 0.693147 - 1.837877.
        ([1.0, 3.0], [0.0, 1.0], [0.0, np.log(2)], -3.531024),
        # sd 1/2, z = (0.25 + 0.75) / 0.5 = 2: -4/2 + 0.693147 - 0.918939.
        ([0.25], [-0.75], [-np.log(2)], -2.225791),
    ],
)
def test_log_prob_by_hand(
    x: list[float], mean: list[float], log_std: list[float], expected: float
) -> None:
    found = gaussian_log_prob(np.array(x, f32), np.array(mean, f32), np.array(log_std, f32))
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_density_integrates_to_one() -> None:
    x = np.linspace(-20, 20, 40_001, dtype=f32)[:, None]
    density = np.exp(
        jax.vmap(gaussian_log_prob, (0, None, None))(x, np.array([0.3], f32), np.array([0.7], f32))
    )
    assert np.sum(density) * 0.001 == pytest.approx(1, rel=1e-4)


def test_entropy_by_hand() -> None:
    # ln(2 pi e)/2 = 1.418939 for each, and the logs of the deviations: 2 * 1.418939 + 0 + 0.693147.
    np.testing.assert_allclose(
        gaussian_entropy(np.array([0.0, np.log(2)], f32)), 3.531024, rtol=1e-6
    )


def test_entropy_is_the_mean_surprise() -> None:
    mean, log_std = np.array([1.0, -2.0], f32), np.array([0.5, -1.0], f32)
    x = mean + np.exp(log_std) * np.random.default_rng(0).normal(size=(100_000, 2)).astype(f32)
    surprise = -np.mean(jax.vmap(gaussian_log_prob, (0, None, None))(x, mean, log_std))
    assert surprise == pytest.approx(float(gaussian_entropy(log_std)), abs=0.02)


# The clipped surrogate.


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (
            1.5,
            2.0,
            2.4,
            0.0,
        ),  # good and already likelier by more than 0.2: 1.2 * 2, nothing more to gain
        (0.5, 2.0, 1.0, 2.0),  # good and less likely than before: the whole slope
        (1.5, -2.0, -3.0, -2.0),  # bad and likelier: the whole slope
        (0.5, -2.0, -1.6, 0.0),  # bad and already rarer by more than 0.2: 0.8 * -2
        (1.1, -2.0, -2.2, -2.0),
        (0.9, 2.0, 1.8, 2.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_surrogate_by_hand(ratio: float, advantage: float, expected: float, slope: float) -> None:
    value, gradient = jax.value_and_grad(surrogate)(f32(ratio), f32(advantage), 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


# Advantages.

REWARD, VALUE, NEXT = [1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 30.0, 40.0]


def advantages(
    terminated: list[int], done: list[int], discount: float, decay: float, next_value=NEXT
) -> np.ndarray:
    arrays = (np.array(x, f32) for x in (REWARD, VALUE, next_value, terminated, done))
    return np.asarray(gae(*arrays, discount, decay))


def test_gae_by_hand() -> None:
    # delta: 1 + 20/2 - 10 = 1, 2 + 30/2 - 20 = -3, 3 + 40/2 - 30 = -7. discount * decay = 1/4:
    # A_2 = -7, A_1 = -3 - 7/4 = -4.75, A_0 = 1 - 4.75/4 = -0.1875.
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 0, 0], 0.5, 0.5), [-0.1875, -4.75, -7.0])


def test_gae_where_the_second_step_kills() -> None:
    # delta_1 = 2 - 20 = -18 with nothing after it; A_0 = 1 - 18/4 = -3.5; step 2 is another
    # episode.
    np.testing.assert_allclose(advantages([0, 1, 0], [0, 1, 0], 0.5, 0.5), [-3.5, -18.0, -7.0])


def test_gae_where_a_time_limit_cuts_the_second_step() -> None:
    # delta_1 = 2 + 30/2 - 20 = -3 keeps the value of where it was cut, but no advantage comes from
    # step 2: A_1 = -3, A_0 = 1 - 3/4 = 0.25.
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 1, 0], 0.5, 0.5), [0.25, -3.0, -7.0])


def test_gae_bootstraps_from_the_true_next_state_not_from_the_next_row() -> None:
    # The next row begins another episode, of value 30; the one that was cut had come to a state of
    # value 100: delta_1 = 2 + 100/2 - 20 = 32; A_0 = 1 + 32/4 = 9.
    np.testing.assert_allclose(
        advantages([0, 0, 0], [0, 1, 0], 0.5, 0.5, next_value=[20.0, 100.0, 40.0]),
        [9.0, 32.0, -7.0],
    )


def test_gae_without_decay_is_the_error_of_one_step() -> None:
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 0, 0], 0.5, 0.0), [1.0, -3.0, -7.0])


def test_gae_with_decay_one_is_the_return_less_the_value() -> None:
    # Returns, bootstrapped at the end: 3 + 40/2 = 23, 2 + 23/2 = 13.5, 1 + 13.5/2 = 7.75; less 30,
    # 20, 10.
    np.testing.assert_allclose(advantages([0, 0, 0], [0, 0, 0], 0.5, 1.0), [-2.25, -6.5, -7.0])
    # With death at the end: 3, 2 + 3/2 = 3.5, 1 + 3.5/2 = 2.75.
    np.testing.assert_allclose(advantages([0, 0, 1], [0, 0, 1], 0.5, 1.0), [-7.25, -16.5, -27.0])


def test_explained_variance_by_hand() -> None:
    target = np.array([1.0, 2.0, 3.0, 6.0], f32)  # mean 3, variance (4 + 1 + 0 + 9)/4 = 3.5
    np.testing.assert_allclose(explained_variance(target, target), 1.0)
    np.testing.assert_allclose(
        explained_variance(target + 5, target), 1.0, atol=1e-6
    )  # an offset varies nothing
    np.testing.assert_allclose(explained_variance(np.full(4, 3, f32), target), 0.0, atol=1e-6)
    # Errors 0, 0, 0, 2: mean 0.5, variance 4/4 - 0.25 = 0.75; 1 - 0.75/3.5.
    np.testing.assert_allclose(
        explained_variance(np.array([1, 2, 3, 4], f32), target), 1 - 0.75 / 3.5, rtol=1e-6
    )
    # Worse than the mean: errors 2, 4, 6, 12, variance four times 3.5.
    np.testing.assert_allclose(explained_variance(-target, target), -3.0, rtol=1e-6)


# The loss: linear networks, two observations, one action, so that every gradient is a short
# formula.

LINEAR = PPO(worlds=2, steps=3, hidden=(), epochs=1, minibatch=6, discount=0.9, gae_decay=0.8)


def linear(random: np.random.Generator) -> PPONetworks:
    draw = lambda *shape: random.normal(size=shape).astype(f32)
    return PPONetworks(((draw(2, 1), draw(1)),), draw(1) / 2, ((draw(2, 1), draw(1)),))


def batch_at(
    networks: PPONetworks, ratio: Any, advantage: Any, random: np.random.Generator
) -> Rollout:
    """A minibatch whose samples are `ratio` times as likely under `networks` as they were when they
    were drawn.
    """
    n = len(ratio)
    obs = random.normal(size=(n, 2)).astype(f32)
    mean = mlp(networks.actor, obs)
    sample = mean + np.exp(networks.log_std) * random.normal(size=(n, 1)).astype(f32)
    log_prob = jax.vmap(gaussian_log_prob, (0, 0, None))(sample, mean, networks.log_std) - np.log(
        ratio
    )
    target = random.normal(size=n).astype(f32)
    return Rollout(obs, obs, sample, log_prob.astype(f32), np.array(advantage, f32), target)


def actor_gradient(
    networks: PPONetworks, batch: Rollout, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-mean(weight * d log pi), of the weights, the bias and the log deviation, in float64.

    d log pi / d mean = (x - mean) / sd^2, d log pi / d log sd = z^2 - 1.
    """
    (w, b), sd = networks.actor[0], np.exp(np.asarray(networks.log_std, np.float64))
    obs, sample = np.asarray(batch.obs, np.float64), np.asarray(batch.sample, np.float64)
    z = (sample - (obs @ w + b)) / sd
    slope = weight[:, None] * z / sd
    return -(obs.T @ slope) / len(obs), -slope.mean(0), -(weight[:, None] * (z**2 - 1)).mean(0)


def both_losses(learner: PPO, networks: PPONetworks, batch: Rollout) -> tuple[Any, dict]:
    """Of policy and critic, added."""
    of_policy, health = learner.policy_loss((networks.actor, networks.log_std), batch)
    of_critic, more = learner.critic_loss(networks.critic, batch)
    return of_policy + of_critic, health | more


def loss_gradient(learner: PPO, networks: PPONetworks, batch: Rollout) -> PPONetworks:
    return jax.grad(lambda n: both_losses(learner, n, batch)[0])(networks)


def check_actor(found: PPONetworks, expected: tuple[np.ndarray, ...]) -> None:
    for ours, theirs in zip((*found.actor[0], found.log_std), expected):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-6)


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    random = np.random.default_rng(0)
    networks = linear(random)
    advantage = random.normal(3.0, 2.0, 50)
    batch = batch_at(networks, np.ones(50), advantage, random)
    standard = (advantage - advantage.mean()) / advantage.std()
    check_actor(loss_gradient(LINEAR, networks, batch), actor_gradient(networks, batch, standard))


def test_away_from_ratio_one_the_gradient_is_weighted_by_it() -> None:
    # Both samples have moved to the side on which nothing is clipped. Advantages 1, -1 are standard
    # already.
    random = np.random.default_rng(1)
    networks = linear(random)
    batch = batch_at(networks, np.array([0.5, 1.5]), [1.0, -1.0], random)
    check_actor(
        loss_gradient(LINEAR, networks, batch),
        actor_gradient(networks, batch, np.array([0.5, -1.5])),
    )


def test_where_both_samples_are_clipped_the_policy_stays() -> None:
    random = np.random.default_rng(2)
    networks = linear(random)
    gradient = loss_gradient(
        LINEAR, networks, batch_at(networks, np.array([1.5, 0.5]), [1.0, -1.0], random)
    )
    for leaf in jax.tree.leaves((gradient.actor, gradient.log_std)):
        np.testing.assert_array_equal(leaf, 0.0)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient.critic))


def test_loss_and_health_by_hand() -> None:
    # Advantages 3, 1 become 1, -1. Ratios 1.5 and 0.5: min(1.5, 1.2) = 1.2, min(-0.5, -0.8) = -0.8;
    # mean 0.2. KL: (1.5 - 1 - ln 1.5 + 0.5 - 1 - ln 0.5)/2 = (0.094535 + 0.193147)/2.
    random = np.random.default_rng(3)
    networks = linear(random)
    batch = batch_at(networks, np.array([1.5, 0.5]), [3.0, 1.0], random)
    learner = replace(LINEAR, value_weight=0.25, entropy_weight=0.1)
    loss, health = both_losses(learner, networks, batch)
    np.testing.assert_allclose(health["policy_loss"], -0.2, rtol=1e-5)
    np.testing.assert_allclose(health["kl"], 0.143841, rtol=1e-5)
    np.testing.assert_allclose(health["clip_fraction"], 1.0)
    squared = np.mean((np.asarray(mlp(networks.critic, batch.obs))[:, 0] - batch.target) ** 2)
    np.testing.assert_allclose(health["value_loss"], squared, rtol=1e-5)
    entropy = float(gaussian_entropy(networks.log_std))
    np.testing.assert_allclose(loss, -0.2 + 0.25 * squared - 0.1 * entropy, rtol=1e-5)


def test_the_value_and_entropy_terms_have_their_weights() -> None:
    # d/dw c_v mean((V - R)^2) = 2 c_v mean((V - R) obs); the entropy's derivative by each log
    # deviation is 1.
    random = np.random.default_rng(4)
    networks = linear(random)
    batch = batch_at(networks, np.ones(20), random.normal(size=20), random)
    plain = loss_gradient(replace(LINEAR, value_weight=0.0), networks, batch)
    both = loss_gradient(replace(LINEAR, value_weight=0.25, entropy_weight=0.1), networks, batch)
    error = np.asarray(mlp(networks.critic, batch.obs))[:, 0] - batch.target
    np.testing.assert_array_equal(plain.critic[0][0], 0.0)
    np.testing.assert_allclose(
        both.critic[0][0][:, 0], 0.5 * (error[:, None] * batch.obs).mean(0), rtol=1e-4
    )
    np.testing.assert_allclose(both.critic[0][1][0], 0.5 * error.mean(), rtol=1e-4)
    np.testing.assert_allclose(both.log_std - plain.log_std, -0.1, rtol=1e-4)
    np.testing.assert_allclose(both.actor[0][0], plain.actor[0][0], rtol=1e-6)


def test_the_first_step_of_adam_by_hand() -> None:
    # (3, 4) is 5 long and cut to 0.5: (0.3, 0.4). Adam's first step is g / (|g| + 1e-5), times
    # -0.01.
    optimizer = PPO(learning_rate=0.01, max_gradient=0.5)._optimizer
    weights = jnp.zeros(2)
    step, _ = optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(weights), weights)
    np.testing.assert_allclose(step, [-0.01 * 0.3 / 0.30001, -0.01 * 0.4 / 0.40001], rtol=1e-5)
    longer, _ = optimizer.update(jnp.array([300.0, 400.0]), optimizer.init(weights), weights)
    np.testing.assert_allclose(longer, step, rtol=1e-5)


# A whole round.


def transitions(
    steps: int, worlds: int, random: np.random.Generator, spaces: int = 2
) -> Transition:
    draw = lambda *shape: random.normal(size=(steps, worlds, *shape)).astype(f32)
    none = np.zeros((steps, worlds), bool)
    # A NaN action: what was executed after clipping is no part of an update, only the sample is.
    return Transition(
        draw(spaces),
        np.full((steps, worlds, 1), np.nan, f32),
        3 * draw(),
        draw(spaces),
        none,
        none.copy(),
        draw(1),
        {"sample": draw(1)},
    )


def state_for(learner: PPO, networks: PPONetworks) -> PPOState:
    """A state with moments that are not the identity."""
    s = learner.init(Spaces(2, np.array([-1.0]), np.array([1.0]), 1), jax.random.key(0))
    return s._replace(
        networks=jax.tree.map(jnp.asarray, networks),
        obs_moments=Moments(np.int64(10), np.array([0.5, -0.5]), np.array([4.0, 0.25])),
        returns=Moments(np.int64(10), np.array(7.0), np.array(4.0)),
        running=np.array([1.0, 2.0]),
    )


CASES = {"nothing ends": (False, False), "death": (True, False), "time limit": (False, True)}


def check_first_step(moved: Any, gradient: np.ndarray) -> None:
    """Adam's, by a gradient that is cut to a length of 1e-6."""
    gradient = gradient * (1e-6 / np.linalg.norm(gradient))
    found = np.concatenate([np.ravel(x) for x in jax.tree.leaves(moved)])
    np.testing.assert_allclose(found, -gradient / (np.abs(gradient) + 1e-5), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_one_round_against_numpy(case: str) -> None:
    """Linear networks and one minibatch of all rows: the new weights by formulas, in float64.

    The gradient is cut so short that Adam's first step, g / (|g| + 1e-5), shows its length as well
    as its sign.
    """
    learner = replace(
        LINEAR, max_gradient=1e-6, learning_rate=1.0, value_weight=0.3, entropy_weight=0.05
    )
    random = np.random.default_rng(5)
    networks, tr = linear(random), transitions(3, 2, random)
    tr.terminated[1, 0], tr.truncated[1, 0] = CASES[case]
    s = state_for(learner, networks)
    new, metrics = learner.learn(s, tr, jax.random.key(1))

    mean, std = np.array([0.5, -0.5]), np.array([2.0, 0.5])
    obs, next_obs = ((x.astype(np.float64) - mean) / std for x in (tr.obs, tr.next_obs))
    (w, b) = (np.asarray(x, np.float64) for x in networks.critic[0])
    value, next_value = ((x @ w + b)[..., 0] for x in (obs, next_obs))
    delta = (
        tr.reward / 2.0 + 0.9 * next_value * ~tr.terminated - value
    )  # returns' variance 4: rewards are halved
    advantage = np.zeros((4, 2))
    for t in (2, 1, 0):
        advantage[t] = delta[t] + 0.72 * ~(tr.terminated[t] | tr.truncated[t]) * advantage[t + 1]
    advantage = advantage[:3].ravel()
    batch = Rollout(obs.reshape(6, 2), None, tr.extra["sample"].reshape(6, 1), None, None, None)
    standard = (advantage - advantage.mean()) / advantage.std()
    weights, bias, log_std = actor_gradient(networks, batch, standard)
    # R - V is the advantage itself.
    critic = -0.6 * (advantage[:, None] * batch.obs).mean(0), -0.6 * advantage.mean()
    moved = jax.tree.map(np.subtract, new.networks, networks)
    gradient = np.concatenate([weights.ravel(), bias, log_std - 0.05])
    check_first_step((moved.actor, moved.log_std), gradient)
    check_first_step(moved.critic, np.concatenate([critic[0], critic[1:]]))

    np.testing.assert_allclose(metrics["value_loss"], np.mean(advantage**2), rtol=1e-4)
    np.testing.assert_allclose(metrics["value"], value.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["reward_scale"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["kl"], 0.0, atol=1e-6
    )  # before the first step the policy is what collected
    explained = 1 - np.var(advantage) / np.var(advantage + value.ravel())
    np.testing.assert_allclose(metrics["explained_variance"], explained, rtol=1e-4)


def test_a_round_is_merged_into_the_moments_after_its_update() -> None:
    random = np.random.default_rng(6)
    tr = transitions(3, 2, random)
    tr.truncated[1, 1] = True
    s = state_for(LINEAR, linear(random))
    new, _ = LINEAR.learn(s, tr, jax.random.key(1))
    rows = tr.obs.reshape(6, 2).astype(np.float64)
    assert new.obs_moments.count == 16
    np.testing.assert_allclose(new.obs_moments.mean, (10 * s.obs_moments.mean + rows.sum(0)) / 16)
    # World 1 carries 2 in, is cut at the second step and begins the third from nothing.
    r = tr.reward.astype(np.float64)
    sums = [0.9 + r[0, 0], 0.81 + 0.9 * r[0, 0] + r[1, 0]]
    sums += [0.9 * sums[1] + r[2, 0], 1.8 + r[0, 1], 1.62 + 0.9 * r[0, 1] + r[1, 1], r[2, 1]]
    np.testing.assert_allclose(new.running, [sums[2], sums[5]])
    np.testing.assert_allclose(new.returns.mean, (70 + sum(sums)) / 16)
    assert new.parameters.count == 0  # a critic that does not see them does not follow them


def test_rewards_are_clipped_after_scaling() -> None:
    # Scale 1/2: a reward of 1e6 counts as 10, like one of 20.
    random = np.random.default_rng(7)
    tr, s = transitions(3, 2, random), state_for(LINEAR, linear(random))
    losses = []
    for reward in (20.0, 1e6):
        tr.reward[0, 0] = reward
        losses.append(LINEAR.learn(s, tr, jax.random.key(1))[1]["value_loss"])
    assert losses[0] == losses[1]


class Tally(PPO):
    """Adds up powers of two that name the rows, over each minibatch."""

    def policy_loss(self, policy: Any, batch: Rollout) -> tuple[Any, dict]:
        loss, health = super().policy_loss(policy, batch)
        return loss, health | {"rows": batch.sample.sum()}


@pytest.mark.parametrize(("minibatch", "count"), [(4, 3), (5, 2)])
def test_an_epoch_takes_each_row_at_most_once(minibatch: int, count: int) -> None:
    learner = Tally(
        worlds=3, steps=4, hidden=(), epochs=5, minibatch=minibatch, learning_rate=1e-30
    )
    tr = transitions(4, 3, np.random.default_rng(8))
    tr.extra["sample"][:] = 2.0 ** np.arange(12).reshape(4, 3, 1)
    s = learner.init(Spaces(2, np.array([-1.0]), np.array([1.0]), 1), jax.random.key(0))
    new, metrics = learner.learn(s, tr, jax.random.key(1))
    total = metrics["rows"] * count  # of an epoch, in the mean of five
    if minibatch == 4:  # every row once: 2^0 + ... + 2^11
        assert total == pytest.approx(2**12 - 1)
    else:  # two of twelve are left out each time
        assert total < 2**12 - 3
    assert updates(new) == (5 * count, 5 * count)


# What collects, and what is deployed.


def gaussian(bias: float, log_std: float) -> GaussianBehaviour:
    actor = ((np.array([[1.0]], f32), np.array([bias], f32)),)
    normalizer = Normalizer(np.array([2.0], f32), np.array([4.0], f32))
    policy = GaussianPolicy(normalizer, actor, np.array([-1.0], f32), np.array([1.0], f32))
    return GaussianBehaviour(policy, np.array([log_std], f32))


def test_a_policy_is_the_clipped_mean_of_a_normalized_observation() -> None:
    # (4 - 2)/4 + 0.25 = 0.75; with a bias of 2 it is 2.5, and 1 is the bound.
    for bias, expected in ((0.25, 0.75), (2.0, 1.0), (-3.0, -1.0)):
        action, memory = gaussian(bias, 0.0).policy.act((), np.array([4.0], f32))
        np.testing.assert_allclose(action, [expected])
        assert memory == ()


def test_a_behaviour_samples_around_the_mean_and_returns_the_sample_unclipped() -> None:
    behaviour, obs = gaussian(0.25, np.log(0.5)), np.array([4.0], f32)
    keys = jax.random.split(jax.random.key(0), 20_000)
    decision = jax.vmap(lambda k: behaviour.act((), obs, k)[0])(keys)
    sample = np.asarray(decision.extra["sample"])
    assert sample.mean() == pytest.approx(0.75, abs=0.02)
    assert sample.std() == pytest.approx(0.5, abs=0.02)
    assert sample.max() > 1.5
    np.testing.assert_array_equal(np.asarray(decision.action), np.clip(sample, -1, 1))
    assert decision.applied is None


def test_random_actions_fill_the_bounds() -> None:
    behaviour = UniformBehaviour(np.array([-1.0, 0.0], f32), np.array([1.0, 5.0], f32))
    keys = jax.random.split(jax.random.key(0), 20_000)
    action = np.asarray(jax.vmap(lambda k: behaviour.act((), np.zeros(3, f32), k)[0].action)(keys))
    assert (action >= [-1, 0]).all() and (action <= [1, 5]).all()
    np.testing.assert_allclose(action.mean(0), [0, 2.5], atol=0.05)
    np.testing.assert_allclose(action.std(0), np.array([2, 5]) / np.sqrt(12), rtol=0.02)


# Settings that cannot learn.


@pytest.mark.parametrize(
    "setting",
    [
        {"worlds": 0},
        {"steps": 0},
        {"epochs": 0},
        {"minibatch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"clip": -0.1},
        {"max_gradient": 0.0},
        {"discount": 1.01},
        {"gae_decay": -0.1},
        {"value_weight": -1.0},
        {"entropy_weight": float("inf")},
        {"target_kl": -0.01},
        {"annealing": -1},
        {"initial_log_std": float("nan")},
    ],
    ids=str,
)
def test_a_setting_that_cannot_learn_is_refused(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(BadValue, match=f"^{name}=.*: needs a "):
        PPO(**setting)


def test_a_minibatch_beyond_a_round_is_refused() -> None:
    """It would train on nothing, and say so with a NaN only."""
    learner = replace(LINEAR, minibatch=7)
    random = np.random.default_rng(9)
    with pytest.raises(BadValue, match="minibatch=7 is more than a round's 6 transitions"):
        learner.learn(
            state_for(learner, linear(random)), transitions(3, 2, random), jax.random.key(0)
        )


# Probes.

LEARNER = PPO(
    worlds=16,
    steps=16,
    hidden=(16,),
    learning_rate=1e-2,
    epochs=4,
    minibatch=64,
    discount=0.9,
    initial_log_std=-0.5,
)


@probes.over_seeds
def test_probe_one_bit_tells_a_time_limit_from_death(seeds: range) -> None:
    """The same rewards and the same observations, cut after each step: 10 where it was a time
    limit, 1 where death.
    """

    def found(seed: int) -> list[float]:
        states = [
            probes.train(LEARNER, probes.VALUE_ONE._replace(noise=1.0, dies=dies), 100, seed)[0]
            for dies in (False, True)
        ]
        return [probes.values(s, 0.0)[0] for s in states]

    probes.check(found, seeds, [9.0, 0.5], [11.0, 1.5])


@probes.over_seeds
def test_probe_action_matters(seeds: range) -> None:
    def found(seed: int) -> list[float]:
        s, _ = probes.train(LEARNER, probes.ACTION, 40, seed)
        return [*probes.actions(LEARNER, s, -1.0, 1.0), s.networks.log_std[0]]

    probes.check(
        found, seeds, [-0.58, 0.42, -np.inf], [-0.42, 0.58, -2.0]
    )  # nothing is left to try


@probes.over_seeds
def test_probe_an_action_is_paid_a_step_later(seeds: range) -> None:
    def found(seed: int) -> np.ndarray:
        return probes.actions(
            LEARNER, probes.train(LEARNER, probes.EARLY_ACTION, 40, seed)[0], -1.0, 1.0
        )

    probes.check(found, seeds, *probes.around([-0.5, 0.5], 0.08))


@probes.over_seeds
def test_a_privileged_critic_sees_the_dynamics(seeds: range) -> None:
    """Without them nothing is known but that the mean is 0."""

    def found(seed: int) -> list[float]:
        s, metrics = probes.train(replace(LEARNER, privileged=True), probes.HIDDEN_VALUE, 40, seed)
        blind, dark = probes.train(LEARNER, probes.HIDDEN_VALUE, 40, seed)
        told = [probes.values(s, 0.0, parameter=coin)[0] for coin in (-1.0, 1.0)]
        return [
            *told,
            metrics["explained_variance"],
            *probes.values(blind, 0.0),
            dark["explained_variance"],
        ]

    probes.check(found, seeds, [-1.05, 0.95, 0.95, -0.3, -np.inf], [-0.95, 1.05, np.inf, 0.3, 0.1])


def test_a_policy_does_not_see_the_dynamics_that_its_critic_sees() -> None:
    privileged = replace(LEARNER, privileged=True)
    s, _ = probes.train(privileged, probes.HIDDEN_VALUE, 1)
    blind, _ = probes.train(LEARNER, probes.HIDDEN_VALUE, 1)
    assert [w.shape[0] for w, _ in (s.networks.actor[0], s.networks.critic[0])] == [1, 2]
    assert s.parameters.count == s.obs_moments.count
    policy = privileged.policy(s)
    assert jax.tree.map(np.shape, policy) == jax.tree.map(np.shape, LEARNER.policy(blind))


# A round of the probes' learner.


def after_one_round(learner: PPO, key: int = 1) -> tuple[PPOState, PPOState, dict[str, float]]:
    random = np.random.default_rng(0)
    s = learner.init(probes.SPACES, jax.random.key(0))
    _, tr = probes.collect(
        probes.ACTION, probes.Played.begin(16, random), learner.behaviour(s), 16, random
    )
    return s, *learner.learn(s, tr, jax.random.key(key))


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def distance(a: Any, b: Any) -> float:
    squares = jax.tree.map(lambda x, y: float(np.sum((np.asarray(x) - np.asarray(y)) ** 2)), a, b)
    return sum(jax.tree.leaves(squares)) ** 0.5


def updates(s: PPOState) -> tuple[int, int]:
    """Of the policy and of the critic."""
    of_policy, of_critic = (
        int(leaf) for leaf in jax.tree.leaves(s.optimizer) if leaf.dtype == np.int32
    )
    return of_policy, of_critic


def test_a_target_kl_stops_the_updates_of_a_round() -> None:
    s, free, metrics = after_one_round(LEARNER)
    held = replace(LEARNER, target_kl=1e-4)
    start, stopped, held_metrics = after_one_round(held)
    assert bits(start.networks) == bits(s.networks)
    assert updates(free) == (16, 16)
    of_policy, of_critic = updates(stopped)
    assert 1 <= of_policy < of_critic == 16
    assert bits(stopped.networks.critic) == bits(free.networks.critic)
    assert 0 < distance(stopped.networks, s.networks) < distance(free.networks, s.networks)
    assert held_metrics["kl"] < metrics["kl"]
    health = {
        "policy_loss",
        "value_loss",
        "kl",
        "clip_fraction",
        "explained_variance",
        "entropy",
        "value",
    }
    for found in (metrics, held_metrics):
        assert set(found) == health | {"reward_scale"}
        assert all(type(value) is float and np.isfinite(value) for value in found.values())


def test_the_learning_rate_falls_to_a_tenth_over_the_steps_of_annealing() -> None:
    """Adam steps by its rate where the gradient never changes: two rounds of 2 x 8 descents, and
    what follows.
    """
    learner = replace(
        PPO(), worlds=4, steps=8, minibatch=4, epochs=2, annealing=64, max_gradient=10.0
    )
    descent = learner._optimizer
    networks = learner.init(
        Spaces(2, np.array([-1.0]), np.array([1.0]), 1), jax.random.key(0)
    ).networks
    state, slope = descent.init(networks), jax.tree.map(jnp.ones_like, networks)
    slope = jax.tree.map(lambda x: x / 1000, slope)  # shorter than the gradient's limit
    steps = []
    for _ in range(40):
        change, state = descent.update(slope, state, networks)
        steps.append(-float(change.log_std[0]))
    rate = 3e-4 * np.maximum(1 - 0.9 * np.arange(40) / 32, 0.1)
    np.testing.assert_allclose(
        steps, rate, rtol=0.011
    )  # Adam's epsilon is a hundredth of this gradient


@pytest.mark.parametrize(
    "count", [1, MEMBERS_PER_SHARD - 1, MEMBERS_PER_SHARD, MEMBERS_PER_SHARD + 1]
)
def test_rounds_of_many_states_are_each_the_bits_of_its_own(count: int) -> None:
    random = np.random.default_rng(3)
    learner = PPO(worlds=2, steps=16, hidden=(8,), epochs=2, minibatch=8)
    spaces = Spaces(2, np.array([-1.0]), np.array([1.0]), 1)
    states = [
        state_for(learner, learner.init(spaces, jax.random.key(m)).networks) for m in range(count)
    ]
    trs = [
        transitions(16, 2, random)._replace(parameters=np.zeros((16, 2, 1), f32)) for _ in states
    ]
    keys = [jax.random.key(100 + m) for m in range(count)]
    each = learner.learn_each(states, trs, keys)
    alone = [learner.learn(*given)[0] for given in zip(states, trs, keys, strict=True)]
    assert [digest(s) for s in each] == [digest(s) for s in alone]
    assert len({digest(s) for s in each}) == count, "each learned from its own"
    with pytest.raises(BadValue, match="more than a round's 32 transitions"):
        replace(learner, minibatch=64).learn_each(states, trs, keys)


def test_an_update_is_decided_by_its_key() -> None:
    _, first, metrics = after_one_round(LEARNER)
    _, again, same = after_one_round(LEARNER)
    _, other, _ = after_one_round(LEARNER, key=2)
    assert bits(first) == bits(again) and metrics == same
    assert bits(first.networks) != bits(other.networks)


def test_transfer_keeps_what_was_learned_and_begins_the_rest_anew() -> None:
    s, learned, _ = after_one_round(LEARNER)
    moved = LEARNER.warm_start(learned)
    assert bits(moved.networks) == bits(learned.networks)
    assert bits((moved.obs_moments, moved.returns)) == bits((learned.obs_moments, learned.returns))
    assert bits(moved.optimizer) == bits(s.optimizer) != bits(learned.optimizer)
    np.testing.assert_array_equal(moved.running, np.zeros(16))
    assert LEARNER.with_num_worlds(3).rollout_shape == (3, 16)
    assert LEARNER.with_num_worlds(3).warm_start(learned).running.shape == (3,)
