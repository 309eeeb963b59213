"""DARC's classifiers on a pair of domains whose ratio is known, and what DAP's Eq. 3 makes of two
actions.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from isthmus.learning.classifiers import (
    Classifiers,
    ClassifiersState,
    DomainClassifier,
    TransitionBatch,
    delta_reward,
    disagreement,
    log_odds,
)
from isthmus.learning.distributions import coarse_normal
from isthmus.learning.networks import mlp
from isthmus.papers.dap.linear_gaussian import (
    TARGET_GAIN,
    draw_log,
    draw_uniform,
    fit_classifiers,
    log_density,
    measure_errors,
)
from isthmus.types import BadValue


class Trained(NamedTuple):
    classifiers: Classifiers
    state: ClassifiersState
    accuracy: float


@cache
def trained(low: float = -1.0, noise: float = 0.0, gain: float = TARGET_GAIN) -> Trained:
    """Classifiers of 100,000 transitions of either domain; the target's actions are uniform in
    low..1.
    """
    random = np.random.default_rng(0)
    source, target = draw_uniform(random, 100_000, 1.0), draw_uniform(random, 100_000, gain, low)
    classifiers = Classifiers(noise=noise, learning_rate=3e-3)
    state, accuracy = fit_classifiers(classifiers, 6000, 512, source, target)
    return Trained(classifiers, state, float(accuracy[-500:].mean()))


@pytest.mark.represented("-1.0")
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_delta_r_is_the_ratio_of_the_dynamics_whatever_actions_were_taken(low: float) -> None:
    """On unseen transitions of the source, with actions that both domains have seen."""
    classifiers, state, _ = trained(low)
    seen = draw_uniform(np.random.default_rng(1), 5_000, 1.0, low)
    truth = log_density(seen, TARGET_GAIN) - log_density(seen, 1.0)
    found = np.asarray(classifiers.delta(state, seen, seen))
    usual = (
        np.abs(truth) < 4
    )  # where both domains have been: one in fifty of either's transitions is of the other
    assert usual.mean() > 0.7
    assert np.corrcoef(found[usual], truth[usual])[0, 1] > 0.98
    error = found[usual] - truth[usual]
    assert abs(error.mean()) < 0.1 and error.std() < 0.3 * truth[usual].std()


def test_domains_that_are_alike_cannot_be_told_apart() -> None:
    classifiers, state, accuracy = trained(gain=1.0)
    seen = draw_uniform(np.random.default_rng(2), 5_000, 1.0)
    delta = np.asarray(classifiers.delta(state, seen, seen))
    assert accuracy == pytest.approx(0.5, abs=0.02)
    assert abs(delta.mean()) < 0.02 and delta.std() < 0.1


@pytest.mark.full
def test_noise_on_what_they_see_makes_classifiers_timid() -> None:
    seen = draw_uniform(np.random.default_rng(3), 5_000, 1.0)
    plain, noisy = (
        np.asarray(t.classifiers.delta(t.state, seen, seen)).std()
        for t in (trained(), trained(noise=1.0))
    )
    assert noisy < 0.3 * plain


@pytest.mark.full
@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_noise_drawn_apart_pays_for_where_the_log_has_been(kept: float) -> None:
    """Two domains that do not differ, s' = kept s + a + noise, and a log of another policy: true
    delta_r is 0.

    The second classifier sees (s, a) anew, and adds what that says to what the first one knows.
    Under noise that both share it has nothing to add, but where s' - s tells of s: then it adds
    more.
    """
    random, found = np.random.default_rng(0), []
    source, log, seen = (
        drawn._replace(next_obs=drawn.next_obs - np.float32(1 - kept) * drawn.obs)
        for drawn in (
            draw_uniform(random, 50_000, 1.0),
            draw_log(random, 20_000, 1.0),
            draw_uniform(random, 5_000, 1.0),
        )
    )
    for shared in (False, True):
        classifiers = Classifiers(noise=1.0, shared_noise=shared, learning_rate=3e-3)
        state, _ = fit_classifiers(classifiers, 2000, 256, source, log)
        odds = log_odds(state.pairs.of_action, np.concatenate(seen[:2], 1))[0]
        delta = np.asarray(classifiers.delta(state, seen, seen))
        found.append((delta.std(), np.corrcoef(delta, np.asarray(odds))[0, 1]))
    (apart, follows), (together, _) = found
    if kept == 1:
        assert apart > 0.4 and follows > 0.8 and together < 0.15
    else:
        assert together > 2 * apart


def mixture(seen: TransitionBatch, action: np.ndarray) -> np.ndarray:
    """log p(s' | s, a), p half of either domain; all actions are as likely in both."""
    return np.logaddexp(
        log_density(seen, 1.0, action), log_density(seen, TARGET_GAIN, action)
    ) - np.log(2)


def closed_form(seen: TransitionBatch, deployed: np.ndarray) -> np.ndarray:
    """Eq. 3 with classifiers that know: q(tgt | s, a, s') = p_tgt / (p_src + p_tgt), q(. | s, a) =
    1/2.
    """
    target = log_density(seen, TARGET_GAIN, deployed) - mixture(seen, deployed) - np.log(2)
    source = log_density(seen, 1.0) - mixture(seen, np.asarray(seen.action, np.float64)) - np.log(2)
    return target - np.log(0.5) - source + np.log(0.5)


def test_with_two_actions_eq_3_is_the_ratio_less_a_term_of_the_mixture() -> None:
    seen = draw_uniform(np.random.default_rng(4), 5_000, 1.0)
    deployed = np.asarray(seen.action, np.float64) / TARGET_GAIN
    truth = log_density(seen, TARGET_GAIN, deployed) - log_density(seen, 1.0)
    np.testing.assert_allclose(
        truth, 0, atol=1e-4
    )  # this a_tgt does in the target just what a_src did; float32
    dropped = mixture(seen, deployed) - mixture(seen, np.asarray(seen.action, np.float64))
    np.testing.assert_allclose(closed_form(seen, deployed), truth - dropped, atol=1e-9)
    # The action that compensates is not the one that Eq. 3 pays most.
    best = lambda paid: max(
        np.linspace(0, 1, 41), key=lambda share: paid(share * np.asarray(seen.action)).mean()
    )
    right = best(lambda a: log_density(seen, TARGET_GAIN, a.astype(np.float64)))
    chosen = best(lambda a: closed_form(seen, a.astype(np.float64)))
    assert right == pytest.approx(1 / TARGET_GAIN, abs=0.026)
    assert abs(chosen - right) > 0.1


def test_the_classifiers_find_eq_3_where_the_actions_differ() -> None:
    """What they estimate is the closed form with the mixture's term, not the ratio."""
    classifiers, state, _ = trained()
    seen = draw_uniform(np.random.default_rng(5), 5_000, 1.0)
    deployed = seen._replace(action=seen.action / np.float32(TARGET_GAIN))
    found = np.asarray(classifiers.delta(state, seen, deployed))
    expected = closed_form(seen, np.asarray(deployed.action, np.float64))
    usual = np.abs(expected) < 3
    assert np.corrcoef(found[usual], expected[usual])[0, 1] > 0.95
    assert abs((found - expected)[usual].mean()) < 0.1


def test_an_ensemble_disagrees_where_it_has_seen_nothing() -> None:
    classifiers = Classifiers(members=5, noise=0.0, learning_rate=3e-3)
    random = np.random.default_rng(6)
    state, _ = fit_classifiers(
        classifiers,
        2000,
        256,
        draw_uniform(random, 20_000, 1.0),
        draw_uniform(random, 20_000, TARGET_GAIN),
    )
    known, unknown = (
        np.linspace(-2, 2, 101, dtype=np.float32)[:, None],
        np.float32([[8.0], [-8.0], [16.0], [-16.0]]),
    )
    near, far = (np.asarray(disagreement(state.pairs, s, 0 * s)) for s in (known, unknown))
    assert far.mean() > 5 * near.mean()  # 10 to 31 times on four seeds
    assert far.min() > near.max()
    # The standard deviation over members of log q(tgt | s, a), one by one.
    one = []
    for i in range(5):
        (w, b), (v, c) = jax.tree.map(lambda x, i=i: np.asarray(x[i]), state.pairs.of_action)
        two = np.maximum(np.concatenate([unknown, 0 * unknown], 1) @ w + b, 0) @ v + c
        one.append(two[:, 1] - np.logaddexp(two[:, 0], two[:, 1]))
    np.testing.assert_allclose(far, np.std(one, axis=0), rtol=1e-3)


@pytest.mark.parametrize("bound", [0.0, 2.0])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_log_odds_are_the_difference_of_two_logits(hidden: tuple[int, ...], bound: float) -> None:
    """Of each member, and their slopes."""
    state = Classifiers(hidden=hidden, members=3).init(2, 1, jax.random.key(0))
    x = np.random.default_rng(7).normal(size=(20, 3)).astype(np.float32)

    def by_member(network: Any) -> Any:
        y = jax.vmap(lambda member: mlp(member, x, jax.nn.relu))(network)
        y = bound * jnp.tanh(y) if bound else y
        return y[..., 1] - y[..., 0]

    network = state.pairs.of_action
    found = log_odds(network, x, bound)
    assert found.shape == (3, 20) and np.abs(found[0] - found[1]).max() > 0.1
    np.testing.assert_allclose(found, by_member(network), rtol=1e-5, atol=1e-5)
    slopes = [
        jax.grad(lambda n, f=f: jnp.square(f(n)).sum())(network)
        for f in (by_member, lambda n: log_odds(n, x, bound))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *slopes)


def test_an_update_descends_both_cross_entropies() -> None:
    """Adam's first moments are a tenth of the gradient of -log q of the right domain."""
    classifiers = Classifiers(members=2, noise=0.0)
    state = classifiers.init(1, 1, jax.random.key(0))
    random = np.random.default_rng(8)
    source, target = draw_uniform(random, 32, 1.0), draw_uniform(random, 32, TARGET_GAIN)
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), source, target)

    def loss(pairs: DomainClassifier) -> Any:
        total = 0.0
        for i in range(2):
            of_action, of_transition = jax.tree.map(lambda x, i=i: x[i], pairs)
            first = mlp(of_action, np.concatenate(both[:2], 1), jax.nn.relu)
            second = first + mlp(of_transition, np.concatenate(both, 1), jax.nn.relu)
            for z in (first, second):
                right = jax.nn.log_softmax(z)
                total -= jnp.concatenate([right[:32, 0], right[32:, 1]]).mean()
        return total

    after, told = classifiers.update(state, source, target, jax.random.key(1))
    gradient, _ = jax.flatten_util.ravel_pytree(jax.grad(loss)(state.pairs))
    moments = next(x for x in jax.tree.leaves(after.optimizer) if x.shape == gradient.shape)
    np.testing.assert_allclose(moments, 0.1 * gradient, rtol=1e-4, atol=1e-6)
    assert told["classifier_loss"] == pytest.approx(float(loss(state.pairs)) / 2, rel=1e-5)


