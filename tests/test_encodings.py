"""Every file is UTF-8 under any locale, and no command ends because a terminal's encoding lacks a sign."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

from isthmus.cli.output import accept_any_text, spell
from isthmus.training.run import Run, write_text

ROOT = Path(__file__).parent.parent
NAME = "lauf-é−λ"  # a folder's
LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    "strict ascii": {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
}

COMMANDS = """
import json, sys
from isthmus.cli.main import main

for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as stopped:
        print("exit", stopped.code)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return tiny.train("source_only", tmp_path_factory.mktemp("encodings") / NAME, 1)


@pytest.mark.parametrize("name", LOCALES)
def test_commands_under_a_locale_without_the_signs(run, tmp_path, name):
    page = tmp_path / "page.html"
    report = ["report", str(run.folder), "-o", str(page), "--title", "Rückkehr ± 2"]
    commands = [
        *([report] if name == "ascii" else []),  # seconds of drawing
        ["verify", str(run.folder)],
        ["evaluate", f"{run.folder}@best", "--domain", "ball−λ"],
        ["problems"],
        ["train", "--help"],
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **LOCALES[name]}
    done = tiny.process(
        [sys.executable, "-c", COMMANDS, json.dumps(commands, ensure_ascii=False)], env=environment, errors="replace"
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == ["exit 2", "exit 0"]
    assert "did you mean ball" in done.stderr
    if name != "ascii":
        return
    text = page.read_text(encoding="utf-8")
    assert "<title>Rückkehr ± 2</title>" in text and NAME in text


def test_signs_are_spelled_as_usual():
    assert spell("−3 ± 0.5 → λ, é, 漢 x²") == "-3 +- 0.5 -> lambda, e, ? x2"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", b"-1 e \xc3 ?"), ("latin-1", b"-1 \xe9 \xc3 ?"), ("utf-8", None)]
)
def test_what_a_stream_cannot_write_is_spelled(monkeypatch, encoding, expected):
    """A byte of a file's name that was no text stays that byte; UTF-8 is left as it is, strict."""
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    accept_any_text()
    assert stream.errors == ("strict" if expected is None else "isthmus.ascii")
    if expected is not None:
        stream.write("−1 é \udcc3 漢")
        stream.flush()
        assert content.getvalue() == expected


def test_a_file_is_written_as_utf8_whatever_its_text(tmp_path):
    write_text(tmp_path / "a", "λ±\udcc3\udca9")
    assert (tmp_path / "a").read_bytes() == "λ±é".encode()


def unnamed(tree: ast.AST) -> list[int]:
    """Lines on which text is read or written in an encoding that nobody named."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or {"encoding"} & {keyword.arg for keyword in node.keywords}:
            continue
        if _is_text(node):
            found.append(node.lineno)
    return found


def _is_text(call: ast.Call) -> bool:
    function = call.func
    owner = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in ("read_text", "write_text"):
        return isinstance(function, ast.Attribute)  # a function of that name is ours
    if name in ("open", "fdopen", "NamedTemporaryFile", "TextIOWrapper"):
        ours = owner == "os" and name == "open"
        return not ours and not owner[:1].isupper() and "b" not in _mode(call)
    return any(keyword.arg in ("text", "universal_newlines") for keyword in call.keywords)


def _mode(call: ast.Call) -> str:
    """The mode that a file is opened in: the last text that is given, after its name."""
    given: list[Any] = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    given += [argument for argument in call.args if isinstance(argument, ast.Constant)]
    modes = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return modes[-1] if modes else "r"


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_every_text_file_names_its_encoding(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        lines = unnamed(ast.parse(path.read_text(encoding="utf-8")))
        wrong += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    assert wrong == [], 'name it: encoding="utf-8"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path.read_text()", True), ("path.write_text(x)", True), ("open(path)", True), ("open(path, 'w')", True),
        ("path.open(newline='')", True), ("(a / 'b').open('a')", True), ("run([], text=True)", True),
        ("os.fdopen(1, 'w')", True),
        ("path.read_text(encoding='utf-8')", False), ("write_text(path, x)", False), ("open(path, 'xb')", False),
        ("path.open('rb')", False), ("os.open(path, 0)", False), ("Run.open(path)", False), ("run([])", False),
    ],
)  # fmt: skip
def test_the_test_sees_what_has_no_encoding(text, expected):
    assert bool(unnamed(ast.parse(text))) == expected
