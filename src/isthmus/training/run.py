"""A run is a folder: run.json (what was asked for), metrics.jsonl, checkpoints/, and what evaluations wrote."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from isthmus.domains.problem import Access, Problem
from isthmus.methods import registry
from isthmus.types import BadValue, IsthmusError

FORMAT = 1


class RunError(IsthmusError):
    """A folder that is no run, a run that cannot be read, or a place that cannot be written."""


def versions() -> dict[str, str]:
    """What the bits of a run depend on, besides the machine."""
    packages = ("isthmus", "jax", "jaxlib", "numpy", "mujoco", "optax", "gymnasium")
    found = {name: importlib.metadata.version(name) for name in packages}
    return found | {"python": platform.python_version(), "NPROC": os.environ.get("NPROC", "")}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises RunError where the disk or the folder refuses."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None


@dataclass(frozen=True)
class Run:
    """One training of one method on one problem with one seed."""

    folder: Path
    config: dict[str, Any]

    @staticmethod
    def create(
        folder: Path,
        method: str,
        problem: Problem,
        seed: int,
        steps: int,
        settings: dict[str, Any],
        start: Run | None = None,
        imports: tuple[str, ...] = (),
    ) -> Run:
        """Make the folder and its run.json; refuses a folder with anything in it.

        Raises UnknownName or BadValue for a method, setting or problem that cannot run, RunError for the folder.
        """
        built = registry.build(method, settings)
        accepts = built.accepts
        if Access.NONE not in accepts and problem.access not in accepts:
            needs = " or ".join(sorted(accepts))
            raise BadValue(
                f"{method} needs access {needs}, this problem's is {problem.access}; say --access {needs.split()[0]}"
            )
        config = {
            "format": FORMAT,
            "method": method,
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in registry.settings_of(built).items()},
            "problem": problem.describe(),
            "seed": seed,
            "steps": steps,
            "start": str(start.folder.resolve()) if start else None,
            "imports": list(imports),
            "versions": versions(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise RunError(
                    f"{folder} is not empty; name another with --out, or go on with it: isthmus resume {folder}"
                )
        except OSError as error:
            raise RunError(f"cannot make the run's folder {folder}: {error.strerror}") from None
        write_text(folder / "run.json", json.dumps(config, indent=2) + "\n")
        return Run(folder, config)

    @staticmethod
    def open(folder: Path | str) -> Run:
        """Read a run's folder. Raises RunError, in one line."""
        folder = Path(folder)
        try:
            config = json.loads((folder / "run.json").read_text())
        except FileNotFoundError:
            raise RunError(f"{folder} is no run: it has no run.json") from None
        except NotADirectoryError:
            raise RunError(f"{folder} is no run: it is a file, not a folder") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}/run.json cannot be read: {error}") from None
        found = config.get("format") if isinstance(config, dict) else None
        if found != FORMAT:
            raise RunError(f"{folder} is a run of format {found}; this version reads format {FORMAT}")
        missing = {"method", "settings", "problem", "seed", "steps", "start", "versions"} - set(config)
        if missing:
            raise RunError(f"{folder}/run.json is damaged: it lacks {', '.join(sorted(missing))}")
        return Run(folder, config)

    @cached_property
    def problem(self) -> Problem:
        return Problem.from_data(self.config["problem"]).with_ledger(self.folder / "ledger.jsonl")

    @cached_property
    def method(self) -> Any:
        return registry.build(self.config["method"], self.config["settings"])

    @property
    def name(self) -> str:
        return self.config["method"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def steps(self) -> int:
        return self.config["steps"]

    def initial(self) -> Any:
        """The state before the first round."""
        start = self.config["start"]
        return self.method.init(self.problem, self.seed, Run.open(start).state().learner if start else None)

    def template(self) -> Any:
        """A state of the right structure and shapes, made without touching a target that cannot be replayed."""
        problem = self.problem.rehearsal()
        start = self.config["start"]
        return self.method.init(problem, self.seed, Run.open(start).state().learner if start else None)

    def checkpoint(self) -> tuple[Path, list[str]]:
        """The newest good checkpoint, and what was wrong with newer ones. Raises CheckpointError if there is none."""
        from isthmus.training import checkpoint

        return checkpoint.latest(self.folder / "checkpoints")

    def restore(self) -> tuple[Any, dict[str, Any], list[str]]:
        """State, the checkpoint's extra data, and notes on damage."""
        from isthmus.training import checkpoint

        path, notes = self.checkpoint()
        state, extra = checkpoint.load(path, self.template())
        return state, extra, notes

    def state(self) -> Any:
        return self.restore()[0]

    @cached_property
    def policy(self) -> Any:
        """What the run deploys, from its newest good checkpoint."""
        return self.method.policy(self.state())

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; a line cut short by a crash is left out."""
        rows = []
        path = self.folder / "metrics.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    @property
    def finished(self) -> bool:
        """Whether training reached its number of steps."""
        return (self.folder / "finished.json").exists()


def new_folder(root: Path, method: str, problem: Problem, seed: int) -> Path:
    """A name nobody has yet, `root/method-problem-s0`, `...-s0-2`."""
    slug = "".join(c if c.isalnum() or c in "._-=" else "-" for c in problem.name)[:60].strip("-")
    base = root / f"{method}-{slug}-s{seed}"
    folder, i = base, 2
    while folder.exists():
        folder, i = base.with_name(f"{base.name}-{i}"), i + 1
    return folder
