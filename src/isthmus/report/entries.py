"""What a report is about: runs as far as they can be read, in groups of one problem."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation.landscape import Landscape, training_box
from isthmus.report.curves import read_metrics
from isthmus.report.damage import check_comparison, find_wrong_fields
from isthmus.report.landscapes import read_landscape
from isthmus.report.numbers import format_whole
from isthmus.studies.compare import COMPARISON, EVALUATION, LANDSCAPE, Comparison
from isthmus.tasks.task import find_task
from isthmus.training.run import Run, RunError
from isthmus.types import IsthmusError

EVALUATION_KEYS = {"source_return", "target_return", "source_success", "target_success"}


class RunCounters(NamedTuple):
    """How far a run has come; `digest` is of its end, and empty before."""

    digest: str
    source_steps: int
    target_transitions: int


@dataclass
class Entry:
    """A run as far as it can be read; `notes` say what could not."""

    run: Run
    role: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The name of its folder."""
        return self.run.folder.name

    @cached_property
    def counters(self) -> RunCounters:
        """Counters at the end, or as far as it came."""
        if self.run.finished:
            try:
                return _read_end(self.run.folder / "finished.json")
            except (OSError, ValueError, KeyError, TypeError):
                self.notes.append(f"{self.label}: finished.json is damaged")
        if not self.metrics:
            return RunCounters("", 0, 0)
        last = self.metrics[-1]
        return RunCounters("", int(last["source_steps"]), int(last["target_transitions"]))

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """What was logged in training."""
        rows = read_metrics(self.run)
        if not rows:
            self.notes.append(f"{self.label}: metrics.jsonl holds nothing that can be read")
        return rows

    @property
    def status(self) -> str:
        """Whether it is finished, in words."""
        if self.run.finished:
            return "finished"
        done = self.counters.source_steps + self.counters.target_transitions
        return f"unfinished: {format_whole(done)} of {format_whole(self.run.steps)} steps"

    @property
    def last_evaluation(self) -> dict[str, float]:
        """Returns and successes in source and target at the end of training, where measured."""
        for row in reversed(self.metrics):
            if row["kind"] == "evaluation":
                return {key: row[key] for key in EVALUATION_KEYS & row.keys()}
        return {}

    @cached_property
    def has_goal(self) -> bool:
        """Whether the robot's task has a goal: elsewhere a success of 0 says nothing."""
        try:
            return "sparse" in find_task(self.run.problem.target.task).variants
        except IsthmusError:  # a foreign environment, whose infos say it if anything does
            return bool((self.played or {}).get("success"))

    @cached_property
    def played(self) -> dict[str, float] | None:
        """What `evaluation.csv` holds: `mean` return, `fell` (%), mean `length`, `success` (%).

        Older files do not hold the success. None where there is no such file.
        """
        path = self.run.folder / EVALUATION
        if not path.exists():
            return None
        try:
            return _read_played(path)
        except (OSError, KeyError, TypeError, ValueError, csv.Error):
            self.notes.append(f"{self.label}: {EVALUATION} is damaged")
            return None

    @cached_property
    def landscape(self) -> Landscape | None:
        """The landscape in the run's folder, with what training met; None where there is none."""
        path = self.run.folder / LANDSCAPE
        if not path.exists():
            return None
        try:
            landscape = read_landscape(path)
            trained_in = self.run.method.trained_in(self.run.problem)
            return landscape._replace(box=training_box(trained_in, landscape.names))
        except IsthmusError as error:
            self.notes.append(f"{self.label}: {error}")
            return None


def _read_end(path: Path) -> RunCounters:
    """Read a finished.json. Raises what a damaged one raises."""
    end = json.loads(path.read_text(encoding="utf-8"))
    return RunCounters(str(end["digest"]), int(end["source_steps"]), int(end["target_transitions"]))


