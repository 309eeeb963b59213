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

    Raises StructureError where a part of the tree is of a class that cannot be found again.
    """

    def describe(node: Any) -> Node:
        if node is None:
            return None
        kind = type(node)
        if kind in (tuple, list):
            return {kind.__name__: [describe(child) for child in node]}
        if kind is dict:
            if not all(isinstance(key, str) for key in node):
                raise StructureError("a dict has a key that is no text")
            return {"dict": {key: describe(child) for key, child in node.items()}}
        if jax.tree_util.all_leaves([node]):
            return leaf_kind(node)
        children = {stored_name(name): getattr(node, name) for name in _field_names(kind)}
        _check_is_found(kind)
        return {
            "class": f"{_stored_module(kind.__module__)}:{kind.__qualname__}",
            "fields": {name: describe(child) for name, child in children.items()},
        }

    return describe(tree)


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
                return tuple(build(child) for child in children)
            case {"list": list(children)}:
                return [build(child) for child in children]
            case {"dict": dict(children)}:
                return {key: build(child) for key, child in children.items()}
            case {"class": str(name), "fields": dict(children)}:
                built = {field: build(child) for field, child in children.items()}
                return _make(_find_class(name, modules), built, stored_name)
        raise StructureError(f"{str(node)[:40]!r} is no description of a tree")

    try:
        return build(node)
    except RecursionError:
        raise StructureError("the description of the tree is too deep") from None


def _make(kind: type, children: Mapping[str, Any], stored_name: Callable[[str], str]) -> Any:
    """Return an instance of a NamedTuple or dataclass, without calling anything of the class."""
    names = _field_names(kind)
    unknown = sorted(children.keys() - {stored_name(name) for name in names})
    if unknown:
        raise StructureError(f"{kind.__name__} has no field {unknown[0]}")
    values = [children.get(stored_name(name), MISSING_LEAF) for name in names]
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
    if _is_named_tuple(kind):
        return kind._fields  # pyright: ignore[reportAttributeAccessIssue]
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    raise StructureError(f"{kind.__name__} is no NamedTuple and no dataclass")


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _check_is_found(kind: type) -> None:
    """Raise StructureError where a class would not be found by its name."""
    module = sys.modules.get(kind.__module__)
    if module is None or _look_up(module, kind.__qualname__) is not kind:
        raise StructureError(f"{kind.__qualname__} is not found by its name in {kind.__module__}")


def _find_class(name: str, modules: Mapping[str, ModuleType]) -> type:
    module_name, _, class_name = name.partition(":")
    module = modules.get(module_name)
    kind = _look_up(module, class_name) if module else None
    if kind is None:
        raise StructureError(f"{name} is no class of a state in what is imported")
    return kind


def _look_up(module: ModuleType, class_name: str) -> type | None:
    """Return a class of a module by its qualified name; None where the module defines none."""
    found: Any = module
    for part in class_name.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    if not isinstance(found, type) or sys.modules.get(found.__module__) is not module:
        return None
    return found if _is_named_tuple(found) or dataclasses.is_dataclass(found) else None


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
    file = vars(sys.modules[name]).get("__file__") if _is_users_file(name) else None
    return Path(file).stem if file else name
