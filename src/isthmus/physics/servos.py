"""Position servos whose torque is computed at every physics step, in N worlds at once.

A servo pulls its joint to a target: kp (target - angle) - kd speed, within what its motor can give.
That is at most `effort`, and no more than the line from `stall` at rest down to nothing at `speed`
in the direction of motion: the torque-speed line of a DC motor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from isthmus.physics.actuator_strength import find_actuated
from isthmus.physics.joint_parameters import SLIDE, name_prefixes
from isthmus.physics.model_fields import Apply, Fields, assign, scale_marked
from isthmus.physics.parameters import Parameter

GAIN_UNITS = {True: ("N/m", "N s/m"), False: ("N m/rad", "N m s/rad")}
"""Units of kp and kd, by whether a joint slides."""
KP, KD = "servo_kp", "servo_kd"
"""The fields that gains have here, as a model has its own."""
MAX_GAIN = 1e5


@dataclass(frozen=True)
class Servos:
    """The servos of a model's motors, one number a motor, in its order; units of the joint."""

    kp: tuple[float, ...]
    kd: tuple[float, ...]
    effort: tuple[float, ...]  # the largest torque
    stall: tuple[float, ...]  # the torque-speed line at rest
    speed: tuple[float, ...]  # and where it ends; infinite where there is none


class ServoBank:
    """The servos of n worlds.

    `target` (float64 [n, A]) is where they pull. `fields` holds the gains [n, A] by the names of
    parameters' fields. `qpos`, `qvel` and `torque` are a simulator's own, live.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        servos: Servos,
        qpos: np.ndarray,
        qvel: np.ndarray,
        control: np.ndarray,
    ):
        n = len(qpos)
        joints = np.asarray(model.actuator_trnid)[:, 0]
        self._qpos, self._qvel, self._control = qpos, qvel, control
        self._angles = as_slice(np.asarray(model.jnt_qposadr)[joints])
        self._speeds = as_slice(np.asarray(model.jnt_dofadr)[joints])
        self._gear = np.asarray(model.actuator_gear)[:, 0].copy()
        self.fields = {
            KP: np.tile(np.array(servos.kp), (n, 1)),
            KD: np.tile(np.array(servos.kd), (n, 1)),
        }
        self._effort, self._stall = np.array(servos.effort), np.array(servos.stall)
        self._slope = self._stall / np.array(servos.speed)
        self._has_line = bool(self._slope.any())
        self.target = np.zeros_like(control)

    def drive(self, rows: np.ndarray | slice) -> None:
        """Write the torques of worlds into the controls of their motors."""
        angle = self._qpos[rows][:, self._angles]
        speed = self._qvel[rows][:, self._speeds]
        torque = self.target[rows] - angle
        torque *= self.fields[KP][rows]
        torque -= self.fields[KD][rows] * speed
        if self._has_line:
            self._limit_by_speed(torque, speed)
        else:
            np.clip(torque, -self._effort, self._effort, out=torque)
        torque /= self._gear
        self._control[rows] = torque

    def _limit_by_speed(self, torque: np.ndarray, speed: np.ndarray) -> None:
        """Hold torques (n, A) within the limits that motors have at their speeds (n, A)."""
        loss = self._slope * speed
        high = self._stall - loss
        loss += self._stall
        np.clip(high, 0.0, self._effort, out=high)
        np.clip(loss, 0.0, self._effort, out=loss)
        np.negative(loss, out=loss)
        np.clip(torque, loss, high, out=torque)


def as_slice(index: np.ndarray) -> np.ndarray | slice:
    """Return places as a slice where they follow one another: it is read without a copy."""
    if len(index) and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def offer_servo_gains(model: mujoco.MjModel, servos: Servos) -> Iterator[Parameter]:
    """Yield the gains of servos: `kp` and `kd` of all of them, then each joint's own."""
    everywhere = np.ones(len(servos.kp), bool)
    yield _make_common("kp", {KP: everywhere})
    yield _make_common("kd", {KD: everywhere})
    for joint, prefix, actuator in _list_servo_joints(model, list(range(len(servos.kp)))):
        kp_unit, kd_unit = _find_units(model, joint)
        kp, kd = servos.kp[actuator], servos.kd[actuator]
        yield _make_gain(f"{prefix}_kp", kp_unit, kp, (KP,), assign(KP, actuator))
        yield _make_gain(f"{prefix}_kd", kd_unit, kd, (KD,), assign(KD, actuator))


