"""Which robot a domain is of, and whether a policy of one domain can act in another."""

from __future__ import annotations

import re
from functools import cache

from isthmus.domains.domain import Domain
from isthmus.domains.gym_ids import title_task
from isthmus.tasks.task import BUILT_IN, find_task
from isthmus.types import BadValue


def find_robot(text: str) -> str:
    """Return the robot of a domain's text or a Gymnasium id, such as `HalfCheetah`.

    Empty where it is none that is known.
    """
    without_settings = re.sub(r"/[^/]*=.*", "", text)
    name = re.split(r"[/:]", without_settings)[-1]
    return _list_robots().get(_drop_version(name), "")


def _drop_version(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


@cache
def _list_robots() -> dict[str, str]:
    """Return the built-in tasks' robots, by the names of tasks and by their own."""
    robots = {}
    for name in BUILT_IN:
        robot = _drop_version(find_task(name).reference or title_task(name))
        robots[name] = robots[robot] = robot
    return robots


def check_fits(trained: Domain, other: Domain) -> None:
    """Raise BadValue where a policy that learned in one domain cannot act in the other.

    They differ in sizes, or in the robot.
    """
    trained_spaces, spaces = trained.spaces, other.spaces
    trained_sizes = trained_spaces.observation, trained_spaces.action
    if trained_sizes != (spaces.observation, spaces.action):
        raise BadValue(
            f"the policy takes {trained_sizes[0]} observations to {trained_sizes[1]} actions; "
            f"{other} has {spaces.observation} and {spaces.action}"
        )
    trained_robot, robot = find_robot(str(trained)), find_robot(str(other))
    if trained_robot and robot and trained_robot != robot:
        raise BadValue(f"the policy learned on a {trained_robot}; {other} is another robot")
