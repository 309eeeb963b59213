"""A robot's recording made into a log: read, put on the controller's decisions, cut at gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.logs.checks import check_log
from isthmus.logs.log import UNKNOWN_REWARDS, Log, close_episodes
from isthmus.logs.paths import check_path_is_free
from isthmus.logs.recordings.alignment import (
    AlignedSignals,
    align_take,
    choose_decision_topic,
)
from isthmus.logs.recordings.message_paths import parse_source
from isthmus.logs.recordings.recording import Progress, Recording
from isthmus.logs.recordings.robot_map import RobotMap, Signal, read_map, read_task_name
from isthmus.logs.recordings.rosbag import read_rosbag
from isthmus.logs.recordings.tables import (
    ROWS,
    TABLE_SUFFIXES,
    is_lerobot,
    read_lerobot,
    read_tables,
)
from isthmus.logs.recordings.timing import (
    RATE_TOLERANCE,
    TopicTiming,
    correct_clocks,
    describe_decisions,
    describe_timing,
    measure_topic,
    sort_stamps,
)
from isthmus.logs.write import write_log
from isthmus.tasks.task import Task, find_task
from isthmus.types import BadValue, UnknownName

BAG_SUFFIXES = (".mcap", ".db3")


class ImportedLog(NamedTuple):
    """What came of a recording."""

    log: Log
    topics: tuple[TopicTiming, ...]
    became: dict[str, str]  # what became of each topic, in words
    notes: tuple[str, ...]
    metadata: dict[str, Any]


class _Transitions(NamedTuple):
    """Transitions of one take, and which of them begin an episode."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    begins: np.ndarray


def import_recording(
    recording: Path, map_path: Path, out: Path, on_message: Progress | None = None
) -> ImportedLog:
    """Make a log of a robot's recording by a map, and write it to `out`, whole or not at all.

    `recording` is a bag of ROS 2 (MCAP or sqlite3), a LeRobot folder, a CSV or Parquet file, or a
    folder of those. `out` is as for `write_log`. Raises BadValue or UnknownName in one line.
    """
    check_path_is_free(out)
    task = find_task(read_task_name(map_path))
    domain = parse_domain(task.name)
    robot = read_map(map_path, task.observation_names, _name_task_motors(task))
    read = read_recording(recording, robot, on_message)
    imported = align_recording(read, robot, task, domain)
    imported.metadata["algorithm_name"] = f"isthmus import of {recording.name}"
    write_log(out, imported.log, imported.metadata, domain)
    return imported


def _name_task_motors(task: Task) -> tuple[str, ...]:
    from isthmus.physics.motor_names import name_motors

    return name_motors(task.model_path())


def read_recording(path: Path, robot: RobotMap, on_message: Progress | None = None) -> Recording:
    """Read what the map names from a recording of any format. Raises BadValue or UnknownName."""
    if not path.exists():
        raise BadValue(f"there is no recording {path}")
    if is_lerobot(path):
        return read_lerobot(path, robot.sources, on_message)
    held = [path]
    if path.is_dir():
        held = sorted(path.iterdir())
    suffixes = {file.suffix for file in held}
    if suffixes & set(BAG_SUFFIXES) or (path / "metadata.yaml").exists():
        stamp_by = {topic: options.stamp for topic, options in robot.topics.items()}
        return read_rosbag(path, robot.sources, stamp_by, on_message)
    if suffixes & set(TABLE_SUFFIXES):
        return read_tables(path, robot.sources, robot.columns, robot.rate, on_message)
    raise BadValue(
        f"{path} is no recording that is known: needs a bag of ROS 2 (.mcap, .db3 or its folder), "
        "a LeRobot folder (meta/info.json), .csv, .parquet or a folder of those"
    )


