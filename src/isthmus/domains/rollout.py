"""Where learning meets physics: behaviours and policies act in stepped worlds.

`rollout_steps` is for training, `rollout_episodes` for evaluation, `rollout_full_episodes` for a
memory that is kept through episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.domains.behaviours import Behaviour, InformedObservation, Memory, Policy
from isthmus.domains.stepped_worlds import StepOutcome, SteppedWorlds
from isthmus.physics.concurrency import check_jax_survived
from isthmus.types import Array, BadValue, Decision, Episodes, Transition, Worlds

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

MAX_BATCH = 64
"""Rows a policy call when playing: a row's bits depend on the batch's size (not on its neighbours),
so it is fixed."""


def rollout_steps(
    domain: Domain,
    worlds: Worlds,
    behaviour: Behaviour,
    steps: int,
    members: bool = False,
    before_step: Callable[[int], None] | None = None,
    informed: bool = False,
) -> tuple[Worlds, Transition]:
    """Step all N worlds under `behaviour`; return the worlds after, and transitions [T, N, ...].

    A world whose episode ends begins the next one at once; a behaviour's memory begins anew with a
    new task. With `members` the behaviour's leaves have a leading axis M, and worlds [0, N/M)
    follow the first. `before_step(n)` is called before each step, which makes n transitions. An
    `informed` behaviour is given `InformedObservation`s: it also sees the dynamics in force.
    """
    import jax

    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds)
    initial = _initial_memory(_list_behaviours(behaviour, members), worlds.size)
    memory = live.state["behaviour_memory"]
    if memory is None:
        memory = initial
    memory = _renew_memory(memory, initial, live.new_task)
    decide = _decide_members() if members else _decide()
    behaviour, keys = jax.device_put(behaviour), live.behaviour_keys(steps)
    record = _Record(live, steps)
    for t in range(steps):
        record.note_before(t)
        observation = record.arrays["obs"][t]
        if informed:
            observation = InformedObservation(observation, record.arrays["parameters"][t])
        decision, memory = decide(behaviour, memory, observation, keys[t])
        action = np.asarray(decision.action)
        applied = None if decision.applied is None else np.asarray(decision.applied)
        if before_step:
            before_step(worlds.size)
        outcome = live.step(live.all, commanded=action, applied=applied)
        record.note_after(t, decision, outcome)
        done = outcome.terminated | outcome.truncated
        if done.any():
            new_task = np.zeros(worlds.size, bool)
            new_task[done] = live.begin(live.all[done])
            memory = _renew_memory(memory, initial, new_task)
    live.state["behaviour_memory"] = jax.tree.map(np.asarray, memory)
    return live.worlds(), record.transitions()


class _Record:
    """Transitions [T, N, ...] of worlds while they are stepped."""

    def __init__(self, live: SteppedWorlds, steps: int):
        self.live = live
        self.shape = shape = steps, len(live.all)
        obs_shape = *shape, live.effects.obs_size
        self.arrays: dict[str, np.ndarray] = {
            "obs": np.empty(obs_shape, np.float32),
            "action": np.empty((*shape, live.domain.spaces.action), np.float32),
            "reward": np.empty(shape, np.float32),
            "next_obs": np.empty(obs_shape, np.float32),
            "terminated": np.empty(shape, bool),
            "truncated": np.empty(shape, bool),
            "parameters": np.empty((*shape, len(live.domain.names)), np.float32),
        }
        self.extra: dict[str, np.ndarray] = {}

    def note_before(self, t: int) -> None:
        """Write what holds before step `t`."""
        self.arrays["obs"][t] = self.live.state["observation"]
        self.arrays["parameters"][t] = self.live.state["parameters"]

    def note_after(self, t: int, decision: Decision, outcome: StepOutcome) -> None:
        """Write what was decided at step `t`, and what came of it."""
        self.arrays["action"][t] = decision.action
        self.arrays["reward"][t] = outcome.reward
        self.arrays["next_obs"][t] = self.live.state["observation"]
        self.arrays["terminated"][t] = outcome.terminated
        self.arrays["truncated"][t] = outcome.truncated
        for name, value in decision.extra.items():
            value = np.asarray(value)
            if name not in self.extra:
                self.extra[name] = np.empty((*self.shape, *value.shape[1:]), value.dtype)
            self.extra[name][t] = value

    def transitions(self) -> Transition:
        """Return the transitions as a value."""
        return Transition(**self.arrays, extra=self.extra)


def finished_returns(worlds: Worlds, transitions: Transition) -> np.ndarray:
    """Return the returns of the episodes that finished in `transitions`, float64 [E].

    `worlds` are those in which the transitions began.
    """
    running, finished = np.array(worlds.returns), []
    ended = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    for reward, done in zip(transitions.reward, ended, strict=True):
        running = running + reward
        finished.append(running[done])
        running = np.where(done, 0.0, running)
    return np.concatenate(finished) if finished else np.zeros(0)


def rollout_episodes(
    domain: Domain,
    worlds: Worlds,
    policy: Policy | Sequence[Policy],
    on_step: Callable[[SteppedWorlds, int], None] | None = None,
    before_step: Callable[[int], None] | None = None,
) -> Episodes:
    """Play one episode in each of the worlds, to its end; return them in the worlds' order.

    Only living worlds are stepped. A list of policies, all of one kind, shares the worlds out
    evenly, in order. `on_step(live, done)` sees every step (rendering, progress): `done` counts the
    episodes that have ended. `before_step(n)` is called before each step of n worlds. Raises
    BadValue where the worlds cannot be shared out evenly.
    """
    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds, purpose="play")
    players = _Players(_list_policies(policy), worlds.size, domain.spaces.action)
    ended, fell = np.zeros((2, worlds.size), bool)
    progress, success = np.zeros(worlds.size), np.zeros(worlds.size, bool)
    if on_step:
        on_step(live, 0)
    while not ended.all():
        ids = np.flatnonzero(~ended)
        action = players.act(live.state["observation"], ended)
        if before_step:
            before_step(len(ids))
        outcome = live.step(ids, commanded=action[ids])
        done = outcome.terminated | outcome.truncated
        if done.any():
            last = ids[done]
            ended[last], fell[last] = True, outcome.terminated[done]
            progress[last] = live.simulation.progress(last)
            success[last] = live.simulation.at_goal(last)
        if on_step:
            on_step(live, int(ended.sum()))
    diverged = live.state["diverged"] > worlds.diverged
    return Episodes(
        returns=live.state["returns"].copy(),
        lengths=live.state["step"].copy(),
        terminated=fell,
        diverged=diverged,
        parameters=live.state["parameters"].copy(),
        forward=progress,
        success=success & ~diverged,
    )


def _list_policies(policy: Policy | Sequence[Policy]) -> list[Policy]:
    """List the policies of a list, or the one: that may be a tuple with a method `act` itself."""
    if hasattr(policy, "act") or not isinstance(policy, list | tuple):
        return [policy]  # pyright: ignore[reportReturnType]
    return list(policy)


class _Players:
    """M policies of one kind that share N worlds out evenly, and what they remember there."""

    def __init__(self, policies: list[Policy], n: int, action_size: int):
        import jax

        if n % len(policies):
            raise BadValue(f"{n} worlds cannot be shared out evenly among {len(policies)} policies")
        self.worlds = np.arange(n).reshape(len(policies), -1)  # [M, N/M]
        self.memory = _initial_memory(policies, n)
        self.policies = jax.device_put(jax.tree.map(_stack, *policies))
        self.action = np.zeros((n, action_size), np.float32)

    def act(self, observation: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Return actions (N, A), new ones where the episode has not ended (bool [N])."""
        living_first = np.argsort(ended[self.worlds], axis=1, kind="stable")
        worlds = np.take_along_axis(self.worlds, living_first, axis=1)
        living = (~ended[self.worlds]).sum(1)
        for start in range(0, int(living.max()), MAX_BATCH):
            rows = worlds[:, start : start + MAX_BATCH]
            padded = _pad_rows(rows)
            obs = observation[padded].astype(np.float32)
            action, memory = _act_members()(self.policies, _take_rows(self.memory, padded), obs)
            self.action[rows] = np.asarray(action)[:, : rows.shape[1]]
            _write_rows(self.memory, rows, memory)
        return self.action


