"""DARC, DAP, DAP+U and their kin by inverse models: what is executed, what is deployed, what is
paid, what is seen.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import probes
import pytest
import tiny

from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.learning.classifiers import TransitionBatch, disagreement
from isthmus.learning.inverse import InverseModels
from isthmus.learning.keys import beside
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.sac import SAC, SACBatch
from isthmus.logs.record import record_log
from isthmus.methods import registry
from isthmus.methods.dap_inverse import translate
from isthmus.methods.darc import learn_batches
from isthmus.methods.logged import log_view
from isthmus.methods.method import State
from isthmus.problems.problem import Access, Problem, make_problem
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Spaces

TEXT = "hopper/gravity=x2"
ROUND = tiny.ROUND


def build(name: str, **changes: Any) -> Any:
    learner = {"learner": "sac"}
    known = registry.settings_of(registry.build(name, learner))
    small = (
        tiny.SETTINGS | tiny.OWN | tiny.SAC | {"warmup": 2 * ROUND, "learner.random_steps": ROUND}
    )
    settings = {k: v for k, v in small.items() if k in known}
    return registry.build(
        name, learner | settings | {k.replace("__", "."): v for k, v in changes.items()}
    )


def problem(**changes: Any) -> Problem:
    return replace(make_problem(TEXT, access="dataset", data=tiny.log(TEXT)), **changes)


def run(method: Any, rounds: int, where: Problem | None = None) -> State:
    where = where or problem()
    s = method.init(where, 0)
    for _ in range(rounds):
        s, _ = method.step(where, s)
    return s


@cache
def trained(name: str) -> State:
    """A method after four rounds: what is compared with."""
    return run(build(name), 4)


# Two actions.


@pytest.mark.represented("dap-2", "dap_u-1")
@pytest.mark.parametrize(("name", "actors"), [("dap", 1), ("dap", 2), ("dap_u", 1)])
def test_the_source_runs_one_half_of_the_policy_and_the_target_the_other(
    name: str, actors: int
) -> None:
    method = build(name, learner__actors=actors)
    s = trained(name) if actors == 1 else run(method, 0)
    both = method.learner.policy(s.learner.sac)
    obs = np.random.default_rng(0).normal(size=11).astype(np.float32)
    whole = np.asarray(both.act((), obs)[0])
    first, second = (
        np.asarray(policy.act((), obs)[0]) for policy in (method.source_policy(s), method.policy(s))
    )
    np.testing.assert_allclose(whole, np.concatenate([first, second]), rtol=1e-6)
    assert np.abs(first - second).max() > 1e-4


def test_more_policies_than_actions() -> None:
    with pytest.raises(
        BadValue, match=r"learner.actors=3: 1 for one policy with two actions, 2 for a policy each"
    ):
        run(build("dap", learner__actors=3), 0)


def test_the_first_action_is_executed_and_both_are_remembered() -> None:
    method = build("dap")
    s = run(method, 0)
    decision, _ = method.behaviour(s).act((), np.zeros(11, np.float32), jax.random.key(3))
    plain, _ = method.learner.behaviour(s.learner.sac).act(
        (), np.zeros(11, np.float32), jax.random.key(3)
    )
    np.testing.assert_array_equal(decision.action, plain.action[:3])
    np.testing.assert_array_equal(decision.extra["sample"], plain.extra["sample"])
    assert decision.applied is None


def test_actions_are_redrawn_where_the_classifiers_disagree() -> None:
    """Eq. 5: the standard deviation of what is added is beta u(s, a), apart for the two actions."""
    method, s = build("dap_u", redraw=0.05), trained("dap_u")
    obs = np.full(11, 0.3, np.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(
        jax.vmap(lambda behaviour, k: behaviour.act((), obs, k)[0].extra["sample"], (None, 0))
    )
    drawn, asked = (
        np.asarray(draw(b, keys))
        for b in (method.behaviour(s), method.learner.behaviour(s.learner.sac))
    )
    doubts = jax.jit(jax.vmap(partial(disagreement, s.learner.classifiers.pairs, obs)))
    doubt = np.concatenate(
        [np.asarray(doubts(a))[:, None].repeat(3, 1) for a in np.split(asked, 2, 1)], 1
    )
    inside = np.abs(asked) < 0.6  # further out the bounds cut
    noise = ((drawn - asked) / doubt)[inside]
    assert noise.std() == pytest.approx(0.05, rel=0.05) and abs(noise.mean()) < 0.005
    still = replace(method, redraw=0.0).behaviour(s)
    np.testing.assert_array_equal(draw(still, keys), asked)


def test_a_policy_with_two_actions_starts_from_none_that_has_one() -> None:
    with pytest.raises(BadValue, match="leave --start out"):
        build("dap").init(problem(), 0, trained("source_only").learner)


# What is paid.


def batch(action: int, n: int = 32, seed: int = 1) -> SACBatch:
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    return SACBatch(
        draw(n, 11), np.tanh(draw(n, action)), draw(n), draw(n, 11), random.random(n) < 0.1
    )


def stack(batches: list[SACBatch]) -> SACBatch:
    return jax.tree.map(lambda *x: np.stack(x), *batches)


class Told(SAC):
    """SAC that gives back what it was told to learn from."""

    def learn_batches(self, learned: Any, batches: Any, key: Any) -> tuple[Any, dict[str, Any]]:
        return (learned, batches, key), {}


@pytest.mark.represented("dap_u-0.7")
@pytest.mark.parametrize(("name", "weight"), [("darc", 0.0), ("dap", 0.7), ("dap_u", 0.7)])
def test_sac_is_paid_by_the_box(name: str, weight: float) -> None:
    """A round is SAC's own with the rewards changed: each batch's by the classifiers after their
    step on it.
    """
    method = build(name) if name == "darc" else build(name, regularization=weight)
    method = replace(method, learner=Told(**vars(method.learner)))
    before, key = trained(name).learner, jax.random.key(5)
    width = 3 if name == "darc" else 6
    mine, logged = (stack([batch(n, seed=s) for s in (1, 2)]) for n in (width, 3))
    first, second = (mine.action, mine.action) if name == "darc" else np.split(mine.action, 2, -1)
    applied, deployed = (TransitionBatch(mine.obs, a, mine.next_obs) for a in (first, second))
    target = TransitionBatch(logged.obs, logged.action, logged.next_obs)

    @jax.jit
    def learn_one(classifiers: Any, *batches: Any) -> tuple[Any, Any]:
        *seen, logged, key = batches
        after, _ = method.classifiers.update(classifiers, seen[0], logged, key)
        return after, method.classifiers.delta(after, *seen)

    after, deltas = before.classifiers, []
    for i, k in enumerate(jax.random.split(beside(key), 2)):
        rows = (jax.tree.map(lambda x, i=i: x[i], b) for b in (applied, deployed, target))
        after, delta = learn_one(after, *rows, k)
        deltas.append(np.asarray(delta))
    paid = np.stack(deltas)
    assert np.abs(paid).min() > 0
    for counts in (np.float32(0), np.float32(1)):
        learned, told = learn_batches(method, before, (mine, logged), counts, key)
        back: Any = learned.sac.learned
        sac, others, sac_key = back
        reward = mine.reward + counts * paid - weight * np.square(first - second).sum(-1)
        np.testing.assert_allclose(others.reward, reward, rtol=1e-5, atol=1e-6)
        expected = before.sac.learned, mine._replace(reward=others.reward), key
        assert digest((sac, others, sac_key)) == digest(expected)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            learned.classifiers,
            after,
        )
        assert told["delta_reward"] == pytest.approx(paid.mean(), rel=1e-5)
        assert told["delta_reward_sd"] == pytest.approx(paid.std(1).mean(), rel=1e-5)


def test_before_its_warm_up_darc_is_source_only() -> None:
    plain, darc = trained("source_only"), run(build("darc", warmup=10**6), 4)
    assert digest(darc.learner.sac.learned) == digest(plain.learner.learned)
    assert digest(darc.worlds.source) == digest(plain.worlds)
    assert digest(trained("darc").learner.sac.learned) != digest(plain.learner.learned)


# What is seen.


class Forbidden(RobotDomain):
    """A target of which only the spaces may be known."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("training touched its target")

    simulation = build = worlds = draw = _refuse


