"""Every file is UTF-8 under any locale, and no command ends because a terminal's encoding lacks a
sign.
"""

from __future__ import annotations

import ast
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

from isthmus.cli.output import accept_any_text, spell
from isthmus.physics.keyframes import load_keyframe
from isthmus.physics.mujoco import load_model
from isthmus.training.run import Run
from isthmus.training.run_files import write_text
from isthmus.types import decode_text

ROOT = Path(__file__).parents[2]
NAME = "lauf-é−λ"  # a folder's
LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    "strict ascii": {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
}

COMMANDS = """
import json, sys
from isthmus.cli.main import main

for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as stopped:
        print("exit", stopped.code)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return tiny.train("source_only", tmp_path_factory.mktemp("encodings") / NAME, 1)


@pytest.mark.parametrize("name", LOCALES)
def test_commands_under_a_locale_without_the_signs(run, tmp_path, name):
    page = tmp_path / "page.html"
    report = ["report", str(run.folder), "-o", str(page), "--title", "Rückkehr ± 2"]
    commands = [
        *([report] if name == "ascii" else []),  # seconds of drawing
        ["verify", str(run.folder)],
        ["evaluate", f"{run.folder}@best", "--domain", "ball−λ"],
        ["problems"],
        ["train", "--help"],
    ]
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))
    }
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **LOCALES[name]}
    done = tiny.process(
        [sys.executable, "-c", COMMANDS, json.dumps(commands, ensure_ascii=False)],
        env=environment,
        errors="replace",
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == [
        "exit 2",
        "exit 0",
    ]
    assert "did you mean ball" in done.stderr
    if name != "ascii":
        return
    text = page.read_text(encoding="utf-8")
    assert "<title>Rückkehr ± 2</title>" in text and NAME in text


ROBOT = """
<mujoco>
  <include file="wörld.xml"/>
  <asset><mesh name="λ" file="λ.obj"/></asset>
  <worldbody>
    <body name="Ärm"><joint name="hüfte" axis="0 1 0"/><geom type="mesh" mesh="λ" mass="1"/></body>
  </worldbody>
  <actuator><motor joint="hüfte" ctrlrange="-1 1"/></actuator>
  <keyframe><key name="höme" qpos="0.5"/></keyframe>
</mujoco>"""
OWN = """
from isthmus.tasks.task import Task, register

@register
class Pendulum(Task):
    name, model, frame_skip, keyframe = "pendel", "robot.xml", 1, "höme"
    observation_names = ("a", "b")

    def observe(self, view):
        import numpy as np

        return np.concatenate([view.qpos, view.qvel], axis=1)

    def remember(self, view):
        return view.qpos[:, :0].copy()

    def rewards(self, view, memory, action):
        return {"x": view.qpos[:, 0].copy()}

    def progress(self, view):
        return view.qpos[:, 0].copy()
"""


def write_robot(folder: Path, robot: str = ROBOT) -> Path:
    """Write a robot with a mesh and an included file, and its task; the task's file."""
    folder.mkdir()
    (folder / "robot.xml").write_text(robot, encoding="utf-8")
    (folder / "wörld.xml").write_text(
        '<mujoco><option gravity="0 0 -2"/></mujoco>', encoding="utf-8"
    )
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
    (folder / "λ.obj").write_text(
        corners + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n", encoding="utf-8"
    )
    (folder / "robot.py").write_text(OWN, encoding="utf-8")
    return folder / "robot.py"


