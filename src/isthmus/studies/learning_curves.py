"""One experiment of a study: training curves of several approaches on one scale, and the scores
that are read off them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from isthmus.evaluation import statistics
from isthmus.studies.contrasts import UNTESTED, Contrast, Wanted, contrast
from isthmus.studies.results import Results

Scores = dict[int, float]
"""A number a seed."""

ResultsBySeed = dict[int, Results]


@dataclass(frozen=True)
class CurveSet:
    """Curves [points, 2] by approach and seed, and the results' files behind them.

    `raw` has what training cost (0..`horizon`) and the metric. Normalized, 0 is where the lowest
    mean curve of the `ranked` approaches is lowest and 1 where the highest is highest; with `top`,
    0 stands for 0 and 1 for `top`. `untrained` is the approach that begins from nothing.
    """

    name: str
    horizon: float
    raw: dict[str, dict[int, np.ndarray]]
    results: dict[str, ResultsBySeed]
    ranked: tuple[str, ...]
    untrained: str
    top: float | None = None

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The values of the metric that 0 and 1 stand for."""
        if self.top is not None:
            return 0.0, self.top
        heights = self._ranked_means
        low, high = heights.min(), heights.max()
        return float(low), float(high if high > low else low + 1)

    @cached_property
    def highest(self) -> float:
        """The largest mean of the metric that a ranked approach reaches at any time."""
        return float(self._ranked_means.max())

    @property
    def _present(self) -> list[str]:
        """The ranked approaches that were run."""
        return [approach for approach in self.ranked if approach in self.raw]

    @property
    def _ranked_means(self) -> np.ndarray:
        """All heights of the ranked approaches' mean curves."""
        means = [average_curves(self.raw[approach].values()) for approach in self._present]
        return np.concatenate(means)

    def curves(self, approach: str) -> dict[int, np.ndarray]:
        """Return an approach's normalized curves, by seed."""
        low, high = self.limits
        curves = self.raw.get(approach, {})
        return {seed: (curve - [0, low]) / [1, high - low] for seed, curve in curves.items()}

    def _score(self, approach: str, score: Callable[[np.ndarray], float]) -> Scores:
        return {seed: score(curve) for seed, curve in self.curves(approach).items()}

    def final(self, approach: str) -> Scores:
        """Return J: the mean of a curve's last 10 %."""
        return self._score(approach, statistics.final)

    def initial(self, approach: str) -> Scores:
        """Return a curve's first height."""
        return self._score(approach, lambda curve: float(curve[0, 1]))

    def area(self, approach: str) -> Scores:
        """Return AUC: a curve's mean height over the horizon."""
        return self._score(approach, lambda curve: statistics.area(curve, self.horizon))

    def slope(self, approach: str) -> Scores:
        """Return what the first quarter of the horizon gains, a horizon."""

        def gain(curve: np.ndarray) -> float:
            first, last = np.interp([0.0, self.horizon / 4], *curve.T)
            return 4 * (float(last) - float(first))

        return self._score(approach, gain)

    def time(self, approach: str, share: float = 0.8) -> Scores:
        """Return T80: until `share` of what the best approach's J is above an untrained policy, as
        a share of the horizon; 1 where it never is there.
        """
        level = self.start + share * (self.best[1] - self.start)

        def reach(curve: np.ndarray) -> float:
            return min(statistics.first_time(curve, level) / self.horizon, 1.0)

        return self._score(approach, reach)

    @cached_property
    def start(self) -> float:
        """Where an untrained policy is: above 0 where a trained one is worse."""
        if self.untrained not in self.raw:
            return 0.0
        return float(np.mean([*self.initial(self.untrained).values()]))

    @property
    def margin(self) -> float:
        """What counts as equal: 10 % of the scale above an untrained policy, of all of it where
        `top` is given.
        """
        if self.top is not None:
            return 0.1
        return 0.1 * max(1.0 - self.start, 0.0)

    @cached_property
    def best(self) -> tuple[str, float]:
        """The ranked approach with the highest J, and its J (IQM over seeds)."""
        finals = {}
        for approach in self._present:
            finals[approach] = statistics.iqm([*self.final(approach).values()])
        name = max(finals, key=lambda approach: finals[approach])
        return name, finals[name]

    def measured(self, approach: str, key: str, kind: str = "measure") -> Scores:
        """Return a number of the results' files, for the seeds that have it."""
        scores = {}
        for seed, result in self.results.get(approach, {}).items():
            if result.has(kind, key):
                scores[seed] = result.value(kind, key)
        return scores

    @cached_property
    def inconclusive_because(self) -> str:
        """Why nothing can be concluded, if so: no approach is shown to get above the untrained
        policy.
        """
        start = self.initial(self.untrained)
        for approach in self._present:
            shared = approach == self.untrained
            gain = compare_scores("", self.final(approach), start, shared=shared)
            if gain is None or gain.estimate.n < 2 or gain.estimate.low > 0:
                return ""
        return (
            f"{self.name}: too few seeds or too little training, nobody is shown to end above an "
            "untrained policy"
        )


