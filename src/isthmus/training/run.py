"""A run is a folder: run.json (what was asked for), metrics.jsonl, checkpoints/, and what
evaluations wrote.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.logs.log import Log
from isthmus.logs.record import Deterministic
from isthmus.methods import registry
from isthmus.physics.concurrency import check_jax_survived
from isthmus.physics.engine import find_engine
from isthmus.problems.problem import Access, Problem
from isthmus.types import BadValue, IsthmusError, UnknownName

FORMAT = 1
FIELDS = {  # of run.json, and of which kind
    "method": str, "settings": dict, "problem": dict, "seed": int, "steps": int, "start": str | None, "imports": list,
    "versions": dict,
}  # fmt: skip


DEFAULTS_OF_OLDER_STATES = {"paid": np.True_}
"""Parts of a state that older runs lack, and what continues those: they took steps whether or not they were paid."""

KEPT_METADATA = "isthmus"  # the metadata's name in a file of `isthmus.training.kept`

VECTOR_UNITS = {"AVX512": ("AVX512", "X86_V4"), "AVX2": ("AVX2", "X86_V3")}
"""Vectors of x86-64, the widest first, and what NumPy calls them: features until 2.3, levels of the ABI since 2.4."""


class RunError(IsthmusError):
    """A folder that is no run, a run that cannot be read, or a place that cannot be written."""


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


def described(log: Log) -> dict[str, Any]:
    """What run.json says of a log; its digest is of the content, wherever and in whichever format
    it lies.
    """
    return {"digest": log.digest(), "transitions": log.size, "episodes": log.episodes}


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all. Raises RunError where the disk or the folder
    refuses.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        # A name that was no text to the locale, such as a folder's, is written as the bytes that it
        # is.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def make_folder(folder: Path, option: str) -> None:
    """Make a folder where none is. Raises BadValue, naming the option that names another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadValue(
            f"cannot make the folder {folder}: {error.strerror}; name another with {option}"
        ) from None


