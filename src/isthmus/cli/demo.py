"""The main job in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path

from isthmus.cli.show import Jobs, comparison_table, console


def run_demo(folder: Path, steps: int, seeds: int) -> None:
    """Hopper at torso mass 6 and foot friction 2, into a grid of other masses and frictions: train
    the floor, the ceiling and domain randomization, compare them, draw their landscapes, write the
    report.
    """
    from isthmus.problems.problem import make_problem

    began = time.monotonic()
    problem = make_problem("hopper-es-sim2real")
    console.print(
        "A hopping robot learns in a simulator: torso 6 kg, foot friction 2. Does it still hop "
        "with another body,\n"
        "on another floor? [bold]source_only[/] trains on that one robot; "
        "[bold]domain_randomization[/] on many\n"
        "around it; [bold]target_only[/], the ceiling, on the 180 robots of the target itself.\n",
        soft_wrap=True,
    )
    from isthmus.studies.compare import LANDSCAPE, compare

    with Jobs() as jobs:
        result = compare(
            problem, ["domain_randomization"], seeds=seeds, steps=steps, out=folder, episodes=360, poll=jobs.poll,
            settings={"learner.minibatch": 256, "learner.discount": 0.995},
        )  # fmt: skip
    from rich.console import Console

    Console(highlight=False).print(comparison_table(result))
    from isthmus.report.page import write_report

    page = write_report([folder], folder / "report.html", "Does it work there?")
    console.print(
        f"\nA landscape a run: {folder}/*/{LANDSCAPE}. {seeds} seeds of {steps:,} steps show the "
        "job, not a finding:\n"
        f"under 5 seeds a verdict is at most \"points to\". {time.monotonic() - began:.0f} "
        "seconds.\n\n"
        f"Open the report: {page}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
