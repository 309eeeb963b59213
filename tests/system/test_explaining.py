"""`isthmus explain`, from the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from isthmus.cli.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """A working folder with a policy that falls soon."""
    monkeypatch.chdir(tmp_path)
    code = "def make():\n    return lambda obs: 0 * obs[:, :3] - 1\n"
    (tmp_path / "mine.py").write_text(code)
    return tmp_path


def say(capsys: Any, command: str) -> str:
    capsys.readouterr()
    main(shlex.split(command))
    return capsys.readouterr().out


COMMAND = "explain mine.py:make --domain hopper --over torso_mass=x0.5..x2 gravity=log:x0.7..x2"


def test_explain(capsys: Any, folder: Path) -> None:
    said = say(capsys, f"{COMMAND} -n 160 -o explain.png")
    assert "share of the variance of return" in said and "chance" in said
    assert "No box around the nominal is known to keep failures under 5%" in said
    assert "80 episodes explored, 80 fresh" in said
    assert (folder / "explain.png").exists()


def test_explain_as_json(capsys: Any) -> None:
    data = json.loads(say(capsys, f"{COMMAND} -n 160 --threshold 1e6 --json -o explain.svg"))
    assert [parameter["name"] for parameter in data["parameters"]] == ["gravity", "torso_mass"]
    assert np.isclose(data["parameters"][0]["nominal"], 9.81)
    assert data["failed"]["value"] == 1.0 and list(data["indices"]) == ["return"]


def test_mistakes_are_one_line(capsys: Any) -> None:
    for change, line in (("-n 10", "need 160 to"), ("-o explain.txt", "a picture ends in")):
        with pytest.raises(SystemExit):
            main(shlex.split(f"{COMMAND} -n 160 {change}"))
        err = capsys.readouterr().err.strip()
        assert line in err and "\n" not in err


def test_the_guide_runs(capsys: Any, folder: Path) -> None:
    """Its commands, with few episodes, and code of one's own instead of a model."""
    shutil.copytree(tiny.trained("source_only").folder, folder / "runs" / "my-run")
    page = (Path(__file__).parents[2] / "docs" / "guide" / "explaining.md").read_text()
    commands = re.findall(r"^    isthmus (.*)$", page, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        own = command.replace("policy.onnx", "mine.py:make").replace("--contract task", "")
        few = re.sub(r"-n \d+|$", " -n 192", own, count=1)
        if command.startswith("compare"):
            few = re.sub(r"(\.\.[\d.]+):\d+", r"\1:2", own).replace("20", "2")
        assert say(capsys, few)


def test_compare_draws_a_map(capsys: Any, folder: Path) -> None:
    (folder / "theirs.py").write_text("def make():\n    return lambda obs: 0 * obs[:, :3] + 1\n")
    command = "compare -p hopper --policies mine.py:make theirs.py:make --out out --episodes"
    over = "--over torso_mass=x0.5..x2:2 gravity=x0.7..x2:3"
    said = say(capsys, f"{command} 3 {over}")
    assert "theirs.py:make beats mine.py:make in " in said and "of 6 cells" in said
    assert len((folder / "out" / "map-1.csv").read_text().splitlines()) == 7
    assert (folder / "out" / "map.png").exists()
    for wrong, line in ((f"1 {over}", "2 --episodes a cell"), ("3 --over gravity=1", "a map two")):
        with pytest.raises(SystemExit):
            main(shlex.split(f"{command} {wrong}"))
        assert line in capsys.readouterr().err
