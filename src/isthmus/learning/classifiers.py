"""Which domain does a transition come from? DARC's two classifiers (Eysenbach et al. 2020).

arXiv 2006.13916. q(. | s, a) and q(. | s, a, s'), each over (source, target). The second's logits
are the first's plus those of a head of its own, as in the authors' code. By Bayes' rule their
difference is that of the dynamics:

    log p_tgt(s'|s,a) - log p_src(s'|s,a)
        = log q(tgt|s,a,s') - log q(src|s,a,s') - log q(tgt|s,a) + log q(src|s,a)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from isthmus.learning.distributions import normal
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


def logits(
    pair: DomainClassifier,
    batch: TransitionBatch,
    other_noise: TransitionBatch | None = None,
    bound: float = 0.0,
) -> tuple[Array, Array]:
    """Return the logits of q(. | s, a) and q(. | s, a, s'), (B, 2) each.

    The second's own head may see the same transitions with `other_noise`. `bound` b, if not 0,
    makes each head's output b tanh(.), as H2O does.
    """
    whole = batch if other_noise is None else other_noise
    first = mlp(pair.of_action, jnp.concatenate(batch[:2], -1), jax.nn.relu)
    second = mlp(pair.of_transition, jnp.concatenate(whole, -1), jax.nn.relu)
    if bound:
        first, second = bound * jnp.tanh(first), bound * jnp.tanh(second)
    return first, first + second


def log_q(
    pair: DomainClassifier, batch: TransitionBatch, bound: float = 0.0
) -> tuple[Array, Array]:
    """Return log q(. | s, a) and log q(. | s, a, s'), (B, 2) each."""
    first, second = logits(pair, batch, bound=bound)
    return jax.nn.log_softmax(first), jax.nn.log_softmax(second)


def delta_reward(
    pair: DomainClassifier, source: TransitionBatch, target: TransitionBatch, bound: float = 0.0
) -> Array:
    """Return DAP's Eq. 3 (B,), of the same transitions with the `source`'s and `target`'s actions.

    log q(tgt|s,a_tgt,s') - log q(tgt|s,a_tgt) - log q(src|s,a_src,s') + log q(src|s,a_src)

    Where the actions are equal it is DARC's delta_r (Eq. 2). Where they differ it is not
    log p_tgt(s'|s,a_tgt) - log p_src(s'|s,a_src), which by Bayes' rule is this plus
    log p(s'|s,a_tgt) - log p(s'|s,a_src), p the mixture of both domains.
    """
    (sa_t, sas_t), (sa_s, sas_s) = log_q(pair, target, bound), log_q(pair, source, bound)
    return sas_t[:, TARGET] - sa_t[:, TARGET] - sas_s[:, SOURCE] + sa_s[:, SOURCE]


@dataclass(frozen=True)
class Classifiers(Settings):
    """Pairs of classifiers that differ in their first weights. Defaults are those of DARC's code.

    Gaussian `noise` is added to their inputs in training, and to nothing when they are asked. It
    is drawn apart for the two and for each part, so that the second sees (s, a) anew and adds to
    delta_r how much likelier (s, a) is in the target's data. With `shared_noise`, ours, both see
    one draw, s' moves as s does and a stays: where s' - s does not depend on s nothing of that is
    left; where it does, s' - s gives s away.

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

    def update(
        self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch, key: Array
    ) -> tuple[ClassifiersState, Health]:
        """Do one Adam step on both cross-entropies, over transitions (B, ...) of either; pure.

        `accuracy` is that of q(. | s, a, s') before the step, on the noisy batch: 0.5 where domains
        look alike.
        """
        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), source, target)
        labels = jnp.concatenate(
            [jnp.full(len(source.obs), SOURCE), jnp.full(len(target.obs), TARGET)]
        )
        noisy = self._add_noise(batch, key)  # the same for all of the ensemble
        gradient, health = jax.grad(self._loss, has_aux=True)(s.pairs, *noisy, labels)
        step, optimizer = self._adam.update(gradient, s.optimizer)
        return ClassifiersState(optax.apply_updates(s.pairs, step), optimizer), health

    def _loss(
        self,
        pairs: DomainClassifier,
        noisy: TransitionBatch,
        other_noise: TransitionBatch,
        labels: Array,
    ) -> tuple[Array, Health]:
        """Return the cross-entropies (labels (B,)), summed over the ensemble, and metrics."""

        def pair_loss(pair: DomainClassifier) -> tuple[Array, Array]:
            first, second = logits(pair, noisy, other_noise, self.bound)
            entropy = optax.softmax_cross_entropy_with_integer_labels
            right = (second.argmax(-1) == labels).mean()
            return entropy(first, labels).mean() + entropy(second, labels).mean(), right

        losses, right = jax.vmap(pair_loss)(pairs)
        return losses.sum(), {"classifier_loss": losses.mean(), "classifier_accuracy": right.mean()}

    def _add_noise(
        self, batch: TransitionBatch, key: Array
    ) -> tuple[TransitionBatch, TransitionBatch]:
        """Return what either head sees in training."""
        first, second = jax.random.split(key)
        if self.shared_noise:
            noise = self.noise * normal(first, batch.obs.shape)
            noisy = batch._replace(obs=batch.obs + noise, next_obs=batch.next_obs + noise)
            return noisy, noisy
        return self._add_noise_to_parts(batch, first), self._add_noise_to_parts(batch, second)

    def _add_noise_to_parts(self, batch: TransitionBatch, key: Array) -> TransitionBatch:
        keys = TransitionBatch(*jax.random.split(key, 3))
        return TransitionBatch(
            batch.obs + self.noise * normal(keys.obs, batch.obs.shape),
            batch.action + self.noise * normal(keys.action, batch.action.shape),
            batch.next_obs + self.noise * normal(keys.next_obs, batch.next_obs.shape),
        )

    def delta(self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch) -> Array:
        """Return `delta_reward` (B,), the mean over the ensemble."""
        of_pairs = jax.vmap(delta_reward, (0, None, None, None))
        return of_pairs(s.pairs, source, target, self.bound).mean(0)


def disagreement(pairs: DomainClassifier, obs: Array, action: Array) -> Array:
    """Return DAP+U's u (B,): the ensemble's standard deviation of log q(tgt | s, a).

    It is known before s' is.
    """
    x = jnp.concatenate([obs, action], -1)

    def log_target(network: MLP) -> Array:
        return jax.nn.log_softmax(mlp(network, x, jax.nn.relu))[..., TARGET]

    return jax.vmap(log_target)(pairs.of_action).std(0)
