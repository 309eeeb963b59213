"""A run's policy as files that anything can read: `policy.onnx`, `contract.toml`, `reference.npz`.

1.  the policy that the run deploys; of a method that adapts, what adapting to the target left
2.  a rollout with it in the domain where it learned
3.  the graph: history and previous action, the policy, its bounds
4.  onnxruntime against JAX on 10,000 states around the rollout's, and on the rollout itself
5.  where they agree, all three files at once; else nothing
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isthmus.deploy.contract import (
    ActionContract,
    EvaluationContract,
    ObservationContract,
    PolicyContract,
    RunContract,
    ServoContract,
    TaskContract,
)
from isthmus.deploy.exporters import add_policy
from isthmus.deploy.graph import PolicyGraph
from isthmus.deploy.interface import list_actuators
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.deploy.policy import CONTRACT_FILE, MODEL_FILE
from isthmus.deploy.reference import (
    REFERENCE_FILE,
    REFERENCE_STEPS,
    REFERENCE_WORLDS,
    Reference,
    begin_reference,
    draw_sequences,
    replay,
    worst_difference,
)
from isthmus.deploy.sensing import (
    SensedPolicy,
    add_sensing,
    history_length,
    keep_action,
    newest_observation,
    sees_previous_action,
)
from isthmus.deploy.units import list_action_units, list_observation_units
from isthmus.domains.rollout import rollout_steps
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.evaluate import ADAPTATION_SEED_OFFSET, SEED, draw_targets
from isthmus.logs.record import Deterministic
from isthmus.tasks.motors import find_actuation
from isthmus.types import Array, BadValue

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain
    from isthmus.training.run import Run

TOLERANCE = 1e-5  # of an action, or of half its range where that is above 1
PACKAGES = ("onnx", "onnxruntime", "tomli_w")


class Export(NamedTuple):
    """What an export wrote, and how far it is from the run's policy."""

    folder: Path
    contract: PolicyContract
    states: int
    worst: float  # difference of actions in those states, in units of TOLERANCE's
    worst_reference: float  # in the reference


class _Deployed(NamedTuple):
    """A policy, and the domain that it acts in here."""

    policy: Any
    domain: Domain
    adapted_to: str


class _Played(NamedTuple):
    """A rollout of a policy."""

    observations: np.ndarray  # float32 [T, N, O] before history and previous action
    reference: Reference  # the first world
    neutral: np.ndarray  # float32 [A]


def export_run(run: Run, folder: Path, adapt: bool = True) -> Export:
    """Export a run's policy into a new folder; see the module.

    `adapt`: of a method that adapts, what adapting to the problem's target left; else what it had
    before. Raises BadValue, in one line: a package is missing, the policy cannot be exported, its
    model's actions differ by more than 1e-5 from its own, or the folder is in use.
    """
    check_packages()
    check_free(folder)
    deployed = _choose_policy(run, adapt)
    played = _play(deployed)
    action, graph = build_graph(deployed.policy, deployed.domain, played.neutral)
    contract = _describe(run, deployed, played, graph)
    model = graph.model(action, _write_metadata(contract))
    contract = _with_digest(contract, model)
    with _new_folder(folder) as partial:
        (partial / MODEL_FILE).write_bytes(model)
        (partial / CONTRACT_FILE).write_text(contract.to_toml(), encoding="utf-8")
        np.savez(partial / REFERENCE_FILE, **played.reference._asdict())
        export = _verify(partial, folder, contract, deployed, played)
    return export


