"""MAML: model-agnostic meta-learning (Finn, Abbeel and Levine 2017, arXiv 1703.03400), by policy
gradients with PPO's surrogate inside and outside.

    input: source, uncertainty p(T), M tasks, K updates of rate alpha
1.  theta <- initialize (policy and deviations), V <- initialize, or --start
    for each round:
2.      T_i ~ p(T), for i = 1 .. M
3.      theta_i <- theta;  K times:  D_i <- collect in T_i by theta_i;  theta_i <- U(theta_i, D_i),
        U(theta, D) = theta - alpha grad L(theta; D), L PPO's loss over all of D
4.      D_i' <- collect in T_i by theta_i
5.      `epochs` times: theta <- Adam on the mean over i of
        grad_theta L(U(..U(theta, D_i1).., D_iK); D_i')
        through U where it is `exact`, as if U did not depend on theta's slope where it is not
6.      V <- PPO's steps on all that was collected; all observations into the moments
    deploy U(..U(theta, D_1).., D_K), collected in the target
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns_from
from isthmus.learning.distributions import gaussian_entropy
from isthmus.learning.learner import BaseLearner, Health
from isthmus.learning.networks import MLP
from isthmus.learning.ppo import PPO, PPOState
from isthmus.learning.proximal import Rollout
from isthmus.learning.settings import PositiveFloat, PositiveInt
from isthmus.methods.adaptation import GradientFewShot, update_seed
from isthmus.methods.es_maml import GainedMoments, concatenate_worlds, draw_task
from isthmus.methods.method import MethodDefaults, State, fold_key, start_in_source
from isthmus.methods.operators import Members, MemberUsage, adapt_by_updates
from isthmus.problems.problem import Problem
from isthmus.types import Array, BadValue, Metrics, Transition, Worlds

Policy = tuple[MLP, Array]  # an actor and its log deviations


class MAMLState(NamedTuple):
    """What is learned, and the optimizer of theta."""

    center: PPOState
    optimizer: optax.OptState


@dataclass(frozen=True)
class GradientStep(PPO):
    """U as a learner: one plain step of the policy on a round; the critic and moments stay."""

    rate: PositiveFloat = 0.1

    def descend(self, policy: Policy, rows: Rollout, *, exact: bool) -> Policy:
        """Return U(policy, rows (B, ...)); with a slope through its gradient where `exact`."""
        gradient, _ = jax.grad(self.policy_loss, has_aux=True)(policy, rows)
        if not exact:
            gradient = jax.lax.stop_gradient(gradient)
        return jax.tree.map(lambda w, g: w - self.rate * g, policy, gradient)

    def learn(self, s: PPOState, tr: Transition, key: Array) -> tuple[PPOState, Metrics]:
        """Do U once, on transitions [T, N, ...]."""
        policy = s.networks.actor, s.networks.log_std
        actor, log_std = self._descend_jitted(policy, self.make_rows(s, tr)[0])
        return s._replace(networks=s.networks._replace(actor=actor, log_std=log_std)), {}

    learn_each = BaseLearner.learn_each

    def make_rows(self, s: PPOState, tr: Transition) -> tuple[Rollout, Health]:
        """Return transitions [T, N, ...] as rows (B, ...), as PPO's round has them, and metrics."""
        return self._prepare(self._gather(s, tr))

    @partial(jax.jit, static_argnums=0)
    def _descend_jitted(self, policy: Policy, rows: Rollout) -> Policy:
        return self.descend(policy, rows, exact=False)


