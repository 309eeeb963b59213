"""The best checkpoint by source return: kept on the way, equal after a resume, started from,
verified.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import isthmus
from isthmus.cli.main import main
from isthmus.domains.rollout import rollout_episodes
from isthmus.evaluation.evaluate import SEED
from isthmus.studies.results import Results, config_mismatches, read_results
from isthmus.studies.running import TrialJob, run_trial
from isthmus.studies.study import measure_nothing
from isthmus.studies.trial import Trial
from isthmus.training import checkpoint
from isthmus.training import train as loop
from isthmus.training.best import BestCheckpoint, check_best
from isthmus.training.run import Run
from isthmus.types import BadValue, IsthmusError, UnknownName

ROUNDS = 6
BEST_ROUND = 4  # the evaluation that `scripted` makes the best


def scripted(
    monkeypatch: pytest.MonkeyPatch, returns: dict[int, float] | None = None, key: str = "source"
) -> None:
    """Let evaluations find returns that depend on the round alone; in the other domain the last is
    always the best.
    """
    values = {BEST_ROUND: 9.0} if returns is None else returns

    def evaluate(method, state, problem, episodes):
        done = sum(loop.counters(state).values()) // tiny.ROUND
        other = {"source": "target", "target": "source"}[key]
        return {
            f"{key}_return": values.get(done, 1.0),
            **({f"{other}_return": float(done)} if key == "source" else {}),
        }

    monkeypatch.setattr(loop, "_evaluate", evaluate)


def best_of(run: Run) -> Run:
    return Run.open(f"{run.folder}@best")


def names(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of six rounds and as many evaluations, real ones."""
    return tiny.train(
        "source_only", tmp_path_factory.mktemp("best") / "run", ROUNDS, evaluations=ROUNDS
    )


def test_the_best_is_the_state_of_the_greatest_source_return(run):
    rows = [row for row in tiny.lines(run) if row["kind"] == "evaluation"]
    best = max(rows, key=lambda row: row["source_return"])
    assert len(rows) == ROUNDS and best is not rows[-1], "or the newest would do"
    opened = best_of(run)
    state = opened.state()
    assert int(state.source_steps) == best["source_steps"]
    source = run.problem.source
    again = rollout_episodes(
        source, source.worlds(run.config["evaluation_episodes"], SEED + 1), opened.policy
    )
    assert float(f"{again.returns.mean():.6g}") == best["source_return"]
    record = checkpoint.read_extra(run.checkpoint()[0])["best"]
    assert record == {"steps": best["source_steps"], "source_return": again.returns.mean()}
    assert opened.digest != run.digest and opened.reference == f"{run.reference}@best"


def test_keeping_it_moves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(BestCheckpoint, "offer", lambda *given: None)
    without = tiny.train("source_only", tmp_path / "run", ROUNDS, evaluations=ROUNDS)
    assert without.digest == run.digest and tiny.lines(without) == tiny.lines(run)
    with pytest.raises(BadValue, match="keeps no best checkpoint: no evaluation"):
        best_of(without).checkpoint()
    assert check_best(without.folder) == (True, "")


def test_nothing_is_selected_by_the_targets_return(tmp_path, monkeypatch):
    """The target's grows to the end."""
    scripted(monkeypatch)
    run = tiny.train("source_only", tmp_path / "run", ROUNDS, evaluations=ROUNDS)
    assert int(best_of(run).state().source_steps) == BEST_ROUND * tiny.ROUND
    scripted(monkeypatch, key="target")
    run = tiny.train("source_only", tmp_path / "other", 2)
    with pytest.raises(
        BadValue, match="no evaluation in its training has measured a return in the source"
    ):
        best_of(run).policy


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ({1: -2.0, 2: -1.0, 3: -1.0, 4: -3.0}, 2),  # of equal ones the first
        ({1: math.nan, 2: math.nan, 3: -1.0, 4: math.nan}, 3),  # what is no number is no return
        ({1: 5.0, 2: math.inf, 3: 6.0, 4: 7.0}, 2),
    ],
)
def test_ties_and_what_is_no_number(tmp_path, monkeypatch, returns, expected):
    scripted(monkeypatch, returns)
    run = tiny.train("source_only", tmp_path / "run", 4, evaluations=4)
    assert int(best_of(run).state().source_steps) == expected * tiny.ROUND


