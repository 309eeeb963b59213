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
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.deploy.contract import ObservationContract, PolicyContract
from isthmus.deploy.hypotheses import Bench, find_mends
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.deploy.policy import CONTRACT_FILE, MODEL_FILE
from isthmus.deploy.reference import REFERENCE_FILE, read_reference, replay
from isthmus.logs.read import UNREADABLE_ERRORS
from isthmus.logs.read_npz import COLUMN_NAMES
from isthmus.types import BadValue

REPLAY_TOLERANCE = 1e-4  # another machine's vectors round otherwise
LOG_TOLERANCE = 1e-3  # of half an action's range
FOLLOWING_SHARE = 0.99  # of a log's rows
OUTSIDE_SHARE = 0.01


class Finding(NamedTuple):
    """A row of the table: a question, and what was found. `passed` is None where it is no test."""

    question: str
    answer: str
    passed: bool | None = None


class RobotLog(NamedTuple):
    """What a robot recorded."""

    observations: np.ndarray  # float32 [T, O]
    actions: np.ndarray  # float32 [T, A]
    begins: np.ndarray  # bool [T] an episode's first row
    task_begins: np.ndarray | None  # bool [T] the same of a task, where the log says it


def check_export(
    folder: Path, log: Path | None = None, tolerance: float = LOG_TOLERANCE
) -> list[Finding]:
    """Return what was found of an export, and of a robot's log with it; see the module.

    `tolerance` is of recorded actions, in half their range. Raises BadValue, in one line, where
    files are missing or damaged, or contract and model contradict each other.
    """
    contract = PolicyContract.read(folder / CONTRACT_FILE)
    model = open_model(folder)
    check_contract(contract, model, folder)
    findings = [Finding("contract and model", "sizes, memories and bytes agree", True)]
    findings.append(_replay_reference(folder, contract, model))
    if log is not None:
        findings += _check_log(contract, model, read_robot_log(log, contract), tolerance)
    return findings


def open_model(folder: Path) -> OnnxModel:
    """Return an export's model. Raises BadValue where it is missing, damaged or another's."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise BadValue(f"{folder} is no export: it has no {MODEL_FILE}")
    return OnnxModel(path)


def check_contract(contract: PolicyContract, model: OnnxModel, folder: Path) -> None:
    """Raise BadValue where a contract contradicts its model."""
    fault = f"{folder / CONTRACT_FILE} contradicts the model"
    observed, size = contract.observations, model.obs_size
    if observed.names and size != len(observed.names) * observed.history:
        raise BadValue(
            f"{fault}: it names {len(observed.names)} observations, the model has {size}"
        )
    said = sorted((part.input, part.output, part.shape) for part in contract.memory)
    held = sorted((part.input, part.output, part.shape) for part in model.signature.memories)
    if said != held:
        raise BadValue(
            f"{fault}: it says {len(said)} memories, the model has {len(held)} or others"
        )
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    if contract.model_sha256 and digest != contract.model_sha256:
        raise BadValue(f"{fault}: it was written for another {MODEL_FILE} (its SHA-256 differs)")
    rows = np.zeros((1, size or len(observed.names)), np.float32)
    actions, _ = model.act(tuple(part[None] for part in model.initial_memory()), rows)
    if contract.actions.names and actions.shape[1] != len(contract.actions.names):
        raise BadValue(
            f"{fault}: it names {len(contract.actions.names)} actions, the model has "
            f"{actions.shape[1]}"
        )


def _join(memories: list[tuple[str, str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{taken} {list(shape)}" for taken, _, shape in memories) or "none"


def _replay_reference(folder: Path, contract: PolicyContract, model: OnnxModel) -> Finding:
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
    return Finding("reference replayed", answer, bool(worst <= REPLAY_TOLERANCE))


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


def read_robot_log(path: Path, contract: PolicyContract) -> RobotLog:
    """Read observations and actions from an `.npz` by the names that data sets have.

    Ends of episodes are read where they are there. Raises BadValue, in one line; nothing is
    unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = _find_columns(file.files)
            arrays = {name: file[name] for name in found.values()}
            tasks = file["task_begins"] if "task_begins" in file.files else None
    except FileNotFoundError:
        raise BadValue(f"the log {path} is missing") from None
    except UNREADABLE_ERRORS:
        raise BadValue(f"{path} cannot be read: it is no .npz of arrays, or damaged") from None
    columns = {field: arrays[name] for field, name in found.items()}
    for field in ("obs", "action"):
        if field not in columns:
            raise BadValue(f"{path} has no {COLUMN_NAMES[field][0]}; it holds: {', '.join(found)}")
    observations = _take_newest(_read_rows(path, columns["obs"]), contract.observations)
    actions = _read_rows(path, columns["action"])
    _check_sizes(path, contract, observations, actions)
    ends = np.zeros(len(actions), bool)
    for field in ("terminated", "truncated", "done"):
        if field in columns and columns[field].shape == ends.shape:
            ends |= columns[field].astype(bool)
    begins = np.append(True, ends[:-1])
    if tasks is not None and tasks.shape != begins.shape:
        raise BadValue(f"{path} has {len(tasks)} task_begins for {len(begins)} rows")
    if tasks is not None:
        tasks = tasks.astype(bool)
        begins |= tasks
    return RobotLog(observations, actions, begins, tasks)