class RecordingMembers(Members):
    """One member a task of the source; keeps each member's states and what it collected by them."""

    def __init__(self, source: Domain, s: State, count: int):
        super().__init__(source)
        self.drawn = [draw_task(source, s.key, int(s.round), i) for i in range(count)]
        self.collected: list[list[tuple[PPOState, Transition]]] = [[] for _ in range(count)]

    def worlds(self, n: int, update: int) -> Worlds:
        """Return n worlds at their begin for each task."""
        return concatenate_worlds(
            [
                self.domain.worlds(n, update_seed(int(base[0]), update), np.tile(task, (n, 1)))
                for task, base in self.drawn
            ]
        )

    def key(self, member: int, update: int) -> Array:
        """Return a key that U does not use."""
        return jax.random.key(0)

    def record(self, member: int, s: PPOState, tr: Transition) -> None:
        """Keep a member's state, and what it collected."""
        self.collected[member].append((s, tr))


@dataclass(frozen=True)
class MAML(GradientFewShot, MethodDefaults):
    """As the box: by `exact` second derivatives, or first-order.

    Raises BadValue for a learner other than PPO, whose loss is differentiated, or a number that
    cannot be.
    """

    randomizes: ClassVar[bool] = True
    explores: ClassVar[bool] = True
    learner: PPO = field(default_factory=PPO)  # pyright: ignore[reportIncompatibleVariableOverride]
    tasks: PositiveInt = 8
    inner_rate: PositiveFloat = 0.1  # alpha; the paper's for locomotion
    outer_rate: PositiveFloat = 1e-3
    epochs: PositiveInt = 5
    exact: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO):
            raise BadValue("this method differentiates PPO's loss; leave learner=ppo")
        super().__post_init__()

    @property
    def inner(self) -> GradientStep:
        """U as a learner of the settings of `learner`, in `adaptation_worlds`."""
        settings = {name: getattr(self.learner, name) for name in PPO.__dataclass_fields__}
        return replace(
            GradientStep(**settings), rate=self.inner_rate, worlds=self.adaptation_worlds
        )

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.outer_rate)

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source under what is believed of the target."""
        return problem.randomized_source

    def policy(self, s: State) -> Any:
        """Return the policy of theta, before it adapts."""
        return self.learner.policy(s.learner.center)

    def behaviour(self, s: State) -> Any:
        """Return theta's policy as it explores."""
        return self.learner.behaviour(s.learner.center)

    def learner_state(self, s: State) -> PPOState:
        """Return the learner's part of what is learned."""
        return s.learner.center

    def learned(self, s: State) -> PPOState:
        """Return theta's state, from which adaptation begins."""
        return s.learner.center

    def operate(self, states: list[Any], members: Members) -> tuple[list[Any], MemberUsage]:
        """Return the states after U, K times, and what it took; in a target, by its meter."""
        return adapt_by_updates(self.inner, states, members, self.updates, self.adaptation_steps)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        self.check_update()
        self.meter(problem, problem.target)
        s = start_in_source(self.learner, problem.randomized_source, seed, start)
        center = self.learner.warm_start(s.learner)
        theta = center.networks.actor, center.networks.log_std
        return s._replace(learner=MAMLState(center, self._adam.init(theta)), worlds=())

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 6."""
        center, optimizer = s.learner
        # 2.
        members = RecordingMembers(problem.randomized_source, s, self.tasks)
        # 3. and 4.: what U makes of D_i' is not used
        rounds = self.updates + 1
        adapt_by_updates(self.inner, [center] * self.tasks, members, rounds, self.adaptation_steps)
        rows, valued = stack_rows(self.inner, members)
        # 5.
        theta = center.networks.actor, center.networks.log_std
        theta, optimizer, health = self._improve(theta, optimizer, rows)
        # 6.
        center = self._learn_values(center, rows, fold_key(s.key, 1, int(s.round)))
        center = self._merge_moments(center, members)
        networks = center.networks._replace(actor=theta[0], log_std=theta[1])
        steps = self.tasks * rounds * self.adaptation_worlds * self.adaptation_steps
        s = s._replace(learner=MAMLState(center._replace(networks=networks), optimizer))
        s = s._replace(round=np.int64(s.round + 1), source_steps=np.int64(s.source_steps + steps))
        health |= {"entropy": gaussian_entropy(theta[1]), **valued}
        return s, {name: float(x) for name, x in health.items()} | describe_rewards(members)

    @partial(jax.jit, static_argnums=0)
    def _improve(
        self, theta: Policy, optimizer: optax.OptState, rows: Rollout
    ) -> tuple[Policy, optax.OptState, Health]:
        """Do box line 5 on rows [M, K + 1, B, ...]; metrics are those of the last epoch."""

        def epoch(carry: Any, _: None) -> tuple[Any, Health]:
            theta, optimizer = carry
            (_, health), gradient = jax.value_and_grad(self.outer_loss, has_aux=True)(theta, rows)
            change, optimizer = self._adam.update(gradient, optimizer)
            return (optax.apply_updates(theta, change), optimizer), health

        carry, health = jax.lax.scan(epoch, (theta, optimizer), None, self.epochs)
        return *carry, jax.tree.map(lambda x: x[-1], health)

    def outer_loss(self, theta: Policy, rows: Rollout) -> tuple[Array, Health]:
        """Return box line 5's mean over tasks, of rows [M, K + 1, B, ...], and mean metrics."""
        inner = self.inner

        def loss_after_adapting(rows: Rollout) -> tuple[Array, Health]:
            adapted = theta
            for k in range(self.updates):
                before = jax.tree.map(lambda x, k=k: x[k], rows)
                adapted = inner.descend(adapted, before, exact=self.exact)
            return inner.policy_loss(adapted, jax.tree.map(lambda x: x[-1], rows))

        losses, health = jax.lax.map(loss_after_adapting, rows)
        return losses.mean(), jax.tree.map(jnp.mean, health)

    def _learn_values(self, center: PPOState, rows: Rollout, key: Array) -> PPOState:
        """Do box line 6's first part, by as many steps as PPO takes of one round."""
        rounds = self.tasks * (self.updates + 1)
        joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), rows)
        joined = self.learner.rows_of_critic(joined)
        size = self.learner.minibatch * rounds
        order = self.learner.draw_order(len(joined.target), size, key)
        critic, optimizer = center.networks.critic, center.optimizer
        after = self.learner._improve_critic(critic, optimizer.critic, joined, order)
        return center._replace(
            networks=center.networks._replace(critic=after.weights),
            optimizer=optimizer._replace(critic=after.optimizer),
        )

    def _merge_moments(self, center: PPOState, members: RecordingMembers) -> PPOState:
        """Do box line 6's second part."""
        inner, gained = self.inner, GainedMoments.of(center)
        blank = inner.warm_start(center)._replace(**GainedMoments.empty(center)._asdict())
        for collected in members.collected:
            s = blank
            for _, tr in collected:
                s = inner.observe(s, tr)
            gained = gained.join(GainedMoments.of(s))
        return center._replace(**gained._asdict())


def stack_rows(inner: GradientStep, members: RecordingMembers) -> tuple[Rollout, Health]:
    """Return what members collected as rows [M, K + 1, B, ...], and mean metrics of the critic."""
    of_members = []
    for collected in members.collected:
        of_members.append(_stack([inner.make_rows(s, tr) for s, tr in collected]))
    rows, health = _stack(of_members)
    return rows, jax.tree.map(jnp.mean, health)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def describe_rewards(members: RecordingMembers) -> Metrics:
    """Return the mean reward of a step before the first update and after the last; and of the
    episodes that ended, how many, and the mean return.
    """
    before, after, returns = [], [], []
    for collected in members.collected:
        rollouts = [tr for _, tr in collected]
        joined = jax.tree.map(lambda *x: np.concatenate(x), *rollouts)
        returns.append(finished_returns_from(np.zeros(joined.reward.shape[1]), joined))
        before.append(rollouts[0].reward.mean())
        after.append(rollouts[-1].reward.mean())
    ended = np.concatenate(returns)
    metrics = {"training_return": float(ended.mean())} if len(ended) else {}
    return metrics | {
        "reward_before": float(np.mean(before)),
        "reward_after": float(np.mean(after)),
        "episodes": float(len(ended)),
    }
