"""Pictures for people: landscapes, learning curves, scores with their intervals, a learner's
health.

Every picture is made for paper and screen alike: dark on white, told apart without colour vision
(Okabe and Ito 2008; viridis for landscapes), floor in grey, ceiling in black.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from isthmus.domains.domain import Domain
from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape
from isthmus.studies.study import Line, Panel
from isthmus.training.run import Run, RunError
from isthmus.types import BadValue

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
INK, PALE, RULE = "#222222", "#6b7280", "#d5d9de"
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#8a9099",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8eaed",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "isthmus",  # and the same bytes every time
}
HEALTH = {
    "training_return": "return while training",
    "explained_variance": "explained variance of the critic",
    "kl": "KL of the update, nats",
    "clip_fraction": "clipped fraction of the ratios",
    "entropy": "entropy of the policy, nats",
}
"""The metrics of a learner's health, by their name in metrics.jsonl, and what they are called in a picture."""

FREE_STYLE: dict[str, Any] = {
    "lw": 1.1,
    "ls": (0, (1, 1.5)),
}  # how a method looks that took nothing of what the axis counts
# seeds from which on curves get a band: the interval of two is 13 times as wide as they lie apart
SEEDS_FOR_A_BAND = 3

SOURCE_STEPS, TARGET_TRANSITIONS, SOURCE_RETURN, TARGET_RETURN = range(4)


class Curves(NamedTuple):
    """One method's training.

    `seeds` has one array a seed, float64 [evaluations, 4]: source steps, target transitions, source
    return, target return (NaN where a domain was not evaluated). `health` has one mapping a seed:
    metric -> float64 [rounds, 2], steps in both domains together and the metric.
    """

    name: str
    role: str  # "floor", "ceiling" or ""
    seeds: list[np.ndarray]
    health: list[dict[str, np.ndarray]]


def curves_of(name: str, runs: Sequence[Run], role: str = "") -> Curves:
    """What runs of one method, one a seed, logged while they trained; lines that are damaged are
    left out.
    """
    seeds, health = [], []
    keys = ("source_steps", "target_transitions", "source_return", "target_return")
    for run in runs:
        rows = logged(run)
        points = [
            [row.get(key, np.nan) for key in keys]
            for row in rows
            if row.get("kind") == "evaluation"
        ]
        seeds.append(np.array(points, np.float64).reshape(-1, 4))
        rounds = [row for row in rows if row.get("kind") == "round"]
        health.append({
            metric: np.array([(row[keys[0]] + row[keys[1]], row[metric]) for row in rounds if metric in row])
            for metric in HEALTH if any(metric in row for row in rounds)
        })  # fmt: skip
    return Curves(name, role, seeds, health)


def logged(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are what the training loop writes: a kind, and numbers with
    both counters.
    """
    try:
        rows = run.metrics()
    except (OSError, ValueError):  # not to be read, or no text
        return []
    return [row for row in rows if isinstance(row, dict) and _sound(row)]


def _sound(row: dict[str, Any]) -> bool:
    numbers = all(isinstance(value, int | float) for key, value in row.items() if key != "kind")
    return numbers and {"kind", "source_steps", "target_transitions"} <= set(row)


def read_landscape(path: Path, box: tuple[Any, Any] = (None, None)) -> Landscape:
    """The landscape of a `landscape.csv`, one mean a cell. Raises RunError, in one line, where it
    is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = tuple((reader.fieldnames or ())[:2])
            rows = [
                [float(row[k]) for k in (*names, "mean_return", "mean_length")] for row in reader
            ]
        x, y = (np.unique([row[i] for row in rows]) for i in (0, 1))
        cells = np.full((len(x), len(y), 2), np.nan)
        for a, b, *values in rows:
            cells[np.searchsorted(x, a), np.searchsorted(y, b)] = values
        if not rows or not np.isfinite(cells).all():
            raise ValueError("cells are missing")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, IndexError, csv.Error) as error:
        raise RunError(f"{path} is damaged: it is no landscape ({error})") from None
    return Landscape(names, (x, y), cells[..., :1], cells[..., 1:], box)


def mean_landscape(landscapes: Sequence[Landscape]) -> Landscape:
    """The mean over seeds of landscapes of one method on one grid. Raises BadValue where the grids
    differ.
    """
    first = landscapes[0]
    for other in landscapes[1:]:
        same = other.names == first.names and other.returns.shape[:2] == first.returns.shape[:2]
        if not (
            same and all(np.allclose(a, b) for a, b in zip(other.axes, first.axes, strict=True))
        ):
            raise BadValue("the landscapes of these seeds have different grids")
    whole = [
        np.concatenate([getattr(each, name) for each in landscapes], -1)
        for name in ("returns", "lengths")
    ]
    return first._replace(returns=whole[0], lengths=whole[1])


