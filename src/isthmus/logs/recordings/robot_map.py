"""The map: which recorded numbers are which of a task's observations and actions. A TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from isthmus.logs.recordings.recording import TableColumns
from isthmus.types import BadValue, UnknownName

UNITS = {
    "rad": 1.0,
    "deg": math.pi / 180,
    "rev": 2 * math.pi,
    "m": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "rad/s": 1.0,
    "deg/s": math.pi / 180,
    "rpm": 2 * math.pi / 60,
    "m/s": 1.0,
    "mm/s": 0.001,
    "N": 1.0,
    "Nm": 1.0,
    "1": 1.0,
}
"""Units of recorded numbers, and what takes each to the task's: rad, m, s, N."""

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
FUNCTIONS = ("", "cos", "sin")
STAMPS = ("header", "received")
BACKWARD_RULES = ("sort", "refuse")

NUMBER = (int, float)
MAP_KEYS: dict[str, Any] = {
    "task": str,
    "rate": NUMBER,
    "gap": NUMBER,
    "backward": str,
    "decisions": str,
    "time": str,
    "time_unit": str,
    "episode": str,
    "topics": dict,
    "observations": dict,
    "actions": dict,
}
TOPIC_KEYS: dict[str, Any] = {"clock": NUMBER, "stamp": str, "gap": NUMBER, "rate": NUMBER}
SIGNAL_KEYS: dict[str, Any] = {
    "from": str,
    "value": NUMBER,
    "unit": str,
    "sign": NUMBER,
    "scale": NUMBER,
    "offset": NUMBER,
    "derivative": bool,
    "function": str,
    "clip": bool,
}
KIND_NAMES = {str: "a text", NUMBER: "a number", dict: "a table", bool: "true or false"}


@dataclass(frozen=True)
class Signal:
    """One number of the task: function(scale * recorded + offset), or a constant."""

    name: str
    source: str = ""  # empty: the constant `offset`
    scale: float = 1.0  # unit and sign included
    offset: float = 0.0
    derivative: bool = False  # of what is recorded, backward in time
    function: str = ""
    clip: bool = False  # an action beyond its bounds is the bound


@dataclass(frozen=True)
class TopicOptions:
    """What is known of a topic's clock."""

    clock: float = 0.0  # seconds added to its stamps
    stamp: str = "header"
    gap: float | None = None  # seconds
    rate: float | None = None  # Hz, as claimed


@dataclass(frozen=True)
class RobotMap:
    """A map that was read and checked, its signals in the task's order."""

    path: Path
    task: str
    rate: float  # Hz of decisions
    observations: tuple[Signal, ...]
    actions: tuple[Signal, ...]
    topics: Mapping[str, TopicOptions] = field(default_factory=dict)
    gap: float | None = None  # seconds
    backward: str = "sort"
    decisions: str = ""  # the topic whose messages are the decisions
    time: str | None = None  # a table's column
    time_unit: str = "s"
    episode: str | None = None

    @property
    def sources(self) -> list[str]:
        """Return what is read, each once."""
        named = map(attrgetter("source"), (*self.observations, *self.actions))
        return list(dict.fromkeys(filter(None, named)))

    @property
    def columns(self) -> TableColumns:
        """Return which columns of a table are time and episode."""
        return TableColumns(self.time, self.time_unit, self.episode)


def read_task_name(path: Path) -> str:
    """Return the task that a map names. Raises BadValue in one line."""
    task = _load(path).get("task")
    if not isinstance(task, str):
        raise BadValue(f'{path} names no task: write task = "hopper", or another of isthmus tasks')
    return task


