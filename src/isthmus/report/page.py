"""One self-contained HTML page of runs and comparisons: numbers with their intervals, pictures,
where they are from.

The page asks no other machine for anything: pictures, styles and a few lines of script are in it.
"""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure

from isthmus.evaluation import statistics
from isthmus.evaluation.landscape import Landscape, training_box
from isthmus.report import figures
from isthmus.studies.compare import (
    CEILING,
    COMPARISON,
    EVALUATION,
    FLOOR,
    LANDSCAPE,
    Comparison,
    ComparisonRow,
)
from isthmus.tasks.task import find_task
from isthmus.training.run import Run
from isthmus.training.run_files import RunError, write_text
from isthmus.types import IsthmusError

CLIP_SECONDS, CLIP_SIZE = 8.0, (420, 300)
TEMPLATE = "report.html.j2"


def write_report(runs: Sequence[Path | str], out: Path | str, title: str | None = None) -> Path:
    """Write the page about `runs`: folders of runs, of comparisons, or holding runs.

    What is damaged, empty or unfinished is said on the page. Raises RunError, in one line, for a
    folder that is none of these, where nothing in any of them can be read, and where `out` cannot
    be written.
    """
    groups = read_runs([Path(run) for run in runs])
    sections = [section(group) for group in groups]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": figures.number, "whole": whole}
    text = environment.get_template(TEMPLATE).render(
        title=title or ", ".join(dict.fromkeys(group.title for group in groups)),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        sections=sections,
        few=statistics.FEW_SEEDS,
        compared=any(group.comparison for group in groups),
    )
    write_text(Path(out), text)
    return Path(out)


def whole(x: float) -> str:
    return f"{x:,.0f}"


# What is there


@dataclass
class Entry:
    """A run as far as it can be read; `notes` say what could not."""

    run: Run
    role: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.run.folder.name

    @cached_property
    def last(self) -> dict[str, Any]:
        """Counters at the end, or as far as it came."""
        counters = ("source_steps", "target_transitions")
        if self.run.finished:
            try:
                end = json.loads((self.run.folder / "finished.json").read_text(encoding="utf-8"))
                return {"digest": str(end["digest"]), **{k: int(end[k]) for k in counters}}
            except (OSError, ValueError, KeyError, TypeError):
                self.notes.append(f"{self.label}: finished.json is damaged")
        rows = self._metrics
        return {"digest": "", **{k: int(rows[-1][k]) if rows else 0 for k in counters}}

    @cached_property
    def _metrics(self) -> list[dict[str, Any]]:
        rows = figures.logged(self.run)
        if not rows:
            self.notes.append(f"{self.label}: metrics.jsonl holds nothing that can be read")
        return rows

    @property
    def status(self) -> str:
        done = self.last["source_steps"] + self.last["target_transitions"]
        return (
            "finished"
            if self.run.finished
            else f"unfinished: {whole(done)} of {whole(self.run.steps)} steps"
        )

    @property
    def evaluated(self) -> dict[str, float]:
        """The last evaluation of training: returns and successes in source and target, where there
        was one.
        """
        rows = [row for row in self._metrics if row["kind"] == "evaluation"]
        keys = [
            f"{where}_{what}" for what in ("return", "success") for where in ("source", "target")
        ]
        return {k: rows[-1][k] for k in keys if rows and k in rows[-1]}

    @cached_property
    def goal(self) -> bool:
        """Whether the robot's task has a goal: elsewhere a success of 0 says nothing."""
        try:
            return "sparse" in find_task(self.run.problem.target.task).variants
        except IsthmusError:  # a foreign environment, whose infos say it if anything does
            return bool((self.played or {}).get("success"))

    @cached_property
    def played(self) -> dict[str, float] | None:
        """What `evaluation.csv` holds: mean return, fallen per cent, mean length, per cent at the
        goal (older files do not say). None where there is none.
        """
        path = self.run.folder / EVALUATION
        if not path.exists():
            return None
        try:
            with path.open(newline="", encoding="utf-8") as file:
                read = list(csv.DictReader(file))
            rows = [[float(row[k]) for k in ("return", "fell", "length")] for row in read]
            told = [float(row["success"]) for row in read if "success" in row]
            if not rows or not np.isfinite(rows).all() or not np.isfinite(told).all():
                raise ValueError
        except (OSError, KeyError, TypeError, ValueError, csv.Error):
            self.notes.append(f"{self.label}: {EVALUATION} is damaged")
            return None
        mean, fell, length = np.mean(rows, axis=0)
        success = {"success": 100 * float(np.mean(told))} if told else {}
        return {"mean": float(mean), "fell": 100 * float(fell), "length": float(length), **success}

    @cached_property
    def landscape(self) -> Landscape | None:
        path = self.run.folder / LANDSCAPE
        if not path.exists():
            return None
        try:
            found = figures.read_landscape(path)
            return found._replace(
                box=training_box(self.run.method.trained_in(self.run.problem), found.names)
            )
        except IsthmusError as error:
            self.notes.append(f"{self.label}: {error}")
            return None


