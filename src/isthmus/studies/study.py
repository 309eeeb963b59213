"""A study is a table of units. A finished unit is one small CSV file; what is there is not run
again.

kind,key,x,y,value
meta,...        versions, wall seconds, the run's digest
curve,KEY,...   an evaluation in training: x = source steps, y = target transitions
final,KEY,...   means over the final episodes, in the source and (unless it is a grid) in the target, true rewards
cell,KEY,...    one cell of the landscape KEY: x and y its parameters
measure,KEY,... what the study measures besides
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation.landscape import Landscape
from isthmus.problems.problem import Problem
from isthmus.studies.claims import Claim
from isthmus.training.executor import Executor, check_shared
from isthmus.training.run import Run, cpu_kind, versions
from isthmus.training.run_files import make_folder, write_text
from isthmus.types import BadValue


@dataclass(frozen=True)
class Trial:
    """One training and its final evaluation. `landscapes` maps a name to the grid's settings.

    `start` names the unit whose finished run this one starts from, `start_at="best"` from that
    run's best evaluation in the source instead of its end. `beside` names one that it is measured
    against, `log` one whose policy logs the target for it: `log_steps` transitions, of which it is
    given those that `log_size` says.
    """

    name: str
    method: str
    problem: str
    seed: int
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    access: str | None = None
    start: str | None = None
    start_at: str = ""
    beside: str | None = None
    log: str | None = None
    log_steps: int = 20_000
    log_size: str = ""  # as in `isthmus.logs.datasets`: ":5000", ":1episode"
    evaluations: int | None = None  # in training
    evaluation_episodes: int | None = None
    episodes: int = 100  # final evaluation, in either domain
    landscapes: dict[str, str] = field(default_factory=dict)
    landscape_episodes: int = 10

    @property
    def logged(self) -> dict[str, Any]:
        """What its file says of its log."""
        return (
            {"log": self.log, "log_steps": self.log_steps, "log_size": self.log_size}
            if self.log
            else {}
        )

    @property
    def needs(self) -> set[str]:
        """Units whose finished runs must be there before this one."""
        return {name for name in (self.start, self.beside, self.log) if name}


@dataclass(frozen=True)
class Measurement:
    """A unit that trains no policy: `function(seed, **given)`, a module's, gives the measures of
    its file.
    """

    name: str
    function: Callable[..., dict[str, float]]
    seed: int
    given: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    needs: frozenset[str] = frozenset()


class Line(NamedTuple):
    """One approach in a panel: one array [points, 2] a seed. One that never leaves x = 0 is drawn
    as a level.
    """

    name: str
    seeds: list[np.ndarray]
    role: str = ""  # "floor", "ceiling" or ""


class Panel(NamedTuple):
    """Curves of approaches, means with their intervals over seeds."""

    title: str
    x: str
    y: str
    lines: list[Line]


Row = tuple[str, str, Any, Any, Any]
"""One line of a unit's file."""

Pictures = Mapping[str, Sequence[tuple[str, Landscape]] | Sequence[Panel]]
"""Each picture's name and what is on it: landscapes with titles, or panels of curves, side by side."""


def no_pictures(*_: Any) -> list[Any]:
    return []


