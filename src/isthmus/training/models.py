"""Whether the robots' models are still those that a run was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.domains.domain import RobotDomain
from isthmus.physics.model_files import digest_model
from isthmus.problems.problem import Problem
from isthmus.tasks.task import find_task
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.training.run import Run


def describe_models(problem: Problem) -> dict[str, str]:
    """Return what run.json says of the robots' models: by task, a digest of all of their files.

    Raises BadValue where one is missing.
    """
    digests: dict[str, str] = {}
    for domain in (problem.source, problem.target):
        if isinstance(domain, RobotDomain) and domain.task not in digests:
            digests[domain.task] = digest_model(find_task(domain.task).model_path())
    return digests


def find_changed_models(run: Run) -> list[str]:
    """Return the tasks whose models are no longer what they were when a run began.

    Raises BadValue where one is missing.
    """
    recorded = run.config.get("models", {})  # older runs have none
    now = describe_models(run.problem) if recorded else {}
    return [task for task, digest in recorded.items() if now.get(task) != digest]


def check_models(run: Run) -> None:
    """Raise BadValue where a robot's model is missing or no longer what it was."""
    for task in find_changed_models(run):
        raise BadValue(
            f"the model of {task} (its MJCF, what that includes, a mesh) changed since "
            f"{run.folder} began; put the old files back, or go on with the new robot in a run of "
            f"its own: --start {run.folder}"
        )
