"""`collect` and `play`: true transitions, tasks and episodes, exact resume, no neighbour's
influence.
"""

# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isthmus.domains import domain as domains
from isthmus.domains import rollout as rollouts
from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import (
    MAX_BATCH,
    finished_returns,
    rollout_episodes,
    rollout_full_episodes,
    rollout_steps,
)
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.random import keys
from isthmus.tasks.task import SimView
from isthmus.types import BadValue, Decision, Worlds


class Random(NamedTuple):
    """Uniform actions from the world's own key."""

    scale: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key):
        return Decision(
            jax.random.uniform(key, self.scale.shape, minval=-self.scale, maxval=self.scale)
        ), memory


class Counting(NamedTuple):
    """Acts by how often it has acted, and says so; the memory is a tree of two leaves."""

    size: Any

    def memory(self):
        return {"count": jnp.int32(0), "trace": jnp.zeros(2)}

    def act(self, memory, observation, key):
        count = memory["count"]
        action = self.size * jnp.sin(count + jax.random.normal(key, self.size.shape))
        after = {"count": count + 1, "trace": memory["trace"] + observation[:2]}
        return Decision(action, extra={"count": count, "trace": memory["trace"]}), after


class Linear(NamedTuple):
    """A behaviour and a policy: tanh(W o)."""

    weights: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key=None):
        action = jnp.tanh(self.weights @ observation)
        return (action if key is None else Decision(action)), memory


class Push(NamedTuple):
    """A behaviour that chooses `action`, and has something else applied."""

    action: Any
    applied: Any

    def memory(self):
        return ()

    def act(self, memory, observation, key):
        return Decision(self.action, self.applied), memory


def random(domain: Domain) -> Random:
    return Random(np.full(domain.spaces.action, 1.0, np.float32))


def linear(seed: int, domain: Domain) -> Linear:
    spaces = domain.spaces
    return Linear(
        np.random.default_rng(seed)
        .normal(size=(spaces.action, spaces.observation))
        .astype(np.float32)
    )


def same(one: Any, other: Any) -> bool:
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    bits = lambda x: (np.asarray(x).dtype, np.shape(x), np.asarray(x).tobytes())
    return len(a) == len(b) and all(bits(x) == bits(y) for x, y in zip(a, b, strict=True))


def forget() -> None:
    """Drop every running simulation, as a new process would have none."""
    domains._simulation.cache_clear()


def some(worlds: Worlds, rows: slice | list[int]) -> Worlds:
    return jax.tree.map(lambda x: x[rows], worlds)


@pytest.mark.parametrize("text", ["hopper", "half_cheetah", "reacher", "ant"])
def test_next_obs_is_the_true_next_state(text):
    """Also at an episode's end: the same rows, stepped by the physics alone, are seen the same."""
    domain = parse_domain(text)
    worlds = domain.worlds(4, seed=1)
    ends = 0
    for _ in range(60):
        before = worlds
        worlds, tr = rollout_steps(domain, worlds, random(domain), 1)
        simulation = domain.build(4)
        simulation.restore(before.rows, before.parameters)
        obs, reward, terminated, *_ = simulation.step(
            np.arange(4), before.task_memory, commanded=tr.action[0], applied=tr.action[0]
        )
        assert same(tr.obs[0], before.observation.astype(np.float32))
        assert same(tr.next_obs[0], obs.astype(np.float32)) and same(
            tr.reward[0], reward.astype(np.float32)
        )
        assert same(tr.terminated[0], terminated)
        done = (tr.terminated | tr.truncated)[0]
        ends += done.sum()
        # The next row begins where this one led, or a new episode.
        follows = (worlds.observation.astype(np.float32) == tr.next_obs[0]).all(1)
        assert (follows == ~done).all()
        assert (worlds.step[done] == 0).all() and (worlds.returns[done] == 0).all()
    assert ends or text in ("half_cheetah", "ant")


def test_a_time_limit_is_no_fall():
    domain = parse_domain("reacher")  # whose limit is 50
    worlds, tr = rollout_steps(domain, domain.worlds(3, seed=0), random(domain), 120)
    assert not tr.terminated.any()
    assert np.flatnonzero(tr.truncated.all(1)).tolist() == [49, 99] and tr.truncated.sum() == 6
    assert worlds.finished.tolist() == [2, 2, 2] and worlds.step.tolist() == [20, 20, 20]
    assert worlds.episode.tolist() == [3, 3, 3] and worlds.total.tolist() == [120, 120, 120]
    assert worlds.total.dtype == worlds.episode.dtype == np.int64


