"""A trained run's policy in the target, logged: the data that methods of access `dataset` learn
from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.domains.robots import check_fits
from isthmus.logs.log import Log
from isthmus.logs.paths import check_path_is_free
from isthmus.logs.record import Deterministic, record_log
from isthmus.logs.write import write_log
from isthmus.problems.problem import Problem
from isthmus.training.run import Run, versions
from isthmus.types import BadValue


def log_target(
    run: Run,
    problem: Problem,
    out: Path,
    steps: int = 20_000,
    *,
    seed: int = 0,
    deterministic: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Log:
    """Play a run's policy for `steps` transitions in one world of the problem's target; write the
    log to `out` and return it.

    The policy acts as it explored in training, as D4RL's logs are made (Fu et al. 2020, arXiv
    2004.07219), since a log without noise says nothing of actions that were not taken;
    `deterministic`: as it is deployed. Rewards are the target's own. What it took is in the file's
    metadata and in no training's usage. Raises BadValue where the policy is another robot's or
    explored with another action than the deployed one, or `out` is there already.
    """
    check_fits(run.problem.source, problem.target)
    if not deterministic:
        _check_explores(run)
    check_path_is_free(out)
    target = problem.target
    seconds = target.step_seconds  # where it is missing, that should be said before anything moves
    if deterministic:
        behaviour = Deterministic(run.policy)
    else:
        behaviour = run.behaviour
    log = record_log(target, behaviour, steps, seed, on_step)
    metadata = {
        "domain": str(target),
        "problem": problem.name,
        "transitions": log.size,
        "episodes": log.episodes,
        "seconds": log.size * seconds,
        "seed": seed,
        "deterministic": deterministic,
        "policy": {
            "run": run.reference,
            "method": run.name,
            "seed": run.seed,
            "source": str(run.problem.source),
            "digest": run.digest,
        },
        "versions": versions(target.engine),
    }
    write_log(out, log, metadata, target)
    return log


def _check_explores(run: Run) -> None:
    """Raise BadValue where a run explored by no policy, or by another action than the deployed."""
    if not run.method.explores:
        raise BadValue(f"{run.name} keeps no exploring policy to log with; say --deterministic")
    if run.method.has_source_action:
        raise BadValue(
            f"{run.name} explored with its action for the source, not the deployed one; say "
            "--deterministic"
        )
