#!/usr/bin/env bash
# rosbags 0.11.9: a topic whose QoS in metadata.yaml is another than in the bag's own file is counted, and none of its
# messages is handed out; nothing is raised. The two differ in bags whose metadata.yaml was edited or made again. Both storages,
# AnyReader as Reader. What holds: read the .mcap or .db3 itself, not the folder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install --disable-pip-version-check rosbags==0.11.9
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_HUMBLE)
NONE = QosTime(0, 0)
QOS = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, NONE, NONE, QosLiveliness.AUTOMATIC, NONE,
    avoid_ros_namespace_conventions=False,
)
Number = store.types["std_msgs/msg/Float64"]


def count(path):
    with AnyReader([path], default_typestore=store) as reader:
        return reader.message_count, sum(1 for _ in reader.messages())


print("rosbags", version("rosbags"))
for storage in StoragePlugin:
    bag = Path(sys.argv[1]) / storage.name
    with Writer(bag, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/x", Number.__msgtype__, typestore=store, offered_qos_profiles=[QOS])
        for i in range(5):
            writer.write(connection, i, store.serialize_cdr(Number(float(i)), Number.__msgtype__))
    written = count(bag)
    metadata = bag / "metadata.yaml"
    text = metadata.read_text()
    assert "depth: 10" in text, "the behaviour has changed"
    metadata.write_text(text.replace("depth: 10", "depth: 1"))
    edited = count(bag)
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    alone = count(file)
    print(f"{storage.name}: (counted, handed out) as written {written}, another depth {edited}, {file.name} alone {alone}")
    assert (written, edited, alone) == ((5, 5), (5, 0), (5, 5)), "the behaviour has changed"
PY
