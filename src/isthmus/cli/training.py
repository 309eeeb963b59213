"""Commands that train, and that log what a policy does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from isthmus.cli.console import print_text, screen
from isthmus.cli.options import (
    ImportOptions,
    MethodOptions,
    ProblemOptions,
    RoundsExecutorOptions,
    ShiftOptions,
    open_run,
)

if TYPE_CHECKING:
    from isthmus.training.run import Run


def run_train(
    method: Positional[str],
    problem: ProblemOptions,
    configuration: MethodOptions,
    sharing: RoundsExecutorOptions,
    steps: Annotated[
        int,
        arg(
            help="environment steps in all, source and target, rounded up to whole rounds; 0: "
            "deploy what --start left"
        ),
    ] = 1_000_000,
    seed: int = 0,
    start: Annotated[
        Path | None,
        arg(
            metavar="RUN",
            help="a run whose policy to start from; RUN@best: the one of its best return in the "
            "source",
        ),
    ] = None,
    out: Annotated[
        Path | None, arg(help="the run's folder (default: a new one under runs/)")
    ] = None,
    quiet: bool = False,
) -> None:
    """Train a method on a problem into a run folder. Ctrl-C is safe: it saves, and `isthmus resume`
    goes on.
    """
    configuration.load()
    made = problem.make()
    from isthmus.training.train import train

    with sharing.open() as executor:
        run = train(
            method,
            made,
            seed=seed,
            steps=steps,
            out=out,
            settings=configuration.parse_settings(),
            start=start,
            imports=configuration.imports,
            quiet=quiet,
            executor=executor,
        )
    _report_end(run)


def run_resume(
    run: Positional[Path],
    code: ImportOptions,
    sharing: RoundsExecutorOptions,
    quiet: bool = False,
) -> None:
    """Go on with a run from its newest good checkpoint: the same bits as if it had never stopped."""
    code.load()
    from isthmus.training.train import resume

    with sharing.open() as executor:
        resumed = resume(run, quiet, executor, code.imports)
    _report_end(resumed)


def _report_end(run: Run) -> None:
    """Print the last evaluation and the run's folder; end the command where it was stopped."""
    from isthmus.training.progress import UNMEASURED

    if not run.finished:
        raise SystemExit(130)
    evaluations = [row for row in run.metrics() if row["kind"] == "evaluation"]
    if evaluations:
        scores = []
        for key, value in evaluations[-1].items():
            if key.endswith("_return"):
                scores.append(f"{key.removesuffix('_return')} {value:.0f}")
        print_text(f"last evaluation, mean return: {', '.join(scores)}" if scores else UNMEASURED)
    print_text(run.folder)


def run_collect(
    shift: ShiftOptions,
    code: ImportOptions,
    policy: Annotated[Path, arg(metavar="RUN", help="the run whose policy acts")],
    out: Annotated[Path, arg(aliases=["-o"], help="a Minari data set's folder, or a file D.npz")],
    steps: Annotated[int, arg(help="transitions")] = 20_000,
    deterministic: Annotated[
        bool, arg(help="act as deployed (default: explore, as in training)")
    ] = False,
    seed: int = 0,
) -> None:
    """Log the target under a run's policy: what methods of access `dataset` learn from, by --data."""
    code.load()
    problem = shift.make()
    from isthmus.cli.progress import show_steps
    from isthmus.training.collect import log_target

    run = open_run(policy)
    with show_steps(str(problem.target), steps) as bar:
        log = log_target(
            run, problem, out, steps, seed=seed, deterministic=deterministic, on_step=bar
        )
    if log.size < steps:
        screen.print("stopped early; what was made is written", style="yellow")
    episodes = "1 episode" if log.episodes == 1 else f"{log.episodes} episodes"
    print_text(f"{log.size:,} transitions of {episodes} in {problem.target}\n{out}")
