"""The command line: every command on a tiny run; help in an instant; one clear line for every
mistake.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from comparing import Here

import isthmus
from isthmus.cli.doctor import Finding
from isthmus.cli.main import COMMANDS, main
from isthmus.identification.fit import Fit
from isthmus.methods import registry
from isthmus.problems.catalog import CATALOG
from isthmus.studies.compare import Comparison
from isthmus.training import checkpoint
from isthmus.training.run import Run
from isthmus.types import IsthmusError

INSTANT = ("--help", "train --help", "methods", "problems", "tasks", "parameters")


def run_isthmus(*arguments: str, **named) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isthmus", *arguments], capture_output=True, text=True, **named
    )


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help in one piece, whatever the terminal."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of randomization on Hopper, made by the command."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    main(
        [
            "train",
            "domain_randomization",
            "-p",
            "hopper/gravity=x2",
            "--uncertainty=torso_mass=1..9",
            "--access=none",
            *tiny.flags("domain_randomization"),
            f"--steps={3 * tiny.ROUND}",
            f"--out={folder}",
        ]
    )
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that works prints."""
    capsys.readouterr()
    main(list(arguments))
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line, and nothing else, of a command that cannot be."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    out, line = capsys.readouterr()
    assert stopped.value.code == 2 and out == "", (out, line)
    assert line.startswith("isthmus: ") and line.count("\n") == 1 and len(line) > 20, line
    return line


# Instant


@pytest.mark.parametrize("arguments", INSTANT)
def test_help_is_instant(arguments):
    """At most a few times what Python takes to import numpy, or MuJoCo where a robot is read (of
    processor time: walls lie on a busy machine).
    """
    needs, times = ("mujoco", 3) if arguments == "parameters" else ("numpy", 4)

    def spent(call):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    bare = [sys.executable, "-c", f"import {needs}"]
    least, _ = spent(lambda: subprocess.run(bare, capture_output=True, text=True))
    # The better of two: what was edited, or never imported, is first compiled to bytecode.
    ours, said = min(spent(lambda: run_isthmus(*arguments.split())) for _ in range(2))
    assert len(said.splitlines()) > 5
    assert ours < times * least, f"{ours:.2f} seconds, {needs} {least:.2f}"