def test_a_fall_is_no_time_limit():
    domain = parse_domain("hopper")
    _, tr = rollout_steps(domain, domain.worlds(3, seed=0), random(domain), 100)
    assert tr.terminated.any() and not tr.truncated.any()


def test_a_fall_at_the_time_limit_is_a_fall():
    domain = parse_domain("hopper")
    _, tr = rollout_steps(domain, domain.worlds(3, seed=0), random(domain), 100)
    fall = int(np.flatnonzero(tr.terminated[:, 0])[0])
    live = SteppedWorlds.idle(domain, domain.build(3), keys(0, 3))
    live.simulation.time_limit = fall + 1
    live.begin(live.all)
    for t in range(fall):
        assert not np.any(
            live.step(live.all, commanded=tr.action[t])[1:]
        )  # up to here nobody falls before world 0
    _, terminated, truncated = live.step(live.all, commanded=tr.action[fall])
    assert terminated[0] and not truncated[0]
    assert (truncated | terminated).all()


def test_rewards_add_up_to_returns():
    domain = parse_domain("hopper")
    worlds = domain.worlds(5, seed=2)
    worlds, first = rollout_steps(domain, worlds, random(domain), 13)
    after, tr = rollout_steps(domain, worlds, random(domain), 200)
    returns = finished_returns(worlds, tr)
    assert (
        len(returns)
        == (after.finished - worlds.finished).sum()
        == np.logical_or(tr.terminated, tr.truncated).sum()
        > 10
    )
    world = 3
    rewards = np.concatenate([first.reward, tr.reward])[:, world].astype(float)
    ends = np.flatnonzero(np.concatenate([first.terminated, tr.terminated])[:, world]) + 1
    want = [part.sum() for part in np.split(rewards, ends)]
    at = np.flatnonzero(np.nonzero(tr.terminated)[1] == world)
    assert np.allclose(returns[at], want[:-1][-len(at) :])
    assert np.isclose(after.returns[world], want[-1])


