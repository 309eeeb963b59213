"""A run and its robot's files: what run.json records of them, and what a change of them does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from urdfs import write_stl

import isthmus
from isthmus.cli.main import main
from isthmus.physics.model_files import digest_model
from isthmus.tasks.imports import import_files
from isthmus.tasks.task import TASKS
from isthmus.training.run import Run
from isthmus.types import BadValue

TASK = """
import numpy as np
from isthmus import Task, register

@register
class Arm(Task):
    name = "arm_of_files"
    model = "arm.xml"
    frame_skip = 1
    time_limit = 20
    observation_names = ("angle", "speed")

    def start(self, simulator, random):
        qpos = random.uniform(-0.1, 0.1, 1)
        return qpos, np.zeros_like(qpos)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], 1)

    def rewards(self, view, memory, action):
        return {"speed": view.qvel[:, 0].copy()}

    def progress(self, view):
        return view.qpos[:, 0].copy()
"""
MAIN = (
    '<mujoco><include file="parts/arm.xml"/><asset><mesh file="meshes/tip.stl"/></asset>'
    '<actuator><motor joint="hip" ctrlrange="-1 1"/></actuator></mujoco>'
)
PART = (
    '<mujoco><worldbody><body name="arm"><joint name="hip" axis="0 1 0"/>'
    '<geom type="mesh" mesh="tip"/></body></worldbody></mujoco>'
)


@pytest.fixture(autouse=True)
def clean():
    yield
    forget()


def forget() -> None:
    TASKS._entries.pop("arm_of_files", None)
    for name in [name for name in sys.modules if name.startswith("isthmus_import_")]:
        del sys.modules[name]
    tiny.forget_simulations()


@pytest.fixture
def robot(tmp_path) -> Path:
    """The folder of a task of one's own, of a model of three files."""
    folder = tmp_path / "robot"
    (folder / "parts").mkdir(parents=True)
    (folder / "arm.py").write_text(TASK)
    (folder / "arm.xml").write_text(MAIN)
    (folder / "parts" / "arm.xml").write_text(PART)
    write_stl(folder / "meshes" / "tip.stl")
    import_files([str(folder / "arm.py")])
    return folder


@pytest.fixture
def run(tmp_path, robot) -> Run:
    return tiny.train("source_only", tmp_path / "run", problem=isthmus.problem("arm_of_files"))


def test_a_run_records_the_digest_of_all_files(run, robot):
    recorded = json.loads((run.folder / "run.json").read_text())["models"]
    assert recorded == {"arm_of_files": digest_model(robot / "arm.xml")}


@pytest.mark.parametrize("name", ["arm.xml", "parts/arm.xml", "meshes/tip.stl"])
def test_a_run_does_not_go_on_with_another_robot(run, robot, capsys, name):
    """Played it can be, with a note."""
    file = robot / name
    before = file.read_bytes()
    file.write_bytes(b"\1" + before[1:] if name.endswith("stl") else before + b"\n")
    with pytest.raises(BadValue, match=r"the model of arm_of_files .* changed since"):
        isthmus.resume(run.folder)
    imported = f"--import={robot / 'arm.py'}"
    main(["evaluate", str(run.folder), imported, "--episodes=2"])
    assert "the model of arm_of_files changed" in capsys.readouterr().err
    file.write_bytes(before)
    main(["evaluate", str(run.folder), imported, "--episodes=2"])
    assert "changed" not in capsys.readouterr().err
    isthmus.resume(run.folder)


def test_a_run_of_before_records_none_and_goes_on(run):
    config = json.loads((run.folder / "run.json").read_text())
    del config["models"]
    (run.folder / "run.json").write_text(json.dumps(config))
    isthmus.resume(run.folder)


def test_a_run_and_its_robot_are_opened_elsewhere(run, robot, tmp_path, capsys):
    """On another machine: both folders lie under other names, and nothing is where it was."""
    main(["evaluate", str(run.folder), f"--import={robot / 'arm.py'}", "--episodes=2"])
    here = capsys.readouterr().out
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run.folder, elsewhere / "learned")
    shutil.move(robot, elsewhere / "machine")
    forget()
    imported = f"--import={elsewhere / 'machine' / 'arm.py'}"
    main(["evaluate", str(elsewhere / "learned"), imported, "--episodes=2"])
    there = capsys.readouterr()
    assert there.out.replace(str(elsewhere / "learned"), str(run.folder)) == here
    assert there.err == ""
    lost = elsewhere / "lost"
    shutil.move(elsewhere / "machine", lost)
    (lost / "parts" / "arm.xml").unlink()
    forget()
    with pytest.raises(SystemExit):
        main(["evaluate", str(elsewhere / "learned"), f"--import={lost / 'arm.py'}"])
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "parts/arm.xml" in line