def _read_played(path: Path) -> dict[str, float]:
    """Read an evaluation.csv. Raises what a damaged one raises."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers, successes = [], []
    for row in rows:
        numbers.append([float(row["return"]), float(row["fell"]), float(row["length"])])
        if "success" in row:
            successes.append(float(row["success"]))
    if not rows or not np.isfinite([*np.ravel(numbers), *successes]).all():
        raise ValueError("there are no numbers")
    mean, fell, length = np.mean(numbers, axis=0)
    played = {"mean": float(mean), "fell": 100 * float(fell), "length": float(length)}
    if successes:
        played["success"] = 100 * float(np.mean(successes))
    return played


@dataclass
class Group:
    """Runs on one problem, and their comparison where there is one."""

    folder: Path
    entries: list[Entry]
    comparison: Comparison | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def problem(self) -> dict[str, Any]:
        """The problem as a run.json has it."""
        if self.comparison:
            return self.comparison.problem
        return self.entries[0].run.config["problem"]

    @property
    def title(self) -> str:
        """The problem's name, or its target."""
        return self.problem["name"] or self.problem["target"]

    @property
    def methods(self) -> dict[str, list[Entry]]:
        """The runs by method."""
        methods: dict[str, list[Entry]] = {}
        for entry in self.entries:
            methods.setdefault(entry.run.name, []).append(entry)
        return methods


def read_runs(paths: Sequence[Path]) -> list[Group]:
    """Read comparisons, then other runs grouped by problem.

    Raises RunError where there is nothing to read.
    """
    if not paths:
        raise RunError("name at least one run's or comparison's folder")
    compared: list[Group] = []
    loose: dict[tuple[str, str], Group] = {}
    unread: list[str] = []
    for path in dict.fromkeys(paths):
        notes: list[str] = []
        comparison = _read_comparison(path, notes)
        if comparison is not None:
            compared.append(_group_comparison(path, comparison))
            continue
        for folder in _find_runs(path, notes):
            try:
                run = open_whole_run(folder)
            except RunError as error:
                unread.append(str(error))
                continue
            problem = run.config["problem"]
            group = loose.setdefault((problem["source"], problem["target"]), Group(path, []))
            group.entries.append(Entry(run))
            group.notes += [note for note in notes if note not in group.notes]
    groups = [*compared, *loose.values()]
    if not groups:
        raise RunError(unread[0])
    groups[0].notes += unread
    return groups


def _find_runs(path: Path, notes: list[str]) -> list[Path]:
    """Return the folders of runs in a folder, which may be one itself.

    Raises RunError where there are none.
    """
    if (path / "run.json").exists():
        return [path]
    folders = sorted(config.parent for config in path.glob("*/run.json"))
    if not folders:
        if notes:
            raise RunError(notes[0])
        reason = "it does not exist"
        if path.exists():
            reason = f"it has neither run.json nor {COMPARISON}"
        raise RunError(f"{path} is no run and no comparison: {reason}")
    if not notes:
        notes.append(
            f"{path} has no {COMPARISON}, which is written when all runs have ended: they are "
            "shown alone"
        )
    return folders


def open_whole_run(folder: Path) -> Run:
    """Open a run whose run.json holds what the page says of it. Raises RunError, in one line."""
    run = Run.open(folder)
    if run.which:
        raise RunError(f"a report is of a whole run: leave out @{run.which} of {folder}")
    wrong = find_wrong_fields(run.config)
    if wrong:
        raise RunError(f"{folder}/run.json is damaged: its {', '.join(wrong)} cannot be read")
    return run


def _read_comparison(folder: Path, notes: list[str]) -> Comparison | None:
    """Read a folder's comparison; None where there is none, or it is damaged, which is noted."""
    path = folder / COMPARISON
    if not path.exists():
        return None
    try:
        comparison = Comparison.read(folder)
        check_comparison(comparison)
        return comparison
    except OSError as error:
        notes.append(f"{path} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        notes.append(f"{path} is damaged ({kind}: {error}): its runs are shown alone")
    return None


def _group_comparison(folder: Path, comparison: Comparison) -> Group:
    """Return a comparison with its runs, as far as they can be read."""
    group = Group(folder, [], comparison)
    for row in comparison.rows:
        for name in row.runs:
            try:
                group.entries.append(Entry(open_whole_run(folder / name), row.role))
            except RunError as error:
                group.notes.append(str(error))
    return group
