"""Executors by name."""

from __future__ import annotations

from isthmus.training.executor import Executor, Processes
from isthmus.types import BadValue


def make_executor(
    kind: str = "processes", workers: int | None = None, address: str | None = None
) -> Executor:
    """Return an executor by name; `address` is a Ray cluster's. Raises BadValue."""
    if kind == "ray":
        from isthmus.training.ray import Ray  # not Ray itself, which comes with the first job

        return Ray(workers, address)
    if address:
        raise BadValue(f"--address {address} is a Ray cluster's; say --executor ray")
    return Processes(workers)