def rollout_full_episodes(
    domain: Domain,
    worlds: Worlds,
    behaviour: Behaviour,
    episodes: int,
    before_step: Callable[[int], None] | None = None,
) -> tuple[Worlds, Memory]:
    """Step so many whole episodes in each of the worlds; return the worlds after, and what is
    remembered there [N, ...].

    The memory is kept through all of a world's episodes. Worlds that are done stand still; no bit
    of a world depends on the others. `before_step(n)` is called before each step of n worlds.
    """
    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds)
    player = _RandomPlayer(behaviour, worlds.size, domain.spaces.action)
    finished = live.state["finished"]
    wanted = finished + episodes
    while len(ids := np.flatnonzero(finished < wanted)):
        action = player.act(live, ids)
        if before_step:
            before_step(len(ids))
        outcome = live.step(ids, commanded=action)
        ended = ids[outcome.terminated | outcome.truncated]
        again = ended[finished[ended] < wanted[ended]]
        if len(again):
            live.begin(again)
    return live.worlds(), player.memory


class _RandomPlayer:
    """A behaviour in N worlds, and what it remembers there."""

    def __init__(self, behaviour: Behaviour, n: int, action_size: int):
        import jax

        self.memory = _initial_memory([behaviour], n)
        self.behaviour = jax.device_put(behaviour)
        self.action = np.zeros((n, action_size), np.float32)

    def act(self, live: SteppedWorlds, ids: np.ndarray) -> np.ndarray:
        """Return actions (n, A) in worlds `ids`."""
        observation, keys = live.state["observation"], live.behaviour_keys(1)[0]
        for start in range(0, len(ids), MAX_BATCH):
            rows = _pad_rows(ids[start : start + MAX_BATCH])
            memory, obs = _take_rows(self.memory, rows), observation[rows].astype(np.float32)
            decision, memory = _decide()(self.behaviour, memory, obs, keys[rows])
            self.action[rows] = np.asarray(decision.action)
            _write_rows(self.memory, rows, memory)
        return self.action[ids]


