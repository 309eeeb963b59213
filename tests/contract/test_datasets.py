"""Targets known by a log: what is written is what was made, what is read is checked, and the target
stays untouched.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import h5py
import minari
import numpy as np
import pytest
import tiny

import isthmus
from isthmus.audit.coverage import describe_coverage, policy_actions
from isthmus.cli.main import main
from isthmus.domains import domain
from isthmus.domains.domain import Domain
from isthmus.domains.foreign_simulation import ForeignSimulation
from isthmus.domains.logged import LoggedDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.robots import check_fits
from isthmus.domains.rollout import rollout_steps
from isthmus.evaluation.evaluate import evaluate
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs import record
from isthmus.logs.log import DataSet, Log
from isthmus.logs.paths import resolve_path
from isthmus.logs.read import read_log
from isthmus.logs.record import Deterministic, record_log
from isthmus.logs.write import write_log
from isthmus.methods import registry
from isthmus.methods.method import State
from isthmus.methods.single_domain import SourceOnly
from isthmus.problems.problem import Access, Problem
from isthmus.studies.compare import compare
from isthmus.training import train as loop
from isthmus.training.collect import log_target
from isthmus.training.older_runs import keep_shapes
from isthmus.training.run import Run
from isthmus.types import BadValue, BudgetExceeded, IsthmusError, Metrics

HOPPER = parse_domain("hopper")


def uniform(where: Domain) -> UniformBehaviour:
    return UniformBehaviour(where.spaces.low, where.spaces.high)


@cache
def made(text: str = "hopper", steps: int = 300) -> Log:
    where = parse_domain(text)
    return record_log(where, uniform(where), steps, seed=3)


def same(first: Log, second: Log) -> bool:
    return all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(first, second, strict=True)
    )


def arrays(log: Log) -> dict[str, np.ndarray]:
    """What an .npz of D4RL's names holds."""
    return {
        "observations": log.obs,
        "actions": log.action,
        "rewards": log.reward,
        "next_observations": log.next_obs,
        "terminals": log.terminated,
        "timeouts": log.truncated,
    }


def saved(folder: Path, without: tuple[str, ...] = (), **changes: Any) -> str:
    held = {**arrays(made()), **changes}
    np.savez(folder / "d.npz", **{k: v for k, v in held.items() if k not in without})
    return str(folder / "d.npz")


# Round trips


@pytest.mark.parametrize("name", ["d.npz", "d"])
@pytest.mark.parametrize(("text", "steps"), [("hopper", 300), ("reacher/damping=x2", 120)])
def test_what_is_read_is_what_was_made(tmp_path, name, text, steps):
    where = parse_domain(text)
    _, tr = rollout_steps(where, where.worlds(1, 3), uniform(where), steps)
    write_log(tmp_path / name, made(text, steps), {"domain": str(where), "seed": 3}, where)
    data = read_log(str(tmp_path / name), where)
    for field in ("obs", "action", "reward", "next_obs", "terminated"):
        assert np.array_equal(getattr(data.log, field), getattr(tr, field)[:, 0]), field
    cut = ~(tr.terminated | tr.truncated)[-1, 0]
    assert (
        np.array_equal(data.log.truncated[:-1], tr.truncated[:-1, 0])
        and data.log.truncated[-1] == cut
    )
    assert same(data.log, made(text, steps)) and data.log.digest() == made(text, steps).digest()
    assert data.metadata == {"domain": str(where), "seed": 3} and data.notes == ()
    assert (
        data.log.episodes == 1 + (tr.terminated | tr.truncated)[:-1].sum() and data.log.episodes > 2
    )
    assert not data.log.obs.flags.writeable


def test_minari_itself_reads_ours(tmp_path, monkeypatch):
    write_log(tmp_path / "hop", made(), {}, HOPPER)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    theirs = minari.load_dataset("hop")
    assert theirs.total_steps == 300 and theirs.total_episodes == made().episodes
    obs = np.concatenate([each.observations[:-1] for each in theirs])
    assert np.array_equal(obs, made().obs)
    assert theirs.action_space.shape == (3,) and theirs.spec.env_spec is None
    monkeypatch.chdir("/")
    assert resolve_path("hop:5") == f"{tmp_path}/hop:5", "an id in Minari's own folder is a path"


@pytest.mark.parametrize(
    ("id", "text"), [("Hopper-v5", "hopper/gravity=x2"), ("HalfCheetah-v5", "half_cheetah")]
)
def test_what_plain_minari_collected(tmp_path, monkeypatch, id, text):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gymnasium.make(id, max_episode_steps=40))
    env.action_space.seed(0)
    rows, episode = [], -1
    for _ in range(3):
        obs, _ = env.reset(seed=episode + 1)
        episode, over = episode + 1, False
        while not over:
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            rows.append(
                (obs, action, reward, following, terminated, truncated and not terminated, episode)
            )
            obs, over = following, terminated or truncated
    env.reset()
    env.step(env.action_space.sample())  # cut short by hand: Minari says truncated
    with pytest.warns(UserWarning):
        env.create_dataset(f"{id.lower()}/random-v0")
    env.close()
    log = read_log(resolve_path(f"{id.lower()}/random-v0"), parse_domain(text)).log
    assert log.size == len(rows) + 1 and log.episodes == 4 and log.truncated[-1]
    for column, expected in zip(log, zip(*rows)):
        assert np.array_equal(column[:-1], np.array(expected).astype(column.dtype))
    with pytest.raises(BadValue, match="is another robot's log"):
        read_log(resolve_path(f"{id.lower()}/random-v0"), parse_domain("walker2d"))


