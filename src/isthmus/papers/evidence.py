"""The claims of all papers with what they stand on: units' files, the command that makes them anew,
and the verdicts that they had.

A change of verdict is told by the digest of the units' files: where it is the same as at the last
verdict, a test changed and no evidence.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from isthmus.papers.registry import find_study
from isthmus.studies.claims import Claim
from isthmus.studies.results import read_results
from isthmus.studies.study import Study
from isthmus.studies.trial import parse_trial_name
from isthmus.training.run_files import write_text
from isthmus.types import UnknownName

PAPERS = ("matl", "dap", "es-sim2real")
SCALE = "laptop"
HISTORY_FILE = "verdicts.csv"
BY_STATISTICS, BY_UNITS = "statistics alone", "new units"


class PastVerdict(NamedTuple):
    """A verdict that a claim had, or has: by which units' files, and what changed it."""

    paper: str
    claim: str
    verdict: str
    changed_by: str  # empty for a claim's first
    why: str
    units: str  # digest of the units' files


@dataclass(frozen=True)
class Evidence:
    """A claim, the patterns of its units' files, how many of them are there, and their digest."""

    paper: str
    claim: Claim
    patterns: tuple[str, ...]
    num_files: int
    num_planned: int
    digest: str
    command: str

    @property
    def verdict(self) -> PastVerdict:
        """What would stand in the history if it were new."""
        claim = self.claim
        return PastVerdict(self.paper, claim.id, claim.verdict, "", claim.why, self.digest)


def collect_evidence(results: Path, papers: Iterable[str] = PAPERS) -> list[Evidence]:
    """Return all claims of the papers, decided by the units' files in `results`, in their order.

    Raises UnknownName for a paper that claims nothing here.
    """
    collected = []
    for paper in papers:
        if paper not in PAPERS:
            raise UnknownName("paper with claims", paper, PAPERS)
        study, folder = find_study(paper), results / paper
        done, _ = read_results(study.trials(SCALE, None), folder)
        if done:
            for claim in study.claims(done):
                collected.append(_find_evidence(study, claim, folder))
    return collected


def _find_evidence(study: Study, claim: Claim, folder: Path) -> Evidence:
    figures = sorted(claim.figures - {""})
    names: dict[str, None] = {}
    for figure in figures:
        for trial in study.trials(SCALE, figure):
            names[trial.name] = None
    files = [folder / f"{name}.csv" for name in names]
    present = sorted(filter(Path.exists, files))
    command = f"isthmus reproduce {study.name}"
    if len(figures) == 1:
        command += f" --figure {figures[0]}"
    return Evidence(
        study.name,
        claim,
        tuple(dict.fromkeys(map(_make_pattern, names))),
        len(present),
        len(files),
        _digest_files(present),
        command,
    )


def _make_pattern(name: str) -> str:
    """Return the pattern of files of an experiment's units; of an agent's where a study has one
    experiment.
    """
    parts = parse_trial_name(name)
    return f"{parts.scale}-{parts.experiment or parts.approach}-*.csv"


def _digest_files(paths: Iterable[Path]) -> str:
    """Return a digest of files' names and lines, however a checkout ends them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\n{path.read_text(encoding='utf-8')}".encode())
    return digest.hexdigest()[:12]


def read_history(results: Path) -> list[PastVerdict]:
    """Return the verdicts that claims had, oldest first; none where nothing is written yet."""
    path = results / HISTORY_FILE
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [PastVerdict(**row) for row in csv.DictReader(file)]


def write_history(results: Path, history: Iterable[PastVerdict]) -> None:
    """Write the verdicts that claims had."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PastVerdict._fields)
    writer.writerows(history)
    write_text(results / HISTORY_FILE, text.getvalue())


def list_last_verdicts(history: Iterable[PastVerdict]) -> dict[tuple[str, str], PastVerdict]:
    """Return each claim's last verdict, by paper and claim."""
    return {(past.paper, past.claim): past for past in history}


def _find_cause(before: PastVerdict, now: PastVerdict) -> str:
    if before.units == now.units:
        return BY_STATISTICS
    return BY_UNITS


def extend_history(
    history: Sequence[PastVerdict], evidence: Iterable[Evidence]
) -> list[PastVerdict]:
    """Return the history with the verdicts that are new, each with what changed it."""
    latest = list_last_verdicts(history)
    extended = [*history]
    for each in evidence:
        now = each.verdict
        before = latest.get((now.paper, now.claim))
        if before is None:
            extended.append(now)
        elif before.verdict != now.verdict:
            extended.append(now._replace(changed_by=_find_cause(before, now)))
    return extended
