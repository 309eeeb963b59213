"""Kept runs: what a run hands over, in one small file."""

from __future__ import annotations

import json
import pickle

import jax
import numpy as np
import pytest
import tiny
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import isthmus
from isthmus.cli.main import main
from isthmus.logs.log import Log
from isthmus.training import checkpoint
from isthmus.training.checkpoint import CheckpointError
from isthmus.training.kept import keep_log, keep_run, read_kept_log
from isthmus.training.run import FORMAT, Run, RunError
from isthmus.types import BadValue

SAC = {
    **tiny.settings("source_only"),
    "learner": "sac",
    "learner.capacity": 50_000,
    "learner.hidden": (16,),
}
SAC = {
    name: value
    for name, value in SAC.items()
    if name in ("learner", "learner.capacity", "learner.hidden")
}


@pytest.fixture(scope="module", params=["ppo", "sac"])
def run(request, tmp_path_factory) -> Run:
    settings = tiny.settings("source_only") if request.param == "ppo" else SAC
    return tiny.train(
        "source_only", tmp_path_factory.mktemp(request.param) / "run", settings=settings
    )


@pytest.fixture
def kept(run, tmp_path) -> Run:
    keep_run(run, tmp_path / "kept.safetensors")
    return Run.open(tmp_path / "kept.safetensors")


def test_a_kept_run_acts_as_the_run_did(run, kept):
    assert kept.digest == run.digest and kept.finished
    for name in ("policy", "behaviour"):
        assert checkpoint.digest(getattr(kept, name)) == checkpoint.digest(getattr(run, name))
    before, after = (
        isthmus.evaluate(r.policy, run.problem.target, 4).episodes.returns for r in (run, kept)
    )
    np.testing.assert_array_equal(before, after)


def test_a_kept_run_is_small_and_tells_no_path(run, kept):
    """Neither worlds nor a replay, of 50,000 rows here, are in it; nor where the run lay."""
    assert kept.folder.stat().st_size < 60_000
    assert str(run.folder.parent) not in kept.folder.read_bytes().decode("latin-1")


def test_others_may_read_a_kept_run(kept, tmp_path):
    (tmp_path / "plain").write_text("")
    assert kept.folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_starts_from_a_kept_run_has_the_bits_of_what_starts_from_the_run(run, kept, tmp_path):
    settings = {k: v for k, v in run.config["settings"].items() if k.startswith("learner")}
    both = [
        tiny.train(
            "fine_tuning",
            tmp_path / f"{i}",
            settings=settings | {"pretraining": 0},
            start=start.folder,
        )
        for i, start in enumerate((run, kept))
    ]
    assert both[0].digest == both[1].digest


def test_a_begun_run_goes_on_where_only_that_is_left_of_its_start(run, kept, tmp_path):
    """Begun from the run's folder on one machine, planned again from what is kept on another."""
    settings = {k: v for k, v in run.config["settings"].items() if k.startswith("learner")} | {
        "pretraining": 0
    }
    begun = tiny.train("fine_tuning", tmp_path / "run", settings=settings, start=run.folder)
    plan = Run.plan("fine_tuning", begun.problem, 0, begun.steps, settings, kept)
    assert plan["start"] != begun.config["start"]
    begun.expect(plan)
    with pytest.raises(BadValue, match=r"started from what .* was before"):
        begun.expect(plan | {"start_digest": "0" * 64})


def test_the_command_line_takes_a_kept_run(kept, tmp_path, capsys):
    main(
        [
            "landscape",
            str(kept.folder),
            "--over",
            "gravity=x1..x2:2",
            "torso_mass=3..4:2",
            "--episodes",
            "1",
        ]
    )
    assert (kept.folder.parent / "landscape-gravity-torso_mass.csv").exists()
    main(["evaluate", str(kept.folder), "--episodes", "2"])
    assert "hopper/gravity=19.62" in capsys.readouterr().out


