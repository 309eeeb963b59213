"""Where a log's episodes end, if its rows or its marks do not say it plainly.

    [T, N]       rows of N worlds in turn, as a vector environment returns them: put one world after the other
                 (without next observations: told by which later row a row and its action predict)
    next step    Gymnasium's default autoreset: the row after an end leads from the last state to a start; left out
    same step    autoreset within the step: the next observation of an end is a start; the row is left out
    unmarked     more rows without an end than an episode has steps: cut by the time limit, or refused

What was done is said in a line. What only looks wrong is counted, said and left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.types import BadValue

MAX_WORLDS = 4096  # of a vector environment whose rows are looked for
PROBED_ROWS = 16  # from which the number of worlds is guessed, before all rows are asked
START_WORLDS = 64  # of which the starts of a task are known
START_DEVIATIONS = 4.5  # around their mean: 1 of 100,000 normal numbers lies beyond
EXPECTED_BY_CHANCE = 0.01  # rows of a whole log, up to which starts are told from other states
RARE_SHARE = 0.01  # share of other rows, up to which a reward is that of resets alone
MIN_ORDINARY = 20  # rows, from which a step's size is known
MIN_RESETS = 3  # rows, from which a reward that they share says that they are alike
# usual steps: of 28,000 random transitions of the built-in robots 7 are longer, most resets are
JUMP_STEPS = 4.0
MIN_JUMPS = 5  # rows, from which one place that they lead to may be a start
JUMP_SPREAD = 0.05  # of a log's own spread, up to which jumps lead to one place
JUMP_REACH = 3.0  # interquartile ranges around that place: 4 standard deviations of normal numbers
FEW_WORLDS = 64  # up to which their number need not divide that of the rows
FAR_SHARE = 0.8  # of the distance of any two rows: from there on the next row is as far as any
NEAR_SHARE = 0.2  # of the same: up to there a later row is near
MOVES_ON = 1.3  # times the distance of one step: the least that two of them make
FITTED_ROWS = 1000  # from which it is told which later row a row predicts
FITTED_NUMBERS = 32  # observed, and as many actions: the most that such a prediction is made from
ROWS_A_NUMBER = 5  # the fewest rows for each number that a prediction is made from
MOST_SPREADS = (
    5.0  # interquartile ranges from the median: a number further away would decide a fit alone
)
# of an error without knowledge: 0.0-0.52 in logs of one world, 0.9-1.1 of several or shuffled
UNPREDICTED = 0.7
_NONE = np.zeros(0, int)  # no rows


class LogRows(NamedTuple):
    """Transitions [B, ...] as a file holds them."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated

    @property
    def has_columns(self) -> bool:
        return self.obs.ndim == 2 and len(self.obs) > 0

    def take(self, which: np.ndarray) -> LogRows:
        return LogRows(*(column[which] for column in self))


class RepairedRows(NamedTuple):
    """Rows without those that never were transitions.

    `begins` marks the first row of each stretch that nothing joins to the row before, bool [B].
    """

    rows: LogRows
    begins: np.ndarray
    notes: tuple[str, ...]

    @property
    def episode(self) -> np.ndarray:
        """Each row's stretch, int64 [B], from 0 on."""
        return np.cumsum(self.begins) - self.begins[:1].sum()


# Starts


