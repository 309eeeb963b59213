"""What acts in worlds: policies as they are deployed, and behaviours as they explore."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from isthmus.types import Array, Decision

Memory = Any
"""What is remembered between decisions: a tree of arrays, of N worlds with a leading axis [N]."""


class Policy(Protocol):
    """One world's policy, a tree of its parameters; calls are batched by `jax.vmap`."""

    def memory(self) -> Memory:
        """Return what is remembered at the begin of a task."""
        ...

    def act(self, memory: Memory, observation: Array, /) -> tuple[Array, Memory]:
        """Return an action (A,) and what is remembered."""
        ...


PolicyLike = Any
"""What plays: a `Policy`; or from elsewhere an object with `act(observations [N, O])`, which gives
actions [N, A], such a function, or what `isthmus.load_policy` gives. Where one remembers, it has
`memory()`, one world's, and `act(memory, observations)` gives actions and the memory."""


class Behaviour(Protocol):
    """One world's exploring policy, which draws from a key."""

    def memory(self) -> Memory:
        """Return what is remembered at the begin of a task."""
        ...

    def act(self, memory: Memory, observation: Array, key: Array, /) -> tuple[Decision, Memory]:
        """Return a decision and what is remembered."""
        ...


class InformedObservation(NamedTuple):
    """What a behaviour is given that sees more than a deployed policy can: in training alone."""

    observation: Array  # (O,)
    dynamics: Array  # (P,), the parameters drawn for the world's task
