"""UP-OSI and RMA: what the estimator is given and told, what is deployed, and a robot whose hidden
parameter only its history shows.
"""

# pyright: reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
import tiny

import isthmus
from isthmus.domains.domain import Domain
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import rollout_episodes, rollout_steps
from isthmus.domains.simulation import SimulationStep
from isthmus.learning.estimator import Estimator, EstimatorRows, PairHistory, Regression
from isthmus.learning.networks import init_mlp
from isthmus.learning.normalization import Normalizer
from isthmus.learning.policies import GaussianPolicy
from isthmus.learning.replay import sample
from isthmus.methods import registry
from isthmus.methods.method import State
from isthmus.methods.osi import ESTIMATED, INFORMED, POLICY, EncodedWeights, Law, latent_policy
from isthmus.physics.parameters import Distribution
from isthmus.problems.problem import Access, Problem
from isthmus.tasks.task import Task
from isthmus.training.checkpoint import digest
from isthmus.types import BadValue, Spaces

HOPPER = Problem(
    parse_domain("hopper"), parse_domain("hopper/torso_mass=3"),
    uncertainty="torso_mass=2..6,damping=log:x0.1..x10,gravity=9.81",
)  # fmt: skip


def run(method: Any, problem: Problem, rounds: int, seed: int = 0) -> list[State]:
    """The states before the first round and after each."""
    states = [method.init(problem, seed)]
    for _ in range(rounds):
        states.append(method.step(problem, states[-1])[0])
    return states


# What is estimated.