@dataclass(frozen=True)
class StartBox:
    """The box [O] in which a task's episodes begin; `known` where the task is one that can be begun
    here.
    """

    low: np.ndarray
    high: np.ndarray
    known: bool

    @staticmethod
    def of(domain: Domain) -> StartBox:
        """Sample the starts of a domain's task. No step is taken, and nothing of the domain's own
        dynamics is set.
        """
        like = getattr(domain, "like", None) or domain
        if not like.replayable:
            return StartBox(np.zeros(0), np.zeros(0), known=False)
        plain = replace(like.without_settings(), effects=like.effects)
        first = plain.worlds(START_WORLDS, 0).observation
        reach = START_DEVIATIONS * first.std(0) + 1e-6
        return StartBox(first.mean(0) - reach, first.mean(0) + reach, known=True)

    @staticmethod
    def jumped_to(rows: LogRows) -> StartBox:
        """Guess the starts of a log from its jumps without a mark, if they all lead to one place."""
        size = _step_sizes(rows.obs, rows.next_obs)
        reached = rows.next_obs[(size > JUMP_STEPS) & ~rows.ended].astype(np.float64)
        unknown = StartBox(np.zeros(0), np.zeros(0), known=False)
        if len(reached) < MIN_JUMPS:
            return unknown
        spread, usual = _quartile_ranges(reached), _quartile_ranges(rows.obs)
        moving = usual > 0
        if not moving.any() or np.median(spread[moving] / usual[moving]) > JUMP_SPREAD:
            return unknown
        middle, reach = np.median(reached, axis=0), JUMP_REACH * spread + 1e-6
        return StartBox(middle - reach, middle + reach, known=True)

    def inside(self, obs: np.ndarray) -> np.ndarray:
        """Which numbers of observations [B, O] are as of a start, bool [B, O]."""
        return (obs >= self.low) & (obs <= self.high)

    def holds(self, obs: np.ndarray) -> np.ndarray:
        """Which observations [B, O] may be a start, bool [B]."""
        return np.all(self.inside(obs), axis=1)

    def entered(self, rows: LogRows) -> np.ndarray:
        """Which rows lead from elsewhere to a start, bool [B]."""
        return self.holds(rows.next_obs) & ~self.holds(rows.obs)

    def narrow(self, obs: np.ndarray) -> bool:
        """Whether a state of this log is hardly ever a start by chance, each number taken for
        itself.
        """
        if not self.known or obs.ndim != 2 or obs.shape[1] != len(self.low):
            return False
        inside = self.inside(obs)
        own = np.all(inside, axis=1)
        # Where the log itself jumps to its starts, they are not there by chance.
        if own[1:].any() and np.median(_step_sizes(obs[:-1], obs[1:])[own[1:]]) > JUMP_STEPS:
            inside = inside[~own]
        return float(np.prod(inside.mean(0))) * len(obs) < EXPECTED_BY_CHANCE


def lead_to_starts(rows: LogRows, which: np.ndarray, starts: StartBox) -> bool:
    """Whether most rows at the indices `which` lead to a start: into its box, or else by a step
    like no other row's.
    """
    if not len(which):
        return False
    if starts.narrow(rows.obs):
        return bool(starts.entered(rows)[which].mean() > 0.5)
    size = _step_sizes(rows.obs, rows.next_obs)
    others = ~rows.ended
    others[which] = False
    if others.sum() < MIN_ORDINARY:
        return False
    return bool(np.median(size[which]) > np.quantile(size[others], 0.99))


