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
    """Its commands on a run, with few episodes."""
    shutil.copytree(tiny.trained("source_only").folder, folder / "runs" / "my-run")
    page = (Path(__file__).parents[2] / "docs" / "guide" / "explaining.md").read_text()
    commands = re.findall(r"^    isthmus (explain runs/my-run .*)$", page, re.MULTILINE)
    assert commands
    for command in commands:
        assert say(capsys, re.sub(r"-n \d+|--episodes \d+", "-n 192", command))
