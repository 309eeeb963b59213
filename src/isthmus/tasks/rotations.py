"""Rotations of N bodies at once, by unit quaternions (w, x, y, z)."""

from __future__ import annotations

import numpy as np


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return vectors (n, 3), or one (3,), turned from bodies' axes into the world's."""
    w, x, y, z = quaternion.T
    a, b, c = np.moveaxis(np.asarray(vector), -1, 0)
    # v + 2 w (u x v) + 2 u x (u x v), written out: the same bits in any batch.
    p, q, r = y * c - z * b, z * a - x * c, x * b - y * a
    turned = (
        a + 2 * (w * p + y * r - z * q),
        b + 2 * (w * q + z * p - x * r),
        c + 2 * (w * r + x * q - y * p),
    )
    return np.stack(turned, axis=1)


def rotate_back(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return vectors (n, 3), or one (3,), turned from the world's axes into bodies'."""
    return rotate(quaternion * np.array([1.0, -1.0, -1.0, -1.0]), vector)


def tilt_of(down: np.ndarray) -> np.ndarray:
    """Return the quaternions (n, 4), without a turn about the vertical, of bodies that see down
    (n, 3) there, in their own axes.
    """
    # The shortest rotation that takes the observed direction to the world's down.
    w = 1 - down[:, 2]
    quaternion = np.stack([w, -down[:, 1], down[:, 0], 0 * w], axis=1)
    size = np.sqrt((quaternion**2).sum(axis=1, keepdims=True))
    upside_down = np.array([0.0, 1.0, 0.0, 0.0])
    return np.where(size > 1e-9, quaternion / np.maximum(size, 1e-9), upside_down)
