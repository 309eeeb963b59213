"""What `isthmus cross` found: a row a question, and the verdict that follows from the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from isthmus.evaluation import statistics
from isthmus.evaluation.episode_intervals import (
    EpisodeSummary,
    compare_shares,
    over_episodes,
    paired_episodes,
    summarize_episodes,
)
from isthmus.evaluation.statistics import Estimate
from isthmus.types import Episodes

TOLERANCE = 0.1
"""Of the source's return, and of all episodes: what may be lost, and may fall more often."""


class Stage(StrEnum):
    """What a row asks about, in the order in which it is asked."""

    CONTRACT = "contract"
    SOURCE = "source"
    NUMERICS = "numerics"
    ENGINE = "engine"
    TARGET = "target"
    CAUSE = "cause"  # a counterfactual: it explains, and decides nothing


class Outcome(StrEnum):
    """What a row found."""

    HOLDS = "holds"
    BREAKS = "breaks"
    UNCLEAR = "unclear"
    NOT_ASKED = "not asked"
    REFERENCE = "reference"  # what all others are compared with


OFTEN = 0.5
"""Of the episodes in the source: a policy that falls more often does not work there."""
CROSSES, UNDECIDED = 0, 1
EXIT_CODES = {Stage.CONTRACT: 3, Stage.NUMERICS: 4, Stage.ENGINE: 5, Stage.TARGET: 6}
"""By the first stage that breaks; 2 is everybody's mistake in what was typed."""


class CrossRow(NamedTuple):
    """A question, what was done for an answer, and what came out.

    `loss` is how much less the mean return is than in the source, `falls` how many more episodes
    fall, as a share; None where nothing was played.
    """

    stage: Stage
    question: str
    done: str
    outcome: Outcome
    meaning: str
    summary: EpisodeSummary | None = None
    loss: Estimate | None = None
    falls: Estimate | None = None


@dataclass(frozen=True)
class Crossing:
    """The rows, and what follows from them. `tolerance` as in TOLERANCE."""

    policy: dict[str, Any]
    source: str
    target: str  # empty where there is none
    episodes: int
    seed: int
    tolerance: float
    rows: tuple[CrossRow, ...]

    @property
    def broken(self) -> Stage | None:
        """The first stage in which something breaks."""
        for stage in EXIT_CODES:
            if self.list_rows(stage, Outcome.BREAKS):
                return stage
        return None

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.broken:
            return EXIT_CODES[self.broken]
        unclear = [row for stage in EXIT_CODES for row in self.list_rows(stage, Outcome.UNCLEAR)]
        return UNDECIDED if unclear else CROSSES

    def list_rows(self, stage: Stage, outcome: Outcome | None = None) -> list[CrossRow]:
        """Return the rows of a stage, of one outcome where it is given."""
        rows = []
        for row in self.rows:
            if row.stage == stage and outcome in (None, row.outcome):
                rows.append(row)
        return rows

    def describe(self) -> list[str]:
        """Return the verdict in sentences: one for each stage that breaks, or one for all.

        The last one is a warning, where a policy mostly falls in its own source.
        """
        return [*self._describe_verdict(), *self._warn_of_source()]

    def _warn_of_source(self) -> list[str]:
        for row in self.list_rows(Stage.SOURCE):
            if row.summary is not None and row.summary.fell.value > OFTEN:
                return [f"It falls in {row.summary.fell.value:.0%} of episodes in its own source."]
        return []

    def _describe_verdict(self) -> list[str]:
        lines = []
        for stage, describe in _DESCRIPTIONS.items():
            if self.list_rows(stage, Outcome.BREAKS):
                lines.append(describe(self))
        if lines:
            return ["It does not cross.", *lines]
        if self.exit_code == UNDECIDED:
            unclear = [row.done for row in self.rows if row.outcome == Outcome.UNCLEAR]
            return [f"Too few episodes to tell: {'; '.join(unclear)}. Say --episodes for more."]
        return [self._describe_crossing()]

    def _describe_crossing(self) -> str:
        asked = []
        for stage in EXIT_CODES:
            if self.list_rows(stage, Outcome.HOLDS):
                asked.append(str(stage))
        if not asked:
            return "Nothing was asked but the source: there is no verdict."
        return f"It crosses: {join(asked)} hold, to within {self.tolerance:.0%}."

    def to_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        data = {**asdict(self), "rows": [_make_plain(row) for row in self.rows]}
        return {
            **data,
            "verdict": self.describe(),
            "exit_code": self.exit_code,
            "intervals": "95 %, over episodes of one policy",
        }


