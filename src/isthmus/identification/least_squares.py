"""Robust nonlinear least squares whose segment starts are eliminated block by block.

Unknowns are the parameters u [P], common to all segments, and each segment's own start [D]. A
start touches its segment alone, so that the normal equations are an arrow: the starts are
eliminated (a Schur complement), and what is left is a system of P unknowns, whatever the log's
length (variable projection; Golub and Pereyra 2003). Levenberg and Marquardt's damping, Huber's
loss by weights, bounds by clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isthmus.identification.residual import Linearization, Predictor

HUBER = 3.0  # standard deviations beyond which a residual counts linearly
MAX_ITERATIONS = 30
MAX_REJECTIONS = 8  # of steps in a row
SMALL_STEP = 1e-6  # in u: the fit has converged
SMALL_GAIN = 1e-6  # of the cost: nothing is won any more
SMALL_NOISY_GAIN = 1e-4  # likewise where noise decides
FIRST_DAMPING = 1e-4
OUTLIER = 1e3  # standard deviations beyond which a residual has no more to say
MAX_PARAMETER_STEP = 0.7  # in u, of one iteration: a factor of 2

OnIteration = Callable[[float], None]


class LeastSquares(NamedTuple):
    """Where the least squares ended, linearized there."""

    u: np.ndarray  # [P]
    start: np.ndarray  # [S, D]
    cost: float  # mean Huber loss of a residual
    residual: np.ndarray  # [S, rows, O] predicted minus observed, in observed units
    normal: NormalEquations


class NormalEquations(NamedTuple):
    """The linearized problem in standard deviations, weighted, its starts eliminated."""

    matrix: np.ndarray  # [P, P] sum over segments
    gradient: np.ndarray  # [P]
    scores: np.ndarray  # [S, P] each segment's share of the gradient
    leverage: np.ndarray  # [O] residuals' degrees of freedom that the starts took


class _Step(NamedTuple):
    parameters: np.ndarray  # [P]
    starts: np.ndarray  # [S, D]


def solve(
    predictor: Predictor,
    u: np.ndarray,
    start: np.ndarray,
    sd: np.ndarray,
    on_iteration: OnIteration | None = None,
    small_gain: float = SMALL_GAIN,
) -> LeastSquares:
    """Fit u [P] and starts [S, D] under noise of standard deviations sd [O].

    An observed number whose sd is infinite does not count. `on_iteration(cost)` is called before
    each iteration; the last one wins less than `small_gain` of the cost.
    """
    targets = predictor.targets
    damping = FIRST_DAMPING
    line = predictor.linearize(u, start)
    cost = measure_cost(line.predicted - targets, sd)
    for _ in range(MAX_ITERATIONS):
        if on_iteration:
            on_iteration(cost)
        step = _descend(predictor, _Blocks(line, targets, sd), _Point(u, start, cost), sd, damping)
        if step is None:
            break
        (new_u, new_start, new_cost), damping = step
        moved = np.abs(new_u - u).max(initial=0)
        gain = (cost - new_cost) / max(cost, 1e-300)
        u, start, cost = new_u, new_start, new_cost
        line = predictor.linearize(u, start)
        if gain < small_gain or (moved < SMALL_STEP and not predictor.starts.size):
            break
    residual = line.predicted - targets
    return LeastSquares(u, start, cost, residual, _Blocks(line, targets, sd).eliminate())


class _Point(NamedTuple):
    u: np.ndarray  # [P]
    start: np.ndarray  # [S, D]
    cost: float


def _descend(
    predictor: Predictor, blocks: _Blocks, point: _Point, sd: np.ndarray, damping: float
) -> tuple[_Point, float] | None:
    """Return the next point and damping; None where no step leads down."""
    space = predictor.space
    for _ in range(MAX_REJECTIONS):
        step = blocks.solve(point.u, space.low, space.high, damping)
        u = np.clip(point.u + step.parameters, space.low, space.high)
        start = point.start + step.starts
        cost = measure_cost(predictor.predict(u, start) - predictor.targets, sd)
        if cost < point.cost:
            return _Point(u, start, cost), max(damping / 10, 1e-12)
        damping *= 10
        if not predictor.starts.size and np.abs(step.parameters).max(initial=0) < SMALL_STEP:
            return None
    return None


def measure_cost(residual: np.ndarray, sd: np.ndarray) -> float:
    """Return the mean Huber loss of residuals [S, rows, O] in units of sd [O]."""
    r = np.minimum(np.abs(residual) / sd, OUTLIER)
    loss = np.where(r <= HUBER, 0.5 * r * r, HUBER * (r - 0.5 * HUBER))
    return float(loss.mean())


class _Blocks:
    """The weighted Jacobian by segments: B [S, n, P] of parameters, A [S, n, D] of starts."""

    def __init__(self, line: Linearization, targets: np.ndarray, sd: np.ndarray):
        r = (line.predicted - targets) / sd
        far = np.abs(r)
        weight = np.sqrt(np.minimum(1.0, HUBER / np.maximum(far, HUBER)))
        weight[far > OUTLIER] = 0.0
        scale = (weight / sd)[..., None]
        size, self.rows, self.observed = r.shape
        n = self.rows * self.observed
        self.r = (weight * np.clip(r, -OUTLIER, OUTLIER)).reshape(size, n)
        self.B = (line.by_parameter * scale).reshape(size, n, -1)
        self.A = (line.by_start * scale).reshape(size, n, -1)
        self.BB = np.matmul(self.B.transpose(0, 2, 1), self.B)
        self.Br = np.einsum("snp,sn->sp", self.B, self.r)
        self.AA = np.matmul(self.A.transpose(0, 2, 1), self.A)
        self.AB = np.matmul(self.A.transpose(0, 2, 1), self.B)
        self.Ar = np.einsum("snd,sn->sd", self.A, self.r)

    def _damped(self, damping: float) -> np.ndarray:
        """Return A'A [S, D, D] with a ridge, by which a start of no effect stays where it is."""
        diagonal = np.einsum("sdd->sd", self.AA)
        ridge = damping * diagonal + 1e-9 * diagonal.max(axis=1, initial=0, keepdims=True) + 1e-12
        return self.AA + ridge[:, :, None] * np.eye(self.AA.shape[1])

    def solve(self, u: np.ndarray, low: np.ndarray, high: np.ndarray, damping: float) -> _Step:
        """Return the damped step; parameters at a bound do not step beyond it."""
        damped = self._damped(damping)
        by_parameter = np.linalg.solve(damped, self.AB)  # [S, D, P]
        by_residual = np.linalg.solve(damped, self.Ar[..., None])[..., 0]  # [S, D]
        matrix = (self.BB - np.matmul(self.AB.transpose(0, 2, 1), by_parameter)).sum(axis=0)
        gradient = (self.Br - np.einsum("sdp,sd->sp", self.AB, by_residual)).sum(axis=0)
        free = ~((u <= low) & (gradient > 0) | (u >= high) & (gradient < 0))
        step = np.zeros(self.B.shape[2])
        if free.any():
            inner = matrix[np.ix_(free, free)]
            diagonal = np.diag(inner)
            ridge = damping * diagonal + 1e-10 * diagonal.max() + 1e-300
            step[free] = -np.linalg.solve(inner + np.diag(ridge), gradient[free])
        largest = np.abs(step).max(initial=0)
        if largest > MAX_PARAMETER_STEP:
            step *= MAX_PARAMETER_STEP / largest
        return _Step(step, -by_residual - by_parameter @ step)

    def eliminate(self) -> NormalEquations:
        """Return the normal equations of the parameters alone."""
        damped = self._damped(0.0)
        by_parameter = np.linalg.solve(damped, self.AB)
        by_residual = np.linalg.solve(damped, self.Ar[..., None])[..., 0]
        matrix = (self.BB - np.matmul(self.AB.transpose(0, 2, 1), by_parameter)).sum(axis=0)
        scores = self.Br - np.einsum("sdp,sd->sp", self.AB, by_residual)
        taken = np.linalg.solve(damped, self.A.transpose(0, 2, 1))  # [S, D, n]
        leverage = np.einsum("snd,sdn->sn", self.A, taken)
        by_number = leverage.reshape(-1, self.rows, self.observed).sum(axis=(0, 1))
        return NormalEquations((matrix + matrix.T) / 2, scores.sum(axis=0), scores, by_number)
