"""A reward that is learned: ES-sim2real's fourth contribution, which its authors announced, by what
Evolved Policy Gradients do to a loss (Houthooft et al. 2018, arXiv 1802.04821).

    input: as es_maml's; r_psi(s, a), which sees what the policy sees
0.  psi <- fitted to the source's reward on a rollout in the source, as long as an adaptation
1.  theta_0 and psi are one vector, evolved as in es_maml: boxes 1 to 6, f being the TRUE return
        U: K PPO updates paid by r_psi alone, (1 - share) r_psi + share r while the true reward r is
        annealed out
    deploy U(theta_0, target) by r_psi: nothing in the target needs to be rewarded
"""

from __future__ import annotations

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
from isthmus.learning.learner import FROM_ZERO, check_settings
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer, discounted_returns, popart_inputs
from isthmus.methods.es_maml import ESMAML
from isthmus.methods.method import State, fold_key
from isthmus.problems.problem import Problem
from isthmus.types import Array, BadValue, Transition


class Rewarded(NamedTuple):
    """PPO's networks, and psi, to which PPO's loss has no slope."""

    actor: MLP
    log_std: Array
    critic: MLP
    reward: MLP


@dataclass(frozen=True)
class LearnedReward(ESMAML):
    """`masked` are numbers of the observation, from 1 on, that the reward is not shown: 6 is
    Hopper's velocity along x.

    Raises BadValue for another operator, which would be shown the true return.
    """

    reward_hidden: tuple[int, ...] = (32, 32)
    masked: tuple[int, ...] = ()
    evolve_policy: bool = True  # False: psi alone; theta_0 stays where `start` left it
    fitting: int = 2000  # gradient steps of box 0; 0: psi begins at random
    annealing: int = 0  # generations until the true reward is gone

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, (("fitting", "annealing"), FROM_ZERO))
        if self.operator != "ppo":
            raise BadValue(
                f"operator={self.operator} climbs by the true return, not by a learned reward; "
                "leave ppo"
            )

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """0."""
        size = problem.source.spaces.observation
        if any(not 1 <= i <= size for i in self.masked):
            raise BadValue(f"masked={self.masked}: {problem.source} observes numbers 1 to {size}")
        s = super().init(problem, seed, start)
        center = s.learner.center
        widths = (size + problem.source.spaces.action, *self.reward_hidden, 1)
        reward, returns, steps = init_mlp(fold_key(s.key, 5), widths, 1.0), Moments.empty(()), 0
        if self.fitting:
            n, length = self.learner.rollout_shape
            length = max(
                length, self.updates * self.adaptation_steps
            )  # what is paid late looks otherwise
            worlds = problem.randomized_source.worlds(n, seed)
            _, tr = rollout_steps(
                problem.randomized_source, worlds, self.learner.behaviour(center), length
            )
            seen = Normalizer.of(center.obs_moments)
            reward = self._fit(
                reward, seen, flat(tr.obs), flat(tr.action), flat(tr.reward), fold_key(s.key, 6)
            )
            paid = np.asarray(self._reward(reward, seen, tr.obs, tr.action))
            ends = tr.terminated | tr.truncated
            returns = returns.merge(
                flat(discounted_returns(np.zeros(n), paid, ends, self.learner.discount)[0])
            )
            steps = n * length
        actor, log_std, critic = center.networks
        center = center._replace(networks=Rewarded(actor, log_std, critic, reward), returns=returns)
        center = self.learner.warm_start(center)
        theta, _ = ravel_pytree(center.networks)
        evolved = s.learner._replace(center=center, optimizer=self._adam.init(theta))
        return s._replace(learner=evolved, source_steps=np.int64(s.source_steps + steps))

    def following(
        self, networks: Any, before: tuple[Moments, ...], after: tuple[Moments, ...]
    ) -> Any:
        seen, now = before[0], after[0]
        shown = self.shown(len(seen.mean)) > 0
        mean, variance = (
            np.where(shown, new, old) for new, old in zip(now[1:], seen[1:], strict=True)
        )
        reward = popart_inputs(networks.reward, seen, Moments(now.count, mean, variance))
        return super().following(networks, before, after)._replace(reward=reward)

    def noise(self, key: Array, generation: int, i: int, networks: Any) -> Array:
        noise = super().noise(key, generation, i, networks)
        if self.evolve_policy:
            return noise
        still = jax.tree.map(jnp.zeros_like, networks)
        moves, _ = ravel_pytree(still._replace(reward=jax.tree.map(jnp.ones_like, networks.reward)))
        return noise * moves

    def paid(self, s: Any, tr: Transition, share: float = 0.0) -> Transition:
        tr = super().paid(s, tr)
        learned = np.asarray(
            self._reward(s.networks.reward, Normalizer.of(s.obs_moments), tr.obs, tr.action)
        )
        return tr._replace(reward=(1 - share) * learned + share * tr.reward if share else learned)

    def pay(self, generation):
        return partial(
            self.paid, share=max(0.0, 1 - generation / self.annealing) if self.annealing else 0.0
        )

    @partial(jax.jit, static_argnums=0)
    def _reward(self, network: MLP, normalizer: Normalizer, obs: Array, action: Array) -> Array:
        return self.reward(network, normalizer, obs, action)

    def reward(self, network: MLP, normalizer: Normalizer, obs: Array, action: Array) -> Array:
        """r_psi (...) of observations (..., O) and actions (..., A)."""
        return mlp(
            network, jnp.concatenate([normalizer(obs) * self.shown(obs.shape[-1]), action], -1)
        )[..., 0]

    def shown(self, size: int) -> np.ndarray:
        """1 for the numbers of an observation that the reward sees, 0 for those that are masked."""
        shown = np.ones(size, np.float32)
        shown[[i - 1 for i in self.masked]] = 0
        return shown

    @partial(jax.jit, static_argnums=0)
    def _fit(
        self,
        network: MLP,
        normalizer: Normalizer,
        obs: Array,
        action: Array,
        reward: Array,
        key: Array,
    ) -> MLP:
        """Least squares by Adam, minibatches of 256, on rewards divided by their standard
        deviation.
        """
        adam, wanted = optax.adam(1e-3), reward / (reward.std() + 1e-8)

        def step(carry: tuple[MLP, Any], key: Array) -> tuple[tuple[MLP, Any], None]:
            network, optimizer = carry
            rows = jax.random.randint(key, (256,), 0, len(obs))
            error = lambda net: jnp.square(
                self.reward(net, normalizer, obs[rows], action[rows]) - wanted[rows]
            ).mean()
            change, optimizer = adam.update(jax.grad(error)(network), optimizer)
            return (optax.apply_updates(network, change), optimizer), None

        (network, _), _ = jax.lax.scan(
            step, (network, adam.init(network)), jax.random.split(key, self.fitting)
        )
        return network
