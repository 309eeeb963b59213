"""What a model's parameters are called: each by a name of its own, that can be written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from isthmus.types import BadValue

OF_WHOLE_ROBOT = ("motor_strength", "joint_range")
"""Names of the whole robot's that a joint of the name `motor` or `joint` would take."""


def make_writable(name: str) -> str:
    """Return a name as `task/name=value,name=value` can write it: `_` for spaces, commas, equals
    signs and slashes.
    """
    return re.sub(r"[\s,=/]+", "_", name)


def name_bodies(names: Iterable[str]) -> dict[str, str]:
    """Return what each body's parameters begin with, by the body's name. Raises BadValue where two
    are one.
    """
    prefixes = {name: make_writable(name) for name in names if name}
    refuse_shared(prefixes, "bodies", "_mass")
    return prefixes


def name_joints(suffixes: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return what each joint's parameters begin with, by the joint's name.

    `suffixes` holds the joints by name, each with what its parameters end with (`strength`). A
    joint's prefix is its name without `_joint`; the whole name where another joint would have the
    same, or where the short name is another joint's whole one; and `motor_joint` for a driven joint
    called `motor`, because `motor_strength` is the whole robot's. Raises BadValue where two are
    still one.
    """
    prefixes = {name: _choose_prefix(name, suffixes[name]) for name in suffixes if name}
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
    return any(f"{prefix}_{suffix}" in OF_WHOLE_ROBOT for suffix in suffixes)


def _find_shared(prefixes: Mapping[str, str]) -> list[str]:
    used = list(prefixes.values())
    return [name for name, prefix in prefixes.items() if used.count(prefix) > 1]


def _find_contested(prefixes: Mapping[str, str]) -> list[str]:
    """Return the names that share a prefix, or of which one has the other's whole name for its
    prefix.
    """
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
