"""Ball: a ball in a plane is pushed to a goal by forces in two directions. After MATL's
state-alignment example.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, control_cost, register


@register
class Ball(Task):
    """The goal is the origin; an episode starts at rest, uniform in the square 0.5..1.5 m in both
    directions. An action of 1 is a force of 1 N. MATL (Wulfmeier et al. 2017, arXiv 1707.07907)
    gives no numbers: all are ours. `progress` is the distance to the goal in metres, less is
    better; the ball is at the goal within 0.1 m.
    """

    name = "ball"
    model = Path(__file__).parent / "models" / "ball.xml"
    frame_skip = 5
    time_limit = 100
    main_body = "field"  # which stays: a camera at rest
    observation_names = ("x", "y", "x velocity", "y velocity")

    def start(self, simulator, random):
        qpos = random.uniform(0.5, 1.5, 2)
        return qpos, np.zeros_like(qpos)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def rewards(self, view, memory, action):
        return {"distance": -self.progress(view), "control": control_cost(0.01, action)}

    def progress(self, view):
        return np.hypot(view.qpos[:, 0], view.qpos[:, 1])

    def at_goal(self, view):
        return self.progress(view) < 0.1
