"""Reacher: a planar arm seeks a goal, a new one each episode. Reacher-v5 to the bit."""

from __future__ import annotations

import numpy as np

from isthmus.tasks.task import Task, control_cost, register


@register
class Reacher(Task):
    """Gymnasium 1.4's Reacher-v5, whose goal is part of the configuration.

    The goal is the joints of the body `target`. The fingertip's position is the one that MuJoCo
    derived in the last step, one substep behind the state, as Gymnasium reads it. `progress` is the
    distance from fingertip to goal in metres: less is better. It is at the goal within 0.05 m.
    """

    name = "reacher"
    model = "reacher.xml"
    frame_skip = 2
    time_limit = 50
    main_body = "body0"  # the upper arm, whose frame stays at the shoulder: a camera at rest
    reference = "Reacher-v5"
    observation_names = (
        "cos shoulder", "cos elbow", "sin shoulder", "sin elbow", "goal x", "goal y",
        "shoulder velocity", "elbow velocity", "fingertip to goal x", "fingertip to goal y",
    )  # fmt: skip
    observation_units = (*("1",) * 4, "m", "m", "rad/s", "rad/s", "m", "m")

    def start(self, simulator, random):
        """Return the default pose with little noise, and a goal uniform in the disc of 0.2 m."""
        qpos = random.uniform(-0.1, 0.1, len(simulator.qpos0)) + simulator.qpos0
        seeking = np.ones(len(qpos), bool)
        # A goal uniform in the disc: points outside are drawn again, each world on its own.
        while seeking.any():
            goal = random.uniform(-0.2, 0.2, 2, where=seeking)
            qpos[seeking, -2:] = goal[seeking]
            seeking &= ~(_length(goal) < 0.2)
        qvel = random.uniform(-0.005, 0.005, simulator.qvel.shape[1])
        qvel[:, -2:] = 0
        return qpos, qvel

    def remember(self, view):
        """Return nothing, (n, 0)."""
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        """Return the joints, the goal and the way from it to the fingertip."""
        angles = view.qpos[:, :2]
        goal, speeds, miss = view.qpos[:, 2:], view.qvel[:, :2], self._miss(view)[:, :2]
        return np.concatenate([np.cos(angles), np.sin(angles), goal, speeds, miss], axis=1)

    def state_of(self, obs):
        """Return the arm's state and the goal, which stays."""
        angles = np.arctan2(obs[:, 2:4], obs[:, 0:2])
        at_rest = np.zeros((len(obs), 2))
        qpos = np.concatenate([angles, obs[:, 4:6]], axis=1)
        return qpos.astype(float), np.concatenate([obs[:, 6:8], at_rest], axis=1).astype(float)

    def rewards(self, view, memory, action):
        """Return minus the distance to the goal, and the cost of control."""
        return {"distance": -_length(self._miss(view)), "control": control_cost(1, action)}

    def observed_rewards(self, action, next_obs):
        """Return the same: the way from fingertip to goal is observed, which lies in a plane."""
        return {"distance": -_length(next_obs[:, 8:]), "control": control_cost(1, action)}

    def progress(self, view):
        """Return the distance to the goal in metres."""
        return _length(self._miss(view))

    def at_goal(self, view):
        """Return which fingertips are within 0.05 m of the goal."""
        return _length(self._miss(view)) < 0.05

    def _miss(self, view) -> np.ndarray:
        """Return the way from the goal to the fingertip, [n, 3]."""
        return view.position("fingertip") - view.position("target")


def _length(vectors: np.ndarray) -> np.ndarray:
    """Return Euclidean norms [n], by the dot product that `numpy.linalg.norm` takes of one vector.

    Sums of squares along an axis differ from it in the last bit.
    """
    return np.sqrt(np.vecdot(vectors, vectors))
