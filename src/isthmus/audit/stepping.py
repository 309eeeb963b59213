"""The worlds of an audit: stepped in one engine, sensed through effects, under given actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.audit.effect import HORIZON_STEPS
from isthmus.audit.plan import AuditPlan
from isthmus.domains.domain import SENSE, Domain, PhysicsSimulation
from isthmus.domains.effects import Effect, WeakMotors
from isthmus.domains.rollout import act, repeated
from isthmus.physics.random import Streams, fold

WEAKEST_ACTIONS = 0.2  # of what the motors allow: the first episode's; the last one's are 1


class StepOutcome(NamedTuple):
    """One step of n worlds: what they observe before any effect, and how it ended."""

    obs: np.ndarray  # [n, O]
    reward: np.ndarray  # [n]
    fell: np.ndarray  # bool [n]
    diverged: np.ndarray  # bool [n]


class StepEngine:
    """Worlds of the plain task in one engine, one a row of `values` (n, P): the plan's names.

    `weakness` (n,) are their `weak_motors`, 1 where there are none.
    """

    def __init__(self, plan: AuditPlan, engine: str, values: np.ndarray, weakness: np.ndarray):
        known, self.values = plan.select_known(engine, values)
        effects = () if (weakness == 1).all() else (WeakMotors(1.0),)
        settings = tuple((name, 0.0) for name in known)
        domain = Domain(plan.source.task, settings, effects, engine)
        self.engine = engine
        self.simulation = PhysicsSimulation(domain, len(values))
        self.simulator = self.simulation.simulator
        self.everyone = np.arange(len(values))
        self.memory = np.zeros((len(values), 0))
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

    def step(self, *, applied: np.ndarray, commanded: np.ndarray) -> StepOutcome:
        """Step all worlds under actions (n, A)."""
        obs, reward, fell, _, diverged, self.memory = self.simulation.step(
            self.everyone, applied, commanded, self.memory
        )
        return StepOutcome(obs, reward, fell, diverged)


class Episode:
    """What C chains of effects make of worlds [C E]: E episodes each, all stepped in one batch.

    `obs` [C E, O] is what a policy observes, through the effects.
    """

    def __init__(self, domain: Domain, effects: list[tuple[Effect, ...]], key: np.ndarray):
        self.key = key
        self.chains = [domain.effect_chain(chain_effects) for chain_effects in effects]
        self.memories = [np.zeros((len(key), chain.memory)) for chain in self.chains]
        self.obs = np.empty(0)

    def _split(self, array: np.ndarray) -> list[np.ndarray]:
        return np.split(array, len(self.chains))

    def begin(self, obs: np.ndarray, neutral: np.ndarray) -> None:
        """Begin with first observations [C E, O] and neutral actions [C E, A]."""
        parts = zip(self.chains, self.memories, self._split(obs), self._split(neutral), strict=True)
        self.obs = np.concatenate([c.begin(m, o, self._random(0), a) for c, m, o, a in parts])

    def apply(self, commanded: np.ndarray) -> np.ndarray:
        """Return the applied actions [C E, A] of commanded ones."""
        parts = zip(self.chains, self.memories, self._split(commanded), strict=True)
        return np.concatenate([c.act(m, a, a) for c, m, a in parts])

    def sense(self, obs: np.ndarray, t: int) -> None:
        """Sense observations [C E, O] of the simulator after t steps."""
        parts = zip(self.chains, self.memories, self._split(obs), strict=True)
        self.obs = np.concatenate([c.sense(m, o, self._random(t)) for c, m, o in parts])

    def _random(self, t: int) -> Streams:
        return Streams(fold(self.key, SENSE, 1, t))


class ActionSequence:
    """Actions [C E, A], the same for every comparison: random ones, then a policy's if there is one.

    The random actions of `episodes` episodes go from weak to as strong as the motors allow.
    """

    def __init__(self, domain: Domain, comparisons: int, episodes: int, seed: int, policy: Any):
        low, high = domain.spaces.low, domain.spaces.high
        strength = np.linspace(WEAKEST_ACTIONS, 1.0, episodes)[:, None]
        shape = (HORIZON_STEPS, episodes, len(low))
        pushes = strength * np.random.default_rng(seed).uniform(-1, 1, shape)
        self.random = ((high + low) / 2 + (high - low) / 2 * pushes).astype(np.float32)
        self.comparisons, self.episodes, self.policy = comparisons, episodes, policy
        self.memory = None
        if policy is not None:
            self.memory = repeated(policy.memory(), comparisons * episodes)

    def at(self, t: int, obs: np.ndarray) -> np.ndarray:
        """Return the actions of step t, the policy's on what it observes [C E, O]."""
        pushes = np.broadcast_to(self.random[t], (self.comparisons, *self.random.shape[1:]))
        if self.policy is None:
            return np.concatenate(pushes)
        by_comparison = obs.reshape(self.comparisons, 2 * self.episodes, -1)
        observed = np.concatenate(by_comparison[:, self.episodes :]).astype(np.float32)
        actions, self.memory = act()(self.policy, self.memory, observed)
        actions = np.asarray(actions).reshape(self.comparisons, self.episodes, -1)
        return np.concatenate(np.concatenate([pushes, actions], axis=1))
