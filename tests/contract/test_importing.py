"""Logs off robots: recordings written by the real packages come back as what the robot did."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import recordings
import tiny
from recordings import RATE, Truth, messages_of, simulate, table_of, write_bag

from isthmus.cli.main import main
from isthmus.domains.parse import parse_domain
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.log import Log
from isthmus.logs.read import read_log
from isthmus.logs.record import record_log
from isthmus.logs.recordings.alignment import find_decisions
from isthmus.logs.recordings.import_recording import ImportedLog, import_recording
from isthmus.logs.recordings.recording import sort_naturally
from isthmus.logs.recordings.timing import TopicTiming
from isthmus.methods import registry
from isthmus.physics.motor_names import name_motors
from isthmus.problems.problem import make_problem
from isthmus.tasks.task import find_task
from isthmus.training.train import train
from isthmus.types import BadValue, IsthmusError

BALL = parse_domain("ball")
FIELDS = ("position", "position", "velocity", "velocity")


def imported(folder: Path, recording: Path, text: str, out: str = "log.npz") -> ImportedLog:
    (folder / "robot.toml").write_text(text)
    return import_recording(recording, folder / "robot.toml", folder / out)


def refused(folder: Path, recording: Path, text: str) -> str:
    """The one line of an import that cannot be; nothing is written."""
    before = sorted(folder.iterdir())
    with pytest.raises(IsthmusError) as error:
        imported(folder, recording, text)
    assert sorted({*folder.iterdir()} - {folder / "robot.toml"}) == [
        path for path in before if path.name != "robot.toml"
    ]
    line = str(error.value)
    assert "\n" not in line
    return line


def latest(messages: list[recordings.Message], topic: str, times: np.ndarray) -> np.ndarray:
    """The stamp of the topic's last message at or before each time, in seconds."""
    stamps = [(ns - recordings.BEGIN) / 1e9 for ns, name, _ in messages if name == topic]
    kept = np.sort(np.round(stamps, 3))
    return kept[np.searchsorted(kept, times + 1e-6, side="right") - 1]


def expected_obs(truth: Truth, messages: list[recordings.Message]) -> np.ndarray:
    """What the controller could know at its decisions, [K, 4]."""
    position = truth.at("position", latest(messages, "/joint_states", truth.times))
    velocity = truth.at("velocity", latest(messages, "/speeds", truth.times))
    return np.concatenate([position, velocity], 1).astype(np.float32)


def assert_is_truth(log: Log, truth: Truth, obs: np.ndarray) -> None:
    action = truth.action.astype(np.float32)
    assert log.size == len(truth.times) - 1 and log.episodes == 1
    np.testing.assert_array_equal(log.obs, obs[:-1])
    np.testing.assert_array_equal(log.next_obs, obs[1:])
    np.testing.assert_array_equal(log.action, action[:-1])
    assert log.truncated[-1] and not log.truncated[:-1].any() and not log.terminated.any()


@pytest.mark.represented("20")
@pytest.mark.parametrize("seconds", [20, 600])
def test_three_jittered_rates_give_the_simulators_log_within_a_sample(
    tmp_path: Path, seconds: int
) -> None:
    """Positions at 97 Hz, velocities at 61 Hz, commands at 20 Hz, joints in another order in each
    message.
    """
    truth = simulate(seconds)
    messages = messages_of(truth, permute=True)
    log = imported(tmp_path, write_bag(tmp_path / "bag", messages), recordings.MAP).log
    assert_is_truth(log, truth, expected_obs(truth, messages))
    at_decision = np.concatenate(
        [truth.at("position", truth.times), truth.at("velocity", truth.times)], 1
    )
    # The longest interval of each topic, by the fastest change that there was.
    for column, (rate, field) in enumerate(zip((97, 97, 61, 61), FIELDS)):
        speed = np.abs(np.diff(getattr(truth, field), axis=0)).max() * 1000
        miss = np.abs(log.obs[:, column] - at_decision[:-1, column]).max()
        assert miss <= 1.6 / rate * speed + 1e-6


def written(folder: Path, kind: str, truth: Truth) -> tuple[Path, str, np.ndarray]:
    """A recording of a kind, its map, and the observations that it holds, [K, 4]."""
    rows = np.concatenate(
        [truth.at("position", truth.times), truth.at("velocity", truth.times)], 1
    ).astype(np.float32)
    if kind in ("csv", "parquet"):
        write = recordings.write_csv if kind == "csv" else recordings.write_parquet
        return write(folder / f"run.{kind}", table_of(truth)), recordings.TABLE_MAP, rows
    if kind.startswith("v"):
        path = recordings.write_lerobot(folder / "robot", [truth], kind)
        return path, recordings.LEROBOT_MAP, rows
    messages = messages_of(truth)
    bag = write_bag(folder / "bag", messages, kind.removesuffix(" file"))
    if kind.endswith("file"):
        bag = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    return bag, recordings.MAP, expected_obs(truth, messages)


