"""Bars and tables of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True, highlight=False)


@contextmanager
def episodes_bar(text: str, total: int) -> Iterator[Callable[[Any, int], None]]:
    """A bar over finished episodes, as `play`'s on_step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} episodes"),
               TimeElapsedColumn())  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(text, total=total)
        yield lambda live, done: bars.update(task, completed=done, total=len(live.all))


@contextmanager
def steps_bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over environment steps: call it with how many are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,} steps"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(escape(text), total=total)
        yield lambda done: bars.update(task, completed=done)


class Jobs:
    """Bars over runs that train in other processes, read from their folders; a line a finished run
    elsewhere.
    """

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("return {task.fields[score]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.all = self.bars.add_task("all runs", total=None, score="-")
        self.tasks: dict[Path, Any] = {}
        self.told: set[Path] = set()

    def __enter__(self) -> Jobs:
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    def poll(self, folders: list[Path]) -> None:
        done_all, total_all = 0.0, 0.0
        for folder in folders:
            done, total, score = _state(folder)
            if (folder / "finished.json").exists():  # also a run of no steps
                done = total = max(total, 1)
            done_all, total_all = done_all + done / (total or 1), total_all + 1
            if total and folder not in self.tasks:
                self.tasks[folder] = self.bars.add_task(folder.name, total=total, score="-")
            if folder in self.tasks:
                self.bars.update(
                    self.tasks[folder],
                    completed=min(done, total),
                    score=score,
                    visible=done < total,
                )
            if total and done >= total and folder not in self.told:
                self.told.add(folder)
                if not console.is_terminal:
                    console.print(
                        f"{folder.name}: trained ({len(self.told)} of {len(folders)}), return "
                        f"{score}"
                    )
        self.bars.update(self.all, completed=done_all, total=total_all)


def _state(folder: Path) -> tuple[int, int, str]:
    """(steps done, steps in all, last training return) of a run, from its files; zeros where it has
    none yet.
    """
    try:
        total = json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = [
                json.loads(line) for line in file.read().splitlines()[1:] if line.endswith(b"}")
            ]
    except (OSError, ValueError):
        return 0, 0, "-"
    if not lines:
        return 0, total, "-"
    last = lines[-1]
    score = next(
        (f"{r['training_return']:.0f}" for r in reversed(lines) if "training_return" in r), "-"
    )
    return last["source_steps"] + last["target_transitions"], total, score


def comparison_table(comparison: Any) -> Table:
    """A comparison as a table: mean target return with its interval, the difference to the floor,
    the verdict.
    """
    from isthmus.evaluation import statistics
    from isthmus.problems.problem import Problem

    title = f"return in {Problem.from_data(comparison.problem).evaluation_target}, {statistics.seeds(comparison.seeds)}"
    title += f" (intervals: {comparison.intervals})"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in ("method", "mean", "95 % interval", "minus the floor", "verdict", "steps"):
        table.add_column(column, overflow="fold", no_wrap=column in ("method", "mean"))
    for row in comparison.rows:
        gap = "" if row.against_floor is None else f"{row.against_floor:+.0f} "
        gap += (
            ""
            if row.against_floor is None
            else _span(row.against_floor_low, row.against_floor_high)
        )
        took = [
            f"{n:,} {where}"
            for n, where in ((row.source_steps, "source"), (row.target_transitions, "target"))
            if n
        ]
        if row.logged_transitions:
            took.append(f"{row.logged_transitions:,} logged")
        if row.adaptation_transitions:
            took.append(f"{row.adaptation_transitions:,} each target")
        name = f"{row.method} ({row.role})" if row.role else row.method
        table.add_row(
            name, f"{row.value:.0f}", _span(row.low, row.high), gap, row.verdict, " + ".join(took)
        )
    if comparison.unlike:
        table.caption, table.caption_justify = comparison.unlike, "left"
    return table


def claims_table(claims: Any) -> Table:
    """A paper's claims: what was found of each, and the comparison that speaks least for it."""
    from isthmus.studies.claims_table import describe_contrast
    from isthmus.studies.contrasts import HOLDS, NOT

    table = Table(
        box=None, pad_edge=False, header_style="bold", title="claims", title_justify="left"
    )
    for column in ("", "claim", "verdict", "why", "weakest comparison"):
        table.add_column(
            column,
            overflow="fold",
            no_wrap=not column,
            ratio=None if column in ("", "verdict") else 1,
        )
    colours = {HOLDS: "green", NOT: "red"}
    left = [claim.id for claim in claims if not claim.contrasts]
    if left:
        table.caption, table.caption_justify = f"not run: {', '.join(left)}", "left"
    for claim in (claim for claim in claims if claim.contrasts):
        colour = next((c for word, c in colours.items() if claim.verdict.endswith(word)), "yellow")
        weakest = describe_contrast(claim.weakest) if claim.weakest else ""
        verdict = f"[{colour}]{escape(claim.conclusion)}[/]"
        table.add_row(claim.id, claim.text, verdict, escape(claim.why), escape(weakest))
    return table


def _span(low: float | None, high: float | None) -> str:
    return "none from one seed" if low is None or high is None else f"[{low:.0f}, {high:.0f}]"
