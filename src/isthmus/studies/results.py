"""Results on disk: a finished trial is one small CSV file.

kind,key,x,y,value
meta,...        versions, wall seconds, the run's digest
curve,KEY,...   an evaluation in training: x = source steps, y = target transitions
final,KEY,...   means over the final episodes, in the source and (unless it is a grid) in the
                target, true rewards
cell,KEY,...    one cell of the landscape KEY: x and y its parameters
measure,KEY,... what the study measures besides
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation.landscape import Landscape
from isthmus.studies.trial import AnyTrial, Measurement, Trial
from isthmus.training.run_files import write_text
from isthmus.types import BadValue

COLUMNS = ("kind", "key", "x", "y", "value")
RENAMED = {"centred": ("offset", {True: "mean", False: "none"})}
"""Settings that older files hold by another name: today's, and today's values."""


class Row(NamedTuple):
    """One line of a trial's file."""

    kind: str
    key: str
    x: float | str
    y: float | str
    value: Any


def measure_row(key: str, value: float) -> Row:
    """Return the line of a measure, with six digits."""
    return Row("measure", key, "", "", f"{value:.6g}")


def list_cell_rows(key: str, landscape: Landscape) -> list[Row]:
    """Return a line for each cell of a landscape: its two parameters and its mean return."""
    rows = []
    x_axis, y_axis = landscape.axes
    for x, means in zip(x_axis, landscape.mean, strict=True):
        for y, mean in zip(y_axis, means, strict=True):
            rows.append(Row("cell", key, f"{x:.6g}", f"{y:.6g}", f"{mean:.2f}"))
    return rows


class Cells(NamedTuple):
    """A landscape: axes [X], [Y] and mean returns [X, Y]."""

    x: np.ndarray
    y: np.ndarray
    returns: np.ndarray


@dataclass(frozen=True)
class Results:
    """The lines of a trial's file."""

    rows: list[dict[str, str]]

    @staticmethod
    def read(path: Path) -> Results:
        """Read a trial's file."""
        with path.open(newline="", encoding="utf-8") as file:
            return Results(list(csv.DictReader(file)))

    def has(self, kind: str, key: str) -> bool:
        """Return whether there is a line of this kind and key."""
        return bool(self._select(kind, key))

    def value(self, kind: str, key: str) -> float:
        """Return a line's number. Raises BadValue where there is none."""
        try:
            return float(self._select(kind, key)[0]["value"])
        except (IndexError, TypeError, ValueError):
            raise BadValue(
                f"a unit's file has no number {kind},{key}: remove it and run the unit again"
            ) from None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What made the file; `settings` and `needs` (digests of the runs it stands on, by trial)
        as dicts. Raises BadValue where that cannot be read.
        """
        meta: dict[str, Any] = {}
        for row in self.rows:
            if row.get("kind") == "meta":
                meta[row["key"]] = row["value"]
        try:
            for name in meta.keys() & {"settings", "needs"}:
                meta[name] = dict(json.loads(meta[name]))
        except (TypeError, ValueError):
            raise BadValue(
                "a unit's file has damaged settings: remove it and run the unit again"
            ) from None
        return meta

    def cells(self, key: str) -> Cells:
        """Return a landscape."""
        points = self._read_points("cell", key)
        x, y = np.unique(points[:, 0]), np.unique(points[:, 1])
        return Cells(x, y, points[:, 2].reshape(len(x), len(y)))

    def curve(self, key: str) -> np.ndarray:
        """Return [points, 3]: source steps, target transitions, value."""
        return self._read_points("curve", key)

    def _read_points(self, kind: str, key: str) -> np.ndarray:
        points = []
        for row in self._select(kind, key):
            points.append([float(row["x"]), float(row["y"]), float(row["value"])])
        return np.array(points).reshape(-1, 3)

    def _select(self, kind: str, key: str) -> list[dict[str, str]]:
        return [row for row in self.rows if (row.get("kind"), row.get("key")) == (kind, key)]


def write_results(path: Path, rows: Iterable[Row], meta: Mapping[str, Any]) -> None:
    """Write a trial's file, what made it last."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    writer.writerows(Row("meta", key, "", "", value) for key, value in meta.items())
    write_text(path, text.getvalue())


