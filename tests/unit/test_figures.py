"""Pictures say what the numbers say: one scale, boxes in place, intervals as the statistics give
them.
"""

# pyright: reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from isthmus.domains.parse import parse_domain
from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape
from isthmus.report.curve_figures import plot_curves, plot_health, plot_panels
from isthmus.report.curves import (
    HEALTH_TITLES,
    SOURCE_STEPS,
    TARGET_RETURN,
    Curves,
    estimate_band,
)
from isthmus.report.landscape_figures import locate_cells, plot_landscapes
from isthmus.report.landscapes import average_landscapes, find_inert_limit, read_landscape
from isthmus.report.numbers import format_count, format_number
from isthmus.report.scene_figures import plot_scenes
from isthmus.report.score_figures import Score, plot_scores
from isthmus.report.style import COLORS, LEVEL_STYLE, STYLE, render_svg, save_figure
from isthmus.studies.study import Line, Panel
from isthmus.training.run import RunError
from isthmus.types import BadValue

NAMES = ("foot_friction", "torso_mass")
GRID = parse_domain("hopper/foot_friction=0.5..2.5:3,torso_mass=2..8:4")


def make_landscape(offset: float = 0.0, box=((1.5, 2.5), (2.0, 6.0))) -> Landscape:
    mean = offset + np.arange(12.0).reshape(3, 4) * 100
    returns = np.stack([mean - 10, mean + 10], -1)
    axes = (np.array([0.5, 1.5, 2.5]), np.array([2.0, 4.0, 6.0, 8.0]))
    return Landscape(NAMES, axes, returns, np.full_like(returns, 50), box)


def panels(figure: Figure) -> list:
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def mesh(ax) -> QuadMesh:
    return next(c for c in ax.collections if isinstance(c, QuadMesh))


def test_a_landscape_comes_back_from_its_file(tmp_path: Path) -> None:
    landscape = make_landscape()
    landscape.save(tmp_path / "landscape.csv")
    back = read_landscape(tmp_path / "landscape.csv", landscape.box)
    assert back.names == landscape.names and back.box == landscape.box
    for a, b in zip(back.axes, landscape.axes, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(back.mean, landscape.mean)
    np.testing.assert_array_equal(back.inside, landscape.inside)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "\n".join(text.splitlines()[:-1]),  # a cell is missing
        lambda text: text.replace("mean_return", "mean"),
        lambda text: text.replace("300.00", "three hundred"),
        lambda text: text.replace("300.00", "nan"),
        lambda text: "foot_friction\n1\n",
    ],
)
def test_a_damaged_landscape_is_one_line(tmp_path: Path, damage) -> None:
    path = tmp_path / "landscape.csv"
    path.write_text(damage(make_landscape().csv()))
    with pytest.raises(RunError, match="is damaged") as caught:
        read_landscape(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="cannot read"):
        read_landscape(tmp_path / "none.csv")


def test_the_mean_over_seeds_is_cell_by_cell() -> None:
    mean = average_landscapes([make_landscape(0), make_landscape(60)])
    np.testing.assert_allclose(mean.mean, make_landscape(30).mean)
    other = make_landscape()._replace(
        axes=(np.array([0.5, 1.5, 2.5]), np.array([2.0, 4.0, 6.0, 9.0]))
    )
    with pytest.raises(BadValue, match="different grids"):
        average_landscapes([make_landscape(), other])


def test_landscapes_share_one_colour_scale() -> None:
    low, high = make_landscape(0), make_landscape(5000)
    figure = plot_landscapes([("low", low), ("high", high)], GRID)
    assert [mesh(ax).get_clim() for ax in panels(figure)] == [(0.0, 6100.0)] * 2
    for ax, landscape in zip(panels(figure), (low, high), strict=True):
        np.testing.assert_allclose(np.asarray(mesh(ax).get_array()).reshape(3, 4), landscape.mean)
    assert figure.axes[-1].get_ylabel() == "mean return"
    assert panels(figure)[0].get_ylabel() == "foot_friction"  # its unit is 1
    assert panels(figure)[1].get_xlabel() == "torso_mass (kg)"


def test_many_landscapes_go_on_in_a_second_row() -> None:
    figure = plot_landscapes([(str(i), make_landscape()) for i in range(6)], GRID)
    labels = [ax.get_xlabel() for ax in panels(figure)]
    assert labels == [
        "",
        "",
        "torso_mass (kg)",
        "torso_mass (kg)",
        "torso_mass (kg)",
        "torso_mass (kg)",
    ]
    assert [ax.get_ylabel() for ax in panels(figure)] == [
        "foot_friction",
        "",
        "",
        "",
        "foot_friction",
        "",
    ]


