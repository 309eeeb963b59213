"""Motors and servos of joints in N worlds: from controls to the forces on joints.

MuJoCo's rule of an actuator with a fixed gain (its documentation, Computation, Actuation model):
force = gain control + b0 + b1 length + b2 velocity, clamped to `forcerange`, where length and
velocity are the joint's times the gear, and the joint gets the force times the gear. A motor has
no b, a position servo has gain kp and b = (0, -kp, -kv), a velocity servo gain kv and
b = (0, 0, -kv).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from isthmus.physics.actuator_controls import find_holding_control, holds_poses
from isthmus.physics.dart_model import is_disabled

FIELDS = ("actuator_gear", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange")

Feedback = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From positions (nv,) and velocities (nv,) of joints to the forces on them, (nv,)."""


class JointActuators:
    """The actuators of n worlds, each with its own fields of the model."""

    def __init__(self, model: mujoco.MjModel, defaults: Mapping[str, np.ndarray], n: int):
        self.model = model
        self.fields = {field: np.repeat(defaults[field][None], n, axis=0) for field in FIELDS}
        joints = model.actuator_trnid[:, 0]
        self._dofs, self._places = model.jnt_dofadr[joints], model.jnt_qposadr[joints]
        self._driven = not is_disabled(model, mujoco.mjtDisableBit.mjDSBL_ACTUATION)
        clamped = not is_disabled(model, mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL)
        limited = (np.asarray(model.actuator_ctrllimited, bool) & clamped)[:, None]
        self._range = np.where(limited, model.actuator_ctrlrange, [-np.inf, np.inf]).T
        self._limited = np.asarray(model.actuator_forcelimited, bool)
        self._holds_poses = holds_poses(model)
        self._has_feedback = self._driven and not are_plain_motors(model)

    def write(self, ids: np.ndarray, fields: Mapping[str, np.ndarray]) -> None:
        """Give worlds the fields (n, ...) of the model."""
        for field in FIELDS:
            self.fields[field][ids] = fields[field]

    def hold(self, ids: np.ndarray, qpos: np.ndarray) -> np.ndarray:
        """Return the controls (n, A) that hold poses (n, nq): servos' the pose, motors' zero."""
        rest = np.zeros(self.model.nu)
        if not self._holds_poses:
            return np.tile(rest, (len(ids), 1))
        gear = self.fields["actuator_gear"][ids, :, 0]
        gain, bias = self.fields["actuator_gainprm"][ids], self.fields["actuator_biasprm"][ids]
        return find_holding_control(self.model, gear * qpos[:, self._places], rest, gain, bias)

    def find_constant_force(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Return the forces (n, nv) that stay through a step: of plain motors, all of them."""
        force = np.zeros((len(ids), self.model.nv))
        if self._driven and not self._has_feedback:
            applied = np.clip(control, *self._range) * self.fields["actuator_gear"][ids, :, 0]
            np.add.at(force.T, self._dofs, applied.T)
        return force

    def find_feedback(self, world: int, control: np.ndarray) -> Feedback | None:
        """Return what gives the forces at each time step under a control (A,); None for motors."""
        if not self._has_feedback:
            return None
        gear = self.fields["actuator_gear"][world, :, 0]
        pushed = self.fields["actuator_gainprm"][world, :, 0] * np.clip(control, *self._range)
        bias = np.where(
            (self.model.actuator_biastype == mujoco.mjtBias.mjBIAS_AFFINE)[:, None],
            self.fields["actuator_biasprm"][world, :, :3],
            0.0,
        )
        limits = self.fields["actuator_forcerange"][world]
        low, high = np.where(self._limited[:, None], limits, [-np.inf, np.inf]).T

        def feed_back(positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
            length, velocity = gear * positions[self._dofs], gear * velocities[self._dofs]
            force = pushed + bias[:, 0] + bias[:, 1] * length + bias[:, 2] * velocity
            total = np.zeros(self.model.nv)
            np.add.at(total, self._dofs, gear * np.clip(force, low, high))
            return total

        return feed_back


def are_plain_motors(model: mujoco.MjModel) -> bool:
    """Return whether every actuator's force is its control: no gain, bias or limit."""
    return bool(
        (np.asarray(model.actuator_biastype) == mujoco.mjtBias.mjBIAS_NONE).all()
        and (model.actuator_gainprm[:, 0] == 1).all()
        and not np.any(model.actuator_forcelimited)
    )