@pytest.mark.parametrize("bound", [0.0, 2.0])
def test_delta_r_of_equal_actions_is_what_the_second_head_adds(bound: float) -> None:
    classifiers = Classifiers(members=3, bound=bound)
    state = classifiers.init(1, 1, jax.random.key(0))
    seen = draw_uniform(np.random.default_rng(9), 64, 1.0)
    ratio = np.asarray(classifiers.log_ratio(state, seen))
    assert ratio.std() > 0.1
    np.testing.assert_allclose(classifiers.delta(state, seen, seen), ratio, rtol=1e-4, atol=1e-5)


def test_noise_is_gaussian() -> None:
    """Its moments, its distribution and that no draw tells of another."""
    drawn = np.asarray(coarse_normal(jax.random.key(3), (1000, 1001)))
    assert drawn.shape == (1000, 1001) and drawn.dtype == np.float32
    x = drawn.ravel().astype(np.float64)
    error = 1 / np.sqrt(x.size)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = np.sqrt(prod_odd(2 * power) - moment**2) * error
        assert (x**power).mean() == pytest.approx(moment, abs=4 * spread + 2e-3 * (power > 4))
    assert kstest(x, "norm").pvalue > 0.01
    halves = np.split(x[: x.size // 2 * 2], 2)  # the two draws of one word
    for a, b in (halves, (x[:-1], x[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 * error
        assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5 * error
    assert 4 < np.abs(x).max() < 4.4


def prod_odd(power: int) -> int:
    """E x^power of N(0, 1), even powers."""
    return int(np.prod(np.arange(1, power, 2)))


@pytest.mark.parametrize(("shared", "columns"), [(False, 2 + 3), (True, 1)])
def test_noise_is_drawn_apart_or_once(shared: bool, columns: int) -> None:
    """To (s, a) and (s, a, s'): so many independent columns, of the said deviation."""
    zero = TransitionBatch(*(np.zeros((4000, 1), np.float32) for _ in range(3)))
    seen = Classifiers(noise=0.5, shared_noise=shared)._add_noise(zero, jax.random.key(0))
    added = np.concatenate(seen, 1)
    moved = added[:, np.ptp(added, axis=0) > 0]
    np.testing.assert_allclose(moved.std(0), 0.5, rtol=0.05)
    assert np.linalg.matrix_rank(added) == columns
    if shared:
        np.testing.assert_array_equal(added[:, [0, 2, 4]], added[:, [0] * 3])
    else:
        correlations = np.corrcoef(added.T) - np.eye(5)
        assert np.abs(correlations).max() < 0.07


def test_delta_r_by_hand() -> None:
    """One number each; no hidden layer, so that logits are sums: SA (0, a), head (0, s')."""
    zero, column = np.zeros(2, np.float32), lambda *x: np.array([[0, v] for v in x], np.float32)
    pair = DomainClassifier(((column(0, 1), zero),), ((column(0, 0, 1), zero),))
    one = jax.tree.map(lambda x: x[None], pair)  # an ensemble of it alone
    row = lambda s, a, n: TransitionBatch(*(np.full((1, 1), v, np.float32) for v in (s, a, n)))
    same = row(0.3, 0.5, 2.0)
    assert float(delta_reward(one, same, same)[0, 0]) == pytest.approx(
        2.0, rel=1e-6
    )  # the head alone
    # log q(tgt|a_tgt,s') - log q(tgt|a_tgt), a_tgt = 1: logits 3 and 1.
    # -log q(src|a_src,s') + log q(src|a_src): 2.5 and 0.5.
    softplus = lambda x: np.log1p(np.exp(x))
    expected = (-softplus(-3) + softplus(-1)) + (softplus(2.5) - softplus(0.5))
    assert float(delta_reward(one, same, row(0.3, 1.0, 2.0))[0, 0]) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.full
def test_what_is_measured_of_their_errors() -> None:
    """A log of half the source's region: off it there is nothing to learn from, and the ensemble
    knows.
    """
    told = measure_errors(0, members=3, updates=3000)
    assert 0.3 < told["off_support"] < 0.7 and told["classifier_accuracy"] > 0.7
    assert abs(told["bias_on"]) < 0.3 * abs(told["bias_off"])
    assert told["spearman"] > 0.3 and told["microseconds"] > 0


@pytest.mark.parametrize("wrong", [{"learning_rate": 0}, {"noise": -1.0}, {"members": 0}])
def test_numbers_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(BadValue, match=next(iter(wrong))):
        Classifiers(**wrong)
