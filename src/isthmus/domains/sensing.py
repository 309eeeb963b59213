"""What a policy may see beside the last observation: its past, with which it can see through the
effects of actuation and sensing.
"""

from __future__ import annotations

import numpy as np

from isthmus.domains.effect_chain import Array, Effect
from isthmus.physics.random import Streams


class History(Effect):
    """The policy sees its last observations side by side, newest last."""

    name, unit, low, high, whole = "history", "observations", 1, 100, True
    is_sensing = True
    meaning = "sensing: the policy sees its last observations side by side, newest last"

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of the observations that are kept."""
        return int(self.value) * obs_size

    def sensed_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of those side by side."""
        return int(self.value) * obs_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Fill the history with the first observation."""
        memory[:] = np.tile(obs, int(self.value))

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Drop the oldest observation and append the newest."""
        memory[:] = np.concatenate([memory[:, obs.shape[1] :], obs], axis=1)
        return memory.copy()

    def sense_first(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Return the history as `begin` left it."""
        return memory.copy()


class PreviousAction(Effect):
    """The policy sees the action that it commanded last, after the observation."""

    name, unit, low, high, whole = "previous_action", "actions", 0, 1, True
    is_sensing = True
    meaning = "sensing: the policy sees the action it chose last (the neutral one at first)"

    def memory_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of an action; 0 where it is off."""
        return int(self.value) * action_size

    def sensed_size(self, obs_size: int, action_size: int) -> int:
        """Return the size of an observation and an action."""
        return obs_size + int(self.value) * action_size

    def begin(self, memory: Array, obs: Array, neutral: Array) -> None:
        """Keep the neutral action."""
        memory[:] = np.tile(neutral, int(self.value))

    def act(self, memory: Array, *, commanded: Array, applied: Array) -> Array:
        """Keep the commanded action; the applied one passes."""
        if self.value:
            memory[:] = commanded
        return applied

    def sense(self, memory: Array, obs: Array, random: Streams) -> Array:
        """Append the action that was kept."""
        return np.concatenate([obs, memory], axis=1)