def test_help_loads_no_jax():
    code = """
import contextlib, io, sys
from isthmus.cli.main import main

for arguments in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments.split())
    print(arguments, *{"jax", "scipy", "matplotlib"} & sys.modules.keys(), sep=":")
"""
    done = subprocess.run([sys.executable, "-c", code, *INSTANT], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == list(INSTANT), done.stderr


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f" {name} " in text for name in COMMANDS)
    promised = """methods problems tasks parameters audit train resume evaluate landscape compare reproduce watch report
                  verify diff doctor demo"""  # noqa: E501
    assert set(COMMANDS) >= {*promised.split()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert (COMMANDS[command].__doc__ or "").split(".")[0].split()[0] in capsys.readouterr().out


def test_what_there_is(capsys):
    methods = said(capsys, "methods")
    assert all(
        name in methods and row.citation in methods for name, row in registry.METHODS.items()
    )
    settings = said(capsys, "methods", "few_shot_ppo")
    assert "--set updates=3" in settings and "--set learner.hidden=64,64" in settings
    lines = [line.rstrip() for line in said(capsys, "problems").splitlines()]
    problems = "\n".join([*lines, ""])
    assert "hopper-es-sim2real" in problems and "half_cheetah-gravity-2" in problems
    assert all(
        f" {row.source} -> {row.target}\n" in problems and row.note in problems
        for row in CATALOG.values()
    )
    assert "deploy a_tgt, as pi says" in said(capsys, "methods", "dap_u"), "the paper's box"
    tasks = said(capsys, "tasks")
    assert all(
        name in tasks for name in ("hopper", "half_cheetah", "walker2d", "ant", "reacher", "Ant-v5")
    )
    parameters = said(capsys, "parameters", "walker2d")
    assert all(
        name in parameters
        for name in ("torso_mass", "foot_friction", "action_delay", "m/s2", "0..1000")
    )


def test_tables_in_a_pipe_do_not_fold(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = said(capsys, "methods").splitlines()
    for name, row in registry.METHODS.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert row.citation in line


# On a tiny run


def test_train(trained, capsys):
    run = Run.open(trained)
    assert run.finished and run.name == "domain_randomization"
    assert run.config["problem"]["target"] == "hopper/gravity=19.62"
    assert run.digest == json.loads((trained / "finished.json").read_text())["digest"]


def test_train_names_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "source_only",
        "-p",
        "hopper/gravity=x2",
        *tiny.flags("source_only"),
        "--steps=256",
    ]
    for name in ("source_only-hopper-gravity=x2-s3", "source_only-hopper-gravity=x2-s3-2"):
        text = said(capsys, *command, "--seed=3")
        assert (
            text.splitlines()[-1] == f"runs/{name}"
            and (tmp_path / "runs" / name / "finished.json").exists()
        )
        assert text.startswith("last evaluation, mean return: source ")


def test_train_tells_how_it_goes(tmp_path, capsys):
    main(
        [
            "train",
            "source_only",
            "-p",
            "hopper",
            *tiny.flags("source_only"),
            "--steps=256",
            f"--out={tmp_path / 'a'}",
        ]
    )
    err = capsys.readouterr().err
    assert "source_only s0: 256 source steps, 0 target transitions; return: source " in err
    command = [
        "train",
        "source_only",
        "-p",
        "hopper",
        *tiny.flags("source_only"),
        "--steps=256",
        "--quiet",
    ]
    main([*command, f"--out={tmp_path / 'b'}"])
    assert capsys.readouterr().err == ""


def test_start_budget_and_source(tmp_path, trained, capsys):
    main(
        [
            "train",
            "fine_tuning",
            "-p",
            "hopper/gravity=x2",
            "--budget=256",
            f"--start={trained}",
            "--source=torso_mass=4",
            *tiny.flags("fine_tuning"),
            "--steps=256",
            f"--out={tmp_path / 'run'}",
        ]
    )
    run = Run.open(tmp_path / "run")
    assert run.config["start"] == str(trained) and run.config["problem"]["budget"] == {
        "transitions": 256
    }
    assert run.config["problem"]["source"].startswith("hopper/torso_mass=4")
    assert int(run.state().usage.transitions) == 256


def test_evaluate(trained, capsys):
    text = said(capsys, "evaluate", str(trained), "--episodes=5")
    run = Run.open(trained)
    for domain in (run.problem.source, run.problem.target):
        (row,) = [line.split() for line in text.splitlines() if line.split()[0] == str(domain)]
        e = isthmus.evaluate(run.policy, domain, 5).episodes
        assert row[1:4] == ["5", f"{e.returns.mean():.1f}", f"{e.returns.std():.1f}"]
    text = said(
        capsys, "evaluate", str(trained), "--domain=hopper/torso_mass=3..9:3", "--episodes=3"
    )
    assert len(text.splitlines()) == 2 and text.splitlines()[1].startswith(
        "hopper/torso_mass=3.0..9.0:3"
    )


def test_a_method_with_two_actions_is_judged_in_its_source_by_that_of_the_source(tmp_path, capsys):
    run = tiny.train("dap", tmp_path / "run", 4)
    text = said(capsys, "evaluate", str(run.folder), "--episodes=5")
    source, target = run.problem.source, run.problem.target
    for domain, policy in ((source, run.method.source_policy(run.state())), (target, run.policy)):
        (row,) = [line.split() for line in text.splitlines() if line.split()[0] == str(domain)]
        assert row[2] == f"{isthmus.evaluate(policy, domain, 5).mean:.1f}"
    assert (
        "dap: in the source by the action that is simulated, elsewhere by the deployed one" in text
    )
    alone = said(capsys, "evaluate", str(run.folder), f"--domain={source}", "--episodes=5")
    assert (
        f"{isthmus.evaluate(run.policy, source, 5).mean:.1f}" in alone
        and "dap: by the deployed action" in alone
    )


def test_landscape(trained, tmp_path, capsys):
    over = ["--over", "torso_mass=3..15:3", "friction=x0.5..x1:2", "--episodes=2"]
    text = said(capsys, "landscape", str(trained), *over)
    table, picture = map(Path, text.splitlines()[-2:])
    assert table.parent == trained and picture.read_bytes().startswith(b"\x89PNG")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["episodes"] for row in rows} == {"2"}
    assert "mean return in the training box " in text
    said(capsys, "landscape", str(trained), *over, f"--out={tmp_path / 'l.csv'}")
    assert (tmp_path / "l.csv").read_bytes() == table.read_bytes() and (tmp_path / "l.png").exists()


