"""The options that commands share, by what they are about. Heavy imports happen inside."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from isthmus.cli.console import print_note
from isthmus.types import BadValue, IsthmusError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from isthmus.deploy.policy import ForeignPolicy
    from isthmus.problems.problem import Problem
    from isthmus.training.executor import Executor
    from isthmus.training.run import Run

Access = Literal["none", "dataset", "online", "few_shot"]
ExecutorName = Literal["processes", "ray"]
Source = Annotated[str, arg(help="settings to change the source by")]
Target = Annotated[
    str,
    arg(
        help="settings to change the target by, e.g. gravity=x2; or another: gym:Hopper-v5; or, to "
        "train and audit, log: known by --data alone"
    ),
]
Data = Annotated[
    str | None,
    arg(
        metavar="D[:SIZE]",
        help="the target's log, .npz or Minari; D:5000 and D:1episode read its begin",
    ),
]
PolicyReference = Annotated[
    str,
    arg(
        metavar="POLICY",
        help="a run's folder RUN, or RUN@best; policy.onnx, or a folder that holds it; "
        "module:factory or file.py:factory of yours",
    ),
]
Address = Annotated[
    str | None,
    arg(
        metavar="HOST:PORT",
        help="a Ray cluster's, or auto on one of its machines (default: this machine alone)",
    ),
]


@dataclass(frozen=True)
class ShiftOptions:
    """A problem, its domains changed."""

    problem: Positional[
        Annotated[
            str,
            arg(metavar="PROBLEM", help="a row of `isthmus problems`, or task/name=setting,..."),
        ]
    ]
    source: Source = ""
    target: Target = ""

    def make(self, data: str | None = None) -> Problem:
        """Return the problem, with a log of its target where one is given."""
        from isthmus.problems.problem import make_problem

        return make_problem(self.problem, source=self.source, target=self.target, data=data)


@dataclass(frozen=True)
class ProblemOptions:
    """What is to be learned: from which source, for which target, and what may be known of it."""

    problem: Annotated[
        str, arg(aliases=["-p"], help="a row of `isthmus problems`, or task/name=setting,...")
    ]
    source: Source = ""
    target: Target = ""
    access: Annotated[Access | None, arg(help="how training may touch the target")] = None
    uncertainty: Annotated[
        str | None, arg(help="what you believe of the target, as distributions: torso_mass=1..9")
    ] = None
    data: Data = None
    budget: Annotated[int | None, arg(help="most target transitions that training may take")] = None

    def make(self) -> Problem:
        """Return the problem. Raises UnknownName or BadValue, in one line."""
        from isthmus.problems.problem import Budget, make_problem

        return make_problem(
            self.problem,
            source=self.source,
            target=self.target,
            access=self.access,
            uncertainty=self.uncertainty,
            data=self.data,
            budget=Budget(transitions=self.budget),
        )


@dataclass(frozen=True)
class ImportOptions:
    """Code of your own."""

    imports: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(name="import", metavar="FILE", help="a Python file of yours to import first"),
    ] = ()

    def load(self) -> None:
        """Import the files; what they register is then known. Raises BadValue, in one line."""
        from isthmus.tasks.imports import import_files

        import_files(self.imports)


@dataclass(frozen=True)
class PolicyOptions(ImportOptions):
    """What is said about a policy from elsewhere, and code of your own."""

    contract: Annotated[
        str | None,
        arg(
            metavar="FILE|task",
            help="what a policy.onnx observes and does, where the model does not say: its "
            "contract.toml (default: the one beside it), or `task`: as the task, unscaled",
        ),
    ] = None

    def open_policy(self, reference: str) -> Run | ForeignPolicy:
        """Open a run, or load a policy from elsewhere. Raises BadValue or RunError, in one line."""
        self.load()
        from isthmus.deploy.policy import is_foreign, load_foreign

        if is_foreign(reference):
            return load_foreign(reference, self.contract)
        if self.contract is not None:
            raise BadValue(f"--contract is said of a policy from elsewhere; {reference} is a run")
        return open_run(Path(reference))


@dataclass(frozen=True)
class MethodOptions(ImportOptions):
    """The method's settings, and code of your own."""

    settings: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            name="set",
            metavar="NAME=VALUE",
            help="change a method's setting, e.g. learner.epochs=5; see: isthmus methods NAME",
        ),
    ] = ()

    def parse_settings(self) -> dict[str, str]:
        """Return the settings by name. Raises BadValue for one that is no NAME=VALUE."""
        pairs = {}
        for text in self.settings:
            name, equals, value = text.partition("=")
            if not equals:
                raise BadValue(f"--set {text}: write NAME=VALUE")
            pairs[name] = value
        return pairs


@dataclass(frozen=True)
class TrainingsExecutorOptions:
    """Where the trainings run."""

    executor: Annotated[
        ExecutorName,
        arg(help="where the trainings run: processes of this machine, or a Ray cluster"),
    ] = "processes"
    workers: Annotated[int | None, arg(help="how many at once (if not said: one a CPU)")] = None
    address: Address = None

    def make(self) -> AbstractContextManager[Executor]:
        """Return the executor that was asked for."""
        from isthmus.training.executors import make_executor

        return make_executor(self.executor, self.workers, self.address)


@dataclass(frozen=True)
class RoundsExecutorOptions:
    """Where the rounds of a method run that can share them out."""

    executor: Annotated[
        ExecutorName | None,
        arg(
            help="who does the rounds of a method that can share them out (default: this process, "
            "or --workers processes)"
        ),
    ] = None
    workers: Annotated[
        int | None,
        arg(help="how many at once (if not said: this process alone; with --executor one a CPU)"),
    ] = None
    address: Address = None

    def make(self) -> AbstractContextManager[Executor | None]:
        """Return the executor that was asked for; None is the training's own process."""
        from isthmus.training.executors import make_executor

        if not any((self.executor, self.workers, self.address)):
            return nullcontext()
        return make_executor(self.executor or "processes", self.workers, self.address)


def is_run(opened: Run | ForeignPolicy) -> TypeIs[Run]:
    """Return whether what was opened is a run, not a policy from elsewhere."""
    from isthmus.training.run import Run

    return isinstance(opened, Run)


def open_run(folder: Path) -> Run:
    """Open a run whose problem can be made here. Raises BadValue that names what to import."""
    from isthmus.training.models import find_changed_models
    from isthmus.training.run import Run

    run = Run.open(folder)
    try:
        _ = run.problem, run.method
    except IsthmusError as error:
        if run.config.get("imports"):
            flags = " ".join(f"--import {name}" for name in run.config["imports"])
            raise BadValue(f"{error} (this run was made with {flags})") from None
        raise
    for task in find_changed_models(run):
        print_note(f"the model of {task} changed since {folder} was trained: this is the new one")
    return run
