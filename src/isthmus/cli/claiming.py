"""The command that says what came out of the papers' claims."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.markup import escape
from rich.table import Table
from tyro.conf import arg

from isthmus.cli.console import make_table, print_text, screen
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.papers.evidence import Evidence
    from isthmus.studies.contrasts import Contrast


def run_claims(
    paper: Annotated[
        Literal["matl", "dap", "es-sim2real"] | None, arg(help="one paper's only")
    ] = None,
    undecided: Annotated[bool, arg(help="only those that are not decided, and by what")] = False,
    as_json: Annotated[bool, arg(name="json", help="as JSON, with every comparison")] = False,
    page: Annotated[
        Path | None,
        arg(help="write the page of all claims here, and changed verdicts to results/verdicts.csv"),
    ] = None,
    results: Annotated[Path, arg(help="where units' files are")] = Path("results"),
) -> None:
    """Say what came out of each of the papers' claims, by the units' files: verdict, power, what is
    lacking, and the command that makes it anew.
    """
    from isthmus.papers.evidence import PAPERS, collect_evidence
    from isthmus.studies.contrasts import HOLDS, NOT

    evidence = collect_evidence(results, [paper] if paper else PAPERS)
    if not evidence:
        raise BadValue(
            f"no unit's file in {results}; --results names the folder, isthmus reproduce fills it"
        )
    if page:
        _write_page(page, results)
    if undecided:
        evidence = [each for each in evidence if each.claim.verdict not in (HOLDS, NOT)]
    if as_json:
        print_text(json.dumps([*map(_to_data, evidence)], indent=2))
    else:
        screen.print(_tabulate(evidence))


def _write_page(page: Path, results: Path) -> None:
    """Write the page of all papers' claims, and the history of their verdicts."""
    from isthmus.papers.evidence import (
        collect_evidence,
        extend_history,
        read_history,
        write_history,
    )
    from isthmus.report.claims_page import format_claims_page
    from isthmus.training.run_files import write_text

    evidence = collect_evidence(results)
    history = extend_history(read_history(results), evidence)
    write_history(results, history)
    write_text(page, format_claims_page(evidence, history))


def _tabulate(evidence: Iterable[Evidence]) -> Table:
    """Return the claims as a table of the terminal."""
    from isthmus.cli.tables import choose_color
    from isthmus.report.claims_page import format_significant
    from isthmus.studies.claims_table import describe_contrast

    columns = ("", "claim", "verdict", "by", "weakest comparison", "power", "made anew by")
    table = make_table(*columns, title="the papers' claims")
    for each in evidence:
        claim = each.claim
        name = f"[bold]{claim.id}[/]" if claim.foremost else claim.id
        weakest = describe_contrast(claim.weakest) if claim.weakest else ""
        table.add_row(
            name,
            escape(claim.text),
            f"[{choose_color(claim.verdict)}]{escape(claim.conclusion)}[/]",
            ", ".join(claim.undecided_by),
            escape(weakest),
            format_significant(claim.power),
            each.command,
        )
    table.caption = "bold: what the papers exist for; power: for the effect that the paper reports"
    return table


def _to_data(each: Evidence) -> dict[str, Any]:
    claim = each.claim
    return {
        "paper": each.paper,
        "claim": claim.id,
        "text": claim.text,
        "statistic": claim.statistic,
        "foremost": claim.foremost,
        "verdict": claim.verdict,
        "why": claim.why,
        "undecided_by": [*claim.undecided_by],
        "scope": claim.scope,
        "can_hold_at": claim.can_hold_at,
        "power": _finite(claim.power),
        "comparisons": [*map(_comparison_to_data, claim.contrasts)],
        "units": [*each.patterns],
        "num_units": each.num_files,
        "num_units_planned": each.num_planned,
        "command": each.command,
    }


def _comparison_to_data(contrast: Contrast) -> dict[str, Any]:
    estimate = contrast.estimate
    return {
        "label": contrast.label,
        "wanted": contrast.wanted,
        "outcome": contrast.outcome,
        "value": _finite(estimate.value),
        "low": _finite(estimate.low),
        "high": _finite(estimate.high),
        "seeds": estimate.n,
        "p": _finite(contrast.raw.apart),
        "detectable": _finite(contrast.detectable),
        "paper_effect": _finite(contrast.paper_effect),
        "power": _finite(contrast.power),
    }


def _finite(x: float) -> float | None:
    """Return the number; None, which JSON has, where it is not finite."""
    return x if math.isfinite(x) else None
