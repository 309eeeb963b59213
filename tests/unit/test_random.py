"""Random numbers of worlds: each world's own, whoever its neighbours are; and good enough for
physics.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isthmus.physics.random import Single, Streams, fold, keys, mix

DRAWS = {
    "uniform": lambda random, size, where=None: random.uniform(-2.0, 3.0, size, where),
    "normal": lambda random, size, where=None: random.standard_normal(size, where),
}


def bits(array: np.ndarray) -> tuple:
    return array.dtype, array.shape, array.tobytes()


def test_mix_is_the_finalizer_of_splitmix64():
    """Vigna's splitmix64.c with seed 1234567 begins so
    (rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
    """
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + golden * (i + 1)) % 2**64 for i in range(3)], np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_of_a_longer_list_begin_alike():
    assert np.array_equal(keys(5, 1000)[:10], keys(5, 10))
    everything = np.concatenate([keys(seed, 1000) for seed in (0, 1, 2, 2**63, 2**64 - 1, -7)])
    assert len(np.unique(everything)) == len(everything)


def test_fold_tells_counters_apart():
    """By value, by place and by number."""
    key = keys(0, 4)
    derived = [
        key,
        fold(key, 0),
        fold(key, 1),
        fold(key, 0, 0),
        fold(key, 0, 1),
        fold(key, 1, 0),
        fold(key, -1),
    ]
    assert len(np.unique(np.concatenate(derived))) == 4 * len(derived)
    assert np.array_equal(fold(key, 3, 5), fold(fold(key, 3), 5))
    assert np.array_equal(
        fold(key, np.array([3, 4, 5, 6])),
        np.concatenate([fold(key[i : i + 1], 3 + i) for i in range(4)]),
    )


@pytest.mark.parametrize("what", ["key", "counter"])
def test_avalanche(what):
    """One input bit changed flips each output bit with probability a half."""
    samples = 2000
    base = keys(11, samples)
    counter = np.arange(samples)
    words = fold(base, counter)
    for bit in range(64):
        flip = np.uint64(1) << np.uint64(bit)
        other = (
            fold(base ^ flip, counter)
            if what == "key"
            else fold(base, counter.astype(np.uint64) ^ flip)
        )
        changed = np.unpackbits((words ^ other).view(np.uint8)).reshape(samples, 64).mean(0)
        assert abs(changed - 0.5).max() < 6 * 0.5 / samples**0.5  # 6 standard errors, 64 x 64 looks


@pytest.mark.parametrize("kind", DRAWS)
def test_moments_and_law(kind):
    x = DRAWS[kind](Streams(keys(1, 200)), 1000).ravel()
    law = stats.uniform(-2, 5) if kind == "uniform" else stats.norm()
    assert stats.kstest(x, law.cdf).pvalue > 1e-3
    error = law.std() / len(x) ** 0.5
    assert abs(x.mean() - law.mean()) < 4 * error
    assert abs(x.std() - law.std()) < 4 * error
    if kind == "uniform":
        assert x.min() >= -2
        assert x.max() < 3
    else:
        assert abs(stats.kurtosis(x)) < 4 * (24 / len(x)) ** 0.5


@pytest.mark.parametrize("kind", DRAWS)
def test_nothing_correlates(kind):
    """Neither worlds of neighbouring keys, nor places, nor seeds, nor episodes of one world."""
    n, size = 64, 2000
    draw = DRAWS[kind]
    key = keys(3, n)
    by_world = draw(Streams(key), size)
    by_place = draw(Streams(keys(3, size)), n).T
    by_seed = np.concatenate([draw(Streams(keys(seed, 1)), size) for seed in range(n)])
    by_episode = np.concatenate(
        [draw(Streams(fold(key[:1], episode)), size) for episode in range(n)]
    )
    raw = draw(
        Streams(np.arange(n, dtype=np.uint64)), size
    )  # even keys that differ in their lowest bits alone
    for x in (by_world, by_seed, by_episode, raw, by_place):
        correlation = np.corrcoef(x)[np.triu_indices(n, 1)]
        assert abs(correlation).max() < 5.5 / x.shape[1] ** 0.5
    for lag in (1, 2, 3, 7):
        assert (
            abs(np.corrcoef(by_world[:, :-lag].ravel(), by_world[:, lag:].ravel())[0, 1])
            < 4 / (n * size) ** 0.5
        )


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("size", [1, 2, 3, 6, 13])
def test_a_world_draws_the_same_in_any_company(kind, size):
    key = keys(9, 33)
    together = DRAWS[kind](Streams(key), size)
    for part in (slice(0, 1), slice(5, 8), slice(20, 33), np.array([31, 4, 17])):
        assert bits(DRAWS[kind](Streams(key[part]), size)) == bits(together[part])


@pytest.mark.parametrize("kind", DRAWS)
def test_streams_of_counters_are_those_of_their_fold(kind):
    key, episode, some = keys(4, 6), np.arange(6) * 7, np.array([1, 4])
    want = Streams(fold(key, 3, episode))
    whole = Streams(key, 3, episode)
    for random in (whole.select(some), whole.select(some)):  # each from its begin
        alone = Streams(fold(key, 3, episode)[some])
        assert bits(DRAWS[kind](random, 5)) == bits(DRAWS[kind](alone, 5))
    for random in (Streams(key, 3, episode), Streams(fold(key, 3), episode)):
        assert bits(DRAWS[kind](random, 5)) == bits(DRAWS[kind](want, 5))
        want = Streams(fold(fold(key, 3), episode))


@pytest.mark.parametrize("kind", DRAWS)
def test_streams_move_on(kind):
    """Two draws follow each other, and together they are one long draw of uniforms."""
    key = keys(2, 5)
    random = Streams(key)
    first, second = DRAWS[kind](random, 3), DRAWS[kind](random, 4)
    assert not np.isin(second, first).any()
    if kind == "uniform":
        assert bits(np.concatenate([first, second], axis=1)) == bits(DRAWS[kind](Streams(key), 7))
    again = Streams(key)
    assert bits(DRAWS[kind](again, 3)) == bits(first)
    assert bits(DRAWS[kind](again, 4)) == bits(second)


@pytest.mark.parametrize("kind", DRAWS)
def test_worlds_left_out_keep_their_place(kind):
    key = keys(4, 6)
    where = np.array([True, False, True, False, False, True])
    random = Streams(key)
    DRAWS[kind](random, 2)
    masked = DRAWS[kind](random, 3, where)
    after = DRAWS[kind](random, 4)
    for i in range(6):
        alone = Streams(key[i : i + 1])
        DRAWS[kind](alone, 2)
        if where[i]:
            assert bits(DRAWS[kind](alone, 3)) == bits(masked[i : i + 1])
        assert bits(DRAWS[kind](alone, 4)) == bits(after[i : i + 1])


def test_normals_are_finite_at_both_ends():
    """Box-Muller takes the logarithm of a uniform: the extreme words must not give log 0."""

    class Extreme(Streams):
        def _bits(self, size, where):
            words = np.array([0, 2**64 - 1], np.uint64)
            return np.stack([np.repeat(words, 2), np.tile(words, 2)], axis=1)

    x = Extreme(keys(0, 4)).standard_normal(1)
    assert np.isfinite(x).all()
    assert 8 < abs(x).max() < 9


def test_single_is_the_generator():
    random, generator = Single(np.random.default_rng(5)), np.random.default_rng(5)
    assert bits(random.uniform(-0.5, 2.0, 4)) == bits(generator.uniform(-0.5, 2.0, 4)[None])
    assert bits(random.standard_normal(3)) == bits(generator.standard_normal(3)[None])
    assert bits(random.uniform(0.0, 1.0, 2, where=np.array([True]))) == bits(
        generator.uniform(0.0, 1.0, 2)[None]
    )
    assert random.generator.bit_generator.state == generator.bit_generator.state
