"""TRPO: each equation against its dense form, one round against NumPy, and what it learns in
probes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from jax.flatten_util import ravel_pytree

from isthmus.learning.conjugate_gradients import conjugate_gradients
from isthmus.learning.distributions import gaussian_kl, gaussian_log_prob
from isthmus.learning.networks import init_mlp, mlp
from isthmus.learning.normalization import Moments
from isthmus.learning.ridge import ridge
from isthmus.learning.trpo import (
    TRPO,
    Gaussians,
    TRPONetworks,
    TRPOState,
    ages,
    fisher_product,
)
from isthmus.types import BadValue, Spaces, Transition, UnknownName

f32 = np.float32
improve = jax.jit(TRPO.improve, static_argnums=0)
LEARNER = TRPO(
    worlds=16,
    steps=16,
    hidden=(16,),
    learning_rate=1e-2,
    epochs=8,
    minibatch=64,
    discount=0.9,
    initial_log_std=-0.5,
)


# The divergence and its Hessian.


def test_kl_by_hand() -> None:
    # sd 1 to 2, moved by 2: ln 2 + (1 + 4)/8 - 1/2 = 0.818147; the second dimension is the same in
    # both.
    found = gaussian_kl(*(np.array(x, f32) for x in ([0, 1], [0, 0.3], [2, 1], [np.log(2), 0.3])))
    np.testing.assert_allclose(found, 0.818147, rtol=1e-5)
    # Back again: -ln 2 + (4 + 4)/2 - 1/2 = 2.806853.
    back = gaussian_kl(*(np.array(x, f32) for x in ([2, 1], [np.log(2), 0.3], [0, 1], [0, 0.3])))
    np.testing.assert_allclose(back, 2.806853, rtol=1e-5)


def test_kl_is_the_mean_log_ratio() -> None:
    old, new = (
        (np.array([0.5, -1], f32), np.array([0.2, -0.5], f32)),
        (np.array([0.1, -1.2], f32), np.zeros(2, f32)),
    )
    x = old[0] + np.exp(old[1]) * np.random.default_rng(0).normal(size=(200_000, 2)).astype(f32)
    log_prob = jax.vmap(gaussian_log_prob, (0, None, None))
    assert np.mean(log_prob(x, *old) - log_prob(x, *new)) == pytest.approx(
        float(gaussian_kl(*old, *new)), abs=0.01
    )


def deep(random: np.random.Generator) -> tuple[TRPONetworks, np.ndarray]:
    """A network of 3 - 5 - 4 - 2 with biases that are not zero, and 40 observations."""
    actor = init_mlp(jax.random.key(0), (3, 5, 4, 2), 1.0)
    actor = jax.tree.map(lambda x: x + 0.2 * random.normal(size=x.shape).astype(f32), actor)
    return TRPONetworks(actor, np.array([-0.5, 0.3], f32)), random.normal(size=(40, 3)).astype(f32)


def test_the_fisher_product_is_the_hessian_of_the_kl() -> None:
    networks, obs = deep(np.random.default_rng(1))
    start, unravel = ravel_pytree(networks)
    old, fisher = fisher_product(networks, obs)
    dense = jax.jit(jax.hessian(lambda v: old.kl(Gaussians.of(unravel(v), obs))))(start)
    found = np.asarray(
        jax.jit(jax.vmap(lambda v: ravel_pytree(fisher(unravel(v)))[0]))(
            np.eye(len(start), dtype=f32)
        )
    )
    np.testing.assert_allclose(found, dense, atol=2e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert np.linalg.eigvalsh(found).min() > -1e-6
    np.testing.assert_allclose(found[-2:, -2:], 2 * np.eye(2), atol=1e-6)  # of the log deviations


def test_the_fisher_matrix_is_taken_over_every_kth_state() -> None:
    """Where all states come twice, every second of them tells as much; where not, the step is
    another one.
    """
    networks, obs = deep(np.random.default_rng(2))
    random = np.random.default_rng(3)
    sample, advantage = random.normal(size=(80, 2)).astype(f32), random.normal(size=80).astype(f32)
    start, _ = ravel_pytree(networks)

    def apart(obs: np.ndarray) -> float:
        """How far the two steps are from each other, in units of the first."""
        steps = [
            improve(TRPO(fisher_stride=k), networks, obs, sample, advantage)[0] for k in (1, 2)
        ]
        first, second = (ravel_pytree(step)[0] - start for step in steps)
        return float(jnp.linalg.norm(first - second) / jnp.linalg.norm(first))

    twice = np.repeat(obs, 2, axis=0)
    assert apart(twice) < 0.01  # conjugate gradients in float32
    twice[1::2] *= 3
    assert apart(twice) > 0.1


# Conjugate gradients.


def system(n: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    q, _ = np.linalg.qr(random.normal(size=(n, n)))
    return (q * np.geomspace(1, condition, n)) @ q.T, random.normal(size=n)


def test_conjugate_gradients_solve_in_as_many_iterations_as_there_are_unknowns() -> None:
    a, b = system(12, 50.0)
    x, _, residual = conjugate_gradients(lambda v: a.astype(f32) @ v, b.astype(f32), 20)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-4, atol=1e-5)
    assert residual < 1e-4


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_each_iterate_is_the_best_of_its_krylov_space(iterations: int) -> None:
    """Minimizes x^T A x / 2 - b^T x over the span of b, A b, A^2 b, ...; and says what is left of
    b.
    """
    a, b = system(12, 20.0)
    basis, _ = np.linalg.qr(
        np.stack([np.linalg.matrix_power(a, k) @ b for k in range(iterations)], 1)
    )
    expected = basis @ np.linalg.solve(basis.T @ a @ basis, basis.T @ b)
    x, _, residual = conjugate_gradients(lambda v: a.astype(f32) @ v, b.astype(f32), iterations)
    np.testing.assert_allclose(x, expected, rtol=1e-3, atol=1e-5)
    assert residual == pytest.approx(np.linalg.norm(b - a @ expected) / np.linalg.norm(b), rel=1e-2)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e6])
def test_conjugate_gradients_do_not_care_for_the_scale(size: float) -> None:
    b = size * np.array([3.0, 4.0], f32)
    x, *_ = conjugate_gradients(lambda v: 2 * v, b, 10)
    np.testing.assert_allclose(x, b / 2, rtol=1e-6)


# The step: a linear policy of two observations and one action, whose natural gradient is a short
# formula.

LINEAR = TRPO(
    worlds=2,
    steps=3,
    hidden=(),
    epochs=1,
    minibatch=6,
    discount=0.9,
    gae_decay=0.8,
    damping=0.0,
    cg_iterations=30,
    fisher_stride=1,
)


def linear(random: np.random.Generator) -> TRPONetworks:
    draw = lambda *shape: random.normal(size=shape).astype(f32)
    return TRPONetworks(((draw(2, 1), draw(1)),), draw(1) / 2)


def natural_step(
    networks: TRPONetworks, obs: Any, sample: Any, advantage: Any, damping: float, max_kl: float
) -> np.ndarray:
    """The full step of the weights, the bias and the log deviation, in float64.

    d log pi / d mean = z / sd, d log pi / d log sd = z^2 - 1; F = E[x x^T] / sd^2 for x = (obs, 1),
    and 2.
    """
    (w, b), sd = networks.actor[0], np.exp(float(networks.log_std[0]))
    x = np.concatenate([np.asarray(obs, np.float64), np.ones((len(obs), 1))], 1)
    z = (np.asarray(sample, np.float64)[:, 0] - x @ np.append(w, b)) / sd
    gradient = np.append((advantage * z / sd) @ x, np.sum(advantage * (z**2 - 1))) / len(x)
    fisher = np.zeros((4, 4))
    fisher[:3, :3], fisher[3, 3] = x.T @ x / len(x) / sd**2, 2.0
    solved = np.linalg.solve(fisher + damping * np.eye(4), gradient)
    return np.sqrt(2 * max_kl / (solved @ gradient)) * solved


def moved(new: TRPONetworks, old: TRPONetworks) -> np.ndarray:
    return np.asarray(ravel_pytree(new)[0] - ravel_pytree(old)[0])


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_step_is_the_natural_gradient(damping: float) -> None:
    random = np.random.default_rng(5)
    networks = linear(random)
    obs = random.normal(size=(200, 2)).astype(f32)
    sample = mlp(networks.actor, obs) + np.exp(networks.log_std) * random.normal(
        size=(200, 1)
    ).astype(f32)
    advantage = random.normal(size=200).astype(f32)
    learner = replace(LINEAR, damping=damping, max_kl=1e-3)
    new, found = improve(learner, networks, obs, sample, advantage)
    step = natural_step(networks, obs, sample, advantage, damping, 1e-3)
    np.testing.assert_allclose(
        moved(new, networks), float(found["step_fraction"]) * step, rtol=2e-3, atol=1e-6
    )
    assert found["cg_residual"] < 1e-3


def test_a_quadratic_problem_is_solved_exactly() -> None:
    """Samples one deviation above and below every mean pull at no deviation: the KL is quadratic,
    its bound is met.
    """
    random = np.random.default_rng(6)
    networks = linear(random)
    obs = np.repeat(random.normal(size=(50, 2)), 2, axis=0).astype(f32)
    side = np.tile([1.0, -1.0], 50)
    sample = np.asarray(mlp(networks.actor, obs)) + np.exp(networks.log_std) * side[:, None].astype(
        f32
    )
    wanted = np.array([0.7, -0.2, 0.4])  # the direction of more reward, in (weights, bias)
    advantage = side * (np.concatenate([obs, np.ones((100, 1))], 1) @ wanted)
    # E[A z x] / sd = E[x x^T] wanted / sd; F^-1 of it = sd wanted: the weights move along `wanted`.
    new, found = improve(
        replace(LINEAR, max_kl=0.02), networks, obs, sample, jnp.asarray(advantage, f32)
    )
    step, fraction = moved(new, networks), float(found["step_fraction"])
    np.testing.assert_allclose(
        step[:3] / np.linalg.norm(step[:3]), wanted / np.linalg.norm(wanted), atol=1e-4
    )
    assert step[3] == pytest.approx(0, abs=1e-5)
    assert found["kl"] == pytest.approx(0.02 * fraction**2, rel=1e-3)
    assert fraction in (1.0, pytest.approx(0.8))  # 0.8 where rounding lifts the KL above its bound
    ratio = np.exp(
        np.asarray(
            Gaussians.of(new, obs).log_prob(sample) - Gaussians.of(networks, obs).log_prob(sample)
        )
    )
    assert found["surrogate_gain"] == pytest.approx(np.mean((ratio - 1) * advantage), rel=1e-3)


def batch(
    random: np.random.Generator, n: int = 64
) -> tuple[TRPONetworks, np.ndarray, np.ndarray, np.ndarray]:
    networks, obs = deep(random)
    obs = random.normal(size=(n, 3)).astype(f32)
    sample = np.asarray(mlp(networks.actor, obs)) + np.exp(networks.log_std) * random.normal(
        size=(n, 2)
    ).astype(f32)
    return networks, obs, sample, random.normal(size=n).astype(f32)


@pytest.mark.represented("1.0")
@pytest.mark.parametrize("max_kl", [1e-3, 1.0])
def test_an_accepted_step_keeps_its_bound_and_improves(max_kl: float) -> None:
    networks, obs, sample, advantage = batch(np.random.default_rng(7))
    learner = TRPO(max_kl=max_kl, backtracks=30)
    new, found = improve(learner, networks, obs, sample, advantage)
    old, after = Gaussians.of(networks, obs), Gaussians.of(new, obs)
    gain = np.mean(
        (np.exp(np.asarray(after.log_prob(sample) - old.log_prob(sample))) - 1) * advantage
    )
    assert 0 < found["step_fraction"] <= 1
    assert 0 < float(old.kl(after)) <= max_kl * (1 + 1e-4)
    np.testing.assert_allclose(found["kl"], old.kl(after), rtol=1e-3)
    assert found["surrogate_gain"] == pytest.approx(gain, rel=1e-3, abs=1e-6) and gain > 0


def test_the_first_good_step_is_taken_and_no_longer_one() -> None:
    networks, obs, sample, advantage = batch(np.random.default_rng(7))
    learner = TRPO(max_kl=3.0, backtracks=30, damping=1e-4)
    new, found = improve(learner, networks, obs, sample, advantage)
    fraction = float(found["step_fraction"])
    assert fraction < 0.5
    longer = jax.tree.map(lambda a, b: a + (b - a) / 0.8, networks, new)
    old, after = Gaussians.of(networks, obs), Gaussians.of(longer, obs)
    gain = np.mean(
        (np.exp(np.asarray(after.log_prob(sample) - old.log_prob(sample))) - 1) * advantage
    )
    assert old.kl(after) > 3.0 or gain <= 0
    tried = round(np.log(fraction) / np.log(0.8))
    same, _ = improve(replace(learner, backtracks=tried), networks, obs, sample, advantage)
    assert bits(same) == bits(new)
    stays, failed = improve(
        replace(learner, backtracks=tried - 1), networks, obs, sample, advantage
    )
    assert bits(stays) == bits(networks)
    assert failed["step_fraction"] == failed["kl"] == failed["surrogate_gain"] == 0


def test_without_an_advantage_the_policy_stays() -> None:
    networks, obs, sample, advantage = batch(np.random.default_rng(8))
    new, found = improve(TRPO(), networks, obs, sample, 0 * advantage)
    assert bits(new) == bits(networks)
    assert found["step_fraction"] == 0
    assert all(np.isfinite(value) for value in found.values())


# The linear critic.


def test_ridge_is_the_solution_of_the_normal_equations() -> None:
    random = np.random.default_rng(9)
    x, y = random.normal(size=(300, 4)), random.normal(size=300)
    x[:, 3] = x[:, 2]  # twice the same: without a penalty there is no one answer
    rows = np.concatenate([x, np.ones((300, 1))], 1)
    expected = np.linalg.solve(rows.T @ rows / 300 + 0.01 * np.eye(5), rows.T @ y / 300)
    ((w, b),) = ridge(x.astype(f32), y.astype(f32), 0.01)
    np.testing.assert_allclose(np.append(w, b), expected, rtol=1e-3, atol=1e-5)
    ((w, b),) = ridge(np.zeros((10, 2), f32), np.full(10, 3.0, f32), 1e-5)
    np.testing.assert_allclose(np.append(w, b), [0, 0, 3], atol=1e-3)


def test_ages_are_counted_from_where_an_episode_began() -> None:
    done = np.array([[0, 0], [1, 0], [0, 0], [0, 1]], bool)
    np.testing.assert_array_equal(
        ages(np.array([5, 0]), done), [[5, 0], [6, 1], [0, 2], [1, 3], [2, 0]]
    )


BASELINE = replace(LEARNER, critic="linear")


def linear_values(learner: TRPO, s: TRPOState, observation: float, age: list[int]) -> np.ndarray:
    obs = (np.full((len(age), 1), observation) - s.obs_moments.mean) / np.sqrt(
        s.obs_moments.variance + 1e-8
    )
    features = learner._critic_features(obs.astype(f32), None, np.array(age, f32))
    return np.asarray(mlp(s.value.critic, features))[:, 0] * np.sqrt(
        s.value.returns.variance + 1e-8
    )


def test_a_linear_critic_recovers_a_linear_value() -> None:
    # Without a future the value is the reward itself: 3 + 2 o - o^2 + 4 t - t^2, of observation o
    # and age t / 100.
    learner = TRPO(worlds=8, steps=50, critic="linear", discount=0.0)
    random = np.random.default_rng(10)
    obs = random.normal(size=(50, 8, 1)).astype(f32)
    age = np.arange(50)[:, None] / 100
    reward = 3 + 2 * obs[..., 0] - obs[..., 0] ** 2 + 4 * age - age**2
    none = np.zeros((50, 8), bool)
    tr = Transition(
        obs, obs, reward.astype(f32), obs, none, none, np.zeros((50, 8, 1), f32), {"sample": obs}
    )
    s = learner.observe(learner.init(probes.SPACES, jax.random.key(0)), tr)
    s = s._replace(
        value=s.value._replace(age=np.zeros(8, np.int64))
    )  # the same episodes, begun anew
    s, metrics = learner.learn(s, tr, jax.random.key(1))
    np.testing.assert_array_equal(s.value.age, 50)
    for o in (-1.0, 0.0, 2.0):
        t = np.array([0, 20, 49]) / 100
        expected = 3 + 2 * o - o**2 + 4 * t - t**2
        np.testing.assert_allclose(linear_values(learner, s, o, [0, 20, 49]), expected, atol=0.03)
    assert metrics["value_loss"] < 1e-4


def test_a_linear_critic_knows_the_time_that_no_observation_shows() -> None:
    # A reward of 1 a step for four steps: 1 + 0.9 + 0.81 + 0.729 = 3.439, 2.71, 1.9, 1.
    blind = probes.DEATH._replace(see=probes.nothing)
    s, metrics = probes.train(BASELINE, blind, 30)
    assert linear_values(BASELINE, s, 0.0, [0, 1, 2, 3]) == pytest.approx(
        [3.439, 2.71, 1.9, 1.0], abs=0.2
    )
    assert metrics["explained_variance"] > 0.9


# A whole round.


def transitions(steps: int, worlds: int, random: np.random.Generator) -> Transition:
    draw = lambda *shape: random.normal(size=(steps, worlds, *shape)).astype(f32)
    none = np.zeros((steps, worlds), bool)
    # A NaN action: what was executed after clipping is no part of an update, only the sample is.
    return Transition(
        draw(2),
        np.full((steps, worlds, 1), np.nan, f32),
        3 * draw(),
        draw(2),
        none,
        none.copy(),
        draw(1),
        {"sample": draw(1)},
    )


def state_for(learner: TRPO, networks: TRPONetworks) -> TRPOState:
    """A state with moments that are not the identity, and a critic that is not zero."""
    s = learner.init(Spaces(2, np.array([-1.0]), np.array([1.0]), 1), jax.random.key(0))
    critic = ((np.array([[0.5], [-1.0]], f32), np.array([0.3], f32)),)
    returns = Moments(np.int64(10), np.array(7.0), np.array(4.0))
    return s._replace(
        networks=jax.tree.map(jnp.asarray, networks),
        value=s.value._replace(
            critic=critic,
            optimizer=learner._init_optimizer(critic),
            returns=returns,
            running=np.array([1.0, 2.0]),
            age=np.array([4, 0]),
        ),
        obs_moments=Moments(np.int64(10), np.array([0.5, -0.5]), np.array([4.0, 0.25])),
    )


CASES = {"nothing ends": (False, False), "death": (True, False), "time limit": (False, True)}


@pytest.mark.parametrize("case", CASES)
def test_one_round_against_numpy(case: str) -> None:
    """Linear networks, one minibatch of all rows: the new weights by formulas, in float64."""
    learner = replace(LINEAR, max_kl=1e-3, damping=0.1, learning_rate=0.01)
    random = np.random.default_rng(11)
    networks, tr = linear(random), transitions(3, 2, random)
    tr.terminated[1, 0], tr.truncated[1, 0] = CASES[case]
    s = state_for(learner, networks)
    new, metrics = learner.learn(s, tr, jax.random.key(1))

    mean, std = np.array([0.5, -0.5]), np.array([2.0, 0.5])
    obs, next_obs = ((x.astype(np.float64) - mean) / std for x in (tr.obs, tr.next_obs))
    (w, b) = (np.asarray(x, np.float64) for x in s.value.critic[0])
    value, next_value = ((x @ w + b)[..., 0] for x in (obs, next_obs))
    delta = (
        tr.reward / 2.0 + 0.9 * next_value * ~tr.terminated - value
    )  # returns' variance 4: rewards are halved
    advantage = np.zeros((4, 2))
    for t in (2, 1, 0):
        advantage[t] = delta[t] + 0.72 * ~(tr.terminated[t] | tr.truncated[t]) * advantage[t + 1]
    advantage = advantage[:3].ravel()
    standard = (advantage - advantage.mean()) / advantage.std()
    rows, sample = obs.reshape(6, 2), tr.extra["sample"].reshape(6, 1)
    step = natural_step(networks, rows, sample, standard, 0.1, 1e-3)
    assert metrics["step_fraction"] > 0
    np.testing.assert_allclose(
        moved(new.networks, networks), metrics["step_fraction"] * step, rtol=5e-3, atol=1e-6
    )
    # R - V is the advantage itself; Adam's first step is g / (|g| + 1e-5) of the rate.
    gradient = np.append(-2 * (advantage[:, None] * rows).mean(0), -2 * advantage.mean())
    fitted = ravel_pytree(new.value.critic)[0] - ravel_pytree(s.value.critic)[0]
    np.testing.assert_allclose(fitted, -0.01 * gradient / (np.abs(gradient) + 1e-5), rtol=1e-3)

    np.testing.assert_allclose(metrics["value_loss"], np.mean(advantage**2), rtol=1e-4)
    np.testing.assert_allclose(metrics["value"], value.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["reward_scale"], 0.5, rtol=1e-6)
    explained = 1 - np.var(advantage) / np.var(advantage + value.ravel())
    np.testing.assert_allclose(metrics["explained_variance"], explained, rtol=1e-4)


def test_a_round_is_merged_into_the_moments_after_its_update() -> None:
    random = np.random.default_rng(12)
    tr = transitions(3, 2, random)
    tr.truncated[1, 1] = True
    s = state_for(LINEAR, linear(random))
    new, _ = LINEAR.learn(s, tr, jax.random.key(1))
    rows = tr.obs.reshape(6, 2).astype(np.float64)
    assert new.obs_moments.count == 16
    np.testing.assert_allclose(new.obs_moments.mean, (10 * s.obs_moments.mean + rows.sum(0)) / 16)
    # World 0 carries 1 in; world 1 is cut at the second step and begins the third from nothing.
    r = tr.reward.astype(np.float64)
    np.testing.assert_allclose(
        new.value.running, [0.729 + 0.81 * r[0, 0] + 0.9 * r[1, 0] + r[2, 0], r[2, 1]]
    )
    np.testing.assert_array_equal(new.value.age, [7, 1])
    assert new.value.returns.count == 16
    assert new.parameters.count == 0  # a critic that does not see them does not follow them


# Settings that cannot learn.


@pytest.mark.parametrize(
    "setting",
    [
        {"worlds": 0},
        {"steps": 0},
        {"epochs": 0},
        {"minibatch": 0},
        {"cg_iterations": 0},
        {"backtracks": 0},
        {"max_kl": 0.0},
        {"max_kl": float("nan")},
        {"learning_rate": -1.0},
        {"damping": -0.1},
        {"shrink": 0.0},
        {"shrink": 1.0},
        {"discount": 1.01},
        {"gae_decay": -0.1},
        {"initial_log_std": float("inf")},
    ],
    ids=str,
)
def test_a_setting_that_cannot_learn_is_refused(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(BadValue, match=f"^{name}=.*: needs a "):
        TRPO(**setting)


def test_an_unknown_critic_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown critic 'liner'; did you mean linear"):
        TRPO(critic="liner")


def test_a_minibatch_beyond_a_round_is_refused() -> None:
    learner = replace(LINEAR, minibatch=7)
    random = np.random.default_rng(13)
    with pytest.raises(BadValue, match="minibatch=7 is more than a round's 6 transitions"):
        learner.learn(
            state_for(learner, linear(random)), transitions(3, 2, random), jax.random.key(0)
        )


# Probes.


@pytest.mark.represented("linear-a seed")
@probes.over_seeds
@pytest.mark.parametrize("critic", ["mlp", "linear"])
def test_probe_action_matters(critic: str, seeds: range) -> None:
    def found(seed: int) -> list[float]:
        s, _ = probes.train(replace(LEARNER, critic=critic), probes.ACTION, 40, seed)
        return [*probes.actions(LEARNER, s, -1.0, 1.0), s.networks.log_std[0]]

    probes.check(
        found, seeds, [-0.53, 0.47, -np.inf], [-0.47, 0.53, -2.0]
    )  # nothing is left to try


@probes.over_seeds
def test_probe_an_action_is_paid_a_step_later(seeds: range) -> None:
    def found(seed: int) -> np.ndarray:
        return probes.actions(
            LEARNER, probes.train(LEARNER, probes.EARLY_ACTION, 40, seed)[0], -1.0, 1.0
        )

    probes.check(found, seeds, *probes.around([-0.5, 0.5], 0.03))


@pytest.mark.full
@probes.over_seeds
@pytest.mark.parametrize("critic", ["mlp", "linear"])
def test_a_privileged_critic_sees_the_dynamics_and_its_policy_does_not(
    critic: str, seeds: range
) -> None:
    learner = replace(LEARNER, critic=critic, privileged=True)

    def found(seed: int) -> list[float]:
        s, metrics = probes.train(learner, probes.HIDDEN_VALUE, 40, seed)
        _, dark = probes.train(replace(learner, privileged=False), probes.HIDDEN_VALUE, 40, seed)
        assert s.networks.actor[0][0].shape[0] == 1
        assert s.parameters.count == s.obs_moments.count
        told = (
            [probes.values(s, 0.0, parameter=coin)[0] for coin in (-1.0, 1.0)]
            if critic == "mlp"
            else [-1.0, 1.0]
        )
        return [metrics["explained_variance"], dark["explained_variance"], *told]

    probes.check(found, seeds, [0.95, -np.inf, -1.05, 0.95], [np.inf, 0.1, -0.95, 1.05])


@pytest.mark.parametrize("probe", [probes.ACTION, probes.EARLY_ACTION, probes.VALUE_ONE])
def test_every_round_keeps_the_bound(probe: probes.Probe) -> None:
    """By a KL of our own, in float64, over the round's states."""
    random = np.random.default_rng(0)
    s, worlds, taken = (
        LEARNER.init(probes.SPACES, jax.random.key(0)),
        probes.Played.begin(16, random),
        0,
    )
    for i in range(30):
        worlds, tr = probes.collect(probe, worlds, LEARNER.behaviour(s), 16, random)
        before = s
        s, metrics = LEARNER.learn(s, tr, jax.random.fold_in(jax.random.key(0), i))
        obs = (tr.obs.reshape(-1, 1) - before.obs_moments.mean) / np.sqrt(
            before.obs_moments.variance + 1e-8
        )
        obs = np.clip(obs, -10, 10).astype(f32)
        mean, new_mean = (
            np.asarray(mlp(each.networks.actor, obs), np.float64) for each in (before, s)
        )
        sd, new_sd = (np.exp(np.asarray(each.networks.log_std, np.float64)) for each in (before, s))
        kl = np.mean(np.log(new_sd / sd) + (sd**2 + (mean - new_mean) ** 2) / (2 * new_sd**2) - 0.5)
        assert kl <= 0.01 * (1 + 1e-3)
        assert metrics["kl"] == pytest.approx(kl, rel=1e-2, abs=1e-5)
        taken += metrics["step_fraction"] > 0
    assert taken > 20


