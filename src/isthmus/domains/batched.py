"""Policies that are no tree of parameters: anything that takes observations [N, O] to actions
[N, A].

They are called with NumPy arrays, beside the jitted calls of the policies that are trained here.
"""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.domains.behaviours import Memory
from isthmus.domains.memories import MAX_BATCH, initial_memory, pad_rows, take_rows, write_rows
from isthmus.types import BadValue, Decision, IsthmusError

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

FORM = "act(observations [N, O]) gives actions [N, A]"
RECURRENT_FORM = "act(memory, observations [N, O]) gives actions [N, A] and the memory"


def is_jittable(policy: Any) -> bool:
    """Return whether a policy is a tree of parameters, whose calls jax compiles."""
    import jax

    return hasattr(policy, "memory") and not jax.tree_util.all_leaves([policy])


def fit_policy(policy: Any, domain: Domain) -> Any:
    """Return a policy as it acts in a domain: a tree of parameters as it is, else a `BatchPolicy`.

    Raises BadValue where it is no policy, or its observations are not this domain's.
    """
    if isinstance(policy, BatchPolicy) or is_jittable(policy):
        return policy
    name = name_policy(policy)
    if hasattr(policy, "for_domain"):
        policy = policy.for_domain(domain)
        if is_jittable(policy):
            return policy
    return BatchPolicy(policy, name, domain)


def describe_policy(policy: Any) -> dict[str, Any]:
    """Return what results that a policy from elsewhere gave depend on, as far as it says."""
    described = policy.describe() if hasattr(policy, "describe") else {}
    return {"name": name_policy(policy), **described}


def name_policy(policy: Any) -> str:
    """Return what errors call a policy: its name, or its type's."""
    for name in ("name", "__name__"):
        if isinstance(named := getattr(policy, name, None), str):
            return named
    return type(policy).__name__


