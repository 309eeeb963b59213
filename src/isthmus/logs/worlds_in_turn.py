"""Rows of N worlds in turn, [T, N], as vector environments return them, put one after the other.

With next observations they show which row goes on from which; without, the row is found that a row
and its action predict.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.logs.rows import LogRows, are_close, quartile_ranges
from isthmus.logs.starts import MIN_ORDINARY

MAX_WORLDS = 4096  # of a vector environment whose rows are looked for
PROBED_ROWS = 16  # from which the number of worlds is guessed, before all rows are asked
FEW_WORLDS = 64  # up to which their number need not divide that of the rows
FAR_SHARE = 0.8  # of the distance of any two rows: from there on the next row is as far as any
NEAR_SHARE = 0.2  # of the same: up to there a later row is near
MOVES_ON = 1.3  # times the distance of one step: the least that two of them make
FITTED_ROWS = 1000  # from which it is told which later row a row predicts
FITTED_NUMBERS = 32  # observed, and as many actions: the most that such a prediction is made from
ROWS_A_NUMBER = 5  # the fewest rows for each number that a prediction is made from
# Interquartile ranges from the median: a number further away would decide a fit alone.
MAX_SPREADS = 5.0
# Of an error without knowledge: 0.0-0.52 in logs of one world, 0.9-1.1 of several or shuffled.
UNPREDICTED = 0.7


class SortedRows(NamedTuple):
    """Rows with one world after the other; `last` are the indices of each world's last row."""

    rows: LogRows
    last: np.ndarray
    notes: tuple[str, ...]


def sort_worlds(rows: LogRows) -> tuple[LogRows, tuple[str, ...]]:
    """Put the rows of several worlds in turn, [T, N], one world after the other, and note it."""
    count = _count_worlds(rows) if rows.has_columns else 1
    if count == 1:
        return rows, ()
    return rows.take(_order_by_world(len(rows.obs), count)), _note_worlds(count)


def _order_by_world(size: int, count: int) -> np.ndarray:
    return np.argsort(np.arange(size) % count, kind="stable")


def _note_worlds(count: int) -> tuple[str, ...]:
    return (f"the rows are of {count} worlds in turn: read one world after the other",)


def _count_worlds(rows: LogRows) -> int:
    """Return after how many rows a world's next one stands.

    1 where rows follow one another, or where no number is found.
    """
    size = len(rows.obs)
    if size < 4 or _follow_share(rows, 1) > 0.5:
        return 1
    votes: dict[int, int] = {}
    for i in range(min(PROBED_ROWS, size - 1)):
        later_obs = rows.obs[i + 1 : i + 1 + MAX_WORLDS]
        matches = np.flatnonzero(are_close(rows.next_obs[i][None], later_obs))
        if len(matches):
            gap = int(matches[0]) + 1
            votes[gap] = votes.get(gap, 0) + 1
    gap = max(votes, key=lambda g: votes[g], default=1)
    return gap if _follow_share(rows, gap) > 0.5 else 1


def _follow_share(rows: LogRows, gap: int) -> float:
    """Return the share of rows that the row so many later goes on from."""
    if gap >= len(rows.obs):
        return 0.0
    return float(are_close(rows.next_obs[:-gap], rows.obs[gap:]).mean())


def sort_worlds_by_prediction(rows: LogRows) -> SortedRows:
    """Put the rows of several worlds in turn, without next observations, one after the other."""
    size = len(rows.obs)
    end = np.array([size - 1])
    count = _count_worlds_by_prediction(rows)
    if count == 1:
        return SortedRows(rows, end, _note_nearer_rows(rows))
    if count == 0:
        doubt = (
            "no row goes on from the one before, nor from one a fixed number of rows before: if "
            "the rows are shuffled, or of worlds in another order, no transition here is true; "
            "give next_observations"
        )
        return SortedRows(rows, end, (doubt,))
    order = _order_by_world(size, count)
    last = np.append(np.flatnonzero(np.diff(order % count)), size - 1)
    return SortedRows(rows.take(order), last, _note_worlds(count))


def _count_worlds_by_prediction(rows: LogRows) -> int:
    """Return after how many rows a world's next one stands.

    It is the row that a row and its action predict better than any other: 1 also where there is too
    little to tell, 0 where no later row is predicted.
    """
    obs, action = _select_moving(rows.obs), _select_moving(rows.action)
    size, needed = len(obs), ROWS_A_NUMBER * (obs.shape[1] + action.shape[1] + 1)
    if not obs.shape[1] or size <= needed:
        return 1
    inputs = np.concatenate([obs, action, np.ones((size, 1))], axis=1)
    if _fit_error(obs, inputs, 1) <= UNPREDICTED:
        return 1
    return _find_predicted_gap(obs, inputs, _list_gaps(size, size - needed))


