"""What a vector environment's autoreset wrote into a log, which is no transition: left out.

    next step    Gymnasium's default: the row after an end leads from the last state to a start
    same step    autoreset within the step: the next observation of an end is a start

What is done is noted. What only looks wrong is counted, noted and left as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.logs.rows import NO_ROWS, LogRows, RepairedRows, are_close, measure_steps
from isthmus.logs.starts import StartBox, lead_to_starts

RARE_SHARE = 0.01  # share of other rows, up to which a reward is that of resets alone
MIN_RESETS = 3  # rows, from which a reward that they share says that they are alike


class JoinedEnds(NamedTuple):
    """Marked ends that a row goes on from, and that row: indices [J] each."""

    ends: np.ndarray
    after: np.ndarray


def drop_resets(rows: LogRows, starts: StartBox, begins: np.ndarray | None = None) -> RepairedRows:
    """Leave out what a vector environment's autoreset put into a log.

    See `docs/guide/datasets.md`, **Vector environments**. An end that another row goes on from is
    not plain: either that row is the reset (next step), or the end's next observation is the
    reset's (same step), or nothing was reset and both are transitions. `begins` [B] says where
    episodes begin, as far as that is known.
    """
    if begins is None:
        begins = np.zeros(len(rows.obs), bool)
    if not rows.has_columns:
        return RepairedRows(rows, begins, ())
    joined = _join_ends(rows)
    reset = np.union1d(find_reset_rows(rows, joined, starts), find_unmarked_resets(rows, starts))
    plain_ends = joined.ends[~np.isin(joined.after, reset)]
    overwritten = _find_overwritten_ends(rows, plain_ends, starts)
    notes = (*note_resets(rows, reset), *_note_overwritten(rows, overwritten))
    if not len(overwritten):
        notes += _note_joined_ends(rows, plain_ends, starts)
    return _leave_out(rows, np.append(reset, overwritten), begins, notes)


def _leave_out(
    rows: LogRows, which: np.ndarray, begins: np.ndarray, notes: tuple[str, ...]
) -> RepairedRows:
    """Leave out the rows at the indices `which`; a row behind one of them begins anew."""
    keep = np.ones(len(rows.obs), bool)
    keep[which] = False
    begins = begins.copy()
    begins[1:] |= ~keep[:-1]
    return RepairedRows(rows.take(keep), begins[keep], notes)


def _join_ends(rows: LogRows) -> JoinedEnds:
    """Return the marked ends that a row goes on from, and that row.

    The row is the next one where it fits, else any that begins an episode (episodes of several
    worlds lie in the order in which they ended).
    """
    ends = np.flatnonzero(rows.ended)
    begins = ends[ends + 1 < len(rows.obs)] + 1
    first_row: dict[bytes, int] = {}
    for i in begins[::-1]:
        first_row[_hash_obs(rows.obs[i])] = int(i)
    following = np.minimum(ends + 1, len(rows.obs) - 1)
    fits = are_close(rows.next_obs[ends], rows.obs[following]) & (following > ends)
    after = np.array([first_row.get(_hash_obs(obs), -1) for obs in rows.next_obs[ends]], int)
    after[fits] = following[fits]
    return JoinedEnds(ends[after >= 0], after[after >= 0])


def _hash_obs(obs: np.ndarray) -> bytes:
    """Return an observation's content, in single precision; 0 and -0 are one."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.asarray(obs, np.float32) + np.float32(0)).tobytes()


def find_reset_rows(rows: LogRows, joined: JoinedEnds, starts: StartBox) -> np.ndarray:
    """Return which rows after ends are a next-step autoreset, indices.

    They are no end, all pay the same, and lead from an end to a start.
    """
    ends, after = joined
    reset_reward = _find_reset_reward(rows, after)
    alike = (rows.reward == reset_reward) & ~rows.ended
    candidates = np.unique(after[alike[after]])
    if not _follow_ends(rows, ends[alike[after]], candidates, starts):
        return NO_ROWS
    if _share_of_others(rows, after, reset_reward) <= RARE_SHARE:
        return candidates
    # Where little is ever paid, a reward of 0 says nothing: the whole log must look like it.
    if len(candidates) < len(np.unique(after)) or lead_to_starts(rows, ends, starts):
        return NO_ROWS
    return candidates if lead_to_starts(rows, candidates, starts) else NO_ROWS


def _share_of_others(rows: LogRows, after: np.ndarray, reset_reward: float) -> float:
    """Return the share of the rows not `after` an end that pay what resets pay."""
    others = np.ones(len(rows.obs), bool)
    others[after] = False
    return (rows.reward[others] == reset_reward).sum() / max(1, others.sum())


