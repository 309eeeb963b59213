"""What a foreign environment is held to: Gymnasium's contract.

Results of every reset and step are checked; what is wrong is one line that names the fix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np

from isthmus.types import BadValue, describe_error

Info = Mapping[str, Any]
T = TypeVar("T")

SUCCESS_KEYS = ("success", "is_success")


class ForeignStep(NamedTuple):
    """What a step gave, as the contract says it."""

    observation: np.ndarray  # [O], of real numbers
    reward: float
    terminated: bool
    truncated: bool
    info: Info


def call_environment(task: str, name: str, call: Callable[[], T]) -> T:
    """Return what an environment's `reset` or `step` gives.

    Raises BadValue, with the cause, where it raises.
    """
    try:
        return call()
    except Exception as error:
        raise BadValue(f"{task}: {name} failed: {describe_error(error)}") from error


# Results of a reset and a step


def check_reset(task: str, result: object, shape: tuple[int, ...]) -> tuple[np.ndarray, Info]:
    """Return a reset's observation (O,) and info. Raises BadValue where it is no such pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise BadValue(f"{task}: reset must return (observation, info), not {_describe(result)}")
    observation, info = result
    observation = _check_observation(f"{task}: reset", observation, shape)
    if not np.isfinite(observation).all():
        raise BadValue(f"{task}: reset returned an observation with NaN or infinity in it")
    _check_info(f"{task}: reset", info)
    return observation, info


def check_step(task: str, result: object, shape: tuple[int, ...]) -> ForeignStep:
    """Return a step's five values. Raises BadValue where one of them breaks the contract.

    An observation that is not finite is a simulation that blew up, which ends its episode; a reward
    that is not finite beside a finite observation is a fault in the reward.
    """
    if not isinstance(result, tuple) or len(result) != 5:
        raise BadValue(
            f"{task}: step must return (observation, reward, terminated, truncated, info), not "
            f"{_describe(result)}"
        )
    observation, reward, terminated, truncated, info = result
    observation = _check_observation(f"{task}: step", observation, shape)
    reward = _check_reward(task, reward)
    if not math.isfinite(reward) and np.isfinite(observation).all():
        raise BadValue(
            f"{task}: the reward is {reward}, beside a finite observation; a reward must be a "
            "finite number"
        )
    terminated = _check_flag(task, "terminated", terminated)
    truncated = _check_flag(task, "truncated", truncated)
    _check_info(f"{task}: step", info)
    return ForeignStep(observation, reward, terminated, truncated, info)


def read_success(task: str, info: Info) -> bool:
    """Return whether an info says that the task is achieved.

    That is `success` or `is_success`, one bool or number; NaN and None say no. Raises BadValue
    where it is anything else.
    """
    return any(_is_success(task, key, info.get(key)) for key in SUCCESS_KEYS)


def _is_success(task: str, key: str, value: object) -> bool:
    if value is None:
        return False
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise BadValue(f"{task}: info[{key!r}] must be one bool or number, not {_describe(value)}")
    number = float(array.reshape(()))
    return not math.isnan(number) and number > 0


def _check_observation(where: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal lengths
        raise BadValue(
            f"{where} returned an observation that is no array: {_describe(value)}"
        ) from None
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise BadValue(
            f"{where} returned an observation of {_describe(array)}; observation_space says shape "
            f"{shape}, of floats"
        )
    return array


def _check_reward(task: str, value: object) -> float:
    if type(value) is float:
        return value
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiub":
        raise BadValue(
            f"{task}: the reward must be one number, such as float(reward), not {_describe(value)}"
        )
    return float(array)


def _check_flag(task: str, name: str, value: object) -> bool:
    if type(value) is bool:
        return value
    array = np.asarray(value)
    if array.shape != () or array.dtype != np.bool_:
        raise BadValue(
            f"{task}: {name} must be a bool, such as bool({name}), not {_describe(value)}"
        )
    return bool(array)


def _check_info(where: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise BadValue(f"{where} must return an info that is a dict, not {_describe(value)}")


def _describe(value: object) -> str:
    """Name a value's kind in a few words."""
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = " ".join(repr(value).split())
    return f"{text:.40} ({type(value).__name__})"


# What an environment declares


def layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Yield an environment's wrappers, the outermost first, and itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def declared_limit(env: gymnasium.Env) -> int | None:
    """Return the fewest steps after which a wrapper, the environment or its spec ends an episode.

    None where none of them says.
    """
    holders = [(env.spec, "max_episode_steps")]
    holders += [(layer, "_max_episode_steps") for layer in layers(env)]
    counts = []
    for holder, name in holders:
        limit = getattr(holder, name, None)
        if isinstance(limit, int | np.integer) and limit > 0:
            counts.append(int(limit))
    return min(counts, default=None)
