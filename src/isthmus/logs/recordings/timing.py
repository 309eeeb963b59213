"""The time of a recording: rates, jitter, gaps, stamps that run backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isthmus.logs.recordings.recording import Stream, Take
from isthmus.logs.recordings.robot_map import RobotMap, TopicOptions
from isthmus.types import BadValue

GAP_STEPS = 5  # decisions, or usual intervals of a topic, from which silence is a gap
RATE_TOLERANCE = 0.05  # of a claimed rate
JITTER_QUANTILE = 0.95
CLOCK_TOLERANCE = 1.0  # decisions, by which topics' clocks may differ before that is said


class Gap(NamedTuple):
    """A silence of a topic that was longer than its threshold."""

    take: int
    topic: str
    begin: float  # seconds since the take began
    seconds: float


class TopicTiming(NamedTuple):
    """What a topic's stamps say."""

    topic: str
    messages: int
    rate: float  # Hz, outside gaps; NaN for fewer than two messages
    interval: float  # seconds, the median
    jitter: float  # seconds: 95 % of intervals are as near to the median
    backward: int  # stamps that lie before one already recorded
    behind: float  # seconds from stamp to reception, the median; NaN where that is not known
    threshold: float  # seconds from which silence is a gap
    gaps: tuple[Gap, ...]

    @property
    def longest_gap(self) -> float:
        """Return the seconds of the longest gap; 0 where there is none."""
        return max((gap.seconds for gap in self.gaps), default=0.0)


def correct_clocks(take: Take, robot: RobotMap) -> Take:
    """Return a take with each topic's clock set right by the map's offset."""
    corrected = {}
    for topic, stream in take.items():
        clock = robot.topics.get(topic, TopicOptions()).clock
        corrected[topic] = stream._replace(stamps=stream.stamps + clock)
    return corrected


def measure_topic(takes: Sequence[Take], topic: str, robot: RobotMap) -> TopicTiming:
    """Return the timing of a topic over all takes, whose stamps are in recorded order."""
    streams = [take[topic] for take in takes]
    stamps = [stream.stamps for stream in streams]
    together = np.concatenate([np.diff(np.sort(part)) for part in stamps])
    interval, jitter = np.nan, np.nan
    if len(together):
        interval = float(np.median(together))
    threshold = _find_threshold(robot, topic, interval)
    gaps: list[Gap] = []
    for number, part in enumerate(stamps):
        gaps += _find_gaps(number, topic, np.sort(part), threshold)
    regular = together[together <= threshold]
    if len(regular):
        jitter = float(np.quantile(np.abs(regular - interval), JITTER_QUANTILE))
    return TopicTiming(
        topic,
        messages=sum(map(len, stamps)),
        rate=float(len(regular) / regular.sum()) if regular.any() else np.nan,
        interval=interval,
        jitter=jitter,
        backward=sum(map(count_backward, stamps)),
        behind=_measure_delay(streams),
        threshold=threshold,
        gaps=tuple(gaps),
    )


def _find_threshold(robot: RobotMap, topic: str, interval: float) -> float:
    """Return the seconds from which a topic's silence is a gap: as the map says, or usual ones."""
    own = robot.topics.get(topic, TopicOptions()).gap
    if own is not None:
        return own
    if robot.gap is not None:
        return robot.gap
    return GAP_STEPS * float(np.fmax(1 / robot.rate, interval))


def _find_gaps(take: int, topic: str, stamps: np.ndarray, threshold: float) -> list[Gap]:
    intervals = np.diff(stamps)
    where = np.flatnonzero(intervals > threshold)
    return [Gap(take, topic, float(stamps[i]), float(intervals[i])) for i in where]


def count_backward(stamps: np.ndarray) -> int:
    """Return how many stamps lie before one that was recorded earlier."""
    return int((stamps < np.maximum.accumulate(stamps)).sum())


