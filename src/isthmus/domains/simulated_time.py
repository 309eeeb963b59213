"""Simulated time: where an environment holds it, and how long a step lasts by it.

To measure is to move: an environment is rehearsed, reset and stepped, only where it is known to be
a simulation. A robot's may hold MuJoCo's data too, of a model kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import gymnasium
import mujoco
import numpy as np

from isthmus.domains.foreign_contract import (
    call_environment,
    check_reset,
    check_step,
    layers,
    read_success,
)
from isthmus.types import BadValue

REHEARSAL_STEPS = 3
DIGITS = (
    12  # of a measured second: MuJoCo adds its timesteps up, and their sum is off by an ulp or two
)

MAX_DEPTH, MAX_OBJECTS = 5, 2000  # how far the search for simulated time goes
DATA_PATHS = ("data", "sim.data", "physics.data", "_env.physics.data", "env.physics.data")
"""Where environments hand out what holds their time, by properties or slots that a search would not see."""

DATA_PACKAGES = (
    "mujoco",
    "dm_control",
    "mujoco_py",
)  # whose objects with a `time` hold simulated time
SIMULATION_PACKAGES = (
    "gymnasium",
    "gymnasium_robotics",
    "dm_control",
    "shimmy",
)  # whose environments are simulations
MUJOCO_ENVIRONMENTS = (
    "gymnasium.envs.mujoco."  # the modules of MujocoEnv, from which users derive simulations
)

Clock = Callable[[], float]


def find_clocks(env: gymnasium.Env) -> list[Clock]:
    """Return what tells the simulated time of an environment, in seconds: none where it holds no
    such time.

    That is an attribute `simulated_time` of the environment or a wrapper, or MuJoCo's data, also
    dm_control's and mujoco_py's, wherever the environment keeps it. Nothing else that has a `time`
    is taken for it, whatever its name.
    """
    telling = _declaring(env)
    if telling is not None:
        return [lambda: float(getattr(telling, "simulated_time"))]
    stack = list(layers(env))
    holders = {id(data): data for data in [*_named_data(stack[-1]), *_held_data(stack)]}
    return [lambda data=data: float(data.time) for data in holders.values()]


def is_simulation(env: gymnasium.Env) -> bool:
    """Return whether an environment may be moved for a measurement, since it cannot be a robot.

    It declares `simulated_time`, derives from Gymnasium's MujocoEnv, or its class is of a package
    of simulations.
    """
    if _declaring(env) is not None:
        return True
    kind = type(env.unwrapped)
    if _package(kind) in SIMULATION_PACKAGES:
        return True
    return any(base.__module__.startswith(MUJOCO_ENVIRONMENTS) for base in kind.__mro__)


def measure_gain(before: list[float], after: list[float]) -> float | None:
    """Return by how much time moved, in seconds; None where it stood still, or clocks that moved
    disagree.
    """
    gains = [end - begin for begin, end in zip(before, after, strict=True) if end > begin]
    if not gains or not math.isclose(min(gains), max(gains), rel_tol=1e-6):
        return None
    return gains[0]


def measure_clocks(task: str, env: gymnasium.Env) -> float | None:
    """Reset and step an environment, hold it to its contract, and return the simulated seconds of a
    step.

    None where they cannot be told, since they differ from step to step. Raises BadValue, in one
    line, where the contract is broken or the environment raises.
    """
    shape = env.observation_space.shape
    assert shape is not None
    check_reset(task, call_environment(task, "reset", lambda: env.reset(seed=0)), shape)
    action = neutral_action(env)
    gains: list[float | None] = []
    for _ in range(REHEARSAL_STEPS):
        clocks = find_clocks(env)  # anew: a reset may have put other data in their place
        before = [clock() for clock in clocks]
        step = check_step(task, call_environment(task, "step", lambda: env.step(action)), shape)
        if not np.isfinite(step.observation).all():
            raise BadValue(
                f"{task}: the first steps returned an observation with NaN or infinity in it"
            )
        read_success(task, step.info)
        gain = measure_gain(before, [clock() for clock in clocks])
        ended = step.terminated or step.truncated
        if gains and ended:  # a last step may be cut short
            break
        gains.append(gain)
        if ended:
            break
    return _agree(gains)


def neutral_action(env: gymnasium.Env) -> np.ndarray:
    """Return the action nearest to zero within an environment's bounds, in its own precision."""
    space: Any = env.action_space
    return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)


def _agree(gains: list[float | None]) -> float | None:
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains) or not math.isclose(min(known), max(known), rel_tol=1e-6):
        return None
    return float(f"{known[0]:.{DIGITS}g}")


def _declaring(env: gymnasium.Env) -> gymnasium.Env | None:
    """Return the outermost layer that declares `simulated_time`, or None."""
    for layer in layers(env):
        if isinstance(
            getattr(layer, "simulated_time", None), float | int | np.floating | np.integer
        ):
            return layer
    return None


def _named_data(env: gymnasium.Env) -> Iterator[Any]:
    for path in DATA_PATHS:
        data: Any = env
        with suppress(Exception):  # a property may raise anything
            for name in path.split("."):
                data = getattr(data, name)
            if _is_data(data):
                yield data


def _held_data(stack: list[gymnasium.Env]) -> Iterator[Any]:
    """Yield the data that environments hold in attributes, or in attributes of those, breadth
    first.
    """
    seen = {id(layer) for layer in stack}
    level: list[Any] = list(stack)
    for _ in range(MAX_DEPTH):
        values = [value for holder in level for value in _unseen_attributes(holder, seen)]
        yield from [value for value in values if _is_data(value)]
        level = [value for value in values if not _is_data(value) and _may_hold(value)]


def _unseen_attributes(holder: Any, seen: set[int]) -> Iterator[Any]:
    """Yield an object's attributes, each value once, while not too many have been seen."""
    for value in list(vars(holder).values()):
        if id(value) not in seen and len(seen) < MAX_OBJECTS:
            seen.add(id(value))
            yield value


def _is_data(value: Any) -> bool:
    if isinstance(value, mujoco.MjData):
        return True
    return _package(type(value)) in DATA_PACKAGES and isinstance(
        getattr(value, "time", None), float | np.floating
    )


def _package(kind: type) -> str:
    """Name the top-level package that a class is of."""
    return kind.__module__.partition(".")[0]


def _may_hold(value: Any) -> bool:
    """Whether a value is an object with attributes worth a look: no module, class, function or
    network.
    """
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, type | ModuleType)
        and not callable(value)
    )
