"""DART behind the engine contract: N worlds, stepped one after another.

They are built in code from a compiled MuJoCo model. What is copied from it, and where DART differs
from MuJoCo, stands in docs/guide/engines.md.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import mujoco
import numpy as np

from isthmus.physics import dart_actuators
from isthmus.physics.dart_actuators import JointActuators
from isthmus.physics.dart_model import describe_left_out, find_unbuilt
from isthmus.physics.dart_world import DartWorld, import_dartpy
from isthmus.physics.engine import VELOCITY_BOUND, Contact, Engine, Equipment, Simulator
from isthmus.physics.geom_contacts import find_colliding_contacts
from isthmus.physics.mujoco import load_model, load_parameters
from isthmus.physics.mujoco_engine import MujocoEngine
from isthmus.physics.numerics import AS_MODELLED, Numerics, apply_numerics
from isthmus.physics.parameters import Parameter, WorldParameters
from isthmus.types import BadValue

FIELDS = (
    "opt.gravity", "geom_friction", "body_mass", "body_inertia", "dof_damping", "dof_frictionloss",
    "jnt_range", *dart_actuators.FIELDS,
)  # fmt: skip
"""The model fields that parameters may change in DART."""

FIELD_LABELS = {"dof_armature": "armature"}
"""Fields that DART lacks, in words."""

MAX_COORDINATE = 1e7
"""Metres or radians, which nobody reaches below VELOCITY_BOUND.

Further out, ODE would end the process.
"""

LACKED_NUMERICS = {
    "integrator": "DART has one integrator, semi-implicit Euler",
    "cone": "DART bounds friction by a box, and has no cone to choose",
    "solver": "DART solves contacts by a boxed LCP alone",
    "solver_iterations": "DART solves contacts by pivoting, which has no such number",
}
"""Numerics that only MuJoCo has."""

NO_FORCES = (
    "engine=dart has no contact forces in MuJoCo's layout, which this task observes or is paid by"
)


@lru_cache(maxsize=32)
def load_dart_parameters(path: Path) -> dict[str, Parameter]:
    """Return those of MuJoCo's parameters that DART has: the same names, units and bounds."""
    parameters: dict[str, Parameter] = {}
    for name, parameter in load_parameters(path).items():
        if set(parameter.fields) <= set(FIELDS):
            parameters[name] = parameter
    return parameters


