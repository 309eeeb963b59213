"""Claims as a CSV table and as lines of text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from isthmus.studies.claims import Claim
from isthmus.studies.contrasts import Contrast

COLUMNS: tuple[str, ...] = (
    "claim", "figure", "verdict", "why", "text", "statistic", "comparison", "wanted", "outcome",
    "value", "low", "high", "seeds", "p", "p_holm", "margin", "p_within", "p_within_holm", "role",
    "method", "detectable", "p_holds", "p_holds_holm", "p_falls", "p_falls_holm", "undecided_by",
    "scope", "paper_effect", "power", "foremost", "can_hold_at",
)  # fmt: skip
UNCORRECTED_CELLS = dict.fromkeys(("p_holm", "p_within_holm"), "")  # a control's
Cells = dict[str, str | int]


def format_claims_csv(claims: Sequence[Claim]) -> str:
    """Return a CSV with a row a contrast, a claim's or a control's, and one for a claim without."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for claim in claims:
        writer.writerows(_list_rows(claim))
    return text.getvalue()


def _list_rows(claim: Claim) -> list[Cells]:
    claim_cells = _claim_cells(claim)
    rows = []
    for contrast in claim.contrasts:
        rows.append(claim_cells | {"role": "claim"} | _contrast_cells(contrast))
    for control in claim.controls:
        cells = _contrast_cells(control) | UNCORRECTED_CELLS
        rows.append(claim_cells | {"role": "control"} | cells)
    return rows or [claim_cells]


def _claim_cells(claim: Claim) -> Cells:
    return {
        "claim": claim.id,
        "figure": claim.figure,
        "verdict": claim.verdict,
        "why": claim.why,
        "text": claim.text,
        "statistic": claim.statistic,
        "p_holds": _format_number(claim.raw.holds, 2),
        "p_falls": _format_number(claim.raw.falls, 2),
        "p_holds_holm": _format_number(claim.adjusted.holds, 2),
        "p_falls_holm": _format_number(claim.adjusted.falls, 2),
        "undecided_by": ", ".join(claim.undecided_by),
        "scope": claim.scope,
        "foremost": "yes" if claim.foremost else "",
        "can_hold_at": claim.can_hold_at,
    }


def _contrast_cells(contrast: Contrast) -> Cells:
    estimate, raw, adjusted = contrast.estimate, contrast.raw, contrast.adjusted
    cells: Cells = {
        "comparison": contrast.label,
        "wanted": contrast.wanted,
        "outcome": "censored" if contrast.censored else contrast.outcome,
        "seeds": estimate.n,
        "margin": _format_number(contrast.margin),
        "method": estimate.method,
    }
    if contrast.censored:
        return cells
    return cells | {
        "value": _format_number(estimate.value),
        "low": _format_number(estimate.low),
        "high": _format_number(estimate.high),
        "p": _format_number(raw.apart, 2),
        "p_holm": _format_number(adjusted.apart, 2),
        "p_within": _format_number(raw.within, 2),
        "p_within_holm": _format_number(adjusted.within, 2),
        "detectable": _format_number(contrast.detectable, 2),
        "paper_effect": _format_number(contrast.paper_effect),
        "power": _format_number(contrast.power, 2),
    }


def _format_number(x: float, digits: int = 4) -> str:
    return f"{x:.{digits}g}" if math.isfinite(x) else ""


def describe_contrast(contrast: Contrast) -> str:
    """Return a contrast in words: what, how much, and its interval."""
    estimate = contrast.estimate
    if contrast.censored:
        return f"{contrast.label} cannot be told: neither ever, in any seed (censored)"
    ends = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.n > 1 else ""
    return f"{contrast.label} {estimate.value:.2f}{ends}"


def describe_claims(claims: Sequence[Claim]) -> list[str]:
    """Return the claims as text: a line each, one for the contrast that speaks least for it and one
    for each control, and the verdicts in short.
    """
    lines: list[str] = []
    verdicts: list[tuple[str, str, str]] = []
    for claim in claims:
        why = f" ({claim.why})" if claim.why else ""
        lines.append(f"{claim.id:4} {claim.conclusion}: {claim.text}{why}")
        if claim.weakest:
            lines.append(f"     {describe_contrast(claim.weakest)}")
        for control in claim.controls:
            lines.append(f"     beside it, not corrected: {describe_contrast(control)}")
        verdicts.append((claim.id, claim.verdict, ", ".join(claim.undecided_by)))
    return [*lines, "", *group_by_verdict(verdicts)]


def group_by_verdict(verdicts: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return a line for each verdict with the claims that have it, from each claim's id, verdict
    and what it is undecided by.
    """
    claims_of: dict[str, list[str]] = {}
    for claim, verdict, causes in verdicts:
        heading = f"{verdict} by {causes}" if causes else verdict
        claims_of.setdefault(heading, []).append(claim)
    return [f"{verdict}: {', '.join(ids)}" for verdict, ids in sorted(claims_of.items())]
