"""Tables of what can be named, open to other packages: tasks, engines, effects, learners, methods.

An installed package adds to a table by an entry point of the group `isthmus.KIND`, such as
`isthmus.methods`, whose value is a module that registers what it defines when it is imported:

    [project.entry-points."isthmus.methods"]
    my_method = "my_package.my_method"

Such a module is imported when a name is asked for that the table lacks, or when all are listed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from isthmus.types import BadValue, UnknownName, describe_error

Entry = TypeVar("Entry")

_loaded_groups: set[str] = set()


class Registry(Mapping[str, Entry]):
    """A table of entries by name, and of those that installed packages add to it.

    `kind` is what an error calls an entry ("method"); `group` is its entry points', "methods".
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, Entry] | None = None):
        self.kind = kind
        self.group = group
        self._entries: dict[str, Entry] = dict(entries or {})
        self._built_in = frozenset(self._entries)

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry; one of the same name is replaced, a built-in one is not.

        Raises BadValue for the name of a built-in entry.
        """
        if name in self._built_in:
            raise BadValue(f"the {self.kind} {name} is a built-in one: register another name")
        self._entries[name] = entry

    def find(self, name: str) -> Entry:
        """Return the entry of that name. Raises UnknownName with the nearest names."""
        if name not in self._entries:
            load_entry_points(self.group)
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries)
        return self._entries[name]

    def is_built_in(self, name: str) -> bool:
        """Return whether an entry came with the package."""
        return name in self._built_in

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        load_entry_points(self.group)
        return iter(self._entries)

    def __len__(self) -> int:
        load_entry_points(self.group)
        return len(self._entries)


def load_entry_points(group: str) -> None:
    """Import, once, what installed packages add to a table; warn of one that cannot be imported."""
    if group in _loaded_groups:
        return
    _loaded_groups.add(group)
    for point in entry_points(group=f"isthmus.{group}"):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            warnings.warn(
                f"the entry point {point.name} = {point.value} of isthmus.{group} cannot be "
                f"imported: {describe_error(error)}",
                stacklevel=2,
            )


def import_entry(entry: str | Entry) -> Entry:
    """Return an entry; one that is written "module:name" is imported by now."""
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)