def check_packages() -> None:
    """Raise BadValue where a package that an export needs is not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise BadValue(f"isthmus export needs {name}: pip install 'isthmus[onnx]'")


def _choose_policy(run: Run, adapt: bool) -> _Deployed:
    """Return box line 1."""
    method, problem = run.method, run.problem
    domain = method.trained_in(problem)
    if not domain.replayable:
        domain = problem.source
    if not (method.adapts and adapt):
        return _Deployed(run.policy, domain, "")
    target = problem.evaluation_target
    parameters, _ = draw_targets(target, 1, SEED, adapting=True)
    if len(parameters) > 1:
        raise BadValue(
            f"{run.name} adapts to one target, and {target} is a grid of {len(parameters)}; say "
            "--no-adapt to export what it adapts from"
        )
    seed = SEED + ADAPTATION_SEED_OFFSET
    paid = target.with_reward(problem.target.reward)
    policies, _ = method.adapt(run.state(), problem, paid, parameters, seed)
    # History and the number of episodes a task are those of training.
    return _Deployed(policies[0], domain, str(target))


def _play(deployed: _Deployed) -> _Played:
    """Do box line 2."""
    domain = deployed.domain
    worlds = begin_reference(domain, REFERENCE_WORLDS)
    live = SteppedWorlds.resume(domain, worlds)
    neutral = live.simulation.neutral_action(np.arange(REFERENCE_WORLDS))[0]
    tasks = [worlds.task[0]]
    transitions = []
    for _ in range(REFERENCE_STEPS):
        worlds, tr = rollout_steps(domain, worlds, Deterministic(deployed.policy), 1)
        transitions.append(tr)
        tasks.append(worlds.task[0])
    obs = np.concatenate([tr.obs for tr in transitions])
    first = {}
    for name in ("action", "terminated", "truncated"):
        first[name] = np.concatenate([getattr(tr, name)[:, 0] for tr in transitions])
    newest = newest_observation(domain, obs).astype(np.float32)
    reference = Reference(
        observations=np.ascontiguousarray(newest[:, 0]),
        actions=first["action"].astype(np.float32),
        terminals=first["terminated"],
        timeouts=first["truncated"],
        task_begins=np.append(True, np.diff(tasks[:-1]) > 0),
    )
    return _Played(newest, reference, np.asarray(neutral, np.float32))


def build_graph(policy: Any, domain: Domain, neutral: np.ndarray) -> tuple[str, PolicyGraph]:
    """Do box line 3: return the name of the action, and the graph.

    Raises BadValue for a policy or a sensing effect that cannot be exported.
    """
    spaces = domain.inner_spaces()
    graph = PolicyGraph(spaces.observation, spaces.action)
    action = add_policy(policy, graph, add_sensing(domain, graph, neutral))
    keep_action(domain, graph, action)
    return action, graph


def _verify(
    partial: Path, folder: Path, contract: PolicyContract, deployed: _Deployed, played: _Played
) -> Export:
    """Do box line 4. Raises BadValue where model and policy differ."""
    model = OnnxModel(partial / MODEL_FILE)
    sequences = draw_sequences(played.observations)
    states = sequences.shape[0] * sequences.shape[1]
    policy = SensedPolicy(deployed.policy, deployed.domain, played.neutral, sequences.shape[1])
    low, high = np.array(contract.actions.low), np.array(contract.actions.high)
    unit = max(1.0, float(((high - low) / 2).max()))
    worst = worst_difference(policy, model, sequences) / unit
    reference = played.reference
    actions = replay(
        model,
        reference.observations,
        reference.episode_begins,
        reference.task_begins,
        [part.reset for part in contract.memory],
    )
    replayed = float(np.abs(actions - reference.actions).max()) / unit
    for difference, where in ((worst, f"{states:,} states"), (replayed, "the reference rollout")):
        if not difference <= TOLERANCE:
            raise BadValue(
                f"the model's actions differ by up to {difference:.1e} from the policy's in "
                f"{where}, more than {TOLERANCE:g}: nothing is written"
            )
    return Export(folder, contract, states, worst, replayed)


# What is said of it


def _describe(run: Run, deployed: _Deployed, played: _Played, graph: PolicyGraph) -> PolicyContract:
    """Return the contract of a run's policy."""
    domain, problem = deployed.domain, run.problem
    spaces = domain.inner_spaces()
    low, high = played.observations.min((0, 1)), played.observations.max((0, 1))
    mean, std = _find_normalizer(deployed)
    return PolicyContract(
        control_rate_hz=round(1 / domain.step_seconds, 6),
        task=TaskContract(domain.task, str(domain), str(problem.target)),
        observations=ObservationContract(
            names=tuple(domain.description().observation_names),
            units=list_observation_units(domain.description()),
            history_inside=history_length(domain),
            previous_action_inside=sees_previous_action(domain),
            normalizer_mean=_list_numbers(mean),
            normalizer_std=_list_numbers(std),
            seen_low=_list_numbers(low),
            seen_high=_list_numbers(high),
        ),
        actions=ActionContract(
            names=name_actions(domain),
            units=list_action_units(domain),
            low=_list_numbers(spaces.low),
            high=_list_numbers(spaces.high),
            neutral=_list_numbers(played.neutral),
        ),
        servo=_describe_servo(domain),
        effects={e.name: float(e.value) for e in domain.effects if not e.is_sensing},
        memory=graph.memories,
        run=RunContract(
            method=run.name,
            learner=type(run.method.learner).__name__,
            seed=run.seed,
            steps=run.steps,
            digest=run.digest,
            checkpoint=run.which,
            adapted_to=deployed.adapted_to,
        ),
        versions=_list_versions(run),
        evaluations=_list_evaluations(run),
    )


