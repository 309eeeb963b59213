"""PPO with a memory: policy and value function each have a cell of their own (LSTM, or GRU).

1.  act with the policy, which remembers since its task began; observations normalized by moments frozen for the round
2.  V, V': values of all states and of their true next states, the critic's memory unrolled over the round
3.  advantages by GAE, bootstrapped where a time limit cut the episode, and going on to the task's next
4.  cut the round into sequences of k steps; each keeps the memories that it began with
5.  for each epoch, for each minibatch of whole sequences: PPO's loss of the unrolled sequences, blank where a task
    began, by backpropagation through their k steps; Adam
6.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.learning.advantage import explained_variance, flat, gae, paid_yet
from isthmus.learning.distributions import gaussian_entropy, gaussian_log_prob
from isthmus.learning.learner import WHOLE, check_settings
from isthmus.learning.networks import (
    CELLS,
    MLP,
    Cell,
    cell_output,
    cell_step,
    init_mlp,
    mlp,
    unroll,
)
from isthmus.learning.normalization import Moments, Normalizer, normalize_with_missing
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.ppo import Proximal, Rollout
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces, Transition, UnknownName


class Recurrent(NamedTuple):
    """A cell, and a network that reads what it says."""

    cell: Cell
    head: MLP

    def read(self, memory: Array) -> Array:
        """The output (..., out) for memories (..., M)."""
        return mlp(self.head, cell_output(self.cell, memory))


class RecurrentNetworks(NamedTuple):
    actor: Recurrent
    log_std: Array
    critic: Recurrent


class RecurrentState(NamedTuple):
    networks: RecurrentNetworks
    optimizer: Any
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    paid: (
        np.bool_
    )  # whether anything but 0 was paid since the state began or crossed to other worlds
    remembered: Array  # float32 [N, M], the critic's memory of the worlds' tasks so far
    low: np.ndarray
    high: np.ndarray


class Memory(NamedTuple):
    """Of one world's task."""

    fresh: Array  # bool: nothing has been seen yet
    kept: Array  # (M,)

    @staticmethod
    def of(cell: Cell) -> Memory:
        return Memory(np.ones((), bool), cell.initial_carry)


class RecurrentPolicy(NamedTuple):
    """What is deployed: the mean action, clipped to the robot's bounds. Carries its normalizer."""

    normalizer: Normalizer
    actor: Recurrent
    begin: Array  # (M,) what it remembers when it begins: blank, or what an adaptation left
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> Memory:
        return Memory.of(self.actor.cell)

    def act(self, memory: Memory, observation: Array) -> tuple[Array, Memory]:
        mean, memory = self.mean(memory, observation)
        return jnp.clip(mean, self.low, self.high), memory

    def mean(self, memory: Memory, observation: Array) -> tuple[Array, Memory]:
        """The mean action before it is clipped."""
        kept = cell_step(self.actor.cell, self.before(memory), self.normalizer(observation))
        return self.actor.read(kept), Memory(jnp.zeros((), bool), kept)

    def before(self, memory: Memory) -> Array:
        """What is remembered, (M,), before the next observation."""
        return jnp.where(memory.fresh, self.begin, memory.kept)


class RecurrentBehaviour(NamedTuple):
    """What collects: a sample. With the transition come back its unclipped value as `sample`,
    whether the memory was `fresh`, and what was `remembered` (M,) before the observation.
    """

    policy: RecurrentPolicy
    log_std: Array  # (A,)

    def memory(self) -> Memory:
        return self.policy.memory()

    def act(self, memory: Memory, observation: Array, key: Array) -> tuple[Decision, Memory]:
        mean, after = self.policy.mean(memory, observation)
        sample = mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape)
        extra = {"sample": sample, "fresh": memory.fresh, "remembered": self.policy.before(memory)}
        return Decision(jnp.clip(sample, self.policy.low, self.policy.high), extra=extra), after


class WithoutMemory(NamedTuple):
    """A behaviour without a memory in place of one with: nothing of it is remembered."""

    behaviour: Any
    blank: Memory

    def memory(self) -> Memory:
        return self.blank

    def act(self, memory: Memory, observation: Array, key: Array) -> tuple[Decision, Memory]:
        return self.behaviour.act((), observation, key)[0], memory