def test_a_landscape_is_around_the_target(trained, capsys):
    """What the target varies itself gives way to the axes; all else of it stays: gravity x2
    here.
    """
    text = said(
        capsys,
        "landscape",
        str(trained),
        "--over",
        "torso_mass=3..9:2",
        "friction=1..2:2",
        "--episodes=1",
    )
    with Path(text.splitlines()[-2]).open(newline="") as file:
        first = float(next(csv.DictReader(file))["mean_return"])
    alone = isthmus.evaluate(
        Run.open(trained).policy,
        isthmus.parse_domain("hopper/torso_mass=3,friction=1,gravity=x2"),
        1,
    )
    assert first == pytest.approx(alone.mean, abs=0.005)


def test_a_landscape_of_a_policy_that_senses_more(tmp_path, capsys):
    run = tiny.train("source_only", tmp_path / "run", 2, problem=isthmus.problem(
        "hopper/history=3,gravity=x2", source="history=3"))  # fmt: skip
    text = said(
        capsys,
        "landscape",
        str(run.folder),
        "--over",
        "torso_mass=3..9:2",
        "friction=1..2:2",
        "--episodes=1",
    )
    assert Path(text.splitlines()[-2]).exists()


def test_compare_and_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("isthmus.training.executors.make_executor", lambda *_: Here())
    folder = tmp_path / "c"
    text = said(
        capsys, "compare", "-p", "hopper/gravity=x2", "--methods", "few_shot_ppo", "--seeds=2",
        f"--steps={3 * tiny.ROUND}", "--episodes=4", f"--out={folder}", *tiny.flags("few_shot_ppo"),
        "--uncertainty=torso_mass=1..9",
    )  # fmt: skip
    made = Comparison.read(folder)
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    for row in made.rows:
        assert f" {row.value:.0f} " in lines[row.method] and row.verdict in lines[row.method]
        assert f"[{row.low:.0f}, {row.high:.0f}]" in lines[row.method]
    assert "floor" in lines["source_only"] and "ceiling" in lines["target_only"]
    assert "64 each" in lines["few_shot_ppo"] and "in hopper/gravity=19.62, 2 seeds" in text
    page = said(capsys, "report", str(folder), "-o", str(tmp_path / "report.html"))
    assert page == f"{tmp_path / 'report.html'}\n"
    html = (tmp_path / "report.html").read_text()
    assert "few_shot_ppo" in html and "http://" not in html.replace("http://www.w3.org", "")


