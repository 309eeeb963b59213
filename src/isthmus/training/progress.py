"""What a person sees while a run trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from isthmus.training.run import Run

console = Console(stderr=True)

NO_RETURN = (
    "no return: foreign environments are not touched by evaluations in training; isthmus evaluate "
    "measures"
)


class Progress:
    """One run's bar: steps, steps a second, return, time left. `quiet` shows nothing."""

    def __init__(self, run: Run, quiet: bool):
        self.run, self.quiet = run, quiet
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("return {task.fields[score]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
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
        """Print a line in yellow."""
        console.print(text, style="yellow", highlight=False, soft_wrap=True)

    def update(self, steps: int, metrics: dict[str, float]) -> None:
        """Move the bar to so many steps, by a round's metrics."""
        fields: dict[str, Any] = {"rate": ""}
        if "training_return" in metrics:
            fields["score"] = f"{metrics['training_return']:.0f}"
        if speed := self.bars.tasks[self.task].speed:
            fields["rate"] = f"{speed:,.0f} steps/s"
        self.bars.update(self.task, completed=steps, **fields)

    def show_part(self, done: int, total: int) -> None:
        """Tell that so many parts of a round that workers share have ended."""
        self.bars.update(self.task, rate=f"part {done} of {total}")

    def show_scores(self, counters: dict[str, int], scores: dict[str, float]) -> None:
        """Print an evaluation's line, where no bar is shown."""
        if self.quiet or console.is_terminal:
            return
        returns = []
        for name, score in scores.items():
            if name.endswith("_return"):
                returns.append(f"{name.removesuffix('_return')} {score:.0f}")
        result = f"return: {', '.join(returns)}" if returns else NO_RETURN
        console.print(
            f"{self.run.name} s{self.run.seed}: {counters['source_steps']:,} source steps, "
            f"{counters['target_transitions']:,} target transitions; {result}",
            highlight=False,
            soft_wrap=True,
        )

    def show_stop(self) -> None:
        """Tell how a run that was stopped goes on."""
        if not self.quiet:
            self.note(f"stopped and saved; go on with: isthmus resume {self.run.folder}")
