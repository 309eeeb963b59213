"""Where learning meets physics: behaviours and policies act in stepped worlds.

`rollout_steps` is for training, `rollout_episodes` for evaluation, `rollout_full_episodes` for a
memory that is kept through episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isthmus.domains.batched import BatchPlayers, BatchPolicy, fit_policy
from isthmus.domains.behaviours import (
    Behaviour,
    InformedObservation,
    Memory,
    Policy,
    PolicyLike,
)
from isthmus.domains.jitted import act_members, act_worlds, decide_members, decide_worlds
from isthmus.domains.memories import (
    MAX_BATCH,
    initial_memory,
    pad_rows,
    renew_memory,
    take_rows,
    write_rows,
)
from isthmus.domains.stepped_worlds import StepOutcome, SteppedWorlds
from isthmus.physics.concurrency import check_jax_survived
from isthmus.types import Array, BadValue, Episodes, Transition, Worlds

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

BLOCKS = (64, 16, 4, 1)
"""Blocks of a policy call: a program each, compiled when first needed."""


def rollout_steps(
    domain: Domain,
    worlds: Worlds,
    behaviour: Behaviour | PolicyLike,
    steps: int,
    members: bool = False,
    before_step: Callable[[int], None] | None = None,
    informed: bool = False,
) -> tuple[Worlds, Transition]:
    """Step all N worlds under `behaviour`; return the worlds after, and transitions [T, N, ...].

    A world whose episode ends begins the next one at once; a behaviour's memory begins anew with a
    new task. A policy from elsewhere acts as it is. With `members` the behaviour's leaves have a
    leading axis M, and worlds [0, N/M) follow the first. `before_step(n)` is called before each
    step, which makes n transitions. An `informed` behaviour is given `InformedObservation`s: it
    also sees the dynamics in force.
    """
    import jax

    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds)
    behaviour = fit_policy(behaviour, domain)
    initial = initial_memory(_list_behaviours(behaviour, members), worlds.size)
    remembers = bool(jax.tree.leaves(initial))
    memory = live.state["behaviour_memory"]
    if memory is None:
        memory = initial
    memory = renew_memory(memory, initial, live.new_task)
    decide, behaviour = _choose_call(behaviour, members)
    keys = live.behaviour_keys(steps)
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
        record.note_after(t, action, decision.extra, outcome)
        ended = np.flatnonzero(outcome.terminated | outcome.truncated)
        if len(ended):
            began = live.begin(ended)
            record.note_begun(ended)
            if remembers:
                memory = renew_memory(memory, initial, _mark(ended[began], worlds.size))
    live.state["behaviour_memory"] = jax.tree.map(np.asarray, memory)
    return live.worlds(), record.transitions()


def _choose_call(behaviour: Any, members: bool) -> tuple[Callable, Any]:
    """Return what calls a behaviour in N worlds, and the behaviour where it computes."""
    import jax

    if isinstance(behaviour, BatchPolicy):
        return behaviour.decide, behaviour
    decide = decide_members() if members else decide_worlds()
    return decide, jax.device_put(behaviour)


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
        self.observation = live.state["observation"].astype(np.float32)
        self.parameters = live.state["parameters"].astype(np.float32)

    def note_before(self, t: int) -> None:
        """Write what holds before step `t`."""
        self.arrays["obs"][t] = self.observation
        self.arrays["parameters"][t] = self.parameters

    def note_after(
        self, t: int, action: np.ndarray, extra: Mapping[str, Array], outcome: StepOutcome
    ) -> None:
        """Write what was decided at step `t`, and what came of it."""
        self.observation[:] = self.live.state["observation"]
        self.arrays["action"][t] = action
        self.arrays["reward"][t] = outcome.reward
        self.arrays["next_obs"][t] = self.observation
        self.arrays["terminated"][t] = outcome.terminated
        self.arrays["truncated"][t] = outcome.truncated
        for name, value in extra.items():
            value = np.asarray(value)
            if name not in self.extra:
                self.extra[name] = np.empty((*self.shape, *value.shape[1:]), value.dtype)
            self.extra[name][t] = value

    def note_begun(self, ids: np.ndarray) -> None:
        """Note what holds in worlds whose episodes have begun."""
        self.observation[ids] = self.live.state["observation"][ids]
        self.parameters[ids] = self.live.state["parameters"][ids]

    def transitions(self) -> Transition:
        """Return the transitions as a value."""
        return Transition(**self.arrays, extra=self.extra)


def finished_returns(worlds: Worlds, transitions: Transition) -> np.ndarray:
    """Return the returns of the episodes that finished in `transitions`, float64 [E].

    `worlds` are those in which the transitions began.
    """
    return finished_returns_from(np.array(worlds.returns), transitions)


def finished_returns_from(running: np.ndarray, transitions: Transition) -> np.ndarray:
    """Return the returns of the episodes that finished in `transitions` [T, N], float64 [E].

    `running` (N,) is what the episodes had been paid before.
    """
    finished = []
    ended = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    for reward, done in zip(transitions.reward, ended, strict=True):
        running = running + reward
        finished.append(running[done])
        running = np.where(done, 0.0, running)
    return np.concatenate(finished) if finished else np.zeros(0)


def rollout_episodes(
    domain: Domain,
    worlds: Worlds,
    policy: PolicyLike | Sequence[PolicyLike],
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
    policies = [fit_policy(one, domain) for one in _list_policies(policy)]
    players = _choose_players(policies, worlds.size, domain.spaces.action)
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


def _list_policies(policy: PolicyLike | Sequence[PolicyLike]) -> list[PolicyLike]:
    """List the policies of a list, or the one: that may be a tuple with a method `act` itself."""
    if hasattr(policy, "act") or not isinstance(policy, list | tuple):
        return [policy]
    return list(policy)


def _choose_players(policies: list[Any], n: int, action_size: int) -> _Players | BatchPlayers:
    """Return what calls policies in n worlds: by jax, or by NumPy where one is from elsewhere."""
    for policy in policies:
        if isinstance(policy, BatchPolicy):
            return BatchPlayers(policies, n, action_size)
    return _Players(policies, n, action_size)


class _Players:
    """M policies of one kind that share N worlds out evenly, and what they remember there."""

    def __init__(self, policies: list[Policy], n: int, action_size: int):
        import jax

        if n % len(policies):
            raise BadValue(f"{n} worlds cannot be shared out evenly among {len(policies)} policies")
        self.worlds = np.arange(n).reshape(len(policies), -1)  # [M, N/M]
        self.memory = initial_memory(policies, n)
        self.policies = jax.device_put(jax.tree.map(_stack, *policies))
        self.action = np.zeros((n, action_size), np.float32)
        self._ended = -1
        self._calls: list[_Rows] = []

    def act(self, observation: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Return actions (N, A), new ones where the episode has not ended (bool [N])."""
        count = np.count_nonzero(ended)
        if count != self._ended:  # an episode that has ended stays so
            self._ended, self._calls = count, self._share_out(ended)
        for rows in self._calls:
            obs = observation[rows.padded].astype(np.float32)
            memory = take_rows(self.memory, rows.padded)
            action, memory = act_members()(self.policies, memory, obs)
            self.action[rows.worlds] = rows.unpad(action)
            _write_memory(self.memory, rows, memory)
        return self.action

    def _share_out(self, ended: np.ndarray) -> list[_Rows]:
        """Return the rows of each call, those of worlds whose episode has not ended first."""
        living_first = np.argsort(ended[self.worlds], axis=1, kind="stable")
        worlds = np.take_along_axis(self.worlds, living_first, axis=1)
        living = int((~ended[self.worlds]).sum(1).max())
        calls, start = [], 0
        for blocks in _split_blocks(-(-living // MAX_BATCH)):
            calls.append(_Rows.of(worlds[:, start : start + blocks * MAX_BATCH], blocks))
            start += blocks * MAX_BATCH
        return calls


def _split_blocks(count: int) -> list[int]:
    """Return the blocks of each call, in sizes of few programs, that are `count` in all."""
    calls = []
    for size in BLOCKS:
        calls += [size] * (count // size)
        count %= size
    return calls


class _Rows(NamedTuple):
    """The worlds whose rows go into a call."""

    worlds: np.ndarray  # int [M, n]
    padded: np.ndarray  # int [M, blocks, MAX_BATCH], the last world repeated

    @staticmethod
    def of(worlds: np.ndarray, blocks: int) -> _Rows:
        """Lay worlds out in blocks."""
        padded = pad_rows(worlds, blocks * MAX_BATCH)
        return _Rows(worlds, padded.reshape(*worlds.shape[:-1], blocks, MAX_BATCH))

    def unpad(self, values: Array) -> np.ndarray:
        """Return the rows (M, n, ...) of what a call gave, [M, blocks, MAX_BATCH, ...]."""
        values = np.asarray(values)
        flat = values.reshape(len(values), -1, *values.shape[3:])
        return flat[:, : self.worlds.shape[1]]


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

        self.memory = initial_memory([behaviour], n)
        self.behaviour = jax.device_put(behaviour)
        self.action = np.zeros((n, action_size), np.float32)

    def act(self, live: SteppedWorlds, ids: np.ndarray) -> np.ndarray:
        """Return actions (n, A) in worlds `ids`."""
        observation, keys = live.state["observation"], live.behaviour_keys(1)[0]
        for start in range(0, len(ids), MAX_BATCH):
            rows = pad_rows(ids[start : start + MAX_BATCH], MAX_BATCH)
            memory, obs = take_rows(self.memory, rows), observation[rows].astype(np.float32)
            decision, memory = decide_worlds()(self.behaviour, memory, obs, keys[rows])
            self.action[rows] = np.asarray(decision.action)
            write_rows(self.memory, rows, memory)
        return self.action[ids]


def act() -> Callable:
    """Return the jitted call of a policy: shared parameters, one memory and observation a world."""
    check_jax_survived()
    return act_worlds()


def act_in_worlds(
    policy: Any, memory: Memory, observations: np.ndarray
) -> tuple[np.ndarray, Memory]:
    """Return actions (N, A) of a policy that `fit_policy` gave, and what is remembered [N, ...]."""
    if isinstance(policy, BatchPolicy):
        return policy.act(memory, observations)
    actions, memory = act()(policy, memory, observations)
    return np.asarray(actions), memory


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


def _mark(ids: np.ndarray, n: int) -> np.ndarray:
    """Return bool [n], true at `ids`."""
    marked = np.zeros(n, bool)
    marked[ids] = True
    return marked


def _write_memory(memory: Memory, rows: _Rows, renewed: Memory) -> None:
    """Write what is remembered in the worlds of a call, in place."""
    import jax

    for leaf, new in zip(jax.tree.leaves(memory), jax.tree.leaves(renewed), strict=True):
        leaf[rows.worlds] = rows.unpad(new)