def test_nothing_is_written_over_and_nothing_half(tmp_path, monkeypatch):
    for name in ("d.npz", "d"):
        write_log(tmp_path / name, made(), {}, HOPPER)
        with pytest.raises(BadValue, match="is there already"):
            write_log(tmp_path / name, made(), {}, HOPPER)
    (tmp_path / "file").touch()
    with pytest.raises(BadValue, match=r"cannot write .*file/d.npz: "):
        write_log(tmp_path / "file" / "d.npz", made(), {}, HOPPER)
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_log(tmp_path / "other", made(), {}, HOPPER)
    assert not (tmp_path / "other").exists()


def test_ctrl_c_keeps_what_was_made():
    def stop(done: int) -> None:
        if done == 1000:
            raise KeyboardInterrupt

    log = record_log(HOPPER, uniform(HOPPER), 3000, seed=3, on_step=stop)
    assert log.size == 1000 and log.truncated[-1] and same(log.first(300), made())
    with pytest.raises(BadValue, match="steps=0"):
        record_log(HOPPER, uniform(HOPPER), 0)


def test_ctrl_c_loses_little_of_a_robots_time(monkeypatch):
    where, step, done = parse_domain("gym:Hopper-v5"), ForeignSimulation.step, 0
    whole = record_log(where, uniform(where), 60, seed=3)
    monkeypatch.setattr(record, "LIVE_CHUNK_STEPS", 500)
    assert same(record_log(where, uniform(where), 60, seed=3), whole), (
        "the parts are not seen in the log"
    )
    monkeypatch.undo()

    def stopped(*given: Any, **actions: Any) -> Any:
        nonlocal done
        done += 1
        if done in (59, 69):
            raise KeyboardInterrupt
        return step(*given, **actions)

    monkeypatch.setattr(ForeignSimulation, "step", stopped)
    assert same(record_log(where, uniform(where), 60, seed=3), whole.first(50))
    with pytest.raises(KeyboardInterrupt):  # nothing was logged yet
        record_log(where, uniform(where), 60, seed=3)


def test_no_log_gets_a_name_that_reads_as_a_cut(tmp_path):
    for name in ("d:500", "d:1episode", "d.npz:3episodes"):
        with pytest.raises(
            BadValue,
            match=r"d.* ends in :\d.*, which --data reads as a cut; name another with --out",
        ):
            write_log(tmp_path / name, made(), {}, HOPPER)
    assert not list(tmp_path.iterdir())


# .npz of others


def test_npz_by_other_names_and_shapes(tmp_path):
    log = made()
    column = {
        "reward": log.reward[:, None].astype(np.float64),
        "done": (log.terminated * 1.0)[:, None],
    }
    held = {
        "obs": log.obs,
        "action": log.action,
        "next_obs": log.next_obs,
        "truncated": log.truncated,
        **column,
    }
    np.savez(tmp_path / "d.npz", **held)
    assert same(read_log(str(tmp_path / "d.npz"), HOPPER).log, log)
    np.savez(tmp_path / "d.npz", **{**held, "done": log.terminated | log.truncated})
    assert same(read_log(str(tmp_path / "d.npz"), HOPPER).log, log), (
        "done with timeouts: what is no timeout is death"
    )


@pytest.mark.parametrize("without", [("timeouts",), ("terminals",)])
def test_one_flag_is_enough_where_next_observations_show_the_ends(tmp_path, without):
    log = read_log(saved(tmp_path, without), HOPPER).log
    assert np.array_equal(log.episode, made().episode)
    assert np.array_equal(log.terminated | log.truncated, made().terminated | made().truncated)
    assert np.array_equal(log.terminated, made().terminated & (without == ("timeouts",)))


@pytest.mark.parametrize("without", [("terminals",), ("terminals", "next_observations")])
def test_a_log_that_cannot_tell_falls_says_so(tmp_path, without):
    note = read_log(saved(tmp_path, without), HOPPER).notes[-1]
    assert (
        note == "timeouts without terminals: no transition counts as a fall; give terminals if the "
        "robot can fall"
    )
    assert (
        read_log(
            saved(tmp_path, ("terminals",), dones=made().terminated | made().truncated), HOPPER
        ).notes
        == ()
    )
    assert read_log(saved(tmp_path, ("timeouts",)), HOPPER).notes == ()


def test_what_is_rounded_is_no_jump(tmp_path):
    data = read_log(
        saved(tmp_path, next_observations=made().next_obs.astype(np.float64) + 1e-9), HOPPER
    )
    assert data.log.episodes == made().episodes and data.notes == ()
    shuffled = {k: v[np.random.default_rng(0).permutation(300)] for k, v in arrays(made()).items()}
    data = read_log(saved(tmp_path, **shuffled), HOPPER)
    (note,) = data.notes
    assert data.log.episodes > 250 and "single transitions, whose returns say nothing" in note


def test_without_next_observations_the_last_of_each_episode_is_left_out(tmp_path):
    log = made()
    data = read_log(saved(tmp_path, ("next_observations",)), HOPPER)
    last = np.append(np.diff(log.episode) != 0, True)
    keep = np.flatnonzero(~last)
    assert np.array_equal(data.log.obs, log.obs[keep]) and np.array_equal(
        data.log.next_obs, log.next_obs[keep]
    )
    assert (
        not data.log.terminated.any()
        and data.log.truncated.sum() == data.log.episodes == log.episodes
    )
    (note,) = data.notes
    fell = log.terminated.sum()
    assert note.startswith(
        f"{last.sum()} transitions without a next observation are left out, {fell} of them falls"
    )


def test_a_time_limit_is_no_death(tmp_path):
    log = made("reacher/damping=x2", 120)
    assert not log.terminated.any() and np.array_equal(np.flatnonzero(log.truncated), [49, 99, 119])
    both = np.zeros(300, bool)
    both[made().terminated.argmax()] = True
    data = read_log(saved(tmp_path, timeouts=made().truncated | both), HOPPER).log
    assert (
        not (data.terminated & data.truncated).any()
        and data.terminated.sum() == made().terminated.sum()
    )


