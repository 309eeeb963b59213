"""Boxes in the space of parameters' quantiles: where failures are, and where they are not.

A point's quantiles [P] in 0..1 are its parameters' places in their laws, so that a box's share of
the unit cube is its probability. The two searches are small enough to be own code: scikit-learn
would be a dependency for one tree, whose leaves are needed as boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

PEELED_SHARE = 0.05  # of a side, at each step of peeling
FEWEST_INSIDE = 30  # explored episodes that a peeled box holds at least
MAX_DEPTH = 3
SMALLEST_GAIN = 0.01


class QuantileBox(NamedTuple):
    """A box of quantiles, from `low` [P] to `high` [P]."""

    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def whole(dimensions: int) -> QuantileBox:
        """Return the unit cube."""
        return QuantileBox(np.zeros(dimensions), np.ones(dimensions))

    def contains(self, quantiles: np.ndarray) -> np.ndarray:
        """Return which points (n, P) lie in the box, bool [n]."""
        return np.all((quantiles >= self.low) & (quantiles <= self.high), axis=1)

    def scale(self, quantiles: np.ndarray) -> np.ndarray:
        """Return points (n, P) of the unit cube at their places in the box, float64 [n, P]."""
        return self.low + quantiles * (self.high - self.low)

    def cut(self, column: int, low: float | None = None, high: float | None = None) -> QuantileBox:
        """Return the box with other ends of one side."""
        lows, highs = self.low.copy(), self.high.copy()
        if low is not None:
            lows[column] = low
        if high is not None:
            highs[column] = high
        return QuantileBox(lows, highs)


class _SplitRules(NamedTuple):
    """How many points a leaf holds at least, and how much impurity a split takes away."""

    fewest: int
    gain: float


class BoxTest(NamedTuple):
    """What fresh episodes say of a box: `upper` is the one-sided bound of the share that failed."""

    box: QuantileBox
    episodes: int
    failures: int
    upper: float
    holds: bool  # and so do all smaller boxes


def grow_tree(quantiles: np.ndarray, failed: np.ndarray) -> list[QuantileBox]:
    """Return the leaves of a tree of depth 3 at most that tells failed (bool [n]) points (n, P).

    Splits are by Gini's impurity (Breiman et al. 1984) and lower it by 1 % of the root's at least;
    a leaf holds 2 % of the points at least, and 20.
    """
    whole = QuantileBox.whole(quantiles.shape[1])
    root = len(failed) * failed.mean() * (1 - failed.mean())
    rules = _SplitRules(fewest=max(20, len(failed) // 50), gain=SMALLEST_GAIN * root)
    return _split(whole, quantiles, failed.astype(float), MAX_DEPTH, rules)


def _split(
    box: QuantileBox, quantiles: np.ndarray, failed: np.ndarray, depth: int, rules: _SplitRules
) -> list[QuantileBox]:
    """Return the leaves below a node, which holds these points."""
    if not depth:
        return [box]
    found = _find_split(quantiles, failed, rules)
    if found is None:
        return [box]
    column, border = found
    left = quantiles[:, column] <= border
    below = _split(box.cut(column, high=border), quantiles[left], failed[left], depth - 1, rules)
    above = _split(box.cut(column, low=border), quantiles[~left], failed[~left], depth - 1, rules)
    return [*below, *above]


def _find_split(
    quantiles: np.ndarray, failed: np.ndarray, rules: _SplitRules
) -> tuple[int, float] | None:
    """Return the column and the border that lower the impurity most; None where none does."""
    n, fewest = len(failed), rules.fewest
    if n < 2 * fewest:
        return None
    order = np.argsort(quantiles, axis=0, kind="stable")
    left = np.cumsum(failed[order], axis=0)[fewest - 1 : n - fewest]
    count = np.arange(fewest, n - fewest + 1)[:, None]
    total = failed.sum()
    right = total - left
    impurity = left * (1 - left / count) + right * (1 - right / (n - count))
    if impurity.min() >= total * (1 - total / n) - max(rules.gain, 1e-9):
        return None
    i, column = np.unravel_index(np.argmin(impurity), impurity.shape)
    ordered = quantiles[order[:, column], column]
    border = (ordered[fewest - 1 + i] + ordered[fewest + i]) / 2
    return int(column), float(border)


def peel(
    quantiles: np.ndarray, failed: np.ndarray, nominal: np.ndarray, shares: Sequence[float]
) -> list[QuantileBox]:
    """Return nested boxes around the nominal point [P], the smallest first, the unit cube last.

    From the cube, the slab in which most fail is peeled away step by step (Friedman and Fisher
    1999), never beyond the nominal; a box is kept where its share of failed (bool [n]) points
    (n, P) falls to each of `shares`. The points choose the boxes: what boxes are worth has to be
    measured on others.
    """
    box = QuantileBox.whole(quantiles.shape[1])
    kept = [box]
    for limit in sorted(shares, reverse=True):
        box = _peel_until(box, quantiles, failed, nominal, limit)
        if not np.array_equal(box, kept[0]):
            kept.insert(0, box)
    return kept


def _peel_until(
    box: QuantileBox, quantiles: np.ndarray, failed: np.ndarray, nominal: np.ndarray, limit: float
) -> QuantileBox:
    """Return a box, peeled until at most a share of the points inside failed, or none is left."""
    while True:
        inside = box.contains(quantiles)
        if inside.sum() < FEWEST_INSIDE or failed[inside].mean() <= limit:
            return box
        smaller = _peel_once(box, quantiles[inside], failed[inside], nominal)
        if smaller is None or smaller.contains(quantiles).sum() < FEWEST_INSIDE:
            return box
        box = smaller


def _peel_once(
    box: QuantileBox, quantiles: np.ndarray, failed: np.ndarray, nominal: np.ndarray
) -> QuantileBox | None:
    """Return the box without the slab of which most failed; None where the nominal is all."""
    width = PEELED_SHARE * (box.high - box.low)
    best, worst_share = None, -1.0
    for column in range(len(nominal)):
        low = min(box.low[column] + width[column], nominal[column])
        high = max(box.high[column] - width[column], nominal[column])
        for smaller in (box.cut(column, low=low), box.cut(column, high=high)):
            slab = ~smaller.contains(quantiles)
            # One episode of the box's own share beside the slab's: empty slabs say nothing.
            share = (failed[slab].sum() + failed.mean()) / (slab.sum() + 1)
            if share > worst_share and not np.array_equal(smaller, box):
                best, worst_share = smaller, float(share)
    return best


def certify(
    boxes: Sequence[QuantileBox],
    quantiles: np.ndarray,
    failed: np.ndarray,
    drawn_in: np.ndarray,
    limit: float,
    level: float,
) -> list[BoxTest]:
    """Test nested boxes, the smallest first, by fresh points (n, P), each drawn in the box numbered
    `drawn_in` [n].

    A box holds where the share that failed is below `limit`: by the one-sided bound of Clopper and
    Pearson (1934) at `level`, and if all smaller boxes hold. Testing in an order that is fixed
    beforehand until a first one fails keeps the level over all of them (Maurer et al. 1995). A box
    is tested by all points in it that were drawn in it or in a larger one.
    """
    tests: list[BoxTest] = []
    holds = True
    for i, box in enumerate(boxes):
        used = failed[(drawn_in >= i) & box.contains(quantiles)]
        upper = bound_share(int(used.sum()), len(used), level)
        holds = holds and upper <= limit
        tests.append(BoxTest(box, len(used), int(used.sum()), upper, holds))
    return tests


def bound_share(failures: int, episodes: int, level: float) -> float:
    """Return the upper bound of a share, one-sided at `level` (Clopper and Pearson 1934)."""
    if not episodes:
        return 1.0
    test = stats.binomtest(failures, episodes, alternative="less")
    return float(test.proportion_ci(level, method="exact").high)
