"""What stands between a simulator and a policy that is not physics: the contract of an effect, and
the chain of a domain's effects.

An effect is a small transformation of the applied action or of the observation; its memory is a
row of floats a world (delay queues, histories), so that worlds stay plain arrays. The task's
control cost is always charged on the commanded action, whatever an effect does to the applied one.
What a robot is told when nothing has been commanded yet is its neutral action, which holds its
start: zero for torque motors, the pose for position servos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from isthmus.physics.random import Streams
from isthmus.types import BadValue

Array = np.ndarray


@dataclass(frozen=True)
class Effect:
    """The contract of an effect; `value` is what the user wrote after the name.

    `memory` arrays are [n, memory_size] views that an effect may write to; n worlds at once.
    """

    value: float
    name: ClassVar[str]
    unit: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    meaning: ClassVar[str]
    whole: ClassVar[bool] = False
    """The value is a whole number."""
    is_sensing: ClassVar[bool] = False
    """It says what a policy may see, and comes after what happens to actions and observations."""

    def check(self) -> Self:
        """Return this effect. Raises BadValue where its value is out of bounds."""
        in_bounds = self.low <= self.value <= self.high  # which NaN is not
        if not in_bounds or (self.whole and self.value != int(self.value)):
            kind = "a whole number in " if self.whole else ""
            raise BadValue(
                f"{self.name}={self.value:g}: needs {kind}{self.low:g}..{self.high:g} {self.unit}"
            )
        return self

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return how many floats of memory a world needs; `obs_size` is that of what is sensed."""
        return 0

    def sensed_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of the observation that this effect passes on."""
        return obs_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Set the memory of worlds whose episode begins with `obs` (n, O) and the neutral action
        (n, A).
        """

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Return what reaches the next effect, and at last the actuators, (n, A)."""
        return applied

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees after a step."""
        return obs

    def sense_first(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees at an episode's begin."""
        return self.sense(memory, obs, random)


class _Link(NamedTuple):
    """An effect of a chain, and its part of the row of memory."""

    effect: Effect
    part: slice


class EffectChain:
    """All effects of a domain, one after the other over one row of memory a world.

    `memory_size` is that row's, `obs_size` is that of what the policy sees.
    """

    def __init__(self, effects: tuple[Effect, ...], obs_size: int, action_size: int):
        self.effects, self.action_size = effects, action_size
        self._links: list[_Link] = []
        start = 0
        for effect in effects:
            end = start + effect.memory_size(obs_size, action_size)
            self._links.append(_Link(effect, slice(start, end)))
            obs_size = effect.sensed_size(obs_size, action_size)
            start = end
        self.memory_size, self.obs_size = start, obs_size

    def begin(
        self, memory: Array, obs: Array, random: Streams, neutral: Array | None = None
    ) -> Array:
        """Return the observation (n, O) that the policy sees at an episode's begin; sets `memory`.

        `neutral` (n, A) is what the robots were told before anything was commanded; zeros where
        nothing is said.
        """
        if neutral is None:
            neutral = np.zeros((len(obs), self.action_size))
        for effect, part in self._links:
            effect.begin(memory[:, part], obs, neutral)
            obs = effect.sense_first(memory[:, part], obs, random)
        return obs

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Return what the actuators get, (n, A), of what was to be applied."""
        for effect, part in self._links:
            applied = effect.act(memory[:, part], commanded=commanded, applied=applied)
        return applied

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees after a step, (n, O)."""
        for effect, part in self._links:
            obs = effect.sense(memory[:, part], obs, random)
        return obs
