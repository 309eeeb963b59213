"""Networks: orthogonal at the start, and what a forward pass computes."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy.stats import norm

from isthmus.learning.networks import init_mlp, mlp, orthogonal

RECORDED = {
    (256, 256): "006297434940",
    (17, 64): "958cc192f1f9",
    (64, 6): "70db346800f1",
    (3, 1): "c4d53d6b160a",
}
"""Shapes of weights, and the first digits of the SHA-256 of what keys 0, 1, ... give."""


@pytest.mark.parametrize("sizes", [(5, 8, 8, 2), (8, 3), (3, 16, 1)])
def test_weights_begin_orthogonal(sizes: tuple[int, ...]) -> None:
    layers = init_mlp(jax.random.key(0), sizes, 0.01)
    assert [w.shape for w, _ in layers] == list(pairwise(sizes))
    for i, (weights, bias) in enumerate(layers):
        weights = np.asarray(weights, np.float64)
        scale = 0.01 if i == len(layers) - 1 else np.sqrt(2)
        # The smaller side's vectors are orthogonal to each other and `scale` long.
        gram = weights.T @ weights if weights.shape[0] >= weights.shape[1] else weights @ weights.T
        np.testing.assert_allclose(gram, scale**2 * np.eye(len(gram)), atol=1e-5 * scale**2)
        np.testing.assert_array_equal(np.asarray(bias), 0.0)


@pytest.mark.parametrize("shape", [(17, 64), (64, 17), (5, 5), (1, 3), (300, 260)])
def test_weights_are_the_factor_of_a_qr_decomposition(shape: tuple[int, int]) -> None:
    """Held against LAPACK, whose last bits depend on the CPU."""
    key = jax.random.key(7)
    long, short = max(shape), min(shape)
    bits = np.asarray(jax.random.bits(key, (2**17 if long * short > 2**16 else 2**16,)))[
        : long * short
    ]
    q, r = np.linalg.qr(norm.ppf((bits + 0.5) / 2**32).reshape(long, short))
    q *= np.sign(np.diag(r))
    want = 0.1 * (q if shape == q.shape else q.T)
    np.testing.assert_allclose(np.asarray(orthogonal(key, shape, 0.1)), want, atol=1e-7)


def test_weights_are_the_same_on_every_cpu() -> None:
    """Recorded once: neither the kernels that OpenBLAS takes, nor its threads, nor AVX-512 change a
    bit.
    """
    digests = [
        hashlib.sha256(np.asarray(orthogonal(jax.random.key(i), shape)).tobytes()).hexdigest()[:12]
        for i, shape in enumerate(RECORDED)
    ]
    assert digests == list(RECORDED.values())


def test_layers_of_one_shape_are_not_the_same_draw() -> None:
    layers = init_mlp(jax.random.key(0), (4, 4, 4, 4), np.sqrt(2))
    assert len({np.asarray(w).tobytes() for w, _ in layers}) == 3
    other = init_mlp(jax.random.key(1), (4, 4, 4, 4), np.sqrt(2))
    assert all(np.any(np.asarray(a) != np.asarray(b)) for (a, _), (b, _) in zip(layers, other))


def test_networks_are_single_precision() -> None:
    for leaf in jax.tree.leaves(init_mlp(jax.random.key(0), (3, 4, 2), 1.0)):
        assert leaf.dtype == np.float32
        assert not leaf.weak_type


def test_forward_by_hand() -> None:
    # Hidden: (1*0.5 - 2*1 + 0.5, 1*2 + 2*0 - 1) = (-1, 1), tanh (-0.761594, 0.761594).
    # Output: -0.761594*3 + 0.761594*1 + 10 = 8.476812; no tanh after it.
    f = np.float32
    layers = (
        (np.array([[0.5, 2.0], [-1.0, 0.0]], f), np.array([0.5, -1.0], f)),
        (np.array([[3.0], [1.0]], f), np.array([10.0], f)),
    )
    np.testing.assert_allclose(
        np.asarray(mlp(layers, np.array([1.0, 2.0], f))), [8.476812], rtol=1e-6
    )


def test_one_layer_is_linear() -> None:
    # 2*1 + 3*(-1) + 4 = 3
    layers = ((np.array([[1.0], [-1.0]], np.float32), np.array([4.0], np.float32)),)
    np.testing.assert_array_equal(np.asarray(mlp(layers, np.array([2.0, 3.0], np.float32))), [3.0])


def test_leading_axes_are_batches() -> None:
    layers = init_mlp(jax.random.key(0), (3, 4, 2), 1.0)
    x = np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32)
    whole = np.asarray(mlp(layers, x))
    assert whole.shape == (5, 6, 2)
    np.testing.assert_allclose(whole[2, 3], np.asarray(mlp(layers, x[2, 3])), rtol=1e-5, atol=1e-6)
