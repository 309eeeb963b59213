"""What is checked in a log before anything learns from it. A message follows the file's name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.robots import find_robot
from isthmus.logs.log import UNKNOWN_REWARDS, Log, find_origin
from isthmus.types import BadValue, Spaces

# Of the actions' range: so far beyond a bound an action is that bound, in other precision.
ROUNDING_SHARE = 1e-5
MAX_NUMBER = 1e6  # of a number in a log
MIN_TRANSITIONS = 1000  # from which much can be learned


def parse_json(text: str | bytes, name: str) -> dict[str, Any]:
    """Return a JSON object; {} where the text holds another kind. Raises BadValue for no JSON."""
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise BadValue(f"has {name} that is no JSON: {error}") from None
    return parsed if isinstance(parsed, dict) else {}


def check_numbers(array: Any, name: str) -> np.ndarray:
    """Return numbers with one row a transition, [B, ...]. Raises BadValue for anything else."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise BadValue(f"has no numbers in {name}, but {array.dtype}")
    if not array.ndim:
        raise BadValue(f"has a single number in {name}, not one a transition")
    return array


def check_column(array: np.ndarray, name: str) -> np.ndarray:
    """Return one number a transition, [B], of [B] or [B, 1]. Raises BadValue for other shapes."""
    if array.shape not in ((len(array),), (len(array), 1)):
        raise BadValue(
            f"has {name} of shape {array.shape}: needs one number a transition, (n,) or (n, 1); of "
            "N worlds in turn, reshape each array from [T, N, ...] to [T * N, ...]: "
            "array.reshape(-1, *array.shape[2:])"
        )
    return array.reshape(len(array))


def check_flag(array: np.ndarray, name: str) -> np.ndarray:
    """Return the flag of an end, bool [B]. Raises BadValue for another shape or NaN."""
    return check_finite_rows(check_column(array, name), name) != 0


def check_finite_rows(array: np.ndarray, name: str) -> np.ndarray:
    """Return the array [B, ...]. Raises BadValue that counts the rows with NaN or infinity."""
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise BadValue(
            f"has {bad.sum()} {name} that are NaN or infinite, the first at transition "
            f"{bad.argmax()}"
        )
    return array


def check_size_of_numbers(array: np.ndarray, name: str) -> None:
    """Raise BadValue where numbers [B, ...] are beyond MAX_NUMBER in size."""
    sizes = np.abs(array.astype(np.float64))
    bad = (sizes > MAX_NUMBER).any(axis=tuple(range(1, array.ndim)))
    if bad.any():
        raise BadValue(
            f"has {bad.sum()} {name} beyond {MAX_NUMBER:g} in size, the first at transition "
            f"{bad.argmax()}, which no network learns from; check their units"
        )


def check_log(log: Log, metadata: dict[str, Any], domain: Domain) -> Log:
    """Return the log in our types, its actions within bounds.

    Raises BadValue where it cannot be a log of the domain: other sizes or another robot, numbers
    that are not finite or too large, actions outside the bounds.
    """
    if not log.size:
        raise BadValue("holds no transition")
    _check_robot(log, metadata, domain)
    names = ("observations", "actions", "rewards", "next observations")
    without_rewards = metadata.get("rewards") == UNKNOWN_REWARDS and not log.has_rewards
    for name, column in zip(names, log[:4], strict=True):
        if name == "rewards" and without_rewards:
            continue
        check_size_of_numbers(check_finite_rows(column, name), name)
    log = Log(
        *(np.asarray(column, np.float32) for column in log[:4]),
        terminated=log.terminated,
        truncated=log.truncated,
        episode=log.episode.astype(np.int64),
    )
    spaces = domain.spaces
    _check_bounds(log.action, spaces, domain)
    return log._replace(action=np.clip(log.action, spaces.low, spaces.high))


def _check_robot(log: Log, metadata: dict[str, Any], domain: Domain) -> None:
    """Raise BadValue where the sizes or the robot are not those of the domain."""
    if log.obs.ndim != 2 or log.action.ndim != 2:
        raise BadValue(
            f"has observations {log.obs.shape} and actions {log.action.shape}; each needs rows and "
            "columns"
        )
    sizes, expected = (log.obs.shape[1], log.action.shape[1]), domain.spaces
    names = {find_robot(find_origin(metadata)), find_robot(str(domain))}
    known = "" not in names
    if sizes == (expected.observation, expected.action) and not (known and len(names) == 2):
        return
    problem = "is another robot's log"
    if known and len(names) == 1:
        problem = "was sensed or moved otherwise"
    raise BadValue(
        f"{problem}: {find_robot(find_origin(metadata)) or 'one'} of {sizes[0]} observations and "
        f"{sizes[1]} actions; {domain} has {expected.observation} and {expected.action}"
    )


def _check_bounds(action: np.ndarray, spaces: Spaces, domain: Domain) -> None:
    """Raise BadValue where actions [B, A] are outside the bounds by more than rounding."""
    slack = ROUNDING_SHARE * (spaces.high - spaces.low)
    beyond = ((action < spaces.low - slack) | (action > spaces.high + slack)).any(1)
    if beyond.any():
        raise BadValue(
            f"has {beyond.sum()} of {len(action)} actions outside the bounds "
            f"{spaces.low.min():g}..{spaces.high.max():g} of {domain}, the first at transition "
            f"{beyond.argmax()}; write what the motors were given"
        )


def warn_if_small(log: Log) -> list[str]:
    """Return warnings of what a log has too little of to learn from."""
    warnings = []
    if log.episodes == 1:
        warnings.append("only one episode: one start and one way through the target were seen")
    if log.size < MIN_TRANSITIONS:
        warnings.append(
            f"only {log.size:,} transition{'s' * (log.size != 1)}: what is learned from so few "
            "says little"
        )
    for name, column in (("observed numbers", log.obs), ("actions", log.action)):
        constant = int((column == column[0]).all(0).sum())
        if constant:
            warnings.append(
                f"{constant} {name} never change: nothing of their effect can be learned"
            )
    return warnings