NAMES = ["darc", "dap", "dap_u", "dap_inverse"]
OF_ALL = pytest.mark.represented("dap_u", "dap_inverse", "h2o")
"""DARC and DAP are DAP+U's, with less."""


@OF_ALL
@pytest.mark.parametrize("name", [*NAMES, "h2o"])
def test_the_target_is_known_by_its_log_alone(name: str) -> None:
    target = problem().target
    hidden = Forbidden(**{f.name: getattr(target, f.name) for f in fields(Domain)})
    assert digest(run(build(name), 4, problem(target=hidden))) == digest(trained(name))


@OF_ALL
@pytest.mark.parametrize("name", NAMES)
def test_the_logs_rewards_are_not_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, log = digest(trained(name)), problem().log()
    poisoned = log._replace(reward=log.reward * np.float32("nan"))
    monkeypatch.setattr(Problem, "log", lambda self: poisoned)
    assert digest(run(build(name), 4)) == expected


def test_a_logs_actions_are_read_in_the_policys_own_units() -> None:
    """Motors of 0..4: 1 is -0.5 of a policy whose actions are in -1..1."""
    log = problem().log()._replace(action=np.full((60, 3), 1, np.float32))
    spaces = Spaces(11, np.zeros(3, np.float32), np.full(3, 4, np.float32))
    where: Any = SimpleNamespace(log=lambda: log, target=SimpleNamespace(spaces=spaces))
    view = log_view(where)
    np.testing.assert_array_equal(view.old.action, np.full((60, 3), -0.5))
    np.testing.assert_array_equal(view.old.obs, log.obs)