def align_recording(
    recording: Recording, robot: RobotMap, task: Task, domain: Domain
) -> ImportedLog:
    """Return the log of a recording, with what its stamps say and what became of its topics."""
    takes = [correct_clocks(take, robot) for take in recording.takes]
    takes = [take for take in takes if all(len(stream.stamps) for stream in take.values())]
    if not takes:
        raise BadValue("the recording holds no rows")
    topic_of = _find_topics(robot, list(takes[0]))
    _check_topics(robot, list(takes[0]))
    timings = [measure_topic(takes, topic, robot) for topic in takes[0]]
    ordered = [sort_stamps(take, timings, robot) for take in takes]
    commanded = [topic_of[signal.source] for signal in robot.actions if signal.source]
    if not commanded:
        raise BadValue(f"{robot.path} [actions] names constants alone: name what was commanded")
    decide_by = robot.decisions or choose_decision_topic(ordered[0], list(dict.fromkeys(commanded)))
    by_name = {timing.topic: timing for timing in timings}
    aligned = [align_take(take, robot, decide_by, topic_of, by_name) for take in ordered]
    longest = max(by_name[decide_by].threshold, 1.5 / robot.rate)
    parts = [_list_transitions(take, longest) for take in aligned]
    log, reward_notes = _make_log(parts, task)
    _check_size(log, aligned, timings)
    log, clipped = _clip_actions(log, robot, domain)
    notes = (
        *recording.notes,
        *describe_timing(timings, robot, recording.claimed_rate),
        *describe_decisions(by_name[decide_by], robot),
        *_note_decisions(aligned, robot),
        *clipped,
        *_note_step(domain, robot),
        *reward_notes,
    )
    metadata = _describe_import(log, robot, timings, notes)
    check_log(log, metadata, domain)
    became = _say_what_became(robot, topic_of, decide_by, recording)
    return ImportedLog(log, tuple(timings), became, notes, metadata)


def _find_topics(robot: RobotMap, topics: Sequence[str]) -> dict[str, str]:
    """Return the topic of each source: a table has one."""
    if topics == [ROWS]:
        return dict.fromkeys(robot.sources, ROWS)
    return {source: parse_source(source).topic for source in robot.sources}


def _check_topics(robot: RobotMap, topics: Sequence[str]) -> None:
    for topic in (*robot.topics, robot.decisions):
        if topic and topic not in topics:
            raise UnknownName(f"topic in {robot.path}", topic, topics)


def _list_transitions(take: AlignedSignals, longest: float) -> _Transitions:
    """Return the transitions between neighbouring decisions that are both known.

    None is longer than `longest` seconds: there the controller was silent.
    """
    near = np.diff(take.decisions.times) <= longest
    joined = take.valid[:-1] & take.valid[1:] & near
    rows = np.flatnonzero(joined)
    begins = np.diff(rows, prepend=-2) > 1
    return _Transitions(take.obs[rows], take.action[rows], take.obs[rows + 1], begins)


def _make_log(parts: Sequence[_Transitions], task: Task) -> tuple[Log, tuple[str, ...]]:
    """Join the takes' transitions; pay them where the task can, from what is observed."""
    joined = _Transitions(*(np.concatenate(columns) for columns in zip(*parts)))
    obs, action, next_obs = (column.astype(np.float32) for column in joined[:3])
    size = len(obs)
    terminated = np.zeros(size, bool)
    reward = np.full(size, np.nan, np.float32)
    notes = (
        f"rewards: none, since {task.name}'s do not follow from what it observes; methods that "
        "learn from the log's rewards refuse it",
    )
    begins = joined.begins
    terms = task.observed_rewards(action, next_obs)
    if terms is not None:
        reward = task.total(terms).astype(np.float32)
        terminated = task.observed_falls(next_obs)
        notes = (f"rewards: {task.name}'s, computed from observations and actions",)
        alive = ~task.observed_falls(obs)
        # What follows a fall is no transition of the task's.
        begins = begins | np.append(True, terminated[:-1])[:size]
        begins[1:] |= ~alive[:-1]
        columns = (obs, action, reward, next_obs, terminated, begins)
        obs, action, reward, next_obs, terminated, begins = (column[alive] for column in columns)
    truncated = np.zeros(len(obs), bool)
    episode = np.cumsum(begins, dtype=np.int64) - 1
    log = Log(obs, action, reward, next_obs, terminated, truncated, episode)
    return close_episodes(log), notes


def _check_size(
    log: Log, aligned: Sequence[AlignedSignals], timings: Sequence[TopicTiming]
) -> None:
    """Raise BadValue where no transition is left, with the likeliest reason."""
    if log.size:
        return
    decisions = sum(len(take.valid) for take in aligned)
    worst = max(timings, key=lambda timing: timing.longest_gap)
    raise BadValue(
        f"no transition is left: none of {decisions:,} decisions has two neighbours with all values "
        f"known; {worst.topic} is silent for up to {worst.longest_gap:.3g} s (raise gap, or write "
        "gap = inf for a topic that is sent once), and clocks that differ need clock"
    )


