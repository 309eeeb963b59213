"""A run is a folder: run.json (what was asked for), metrics.jsonl, checkpoints/, and what
evaluations wrote.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isthmus.logs.record import Deterministic
from isthmus.methods import registry
from isthmus.physics.concurrency import check_jax_survived
from isthmus.physics.engine import find_engine
from isthmus.problems.problem import Access, Problem
from isthmus.training.models import describe_models
from isthmus.training.plans import check_access, check_run_numbers, describe_log, describe_settings
from isthmus.training.run_files import (
    FORMAT,
    RunError,
    new_folder,
    read_config,
    split_reference,
    write_text,
)
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.methods.method import Method, State

STATE_PACKAGES = ("isthmus", "optax")  # besides a method's own: where the classes of states are
VECTOR_UNITS = {"AVX512": ("AVX512", "X86_V4"), "AVX2": ("AVX2", "X86_V3")}
"""Vectors of x86-64, the widest first, and what NumPy calls them: features until 2.3, levels of the
ABI since 2.4."""


def versions(*engines: str) -> dict[str, str]:
    """Return what the bits of a run depend on, its engines' packages included.

    `cpu` is a kind: see `cpu_kind`.
    """
    packages = ["isthmus", "jax", "jaxlib", "numpy", "scipy", "mujoco", "optax", "gymnasium"]
    for engine in engines:
        packages += find_engine(engine).packages
    found = {name: importlib.metadata.version(name) for name in packages}
    return found | {
        "python": platform.python_version(),
        "NPROC": os.environ.get("NPROC", ""),
        "cpu": cpu_kind(),
    }


def cpu_kind() -> str:
    """Return the machine's architecture and widest vectors: "x86_64 AVX512", "x86_64 AVX2",
    "arm64".

    XLA compiles for them, so that the bits of two kinds need not be the same; nor need those of two
    CPUs of one kind.
    """
    found = " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    for vectors, signs in VECTOR_UNITS.items():
        if any(sign in found for sign in signs):
            return f"{platform.machine()} {vectors}"
    return platform.machine()


class RestoredRun(NamedTuple):
    """What a run's checkpoint holds."""

    state: State
    extra: dict[str, Any]
    notes: list[str]  # on damage