def _step_sizes(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
    """How far each row leads, [B]: of all observed numbers the median, each in its own median step."""
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what is not finite is refused later, by name
        step = np.abs(next_obs.astype(np.float64) - obs)
    usual = np.median(step, axis=0)
    moving = usual > 0
    if not moving.any():
        return np.zeros(len(step))
    return np.median(step[:, moving] / usual[moving], axis=1)


def _quartile_ranges(obs: np.ndarray) -> np.ndarray:
    """Return each number's interquartile range, [O]."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile(obs.astype(np.float64), (0.25, 0.75), axis=0)
        return high - low


def note_unmarked_starts(rows: LogRows, starts: StartBox) -> tuple[str, ...]:
    """Say how many transitions lead to what looks like a start, though no end is marked."""
    count = _count_unmarked_starts(rows, starts)
    if not count:
        return ()
    return (
        f"{count} transitions without a marked end lead to what looks like the start of an "
        "episode: if the robot was "
        "reset there, they never were; give timeouts",
    )


def _count_unmarked_starts(rows: LogRows, starts: StartBox) -> int:
    if not rows.has_columns:
        return 0
    if not starts.known:
        starts = StartBox.jumped_to(rows)
    if not starts.narrow(rows.obs):
        return 0
    return int((starts.entered(rows) & ~rows.ended).sum())


# Vector environments


def sort_worlds(rows: LogRows) -> tuple[LogRows, tuple[str, ...]]:
    """Put the rows of several worlds in turn, [T, N], one world after the other."""
    count = _count_worlds(rows) if rows.has_columns else 1
    if count == 1:
        return rows, ()
    return rows.take(_order_by_world(len(rows.obs), count)), _note_worlds(count)


def _order_by_world(size: int, count: int) -> np.ndarray:
    return np.argsort(np.arange(size) % count, kind="stable")


def _note_worlds(count: int) -> tuple[str, ...]:
    return (f"the rows are of {count} worlds in turn: read one world after the other",)


def _count_worlds(rows: LogRows) -> int:
    """Return after how many rows a world's next one stands: 1 where rows follow one another, or
    nothing is found.
    """
    size = len(rows.obs)
    if size < 4 or _follow_share(rows, 1) > 0.5:
        return 1
    votes: dict[int, int] = {}
    for i in range(min(PROBED_ROWS, size - 1)):
        ahead = rows.obs[i + 1 : i + 1 + MAX_WORLDS]
        found = np.flatnonzero(are_close(rows.next_obs[i][None], ahead))
        if len(found):
            gap = int(found[0]) + 1
            votes[gap] = votes.get(gap, 0) + 1
    gap = max(votes, key=lambda g: votes[g], default=1)
    return gap if _follow_share(rows, gap) > 0.5 else 1


def _follow_share(rows: LogRows, gap: int) -> float:
    """Return the share of rows that the row so many later goes on from."""
    if gap >= len(rows.obs):
        return 0.0
    return float(are_close(rows.next_obs[:-gap], rows.obs[gap:]).mean())


def are_close(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which rows are equal but for rounding, bool [B]."""
    same: np.ndarray = np.isclose(first, second, rtol=1e-5, atol=1e-6)
    return np.all(same, axis=tuple(range(1, first.ndim)))


def drop_resets(rows: LogRows, starts: StartBox, begins: np.ndarray | None = None) -> RepairedRows:
    """Leave out what a vector environment's autoreset put into a log: see `docs/datasets.md`,
    **Vector environments**.

    An end that another row goes on from is not plain: either that row is the reset (next step), or
    the end's next observation is the reset's (same step), or nothing was reset and both are
    transitions. `begins` [B] says where episodes begin, as far as that is known.
    """
    size = len(rows.obs)
    begins = np.zeros(size, bool) if begins is None else begins.copy()
    if not rows.has_columns:
        return RepairedRows(rows, begins, ())
    ends, after = _joined_ends(rows)
    reset = np.union1d(_reset_rows(rows, ends, after, starts), _unmarked_resets(rows, starts))
    plain = ~np.isin(after, reset)
    overwritten, doubts = _overwritten_ends(rows, ends[plain], starts)
    notes = (*_note_resets(rows, reset), *_note_overwritten(rows, overwritten), *doubts)
    keep = np.ones(size, bool)
    keep[reset] = False
    keep[overwritten] = False
    # A row behind one that was left out begins anew.
    begins[1:] |= ~keep[:-1]
    return RepairedRows(rows.take(keep), begins[keep], notes)


def _joined_ends(rows: LogRows) -> tuple[np.ndarray, np.ndarray]:
    """The marked ends that a row goes on from, and that row: indices [J] each.

    The row is the next one where it fits, else any that begins an episode (episodes of several
    worlds lie in the order in which they ended).
    """
    ends = np.flatnonzero(rows.ended)
    begins = ends[ends + 1 < len(rows.obs)] + 1
    at = {_key(obs): int(i) for i, obs in zip(begins[::-1], rows.obs[begins[::-1]], strict=True)}
    following = np.minimum(ends + 1, len(rows.obs) - 1)
    next_is_it = are_close(rows.next_obs[ends], rows.obs[following]) & (following > ends)
    after = np.array([at.get(_key(obs), -1) for obs in rows.next_obs[ends]], int)
    after[next_is_it] = following[next_is_it]
    return ends[after >= 0], after[after >= 0]


def _key(obs: np.ndarray) -> bytes:
    """An observation's content, in single precision; 0 and -0 are one."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.asarray(obs, np.float32) + np.float32(0)).tobytes()


def _reset_rows(rows: LogRows, ends: np.ndarray, after: np.ndarray, starts: StartBox) -> np.ndarray:
    """Which of the rows `after` are a next-step autoreset: no end, all paid the same, and from an
    end to a start.
    """
    paid = _find_reset_reward(rows, after)
    alike = (rows.reward == paid) & ~rows.ended
    candidates = np.unique(after[alike[after]])
    if not _follow_ends(rows, ends[alike[after]], candidates, starts):
        return candidates[:0]
    others = np.ones(len(rows.obs), bool)
    others[after] = False
    alike_share = (rows.reward[others] == paid).sum() / max(1, others.sum())
    if alike_share <= RARE_SHARE:
        return candidates
    # Where little is ever paid, a reward of 0 says nothing: the whole log must look like it.
    if len(candidates) < len(np.unique(after)) or lead_to_starts(rows, ends, starts):
        return candidates[:0]
    return candidates if lead_to_starts(rows, candidates, starts) else candidates[:0]


def _find_reset_reward(rows: LogRows, which: np.ndarray) -> float:
    """The reward that resets pay: 0, or what a shift or scale made of it, which most rows at these
    indices share.
    """
    values, counts = np.unique(rows.reward[which[~rows.ended[which]]], return_counts=True)
    most = int(counts.max(initial=0))
    if most < MIN_RESETS or most <= len(which) / 2:
        return 0.0
    return float(values[counts.argmax()])


def _follow_ends(rows: LogRows, ends: np.ndarray, candidates: np.ndarray, starts: StartBox) -> bool:
    """Whether the candidates lead from where the ends led, and not from a start, as an episode's
    first row does.
    """
    if not len(candidates):
        return False
    if starts.narrow(rows.obs):
        if starts.holds(rows.obs[candidates]).mean() > 0.5:
            return False
        if starts.entered(rows)[candidates].mean() > 0.5:
            return True
    size = _step_sizes(rows.obs, rows.next_obs)
    return bool(np.median(size[candidates]) >= np.median(size[ends]))


def _unmarked_resets(rows: LogRows, starts: StartBox) -> np.ndarray:
    """Which rows are a next-step autoreset behind an end without a mark: they lead to a start and
    all pay the same.
    """
    if not starts.narrow(rows.obs):
        return _NONE
    entered = starts.entered(rows)
    alike = (rows.reward == _find_reset_reward(rows, np.flatnonzero(entered))) & ~rows.ended
    alike_share = (alike & ~entered).sum() / max(1, (~entered).sum())
    return np.flatnonzero(entered & alike) if alike_share <= RARE_SHARE else _NONE


def _overwritten_ends(
    rows: LogRows, ends: np.ndarray, starts: StartBox
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which of the ends have the reset's observation for their next, and what is to be said where
    it cannot be told.
    """
    if lead_to_starts(rows, ends, starts):
        # Nothing goes on from the last row of a world, which may be such an end as well.
        alone = np.setdiff1d(np.flatnonzero(rows.ended), ends)
        return np.append(ends, alone) if lead_to_starts(rows, alone, starts) else ends, ()
    if not len(ends) or starts.narrow(rows.obs):
        return ends[:0], ()
    doubt = (
        f"{len(ends)} episodes end in the observation in which the next begins: if the robot was "
        "reset there, the next "
        "observations of the ends are not theirs; give info['final_obs'] there"
    )
    return ends[:0], (doubt,)


def _note_resets(rows: LogRows, reset: np.ndarray) -> tuple[str, ...]:
    if not len(reset):
        return ()
    paid = _find_reset_reward(rows, reset)
    return (
        f"{len(reset)} rows after an end are left out: they lead to the next start, pay {paid:g} "
        "and ignore their "
        "action, as a vector environment's next-step autoreset does",
    )


def _note_overwritten(rows: LogRows, ends: np.ndarray) -> tuple[str, ...]:
    if not len(ends):
        return ()
    falls = int(rows.terminated[ends].sum())
    fell = f", {falls} of them falls" if falls else ""
    return (
        f"{len(ends)} ends are left out{fell}: their next observation is the next episode's first, "
        "as of a vector "
        "environment's same-step autoreset; give info['final_obs'] there to keep them",
    )


# Without next observations


def add_next_obs(rows: LogRows, domain: Domain, starts: StartBox) -> RepairedRows:
    """Take each row's next observation from the row after it, and leave out the rows that have
    none.

    `rows.next_obs` is not looked at. Rows of several worlds in turn are put one world after the
    other. Raises BadValue where ends are missing and the time limit does not give them.
    """
    rows, last, sorted_notes = _sort_worlds_by_prediction(rows)
    following = np.append(rows.obs[1:], rows.obs[-1:], axis=0)
    following[last] = rows.obs[last]
    rows = rows._replace(next_obs=following)
    reset = (
        np.union1d(_resets_behind(rows, last, starts), _unmarked_resets(rows, starts))
        if rows.has_columns
        else _NONE
    )
    rows, notes = cut_by_time_limit(rows, np.union1d(reset, last), domain, starts)
    lost = rows.ended.copy()
    lost[last] = True
    led = np.setdiff1d(
        reset[reset > 0] - 1, last
    )  # a reset's row begins in the state in which the end left the robot
    lost[led] = False
    lost[reset] = False
    keep = ~lost
    keep[reset] = False
    # A row behind an end, or behind one that was left out, begins anew.
    begins = np.append(True, rows.ended[:-1] | ~keep[:-1])
    lost_notes = note_lost(int(lost.sum()), int(rows.terminated[lost].sum()))
    said = (*sorted_notes, *lost_notes, *_note_resets(rows, reset), *notes)
    return RepairedRows(rows.take(keep), begins[keep], said)


def _sort_worlds_by_prediction(rows: LogRows) -> tuple[LogRows, np.ndarray, tuple[str, ...]]:
    """Put the rows of several worlds in turn one world after the other; also return each world's
    last row, indices.
    """
    size = len(rows.obs)
    end = np.array([size - 1])
    count = _count_worlds_by_prediction(rows)
    if count == 1:
        return rows, end, _note_nearer_rows(rows)
    if count == 0:
        doubt = (
            "no row goes on from the one before, nor from one a fixed number of rows before: if "
            "the rows are shuffled, "
            "or of worlds in another order, no transition here is true; give next_observations"
        )
        return rows, end, (doubt,)
    order = _order_by_world(size, count)
    last = np.append(np.flatnonzero(np.diff(order % count)), size - 1)
    return rows.take(order), last, _note_worlds(count)


def _count_worlds_by_prediction(rows: LogRows) -> int:
    """Return after how many rows a world's next one stands, which a row and its action predict
    better than any other.

    1 also where there is too little to tell it, 0 where no later row is predicted.
    """
    obs, action = (_select_moving(x) for x in (rows.obs, rows.action))
    size, needed = len(obs), ROWS_A_NUMBER * (obs.shape[1] + action.shape[1] + 1)
    if not obs.shape[1] or size <= needed:
        return 1
    given = np.concatenate([obs, action, np.ones((size, 1))], axis=1)
    if _fit_error(obs, given, 1) <= UNPREDICTED:
        return 1
    gaps = _list_gaps(size, size - needed)
    errors = [_fit_error(obs, given, int(gap)) for gap in gaps]
    if not errors or min(errors) > UNPREDICTED:
        return 0
    best = int(gaps[np.argmin(errors)])
    # The rows beside a world's next one are other worlds'.
    beside = min(_fit_error(obs, given, best - 1), _fit_error(obs, given, best + 1))
    return best if beside > UNPREDICTED else 0


def _list_gaps(size: int, below: int) -> np.ndarray:
    """List after how many rows a world's next one may stand: few, or so many that every world has
    equally many rows.
    """
    every = np.arange(2, MAX_WORLDS + 1)
    likely = every[(every <= FEW_WORLDS) | (size % every == 0)]
    return likely[likely < below]


def _note_nearer_rows(rows: LogRows) -> tuple[str, ...]:
    """Say where rows look like those of worlds in turn that move so slowly, or so briefly, that
    each predicts the next.

    The next row is as far away as any; one some rows later is near and moves on, as a gait after a
    period does not.
    """
    obs = _select_moving(rows.obs)
    gaps = _list_gaps(len(obs), (len(obs) - MIN_ORDINARY) // 2)
    if not obs.shape[1] or not len(gaps):
        return ()
    anywhere = _measure_distance(obs, len(obs) // 2)
    distances = [_measure_distance(obs, int(gap)) for gap in gaps]
    gap, near = int(gaps[np.argmin(distances)]), min(distances)
    is_far = _measure_distance(obs, 1) > FAR_SHARE * anywhere
    if (
        not is_far
        or near > NEAR_SHARE * anywhere
        or _measure_distance(obs, 2 * gap) < MOVES_ON * near
    ):
        return ()
    return (
        f"rows are much nearer to those {gap} rows later than to the next: if they are of {gap} "
        "worlds in turn, no "
        "transition here is true; give next_observations",
    )


def _measure_distance(obs: np.ndarray, gap: int) -> float:
    """Return how far away the row so many later is, the median over rows and numbers."""
    at = np.unique(np.linspace(0, len(obs) - 1 - gap, FITTED_ROWS).astype(int))
    return float(np.median(np.abs(obs[at + gap] - obs[at])))


def _select_moving(column: np.ndarray) -> np.ndarray:
    """Numbers [B, K] that move in most rows, standardised by quartiles; none where they are not
    plain and finite.
    """
    none = np.zeros((len(column), 0))
    column = column.astype(np.float64)
    if column.ndim != 2 or not column.size or not np.abs(column).max() < 1e100:
        return none
    spread = _quartile_ranges(column)
    moving = np.flatnonzero(spread > 0)
    if not len(moving):
        return none
    chosen = moving[np.unique(np.linspace(0, len(moving) - 1, FITTED_NUMBERS).astype(int))]
    scaled = (column[:, chosen] - np.median(column[:, chosen], axis=0)) / spread[chosen]
    return np.clip(scaled, -MOST_SPREADS, MOST_SPREADS)


def _fit_error(obs: np.ndarray, given: np.ndarray, gap: int) -> float:
    """Return how badly the row so many later is predicted linearly: 1 where no better than by each
    number's median.
    """
    at = np.unique(np.linspace(0, len(obs) - 1 - gap, FITTED_ROWS).astype(int))
    target = obs[at + gap]
    known = given[at]
    # The small ridge keeps numbers that depend on one another apart; least squares by singular
    # values takes seconds.
    weights = np.linalg.solve(
        known.T @ known + 1e-6 * len(at) * np.eye(known.shape[1]), known.T @ target
    )
    error = np.median(np.abs(target - known @ weights), axis=0)
    unknowing = np.median(np.abs(target - np.median(target, axis=0)), axis=0)
    return float(np.median(error / np.maximum(unknowing, 1e-9)))


def note_lost(count: int, falls: int) -> tuple[str, ...]:
    if not count:
        return ()
    fell = f", {falls} of them falls" if falls else ""
    return (
        f"{count} transitions without a next observation are left out{fell}: give next "
        "observations to keep them",
    )


def _resets_behind(rows: LogRows, last: np.ndarray, starts: StartBox) -> np.ndarray:
    """The rows after marked ends that a next-step autoreset made, if it made most. `last` are the
    worlds' last rows.

    Where starts are not known, the log's first row must pay otherwise: a logger that has no reward
    yet writes 0 into the first row of every episode.
    """
    ends = np.setdiff1d(np.flatnonzero(rows.ended), last)
    if not len(ends):
        return _NONE
    if not starts.narrow(rows.obs) and rows.reward[0] == _find_reset_reward(rows, ends + 1):
        return _NONE
    reset = _reset_rows(rows, ends, ends + 1, starts)
    return reset if len(reset) > len(ends) / 2 else _NONE


def cut_by_time_limit(
    rows: LogRows, apart: np.ndarray, domain: Domain, starts: StartBox
) -> tuple[LogRows, tuple[str, ...]]:
    """Mark an end wherever more rows than an episode's steps have none, counting anew behind the
    indices `apart`.

    Raises BadValue where that cannot be right.
    """
    limit, size = domain.time_limit, len(rows.obs)
    boundary = rows.ended.copy()
    boundary[apart] = True
    first = np.append(0, np.flatnonzero(boundary[:-1]) + 1)
    lengths = np.diff(np.append(first, size))
    longest = int(lengths.max())
    if longest <= limit:
        return rows, ()
    position = np.arange(size) - np.repeat(first, lengths) + 1
    cut = (position % limit == 0) & np.repeat(lengths > limit, lengths)
    marked = rows._replace(truncated=rows.truncated | (cut & ~rows.terminated))
    unmarked = f"{longest:,} rows in a row without a marked end, more than the {limit:,} steps of an episode of {domain}"
    left = _count_unmarked_starts(marked.take(~boundary), starts)
    if left:
        raise BadValue(
            f"has {unmarked}; cut every {limit:,} rows, {left} transitions still lead to what "
            "looks like a start: give "
            "timeouts, or next_observations"
        )
    return marked, (
        f"{unmarked}: cut every {limit:,} rows; give timeouts if episodes ended elsewhere",
    )


def note_overlong(lengths: np.ndarray, domain: Domain) -> tuple[str, ...]:
    """Say that an episode [E] is longer than the domain's may be."""
    limit, longest = domain.time_limit, int(lengths.max())
    if longest <= limit:
        return ()
    return (
        f"the longest episode has {longest:,} transitions, more than the {limit:,} steps of "
        f"{domain}'s: where ends are "
        "not marked, returns and lengths say nothing",
    )
