"""A landscape: mean return over a grid of two physical parameters, all cells in one batch."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.gaps import find_fixed, with_settings
from isthmus.domains.parse import as_domain
from isthmus.evaluation.evaluate import SEED, Adapter, OnStep, evaluate, evaluate_method
from isthmus.physics.parameters import Distribution, Grid
from isthmus.problems.problem import Problem
from isthmus.types import BadValue, Episodes

TrainingBox = tuple[tuple[float, float] | None, tuple[float, float] | None]


class Landscape(NamedTuple):
    """Returns over a grid of two parameters.

    The first axis varies `names[0]`. `box` is the range of training per axis (None where it is not
    known), in the parameters' absolute units.
    """

    names: tuple[str, ...]
    axes: tuple[np.ndarray, np.ndarray]
    returns: np.ndarray  # [rows, columns, episodes]
    lengths: np.ndarray  # [rows, columns, episodes]
    box: TrainingBox

    @property
    def mean(self) -> np.ndarray:
        """Return the mean return of each cell, [rows, columns]."""
        return self.returns.mean(-1)

    @property
    def inside(self) -> np.ndarray:
        """Return which cells lie in the training box, bool [rows, columns].

        A value held fixed is a box of its own.
        """
        within = []
        for axis, box in zip(self.axes, self.box, strict=True):
            low, high = box or (-np.inf, np.inf)
            within.append((axis >= low - 1e-9) & (axis <= high + 1e-9))
        return within[0][:, None] & within[1][None, :]

    def csv(self) -> str:
        """Return the landscape as CSV, one row a cell."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [*self.names, "mean_return", "sd", "mean_length", "episodes", "in_training_box"]
        )
        inside = self.inside
        for i, j in np.ndindex(inside.shape):
            returns = self.returns[i, j]
            writer.writerow(
                [
                    f"{self.axes[0][i]:.6g}",
                    f"{self.axes[1][j]:.6g}",
                    f"{returns.mean():.2f}",
                    f"{returns.std():.2f}",
                    f"{self.lengths[i, j].mean():.1f}",
                    len(returns),
                    int(inside[i, j]),
                ]
            )
        return out.getvalue()

    def save(self, path: Path) -> None:
        """Write the landscape as CSV."""
        path.write_text(self.csv(), encoding="utf-8")


def training_box(domain: Domain, names: tuple[str, ...]) -> TrainingBox:
    """Return the range in which training varied two parameters; None where there is no such one.

    A distribution's or a grid's ends; a fixed value, or the robot's own, twice.
    """
    return _find_range(domain, names[0]), _find_range(domain, names[1])


def _find_range(domain: Domain, name: str) -> tuple[float, float] | None:
    settings, table = dict(domain.settings), domain.parameter_table()
    if name not in {**settings, **table}:
        return None
    setting = settings[name] if name in settings else find_fixed(domain, name)
    if isinstance(setting, Distribution):
        return setting.low, setting.high
    if isinstance(setting, Grid):
        return min(setting.values), max(setting.values)
    return setting, setting


def make_grid(domain: Domain, axes: str) -> Domain:
    """Return the grid `axes` (`name=low..high:count,...`) in a domain.

    What the domain varies itself gives way, the rest stays.
    """
    fixed = []
    for name, setting in domain.settings:
        if isinstance(setting, float):
            fixed.append((name, setting))
    return with_settings(domain, tuple(fixed)).shift(axes)


def landscape(
    policy: PolicyLike,
    grid: Domain | str,
    episodes: int = 20,
    seed: int = SEED,
    trained_in: Domain | None = None,
    method: tuple[Adapter, Any, Problem] | None = None,
    on_step: OnStep | None = None,
) -> Landscape:
    """Play `episodes` episodes in every cell of a grid with two axes, a domain or its text.

    `policy` is played as it is; or pass `method=(method, state, problem)` to adapt in each cell
    first. Raises BadValue where the grid has not exactly two axes.
    """
    grid = as_domain(grid)
    count = episodes * math.prod(map(len, _list_axes(grid)))
    if method:
        played = evaluate_method(*method, grid, count, seed, on_step).episodes
    else:
        played = evaluate(policy, grid, count, seed, on_step).episodes
    return make_landscape(grid, played, trained_in)


def make_landscape(grid: Domain, played: Episodes, trained_in: Domain | None = None) -> Landscape:
    """Return the landscape of episodes played in a grid's cells, as `evaluate` plays them."""
    axes, names = _list_axes(grid), tuple(grid.grid)
    shape = (len(axes[0]), len(axes[1]), -1)
    box = training_box(trained_in, names) if trained_in else (None, None)
    return Landscape(names, axes, played.returns.reshape(shape), played.lengths.reshape(shape), box)


def _list_axes(grid: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of both axes. Raises BadValue where there are not two."""
    axes = list(map(np.array, grid.grid.values()))
    if len(axes) != 2:
        raise BadValue(
            f"a landscape has two axes, this domain has {len(axes)}: write name=low..high:count "
            "for each"
        )
    return axes[0], axes[1]
