"""What `isthmus doctor` looks at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version


def examine() -> Iterator[tuple[bool, str]]:
    """(good, line) for each thing that results or pictures depend on."""
    from isthmus.training.run import versions

    found = versions()
    yield True, ", ".join(f"{k} {v}" for k, v in found.items() if k != "NPROC")
    yield (
        found["NPROC"] == "1",
        f"NPROC={found['NPROC']} (XLA's bits depend on the CPUs it sees; 1 fixes them)",
    )
    import jax

    yield True, f"jax computes on {jax.default_backend()}"
    from isthmus.physics.concurrency import count_cpus
    from isthmus.physics.mujoco import threads

    yield (
        True,
        f"{count_cpus()} CPUs; MuJoCo steps on {threads()} threads (ISTHMUS_THREADS changes speed, "
        "not bits)",
    )
    yield from _engines()
    yield _bits()
    from isthmus.report.watch import CannotRender, backend

    try:
        yield True, f"renders by {backend()}"
    except CannotRender as error:
        yield False, str(error)


def _engines() -> Iterator[tuple[bool, str]]:
    """Yield a line for each engine that is not the default one; they are optional."""
    from isthmus.physics.engine import DEFAULT_ENGINE, ENGINES, find_engine
    from isthmus.types import BadValue

    for name in ENGINES:
        if name == DEFAULT_ENGINE:
            continue
        engine = find_engine(name)
        try:
            engine.check_installed()
        except BadValue as error:
            yield True, str(error)
            continue
        packages = " ".join(f"{package} {version(package)}" for package in engine.packages)
        yield True, f"engine={name} can be used: {packages}"


def _bits() -> tuple[bool, str]:
    """Two short trainings of one seed, the second with another number of MuJoCo threads: equal to
    the bit?
    """
    from isthmus.domains.domain import _simulation
    from isthmus.methods import registry
    from isthmus.problems.problem import make_problem
    from isthmus.training.checkpoint import digest

    digests = []
    for threads in ("1", "2"):
        before = os.environ.get("ISTHMUS_THREADS")
        os.environ["ISTHMUS_THREADS"] = threads
        _simulation.cache_clear()
        try:
            method = registry.build("source_only", {"learner.worlds": 8, "learner.steps": 32})
            problem = make_problem("hopper/gravity=x2")
            state, _ = method.step(problem, method.init(problem, 0))
        finally:
            _simulation.cache_clear()
            if before is None:
                del os.environ["ISTHMUS_THREADS"]
            else:
                os.environ["ISTHMUS_THREADS"] = before
        digests.append(digest(state))
    same = digests[0] == digests[1]
    return (
        same,
        f"one seed twice, on 1 and 2 threads: {'the same bits' if same else 'DIFFERENT bits'} "
        f"({digests[0][:12]})",
    )