def scale_scores(factor: float, scores: Scores) -> Scores:
    """Multiply the scores by a factor."""
    return {seed: factor * score for seed, score in scores.items()}


def subtract_scores(a: Scores, b: Scores) -> Scores:
    """Return a - b on the seeds that both have."""
    return {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}


def scan_approaches(approaches: Iterable[str], prefix: str) -> dict[float, str]:
    """Return the approaches that differ in one number alone, which follows the prefix, by that
    number and in its order.
    """
    scan = {}
    for approach in approaches:
        number = approach.removeprefix(prefix)
        if number.replace(".", "").isdigit():
            scan[float(number)] = approach
    return dict(sorted(scan.items()))


def compare_times(label: str, a: Scores, b: Scores, *, shared: bool = True) -> Contrast | None:
    """Test that `a` is there sooner than `b`, of `CurveSet.time`: times restricted to the horizon,
    which a seed without one counts as. Where no seed has any, all that is known is that both take
    longer: the contrast is censored.
    """
    difference = compare_scores(label, a, b, "below", shared=shared)
    if not difference:
        return None
    if shared:
        seeds = a.keys() & b.keys()
        a, b = _select_seeds(a, seeds), _select_seeds(b, seeds)
    if min([*a.values(), *b.values()]) >= 1:
        return replace(difference, raw=UNTESTED, adjusted=UNTESTED, censored=True)
    never = _describe_never(a, b, shared)
    return replace(difference, label=f"{label} ({never})") if never else difference


def _select_seeds(scores: Scores, seeds: Iterable[int]) -> Scores:
    return {seed: scores[seed] for seed in seeds}


def _describe_never(a: Scores, b: Scores, shared: bool) -> str:
    """Return, in words, how many seeds were never there; empty where that is no matter."""
    if shared:
        never = sum(min(a[seed], b[seed]) >= 1 for seed in a)
        return f"neither ever, in {never} of {len(a)} seeds" if never else ""
    first, second = _count_never(a), _count_never(b)
    if not first or not second:
        return ""
    return f"never, in {first} of {len(a)} seeds and in {second} of {len(b)}"


def _count_never(times: Scores) -> int:
    return sum(time >= 1 for time in times.values())


def average_curves(curves: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean heights [points] over seeds, at the evaluations that all have."""
    curves = list(curves)
    common = min(map(len, curves))
    return np.mean([curve[:common, 1] for curve in curves], axis=0)


def compare_paired(
    label: str, a: Scores, b: Scores, wanted: Wanted = "above", margin: float = math.nan
) -> Contrast | None:
    """Test what `a` is above `b` on the seeds that both have; None where there is no such seed."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    a, b = _select_seeds(a, seeds), _select_seeds(b, seeds)
    return contrast(label, [*a.values()], [*b.values()], wanted, margin)


def compare_unpaired(
    label: str, a: Scores, b: Scores, wanted: Wanted = "above", margin: float = math.nan
) -> Contrast | None:
    """Test what `a` is above `b` where their seeds share nothing, on all that each has; None where
    either has none.
    """
    if not a or not b:
        return None
    return contrast(label, [*a.values()], [*b.values()], wanted, margin, paired=False)


def compare_scores(
    label: str,
    a: Scores,
    b: Scores,
    wanted: Wanted = "above",
    margin: float = math.nan,
    *,
    shared: bool,
) -> Contrast | None:
    """Test what `a` is above `b`: paired where a seed of both stands on the same run or log
    (`shared`), else unpaired. First weights of the same draw are nothing that a comparison could be
    paired by.
    """
    compare = compare_paired if shared else compare_unpaired
    return compare(label, a, b, wanted, margin)
