"""Comparisons that take a second: what their tests and those of the studies share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tiny

import isthmus
from isthmus.studies.compare import Comparison, compare
from isthmus.training.executor import Executor


class Here(Executor):
    """The executor's contract in this process, without its parallelism."""

    workers = 1

    def map(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[Any],
        poll: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        for i in reversed(range(len(jobs))):  # in an order that nobody may rely on
            yield i, function(jobs[i])
            if poll:
                poll()


def few(folder: Path, methods: Sequence[str] = (), **changes: Any) -> Comparison:
    made = changes.pop("problem", None) or isthmus.problem(
        "hopper/gravity=x2", uncertainty="torso_mass=1..9"
    )
    known = {k: v for m in ("source_only", *methods) for k, v in tiny.settings(m).items()}
    asked = {
        "seeds": 2,
        "steps": 3 * tiny.ROUND,
        "out": folder,
        "episodes": 4,
        "settings": known,
        "executor": Here(),
    }
    return compare(made, methods, **(asked | changes))
