"""What run.json says of a run that is planned, and what no run can be planned with."""

from __future__ import annotations

from typing import Any

from isthmus.logs.log import Log
from isthmus.methods import registry
from isthmus.problems.problem import Access, Problem
from isthmus.types import BadValue


def check_run_numbers(seed: int, steps: int, fewest_steps: int) -> None:
    """Raise BadValue for a seed or a number of steps that cannot be."""
    if not 0 <= seed < 2**31:
        raise BadValue(f"seed={seed}: needs a whole number in 0..{2**31 - 1}")
    if steps < fewest_steps:
        raise BadValue(
            f"steps={steps}: needs a whole number above 0, or 0 to deploy what --start left"
        )


def check_access(method: str, accepts: frozenset[Access], problem: Problem) -> None:
    """Raise BadValue where a problem's access does not suffice for a method."""
    if Access.NONE in accepts or problem.access in accepts:
        return
    needs = " or ".join(sorted(accepts))
    fix = f"say --access {needs.split()[0]}"
    if needs == Access.DATASET:
        fix = "give the target's log, --data (isthmus collect makes one)"
    raise BadValue(f"{method} needs access {needs}, this problem's is {problem.access}; {fix}")


def describe_settings(method: Any) -> dict[str, Any]:
    """Return a method's settings as JSON has them."""
    settings = registry.settings_of(method)
    for name, value in settings.items():
        if isinstance(value, tuple):
            settings[name] = list(value)
    return settings


def describe_log(log: Log) -> dict[str, Any]:
    """Return what run.json says of a log; its digest is of the content, wherever and in whichever
    format it lies.
    """
    return {"digest": log.digest(), "transitions": log.size, "episodes": log.episodes}
