"""Walking at a commanded velocity: what four-legged robots share. A robot's own file is short."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from isthmus.tasks.command import Command
from isthmus.tasks.observation import (
    Commanded,
    JointAngles,
    JointSpeeds,
    LastAction,
    ProjectedGravity,
    Sensor,
)
from isthmus.tasks.robot import RobotTask
from isthmus.tasks.rotations import rotate, rotate_back, tilt_of

FALLEN_TILT = 0.5
"""The cosine of a base's tilt below which a robot has fallen."""
TRACKED = 0.25
"""m/s of linear velocity within which a command counts as followed, and rad/s of turning twice."""
GRAVITY_COLUMNS = slice(6, 9)


class Walking(RobotTask):
    """A legged robot that is told how fast to go: forward, to its left (m/s), and turning (rad/s).

    A robot's own class has touch sensors called `feet`, in the order front left, front right, rear
    left, rear right, `knees`, the height of its base at rest, and the weights of the reward where
    others suit it. `progress` is the mean error of linear velocity in the episode so far, m/s: less
    is better; the goal is to be within TRACKED of the command.
    """

    frame_skip = 5
    time_limit = 1000
    main_body = "trunk"
    falling = ("fall",)
    looks_at = ("sensors", "efforts")
    observed = (
        Sensor("velocimeter"), Sensor("gyro"), ProjectedGravity(), Commanded(), JointAngles(),
        JointSpeeds(), LastAction(),
    )  # fmt: skip
    command = Command(
        {
            "forward velocity [m/s]": (-0.6, 1.0),
            "left velocity [m/s]": (-0.4, 0.4),
            "turning [rad/s]": (-1.0, 1.0),
        },
        seconds=(4.0, 8.0),
        rest=0.15,
    )
    feet: ClassVar[tuple[str, ...]]
    knees: ClassVar[tuple[str, ...]]
    height: ClassVar[float]  # m
    swing: ClassVar[float] = 0.2  # s that a foot is to be in the air
    weights: ClassVar[dict[str, float]] = {
        "velocity": 1.5, "turning": 0.75, "trot": 0.5, "air": 4.0, "upright": 2.0, "height": 15.0,
        "bounce": 1.0, "roll": 0.05, "effort": 2e-4, "change": 0.015, "pose": 0.05, "still": 2.0,
        "knees": 1.0, "fall": 5.0,
    }  # fmt: skip

    @property
    def extra_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The seconds that each foot has been in the air, and the errors' sum.

        Those are the episode's errors of linear velocity, m/s.
        """
        return len(self.feet) + 1

    def advance(self, view, action):
        """Go on; count the air times of feet, and the error."""
        own = self.read_own(view)
        touching = self._read_touch(view, self.feet)
        own[:, :-1] = np.where(touching, 0.0, own[:, :-1] + view.dt)
        own[:, -1] += self._measure_error(view)
        self.write_own(view, own)
        super().advance(view, action)

    def rewards(self, view, memory, action):
        """Return what following the command pays, and what each flaw of a gait costs."""
        w, base = self.weights, self.find_base()
        command = self.read_command(view)
        down = rotate_back(self.read_base_quaternion(view), np.array([0.0, 0.0, -1.0]))
        spin, rise = view.qvel[:, base + 3 : base + 6], view.qvel[:, base + 2]
        low = self._read_height(view) - self.height
        actuation = self.find_actuation()
        off = view.qpos[:, actuation.angles] - actuation.pose
        turning_error = np.square(spin[:, 2] - command[:, 2])
        return {
            "velocity": w["velocity"] * np.exp(-np.square(self._measure_error(view)) / 0.1),
            "turning": w["turning"] * np.exp(-turning_error / 0.25),
            **self._pay_gait(view, command),
            "upright": -w["upright"] * _sum_squares(down[:, :2]),
            "height": -w["height"] * np.square(low),
            "bounce": -w["bounce"] * np.square(rise),
            "roll": -w["roll"] * _sum_squares(spin[:, :2]),
            "effort": -w["effort"] * _sum_squares(view.effort),
            "change": -w["change"] * _sum_squares(action - self.read_last_action(view)),
            "pose": -(w["pose"] + w["still"] * ~_is_told_to_move(command)) * _sum_squares(off),
            "knees": -w["knees"] * self._read_touch(view, self.knees).sum(axis=1),
            "fall": -w["fall"] * self.terminated(view),
        }

    def _pay_gait(self, view, command):
        """Return what a trot pays while the robot is to move: diagonal feet together, in turn.

        A foot that touches down is paid for its time in the air, `swing` seconds at the most, and
        charged where that was under half of it; one that stays up for twice as long costs.
        """
        touching = self._read_touch(view, self.feet)
        moving = _is_told_to_move(command)
        aired = self.read_own(view)[:, :-1]
        landed = touching & (aired > 0)
        paid = landed * (np.minimum(aired, self.swing) - self.swing / 2)
        overdue = np.clip(aired - 2 * self.swing, 0.0, self.swing).sum(axis=1)
        front_left, front_right, rear_left, rear_right = touching.T
        together = (front_left == rear_right) & (front_right == rear_left)
        trot = together & (front_left != front_right)
        stand = touching.all(axis=1)
        return {
            "trot": self.weights["trot"] * np.where(moving, trot, stand),
            "air": self.weights["air"] * (moving * paid.sum(axis=1) - overdue),
        }

    def terminated(self, view):
        """Return which robots lie: base tilted or low."""
        down = rotate_back(self.read_base_quaternion(view), np.array([0.0, 0.0, -1.0]))
        return (-down[:, 2] < FALLEN_TILT) | (self._read_height(view) < 0.45 * self.height)

    def progress(self, view):
        """Return the mean error of linear velocity in the episode so far, m/s."""
        return self.read_own(view)[:, -1] / np.maximum(view.state[:, 1], 1.0)

    def at_goal(self, view):
        """Return which robots follow their command now."""
        return self._measure_error(view) < TRACKED

    def state_of(self, obs):
        """Return the state that sensors tell: tilt and joints, no place, heading or height."""
        actuation, n = self.find_actuation(), len(obs)
        size, base = len(actuation.pose), self.find_base()
        first = GRAVITY_COLUMNS.stop + 3
        model = self.find_model()
        qpos, qvel = np.tile(model.qpos0, (n, 1)), np.zeros((n, model.nv))
        qpos[:, 2] = np.nan
        qpos[:, 3:7] = tilt_of(obs[:, GRAVITY_COLUMNS])
        qpos[:, actuation.angles] = obs[:, first : first + size] + actuation.pose
        qvel[:, base : base + 3] = rotate(qpos[:, 3:7], obs[:, 0:3])
        qvel[:, base + 3 : base + 6] = obs[:, 3:6]
        qvel[:, actuation.speeds] = obs[:, first + size : first + 2 * size]
        return qpos, qvel

    def _measure_error(self, view) -> np.ndarray:
        """Return by how much the linear velocity misses the command, m/s, [n]."""
        base = self.find_base()
        velocity = rotate_back(self.read_base_quaternion(view), view.qvel[:, base : base + 3])
        miss = velocity[:, :2] - self.read_command(view)[:, :2]
        return np.hypot(miss[:, 0], miss[:, 1])

    def _read_height(self, view) -> np.ndarray:
        return view.qpos[:, 2]

    def _read_touch(self, view, names) -> np.ndarray:
        """Return which touch sensors feel anything, bool [n, names]."""
        return np.concatenate([view.sensor(name) for name in names], axis=1) > 0.1


def _is_told_to_move(command: np.ndarray) -> np.ndarray:
    return np.abs(command).sum(axis=1) > 0.1


def _sum_squares(rows: np.ndarray) -> np.ndarray:
    # In C order a row's sum is taken in the same order in any batch.
    return np.square(rows, order="C").sum(axis=1)
