"""Gaps between a simulator and a robot that are not physics, and what a policy may sense to see through them.

A gap is a small transformation of the executed action or of the observation; its memory is a row of floats a world
(delay queues, histories), so that worlds stay plain arrays. The task's control cost is always charged on the chosen
action, whatever a gap does to the executed one. What a robot is told when nothing has been chosen yet is its neutral
action, which holds its start: zero for torque motors, the pose for position servos.
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
class Gap:
    """The contract; `value` is what the user wrote after the name.

    `memory` arrays are [n, size] views that a gap may write to; n worlds at once.
    """

    value: float
    name: ClassVar[str]
    unit: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    whole: ClassVar[bool] = False  # the value is a whole number
    meaning: ClassVar[str]

    def check(self) -> Gap:
        if not self.low <= self.value <= self.high or (self.whole and self.value != int(self.value)):
            kind = "a whole number in " if self.whole else ""
            raise BadValue(f"{self.name}={self.value:g}: needs {kind}{self.low:g}..{self.high:g} {self.unit}")
        return self

    def size(self, observation: int, action: int) -> int:
        """Floats of memory a world, given the observation's size as this gap receives it."""
        return 0

    def observation(self, observation: int, action: int) -> int:
        """Size of the observation that this gap passes on."""
        return observation

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Set the memory of worlds whose episode begins with `obs` (n, O) and the neutral action (n, A)."""

    def act(self, memory: Array, executed: Array, chosen: Array) -> Array:
        """What reaches the next gap, and at last the actuators, (n, A)."""
        return executed

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """What the policy sees, after a step."""
        return obs

    def first(self, memory: Array, obs: Array, random: Streams) -> Array:
        """What the policy sees at an episode's begin."""
        return self.sense(memory, obs, random)


class WeakMotors(Gap):
    """The motors' force is scaled: by the action where it is proportional to it, else in the simulator (see
    `Domain.motor_force`), for a servo's action is where it goes. Of an environment that is not ours nobody knows, and
    the action is scaled.
    """

    name, unit, low, high = "weak_motors", "x", 0.0, 10.0
    meaning = "the motors' force is scaled (in environments that are not ours: the executed action)"

    def act(self, memory, executed, chosen):
        return executed * np.float32(self.value)


class ActionDelay(Gap):
    name, unit, low, high, whole = "action_delay", "steps", 0, 100, True
    meaning = "an action is executed so many steps after it was chosen; the neutral action until then"

    def size(self, observation, action):
        return int(self.value) * action

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory, executed, chosen):
        a = executed.shape[1]
        queue = np.concatenate([memory, executed], axis=1)
        memory[:] = queue[:, a:]
        return queue[:, :a]


class ObservationNoise(Gap):
    name, unit, low, high = "observation_noise", "standard deviation", 0.0, 100.0
    meaning = "Gaussian noise on every observed number"

    def sense(self, memory, obs, random):
        return obs + self.value * random.standard_normal(obs.shape[1])


class Quantization(Gap):
    name, unit, low, high = "quantization", "observed units", 0.0, 100.0
    meaning = "every observed number is rounded to a multiple (0: off)"

    def sense(self, memory, obs, random):
        return obs if self.value == 0 else np.round(obs / self.value) * self.value


class ObservationDelay(Gap):
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


class History(Gap):
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


class PreviousAction(Gap):
    name, unit, low, high, whole = "previous_action", "actions", 0, 1, True
    meaning = "sensing: the policy sees the action it chose last (the neutral one at first)"

    def size(self, observation, action):
        return int(self.value) * action

    def observation(self, observation, action):
        return observation + int(self.value) * action

    def begin(self, memory, obs, neutral):
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory, executed, chosen):
        if self.value:
            memory[:] = chosen
        return executed

    def sense(self, memory, obs, random):
        return np.concatenate([obs, memory], axis=1)


GAPS: Mapping[str, type[Gap]] = {
    # In the order in which they apply: to the action first, then to the observation.
    gap.name: gap
    for gap in (WeakMotors, ActionDelay, ObservationNoise, Quantization, ObservationDelay, History, PreviousAction)
}


class Gaps:
    """All gaps of a domain, one after the other over one row of memory a world."""

    def __init__(self, gaps: tuple[Gap, ...], observation: int, action: int):
        self.gaps, self.parts, self.action, start = gaps, [], action, 0
        for gap in gaps:
            size = gap.size(observation, action)
            self.parts.append(slice(start, start + size))
            start, observation = start + size, gap.observation(observation, action)
        self.memory, self.observation = start, observation

    def begin(self, memory: Array, obs: Array, random: Streams, neutral: Array | None = None) -> Array:
        """Observation (n, O) that the policy sees at an episode's begin; sets `memory` (n, ?).

        `neutral` (n, A) is what the robots were told before anything was chosen; zeros where nothing is said.
        """
        if neutral is None:
            neutral = np.zeros((len(obs), self.action))
        for gap, part in zip(self.gaps, self.parts, strict=True):
            gap.begin(memory[:, part], obs, neutral)
            obs = gap.first(memory[:, part], obs, random)
        return obs

    def act(self, memory: Array, executed: Array, chosen: Array) -> Array:
        for gap, part in zip(self.gaps, self.parts, strict=True):
            executed = gap.act(memory[:, part], executed, chosen)
        return executed

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        for gap, part in zip(self.gaps, self.parts, strict=True):
            obs = gap.sense(memory[:, part], obs, random)
        return obs
