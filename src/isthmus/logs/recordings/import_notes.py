"""What an import says: notes in lines, what became of topics, the log's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.logs.log import UNKNOWN_REWARDS, Log
from isthmus.logs.recordings.alignment import AlignedSignals
from isthmus.logs.recordings.recording import RobotRecording
from isthmus.logs.recordings.robot_map import RobotMap, Signal
from isthmus.logs.recordings.timing import RATE_TOLERANCE, TopicTiming


def note_decisions(aligned: Sequence[AlignedSignals], robot: RobotMap) -> list[str]:
    """Return lines on decisions that were put in or left out, and on numbers that are missing."""
    held, superseded, missing, unknown, total = 0, 0, 0, 0, 0
    for take in aligned:
        held += take.decisions.held
        superseded += take.decisions.superseded
        missing += take.missing
        unknown += int((~take.valid).sum())
        total += len(take.valid)
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
        seconds = unknown / robot.rate
        lines.append(f"{unknown:,} of {total:,} decisions lack a value, {seconds:.1f} s: cut out")
    return lines


def note_step(domain: Domain, robot: RobotMap) -> list[str]:
    """Return a note where the simulated robot decides at another rate."""
    seconds = domain.stated_seconds
    if not abs(seconds * robot.rate - 1) > RATE_TOLERANCE:
        return []
    return [
        f"a step of this log lasts {1e3 / robot.rate:.3g} ms, one of {domain} {1e3 * seconds:.3g} "
        "ms: what is learned in one does not hold in the other"
    ]


def describe_import(
    log: Log, robot: RobotMap, timings: Sequence[TopicTiming], notes: Sequence[str]
) -> dict[str, Any]:
    """Return the log's metadata, plain data."""
    topics = {timing.topic: _describe_timing(timing) for timing in timings}
    metadata: dict[str, Any] = {
        "domain": f"log:{robot.task}",
        "transitions": log.size,
        "episodes": log.episodes,
        "seconds": log.size / robot.rate,
        "import": {"rate": robot.rate, "topics": topics, "notes": list(notes)},
    }
    if not log.has_rewards:
        metadata["rewards"] = UNKNOWN_REWARDS
    return metadata


def _describe_timing(timing: TopicTiming) -> dict[str, Any]:
    """Return a topic's timing as plain data, None for a number that JSON lacks."""
    described = timing._asdict()
    described["gaps"] = [gap._asdict() for gap in timing.gaps]
    for name, value in described.items():
        if isinstance(value, float) and not np.isfinite(value):
            described[name] = None
    return described


def say_what_became(
    robot: RobotMap, topic_of: Mapping[str, str], decide_by: str, recording: RobotRecording
) -> dict[str, str]:
    """Return what became of each topic of a recording, in words."""
    became = {}
    for topic in dict.fromkeys(topic_of.values()):
        parts = [
            *_count_signals("observation", robot.observations, topic, topic_of),
            *_count_signals("action", robot.actions, topic, topic_of),
        ]
        if topic == decide_by:
            parts.append("decides")
        became[topic] = ", ".join(parts)
    for topic, count in recording.unused.items():
        became[topic] = f"not in the map ({count:,} messages)"
    return became


def _count_signals(
    noun: str, signals: Sequence[Signal], topic: str, topic_of: Mapping[str, str]
) -> list[str]:
    count = 0
    for signal in signals:
        count += topic_of.get(signal.source) == topic
    if not count:
        return []
    return [f"{count} {noun}{'s' * (count > 1)}"]
