"""Arm: six joints with position servos bring a tip to a goal."""

from __future__ import annotations

from pathlib import Path

from isthmus.tasks.reaching import Reaching
from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register


@register
class Arm(Reaching):
    """A table-top arm of 6 kg that reaches 0.7 m; our own. Its servos are MuJoCo's."""

    name = "arm"
    model = Path(__file__).parent / "models" / "arm.xml"
    servo = Servo(scale={"turn": 1.6, "shoulder": 1.4, "elbow": 1.2, "wrist": 1.0, "flange": 1.0})
    radius = (0.25, 0.5)
    height = (0.1, 0.45)
