"""How a task's actions reach the motors, and what its worlds need of their simulator for it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from isthmus.physics.engine import Equipment
from isthmus.physics.parameters import Parameter
from isthmus.tasks.task import Task

if TYPE_CHECKING:
    from isthmus.tasks.actuation import Actuation


@lru_cache(maxsize=64)
def _load_actuation(kind: type[Task]) -> Actuation:
    from isthmus.physics.mujoco import load_model
    from isthmus.tasks.actuation import Actuation

    task = kind()
    return Actuation(task, load_model(task.model_path()))


def find_actuation(task: Task) -> Actuation | None:
    """Return how a task's actions become targets; None where they go to the actuators as they are.

    Raises BadValue or UnknownName where its servo does not fit its model.
    """
    return None if task.servo is None else _load_actuation(type(task))


def find_equipment(task: Task) -> Equipment:
    """Return what a task's worlds need of their simulator."""
    actuation = find_actuation(task)
    servos = actuation.servos if actuation else None
    return Equipment(servos=servos, state_size=task.state_size, needs=tuple(task.needs))


def load_servo_gains(task: Task) -> dict[str, Parameter]:
    """Return the gains of a task's servos by name, as parameters; none where it has none."""
    actuation = find_actuation(task)
    if not actuation or not actuation.servos:
        return {}
    from isthmus.physics.mujoco import load_gains

    return load_gains(task.model_path(), actuation.servos)


def command_motors(task: Task, action: np.ndarray) -> np.ndarray:
    """Return the controls (n, A) of actions (n, A): targets where the task has a servo."""
    actuation = find_actuation(task)
    return actuation.control(action) if actuation else action
