"""Generative adversarial reinforced action transformation, Algorithm 1.

Desai et al. 2020 (arXiv 2008.01594).

    input: source, target or its log
1.  pi <- a policy trained in the source (--start, or a first phase of source_only)
    repeat, a grounding step:
2.      roll out pi in the target; where the target is known by a log, that is the rollout
3.      D, g <- initialize
        for `inner` iterations:
4.          roll out in the grounded simulator: a ~ pi(s), delta ~ g(s, a); clip(a + delta) is
            applied
5.          D <- gradient steps: is (s, a, s') of the target or of the grounded simulator?
6.          g <- PPO: it observes (s, a), does delta, its reward is -log(1 - D(s, a, s'))
        for `updates` iterations:
7.          roll out in the grounded simulator, delta = g(s, a) without exploring; pi <- its
            learner's update with the source's reward, a charged and not what is applied
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
from isthmus.learning.settings import NonNegativeInt, PositiveInt, Settings
from isthmus.learning.transition_discriminator import (
    TransitionDiscriminator,
    TransitionDiscriminatorState,
)
from isthmus.learning.trpo import TRPO
from isthmus.logs.record import Deterministic
from isthmus.methods.method import (
    MethodDefaults,
    SourceAndTarget,
    State,
    fold_key,
    learn,
    source_round,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces, Transition, Worlds


class GARATState(NamedTuple):
    """What is learned, from the second phase on, and the target's transitions."""

    agent: Any  # pi
    transformer: PPOState  # g
    discriminator: TransitionDiscriminatorState
    target: Any  # TransitionBatch, the last rollout there; None where it is known by its log


class Grounded(NamedTuple):
    """pi in the grounded simulator: its action is stored and charged, g's change of it is applied.

    With each transition comes `delta`, g's unclipped sample.
    """

    agent: Any
    transformer: Any  # a behaviour that observes (s, a)
    low: Array  # (A,)
    high: Array  # (A,)

    def memory(self) -> Any:
        """Return pi's memory before the first observation."""
        return self.agent.memory()

    def act(self, memory: Any, observation: Array, key: Array) -> tuple[Decision, Any]:
        """Return a decision for an observation (O,), and pi's memory after it."""
        decision, memory = self.agent.act(memory, observation, key)
        pair = jnp.concatenate([observation, decision.action])
        change, _ = self.transformer.act((), pair, beside(key))
        applied = jnp.clip(decision.action + change.action, self.low, self.high)
        extra = {**decision.extra, "delta": change.extra.get("sample", change.action)}
        return decision._replace(applied=applied, extra=extra), memory


def transformer_spaces(spaces: Spaces) -> Spaces:
    """Return the spaces of g.

    It observes (s, a); its delta reaches two half-ranges, from any action to any other.
    """
    reach = spaces.high - spaces.low
    return spaces._replace(observation=spaces.observation + spaces.action, low=-reach, high=reach)


def flat_transitions(tr: Transition) -> TransitionBatch:
    """Return transitions [T, N, ...] as rows (B, ...), without rewards."""
    return TransitionBatch(flat(tr.obs), flat(tr.action), flat(tr.next_obs))


def relabelled(tr: Transition, following: Array, reward: Array) -> Transition:
    """Return pi's transitions [T, N, ...] as g's, with `reward` [T, N].

    (s, a) is observed, delta done, (s', a') comes next. a' is what pi does next; where an episode
    or the round ends it is not there, and `following` [T, N, A] stands in.
    """
    next_action = np.array(following)
    over = np.logical_or(tr.terminated, tr.truncated)[:-1, :, None]
    next_action[:-1] = np.where(over, next_action[:-1], tr.action[1:])
    delta = tr.extra["delta"]
    return tr._replace(
        obs=np.concatenate([tr.obs, tr.action], -1),
        next_obs=np.concatenate([tr.next_obs, next_action], -1),
        action=delta,
        reward=reward,
        extra={"sample": delta},
    )


