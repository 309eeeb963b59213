"""Robust nonlinear least squares whose segment starts are eliminated block by block.

Unknowns are the parameters u [P], common to all segments, and each segment's own start [D]. A
start touches its segment alone, so that the normal equations are an arrow: the starts are
eliminated (a Schur complement), and what is left is a system of P unknowns, whatever the log's
length (variable projection; Golub and Pereyra 2003). Levenberg and Marquardt's damping, Huber's
loss by weights, bounds by clipping. Each start has a damping of its own, and a segment's loss
levels off (`_sum_up`): what cannot be followed through a contact decides nothing.
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
LEAST_DAMPING, MOST_DAMPING = 1e-6, 1e6  # of a segment's start
LARGE_LOSS = 2.0  # of the median: where a segment's loss begins to level off
START_TRIES = 4  # of an iteration: a segment whose loss grows takes a tenth of the step again
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
    leverage: np.ndarray  # [rows, O] residuals' degrees of freedom that the starts took


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
    damping = _Damping(FIRST_DAMPING, np.full(len(start), FIRST_DAMPING))
    line = predictor.linearize(u, start)
    for _ in range(MAX_ITERATIONS):
        blocks = _Blocks(line, targets, sd)
        if on_iteration:
            on_iteration(float(blocks.losses.mean()))
        step = _descend(predictor, blocks, _Point(u, start, blocks.cost), sd, damping)
        if step is None:
            break
        (new_u, new_start, new_cost), damping = step
        moved = np.abs(new_u - u).max(initial=0)
        gain = (blocks.cost - new_cost) / max(blocks.cost, 1e-300)
        u, start = new_u, new_start
        line = predictor.linearize(u, start)
        if gain < small_gain or (moved < SMALL_STEP and not predictor.starts.size):
            break
    residual = line.predicted - targets
    cost = measure_cost(residual, sd)
    return LeastSquares(u, start, cost, residual, _Blocks(line, targets, sd).eliminate())


class _Point(NamedTuple):
    u: np.ndarray  # [P]
    start: np.ndarray  # [S, D]
    cost: float


class _Damping(NamedTuple):
    parameters: float
    starts: np.ndarray  # [S]


def _descend(
    predictor: Predictor, blocks: _Blocks, point: _Point, sd: np.ndarray, damping: _Damping
) -> tuple[_Point, _Damping] | None:
    """Return the next point and damping; None where no step leads down."""
    space, ridge = predictor.space, damping.parameters
    for _ in range(MAX_REJECTIONS):
        wanted = blocks.step_parameters(point.u, space.low, space.high, ridge)
        wanted -= predictor.untold.T @ (predictor.untold @ wanted)
        u = np.clip(point.u + wanted, space.low, space.high)
        start, cost, of_starts = _settle_starts(predictor, blocks, point, u, sd, damping.starts)
        if cost < point.cost:
            return _Point(u, start, cost), _Damping(max(ridge / 10, 1e-12), of_starts)
        ridge *= 10
        if not predictor.starts.size and np.abs(wanted).max(initial=0) < SMALL_STEP:
            return None
    start, cost, of_starts = _settle_starts(predictor, blocks, point, point.u, sd, damping.starts)
    if cost < point.cost:
        return _Point(point.u, start, cost), _Damping(FIRST_DAMPING, of_starts)
    return None


def _settle_starts(
    predictor: Predictor,
    blocks: _Blocks,
    point: _Point,
    u: np.ndarray,
    sd: np.ndarray,
    damping: np.ndarray,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return starts that go with u, the cost there, and each segment's next damping.

    A contact near a segment's start makes its loss rough: such a segment takes a shorter step, or
    none, and does not hold up the others.
    """
    best_loss, best = np.full(len(point.start), np.inf), point.start
    unsettled = np.ones(len(point.start), bool)
    for _ in range(START_TRIES if predictor.starts.size else 1):
        damping = np.where(unsettled & np.isfinite(best_loss), 10 * damping, damping)
        trial = point.start + blocks.step_starts(u - point.u, damping)
        loss = measure_losses(predictor.predict(u, trial) - predictor.targets, sd)
        better = loss < best_loss
        best = np.where(better[:, None], trial, best)
        best_loss = np.where(better, loss, best_loss)
        unsettled = best_loss > blocks.losses
        if not unsettled.any():
            break
    damping = np.clip(np.where(unsettled, 10 * damping, damping / 10), LEAST_DAMPING, MOST_DAMPING)
    return best, _sum_up(best_loss, blocks.usual), damping


