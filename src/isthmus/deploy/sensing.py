"""What a policy sees of its past, as a part of its model: history, previous action."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.deploy.graph import PolicyGraph
from isthmus.domains.domain import Domain
from isthmus.domains.effect_chain import Effect
from isthmus.domains.sensing import History, PreviousAction
from isthmus.types import Array, BadValue


def list_sensing(domain: Domain) -> tuple[Effect, ...]:
    """Return the effects of a domain that say what a policy may see, in their order.

    Raises BadValue for one that cannot be put into a model.
    """
    sensing = tuple(effect for effect in domain.effects if effect.is_sensing)
    for effect in sensing:
        if type(effect) not in (History, PreviousAction):
            raise BadValue(
                f"the policy sees through the effect {effect.name}, which no model holds; "
                "history and previous_action can be exported"
            )
    return sensing


def history_length(domain: Domain) -> int:
    """Return how many observations a policy of a domain sees side by side."""
    for effect in domain.effects:
        if isinstance(effect, History):
            return int(effect.value)
    return 1


def sees_previous_action(domain: Domain) -> bool:
    """Return whether a policy of a domain sees the action that it commanded last."""
    return any(isinstance(effect, PreviousAction) and effect.value for effect in domain.effects)


def newest_observation(domain: Domain, seen: Array) -> Array:
    """Return the newest observation [..., O] of what a policy sees."""
    size = domain.inner_spaces().observation
    start = (history_length(domain) - 1) * size
    return seen[..., start : start + size]


def add_sensing(domain: Domain, graph: PolicyGraph, neutral: np.ndarray) -> str:
    """Add a domain's history and previous action before its policy; return what that sees.

    Raises BadValue where it sees through another effect.
    """
    list_sensing(domain)
    seen = graph.observation
    length = history_length(domain)
    if length > 1:
        seen = _add_history(graph, seen, length)
    if sees_previous_action(domain):
        first = graph.constant(neutral[None]) if np.any(neutral) else None
        previous = graph.remember("previous_action", neutral.size, "episode", first)
        seen = graph.add("Concat", seen, previous, axis=-1)
    return seen


def _add_history(graph: PolicyGraph, observation: str, length: int) -> str:
    """Add a memory of the observations before; the first one takes their places at first."""
    size = graph.obs_size
    first = observation
    if length > 2:
        first = graph.add("Concat", *[observation] * (length - 1), axis=-1)
    older = graph.remember("history", (length - 1) * size, "episode", first)
    seen = graph.add("Concat", older, observation, axis=-1)
    graph.keep("history", graph.columns(seen, size, length * size))
    return seen


def keep_action(domain: Domain, graph: PolicyGraph, action: str) -> None:
    """Keep the action where the policy sees it at the next step."""
    if sees_previous_action(domain):
        graph.keep("previous_action", action)


class SensedPolicy:
    """A run's policy with the domain's own history and previous action before it, in N worlds.

    What a model is held against: JAX, and the code that training saw through.
    """

    def __init__(self, policy: Any, domain: Domain, neutral: np.ndarray, n: int):
        from isthmus.domains.memories import initial_memory

        self.policy = policy
        self._chain = domain.effect_chain(list_sensing(domain))
        self._queue = np.zeros((n, self._chain.memory_size))
        self._neutral = np.repeat(neutral[None], n, axis=0)
        self._initial = initial_memory([policy], n)
        self._memory = self._initial

    def act(
        self, observation: np.ndarray, new_episode: bool = False, new_task: bool = False
    ) -> np.ndarray:
        """Return actions [N, A] for observations [N, O] before sensing."""
        from isthmus.domains.jitted import act_worlds

        random: Any = None  # neither effect draws
        if new_episode:
            seen = self._chain.begin(self._queue, observation, random, self._neutral)
        else:
            seen = self._chain.sense(self._queue, observation, random)
        if new_task:
            self._memory = self._initial
        action, self._memory = act_worlds()(self.policy, self._memory, seen.astype(np.float32))
        action = np.asarray(action)
        self._chain.act(self._queue, commanded=action, applied=action)
        return action