def test_a_comparison_stopped_by_ctrl_c_goes_on(tmp_path):
    """The whole command, with its workers: Ctrl-C as a terminal sends it, to all of them."""
    command = [
        sys.executable,
        "-m",
        "isthmus",
        "compare",
        "-p",
        "hopper/gravity=x2",
        "--methods",
        "source_only",
        "--no-ceiling",
        "--seeds=3",
        "--workers=2",
        "--steps=60000",
        "--episodes=2",
        f"--out={tmp_path / 'c'}",
        *tiny.flags("source_only"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    logs = [tmp_path / "c" / f"source_only-s{seed}" / "metrics.jsonl" for seed in (0, 1)]
    while not all(log.exists() and log.stat().st_size for log in logs):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert (
        process.returncode == 130
        and said == "stopped; what was trained is saved, and the same command goes on\n"
    )
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [
        "source_only-s0",
        "source_only-s1",
    ]
    stopped = [Run.open(log.parent) for log in logs]
    assert all(run.begun and not run.finished for run in stopped)
    assert all(
        int(run.state().source_steps) == tiny.lines(run)[-1]["source_steps"] for run in stopped
    ), "saved"


def test_audit(capsys):
    text = said(capsys, "audit", "hopper/foot_friction=0.5")
    assert "no change" in text
    text = said(capsys, "audit", "hopper", "--target=gravity=x2", "--seed=1")
    assert "a shift" in text and "no change" not in text


def test_reproduce(tmp_path, capsys):
    text = said(capsys, "reproduce", "ppo", "--forecast", "--scale=paper", f"--results={tmp_path}")
    assert (
        text == "10 of 10 units are left, 10,000,000 training steps; no unit has been timed yet\n"
    )


def test_reproduce_reports_what_is_there_and_runs_nothing(tmp_path, capsys):
    folder = tmp_path / "matl"
    folder.mkdir()
    line = refused(
        capsys, "reproduce", "matl", "--report", "--scale=smoke", f"--results={tmp_path}"
    )
    assert "no unit of matl at smoke scale" in line
    for unit in (Path(__file__).parents[2] / "results/matl").glob(
        "laptop-reacher-sparse-*-s[01].csv"
    ):
        shutil.copy(unit, folder)
    before = sorted(folder.iterdir())
    text = said(
        capsys,
        "reproduce",
        "matl",
        "--report",
        f"--results={tmp_path}",
        f"--runs={tmp_path / 'runs'}",
    )
    assert "reacher-sparse" in text and "M2" in text
    made = {path.name for path in folder.iterdir()} - {path.name for path in before}
    assert (
        made == {"laptop.txt", "laptop-claims.csv", "laptop-figure3.png"}
        and not (tmp_path / "runs").exists()
    )


def test_demo(tmp_path, monkeypatch, capsys):
    from isthmus.studies import compare as module

    whole = module.compare
    small = {"settings": tiny.SETTINGS, "episodes": 180, "executor": Here()}
    monkeypatch.setattr(module, "compare", lambda *a, **named: whole(*a, **{**named, **small}))
    text = said(capsys, "demo", f"--out={tmp_path / 'd'}", "--steps=256", "--seeds=1")
    made = Comparison.read(tmp_path / "d")
    assert [row.method for row in made.rows] == [
        "source_only",
        "system_identification",
        "target_only",
    ]
    assert all(row.method in text for row in made.rows)
    fit = Fit.load(tmp_path / "d" / "fit.json")
    values = {parameter.name: parameter.value for parameter in fit.parameters}
    assert values["motor_strength"] == pytest.approx(1.5, rel=1e-3)
    assert "identified" in text and (tmp_path / "d" / "report.html").stat().st_size > 10_000


def test_watch(trained, tmp_path, monkeypatch, capsys):
    from isthmus.rendering import CannotRender, find_backend

    arguments = ["watch", str(trained), f"--out={tmp_path / 'clip.webp'}", "--seconds=0.3"]
    try:
        find_backend()
    except CannotRender as error:
        assert str(error) in refused(capsys, *arguments)
    else:
        assert said(capsys, *arguments) == f"{tmp_path / 'clip.webp'}\n"
        assert (tmp_path / "clip.webp").stat().st_size > 1000


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy")


def newest_piece(run: Path) -> Path:
    return next(Run.open(run).checkpoint()[0].glob("*.safetensors"))


def test_hashes_need_no_task(copy, capsys):
    """A run of a task of one's own is verified and compared without the file that defines it."""
    path = copy / "run.json"
    config = json.loads(path.read_text())
    config["problem"]["source"] = config["problem"]["target"] = "mine_alone"
    path.write_text(json.dumps(config))
    assert ": good, " in said(capsys, "verify", str(copy))
    assert "the same to the bit" in said(capsys, "diff", str(copy), str(copy))


def test_verify(copy, capsys):
    name = Run.open(copy).checkpoint()[0].name
    newest, best = said(capsys, "verify", str(copy)).splitlines()
    assert newest == f"{name}: good, {Run.open(copy).digest}" and best.startswith("best, ")
    piece = newest_piece(copy)
    piece.write_bytes(piece.read_bytes()[:-8] + b"disaster")
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(copy)])
    damaged, good, _ = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 1
    assert damaged.startswith("damaged: ") and name in damaged and good.split(":")[0] < name


