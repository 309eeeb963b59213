"""A discriminator of two agents by the states they visit, and rewards for not being told apart.

Wulfmeier et al. 2017 (arXiv 1707.07907). D -> 1 on the simulator. Shape letter Z: numbers in one
state sequence zeta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from isthmus.learning.learner import Health
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.learning.settings import NonNegativeFloat, PositiveInt, Settings
from isthmus.types import Array, Decision, Metrics, UnknownName


def cross_entropy(simulator: Array, robot: Array) -> Array:
    """Return -Eq. 2 of MATL: -E_S[log D] - E_R[log(1 - D)], from logits (B,) of either agent."""
    return jax.nn.softplus(-simulator).mean() + jax.nn.softplus(robot).mean()


def earth_mover(simulator: Array, robot: Array) -> Array:
    """Return -(E_S[f] - E_R[f]), for an f that is 1-Lipschitz.

    The Wasserstein distance's dual (Arjovsky et al. 2017).
    """
    return robot.mean() - simulator.mean()


def confusion_rewards(logit: Array) -> tuple[Array, Array]:
    """Return Eqs. 4 and 5 of MATL: rho_S = -log D, rho_R = log D."""
    return jax.nn.softplus(-logit), -jax.nn.softplus(-logit)


def min_max_rewards(logit: Array) -> tuple[Array, Array]:
    """Return each agent's part of Eq. 2, to be minimized: rho_S = -log D, rho_R = -log(1 - D)."""
    return jax.nn.softplus(-logit), jax.nn.softplus(logit)


def wasserstein_rewards(value: Array) -> tuple[Array, Array]:
    """Return rho_S = -f, rho_R = f."""
    return -value, value


class DiscriminatorLoss(NamedTuple):
    """What the discriminator descends, and what the agents are paid."""

    loss: Callable[[Array, Array], Array]  # of logits (B,) of simulator and robot
    rewards: Callable[[Array], tuple[Array, Array]]  # of a logit: rho_S, rho_R


LOSSES: dict[str, DiscriminatorLoss] = {
    "confusion": DiscriminatorLoss(cross_entropy, confusion_rewards),
    "min_max": DiscriminatorLoss(cross_entropy, min_max_rewards),
    "wasserstein": DiscriminatorLoss(earth_mover, wasserstein_rewards),
}


class SequenceDiscriminatorState(NamedTuple):
    """A network, its optimizer, and the moments of all sequences so far."""

    network: MLP
    optimizer: optax.OptState
    sequences: Moments


class _Sequences(NamedTuple):
    """Normalized sequences (B, Z) of both agents."""

    simulator: Array
    robot: Array


class _Descent(NamedTuple):
    """What a gradient step changes."""

    network: MLP
    optimizer: optax.OptState


def score(network: MLP, x: Array) -> Array:
    """Return the logit (...) of normalized sequences (..., Z)."""
    return mlp(network, x)[..., 0]


