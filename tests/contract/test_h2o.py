"""H2O: what its critics learn, by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from isthmus.learning.classifiers import Classifiers
from isthmus.learning.networks import mlp
from isthmus.learning.sac import SAC, SACBatch, q_values, squashed_sample
from isthmus.methods import registry
from isthmus.methods.h2o import H2O, H2OCarry
from isthmus.types import BadValue, Spaces

SPACES = Spaces(3, -np.ones(2, np.float32), np.ones(2, np.float32))
SMALL = H2O(
    learner=SAC(hidden=(16,), minibatch=8, capacity=8, soft_targets=False, tau=1.0),
    classifiers=Classifiers(hidden=(8,), noise=0.0, bound=2.0, learning_rate=1e-30),
    weight=0.3,
)


def batch(seed: int) -> SACBatch:
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    return SACBatch(draw(8, 3), np.tanh(draw(8, 2)), draw(8), draw(8, 3), random.random(8) < 0.2)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def begun() -> H2OCarry:
    learned = SMALL.learner.init(SPACES, jax.random.key(0)).learned
    return H2OCarry(
        learned, SMALL.classifiers.init(3, 2, jax.random.key(1)), np.full(3, 0.5, np.float32)
    )


@jax.jit
def updated(carry: H2OCarry, batches: tuple[SACBatch, SACBatch], key: Any) -> Any:
    return SMALL.update(carry, batches, key)


def test_the_critics_gradient_is_that_of_the_paper() -> None:
    """Adam's first step has the gradient's sign: so its moments are compared, which are a tenth of
    the gradient.
    """
    carry, source, logged, key = begun(), batch(2), batch(3), jax.random.key(4)
    after, told = updated(carry, (source, logged), key)
    first, real = (jax.tree.map(lambda x: x[:4], b) for b in (source, logged))
    _, k_near, k_sac = jax.random.split(key, 3)
    # u and w from the classifiers' odds; their learning rate is nothing, so that they stayed what
    # they were.
    pair = jax.tree.map(lambda x: x[0], carry.classifiers.pairs)

    @jax.jit
    def judge(seen: Any, next_obs: Any) -> tuple[jax.Array, jax.Array]:
        sa = 2 * jnp.tanh(mlp(pair.of_action, seen, jax.nn.relu))
        after = jnp.concatenate([seen, next_obs], 1)
        return sa, sa + 2 * jnp.tanh(mlp(pair.of_transition, after, jax.nn.relu))

    def odds(next_obs: Any) -> np.ndarray:  # p_tgt / p_src
        seen = np.concatenate([first.obs, first.action], 1), next_obs
        sa, sas = (softmax(np.asarray(x, np.float64)) for x in judge(*seen))
        return (sas[:, 1] * sa[:, 0]) / (sas[:, 0] * sa[:, 1])

    near = 0.5 * np.asarray(jax.random.normal(k_near, (10, 4, 3)))
    u = np.clip(np.mean([-np.log(odds(first.next_obs + each)) for each in near], 0), 1e-30, 10)
    assert (u > 1e-3).any() and told["gap"] == pytest.approx(u.mean(), rel=1e-3)
    w = np.clip(odds(first.next_obs), 1e-5, 1)
    assert told["importance"] == pytest.approx(w.mean(), rel=1e-3)
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, real)

    # y of SAC without entropy: with another temperature the same.
    @jax.jit
    def target(learned: Any) -> Any:
        k_noise, _ = jax.random.split(k_sac)
        noise = jax.random.normal(k_noise, (2, 8, 2))[0]
        action, _ = squashed_sample(learned.actor, both.next_obs, noise)
        return both.reward + 0.99 * (1 - both.terminated) * q_values(
            learned.targets, both.next_obs, action
        ).min(0)

    y = target(carry.learned)

    def loss(critics: Any) -> Any:
        q = q_values(critics, both.obs, both.action)
        errors = (
            (np.concatenate([w, np.ones(4)]) * jnp.square(q - y)).reshape(2, 2, 4).mean(2).sum()
        )  # either half's
        apart = jnp.log((u / u.sum() * jnp.exp(q[:, :4])).sum(1)) - q[:, 4:].mean(1)
        return errors + 0.3 * apart.sum()

    gradient, _ = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(loss))(carry.learned.critics))
    moments = [x for x in jax.tree.leaves(after.learned.optimizers[1]) if x.shape == gradient.shape]
    # SAC's loss is half the mean over both halves: a fourth of theirs, which Adam does not tell
    # from it.
    np.testing.assert_allclose(moments[0], 0.1 * gradient / 4, rtol=2e-3, atol=1e-6)


def test_half_of_a_minibatch_is_the_logs() -> None:
    """What the other halves hold changes nothing but the classifiers."""
    carry, source, logged, key = begun(), batch(2), batch(3), jax.random.key(4)
    other = lambda b: jax.tree.map(lambda x: np.concatenate([x[:4], x[:4]]), b)
    one, two = (
        updated(carry, (source, logged), key)[0],
        updated(carry, (other(source), other(logged)), key)[0],
    )
    jax.tree.map(np.testing.assert_array_equal, one.learned, two.learned)


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"learner.minibatch": 33}, {"learner": "ppo"}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=r"learner=sac|even number|weight"):
        registry.build("h2o", wrong)
