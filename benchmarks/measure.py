"""What all comparisons share: runs in turn, ratios pair by pair, one table, one file."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Row:
    """One comparison: speeds of both sides, pair by pair, in `unit` a second; the bar is on the
    median ratio.
    """

    work: str
    against: str
    at_least: float
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    aim: float | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        return self.ratio >= self.at_least

    def record(self, versions: Mapping[str, str]) -> dict[str, Any]:
        return {
            "work": self.work,
            "against": self.against,
            "ratio": round(self.ratio, 3),
            "at_least": self.at_least,
            "aim": self.aim,
            "unit": f"{self.unit}/s",
            "ratios": [round(r, 3) for r in self.ratios],
            "ours": [round(v, 1 if v >= 10 else 3) for v in self.ours],
            "theirs": [round(v, 1 if v >= 10 else 3) for v in self.theirs],
            "sizes": dict(self.sizes),
            "versions": dict(versions),
        }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `work` takes, and its result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def alternate(title: str, pairs: int, *sides: Callable[[], float]) -> list[list[float]]:
    """A B A B ...: what each side returned (its speed), [side][pair]. A slow spell of the machine
    meets all of them.
    """
    results = [
        [side() for side in sides] for _ in track(range(pairs), description=title, console=console)
    ]
    return [list(side) for side in zip(*results, strict=True)]


def format_speed(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2f}"


def table(rows: Sequence[Row]) -> Table:
    out = Table(title="ours / theirs, pair by pair", title_justify="left")
    for name in ("", "work", "against"):
        out.add_column(name)
    for name in ("ours", "theirs", "min", "median", "max", "at least", "aim"):
        out.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows, 1):
        out.add_row(
            str(i),
            row.work,
            row.against,
            *(
                f"{format_speed(statistics.median(speeds))} {row.unit}/s"
                for speeds in (row.ours, row.theirs)
            ),
            f"{min(row.ratios):.2f}",
            f"[{'green' if row.reached else 'red'}]{row.ratio:.2f}[/]",
            f"{max(row.ratios):.2f}",
            f"{row.at_least:g}",
            "" if row.aim is None else f"{row.aim:g}",
            end_section=True,
        )
    return out


def report(found: Mapping[str, Sequence[Row]], versions: Mapping[str, str], path: Path) -> int:
    """Print the table of the comparisons found, by name, and write their records to `path` in the
    place of those there; the exit status, 1 where a ratio misses its bar.
    """
    rows = [row for comparison in found.values() for row in comparison]
    console.print(table(rows))
    for i, row in enumerate(rows, 1):
        console.print(
            f"{i}: " + ", ".join(f"{name} {value}" for name, value in row.sizes.items()),
            highlight=False,
        )
    kept = [
        r
        for r in (json.loads(path.read_text(encoding="utf-8")) if path.exists() else [])
        if r["comparison"] not in found
    ]
    new = [
        {"comparison": name, **row.record(versions)} for name, rows in found.items() for row in rows
    ]
    path.write_text(json.dumps(kept + new, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {path}")
    for row in rows:
        if not row.reached:
            console.print(
                f"[red]missed:[/red] {row.work}, against {row.against}: {row.ratio:.2f}, at least "
                f"{row.at_least:g}"
            )
    return int(not all(row.reached for row in rows))