@dataclass(frozen=True)
class Run:
    """One training of one method on one problem with one seed."""

    folder: Path
    config: dict[str, Any]
    made: tuple[Path, ...] = field(
        default=(), compare=False
    )  # folders that `create` made, the innermost first
    which: str = ""  # the checkpoint that it speaks of: the newest, or "best"

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
        """What run.json holds. Raises UnknownName or BadValue for a method, setting or problem that
        cannot run.
        """
        if not 0 <= seed < 2**31:
            raise BadValue(f"seed={seed}: needs a whole number in 0..{2**31 - 1}")
        if steps < (1 if start is None else 0):
            raise BadValue(
                f"steps={steps}: needs a whole number above 0, or 0 to deploy what --start left"
            )
        built = registry.build(method, settings)
        accepts = built.accepts
        if Access.NONE not in accepts and problem.access not in accepts:
            needs = " or ".join(sorted(accepts))
            fix = (
                "give the target's log, --data (isthmus collect makes one)"
                if needs == Access.DATASET
                else ""
            )
            raise BadValue(
                f"{method} needs access {needs}, this problem's is {problem.access}; "
                f"{fix or f'say --access {needs.split()[0]}'}"
            )
        problem.ready()
        logged = Access.NONE not in accepts and problem.access == Access.DATASET
        return {
            "format": FORMAT,
            "method": method,
            "settings": {
                k: list(v) if isinstance(v, tuple) else v
                for k, v in registry.settings_of(built).items()
            },
            "problem": problem.describe(),
            "seed": seed,
            "steps": steps,
            "start": start.reference if start else None,
            "start_digest": start.digest if start else None,
            "imports": list(imports),
            "versions": versions(problem.source.engine, problem.target.engine),
            "log": described(problem.log()) if logged else None,
        }

    @staticmethod
    def create(folder: Path, config: dict[str, Any], new: bool = False) -> Run:
        """Make the folder and its run.json, from what `plan` gave; refuses a folder with anything
        in it: RunError.

        A `new` one may not be there at all: raises FileExistsError.
        """
        try:
            made = tuple(path for path in (folder, *folder.parents) if not path.exists())
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
        run = Run(folder, config, made)
        try:
            write_text(folder / "run.json", json.dumps(config, indent=2) + "\n")
        except RunError:
            run.discard()
            raise
        return run

    @staticmethod
    def create_under(root: Path, config: dict[str, Any], problem: Problem) -> Run:
        """`create` in a new folder under `root`, which no other thread or process takes at the same
        time.
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
            from isthmus.training.kept import open_kept

            return open_kept(Path(folder))
        folder, which = _split_reference(folder)
        try:
            config = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{folder} is no run: it has no run.json") from None
        except NotADirectoryError:
            raise RunError(f"{folder} is no run: it is a file, not a folder") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}/run.json cannot be read: {error}") from None
        check_config(config, folder, folder / "run.json")
        return Run(folder, config, which=which)

    def discard(self) -> None:
        """Remove what `create` made, of a run that could not begin: nothing was learned, nor a
        target touched.

        A folder that was there before stays, empty as it was.
        """
        if not self.begun and not (self.folder / "ledger.jsonl").exists():
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
        # What is kept of a start lies elsewhere than the run did: where its digest is known, that
        # decides, below.
        if not (self.config.get("start_digest") and config.get("start_digest")):
            names.append("start")
        for name in names:
            if self.config[name] != config[name]:
                raise BadValue(
                    f"{self.folder} holds a run of another {name}; name another folder, or remove "
                    "this one"
                )
        if self.config.get("start_digest", config.get("start_digest")) != config.get(
            "start_digest"
        ):
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
        problem = Problem.from_data(self.config["problem"], trusted=False)
        return problem.with_ledger(self.folder / "ledger.jsonl")

    def check_log(self) -> None:
        """Raise BadValue where the log that the run learns from is missing or no longer what it
        was.
        """
        if (log := self.config.get("log")) and described(self.problem.log()) != log:
            raise BadValue(
                f"the data set {self.problem.data} changed since {self.folder} began; put the old "
                "one back"
            )

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
        """The state before the first round. Raises BadValue where the run to start from holds
        another learner.
        """
        if not self.config["start"]:
            return self.method.init(self.problem, self.seed)
        import jax

        start = Run.open(self.config["start"])
        learned = start.state().learner
        if start.method.has_source_action and start.name != self.name:
            raise BadValue(
                f"{start.folder} cannot be started from: {start.name} acts by another policy in "
                "the source than the "
                "one that it deploys; start from a run of one policy, or leave --start out"
            )
        learner = getattr(learned, "sac", learned)  # where a method holds more than its learner
        wanted = type(self.method.learner.init(self.problem.source.spaces, jax.random.key(0)))
        if type(learner) is not wanted:
            raise BadValue(
                f"{start.folder} cannot be started from: {start.name} left a "
                f"{type(learner).__name__}, this run "
                f"needs a {wanted.__name__}; start from a run of one domain with the same learner, "
                "--set learner=..."
            )
        state = self.method.init(
            self.problem, self.seed, learned if start.method.has_source_action else learner
        )
        template = self.template(int(state.phase)).learner
        if _shapes(state.learner) != _shapes(template):
            raise BadValue(
                f"{start.folder} cannot be started from: its learner has other shapes than this "
                "run's; "
                "start from a run of the same robot, with the same settings of the learner"
            )
        return state

    def template(self, phase: int = 0) -> Any:
        """A state of the right structure and shapes, made without touching a domain that cannot be
        replayed.

        A later phase has worlds of its own; a method reaches it at once when it is given a learner
        to start from.
        """
        problem = self.problem.rehearsal()
        state = self.method.init(problem, self.seed)
        return (
            state if phase == state.phase else self.method.init(problem, self.seed, state.learner)
        )

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

    def restore(self) -> tuple[Any, dict[str, Any], list[str]]:
        """State, the checkpoint's extra data, and notes on damage."""
        check_jax_survived()
        from isthmus.training import checkpoint

        path, notes = self.checkpoint()
        phase = json.loads((path / checkpoint.MANIFEST).read_bytes())["extra"]["phase"]
        state, extra = checkpoint.load(path, self.template(phase), DEFAULTS_OF_OLDER_STATES)
        return state, extra, notes

    def state(self) -> Any:
        return self.restore()[0]

    @cached_property
    def policy(self) -> Any:
        """What the run deploys, from `checkpoint`."""
        return self.method.policy(self.state())

    @cached_property
    def source_policy(self) -> Any:
        """What acts in the source: `policy`, but for a method with an action for each."""
        return self.method.source_policy(self.state())

    @property
    def behaviour(self) -> Any:
        """The policy as it explored, where the method keeps that; else as it is deployed."""
        explores = getattr(self.method, "behaviour", None)
        return explores(self.state()) if explores else Deterministic(self.policy)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; a line cut short by a crash is left out."""
        rows = []
        path = self.folder / "metrics.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    @property
    def finished(self) -> bool:
        """Whether training reached its number of steps."""
        return (self.folder / "finished.json").exists()


def _split_reference(reference: Path | str) -> tuple[Path, str]:
    """A run's folder and the checkpoint meant, "" or "best". Raises UnknownName for another one."""
    head, at, which = str(reference).rpartition("@")
    if not at or Path(reference).exists() or not (Path(head) / "run.json").exists():
        return Path(reference), ""
    if which != "best":
        raise UnknownName("checkpoint", which, ["best"])
    return Path(head), which


def check_config(config: Any, run: Path, file: Path) -> None:
    """Raise RunError where a run's `run.json`, as read, is of another format, or damaged."""
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise RunError(f"{run} is a run of format {found}; this version reads format {FORMAT}")
    for name, kind in FIELDS.items():
        if not isinstance(config.get(name), kind):
            raise RunError(f"{file} is damaged: {name} is {config.get(name)!r}")


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (np.shape(leaf), str(np.asarray(leaf).dtype))
        for path, leaf in leaves
    }


def new_folder(root: Path, method: str, problem: Problem, seed: int) -> Path:
    """A name nobody has yet, `root/method-problem-s0`, `...-s0-2`."""
    slug = "".join(c if c.isalnum() or c in "._-=" else "-" for c in problem.name)[:60].strip("-")
    base = root / f"{method}-{slug}-s{seed}"
    folder, i = base, 2
    while os.path.lexists(folder):
        folder, i = base.with_name(f"{base.name}-{i}"), i + 1
    return folder
