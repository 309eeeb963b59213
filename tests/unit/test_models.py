"""MJCFs as people write them: which load as tasks, which are refused, of which files they are."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import mujoco
import numpy as np
import own
import pytest
from PIL import Image
from urdfs import write_stl

from isthmus.domains.parse import parse_domain
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.model_files import digest_model, list_model_files
from isthmus.tasks import task as tasks
from isthmus.types import BadValue

TORSO = (
    '<body name="torso" pos="0 0 1"><freejoint name="root"/><geom size=".1"/>'
    '<body name="leg"><joint name="hip" axis="0 1 0" {hip}/><site name="tip" pos=".3 0 0"/>'
    '<geom name="shin" size=".05" pos=".2 0 0"/></body></body>'
)
MOTOR = '<actuator><motor joint="hip" ctrlrange="-1 1"/></actuator>'
PART = f"<mujoco><worldbody>{TORSO.format(hip='')}</worldbody></mujoco>"


@pytest.fixture(autouse=True)
def clean():
    yield
    own.forget()


class Anything(own.Leg):
    """A task of any model: it begins in the default pose and observes all of the state."""

    name = "anything"

    def start(self, simulator, random):
        noise = random.uniform(0.0, 1e-3, simulator.nv)
        return np.tile(simulator.qpos0, (len(noise), 1)), noise


def robot(*parts: str, body: str = TORSO.format(hip=""), actuators: str = MOTOR) -> str:
    return f"<mujoco>{''.join(parts)}<worldbody>{body}</worldbody>{actuators}</mujoco>"


def load(folder: Path, text: str, **files: str):
    """The domain of a task whose model is `text`, with other MJCFs, a mesh and a picture."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.xml").write_text(content)
    write_stl(folder / "meshes" / "tip.stl")
    write_stl(folder / "meshes" / "other.stl", 0.2)
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / "meshes" / "grid.png")
    path = folder / "model.xml"
    path.write_text(text)
    numbers = 0
    if "<robot" not in text:
        model = mujoco.MjModel.from_xml_path(str(path))
        numbers = model.nq + model.nv
    names = tuple(f"number {i}" for i in range(numbers))
    attributes = {"model": path, "observation_names": names}
    tasks.register(type("Own", (Anything,), attributes))
    return parse_domain("anything")


