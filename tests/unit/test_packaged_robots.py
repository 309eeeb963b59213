"""Robots whose models come with other packages: what is made of their files, and without them."""

# pyright: reportAttributeAccessIssue=false, reportAssignmentType=false

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from isthmus.cli.main import main
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.model_files import list_model_files
from isthmus.physics.mujoco import load_model
from isthmus.physics.random import keys
from isthmus.tasks import packaged_models
from isthmus.tasks.go2 import Go2
from isthmus.tasks.mini_cheetah import MiniCheetah
from isthmus.tasks.packaged_models import PackagedModel, PackagedTask, compose_model
from isthmus.tasks.so101 import SO101
from isthmus.tasks.task import PACKAGED, SimView, find_task
from isthmus.types import BadValue, IsthmusError

ROBOTS: dict[str, type[PackagedTask]] = {"go2": Go2, "mini_cheetah": MiniCheetah, "so101": SO101}
LEGGED = ["go2", "mini_cheetah"]


def needs(name: str) -> type[PackagedTask]:
    """The task of a robot whose package is installed; else the test is skipped."""
    packaged = ROBOTS[name].packaged
    if importlib.util.find_spec(packaged.module) is None:
        pytest.skip(f"{packaged.distribution} is not installed")
    return ROBOTS[name]


def begin(text: str, n: int = 4) -> SteppedWorlds:
    return SteppedWorlds.new(parse_domain(text), keys(0, n))


def positions(live: SteppedWorlds) -> np.ndarray:
    assert isinstance(live.simulation, PhysicsSimulation)
    return live.simulation.simulator.qpos


def test_each_is_known():
    assert ROBOTS.keys() == PACKAGED.keys()
    for name, kind in ROBOTS.items():
        assert type(find_task(name)) is kind and kind.name == name


@pytest.mark.parametrize("name", ROBOTS)
def test_its_package_is_not_imported(name):
    path = needs(name).model_path()
    assert ROBOTS[name].packaged.module not in sys.modules
    # Meshes are read where they lie.
    files = list_model_files(path)
    assert len(files) > 1 and all(ROBOTS[name].packaged.module in str(file) for file in files[1:])


@pytest.mark.parametrize("name", ROBOTS)
def test_the_model_is_the_packages_but_for_what_is_added(name):
    packaged = needs(name).packaged
    theirs = mujoco.MjModel.from_xml_path(str(packaged_models.find_file(packaged, name)))
    ours = load_model(ROBOTS[name].model_path())
    for body in range(1, theirs.nbody):
        there, here = theirs.body(body), ours.body(theirs.body(body).name)
        np.testing.assert_array_equal(there.mass, here.mass)
        np.testing.assert_array_equal(there.inertia, here.inertia)
    for joint in range(theirs.njnt):
        there = theirs.joint(joint)
        here = ours.joint(there.name) if there.name else ours.joint(joint)
        for field in ("type", "range", "axis", "damping", "armature", "frictionloss"):
            np.testing.assert_array_equal(getattr(there, field), getattr(here, field))
    np.testing.assert_array_equal(theirs.actuator_ctrlrange, ours.actuator_ctrlrange)
    np.testing.assert_array_equal(theirs.actuator_gainprm, ours.actuator_gainprm)
    assert theirs.opt.timestep == ours.opt.timestep


@pytest.mark.parametrize("name", LEGGED)
def test_a_legged_robot_stands_on_its_feet(name):
    """At home above the ground by less than 5 mm, and for two seconds without a command."""
    kind = needs(name)
    model = load_model(kind.model_path())
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    mujoco.mj_forward(model, data)
    for leg in ("FL", "FR", "RL", "RR"):
        gap = data.geom(leg).xpos[2] - model.geom(leg).size[0]
        assert 0 <= gap < 0.005
    live = begin(name)
    for _ in range(100):
        step = live.step(live.all, commanded=np.zeros((4, 12), np.float32))
        assert not step.terminated.any()
    height = {"go2": Go2.height, "mini_cheetah": MiniCheetah.height}[name]
    assert (np.abs(positions(live)[:, 2] - height) < 0.03).all()


