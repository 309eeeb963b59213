"""Walker2d: two legs in a plane, paid for speed and for standing. Walker2d-v5 to the bit."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import GOAL_DISTANCE, Task, control_cost, register


@register
class Walker2d(Task):
    """Gymnasium 1.4's Walker2d-v5: an episode ends when the robot has fallen."""

    name = "walker2d"
    model = "walker2d_v5.xml"  # both feet of friction 1.9; walker2d.xml has a right foot of 0.9
    frame_skip = 4
    falling = ("alive",)
    reference = "Walker2d-v5"
    observation_names = (
        "z", "angle",
        "right thigh angle", "right leg angle", "right foot angle",
        "left thigh angle", "left leg angle", "left foot angle",
        "x velocity", "z velocity", "angular velocity",
        "right thigh velocity", "right leg velocity", "right foot velocity",
        "left thigh velocity", "left leg velocity", "left foot velocity",
    )  # fmt: skip
    observation_units = ("m", *("rad",) * 7, "m/s", "m/s", *("rad/s",) * 7)

    def start(self, simulator, random):
        """Return the default pose and velocities with uniform noise of 0.005."""
        noise = 5e-3
        qpos = simulator.qpos0 + random.uniform(-noise, noise, len(simulator.qpos0))
        return qpos, random.uniform(-noise, noise, simulator.qvel.shape[1])

    def remember(self, view):
        """Return the x before the step, (n, 1)."""
        return view.qpos[:, :1].copy()

    def observe(self, view):
        """Return the positions but x, and the velocities clipped to -10..10."""
        return np.concatenate([view.qpos[:, 1:], np.clip(view.qvel, -10, 10)], axis=1)

    def state_of(self, obs):
        """Return the state, x at 0; a velocity that was clipped is not told."""
        x = np.zeros((len(obs), 1))
        speeds = obs[:, 8:].astype(float)
        speeds[np.abs(speeds) >= 10] = np.nan
        return np.concatenate([x, obs[:, :8]], axis=1), speeds

    def rewards(self, view, memory, action):
        """Return the forward speed, 1 for standing, and the cost of control."""
        return {
            "forward": (view.qpos[:, 0] - memory[:, 0]) / view.dt,
            "alive": 1.0 * ~self.terminated(view),
            "control": control_cost(1e-3, action),
        }

    def terminated(self, view):
        """Return which robots are out of 0.8..2 m of height or lean beyond 1 rad."""
        return view.once(self._find_fallen)

    def _find_fallen(self, view):
        z, angle = view.qpos[:, 1], view.qpos[:, 2]
        return ~((z > 0.8) & (z < 2) & (np.abs(angle) < 1))

    def progress(self, view):
        """Return the x in metres."""
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        """Return which robots have come GOAL_DISTANCE far."""
        return view.qpos[:, 0] >= GOAL_DISTANCE
