"""One experiment of a study: training curves of several approaches on one scale, and what is read
off them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from isthmus.evaluation import statistics
from isthmus.studies.claims import UNTESTED, Contrast, Wanted, contrast
from isthmus.studies.study import Results

Scores = dict[int, float]
"""A number a seed."""


@dataclass(frozen=True)
class CurveSet:
    """Curves [points, 2] by approach and seed, and the units' files behind them.

    `raw` has what training cost (0..`horizon`) and the metric. Normalized, 0 is where the lowest
    mean curve of the `ranked` approaches is lowest and 1 where the highest is highest; with `top`,
    0 stands for 0 and 1 for `top`. `untrained` is the approach that begins from nothing.
    """

    name: str
    horizon: float
    raw: dict[str, dict[int, np.ndarray]]
    units: dict[str, dict[int, Results]]
    ranked: tuple[str, ...]
    untrained: str
    top: float | None = None

    @cached_property
    def limits(self) -> tuple[float, float]:
        """What 0 and 1 stand for."""
        if self.top is not None:
            return 0.0, self.top
        means = [mean(self.raw[a].values()) for a in self.ranked if a in self.raw]
        low, high = min(m.min() for m in means), max(m.max() for m in means)
        return float(low), float(high if high > low else low + 1)

    @cached_property
    def highest(self) -> float:
        """The largest mean of the metric that a ranked approach reaches at any time."""
        return max(float(mean(self.raw[a].values()).max()) for a in self.ranked if a in self.raw)

    def curves(self, approach: str) -> dict[int, np.ndarray]:
        """Normalized."""
        low, high = self.limits
        return {s: (c - [0, low]) / [1, high - low] for s, c in self.raw.get(approach, {}).items()}

    def final(self, approach: str) -> Scores:
        """J: the mean of a curve's last 10 %."""
        return {s: statistics.final(c) for s, c in self.curves(approach).items()}

    def initial(self, approach: str) -> Scores:
        return {s: float(c[0, 1]) for s, c in self.curves(approach).items()}

    def area(self, approach: str) -> Scores:
        """AUC: a curve's mean height over the horizon."""
        return {s: statistics.area(c, self.horizon) for s, c in self.curves(approach).items()}

    def slope(self, approach: str) -> Scores:
        """What the first quarter of the horizon gains, a horizon."""
        at = lambda curve, x: float(np.interp(x, *curve.T))
        return {
            s: 4 * (at(c, self.horizon / 4) - at(c, 0.0)) for s, c in self.curves(approach).items()
        }

    def time(self, approach: str, share: float = 0.8) -> Scores:
        """T80: until `share` of what the best approach's J is above an untrained policy, as a share
        of the horizon; 1 where it never is there.
        """
        level = self.start + share * (self.best[1] - self.start)
        return {
            s: min(statistics.first_time(c, level) / self.horizon, 1.0)
            for s, c in self.curves(approach).items()
        }

    @cached_property
    def start(self) -> float:
        """Where an untrained policy is: above 0 where a trained one is worse."""
        return (
            float(np.mean([*self.initial(self.untrained).values()]))
            if self.untrained in self.raw
            else 0.0
        )

    @property
    def margin(self) -> float:
        """What counts as equal: 10 % of the scale above an untrained policy, of all of it where
        `top` is given.
        """
        return 0.1 if self.top is not None else 0.1 * max(1.0 - self.start, 0.0)

    @cached_property
    def best(self) -> tuple[str, float]:
        """The ranked approach with the highest J, and its J (IQM over seeds)."""
        found = {a: statistics.iqm([*self.final(a).values()]) for a in self.ranked if a in self.raw}
        name = max(found, key=lambda a: found[a])
        return name, found[name]

    def measured(self, approach: str, key: str, kind: str = "measure") -> Scores:
        """A number of the units' files, for the seeds that have it."""
        has = lambda r: any(row["kind"] == kind and row["key"] == key for row in r.rows)
        return {s: r.value(kind, key) for s, r in self.units.get(approach, {}).items() if has(r)}

    @cached_property
    def inconclusive_because(self) -> str:
        """Why nothing can be concluded here, if so: nobody is shown to get above the untrained
        policy.
        """
        start = self.initial(self.untrained)
        gains = [
            compared("", self.final(a), start, shared=a == self.untrained)
            for a in self.ranked
            if a in self.raw
        ]
        if any(gain is None or gain.estimate.n < 2 or gain.estimate.low > 0 for gain in gains):
            return ""
        return f"{self.name}: too few seeds or too little training, nobody is shown to end above an untrained policy"


def sooner(said: str, a: Scores, b: Scores, *, shared: bool = True) -> Contrast | None:
    """How much later `a` is there than `b`, of `Frame.time`: times restricted to the horizon, which
    a seed without one counts as. Where no seed has any, all that is known is that both take longer:
    the contrast is censored.
    """
    found = compared(said, a, b, "below", shared=shared)
    if not found:
        return None
    if shared:
        seeds = a.keys() & b.keys()
        a, b = {s: a[s] for s in seeds}, {s: b[s] for s in seeds}
    if min([*a.values(), *b.values()]) >= 1:
        return replace(found, raw=UNTESTED, adjusted=UNTESTED, censored=True)
    never = _tell_never(a, b, shared)
    return replace(found, said=f"{said} ({never})") if never else found


def _tell_never(a: Scores, b: Scores, shared: bool) -> str:
    """Return, in words, how many seeds were never there; empty where that is no matter."""
    if shared:
        never = sum(a[s] >= 1 and b[s] >= 1 for s in a)
        return f"neither ever, in {never} of {len(a)} seeds" if never else ""
    first, second = (sum(time >= 1 for time in times.values()) for times in (a, b))
    if not first or not second:
        return ""
    return f"never, in {first} of {len(a)} seeds and in {second} of {len(b)}"


def mean(curves: Iterable[np.ndarray]) -> np.ndarray:
    """Mean heights over seeds, at the evaluations that all have."""
    curves = list(curves)
    common = min(len(curve) for curve in curves)
    return np.mean([curve[:common, 1] for curve in curves], axis=0)


def paired(
    said: str,
    a: Scores,
    b: Scores,
    wanted: Wanted = "above",
    margin: float = math.nan,
) -> Contrast | None:
    """What `a` is above `b` on the seeds that both have; None where there is no such seed."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    return contrast(said, [a[s] for s in seeds], [b[s] for s in seeds], wanted, margin)


def unpaired(
    said: str,
    a: Scores,
    b: Scores,
    wanted: Wanted = "above",
    margin: float = math.nan,
) -> Contrast | None:
    """What `a` is above `b` where their seeds share nothing, all that each has; None where either
    has none.
    """
    if not a or not b:
        return None
    return contrast(said, [*a.values()], [*b.values()], wanted, margin, paired=False)


def compared(
    said: str,
    a: Scores,
    b: Scores,
    wanted: Wanted = "above",
    margin: float = math.nan,
    *,
    shared: bool,
) -> Contrast | None:
    """What `a` is above `b`: paired where a seed of both stands on the same run or log (`shared`),
    else unpaired. First weights of the same draw are nothing that a comparison could be paired by.
    """
    return paired(said, a, b, wanted, margin) if shared else unpaired(said, a, b, wanted, margin)