def test_a_landscape_of_one_value_everywhere_can_be_drawn() -> None:
    flat = make_landscape()._replace(returns=np.zeros((3, 4, 1)))
    low, high = mesh(panels(plot_landscapes([("flat", flat)]))[0]).get_clim()
    assert low < high


def test_the_training_box_lies_where_training_was() -> None:
    box = panels(plot_landscapes([("boxed", make_landscape())]))[0]
    (frame,) = [p for p in box.patches if isinstance(p, Rectangle)]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (2.0, 1.5, 4.0, 1.0)

    point = panels(plot_landscapes([("point", make_landscape(box=((2.0, 2.0), (6.0, 6.0))))]))[0]
    (mark,) = point.lines
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (6.0, 2.0) and not point.patches

    line = panels(plot_landscapes([("line", make_landscape(box=((2.0, 2.0), (3.0, 6.0))))]))[0]
    (stroke,) = line.lines
    assert (list(stroke.get_xdata()), list(stroke.get_ydata())) == ([3.0, 6.0], [2.0, 2.0])

    # Where training left a parameter alone the frame goes from border to border.
    half = panels(plot_landscapes([("half", make_landscape(box=(None, (2.0, 6.0))))]))[0]
    (frame,) = [p for p in half.patches if isinstance(p, Rectangle)]
    assert (frame.get_y(), frame.get_height()) == (0.0, 3.0)

    bare = panels(plot_landscapes([("bare", make_landscape(box=(None, None)))]))[0]
    assert not bare.patches and not bare.lines


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_foot_friction_below_the_floors_is_marked() -> None:
    assert find_inert_limit(GRID, "foot_friction") == 1.0
    assert find_inert_limit(GRID, "torso_mass") is None
    assert (
        find_inert_limit(parse_domain("hopper/friction=0.5,foot_friction=2"), "foot_friction")
        is None
    )
    assert find_inert_limit(None, "foot_friction") is None
    marked = plot_landscapes([("a", make_landscape(box=(None, None)))], GRID)
    (line,) = panels(marked)[0].lines
    assert set(line.get_ydata()) == {1.0}
    assert legend(marked) == ["below it foot_friction changes nothing"]
    assert legend(plot_landscapes([("a", make_landscape(box=(None, None)))])) == []


def test_cells_lie_on_the_colours_they_name() -> None:
    """What a page says of a place in the picture is the colour that the picture has there."""
    landscapes = [
        ("one", make_landscape(0, (None, None))),
        ("two", make_landscape(400, (None, None))),
    ]
    figure = plot_landscapes(landscapes)
    cells = locate_cells(figure, landscapes, GRID)
    assert len(cells) == 2 * 12
    assert "two: torso_mass 8 kg, foot_friction 2.5: 1,500" in {cell.label for cell in cells}
    out = io.BytesIO()
    figure.savefig(out, format="png")
    image = np.asarray(Image.open(out).convert("RGB")) / 255
    for cell in cells:
        row = int((cell.top + cell.height / 2) * image.shape[0])
        column = int((cell.left + cell.width / 2) * image.shape[1])
        wanted = matplotlib.colormaps["viridis"](cell.value / 1500)[:3]
        np.testing.assert_allclose(image[row, column], wanted, atol=0.02, err_msg=cell.label)


def make_curves(
    name: str, role: str, seeds: int, source: float, target: float, points: int = 4
) -> Curves:
    random = np.random.default_rng(seeds)
    share = np.linspace(1 / points, 1, points)
    one = lambda: np.stack(
        [share * source, share * target, share * 500, share * 300 + random.normal(0, 9, points)], 1
    )
    health = [{"kl": np.stack([share * (source + target), share], 1)} for _ in range(seeds)]
    return Curves(name, role, [one() for _ in range(seeds)], health)


