"""A landscape: mean return over a grid of two physical parameters, all cells and episodes as one
batch.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.evaluation.evaluate import SEED, evaluate, evaluate_method
from isthmus.physics.parameters import Distribution, Grid
from isthmus.types import BadValue, Episodes


class Landscape(NamedTuple):
    """Mean returns over a grid.

    `returns` [rows, columns, episodes]: the first axis varies `names[0]`. `box` is the training
    range per axis (None where the training did not vary it), in the parameters' absolute units.
    """

    names: tuple[str, ...]
    axes: tuple[np.ndarray, np.ndarray]
    returns: np.ndarray
    lengths: np.ndarray
    box: tuple[tuple[float, float] | None, tuple[float, float] | None]

    @property
    def mean(self) -> np.ndarray:
        return self.returns.mean(-1)

    @property
    def inside(self) -> np.ndarray:
        """Which cells lie in the training box, bool [rows, columns]; a value held fixed is a box of
        its own.
        """
        within = []
        for axis, box in zip(self.axes, self.box, strict=True):
            low, high = box or (-np.inf, np.inf)
            within.append((axis >= low - 1e-9) & (axis <= high + 1e-9))
        return within[0][:, None] & within[1][None, :]

    def csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [*self.names, "mean_return", "sd", "mean_length", "episodes", "in_training_box"]
        )
        for i, x in enumerate(self.axes[0]):
            for j, y in enumerate(self.axes[1]):
                r = self.returns[i, j]
                row = [
                    f"{x:.6g}",
                    f"{y:.6g}",
                    f"{r.mean():.2f}",
                    f"{r.std():.2f}",
                    f"{self.lengths[i, j].mean():.1f}",
                ]
                writer.writerow([*row, len(r), int(self.inside[i, j])])
        return out.getvalue()

    def save(self, path: Path) -> None:
        path.write_text(self.csv(), encoding="utf-8")


def training_box(domain: Domain, names: tuple[str, ...]) -> tuple[Any, Any]:
    """Return what training varied, per parameter: a law's ends; a fixed value, or the robot's own,
    twice.
    """
    settings, table = dict(domain.settings), domain.table()

    def span(name: str) -> tuple[float, float] | None:
        setting = settings.get(name, table[name].default if name in table else None)
        if isinstance(setting, Distribution):
            return setting.low, setting.high
        if isinstance(setting, Grid):
            return min(setting.values), max(setting.values)
        return None if setting is None else (setting, setting)

    return span(names[0]), span(names[1])


def over(domain: Domain, axes: str) -> Domain:
    """The grid `axes` (`name=low..high:count,...`) in a domain: what it varies itself gives way,
    the rest stays.
    """
    fixed = tuple(
        (name, setting) for name, setting in domain.settings if isinstance(setting, float)
    )
    return replace(domain, settings=fixed).shift(axes)


def landscape(
    policy: Any,
    grid: Domain | str,
    episodes: int = 20,
    seed: int = SEED,
    trained_in: Domain | None = None,
    method: tuple[Any, Any, Any] | None = None,
    on_step: Any = None,
) -> Landscape:
    """Play `episodes` episodes in every cell of a grid domain (or what its text says) with two
    axes.

    `policy` is played as it is; or pass `method=(method, state, problem)` to adapt in each cell
    first. Raises BadValue where the grid has not exactly two axes.
    """
    grid = as_domain(grid)
    axes = _axes(grid)
    count = episodes * len(axes[0]) * len(axes[1])
    if method:
        played = evaluate_method(*method, grid, count, seed, on_step).episodes
    else:
        played = evaluate(policy, grid, count, seed, on_step).episodes
    return from_episodes(grid, played, trained_in)


def from_episodes(grid: Domain, played: Episodes, trained_in: Domain | None = None) -> Landscape:
    """The landscape of episodes played in a grid's cells, as `evaluate` plays them."""
    axes, names = _axes(grid), tuple(grid.grid)
    shape = (len(axes[0]), len(axes[1]), -1)
    box = training_box(trained_in, names) if trained_in else (None, None)
    return Landscape(names, axes, played.returns.reshape(shape), played.lengths.reshape(shape), box)


def _axes(grid: Domain) -> tuple[np.ndarray, np.ndarray]:
    axes = [np.array(values) for values in grid.grid.values()]
    if len(axes) != 2:
        raise BadValue(
            f"a landscape has two axes, this domain has {len(axes)}: write name=low..high:count "
            "for each"
        )
    return axes[0], axes[1]
