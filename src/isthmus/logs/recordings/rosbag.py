"""Bags of ROS 2 (MCAP and sqlite3), read by rosbags: by topic, the numbers that a map names."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from isthmus.logs.recordings.mcap_repair import is_whole, repair_mcap
from isthmus.logs.recordings.message_paths import (
    MessagePath,
    list_names,
    parse_source,
    read_value,
)
from isthmus.logs.recordings.recording import (
    Progress,
    RobotRecording,
    Stream,
    import_extra,
    sort_naturally,
)
from isthmus.types import BadValue, UnknownName

NANOSECOND = 1e-9
MESSAGES_A_REPORT = 2000
METADATA_FILE = "metadata.yaml"


class TopicMessages:
    """What is kept of the messages of one topic."""

    def __init__(self, paths: Sequence[MessagePath], by_header: bool):
        self.paths = paths
        self.by_header = by_header
        self.received: list[int] = []
        self.stamps: list[int] = []
        self.rows: list[list[float]] = []
        self.names: set[str] = set()

    def add(self, received: int, message: Any) -> None:
        """Keep a message's stamps [ns] and numbers."""
        self.received.append(received)
        stamp = received
        if self.by_header:
            stamp = _read_stamp(message, received)
        self.stamps.append(stamp)
        self.rows.append([read_value(message, path) for path in self.paths])
        self.names.update(list_names(message))

    def check(self) -> None:
        """Raise BadValue or UnknownName for a source of which no message holds a number."""
        if not self.rows:
            raise BadValue(f"the topic {self.paths[0].topic} has no message in this recording")
        missing = np.isnan(np.asarray(self.rows)).all(0)
        for index in np.flatnonzero(missing).tolist():
            self._explain_missing(self.paths[index])

    def _explain_missing(self, path: MessagePath) -> None:
        if path.entry and path.entry not in self.names:
            raise UnknownName(f"joint of {path.topic}", path.entry, self.names)
        raise BadValue(
            f"{path.source} is empty or NaN in all {len(self.rows):,} messages; map another field "
            "(of an empty velocity: its position, with derivative = true)"
        )

    def stream(self, begin: int) -> Stream:
        """Return the messages with stamps in seconds since `begin` [ns]."""
        columns = np.asarray(self.rows, np.float64).T
        values = dict(zip(map(attrgetter("source"), self.paths), columns))
        received = (np.asarray(self.received, np.int64) - begin) * NANOSECOND
        stamps = (np.asarray(self.stamps, np.int64) - begin) * NANOSECOND
        return Stream(stamps, values, received)


def _read_stamp(message: Any, received: int) -> int:
    """Return a message's own stamp [ns]; when it was received, where it has none."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is None:
        return received
    nanoseconds = stamp.sec * 10**9 + stamp.nanosec
    if nanoseconds == 0:  # a driver that sets none
        return received
    return nanoseconds


def read_rosbag(
    path: Path,
    sources: Sequence[str],
    stamp_by: Mapping[str, str],
    on_message: Progress | None = None,
) -> RobotRecording:
    """Read the numbers that `sources` name from a bag's folder or file.

    `stamp_by` says of topics whether their stamps are the header's (the default) or when they were
    received. Raises BadValue or UnknownName in one line.
    """
    import_extra("rosbags")
    paths: dict[str, list[MessagePath]] = {}
    for source in sources:
        parsed = parse_source(source)
        paths.setdefault(parsed.topic, []).append(parsed)
    kept: dict[str, TopicMessages] = {}
    for topic, topic_paths in paths.items():
        kept[topic] = TopicMessages(topic_paths, stamp_by.get(topic) != "received")
    with _open_bag(path) as (reader, notes):
        counts = _count_messages(reader)
        for topic in paths:
            if topic not in counts:
                raise UnknownName(f"topic of {path.name}", topic, counts)
        _read_messages(reader, kept, on_message)
    for messages in kept.values():
        messages.check()
    begin = min(messages.received[0] for messages in kept.values())
    take = {topic: messages.stream(begin) for topic, messages in kept.items()}
    for topic in paths:
        del counts[topic]
    return RobotRecording([take], notes, counts)


def _count_messages(reader: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for connection in reader.connections:
        counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
    return counts


def _check_topics(path: Path, topics: Iterable[str], counts: Mapping[str, int]) -> None:
    """Raise BadValue or UnknownName where a bag lacks a topic."""
    if not counts:
        raise BadValue(f"{path} holds no whole message")
    for topic in topics:
        if topic not in counts:
            raise UnknownName(f"topic of {path.name}", topic, counts)


def _read_messages(
    reader: Any, kept: Mapping[str, TopicMessages], on_message: Progress | None
) -> None:
    wanted = [connection for connection in reader.connections if connection.topic in kept]
    total = sum(connection.msgcount for connection in wanted)
    for done, (connection, received, raw) in enumerate(reader.messages(wanted)):
        kept[connection.topic].add(received, reader.deserialize(raw, connection.msgtype))
        if on_message and done % MESSAGES_A_REPORT == 0:
            on_message(done, total)


@contextmanager
def _open_bag(path: Path) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Open a bag, an MCAP file without its end as what is whole of it.

    Raises BadValue for what rosbags raises.
    """
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.rosbag2 import ReaderError
    from rosbags.typesys import Stores, TypesysError, get_typestore

    known = get_typestore(Stores.ROS2_HUMBLE)  # older sqlite3 bags hold no definitions
    with TemporaryDirectory(prefix="isthmus-") as folder:
        files, notes = _find_files(path, Path(folder))
        try:
            with AnyReader(files, default_typestore=known) as reader:
                yield reader, notes
        except (AnyReaderError, ReaderError, TypesysError, sqlite3.Error, KeyError) as error:
            message = " ".join(str(error).split())
            raise BadValue(f"{path} cannot be read as a bag: {message}") from None


def _find_files(path: Path, folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return what to open, and notes; copies of cut files are made in `folder`."""
    if _is_compressed(path):
        return [path], ()
    files = [path]
    if path.is_dir():
        # Not by metadata.yaml: rosbags hands out no message of a topic whose QoS differs there.
        files = sort_naturally([*path.glob("*.mcap"), *path.glob("*.db3")])
    opened, notes = [], []
    for file in files:
        copy = file
        if file.suffix == ".mcap" and not is_whole(file):
            copy = folder / file.name
            notes.append(repair_mcap(file, copy))
        opened.append(copy)
    return opened, tuple(notes)


def _is_compressed(path: Path) -> bool:
    """Return whether a bag's metadata are needed to unpack its files or messages."""
    metadata = path / METADATA_FILE
    if not metadata.is_file():
        return False
    mode = re.search(
        r"compression_mode: *['\"]?(\w*)", metadata.read_text(encoding="utf-8", errors="replace")
    )
    return mode is not None and mode[1].lower() in ("file", "message")
