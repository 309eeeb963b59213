"""Parts of an observation: what a robot's sensors tell, by names with units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from isthmus.physics.joint_parameters import SLIDE
from isthmus.tasks.rotations import rotate_back
from isthmus.tasks.view import SimView, find_body, find_sensor
from isthmus.types import BadValue

if TYPE_CHECKING:
    import mujoco

    from isthmus.tasks.actuation import Actuation
    from isthmus.tasks.command import Command

SENSOR_UNITS = {
    "mjSENS_GYRO": "rad/s",
    "mjSENS_ACCELEROMETER": "m/s2",
    "mjSENS_VELOCIMETER": "m/s",
    "mjSENS_TOUCH": "N",
    "mjSENS_FORCE": "N",
    "mjSENS_TORQUE": "N m",
    "mjSENS_JOINTPOS": "rad",
    "mjSENS_JOINTVEL": "rad/s",
    "mjSENS_FRAMEPOS": "m",
    "mjSENS_FRAMELINVEL": "m/s",
    "mjSENS_FRAMEANGVEL": "rad/s",
    "mjSENS_FRAMELINACC": "m/s2",
    "mjSENS_FRAMEANGACC": "rad/s2",
    "mjSENS_ACTUATORFRC": "N m",
    "mjSENS_RANGEFINDER": "m",
}
"""Units of sensors that have one, by MuJoCo's names; a quaternion or an axis has none."""
AXES = {1: ("",), 3: (" x", " y", " z"), 4: (" w", " x", " y", " z")}
DOWN = np.array([0.0, 0.0, -1.0])


class ObservedRobot(Protocol):
    """What parts ask of a task: see `isthmus.tasks.robot.RobotTask`."""

    name: ClassVar[str]
    command: ClassVar[Command | None]

    def find_model(self) -> mujoco.MjModel:
        """Return the compiled model."""
        ...

    def find_actuation(self) -> Actuation:
        """Return the servo, by the model's joints."""
        ...

    def find_base(self) -> int:
        """Return where the floating base's velocity begins."""
        ...

    def read_command(self, view: SimView) -> np.ndarray:
        """Return what worlds are told, [n, C]."""
        ...

    def read_last_action(self, view: SimView) -> np.ndarray:
        """Return the last actions, [n, A]."""
        ...

    def read_base_quaternion(self, view: SimView) -> np.ndarray:
        """Return the base's orientation, [n, 4]."""
        ...


@dataclass(frozen=True)
class Part:
    """Some numbers of an observation.

    `needs` is what the view must show for it; `given` says that they tell what was said to the
    robot, and nothing of its motion.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    given: ClassVar[bool] = False

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the numbers' names, with units. Raises UnknownName for what is not there."""
        raise NotImplementedError

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return the numbers, float64 [n, k]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sensor(Part):
    """A sensor of the MJCF, by its name."""

    name: str
    needs = ("sensors",)

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the sensor's name with an axis and the unit."""
        model = robot.find_model()
        _, size = find_sensor(model, self.name)
        import mujoco

        kind = mujoco.mjtSensor(model.sensor(self.name).type[0]).name
        axes = AXES.get(size, tuple(f" {i}" for i in range(size)))
        return _label(self.name, axes, SENSOR_UNITS.get(kind, ""))

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return the sensor's numbers."""
        return view.sensor(self.name)


@dataclass(frozen=True)
class ProjectedGravity(Part):
    """Where down is, in the axes of the robot's floating base: an IMU's estimate of its tilt."""

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return down x, y, z. Raises BadValue where the robot does not float."""
        robot.find_base()
        return _label("down", AXES[3], "")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return unit vectors."""
        return rotate_back(robot.read_base_quaternion(view), DOWN)


@dataclass(frozen=True)
class Orientation(Part):
    """A body's orientation in the world, as a quaternion."""

    body: str
    needs = ("orientations",)

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the body's name with w, x, y, z."""
        find_body(robot.find_model(), self.body)
        return _label(f"{self.body} orientation", AXES[4], "")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return quaternions."""
        return view.orientation(self.body)


@dataclass(frozen=True)
class Velocity(Part):
    """A body's velocity, linear and angular, in the world's axes."""

    body: str
    needs = ("velocities",)

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the body's name with axes and units."""
        find_body(robot.find_model(), self.body)
        linear = _label(f"{self.body} velocity", AXES[3], "m/s")
        return linear + _label(f"{self.body} angular velocity", AXES[3], "rad/s")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return m/s, then rad/s."""
        return view.velocity(self.body)


@dataclass(frozen=True)
class Position(Part):
    """A body's position in the world."""

    body: str

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the body's name with an axis."""
        find_body(robot.find_model(), self.body)
        return _label(self.body, AXES[3], "m")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return metres."""
        return view.position(self.body)


@dataclass(frozen=True)
class Between(Part):
    """The way from one body to another, in the world's axes."""

    origin: str
    to: str

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return both names with an axis."""
        for body in (self.origin, self.to):
            find_body(robot.find_model(), body)
        return _label(f"{self.origin} to {self.to}", AXES[3], "m")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return metres."""
        return view.position(self.to) - view.position(self.origin)


@dataclass(frozen=True)
class JointAngles(Part):
    """The driven joints' angles, from their pose."""

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the joints' names with units."""
        return _label_joints(robot, "", "")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return rad or m."""
        actuation = robot.find_actuation()
        return view.qpos[:, actuation.angles] - actuation.pose


@dataclass(frozen=True)
class JointSpeeds(Part):
    """The driven joints' speeds."""

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the joints' names with units."""
        return _label_joints(robot, " velocity", "/s")

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return rad/s or m/s."""
        return view.qvel[:, robot.find_actuation().speeds]


@dataclass(frozen=True)
class Commanded(Part):
    """What the robot is told."""

    given = True

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the command's names. Raises BadValue where the task has none."""
        if robot.command is None:
            raise BadValue(f"{robot.name} observes a command and has none; write command = ...")
        return tuple(f"commanded {name}" for name in robot.command.ranges)

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return the command that holds now."""
        return robot.read_command(view)


@dataclass(frozen=True)
class LastAction(Part):
    """The policy's last action."""

    given = True

    def names(self, robot: ObservedRobot) -> tuple[str, ...]:
        """Return the joints' names."""
        return tuple(f"{joint} last action" for joint in robot.find_actuation().joints)

    def read(self, view: SimView, robot: ObservedRobot) -> np.ndarray:
        """Return actions; zeros at a start."""
        return robot.read_last_action(view)


def _label(name: str, axes: tuple[str, ...], unit: str) -> tuple[str, ...]:
    suffix = f" [{unit}]" if unit else ""
    return tuple(f"{name}{axis}{suffix}" for axis in axes)


def _label_joints(robot: ObservedRobot, quantity: str, per_time: str) -> tuple[str, ...]:
    model = robot.find_model()
    names: list[str] = []
    for joint in robot.find_actuation().joints:
        unit = "m" if model.joint(joint).type[0] == SLIDE else "rad"
        names.append(f"{joint}{quantity} [{unit}{per_time}]")
    return tuple(names)
