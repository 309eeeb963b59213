"""The figure of a comparison's scores: every seed, the mean, its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from isthmus.report.numbers import format_number
from isthmus.report.style import PALE_COLOR, choose_looks, in_style, label_method, measure_spread
from isthmus.types import BadValue


class Score(NamedTuple):
    """One method's scores: one a seed, their mean, and the ends of its interval.

    In older comparisons of ten seeds and more the value is their IQM, the interval that one's.
    """

    name: str
    role: str
    seeds: Sequence[float]
    value: float
    low: float | None
    high: float | None


class Limits(NamedTuple):
    """The ends of an axis."""

    low: float
    high: float


@in_style
def plot_scores(scores: Sequence[Score], label: str = "mean return in the target") -> Figure:
    """Plot every seed as a ring, the mean as a diamond, its interval as a bar.

    An arrow where a bar of few seeds goes on beyond the picture, which is scaled to the seeds.
    Raises BadValue for none.
    """
    if not scores:
        raise BadValue("no score to draw")
    figure = Figure(figsize=(7.2, 0.75 + 0.36 * len(scores)))
    ax = figure.subplots()
    limits = _find_limits(scores)
    ax.set_xlim(limits.low, limits.high)
    for row, (score, look) in enumerate(zip(scores, choose_looks(scores), strict=True)):
        _draw_score(ax, row, score, limits, look["color"])
    ax.set_yticks(range(len(scores)), list(map(label_method, scores)))
    ax.set(xlabel=label, ylim=(len(scores) - 0.4, -0.6))
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0, pad=9)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: _format_tick(value)))
    return figure


def _draw_score(ax: Axes, row: int, score: Score, limits: Limits, color: str) -> None:
    """Draw one method's line; where it is the floor, a dotted line through all of them."""
    _draw_interval(ax, row, score, limits, color)
    heights = [row] * len(score.seeds)
    ax.plot(score.seeds, heights, "o", ms=4.5, mfc="white", mec=color, mew=1)
    ax.plot([score.value], [row], "D", ms=5.5, color=color)
    if score.role == "floor":
        ax.axvline(score.value, color=PALE_COLOR, lw=0.8, ls=(0, (1, 1.5)), zorder=0)


def _format_tick(value: float) -> str:
    return format_number(value) if value else "0"


def _draw_interval(ax: Axes, row: int, score: Score, limits: Limits, color: str) -> None:
    """Draw a score's interval as a bar, with an arrow at an end beyond the picture."""
    if score.low is None or score.high is None:
        return
    ends, heights = [score.low, score.high], [row, row]
    ax.plot(ends, heights, color=color, lw=5, alpha=0.3, solid_capstyle="butt")
    if score.low < limits.low:
        ax.plot([limits.low], [row], "<", color=color, ms=6, clip_on=False)
    if score.high > limits.high:
        ax.plot([limits.high], [row], ">", color=color, ms=6, clip_on=False)


def _find_limits(scores: Sequence[Score]) -> Limits:
    """Return room for all seeds, and for intervals within one and a half times their spread."""
    seeds, ends = [], []
    for score in scores:
        seeds += [*score.seeds, score.value]
        if score.low is not None and score.high is not None:
            ends += [score.low, score.high]
    lowest, highest = min(seeds), max(seeds)
    room = 1.5 * measure_spread(lowest, highest)
    low = max(min([*ends, lowest]), lowest - room)
    high = min(max([*ends, highest]), highest + room)
    margin = 0.04 * measure_spread(low, high)
    return Limits(low - margin, high + margin)
