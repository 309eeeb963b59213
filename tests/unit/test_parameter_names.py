"""Every parameter of a model has a name of its own that can be written, or the model is refused in
one line.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from isthmus.cli.catalog import show_parameters
from isthmus.cli.options import ImportOptions
from isthmus.domains.domain import RobotDomain
from isthmus.domains.effects import EFFECTS
from isthmus.domains.grammar import read_pairs
from isthmus.domains.parse import parse_domain
from isthmus.physics.joint_parameters import DRIVEN
from isthmus.physics.mujoco import MujocoSimulator, load_model
from isthmus.physics.mujoco_parameters import mujoco_parameters
from isthmus.physics.parameter_names import name_bodies, name_joints
from isthmus.physics.parameters import Parameter
from isthmus.tasks.task import BUILT_IN, Task, find_task, register
from isthmus.types import BadValue

LINK = """
    <body name="{body}"><joint name="{joint}" type="hinge" axis="0 1 0" range="-1 1" limited="{limited}"/>
    <geom type="capsule" fromto="0 0 0 .3 0 0" size=".05" mass="{mass}"/></body>"""  # noqa: E501


def escape(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def chain(joints: list[str], bodies: list[str], motors: list[str], limited: bool) -> str:
    """MJCF of links side by side, masses 1, 2, ... kg, with a motor on some joints."""
    links = "".join(
        LINK.format(
            body=escape(body), joint=escape(joint), limited=str(limited).lower(), mass=i + 1
        )
        for i, (joint, body) in enumerate(zip(joints, bodies, strict=True))
    )
    actuators = "".join(f'<motor joint="{escape(joint)}"/>' for joint in motors)
    return (
        f"<mujoco><compiler angle='radian'/><worldbody>{links}</worldbody>"
        f"<actuator>{actuators}</actuator></mujoco>"
    )


def of_joints(
    *joints: str, motors: list[str] | None = None, limited: bool = True
) -> mujoco.MjModel:
    bodies = [f"link{i}" for i in range(len(joints))]
    text = chain(list(joints), bodies, list(joints) if motors is None else motors, limited)
    return mujoco.MjModel.from_xml_string(text)


def of_bodies(*bodies: str) -> mujoco.MjModel:
    joints = [f"joint{i}" for i in range(len(bodies))]
    return mujoco.MjModel.from_xml_string(chain(joints, list(bodies), joints, True))


def changed_dof(model: mujoco.MjModel, parameter: Parameter) -> list[int]:
    """The joints whose damping a parameter sets, by trial."""
    fields = {"dof_damping": np.array(model.dof_damping)[None]}
    parameter.apply(fields, np.array([7.0]))
    return np.flatnonzero(fields["dof_damping"][0] == 7).tolist()


@pytest.mark.parametrize(
    ("joints", "prefixes"),
    [
        (["hip_joint", "knee"], ["hip", "knee"]),
        (["hip", "hip_joint"], ["hip", "hip_joint"]),
        (["hip_joint", "hip"], ["hip_joint", "hip"]),
        (["hip", "hip_joint", "hip_joint_joint"], ["hip", "hip_joint", "hip_joint_joint"]),
        (
            ["hip_joint_joint", "hip_joint"],
            ["hip_joint_joint", "hip_joint"],
        ),  # hip_joint_damping is hip_joint's
        (["knee", "hip_joint", "hip_joint_joint"], ["knee", "hip_joint", "hip_joint_joint"]),
        (
            ["a_joint_joint_joint", "a_joint", "a_joint_joint"],
            ["a_joint_joint_joint", "a_joint", "a_joint_joint"],
        ),
        (["left hip_joint", "left/hip_joint_joint"], ["left_hip_joint", "left_hip_joint_joint"]),
        (["_joint", "knee_joint"], ["_joint", "knee"]),
        (["motor", "knee"], ["motor_joint", "knee"]),
        (["motor_joint", "knee"], ["motor_joint", "knee"]),
        (["joint", "motor"], ["joint_joint", "motor_joint"]),
        (["upper arm", "lower,arm"], ["upper_arm", "lower_arm"]),
        (["a=b", "tab\tbed_joint"], ["a_b", "tab_bed"]),
        (["left/hip", "right/hip_joint"], ["left_hip", "right_hip"]),
        (["foot", "density", "gravity", "engine"], ["foot", "density", "gravity", "engine"]),
    ],
)
def test_every_joint_has_a_name_of_its_own(joints, prefixes):
    """Each name sets its own joint's damping and no other's."""
    model = of_joints(*joints)
    table = mujoco_parameters(model)
    for i, prefix in enumerate(prefixes):
        assert changed_dof(model, table[f"{prefix}_damping"]) == [i]
        assert {f"{prefix}_{suffix}" for suffix in (*DRIVEN, "range")} <= set(table)
    assert sum(name.endswith("_damping") for name in table) == len(joints)
    assert [dict(read_pairs(f"{name}=1")) for name in table] == [{name: "1"} for name in table]


def test_the_whole_robots_names_stay_the_whole_robots():
    model = of_joints("motor", "joint")
    table, gear = mujoco_parameters(model), np.array(model.actuator_gear)[None]
    table["motor_strength"].apply(fields := {"actuator_gear": gear.copy()}, np.array([3.0]))
    assert fields["actuator_gear"][0, :, 0].tolist() == [3, 3]
    table["motor_joint_strength"].apply(fields := {"actuator_gear": gear.copy()}, np.array([3.0]))
    assert fields["actuator_gear"][0, :, 0].tolist() == [3, 1]
    table["joint_range"].apply(
        fields := {"jnt_range": np.array(model.jnt_range)[None]}, np.array([2.0])
    )
    assert fields["jnt_range"][0].tolist() == [[-2, 2], [-2, 2]]
    table["joint_joint_range"].apply(
        fields := {"jnt_range": np.array(model.jnt_range)[None]}, np.array([2.0])
    )
    assert fields["jnt_range"][0].tolist() == [[-1, 1], [-2, 2]]


def test_a_name_is_changed_only_where_it_collides():
    """A passive joint called motor takes nothing, nor does one called joint that has no limits."""
    assert "motor_damping" in mujoco_parameters(of_joints("motor", "knee", motors=["knee"]))
    assert "joint_strength" in mujoco_parameters(of_joints("joint", limited=False))


@pytest.mark.parametrize(
    ("bodies", "prefixes"),
    [
        (["upper arm", "lower,arm"], ["upper_arm", "lower_arm"]),
        (["a = b", "c"], ["a_b", "c"]),
        (["joint", "motor", "gravity"], ["joint", "motor", "gravity"]),
        (["torso", "torso_mass"], ["torso", "torso_mass"]),
        (["[red]", "ä/ö"], ["[red]", "ä_ö"]),
    ],
)
def test_every_body_has_a_name_of_its_own(bodies, prefixes):
    table = mujoco_parameters(of_bodies(*bodies))
    assert [table[f"{prefix}_mass"].default for prefix in prefixes] == [
        1.0 + i for i in range(len(bodies))
    ]


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (
            ["motor", "motor_joint"],
            "joints 'motor' and 'motor_joint' would both have motor_joint_damping",
        ),
        (
            ["upper arm", "upper_arm"],
            "joints 'upper arm' and 'upper_arm' would both have upper_arm_damping",
        ),
        (["a b", "a,b", "c"], "joints 'a b' and 'a,b' would both have a_b_damping"),
    ],
)
def test_joints_that_no_name_keeps_apart_are_refused(joints, message):
    with pytest.raises(BadValue, match=message) as error:
        mujoco_parameters(of_joints(*joints))
    assert "rename one" in str(error.value) and "\n" not in str(error.value)


def test_bodies_that_no_name_keeps_apart_are_refused_when_the_model_is_read(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(chain(["a", "b"], ["upper arm", "upper=arm"], ["a"], True))
    with pytest.raises(
        BadValue, match="bodies 'upper arm' and 'upper=arm' would both have upper_arm_mass"
    ):
        MujocoSimulator(path, (), 1, 1)


def test_no_gap_or_setting_ends_as_a_models_parameters_do():
    """A model can name its joints as it will: none makes `history` or `engine`."""
    reserved = [
        *EFFECTS,
        "engine",
        "reward",
        "episodes_per_task",
        "gravity",
        "friction",
        "foot_friction",
        "density",
    ]
    assert not [name for name in reserved if name.rpartition("_")[2] in (*DRIVEN, "range", "mass")]


def test_built_in_robots_keep_their_names():
    for robot in BUILT_IN:
        model = load_model(find_task(robot).model_path())
        table = mujoco_parameters(model)
        for j in model.actuator_trnid[:, 0]:
            assert f"{model.joint(int(j)).name.removesuffix('_joint')}_strength" in table
        assert {
            f"{model.body(b).name}_mass" for b in range(1, model.nbody) if model.body_mass[b]
        } - {"_mass"} <= set(table)


def test_names_depend_on_no_order():
    assert name_joints({}) == {} and name_bodies(["", "a"]) == {"a": "a"}
    for names in (["hip", "hip_joint"], ["hip_joint", "hip"]):
        assert name_joints(dict.fromkeys(names, ("damping",))) == {name: name for name in names}


def test_a_model_with_hard_names_is_used_as_the_table_shows(tmp_path, capsys):
    path: Path = tmp_path / "robot.xml"
    path.write_text(
        chain(
            ["upper arm", "motor", "left/hip"],
            ["[bold]", "b,c", "left/leg"],
            ["motor", "left/hip"],
            True,
        )
    )

    class Hard(Task):
        name, model, frame_skip = "hard_names", path, 1
        observation_names = ("a", "b", "c")

    register(Hard)
    show_parameters(ImportOptions(), "hard_names")
    shown = capsys.readouterr().out
    table = RobotDomain("hard_names").table()
    assert {
        "upper_arm_damping",
        "motor_joint_strength",
        "b_c_mass",
        "left_leg_mass",
        "[bold]_mass",
        "left_hip_range",
    } <= set(table)
    assert not [name for name in table if name not in shown]
    for name, parameter in table.items():
        domain = parse_domain(
            f"hard_names/{name}=x2" if parameter.default else f"hard_names/{name}=2"
        )
        assert domain.names == (name,)
        assert parse_domain(str(domain)) == domain
