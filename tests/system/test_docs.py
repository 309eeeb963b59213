"""The pages: their links lead somewhere, their commands and examples run, and the site is built."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

import isthmus
from isthmus.cli.main import COMMANDS, main
from isthmus.cli.options import MethodOptions, ProblemOptions
from isthmus.identification.fit import Fit, FittedParameter
from isthmus.methods import registry
from isthmus.tasks.imports import import_files
from isthmus.tasks.task import TASKS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]
PAGES_WITH_COMMANDS = [page for page in PAGES if "\n    isthmus " in page.read_text()]
TABLES = (registry.METHODS, registry.LEARNERS, TASKS)
WITH_COMMANDS = [DOCS / "quickstart.md", *sorted((DOCS / "methods").glob("*.md"))]
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]+))?\)")
FEWER = {"--episodes": "2", "--seeds": "1", "--steps": str(3 * tiny.ROUND), "--budget": "4000"}
COMPARED = ["--workers=1", "--episodes=2"]


def without_code(text: str) -> str:
    """A page without its blocks of code, in which nothing is a link."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(without_code(page.read_text())):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(f"{path}#{anchor}")
    assert broken == []


def commands(page: Path) -> list[list[str]]:
    """A page's commands, in order, without the program's name."""
    lines = re.findall(r"^    isthmus (.*)$", page.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def shorten(command: list[str]) -> list[str]:
    """The same command with fewer steps, episodes, seeds and cells, and small learners."""
    short = [re.sub(r"^(\w+=[\d.]+\.\.[\d.]+):\d+$", r"\1:2", part) for part in command]
    for i, part in enumerate(short[:-1]):
        short[i + 1] = FEWER.get(part, short[i + 1])
    kind = short[0]
    if kind == "landscape":
        return [*short, "--episodes=2"]
    if kind == "collect":
        return [re.sub(r"^20000$", "256", part) for part in short]
    if kind not in ("train", "compare"):
        return short
    given = dict(
        part.split("=", 1) for part in short if re.match(r"^[\w.]+=", part) and "/" not in part
    )
    names = [short[1]] if kind == "train" else compared(short)
    small: dict[str, object] = {}
    for name in names:
        learner = {"learner": given["learner"]} if "learner" in given else {}
        small |= tiny.settings_of(name, learner)
    short = [
        f"{part.split('=')[0]}={small[part.split('=')[0]]}" if part.split("=")[0] in small else part
        for part in short
    ]
    flags = [f"--set={name}={value}" for name, value in small.items() if name not in given]
    return [
        *short,
        *(flag.replace("(", "").replace(")", "").replace(" ", "") for flag in flags),
        *(COMPARED if kind == "compare" else []),
    ]


def compared(command: list[str]) -> list[str]:
    """The methods that a command compares."""
    first = command.index("--methods") + 1
    last = next(
        (i for i, part in enumerate(command) if i > first and part.startswith("-")), len(command)
    )
    return command[first:last]


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, in order, as a reader would, with fewer of everything."""
    monkeypatch.chdir(tmp_path)
    for command in commands(DOCS / "quickstart.md"):
        main(shorten(command))
    assert (tmp_path / "report.html").exists() and (tmp_path / "clip.webp").exists()


def check_command(name: str, options: dict[str, Any]) -> None:
    """Make the problem and the methods that a command asks for, and do no more."""
    problem = options.get("problem")
    if isinstance(problem, ProblemOptions) and not problem.target.startswith("log"):
        access = problem.access or ("dataset" if problem.data else None)
        problem = replace(problem, access=access, data=None)
        made = problem.make() if access != "dataset" else replace(problem, access=None).make()
        assert made.source.spaces.observation == made.target.spaces.observation
    configuration = options.get("configuration")
    if isinstance(configuration, MethodOptions):
        settings = configuration.parse_settings()
        methods = [options["method"]] if name == "train" else options["comparison"].methods
        known = set()
        for method in methods:
            built = registry.build(
                method, {"learner": settings["learner"]} if "learner" in settings else {}
            )
            known |= set(registry.settings_of(built))
        assert settings.keys() <= known


def make_fit(path: Path | str) -> Fit:
    """Return a fit of HalfCheetah's damping, as a page's `fit.json` may be."""
    damping = FittedParameter(
        "damping", "x", 1.0, 3.0, 2.9, 3.1, "identified", offset=0.0, bounds=(0.001, 1000.0)
    )
    return Fit(
        task="half_cheetah",
        engine="mujoco",
        source="half_cheetah",
        parameters=(damping,),
        covariance=((1e-4,),),
        combinations=(),
        explained=1.0,
        held_out=(),
        action_delay=0,
        observation_delay=0,
        delay_losses=((0, 0.0),),
        horizon=1,
        fitted_starts=False,
        noise=(),
        transitions=2000,
        blocks=32,
        world_steps=0,
        log_digest="",
        model_digest="",
        versions={},
        seed=0,
    )


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_ask_for_what_there_is(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command's words, its problem, its methods and their settings are known."""

    def check(name: str) -> Callable[..., None]:
        signature = inspect.signature(COMMANDS[name])

        @functools.wraps(COMMANDS[name])
        def checked(*args: Any, **named: Any) -> None:
            check_command(name, signature.bind(*args, **named).arguments)

        return checked

    monkeypatch.setattr("isthmus.cli.main.COMMANDS", {name: check(name) for name in COMMANDS})
    monkeypatch.setattr(Fit, "load", staticmethod(make_fit))  # a page's fit.json is not there
    own = [
        f"{DOCS}/examples/{name}.py" for name in ("pendulum", "head", "own_method", "own_learner")
    ]
    before = [dict(table._entries) for table in TABLES]
    try:
        import_files(own)
        for command in commands(page):
            if "..." not in command:  # else a reader fills it in
                main([part.replace("runs/...", "runs/run") for part in command])
    finally:
        for table, entries in zip(TABLES, before, strict=True):
            table._entries.clear()
            table._entries.update(entries)  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name in [name for name in sys.modules if name.startswith("isthmus_import_")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["README.md", "docs/quickstart.md", "docs/methods/single_domain.md"]
)
def test_python_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    monkeypatch.chdir(tmp_path)
    train = isthmus.train
    small = tiny.settings_of("domain_randomization", {})
    monkeypatch.setattr(
        isthmus,
        "train",
        lambda *args, **named: train(
            *args, **{**named, "settings": small, "steps": 256, "quiet": True}
        ),
        raising=False,
    )
    for block in blocks:
        exec(compile(block, name, "exec"), {})


def test_every_method_has_a_page_that_runs_it() -> None:
    trained = {
        command[1] for page in WITH_COMMANDS for command in commands(page) if command[0] == "train"
    }
    text = "".join(page.read_text() for page in WITH_COMMANDS)
    assert [name for name in registry.METHODS if f"`{name}`" not in text] == []
    families = {
        "domain_randomization",
        "fine_tuning",
        "rl2",
        "es_maml",
        "matl",
        "darc",
        "dap",
        "h2o",
        "garat",
    }
    assert families <= trained


def test_the_site_is_built(tmp_path: Path) -> None:
    """Offline and strictly: a link or an anchor that leads nowhere ends it."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "methods" / "dap.html").read_text()
    assert "regularization" in page and "source/src/isthmus" not in page.split("<nav")[0]
    assert not re.search(
        r'(?:src|href)="https?://(?!.*(?:squidfunk|mkdocs))[^"]*\.(?:js|css)"', page
    ), "offline"
