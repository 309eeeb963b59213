"""MuJoCo behind the engine contract: N worlds in one `mujoco.batch.Batch`, on its threads."""

from __future__ import annotations

import math
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
from isthmus.physics.engine import (
    DERIVED,
    NO_EQUIPMENT,
    VELOCITY_BOUND,
    Contact,
    Equipment,
    Simulator,
)
from isthmus.physics.mujoco_parameters import explain_withheld, mujoco_parameters
from isthmus.physics.numerics import (
    AS_MODELLED,
    Numerics,
    apply_numerics,
)
from isthmus.physics.parameters import Parameter, WorldParameters
from isthmus.physics.servos import ServoBank, Servos, offer_servo_gains
from isthmus.types import BadValue

MAX_WARNINGS = 1000

DERIVED_FIELDS = tuple(sorted(mujoco.MjModel._setconst_outputs))
"""Model fields that `set_const` may write, of which a batch expands those that it does."""

warnings: list[str] = []
"""What MuJoCo warned of, newest last (at most MAX_WARNINGS).

Without this it would print, and write a log file into the user's current folder.
"""

UNBATCHED_FLAGS = {
    "sleep": mujoco.mjtEnableBit.mjENBL_SLEEP,
    "ipc": mujoco.mjtEnableBit.mjENBL_IPC,
}
"""Flags that keep what is no part of a world's state: worlds could not be replayed."""


def _collect(message: str) -> None:
    if len(warnings) < MAX_WARNINGS:
        warnings.append(message)


def collect_warnings() -> None:
    """Let MuJoCo hand its warnings to `warnings`, in this process, from now on."""
    mujoco.set_mju_user_warning(_collect)


