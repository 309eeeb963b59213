"""Hopper: one leg, three motors; paid for speed and for standing. Gymnasium 1.4's Hopper-v5 to the
bit.
"""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import RUN, Task, control_cost, register


@register
class Hopper(Task):
    name = "hopper"
    model = "hopper.xml"
    frame_skip = 4
    falling = ("alive",)
    reference = "Hopper-v5"
    observation_names = (
        "z", "angle", "thigh angle", "leg angle", "foot angle",
        "x velocity", "z velocity", "angular velocity", "thigh velocity", "leg velocity", "foot velocity",
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
        qpos, qvel = view.qpos, view.qvel
        state = (np.abs(qpos[:, 2:]) < 100).all(1) & (np.abs(qvel) < 100).all(1)
        return ~(state & (qpos[:, 1] > 0.7) & (qpos[:, 1] < np.inf) & (np.abs(qpos[:, 2]) < 0.2))

    def progress(self, view):
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        return view.qpos[:, 0] >= RUN
