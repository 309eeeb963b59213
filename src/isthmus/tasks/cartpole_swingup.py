"""Cartpole swing-up: a pole that hangs from a cart is to be swung up and held, as in rllab."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.tasks.task import Task, register


@register
class CartpoleSwingup(Task):
    """The CartpoleSwingup of rllab (Duan et al. 2016, arXiv 1604.06778).

    Masses, length, starts, bounds and reward are rllab's. Angle 0 is upright; as observed it is in
    -pi..pi, where rllab counts turns (with those TRPO learned to spin the pole and no more). An
    action of 1 is a force of 10 N. The time limit is our choice: rllab leaves it to the algorithm.
    At the goal the cosine is above 0.8, as in VIME's sparse version, whose end costs nothing
    (Houthooft et al. 2016, arXiv 1605.09674).
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
    observation_units = ("m", "m/s", "rad", "rad/s")

    def start(self, simulator, random):
        """Return positions, angles and velocities uniform in rllab's bounds."""
        low, high = np.array([[-1, -2, np.pi - 1, -3], [1, 2, np.pi + 1, 3]])
        x, speed, angle, spin = (low + (high - low) * random.uniform(0, 1, 4)).T
        return np.stack([x, angle], axis=1), np.stack([speed, spin], axis=1)

    def remember(self, view):
        """Return nothing, (n, 0)."""
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        """Return the cart's and the pole's position and velocity, the angle in -pi..pi."""
        # Turns are not counted: a spinning pole looks the same.
        angle = (view.qpos[:, 1] + np.pi) % (2 * np.pi) - np.pi
        return np.stack([view.qpos[:, 0], view.qvel[:, 0], angle, view.qvel[:, 1]], axis=1)

    def state_of(self, obs):
        """Return the state, the angle in -pi..pi."""
        return obs[:, [0, 2]].astype(float), obs[:, [1, 3]].astype(float)

    def rewards(self, view, memory, action):
        """Return the cosine of the pole's angle, and -100 where the cart has left the track."""
        off_track = self.terminated(view)
        upright = np.where(off_track, 0.0, np.cos(view.qpos[:, 1]))
        return {"upright": upright, "fall": -100.0 * off_track}

    def observed_rewards(self, action, next_obs):
        """Return the same: positions and angles are observed."""
        off_track = self.observed_falls(next_obs)
        upright = np.where(off_track, 0.0, np.cos(next_obs[:, 2]))
        return {"upright": upright, "fall": -100.0 * off_track}

    def observed_falls(self, obs):
        """Return which carts are further than 3 m from the middle."""
        return np.abs(obs[:, 0]) > 3

    def terminated(self, view):
        """Return which carts are further than 3 m from the middle."""
        return np.abs(view.qpos[:, 0]) > 3

    def progress(self, view):
        """Return the height of the pole's tip over the cart in metres."""
        return np.cos(view.qpos[:, 1])

    def at_goal(self, view):
        """Return which poles are up, on a track that has not ended."""
        return (np.cos(view.qpos[:, 1]) > 0.8) & ~self.terminated(view)
