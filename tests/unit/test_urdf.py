"""Robots in URDF: what is kept, what is written, what is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import mujoco
import numpy as np
import pytest
from urdfs import BALL, BOX, LIMIT, PENDULUM, joint, link, mesh, robot, write, write_stl

from isthmus.physics.keyframes import load_keyframe
from isthmus.physics.mujoco import load_model
from isthmus.physics.urdf.import_robot import ImportedRobot, import_robot
from isthmus.physics.urdf.meshes import parse_packages
from isthmus.types import IsthmusError

DESK_ARM = Path(__file__).parents[2] / "docs" / "examples" / "desk_arm.urdf"


def model_of(imported: ImportedRobot) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(imported.mjcf)


def survey_of(imported: ImportedRobot) -> dict[str, tuple[str, str]]:
    return {row.thing: (row.described, row.kept) for row in imported.survey}


def refused(path: Path, **options) -> str:
    """The one line of an error, which begins with the file's path."""
    with pytest.raises(IsthmusError) as error:
        import_robot(path, **options)
    line = str(error.value)
    assert "\n" not in line and str(path) in line, line
    return line


# What is kept


def test_the_example_is_told_and_rests(tmp_path):
    out = tmp_path / "arm.xml"
    imported = import_robot(DESK_ARM, out, floating_base=False)
    assert survey_of(imported) == {
        "links": ("6", "6 bodies"),
        "base": ("plate", "fixed to the world"),
        "mass": ("2.6 kg", "2.6 kg"),
        "links without inertia": ("1", "0 have mass"),
        "revolute joints": ("2", "2"),
        "fixed joints": ("1", "bodies without a joint"),
        "prismatic joints": ("2", "2"),
        "limits": ("4", "4"),
        "effort limits": ("4", "4"),
        "speed limits": ("4", "dropped"),
        "dampings": ("2", "2"),
        "frictions": ("1", "1"),
        "mimic joints": ("1", "1 equality constraint"),
        "safety controllers": ("1", "dropped"),
        "visual shapes": ("1", "1 geom"),
        "collision shapes": ("5", "5 geoms"),
        "colours": ("1", "kept"),
        "<gazebo>": ("1", "dropped"),
        "<transmission>": ("1", "dropped"),
    }
    assert imported.settling.rests and imported.settling.error < 0.025
    model = load_model(out.resolve())
    assert [model.actuator(a).name for a in range(model.nu)] == ["shoulder", "elbow", "grip"]
    assert model.body("imu").id and not imported.settling.tilt
    # -1.5..-0.3 leaves 0 out: it begins in the middle, and so is held.
    home = load_keyframe(out.resolve(), "home")
    assert home.ctrl is not None
    np.testing.assert_allclose(home.qpos, [0, -0.9, 0, 0])
    np.testing.assert_allclose(home.ctrl, [0, -0.9, 0])


