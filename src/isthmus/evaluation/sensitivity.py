"""Sobol indices: which parameters a return's spread comes from, alone and together with others.

Chance is a factor like any other: the start of an episode, and whatever noise a world draws, go by
its key. The same keys with other parameters, and other keys with the same parameters, tell them
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.stats import qmc

from isthmus.evaluation.statistics import CONFIDENCE_LEVEL, Estimate

CHANCE = "chance"
"""The factor beside the parameters: starts of episodes, and noise."""

RESAMPLES = 999
WIDE = 0.5  # an interval as wide says nothing of a share
KIND = "bootstrap of the design's rows (percentiles)"


class SobolDesign(NamedTuple):
    """What to play: the parameters' quantiles (R, P), and the number of each row's start [R].

    Its (P + 3) n rows are n of A, n of B, n a parameter of A with that one from B, and n of A with
    the starts of B (Saltelli et al. 2010).
    """

    quantiles: np.ndarray
    starts: np.ndarray


class SobolIndex(NamedTuple):
    """What share of the variance a factor makes alone (`first`), and with all others (`total`)."""

    name: str
    first: Estimate
    total: Estimate


def make_design(parameters: int, n: int, seed: int) -> SobolDesign:
    """Return the design of n (a power of two) rows a block for P parameters."""
    points = qmc.Sobol(2 * parameters, rng=seed).random(n)
    a, b = points[:, :parameters], points[:, parameters:]
    blocks, starts = [a, b], [np.arange(n), np.arange(n, 2 * n)]
    for i in range(parameters):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        blocks.append(mixed)
        starts.append(np.arange(n))
    return SobolDesign(np.vstack([*blocks, a]), np.concatenate([*starts, np.arange(n, 2 * n)]))


def estimate_indices(names: Sequence[str], outcomes: np.ndarray, seed: int) -> list[SobolIndex]:
    """Return the indices of P parameters, and of chance, from a design's outcomes [(P + 3) n].

    Intervals are of 95 %, by the bootstrap over the design's n rows. Where all outcomes are equal,
    all indices are 0.
    """
    blocks = outcomes.astype(float).reshape(len(names) + 3, 1, -1)
    blocks = blocks - blocks[:2].mean()
    found = stats.sobol_indices(
        func={"f_A": blocks[0], "f_B": blocks[1], "f_AB": blocks[2:]},
        n=blocks.shape[-1],
        method=_compute_indices,
    )

    def resample(rows: np.ndarray) -> np.ndarray:
        return np.stack(
            _compute_indices(blocks[0][:, rows], blocks[1][:, rows], blocks[2:, :, rows])
        )

    rows = np.arange(blocks.shape[-1])
    ends = stats.bootstrap(
        (rows,), resample, n_resamples=RESAMPLES, confidence_level=CONFIDENCE_LEVEL,
        method="percentile", rng=seed,
    ).confidence_interval  # fmt: skip
    values = np.stack([found.first_order, found.total_order])
    indices = []
    for i, name in enumerate([*names, CHANCE]):
        pair = []
        for value, low, high in zip(values[:, i], ends.low[:, 0, i], ends.high[:, 0, i]):
            pair.append(Estimate(float(value), float(low), float(high), len(rows), KIND))
        indices.append(SobolIndex(name, *pair))
    return indices


def _compute_indices(
    f_A: np.ndarray,  # noqa: N803 (SciPy calls them by these names)
    f_B: np.ndarray,  # noqa: N803
    f_AB: np.ndarray,  # noqa: N803
) -> tuple[np.ndarray, np.ndarray]:
    """Return first-order indices (Saltelli et al. 2010) and total ones (Jansen 1999), [1, factors].

    Of centred outcomes (1, n) and (factors, 1, n).
    """
    variance = np.var(np.concatenate([f_A, f_B], axis=-1), axis=-1)
    scale = np.where(variance > 0, variance, np.inf)
    first = np.mean(f_B * (f_AB - f_A), axis=-1) / scale
    total = 0.5 * np.mean((f_A - f_AB) ** 2, axis=-1) / scale
    return first.T, total.T


def judge_indices(indices: Sequence[SobolIndex], what: str) -> str:
    """Say in a sentence what the indices of an outcome allow to say."""
    totals = np.array([(index.total.value, index.total.low, index.total.high) for index in indices])
    if not totals[:, 0].any():
        return f"all episodes had the same {what}: there is nothing to explain"
    widest = np.max(totals[:, 2] - totals[:, 1])
    if widest > WIDE:
        return (
            f"too few episodes for shares of {what}: an interval is {widest:.2f} wide; "
            "give more, -n"
        )
    chance = indices[-1].total
    if chance.low > WIDE:
        return (
            f"chance has part in {chance.value:.0%} of the spread of {what}: of these parameters, "
            "single episodes say little"
        )
    largest = indices[int(np.argmax(totals[:-1, 0]))]
    share = f"{largest.total.value:.0%}"
    return f"{what} depends most on {largest.name}, which has part in {share} of its spread"