def test_diff(trained, copy, tmp_path, capsys):
    assert said(capsys, "diff", str(trained), str(copy)) == "the same to the bit\n"
    other = tiny.train("domain_randomization", tmp_path / "other", 3, seed=1)
    with pytest.raises(SystemExit) as stopped:
        main(["diff", str(trained), str(other.folder)])
    line = capsys.readouterr().out
    found = checkpoint.differences(Run.open(trained).checkpoint()[0], other.checkpoint()[0])
    assert (
        stopped.value.code == 1
        and line.count("\n") == 1
        and found is not None
        and line.startswith(found.leaf)
    )


def test_doctor(monkeypatch, capsys):
    from isthmus.rendering import CannotRender

    monkeypatch.setattr("isthmus.rendering.find_backend", lambda: "egl")
    text = said(capsys, "doctor")
    assert (
        "mujoco 4" in text
        and "NPROC=1" in text
        and "the same bits" in text
        and " compiled programs, " in text
        and "renders by egl" in text
    )
    engines = 1 + (importlib.util.find_spec("dartpy") is not None)
    assert text.count("ok  ") == len(text.splitlines()) == 6 + engines

    def nothing() -> str:
        raise CannotRender("no headless rendering here; install a driver")

    monkeypatch.setattr("isthmus.rendering.find_backend", nothing)
    monkeypatch.setattr("isthmus.cli.doctor._compare_bits", lambda: Finding(True, "the same bits"))
    with pytest.raises(SystemExit) as stopped:
        main(["doctor"])
    text = capsys.readouterr().out
    assert (
        stopped.value.code == 1
        and "no  no headless rendering here" in text
        and text.count("no  ") == 1
    )
    monkeypatch.setenv("NPROC", "2")
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "no  NPROC=2" in capsys.readouterr().out


def test_what_may_not_be_read_is_one_line(trained, monkeypatch, capsys):
    def closed(_: Path) -> None:
        raise PermissionError(13, "Permission denied", "closed/checkpoints")

    monkeypatch.setattr("isthmus.training.checkpoint.latest", closed)
    assert (
        refused(capsys, "verify", str(trained)).strip()
        == "isthmus: closed/checkpoints: permission denied"
    )


