"""Compare policies as they are, runs' and others': the same starts and dynamics for all,
differences paired by episode. Nothing is trained.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.domains.batched import describe_policy
from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.evaluation import statistics
from isthmus.evaluation.episode_intervals import (
    EpisodeSummary,
    paired_episodes,
    summarize_episodes,
)
from isthmus.evaluation.evaluate import SEED, OnStep, evaluate, evaluate_method
from isthmus.evaluation.landscape import make_landscape
from isthmus.evaluation.statistics import Estimate
from isthmus.studies.comparison_map import ComparisonMap, compare_landscapes
from isthmus.training.run import Run, versions
from isthmus.training.run_files import make_folder, write_text
from isthmus.types import BadValue, Episodes

RESULTS_FILE, EPISODES_FILE = "policies.json", "policies.csv"


@dataclass(frozen=True)
class PolicyRow:
    """What one policy's episodes say; its return minus the first one's, paired by episode."""

    name: str
    description: dict[str, Any]
    summary: EpisodeSummary
    difference: Estimate | None  # None for the first

    @property
    def verdict(self) -> str:
        """Return in words how the policy compares with the first."""
        return statistics.verdict(self.difference) if self.difference else "the first"


@dataclass(frozen=True)
class PolicyComparison:
    """Policies in one domain; `episodes` [policies] hold what was played."""

    domain: Domain
    seed: int
    rows: list[PolicyRow]
    episodes: list[Episodes]

    def maps(self) -> list[ComparisonMap]:
        """Return where each further policy beats the first, over a grid of two parameters.

        Raises BadValue where the domain is no such grid.
        """
        first, *others = [make_landscape(self.domain, played) for played in self.episodes]
        maps = []
        for row, landscape in zip(self.rows[1:], others, strict=True):
            maps.append(compare_landscapes(first, landscape, (self.rows[0].name, row.name)))
        return maps

    def save(self, folder: Path) -> None:
        """Write `policies.json` and `policies.csv`, a row an episode."""
        make_folder(folder, "--out")
        rows = []
        for row in self.rows:
            summary = {name: _plain(value) for name, value in row.summary._asdict().items()}
            difference = _plain(row.difference)
            described = {"name": row.name, "policy": row.description}
            rows.append({**described, **summary, "difference": difference, "verdict": row.verdict})
        data = {
            "domain": str(self.domain),
            "seed": self.seed,
            "intervals": "95 %, over episodes of one policy each",
            "policies": rows,
            "versions": versions(self.domain.engine),
        }
        write_text(folder / RESULTS_FILE, json.dumps(data, indent=2) + "\n")
        write_text(folder / EPISODES_FILE, self.csv())

    def csv(self) -> str:
        """Return all episodes as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        results = ["return", "length", "fell", "success"]
        writer.writerow(["policy", "episode", *self.domain.names, *results])
        for row, played in zip(self.rows, self.episodes, strict=True):
            for i, total in enumerate(played.returns):
                dynamics = [f"{value:.6g}" for value in played.parameters[i]]
                ended = [int(played.terminated[i]), int(played.success[i])]
                writer.writerow([row.name, i, *dynamics, f"{total:.3f}", played.lengths[i], *ended])
        return out.getvalue()


def _plain(value: Any) -> Any:
    """Return a number or an estimate as JSON has it: what is not finite is left out."""
    if isinstance(value, Estimate):
        fields = {name: _plain(field) for name, field in asdict(value).items()}
        return {name: field for name, field in fields.items() if field is not None}
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def compare_policies(
    policies: Mapping[str, Any],
    domain: Domain | str,
    episodes: int = 100,
    seed: int = SEED,
    on_step: OnStep | None = None,
) -> PolicyComparison:
    """Play policies by their names in equal episodes and compare each with the first.

    A policy is a run, which adapts first where its method does, or anything that `evaluate` plays.
    One policy is one seed: intervals and verdicts are of these policies, over episodes. Raises
    BadValue for less than two policies.
    """
    domain = as_domain(domain)
    if len(policies) < 2:
        raise BadValue("a comparison needs two policies at least")
    rows: list[PolicyRow] = []
    played: list[Episodes] = []
    for name, policy in policies.items():
        ended = _play(policy, domain, episodes, seed, on_step)
        played.append(ended)
        difference = None
        if rows:
            difference = paired_episodes(ended.returns, played[0].returns)
        rows.append(PolicyRow(name, _describe(policy), summarize_episodes(ended), difference))
    return PolicyComparison(domain, seed, rows, played)


def _play(
    policy: Any, domain: Domain, episodes: int, seed: int, on_step: OnStep | None
) -> Episodes:
    if not isinstance(policy, Run):
        return evaluate(policy, domain, episodes, seed, on_step).episodes
    state = policy.state()
    return evaluate_method(
        policy.method, state, policy.problem, domain, episodes, seed, on_step
    ).episodes


def _describe(policy: Any) -> dict[str, Any]:
    if not isinstance(policy, Run):
        return describe_policy(policy)
    return {"run": policy.reference, "method": policy.name, "digest": policy.digest}
