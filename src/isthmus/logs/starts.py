"""The states in which a task's episodes begin, by which resets without a mark are recognised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.rows import LogRows, measure_steps, quartile_ranges

START_WORLDS = 64  # of which the starts of a task are known
START_DEVIATIONS = 4.5  # around their mean: 1 of 100,000 normal numbers lies beyond
EXPECTED_BY_CHANCE = 0.01  # rows of a whole log, up to which starts are told from other states
MIN_ORDINARY = 20  # rows, from which a step's size is known
# Usual steps: of 28,000 random transitions of the built-in robots 7 are longer, most resets are.
JUMP_STEPS = 4.0
MIN_JUMPS = 5  # rows, from which one place that they lead to may be a start
JUMP_SPREAD = 0.05  # of a log's own spread, up to which jumps lead to one place
JUMP_REACH = 3.0  # interquartile ranges around that place: 4 standard deviations of normal numbers


@dataclass(frozen=True)
class StartBox:
    """The box [O] in which a task's episodes begin.

    `known` is false where the task cannot be begun and the log does not show its starts.
    """

    low: np.ndarray
    high: np.ndarray
    known: bool

    @staticmethod
    def unknown() -> StartBox:
        """Return the box of a task whose starts are not known."""
        return StartBox(np.zeros(0), np.zeros(0), known=False)

    @staticmethod
    def of(domain: Domain) -> StartBox:
        """Sample the starts of a domain's task.

        No step is taken, and nothing of the domain's own dynamics is set.
        """
        begun = find_simulated(domain)
        if not begun.replayable:
            return StartBox.unknown()
        plain = replace(begun.without_settings(), effects=begun.effects)
        first = plain.worlds(START_WORLDS, 0).observation
        reach = START_DEVIATIONS * first.std(0) + 1e-6
        return StartBox(first.mean(0) - reach, first.mean(0) + reach, known=True)

    @staticmethod
    def guess(rows: LogRows) -> StartBox:
        """Guess a log's starts from its jumps without a mark, if they all lead to one place."""
        size = measure_steps(rows.obs, rows.next_obs)
        reached = rows.next_obs[(size > JUMP_STEPS) & ~rows.ended].astype(np.float64)
        if len(reached) < MIN_JUMPS:
            return StartBox.unknown()
        spread, usual = quartile_ranges(reached), quartile_ranges(rows.obs)
        moving = usual > 0
        if not moving.any():
            return StartBox.unknown()
        if np.median(spread[moving] / usual[moving]) > JUMP_SPREAD:
            return StartBox.unknown()
        middle, reach = np.median(reached, axis=0), JUMP_REACH * spread + 1e-6
        return StartBox(middle - reach, middle + reach, known=True)

    def _contains_numbers(self, obs: np.ndarray) -> np.ndarray:
        """Return which numbers of observations [B, O] are as of a start, bool [B, O]."""
        return (obs >= self.low) & (obs <= self.high)

    def contains(self, obs: np.ndarray) -> np.ndarray:
        """Return which observations [B, O] may be a start, bool [B]."""
        return np.all(self._contains_numbers(obs), axis=1)

    def find_entering(self, rows: LogRows) -> np.ndarray:
        """Return which rows lead from elsewhere to a start, bool [B]."""
        return self.contains(rows.next_obs) & ~self.contains(rows.obs)

    def is_narrow(self, obs: np.ndarray) -> bool:
        """Return whether a state of this log [B, O] is hardly ever a start by chance.

        Each number is taken for itself.
        """
        if not self.known or obs.ndim != 2 or obs.shape[1] != len(self.low):
            return False
        inside = self._contains_numbers(obs)
        begins = np.all(inside, axis=1)
        # Where the log itself jumps to its starts, they are not there by chance.
        if begins[1:].any() and self._jumps_to(obs, begins):
            inside = inside[~begins]
        return float(np.prod(inside.mean(0))) * len(obs) < EXPECTED_BY_CHANCE

    @staticmethod
    def _jumps_to(obs: np.ndarray, begins: np.ndarray) -> bool:
        sizes = measure_steps(obs[:-1], obs[1:])
        return bool(np.median(sizes[begins[1:]]) > JUMP_STEPS)


def find_simulated(domain: Domain) -> Domain:
    """Return the domain whose robot a log is of: the wrapped one where the target is a log's."""
    return getattr(domain, "wrapped", None) or domain


def lead_to_starts(rows: LogRows, which: np.ndarray, starts: StartBox) -> bool:
    """Return whether most rows at the indices `which` lead to a start.

    Into its box, or, where that is not known, by a step like no other row's.
    """
    if not len(which):
        return False
    if starts.is_narrow(rows.obs):
        return bool(starts.find_entering(rows)[which].mean() > 0.5)
    size = measure_steps(rows.obs, rows.next_obs)
    others = ~rows.ended
    others[which] = False
    if others.sum() < MIN_ORDINARY:
        return False
    return bool(np.median(size[which]) > np.quantile(size[others], 0.99))


def note_unmarked_starts(rows: LogRows, starts: StartBox) -> tuple[str, ...]:
    """Return a note of how many transitions without an end lead to what looks like a start."""
    count = count_unmarked_starts(rows, starts)
    if not count:
        return ()
    return (
        f"{count} transitions without a marked end lead to what looks like the start of an "
        "episode: if the robot was reset there, they never were; give timeouts",
    )


def count_unmarked_starts(rows: LogRows, starts: StartBox) -> int:
    """Return how many rows without an end lead to what looks like a start."""
    if not rows.has_columns:
        return 0
    if not starts.known:
        starts = StartBox.guess(rows)
    if not starts.is_narrow(rows.obs):
        return 0
    return int((starts.find_entering(rows) & ~rows.ended).sum())