def test_the_dynamics_are_those_of_mujocos_own_import():
    """Of an arm on a plate, which MuJoCo welds to the world and of which it melts the IMU."""
    theirs = mujoco.MjModel.from_xml_path(os.fspath(DESK_ARM))
    ours = model_of(import_robot(DESK_ARM, floating_base=False))
    assert theirs.nbody < ours.nbody and theirs.nv == ours.nv
    mass = np.zeros((2, ours.nv, ours.nv))
    bias = np.zeros((2, ours.nv))
    for i, model in enumerate((theirs, ours)):
        data = mujoco.MjData(model)
        data.qpos[:] = [0.4, -1.0, 0.01, 0.02]
        data.qvel[:] = [1.0, -2.0, 0.1, 0.2]
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, mass[i])
        bias[i] = data.qfrc_bias + data.qfrc_passive
    np.testing.assert_allclose(mass[1], mass[0], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(bias[1], bias[0], rtol=1e-5, atol=1e-9)


def test_a_base_floats_with_its_mass_above_the_ground(tmp_path):
    path = write(tmp_path, link("trunk", BOX, 3.0), link("leg", BALL), joint("hip", "trunk", "leg"))
    imported = import_robot(path)
    model = model_of(imported)
    assert model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    assert model.body("trunk").mass[0] == 3 and model.body_mass.sum() == 4
    # The ball of 0.05 m hangs 0.3 m below the trunk.
    np.testing.assert_allclose(model.key("home").qpos[2], 0.3 + 0.05 + 1e-3)
    assert [model.sensor(i).name for i in range(model.nsensor)] == [
        "gyro",
        "accelerometer",
        "orientation",
    ]
    alone = mujoco.MjModel.from_xml_path(os.fspath(path))
    assert alone.nv == 1 and alone.body_mass.sum() == 1  # so that this says something


def test_the_ground_is_below_what_hangs_from_a_fixed_base(tmp_path):
    model = model_of(import_robot(write(tmp_path, PENDULUM), floating_base=False))
    np.testing.assert_allclose(model.geom("floor").pos[2], -0.35)


def test_shapes_of_one_name_get_their_own(tmp_path, capfd):
    named = BALL.replace("<collision>", '<collision name="shape">')
    path = write(tmp_path, link("base", named), link("arm", named), joint("j", "base", "arm"))
    model = model_of(import_robot(path))
    names = [model.geom(i).name for i in range(model.ngeom)]
    assert names == ["floor", "shape", "arm_collision"]
    assert "WARNING" not in "".join(capfd.readouterr())


def test_a_link_called_world_is_the_world(tmp_path):
    path = write(
        tmp_path, '<link name="world"/>', link("base"), joint("mount", "world", "base", "fixed", "")
    )
    assert "nothing to act with" in refused(path)
    path = write(
        tmp_path,
        '<link name="world"/>', link("base"), joint("mount", "world", "base", "fixed", ""),
        link("arm"), joint("hinge", "base", "arm"),
    )  # fmt: skip
    assert model_of(import_robot(path)).nv == 1
    assert model_of(import_robot(path, floating_base=True)).nv == 7


def test_mass_is_computed_of_shapes_and_told(tmp_path):
    path = write(tmp_path, link("base"), link("arm", mass=None), joint("hinge", "base", "arm"))
    imported = import_robot(path)
    (row,) = [row for row in imported.survey if row.thing == "links without inertia"]
    assert (row.described, row.kept) == ("1", "1 have mass")
    assert row.note == "from collision shapes by 1000 kg/m3: arm 4 kg"  # 0.2 * 0.2 * 0.1 m3


def test_what_has_no_bounds_is_told(tmp_path):
    path = write(
        tmp_path,
        link("base"), link("a"), link("b"), link("c"),
        joint("equal", "base", "a", inside='<limit lower=".5" upper=".5" effort="0"/>'),
        joint("open", "a", "b", inside=""),
        joint("whole", "b", "c"),
    )  # fmt: skip
    imported = import_robot(path)
    rows = {row.thing: row for row in imported.survey}
    assert rows["limits"][1:3] == ("2", "1") and "equal" in rows["limits"].note
    assert "without limits: open" in rows["limits"].note
    assert rows["effort limits"][1:3] == ("2", "1") and "equal" in rows["effort limits"].note
    ranges = {choice.joint: (choice.low, choice.high) for choice in imported.actuators}
    assert ranges["equal"] == ranges["open"] == (-math.pi, math.pi) and ranges["whole"] == (-1, 1)


DUMMY = '<inertial><mass value="{mass}"/><inertia ixx="{i}" ixy="{i}" ixz="{i}" iyy="{i}" iyz="{i}" izz="{i}"/></inertial>'  # noqa: E501


@pytest.mark.parametrize(("mass", "inertia"), [(1e-6, 1e-6), (0, 0), (1e-3, 0)])
def test_inertias_of_frames_are_made_round_and_told(tmp_path, mass, inertia):
    """A root and a camera without a body, as exporters write them: here with a shape, too."""
    frame = '<link name="{}">' + DUMMY.format(mass=mass, i=inertia) + BALL + "</link>"
    path = write(
        tmp_path,
        frame.format("root"), link("trunk"), joint("mount", "root", "trunk", "fixed", ""),
        link("arm"), joint("hinge", "trunk", "arm"),
        frame.format("camera"), joint("holder", "arm", "camera", "fixed", ""),
    )  # fmt: skip
    imported = import_robot(path)
    assert imported.mended == ["root", "camera"]
    np.testing.assert_allclose(model_of(imported).body_mass.sum(), 2 + 2 * mass, atol=1e-8)
    alone = write(tmp_path, link("base"), frame.format("arm"), joint("hinge", "base", "arm"))
    assert "inertia" in refused(alone) or "has no mass" in refused(alone)


def test_shapes_that_overlap_at_home_pass_through_each_other(tmp_path):
    """A grandchild in its grandparent, which MuJoCo would push apart."""
    path = write(
        tmp_path,
        link("base"), link("a", BALL), link("b", BALL),
        joint("one", "base", "a"), joint("two", "a", "b", xyz="0 0 .3"),
    )  # fmt: skip
    imported = import_robot(path)
    assert imported.overlaps == [("base", "b")]
    assert model_of(imported).nexclude == 1


def test_a_fixed_base_lets_its_neighbours_pass(tmp_path):
    """As a floating one does by itself: MuJoCo lets bodies meet a parent that stands still."""
    path = write(tmp_path, PENDULUM)
    assert model_of(import_robot(path)).nexclude == 0
    assert model_of(import_robot(path, floating_base=False)).nexclude == 1


# Actuators


def servo_of(imported: ImportedRobot, name: str):
    (choice,) = [choice for choice in imported.actuators if choice.joint == name]
    return choice


LEVER = (
    '<inertial><origin xyz=".5 0 0"/><mass value="1"/><inertia ixx=".01" ixy="0" ixz="0" iyy=".01" '
    'iyz="0" izz=".01"/></inertial>'
)


@pytest.mark.parametrize(
    ("effort", "stiffness"),
    [
        (20, 1 * 9.81 * 0.5 / 0.02),  # its weight, 4.905 N m, makes it sag by no more than 0.02
        (200, 200 / 0.5),
        (1e6, 0.26 * 200**2),  # what steps of 2 ms can take on 0.01 + 1 * 0.5^2 kg m2
    ],
)
def test_stiffness_by_weight_effort_and_inertia(tmp_path, effort, stiffness):
    path = write(
        tmp_path,
        link("base"),
        f'<link name="arm">{LEVER}</link>',
        joint("hinge", "base", "arm", inside=f'<limit lower="-1" upper="1" effort="{effort}"/>'),
    )
    imported = import_robot(path, floating_base=False)
    choice = servo_of(imported, "hinge")
    np.testing.assert_allclose(choice.kp, stiffness, rtol=1e-4)
    np.testing.assert_allclose(choice.kv, 2 * math.sqrt(choice.kp * 0.26), rtol=1e-4)
    model = model_of(imported)
    np.testing.assert_allclose(model.actuator_gainprm[0, 0], stiffness, rtol=1e-3)
    assert model.jnt_actfrcrange[0].tolist() == [-effort, effort]


def test_joint_damping_is_part_of_what_makes_a_servo_critical(tmp_path):
    kv = {}
    for damping in (0.0, 0.5, 100.0):
        inside = f'{LIMIT}<dynamics damping="{damping}"/>'
        path = write(tmp_path, link("base"), link("arm"), joint("j", "base", "arm", inside=inside))
        kv[damping] = servo_of(import_robot(path), "j").kv
    np.testing.assert_allclose(kv[0.5], kv[0] - 0.5)
    assert kv[100] == 0


def test_wheels_get_speed_servos_and_motors_their_efforts(tmp_path):
    limit = '<limit effort="4" velocity="-16"/>'
    path = write(
        tmp_path, link("base"), link("wheel"), joint("axle", "base", "wheel", "continuous", limit)
    )
    choice = servo_of(import_robot(path), "axle")
    assert choice[1:] == ("velocity", -16, 16, 0, 4 / 8)
    motor = servo_of(import_robot(path, actuators="motor"), "axle")
    assert motor[1:4] == ("motor", -4, 4)


def test_a_joint_that_mimics_has_no_actuator_and_begins_where_it_is_led(tmp_path):
    mimic = LIMIT + '<mimic joint="lead" multiplier="-2" offset=".1"/>'
    narrow = '<limit lower=".2" upper=".4" effort="5"/>'
    path = write(
        tmp_path,
        link("base"), link("a"), link("b"),
        joint("lead", "base", "a", inside=narrow), joint("led", "a", "b", inside=mimic),
    )  # fmt: skip
    imported = import_robot(path)
    assert [choice.joint for choice in imported.actuators] == ["lead"]
    assert imported.home == pytest.approx({"lead": 0.3, "led": 0.1 - 2 * 0.3})


def test_a_robot_that_falls_over_is_told(tmp_path):
    """A pole on a ball, its weight to one side."""
    path = write(
        tmp_path,
        '<link name="pole"><inertial><origin xyz=".1 0 1"/><mass value="1"/><inertia ixx=".1" '
        f'ixy="0" ixz="0" iyy=".1" iyz="0" izz=".1"/></inertial>{BALL}</link>',
        link("arm", "", 0.1),
        joint("hinge", "pole", "arm"),
    )
    assert import_robot(path).settling.tilt > 1


# Meshes


def meshed(folder: Path, filename: str, role: str = "visual") -> Path:
    return write(
        folder, link("base", BOX + mesh(filename, role)), link("arm"), joint("j", "base", "arm")
    )


@pytest.mark.parametrize("role", ["visual", "collision"])
@pytest.mark.parametrize(
    "filename", ["package://own_robot/meshes/tip.STL", "../meshes/tip.STL", "file://{}", "{}"]
)
def test_a_mesh_is_found(tmp_path, filename, role, monkeypatch):
    """By its package, which is a folder above the file, its relative path, or its whole path."""
    package = tmp_path / "own_robot"
    stl = write_stl(package / "meshes" / "tip.STL")
    (package / "urdf").mkdir()
    path = meshed(package / "urdf", filename.format(stl), role)
    out = tmp_path / "made.xml"
    import_robot(path, out)
    assert 'file="own_robot/meshes/tip.STL"' in out.read_text()
    monkeypatch.chdir("/")
    assert load_model(out).nmesh == 1


def test_a_package_by_its_folder(tmp_path):
    stl = write_stl(tmp_path / "elsewhere" / "meshes" / "tip.stl")
    path = meshed(tmp_path, "package://own_robot/meshes/tip.stl")
    assert "--package own_robot=DIR" in refused(path)
    packages = parse_packages([f"own_robot={stl.parents[1]}"])
    assert survey_of(import_robot(path, packages=packages))["mesh files"] == ("1", "1 mesh asset")


def test_the_folder_of_meshes_that_a_urdf_gives_to_mujoco(tmp_path):
    write_stl(tmp_path / "assets" / "tip.stl")
    text = meshed(tmp_path, "package://nowhere/tip.stl").read_text()
    extension = '<mujoco><compiler meshdir="assets"/></mujoco></robot>'
    path = write(tmp_path, text.replace("</robot>", extension))
    assert survey_of(import_robot(path))["mesh files"] == ("1", "1 mesh asset")


def test_without_visuals(tmp_path):
    path = meshed(tmp_path, "nowhere.stl")
    assert "--no-visuals" in refused(path)
    imported = import_robot(path, visuals=False)
    assert survey_of(imported)["visual shapes"] == ("1", "0 geoms")


def write_sheet(path: Path) -> None:
    """A square, to be seen from both sides."""
    corners = ["v 0 0 0", "v .1 0 0", "v 0 .1 0", "v .1 .1 0"]
    path.write_text("\n".join([*corners, "f 1 2 3", "f 2 4 3", "f 1 3 2", "f 2 3 4"]))


def test_a_sheet_has_no_volume_and_needs_none(tmp_path):
    """But to collide it needs one."""
    write_sheet(tmp_path / "sheet.obj")
    path = meshed(tmp_path, "sheet.obj")
    assert model_of(import_robot(path)).nmesh == 1
    assert "write a thin box" in refused(meshed(tmp_path, "sheet.obj", "collision"))


@pytest.mark.parametrize(
    ("filename", "role", "said"),
    [
        ("none.stl", "collision", "is missing; put it at"),
        ("drawing.dae", "collision", "MuJoCo reads .stl, .obj, .msh; convert it"),
        ("drawing.dae", "visual", "--no-visuals"),
        ("package://own/none.stl", "collision", "--package own=DIR"),
        ("http://example.org/a.stl", "collision", "fetch it"),
        ("text.stl", "collision", "binary STL"),
        ("flat.stl", "visual", "at least 4 vertices"),
    ],
)
def test_meshes_that_cannot_be_read(tmp_path, filename, role, said):
    (tmp_path / "drawing.dae").write_text("<COLLADA/>")
    (tmp_path / "text.stl").write_text("solid a\nendsolid a\n" * 10)
    tetrahedron = write_stl(tmp_path / "flat.stl").read_bytes()
    (tmp_path / "flat.stl").write_bytes(tetrahedron[:80] + b"\1\0\0\0" + tetrahedron[84 : 84 + 50])
    assert said in refused(meshed(tmp_path, filename, role))


# What is refused

ENTITY = '<?xml version="1.0"?><!DOCTYPE robot [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
BOMB = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTITY + robot('<link name="&a;"/>'), "declares a document type"),
        (BOMB + robot('<link name="&b;"/>'), "declares a document type"),
        ("<robot><link></robot>", "is no well-formed XML: mismatched tag: line 1, column"),
        ("", "is no well-formed XML: no element found"),
        ("a robot", "is no well-formed XML"),
        ('<?xml version="1.0" encoding="klingon"?><robot/>', "is no well-formed XML"),
        ('<mujoco model="a"/>', "is an MJCF file"),
        ('<sdf version="1.6"/>', "is an SDF file"),
        ("<html/>", "its root element is <html>"),
        ('<robot><xacro:include filename="a"/></robot>', "run `xacro robot.urdf > robot_plain"),
        (
            '<robot xmlns:xacro="http://ros.org/wiki/xacro"><xacro:property name="a"/></robot>',
            "is a xacro file",
        ),
        (robot('<link name="${prefix}base"/>'), "is a xacro file"),
        (robot(), "has no <link>"),
        (robot('<link name=""/>'), "has no name"),
        (robot(link("a"), link("a")), "two links are called 'a'"),
        (robot(link("a"), link("b")), "'a', 'b' hang on no joint"),
        (robot(link("a"), joint("j", "a", "b")), "names the link 'b', which is not there"),
        (
            robot(link("a"), link("b"), joint("j", "a", "b"), joint("k", "a", "b")),
            "hangs on two joints, 'j' and 'k'",
        ),
        (
            robot(link("a"), link("b"), joint("j", "a", "b"), joint("k", "b", "a")),
            "none is the root",
        ),
        (
            robot(link("r"), link("a"), link("b"), joint("j", "a", "b"), joint("k", "b", "a")),
            "hangs in a circle of joints",
        ),
        (PENDULUM.replace("revolute", "hinge"), "its types: revolute, prismatic"),
        (PENDULUM.replace("revolute", "spherical"), "its types: revolute, prismatic"),
        (PENDULUM.replace('lower="-1" upper="1"', 'lower="1" upper="-1"'), "swap them"),
        (PENDULUM.replace('effort="20"', 'effort="strong"'), "effort='strong'; write a finite"),
        (PENDULUM.replace('effort="20"', 'effort="nan"'), "write a finite number"),
        (PENDULUM.replace(LIMIT, '<mimic joint="none"/>'), "mimics 'none'"),
        (PENDULUM.replace('mass value="1.0"', 'mass value="-1"'), "a mass of 0 kg or more"),
        (PENDULUM.replace('<mass value="1.0"/>', ""), "without <mass> or <inertia>"),
        (PENDULUM.replace("<geometry>", "<geometry/><g>").replace("</geometry>", "</g>"), "shape"),
        (PENDULUM.replace('izz="0.01"', 'izz="0.1"'), 'balanceinertia="true"'),
        (robot(link("a"), link("b", "", None), joint("j", "a", "b")), "'b' moves on joint 'j'"),
        (robot(link("a"), link("b", BOX, 0.0), joint("j", "a", "b")), "has no mass"),
        (robot(link("a", "", None), link("b"), joint("j", "a", "b")), "add --fixed-base"),
        (robot(link("a"), link("b"), joint("j", "a", "b", "fixed")), "nothing to act with"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path, text, said):
    path = tmp_path / "robot.urdf"
    path.write_text(text)
    assert said in refused(path)


