"""What the parts of Isthmus hand to each other: arrays with names, and the errors a user can meet.

Shape letters, used in every docstring of the package:

    T time steps    N worlds    M members (seeds or policies side by side)    B batch rows
    O observation   A action    P physical parameters    S numbers in one exact physics row
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Array = Any  # a NumPy or JAX array: learning code takes both
Metrics = dict[str, float]


class IsthmusError(Exception):
    """A mistake that its user can mend: the message is one line that names the fix."""


class UnknownName(IsthmusError):
    """A name that is not in a table; the message lists the nearest names that are, and `advice`
    where there is some.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = ""):
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__("; ".join(filter(None, [f"unknown {kind} {name!r}", hint, advice])))


class BadValue(IsthmusError, ValueError):
    """A value of the wrong type or outside its bounds."""


def decode_text(text: str) -> str:
    """Return what was typed in UTF-8 where the locale could not read it: Python hands on its bytes
    as surrogates.

    Not for paths, which are such bytes to the operating system too. Text that is no UTF-8 stays as
    it is.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def describe_error(error: BaseException) -> str:
    """Return an error's type and the first line of its message; where it has none, also where it
    was raised.
    """
    kind = type(error).__name__
    lines = str(error).strip().splitlines()
    if lines:
        return f"{kind}: {lines[0]}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return kind
    last = frames[-1]
    return f"{kind} without a message in {last.filename}:{last.lineno}: {last.line}"


class BudgetExceeded(IsthmusError):
    """The meter refused: the next batch would touch the target more than the problem allows."""


class Spaces(NamedTuple):
    """What a learner may know of a domain.

    `low` and `high` (A,) bound the actions; `parameters` is the number of physical parameters that
    are recorded with each world (a privileged critic sees them).
    """

    observation: int
    low: np.ndarray
    high: np.ndarray
    parameters: int = 0

    @property
    def action(self) -> int:
        """Return how many numbers an action has."""
        return len(self.low)


class Decision(NamedTuple):
    """One world's choice.

    `action` (A,) is stored and charged by the task's control cost; `applied` (A,) goes to the
    actuators (None: the same); `extra` is what the method wants back with the transition.
    """

    action: Array
    applied: Array | None = None
    extra: Mapping[str, Array] = {}


class Transition(NamedTuple):
    """Transitions [T, N, ...] of N worlds over T steps, as NumPy arrays.

    `next_obs` is always the true next state, also at an episode's end: resets are kept apart.
    `terminated` is death, `truncated` a time limit: values bootstrap there. `parameters` [T, N, P]
    are the dynamics in force, NaN where nobody knows them.
    """

    obs: Array  # float32 [T, N, O]
    action: Array  # float32 [T, N, A]
    reward: Array  # float32 [T, N]
    next_obs: Array  # float32 [T, N, O]
    terminated: Array  # bool [T, N]
    truncated: Array  # bool [T, N]
    parameters: Array  # float32 [T, N, P]
    extra: Mapping[str, Array]  # [T, N, ...]

    def of_target(self) -> Transition:
        """The same as training may see it of a target, of which nobody knows the dynamics."""
        return self._replace(parameters=np.full_like(self.parameters, np.nan))


class Worlds(NamedTuple):
    """N worlds as a value: everything their future depends on. All arrays are NumPy's, float64
    unless said.

    Derived fields of a physics engine lag behind its state, so that the last observation cannot be
    rebuilt from the rows: it is part of the value.
    """

    rows: Array  # [N, S] the engine's exact state
    parameters: Array  # [N, P] the dynamics drawn for each world's task
    observation: Array  # [N, O] what the policy sees next (after effects and sensing)
    task_memory: Array  # [N, ?] what the task needs of the step before
    effect_memory: Array  # [N, ?] delay queues, histories
    behaviour_memory: Any  # a tree with leading axis N
    key: Array  # uint64 [N], each world's own
    task: Array  # int64 [N] tasks begun: dynamics are drawn per task
    episode: Array  # int64 [N] episodes begun
    step: Array  # int64 [N] steps since the episode began
    total: Array  # int64 [N] steps ever
    returns: Array  # [N] reward since the episode began
    finished: Array  # int64 [N] episodes finished
    diverged: Array  # int64 [N] episodes ended because the physics blew up
    diverged_rows: Array  # [N, S] the last finite state before the last divergence

    @property
    def size(self) -> int:
        """Return how many worlds there are."""
        return len(self.key)


class Episodes(NamedTuple):
    """Finished episodes of `rollout_episodes`, one row an episode."""

    returns: Array  # float64 [E]
    lengths: Array  # int64 [E]
    terminated: Array  # bool [E]
    diverged: Array  # bool [E]
    parameters: Array  # float64 [E, P]
    # float64 [E] the task's own measure of progress at the end (metres, or distance to the goal)
    forward: Array
    # bool [E] at the goal at the end; of foreign environments, what the last info says, if anything
    success: Array
