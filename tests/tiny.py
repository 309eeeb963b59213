"""Trainings that take a second: what the tests of the loop, the studies and the command line
share.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import isthmus
from isthmus.domains import domain, foreign_simulation
from isthmus.domains.parse import parse_domain
from isthmus.learning.policies import UniformBehaviour
from isthmus.logs.record import record_log
from isthmus.logs.write import write_log
from isthmus.methods import registry
from isthmus.training import train as loop
from isthmus.training.run import Run

loop.EVALUATIONS = 2  # each takes as long as ten of these rounds, by 16 episodes in either domain
loop.EVALUATION_EPISODES = 3

ROUND = 128  # steps
SETTINGS: dict[str, Any] = {
    "learner.worlds": 8,
    "learner.steps": 16,
    "learner.epochs": 2,
    "learner.minibatch": 32,
}
OWN = {
    "pretraining": 3 * ROUND,  # a change of phase amid the run
    "inner": 1,
    "updates": 1,
    "adaptation_worlds": 4,
    "adaptation_steps": 16,
    "warmup": 3 * ROUND,
    "fitting": 500,  # one round
    "pairs": 2,
    "episodes": 1,
    "learner.units": 16,
    "learner.sequence": 8,
    "inverse.hidden": (16, 16),
    "inverse.minibatch": 32,
    "transformer.hidden": (16,),
    "transformer.epochs": 2,
    "transformer.minibatch": 32,
    "discriminator.steps": 3,
    "discriminator.minibatch": 16,
    "parameters": "gravity,torso_mass",
    "max_delay": 0,
    "interval": 2 * ROUND,
    "transitions": ROUND,
    "informed_steps": ROUND,
    "history": 4,
    "estimator.hidden": (16, 16),
    "estimator.updates": 4,
    "estimator.kept": 32,
    "estimator.capacity": 80,  # less than a run
    "learner.critics": 3,
    "tasks": 2,
    "latent": 8,
    "encoder_hidden": (16,),
    "dynamics.members": 3,
    "dynamics.hidden": (16,),
}
SAC = {
    "learner.hidden": (16, 16),
    "learner.random_steps": 2 * ROUND,
    "learner.capacity": 512,  # less than a run: the replay wraps around
}


def settings(method: str) -> dict[str, Any]:
    """Settings under which a method of the table trains in rounds of 128 steps."""
    return settings_of(method, {})


def settings_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The same for a method whose learner, say, was `given`."""
    known = registry.settings_of(registry.build(method, given))
    sac = SAC if "learner.capacity" in known else {}
    return {name: value for name, value in {**SETTINGS, **OWN, **sac}.items() if name in known}


def access(method: str) -> str:
    """An access that the method accepts: the freest there is."""
    accepts = registry.build(method).accepts
    return next(a for a in ("online", "few_shot", "dataset", "none") if a in accepts)


def problem(method: str = "source_only", text: str = "hopper/gravity=x2") -> isthmus.Problem:
    freest = access(method)
    return isthmus.problem(
        text, access=freest, uncertainty="torso_mass=1..9" if "hopper" in text else "",
        data=log(text) if freest == "dataset" else None,
    )  # fmt: skip


SESSION = Path(os.environ["ISTHMUS_TEST_SESSION"])
"""The folder that all processes of a session share; what is in it is only read."""


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """A path in the session's folder that no other process makes or reads meanwhile."""
    import fcntl

    with open(SESSION / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield SESSION / name


def log(text: str) -> str:
    """A log of the target under random actions, three hundred transitions."""
    with locked(text.replace("/", " ") + ".npz") as path:
        if not path.exists():
            target = parse_domain(text)
            behaviour = UniformBehaviour(target.spaces.low, target.spaces.high)
            partial = path.with_name(f"partial {path.name}")
            write_log(partial, record_log(target, behaviour, 300), {}, target)
            partial.rename(path)
    return str(path)


def train(method: str, folder: Path, rounds: int = 6, **changes: Any) -> Run:
    """A finished run of so many rounds (the random steps before the first are one of them)."""
    made = changes.pop("problem", None) or problem(method)
    asked = {"settings": settings(method), "steps": rounds * ROUND, "out": folder, "quiet": True}
    return isthmus.train(method, made, **(asked | changes))


def trained(method: str, rounds: int = 6) -> Run:
    """The run that `train` makes of a method where nothing is changed, made once a session."""
    with locked(f"{method}-{rounds}") as folder:
        if not (folder / "finished.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            train(method, folder, rounds)
    return Run.open(folder)


REPRESENTATIVES = {
    "source_only",
    "fine_tuning",
    "fine_tuning+sac",
    "few_shot_ppo",
    "rl2",
    "up_osi",
    "rma",
    "garat",
    "matlf",
    "dap_u",
    "dap_inverse",
    "h2o",
    "learned_reward",
}
"""Methods that go through all code between them: each learner, each phase, each way to adapt. The
others are themselves with less (DARC and DAP are DAP+U's, ES-MAML the learned reward's), or with
another distribution of the source.
"""


def each(methods: Iterable[str]) -> list[Any]:
    """A parameter for each method: its tests run in one process, and those of what is no
    representative in `make test-all`.
    """
    import pytest  # processes that tests start do without

    full = (pytest.mark.full,)
    return [
        pytest.param(
            method,
            marks=(pytest.mark.xdist_group(method), *(() if method in REPRESENTATIVES else full)),
        )
        for method in methods
    ]


def flags(method: str) -> list[str]:
    """The same settings for the command line."""
    return [f"--set={name}={value}" for name, value in settings(method).items()]


def lines(run: Run) -> list[dict[str, Any]]:
    """metrics.jsonl without the seconds, which are in no hash; every line must be whole."""
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def forget_simulations() -> None:
    """As a new process would find them."""
    domain._simulation.cache_clear()
    foreign_simulation._kept.clear()


def process(command: list[str], **named: Any) -> subprocess.CompletedProcess[str]:
    """A finished process and what it said."""
    return subprocess.run(command, capture_output=True, text=True, **named)


@contextmanager
def compilations() -> Iterator[list[Any]]:
    """What XLA compiles inside."""
    found: list[Any] = []

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
