"""Figures of landscapes: mean returns over two physical parameters, on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from isthmus.domains.domain import Domain
from isthmus.evaluation.landscape import Landscape
from isthmus.report.landscapes import find_inert_limit
from isthmus.report.numbers import format_number
from isthmus.report.style import INK_COLOR, PALE_COLOR, in_style
from isthmus.types import BadValue

TitledLandscape = tuple[str, Landscape]
POINT_STYLE: dict[str, Any] = {
    "marker": "o",
    "ls": "",
    "ms": 6,
    "mfc": "white",
    "mec": INK_COLOR,
    "mew": 1.1,
}
INERT_STYLE: dict[str, Any] = {"ls": (0, (4, 3)), "lw": 0.9}


@in_style
def plot_landscapes(landscapes: Sequence[TitledLandscape], domain: Domain | None = None) -> Figure:
    """Plot mean returns over two parameters, one panel a (name, landscape), on one colour scale.

    White frames (dots, lines where training had one value) are the dynamics met in training.
    `domain` is any domain of the robot: from it the axes learn their units, and where foot friction
    has no effect. Raises BadValue for none.
    """
    if not landscapes:
        raise BadValue("no landscape to draw")
    scale = _find_scale(landscapes)
    columns = min(len(landscapes), 4)
    rows = ceil(len(landscapes) / columns)
    figure = Figure(figsize=(max(1.0 + 2.6 * columns, 4.2), 0.75 + 2.55 * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    meshes, handles = [], {}
    for ax, (name, landscape) in zip(panels.flat, landscapes, strict=False):
        meshes.append(_draw_landscape(ax, name, landscape, scale))
        handles |= _mark_training(ax, landscape)
        handles |= _mark_inert_values(ax, landscape, domain)
    for ax in panels.flat[len(landscapes) :]:
        ax.remove()
    _label_axes(panels, landscapes, domain)
    bar = figure.colorbar(
        meshes[-1], ax=figure.axes, shrink=0.9, pad=0.02, aspect=25, label="mean return"
    )
    bar.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    if handles:
        place = "outside lower center"
        figure.legend([*handles.values()], [*handles], loc=place, ncols=3, handlelength=1.6)
    return figure


def _find_scale(landscapes: Sequence[TitledLandscape]) -> Normalize:
    """Return the colour scale from the lowest mean of all landscapes to the highest."""
    means = np.concatenate([landscape.mean.ravel() for _, landscape in landscapes])
    low, high = float(means.min()), float(means.max())
    if low == high:
        high = low + 1
    return Normalize(low, high)


def _draw_landscape(ax: Axes, name: str, landscape: Landscape, scale: Normalize) -> QuadMesh:
    """Draw one landscape with its title, and return its cells."""
    y, x = map(_find_edges, landscape.axes)
    mesh = ax.pcolormesh(x, y, landscape.mean, norm=scale, cmap="viridis", rasterized=True)
    ax.grid(False)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_title(name, fontweight="bold", loc="left", pad=14)
    summary = _summarize(landscape)
    ax.text(0, 1.02, summary, transform=ax.transAxes, fontsize=7.5, color=PALE_COLOR, va="bottom")
    return mesh


def _label_axes(
    panels: np.ndarray, landscapes: Sequence[TitledLandscape], domain: Domain | None
) -> None:
    """Name the parameters left of each row and below each column."""
    y_name, x_name = landscapes[0][1].names
    for row in panels:
        row[0].set_ylabel(_label_axis(y_name, domain))
    columns = panels.shape[1]
    for column in range(columns):
        lowest = panels[(len(landscapes) - 1 - column) // columns, column]
        lowest.set_xlabel(_label_axis(x_name, domain))
        lowest.tick_params(labelbottom=True)


def _summarize(landscape: Landscape) -> str:
    """Return the mean return in the training box and outside, or over all."""
    inside, mean = landscape.inside, landscape.mean
    if not inside.any() or inside.all():
        return f"mean {format_number(mean.mean())}"
    box, rest = format_number(mean[inside].mean()), format_number(mean[~inside].mean())
    return f"mean {box} in the box, {rest} outside"


def _mark_training(ax: Axes, landscape: Landscape) -> dict[str, Artist]:
    """Draw the dynamics met in training; return what the legend says of them."""
    y_box, x_box = landscape.box
    if landscape.box == (None, None):
        return {}
    y0, y1 = y_box or ax.get_ylim()
    x0, x1 = x_box or ax.get_xlim()
    varied = (x0 != x1, y0 != y1)
    if not any(varied):
        ax.plot([x0], [y0], clip_on=False, zorder=5, **POINT_STYLE)
        return {"the one value met in training": Line2D([], [], **POINT_STYLE)}
    if not all(varied):
        ax.add_line(_whiten_line(Line2D([x0, x1], [y0, y1], lw=1.8, solid_capstyle="butt")))
        return {"values met in training": _whiten_line(Line2D([], [], lw=1.8))}
    frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, lw=1.6, joinstyle="miter")
    ax.add_patch(_whiten_patch(frame))
    return {"dynamics met in training": _whiten_patch(Patch(fill=False, lw=1.6))}


def _mark_inert_values(ax: Axes, landscape: Landscape, domain: Domain | None) -> dict[str, Artist]:
    """Draw the value below which a parameter changes nothing; return what the legend says."""
    handles: dict[str, Artist] = {}
    for name, axis, draw in zip(
        landscape.names, landscape.axes, (ax.axhline, ax.axvline), strict=True
    ):
        limit, edges = find_inert_limit(domain, name), _find_edges(axis)
        if limit is not None and edges[0] < limit < edges[-1]:
            draw(limit, color="white", **INERT_STYLE)
            label = f"below it {name} changes nothing"
            handles[label] = _whiten_line(Line2D([], [], **INERT_STYLE))
    return handles


def _outline(artist: Any) -> list[patheffects.AbstractPathEffect]:
    """Return a dark edge: white is seen on every colour of the scale, and on paper."""
    width = artist.get_linewidth() + 1.6
    return [patheffects.Stroke(linewidth=width, foreground=INK_COLOR), patheffects.Normal()]


def _whiten_line(line: Line2D) -> Line2D:
    line.set_path_effects(_outline(line))
    line.set_color("white")
    return line


def _whiten_patch(patch: Patch) -> Patch:
    patch.set_path_effects(_outline(patch))
    patch.set_edgecolor("white")
    return patch


def _find_unit(name: str, domain: Domain | None) -> str:
    """Return a parameter's unit; empty where it has none, or no domain says."""
    if domain is None:
        return ""
    parameter = domain.parameter_table().get(name)
    if parameter is None or parameter.unit == "1":
        return ""
    return parameter.unit


