"""State-wise alignment of trajectories: the baseline that MATL's discussion sets aside.

The form is ours. MATL's box without omega: line 3 falls away, and in line 4
    rho(s_t) = -|s_t - s'_t|, s'_t where the other agent was at time t, in its episode whose start
    was nearest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from isthmus.learning.advantage import flat
from isthmus.methods.matl import MATL
from isthmus.methods.method import State
from isthmus.problems.problem import Problem
from isthmus.types import Array, Metrics, Transition


class _TimedStates(NamedTuple):
    """Transitions as rows (B, ...); states in units of their spread."""

    time: np.ndarray  # steps since the episode began
    state: np.ndarray
    start: np.ndarray  # the episode's first state

    @staticmethod
    def of(tr: Transition, scale: np.ndarray) -> _TimedStates:
        """Return those of transitions [T, N, ...]."""
        states, starts = flat(tr.obs) / scale, flat(tr.extra["start"]) / scale
        return _TimedStates(tr.extra["time"].ravel(), states, starts)


@dataclass(frozen=True)
class StateAlignment(MATL):
    """Both agents are aligned, as by `matl`.

    States are measured in units of their spread over both batches.
    """

    def _init_discriminator(self, problem: Problem, s: State) -> tuple[()]:
        return ()

    def _discriminate(
        self, omega: Any, tr_s: Transition, tr_r: Transition, key: Array
    ) -> tuple[Any, Metrics]:
        return omega, {}

    def _auxiliary(
        self, omega: Any, tr_s: Transition, tr_r: Transition
    ) -> tuple[np.ndarray, np.ndarray]:
        scale = np.concatenate([tr_s.obs, tr_r.obs]).std((0, 1)) + 1e-6
        return -distances(tr_s, tr_r, scale), -distances(tr_r, tr_s, scale)


def distances(tr: Transition, other: Transition, scale: np.ndarray) -> np.ndarray:
    """Return how far each state is from the other agent's at the same time, float32 [T, N].

    In units of `scale` (O,). Of the other agent's transitions with the same time since their
    episode began, the one counts whose episode's start is nearest; where none lived so long, those
    of its latest time do.
    """
    own, others = _TimedStates.of(tr, scale), _TimedStates.of(other, scale)
    out = np.empty(len(own.time), np.float32)
    known_times = np.unique(others.time)
    for t in np.unique(own.time):
        rows = np.flatnonzero(own.time == t)
        latest = max(np.searchsorted(known_times, t, "right") - 1, 0)
        candidates = np.flatnonzero(others.time == known_times[latest])
        nearest = candidates[_find_nearest(own.start[rows], others.start[candidates])]
        out[rows] = np.linalg.norm(own.state[rows] - others.state[nearest], axis=-1)
    return out.reshape(tr.reward.shape)


def _find_nearest(points: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the index of each point's (P, O) nearest candidate (C, O), (P,)."""
    return np.square(points[:, None] - candidates[None]).sum(-1).argmin(1)
