"""VGDF: value-guided data filtering (Xu et al. 2023, arXiv 2305.17625).

1.  pi, Q_1, Q_2 (SAC); pi_E, an actor that explores; T_1 .. T_M, models of the target's dynamics
    <- initialize; D_src, D_tgt as two_replays'
    repeat:
2.      roll out pi_E in the source; online also pi in the target, as two_replays'
        for each source step, on half a batch of D_src and half of D_tgt:
3.          T_i <- a gradient step on its likelihood of the target's
4.          of each of the source's: V(s'_i), s'_i by T_i of (s, a);  N(mean, deviation over i);
            its likelihood of V(s')
5.          w <- 1 for the likeliest `share`, 0 for the others; 1 for all before `warmup` source
            steps
6.          Q_1, Q_2 <- squared errors, those of the source times w
            pi <- SAC's step, over both halves
7.          pi_E <- a gradient step on alpha log pi_E - max_i Q_i, over both halves
    deploy pi

V(s) is the least of the slow critics at pi's mean action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.distributions import gaussian_log_prob, normal
from isthmus.learning.dynamics_ensemble import (
    DynamicsEnsemble,
    DynamicsMoments,
    DynamicsState,
    Scales,
)
from isthmus.learning.keys import beside
from isthmus.learning.learner import Health
from isthmus.learning.policies import Actor, squashed_parameters
from isthmus.learning.sac import Learned, SACBatch, SACState, squashed_sample
from isthmus.learning.settings import NonNegativeInt, OpenUnitFloat
from isthmus.methods.darc import without_rewards
from isthmus.methods.method import State
from isthmus.methods.two_replays import Halves, Knowledge, TwoReplays
from isthmus.types import Array, Spaces


class VGDFModel(NamedTuple):
    """What VGDF knows beside SAC."""

    dynamics: DynamicsState
    explorer: Actor  # pi_E
    optimizer: optax.OptState  # the explorer's


class VGDFContext(NamedTuple):
    """What a round's updates know beside what they change."""

    source_steps: np.int32  # before the round
    scales: Scales


@dataclass(frozen=True)
class VGDF(TwoReplays):
    """As the box; `share`, `warmup` and the models' sizes are the authors'.

    Ours: the models take a step with each of SAC's, where the authors fit them anew every 250; and
    the value of a predicted state is compared alone, without a predicted reward and fall.

    Raises BadValue for a learner other than SAC or a number that cannot be.
    """

    dynamics: DynamicsEnsemble = field(default_factory=DynamicsEnsemble)
    share: OpenUnitFloat = 0.25
    warmup: NonNegativeInt = 100_000  # source steps

    def init_model(self, spaces: Spaces, sac: SACState, key: Array) -> VGDFModel:
        """Return the models and pi_E of box line 1; pi_E begins as pi."""
        dynamics = self.dynamics.init(spaces.observation, spaces.action, key)
        explorer = sac.learned.actor
        return VGDFModel(dynamics, explorer, self.learner.adam.init(explorer))

    def init_observed(self, spaces: Spaces) -> DynamicsMoments:
        """Return the models' moments of no transition."""
        return DynamicsMoments.empty(spaces.observation, spaces.action)

    def observe_target(self, observed: DynamicsMoments, seen: SACBatch) -> DynamicsMoments:
        """Return the models' moments with new transitions (B, ...) of the target."""
        return observed.merge(without_rewards(seen))

    def context(self, s: State) -> VGDFContext:
        """Return the source's steps so far, and the models' scales."""
        return VGDFContext(np.int32(s.source_steps), s.learner.observed.scales())

    def source_behaviour(self, s: State) -> Any:
        """Return pi_E, which explores."""
        sac, explorer = s.learner.sac, s.learner.model.explorer
        return self.learner.behaviour(sac._replace(learned=sac.learned._replace(actor=explorer)))

    def update(
        self, known: Knowledge, halves: Halves, context: VGDFContext, key: Array
    ) -> tuple[Knowledge, Health]:
        """Do box lines 3 to 7."""
        k_models, k_sac = jax.random.split(key)
        # 3.
        dynamics, loss = self.dynamics.update(
            known.model.dynamics, context.scales, without_rewards(halves.target), k_models
        )
        # 4.
        predicted = self.dynamics.predict(
            dynamics, context.scales, halves.source.obs, halves.source.action
        )
        likelihood = self._judge_values(known.learned, predicted, halves.source.next_obs)
        # 5.
        likeliest = likelihood >= jnp.quantile(likelihood, 1 - self.share)
        weight = jnp.where(context.source_steps < self.warmup, 1.0, likeliest)
        # 6.
        weights = jnp.concatenate([weight, jnp.ones(len(weight))])
        learned, health = self.learner.update(known.learned, halves.joined, k_sac, weight=weights)
        # 7.
        model = known.model._replace(dynamics=dynamics)
        noise = normal(beside(k_sac), halves.joined.action.shape)
        model = self._explore(model, learned, halves.joined.obs, noise)
        health |= {"model_loss": loss, "shared": weight.mean()}
        return Knowledge(learned, model), health

    def _judge_values(self, learned: Learned, predicted: Array, happened: Array) -> Array:
        """Return the log likelihoods (B,) of V(s') of what happened (B, O), box line 4.

        `predicted` (M, B, O) is what the models say of the same states and actions.
        """
        members, count, width = predicted.shape
        fictitious = self._value(learned, predicted.reshape(-1, width)).reshape(members, count)
        log_std = jnp.log(fictitious.std(0) + 1e-8)
        columns = (
            x[:, None] for x in (self._value(learned, happened), fictitious.mean(0), log_std)
        )
        return jax.vmap(gaussian_log_prob)(*columns)

    def _value(self, learned: Learned, obs: Array) -> Array:
        """Return V(s), (B,)."""
        action = jnp.tanh(squashed_parameters(learned.actor, obs)[0])
        return self.learner.q_values(learned.targets, obs, action).min(0)

    def _explore(self, model: VGDFModel, learned: Learned, obs: Array, noise: Array) -> VGDFModel:
        """Do box line 7."""
        temperature = jnp.exp(learned.log_temperature)

        def loss(actor: Actor) -> Array:
            action, log_prob = squashed_sample(actor, obs, noise)
            hopeful = self.learner.q_values(learned.critics, obs, action).max(0)
            return (temperature * log_prob - hopeful).mean()

        gradient = jax.grad(loss)(model.explorer)
        change, optimizer = self.learner.adam.update(gradient, model.optimizer)
        return model._replace(
            explorer=optax.apply_updates(model.explorer, change), optimizer=optimizer
        )