def run_commands(commands: list[list[str]], name: str) -> Any:
    """Run commands in a process of another locale."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))
    }
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **LOCALES[name]}
    given = json.dumps(commands, ensure_ascii=False)
    return tiny.process([sys.executable, "-c", COMMANDS, given], env=environment, errors="replace")


@pytest.mark.parametrize("name", ["ascii", "latin-1"])
def test_a_robot_of_any_name_in_any_folder(tmp_path, name):
    file = str(write_robot(tmp_path / "ünïcode-漢"))
    done = run_commands(
        [
            ["parameters", "pendel/Ärm_mass=2,hüfte_damping=0.5", "--import", file],
            [
                "audit",
                "pendel",
                "--target",
                "Ärm_mass=x2",
                "--source",
                "hüfte_damping=1",
                "--import",
                file,
            ],
            ["audit", "pendel/hüfte_damping=0.5", "--import", file],
            ["parameters", "pendel/Ürm_mass=2", "--import", file],
        ],
        name,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == ["exit 2"], (
        done.stderr
    )
    assert "did you mean" in done.stderr and done.stderr.count("isthmus:") == 1


def test_an_error_in_a_robots_file_is_one_line(tmp_path):
    file = str(write_robot(tmp_path / "ünïcode", ROBOT.replace("wörld.xml", "fehlt.xml")))
    done = run_commands([["parameters", "pendel", "--import", file]], "ascii")
    assert "exit 2" in done.stdout and "Traceback" not in done.stderr
    assert "does not compile: XML Error: Error opening file 'fehlt.xml'" in done.stderr


def test_a_path_that_is_no_utf8_is_read(tmp_path):
    """On Linux a folder may have any bytes for its name."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfc"))
    try:
        write_robot(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert load_model(folder / "robot.xml").opt.gravity[2] == -2
    assert load_keyframe(folder / "robot.xml", "höme").qpos.tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\udcc3\udc84rm_mass=2", "Ärm_mass=2"), ("\udce6\udcbc\udca2 é \udcce\udcbb", "漢 é λ"),
        ("Ärm_mass=2", "Ärm_mass=2"), ("a\udcfc", "a\udcfc"), ("", ""),
    ],
)  # fmt: skip
def test_what_the_locale_could_not_read_is_utf8(text, expected):
    assert decode_text(text) == expected


def test_signs_are_spelled_as_usual():
    assert spell("−3 ± 0.5 → λ, é, 漢 x²") == "-3 +- 0.5 -> lambda, e, ? x2"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"-1 e \xc3 ?"), ("latin-1", b"-1 \xe9 \xc3 ?"), ("utf-8", None)],
)
def test_what_a_stream_cannot_write_is_spelled(monkeypatch, encoding, expected):
    """A byte of a file's name that was no text stays that byte; UTF-8 is left as it is, strict."""
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    accept_any_text()
    assert stream.errors == ("strict" if expected is None else "isthmus.ascii")
    if expected is not None:
        stream.write("−1 é \udcc3 漢")
        stream.flush()
        assert content.getvalue() == expected


def test_a_file_is_written_as_utf8_whatever_its_text(tmp_path):
    write_text(tmp_path / "a", "λ±\udcc3\udca9")
    assert (tmp_path / "a").read_bytes() == "λ±é".encode()


def unnamed(tree: ast.AST) -> list[int]:
    """Lines on which text is read or written in an encoding that nobody named."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or {"encoding"} & {
            keyword.arg for keyword in node.keywords
        }:
            continue
        if _is_text(node):
            found.append(node.lineno)
    return found


def _is_text(call: ast.Call) -> bool:
    function = call.func
    owner = (
        function.value.id
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
        else ""
    )
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in ("read_text", "write_text"):
        return isinstance(function, ast.Attribute)  # a function of that name is ours
    if name in ("open", "fdopen", "NamedTemporaryFile", "TextIOWrapper"):
        ours = owner == "os" and name == "open"
        return not ours and not owner[:1].isupper() and "b" not in _mode(call)
    return any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords)


def _mode(call: ast.Call) -> str:
    """The mode that a file is opened in: the last text that is given, after its name."""
    given: list[Any] = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    given += [argument for argument in call.args if isinstance(argument, ast.Constant)]
    modes = [
        node.value
        for node in given
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return modes[-1] if modes else "r"


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_every_text_file_names_its_encoding(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        lines = unnamed(ast.parse(path.read_text(encoding="utf-8")))
        wrong += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    assert wrong == [], 'name it: encoding="utf-8"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path.read_text()", True),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("path.open(newline='')", True),
        ("(a / 'b').open('a')", True),
        ("run([], text=True)", True),
        ("os.fdopen(1, 'w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("write_text(path, x)", False),
        ("open(path, 'xb')", False),
        ("path.open('rb')", False),
        ("os.open(path, 0)", False),
        ("Run.open(path)", False),
        ("run([])", False),
    ],
)
def test_the_test_sees_what_has_no_encoding(text, expected):
    assert bool(unnamed(ast.parse(text))) == expected