KINDS = ("MCAP", "MCAP file", "SQLITE3", "SQLITE3 file", "csv", "parquet", "v3.0", "v2.1", "v2.0")


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_comes_back_and_is_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    truth = simulate(10)
    recording, text, obs = written(tmp_path, kind, truth)
    made = imported(tmp_path, recording, text)
    assert_is_truth(made.log, truth, obs)
    read = read_log(f"{tmp_path}/log.npz", BALL).log
    assert all(np.array_equal(a, b) for a, b in zip(read, made.log))
    main(["audit", "ball", "--target", "log", "--data", f"{tmp_path}/log.npz"])
    lines = capsys.readouterr().out
    assert "199 transitions, 10 s of the robot" in lines and "isthmus import of" in lines


def test_a_minari_folder_comes_back_too(tmp_path: Path) -> None:
    recording, text, _ = written(tmp_path, "csv", simulate(10))
    made = imported(tmp_path, recording, text, "data")
    read = read_log(str(tmp_path / "data"), BALL).log
    assert all(np.array_equal(a, b) for a, b in zip(read, made.log))


def test_the_command_prints_what_became_of_each_topic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = messages_of(simulate(10))
    extra = [(ns, "/unused", message) for ns, topic, message in messages if topic == "/commands"]
    bag = write_bag(tmp_path / "bag", sorted(messages + extra, key=lambda m: m[0]))
    (tmp_path / "robot.toml").write_text(recordings.MAP)
    main(["import", str(bag), "--map", f"{tmp_path}/robot.toml", "-o", f"{tmp_path}/log.npz"])
    lines = capsys.readouterr().out
    assert "2 actions, decides" in lines and "not in the map (200 messages)" in lines
    with np.load(tmp_path / "log.npz", allow_pickle=False) as file:
        metadata = json.loads(str(file["metadata"]))
    assert metadata["import"]["topics"]["/speeds"]["messages"] > 500


# Time


def test_a_gap_cuts_and_is_in_the_table(tmp_path: Path, capsys) -> None:
    """No transition reaches over two seconds of silence of one topic."""
    truth = simulate(20)
    begin, end = recordings.BEGIN + 8 * 10**9, recordings.BEGIN + 10 * 10**9
    messages = [m for m in messages_of(truth) if m[1] != "/speeds" or not begin < m[0] < end]
    bag = write_bag(tmp_path / "bag", messages)
    made = imported(tmp_path, bag, "gap = 0.5\n" + recordings.MAP)
    assert made.log.episodes == 2 and 355 <= made.log.size <= 360
    (gap,) = made.topics[1].gaps
    assert gap.topic == "/speeds" and 1.9 < gap.seconds < 2.1
    first = int(made.log.lengths[0])
    assert made.log.truncated[first - 1] and not made.log.terminated.any()
    obs = expected_obs(truth, messages)
    np.testing.assert_array_equal(made.log.next_obs[first - 1], obs[first])
    after = len(truth.times) - 1 - int(made.log.lengths[1])
    np.testing.assert_array_equal(made.log.obs[first:], obs[after:-1])
    assert truth.times[after] >= 10 - 0.01 and truth.times[first] <= 8.05
    uncut = imported(tmp_path, bag, "gap = 3\n" + recordings.MAP, "uncut.npz")
    assert uncut.log.episodes == 1 and uncut.log.size == len(truth.times) - 1


def test_small_steps_back_are_sorted_and_said(tmp_path: Path) -> None:
    """Stamps of every tenth message lie before those of the message before it."""
    truth = simulate(10)
    messages = messages_of(truth)
    swapped = list(messages)
    where = [i for i, message in enumerate(messages) if message[1] == "/joint_states"]
    for i, j in zip(where[::10], where[1::10]):
        (ns_i, topic, first), (ns_j, _, second) = messages[i], messages[j]
        swapped[i], swapped[j] = (ns_i, topic, second), (ns_j, topic, first)
    bag = write_bag(tmp_path / "bag", swapped)
    made = imported(tmp_path, bag, recordings.MAP)
    count = made.topics[0].backward
    assert count > 50 and f"/joint_states: {count} stamps run backwards" in " ".join(made.notes)
    assert_is_truth(made.log, truth, expected_obs(truth, messages))
    line = refused(tmp_path, bag, 'backward = "refuse"\n' + recordings.MAP.strip())
    assert "log.npz is there already" in line
    (tmp_path / "log.npz").unlink()
    line = refused(tmp_path, bag, 'backward = "refuse"\n' + recordings.MAP)
    assert f"{count} of" in line and 'backward = "sort"' in line


def test_a_clock_that_was_set_is_refused(tmp_path: Path) -> None:
    messages = messages_of(simulate(10))
    jumped = []
    for ns, topic, message in messages:
        if topic == "/speeds" and ns > recordings.BEGIN + 5 * 10**9:
            stamp = ns - 3 * 10**9
            message = recordings.joint_state(stamp, message.name, velocity=message.velocity)
        jumped.append((ns, topic, message))
    bag = write_bag(tmp_path / "bag", jumped)
    line = refused(tmp_path, bag, recordings.MAP)
    assert "/speeds" in line and "its clock was set" in line and 'stamp = "received"' in line
    text = recordings.MAP + '[topics."/speeds"]\nstamp = "received"\n'
    assert imported(tmp_path, bag, text).log.size == 199


