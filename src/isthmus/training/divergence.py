"""Worlds whose physics blew up in training: counted, and their last finite states kept."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from isthmus.methods.method import State
from isthmus.training.run_files import RunError
from isthmus.types import Worlds


class DivergenceLog:
    """Keeps the last finite states of worlds that diverge, in `diverged/`, for somebody to look
    at.
    """

    def __init__(self, run: Path, state: State):
        self.folder = run / "diverged"
        self.count = _count(_worlds(state))

    def update(self, state: State) -> list[str]:
        """Save what diverged since the last update; return a line that tells of it, or none.

        Raises RunError where the disk refuses.
        """
        groups, former = _worlds(state), self.count
        self.count = _count(groups)  # fewer where a phase began with new worlds
        if self.count <= former:
            return []
        self._save([worlds for worlds in groups if worlds.diverged.any()])
        return [
            f"{self.count - former} worlds diverged and began anew; their last states are in "
            f"{self.folder}"
        ]

    def _save(self, groups: list[Worlds]) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            for i, worlds in enumerate(groups):
                which = worlds.diverged > 0
                np.savez(
                    self.folder / f"{i}.npz",
                    rows=worlds.diverged_rows[which],
                    times=worlds.diverged[which],
                    key=worlds.key[which],
                )
        except OSError as error:
            raise RunError(
                f"cannot write {self.folder}: {error.strerror}; mend the folder, then resume the "
                "run"
            ) from None


def _count(groups: list[Worlds]) -> int:
    return sum(int(worlds.diverged.sum()) for worlds in groups)


def _worlds(state: State) -> list[Worlds]:
    def is_worlds(node: object) -> bool:
        return isinstance(node, Worlds)

    return list(filter(is_worlds, jax.tree.leaves(state, is_leaf=is_worlds)))
