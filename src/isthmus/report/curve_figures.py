"""Figures of learning curves: of a comparison, of a study, and of the learners' health."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isthmus.evaluation import statistics
from isthmus.report.curves import (
    HEALTH_TITLES,
    MIN_BAND_SEEDS,
    SOURCE_RETURN,
    SOURCE_STEPS,
    TARGET_RETURN,
    TARGET_TRANSITIONS,
    Curves,
    estimate_band,
    spends,
)
from isthmus.report.style import (
    LEVEL_STYLE,
    Look,
    add_legend,
    choose_looks,
    count_along_x,
    in_style,
    make_axes,
    measure_spread,
)
from isthmus.studies.study import Panel
from isthmus.types import BadValue

MAX_HEALTH_POINTS = 400
"""Points of a line that a page holds: no more than an eye can see."""


class CurveAxes(NamedTuple):
    """Which columns of `Curves.seeds` a panel shows, and what they are called."""

    y_label: str
    y: int
    x_label: str
    x: int


CURVE_AXES = (
    CurveAxes("return in the target", TARGET_RETURN, "source steps", SOURCE_STEPS),
    CurveAxes(
        "return in the target", TARGET_RETURN, "target transitions in training", TARGET_TRANSITIONS
    ),
    CurveAxes("return in the source", SOURCE_RETURN, "source steps", SOURCE_STEPS),
)


class PanelMethod(NamedTuple):
    """A method's name in a study's panels, and its role."""

    name: str
    role: str


class Stroke(NamedTuple):
    """One method's curves [evaluations, ...], one a seed, and how they look."""

    seeds: Sequence[np.ndarray]
    look: Look


@in_style
def plot_curves(curves: Sequence[Curves]) -> Figure:
    """Plot returns over training: in the target against both counters, in the source against one.

    Lines are means over seeds, bands Student's 95 % interval from MIN_BAND_SEEDS seeds on, thin
    lines single seeds where there are fewer than five. A method that took nothing of what the axis
    counts is a level line at its last evaluation. Panels that would hold no point are left out.
    Raises BadValue where none is left.
    """
    shown = [axes for axes in CURVE_AXES if _has_points(curves, axes)]
    if not shown:
        raise BadValue("no curve to draw: nothing was evaluated in training yet")
    figure = Figure(figsize=(3.3 * len(shown) + 0.3, 2.9))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    looks = choose_looks(curves)
    for ax, axes in zip(panels, shown, strict=True):
        _draw_curves(ax, axes, curves, looks)
    rising = [_rises(method, shown) for method in curves]
    add_legend(figure, list(map(_make_handle, looks, rising)), curves)
    return figure


def _rises(method: Curves, shown: Sequence[CurveAxes]) -> bool:
    """Return whether a method leaves x = 0 in any panel."""
    return any(spends(method.seeds, axes.x) for axes in shown)


def _has_points(curves: Sequence[Curves], axes: CurveAxes) -> bool:
    """Return whether any method has a value on `y` and took any of what `x` counts."""
    return any(spends(each.seeds, axes.x) and each.is_known(axes.y) for each in curves)


def _draw_curves(
    ax: Axes, axes: CurveAxes, curves: Sequence[Curves], looks: Sequence[Look]
) -> None:
    """Draw one panel of a comparison."""
    strokes = []
    for method, look in zip(curves, looks, strict=True):
        if method.is_known(axes.y):
            strokes.append(Stroke(method.seeds, look))
    _draw_strokes(ax, strokes, axes.x, axes.y, statistics.FEW_SEEDS)
    ax.set(xlabel=axes.x_label, ylabel=axes.y_label, xlim=(0, None))
    count_along_x(ax, 5)


@in_style
def plot_panels(panels: Sequence[Panel]) -> Figure:
    """Plot a study's curves, panels side by side with one legend.

    Lines, bands and levels are as in `plot_curves`, single seeds only where there is no band.
    Raises BadValue for none.
    """
    if not panels:
        raise BadValue("no panel to draw")
    columns = min(len(panels), 3)
    methods = _find_rising(panels)
    looks = dict(zip(methods, choose_looks(methods), strict=True))
    legend_columns = 2 * columns  # as many names as fit over the panels
    height = 2.7 * ceil(len(panels) / columns) + 0.2 + 0.2 * ceil(len(methods) / legend_columns)
    figure, axes = make_axes(len(panels), columns, (3.3 * columns + 0.3, height))
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, looks)
    handles = list(map(_make_handle, looks.values(), methods.values()))
    add_legend(figure, handles, methods, legend_columns)
    return figure


def _find_rising(panels: Sequence[Panel]) -> dict[PanelMethod, bool]:
    """Return the methods of all panels in order, and whether each leaves x = 0 in any."""
    rising: dict[PanelMethod, bool] = {}
    for panel in panels:
        for line in panel.lines:
            method = PanelMethod(line.name, line.role)
            rising[method] = rising.get(method, False) | spends(line.seeds, 0)
    return rising