def test_clocks_that_differ_are_said_and_set_right(tmp_path: Path) -> None:
    """A driver whose stamps are 0.4 s late: the log is right once the map says so."""
    truth = simulate(10)
    messages = messages_of(truth)
    shifted = []
    for ns, topic, message in messages:
        if topic == "/joint_states":
            stamp = ns + 400_000_000
            message = recordings.joint_state(stamp, message.name, position=message.position)
        shifted.append((ns, topic, message))
    bag = write_bag(tmp_path / "bag", shifted)
    wrong = imported(tmp_path, bag, recordings.MAP, "wrong.npz")
    (note,) = [note for note in wrong.notes if "clock =" in note]
    assert "clock = -0.4 " in note and "/joint_states" in note
    text = recordings.MAP + '[topics."/joint_states"]\nclock = -0.4\n'
    right = imported(tmp_path, bag, text)
    assert not [note for note in right.notes if "clock =" in note]
    assert_is_truth(right.log, truth, expected_obs(truth, messages))


@pytest.mark.parametrize(("lost", "said"), [(0, "usual interval is 23.3 ms"), (7, "missing")])
def test_a_log_that_claims_50_hz_and_has_43_is_told_so(
    tmp_path: Path, lost: int, said: str
) -> None:
    """Whether its clock is another, or one message in seven is missing."""
    times = np.arange(860) / 43 if not lost else np.arange(1000) / 50
    if lost:
        times = times[np.arange(1000) % lost != 3]
    size = len(times)
    table = pa.table({"t": times} | {name: np.sin(times) for name in ("px", "py", "vx", "vy")})
    for name in ("ux", "uy"):
        table = table.append_column(name, pa.array(np.cos(times) * 0.5))
    path = recordings.write_csv(tmp_path / "run.csv", table)
    text = recordings.TABLE_MAP.replace("rate = 20", "rate = 50")
    made = imported(tmp_path, path, text)
    (note,) = [note for note in made.notes if "says rate = 50" in note]
    assert ("has 42.8 Hz" in note or "has 43 Hz" in note) and said in note
    if lost:
        assert made.log.size == 999 - (1 if times[-1] < 19.98 else 0)
        assert any("lack a command" in note for note in made.notes)
    else:
        assert made.log.size == size - 1


def timing(interval: float, threshold: float) -> TopicTiming:
    return TopicTiming("/c", 9, 1 / interval, interval, 0.0, 0, np.nan, threshold, ())


def test_decisions_are_commands_and_stand_in_for_lost_ones() -> None:
    stamps = np.array([0.0, 0.021, 0.08, 0.1, 0.101, 0.12, 1.0, 1.02])
    found = find_decisions(stamps, 50.0, timing(0.02, 0.1))
    assert found.held == 2 and found.superseded == 1
    expected = [0, 0.021, 0.021 + 0.059 / 3, 0.021 + 0.118 / 3, 0.08, 0.101, 0.12, 1.0, 1.02]
    np.testing.assert_allclose(found.times, expected)


def test_commands_at_another_rate_are_held_on_a_grid() -> None:
    found = find_decisions(np.arange(0, 1.0, 0.1), 50.0, timing(0.1, 0.5))
    np.testing.assert_allclose(found.times, np.arange(46) / 50)


def test_a_slow_command_holds(tmp_path: Path) -> None:
    """Commands at 5 Hz under decisions at 20 Hz: each is four decisions'."""
    times = np.round(np.arange(200) / 20, 6)
    action = np.repeat(np.linspace(-0.5, 0.5, 50), 4)
    messages = []
    for time, value in zip(times, action):
        ns = recordings.BEGIN + round(time * 1e9)
        for topic, field in (("/joint_states", "position"), ("/speeds", "velocity")):
            state = recordings.joint_state(ns, recordings.JOINTS, **{field: [time, -time]})
            messages.append((ns, topic, state))
        if round(time * 20) % 4 == 0:
            messages.append((ns, "/commands", recordings.command([value, 0.0])))
    log = imported(tmp_path, write_bag(tmp_path / "bag", messages), recordings.MAP).log
    np.testing.assert_array_equal(log.action[:, 0], action[: log.size].astype(np.float32))
    np.testing.assert_array_equal(log.obs[:, 0], times[: log.size].astype(np.float32))
    assert log.size == 196


def test_of_several_command_topics_the_last_decides(tmp_path: Path) -> None:
    """Two motors commanded one after the other in a step: both commands are of that step."""
    truth = simulate(10)
    messages = [m for m in messages_of(truth) if m[1] != "/commands"]
    for time, action in zip(truth.times, truth.action):
        ns = recordings.BEGIN + round(time * 1000) * 1_000_000
        messages.append((ns - 2_000_000, "/north", recordings.command(action[1:])))
        messages.append((ns, "/east", recordings.command(action[:1])))
    text = recordings.MAP.replace("/commands.data[0]", "/east.data[0]")
    text = text.replace("/commands.data[1]", "/north.data[0]")
    bag = write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[0]))
    made = imported(tmp_path, bag, text)
    assert made.became["/east"].endswith("decides")
    assert_is_truth(made.log, truth, expected_obs(truth, messages))