def config_mismatches(trial: AnyTrial, meta: Mapping[str, Any]) -> list[str]:
    """Return in what a file's or a run's `meta` differs from what the trial asks for, as "offset
    mean instead of floor".

    Only what both name is held against each other: a setting that came later does not make older
    results another's.
    """
    if isinstance(trial, Measurement):
        asked = {"seed": trial.seed, **trial.given}
        recorded = {**dict.fromkeys(asked), **meta}
        return _list_mismatches(_as_strings(asked), _as_strings(recorded))
    return _plan_mismatches(trial, meta) or _settings_mismatches(trial, meta)


def _plan_mismatches(trial: Trial, meta: Mapping[str, Any]) -> list[str]:
    asked: dict[str, Any] = {
        "method": trial.method, "problem": trial.problem, "seed": trial.seed, "steps": trial.steps,
        "start_at": trial.start_at or "end", **trial.logged, **trial.drawn,
    }  # fmt: skip
    recorded = {name: meta[name] for name in asked if name in meta}
    if "digest" in meta:  # a trial's file, which says only where it did not start from the end
        recorded.setdefault("start_at", "end")
    return _list_mismatches(_as_strings(asked), _as_strings(recorded))


def _settings_mismatches(trial: Trial, meta: Mapping[str, Any]) -> list[str]:
    from isthmus.methods import registry

    asked = registry.settings_of(registry.build(trial.method, trial.settings))
    for name, value in asked.items():
        if isinstance(value, tuple):  # JSON has lists alone
            asked[name] = list(value)
    recorded = dict(meta.get("settings", {}))
    for old, (name, values) in RENAMED.items():
        if old in recorded:
            recorded[name] = values.get(recorded[old])
    return _list_mismatches(asked, recorded)


def _list_mismatches(asked: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    mismatches = []
    for name, value in recorded.items():
        if value != asked.get(name, value):
            mismatches.append(f"{name} {value} instead of {asked[name]}")
    return mismatches


def _as_strings(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def read_results(trials: Iterable[AnyTrial], folder: Path) -> tuple[dict[str, Results], list[str]]:
    """Read the trials' files that are there.

    Returns them by trial, and notes on them, a line each: files that were made otherwise than the
    study asks are named and left out; those that do not hold their settings are taken, and so are
    those that stand on a run which was made anew since.
    """
    done: dict[str, Results] = {}
    mismatched: dict[str, list[str]] = {}
    without_settings: list[str] = []
    for trial in {trial.name: trial for trial in trials}.values():
        path, trains = folder / f"{trial.name}.csv", isinstance(trial, Trial)
        if not path.exists():
            continue
        results = read_whole(path, "digest" if trains else "wall_seconds")
        if mismatches := config_mismatches(trial, results.meta):
            mismatched.setdefault(", ".join(mismatches), []).append(path.name)
            continue
        if trains and "settings" not in results.meta:
            without_settings.append(path.name)
        done[trial.name] = results
    notes = [*_note_mismatched(mismatched), *_note_other_runs(done), *_note_cpu_kinds(done)]
    if without_settings:
        names = ", ".join(without_settings)
        notes.append(f"no settings are recorded in {names}: taken to be what the study asks for")
    return done, notes


def _note_mismatched(mismatched: Mapping[str, list[str]]) -> Iterable[str]:
    for mismatches, names in mismatched.items():
        yield (
            f"left out, for they were made with {mismatches}: {', '.join(names)}; remove them to "
            "run these units again"
        )


def _note_other_runs(done: Mapping[str, Results]) -> Iterable[str]:
    for name, results in done.items():
        for needed, digest in results.meta.get("needs", {}).items():
            if needed in done and done[needed].meta["digest"] != digest:
                yield (
                    f"{name}.csv stands on another run of {needed} than {needed}.csv tells of, as "
                    "one machine's bits are not another's: the two are independent draws; remove "
                    "it, and its run, to run it again"
                )


def _note_cpu_kinds(done: Mapping[str, Results]) -> Iterable[str]:
    unknown = "a kind not recorded"
    kinds = Counter(str(results.meta.get("cpu", unknown)) for results in done.values())
    if len(kinds) > 1:
        counts = ", ".join(f"{number} on {kind}" for kind, number in sorted(kinds.items()))
        yield f"units were made on several kinds of CPU, whose bits differ: {counts}"


def read_whole(path: Path, last: str = "wall_seconds") -> Results:
    """Read a trial's file. Raises BadValue, with its name, where that is damaged or cut short of
    its `last` line.
    """
    results = Results.read(path)
    try:
        if last in results.meta:
            return results
        why = "is damaged or cut short"
    except BadValue as error:
        why = str(error).partition(":")[0].replace("a unit's file ", "")
    raise BadValue(f"{path} {why}: remove it and run the unit again")
