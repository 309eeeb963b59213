"""`isthmus import-robot`, as docs/guide/own_robot_files.md has it."""

from __future__ import annotations

import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from urdfs import BALL, joint, link, write

from isthmus.cli.importing_robots import _describe_settling
from isthmus.cli.main import main
from isthmus.domains.parse import parse_domain
from isthmus.physics.urdf.settling import Settling
from isthmus.tasks.imports import import_files
from isthmus.tasks.task import TASKS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "own_robot_files.md"

TASK = """
import numpy as np
from isthmus import Task, register

@register
class DeskArm(Task):
    name = "desk_arm_of_a_test"
    model = "desk_arm.xml"
    keyframe = "home"
    frame_skip = 10
    observation_names = ("shoulder", "elbow", "grip", "grip mirror")

    def observe(self, view):
        return view.qpos.copy()

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def rewards(self, view, memory, action):
        return {"still": -np.abs(view.qvel).sum(axis=1)}

    def progress(self, view):
        return view.position("imu")[:, 2].copy()
"""


@pytest.fixture(autouse=True)
def clean():
    yield
    TASKS._entries.pop("desk_arm_of_a_test", None)
    tiny.forget_simulations()


def test_the_page_runs_and_a_task_uses_what_it_wrote(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    isthmus (import-robot .*)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 2
    outputs = []
    for line in lines:
        main(shlex.split(line))
        outputs.append(capsys.readouterr().out)
    assert "nothing written" in outputs[0] and outputs[1].splitlines()[-1] == "desk_arm.xml"
    for text in ("speed limits", "mimics grip", "plate and upper overlap", "rests 5 s after"):
        assert text in outputs[0] and text in outputs[1]
    (tmp_path / "arm.py").write_text(TASK)
    import_files([str(tmp_path / "arm.py")])
    domain = parse_domain("desk_arm_of_a_test")
    assert {"shoulder_damping", "fore_mass", "elbow_strength"} <= domain.table().keys()
    worlds = domain.worlds(2, seed=0)
    np.testing.assert_allclose(worlds.observation, [[0, -0.9, 0, 0]] * 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.urdf"], "no URDF file at none.urdf"),
        (["robot.urdf", "--floating-base", "--fixed-base"], "give one of them"),
        (["robot.urdf", "--package", "own"], "write NAME=DIR"),
        (["robot.urdf", "-o", "robot.urdf"], "is there already"),
    ],
)
def test_a_mistake_is_a_line(tmp_path, monkeypatch, capsys, arguments, said):
    write(tmp_path, link("base"), link("arm"), joint("j", "base", "arm"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["import-robot", *arguments])
    out, line = capsys.readouterr()
    assert stopped.value.code == 2 and out == "" and line.count("\n") == 1 and said in line


def test_one_that_falls_over_is_told(tmp_path, monkeypatch, capsys):
    top_heavy = link("pole", BALL).replace("<inertial>", '<inertial><origin xyz=".2 0 1"/>')
    path = write(tmp_path, top_heavy, link("arm", "", 0.1), joint("j", "pole", "arm"))
    main(["import-robot", str(path)])
    assert "(it has fallen over)" in capsys.readouterr().out


def test_one_that_diverges_is_told():
    diverged = Settling(0.25, math.inf, "", math.inf, "", math.nan, math.nan)
    assert not diverged.rests
    assert _describe_settling(diverged).startswith("diverges 0.25 s after")


def test_one_without_collision_shapes_falls_without_end(tmp_path, capsys):
    path = write(tmp_path, link("base", ""), link("arm", ""), joint("j", "base", "arm"))
    main(["import-robot", str(path)])
    assert "falls without end: no shape of it collides" in capsys.readouterr().out


def test_mujocos_warnings_do_not_reach_the_screen(tmp_path, monkeypatch, capfd):
    """Nor a log file in the working directory."""
    monkeypatch.chdir(tmp_path)
    limit = '<limit lower="0" upper="0" effort="1"/>'
    path = write(tmp_path, link("base"), link("arm"), joint("j", "base", "arm", inside=limit))
    main(["import-robot", str(path)])
    out, err = capfd.readouterr()
    assert "WARNING" not in out + err and "equal ends bound nothing: j" in out
    assert [file.name for file in tmp_path.iterdir()] == ["robot.urdf"]


def test_one_that_still_moves_is_told(tmp_path, capsys):
    """A wheel on a fixed base, without damping: its motor holds still and gravity swings it."""
    swinging = link("arm", "").replace("<inertial>", '<inertial><origin xyz=".5 0 0"/>')
    limit = '<limit effort="5" velocity="3"/>'
    path = write(tmp_path, link("base"), swinging, joint("j", "base", "arm", "continuous", limit))
    main(["import-robot", str(path), "--fixed-base", "--actuators", "motor"])
    assert "still moves 5 s after it is let go at home, j at " in capsys.readouterr().out