def _draw_panel(ax: Axes, panel: Panel, looks: dict[PanelMethod, Look]) -> None:
    """Draw one panel of a study."""
    strokes, steps = [], []
    for line in panel.lines:
        strokes.append(Stroke(line.seeds, looks[PanelMethod(line.name, line.role)]))
        steps.append(np.concatenate(line.seeds)[:, 0])
    _draw_strokes(ax, strokes, 0, 1, MIN_BAND_SEEDS)
    ax.set(xlabel=panel.x, ylabel=panel.y, xlim=(0, None))
    ax.set_title(panel.title, loc="left", fontweight="bold")
    # Of updates there are no halves.
    count_along_x(ax, 5, whole=bool((np.concatenate(steps) % 1 == 0).all()))


def _draw_strokes(ax: Axes, strokes: Sequence[Stroke], x: int, y: int, few: int) -> None:
    """Draw methods' curves, and fit the height to them."""
    heights = []
    for stroke in strokes:
        _draw_line(ax, stroke.seeds, x, y, stroke.look, few)
        heights.append(np.concatenate(stroke.seeds)[:, y])
    _fit_height(ax, heights)


def _draw_line(ax: Axes, seeds: Sequence[np.ndarray], x: int, y: int, look: Look, few: int) -> None:
    """Draw one method's curves [evaluations, ...] over seeds, and each seed under `few` of them.

    A dotted level where none ever leaves x = 0.
    """
    band = estimate_band(seeds, x, y)
    if not spends(seeds, x):
        ax.axhline(band.mean[-1], **look | LEVEL_STYLE)
        return
    if len(seeds) < few:
        for seed in seeds:
            ax.plot(seed[:, x], seed[:, y], color=look["color"], lw=0.6, alpha=0.6)
    if len(seeds) >= MIN_BAND_SEEDS:
        ax.fill_between(band.steps, band.low, band.high, color=look["color"], alpha=0.15, lw=0)
    ax.plot(band.steps, band.mean, **look)


def _make_handle(look: Look, rises: bool) -> Line2D:
    """Return a method's line in the legend: a level where it rises in no panel."""
    if not rises:
        look = look | LEVEL_STYLE
    return Line2D([], [], **look)


def _fit_height(ax: Axes, heights: Sequence[np.ndarray]) -> None:
    """Set limits that hold all lines; an interval of few seeds may be far wider, and is cut."""
    values = np.concatenate(heights)
    values = values[np.isfinite(values)]
    if len(values):
        low, high = float(values.min()), float(values.max())
        margin = 0.08 * measure_spread(low, high)
        ax.set_ylim(low - margin, high + margin)


@in_style
def plot_health(curves: Sequence[Curves]) -> Figure:
    """Plot the learners' health, one panel a metric and a line a seed, against all steps.

    Raises BadValue where no round was logged.
    """
    metrics = _list_metrics(curves)
    if not metrics:
        raise BadValue("no health to draw: no round was logged yet")
    columns = min(len(metrics), 5)
    size = (2.15 * columns + 0.2, 1.75 * ceil(len(metrics) / columns) + 0.35)
    figure, panels = make_axes(len(metrics), columns, size)
    colors = [look["color"] for look in choose_looks(curves)]
    for ax, metric in zip(panels, metrics, strict=True):
        _draw_metric(ax, metric, curves, colors)
    figure.supxlabel("steps in both domains", fontsize=8)
    add_legend(figure, [Line2D([], [], color=color) for color in colors], curves)
    return figure


def _list_metrics(curves: Sequence[Curves]) -> list[str]:
    """Return the metrics of health that any seed logged."""
    logged: set[str] = set()
    for method in curves:
        logged = logged.union(*method.health)
    return [metric for metric in HEALTH_TITLES if metric in logged]


def _draw_metric(ax: Axes, metric: str, curves: Sequence[Curves], colors: Sequence[str]) -> None:
    """Draw one panel of the learners' health."""
    for method, color in zip(curves, colors, strict=True):
        _draw_health(ax, method, metric, color)
    ax.set_title(HEALTH_TITLES[metric], fontsize=8, loc="left")
    count_along_x(ax, 4)
    ax.tick_params(labelsize=7)


def _draw_health(ax: Axes, method: Curves, metric: str, color: str) -> None:
    """Draw one metric of a method, a line a seed."""
    for seed in method.health:
        if metric in seed:
            points = _thin_out(seed[metric])
            ax.plot(points[:, 0], points[:, 1], color=color, lw=0.8, alpha=0.8)


def _thin_out(points: np.ndarray) -> np.ndarray:
    """Return at most MAX_HEALTH_POINTS of the points [n, 2], evenly."""
    if len(points) <= MAX_HEALTH_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, MAX_HEALTH_POINTS).round().astype(int)]