@dataclass(frozen=True)
class Study:
    """`units(scale, figure)` is the table; `report` says in lines what came out, `claims` what it
    says of the paper's claims, `pictures` what to draw, as data. `measure(run, other)` gives rows
    of its own for a unit's file; `other` is the run that the unit is measured against, or else
    started from. It is a module's function: processes call it.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    units: Callable[[str, str | None], Sequence[Trial | Measurement]]
    report: Callable[[dict[str, Results]], list[str]]
    pictures: Callable[[dict[str, Results]], Pictures] = lambda results: {}
    claims: Callable[[dict[str, Results]], list[Claim]] = no_pictures
    measure: Callable[[Run, Run | None], list[Row]] = no_pictures
    scenes: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict
    )  # figure -> titles, domains to look at


@dataclass(frozen=True)
class Results:
    """What a unit's file says."""

    rows: list[dict[str, str]]

    @staticmethod
    def read(path: Path) -> Results:
        with path.open(newline="", encoding="utf-8") as file:
            return Results(list(csv.DictReader(file)))

    def value(self, kind: str, key: str) -> float:
        found = [r["value"] for r in self.rows if r.get("kind") == kind and r.get("key") == key]
        try:
            return float(found[0])
        except (IndexError, TypeError, ValueError):
            raise BadValue(
                f"a unit's file has no number {kind},{key}: remove it and run the unit again"
            ) from None

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What made the file; `settings` and `needs` (digests of the runs it stands on, by unit) as
        dicts. Raises BadValue where that cannot be read.
        """
        found: dict[str, Any] = {r["key"]: r["value"] for r in self.rows if r.get("kind") == "meta"}
        try:
            return found | {
                k: dict(json.loads(v)) for k, v in found.items() if k in ("settings", "needs")
            }
        except (TypeError, ValueError):
            raise BadValue(
                "a unit's file has damaged settings: remove it and run the unit again"
            ) from None

    def cells(self, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axes [X], [Y] and mean returns [X, Y] of a landscape."""
        rows = [r for r in self.rows if r["kind"] == "cell" and r["key"] == key]
        x, y = (np.unique([float(r[k]) for r in rows]) for k in ("x", "y"))
        return x, y, np.array([float(r["value"]) for r in rows]).reshape(len(x), len(y))

    def curve(self, key: str) -> np.ndarray:
        """[points, 3]: source steps, target transitions, value."""
        rows = [r for r in self.rows if r["kind"] == "curve" and r["key"] == key]
        return np.array([[float(r[k]) for k in ("x", "y", "value")] for r in rows])


RENAMED = {"centred": ("offset", {True: "mean", False: "none"})}
"""Settings that older files hold by another name: today's, and today's values."""


def config_mismatches(unit: Trial | Measurement, meta: Mapping[str, Any]) -> list[str]:
    """In what a file's or a run's `meta` differs from what the unit asks for, as "offset mean
    instead of floor".

    Only what both name is held against each other: a setting that came later does not make older
    results another's.
    """
    from isthmus.methods import registry

    if isinstance(unit, Measurement):
        asked = {"seed": unit.seed, **unit.given}
        return [
            f"{k} {meta.get(k)} instead of {v}"
            for k, v in asked.items()
            if str(meta.get(k)) != str(v)
        ]
    asked: dict[str, Any] = {"method": unit.method, "problem": unit.problem, "seed": unit.seed, "steps": unit.steps,
                             "start_at": unit.start_at or "end", **unit.logged}  # fmt: skip
    there = {k: meta[k] for k in asked if k in meta}
    if "digest" in meta:  # a unit's file, which says only where it did not start from the end
        there.setdefault("start_at", "end")
    if not (
        found := [
            f"{k} {v} instead of {asked[k]}" for k, v in there.items() if str(v) != str(asked[k])
        ]
    ):
        asked = registry.settings_of(registry.build(unit.method, unit.settings))
        there = dict(meta.get("settings", {}))
        there |= {
            new: values.get(there[old]) for old, (new, values) in RENAMED.items() if old in there
        }
        plain = lambda x: list(x) if isinstance(x, tuple) else x
        found = [
            f"{k} {v} instead of {plain(asked[k])}"
            for k, v in there.items()
            if k in asked and v != plain(asked[k])
        ]
    return found


