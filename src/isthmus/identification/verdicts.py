"""What a fit says of each parameter, of what cannot be told apart, and of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from isthmus.domains.domain import RobotDomain
from isthmus.identification.fit import (
    AT_BOUND,
    IDENTIFIED,
    NOT_IDENTIFIED,
    Combination,
    ExplainedGap,
    FittedParameter,
)
from isthmus.identification.intervals import Spread
from isthmus.identification.least_squares import solve
from isthmus.identification.log_space import LogSpace
from isthmus.identification.residual import Predictor
from isthmus.identification.segments import Segments
from isthmus.physics.parameters import Parameter
from isthmus.types import BadValue

WIDEST = float(np.log(2.0))
"""In u: an interval that reaches further to either side tells nothing worth the name."""

SHARED = 0.1
"""A parameter of a smaller part in a direction that is not told is told by the others."""

ROUNDING_SHARE = 1e-6  # of an observed number's spread: a log holds 7 digits
SAME_FACTOR = 0.9  # of a direction's largest part: the others count as equal


def judge_parameters(
    table: Mapping[str, Parameter], space: LogSpace, u: np.ndarray, spread: Spread
) -> tuple[FittedParameter, ...]:
    """Return each parameter's value, interval and verdict."""
    half = spread.quantile * np.sqrt(np.diag(spread.covariance))
    shared = (np.abs(spread.directions) > SHARED) & spread.untold[:, None]
    untold = shared.any(axis=0) | (half > WIDEST)
    values = space.decode(u)
    lows = space.decode(np.maximum(u - half, space.low))
    highs = space.decode(np.minimum(u + half, space.high))
    bounds = np.stack([space.decode(space.low), space.decode(space.high)], axis=1)
    at_bound = space.find_at_bound(u)
    judged = []
    for i, name in enumerate(space.names):
        verdict = IDENTIFIED
        if untold[i]:
            verdict = NOT_IDENTIFIED
        elif at_bound[i]:
            verdict = AT_BOUND
        low, high = max(bounds[i, 0], table[name].low), min(bounds[i, 1], table[name].high)
        value = float(np.clip(values[i], low, high))
        judged.append(
            FittedParameter(
                name=name,
                unit=table[name].unit,
                default=float(space.start[i]),
                value=value,
                low=float(min(lows[i], value)),
                high=float(max(highs[i], value)),
                verdict=verdict,
                offset=float(space.offset[i]),
                bounds=(float(low), float(high)),
            )
        )
    return tuple(judged)


def list_combinations(names: Sequence[str], spread: Spread) -> tuple[Combination, ...]:
    """Return the directions that the log does not tell, each in words."""
    combinations = []
    for direction in spread.directions[spread.untold]:
        largest = direction[np.abs(direction).argmax()]
        parts = direction / largest
        weights = {}
        for name, part in zip(names, parts, strict=True):
            if abs(part) > SHARED:
                weights[name] = round(float(part), 3)
        combinations.append(Combination(weights, describe_direction(weights)))
    return tuple(combinations)


def describe_direction(weights: Mapping[str, float]) -> str:
    """Say in a sentence what a log does not tell."""
    names = list(weights)
    if len(names) == 1:
        return f"{names[0]} has no effect on what was logged"
    together = f"{', '.join(names[:-1])} and {names[-1]}"
    if min(weights.values()) > SAME_FACTOR:
        return f"{together} share a common factor: only their ratios are told"
    parts = [f"{name} x{2**weight:.3g}" for name, weight in weights.items()]
    return f"{together} cannot be told apart: {', '.join(parts)} together look the same"


class StepGap(NamedTuple):
    """One-step errors on held-out segments, by the source's values and by the fit's."""

    by_default: np.ndarray  # [S, H, O]
    by_fit: np.ndarray  # [S, H, O]
    spread: np.ndarray  # [O] standard deviation of what was observed
    block: np.ndarray  # int64 [S]

    @property
    def scale(self) -> np.ndarray:
        """Root mean square errors by default [O]; infinity where that is rounding."""
        size = np.sqrt(np.mean(self.by_default**2, axis=(0, 1)))
        return np.where(size > ROUNDING_SHARE * self.spread, size, np.inf)

    @property
    def explained(self) -> float:
        """How much of the squared error is gone, over all observed numbers."""
        left = np.mean(self.by_fit**2, axis=(0, 1)) / self.scale**2
        counted = np.isfinite(self.scale)
        return float(1 - left[counted].mean()) if counted.any() else 0.0

    def list_numbers(self, names: Sequence[str]) -> tuple[ExplainedGap, ...]:
        """Return each observed number's errors."""
        by_default = np.sqrt(np.mean(self.by_default**2, axis=(0, 1)))
        by_fit = np.sqrt(np.mean(self.by_fit**2, axis=(0, 1)))
        numbers = []
        for name, before, after in zip(names, by_default.tolist(), by_fit.tolist(), strict=True):
            explained = 1 - (after / before) ** 2 if before > 0 else 0.0
            numbers.append(ExplainedGap(name, before, after, explained))
        return tuple(numbers)

    def check_gain(self) -> None:
        """Raise BadValue where the fit explains no more than the source's values.

        The gain has to be twice its standard error over blocks. Errors count by size, not by
        square: contacts do not decide.
        """
        better = (np.abs(self.by_default) - np.abs(self.by_fit)) / self.scale
        by_segment = better.mean(axis=(1, 2))
        blocks, place = np.unique(self.block, return_inverse=True)
        gains = np.bincount(place.reshape(-1), by_segment) / np.bincount(place.reshape(-1))
        error = gains.std(ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else 0.0
        if not gains.mean() > 2 * error:
            raise BadValue(
                "the fit explains no more of what was held out than the source does: in these "
                "parameters there is nothing to fit; name others by --parameters, or log more"
            )


def explain_gap(source: RobotDomain, space: LogSpace, u: np.ndarray, held_out: Segments) -> StepGap:
    """Measure errors on held-out segments; unknown starts are fitted under either."""
    by_default = _measure_errors(source, space, space.origin, held_out)
    by_fit = _measure_errors(source, space, u, held_out)
    spread = held_out.targets.std(axis=(0, 1))
    return StepGap(by_default, by_fit, spread, held_out.block)


def _measure_errors(
    source: RobotDomain, space: LogSpace, u: np.ndarray, segments: Segments
) -> np.ndarray:
    predictor = Predictor(source, replace(space, low=u, high=u), segments, fits_starts=False)
    start = predictor.starts.begin(segments)
    if predictor.starts.size:
        sd = np.maximum(segments.targets.std(axis=(0, 1)), 1e-9)
        return solve(predictor, u, start, sd).residual[:, 1:]
    return predictor.predict(u, start) - segments.targets
