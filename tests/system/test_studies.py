"""Studies: a unit is one small file; what is there is not run again; the registered ones run at
smoke scale.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from comparing import Here

import isthmus
from isthmus.cli.main import main
from isthmus.papers import registry
from isthmus.studies import running
from isthmus.studies.forecast import forecast
from isthmus.studies.results import Results, Row, config_mismatches, read_results
from isthmus.studies.running import TrialJob, run_trial, run_trials
from isthmus.studies.scheduling import describe_waiting, find_waiting, list_missing, schedule
from isthmus.studies.study import Study, measure_nothing
from isthmus.studies.trial import SCALE_NAMES, Measurement, Trial
from isthmus.training import train as loop
from isthmus.training.older_runs import keep_shapes
from isthmus.training.run import Run, versions
from isthmus.types import BadValue, IsthmusError, UnknownName

GRIDS = {
    "masses": "torso_mass=3..9:3,friction=1..2:2",
    "pulls": "gravity=x0.5..x2:2,damping=1..2:2",
}


def unit(name: str = "one", **changes: object) -> Trial:
    made = Trial(
        name,
        "source_only",
        "hopper-es-sim2real",
        0,
        3 * tiny.ROUND,
        tiny.SETTINGS,
        episodes=4,
        landscapes=GRIDS,
        landscape_episodes=2,
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("unit")
    run_trials([unit()], folder / "results", folder / "runs", Here())
    return folder, Results.read(folder / "results" / "one.csv")


def test_a_units_file(written):
    folder, results = written
    assert [p.name for p in (folder / "results").iterdir()] == ["one.csv"]
    text = (folder / "results" / "one.csv").read_text()
    assert text.startswith("kind,key,x,y,value\n") and "\r" not in text and len(text) < 20_000
    run = Run.open(folder / "runs" / "one")
    meta = {row["key"]: row["value"] for row in results.rows if row["kind"] == "meta"}
    assert meta["digest"] == run.digest and meta["problem"] == "hopper-es-sim2real"
    assert {k: meta[k] for k in ("mujoco", "jax", "python", "NPROC")}.items() <= run.config[
        "versions"
    ].items()
    assert results.value("meta", "seed") == 0 and results.value("meta", "steps") == 384
    assert results.value("meta", "wall_seconds") >= 0
    final = isthmus.evaluate(run.policy, run.problem.source, 4).episodes
    assert not any(
        row["key"] == "target_return" for row in results.rows if row["kind"] == "final"
    ), "its cells are many"
    assert results.value("final", "source_return") == pytest.approx(final.returns.mean(), abs=0.01)
    assert results.value("final", "source_return_sd") == pytest.approx(
        final.returns.std(), abs=0.01
    )
    assert results.value("final", "source_length") == pytest.approx(final.lengths.mean(), abs=0.1)
    told = [row for row in tiny.lines(run) if row["kind"] == "evaluation"]
    assert results.curve("source_return").tolist() == [
        [row["source_steps"], 0, row["source_return"]] for row in told
    ] and len(results.curve("target_return")) == len(told)


def test_a_units_landscapes(written):
    """Cells stand at their parameters: the axes come back sorted by name, as the domain has
    them.
    """
    folder, results = written
    run = Run.open(folder / "runs" / "one")
    for key, settings in GRIDS.items():
        x, y, returns = results.cells(key)
        scape = isthmus.landscape(
            run.policy, run.problem.target.without_settings().shift(settings), 2
        )
        assert np.allclose(x, scape.axes[0], rtol=1e-5) and np.allclose(y, scape.axes[1], rtol=1e-5)
        assert np.allclose(returns, scape.mean, atol=0.01) and len(np.unique(returns)) > 1
    friction, mass, _ = results.cells("masses")
    assert friction.tolist() == [1, 2] and mass.tolist() == [3, 6, 9]


def test_what_is_there_is_not_run_again(written, monkeypatch):
    folder, _ = written
    before = (folder / "results" / "one.csv").read_bytes()
    monkeypatch.setattr(running, "run_trial", lambda *_: pytest.fail("it ran again"))
    run_trials([unit()], folder / "results", folder / "runs", Here())
    assert (folder / "results" / "one.csv").read_bytes() == before
    units = [unit(), unit("two")]
    assert [u.name for u in list_missing(units, folder / "results")] == ["two"]


def test_a_lost_file_is_written_again_without_training(written, tmp_path, monkeypatch):
    folder, results = written
    monkeypatch.setattr(loop, "_loop", lambda *_: pytest.fail("it trained again"))
    tmp_path.joinpath("results").mkdir()
    run_trial(TrialJob(unit(), tmp_path / "results", folder / "runs", measure_nothing))
    again = Results.read(tmp_path / "results" / "one.csv")
    drop = [{**row, "value": ""} if row["key"] == "wall_seconds" else row for row in again.rows]
    assert drop == [
        {**row, "value": ""} if row["key"] == "wall_seconds" else row for row in results.rows
    ]


def test_an_interrupted_unit_goes_on(written, tmp_path, monkeypatch):
    _, whole = written
    write = loop.MetricsLog.write

    class Killed(BaseException):
        pass

    def dies(self, kind, values):
        write(self, kind, values)
        if kind == "round" and values["source_steps"] == 2 * tiny.ROUND:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.MetricsLog, "write", dies)
        run_trials([unit()], tmp_path / "results", tmp_path / "runs", Here())
    assert list((tmp_path / "results").iterdir()) == [], "no result yet"
    tiny.forget_simulations()
    run_trials([unit()], tmp_path / "results", tmp_path / "runs", Here())
    rows = Results.read(tmp_path / "results" / "one.csv").rows
    assert [r for r in rows if r["key"] != "wall_seconds"] == [
        r for r in whole.rows if r["key"] != "wall_seconds"
    ]


def test_a_unit_stopped_by_its_user_writes_nothing(tmp_path, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def stop_requested():
        yield lambda: True

    monkeypatch.setattr(loop, "stop_requested", stop_requested)
    with pytest.raises(KeyboardInterrupt):
        run_trials([unit()], tmp_path / "results", tmp_path / "runs", Here())
    assert (
        list((tmp_path / "results").iterdir()) == [] and Run.open(tmp_path / "runs" / "one").begun
    )


def test_a_unit_that_was_redefined_is_refused(written, tmp_path):
    """Another training under the unit's name must not be taken for it."""
    folder, _ = written
    for changes in ({"steps": 999}, {"seed": 1}, {"problem": "hopper"}, {"settings": {}}):
        with pytest.raises(BadValue, match=r"holds a run of another (steps|seed|problem|settings)"):
            run_trial(TrialJob(unit(**changes), tmp_path, folder / "runs", measure_nothing))
    assert list(tmp_path.iterdir()) == []


