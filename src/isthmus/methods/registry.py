"""Methods as rows of strings: nothing is imported until one is asked for."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from typing import Any, NamedTuple

from isthmus.types import BadValue, UnknownName


class Row(NamedTuple):
    factory: str  # "module:Class"
    access: str
    learners: str
    citation: str


_HERE = "isthmus.methods.single_domain:"
METHODS: dict[str, Row] = {
    "source_only": Row(_HERE + "SourceOnly", "none", "PPO", "the floor: direct transfer"),
    "target_only": Row(_HERE + "TargetOnly", "online", "PPO", "the ceiling: RL on target"),
    "domain_randomization": Row(_HERE + "DomainRandomization", "none", "PPO", "Peng et al. 2018, arXiv 1710.06537"),
    "fine_tuning": Row(_HERE + "FineTuning", "online", "PPO", "source, then target"),
    "few_shot_ppo": Row(
        _HERE + "FewShotPPO", "few_shot, online", "PPO", "randomization, then K PPO updates; a control for ES-sim2real"
    ),
}


def find(name: str) -> type:
    """A method's class. Raises UnknownName with the nearest names."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    module, _, attribute = METHODS[name].factory.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, settings: dict[str, Any] | None = None) -> Any:
    """A method with settings changed, `{"learner.learning_rate": 1e-3, "updates": "5"}`.

    Raises UnknownName or BadValue, in one line.
    """
    method = find(name)()
    known = settings_of(method)
    for key, value in (settings or {}).items():
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known)
        method = _change(method, key.split("."), _convert(value, known[key], key))
    return method


def settings_of(method: Any, prefix: str = "") -> dict[str, Any]:
    """All settings of a method, dotted, with their values."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if dataclasses.is_dataclass(value):
            out |= settings_of(value, f"{prefix}{field.name}.")
        else:
            out[prefix + field.name] = value
    return out


def _change(thing: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _change(getattr(thing, path[0]), path[1:], value)
    return dataclasses.replace(thing, **{path[0]: value})


def _convert(value: Any, like: Any, name: str) -> Any:
    """A value from the command line (text) or Python, of the kind of `like`."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that it documents
            raise BadValue(f"{name}={value!r}: needs a value like {like!r}") from None
    if isinstance(like, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        good = all(isinstance(v, int) and v > 0 for v in value)
    elif isinstance(like, bool):
        good = isinstance(value, bool)
    elif isinstance(like, int):
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if good else value
    if not good:
        raise BadValue(f"{name}={value!r}: needs a value like {like!r}")
    return value