def test_a_pipe_that_closes():
    done = subprocess.run(
        f"{sys.executable} -m isthmus problems | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stderr == ""


# One line for every mistake


TRAIN = ("train", "source_only", "-p", "hopper", "--out=OUT")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("trian",), "unknown command 'trian'; did you mean train?"),
        (("methods", "sorce_only"), "unknown method 'sorce_only'; did you mean source_only"),
        (("parameters", "hoper"), "unknown task 'hoper'; did you mean hopper"),
        (("train", "sorce_only", "-p", "hopper", "--out=OUT"), "did you mean source_only"),
        (
            ("train", "source_only", "-p", "hoper", "--out=OUT"),
            "unknown problem 'hoper'; did you mean hopper",
        ),
        (
            ("train", "source_only", "-p", "hopper-es-sim2rael", "--out=OUT"),
            "did you mean hopper-es-sim2real",
        ),
        (
            (*TRAIN, "--target=gravty=x2"),
            "unknown parameter of hopper 'gravty'; did you mean gravity",
        ),
        ((*TRAIN, "--target=gravity=-1"), "gravity=-1 is out of bounds; allowed: 0..1000 m/s2"),
        ((*TRAIN, "--target=torso_mass=abc"), "torso_mass='abc' is no setting; write a number"),
        ((*TRAIN, "--target=foot_friction=5..1"), "foot_friction=5..1: the lower end comes first"),
        ((*TRAIN, "--target=gravity=1e400"), "is out of bounds"),
        ((*TRAIN, "--target=gravity=nan"), "is no setting"),
        ((*TRAIN, "--target=action_delay=1.3"), "multiples of 0.25"),
        ((*TRAIN, "--target=engine=bullet"), "unknown engine 'bullet'"),
        ((*TRAIN, "--uncertainty=torso_mass"), "'torso_mass' is no setting; write name=value"),
        ((*TRAIN, "--target=history=3"), "source and target do not fit: 11 observations"),
        ((*TRAIN, "--source=torso_mass=0"), "torso_mass=0 is out of bounds"),
        ((*TRAIN, "--seed=-1"), "seed=-1: needs a whole number in 0..2147483647"),
        ((*TRAIN, f"--seed={10**30}"), "needs a whole number in 0..2147483647"),
        (
            (*TRAIN, "--steps=0"),
            "steps=0: needs a whole number above 0, or 0 to deploy what --start left",
        ),
        ((*TRAIN, "--steps=-5"), "steps=-5: needs a whole number above 0"),
        ((*TRAIN, "--set=nonsense"), "--set nonsense: write NAME=VALUE"),
        ((*TRAIN, "--set=learner.epoch=3"), "did you mean learner.epochs"),
        (
            (*TRAIN, "--set=learner=3"),
            "unknown learner '3'; known: ensemble_sac, ppo, recurrent_ppo, sac, trpo",
        ),
        ((*TRAIN, "--set=learner.epochs.x=3"), "unknown setting of source_only"),
        ((*TRAIN, "--set=learner.epochs=many"), "learner.epochs='many': needs a value like 10"),
        ((*TRAIN, "--set=learner.epochs=2.5"), "learner.epochs=2.5: needs a value like 10"),
        ((*TRAIN, "--set=learner.hidden=0"), "learner.hidden"),
        ((*TRAIN, "--set=learner.worlds=0"), "worlds=0"),
        ((*TRAIN, "--set=learner.minibatch=0"), "minibatch=0"),
        ((*TRAIN, "--set=learner.discount=2"), "discount=2"),
        ((*TRAIN, "--start=NOWHERE"), "nowhere is no run: it has no run.json"),
        (
            ("train", "target_only", "-p", "hopper", "--access=none", "--out=OUT"),
            "needs access online",
        ),
        (("train", "source_only", "-p", "gym:Hoper-v5", "--out=OUT"), "did you mean Hopper-v5"),
        (
            ("train", "source_only", "-p", "no_such_module:make", "--out=OUT"),
            "No module named 'no_such_module'",
        ),
        (
            ("train", "source_only", "-p", "hopper", "--target=", "--set", "=3", "--out=OUT"),
            "unknown setting",
        ),
        (("tasks", "--import=NOWHERE.py"), "no such Python file"),
        (("tasks", "--import=no_such_module"), "No module named 'no_such_module'"),
        (("audit", "hopper/gravity=0..9:1"), "a grid axis has 2 to 1000 values"),
        (("audit", "hoper/gravity=2"), "unknown task 'hoper'; did you mean hopper"),
        (("evaluate", "NOWHERE"), "is no run: it has no run.json"),
        (("resume", "NOWHERE"), "is no run: it has no run.json"),
        (("verify", "FILE"), "is no run: it is a file, not a folder"),
        (("diff", "NOWHERE", "NOWHERE"), "is no run"),
        (("watch", "NOWHERE"), "is no run"),
        (("landscape", "NOWHERE", "--over", "torso_mass=1..2:2", "friction=1..2:2"), "is no run"),
        (("evaluate", "RUN", "--episodes=0"), "needs 1 to 200,000"),
        (("evaluate", "RUN", f"--episodes={10**15}"), "needs 1 to 200,000"),
        (
            ("evaluate", "RUN", "--domain=walker2d"),
            "the policy takes 11 observations to 3 actions; walker2d has 17",
        ),
        (("evaluate", "RUN", "--domain=hopper/graviti=3"), "did you mean gravity"),
        (
            ("landscape", "RUN", "--over", "torso_mass=1..2:2"),
            "a landscape has two axes, this domain has",
        ),
        (
            ("landscape", "RUN", "--over", "torso_mass=1..2:2", "friction=1"),
            "a landscape has two axes, this domain",
        ),
        (
            ("landscape", "RUN", "--over", "torso_mas=1..2:2", "friction=1..2:2"),
            "did you mean torso_mass",
        ),
        (
            ("landscape", "RUN", "--over", "torso_mass=1..2:1000", "friction=1..2:1000"),
            "needs 1 to 200,000",
        ),
        (
            ("landscape", "RUN", "--over", "torso_mass=1..2:2", "friction=1..2:2", "--episodes=0"),
            "needs 1 to 200,000",
        ),
        (("compare", "-p", "hopper", "--methods", "ppo", "--out=OUT"), "unknown method 'ppo'"),
        (
            ("compare", "-p", "hopper", "--methods", "target_only", "--seeds=0", "--out=OUT"),
            "seeds=0",
        ),
        (
            ("compare", "-p", "hopper", "--methods", "target_only", "--workers=-1", "--out=OUT"),
            "workers=-1",
        ),
        (
            ("compare", "-p", "hopper", "--methods", "target_only", "--set=x=1", "--out=OUT"),
            "unknown setting",
        ),
        (("reproduce", "es-sim2rael"), "unknown study 'es-sim2rael'; did you mean es-sim2real?"),
        (("reproduce", "es-sim2real", "--figure=7"), "es-sim2real has no figure 7 here; it has: 1"),
        (("report", "NOWHERE", "--out=OUT"), "nowhere"),
        (("report",), "name at least one run's or comparison's folder"),
    ],
)
def test_a_mistake_is_one_line(request, tmp_path, capsys, monkeypatch, arguments, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    made = [("OUT", "out"), ("NOWHERE", "nowhere"), ("FILE", "file")]
    if "RUN" in arguments:
        made.append(("RUN", str(request.getfixturevalue("trained"))))
    for word, instead in made:
        arguments = [argument.replace(word, instead) for argument in arguments]
    assert line in refused(capsys, *arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "nothing was left behind"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("train",),
        ("train", "source_only"),
        (*TRAIN, "--seed=abc"),
        (*TRAIN, "--steps=1e6"),
        (*TRAIN, "--acess=none"),
        (*TRAIN, "--access=nonee"),
        (*TRAIN, "--budget=much"),
        ("evaluate",),
        ("landscape", "RUN"),
        ("compare", "-p", "hopper", "--methods", "target_only", "--executor=slurm"),
        ("reproduce", "ppo", "--scale=huge"),
        ("watch", "RUN", "--seconds=long"),
        ("--nonsense",),
    ],
)
def test_a_command_that_does_not_parse(tmp_path, capsys, monkeypatch, arguments):
    """What is wrong, what would be right, and how to read more: in a few lines on the error
    stream.
    """
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert "Traceback" not in err and "helptext" in err and 2 < len(err.splitlines()) < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("raise ValueError('first\\nsecond')", "ValueError: first second"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_import_that_raises(tmp_path, capsys, content, said):
    (tmp_path / "mine.py").write_text(content)
    line = refused(capsys, "tasks", f"--import={tmp_path / 'mine.py'}")
    assert said in line and "mine.py" in line


def test_an_out_that_is_not_empty(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    line = refused(capsys, "train", "source_only", "-p", "hopper", f"--out={tmp_path}")
    assert "is not empty; name another with --out, or go on with it: isthmus resume" in line
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "line"), [(["--seeds=0"], "seeds=0: needs"), (["--steps=0"], "steps=0: needs")]
)
def test_a_demo_that_cannot_be(tmp_path, capsys, arguments, line):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", f"--out={tmp_path / 'd'}", *arguments])
    assert (
        stopped.value.code == 2 and f"isthmus: {line}" in capsys.readouterr().err.splitlines()[-1]
    )
    assert list(tmp_path.iterdir()) == []


