"""How figures look, and how they are written.

Every figure is made for paper and screen alike: dark on white, told apart without colour vision
(Okabe and Ito 2008; viridis for landscapes), floor in grey, ceiling in black.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from math import ceil
from pathlib import Path
from typing import Any, ParamSpec, Protocol

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from isthmus.report.numbers import format_count
from isthmus.training.run import RunError
from isthmus.types import BadValue

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
INK_COLOR, PALE_COLOR = "#222222", "#6b7280"
ROLE_COLORS = {"floor": PALE_COLOR, "ceiling": "black"}
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": INK_COLOR,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "text.color": INK_COLOR,
    "xtick.color": INK_COLOR,
    "ytick.color": INK_COLOR,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "isthmus",  # and the same bytes every time
}
LEVEL_STYLE: dict[str, Any] = {"lw": 1.1, "ls": (0, (1, 1.5))}
"""How a method looks that took nothing of what the axis counts."""

Look = dict[str, Any]
"""Colour and dashes of one method, as Matplotlib's lines take them."""

Parameters = ParamSpec("Parameters")


class HasRole(Protocol):
    """What a legend names: a method, which may be the floor or the ceiling."""

    @property
    def name(self) -> str:
        """The method's name."""
        ...

    @property
    def role(self) -> str:
        """Return "floor", "ceiling" or ""."""
        ...


@contextmanager
def use_style() -> Iterator[None]:
    """Draw in the style of this house within the context."""
    with matplotlib.rc_context(STYLE):
        yield


def in_style(function: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Make a function that plots do so in the style of this house, and lay its figure out."""

    @wraps(function)
    def plot(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with use_style():
            figure = function(*args, **kwargs)
            figure.draw_without_rendering()  # lays it out, once: saving would do it again
            figure.set_layout_engine("none")
            return figure

    return plot


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write a figure; the file's ending says how (.png, .svg, .pdf).

    Raises BadValue or RunError, in one line.
    """
    path = Path(path)
    try:
        with use_style():
            figure.savefig(path)
    except ValueError:
        raise BadValue(f"{path.name}: a picture ends in .png, .svg or .pdf") from None
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def render_svg(figure: Figure) -> bytes:
    """Return a figure as an SVG image, the same bytes every time."""
    out = io.BytesIO()
    with use_style():
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def make_axes(panels: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of a size in inches with so many panels, row by row."""
    figure = Figure(figsize=size)
    axes = list(figure.subplots(ceil(panels / columns), columns, squeeze=False).flat)
    for ax in axes[panels:]:
        ax.remove()
    return figure, axes[:panels]


def choose_looks(methods: Iterable[HasRole]) -> list[Look]:
    """Return a look for each method: grey for the floor, black for the ceiling, then in turn."""
    looks: list[Look] = []
    others = 0
    for method in methods:
        if method.role in ROLE_COLORS:
            looks.append({"color": ROLE_COLORS[method.role], "ls": "-"})
        else:
            color, dashes = COLORS[others % len(COLORS)], DASHES[others % len(DASHES)]
            looks.append({"color": color, "ls": dashes})
            others += 1
    return looks


def measure_spread(low: float, high: float) -> float:
    """Return how far two numbers lie apart, or 1 where they are the same: a scale for margins."""
    return (high - low) or 1.0


def label_method(method: HasRole) -> str:
    """Return a method's name, with its role where it has one."""
    return f"{method.name} ({method.role})" if method.role else method.name


def count_along_x(ax: Axes, ticks: int, whole: bool = False) -> None:
    """Let the horizontal axis count steps, with about so many ticks, at `whole` numbers alone."""
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: format_count(value)))
    ax.xaxis.set_major_locator(MaxNLocator(ticks, integer=whole))


def add_legend(
    figure: Figure, handles: Sequence[Line2D], methods: Iterable[HasRole], columns: int = 4
) -> None:
    """Name the methods above the panels."""
    labels = list(map(label_method, methods))
    place = "outside upper left"
    figure.legend(handles, labels, loc=place, ncols=columns, handlelength=2.2)
