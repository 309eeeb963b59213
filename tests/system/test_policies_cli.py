"""The commands take policies from elsewhere wherever they take a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import isthmus
from isthmus.cli.main import main
from isthmus.evaluation.episode_intervals import summarize_episodes

pytest.importorskip("onnx", reason="policies as ONNX need the extra onnx")
pytest.importorskip("onnxruntime", reason="policies as ONNX need the extra onnx")
import onnx_models as models
import onnxruntime


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """A working folder with a model and a factory."""
    monkeypatch.chdir(tmp_path)
    models.mlp(tmp_path / "mine.onnx")
    (tmp_path / "theirs.py").write_text("def make():\n    return lambda obs: -obs[:, 2:5]\n")
    return tmp_path


def say(capsys: Any, command: str) -> str:
    capsys.readouterr()
    main(shlex.split(command))
    return capsys.readouterr().out


def refuse(capsys: Any, command: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command))
    line = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and "\n" not in line
    return line


def test_evaluate(capsys: Any) -> None:
    said = say(capsys, "evaluate mine.onnx --domain hopper --contract task --episodes 10")
    played = isthmus.evaluate(isthmus.load_policy("mine.onnx", "task"), "hopper", 10).episodes
    summary = summarize_episodes(played)
    low, high = summary.returns.low, summary.returns.high
    assert f"{summary.returns.value:.1f} [{low:.1f}, {high:.1f}]" in said
    assert f"{summary.fell.value:.0%} [{100 * summary.fell.low:.0f}, " in said
    assert "one policy is one seed: 95 % intervals over episodes, none over trainings" in said
    assert f"onnxruntime {onnxruntime.__version__}" in said


def test_evaluate_where_a_contract_says(capsys: Any, folder: Path) -> None:
    """In the domain of training, and in that which the policy is for."""
    names = list(isthmus.parse_domain("hopper").description().observation_names)
    (folder / "contract.toml").write_text(
        "format = 1\n[task]\ntrained_in = 'hopper'\ndeployed_to = 'hopper/gravity=x2'\n"
        f"[observations]\nnames = {names}\n[actions]\n"
        "names = ['thigh_joint', 'leg_joint', 'foot_joint']\n"
    )
    rows = say(capsys, "evaluate mine.onnx --episodes 2").splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["hopper", "hopper/gravity=19.62"]
    rows = say(capsys, "evaluate mine.onnx --episodes 2 --domain hopper/gravity=x3").splitlines()
    assert rows[1].split()[0] == "hopper/gravity=29.43" and "one policy" in rows[2]


def test_landscape(capsys: Any, folder: Path) -> None:
    over = "--over torso_mass=2..4:2 foot_friction=1..2:2 --episodes 2"
    said = say(capsys, f"landscape mine.onnx --contract task --domain hopper {over}")
    assert "mine-landscape-foot_friction-torso_mass.png" in said
    scape = isthmus.landscape(
        isthmus.load_policy("mine.onnx", "task"),
        "hopper/torso_mass=2..4:2,foot_friction=1..2:2", 2,
    )  # fmt: skip
    written = (folder / "mine-landscape-foot_friction-torso_mass.csv").read_text()
    assert written == scape.csv()


def test_audit_and_collect(capsys: Any) -> None:
    plain = say(capsys, "audit hopper/gravity=x1.1")
    by_policy = say(capsys, "audit hopper/gravity=x1.1 --policy theirs.py:make")
    assert plain != by_policy and "a shift" in by_policy
    say(capsys, "collect hopper/gravity=x1.1 --policy mine.onnx --contract task -o log.npz"
        " --steps 200")  # fmt: skip
    with np.load("log.npz") as log:
        metadata = json.loads(str(log["metadata"]))
    assert metadata["policy"]["onnxruntime"] == onnxruntime.__version__
    assert metadata["policy"]["name"] == "mine.onnx"
    said = say(capsys, "audit hopper/gravity=x1.1 --policy mine.onnx --contract task"
               " --data log.npz")  # fmt: skip
    assert "mine.onnx; as deployed" in said


def test_compare(capsys: Any, folder: Path) -> None:
    """A run among them: differences are of equal episodes, written one a row."""
    run = tiny.trained("source_only").folder
    said = say(capsys, "compare -p hopper/gravity=x2 --contract task --episodes 8 --out out"
               f" --policies mine.onnx {run} theirs.py:make")  # fmt: skip
    assert "minus the first" in said and "one policy is one seed" in said
    data = json.loads((folder / "out" / "policies.json").read_text())
    rows = data["policies"]
    assert [row["name"] for row in rows] == ["mine.onnx", str(run), "theirs.py:make"]
    first = isthmus.evaluate(isthmus.load_policy("mine.onnx", "task"), "hopper/gravity=x2", 8)
    second = isthmus.evaluate(isthmus.Run.open(run).policy, "hopper/gravity=x2", 8)
    assert rows[1]["difference"]["value"] == pytest.approx(second.mean - first.mean)
    assert rows[0]["policy"]["onnxruntime"] == onnxruntime.__version__
    assert len((folder / "out" / "policies.csv").read_text().splitlines()) == 1 + 3 * 8


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("evaluate mine.onnx --domain hopper", "if both are hopper's own, in order and unscaled"),
        ("evaluate mine.onnx --contract task", "does not say where it was trained: name a domain"),
        ("evaluate mine.onnx --contract no.toml --domain hopper", "no.toml cannot be read"),
        ("evaluate mine.onnx --contract task --domain walker2d", "takes 11 observations, walker2d"),
        ("evaluate ppo.zip --domain hopper", "export it as ONNX by the recipe"),
        ("landscape mine.onnx --over torso_mass=1..2:2 --contract task", "name a domain to play"),
        ("watch theirs.py:make", "theirs.py:make does not say where it was trained"),
        ("watch theirs.py:nothing --domain hopper", "theirs.py has no 'nothing'"),
        ("collect hopper -o log.npz --policy mine.onnx", "say --contract task"),
        ("compare -p hopper --policies mine.onnx", "a comparison needs two policies at least"),
        ("compare -p hopper --policies a.onnx b.onnx --methods darc", "give one of both"),
        ("compare -p hopper", "name methods to train, --methods, or --policies"),
    ],
)
def test_mistakes_are_one_line(capsys: Any, command: str, line: str) -> None:
    assert line in refuse(capsys, command)


def test_a_run_has_its_own_contract(capsys: Any) -> None:
    run = tiny.trained("source_only").folder
    assert "is a run" in refuse(capsys, f"evaluate {run} --contract task")