@dataclass(frozen=True)
class GARAT(Settings, MethodDefaults):
    """As the box. g's rounds are pi's: its `worlds` and `steps` are the learner's.

    Phases: 0 is line 1, odd ones ground (2 to 6), even ones train pi (7); each has worlds of its
    own. Raises BadValue for a learner that learns off policy or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: PPO | TRPO = field(default_factory=PPO)
    transformer: PPO = field(default_factory=lambda: PPO(initial_log_std=-1.0))
    discriminator: TransitionDiscriminator = field(default_factory=TransitionDiscriminator)
    pretraining: NonNegativeInt = 500_000  # source steps of line 1
    inner: PositiveInt = 50
    updates: PositiveInt = 100

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO | TRPO):
            raise BadValue("GARAT's rounds are on policy; leave learner=ppo or take trpo")
        super().__post_init__()
        worlds, steps = self.learner.rollout_shape
        self._check_transformer("worlds", worlds)
        self._check_transformer("steps", steps)
        transformer = replace(self.transformer, worlds=worlds, steps=steps)
        object.__setattr__(self, "transformer", transformer)

    def _check_transformer(self, name: str, expected: int) -> None:
        """Raise BadValue where g's setting is neither the learner's nor left at its default."""
        value = getattr(self.transformer, name)
        if value not in (expected, getattr(PPO(), name)):
            raise BadValue(f"transformer.{name}={value}: g's rounds are pi's; set learner.{name}")

    def trained_in(self, problem: Problem) -> Domain:
        """Return the domain in which the deployed policy learned."""
        return problem.source

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner.agent if s.phase else s.learner)

    def behaviour(self, s: State) -> Any:
        """Return the behaviour that collects, which explores."""
        return self.learner.behaviour(s.learner.agent if s.phase else s.learner)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Begin box line 1, or the first grounding step from a `start`."""
        if problem.access == Access.DATASET:
            problem.log()  # raises for one that cannot be read
        for learner in (self.learner, self.transformer):
            learner.check_rollout_shape(*learner.rollout_shape)
        s = start_in_source(self.learner, problem.source, seed, start)
        return s if start is None else self._begin_phase(problem, s)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do a round of box line 1, of lines 2 to 6, or of line 7."""
        # 1.
        if s.phase == 0 and s.source_steps < self.pretraining:
            return source_round(self.learner, problem.source, s)
        rounds = self.inner if s.phase % 2 else self.updates
        if s.phase == 0 or s.round == rounds:
            s = self._begin_phase(problem, s)
        return self._ground(problem, s) if s.phase % 2 else self._train(problem, s)

    def _begin_phase(self, problem: Problem, s: State) -> State:
        """Return the state at the begin of the next phase, in new worlds of the source."""
        if s.phase == 0:
            s = self._meet_target(problem, s)
        phase, spaces = int(s.phase) + 1, problem.source.spaces
        learned = s.learner._replace(agent=self.learner.warm_start(s.learner.agent))
        if phase % 2:
            # 3.
            learned = learned._replace(
                transformer=self.transformer.init(
                    transformer_spaces(spaces), fold_key(s.key, 7, phase)
                ),
                discriminator=self.discriminator.init(
                    spaces.observation, spaces.action, fold_key(s.key, 5, phase)
                ),
            )
        seed = int(jax.random.bits(fold_key(s.key, 8, phase)))
        source = problem.source.worlds(self.learner.worlds, seed)
        return s._replace(
            learner=learned,
            worlds=SourceAndTarget(source, s.worlds.target),
            phase=np.int64(phase),
            round=np.int64(0),
        )

    def _meet_target(self, problem: Problem, s: State) -> State:
        """Return the state after box line 1 with worlds of the target, where it is stepped."""
        usage, target, batch = s.usage, None, None
        if problem.access != Access.DATASET:
            n, steps = self.learner.rollout_shape
            usage, target = problem.target_worlds(usage, n, int(s.key[-1]), batch=steps)
            obs = np.zeros((n * steps, problem.source.spaces.observation), np.float32)
            action = np.zeros((n * steps, problem.source.spaces.action), np.float32)
            batch = TransitionBatch(obs, action, obs)
        learned = GARATState(s.learner, None, None, batch)  # pyright: ignore[reportArgumentType]
        return s._replace(learner=learned, worlds=SourceAndTarget(s.worlds, target), usage=usage)

    def _ground(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        if s.round == 0:
            s = self._roll_out_target(problem, s)
        learned, counters = s.learner, (int(s.phase), int(s.round))
        real = self._real_transitions(problem, s)
        # 4.
        explore = self.transformer.behaviour(learned.transformer)
        source, tr = self._roll_out_grounded(problem, s, explore)
        simulated = flat_transitions(tr)
        # 5.
        discriminator, health = self.discriminator.learn(
            learned.discriminator, real, simulated, fold_key(s.key, 6, *counters)
        )
        # 6.
        reward = self.discriminator.reward(
            discriminator, TransitionBatch(tr.obs, tr.action, tr.next_obs)
        )
        following, _ = act()(self.learner.policy(learned.agent), (), simulated.next_obs)
        transformer, metrics = self.transformer.learn(
            learned.transformer,
            relabelled(tr, np.reshape(following, tr.action.shape), reward),
            fold_key(s.key, 1, *counters),
        )
        returns = finished_returns(s.worlds.source, tr)
        metrics |= health | {
            "episodes": float(len(returns)),
            "transformer_reward": float(reward.mean()),
            "delta": float(np.abs(tr.extra["delta"]).mean()),
        }
        if len(returns):
            metrics["training_return"] = float(returns.mean())
        learned = learned._replace(transformer=transformer, discriminator=discriminator)
        return s._replace(
            learner=learned,
            worlds=s.worlds._replace(source=source),
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics

    def _roll_out_target(self, problem: Problem, s: State) -> State:
        """Do box line 2, and feed g's normalizer, like any other, before its first round."""
        if s.learner.target is not None:
            steps, behaviour = self.learner.steps, self.behaviour(s)
            usage, target, tr = problem.collect(s.usage, s.worlds.target, behaviour, steps)
            # Nothing of the target's reward stays.
            target = target._replace(returns=np.zeros(target.size))
            s = s._replace(
                learner=s.learner._replace(target=flat_transitions(tr)),
                worlds=s.worlds._replace(target=target),
                usage=usage,
            )
        g, real = s.learner.transformer, self._real_transitions(problem, s)
        moments = g.obs_moments.merge(np.concatenate([real.obs, real.action], -1))
        return s._replace(learner=s.learner._replace(transformer=g._replace(obs_moments=moments)))

    def _real_transitions(self, problem: Problem, s: State) -> TransitionBatch:
        """Return the target's transitions: of the last rollout, or of its log."""
        if s.learner.target is not None:
            return s.learner.target
        log = problem.log()
        return TransitionBatch(log.obs, log.action, log.next_obs)

    def _train(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 7.
        still = Deterministic(self.transformer.policy(s.learner.transformer))
        source, tr = self._roll_out_grounded(problem, s, still)
        agent, metrics = learn(
            self.learner, s._replace(learner=s.learner.agent), s.worlds.source, source, tr
        )
        return agent._replace(
            learner=s.learner._replace(agent=agent.learner),
            worlds=s.worlds._replace(source=source),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics

    def _roll_out_grounded(
        self, problem: Problem, s: State, transformer: Any
    ) -> tuple[Worlds, Transition]:
        behaviour = self._make_grounded(problem, self.behaviour(s), transformer)
        return rollout_steps(problem.source, s.worlds.source, behaviour, self.learner.steps)

    def _make_grounded(self, problem: Problem, agent: Any, transformer: Any) -> Grounded:
        return Grounded(agent, transformer, problem.source.spaces.low, problem.source.spaces.high)
