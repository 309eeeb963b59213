"""What results and pictures depend on, looked at: `isthmus doctor`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import NamedTuple

from isthmus.cli.console import screen


class Finding(NamedTuple):
    """A line about one thing, and whether it is as it should be."""

    good: bool
    text: str


def run_doctor() -> None:
    """Versions, threads, rendering, and a self-test of the bits."""
    healthy = True
    for finding in _examine():
        healthy &= finding.good
        mark = "[green]ok[/]  " if finding.good else "[red]no[/]  "
        screen.print(f"{mark}{finding.text}", soft_wrap=True)
    if not healthy:
        raise SystemExit(1)


def _examine() -> Iterator[Finding]:
    """Look at each thing that results or pictures depend on."""
    yield from _check_versions()
    import jax

    yield Finding(True, f"jax computes on {jax.default_backend()}")
    from isthmus.compile_cache import describe_compile_cache
    from isthmus.physics.concurrency import count_cpus
    from isthmus.physics.mujoco import threads

    yield Finding(
        True,
        f"{count_cpus()} CPUs; MuJoCo steps on {threads()} threads (ISTHMUS_THREADS changes speed, "
        "not bits)",
    )
    yield Finding(True, describe_compile_cache(jax))
    yield from _describe_engines()
    yield _compare_bits()
    yield _check_rendering()


def _check_versions() -> Iterator[Finding]:
    """Name what the bits depend on."""
    from isthmus.training.run import versions

    packages = versions()
    cpus = packages.pop("NPROC")
    yield Finding(True, ", ".join(f"{name} {number}" for name, number in packages.items()))
    advice = "XLA's bits depend on the CPUs it sees; 1 fixes them"
    yield Finding(cpus == "1", f"NPROC={cpus} ({advice})")


def _describe_engines() -> Iterator[Finding]:
    """Say which engines besides the default one can be used; one does without them."""
    from isthmus.physics.engine import DEFAULT_ENGINE, ENGINES, find_engine
    from isthmus.types import BadValue

    for name in ENGINES:
        if name == DEFAULT_ENGINE:
            continue
        engine = find_engine(name)
        try:
            engine.check_installed()
        except BadValue as error:
            yield Finding(True, str(error))
            continue
        packages = " ".join(f"{package} {version(package)}" for package in engine.packages)
        yield Finding(True, f"engine={name} can be used: {packages}")


def _check_rendering() -> Finding:
    """Name the backend that renders here."""
    from isthmus.rendering import CannotRender, find_backend

    try:
        return Finding(True, f"renders by {find_backend()}")
    except CannotRender as error:
        return Finding(False, str(error))


def _compare_bits() -> Finding:
    """Train one seed twice, shortly, on 1 and on 2 threads of MuJoCo: are they equal to the bit?"""
    digests = []
    for threads in ("1", "2"):
        with _use_threads(threads):
            digests.append(_train_shortly())
    same = digests[0] == digests[1]
    outcome = "the same bits" if same else "DIFFERENT bits"
    return Finding(same, f"one seed twice, on 1 and 2 threads: {outcome} ({digests[0][:12]})")


@contextmanager
def _use_threads(threads: str) -> Iterator[None]:
    """Step MuJoCo on so many threads within the context."""
    from isthmus.domains.domain import _simulation

    before = os.environ.get("ISTHMUS_THREADS")
    os.environ["ISTHMUS_THREADS"] = threads
    _simulation.cache_clear()
    try:
        yield
    finally:
        _simulation.cache_clear()
        if before is None:
            del os.environ["ISTHMUS_THREADS"]
        else:
            os.environ["ISTHMUS_THREADS"] = before


def _train_shortly() -> str:
    """Train one round, and return the digest of the state."""
    from isthmus.methods import registry
    from isthmus.problems.problem import make_problem
    from isthmus.training.checkpoint import digest

    method = registry.build("source_only", {"learner.worlds": 8, "learner.steps": 32})
    problem = make_problem("hopper/gravity=x2")
    state, _ = method.step(problem, method.init(problem, 0))
    return digest(state)
