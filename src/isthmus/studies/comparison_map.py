"""Where one policy beats another: their returns over a grid of two parameters, cell by cell."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isthmus.evaluation.landscape import Landscape
from isthmus.evaluation.statistics import CONFIDENCE_LEVEL, holm
from isthmus.types import BadValue

FEWEST_PAIRS = 2  # episodes a cell


@dataclass(frozen=True)
class ComparisonMap:
    """How much `second` returns above `first` in each cell, paired by episode.

    Arrays are [rows, columns]. `low` and `high` are Student's interval of 95 % of each cell by
    itself; `pvalues` are adjusted for the number of cells (Holm 1979).
    """

    first: str
    second: str
    names: tuple[str, ...]
    axes: tuple[np.ndarray, np.ndarray]
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pvalues: np.ndarray
    episodes: int

    @property
    def decided(self) -> np.ndarray:
        """Return 1 where the second policy is better, -1 where the first is, 0 where undecided."""
        known = self.pvalues < 1 - CONFIDENCE_LEVEL
        return np.where(known, np.sign(self.difference), 0).astype(int)

    def sentence(self) -> str:
        """Say in how many cells each policy beats the other."""
        second, first = int((self.decided == 1).sum()), int((self.decided == -1).sum())
        cells = self.difference.size
        return (
            f"{self.second} beats {self.first} in {second} of {cells} cells, {self.first} beats "
            f"{self.second} in {first}; undecided: {cells - first - second} (paired by episode, "
            f"{self.episodes} a cell, Holm over cells)"
        )

    def csv(self) -> str:
        """Return the map as CSV, one row a cell."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        results = ["difference", "low", "high", "adjusted_p", "better"]
        writer.writerow([*self.names, *results])
        better = {1: self.second, -1: self.first, 0: "undecided"}
        for i, j in np.ndindex(self.difference.shape):
            place = [f"{self.axes[0][i]:.6g}", f"{self.axes[1][j]:.6g}"]
            numbers = []
            for array in (self.difference, self.low, self.high, self.pvalues):
                numbers.append(f"{array[i, j]:.4g}")
            writer.writerow([*place, *numbers, better[int(self.decided[i, j])]])
        return out.getvalue()


def compare_landscapes(
    first: Landscape, second: Landscape, names: tuple[str, str]
) -> ComparisonMap:
    """Compare two policies' landscapes of equal cells, starts and worlds; `names` are theirs.

    Raises BadValue for other cells or episodes, and for less than two episodes a cell.
    """
    if first.returns.shape != second.returns.shape or first.names != second.names:
        raise BadValue("a map compares two landscapes of the same cells and episodes")
    episodes = first.returns.shape[-1]
    if episodes < FEWEST_PAIRS:
        raise BadValue(f"a map needs {FEWEST_PAIRS} episodes a cell at least: --episodes 20")
    differences = second.returns - first.returns
    mean = differences.mean(-1)
    error = differences.std(-1, ddof=1) / np.sqrt(episodes)
    reach = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, episodes - 1) * error
    # Without any spread a difference is certain, and none is none.
    certain = np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
    scores = np.divide(mean, error, out=certain, where=error > 0)
    pvalues = 2 * stats.t.sf(np.abs(scores), episodes - 1)
    adjusted = np.reshape(holm(pvalues.ravel().tolist()), mean.shape)
    return ComparisonMap(
        first=names[0], second=names[1], names=first.names, axes=first.axes, difference=mean,
        low=mean - reach, high=mean + reach, pvalues=adjusted, episodes=episodes,
    )  # fmt: skip
