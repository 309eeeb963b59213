"""What a foreign environment is held to: Gymnasium's contract, and the seconds that its steps last.

Results of every reset and step are checked; what is wrong is one line that names the fix. An environment that holds
simulated time is also rehearsed: reset and stepped before anything is trained, while its time is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np

from isthmus.types import BadValue, describe_error

REHEARSAL_STEPS = 3
DIGITS = 12  # of a measured second: MuJoCo adds its timesteps up, and their sum is off by an ulp or two

MAX_DEPTH, MAX_OBJECTS = 5, 2000  # how far the search for simulated time goes
DATA_PATHS = ("data", "sim.data", "physics.data", "_env.physics.data", "env.physics.data")
"""Where environments hand out what holds their time, by properties or slots that a search would not see."""

SUCCESS_KEYS = ("success", "is_success")

Clock = Callable[[], float]


class Step(NamedTuple):
    """What a step gave, as the contract says it."""

    observation: np.ndarray  # [O], of real numbers
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


# Results of a reset and a step


def check_reset(task: str, result: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Return a reset's observation (O,) and info. Raises BadValue where it is no such pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise BadValue(f"{task}: reset must return (observation, info), not {_describe(result)}")
    observation, info = result
    observation = _check_observation(f"{task}: reset", observation, shape)
    if not np.isfinite(observation).all():
        raise BadValue(f"{task}: reset returned an observation with NaN or infinity in it")
    _check_info(f"{task}: reset", info)
    return observation, info


def check_step(task: str, result: Any, shape: tuple[int, ...]) -> Step:
    """Return a step's five values. Raises BadValue where one of them breaks the contract.

    An observation that is not finite is a simulation that blew up, which ends its episode; a reward that is not finite
    beside a finite observation is a fault in the reward.
    """
    if not isinstance(result, tuple) or len(result) != 5:
        raise BadValue(
            f"{task}: step must return (observation, reward, terminated, truncated, info), not {_describe(result)}"
        )
    observation, reward, terminated, truncated, info = result
    observation = _check_observation(f"{task}: step", observation, shape)
    reward = _check_reward(task, reward)
    if not math.isfinite(reward) and np.isfinite(observation).all():
        raise BadValue(f"{task}: the reward is {reward}, beside a finite observation; a reward must be a finite number")
    terminated = _check_flag(task, "terminated", terminated)
    truncated = _check_flag(task, "truncated", truncated)
    _check_info(f"{task}: step", info)
    return Step(observation, reward, terminated, truncated, info)


def read_success(task: str, info: Mapping[str, Any]) -> bool:
    """Return whether an info says that the task is achieved: `success` or `is_success`, one bool or number.

    NaN and None say no. Raises BadValue where it is anything else.
    """
    return any(_is_success(task, key, info[key]) for key in SUCCESS_KEYS if key in info)


def _is_success(task: str, key: str, value: Any) -> bool:
    if value is None:
        return False
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise BadValue(f"{task}: info[{key!r}] must be one bool or number, not {_describe(value)}")
    number = float(array.reshape(()))
    return not math.isnan(number) and number > 0


def _check_observation(where: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal lengths
        raise BadValue(f"{where} returned an observation that is no array: {_describe(value)}") from None
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise BadValue(
            f"{where} returned an observation of {_describe(array)}; observation_space says shape {shape}, of floats"
        )
    return array


def _check_reward(task: str, value: Any) -> float:
    if type(value) is float:
        return value
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "fiub":
        raise BadValue(f"{task}: the reward must be one number, such as float(reward), not {_describe(value)}")
    return float(array)


def _check_flag(task: str, name: str, value: Any) -> bool:
    if type(value) is bool:
        return value
    array = np.asarray(value)
    if array.shape != () or array.dtype != np.bool_:
        raise BadValue(f"{task}: {name} must be a bool, such as bool({name}), not {_describe(value)}")
    return bool(array)


def _check_info(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise BadValue(f"{where} must return an info that is a dict, not {_describe(value)}")


def _describe(value: Any) -> str:
    """Name a value's kind in a few words."""
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = " ".join(repr(value).split())
    return f"{text:.40} ({type(value).__name__})"