def test_bands_are_the_intervals_of_the_statistics() -> None:
    curves = make_curves("a", "", 6, 1e5, 0)
    steps, mean, low, high = estimate_band(curves.seeds, SOURCE_STEPS, TARGET_RETURN)
    np.testing.assert_allclose(steps, [25e3, 50e3, 75e3, 100e3])
    wanted = statistics.interval([seed[2, TARGET_RETURN] for seed in curves.seeds])
    assert (mean[2], low[2], high[2]) == (wanted.value, wanted.low, wanted.high)

    # Seeds that have come less far end the band; one seed has none.
    shorter = [curves.seeds[0], curves.seeds[1][:2]]
    assert len(estimate_band(shorter, SOURCE_STEPS, TARGET_RETURN)[0]) == 2
    _, mean, low, high = estimate_band(curves.seeds[:1], SOURCE_STEPS, TARGET_RETURN)
    assert np.isfinite(mean).all() and np.isnan(low).all() and np.isnan(high).all()


def bands(ax) -> int:
    return len([c for c in ax.collections if isinstance(c, PolyCollection)])


def test_curves_have_a_panel_for_each_axis_that_was_spent() -> None:
    methods = [
        make_curves("source_only", "floor", 5, 1e5, 0),
        make_curves("fine_tuning", "", 5, 6e4, 4e4),
        make_curves("target_only", "ceiling", 5, 0, 1e5),
    ]
    figure = plot_curves(methods)
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "source steps",
        "target transitions in training",
        "source steps",
    ]
    # A method that took nothing of what the axis counts is a level line, without a band.
    assert [bands(ax) for ax in figure.axes] == [2, 2, 2]
    level = [line for line in figure.axes[1].lines if len(set(line.get_ydata())) == 1]
    last = estimate_band(methods[0].seeds, SOURCE_STEPS, TARGET_RETURN)[1][-1]
    assert [line.get_ydata()[0] for line in level] == [last]
    assert legend(figure) == ["source_only (floor)", "fine_tuning", "target_only (ceiling)"]

    untouched = plot_curves(methods[:1])
    assert [ax.get_xlabel() for ax in untouched.axes] == ["source steps", "source steps"]
    hidden = [
        s.copy() for s in methods[0].seeds
    ]  # a target that is not ours is not evaluated in training
    for seed in hidden:
        seed[:, TARGET_RETURN] = np.nan
    assert [ax.get_ylabel() for ax in plot_curves([Curves("a", "", hidden, [])]).axes] == [
        "return in the source"
    ]
    with pytest.raises(BadValue, match="no curve"):
        plot_curves([Curves("a", "", [np.empty((0, 4))], [])])


def test_few_seeds_are_drawn_one_by_one() -> None:
    few = plot_curves([make_curves("a", "", 3, 1e5, 0)]).axes[0]
    many = plot_curves([make_curves("a", "", 5, 1e5, 0)]).axes[0]
    assert len(few.lines) == 3 + 1 and len(many.lines) == 1


