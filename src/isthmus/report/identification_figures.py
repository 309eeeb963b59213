"""The figure of a fit: intervals against defaults, and the gap that is left by observed number."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isthmus.identification.fit import NOT_IDENTIFIED, Fit
from isthmus.report.style import COLORS, PALE_COLOR, in_style

ROW_HEIGHT = 0.24  # inches
MIN_HEIGHT = 2.4


@in_style
def plot_fit(fit: Fit) -> Figure:
    """Return two panels: each parameter's interval over its default, each number's gap."""
    rows = max(len(fit.parameters), len(fit.held_out))
    figure = Figure(figsize=(8.4, max(MIN_HEIGHT, 0.9 + ROW_HEIGHT * rows)))
    left, right = figure.subplots(1, 2)
    _plot_intervals(left, fit)
    _plot_gap(right, fit)
    return figure


def _plot_intervals(ax: Axes, fit: Fit) -> None:
    for row, p in enumerate(fit.parameters):
        unit = p.default or 1.0
        color = COLORS[p.verdict == NOT_IDENTIFIED]
        ax.plot([p.low / unit, p.high / unit], [row, row], color=color, lw=3, alpha=0.5)
        ax.plot([p.value / unit], [row], "o", color=color, ms=4)
    ax.axvline(1.0, color=PALE_COLOR, lw=1, ls="--")
    ax.set_yticks(range(len(fit.parameters)), [p.name for p in fit.parameters])
    ax.invert_yaxis()
    ax.set_xlabel("value, of the default (1 where that is 0)")
    ax.set_title("95 % intervals; not identified: orange")


def _plot_gap(ax: Axes, fit: Fit) -> None:
    names = [gap.name for gap in fit.held_out]
    places = range(len(names))
    left = [gap.left for gap in fit.held_out]
    ax.barh(places, 1.0, color="#e8eaed")
    ax.barh(places, left, color=COLORS[0], height=0.5)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlabel("one-step error left, of the default's")
    ax.set_title(f"held out: {fit.explained:.1%} of the gap explained")
