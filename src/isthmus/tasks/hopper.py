"""Hopper: one leg, three motors; paid for speed and for standing. Hopper-v5 to the bit."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import GOAL_DISTANCE, Task, control_cost, register


@register
class Hopper(Task):
    """Gymnasium 1.4's Hopper-v5: an episode ends when the robot has fallen."""

    name = "hopper"
    model = "hopper.xml"
    frame_skip = 4
    falling = ("alive",)
    reference = "Hopper-v5"
    observation_names = (
        "z", "angle", "thigh angle", "leg angle", "foot angle",
        "x velocity", "z velocity", "angular velocity",
        "thigh velocity", "leg velocity", "foot velocity",
    )  # fmt: skip
    observation_units = ("m", *("rad",) * 4, "m/s", "m/s", *("rad/s",) * 4)

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
        speeds = obs[:, 5:].astype(float)
        speeds[np.abs(speeds) >= 10] = np.nan
        return np.concatenate([x, obs[:, :5]], axis=1), speeds

    def rewards(self, view, memory, action):
        """Return the forward speed, 1 for standing, and the cost of control."""
        return {
            "forward": (view.qpos[:, 0] - memory[:, 0]) / view.dt,
            "alive": 1.0 * ~self.terminated(view),
            "control": control_cost(1e-3, action),
        }

    def terminated(self, view):
        """Return which robots are too low, lean too far or move beyond all measure."""
        return view.once(self._find_fallen)

    def _find_fallen(self, view):
        qpos, qvel = view.qpos, view.qvel
        z, angle = qpos[:, 1], qpos[:, 2]
        standing = (z > 0.7) & (z < np.inf) & (np.abs(angle) < 0.2)
        leaning, speed = np.abs(qpos[:, 2:]), np.abs(qvel)
        # One pass over all numbers, where a test of each row would take several.
        if not (leaning.max(initial=0.0) < 100 and speed.max(initial=0.0) < 100):
            standing &= (leaning < 100).all(1) & (speed < 100).all(1)
        return ~standing

    def progress(self, view):
        """Return the x in metres."""
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        """Return which robots have come GOAL_DISTANCE far."""
        return view.qpos[:, 0] >= GOAL_DISTANCE
