"""Commands on what leaves: a run's policy as files, and whether they are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from tyro.conf import Positional, arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.options import ImportOptions, open_run

if TYPE_CHECKING:
    from isthmus.deploy.check import CheckRow
    from isthmus.deploy.onnx_export import Export


def run_export(
    run: Positional[Path],
    code: ImportOptions,
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR", help="a new folder")],
    adapt: Annotated[
        bool, arg(help="of a method that adapts: export what adapting to the target left")
    ] = True,
) -> None:
    """Write a run's policy as policy.onnx, contract.toml and reference.npz, held against JAX."""
    from isthmus.deploy.onnx_export import check_packages, export_run

    code.load()
    check_packages()
    export = export_run(open_run(run), out, adapt)
    table = make_table("", "")
    table.show_header = False
    for name, value in _summarize(export):
        table.add_row(name, escape(value))
    screen.print(table)
    print_text(f"{export.folder}")


def _summarize(export: Export) -> list[tuple[str, str]]:
    """Return the rows of an export's table."""
    contract = export.contract
    memories = ", ".join(f"{part.input} {list(part.shape)}" for part in contract.memory)
    adapted = contract.run.adapted_to
    rows = [
        ("method", contract.run.method),
        ("observations", str(len(contract.observations.names))),
        ("actions", ", ".join(contract.actions.names)),
        ("control rate", f"{contract.control_rate_hz:g} Hz"),
        ("memory", memories or "none"),
        ("adapted", f"to {adapted}; this is what the updates there left" if adapted else ""),
        ("worst difference", f"{export.worst:.1e} in {export.states:,} states"),
        ("", f"{export.worst_reference:.1e} in the reference rollout"),
    ]
    return [(name, value) for name, value in rows if value]


def run_check(
    folder: Positional[Annotated[Path, arg(metavar="DIR", help="what isthmus export wrote")]],
    log: Annotated[
        Path | None,
        arg(metavar="FILE.npz", help="a robot's observations and actions: does one follow?"),
    ] = None,
    tolerance: Annotated[float, arg(help="of recorded actions, in half an action's range")] = 1e-3,
) -> None:
    """Replay an export's reference; say whether a robot's actions follow from its observations.

    Status 1 where the reference or the log is not reproduced.
    """
    from isthmus.deploy.check import check_export

    findings = check_export(folder, log, tolerance)
    table = make_table("question", "verdict", "found")
    for finding in findings:
        table.add_row(finding.question, _name_verdict(finding), escape(finding.answer))
    screen.print(table)
    if any(finding.passed is False for finding in findings):
        raise SystemExit(1)


def _name_verdict(finding: CheckRow) -> str:
    if finding.passed is None:
        return ""
    return "[green]yes[/]" if finding.passed else "[red]no[/]"
