"""Which domain does a transition come from? DARC's two classifiers (Eysenbach et al. 2020).

arXiv 2006.13916. q(. | s, a) and q(. | s, a, s'), each over (source, target). The second's logits
are the first's plus those of a head of its own, as in the authors' code. By Bayes' rule their
difference is that of the dynamics:

    log p_tgt(s'|s,a) - log p_src(s'|s,a)
        = log q(tgt|s,a,s') - log q(src|s,a,s') - log q(tgt|s,a) + log q(src|s,a)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from isthmus.learning.distributions import coarse_normal
from isthmus.learning.learner import Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.settings import NonNegativeFloat, PositiveFloat, PositiveInt, Settings
from isthmus.types import Array

SOURCE, TARGET = 0, 1


class DomainClassifier(NamedTuple):
    """Networks with two logits each."""

    of_action: MLP  # of (s, a)
    of_transition: MLP  # of (s, a, s'): what is added to the first's logits


class ClassifiersState(NamedTuple):
    """An ensemble of classifiers, and their optimizer."""

    pairs: DomainClassifier  # leaves with a leading axis, one for each of the ensemble
    optimizer: optax.OptState


class TransitionBatch(NamedTuple):
    """Transitions (B, ...) without rewards."""

    obs: Array
    action: Array
    next_obs: Array


def log_odds(network: MLP, x: Array, bound: float = 0.0) -> Array:
    """Return log q(tgt | x) - log q(src | x), (N, B), by an ensemble's networks of x (B, I).

    It is the difference of the two logits. `bound` b, if not 0, makes each b tanh(.), as H2O does.
    """
    layers = network if bound else (*network[:-1], _subtract_logits(network[-1]))
    (weights, bias), *others = layers
    # The first layers of all members are one product.
    y = jnp.einsum("nio,bi->nbo", weights, x) + bias[:, None]
    for weights, bias in others:
        y = jnp.einsum("nio,nbi->nbo", weights, jax.nn.relu(y)) + bias[:, None]
    if bound:
        y = bound * jnp.tanh(y)
        return y[..., TARGET] - y[..., SOURCE]
    return y[..., 0]


def _subtract_logits(layer: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the layer whose one output is the difference of the two of `layer`."""
    weights, bias = (x[..., TARGET:] - x[..., :TARGET] for x in layer)
    return weights, bias


def both_log_odds(
    pairs: DomainClassifier, of_action: Array, of_transition: Array, bound: float = 0.0
) -> tuple[Array, Array]:
    """Return the log odds of q(. | s, a) and of q(. | s, a, s'), (N, B) each.

    They are for (s, a) as `of_action` (B, O + A) has it and for (s, a, s') as `of_transition`
    (B, O + A + O) has it; in training the two may have noise of their own.
    """
    first = log_odds(pairs.of_action, of_action, bound)
    return first, first + log_odds(pairs.of_transition, of_transition, bound)


def delta_reward(
    pairs: DomainClassifier, source: TransitionBatch, target: TransitionBatch, bound: float = 0.0
) -> Array:
    """Return DAP's Eq. 3 (N, B), of the same transitions with the `source`'s and `target`'s
    actions.

    log q(tgt|s,a_tgt,s') - log q(tgt|s,a_tgt) - log q(src|s,a_src,s') + log q(src|s,a_src)

    Where the actions are equal it is DARC's delta_r (Eq. 2). Where they differ it is not
    log p_tgt(s'|s,a_tgt) - log p_src(s'|s,a_src), which by Bayes' rule is this plus
    log p(s'|s,a_tgt) - log p(s'|s,a_src), p the mixture of both domains.
    """
    sa_t, sas_t = both_log_odds(pairs, *_join(target), bound)
    sa_s, sas_s = both_log_odds(pairs, *_join(source), bound)
    log_q = jax.nn.log_sigmoid  # of the target; of the source by -log odds
    return log_q(sas_t) - log_q(sa_t) - log_q(-sas_s) + log_q(-sa_s)


def _join(batch: TransitionBatch) -> tuple[Array, Array]:
    """Return (s, a) and (s, a, s') in one row each."""
    return jnp.concatenate(batch[:2], -1), jnp.concatenate(batch, -1)


