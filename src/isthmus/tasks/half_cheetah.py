"""HalfCheetah: a two-legged runner in a plane that cannot fall. HalfCheetah-v5 to the bit."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import GOAL_DISTANCE, Task, control_cost, register


@register
class HalfCheetah(Task):
    """Gymnasium 1.4's HalfCheetah-v5: an episode ends by the time limit alone."""

    name = "half_cheetah"
    model = "half_cheetah.xml"
    frame_skip = 5
    reference = "HalfCheetah-v5"
    observation_names = (
        "z", "angle",
        "back thigh angle", "back shin angle", "back foot angle",
        "front thigh angle", "front shin angle", "front foot angle",
        "x velocity", "z velocity", "angular velocity",
        "back thigh velocity", "back shin velocity", "back foot velocity",
        "front thigh velocity", "front shin velocity", "front foot velocity",
    )  # fmt: skip
    observation_units = ("m", *("rad",) * 7, "m/s", "m/s", *("rad/s",) * 7)

    def start(self, simulator, random):
        """Return the default pose with uniform noise of 0.1 and velocities of normal noise."""
        noise = 0.1
        qpos = simulator.qpos0 + random.uniform(-noise, noise, len(simulator.qpos0))
        return qpos, noise * random.standard_normal(simulator.qvel.shape[1])

    def remember(self, view):
        """Return the x before the step, (n, 1)."""
        return view.qpos[:, :1].copy()

    def observe(self, view):
        """Return the positions but x, and the velocities."""
        return np.concatenate([view.qpos[:, 1:], view.qvel], axis=1)

    def state_of(self, obs):
        """Return the state, x at 0."""
        x = np.zeros((len(obs), 1))
        return np.concatenate([x, obs[:, :8]], axis=1), obs[:, 8:].astype(float)

    def rewards(self, view, memory, action):
        """Return the forward speed, and the cost of control."""
        return {
            "forward": (view.qpos[:, 0] - memory[:, 0]) / view.dt,
            "control": control_cost(0.1, action),
        }

    def progress(self, view):
        """Return the x in metres."""
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        """Return which robots have come GOAL_DISTANCE far."""
        return view.qpos[:, 0] >= GOAL_DISTANCE