# How a figure comes to be


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


Drawing = TypeVar("Drawing", bound=Callable[..., Figure])


def _in_style(function: Drawing) -> Drawing:
    @wraps(function)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with _styled():
            figure = function(*args, **kwargs)
            figure.draw_without_rendering()  # lays it out, once: saving would do it again
            figure.set_layout_engine("none")
            return figure

    return drawn  # pyright: ignore[reportReturnType]


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write a figure; the file's ending says how (.png, .svg, .pdf). Raises BadValue or RunError,
    in one line.
    """
    path = Path(path)
    try:
        with _styled():
            figure.savefig(path)
    except ValueError:
        raise BadValue(f"{path.name}: a picture ends in .png, .svg or .pdf") from None
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def svg(figure: Figure) -> bytes:
    """A figure as an SVG image, the same bytes every time."""
    out = io.BytesIO()
    with _styled():
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def draw_landscapes(
    landscapes: Sequence[tuple[str, Landscape]], path: Path | str, domain: Domain | None = None
) -> Path:
    """Write landscapes side by side on one colour scale; see `landscapes`."""
    return save_figure(landscapes_figure(landscapes, domain), path)


def draw_panels(panels: Sequence[Panel], path: Path | str) -> Path:
    """Write a study's curves; see `panels_figure`."""
    return save_figure(panels_figure(panels), path)


def draw_scenes(scenes: Sequence[tuple[str, Domain]], path: Path | str) -> Path:
    """Write robots of several domains as they move; see `scenes_figure`."""
    return save_figure(scenes_figure(scenes), path)


def draw_curves(curves: Sequence[Curves], path: Path | str) -> Path:
    """Write learning curves; see `curves_figure`."""
    return save_figure(curves_figure(curves), path)


# Landscapes


