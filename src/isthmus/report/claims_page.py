"""The claims of all papers as one page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from isthmus.papers.evidence import BY_STATISTICS, PAPERS, Evidence, PastVerdict
from isthmus.studies.claims_table import describe_contrast
from isthmus.studies.contrasts import HOLDS, NOT, NOT_RUN, UNDECIDED

SUFFICIENT_POWER = 0.8
TITLES = {"matl": "MATL", "dap": "DAP", "es-sim2real": "ES-sim2real"}
REPORTS = {"matl": "matl.md", "dap": "dap.md", "es-sim2real": "es_sim2real.md"}
HEAD = """# The papers' claims

This page is written by `isthmus claims --page docs/lab/claims.md` from the units' files in
`results/`; a test compares both. Each paper's report says how ours differs from what the paper
asks. What a verdict means, and how it is come to: [statistics](../guide/statistics.md).

    isthmus claims                      # in the terminal; --paper dap, --undecided, --json
    isthmus claims --page docs/lab/claims.md

| column | meaning |
|---|---|
| claim | bold: what the papers exist for |
| ours | the comparison that speaks least for it, its 95 % interval before correction |
| detectable | what these seeds, with their spread, show in four cases of five, corrected |
| power | how probably they show the effect that the paper reports, where it gives a number |
| scale | of how much training and which robots; which scales can show that it holds |
| units | files that are there, of those planned, in the paper's folder of `results/` |
"""
CLAIM_COLUMNS = (
    "claim", "what it says", "its statistic", "ours", "seeds", "detectable", "power", "scale",
    "verdict", "by", "units", "made anew by",
)  # fmt: skip


def format_claims_page(evidence: Sequence[Evidence], history: Iterable[PastVerdict]) -> str:
    """Return the page: counts, changes of verdict, and a table a paper."""
    parts = [HEAD, _format_counts(evidence), _format_changes(history)]
    for paper in PAPERS:
        parts.append(_format_paper(paper, [each for each in evidence if each.paper == paper]))
    return "\n".join(parts)


def _format_counts(evidence: Sequence[Evidence]) -> str:
    rows = []
    for name, matches in _COUNTED.items():
        matching = [*filter(matches, evidence)]
        foremost = sum(map(_is_foremost, matching))
        ids = ", ".join(map(_get_id, matching))
        rows.append((name, str(len(matching)), str(foremost), ids))
    table = _format_table(("", "claims", "of them bold", "which"), rows)
    foremost = sum(map(_is_foremost, evidence))
    return f"## In short\n\nOf {len(evidence)} claims, {foremost} of them bold:\n\n{table}"


def _is_foremost(each: Evidence) -> bool:
    return each.claim.foremost


def _get_id(each: Evidence) -> str:
    return each.claim.id


def _is_judged(each: Evidence) -> bool:
    return each.claim.verdict in (HOLDS, NOT)


def _has_power(each: Evidence) -> bool:
    return each.claim.power >= SUFFICIENT_POWER


def _lacks_power(each: Evidence) -> bool:
    return each.claim.power < SUFFICIENT_POWER


def _match_verdict(word: str) -> Callable[[Evidence], bool]:
    def matches(each: Evidence) -> bool:
        return each.claim.verdict == word

    return matches


def _points(each: Evidence) -> bool:
    return each.claim.verdict.startswith("points")


_COUNTED: dict[str, Callable[[Evidence], bool]] = {
    "hold": _match_verdict(HOLDS),
    "do not hold": _match_verdict(NOT),
    "decided": _is_judged,
    "point to a verdict (under five seeds)": _points,
    "undecided": _match_verdict(UNDECIDED),
    "without units": _match_verdict(NOT_RUN),
    "power of 80 % for the paper's own effect": _has_power,
    "less power than that": _lacks_power,
}


def _format_changes(history: Iterable[PastVerdict]) -> str:
    """Return the table of verdicts that changed, the newest first."""
    rows: list[tuple[str, ...]] = []
    latest: dict[tuple[str, str], PastVerdict] = {}
    for past in history:
        before = latest.get((past.paper, past.claim))
        if before is not None:
            cause = past.changed_by.replace(BY_STATISTICS, f"**{BY_STATISTICS}**")
            rows.append((past.claim, before.verdict, past.verdict, cause, past.why))
        latest[past.paper, past.claim] = past
    table = _format_table(("claim", "before", "now", "by", "why"), rows[::-1])
    note = (
        f'Verdicts that changed, newest first. "{BY_STATISTICS}": the same units\' files, a '
        "sharper test or another reading of the claim."
    )
    return f"## What changed\n\n{note}\n\n{table}"


def _format_paper(paper: str, evidence: Iterable[Evidence]) -> str:
    rows = [*map(_format_claim, evidence)]
    links = (
        f"[Report]({REPORTS[paper]}), [all comparisons](../../results/{paper}/laptop-claims.csv)."
    )
    return f"## {TITLES[paper]}\n\n{links}\n\n{_format_table(CLAIM_COLUMNS, rows)}"


def _format_claim(each: Evidence) -> tuple[str, ...]:
    claim = each.claim
    name = claim.id
    if claim.foremost:
        name = f"**{name}**"
    patterns = ", ".join(map("`{}`".format, each.patterns))
    ours, seeds, detectable = "", "", ""
    if claim.weakest:
        ours = describe_contrast(claim.weakest)
        seeds = str(claim.weakest.estimate.n)
        if not claim.weakest.censored:
            detectable = format_significant(claim.weakest.detectable)
    scale = [claim.scope]
    if claim.can_hold_at:
        scale.append(f"can hold at: {claim.can_hold_at}")
    return (
        name,
        claim.text,
        claim.statistic,
        ours,
        seeds,
        detectable,
        format_significant(claim.power),
        "; ".join(filter(None, scale)),
        claim.verdict,
        ", ".join(claim.undecided_by) or claim.why,
        f"{each.num_files} of {each.num_planned}: {patterns}",
        f"`{each.command}`",
    )


def format_significant(x: float) -> str:
    """Return a number with two digits, none where it is not finite."""
    if math.isfinite(x):
        return f"{x:.2g}"
    return ""


def _format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_format_row(columns), "|" + "---|" * len(columns)]
    lines += map(_format_row, rows)
    return "\n".join(lines) + "\n"


def _format_row(cells: Sequence[str]) -> str:
    return "| {} |".format(" | ".join(map(_escape_cell, cells)))


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|")
