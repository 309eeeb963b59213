"""A robot's recording made into a log: read, put on the controller's decisions, cut at gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.logs.checks import check_log
from isthmus.logs.log import Log, close_episodes
from isthmus.logs.paths import check_path_is_free
from isthmus.logs.recordings.alignment import (
    AlignedSignals,
    align_take,
    choose_decision_topic,
)
from isthmus.logs.recordings.import_notes import (
    describe_import,
    note_decisions,
    note_step,
    say_what_became,
)
from isthmus.logs.recordings.message_paths import parse_source
from isthmus.logs.recordings.recording import Progress, RobotRecording, Take
from isthmus.logs.recordings.robot_map import RobotMap, read_map, read_task_name
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

BAG_SUFFIXES = (".mcap", ".db3", ".zstd")


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


def read_recording(
    path: Path, robot: RobotMap, on_message: Progress | None = None
) -> RobotRecording:
    """Read what the map names from a recording of any format. Raises BadValue or UnknownName."""
    if not path.exists():
        raise BadValue(f"there is no recording {path}")
    if is_lerobot(path):
        return read_lerobot(path, robot.sources, on_message)
    suffixes = {path.suffix}
    if path.is_dir():
        suffixes = {file.suffix for file in path.iterdir()}
    if suffixes.intersection(BAG_SUFFIXES):
        stamp_by = {topic: options.stamp for topic, options in robot.topics.items()}
        return read_rosbag(path, robot.sources, stamp_by, on_message)
    if suffixes.intersection(TABLE_SUFFIXES):
        return read_tables(path, robot.sources, robot.columns, robot.rate, on_message)
    raise BadValue(
        f"{path} is no recording that is known: needs a bag of ROS 2 (.mcap, .db3 or its folder), "
        "a LeRobot folder (meta/info.json), .csv, .parquet or a folder of those"
    )


def align_recording(
    recording: RobotRecording, robot: RobotMap, task: Task, domain: Domain
) -> ImportedLog:
    """Return the log of a recording, with what its stamps say and what became of its topics."""
    takes = _list_takes(recording, robot)
    topics = list(takes[0])
    topic_of = _find_topics(robot, topics)
    timings = {topic: measure_topic(takes, topic, robot) for topic in topics}
    measured = tuple(timings.values())
    ordered = [sort_stamps(take, measured, robot) for take in takes]
    decide_by = _choose_decisions(robot, topic_of, ordered[0])
    aligned = [align_take(take, robot, decide_by, topic_of, timings) for take in ordered]
    joined = _join_transitions(aligned, max(timings[decide_by].threshold, 1.5 / robot.rate))
    if not len(joined.obs):
        raise _explain_emptiness(aligned, measured)
    log, reward_note = _make_log(joined, task)
    log, clipped = _clip_actions(log, robot, domain)
    notes = (
        *recording.notes,
        *describe_timing(measured, robot, recording.claimed_rate),
        *describe_decisions(timings[decide_by], robot),
        *note_decisions(aligned, robot),
        *clipped,
        *note_step(domain, robot),
        reward_note,
    )
    metadata = describe_import(log, robot, measured, notes)
    check_log(log, metadata, domain)
    became = say_what_became(robot, topic_of, decide_by, recording)
    return ImportedLog(log, measured, became, notes, metadata)


def _list_takes(recording: RobotRecording, robot: RobotMap) -> list[Take]:
    """Return the takes that hold something, their clocks set right by the map."""
    takes = []
    for take in recording.takes:
        if min(len(stream.stamps) for stream in take.values()):
            takes.append(correct_clocks(take, robot))
    if not takes:
        raise BadValue("the recording holds no rows")
    for topic in filter(None, (*robot.topics, robot.decisions)):
        if topic not in takes[0]:
            raise UnknownName(f"topic in {robot.path}", topic, takes[0])
    return takes


def _choose_decisions(robot: RobotMap, topic_of: Mapping[str, str], take: Take) -> str:
    """Return the topic whose messages are the decisions."""
    if robot.decisions:
        return robot.decisions
    commanded: dict[str, None] = {}
    for signal in robot.actions:
        if signal.source:
            commanded[topic_of[signal.source]] = None
    if not commanded:
        raise BadValue(f"{robot.path} [actions] names constants alone: name what was commanded")
    return choose_decision_topic(take, list(commanded))


def _find_topics(robot: RobotMap, topics: Sequence[str]) -> dict[str, str]:
    """Return the topic of each source: a table has one."""
    topic_of = dict.fromkeys(robot.sources, ROWS)
    if topics != [ROWS]:
        for source in robot.sources:
            topic_of[source] = parse_source(source).topic
    return topic_of


def _list_transitions(take: AlignedSignals, longest: float) -> _Transitions:
    """Return the transitions between neighbouring decisions that are both known.

    None is longer than `longest` seconds: there the controller was silent.
    """
    near = np.diff(take.decisions.times) <= longest
    joined = take.valid[:-1] & take.valid[1:] & near
    rows = np.flatnonzero(joined)
    begins = np.diff(rows, prepend=-2) > 1
    obs, action = take.obs.astype(np.float32), take.action.astype(np.float32)
    return _Transitions(obs[rows], action[rows], obs[rows + 1], begins)


def _join_transitions(aligned: Sequence[AlignedSignals], longest: float) -> _Transitions:
    """Return the transitions of all takes, one take after the other."""
    parts = [_list_transitions(take, longest) for take in aligned]
    return _Transitions(*map(np.concatenate, zip(*parts)))


def _make_log(joined: _Transitions, task: Task) -> tuple[Log, str]:
    """Return the log, paid where the task can tell what from observations, and a note on that."""
    obs, action, next_obs = joined.obs, joined.action, joined.next_obs
    terms = task.observed_rewards(action, next_obs)
    if terms is None:
        unknown = np.full(len(obs), np.nan, np.float32)
        log = _close(joined, unknown, np.zeros(len(obs), bool))
        return log, (
            f"rewards: none, since {task.name}'s do not follow from what it observes; methods that "
            "learn from the log's rewards refuse it"
        )
    reward, fell = task.total(terms).astype(np.float32), task.observed_falls(next_obs)
    # What follows a fall is no transition of the task's, and what comes then begins anew.
    alive = ~task.observed_falls(obs)
    begins = joined.begins.copy()
    begins[1:] |= fell[:-1] | ~alive[:-1]
    kept = _Transitions(obs[alive], action[alive], next_obs[alive], begins[alive])
    log = _close(kept, reward[alive], fell[alive])
    return log, f"rewards: {task.name}'s, computed from observations and actions"


def _close(rows: _Transitions, reward: np.ndarray, terminated: np.ndarray) -> Log:
    """Return the log of transitions, each episode's last one marked."""
    episode = np.cumsum(rows.begins, dtype=np.int64) - 1
    open_ends = np.zeros(len(reward), bool)
    log = Log(rows.obs, rows.action, reward, rows.next_obs, terminated, open_ends, episode)
    return close_episodes(log)


def _explain_emptiness(
    aligned: Sequence[AlignedSignals], timings: Sequence[TopicTiming]
) -> BadValue:
    """Return the error of a recording without a transition, with the likeliest reason."""
    decisions = sum(len(take.valid) for take in aligned)
    worst = max(timings, key=attrgetter("longest_gap"))
    return BadValue(
        f"no transition is left: of {decisions:,} decisions no two in a row have all values known; "
        f"{worst.topic} is silent for up to {worst.longest_gap:.3g} s (raise gap, or write gap = "
        "inf for a topic that is sent once), and clocks that differ need clock"
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
        if beyond == 0:
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
