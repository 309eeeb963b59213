"""Figures of where one policy beats another."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from isthmus.report.style import in_style
from isthmus.studies.comparison_map import ComparisonMap

UNDECIDED_STYLE: dict[str, Any] = {"fc": "#f1f2f4", "ec": "#c3c7ce", "hatch": "////", "lw": 0}


@in_style
def plot_maps(maps: list[ComparisonMap]) -> Figure:
    """Plot differences of return over two parameters, a panel a map; undecided cells are hatched.

    Blue: the second policy returns more; red: the first.
    """
    figure = Figure(figsize=(1.6 + 3.4 * len(maps), 3.6))
    panels = list(figure.subplots(1, len(maps), squeeze=False).flat)
    largest = float(np.max([np.abs(compared.difference).max() for compared in maps]))
    if not largest:
        largest = 1.0
    scale = TwoSlopeNorm(0, -largest, largest)
    for ax, compared in zip(panels, maps, strict=True):
        _draw_map(ax, compared, scale)
    colors = ScalarMappable(scale, "RdBu")
    figure.colorbar(colors, ax=panels, label="difference of return", aspect=25)
    figure.legend(
        [Patch(**UNDECIDED_STYLE)], ["undecided"],
        loc="outside lower center",
    )  # fmt: skip
    return figure


def _draw_map(ax: Axes, compared: ComparisonMap, scale: TwoSlopeNorm) -> None:
    """Draw the decided cells by their difference, and hatch the others."""
    rows, columns = compared.difference.shape
    shown = np.ma.masked_where(compared.decided == 0, compared.difference)
    ax.pcolormesh(
        np.arange(columns + 1), np.arange(rows + 1), shown, norm=scale, cmap="RdBu", ec="white",
        lw=0.5,
    )  # fmt: skip
    for row, column in np.argwhere(compared.decided == 0):
        ax.add_patch(Rectangle((column, row), 1, 1, **UNDECIDED_STYLE))
    ax.grid(False)
    y, x = compared.axes
    ax.set_xticks(np.arange(columns) + 0.5, [f"{value:.3g}" for value in x], rotation=60)
    ax.set_yticks(np.arange(rows) + 0.5, [f"{value:.3g}" for value in y])
    ax.set(xlabel=compared.names[1], ylabel=compared.names[0])
    ax.set_title(f"{compared.second} minus {compared.first}", loc="left")