@_in_style
def landscapes_figure(
    landscapes: Sequence[tuple[str, Landscape]], domain: Domain | None = None
) -> Figure:
    """Mean returns over two parameters, one panel a (name, landscape), all on one colour scale.

    White frames (dots, lines where training had one value) are the dynamics met in training.
    `domain` is any domain of the robot: from it the axes learn their units, and where foot friction
    has no effect. Raises BadValue for none.
    """
    if not landscapes:
        raise BadValue("no landscape to draw")
    low = min(float(each.mean.min()) for _, each in landscapes)
    high = max(float(each.mean.max()) for _, each in landscapes)
    scale = Normalize(low, high if high > low else low + 1)
    columns = min(len(landscapes), 4)
    rows = -(-len(landscapes) // columns)
    figure = Figure(figsize=(max(1.0 + 2.6 * columns, 4.2), 0.75 + 2.55 * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    mesh, handles = None, {}
    for ax, (name, each) in zip(panels.flat, landscapes, strict=False):
        y, x = (_edges(axis) for axis in each.axes)
        mesh = ax.pcolormesh(x, y, each.mean, norm=scale, cmap="viridis", rasterized=True)
        ax.grid(False)
        ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.set_title(name, fontweight="bold", loc="left", pad=14)
        ax.text(
            0, 1.02, _summary(each), transform=ax.transAxes, fontsize=7.5, color=PALE, va="bottom"
        )
        handles |= _training(ax, each)
        if (floor := inert_below(domain, each.names[0])) is not None and y[0] < floor < y[-1]:
            ax.axhline(floor, color="white", lw=0.9, ls=(0, (4, 3)))
            handles[f"below it {each.names[0]} changes nothing"] = _white(
                Line2D([], [], ls=(0, (4, 3)), lw=0.9)
            )
        if (floor := inert_below(domain, each.names[1])) is not None and x[0] < floor < x[-1]:
            ax.axvline(floor, color="white", lw=0.9, ls=(0, (4, 3)))
            handles[f"below it {each.names[1]} changes nothing"] = _white(
                Line2D([], [], ls=(0, (4, 3)), lw=0.9)
            )
    for ax in panels.flat[len(landscapes) :]:
        ax.remove()
    for row in panels:
        row[0].set_ylabel(_axis_label(landscapes[0][1].names[0], domain))
    for column in range(columns):
        lowest = panels[(len(landscapes) - 1 - column) // columns, column]
        lowest.set_xlabel(_axis_label(landscapes[0][1].names[1], domain))
        lowest.tick_params(labelbottom=True)
    assert mesh is not None
    bar = figure.colorbar(
        mesh, ax=figure.axes, shrink=0.9, pad=0.02, aspect=25, label="mean return"
    )
    bar.outline.set_linewidth(0.5)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    if handles:
        figure.legend(
            [*handles.values()], [*handles], loc="outside lower center", ncols=3, handlelength=1.6
        )
    return figure


class Cell(NamedTuple):
    """Where a cell lies in the picture, as shares of its width and height from the top left, and
    what it says.
    """

    left: float
    top: float
    width: float
    height: float
    said: str
    value: float


def cells(
    figure: Figure, landscapes: Sequence[tuple[str, Landscape]], domain: Domain | None = None
) -> list[Cell]:
    """All cells of a figure that `landscapes_figure` drew, for a page to say their values."""
    found = []
    for ax, (name, each) in zip(
        figure.axes, landscapes, strict=False
    ):  # the colour bar comes after them
        place = ax.get_position()
        y, x = (_edges(axis) for axis in each.axes)
        x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
        units = [_unit(n, domain) for n in each.names]
        for i, a in enumerate(each.axes[0]):
            for j, b in enumerate(each.axes[1]):
                said = (f"{name}: {each.names[1]} {b:.3g}{units[1]}, {each.names[0]} {a:.3g}{units[0]}: "
                        f"{number(each.mean[i, j])}")  # fmt: skip
                found.append(Cell(
                    place.x0 + x[j] * place.width, 1 - place.y0 - y[i + 1] * place.height,
                    (x[j + 1] - x[j]) * place.width, (y[i + 1] - y[i]) * place.height, said, float(each.mean[i, j]),
                ))  # fmt: skip
    return found


def _edges(axis: np.ndarray) -> np.ndarray:
    """The borders of cells around an axis' values, half way between them (of one value, half a unit
    away).
    """
    if len(axis) == 1:
        return np.array([axis[0] - 0.5, axis[0] + 0.5])
    middle = (axis[1:] + axis[:-1]) / 2
    return np.concatenate(
        [[axis[0] - (middle[0] - axis[0])], middle, [axis[-1] + (axis[-1] - middle[-1])]]
    )


def _summary(each: Landscape) -> str:
    inside, mean = each.inside, each.mean
    if not inside.any() or inside.all():
        return f"mean {number(mean.mean())}"
    return f"mean {number(mean[inside].mean())} in the box, {number(mean[~inside].mean())} outside"


def _white(artist: Any) -> Any:
    """White with a dark edge: seen on every colour of the scale, and on paper."""
    effects = [
        patheffects.Stroke(linewidth=artist.get_linewidth() + 1.6, foreground=INK),
        patheffects.Normal(),
    ]
    artist.set(path_effects=effects)
    artist.set_color("white") if isinstance(artist, Line2D) else artist.set_edgecolor("white")
    return artist


def _training(ax: Axes, each: Landscape) -> dict[str, Any]:
    """Draw the dynamics met in training; what the legend says of them."""
    if each.box == (None, None):
        return {}
    (y0, y1), (x0, x1) = (
        box or limits for box, limits in zip(each.box, (ax.get_ylim(), ax.get_xlim()), strict=True)
    )
    if x0 == x1 and y0 == y1:
        style: dict[str, Any] = {
            "marker": "o",
            "ls": "",
            "ms": 6,
            "mfc": "white",
            "mec": INK,
            "mew": 1.1,
        }
        ax.plot([x0], [y0], clip_on=False, zorder=5, **style)
        return {"the one value met in training": Line2D([], [], **style)}
    if x0 == x1 or y0 == y1:
        ax.add_line(_white(Line2D([x0, x1], [y0, y1], lw=1.8, solid_capstyle="butt")))
        return {"values met in training": _white(Line2D([], [], lw=1.8))}
    ax.add_patch(
        _white(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, lw=1.6, joinstyle="miter"))
    )
    return {"dynamics met in training": _white(Patch(fill=False, lw=1.6))}


def _unit(name: str, domain: Domain | None) -> str:
    """A parameter's unit with a space before it; empty where it has none, or no domain says."""
    parameter = domain.table().get(name) if domain else None
    return "" if parameter is None or parameter.unit == "1" else f" {parameter.unit}"


def _axis_label(name: str, domain: Domain | None) -> str:
    unit = _unit(name, domain).strip()
    return f"{name} ({'relative' if unit == 'x' else unit})" if unit else name


def inert_below(domain: Domain | None, name: str) -> float | None:
    """The value up to which a parameter has no effect of its own; None where it has one everywhere,
    or nobody knows.

    The contact of a foot takes the larger of its own friction and the floor's (MuJoCo's rule for
    equal priorities).
    """
    if name != "foot_friction" or domain is None:
        return None
    from isthmus.physics.friction import OF_ALL_CONTACTS, find_inert_foot_friction
    from isthmus.physics.mujoco import load_model

    if set(OF_ALL_CONTACTS) & set(domain.names):
        return None
    return find_inert_foot_friction(load_model(domain.description().model_path())) or None


def number(x: float) -> str:
    """A return as people read it: three to four digits that mean something, and a true minus sign."""
    size = abs(x)
    text = f"{x:,.0f}" if size >= 100 else f"{x:.1f}" if size >= 10 else f"{x:.2f}"
    return text.replace("-", "−")


def count(x: float) -> str:
    """Steps on an axis: 300k, 1.5M."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= limit:
            return f"{x / limit:g}{letter}"
    return f"{x:g}"


# Curves and scores


def _look(all_curves: Sequence[Any]) -> list[dict[str, Any]]:
    """Colour and dashes of each method: grey for the floor, black for the ceiling."""
    looks: list[dict[str, Any]] = []
    i = 0
    for each in all_curves:
        if each.role in ("floor", "ceiling"):
            looks.append({"color": PALE if each.role == "floor" else "black", "ls": "-"})
        else:
            looks.append({"color": COLORS[i % len(COLORS)], "ls": DASHES[i % len(DASHES)]})
            i += 1
    return looks


def band(
    seeds: Sequence[np.ndarray], x: int, y: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, mean, and the ends of the interval over seeds (`statistics.interval`), each
    [evaluations].

    At the evaluations that all seeds have reached; the ends are NaN where there is one seed only.
    """
    seeds = [s[np.isfinite(s[:, y])] for s in seeds]
    seeds = [s for s in seeds if len(s)]
    common = min((len(s) for s in seeds), default=0)
    steps = np.array([np.mean([s[i, x] for s in seeds]) for i in range(common)])
    estimates = [statistics.interval([s[i, y] for s in seeds]) for i in range(common)]
    ends = np.array([(e.low, e.high) for e in estimates], np.float64).reshape(-1, 2)
    ends[~np.isfinite(ends)] = np.nan
    return steps, np.array([e.value for e in estimates]), ends[:, 0], ends[:, 1]


@_in_style
def curves_figure(curves: Sequence[Curves]) -> Figure:
    """Returns over training: in the target against source steps and against target transitions, in
    the source against source steps.

    Lines are means over seeds, bands Student's 95 % interval from `BAND` seeds on, thin lines
    single seeds where there are fewer than five. A method that took nothing of what the axis counts
    is a level line at its last evaluation. Panels that would hold no point are left out. Raises
    BadValue where none is left.
    """
    wanted = [
        ("return in the target", TARGET_RETURN, "source steps", SOURCE_STEPS),
        (
            "return in the target",
            TARGET_RETURN,
            "target transitions in training",
            TARGET_TRANSITIONS,
        ),
        ("return in the source", SOURCE_RETURN, "source steps", SOURCE_STEPS),
    ]
    shown = [w for w in wanted if any(moves(each, w[3]) and _known(each, w[1]) for each in curves)]
    if not shown:
        raise BadValue("no curve to draw: nothing was evaluated in training yet")
    figure = Figure(figsize=(3.3 * len(shown) + 0.3, 2.9))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    looks = _look(curves)
    for ax, (y_label, y, x_label, x) in zip(panels, shown, strict=True):
        heights: list[np.ndarray] = []
        for each, look in zip(curves, looks, strict=True):
            if not _known(each, y):
                continue
            heights += [s[:, y] for s in each.seeds]
            _line(ax, each.seeds, x, y, look, statistics.FEW_SEEDS)
        _fit(ax, heights)
        ax.set(xlabel=x_label, ylabel=y_label, xlim=(0, None))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: count(value)))
        ax.xaxis.set_major_locator(MaxNLocator(5))
    level = [not any(moves(each, w[3]) for w in shown) for each in curves]
    handles = [
        Line2D([], [], **look | (FREE_STYLE if flat else {}))
        for look, flat in zip(looks, level, strict=True)
    ]
    figure.legend(
        handles,
        [_titled(each) for each in curves],
        loc="outside upper left",
        ncols=4,
        handlelength=2.2,
    )
    return figure


@_in_style
def panels_figure(panels: Sequence[Panel]) -> Figure:
    """A study's curves, panels side by side with one legend: lines, bands and levels as in
    `curves_figure`, seeds only where there is no band.

    Raises BadValue for none.
    """
    if not panels:
        raise BadValue("no panel to draw")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys((line.name, line.role) for panel in panels for line in panel.lines))
    across = 2 * columns  # as many names as fit over the panels
    figure = Figure(
        figsize=(3.3 * columns + 0.3, 2.7 * rows + 0.2 + 0.2 * -(-len(names) // across))
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    lines = [Curves(name, role, [], []) for name, role in names]
    looks = dict(zip(names, _look(lines), strict=True))
    for ax, panel in zip(axes.flat, panels, strict=False):
        heights: list[np.ndarray] = []
        for line in panel.lines:
            heights += [s[:, 1] for s in line.seeds]
            _line(ax, line.seeds, 0, 1, looks[line.name, line.role], SEEDS_FOR_A_BAND)
        _fit(ax, heights)
        ax.set(xlabel=panel.x, ylabel=panel.y, xlim=(0, None))
        ax.set_title(panel.title, loc="left", fontweight="bold")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: count(value)))
        whole = all((s[:, 0] % 1 == 0).all() for line in panel.lines for s in line.seeds)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=whole))  # of updates there are no halves
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    moving = {(line.name, line.role) for panel in panels for line in panel.lines if moves(line, 0)}
    handles = [
        Line2D([], [], **look | ({} if name in moving else FREE_STYLE))
        for name, look in looks.items()
    ]
    figure.legend(
        handles,
        [_titled(each) for each in lines],
        loc="outside upper left",
        ncols=across,
        handlelength=2.2,
    )
    return figure


