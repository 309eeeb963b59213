"""The hinges and slides of a compiled model, and its floating base."""

from __future__ import annotations

import mujoco
import numpy as np

FREE = int(mujoco.mjtJoint.mjJNT_FREE)
SCALAR = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))


def find_scalar_joints(model: mujoco.MjModel) -> dict[str, int]:
    """Return the ids of hinges and slides, by name, in their order."""
    joints = np.flatnonzero(np.isin(model.jnt_type, SCALAR)).tolist()
    return {model.joint(joint).name: joint for joint in joints}


def find_base_address(model: mujoco.MjModel) -> int | None:
    """Return where in qpos the pose of the first free joint begins; None where there is none."""
    floating = np.flatnonzero(np.asarray(model.jnt_type) == FREE)
    if not len(floating):
        return None
    return int(model.jnt_qposadr[floating[0]])


def read_positions(model: mujoco.MjModel, qpos: np.ndarray) -> dict[str, float]:
    """Return the positions of hinges and slides in qpos (nq,), rad or m, by name."""
    joints = find_scalar_joints(model)
    return {name: float(qpos[model.jnt_qposadr[joint]]) for name, joint in joints.items()}
