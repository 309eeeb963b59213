"""MuJoCo behind the engine contract: N worlds in one `mujoco.batch.Batch`, stepped by MuJoCo's own
thread pool.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import mujoco
import mujoco.batch
import numpy as np

from isthmus.physics.actuator_controls import (
    find_holding_control,
    find_lagging,
    holds_poses,
    settle_activation,
)
from isthmus.physics.actuator_strength import is_linear_in_control
from isthmus.physics.concurrency import check_same_process, count_cpus, register_pool
from isthmus.physics.engine import VELOCITY_BOUND, Engine, Start
from isthmus.physics.mujoco_parameters import explain_withheld, mujoco_parameters
from isthmus.physics.parameters import Parameter
from isthmus.types import BadValue, UnknownName

warnings: list[str] = []
"""What MuJoCo warned of, newest last (at most 1,000): without this it would print, and write a log file into the
user's current folder."""


def _collect(message: str) -> None:
    if len(warnings) < 1000:
        warnings.append(message)


def threads() -> int:
    """MuJoCo's threads a simulator: ISTHMUS_THREADS, else all CPUs. The number changes no bit of
    any result.
    """
    text = os.environ.get("ISTHMUS_THREADS", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadValue(
            f"ISTHMUS_THREADS={text!r} is no number of threads; unset it, or write 0 for all CPUs"
        )
    return int(text) or count_cpus()


@lru_cache(maxsize=32)
def load_model(path: Path) -> mujoco.MjModel:
    """Compile an MJCF file. Raises BadValue when there is none or it does not compile."""
    mujoco.set_mju_user_warning(
        _collect
    )  # e.g. the deprecation in Gymnasium's own half_cheetah.xml
    if not path.is_file():
        raise BadValue(f"no MJCF file at {path}")
    try:
        model = mujoco.MjModel.from_xml_path(_name_file(path))
    except ValueError as error:
        reason = " ".join(
            str(error).split()
        )  # MuJoCo says on lines of their own what is wrong, and where
        raise BadValue(f"{path} does not compile: {reason}") from None
    unbatched = {
        "sleep": mujoco.mjtEnableBit.mjENBL_SLEEP,
        "ipc": mujoco.mjtEnableBit.mjENBL_IPC,
    }
    for flag, bit in unbatched.items():
        if (
            model.opt.enableflags & bit
        ):  # what it keeps is no part of a world's state: worlds could not be replayed
            raise BadValue(
                f'{path.name}: worlds cannot be kept with <flag {flag}="enable"/>; take it out of the model'
            )
    # A diverged world would be reset inside the step to the default pose, finite and upright: see
    # it instead.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def _name_file(path: Path) -> Any:
    """Return a path as MuJoCo opens it under any locale: in bytes, which its annotations leave out."""
    return os.fsencode(path)


@lru_cache(maxsize=32)
def load_parameters(path: Path) -> dict[str, Parameter]:
    """Return the parameters of an MJCF file's robot, by name, in the order in which they apply."""
    return mujoco_parameters(load_model(path))


@lru_cache(maxsize=32)
def load_keyframe(path: Path, name: str) -> Start:
    """Read a keyframe of an MJCF file, whole but for its time; `act` and `ctrl` are None where the
    file is silent.

    Raises UnknownName with the nearest keyframes.
    """
    model = load_model(path)
    known = [model.key(i).name for i in range(model.nkey)]
    if name not in known:
        raise UnknownName(f"keyframe of {path.name}", name, filter(None, known))
    key = model.key(name)
    # The compiled model writes zeros where the file is silent.
    written = [k for k in mujoco.MjSpec.from_file(_name_file(path)).keys if k.name == name]
    given: dict[str, np.ndarray | None] = {}
    for field in ("act", "ctrl"):
        values = np.array(getattr(key, field))
        silent = not values.any() and not any(len(getattr(k, field)) for k in written)
        given[field] = None if silent else values
    mocap_pos, mocap_quat = (
        np.reshape(key.mpos, (-1, 3)).copy(),
        np.reshape(key.mquat, (-1, 4)).copy(),
    )
    return Start(
        np.array(key.qpos), np.array(key.qvel), given["act"], given["ctrl"], mocap_pos, mocap_quat
    )


@lru_cache(maxsize=32)
def load_withheld(path: Path) -> dict[str, str]:
    """Return the parameters that one might look for and that the model does not have, each with the
    reason.
    """
    return explain_withheld(load_model(path))


@lru_cache(maxsize=32)
def action_scales_force(path: Path) -> bool:
    """Return whether a scaled action scales the force of every motor: not where there are servos,
    muscles or limits.
    """
    return is_linear_in_control(load_model(path))


class MujocoSimulator:
    """See `isthmus.physics.engine.Simulator`.

    `names` are the parameters that differ between worlds; `forces` keeps one MjData a world, which
    contacts and their forces need.
    """

    def __init__(
        self, path: Path, names: tuple[str, ...], n: int, frame_skip: int, forces: bool = False
    ):
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
        self._state = {
            field: self.batch.bind(field) for field in ("act", "mocap_pos", "mocap_quat")
        }
        self._rest = self.control[0].copy()
        self._length = self.batch.bind("actuator_length") if holds_poses(self.model) else None
        self._lagging = find_lagging(self.model)
        self._history = self.batch.bind("history")
        self.qpos0 = np.array(self.model.qpos0)
        self.nq, self.nv = self.model.nq, self.model.nv
        table = load_parameters(path)
        self.parameters = [table[name] for name in names]
        # What is written last holds: the table goes from the whole robot to its parts, so that
        # density=2,torso_mass=6 means a torso of 6 kg in whatever order the two are named.
        self._order = sorted(range(len(names)), key=lambda i: list(table).index(names[i]))
        self.values = np.tile([p.default for p in self.parameters], (n, 1))
        fields = {field for p in self.parameters for field in p.fields}
        self._fields = {field: self.batch.expand(field) for field in sorted(fields)}
        self._defaults = {field: rows[0].copy() for field, rows in self._fields.items()}
        self._xpos = self.batch.bind(
            "xpos"
        )  # now: what is bound between two calls is zero until the second
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
        fields = {
            f: np.repeat(default[None], len(ids), axis=0) for f, default in self._defaults.items()
        }
        for i in self._order:
            self.parameters[i].apply(fields, values[:, i])
        for field, rows in fields.items():
            self._fields[field][ids] = rows
        if any(p.constants for p in self.parameters):
            self.batch.set_const(ids)

    def reset(self, ids, qpos, qvel, act=None, ctrl=None, mocap_pos=None, mocap_quat=None) -> None:
        self._check_threads()
        # mj_resetData writes the same numbers, and costs a call into the pool.
        self.rows[ids] = self._reset_row
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        for field, values in (("act", act), ("mocap_pos", mocap_pos), ("mocap_quat", mocap_quat)):
            if values is not None:
                self._state[field][ids] = values
        if ctrl is not None:
            self._tell(ids, ctrl)
        if act is None:
            self._settle(ids)
        self.batch.forward(ids)
        if ctrl is None and self._length is not None:  # known by now
            self._tell(ids, self._hold(ids))
            if act is None:
                self._settle(ids)
            self.batch.forward(ids)
        self._forces_known[ids] = False

    def _hold(self, ids: np.ndarray) -> np.ndarray:
        """Return the control (n, A) that holds worlds where they are."""
        assert self._length is not None
        gain, bias = (self._own(field, ids) for field in ("actuator_gainprm", "actuator_biasprm"))
        return find_holding_control(self.model, self._length[ids], self._rest, gain, bias)

    def _own(self, field: str, ids: np.ndarray) -> np.ndarray:
        """Return a model field's values (n, ...) in worlds `ids`."""
        expanded = self.batch.expanded(field)
        if expanded is None:
            return np.repeat(getattr(self.model, field)[None], len(ids), axis=0)
        return expanded[ids]

    def _tell(self, ids: np.ndarray, control: np.ndarray) -> None:
        """Write controls (n, A) that worlds were told in the past, too: what a model's own delays
        pass on at first.
        """
        self.control[ids] = control
        late = np.flatnonzero(np.asarray(self.model.actuator_historyadr) >= 0)
        if not len(late):
            return
        data = mujoco.MjData(self.model)
        for i in ids:
            for a in late:
                first, count = self.model.actuator_ctrladr[a], self.model.actuator_ctrlnum[a]
                past = np.tile(
                    self.control[i, first : first + count], (self.model.actuator_history[a, 0], 1)
                )
                mujoco.mj_initCtrlHistory(self.model, data, a, None, past)
            self._history[i] = data.history

    def _settle(self, ids: np.ndarray) -> None:
        """Let the activations that follow a control begin where it has led them: what worlds were
        told, as `_tell`.
        """
        if len(self._lagging):
            activation = settle_activation(self.model, self._lagging, self.control[ids])
            self._state["act"][np.ix_(ids, self.model.actuator_actadr[self._lagging])] = activation

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
        # Gymnasium computes these after mj_step; a batch cannot, so worlds are walked one by one,
        # once a step. The one such place.
        assert self._data is not None, (
            "a simulator knows contact forces only if made with forces=True"
        )
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
        # A contact of one dimension has no friction, whatever coefficient it carries.
        sliding = [float(c.friction[0]) if c.dim > 1 else 0.0 for c in contacts]
        return [
            ((int(c.geom[0]), int(c.geom[1])), mu) for c, mu in zip(contacts, sliding, strict=True)
        ]

    def world_model(self, world: int) -> mujoco.MjModel:
        return self.batch.get_model(world)


class MujocoEngine(Engine):
    """MuJoCo, the engine that is meant where none is named."""

    name = "mujoco"
    simulator = MujocoSimulator
    packages = ("mujoco",)

    def parameters(self, path: Path) -> dict[str, Parameter]:
        """Return `load_parameters`."""
        return load_parameters(path)

    def withheld(self, path: Path) -> dict[str, str]:
        """Return `load_withheld`."""
        return load_withheld(path)

    def action_scales_force(self, path: Path) -> bool:
        """Return `action_scales_force`."""
        return action_scales_force(path)
