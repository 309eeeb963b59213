"""MCAP files whose end is missing (power lost, disk full): what is whole is kept."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from isthmus.types import BadValue

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, DATA_END = 0x01, 0x02, 0x0F
RECORD_HEAD = struct.Struct("<BQ")  # what it is, and how many bytes follow
# DataEnd without a checksum, and a footer that says that there is no summary: readers then scan.
END_RECORDS = (
    RECORD_HEAD.pack(DATA_END, 4) + bytes(4) + RECORD_HEAD.pack(FOOTER, 20) + bytes(20) + MAGIC
)


class WholeRecords(NamedTuple):
    """How much of a file is whole records, in bytes, and how much is not."""

    whole: int
    lost: int


def is_whole(path: Path) -> bool:
    """Return whether an MCAP file has its end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(MAGIC)))
        return size > 2 * len(MAGIC) and file.read() == MAGIC


def repair_mcap(path: Path, copy: Path) -> str:
    """Write a file's whole records to `copy`, with an end; return a note of what was lost.

    Raises BadValue where nothing of it is whole.
    """
    with path.open("rb") as file:
        records = _measure_records(file)
        if not records.whole:
            raise BadValue(f"{path} is no MCAP file, or nothing of it is whole")
        file.seek(0)
        with copy.open("wb") as out:
            _copy_bytes(file, out, records.whole)
            out.write(END_RECORDS)
    return (
        f"{path.name}: its end is missing; {records.whole:,} bytes of whole records are read, the "
        f"last {records.lost:,} bytes are lost"
    )


def _measure_records(file: BinaryIO) -> WholeRecords:
    """Walk over a file's records to the first that is cut, or to the end of its data."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        return WholeRecords(0, size)
    end, whole = len(MAGIC), 0
    while True:
        file.seek(end)
        head = file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            break
        kind, length = RECORD_HEAD.unpack(head)
        end += RECORD_HEAD.size + length
        if end > size or kind in (0, FOOTER, DATA_END):
            break
        whole = end
    return WholeRecords(whole, size - whole)


def _copy_bytes(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        part = source.read(min(count, 1 << 20))
        target.write(part)
        count -= len(part)
