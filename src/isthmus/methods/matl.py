"""Mutual alignment transfer learning (Wulfmeier, Posner and Abbeel 2017, arXiv 1707.07907),
Algorithm 1.

    input: source and target, alignment weight lambda, N outer and M inner iterations
1.  theta (simulator), phi (robot), omega (discriminator) <- initialize
    for i = 1..N:
2.      roll out pi_theta in the source and pi_phi in the target
3.      omega <- gradient steps on Eq. 2, over state sequences zeta_t = (s_{t-nk}, ..., s_{t-k}, s_t)
4.      theta, phi <- TRPO with r_S + lambda rho_S and r_R + lambda rho_R (Eqs. 3 to 7)
        for j = 1..M:
5.          roll out pi_theta in the source; theta <- TRPO with r_S alone
    deploy pi_phi

matl     as it stands               matlu    the robot alone is aligned: rho_S = 0 in line 4
matlf    theta and phi both start from a policy trained in the source (--start, or a first phase of source_only)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, repeated, rollout_steps
from isthmus.learning.sequence_discriminator import SequenceDiscriminator, WithHistory
from isthmus.learning.trpo import TRPO
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
from isthmus.types import BadValue, Metrics, Transition, UnknownName, Worlds

OFFSETS = {
    "floor": lambda rho: np.quantile(rho, 0.05).astype(
        np.float32
    ),  # hardly a state is worth less than the end
    "mean": np.mean,  # a step more is worth nothing on average
    "none": lambda rho: np.float32(0),  # the paper's letter
}


class Agents(NamedTuple):
    simulator: Any
    # the simulator's value function of r_S + lambda rho_S: M of its M + 1 updates are paid r_S
    # alone
    aligned: Any
    robot: Any
    discriminator: Any


@dataclass(frozen=True)
class MATL(MethodDefaults):
    """Algorithm 1. Raises BadValue for a number that cannot be and for a learner other than TRPO,
    UnknownName for an offset that is not in OFFSETS.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.ONLINE})
    mutual: ClassVar[bool] = True
    learner: TRPO = field(default_factory=TRPO)
    discriminator: SequenceDiscriminator = field(default_factory=SequenceDiscriminator)
    alignment: float = 0.1  # lambda
    inner: int = 10  # M
    extent: int = 1  # n: zeta has n + 1 states
    stride: int = 4  # k
    offset: str = "floor"  # what is taken off rho, of OFFSETS: the trap in docs/matl.md

    def __post_init__(self) -> None:
        if not isinstance(self.learner, TRPO):
            raise BadValue("MATL learns by TRPO; leave learner=trpo")
        if not 0 <= self.alignment < np.inf:
            raise BadValue(f"alignment={self.alignment}: needs a number from 0 on")
        for name, low in (("inner", 0), ("extent", 0), ("stride", 1)):
            if not (isinstance(value := getattr(self, name), int) and value >= low):
                raise BadValue(f"{name}={value}: needs a whole number from {low} on")
        if self.offset not in OFFSETS:
            raise UnknownName("offset", self.offset, OFFSETS)

    def trained_in(self, problem: Problem) -> Domain:
        return problem.target

    def policy(self, s: State) -> Any:
        return self.learner.policy(s.learner.robot)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """1. Raises BadValue where a task lasts several episodes: what zeta remembers ends with a
        task.
        """
        if max(problem.source.episodes_per_task, problem.target.episodes_per_task) > 1:
            raise BadValue(
                "MATL's state sequences end with an episode; leave episodes_per_task at 1"
            )
        check_dynamics(self.learner, problem.source, problem.target)
        n, steps = self.learner.rollout_shape
        self.learner.check_rollout_shape(n, steps)
        s = initial_state(seed, None, problem.source.worlds(n, seed), TargetUsage())
        book, target = problem.target_worlds(TargetUsage(), n, seed, batch=steps)
        if start is not None:
            learned = start.robot if isinstance(start, Agents) else start
            s = s._replace(usage=book, phase=np.int64(1))
            return self._pair(problem, s, self.learner.warm_start(learned), s.worlds, target)
        simulator = self.learner.init(problem.source.spaces, fold_key(s.key, 0))
        robot = self.learner.init(problem.target.spaces, fold_key(s.key, 0))
        source, tr = rollout_steps(
            problem.source, s.worlds, self._watched(self.learner.random(simulator), problem), steps
        )
        simulator = self.learner.observe(simulator, tr)
        book, target, tr = problem.collect(
            book, target, self._watched(self.learner.random(robot), problem), steps
        )
        robot = self.learner.observe(robot, tr)
        agents = Agents(simulator, simulator.value, robot, self._judge(problem, s))
        return s._replace(
            learner=agents,
            worlds=SourceAndTarget(source, target),
            source_steps=np.int64(n * steps),
            usage=book,
        )

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        (theta, aligned, phi, omega), (_, steps) = s.learner, self.learner.rollout_shape
        # As for source_only and target_only: with lambda = 0 the agents are theirs, to the bit.
        key = lambda update: fold_key(s.key, 1, int(s.phase), update)
        update = int(s.round) * (self.inner + 1)
        source, tr_s = rollout_steps(
            problem.source, s.worlds.source, self._behaviour(theta, problem), steps
        )
        book, target, tr_r = problem.collect(
            s.usage, s.worlds.target, self._behaviour(phi, problem), steps
        )
        metrics = {"robot_return": finished_returns(s.worlds.target, tr_r),
                   "simulator_return": finished_returns(s.worlds.source, tr_s)}  # fmt: skip
        # 3.
        omega, health = self._discriminate(
            omega, tr_s, tr_r, fold_key(s.key, 6, int(s.phase), int(s.round))
        )
        # 4.
        rho_s, rho_r = self._auxiliary(omega, tr_s, tr_r)
        if self.mutual:
            count = {
                "running": theta.value.running,
                "age": theta.value.age,
            }  # of episodes begun in line 5
            both = theta._replace(value=aligned._replace(**count))
            both, _ = self.learner.learn(both, self._paid(tr_s, rho_s), key(update))
            theta, aligned = (
                self.learner.observe(theta, tr_s)._replace(networks=both.networks),
                both.value,
            )
        else:
            theta, _ = self.learner.learn(theta, tr_s, key(update))
        crossed = phi
        phi, learned = self.learner.learn(phi, self._paid(tr_r, rho_r), key(int(s.round)))
        if s.phase:
            phi = hold_moments(crossed, phi)
        # 5.
        for j in range(self.inner):
            source, tr = rollout_steps(
                problem.source, source, self._behaviour(theta, problem), steps
            )
            theta, _ = self.learner.learn(theta, tr, key(update + j + 1))
        learned["episodes"] = float(len(metrics["robot_return"]))
        metrics = {k: float(v.mean()) for k, v in metrics.items() if len(v)}
        if "robot_return" in metrics:
            metrics["training_return"] = metrics["robot_return"]
        for name, rho, tr in (("simulator", rho_s, tr_s), ("robot", rho_r, tr_r)):
            metrics |= {f"{name}_auxiliary": float(rho.mean()), f"{name}_auxiliary_sd": float(rho.std()),
                        f"{name}_reward_sd": float(tr.reward.std())}  # fmt: skip
        taken = (self.inner + 1) * tr_s.reward.size
        return s._replace(
            learner=Agents(theta, aligned, phi, omega), worlds=SourceAndTarget(source, target), round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + taken), usage=book,
        ), {**learned, **health, **metrics}  # fmt: skip

    def _pair(
        self, problem: Problem, s: State, learned: Any, source: Worlds, target: Worlds
    ) -> State:
        """Both agents begin as the one that is learned already."""
        trace = self._behaviour(learned, problem).memory()
        remember = lambda w: w._replace(behaviour_memory=repeated(trace, w.size))
        agents = Agents(learned, learned.value, learned, self._judge(problem, s))
        return s._replace(
            learner=agents, worlds=SourceAndTarget(remember(source), remember(target))
        )

    def _behaviour(self, agent: Any, problem: Problem) -> WithHistory:
        return self._watched(self.learner.behaviour(agent), problem)

    def _watched(self, behaviour: Any, problem: Problem) -> WithHistory:
        return WithHistory.of(
            behaviour, problem.source.spaces.observation, self.extent, self.stride
        )

    def _paid(self, tr: Transition, rho: np.ndarray) -> Transition:
        """Eq. 3: r + lambda rho, rho from its offset on."""
        rho = rho - OFFSETS[self.offset](rho)
        return tr._replace(reward=tr.reward + np.float32(self.alignment) * rho)

    def _judge(self, problem: Problem, s: State) -> Any:
        return self.discriminator.init(
            (self.extent + 1) * problem.source.spaces.observation, fold_key(s.key, 5)
        )

    def _discriminate(
        self, omega: Any, tr_s: Transition, tr_r: Transition, key: Any
    ) -> tuple[Any, Metrics]:
        rows = lambda zeta: zeta.reshape(-1, zeta.shape[-2] * zeta.shape[-1])
        return self.discriminator.learn(
            omega, rows(tr_s.extra["zeta"]), rows(tr_r.extra["zeta"]), key
        )

    def _auxiliary(
        self, omega: Any, tr_s: Transition, tr_r: Transition
    ) -> tuple[np.ndarray, np.ndarray]:
        """Eqs. 4 and 5: rho_S [T, N] of the simulator's states, rho_R of the robot's."""
        rows = lambda zeta: zeta.reshape(*zeta.shape[:2], -1)
        zeta_s, zeta_r = rows(tr_s.extra["zeta"]), rows(tr_r.extra["zeta"])
        return self.discriminator.rewards(omega, zeta_s)[0], self.discriminator.rewards(
            omega, zeta_r
        )[1]