@dataclass
class Group:
    """Runs on one problem, and their comparison where there is one."""

    folder: Path
    entries: list[Entry]
    comparison: Comparison | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def problem(self) -> dict[str, Any]:
        return self.comparison.problem if self.comparison else self.entries[0].run.config["problem"]

    @property
    def title(self) -> str:
        return self.problem["name"] or self.problem["target"]

    @property
    def methods(self) -> dict[str, list[Entry]]:
        out: dict[str, list[Entry]] = {}
        for entry in self.entries:
            out.setdefault(entry.run.name, []).append(entry)
        return out


def read_runs(paths: Sequence[Path]) -> list[Group]:
    """The comparisons, then the other runs grouped by problem. Raises RunError where there is
    nothing to read.
    """
    if not paths:
        raise RunError("name at least one run's or comparison's folder")
    groups: list[Group] = []
    loose: dict[tuple[str, str], Group] = {}
    unread: list[str] = []
    for path in dict.fromkeys(paths):
        notes: list[str] = []
        if (path / COMPARISON).exists():
            comparison = _read_comparison(path, notes)
            if comparison:
                groups.append(_compared(path, comparison))
                continue
        folders = (
            [path]
            if (path / "run.json").exists()
            else sorted(p.parent for p in path.glob("*/run.json"))
        )
        if not folders:
            if notes:
                raise RunError(notes[0])
            what = (
                "it does not exist"
                if not path.exists()
                else f"it has neither run.json nor {COMPARISON}"
            )
            raise RunError(f"{path} is no run and no comparison: {what}")
        if folders != [path] and not notes:
            notes.append(
                f"{path} has no {COMPARISON}, which is written when all runs have ended: they are "
                "shown alone"
            )
        for folder in folders:
            try:
                run = _open(folder)
                key = (run.config["problem"]["source"], run.config["problem"]["target"])
                group = loose.setdefault(key, Group(path, []))
                group.entries.append(Entry(run))
                group.notes += [note for note in notes if note not in group.notes]
            except RunError as error:
                unread.append(str(error))
    groups += loose.values()
    if not groups:
        raise RunError(unread[0])
    groups[0].notes += unread
    return groups


def _open(folder: Path) -> Run:
    """A run whose run.json holds what the page says of it. Raises RunError, in one line."""
    run = Run.open(folder)
    if run.which:
        raise RunError(f"a report is of a whole run: leave out @{run.which} of {folder}")
    config = run.config
    kinds = {
        "method": str,
        "settings": dict,
        "versions": dict,
        "seed": int,
        "steps": int,
        "start": str | None,
    }
    wrong = [
        name
        for name, kind in (kinds | {"problem": dict}).items()
        if not isinstance(config[name], kind)
    ]
    kinds = {"name": str, "source": str, "target": str, "budget": dict}
    wrong = wrong or [
        name for name, kind in kinds.items() if not isinstance(config["problem"].get(name), kind)
    ]
    wrong = wrong or [
        n for n, x in config["problem"]["budget"].items() if not isinstance(x, int | float | None)
    ]
    if wrong:
        raise RunError(f"{folder}/run.json is damaged: its {', '.join(wrong)} cannot be read")
    return run


def _read_comparison(folder: Path, notes: list[str]) -> Comparison | None:
    try:
        found = Comparison.read(folder)
        problem = [found.problem[name] for name in ("name", "source", "target")]
        limits = found.problem["budget"].values()
        texts = [
            *problem,
            *(
                text
                for r in found.rows
                for text in (r.method, r.role, r.interval, r.verdict, *r.runs)
            ),
        ]
        ends = [
            x
            for r in found.rows
            for x in (r.low, r.high, r.against_floor, r.against_floor_low, r.against_floor_high)
        ]
        counts = [
            (r.source_steps, r.target_transitions, r.logged_transitions, r.adaptation_transitions)
            for r in found.rows
        ]
        numbers = [
            found.seeds,
            found.steps,
            found.episodes,
            *(x for r in found.rows for x in (r.value, *r.scores)),
            *(x for each in counts for x in each),
            *(x for x in (*ends, *limits) if x is not None),
        ]
        if not all(isinstance(text, str) for text in texts) or not all(
            math.isfinite(x) for x in numbers
        ):
            raise ValueError("text, or a number, is not what it should be")
        if not found.rows or not all(r.scores and r.runs for r in found.rows):
            raise ValueError("there are no rows, or rows without seeds")
        return found
    except OSError as error:
        notes.append(f"{folder}/{COMPARISON} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(
            f"{folder}/{COMPARISON} is damaged ({type(error).__name__}: {error}): its runs are "
            "shown alone"
        )
    return None


