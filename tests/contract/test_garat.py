"""GARAT: what is executed, charged and told; the order of its box; what is seen; and a simulator
that it grounds.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import compilations

import isthmus
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_steps
from isthmus.learning.advantage import flat
from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.transition_discriminator import (
    TransitionDiscriminator,
    TransitionNetwork,
    slope_penalty,
)
from isthmus.logs.record import Deterministic, record_log
from isthmus.logs.write import write_log
from isthmus.methods import registry
from isthmus.methods.garat import Grounded, relabelled, transformer_spaces
from isthmus.methods.method import State, fold_key, source_round
from isthmus.problems.problem import Access, Problem, make_problem
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Decision, Spaces, Transition

TEXT = "hopper/gravity=x2"
ROUND = tiny.ROUND
SMALL = tiny.settings("garat") | {"pretraining": ROUND, "inner": 2, "updates": 2}


def build(name: str = "garat", **changes: Any) -> Any:
    """Small: pretraining is over with the random steps, so that round 1 is the first of phase 1."""
    known = registry.settings_of(registry.find_method(name)())
    return registry.build(
        name,
        {k: v for k, v in SMALL.items() if k in known}
        | {k.replace("__", "."): v for k, v in changes.items()},
    )


def problem(**changes: Any) -> Problem:
    return replace(make_problem(TEXT, access="dataset", data=tiny.log(TEXT)), **changes)


def online() -> Problem:
    return make_problem(TEXT, access="online")


def states(
    method: Any, rounds: int, where: Problem | None = None, start: Any = None
) -> list[State]:
    where = where or problem()
    out = [method.init(where, 0, start)]
    for _ in range(rounds):
        out.append(method.step(where, out[-1])[0])
    return out


@cache
def trained() -> list[State]:
    """Two grounding steps, as told by a log: before and after each of eight rounds."""
    return states(build(), 8)


# What is executed, charged and told.


class Plus(NamedTuple):
    """A transformer whose delta is one part of (s, a), scaled."""

    pick: Any
    scale: Any

    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Any, key: Any) -> tuple[Decision, tuple]:
        delta = self.scale * observation[self.pick]
        return Decision(delta, extra={"sample": delta + 100}), memory


def test_what_g_makes_of_the_action_is_executed_and_the_action_is_told() -> None:
    low, high = np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32)
    agent = Plus(np.array([0, 1]), np.float32(1))
    grounded = Grounded(agent, Plus(np.array([3, 4]), np.array([0.5, 2.0], np.float32)), low, high)
    decision, _ = grounded.act((), np.array([0.4, -0.6, 9.0], np.float32), jax.random.key(0))
    np.testing.assert_allclose(decision.action, [0.4, -0.6])
    assert decision.applied is not None
    np.testing.assert_allclose(
        decision.applied, [0.6, -1.0]
    )  # 0.4 + 0.5 * 0.4; -0.6 + 2 * -0.6, clipped
    np.testing.assert_allclose(
        decision.extra["delta"], [100.2, 98.8]
    )  # the sample, as PPO's likelihood needs it
    np.testing.assert_allclose(decision.extra["sample"], [100.4, 99.4])  # the agent's own


def test_a_transformer_that_explores_and_one_that_does_not_share_no_noise_with_the_policy() -> None:
    method, s = build(), trained()[2]
    obs, keys = np.zeros(11, np.float32), jax.random.split(jax.random.key(1), 2000)
    explores = method.transformer.behaviour(s.learner.transformer)
    grounded = method._make_grounded(problem(), method.behaviour(s), explores)
    told = jax.jit(jax.vmap(lambda k: grounded.act((), obs, k)[0].extra))(keys)
    behaviour = method.behaviour(s)
    alone = jax.jit(jax.vmap(lambda k: behaviour.act((), obs, k)[0].extra["sample"]))(keys)
    np.testing.assert_array_equal(told["sample"], alone)  # the policy's draw is that of source_only
    assert np.abs(np.corrcoef(np.asarray(told["delta"]).T, np.asarray(alone).T)[:3, 3:]).max() < 0.1


def test_the_control_cost_is_charged_on_the_agents_own_action() -> None:
    """With delta = -a the robot's motors stay still: it moves as it would unmoved, and pays for
    a.
    """
    source = problem().source
    worlds, a = source.worlds(4, 3), np.arange(11, 14)
    agent = build().behaviour(trained()[0])
    grounded = Grounded(agent, Plus(a, np.float32(-1)), source.spaces.low, source.spaces.high)
    _, moved = rollout_steps(source, worlds, grounded, 20)
    _, unmoved = rollout_steps(source, worlds, Deterministic(Still()), 20)
    np.testing.assert_array_equal(moved.next_obs, unmoved.next_obs)
    cost = 1e-3 * np.square(moved.action).sum(-1)
    assert cost.min() > 1e-5
    np.testing.assert_allclose(moved.reward, unmoved.reward - cost, atol=1e-6)


class Still(NamedTuple):
    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Any) -> tuple[Any, tuple]:
        return jnp.zeros(3), memory


def single(*x: Any) -> np.ndarray:
    return np.array(x, np.float32)


def test_relabelling_by_hand() -> None:
    """One world, four steps, an episode's end after the second."""
    column = lambda *x: np.array(x, np.float32).reshape(-1, 1, 1)
    ended = np.array([False, True, False, False])[:, None]
    tr = Transition(
        obs=column(1, 2, 7, 8),
        action=column(0.1, 0.2, 0.7, 0.8),
        reward=np.full((4, 1), np.nan, np.float32),
        next_obs=column(2, 3, 8, 9),
        terminated=ended,
        truncated=np.zeros_like(ended),
        parameters=column(5, 5, 5, 5),
        extra={"sample": column(9, 9, 9, 9), "delta": column(-1, -2, -3, -4)},
    )
    paid = np.array([[0.5], [0.6], [0.7], [0.8]], np.float32)
    for cut in (tr, tr._replace(terminated=tr.truncated, truncated=tr.terminated)):
        own = relabelled(cut, column(10, 20, 30, 40), paid)
        np.testing.assert_array_equal(own.obs[:, 0], single([1, 0.1], [2, 0.2], [7, 0.7], [8, 0.8]))
        np.testing.assert_array_equal(
            own.next_obs[:, 0], single([2, 0.2], [3, 20], [8, 0.8], [9, 40])
        )
        np.testing.assert_array_equal(own.extra["sample"], tr.extra["delta"])
        np.testing.assert_array_equal(own.action, tr.extra["delta"])
        assert own.reward is paid and set(own.extra) == {"sample"}
        assert own.terminated is cut.terminated and own.truncated is cut.truncated


