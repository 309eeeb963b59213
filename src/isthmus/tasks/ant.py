"""Ant: four legs, eight motors, in space; feels the ground push back. Ant-v5 to the bit."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import GOAL_DISTANCE, Task, control_cost, register

# Bodies in the model's order; Gymnasium leaves the world's contact force out of the observation.
_LEGS = ("front left", "front right", "back left", "back right")
_BODIES = ("torso", *(f"{leg} {part}" for leg in _LEGS for part in ("hip", "thigh", "shin")))
_JOINTS = tuple(f"{leg} {joint}" for leg in _LEGS for joint in ("hip", "ankle"))


@register
class Ant(Task):
    """Gymnasium 1.4's Ant-v5: an episode ends when the torso is too low, or too high.

    `remember` keeps the torso's position as MuJoCo derived it before the step: one substep behind
    the state, as Gymnasium reads it.
    """

    name = "ant"
    model = "ant.xml"
    frame_skip = 5
    reference = "Ant-v5"
    costs = ("control", "contact")
    falling = ("alive",)
    forces = True
    observation_names = (
        "z", "quaternion w", "quaternion x", "quaternion y", "quaternion z",
        *(f"{joint} angle" for joint in _JOINTS),
        "x velocity", "y velocity", "z velocity",
        "x angular velocity", "y angular velocity", "z angular velocity",
        *(f"{joint} velocity" for joint in _JOINTS),
        *(f"{body} contact {kind} {axis}"
          for body in _BODIES for kind in ("torque", "force") for axis in "xyz"),
    )  # fmt: skip
    observation_units = (
        "m", *("1",) * 4, *("rad",) * 8, *("m/s",) * 3, *("rad/s",) * 11,
        *(*("N m",) * 3, *("N",) * 3) * len(_BODIES),
    )  # fmt: skip

    def start(self, simulator, random):
        """Return the default pose with uniform noise of 0.1 and velocities of normal noise."""
        noise = 0.1
        qpos = simulator.qpos0 + random.uniform(-noise, noise, len(simulator.qpos0))
        return qpos, noise * random.standard_normal(simulator.qvel.shape[1])

    def remember(self, view):
        """Return the torso's x, (n, 1), as MuJoCo derived it."""
        return view.position("torso")[:, :1].copy()

    def observe(self, view):
        """Return the height, quaternion, angles, velocities and clipped contact forces."""
        forces = view.once(self._clip_forces)[:, 1:].reshape(len(view.ids), -1)
        return np.concatenate([view.qpos[:, 2:], view.qvel, forces], axis=1)

    def state_of(self, obs):
        """Return the state, x and y at 0."""
        place = np.zeros((len(obs), 2))
        return np.concatenate([place, obs[:, :13]], axis=1), obs[:, 13:27].astype(float)

    def rewards(self, view, memory, action):
        """Return the forward speed, 1 for standing, and the costs of control and contact."""
        forces = view.once(self._clip_forces).reshape(len(view.ids), -1)
        return {
            "forward": (view.position("torso")[:, 0] - memory[:, 0]) / view.dt,
            "alive": 1.0 * ~self.terminated(view),
            "control": control_cost(0.5, action),
            "contact": -(5e-4 * np.square(forces).sum(axis=1)),
        }

    def terminated(self, view):
        """Return which torsos are below 0.2 m, above 1 m or not finite."""
        return view.once(self._find_fallen)

    def _find_fallen(self, view):
        z = view.qpos[:, 2]
        finite = np.isfinite(view.qpos).all(1) & np.isfinite(view.qvel).all(1)
        return ~(finite & (z >= 0.2) & (z <= 1))

    def progress(self, view):
        """Return the torso's x in metres."""
        return view.qpos[:, 0].copy()

    def at_goal(self, view):
        """Return which torsos have come GOAL_DISTANCE far."""
        return view.qpos[:, 0] >= GOAL_DISTANCE

    def _clip_forces(self, view) -> np.ndarray:
        """Return contact forces [n, bodies, 6], clipped to -1..1."""
        return np.clip(view.contact_forces, -1, 1)
