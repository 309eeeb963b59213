"""What the site adds to the pages: the files of the repository that they link to, and tables of
settings.

A link that leaves docs/ (`../src/isthmus/methods/dap.py`, `../results/dap/figure.png`) works on the
repository's own pages. For the site, Python files become pages with their source, other files are
copied, and folders stay text. A line `<!-- settings: NAME -->` becomes the table of a method's or a
learner's settings.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import posixpath
import re
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\]\\]|\\.)*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
SETTINGS = re.compile(r"<!-- settings: ([\w, ]+) -->")
SHOWN = {".py": "python", ".md": "markdown"}  # files that become pages with their text
SOURCES = "source"  # the site's folder for files of the repository


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's files that pages link to."""
    pages = [file for file in files if file.is_documentation_page()]
    for path in sorted({path for page in pages for path in _linked_outside(page)}):
        if path.suffix in SHOWN:
            content = f"# {path}\n\n````{SHOWN[path.suffix]}\n{(ROOT / path).read_text()}\n````\n"
            files.append(File.generated(config, f"{SOURCES}/{path}.md", content=content))
        elif (ROOT / path).is_file():
            source = str(ROOT / path)
            files.append(File.generated(config, f"{SOURCES}/{path}", abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the site's copies; fill in tables of settings."""
    if page.file.src_uri.startswith(SOURCES):
        return markdown

    def lead(match: re.Match[str]) -> str:
        mark, text, link, fragment = match.groups()
        path = _outside(page.file, link)
        if path is None:
            return match[0]
        if (ROOT / path).is_dir():
            return f"{text} (`{path}/`)"
        name = f"{SOURCES}/{path}" + ".md" * (path.suffix in SHOWN)
        here = posixpath.dirname(page.file.src_uri)
        return f"{mark}[{text}]({posixpath.relpath(name, here or '.')}{fragment or ''})"

    return SETTINGS.sub(lambda match: settings_table(match[1]), LINK.sub(lead, markdown))


def settings_table(names: str) -> str:
    """Return a Markdown table: name, default and meaning of the settings of methods or learners."""
    from isthmus.methods import registry

    lines = []
    for name in names.split(","):
        thing = _build(registry, name.strip())
        lines += [f"`{name.strip()}`", "", "| setting | default | meaning |", "|---|---|---|"]
        for setting in dataclasses.fields(thing):
            value = getattr(thing, setting.name)
            if dataclasses.is_dataclass(value):
                shown = f"{type(value).__name__}'s own: `{setting.name}.*`"
            else:
                shown = f"`{value}`"
            meaning = find_comment(type(thing), setting.name).replace("|", "\\|")
            lines.append(f"| `{setting.name}` | {shown} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def find_comment(kind: type, name: str) -> str:
    """Return the comment behind, or above, the line that declares a setting; "" where none is."""
    for owner in kind.__mro__:
        if name not in inspect.get_annotations(owner):
            continue
        lines = textwrap.dedent(inspect.getsource(owner)).splitlines()
        body = ast.parse("\n".join(lines)).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == name:
                behind = lines[(node.end_lineno or 1) - 1][node.end_col_offset or 0 :]
                return _text(behind) or _comment_above(lines, node.lineno - 1)
    return ""


def _comment_above(lines: list[str], index: int) -> str:
    found: list[str] = []
    while index and lines[index - 1].strip().startswith("#"):
        index -= 1
        found.insert(0, _text(lines[index]))
    return " ".join(found)


def _text(comment: str) -> str:
    text = comment.partition("#")[2].strip()
    return "" if re.match(r"(noqa|pyright|type|fmt):", text) else text


def _build(registry: Any, name: str) -> Any:
    if name in registry.METHODS:
        return registry.build(name)
    return registry.find_learner(name)()


def _linked_outside(page: File) -> list[Path]:
    links = [match[3] for match in LINK.finditer(page.content_string)]
    found = [_outside(page, link) for link in links]
    return [path for path in found if path is not None and not (ROOT / path).is_dir()]


def _outside(page: File, link: str) -> Path | None:
    """Return the path in the repository of what lies outside docs/; None for all other links."""
    if re.match(r"[a-z]+:", link):
        return None
    path = Path(os.path.normpath(Path("docs", page.src_uri).parent / link))
    is_site = path.parts[0] == "docs" and path.suffix != ".py"
    return None if is_site or not (ROOT / path).exists() else path