@_in_style
def scenes_figure(
    scenes: Sequence[tuple[str, Domain]], seconds: Sequence[float] = (0.0, 0.2, 0.4, 0.6)
) -> Figure:
    """Robots from the same start under the same constant forces of their motors, a row a (name,
    domain) and a column a moment. Raises BadValue for none, CannotRender where nothing renders.
    """
    from isthmus.report.watch import stills

    if not scenes:
        raise BadValue("no scene to draw")
    figure = Figure(figsize=(1.9 * len(seconds), 1.55 * len(scenes) + 0.2))
    panels = figure.subplots(len(scenes), len(seconds), squeeze=False)
    for row, (name, domain) in zip(panels, scenes, strict=True):
        for ax, moment, picture in zip(row, seconds, stills(domain, seconds), strict=True):
            ax.imshow(picture)
            ax.set_axis_off()
            ax.set_title(
                f"{name}, {moment:g} s" if moment == seconds[0] else f"{moment:g} s",
                loc="left",
                fontsize=8,
            )
    return figure


def _line(
    ax: Axes, seeds: Sequence[np.ndarray], x: int, y: int, look: dict[str, Any], few: int
) -> None:
    """One method's curves [evaluations, ...] over seeds, under `few` seeds each of them too; a
    dotted level where none ever leaves x = 0.
    """
    steps, mean, low, high = band(seeds, x, y)
    if not any((s[:, x] > 0).any() for s in seeds):
        ax.axhline(mean[-1], **look | FREE_STYLE)
        return
    if len(seeds) < few:
        for seed in seeds:
            ax.plot(seed[:, x], seed[:, y], color=look["color"], lw=0.6, alpha=0.6)
    if len(seeds) >= SEEDS_FOR_A_BAND:
        ax.fill_between(steps, low, high, color=look["color"], alpha=0.15, lw=0)
    ax.plot(steps, mean, **look)


