"""What a policy is after a crossing to worlds that pay nothing: what it was. No reward, no step;
moments that stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import probes
import pytest
import test_probes

from isthmus.domains.parse import parse_domain
from isthmus.methods import registry
from isthmus.methods.method import State
from isthmus.problems.problem import Access, Problem
from isthmus.training.checkpoint import digest

f32 = np.float32
# Learners of the same shapes: one process compiles them once.
pytestmark = pytest.mark.xdist_group("probes")

LEARNERS = {name: learner for name, learner in test_probes.LEARNERS.items() if name != "sac"}
LATE = probes.EARLY_ACTION  # paid at the second of two steps


def unpaid(coin: Any, step: Any, action: Any, first: Any) -> np.ndarray:
    return np.zeros_like(coin)


def policy_weights(s: Any) -> str:
    return digest((s.networks.actor, s.networks.log_std))


def critic_weights(s: Any) -> str:
    return digest(probes.critic_of(s)[0])


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS)
def learner(request: pytest.FixtureRequest) -> Any:
    return request.param


def rounds(
    learner: Any, s: Any, probe: probes.Probe, scales: list[float]
) -> list[tuple[Any, dict[str, float]]]:
    """A state and its metrics after each of some rounds, whose rewards are multiplied by
    `scales`.
    """
    random, found = np.random.default_rng(0), []
    worlds = probes.Played.begin(16, random)
    for i, scale in enumerate(scales):
        worlds, tr = probes.collect(probe, worlds, learner.behaviour(s), 16, random)
        s, metrics = learner.learn(s, tr._replace(reward=f32(scale) * tr.reward), jax.random.key(i))
        found.append((s, metrics))
    return found


@pytest.mark.represented("ppo")
def test_without_a_reward_the_policy_stays_and_the_critic_learns(learner: Any) -> None:
    begun, _ = probes.train(learner, LATE, 2)
    begun = learner.warm_start(begun)
    (_, first), (s, second) = rounds(learner, begun, LATE, [0.0, 0.0])
    assert policy_weights(s) == policy_weights(begun)
    assert critic_weights(s) != critic_weights(begun)
    assert first["kl"] == second["kl"] == 0.0


def test_the_smallest_reward_is_one_and_a_round_without_any_counts_after_it(learner: Any) -> None:
    """What is paid late may come rounds after what it is paid for: a critic that was paid is no
    residue.
    """
    begun = learner.warm_start(probes.train(learner, LATE, 2)[0])
    found = [s for s, _ in rounds(learner, begun, LATE, [0.0, 1e-6, 0.0])]
    still, moved, after = (policy_weights(s) for s in found)
    assert still == policy_weights(begun)
    assert len({still, moved, after}) == 3
    assert [bool(paid(s)) for s in found] == [False, True, True]


def paid(s: Any) -> np.bool_:
    return s.value.paid if hasattr(s, "value") else s.paid


def test_a_new_learner_takes_no_step_before_it_is_paid(learner: Any) -> None:
    """No crossing at all: the residue is that of a critic's first weights."""
    begun = learner.init(probes.SPACES, jax.random.key(0))
    ((s, _),) = rounds(learner, begun, LATE, [0.0])
    assert policy_weights(s) == policy_weights(begun)


def test_where_nothing_is_paid_entropy_is_still_what_its_weight_asks_for() -> None:
    """PPO's bonus is on the deviations alone: what is deployed stays."""
    learner = replace(LEARNERS["ppo"], entropy_weight=0.01)
    begun = learner.init(probes.SPACES, jax.random.key(0))
    ((s, _),) = rounds(learner, begun, LATE, [0.0])
    assert digest(s.networks.actor) == digest(begun.networks.actor)
    assert s.networks.log_std[0] > begun.networks.log_std[0]


# The methods.

ROBOT = "hopper/torso_mass=6"
SMALL = {
    "learner.worlds": 8,
    "learner.steps": 16,
    "learner.minibatch": 32,
    "learner.sequence": 8,
    "learner.units": 16,
    "learner.epochs": 2,
    "inner": 1,
    "pretraining": 3 * 128,
}
OBSERVATIONS = np.random.default_rng(1).normal(size=(20, 11)).astype(f32)


def problem(reward: str) -> Problem:
    return Problem(parse_domain("hopper"), parse_domain(f"{ROBOT},reward={reward}"), Access.ONLINE)


def build(name: str, learner: str, **settings: Any) -> Any:
    known = registry.settings_of(registry.build(name, {"learner": learner}))
    asked = {"learner": learner} | {k: v for k, v in (SMALL | settings).items() if k in known}
    return registry.build(name, asked)


def deployed(method: Any, s: State) -> np.ndarray:
    policy = method.policy(s)
    return np.asarray([policy.act(policy.memory(), observation)[0] for observation in OBSERVATIONS])


def after_rounds(method: Any, where: Problem, count: int, start: Any = None) -> State:
    s = method.init(where, 0, start)
    for _ in range(count):
        s, _ = method.step(where, s)
    return s


@pytest.mark.represented("trpo")
@pytest.mark.parametrize("learner", ["ppo", "trpo", "recurrent_ppo"])
def test_fine_tuning_without_a_reward_deploys_what_crossed(learner: str) -> None:
    method, where = build("fine_tuning", learner), problem("none")
    crossing = after_rounds(method, where, 2)
    assert crossing.phase == 0
    s = crossing
    for _ in range(3):
        s, _ = method.step(where, s)
    assert s.phase == 1 and s.usage.transitions == 3 * 128
    np.testing.assert_array_equal(deployed(method, s), deployed(method, crossing))


@pytest.mark.represented("fine_tuning", "matlf")
@pytest.mark.parametrize("name", ["fine_tuning", "target_only", "matlf", "matl"])
def test_moments_stay_and_weights_move_where_a_target_pays(name: str) -> None:
    start = after_rounds(build("source_only", "trpo"), problem("dense"), 3).learner
    method = build(name, "trpo")
    s = after_rounds(method, problem("dense"), 2, start)
    learned = getattr(s.learner, "robot", s.learner)
    assert s.phase == 1
    assert digest(learned.obs_moments) == digest(start.obs_moments)
    assert policy_weights(learned) != policy_weights(start)
    if name in ("matlf", "matl"):  # the simulator stays where it learned
        assert s.learner.simulator.obs_moments.count == start.obs_moments.count + 2 * 2 * 128


def test_what_begins_in_the_target_goes_on_merging_its_moments() -> None:
    for name in ("target_only", "matl"):
        s = after_rounds(build(name, "trpo"), problem("dense"), 2)
        assert getattr(s.learner, "robot", s.learner).obs_moments.count == 3 * 128


def test_an_auxiliary_reward_is_a_reward() -> None:
    start = after_rounds(build("source_only", "trpo"), problem("none"), 3).learner
    for alignment, moves in ((0.0, False), (0.1, True)):
        method = build("matlf", "trpo", alignment=alignment)
        s = after_rounds(method, problem("none"), 2, start)
        assert (policy_weights(s.learner.robot) != policy_weights(start)) == moves


def test_sac_crosses_without_moments_of_observations() -> None:
    """Its observations are not normalized; its actor goes on maximizing entropy, which no reward
    pays for.
    """
    method = build(
        "fine_tuning",
        "sac",
        **{"learner.hidden": (16, 16), "learner.random_steps": 10**6, "learner.capacity": 512},
    )
    where = problem("none")
    crossing = after_rounds(method, where, 2)
    s = after_rounds(method, where, 4)
    assert (crossing.phase, s.phase) == (0, 1)
    np.testing.assert_array_equal(deployed(method, s), deployed(method, crossing))
