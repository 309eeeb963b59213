"""The command that says whether a policy crosses from one simulation to another, and why not."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.foreign import format_return_interval, format_share
from isthmus.cli.options import PolicyOptions, PolicyReference, is_run
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.deploy.crossing import Crossing, CrossRow
    from isthmus.deploy.policy import ForeignPolicy
    from isthmus.domains.domain import Domain
    from isthmus.training.run import Run

StageName = Literal["contract", "numerics", "engine", "target"]
ALL_STAGES: tuple[StageName, ...] = ("contract", "numerics", "engine", "target")
COLORS = {"holds": "green", "breaks": "red", "unclear": "yellow"}
COLUMNS = ("question", "what was done", "return", "fell", "lost", "answer", "which means")


@dataclass(frozen=True)
class CrossOptions:
    """What is asked, how exactly, and what may be lost."""

    episodes: Annotated[int, arg(help="of each row, from equal starts")] = 100
    tolerance: Annotated[
        float, arg(help="what may be lost: of the return, and of episodes that fall more")
    ] = 0.1
    stages: Annotated[tuple[StageName, ...], arg(help="what is asked, of all")] = ALL_STAGES
    seed: Annotated[int, arg(help="of the starts")] = 20_000_000


def run_cross(
    policy: Positional[PolicyReference],
    code: PolicyOptions,
    robot: Annotated[
        str | None,
        arg(
            metavar="TASK",
            help="where it is supposed to work: hopper, hopper/gravity=x1.2; or a row of `isthmus "
            "problems`, which also says the target (default: a run's source; where another policy "
            "says that it was trained)",
        ),
    ] = None,
    target: Annotated[
        str | None,
        arg(
            help="settings to change the robot by, damping=x3, or another domain (default: a run's "
            "target; what another policy says that it is for)"
        ),
    ] = None,
    asked: CrossOptions = CrossOptions(),
    out: Annotated[
        Path | None,
        arg(aliases=["-o"], metavar="CROSS.json", help="the rows; their picture lies beside them"),
    ] = None,
    json: Annotated[bool, arg(help="print the rows as JSON instead of the table")] = False,
) -> None:
    """Does a policy cross from one simulation to another, and if not: contract or physics?

    Asked in this order: the contract; the same engine with other numerics (timestep, integrator,
    cone, solver iterations); another engine; the target, and which group of its parameters, as in
    the source, mends it. Status 0: it crosses. 3: the contract is broken. 4: numerics break it. 5:
    another engine does. 6: the target's parameters do. 1: too few episodes to tell.
    """
    opened = code.open_policy(policy)
    if out is not None:
        _check_path(out)
    source, place = _find_domains(opened, robot, target)
    crossing = _play(opened, source, place, asked)
    if out is not None:
        _save(crossing, out)
    if json:
        print_text(_format_json(crossing))
    else:
        _print(crossing, out)
    if crossing.exit_code:
        raise SystemExit(crossing.exit_code)


def _find_domains(
    opened: Run | ForeignPolicy, robot: str | None, target: str | None
) -> tuple[Domain, Domain | None]:
    """Return where a policy is supposed to work, and where it shall, None for nowhere.

    Raises BadValue where nothing says the first.
    """
    from isthmus.domains.parse import parse_domain
    from isthmus.problems.catalog import CATALOG
    from isthmus.problems.problem import change_domain, make_problem

    if robot in CATALOG:
        problem = make_problem(robot)
        source, place = problem.source, problem.evaluation_target
    elif robot:
        source, place = parse_domain(robot), None
    elif is_run(opened):
        source, place = opened.problem.source, opened.problem.evaluation_target
    elif opened.trained_in:
        source, place = parse_domain(opened.trained_in), None
        if opened.deployed_to:
            place = parse_domain(opened.deployed_to)
    else:
        raise BadValue(
            f"{opened.name} does not say where it was trained: name the robot, --robot hopper"
        )
    if target is not None:
        return source, change_domain(source, target)
    if place is not None and not place.measurable:
        return source, None
    return source, place


def _play(
    opened: Run | ForeignPolicy, source: Domain, target: Domain | None, options: CrossOptions
) -> Crossing:
    """Ask everything, with a bar for each row."""
    from isthmus.cli.progress import show_episodes
    from isthmus.deploy.cross import cross

    with ExitStack() as bars:

        def show(text: str) -> Any:
            bars.close()
            return bars.enter_context(show_episodes(text, options.episodes))

        return cross(
            opened,
            source,
            target,
            options.episodes,
            seed=options.seed,
            tolerance=options.tolerance,
            stages=options.stages,
            on_row=show,
        )


def _check_path(path: Path) -> None:
    """Raise BadValue where a result cannot be written there."""
    if path.suffix != ".json":
        raise BadValue(f"{path}: the result's file ends in .json")
    if not path.absolute().parent.is_dir():
        raise BadValue(f"there is no folder {path.parent}; make it, or write elsewhere")


def _format_json(crossing: Crossing) -> str:
    return json.dumps(crossing.to_data(), indent=1)


def _save(crossing: Crossing, path: Path) -> None:
    """Write the rows, and their picture beside them."""
    from isthmus.report.crossing_figures import plot_crossing
    from isthmus.report.style import save_figure
    from isthmus.training.run_files import write_text

    write_text(path, _format_json(crossing) + "\n")
    save_figure(plot_crossing(crossing), path.with_suffix(".png"))


def _print(crossing: Crossing, out: Path | None) -> None:
    from isthmus.evaluation.episode_intervals import OVER_EPISODES

    screen.print(_tabulate(crossing))
    for line in crossing.describe():
        print_text(line)
    print_text(f"{crossing.episodes} episodes a row, from equal starts; {OVER_EPISODES}")
    if out is not None:
        print_text(f"{out}\n{out.with_suffix('.png')}")


def _tabulate(crossing: Crossing) -> Table:
    """Return the rows as a table."""
    table = make_table(*COLUMNS)
    for row in crossing.rows:
        answer = row.outcome if row.outcome != "reference" else ""
        if color := COLORS.get(row.outcome):
            answer = f"[{color}]{row.outcome}[/]"
        table.add_row(
            row.question, escape(row.done), *_format_numbers(row), answer, escape(row.meaning)
        )
    return table


def _format_numbers(row: CrossRow) -> list[str]:
    """Return the cells of return, falls and loss; empty where nothing was played."""
    if row.summary is None:
        return ["", "", ""]
    returns = row.summary.returns
    cells = [f"{returns.value:.1f} {format_return_interval(returns)}"]
    cells.append(format_share(row.summary.fell))
    if row.loss is None:
        return [*cells, ""]
    loss = f"{row.loss.value:.1f} {format_return_interval(row.loss)}"
    return [*cells, loss.replace("-0.0", "0.0")]
