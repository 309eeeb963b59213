"""The pictures of a page, with the words that go with them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from isthmus.domains.domain import Domain
from isthmus.evaluation import statistics
from isthmus.report.clips import Clip
from isthmus.report.curve_figures import plot_curves, plot_health
from isthmus.report.curves import (
    MIN_BAND_SEEDS,
    SOURCE_STEPS,
    TARGET_RETURN,
    TARGET_TRANSITIONS,
    Curves,
    estimate_band,
    read_curves,
    spends,
)
from isthmus.report.entries import Entry, Group
from isthmus.report.landscape_figures import Cell, TitledLandscape, locate_cells, plot_landscapes
from isthmus.report.landscapes import average_landscapes, find_inert_limit
from isthmus.report.numbers import format_number
from isthmus.report.score_figures import Score, plot_scores
from isthmus.report.style import render_svg
from isthmus.studies.compare import Comparison, ComparisonRow
from isthmus.types import IsthmusError

CLIP_SECONDS, CLIP_SIZE = 8.0, (420, 300)


class Picture(NamedTuple):
    """An image with its words; `still` is what print shows in place of an animation."""

    image: str  # a data: address
    alt: str
    caption: str
    cells: Sequence[Cell] = ()
    still: str = ""


def format_interval(low: float | None, high: float | None) -> str:
    """Return an interval in brackets that no line break tears."""
    if low is None or high is None:
        return "no interval"
    return f"[{format_number(low)},\u00a0{format_number(high)}]"


def format_estimate(row: ComparisonRow) -> str:
    """Return a row's return in the target, with its interval."""
    return f"{format_number(row.value)} {format_interval(row.low, row.high)}"


def _encode(image: bytes, kind: str) -> str:
    """Return an image as a data: address."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _embed(figure: Figure, alt: str, caption: str, cells: Sequence[Cell] = ()) -> Picture:
    return Picture(_encode(render_svg(figure), "svg+xml"), alt, caption, cells)


def draw_scores(comparison: Comparison) -> Picture:
    """Draw every seed of a comparison."""
    rows = comparison.rows
    scores = [Score(r.method, r.role, r.scores, r.value, r.low, r.high) for r in rows]
    estimates = "; ".join(f"{row.method} {format_estimate(row)}" for row in rows)
    kind = rows[0].interval
    middle = "mean"
    if "IQM" in kind:
        middle = "IQM"
    return _embed(
        plot_scores(scores),
        f"Mean return in the target, one line a method: {estimates}.",
        f"Mean return in the target over {comparison.episodes} episodes. A ring is a seed, a "
        f"diamond the {middle} over seeds, a bar its 95 % interval ({kind}), with an arrow where "
        "it goes on; the dotted line is the floor.",
    )


def _read_all_curves(group: Group) -> list[Curves]:
    """Read the curves of every method of a group."""
    curves = []
    for name, entries in group.methods.items():
        curves.append(read_curves(name, [entry.run for entry in entries], entries[0].role))
    return curves


def draw_curves(group: Group) -> Picture | None:
    """Draw learning curves; None, and a note, where nothing was evaluated yet."""
    curves = _read_all_curves(group)
    try:
        figure = plot_curves(curves)
    except IsthmusError as error:
        group.notes.append(f"No learning curves: {error}.")
        return None
    ends = []
    for method in curves:
        mean = estimate_band(method.seeds, SOURCE_STEPS, TARGET_RETURN).mean
        if len(mean):
            ends.append(f"{method.name} {format_number(mean[-1])}")
    alt = (
        "Learning curves. Return in the target at the end of training: "
        f"{'; '.join(ends) or 'not evaluated'}."
    )
    caption = (
        "Learning curves: evaluations in training, of 16 episodes each, a sketch of what playing "
        "the policy measures."
    )
    return _embed(figure, alt, caption + _explain_lines(curves))


def _explain_lines(curves: Sequence[Curves]) -> str:
    """Say what the kinds of lines mean that a figure of curves has."""
    counts = [len(method.seeds) for method in curves]
    fewest, most = min(counts), max(counts)
    text = ""
    if most >= MIN_BAND_SEEDS:
        text = (
            " Lines are means over seeds, bands their 95 % interval (Student), cut where it "
            "leaves the picture."
        )
    elif most > 1:
        text = " Lines are means of two seeds, too few for a band."
    if 1 < fewest < statistics.FEW_SEEDS:
        text += " Thin lines are single seeds."
    if _differ(curves, SOURCE_STEPS) or _differ(curves, TARGET_TRANSITIONS):
        text += (
            " A dotted level line is the last evaluation of a method that took nothing of what "
            "the axis counts."
        )
    return text


def _differ(curves: Sequence[Curves], column: int) -> bool:
    """Return whether some methods took of what a column counts, and some did not."""
    return len({spends(method.seeds, column) for method in curves}) == 2


def draw_health(group: Group) -> Picture | None:
    """Draw the learners' health; None where no round was logged yet."""
    try:
        figure = plot_health(_read_all_curves(group))
    except IsthmusError:
        return None
    return _embed(
        figure,
        "The learners' health over training, one panel a metric, one line a seed.",
        "The learners' health, one line a seed. Explained variance should rise towards 1; a KL or "
        "a clipped fraction that climbs means updates too large; entropy that collapses early "
        "means exploration has ended.",
    )


