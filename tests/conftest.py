"""What every test stands on: one XLA thread, one folder a session for programs and runs that are
made once, rows of one method in one process, no log of MuJoCo's, and where Chromium is.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before jax computes anything: XLA's bits depend on the number of CPUs it sees.
os.environ["NPROC"] = "1"
# Two of pytest's workers have both cores.
os.environ.setdefault("ISTHMUS_SECOND_CORE", "off")
# Pytest's workers, and processes that tests start, share the first's.
if "ISTHMUS_TEST_SESSION" not in os.environ:
    os.environ["ISTHMUS_TEST_SESSION"] = tempfile.mkdtemp(prefix="isthmus-tests-")
    atexit.register(shutil.rmtree, os.environ["ISTHMUS_TEST_SESSION"], ignore_errors=True)


# Programs are kept for the next session, in a folder for each kind of CPU.
os.environ.setdefault(
    "ISTHMUS_COMPILE_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "programs")
)
# A shell's background job would hand it on as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

LOG = "MUJOCO_LOG.TXT"

GROUPS = Path(os.environ["ISTHMUS_TEST_SESSION"]) / "groups.json"
"""What pytest's workers collected: each test's group."""

LONGEST = ("cli", "studies", "compare", "ray", "executor", "dap_study", "report", "matl_study")
RANK = {f"test_{name}": i for i, name in enumerate(LONGEST)}


def group(item: pytest.Item) -> str:
    """Return the name of the tests that stay together in one process: a method's rows, in whatever
    files they are, or a file's tests.
    """
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker else item.path.stem


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave rows that others stand for to `make test-all`; bring together what shares compiled
    programs, and what takes longest to the front, so that two workers end at about the same time.
    """
    places = {}
    for item in items:
        represented = item.get_closest_marker("represented")
        row = getattr(item, "callspec", None)
        if represented and row and row.id not in represented.args:
            item.add_marker(pytest.mark.full)
        of_method = item.get_closest_marker("xdist_group") is not None
        rank = RANK.get(item.path.stem, len(RANK) + (not of_method))
        places.setdefault(group(item), (rank, len(places)))
        if not of_method:
            item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: places[group(item)])
    if "PYTEST_XDIST_WORKER" in os.environ:
        partial = GROUPS.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({item.nodeid: group(item) for item in items}))
        partial.rename(GROUPS)


def pytest_collection_finish() -> None:
    """Leave what was imported out of Python's garbage collections, and make them rarer: tracing
    makes many objects and few cycles, and a group's end collects.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(optionalhook=True)  # another session may do without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that keeps a group in one process.

    xdist 3.8 hands the groups on in the tests' ids, which pytest 9.2 no longer lets it change:
    each test would be a group of its own, and each process compile what all need.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Grouped(LoadGroupScheduling):
        groups: dict[str, str] | None = None

        def _split_scope(self, nodeid: str) -> str:
            if self.groups is None:
                self.groups = json.loads(GROUPS.read_text())
            return self.groups.get(nodeid) or super()._split_scope(nodeid)

    return Grouped(config, log)


KEPT_MEMORY = 1e9
"""Bytes of a process up to which its programs stay in it; a group adds half as much again."""


def measure_memory() -> float:
    """Return the bytes that this process holds; infinitely many where nothing says so."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("inf")
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Give back what a group's tests leave in a process: simulations are built anew, and where
    programs take much memory, they are read from the disk again by the next group that needs them.
    """
    if nextitem is None or group(nextitem) == group(item) or "tiny" not in sys.modules:
        return
    import jax
    import tiny

    tiny.forget_simulations()
    if measure_memory() > KEPT_MEMORY:
        jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc keeps what is freed, unless asked
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def no_mujoco_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test during which MuJoCo wrote its log: a warning that nobody collected, lost in the
    user's folder.
    """

    def logs() -> dict[Path, int]:
        found = [Path.cwd() / LOG]
        if "tmp_path" in request.fixturenames:
            found += request.getfixturevalue("tmp_path").rglob(LOG)
        return {path: path.stat().st_size for path in found if path.exists()}

    before = logs()
    yield
    written = {
        path: path.read_text()[before.get(path, 0) :]
        for path, size in logs().items()
        if size > before.get(path, 0)
    }
    if written:
        pytest.fail(
            f"MuJoCo wrote {LOG} (in another worker's test, if not in this one): {written}",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium to look at pages with. Without one the test is skipped, or fails where CI says
    that it must run.
    """
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    if os.environ.get("ISTHMUS_REQUIRE_CHROMIUM") == "1":
        pytest.fail(
            "no Chromium found, and ISTHMUS_REQUIRE_CHROMIUM=1 says that this test must run",
            pytrace=False,
        )
    pytest.skip("no Chromium found: install chromium to have the report looked at")
