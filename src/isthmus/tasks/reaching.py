"""Reaching: a hand seeks a goal in space, a new one each episode. An arm's own file is short."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from isthmus.tasks.observation import Between, JointAngles, JointSpeeds, LastAction, Position
from isthmus.tasks.robot import RobotTask
from isthmus.tasks.view import SimView


class Reaching(RobotTask):
    """An arm whose body `tip` seeks the body `goal`, which three slides move: both of its model.

    The goal is uniform in a part of a ring around the base's axis: `radius` and `height` (m), and
    `turn` (rad) about it. `progress` is the distance from tip to goal in metres: less is better. It
    is at the goal within 2 cm.
    """

    frame_skip = 4
    time_limit = 150
    main_body = "base"  # which stays: a camera at rest
    observed = (
        JointAngles(),
        JointSpeeds(),
        Position("goal"),
        Between("tip", "goal"),
        LastAction(),
    )
    start_noise = 0.1
    radius: ClassVar[tuple[float, float]]
    height: ClassVar[tuple[float, float]]
    turn: ClassVar[tuple[float, float]] = (-1.2, 1.2)

    def start(self, simulator, random):
        """Return the keyframe, joints a little off, and a goal in the ring."""
        qpos, qvel = super().start(simulator, random)
        low, high = np.array([self.radius, self.height, self.turn]).T
        radius, height, turn = (low + (high - low) * random.uniform(0.0, 1.0, 3)).T
        goal = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
        qpos[:, self._find_goal()] = goal
        return qpos, qvel

    def rewards(self, view, memory, action):
        """Return what nearness pays, more within centimetres, and what haste costs."""
        distance = self.progress(view)
        change = action - self.read_last_action(view)
        return {
            "distance": -distance,
            "near": np.exp(-np.square(distance / 0.05)),
            "close": np.exp(-np.square(distance / 0.015)),
            "change": -0.02 * np.square(change, order="C").sum(axis=1),
            "haste": -0.002 * np.square(self._read_speeds(view), order="C").sum(axis=1),
        }

    def progress(self, view):
        """Return the distance from tip to goal in metres."""
        miss = view.position("tip") - view.position("goal")
        return np.sqrt(np.vecdot(miss, miss))

    def at_goal(self, view):
        """Return which tips are within 2 cm of the goal."""
        return self.progress(view) < 0.02

    def state_of(self, obs):
        """Return the joints' state and the goal, which stays."""
        actuation = self.find_actuation()
        model, size, n = self.find_model(), len(actuation.pose), len(obs)
        qpos, qvel = np.tile(model.qpos0, (n, 1)), np.zeros((n, model.nv))
        qpos[:, actuation.angles] = obs[:, :size] + actuation.pose
        qpos[:, self._find_goal()] = obs[:, 2 * size : 2 * size + 3]
        qvel[:, actuation.speeds] = obs[:, size : 2 * size]
        return qpos, qvel

    def _find_goal(self) -> slice:
        """Return where qpos holds the goal's place."""
        model = self.find_model()
        first = int(model.jnt_qposadr[model.body("goal").jntadr[0]])
        return slice(first, first + 3)

    def _read_speeds(self, view: SimView) -> np.ndarray:
        return view.qvel[:, self.find_actuation().speeds]
