"""A robot of one's own, from outside the package: what docs/guide/own_task.md says, done."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from isthmus.cli.main import main
from isthmus.deploy.contract import PolicyContract
from isthmus.domains.parse import parse_domain
from isthmus.tasks.imports import import_files
from isthmus.training.run import Run
from isthmus.types import IsthmusError

DOCS = Path(__file__).parents[2] / "docs"
IMPORT = f"--import={DOCS / 'examples' / 'pendulum.py'}"


def documented() -> list[list[str]]:
    """The page's commands, in order."""
    text = (DOCS / "guide" / "own_task.md").read_text()
    return [shlex.split(line) for line in re.findall(r"^    isthmus (.*)$", text, re.MULTILINE)]


def test_the_documented_commands(tmp_path, monkeypatch, capsys):
    """All of them, in order, as a reader would; only with fewer steps, episodes and cells."""
    shutil.copytree(DOCS / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    commands = documented()
    assert [command[0] for command in commands] == [
        "parameters", "audit", "audit", "train", "evaluate", "evaluate", "landscape"
    ]  # fmt: skip
    said = []
    for command in commands:
        assert "docs/examples/pendulum.py" in command
        few = [
            re.sub(r":8$", ":2", re.sub(r"^60000$", str(3 * tiny.ROUND), part)) for part in command
        ]
        few += {
            "train": tiny.flags("source_only"),
            "evaluate": ["--episodes=5"],
            "landscape": ["--episodes=2"],
        }.get(command[0], [])
        main(few)
        said.append(capsys.readouterr().out)
    parameters, shift, none, train, evaluate, _, landscape = said
    for name in (
        "gravity",
        "cart_mass",
        "pole_mass",
        "slide_damping",
        "slide_range",
        "motor_strength",
    ):
        assert re.search(rf"^{name} ", parameters, re.MULTILINE)
    assert "a shift" in shift.splitlines()[2] and "(angular velocity)" in shift.splitlines()[2]
    assert "no change" in none.splitlines()[2]
    assert train.endswith("runs/pendulum\n")
    run = Run.open(Path("runs/pendulum"))
    assert run.finished and int(run.state().source_steps) == 3 * tiny.ROUND
    assert run.config["problem"]["target"] == "pendulum/gravity=14.715"
    assert [line.split()[0] for line in evaluate.splitlines()[1:]] == [
        "pendulum",
        "pendulum/gravity=14.715",
    ]
    with Path(landscape.splitlines()[-2]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {"gravity", "pole_mass", "mean_return"} <= rows[0].keys()


def test_a_process_of_its_own_needs_the_file_named(tmp_path):
    """The whole command, in a process that has never heard of pendulums; without the file it says
    what is missing.
    """
    run = tmp_path / "run"
    train = [
        "train",
        "source_only",
        "-p",
        "pendulum/gravity=x1.5",
        *tiny.flags("source_only"),
        "--steps=256",
    ]

    def isthmus(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "isthmus", *arguments]
        return tiny.process(command, cwd=tmp_path)

    done = isthmus(*train, IMPORT, f"--out={run}", "--quiet")
    assert done.returncode == 0, done.stderr
    done = isthmus("evaluate", str(run), "--episodes=3")
    assert (
        done.returncode == 2
        and "this run was made with --import" in done.stderr
        and done.stderr.count("\n") == 1
    )
    done = isthmus("evaluate", str(run), "--episodes=3", IMPORT)
    assert done.returncode == 0 and "pendulum/gravity=14.715" in done.stdout, done.stderr


def test_the_pendulum():
    """Balance pays 1 a step less the control's cost; a fall ends it; a stronger pull makes it fall
    sooner.
    """
    import_files([IMPORT.partition("=")[2]])
    domain = parse_domain("pendulum")
    assert (
        domain.spaces.observation == 4 and domain.time_limit == 500 and domain.step_seconds == 0.02
    )
    assert (domain.spaces.low.tolist(), domain.spaces.high.tolist()) == ([-1.0], [1.0])
    lengths = []
    for text in ("pendulum", "pendulum/gravity=x4"):
        domain = parse_domain(text)
        worlds = domain.worlds(16, 0)
        from isthmus.domains.rollout import rollout_episodes

        class Still:
            def memory(self):
                return ()

            def act(self, memory, observation):
                return observation[:1] * 0, memory

        import jax

        jax.tree_util.register_pytree_node(Still, lambda s: ((), None), lambda _, __: Still())
        e = rollout_episodes(domain, worlds, Still())
        assert (
            e.terminated.all()
            and (e.returns < e.lengths).all()
            and (e.returns > 0.9 * e.lengths).all()
        )
        lengths.append(e.lengths.mean())
    assert lengths[1] < 0.7 * lengths[0]
    with pytest.raises(IsthmusError, match="did you mean pole_mass"):
        domain.shift("pole_mas=2")
    assert np.isfinite(worlds.rows).all()


def test_the_documented_commands_of_a_robot_with_servos(tmp_path, monkeypatch, capsys):
    """From an MJCF to a policy that was trained, audited, exported and checked."""
    pytest.importorskip("onnxruntime")
    page = (DOCS / "guide" / "own_robot.md").read_text()
    source = (DOCS / "examples" / "head.py").read_text()
    shown = re.findall(r"^```python\n(.*?)```$", page, re.MULTILINE | re.DOTALL)
    assert shown[0] in source
    shutil.copytree(DOCS / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for line in re.findall(r"^    isthmus (.*)$", page, re.MULTILINE)]
    few = {"train": tiny.flags("source_only"), "evaluate": ["--episodes=5"]}
    said = {}
    for command in commands:
        if "quadruped" in command:  # minutes; see the page
            continue
        steps = [re.sub(r"^200000$", str(3 * tiny.ROUND), part) for part in command]
        main([*steps, *few.get(command[0], [])])
        said[command[0]] = capsys.readouterr().out
    assert list(said) == ["parameters", "audit", "train", "evaluate", "export", "check"]
    assert re.search(r"^pan_kp +8 +N m/rad", said["parameters"], re.MULTILINE)
    assert "a shift" in said["audit"].splitlines()[2]
    assert re.search(r"reference replayed +yes", said["check"])
    servo = PolicyContract.read(Path("exported/contract.toml")).servo
    assert (servo.joints, servo.pose, servo.scale) == (("pan", "tilt"), (0.0, 0.0), (1.4, 0.7))
    assert (servo.kp, servo.effort, servo.speed) == ((8.0, 8.0), (2.0, 2.0), (12.0, 12.0))