def test_scores_show_every_seed_and_the_interval() -> None:
    figure = plot_scores(
        [
            Score("source_only", "floor", [1.0, 3.0], 2.0, -4.0, 8.0),
            Score("one", "", [5.0], 5.0, None, None),
        ]
    )
    (ax,) = figure.axes
    bars = [line for line in ax.lines if line.get_linewidth() == 5]
    assert [list(bar.get_xdata()) for bar in bars] == [[-4.0, 8.0]]
    rings = [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"]
    assert rings == [[1.0, 3.0], [5.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["source_only (floor)", "one"]
    with pytest.raises(BadValue):
        plot_scores([])


def panel_of(*lines: Line) -> Panel:
    return Panel("a task", "iterations", "performance", [*lines])


def test_a_studys_panels_share_looks_and_legend() -> None:
    rising = [np.array([[0, 0.0], [5, 0.5], [10, 1.0 - 0.1 * i]]) for i in range(5)]
    level = [np.array([[0, 0.3]])] * 5
    first = panel_of(Line("matl", rising), Line("direct", level, "floor"))
    second = panel_of(Line("independent", rising[:1]), Line("matl", rising[:3]))
    figure = plot_panels([first, second])
    assert legend(figure) == ["matl", "direct (floor)", "independent"]
    left, right = figure.axes
    assert [bands(ax) for ax in figure.axes] == [1, 1] and left.get_title(loc="left") == "a task"
    assert [list(line.get_ydata()) for line in left.lines if len(set(line.get_ydata())) == 1] == [
        [0.3, 0.3]
    ]
    mean = next(line for line in left.lines if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(mean.get_ydata(), [0, 0.5, 0.8])
    colours = [
        next(ax.lines[i] for i in order).get_color() for ax, order in ((left, [0]), (right, [-1]))
    ]
    assert colours[0] == colours[1] == COLORS[0], "one approach looks the same in all panels"
    with pytest.raises(BadValue, match="no panel"):
        plot_panels([])


def test_what_is_counted_has_no_halves() -> None:
    few = panel_of(Line("es_maml", [np.array([[0, 1.0], [1, 2.0], [2, 1.0], [3, 2.0], [6, 3.0]])]))
    shares = panel_of(Line("es_maml", [np.array([[0, 1.0], [0.5, 2.0], [1, 1.0]])]))
    left, right = plot_panels([few, shares]).axes
    assert all(tick % 1 == 0 for tick in left.get_xticks()) and not all(
        tick % 1 == 0 for tick in right.get_xticks()
    )


def test_a_legend_shows_a_level_as_it_is_drawn() -> None:
    rising, level = [np.array([[0, 0.0], [10, 1.0]])], [np.array([[0, 0.3]])]

    def looks(*panels: Panel) -> list[tuple[bool, float]]:
        """In the legend: whether a line is broken, and how wide."""
        (legend,) = plot_panels(panels).legends
        return [(line.is_dashed(), line.get_linewidth()) for line in legend.get_lines()]

    wide = STYLE["lines.linewidth"]
    floor = panel_of(Line("matl", rising), Line("direct", level, "floor"))
    assert looks(floor) == [(False, wide), (True, LEVEL_STYLE["lw"])]
    assert looks(floor, panel_of(Line("direct", rising, "floor"))) == [(False, wide)] * 2, (
        "a curve somewhere"
    )
    (legend,) = plot_curves(
        [make_curves("a", "", 5, 1e5, 0), make_curves("b", "", 5, 0, 1e5)]
    ).legends
    assert [line.get_linewidth() for line in legend.get_lines()] == [wide] * 2


def test_scenes_are_the_same_start_and_what_follows(tmp_path: Path) -> None:
    scenes = [("as it is", parse_domain("hopper")), ("heavy", parse_domain("hopper/gravity=x5"))]
    figure = plot_scenes(scenes, (0.0, 0.2))
    first, second, other_first, other_second = (
        np.asarray(ax.images[0].get_array()) for ax in figure.axes
    )
    np.testing.assert_array_equal(first, other_first)
    assert (second != other_second).mean() > 0.01 and (first != second).mean() > 0.01
    with pytest.raises(BadValue, match="no scene"):
        plot_scenes([])


def test_health_has_a_line_a_seed() -> None:
    figure = plot_health([make_curves("a", "", 3, 1e5, 0)])
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == HEALTH_TITLES["kl"] and len(ax.lines) == 3
    long = Curves("long", "", [], [{"kl": np.stack([np.arange(5000.0), np.zeros(5000)], 1)}])
    assert len(plot_health([long]).axes[0].lines[0].get_xdata()) == 400
    with pytest.raises(BadValue, match="no health"):
        plot_health([Curves("a", "", [], [{}])])


def test_a_figure_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    draw = lambda: render_svg(plot_landscapes([("a", make_landscape())], GRID))
    first = draw()
    assert first == draw() and first.startswith(b"<?xml") and b"<dc:date>" not in first
    for ending in ("png", "svg", "pdf"):
        path = save_figure(
            plot_landscapes([("a", make_landscape())], GRID), tmp_path / f"a.{ending}"
        )
        assert path.stat().st_size > 1000
    save_figure(plot_curves([make_curves("a", "", 2, 1e5, 0)]), tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 500


def test_where_a_picture_cannot_go_is_said_in_one_line(tmp_path: Path) -> None:
    figure = plot_landscapes([("a", make_landscape())])
    with pytest.raises(BadValue, match=r"a picture ends in"):
        save_figure(figure, tmp_path / "a.xyz")
    with pytest.raises(RunError, match=r"cannot write .*: No such file"):
        save_figure(figure, tmp_path / "none" / "a.png")
    with pytest.raises(BadValue, match="no landscape"):
        plot_landscapes([])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1234.5, "1,234"),
        (-1234.5, "−1,234"),
        (99.96, "100.0"),
        (-12.34, "−12.3"),
        (0.123, "0.12"),
        (0, "0.00"),
    ],
)
def test_numbers_as_people_read_them(x: float, text: str) -> None:
    assert format_number(x) == text


@pytest.mark.parametrize(
    ("x", "text"), [(300_000, "300k"), (1_500_000, "1.5M"), (20, "20"), (0, "0")]
)
def test_counts_on_an_axis(x: float, text: str) -> None:
    assert format_count(x) == text