# Values


def test_empty_velocities_say_so_and_can_be_derived(tmp_path: Path) -> None:
    truth = simulate(10)
    messages = [m for m in messages_of(truth) if m[1] != "/speeds"]
    bag = write_bag(tmp_path / "bag", messages)
    text = recordings.MAP.replace("/speeds", "/joint_states")
    line = refused(tmp_path, bag, text)
    assert "velocity[east] is empty" in line and "derivative = true" in line
    for joint in recordings.JOINTS:
        derived = f'{{ from = "/joint_states.position[{joint}]", derivative = true }}'
        text = text.replace(f'"/joint_states.velocity[{joint}]"', derived)
    log = imported(tmp_path, bag, text).log
    velocity = truth.at("velocity", truth.times)[:-1]
    assert log.size == 199 and np.abs(log.obs[:, 2:] - velocity).max() < 0.02


def test_unit_sign_scale_offset_function_and_constant(tmp_path: Path) -> None:
    path = recordings.write_csv(tmp_path / "run.csv", table_of(simulate(5)))
    plain = imported(tmp_path, path, recordings.TABLE_MAP, "plain.npz").log
    text = recordings.TABLE_MAP.replace('"px"', '{ from = "px", unit = "deg", offset = 1 }')
    text = text.replace('"py"', '{ from = "py", sign = -1, scale = 2, function = "cos" }')
    text = text.replace('"vx"', "0.25").replace('"uy"', '{ from = "uy", sign = -1 }')
    log = imported(tmp_path, path, text).log
    np.testing.assert_allclose(log.obs[:, 0], np.deg2rad(plain.obs[:, 0]) + 1, rtol=1e-5)
    np.testing.assert_allclose(log.obs[:, 1], np.cos(-2 * plain.obs[:, 1]), atol=1e-6)
    assert (log.obs[:, 2] == 0.25).all()
    np.testing.assert_array_equal(log.action[:, 1], -plain.action[:, 1])


def test_commands_beyond_the_bounds_are_refused_or_clipped(tmp_path: Path) -> None:
    table = table_of(simulate(5))
    column = table.column("ux").to_numpy() * 100
    table = table.set_column(5, "ux", pa.array(column))
    path = recordings.write_csv(tmp_path / "run.csv", table)
    line = refused(tmp_path, path, recordings.TABLE_MAP)
    assert "commands lie outside -1..1" in line and "clip = true" in line
    text = recordings.TABLE_MAP.replace('"ux"', '{ from = "ux", clip = true }')
    made = imported(tmp_path, path, text)
    assert np.abs(made.log.action).max() == 1 and "clipped" in " ".join(made.notes)
    line = refused(tmp_path, path, recordings.TABLE_MAP + '"z" = "ux"\n')
    assert "log.npz is there already" in line


def test_nan_is_no_value(tmp_path: Path) -> None:
    """The last one holds, and where that is too old the log is cut; nothing NaN comes through."""
    table = table_of(simulate(10))
    px = table.column("px").to_numpy().copy()
    px[50] = np.nan
    px[100:140] = np.inf
    path = recordings.write_csv(tmp_path / "run.csv", table.set_column(1, "px", pa.array(px)))
    made = imported(tmp_path, path, recordings.TABLE_MAP)
    assert np.isfinite(made.log.obs).all() and made.log.episodes == 2
    assert made.log.obs[50, 0] == made.log.obs[49, 0]
    assert any(note.startswith("41 numbers are NaN") for note in made.notes)


def test_null_rows_of_lists_shift_nothing(tmp_path: Path) -> None:
    """`flatten` leaves them out: each later row would take another's numbers."""
    truth = simulate(10)
    folder = recordings.write_lerobot(tmp_path / "robot", [truth], "v3.0")
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pa.parquet.read_table(file)
    rows = table.column("observation.state").to_pylist()
    rows[3] = None
    nulled = pa.array(rows, pa.list_(pa.float32(), 4))
    table = table.set_column(0, "observation.state", nulled)
    recordings.write_parquet(file, table)
    log = imported(tmp_path, folder, recordings.LEROBOT_MAP).log
    truth_obs = truth.at("position", truth.times).astype(np.float32)
    np.testing.assert_array_equal(log.obs[4:, :2], truth_obs[4:-1])
    np.testing.assert_array_equal(log.obs[3, :2], truth_obs[2])


def test_a_csv_that_begins_with_whole_numbers(tmp_path: Path) -> None:
    """Its columns' kinds are not guessed from the first rows."""
    times = np.arange(60_000) / 20
    head = "t,px,py,vx,vy,ux,uy\n"
    rows = [f"{t:.2f},{0 if t < 2900 else 0.5},0,0,0,0,0\n" for t in times]
    path = tmp_path / "run.csv"
    path.write_text(head + "".join(rows))
    log = imported(tmp_path, path, recordings.TABLE_MAP).log
    assert log.obs[-1, 0] == 0.5 and log.size == len(times) - 1