@dataclass(frozen=True)
class Run:
    """One training of one method on one problem with one seed."""

    folder: Path
    config: dict[str, Any]
    # Folders that `create` made, the innermost first.
    made: tuple[Path, ...] = field(default=(), compare=False)
    which: str = ""  # the checkpoint that it speaks of: the newest, or "best"
    # What was made of a checkpoint, with its manifest.
    _read: dict[str, tuple[bytes, Any]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @staticmethod
    def plan(
        method: str,
        problem: Problem,
        seed: int,
        steps: int,
        settings: dict[str, Any],
        start: Run | None = None,
        imports: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Return what run.json holds.

        Raises UnknownName or BadValue for a method, setting or problem that cannot run.
        """
        check_run_numbers(seed, steps, fewest_steps=0 if start else 1)
        built = registry.build(method, settings)
        check_access(method, built.accepts, problem)
        problem.ready()
        config = {
            "format": FORMAT,
            "method": method,
            "settings": describe_settings(built),
            "problem": problem.describe(),
            "seed": seed,
            "steps": steps,
            "start": None,
            "start_digest": None,
            "imports": list(imports),
            "versions": versions(problem.source.engine, problem.target.engine),
            "log": None,
            "models": describe_models(problem),
        }
        if start:
            config |= {"start": start.reference, "start_digest": start.digest}
        if Access.NONE not in built.accepts and problem.access == Access.DATASET:
            config["log"] = describe_log(problem.log())
        return config

    @staticmethod
    def create(folder: Path, config: dict[str, Any], new: bool = False) -> Run:
        """Make the folder and its run.json, from what `plan` gave.

        Raises RunError for a folder with anything in it, and FileExistsError for a `new` one that
        is there at all.
        """
        made: list[Path] = []
        try:
            for path in (folder, *folder.parents):
                if not path.exists():
                    made.append(path)
            folder.mkdir(parents=True, exist_ok=not new)
            if any(folder.iterdir()):
                raise RunError(
                    f"{folder} is not empty; name another with --out, or go on with it: isthmus "
                    f"resume {folder}"
                )
        except OSError as error:
            if new and isinstance(error, FileExistsError):
                raise
            raise RunError(f"cannot make the run's folder {folder}: {error.strerror}") from None
        run = Run(folder, config, tuple(made))
        try:
            write_text(folder / "run.json", json.dumps(config, indent=2) + "\n")
        except RunError:
            run.discard()
            raise
        return run

    @staticmethod
    def create_under(root: Path, config: dict[str, Any], problem: Problem) -> Run:
        """Make a new folder under `root`, which no other thread or process takes at the same time.

        Raises RunError.
        """
        while True:
            folder = new_folder(root, config["method"], problem, config["seed"])
            try:
                return Run.create(folder, config, new=True)
            except FileExistsError:
                continue  # another was faster

    @staticmethod
    def open(folder: Path | str) -> Run:
        """Read a run's folder, RUN; RUN@best, the run as it was at its best evaluation in the
        source; or a file that keeps what a run handed over.

        Raises RunError, or UnknownName for another word behind the @; in one line.
        """
        if Path(folder).suffix == ".safetensors":
            from isthmus.training import kept

            return KeptRun(Path(folder), kept.read_kept_config(Path(folder)))
        folder, which = split_reference(folder)
        return Run(folder, read_config(folder), which=which)

    def discard(self) -> None:
        """Remove what `create` made, of a run that could not begin: nothing was learned, nor a
        target touched.

        A folder that was there before stays, empty as it was.
        """
        if self.begun or (self.folder / "ledger.jsonl").exists():
            return
        for name in ("run.json", "metrics.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("checkpoints", "best"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        with suppress(OSError):  # what somebody else put there meanwhile stays
            for folder in self.made:
                folder.rmdir()

    def expect(self, config: dict[str, Any]) -> None:
        """Raise BadValue where this run is not the one that was planned as `config`."""
        names = ["method", "problem", "seed", "steps", "settings"]
        wanted = config.get("start_digest")
        start_digest = self.config.get("start_digest", wanted)
        # What is kept of a start lies elsewhere than the run did: where its digest is known, that
        # decides.
        if not (wanted and self.config.get("start_digest")):
            names.append("start")
        for name in names:
            if self.config[name] != config[name]:
                raise BadValue(
                    f"{self.folder} holds a run of another {name}; name another folder, or remove "
                    "this one"
                )
        if start_digest != wanted:
            raise BadValue(
                f"{self.folder} started from what {self.config['start']} was before; remove it to "
                "begin anew"
            )
        if self.config.get("log") != config.get("log"):
            raise BadValue(
                f"{self.folder} holds a run on another log; name another folder, or remove this one"
            )

    @cached_property
    def problem(self) -> Problem:
        """The problem, with the run's ledger where the target cannot be replayed."""
        problem = Problem.from_data(self.config["problem"], trusted=False)
        return problem.with_ledger(self.folder / "ledger.jsonl")

    def check_log(self) -> None:
        """Raise BadValue where the log that the run learns from is missing or no longer what it
        was.
        """
        log = self.config.get("log")
        if log is not None and describe_log(self.problem.log()) != log:
            raise BadValue(
                f"the data set {self.problem.data} changed since {self.folder} began; put the old "
                "one back"
            )

    @cached_property
    def method(self) -> Method[Any]:
        """The method, with the run's settings."""
        return registry.build(self.config["method"], self.config["settings"])

    @property
    def name(self) -> str:
        """The method's name."""
        return self.config["method"]

    @property
    def seed(self) -> int:
        """The number from which all randomness comes."""
        return self.config["seed"]

    @property
    def steps(self) -> int:
        """The steps that were asked for, of source and target."""
        return self.config["steps"]

    def initial(self) -> State:
        """Return the state before the first round. Raises BadValue where the run to start from
        holds another learner.
        """
        if not self.config["start"]:
            return self.method.init(self.problem, self.seed)
        from isthmus.training.starts import take_start

        start = take_start(self, Run.open(self.config["start"]))
        return self.method.init(self.problem, self.seed, start)

    @property
    def begun(self) -> bool:
        """Whether a checkpoint, good or damaged, is there: a run stopped before its first one
        begins anew.
        """
        from isthmus.training.checkpoint import PARTIAL

        return any(path.suffix != PARTIAL for path in self.folder.glob("checkpoints/*"))

    @property
    def reference(self) -> str:
        """What opens this run from anywhere on this machine: its folder, or FOLDER@best."""
        return f"{self.folder.resolve()}@{self.which}" if self.which else str(self.folder.resolve())

    def checkpoint(self) -> tuple[Path, list[str]]:
        """The newest good checkpoint, or that of RUN@best, and what was wrong with newer ones.

        Raises CheckpointError if there is none, BadValue where no best one is kept.
        """
        from isthmus.training import best, checkpoint

        if self.which:
            return best.find_best(self.folder)
        return checkpoint.latest(self.folder / "checkpoints")

    @property
    def digest(self) -> str:
        """Of `checkpoint`: what the run left, bit by bit."""
        from isthmus.training import checkpoint

        return checkpoint.digest(self.checkpoint()[0])

    def restore(self) -> RestoredRun:
        """Return what `checkpoint` holds, read anew. No domain is touched and nothing initialized,
        but for a run of an older version.

        Raises CheckpointError, and UnknownName or BadValue where run.json is damaged.
        """
        check_jax_survived()
        from isthmus.training import checkpoint
        from isthmus.training.older_runs import NEW_FIELDS, make_like, split_optimizers

        path, notes = self.checkpoint()
        method, problem = self.method, self.problem
        like = None
        packages = {*STATE_PACKAGES, _package(method), _package(method.learner)}
        if not checkpoint.has_structure(path, packages):
            phase = checkpoint.read_extra(path)["phase"]
            like = make_like(method, problem, self.seed, phase)
        state, extra = checkpoint.load(path, like, NEW_FIELDS, packages=packages)
        return RestoredRun(split_optimizers(state), extra, notes)

    def state(self) -> State:
        """Return the state in `checkpoint`: read once, and again where a newer one was saved.

        Its NumPy arrays are copies: what is written to them stays with the caller.
        """
        import jax

        state = self._once("state", lambda: self.restore().state)
        return jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, state)

    @property
    def policy(self) -> Any:
        """What the run deploys, from `checkpoint`."""
        return self._once("policy", lambda: self.method.policy(self.state()))

    @property
    def source_policy(self) -> Any:
        """What acts in the source: `policy`, but for a method with an action for each."""
        return self._once("source_policy", lambda: self.method.source_policy(self.state()))

    @property
    def behaviour(self) -> Any:
        """The policy as it explored, where the method keeps that; else as it is deployed."""
        if not self.method.explores:
            return Deterministic(self.policy)
        return self._once("behaviour", lambda: self.method.behaviour(self.state()))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of the checkpoint, made once for each checkpoint."""
        manifest = self._newest_manifest()
        former, made = self._read.get(name, (None, None))
        if former != manifest:
            made = make()
            self._read[name] = manifest, made
        return made

    def _newest_manifest(self) -> bytes:
        """Return what changes with each save, for either checkpoint that a run may speak of."""
        from isthmus.training import checkpoint

        with suppress(OSError):
            for newest in checkpoint.paths(self.folder / "checkpoints")[:1]:
                return (newest / checkpoint.MANIFEST).read_bytes()
        return b""

    def metrics(self) -> list[dict[str, Any]]:
        """Return all lines of metrics.jsonl; a line cut short by a crash is left out."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    @property
    def finished(self) -> bool:
        """Whether training reached its number of steps."""
        return (self.folder / "finished.json").exists()


def _package(part: Any) -> str:
    """Return the top-level package in which a method's or learner's class is defined."""
    return type(part).__module__.partition(".")[0]


@dataclass(frozen=True)
class KeptRun(Run):
    """A run of which only a file of `isthmus.training.kept` is left; `folder` is its path.

    It can be started from, played and logged with. Its state has no worlds. Nothing can be resumed
    from it, and its metrics are gone.
    """

    @property
    def begun(self) -> bool:
        """Whether it began: always."""
        return True

    @property
    def finished(self) -> bool:
        """Whether it ended: always."""
        return True

    @property
    def digest(self) -> str:
        """Of the last checkpoint of the run that was kept."""
        return self.config["digest"]

    def checkpoint(self) -> tuple[Path, list[str]]:
        """Raise RunError: none is left."""
        raise RunError(
            f"{self.folder} keeps what a run handed over, not its checkpoints: train the run again "
            "for those"
        )

    def restore(self) -> RestoredRun:
        """Return the state without worlds. Raises CheckpointError where the file is damaged or of
        another version.
        """
        from isthmus.methods.method import initial_state
        from isthmus.training import kept

        learner = kept.read_learner(self)
        state = initial_state(self.seed, learner, None, None)  # pyright: ignore[reportArgumentType]
        return RestoredRun(state._replace(source_steps=np.int64(self.steps)), {}, [])

    def metrics(self) -> list[dict[str, Any]]:
        """Return no lines: they are gone."""
        return []