SLIDER = '<body name="cart"><joint name="rail" type="slide"/><geom size=".1" pos="0 0 4"/></body>'
LOADED = {
    "include": (
        '<mujoco><compiler meshdir="meshes"/><include file="part.xml"/>' + MOTOR + "</mujoco>",
        {"leg_mass", "hip_damping"},
    ),
    "attached": (
        '<mujoco><asset><model name="p" file="part.xml"/></asset><worldbody><frame>'
        '<attach model="p" body="torso" prefix="my_"/></frame></worldbody>'
        + MOTOR.replace("hip", "my_hip")
        + "</mujoco>",
        {"my_leg_mass", "my_hip_damping"},
    ),
    "mesh": (
        robot(
            '<compiler meshdir="meshes"/><asset><mesh file="tip.stl"/></asset>',
            body=TORSO.format(hip="").replace('size=".05"', 'type="mesh" mesh="tip"'),
        ),
        {"leg_mass"},
    ),
    "texture and height field": (
        robot(
            '<compiler assetdir="meshes"/><asset><texture name="t" type="2d" file="grid.png"/>'
            '<material name="m" texture="t"/>'
            '<hfield name="h" file="grid.png" size="1 1 1 1"/></asset>',
            body=TORSO.format(hip="") + '<geom type="hfield" hfield="h" pos="0 0 -3"/>',
        ),
        {"leg_mass"},
    ),
    "default classes": (
        robot(
            '<default><default class="soft"><joint damping="7"/></default></default>',
            body=TORSO.format(hip='class="soft"'),
        ),
        {"hip_damping"},
    ),
    "autolimits off": (
        robot(
            '<compiler autolimits="false"/>',
            body=TORSO.format(hip='range="-90 90" limited="true"'),
            actuators=MOTOR.replace("/></", ' ctrllimited="true"/></'),
        ),
        {"hip_range"},
    ),
    "equality constraints": (
        robot(
            body=TORSO.format(hip="") + SLIDER,
            actuators=MOTOR + '<equality><joint joint1="rail" joint2="hip"/>'
            '<connect body1="cart" body2="leg" anchor="0 0 0" active="false"/>'
            '<weld body1="torso" active="false"/></equality>',
        ),
        {"cart_mass"},
    ),
    "tendons": (
        robot(
            body=TORSO.format(hip="") + '<site name="above" pos="0 0 2"/>',
            actuators='<tendon><spatial name="cord" stiffness="3"><site site="above"/>'
            '<site site="tip"/></spatial><fixed name="pulley"><joint joint="hip" coef="2"/></fixed>'
            '</tendon><actuator><motor tendon="pulley" ctrlrange="-1 1"/>'
            '<position tendon="cord" kp="3" ctrlrange="0 2"/>'
            '<motor site="tip" gear="0 0 1 0 0 0" ctrlrange="-1 1"/></actuator>',
        ),
        {"motor_strength", "hip_damping"},
    ),
    "several free joints": (
        robot(
            body=TORSO.format(hip="")
            + '<body name="ball" pos="1 0 1"><freejoint/><geom size=".1"/></body>'
            + '<body pos="2 0 1"><joint type="free"/><geom size=".1"/></body>'
            + '<body pos="3 0 1"><joint type="ball"/><geom size=".1" pos="0 0 .3"/></body>'
        ),
        {"ball_mass", "torso_mass"},
    ),
    "replicated bodies": (
        robot(
            body=TORSO.format(hip="")
            + '<replicate count="3" offset="1 0 0" sep="_"><body name="cube"><freejoint/>'
            '<geom type="box" size=".1 .1 .1"/></body></replicate>'
        ),
        {"cube_0_mass", "cube_2_mass"},
    ),
    "a mocap body": (
        robot(
            body=TORSO.format(hip="") + '<body name="hand" mocap="true"><geom size=".1"/></body>',
            actuators=MOTOR + '<equality><weld body1="hand" body2="torso"/></equality>',
        ),
        {"torso_mass"},
    ),
    "inheritrange": (
        robot(
            body=TORSO.format(hip='range="-90 45"'),
            actuators='<actuator><position joint="hip" kp="9" inheritrange="1"/></actuator>',
        ),
        {"hip_range"},
    ),
}


@pytest.mark.parametrize("name", LOADED)
def test_models_that_load(tmp_path, name):
    """Their worlds are stepped, each as if the other was not there."""
    text, parameters = LOADED[name]
    domain = load(tmp_path, text, part=PART)
    assert parameters <= domain.table().keys()
    low, high = domain.spaces.low, domain.spaces.high
    live = SteppedWorlds.resume(domain, domain.worlds(2, seed=0))
    for _ in range(5):
        live.step(live.all, commanded=np.stack([low, high]))
    assert np.isfinite(live.state["observation"]).all() and (low < high).all()
    alone = SteppedWorlds.resume(domain, domain.worlds(1, seed=0))
    for _ in range(5):
        alone.step(alone.all, commanded=low[None])
    np.testing.assert_array_equal(alone.state["observation"][0], live.state["observation"][0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            robot(
                body=TORSO.format(hip='range="-90 90"'),
                actuators='<actuator><position name="p" joint="hip" kp="9"/></actuator>',
            ),
            'write inheritrange="1", its joint\'s range, there',
        ),
        (
            robot(actuators='<actuator><position name="p" joint="hip" kp="9"/></actuator>'),
            'write ctrlrange="-1 1" there',
        ),
        (
            robot(
                body=TORSO.format(hip='range="-90 90"'),
                actuators='<actuator><velocity name="p" joint="hip" kv="9"/></actuator>',
            ),
            'write ctrlrange="-1 1" there',
        ),
        (
            robot(actuators=MOTOR.replace("/></", ' name="p" ctrllimited="false"/></')),
            'write ctrllimited="true"',
        ),
    ],
)
def test_actuators_without_bounds_say_what_to_write(tmp_path, text, said):
    with pytest.raises(BadValue, match="actuator 'p'") as error:
        load(tmp_path / "wrong", text).ready()
    assert said in str(error.value)
    (written,) = re.findall(r'\w+="[^"]*"', said)
    mended = text.replace('ctrllimited="false"', "").replace('name="p"', f'name="p" {written}')
    own.forget()
    load(tmp_path / "mended", mended).ready()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('<mujoco><include file="none.xml"/></mujoco>', "Error opening file 'none.xml'"),
        (robot('<asset><mesh file="none.stl"/></asset>'), "Error opening file 'none.stl'"),
        (robot('<compiler autolimits="false"/>'), 'autolimits="true"'),
        (robot('<keyframe><key name="k" ctrl="1 2"/></keyframe>'), "invalid ctrl size"),
        ("<mujoco><worldbody>", "does not compile"),
        ("<html/>", "Unrecognized XML model type"),
    ],
)
def test_models_that_do_not_compile_say_why_in_a_line(tmp_path, text, said):
    path = tmp_path / "model.xml"
    path.write_text(text)
    task = type("Own", (Anything,), {"model": path, "observation_names": ("x",)})
    with pytest.raises(BadValue) as error:
        parse_domain(tasks.register(task).name).ready()
    line = str(error.value)
    assert said in line and line.startswith(str(path)) and "\n" not in line


