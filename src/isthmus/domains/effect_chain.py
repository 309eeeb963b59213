"""What stands between a simulator and a policy that is not physics: the contract of an effect, and
the chain of a domain's effects.

An effect is a small transformation of the applied action or of the observation; its memory is a
row of floats a world (delay queues, histories), so that worlds stay plain arrays. The task's
control cost is always charged on the commanded action, whatever an effect does to the applied one.
What a robot is told when nothing has been commanded yet is its neutral action, which holds its
start: zero for torque motors, the pose for position servos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from isthmus.physics.random import Streams
from isthmus.types import BadValue

Array = np.ndarray


class SplitStep(NamedTuple):
    """What moves robots in the first part of a control step."""

    earlier: Array  # (n, A)
    substeps: Array  # int (n,), of physics: 0 where nothing is split


@dataclass(frozen=True)
class Effect:
    """The contract of an effect; `value` is what the user wrote after the name.

    `memory` arrays are [n, memory_size] views that an effect may write to; n worlds at once. Where
    an effect `can_be_drawn`, `act` and `sense` may find each world's own value (n, 1) in place of
    one number; the other methods find the largest.
    """

    value: Any  # float, or float64 (n, 1)
    name: ClassVar[str]
    unit: ClassVar[str]
    low: ClassVar[float]
    high: ClassVar[float]
    meaning: ClassVar[str]
    whole: ClassVar[bool] = False
    """The value is a whole number."""
    is_sensing: ClassVar[bool] = False
    """It says what a policy may see, and comes after what happens to actions and observations."""
    can_be_drawn: ClassVar[bool] = False
    """Its value may differ between worlds."""
    without: ClassVar[float] = 0.0
    """The value that does nothing."""

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

    def split(self, memory: Array, size: int) -> SplitStep | None:
        """Return what moves the robots in the first part of a step that `act` has begun; None where
        nothing but its own result does. `size` is an action's.
        """
        return None

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees after a step."""
        return obs

    def sense_first(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees at an episode's begin."""
        return self.sense(memory, obs, random)


class _Link(NamedTuple):
    """An effect of a chain, and its part of the row of memory.

    Of a drawn effect `drawn` is its column of the worlds' parameters, and `kept` the place in the
    row where each world's value is.
    """

    effect: Effect
    part: slice
    drawn: int | None
    kept: int

    def of_worlds(self, memory: Array) -> Effect:
        """Return the effect as worlds of these rows (n, memory) have it."""
        if self.drawn is None:
            return self.effect
        return replace(self.effect, value=memory[:, self.kept, None].copy())


class EffectChain:
    """All effects of a domain, one after the other over one row of memory a world.

    `memory_size` is that row's, `obs_size` is that of what the policy sees. `drawn` has, by name,
    the columns of the worlds' parameters that hold the values of drawn effects.
    """

    def __init__(
        self,
        effects: tuple[Effect, ...],
        obs_size: int,
        action_size: int,
        drawn: Mapping[str, int] | None = None,
    ):
        self.effects, self.action_size = effects, action_size
        self._links: list[_Link] = []
        start = 0
        for effect in effects:
            column = (drawn or {}).get(effect.name)
            kept, start = start, start + (column is not None)
            end = start + effect.memory_size(obs_size, action_size)
            self._links.append(_Link(effect, slice(start, end), column, kept))
            obs_size = effect.sensed_size(obs_size, action_size)
            start = end
        self.memory_size, self.obs_size = start, obs_size

    def begin(
        self,
        memory: Array,
        obs: Array,
        random: Streams,
        neutral: Array | None = None,
        parameters: Array | None = None,
    ) -> Array:
        """Return the observation (n, O) that the policy sees at an episode's begin; sets `memory`.

        `neutral` (n, A) is what the robots were told before anything was commanded; zeros where
        nothing is said. `parameters` (n, P) are the worlds', for drawn effects.
        """
        if neutral is None:
            neutral = np.zeros((len(obs), self.action_size))
        for link in self._links:
            part = memory[:, link.part]
            if link.drawn is not None and parameters is not None:
                memory[:, link.kept] = parameters[:, link.drawn]
            link.effect.begin(part, obs, neutral)
            obs = link.of_worlds(memory).sense_first(part, obs, random)
        return obs

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Return what the actuators get, (n, A), of what was to be applied."""
        for link in self._links:
            effect, part = link.of_worlds(memory), memory[:, link.part]
            applied = effect.act(part, commanded=commanded, applied=applied)
        return applied

    def split(self, memory: Array) -> SplitStep | None:
        """Return what moves the robots in the first part of the step; None where nothing does."""
        for link in self._links:
            part = link.of_worlds(memory).split(memory[:, link.part], self.action_size)
            if part is not None:
                return part
        return None

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return what the policy sees after a step, (n, O)."""
        for link in self._links:
            obs = link.of_worlds(memory).sense(memory[:, link.part], obs, random)
        return obs
