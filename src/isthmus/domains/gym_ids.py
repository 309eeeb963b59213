"""The Gymnasium ids of our domains, which foreign domains may name too."""

from __future__ import annotations

import string
from functools import cache
from typing import Any

import gymnasium

from isthmus.tasks.task import BUILT_IN, find_task

ENVIRONMENTS = "isthmus.domains.gym"
"""The module that Gymnasium imports when it makes one."""


def title_task(name: str) -> str:
    """Return a task's name as Gymnasium writes it: `HalfCheetah` of `half_cheetah`."""
    return string.capwords(name, "_").replace("_", "")


@cache
def register_ids() -> None:
    """Register, once, an id for each built-in task and one for any domain."""
    entry_points: Any = {
        "entry_point": f"{ENVIRONMENTS}:Environment",
        "vector_entry_point": f"{ENVIRONMENTS}:VectorEnvironment",
    }
    for name in BUILT_IN:
        gymnasium.register(
            f"isthmus/{title_task(name)}-v0",
            **entry_points,
            kwargs={"domain": name},
            max_episode_steps=find_task(name).time_limit,
        )
    gymnasium.register("isthmus/Domain-v0", **entry_points)
