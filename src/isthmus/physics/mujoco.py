"""MuJoCo behind the engine contract: N worlds in one `mujoco.batch.Batch`, stepped by MuJoCo's own thread pool."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import mujoco
import mujoco.batch
import numpy as np

from isthmus.physics.concurrency import check_same_process, count_cpus, register_pool
from isthmus.physics.engine import VELOCITY_BOUND
from isthmus.physics.parameters import Parameter, mujoco_parameters
from isthmus.types import BadValue

warnings: list[str] = []
"""What MuJoCo warned of, newest last (at most 1,000): without this it would print, and write a log file into the
user's current folder."""


def _collect(message: str) -> None:
    if len(warnings) < 1000:
        warnings.append(message)


def threads() -> int:
    """MuJoCo's threads a simulator: ISTHMUS_THREADS, else all CPUs. The number changes no bit of any result."""
    text = os.environ.get("ISTHMUS_THREADS", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadValue(f"ISTHMUS_THREADS={text!r} is no number of threads; unset it, or write 0 for all CPUs")
    return int(text) or count_cpus()


@lru_cache(maxsize=32)
def load_model(path: Path) -> mujoco.MjModel:
    """Compile an MJCF file. Raises BadValue when there is none or it does not compile."""
    mujoco.set_mju_user_warning(_collect)  # e.g. the deprecation in Gymnasium's own half_cheetah.xml
    if not path.is_file():
        raise BadValue(f"no MJCF file at {path}")
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise BadValue(f"{path} does not compile: {str(error).splitlines()[0]}") from None
    # A diverged world would be reset inside the step to the default pose, finite and upright: see it instead.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


@lru_cache(maxsize=32)
def parameters(path: Path) -> dict[str, Parameter]:
    return mujoco_parameters(load_model(path))


class MujocoSimulator:
    """See `isthmus.physics.engine.Simulator`.

    `names` are the parameters that differ between worlds; `forces` keeps one MjData a world, which contacts and their
    forces need.
    """

    def __init__(self, path: Path, names: tuple[str, ...], n: int, frame_skip: int, forces: bool = False):
        mujoco.set_mju_user_warning(_collect)
        self.model = load_model(path)
        self.n, self.frame_skip = n, frame_skip
        self.dt = self.model.opt.timestep * frame_skip
        self.batch = mujoco.batch.Batch(self.model, n, threads(), persistent=forces)
        self._process = os.getpid()
        self._pooled = self.batch.nthread > 1  # else it steps on the caller's thread alone
        if self._pooled:
            register_pool(self, self.batch)
        self.rows = self.batch.state
        self._reset_row = self.rows[0].copy()
        self.qpos, self.qvel, self.control = (self.batch.bind(f) for f in ("qpos", "qvel", "ctrl"))
        self.qpos0 = np.array(self.model.qpos0)
        self.nq, self.nv = self.model.nq, self.model.nv
        table = parameters(path)
        self.parameters = [table[name] for name in names]
        # What is written last holds: the table goes from the whole robot to its parts, so that density=2,torso_mass=6
        # means a torso of 6 kg in whatever order the two are named.
        self._order = sorted(range(len(names)), key=lambda i: list(table).index(names[i]))
        self.values = np.tile([p.default for p in self.parameters], (n, 1))
        fields = {field for p in self.parameters for field in p.fields}
        self._fields = {field: self.batch.expand(field) for field in sorted(fields)}
        self._defaults = {field: rows[0].copy() for field, rows in self._fields.items()}
        self._xpos = self.batch.bind("xpos")  # now: what is bound between two calls is zero until the second
        self._data = mujoco.MjData(self.model) if forces else None
        self._forces = np.zeros((n, self.model.nbody, 6))
        self._forces_known = np.zeros(n, bool)

    def _check_threads(self) -> None:
        if self._pooled:
            check_same_process(self._process)

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        if not self.parameters:
            return
        changed = np.any(self.values[ids] != values, axis=1)
        if not changed.any():
            return
        self._check_threads()
        ids, values = ids[changed], values[changed]
        self.values[ids] = values
        fields = {f: np.repeat(default[None], len(ids), axis=0) for f, default in self._defaults.items()}
        for i in self._order:
            self.parameters[i].apply(fields, values[:, i])
        for field, rows in fields.items():
            self._fields[field][ids] = rows
        if any(p.constants for p in self.parameters):
            self.batch.set_const(ids)

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._check_threads()
        # mj_resetData writes the same numbers, and costs a call into the pool.
        self.rows[ids] = self._reset_row
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self.batch.forward(ids)
        self._forces_known[ids] = False

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        self._check_threads()
        self.control[ids] = control
        whole = None if len(ids) == self.n else ids
        failed = None
        try:
            self.batch.step(whole, nstep=self.frame_skip)
        except mujoco.batch.SimulationError as error:  # the others ran to completion
            failed = error.ids
        self._forces_known[ids] = False
        qpos, qvel = (self.qpos, self.qvel) if whole is None else (self.qpos[ids], self.qvel[ids])
        with np.errstate(invalid="ignore"):
            good = np.isfinite(qpos).all(1) & (np.abs(qvel) < VELOCITY_BOUND).all(1)
        good &= np.isfinite(control).all(1)  # MuJoCo would take NaN for zero
        if failed is not None:
            good &= ~np.isin(ids, failed)
        return ~good

    def position(self, body: str) -> np.ndarray:
        return self._xpos[:, self.model.body(body).id]

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        # Gymnasium computes these after mj_step; a batch cannot, so worlds are walked one by one, once a step. The one
        # such place.
        assert self._data is not None, "a simulator knows contact forces only if made with forces=True"
        for i in ids[~self._forces_known[ids]]:
            self.batch.get_data(int(i), self._data)
            mujoco.mj_rnePostConstraint(self.model, self._data)
            self._forces[i] = self._data.cfrc_ext
        self._forces_known[ids] = True
        return self._forces[ids]

    def contacts(self, world: int) -> list[tuple[tuple[int, int], float]]:
        assert self._data is not None, "a simulator knows contacts only if made with forces=True"
        self.batch.get_data(world, self._data)
        contacts = self._data.contact[: self._data.ncon]
        return [((int(c.geom[0]), int(c.geom[1])), float(c.friction[0])) for c in contacts]

    def world_model(self, world: int) -> mujoco.MjModel:
        return self.batch.get_model(world)
