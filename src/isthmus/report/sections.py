"""What a page says of a group of runs, as data for the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.evaluation import statistics
from isthmus.report.entries import Entry, Group
from isthmus.report.numbers import format_change, format_whole
from isthmus.report.pictures import (
    NoClipError,
    Picture,
    draw_clip,
    draw_curves,
    draw_health,
    draw_landscapes,
    draw_scores,
    format_estimate,
    format_interval,
)
from isthmus.studies.compare import CEILING, FLOOR, Comparison, ComparisonRow
from isthmus.types import IsthmusError

NOT_RECORDED = "not recorded"
"""A version that a run does not tell: older runs say less, which is no difference."""

VERDICTS = {"better": "is better than the floor", "worse": "is worse than the floor"}


class Fact(NamedTuple):
    """A name and what it stands for."""

    name: str
    value: str


class SettingsTable(NamedTuple):
    """Settings by method: rows of (name, [value a method])."""

    methods: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Section:
    """All that the template needs about a group."""

    title: str
    folder: str
    comparison: Comparison | None
    lede: list[str]
    pictures: list[Picture]
    clip: Picture | None
    no_clip: str  # why there is no clip
    runs: list[dict[str, Any]]
    problem: list[Fact]
    settings: SettingsTable
    versions: list[Fact]
    health: Picture | None
    notes: list[str]


def make_section(group: Group) -> Section:
    """Read, draw and describe a group of runs."""
    pictures = _draw_pictures(group)
    clip, no_clip = None, ""
    try:
        clip = draw_clip(group)
    except NoClipError as error:
        no_clip = str(error)
    runs = list(map(describe_run, group.entries))
    versions = _collect_versions(group.entries)
    notes = [*group.notes, *_note_versions(versions)]
    for entry in group.entries:  # last: by now each has noted what it cannot read
        notes += entry.notes
    return Section(
        title=group.title,
        folder=str(group.folder),
        comparison=group.comparison,
        lede=write_lede(group),
        pictures=pictures,
        clip=clip,
        no_clip=no_clip,
        runs=runs,
        problem=_describe_problem(group),
        settings=_tabulate_settings(group),
        versions=[Fact(name, " / ".join(values)) for name, values in versions.items()],
        health=draw_health(group),
        notes=notes,
    )


def _draw_pictures(group: Group) -> list[Picture]:
    """Draw the scores, the curves and the landscapes that there are."""
    pictures = [draw_curves(group), draw_landscapes(group)]
    if group.comparison:
        pictures.insert(0, draw_scores(group.comparison))
    return list(filter(None, pictures))


def write_lede(group: Group) -> list[str]:
    """Return the answer of a comparison in sentences; none without one."""
    comparison = group.comparison
    if comparison is None:
        return []
    sentences = _describe_ends(comparison)
    for row in comparison.rows:
        if not row.role and row.against_floor is not None:
            sentences.append(_describe_difference(row, row.against_floor))
    if comparison.unlike:
        sentences.append(comparison.unlike)
    return sentences


def _describe_ends(comparison: Comparison) -> list[str]:
    """Say what the floor and the ceiling reach."""
    rows = {row.method: row for row in comparison.rows}
    if FLOOR not in rows:
        return []
    seeds = statistics.seeds(comparison.seeds)
    floor = format_estimate(rows[FLOOR])
    sentence = f"Over {seeds}, {FLOOR}, the floor, reaches {floor} in the target"
    if CEILING in rows:
        sentence += f"; {CEILING}, the ceiling, {format_estimate(rows[CEILING])}"
    return [f"{sentence}."]


def _describe_difference(row: ComparisonRow, difference: float) -> str:
    """Say how a method does against the floor."""
    interval = format_interval(row.against_floor_low, row.against_floor_high)
    verdict = VERDICTS.get(row.verdict, f"against the floor: {row.verdict}")
    return f"{row.method} {verdict} ({format_change(difference)} {interval})."


def describe_run(entry: Entry) -> dict[str, Any]:
    """Return a run's row of the page."""
    counters, run = entry.counters, entry.run
    start = run.config["start"]
    return {
        **counters._asdict(),
        "label": entry.label,
        "seed": run.seed,
        "status": entry.status,
        "target_seconds": _describe_target_time(entry),
        "evaluated": entry.last_evaluation,
        "played": entry.played,
        "goal": entry.has_goal,
        "start": Path(start or "").name,
        "resume": "" if run.finished else f"isthmus resume {run.folder}",
    }


