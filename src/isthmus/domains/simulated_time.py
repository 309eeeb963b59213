"""Simulated time: where an environment holds it, and how long a step lasts by it.

To measure is to move: an environment is rehearsed, reset and stepped, only where it is known to be
a simulation. A robot's may hold MuJoCo's data too, of a model kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import gymnasium
import mujoco
import numpy as np

from isthmus.domains.foreign_contract import (
    ForeignStep,
    call_environment,
    check_reset,
    check_step,
    layers,
    read_success,
)
from isthmus.types import BadValue

REHEARSAL_STEPS = 3
SECONDS_DIGITS = 12
"""Of a measured step: MuJoCo adds its timesteps up, and their sum is off by an ulp or two."""

MAX_DEPTH, MAX_OBJECTS = 5, 2000
"""How far the search for simulated time goes."""

DATA_PATHS = ("data", "sim.data", "physics.data", "_env.physics.data", "env.physics.data")
"""Where environments hand out what holds their time, by properties or slots that a search would not
see."""

DATA_PACKAGES = ("mujoco", "dm_control", "mujoco_py")
"""Packages whose objects with a `time` hold simulated time."""

SIMULATION_PACKAGES = ("gymnasium", "gymnasium_robotics", "dm_control", "shimmy")
"""Packages whose environments are simulations."""

MUJOCO_ENVIRONMENTS = "gymnasium.envs.mujoco."
"""The modules of MujocoEnv, from which users derive simulations."""

Clock = Callable[[], float]


def find_clocks(env: gymnasium.Env) -> list[Clock]:
    """Return what tells the simulated time of an environment, in seconds, if it holds any.

    That is an attribute `simulated_time` of the environment or a wrapper, or MuJoCo's data, also
    dm_control's and mujoco_py's, wherever the environment keeps it. Nothing else that has a `time`
    is taken for it, whatever its name.
    """
    declaring = _find_declaring(env)
    if declaring is not None:
        return [lambda: float(declaring.simulated_time)]  # pyright: ignore[reportAttributeAccessIssue]
    stack = list(layers(env))
    holders = {}
    for data in (*_find_named_data(stack[-1]), *_find_held_data(stack)):
        holders[id(data)] = data
    return [lambda data=data: float(data.time) for data in holders.values()]


def read_clocks(clocks: Sequence[Clock]) -> list[float]:
    """Return the seconds that clocks show."""
    return [clock() for clock in clocks]


def is_simulation(env: gymnasium.Env) -> bool:
    """Return whether an environment may be moved for a measurement, since it cannot be a robot.

    It declares `simulated_time`, derives from Gymnasium's MujocoEnv, or its class is of a package
    of simulations.
    """
    if _find_declaring(env) is not None:
        return True
    kind = type(env.unwrapped)
    if _package(kind) in SIMULATION_PACKAGES:
        return True
    return any(base.__module__.startswith(MUJOCO_ENVIRONMENTS) for base in kind.__mro__)


def measure_gain(before: list[float], after: list[float]) -> float | None:
    """Return by how much time moved, in seconds.

    None where it stood still, or clocks that moved disagree.
    """
    gains = [end - begin for begin, end in zip(before, after, strict=True) if end > begin]
    return gains[0] if _are_equal(gains) else None


def measure_clocks(task: str, env: gymnasium.Env) -> float | None:
    """Reset and step an environment; return the simulated seconds of a step.

    None where they cannot be told, since they differ from step to step. The environment is held to
    its contract: raises BadValue, in one line, where that is broken or the environment raises.
    """
    shape = env.observation_space.shape
    assert shape is not None
    check_reset(task, call_environment(task, "reset", lambda: env.reset(seed=0)), shape)
    action = neutral_action(env)
    gains: list[float | None] = []
    for _ in range(REHEARSAL_STEPS):
        clocks = find_clocks(env)  # anew: a reset may have put other data in their place
        before = read_clocks(clocks)
        step = check_step(task, call_environment(task, "step", lambda: env.step(action)), shape)
        _check_rehearsed(task, step)
        ended = step.terminated or step.truncated
        if not ended or not gains:  # a last step may be cut short
            gains.append(measure_gain(before, read_clocks(clocks)))
        if ended:
            break
    if None in gains or not _are_equal(gains):
        return None
    return float(f"{gains[0]:.{SECONDS_DIGITS}g}")


def _check_rehearsed(task: str, step: ForeignStep) -> None:
    """Raise BadValue where a rehearsed step is not finite, or its info says no clear success."""
    if not np.isfinite(step.observation).all():
        raise BadValue(
            f"{task}: the first steps returned an observation with NaN or infinity in it"
        )
    read_success(task, step.info)


def _are_equal(gains: Sequence[Any]) -> bool:
    """Return whether there are gains, and all are one, but for rounding."""
    return bool(gains) and math.isclose(min(gains), max(gains), rel_tol=1e-6)


def neutral_action(env: gymnasium.Env) -> np.ndarray:
    """Return the action nearest to zero within an environment's bounds, in its own precision."""
    space: Any = env.action_space
    return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)


def _find_declaring(env: gymnasium.Env) -> gymnasium.Env | None:
    """Return the outermost layer that declares `simulated_time`, or None."""
    for layer in layers(env):
        seconds = getattr(layer, "simulated_time", None)
        if isinstance(seconds, float | int | np.floating | np.integer):
            return layer
    return None


def _find_named_data(env: gymnasium.Env) -> Iterator[Any]:
    """Yield the data that an environment hands out under a usual name."""
    for path in DATA_PATHS:
        data: Any = env
        with suppress(Exception):  # a property may raise anything
            for name in path.split("."):
                data = getattr(data, name)
            if _is_data(data):
                yield data


def _find_held_data(stack: list[gymnasium.Env]) -> Iterator[Any]:
    """Yield the data that environments hold in attributes, or in attributes of those.

    The search is breadth first.
    """
    visited = set(map(id, stack))
    level: list[object] = list(stack)
    for _ in range(MAX_DEPTH):
        holders = []
        for holder in level:
            for value in _visit_attributes(holder, visited):
                if _is_data(value):
                    yield value
                elif _may_hold(value):
                    holders.append(value)
        level = holders


def _visit_attributes(holder: object, visited: set[int]) -> Iterator[object]:
    """Yield an object's attributes, each value once, while not too many have been visited."""
    for value in list(vars(holder).values()):
        if id(value) not in visited and len(visited) < MAX_OBJECTS:
            visited.add(id(value))
            yield value


def _is_data(value: object) -> bool:
    if isinstance(value, mujoco.MjData):
        return True
    if _package(type(value)) not in DATA_PACKAGES:
        return False
    return isinstance(getattr(value, "time", None), float | np.floating)


def _package(kind: type) -> str:
    """Name the top-level package that a class is of."""
    return kind.__module__.partition(".")[0]


def _may_hold(value: object) -> bool:
    """Return whether a value is an object with attributes worth a look.

    Modules, classes, functions and networks are not.
    """
    if isinstance(value, type | ModuleType) or callable(value):
        return False
    return hasattr(value, "__dict__")
