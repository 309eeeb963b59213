"""Is a policy's contract right? Its reference rollout is made again, through the contract.

1.  the domain that the contract names, in the world in which the reference began
2.  the policy acts there, its observations and actions in the contract's order and scale
3.  what the model is then given and answers, against the reference, step by step
4.  where the first observation differs: by which names its numbers go in the domain
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.audit.observed import list_observed
from isthmus.deploy.check import CheckRow
from isthmus.deploy.interface import FittedModel
from isthmus.deploy.reference import Reference, begin_reference
from isthmus.domains.rollout import rollout_steps

if TYPE_CHECKING:
    from isthmus.deploy.contract import PolicyContract
    from isthmus.deploy.policy import OnnxPolicy
    from isthmus.domains.domain import Domain

REBUILT_STEPS = 20
REBUILT_TOLERANCE = 1e-2
"""Of the standard deviation of a number in the reference: another machine rounds otherwise, and
contacts make much of little."""
FIRST_TOLERANCE = 1e-4  # of the first observation and action, which nothing has blown up yet
QUESTION = "reference rebuilt"


class _RecordedModel:
    """A model that keeps what the first of its rows was given and answered."""

    def __init__(self, model: Any):
        self._model = model
        self.name, self.obs_size = model.name, model.obs_size
        self.observations: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def initial_memory(self) -> tuple[np.ndarray, ...]:
        """Return the model's."""
        return self._model.initial_memory()

    def act(self, memory: Any, observations: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the model's answer, and keep the first row of it."""
        actions, memory = self._model.act(memory, observations)
        self.observations.append(observations[0].copy())
        self.actions.append(actions[0].copy())
        return actions, memory


def rebuild_reference(
    policy: OnnxPolicy, contract: PolicyContract, reference: Reference, domain: Domain
) -> CheckRow:
    """Play a policy where its reference was played, and say from which step on they part."""
    recorded = _RecordedModel(policy.model)
    model: Any = recorded
    fitted = FittedModel(policy.interface, model, domain)
    steps = min(REBUILT_STEPS, len(reference.actions))
    _, played = rollout_steps(domain, begin_reference(domain, 1), fitted, steps)
    observed = _measure(np.array(recorded.observations), reference.observations)
    acted = _measure(np.array(recorded.actions), reference.actions)
    if observed[0] > FIRST_TOLERANCE:
        first = played.obs[0, 0]
        answer = _name_columns(contract, reference.observations[0], first, list_observed(domain))
        return CheckRow(QUESTION, answer, False)
    if acted[0] > FIRST_TOLERANCE:
        return CheckRow(QUESTION, "the first observation agrees, the action does not", False)
    parted = np.flatnonzero(np.maximum(observed, acted) > REBUILT_TOLERANCE)
    if not len(parted):
        return CheckRow(QUESTION, f"{steps} steps in {domain} are the reference's", True)
    answer = (
        f"it parts from the reference at step {parted[0]}: its actions reach the robot in another "
        f"order or scale, or the physics is another{_name_versions(contract)}"
    )
    return CheckRow(QUESTION, answer, False)


def _measure(rebuilt: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the largest difference of each step [T], in standard deviations of the reference."""
    spread = reference.std(0)
    spread[spread < 1e-6] = 1.0
    difference = np.abs(rebuilt - reference[: len(rebuilt)]) / spread
    return np.nan_to_num(difference, nan=np.inf).max(1)


def _name_columns(
    contract: PolicyContract, expected: np.ndarray, first: np.ndarray, names: list[str]
) -> str:
    """Say which of a domain's first observation the reference's numbers are."""
    moved = []
    for i, name in enumerate(contract.observations.names):
        places = np.flatnonzero(np.abs(first - expected[i]) <= FIRST_TOLERANCE * abs(expected[i]))
        found = [names[place] for place in places]
        if len(found) == 1 and found[0] != name:
            moved.append(f"{name!r} is {found[0]!r}")
    if moved:
        return "the contract's observations are in another order: " + ", ".join(moved)
    return "the first observation is not the reference's: another scale, or another robot"


def _name_versions(contract: PolicyContract) -> str:
    """Say which MuJoCo made the reference, where it was another."""
    before, now = contract.versions.get("mujoco", ""), importlib.metadata.version("mujoco")
    if before in ("", now):
        return ""
    return f" (MuJoCo {before} then, {now} now)"
