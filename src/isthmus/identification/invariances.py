"""What no log can tell: directions of the parameters along which no prediction changes.

Scaled together, the masses, dampings, armatures and motors of a robot without springs leave every
motion as it is. Such a direction is found where differences are smooth, one step ahead, and proven
by predictions: in logarithms its parts are whole numbers, or halves.
"""

from __future__ import annotations

import numpy as np

from isthmus.identification.least_squares import LeastSquares
from isthmus.identification.residual import Predictor

WEAK_RATIO = 0.05  # of the largest singular value: candidates
REACH = 0.3  # in u, of the proof's two predictions
UNMOVED = 1e-3  # of a number's usual change in a step: what rounding and the solver leave
PARTS = 2.0  # a direction's parts are multiples of 1 / PARTS of the largest


def find_invariances(predictor: Predictor, solution: LeastSquares, usual: np.ndarray) -> np.ndarray:
    """Return orthonormal directions [K, P] of u that change no prediction; K is often 0.

    `usual` is each observed number's usual change in a step, [O].
    """
    eigenvalues, vectors = np.linalg.eigh(solution.normal.matrix)
    singular = np.sqrt(np.maximum(eigenvalues, 0.0))
    found: list[np.ndarray] = []
    for value, vector in zip(singular, vectors.T, strict=True):
        if value > WEAK_RATIO * singular[-1]:
            break
        candidate = round_direction(vector)
        if _is_invariant(predictor, solution, usual, candidate):
            found.append(candidate)
    return _orthonormalize(found, len(singular))


def round_direction(direction: np.ndarray) -> np.ndarray:
    """Return a direction [P] whose parts are rounded to halves of its largest."""
    largest = direction[np.abs(direction).argmax()]
    return np.round(PARTS * direction / largest) / PARTS


def _is_invariant(
    predictor: Predictor, solution: LeastSquares, usual: np.ndarray, direction: np.ndarray
) -> bool:
    """Return whether two predictions far apart along a direction are one."""
    space, moved = predictor.space, REACH * direction
    ends = [np.clip(solution.u + way, space.low, space.high) for way in (moved, -moved)]
    one, other = (predictor.predict(end, solution.start) for end in ends)
    return bool(np.median(np.abs(one - other) / usual, axis=(0, 1)).max() < UNMOVED)


def _orthonormalize(directions: list[np.ndarray], size: int) -> np.ndarray:
    if not directions:
        return np.zeros((0, size))
    _, singular, rows = np.linalg.svd(np.array(directions), full_matrices=False)
    return rows[singular > 1e-6 * singular[0]]


def span_rest(untold: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis [P, P - K] of what directions [K, P] leave."""
    size = untold.shape[1]
    if not len(untold):
        return np.eye(size)
    return np.linalg.svd(untold, full_matrices=True)[2][len(untold) :].T