def _find_predicted_gap(obs: np.ndarray, inputs: np.ndarray, gaps: np.ndarray) -> int:
    """Return the gap after which a row is predicted best; 0 where none is."""
    errors = [_fit_error(obs, inputs, int(gap)) for gap in gaps]
    if min(errors, default=np.inf) > UNPREDICTED:
        return 0
    best = int(gaps[np.argmin(errors)])
    # The rows beside a world's next one are other worlds'.
    beside = min(_fit_error(obs, inputs, best - 1), _fit_error(obs, inputs, best + 1))
    return best if beside > UNPREDICTED else 0


def _list_gaps(size: int, below: int) -> np.ndarray:
    """Return after how many rows a world's next one may stand.

    Few, or so many that every world has equally many rows.
    """
    gaps = np.arange(2, MAX_WORLDS + 1)
    likely = gaps[(gaps <= FEW_WORLDS) | (size % gaps == 0)]
    return likely[likely < below]


def _note_nearer_rows(rows: LogRows) -> tuple[str, ...]:
    """Return a note where rows look like worlds in turn that move slowly, or briefly.

    There each row predicts the next. The next row is as far away as any; one some rows later is
    near and moves on, as a gait after a period does not.
    """
    obs = _select_moving(rows.obs)
    gaps = _list_gaps(len(obs), (len(obs) - MIN_ORDINARY) // 2)
    if not obs.shape[1] or not len(gaps):
        return ()
    anywhere = _measure_distance(obs, len(obs) // 2)
    distances = [_measure_distance(obs, int(gap)) for gap in gaps]
    gap, near = int(gaps[np.argmin(distances)]), min(distances)
    if _measure_distance(obs, 1) <= FAR_SHARE * anywhere:
        return ()
    if near > NEAR_SHARE * anywhere or _measure_distance(obs, 2 * gap) < MOVES_ON * near:
        return ()
    return (
        f"rows are much nearer to those {gap} rows later than to the next: if they are of {gap} "
        "worlds in turn, no transition here is true; give next_observations",
    )


def _measure_distance(obs: np.ndarray, gap: int) -> float:
    """Return how far away the row so many later is, the median over rows and numbers."""
    at = _fitted_rows(obs, gap)
    return float(np.median(np.abs(obs[at + gap] - obs[at])))


def _fitted_rows(obs: np.ndarray, gap: int) -> np.ndarray:
    """Return the indices of at most FITTED_ROWS rows that have one so many later."""
    return np.unique(np.linspace(0, len(obs) - 1 - gap, FITTED_ROWS).astype(int))


def _select_moving(column: np.ndarray) -> np.ndarray:
    """Return numbers [B, K] that move in most rows, standardised by quartiles.

    None where they are not plain and finite.
    """
    none = np.zeros((len(column), 0))
    column = column.astype(np.float64)
    if column.ndim != 2 or not column.size or not np.abs(column).max() < 1e100:
        return none
    spread = quartile_ranges(column)
    moving = np.flatnonzero(spread > 0)
    if not len(moving):
        return none
    chosen = moving[np.unique(np.linspace(0, len(moving) - 1, FITTED_NUMBERS).astype(int))]
    scaled = (column[:, chosen] - np.median(column[:, chosen], axis=0)) / spread[chosen]
    return np.clip(scaled, -MAX_SPREADS, MAX_SPREADS)


def _fit_error(obs: np.ndarray, inputs: np.ndarray, gap: int) -> float:
    """Return how badly the row so many later is predicted linearly.

    1 where the prediction is no better than each number's median.
    """
    at = _fitted_rows(obs, gap)
    target, known = obs[at + gap], inputs[at]
    # The small ridge keeps numbers that depend on one another apart; least squares by singular
    # values takes seconds.
    ridge = 1e-6 * len(at) * np.eye(known.shape[1])
    weights = np.linalg.solve(known.T @ known + ridge, known.T @ target)
    error = np.median(np.abs(target - known @ weights), axis=0)
    unknowing = np.median(np.abs(target - np.median(target, axis=0)), axis=0)
    return float(np.median(error / np.maximum(unknowing, 1e-9)))