def _compared(folder: Path, comparison: Comparison) -> Group:
    group = Group(folder, [], comparison)
    for row in comparison.rows:
        for name in row.runs:
            try:
                group.entries.append(Entry(_open(folder / name), row.role))
            except RunError as error:
                group.notes.append(str(error))
    return group


# What is said


class Picture(NamedTuple):
    """An image with its words; `still` is what print shows in place of an animation."""

    image: str  # a data: address
    alt: str
    caption: str
    cells: Sequence[figures.Cell] = ()
    still: str = ""


def section(group: Group) -> dict[str, Any]:
    """All that the template needs about a group."""
    notes = group.notes
    pictures = [p for p in (_scores(group), *_curves(group), _landscapes(group, notes)) if p]
    clip, no_clip = (
        _clip(group)
        if group.entries
        else (None, "No animation: no run of this comparison can be read.")
    )
    runs = [_facts(entry) for entry in group.entries]  # last: what it cannot read goes to the notes
    made, differ = _versions(group.entries)
    return {
        "title": group.title, "comparison": group.comparison, "lede": _lede(group), "pictures": pictures,
        "clip": clip, "no_clip": no_clip, "runs": runs, "problem": _problem(group), "versions": made,
        "settings": _settings(group), "health": _health(group),
        "notes": [*notes, *differ, *(note for entry in group.entries for note in entry.notes)],
        "folder": str(group.folder),
    }  # fmt: skip


def _span(low: float | None, high: float | None) -> str:
    return (
        "no interval"
        if low is None or high is None
        else f"[{figures.number(low)},\u00a0{figures.number(high)}]"
    )


def _lede(group: Group) -> list[str]:
    """The answer, in words."""
    c = group.comparison
    if c is None:
        return []
    rows = {row.method: row for row in c.rows}
    floor, ceiling = rows.get(FLOOR), rows.get(CEILING)
    said = []
    seeds = statistics.seeds(c.seeds)
    if floor:
        said.append(
            f"Over {seeds}, {FLOOR}, the floor, reaches {_reach(floor)} in the target"
            + (f"; {CEILING}, the ceiling, {_reach(ceiling)}." if ceiling else ".")
        )
    for row in c.rows:
        if row.role or row.against_floor is None:
            continue
        by = "+" * (row.against_floor > 0) + figures.number(row.against_floor)
        span = _span(row.against_floor_low, row.against_floor_high)
        verdict = {"better": "is better than the floor", "worse": "is worse than the floor"}.get(
            row.verdict
        )
        verdict = verdict or f"against the floor: {row.verdict}"
        said.append(f"{row.method} {verdict} ({by} {span}).")
    return said + [c.unlike] * bool(c.unlike)


def _reach(row: ComparisonRow) -> str:
    return f"{figures.number(row.value)} {_span(row.low, row.high)}"


