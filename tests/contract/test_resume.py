"""A run that is stopped anywhere, in any way, and resumed ends with the bits of one that was not,
for every method.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mujoco
import pytest
import tiny

import isthmus
from isthmus.cli.main import main
from isthmus.methods.registry import METHODS
from isthmus.problems.problem import Budget
from isthmus.training import checkpoint
from isthmus.training import train as loop
from isthmus.training.progress import Progress
from isthmus.training.run import Run, RunError, cpu_kind
from isthmus.types import BudgetExceeded, IsthmusError

ROUNDS = 6
KILLED = 40  # rounds of the runs that are really killed: a second or two


@pytest.fixture
def straight() -> Callable[..., Run]:
    """An uninterrupted run of a method, by its name and so many rounds."""
    return tiny.trained


def stop_after(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """Let the loop be asked to stop once so many rounds are done."""

    @contextmanager
    def stop_requested() -> Iterator[Callable[[], bool]]:
        left = iter([False] * rounds)
        yield lambda: next(left, True)

    monkeypatch.setattr(loop, "stop_requested", stop_requested)


def same(run: Run, other: Run) -> None:
    assert run.finished and other.finished
    assert checkpoint.differences(run.checkpoint()[0], other.checkpoint()[0]) is None
    assert (
        run.digest
        == other.digest
        == json.loads((run.folder / "finished.json").read_text())["digest"]
    )
    assert tiny.lines(run) == tiny.lines(other)
    assert Run.open(f"{run.folder}@best").digest == Run.open(f"{other.folder}@best").digest


@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_stopped_at_every_round_and_resumed(tmp_path, monkeypatch, straight, method):
    whole = straight(method)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        run = tiny.train(method, tmp_path / "run", ROUNDS)
    stops = 0
    while not run.finished:
        assert not (run.folder / "finished.json").exists()
        stops += 1
        tiny.forget_simulations()
        with monkeypatch.context() as patch:
            stop_after(patch, 1)
            run = isthmus.resume(run.folder, quiet=True)
    told = [row for row in tiny.lines(whole) if row["kind"] == "round"]
    assert stops >= len(told) - 1 > 0
    same(run, whole)
    rounds = [row for row in tiny.lines(run) if row["kind"] == "round"]
    steps = [row["source_steps"] + row["target_transitions"] for row in rounds]
    assert steps == sorted(set(steps)) and len(steps) == len(told), "no round is told twice"
    assert steps[-1] >= ROUNDS * tiny.ROUND


@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_resumed_from_the_checkpoint_before(tmp_path, monkeypatch, straight, method):
    """The newest is damaged: the one before is used, which is said, and the rounds after it are
    made again.
    """
    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", -1.0)
        stop_after(patch, 4)
        run = tiny.train(method, tmp_path / "run", ROUNDS)
    newest, notes = run.checkpoint()
    assert notes == [] and len(list((run.folder / "checkpoints").iterdir())) == 2
    piece = next(newest.glob("*.safetensors"))
    piece.write_bytes(piece.read_bytes()[:-1] + b"!")
    said: list[str] = []
    monkeypatch.setattr(Progress, "note", staticmethod(said.append))
    tiny.forget_simulations()
    done = isthmus.resume(run.folder)
    assert len(said) == 1 and "damaged" in said[0] and newest.name in said[0]
    same(done, straight(method))


def test_a_finished_run_stays_as_it_is(tmp_path, straight):
    run = Run.open(shutil.copytree(straight("source_only").folder, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    isthmus.resume(run.folder, quiet=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_start_is_needed_only_once(tmp_path, monkeypatch, straight):
    """A run that began from another's policy goes on without it."""
    start = shutil.copytree(straight("source_only").folder, tmp_path / "start")
    whole = tiny.train("fine_tuning", tmp_path / "whole", 4, start=start)
    assert {row["source_steps"] for row in tiny.lines(whole)} == {0}, (
        "its first phase was the other run's"
    )
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run = tiny.train("fine_tuning", tmp_path / "run", 4, start=start)
    shutil.rmtree(start)
    same(isthmus.resume(run.folder, quiet=True), whole)


# Killed by the operating system. The driver saves after every round; PAUSE names a save into PLACE
# (`checkpoints` or `best`) during which it falls asleep: the pieces are there, written or linked,
# and the manifest is not.
DRIVER = """
import os, sys, time
from pathlib import Path
import isthmus, tiny
from isthmus.training import checkpoint
from isthmus.training import train as loop

method, folder, rounds, pause, place = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
loop.SAVE_SECONDS = -1.0
write, saves = checkpoint._write, 0

def half(path, data):
    global saves
    if path.name == checkpoint.MANIFEST and path.parent.parent.name == place:
        if saves == pause:
            (folder / "paused").touch()
            time.sleep(100)
        saves += 1
    write(path, data)

checkpoint._write = half
if (folder / "run.json").exists():
    isthmus.resume(folder, quiet=True)
else:
    tiny.train(method, folder, rounds)
"""  # noqa: E501


