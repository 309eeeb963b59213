"""Tables with a row a moment: CSV and Parquet files, and the folders of LeRobot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.logs.recordings.columns import (
    ColumnSource,
    find_column,
    read_numbers,
    read_strings,
)
from isthmus.logs.recordings.recording import (
    Progress,
    RobotRecording,
    Stream,
    TableColumns,
    Take,
    import_extra,
    sort_naturally,
)
from isthmus.logs.recordings.robot_map import TIME_UNITS
from isthmus.types import BadValue, UnknownName

ROWS = "rows"
"""The one topic of a table."""

TABLE_SUFFIXES = (".csv", ".parquet")
LEROBOT_VERSIONS = ("v2.0", "v2.1", "v3.0")


def is_lerobot(path: Path) -> bool:
    """Return whether a path is a LeRobot data set's folder."""
    return (path / "meta" / "info.json").is_file()


def read_tables(
    path: Path,
    sources: Sequence[str],
    columns: TableColumns,
    rate: float,
    on_message: Progress | None = None,
) -> RobotRecording:
    """Read a CSV or Parquet file, or a folder of them, an episode a file.

    Rows without a column of time are `rate` [Hz] apart. Raises BadValue or UnknownName.
    """
    import_extra("pyarrow")
    files = [path]
    if path.is_dir():
        files = sort_naturally([p for p in path.iterdir() if p.suffix in TABLE_SUFFIXES])
    takes: list[Take] = []
    for done, file in enumerate(files):
        table = _load_table(file, sources, columns)
        takes += _split_takes(table, file, sources, columns, rate, {})
        if on_message:
            on_message(done + 1, len(files))
    notes = () if columns.time else (f"no column of time is named: rows are {rate:g} Hz apart",)
    return RobotRecording(takes, notes, {})


