"""Where one policy beats another: known differences, and none."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.evaluation.landscape import Landscape
from isthmus.report.map_figures import plot_maps
from isthmus.studies.comparison_map import ComparisonMap, compare_landscapes
from isthmus.types import BadValue

SHAPE = (5, 6, 20)


def scape(returns: np.ndarray) -> Landscape:
    axes = (np.arange(len(returns)) * 1.0, np.arange(returns.shape[1]) * 1.0)
    return Landscape(("a", "b"), axes, returns, np.ones(returns.shape), (None, None))


def draw_map(seed: int, difference: np.ndarray | float) -> ComparisonMap:
    """Of policies that share the starts' part in their returns, and have noise of their own."""
    random = np.random.default_rng(seed)
    starts, *noise = random.normal(size=(3, *SHAPE))
    first, second = 10 * starts + noise[0], 10 * starts + noise[1] + difference
    return compare_landscapes(scape(first), scape(second), ("A", "B"))


def test_a_known_difference() -> None:
    """B is better in the last two columns, A in the first; pairing sees it through the starts."""
    truth = np.zeros(SHAPE)
    truth[:, 4:], truth[:, 0] = 4, -4
    compared = draw_map(0, truth)
    assert np.array_equal(compared.decided, np.sign(truth[..., 0]))
    assert compared.sentence().startswith(
        "B beats A in 10 of 30 cells, A beats B in 5; undecided: 15"
    )
    rows = compared.csv().splitlines()
    assert len(rows) == 31 and rows[1].endswith(",A") and rows[2].endswith(",undecided")
    assert len(plot_maps([compared, compared]).axes) == 3


def test_no_difference_is_seldom_decided() -> None:
    """Of 400 maps without any difference, one in twenty has a decided cell; 3 deviations more."""
    wrong = sum(bool(draw_map(seed, 0.0).decided.any()) for seed in range(400))
    assert wrong <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_equal_policies_are_undecided() -> None:
    same = scape(np.random.default_rng(0).normal(size=SHAPE))
    compared = compare_landscapes(same, same, ("A", "B"))
    assert not compared.decided.any() and np.all(compared.pvalues == 1)


def test_other_cells_are_refused() -> None:
    first, second = scape(np.zeros((2, 3, 4))), scape(np.zeros((3, 2, 4)))
    with pytest.raises(BadValue, match="same cells"):
        compare_landscapes(first, second, ("A", "B"))
    with pytest.raises(BadValue, match="2 episodes a cell"):
        compare_landscapes(scape(np.zeros((2, 2, 1))), scape(np.zeros((2, 2, 1))), ("A", "B"))
