#!/usr/bin/env bash
# MuJoCo 4: an actuator with a `delay` begins with a line of zeros, also after mj_resetDataKeyframe with a keyframe that gives
# `ctrl`. A servo whose keyframe holds the pose (qpos .8, ctrl .8) is driven towards 0 until the delay has passed, though
# data.ctrl is .8 from the first step on. mj_initCtrlHistory fills the line with what the servo was told.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check mujoco==4.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import mujoco
import numpy as np

MODEL = """
<mujoco><option timestep=".01" gravity="0 0 0"/>
  <worldbody><body><joint name="hip" damping="5"/><geom size=".1"/></body></worldbody>
  <actuator><position joint="hip" kp="20" ctrlrange="-1 1" delay=".05" nsample="8"/></actuator>
  <keyframe><key name="home" qpos=".8" ctrl=".8"/></keyframe>
</mujoco>"""


def run(fill):
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    if fill:
        mujoco.mj_initCtrlHistory(model, data, 0, None, np.full((8, 1), 0.8))
    forces = []
    for _ in range(6):
        mujoco.mj_step(model, data)
        forces.append(round(float(data.actuator_force[0]), 2))
    return forces, float(data.qpos[0]), float(data.ctrl[0])


print("mujoco", mujoco.__version__)
forces, angle, told = run(fill=False)
print(f"keyframe .8, told {told}: forces {forces}, after 6 steps at {angle:.3f}")
held, angle_held, _ = run(fill=True)
print(f"with mj_initCtrlHistory: forces {held}, after 6 steps at {angle_held:.3f}")
assert forces[0] == -16.0 and all(force < -10 for force in forces[:5]) and angle < 0.7, "the behaviour has changed"
assert held == [0.0] * 6 and angle_held == 0.8, "the behaviour has changed"
PY