def threads() -> int:
    """Return MuJoCo's threads a simulator: ISTHMUS_THREADS, else all CPUs.

    The number changes no bit of any result. Raises BadValue where the variable is no number.
    """
    text = os.environ.get("ISTHMUS_THREADS", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadValue(
            f"ISTHMUS_THREADS={text!r} is no number of threads; unset it, or write 0 for all CPUs"
        )
    return int(text) or count_cpus()


@lru_cache(maxsize=32)
def load_model(path: Path, state_size: int = 0) -> mujoco.MjModel:
    """Compile an MJCF file; `state_size` numbers a world are kept for its task.

    Raises BadValue where there is none, it does not compile, or its worlds cannot be kept as rows.
    """
    # e.g. of the deprecation in Gymnasium's own half_cheetah.xml
    mujoco.set_mju_user_warning(_collect)
    if not path.is_file():
        raise BadValue(f"no MJCF file at {path}")
    if path.suffix.lower() == ".urdf":
        raise BadValue(
            f"{path} is a URDF, which has no actuators; make an MJCF of it: isthmus import-robot "
            f"{path.name} -o {path.stem}.xml"
        )
    try:
        model = _compile(path, state_size)
    except ValueError as error:
        # MuJoCo says on lines of their own what is wrong, and where.
        reason = " ".join(str(error).split())
        raise BadValue(f"{path} does not compile: {reason}") from None
    for flag, bit in UNBATCHED_FLAGS.items():
        if model.opt.enableflags & bit:
            raise BadValue(
                f'{path.name}: worlds cannot be kept with <flag {flag}="enable"/>; take it out of '
                "the model"
            )
    # A diverged world would be reset inside the step to the default pose, finite and upright: see
    # it instead.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def _compile(path: Path, state_size: int) -> mujoco.MjModel:
    if not state_size:
        return mujoco.MjModel.from_xml_path(name_file(path))
    spec = mujoco.MjSpec.from_file(name_file(path))
    spec.nuserdata = state_size
    return spec.compile()


def name_file(path: Path) -> Any:
    """Return a path as MuJoCo opens it under any locale: in bytes, which its annotations lack."""
    return os.fsencode(path)


@lru_cache(maxsize=32)
def load_parameters(path: Path) -> dict[str, Parameter]:
    """Return the parameters of an MJCF file's robot, by name, in the order in which they apply."""
    return mujoco_parameters(load_model(path))


@lru_cache(maxsize=32)
def load_gains(path: Path, servos: Servos) -> dict[str, Parameter]:
    """Return the gains of servos of an MJCF file's motors, by name."""
    return {gain.name: gain for gain in offer_servo_gains(load_model(path), servos)}


@lru_cache(maxsize=32)
def load_withheld(path: Path) -> dict[str, str]:
    """Return the parameters that one might look for and the model has not, each with the reason."""
    return explain_withheld(load_model(path))


@lru_cache(maxsize=32)
def action_scales_force(path: Path) -> bool:
    """Return whether a scaled action scales the force of every motor.

    Not so where there are servos, muscles or limits.
    """
    return is_linear_in_control(load_model(path))


class MujocoSimulator(Simulator):
    """A simulator of MuJoCo's. Rows are the batch's full physics state.

    `names` are the parameters that differ between worlds; `forces` keeps one MjData a world, which
    contacts and their forces need.
    """

    def __init__(
        self,
        path: Path,
        names: tuple[str, ...],
        n: int,
        frame_skip: int,
        forces: bool = False,
        numerics: Numerics = AS_MODELLED,
        equipment: Equipment = NO_EQUIPMENT,
    ):
        mujoco.set_mju_user_warning(_collect)
        model = load_model(path, equipment.state_size)
        self.n, self.dt = n, model.opt.timestep * frame_skip
        self.model, self.frame_skip = apply_numerics(model, frame_skip, numerics)
        self.nq, self.nv = self.model.nq, self.model.nv
        self.qpos0 = np.array(self.model.qpos0)
        self.batch = mujoco.batch.Batch(self.model, n, threads(), persistent=forces)
        self._process = os.getpid()
        self._pooled = self.batch.nthread > 1  # else it steps on the caller's thread alone
        if self._pooled:
            register_pool(self, self.batch)
        self._bind_state()
        self._lagging = find_lagging(self.model)
        self._servos: ServoBank | None = None
        table = load_parameters(path)
        if equipment.servos:
            self._servos = ServoBank(
                self.model, equipment.servos, self.qpos, self.qvel, self.control
            )
            table = {**table, **load_gains(path, equipment.servos)}
        self._dynamics = WorldParameters(table, names, n)
        self.parameters, self.values = self._dynamics.parameters, self._dynamics.values
        self._expand_fields()
        # Now: what is bound between two calls is zero until the second.
        self._xpos = self.batch.bind("xpos")
        self._derived: dict[str, np.ndarray] = {}
        for need in equipment.needs:
            self._derived.update({field: self.batch.bind(field) for field in DERIVED[need]})
        self._data = mujoco.MjData(self.model) if forces else None
        self._forces = np.zeros((n, self.model.nbody, 6))
        self._forces_known = np.zeros(n, bool)

    def _bind_state(self) -> None:
        """Bind the arrays of the batch's state, and keep what a reset writes."""
        bind = self.batch.bind
        self.rows = self.batch.state
        self._reset_row = self.rows[0].copy()
        self.qpos, self.qvel, self.control = bind("qpos"), bind("qvel"), bind("ctrl")
        self._state = {field: bind(field) for field in ("act", "mocap_pos", "mocap_quat")}
        self._rest = self.control[0].copy()
        self._length = bind("actuator_length") if holds_poses(self.model) else None
        self._history = bind("history")
        self.task_state = bind("userdata")

    def _expand_fields(self) -> None:
        """Give each world its own rows of the model fields that parameters change."""
        fields: set[str] = set()
        for parameter in self.parameters:
            fields.update(parameter.fields)
        self._fields = {field: self._expand(field) for field in sorted(fields)}
        self._defaults = {field: rows[0].copy() for field, rows in self._fields.items()}
        self._has_constants = any(parameter.constants for parameter in self.parameters)

    def _expand(self, field: str) -> np.ndarray:
        """Return the worlds' rows of a field of the model, or of its servos."""
        if self._servos and field in self._servos.fields:
            return self._servos.fields[field]
        return self.batch.expand(field)

    def _check_threads(self) -> None:
        if self._pooled:
            check_same_process(self._process)

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Give worlds the dynamics `values` (n, P). Raises ForkedError after a fork."""
        if not self.parameters:
            return
        changed = self._dynamics.find_changed(ids, values)
        if not changed.any():
            return
        self._check_threads()
        ids, values = ids[changed], values[changed]
        self.values[ids] = values
        # Worlds of equal dynamics share one computation, which gives each the bits of its own.
        distinct, first, kind = np.unique(values, axis=0, return_index=True, return_inverse=True)
        kind = kind.reshape(-1)
        for field, rows in self._dynamics.compute_fields(self._defaults, distinct).items():
            self._fields[field][ids] = rows[kind]
        if self._has_constants:
            self._set_constants(ids, first, kind)

    def _set_constants(self, ids: np.ndarray, first: np.ndarray, kind: np.ndarray) -> None:
        """Compute the derived constants of worlds: once for those of one kind (n,).

        `first` are the places in `ids` where each kind is first met.
        """
        models = ids[first]
        self.batch.set_const(np.sort(models))
        if len(models) == len(ids):
            return
        for field in DERIVED_FIELDS:
            if self.batch.expanded(field) is not None:
                rows = self.batch.expand(field)
                rows[ids] = rows[models[kind]]

    def reset(self, ids, qpos, qvel, act=None, ctrl=None, mocap_pos=None, mocap_quat=None) -> None:
        """Put worlds where a `Start` says. Raises ForkedError after a fork."""
        self._check_threads()
        kept = self.task_state[ids]
        # mj_resetData writes the same numbers, and costs a call into the pool.
        self.rows[ids] = self._reset_row
        self.task_state[ids] = kept
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        for field, values in (("act", act), ("mocap_pos", mocap_pos), ("mocap_quat", mocap_quat)):
            if values is not None:
                self._state[field][ids] = values
        self._begin_control(ids, ctrl, settles=act is None)
        if self._data is not None:
            self._forces_known[ids] = False

    def _begin_control(self, ids: np.ndarray, ctrl: np.ndarray | None, settles: bool) -> None:
        """Write the last control before a start, and compute what derives from the state.

        Activations follow it where they settle. The control that holds a pose depends on derived
        lengths, so that these are computed twice.
        """
        if ctrl is not None:
            self._write_control(ids, ctrl)
        if settles:
            self._settle_activations(ids)
        self.batch.forward(ids)
        if ctrl is not None or self._length is None:
            return
        self._write_control(ids, self._find_holding_control(ids, self._length[ids]))
        if settles:
            self._settle_activations(ids)
        self.batch.forward(ids)

    def _find_holding_control(self, ids: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return the control (n, A) that holds worlds where they are."""
        gain = self._get_field("actuator_gainprm", ids)
        bias = self._get_field("actuator_biasprm", ids)
        return find_holding_control(self.model, length, self._rest, gain, bias)

    def _get_field(self, field: str, ids: np.ndarray) -> np.ndarray:
        """Return a model field's values (n, ...) in worlds `ids`."""
        expanded = self.batch.expanded(field)
        if expanded is None:
            return np.repeat(getattr(self.model, field)[None], len(ids), axis=0)
        return expanded[ids]

    def _write_control(self, ids: np.ndarray, control: np.ndarray) -> None:
        """Write the last controls (n, A) of worlds, into their past, too.

        That is what a model's own delays pass on at first.
        """
        self.control[ids] = control
        if not (np.asarray(self.model.actuator_historyadr) >= 0).any():
            return
        data = mujoco.MjData(self.model)
        for i in ids:
            self._write_history(data, self.control[i])
            self._history[i] = data.history

    def _write_history(self, data: mujoco.MjData, control: np.ndarray) -> None:
        """Write a control (A,) into the past of all actuators that have one."""
        model = self.model
        for a in np.flatnonzero(np.asarray(model.actuator_historyadr) >= 0):
            first, count = model.actuator_ctrladr[a], model.actuator_ctrlnum[a]
            past = np.tile(control[first : first + count], (model.actuator_history[a, 0], 1))
            mujoco.mj_initCtrlHistory(model, data, a, None, past)

    def _settle_activations(self, ids: np.ndarray) -> None:
        """Let the activations that follow a control begin where the last one has led them."""
        if len(self._lagging):
            activation = settle_activation(self.model, self._lagging, self.control[ids])
            self._state["act"][np.ix_(ids, self.model.actuator_actadr[self._lagging])] = activation

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Advance worlds by one step; return which diverged, bool (n,).

        Raises ForkedError after a fork.
        """
        self._check_threads()
        everyone = len(ids) == self.n
        # Of all worlds, numbers are written and read without a copy.
        rows: np.ndarray | slice = slice(None) if everyone else ids
        if self._servos:
            self._servos.target[rows] = control
        else:
            self.control[rows] = control
        failed = self._advance(None if everyone else ids)
        if self._data is not None:
            self._forces_known[rows] = False
        qpos, qvel = self.qpos[rows], self.qvel[rows]
        if failed is None and _are_sound(qpos, qvel, control):
            return np.zeros(len(ids), bool)
        with np.errstate(invalid="ignore"):
            slow = (np.abs(qvel) < VELOCITY_BOUND).all(1)
            good = np.isfinite(qpos).all(1) & slow
        good &= np.isfinite(control).all(1)  # MuJoCo would take NaN for zero
        if failed is not None:
            good &= ~np.isin(ids, failed)
        return np.logical_not(good)

    def _advance(self, ids: np.ndarray | None) -> np.ndarray | None:
        """Step worlds, all of them by None; return those in which MuJoCo failed, None for none."""
        if not self._servos:
            return self._integrate(ids, self.frame_skip)
        failed = None
        rows: np.ndarray | slice = slice(None) if ids is None else ids
        for _ in range(self.frame_skip):
            self._servos.drive(rows)
            lost = self._integrate(ids, 1)
            if lost is not None:
                failed = lost if failed is None else np.union1d(failed, lost)
        return failed

    def _integrate(self, ids: np.ndarray | None, steps: int) -> np.ndarray | None:
        try:
            self.batch.step(ids, nstep=steps)
        except mujoco.batch.SimulationError as error:  # the others ran to completion
            return error.ids
        return None

    def position(self, body: str) -> np.ndarray:
        """Return the world positions (N, 3) of a body, live, one substep behind the state."""
        return self._xpos[:, self.model.body(body).id]

    def derived(self, field: str) -> np.ndarray:
        """Return a field (N, ...) that the equipment needs, live, one substep behind the state."""
        return self._derived[field]

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        """Return external contact forces (n, bodies, 6), `cfrc_ext`, after the last step."""
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

    def contacts(self, world: int) -> list[Contact]:
        """Return one world's contacts in the last substep."""
        assert self._data is not None, "a simulator knows contacts only if made with forces=True"
        self.batch.get_data(world, self._data)
        contacts = []
        for contact in self._data.contact[: self._data.ncon]:
            # A contact of one dimension has no friction, whatever coefficient it carries.
            sliding = float(contact.friction[0]) if contact.dim > 1 else 0.0
            contacts.append(((int(contact.geom[0]), int(contact.geom[1])), sliding))
        return contacts

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return a model with one world's own dynamics."""
        return self.batch.get_model(world)


def _are_sound(qpos: np.ndarray, qvel: np.ndarray, control: np.ndarray) -> bool:
    """Return whether no world has diverged, in one pass over each array.

    A sum may overflow and say no where all is well, but never the reverse.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        fastest = np.abs(qvel).max(initial=0.0)
        return bool(fastest < VELOCITY_BOUND) and math.isfinite(qpos.sum() + control.sum())