def test_a_urdf_is_no_model_of_a_task(tmp_path):
    path = tmp_path / "arm.urdf"
    path.write_text('<robot name="arm"><link name="base"/></robot>')
    task = type("Own", (Anything,), {"model": path, "observation_names": ("x",)})
    with pytest.raises(BadValue, match=r"isthmus import-robot arm.urdf -o arm.xml"):
        parse_domain(tasks.register(task).name).ready()


# The files of a model

WHOLE = (
    '<mujoco><compiler meshdir="meshes"/><!-- <include file="gone.xml"/> -->'
    '<include file="parts/part.xml"/><asset><mesh file="tip.stl"/></asset>' + MOTOR + "</mujoco>"
)


def write_whole(folder: Path) -> Path:
    """A model of four files: one includes another, which includes the third; and a mesh."""
    (folder / "parts").mkdir(parents=True)
    write_stl(folder / "meshes" / "tip.stl")
    inner = PART.replace('size=".05"', 'type="mesh" mesh="tip"')
    (folder / "parts" / "inner.xml").write_text(inner)
    (folder / "parts" / "part.xml").write_text('<mujoco><include file="inner.xml"/></mujoco>')
    path = folder / "model.xml"
    path.write_text(WHOLE)
    return path


def test_the_files_of_a_model(tmp_path):
    path = write_whole(tmp_path)
    names = [file.relative_to(tmp_path).as_posix() for file in list_model_files(path)]
    assert names == ["model.xml", "parts/part.xml", "parts/inner.xml", "meshes/tip.stl"]


def test_a_digest_is_of_all_files_wherever_they_lie(tmp_path):
    path = write_whole(tmp_path / "here")
    digest = digest_model(path)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert digest_model(tmp_path / "there" / "model.xml") == digest
    for name in ("model.xml", "parts/part.xml", "parts/inner.xml", "meshes/tip.stl"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(tmp_path / "here", copy)
        file = copy / name
        end = b"\n" if file.suffix == ".xml" else b"\0"
        changed = file.read_bytes().replace(b'".2 0 0"', b'".3 0 0"') + end
        if file.suffix == ".stl":  # a byte of a normal, which MuJoCo does not read
            changed = b"\1" + changed[1:-1]
        file.write_bytes(changed)
        assert digest_model(copy / "model.xml") != digest, name


def test_the_digest_of_one_file_is_that_of_its_bytes():
    """As fits have recorded it."""
    path = tasks.find_task("hopper").model_path()
    assert digest_model(path) == hashlib.sha256(path.read_bytes()).hexdigest()