def test_a_unit_of_every_access(tmp_path):
    """One method each that touches its target never, freely, at deployment, or by a log (this with
    an action for each domain).
    """
    units = [
        unit(
            m,
            method=m,
            settings=tiny.settings(m),
            access=tiny.access(m),
            landscapes={"m": GRIDS["masses"]},
            log="source_only" if tiny.access(m) == "dataset" else None,
            log_steps=300,
        )
        for m in ("source_only", "target_only", "few_shot_ppo", "dap")
    ]  # fmt: skip
    run_trials(units, tmp_path / "results", tmp_path / "runs", Here())
    for each in units:
        assert Results.read(tmp_path / "results" / f"{each.name}.csv").cells("m")[2].shape == (2, 3)


def test_forecast(written, tmp_path):
    folder, _ = written
    units = [unit(), unit("two", steps=10**6), unit("three", steps=10**6)]
    said = forecast(units, tmp_path, tmp_path, 2)
    assert said == "3 of 3 units are left, 2,000,384 training steps; no unit has been timed yet"
    assert forecast([unit()], folder / "results", folder / "runs", 2) == "all 1 units are there"
    (tmp_path / "one.csv").write_text(
        "kind,key,x,y,value\nmeta,wall_seconds,,,12\nmeta,steps,,,100000\n"
    )
    assert forecast(units, tmp_path, tmp_path, 2) == (
        "2 of 3 units are left, 2,000,000 training steps: about 2 minutes, 2 at once, at the rates "
        "of finished units"
    )
    # A step of the same experiment costs the same at another scale; of another method not.
    units = [unit("paper-a-s0", steps=10**6), unit("paper-b-s0", steps=10**6, method="fine_tuning")]
    for name, seconds in (
        ("laptop-a-s0", 60),
        ("laptop-b-s1", 240),
        ("laptop-b-s2", 99_999),
        ("laptop-b-s3", 120),
    ):
        text = f"kind,key,x,y,value\nmeta,wall_seconds,,,{seconds}\nmeta,steps,,,1000000\n"
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "smoke-a-s0.csv").write_text(
        "kind,key,x,y,value\nmeta,wall_seconds,,,99999\nmeta,steps,,,1\n"
    )
    (tmp_path / "laptop-claims.csv").write_text("claim\n")
    assert "about 5 minutes, 1 at once" in forecast(units, tmp_path, tmp_path, 1)
    another = [*units, unit("paper-c-s0", steps=10**6, method="fine_tuning")]
    assert "about 9 minutes" in forecast(another, tmp_path, tmp_path, 1), "as its method's"
    (tmp_path / "one.csv").write_text("kind,key,x,y,value\n")
    with pytest.raises(BadValue, match=r"one\.csv is damaged or cut short: remove it"):
        forecast(units, tmp_path, tmp_path, 2)