def _data(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _drawn(figure: Figure, alt: str, caption: str, cells: Sequence[figures.Cell] = ()) -> Picture:
    return Picture(_data(figures.svg(figure), "svg+xml"), alt, caption, cells)


def _scores(group: Group) -> Picture | None:
    c = group.comparison
    if c is None:
        return None
    scores = [figures.Score(r.method, r.role, r.scores, r.value, r.low, r.high) for r in c.rows]
    reached = "; ".join(f"{r.method} {_reach(r)}" for r in c.rows)
    kind = c.rows[0].interval
    middle = "IQM" if "IQM" in kind else "mean"
    return _drawn(
        figures.scores_figure(scores),
        f"Mean return in the target, one line a method: {reached}.",
        f"Mean return in the target over {c.episodes} episodes. A ring is a seed, a diamond the "
        f"{middle} over seeds, a "
        f"bar its 95 % interval ({kind}), with an arrow where it goes on; the dotted line is the "
        "floor.",
    )


def _all_curves(group: Group) -> list[figures.Curves]:
    return [figures.curves_of(name, [e.run for e in entries], entries[0].role)
            for name, entries in group.methods.items()]  # fmt: skip


def _curves(group: Group) -> list[Picture]:
    curves = _all_curves(group)
    try:
        figure = figures.curves_figure(curves)
    except IsthmusError as error:
        group.notes.append(f"No learning curves: {error}.")
        return []
    few, most = min(len(each.seeds) for each in curves), max(len(each.seeds) for each in curves)
    if most < figures.SEEDS_FOR_A_BAND:
        lines = " Lines are means of two seeds, too few for a band." if most > 1 else ""
    else:
        lines = " Lines are means over seeds, bands their 95 % interval (Student), cut where it leaves the picture."
    thin = " Thin lines are single seeds." if 1 < few < statistics.FEW_SEEDS else ""
    took = [
        {figures.moves(each, axis) for each in curves}
        for axis in (figures.SOURCE_STEPS, figures.TARGET_TRANSITIONS)
    ]
    dotted = " A dotted level line is the last evaluation of a method that took nothing of what the axis counts."
    ends = "; ".join(
        f"{each.name} {figures.number(y[-1])}" for each in curves
        if len(y := figures.band(each.seeds, figures.SOURCE_STEPS, figures.TARGET_RETURN)[1])
    )  # fmt: skip
    alt = (
        f"Learning curves. Return in the target at the end of training: {ends or 'not evaluated'}."
    )
    caption = "Learning curves: evaluations in training, of 16 episodes each, a sketch of what playing the policy measures."
    return [_drawn(figure, alt, caption + lines + thin + dotted * ({True, False} in took))]


def _health(group: Group) -> Picture | None:
    try:
        figure = figures.health_figure(_all_curves(group))
    except IsthmusError:
        return None
    return _drawn(
        figure,
        "The learners' health over training, one panel a metric, one line a seed.",
        "The learners' health, one line a seed. Explained variance should rise towards 1; a KL or "
        "a clipped fraction "
        "that climbs means updates too large; entropy that collapses early means exploration has "
        "ended.",
    )


def _landscapes(group: Group, notes: list[str]) -> Picture | None:
    means: list[tuple[str, Landscape]] = []
    for name, entries in group.methods.items():
        found = [e.landscape for e in entries if e.landscape]
        try:
            if found:
                means.append((name, figures.mean_landscape(found)))
        except IsthmusError as error:
            notes.append(f"No landscape of {name}: {error}.")
    same = [(name, each) for name, each in means if each.names == means[0][1].names]
    notes += [
        f"The landscape of {name} has other axes and is not shown."
        for name, e in means
        if (name, e) not in same
    ]
    if not same:
        return None
    try:
        domain = group.entries[0].run.problem.target
    except IsthmusError:
        domain = None
    figure = figures.landscapes_figure(same, domain)
    y, x = same[0][1].names
    parts = [f"{name} {figures.number(each.mean.mean())}" for name, each in same]
    seeds = (
        "mean over the seeds of each method, " if max(map(len, group.methods.values())) > 1 else ""
    )
    inert = figures.inert_below(domain, "foot_friction")
    floor = (
        f" A foot's friction below the floor's {inert:g} changes nothing, since a contact takes "
        "the larger of the two."
        if inert is not None and "foot_friction" in (x, y) else ""
    )  # fmt: skip
    return _drawn(
        figure,
        f"Landscapes of mean return over {x} and {y}, one panel a method. Mean over all cells: "
        f"{'; '.join(parts)}.",
        f"Mean return over {x} and {y}, {seeds}one colour scale for all. White: the dynamics met "
        f"in training.{floor} "
        "Point at a cell to read it.",
        figures.cells(figure, same, domain),
    )


def _clip(group: Group) -> tuple[Picture | None, str]:
    """A rendered rollout of one run, or why there is none."""
    entry = _typical(group)
    run = entry.run
    try:
        problem = run.problem
        for domain in (problem.source, problem.target):
            if not domain.measurable:
                return None, f"No animation: {domain} is known only by its log."
            if not domain.replayable:
                return None, (f"No animation: {domain} is not ours to replay, and a report does not touch it; "
                              f"isthmus watch does, when asked to.")  # fmt: skip
        from isthmus.report.watch import backend, film

        backend()  # before what takes seconds
        clip = film(
            run.policy,
            problem.source,
            problem.target,
            CLIP_SECONDS,
            0,
            CLIP_SIZE,
            run.source_policy,
        )
    except IsthmusError as error:
        return None, f"No animation of {entry.label}: {error}"
    out, still = io.BytesIO(), io.BytesIO()
    clip.write(out, "WEBP")
    clip.frames[len(clip.frames) // 3].save(still, "WEBP", quality=80)
    whose = f"{run.name}, seed {run.seed}"
    why = ", the method with the highest mean in the target but the ceiling, its seed nearest that mean"
    adapts = " The policy is shown before it adapts to the target." if run.method.adapts else ""
    return Picture(
        _data(out.getvalue(), "webp"),
        f"Animation of {whose}. {clip.said}",
        f"One episode of {whose}{why if group.comparison else ''}: source beside target, from the "
        "same start. "
        f"{clip.said}{adapts} One episode is an example, not a measurement.",
        still=_data(still.getvalue(), "webp"),
    ), ""


def _typical(group: Group) -> Entry:
    c = group.comparison
    if c is None:
        return group.entries[0]
    there = {entry.label: entry for entry in group.entries}
    rows = [row for row in c.rows if any(name in there for name in row.runs)]
    best = max(rows, key=lambda row: (row.role != "ceiling", row.value))
    near = sorted(
        zip(best.runs, best.scores, strict=False), key=lambda pair: abs(pair[1] - best.value)
    )
    return next(there[name] for name, _ in near if name in there)


def _facts(entry: Entry) -> dict[str, Any]:
    last, run = entry.last, entry.run
    try:
        moved = last["target_transitions"]
        # A step's length may have to be measured: it is asked for only where there are steps.
        seconds = f"{moved * run.problem.target.step_seconds:,.0f} s" if moved else "0 s"
    except IsthmusError:
        seconds = ""
    return {
        **last, "label": entry.label, "seed": run.seed, "status": entry.status, "target_seconds": seconds,
        "evaluated": entry.evaluated, "played": entry.played, "goal": entry.goal,
        "start": Path(run.config["start"]).name if run.config["start"] else "",
        "resume": "" if run.finished else f"isthmus resume {run.folder}",
    }  # fmt: skip


def _problem(group: Group) -> list[tuple[str, str]]:
    p = group.problem
    budget = ", ".join(
        f"{value:,} {name}" for name, value in p["budget"].items() if value is not None
    )
    logs = [log for entry in group.entries if (log := entry.run.config.get("log"))]
    covers = (
        f": {whole(logs[0]['transitions'])} transitions, {whole(logs[0]['episodes'])} episodes"
        if logs
        else ""
    )
    rows = [
        ("Source", p["source"]), ("Target", p["target"]), ("Access to the target", p.get("access") or ""),
        ("Budget", budget or "no limit"), ("Believed of the target", p.get("uncertainty") or "nothing"),
        ("Log of the target", f"{p['data']}{covers}" if p.get("data") else ""),
    ]  # fmt: skip
    if c := group.comparison:
        rows += [("Training", f"{whole(c.steps)} steps a run, source and target together"),
                 ("Evaluation", f"{whole(c.episodes)} episodes a run in the target, "
                                "the same starts and dynamics for all")]  # fmt: skip
    return [(name, str(value)) for name, value in rows if value]


def _settings(group: Group) -> dict[str, Any]:
    """Settings by method, [name, [value a method]]; where runs of one method differ, all their
    values.
    """
    methods = group.methods
    names = dict.fromkeys(name for entry in group.entries for name in entry.run.config["settings"])
    rows = []
    for name in names:
        values = [dict.fromkeys(str(e.run.config["settings"].get(name, "–")) for e in entries)
                  for entries in methods.values()]  # fmt: skip
        rows.append((name, [" / ".join(each) for each in values]))
    return {"methods": list(methods), "rows": rows}


def _versions(entries: Sequence[Entry]) -> tuple[list[tuple[str, str]], list[str]]:
    """Versions that the runs share or differ in, and a note where they differ."""
    names = dict.fromkeys(name for entry in entries for name in entry.run.config["versions"])
    silent = "not recorded"  # older runs say less, which is no difference
    found = {
        n: list(dict.fromkeys(str(e.run.config["versions"].get(n, silent)) for e in entries))
        for n in names
    }
    differ = [name for name, values in found.items() if len({*values} - {silent}) > 1]
    note = [
        f"The runs were made with different versions of {', '.join(differ)}: their bits do not "
        "compare."
    ]
    return [(name, " / ".join(values)) for name, values in found.items()], note if differ else []
