"""The second book of what training takes, for targets that cannot be replayed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from isthmus.types import BadValue


class UsageLedger:
    """A file that only grows, synced before each step.

    A robot that moved has moved, whatever checkpoint a run continues from; this book is never
    rolled back.
    """

    def __init__(self, path: Path):
        self.path = path
        self.transitions = 0
        self.episodes = 0
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            text = ""
        except (OSError, ValueError) as error:
            raise BadValue(
                f"the ledger {path} cannot be read, and what it counted not be known: {error}"
            ) from None
        for line in text.splitlines():
            # A line cut short by a crash: its step was not taken, for the sync comes first.
            with suppress(json.JSONDecodeError):
                self._count(json.loads(line))

    def _count(self, entry: Mapping[str, int]) -> None:
        self.transitions += entry.get("transitions", 0)
        self.episodes += entry.get("episodes", 0)

    def enter(self, **counts: int) -> None:
        """Count what is about to happen.

        Raises BadValue where the disk refuses: then it must not happen.
        """
        try:
            with self.path.open("a+b") as file:
                if _ends_amid_a_line(file):
                    file.write(b"\n")  # or the line that was cut short would swallow this one
                file.write(json.dumps(counts).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BadValue(
                f"cannot write the ledger {self.path} ({error.strerror}), so that the target is "
                "not touched; make room"
            ) from None
        self._count(counts)


def _ends_amid_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
