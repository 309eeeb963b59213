"""The main job in two minutes: a robot known by a log, a simulator fitted to it, a policy that
crosses.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from isthmus.cli.console import error_screen, make_table, screen
from isthmus.types import BadValue

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.identification.fit import Fit
    from isthmus.problems.problem import Problem
    from isthmus.studies.compare import Comparison

TARGET = "hopper/motor_strength=x1.5"
FITTED = ("gravity", "friction", "damping", "armature", "motor_strength")
LOGGED = 2_000  # transitions
EPISODES = 100
SETTINGS = {
    "learner": "trpo",
    # Five seeds of five hop to the end so, of the default 64 x 64 four: seeds 10 to 14.
    "learner.worlds": 32,
    "learner.steps": 128,
    "parameters": ",".join(FITTED),
}


GREETING = f"""\
A hopping robot learns in a simulator. The robot itself differs, and nobody knows in what:
[bold]{TARGET}[/]. [bold]source_only[/] trains in the simulator as it is;
[bold]system_identification[/] in the simulator as a log of {LOGGED:,} random moves tells it to be;
[bold]target_only[/], the ceiling, on the robot.
"""


def run_demo(
    out: Path = Path("runs/demo"),
    steps: Annotated[int, arg(help="environment steps a run")] = 400_000,
    seeds: int = 2,
) -> None:
    """A robot known by its log: fit the simulator, train in what was fitted, and see whether it
    works there.
    """
    from isthmus.cli.progress import TrainingBars
    from isthmus.cli.tables import tabulate_comparison
    from isthmus.problems.problem import make_problem
    from isthmus.report.page import write_report
    from isthmus.studies.compare import compare
    from isthmus.training.run_files import make_folder

    for name, value in (("seeds", seeds), ("steps", steps)):
        if value < 1:
            raise BadValue(f"{name}={value}: needs a whole number, 1 or more")
    began = time.monotonic()
    error_screen.print(GREETING, soft_wrap=True)
    make_folder(out, "--out")
    problem = make_problem(TARGET, data=str(_log_robot(out / "log.npz")))
    fit = _fit(problem)
    fit.save(out / "fit.json")
    screen.print(tabulate_truth(fit, problem))
    with TrainingBars() as bars:
        comparison = compare(
            problem,
            ["system_identification"],
            seeds=seeds,
            steps=steps,
            out=out,
            episodes=EPISODES,
            poll=bars.poll,
            settings=SETTINGS,
        )
    screen.print(tabulate_comparison(comparison))
    page = write_report([out], out / "report.html", "Does it work there?")
    error_screen.print(
        f"\n{describe_crossing(comparison)} {time.monotonic() - began:.0f} seconds.\n\n"
        f"Open the report, with an animation: {page}",
        markup=False,
        soft_wrap=True,
    )


def _log_robot(path: Path) -> Path:
    """Log random moves of the target, as `isthmus collect` logs a policy's."""
    from isthmus.domains.parse import parse_domain
    from isthmus.learning.policies import UniformBehaviour
    from isthmus.logs.record import record_log
    from isthmus.logs.write import write_log

    if not path.exists():
        target = parse_domain(TARGET)
        behaviour = UniformBehaviour(target.spaces.low, target.spaces.high)
        write_log(path, record_log(target, behaviour, LOGGED), {"domain": str(target)}, target)
    return path


def _fit(problem: Problem) -> Fit:
    from isthmus.identification.identify import identify

    with error_screen.status("fitting the simulator to the log"):
        return identify(problem.source, problem.log(), FITTED)


def tabulate_truth(fit: Fit, problem: Problem) -> Table:
    """Return the fit beside what is hidden."""
    hidden = dict(problem.target.settings)
    table = make_table("parameter", "simulator", "fit", "95 % interval", "robot", "verdict")
    for p in fit.parameters:
        truth = hidden.get(p.name, p.default)
        interval = f"[{p.low:.4g}, {p.high:.4g}]"
        row = (p.name, f"{p.default:.4g}", f"{p.value:.4g}", interval, f"{truth:.4g}", p.verdict)
        table.add_row(*row)
    return table


def describe_crossing(comparison: Comparison) -> str:
    """Return what came out, as a sentence."""
    by_method = {row.method: row.value for row in comparison.rows}
    floor, found = by_method["source_only"], by_method["system_identification"]
    ceiling = by_method.get("target_only")
    text = f"On the robot the simulator's policy earns {floor:.0f}, the fitted one's {found:.0f}"
    if ceiling is not None and ceiling > floor:
        share = (found - floor) / (ceiling - floor)
        text += (
            f", of {ceiling:.0f} that training on the robot itself earns: {share:.0%} of the way"
        )
    return f"{text}."
