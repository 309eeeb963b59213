#!/usr/bin/env bash
# MuJoCo 4's enums are unequal to the numbers that a model holds when the enum stands on the left, equal when it stands on the
# right. `number in (enum, enum)` asks the first way round, so that it is False for a joint that is of that type. Code that
# asked so worked with MuJoCo 3 and now takes the other branch, or stops at an assertion (gymnasium-robotics 1.4.2: Fetch,
# HandReach, FrankaKitchen). What holds either way: int(number) == int(enum).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check mujoco==4.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import mujoco
import numpy as np

print("mujoco", mujoco.__version__, "numpy", np.__version__)
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><joint type='hinge'/><geom size='.1'/></body></worldbody></mujoco>"
)
number, enum = model.jnt_type[0], mujoco.mjtJoint.mjJNT_HINGE
seen = {
    "number == enum": bool(number == enum),
    "enum == number": bool(enum == number),
    "number in (enum,)": number in (enum,),
    "int(number) == int(enum)": int(number) == int(enum),
    "int(number) in (enum,)": int(number) in (enum,),
}
print("model.jnt_type[0] is", type(number).__name__, int(number), "and the enum", int(enum))
for text, value in seen.items():
    print(f"  {text:26} {value}")
assert [*seen.values()] == [True, False, False, True, True], "the behaviour has changed"
PY