def test_dynamics_are_drawn_per_task_and_recorded():
    domain = parse_domain(
        "hopper/torso_mass=1..9,friction=log:0.5..2,gravity=x2,episodes_per_task=2"
    )
    worlds = domain.worlds(3, seed=5)
    assert same(worlds.parameters, domain.draw(worlds.key, worlds.task))
    after, tr = rollout_steps(domain, worlds, random(domain), 150)
    for world in range(3):
        done = tr.terminated[:, world]
        episode = np.concatenate([[0], np.cumsum(done)[:-1]])  # of each step
        assert episode[-1] >= 4
        for task in range(episode[-1] // 2 + 1):
            drawn = domain.draw(worlds.key[[world]], np.array([task + 1]))[0]
            seen = tr.parameters[episode // 2 == task, world]
            assert (seen == drawn.astype(np.float32)).all()
        assert after.task[world] == (after.episode[world] + 1) // 2
    masses = np.unique(tr.parameters[..., domain.names.index("torso_mass")])
    assert len(masses) == after.task.sum() and masses.min() >= 1 and masses.max() <= 9
    assert (tr.parameters[..., domain.names.index("gravity")] == np.float32(2 * 9.81)).all()


def test_dynamics_act_on_the_robot():
    """The drawn parameters are in force: the same as in a domain that fixes them."""
    domain = parse_domain("hopper/gravity=2..20,torso_mass=1..9")
    worlds = domain.worlds(3, seed=0)
    _, tr = rollout_steps(domain, worlds, random(domain), 6)
    assert not tr.terminated.any()  # the first dynamics drawn
    for world in range(3):
        values = dict(zip(domain.names, worlds.parameters[world], strict=True))
        fixed = parse_domain("hopper/" + ",".join(f"{k}={float(v)!r}" for k, v in values.items()))
        _, alone = rollout_steps(fixed, fixed.worlds(3, seed=0), random(fixed), 6)
        assert same(alone.next_obs[:, world], tr.next_obs[:, world])


def test_given_dynamics_stay_given():
    domain = parse_domain("hopper/torso_mass=1..9")
    given = np.array([[2.0], [8.0]])
    worlds, tr = rollout_steps(
        domain, domain.worlds(2, seed=0, parameters=given), random(domain), 100
    )
    assert worlds.finished.min() >= 2
    assert (tr.parameters == given.astype(np.float32)).all() and same(worlds.parameters, given)


def test_a_draw_depends_on_the_whole_name():
    domain = parse_domain("ant/ankle_1_armature=0..2,ankle_1_strength=0..2,ankle_2_strength=0..2")
    draws = domain.draw(keys(0, 4000), np.ones(4000, int))
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.06
    alone = parse_domain("ant/ankle_1_strength=0..2").draw(keys(0, 4000), np.ones(4000, int))
    assert same(alone[:, 0], draws[:, 1])


@pytest.mark.parametrize(
    "text",
    [
        "hopper/torso_mass=1..9,friction=0.5..2,observation_noise=0.1,action_delay=1,history=2",
        "half_cheetah/density=0.5..2,armature=0.5..2,episodes_per_task=2",
        "walker2d/joint_range=0.5..1.5,gravity=5..15",
        "ant/torso_mass=0.1..2",
        "reacher/damping=0.5..2",
    ],
)
def test_resumed_worlds_continue_to_the_bit(text):
    domain = parse_domain(text)
    behaviour = Counting(np.ones(domain.spaces.action, np.float32))
    start = domain.worlds(4, seed=9)
    whole_worlds, whole = rollout_steps(domain, start, behaviour, 64)
    half, first = rollout_steps(domain, start, behaviour, 32)
    rollout_steps(
        domain, domain.worlds(4, seed=1), behaviour, 5
    )  # somebody else uses the simulation
    forget()
    worlds, second = rollout_steps(domain, half, behaviour, 32)
    assert same(worlds, whole_worlds)
    assert same(jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second), whole)


def test_collecting_changes_no_value():
    domain = parse_domain("hopper/torso_mass=1..9,action_delay=1")
    worlds = domain.worlds(3, seed=0)
    copy = jax.tree.map(np.copy, worlds)
    after, tr = rollout_steps(domain, worlds, random(domain), 40)
    kept = jax.tree.map(np.copy, after)
    rollout_steps(domain, after, random(domain), 3)
    assert same(worlds, copy) and same(after, kept)
    assert same(rollout_steps(domain, worlds, random(domain), 40)[1], tr)


@pytest.mark.parametrize("text", ["hopper/torso_mass=1..9,observation_noise=0.1", "ant", "reacher"])
def test_a_world_does_not_see_its_neighbours(text):
    domain = parse_domain(text)
    few, many = domain.worlds(2, seed=3), domain.worlds(5, seed=3)
    few, many = (w._replace(behaviour_memory=()) for w in (few, many))
    assert same(few, some(many, slice(2)))
    _, a = rollout_steps(domain, few, random(domain), 40)
    _, b = rollout_steps(domain, many, random(domain), 40)
    assert same(a, jax.tree.map(lambda x: x[:, :2], b))


def test_threads_change_no_bit(monkeypatch):
    domain = parse_domain("hopper/torso_mass=1..9")
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ISTHMUS_THREADS", threads)
        forget()
        results.append(rollout_steps(domain, domain.worlds(7, seed=0), random(domain), 60))
    forget()
    assert same(*results)


def test_a_memory_begins_anew_with_a_task():
    domain = parse_domain("hopper/episodes_per_task=2")
    behaviour = Counting(np.ones(3, np.float32))
    worlds, first = rollout_steps(domain, domain.worlds(4, seed=0), behaviour, 40)
    worlds, second = rollout_steps(domain, worlds, behaviour, 60)
    tr = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    for world in range(4):
        done = tr.terminated[:, world]
        assert done.sum() >= 3
        count, trace, episodes = 0, np.zeros(2, np.float32), 0
        for t in range(100):
            assert tr.extra["count"][t, world] == count
            assert np.allclose(tr.extra["trace"][t, world], trace, atol=1e-5)
            count, trace = count + 1, trace + tr.obs[t, world, :2]
            episodes += done[t]
            if done[t] and episodes % 2 == 0:
                count, trace = 0, np.zeros(2, np.float32)
        assert worlds.behaviour_memory["count"][world] == count


def test_what_is_executed_is_not_what_is_stored_and_charged():
    domain = parse_domain("hopper")
    chosen, applied = np.float32([0.9, 0, 0]), np.float32([0, 0.5, 0])
    _, grounded = rollout_steps(domain, domain.worlds(2, seed=0), Push(chosen, applied), 1)
    _, free = rollout_steps(domain, domain.worlds(2, seed=0), Push(applied, None), 1)
    assert (grounded.action == chosen).all()
    assert same(grounded.next_obs, free.next_obs)
    assert np.allclose(grounded.reward - free.reward, -1e-3 * (0.9**2 - 0.5**2), atol=1e-6)


@pytest.mark.parametrize("action", [[np.nan, 0, 0], [np.inf, 0, 0]])
def test_an_action_that_is_no_number_is_refused(action):
    domain = parse_domain("hopper")
    with pytest.raises(BadValue, match="not finite"):
        rollout_steps(domain, domain.worlds(2, seed=0), Push(np.float32(action), None), 1)
    with pytest.raises(BadValue, match="not finite"):
        rollout_steps(
            domain, domain.worlds(2, seed=0), Push(np.zeros(3, np.float32), np.float32(action)), 1
        )


def test_members_keep_to_their_own_worlds():
    domain = parse_domain("hopper/torso_mass=1..9")
    policies = [linear(seed, domain) for seed in range(3)]
    stack = lambda some: jax.tree.map(lambda *x: np.stack(x), *some)
    worlds = domain.worlds(6, seed=0)
    _, tr = rollout_steps(domain, worlds, stack(policies), 30, members=True)
    assert not same(tr.action[:, :2], tr.action[:, 2:4])
    for member, policy in enumerate(policies):
        mine = slice(2 * member, 2 * member + 2)
        _, alone = rollout_steps(domain, some(worlds, mine), stack([policy]), 30, members=True)
        assert same(alone, jax.tree.map(lambda x, mine=mine: x[:, mine], tr))
        _, plain = rollout_steps(domain, some(worlds, mine), policy, 30)
        assert np.allclose(plain.action, alone.action, atol=1e-4)


def test_members_remember_each_for_itself():
    domain = parse_domain("hopper")
    behaviours = Counting(np.float32([[1, 1, 1], [0, 0, 0]]))
    worlds, tr = rollout_steps(domain, domain.worlds(4, seed=0), behaviours, 60, members=True)
    assert not tr.action[:, 2:].any() and tr.action[:, :2].any()
    ended = tr.terminated.any(0)
    assert ended[:2].all()
    since = [59 - np.flatnonzero(tr.terminated[:, w]).max(initial=-1) for w in range(4)]
    assert worlds.behaviour_memory["count"].tolist() == since
    halves = rollout_steps(domain, domain.worlds(4, seed=0), behaviours, 30, members=True)
    assert same(rollout_steps(domain, halves[0], behaviours, 30, members=True)[0], worlds)


class Begun(NamedTuple):
    """Says how long it has been at it, from `begin` on; as a behaviour and as a policy."""

    begin: Any

    def memory(self):
        return {"count": self.begin}

    def act(self, memory, observation, key=None):
        action, memory = jnp.sin(memory["count"]) * jnp.ones(3), {"count": memory["count"] + 1}
        return (action if key is None else Decision(action)), memory


def test_members_begin_with_memories_of_their_own():
    domain, begin = parse_domain("hopper"), np.float32([10, 20])
    _, tr = rollout_steps(domain, domain.worlds(4, seed=0), Begun(begin), 60, members=True)
    first = np.sin(np.repeat(begin, 2))
    assert np.allclose(tr.action[0, :, 0], first, atol=1e-6)
    last = tr.terminated | tr.truncated
    for w in range(4):
        again = np.flatnonzero(last[:-1, w]) + 1
        assert len(again) and np.allclose(tr.action[again, w, 0], first[w], atol=1e-6)
    apart = [rollout_episodes(domain, domain.worlds(4, seed=1), Begun(x)) for x in begin]
    both = rollout_episodes(domain, domain.worlds(4, seed=1), [Begun(x) for x in begin])
    assert same(both.returns, np.concatenate([apart[0].returns[:2], apart[1].returns[2:]]))


def test_what_is_explored_is_remembered_through_all_episodes():
    domain = parse_domain("hopper/torso_mass=1..9")
    worlds = domain.worlds(70, seed=0)  # more than a call's rows
    after, memory = rollout_full_episodes(domain, worlds, Begun(np.float32(5)), 3)
    assert same(memory["count"], 5 + np.float32(after.total))
    assert same(after.finished, worlds.finished + 3) and same(after.episode, worlds.episode + 2)
    some_after, some_memory = rollout_full_episodes(
        domain, some(worlds, [3, 66]), Begun(np.float32(5)), 3
    )
    assert same(some_memory["count"], memory["count"][[3, 66]]) and same(
        some_after.total, after.total[[3, 66]]
    )
    again, _ = rollout_full_episodes(domain, after, Begun(np.float32(5)), 1)
    assert same(again.finished, worlds.finished + 4)


def test_before_each_step_one_is_asked():
    """Nothing has moved when the first call comes, and a refusal leaves it so."""
    domain = parse_domain("hopper")
    worlds, calls = domain.worlds(3, seed=0), []

    def before(transitions: int) -> None:
        calls.append((transitions, domain.simulation(3).rows.copy()))
        if len(calls) == 4:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        rollout_steps(domain, worlds, random(domain), 10, before_step=before)
    assert [n for n, _ in calls] == [3] * 4
    assert same(calls[0][1], worlds.rows)
    assert same(calls[3][1], rollout_steps(domain, worlds, random(domain), 3)[0].rows)


WILD = "half_cheetah/motor_strength=1..100,torso_mass=0.001..10"
SOUND, SICK = [1.0, 6.0], [100.0, 0.001]


def test_a_diverging_world_is_contained():
    """Its episode ends as a fall with reward 0, it is counted, its last finite state is kept, the
    others go on.
    """
    domain = parse_domain(WILD)
    dynamics = np.array([SOUND, SOUND, SICK, SOUND])
    worlds = domain.worlds(4, seed=0, parameters=dynamics)
    after, tr = rollout_steps(domain, worlds, random(domain), 60)
    _, healthy = rollout_steps(
        domain, domain.worlds(4, seed=0, parameters=np.tile(SOUND, (4, 1))), random(domain), 60
    )
    well = [0, 1, 3]
    assert same(jax.tree.map(lambda x: x[:, well], tr), jax.tree.map(lambda x: x[:, well], healthy))
    assert after.diverged[well].tolist() == [0, 0, 0] and not after.diverged_rows[well].any()
    falls = np.flatnonzero(tr.terminated[:, 2])
    assert len(falls) == after.diverged[2] == after.finished[2] >= 1
    assert (tr.reward[falls, 2] == 0).all()
    assert same(tr.next_obs[falls, 2], tr.obs[falls, 2])  # what it saw last
    for leaf in (tr.obs, tr.next_obs, tr.reward, after.rows, after.observation, after.returns):
        assert np.isfinite(leaf).all()

    # The kept state is the one before the last divergence: stepped again, it diverges again.
    simulation = domain.build(1)
    simulation.restore(after.diverged_rows[2:3], np.array([SICK]))
    push = tr.action[falls[-1], 2:3]
    assert np.isfinite(after.diverged_rows[2]).all()
    assert simulation.step(np.arange(1), after.task_memory[2:3], commanded=push, applied=push)[
        4
    ].all()


def test_play_plays_one_episode_a_world():
    domain = parse_domain("hopper/torso_mass=1..9")
    policy = linear(1, domain)
    worlds = domain.worlds(10, seed=0)
    copy = jax.tree.map(np.copy, worlds)
    episodes = rollout_episodes(domain, worlds, policy)
    assert same(worlds, copy) and same(rollout_episodes(domain, worlds, policy), episodes)
    assert len(episodes.returns) == 10 and episodes.terminated.all() and not episodes.diverged.any()
    assert same(episodes.parameters, worlds.parameters)
    # Against a loop of one's own, one world at a time.
    for world in range(3):
        live = SteppedWorlds.resume(domain, some(worlds, [world]))
        total, steps, ended = 0.0, 0, False
        while not ended:
            seen = np.repeat(live.state["observation"].astype(np.float32), MAX_BATCH, axis=0)
            action = np.asarray(jax.jit(jax.vmap(lambda o: policy.act((), o)[0]))(seen))[:1]
            reward, terminated, _ = live.step(live.all, commanded=action)
            total, steps, ended = total + reward[0], steps + 1, terminated[0]
        assert (total, steps) == (episodes.returns[world], episodes.lengths[world])
        assert live.simulation.rows[0, 1] != 0
        simulation = live.simulation
        assert isinstance(simulation, PhysicsSimulation)
        assert episodes.forward[world] == SimView(simulation.simulator, live.all).qpos[0, 0]


def test_an_episode_is_the_same_alone_and_among_200():
    domain = parse_domain("hopper/torso_mass=1..9,observation_noise=0.01")
    policy, worlds = linear(1, domain), domain.worlds(200, seed=0)
    among = rollout_episodes(domain, worlds, policy)
    for world in (0, 77, 199):
        alone = rollout_episodes(domain, some(worlds, [world]), policy)
        assert same(alone, jax.tree.map(lambda x, world=world: x[[world]], among))
    assert len(np.unique(among.returns)) == 200


class Recalling(NamedTuple):
    """A recurrent policy: tanh(V h), where h = tanh(W o + U h)."""

    inputs: Any
    recurrent: Any
    outputs: Any

    def memory(self):
        return {"h": jnp.zeros(len(self.recurrent)), "count": jnp.int32(0)}

    def act(self, memory, observation):
        h = jnp.tanh(self.inputs @ observation + self.recurrent @ memory["h"])
        action = jnp.tanh(self.outputs @ h) * jnp.cos(memory["count"])
        return action, {"h": h, "count": memory["count"] + 1}

    @staticmethod
    def of(seed: int, domain: Domain) -> Recalling:
        random, spaces = np.random.default_rng(seed), domain.spaces
        shapes = ((64, spaces.observation), (64, 64), (spaces.action, 64))
        return Recalling(*[np.float32(0.3 * random.normal(size=shape)) for shape in shapes])


@pytest.mark.parametrize("make", [linear, Recalling.of])
@pytest.mark.parametrize("members", [1, 2])
def test_blocks_of_one_call_have_the_bits_of_a_call_each(monkeypatch, make, members):
    domain = parse_domain("hopper/torso_mass=1..9")
    policies = [make(seed, domain) for seed in range(members)]
    worlds = domain.worlds(1380 * members, seed=0)  # 22 blocks a policy, the last one padded
    act, calls = rollouts.act_members, []

    def spy(policies, memory, obs):
        calls.append(obs.shape[1])
        return act()(policies, memory, obs)

    monkeypatch.setattr(rollouts, "act_members", lambda: spy)
    together = rollout_episodes(domain, worlds, policies)
    assert calls[:4] == [16, 4, 1, 1] and set(calls) == {16, 4, 1}
    calls.clear()
    monkeypatch.setattr(rollouts, "BLOCKS", (1,))
    assert same(rollout_episodes(domain, worlds, policies), together)
    assert set(calls) == {1} and len(calls) > 22
    assert len(np.unique(together.lengths)) > 1  # so that blocks are laid out anew


ONE_CPU = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import hashlib
import jax, jax.numpy as jnp, numpy as np
from typing import Any, NamedTuple
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.physics.concurrency import count_cpus
from isthmus.types import Decision

class Linear(NamedTuple):
    weights: Any
    def memory(self):
        return ()
    def act(self, memory, observation, key=None):
        action = jnp.tanh(self.weights @ observation)
        return (action if key is None else Decision(action)), memory

domain = parse_domain("hopper/torso_mass=1..9,observation_noise=0.01,action_delay=1")
policy = Linear(np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32))
results = (
    rollout_episodes(domain, domain.worlds(400, seed=0), policy),
    rollout_steps(domain, domain.worlds(9, seed=0), policy, 300),
)
digest = hashlib.sha256()
for leaf in jax.tree.leaves(results):
    digest.update(np.asarray(leaf).tobytes())
