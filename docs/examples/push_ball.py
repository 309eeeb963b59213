"""A policy for docs/guide/crossing.md: it pushes a ball to the origin, and damps."""

import numpy as np


def make():
    """Return actions [N, 2] of observations [N, 4]: positions, then velocities."""

    def push(observations: np.ndarray) -> np.ndarray:
        return -0.8 * observations[:, :2] - 0.8 * observations[:, 2:4]

    return push
