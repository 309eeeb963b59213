"""A method and a learner of one's own, from outside the package: docs/guide/own_method.md, done."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
import tiny

from isthmus import plugins
from isthmus.cli.main import main
from isthmus.learning.ppo import PPO
from isthmus.methods import registry
from isthmus.methods.registry import register_learner, register_method
from isthmus.methods.single_domain import SourceOnly
from isthmus.problems.problem import Access
from isthmus.tasks.imports import import_files
from isthmus.training.run import Run
from isthmus.types import BadValue, UnknownName

DOCS = Path(__file__).parents[2] / "docs"
METHOD, LEARNER = DOCS / "examples" / "own_method.py", DOCS / "examples" / "own_learner.py"
IMPORTS = [f"--import={METHOD}", f"--import={LEARNER}"]


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is taken back."""
    methods, learners = dict(registry.METHODS._entries), dict(registry.LEARNERS._entries)
    yield
    for table, entries in ((registry.METHODS, methods), (registry.LEARNERS, learners)):
        table._entries.clear()
        table._entries.update(entries)  # pyright: ignore[reportCallIssue, reportArgumentType]
    for name in [name for name in sys.modules if name.startswith("isthmus_import_")]:
        del sys.modules[name]


def documented() -> list[list[str]]:
    """The page's commands, in order."""
    text = (DOCS / "guide" / "own_method.md").read_text()
    return [shlex.split(line) for line in re.findall(r"^    isthmus (.*)$", text, re.MULTILINE)]


SMALL = {
    "methods": [],
    "train": ["--quiet"],
    "evaluate": ["--episodes=3"],
    "compare": ["--episodes=3", "--executor=processes", "--workers=1"],
}


def shortened(command: list[str]) -> list[str]:
    """The same command with fewer steps, seeds and episodes."""
    parts = [re.sub(r"^60000$", str(2 * tiny.ROUND), part) for part in command]
    if command[0] == "compare":
        parts[parts.index("--seeds") + 1] = "1"
    sizes = ["--set=learner.worlds=8", "--set=learner.steps=16"]
    if command[0] in ("train", "compare") and "learner=reinforce" not in command:
        sizes += ["--set=learner.epochs=2", "--set=learner.minibatch=32"]
    return parts + SMALL[command[0]] + (sizes if command[0] in ("train", "compare") else [])


