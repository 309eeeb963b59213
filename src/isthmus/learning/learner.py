"""The contract of a learner, which learns in one domain from its own transitions: arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, Self, TypeVar

from isthmus.learning.settings import Settings
from isthmus.types import Array, BadValue, Metrics, Spaces, Transition

S = TypeVar("S")  # a learner's state: one tree of arrays
Health = dict[str, Array]  # scalars by name, of an update inside jit


class Learner(Protocol[S]):
    """A frozen dataclass of settings; what it learns is in its state S, one tree of arrays.

    `BaseLearner` has defaults for what few learners need: `privileged`, `random_steps`,
    `check_rollout_shape` and `learn_each`.
    """

    @property
    def privileged(self) -> bool:
        """Whether the critic sees the drawn dynamics.

        A target's are NaN: `normalization.normalize_with_missing` and `drop_unknown_rows`.
        """
        ...

    @property
    def random_steps(self) -> int:
        """Transitions in which `behaviour` acts at random, before anything is learned."""
        ...

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """(worlds, steps) of one round."""
        ...

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue where a round of so many worlds and steps is none to learn from."""
        ...

    def with_num_worlds(self, worlds: int) -> Self:
        """Return the same learner for another number of worlds."""
        ...

    def init(self, spaces: Spaces, key: Array) -> S:
        """Return the state before any transition."""
        ...

    def random(self, s: S) -> Any:
        """Return the behaviour that collects before the first round."""
        ...

    def observe(self, s: S, tr: Transition) -> S:
        """Return the state with transitions [T, N, ...] merged into its moments."""
        ...

    def behaviour(self, s: S) -> Any:
        """Return the behaviour that collects, which explores."""
        ...

    def policy(self, s: S) -> Any:
        """Return the policy that is deployed."""
        ...

    def learn(self, s: S, tr: Transition, key: Array) -> tuple[S, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state, and metrics."""
        ...

    def learn_each(
        self, states: Sequence[S], trs: Sequence[Transition], keys: Sequence[Array]
    ) -> list[S]:
        """Return what `learn` makes of each of several states, to the same bits."""
        ...

    def warm_start(self, s: S) -> S:
        """Return the state with which to go on in other worlds."""
        ...


class BaseLearner(Settings, Generic[S]):
    """What learners have in common, and defaults of the contract's optional parts."""

    worlds: int
    steps: int
    privileged: bool = False
    random_steps: int = 0

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """(worlds, steps) of one round."""
        return self.worlds, self.steps

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Do nothing: any round will do."""

    def with_num_worlds(self, worlds: int) -> Self:
        """Return the same learner for another number of worlds."""
        return replace(self, worlds=worlds)  # pyright: ignore[reportArgumentType]

    def learn(self, s: S, tr: Transition, key: Array) -> tuple[S, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state, and metrics."""
        raise NotImplementedError

    def learn_each(
        self, states: Sequence[S], trs: Sequence[Transition], keys: Sequence[Array]
    ) -> list[S]:
        """Return what `learn` makes of each of several states, one after the other.

        A learner that has one program for many overrides this, without changing a bit of any.
        """
        rounds = zip(states, trs, keys, strict=True)
        return [self.learn(s, tr, key)[0] for s, tr, key in rounds]


def check_minibatch(minibatch: int, worlds: int, steps: int) -> None:
    """Raise BadValue for a minibatch beyond a round: it would be trained on nothing."""
    if minibatch > worlds * steps:
        raise BadValue(
            f"minibatch={minibatch} is more than a round's {worlds * steps} transitions; lower it"
        )
