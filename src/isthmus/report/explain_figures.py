"""The figure of what a policy depends on: Sobol indices, and the box in which it does not fail."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from isthmus.evaluation.explain import Explanation
from isthmus.evaluation.sensitivity import SobolIndex
from isthmus.report.style import COLORS, INK_COLOR, PALE_COLOR, in_style

SHOWN_POINTS = 2000
BAR_HEIGHT = 0.36


@in_style
def plot_explanation(explanation: Explanation, name: str) -> Figure:
    """Plot indices of each outcome, and fresh episodes over the two parameters that matter most.

    `name` is the policy's. The frame is the largest box that holds, the ring the nominal.
    """
    panels = len(explanation.indices) + 1
    figure = Figure(figsize=(1.2 + 2.9 * panels, 3.4))
    axes = list(figure.subplots(1, panels, squeeze=False).flat)
    for ax, (what, indices) in zip_longest(axes[:-1], explanation.indices.items()):
        _draw_indices(ax, what, indices)
    _draw_episodes(axes[-1], explanation)
    figure.suptitle(name, x=0.01, ha="left", fontweight="bold", fontsize=9)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, handlelength=1.2
    )
    return figure


def _draw_indices(ax: Axes, what: str, indices: list[SobolIndex]) -> None:
    """Draw what a factor makes of an outcome's variance, alone and with all others."""
    places = np.arange(len(indices))[::-1]
    rows = (
        ("alone (first order)", [index.first for index in indices], BAR_HEIGHT / 2, COLORS[0]),
        ("with all others (total)", [index.total for index in indices], -BAR_HEIGHT / 2, COLORS[4]),
    )
    for label, estimates, shift, color in rows:
        values = np.array([estimate.value for estimate in estimates])
        ends = np.array([(estimate.low, estimate.high) for estimate in estimates])
        ax.barh(places + shift, values, BAR_HEIGHT, color=color, label=label)
        ax.hlines(places + shift, ends[:, 0], ends[:, 1], color=INK_COLOR, lw=1)
    ax.set_yticks(places, [index.name for index in indices])
    ax.set(xlim=(-0.05, 1.05), xlabel="share of the variance")
    ax.set_title(what, loc="left")
    ax.grid(False, axis="y")


def _draw_episodes(ax: Axes, explanation: Explanation) -> None:
    """Draw fresh episodes over the two parameters of most influence, and the box."""
    x, y = _choose_columns(explanation)
    shown = slice(SHOWN_POINTS)
    failed = explanation.failed[shown]
    heights = explanation.returns[shown] if y is None else explanation.values[shown, y]
    points = explanation.values[shown, x]
    ax.scatter(points[~failed], heights[~failed], s=5, color=COLORS[5], lw=0, label="did not fail")
    ax.scatter(points[failed], heights[failed], s=5, color=COLORS[1], lw=0, label="failed")
    _draw_box(ax, explanation, x, y)
    parameter = explanation.parameters[x]
    ax.set_xlabel(parameter.name)
    if parameter.law.kind == "log":
        ax.set_xscale("log")
    if y is None:
        ax.set_ylabel("return")
    else:
        other = explanation.parameters[y]
        ax.set_ylabel(other.name)
        if other.law.kind == "log":
            ax.set_yscale("log")
        ring = {"mfc": "white", "mec": INK_COLOR, "ms": 6, "ls": ""}
        ax.plot(parameter.nominal, other.nominal, "o", label="nominal", zorder=5, **ring)
    ax.set_title(f"fresh episodes: {explanation.failed_share.value:.0%} failed", loc="left")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, markerscale=1.6)


def _choose_columns(explanation: Explanation) -> tuple[int, int | None]:
    """Return the columns of the parameters that matter most; None where there is no second one."""
    indices = [*explanation.indices.values()][-1][:-1]
    order = np.argsort([-index.total.value for index in indices], kind="stable")
    second = int(order[1]) if len(order) > 1 else None
    return int(order[0]), second


def _draw_box(ax: Axes, explanation: Explanation, x: int, y: int | None) -> None:
    """Frame the largest box that holds; all of the range of what it does not bound."""
    if explanation.box is None:
        ax.text(
            0.02, 0.98, "no box holds", transform=ax.transAxes, va="top", color=PALE_COLOR,
            backgroundcolor="white",
        )  # fmt: skip
        return
    ends = list(explanation.locate(explanation.box.box).values())
    (left, right), label = ends[x], "under 5 % fail"
    if y is None:
        ax.axvspan(left, right, fill=False, ec=INK_COLOR, lw=1.6, label=label)
        return
    low, high = ends[y]
    frame = Rectangle(
        (left, low), right - left, high - low, fill=False, ec=INK_COLOR, lw=1.6, label=label
    )
    ax.add_patch(frame)