def _describe_target_time(entry: Entry) -> str:
    """Say for how long the robot moved in the target; empty where nobody knows.

    A step's length may have to be measured: it is asked for only where there are steps.
    """
    steps = entry.counters.target_transitions
    if not steps:
        return "0 s"
    try:
        return f"{steps * entry.run.problem.target.step_seconds:,.0f} s"
    except IsthmusError:
        return ""


def _describe_problem(group: Group) -> list[Fact]:
    """Say what was asked, and how it was measured."""
    problem, comparison = group.problem, group.comparison
    facts = [
        Fact("Source", problem["source"]),
        Fact("Target", problem["target"]),
        Fact("Access to the target", problem.get("access", "")),
        Fact("Budget", _describe_budget(problem["budget"])),
        Fact("Believed of the target", problem.get("uncertainty") or "nothing"),
        Fact("Log of the target", _describe_log(group)),
    ]
    if comparison is not None:
        steps, episodes = format_whole(comparison.steps), format_whole(comparison.episodes)
        conditions = "the same starts and dynamics for all"
        facts += [
            Fact("Training", f"{steps} steps a run, source and target together"),
            Fact("Evaluation", f"{episodes} episodes a run in the target, {conditions}"),
        ]
    return [Fact(name, str(value)) for name, value in facts if value]


def _describe_budget(budget: dict[str, float | None]) -> str:
    limits = []
    for name, value in budget.items():
        if value is not None:
            limits.append(f"{value:,} {name}")
    return ", ".join(limits) or "no limit"


def _describe_log(group: Group) -> str:
    """Say which log of the target was given, and how much the first run read of it."""
    data = group.problem.get("data")
    if not data:
        return ""
    for entry in group.entries:
        log = entry.run.config.get("log")
        if log:
            transitions, episodes = map(format_whole, (log["transitions"], log["episodes"]))
            return f"{data}: {transitions} transitions, {episodes} episodes"
    return data


def _tabulate_settings(group: Group) -> SettingsTable:
    """Return settings by method; where runs of one method differ, all their values."""
    methods = group.methods
    names: dict[str, None] = {}
    for entry in group.entries:
        names |= dict.fromkeys(entry.run.config["settings"])
    rows = []
    for name in names:
        rows.append((name, [_join_values(name, entries) for entries in methods.values()]))
    return SettingsTable(list(methods), rows)


def _join_values(name: str, entries: Sequence[Entry]) -> str:
    """Return the values of a setting that runs have, each once."""
    values = [str(entry.run.config["settings"].get(name, "–")) for entry in entries]
    return " / ".join(dict.fromkeys(values))


def _collect_versions(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Return the versions of each package that the runs were made with, each once."""
    recorded = [entry.run.config["versions"] for entry in entries]
    names: dict[str, None] = {}
    for versions in recorded:
        names |= dict.fromkeys(versions)
    collected = {}
    for name in names:
        values = [str(versions.get(name, NOT_RECORDED)) for versions in recorded]
        collected[name] = list(dict.fromkeys(values))
    return collected


def _note_versions(versions: dict[str, list[str]]) -> list[str]:
    """Return a note where runs were made with different versions."""
    differing = [name for name, values in versions.items() if len({*values} - {NOT_RECORDED}) > 1]
    if not differing:
        return []
    names = ", ".join(differing)
    return [f"The runs were made with different versions of {names}: their bits do not compare."]