def _describe_servo(domain: Domain) -> ServoContract:
    """Return how a robot's actions become targets; nothing where they go straight to actuators."""
    actuation = find_actuation(domain.description()) if domain.replayable else None
    if actuation is None:
        return ServoContract()
    servos = actuation.servos
    if servos is None:
        return ServoContract(
            actuation.joints, _list_all(actuation.pose), _list_all(actuation.scale)
        )
    speed = () if np.isinf(servos.speed).all() else servos.speed
    return ServoContract(
        joints=actuation.joints,
        pose=_list_all(actuation.pose),
        scale=_list_all(actuation.scale),
        kp=servos.kp,
        kd=servos.kd,
        effort=servos.effort,
        stall=servos.stall,
        speed=speed,
    )


def _list_all(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(numbers.tolist())


def name_actions(domain: Domain) -> tuple[str, ...]:
    """Return the actuators' names, else their joints', else their numbers."""
    names = [str(i) for i in range(domain.spaces.action)]
    for name, i in list_actuators(domain).items():
        if name:
            names[i] = name
    return tuple(names)


def _find_normalizer(deployed: _Deployed) -> tuple[Array, Array]:
    """Return the mean and deviation by which a policy normalizes the newest observation; nothing
    where it does not.
    """
    normalizer = getattr(deployed.policy, "normalizer", None)
    if normalizer is None:
        return (), ()
    mean = newest_observation(deployed.domain, np.asarray(normalizer.mean))
    return mean, newest_observation(deployed.domain, np.asarray(normalizer.std))


def _list_numbers(values: Any) -> tuple[float, ...]:
    """Return float32 numbers by their shortest decimals."""
    return tuple(float(str(value)) for value in np.asarray(values, np.float32))


def _list_versions(run: Run) -> dict[str, str]:
    """Return the versions that trained the policy, and those that exported it."""
    versions = {str(name): str(version) for name, version in run.config["versions"].items()}
    for package in ("onnx", "onnxruntime"):
        versions[package] = importlib.metadata.version(package)
    return versions


def _list_evaluations(run: Run) -> tuple[EvaluationContract, ...]:
    """Return the scores of the run's last evaluation, or of the best one in the source.

    Of a method that adapts they are of what it adapts from.
    """
    rows = [row for row in run.metrics() if row.get("kind") == "evaluation"]
    if not rows:
        return ()
    row = rows[-1]
    if run.which:
        row = max(rows, key=lambda row: row.get("source_return", -np.inf))
    found = []
    for name, domain in (("source", run.problem.source), ("target", run.problem.evaluation_target)):
        if f"{name}_return" in row:
            found.append(
                EvaluationContract(
                    domain=str(domain),
                    mean_return=float(row[f"{name}_return"]),
                    seed=SEED + 1,
                    episodes=int(run.config.get("evaluation_episodes", 0)),
                    step=int(row["source_steps"]) + int(row["target_transitions"]),
                )
            )
    return tuple(found)


def _write_metadata(contract: PolicyContract) -> dict[str, str]:
    """Return mjlab's keys, strings with commas, and what a robot's program asks first.

    The model's actions are final: their scale is 1 and their offset 0.
    """
    size = len(contract.actions.names)
    return {
        "observation_names": _join(contract.observations.names),
        "joint_names": _join(contract.actions.names),
        "action_scale": ",".join(["1"] * size),
        "default_joint_pos": ",".join(["0"] * size),
        "command_names": "",
        "control_rate_hz": f"{contract.control_rate_hz:g}",
        "task": contract.task.name,
        "trained_in": contract.task.trained_in,
        "method": contract.run.method,
        "run_digest": contract.run.digest,
        "isthmus_version": importlib.metadata.version("isthmus"),
    }


def _join(names: Sequence[str]) -> str:
    return ",".join(name.replace(",", " ") for name in names)


def _with_digest(contract: PolicyContract, model: bytes) -> PolicyContract:
    """Return a contract that names its model's bytes."""
    return dataclasses.replace(contract, model_sha256=hashlib.sha256(model).hexdigest())


# Its files


def check_free(folder: Path) -> None:
    """Raise BadValue where a folder has something in it, or is a file."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        raise BadValue(f"{folder} is there already; name another with -o, or remove it")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes its name when it is whole, or leaves no trace.

    Raises BadValue where the disk refuses.
    """
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        partial.chmod(0o755)
        yield partial
        os.replace(partial, folder)
    except OSError as error:
        raise BadValue(f"cannot write {folder}: {error.strerror}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
