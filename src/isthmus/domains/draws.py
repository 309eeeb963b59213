"""Draws of physical parameters, one a world and task."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from isthmus.domains.simulation import DYNAMICS
from isthmus.physics.parameters import Distribution, Grid, JointLaw, ParameterSpec
from isthmus.physics.random import Streams, fold

FACTORS = "factors of a joint law"
"""The name by which their draws are kept apart from those of parameters."""


def draw_parameters(
    settings: tuple[tuple[str, ParameterSpec], ...], key: np.ndarray, task: np.ndarray
) -> np.ndarray:
    """Draw the dynamics (n, P) of worlds' tasks by their keys (n,) and task numbers (n,)."""
    names = tuple(name for name, _ in settings)
    drawn = np.empty((len(key), len(settings)))
    streams = fold(key[:, None], DYNAMICS, task[:, None], _hash_names(names))
    u = Streams(streams.T.ravel()).uniform(0.0, 1.0, 1).reshape(drawn.T.shape)
    for column, (_, setting) in enumerate(settings):
        if isinstance(setting, JointLaw):
            drawn[:, column] = setting.draw_jointly(_draw_factors(key, task, len(setting.loadings)))
        else:
            drawn[:, column] = _choose_value(setting, u[column])
    return drawn


def _draw_factors(key: np.ndarray, task: np.ndarray, count: int) -> np.ndarray:
    """Draw the standard normal factors (n, K) that the joint laws of a world's task share."""
    stream = Streams(fold(key, DYNAMICS, task, _hash_name(FACTORS)))
    return stream.standard_normal(count)


def _choose_value(setting: ParameterSpec, u: np.ndarray) -> np.ndarray | float:
    """Return a parameter's values (n,) at numbers `u` (n,) in 0..1; of a fixed one, its value."""
    if isinstance(setting, Distribution):
        return setting.invert(u)
    if isinstance(setting, Grid):
        index = (u * len(setting.values)).astype(int)
        return np.array(setting.values)[index]
    return setting


@lru_cache(maxsize=64)
def _hash_names(names: tuple[str, ...]) -> np.ndarray:
    """Return what keeps the draws of parameters apart, uint64 [P]."""
    return np.array([_hash_name(name) for name in names], np.uint64)


def _hash_name(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
