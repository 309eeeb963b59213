"""Commands that train, and that log what a policy does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from isthmus.cli.console import print_text, screen
from isthmus.cli.options import (
    ImportOptions,
    MethodOptions,
    PolicyOptions,
    ProblemOptions,
    RoundsExecutorOptions,
    ShiftOptions,
)

if TYPE_CHECKING:
    from isthmus.training.run import Run


@dataclass(frozen=True)
class TrainingOptions:
    """How long to train, by which random numbers, and from which policy."""

    steps: Annotated[
        int,
        arg(
            help="environment steps in all, source and target, rounded up to whole rounds; 0: "
            "deploy what --start left"
        ),
    ] = 1_000_000
    seed: int = 0
    start: Annotated[
        Path | None,
        arg(
            metavar="RUN",
            help="a run whose policy to start from; RUN@best: the one of its best return in the "
            "source",
        ),
    ] = None


def run_train(
    method: Positional[str],
    problem: ProblemOptions,
    configuration: MethodOptions,
    training: TrainingOptions,
    sharing: RoundsExecutorOptions,
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

    with sharing.make() as executor:
        run = train(
            method,
            made,
            seed=training.seed,
            steps=training.steps,
            out=out,
            settings=configuration.parse_settings(),
            start=training.start,
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
    """Go on with a run from its newest good checkpoint, as if it had never stopped, to the bit."""
    code.load()
    from isthmus.training.train import resume

    with sharing.make() as executor:
        resumed = resume(run, quiet, executor, code.imports)
    _report_end(resumed)


def _report_end(run: Run) -> None:
    """Print the last evaluation and the run's folder; end the command where it was stopped."""
    from isthmus.training.progress import NO_RETURN

    if not run.finished:
        raise SystemExit(130)
    for row in reversed(run.metrics()):
        if row["kind"] == "evaluation":
            print_text(_format_returns(row) or NO_RETURN)
            break
    print_text(run.folder)


def _format_returns(row: Mapping[str, float]) -> str:
    """Return the mean returns of an evaluation; empty where none was measured."""
    returns = []
    for key, value in row.items():
        if key.endswith("_return"):
            returns.append(f"{key.removesuffix('_return')} {value:.0f}")
    if not returns:
        return ""
    return f"last evaluation, mean return: {', '.join(returns)}"


def run_collect(
    shift: ShiftOptions,
    code: PolicyOptions,
    policy: Annotated[
        str, arg(metavar="POLICY", help="what acts: a run, policy.onnx, module:factory")
    ],
    out: Annotated[Path, arg(aliases=["-o"], help="a Minari data set's folder, or a file D.npz")],
    steps: Annotated[int, arg(help="transitions")] = 20_000,
    deterministic: Annotated[
        bool,
        arg(help="act as deployed (default: a run explores as in training; others cannot)"),
    ] = False,
    seed: int = 0,
) -> None:
    """Log the target under a policy; methods of access `dataset` learn from it, by --data."""
    code.load()
    problem = shift.make()
    from isthmus.cli.progress import show_steps
    from isthmus.training.collect import log_target

    run = code.open_policy(policy)
    with show_steps(str(problem.target), steps) as bar:
        log = log_target(
            run, problem, out, steps, seed=seed, deterministic=deterministic, on_step=bar
        )
    if log.size < steps:
        screen.print("stopped early; what was made is written", style="yellow")
    episodes = "1 episode" if log.episodes == 1 else f"{log.episodes} episodes"
    print_text(f"{log.size:,} transitions of {episodes} in {problem.target}\n{out}")