# A round of the probes' learner.


def after_one_round(learner: TRPO, key: int = 1) -> tuple[TRPOState, TRPOState, dict[str, float]]:
    random = np.random.default_rng(0)
    s = learner.init(probes.SPACES, jax.random.key(0))
    _, tr = probes.collect(
        probes.ACTION, probes.Played.begin(16, random), learner.behaviour(s), 16, random
    )
    return s, *learner.learn(s, tr, jax.random.key(key))


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("critic", ["mlp", "linear"])
def test_an_update_is_decided_by_its_key(critic: str) -> None:
    learner = replace(LEARNER, critic=critic)
    _, first, metrics = after_one_round(learner)
    _, again, same = after_one_round(learner)
    assert bits(first) == bits(again) and metrics == same
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())
    _, other, _ = after_one_round(learner, key=2)
    assert bits(first.networks) == bits(
        other.networks
    )  # the key shuffles the critic's minibatches alone
    assert (bits(first.value.critic) == bits(other.value.critic)) == (critic == "linear")


def test_transfer_keeps_what_was_learned_and_begins_the_rest_anew() -> None:
    s, learned, _ = after_one_round(LEARNER)
    random = np.random.default_rng(0)
    _, tr = probes.collect(
        probes.DEATH, probes.Played.begin(16, random), LEARNER.behaviour(s), 6, random
    )
    learned = LEARNER.observe(learned, tr)
    assert learned.value.age.any() and learned.value.running.any()
    moved = LEARNER.warm_start(learned)
    assert bits(moved.networks) == bits(learned.networks)
    kept = lambda t: (t.obs_moments, t.value.returns, t.value.critic)
    assert bits(kept(moved)) == bits(kept(learned))
    assert bits(moved.value.optimizer) == bits(s.value.optimizer) != bits(learned.value.optimizer)
    np.testing.assert_array_equal(moved.value.running, np.zeros(16))
    np.testing.assert_array_equal(moved.value.age, np.zeros(16))
    assert LEARNER.with_num_worlds(3).rollout_shape == (3, 16)
    assert LEARNER.with_num_worlds(3).warm_start(learned).value.age.shape == (3,)


def test_policy_and_value_are_apart() -> None:
    """The value of another stream of rewards takes its place whole; the policy does not notice
    before it learns.
    """
    s, learned, _ = after_one_round(LEARNER)
    swapped = learned._replace(value=s.value)
    assert bits(LEARNER.behaviour(swapped)) == bits(LEARNER.behaviour(learned))
    random = np.random.default_rng(1)
    _, tr = probes.collect(
        probes.ACTION, probes.Played.begin(16, random), LEARNER.behaviour(learned), 16, random
    )
    a, b = (LEARNER.learn(each, tr, jax.random.key(3))[0] for each in (learned, swapped))
    assert bits(a.obs_moments) == bits(b.obs_moments)
    assert bits(a.networks) != bits(b.networks)
