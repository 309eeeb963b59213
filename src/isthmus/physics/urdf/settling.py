"""Does an imported robot come to rest? It is let go at its start, its controls held."""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.engine import VELOCITY_BOUND
from isthmus.physics.urdf.scalar_joints import find_base_address, read_positions

SECONDS = 5.0
REST_SPEED = 0.05  # rad/s and m/s


class Settling(NamedTuple):
    """How a robot behaves in SECONDS after its start."""

    diverged_at: float | None  # s; None where it did not
    speed: float  # of the fastest joint at the end, rad/s or m/s
    fastest: str  # its name
    error: float  # rad or m: how far a joint is from the start, at most
    furthest: str  # the joint that is
    drop: float  # m that a floating base has sunk
    tilt: float  # rad that it has turned

    @property
    def rests(self) -> bool:
        """Whether it has come to rest."""
        return self.diverged_at is None and self.speed < REST_SPEED


def settle(model: mujoco.MjModel, keyframe: str) -> Settling:
    """Return what a robot does for SECONDS from a keyframe, its controls held."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key(keyframe).id)
    start = data.qpos.copy()
    while data.time < SECONDS:
        mujoco.mj_step(model, data)
        if not np.abs(data.qvel).max(initial=0.0) < VELOCITY_BOUND:  # nor where it is NaN
            return Settling(data.time, math.inf, "", math.inf, "", math.nan, math.nan)
    fastest = int(np.abs(data.qvel).argmax())
    errors = _measure_errors(model, data, start)
    furthest = max(errors, key=errors.__getitem__)
    drop, tilt = _measure_base(model, data, start)
    return Settling(
        diverged_at=None,
        speed=float(abs(data.qvel[fastest])),
        fastest=model.joint(model.dof_jntid[fastest]).name,
        error=errors[furthest],
        furthest=furthest,
        drop=drop,
        tilt=tilt,
    )


def _measure_errors(
    model: mujoco.MjModel, data: mujoco.MjData, start: np.ndarray
) -> dict[str, float]:
    """Return how far each hinge and slide is from its start, by name."""
    before, after = read_positions(model, start), read_positions(model, data.qpos)
    return {name: abs(after[name] - before[name]) for name in before}


def _measure_base(
    model: mujoco.MjModel, data: mujoco.MjData, start: np.ndarray
) -> tuple[float, float]:
    """Return how far a floating base has sunk, in metres, and how far it has turned, in radians."""
    first = find_base_address(model)
    if first is None:
        return 0.0, 0.0
    turned = np.zeros(3)
    mujoco.mju_subQuat(turned, data.qpos[first + 3 : first + 7], start[first + 3 : first + 7])
    return float(start[first + 2] - data.qpos[first + 2]), float(np.linalg.norm(turned))