def read_units(
    units: Iterable[Trial | Measurement], results: Path
) -> tuple[dict[str, Results], list[str]]:
    """The units' files that are there, by unit, and what is to be said of them, a line each: files
    that were made otherwise than the study asks are named and left out; those that do not tell
    their settings are taken, and so are those that stand on a run which was made anew since.
    """
    done: dict[str, Results] = {}
    others: dict[str, list[str]] = {}
    silent: list[str] = []
    for unit in {unit.name: unit for unit in units}.values():
        if not (path := results / f"{unit.name}.csv").exists():
            continue
        read = _whole(path, "digest" if isinstance(unit, Trial) else "wall_seconds")
        if found := config_mismatches(unit, read.meta):
            others.setdefault(", ".join(found), []).append(path.name)
            continue
        silent += [path.name] * (isinstance(unit, Trial) and "settings" not in read.meta)
        done[unit.name] = read
    said = [
        f"left out, for they were made with {what}: {', '.join(names)}; remove them to run these "
        "units again"
        for what, names in others.items()
    ]
    for name, read in done.items():
        for other, digest in read.meta.get("needs", {}).items():
            if other in done and done[other].meta["digest"] != digest:
                said.append(
                    f"{name}.csv stands on another run of {other} than {other}.csv tells of, as "
                    "one machine's bits are "
                    "not another's: the two are independent draws; remove it, and its run, to run "
                    "it again"
                )
    if (
        len(
            kinds := Counter(
                str(read.meta.get("cpu", "a kind not recorded")) for read in done.values()
            )
        )
        > 1
    ):
        counts = ", ".join(f"{number} on {kind}" for kind, number in sorted(kinds.items()))
        said.append(f"units were made on several kinds of CPU, whose bits differ: {counts}")
    if silent:
        said.append(
            f"no settings are recorded in {', '.join(silent)}: taken to be what the study asks for"
        )
    return done, said


def _whole(path: Path, last: str = "wall_seconds") -> Results:
    """A unit's file. Raises BadValue, with its name, where that is damaged or cut short of its
    `last` line.
    """
    read = Results.read(path)
    try:
        if last in read.meta:
            return read
        why = "is damaged or cut short"
    except BadValue as error:
        why = str(error).partition(":")[0].replace("a unit's file ", "")
    raise BadValue(f"{path} {why}: remove it and run the unit again")


SCALES = ("smoke", "laptop", "paper")
COUNTS = (
    "kind",
    "source_steps",
    "target_transitions",
)  # of an evaluation's line; all else is what was measured


Job = tuple[Trial | Measurement, Path, Path, Callable[[Run, Run | None], list[Row]]]


def kept_path(results: Path, name: str) -> Path:
    """Return where what a run hands over, or a log, is kept with a study's results: see
    `isthmus.training.kept`.
    """
    return results / "starts" / f"{name}.safetensors"


def open_needed(name: str, results: Path, runs: Path, at: str = "") -> Run:
    """Open the finished run of a unit that another one needs, or what is kept of it with the
    results.

    `at` is the checkpoint: the last one, or "best".
    """
    reference = f"{name}@{at}" if at else name
    kept = kept_path(results, reference)
    return Run.open(kept if kept.exists() and not is_finished(name, runs) else runs / reference)


def is_finished(name: str, runs: Path) -> bool:
    """Return whether a unit's run is there, trained to its end."""
    return (runs / name / "finished.json").exists()


def ensure_log(unit: Trial, results: Path, runs: Path) -> str:
    """Return the log that a unit learns from, as a problem's data; one that is made now is kept
    with the results.
    """
    from isthmus.logs.datasets import read_log, write_log
    from isthmus.problems.problem import make_problem
    from isthmus.training.collect import log_target
    from isthmus.training.kept import keep_log, read_kept_log

    run, problem = open_needed(str(unit.log), results, runs), make_problem(unit.problem)
    made_by = run.digest[:12]  # a policy trained anew has another log
    name = f"{unit.log}-{made_by}-in-{re.sub('[^a-z0-9_.-]+', '-', unit.problem)}-{unit.log_steps}"
    path, kept = runs / f"{name}.npz", kept_path(results, name)
    if path.exists():
        return f"{path}{unit.log_size}"
    mine = path.with_name(
        f"{os.getpid()}-{path.name}"
    )  # others of the same wave may be making it, too
    if kept.exists():
        write_log(mine, *read_kept_log(kept), problem.target)
    elif (
        log_target(run, problem, mine, unit.log_steps, seed=unit.seed).size < unit.log_steps
    ):  # stopped by its user
        mine.unlink()
        raise KeyboardInterrupt
    else:
        data = read_log(str(mine), problem.target)
        keep_log(data.log, data.metadata, kept)
    os.replace(mine, path)
    return f"{path}{unit.log_size}"