# What is refused, in one line


def bad(array: np.ndarray, value: float, at: int = 7) -> np.ndarray:
    array = array.copy()
    array.reshape(len(array), -1)[at, 0] = value
    return array


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "nan": (
        {"observations": bad(made().obs, np.nan)},
        (),
        "has 1 observations that are NaN .* transition 7",
    ),
    "inf": (
        {"rewards": bad(made().reward, np.inf)},
        (),
        "has 1 rewards that are NaN or infinite, .* 7",
    ),
    "huge": (
        {"next_observations": bad(made().next_obs.astype(np.float64), 1e300)},
        (),
        "1 next observations beyond",
    ),
    "least": (
        {"observations": np.full((300, 11), np.iinfo(np.int64).min)},
        (),
        "has 300 observations beyond",
    ),
    "large": (
        {"observations": bad(made().obs, -2e6)},
        (),
        r"has 1 observations beyond 1e\+06 in size, .* 7",
    ),
    "beyond": (
        {"actions": bad(made().action, 1.5)},
        (),
        r"1 of 300 actions outside the bounds -1\.\.1 of hopper.*7",
    ),
    "robot": (
        {"observations": np.zeros((300, 17)), "next_observations": np.zeros((300, 17))},
        (),
        "is another robot's log: one of 17 observations and 3 actions; hopper has 11 and 3",
    ),
    "empty": ({name: x[:0] for name, x in arrays(made()).items()}, (), "holds no transition"),
    "lengths": (
        {"actions": made().action[:-1]},
        (),
        "has 299 actions and 300 rewards: they need equal lengths",
    ),
    "flat": ({"actions": made().reward}, (), r"actions \(300,\); each needs rows"),
    "next": (
        {"next_observations": np.zeros((300, 12))},
        (),
        r"next_observations of shape \(300, 12\)",
    ),
    "unnamed": ({}, ("actions",), "has no actions; it holds: observations, rewards"),
    "endless": ({}, ("terminals", "timeouts"), "does not say where episodes end"),
    "dones": (
        {"dones": made().terminated},
        ("terminals", "timeouts"),
        "dones alone, which do not tell death",
    ),
    "across": ({}, ("timeouts", "next_observations"), "transitions would reach across episodes"),
    "nan end": (
        {"terminals": bad(made().terminated * 1.0, np.nan)},
        (),
        "has 1 terminals that are NaN .*transition 7",
    ),
    "nan limit": (
        {"timeouts": bad(made().truncated * 1.0, np.nan)},
        (),
        "has 1 timeouts that are NaN .*transition 7",
    ),
    "two rewards": (
        {"rewards": np.zeros((300, 2))},
        (),
        r"has rewards of shape \(300, 2\): needs one number",
    ),
    "two ends": (
        {"terminals": np.zeros((300, 2), bool)},
        (),
        r"has terminals of shape \(300, 2\): needs one number",
    ),
    "single": (
        {"rewards": np.float32(1)},
        (),
        "has a single number in rewards, not one a transition",
    ),
    "metadata": (
        {"metadata": np.array("{'a'}")},
        (),
        "has metadata that is no JSON: Expecting property name",
    ),
    "text": ({"actions": np.full((300, 3), "1.0")}, (), "has no numbers in actions, but <U3"),
    "pickled": (
        {"actions": np.array([object()] * 300)},
        (),
        "cannot be read as a data set: it holds pickled objects",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_npz_gets_one_line(tmp_path, case):
    changes, without, said = BAD[case]
    with pytest.raises(BadValue, match=said) as caught:
        read_log(saved(tmp_path, without, **changes), HOPPER)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "d.npz"))


def test_a_bound_in_other_precision_is_the_bound(tmp_path):
    log = read_log(
        saved(tmp_path, actions=bad(made().action.astype(np.float64), 1 + 1e-6)), HOPPER
    ).log
    assert log.action[7, 0] == 1


def test_another_robot_of_the_same_sizes(tmp_path):
    where = parse_domain("walker2d")
    write_log(tmp_path / "d", made("walker2d", 20), {"domain": "walker2d/gravity=x2"}, where)
    assert read_log(str(tmp_path / "d"), where).log.size == 20
    with pytest.raises(
        BadValue, match=r"another robot's log: Walker2d of 17 .* half_cheetah.* has 17 and 6"
    ):
        read_log(str(tmp_path / "d"), parse_domain("half_cheetah/gravity=x2"))


def test_the_same_robot_seen_or_shifted_otherwise(tmp_path):
    write_log(tmp_path / "d", made(), {"domain": "hopper"}, HOPPER)
    with pytest.raises(BadValue, match="was sensed or moved otherwise: Hopper of 11 observations"):
        read_log(str(tmp_path / "d"), parse_domain("hopper/history=2"))
    (note,) = read_log(str(tmp_path / "d"), parse_domain("hopper/density=2")).notes
    assert note.startswith("this log was made in hopper, the target is hopper/density=")
    assert (
        read_log(str(tmp_path / "d"), HOPPER).notes
        == read_log(str(tmp_path / "d"), parse_domain("log:hopper")).notes
        == ()
    )


def edited(path: Path, change: Any) -> str:
    write_log(path, made(), {}, HOPPER)
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        change(file)
    return str(path)


def replaced(key: str, change: Any) -> Any:
    def edit(file: Any) -> None:
        old = file[f"episode_2/{key}"][()]
        del file[f"episode_2/{key}"]
        file[f"episode_2/{key}"] = change(old)

    return edit