def test_names_that_become_one_parameter(tmp_path):
    clash = robot(
        link("a"), link("a b"), link("a_b"), joint("j", "a", "a b"), joint("k", "a b", "a_b")
    )
    with pytest.raises(IsthmusError, match="would both have a_b_mass"):
        import_robot(write(tmp_path, clash))


def test_where_there_is_no_file(tmp_path):
    assert "no URDF file" in refused(tmp_path / "none.urdf")
    assert "is a folder" in refused(tmp_path)


def test_xacro_that_has_been_expanded_is_read(tmp_path):
    """Its namespace and its comments are left over."""
    text = PENDULUM.replace(
        '<robot name="own">',
        '<robot name="own" xmlns:xacro="http://ros.org/wiki/xacro"><!-- <xacro:if/> ${a} -->',
    )
    assert import_robot(write(tmp_path, text)).robot.root == "base"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"actuators": "motor"}, "has no effort limit"),
        ({"floating_base": True}, "ties the base 'base' to the world"),
    ],
)
def test_options_that_do_not_fit_a_robot(tmp_path, options, said):
    path = write(
        tmp_path,
        '<link name="world"/>', link("base"), joint("j", "world", "base", inside=""),
    )  # fmt: skip
    assert said in refused(path, **options)


def test_a_floating_joint_is_not_fixed(tmp_path):
    path = write(
        tmp_path,
        '<link name="world"/>', link("base"), joint("free", "world", "base", "floating", ""),
        link("arm"), joint("j", "base", "arm"),
    )  # fmt: skip
    assert 'write type="fixed"' in refused(path, floating_base=False)
    assert model_of(import_robot(path)).nv == 7


@pytest.mark.parametrize(
    ("out", "said"),
    [("there.xml", "is there already"), ("arm.mjcf", "NAME.xml"), ("none/arm.xml", "no folder")],
)
def test_where_nothing_can_be_written(tmp_path, out, said):
    (tmp_path / "there.xml").write_text("kept")
    with pytest.raises(IsthmusError, match=said):
        import_robot(write(tmp_path, PENDULUM), tmp_path / out)
    assert (tmp_path / "there.xml").read_text() == "kept"


@pytest.mark.parametrize("text", ["own", "=there", "own=", "own=/no/such/folder"])
def test_packages_that_are_not_understood(text):
    with pytest.raises(IsthmusError, match="--package"):
        parse_packages([text])