class BatchPolicy:
    """A policy called with N worlds at once, in a domain; each answer is checked, and clipped to
    the robot's bounds.

    Calls have MAX_BATCH rows, the last world repeated: what a library computes for a row can
    depend on the number of rows, and must not depend on how many worlds are left.
    """

    def __init__(self, policy: Any, name: str, domain: Domain):
        self.name = name
        spaces = domain.spaces
        self.action_size, self.low, self.high = spaces.action, spaces.low, spaces.high
        self.remembers = callable(getattr(policy, "memory", None))
        self._policy = policy
        self._function = getattr(policy, "act", policy)
        if callable(self._function):
            return
        advice = ""
        if hasattr(policy, "predict"):
            advice = "; of SB3: lambda obs: model.predict(obs, deterministic=True)[0]"
        raise BadValue(f"{name} is no policy: it is not called, nor has it an act, {FORM}{advice}")

    def memory(self) -> Memory:
        """Return what one world remembers at the begin of an episode."""
        if not self.remembers:
            return ()
        import jax

        return jax.tree.map(np.asarray, self._policy.memory())

    def act(self, memory: Memory, observations: np.ndarray) -> tuple[np.ndarray, Memory]:
        """Return actions float32 [N, A] for observations [N, O], and the memory [N, ...].

        Raises BadValue, in one line, for an answer that is none.
        """
        n = len(observations)
        actions = np.empty((n, self.action_size), np.float32)
        renewed = initial_memory([self], n)
        for start in range(0, n, MAX_BATCH):
            rows = np.arange(start, min(start + MAX_BATCH, n))
            padded = pad_rows(rows, MAX_BATCH)
            obs = observations[padded].astype(np.float32)
            block, remembered = self._call(take_rows(memory, padded), obs)
            actions[rows] = np.clip(block[: len(rows)], self.low, self.high)
            if self.remembers:
                write_rows(renewed, rows, take_rows(remembered, np.arange(len(rows))))
        return actions, renewed

    def decide(
        self, behaviour: Any, memory: Memory, obs: np.ndarray, key: Any
    ) -> tuple[Decision, Memory]:
        """Return decisions of N worlds, as `jitted.decide_worlds` does: nothing is drawn."""
        action, memory = self.act(memory, obs)
        return Decision(action), memory

    def _call(self, memory: Memory, obs: np.ndarray) -> tuple[np.ndarray, Memory]:
        try:
            answer = self._function(memory, obs) if self.remembers else self._function(obs)
        except IsthmusError:
            raise
        except Exception as error:
            raise BadValue(f"{self.name}: {_describe_raised(error)}") from error
        if not self.remembers:
            return self._check(answer, FORM, obs), memory
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self._fault(f"gives {_describe_answer(answer)}", RECURRENT_FORM)
        actions, remembered = answer
        self._check_memory(remembered, memory)
        return self._check(actions, RECURRENT_FORM, obs), remembered

    def _fault(self, what: str, form: str) -> BadValue:
        return BadValue(f"{self.name} {what}; {form}")

    def _check(self, answer: Any, form: str, obs: np.ndarray) -> np.ndarray:
        """Return an answer for `obs` [n, O] as actions [n, A]. Raises BadValue where it is none."""
        if isinstance(answer, tuple | list | dict):
            raise self._fault(f"gives {_describe_answer(answer)}", form)
        actions, n = np.asarray(answer), len(obs)
        if actions.shape != (n, self.action_size) or actions.dtype.kind not in "fiu":
            what = f"gives {actions.dtype} of shape {actions.shape} for N={n}, A={self.action_size}"
            raise self._fault(what, form)
        if not math.isfinite(actions.sum()):
            self._check_finite(actions, obs)
        return actions

    def _check_finite(self, actions: np.ndarray, obs: np.ndarray) -> None:
        """Raise BadValue for an action that is not finite, where the observation is."""
        bad = ~np.isfinite(actions) & np.isfinite(obs).all(1, keepdims=True)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            value = actions[row, column]
            raise BadValue(f"{self.name}: action {column} is {value} at a finite observation")

    def _check_memory(self, remembered: Any, memory: Memory) -> None:
        """Raise BadValue where a memory that was given back has other arrays than the initial."""
        import jax

        shapes, structures = [], []
        for tree in (remembered, memory):
            shapes.append([np.shape(leaf) for leaf in jax.tree.leaves(tree)])
            structures.append(jax.tree.structure(tree))
        if shapes[0] != shapes[1] or structures[0] != structures[1]:
            what = f"gives a memory of shapes {shapes[0]}, not {shapes[1]} as memory() for N worlds"
            raise self._fault(what, RECURRENT_FORM)


def _describe_answer(answer: Any) -> str:
    """Say what a policy gave that is no array."""
    kind = f"a {type(answer).__name__}"
    if isinstance(answer, tuple | list):
        return f"{kind} of {len(answer)}"
    return kind


def _describe_raised(error: Exception) -> str:
    """Say what a policy raised, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason} ({Path(last.filename).name}:{last.lineno})"


class BatchPlayers:
    """M policies, of which at least one is a `BatchPolicy`, that share N worlds out evenly."""

    def __init__(self, policies: list[Any], n: int, action_size: int):
        if n % len(policies):
            raise BadValue(f"{n} worlds cannot be shared out evenly among {len(policies)} policies")
        for policy in policies:
            if not isinstance(policy, BatchPolicy):
                raise BadValue(f"{name_policy(policy)} is jitted, others are not: play them apart")
        share = n // len(policies)
        self.policies, self.worlds = policies, np.arange(n).reshape(-1, share)
        self.memories = [initial_memory([policy], share) for policy in policies]
        self.action = np.zeros((n, action_size), np.float32)

    def act(self, observation: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Return actions (N, A), new ones where the episode has not ended (bool [N])."""
        for policy, worlds, memory in zip(self.policies, self.worlds, self.memories, strict=True):
            living = np.flatnonzero(~ended[worlds])
            if not len(living):
                continue
            ids = worlds[living]
            self.action[ids], renewed = policy.act(take_rows(memory, living), observation[ids])
            write_rows(memory, living, renewed)
        return self.action