def test_a_log_is_prepared_once_and_forgotten_with_it() -> None:
    """And another one's arrays are never taken for its own."""
    spaces = Spaces(11, -np.ones(3, np.float32), np.ones(3, np.float32))
    copied = lambda: problem().log()._replace(reward=np.full(60, 7, np.float32))
    where: Any = SimpleNamespace(log=lambda: log, target=SimpleNamespace(spaces=spaces))
    log = copied()
    view = log_view(where)
    assert log_view(where) is view and isinstance(view.old.obs, jax.Array)
    wider = SimpleNamespace(spaces=spaces._replace(high=3 * spaces.high))
    other: Any = SimpleNamespace(log=lambda: log, target=wider)
    assert np.abs(log_view(other).old.action - view.old.action).max() > 0.1
    gone = weakref.ref(view.old.reward)
    del view
    log = log._replace(reward=np.full(60, 8, np.float32))
    assert log_view(where).old.reward[0] == 8
    gc.collect()
    assert gone() is None


@OF_ALL
@pytest.mark.parametrize("name", [*NAMES, "h2o"])
def test_the_log_teaches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, log = digest(trained(name).learner.sac), problem().log()
    other = log._replace(next_obs=log.next_obs + np.float32(1))
    monkeypatch.setattr(Problem, "log", lambda self: other)
    assert digest(run(build(name), 4).learner.sac) != expected


def test_darc_online_takes_a_step_of_the_target_for_every_ten() -> None:
    where = make_problem(TEXT, access="online")
    method = build("darc")
    s = run(method, 5, where)
    assert s.source_steps == 6 * ROUND
    assert (
        s.usage.transitions
        == s.source_steps // 10
        == s.learner.target.added
        == s.worlds.target.total.sum()
    )
    few = {"learner__worlds": 1, "learner__steps": 4, "learner__random_steps": 10**6}
    one = run(build("darc", **few), 10, where)
    assert one.usage.transitions == one.source_steps // 10 == 4, (
        "also where a round has fewer than ten"
    )
    with pytest.raises(BadValue, match="access dataset needs the target's log"):
        method.init(replace(where, access=Access.DATASET), 0)


# Inverse models.


