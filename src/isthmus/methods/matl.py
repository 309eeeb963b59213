"""Mutual alignment transfer learning, Algorithm 1.

Wulfmeier, Posner and Abbeel 2017 (arXiv 1707.07907).

    input: source and target, alignment weight lambda, N outer and M inner iterations
1.  theta (simulator), phi (robot), omega (discriminator) <- initialize
    for i = 1..N:
2.      roll out pi_theta in the source and pi_phi in the target
3.      omega <- gradient steps on Eq. 2, over state sequences
        zeta_t = (s_{t-nk}, ..., s_{t-k}, s_t)
4.      theta, phi <- TRPO with r_S + lambda rho_S and r_R + lambda rho_R (Eqs. 3 to 7)
        for j = 1..M:
5.          roll out pi_theta in the source; theta <- TRPO with r_S alone
    deploy pi_phi

matl     as it stands               matlu    the robot alone is aligned: rho_S = 0 in line 4
matlf    theta and phi both start from a policy trained in the source (--start, or a first phase of
         source_only)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, repeated, rollout_steps
from isthmus.learning.advantage import flat
from isthmus.learning.sequence_discriminator import SequenceDiscriminator, WithHistory
from isthmus.learning.settings import NonNegativeFloat, NonNegativeInt, PositiveInt, Settings
from isthmus.learning.trpo import TRPO, TRPOState, Value
from isthmus.methods.method import (
    MethodDefaults,
    SourceAndTarget,
    State,
    check_dynamics,
    fold_key,
    hold_moments,
    initial_state,
    source_round,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Metrics, Transition, UnknownName, Worlds


def floor_offset(rho: np.ndarray) -> np.float32:
    """Return rho's lowest twentieth: hardly a state is worth less than the end."""
    return np.quantile(rho, 0.05).astype(np.float32)


def mean_offset(rho: np.ndarray) -> np.float32:
    """Return rho's mean: a step more is worth nothing on average."""
    return np.mean(rho)


def no_offset(rho: np.ndarray) -> np.float32:
    """Return 0: the paper's letter."""
    return np.float32(0)


OFFSETS = {"floor": floor_offset, "mean": mean_offset, "none": no_offset}


class Agents(NamedTuple):
    """What is learned."""

    simulator: TRPOState  # theta
    # The simulator's value function of r_S + lambda rho_S: M of its M + 1 updates have the reward
    # r_S alone.
    aligned: Value
    robot: TRPOState  # phi
    discriminator: Any  # omega