@dataclass(frozen=True)
class SequenceDiscriminator(Settings):
    """An MLP over normalized sequences, Adam.

    Wasserstein's f is kept 1-Lipschitz by a penalty on slopes above 1 (Petzka et al. 2018, arXiv
    1709.08894); one that also lifts slopes below (Gulrajani et al. 2017) can hold f upside down.

    Raises UnknownName for a loss that is not in LOSSES, BadValue for a number that cannot be.
    """

    PREFIX: ClassVar[str] = "discriminator."
    loss: str = "confusion"
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: NonNegativeFloat = 1e-3
    steps: PositiveInt = 20  # gradient steps a round
    minibatch: PositiveInt = 256  # sequences of each agent
    penalty: NonNegativeFloat = 10.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UnknownName("discriminator loss", self.loss, LOSSES)
        super().__post_init__()

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init(self, numbers: int, key: Array) -> SequenceDiscriminatorState:
        """Return a discriminator of sequences of so many numbers Z."""
        network = init_mlp(key, (numbers, *self.hidden, 1), 0.1)
        return SequenceDiscriminatorState(network, self._adam.init(network), Moments.empty(numbers))

    def learn(
        self, s: SequenceDiscriminatorState, simulator: Array, robot: Array, key: Array
    ) -> tuple[SequenceDiscriminatorState, Metrics]:
        """Do gradient steps on Eq. 2 with sequences of both agents, (B, Z) each.

        `discriminator_accuracy` is measured before the steps, on sequences that it has not learned
        from: 0.5 where the agents cannot be told apart.
        """
        moments = s.sequences.merge(simulator).merge(robot)
        s, metrics = self._learn(s, Normalizer.of(moments), simulator, robot, key)
        return s._replace(sequences=moments), {k: float(v) for k, v in metrics.items()}

    @partial(jax.jit, static_argnums=0)
    def _learn(
        self,
        s: SequenceDiscriminatorState,
        normalize: Normalizer,
        simulator: Array,
        robot: Array,
        key: Array,
    ) -> tuple[SequenceDiscriminatorState, Health]:
        sequences = _Sequences(normalize(simulator), normalize(robot))
        accuracy = _measure_accuracy(s.network, sequences)
        start, keys = _Descent(s.network, s.optimizer), jax.random.split(key, self.steps)
        end, losses = jax.lax.scan(partial(self._descend, sequences), start, keys)
        health = {"discriminator_accuracy": accuracy, "discriminator_loss": losses[-1]}
        return s._replace(network=end.network, optimizer=end.optimizer), health

    def _descend(
        self, sequences: _Sequences, descent: _Descent, key: Array
    ) -> tuple[_Descent, Array]:
        """Do one gradient step on a batch of both agents; also return the loss before it."""
        k_simulator, k_robot, k_between = jax.random.split(key, 3)
        batch = self._draw(sequences.simulator, k_simulator), self._draw(sequences.robot, k_robot)
        loss, gradient = jax.value_and_grad(self._loss)(descent.network, *batch, k_between)
        updates, optimizer = self._adam.update(gradient, descent.optimizer)
        return _Descent(optax.apply_updates(descent.network, updates), optimizer), loss

    def _draw(self, sequences: Array, key: Array) -> Array:
        return sequences[jax.random.randint(key, (self.minibatch,), 0, len(sequences))]

    def _loss(self, network: MLP, simulator: Array, robot: Array, key: Array) -> Array:
        value = LOSSES[self.loss].loss(score(network, simulator), score(network, robot))
        if self.loss != "wasserstein":
            return value
        between = simulator + jax.random.uniform(key, (len(simulator), 1)) * (robot - simulator)
        slopes = jax.vmap(jax.grad(score, 1), (None, 0))(network, between)
        slope = jnp.sqrt(jnp.square(slopes).sum(-1) + 1e-8)
        return value + self.penalty * jnp.square(jnp.maximum(slope - 1, 0)).mean()

    def rewards(
        self, s: SequenceDiscriminatorState, sequences: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (rho_S, rho_R) of sequences (..., Z), float32."""
        first, second = self._rewards(s.network, Normalizer.of(s.sequences), sequences)
        return np.asarray(first), np.asarray(second)

    @partial(jax.jit, static_argnums=0)
    def _rewards(
        self, network: MLP, normalize: Normalizer, sequences: Array
    ) -> tuple[Array, Array]:
        return LOSSES[self.loss].rewards(score(network, normalize(sequences)))


def _measure_accuracy(network: MLP, sequences: _Sequences) -> Array:
    """Return the share of sequences whose agent is told right, each agent counting half."""
    right_simulator = (score(network, sequences.simulator) > 0).mean()
    right_robot = (score(network, sequences.robot) <= 0).mean()
    return (right_simulator + right_robot) / 2


class StateHistory(NamedTuple):
    """The memory of `WithHistory`, of one episode."""

    memory: Any
    states: Array  # [nk + 1, O], the newest last
    start: Array  # [O]
    time: Array  # int32


class WithHistory(NamedTuple):
    """A behaviour that also hands back the states that led to each transition.

    With each transition: `zeta` [n + 1, O] = (s_{t-nk}, ..., s_{t-k}, s_t), in which states before
    the episode's first are that first one; `start` [O] and `time` (steps since). It ends at t, so
    that none reaches over an episode's end: the memory begins anew with each task, which here must
    be one episode.
    """

    behaviour: Any
    empty: Array  # zeros [nk + 1, O]
    picks: Array  # [n + 1] rows of it that make zeta

    @staticmethod
    def of(behaviour: Any, observation: int, n: int, k: int) -> WithHistory:
        """Return a behaviour with n + 1 states, k steps apart, of so many numbers each."""
        empty = np.zeros((n * k + 1, observation), np.float32)
        return WithHistory(behaviour, empty, k * np.arange(n + 1))

    def memory(self) -> StateHistory:
        """Return the memory before an episode's first observation."""
        inner = self.behaviour.memory()
        return StateHistory(inner, self.empty, self.empty[0], np.zeros((), np.int32))

    def act(
        self, memory: StateHistory, observation: Array, key: Array
    ) -> tuple[Decision, StateHistory]:
        """Return the behaviour's decision with the states, and the memory after it."""
        decision, inner = self.behaviour.act(memory.memory, observation, key)
        first = memory.time == 0
        shifted = jnp.concatenate([memory.states[1:], observation[None]])
        states = jnp.where(first, jnp.broadcast_to(observation, shifted.shape), shifted)
        start = jnp.where(first, observation, memory.start)
        history = {"zeta": states[self.picks], "start": start, "time": memory.time}
        decision = decision._replace(extra={**decision.extra, **history})
        return decision, StateHistory(inner, states, start, memory.time + 1)
