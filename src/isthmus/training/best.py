"""The best checkpoint: the state whose evaluation in training had the greatest mean return in the
*source*.

It lies in `best/`, besides the newest two in `checkpoints/`. Each of those says in its `extra`
which one was the best when it was saved, so that a run resumed from either has that one again, and
ends with the same best to the bit.

Nothing is selected by the target's return: a best checkpoint is chosen by what training may see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from isthmus.training import checkpoint
from isthmus.types import BadValue

BEST = "best"
"""The folder in a run's, and what names the checkpoint: RUN@best."""


class BestCheckpoint:
    """Keeps the best state of a run; `record` (JSON) says which it is, None before any evaluation
    in the source.

    `record` is {"steps", "source_return"}: the steps at the evaluation, source and target, and its
    mean return.
    """

    def __init__(self, run: Path, record: Mapping[str, Any] | None):
        self.folder, self.newest = run / BEST, run / "checkpoints"
        self.record = record

    def offer(
        self, state: Any, extra: Mapping[str, Any], steps: int, scores: Mapping[str, float]
    ) -> None:
        """Save `state` where its evaluation was better than all before. Raises CheckpointError
        where the disk refuses.

        Of equal returns the first stays; one that is no number is no candidate.
        """
        score = scores.get("source_return")
        if score is None or math.isnan(score):
            return
        if self.record and score <= self.record["source_return"]:
            return
        self.record = {"steps": steps, "source_return": score}
        checkpoint.save(
            self.folder,
            state,
            extra={**extra, "best": self.record},
            name=steps,
            keep=None,
            beside=self.newest,
        )

    def forget_former(self) -> None:
        """Remove what neither is the best nor was when one of the newest checkpoints was saved."""
        needed = [self.record]
        for path in checkpoint.paths(self.newest):
            with suppress(checkpoint.CheckpointError):  # a damaged one is never resumed from
                needed.append(checkpoint.read_extra(path).get("best"))
        checkpoint.keep_only(self.folder, [record["steps"] for record in needed if record])


def find_best(run: Path) -> tuple[Path, list[str]]:
    """Return the path of a run's best checkpoint, its hashes checked, and notes on damaged newest
    ones.

    Raises CheckpointError where it is damaged, BadValue where none is kept.
    """
    newest, notes = checkpoint.latest(run / "checkpoints")
    record = checkpoint.read_extra(newest).get("best")
    if record is None:
        raise BadValue(
            f"{run} keeps no best checkpoint: no evaluation in its training has measured a return "
            "in the source yet; "
            f"leave out @{BEST}"
        )
    path = checkpoint.path_of(run / BEST, record["steps"])
    checkpoint.verify(path)
    return path, notes


def check_best(run: Path) -> tuple[bool, str]:
    """Return whether a run's best checkpoint is good, and a line that says so; an empty line where
    none is kept.
    """
    try:
        path, _ = find_best(run)
    except BadValue:
        return True, ""
    except checkpoint.CheckpointError as error:
        return False, f"damaged: {error}"
    score = checkpoint.read_extra(path)["best"]["source_return"]
    return (
        True,
        f"{BEST}, {path.name}: good, {checkpoint.digest(path)}, return in the source {score:.6g}",
    )