class DartSimulator(Simulator):
    """A simulator of DART's. Rows are [qpos, qvel].

    `forces` is MuJoCo's affair: contacts are known anyway. Raises BadValue where dartpy is missing
    or the model has what is not built.
    """

    def __init__(
        self,
        path: Path,
        names: tuple[str, ...],
        n: int,
        frame_skip: int,
        forces: bool = False,
        numerics: Numerics = AS_MODELLED,
    ):
        DartEngine().check(path, forces=False)
        self.n, self.dt = n, load_model(path).opt.timestep * frame_skip
        model, self.frame_skip = apply_numerics(load_model(path), frame_skip, numerics)
        self.model = model
        self.nq, self.nv = model.nq, model.nv
        self.rows = np.zeros((n, model.nq + model.nv))
        self.qpos, self.qvel = self.rows[:, : model.nq], self.rows[:, model.nq :]
        self.control = np.zeros((n, model.nu))
        self.qpos0 = np.array(model.qpos0)
        self.qpos[:] = self.qpos0
        self.task_state = np.zeros((n, 0))
        self._dynamics = WorldParameters(load_dart_parameters(path), names, n)
        self.parameters, self.values = self._dynamics.parameters, self._dynamics.values
        self._defaults = {field: np.array(_get_field(model, field)) for field in FIELDS}
        contacts = find_colliding_contacts(model)
        self._worlds = [DartWorld(model, contacts, self._defaults) for _ in range(n)]
        self._actuators = JointActuators(model, self._defaults, n)
        self._data = mujoco.MjData(model)
        self._posed = np.full((n, model.nq), np.nan)
        self._xpos = np.zeros((n, model.nbody, 3))

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Give worlds the dynamics `values` (n, P)."""
        changed = self._dynamics.find_changed(ids, values)
        if not changed.any():
            return
        ids, values = ids[changed], values[changed]
        self.values[ids] = values
        fields = self._dynamics.compute_fields(self._defaults, values)
        for k, i in enumerate(ids):
            self._worlds[i].write({field: rows[k] for field, rows in fields.items()})
        self._actuators.write(ids, fields)

    def reset(self, ids, qpos, qvel, act=None, ctrl=None, mocap_pos=None, mocap_quat=None) -> None:
        """Put worlds where a `Start` says.

        What is built has no activations and no mocap bodies.
        """
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self.control[ids] = self._actuators.hold(ids, qpos) if ctrl is None else ctrl

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Advance worlds by one step; return which diverged, bool (n,)."""
        self.control[ids] = control
        good = self._find_good(ids) & np.isfinite(control).all(1)
        moving = ids[good]
        force = self._actuators.find_constant_force(moving, control[good])
        for i, world_force, world_control in zip(moving, force, control[good], strict=True):
            feedback = self._actuators.find_feedback(i, world_control)
            world = self._worlds[i]
            world.step(self.qpos[i], self.qvel[i], world_force, self.frame_skip, feedback)
        good &= self._find_good(ids)
        return np.logical_not(good)

    def _find_good(self, ids: np.ndarray) -> np.ndarray:
        """Return which worlds are neither too far nor too fast nor nowhere, bool (n,)."""
        with np.errstate(invalid="ignore"):
            near = (np.abs(self.qpos[ids]) < MAX_COORDINATE).all(1)
            return np.logical_and(near, (np.abs(self.qvel[ids]) < VELOCITY_BOUND).all(1))

    def position(self, body: str) -> np.ndarray:
        """Return the world positions (N, 3) of a body, of the state itself."""
        # MuJoCo's kinematics of the same configuration: no lag, and nothing to restore.
        for i in np.flatnonzero((self._posed != self.qpos).any(1)):
            self._data.qpos[:] = self._posed[i] = self.qpos[i]
            mujoco.mj_kinematics(self.model, self._data)
            self._xpos[i] = self._data.xpos
        return self._xpos[:, self.model.body(body).id]

    def derived(self, field: str) -> np.ndarray:
        """Raise BadValue: DART has nothing of the kind."""
        raise BadValue(f"engine=dart has no {field}")

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        """Raise BadValue: DART has none in MuJoCo's layout."""
        raise BadValue(NO_FORCES)

    def contacts(self, world: int) -> list[Contact]:
        """Return one world's contacts in the last time step."""
        return self._worlds[world].list_contacts()

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return a model with one world's own dynamics."""
        model = copy.copy(self.model)
        fields = self._dynamics.compute_fields(self._defaults, self.values[[world]])
        for field, rows in fields.items():
            _get_field(model, field)[:] = rows[0]
        return model


def _get_field(model: mujoco.MjModel, field: str) -> np.ndarray:
    return model.opt.gravity if field == "opt.gravity" else getattr(model, field)


@lru_cache(maxsize=32)
def _find_unbuilt(path: Path) -> list[str]:
    return find_unbuilt(load_model(path))


class DartEngine(MujocoEngine):
    """DART, whose worlds are built from MuJoCo's compiled model."""

    name = "dart"
    simulator = DartSimulator
    packages = ("dartpy",)
    lacked_numerics = LACKED_NUMERICS

    def check_installed(self) -> None:
        """Raise BadValue where dartpy is missing."""
        import_dartpy()

    def check(self, path: Path, forces: bool) -> None:
        """Raise BadValue where a model has what is not built, or contact forces are needed."""
        unbuilt = _find_unbuilt(path)
        if forces:
            raise BadValue(NO_FORCES)
        if unbuilt:
            raise BadValue(f"engine=dart does not build {path.name}: it has {', '.join(unbuilt)}")

    def check_equipment(self, task: str, equipment: Equipment) -> None:
        """Raise BadValue: DART is built without servos, sensors and a task's own state."""
        Engine.check_equipment(self, task, equipment)

    def parameters(self, path: Path) -> dict[str, Parameter]:
        """Return `load_dart_parameters`."""
        return load_dart_parameters(path)

    def lacked(self, path: Path) -> dict[str, str]:
        """Return MuJoCo's parameters of fields that DART has not."""
        reasons: dict[str, str] = {}
        for name, parameter in load_parameters(path).items():
            for field in parameter.fields:
                if field not in FIELDS:
                    reasons[name] = f"DART has no {FIELD_LABELS.get(field, field)}"
        return reasons

    def left_out(self, path: Path) -> tuple[str, ...]:
        """Return what DART has not of the robot's joints: armature, soft limits."""
        lines = describe_left_out(load_model(path))
        return tuple(f"{line} (see docs/guide/engines.md)" for line in lines)
