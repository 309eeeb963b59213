"""Audits and coverages as lines of text: plain, whatever prints them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from isthmus.audit.effect import ENGINE, HORIZON_STEPS

if TYPE_CHECKING:
    from isthmus.audit.coverage import Coverage
    from isthmus.audit.crossing import OracleCrossing
    from isthmus.audit.result import Audit, AuditPoint

COLUMN_WIDTH = 9  # characters
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
QUANTILE_NAMES = ("min", "5 %", "median", "95 %", "max")


def format_audit(audit: Audit) -> list[str]:
    """Return an audit as lines: verdict, notes, each difference, each point, what is observed."""
    out = [
        f"source   {audit.source}",
        f"target   {audit.target}",
        f"verdict  {audit.effect}",
        *audit.notes,
        "",
        *_format_differences(audit),
    ]
    for point in audit.points:
        out += _format_point(point, audit)
    if not audit.effect.identical:
        out += _format_dimensions(audit)
    return out


def _format_differences(audit: Audit) -> list[str]:
    out = []
    for difference in audit.alone:
        out.append(f"{difference.name}: {difference.source} -> {difference.target}")
        # One difference's effect alone is that of all together.
        if len(audit.alone) > 1 or difference.name == ENGINE:
            for point in difference.points:
                out.append(f"    {point.source} -> {point.target} alone: {point.effect}")
    return out


def _format_point(point: AuditPoint, audit: Audit) -> list[str]:
    place = f" at {point.setting}" if point.setting else ""
    source_length, target_length = point.lengths
    out = [
        f"together{place}: {point.effect}",
        f"    contact friction with the floor: {format_contact(point.contact)}",
        f"    steps until a fall, at most {HORIZON_STEPS}: {source_length:.1f} -> "
        f"{target_length:.1f}",
    ]
    if any(point.diverged):
        in_source, in_target = point.diverged
        out.append(f"    episodes that blew up: {in_source} -> {in_target} of {audit.episodes}")
    return out


def format_contact(contact: dict[str, tuple[float, float]]) -> str:
    """Return the friction of each part, (source, target) by name, parts of equal ones together."""
    parts: dict[str, list[str]] = {}
    for part, (source, target) in contact.items():
        friction = _format_friction(source)
        if _format_friction(target) != friction:
            friction += f" -> {_format_friction(target)}"
        parts.setdefault(friction, []).append(part)
    texts = [f"{', '.join(names)} {friction}" for friction, names in parts.items()]
    return "; ".join(texts) or "nothing touches it"


def _format_friction(value: float) -> str:
    return "untouched" if math.isnan(value) else f"{value:.4g}"


def _format_dimensions(audit: Audit) -> list[str]:
    after = f"after {HORIZON_STEPS}"
    table = _new_table("observed", ("std", "one step", after))
    for dimension in audit.dimensions:
        if not dimension.never_changes:
            table.add_row(
                dimension.name,
                f"{dimension.std:.3g}",
                f"{dimension.one_step:.2g}",
                f"{dimension.apart:.2g}",
            )
    out = ["", *_render(table)]
    if table.row_count < len(audit.dimensions):
        out.append(f"and {len(audit.dimensions) - table.row_count} numbers that never changed")
    out += [
        "one step: the difference after a step from equal states, in standard deviations of a "
        "step's change",
        f"{after}: after so many steps from equal starts, in standard deviations of the number",
    ]
    return out


def format_coverage(coverage: Coverage) -> list[str]:
    """Return a coverage as lines: where the log is from, what it holds, observations, actions."""
    which = "" if coverage.whole else ", of episodes cut short: no return of this target is known"
    out = [
        f"log      {coverage.text}",
        f"target   {coverage.domain}",
        f"made by  {coverage.made_by}",
        f"made in  {coverage.made_in}",
        f"holds    {_format_holdings(coverage)}",
        _format_returns(coverage, which),
        f"lengths  {_format_spread(coverage.lengths)}",
        *coverage.notes,
        "",
        *_render(_tabulate_states(coverage)),
        "",
        *_render(_tabulate_actions(coverage)),
    ]
    if coverage.distance is not None:
        out += [
            "away, of an observed number: the log's mean minus that of the policy in the source, "
            "in standard deviations there",
            "away, of an action: mean distance to what the policy does in the log's states, in "
            "half ranges; noise: the same of its own exploring in the source",
        ]
    return out


def _format_returns(coverage: Coverage, which: str) -> str:
    if np.isnan(coverage.returns).all():
        return "returns  unknown: the log has no rewards"
    return f"returns  {_format_spread(coverage.returns)}{which}"


def _format_holdings(coverage: Coverage) -> str:
    seconds = coverage.seconds
    time = f"{seconds:,.0f} s"
    if math.isnan(seconds):
        time = "an unknown time"
    episodes = f"{coverage.episodes} episode{'s' * (coverage.episodes != 1)}"
    ends = []
    if coverage.falls:
        ends.append(f"{coverage.falls} fell")
    if coverage.episodes > coverage.whole:
        ends.append(f"{coverage.episodes - coverage.whole} cut short")
    kinds = f", of which {' and '.join(ends)}" if ends else ""
    return f"{coverage.transitions:,} transitions, {time} of the robot: {episodes}{kinds}"


def _format_spread(values: np.ndarray) -> str:
    low, five, median, ninety_five, high = np.quantile(values, QUANTILES)
    return (
        f"mean {values.mean():.1f}; min {low:.1f}, 5 % {five:.1f}, median {median:.1f}, "
        f"95 % {ninety_five:.1f}, max {high:.1f}"
    )


def _tabulate_states(coverage: Coverage) -> Table:
    compared = coverage.distance is not None
    columns = QUANTILE_NAMES + ("away",) * compared
    table = _new_table("observed", columns, _find_name_width(coverage))
    for state in coverage.states:
        cells = [state.name, *_format_quantiles(state.quantiles)]
        if state.away is not None:
            cells.append(f"{state.away:.2f}")
        table.add_row(*cells)
    return table


def _tabulate_actions(coverage: Coverage) -> Table:
    columns = (*QUANTILE_NAMES, "at bounds")
    if coverage.distance is not None:
        columns += ("away", "noise")
    table = _new_table("action", columns, _find_name_width(coverage))
    for action in coverage.actions:
        cells = [action.name, *_format_quantiles(action.quantiles), f"{action.at_bounds:.1%}"]
        if action.away is not None:
            cells += [f"{action.away:.3f}", f"{action.noise:.3f}"]
        table.add_row(*cells)
    return table


def _find_name_width(coverage: Coverage) -> int:
    """Return the characters of the longest name, so that both tables are alike."""
    return max(len(summary.name) for summary in (*coverage.states, *coverage.actions))


def _format_quantiles(quantiles: Sequence[float]) -> list[str]:
    return [f"{quantile:.3g}" for quantile in quantiles]


def _new_table(name: str, columns: Sequence[str], name_width: int = 0) -> Table:
    """Return a table of named rows of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(name, min_width=name_width, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", min_width=COLUMN_WIDTH, no_wrap=True)
    return table


def _render(table: Table) -> list[str]:
    """Return a table's lines, without colours and at its full width."""
    out = io.StringIO()
    console = Console(file=out, width=1000, color_system=None, markup=False, emoji=False)
    console.print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def format_crossing(crossing: OracleCrossing) -> list[str]:
    """Return a crossing as lines: verdict, returns, mismatch, a line a motor."""
    out = [
        f"source   {crossing.source}",
        f"target   {crossing.target}",
        f"verdict  {crossing.verdict}",
        "",
        "return of the policy",
        f"    in the source              {_format_returns_of(crossing.in_source)}",
        f"    in the target              {_format_returns_of(crossing.in_target)}",
        f"    there, best second action  {_format_returns_of(crossing.by_oracle)}",
        *_format_recovered(crossing),
        "",
        "one step from the source's next state, mean square of what is observed: "
        f"{crossing.mismatch:.3g} by the policy's action, {crossing.best_mismatch:.3g} by the best",
        "",
    ]
    width = max(len(motor.name) for motor in crossing.motors)
    for motor in crossing.motors:
        out.append(
            f"{motor.name:{width}}  a_tgt = {motor.scale:.2f} a_src, |a_tgt - a_src| "
            f"{motor.gap:.2f}, at its bounds {motor.at_bounds:.0%} of the steps"
        )
    return out


def _format_recovered(crossing: OracleCrossing) -> list[str]:
    if not crossing.costs_something:
        return []
    return [f"    of what the shift costs, it gives back {crossing.recovered:.0%}"]


def _format_returns_of(returns: np.ndarray) -> str:
    return f"{returns.mean():8.1f}  (sd over {len(returns)} episodes {returns.std():.1f})"
