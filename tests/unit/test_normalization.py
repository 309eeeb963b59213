"""Running moments, what a policy carries of them, and the running returns that scale rewards: by
hand and by NumPy.
"""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.learning.normalization import (
    Moments,
    Normalizer,
    discounted_returns,
    popart_inputs,
    popart_outputs,
)


def test_merge_by_hand() -> None:
    # 1, 3: mean 2, variance 1. With 6, 10 (mean 8, variance 4), delta = 6:
    # mean 2 + 6 * 2/4 = 5; variance (1*2 + 4*2 + 36 * 2*2/4) / 4 = 46/4 = 11.5.
    first = Moments.empty(()).merge(np.array([1.0, 3.0]))
    assert (first.count, first.mean, first.variance) == (2, 2.0, 1.0)
    both = first.merge(np.array([6.0, 10.0]))
    assert (both.count, both.mean, both.variance) == (4, 5.0, 11.5)


@pytest.mark.parametrize("sizes", [[1], [5], [1, 1, 1], [3, 100, 7, 1], [64, 0, 64]])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_merged_batches_have_the_moments_of_all_rows_together(
    sizes: list[int], offset: float
) -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(offset, [1.0, 0.01, 30.0], (n, 3)).astype(np.float32) for n in sizes]
    moments = Moments.empty(3)
    for batch in batches:
        moments = moments.merge(batch)
    together = np.concatenate(batches).astype(np.float64)
    assert moments.count == len(together)
    np.testing.assert_allclose(moments.mean, together.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, together.var(0), rtol=1e-7, atol=1e-12)


def test_moments_are_wide_enough_for_a_long_run() -> None:
    moments = Moments(np.int64(3_000_000_000), np.full(2, 5.0), np.ones(2)).merge(
        np.full((64, 2), 6.0, np.float32)
    )
    assert moments.count == 3_000_000_064
    assert isinstance(moments.count, np.int64)
    assert moments.mean.dtype == moments.variance.dtype == np.float64
    # One part in 5e7: float32 would not have moved.
    np.testing.assert_allclose(moments.mean - 5.0, 64 / 3_000_000_064, rtol=1e-6)


def test_no_rows_change_nothing() -> None:
    moments = Moments.empty(2).merge(np.ones((3, 2)))
    assert moments.merge(np.zeros((0, 2))) is moments


def test_merge_leaves_what_it_was_given() -> None:
    before = Moments.empty(2).merge(np.array([[1.0, 2.0], [3.0, 4.0]]))
    mean, variance = before.mean.copy(), before.variance.copy()
    before.merge(np.array([[100.0, 200.0]]))
    np.testing.assert_array_equal(before.mean, mean)
    np.testing.assert_array_equal(before.variance, variance)


def test_normalizer_by_hand() -> None:
    # mean 2, standard deviation 4: 10 -> 2, -6 -> -2; 43 -> 10.25 and -1000 -> -250.5 are clipped.
    normalizer = Normalizer.of(Moments(np.int64(8), np.array([2.0]), np.array([16.0])))
    x = np.array([[10.0], [-6.0], [43.0], [-1000.0]], np.float32)
    np.testing.assert_allclose(np.asarray(normalizer(x))[:, 0], [2.0, -2.0, 10.0, -10.0], rtol=1e-6)
    assert normalizer.mean.dtype == normalizer.std.dtype == np.float32
    assert np.asarray(normalizer(x)).dtype == np.float32


def test_what_never_varied_is_no_division_by_zero() -> None:
    moments = Moments.empty(1).merge(np.full((5, 1), 7.0))
    normalizer = Normalizer.of(moments)
    assert moments.variance[0] == 0.0
    assert np.asarray(normalizer(np.array([7.0], np.float32)))[0] == 0.0
    assert np.asarray(normalizer(np.array([8.0], np.float32)))[0] == 10.0  # 1 / 1e-4, clipped


