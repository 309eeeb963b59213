"""Cartpole swing-up: a pole that hangs from a cart is to be swung up and held. After rllab's
CartpoleSwingup.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, register


@register
class CartpoleSwingup(Task):
    """Masses, length, starts, bounds and reward are those of rllab (Duan et al. 2016, arXiv
    1604.06778). Angle 0 is upright; as observed it is in -pi..pi, where rllab counts turns (with
    those TRPO learned to spin the pole and no more). An action of 1 is a force of 10 N. The time
    limit is our choice: rllab leaves it to the algorithm. At the goal the cosine is above 0.8, as
    in VIME's sparse version, whose end costs nothing (Houthooft et al. 2016, arXiv 1605.09674).
    `progress` is the height of the pole's tip over the cart in metres, -1 to 1.
    """

    name = "cartpole_swingup"
    model = Path(__file__).parent / "models" / "cartpole_swingup.xml"
    frame_skip = 10
    time_limit = 100
    main_body = "cart"
    costs = ()
    falling = ("fall",)
    observation_names = ("x", "x velocity", "angle", "angular velocity")

    def start(self, simulator, random):
        low, high = np.array([[-1, -2, np.pi - 1, -3], [1, 2, np.pi + 1, 3]])
        x, speed, angle, spin = (low + (high - low) * random.uniform(0, 1, 4)).T
        return np.stack([x, angle], axis=1), np.stack([speed, spin], axis=1)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        angle = (view.qpos[:, 1] + np.pi) % (
            2 * np.pi
        ) - np.pi  # turns are not counted: a spinning pole looks the same
        return np.stack([view.qpos[:, 0], view.qvel[:, 0], angle, view.qvel[:, 1]], axis=1)

    def rewards(self, view, memory, action):
        out = self.terminated(view)
        return {"upright": np.where(out, 0.0, np.cos(view.qpos[:, 1])), "fall": -100.0 * out}

    def terminated(self, view):
        return np.abs(view.qpos[:, 0]) > 3

    def progress(self, view):
        return np.cos(view.qpos[:, 1])

    def at_goal(self, view):
        return (np.cos(view.qpos[:, 1]) > 0.8) & ~self.terminated(view)