@pytest.mark.parametrize("unit", ["ns", "timestamp"])
def test_stamps_of_a_table_keep_their_nanoseconds(tmp_path: Path, unit: str) -> None:
    truth = simulate(5)
    table = table_of(truth)
    ns = recordings.BEGIN + np.rint(truth.times * 1e3).astype(np.int64) * 1_000_000
    column = pa.array(ns) if unit == "ns" else pa.array(ns, pa.timestamp("ns"))
    table = table.set_column(0, "t", column)
    text = recordings.TABLE_MAP
    if unit == "ns":
        text = 'time_unit = "ns"\n' + text
    for name in ("run.csv", "run.parquet")[unit == "timestamp" :]:
        write = recordings.write_csv if name.endswith("csv") else recordings.write_parquet
        made = imported(tmp_path, write(tmp_path / name, table), text, f"{name}.npz")
        assert made.topics[0].rate == pytest.approx(RATE, rel=1e-3)


# Episodes


def test_files_are_episodes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for number in (1, 2, 10):
        table = table_of(simulate(3, seed=number))
        recordings.write_parquet(folder / f"episode_{number}.parquet", table)
    log = imported(tmp_path, folder, recordings.TABLE_MAP).log
    assert log.episodes == 3
    firsts = log.obs[np.cumsum(log.lengths) - log.lengths]
    for number, first in zip((1, 2, 10), firsts):
        truth = simulate(3, seed=number)
        np.testing.assert_allclose(first[:2], truth.at("position", truth.times[:1])[0], rtol=1e-6)
    paths = [Path(f"episode_{number}") for number in (10, 2, 1)]
    assert sort_naturally(paths) == paths[::-1]


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_lerobots_episodes_stay_apart(tmp_path: Path, version: str) -> None:
    truths = [simulate(3 + seed, seed=seed) for seed in range(12)]
    folder = recordings.write_lerobot(tmp_path / "robot", truths, version)
    log = imported(tmp_path, folder, recordings.LEROBOT_MAP).log
    assert log.lengths.tolist() == [len(truth.times) - 1 for truth in truths]
    for episode, truth in enumerate(truths):
        actions = log.action[log.episode == episode]
        np.testing.assert_array_equal(actions, truth.action[:-1].astype(np.float32))


def test_an_episode_column_of_a_table(tmp_path: Path) -> None:
    parts = []
    for name, truth in (("b", simulate(3, seed=1)), ("a", simulate(4, seed=2))):
        table = table_of(truth)
        parts.append(table.append_column("run", pa.array([name] * table.num_rows)))
    path = recordings.write_csv(tmp_path / "run.csv", pa.concat_tables(parts))
    log = imported(tmp_path, path, 'episode = "run"\n' + recordings.TABLE_MAP).log
    assert log.lengths.tolist() == [59, 79]


# What is damaged or missing


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
def test_a_compressed_bag_of_sqlite(tmp_path: Path, mode: str) -> None:
    truth = simulate(3)
    messages = messages_of(truth)
    bag = write_bag(tmp_path / "bag", messages, "SQLITE3", mode)
    log = imported(tmp_path, bag, recordings.MAP).log
    assert_is_truth(log, truth, expected_obs(truth, messages))


def test_a_bag_whose_metadata_say_another_qos(tmp_path: Path) -> None:
    """Read by its metadata, rosbags counts such a topic's messages and hands out none."""
    truth = simulate(3)
    messages = messages_of(truth)
    bag = write_bag(tmp_path / "bag", messages)
    metadata = bag / "metadata.yaml"
    assert "depth: 10" in metadata.read_text()
    metadata.write_text(metadata.read_text().replace("depth: 10", "depth: 1"))
    log = imported(tmp_path, bag, recordings.MAP).log
    assert_is_truth(log, truth, expected_obs(truth, messages))


@pytest.mark.parametrize("share", [0.4, 0.73, 0.9999])
def test_a_bag_without_its_end_gives_what_is_whole(tmp_path: Path, share: float) -> None:
    """Power lost: no footer, no metadata.yaml."""
    truth = simulate(20)
    messages = messages_of(truth)
    pictures = []
    for second in np.arange(0, 20, 0.1):  # so that there are many chunks
        ns = recordings.BEGIN + int(second * 1e9)
        pictures.append((ns, "/pictures", recordings.command(np.zeros(8000))))
    together = sorted(messages + pictures, key=lambda message: message[0])
    whole = next(write_bag(tmp_path / "bag", together).glob("*.mcap"))
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "cut_0.mcap").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    made = imported(tmp_path, folder, recordings.MAP)
    assert any("its end is missing" in note and "bytes are lost" in note for note in made.notes)
    size = made.log.size
    assert size > (share - 0.35) * len(truth.times)
    np.testing.assert_array_equal(made.log.obs, expected_obs(truth, messages)[:size])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no.mcap", b"nothing of the kind" * 9),
        ("no.mcap", b""),
        ("no.db3", b"nothing of the kind" * 99),
        ("no.csv", b""),
        ("no.csv", b"t,px,py,vx,vy,ux,uy\n"),
        ("no.csv", b"t,px,py,vx,vy,ux,uy\n0,a,0,0,0,0,0\n"),
        ("no.parquet", b"PAR1nothing"),
        ("no.txt", b"1 2 3"),
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    text = recordings.TABLE_MAP if name.endswith(("csv", "parquet", "txt")) else recordings.MAP
    assert refused(tmp_path, tmp_path / name, text)