def _clip_actions(log: Log, robot: RobotMap, domain: Domain) -> tuple[Log, tuple[str, ...]]:
    """Clip the actions of which the map says so. Raises BadValue for others beyond the bounds."""
    action, notes = log.action.copy(), []
    spaces = domain.spaces
    for column, signal in enumerate(robot.actions):
        low, high = float(spaces.low[column]), float(spaces.high[column])
        values = action[:, column]
        slack = RATE_TOLERANCE * 1e-3 * (high - low)
        beyond = int(((values < low - slack) | (values > high + slack)).sum())
        if not beyond:
            continue
        found = (
            f"{signal.name}: {beyond:,} of {log.size:,} commands lie outside {low:g}..{high:g}, in "
            f"{values.min():.3g}..{values.max():.3g}"
        )
        if not signal.clip:
            raise BadValue(
                f"{found}; set unit, scale or offset in {robot.path} [actions], or clip = true if "
                "the driver clips them"
            )
        notes.append(f"{found}: clipped")
        action[:, column] = np.clip(values, low, high)
    return log._replace(action=action), tuple(notes)


def _note_decisions(aligned: Sequence[AlignedSignals], robot: RobotMap) -> list[str]:
    """Return lines on decisions that were put in or left out, and on numbers that are missing."""
    held = sum(take.decisions.held for take in aligned)
    superseded = sum(take.decisions.superseded for take in aligned)
    missing = sum(take.missing for take in aligned)
    unknown = sum(int((~take.valid).sum()) for take in aligned)
    total = sum(len(take.valid) for take in aligned)
    lines = []
    if held:
        lines.append(f"{held:,} of {total:,} decisions lack a command: the one before it held")
    if superseded:
        lines.append(f"{superseded:,} commands came within half a step of the next: left out")
    if missing:
        lines.append(
            f"{missing:,} numbers are NaN or missing in their messages: the last ones held"
        )
    if unknown:
        lines.append(
            f"{unknown:,} of {total:,} decisions lack a value, {unknown / robot.rate:.1f} s: cut out"
        )
    return lines


def _note_step(domain: Domain, robot: RobotMap) -> tuple[str, ...]:
    """Return a note where the simulated robot decides at another rate."""
    seconds = domain.stated_seconds
    if not abs(seconds * robot.rate - 1) > RATE_TOLERANCE:
        return ()
    return (
        f"a step of this log lasts {1e3 / robot.rate:.3g} ms, one of {domain} {1e3 * seconds:.3g} "
        "ms: what is learned in one does not hold in the other",
    )


def _describe_import(
    log: Log, robot: RobotMap, timings: Sequence[TopicTiming], notes: Sequence[str]
) -> dict[str, Any]:
    """Return the log's metadata, plain data."""
    topics = {}
    for timing in timings:
        described = timing._asdict() | {"gaps": [gap._asdict() for gap in timing.gaps]}
        topics[timing.topic] = {k: _drop_unknown(v) for k, v in described.items() if k != "topic"}
    metadata: dict[str, Any] = {
        "domain": f"log:{robot.task}",
        "transitions": log.size,
        "episodes": log.episodes if log.size else 0,
        "seconds": log.size / robot.rate,
        "import": {"rate": robot.rate, "topics": topics, "notes": list(notes)},
    }
    if not log.has_rewards:
        metadata["rewards"] = UNKNOWN_REWARDS
    return metadata


def _drop_unknown(value: Any) -> Any:
    """Return None for a number that JSON lacks."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _say_what_became(
    robot: RobotMap, topic_of: dict[str, str], decide_by: str, recording: Recording
) -> dict[str, str]:
    became = {}
    for topic in dict.fromkeys(topic_of.values()):
        parts = []
        for noun, signals in (("observation", robot.observations), ("action", robot.actions)):
            count = _count_signals(signals, topic, topic_of)
            if count:
                parts.append(f"{count} {noun}{'s' * (count > 1)}")
        if topic == decide_by:
            parts.append("decides")
        became[topic] = ", ".join(parts)
    for topic, count in recording.unused.items():
        became[topic] = f"not in the map ({count:,} messages)"
    return became


def _count_signals(signals: Sequence[Signal], topic: str, topic_of: dict[str, str]) -> int:
    count = 0
    for signal in signals:
        count += bool(signal.source) and topic_of[signal.source] == topic
    return count