def killed(
    method: str,
    folder: Path,
    rounds: int,
    when: Callable[[], bool],
    pause: int = -1,
    place: str = "checkpoints",
) -> None:
    """Train or go on in a process of its own, and kill it with -9 as soon as `when()`."""
    arguments = [method, str(folder), str(rounds), str(pause), place]
    command = [sys.executable, "-c", DRIVER, *arguments]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        deadline = time.monotonic() + 200
        while not when():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "it got nowhere"
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()


def reached(run: Path, steps: int, dice: random.Random) -> Callable[[], bool]:
    """So many steps are told, and a moment more, which ends anywhere in a round, a save or an
    evaluation.
    """
    moment = dice.uniform(0, 0.05)

    def when() -> bool:
        path = run / "metrics.jsonl"
        if (
            not path.exists()
            or not (told := path.read_bytes().splitlines())
            or not told[-1].endswith(b"}")
        ):
            return False
        last = json.loads(told[-1])
        if last["source_steps"] + last["target_transitions"] < steps:
            return False
        time.sleep(moment)
        return True

    return when


def left(folder: Path, place: str) -> int:
    """Half-written checkpoints."""
    return len(list((folder / place).glob("*.partial")))


@pytest.mark.represented("fine_tuning-checkpoints-3")
@pytest.mark.parametrize(
    ("method", "place", "pause"),
    [
        ("source_only", "checkpoints", 0),
        ("source_only", "best", 0),
        ("fine_tuning", "checkpoints", 3),
    ],
)
def test_killed_anywhere(tmp_path, straight, method, place, pause):
    """Real kills: while a checkpoint is written (the very first, the very first best one; that of
    the round in which fine_tuning changes its phase), and at a random moment; then `isthmus resume`
    in a process of its own.
    """
    rounds, seed = KILLED, random.SystemRandom().getrandbits(32)
    print(f"the moments' seed: {seed}")
    dice, folder = random.Random(seed), tmp_path / "run"
    killed(method, folder, rounds, (folder / "paused").exists, pause, place)
    assert left(folder, place) == 1 and Run.open(folder).begun == (method == "fine_tuning")
    (folder / "paused").unlink()
    killed(
        method, folder, rounds, reached(folder, dice.randrange(6, rounds - 10) * tiny.ROUND, dice)
    )
    assert not Run.open(folder).finished
    done = tiny.process(isthmus_command("resume", str(folder)))
    assert done.returncode == 0, done.stderr
    same(Run.open(folder), straight(method, rounds))


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_killed_very_often(tmp_path, straight, method):
    rounds, dice, folder = 60, random.Random(), tmp_path / "run"
    for steps in sorted(dice.sample(range(rounds - 10), 12)):
        killed(method, folder, rounds, reached(folder, steps * tiny.ROUND, dice))
    same(isthmus.resume(folder, quiet=True), straight(method, rounds))