def join(texts: Sequence[str]) -> str:
    """Return texts as one: a, b and c."""
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _make_plain(row: CrossRow) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, value in row._asdict().items():
        if isinstance(value, EpisodeSummary):
            data.update({part: _make_number(v) for part, v in value._asdict().items()})
        elif value is not None and name != "summary":
            data[name] = _make_number(value)
    return data


def _make_number(value: Any) -> Any:
    """Return an estimate's number and interval, as JSON has them; others as they are."""
    if not isinstance(value, Estimate):
        return value
    fields = {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
    return {name: field for name, field in fields.items() if math.isfinite(field)}


# From episodes to an outcome


class EpisodeJudge:
    """Compares episodes with the source's, and says whether a policy holds."""

    def __init__(self, source: Episodes, tolerance: float):
        self.source, self.tolerance = source, tolerance
        # A task whose returns lie around zero has no share of them that could be lost.
        self.unit = max(abs(float(source.returns.mean())), float(source.returns.std()), 1e-12)

    def judge(self, row: CrossRow, played: Episodes, paired: bool = True) -> CrossRow:
        """Return a row with what was played for it, and its outcome."""
        own, other = self.source.returns, played.returns
        if paired and len(own) == len(other):
            loss = paired_episodes(own, other)
        else:
            loss = over_episodes(statistics.difference(own, other))
        falls = compare_shares(played.terminated, self.source.terminated)
        outcome = self._decide(loss, falls, self._is_identical(played))
        summary = summarize_episodes(played)
        return row._replace(outcome=outcome, summary=summary, loss=loss, falls=falls)

    def _is_identical(self, played: Episodes) -> bool:
        return np.array_equal(played.returns, self.source.returns) and np.array_equal(
            played.terminated, self.source.terminated
        )

    def _decide(self, loss: Estimate, falls: Estimate, is_identical: bool) -> Outcome:
        lost, fell = self.tolerance * self.unit, self.tolerance
        if is_identical:
            return Outcome.HOLDS
        if loss.low > lost or falls.low > fell:
            return Outcome.BREAKS
        if loss.high <= lost and falls.high <= fell:
            return Outcome.HOLDS
        return Outcome.UNCLEAR


# From rows to sentences


def _describe_contract(crossing: Crossing) -> str:
    failed = crossing.list_rows(Stage.CONTRACT, Outcome.BREAKS)
    found = "; ".join(row.meaning for row in failed)
    return f"Contract, not physics: {found}. Mend that first; what needs it was not asked."


def _describe_numerics(crossing: Crossing) -> str:
    broken = [row.done for row in crossing.list_rows(Stage.NUMERICS, Outcome.BREAKS)]
    line = f"Numerics: it breaks with {join(broken)}"
    if held := [row.done for row in crossing.list_rows(Stage.NUMERICS, Outcome.HOLDS)]:
        line += f", and holds with {join(held)}"
    return line + "."


def _describe_engine(crossing: Crossing) -> str:
    broken = [row.done for row in crossing.list_rows(Stage.ENGINE, Outcome.BREAKS)]
    line = f"Engine: it breaks with {join(broken)}."
    for row in crossing.list_rows(Stage.CAUSE, Outcome.REFERENCE):
        line += f" {row.question.capitalize()} {row.meaning.capitalize()}."
    return line


def _describe_target(crossing: Crossing) -> str:
    mended = [row.done for row in crossing.list_rows(Stage.CAUSE, Outcome.HOLDS)]
    line = f"Parameters: it breaks in {crossing.target}"
    if mended:
        return f"{line}; copied from the source, {' or '.join(mended)} alone mends it."
    if crossing.list_rows(Stage.CAUSE, Outcome.UNCLEAR):
        return f"{line}; which group mends it, more episodes would tell."
    tried = crossing.list_rows(Stage.CAUSE, Outcome.BREAKS)
    if not tried:
        return f"{line}."
    best = min(tried, key=_measure_loss)
    names = ", ".join(row.done for row in tried)
    return f"{line}; copied from the source, none mends it ({names}), {best.done} mends most."


def _measure_loss(row: CrossRow) -> float:
    return math.inf if row.loss is None else row.loss.value


_DESCRIPTIONS = {
    Stage.CONTRACT: _describe_contract,
    Stage.NUMERICS: _describe_numerics,
    Stage.ENGINE: _describe_engine,
    Stage.TARGET: _describe_target,
}
