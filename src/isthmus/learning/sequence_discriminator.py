"""Telling two agents apart by the states they visit, and what either is paid for not being told
apart.

Shape letter Z: numbers in one state sequence zeta. D -> 1 on the simulator (Wulfmeier et al. 2017,
arXiv 1707.07907).
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

from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Moments, Normalizer
from isthmus.types import Array, BadValue, Decision, UnknownName


def cross_entropy(simulator: Array, robot: Array) -> Array:
    """-Eq. 2 of MATL: -E_S[log D] - E_R[log(1 - D)], from logits (B,) of each agent's sequences."""
    return jax.nn.softplus(-simulator).mean() + jax.nn.softplus(robot).mean()


def earth_mover(simulator: Array, robot: Array) -> Array:
    """-(E_S[f] - E_R[f]): the Wasserstein distance's dual (Arjovsky et al. 2017), for an f that is
    1-Lipschitz.
    """
    return robot.mean() - simulator.mean()


def confusion_rewards(logit: Array) -> tuple[Array, Array]:
    """Eqs. 4 and 5 of MATL: rho_S = -log D, rho_R = log D."""
    return jax.nn.softplus(-logit), -jax.nn.softplus(-logit)


def min_max_rewards(logit: Array) -> tuple[Array, Array]:
    """Each agent's part of Eq. 2, to be minimized: rho_S = -log D, rho_R = -log(1 - D)."""
    return jax.nn.softplus(-logit), jax.nn.softplus(logit)


def wasserstein_rewards(value: Array) -> tuple[Array, Array]:
    """rho_S = -f, rho_R = f."""
    return -value, value


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "confusion": (cross_entropy, confusion_rewards),
    "min_max": (cross_entropy, min_max_rewards),
    "wasserstein": (earth_mover, wasserstein_rewards),
}


class SequenceDiscriminatorState(NamedTuple):
    network: MLP
    optimizer: Any
    sequences: Moments


@dataclass(frozen=True)
class SequenceDiscriminator:
    """An MLP over normalized sequences, Adam. Wasserstein's f is kept 1-Lipschitz by a penalty on
    slopes above 1 (Petzka et al. 2018, arXiv 1709.08894); one that also lifts slopes below
    (Gulrajani et al. 2017) can hold f upside down.

    Raises UnknownName for a loss that is not in LOSSES, BadValue for a number that cannot be.
    """

    loss: str = "confusion"
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    steps: int = 20  # gradient steps a round
    minibatch: int = 256  # sequences of each agent
    penalty: float = 10.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UnknownName("discriminator loss", self.loss, LOSSES)
        for name, low in (("learning_rate", 0), ("steps", 1), ("minibatch", 1), ("penalty", 0)):
            if not low <= (value := getattr(self, name)) < np.inf:
                raise BadValue(f"discriminator.{name}={value}: needs a number from {low} on")

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init(self, numbers: int, key: Array) -> SequenceDiscriminatorState:
        """A discriminator of sequences of so many numbers Z."""
        network = init_mlp(key, (numbers, *self.hidden, 1), 0.1)
        return SequenceDiscriminatorState(network, self._adam.init(network), Moments.empty(numbers))

    def learn(self, s: SequenceDiscriminatorState, simulator: Array, robot: Array, key: Array):
        """Gradient steps on Eq. 2 with sequences of both agents, (B, Z) each; the new state and
        metrics.

        `discriminator_accuracy` is measured before the steps, on sequences that it has not learned
        from: 0.5 where the agents cannot be told apart.
        """
        moments = s.sequences.merge(simulator).merge(robot)
        out = self._learn(s.network, s.optimizer, Normalizer.of(moments), simulator, robot, key)
        network, optimizer, metrics = out
        return SequenceDiscriminatorState(network, optimizer, moments), {
            k: float(v) for k, v in metrics.items()
        }

    @partial(jax.jit, static_argnums=0)
    def _learn(
        self, network, optimizer, normalize, simulator, robot, key
    ) -> tuple[MLP, Any, dict[str, Array]]:
        simulator, robot = normalize(simulator), normalize(robot)
        score = lambda network, x: mlp(network, x)[..., 0]
        right = (score(network, simulator) > 0).mean(), (score(network, robot) <= 0).mean()

        def loss(network: MLP, a: Array, b: Array, key: Array) -> Array:
            value = LOSSES[self.loss][0](score(network, a), score(network, b))
            if self.loss != "wasserstein":
                return value
            between = a + jax.random.uniform(key, (len(a), 1)) * (b - a)
            slope = jnp.sqrt(
                jnp.square(jax.vmap(jax.grad(score, 1), (None, 0))(network, between)).sum(-1) + 1e-8
            )
            return value + self.penalty * jnp.square(jnp.maximum(slope - 1, 0)).mean()

        def step(carry, key):
            network, optimizer = carry
            k_a, k_b, k_between = jax.random.split(key, 3)
            a, b = (
                x[jax.random.randint(k, (self.minibatch,), 0, len(x))]
                for x, k in ((simulator, k_a), (robot, k_b))
            )
            value, gradient = jax.value_and_grad(loss)(network, a, b, k_between)
            updates, optimizer = self._adam.update(gradient, optimizer)
            return (optax.apply_updates(network, updates), optimizer), value

        (network, optimizer), values = jax.lax.scan(
            step, (network, optimizer), jax.random.split(key, self.steps)
        )
        return (
            network,
            optimizer,
            {"discriminator_accuracy": sum(right) / 2, "discriminator_loss": values[-1]},
        )

    def rewards(
        self, s: SequenceDiscriminatorState, sequences: Array
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rho_S, rho_R) of sequences (..., Z), float32."""
        first, second = self._rewards(s.network, Normalizer.of(s.sequences), sequences)
        return np.asarray(first), np.asarray(second)

    @partial(jax.jit, static_argnums=0)
    def _rewards(self, network, normalize, sequences):
        return LOSSES[self.loss][1](mlp(network, normalize(sequences))[..., 0])


class StateHistory(NamedTuple):
    """What `Remembering` keeps of an episode."""

    memory: Any
    states: Array  # [nk + 1, O], the newest last
    start: Array  # [O]
    time: Array  # int32


class WithHistory(NamedTuple):
    """A behaviour that also hands back where its episode came from.

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
        return WithHistory(
            behaviour, np.zeros((n * k + 1, observation), np.float32), k * np.arange(n + 1)
        )

    def memory(self) -> StateHistory:
        return StateHistory(
            self.behaviour.memory(), self.empty, self.empty[0], np.zeros((), np.int32)
        )

    def act(
        self, memory: StateHistory, observation: Array, key: Array
    ) -> tuple[Decision, StateHistory]:
        decision, inner = self.behaviour.act(memory.memory, observation, key)
        first = memory.time == 0
        moved = jnp.concatenate([memory.states[1:], observation[None]])
        states = jnp.where(first, jnp.broadcast_to(observation, moved.shape), moved)
        start = jnp.where(first, observation, memory.start)
        told = {"zeta": states[self.picks], "start": start, "time": memory.time}
        return decision._replace(extra={**decision.extra, **told}), StateHistory(
            inner, states, start, memory.time + 1
        )