def _measure_delay(streams: Sequence[Stream]) -> float:
    delays = []
    for stream in streams:
        if stream.received is not None:
            delays.append(stream.received - stream.stamps)
    if not delays:
        return np.nan
    return float(np.median(np.concatenate(delays)))


def sort_stamps(take: Take, timings: Sequence[TopicTiming], robot: RobotMap) -> Take:
    """Return a take whose messages are in the order of their stamps.

    Raises BadValue where the map refuses stamps that run backwards, and where one lies further
    back than a gap is long: then a clock was set, and no order is right.
    """
    ordered = {}
    for timing in timings:
        stream = take[timing.topic]
        if timing.backward:
            _check_backward(stream.stamps, timing, robot)
        order = np.argsort(stream.stamps, kind="stable")
        values = {source: column[order] for source, column in stream.values.items()}
        ordered[timing.topic] = Stream(stream.stamps[order], values)
    return ordered


def _check_backward(stamps: np.ndarray, timing: TopicTiming, robot: RobotMap) -> None:
    behind = np.maximum.accumulate(stamps) - stamps
    worst = int(behind.argmax())
    found = (
        f"{timing.topic}: {timing.backward:,} of {timing.messages:,} stamps run backwards, by up "
        f"to {behind[worst]:.3g} s"
    )
    if robot.backward == "refuse":
        raise BadValue(f'{found}; write backward = "sort" in {robot.path} to sort them')
    if behind[worst] > timing.threshold:
        raise BadValue(
            f"{found} at message {worst}, more than the gap of {timing.threshold:.3g} s: its clock "
            f'was set; write stamp = "received" in [topics.{timing.topic!r}] of {robot.path}, or '
            "an episode column, or cut the log there"
        )


def describe_timing(
    timings: Sequence[TopicTiming], robot: RobotMap, claimed_rate: float | None
) -> list[str]:
    """Return lines on what is not as it was claimed."""
    lines = []
    for timing in timings:
        claimed = robot.topics.get(timing.topic, TopicOptions()).rate
        if claimed is None:
            claimed = claimed_rate
        if claimed is not None:
            lines += _compare_rate(timing, claimed, "it is said to have")
        if timing.backward:
            lines.append(
                f"{timing.topic}: {timing.backward:,} stamps run backwards; its messages are "
                "sorted by stamp"
            )
    return lines + _describe_clocks(timings, robot)


def describe_decisions(timing: TopicTiming, robot: RobotMap) -> list[str]:
    """Return a line where commands do not come at the map's rate."""
    return _compare_rate(timing, robot.rate, f"{robot.path} says rate =")


def _compare_rate(timing: TopicTiming, claimed: float, who: str) -> list[str]:
    """Return a line where a topic has another rate; it tells lost messages from another clock."""
    if not abs(timing.rate / claimed - 1) > RATE_TOLERANCE:
        return []
    line = f"{timing.topic} has {timing.rate:.3g} Hz, {who} {claimed:g}"
    if abs(timing.interval * claimed - 1) <= RATE_TOLERANCE:
        lost = 1 - timing.rate / claimed
        return [f"{line}: its usual interval is right, {lost:.0%} of its messages are missing"]
    return [f"{line}: its usual interval is {timing.interval * 1e3:.3g} ms"]


def _describe_clocks(timings: Sequence[TopicTiming], robot: RobotMap) -> list[str]:
    """Return a line for each topic whose stamps lag behind those of the promptest."""
    known = [timing for timing in timings if np.isfinite(timing.behind)]
    if not known:
        return []
    first = min(known, key=lambda timing: abs(timing.behind))
    lines = []
    for timing in known:
        apart = timing.behind - first.behind
        if abs(apart) * robot.rate > CLOCK_TOLERANCE:
            lines.append(
                f"{timing.topic} was received {timing.behind:.3g} s after its stamps, "
                f"{first.topic} {first.behind:.3g} s: if that is its clock, write clock = "
                f"{apart + robot.topics.get(timing.topic, TopicOptions()).clock:.3g} in "
                f"[topics.{timing.topic!r}]"
            )
    return lines