@dataclass(frozen=True)
class MATLu(MATL):
    """Unilateral: the simulator learns its own reward alone."""

    mutual: ClassVar[bool] = False


@dataclass(frozen=True)
class MATLf(MATL):
    """MATL from a policy that is fully trained in the source, on both sides."""

    pretraining: int = 500_000  # source steps of the first phase

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretraining < 0:
            raise BadValue(f"pretraining={self.pretraining}: needs a whole number from 0 on")

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        if start is not None:
            return super().init(problem, seed, start)
        check_dynamics(self.learner, problem.source, problem.target)
        self.learner.check_rollout_shape(*self.learner.rollout_shape)
        return start_in_source(self.learner, problem.source, seed)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        if s.phase == 0 and s.source_steps < self.pretraining:
            return source_round(self.learner, problem.source, s)
        if s.phase == 0:
            n, steps = self.learner.rollout_shape
            book, target = problem.target_worlds(s.usage, n, int(s.key[-1]), batch=steps)
            s = s._replace(usage=book, phase=np.int64(1), round=np.int64(0))
            s = self._pair(problem, s, self.learner.warm_start(s.learner), s.worlds, target)
        return super().step(problem, s)

    def policy(self, s: State) -> Any:
        return super().policy(s) if s.phase else self.learner.policy(s.learner)
