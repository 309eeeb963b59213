"""The residual: worlds put into logged states, stepped by held commands, compared.

All perturbed worlds of a Jacobian are one batch: world [c, s] is segment s under perturbation c.
Commands are held for a whole control step; an observation is read after the step, as the task reads
it; time is counted in steps, not in stamps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.physics_simulation import build_simulator
from isthmus.identification.log_space import LogSpace
from isthmus.identification.segments import Segments
from isthmus.identification.starts import StartCoordinates
from isthmus.tasks.motors import command_motors
from isthmus.tasks.task import SimView, find_task

MAX_WORLDS = 40_000  # in one batch
PARAMETER_STEP = 1e-4  # of central differences, in u
START_STEP = 1e-5  # of one-sided differences, in a coordinate's own unit
LOST = 1e6
"""What a diverged world is predicted to observe: far from everything."""


class Linearization(NamedTuple):
    """Predictions and their derivatives at one point. H + 1 rows where starts are fitted."""

    predicted: np.ndarray  # [S, H, O]
    by_parameter: np.ndarray  # [S, H, O, P]
    by_start: np.ndarray  # [S, H, O, D]


class Predictor:
    """Predicts what a robot observes over segments, for any parameters and starts."""

    def __init__(self, source: Domain, space: LogSpace, segments: Segments, fits_starts: bool):
        self.task = find_task(source.task)
        self.source, self.space, self.segments = source, space, segments
        self.starts = StartCoordinates.of(source, segments, fits_starts)
        self.observed_rows = segments.horizon + (1 if self.starts.size else 0)
        names = dict.fromkeys((*source.names, *space.names))
        self.names = tuple(names)
        fixed = dict(source.settings)
        table = source.table()
        self._base = np.array([fixed.get(name, table[name].default) for name in names], float)
        self._columns = [self.names.index(name) for name in space.names]
        self._simulators: dict[int, _Batch] = {}
        self.steps = 0  # of worlds, ever
        self.untold = np.zeros((0, len(space.names)))  # directions [K, P] that the fit leaves alone

    @property
    def targets(self) -> np.ndarray:
        """What was observed, [S, rows, O]: the first observation too where starts are fitted."""
        if self.starts.size:
            return np.concatenate([self.segments.obs[:, None], self.segments.targets], axis=1)
        return self.segments.targets

    def predict(self, u: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return predictions [S, rows, O] for parameters u [P] and starts [S, D]."""
        return self._run(u[None], start[None])[0]

    def linearize(self, u: np.ndarray, start: np.ndarray) -> Linearization:
        """Return predictions and derivatives, by one batch of 2 P + D + 1 copies of the log."""
        count, coordinates = len(u), self.starts.size
        us = np.tile(u, (2 * count + coordinates + 1, 1))
        us[1 : 2 * count + 1] += (
            PARAMETER_STEP * np.repeat(np.eye(count), 2, axis=0) * _signs(count)
        )
        starts = np.tile(start, (len(us), 1, 1))
        starts[2 * count + 1 :] += START_STEP * np.eye(coordinates)[:, None, :]
        out = self._run(us, starts)
        by_parameter = (out[1 : 2 * count + 1 : 2] - out[2 : 2 * count + 1 : 2]) / (
            2 * PARAMETER_STEP
        )
        by_start = (out[2 * count + 1 :] - out[0]) / START_STEP
        lost = _find_lost(out)
        by_parameter[:, lost] = 0.0
        by_start[:, lost] = 0.0
        return Linearization(out[0], np.moveaxis(by_parameter, 0, -1), np.moveaxis(by_start, 0, -1))

    def _run(self, us: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return predictions [C, S, rows, O] under us [C, P] and starts [C, S, D]."""
        copies, size = len(us), self.segments.size
        part = max(1, MAX_WORLDS // copies)
        out = np.empty((copies, size, self.observed_rows, self.segments.obs.shape[1]))
        values = np.tile(self._base, (copies, 1))
        values[:, self._columns] = self.space.decode(us)
        for first in range(0, size, part):
            rows = np.arange(first, min(first + part, size))
            batch = self._batch(copies, len(rows))
            batch.run(self, values, rows, starts[:, rows], out)
            self.steps += copies * len(rows) * self.segments.horizon
        return out

    def _batch(self, copies: int, segments: int) -> _Batch:
        n = copies * segments
        if n not in self._simulators:
            if len(self._simulators) >= 3:
                self._simulators.clear()
            self._simulators[n] = _Batch(self.source, self.names, n)
        return self._simulators[n]


class _Batch:
    """A simulator of n worlds, which begin where segments do."""

    def __init__(self, source: Domain, names: tuple[str, ...], n: int):
        self.task = find_task(source.task)
        self.simulator = build_simulator(self.task, source.engine, names, n, source.numerics)
        self.everyone = np.arange(n)
        self.began: tuple[bytes, np.ndarray] | None = None

    def run(
        self,
        predictor: Predictor,
        values: np.ndarray,
        rows: np.ndarray,
        starts: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Write predictions of segments `rows` (k,) into out [C, S, rows, O]."""
        copies, k = len(values), len(rows)
        simulator, segments = self.simulator, predictor.segments
        simulator.set_parameters(self.everyone, np.repeat(values, k, axis=0))
        view = SimView(simulator, self.everyone)
        lost = np.zeros(len(self.everyone), bool)
        self._begin(predictor, rows, starts)
        at, given = 0, list(self.task.given_columns)
        with np.errstate(all="ignore"):
            if predictor.starts.size:
                seen = self.task.observe(view)
                seen[:, given] = np.tile(segments.obs[rows][:, given], (copies, 1))
                out[:, rows, 0] = seen.reshape(copies, k, -1)
                at = 1
            for h in range(segments.horizon):
                actions = np.tile(segments.actions[rows, h], (copies, 1))
                lost |= simulator.step(self.everyone, command_motors(self.task, actions))
                seen = self.task.observe(view)
                # A command is no motion: it is as it was observed.
                seen[:, given] = np.tile(segments.targets[rows, h][:, given], (copies, 1))
                seen[lost] = LOST
                out[:, rows, at + h] = seen.reshape(copies, k, -1)

    def _begin(self, predictor: Predictor, rows: np.ndarray, starts: np.ndarray) -> None:
        """Put worlds [C, k] where their segments begin.

        Without starts to fit they begin alike each time: their rows are kept, and nothing has to
        be derived from them anew.
        """
        mark = rows.tobytes()
        if not predictor.starts.size and self.began and self.began[0] == mark:
            self.simulator.rows[:] = self.began[1]
            return
        qpos, qvel = predictor.starts.place(predictor.segments.take(rows), starts)
        self.simulator.reset(self.everyone, qpos, qvel)
        if not predictor.starts.size:
            self.began = mark, self.simulator.rows.copy()


def _signs(count: int) -> np.ndarray:
    """Return +1, -1, +1, ... [2 count, 1]."""
    return np.tile([1.0, -1.0], count)[:, None]


def _find_lost(out: np.ndarray) -> np.ndarray:
    """Return which predictions [S, rows, O] are of a world that any copy lost, bool."""
    return (out == LOST).any(axis=0)