def read_map(path: Path, observed: Sequence[str], motors: Sequence[str]) -> RobotMap:
    """Read a map of the task whose observations and motors have these names.

    Raises BadValue or UnknownName, in one line that names the fix.
    """
    table = _load(path)
    _check_keys(table, MAP_KEYS, f"{path}")
    for key in ("rate", "observations", "actions"):
        if key not in table:
            raise BadValue(f"{path} has no {key}; a map needs task, rate, observations, actions")
    _check_choice(table, "backward", BACKWARD_RULES, f"{path}")
    _check_choice(table, "time_unit", tuple(TIME_UNITS), f"{path}")
    _check_positive(table, ("rate", "gap"), f"{path}")
    plain = dict(table)
    for key in ("topics", "observations", "actions"):
        plain.pop(key, None)
    return RobotMap(
        path,
        observations=_read_signals(path, table, "observations", observed),
        actions=_read_signals(path, table, "actions", motors),
        topics=_read_topics(path, table.get("topics", {})),
        **plain,
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadValue(f"{path} is no TOML: {error}") from None
    except OSError as error:
        raise BadValue(f"the map {path} cannot be read: {error.strerror or error}") from None


def _check_keys(table: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    """Raise UnknownName for another key, BadValue for a value of another kind."""
    for key, value in table.items():
        if key not in kinds:
            raise UnknownName(f"key of {where}:", key, kinds)
        kind = kinds[key]
        if not _is_of(kind, value):
            raise BadValue(f"{where}: {key} = {value!r} needs {KIND_NAMES[kind]}")
        if kind is NUMBER:
            _check_is_number(value, f"{where}: {key}")


def _is_of(kind: Any, value: Any) -> bool:
    """Return whether a value is of a kind; true and false are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind)


def _check_is_number(value: float, where: str) -> None:
    if math.isnan(value):
        raise BadValue(f"{where} is nan; write a number")


def _check_choice(table: Mapping[str, Any], key: str, choices: Sequence[str], where: str) -> None:
    value = table.get(key, choices[0])
    if value not in choices:
        raise UnknownName(f"{key} in {where}:", value, filter(None, choices))


def _check_positive(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if not table.get(key, 1) > 0:
            raise BadValue(f"{where}: {key} = {table[key]} needs a number above 0")


def _read_topics(path: Path, table: Mapping[str, Any]) -> dict[str, TopicOptions]:
    topics = {}
    for topic, options in table.items():
        where = f"{path} [topics.{topic!r}]"
        if not isinstance(options, dict):
            raise BadValue(f"{where} needs a table of {', '.join(TOPIC_KEYS)}")
        _check_keys(options, TOPIC_KEYS, where)
        _check_choice(options, "stamp", STAMPS, where)
        _check_positive(options, ("gap", "rate"), where)
        topics[topic] = TopicOptions(**options)
    return topics


def _read_signals(
    path: Path, table: Mapping[str, Any], section: str, names: Sequence[str]
) -> tuple[Signal, ...]:
    """Return the signals of a section in the order of the task's `names`."""
    entries = table[section]
    noun = {"observations": "observation", "actions": "motor"}[section]
    for name in entries:
        if name not in names:
            raise UnknownName(f"{noun} of {table['task']} in {path} [{section}]", name, names)
    signals = []
    for name in names:
        if name not in entries:
            raise BadValue(
                f"{path} [{section}] lacks {name!r}; name what records it, or a constant: "
                f"{table['task']} has {', '.join(map(repr, names))}"
            )
        signals.append(_read_signal(f"{path} [{section}] {name!r}", name, entries[name]))
    return tuple(signals)


def _read_signal(where: str, name: str, entry: Any) -> Signal:
    """Return one signal: a source's text, a constant, or a table of both and more."""
    if isinstance(entry, str):
        entry = {"from": entry}
    elif _is_of(NUMBER, entry):
        entry = {"value": entry}
    if not isinstance(entry, dict):
        raise BadValue(f"{where} is {entry!r}: write a source's text, a number, or a table")
    _check_keys(entry, SIGNAL_KEYS, where)
    _check_choice(entry, "unit", tuple(UNITS), where)
    _check_choice(entry, "function", FUNCTIONS, where)
    if ("from" in entry) == ("value" in entry):
        raise BadValue(f'{where} needs one of from = "..." and value = NUMBER')
    if entry.get("sign", 1) not in (1, -1):
        raise BadValue(f"{where}: sign = {entry['sign']} needs 1 or -1")
    if "value" in entry:
        return _read_constant(where, name, entry)
    scale = UNITS[entry.get("unit", "1")] * entry.get("sign", 1) * entry.get("scale", 1.0)
    if not 0 < abs(scale) < math.inf:
        raise BadValue(f"{where}: scale = {entry['scale']} needs a finite number other than 0")
    return Signal(
        name,
        entry["from"],
        scale,
        entry.get("offset", 0.0),
        entry.get("derivative", False),
        entry.get("function", ""),
        entry.get("clip", False),
    )


def _read_constant(where: str, name: str, entry: Mapping[str, Any]) -> Signal:
    others = sorted(entry.keys() - {"value"})
    if others:
        raise BadValue(f"{where}: a constant value takes no {', '.join(others)}")
    return Signal(name, offset=float(entry["value"]))
