"""Walker2d: two legs in a plane, paid for speed and for standing. Gymnasium 1.4's Walker2d-v5 to
the bit.
"""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import RUN, Task, control_cost, register


@register
class Walker2d(Task):
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

    def start(self, simulator, random):
        noise = 5e-3
        qpos = simulator.qpos0 + random.uniform(-noise, noise, len(simulator.qpos0))
        return qpos, random.uniform(-noise, noise, simulator.qvel.shape[1])

    def remember(self, view):
        return view.qpos[:, :1].copy()

    def observe(self, view):
        return np.concatenate([view.qpos[:, 1:], np.clip(view.qvel, -10, 10)], axis=1)

    def rewards(self, view, memory, action):
        return {
            "forward": (view.qpos[:, 0] - memory[:, 0]) / view.dt,
            "alive": 1.0 * ~self.terminated(view),
            "control": control_cost(1e-3, action),
        }

    def terminated(self, view):
        z, angle = view.qpos[:, 1], view.qpos[:, 2]
        return ~((z > 0.8) & (z < 2) & (np.abs(angle) < 1))

    def progress(self, view):
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        return view.qpos[:, 0] >= RUN