def find_position_actuators(model: mujoco.MjModel) -> list[int]:
    """Return MuJoCo's own position servos, by index: force = kp (control - length) - kd speed."""
    return [a for a in range(model.nactuator) if _is_position_actuator(model, a)]


def _is_position_actuator(model: mujoco.MjModel, actuator: int) -> bool:
    types = model.actuator_gaintype[actuator], model.actuator_biastype[actuator]
    if types != (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE):
        return False
    if model.actuator_dyntype[actuator] != mujoco.mjtDyn.mjDYN_NONE:
        return False
    kp = float(model.actuator_gainprm[actuator, 0])
    offset, by_length = np.asarray(model.actuator_biasprm)[actuator, :2]
    return bool(kp > 0 and by_length == -kp and offset == 0)


def offer_gains(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield the gains of MuJoCo's own position servos: `kp`, `kd`, then each joint's own.

    A factor of damping that is nowhere is not offered.
    """
    actuators = find_position_actuators(model)
    if not actuators:
        return
    yield _make_common("kp", _mark_columns(model, actuators, (0,), (1,)))
    if np.asarray(model.actuator_biasprm)[actuators, 2].any():
        yield _make_common("kd", _mark_columns(model, actuators, (), (2,)))
    for joint, prefix, actuator in _list_servo_joints(model, actuators):
        kp_unit, kd_unit = _find_units(model, joint)
        kp = float(model.actuator_gainprm[actuator, 0])
        kd = -float(model.actuator_biasprm[actuator, 2])
        fields = ("actuator_gainprm", "actuator_biasprm")
        yield _make_gain(f"{prefix}_kp", kp_unit, kp, fields, _assign_kp(actuator))
        yield _make_gain(f"{prefix}_kd", kd_unit, kd, fields[1:], _assign_kd(actuator))


def _mark_columns(
    model: mujoco.MjModel, actuators: list[int], gains: tuple[int, ...], biases: tuple[int, ...]
) -> dict[str, np.ndarray]:
    masks: dict[str, np.ndarray] = {}
    for field, columns in (("actuator_gainprm", gains), ("actuator_biasprm", biases)):
        if columns:
            mask = np.zeros(np.shape(getattr(model, field)), bool)
            mask[np.ix_(actuators, columns)] = True
            masks[field] = mask
    return masks


def _assign_kp(actuator: int) -> Apply:
    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["actuator_gainprm"][:, actuator, 0] = values
        fields["actuator_biasprm"][:, actuator, 1] = -values

    return apply


def _assign_kd(actuator: int) -> Apply:
    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["actuator_biasprm"][:, actuator, 2] = -values

    return apply


def _list_servo_joints(
    model: mujoco.MjModel, actuators: list[int]
) -> Iterator[tuple[int, str, int]]:
    """Yield the joints that one of some servos alone drives: joint, prefix of names, servo."""
    prefixes = name_prefixes(model)
    for joint, driving in find_actuated(model).items():
        if joint in prefixes and len(driving) == 1 and driving[0] in actuators:
            yield joint, prefixes[joint], driving[0]


def _find_units(model: mujoco.MjModel, joint: int) -> tuple[str, str]:
    return GAIN_UNITS[bool(model.jnt_type[joint] == SLIDE)]


def _make_common(name: str, masks: dict[str, np.ndarray]) -> Parameter:
    meaning = {"kp": "stiffness", "kd": "damping"}[name]
    apply: Callable[[Fields, np.ndarray], None] = scale_marked(masks)
    fields = tuple(masks)
    return Parameter(name, "x", 1.0, 0.0, 100.0, fields, apply, f"{meaning} of all servos")


def _make_gain(
    name: str, unit: str, default: float, fields: tuple[str, ...], apply: Apply
) -> Parameter:
    return Parameter(name, unit, default, 0.0, MAX_GAIN, fields, apply, "absolute, of its servo")
