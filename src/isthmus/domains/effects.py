"""Effect between a simulator and a robot that are not physics, and what a policy may sense to see
through them.

A effect is a small transformation of the applied action or of the observation; its memory is a row
of floats a world (delay queues, histories), so that worlds stay plain arrays. The task's control
cost is always charged on the commanded action, whatever a effect does to the applied one. What a
robot is told when nothing has been commanded yet is its neutral action, which holds its start: zero
for torque motors, the pose for position servos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from isthmus.physics.random import Streams
from isthmus.types import BadValue

Array = np.ndarray


@dataclass(frozen=True)
class Effect:
    """The contract; `value` is what the user wrote after the name.

    `memory` arrays are [n, size] views that a effect may write to; n worlds at once.
    """

    value: float
    name: ClassVar[str]
    unit: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    whole: ClassVar[bool] = False  # the value is a whole number
    meaning: ClassVar[str]

    def check(self) -> Effect:
        if not self.low <= self.value <= self.high or (
            self.whole and self.value != int(self.value)
        ):
            kind = "a whole number in " if self.whole else ""
            raise BadValue(
                f"{self.name}={self.value:g}: needs {kind}{self.low:g}..{self.high:g} {self.unit}"
            )
        return self

    def size(self, observation: int, action: int) -> int:
        """Floats of memory a world, given the observation's size as this effect receives it."""
        return 0

    def observation(self, observation: int, action: int) -> int:
        """Size of the observation that this effect passes on."""
        return observation

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Set the memory of worlds whose episode begins with `obs` (n, O) and the neutral action
        (n, A).
        """

    def act(self, memory: Array, applied: Array, commanded: Array) -> Array:
        """What reaches the next effect, and at last the actuators, (n, A)."""
        return applied

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """What the policy sees, after a step."""
        return obs

    def first(self, memory: Array, obs: Array, random: Streams) -> Array:
        """What the policy sees at an episode's begin."""
        return self.sense(memory, obs, random)


class WeakMotors(Effect):
    """The motors' force is scaled: by the action where it is proportional to it, else in the
    simulator (see `Domain.motor_force`), for a servo's action is where it goes. Of an environment
    that is not ours nobody knows, and the action is scaled.
    """

    name, unit, low, high = "weak_motors", "x", 0.0, 10.0
    meaning = "the motors' force is scaled (in environments that are not ours: the applied action)"

    def act(self, memory, applied, commanded):
        return applied * np.float32(self.value)


class ActionDelay(Effect):
    name, unit, low, high, whole = "action_delay", "steps", 0, 100, True
    meaning = (
        "an action is applied so many steps after it was commanded; the neutral action until then"
    )

    def size(self, observation, action):
        return int(self.value) * action

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory, applied, commanded):
        a = applied.shape[1]
        queue = np.concatenate([memory, applied], axis=1)
        memory[:] = queue[:, a:]
        return queue[:, :a]


class ObservationNoise(Effect):
    name, unit, low, high = "observation_noise", "standard deviation", 0.0, 100.0
    meaning = "Gaussian noise on every observed number"

    def sense(self, memory, obs, random):
        return obs + self.value * random.standard_normal(obs.shape[1])


class Quantization(Effect):
    name, unit, low, high = "quantization", "observed units", 0.0, 100.0
    meaning = "every observed number is rounded to a multiple (0: off)"

    def sense(self, memory, obs, random):
        return obs if self.value == 0 else np.round(obs / self.value) * self.value


class ObservationDelay(Effect):
    name, unit, low, high, whole = "observation_delay", "steps", 0, 100, True
    meaning = "the policy sees the past; the first observation until then"

    def size(self, observation, action):
        return int(self.value) * observation

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(obs, int(self.value))

    def sense(self, memory, obs, random):
        o = obs.shape[1]
        queue = np.concatenate([memory, obs], axis=1)
        memory[:] = queue[:, o:]
        return queue[:, :o]


class History(Effect):
    name, unit, low, high, whole = "history", "observations", 1, 100, True
    meaning = "sensing: the policy sees its last observations side by side, newest last"

    def size(self, observation, action):
        return int(self.value) * observation

    def observation(self, observation, action):
        return int(self.value) * observation

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(obs, int(self.value))

    def sense(self, memory, obs, random):
        memory[:] = np.concatenate([memory[:, obs.shape[1] :], obs], axis=1)
        return memory.copy()

    def first(self, memory, obs, random):
        return memory.copy()


class PreviousAction(Effect):
    name, unit, low, high, whole = "previous_action", "actions", 0, 1, True
    meaning = "sensing: the policy sees the action it chose last (the neutral one at first)"

    def size(self, observation, action):
        return int(self.value) * action

    def observation(self, observation, action):
        return observation + int(self.value) * action

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory, applied, commanded):
        if self.value:
            memory[:] = commanded
        return applied

    def sense(self, memory, obs, random):
        return np.concatenate([obs, memory], axis=1)


EFFECTS: Mapping[str, type[Effect]] = {
    # In the order in which they apply: to the action first, then to the observation.
    effect.name: effect
    for effect in (
        WeakMotors,
        ActionDelay,
        ObservationNoise,
        Quantization,
        ObservationDelay,
        History,
        PreviousAction,
    )
}


class EffectChain:
    """All effects of a domain, one after the other over one row of memory a world."""

    def __init__(self, effects: tuple[Effect, ...], observation: int, action: int):
        self.effects, self.parts, self.action, start = effects, [], action, 0
        for effect in effects:
            size = effect.size(observation, action)
            self.parts.append(slice(start, start + size))
            start, observation = start + size, effect.observation(observation, action)
        self.memory, self.observation = start, observation

    def begin(
        self, memory: Array, obs: Array, random: Streams, neutral: Array | None = None
    ) -> Array:
        """Observation (n, O) that the policy sees at an episode's begin; sets `memory` (n, ?).

        `neutral` (n, A) is what the robots were told before anything was commanded; zeros where
        nothing is said.
        """
        if neutral is None:
            neutral = np.zeros((len(obs), self.action))
        for effect, part in zip(self.effects, self.parts, strict=True):
            effect.begin(memory[:, part], obs, neutral)
            obs = effect.first(memory[:, part], obs, random)
        return obs

    def act(self, memory: Array, applied: Array, commanded: Array) -> Array:
        for effect, part in zip(self.effects, self.parts, strict=True):
            applied = effect.act(memory[:, part], applied, commanded)
        return applied

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        for effect, part in zip(self.effects, self.parts, strict=True):
            obs = effect.sense(memory[:, part], obs, random)
        return obs