def _titled(each: Any) -> str:
    return f"{each.name} ({each.role})" if each.role else each.name


def _known(each: Curves, y: int) -> bool:
    return any(np.isfinite(s[:, y]).any() for s in each.seeds)


def moves(each: Curves | Line, x: int) -> bool:
    """Whether a method took any of what column `x` counts."""
    return any((s[:, x] > 0).any() for s in each.seeds)


def _fit(ax: Axes, heights: Sequence[np.ndarray]) -> None:
    """Limits that hold all lines; an interval of few seeds may be far wider, and is cut."""
    values = np.concatenate([np.ravel(h) for h in heights])
    values = values[np.isfinite(values)]
    if len(values):
        margin = 0.08 * (float(np.ptp(values)) or 1.0)
        ax.set_ylim(float(values.min()) - margin, float(values.max()) + margin)


class Score(NamedTuple):
    """One method's line in a picture of scores: one a seed, their mean, and the ends of its
    interval (in older comparisons of ten seeds and more their IQM and its).
    """

    name: str
    role: str
    seeds: Sequence[float]
    value: float
    low: float | None
    high: float | None


@_in_style
def scores_figure(scores: Sequence[Score], label: str = "mean return in the target") -> Figure:
    """Every seed as a ring, the mean as a diamond, its interval as a bar; an arrow where a bar of
    few seeds goes on beyond the picture, which is scaled to the seeds. Raises BadValue for none.
    """
    if not scores:
        raise BadValue("no score to draw")
    figure = Figure(figsize=(7.2, 0.75 + 0.36 * len(scores)))
    ax = figure.subplots()
    looks = _look(scores)
    left, right = _limits(scores)
    ax.set_xlim(left, right)
    for row, (each, look) in enumerate(zip(scores, looks, strict=True)):
        if each.low is not None and each.high is not None:
            ax.plot(
                [each.low, each.high],
                [row, row],
                color=look["color"],
                lw=5,
                alpha=0.3,
                solid_capstyle="butt",
            )
            for end, beyond, arrow in (
                (left, each.low < left, "<"),
                (right, each.high > right, ">"),
            ):
                if beyond:
                    ax.plot([end], [row], arrow, color=look["color"], ms=6, clip_on=False)
        ax.plot(
            each.seeds, [row] * len(each.seeds), "o", ms=4.5, mfc="white", mec=look["color"], mew=1
        )
        ax.plot([each.value], [row], "D", ms=5.5, color=look["color"])
    if floor := next((each for each in scores if each.role == "floor"), None):
        ax.axvline(floor.value, color=PALE, lw=0.8, ls=(0, (1, 1.5)), zorder=0)
    ax.set_yticks(range(len(scores)), [_titled(each) for each in scores])
    ax.set(xlabel=label, ylim=(len(scores) - 0.4, -0.6))
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0, pad=9)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, place: number(value) if value else "0")
    )
    return figure


