"""Rows of a file made into a log: what autoreset wrote is left out, and episodes are closed."""

from __future__ import annotations

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.log import Log, close_episodes, number_episodes
from isthmus.logs.next_obs import add_next_obs
from isthmus.logs.resets import drop_resets
from isthmus.logs.rows import LogRows, RepairedRows, are_close
from isthmus.logs.starts import StartBox, note_unmarked_starts
from isthmus.logs.worlds_in_turn import sort_worlds

RepairedLog = tuple[Log, tuple[str, ...]]
"""A log, and what was left out or looks wrong, in lines."""


def repair_without_next_obs(rows: LogRows, domain: Domain) -> RepairedLog:
    """Return the log of rows without next observations.

    Raises BadValue where ends are missing and the time limit does not give them.
    """
    starts = StartBox.of(domain)
    return _close(add_next_obs(rows, domain, starts), domain, starts)


def repair_rows(rows: LogRows, domain: Domain) -> RepairedLog:
    """Return the log of rows with next observations, whose episodes are not numbered.

    Also where nothing marks it, an episode ends where the next row begins elsewhere, by more than
    rounding.
    """
    starts = StartBox.of(domain)
    rows, sorting_notes = sort_worlds(rows)
    repaired = drop_resets(rows, starts)
    ends = _find_ends(repaired)
    log = close_episodes(Log(*repaired.rows, number_episodes(ends)))
    notes = (*sorting_notes, *repaired.notes, *_note_single_transitions(repaired.rows, ends))
    return log, (*notes, *_note_doubts(log, domain, starts))


def _find_ends(repaired: RepairedRows) -> np.ndarray:
    """Return the rows that end an episode, marked or not, bool [B]."""
    rows, size = repaired.rows, len(repaired.begins)
    broken = np.append(~are_close(rows.next_obs[:-1], rows.obs[1:]), True)[:size]
    return rows.ended | broken | np.append(repaired.begins[1:], True)[:size]


def _note_single_transitions(rows: LogRows, ends: np.ndarray) -> tuple[str, ...]:
    """Return a note where most rows end an episode without a mark."""
    if (~rows.ended & ends)[:-1].sum() <= len(ends) / 2:
        return ()
    return (
        "most rows begin elsewhere than the one before ended, by more than 1e-5 of it: single "
        "transitions, whose returns say nothing",
    )


def repair_episodes(log: Log, domain: Domain) -> RepairedLog:
    """Return a log of numbered episodes without what autoreset put into it."""
    starts = StartBox.of(domain)
    begins = np.diff(log.episode, prepend=-1) != 0
    return _close(drop_resets(LogRows(*log[:6]), starts, begins), domain, starts)


def _close(repaired: RepairedRows, domain: Domain, starts: StartBox) -> RepairedLog:
    log = close_episodes(Log(*repaired.rows, repaired.episode))
    return log, (*repaired.notes, *_note_doubts(log, domain, starts))


def _note_doubts(log: Log, domain: Domain, starts: StartBox) -> tuple[str, ...]:
    """Return notes of what looks wrong in a log and is left as it is."""
    if not log.size:
        return ()
    unmarked = note_unmarked_starts(LogRows(*log[:6]), starts)
    return (*_note_overlong(log.lengths, domain), *unmarked)


def _note_overlong(lengths: np.ndarray, domain: Domain) -> tuple[str, ...]:
    """Return a note where an episode [E] is longer than the domain's may be."""
    limit, longest = domain.time_limit, int(lengths.max())
    if longest <= limit:
        return ()
    return (
        f"the longest episode has {longest:,} transitions, more than the {limit:,} steps of "
        f"{domain}'s: where ends are not marked, returns and lengths say nothing",
    )