def test_a_folder_of_results_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IsthmusError, match="cannot make the folder"):
        run_trials([unit()], tmp_path / "file", tmp_path / "runs", Here())


# Units that need others


def chain(folder: Path) -> list[Trial]:
    """A policy, and one that goes on from it in another domain."""
    plain = {
        "settings": tiny.SETTINGS,
        "landscapes": {},
        "problem": "reacher/damping=x2",
        "episodes": 4,
    }
    first = unit("first", **plain)
    return [
        unit("second", **plain | {"method": "fine_tuning", "start": "first", "access": "online"}),
        first,
    ]


def other(run: Run, beside: Run | None) -> list[Row]:
    return [Row("measure", "beside", "", "", 0 if beside is None else len(beside.folder.name))]


@pytest.fixture(scope="module")
def chained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    run_trials(chain(folder), folder / "results", folder / "runs", Here(), measure=other)
    return folder


def test_a_unit_starts_from_another(chained):
    first, second = (Run.open(chained / "runs" / name) for name in ("first", "second"))
    assert second.config["start"] == str(first.folder)
    results = {
        name: Results.read(chained / "results" / f"{name}.csv") for name in ("first", "second")
    }
    before, after = (results[name].curve("target_return") for name in ("first", "second"))
    assert after[0].tolist() == [0, 0, before[-1, 2]], (
        "the source's last policy is the first in the target"
    )
    assert (
        results["first"].value("measure", "beside") == 0
        and results["second"].value("measure", "beside") == 5
    )
    assert results["second"].value("final", "target_forward") > 0


def test_a_start_made_anew_is_told(chained, tmp_path):
    """What others started from may be trained again, to other bits: its file and theirs are no pair
    then.
    """
    units, results = chain(tmp_path), tmp_path / "results"
    shutil.copytree(chained / "results", results)
    first, second = (Results.read(results / f"{name}.csv").meta for name in ("first", "second"))
    assert first["needs"] == {} and second["needs"] == {"first": first["digest"]}
    assert read_results(units, results)[1] == []
    anew = (results / "first.csv").read_text().replace(first["digest"], "0" * 64)
    (results / "first.csv").write_text(anew)
    done, (said,) = read_results(units, results)
    assert {*done} == {"first", "second"} and said.startswith(
        "second.csv stands on another run of first than first.csv"
    )


