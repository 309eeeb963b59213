"""`isthmus check`: does an export still answer as it did, and do a robot's actions follow from what
it observed?

1.  contract and model: sizes, memories, the model's bytes
2.  the reference rollout, replayed in onnxruntime
3.  a log: the model's actions for the recorded observations, against the recorded actions
4.  where they differ: which single hypothesis mends it (`isthmus.deploy.hypotheses`)
5.  which recorded observations leave the range seen in training
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.deploy.contract import ObservationContract, PolicyContract
from isthmus.deploy.hypotheses import Bench, find_mends
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.deploy.policy import CONTRACT_FILE, MODEL_FILE
from isthmus.deploy.reference import REFERENCE_FILE, read_reference, replay
from isthmus.deploy.robot_log import RobotLog, read_robot_log
from isthmus.types import BadValue

REPLAY_TOLERANCE = 1e-4  # another machine's vectors round otherwise
LOG_TOLERANCE = 1e-3  # of half an action's range
FOLLOWING_SHARE = 0.99  # of a log's rows
OUTSIDE_SHARE = 0.01


class CheckRow(NamedTuple):
    """A row of the table: a question, and what was found. `passed` is None where it is no test."""

    question: str
    answer: str
    passed: bool | None = None


def check_export(
    folder: Path, log: Path | None = None, tolerance: float = LOG_TOLERANCE
) -> list[CheckRow]:
    """Return what was found of an export, and of a robot's log with it; see the module.

    `tolerance` is of recorded actions, in half their range. Raises BadValue, in one line, where
    files are missing or damaged, or contract and model contradict each other.
    """
    contract = PolicyContract.read(folder / CONTRACT_FILE)
    model = open_exported(folder)
    check_agreement(contract, model, folder)
    findings = [CheckRow("contract and model", "sizes, memories and bytes agree", True)]
    findings.append(_replay_reference(folder, contract, model))
    if log is not None:
        findings += _check_log(contract, model, read_robot_log(log, contract), tolerance)
    return findings


def open_exported(folder: Path) -> OnnxModel:
    """Return an export's model. Raises BadValue where it is missing, damaged or another's."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise BadValue(f"{folder} is no export: it has no {MODEL_FILE}")
    return OnnxModel(path)


def check_agreement(contract: PolicyContract, model: OnnxModel, folder: Path) -> None:
    """Raise BadValue where a contract contradicts its model."""
    fault = f"{folder / CONTRACT_FILE} contradicts the model"
    _check_sizes(contract, model, fault)
    said = sorted((part.input, part.output, part.shape) for part in contract.memory)
    held = sorted((part.input, part.output, part.shape) for part in model.signature.memories)
    if said != held:
        raise BadValue(
            f"{fault}: it says the memories {_name_memories(contract.memory)}, the model has "
            f"{_name_memories(model.signature.memories)}"
        )
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    if contract.model_sha256 not in ("", digest):
        raise BadValue(f"{fault}: it was written for another {MODEL_FILE} (its SHA-256 differs)")


def _check_sizes(contract: PolicyContract, model: OnnxModel, fault: str) -> None:
    """Raise BadValue where a contract names other numbers of observations or actions."""
    observed, names = contract.observations, contract.actions.names
    if not observed.names or not names:
        raise BadValue(f"{fault}: a check needs the names of observations and actions")
    size = len(observed.names) * observed.history
    if model.obs_size not in (None, size):
        raise BadValue(f"{fault}: it says {size} observations, the model has {model.obs_size}")
    memory = tuple(part[None] for part in model.initial_memory())
    actions, _ = model.act(memory, np.zeros((1, size), np.float32))
    if actions.shape[1] != len(names):
        raise BadValue(f"{fault}: it names {len(names)} actions, the model has {actions.shape[1]}")


def _name_memories(memories: Sequence[Any]) -> str:
    return ", ".join(f"{part.input} {list(part.shape)}" for part in memories) or "none"


