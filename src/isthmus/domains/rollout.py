"""Where learning meets physics: `collect` for training, `play` for evaluation, `explore` for a
memory, and `Live`, the worlds that they step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.domains.domain import BEHAVE, SENSE, START, Simulation
from isthmus.physics.concurrency import check_jax_survived
from isthmus.physics.random import Streams, fold
from isthmus.types import BadValue, Episodes, Transition, Worlds

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

GIVEN_TASK = -1  # in place of a task's number: the world's dynamics were given, and are not drawn
MAX_BATCH = 64
"""Rows a policy call when playing: a row's bits depend on the batch's size (not on its neighbours), so it is fixed."""


class SteppedWorlds:
    """N worlds in a running simulation: effects, time limits, tasks and episodes, divergence.
    Mutable; `worlds()` is its value.

    `idle` makes worlds whose first episode has not begun, `new` begins it, `resume` continues a
    value.
    """

    def __init__(self, domain: Domain, simulation: Simulation, n: int):
        self.domain, self.simulation = domain, simulation
        self.effects = domain.effect_chain()
        self.all = np.arange(n)
        self.state: dict[str, Any] = {}
        self.new_task = np.zeros(
            n, bool
        )  # worlds that `resume` could not continue and put at the begin of a task

    @staticmethod
    def idle(domain: Domain, simulation: Simulation, key: np.ndarray) -> SteppedWorlds:
        n = len(key)
        live = SteppedWorlds(domain, simulation, n)
        zeros = lambda: np.zeros(n, np.int64)
        live.state = {
            "parameters": np.zeros((n, len(domain.names))),
            "observation": np.zeros((n, live.effects.observation)),
            "effect_memory": np.zeros((n, live.effects.memory)),
            "task_memory": None,
            "behaviour_memory": None,
            "key": np.array(key, np.uint64),
            "task": zeros(), "episode": zeros(), "step": zeros(), "total": zeros(),
            "returns": np.zeros(n), "finished": zeros(), "diverged": zeros(),
            "diverged_rows": np.zeros_like(live.simulation.rows),
        }  # fmt: skip
        return live

    def rekey(self, ids: np.ndarray, key: np.ndarray) -> None:
        """Make worlds `ids` those of other keys (n,), whose first episode has not begun."""
        self.state["key"][ids] = key
        for count in ("task", "episode", "total", "finished", "diverged"):
            self.state[count][ids] = 0

    @staticmethod
    def new(
        domain: Domain,
        key: np.ndarray,
        parameters: np.ndarray | None = None,
        purpose: str = "collect",
    ) -> SteppedWorlds:
        live = SteppedWorlds.idle(domain, domain.simulation(len(key), purpose), key)
        if parameters is not None:
            live.state["task"][:] = GIVEN_TASK
        live.begin(live.all, parameters)
        return live

    @staticmethod
    def resume(domain: Domain, worlds: Worlds, purpose: str = "collect") -> SteppedWorlds:
        live = SteppedWorlds(
            domain, domain.simulation(worlds.size, purpose, worlds.rows), worlds.size
        )
        copy = lambda name, x: x if name == "behaviour_memory" else np.array(x)
        live.state = {k: copy(k, v) for k, v in worlds._asdict().items() if k != "rows"}
        if not live.simulation.restore(worlds.rows, worlds.parameters):
            # An episode in which nothing has moved yet is begun again as it was; one under way is
            # lost, and counts.
            live.state["episode"] -= live.state["step"] == 0
            live.new_task = live.begin(live.all)
        return live

    def worlds(self) -> Worlds:
        copy = lambda name, x: x if name == "behaviour_memory" else np.array(x)
        return Worlds(
            rows=self.simulation.rows.copy(), **{k: copy(k, v) for k, v in self.state.items()}
        )

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray | None = None, random: Any = None
    ) -> np.ndarray:
        """Begin an episode in worlds `ids`; returns which of them began a new task, bool [n].

        A task is `episodes_per_task` episodes under one draw of the dynamics. `parameters` (n, P)
        are put in place of what is drawn, but for those that are NaN.
        """
        s = self.state
        new_task = s["episode"][ids] % self.domain.episodes_per_task == 0
        drawn = ids[new_task & (s["task"][ids] != GIVEN_TASK)]
        s["task"][drawn] += 1
        s["episode"][ids] += 1
        if len(drawn) and self.domain.settings:
            s["parameters"][drawn] = self.domain.draw(s["key"][drawn], s["task"][drawn])
        if parameters is not None:
            s["parameters"][ids] = np.where(np.isnan(parameters), s["parameters"][ids], parameters)
        random = random or Streams(fold(s["key"][ids], START, s["episode"][ids]))
        obs, memory = self.simulation.begin(ids, s["parameters"][ids], random)
        if s["task_memory"] is None:
            s["task_memory"] = np.zeros((len(self.all), memory.shape[1]))
        s["task_memory"][ids] = memory
        s["step"][ids], s["returns"][ids] = 0, 0.0
        if self.effects.effects:
            effect_memory = s["effect_memory"][ids]
            neutral = self.simulation.neutral_action(ids)
            obs = self.effects.begin(effect_memory, obs, self._sense(ids), neutral)
            s["effect_memory"][ids] = effect_memory
        s["observation"][ids] = obs
        return new_task

    def _sense(self, ids: np.ndarray) -> Streams:
        s = self.state
        return Streams(fold(s["key"][ids], SENSE, s["episode"][ids], s["step"][ids]))

    def step(self, ids: np.ndarray, action: np.ndarray, applied: np.ndarray | None = None):
        """One step of worlds `ids`; reward, terminated, truncated (n,); the new observations are in
        `state`.

        `action` (n, A) is charged, `applied` moves the robot. A world that diverges ends its
        episode as a fall with reward 0 and keeps its last observation.
        """
        s = self.state
        if not np.isfinite(action).all() or (
            applied is not None and not np.isfinite(applied).all()
        ):
            raise BadValue(
                "an action is not finite: the policy's weights or its observations are not numbers"
            )
        at = (
            slice(None) if len(ids) == len(self.all) else ids
        )  # all of them: views, where an index array would copy
        before = self.simulation.rows[at].copy()
        effect_memory = s["effect_memory"][at]
        moved = self.effects.act(effect_memory, action if applied is None else applied, action)
        obs, reward, terminated, truncated, diverged, memory = self.simulation.step(
            ids, moved, action, s["task_memory"][at]
        )
        s["step"][at] += 1
        s["total"][at] += 1
        if self.effects.effects:
            obs = self.effects.sense(effect_memory, obs, self._sense(ids))
            s["effect_memory"][at] = effect_memory
        if diverged.any():
            lost = ids[diverged]
            s["diverged"][lost] += 1
            s["diverged_rows"][lost] = before[diverged]
            obs[diverged], reward[diverged] = s["observation"][lost], 0.0
            memory[diverged] = s["task_memory"][lost]
            terminated = terminated | diverged
        s["observation"][at], s["task_memory"][at] = obs, memory
        s["returns"][at] += reward
        truncated = (truncated | (s["step"][at] >= self.simulation.time_limit)) & ~terminated
        s["finished"][at] += terminated | truncated
        return reward, terminated, truncated

    def behaviour_keys(self, steps: int) -> np.ndarray:
        """Raw JAX keys uint32 [steps, N, 2] for the worlds' next decisions."""
        s = self.state
        return fold(s["key"], BEHAVE, s["total"] + np.arange(steps)[:, None])[..., None].view(
            np.uint32
        )


