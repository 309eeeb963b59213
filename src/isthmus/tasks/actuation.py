"""A task's servo, by the joints of its model."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np

from isthmus.physics.actuator_controls import describe_actuator
from isthmus.physics.actuator_strength import AT_JOINT, is_torque_motor
from isthmus.physics.engine import Simulator
from isthmus.physics.joint_parameters import HINGE, SLIDE
from isthmus.physics.servos import Servos, as_slice, find_position_actuators
from isthmus.tasks.servo import PerJoint
from isthmus.tasks.task import Task, read_pose
from isthmus.types import BadValue, UnknownName


class Actuation:
    """A task's servos, by its model's joints.

    `low` and `high` (float32 (A,)) bound the actions; `joints` (A,) are the joints' names, `pose`
    (A,) their neutral angles, `angles` and `speeds` where qpos and qvel hold them; `servos` is None
    where the model's own actuators do the work.
    """

    def __init__(self, task: Task, model: mujoco.MjModel):
        assert task.servo is not None
        self._task, self._model, self._servo = task, model, task.servo
        ids = self._find_joints()
        self.joints = tuple(model.joint(j).name for j in ids)
        self.angles = as_slice(np.asarray(model.jnt_qposadr)[ids])
        self.speeds = as_slice(np.asarray(model.jnt_dofadr)[ids])
        self.pose = read_pose(task)[self.angles]
        limited = np.asarray(model.jnt_limited, bool)[ids, None]
        limits = np.where(limited, np.asarray(model.jnt_range)[ids], [-np.inf, np.inf])
        self._lowest, self._highest = limits.T
        self._check_pose()
        self.scale = self._spread("scale", task.servo.scale, above_zero=True)
        self.high = np.ones(len(ids), np.float32)
        self.low = -self.high
        self.servos = self._read_servos()

    def control(self, action: np.ndarray) -> np.ndarray:
        """Return the joints' targets, float64 (n, A), of actions (n, A)."""
        return self.limit(self.pose + self.scale * action)

    def limit(self, angles: np.ndarray) -> np.ndarray:
        """Return angles (n, A) within the joints' limits."""
        return np.clip(angles, self._lowest, self._highest)

    def neutral_action(self, simulator: Simulator, ids: np.ndarray) -> np.ndarray:
        """Return the actions (n, A) that tell worlds to stay where they are, as far as one can."""
        away = simulator.qpos[ids][:, self.angles] - self.pose
        return np.clip(away / self.scale, self.low, self.high)

    def _fault(self, what: str) -> BadValue:
        return BadValue(f"{self._task.name}.servo: {what}")

    def _find_joints(self) -> list[int]:
        """Return the joint of each actuator. Raises BadValue where one drives anything else."""
        model = self._model
        if not model.nu:
            raise self._fault("the model has no actuators; add a <motor> or <position> a joint")
        joints: list[int] = []
        for actuator in range(model.nactuator):
            joint = int(model.actuator_trnid[actuator, 0])
            drives_joint = int(model.actuator_trntype[actuator]) in AT_JOINT
            if not drives_joint or model.jnt_type[joint] not in (HINGE, SLIDE):
                raise self._fault(
                    f"{describe_actuator(model, actuator)} drives no hinge or slide; a servo needs "
                    "one joint"
                )
            joints.append(joint)
        return joints

    def _check_pose(self) -> None:
        for name, angle, low, high in zip(
            self.joints, self.pose, self._lowest, self._highest, strict=True
        ):
            if not low - 1e-6 <= angle <= high + 1e-6:
                raise self._fault(
                    f"the pose has {name} at {angle:g}, beyond its limits {low:g}..{high:g}; mend "
                    "the keyframe or the joint's range"
                )

    def _read_servos(self) -> Servos | None:
        servo = self._servo
        if servo.kp is None and servo.kd is None:
            own = find_position_actuators(self._model)
            self._check_actuators(
                [a in own for a in range(self._model.nactuator)],
                "is no <position> servo; give kp and kd, or make it one",
            )
            return None
        if servo.kp is None or servo.kd is None:
            raise self._fault("kp and kd go together; give both, or neither")
        self._check_actuators(
            [is_torque_motor(self._model, a) for a in range(self._model.nactuator)],
            "is no torque <motor>, which kp and kd need; leave them out, or make it one",
        )
        effort = self._read_effort()
        stall, speed = effort, np.full(len(effort), np.inf)
        if servo.stall is not None:
            stall = self._spread("stall", servo.stall, above_zero=True)
        if servo.speed is not None:
            speed = self._spread("speed", servo.speed, above_zero=True)
        return Servos(
            kp=tuple(self._spread("kp", servo.kp).tolist()),
            kd=tuple(self._spread("kd", servo.kd).tolist()),
            effort=tuple(effort.tolist()),
            stall=tuple(stall.tolist()),
            speed=tuple(speed.tolist()),
        )

    def _check_actuators(self, good: list[bool], what: str) -> None:
        if not all(good):
            raise self._fault(f"{describe_actuator(self._model, good.index(False))} {what}")

    def _read_effort(self) -> np.ndarray:
        """Return the largest torques (A,): those given, else what controls' ranges allow."""
        if self._servo.effort is not None:
            return self._spread("effort", self._servo.effort, above_zero=True)
        model = self._model
        gear = np.abs(np.asarray(model.actuator_gear)[:, 0])
        limited = np.asarray(model.actuator_ctrllimited, bool)
        if not limited.all():
            actuator = int(np.argmin(limited))
            raise self._fault(
                f"{describe_actuator(model, actuator)} has no ctrlrange; give its effort there, or "
                "effort=... here"
            )
        return np.abs(np.asarray(model.actuator_ctrlrange)).min(axis=1) * gear

    def _spread(self, name: str, given: PerJoint, above_zero: bool = False) -> np.ndarray:
        """Return a number a joint, (A,). Raises BadValue or UnknownName."""
        if not isinstance(given, Mapping):
            numbers = np.full(len(self.joints), given, float)
        else:
            numbers = np.array([self._look_up(name, given, joint) for joint in self.joints], float)
            self._check_all_used(name, given)
        good = numbers > 0 if above_zero else numbers >= 0
        if not (good & np.isfinite(numbers)).all():
            joint = int(np.argmin(good & np.isfinite(numbers)))
            bound = "above 0" if above_zero else "0 or more"
            raise self._fault(
                f"{name} of {self.joints[joint]} is {numbers[joint]:g}; it needs a number {bound}"
            )
        return numbers

    def _look_up(self, name: str, given: Mapping[str, float], joint: str) -> float:
        for part, number in given.items():
            if part in joint:
                return number
        raise self._fault(f"no {name} for joint {joint}; {name} has {', '.join(given)}")

    def _check_all_used(self, name: str, given: Mapping[str, float]) -> None:
        for part in given:
            if not any(part in joint for joint in self.joints):
                raise UnknownName(f"joint in {self._task.name}.servo.{name}", part, self.joints)
