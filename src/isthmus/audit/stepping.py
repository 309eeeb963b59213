"""The worlds of an audit: stepped in one engine, sensed through effects, under given actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isthmus.audit.effect import HORIZON_STEPS
from isthmus.audit.plan import AuditPlan, DomainVariant
from isthmus.domains.batched import fit_policy
from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain, RobotDomain
from isthmus.domains.effect_chain import Effect, EffectChain
from isthmus.domains.effects import WeakMotors
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import act_in_worlds, repeated
from isthmus.domains.simulation import SENSE
from isthmus.physics.random import Streams, fold

WEAKEST_ACTIONS = 0.2  # of what the motors allow: the first episode's; the last one's are 1


class VariantStep(NamedTuple):
    """One step of n worlds: what they observe before any effect, and how it ended."""

    obs: np.ndarray  # [n, O]
    reward: np.ndarray  # [n]
    fell: np.ndarray  # bool [n]
    diverged: np.ndarray  # bool [n]


class StepEngine:
    """Worlds [C E] of the plain task in one engine: so many episodes of each of C variants.

    They have the variants' parameters and `weak_motors`, and none of their other effects.
    """

    def __init__(self, plan: AuditPlan, variants: Sequence[DomainVariant], episodes: int):
        self.engine, numerics = variants[0].computed_by
        names, values = plan.select_known(self.engine, variants)
        self.values = values.repeat(episodes, axis=0)
        weakness = np.array([_find_weakness(variant.effects) for variant in variants])
        weakness = weakness.repeat(episodes)
        effects = () if (weakness == 1).all() else (WeakMotors(1.0),)
        settings = tuple((name, 0.0) for name in names)
        domain = RobotDomain(plan.source.task, settings, effects, self.engine, numerics=numerics)
        n = len(self.values)
        self.simulation = PhysicsSimulation(domain, n)
        self.simulator = self.simulation.simulator
        self.everyone = np.arange(n)
        self.memory = np.zeros((n, 0))
        if self.simulation.motor_force is not None:
            self.simulation.motor_force[:] = weakness

    def begin(self, random: Streams) -> np.ndarray:
        """Begin an episode in each world; first observations (n, O)."""
        obs, self.memory = self.simulation.begin(self.everyone, self.values, random)
        return obs

    def neutral_action(self) -> np.ndarray:
        """Return what the robots were told before the first action, (n, A)."""
        return self.simulation.neutral_action(self.everyone)

    def teleport_to(self, other: StepEngine) -> None:
        """Put the worlds into the state of another's.

        Exact rows within an engine, positions and velocities between two.
        """
        if self.engine == other.engine:
            self.simulation.restore(other.simulation.rows, self.values)
        else:
            self.simulator.reset(self.everyone, other.simulator.qpos, other.simulator.qvel)
        self.memory = other.memory

    def step(self, *, commanded: np.ndarray, applied: np.ndarray) -> VariantStep:
        """Step all worlds under actions (n, A)."""
        obs, reward, fell, _, diverged, self.memory = self.simulation.step(
            self.everyone, self.memory, commanded=commanded, applied=applied
        )
        return VariantStep(obs, reward, fell, diverged)


class Episode:
    """What C chains of effects make of worlds [C E]: E episodes each, all stepped in one batch.

    `obs` [C E, O] is what a policy observes, through the effects.
    """

    def __init__(self, domain: Domain, variants: Sequence[DomainVariant], key: np.ndarray):
        self.key, self.obs = key, np.empty(0)
        self.chains: list[EffectChain] = []
        self.memories: list[np.ndarray] = []
        for variant in variants:
            chain = domain.effect_chain(variant.effects)
            self.chains.append(chain)
            self.memories.append(np.zeros((len(key), chain.memory_size)))

    def _split(self, array: np.ndarray) -> list[np.ndarray]:
        return np.split(array, len(self.chains))

    def begin(self, obs: np.ndarray, neutral: np.ndarray) -> None:
        """Begin with first observations [C E, O] and neutral actions [C E, A]."""
        parts = zip(self.chains, self.memories, self._split(obs), self._split(neutral), strict=True)
        self.obs = np.concatenate([c.begin(m, o, self._random(0), a) for c, m, o, a in parts])

    def apply(self, commanded: np.ndarray) -> np.ndarray:
        """Return the applied actions [C E, A] of commanded ones."""
        parts = zip(self.chains, self.memories, self._split(commanded), strict=True)
        return np.concatenate([c.act(m, commanded=a, applied=a) for c, m, a in parts])

    def sense(self, obs: np.ndarray, t: int) -> None:
        """Sense observations [C E, O] of the simulator after t steps."""
        parts = zip(self.chains, self.memories, self._split(obs), strict=True)
        self.obs = np.concatenate([c.sense(m, o, self._random(t)) for c, m, o in parts])

    def _random(self, t: int) -> Streams:
        return Streams(fold(self.key, SENSE, 1, t))


class ActionSequence:
    """Actions [C E, A], the same for every comparison: random ones, then a policy's, if any.

    The random actions of `episodes` episodes go from weak to as strong as the motors allow.
    """

    def __init__(
        self, domain: Domain, comparisons: int, episodes: int, seed: int, policy: PolicyLike | None
    ):
        low, high = domain.spaces.low, domain.spaces.high
        strength = np.linspace(WEAKEST_ACTIONS, 1.0, episodes)[:, None]
        shape = (HORIZON_STEPS, episodes, len(low))
        pushes = strength * np.random.default_rng(seed).uniform(-1, 1, shape)
        self.random = ((high + low) / 2 + (high - low) / 2 * pushes).astype(np.float32)
        self.comparisons, self.episodes = comparisons, episodes
        self.policy, self.memory = None, None
        if policy is not None:
            self.policy = fit_policy(policy, domain)
            self.memory = repeated(self.policy.memory(), comparisons * episodes)

    def at(self, t: int, obs: np.ndarray) -> np.ndarray:
        """Return the actions of step t, the policy's on what it observes [C E, O]."""
        pushes = np.broadcast_to(self.random[t], (self.comparisons, *self.random.shape[1:]))
        if self.policy is None:
            return np.concatenate(pushes)
        by_comparison = obs.reshape(self.comparisons, 2 * self.episodes, -1)
        observed = np.concatenate(by_comparison[:, self.episodes :]).astype(np.float32)
        actions, self.memory = act_in_worlds(self.policy, self.memory, observed)
        actions = actions.reshape(self.comparisons, self.episodes, -1)
        return np.concatenate(np.concatenate([pushes, actions], axis=1))


def count_episodes(episodes: int, policy: PolicyLike | None) -> int:
    """Return the episodes of a comparison: random ones, and as many of a policy if there is one."""
    if policy is None:
        return episodes
    return 2 * episodes


def _find_weakness(effects: tuple[Effect, ...]) -> float:
    """Return the `weak_motors` among effects; 1 where there is none."""
    for effect in effects:
        if isinstance(effect, WeakMotors):
            return effect.value
    return 1.0
