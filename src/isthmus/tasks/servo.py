"""Position targets: an action in -1..1 tells each joint where to go, and servos pull it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PerJoint = float | Mapping[str, float]
"""A number of all joints, or numbers by a part of the joints' names: {"hip": 20, "knee": 30}."""


@dataclass(frozen=True)
class Servo:
    """How a task's actions become motion: a joint's target is its pose plus `scale` times an
    action.

    The pose is that of the task's `keyframe`, else the model's default; actions are in -1..1, and
    targets stay within the joints' limits. With `kp` and `kd` the model has torque motors, and at
    each physics step a motor gives kp (target - angle) - kd speed, at most `effort` (by default
    what its ctrlrange allows), and no more than the line from `stall` (by default the effort) at
    rest down to nothing at `speed`. Without, the model's actuators are position servos of MuJoCo's
    own. Units: rad or m, N m or N.
    """

    scale: PerJoint = 0.25
    kp: PerJoint | None = None
    kd: PerJoint | None = None
    effort: PerJoint | None = None
    speed: PerJoint | None = None
    stall: PerJoint | None = None