def test_what_is_trained_again_for_others_keeps_its_file_or_is_refused(chained, tmp_path):
    """With other bits it would be no pair of what started from the run that its file tells of."""
    units, results, runs = chain(tmp_path), tmp_path / "results", tmp_path / "runs"
    results.mkdir()
    recorded = (chained / "results" / "first.csv").read_text() + "meta,mark,,,kept\n"
    (results / "first.csv").write_text(recorded)
    run_trials(units, results, runs, Here(), measure=other)
    assert (results / "first.csv").read_text() == recorded and read_results(units, results)[1] == []
    for folder in (runs, results / "starts"):
        shutil.rmtree(folder)
    (results / "second.csv").unlink()
    line = f"meta,cpu,,,{versions()['cpu']}\n"
    assert line in recorded
    other_cpu = recorded.replace(Run.open(chained / "runs" / "first").digest, "0" * 64)
    for text in (other_cpu.replace(line, "meta,cpu,,,Old\n"), other_cpu.replace(line, "")):
        (results / "first.csv").write_text(text)
        run_trials(units, results, runs, Here(), measure=other)
        assert not list(runs.iterdir()) and not (results / "second.csv").exists(), (
            "not trained for nothing: it waits"
        )
        assert find_waiting(units, results, runs) == {"second": "first"}
    (results / "first.csv").write_text(other_cpu)
    for _ in range(2):  # what was trained again lies there by the second time
        with pytest.raises(
            BadValue,
            match=r"other bits than the run that .*first.csv tells of \(another CPU or code",
        ):
            run_trials(units, results, runs, Here(), measure=other)
    assert (results / "first.csv").read_text() == other_cpu and not (
        results / "second.csv"
    ).exists()
    shutil.rmtree(runs)
    changed = dataclasses.replace(units[1], settings={**units[1].settings, "learner.discount": 0.5})
    with pytest.raises(
        BadValue,
        match=r"first\.csv was made with learner.discount 0.99 instead of 0.5, and others stand",
    ):
        run_trials([units[0], changed], results, runs, Here(), measure=other)
    assert not (runs / "first").exists(), "told before anything is trained"


def test_what_others_start_from_is_kept_with_the_results(chained, tmp_path):
    """On another machine the run is not there, and trained again it would have other bits."""
    units, results, runs = chain(tmp_path), tmp_path / "results", tmp_path / "runs"
    shutil.copytree(chained / "results", results)
    assert [path.name for path in (results / "starts").iterdir()] == ["first.safetensors"]
    (results / "second.csv").unlink()
    run_trials(units, results, runs, Here(), measure=other)
    assert {path.name for path in runs.iterdir()} == {"second"}, "the first is not trained again"
    again, before = (
        Results.read(folder / "second.csv").meta for folder in (results, chained / "results")
    )
    assert again["digest"] == before["digest"] and again["needs"] == before["needs"]
    assert read_results(units, results)[1] == []


def test_units_that_wait_for_a_run_are_told_and_the_others_run(chained, tmp_path):
    """A start of an older version, or another kind of CPU, that was not kept: what stands on it,
    however far, waits.
    """
    units, results, runs = chain(tmp_path), tmp_path / "results", tmp_path / "runs"
    results.mkdir()
    first = (
        (chained / "results" / "first.csv")
        .read_text()
        .replace(f"meta,cpu,,,{versions()['cpu']}\n", "")
    )
    (results / "first.csv").write_text(first)
    third = dataclasses.replace(units[0], name="third", start="second")
    alone = dataclasses.replace(units[1], name="alone", seed=5)
    table = [third, *units, alone]
    waits_for = find_waiting(table, results, runs)
    assert waits_for == {"second": "first", "third": "first"}
    (line,) = describe_waiting(waits_for, results)
    assert (
        line.startswith("2 units wait for the run of first,") and "starts/first.safetensors" in line
    )
    assert [[u.name for u in wave] for wave in schedule(table, results, runs)] == [["alone"]]
    assert forecast(units, results, runs, 1) == "1 of 2 units wait"
    shutil.copytree(chained / "results" / "starts", results / "starts")
    assert find_waiting(table, results, runs) == {}, "what is kept of it is enough"


