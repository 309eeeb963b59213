"""The `isthmus` command: thin functions over the Python API. Heavy imports happen inside: help is
instant.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes

from isthmus.cli.catalog import show_methods, show_parameters, show_problems, show_tasks
from isthmus.cli.checking import run_diff, run_verify
from isthmus.cli.claiming import run_claims
from isthmus.cli.comparing import run_compare, run_reproduce
from isthmus.cli.console import error_screen, print_error
from isthmus.cli.crossing import run_cross
from isthmus.cli.demo import run_demo
from isthmus.cli.deploying import run_check, run_export
from isthmus.cli.doctor import run_doctor
from isthmus.cli.explaining import run_explain
from isthmus.cli.identifying import run_identify
from isthmus.cli.importing import run_import
from isthmus.cli.importing_robots import run_import_robot
from isthmus.cli.measuring import run_audit, run_evaluate, run_landscape
from isthmus.cli.output import accept_any_text
from isthmus.cli.showing import run_report, run_watch
from isthmus.cli.training import run_collect, run_resume, run_train
from isthmus.types import IsthmusError, UnknownName

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": run_demo,
    "methods": show_methods,
    "problems": show_problems,
    "tasks": show_tasks,
    "parameters": show_parameters,
    "audit": run_audit,
    "identify": run_identify,
    "collect": run_collect,
    "import": run_import,
    "import-robot": run_import_robot,
    "train": run_train,
    "resume": run_resume,
    "evaluate": run_evaluate,
    "landscape": run_landscape,
    "explain": run_explain,
    "compare": run_compare,
    "reproduce": run_reproduce,
    "claims": run_claims,
    "watch": run_watch,
    "export": run_export,
    "check": run_check,
    "cross": run_cross,
    "report": run_report,
    "verify": run_verify,
    "diff": run_diff,
    "doctor": run_doctor,
}
GOES_ON = ("compare", "reproduce", "demo")
"""Commands that go on where they were stopped, when they are given again."""

COLLECT_AFTER = 10_000
"""New objects before Python looks for garbage that only circles keep. After 700, its default, it
would look a thousand times while jax is imported and traces, which takes a tenth of a command."""

DESCRIPTION = (
    "Sim-to-real reinforcement learning: does a policy that learned in a source work in a target? "
    "Begin with: isthmus demo"
)


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit status 2."""
    args = sys.argv[1:] if args is None else args
    accept_any_text()
    try:
        with _collect_less_often():
            _run_command(args)
    except (IsthmusError, MemoryError) as error:
        message = " ".join(str(error).split())
        print_error(message or "not enough memory for so much at once")
        raise SystemExit(2) from None
    except PermissionError as error:
        print_error(f"{error.filename or 'a file'}: permission denied")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if args[:1] and args[0] in GOES_ON:
            line = "stopped; what was trained is saved, and the same command goes on"
            error_screen.print(line, style="yellow")
        raise SystemExit(130) from None
    except BrokenPipeError:  # | head
        sys.stdout = None
        raise SystemExit(0) from None


@contextmanager
def _collect_less_often() -> Iterator[None]:
    """Look for garbage less often within the context."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run_command(args: list[str]) -> None:
    """Run the command that the arguments name. Raises UnknownName for one that is not there."""
    if args and not args[0].startswith("-") and args[0] not in COMMANDS:
        raise UnknownName("command", args[0], COMMANDS)
    tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="isthmus",
        description=DESCRIPTION,
        args=args,
        config=(OmitSubcommandPrefixes, OmitArgPrefixes),
    )
