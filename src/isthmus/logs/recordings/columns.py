"""Columns of Arrow tables as numbers: plain ones, and entries of lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isthmus.logs.recordings.recording import import_extra
from isthmus.types import BadValue, UnknownName

ENTRY_SOURCE = re.compile(r"(.+)\[([^\]]+)\]")


class ColumnSource(NamedTuple):
    """A column of a table, and an entry of its lists by name or number; empty: a plain column."""

    source: str  # as the map writes it
    column: str
    entry: str = ""


def find_column(source: str, held: Sequence[str], where: str) -> ColumnSource:
    """Return the column that a source names, `column` or `column[entry]`. Raises UnknownName."""
    if source in held:
        return ColumnSource(source, source)
    match = ENTRY_SOURCE.fullmatch(source)
    if match and match[1] in held:
        return ColumnSource(source, match[1], match[2].strip("'\""))
    raise UnknownName(f"column of {where}", match[1] if match else source, held)


def read_numbers(table: Any, found: ColumnSource, names: Sequence[str]) -> np.ndarray:
    """Return a source's numbers, float64 [n]; NaN where a row or an entry is null.

    `names` are those of the lists' entries. Raises BadValue or UnknownName.
    """
    from pyarrow import types

    column = table.column(found.column).combine_chunks()
    kind = column.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not is_list:
        if found.entry:
            raise BadValue(f"{found.source}: the column {found.column} holds no lists")
        return _as_floats(column, found)
    if not found.entry:
        raise BadValue(
            f"{found.source} holds lists: name an entry, {found.column}[0]"
            + (f" or {found.column}[{names[0]}]" if names else "")
        )
    return _read_entries(column, found, _find_entry(found, names))


def _find_entry(found: ColumnSource, names: Sequence[str]) -> int:
    if found.entry in names:
        return names.index(found.entry)
    if found.entry.isdigit():
        return int(found.entry)
    raise UnknownName(f"entry of {found.column}", found.entry, names or ["0", "1", "..."])


def _read_entries(column: Any, found: ColumnSource, index: int) -> np.ndarray:
    """Return an entry of each list; NaN where a list is null or too short.

    Lists are found by their offsets: `flatten` would leave out null rows, and every row behind one
    would take another's numbers.
    """
    size = len(column)
    out = np.full(size, np.nan)
    lengths = np.nan_to_num(
        import_extra("pyarrow.compute").list_value_length(column).to_numpy(zero_copy_only=False)
    ).astype(np.int64)
    if size and not (lengths > index).any():
        raise BadValue(
            f"{found.source}: the lists of {found.column} have {int(lengths.max())} entries, "
            "counted from 0"
        )
    held = np.flatnonzero(lengths > index)
    lists = column.take(import_extra("pyarrow").array(held))  # without nulls
    flat = _as_floats(lists.flatten(), found)
    begins = np.cumsum(lengths[held]) - lengths[held]
    out[held] = flat[begins + index]
    return out


def _as_floats(column: Any, found: ColumnSource) -> np.ndarray:
    arrow = import_extra("pyarrow")
    try:
        numbers = column.cast(arrow.float64(), safe=False)
    except arrow.ArrowException:
        raise BadValue(f"{found.source} holds no numbers, but {column.type}") from None
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)


def read_strings(table: Any, name: str) -> np.ndarray:
    """Return a column's values as texts [n], which says which rows are of one episode."""
    return np.asarray(table.column(name).to_pylist(), dtype=str)