@dataclass(frozen=True)
class MATL(Settings, MethodDefaults):
    """Algorithm 1.

    Raises BadValue for a number that cannot be and for a learner other than TRPO, UnknownName for
    an offset that is not in OFFSETS.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.ONLINE})
    mutual: ClassVar[bool] = True
    learner: TRPO = field(default_factory=TRPO)
    discriminator: SequenceDiscriminator = field(default_factory=SequenceDiscriminator)
    alignment: NonNegativeFloat = 0.1  # lambda
    inner: NonNegativeInt = 10  # M
    extent: NonNegativeInt = 1  # n: zeta has n + 1 states
    stride: PositiveInt = 4  # k
    offset: str = "floor"  # what is taken off rho, of OFFSETS: the trap in docs/lab/matl.md

    def __post_init__(self) -> None:
        if not isinstance(self.learner, TRPO):
            raise BadValue("MATL learns by TRPO; leave learner=trpo")
        super().__post_init__()
        if self.offset not in OFFSETS:
            raise UnknownName("offset", self.offset, OFFSETS)

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.target

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner.robot)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1.

        Raises BadValue where a task lasts several episodes: the history in zeta ends with a task.
        """
        if max(problem.source.episodes_per_task, problem.target.episodes_per_task) > 1:
            raise BadValue(
                "MATL's state sequences end with an episode; leave episodes_per_task at 1"
            )
        check_dynamics(self.learner, problem.source, problem.target)
        n, steps = self.learner.rollout_shape
        self.learner.check_rollout_shape(n, steps)
        s = initial_state(seed, None, problem.source.worlds(n, seed), TargetUsage())
        usage, target = problem.target_worlds(TargetUsage(), n, seed, batch=steps)
        if start is not None:
            learned = start.robot if isinstance(start, Agents) else start
            s = s._replace(usage=usage, phase=np.int64(1))
            return self._pair(problem, s, self.learner.warm_start(learned), target)
        return self._feed_by_random_steps(problem, s._replace(usage=usage), target)

    def _feed_by_random_steps(self, problem: Problem, s: State, target: Worlds) -> State:
        """Return new agents, each fed by one round of random steps."""
        n, steps = self.learner.rollout_shape
        simulator = self.learner.init(problem.source.spaces, fold_key(s.key, 0))
        robot = self.learner.init(problem.target.spaces, fold_key(s.key, 0))
        behaviour = self._with_history(self.learner.random(simulator), problem)
        source, tr = rollout_steps(problem.source, s.worlds, behaviour, steps)
        simulator = self.learner.observe(simulator, tr)
        behaviour = self._with_history(self.learner.random(robot), problem)
        usage, target, tr = problem.collect(s.usage, target, behaviour, steps)
        robot = self.learner.observe(robot, tr)
        omega = self._init_discriminator(problem, s)
        return s._replace(
            learner=Agents(simulator, simulator.value, robot, omega),
            worlds=SourceAndTarget(source, target),
            source_steps=np.int64(n * steps),
            usage=usage,
        )

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 5, an outer iteration."""
        theta, phi = s.learner.simulator, s.learner.robot
        # 2.
        source, tr_s = self._roll_out_source(problem, s.worlds.source, theta)
        usage, target, tr_r = problem.collect(
            s.usage, s.worlds.target, self._behaviour(phi, problem), self.learner.steps
        )
        # 3. and 4.
        agents, metrics = self._align_agents(s, tr_s, tr_r)
        # 5.
        source, theta = self._learn_unaligned(problem, s, source, agents.simulator)
        return s._replace(
            learner=agents._replace(simulator=theta),
            worlds=SourceAndTarget(source, target),
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + (self.inner + 1) * tr_s.reward.size),
            usage=usage,
        ), metrics

    def _align_agents(self, s: State, tr_s: Transition, tr_r: Transition) -> tuple[Agents, Metrics]:
        """Do box lines 3 and 4 on both agents' rollouts."""
        # 3.
        key = fold_key(s.key, 6, int(s.phase), int(s.round))
        omega, health = self._discriminate(s.learner.discriminator, tr_s, tr_r, key)
        # 4.
        rho_s, rho_r = self._auxiliary(omega, tr_s, tr_r)
        theta, aligned = self._learn_in_simulator(s, tr_s, rho_s)
        phi, metrics = self._learn_on_robot(s, tr_r, rho_r)
        metrics |= health | self._returns(s, tr_s, tr_r)
        metrics |= _describe_rewards("simulator", rho_s, tr_s)
        metrics |= _describe_rewards("robot", rho_r, tr_r)
        return Agents(theta, aligned, phi, omega), metrics

    def _learn_unaligned(
        self, problem: Problem, s: State, source: Worlds, theta: TRPOState
    ) -> tuple[Worlds, TRPOState]:
        """Do box line 5."""
        for j in range(self.inner):
            source, tr = self._roll_out_source(problem, source, theta)
            theta, _ = self.learner.learn(theta, tr, self._update_key(s, j + 1))
        return source, theta

    def _update_key(self, s: State, update: int) -> Array:
        """Return the key of the simulator's update of this round, 0..M.

        As for source_only and target_only: with lambda = 0 the agents are theirs, to the bit.
        """
        return fold_key(s.key, 1, int(s.phase), int(s.round) * (self.inner + 1) + update)

    def _learn_in_simulator(
        self, s: State, tr: Transition, rho: np.ndarray
    ) -> tuple[TRPOState, Value]:
        """Do box line 4 for theta, with the value function of r_S + lambda rho_S."""
        theta, aligned = s.learner.simulator, s.learner.aligned
        key = self._update_key(s, 0)
        if not self.mutual:
            theta, _ = self.learner.learn(theta, tr, key)
            return theta, aligned
        # Line 5 has gone on with episodes since the value function's last update.
        aligned = aligned._replace(running=theta.value.running, age=theta.value.age)
        after, _ = self.learner.learn(theta._replace(value=aligned), self._align(tr, rho), key)
        theta = self.learner.observe(theta, tr)._replace(networks=after.networks)
        return theta, after.value

    def _learn_on_robot(
        self, s: State, tr: Transition, rho: np.ndarray
    ) -> tuple[TRPOState, Metrics]:
        """Do box line 4 for phi."""
        before = s.learner.robot
        key = fold_key(s.key, 1, int(s.phase), int(s.round))
        phi, metrics = self.learner.learn(before, self._align(tr, rho), key)
        metrics["episodes"] = float(len(finished_returns(s.worlds.target, tr)))
        return hold_moments(before, phi) if s.phase else phi, metrics

    def _returns(self, s: State, tr_s: Transition, tr_r: Transition) -> Metrics:
        """Return the mean returns of episodes that ended in this round's first rollouts."""
        robot = finished_returns(s.worlds.target, tr_r)
        simulator = finished_returns(s.worlds.source, tr_s)
        metrics = {}
        if len(robot):
            metrics["robot_return"] = float(robot.mean())
        if len(simulator):
            metrics["simulator_return"] = float(simulator.mean())
        if len(robot):
            metrics["training_return"] = metrics["robot_return"]
        return metrics

    def _pair(self, problem: Problem, s: State, learned: TRPOState, target: Worlds) -> State:
        """Return the state in which both agents are the one that is learned already."""
        memory = self._behaviour(learned, problem).memory()
        source = s.worlds._replace(behaviour_memory=repeated(memory, s.worlds.size))
        target = target._replace(behaviour_memory=repeated(memory, target.size))
        omega = self._init_discriminator(problem, s)
        agents = Agents(learned, learned.value, learned, omega)
        return s._replace(learner=agents, worlds=SourceAndTarget(source, target))

    def _roll_out_source(
        self, problem: Problem, source: Worlds, theta: TRPOState
    ) -> tuple[Worlds, Transition]:
        behaviour = self._behaviour(theta, problem)
        return rollout_steps(problem.source, source, behaviour, self.learner.steps)

    def _behaviour(self, agent: TRPOState, problem: Problem) -> WithHistory:
        return self._with_history(self.learner.behaviour(agent), problem)

    def _with_history(self, behaviour: Any, problem: Problem) -> WithHistory:
        numbers = problem.source.spaces.observation
        return WithHistory.of(behaviour, numbers, self.extent, self.stride)

    def _align(self, tr: Transition, rho: np.ndarray) -> Transition:
        """Return transitions with Eq. 3's reward: r + lambda rho, rho from its offset on."""
        rho = rho - OFFSETS[self.offset](rho)
        return tr._replace(reward=tr.reward + np.float32(self.alignment) * rho)

    def _init_discriminator(self, problem: Problem, s: State) -> Any:
        numbers = (self.extent + 1) * problem.source.spaces.observation
        return self.discriminator.init(numbers, fold_key(s.key, 5))

    def _discriminate(
        self, omega: Any, tr_s: Transition, tr_r: Transition, key: Array
    ) -> tuple[Any, Metrics]:
        """Do box line 3, on sequences as rows (B, Z)."""
        return self.discriminator.learn(omega, flat(_sequences(tr_s)), flat(_sequences(tr_r)), key)

    def _auxiliary(
        self, omega: Any, tr_s: Transition, tr_r: Transition
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return Eqs. 4 and 5: rho_S [T, N] of the simulator's states, rho_R of the robot's."""
        rho_s, _ = self.discriminator.rewards(omega, _sequences(tr_s))
        _, rho_r = self.discriminator.rewards(omega, _sequences(tr_r))
        return rho_s, rho_r


def _describe_rewards(agent: str, rho: np.ndarray, tr: Transition) -> Metrics:
    """Return mean and deviation of an agent's auxiliary rewards, and its reward's deviation."""
    return {
        f"{agent}_auxiliary": float(rho.mean()),
        f"{agent}_auxiliary_sd": float(rho.std()),
        f"{agent}_reward_sd": float(tr.reward.std()),
    }


def _sequences(tr: Transition) -> np.ndarray:
    """Return the state sequences zeta, [T, N, Z]."""
    zeta = tr.extra["zeta"]
    return zeta.reshape(*zeta.shape[:2], -1)


@dataclass(frozen=True)
class MATLu(MATL):
    """Unilateral: the simulator learns its own reward alone."""

    mutual: ClassVar[bool] = False


@dataclass(frozen=True)
class MATLf(MATL):
    """MATL from a policy that is fully trained in the source, on both sides."""

    pretraining: NonNegativeInt = 500_000  # source steps of the first phase

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the state before the first round."""
        if start is not None:
            return super().init(problem, seed, start)
        check_dynamics(self.learner, problem.source, problem.target)
        self.learner.check_rollout_shape(*self.learner.rollout_shape)
        return start_in_source(self.learner, problem.source, seed)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of the box."""
        if s.phase == 0 and s.source_steps < self.pretraining:
            return source_round(self.learner, problem.source, s)
        if s.phase == 0:
            n, steps = self.learner.rollout_shape
            usage, target = problem.target_worlds(s.usage, n, int(s.key[-1]), batch=steps)
            s = s._replace(usage=usage, phase=np.int64(1), round=np.int64(0))
            s = self._pair(problem, s, self.learner.warm_start(s.learner), target)
        return super().step(problem, s)

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return super().policy(s) if s.phase else self.learner.policy(s.learner)
