"""The command that makes a log of a robot's recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.options import ImportOptions

if TYPE_CHECKING:
    from isthmus.logs.recordings.import_recording import ImportedLog
    from isthmus.logs.recordings.timing import TopicTiming

TIMING_COLUMNS = ("topic", "messages", "Hz", "jitter ms", "gaps", "longest s", "backward", "became")
MAX_GAPS = 10  # in the table of gaps


def run_import(
    log: Positional[
        Annotated[
            Path,
            arg(
                metavar="LOG",
                help="a bag of ROS 2 (.mcap, .db3, its folder), a LeRobot folder, .csv, .parquet",
            ),
        ]
    ],
    code: ImportOptions,
    map_path: Annotated[
        Path,
        arg(name="map", metavar="MAP.toml", help="which recorded number is which of the task's"),
    ],
    out: Annotated[Path, arg(aliases=["-o"], help="a file D.npz, or a Minari data set's folder")],
) -> None:
    """Make a log of what a robot recorded, for audit and training by --data.

    isthmus import run.mcap --map robot.toml -o log.npz

    The map says which recorded number is which: task = "ball", rate = 50, under [observations]
    "x" = {from = "/joint_states.position[slider]", unit = "mm"}, under [actions]
    "x" = {from = "/commands.data[0]", sign = -1}. What was observed is the latest value before
    each command; a gap ends an episode.
    """
    from isthmus.cli.progress import show_messages
    from isthmus.logs.recordings.import_recording import import_recording

    code.load()
    with show_messages(log.name) as bar:
        imported = import_recording(log, map_path, out, bar)
    screen.print(_tabulate_topics(imported))
    gaps = _tabulate_gaps(imported)
    if gaps.row_count:
        screen.print()
        screen.print(gaps)
    for note in imported.notes:
        print_text(note)
    made = imported.log
    episodes = "1 episode" if made.episodes == 1 else f"{made.episodes:,} episodes"
    print_text(f"{made.size:,} transitions of {episodes}\n{out}")


def _tabulate_topics(imported: ImportedLog) -> Table:
    table = make_table(*TIMING_COLUMNS)
    known = set()
    for timing in imported.topics:
        known.add(timing.topic)
        table.add_row(escape(timing.topic), *_format_timing(timing), imported.became[timing.topic])
    for topic, became in imported.became.items():
        if topic not in known:
            table.add_row(escape(topic), *("-" for _ in TIMING_COLUMNS[2:]), became)
    return table


def _format_timing(timing: TopicTiming) -> list[str]:
    gaps = len(timing.gaps)
    return [
        f"{timing.messages:,}",
        f"{timing.rate:.4g}",
        f"{timing.jitter * 1e3:.3g}",
        f"{gaps:,}",
        f"{timing.longest_gap:.3g}" if gaps else "-",
        f"{timing.backward:,}",
    ]


def _tabulate_gaps(imported: ImportedLog) -> Table:
    """Return the longest gaps, in the order of time."""
    gaps = [gap for timing in imported.topics for gap in timing.gaps]
    longest = sorted(gaps, key=lambda gap: -gap.seconds)[:MAX_GAPS]
    title = f"the {len(longest)} longest of {len(gaps):,} gaps"
    table = make_table("gap in", "episode file or part", "begins at s", "lasts s", title=title)
    for gap in sorted(longest):
        begin, seconds = f"{gap.begin:.3f}", f"{gap.seconds:.3f}"
        table.add_row(escape(gap.topic), str(gap.take), begin, seconds)
    return table
