"""The main job in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from isthmus.cli.console import error_screen, screen

EPISODES = 360  # two a cell of the target's grid
SETTINGS = {"learner.minibatch": 256, "learner.discount": 0.995}

GREETING = """\
A hopping robot learns in a simulator: torso 6 kg, foot friction 2. Does it still hop with another
body, on another floor? [bold]source_only[/] trains on that one robot; [bold]domain_randomization[/]
on many around it; [bold]target_only[/], the ceiling, on the 180 robots of the target itself.
"""


def run_demo(
    out: Path = Path("runs/demo"),
    steps: Annotated[int, arg(help="environment steps a run")] = 400_000,
    seeds: int = 2,
) -> None:
    """The main job in a few minutes: Hopper, naive against randomized, in a grid of other bodies
    and floors.
    """
    from isthmus.cli.progress import TrainingBars
    from isthmus.cli.tables import tabulate_comparison
    from isthmus.problems.problem import make_problem

    began = time.monotonic()
    problem = make_problem("hopper-es-sim2real")
    error_screen.print(GREETING, soft_wrap=True)
    from isthmus.studies.compare import LANDSCAPE, compare

    with TrainingBars() as bars:
        comparison = compare(
            problem,
            ["domain_randomization"],
            seeds=seeds,
            steps=steps,
            out=out,
            episodes=EPISODES,
            poll=bars.poll,
            settings=SETTINGS,
        )
    screen.print(tabulate_comparison(comparison))
    from isthmus.report.page import write_report

    page = write_report([out], out / "report.html", "Does it work there?")
    error_screen.print(
        f"\nA landscape a run: {out}/*/{LANDSCAPE}. {seeds} seeds of {steps:,} steps show the "
        "job, not a finding:\n"
        f'under 5 seeds a verdict is at most "points to". {time.monotonic() - began:.0f} '
        "seconds.\n\n"
        f"Open the report: {page}",
        markup=False,
        soft_wrap=True,
    )