def test_damage_is_told_in_a_line(kept, tmp_path):
    arrays = load_file(kept.folder)
    with safe_open(kept.folder, "numpy") as file:
        metadata = file.metadata()
    name = next(name for name, array in arrays.items() if array.size > 1)
    spoiled = arrays | {name: arrays[name] * np.array(2, arrays[name].dtype)}
    save_file(spoiled, kept.folder, metadata)
    with pytest.raises(
        CheckpointError, match="is damaged: its numbers are not those that were written"
    ):
        Run.open(kept.folder).state()
    config = json.loads(metadata["isthmus"])
    for changed, why in (
        ({name: arrays[name][:1]}, "use the version of Isthmus that wrote it"),
        ({"other": np.zeros(2)}, "leaf other is float64"),
    ):
        whole = arrays | changed
        told = {"isthmus": json.dumps(config | {"handed_over": checkpoint.digest(whole)})}
        save_file(whole, kept.folder, told)
        with pytest.raises(CheckpointError, match=why):
            Run.open(kept.folder).state()


@pytest.mark.parametrize("what", ["missing", "pickle", "foreign", "format", "list", "kinds"])
def test_what_is_no_kept_run_is_refused_in_a_line(what, tmp_path):
    path = tmp_path / "x.safetensors"
    if what == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif what != "missing":
        told = {"format": {"format": 0}, "list": [1], "kinds": {"format": FORMAT, "seed": "x"}}.get(
            what
        )
        save_file({"a": np.zeros(3)}, path, None if told is None else {"isthmus": json.dumps(told)})
    with pytest.raises(RunError) as error:
        Run.open(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_method_that_holds_more_than_a_learner_is_not_kept(tmp_path):
    run = tiny.train("darc", tmp_path / "darc")
    with pytest.raises(BadValue, match="darc holds more than its learner"):
        keep_run(run, tmp_path / "x.safetensors")


def log() -> Log:
    """Three episodes: a fall after two steps, a time limit after three, and one that is cut after
    one.
    """
    random = np.random.default_rng(0)
    states = random.normal(size=(9, 3)).astype(np.float32)
    before, after = [0, 1, 3, 4, 5, 7], [1, 2, 4, 5, 6, 8]
    action, reward = random.normal(size=(6, 2)).astype(np.float32), np.arange(6, dtype=np.float32)
    terminated = np.array([0, 1, 0, 0, 0, 0], bool)
    truncated = np.array([0, 0, 0, 0, 1, 1], bool)
    return Log(
        states[before],
        action,
        reward,
        states[after],
        terminated,
        truncated,
        np.array([0, 0, 1, 1, 1, 2]),
    )


def test_a_kept_log_is_read_back_to_the_bit(tmp_path):
    keep_log(log(), {"seed": 3}, tmp_path / "log.safetensors")
    back, metadata = read_kept_log(tmp_path / "log.safetensors")
    assert metadata == {"seed": 3} and back.digest() == log().digest()
    assert len(load_file(tmp_path / "log.safetensors")["last_obs"]) == 3, (
        "each state once, and three last ones"
    )


def test_a_fall_at_the_time_limit_is_a_fall(tmp_path):
    both = log()
    both.truncated[1] = True
    keep_log(both, {}, tmp_path / "log.safetensors")
    assert read_kept_log(tmp_path / "log.safetensors")[0].digest() == log().digest()


def test_a_log_whose_episodes_begin_where_others_ended_is_kept_too(tmp_path):
    whole = log()
    whole.obs[2] = whole.next_obs[1]
    keep_log(whole, {}, tmp_path / "log.safetensors")
    assert read_kept_log(tmp_path / "log.safetensors")[0].digest() == whole.digest()


def test_a_damaged_log_is_refused(tmp_path):
    path = tmp_path / "log.safetensors"
    keep_log(log(), {}, path)
    arrays = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(arrays | {"reward": arrays["reward"] + 1}, path, metadata)
    with pytest.raises(
        BadValue, match="is damaged: its transitions are not those that were written"
    ):
        read_kept_log(path)
    del arrays["last_obs"]
    save_file(arrays, path, metadata)
    with pytest.raises(BadValue, match="keeps no log"):
        read_kept_log(path)


def test_arrays_of_a_tree_come_back_as_what_they_were():
    tree = {"a": jax.numpy.ones(3), "b": np.int64(2), "c": [np.zeros((2, 1))]}
    back = checkpoint.from_arrays(tree, checkpoint.to_arrays(tree))
    assert checkpoint.digest(back) == checkpoint.digest(tree) and isinstance(back["b"], np.int64)
