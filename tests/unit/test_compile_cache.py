"""Programs that are kept between processes: where, how many, and that no bit depends on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from isthmus import compile_cache

TESTS = Path(__file__).parents[1]
ONE_ROUND = """
import sys, tiny
from pathlib import Path
print(tiny.train("source_only", Path(sys.argv[1]), rounds=2).digest)
"""
PROGRAM = "import isthmus, jax; jax.jit(lambda x: x + 1)(2.0); "


def environment(**changes: str | Path) -> dict[str, str]:
    """This process's, but for what it says of jax."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return inherited | {"PYTHONPATH": path} | {name: str(value) for name, value in changes.items()}


def python(code: str, *arguments: Path, **changes: str | Path) -> str:
    """What a process printed; it must have complained of nothing."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**changes),
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.strip()


def programs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*-cache")}


def test_no_bit_depends_on_it(tmp_path: Path) -> None:
    """Cold, warm, off, and with entries that a killed process or a full disk cut short."""
    folder = tmp_path / "programs"
    cold = python(ONE_ROUND, tmp_path / "cold", ISTHMUS_COMPILE_CACHE=folder)
    kept = programs(folder)
    assert len(kept) > 10
    warm = python(ONE_ROUND, tmp_path / "warm", ISTHMUS_COMPILE_CACHE=folder)
    assert programs(folder) == kept, "nothing was compiled again"
    without = python(ONE_ROUND, tmp_path / "without", ISTHMUS_COMPILE_CACHE="off")
    for i, path in enumerate(folder.rglob("*-cache")):
        content = path.read_bytes()
        path.write_bytes((b"garbage", b"", content[: len(content) // 2])[i % 3])
    damaged = python(ONE_ROUND, tmp_path / "damaged", ISTHMUS_COMPILE_CACHE=folder)
    assert {cold, warm, without, damaged} == {cold} and len(cold) == 64


def test_a_folder_that_cannot_be_used_costs_nothing(tmp_path: Path) -> None:
    """Nobody can make a folder under a file, not even root."""
    blocked = tmp_path / "file"
    blocked.write_text("kept")
    told = PROGRAM + "print(jax.config.jax_compilation_cache_dir)"
    assert python(told, ISTHMUS_COMPILE_CACHE=blocked) == "None"
    assert python(told, ISTHMUS_COMPILE_CACHE=blocked / "below") == "None"
    assert blocked.read_text() == "kept"
    lost = (
        "import shutil, isthmus, jax; from pathlib import Path\n"
        "folder = Path(jax.config.jax_compilation_cache_dir)\n"
        "shutil.rmtree(folder); folder.write_text('')\n"
    )
    assert (
        python(f"{lost}{PROGRAM}print('done')", ISTHMUS_COMPILE_CACHE=tmp_path / "lost") == "done"
    )


def test_entries_that_cannot_be_read_or_written_cost_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    python(PROGRAM, ISTHMUS_COMPILE_CACHE=folder)
    paths = list(folder.rglob("*-cache"))
    for path in paths:
        path.unlink()
        path.mkdir()
    python(PROGRAM, ISTHMUS_COMPILE_CACHE=folder)
    assert paths and all(path.is_dir() for path in paths)


@pytest.mark.parametrize("first", ["isthmus, jax", "jax, isthmus"])
def test_whoever_is_imported_first(tmp_path: Path, first: str) -> None:
    """Programs are kept, also short ones, and computations run in the thread that asks for them."""
    told = f"import {first}; {PROGRAM}print(jax.config.read('jax_cpu_enable_async_dispatch'))"
    assert python(told, ISTHMUS_COMPILE_CACHE=tmp_path) == "False"
    assert programs(tmp_path)


@pytest.mark.parametrize("first", ["isthmus, jax", "jax, isthmus"])
def test_what_the_user_told_jax_stays(tmp_path: Path, first: str) -> None:
    told = (
        f"import {first}; jax.config.update('jax_cpu_enable_async_dispatch', True)\n"
        f"import isthmus.learning.networks; {PROGRAM}c = jax.config\n"
        "print(c.read('jax_cpu_enable_async_dispatch'), c.jax_compilation_cache_dir, "
        "c.jax_persistent_cache_min_compile_time_secs)"
    )
    ours, users = tmp_path / "ours", tmp_path / "users"
    said = python(told, ISTHMUS_COMPILE_CACHE=ours, JAX_COMPILATION_CACHE_DIR=users)
    # Which of the two switches was first cannot be known where jax was: the later one counts.
    assert said == f"True {users} 1.0" and not ours.exists()


def test_to_look_for_jax_is_not_to_import_it(tmp_path: Path) -> None:
    looks = "import isthmus, importlib.util as u; u.find_spec('jax'); print('jax' in sys.modules); "
    told = "print(jax.config.read('jax_cpu_enable_async_dispatch'), len(sys.meta_path) == before)"
    said = python(
        f"import sys; before = len(sys.meta_path); {looks}{PROGRAM}{told}",
        ISTHMUS_COMPILE_CACHE=tmp_path,
    )
    assert said.split() == ["False", "False", "True"] and programs(tmp_path)


def test_workers_keep_theirs_too(tmp_path: Path) -> None:
    """Processes that are spawned know what their environment says."""
    script = tmp_path / "script.py"
    script.write_text(
        "import isthmus, operator\n"
        "def compute(x):\n    import jax\n    return float(jax.jit(lambda x: x + 1)(x))\n"
        "if __name__ == '__main__':\n"
        "    with isthmus.Processes(1) as workers:\n"
        "        print(list(workers.map(compute, [2.0])))\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=environment(ISTHMUS_COMPILE_CACHE=tmp_path / "programs"),
    )
    assert done.stdout.strip() == "[(0, 3.0)]", done.stderr
    assert programs(tmp_path / "programs")


def test_off_keeps_nothing(tmp_path: Path) -> None:
    python(PROGRAM, ISTHMUS_COMPILE_CACHE="off", XDG_CACHE_HOME=tmp_path, HOME=tmp_path)
    assert not programs(tmp_path)


def test_by_default_they_lie_in_the_users_cache(tmp_path: Path) -> None:
    python(PROGRAM, ISTHMUS_COMPILE_CACHE="", XDG_CACHE_HOME=tmp_path, HOME=tmp_path)
    assert programs(tmp_path / "isthmus" / f"compiled-{compile_cache.describe_cpu()}")


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    for i, name in enumerate(["b", "d", "a", "c"]):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + i, 1000 + i))
    (tmp_path / "notes").write_bytes(bytes(100))
    compile_cache.prune(str(tmp_path), 400)
    assert len(list(tmp_path.iterdir())) == 5
    compile_cache.prune(str(tmp_path), 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-cache", "c-cache", "notes"]
    compile_cache.prune(str(tmp_path / "missing"), 0)


def test_the_doctor_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "import isthmus, jax; from isthmus.compile_cache import describe_compile_cache\n"
    said += "print(describe_compile_cache(jax))"
    python(PROGRAM, ISTHMUS_COMPILE_CACHE=tmp_path)
    count = len(programs(tmp_path))
    assert python(said, ISTHMUS_COMPILE_CACHE=tmp_path).startswith(f"{count} compiled programs, 0.")
    assert "are not kept: ISTHMUS" in python(said, ISTHMUS_COMPILE_CACHE="off")
    (tmp_path / "file").write_text("")
    assert "Not a directory" in python(said, ISTHMUS_COMPILE_CACHE=tmp_path / "file" / "below")
    told = python(said, ISTHMUS_COMPILE_CACHE=tmp_path, JAX_COMPILATION_CACHE_DIR=tmp_path / "mine")
    assert told.endswith(f"told to: {tmp_path / 'mine'}")
    monkeypatch.setattr(compile_cache, "MIN_FREE_BYTES", 10**20)
    monkeypatch.setenv("ISTHMUS_COMPILE_CACHE", str(tmp_path))
    config = SimpleNamespace(jax_compilation_cache_dir=None)
    told = compile_cache.describe_compile_cache(SimpleNamespace(config=config))
    assert "the disk is full" in told
