"""Intervals that hold where residuals of one block depend on each other, and what no log tells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.identification.invariances import span_rest
from isthmus.identification.least_squares import SMALL_STEP, NormalEquations

LEVEL = 0.95
UNTOLD_SD = float(np.log(2) / 1.96)
"""In u: what a parameter keeps along a direction that is not told, a factor of 2 either way."""

UNTOLD_RATIO = 5e-4
"""Of the largest singular value of the scaled Jacobian: below, differences are rounding."""


SMALLEST = 1e-30
"""Of the largest eigenvalue: what is taken for a smaller one, so that nothing overflows."""


class Spread(NamedTuple):
    """What is known of P parameters, in u."""

    covariance: np.ndarray  # [P, P]
    quantile: float  # standard deviations of a 95 % interval
    singular_values: np.ndarray  # [P], descending, of the Jacobian in standard deviations
    directions: np.ndarray  # [P, P], a row a singular vector
    untold: np.ndarray  # bool [P], which directions the log does not tell


def estimate_spread(normal: NormalEquations, block: np.ndarray, invariant: np.ndarray) -> Spread:
    """Return the spread of the fit, by the sandwich over blocks (int64 [S]) of segments.

    Liang and Zeger 1986: bread is the inverse of the normal matrix, filling the sum over blocks
    of the outer products of their gradients. Directions that the log does not tell keep UNTOLD_SD,
    and those that no log tells, `invariant` [K, P], come last.
    """
    from scipy.stats import t

    eigenvalues, vectors = _decompose(normal.matrix, invariant)
    blocks = np.unique(block, return_inverse=True)[1].reshape(-1)
    count = int(blocks.max()) + 1
    scores = np.zeros((count, len(eigenvalues)))
    np.add.at(scores, blocks, normal.scores)
    scores = (scores - scores.mean(axis=0)) @ vectors  # in the singular directions
    filling = scores.T @ scores * count / max(count - 1, 1)
    singular = np.sqrt(eigenvalues)
    inverse = 1 / np.maximum(eigenvalues, SMALLEST * eigenvalues[0])
    inner = filling * inverse[:, None] * inverse[None, :]
    untold = singular <= UNTOLD_RATIO * singular[0]
    untold |= np.sqrt(np.diag(inner)) > UNTOLD_SD
    untold[len(untold) - len(invariant) :] = True
    inner[untold, :] = 0.0
    inner[:, untold] = 0.0
    # The parameter of the largest part spans the whole factor.
    inner[untold, untold] = (UNTOLD_SD / np.abs(vectors).max(axis=0)[untold]) ** 2
    covariance = vectors @ inner @ vectors.T
    # A fit that rough contacts stopped short of its minimum is off by what is left of its way, and
    # any fit by the solver's last step.
    way = np.where(untold, 0.0, inverse * (vectors.T @ normal.gradient))
    left = vectors @ way
    covariance += np.outer(left, left) + SMALL_STEP**2 * np.eye(len(left))
    quantile = float(t.ppf(0.5 + LEVEL / 2, max(count - 1, 1)))
    return Spread((covariance + covariance.T) / 2, quantile, singular, vectors.T, untold)


def _decompose(matrix: np.ndarray, invariant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues [P], descending, and vectors [P, P], columns; what is invariant is 0."""
    rest = span_rest(invariant)
    eigenvalues, vectors = np.linalg.eigh(rest.T @ matrix @ rest)
    values = np.append(np.maximum(eigenvalues[::-1], 0.0), np.zeros(len(invariant)))
    return values, np.concatenate([rest @ vectors[:, ::-1], invariant.T], axis=1)
