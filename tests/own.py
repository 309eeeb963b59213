"""Tasks of one's own for tests: a leg on a trunk that floats without gravity, and a task that says
little of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tiny

from isthmus.tasks import task as tasks

START = [0, 0, 1, 1, 0, 0, 0, 0.8]  # the trunk's position and quaternion, the hip's angle
MODEL = """<mujoco>
  <option timestep="0.005" gravity="0 0 0"/>
  <worldbody>
    <body name="marker" mocap="true" pos="1 0 0"/>
    <body name="torso" pos="0 0 1">
      <freejoint name="root"/>
      <geom type="box" size="0.2 0.1 0.05" mass="5"/>
      <body name="leg">
        <joint name="hip" axis="0 1 0" damping="2"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.03" mass="1"/>
      </body>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
  <keyframe><key name="home" qpos="0 0 1 1 0 0 0 0.8" {key}/></keyframe>
</mujoco>"""
MOTOR = '<motor joint="hip" ctrlrange="-1 1"/>'
SERVO = '<position name="servo" joint="hip" kp="60" ctrlrange="-1 1"/>'


class Leg(tasks.Task):
    name = "leg"
    frame_skip = 4
    time_limit = 20
    observation_names = tuple(f"number {i}" for i in range(15))

    def start(self, simulator, random):
        if self.keyframe:
            return super().start(simulator, random)
        noise = random.uniform(0.0, 1e-3, 7)
        return np.tile(START, (len(noise), 1)), 0 * noise

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def remember(self, view):
        return view.qpos[:, :1].copy()

    def rewards(self, view, memory, action):
        return {"alive": np.ones(len(view.ids)), "forward": view.qpos[:, 0] - memory[:, 0]}

    def progress(self, view):
        return view.qpos[:, 0].copy()


def write_model(folder: Path, actuators: str = MOTOR, key: str = "") -> Path:
    path = folder / "leg.xml"
    path.write_text(MODEL.format(actuators=actuators, key=key))
    return path


def register(
    folder: Path,
    actuators: str = MOTOR,
    key: str = "",
    base: type[tasks.Task] = Leg,
    **attributes: Any,
) -> str:
    """Register a leg with these actuators and another attribute or method here and there; its name.

    What a test registers it takes back by `forget`.
    """
    model = write_model(folder, actuators, key)
    return tasks.register(type("Own", (base,), {"model": model, **attributes})).name


def forget() -> None:
    """Take back what was registered, and the simulations that were kept of it."""
    for name, task in list(tasks.TASKS._entries.items()):
        if not isinstance(task, str) and issubclass(task, Leg):
            del tasks.TASKS._entries[name]
    tiny.forget_simulations()