def _replay_reference(folder: Path, contract: PolicyContract, model: OnnxModel) -> CheckRow:
    """Do box line 2."""
    reference = read_reference(folder / REFERENCE_FILE)
    if reference.observations.shape[1:] != (model.obs_size,):
        raise BadValue(f"{folder / REFERENCE_FILE} is of another model: its observations differ")
    actions = replay(
        model,
        reference.observations,
        reference.episode_begins,
        reference.task_begins,
        _list_resets(contract, model),
    )
    worst = float(np.abs(actions - reference.actions).max()) / _half_range(contract)
    answer = f"{len(actions)} steps, actions differ by up to {worst:.1e}"
    return CheckRow("reference replayed", answer, bool(worst <= REPLAY_TOLERANCE))


def _list_resets(contract: PolicyContract, model: OnnxModel) -> list[str]:
    """Return what begins each of a model's memories anew, in the order of its inputs."""
    resets = {part.input: part.reset for part in contract.memory}
    return [resets[part.input] for part in model.signature.memories]


def _half_range(contract: PolicyContract) -> float:
    """Return half the widest range of an action; 1 where none is said."""
    low, high = np.array(contract.actions.low), np.array(contract.actions.high)
    width = float(((high - low) / 2).max()) if low.size and high.size else 1.0
    return width if np.isfinite(width) and width > 0 else 1.0


# A robot's log


def _check_log(
    contract: PolicyContract, model: OnnxModel, log: RobotLog, tolerance: float
) -> list[CheckRow]:
    """Do box lines 3 to 5."""
    bench = _choose_tasks(contract, model, log)
    difference = bench.difference(bench.replay_log())
    share = float((difference <= tolerance).mean())
    follows = share >= FOLLOWING_SHARE
    answer = f"{share:.0%} of {len(difference)} rows within {tolerance:g}"
    if not follows:
        answer += f"; the median differs by {np.median(difference):.2g} of half the range"
    findings = [CheckRow("recorded actions follow", answer, follows)]
    if not follows:
        findings += _explain(bench, tolerance)
    return findings + list_outside(contract.observations, log.observations)


def _choose_tasks(contract: PolicyContract, model: OnnxModel, log: RobotLog) -> Bench:
    """Return a log with its model.

    Where the log does not say where a task begins, memories of tasks begin with each episode or
    with the log, whichever fits better.
    """
    begins = [log.begins, np.arange(len(log.begins)) == 0]
    if log.task_begins is not None:
        begins = [log.task_begins]
    benches = []
    for task_begins in begins:
        unit = _half_range(contract)
        columns = (log.observations, log.actions, log.begins, task_begins)
        benches.append(Bench(contract, model, *columns, unit))
    if all(part.reset == "episode" for part in contract.memory):
        return benches[0]
    return min(benches, key=lambda bench: float(bench.difference(bench.replay_log()).mean()))


def _explain(bench: Bench, tolerance: float) -> list[CheckRow]:
    """Do box line 4."""
    mends = find_mends(bench)
    good = [mend for mend in mends if mend.share(tolerance) >= FOLLOWING_SHARE]
    if good:
        return [CheckRow("mended by", mend.text) for mend in good]
    best = min(mends, key=lambda mend: float(np.median(mend.difference)))
    left = float(np.median(best.difference))
    return [
        CheckRow("mended by", f"no single hypothesis; nearest: {best.text} (leaves {left:.2g})")
    ]


def list_outside(observed: ObservationContract, rows: np.ndarray) -> list[CheckRow]:
    """Return which observations [T, O] leave the range seen in training, in a row each."""
    if not observed.seen_low or not observed.seen_high:
        return [CheckRow("range seen in training", "not known")]
    low, high = np.array(observed.seen_low), np.array(observed.seen_high)
    share = ((rows < low) | (rows > high)).mean(0)
    findings = []
    for i in np.flatnonzero(share > OUTSIDE_SHARE):
        answer = (
            f"{observed.names[i]}: {share[i]:.0%} of rows outside {low[i]:.3g}..{high[i]:.3g} "
            f"({rows[:, i].min():.3g}..{rows[:, i].max():.3g})"
        )
        findings.append(CheckRow("outside the range seen", answer))
    return findings or [CheckRow("range seen in training", "no observation leaves it")]
