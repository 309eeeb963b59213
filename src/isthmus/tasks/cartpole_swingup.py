"""Cartpole swing-up: a pole that hangs from a cart is to be swung up and held. After rllab's CartpoleSwingup."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, register


@register
class CartpoleSwingup(Task):
    """Masses, length, starts, bounds and reward are those of rllab (Duan et al. 2016, arXiv 1604.06778). Angle 0 is
    upright and is not wrapped. An action of 1 is a force of 10 N. The time limit is our choice: rllab leaves it to the
    algorithm. `progress` is the height of the pole's tip over the cart in metres, -1 to 1.
    """

    name = "cartpole_swingup"
    model = Path(__file__).parent / "models" / "cartpole_swingup.xml"
    frame_skip = 10
    time_limit = 200
    main_body = "cart"
    observation_names = ("x", "x velocity", "angle", "angular velocity")

    def start(self, simulator, random):
        low, high = np.array([[-1, -2, np.pi - 1, -3], [1, 2, np.pi + 1, 3]])
        x, speed, angle, spin = (low + (high - low) * random.uniform(0, 1, 4)).T
        return np.stack([x, angle], axis=1), np.stack([speed, spin], axis=1)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        return np.stack([view.qpos[:, 0], view.qvel[:, 0], view.qpos[:, 1], view.qvel[:, 1]], axis=1)

    def rewards(self, view, memory, action):
        out = self.terminated(view)
        return {"upright": np.where(out, 0.0, np.cos(view.qpos[:, 1])), "fall": -100.0 * out}

    def terminated(self, view):
        return np.abs(view.qpos[:, 0]) > 3

    def progress(self, view):
        return np.cos(view.qpos[:, 1])