def run_unit(job: Job) -> str:
    """Train and evaluate, or measure, and write the unit's file. Where that is there, and others
    stand on a run that is not any more, only train; raises BadValue where other bits come of it
    than the file tells of.
    """
    unit, results, runs, measure = job
    for folder in (results, runs):
        check_shared(folder)
    began, path = time.monotonic(), results / f"{unit.name}.csv"
    if isinstance(unit, Trial):
        run, problem = ensure_trained(unit, results, runs)
        if path.exists():
            _check_same(run, path)
            return unit.name
        rows, meta = evaluate_trial(unit, run, problem, results, runs, measure)
    else:
        rows = [
            ("measure", key, "", "", f"{value:.6g}")
            for key, value in unit.function(unit.seed, **unit.given).items()
        ]
        meta = {**versions(), "steps": unit.steps, "seed": unit.seed, **unit.given}
    seconds = max(float(meta.get("wall_seconds", 0)), time.monotonic() - began)
    rows += [
        ("meta", key, "", "", value)
        for key, value in (meta | {"wall_seconds": f"{seconds:.0f}"}).items()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "key", "x", "y", "value"])
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return unit.name


def _check_same(run: Run, path: Path) -> None:
    """Raise BadValue where a run is not the one that its unit's file tells of: what stands on it
    would be no pair of what stood on the other.
    """
    told, ours = _whole(path, "digest").meta, run.config["versions"]
    if run.digest == told["digest"]:
        return
    why = [
        f"{name} {value or 'unset'} instead of {told[name] or 'unset'}"
        for name, value in ours.items() if told.get(name, value) != value
    ]  # fmt: skip
    raise BadValue(
        f"{run.folder} has other bits than the run that {path} tells of "
        f"({', '.join(why) or 'another CPU or code'}), "
        "and others stand on it: run the study anew with --results and --runs elsewhere, or put "
        "back what that run "
        f"left, {kept_path(path.parent, path.stem)} (docs/reproducibility.md)"
    )


def _check_needed(
    units: Iterable[Trial | Measurement], table: dict[str, Any], results: Path, runs: Path
) -> None:
    """Raise BadValue, before anything is trained, where a run that one of the units needs is not
    what its own unit asks for, or not what that one's file tells of.
    """
    for name in sorted({name for unit in units for name in unit.needs & table.keys()}):
        path, there = results / f"{name}.csv", _is_there(name, results, runs)
        if there:
            run = open_needed(name, results, runs)
            if found := config_mismatches(
                table[name], {k: v for k, v in run.config.items() if k != "problem"}
            ):
                raise BadValue(
                    f"{run.folder} was made with {', '.join(found)}, and others start from it; "
                    "remove it"
                )
        if path.exists():
            if found := config_mismatches(table[name], _whole(path, "digest").meta):
                raise BadValue(
                    f"{path} was made with {', '.join(found)}, and others stand on what it was; "
                    "remove it"
                )
            if there:
                _check_same(open_needed(name, results, runs), path)


