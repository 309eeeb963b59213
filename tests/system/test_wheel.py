"""The wheel holds the whole package and runs by itself, in an environment that never saw this
tree.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(build, cwd=TREE, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if name.startswith("isthmus/")}
    source = TREE / "src"
    files = (
        path
        for path in (source / "isthmus").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    assert held == {path.relative_to(source).as_posix() for path in files}
    assert {"isthmus/py.typed", "isthmus/tasks/models/cartpole_swingup.xml"} <= held
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    # This environment lends the dependencies, through a line that adds its folder but no editable
    # install in it.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))

    where = Path(run(python, "-c", "import isthmus; print(isthmus.__file__)").strip())
    assert where.is_relative_to(site)
    said = run(tmp_path / "env" / "bin" / "isthmus", "--help")
    for command in ("train", "compare", "demo"):
        assert command in said