@pytest.mark.parametrize("name", LEGGED)
def test_feet_touch_and_knees_do_not(name):
    kind = needs(name)
    live = begin(name)
    for _ in range(50):
        live.step(live.all, commanded=np.zeros((4, 12), np.float32))
    assert isinstance(live.simulation, PhysicsSimulation)
    view = SimView(live.simulation.simulator, live.all)
    for foot in ("FL_foot", "FR_foot", "RL_foot", "RR_foot"):
        assert (view.sensor(foot) > 1).all()
    for knee in ("FL_knee", "RR_knee"):
        assert not view.sensor(knee).any()
    weight = load_model(kind.model_path()).body_mass.sum() * 9.81
    total = sum(view.sensor(foot) for foot in ("FL_foot", "FR_foot", "RL_foot", "RR_foot"))
    np.testing.assert_allclose(total, weight, rtol=0.05)


def test_an_arm_holds_its_pose_and_its_goal_stays():
    needs("so101")
    live = begin("so101")
    before = positions(live)[:, 6:].copy()
    assert (np.ptp(before, axis=0) > 0.01).all()
    for _ in range(50):
        live.step(live.all, commanded=np.zeros((4, 6), np.float32))
    np.testing.assert_array_equal(positions(live)[:, 6:], before)
    np.testing.assert_allclose(positions(live)[:, :6], [[0, -0.6, 0.6, 0.8, 0, 0.3]] * 4, atol=0.02)


# Without the package, or with another version of it


def test_a_missing_package_is_a_line(capsys):
    missing = PackagedModel("no-such-robots", "no_such_robots", "robot.xml")
    with pytest.raises(BadValue, match=r"own needs files of the package no-such-robots") as error:
        compose_model(missing, "own")
    assert "pip install --no-deps no-such-robots" in str(error.value)


@pytest.mark.parametrize("name", ROBOTS)
def test_commands_say_so(name, monkeypatch, capsys):
    """And the table of tasks is shown all the same."""

    def refuse(model: PackagedModel, needed_by: str) -> Path:
        raise BadValue(f"{needed_by} needs files of {model.distribution}")

    monkeypatch.setattr(packaged_models, "compose_model", refuse)
    with pytest.raises(SystemExit):
        main(["parameters", name])
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"{name} needs files of" in line


def write_package(folder: Path, name: str, text: str) -> PackagedModel:
    """A package of one's own with an MJCF, which raises where it is imported."""
    (folder / name / "assets").mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / name / "assets" / "robot.xml").write_text(text)
    return PackagedModel(name.replace("_", "-"), name, "assets/robot.xml")


ROBOT = (
    '<mujoco><worldbody><body name="base"><freejoint/><geom size=".1"/></body></worldbody></mujoco>'
)


def test_a_file_that_another_version_lacks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = write_package(tmp_path, "own_robots_a", ROBOT)
    lacking = PackagedModel(package.distribution, package.module, "assets/gone.xml")
    with pytest.raises(IsthmusError, match=r"assets/gone.xml, which the installed own-robots-a"):
        compose_model(lacking, "own")
    other = PackagedModel(
        package.distribution, package.module, package.file, touches={"foot": ("leg", 0.1)}
    )
    with pytest.raises(IsthmusError, match="has no body 'leg'"):
        compose_model(other, "own")


def test_what_is_written_is_written_once_and_anew_where_it_was_damaged(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packaged_models, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    package = write_package(tmp_path, "own_robots_b", ROBOT)
    path = compose_model(package, "own")
    assert path.parent == tmp_path / "cache" / "robots"
    content = path.read_bytes()
    path.write_bytes(content[:20])
    compose_model.cache_clear()
    assert compose_model(package, "own") == path and path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # A home that cannot be written: a file where the folder should be.
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(packaged_models, "user_cache_path", lambda *_, **__: tmp_path / "file")
    compose_model.cache_clear()
    assert compose_model(package, "own").read_bytes() == content