# Memories: trees with a leading axis of worlds


def repeated(tree: Any, n: int) -> Any:
    """Repeat a tree's leaves along a new leading axis [n, ...]."""
    import jax

    return jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], n, axis=0), tree)


def _list_behaviours(behaviour: Behaviour, members: bool) -> list[Behaviour]:
    """List the members that lie in a behaviour along its leaves' leading axis, or the one."""
    import jax

    if not members:
        return [behaviour]
    count = len(jax.tree.leaves(behaviour)[0])
    return [jax.tree.map(lambda x, m=m: x[m], behaviour) for m in range(count)]


def _stack(*leaves: Array) -> np.ndarray:
    return np.stack(leaves)


def _initial_memory(behaviours: Sequence[Behaviour] | Sequence[Policy], n: int) -> Memory:
    """Return the memories [N, ...] that worlds begin with, which are shared out evenly among the
    behaviours.
    """
    import jax

    memories = [behaviour.memory() for behaviour in behaviours]
    share = n // len(behaviours)
    return jax.tree.map(lambda *x: np.repeat(np.stack(x), share, axis=0), *memories)


def _renew_memory(memory: Memory, initial: Memory, renewed: np.ndarray) -> Memory:
    """Return a memory [N, ...] with the worlds `renewed` (bool [N]) at the initial one again."""
    import jax

    if not renewed.any():
        return memory

    def renew(leaf: Array, first: Array) -> np.ndarray:
        where = renewed.reshape((-1,) + (1,) * (first.ndim - 1))
        return np.where(where, first, np.asarray(leaf))

    return jax.tree.map(renew, memory, initial)


def _pad_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows [..., MAX_BATCH], the last one repeated."""
    missing = MAX_BATCH - rows.shape[-1]
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)], mode="edge")


def _take_rows(memory: Memory, rows: np.ndarray) -> Memory:
    import jax

    return jax.tree.map(lambda leaf: leaf[rows], memory)


def _write_rows(memory: Memory, rows: np.ndarray, renewed: Memory) -> None:
    """Write what is remembered of `rows` ([n] or [M, n]), which may be padded there, in place."""
    import jax

    for leaf, new in zip(jax.tree.leaves(memory), jax.tree.leaves(renewed), strict=True):
        unpadded = (slice(None),) * (rows.ndim - 1) + (slice(rows.shape[-1]),)
        leaf[rows] = np.asarray(new)[unpadded]


# The jitted calls


@cache
def _decide() -> Callable:
    """Return the jitted call of a behaviour on worlds.

    Parameters are shared; each world has its own memory, observation and key.
    """
    import jax

    @jax.jit
    def decide(behaviour, memory, obs, keys):
        def decide_one(m, o, k):
            return behaviour.act(m, o, jax.random.wrap_key_data(k))

        return jax.vmap(decide_one)(memory, obs, keys)

    return decide


@cache
def _decide_members() -> Callable:
    """Return the same with M stacked behaviours, worlds [M, N/M].

    One member comes after the other, so that bits do not depend on M.
    """
    import jax

    def decide_one(behaviour, memory, obs, key):
        return behaviour.act(memory, obs, jax.random.wrap_key_data(key))

    def decide_member(arguments):
        return jax.vmap(decide_one, (None, 0, 0, 0))(*arguments)

    @jax.jit
    def decide(behaviours, *worlds):
        members = len(jax.tree.leaves(behaviours)[0])

        def split(x):
            return x.reshape(-1, len(x) // members, *x.shape[1:])

        out = jax.lax.map(decide_member, (behaviours, *jax.tree.map(split, worlds)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    return decide


def act() -> Callable:
    """Return the jitted call of a policy: shared parameters, one memory and observation a world."""
    check_jax_survived()
    return _act()


@cache
def _act() -> Callable:
    import jax

    return jax.jit(lambda policy, memory, obs: jax.vmap(policy.act)(memory, obs))


@cache
def _act_members() -> Callable:
    """Return the same of M stacked policies, rows [M, MAX_BATCH].

    One member comes after the other, so that bits do not depend on M.
    """
    import jax

    def act_member(arguments):
        policy, memory, obs = arguments
        return jax.vmap(policy.act)(memory, obs)

    return jax.jit(lambda *arguments: jax.lax.map(act_member, arguments))
