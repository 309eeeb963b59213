"""Streams of unequal rates put on the decisions of one controller.

A decision is the moment of a command. What was observed is the latest value before it, a command
holds until the next one, and nothing is interpolated: a policy cannot see what comes after it acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isthmus.logs.recordings.recording import Stream, Take
from isthmus.logs.recordings.robot_map import RobotMap, Signal
from isthmus.logs.recordings.timing import TopicTiming

SAME_RATE = (2 / 3, 3 / 2)
"""Usual intervals of commands, in steps, from which on each command is a decision."""
FRESH_INTERVALS = 1.5
"""Usual intervals for which the last value before a gap still holds."""


TIE_SECONDS = 1e-9
"""By which a stamp may lie behind a decision and be of its moment: sums of seconds are rounded."""


class Decisions(NamedTuple):
    """When a controller decided, in one take."""

    times: np.ndarray  # float64 [K]
    held: int  # decisions put in where a command is missing, and the one before it held
    superseded: int  # commands within half a step of the next, which took their place


class AlignedSignals(NamedTuple):
    """A take at its decisions, [K, ...]."""

    obs: np.ndarray
    action: np.ndarray
    valid: np.ndarray  # bool [K]: all values are known and none is stale
    decisions: Decisions
    missing: int  # numbers that were NaN or missing in the messages


class SampledSignal(NamedTuple):
    """A signal at decisions [K]."""

    values: np.ndarray
    fresh: np.ndarray
    missing: int


def find_decisions(stamps: np.ndarray, rate: float, timing: TopicTiming) -> Decisions:
    """Return the decisions that commands at sorted `stamps` [n] were.

    Commands at about the control `rate` are decisions themselves, however they jitter. Where one
    is missing, its decision is put in, evenly; not in a gap. Commands at another rate are held on
    an even grid.
    """
    steps = timing.interval * rate
    if len(stamps) < 2 or not SAME_RATE[0] <= steps <= SAME_RATE[1]:
        span = stamps[-1] - stamps[0] if len(stamps) else -1.0
        times = stamps[:1] + np.arange(int(np.floor(span * rate + 1e-9)) + 1) / rate
        return Decisions(times, 0, 0)
    intervals = np.diff(stamps)
    counts = np.rint(intervals * rate).astype(int)
    counts[intervals > timing.threshold] = 1
    counts = np.append(counts, 1)
    intervals = np.append(intervals, 0.0)
    begins = np.cumsum(counts) - counts
    position = np.arange(counts.sum()) - np.repeat(begins, counts)
    share = position / np.repeat(np.maximum(counts, 1), counts)
    times = np.repeat(stamps, counts) + share * np.repeat(intervals, counts)
    return Decisions(times, int((position > 0).sum()), int((counts == 0).sum()))


def choose_decision_topic(take: Take, topics: Sequence[str]) -> str:
    """Return the topic of commands that is published last in a step.

    At its stamps the other topics' commands are known: their ages are least.
    """
    ages = {}
    for topic in topics:
        stamps, age = take[topic].stamps, 0.0
        for other in topics:
            age += _find_usual_age(np.sort(take[other].stamps), stamps)
        ages[topic] = age
    return min(ages, key=ages.__getitem__)


def _find_usual_age(sorted_stamps: np.ndarray, times: np.ndarray) -> float:
    index = find_latest(sorted_stamps, times)
    known = index >= 0
    if not known.any():
        return np.inf
    return float(np.median(times[known] - sorted_stamps[index[known]]))


def find_latest(sorted_stamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the index of the last stamp at or before each time, int [K]; -1 where none is."""
    return np.searchsorted(sorted_stamps, times + TIE_SECONDS, side="right") - 1


def sample_signal(
    signal: Signal, stream: Stream, times: np.ndarray, timing: TopicTiming
) -> SampledSignal:
    """Return a signal's latest values at or before `times`, and whether each is fresh.

    A message that holds NaN, or lacks the signal, is none. Where the stream falls silent for
    longer than its gap, its last value holds for a usual interval.
    """
    stamps, recorded = stream.stamps, stream.values[signal.source]
    if signal.derivative:
        stamps, recorded = _differentiate(stamps, recorded, timing.threshold)
    known = np.isfinite(recorded)
    missing = int((~known).sum())
    stamps, recorded = stamps[known], recorded[known]
    if not len(stamps):
        return SampledSignal(np.full(len(times), np.nan), np.zeros(len(times), bool), missing)
    index = find_latest(stamps, times)
    has_begun = index >= 0
    index = np.maximum(index, 0)
    silence = np.append(np.diff(stamps), np.inf)[index]
    age = times - stamps[index]
    allowed = min(timing.threshold, FRESH_INTERVALS * float(np.nan_to_num(timing.interval)))
    stale = (silence > timing.threshold) & (age > allowed)
    return SampledSignal(_convert(signal, recorded[index]), has_begun & ~stale, missing)


def _differentiate(
    stamps: np.ndarray, recorded: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the change a second from each known value to the next, at the later one's stamp."""
    known = np.isfinite(recorded)
    stamps, recorded = stamps[known], recorded[known]
    apart = np.diff(stamps)
    slope = np.full(len(apart), np.nan)
    near = (apart > 0) & (apart <= threshold)
    np.divide(np.diff(recorded), apart, out=slope, where=near)
    return stamps[1:], slope


def _convert(signal: Signal, recorded: np.ndarray) -> np.ndarray:
    values = signal.scale * recorded + signal.offset
    if signal.function == "cos":
        return np.cos(values)
    if signal.function == "sin":
        return np.sin(values)
    return values


def align_take(
    take: Take,
    robot: RobotMap,
    decide_by: str,
    topic_of: Mapping[str, str],
    timings: Mapping[str, TopicTiming],
) -> AlignedSignals:
    """Return a take, its stamps sorted, at its decisions; `topic_of` says where sources lie."""
    decisions = find_decisions(take[decide_by].stamps, robot.rate, timings[decide_by])
    times = decisions.times
    valid = np.ones(len(times), bool)
    columns, missing = [], 0
    for signal in (*robot.observations, *robot.actions):
        if not signal.source:
            columns.append(np.full(len(times), signal.offset))
            continue
        topic = topic_of[signal.source]
        sampled = sample_signal(signal, take[topic], times, timings[topic])
        columns.append(sampled.values)
        valid &= sampled.fresh
        missing += sampled.missing
    numbers = np.stack(columns, axis=1)
    split = len(robot.observations)
    return AlignedSignals(numbers[:, :split], numbers[:, split:], valid, decisions, missing)
