"""PPO with a memory: policy and value function each have a cell of their own (LSTM, or GRU).

1.  act with the policy, whose memory goes back to its task's begin; observations normalized by
    moments frozen for the round
2.  V, V': values of all states and of their true next states, the critic's memory unrolled over
    the round
3.  advantages by GAE, bootstrapped where a time limit cut the episode, and going on to the task's
    next
4.  cut the round into sequences of k steps; each keeps the memories that it began with
5.  for each epoch, for each minibatch of whole sequences: PPO's losses of the unrolled sequences,
    blank where a task began, by backpropagation through their k steps; Adam for policy and value
    function each, at once
6.  merge the round's observations and returns into the moments
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.learning.advantage import (
    ValuedRound,
    any_reward,
    explained_variance,
    flat,
    scale_rewards,
)
from isthmus.learning.distributions import gaussian_log_prob
from isthmus.learning.learner import Health
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
from isthmus.learning.normalization import (
    Moments,
    Normalizer,
    reward_scale,
)
from isthmus.learning.policies import UniformBehaviour
from isthmus.learning.proximal import Optimizers, Proximal, Rollout, RoundObs
from isthmus.learning.settings import PositiveInt
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces, Transition, UnknownName


class Recurrent(NamedTuple):
    """A cell, and a network that reads its output."""

    cell: Cell
    head: MLP

    def read(self, memory: Array) -> Array:
        """Return the output (..., out) for memories (..., M)."""
        return mlp(self.head, cell_output(self.cell, memory))


class RecurrentNetworks(NamedTuple):
    """The policy's mean and deviations, and its value function; two cells."""

    actor: Recurrent
    log_std: Array
    critic: Recurrent


class RecurrentState(NamedTuple):
    """What is learned: networks, their optimizer, running moments, and the critic's memory."""

    networks: RecurrentNetworks
    optimizer: Optimizers
    obs_moments: Moments
    parameters: Moments  # of the dynamics, for a critic that sees them
    returns: Moments
    running: np.ndarray  # float64 [N], discounted rewards of the worlds' episodes so far
    paid: np.bool_  # whether any reward was not 0 since the state began or crossed elsewhere
    remembered: Array  # float32 [N, M], the critic's memory of the worlds' tasks so far
    low: np.ndarray
    high: np.ndarray


class Memory(NamedTuple):
    """A policy's memory of one world's task."""

    fresh: Array  # bool: before the first observation
    kept: Array  # (M,)

    @staticmethod
    def of(cell: Cell) -> Memory:
        """Return a cell's memory before the first observation."""
        return Memory(np.ones((), bool), cell.initial_carry)


class RecurrentPolicy(NamedTuple):
    """What is deployed: the mean action, clipped to the robot's bounds. Carries its normalizer."""

    normalizer: Normalizer
    actor: Recurrent
    begin: Array  # (M,) the first memory: blank, or what an adaptation left
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> Memory:
        """Return the memory before the first observation."""
        return Memory.of(self.actor.cell)

    def act(self, memory: Memory, observation: Array) -> tuple[Array, Memory]:
        """Return an action (A,) for an observation (O,), and the memory after it."""
        mean, memory = self.mean(memory, observation)
        return jnp.clip(mean, self.low, self.high), memory

    def mean(self, memory: Memory, observation: Array) -> tuple[Array, Memory]:
        """Return the mean action before it is clipped, and the memory after it."""
        kept = cell_step(self.actor.cell, self.before(memory), self.normalizer(observation))
        return self.actor.read(kept), Memory(jnp.zeros((), bool), kept)

    def before(self, memory: Memory) -> Array:
        """Return the cell's memory, (M,), before the next observation."""
        return jnp.where(memory.fresh, self.begin, memory.kept)