def read_lerobot(
    path: Path, sources: Sequence[str], on_message: Progress | None = None
) -> RobotRecording:
    """Read a LeRobot data set of version 2 or 3. Raises BadValue or UnknownName."""
    arrow = import_extra("pyarrow")
    info = _read_info(path)
    files = sort_naturally([*(path / "data").rglob("*.parquet")])
    if not files:
        raise BadValue(f"{path} holds no data/**/*.parquet; was it downloaded whole?")
    columns = TableColumns("timestamp", "s", "episode_index")
    names = _name_entries(info)
    parts = []
    for done, file in enumerate(files):
        parts.append(_load_parquet(file, sources, columns))
        if on_message:
            on_message(done + 1, len(files))
    table = arrow.concat_tables(parts, promote_options="default")
    takes = list(_split_takes(table, path, sources, columns, 1.0, names))
    notes = _note_missing_episodes(info, len(takes))
    return RobotRecording(takes, notes, {}, info.get("fps"))


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads((path / "meta" / "info.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadValue(f"{path}/meta/info.json is no JSON: {error}") from None
    version = info.get("codebase_version")
    if version not in LEROBOT_VERSIONS:
        raise BadValue(
            f"{path} is of LeRobot's version {version}; read are {', '.join(LEROBOT_VERSIONS)}: "
            "convert it with LeRobot's own script"
        )
    return info


def _name_entries(info: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names of a feature's entries, a list or a table with one list, by feature."""
    names = {}
    for feature, described in info.get("features", {}).items():
        entries = described.get("names")
        if isinstance(entries, dict) and len(entries) == 1:
            (entries,) = entries.values()
        if isinstance(entries, list):
            names[feature] = [str(entry) for entry in entries]
    return names


def _note_missing_episodes(info: dict[str, Any], found: int) -> tuple[str, ...]:
    total = info.get("total_episodes", found)
    if total == found:
        return ()
    return (f"meta/info.json counts {total} episodes, the data hold {found}",)


def _load_table(file: Path, sources: Sequence[str], columns: TableColumns) -> Any:
    if file.suffix == ".csv":
        return _load_csv(file, sources, columns)
    return _load_parquet(file, sources, columns)


def _load_parquet(file: Path, sources: Sequence[str], columns: TableColumns) -> Any:
    """Read the columns that are named, and no others: what they hold is not unpacked."""
    parquet = import_extra("pyarrow.parquet")
    return _explain_errors(file, lambda: _read_parquet_columns(parquet, file, sources, columns))


def _read_parquet_columns(
    parquet: Any, file: Path, sources: Sequence[str], columns: TableColumns
) -> Any:
    # Not parquet.read_table, which takes folders' names for columns.
    with parquet.ParquetFile(file) as opened:
        held = opened.schema_arrow.names
        return opened.read(columns=_choose_columns(file, held, sources, columns))


def _load_csv(file: Path, sources: Sequence[str], columns: TableColumns) -> Any:
    """Read the columns that are named; numbers as float64, whatever the first rows look like."""
    csv = import_extra("pyarrow.csv")
    arrow = import_extra("pyarrow")

    def read() -> Any:
        with csv.open_csv(file) as reader:
            held = reader.schema.names
        wanted = _choose_columns(file, held, sources, columns)
        kinds = dict.fromkeys(wanted, arrow.float64())
        if columns.episode:
            kinds[columns.episode] = arrow.string()
        if columns.time and columns.time_unit == "ns":
            kinds[columns.time] = arrow.int64()
        options = csv.ConvertOptions(include_columns=wanted, column_types=kinds)
        return csv.read_csv(file, convert_options=options)

    return _explain_errors(file, read)


def _explain_errors(file: Path, read: Callable[[], Any]) -> Any:
    """Return what `read` returns. Raises BadValue for what pyarrow raises."""
    arrow = import_extra("pyarrow")
    try:
        return read()
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, BadValue):
            raise
        message = " ".join(str(error).split())
        raise BadValue(f"{file} cannot be read: {message}") from None


def _choose_columns(
    file: Path, held: Sequence[str], sources: Sequence[str], columns: TableColumns
) -> list[str]:
    """Return the columns to read. Raises UnknownName for one that is not there."""
    wanted = [find_column(source, held, file.name).column for source in sources]
    for name in filter(None, (columns.time, columns.episode)):
        if name not in held:
            raise UnknownName(f"column of {file.name}", name, held)
        wanted.append(name)
    return list(dict.fromkeys(wanted))


def _split_takes(
    table: Any,
    path: Path,
    sources: Sequence[str],
    columns: TableColumns,
    rate: float,
    names: dict[str, list[str]],
) -> Iterator[Take]:
    """Return a take an episode, in the order of their first rows."""
    values = {}
    for source in sources:
        found: ColumnSource = find_column(source, table.column_names, path.name)
        values[source] = read_numbers(table, found, names.get(found.column, []))
    stamps = _read_stamps(table, columns, rate)
    for rows in _find_episodes(table, columns):
        taken = {source: column[rows] for source, column in values.items()}
        yield {ROWS: Stream(stamps[rows] - stamps[rows][:1], taken)}


def _read_stamps(table: Any, columns: TableColumns, rate: float) -> np.ndarray:
    """Return the time of each row in seconds, float64 [n]."""
    if columns.time is None:
        return np.arange(table.num_rows) / rate
    from pyarrow import types

    column = table.column(columns.time)
    if types.is_timestamp(column.type):
        nanoseconds = column.cast("timestamp[ns]").cast("int64")
        ticks, unit = nanoseconds, "ns"
    else:
        ticks, unit = column, columns.time_unit
    if ticks.null_count:
        raise BadValue(f"the column of time {columns.time!r} has {ticks.null_count} empty rows")
    numbers = ticks.to_numpy()
    if numbers.dtype.kind not in "iuf":
        raise BadValue(f"the column of time {columns.time!r} holds no numbers, but {column.type}")
    seconds = (numbers - numbers[:1]).astype(np.float64) * TIME_UNITS[unit]
    if not np.isfinite(seconds).all():
        raise BadValue(f"the column of time {columns.time!r} holds NaN or infinity")
    return seconds


def _find_episodes(table: Any, columns: TableColumns) -> list[np.ndarray]:
    """Return the rows of each episode, in the order in which episodes begin."""
    if not columns.episode:
        return [np.arange(table.num_rows)]
    marks = read_strings(table, columns.episode)
    _, first, episode = np.unique(marks, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return [np.flatnonzero(episode == number) for number in order]