def ensure_trained(unit: Trial, results: Path, runs: Path) -> tuple[Run, Problem]:
    """A unit's training and its problem; one cut short goes on from its checkpoint."""
    from isthmus.problems.problem import make_problem
    from isthmus.training.train import resume, train

    folder = runs / unit.name
    data = ensure_log(unit, results, runs) if unit.log else None
    problem = make_problem(
        unit.problem, access=unit.access or ("dataset" if data else None), data=data
    )
    start = open_needed(unit.start, results, runs, unit.start_at) if unit.start else None
    if (folder / "run.json").exists():
        run = Run.open(folder)
        run.expect(Run.plan(unit.method, problem, unit.seed, unit.steps, unit.settings, start))
        run = run if run.finished else resume(folder, quiet=True)
    else:
        run = train(
            unit.method, problem, seed=unit.seed, steps=unit.steps, settings=unit.settings, start=start, out=folder,
            evaluations=unit.evaluations, evaluation_episodes=unit.evaluation_episodes, quiet=True,
        )  # fmt: skip
    if not run.finished:
        raise KeyboardInterrupt  # stopped by its user: saved, and no result yet
    return run, problem


def evaluate_trial(
    unit: Trial,
    run: Run,
    problem: Problem,
    results: Path,
    runs: Path,
    measure: Callable[[Run, Run | None], list[Row]],
) -> tuple[list[Row], dict[str, Any]]:
    """What came of a training, and how it was made."""
    from isthmus.evaluation.evaluate import evaluate, evaluate_method
    from isthmus.evaluation.landscape import landscape, over

    state, method = run.state(), run.method
    rows: list[Row] = []
    for line in run.metrics():
        if line["kind"] == "evaluation":
            x, y = line["source_steps"], line["target_transitions"]
            rows += [
                ("curve", key, x, y, value) for key, value in line.items() if key not in COUNTS
            ]
    for name, domain in (("source", problem.source), ("target", problem.evaluation_target)):
        if name == "target" and domain.grid:
            continue  # its cells are what landscapes are for
        if name == "source" and not method.adapts:
            played = evaluate(method.source_policy(state), domain, unit.episodes).episodes
        else:
            found = evaluate_method(method, state, problem, domain, unit.episodes)
            played = found.episodes
            if name == "target" and method.adapts:
                rows.append(
                    ("final", "adaptation_transitions", "", "", int(found.adaptation.transitions))
                )
        said = {"return": played.returns.mean(), "return_sd": played.returns.std(), "length": played.lengths.mean(),
                "forward": played.forward.mean(), "success": played.success.mean()}  # fmt: skip
        rows += [("final", f"{name}_{key}", "", "", f"{value:.6g}") for key, value in said.items()]
    other = unit.beside or unit.start
    rows += measure(run, open_needed(other, results, runs) if other else None)
    for key, settings in unit.landscapes.items():
        grid = over(problem.evaluation_target, settings)
        adapting = (method, state, problem) if method.adapts else None
        result = landscape(run.policy, grid, unit.landscape_episodes, method=adapting)
        for i, x in enumerate(result.axes[0]):
            for j, y in enumerate(result.axes[1]):
                rows.append(("cell", key, f"{x:.6g}", f"{y:.6g}", f"{result.mean[i, j]:.2f}"))
    seconds = sum(
        line["seconds"] for line in run.metrics() if line["kind"] == "round"
    )  # before an interruption too
    needs = {name: open_needed(name, results, runs).digest for name in sorted(unit.needs)}
    if unit.start and run.config.get("start_digest"):
        began = f"{unit.start}@{unit.start_at}" if unit.start_at else unit.start
        needs[began] = run.config["start_digest"]  # and not what lies there by now
    return rows, {
        **run.config["versions"], "wall_seconds": seconds, "steps": unit.steps,
        "source_steps": int(state.source_steps), "start": unit.start or "",
        **({"start_at": unit.start_at} if unit.start_at else {}),
        "method": unit.method, "problem": unit.problem, "seed": unit.seed, **unit.logged,
        "settings": json.dumps(run.config["settings"], sort_keys=True),
        "needs": json.dumps(needs),
        "digest": run.digest,
    }  # fmt: skip