def test_the_documented_commands(tmp_path, monkeypatch, capsys):
    """All of them, in order, as a reader would; only with fewer steps, seeds and episodes."""
    shutil.copytree(DOCS / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("isthmus.cli.console.screen._width", 200)
    commands = documented()
    assert [command[0] for command in commands] == [
        "methods", "train", "evaluate", "compare", "train", "evaluate"
    ]  # fmt: skip
    outputs = []
    for command in commands:
        main(shortened(command))
        outputs.append(capsys.readouterr().out)
    box, _, evaluated, compared, _, reinforced = outputs
    assert "what is applied is a + strength h e" in box and "--set strength=0.2" in box
    assert "hopper/torso_mass=" in evaluated
    assert "force_injection" in compared and "domain_randomization" in compared
    assert "pendulum/gravity=14.715" in reinforced
    run = Run.open(Path("runs/force_injection"))
    assert run.config["settings"]["strength"] == 0.3
    run = Run.open(Path("runs/reinforce"))
    assert run.config["settings"]["learner"] == "reinforce"


def test_the_tables_show_what_was_imported(capsys, monkeypatch):
    monkeypatch.setattr("isthmus.cli.console.screen._width", 200)
    main(["methods", *IMPORTS])
    shown = capsys.readouterr().out
    assert re.search("^force_injection +none +PPO, TRPO, SAC +Valassakis", shown, re.MULTILINE)
    assert shown.endswith("ppo, recurrent_ppo, trpo, sac, ensemble_sac, reinforce\n")


def test_a_run_names_the_files_it_needs(tmp_path, capsys):
    run = str(tmp_path / "run")
    learner = ["--set=learner=reinforce", "--set=learner.worlds=4", "--set=learner.steps=8"]
    main(["train", "force_injection", *IMPORTS, "-p", "hopper/gravity=x2", *learner, "--steps=64",
          f"--out={run}", "--quiet"])  # fmt: skip
    registry.METHODS._entries.pop("force_injection")
    with pytest.raises(SystemExit):
        main(["evaluate", run, "--episodes=2"])
    error = " ".join(capsys.readouterr().err.split())
    assert (
        "unknown method 'force_injection'" in error and "this run was made with --import" in error
    )


def test_a_round_of_the_example_is_decided_by_its_state():
    """The example keeps all that its future depends on in its state."""
    import_files([str(METHOD), str(LEARNER)])
    settings = {"learner": "reinforce", "learner.worlds": 4, "learner.steps": 8}
    method = registry.build("force_injection", settings)
    problem = tiny.problem("source_only")
    s = method.init(problem, 0)
    first, _ = method.step(problem, s)
    again, _ = method.step(problem, s)
    assert (first.worlds.rows == again.worlds.rows).all()
    assert int(first.source_steps) == 2 * 4 * 8


def test_the_disturbance_moves_the_robot_and_is_not_learned_from():
    import_files([str(METHOD)])
    sizes = {"learner.worlds": 4, "learner.steps": 8, "learner.minibatch": 32}
    problem = tiny.problem("source_only")
    rows = []
    for strength in (0.0, 0.5):
        method = registry.build("force_injection", sizes | {"strength": strength})
        s, _ = method.step(problem, method.init(problem, 0))
        rows.append(s.worlds.rows)
    with pytest.raises(BadValue, match=r"strength=11.0: needs a number in 0\.\.10"):
        registry.build("force_injection", {"strength": 11.0})
    plain = registry.build("domain_randomization", sizes)
    s, _ = plain.step(problem, plain.init(problem, 0))
    assert (rows[0] == s.worlds.rows).all() and (rows[1] != rows[0]).any()


def test_built_in_names_are_taken():
    @dataclass(frozen=True)
    class Own(SourceOnly):
        pass

    with pytest.raises(BadValue, match="the method source_only is a built-in one"):
        register_method("source_only")(Own)
    with pytest.raises(BadValue, match="the learner ppo is a built-in one"):
        register_learner("ppo")(PPO)


def test_what_cannot_be_a_method_is_refused():
    class Plain(SourceOnly):
        pass

    with pytest.raises(
        BadValue, match=r"own is no frozen dataclass: write @dataclass\(frozen=True"
    ):
        register_method("own")(Plain)

    @dataclass(frozen=True)
    class Required(SourceOnly):
        strength: float = field(kw_only=True)

    with pytest.raises(BadValue, match="own has no default for its setting strength"):
        register_method("own")(Required)

    @dataclass(frozen=True)
    class Empty:
        accepts: ClassVar[frozenset[Access]] = frozenset({Access.NONE})

    with pytest.raises(BadValue, match="the method own has no init"):
        register_method("own")(Empty)
    with pytest.raises(BadValue, match="the learner own has no rollout_shape"):
        register_learner("own")(Empty)
    with pytest.raises(BadValue, match="'my own': needs a word"):
        register_method("my own")(Empty)


def test_access_is_what_the_class_accepts():
    @register_method("own", learners="PPO", citation="a test")
    @dataclass(frozen=True)
    class Own(SourceOnly):
        pass

    assert registry.METHODS["own"] == (Own, "none", "PPO", "a test")
    assert type(registry.build("own", {"learner.steps": 8})) is Own


def test_a_learner_without_a_name_is_refused():
    @dataclass(frozen=True)
    class Own(PPO):
        pass

    with pytest.raises(BadValue, match="the learner Own has no name: write @register_learner"):
        registry.settings_of(SourceOnly(Own()))
    register_learner("own")(Own)
    assert registry.settings_of(SourceOnly(Own()))["learner"] == "own"
    assert type(registry.build("source_only", {"learner": "own"}).learner) is Own


def test_an_installed_package_adds_by_entry_points(monkeypatch, tmp_path):
    module = tmp_path / "package_with_a_method.py"
    module.write_text(METHOD.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("force_injection", module.stem, "isthmus.methods")]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: points if group == points[0].group else []
    )
    monkeypatch.setattr(plugins, "_loaded_groups", set())
    with pytest.raises(UnknownName):
        registry.find_method("force_injecton")
    assert registry.find_method("force_injection").__module__ == module.stem
