"""The command that fits a robot's parameters to a log of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.table import Table
from tyro.conf import arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.options import ImportOptions, ShiftOptions
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.identification.fit import Fit


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, and how."""

    parameters: Annotated[
        str,
        arg(
            metavar="A,B,*_C",
            help="what to fit, of `isthmus parameters TASK` (default: gravity, friction, density, "
            "damping, armature and motor_strength, as far as the robot has them)",
        ),
    ] = ""
    horizon: Annotated[
        int | None,
        arg(
            metavar="STEPS",
            help="steps of a segment, 1..50 (default: 1 where the log's states are exact, 10 where "
            "they are noisy and each segment's start is fitted too)",
        ),
    ] = None
    noise: Annotated[
        float | None,
        arg(help="standard deviation of every observed number; 0: exact (default: estimated)"),
    ] = None
    max_delay: Annotated[
        int, arg(metavar="STEPS", help="delays from command to observation that are tried")
    ] = 3

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names and patterns of the parameters."""
        return tuple(filter(None, self.parameters.split(",")))


def run_identify(
    shift: ShiftOptions,
    code: ImportOptions,
    data: Annotated[
        str, arg(metavar="D[:SIZE]", help="the target's log; D:5000 and D:1episode read its begin")
    ],
    out: Annotated[
        Path, arg(aliases=["-o"], metavar="FIT.json", help="the fit; its picture lies beside it")
    ],
    options: FitOptions,
    seed: int = 0,
    json: Annotated[bool, arg(help="print the fit as JSON instead of the table")] = False,
) -> None:
    """Fit the source's parameters to a log of the target: values, 95 % intervals, what is not told.

    Worlds are put into the logged states, the logged commands are held, and what they then observe
    is compared. A part of the log is held out: how much of the one-step gap the fit explains there
    is told for each observed number; a fit that explains nothing is refused. What it found is a
    source (--source FIT.json) and a law (--uncertainty FIT.json) for `isthmus train`.
    """
    code.load()
    check_path(out)
    problem = shift.make(data)
    log = problem.log()
    from isthmus.identification.identify import identify
    from isthmus.report.identification_figures import plot_fit
    from isthmus.report.style import save_figure

    with show_fitting() as on_step:
        fit = identify(
            problem.source,
            log,
            options.patterns,
            horizon=options.horizon,
            noise=options.noise,
            max_delay=options.max_delay,
            seed=seed,
            on_step=on_step,
        )
    fit.save(out)
    picture = save_figure(plot_fit(fit), out.with_suffix(".png"))
    if json:
        print_json(fit)
        return
    for table in (tabulate_parameters(fit), tabulate_gap(fit)):
        screen.print(table)
    for line in fit.describe():
        print_text(line)
    print_text(f"{out}\n{picture}")


def check_path(path: Path) -> None:
    """Raise BadValue where a fit cannot be written there."""
    if path.suffix != ".json":
        raise BadValue(f"{path}: a fit's file ends in .json")
    if not path.absolute().parent.is_dir():
        raise BadValue(f"there is no folder {path.parent}; make it, or write elsewhere")


def print_json(fit: Fit) -> None:
    """Print a fit as JSON."""
    print_text(json.dumps(asdict(fit), indent=1))


@contextmanager
def show_fitting() -> Iterator[Callable[[str, float], None]]:
    """Show the stage and the loss of a fit: call it after each iteration."""
    from isthmus.cli.progress import show_stages

    with show_stages() as advance:

        def on_step(stage: str, loss: float) -> None:
            advance(f"fitting: {stage}, loss {loss:.3g}")

        yield on_step


def tabulate_parameters(fit: Fit) -> Table:
    """Return the parameters as a table."""
    title = f"{fit.task}, {fit.transitions:,} transitions"
    columns = ("parameter", "value", "95 % interval", "default", "of the default", "verdict")
    table = make_table(*columns, title=title)
    colors = {"identified": "green", "at its bound": "yellow", "not identified": "red"}
    for p in fit.parameters:
        ratio = f"x{p.value / p.default:.4g}" if p.default else ""
        unit = "" if p.unit in ("1", "x") else f" {p.unit}"
        table.add_row(
            p.name,
            f"{p.value:.5g}{unit}",
            f"{p.low:.5g}..{p.high:.5g}",
            f"{p.default:.4g}",
            ratio,
            f"[{colors[p.verdict]}]{p.verdict}[/]",
        )
    return table


def tabulate_gap(fit: Fit) -> Table:
    """Return how much of each observed number's gap is explained, the largest rest first."""
    title = f"one-step gap on held-out segments: {fit.explained:.1%} explained"
    table = make_table("observed", "error by default", "by the fit", "explained", title=title)
    for gap in sorted(fit.held_out, key=lambda gap: -gap.left):
        explained = f"{gap.explained:.1%}" if gap.by_default else ""
        table.add_row(gap.name, f"{gap.by_default:.3g}", f"{gap.by_fit:.3g}", explained)
    return table