print(count_cpus(), digest.hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no CPUs")
def test_one_cpu_finds_the_same_episodes():
    found = []
    for cpus in ("1", "2"):
        command = [sys.executable, "-c", ONE_CPU, cpus]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    assert found[0][0] == "1" and found[0][1] == found[1][1]


def test_stepped_worlds_are_freed_at_once():
    """Their arrays may be large, and nothing may wait for a collection of cycles."""
    domain = parse_domain("hopper/torso_mass=1..9")
    live = SteppedWorlds.resume(domain, domain.worlds(3, seed=0))
    live.begin(live.all)
    gone = weakref.ref(live)
    gc.disable()
    try:
        del live
        assert gone() is None
    finally:
        gc.enable()


def test_worlds_begin_as_their_own_counters_say_whoever_began_before():
    """Dynamics and starts that were drawn ahead are those of the world's task and episode."""
    domain = parse_domain("hopper/torso_mass=1..9")
    worlds = domain.worlds(4, seed=0)
    mixed, alone = (SteppedWorlds.resume(domain, worlds) for _ in range(2))
    for ids in ([0, 2], [0], [1, 3], [0, 1, 2, 3], [2]):
        mixed.begin(np.array(ids))
    wanted = [int(n) for n in mixed.state["episode"]]
    rows = mixed.simulation.rows.copy()
    for i, episode in enumerate(wanted):
        alone.state["episode"][i] = alone.state["task"][i] = episode - 1
        alone.begin(np.array([i]))
    assert wanted == [4, 3, 4, 3]
    assert same(alone.state["parameters"], mixed.state["parameters"])
    assert same(alone.state["observation"], mixed.state["observation"])
    assert len(np.unique(rows[:, 1])) == 4


def test_play_steps_living_worlds_only(monkeypatch):
    domain = parse_domain("hopper")
    stepped, seen = [], []
    step = PhysicsSimulation.step

    def spy(self, ids, memory, **actions):
        stepped.append(len(ids))
        return step(self, ids, memory, **actions)

    monkeypatch.setattr(PhysicsSimulation, "step", spy)
    episodes = rollout_episodes(
        domain, domain.worlds(20, seed=0), linear(1, domain), lambda live, done: seen.append(done)
    )
    assert sum(stepped) == episodes.lengths.sum() < 20 * episodes.lengths.max()
    assert len(stepped) == episodes.lengths.max()
    assert seen == [0, *(int((episodes.lengths <= t + 1).sum()) for t in range(len(stepped)))]


def test_policies_share_the_worlds_in_order():
    domain = parse_domain("hopper")
    policies, worlds = [linear(seed, domain) for seed in (1, 2)], domain.worlds(6, seed=0)
    both = rollout_episodes(domain, worlds, policies)
    for member, policy in enumerate(policies):
        mine = slice(3 * member, 3 * member + 3)
        alone = rollout_episodes(domain, some(worlds, mine), policy)
        assert same(alone, jax.tree.map(lambda x, mine=mine: x[mine], both))
    with pytest.raises(BadValue, match="evenly"):
        rollout_episodes(domain, domain.worlds(5, seed=0), policies)


class Remembering(NamedTuple):
    gain: Any

    def memory(self):
        return jnp.float32(0)

    def act(self, memory, observation):
        return self.gain * jnp.sin(memory) * jnp.ones(3), memory + 1


def test_a_policy_remembers_its_episode():
    """Pushes at step t are sin(t), in each world, however many are still alive."""
    domain = parse_domain("hopper")
    worlds = domain.worlds(8, seed=0)
    episodes = rollout_episodes(domain, worlds, Remembering(np.float32(0.5)))
    assert len(np.unique(episodes.lengths)) > 1
    live = SteppedWorlds.resume(domain, some(worlds, [5]))
    for t in range(episodes.lengths[5]):
        push = np.asarray(jnp.float32(0.5) * jnp.sin(jnp.float32(t)) * jnp.ones((1, 3)))
        _, terminated, _ = live.step(live.all, commanded=push)
    assert terminated[0] and np.isclose(live.state["returns"][0], episodes.returns[5], rtol=1e-5)


def test_play_ends_a_diverged_episode():
    domain = parse_domain(WILD)
    worlds = domain.worlds(6, seed=0, parameters=np.array([SICK, SICK, SICK, SICK, SOUND, SOUND]))
    episodes = rollout_episodes(domain, worlds, linear(0, domain))
    lost = episodes.diverged
    assert lost[:4].any() and not lost[4:].any()
    assert same(episodes.terminated, lost) and same(episodes.lengths < 1000, lost)
    assert np.isfinite(episodes.returns).all()