def test_a_log_is_kept_with_the_results(tmp_path):
    first = unit(
        "first", settings=tiny.SETTINGS, landscapes={}, problem="reacher/damping=x2", episodes=4
    )
    second = dataclasses.replace(
        first,
        name="second",
        method="dap",
        settings=tiny.settings("dap"),
        access="dataset",
        log="first",
        log_steps=300,
    )
    results, runs = tmp_path / "results", tmp_path / "runs"
    run_trials([first, second], results, runs, Here())
    before = Results.read(results / "second.csv").meta["digest"]
    kept = sorted(path.name for path in (results / "starts").iterdir())
    assert (
        len(kept) == 2
        and kept[0].startswith("first-")
        and kept[0].endswith("-in-reacher-damping-x2-300.safetensors")
    )
    shutil.rmtree(runs)
    (results / "second.csv").unlink()
    run_trials([first, second], results, runs, Here())
    assert Results.read(results / "second.csv").meta["digest"] == before
    assert not (runs / "first").exists()


def test_kinds_of_cpu_are_told_where_they_mix(chained, tmp_path):
    units, results = chain(tmp_path), tmp_path / "results"
    shutil.copytree(chained / "results", results)
    text, kind = (results / "first.csv").read_text(), versions()["cpu"]
    (results / "first.csv").write_text(text.replace(f"meta,cpu,,,{kind}", "meta,cpu,,,x86_64 AVX9"))
    said = (
        f"units were made on several kinds of CPU, whose bits differ: 1 on {kind}, 1 on x86_64 AVX9"
    )
    assert read_results(units, results)[1] == [said]
    (results / "first.csv").write_text(text.replace(f"meta,cpu,,,{kind}\n", ""))
    assert "1 on a kind not recorded, 1 on" in read_results(units, results)[1][0]


def test_a_run_knows_what_it_started_from(chained, tmp_path):
    """And not what lies there by now: with its file gone it is refused, until it begins anew."""
    units, results, runs = chain(tmp_path), tmp_path / "results", tmp_path / "runs"
    run_trials(units, results, runs, Here(), measure=other)
    old = Results.read(results / "first.csv").meta["digest"]
    shutil.rmtree(runs / "first")
    run_trials(
        [dataclasses.replace(units[1], seed=1)], tmp_path / "elsewhere", runs, Here(), measure=other
    )
    (results / "second.csv").unlink()
    with pytest.raises(
        BadValue, match=r"second started from what .*first was before; remove it to begin anew"
    ):
        run_trials([units[0]], results, runs, Here(), measure=other)
    assert Run.open(runs / "second").config["start_digest"] == old


def test_what_others_need_comes_first(chained, tmp_path):
    units, results, runs = chain(tmp_path), tmp_path / "results", tmp_path / "runs"
    names = lambda: [[u.name for u in wave] for wave in schedule(units, results, runs)]
    assert names() == [["first"], ["second"]]
    results.mkdir()
    made_here = f"meta,wall_seconds,,,12\nmeta,steps,,,100000\nmeta,cpu,,,{versions()['cpu']}\nmeta,digest,,,0\n"  # noqa: E501
    (results / "first.csv").write_text(f"kind,key,x,y,value\n{made_here}")
    assert names() == [["first"], ["second"]], "its file is there, but not the run that is needed"
    assert forecast(units, results, runs, 2).startswith(
        "1 of 2 units are left, 768 training steps with those of 1 more whose runs others stand on"
    )
    (results / "second.csv").write_text("")
    assert names() == [], "nothing is left that would need it"
    (results / "second.csv").unlink()
    (runs / "first").mkdir(parents=True)
    (runs / "first" / "finished.json").write_text("")
    assert names() == [["second"]]
    third = dataclasses.replace(units[0], name="third", start=None, beside="second")
    assert [[u.name for u in wave] for wave in schedule([third, *units], results, runs)] == [
        ["second"],
        ["third"],
    ]