def measure_cost(residual: np.ndarray, sd: np.ndarray) -> float:
    """Return the mean Huber loss of residuals [S, rows, O] in units of sd [O]."""
    return float(measure_losses(residual, sd).mean())


def _sum_up(losses: np.ndarray, usual: float) -> float:
    """Return the cost of segments' losses [S], which levels off at the usual one's multiples.

    Geman and McClure 1987: a segment that cannot be followed, for a contact near its start, decides
    nothing.
    """
    return float((losses / (1 + losses / usual)).mean())


def measure_losses(residual: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return each segment's mean Huber loss [S]."""
    r = np.minimum(np.abs(residual) / sd, OUTLIER)
    loss = np.where(r <= HUBER, 0.5 * r * r, HUBER * (r - 0.5 * HUBER))
    return loss.mean(axis=(1, 2))


class _Blocks:
    """The weighted Jacobian by segments: B [S, n, P] of parameters, A [S, n, D] of starts."""

    def __init__(self, line: Linearization, targets: np.ndarray, sd: np.ndarray):
        self.losses = measure_losses(line.predicted - targets, sd)
        r = (line.predicted - targets) / sd
        far = np.abs(r)
        weight = np.sqrt(np.minimum(1.0, HUBER / np.maximum(far, HUBER)))
        weight[far > OUTLIER] = 0.0
        self.usual = max(1.0, LARGE_LOSS * float(np.median(self.losses)))
        self.cost = _sum_up(self.losses, self.usual)
        weight /= (1 + self.losses / self.usual)[:, None, None]
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

    def _damped(self, damping: np.ndarray | float) -> np.ndarray:
        """Return A'A [S, D, D] with a ridge, by which a start of no effect stays where it is."""
        diagonal = np.einsum("sdd->sd", self.AA)
        ridge = np.reshape(damping, (-1, 1)) * diagonal
        ridge = ridge + 1e-9 * diagonal.max(axis=1, initial=0, keepdims=True) + 1e-12
        return self.AA + ridge[:, :, None] * np.eye(self.AA.shape[1])

    def step_parameters(
        self, u: np.ndarray, low: np.ndarray, high: np.ndarray, damping: float
    ) -> np.ndarray:
        """Return the damped step [P]; parameters at a bound do not step beyond it."""
        normal = self.eliminate()
        matrix, gradient = normal.matrix, normal.gradient
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
        return step

    def step_starts(self, step: np.ndarray, damping: np.ndarray) -> np.ndarray:
        """Return the starts' damped step [S, D] that goes with the parameters' [P]."""
        wanted = self.Ar + self.AB @ step
        return -np.linalg.solve(self._damped(damping), wanted[..., None])[..., 0]

    def eliminate(self) -> NormalEquations:
        """Return the normal equations of the parameters alone."""
        damped = self._damped(0.0)
        by_parameter = np.linalg.solve(damped, self.AB)
        by_residual = np.linalg.solve(damped, self.Ar[..., None])[..., 0]
        matrix = (self.BB - np.matmul(self.AB.transpose(0, 2, 1), by_parameter)).sum(axis=0)
        scores = self.Br - np.einsum("sdp,sd->sp", self.AB, by_residual)
        taken = np.linalg.solve(damped, self.A.transpose(0, 2, 1))  # [S, D, n]
        leverage = np.einsum("snd,sdn->sn", self.A, taken)
        by_number = leverage.reshape(-1, self.rows, self.observed).sum(axis=0)
        return NormalEquations((matrix + matrix.T) / 2, scores.sum(axis=0), scores, by_number)
