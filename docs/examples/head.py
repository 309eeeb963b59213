"""A head on a neck that looks where it is told, by two servos."""

from pathlib import Path

import numpy as np

from isthmus.tasks.command import Command
from isthmus.tasks.observation import Commanded, JointAngles, JointSpeeds, LastAction, Sensor
from isthmus.tasks.robot import RobotTask
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register


@register
class Head(RobotTask):
    name = "head"
    model = Path(__file__).with_name("head.xml")
    frame_skip = 4  # physics steps of 5 ms: 50 Hz
    time_limit = 250
    main_body = "neck"
    servo = Servo(scale={"pan": 1.4, "tilt": 0.7}, kp=8, kd=0.3, effort=2, speed=12)
    observed = (Sensor("gyro"), JointAngles(), JointSpeeds(), Commanded(), LastAction())
    command = Command({"pan [rad]": (-1.2, 1.2), "tilt [rad]": (-0.6, 0.6)}, seconds=(1.0, 3.0))

    def rewards(self, view, memory, action):
        change = action - self.read_last_action(view)
        return {
            "look": np.exp(-np.square(self.progress(view) / 0.1)),
            "change": -0.1 * np.square(change).sum(axis=1),
        }

    def progress(self, view):
        miss = view.qpos - self.read_command(view)
        return np.hypot(miss[:, 0], miss[:, 1])  # radians off

    def at_goal(self, view):
        return self.progress(view) < 0.05