def test_a_start_that_was_made_otherwise_is_refused(chained, tmp_path):
    """Its own file is there, so that nobody would train it again and notice."""
    second, first = chain(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    shutil.copy(chained / "results" / "first.csv", results)
    changed = dataclasses.replace(first, settings={**first.settings, "learner.discount": 0.5})
    with pytest.raises(
        BadValue,
        match=r"first was made with learner.discount 0.99 instead of 0.5, and others start",
    ):
        run_trials([second, changed], results, chained / "runs", Here(), measure=other)
    assert [path.name for path in results.iterdir()] == ["first.csv"]


# Files made otherwise than the study asks


def test_files_made_otherwise_are_named_and_left_out(written):
    folder, _ = written
    results = folder / "results"
    done, said = read_results([unit(), unit("two")], results)
    assert [*done] == ["one"] and said == []
    wrong = {**tiny.SETTINGS, "learner.discount": 0.5}
    for changes, what in (
        ({"settings": wrong}, "learner.discount 0.99 instead of 0.5"),
        ({"problem": "hopper"}, "problem hopper-es-sim2real instead of hopper"),
        ({"method": "target_only"}, "method source_only instead of target_only"),
        ({"steps": 999, "seed": 3}, "seed 0 instead of 3, steps 384 instead of 999"),
    ):
        done, said = read_results([unit(**changes)], results)
        assert done == {}
        assert said == [
            f"left out, for they were made with {what}: one.csv; remove them to run these units "
            "again"
        ]


def test_settings_that_came_or_went_make_no_file_anothers(written, tmp_path):
    folder, results = written
    lines = (folder / "results" / "one.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("meta,settings")]
    settings = {k: v for k, v in results.meta["settings"].items() if k != "learner.discount"} | {
        "gone": 1
    }

    def write(*more: str) -> None:
        (tmp_path / "one.csv").write_text("\n".join([*kept, *more]) + "\n")

    quoted = json.dumps(settings).replace('"', '""')
    write(f'meta,settings,,,"{quoted}"')
    done, said = read_results([unit()], tmp_path)
    assert [*done] == ["one"] and said == []
    write()
    done, said = read_results([unit()], tmp_path)
    assert [*done] == ["one"] and said == [
        "no settings are recorded in one.csv: taken to be what the study asks for"
    ]
    write("meta,settings,,,{")
    with pytest.raises(BadValue, match=r"one\.csv has damaged settings: remove it"):
        read_results([unit()], tmp_path)
    for text in ("bad\n", "\n".join(lines[: len(lines) - 1]), "\n".join(lines)[:300]):
        (tmp_path / "one.csv").write_text(text)
        with pytest.raises(BadValue, match=r"one\.csv is damaged or cut short: remove it"):
            read_results([unit()], tmp_path)


def test_older_files_call_the_offset_otherwise():
    mean = unit(method="matl", settings={"learner": "trpo", "offset": "mean"})
    assert config_mismatches(mean, {"settings": {"centred": True}}) == []
    assert config_mismatches(mean, {"settings": {"centred": False}}) == [
        "offset none instead of mean"
    ]
    floor = unit(method="matl", settings={"learner": "trpo"})
    assert config_mismatches(floor, {"settings": {"centred": True}}) == [
        "offset mean instead of floor"
    ]


def test_reproduce_says_what_it_leaves_out(tmp_path, capsys):
    folder = tmp_path / "matl"
    folder.mkdir()
    for path in (Path(__file__).parents[2] / "results/matl").glob(
        "laptop-reacher-sparse-*-s[01].csv"
    ):
        shutil.copy(path, folder)
    changed = folder / "laptop-reacher-sparse-matl-s1.csv"
    changed.write_text(changed.read_text().replace('""alignment"": 0.2', '""alignment"": 0.3'))
    arguments = ["reproduce", "matl", f"--results={tmp_path}", f"--runs={tmp_path / 'runs'}"]
    line = (
        f"left out, for they were made with alignment 0.3 instead of 0.2: {changed.name}; "
        f"remove them"
    )
    main([*arguments, "--report"])
    said = capsys.readouterr().out
    assert said.startswith(line) and (folder / "laptop.txt").read_text().startswith(line)
    (row,) = [row for row in said.splitlines() if row.startswith("  matl  ")]
    assert "1 seed;" in row
    main([*arguments, "--forecast"])
    assert capsys.readouterr().out.startswith(line)


# The registered ones


@pytest.mark.parametrize("name", registry.STUDIES)
def test_a_studys_table(name):
    found = registry.find_study(name)
    assert isinstance(found, Study) and found.name == name
    distinct = {}  # a unit that several figures have is looked at once
    for figure in (None, *found.figures):
        for scale in SCALE_NAMES:
            units = found.trials(scale, figure)
            assert units or figure in found.scenes or scale == "smoke"
            assert len({u.name for u in units}) == len(units)
            assert all(
                u.name.startswith(f"{scale}-") and distinct.setdefault(u.name, u) == u
                for u in units
            )
    for u in distinct.values():
        assert u.seed < 100 or "-choice-" in u.name, "tuning has seeds of its own"
        if isinstance(u, Measurement):
            continue
        problem = isthmus.problem(u.problem, access=u.access)
        assert u.steps or u.start, "it trains, or deploys what another left"
        Run.plan(
            u.method, keep_shapes(problem) if u.log else problem, u.seed, u.steps or 1, u.settings
        )
        grids = [
            isthmus.problem(u.problem).target.without_settings().shift(g).grid
            for g in u.landscapes.values()
        ]
        assert all(len(grid) == 2 for grid in grids)
    assert len({u.seed for u in found.trials("laptop", None)}) >= 5, "five seeds"


@pytest.mark.parametrize(
    "name", [name for name in registry.STUDIES if name not in ("matl", "dap")]
)  # have their own
def test_smoke(tmp_path, monkeypatch, capsys, name):
    """The whole command at smoke scale: units' files, what came out, pictures; a second time runs
    nothing.
    """
    found = registry.find_study(name)
    alike = (
        "longer",
        "masked",
        "gradient",
        "average",
        "batch",
        "evolution",
        "recurrent",
    )  # others stand for them
    quick = []
    for u in found.trials("smoke", None):
        if not any(word in u.name for word in alike):
            trains = not isinstance(u, Measurement)
            quick.append(dataclasses.replace(u, landscape_episodes=1, episodes=10) if trains else u)
    monkeypatch.setattr(
        registry,
        "find_study",
        lambda _: dataclasses.replace(found, trials=lambda scale, figure: quick),
    )
    monkeypatch.setattr("isthmus.training.executors.make_executor", lambda *_: Here())
    arguments = [
        "reproduce",
        name,
        "--scale=smoke",
        f"--results={tmp_path / 'results'}",
        f"--runs={tmp_path / 'runs'}",
    ]
    main(arguments)
    said = capsys.readouterr().out
    folder = tmp_path / "results" / name
    text, _, judged = (
        (folder / "smoke.txt").read_text().partition("\n\n")
    )  # claims are shown as a table
    assert text in said and "nan" not in said + judged and (bool(judged) == ("claims" in said))
    pictures = found.pictures({u.name: Results.read(folder / f"{u.name}.csv") for u in quick})
    assert {p.name for p in folder.glob("*.png")} == {f"smoke-{picture}" for picture in pictures}
    assert {p.stem for p in folder.glob("*.csv") if not p.stem.endswith("-claims")} == {
        u.name for u in quick
    }
    main([*arguments, "--forecast"])
    assert capsys.readouterr().out == f"all {len(quick)} units are there\n"
    monkeypatch.setattr(running, "run_trial", lambda *_: pytest.fail("it ran again"))
    main(arguments)
    assert capsys.readouterr().out == said


def test_an_unknown_study():
    with pytest.raises(
        UnknownName, match=r"unknown study 'es-sim2rael'; did you mean es-sim2real\?"
    ):
        registry.find_study("es-sim2rael")


def test_committed_results_are_of_the_studies_that_are_there():
    """What is in results/ can be read and belongs to a unit of the table, so that nobody runs it
    again for nothing.
    """
    root = Path(__file__).parents[2] / "results"
    files = [path for path in root.glob("*/*.csv") if not path.stem.endswith("-claims")]
    assert files
    for path in files:
        found = registry.find_study(path.parent.name)
        units = {u.name: u for scale in SCALE_NAMES for u in found.trials(scale, None)}
        assert path.stem in units, path
        results, u = Results.read(path), units[path.stem]
        assert config_mismatches(u, results.meta) == [], path
        if isinstance(u, Measurement):
            continue
        assert {"method", "problem", "seed", "steps"} < results.meta.keys(), path
        for key in u.landscapes:
            assert np.isfinite(results.cells(key)[2]).all()
        with path.open(newline="") as file:
            assert next(csv.reader(file)) == ["kind", "key", "x", "y", "value"]