def walked(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transitions of s' = s + 1.5 a + noise of 0.05: s, a, s'."""
    random = np.random.default_rng(seed)
    obs, action = random.normal(size=(5000, 1)), random.uniform(-1, 1, (5000, 1))
    next_obs = obs + 1.5 * action + 0.05 * random.normal(size=(5000, 1))
    return obs.astype(np.float32), action.astype(np.float32), next_obs.astype(np.float32)


@probes.over_seeds
def test_inverse_models_find_the_action_and_differ_where_the_log_is_empty(seeds: range) -> None:
    """a = (s' - s) / 1.5, with an error of 0.05 / 1.5; in minibatches of 64 that error has a
    deviation of 0.14.
    """
    asked, far = np.array([[0.0], [1.0]], np.float32), np.full((1, 1), 30.0, np.float32)
    models = InverseModels(hidden=(64, 64), members=3, minibatch=512)

    def found(seed: int) -> list[float]:
        obs, action, next_obs = walked(seed)
        state = models.init(obs, next_obs, 1, jax.random.key(seed))
        state, error = models.fit(state, 2000, obs, next_obs, action, jax.random.key(100 + seed))
        near = np.asarray(models.actions(state, asked, asked + np.float32(0.75)))
        assert np.asarray(models.actions(state, far, far + 0.75)).std() > 5 * near.std(0).max()
        return [float(error) / (0.05 / 1.5) ** 2, near.min(), near.max()]

    probes.check(found, seeds, [0.7, 0.47, 0.47], [1.3, 0.53, 0.53])


def test_what_never_changes_in_a_log_counts_by_as_much_as_it_moves() -> None:
    obs, _, next_obs = (np.pad(x, ((0, 0), (0, 1)), constant_values=0.5) for x in walked(2))
    still = InverseModels(hidden=(8,), members=1).init(obs, next_obs, 1, jax.random.key(0))
    assert np.abs(still.deviation[1::2] - 1).max() == 0


def test_a_wrong_setting_is_named_whole() -> None:
    with pytest.raises(BadValue, match=r"^inverse\.members=0: needs a whole number"):
        build("dap_inverse", **{"inverse.members": 0})


def test_what_the_target_cannot_be_trusted_to_do_costs() -> None:
    """Members that always say 0.2 and 1.4: g = 0.8, they disagree by 0.36; 1.0 and 1.6: g = 1.3 is
    0.3 beyond.
    """
    method, s, mine = build("dap_inverse"), trained("dap_inverse"), batch(3)
    for said, spread, beyond in (((0.2, 1.4), 0.36, 0.0), ((1.0, 1.6), 0.09, 0.09)):
        members = jax.tree.map(lambda x: np.zeros_like(x[:2]), s.learner.inverse.members)
        *layers, (weights, bias) = members
        members = (*layers, (weights, bias + np.array(said, np.float32)[:, None]))
        told = method.cost(
            s.learner.inverse._replace(members=members), mine.obs, mine.action, mine.next_obs
        )
        gap = np.square(np.mean(said) - mine.action).sum(-1)
        for found, expected in zip(told, (3 * spread, 3 * beyond, gap), strict=True):
            np.testing.assert_allclose(found, np.broadcast_to(expected, 32), rtol=1e-4, atol=1e-6)


def test_the_source_runs_sacs_action_and_the_target_its_translation() -> None:
    method, s = build("dap_inverse"), trained("dap_inverse")
    obs = np.random.default_rng(0).normal(size=11).astype(np.float32)
    a_src, a_tgt = (
        np.asarray(policy.act((), obs)[0]) for policy in (method.source_policy(s), method.policy(s))
    )
    expected = np.clip(
        translate(s.learner.translator, obs, a_src), -1, 1
    )  # Hopper's bounds are -1 and 1
    np.testing.assert_allclose(a_tgt, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(a_src - a_tgt).max() > 1e-4


def test_a_source_policy_is_translated_without_more_training() -> None:
    source = trained("source_only")
    method = build("dap_inverse")
    s = method.init(problem(), 0, source.learner)
    assert digest(method.source_policy(s)) == digest(build("source_only").policy(source))


def test_the_models_are_fitted_before_anything_else_and_then_left_alone() -> None:
    method = build("dap_inverse", fitting=700)
    states = [method.init(problem(), 0)]
    for _ in range(4):
        states.append(method.step(problem(), states[-1])[0])
    fitted = [digest(s.learner.inverse.members) for s in states]
    assert len(set(fitted[:3])) == 3 and len(set(fitted[2:])) == 1
    assert [int(s.phase) for s in states] == [0, 0, 0, 1, 1]
    assert [int(s.learner.inverse.optimizer[0].count) for s in states] == [0, 500, 700, 700, 700]
    assert [int(s.source_steps) for s in states] == [ROUND, ROUND, ROUND, 2 * ROUND, 3 * ROUND]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("darc", {"warmup": -1}), ("dap", {"regularization": -1.0}), ("dap_u", {"redraw": -0.1}),
     ("dap_u", {"classifiers.bound": 2.0}), ("dap_u", {"classifiers.members": 1}),
     ("dap_inverse", {"weight": -1.0}), ("dap_inverse", {"fitting": -1}),
     ("darc", {"learner": "ppo"}), ("dap_inverse", {"learner": "trpo"})],
)  # fmt: skip
def test_settings_that_cannot_be(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match="learner=sac" if "learner" in wrong else next(iter(wrong))):
        registry.build(name, wrong)


@pytest.mark.full  # the same fit as that of the numbers above, in a robot
def test_inverse_models_undo_stronger_motors() -> None:
    """The cheetah's motors are 1.5 times as strong in the target: what a does in the source, a /
    1.5 does there.
    """
    random = UniformBehaviour(-np.ones(6, np.float32), np.ones(6, np.float32))
    log = record_log(parse_domain("half_cheetah/motor_strength=x1.5"), random, 4000)
    models = InverseModels(hidden=(64, 64), members=2, minibatch=64)
    state = models.init(log.obs, log.next_obs, 6, jax.random.key(0))
    state, _ = models.fit(state, 3000, log.obs, log.next_obs, log.action, jax.random.key(1))
    seen = record_log(parse_domain("half_cheetah"), random, 500, seed=1)
    found = np.asarray(models.actions(state, seen.obs, seen.next_obs)).mean(0)
    slope = (found * seen.action).sum() / np.square(seen.action).sum()
    assert slope == pytest.approx(1 / 1.5, abs=0.07)
    assert np.square(found - seen.action / 1.5).mean() < 0.25 * np.square(seen.action / 1.5).mean()


@pytest.mark.represented("dap_u")
@pytest.mark.parametrize("method", ["dap", "dap_u"])
def test_no_run_can_be_started_from(method: str, tmp_path: Path) -> None:
    """Nor from one of its own, whatever shapes its learner has."""
    run = tiny.trained(method)
    with pytest.raises(BadValue, match=f"{method} can start from no other run; leave --start out"):
        tiny.train(method, tmp_path / "again", start=run.folder)