def _label_axis(name: str, domain: Domain | None) -> str:
    unit = _find_unit(name, domain)
    if not unit:
        return name
    return f"{name} (relative)" if unit == "x" else f"{name} ({unit})"


def _find_edges(axis: np.ndarray) -> np.ndarray:
    """Return the borders of cells around an axis' values, half way between them.

    Of one value alone, half a unit away.
    """
    if len(axis) == 1:
        return np.array([axis[0] - 0.5, axis[0] + 0.5])
    middle = (axis[1:] + axis[:-1]) / 2
    first = axis[0] - (middle[0] - axis[0])
    last = axis[-1] + (axis[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


class Cell(NamedTuple):
    """Where a cell lies in the picture, and what it says.

    The place is in shares of the picture's width and height, from the top left.
    """

    left: float
    top: float
    width: float
    height: float
    label: str
    value: float


def locate_cells(
    figure: Figure, landscapes: Sequence[TitledLandscape], domain: Domain | None = None
) -> list[Cell]:
    """Return all cells of a figure that `plot_landscapes` made, for a page to say their values."""
    cells = []
    # The colour bar comes after the landscapes.
    for ax, (name, landscape) in zip(figure.axes, landscapes, strict=False):
        cells += _locate_cells_of(ax, name, landscape, domain)
    return cells


def _locate_cells_of(
    ax: Axes, name: str, landscape: Landscape, domain: Domain | None
) -> list[Cell]:
    """Return the cells of one panel."""
    place = ax.get_position()
    y, x = map(_find_shares, landscape.axes)
    cells = []
    for i, j in product(range(len(y) - 1), range(len(x) - 1)):
        cell = Cell(
            left=place.x0 + x[j] * place.width,
            top=1 - place.y0 - y[i + 1] * place.height,
            width=(x[j + 1] - x[j]) * place.width,
            height=(y[i + 1] - y[i]) * place.height,
            label=f"{name}: {_describe_cell(landscape, i, j, domain)}",
            value=float(landscape.mean[i, j]),
        )
        cells.append(cell)
    return cells


def _find_shares(axis: np.ndarray) -> np.ndarray:
    """Return the borders of cells around an axis' values, in shares of a panel."""
    edges = _find_edges(axis)
    return (edges - edges[0]) / (edges[-1] - edges[0])


def _describe_cell(landscape: Landscape, i: int, j: int, domain: Domain | None) -> str:
    """Say where a cell lies, and its mean return."""
    y = _describe_value(landscape.names[0], float(landscape.axes[0][i]), domain)
    x = _describe_value(landscape.names[1], float(landscape.axes[1][j]), domain)
    return f"{x}, {y}: {format_number(landscape.mean[i, j])}"


def _describe_value(name: str, value: float, domain: Domain | None) -> str:
    return f"{name} {value:.3g} {_find_unit(name, domain)}".rstrip()
