"""A Ray cluster as an executor: each job is a task on one CPU, and Ray does those of a lost machine
again elsewhere.
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from isthmus.physics.concurrency import count_cpus
from isthmus.training.executor import (
    MAX_WORKERS_A_JOB,
    Executor,
    check_workers,
    failed,
    run_task,
)
from isthmus.training.run import versions
from isthmus.types import BadValue, IsthmusError

ENVIRONMENT = {"NPROC": "1", "ISTHMUS_THREADS": "1"}  # of workers, before jax computes anything
QUIET_ENVIRONMENT = {  # read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or it warns of what it will do to GPUs
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # a lost machine's log would go to our standard output
}
STORE_BYTES = 256 * 2**20
"""Bytes for what travels between the processes of this machine; a shard has some 100 kB."""
SAVE_SECONDS_AFTER_CTRL_C = 60.0  # seconds for what trains to save after Ctrl-C


class Ray(Executor):
    """By default as many workers as the cluster has CPUs; without an address, a Ray of this machine
    alone.

    A Ray that this process is connected to already is used as it is, and stays.
    """

    def __init__(self, workers: int | None = None, address: str | None = None):
        self.asked, self.address = check_workers(workers), address or os.environ.get("RAY_ADDRESS")
        self.mine = False  # whether to disconnect
        self.task: Any = None

    @property
    def workers(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The number that was asked for, or of the cluster's CPUs."""
        return self.asked or max(1, int(self._ray().cluster_resources().get("CPU", 1)))

    def __enter__(self) -> Ray:
        self._ray()  # what is missing is said before anything begins
        return self

    def close(self) -> None:
        """Disconnect, where this process connected."""
        if self.mine and self.task:
            self._ray().shutdown()
        self.mine, self.task = False, None

    def _ray(self) -> Any:
        """Return the module, connected. Raises BadValue where it is not installed, or no cluster
        answers.
        """
        for name, value in QUIET_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise BadValue(
                "--executor ray needs Ray: pip install 'isthmus[ray]', on each of its machines"
            ) from None
        if not self.task:
            if not ray.is_initialized():
                _connect(ray, self.address, self.asked)
                self.mine = True
            self.task = ray.remote(_make_task()).options(
                num_cpus=1, max_retries=MAX_WORKERS_A_JOB - 1, runtime_env={"env_vars": ENVIRONMENT}
            )
        return ray

    def _begin(self, content):
        self._ray()
        return self.task.remote(str(Path.cwd()), _versions(), content)

    def _ended(self, tasks, timeout):
        ray = self._ray()
        done, _ = ray.wait(list(tasks), timeout=timeout)
        return list(zip(done, map(self._outcome, done), strict=True))

    def _outcome(self, task: Any) -> bytes:
        """Return what `run_task` gave, or what befell it."""
        ray = self._ray()
        try:
            outcome = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return failed(KeyboardInterrupt())
        except ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            return failed(IsthmusError(
                f"Ray lost this work {MAX_WORKERS_A_JOB} times ({reason}); what was saved is kept: "
                "give the command again"
            ))  # fmt: skip
        if isinstance(outcome, bytes):
            return outcome
        return failed(IsthmusError(outcome))

    def _stop(self, tasks):
        ray = self._ray()
        for task in tasks:
            ray.cancel(task)  # once: what trains takes a second time for impatience
        ray.wait(list(tasks), num_returns=len(tasks), timeout=SAVE_SECONDS_AFTER_CTRL_C)


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    """Connect to Ray. Raises BadValue where no cluster answers at the address."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            quiet |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
            with warnings.catch_warnings():
                # The warning is jax's; Ray's processes do nothing before exec.
                warnings.filterwarnings("ignore", message="os.fork")
                ray.init("local", num_cpus=workers or count_cpus(), **quiet)
        else:
            _check_answers(address)
            ray.init(address, **quiet)
    except Exception as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        if address is None:
            raise BadValue(f"Ray does not start on this machine: {reason}") from None
        raise BadValue(
            f"no Ray cluster answers at {address} ({reason}); start one with ray start --head, "
            "and give its token to this machine: docs/guide/scale_out.md"
        ) from None
    if threading.current_thread() is threading.main_thread():
        # Ray took it; the training loop's saves.
        signal.signal(signal.SIGTERM, _leave if before == signal.SIG_DFL else before)


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _check_answers(address: str) -> None:
    """Raise OSError or ValueError at once where nothing answers; Ray itself tries for minutes, and
    says in many lines that it fails.
    """
    if address == "auto":  # Ray's note of the cluster that was begun last here, which may be gone
        noted = Path(
            os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster"
        )
        address = ""
        if noted.exists():
            address = noted.read_text(encoding="utf-8").strip()
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=5.0).close()


@cache
def _versions() -> dict[str, str]:
    found = versions()
    del found["NPROC"]  # each worker has one CPU, wherever it is
    return found


def _make_task():
    """Return what Ray carries to a worker: by value, for it is defined in here, so that it can say
    that Isthmus is missing.
    """

    def work(folder: str, versions_asked: dict[str, str], content: bytes) -> bytes | str:
        try:
            from isthmus.training.ray import serve
        except ImportError as error:
            import platform

            return (
                f"a worker on {platform.node()} cannot import isthmus ({error}): install it on all "
                "machines alike"
            )
        return serve(folder, versions_asked, content)

    return work


def serve(folder: str, versions_asked: dict[str, str], content: bytes) -> bytes | str:
    """Do `run_task` on a machine like the one that asks; else return what differs, in one line."""
    own, differing = _versions(), []
    for name, version in versions_asked.items():
        if own.get(name) != version:
            differing.append(f"{name} {own.get(name)} instead of {version}")
    if differing:
        return (
            f"a worker on {platform.node()} has {', '.join(differing)}: install or set the same on "
            "all machines"
        )
    if os.path.isdir(folder):  # where it is shared, a relative path means the same
        os.chdir(folder)
    return run_task(content)
