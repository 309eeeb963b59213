"""A pair of domains whose densities are known: s' = s + g a + noise, g = 1 in the source and 1.5 in
the target. What DARC's classifiers get wrong off the log, and whether an ensemble's disagreement
tells where.
"""

from __future__ import annotations

import time
from functools import partial

import jax
import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from isthmus.learning.classifiers import (
    Classifiers,
    ClassifiersState,
    TransitionBatch,
    disagreement,
)
from isthmus.types import Array

GAIN, SD = 1.5, 0.3  # of the target's motor, of the noise; the action that compensates is a / GAIN

LOGGED, HELD_OUT = 20_000, 5_000  # transitions
ACTION_STATES = 500  # states in which an action is chosen
# on what the classifiers see: DARC's 1.0 is three times SD, and would leave nothing to tell apart
CLASSIFIER_NOISE = 0.1


def draw(random: np.random.Generator, n: int, gain: float, low: float = -1.0) -> TransitionBatch:
    """n transitions of states N(0, 1) and actions uniform in low..1."""
    return moved(random, random.normal(size=(n, 1)), random.uniform(low, 1, (n, 1)), gain)


def steered(random: np.random.Generator, n: int, gain: float) -> TransitionBatch:
    """n transitions of a policy that brings the state to 0: what a log has, a part of what `draw`
    sees.
    """
    s = random.normal(scale=0.5, size=(n, 1))
    return moved(random, s, np.clip(-0.5 * s + 0.2 * random.normal(size=(n, 1)), -1, 1), gain)


def moved(
    random: np.random.Generator, s: np.ndarray, a: np.ndarray, gain: float
) -> TransitionBatch:
    return TransitionBatch(
        *(x.astype(np.float32) for x in (s, a, s + gain * a + SD * random.normal(size=s.shape)))
    )


def log_density(seen: TransitionBatch, gain: float, action: np.ndarray | None = None) -> np.ndarray:
    """log p(s' | s, a) (B,), but for the normal's constant, which is the same in both domains."""
    obs, a, next_obs = (np.asarray(x, np.float64)[:, 0] for x in seen)
    a = a if action is None else action[:, 0]
    return -((next_obs - obs - gain * a) ** 2) / (2 * SD**2)


def fit(
    classifiers: Classifiers,
    steps: int,
    size: int,
    source: TransitionBatch,
    target: TransitionBatch,
    seed: int = 0,
) -> tuple[ClassifiersState, Array]:
    """New classifiers after so many updates on batches of either domain, and their accuracy in each
    (steps,).
    """
    new, key = _begin(classifiers, seed)
    return _update(classifiers, steps, size, source, target, new, key)


def _begin(classifiers: Classifiers, seed: int) -> tuple[ClassifiersState, Array]:
    first, others = jax.random.split(jax.random.key(seed))
    return classifiers.init(1, 1, first), others


@partial(jax.jit, static_argnums=(0, 1, 2))
def _update(
    classifiers: Classifiers,
    steps: int,
    size: int,
    source: TransitionBatch,
    target: TransitionBatch,
    s: ClassifiersState,
    key: Array,
) -> tuple[ClassifiersState, Array]:
    def step(state: ClassifiersState, key: Array) -> tuple[ClassifiersState, Array]:
        one, other = jax.random.split(key)
        batch = lambda k, seen: jax.tree.map(
            lambda x: x[jax.random.randint(k, (size,), 0, len(x))], seen
        )
        state, told = classifiers.update(state, batch(one, source), batch(other, target), key)
        return state, told["classifier_accuracy"]

    return jax.lax.scan(step, s, jax.random.split(key, steps))


def errors(seed: int, members: int, updates: int) -> dict[str, float]:
    """Of an ensemble trained on a log of `steered` and a source seen more widely, on unseen
    transitions of the source.

    bias_on, bias_off   mean error of delta_r where the log has been, and elsewhere: farther from it, in (s, a), than
                        all but a hundredth of what the same policy would log anew
    bias_led            the same at the action, of a hundred, that the estimate pays most: where a policy is led
    off_support         the share of transitions elsewhere
    spearman            rank correlation of u, DAP+U's disagreement, with the absolute error
    microseconds        of an update
    """
    random = np.random.default_rng(seed)
    log, source = steered(random, LOGGED, GAIN), draw(random, 5 * LOGGED, 1.0)
    again, seen = steered(random, HELD_OUT, GAIN), draw(random, HELD_OUT, 1.0)
    classifiers = Classifiers(members=members, noise=CLASSIFIER_NOISE)
    new, key = _begin(classifiers, seed)
    trained = _update.lower(classifiers, updates, 256, source, log, new, key).compile()
    began = time.perf_counter()
    state, accuracy = jax.block_until_ready(trained(source, log, new, key))
    seconds = time.perf_counter() - began
    truth = log_density(seen, GAIN) - log_density(seen, 1.0)
    error = np.asarray(classifiers.delta(state, seen, seen)) - truth
    tree = cKDTree(np.concatenate(log[:2], 1))
    far, usual = (tree.query(np.concatenate(x[:2], 1))[0] for x in (seen, again))
    off = far > np.quantile(usual, 0.99)
    u = np.asarray(disagreement(state.pairs, seen.obs, seen.action))
    several = moved(
        random,
        np.repeat(seen.obs[:ACTION_STATES], 100, 0),
        random.uniform(-1, 1, (100 * ACTION_STATES, 1)),
        1.0,
    )
    paid = np.asarray(classifiers.delta(state, several, several))
    most = paid.reshape(ACTION_STATES, 100).argmax(1) + 100 * np.arange(ACTION_STATES)
    led = (paid - log_density(several, GAIN) + log_density(several, 1.0))[most]
    rank, _ = spearmanr(u, np.abs(error))
    return {
        "bias_on": error[~off].mean(), "bias_off": error[off].mean(), "bias_led": led.mean(),
        "off_support": off.mean(), "spearman": rank, "classifier_accuracy": np.asarray(accuracy)[-500:].mean(),
        "microseconds": 1e6 * seconds / updates,
    }  # fmt: skip
