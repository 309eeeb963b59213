"""A reward that is learned: ES-sim2real's fourth contribution, which its authors announced.

By what Evolved Policy Gradients do to a loss (Houthooft et al. 2018, arXiv 1802.04821).

    input: as es_maml's; r_psi(s, a), of the policy's observations
0.  psi <- fitted to the source's reward on a rollout in the source, as long as an adaptation
1.  theta_0 and psi are one vector, evolved as in es_maml: boxes 1 to 6, f being the TRUE return
        U: K PPO updates with the reward r_psi alone, (1 - share) r_psi + share r while the true
        reward r is annealed out
    deploy U(theta_0, target) by r_psi: nothing in the target needs to be rewarded
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from isthmus.domains.rollout import rollout_steps
from isthmus.learning.advantage import flat
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer, discounted_returns, popart_inputs
from isthmus.learning.ppo import PPOState
from isthmus.learning.settings import NonNegativeInt
from isthmus.methods.es_maml import ESMAML, ESState, GainedMoments
from isthmus.methods.method import State, fold_key
from isthmus.problems.problem import Problem
from isthmus.types import Array, BadValue, Transition


class Rewarded(NamedTuple):
    """PPO's networks, and psi, to which PPO's loss has no slope."""

    actor: MLP
    log_std: Array
    critic: MLP
    reward: MLP


Fit = tuple[MLP, optax.OptState]  # r_psi and its optimizer


class RewardRows(NamedTuple):
    """What a reward is fitted to, (B, ...)."""

    obs: Array
    action: Array
    reward: Array


class FittedReward(NamedTuple):
    """psi after box 0, the moments of its returns, and the source steps that it took."""

    network: MLP
    returns: Moments
    steps: int


@dataclass(frozen=True)
class LearnedReward(ESMAML):
    """ES-MAML whose updates are rewarded by a network that is evolved as well.

    `masked` are numbers of the observation, from 1 on, that the reward is not shown: 6 is Hopper's
    velocity along x. Raises BadValue for another operator, which would be shown the true return.
    """

    reward_hidden: tuple[int, ...] = (32, 32)
    masked: tuple[int, ...] = ()
    evolve_policy: bool = True  # False: psi alone; theta_0 stays where `start` left it
    fitting: NonNegativeInt = 2000  # gradient steps of box 0; 0: psi begins at random
    annealing: NonNegativeInt = 0  # generations until the true reward is gone

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operator != "ppo":
            raise BadValue(
                f"operator={self.operator} climbs by the true return, not by a learned reward; "
                "leave ppo"
            )

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box lines 0 and 1. Raises BadValue for a masked number that is not observed."""
        self._check_masked(problem)
        s = super().init(problem, seed, start)
        # 0.
        psi = self._init_reward(problem, seed, s)
        # 1.
        actor, log_std, critic = s.learner.center.networks
        networks = Rewarded(actor, log_std, critic, psi.network)
        center = s.learner.center._replace(networks=networks, returns=psi.returns)
        theta, _ = ravel_pytree(networks)
        evolved = ESState(self.learner.warm_start(center), self._adam.init(theta))
        return s._replace(learner=evolved, source_steps=np.int64(s.source_steps + psi.steps))

    def _check_masked(self, problem: Problem) -> None:
        size = problem.source.spaces.observation
        for number in self.masked:
            if not 1 <= number <= size:
                raise BadValue(
                    f"masked={self.masked}: {problem.source} observes numbers 1 to {size}"
                )

    def _init_reward(self, problem: Problem, seed: int, s: State) -> FittedReward:
        """Return psi after box line 0, at random where nothing is to be fitted."""
        spaces = problem.source.spaces
        widths = (spaces.observation + spaces.action, *self.reward_hidden, 1)
        network = init_mlp(fold_key(s.key, 5), widths, 1.0)
        if not self.fitting:
            return FittedReward(network, Moments.empty(()), 0)
        return self._fit_to_source(network, problem, seed, s.learner.center, fold_key(s.key, 6))

    def _fit_to_source(
        self, network: MLP, problem: Problem, seed: int, center: PPOState, key: Array
    ) -> FittedReward:
        """Do box line 0, on a rollout of the policy's own."""
        n, length = self.learner.rollout_shape
        # A rollout as long as an adaptation: what is rewarded late looks otherwise.
        length = max(length, self.updates * self.adaptation_steps)
        source = problem.randomized_source
        behaviour = self.learner.behaviour(center)
        _, tr = rollout_steps(source, source.worlds(n, seed), behaviour, length)
        normalizer = Normalizer.of(center.obs_moments)
        rows = RewardRows(flat(tr.obs), flat(tr.action), flat(tr.reward))
        network = self._fit(network, normalizer, rows, key)
        reward = np.asarray(self._reward(network, normalizer, tr.obs, tr.action))
        ends = tr.terminated | tr.truncated
        returns, _ = discounted_returns(np.zeros(n), reward, ends, self.learner.discount)
        return FittedReward(network, Moments.empty(()).merge(flat(returns)), n * length)

    def follow_moments(self, networks: Any, before: GainedMoments, after: GainedMoments) -> Any:
        """Return networks that are the same policy, values and reward under other moments."""
        old, new = before.obs_moments, after.obs_moments
        shown = self.shown(len(old.mean)) > 0
        moments = Moments(
            new.count,
            np.where(shown, new.mean, old.mean),
            np.where(shown, new.variance, old.variance),
        )
        reward = popart_inputs(networks.reward, old, moments)
        return super().follow_moments(networks, before, after)._replace(reward=reward)

    def noise(self, key: Array, generation: int, i: int, networks: Any) -> Array:
        """Return e_i, of theta's size; 0 for all but psi where the policy is not evolved."""
        noise = super().noise(key, generation, i, networks)
        if self.evolve_policy:
            return noise
        still = jax.tree.map(jnp.zeros_like, networks)
        moves, _ = ravel_pytree(still._replace(reward=jax.tree.map(jnp.ones_like, networks.reward)))
        return noise * moves

    def relabel(self, s: Any, tr: Transition, share: float = 0.0) -> Transition:
        """Return transitions with the learned reward, and a `share` of the true one."""
        tr = super().relabel(s, tr)
        normalizer = Normalizer.of(s.obs_moments)
        reward = np.asarray(self._reward(s.networks.reward, normalizer, tr.obs, tr.action))
        if share:
            reward = (1 - share) * reward + share * tr.reward
        return tr._replace(reward=reward)

    def relabel_at(self, generation: int) -> Callable[[PPOState, Transition], Transition]:
        """Return `relabel` with a generation's share of the true reward."""
        share = max(0.0, 1 - generation / self.annealing) if self.annealing else 0.0
        return partial(self.relabel, share=share)

    @partial(jax.jit, static_argnums=0)
    def _reward(self, network: MLP, normalizer: Normalizer, obs: Array, action: Array) -> Array:
        return self.reward(network, normalizer, obs, action)

    def reward(self, network: MLP, normalizer: Normalizer, obs: Array, action: Array) -> Array:
        """Return r_psi (...) of observations (..., O) and actions (..., A)."""
        shown = normalizer(obs) * self.shown(obs.shape[-1])
        return mlp(network, jnp.concatenate([shown, action], -1))[..., 0]

    def shown(self, size: int) -> np.ndarray:
        """Return 1 for the numbers of an observation that the reward sees, 0 for masked ones."""
        shown = np.ones(size, np.float32)
        shown[[i - 1 for i in self.masked]] = 0
        return shown

    @partial(jax.jit, static_argnums=0)
    def _fit(self, network: MLP, normalizer: Normalizer, rows: RewardRows, key: Array) -> MLP:
        """Fit by least squares, minibatches of 256, to rewards divided by their deviation."""
        adam = optax.adam(1e-3)
        rows = rows._replace(reward=rows.reward / (rows.reward.std() + 1e-8))

        def descend(fit: Fit, key: Array) -> tuple[Fit, None]:
            network, optimizer = fit
            drawn = jax.random.randint(key, (256,), 0, len(rows.obs))
            batch = jax.tree.map(lambda x: x[drawn], rows)
            gradient = jax.grad(self._squared_error)(network, normalizer, batch)
            change, optimizer = adam.update(gradient, optimizer)
            return (optax.apply_updates(network, change), optimizer), None

        start = (network, adam.init(network))
        (network, _), _ = jax.lax.scan(descend, start, jax.random.split(key, self.fitting))
        return network

    def _squared_error(self, network: MLP, normalizer: Normalizer, rows: RewardRows) -> Array:
        predicted = self.reward(network, normalizer, rows.obs, rows.action)
        return jnp.square(predicted - rows.reward).mean()