@pytest.mark.parametrize(
    ("package", "name"), [("rosbags", "no.mcap"), ("pyarrow", "no.csv"), ("pyarrow", "robot")]
)
def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str
) -> None:
    if name == "robot":
        recordings.write_lerobot(tmp_path / name, [simulate(1)], "v3.0")
    else:
        (tmp_path / name).write_bytes(b"")
    text = recordings.MAP if package == "rosbags" else recordings.TABLE_MAP
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(tmp_path, tmp_path / name, text)
    assert package in line and "pip install 'isthmus[logs]'" in line


BAD_MAPS = [
    ("rate = 20", "rate = 0", "above 0"),
    ("rate = 20", "rate = nan", "above 0|is nan"),
    ("rate = 20", 'rate = "fast"', "needs a number"),
    ("rate = 20", "rat = 20", "unknown key.*'rat'; did you mean rate"),
    ("rate = 20", "", "has no rate"),
    ('task = "ball"', "", "names no task"),
    ('task = "ball"', 'task = "bal"', "unknown task 'bal'; did you mean ball"),
    ('"x velocity" =', '"x speed" =', "unknown observation.*known: x, x velocity, y"),
    ('"x velocity" = "/speeds.velocity[east]"', "", "lacks 'x velocity'"),
    ('"/commands.data[1]"', "true", "write a source's text, a number, or a table"),
    ('"/commands.data[1]"', "{ sign = 1 }", "needs one of from"),
    ('"/commands.data[1]"', '{ from = "/commands.data[1]", sgn = 1 }', "did you mean sign"),
    ('"/commands.data[1]"', '{ from = "/commands.data[1]", sign = 2 }', "needs 1 or -1"),
    ('"/commands.data[1]"', '{ from = "/commands.data[1]", unit = "degr" }', "did you mean deg"),
    ('"/commands.data[1]"', '{ from = "/commands.data[1]", scale = 0 }', "other than 0"),
    ('"/commands.data[1]"', "{ value = 1, sign = -1 }", "takes no sign"),
    ("/commands.data[1]", "/commands.data[7]", "is empty or NaN in all"),
    ("/commands.data[1]", "/commands.dta[1]", "unknown field of /commands.*did you mean data"),
    ("/commands.data[1]", "/commands.data", "is no number"),
    ("/commands.data[1]", "commands", "write /topic.field"),
    ("/commands.data[1]", "/commands.data[", "is no .field and no"),
    ("/commands", "/comands", "unknown topic of bag '/comands'; did you mean /commands"),
    ("position[east]", "position[eats]", "unknown joint of /joint_states 'eats'; did you mean"),
    ("[actions]", '[topics."/speed"]\nclock = 1\n[actions]', "did you mean /speeds"),
    ("[actions]", '[topics."/speeds"]\nstamp = "head"\n[actions]', "did you mean header"),
    ("[actions]", '[topics]\n"/speeds" = 1\n[actions]', "needs a table"),
    ("rate = 20", 'rate = 20\ndecisions = "/command"', "did you mean /commands"),
    ("rate = 20", "rate = = 20", "is no TOML"),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD_MAPS)
def test_a_bad_map_is_one_line_that_names_the_fix(
    tmp_path: Path, bag: Path, old: str, new: str, said: str
) -> None:
    assert old in recordings.MAP
    line = refused(tmp_path, bag, recordings.MAP.replace(old, new))
    assert re.search(said, line), line


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "bag", messages_of(simulate(3)))


def test_a_map_of_columns_that_are_not_there(tmp_path: Path) -> None:
    path = recordings.write_csv(tmp_path / "run.csv", table_of(simulate(3)))
    line = refused(tmp_path, path, recordings.TABLE_MAP.replace('"px"', '"pxx"'))
    assert "unknown column of run.csv 'pxx'; did you mean px" in line
    line = refused(tmp_path, path, recordings.TABLE_MAP.replace('"t"', '"tt"'))
    assert "unknown column of run.csv 'tt'" in line
    folder = recordings.write_lerobot(tmp_path / "robot", [simulate(3)], "v3.0")
    line = refused(tmp_path, folder, recordings.LEROBOT_MAP.replace("[x.pos]", "[x.pso]"))
    assert "unknown entry of observation.state 'x.pso'; did you mean x.pos" in line
    line = refused(tmp_path, folder, recordings.LEROBOT_MAP.replace("[3]", "[4]"))
    assert "have 4 entries" in line
    line = refused(tmp_path, folder, recordings.LEROBOT_MAP.replace("action[x]", "action"))
    assert "action[x]" in line


# Rewards