def draw_landscapes(group: Group) -> Picture | None:
    """Draw the mean landscape of each method; None where there is none."""
    landscapes = _average_by_method(group)
    if not landscapes:
        return None
    domain = _find_robot(group)
    figure = plot_landscapes(landscapes, domain)
    y, x = landscapes[0][1].names
    means = "; ".join(f"{name} {format_number(each.mean.mean())}" for name, each in landscapes)
    seeds, inert = "", ""
    if max(map(len, group.methods.values())) > 1:
        seeds = "mean over the seeds of each method, "
    if "foot_friction" in (x, y):
        inert = _explain_inert_friction(domain)
    return _embed(
        figure,
        f"Landscapes of mean return over {x} and {y}, one panel a method. Mean over all cells: "
        f"{means}.",
        f"Mean return over {x} and {y}, {seeds}one colour scale for all. White: the dynamics met "
        f"in training.{inert} Point at a cell to read it.",
        locate_cells(figure, landscapes, domain),
    )


def _find_robot(group: Group) -> Domain | None:
    """Return a domain of the robot; None where its task is not known here."""
    try:
        return group.entries[0].run.problem.target
    except IsthmusError:
        return None


def _average_by_method(group: Group) -> list[TitledLandscape]:
    """Return mean landscapes over the axes of the first; what has others is noted."""
    averages: list[TitledLandscape] = []
    for name, entries in group.methods.items():
        landscapes = [entry.landscape for entry in entries if entry.landscape]
        if not landscapes:
            continue
        try:
            average = average_landscapes(landscapes)
        except IsthmusError as error:
            group.notes.append(f"No landscape of {name}: {error}.")
            continue
        if averages and average.names != averages[0][1].names:
            group.notes.append(f"The landscape of {name} has other axes and is not shown.")
            continue
        averages.append((name, average))
    return averages


def _explain_inert_friction(domain: Domain | None) -> str:
    """Say up to where a foot's friction changes nothing, where it is known."""
    limit = find_inert_limit(domain, "foot_friction")
    if limit is None:
        return ""
    return (
        f" A foot's friction below the floor's {limit:g} changes nothing, since a contact takes "
        "the larger of the two."
    )


class NoClipError(IsthmusError):
    """A group's policies cannot be shown; says why, in a sentence."""


def draw_clip(group: Group) -> Picture:
    """Draw a rollout of one run, source beside target. Raises NoClipError where there is none."""
    if not group.entries:
        raise NoClipError("No animation: no run of this comparison can be read.")
    entry = _find_typical(group)
    try:
        clip = _film_entry(entry)
    except NoClipError:
        raise
    except IsthmusError as error:
        raise NoClipError(f"No animation of {entry.label}: {error}") from None
    moving, still = io.BytesIO(), io.BytesIO()
    clip.write(moving, "WEBP")
    clip.frames[len(clip.frames) // 3].save(still, "WEBP", quality=80)
    run = entry.run
    actor = f"{run.name}, seed {run.seed}"
    choice, adapts = "", ""
    if group.comparison is not None:
        choice = (
            ", the method with the highest mean in the target but the ceiling, its seed nearest "
            "that mean"
        )
    if run.method.adapts:
        adapts = " The policy is shown before it adapts to the target."
    return Picture(
        _encode(moving.getvalue(), "webp"),
        f"Animation of {actor}. {clip.caption}",
        f"One episode of {actor}{choice}: source beside target, from the same start. "
        f"{clip.caption}{adapts} One episode is an example, not a measurement.",
        still=_encode(still.getvalue(), "webp"),
    )


def _film_entry(entry: Entry) -> Clip:
    """Film a run's policy. Raises NoClipError where a domain may not be played."""
    from isthmus.rendering import find_backend
    from isthmus.report.watch import film

    run = entry.run
    problem = run.problem
    for domain in (problem.source, problem.target):
        if not domain.measurable:
            raise NoClipError(f"No animation: {domain} is known only by its log.")
        if not domain.replayable:
            raise NoClipError(
                f"No animation: {domain} is not ours to replay, and a report does not touch it; "
                "isthmus watch does, when asked to."
            )
    find_backend()  # before what takes seconds
    return film(
        run.policy,
        problem.source,
        problem.target,
        CLIP_SECONDS,
        0,
        CLIP_SIZE,
        run.source_policy,
    )


def _find_typical(group: Group) -> Entry:
    """Return the run nearest the mean of the best method but the ceiling; the first if alone."""
    comparison = group.comparison
    if comparison is None:
        return group.entries[0]
    entries = {entry.label: entry for entry in group.entries}
    rows = [row for row in comparison.rows if entries.keys() & set(row.runs)]
    best = max(rows, key=lambda row: (row.role != "ceiling", row.value))
    scores = dict(zip(best.runs, best.scores, strict=False))
    readable = filter(entries.__contains__, scores)
    return entries[min(readable, key=lambda name: abs(scores[name] - best.value))]