def dictionary(file: Any) -> None:
    del file["episode_0/observations"]
    file["episode_0/observations/part"] = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: [file.pop(name) for name in list(file)], "holds no transition"),
        (dictionary, "has no plain array observations in episode 0: only boxes of floats"),
        (lambda file: file["episode_1"].pop("rewards"), "has no plain array rewards in episode 1"),
        (
            replaced("rewards", lambda x: x[:-1]),
            "has unequal lengths in episode 2: .* n steps need n . 1 observations",
        ),
        (replaced("observations", lambda x: x[:-2]), "has unequal lengths in episode 2"),
        (replaced("terminations", np.ones_like), "has an end in the middle of episode 2"),
        (replaced("actions", lambda x: x * np.nan), "actions that are NaN or infinite"),
        (
            replaced("terminations", lambda x: x * np.nan),
            r"has \d+ terminations of episode 2 that are NaN .*transition 0",
        ),
        (
            replaced("rewards", lambda x: np.stack([x, x], 1)),
            r"has rewards of episode 2 of shape \(\d+, 2\): needs one",
        ),
        (
            replaced("truncations", lambda x: np.stack([x, x], 1)),
            r"has truncations of episode 2 of shape \(\d+, 2\)",
        ),
    ],
)
def test_a_bad_minari_gets_one_line(tmp_path, change, said):
    with pytest.raises(BadValue, match=said) as caught:
        read_log(edited(tmp_path / "d", change), HOPPER)
    assert "\n" not in str(caught.value)


def test_minari_with_columns(tmp_path):
    for i, key in enumerate(("rewards", "terminations", "truncations")):
        assert same(
            read_log(edited(tmp_path / f"{i}", replaced(key, lambda x: x[:, None])), HOPPER).log,
            made(),
        )


def test_minari_without_a_last_observation(tmp_path):
    data = read_log(edited(tmp_path / "d", replaced("observations", lambda x: x[:-1])), HOPPER)
    assert data.log.size == 299 and data.log.episodes == made().episodes and len(data.notes) == 1
    assert data.log.truncated.sum() == made().truncated.sum() + 1


@pytest.mark.parametrize("storage", ["arrow", "parquet", "zarr"])
def test_minaris_other_storages_are_refused(tmp_path, storage):
    """Also where an older hdf5 lies beside: it is not what the data set says that it holds."""
    write_log(tmp_path / "d", made(), {}, HOPPER)
    file = tmp_path / "d" / "data" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data_format": storage}))
    why = (
        "only its hdf5"
        if storage == "zarr"
        else "come back in pieces and appending replaces .*data_format='hdf5'"
    )
    with pytest.raises(BadValue, match=f"is in Minari's format {storage}.* {why}") as caught:
        read_log(str(tmp_path / "d"), HOPPER)
    assert "\n" not in str(caught.value)


def test_minari_with_fewer_steps_than_it_counts(tmp_path):
    first = int(made().lengths[0])
    data = read_log(edited(tmp_path / "d", lambda file: file.pop("episode_0")), HOPPER)
    assert data.notes == (
        f"the file counts 300 steps and holds {300 - first}: what is not there is not read",
    )


def test_minari_appended_to(tmp_path):
    """Two sessions in one hdf5: all episodes of both, counted as the file counts them."""
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    write_log(tmp_path / "d", made(), {}, HOPPER)
    log = made("hopper", 300).first(int(made().lengths[0]))
    again = EpisodeBuffer(
        observations=np.concatenate([log.obs, log.next_obs[-1:]]),  # pyright: ignore
        actions=log.action,  # pyright: ignore
        rewards=log.reward,  # pyright: ignore
        terminations=log.terminated,  # pyright: ignore
        truncations=log.truncated,  # pyright: ignore
    )
    MinariStorage.read(tmp_path / "d" / "data").update_episodes([again])
    data = read_log(str(tmp_path / "d"), HOPPER)
    assert (
        data.log.episodes == made().episodes + 1
        and data.log.size == 300 + log.size
        and data.notes == ()
    )