def isthmus_command(*arguments: str) -> list[str]:
    """The command line, with the evaluations of these tests."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import tiny; from "
        "isthmus.cli.main import main; main()"
    )
    return [sys.executable, "-c", code, str(Path(__file__).parents[1]), *arguments]


def test_a_real_ctrl_c(tmp_path, straight):
    """The whole command: saved, exit status 130, the line that says how to go on; then the same
    bits.
    """
    folder = tmp_path / "run"
    given = [*tiny.flags("source_only"), f"--steps={KILLED * tiny.ROUND}", f"--out={folder}"]
    command = isthmus_command(
        "train", "source_only", "-p", "hopper/gravity=x2", *given, "--uncertainty=torso_mass=1..9"
    )
    process = subprocess.Popen([*command, "--access=none"], stderr=subprocess.PIPE, text=True)
    wait_for(reached(folder, 3 * tiny.ROUND, random.Random(0)), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert (
        said.rstrip().endswith(f"go on with: isthmus resume {folder}") and "Traceback" not in said
    )
    run = Run.open(folder)
    extra = run.restore()[1]
    assert extra["source_steps"] == tiny.lines(run)[-1]["source_steps"], "saved where it stopped"
    same(isthmus.resume(folder, quiet=True), straight("source_only", KILLED))


def wait_for(when: Callable[[], bool], process: subprocess.Popen) -> None:
    while not when():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, monkeypatch, capsys, straight, number):
    with monkeypatch.context() as patch:
        update = Progress.update

        def interrupt(self, done, *rest):
            update(self, done, *rest)
            if done == 4 * tiny.ROUND:
                os.kill(os.getpid(), number)

        patch.setattr(Progress, "update", interrupt)
        before = signal.getsignal(number)
        arguments = [
            *tiny.flags("fine_tuning"),
            f"--steps={ROUNDS * tiny.ROUND}",
            f"--out={tmp_path / 'run'}",
        ]
        with pytest.raises(SystemExit) as stopped:
            main(
                [
                    "train",
                    "fine_tuning",
                    "-p",
                    "hopper/gravity=x2",
                    "--uncertainty=torso_mass=1..9",
                    *arguments,
                ]
            )
    assert stopped.value.code == 130 and signal.getsignal(number) is before
    assert f"go on with: isthmus resume {tmp_path / 'run'}" in capsys.readouterr().err
    main(["resume", str(tmp_path / "run")])
    same(Run.open(tmp_path / "run"), straight("fine_tuning"))


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def step(self, problem, state):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still here")

    from isthmus.methods.single_domain import SourceOnly

    monkeypatch.setattr(SourceOnly, "step", step)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "train",
                "source_only",
                "-p",
                "hopper",
                *tiny.flags("source_only"),
                f"--out={tmp_path / 'run'}",
            ]
        )
    assert stopped.value.code == 130
    assert Run.open(tmp_path / "run").begun, "what was saved before stays"


# Disks


@pytest.mark.parametrize(
    ("owner", "name", "which"),
    [
        (checkpoint, "_write", lambda *_: True),
        (Path, "open", lambda path, mode="r", *_: path.name == "metrics.jsonl" and mode == "a"),
        (Path, "open", lambda path, mode="r", *_: path.name == "metrics.jsonl" and mode == "ab"),
    ],
    ids=["checkpoint", "metrics", "sync"],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path, monkeypatch, straight, owner, name, which
):
    calls, function = 0, getattr(owner, name)

    def full(*arguments, **named):
        nonlocal calls
        calls += which(*arguments)
        if which(*arguments) and calls > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", -1.0)
        patch.setattr(owner, name, full)
        with pytest.raises(IsthmusError) as error:
            tiny.train("source_only", tmp_path / "run", ROUNDS)
    assert "No space left on device" in str(error.value) and "\n" not in str(error.value)
    run = Run.open(tmp_path / "run")
    path, notes = run.checkpoint()
    assert notes == [] and checkpoint.verify(path) and not run.finished
    same(isthmus.resume(run.folder, quiet=True), straight("source_only"))


def test_a_file_system_that_really_refuses(tmp_path, monkeypatch, straight):
    """Under a limit on the size of files a checkpoint cannot be written; the whole command says so
    in one line.
    """
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run = tiny.train("source_only", tmp_path / "run", ROUNDS)
    before = run.digest

    limited = """
import resource, sys
from isthmus.cli.main import main

resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", limited, "resume", str(run.folder), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("isthmus: cannot write the checkpoint")
    assert done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert run.digest == before and not run.finished
    same(isthmus.resume(run.folder, quiet=True), straight("source_only"))


def test_a_spent_budget_loses_nothing(tmp_path):
    made = isthmus.problem(
        "hopper/gravity=x2", access="online", budget=Budget(transitions=3 * tiny.ROUND)
    )
    with pytest.raises(
        BudgetExceeded, match="budget is 384 transitions: 384 are spent and 128 more"
    ) as error:
        tiny.train("target_only", tmp_path / "run", ROUNDS, problem=made)
    assert "\n" not in str(error.value)
    run = Run.open(tmp_path / "run")
    assert int(run.state().usage.transitions) == 3 * tiny.ROUND, "saved where it had to stop"
    with pytest.raises(BudgetExceeded):
        isthmus.resume(run.folder, quiet=True)
    assert int(run.state().usage.transitions) == 3 * tiny.ROUND


# What is no run, or not this version's