def missing(units: Sequence[Trial | Measurement], results: Path) -> list[Trial | Measurement]:
    return [unit for unit in units if not (results / f"{unit.name}.csv").exists()]


def _is_there(name: str, results: Path, runs: Path) -> bool:
    return is_finished(name, runs) or kept_path(results, name).exists()


def _lacks_start(unit: Trial, results: Path, runs: Path) -> bool:
    """Return whether a unit that starts at another's best evaluation finds neither that run nor
    what is kept of it.
    """
    if not (unit.start and unit.start_at) or is_finished(unit.start, runs):
        return False
    return not kept_path(results, f"{unit.start}@{unit.start_at}").exists()


def find_waiting(units: Sequence[Trial | Measurement], results: Path, runs: Path) -> dict[str, str]:
    """Return the units without a file that cannot be run here, each with the run that it waits for.

    That run is neither there nor kept, and what it was made by cannot be had here: an older version
    of first weights, or another kind of CPU. Trained again it would have other bits, and what
    starts from it would be no pair.
    """
    waits_for: dict[str, str] = {}
    for unit in missing(units, results):
        for name in sorted(unit.needs):
            if not _is_there(name, results, runs) and not _can_be_made_again(
                results / f"{name}.csv"
            ):
                waits_for.setdefault(unit.name, name)
    waiting = True
    while waiting:  # and what stands on those
        waiting = [u for u in units if u.name not in waits_for and u.needs & waits_for.keys()]
        waiting = [u for u in waiting if not (results / f"{u.name}.csv").exists()]
        waits_for |= {u.name: waits_for[sorted(u.needs & waits_for.keys())[0]] for u in waiting}
    return waits_for


def _can_be_made_again(path: Path) -> bool:
    """Return whether a run may be trained again to the bits that its unit's file tells of, if there
    is such a file.
    """
    return not path.exists() or _whole(path, "digest").meta.get("cpu") == cpu_kind()


def describe_waiting(waits_for: Mapping[str, str], results: Path) -> list[str]:
    """Return what is to be said of units that wait for a run, a line a run."""
    counts = Counter(waits_for.values())
    why = "which cannot be made again here to the bits that its file tells of (an older version, or another kind of CPU)"
    way = "run the study anew with --results and --runs elsewhere"
    return [
        f"{number} units wait for the run of {name}, {why}: put back {kept_path(results, name)}, "
        f"or {way}"
        for name, number in sorted(counts.items())
    ]


def schedule(
    units: Sequence[Trial | Measurement], results: Path, runs: Path
) -> list[list[Trial | Measurement]]:
    """The units without a file, and those that have one but whose run others need and is not there:
    each after what it needs, the units of one wave side by side. Units that wait for a run which
    cannot be had here are left out.
    """
    table = {unit.name: unit for unit in units}
    out: list[list[Trial | Measurement]] = []
    waits_for = find_waiting(units, results, runs)
    wave = [unit for unit in missing(units, results) if unit.name not in waits_for]
    while wave:
        out = [wave, *([u for u in later if u not in wave] for later in out)]
        needed = {
            name for unit in wave for name in unit.needs if not _is_there(name, results, runs)
        }
        needed |= {
            unit.start
            for unit in wave
            if isinstance(unit, Trial) and _lacks_start(unit, results, runs)
        }
        wave = [table[name] for name in table if name in needed]
    return [wave for wave in out if wave]


def run_units(
    units: Sequence[Trial | Measurement],
    results: Path,
    runs: Path,
    executor: Executor,
    poll: Callable[[], None] | None = None,
    measure: Callable[[Run, Run | None], list[Row]] = no_pictures,
) -> None:
    """Run the units that have no file yet, first those whose runs others start from.

    Raises BadValue where a run that one starts from or is measured against is not what its own unit
    asks for, or what its own unit's file tells of.
    """
    make_folder(results, "--results")
    make_folder(runs, "--runs")
    plan = schedule(units, results, runs)
    _check_needed(
        [unit for wave in plan for unit in wave], {unit.name: unit for unit in units}, results, runs
    )
    for wave in plan:
        for _ in executor.map(run_unit, [(unit, results, runs, measure) for unit in wave], poll):
            pass
        _keep_starts(units, results, runs)


