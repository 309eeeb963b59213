"""A pair of domains whose densities are known: s' = s + g a + noise, g = 1 in the source and 1.5 in
the target. What DARC's classifiers get wrong off the log, and whether an ensemble's disagreement
shows where.
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

TARGET_GAIN, NOISE_SD = 1.5, 0.3  # the action that compensates is a / TARGET_GAIN
LOGGED, HELD_OUT = 20_000, 5_000  # transitions
CHOICE_STATES, CHOICES = 500, 100  # states in which an action is chosen, and of how many
BATCH_SIZE = 256
# On what the classifiers see: DARC's 1.0 is three times NOISE_SD, and would leave nothing to tell
# apart.
CLASSIFIER_NOISE = 0.1


def draw_uniform(
    random: np.random.Generator, n: int, gain: float, low: float = -1.0
) -> TransitionBatch:
    """Draw n transitions of states N(0, 1) and actions uniform in low..1."""
    states = random.normal(size=(n, 1))
    return make_transitions(random, states, random.uniform(low, 1, (n, 1)), gain)


def draw_log(random: np.random.Generator, n: int, gain: float) -> TransitionBatch:
    """Draw n transitions of a policy that brings the state to 0: what a log has, a part of what
    `draw_uniform` covers.
    """
    states = random.normal(scale=0.5, size=(n, 1))
    actions = np.clip(-0.5 * states + 0.2 * random.normal(size=(n, 1)), -1, 1)
    return make_transitions(random, states, actions, gain)


def make_transitions(
    random: np.random.Generator, states: np.ndarray, actions: np.ndarray, gain: float
) -> TransitionBatch:
    """Draw the next states of states and actions [B, 1]."""
    next_states = states + gain * actions + NOISE_SD * random.normal(size=states.shape)
    arrays = (states, actions, next_states)
    return TransitionBatch(*(array.astype(np.float32) for array in arrays))


def log_density(
    batch: TransitionBatch, gain: float, action: np.ndarray | None = None
) -> np.ndarray:
    """Return log p(s' | s, a) (B,), but for the normal's constant, which is the same in both
    domains.
    """
    obs, a, next_obs = (np.asarray(x, np.float64)[:, 0] for x in batch)
    if action is not None:
        a = action[:, 0]
    return -((next_obs - obs - gain * a) ** 2) / (2 * NOISE_SD**2)


def log_ratio(batch: TransitionBatch) -> np.ndarray:
    """Return delta_r (B,) as it is: log p_target(s' | s, a) - log p_source(s' | s, a)."""
    return log_density(batch, TARGET_GAIN) - log_density(batch, 1.0)


def fit_classifiers(
    classifiers: Classifiers,
    steps: int,
    size: int,
    source: TransitionBatch,
    target: TransitionBatch,
    seed: int = 0,
) -> tuple[ClassifiersState, Array]:
    """Return new classifiers after so many updates on batches of either domain, and their accuracy
    in each (steps,).
    """
    state, key = _begin(classifiers, seed)
    return _update(classifiers, steps, size, source, target, state, key)


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
    state: ClassifiersState,
    key: Array,
) -> tuple[ClassifiersState, Array]:
    def step(state: ClassifiersState, key: Array) -> tuple[ClassifiersState, Array]:
        source_key, target_key = jax.random.split(key)
        batches = (
            _draw_batch(source_key, source, size),
            _draw_batch(target_key, target, size),
        )
        state, metrics = classifiers.update(state, *batches, key)
        return state, metrics["classifier_accuracy"]

    return jax.lax.scan(step, state, jax.random.split(key, steps))


def _draw_batch(key: Array, data: TransitionBatch, size: int) -> TransitionBatch:
    def draw_rows(x: Array) -> Array:
        return x[jax.random.randint(key, (size,), 0, len(x))]

    return jax.tree.map(draw_rows, data)


def measure_errors(seed: int, members: int, updates: int) -> dict[str, float]:
    """Measure an ensemble trained on a log (`draw_log`) and a source that is seen more widely, on
    unseen transitions of the source.

    bias_on, bias_off   mean error of delta_r where the log has been, and elsewhere: farther from
                        it, in (s, a), than all but a hundredth of what the same policy would log
                        anew
    bias_led            the same at the action, of a hundred, that the estimate pays most: where a
                        policy is led
    off_support         the share of transitions elsewhere
    spearman            rank correlation of u, DAP+U's disagreement, with the absolute error
    microseconds        of an update
    """
    random = np.random.default_rng(seed)
    log = draw_log(random, LOGGED, TARGET_GAIN)
    source = draw_uniform(random, 5 * LOGGED, 1.0)
    log_anew = draw_log(random, HELD_OUT, TARGET_GAIN)
    held_out = draw_uniform(random, HELD_OUT, 1.0)
    classifiers = Classifiers(members=members, noise=CLASSIFIER_NOISE)
    state, accuracy, seconds = _fit_and_time(classifiers, updates, source, log, seed)
    error = _measure_error(classifiers, state, held_out)
    led = _measure_error_where_led(random, classifiers, state, held_out.obs[:CHOICE_STATES])
    off = _find_off_support(log, log_anew, held_out)
    u = np.asarray(disagreement(state.pairs, held_out.obs, held_out.action))
    rank, _ = spearmanr(u, np.abs(error))
    return {
        "bias_on": error[~off].mean(),
        "bias_off": error[off].mean(),
        "bias_led": led.mean(),
        "off_support": off.mean(),
        "spearman": rank,
        "classifier_accuracy": np.asarray(accuracy)[-500:].mean(),
        "microseconds": 1e6 * seconds / updates,
    }


def _fit_and_time(
    classifiers: Classifiers,
    updates: int,
    source: TransitionBatch,
    target: TransitionBatch,
    seed: int,
) -> tuple[ClassifiersState, Array, float]:
    """Return what `fit_classifiers` does, and the seconds that the updates took, compiled."""
    initial, key = _begin(classifiers, seed)
    train = _update.lower(classifiers, updates, BATCH_SIZE, source, target, initial, key).compile()
    start = time.perf_counter()
    state, accuracy = jax.block_until_ready(train(source, target, initial, key))
    return state, accuracy, time.perf_counter() - start


def _measure_error(
    classifiers: Classifiers, state: ClassifiersState, batch: TransitionBatch
) -> np.ndarray:
    return np.asarray(classifiers.delta(state, batch, batch)) - log_ratio(batch)


def _find_off_support(
    log: TransitionBatch, log_anew: TransitionBatch, batch: TransitionBatch
) -> np.ndarray:
    """Return which transitions [B] are farther from the log than all but a hundredth of those that
    the same policy would log anew.
    """
    tree = cKDTree(_join(log))
    usual, _ = tree.query(_join(log_anew))
    distance, _ = tree.query(_join(batch))
    return distance > np.quantile(usual, 0.99)


def _join(batch: TransitionBatch) -> np.ndarray:
    return np.concatenate(batch[:2], 1)


def _measure_error_where_led(
    random: np.random.Generator,
    classifiers: Classifiers,
    state: ClassifiersState,
    states: np.ndarray,
) -> np.ndarray:
    """Return, for each state [B, 1], the error at the action that the estimate pays most."""
    actions = random.uniform(-1, 1, (CHOICES * len(states), 1))
    batch = make_transitions(random, np.repeat(states, CHOICES, 0), actions, 1.0)
    paid = np.asarray(classifiers.delta(state, batch, batch))
    most = paid.reshape(-1, CHOICES).argmax(1) + CHOICES * np.arange(len(states))
    error = paid - log_density(batch, TARGET_GAIN) + log_density(batch, 1.0)
    return error[most]