@pytest.fixture
def run(tmp_path: Path, straight: Callable[..., Run]) -> Run:
    return Run.open(shutil.copytree(straight("source_only").folder, tmp_path / "copy"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command fails with."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    out, said = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert said.startswith("isthmus: ") and said.count("\n") == 1 and said.endswith("\n"), said
    return said


COMMANDS = ("resume", "verify", "evaluate")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "is no run: it has no run.json"),
        ("{", "run.json cannot be read"),
        ("[]", "is a run of format None; this version reads format 1"),
        ('{"format": 99}', "is a run of format 99; this version reads format 1"),
        ('{"format": 1}', "run.json is damaged: method is None"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, capsys, command, content, line):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert line in refused(capsys, command, str(tmp_path))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_a_runs_place(tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    assert "it is a file, not a folder" in refused(capsys, command, str(tmp_path / "file"))
    assert "it has no run.json" in refused(capsys, command, str(tmp_path / "nowhere"))
    (tmp_path / "run.json").mkdir()
    assert "cannot be read: [Errno 21] Is a directory" in refused(capsys, command, str(tmp_path))


@pytest.mark.parametrize(
    "name", ["method", "settings", "problem", "seed", "steps", "start", "imports", "versions"]
)
@pytest.mark.parametrize("value", [7.5, "nothing", ["x"], {"x": "y"}, None, -1])
def test_a_damaged_run_json(run, name, value):
    """A field that holds another kind of thing, or nothing sensible, is one line or does not
    matter.
    """
    config = json.loads((run.folder / "run.json").read_text())
    if type(config[name]) is type(value):
        value = type(value)(("nowhere",)) if isinstance(value, list) else value
    (run.folder / "run.json").write_text(json.dumps({**config, name: value}))
    try:
        opened = Run.open(run.folder)
        opened.state()
    except IsthmusError as error:
        assert "\n" not in str(error)
    else:
        assert name in ("imports", "versions", "start", "seed", "steps"), "nothing noticed"


class Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_is_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path in (run.folder / "checkpoints").glob("*/*.safetensors"):
        path.unlink()  # it may be linked to others
        path.write_bytes(pickle.dumps(Payload()))
    for command in COMMANDS:
        assert "a pickle, or any other format, is not loaded" in refused(
            capsys, command, str(run.folder)
        )
    assert not (tmp_path / "pwned").exists()


def test_checkpoints_all_gone(run, capsys):
    """Nothing saved yet: `resume` begins anew, other commands say what is missing."""
    before = run.digest
    shutil.rmtree(run.folder / "checkpoints")
    (run.folder / "finished.json").unlink()
    for command in ("verify", "evaluate"):
        assert "holds no good checkpoint" in refused(capsys, command, str(run.folder))
    again = isthmus.resume(run.folder, quiet=True)
    assert again.digest == before


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    train = [
        "train",
        "source_only",
        "-p",
        "hopper",
        *tiny.flags("source_only"),
        "--steps=128",
        "--quiet",
    ]
    assert "cannot make the run's folder" in refused(capsys, *train, f"--out={tmp_path / 'file'}")
    assert "cannot make the run's folder" in refused(
        capsys, *train, f"--out={tmp_path / 'file' / 'run'}"
    )
    assert "is not empty" in refused(capsys, *train, f"--out={tmp_path}")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"], "nothing was touched"

    made = tmp_path / "run"
    initial = Run.initial

    def obstructed(self):  # what stands in the way comes after the folder was made
        (made / "checkpoints").write_text("")
        return initial(self)

    monkeypatch.setattr(Run, "initial", obstructed)
    assert "cannot write the checkpoint" in refused(capsys, *train, f"--out={made}")
    assert not (made / "finished.json").exists()


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="Linux's /proc is a folder that nobody can write to"
)
def test_a_file_system_that_is_read_only(capsys):
    train = [
        "train",
        "source_only",
        "-p",
        "hopper",
        *tiny.flags("source_only"),
        "--steps=128",
        "--quiet",
    ]
    assert "cannot make the run's folder" in refused(capsys, *train, "--out=/proc/run")


def test_a_log_that_cannot_be_written(run, capsys):
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.jsonl").mkdir()
    assert "cannot write" in refused(capsys, "resume", str(run.folder))


def test_other_versions_are_said_and_not_refused(run, capsys):
    config = json.loads((run.folder / "run.json").read_text())
    config["versions"]["mujoco"] = "3.9"
    del config["versions"]["cpu"]
    config["versions"] |= {"NPROC": "", "gone": "1"}
    (run.folder / "run.json").write_text(json.dumps(config))
    main(["resume", str(run.folder)])
    said = " ".join(capsys.readouterr().err.split())
    for name, was, now in (
        ("mujoco", "3.9", mujoco.__version__), ("NPROC", "unset", "1"), ("gone", "1", "not recorded"),  # noqa: E501
        ("cpu", "not recorded", cpu_kind()),
    ):  # fmt: skip
        assert f"{name} {was}, now {now}" in said


def test_a_start_of_another_shape(tmp_path, straight):
    start = straight("source_only").folder
    walker = isthmus.problem("walker2d/gravity=x2")
    with pytest.raises(
        IsthmusError, match="cannot be started from: its learner has other shapes"
    ) as error:
        tiny.train("source_only", tmp_path / "a", problem=walker, start=start)
    assert "\n" not in str(error.value)
    wide = {**tiny.settings("source_only"), "learner.hidden": (32,)}
    with pytest.raises(IsthmusError, match="cannot be started from"):
        tiny.train("source_only", tmp_path / "b", settings=wide, start=start)
    with pytest.raises(RunError, match="is no run"):
        tiny.train("source_only", tmp_path / "c", start=tmp_path)
    assert not (tmp_path / "c").exists()
