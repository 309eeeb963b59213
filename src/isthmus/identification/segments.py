"""Segments of a log: where each begins, what was commanded, what was then observed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.logs.log import Log
from isthmus.tasks.task import Task
from isthmus.types import BadValue

BLOCK_STEPS = 50
"""Transitions of a block: what lies within one is not counted as independent."""

MIN_BLOCKS = 20
"""Of a log, where it is long enough for shorter blocks."""


class Segments(NamedTuple):
    """S segments of H steps. float64 unless said."""

    qpos: np.ndarray  # [S, nq] the state told by the first observation
    qvel: np.ndarray  # [S, nv]
    obs: np.ndarray  # [S, O] the first observation
    actions: np.ndarray  # [S, H, A] applied, held for a control step each
    targets: np.ndarray  # [S, H, O] observed after each step
    next_qpos: np.ndarray  # [S, nq] the positions told by the observation after the first step
    block: np.ndarray  # int64 [S] which segments may depend on each other

    @property
    def size(self) -> int:
        """Return S."""
        return len(self.qpos)

    @property
    def horizon(self) -> int:
        """Return H."""
        return self.actions.shape[1]

    def take(self, which: np.ndarray) -> Segments:
        """Return the segments at indices, or where a mask [S] is true."""
        return Segments(*(column[which] for column in self))


def number_blocks(log: Log, horizon: int) -> np.ndarray:
    """Return each row's block, int64 [B]: an episode, or about BLOCK_STEPS of a longer one.

    Of a short log fewer steps, of any a multiple of `horizon`.
    """
    first = np.searchsorted(log.episode, log.episode)
    steps = min(BLOCK_STEPS, log.size // MIN_BLOCKS)
    steps = max(1, round(steps / horizon)) * horizon
    part = (np.arange(log.size) - first) // steps
    pairs = np.stack([log.episode, part], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def cut_segments(
    log: Log, task: Task, horizon: int, delay: int = 0, blocks_of: int | None = None
) -> Segments:
    """Cut a log into segments of `horizon` steps that do not overlap.

    Actions are those of `delay` steps before; no segment reaches across episodes or blocks, which
    are numbered as for segments of `blocks_of` steps (None: of `horizon`). Raises BadValue where
    the log holds none.
    """
    qpos, qvel = tell_state(task, log.obs)
    block = number_blocks(log, blocks_of or horizon)
    rows = _list_starts(log, block, horizon, delay)
    told = _find_told(np.concatenate([qpos, qvel], axis=1))
    rows = rows[told[rows]]
    if not len(rows):
        raise BadValue(
            f"the log holds no segment of {horizon + delay} steps that begins in a known state; "
            "lower --horizon, or log more"
        )
    steps = rows[:, None] + np.arange(horizon)
    return Segments(
        qpos=qpos[rows],
        qvel=qvel[rows],
        obs=log.obs[rows].astype(np.float64),
        actions=log.action[steps - delay].astype(np.float64),
        targets=log.next_obs[steps].astype(np.float64),
        next_qpos=tell_state(task, log.next_obs[rows])[0],
        block=block[rows],
    )


def tell_state(task: Task, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the states [B, nq], [B, nv] that observations [B, O] tell, NaN where they do not.

    Raises BadValue for a task that does not say how.
    """
    try:
        qpos, qvel = task.state_of(obs.astype(np.float64))
    except NotImplementedError:
        raise BadValue(
            f"the task {task.name} does not say which state an observation is of; write its "
            "state_of(obs)"
        ) from None
    return np.asarray(qpos, float), np.asarray(qvel, float)


def _find_told(state: np.ndarray) -> np.ndarray:
    """Return which rows tell every coordinate that any row tells, bool [B]."""
    missing = np.isnan(state)
    never = missing.all(axis=0)
    return np.all(~missing[:, ~never], axis=1)


def _list_starts(log: Log, block: np.ndarray, horizon: int, delay: int) -> np.ndarray:
    """Return the first rows of segments, int64 [S]."""
    starts = []
    row = 0
    while row + horizon <= log.size:
        last = row + horizon - 1
        inside = block[last] == block[row]
        if inside and row - delay >= 0 and log.episode[row - delay] == log.episode[row]:
            starts.append(row)
            row += horizon
        else:
            row += 1
    return np.array(starts, np.int64)