def test_what_is_no_data_set_gets_one_line(tmp_path):
    with pytest.raises(BadValue, match=r"there is no data set .*make one: isthmus collect"):
        isthmus.problem("hopper/gravity=x2", data=str(tmp_path / "gone"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d.npz").write_bytes(b"no zip")
    (tmp_path / "arrow" / "data").mkdir(parents=True)
    (tmp_path / "arrow" / "data" / "metadata.json").write_text('{"data_format": "arrow"}')
    (tmp_path / "torn" / "data").mkdir(parents=True)
    (tmp_path / "torn" / "data" / "main_data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n torn")
    whole = Path(saved(tmp_path / "d"))
    whole.with_name("half.npz").write_bytes(whole.read_bytes()[:5000])
    encrypted = re.sub(
        rb"(PK\x01\x02.{4})\x00", rb"\1" + b"\x01", whole.read_bytes(), flags=re.DOTALL
    )
    whole.with_name("encrypted.npz").write_bytes(encrypted)
    edited(tmp_path / "braces", lambda _: None)
    (tmp_path / "braces" / "data" / "metadata.json").write_bytes(b"\xff{")
    np.save(tmp_path / "one.npy", made().obs)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, said in (("d", "is no data set"), ("d.npz", "cannot be read"), ("arrow", "is in Minari's " "format arrow"),  # noqa: E501
                       ("torn", "cannot be read"), ("d/half.npz", "cannot be read"), ("gone", "is missing"),  # noqa: E501
                       ("one.npz", "is one array"), ("braces", "has metadata.json that " "is " "no " "JSON: "),  # noqa: E501
                       ("d/encrypted.npz", "cannot be read as a data set: .* is encrypted"),
                       ("d" * 5000, "d cannot be read: file name too long")):  # fmt: skip
        with pytest.raises(BadValue, match=said) as caught:
            read_log(str(tmp_path / name), HOPPER)
        assert "\n" not in str(caught.value) and "Error" not in str(caught.value)


def d4rl_file(path: Path, following: bool = True) -> Path:
    """The made log as D4RL lays its files out: arrays beside groups of all kinds."""
    whole = arrays(made())
    if not following:
        del whole["next_observations"]
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in whole.items():
            file[name] = array
        file["infos/qpos"] = np.zeros((made().size, 6))
        file["metadata/algorithm"] = "SAC"
    return path


@pytest.mark.parametrize("following", [True, False])
def test_d4rls_file_is_converted_as_the_page_says(tmp_path, monkeypatch, following):
    monkeypatch.chdir(tmp_path)
    d4rl_file(tmp_path / "hopper_medium-v2.hdf5", following)
    page = (Path(__file__).parents[2] / "docs" / "guide" / "datasets.md").read_text()
    (snippet,) = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "h5py" in code
    ]
    exec(snippet, {})
    data = read_log("hopper_medium-v2.npz", HOPPER)
    lost = 0 if following else made().episodes
    assert data.log.size == made().size - lost and set(
        np.load("hopper_medium-v2.npz").files
    ) <= set(arrays(made()))
    assert not following or same(data.log, made())


@pytest.mark.parametrize("place", ["alone", "beside Minari's"])
@pytest.mark.parametrize("name", ["hopper_medium-v2.hdf5", "walker.h5"])
def test_d4rls_file_is_refused_with_a_way_to_convert_it(tmp_path, place, name):
    """Also beside a data set of Minari's, which is not what was named."""
    folder = tmp_path / "alone"
    if place != "alone":
        edited(tmp_path / "d", lambda _: None)
        folder = tmp_path / "d" / "data"
    with pytest.raises(
        BadValue, match=r"minari download .*or make it an .npz as docs/guide/datasets.md says"
    ) as caught:
        read_log(str(d4rl_file(folder / name)), HOPPER)
    assert "\n" not in str(caught.value)


def test_what_may_not_be_read_gets_one_line(tmp_path, monkeypatch):
    path, exists, denied = saved(tmp_path), Path.exists, PermissionError(13, "Permission denied")

    def closed(path: Path) -> bool:
        if "closed" in path.parts:
            raise denied
        return exists(path)

    def load(*_: Any, **__: Any) -> Any:
        raise denied

    monkeypatch.setattr(Path, "exists", closed)
    monkeypatch.setattr(np, "load", load)
    inside = tmp_path / "closed" / "d.npz"
    for call in (lambda: resolve_path(f"{inside}:5"), lambda: read_log(f"{inside}:5", HOPPER),
                 lambda: write_log(inside, made(), {}, HOPPER)):  # fmt: skip
        with pytest.raises(BadValue, match=r"^/.*/closed/d.npz cannot be read: permission denied$"):
            call()
    with pytest.raises(BadValue, match=r"^/.*/d.npz cannot be read: permission denied$"):
        read_log(path, HOPPER)
    with pytest.raises(BadValue, match=r"^d+ cannot be read: file name too long$"):
        resolve_path("d" * 5000)


def test_a_name_of_minaris_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name = "mujoco/hopper/expert-v0"
    with pytest.raises(
        BadValue,
        match=f"no data set '{name}' here or in {tmp_path}; get it: minari download {name}, ",
    ):
        resolve_path(f"{name}:5000")
    with pytest.raises(
        BadValue, match=f"no data set 'logs/gone' here or in {tmp_path}; make one: isthmus collect"
    ):
        resolve_path("logs/gone")


class Exploding:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_nothing_is_unpickled_and_no_environment_made(tmp_path, monkeypatch):
    path = saved(tmp_path, extra=np.array([Exploding(tmp_path / "trace")], object))
    assert same(read_log(path, HOPPER).log, made()), "what is not asked for is not read"
    with pytest.raises(BadValue, match="pickled"):
        read_log(
            saved(tmp_path, rewards=np.array([Exploding(tmp_path / "trace")] * 300, object)), HOPPER
        )
    write_log(tmp_path / "d", made(), {}, HOPPER)
    for key in (
        "observation_space",
        "action_space",
    ):  # Minari would make the environment to learn them
        file = tmp_path / "d" / "data" / "metadata.json"
        held = json.loads(file.read_text())
        held.pop(key)
        spec = json.dumps({"id": "Hopper-v5", "kwargs": {}})
        file.write_text(
            json.dumps({**held, "env_spec": spec, "isthmus": 5})
        )  # not what we write there
    monkeypatch.setattr(gymnasium, "make", lambda *_, **__: pytest.fail("an environment was made"))
    assert same(read_log(str(tmp_path / "d"), HOPPER).log, made())
    assert not (tmp_path / "trace").exists()


# Its size


def test_sizes_are_cut_from_the_begin(tmp_path):
    path, log = saved(tmp_path), made()
    at = lambda cut: read_log(path + cut, HOPPER).log
    assert same(at(":300"), at("")) and same(at(f":{log.episodes}episodes"), at(""))
    assert (
        np.array_equal(at(":100").obs, log.obs[:100])
        and at(":100").truncated[-1] != at(":100").terminated[-1]
    )
    assert at(":1episode").size == log.lengths[0] and at(":1episode").episodes == 1
    assert at(":3episodes").size == log.lengths[:3].sum()
    inside = int(log.lengths[0]) - 1
    assert at(f":{inside}").truncated[-1] and not at(f":{inside}").terminated.any(), (
        "a cut is no death"
    )
    for cut, said in (
        (":301", "holds 300 transitions; 301 were asked for"),
        (":0", "holds 300 transitions; 0"),
        (":999episodes", f"holds {log.episodes} episodes; 999 were asked for"),
    ):
        with pytest.raises(BadValue, match=said):
            at(cut)
    for cut in (":5_000", ":1,000", ":abc", ":-5", ":", ":x:5"):
        with pytest.raises(
            BadValue,
            match=f"the cut '{cut}' of .*d.npz is not understood; write D:5000 or D:1episode",
        ):
            resolve_path(path + cut)


# Coverage


def hand_made() -> Log:
    """Reacher, two worlds of which one is cut short: returns -50 and (cut) 7."""
    size = 60
    obs = np.zeros((size, 10), np.float32)
    obs[:, 0] = np.arange(size) / (size - 1)
    obs[:, 1] = 5
    action = np.zeros((size, 2), np.float32)
    action[:15, 0], action[15:30, 0] = 1, -1
    action[:, 1] = 0.25
    reward = np.r_[-np.ones(50), 0.7 * np.ones(10)].astype(np.float32)
    truncated = np.isin(np.arange(size), [49, 59])
    return Log(
        obs, action, reward, obs, np.zeros(size, bool), truncated, np.repeat([0, 1], [50, 10])
    )


@dataclass
class Half:
    """The policy that pushes with half of joint 0's strength, and not with joint 1's."""

    first: float = 0.5

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observations: Any) -> tuple[Any, tuple]:
        return np.tile(np.array([self.first, 0.0], np.float32), (len(observations), 1)), memory


