"""What lies between a domain and a policy's model: order, scale, clip and history of observations,
order, scale and offset of actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.audit.observed import list_observed
from isthmus.deploy.onnx_model import GUIDE, OnnxModel
from isthmus.types import BadValue, UnknownName

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

MAX_RATE_DIFFERENCE = 1e-3  # of the rate

Numbers = tuple[float, ...]  # one for each observation or action, or one for all


@dataclass(frozen=True)
class PolicyInterface:
    """What a model observes and what its actions mean. `said_by` is a file, `task`, `metadata`, or
    empty where nothing says it: then the model cannot act yet.

    The model observes `(observation * scale)` clipped, of the named observations in their order,
    `history` of them side by side, the newest last. Its action becomes `action * scale + offset`.
    """

    said_by: str = ""
    trained_in: str = ""  # a domain; empty where it is not said, as the next
    deployed_to: str = ""
    rate: float = 0.0  # actions a second; 0: not said
    observations: tuple[str, ...] | None = None  # None: the domain's own
    observation_scale: Numbers = (1.0,)
    observation_clip: tuple[float, float] | None = None
    history: int = 1
    actions: tuple[str, ...] | None = None  # actuators or joints; None: the domain's own
    action_scale: Numbers = (1.0,)
    action_offset: Numbers = (0.0,)
    missing: str = ""  # what is asked for where nothing is said

    def fit(self, model: OnnxModel, domain: Domain) -> FittedModel:
        """Return the model as it acts in a domain. Raises BadValue or UnknownName, in one line,
        where it cannot, or where nothing says what it observes.
        """
        if self.missing:
            raise BadValue(f"{model.name}: {self.missing} in a contract.toml beside it ({GUIDE})")
        if not self.said_by:
            raise BadValue(
                f"{model.name} does not say what it observes and what its actions are: if both are "
                f"{domain.task}'s own, in order and unscaled, say --contract task; else describe "
                f"them in a contract.toml beside it ({GUIDE})"
            )
        return FittedModel(self, model, domain)


class FittedModel:
    """A model behind its interface, in a domain: N rows at once."""

    def __init__(self, interface: PolicyInterface, model: OnnxModel, domain: Domain):
        self.interface, self.model, self.name = interface, model, model.name
        observed = list_observed(domain)
        self.columns = find_columns(model.name, interface.observations, observed, str(domain))
        count = self.columns.size * interface.history
        if model.obs_size not in (None, count):
            raise BadValue(_describe_sizes(interface, model, count, domain))
        _check_rate(model.name, interface.rate, domain)
        self.order = find_order(model.name, interface.actions, domain)
        self.obs_scale = spread_numbers(
            model.name, "observation.scale", interface.observation_scale, self.columns.size
        )
        size = len(self.order)
        self.scale = spread_numbers(model.name, "action.scale", interface.action_scale, size)
        self.offset = spread_numbers(model.name, "action.offset", interface.action_offset, size)

    def memory(self) -> Any:
        """Return what one world remembers: the model's memory, and observations before."""
        if self.interface.history == 1:
            return self.model.initial_memory(), ()
        older = np.zeros((self.interface.history - 1, self.columns.size), np.float32)
        return self.model.initial_memory(), (older, np.zeros(1, bool))

    def act(self, memory: Any, observations: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return actions [N, A] for observations [N, O] of the domain, and the memory."""
        state, before = memory
        observed, before = self._observe(observations, before)
        actions, state = self.model.act(state, observed)
        if actions.shape[1] != len(self.order):
            raise BadValue(
                f"{self.name} gives {actions.shape[1]} actions, the robot has {len(self.order)}"
            )
        out = np.empty_like(actions)
        out[:, self.order] = actions * self.scale + self.offset
        return out, (state, before)

    def _observe(self, observations: np.ndarray, before: Any) -> tuple[np.ndarray, Any]:
        """Return what the model observes [N, O], and what it is to remember of it."""
        newest = observations[:, self.columns] * self.obs_scale
        if self.interface.observation_clip:
            newest = np.clip(newest, *self.interface.observation_clip)
        if self.interface.history == 1:
            return newest, before
        older, has_begun = before
        older = np.where(has_begun[:, :, None], older, newest[:, None])
        frames = np.concatenate([older, newest[:, None]], axis=1)
        return frames.reshape(len(frames), -1), (frames[:, 1:], np.ones_like(has_begun))


def find_columns(
    policy: str, names: Sequence[str] | None, observed: Sequence[str], domain: str
) -> np.ndarray:
    """Return which of a domain's observations a policy takes, int [O].

    Raises UnknownName for one that the domain does not have.
    """
    if names is None:
        return np.arange(len(observed))
    places = {name: i for i, name in enumerate(observed)}
    for name in names:
        if name not in places:
            raise UnknownName(f"observation of {domain}, which {policy} takes,", name, places)
    return np.array([places[name] for name in names])


def find_order(policy: str, names: Sequence[str] | None, domain: Domain) -> np.ndarray:
    """Return which of a domain's actions each of a policy's is, int [A].

    Raises UnknownName for one that the robot does not have, BadValue where some are left over.
    """
    size = domain.spaces.action
    if names is None:
        return np.arange(size)
    places = list_actuators(domain)
    order = []
    for name in names:
        if name not in places:
            raise UnknownName(
                f"actuator or joint of {domain.task}, which {policy} moves,", name, places
            )
        order.append(places[name])
    if sorted(order) != list(range(size)):
        moved = ", ".join(names)
        raise BadValue(f"{policy} moves {moved}: it needs each of {size} actuators once")
    return np.array(order)


def list_actuators(domain: Domain) -> dict[str, int]:
    """Return the actions of a domain by the names of their actuators and joints; by number alone
    where nobody knows those.
    """
    from isthmus.domains.domain import RobotDomain

    size = domain.spaces.action
    places = {str(i): i for i in range(size)}
    if not isinstance(domain, RobotDomain):
        return places
    import mujoco

    from isthmus.physics.mujoco import load_model

    model = load_model(domain.description().model_path())
    if model.nu != size:
        return places
    for i in range(size):
        if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT:
            places[model.joint(int(model.actuator_trnid[i, 0])).name] = i
    for i in range(size):
        places[model.actuator(i).name] = i
    return places


def _check_rate(policy: str, rate: float, domain: Domain) -> None:
    """Raise BadValue where a policy acts at another rate than a domain, as far as both are said."""
    if rate and abs(rate * domain.stated_seconds - 1) > MAX_RATE_DIFFERENCE:
        raise BadValue(
            f"{policy} acts {rate:g} times a second, {domain} {1 / domain.stated_seconds:g} times"
        )


def spread_numbers(policy: str, name: str, numbers: Numbers, size: int) -> np.ndarray:
    """Return float32 [size]. Raises BadValue where the numbers are neither one nor so many."""
    if len(numbers) not in (1, size):
        raise BadValue(f"{policy}: {name} has {len(numbers)} numbers; it needs 1 or {size}")
    return np.broadcast_to(np.array(numbers, np.float32), (size,))


def _describe_sizes(
    interface: PolicyInterface, model: OnnxModel, count: int, domain: Domain
) -> str:
    """Say that a model takes another number of observations than it would be given."""
    if interface.observations is None and interface.history == 1:
        return f"{model.name} takes {model.obs_size} observations, {domain} has {count}"
    return (
        f"{model.name} takes {model.obs_size} observations, {interface.said_by} says {count}: they "
        "contradict each other"
    )
