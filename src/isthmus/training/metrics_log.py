"""metrics.jsonl: a line a round and a line an evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.training.run_files import RunError


class MetricsLog:
    """metrics.jsonl, cut to the checkpoint's offset on resume, so that no round is told twice."""

    def __init__(self, path: Path, offset: int):
        self.path = path
        try:
            with path.open("ab") as file:
                # Where the file was lost, zeros would not bring it back.
                file.truncate(min(offset, file.tell()))
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror}") from None

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Add a line. Raises RunError where the disk refuses."""
        line = json.dumps({"kind": kind, **{k: _shorten(v) for k, v in values.items()}})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise self._refusal(error) from None

    def sync(self) -> int:
        """Force the file to the disk; return its length in bytes. Raises RunError."""
        try:
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> RunError:
        return RunError(
            f"cannot write {self.path}: {error.strerror}; the last checkpoint is good: make room, "
            "resume"
        )


def _shorten(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