@pytest.fixture
def half() -> Half:
    return Half()


def test_coverage_says_what_is_in_a_log(half):
    reacher = parse_domain("reacher")
    data = DataSet("D:60", hand_made(), {}, ("a note",))
    own = hand_made()._replace(obs=hand_made().obs * 2, action=np.full((60, 2), 0.5, np.float32))
    found = describe_coverage(data, reacher, half, own)
    assert (found.transitions, found.episodes, found.whole, found.falls) == (60, 2, 1, 0)
    assert found.returns.tolist() == [-50] and found.lengths.tolist() == [50]
    assert found.seconds == pytest.approx(60 * 0.02)
    first, second = found.states[:2]
    assert np.allclose(first.quantiles, (0, 0.05, 0.5, 0.95, 1)) and second.quantiles == (5,) * 5
    assert first.away == pytest.approx((0.5 - 1) / (2 * hand_made().obs[:, 0].std()), rel=1e-5)
    assert np.isnan(second.away or 0), (
        "what never changes in the source has no spread to measure by"
    )
    a, b = found.actions
    assert (a.at_bounds, b.at_bounds) == (0.5, 0.0)
    assert a.away == pytest.approx(
        (15 * 0.5 + 15 * 1.5 + 30 * 0.5) / 60
    ) and b.away == pytest.approx(0.25)
    assert (a.noise, b.noise) == pytest.approx((0.0, 0.5)) and found.distance == pytest.approx(
        (0.75 + 0.25) / 2
    )
    said = "\n".join(found.lines())
    assert (
        "60 transitions, 1 s of the robot: 2 episodes, of which 1 cut short" in said
        and "a note" in said
    )
    assert "returns  mean -50.0;" in said and "made by  unknown" in said and "at bounds" in said
    known = {
        "policy": {"method": "ppo", "seed": 3, "source": "reacher"},
        "domain": "reacher/damping=x2",
    }
    theirs, nobodys = (
        {"env_spec": '{"id": "Reacher-v5", "kwargs": {}}'},
        "unknown: the file does not say",
    )
    for metadata, who, where in (
        (known, "ppo, seed 3, trained in reacher; exploring", "reacher/damping=x2"),
        (theirs | {"algorithm_name": "SAC"}, "SAC", "Reacher-v5"),
        (theirs, nobodys, "Reacher-v5"),
        ({}, nobodys, nobodys),
    ):
        told = describe_coverage(replace(data, metadata=metadata), reacher).lines()
        assert {f"made by  {who}", f"made in  {where}"} <= set(told)
    assert "only 60 transitions" in said and "1 actions never change" in said
    other = describe_coverage(data, reacher, half, own, Half(0.0))
    assert [a.noise for a in other.actions] == pytest.approx([0.5, 0.5]), (
        "held against what acted in the source"
    )
    assert [a.away for a in other.actions] == [a.away for a in found.actions]
    alone = describe_coverage(data, reacher)
    assert alone.distance is None and "away" not in "\n".join(alone.lines())


def test_one_short_episode_is_warned_of():
    data = DataSet("D", hand_made().first(8), {}, ())
    said = "\n".join(describe_coverage(data, parse_domain("reacher")).lines())
    assert (
        "only one episode" in said
        and "of episodes cut short: no return of this target is known" in said
    )


def test_a_policy_that_remembers_is_not_held_against_a_log():
    class Remembering(Half):
        def memory(self) -> Any:
            return np.zeros(1)

    with pytest.raises(BadValue, match="a policy that remembers"):
        policy_actions(Remembering(), np.zeros((3, 10)))


# A method that learns from a log, and a target that is not touched


@dataclass(frozen=True)
class FromLog(SourceOnly):
    """Trains in the source; its round says what the log pays."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET})

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        assert problem.log().obs.shape[1] == problem.source.spaces.observation
        return super().init(problem, seed, start)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        s, metrics = super().step(problem, s)
        return s, {**metrics, "logged": float(problem.log().reward.sum())}


@pytest.fixture(autouse=True)
def from_log(monkeypatch: pytest.MonkeyPatch) -> None:
    row = registry.MethodEntry(f"{__name__}:FromLog", "dataset", "PPO", "a test")
    monkeypatch.setitem(registry.METHODS._entries, "from_log", row)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run of the source, whose policy logs."""
    return tiny.train(
        "source_only", tmp_path_factory.mktemp("runs") / "run", problem=isthmus.problem("hopper")
    )