def test_delta_reaches_from_any_action_to_any_other() -> None:
    spaces = transformer_spaces(Spaces(11, single(-1, -2), single(1, 3), parameters=4))
    assert (spaces.observation, spaces.parameters) == (13, 4)
    np.testing.assert_array_equal(spaces.low, [-2, -5])
    np.testing.assert_array_equal(spaces.high, [2, 5])


# The discriminator.


def rows(random: np.random.Generator, shift: float, n: int = 2000) -> TransitionBatch:
    """s' = s + a + shift, and a little noise."""
    s, a = (random.normal(size=(n, 1)).astype(np.float32) for _ in range(2))
    return TransitionBatch(
        s, a, (s + a + shift + 0.05 * random.normal(size=(n, 1))).astype(np.float32)
    )


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.4, 0.6), (2.0, 0.9, 1.0)])
def test_transitions_are_told_apart_by_what_the_action_leads_to(
    shift: float, low: float, high: float
) -> None:
    random = np.random.default_rng(0)
    judge = TransitionDiscriminator(steps=200, minibatch=128)
    s, told = judge.init(1, 1, jax.random.key(0)), {}
    for i in range(3):
        s, told = judge.learn(s, rows(random, 0.0), rows(random, shift), jax.random.key(i))
    assert low <= told["discriminator_accuracy"] <= high
    target, simulated = (judge.reward(s, rows(random, x)) for x in (0.0, shift))
    assert (target.mean() - simulated.mean() > 0.3) == (
        shift > 0
    )  # what looks like the target is paid more


def test_the_reward_by_hand() -> None:
    random, judge = (
        np.random.default_rng(1),
        TransitionDiscriminator(hidden=(8,), steps=5, minibatch=64),
    )
    first, second = rows(random, 0.0), rows(random, 1.0, n=500)
    s, _ = judge.learn(judge.init(1, 1, jax.random.key(3)), first, second, jax.random.key(4))
    a, b = (np.concatenate(x, -1).astype(np.float64) for x in (first, second))
    mean = (a.mean(0) + b.mean(0)) / 2  # either side counts half, whatever its size
    deviation = np.sqrt((np.square(a - mean).mean(0) + np.square(b - mean).mean(0)) / 2)
    np.testing.assert_allclose(s.mean, mean, atol=1e-5)
    np.testing.assert_allclose(s.deviation, deviation, rtol=1e-4)
    x = (b[:7] - mean) / deviation
    (w1, b1), (w2, b2) = s.judge.deep
    ((w, c),) = s.judge.skip
    logit = (np.maximum(x @ w1 + b1, 0) @ w2 + b2 + np.maximum(x @ w + c, 0))[:, 0]
    expected = -np.log(1 - 1 / (1 + np.exp(-logit)))
    np.testing.assert_allclose(
        judge.reward(s, TransitionBatch(*(y[:7] for y in second))), expected, rtol=1e-3
    )


