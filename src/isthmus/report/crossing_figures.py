"""The figure of a crossing: the return of each row with its interval, beside the source's."""

from __future__ import annotations

from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isthmus.deploy.crossing import Crossing, CrossRow, Outcome, Stage
from isthmus.report.style import COLORS, PALE_COLOR, in_style

ROW_HEIGHT = 0.28  # inches
MAX_LABEL = 60  # characters
OUTCOME_COLORS = {Outcome.HOLDS: COLORS[0], Outcome.BREAKS: COLORS[1]}


@in_style
def plot_crossing(crossing: Crossing) -> Figure:
    """Return two panels, a row each line: mean return with 95 % intervals, and falls."""
    rows = list(filter(_is_played, crossing.rows))
    figure = Figure(figsize=(8.4, 1.2 + ROW_HEIGHT * max(len(rows), 3)))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        _plot_row(left, right, place, row)
    left.set_yticks(range(len(rows)), list(map(_name_row, rows)))
    left.invert_yaxis()
    left.set_xlabel("return")
    right.set_xlabel("episodes that fall, %")
    right.set_xlim(-2, 102)
    left.set_title("95 % intervals over episodes; orange: breaks, grey: neither")
    return figure


def _is_played(row: CrossRow) -> bool:
    return row.summary is not None


def _plot_row(left: Axes, right: Axes, place: int, row: CrossRow) -> None:
    assert row.summary is not None
    color = OUTCOME_COLORS.get(row.outcome, "#5f6368")
    for ax, estimate, unit in ((left, row.summary.returns, 1.0), (right, row.summary.fell, 100.0)):
        if estimate.n > 1:
            low, high = unit * estimate.low, unit * estimate.high
            ax.plot([low, high], [place, place], color=color, lw=3, alpha=0.5)
        ax.plot([unit * estimate.value], [place], "o", color=color, ms=4)
    if row.stage == Stage.SOURCE:
        left.axvline(row.summary.returns.value, color=PALE_COLOR, lw=1, ls="--")


def _name_row(row: CrossRow) -> str:
    name = row.done
    if row.stage == Stage.CAUSE:
        name = f"{row.question} {row.done}"
    return shorten(name, MAX_LABEL, placeholder="...")