# Simulated time


def find_clocks(env: gymnasium.Env) -> list[Clock]:
    """Return what tells the simulated time of an environment, in seconds: none where it holds no such time.

    That is an attribute `simulated_time` of the environment or a wrapper, or MuJoCo's data (or whatever else is named
    so and has a `time`), wherever the environment keeps it.
    """
    layers = list(_layers(env))
    telling = [layer for layer in layers if isinstance(getattr(layer, "simulated_time", None), float | int)]
    if telling:
        return [lambda: float(getattr(telling[0], "simulated_time"))]  # noqa: B009
    holders = {id(data): data for data in [*_named_data(layers[-1]), *_held_data(layers)]}
    return [lambda data=data: float(data.time) for data in holders.values()]


def measure_gain(before: list[float], after: list[float]) -> float | None:
    """Return by how much time moved, in seconds; None where it stood still, or clocks that moved disagree."""
    gains = [end - begin for begin, end in zip(before, after, strict=True) if end > begin]
    if not gains or not math.isclose(min(gains), max(gains), rel_tol=1e-6):
        return None
    return gains[0]


def rehearse(task: str, env: gymnasium.Env) -> float | None:
    """Reset and step an environment, hold it to its contract, and return the simulated seconds of a step.

    None where they cannot be told, since they differ from step to step. Raises BadValue, in one line, where the
    contract is broken or the environment raises.
    """
    shape = env.observation_space.shape
    assert shape is not None
    check_reset(task, _guard(task, "reset", lambda: env.reset(seed=0)), shape)
    action = neutral_action(env)
    gains: list[float | None] = []
    for _ in range(REHEARSAL_STEPS):
        clocks = find_clocks(env)  # anew: a reset may have put other data in their place
        before = [clock() for clock in clocks]
        step = check_step(task, _guard(task, "step", lambda: env.step(action)), shape)
        if not np.isfinite(step.observation).all():
            raise BadValue(f"{task}: the first steps returned an observation with NaN or infinity in it")
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


def _guard(task: str, name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        raise BadValue(f"{task}: {name} failed: {describe_error(error)}") from error


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Yield an environment's wrappers, the outermost first, and itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def declared_limit(env: gymnasium.Env) -> int | None:
    """Return the fewest steps after which a wrapper, the environment or its spec ends an episode; None: none says."""
    limits = [env.spec.max_episode_steps] if env.spec else []
    limits += [getattr(layer, "_max_episode_steps", None) for layer in _layers(env)]
    counts = [limit for limit in limits if isinstance(limit, int | np.integer) and limit > 0]
    return int(min(counts)) if counts else None


def _named_data(env: gymnasium.Env) -> Iterator[Any]:
    for path in DATA_PATHS:
        data: Any = env
        with suppress(Exception):  # a property may raise anything
            for name in path.split("."):
                data = getattr(data, name)
            if _tells_time(data):
                yield data


def _held_data(layers: list[gymnasium.Env]) -> Iterator[Any]:
    """Yield the data that environments hold in attributes, or in attributes of those, breadth first."""
    seen = {id(layer) for layer in layers}
    level: list[Any] = list(layers)
    for _ in range(MAX_DEPTH):
        items = [item for holder in level for item in _unseen_attributes(holder, seen)]
        yield from [value for name, value in items if _is_data(name, value)]
        level = [value for name, value in items if not _is_data(name, value) and _may_hold(value)]


def _unseen_attributes(holder: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield an object's attributes, each value once, while not too many have been seen."""
    for name, value in list(vars(holder).items()):
        if id(value) not in seen and len(seen) < MAX_OBJECTS:
            seen.add(id(value))
            yield name, value


def _is_data(name: str, value: Any) -> bool:
    return isinstance(value, mujoco.MjData) or (name in ("data", "_data") and _tells_time(value))


def _may_hold(value: Any) -> bool:
    """Whether a value is an object with attributes worth a look: no module, class, function or network."""
    return hasattr(value, "__dict__") and not isinstance(value, type | ModuleType) and not callable(value)


def _tells_time(data: Any) -> bool:
    time = getattr(data, "time", None)
    return isinstance(time, float | np.floating)