@pytest.mark.parametrize("name", ["ball", "reacher", "cartpole_swingup"])
def test_rewards_from_what_is_observed_are_the_simulators(name: str) -> None:
    domain, task = parse_domain(name), find_task(name)
    log = record_log(domain, UniformBehaviour(domain.spaces.low, domain.spaces.high), 400)
    terms = task.observed_rewards(log.action, log.next_obs)
    assert terms is not None
    np.testing.assert_allclose(task.total(terms), log.reward, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(task.observed_falls(log.next_obs), log.terminated)
    assert name != "cartpole_swingup" or log.terminated.any()


def hopper_log(folder: Path) -> Path:
    """A log of Hopper from a table, which has no rewards."""
    domain, task = parse_domain("hopper"), find_task("hopper")
    log = record_log(domain, UniformBehaviour(domain.spaces.low, domain.spaces.high), 300)
    motors = name_motors(task.model_path())
    assert motors == ("thigh_joint", "leg_joint", "foot_joint")
    columns = {name: log.obs[:, i] for i, name in enumerate(task.observation_names)}
    columns |= {name: log.action[:, i] for i, name in enumerate(motors)}
    recordings.write_csv(folder / "hopper.csv", pa.table(columns))
    lines = ['task = "hopper"', "rate = 125", "[observations]"]
    lines += [f'"{name}" = "{name}"' for name in task.observation_names]
    lines += ["[actions]", *(f'"{name}" = "{name}"' for name in motors)]
    made = imported(folder, folder / "hopper.csv", "\n".join(lines))
    np.testing.assert_array_equal(made.log.obs, log.obs[:-1])
    assert any(note.startswith("rewards: none") for note in made.notes)
    return folder / "log.npz"


def test_a_log_without_rewards_is_audited_learned_from_and_refused_by_who_needs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(hopper_log(tmp_path))
    main(["audit", "hopper", "--target", "log", "--data", data])
    assert "returns  unknown: the log has no rewards" in capsys.readouterr().out
    problem = make_problem("hopper", target="log", data=data)
    log = problem.log()
    assert not log.has_rewards and np.isnan(log.reward).all()
    method = registry.build("h2o", tiny.settings_of("h2o", {}))
    with pytest.raises(BadValue, match="has no rewards, and this method learns from them"):
        method.init(problem, 0)
    with pytest.raises(BadValue, match="has no rewards"):
        train("h2o", problem, settings=tiny.settings_of("h2o", {}), out=tmp_path / "r", quiet=True)


@pytest.mark.parametrize("name", ["darc", "dap", "dap_inverse", "garat"])
@pytest.mark.represented("dap_inverse")
def test_methods_that_need_no_reward_are_not_touched_by_its_absence(
    tmp_path: Path, name: str
) -> None:
    problem = make_problem("hopper", target="log", data=str(hopper_log(tmp_path)))
    method = registry.build(name, tiny.settings_of(name, {}))
    state = method.init(problem, 0)
    for _ in range(2):
        state, metrics = method.step(problem, state)
    assert all(np.isfinite(value) for value in metrics.values()), metrics


def test_nan_rewards_of_another_log_are_still_refused(tmp_path: Path) -> None:
    data = hopper_log(tmp_path)
    with np.load(data, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "metadata"}
    np.savez(tmp_path / "bare.npz", **arrays)
    with pytest.raises(BadValue, match="rewards that are NaN"):
        read_log(str(tmp_path / "bare.npz"), parse_domain("hopper"))


def test_what_follows_a_fall_is_left_out(tmp_path: Path) -> None:
    """A cart leaves the track at row 100 and is put back at row 120: two episodes."""
    x = np.linspace(0, 2.9, 200)
    x[100:120] = 3.2
    columns = {"x": x, "v": np.sin(x), "a": np.cos(x), "w": np.sin(2 * x), "u": np.sin(3 * x) / 2}
    path = recordings.write_csv(tmp_path / "run.csv", pa.table(columns))
    lines = ['task = "cartpole_swingup"', "rate = 20", "[observations]", '"x" = "x"']
    lines += ['"x velocity" = "v"', '"angle" = "a"', '"angular velocity" = "w"']
    made = imported(tmp_path, path, "\n".join([*lines, "[actions]", '"cart" = "u"']))
    log = made.log
    assert log.lengths.tolist() == [100, 79] and log.terminated.sum() == 1
    assert log.terminated[99] and log.reward[99] == -100 and not log.truncated[99]
    np.testing.assert_allclose(log.reward[:99], np.cos(columns["a"][1:100]), rtol=1e-5)
    read = read_log(f"{tmp_path}/log.npz", parse_domain("cartpole_swingup")).log
    assert all(np.array_equal(a, b) for a, b in zip(read, log))


# More of messages


def test_a_quaternions_angles_and_a_topic_that_is_sent_once(tmp_path: Path) -> None:
    types = recordings.ROS.types
    messages = []
    for i in range(100):
        ns = recordings.BEGIN + i * 50_000_000
        header = recordings.joint_state(ns, ()).header
        half = 0.005 * i
        turn = types["geometry_msgs/msg/Quaternion"](0.0, np.sin(half), 0.0, np.cos(half))
        zero = types["geometry_msgs/msg/Vector3"](0.0, 0.25, 0.0)
        cov = np.zeros(9)
        imu = types["sensor_msgs/msg/Imu"](header, turn, cov, zero, cov, zero, cov)
        messages.append((ns, "/imu", imu))
        messages.append((ns, "/commands", recordings.command([np.sin(i), 0.0])))
    goal = types["geometry_msgs/msg/Point"](0.1, 0.2, 0.3)
    messages.append((recordings.BEGIN + 1_000_000, "/goal", goal))
    bag = write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[0]))
    text = recordings.MAP.replace("/joint_states.position[east]", "/imu.orientation.pitch")
    text = text.replace("/joint_states.position[north]", "/imu.orientation.yaw")
    text = text.replace("/speeds.velocity[east]", "/imu.angular_velocity.y")
    text = text.replace("/speeds.velocity[north]", "/goal.z")
    line = refused(tmp_path, bag, text.replace("/goal.z", "/goal.zed"))
    assert "unknown field of /goal" in line
    log = imported(tmp_path, bag, text + '[topics."/goal"]\ngap = inf\n').log
    assert log.size == 98  # none before the goal is known
    np.testing.assert_allclose(log.obs[:, 0], 0.01 * np.arange(1, 99), rtol=1e-5)
    assert (log.obs[:, 1] == 0).all() and (log.obs[:, 2] == 0.25).all()
    assert (log.obs[:, 3] == np.float32(0.3)).all()
    assert "gap = inf" in refused_fresh(tmp_path, bag, text + "[topics.'/goal']\ngap = 0.01\n")


