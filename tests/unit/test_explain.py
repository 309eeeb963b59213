"""What an explanation says, held against functions whose truth is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from isthmus.domains.parse import parse_domain
from isthmus.evaluation.boxes import QuantileBox, bound_share, certify, grow_tree, peel
from isthmus.evaluation.explain import (
    CANDIDATE_SHARES,
    LIMIT,
    ExplainedParameter,
    Explanation,
    draw_fresh,
    explain,
    explain_outcomes,
    measure_regions,
)
from isthmus.evaluation.sensitivity import (
    CHANCE,
    SobolIndex,
    estimate_indices,
    judge_indices,
    make_design,
)
from isthmus.physics.parameters import Distribution
from isthmus.physics.random import Streams
from isthmus.report.explain_figures import plot_explanation
from isthmus.report.explain_text import to_data, write_lines, write_sentence
from isthmus.types import BadValue, Episodes

CORNER = 0.75  # failures are above it, of both first parameters
NAMES = ["a", "b", "c"]


def ishigami(quantiles: np.ndarray) -> np.ndarray:
    """Ishigami and Homma (1990), with a = 7 and b = 0.1."""
    x = np.pi * (2 * quantiles - 1)
    return np.sin(x[:, 0]) * (1 + 0.1 * x[:, 2] ** 4) + 7 * np.sin(x[:, 1]) ** 2


def of_design(noise: float, rows: int = 1024) -> list[SobolIndex]:
    design = make_design(3, rows, seed=1)
    chance = np.random.default_rng(5).normal(size=2 * rows)
    return estimate_indices(NAMES, ishigami(design.quantiles) + noise * chance[design.starts], 0)


def test_indices_of_ishigami() -> None:
    """Known: first 0.314, 0.442, 0; total 0.558, 0.442, 0.244; and chance makes nothing."""
    indices = of_design(noise=0)
    assert [index.name for index in indices] == [*NAMES, CHANCE]
    known = {"first": [0.3139, 0.4424, 0, 0], "total": [0.5576, 0.4424, 0.2437, 0]}
    for order, truth in known.items():
        found = [getattr(index, order) for index in indices]
        assert np.allclose([estimate.value for estimate in found], truth, atol=0.05)
        for estimate, true in zip(found, truth, strict=True):
            assert estimate.low - 0.02 <= true <= estimate.high + 0.02
    assert "depends most on a" in judge_indices(indices, "return")


def test_chance_has_its_own_share() -> None:
    """Noise of the function's own variance, 13.84, halves all others."""
    indices = of_design(noise=np.sqrt(13.84))
    assert indices[-1].total.value == pytest.approx(0.5, abs=0.08)
    assert indices[1].first.value == pytest.approx(0.221, abs=0.08)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (np.full(6 * 64, 3.0), "nothing to explain"),
        (np.arange(6 * 16.0) == 3, "too few episodes"),
        (None, "chance has part in"),
    ],
)
def test_words_where_indices_mean_nothing(outcomes: np.ndarray | None, words: str) -> None:
    if outcomes is None:
        indices = of_design(noise=np.sqrt(9 * 13.84))
    else:
        indices = estimate_indices(NAMES, outcomes, 0)
    assert words in judge_indices(indices, "return")


def test_bits_repeat() -> None:
    assert of_design(0.1, 64) == of_design(0.1, 64)


def in_corner(quantiles: np.ndarray) -> np.ndarray:
    return (quantiles[:, 0] > CORNER) & (quantiles[:, 1] > CORNER)


def test_a_region_is_found_again() -> None:
    random = np.random.default_rng(0)
    explored, fresh = random.uniform(size=(2, 3000, 3))
    noise = random.uniform(size=(2, 3000))
    failed = in_corner(explored) & (noise[0] < 0.9)
    fresh_failed = in_corner(fresh) & (noise[1] < 0.9)
    (worst, *others) = measure_regions(explored, failed, fresh, fresh_failed)
    assert np.allclose(worst.box.low, [CORNER, CORNER, 0], atol=0.02)
    assert np.allclose(worst.box.high, 1) and worst.failed.low < 0.9 < worst.failed.high
    assert others == []


def test_a_tree_without_failures_has_one_leaf() -> None:
    points = np.random.default_rng(0).uniform(size=(100, 2))
    assert len(grow_tree(points, np.zeros(100, bool))) == 1


def test_peeling_leaves_the_corner_out_and_the_nominal_in() -> None:
    points = np.random.default_rng(1).uniform(size=(3000, 3))
    nominal = np.array([0.5, 0.9, 0.0])
    boxes = peel(points, in_corner(points), nominal, CANDIDATE_SHARES)
    smallest = boxes[0]
    assert smallest.high[0] == pytest.approx(CORNER, abs=0.05)
    assert all(box.contains(nominal[None])[0] for box in boxes)
    assert np.prod(smallest.high - smallest.low) > 0.6
    for small, large in pairwise(boxes):
        assert np.all(large.low <= small.low) and np.all(large.high >= small.high)


