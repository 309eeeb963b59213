"""The study of identification: what its units say, in lines and pictures, and its claims."""

from __future__ import annotations

import numpy as np

from isthmus.identification.log_space import WHOLE_ROBOT
from isthmus.papers.identification.claims import decide_identification_claims, describe_share
from isthmus.papers.identification.scores import (
    Judged,
    group_coverage,
    held_shares,
    list_judged,
)
from isthmus.papers.identification.trials import FIGURES, list_identification_trials
from isthmus.studies.claims import Claim
from isthmus.studies.results import Results
from isthmus.studies.study import Study


def report_identification(results: dict[str, Results]) -> list[str]:
    """Return what came out, a line for each robot and noise, and one for each parameter."""
    lines: list[str] = []
    for condition, group in sorted(group_coverage(results).items()):
        shares = held_shares(group)
        refused = sum(result.value("measure", "refused") for result in group)
        head = f"{condition.task}, {condition.noise}: {len(group)} hidden robots"
        coverage = describe_share(shares) if shares else "of nothing"
        lines.append(f"{head}, {refused:.0f} refused; coverage {coverage}")
        rows: list[Judged] = []
        for result in group:
            rows += list_judged(result)
        lines += _describe_parameters(rows)
    return lines


def _describe_parameters(rows: list[Judged]) -> list[str]:
    lines = []
    for name in WHOLE_ROBOT:
        of_name = [row for row in rows if row.name == name]
        if of_name:
            lines.append(f"  {name:14} {_describe_verdicts(of_name)}{_describe_intervals(of_name)}")
    return lines


def _describe_verdicts(rows: list[Judged]) -> str:
    told = sum(row.identified for row in rows)
    untold = [row for row in rows if not row.tellable]
    text = f"identified {told} of {len(rows)}"
    if untold:
        mistaken = sum(row.identified for row in untold)
        text += f", {len(untold)} of which no log tells ({mistaken} called identified)"
    return text


def _describe_intervals(rows: list[Judged]) -> str:
    told = [row for row in rows if row.identified]
    if not told:
        return ""
    held = np.mean([row.held for row in told])
    width = np.median([row.width for row in told])
    error = np.median([abs(row.error) for row in told])
    return f"; held {held:.2f}, half width {width:.2g}, error {error:.2g} (medians, in e-folds)"


def _claim_identification(results: dict[str, Results]) -> list[Claim]:
    return decide_identification_claims(group_coverage(results))


STUDY = Study(
    "identification",
    "Identification from a log",
    FIGURES,
    list_identification_trials,
    report_identification,
    claims=_claim_identification,
)
