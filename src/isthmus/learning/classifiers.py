"""Which domain does a transition come from? DARC's two classifiers (Eysenbach et al. 2020, arXiv
2006.13916).

q(. | s, a) and q(. | s, a, s'), each over (source, target). The second's logits are the first's
plus those of a head of its own, as in the authors' code. By Bayes' rule their difference is that of
the dynamics:

    log p_tgt(s'|s,a) - log p_src(s'|s,a) = log q(tgt|s,a,s') - log q(src|s,a,s') - log q(tgt|s,a) +
    log q(src|s,a)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.distributions import normal
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.types import Array, BadValue

SOURCE, TARGET = 0, 1


class DomainClassifier(NamedTuple):
    """Networks with two logits each."""

    of_action: MLP  # of (s, a)
    of_transition: MLP  # of (s, a, s'): what is added to the first's logits


class ClassifiersState(NamedTuple):
    pairs: DomainClassifier  # leaves with a leading axis, one for each of the ensemble
    optimizer: Any


class TransitionBatch(NamedTuple):
    """What a classifier sees of transitions, (B, ...)."""

    obs: Array
    action: Array
    next_obs: Array


def logits(
    pair: DomainClassifier,
    seen: TransitionBatch,
    again: TransitionBatch | None = None,
    bound: float = 0.0,
) -> tuple[Array, Array]:
    """Of q(. | s, a) and q(. | s, a, s'), (B, 2) each; the second's own head may see the
    transitions `again`.

    `bound` b, if not 0, makes each head's output b tanh(.), as H2O does.
    """
    x, y = jnp.concatenate(seen[:2], -1), jnp.concatenate(again or seen, -1)
    first, second = (mlp(head, z, jax.nn.relu) for head, z in zip(pair, (x, y), strict=True))
    if bound:
        first, second = bound * jnp.tanh(first), bound * jnp.tanh(second)
    return first, first + second


def log_q(pair: DomainClassifier, seen: TransitionBatch, bound: float = 0.0) -> tuple[Array, Array]:
    """log q(. | s, a) and log q(. | s, a, s'), (B, 2) each."""
    first, second = logits(pair, seen, bound=bound)
    return jax.nn.log_softmax(first), jax.nn.log_softmax(second)


def delta_reward(
    pair: DomainClassifier, source: TransitionBatch, target: TransitionBatch, bound: float = 0.0
) -> Array:
    """(B,) log q(tgt|s,a_tgt,s') - log q(tgt|s,a_tgt) - log q(src|s,a_src,s') + log q(src|s,a_src),
    DAP's Eq. 3.

    `source` and `target` are the same transitions with the two actions; where these are equal it is
    DARC's delta_r (Eq. 2). Where they differ it is not log p_tgt(s'|s,a_tgt) - log
    p_src(s'|s,a_src), which by Bayes' rule is this plus log p(s'|s,a_tgt) - log p(s'|s,a_src), p
    the mixture of both domains.
    """
    (sa_t, sas_t), (sa_s, sas_s) = log_q(pair, target, bound), log_q(pair, source, bound)
    return sas_t[:, TARGET] - sa_t[:, TARGET] - sas_s[:, SOURCE] + sa_s[:, SOURCE]


@dataclass(frozen=True)
class Classifiers:
    """Pairs of classifiers that differ in their first weights. Defaults are those of DARC's code.

    Gaussian `noise` is added to what they see in training, and to nothing when they are asked.
    Theirs is drawn apart for the two and for each part, so that the second sees (s, a) anew and
    adds to delta_r how much likelier (s, a) is in the target's data. With `shared_noise`, ours,
    both see one draw, s' moves as s does and a stays: where s' - s does not depend on s nothing of
    that is left; where it does, s' - s gives s away.

    Raises BadValue for a number that cannot be.
    """

    hidden: tuple[int, ...] = (32,)
    learning_rate: float = 3e-4
    noise: float = 1.0
    shared_noise: bool = False
    members: int = 1
    bound: float = 0.0  # of each head's logits; 0: none

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < np.inf:
            raise BadValue(
                f"classifiers.learning_rate={self.learning_rate}: needs a number above 0"
            )
        if not 0 <= self.noise < np.inf:
            raise BadValue(f"classifiers.noise={self.noise}: needs a number from 0 on")
        if not 0 <= self.bound < np.inf:
            raise BadValue(f"classifiers.bound={self.bound}: needs a number from 0 on")
        if not (isinstance(self.members, int) and self.members >= 1):
            raise BadValue(f"classifiers.members={self.members}: needs a whole number from 1 on")

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def init(self, observation: int, action: int, key: Array) -> ClassifiersState:
        """Classifiers of so many numbers in an observation and in an action."""

        def one(key: Array) -> DomainClassifier:
            first, second = jax.random.split(key)
            seen, all_seen = observation + action, 2 * observation + action
            return DomainClassifier(
                init_mlp(first, (seen, *self.hidden, 2), 1.0),
                init_mlp(second, (all_seen, *self.hidden, 2), 1.0),
            )

        pairs = [one(each) for each in jax.random.split(key, self.members)]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *pairs)
        return ClassifiersState(stacked, self._adam.init(stacked))

    def update(
        self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch, key: Array
    ) -> tuple[ClassifiersState, dict[str, Array]]:
        """One Adam step on both cross-entropies, over transitions (B, ...) of either domain; pure.

        `accuracy` is that of q(. | s, a, s') before the step, on the noisy batch: 0.5 where domains
        look alike.
        """
        seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), source, target)
        label = jnp.concatenate(
            [jnp.full(len(source.obs), SOURCE), jnp.full(len(target.obs), TARGET)]
        )

        one, other = jax.random.split(key)
        if self.shared_noise:
            noise = self.noise * normal(one, seen.obs.shape)
            noisy = all_noisy = TransitionBatch(
                seen.obs + noise, seen.action, seen.next_obs + noise
            )
        else:
            noisy, all_noisy = (
                self._noisy(seen, one),
                self._noisy(seen, other),
            )  # the same for all of the ensemble

        def loss(pair: DomainClassifier) -> tuple[Array, Array]:
            first, second = logits(pair, noisy, all_noisy, self.bound)
            entropy = optax.softmax_cross_entropy_with_integer_labels
            right = (second.argmax(-1) == label).mean()
            return entropy(first, label).mean() + entropy(second, label).mean(), right

        def total(pairs: DomainClassifier) -> tuple[Array, tuple[Array, Array]]:
            losses, right = jax.vmap(loss)(pairs)
            return losses.sum(), (losses.mean(), right.mean())

        gradient, (value, right) = jax.grad(total, has_aux=True)(s.pairs)
        step, optimizer = self._adam.update(gradient, s.optimizer)
        pairs = optax.apply_updates(s.pairs, step)
        return ClassifiersState(pairs, optimizer), {
            "classifier_loss": value,
            "classifier_accuracy": right,
        }

    def _noisy(self, seen: TransitionBatch, key: Array) -> TransitionBatch:
        keys = jax.random.split(key, 3)
        drawn = (self.noise * normal(k, x.shape) for k, x in zip(keys, seen, strict=True))
        return TransitionBatch(*(x + noise for x, noise in zip(seen, drawn, strict=True)))

    def delta(self, s: ClassifiersState, source: TransitionBatch, target: TransitionBatch) -> Array:
        """`delta_reward` (B,), the mean over the ensemble."""
        return jax.vmap(delta_reward, (0, None, None, None))(
            s.pairs, source, target, self.bound
        ).mean(0)


def disagreement(pairs: DomainClassifier, obs: Array, action: Array) -> Array:
    """DAP+U's u (B,): the ensemble's standard deviation of log q(tgt | s, a), which is known before
    s' is.
    """
    x = jnp.concatenate([obs, action], -1)
    one = lambda network: jax.nn.log_softmax(mlp(network, x, jax.nn.relu))[..., TARGET]
    return jax.vmap(one)(pairs.of_action).std(0)
