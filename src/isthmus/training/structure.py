"""The structure of a tree of arrays as JSON, from which the tree is made again: a checkpoint's
manifest holds it.

A node is one of

    null                                                       None
    "jax", "key", "numpy", "number", "bool", "int", "float"    a leaf, by its kind: `leaves`
    {"tuple": [node, ...]}    {"list": [node, ...]}    {"dict": {key: node, ...}}
    {"class": "module:Name", "fields": {name: node, ...}}      a NamedTuple, or a dataclass that JAX
                                                               knows as a tree

A class is looked up among modules that are imported already, of the packages that the reader names.
Nothing is imported or evaluated because a file names it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from isthmus.training.leaves import LEAF_KINDS, leaf_kind

Node = None | str | dict[str, Any]
MISSING_LEAF = "missing"  # a field that the class has and an older file lacks
IMPORT_PREFIX = "isthmus_import_"  # how `tasks.imports` names the module of a user's file


class StructureError(Exception):
    """A tree that has no description, or a description that makes no tree."""


def describe_tree(tree: Any, stored_name: Callable[[str], str]) -> Node:
    """Return the description of a tree; `stored_name` gives a field's name on disk.

    Raises StructureError where a part of the tree is of a class that cannot be found again, or
    has fields that are none of the tree (static to JAX), which no checkpoint holds.
    """

    def describe(node: Any) -> Node:
        kind = type(node)
        if node is None:
            return None
        if kind in (tuple, list):
            return {kind.__name__: list(map(describe, node))}
        if kind is dict:
            return {"dict": _map_values(describe, node)}
        if jax.tree_util.all_leaves([node]):
            return leaf_kind(node)
        fields = {}
        for name in _field_names(kind):
            fields[stored_name(name)] = describe(getattr(node, name))
        return {"class": _class_name(kind), "fields": fields}

    node = describe(tree)
    if _count_leaves(node) != len(jax.tree_util.tree_leaves(tree)):
        raise StructureError("a class of the tree has static fields")
    return node


def _count_leaves(node: Node) -> int:
    """Return how many leaves a description has."""
    if node is None:
        return 0
    if isinstance(node, str):
        return 1
    children = next(node[key] for key in ("fields", "dict", "tuple", "list") if key in node)
    if isinstance(children, dict):
        children = children.values()
    return sum(map(_count_leaves, children))


def build_tree(node: Node, packages: Collection[str], stored_name: Callable[[str], str]) -> Any:
    """Return the tree that `node` describes, with each leaf's kind, a text, in the leaf's place.

    A field that the class has and `node` lacks is MISSING_LEAF. Raises StructureError where `node`
    is no description, or names a class that is not of `packages`, or is not what it was.
    """
    modules = _known_modules(packages)

    def build(node: Node) -> Any:
        match node:
            case None:
                return None
            case str() if node in LEAF_KINDS:
                return node
            case {"tuple": list(children)}:
                return tuple(map(build, children))
            case {"list": list(children)}:
                return list(map(build, children))
            case {"dict": dict(children)}:
                return _map_values(build, children)
            case {"class": str(name), "fields": dict(children)}:
                fields = _map_values(build, children)
                return _make_instance(_find_class(name, modules), fields, stored_name)
        raise StructureError(f"{str(node)[:40]!r} is no description of a tree")

    try:
        return build(node)
    except RecursionError:
        raise StructureError("the description of the tree is too deep") from None


def _map_values(function: Callable[[Any], Any], children: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a dict with `function` of each value. Raises StructureError for a key that is no
    text.
    """
    result = {}
    for key, child in children.items():
        if not isinstance(key, str):
            raise StructureError(f"a dict has the key {key!r}, which is no text")
        result[key] = function(child)
    return result


def _make_instance(kind: type, fields: Mapping[str, Any], stored_name: Callable[[str], str]) -> Any:
    """Return an instance of a NamedTuple or dataclass, without calling anything of the class."""
    names = _field_names(kind)
    stored = list(map(stored_name, names))
    unknown = sorted(fields.keys() - set(stored))
    if unknown:
        raise StructureError(f"{kind.__name__} has no field {unknown[0]}")
    values = [fields.get(name, MISSING_LEAF) for name in stored]
    if issubclass(kind, tuple):
        return tuple.__new__(kind, values)
    made = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    if jax.tree_util.all_leaves([made]):
        raise StructureError(f"{kind.__name__} is no tree to JAX")
    return made


def _field_names(kind: type) -> tuple[str, ...]:
    """Return the fields of a NamedTuple or a dataclass. Raises StructureError for another class."""
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind._fields  # pyright: ignore[reportAttributeAccessIssue]
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    raise StructureError(f"{kind.__name__} is no class of a state")


def _class_name(kind: type) -> str:
    """Return a class's name on disk. Raises StructureError where it would not be found by it."""
    module = sys.modules.get(kind.__module__)
    if module is None or _look_up(module, kind.__qualname__) is not kind:
        raise StructureError(f"{kind.__qualname__} is not found by its name in {kind.__module__}")
    return f"{_stored_module(kind.__module__)}:{kind.__qualname__}"


def _find_class(name: str, modules: Mapping[str, ModuleType]) -> type:
    module_name, _, class_name = name.partition(":")
    module = modules.get(module_name)
    kind = None if module is None else _look_up(module, class_name)
    if kind is None:
        raise StructureError(f"{name} is no class of a state in what is imported")
    return kind


def _look_up(module: ModuleType, class_name: str) -> type | None:
    """Return a class that a module defines by its qualified name; None where it defines none."""
    attribute: Any = module
    for part in class_name.split("."):
        if not isinstance(attribute, ModuleType | type):
            return None
        attribute = vars(attribute).get(part)
    if not isinstance(attribute, type):
        return None
    return attribute if sys.modules.get(attribute.__module__) is module else None


def _known_modules(packages: Collection[str]) -> dict[str, ModuleType]:
    """Return what is imported, by its stored name: modules of `packages`, and the user's own
    files.
    """
    known = {}
    for name, module in list(sys.modules.items()):  # another thread may import meanwhile
        if _is_users_file(name) or name.partition(".")[0] in packages:
            known[_stored_module(name)] = module
    return known


def _is_users_file(module_name: str) -> bool:
    return module_name == "__main__" or module_name.startswith(IMPORT_PREFIX)


def _stored_module(name: str) -> str:
    """Return a module's name on disk: a user's file may lie elsewhere, or be a script, later."""
    if not _is_users_file(name):
        return name
    file = vars(sys.modules[name]).get("__file__")
    return Path(file).stem if file else name