class Sequences(NamedTuple):
    """A round cut into sequences of k steps: (C, k, ...), and what was remembered before the first,
    (C, M).
    """

    steps: Rollout
    fresh: Array  # bool
    actor: Array
    critic: Array


def through_tasks(
    value: Array, next_value: Array, terminated: Array, done: Array, fresh: Array
) -> tuple[Array, Array]:
    """The value of what follows each step [T, N], and where returns end. A time limit does not end
    a task: what is remembered goes on, and the return with it, to the next episode's first state
    (RL^2, Duan et al. 2016, Sec. 2.2).

    A fall ends the return (ours): a robot that fell and begins anew would otherwise have lost next
    to nothing. A round's last row, whose next state is not in the round, ends where its episode
    does.
    """
    goes_on = done[:-1] & ~terminated[:-1] & ~fresh[1:]
    keep = lambda old, new: jnp.concatenate([jnp.where(goes_on, new, old[:-1]), old[-1:]])
    return keep(next_value, value[1:]), keep(done, False)


@dataclass(frozen=True)
class RecurrentPPO(Proximal):
    """A learner. Worlds, steps and epochs are those of sb3-contrib's RecurrentPPO; its minibatches
    are larger, its cells smaller.

    `hidden` is behind the cell; `minibatch` counts transitions, and so many of them as `sequence`
    says are one behind the other. Raises BadValue or UnknownName for a setting that cannot learn.
    """

    worlds: int = 16
    steps: int = 128
    minibatch: int = 512
    cell: str = "lstm"  # or "gru"
    units: int = 64
    sequence: int = 32  # steps that the gradient goes back

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, (("units", "sequence"), WHOLE))
        if self.cell not in CELLS:
            raise UnknownName("cell", self.cell, CELLS)

    def check_rollout_shape(self, worlds: int, steps: int) -> None:
        """Raise BadValue for a minibatch beyond a round, or sequences that do not fill both."""
        if steps % self.sequence or self.minibatch % self.sequence:
            raise BadValue(
                f"sequence={self.sequence} must divide a round's {steps} steps and "
                f"minibatch={self.minibatch}; "
                "change learner.sequence"
            )
        super().check_rollout_shape(worlds, steps)

    def init(self, spaces: Spaces, key: Array) -> RecurrentState:
        extra = spaces.parameters if self.privileged else 0

        def network(key: Array, inputs: int, outputs: int, scale: float) -> Recurrent:
            k_cell, k_head = jax.random.split(key)
            cell = CELLS[self.cell].init(k_cell, inputs, self.units)
            return Recurrent(cell, init_mlp(k_head, (self.units, *self.hidden, outputs), scale))

        k_actor, k_critic = jax.random.split(key)
        networks = RecurrentNetworks(
            network(k_actor, spaces.observation, spaces.action, 0.01),
            jnp.full(spaces.action, self.initial_log_std, jnp.float32),
            network(k_critic, spaces.observation + extra, 1, 1.0),
        )
        return RecurrentState(
            networks,
            self._optimizer.init(networks),
            Moments.empty(spaces.observation),
            Moments.empty(extra),
            Moments.empty(()),
            np.zeros(self.worlds),
            np.bool_(False),
            self._nothing(networks),
            np.asarray(spaces.low, np.float32),
            np.asarray(spaces.high, np.float32),
        )

    def _nothing(self, networks: RecurrentNetworks) -> np.ndarray:
        return np.tile(networks.critic.cell.initial_carry, (self.worlds, 1))

    def warm_start(self, s: RecurrentState) -> RecurrentState:
        """The state to go on with in other worlds: weights and moments stay, the optimizer begins
        anew.
        """
        return s._replace(
            optimizer=self._optimizer.init(s.networks),
            running=np.zeros(self.worlds),
            paid=np.bool_(False),
            remembered=self._nothing(s.networks),
        )

    def random(self, s: RecurrentState) -> WithoutMemory:
        """What collects before the first round."""
        return WithoutMemory(UniformBehaviour(s.low, s.high), Memory.of(s.networks.actor.cell))

    def policy(self, s: RecurrentState) -> RecurrentPolicy:
        actor = s.networks.actor
        return RecurrentPolicy(
            Normalizer.of(s.obs_moments), actor, actor.cell.initial_carry, s.low, s.high
        )

    def behaviour(self, s: RecurrentState) -> RecurrentBehaviour:
        return RecurrentBehaviour(self.policy(s), s.networks.log_std)

    def learn(
        self, s: RecurrentState, tr: Transition, key: Array
    ) -> tuple[RecurrentState, Metrics]:
        """One round: transitions [T, N, ...] to a new state."""
        self.check_rollout_shape(*reversed(tr.reward.shape))
        arrays = (tr.obs, tr.next_obs, tr.parameters, tr.extra["sample"], tr.extra["fresh"], tr.extra["remembered"],
                  tr.reward, tr.terminated, tr.terminated | tr.truncated)  # fmt: skip
        scale = np.float32(1 / np.sqrt(s.returns.variance + 1e-8))
        norms = (Normalizer.of(s.obs_moments), Normalizer.of(s.parameters))
        paid = paid_yet(s.paid, tr.reward)
        networks, optimizer, remembered, metrics = self._round(
            s.networks, s.optimizer, s.remembered, norms, scale, paid, arrays, key
        )
        s = self.observe(
            s._replace(networks=networks, optimizer=optimizer, remembered=remembered), tr
        )
        return s, {k: float(v) for k, v in metrics.items()}

    @partial(jax.jit, static_argnums=0)
    def _round(
        self, networks: RecurrentNetworks, optimizer, remembered, norms, scale, paid, arrays, key
    ):
        obs, next_obs, parameters, sample, fresh, actor_before, reward, terminated, done = arrays
        reward = jnp.clip(reward * scale, -10.0, 10.0)
        normalize, normalize_parameters = norms
        obs, next_obs = normalize(obs), normalize(next_obs)
        see, see_next = obs, next_obs
        if self.privileged:
            dynamics = normalize_with_missing(normalize_parameters, parameters)
            see, see_next = (jnp.concatenate([x, dynamics], -1) for x in (see, see_next))
        # 2.
        critic = networks.critic
        memories = unroll(critic.cell, remembered, see, fresh)
        critic_before = jnp.concatenate([remembered[None], memories[:-1]])
        value = critic.read(memories)[..., 0]
        next_value = critic.read(cell_step(critic.cell, memories, see_next))[..., 0]
        # 3.
        next_value, done = through_tasks(value, next_value, terminated, done, fresh)
        advantage = jax.vmap(gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)(
            reward, value, next_value, terminated, done, self.discount, self.gae_decay
        )
        target = advantage + value
        advantage = jnp.where(paid, advantage, 0.0)
        mean = networks.actor.read(cell_step(networks.actor.cell, actor_before, obs))
        log_prob = jax.vmap(jax.vmap(gaussian_log_prob, (0, 0, None)), (0, 0, None))(
            sample, mean, networks.log_std
        )

        # 4.
        def cut(x: Array) -> Array:
            x = x.reshape(-1, self.sequence, *x.shape[1:])
            return flat(jnp.swapaxes(x, 1, 2))

        first = lambda x: flat(x[:: self.sequence])
        rows = Sequences(
            jax.tree.map(cut, Rollout(obs, see, sample, log_prob, advantage, target)),
            cut(fresh),
            first(actor_before),
            first(critic_before),
        )
        # 5.
        count = self.minibatch // self.sequence
        networks, optimizer, metrics = self.improve(networks, optimizer, rows, count, key)
        metrics |= {
            "explained_variance": explained_variance(flat(value), flat(target)),
            "entropy": gaussian_entropy(networks.log_std),
            "value": value.mean(),
            "reward_scale": scale,
        }
        return networks, optimizer, memories[-1], metrics

    def loss(self, networks: RecurrentNetworks, batch: Sequences) -> tuple[Array, dict[str, Array]]:
        """Box line 5, over a minibatch of sequences."""
        steps, fresh = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (batch.steps, batch.fresh))
        read = lambda network, memory, x: flat(network.read(unroll(network.cell, memory, x, fresh)))
        mean = read(networks.actor, batch.actor, steps.obs)
        value = read(networks.critic, batch.critic, steps.critic_obs)[:, 0]
        return self.objective(jax.tree.map(flat, steps), mean, networks.log_std, value)
