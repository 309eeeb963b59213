"""Logs without next observations: each is taken from the row after, if the two are one episode's.

Where ends are not marked, more rows without one than an episode has steps are cut by the time
limit, or refused.
"""

from __future__ import annotations

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.resets import count_falls, find_resets_behind, find_unmarked_resets, note_resets
from isthmus.logs.rows import NO_ROWS, LogRows, RepairedRows
from isthmus.logs.starts import StartBox, count_unmarked_starts
from isthmus.logs.worlds_in_turn import SortedRows, sort_worlds_by_prediction
from isthmus.types import BadValue


def add_next_obs(rows: LogRows, domain: Domain, starts: StartBox) -> RepairedRows:
    """Take each row's next observation from the row after it; leave out the rows that have none.

    `rows.next_obs` is not looked at. Rows of several worlds in turn are put one world after the
    other. Raises BadValue where ends are missing and the time limit does not give them.
    """
    worlds = sort_worlds_by_prediction(rows)
    last = worlds.last
    rows = _follow_rows(worlds)
    reset = _find_resets(rows, last, starts)
    rows, limit_notes = cut_by_time_limit(rows, np.union1d(reset, last), domain, starts)
    lost = _find_lost(rows, last, reset)
    keep = ~lost
    keep[reset] = False
    # A row behind an end, or behind one that was left out, begins anew.
    begins = np.append(True, rows.ended[:-1] | ~keep[:-1])
    lost_notes = note_lost(int(lost.sum()), int(rows.terminated[lost].sum()))
    notes = (*worlds.notes, *lost_notes, *note_resets(rows, reset), *limit_notes)
    return RepairedRows(rows.take(keep), begins[keep], notes)


def _follow_rows(worlds: SortedRows) -> LogRows:
    """Return rows whose next observations are those of the rows after; the last ones' their own."""
    rows, last = worlds.rows, worlds.last
    following = np.append(rows.obs[1:], rows.obs[-1:], axis=0)
    following[last] = rows.obs[last]
    return rows._replace(next_obs=following)


def _find_lost(rows: LogRows, last: np.ndarray, reset: np.ndarray) -> np.ndarray:
    """Return which transitions have no next observation, bool [B].

    Those of ends and of worlds' last rows; but a reset's row begins in the state in which the end
    before it left the robot.
    """
    lost = rows.ended.copy()
    lost[last] = True
    lost[np.setdiff1d(reset[reset > 0] - 1, last)] = False
    lost[reset] = False
    return lost


def _find_resets(rows: LogRows, last: np.ndarray, starts: StartBox) -> np.ndarray:
    """Return the rows of next-step autoresets, behind ends with a mark and without, indices."""
    if not rows.has_columns:
        return NO_ROWS
    marked = find_resets_behind(rows, last, starts)
    return np.union1d(marked, find_unmarked_resets(rows, starts))


def cut_by_time_limit(
    rows: LogRows, apart: np.ndarray, domain: Domain, starts: StartBox
) -> tuple[LogRows, tuple[str, ...]]:
    """Mark an end wherever more rows than an episode's steps have none.

    Rows are counted anew behind the indices `apart`. Raises BadValue where that cannot be right.
    """
    limit = domain.time_limit
    boundary = rows.ended.copy()
    boundary[apart] = True
    first = np.append(0, np.flatnonzero(boundary[:-1]) + 1)
    lengths = np.diff(np.append(first, len(boundary)))
    longest = int(lengths.max())
    if longest <= limit:
        return rows, ()
    cut = _cut_every(limit, first, lengths)
    marked = rows._replace(truncated=rows.truncated | (cut & ~rows.terminated))
    unmarked = (
        f"{longest:,} rows in a row without a marked end, more than the {limit:,} steps of an "
        f"episode of {domain}"
    )
    left = count_unmarked_starts(marked.take(~boundary), starts)
    if left:
        raise BadValue(
            f"has {unmarked}; cut every {limit:,} rows, {left} transitions still lead to what "
            "looks like a start: give timeouts, or next_observations"
        )
    return marked, (
        f"{unmarked}: cut every {limit:,} rows; give timeouts if episodes ended elsewhere",
    )


def _cut_every(limit: int, first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return every `limit`-th row of stretches longer than that, bool [B]."""
    position = np.arange(lengths.sum()) - np.repeat(first, lengths) + 1
    return (position % limit == 0) & np.repeat(lengths > limit, lengths)


def note_lost(count: int, falls: int) -> tuple[str, ...]:
    """Return a note of transitions left out because they have no next observation."""
    if not count:
        return ()
    return (
        f"{count} transitions without a next observation are left out{count_falls(falls)}: give "
        "next observations to keep them",
    )
