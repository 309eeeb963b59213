"""The names of a model's parameters: unique, and such that the grammar can write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from isthmus.types import BadValue

WHOLE_ROBOT_NAMES = ("motor_strength", "joint_range")
"""Parameters of the whole robot, whose names a joint called `motor` or `joint` would take."""


def make_writable(name: str) -> str:
    """Return a name as `task/name=value,...` can write it, `_` for spaces and , = /."""
    return re.sub(r"[\s,=/]+", "_", name)


def name_bodies(names: Iterable[str]) -> dict[str, str]:
    """Return what each body's parameters begin with, by the body's name.

    Raises BadValue where two would have the same.
    """
    prefixes = {name: make_writable(name) for name in filter(None, names)}
    refuse_shared(prefixes, "bodies", "_mass")
    return prefixes


def name_joints(suffixes: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return what each joint's parameters begin with, by the joint's name.

    `suffixes` holds the joints by name, each with what its parameters end with (`strength`). A
    joint's prefix is its name without `_joint`; the whole name where another joint would have the
    same, or where the short name is another joint's whole one; and `motor_joint` for a driven joint
    called `motor`, because `motor_strength` is the whole robot's. Raises BadValue where two still
    have the same.
    """
    prefixes = {name: _choose_prefix(name, suffixes[name]) for name in filter(None, suffixes)}
    for _ in suffixes:  # a whole name may be another's short one
        for name in _find_contested(prefixes):
            if not _takes_whole_robots(make_writable(name), suffixes[name]):
                prefixes[name] = make_writable(name)
    refuse_shared(prefixes, "joints", "_damping")
    return prefixes


def _choose_prefix(name: str, suffixes: Iterable[str]) -> str:
    whole = make_writable(name)
    for prefix in (whole.removesuffix("_joint"), whole):
        if prefix and not _takes_whole_robots(prefix, suffixes):
            return prefix
    return f"{whole}_joint"


def _takes_whole_robots(prefix: str, suffixes: Iterable[str]) -> bool:
    names = {f"{prefix}_{suffix}" for suffix in suffixes}
    return not names.isdisjoint(WHOLE_ROBOT_NAMES)


def _find_shared(prefixes: Mapping[str, str]) -> list[str]:
    """Return the names whose prefix another name has, too."""
    counts = Counter(prefixes.values())
    return [name for name in prefixes if counts[prefixes[name]] > 1]


def _find_contested(prefixes: Mapping[str, str]) -> list[str]:
    """Return the names that share a prefix, or whose prefix is another's whole name."""
    owners = {make_writable(name): name for name in prefixes}
    contested = _find_shared(prefixes)
    for name, prefix in prefixes.items():
        owner = owners.get(prefix, name)
        if owner != name:
            contested += [name, owner]
    return contested


def refuse_shared(prefixes: Mapping[str, str], kind: str, suffix: str) -> None:
    """Raise BadValue where two names have one prefix."""
    shared = _find_shared(prefixes)
    if not shared:
        return
    prefix = prefixes[shared[0]]
    names = [repr(name) for name in shared if prefixes[name] == prefix]
    raise BadValue(
        f"the model's {kind} {' and '.join(names)} would both have {prefix}{suffix}; rename one of "
        "them"
    )
