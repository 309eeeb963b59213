"""Ball: a ball in a plane is pushed to a goal. After MATL's state-alignment example."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, control_cost, register


@register
class Ball(Task):
    """A ball that two forces push to the origin; an action of 1 is a force of 1 N.

    An episode starts at rest, uniform in the square 0.5..1.5 m in both directions. MATL (Wulfmeier
    et al. 2017, arXiv 1707.07907) gives no numbers: all are our choice. `progress` is the distance
    to the goal in metres, less is better; the ball is at the goal within 0.1 m.
    """

    name = "ball"
    model = Path(__file__).parent / "models" / "ball.xml"
    frame_skip = 5
    time_limit = 100
    main_body = "field"  # which stays: a camera at rest
    observation_names = ("x", "y", "x velocity", "y velocity")
    observation_units = ("m", "m", "m/s", "m/s")

    def start(self, simulator, random):
        """Return a position in the square 0.5..1.5 m, at rest."""
        qpos = random.uniform(0.5, 1.5, 2)
        return qpos, np.zeros_like(qpos)

    def remember(self, view):
        """Return nothing, (n, 0)."""
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        """Return the position and the velocity."""
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def state_of(self, obs):
        """Return the state."""
        return obs[:, :2].astype(float), obs[:, 2:].astype(float)

    def rewards(self, view, memory, action):
        """Return minus the distance to the goal, and the cost of control."""
        return {"distance": -self.progress(view), "control": control_cost(0.01, action)}

    def observed_rewards(self, action, next_obs):
        """Return the same: the position is observed."""
        distance = np.hypot(next_obs[:, 0], next_obs[:, 1])
        return {"distance": -distance, "control": control_cost(0.01, action)}

    def progress(self, view):
        """Return the distance to the goal in metres."""
        return np.hypot(view.qpos[:, 0], view.qpos[:, 1])

    def at_goal(self, view):
        """Return which balls are within 0.1 m of the goal."""
        return self.progress(view) < 0.1
