"""Generative adversarial reinforced action transformation (Desai et al. 2020, arXiv 2008.01594),
Algorithm 1.

    input: source, target or its log
1.  pi <- a policy trained in the source (--start, or a first phase of source_only)
    repeat, a grounding step:
2.      roll out pi in the target; where the target is known by a log, that is what was rolled
3.      D, g <- initialize
        for `inner` iterations:
4.          roll out in the grounded simulator: a ~ pi(s), delta ~ g(s, a); clip(a + delta) is applied
5.          D <- gradient steps: is (s, a, s') of the target or of the grounded simulator?
6.          g <- PPO: it observes (s, a), does delta, is paid -log(1 - D(s, a, s'))
        for `updates` iterations:
7.          roll out in the grounded simulator, delta = g(s, a) without exploring; pi <- its learner's update with the
            source's reward, a charged and not what is applied
    deploy pi
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import act, finished_returns, rollout_steps
from isthmus.learning.advantage import flat
from isthmus.learning.classifiers import TransitionBatch
from isthmus.learning.keys import beside
from isthmus.learning.ppo import PPO, PPOState
from isthmus.learning.transition_discriminator import (
    TransitionDiscriminator,
    TransitionDiscriminatorState,
)
from isthmus.learning.trpo import TRPO
from isthmus.logs.record import Deterministic
from isthmus.methods.method import (
    NoAdaptation,
    SourceAndTarget,
    State,
    fold_key,
    learn,
    source_round,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces, Transition


class GARATState(NamedTuple):
    """What is learned and remembered, from the second phase on."""

    agent: Any  # pi
    transformer: PPOState  # g
    discriminator: TransitionDiscriminatorState
    target: Any  # where it is stepped: Seen, what was rolled there last


class Grounded(NamedTuple):
    """pi in the grounded simulator: its action is stored and charged, what g makes of it is
    applied.

    With each transition comes `delta`, g's unclipped sample.
    """

    agent: Any
    transformer: Any  # a behaviour that observes (s, a)
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> Any:
        return self.agent.memory()

    def act(self, memory: Any, observation: Array, key: Array) -> tuple[Decision, Any]:
        decision, memory = self.agent.act(memory, observation, key)
        seen = jnp.concatenate([observation, decision.action])
        told, _ = self.transformer.act((), seen, beside(key))
        applied = jnp.clip(decision.action + told.action, self.low, self.high)
        extra = {**decision.extra, "delta": told.extra.get("sample", told.action)}
        return decision._replace(applied=applied, extra=extra), memory


def transforming(spaces: Spaces) -> Spaces:
    """The spaces of g: it observes (s, a) and its delta reaches two half-ranges, from any action to
    any other.
    """
    reach = spaces.high - spaces.low
    return spaces._replace(observation=spaces.observation + spaces.action, low=-reach, high=reach)


def relabelled(tr: Transition, following: Array, reward: Array) -> Transition:
    """pi's transitions [T, N, ...] as g's: (s, a) is observed, delta done, `reward` [T, N] paid,
    (s', a') comes next.

    a' is what pi does next; where an episode or the round ends it is not there, and `following` [T,
    N, A] stands in.
    """
    after = np.array(following)
    over = np.logical_or(tr.terminated, tr.truncated)[:-1, :, None]
    after[:-1] = np.where(over, after[:-1], tr.action[1:])
    delta = tr.extra["delta"]
    return tr._replace(
        obs=np.concatenate([tr.obs, tr.action], -1), next_obs=np.concatenate([tr.next_obs, after], -1),
        action=delta, reward=reward, extra={"sample": delta},
    )  # fmt: skip


@dataclass(frozen=True)
class GARAT(NoAdaptation):
    """As the box. g's rounds are pi's: its `worlds` and `steps` are the learner's.

    Phases: 0 is line 1, odd ones ground (2 to 6), even ones train pi (7); each has worlds of its
    own. Raises BadValue for a learner that learns off policy or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    learner: PPO | TRPO = field(default_factory=PPO)
    transformer: PPO = field(default_factory=lambda: PPO(initial_log_std=-1.0))
    discriminator: TransitionDiscriminator = field(default_factory=TransitionDiscriminator)
    pretraining: int = 500_000  # source steps of line 1
    inner: int = 50
    updates: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO | TRPO):
            raise BadValue("GARAT's rounds are on policy; leave learner=ppo or take trpo")
        for name, low in (("pretraining", 0), ("inner", 1), ("updates", 1)):
            if not (isinstance(value := getattr(self, name), int) and value >= low):
                raise BadValue(f"{name}={value}: needs a whole number from {low} on")
        worlds, steps = self.learner.rollout_shape
        for name, mine in (("worlds", worlds), ("steps", steps)):
            if (value := getattr(self.transformer, name)) not in (mine, getattr(PPO(), name)):
                raise BadValue(
                    f"transformer.{name}={value}: g's rounds are pi's; set learner.{name}"
                )
        object.__setattr__(
            self, "transformer", replace(self.transformer, worlds=worlds, steps=steps)
        )

    def trained_in(self, problem: Problem) -> Domain:
        return problem.source

    def policy(self, s: State) -> Any:
        return self.learner.policy(s.learner.agent if s.phase else s.learner)

    def behaviour(self, s: State) -> Any:
        return self.learner.behaviour(s.learner.agent if s.phase else s.learner)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        if problem.access == Access.DATASET:
            problem.log()  # one that cannot be read should be told now
        for each in (self.learner, self.transformer):
            each.check_rollout_shape(*each.rollout_shape)
        s = start_in_source(self.learner, problem.source, seed, start)
        return s if start is None else self._turn(problem, s)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 1.
        if s.phase == 0 and s.source_steps < self.pretraining:
            return source_round(self.learner, problem.source, s)
        if s.phase == 0 or s.round == (self.inner if s.phase % 2 else self.updates):
            s = self._turn(problem, s)
        return self._ground(problem, s) if s.phase % 2 else self._train(problem, s)

    def _turn(self, problem: Problem, s: State) -> State:
        """To the next phase, in worlds of the source that begin anew."""
        phase, spaces, n = int(s.phase) + 1, problem.source.spaces, self.learner.rollout_shape[0]
        seed = int(jax.random.bits(fold_key(s.key, 8, phase)))
        agent, target, rolled, book = s.learner, None, None, s.usage
        if s.phase:
            (agent, _, _, rolled), target = s.learner, s.worlds.target
        elif problem.access != Access.DATASET:
            book, target = problem.target_worlds(
                book, n, int(s.key[-1]), batch=self.learner.rollout_shape[1]
            )
            rows = n * self.learner.rollout_shape[1]
            o, a = (
                np.zeros((rows, size), np.float32) for size in (spaces.observation, spaces.action)
            )
            rolled = TransitionBatch(o, a, o)
        agent = self.learner.warm_start(agent)
        transformer, discriminator = s.learner[1:3] if s.phase else (None, None)
        if phase % 2:
            # 3.
            transformer = self.transformer.init(transforming(spaces), fold_key(s.key, 7, phase))
            discriminator = self.discriminator.init(
                spaces.observation, spaces.action, fold_key(s.key, 5, phase)
            )
        worlds = SourceAndTarget(problem.source.worlds(n, seed), target)
        learned = GARATState(agent, transformer, discriminator, rolled)  # pyright: ignore[reportArgumentType]
        return s._replace(
            learner=learned, worlds=worlds, phase=np.int64(phase), round=np.int64(0), usage=book
        )

    def _ground(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        (pi, g, d, rolled), (source, robot), book = s.learner, s.worlds, s.usage
        (n, steps), behaviour, turn = (
            self.learner.rollout_shape,
            self.behaviour(s),
            (int(s.phase), int(s.round)),
        )
        # 2.
        if rolled is not None and s.round == 0:
            book, robot, tr = problem.collect(book, robot, behaviour, steps)
            rolled = TransitionBatch(flat(tr.obs), flat(tr.action), flat(tr.next_obs))
            robot = robot._replace(returns=np.zeros(n))  # nothing of the target's reward stays
        real = (
            TransitionBatch(*(getattr(problem.log(), name) for name in TransitionBatch._fields))
            if rolled is None
            else rolled
        )
        if s.round == 0:  # g's normalizer is fed before its first round, like any other
            g = g._replace(obs_moments=g.obs_moments.merge(np.concatenate(real[:2], -1)))
        # 4.
        after, tr = rollout_steps(
            problem.source,
            source,
            self._grounded(problem, behaviour, self.transformer.behaviour(g)),
            steps,
        )
        # 5.
        told = TransitionBatch(flat(tr.obs), flat(tr.action), flat(tr.next_obs))
        d, health = self.discriminator.learn(d, real, told, fold_key(s.key, 6, *turn))
        # 6.
        reward = self.discriminator.reward(d, TransitionBatch(tr.obs, tr.action, tr.next_obs))
        following, _ = act()(self.learner.policy(pi), (), told.next_obs)
        own = relabelled(tr, np.reshape(following, tr.action.shape), reward)
        g, metrics = self.transformer.learn(g, own, fold_key(s.key, 1, *turn))
        returns = finished_returns(source, tr)
        metrics |= health | {"episodes": float(len(returns)), "transformer_reward": float(reward.mean()),
                             "delta": float(np.abs(tr.extra["delta"]).mean())}  # fmt: skip
        if len(returns):
            metrics["training_return"] = float(returns.mean())
        return s._replace(
            learner=GARATState(pi, g, d, rolled), worlds=SourceAndTarget(after, robot), round=np.int64(s.round + 1), usage=book,
            source_steps=np.int64(s.source_steps + n * steps),
        ), metrics  # fmt: skip

    def _train(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 7.
        (n, steps), (source, robot) = self.learner.rollout_shape, s.worlds
        still = Deterministic(self.transformer.policy(s.learner.transformer))
        after, tr = rollout_steps(
            problem.source, source, self._grounded(problem, self.behaviour(s), still), steps
        )
        told, metrics = learn(self.learner, s._replace(learner=s.learner.agent), source, after, tr)
        return told._replace(
            learner=s.learner._replace(agent=told.learner), worlds=SourceAndTarget(after, robot),
            source_steps=np.int64(s.source_steps + n * steps),
        ), metrics  # fmt: skip

    def _grounded(self, problem: Problem, agent: Any, transformer: Any) -> Grounded:
        return Grounded(agent, transformer, problem.source.spaces.low, problem.source.spaces.high)