def test_the_penalty_is_on_slopes_other_than_one() -> None:
    """Of a linear judge w x: (|w| - 1)^2 everywhere; the skip's ReLU adds its own slope where it is
    open.
    """
    w = single([1.2], [-1.6])
    none, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    shut = TransitionNetwork(((w, none),), ((np.zeros((2, 1), np.float32), -one),))
    assert slope_penalty(shut, x, x + 1, jax.random.key(0)) == pytest.approx(
        1.0, rel=1e-5
    )  # |w| = 2
    undone = TransitionNetwork(((w, none),), ((-w, 100 * one),))
    assert slope_penalty(undone, x, x + 1, jax.random.key(0)) == pytest.approx(
        1.0, rel=1e-3
    )  # |w - w| = 0
    open_ = TransitionNetwork(((0.25 * w, none),), ((0.25 * w, 100 * one),))
    assert slope_penalty(open_, x, x + 1, jax.random.key(0)) == pytest.approx(0.0, abs=1e-5)


# The order of the box.


def test_grounding_and_training_take_turns() -> None:
    seen = trained()
    assert [(int(s.phase), int(s.round)) for s in seen] == [
        (0, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2),
    ]  # fmt: skip
    assert [int(s.source_steps) for s in seen] == [ROUND * n for n in range(1, 10)]
    grounding = seen[1:]
    policies = [digest(s.learner.agent.networks) for s in grounding]
    assert policies[0] == policies[1] == digest(seen[0].learner.networks)
    assert policies[3] == policies[4] == policies[5]
    assert len({*policies}) == 5
    transformers = [digest((s.learner.transformer, s.learner.discriminator)) for s in grounding]
    assert transformers[1] == transformers[2] == transformers[3]
    assert transformers[5] == transformers[6] == transformers[7]
    assert len({*transformers}) == 4


def test_each_grounding_step_begins_with_a_new_transformer() -> None:
    """One that does nothing yet, and has seen nothing but what was rolled in the target."""
    method, before = build(), trained()[4]
    turned = method._begin_phase(problem(), before)
    spaces = transformer_spaces(problem().source.spaces)
    assert digest(turned.learner.transformer) == digest(
        method.transformer.init(spaces, fold_key(before.key, 7, 3))
    )
    assert digest(turned.learner.transformer.networks) != digest(
        trained()[2].learner.transformer.networks
    )
    assert not turned.worlds.source.total.any()
    log, tr_rows = problem().log(), 2 * ROUND
    moments = trained()[6].learner.transformer.obs_moments  # after two rounds
    assert moments.count == log.size + tr_rows


def test_a_simulator_that_g_leaves_alone_is_the_source() -> None:
    """Line 7 with delta = 0 is a round of source_only, to the bit."""
    method, where, s = build(), problem(), trained()[3]
    (*layers, (weights, bias)) = s.learner.transformer.networks.actor
    networks = s.learner.transformer.networks._replace(actor=(*layers, (0 * weights, 0 * bias)))
    transformer = s.learner.transformer._replace(networks=networks)
    after, metrics = method.step(
        where, s._replace(learner=s.learner._replace(transformer=transformer))
    )
    plain, expected = source_round(
        method.learner, where.source, s._replace(learner=s.learner.agent, worlds=s.worlds.source)
    )
    assert digest(after.learner.agent) == digest(plain.learner)
    assert digest(after.worlds.source) == digest(plain.worlds)
    assert metrics == expected
    assert digest(after.learner.agent) != digest(trained()[4].learner.agent)


def test_the_first_phase_is_source_only_or_another_run() -> None:
    method = build(pretraining=3 * ROUND)
    first = states(build("source_only"), 2)[-1]
    whole = states(method, 4)
    assert digest(whole[2]) == digest(first)
    begun = states(method, 2, start=first.learner)
    assert [int(s.phase) for s in begun] == [1, 1, 1]
    for mine, theirs in zip(begun[1:], whole[3:], strict=True):
        assert digest(mine) == digest(theirs._replace(source_steps=mine.source_steps))


@pytest.mark.represented("ppo")
@pytest.mark.parametrize("learner", ["ppo", "trpo"])
def test_nothing_compiles_in_the_second_grounding_step(learner: str) -> None:
    method, where = build(learner=learner), problem()
    s = method.init(where, 0)
    for number in range(8):
        with compilations() as found:
            s, _ = method.step(where, s)
        assert found == [] or number in (0, 2), f"round {number + 1} compiled"


def test_online_the_target_is_stepped_once_a_grounding_step() -> None:
    seen = states(build(), 8, online())
    assert [int(s.usage.transitions) // ROUND for s in seen] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [digest(s.learner.target) == digest(seen[1].learner.target) for s in seen[1:]] == 4 * [
        True
    ] + 4 * [False]
    robots = seen[-1].worlds.target
    assert robots.total.sum() == 2 * ROUND and seen[-1].usage.episodes == robots.episode.sum()


