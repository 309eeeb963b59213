"""Imports point one way: the order of the rooms, and which of them must open without jax."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import isthmus

SOURCE = Path(__file__).parents[2] / "src" / "isthmus"

ORDER = (
    "compile_cache < jax_options < types < plugins < physics < tasks < rendering < domains < "
    "logs < identification < problems < learning < evaluation < methods < audit < "
    "training < deploy < studies < papers < report < cli"
)
ROOT = "isthmus"  # the package's own face: it may import all, and no room imports it
RANK = {
    room.strip(): rank for rank, rooms in enumerate(ORDER.split("<")) for room in rooms.split(",")
}
RANK[ROOT] = len(RANK)


def room(module: str) -> str:
    """The room a dotted module name lies in: "isthmus.physics.mujoco" -> "physics"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ROOT


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Every import in a module of `package`, as (line, room); one made late, or for types alone,
    counts too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            base = ".".join([*above, *filter(None, [node.module])])
            # `from isthmus import physics` names a room; `from isthmus import train` names the
            # root's own attribute.
            named = base == ROOT
            modules = [f"{ROOT}.{a.name}" if named and a.name in RANK else base for a in node.names]
        else:
            continue
        for module in modules:
            if module.split(".")[0] == ROOT:
                yield node.lineno, room(module)


def module_name(source: Path, path: Path) -> str:
    """The dotted name of a file: "isthmus.physics.mujoco"; of a package's face, the package's."""
    return ".".join([ROOT, *path.relative_to(source).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


def imported_files(tree: ast.AST, name: str, modules: set[str]) -> set[str]:
    """The modules that the file of one imports, also late, but for those that types alone need."""
    for_types = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for_types |= {inner for part in node.body for inner in ast.walk(part)}
    files = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            files |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                files.add(inner if inner in modules else base)
    return files & modules - {name}


def circles(source: Path) -> list[str]:
    """One line for each circle of files that import each other, whether at once or late."""
    paths = {module_name(source, path): path for path in sorted(source.rglob("*.py"))}
    below = {
        name: imported_files(ast.parse(path.read_text()), name, set(paths))
        for name, path in paths.items()
    }
    # What imports nothing that is left is no part of a circle, nor is what nothing left imports.
    left = set(paths)
    while True:
        imported_by_some = set().union(*(below[name] & left for name in left))
        kept = {name for name in left if below[name] & left and name in imported_by_some}
        if kept == left:
            break
        left = kept
    return [f"{name} imports {', '.join(sorted(below[name] & left))}" for name in sorted(left)]


def breaches(source: Path) -> list[str]:
    """One line for each import that goes up, across, or from learning to anything but types."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = [ROOT, *path.relative_to(source).with_suffix("").parts]
        package = ".".join(parts[:-1])
        here = ROOT if parts[1:] in (["__init__"], ["__main__"]) else parts[1]
        if here not in RANK:
            found.append(f"{path.relative_to(source)}: {here} has no place in the order {ORDER}")
            continue
        for line, there in imported(ast.parse(path.read_text()), package):
            if there == here:
                continue
            where = f"{path.relative_to(source)}:{line}"
            if there not in RANK or RANK[there] >= RANK[here]:
                found.append(f"{where}: {here} imports {there}; the order is {ORDER}")
            elif here == "learning" and there != "types":
                found.append(f"{where}: learning imports {there}; it may import types alone")
    return found


def test_imports_point_one_way() -> None:
    assert breaches(SOURCE) == []


def test_no_circle_of_files() -> None:
    assert circles(SOURCE) == []


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a": "from isthmus.tasks.b import x", "b": "import isthmus.tasks.a"}, True),
        ({"a": "from isthmus.tasks import b", "b": "def late():\n    from . import a"}, True),
        ({"a": "from .b import x", "b": "from .c import x", "c": "from .a import x"}, True),
        ({"a": "from .b import x", "b": "if TYPE_CHECKING:\n    from .a import x"}, False),
        ({"a": "from .b import x\nfrom .c import x", "b": "from .c import x", "c": ""}, False),
    ],
)
def test_the_walk_sees_a_circle(tmp_path: Path, files: dict[str, str], circle: bool) -> None:
    (tmp_path / "tasks").mkdir()
    for name, text in files.items():
        (tmp_path / "tasks" / f"{name}.py").write_text(text)
    assert bool(circles(tmp_path)) == circle


def test_each_layer_is_there() -> None:
    assert all(
        (SOURCE / layer).is_dir() or (SOURCE / f"{layer}.py").is_file()
        for layer in RANK
        if layer != ROOT
    )


@pytest.mark.parametrize(
    ("path", "line", "breach"),
    [
        ("types.py", "from isthmus.physics.mujoco import Engine", "types imports physics"),
        ("physics/mujoco.py", "from ..tasks import hopper", "physics imports tasks"),
        ("tasks/hopper.py", "def late():\n    import isthmus.cli.main", "tasks imports cli"),
        ("papers/ppo.py", "from isthmus.report import page", "papers imports report"),
        ("papers/ppo.py", "from isthmus import train", "papers imports isthmus"),
        (
            "learning/ppo.py",
            "from isthmus.domains.rollout import collect",
            "learning imports domains",
        ),
        ("helpers/strings.py", "", "helpers has no place"),
        ("cli/main.py", "from isthmus.report import page", None),
        (
            "learning/ppo.py",
            "from isthmus.types import Transition\nfrom .networks import MLP",
            None,
        ),
        ("physics/__init__.py", "from .mujoco import Engine\nfrom .. import types", None),
        ("__init__.py", "from isthmus.training.train import train", None),
    ],
)
def test_the_walk_sees_a_breach(tmp_path: Path, path: str, line: str, breach: str | None) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(line)
    found = breaches(tmp_path)
    assert (len(found) == 1 and breach in found[0]) if breach else found == []


def loads(modules: list[str]) -> set[str]:
    """The top-level packages in a fresh interpreter that has imported `modules`."""
    code = (
        f"import sys, importlib\nfor m in {modules}: "
        f"importlib.import_module(m)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("name", isthmus.__all__)
def test_a_public_name_is_there(name: str) -> None:
    """Also a second time, when its module, which may have its name, has been imported."""
    first = getattr(isthmus, name)
    assert getattr(isthmus, name) is first and not isinstance(first, ModuleType)


def test_import_isthmus_loads_nothing_heavy() -> None:
    heavy = {"jax", "numpy", "scipy", "mujoco", "gymnasium", "matplotlib", "rich", "tyro"}
    assert not loads(["isthmus"]) & heavy


@pytest.mark.parametrize(
    "part",
    ["types", "physics", "tasks", "evaluation/statistics", "deploy/contract", "report", "cli"],
)
def test_opens_without_jax(part: str) -> None:
    """These answer in an instant, or run where no learning does; jax takes seconds to import."""
    files = [SOURCE / f"{part}.py", *(SOURCE / part).rglob("*.py")]
    modules = [
        ".".join([ROOT, *f.relative_to(SOURCE).with_suffix("").parts]) for f in files if f.exists()
    ]
    assert modules
    assert "jax" not in loads([m.removesuffix(".__init__") for m in modules])
