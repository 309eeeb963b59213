"""How parameters write model fields: rows (n, ...) of worlds, from the defaults that they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Fields = Mapping[str, np.ndarray]
Apply = Callable[[Fields, np.ndarray], None]
Masks = dict[str, np.ndarray]  # by model field: bool, of the field's shape


def scale(field: str, index: int | list[int]) -> Apply:
    """Return a function that multiplies a field's entries at `index` by the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        rows = fields[field]
        rows[:, index] = rows[:, index] * _align(values, rows[:, index])

    return apply


def assign(field: str, index: int | list[int]) -> Apply:
    """Return a function that sets a field's entries at `index` to the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        rows = fields[field]
        rows[:, index] = _align(values, rows[:, index])

    return apply


def scale_marked(masks: Masks) -> Apply:
    """Return a function that multiplies the marked entries by the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        for field, mask in masks.items():
            rows = fields[field]
            rows[:, mask] = rows[:, mask] * values[:, None]

    return apply


def _align(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return values (n,) with as many axes as rows (n, ...) have."""
    return values.reshape((-1,) + (1,) * (rows.ndim - 1))
