"""Recordings of a ball that two motors push, written with the real packages, and their truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

RATE = 20.0  # Hz: the decisions of the task `ball`
BEGIN = 1_760_000_000_000_000_000  # ns
ROS = get_typestore(Stores.ROS2_HUMBLE)
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    QosTime(0, 0),
    QosTime(0, 0),
    QosLiveliness.AUTOMATIC,
    QosTime(0, 0),
    avoid_ros_namespace_conventions=False,
)
JOINTS = ("east", "north")

MAP = """
task = "ball"
rate = 20
[observations]
"x" = "/joint_states.position[east]"
"y" = "/joint_states.position[north]"
"x velocity" = "/speeds.velocity[east]"
"y velocity" = "/speeds.velocity[north]"
[actions]
"x" = "/commands.data[0]"
"y" = "/commands.data[1]"
"""


@dataclass(frozen=True)
class Truth:
    """A ball's motion on a fine clock of 1 ms, and the commands of its controller."""

    position: np.ndarray  # [t, 2]
    velocity: np.ndarray  # [t, 2]
    times: np.ndarray  # [K] of decisions, seconds
    action: np.ndarray  # [K, 2]

    def at(self, field: str, times: np.ndarray) -> np.ndarray:
        return getattr(self, field)[np.rint(np.asarray(times) * 1000).astype(int)]


def simulate(seconds: float, seed: int = 0, jitter: float = 0.004) -> Truth:
    """Push a ball by smooth commands that hold between jittered decisions."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    times = 0.1 + np.arange(count) / RATE + rng.uniform(-jitter, jitter, count)
    times = np.round(times, 3)
    phase = rng.uniform(0, 6, (4, 2))
    angles = np.stack([k * 0.7 * times[:, None] + phase[k] for k in range(4)])
    action = 0.3 * np.sin(angles).sum(0) / 1.3
    steps = int(times[-1] * 1000) + 300
    index = np.searchsorted(times, np.arange(steps) / 1000, side="right") - 1
    push = np.where(index[:, None] >= 0, action[np.maximum(index, 0)], 0.0)
    position, velocity = np.zeros((steps, 2)), np.zeros((steps, 2))
    p, v = np.array([0.6, -0.4]), np.zeros(2)
    for t in range(steps):
        position[t], velocity[t] = p, v
        v = v + 0.001 * (push[t] - 0.5 * v - p)
        p = p + 0.001 * v
    return Truth(position, velocity, times, action)


def jittered(rate: float, end: float, seed: int) -> np.ndarray:
    """Stamps in whole milliseconds, about so many a second."""
    rng = np.random.default_rng(seed)
    stamps = np.arange(0.0, end, 1 / rate)
    return np.maximum(np.round(stamps + rng.uniform(-0.3, 0.3, len(stamps)) / rate, 3), 0.0)


def joint_state(
    stamp: int, names: Any, position: Any = (), velocity: Any = (), frame: str = ""
) -> Any:
    types = ROS.types
    time = types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    header = types["std_msgs/msg/Header"](time, frame)
    empty = np.zeros(0)
    return types["sensor_msgs/msg/JointState"](
        header,
        list(names),
        np.asarray(position, np.float64),
        np.asarray(velocity, np.float64),
        empty,
    )


def command(values: Any) -> Any:
    layout = ROS.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    return ROS.types["std_msgs/msg/Float64MultiArray"](layout, np.asarray(values, np.float64))


Message = tuple[int, str, Any]
"""When it was received [ns], its topic, the message."""


def messages_of(truth: Truth, *, permute: bool = False, seed: int = 1) -> list[Message]:
    """Positions at 97 Hz, velocities at 61 Hz, commands when they were given."""
    end = len(truth.position) / 1000 - 0.1
    rng = np.random.default_rng(seed)
    out: list[Message] = []
    for topic, field, rate in (
        ("/joint_states", "position", 97.0),
        ("/speeds", "velocity", 61.0),
    ):
        for stamp in jittered(rate, end, seed + len(topic)):
            order = rng.permutation(2) if permute else np.arange(2)
            values = truth.at(field, stamp)[order]
            names = [JOINTS[i] for i in order]
            ns = BEGIN + round(stamp * 1000) * 1_000_000
            out.append((ns, topic, joint_state(ns, names, **{field: values})))
    for time, action in zip(truth.times, truth.action):
        out.append((BEGIN + round(time * 1000) * 1_000_000, "/commands", command(action)))
    return sorted(out, key=lambda message: message[0])


def write_bag(
    folder: Path, messages: list[Message], storage: str = "MCAP", compression: str = ""
) -> Path:
    """Write a bag of ROS 2 with rosbags."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage])
    if compression:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for received, topic, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=ROS, offered_qos_profiles=[QOS]
                )
            writer.write(connections[topic], received, ROS.serialize_cdr(message, kind))
    return folder


def table_of(truth: Truth) -> pa.Table:
    """Rows at the decisions: what was observed, and what was commanded."""
    position, velocity = truth.at("position", truth.times), truth.at("velocity", truth.times)
    return pa.table(
        {
            "t": truth.times,
            "px": position[:, 0],
            "py": position[:, 1],
            "vx": velocity[:, 0],
            "vy": velocity[:, 1],
            "ux": truth.action[:, 0],
            "uy": truth.action[:, 1],
        }
    )


TABLE_MAP = """
task = "ball"
rate = 20
time = "t"
[observations]
"x" = "px"
"y" = "py"
"x velocity" = "vx"
"y velocity" = "vy"
[actions]
"x" = "ux"
"y" = "uy"
"""

LEROBOT_MAP = """
task = "ball"
rate = 20
[observations]
"x" = "observation.state[x.pos]"
"y" = "observation.state[y.pos]"
"x velocity" = "observation.state[2]"
"y velocity" = "observation.state[3]"
[actions]
"x" = "action[x]"
"y" = "action[y]"
"""


def write_csv(path: Path, table: pa.Table) -> Path:
    pc.write_csv(table, path)
    return path


def write_parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def write_lerobot(folder: Path, truths: list[Truth], version: str, fps: float = RATE) -> Path:
    """Write a LeRobot data set: v3.0 with all episodes in a file, or v2.1 with a file for each."""
    tables = []
    for episode, truth in enumerate(truths):
        state = np.concatenate(
            [truth.at("position", truth.times), truth.at("velocity", truth.times)], 1
        ).astype(np.float32)
        size = len(state)
        tables.append(
            pa.table(
                {
                    "observation.state": fixed(state),
                    "action": fixed(truth.action.astype(np.float32)),
                    "timestamp": pa.array(np.arange(size) / fps, pa.float32()),
                    "frame_index": np.arange(size),
                    "episode_index": np.full(size, episode),
                }
            )
        )
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    if version == "v3.0":
        pq.write_table(pa.concat_tables(tables), data / "file-000.parquet")
    else:
        for episode, table in enumerate(tables):
            pq.write_table(table, data / f"episode_{episode:06d}.parquet")
    names = {
        "observation.state": {
            "names": ["x.pos", "y.pos", "x.vel", "y.vel"],
            "dtype": "float32",
            "shape": [4],
        },
        "action": {"names": {"motors": ["x", "y"]}, "dtype": "float32", "shape": [2]},
    }
    info = {"codebase_version": version, "fps": fps, "features": names}
    info["total_episodes"] = len(truths)
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def fixed(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
