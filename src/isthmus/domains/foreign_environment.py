"""Somebody else's environment: how it is made, and what it says of itself."""

from __future__ import annotations

import importlib
import math
import sys
import traceback
import weakref
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box, Dict, Space, Tuple

from isthmus.domains.foreign_contract import declared_limit
from isthmus.domains.simulated_time import find_clocks, is_simulation, measure_clocks
from isthmus.types import BadValue, IsthmusError, Spaces, UnknownName, describe_error

_spare: dict[str, gymnasium.Env] = {}
"""By task, the environment that was asked for its facts: it becomes the first world's."""

_first_made: dict[str, weakref.ref[gymnasium.Env]] = {}
"""The same, bare, also when a world has it."""


class EnvironmentFacts(NamedTuple):
    """What an environment says of itself, before anything moves.

    `timed`: it holds simulated time. `simulated`: it is known to be a simulation, and may be moved
    for a measurement. `declared` is what it says of a step's length, which may be another wrapper's
    or the pictures'.
    """

    spaces: Spaces
    time_limit: int | None
    timed: bool
    simulated: bool
    declared: dict[str, float]


def check_imported(task: str) -> None:
    """Raise BadValue where making an environment would import a module that nobody imported."""
    module, _, name = task.partition(":")
    code = name.rpartition(":")[0] if module == "gym" else module
    if code and not _find_module(code):
        raise BadValue(
            f"{task} would import {code}; to allow that, import it yourself or name it with "
            "--import"
        )


def _find_module(name: str) -> ModuleType | None:
    """Return a module that is imported: under its name, or as a file named with --import."""
    if sys.modules.get(name) is not None:
        return sys.modules[name]
    for key, module in list(sys.modules.items()):  # another thread may import meanwhile
        if key.startswith("isthmus_import_") and Path(module.__file__ or "").stem == name:
            return module
    return None


def make_environment(task: str) -> gymnasium.Env:
    """Build one environment. Raises UnknownName or BadValue, in one line."""
    module, _, name = task.partition(":")
    try:
        if module == "gym":
            env: Any = gymnasium.make(name, disable_env_checker=True)
        else:
            env = _find_function(module, name)()
    except IsthmusError:
        raise
    except ModuleNotFoundError as error:
        raise BadValue(f"{task} could not be made: {error}; name its file with --import") from error
    except Exception as error:
        raise BadValue(
            f"{task} could not be made: {describe_error(error)}{_describe_known_fault(error)}"
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise BadValue(f"{task} returns a {type(env).__name__}; it must return one gymnasium.Env")
    return env


def _find_function(module: str, name: str) -> Any:
    """Return what a module holds under a dotted name. Raises UnknownName."""
    found: Any = _find_module(module) or importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [attribute for attribute in dir(found) if attribute[0] != "_"]
            raise UnknownName(f"function of {module}", name, public)
        found = getattr(found, part)
    return found


def _describe_known_fault(error: BaseException) -> str:
    """Return what is known of an error of somebody else's library, to be added to its line."""
    if not isinstance(error, AssertionError) or int(mujoco.__version__.partition(".")[0]) < 4:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    if not any("gymnasium_robotics" in Path(frame.filename).parts for frame in frames):
        return ""
    return (
        "; gymnasium_robotics up to 1.4.2 does not work with MuJoCo 4 here: there an enum compares "
        "unequal to the number in the model (enum == number, which it asks by `in`); it needs a "
        "newer version, or one that is mended"
    )


@lru_cache(maxsize=64)
def read_facts(task: str) -> EnvironmentFacts:
    """Make an environment and return what it says of itself; it is kept for the first world.

    Raises UnknownName, or BadValue where its spaces cannot be used.
    """
    env = make_environment(task)
    observations = _check_box(task, "observations", env.observation_space)
    actions = _check_box(task, "actions", env.action_space)
    low, high = np.asarray(actions.low, np.float32), np.asarray(actions.high, np.float32)
    if not np.isfinite([low, high]).all():
        raise BadValue(f"{task} has unbounded actions; give them bounds by a wrapper")
    _spare[task], _first_made[task] = env, weakref.ref(env.unwrapped)
    return EnvironmentFacts(
        spaces=Spaces(observations.shape[0], low, high),
        time_limit=declared_limit(env),
        timed=bool(find_clocks(env)),
        simulated=is_simulation(env),
        declared=_read_declared(env),
    )


def _check_box(task: str, name: str, space: Space) -> Box:
    """Return a space of floats along one axis. Raises BadValue for any other."""
    if isinstance(space, Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        return space
    advice = ""
    if isinstance(space, Dict | Tuple) and name == "observations":
        advice = "; gymnasium.wrappers.FlattenObservation makes one, in a module:function of yours"
    raise BadValue(
        f"{task} has {name} {space}: only a Box of floats with one axis can be used here{advice}"
    )


def _read_declared(env: gymnasium.Env) -> dict[str, float]:
    """Return what an environment declares of its pace, by name."""
    pace = {"dt": getattr(env.unwrapped, "dt", None), "render_fps": env.metadata.get("render_fps")}
    declared = {}
    for name, value in pace.items():
        if isinstance(value, float | int | np.number) and 0 < float(value) < math.inf:
            declared[name] = float(value)
    return declared


def take_spare(task: str) -> gymnasium.Env | None:
    """Return the environment that was asked for its facts, once; None where a world has it."""
    return _spare.pop(task, None)  # at once: another thread may ask for it


@lru_cache(maxsize=64)
def rehearse_step(task: str) -> float | str:
    """Rehearse an instance that no world gets.

    Return the simulated seconds of a step, or why they cannot be told. Raises BadValue where the
    contract is broken.
    """
    env = make_environment(task)
    first = _first_made.get(task)
    if first is not None and first() is env.unwrapped:
        return (
            "returns the same environment again, and a world's own is not moved to measure a step"
        )
    try:
        seconds = measure_clocks(task, env)
    finally:
        env.close()
    if seconds is None:
        return "has a simulated time that does not move by one and the same amount each step"
    return seconds
