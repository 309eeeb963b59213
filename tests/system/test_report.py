"""The page says what the files say, asks nobody for anything, and stands whatever is missing or
damaged.
"""

# pyright: reportReturnType=false

from __future__ import annotations

import csv
import html.parser
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from isthmus.problems.problem import Budget, make_problem
from isthmus.rendering import CannotRender, find_backend
from isthmus.report.entries import read_runs
from isthmus.report.landscapes import read_landscape
from isthmus.report.numbers import format_number
from isthmus.report.page import write_report
from isthmus.studies.compare import Comparison, compare
from isthmus.training.run import RunError
from isthmus.types import IsthmusError, UnknownName

TINY = {
    "learner.worlds": 8,
    "learner.steps": 32,
    "learner.minibatch": 64,
    "learner.epochs": 2,
    "learner.hidden": (16,),
    "updates": 1,
    "adaptation_worlds": 2,
    "adaptation_steps": 32,
}


class Here:
    """An executor in this process: what was compiled for one run serves the next."""

    workers = 1

    def map(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[Any],
        poll: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        for i, job in enumerate(jobs):
            yield i, function(job)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three methods, two seeds, on a small grid; real runs, if short ones."""
    problem = make_problem(
        "hopper/foot_friction=0.5..2.5:3,torso_mass=3..6:2",
        source="foot_friction=2,torso_mass=4",
        access="few_shot",
        uncertainty="foot_friction=1.5..2.5,torso_mass=3..5",
        budget=Budget(transitions=500),
    )
    folder = tmp_path_factory.mktemp("report") / "comparison"
    return compare(
        problem,
        ["domain_randomization", "few_shot_ppo"],
        seeds=2,
        steps=1500,
        out=folder,
        episodes=12,
        settings=TINY,
        executor=Here(),
    )


@pytest.fixture
def copied(comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The comparison's folder, to be damaged. Nothing is rendered: that costs seconds, and is
    tested elsewhere.
    """
    monkeypatch.setenv("MUJOCO_GL", "off")
    return Path(shutil.copytree(comparison.folder, tmp_path / "comparison"))


class Page(html.parser.HTMLParser):
    """A page's visible fields, pictures and text. `fields[row][field]` is what a table says."""

    VOID = ("meta", "link", "img", "source", "br", "input")

    def __init__(self, text: str):
        super().__init__()
        self.fields: dict[str, dict[str, str]] = {}
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.cells: list[tuple[str, float]] = []
        self.text = ""
        self._open: list[tuple[str, str | None]] = []
        self._row = ""
        self.feed(text)
        assert not self._open, f"left open: {self._open}"
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = dict(attrs)
        self._row = a.get("data-method") or a.get("data-run") or self._row
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset") and v]
        if tag == "img":
            self.alts.append(a.get("alt") or "")
        if "data-value" in a:
            self.cells.append((a["title"] or "", float(a["data-value"] or "nan")))
        if tag not in self.VOID:
            self._open.append((tag, a.get("data-field")))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if any(tag in ("style", "script") for tag, _ in self._open):
            return
        self.text += data
        for _, name in self._open:
            if name:
                row = self.fields.setdefault(self._row, {})
                row[name] = (row.get(name, "") + data).strip()


class Opened(NamedTuple):
    """What a browser made of a page."""

    dom: str
    console: list[str]
    requests: list[str]


def open_page(chromium: str, page: Path, folder: Path) -> Opened:
    """Load a page in headless Chromium, run its script, and note what it logs and whom it asks."""
    log = folder / "net.json"
    # The browser's own calls home find no address; they are told apart by their initiator, which is
    # no page.
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        f"--log-net-log={log}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [chromium, *options, page.as_uri()], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = json.loads(log.read_text())
    job = events["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [
        e["params"] for e in events["events"] if e["type"] == job and "url" in e.get("params", {})
    ]
    asked = [p["url"] for p in asked if p.get("initiator") != "not an origin"]
    return Opened(
        done.stdout, console, [url for url in asked if not url.startswith(("data:", "file:"))]
    )


def as_float(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-").replace("+", ""))


def close(text: str, value: float) -> bool:
    """Whether a number as people read it is that value, to the digits shown."""
    shown = as_float(text)
    return (
        abs(shown - value)
        <= (0.5 if abs(value) >= 100 else 0.05 if abs(value) >= 10 else 0.005) + 1e-9
    )


@pytest.fixture(scope="session")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report([comparison.folder], out) == out
    return out


def says_the_comparison(dom: str, comparison: Comparison) -> None:
    """Read every number of the table off the page and hold it against comparison.json."""
    said = Page(dom)
    data = json.loads((comparison.folder / "comparison.json").read_text())
    assert len(data["rows"]) == 4
    for row in data["rows"]:
        fields = said.fields[row["method"]]
        assert close(fields["value"], row["value"])
        low, high = fields["interval"].strip("[]").split(", ")
        assert close(low, row["low"]) and close(high, row["high"])
        if row["against_floor"] is None:
            assert "against_floor" not in fields
        else:
            assert close(fields["against_floor"], row["against_floor"])
            low, high = fields["against_floor_interval"].strip("[]").split(", ")
            assert close(low, row["against_floor_low"]) and close(high, row["against_floor_high"])
        assert fields["verdict"] == row["verdict"]
        for name in (
            "source_steps",
            "target_transitions",
            "logged_transitions",
            "adaptation_transitions",
        ):
            assert as_float(fields[name]) == row[name]
        assert int(fields["seeds"]) == data["seeds"] == 2
        for name, score in zip(row["runs"], row["scores"], strict=True):
            assert close(said.fields[name]["played"], score)
            digest = json.loads((comparison.folder / name / "finished.json").read_text())["digest"]
            assert said.fields[name]["status"] == "finished" and digest in dom
    assert said.fields["few_shot_ppo"]["adaptation_transitions"] == "64"


def test_the_page_opens_in_a_browser_and_says_the_numbers(
    chromium: str, page: Path, comparison: Comparison, tmp_path: Path
) -> None:
    opened = open_page(chromium, page, tmp_path)
    assert opened.console == [] and opened.requests == []
    says_the_comparison(opened.dom, comparison)


@pytest.mark.parametrize("breach", ["<script>nope()</script>", "<script>console.warn(1)</script>",
                                    "<img src='http://example.invalid/a.png'>"])  # fmt: skip
def test_the_browser_sees_what_a_page_may_not_do(
    chromium: str, tmp_path: Path, breach: str
) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(f"<!DOCTYPE html><link rel=icon href='data:,'><body>{breach}</body>")
    opened = open_page(chromium, bad, tmp_path)
    assert bool(opened.console) is ("script" in breach) and bool(opened.requests) is (
        "http" in breach
    )


def test_the_page_says_the_numbers_as_it_is_written(page: Path, comparison: Comparison) -> None:
    """The same where there is no browser."""
    says_the_comparison(page.read_text(), comparison)


def test_the_page_is_whole_by_itself(page: Path) -> None:
    text = page.read_text()
    said = Page(text)
    assert said.addresses and all(address.startswith("data:") for address in said.addresses)
    assert "@import" not in text and not re.search(r"url\((?!['\"]?(data:|#))", text)
    assert all(len(alt) > 20 for alt in said.alts)  # every picture has its words
    assert text.count("<figcaption>") == text.count("<figure") >= 4


def test_the_page_tells_what_was_asked_and_spent(page: Path, comparison: Comparison) -> None:
    text = Page(page.read_text()).text
    for wanted in (
        "hopper/foot_friction=2,torso_mass=4", "foot_friction=1.5..2.5,torso_mass=3..5", "500 transitions", "few_shot",  # noqa: E501
        "Episodes are not seeds", "Over 2 seeds, source_only, the floor", "learner.learning_rate", "jaxlib",  # noqa: E501
        "Student over seeds; of differences: Welch over seeds", "A foot's friction below " "the " "floor's 1 " "changes " "nothing",  # noqa: E501
    ):  # fmt: skip
        assert wanted in text, wanted
    spent = comparison.rows[-1].target_transitions
    assert spent >= 1500 and f"{spent * 0.008:,.0f} s" in text


def test_landscapes_on_the_page_are_means_over_seeds(page: Path, comparison: Comparison) -> None:
    cells = dict(Page(page.read_text()).cells)
    assert len(cells) == 4 * 6
    for row in comparison.rows:
        each = [read_landscape(comparison.folder / name / "landscape.csv") for name in row.runs]
        mean = (each[0].mean + each[1].mean) / 2
        said = f"{row.method}: torso_mass 6 kg, foot_friction 0.5: {format_number(mean[0, 1])}"
        assert cells[said] == pytest.approx(mean[0, 1], abs=0.006)


def test_an_animation_is_there_where_rendering_works(page: Path) -> None:
    text = page.read_text()
    try:
        find_backend()
    except CannotRender as error:
        assert str(error).split(";")[0] in Page(text).text and "image/webp" not in text
    else:
        assert 'figure class="clip' in text and "data:image/webp" in text
        assert (
            "Source hopper/foot_friction=2.0,torso_mass=4.0" in text
            or "Source hopper/foot_friction=2" in text
        )


def report(folders: Sequence[Path], out: Path) -> tuple[str, Page]:
    text = write_report(folders, out).read_text()
    return text, Page(text)


def test_without_rendering_the_page_says_why(copied: Path, tmp_path: Path) -> None:
    text, said = report([copied], tmp_path / "report.html")
    assert "MUJOCO_GL=off turns rendering off" in said.text and "image/webp" not in text


def test_single_runs_are_shown_by_themselves(copied: Path, tmp_path: Path) -> None:
    runs = [copied / "source_only-s0", copied / "target_only-s1"]
    _, said = report(runs, tmp_path / "report.html")
    assert (
        set(said.fields) == {"source_only-s0", "target_only-s1"} and "comparison" not in said.fields
    )
    assert "Explained variance should rise" in said.text and "Learning curves" in said.text
    assert "digest" in said.text and not re.search(r"points to|The floor", said.text)
    title = write_report(runs, tmp_path / "named.html", title="A <b>name</b>").read_text()
    assert "<title>A &lt;b&gt;name&lt;/b&gt;</title>" in title and "A <b>" not in title


def test_success_is_shown_where_it_is_measured(copied: Path, tmp_path: Path, monkeypatch) -> None:
    """Played from evaluation.csv, in training from metrics.jsonl; nothing where a file does not
    say, or has no goal.
    """
    first, second = copied / "source_only-s0", copied / "source_only-s1"
    for folder, share in ((first, 3), (second, 4)):
        with (folder / "evaluation.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        with (folder / "evaluation.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [k for k in rows[0] if k != "success" or folder == first])
            writer.writeheader()
            for i, row in enumerate(rows):
                more = {"success": int(i % share == 0)} if folder == first else {}
                writer.writerow({k: v for k, v in row.items() if k != "success"} | more)
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in lines if row["kind"] == "evaluation"][-1]
    last |= {"source_success": 0.75, "target_success": 0.5}
    (first / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    _, said = report([copied], tmp_path / "report.html")
    assert said.fields[first.name]["success"] == "33 %" and "At the goal" in said.text
    assert said.fields[first.name]["success_in_training"] == "75 %, 50 %"
    assert said.fields[second.name]["success"] == "–"
    monkeypatch.setattr(
        "isthmus.report.entries.find_task", lambda name: SimpleNamespace(variants=("dense", "none"))
    )
    _, said = report([first], tmp_path / "report.html")
    assert "success" not in said.fields[first.name] and "At the goal" not in said.text

    def foreign(name: str) -> None:
        raise UnknownName("task", name, [])

    monkeypatch.setattr("isthmus.report.entries.find_task", foreign)
    _, said = report([first], tmp_path / "report.html")
    assert said.fields[first.name]["success"] == "33 %", "a foreign environment's infos said so"
    _, said = report([second], tmp_path / "report.html")
    assert "At the goal" not in said.text


def test_runs_on_other_problems_have_a_section_of_their_own(copied: Path, tmp_path: Path) -> None:
    other = copied / "source_only-s1" / "run.json"
    config = json.loads(other.read_text())
    config["problem"] |= {"target": "hopper/gravity=5.0", "name": ""}
    other.write_text(json.dumps(config))
    text, said = report(
        [copied / "source_only-s0", copied / "source_only-s1"], tmp_path / "report.html"
    )
    assert text.count("<h2>") == 3 and "hopper/gravity=5.0" in said.text


def remove(*names: str) -> Callable[[Path], None]:
    def removed(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return removed


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data) and None


def edit(name: str, change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return edited


@pytest.mark.parametrize(
    "damage",
    [
        write("comparison.json", "{"),
        write("comparison.json", "[]"),
        write("comparison.json", b"\xff\xfe"),
        edit("comparison.json", lambda d: d["rows"][1].pop("value")),
        edit("comparison.json", lambda d: d["rows"][1].update(scores=["x"])),
        edit("comparison.json", lambda d: d["rows"][1].update(low="x")),
        edit("comparison.json", lambda d: d["rows"][1].update(runs=None)),
        edit("comparison.json", lambda d: d["rows"][1].update(runs=[])),
        edit("comparison.json", lambda d: d["rows"][1].update(verdict=3)),
        edit("comparison.json", lambda d: d["rows"][1].update(value=float("nan"))),
        edit("comparison.json", lambda d: d.update(rows=[])),
        edit("comparison.json", lambda d: d.update(problem=None)),
        edit("comparison.json", lambda d: d.update(steps="x")),
    ],
)
def test_a_damaged_comparison_is_said_and_its_runs_are_there(
    copied: Path, damage: Callable[[Path], None]
) -> None:
    damage(copied)
    (group,) = read_runs([copied])
    assert group.comparison is None and len(group.entries) == 8
    assert (
        len(group.notes) == 1
        and "comparison.json is damaged" in group.notes[0]
        and "\n" not in group.notes[0]
    )


def test_damage_is_said_and_the_rest_is_shown(copied: Path, tmp_path: Path) -> None:
    """All at once on one page: each run has another ill."""
    first, second = "domain_randomization-s0", "domain_randomization-s1"
    ills = [
        (remove("target_only-s1/run.json"), "target_only-s1 is no run"),
        (edit("few_shot_ppo-s0/run.json", lambda d: d.update(format=99)), "is a run of format 99"),
        (write("few_shot_ppo-s1/run.json", "{"), "run.json cannot be read"),
        (
            edit("source_only-s1/run.json", lambda d: d["problem"].pop("target")),
            "its target cannot be read",
        ),
        (write(f"{first}/finished.json", "{}"), f"{first}: finished.json is damaged"),
        (write(f"{first}/metrics.jsonl", b"\xff\xfe\n"), f"{first}: metrics.jsonl holds nothing"),
        (
            edit(f"{first}/run.json", lambda d: d["versions"].update(jax="0.1")),
            "different versions of jax: ",
        ),
        (edit("source_only-s0/run.json", lambda d: d["versions"].pop("scipy")), "not recorded / "),
        (
            write(f"{second}/evaluation.csv", "return,fell\n1,x\n"),
            f"{second}: evaluation.csv is damaged",
        ),
        (write(f"{second}/landscape.csv", "a,b\n1\n"), "landscape.csv is damaged"),
        (remove(f"{second}/finished.json"), "unfinished: 1,536 of 1,500 steps"),
        (
            write(
                "target_only-s0/metrics.jsonl",
                '3\n{"kind": "round"}\n{"kind": "round", "source_steps": "x"}\n',
            ),
            "target_only-s0: metrics.jsonl holds nothing",
        ),
        (
            edit(
                "target_only-s0/run.json", lambda d: d["problem"].update(target="hopper/nonsense=1")
            ),
            "nonsense",
        ),
    ]
    for damage, _ in ills:
        damage(copied)
    _, found = report([copied], tmp_path / "report.html")
    for _, said in ills:
        assert said in found.text
    assert found.fields["source_only-s0"]["status"] == "finished"  # what is whole is there
    assert "verdict" in found.fields["few_shot_ppo"]  # and the table, which is a file of its own


def test_runs_without_a_comparison_are_shown_alone(copied: Path, tmp_path: Path) -> None:
    """A comparison under way: no table yet, runs that have not begun, one whose method nobody knows
    any more.
    """
    remove("comparison.json")(copied)
    for name in ("metrics.jsonl", "finished.json", "evaluation.csv", "landscape.csv"):
        remove(f"source_only-s0/{name}")(copied)
    edit("source_only-s1/run.json", lambda d: d.update(method="nonsense"))(copied)
    _, found = report([copied], tmp_path / "report.html")
    assert "has no comparison.json" in found.text and "unknown method 'nonsense'" in found.text
    assert found.fields["source_only-s0"]["status"] == "unfinished: 0 of 1,500 steps"
    assert found.fields["target_only-s0"]["status"] == "finished"


def test_a_comparison_without_its_runs_still_shows_its_table(copied: Path, tmp_path: Path) -> None:
    for folder in copied.glob("*-s?"):
        shutil.rmtree(folder)
    _, said = report([copied], tmp_path / "report.html")
    assert (
        "source_only-s0 is no run" in said.text and "verdict" in said.fields["domain_randomization"]
    )


def test_an_unfinished_run_says_how_to_go_on(copied: Path, tmp_path: Path) -> None:
    run = copied / "source_only-s0"
    (run / "finished.json").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[: len(lines) // 2]) + '\n{"kind": "rou')
    _, said = report([run], tmp_path / "report.html")
    assert f"isthmus resume {run}" in said.text
    assert re.search(r"unfinished: [1-9][\d,]* of 1,500 steps", said.text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: [folder / "none"], "is no run and no comparison: it does not exist"),
        (lambda folder: [folder], "it has neither run.json nor comparison.json"),
        (lambda folder: [], "name at least one"),
    ],
)
def test_what_is_no_run_is_an_error_of_one_line(
    tmp_path: Path, make: Callable[[Path], list[Path]], said: str
) -> None:
    with pytest.raises(RunError, match=re.escape(said)) as caught:
        write_report(make(tmp_path), tmp_path / "report.html")
    assert "\n" not in str(caught.value) and not (tmp_path / "report.html").exists()


def test_a_run_that_alone_cannot_be_read_is_an_error(copied: Path, tmp_path: Path) -> None:
    run = copied / "source_only-s0"
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        write_report([run], tmp_path / "report.html")


def test_a_page_that_cannot_be_written_is_an_error_of_one_line(
    copied: Path, tmp_path: Path
) -> None:
    with pytest.raises(IsthmusError, match=r"cannot write .*: No such file"):
        write_report([copied / "source_only-s0"], tmp_path / "none" / "report.html")
