"""Bare `mujoco.batch`: the physics of transitions that were collected, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import mujoco.batch
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.simulation import START
from isthmus.domains.stepped_worlds import GIVEN_TASK
from isthmus.physics.mujoco import load_model, threads
from isthmus.physics.random import Streams, fold
from isthmus.types import Transition, Worlds


class Resets(NamedTuple):
    """Worlds that begin an episode after a step: what is written into them."""

    ids: np.ndarray
    fields: dict[str, np.ndarray]  # model field -> rows (n, ...); none where the dynamics stay
    rows: np.ndarray  # exact states (n, S)


class Bare:
    """N worlds that repeat, from `worlds` on, what `collect` did: same actions, same resets, same
    number of threads.

    The loop is as tight as a hand-written one can be: actions, dynamics and starts are there
    beforehand, and so is the knowledge of who falls when; no observation, no reward, no policy.
    `check` holds the end against the collected one.
    """

    def __init__(self, domain: Domain, worlds: Worlds):
        self.domain, self.n = domain, worlds.size
        simulation = domain.build(self.n)
        assert isinstance(simulation, PhysicsSimulation)
        self.task, self.reference = simulation.task, simulation.simulator
        self.reference.set_parameters(np.arange(self.n), worlds.parameters)
        self.batch = mujoco.batch.Batch(load_model(self.task.model_path()), self.n, threads())
        self.control = self.batch.bind("ctrl")
        self.start = mujoco.batch.Batch(
            self.batch.model, self.n, 1
        )  # where the rows of new episodes are made
        names = sorted(
            {name for parameter in self.reference.parameters for name in parameter.fields}
        )
        self.fields = {name: self.batch.expand(name) for name in names}
        self.constants = any(parameter.constants for parameter in self.reference.parameters)
        self.batch.state[:] = worlds.rows
        self._write(np.arange(self.n), self._rows(np.arange(self.n)))

    def _rows(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        expand = self.reference.batch.expand  # pyright: ignore[reportAttributeAccessIssue]
        return {name: expand(name)[ids] for name in self.fields}

    def _states(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        self.start.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.start.bind("qpos")[ids], self.start.bind("qvel")[ids] = qpos, qvel
        return self.start.state[ids]

    def _write(self, ids: np.ndarray, fields: dict[str, np.ndarray]) -> None:
        for name, rows in fields.items():
            self.fields[name][ids] = rows
        if self.constants:
            self.batch.set_const(ids)

    def prepare(self, before: Worlds, tr: Transition) -> list[Resets]:
        """The resets after each step of the transitions [T, N] that were collected from
        `before`.
        """
        task, episode = before.task.copy(), before.episode.copy()
        resets = []
        for done in tr.terminated | tr.truncated:
            ids = np.flatnonzero(np.asarray(done))
            drawn = ids[before.task[ids] != GIVEN_TASK]
            task[drawn] += 1
            episode[ids] += 1
            if len(drawn):
                self.reference.set_parameters(
                    drawn, self.domain.draw(before.key[drawn], task[drawn])
                )
            start: Any = self.task.start(
                self.reference, Streams(fold(before.key[ids], START, episode[ids]))
            )
            resets.append(
                Resets(ids, self._rows(ids) if len(drawn) else {}, self._states(ids, *start))
            )
        return resets

    def run(self, actions: np.ndarray, resets: list[Resets]) -> None:
        """What is timed: step all worlds under actions [T, N, A], begin the episodes that end."""
        for action, reset in zip(actions, resets, strict=True):
            self.control[:] = action
            self.batch.step(nstep=self.task.frame_skip)
            if len(reset.ids):
                if reset.fields:
                    self._write(reset.ids, reset.fields)
                self.batch.state[reset.ids] = (
                    reset.rows
                )  # mj_resetData and a start, made beforehand
                self.batch.forward(reset.ids)

    def check(self, after: Worlds) -> None:
        """Raises RuntimeError where the worlds did not end where `collect` left them, to the
        bit.
        """
        if not np.array_equal(self.batch.state, after.rows):
            raise RuntimeError(
                "bare physics did other work than collect: the worlds ended elsewhere"
            )


def sizes(domain: Domain, worlds: int, **more: Any) -> dict[str, Any]:
    """What both sides have in common, for the table."""
    return {"domain": str(domain), "worlds": worlds, "MuJoCo threads": threads(), **more}