@cache
def _decide() -> Callable:
    """The jitted call of a behaviour on worlds: shared parameters, one memory, observation and key
    a world.
    """
    import jax

    @jax.jit
    def decide(behaviour, memory, obs, keys):
        one = lambda m, o, k: behaviour.act(m, o, jax.random.wrap_key_data(k))
        return jax.vmap(one)(memory, obs, keys)

    return decide


@cache
def _decide_members() -> Callable:
    """The same with M stacked behaviours, worlds [M, N/M]: one member after the other: bits do not
    depend on M.
    """
    import jax

    @jax.jit
    def decide(behaviours, memory, obs, keys):
        split = lambda x: x.reshape(-1, len(x) // members, *x.shape[1:])
        members = len(jax.tree.leaves(behaviours)[0])
        one = lambda b, m, o, k: b.act(m, o, jax.random.wrap_key_data(k))
        member = lambda a: jax.vmap(one, (None, 0, 0, 0))(*a)
        out = jax.lax.map(member, (behaviours, *jax.tree.map(split, (memory, obs, keys))))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    return decide


def repeated(tree: Any, n: int) -> Any:
    import jax

    return jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], n, axis=0), tree)


def _initial(behaviours: Sequence[Any], n: int) -> Any:
    """The memories [N, ...] that worlds begin with, which are shared out evenly among the
    behaviours.
    """
    import jax

    each = [behaviour.memory() for behaviour in behaviours]
    return jax.tree.map(lambda *x: np.repeat(np.stack(x), n // len(behaviours), axis=0), *each)


def _renew(memory: Any, initial: Any, fresh: np.ndarray) -> Any:
    """A memory [N, ...] with the worlds `fresh` (bool [N]) at the initial ones [N, ...] again."""
    import jax

    if not fresh.any():
        return memory
    return jax.tree.map(
        lambda m, i: np.where(fresh.reshape((-1,) + (1,) * (i.ndim - 1)), i, np.asarray(m)),
        memory,
        initial,
    )


def rollout_steps(
    domain: Domain,
    worlds: Worlds,
    behaviour: Any,
    steps: int,
    members: bool = False,
    before_step: Callable[[int], None] | None = None,
) -> tuple[Worlds, Transition]:
    """Step all N worlds `steps` times under `behaviour`: the worlds after, and the transitions [T,
    N, ...].

    A world whose episode ends begins the next one at once; a behaviour's memory begins anew with a
    new task. With `members` the behaviour's leaves have a leading axis M, and worlds [0, N/M)
    follow the first. `before_step(n)` is called before each step, which makes n transitions.
    """
    import jax

    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds)
    s, ids, n = live.state, live.all, worlds.size
    shape = (steps, n)
    count = len(jax.tree.leaves(behaviour)[0]) if members else 1
    each = (
        [jax.tree.map(lambda x, m=m: x[m], behaviour) for m in range(count)]
        if members
        else [behaviour]
    )
    initial = _initial(each, n)
    memory = initial if s["behaviour_memory"] is None else s["behaviour_memory"]
    memory = _renew(memory, initial, live.new_task)
    decide = _decide_members() if members else _decide()
    behaviour, keys = jax.device_put(behaviour), live.behaviour_keys(steps)
    out: dict[str, Any] = {
        "obs": np.empty((*shape, live.effects.observation), np.float32),
        "action": np.empty((*shape, len(domain.spaces.low)), np.float32),
        "reward": np.empty(shape, np.float32),
        "next_obs": np.empty((*shape, live.effects.observation), np.float32),
        "terminated": np.empty(shape, bool),
        "truncated": np.empty(shape, bool),
        "parameters": np.empty((*shape, len(domain.names)), np.float32),
    }
    extra: dict[str, np.ndarray] = {}
    for t in range(steps):
        out["obs"][t], out["parameters"][t] = s["observation"], s["parameters"]
        decision, memory = decide(behaviour, memory, out["obs"][t], keys[t])
        out["action"][t] = action = np.asarray(decision.action)
        applied = None if decision.applied is None else np.asarray(decision.applied)
        if before_step:
            before_step(n)
        for name, value in decision.extra.items():
            value = np.asarray(value)
            extra.setdefault(name, np.empty((*shape, *value.shape[1:]), value.dtype))[t] = value
        reward, terminated, truncated = live.step(ids, action, applied)
        out["reward"][t], out["next_obs"][t] = reward, s["observation"]
        out["terminated"][t], out["truncated"][t] = terminated, truncated
        done = terminated | truncated
        if done.any():
            new_task = np.zeros(n, bool)
            new_task[done] = live.begin(ids[done])
            memory = _renew(memory, initial, new_task)
    s["behaviour_memory"] = jax.tree.map(np.asarray, memory)
    return live.worlds(), Transition(**out, extra=extra)


def finished_returns(worlds: Worlds, transitions: Transition) -> np.ndarray:
    """Returns of the episodes that finished in `transitions`, which began at `worlds`; float64 [E]."""
    running, out = np.array(worlds.returns), []
    ended = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    for reward, done in zip(transitions.reward, ended, strict=True):
        running = running + reward
        out.append(running[done])
        running = np.where(done, 0.0, running)
    return np.concatenate(out) if out else np.zeros(0)


def rollout_episodes(
    domain: Domain,
    worlds: Worlds,
    policy: Any | Sequence[Any],
    on_step: Callable[[SteppedWorlds, int], None] | None = None,
    before_step: Callable[[int], None] | None = None,
) -> Episodes:
    """One episode in each of the worlds, to its end; Episodes in the worlds' order.

    Only living worlds are stepped. A list of policies, all of one kind, shares the worlds out
    evenly, in order. `on_step(live, done)` sees every step (rendering, progress): `done` counts the
    episodes that have ended. `before_step(n)` is called before each step of n worlds.
    """
    import jax

    check_jax_survived()
    several = isinstance(policy, list | tuple) and not hasattr(policy, "act")
    policies: list[Any] = list(policy) if several else [policy]
    live = SteppedWorlds.resume(domain, worlds, purpose="play")
    s, n = live.state, worlds.size
    if n % len(policies):
        raise BadValue(f"{n} worlds cannot be shared out evenly among {len(policies)} policies")
    member = np.arange(n).reshape(len(policies), -1)
    memory = _initial(policies, n)
    stateful = bool(jax.tree.leaves(memory))
    stacked = jax.device_put(jax.tree.map(lambda *x: np.stack(x), *policies))
    ended = np.zeros(n, bool)
    fell = np.zeros(n, bool)
    forward, success = np.zeros(n), np.zeros(n, bool)
    action = np.zeros((n, len(domain.spaces.low)), np.float32)
    if on_step:
        on_step(live, 0)
    while not ended.all():
        ids = np.flatnonzero(~ended)
        first = np.take_along_axis(
            member, np.argsort(ended[member], axis=1, kind="stable"), axis=1
        )  # the living
        for start in range(0, int((~ended[member]).sum(1).max()), MAX_BATCH):
            rows = first[:, start : start + MAX_BATCH]
            padded = np.pad(rows, ((0, 0), (0, MAX_BATCH - rows.shape[1])), mode="edge")
            m = jax.tree.map(lambda x, rows=padded: x[rows], memory)
            chosen, m = _act_members()(stacked, m, s["observation"][padded].astype(np.float32))
            action[rows] = np.asarray(chosen)[:, : rows.shape[1]]
            if stateful:
                for leaf, new in zip(jax.tree.leaves(memory), jax.tree.leaves(m), strict=True):
                    leaf[rows] = np.asarray(new)[:, : rows.shape[1]]
        if before_step:
            before_step(len(ids))
        _, terminated, truncated = live.step(ids, action[ids])
        done = terminated | truncated
        if done.any():
            last = ids[done]
            ended[last], fell[last] = True, terminated[done]
            forward[last], success[last] = (
                live.simulation.progress(last),
                live.simulation.at_goal(last),
            )
        if on_step:
            on_step(live, int(ended.sum()))
    diverged = s["diverged"] > worlds.diverged
    return Episodes(
        s["returns"].copy(),
        s["step"].copy(),
        fell,
        diverged,
        s["parameters"].copy(),
        forward,
        success & ~diverged,
    )


def rollout_full_episodes(
    domain: Domain,
    worlds: Worlds,
    behaviour: Any,
    episodes: int,
    before_step: Callable[[int], None] | None = None,
) -> tuple[Worlds, Any]:
    """So many whole episodes in each of the worlds: the worlds after, and what is remembered there
    [N, ...].

    The memory is kept through all of a world's episodes. Worlds that are done stand still; no bit
    of a world depends on the others. `before_step(n)` is called before each step of n worlds.
    """
    import jax

    check_jax_survived()
    live = SteppedWorlds.resume(domain, worlds)
    s, ids = live.state, live.all
    memory = _initial([behaviour], len(ids))
    wanted = s["finished"] + episodes
    action = np.zeros((len(ids), len(domain.spaces.low)), np.float32)
    behaviour = jax.device_put(behaviour)
    while len(ids := np.flatnonzero(s["finished"] < wanted)):
        drawn = live.behaviour_keys(1)[0]
        for start in range(0, len(ids), MAX_BATCH):
            chunk = ids[start : start + MAX_BATCH]
            rows = np.pad(chunk, (0, MAX_BATCH - len(chunk)), mode="edge")
            m = jax.tree.map(lambda x, rows=rows: x[rows], memory)
            decision, m = _decide()(
                behaviour, m, s["observation"][rows].astype(np.float32), drawn[rows]
            )
            action[rows] = np.asarray(decision.action)
            for leaf, new in zip(jax.tree.leaves(memory), jax.tree.leaves(m), strict=True):
                leaf[rows] = np.asarray(new)
        if before_step:
            before_step(len(ids))
        _, terminated, truncated = live.step(ids, action[ids])
        again = ids[(terminated | truncated) & (s["finished"][ids] < wanted[ids])]
        if len(again):
            live.begin(again)
    return live.worlds(), memory


def act() -> Callable:
    """The jitted call of a policy: shared parameters, one memory and observation a world."""
    check_jax_survived()
    return _act()


@cache
def _act() -> Callable:
    import jax

    return jax.jit(lambda policy, memory, obs: jax.vmap(policy.act)(memory, obs))


@cache
def _act_members() -> Callable:
    """The same of M stacked policies, rows [M, WIDTH]: one member after the other: bits do not
    depend on M.
    """
    import jax

    return jax.jit(lambda *rows: jax.lax.map(lambda a: jax.vmap(a[0].act)(*a[1:]), rows))
