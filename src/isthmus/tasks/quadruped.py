"""Quadruped: a four-legged robot of 12 kg, told how fast to walk."""

from __future__ import annotations

from pathlib import Path

from isthmus.tasks.servo import Servo
from isthmus.tasks.task import register
from isthmus.tasks.walking import Walking


@register
class Quadruped(Walking):
    """Four legs of three joints, of the class of 12 kg, from capsules and spheres; our own.

    Servos at 50 Hz (kp 40 N m/rad, kd 1 N m s/rad at each physics step of 4 ms), motors of 24 and
    36 N m that weaken with speed.
    """

    name = "quadruped"
    model = Path(__file__).parent / "models" / "quadruped.xml"
    servo = Servo(
        scale={"hip": 0.25, "thigh": 0.5, "knee": 0.5},
        kp=40.0,
        kd=1.0,
        effort={"hip": 24.0, "thigh": 24.0, "knee": 36.0},
        stall={"hip": 36.0, "thigh": 36.0, "knee": 54.0},
        speed={"hip": 30.0, "thigh": 30.0, "knee": 20.0},
    )
    feet = ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
    knees = ("FL_knee", "FR_knee", "RL_knee", "RR_knee")
    height = 0.3
