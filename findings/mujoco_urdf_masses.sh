#!/usr/bin/env bash
# MuJoCo 4: a URDF's masses are not those of the model, and nothing says so. The root is welded to the world and its mass and inertia are gone, so that
# an <freejoint> added to what is written out has another robot's base. A link without <inertial>, which URDF gives no mass, gets one: its collision
# shape's at 1000 kg/m3. And effort="0", which URDF reads as no torque at all and exporters write where they know none, is any torque: no limit.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check mujoco==4.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import contextlib
import io

import mujoco

URDF = """
<robot name="arm">
  <link name="base">
    <inertial><mass value="5"/><inertia ixx=".1" ixy="0" ixz="0" iyy=".1" iyz="0" izz=".1"/></inertial>
    <collision><geometry><box size=".2 .2 .1"/></geometry></collision>
  </link>
  <link name="upper">
    <inertial><mass value="1"/><inertia ixx=".01" ixy="0" ixz="0" iyy=".01" iyz="0" izz=".01"/></inertial>
    <collision><geometry><box size=".05 .05 .3"/></geometry></collision>
  </link>
  <link name="hand"><collision><geometry><box size=".1 .1 .1"/></geometry></collision></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="10" velocity="5"/></joint>
  <joint name="wrist" type="revolute"><parent link="upper"/><child link="hand"/><origin xyz="0 0 .3"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="0" velocity="0"/></joint>
</robot>"""

print("mujoco", mujoco.__version__)
said = io.StringIO()
warnings = []
mujoco.set_mju_user_warning(warnings.append)
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    model = mujoco.MjModel.from_xml_string(URDF)
masses = {model.body(i).name: float(model.body_mass[i]) for i in range(1, model.nbody)}
print("the URDF: base 5 kg, upper 1 kg, hand nothing; the model:", masses)
limits = {model.joint(i).name: (bool(model.jnt_actfrclimited[i]), model.jnt_actfrcrange[i].tolist()) for i in range(model.njnt)}
print("efforts 10 and 0 became (limited, range):", limits)
print("warnings:", warnings, repr(said.getvalue()))
assert set(masses) == {"upper", "hand"} and masses["upper"] == 1 and abs(masses["hand"] - 1) < 1e-9, "the behaviour has changed"
assert limits == {"shoulder": (True, [-10, 10]), "wrist": (False, [0, 0])}, "the behaviour has changed"
assert not warnings, "the behaviour has changed"

spec = mujoco.MjSpec.from_string(URDF)
spec.compiler.fusestatic = False  # which keeps the base a body
spec.body("base").add_freejoint()
floating = spec.compile()
print("kept as a body and set free, the base has", float(floating.body("base").mass[0]), "kg")
assert floating.body("base").mass[0] == 5, "the behaviour has changed"
PY
