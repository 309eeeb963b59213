"""Paths into messages: `position[hip]`, `twist.linear.x`, `data[0]`, `orientation.pitch`."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

from isthmus.types import BadValue, UnknownName

NAME_FIELDS = ("name", "joint_names", "names")
"""Fields in which a message says whose numbers its arrays hold."""

TOPIC_SOURCE = re.compile(r"(/[^.\[\]]+)\.(.+)")
PATH_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]|\[([^\]]+)\]")


class NamedEntry(NamedTuple):
    """An entry of an array by the name that each message gives it."""

    name: str


PathStep = str | int | NamedEntry


class MessagePath(NamedTuple):
    """Where a number lies in the messages of a topic."""

    source: str  # as the map writes it
    topic: str
    steps: tuple[PathStep, ...]

    @property
    def entry(self) -> str:
        """Return the name in brackets; empty where there is none."""
        for step in self.steps:
            if isinstance(step, NamedEntry):
                return step.name
        return ""


def parse_source(source: str) -> MessagePath:
    """Return the parts of `/topic.field[name]`. Raises BadValue for another text."""
    match = TOPIC_SOURCE.fullmatch(source)
    if not match:
        raise BadValue(
            f"the source {source!r} names no topic's field; of a bag write /topic.field or "
            "/topic.field[joint], such as /joint_states.position[hip]"
        )
    steps: list[PathStep] = []
    end = 0
    for found in PATH_STEP.finditer(match[2]):
        if found.start() != end:
            break
        end = found.end()
        steps.append(_parse_step(found))
    if end != len(match[2]):
        raise BadValue(f"the source {source!r}: {match[2][end:]!r} is no .field and no [entry]")
    return MessagePath(source, match[1], tuple(steps))


def _parse_step(found: re.Match[str]) -> PathStep:
    if found[1]:
        return found[1]
    if found[2]:
        return int(found[2])
    return NamedEntry(found[3].strip("'\""))


def list_names(message: Any) -> list[str]:
    """Return whose numbers a message's arrays hold, in its own order."""
    for field in NAME_FIELDS:
        names = getattr(message, field, None)
        if names is not None and not isinstance(names, str):
            return list(names)
    return []


def read_value(message: Any, path: MessagePath) -> float:
    """Return a message's number; NaN where its array is empty or lacks the name.

    Raises UnknownName for a field that is not there, BadValue for what is no number.
    """
    value = message
    for step in path.steps:
        if isinstance(step, str):
            value = _read_field(value, step, path)
            continue
        index = _find_index(message, step)
        if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
            raise BadValue(f"the source {path.source!r}: what [...] stands behind is no array")
        if not 0 <= index < len(value):
            return math.nan
        value = value[index]
    if not isinstance(value, int | float | np.number | np.bool_):
        raise BadValue(f"the source {path.source!r} is no number, but {type(value).__name__}")
    return float(value)


def _find_index(message: Any, step: int | NamedEntry) -> int:
    """Return the index of an entry; -1 where the message does not name it."""
    if isinstance(step, int):
        return step
    names = list_names(message)
    return names.index(step.name) if step.name in names else -1


def _read_field(value: Any, field: str, path: MessagePath) -> Any:
    if hasattr(value, field):
        return getattr(value, field)
    if field in EULER_ANGLES and all(hasattr(value, part) for part in "wxyz"):
        return EULER_ANGLES[field](value)
    known = getattr(type(value), "__dataclass_fields__", {})
    raise UnknownName(f"field of {path.topic} in {path.source!r}", field, set(known))


def _find_roll(q: Any) -> float:
    return math.atan2(2 * (q.w * q.x + q.y * q.z), 1 - 2 * (q.x**2 + q.y**2))


def _find_pitch(q: Any) -> float:
    return math.asin(min(1.0, max(-1.0, 2 * (q.w * q.y - q.z * q.x))))


def _find_yaw(q: Any) -> float:
    return math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2))


EULER_ANGLES = {"roll": _find_roll, "pitch": _find_pitch, "yaw": _find_yaw}
"""Angles in radians of a quaternion, by the fields that stand for them."""