def train(folder: Path, data: str, target: str = "", rounds: int = 3, **changes: Any) -> Run:
    problem = isthmus.problem("hopper/gravity=x2", data=data, target=target)
    return tiny.train("from_log", folder / "run", rounds, problem=problem, **changes)


def test_training_reads_the_log_and_touches_no_target(tmp_path, monkeypatch, capfd):
    path = saved(tmp_path)
    write_log(tmp_path / "d", made(), {"domain": "hopper"}, HOPPER)
    free = train(tmp_path, str(tmp_path / "d"), quiet=False)
    assert (
        "this log was made in hopper, the target is hopper/gravity="
        in capfd.readouterr().err.replace("\n", " ")
    )
    assert {r["logged"] for r in free.metrics() if r["kind"] == "round"} == {
        float(f"{made().reward.sum():.6g}")
    }
    assert all("target_return" in r for r in free.metrics() if r["kind"] == "evaluation")

    simulation = domain._simulation

    def poisoned(where: Domain, n: int, purpose: str) -> Any:
        assert where != free.problem.target, "training stepped the target"
        return simulation(where, n, purpose)

    monkeypatch.setattr(domain, "_simulation", poisoned)
    monkeypatch.setattr(loop, "_evaluate", lambda *_: {})
    (tmp_path / "poisoned").mkdir()
    assert train(tmp_path / "poisoned", path).digest == free.digest


def test_the_door_to_the_log(tmp_path):
    path = saved(tmp_path)
    problem = isthmus.problem("hopper/gravity=x2", data=f"{path}:50")
    assert (
        problem.access == Access.DATASET
        and problem.log().size == 50
        and problem.log() is problem.log()
    )
    again = Problem.from_data(problem.describe())
    assert again == problem and same(again.log(), problem.log())
    row = keep_shapes(problem).log()
    assert row.size == 1 and [x.dtype for x in row] == [x.dtype for x in problem.log()]
    assert row.obs.shape[1:] == (11,) and row.action.shape[1:] == (3,)
    for access in ("none", "online", "few_shot"):
        with pytest.raises(
            BudgetExceeded, match=f"access is {access}: training may not read a log"
        ):
            isthmus.problem("hopper/gravity=x2", access=access).log()
        with pytest.raises(BadValue, match=f"data is read with access dataset|not {access}"):
            isthmus.problem("hopper/gravity=x2", access=access, data=path)
    bare = isthmus.problem("hopper-dap")
    assert bare.access == Access.DATASET, "may be audited and collected in without a log"
    with pytest.raises(BadValue, match="access dataset needs the target's log: --data D"):
        tiny.train("from_log", tmp_path / "run", problem=bare)
    assert not (tmp_path / "run").exists()
    Run.plan("source_only", bare, 0, 1, {})  # the floor needs none


def test_a_bad_log_is_said_before_anything_begins(tmp_path):
    with pytest.raises(BadValue, match="NaN"):
        train(tmp_path, saved(tmp_path, rewards=bad(made().reward, np.nan)))
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_log_it_began_with(tmp_path):
    path = Path(saved(tmp_path))
    run = train(tmp_path, str(path))
    assert run.config["log"] == {
        "digest": made().digest(),
        "transitions": 300,
        "episodes": made().episodes,
    }
    whole = path.read_bytes()
    saved(tmp_path, rewards=made().reward + 1)
    with pytest.raises(BadValue, match=r"d.npz changed since .* began; put the old one back"):
        isthmus.resume(run.folder, quiet=True)
    path.unlink()
    with pytest.raises(BadValue, match=r"d.npz is missing; put it back"):
        isthmus.resume(run.folder, quiet=True)
    fresh = Run.open(run.folder)
    assert fresh.policy.act((), np.zeros(11, np.float32))[0].shape == (3,), (
        "what was learned is used without the log"
    )
    path.write_bytes(whole)
    isthmus.resume(run.folder, quiet=True)
    planned = Run.plan(
        "from_log",
        isthmus.problem("hopper/gravity=x2", data=str(path)),
        0,
        run.steps,
        tiny.settings("from_log"),
    )
    run.expect(planned)
    with pytest.raises(BadValue, match="holds a run on another log"):
        run.expect({**planned, "log": {**planned["log"], "digest": "0"}})


# A target of which nothing but the log is known


def test_a_target_known_only_by_its_log(tmp_path):
    path = saved(tmp_path)
    problem = isthmus.problem("hopper", source="history=2", target="log", data=saved_wide(tmp_path))
    target = problem.target
    assert str(target) == "log:hopper/history=2" and parse_domain(str(target)) == target
    assert isinstance(target, LoggedDomain) and problem.evaluation_target is target
    assert (target.spaces.observation, target.spaces.action, target.time_limit) == (22, 3, 1000)
    assert problem.log().size == 300 and Problem.from_data(problem.describe()) == problem
    for call in (lambda: target.worlds(1, 0), lambda: target.shift("gravity=x2"), lambda: evaluate(None, target, 1),  # noqa: E501
                 lambda: record_log(target, None, 1), lambda: compare(problem, [], out=tmp_path / "c"),  # noqa: E501
                 lambda: target.simulation(1)):  # fmt: skip
        with pytest.raises(
            BadValue,
            match="known only by its log, in which nothing can be played or measured; name a",
        ):
            call()
    assert not (tmp_path / "c").exists()
    with pytest.raises(BadValue, match="cannot be audited"):
        isthmus.audit(target, target)
    with pytest.raises(
        BadValue,
        match=r"log:hopper is known only by its log, and nothing can be played in it, .* or name a target",  # noqa: E501
    ):
        isthmus.problem("hopper", target="log", access="online")
    assert read_log(path, parse_domain("log:gym:Hopper-v5")).log.size == 300


