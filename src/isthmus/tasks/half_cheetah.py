"""HalfCheetah: a two-legged runner in a plane that cannot fall out. Gymnasium 1.4's HalfCheetah-v5
to the bit.
"""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import RUN, Task, control_cost, register


@register
class HalfCheetah(Task):
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

    def start(self, simulator, random):
        noise = 0.1
        qpos = simulator.qpos0 + random.uniform(-noise, noise, len(simulator.qpos0))
        return qpos, noise * random.standard_normal(simulator.qvel.shape[1])

    def remember(self, view):
        return view.qpos[:, :1].copy()

    def observe(self, view):
        return np.concatenate([view.qpos[:, 1:], view.qvel], axis=1)

    def rewards(self, view, memory, action):
        return {
            "forward": (view.qpos[:, 0] - memory[:, 0]) / view.dt,
            "control": control_cost(0.1, action),
        }

    def progress(self, view):
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        return view.qpos[:, 0] >= RUN
