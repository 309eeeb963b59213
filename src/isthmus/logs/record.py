"""Logs made here: one world of a domain under a behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isthmus.domains.behaviours import Behaviour, Memory, Policy, PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_steps
from isthmus.logs.log import Log, close_episodes, number_episodes
from isthmus.types import Array, BadValue, Decision, Transition

# Steps of a part: between two moves of the progress bar, and the most that Ctrl-C loses.
CHUNK_STEPS = 500
# The same where they cost a robot's time; beginning a part takes milliseconds, too many for each
# step.
LIVE_CHUNK_STEPS = 25
COLUMNS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


class Deterministic(NamedTuple):
    """A policy as a behaviour: it acts as it is deployed, without exploring."""

    policy: Policy

    def memory(self) -> Memory:
        """Return the policy's initial memory."""
        return self.policy.memory()

    def act(self, memory: Memory, observation: Array, key: Array) -> tuple[Decision, Memory]:
        """Return the policy's action for one observation (O,), and its memory."""
        action, memory = self.policy.act(memory, observation)
        return Decision(action), memory


def record_log(
    domain: Domain,
    behaviour: Behaviour | PolicyLike,
    steps: int,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Log:
    """Record `steps` transitions of one world under `behaviour`; the last episode is cut there.

    `on_step(done)` is called between parts. Ctrl-C ends the log early: what a robot did is not
    thrown away, but for the part under way. Raises BadValue for less than one step.
    """
    if steps < 1:
        raise BadValue(f"steps={steps}: needs a whole number above 0")
    parts: list[Transition] = []
    worlds, done = domain.worlds(1, seed), 0
    chunk = CHUNK_STEPS if domain.replayable else LIVE_CHUNK_STEPS
    try:
        while done < steps:
            worlds, part = rollout_steps(domain, worlds, behaviour, min(chunk, steps - done))
            parts.append(part)
            done += len(part.reward)
            if on_step:
                on_step(done)
    except KeyboardInterrupt:
        if not parts:
            raise
    return _join_parts(parts)


def _join_parts(parts: list[Transition]) -> Log:
    """Return the log of transitions [T, 1, ...], one part after the other."""
    columns = {}
    for name in COLUMNS:
        columns[name] = np.concatenate([getattr(part, name) for part in parts])
    return make_log(parts[0]._replace(**columns))


def make_log(tr: Transition) -> Log:
    """Return transitions [T, N, ...] as a log, one world after the other, cut at its end."""
    steps, worlds = tr.reward.shape
    columns: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        column = np.swapaxes(np.asarray(getattr(tr, name)), 0, 1)
        columns[name] = column.reshape(steps * worlds, *column.shape[2:])
    ends = columns["terminated"] | columns["truncated"]
    ends[steps - 1 :: steps] = True
    return close_episodes(Log(**columns, episode=number_episodes(ends)))