@pytest.mark.parametrize(("stopped", "every_round"), [(2, False), (4, True)])
def test_a_run_stopped_anywhere_ends_with_the_same_best(
    run, tmp_path, monkeypatch, stopped, every_round
):
    if every_round:
        monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)

    @contextmanager
    def stop_requested():
        left = iter([False] * stopped)
        yield lambda: next(left, True)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_requested", stop_requested)
        half = tiny.train("source_only", tmp_path / "run", ROUNDS, evaluations=ROUNDS)
    resumed = isthmus.resume(half.folder, quiet=True)
    assert resumed.digest == run.digest
    assert best_of(resumed).digest == best_of(run).digest
    assert best_of(resumed).checkpoint()[0].name == best_of(run).checkpoint()[0].name


@pytest.mark.parametrize("broken", ["best", "checkpoints"])
@pytest.mark.parametrize("call", [2, 3])
def test_a_run_killed_between_two_saves_ends_with_the_same_best(
    tmp_path, monkeypatch, broken, call
):
    """Before the best one is there, and after it and before a checkpoint speaks of it."""
    scripted(monkeypatch, {i: float(i) if i <= BEST_ROUND else 0.0 for i in range(1, ROUNDS + 1)})
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    whole = tiny.train("source_only", tmp_path / "whole", ROUNDS, evaluations=ROUNDS)
    save, calls = checkpoint.save, []

    def killed(folder, *given, **named):
        calls.append(folder.name)
        if calls.count(broken) == call and folder.name == broken:
            raise KeyboardInterrupt
        return save(folder, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tiny.train("source_only", tmp_path / "run", ROUNDS, evaluations=ROUNDS)
    half = Run.open(tmp_path / "run")
    record = checkpoint.read_extra(half.checkpoint()[0])["best"]
    assert best_of(half).checkpoint()[0].name == f"{record['steps']:012d}", (
        "what the checkpoint speaks of is there"
    )
    resumed = isthmus.resume(half.folder, quiet=True)
    assert best_of(resumed).digest == best_of(whole).digest
    assert int(best_of(resumed).state().source_steps) == BEST_ROUND * tiny.ROUND
    assert (
        names(resumed.folder / "best") == names(whole.folder / "best") == [BEST_ROUND * tiny.ROUND]
    )


def test_a_damaged_newest_checkpoint_leads_to_the_best_of_the_one_before(tmp_path, monkeypatch):
    scripted(monkeypatch, {i: float(i) for i in range(1, 5)})
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    run = tiny.train("source_only", tmp_path / "run", 4, evaluations=4)
    assert names(run.folder / "best") == [3 * tiny.ROUND, 4 * tiny.ROUND], "each newest one's"
    newest = run.checkpoint()[0]
    (newest / checkpoint.MANIFEST).write_text("{}", encoding="utf-8")
    path, notes = best_of(run).checkpoint()
    assert int(path.name) == 3 * tiny.ROUND and len(notes) == 1 and newest.name in notes[0]


def test_pieces_that_are_there_are_linked(tmp_path):
    """Of a large leaf that did not change, between the newest checkpoints and the best."""
    large = np.arange(3 * checkpoint.PIECE // 8, dtype=np.int64)
    newest, best = tmp_path / "checkpoints", tmp_path / "best"
    first = checkpoint.save(newest, {"a": large}, extra={}, name=1)
    kept = checkpoint.save(best, {"a": large}, extra={}, name=1, beside=newest)
    changed = large.copy()
    changed[0] = 7
    second = checkpoint.save(newest, {"a": changed}, extra={}, name=2, beside=best)
    pieces = {path.name: path.stat().st_ino for path in first.glob("*.safetensors")}
    assert {path.name: path.stat().st_ino for path in kept.glob("*.safetensors")} == pieces
    linked = [
        path for path in second.glob("*.safetensors") if pieces.get(path.name) == path.stat().st_ino
    ]
    assert len(linked) == len(pieces) - 1
    shutil.rmtree(first)
    third = checkpoint.save(newest, {"a": large}, extra={}, name=3, beside=best)
    assert {path.name: path.stat().st_ino for path in third.glob("*.safetensors")} == pieces, (
        "from the best alone"
    )


def test_a_start_from_the_best(run, tmp_path):
    best = best_of(run)
    begun = tiny.train("fine_tuning", tmp_path / "run", 0, start=f"{run.folder}@best", steps=0)
    assert begun.config["start"] == f"{run.folder.resolve()}@best"
    assert begun.config["start_digest"] == best.digest != run.digest
    same = jax.tree.map(np.array_equal, begun.policy, best.policy)
    assert all(jax.tree.leaves(same))
    for given in (best, Path(f"{run.folder}@best")):
        other = tiny.train("fine_tuning", tmp_path / str(type(given)), steps=0, start=given)
        assert other.digest == begun.digest


def test_a_near_miss_and_what_takes_a_whole_run_are_one_line(run, tmp_path, capsys):
    with pytest.raises(UnknownName, match=r"unknown checkpoint 'bset'; did you mean best\?"):
        Run.open(f"{run.folder}@bset")
    with pytest.raises(IsthmusError, match="is no run: it has no run"):
        Run.open(tmp_path / "nowhere@best")
    with pytest.raises(BadValue, match="a run goes on from its newest checkpoint"):
        isthmus.resume(f"{run.folder}@best")
    for arguments in (
        ["train", "fine_tuning", "-p", "hopper", "--start", f"{run.folder}@bset"],
        ["report", f"{run.folder}@best", "-o", str(tmp_path / "page.html")],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and error.count("\n") == 1 and "best" in error
    assert not (tmp_path / "page.html").exists()


def test_a_folder_whose_name_has_an_at_is_that_folder(run, tmp_path):
    copy = shutil.copytree(run.folder, tmp_path / "me@best")
    assert Run.open(copy).digest == run.digest
    assert Run.open(f"{copy}@best").digest == best_of(run).digest


def test_verify_checks_the_best(run, tmp_path, capsys):
    copy = Run.open(shutil.copytree(run.folder, tmp_path / "copy"))
    main(["verify", str(copy.folder)])
    newest, best = capsys.readouterr().out.splitlines()
    assert newest.endswith(f"good, {copy.digest}")
    assert (
        best.startswith("best, ")
        and best_of(copy).digest in best
        and "return in the source" in best
    )
    main(["verify", f"{copy.folder}@best"])
    path = best_of(copy).checkpoint()[0]
    assert capsys.readouterr().out == f"{path.name}: good, {best_of(copy).digest}\n"
    piece = next(path.glob("*.safetensors"))
    content = piece.read_bytes()
    piece.unlink()  # the newest may have the same piece, linked
    piece.write_bytes(content[:-8] + b"disaster")
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(copy.folder)])
    newest, best = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 1 and best.startswith("damaged: ") and piece.name in best


def test_commands_take_it(run, tmp_path, capsys):
    copy = Run.open(shutil.copytree(run.folder, tmp_path / "copy"))
    for name in (str(copy.folder), f"{copy.folder}@best"):
        main(
            [
                "landscape",
                name,
                "--over",
                "torso_mass=3..6:2",
                "gravity=x1..x2:2",
                "--episodes",
                "1",
            ]
        )
        main(["evaluate", name, "--domain", "hopper", "--episodes", "3"])
    tables = [line for line in capsys.readouterr().out.splitlines() if line.startswith("hopper ")]
    assert len(tables) == 2 and tables[0] != tables[1]
    found = {
        path.name: path.read_text(encoding="utf-8") for path in copy.folder.glob("landscape*.csv")
    }
    assert sorted(found) == [
        "landscape-best-gravity-torso_mass.csv",
        "landscape-gravity-torso_mass.csv",
    ]
    assert len(set(found.values())) == 2


def test_a_unit_may_start_from_the_best(tmp_path, monkeypatch):
    scripted(monkeypatch)
    common = {"problem": "hopper/gravity=x2", "seed": 0, "evaluations": ROUNDS, "episodes": 1}
    first = Trial(
        "first",
        "source_only",
        steps=ROUNDS * tiny.ROUND,
        settings=tiny.settings("source_only"),
        **common,
    )
    second = Trial(
        "second",
        "fine_tuning",
        steps=0,
        settings=tiny.settings("fine_tuning"),
        start="first",
        start_at="best",
        access="online",
        **common,
    )
    unit: Callable[[Trial], str] = lambda unit: run_trial(
        TrialJob(unit, tmp_path, tmp_path / "runs", measure_nothing)
    )
    (tmp_path / "runs").mkdir()
    unit(first), unit(second)
    meta = Results.read(tmp_path / "second.csv").meta
    ends = {name: Run.open(tmp_path / "runs" / name).digest for name in ("first", "first@best")}
    assert meta["start"] == "first" and meta["start_at"] == "best" and meta["needs"] == ends
    assert config_mismatches(second, meta) == []
    assert config_mismatches(Trial(**{**vars(second), "start_at": ""}), meta) == [
        "start_at best instead of end"
    ]
    del meta["start_at"]
    assert config_mismatches(second, meta) == ["start_at end instead of best"], (
        "it started from the end"
    )
    done, said = read_results([first, second], tmp_path)
    assert set(done) == {"first", "second"} and said == []
    config = json.loads((tmp_path / "runs" / "second" / "run.json").read_text(encoding="utf-8"))
    assert config["start"].endswith("first@best")