def test_unfed_moments_leave_observations_as_they_are() -> None:
    x = np.array([-3.0, 0.5], np.float32)
    np.testing.assert_array_equal(np.asarray(Normalizer.of(Moments.empty(2))(x)), x)


def test_discounted_returns_are_cut_where_an_episode_ends() -> None:
    # World 0, never done, carries 2 in: 0.5*2 + 1 = 2, 0.5*2 + 1 = 2, ...
    # World 1, carries 4 in, done after the second step: 0.5*4 + 1 = 3, 0.5*3 + 2 = 3.5, then anew:
    # 3, 0.5*3 + 4.
    reward = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0]], np.float32)
    done = np.array([[False, False], [False, True], [False, False], [False, False]])
    start = np.array([2.0, 4.0])
    returns, running = discounted_returns(start, reward, done, 0.5)
    np.testing.assert_array_equal(returns, [[2.0, 3.0], [2.0, 3.5], [2.0, 3.0], [2.0, 5.5]])
    np.testing.assert_array_equal(running, [2.0, 5.5])
    np.testing.assert_array_equal(start, [2.0, 4.0])
    assert returns.dtype == np.float64


def test_an_end_at_the_last_step_starts_the_next_round_from_nothing() -> None:
    reward, done = np.array([[1.0], [1.0]], np.float32), np.array([[False], [True]])
    returns, running = discounted_returns(np.zeros(1), reward, done, 0.9)
    np.testing.assert_allclose(returns[:, 0], [1.0, 1.9])
    assert running[0] == 0.0


def test_rounds_one_after_the_other_equal_one_long_round() -> None:
    random = np.random.default_rng(1)
    reward, done = random.normal(size=(20, 3)).astype(np.float32), random.random((20, 3)) < 0.2
    whole, last = discounted_returns(np.zeros(3), reward, done, 0.99)
    first, running = discounted_returns(np.zeros(3), reward[:7], done[:7], 0.99)
    second, end = discounted_returns(running, reward[7:], done[7:], 0.99)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(end, last)


def test_weights_follow_moments_but_for_inputs_that_hardly_varied() -> None:
    """f(x) stays under other moments; a sensor that was constant keeps its weights, which would
    grow a thousandfold.
    """
    random = np.random.default_rng(0)
    before = Moments(np.int64(9), random.normal(size=3), np.array([1.0, 0.5, 0.0]))
    after = Moments(np.int64(99), random.normal(size=3), np.array([2.0, 0.1, 0.09]))
    weights, bias = (random.normal(size=shape).astype(np.float32) for shape in ((5, 4), (4,)))
    ((now, shifted), last) = popart_inputs(((weights, bias), "last"), before, after)
    x, more = random.normal(size=(20, 2)), random.normal(size=(20, 2))
    x = np.concatenate([x, np.full((20, 1), before.mean[2])], 1)  # the constant sensor
    then, there = (np.concatenate([np.asarray(Normalizer.of(m)(x.astype(np.float32))), more], 1)
                   for m in (before, after))  # fmt: skip
    there[:, 2] = then[:, 2]
    np.testing.assert_allclose(there @ now + shifted, then @ weights + bias, rtol=1e-4, atol=1e-4)
    assert last == "last" and np.array_equal(now[2:], weights[2:])


def test_values_are_rescaled_with_the_returns() -> None:
    layers = (("first",), (np.array([[2.0]], np.float32), np.array([4.0], np.float32)))
    moments = [
        Moments(np.int64(n), np.array(0.0), np.array(v)) for n, v in ((5, 1.0), (6, 4.0), (0, 1.0))
    ]
    first, (weights, bias) = popart_outputs(layers, *moments[:2])
    assert first == ("first",) and weights == pytest.approx(1.0) and bias == pytest.approx(2.0)
    assert popart_outputs(layers, moments[2], moments[1])[1][0] == 2.0, "nothing was scaled yet"
