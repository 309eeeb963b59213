"""The first question of `isthmus cross`: is it the contract, before any physics?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.deploy.check import CheckRow, check_export
from isthmus.deploy.contract import EvaluationContract, PolicyContract
from isthmus.deploy.crossing import CrossRow, EpisodeJudge, Outcome, Stage
from isthmus.deploy.policy import CONTRACT_FILE, OnnxPolicy
from isthmus.deploy.rebuild import rebuild_reference
from isthmus.deploy.reference import REFERENCE_FILE, read_reference
from isthmus.domains.parse import parse_domain
from isthmus.evaluation import statistics
from isthmus.evaluation.episode_intervals import over_episodes
from isthmus.training.run import Run
from isthmus.types import IsthmusError

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain
    from isthmus.types import Episodes

FITS = "contract fits the robot"


class _Export(NamedTuple):
    """What an export left beside a model."""

    folder: Path
    contract: PolicyContract


def ask_contract(policy: Any, source: Domain) -> Iterator[CrossRow]:
    """Yield what the contract's rows find: a policy that acts in the source at all, its reference
    replayed and rebuilt.
    """
    if not isinstance(policy, OnnxPolicy):
        kind = "a run acts by itself" if isinstance(policy, Run) else "it is code"
        reason = f"{kind}: no contract lies between"
        yield CrossRow(Stage.CONTRACT, FITS, "", Outcome.NOT_ASKED, reason)
        return
    if policy.is_described:
        fits = _try_to_fit(policy, source)
        yield fits
        if fits.outcome == Outcome.BREAKS:
            return
    export = _find_export(policy)
    if export is None or not (export.folder / REFERENCE_FILE).is_file():
        reason = f"there is no {REFERENCE_FILE} beside the model, as isthmus export writes"
        yield CrossRow(Stage.CONTRACT, "reference replayed", "", Outcome.NOT_ASKED, reason)
        return
    for row in check_export(export.folder):
        yield _convert(row)
    yield _convert(_rebuild(policy, export))


def _try_to_fit(policy: OnnxPolicy, source: Domain) -> CrossRow:
    """Say whether the names, sizes and rate of a contract are the robot's."""
    row = CrossRow(Stage.CONTRACT, FITS, str(source), Outcome.HOLDS, "names, sizes and rate agree")
    try:
        policy.for_domain(source)
    except IsthmusError as error:
        return row._replace(outcome=Outcome.BREAKS, meaning=str(error))
    return row


def _find_export(policy: Any) -> _Export | None:
    """Return the contract that lies beside a model, where there is one."""
    if not isinstance(policy, OnnxPolicy):
        return None
    path = policy.path.with_name(CONTRACT_FILE)
    if not path.is_file():
        return None
    return _Export(policy.path.parent, PolicyContract.read(path))


def _rebuild(policy: OnnxPolicy, export: _Export) -> CheckRow:
    """Make the reference again where it was made; say in a line where that cannot be."""
    try:
        domain = parse_domain(export.contract.task.trained_in, trusted=False)
    except IsthmusError as error:
        return CheckRow("reference rebuilt", f"where it was made is not known here: {error}")
    if not domain.replayable:
        return CheckRow("reference rebuilt", f"{domain} cannot be put back where it began")
    reference = read_reference(export.folder / REFERENCE_FILE)
    return rebuild_reference(policy, export.contract, reference, domain)


def _convert(row: CheckRow) -> CrossRow:
    outcome = Outcome.NOT_ASKED
    if row.passed is not None:
        outcome = Outcome.HOLDS if row.passed else Outcome.BREAKS
    return CrossRow(Stage.CONTRACT, row.question, "", outcome, row.answer)


def ask_recorded_return(
    policy: Any, source: Domain, played: Episodes, judge: EpisodeJudge
) -> CrossRow | None:
    """Return whether an export's recorded return is reached; None where none is of this domain.

    What was recorded has no spread; that of the episodes played here is taken for it.
    """
    export = _find_export(policy)
    if export is None or export.contract.run.adapted_to:
        return None
    for recorded in export.contract.evaluations:
        if recorded.domain == str(source):
            return _compare_return(recorded, played, judge)
    return None


def _compare_return(
    recorded: EvaluationContract, played: Episodes, judge: EpisodeJudge
) -> CrossRow:
    found = over_episodes(statistics.interval(played.returns))
    spread = (found.high - found.low) / 2
    if recorded.episodes:
        spread *= (1 + len(played.returns) / recorded.episodes) ** 0.5
    lost = recorded.mean_return - found.value
    outcome = Outcome.HOLDS
    if lost - spread > judge.tolerance * judge.unit:
        outcome = Outcome.BREAKS
    meaning = f"the contract says {recorded.mean_return:.1f}, here it is {found.value:.1f}"
    return CrossRow(Stage.CONTRACT, "recorded return", recorded.domain, outcome, meaning)