class RecurrentBehaviour(NamedTuple):
    """What collects: a sample of the policy's Gaussian.

    With the transition come back its unclipped value as `sample`, whether the memory was `fresh`,
    and the memory before the observation as `remembered` (M,).
    """

    policy: RecurrentPolicy
    log_std: Array  # (A,)

    def memory(self) -> Memory:
        """Return the memory before the first observation."""
        return self.policy.memory()

    def act(self, memory: Memory, observation: Array, key: Array) -> tuple[Decision, Memory]:
        """Return a decision for an observation (O,), and the memory after it."""
        mean, after = self.policy.mean(memory, observation)
        sample = mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape)
        extra = {"sample": sample, "fresh": memory.fresh, "remembered": self.policy.before(memory)}
        return Decision(jnp.clip(sample, self.policy.low, self.policy.high), extra=extra), after


class WithoutMemory(NamedTuple):
    """A behaviour without a memory in the place of one that has: its memory stays blank."""

    behaviour: Any
    blank: Memory

    def memory(self) -> Memory:
        """Return the blank memory."""
        return self.blank

    def act(self, memory: Memory, observation: Array, key: Array) -> tuple[Decision, Memory]:
        """Return a decision for an observation (O,), and the memory as it was."""
        return self.behaviour.act((), observation, key)[0], memory


class Sequences(NamedTuple):
    """A round cut into sequences of k steps, (C, k, ...), and the memories before each, (C, M)."""

    steps: Rollout
    fresh: Array  # bool
    actor: Array
    critic: Array


class _RoundArrays(NamedTuple):
    """What a round's update takes of its transitions, [T, N, ...]."""

    obs: Array
    next_obs: Array
    parameters: Array
    sample: Array
    fresh: Array
    actor_memory: Array  # before each observation
    reward: Array
    terminated: Array
    done: Array


class _RoundInput(NamedTuple):
    """All that a round learns from, but its key."""

    networks: RecurrentNetworks
    optimizer: Optimizers
    critic_memory: Array  # [N, M]
    normalize: Normalizer
    normalize_parameters: Normalizer
    scale: Array  # of rewards
    any_reward: Array
    arrays: _RoundArrays


class _Prepared(NamedTuple):
    """What a round's update learns from, the critic's memory after it [N, M], metrics."""

    rows: Sequences
    critic_memory: Array
    metrics: Health


def through_tasks(valued: ValuedRound, fresh: Array) -> ValuedRound:
    """Return the round with next values and ends such that returns go on through a task.

    A time limit does not end a task: the memory goes on, and the return with it, to the next
    episode's first state (RL^2, Duan et al. 2016, Sec. 2.2). A fall ends the return (ours): a robot
    that fell and begins anew would otherwise have lost next to nothing. A round's last row, whose
    next state is not in the round, ends where its episode does.
    """
    goes_on = valued.done[:-1] & ~valued.terminated[:-1] & ~fresh[1:]

    def replace_rows(old: Array, new: Array | bool) -> Array:
        return jnp.concatenate([jnp.where(goes_on, new, old[:-1]), old[-1:]])

    return valued._replace(
        next_value=replace_rows(valued.next_value, valued.value[1:]),
        done=replace_rows(valued.done, False),
    )


