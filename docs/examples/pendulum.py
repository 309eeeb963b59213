"""A pole that balances on a cart: paid for standing."""

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, control_cost, register


@register
class Pendulum(Task):
    name = "pendulum"
    model = Path(__file__).with_name("pendulum.xml")
    frame_skip = 2  # physics steps of 0.01 s a control step
    time_limit = 500
    observation_names = ("x", "angle", "x velocity", "angular velocity")
    main_body = "cart"

    def start(self, simulator, random):
        qpos = simulator.qpos0 + random.uniform(-0.05, 0.05, 2)
        return qpos, random.uniform(-0.05, 0.05, 2)

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def remember(self, view):
        return np.empty((len(view.ids), 0))  # no reward of ours needs the moment before

    def rewards(self, view, memory, action):
        return {
            "upright": np.cos(view.qpos[:, 1]),
            "control": control_cost(0.01, action),
        }

    def terminated(self, view):
        return np.abs(view.qpos[:, 1]) > 0.4  # radians

    def progress(self, view):
        return np.abs(view.qpos[:, 0])  # metres from the middle
