"""A policy in the target, logged: the data that methods of access `dataset` learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.domains.batched import describe_policy, fit_policy, is_jittable
from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.robots import check_fits
from isthmus.logs.log import Log
from isthmus.logs.paths import check_path_is_free
from isthmus.logs.record import Deterministic, record_log
from isthmus.logs.write import write_log
from isthmus.problems.problem import Problem
from isthmus.training.run import Run, versions
from isthmus.types import BadValue


def log_target(
    policy: Run | PolicyLike,
    problem: Problem,
    out: Path,
    steps: int = 20_000,
    *,
    seed: int = 0,
    deterministic: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Log:
    """Play a policy for `steps` transitions in one world of the problem's target; write the log to
    `out` and return it.

    `policy` is a run, or a policy from elsewhere, which acts as it is. A run's acts as it explored
    in training, as D4RL's logs are made (Fu et al. 2020, arXiv 2004.07219), since a log without
    noise says nothing of actions that were not taken; `deterministic`: as it is deployed. Rewards
    are the target's own. What it took is in the file's metadata and in no training's usage. Raises
    BadValue where the policy is another robot's or explored with another action than the deployed
    one, or `out` is there already.
    """
    target = problem.target
    if hasattr(policy, "method"):  # a run
        behaviour = _choose_behaviour(policy, target, deterministic)
    else:
        behaviour, deterministic = fit_policy(policy, target), True
        if is_jittable(behaviour):
            behaviour = Deterministic(behaviour)
    check_path_is_free(out)
    seconds = target.step_seconds  # where it is missing, that should be said before anything moves
    log = record_log(target, behaviour, steps, seed, on_step)
    metadata = {
        "domain": str(target),
        "problem": problem.name,
        "transitions": log.size,
        "episodes": log.episodes,
        "seconds": log.size * seconds,
        "seed": seed,
        "deterministic": deterministic,
        "policy": _describe(policy),
        "versions": versions(target.engine),
    }
    write_log(out, log, metadata, target)
    return log


def _choose_behaviour(run: Run, target: Domain, deterministic: bool) -> Any:
    """Return what acts for a run in a target. Raises BadValue where it cannot."""
    check_fits(run.problem.source, target)
    if deterministic:
        return Deterministic(run.policy)
    _check_explores(run)
    return run.behaviour


def _describe(policy: Run | PolicyLike) -> dict[str, Any]:
    """Return who acted."""
    if not isinstance(policy, Run):
        return describe_policy(policy)
    run = policy
    return {
        "run": run.reference,
        "method": run.name,
        "seed": run.seed,
        "source": str(run.problem.source),
        "digest": run.digest,
    }


def _check_explores(run: Run) -> None:
    """Raise BadValue where a run explored by no policy, or by another action than the deployed."""
    if not run.method.explores:
        raise BadValue(f"{run.name} keeps no exploring policy to log with; say --deterministic")
    if run.method.has_source_action:
        raise BadValue(
            f"{run.name} explored with its action for the source, not the deployed one; say "
            "--deterministic"
        )