def saved_wide(folder: Path) -> str:
    """Hopper's log with two observations a step."""
    (folder / "wide").mkdir()
    twice = {
        name: np.tile(arrays(made())[name], 2) for name in ("observations", "next_observations")
    }
    return saved(folder / "wide", **twice)


def test_its_return_is_not_made_up(tmp_path, capsys):
    run = train(tmp_path, saved(tmp_path), target="log")
    evaluations = [row for row in run.metrics() if row["kind"] == "evaluation"]
    assert evaluations and not any(key.startswith("target_r") for row in evaluations for key in row)
    main(["evaluate", str(run.folder), "--episodes", "2"])
    said = capsys.readouterr().out
    assert "known only by its log, its return is not measured; --domain names one" in said
    assert said.count("hopper") >= 2 and "nan" not in said
    main(["evaluate", str(run.folder), "--domain", "hopper/gravity=x2", "--episodes", "2"])
    assert "gravity=19.62" in capsys.readouterr().out
    for command in (["landscape", str(run.folder), "--over", "torso_mass=1..9:2", "foot_friction=1..2:2"],  # noqa: E501
                    ["watch", str(run.folder), "-o", str(tmp_path / "clip.webp")]):  # fmt: skip
        with pytest.raises(SystemExit):
            main(command)
        assert not (tmp_path / "clip.webp").exists()
    main(["report", str(run.folder), "-o", str(tmp_path / "page.html")])
    assert "known only by its log" in (tmp_path / "page.html").read_text()


# The command


def test_collect_logs_the_policy_in_the_target(tmp_path, run, capsys):
    where = parse_domain("hopper/gravity=x2")
    main(
        [
            "collect",
            "hopper/gravity=x2",
            "--policy",
            str(run.folder),
            "--steps",
            "200",
            "-o",
            str(tmp_path / "d"),
        ]
    )
    assert "200 transitions of" in capsys.readouterr().out
    problem = isthmus.problem("hopper/gravity=x2")
    for name, deterministic in (("noisy.npz", False), ("still.npz", True)):
        log_target(run, problem, tmp_path / name, 200, deterministic=deterministic)
    noisy, still = (read_log(str(tmp_path / f"{name}.npz"), where) for name in ("noisy", "still"))
    assert same(read_log(str(tmp_path / "d"), where).log, noisy.log)
    assert same(noisy.log, record_log(where, run.method.behaviour(run.state()), 200))
    assert same(still.log, record_log(where, Deterministic(run.policy), 200)) and not same(
        still.log, noisy.log
    )
    assert np.allclose(policy_actions(run.policy, still.log.obs), still.log.action, atol=1e-6)
    held = noisy.metadata
    assert (
        held["domain"] == str(where)
        and held["transitions"] == 200
        and held["deterministic"] is False
    )
    assert held["policy"]["digest"] == run.digest and held["versions"]["mujoco"]
    assert held["seconds"] == pytest.approx(200 * where.step_seconds)


def test_collect_in_somebody_elses_environment(tmp_path, run):
    problem = isthmus.problem("hopper", target="gym:Hopper-v5")
    log_target(run, problem, tmp_path / "d", 60, deterministic=True)
    data = read_log(str(tmp_path / "d"), problem.target)
    assert data.metadata["domain"] == "gym:Hopper-v5" and data.log.size == 60
    assert np.allclose(policy_actions(run.policy, data.log.obs), data.log.action, atol=1e-6)


def test_collect_refuses_in_one_line(tmp_path, run, monkeypatch):
    out = tmp_path / "d.npz"
    with pytest.raises(
        BadValue, match="takes 11 observations to 3 actions; half_cheetah has 17 and 6"
    ):
        log_target(run, isthmus.problem("half_cheetah"), out, 10)
    with pytest.raises(
        BadValue, match=r"learned on a HalfCheetah; walker2d/gravity=19\.62 is another robot"
    ):
        check_fits(parse_domain("half_cheetah"), parse_domain("walker2d/gravity=x2"))
    check_fits(HOPPER, parse_domain("gym:Hopper-v5"))
    monkeypatch.setattr(SourceOnly, "has_source_action", True)
    with pytest.raises(
        BadValue,
        match="explored with its action for the source, not the deployed one; say --determ",
    ):
        log_target(run, isthmus.problem("hopper"), out, 10)
    monkeypatch.setattr(SourceOnly, "explores", False)
    with pytest.raises(
        BadValue, match="source_only keeps no exploring policy to log with; say --deterministic"
    ):
        log_target(run, isthmus.problem("hopper"), out, 10)
    out.touch()
    monkeypatch.setattr(
        "isthmus.training.collect.record_log", lambda *_: pytest.fail("it was made")
    )
    for path, why in ((out, "is there already"), (tmp_path / "d:500", "reads as a cut")):
        with pytest.raises(IsthmusError, match=why):
            log_target(run, isthmus.problem("hopper"), path, 10, deterministic=True)


def test_audit_says_what_a_log_covers(tmp_path, run, capsys):
    path = saved(tmp_path)
    main(["audit", "hopper/gravity=x2", "--data", path, "--policy", str(run.folder)])
    said = capsys.readouterr().out
    assert (
        "verdict  a shift" in said
        and "300 transitions, 2 s of the robot" in said
        and "foot velocity" in said
    )
    assert "noise: the same of its own exploring" in said
    main(["audit", "hopper", "--target", "log", "--data", f"{path}:1episode"])
    said = capsys.readouterr().out
    assert (
        "verdict" not in said and f"log      {path}:1episode" in said and "only one episode" in said
    )