def _limits(scores: Sequence[Score]) -> tuple[float, float]:
    """Room for all seeds, and for intervals as far as one and a half times the seeds' spread on
    either side.
    """
    seeds = np.concatenate([np.ravel([*each.seeds, each.value]) for each in scores])
    room = 1.5 * (float(np.ptp(seeds)) or 1.0)
    ends = [x for each in scores for x in (each.low, each.high) if x is not None] or [
        float(seeds.min())
    ]
    low = max(min(*ends, float(seeds.min())), float(seeds.min()) - room)
    high = min(max(*ends, float(seeds.max())), float(seeds.max()) + room)
    margin = 0.04 * ((high - low) or 1.0)
    return low - margin, high + margin


@_in_style
def health_figure(curves: Sequence[Curves]) -> Figure:
    """The learners' health, one panel a metric and a line a seed, against all steps of training.

    Raises BadValue where no round was logged.
    """
    metrics = [m for m in HEALTH if any(m in seed for each in curves for seed in each.health)]
    if not metrics:
        raise BadValue("no health to draw: no round was logged yet")
    columns = min(len(metrics), 5)
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(2.15 * columns + 0.2, 1.75 * rows + 0.35))
    panels = figure.subplots(rows, columns, squeeze=False)
    looks = _look(curves)
    for ax, metric in zip(panels.flat, metrics, strict=False):
        for each, look in zip(curves, looks, strict=True):
            for seed in each.health:
                if metric in seed:
                    x, y = _thinned(seed[metric]).T
                    ax.plot(x, y, color=look["color"], lw=0.8, alpha=0.8)
        ax.set_title(HEALTH[metric], fontsize=8, loc="left")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: count(value)))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.tick_params(labelsize=7)
    for ax in panels.flat[len(metrics) :]:
        ax.remove()
    figure.supxlabel("steps in both domains", fontsize=8)
    handles = [Line2D([], [], color=look["color"]) for look in looks]
    figure.legend(
        handles,
        [_titled(each) for each in curves],
        loc="outside upper left",
        ncols=4,
        handlelength=2.2,
    )
    return figure


def _thinned(points: np.ndarray, most: int = 400) -> np.ndarray:
    """At most so many of the points, evenly: a page holds no more than an eye can see."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).round().astype(int)]