def claim(seed: int, inside: float, outside: float) -> QuantileBox | None:
    """The box that one draw of 1000 episodes claims; failures by chance, more in the corner."""
    random = np.random.default_rng(seed)

    def fails(points: np.ndarray) -> np.ndarray:
        return random.uniform(size=len(points)) < np.where(in_corner(points), outside, inside)

    points = random.uniform(size=(500, 2))
    nominal = np.full(2, 0.5)
    boxes = peel(points, fails(points), nominal, CANDIDATE_SHARES)
    fresh, drawn_in = draw_fresh(boxes, 500, seed + 10_000)
    tests = certify(boxes, fresh, fails(fresh), drawn_in, LIMIT, 0.95)
    held = [test.box for test in tests if test.holds]
    return held[-1] if held else None


def true_share(box: QuantileBox, inside: float, outside: float) -> float:
    corner = np.prod(box.high - np.maximum(box.low, CORNER)) if np.all(box.high > CORNER) else 0.0
    return inside + (outside - inside) * corner / np.prod(box.high - box.low)


@pytest.mark.parametrize(("inside", "outside"), [(0.051, 0.051), (0.02, 0.8), (0.045, 0.2)])
def test_a_claimed_box_is_true_as_often_as_is_said(inside: float, outside: float) -> None:
    """At most one draw in twenty claims a box in which more than 5 % fail, of 400 draws."""
    claims = [claim(seed, inside, outside) for seed in range(400)]
    wrong = sum(box is not None and true_share(box, inside, outside) > LIMIT for box in claims)
    assert wrong <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_a_safe_box_is_claimed() -> None:
    claims = [claim(seed, 0.002, 0.8) for seed in range(40)]
    assert sum(box is not None for box in claims) >= 36


def test_bounds() -> None:
    """By hand: of no failure in n, 1 - 0.05^(1/n)."""
    assert bound_share(0, 59, 0.95) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert bound_share(0, 0, 0.95) == 1


def explained(fails: bool = True) -> Explanation:
    """Of a synthetic policy over two parameters, one by a logarithmic law."""
    parameters = [
        ExplainedParameter("mass", Distribution("uniform", 1.0, 9.0), 3.0),
        ExplainedParameter("friction", Distribution("log", 0.1, 10.0), 1.0),
    ]

    def play(quantiles: np.ndarray, key: np.ndarray) -> Episodes:
        n, noise = len(key), Streams(key).uniform(0.0, 1.0, 1)[:, 0]
        failed = in_corner(quantiles) & fails
        returns = 100.0 - 90 * failed + noise
        whole = np.full(n, 10)
        return Episodes(
            returns, whole, failed, np.zeros(n, bool), quantiles, returns, np.zeros(n, bool)
        )

    return explain_outcomes(play, parse_domain("hopper"), parameters, 2000, None, seed=3)


def test_an_explanation_in_words_and_a_picture() -> None:
    explanation = explained()
    box = explanation.box
    assert box is not None and "failures stay under 5 %" in write_sentence(explanation).replace(
        "5%", "5 %"
    )
    assert "mass above 7" in "\n".join(write_lines(explanation))
    assert explanation.failed_share.value == pytest.approx(1 / 16, abs=0.02)
    assert "nan" not in str(to_data(explanation))
    assert len(plot_explanation(explanation, "synthetic").axes) == 3


def test_an_explanation_where_nothing_fails() -> None:
    explanation = explained(fails=False)
    assert write_sentence(explanation).startswith("In the whole range, failures stay under")
    assert list(explanation.indices) == ["return"] and explanation.regions == []


@pytest.mark.parametrize(
    ("over", "episodes", "line"),
    [
        ("torso_mass=1..9:5", 4000, "takes a law of its own"),
        ("torso_mass=4", 4000, "takes a law of its own"),
        ("torso_mass=8..9", 4000, "is not in 8..9"),
        ("torso_mass=1..9", 100, "1 parameters need 128 to 200,000 episodes"),
        ("torso_mas=1..9", 4000, "did you mean"),
        ("", 4000, "names no parameter to vary"),
    ],
)
def test_mistakes_are_one_line(over: str, episodes: int, line: str) -> None:
    with pytest.raises(BadValue.__mro__[1]) as caught:
        explain(lambda obs: obs[:, :3], "hopper", over, episodes)
    assert line in str(caught.value) and "\n" not in str(caught.value)
