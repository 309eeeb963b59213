"""Whole steps between a command and what is seen of it from a log."""

from __future__ import annotations

import numpy as np

from isthmus.logs.log import Log


def count_repeats(log: Log, most: int) -> int:
    """Return for how many steps each episode repeats its first observation, at most `most`.

    An observation that is late by k steps shows the first one k times more. Episodes that are too
    short to tell are passed over.
    """
    same = (log.obs == log.next_obs).all(axis=1)
    counts = []
    for e in range(log.episodes):
        rows = same[log.episode == e][:most]
        if len(rows) == most:
            counts.append(int(np.argmin(np.append(rows, False))))
    return min(counts, default=0)


def split_delay(log: Log, total: int) -> tuple[int, int]:
    """Return the delays of actions and of observations whose sum is `total`.

    The dynamics tell the sum alone. Each episode's begin tells the observations' share, where the
    log holds it.
    """
    late = count_repeats(log, total) if total else 0
    return total - late, late
