"""Tables of what came out: comparisons and claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from isthmus.cli.console import make_table
from isthmus.cli.foreign import format_share

if TYPE_CHECKING:
    from isthmus.studies.claims import Claim
    from isthmus.studies.compare import Comparison, ComparisonRow
    from isthmus.studies.policies import PolicyComparison


def tabulate_comparison(comparison: Comparison) -> Table:
    """Return a comparison as a table: returns in the target, against the floor, a verdict."""
    from isthmus.evaluation import statistics
    from isthmus.problems.problem import Problem

    target = Problem.from_data(comparison.problem).evaluation_target
    seeds = statistics.seeds(comparison.seeds)
    title = f"return in {target}, {seeds} (intervals: {comparison.intervals})"
    columns = ("method", "mean", "95 % interval", "minus the floor", "verdict", "steps")
    table = make_table(*columns, title=title)
    table.columns[1].no_wrap = True
    for row in comparison.rows:
        name = f"{row.method} ({row.role})" if row.role else row.method
        interval, difference = _format_interval(row.low, row.high), _format_difference(row)
        steps = _format_steps(row)
        table.add_row(name, f"{row.value:.0f}", interval, difference, row.verdict, steps)
    if comparison.unlike:
        table.caption = comparison.unlike
    return table


def tabulate_policies(comparison: PolicyComparison) -> Table:
    """Return compared policies as a table: returns, falls, the difference to the first."""
    from isthmus.evaluation.episode_intervals import OVER_EPISODES

    columns = ("policy", "return", "minus the first", "verdict", "fell", "success", "length")
    table = make_table(*columns, title=f"return in {comparison.domain}")
    table.caption = OVER_EPISODES
    for row in comparison.rows:
        summary, difference = row.summary, ""
        if row.difference is not None:
            interval = _format_interval(row.difference.low, row.difference.high)
            difference = f"{row.difference.value:+.0f} {interval}"
        interval = _format_interval(summary.returns.low, summary.returns.high)
        table.add_row(
            escape(row.name),
            f"{summary.returns.value:.0f} {interval}",
            difference,
            row.verdict,
            format_share(summary.fell),
            format_share(summary.success),
            f"{summary.length:.0f}",
        )
    return table


def _format_interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "none from one seed"
    return f"[{low:.0f}, {high:.0f}]"


def _format_difference(row: ComparisonRow) -> str:
    """Return the difference to the floor with its interval; empty for the floor itself."""
    if row.against_floor is None:
        return ""
    interval = _format_interval(row.against_floor_low, row.against_floor_high)
    return f"{row.against_floor:+.0f} {interval}"


def _format_steps(row: ComparisonRow) -> str:
    """Return what a seed of a method took, of each kind that it took any of."""
    counts = {
        "source": row.source_steps,
        "target": row.target_transitions,
        "logged": row.logged_transitions,
        "each target": row.adaptation_transitions,
    }
    return " + ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


def tabulate_claims(claims: Sequence[Claim]) -> Table:
    """Return a paper's claims, with verdicts and the comparisons that speak least for them."""
    from isthmus.studies.claims_table import describe_contrast

    table = make_table("", "claim", "verdict", "why", "weakest comparison", title="claims")
    missing = []
    for claim in claims:
        if not claim.contrasts:
            missing.append(claim.id)
            continue
        color = choose_color(claim.verdict)
        verdict = f"[{color}]{escape(claim.conclusion)}[/]"
        weakest = describe_contrast(claim.weakest) if claim.weakest else ""
        table.add_row(claim.id, claim.text, verdict, escape(claim.why), escape(weakest))
    if missing:
        table.caption = f"not run: {', '.join(missing)}"
    return table


def choose_color(verdict: str) -> str:
    """Return the color of a verdict."""
    from isthmus.studies.contrasts import HOLDS, NOT

    if verdict.endswith(HOLDS):
        return "green"
    return "red" if verdict.endswith(NOT) else "yellow"