def _find_columns(held: list[str]) -> dict[str, str]:
    """Return what a file calls each column that it has."""
    found = {}
    for field, known in COLUMN_NAMES.items():
        for name in reversed(known):
            if name in held:
                found[field] = name
    return found


def _read_rows(path: Path, values: np.ndarray) -> np.ndarray:
    """Return float32 [T, ...]. Raises BadValue where they are no finite numbers in rows."""
    if values.dtype.kind not in "fiu" or values.ndim != 2 or not len(values):
        raise BadValue(f"{path}: observations and actions need rows of numbers, [T, O] and [T, A]")
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if bad.size:
        raise BadValue(f"{path}: row {bad[0]} holds a number that is not finite")
    return values.astype(np.float32)


def _take_newest(rows: np.ndarray, observed: ObservationContract) -> np.ndarray:
    """Return the newest observations of rows that hold a history and the previous action too."""
    size, length = len(observed.names), observed.history_inside
    if length > 1 and rows.shape[1] >= size * length:
        return rows[:, size * (length - 1) : size * length]
    if observed.previous_action_inside and rows.shape[1] > size:
        return rows[:, :size]
    return rows


def _check_sizes(
    path: Path, contract: PolicyContract, observations: np.ndarray, actions: np.ndarray
) -> None:
    sizes = observations.shape[1], actions.shape[1]
    wanted = len(contract.observations.names), len(contract.actions.names)
    if sizes != wanted:
        raise BadValue(
            f"{path} has {sizes[0]} observations and {sizes[1]} actions a row; the policy has "
            f"{wanted[0]} and {wanted[1]}"
        )
    if len(observations) != len(actions):
        raise BadValue(f"{path} has {len(observations)} observations and {len(actions)} actions")


def _check_log(
    contract: PolicyContract, model: OnnxModel, log: RobotLog, tolerance: float
) -> list[Finding]:
    """Do box lines 3 to 5."""
    bench = _choose_tasks(contract, model, log)
    difference = bench.difference(bench.replay_log())
    share = float((difference <= tolerance).mean())
    follows = share >= FOLLOWING_SHARE
    answer = f"{share:.0%} of {len(difference)} rows within {tolerance:g}"
    if not follows:
        answer += f"; the median differs by {np.median(difference):.2g} of half the range"
    findings = [Finding("recorded actions follow", answer, follows)]
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


def _explain(bench: Bench, tolerance: float) -> list[Finding]:
    """Do box line 4."""
    mends = find_mends(bench)
    good = [mend for mend in mends if mend.share(tolerance) >= FOLLOWING_SHARE]
    if good:
        return [Finding("mended by", mend.text) for mend in good]
    best = min(mends, key=lambda mend: float(np.median(mend.difference)))
    left = float(np.median(best.difference))
    return [Finding("mended by", f"no single hypothesis; nearest: {best.text} (leaves {left:.2g})")]


def list_outside(observed: ObservationContract, rows: np.ndarray) -> list[Finding]:
    """Return which observations [T, O] leave the range seen in training, in a row each."""
    if not observed.seen_low or not observed.seen_high:
        return [Finding("range seen in training", "not known")]
    low, high = np.array(observed.seen_low), np.array(observed.seen_high)
    share = ((rows < low) | (rows > high)).mean(0)
    findings = []
    for i in np.flatnonzero(share > OUTSIDE_SHARE):
        answer = (
            f"{observed.names[i]}: {share[i]:.0%} of rows outside {low[i]:.3g}..{high[i]:.3g} "
            f"({rows[:, i].min():.3g}..{rows[:, i].max():.3g})"
        )
        findings.append(Finding("outside the range seen", answer))
    return findings or [Finding("range seen in training", "no observation leaves it")]