def _keep_starts(units: Iterable[Trial | Measurement], results: Path, runs: Path) -> None:
    """Keep, with the results, what others of a study start from: these runs' bits cannot be had on
    another machine.
    """
    from isthmus.training.kept import keep_run

    needed = [unit for unit in units if isinstance(unit, Trial)]
    starts = {(name, "") for unit in needed for name in (unit.start, unit.log) if name}
    starts |= {(unit.start, unit.start_at) for unit in needed if unit.start and unit.start_at}
    for name, at in sorted(starts):
        is_done = (results / f"{name}.csv").exists() and is_finished(name, runs)
        kept = kept_path(results, f"{name}@{at}" if at else name)
        if is_done and not kept.exists():
            with suppress(BadValue):  # of a method that is more than a learner nothing can be kept
                keep_run(open_needed(name, results, runs, at), kept)


def forecast(units: Sequence[Trial | Measurement], results: Path, runs: Path, workers: int) -> str:
    """What is left to run will cost, a unit by the wall time a step of the same experiment's files
    (any seed, also of another scale, but that smoke is no measure of others); else of its method's;
    else of all. Medians, for some of them were made on busy machines.
    """
    left = [unit for wave in schedule(units, results, runs) for unit in wave]
    if not left:
        waiting = len(missing(units, results))
        return (
            f"{waiting} of {len(units)} units wait"
            if waiting
            else f"all {len(units)} units are there"
        )
    steps, again = (
        sum(u.steps for u in left),
        sum((results / f"{u.name}.csv").exists() for u in left),
    )
    said = f"{len(left) - again} of {len(units)} units are left, {steps:,} training steps"
    said += f" with those of {again} more whose runs others stand on and are not there any more" * (
        again > 0
    )
    rates = _rates(results, smoke=left[0].name.startswith("smoke-"))
    if not rates:
        return f"{said}; no unit has been timed yet"
    methods: dict[str, dict[str, list[float]]] = {}
    for unit in units:
        if isinstance(unit, Trial) and (found := rates.get(_experiment(unit.name))):
            methods.setdefault(unit.method, {})[_experiment(unit.name)] = found

    def rate(unit: Trial | Measurement) -> float:
        known = methods.get(unit.method) if isinstance(unit, Trial) else None
        found = rates.get(_experiment(unit.name)) or [
            x for each in (known or rates).values() for x in each
        ]
        return float(np.median(found))

    whole = _rates(results, smoke=left[0].name.startswith("smoke-"), steps=False)
    seconds = [
        u.steps * rate(u) if u.steps else np.median(whole.get(_experiment(u.name), [0.0]))
        for u in left
    ]
    minutes = sum(seconds) / 60 / workers
    return (
        f"{said}: about {minutes:,.0f} minutes, {workers} at once, at the rates of finished units"
    )


def _rates(results: Path, smoke: bool, steps: bool = True) -> dict[str, list[float]]:
    """Seconds a training step of the files that are there, by experiment; without `steps` those of
    units that have none, in all.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(results.glob("*.csv")):
        if not path.stem.endswith("-claims") and path.stem.startswith("smoke-") == smoke:
            wall, taken = (_whole(path).value("meta", key) for key in ("wall_seconds", "steps"))
            if bool(taken) == steps:
                found.setdefault(_experiment(path.stem), []).append(wall / (taken or 1))
    return found


def _experiment(name: str) -> str:
    """A unit's name without scale and seed."""
    return re.sub(rf"^({'|'.join(SCALES)})-|-s\d+$", "", name)