def test_the_laws_ends_are_minus_one_and_one_in_logarithms_where_they_are_drawn_so() -> None:
    law = Law.of(HOPPER.randomized_source)
    names = HOPPER.randomized_source.names
    assert names == ("damping", "gravity", "torso_mass")
    assert [names[i] for i in law.columns] == ["damping", "torso_mass"]
    default = HOPPER.source.table()["damping"].default
    rows = [[default * 0.1, 9.81, 2], [default, 9.81, 4], [default * 10, 9.81, 6]]
    np.testing.assert_allclose(law(np.array(rows)), [[-1, -1], [0, 0], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(law(np.array([default, 9.81, 8.0])), [0, 2], atol=1e-6)


@pytest.mark.parametrize(
    "text", ["torso_mass=1..9", "torso_mass=normal:6:1.5:1..9", "torso_mass=1..9:5"]
)
def test_every_kind_of_law_has_ends(text: str) -> None:
    law = Law.of(parse_domain("hopper").shift(text))
    np.testing.assert_allclose(law(np.array([[1.0], [5.0], [9.0]]))[:, 0], [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["up_osi", "rma"])
@pytest.mark.parametrize("uncertainty", ["", "torso_mass=4", "torso_mass=4..4"])
def test_without_a_law_there_is_nothing_to_estimate(name: str, uncertainty: str) -> None:
    problem = Problem(parse_domain("hopper"), parse_domain("hopper"), uncertainty=uncertainty)
    with pytest.raises(BadValue, match=r"nothing is drawn in hopper.*--uncertainty") as error:
        registry.build(name).init(problem, 0)
    assert "\n" not in str(error.value)


def test_a_refused_training_leaves_no_folder(tmp_path) -> None:
    with pytest.raises(BadValue, match="nothing is drawn"):
        isthmus.train("up_osi", "hopper/gravity=x2", steps=128, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("learner", ["trpo", "sac", "recurrent_ppo"])
def test_an_encoder_is_learned_by_ppo_alone(learner: str) -> None:
    with pytest.raises(BadValue, match="leave learner=ppo"):
        registry.build("rma", {"learner": learner})


# The history.


def test_a_history_holds_the_last_pairs_and_is_filled_from_its_end() -> None:
    history = PairHistory.empty(2, 3)
    for t in range(1, 4):
        history = history.append(np.full(2, t, np.float32), np.full(1, 10 * t, np.float32))
        assert history.age == min(t, 2)
    np.testing.assert_array_equal(history.pairs, [[2, 2, 20], [3, 3, 30]])


def test_what_has_not_been_is_the_mean_step_and_the_share_says_so() -> None:
    """Two observed numbers and an action: a step is those and the observed numbers' changes."""
    mean, std = np.array([1.0, 2.0, 3.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0, 0.5, 0.1])
    network = init_mlp(jax.random.key(0), (13, 1), 1.0)
    estimator = Estimator(network, Normalizer(mean, std), np.float32(1))
    history, obs = PairHistory.empty(2, 3), np.array([2.0, 2.0])
    missing = [0, 0, 0, 0, 0]
    np.testing.assert_allclose(estimator.inputs(history, obs), [*missing, *missing, 1, 0, 0])
    history = history.append(np.array([3.0, 2.0]), np.array([7.0]))
    obs = np.array([2.0, 3.0])  # the first number fell by 1, the second rose by 1
    found = estimator.inputs(history, obs)
    np.testing.assert_allclose(found, [*missing, 2, 0, 2, -2, 0, 1, 1, 0.5], atol=1e-5)
    history = history.append(obs, np.array([3.0]))
    found = estimator.inputs(history, np.array([2.0, 4.1]))
    np.testing.assert_allclose(found, [2, 0, 2, -2, 0, 1, 1, 0, 0, 1, 1, 2.1, 1], atol=1e-5)
    many = jax.tree.map(lambda x: np.stack([x, x]), history)
    assert estimator(many, np.stack([obs, obs])).shape == (2, 1)


def test_an_estimate_stays_within_its_limit() -> None:
    network = ((np.zeros((5, 1), np.float32), np.array([7.0], np.float32)),)
    estimator = Estimator(network, Normalizer(np.zeros(3), np.ones(3)), np.float32(1))
    assert estimator(PairHistory.empty(1, 2), np.zeros(1))[0] == 1


def test_the_estimator_forgets_the_oldest_rows() -> None:
    regression = Regression(hidden=(4,), updates=1, minibatch=8, kept=3, capacity=6)
    s = regression.init(2, Spaces(1, np.array([-1.0]), np.array([1.0])), 1, jax.random.key(0))
    for i in range(4):
        empty = jax.tree.map(lambda x: np.repeat(x[None], 5, 0), PairHistory.empty(2, 2))
        rows = EstimatorRows(empty, np.zeros((5, 1), np.float32), np.full((5, 1), i, np.float32))
        s, metrics = regression.learn(s, rows, jax.random.key(i))
    assert s.rows.added == 12 and metrics["estimation_spread"] == 0
    drawn = sample(s.rows.view(), 200, jax.random.key(0)).target
    assert set(np.ravel(drawn)) == {2, 3}


# What the policy is told.


def test_in_training_the_policy_is_told_the_dynamics_of_its_task() -> None:
    method = registry.build("up_osi", tiny.settings("up_osi"))
    s = run(method, HOPPER, 1)[-1]
    worlds, tr = method._roll_out_informed(HOPPER, s, method.learner.behaviour(s.learner.agent))
    law = Law.of(HOPPER.randomized_source)
    np.testing.assert_allclose(tr.extra["known"], law(tr.parameters), atol=1e-5)
    assert len(np.unique(tr.extra["known"][..., 0])) > 8, "tasks began"
    assert (np.abs(tr.extra["known"]) <= 1 + 1e-5).all()
    assert worlds.size == 8


def test_the_history_is_the_tasks_own() -> None:
    """As one would cut it from the transitions."""
    method = registry.build("up_osi", tiny.settings("up_osi"))
    s = run(method, HOPPER, 4)[-1]
    assert s.phase == ESTIMATED
    fresh = HOPPER.randomized_source.worlds(8, 5)
    _, tr = rollout_steps(HOPPER.randomized_source, fresh, method.behaviour(s), 40)
    pairs = np.concatenate([tr.obs, tr.action], -1)
    assert (tr.terminated.any(0)).any(), "a task ended"
    for n in range(8):
        begun = 0
        for t in range(40):
            age = min(t - begun, 4)
            assert tr.extra["age"][t, n] == age
            np.testing.assert_array_equal(tr.extra["pairs"][t, n, 4 - age :], pairs[t - age : t, n])
            assert (tr.extra["pairs"][t, n, : 4 - age] == 0).all()
            if tr.terminated[t, n] or tr.truncated[t, n]:
                begun = t + 1


def test_the_phases_follow_their_steps_and_the_policy_rests_from_the_second_on() -> None:
    settings = tiny.settings("up_osi") | {"informed_steps": 2 * tiny.ROUND}
    states = run(registry.build("up_osi", settings), HOPPER, 6)
    phases = [POLICY, POLICY, POLICY, INFORMED, INFORMED, ESTIMATED, ESTIMATED]
    assert [int(s.phase) for s in states] == phases
    agents = [digest(s.learner.agent) for s in states]
    assert len(set(agents)) == 3 and len(set(agents[2:])) == 1
    networks = [digest(s.learner.estimator.network) for s in states]
    assert len(set(networks[:3])) == 1 and len(set(networks[2:])) == 5
    moments = [digest(s.learner.estimator.moments) for s in states]
    assert len(set(moments[:3])) == 3 and len(set(moments[2:])) == 1


def test_rma_estimates_from_its_first_step_on() -> None:
    settings = tiny.settings("rma") | {"informed_steps": 0}
    states = run(registry.build("rma", settings), HOPPER, 4)
    assert [int(s.phase) for s in states] == [POLICY, POLICY, POLICY, ESTIMATED, ESTIMATED]


def test_a_policy_with_a_memory_of_its_own_keeps_it() -> None:
    small = {"learner.units": 8, "learner.sequence": 8}
    settings = tiny.settings("up_osi") | {"learner": "recurrent_ppo"} | small
    method = registry.build("up_osi", settings)
    policy = method.policy(run(method, HOPPER, 5)[-1])
    memory = policy.memory()
    _, after = policy.act(memory, np.ones(11, np.float32))
    assert digest(after.inner) != digest(memory.inner)
    assert after.history.age == 1


# RMA's encoder.


def test_the_encoder_is_a_part_of_the_policys_network() -> None:
    """pi(o, e(mu)) and pi(o, z) are one, and PPO's gradient reaches e."""
    method = registry.build("rma", tiny.settings("rma"))
    first, *_, s = run(method, HOPPER, 2)
    policy = method.learner.policy(s.learner.agent)
    weights = policy.actor[0][0]
    assert isinstance(weights, EncodedWeights)
    before = method.learner.policy(first.learner.agent).actor[0][0]
    for mine, theirs in zip(jax.tree.leaves(weights), jax.tree.leaves(before), strict=True):
        assert (np.asarray(mine) != np.asarray(theirs)).any()
    random = np.random.default_rng(0)
    obs, mu = random.normal(size=11).astype(np.float32), np.array([0.5, -0.5], np.float32)
    whole, _ = policy.act((), jnp.concatenate([obs, mu]))
    z = method.targets(s.learner.agent, mu)
    assert z.shape == (8,)
    half, _ = latent_policy(policy).act((), jnp.concatenate([obs, z]))
    np.testing.assert_allclose(whole, half, atol=1e-5)
    other, _ = latent_policy(policy).act((), jnp.concatenate([obs, z + 1]))
    assert np.abs(other - half).max() > 1e-4


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_a_latent_policy_of_any_depth(hidden: tuple[int, ...]) -> None:
    (weights, bias), *rest = init_mlp(jax.random.key(0), (5, *hidden, 1), 1.0)
    encoder = init_mlp(jax.random.key(1), (1, 2), 1.0)
    actor = ((EncodedWeights.of(weights, encoder), bias), *rest)
    normalizer = Normalizer(np.arange(4, dtype=np.float32), np.full(4, 2, np.float32))
    policy = GaussianPolicy(normalizer, actor, np.array([-9.0]), np.array([9.0]))
    obs, mu = np.array([1.0, 1.5, -2.0], np.float32), np.array([0.3], np.float32)
    z = actor[0][0].encode((mu - 3) / 2)
    expected, _ = policy.act((), np.concatenate([obs, mu]))
    found, _ = latent_policy(policy).act((), jnp.concatenate([obs, z]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


# A robot whose offset nobody tells: where it gets to is its action and the offset, and it is to get
# where an arrow points that changes with each step. It sees the arrow and where it got to.

LENGTH = 10


class OffsetSimulation:
    """Rows: the step, the last place, an arrow for each step."""

    def __init__(self, n: int):
        self.rows, self.parameters = np.zeros((n, 3 + LENGTH)), np.zeros((n, 1))
        self.time_limit, self.terms = LENGTH, {}

    def restore(self, rows, parameters):
        self.rows[:], self.parameters[:] = rows, parameters
        return True

    def begin(self, ids, parameters, random):
        self.parameters[ids] = parameters
        self.rows[ids, :2], self.rows[ids, 2:] = 0, random.uniform(-1, 1, 1 + LENGTH)
        return self._observe(ids), np.empty((len(ids), 0))

    def _observe(self, ids):
        arrow = self.rows[ids, 2 + self.rows[ids, 0].astype(int)]
        return np.stack([arrow, self.rows[ids, 1]], 1)

    def neutral_action(self, ids):
        return np.zeros((len(ids), 1))

    def step(self, ids, memory, *, commanded, applied):
        place = applied[:, 0] + self.parameters[ids, 0]
        reward = -((place - self._observe(ids)[:, 0]) ** 2)
        self.rows[ids, 0] += 1
        self.rows[ids, 1] = place
        never = np.zeros(len(ids), bool)
        return SimulationStep(self._observe(ids), reward, never, never, never, memory)

    def progress(self, ids):
        return self.rows[ids, 1]

    def at_goal(self, ids):
        return np.zeros(len(ids), bool)


@dataclass(frozen=True)
class OffsetDomain(Domain):
    task: str = "offset"
    settings: Any = (("offset", Distribution("uniform", -0.5, 0.5)),)

    @property
    def step_seconds(self):
        return 0.1

    @property
    def time_limit(self):
        return LENGTH

    def without_settings(self):
        return OffsetDomain(settings=())

    def description(self):
        return Task()

    def inner_spaces(self):
        return Spaces(2, np.array([-2.0]), np.array([2.0]), 1)

    def build(self, n):
        return OffsetSimulation(n)


OFFSET = Problem(OffsetDomain(), OffsetDomain(), Access.NONE)
LEARNER = {
    "learner.worlds": 64,
    "learner.steps": 20,
    "learner.hidden": (32,),
    "learner.learning_rate": 3e-3,
    "learner.minibatch": 160,
    "learner.initial_log_std": -1.0,
}
POLICY_ROUNDS, ESTIMATOR_ROUNDS = 40, 12
PROBE = LEARNER | {
    "pretraining": POLICY_ROUNDS * 64 * 20,
    "informed_steps": 2 * 64 * 20,
    "history": 4,
    "estimator.hidden": (32,),
}


def train(name: str, settings: dict[str, Any], seed: int) -> tuple[float, dict[str, float]]:
    """The deployed policy's mean return of 256 robots drawn from the law, and the last metrics."""
    method, metrics = registry.build(name, settings), {}
    s = method.init(OFFSET, seed)
    for _ in range(POLICY_ROUNDS + ESTIMATOR_ROUNDS):
        s, metrics = method.step(OFFSET, s)
    worlds = OFFSET.source.worlds(256, 7)
    return float(rollout_episodes(OFFSET.source, worlds, method.policy(s)).returns.mean()), metrics


@pytest.mark.parametrize("name", ["up_osi", "rma"])
@probes.over_seeds
def test_the_estimator_reaches_the_offset_and_the_policy_acts_on_it(
    name: str, seeds: range
) -> None:
    """At the first of ten steps nothing is known: an error of the law's variance, 1/12, and a cost
    as high. From the second on the offset is known: an error of 1/10 of the variance on average.
    """

    def found(seed: int) -> list[float]:
        settings = PROBE | ({"encoder": (16,)} if name == "rma" else {})
        score, metrics = train(name, settings, seed)
        return [score, metrics["estimation_error"] / metrics["estimation_spread"]]

    probes.check(found, seeds, [-0.15, 0.08], [-0.07, 0.13])


@probes.over_seeds
def test_a_blind_policy_pays_for_the_offset_at_every_step(seeds: range) -> None:
    """The arrow before is hidden in where it got to: who sees that alone and acts on the best
    linear guess pays four fifths of the variance a step, 0.68 in all.
    """
    probes.check(lambda seed: train("domain_randomization", LEARNER, seed)[0], seeds, -1.5, -0.5)