def refused_fresh(folder: Path, recording: Path, text: str) -> str:
    (folder / "log.npz").unlink()
    return refused(folder, recording, text)


def test_messages_that_lack_a_joint_are_none_of_it(tmp_path: Path) -> None:
    """Two drivers send their own joints on one topic."""
    truth = simulate(10)
    apart = []
    for ns, topic, message in messages_of(truth):
        if topic == "/commands":
            apart.append((ns, topic, message))
            continue
        field = "position" if topic == "/joint_states" else "velocity"
        for i, name in enumerate(message.name):
            values = {field: getattr(message, field)[i : i + 1]}
            apart.append((ns, topic, recordings.joint_state(ns, [name], **values)))
    log = imported(tmp_path, write_bag(tmp_path / "bag", apart), recordings.MAP).log
    assert_is_truth(log, truth, expected_obs(truth, messages_of(truth)))


def test_nothing_is_written_where_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recordings.write_csv(tmp_path / "run.csv", table_of(simulate(3)))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isthmus.logs.write.os.replace", refuse)
    with pytest.raises(BadValue, match="No space left"):
        imported(tmp_path, path, recordings.TABLE_MAP)
    assert not (tmp_path / "log.npz").exists()


# The guide


def cartpole_bag(folder: Path) -> Path:
    messages = []
    for i in range(400):
        ns = recordings.BEGIN + i * 5_000_000
        position, velocity = [400 * np.sin(i / 90), 10.0 * i], [9.0, -7.0]
        state = recordings.joint_state(ns + 12_000_000, ["slider", "pole"], position, velocity)
        messages.append((ns, "/joint_states", state))
        if i % 4 == 0:
            messages.append((ns, "/force_command", recordings.command([12 * np.sin(i)])))
    return write_bag(folder / "bag", messages)


def guide_csv(folder: Path) -> Path:
    table = table_of(simulate(5))
    table = table.append_column("run", pa.array(["one"] * 50 + ["two"] * 50))
    return recordings.write_csv(folder / "run.csv", table)


def guide_parquet(folder: Path) -> Path:
    truth = simulate(5)
    ns = recordings.BEGIN + np.rint(truth.times * 1e9).astype(np.int64)
    columns = {"stamp": pa.array(ns, pa.timestamp("ns"))}
    for field in ("position", "velocity"):
        columns[field] = pa.array(truth.at(field, truth.times).tolist())
    columns |= {"ux": pa.array(truth.action[:, 0]), "uy": pa.array(truth.action[:, 1])}
    return recordings.write_parquet(folder / "run.parquet", pa.table(columns))


GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "importing.md"
WRITERS = {
    "A bag": (cartpole_bag, 98),  # no velocity at the first decision
    "LeRobot": (lambda folder: recordings.write_lerobot(folder / "r", [simulate(5)], "v3.0"), 99),
    "CSV": (guide_csv, 96),  # two episodes, whose first rows have no velocity yet
    "Parquet": (guide_parquet, 99),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_guides_maps_read_such_recordings(tmp_path: Path, kind: str) -> None:
    maps = dict(
        re.findall(r"^\*\*([\w ]+)\*\*.*?```toml\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    )
    assert maps.keys() == WRITERS.keys()
    write, size = WRITERS[kind]
    made = imported(tmp_path, write(tmp_path), maps[kind])
    assert made.log.size == size and np.isfinite(made.log.obs).all()
    if kind == "A bag":
        angle = np.pi - np.deg2rad(10.0 * 4 * np.arange(1, 5))
        np.testing.assert_allclose(made.log.obs[:4, 2], angle, atol=1e-4)
        assert np.abs(made.log.action).max() == 1 and "clipped" in " ".join(made.notes)
