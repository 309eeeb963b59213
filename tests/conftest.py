"""What every test stands on: one XLA thread, no program compiled twice, no log of MuJoCo's, and
where Chromium is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["NPROC"] = (
    "1"  # before jax computes anything: XLA's bits depend on the number of CPUs it sees
)
if (
    "JAX_COMPILATION_CACHE_DIR" not in os.environ
):  # pytest's workers, and processes that tests start, share the first's
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="isthmus-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background job would hand it on as ignored

LOG = "MUJOCO_LOG.TXT"

LONGEST = (
    "methods",
    "resume",
    "problem",
    "cli",
    "compare",
    "studies",
    "sac",
    "ray",
    "recurrent_ppo",
    "training",
    "garat",
    "trpo",
    "executor",
    "dap",
    "rewards",
    "es_maml",
    "dap_study",
    "report",
    "matl_study",
)
RANK = {f"test_{name}": i for i, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that two workers end at about the same time."""
    items.sort(key=lambda item: RANK.get(item.path.stem, len(RANK)))


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