def test_too_much_for_any_memory(tmp_path, capsys):
    line = refused(
        capsys,
        *TRAIN[:-1],
        f"--out={tmp_path / 'out'}",
        f"--set=learner.worlds={10**13}",
        "--quiet",
    )
    assert "allocate" in line


def test_the_whole_command_fails_in_one_line(tmp_path):
    """As a process: nothing but the line, exit status 2."""
    done = run_isthmus(
        "train", "source_only", "-p", "hopper/gravity=-1", f"--out={tmp_path / 'run'}"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "isthmus: gravity=-1 is out of bounds; allowed: 0..1000 m/s2\n"
    assert not (tmp_path / "run").exists() and not list(tmp_path.iterdir())


def test_a_run_of_a_foreign_environment_imports_nothing(tmp_path, capsys):
    """Only --import lets a run's folder bring in somebody's module."""
    module = tmp_path / "my_robot.py"
    module.write_text(
        "import gymnasium\ndef make():\n    return gymnasium.make('InvertedPendulum-v5')\n"
    )
    folder = tmp_path / "run"
    environment = {"PYTHONPATH": str(tmp_path)}
    train = [
        "train",
        "source_only",
        "-p",
        "my_robot:make",
        *tiny.flags("source_only"),
        "--steps=128",
        "--quiet",
    ]
    done = run_isthmus(*train, f"--out={folder}", env=environment)
    assert done.returncode == 0, done.stderr
    done = run_isthmus("evaluate", str(folder), "--episodes=2", env=environment)
    assert (
        done.returncode == 2
        and "would import my_robot" in done.stderr
        and done.stderr.count("\n") == 1
    )
    done = run_isthmus(
        "evaluate", str(folder), "--episodes=2", "--import=my_robot", env=environment
    )
    assert done.returncode == 0 and "my_robot:make" in done.stdout, done.stderr


# Fuzz


def test_nonsense_for_a_problem_is_always_one_line():
    dice = random.Random(0)
    parts = [
        "hopper",
        "gravity",
        "torso_mass",
        "=",
        ",",
        "/",
        "x",
        "..",
        ":",
        "log:",
        "normal:",
        "1",
        "-1",
        "0",
        "9e9",
        "nan",
        "inf",
        " ",
        "é",
        "\n",
        "\0",
        "[red]",
        "action_delay",
        "history",
        "episodes_per_task",
        "engine",
        "hopper-dap",
        "friction",
        "1..9",
        "1..9:3",
        "٣",
    ]
    refusals = 0
    for _ in range(1500):
        text = "hopper/" * dice.randint(0, 1) + "".join(dice.choices(parts, k=dice.randint(0, 7)))
        if ":" in text.partition("/")[0]:
            continue  # names a module to import
        try:
            isthmus.problem(text, target="".join(dice.choices(parts, k=dice.randint(0, 3))))
        except IsthmusError as error:
            refusals += 1
            assert str(error)
    assert 500 < refusals < 1500


@pytest.mark.parametrize("method", registry.METHODS)
def test_nonsense_for_a_setting_is_always_one_line(method):
    """Any value of any setting is taken as what it is, or refused with the setting's name."""
    values = [
        "",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "0",
        "None",
        "True",
        "'a'",
        "[]",
        "()",
        "(1,2.5)",
        "{}",
        "1j",
        "__import__('os')",
        "9" * 5000,
        "(" * 500,
        "a=b",
        "\0",
        "1_000",
        "0x10",
        " 3",
        "-0.5",
        "b''",
    ]
    problem = tiny.problem(method)
    for name in registry.settings_of(registry.build(method)):
        for value in values:
            try:
                Run.plan(method, problem, 0, 1, {name: value})
            except IsthmusError as error:
                assert name.split(".")[-1] in str(error), (name, value[:20])


def test_a_foreign_source_is_told_to_have_no_return(capsys, tmp_path):
    """And not an empty one: evaluations in training touch no environment that cannot be put
    back.
    """
    main(
        [
            "train",
            "source_only",
            "-p",
            "gym:Pendulum-v1/step_seconds=0.05",
            "--steps=128",
            f"--out={tmp_path}/run",
            *tiny.flags("source_only"),
        ]
    )
    told = capsys.readouterr()
    assert "isthmus evaluate measures" in told.out and "mean return: \n" not in told.out
    assert "return: \n" not in told.err and "isthmus evaluate measures" in told.err