@dataclass(frozen=True)
class RecurrentPPO(Proximal[RecurrentState]):
    """PPO with a memory. Worlds, steps and epochs are those of sb3-contrib's RecurrentPPO.

    Its minibatches are larger, its cells smaller. `hidden` is behind the cell; `minibatch` counts
    transitions, of which `sequence` follow one another. Raises BadValue or UnknownName for a
    setting that cannot learn.
    """

    worlds: PositiveInt = 16
    steps: PositiveInt = 128
    minibatch: PositiveInt = 512
    cell: str = "lstm"  # or "gru"
    units: PositiveInt = 64
    sequence: PositiveInt = 32  # steps that the gradient goes back

    def __post_init__(self) -> None:
        super().__post_init__()
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
        """Return the state before any transition; the last layer of the actor is small."""
        k_actor, k_critic = jax.random.split(key)
        extra = spaces.parameters if self.privileged else 0
        networks = RecurrentNetworks(
            self._init_network(k_actor, spaces.observation, spaces.action, 0.01),
            jnp.full(spaces.action, self.initial_log_std, jnp.float32),
            self._init_network(k_critic, spaces.observation + extra, 1, 1.0),
        )
        return RecurrentState(
            networks,
            self.init_optimizers(networks),
            Moments.empty(spaces.observation),
            Moments.empty(extra),
            Moments.empty(()),
            np.zeros(self.worlds),
            np.bool_(False),
            self._blank_memory(networks),
            np.asarray(spaces.low, np.float32),
            np.asarray(spaces.high, np.float32),
        )

    def _init_network(self, key: Array, inputs: int, outputs: int, scale: float) -> Recurrent:
        k_cell, k_head = jax.random.split(key)
        cell = CELLS[self.cell].init(k_cell, inputs, self.units)
        return Recurrent(cell, init_mlp(k_head, (self.units, *self.hidden, outputs), scale))

    def _blank_memory(self, networks: RecurrentNetworks) -> np.ndarray:
        return np.tile(networks.critic.cell.initial_carry, (self.worlds, 1))

    def warm_start(self, s: RecurrentState) -> RecurrentState:
        """Return the state for other worlds: weights and moments stay, not the optimizer's."""
        return s._replace(
            optimizer=self.init_optimizers(s.networks),
            running=np.zeros(self.worlds),
            paid=np.bool_(False),
            remembered=self._blank_memory(s.networks),
        )

    def random(self, s: RecurrentState) -> WithoutMemory:
        """Return the behaviour that collects before the first round."""
        return WithoutMemory(UniformBehaviour(s.low, s.high), Memory.of(s.networks.actor.cell))

    def policy(self, s: RecurrentState) -> RecurrentPolicy:
        """Return the policy that is deployed."""
        actor = s.networks.actor
        return RecurrentPolicy(
            Normalizer.of(s.obs_moments), actor, actor.cell.initial_carry, s.low, s.high
        )

    def behaviour(self, s: RecurrentState) -> RecurrentBehaviour:
        """Return the behaviour that collects."""
        return RecurrentBehaviour(self.policy(s), s.networks.log_std)

    def learn(
        self, s: RecurrentState, tr: Transition, key: Array
    ) -> tuple[RecurrentState, Metrics]:
        """Learn one round: transitions [T, N, ...] to a new state, and metrics."""
        inputs = self._gather(s, tr)
        # 2. to 4.
        rows, remembered, metrics = self._prepare(inputs)
        # 5.
        after = self.improve(inputs, rows, self.minibatch // self.sequence, key)
        learned = s._replace(
            networks=after.networks, optimizer=after.optimizer, remembered=remembered
        )
        metrics |= after.health
        return self.observe(learned, tr), {k: float(v) for k, v in metrics.items()}

    def _gather(self, s: RecurrentState, tr: Transition) -> _RoundInput:
        self.check_rollout_shape(*reversed(tr.reward.shape))
        arrays = _RoundArrays(
            tr.obs,
            tr.next_obs,
            tr.parameters,
            tr.extra["sample"],
            tr.extra["fresh"],
            tr.extra["remembered"],
            tr.reward,
            tr.terminated,
            tr.terminated | tr.truncated,
        )
        return _RoundInput(
            s.networks,
            s.optimizer,
            s.remembered,
            Normalizer.of(s.obs_moments),
            Normalizer.of(s.parameters),
            reward_scale(s.returns),
            any_reward(s.paid, tr.reward),
            arrays,
        )

    @partial(jax.jit, static_argnums=0)
    def _prepare(self, inputs: _RoundInput) -> _Prepared:
        """Return box lines 2 to 4, and metrics."""
        obs = self.normalize_obs(inputs)
        # 2.
        memories, valued = self._estimate_values(inputs, obs)
        # 3.
        steps = self._make_steps(inputs, obs, valued)
        # 4.
        rows = self._cut_round(inputs, steps, memories)
        return _Prepared(
            rows,
            memories[-1],
            {
                "explained_variance": explained_variance(flat(valued.value), flat(steps.target)),
                "value": valued.value.mean(),
                "reward_scale": inputs.scale,
            },
        )

    def _estimate_values(self, inputs: _RoundInput, obs: RoundObs) -> tuple[Array, ValuedRound]:
        """Return box line 2: the critic's memory after each step, [T, N, M], and its values."""
        arrays, critic = inputs.arrays, inputs.networks.critic
        reward = scale_rewards(arrays.reward, inputs.scale)
        memories = unroll(critic.cell, inputs.critic_memory, obs.critic, arrays.fresh)
        value = critic.read(memories)[..., 0]
        next_value = critic.read(cell_step(critic.cell, memories, obs.next_critic))[..., 0]
        return memories, ValuedRound(reward, value, next_value, arrays.terminated, arrays.done)

    def _make_steps(self, inputs: _RoundInput, obs: RoundObs, valued: ValuedRound) -> Rollout:
        """Return box line 3 with all else that is learned of each step, [T, N, ...]."""
        arrays, actor = inputs.arrays, inputs.networks.actor
        advantage = through_tasks(valued, arrays.fresh).advantages(self.discount, self.gae_decay)
        target = advantage + valued.value
        advantage = jnp.where(inputs.any_reward, advantage, 0.0)
        mean = actor.read(cell_step(actor.cell, arrays.actor_memory, obs.actor))
        of_steps = jax.vmap(jax.vmap(gaussian_log_prob, (0, 0, None)), (0, 0, None))
        log_prob = of_steps(arrays.sample, mean, inputs.networks.log_std)
        return Rollout(obs.actor, obs.critic, arrays.sample, log_prob, advantage, target)

    def _cut_round(self, inputs: _RoundInput, steps: Rollout, memories: Array) -> Sequences:
        """Return box line 4, of steps [T, N, ...] and the critic's memories after each."""
        critic_memory = jnp.concatenate([inputs.critic_memory[None], memories[:-1]])
        return Sequences(
            jax.tree.map(self._cut, steps),
            self._cut(inputs.arrays.fresh),
            flat(inputs.arrays.actor_memory[:: self.sequence]),
            flat(critic_memory[:: self.sequence]),
        )

    def _cut(self, x: Array) -> Array:
        """Return [T, N, ...] as sequences (C, k, ...)."""
        x = x.reshape(-1, self.sequence, *x.shape[1:])
        return flat(jnp.swapaxes(x, 1, 2))

    def read_means(self, actor: Recurrent, batch: Sequences) -> Array:
        """Return the policy's means (B, A) over a minibatch of sequences, time first."""
        return _read(actor, batch.actor, batch.steps.obs, batch.fresh)

    def rows_of_critic(self, rows: Sequences) -> Sequences:
        """Return rows without what only the policy learns from."""
        steps = rows.steps._replace(obs=None, sample=None, log_prob=None, advantage=None)
        return rows._replace(steps=steps, actor=None)

    def read_values(self, critic: Recurrent, batch: Sequences) -> Array:
        """Return the critic's values (B,) over a minibatch of sequences, time first."""
        return _read(critic, batch.critic, batch.steps.critic_obs, batch.fresh)[:, 0]

    def read_rows(self, batch: Sequences) -> Rollout:
        """Return a minibatch of sequences as rows (B, ...), time first."""
        return jax.tree.map(lambda x: flat(jnp.swapaxes(x, 0, 1)), batch.steps)


def _read(network: Recurrent, memory: Array, x: Array, fresh: Array) -> Array:
    """Return outputs (B, ...) for sequences (C, k, ...), time first, from memories (C, M) on."""
    x, fresh = jnp.swapaxes(x, 0, 1), jnp.swapaxes(fresh, 0, 1)
    return flat(network.read(unroll(network.cell, memory, x, fresh)))
