"""The contract of a learner that learns from its own transitions, and how its settings are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from isthmus.types import Array, BadValue, Metrics, Spaces, Transition


class LearnerDefaults:
    """What a learner has that says nothing else."""

    random_steps: int = 0  # a learner that begins by acting at random makes it a setting


class Learner(Protocol):
    """A frozen dataclass of settings; what it learns is in its state, one tree of arrays."""

    @property
    def random_steps(self) -> int:
        """Return the first transitions that are taken at random: 0 by `LearnerDefaults`."""
        ...

    @property
    def privileged(self) -> bool:
        """Whether the critic sees the drawn dynamics; a target's are NaN: `normalization.told` and
        `known`.
        """
        ...

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """(worlds, steps) of one round."""
        ...

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue where a round of so many worlds and steps is none to learn from."""
        ...

    def init(self, spaces: Spaces, key: Array) -> Any: ...

    def random(self, s: Any) -> Any:
        """What collects before the first round."""
        ...

    def observe(self, s: Any, tr: Transition) -> Any:
        """The state with transitions [T, N, ...] merged into its moments."""
        ...

    def behaviour(self, s: Any) -> Any:
        """What collects."""
        ...

    def policy(self, s: Any) -> Any:
        """What is deployed."""
        ...

    def learn(self, s: Any, tr: Transition, key: Array) -> tuple[Any, Metrics]:
        """One round: transitions [T, N, ...] to a new state."""
        ...

    def warm_start(self, s: Any) -> Any:
        """The state to go on with in other worlds."""
        ...

    def with_num_worlds(self, worlds: int) -> Any:
        """The same learner for another number of worlds."""
        ...


def learn_each(
    learner: Learner, states: list[Any], trs: list[Transition], keys: list[Array]
) -> list[Any]:
    """`learn` for each of several states, which may not change a bit of any: by the learner's own
    `learn_each`, where it has one program for many.
    """
    if together := getattr(learner, "learn_each", None):
        return together(states, trs, keys)
    return [learner.learn(*each)[0] for each in zip(states, trs, keys, strict=True)]


WHOLE: tuple[Callable[[Any], Any], str] = (lambda x: x >= 1, "a whole number from 1 on")
EVEN: tuple[Callable[[Any], Any], str] = (
    lambda x: x >= 2 and x % 2 == 0,
    "an even number from 2 on",
)
ABOVE_ZERO: tuple[Callable[[Any], Any], str] = (lambda x: 0 < x < np.inf, "a number above 0")
FROM_ZERO: tuple[Callable[[Any], Any], str] = (lambda x: 0 <= x < np.inf, "a number from 0 on")
FRACTION: tuple[Callable[[Any], Any], str] = (lambda x: 0 <= x <= 1, "a number in 0..1")
FINITE: tuple[Callable[[Any], Any], str] = (np.isfinite, "a number")


def check_minibatch(minibatch: int, worlds: int, steps: int) -> None:
    """Raise BadValue for a minibatch beyond a round: it would be trained on nothing."""
    if minibatch > worlds * steps:
        raise BadValue(
            f"minibatch={minibatch} is more than a round's {worlds * steps} transitions; lower it"
        )


def check_settings(
    learner: Any, *rules: tuple[Iterable[str], tuple[Callable[[Any], Any], str]], where: str = ""
) -> None:
    """Raise BadValue for the first setting that breaks its rule: names, and what their values need."""
    for names, (good, needs) in rules:
        for name in names:
            if not good(value := getattr(learner, name)):
                raise BadValue(f"{where}{name}={value}: needs {needs}")