@dataclass(frozen=True)
class Classifiers(Settings):
    """Pairs of classifiers that differ in their first weights. Defaults are those of DARC's code.

    Gaussian `noise` (`coarse_normal`) is added to their inputs in training, and to nothing when
    they are asked. It is drawn apart for the two and for each part, so that the second sees (s, a)
    anew and adds to delta_r how much likelier (s, a) is in the target's data. With `shared_noise`,
    ours, both see one draw, s' moves as s does and a stays: where s' - s does not depend on s
    nothing of that is left; where it does, s' - s gives s away.

    Raises BadValue for a number that cannot be.
    """

    PREFIX: ClassVar[str] = "classifiers."
    hidden: tuple[int, ...] = (32,)
    learning_rate: PositiveFloat = 3e-4
    noise: NonNegativeFloat = 1.0
    shared_noise: bool = False
    members: PositiveInt = 1
    bound: NonNegativeFloat = 0.0  # of each head's logits; 0: none

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, observation: int, action: int, key: Array) -> ClassifiersState:
        """Return classifiers of so many numbers in an observation and in an action."""
        pairs = [
            self._init_pair(observation, action, k) for k in jax.random.split(key, self.members)
        ]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *pairs)
        return ClassifiersState(stacked, self._adam.init(stacked))

    def _init_pair(self, observation: int, action: int, key: Array) -> DomainClassifier:
        first, second = jax.random.split(key)
        return DomainClassifier(
            init_mlp(first, (observation + action, *self.hidden, 2), 1.0),
            init_mlp(second, (2 * observation + action, *self.hidden, 2), 1.0),
        )

    @partial(jax.jit, static_argnums=0)
    def learn(
        self,
        s: ClassifiersState,
        source: TransitionBatch,
        target: TransitionBatch,
        key: Array,
        deployed: Array | None = None,
    ) -> tuple[ClassifiersState, Array, Health]:
        """Do `update` on each of the minibatches [n, B, ...] of either domain.

        Also returns the `delta` [n, B] of the source's, each by the classifiers after their step
        on it, and mean metrics. `deployed` [n, B, A] are the target's actions, if they differ.
        """

        def step(
            s: ClassifiersState, inputs: tuple[TransitionBatch, TransitionBatch, Array, Array]
        ) -> tuple[ClassifiersState, tuple[Array, Health]]:
            source, target, deployed, key = inputs
            s, health = self.update(s, source, target, key)
            if deployed is None:
                return s, (self.log_ratio(s, source), health)
            return s, (self.delta(s, source, source._replace(action=deployed)), health)

        keys = jax.random.split(key, len(source.obs))
        s, (delta, health) = jax.lax.scan(step, s, (source, target, deployed, keys))
        return s, delta, jax.tree.map(jnp.mean, health)

    def update(
        self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch, key: Array
    ) -> tuple[ClassifiersState, Health]:
        """Do one Adam step on both cross-entropies, over transitions (B, ...) of either; pure.

        `accuracy` is that of q(. | s, a, s') before the step, on the noisy batch: 0.5 where domains
        look alike.
        """
        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), source, target)
        of_target = jnp.arange(len(batch.obs)) >= len(source.obs)
        noisy = self._add_noise(batch, key)  # the same for all of the ensemble
        gradient, health = jax.grad(self._loss, has_aux=True)(s.pairs, *noisy, of_target)
        step, optimizer = self._adam.update(gradient, s.optimizer)
        return ClassifiersState(optax.apply_updates(s.pairs, step), optimizer), health

    def _loss(
        self, pairs: DomainClassifier, of_action: Array, of_transition: Array, of_target: Array
    ) -> tuple[Array, Health]:
        """Return the cross-entropies, summed over the ensemble, and metrics.

        `of_target` (B,) says whose each row is.
        """
        first, second = both_log_odds(pairs, of_action, of_transition, self.bound)
        against = jnp.where(of_target, -1.0, 1.0)  # -log q of the right domain is softplus(+-odds)
        entropies = [jax.nn.softplus(against * odds).mean(1) for odds in (first, second)]
        losses = entropies[0] + entropies[1]
        accuracy = ((second > 0) == of_target).mean()
        return losses.sum(), {"classifier_loss": losses.mean(), "classifier_accuracy": accuracy}

    def _add_noise(self, batch: TransitionBatch, key: Array) -> tuple[Array, Array]:
        """Return (s, a) and (s, a, s') as either head sees them in training."""
        if not self.noise:
            return _join(batch)
        if self.shared_noise:
            noise = self.noise * coarse_normal(key, batch.obs.shape)
            return _join(batch._replace(obs=batch.obs + noise, next_obs=batch.next_obs + noise))
        of_action, of_transition = _join(batch)
        rows, split = of_action.shape
        noise = self.noise * coarse_normal(key, (rows, split + of_transition.shape[1]))
        return of_action + noise[:, :split], of_transition + noise[:, split:]

    def delta(self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch) -> Array:
        """Return `delta_reward` (B,), the mean over the ensemble."""
        return delta_reward(s.pairs, source, target, self.bound).mean(0)

    def log_ratio(self, s: ClassifiersState, batch: TransitionBatch) -> Array:
        """Return log p_tgt(s'|s,a) - log p_src(s'|s,a), (B,), the mean over the ensemble.

        It is `delta` where the actions are equal, and what the second's own head adds.
        """
        _, of_transition = _join(batch)
        return log_odds(s.pairs.of_transition, of_transition, self.bound).mean(0)


def disagreement(pairs: DomainClassifier, obs: Array, action: Array) -> Array:
    """Return DAP+U's u (B,): the ensemble's standard deviation of log q(tgt | s, a).

    It is known before s' is.
    """
    x = jnp.concatenate([obs, action], -1)

    def log_target(network: MLP) -> Array:
        return jax.nn.log_softmax(mlp(network, x, jax.nn.relu))[..., TARGET]

    return jax.vmap(log_target)(pairs.of_action).std(0)
