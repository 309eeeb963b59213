"""Bars over what takes long, on the error stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from isthmus.cli.console import error_screen

TAIL_BYTES = 4096
"""What is read from the end of a run's metrics: several lines."""


def _make_bars(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return bars that are drawn on a terminal alone."""
    is_piped = not error_screen.is_terminal
    return Progress(*columns, console=error_screen, transient=transient, disable=is_piped)


@contextmanager
def show_episodes(text: str, total: int) -> Iterator[Callable[[Any, int], None]]:
    """Show a bar over finished episodes, moved by the `on_step` of a rollout."""
    counts = TextColumn("{task.completed}/{task.total} episodes")
    columns = (TextColumn("{task.description}"), BarColumn(), counts, TimeElapsedColumn())
    with _make_bars(*columns, transient=True) as bars:
        task = bars.add_task(text, total=total)
        yield lambda live, done: bars.update(task, completed=done, total=len(live.all))


@contextmanager
def show_steps(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar over environment steps: call it with how many are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with _make_bars(*columns, transient=True) as bars:
        task = bars.add_task(escape(text), total=total)
        yield lambda done: bars.update(task, completed=done)


@contextmanager
def show_stages() -> Iterator[Callable[[str], None]]:
    """Show work whose end is not known: call it with what is being done."""
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with _make_bars(*columns, transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda text: bars.update(task, description=escape(text))


@contextmanager
def show_messages(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar over what is read: call it with how much is done, and how much there is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with _make_bars(*columns, transient=True) as bars:
        task = bars.add_task(escape(text), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class RunProgress(NamedTuple):
    """How far a run has come, from its files; zeros where it has none yet."""

    done: int  # steps
    total: int
    score: str  # the last return in training

    @property
    def share(self) -> float:
        """The part of its steps that is done."""
        return self.done / (self.total or 1)

    @property
    def has_ended(self) -> bool:
        """Whether all steps are done."""
        return 0 < self.total <= self.done


class TrainingBars:
    """Bars over runs that train in other processes, read from their folders.

    Where there is no terminal, a line a finished run.
    """

    def __init__(self) -> None:
        self.bars = _make_bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("return {task.fields[score]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.all_runs = self.bars.add_task("all runs", total=None, score="-")
        self.tasks: dict[Path, TaskID] = {}
        self.ended: set[Path] = set()

    def __enter__(self) -> TrainingBars:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def poll(self, folders: Sequence[Path]) -> None:
        """Read how far the runs in these folders have come, and show it."""
        done = 0.0
        for folder in folders:
            run = read_progress(folder)
            done += run.share
            if run.total:
                self._show(folder, run)
            if run.has_ended and folder not in self.ended:
                self.ended.add(folder)
                if not error_screen.is_terminal:
                    count = f"{len(self.ended)} of {len(folders)}"
                    error_screen.print(f"{folder.name}: trained ({count}), return {run.score}")
        self.bars.update(self.all_runs, completed=done, total=len(folders))

    def _show(self, folder: Path, run: RunProgress) -> None:
        """Move a run's bar, and hide it once the run has ended."""
        if folder not in self.tasks:
            self.tasks[folder] = self.bars.add_task(folder.name, total=run.total, score="-")
        completed, is_visible = min(run.done, run.total), run.done < run.total
        task = self.tasks[folder]
        self.bars.update(task, completed=completed, score=run.score, visible=is_visible)


def read_progress(folder: Path) -> RunProgress:
    """Read how far a run has come."""
    progress = _read_metrics_tail(folder)
    if (folder / "finished.json").exists():
        total = max(progress.total, 1)  # also a run of no steps
        return progress._replace(done=total, total=total)
    return progress


def _read_metrics_tail(folder: Path) -> RunProgress:
    """Read the last lines of a run's metrics."""
    try:
        config = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        total = config["steps"]
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().splitlines()[1:]
        rows = [json.loads(line) for line in lines if line.endswith(b"}")]
    except (OSError, ValueError):
        return RunProgress(0, 0, "-")
    if not rows:
        return RunProgress(0, total, "-")
    score = "-"
    for row in rows:
        if "training_return" in row:
            score = f"{row['training_return']:.0f}"
    return RunProgress(rows[-1]["source_steps"] + rows[-1]["target_transitions"], total, score)