def test_a_run_opens_in_any_phase_and_goes_on_from_another(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"steps": 7 * ROUND, "settings": SMALL, "quiet": True}
    first = isthmus.train("garat", problem(), out=tmp_path / "first", **asked)
    opened = isthmus.Run.open(first.folder).state()
    assert (opened.phase, opened.round) == (3, 2)
    assert digest(opened) == digest(trained()[6])
    alone: dict[str, Any] = {
        **asked,
        "settings": {k: v for k, v in SMALL.items() if k.startswith("learner")},
    }
    source = isthmus.train("source_only", problem(), out=tmp_path / "source", **alone)
    begun = isthmus.train("garat", online(), out=tmp_path / "begun", start=source, **asked)
    assert digest(isthmus.Run.open(begun.folder).state()) == digest(begun.state())


# A simulator whose right transformation is known.


class Nothing(NamedTuple):
    def memory(self) -> tuple:
        return ()

    def act(self, memory: tuple, observation: Any, key: Any) -> tuple[Decision, tuple]:
        return Decision(jnp.zeros(6)), memory


def known(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """What a linear model of a log sees."""
    return np.concatenate([obs, action, np.ones((len(obs), 1))], -1)


@pytest.mark.full  # what it runs through is in all the others; this is how well
def test_grounding_finds_motors_of_half_the_strength(tmp_path: Path) -> None:
    """clip(a + delta) should be 0.5 a. The policy acts at random; the transformer has 40 rounds of
    1,024 steps.
    """
    method = registry.build(
        "garat",
        {"learner.worlds": 16, "inner": 40, "pretraining": 0, "discriminator.minibatch": 256},
    )
    target = parse_domain("half_cheetah/motor_strength=x0.5")
    pi = method.learner.init(target.spaces, jax.random.key(1))
    log = record_log(target, method.learner.behaviour(pi), 4096)
    write_log(tmp_path / "log.npz", log, {}, target)
    where = make_problem(str(target), data=str(tmp_path / "log.npz"))
    s = states(method, 40, where, start=pi)[-1]
    change, *_ = np.linalg.lstsq(known(log.obs, log.action), log.next_obs - log.obs)
    error, slope = [], []
    for transformer in (Nothing(), Deterministic(method.transformer.policy(s.learner.transformer))):
        _, tr = rollout_steps(
            where.source,
            where.source.worlds(16, 9),
            method._make_grounded(where, method.behaviour(s), transformer),
            64,
        )
        o, a, following, delta = (
            flat(x) for x in (tr.obs, tr.action, tr.next_obs, tr.extra["delta"])
        )
        error.append(np.square((following - o - known(o, a) @ change) / log.obs.std(0)).mean())
        slope.append(
            np.mean([np.polyfit(x, np.clip(x + d, -1, 1), 1)[0] for x, d in zip(a.T, delta.T)])
        )
    assert slope[0] == pytest.approx(1, abs=1e-5)
    assert slope[1] < 0.9  # 0.5 is right
    assert error[1] < 0.6 * error[0]


# What is seen.


class Forbidden(RobotDomain):
    """A target of which only the spaces may be known."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("training touched its target")

    simulation = build = worlds = draw = _refuse


def test_the_target_is_known_by_its_log_alone() -> None:
    target = problem().target
    hidden = Forbidden(**{f.name: getattr(target, f.name) for f in fields(Domain)})
    assert digest(states(build(), 8, problem(target=hidden))[-1]) == digest(trained()[-1])


def test_the_logs_rewards_are_not_looked_at_and_its_transitions_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = problem().log()
    told = log._replace(reward=log.reward * np.float32("nan"))
    monkeypatch.setattr(Problem, "log", lambda self: told)
    assert digest(states(build(), 8)[-1]) == digest(trained()[-1])
    told = log._replace(next_obs=log.next_obs + np.float32(1))
    other = states(build(), 4)[-1].learner
    assert digest(other.agent) != digest(trained()[4].learner.agent)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inner": 0}, "inner=0"),
        ({"updates": 0}, "updates=0"),
        ({"pretraining": -1}, "pretraining=-1"),
        ({"learner": "sac"}, "on policy"),
        ({"discriminator.steps": 0}, "steps=0"),
        ({"discriminator.penalty": -1}, "penalty"),
        ({"transformer.clip": 0}, "clip"),
        (
            {"transformer.worlds": 3},
            "transformer.worlds=3: g's rounds are pi's; set learner.worlds",
        ),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadValue, match=message):
        registry.build("garat", wrong)


def test_without_a_log_it_is_said_at_once() -> None:
    with pytest.raises(BadValue, match="access dataset needs the target's log"):
        build().init(replace(online(), access=Access.DATASET), 0)
