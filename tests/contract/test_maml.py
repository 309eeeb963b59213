"""MAML: its gradient against finite differences, and robots whose hidden offset only what they are
paid shows.
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
from jax.flatten_util import ravel_pytree

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.simulation import SimulationStep
from isthmus.learning.networks import init_mlp
from isthmus.learning.proximal import Rollout
from isthmus.methods import registry
from isthmus.methods.maml import MAML
from isthmus.physics.parameters import Distribution
from isthmus.problems.problem import Access, Problem
from isthmus.tasks.task import Task
from isthmus.types import BadValue, Spaces

f32 = np.float32


def draw_rows(seed: int, *shape: int) -> Rollout:
    """Return rows of two observed numbers and one action, as of a policy N(0, 1)."""
    random = np.random.default_rng(seed)
    obs, sample = random.normal(size=(*shape, 2)), random.normal(size=(*shape, 1))
    log_prob = -0.5 * sample[..., 0] ** 2 - 0.5 * np.log(2 * np.pi)
    advantage = random.normal(size=shape) + sample[..., 0] * obs[..., 0]
    return Rollout(
        *(jnp.asarray(x, f32) for x in (obs, obs, sample, log_prob, advantage, advantage))
    )


def small(**changes: Any) -> tuple[MAML, Any]:
    """Return a method of few numbers, and a policy of it."""
    settings = {"learner.hidden": (4,), "inner_rate": 0.5, "updates": 2, "tasks": 3} | changes
    method = registry.build("maml", settings)
    return method, (init_mlp(jax.random.key(0), (2, 4, 1), 0.5), jnp.zeros(1, f32))


def slope(method: MAML, theta: Any, rows: Rollout) -> np.ndarray:
    """Return the outer loss's gradient as a vector."""
    gradient, _ = jax.grad(method.outer_loss, has_aux=True)(theta, rows)
    return np.asarray(ravel_pytree(gradient)[0])


def test_the_exact_slope_is_that_of_finite_differences() -> None:
    method, theta = small(**{"learner.clip": 10.0})  # no kinks
    rows = draw_rows(1, 3, 3, 64)
    flat, unravel = ravel_pytree(theta)

    def loss(x: np.ndarray) -> float:
        return float(method.outer_loss(unravel(jnp.asarray(x, f32)), rows)[0])

    steps = 1e-2 * np.eye(len(flat))
    found = [(loss(flat + step) - loss(flat - step)) / 2e-2 for step in steps]
    np.testing.assert_allclose(slope(method, theta, rows), found, atol=3e-3, rtol=2e-2)


def test_the_first_order_slope_is_that_at_the_adapted_policy() -> None:
    method, theta = small(exact=False, updates=1)
    rows = draw_rows(2, 3, 2, 64)
    expected = []
    for task in range(3):
        before, after = (jax.tree.map(lambda x, i=(task, k): x[i], rows) for k in (0, 1))
        inward, _ = jax.grad(method.learner.policy_loss, has_aux=True)(theta, before)
        adapted = jax.tree.map(lambda w, g: w - 0.5 * g, theta, inward)
        outward, _ = jax.grad(method.learner.policy_loss, has_aux=True)(adapted, after)
        expected.append(ravel_pytree(outward)[0])
    np.testing.assert_allclose(slope(method, theta, rows), np.mean(expected, 0), atol=1e-5)
    exact, _ = small(updates=1)
    assert np.abs(slope(exact, theta, rows) - np.mean(expected, 0)).max() > 1e-3


class GuessSimulation:
    """Rows: the step. A robot sees nothing, and is paid -(action + offset)^2."""

    def __init__(self, n: int):
        self.rows, self.parameters = np.zeros((n, 1)), np.zeros((n, 1))
        self.time_limit, self.terms = 8, {}

    def restore(self, rows, parameters):
        self.rows[:], self.parameters[:] = rows, parameters
        return True

    def begin(self, ids, parameters, random):
        self.parameters[ids], self.rows[ids] = parameters, 0
        return self._observe(ids), np.empty((len(ids), 0))

    def _observe(self, ids):
        return np.ones((len(ids), 1))

    def neutral_action(self, ids):
        return np.zeros((len(ids), 1))

    def step(self, ids, memory, *, commanded, applied):
        self.rows[ids, 0] += 1
        reward = -((applied[:, 0] + self.parameters[ids, 0]) ** 2)
        never = np.zeros(len(ids), bool)
        return SimulationStep(self._observe(ids), reward, never, never, never, memory)

    def progress(self, ids):
        return self.rows[ids, 0]

    def at_goal(self, ids):
        return np.zeros(len(ids), bool)


@dataclass(frozen=True)
class GuessDomain(Domain):
    task: str = "guess"
    settings: Any = (("offset", Distribution("uniform", -0.5, 0.5)),)

    @property
    def step_seconds(self):
        return 0.1

    @property
    def time_limit(self):
        return 8

    def without_settings(self):
        return GuessDomain(settings=())

    def description(self):
        return Task()

    def inner_spaces(self):
        return Spaces(1, np.array([-3.0]), np.array([3.0]), 1)

    def build(self, n):
        return GuessSimulation(n)


GUESS = Problem(GuessDomain(), GuessDomain(), Access.ONLINE)
PROBE = {
    "learner.hidden": (16,),
    "learner.worlds": 8,
    "learner.steps": 64,
    "learner.initial_log_std": -0.5,
    "tasks": 8,
    "updates": 1,
    "adaptation_worlds": 8,
    "adaptation_steps": 64,
    "outer_rate": 3e-3,
}


@pytest.mark.parametrize("exact", [True, False])
@probes.over_seeds
def test_one_update_finds_what_one_policy_cannot(exact: bool, seeds: range) -> None:
    """The best single action is 0, a cost of the offset's variance; who adapts can do without.

    The share of that cost which adapting saves, over ten seeds: 0.86 (0.06) by exact slopes, 0.72
    (0.06) by first-order ones.
    """
    method = registry.build("maml", PROBE | {"exact": exact})

    def found(seed: int) -> float:
        s = method.init(GUESS, seed)
        for _ in range(60):
            s, _ = method.step(GUESS, s)
        offsets = np.linspace(-0.5, 0.5, 16)[:, None]
        worlds = GUESS.target.worlds(16, 7, offsets)
        policies, usage = method.adapt(s, GUESS, GUESS.target, offsets, seed)
        assert usage.transitions == 8 * 64
        alone = rollout_episodes(GUESS.target, worlds, method.policy(s)).returns.mean()
        adapted = rollout_episodes(GUESS.target, worlds, policies).returns.mean()
        assert alone < -8 * offsets.var() + 0.01  # nobody does better who does not adapt
        return 1 - adapted / alone

    probes.check(found, seeds, 0.45, 1.2)


def test_it_counts_what_it_steps_in_the_source_alone(tmp_path: Any) -> None:
    run = tiny.train("maml", tmp_path / "run")
    s = run.state()
    assert s.usage.transitions == 0
    of_round = 2 * 2 * 4 * 16  # tasks, rollouts, worlds, steps
    assert (s.source_steps - tiny.ROUND) % of_round == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"learner": "sac"}, "leave learner=ppo"),
        ({"inner_rate": 0.0}, "inner_rate"),
        ({"tasks": 0}, "tasks"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadValue, match=told):
        registry.build("maml", settings)
