"""What a person sees while a run trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

console = Console(stderr=True)

UNMEASURED = "no return: foreign environments are not touched by evaluations in training; isthmus evaluate measures"


class Progress:
    """One run's bar: steps, steps a second, return, time left. `quiet` shows nothing."""

    def __init__(self, run: Any, quiet: bool):
        self.run, self.quiet = run, quiet
        self.bars = Bars(
            TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"), TextColumn("return {task.fields[score]}"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal,
        )  # fmt: skip
        self.task = self.bars.add_task(
            f"{run.name} s{run.seed}", total=run.steps, rate="compiling", score="-"
        )

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    @staticmethod
    def note(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True)

    def update(self, done: int, counters: dict[str, int], metrics: dict[str, float]) -> None:
        fields = {}
        if "training_return" in metrics:
            fields["score"] = f"{metrics['training_return']:.0f}"
        speed = self.bars.tasks[self.task].speed
        self.bars.update(
            self.task, completed=done, rate=f"{speed:,.0f} steps/s" if speed else "", **fields
        )

    def part(self, done: int, total: int) -> None:
        """So many parts of a round that workers share have ended."""
        self.bars.update(self.task, rate=f"part {done} of {total}")

    def evaluated(self, counters: dict[str, int], scores: dict[str, float]) -> None:
        if self.quiet or console.is_terminal:
            return
        returns = ", ".join(
            f"{k.removesuffix('_return')} {v:.0f}"
            for k, v in scores.items()
            if k.endswith("_return")
        )
        steps = f"{counters['source_steps']:,} source steps, {counters['target_transitions']:,} target transitions"
        told = f"return: {returns}" if returns else UNMEASURED
        console.print(
            f"{self.run.name} s{self.run.seed}: {steps}; {told}", highlight=False, soft_wrap=True
        )

    def stopped(self) -> None:
        if not self.quiet:
            self.note(f"stopped and saved; go on with: isthmus resume {self.run.folder}")
