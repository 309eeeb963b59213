"""Effects of actuation and sensing, and the table of all effects by the names of their settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.domains.effect_chain import Array, Effect, SplitStep
from isthmus.domains.sensing import History, PreviousAction
from isthmus.physics.random import Streams
from isthmus.plugins import Registry
from isthmus.types import BadValue


class WeakMotors(Effect):
    """The motors' force is scaled.

    By the action where the force is proportional to it, else in the simulator (see
    `Domain.motor_force`), for a servo's action is where it goes. Of an environment that is not ours
    nobody knows, and the action is scaled.
    """

    name, unit, low, high = "weak_motors", "x", 0.0, 10.0
    can_be_drawn, without = True, 1.0
    meaning = "the motors' force is scaled (in environments that are not ours: the applied action)"

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Scale the applied action."""
        return applied * np.float32(self.value)


class ActionDelay(Effect):
    """Actions are applied some steps after they were commanded, the neutral action until then."""

    name, unit, low, high, whole = "action_delay", "steps", 0, 100, True
    can_be_drawn = True
    meaning = (
        "an action is applied so many steps after it was commanded; the neutral action until then"
    )

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of the line in which actions wait."""
        return int(self.value) * action_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Fill the line with the neutral action."""
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Put the action into the line; return the one that has waited long enough."""
        return _exchange(memory, applied, self.value)


@dataclass(frozen=True)
class SplitDelay(ActionDelay):
    """An action delay of a whole number of physics steps, of which a control step has `substeps`.

    At 1.25 steps the first quarter of a control step is moved by the action of two steps ago, the
    rest by that of one step ago. The line holds the newest action, too.
    """

    substeps: int = 1
    whole = False

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of the line of actions, the newest among them."""
        return (math.ceil(self.value) + 1) * action_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Fill the line with the neutral action."""
        memory[:] = np.tile(neutral, math.ceil(self.value) + 1)

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Put the action into the line; return what moves the robot in the step's last part."""
        size = applied.shape[1]
        memory[:] = np.concatenate([memory[:, size:], applied], axis=1)
        return self._look_back(memory, size, np.floor(self._delays(memory)))

    def split(self, memory: Array, size: int) -> SplitStep | None:
        """Return what moves the robot in the step's first part, and for how many substeps."""
        delays = self._delays(memory)
        substeps = np.rint((delays - np.floor(delays)) * self.substeps).astype(int)
        if not substeps.any():
            return None
        return SplitStep(self._look_back(memory, size, np.ceil(delays)), substeps)

    def _delays(self, memory: Array) -> Array:
        """Return each world's delay, (n,); on whole substeps exactly."""
        delays = np.broadcast_to(np.ravel(self.value), len(memory))
        return np.rint(delays * self.substeps) / self.substeps

    def _look_back(self, memory: Array, size: int, steps: Array) -> Array:
        """Return the actions (n, A) of so many steps ago, (n,)."""
        line = memory.reshape(len(memory), -1, size)
        return line[np.arange(len(line)), line.shape[1] - 1 - steps.astype(int)]


class ObservationNoise(Effect):
    """Gaussian noise on every observed number, of the standard deviation `value`."""

    name, unit, low, high = "observation_noise", "standard deviation", 0.0, 100.0
    can_be_drawn = True
    meaning = "Gaussian noise on every observed number"

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Add noise from the world's own stream."""
        return obs + self.value * random.standard_normal(obs.shape[1])


class Quantization(Effect):
    """Every observed number is rounded to a multiple of `value`; 0 does nothing."""

    name, unit, low, high = "quantization", "observed units", 0.0, 100.0
    can_be_drawn = True
    meaning = "every observed number is rounded to a multiple (0: off)"

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Round to the nearest multiple."""
        step = np.where(self.value == 0, 1.0, self.value)
        return np.where(self.value == 0, obs, np.round(obs / step) * step)


class ObservationDelay(Effect):
    """The policy sees what was observed some steps before, the first observation until then."""

    name, unit, low, high, whole = "observation_delay", "steps", 0, 100, True
    can_be_drawn = True
    meaning = "the policy sees the past; the first observation until then"

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of the line in which observations wait."""
        return int(self.value) * obs_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Fill the line with the first observation."""
        memory[:] = np.tile(obs, int(self.value))

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Put the observation into the line; return the one that has waited long enough."""
        return _exchange(memory, obs, self.value)


def _exchange(queue: Array, newest: Array, delay: Any) -> Array:
    """Put rows (n, K) at the end of a queue (n, L K), in place; return those of `delay` steps ago.

    That is the first ones where all worlds have one delay, else each world's own (n, 1).
    """
    n, size = newest.shape
    longer = np.concatenate([queue, newest], axis=1)
    queue[:] = longer[:, size:]
    if np.ndim(delay) == 0:
        return longer[:, :size]
    line = longer.reshape(n, -1, size)
    return line[np.arange(n), line.shape[1] - 1 - delay[:, 0].astype(int)]


class EffectRegistry(Registry[type[Effect]]):
    """The effects by name, in the order in which they apply.

    First those of actuation and of the sensors, the built-in ones before others, then what a policy
    may see.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), key=self._is_sensing))

    def _is_sensing(self, name: str) -> bool:
        return self[name].is_sensing


_BUILT_IN = (
    WeakMotors,
    ActionDelay,
    ObservationNoise,
    Quantization,
    ObservationDelay,
    History,
    PreviousAction,
)
EFFECTS = EffectRegistry("effect", "effects", {effect.name: effect for effect in _BUILT_IN})


def register_effect(effect: type[Effect]) -> type[Effect]:
    """Make an effect known by its name: a class decorator.

    Raises BadValue where it does not declare what an effect must, or has the name of a built-in
    one.
    """
    for attribute in ("name", "unit", "low", "high", "meaning"):
        if not hasattr(effect, attribute):
            raise BadValue(
                f"the effect {effect.__name__} declares no {attribute}; write {attribute} = ... in "
                "its class"
            )
    EFFECTS.add(effect.name, effect)
    return effect