def _find_reset_reward(rows: LogRows, which: np.ndarray) -> float:
    """Return the reward that resets pay.

    0, or what a shift or scale made of it, which most rows at these indices share.
    """
    values, counts = np.unique(rows.reward[which[~rows.ended[which]]], return_counts=True)
    most = int(counts.max(initial=0))
    if most < MIN_RESETS or most <= len(which) / 2:
        return 0.0
    return float(values[counts.argmax()])


def _follow_ends(rows: LogRows, ends: np.ndarray, candidates: np.ndarray, starts: StartBox) -> bool:
    """Return whether the candidates lead from where the ends led.

    An episode's first row leads from a start instead.
    """
    if not len(candidates):
        return False
    if starts.is_narrow(rows.obs):
        if starts.contains(rows.obs[candidates]).mean() > 0.5:
            return False
        if starts.find_entering(rows)[candidates].mean() > 0.5:
            return True
    size = measure_steps(rows.obs, rows.next_obs)
    return bool(np.median(size[candidates]) >= np.median(size[ends]))


def find_unmarked_resets(rows: LogRows, starts: StartBox) -> np.ndarray:
    """Return which rows are a next-step autoreset behind an end without a mark, indices.

    They lead to a start and all pay the same.
    """
    if not starts.is_narrow(rows.obs):
        return NO_ROWS
    entered = starts.find_entering(rows)
    alike = (rows.reward == _find_reset_reward(rows, np.flatnonzero(entered))) & ~rows.ended
    alike_share = (alike & ~entered).sum() / max(1, (~entered).sum())
    return np.flatnonzero(entered & alike) if alike_share <= RARE_SHARE else NO_ROWS


def find_resets_behind(rows: LogRows, last: np.ndarray, starts: StartBox) -> np.ndarray:
    """Return the rows after marked ends that a next-step autoreset made, if it made most.

    `last` are the worlds' last rows. Where starts are not known, the log's first row must pay
    otherwise: a logger that has no reward yet writes 0 into the first row of every episode.
    """
    ends = np.setdiff1d(np.flatnonzero(rows.ended), last)
    if not len(ends):
        return NO_ROWS
    if not starts.is_narrow(rows.obs) and rows.reward[0] == _find_reset_reward(rows, ends + 1):
        return NO_ROWS
    reset = find_reset_rows(rows, JoinedEnds(ends, ends + 1), starts)
    return reset if len(reset) > len(ends) / 2 else NO_ROWS


def _find_overwritten_ends(rows: LogRows, ends: np.ndarray, starts: StartBox) -> np.ndarray:
    """Return which ends have the reset's observation for their next, indices."""
    if not lead_to_starts(rows, ends, starts):
        return NO_ROWS
    # Nothing goes on from the last row of a world, which may be such an end as well.
    alone = np.setdiff1d(np.flatnonzero(rows.ended), ends)
    return np.append(ends, alone) if lead_to_starts(rows, alone, starts) else ends


def _note_joined_ends(rows: LogRows, ends: np.ndarray, starts: StartBox) -> tuple[str, ...]:
    """Return a note of ends that another row goes on from, where starts do not tell of resets."""
    if not len(ends) or starts.is_narrow(rows.obs):
        return ()
    return (
        f"{len(ends)} episodes end in the observation in which the next begins: if the robot was "
        "reset there, the next observations of the ends are not theirs; give info['final_obs'] "
        "there",
    )


def note_resets(rows: LogRows, reset: np.ndarray) -> tuple[str, ...]:
    """Return a note of the rows at these indices, left out as a next-step autoreset's."""
    if not len(reset):
        return ()
    reward = _find_reset_reward(rows, reset)
    return (
        f"{len(reset)} rows after an end are left out: they lead to the next start, pay "
        f"{reward:g} and ignore their action, as a vector environment's next-step autoreset does",
    )


def _note_overwritten(rows: LogRows, ends: np.ndarray) -> tuple[str, ...]:
    if not len(ends):
        return ()
    falls = count_falls(int(rows.terminated[ends].sum()))
    return (
        f"{len(ends)} ends are left out{falls}: their next observation is the next episode's "
        "first, as of a vector environment's same-step autoreset; give info['final_obs'] there to "
        "keep them",
    )


def count_falls(falls: int) -> str:
    """Return how many of what was counted are falls, in words; nothing where none is."""
    return f", {falls} of them falls" if falls else ""
