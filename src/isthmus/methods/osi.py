"""A policy that is told the dynamics, and an estimator that takes their place on the robot.

    input: source, a law of its parameters mu; H
1.  initialize pi, phi; the first round is of random steps
    repeat for `pretraining` source steps:
2.      mu ~ the law, anew with each task; roll out pi(o, mu)
3.      pi <- its learner's update; it observes (o, mu)
    repeat:
4.      roll out pi(o, mu-hat) without exploring, mu-hat = phi(the last H pairs (o, a) of the task,
        o); for the first `informed_steps` pi(o, mu)
5.      B <- some of the histories with their true mu; phi <- gradient steps on |phi(h) - mu|^2
        over B
    deploy pi(o, phi(h))

up_osi   as it stands: universal policy with online system identification (Yu, Tan, Liu and Turk
         2017, arXiv 1702.02453)
rma      rapid motor adaptation (Kumar, Fu, Pathak and Malik 2021, arXiv 2107.04034):
         pi(o, z), z = e(mu); 3. learns the encoder e together with pi; 4. and 5. are about z in the
         place of mu, from the first step on
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from isthmus.domains.behaviours import InformedObservation
from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.learning.estimator import (
    LIMIT,
    EstimatingBehaviour,
    EstimatingPolicy,
    Estimator,
    EstimatorRows,
    EstimatorState,
    PairHistory,
    Regression,
    Remembered,
    decide_with_history,
)
from isthmus.learning.learner import Learner
from isthmus.learning.networks import MLP, init_mlp, mlp
from isthmus.learning.normalization import Normalizer
from isthmus.learning.policies import GaussianPolicy
from isthmus.learning.ppo import PPO, PPOState
from isthmus.learning.settings import NonNegativeInt, PositiveInt, Settings
from isthmus.logs.record import Deterministic
from isthmus.methods.method import MethodDefaults, State, fold_key, initial_state, learn
from isthmus.physics.parameters import Distribution, Grid, ParameterSpec
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Decision, Metrics, Spaces, Transition, Worlds

# Phases: box lines 2 and 3; 4 and 5 on mu; 4 and 5 on its estimate.
POLICY, INFORMED, ESTIMATED = 0, 1, 2


class Law(NamedTuple):
    """The K parameters of P that are drawn, and where they are drawn from: mu is in -1..1."""

    columns: Array  # int (K,), of P
    is_log: Array  # bool (K,), log-uniform parameters are told in logarithms
    low: Array  # float32 (K,)
    high: Array  # float32 (K,)

    @staticmethod
    def of(domain: Domain) -> Law:
        """Return a domain's law. Raises BadValue where nothing is drawn."""
        rows = []
        for column, (_, setting) in enumerate(domain.settings):
            low, high = _find_ends(setting)
            if low < high:
                is_log = isinstance(setting, Distribution) and setting.kind == "log"
                rows.append((column, is_log, low, high))
        if not rows:
            raise BadValue(
                f"nothing is drawn in {domain}, and there is nothing to estimate; say what you "
                "believe of the target, --uncertainty NAME=LOW..HIGH"
            )
        columns, is_log, low, high = map(np.array, zip(*rows, strict=True))
        ends = np.array([low, high], np.float64)
        ends[:, is_log] = np.log(ends[:, is_log])
        return Law(columns, is_log, *ends.astype(np.float32))

    def __call__(self, parameters: Array) -> Array:
        """Return mu (..., K) of parameters (..., P): the law's ends are -1 and 1."""
        drawn = parameters[..., self.columns]
        drawn = jnp.where(self.is_log, jnp.log(jnp.where(self.is_log, drawn, 1.0)), drawn)
        return 2 * (drawn - self.low) / (self.high - self.low) - 1


def _find_ends(setting: ParameterSpec) -> tuple[float, float]:
    """Return the least and the greatest value that a parameter takes."""
    if isinstance(setting, Distribution):
        return setting.low, setting.high
    if isinstance(setting, Grid):
        return min(setting.values), max(setting.values)
    return setting, setting


class InformedBehaviour(NamedTuple):
    """A behaviour that observes (o, mu), given `InformedObservation`s; mu comes back as `known`."""

    behaviour: Any
    law: Law
    empty: PairHistory

    def memory(self) -> Remembered:
        """Return the memory at the begin of a task."""
        return Remembered(self.behaviour.memory(), self.empty)

    def act(
        self, memory: Remembered, observation: InformedObservation, key: Array
    ) -> tuple[Decision, Remembered]:
        """Return a decision, and the memory with observation and action."""
        obs, mu = observation.observation, self.law(observation.dynamics)
        return decide_with_history(self.behaviour, memory, obs, mu, key)


class OSIState(NamedTuple):
    """What is learned."""

    agent: Any  # pi's learner
    estimator: EstimatorState  # phi


def with_known(tr: Transition) -> Transition:
    """Return transitions as the learner of pi(o, mu) sees them, with mu in both observations."""
    known = tr.extra["known"]
    obs, next_obs = np.concatenate([tr.obs, known], -1), np.concatenate([tr.next_obs, known], -1)
    return tr._replace(obs=obs, next_obs=next_obs)


@dataclass(frozen=True)
class UPOSI(Settings, MethodDefaults):
    """As the box. Raises BadValue for a number that cannot be."""

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.NONE})
    explores: ClassVar[bool] = True
    randomizes: ClassVar[bool] = True
    takes_start: ClassVar[bool] = False
    limit: ClassVar[float] = 1.0  # of an estimate's numbers: the law's ends
    learner: Learner[Any] = field(default_factory=PPO)
    estimator: Regression = field(default_factory=Regression)
    pretraining: NonNegativeInt = 500_000  # source steps of the first phase, for the policy
    informed_steps: NonNegativeInt = 50_000  # source steps that follow, acting on the true dynamics
    history: PositiveInt = 16  # H

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source under what is believed of the target."""
        return problem.randomized_source

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1. Raises BadValue where no parameter is drawn."""
        n, steps = self.learner.rollout_shape
        self.learner.check_rollout_shape(n, steps)
        domain = self.trained_in(problem)
        spaces, numbers = domain.spaces, len(Law.of(domain).columns)
        s = initial_state(seed, None, domain.worlds(n, seed), TargetUsage())
        agent = self.init_agent(spaces, numbers, s.key)
        target = self.targets(agent, np.zeros(numbers, np.float32))
        estimator = self.estimator.init(self.history, spaces, len(target), fold_key(s.key, 5))
        s = s._replace(learner=OSIState(agent, estimator))
        worlds, tr = self._roll_out_informed(problem, s, self.learner.random(agent))
        agent = self.learner.observe(agent, with_known(tr))
        learned = OSIState(agent, self.estimator.observe(estimator, tr))
        return s._replace(learner=learned, worlds=worlds, source_steps=np.int64(n * steps))

    def init_agent(self, spaces: Spaces, numbers: int, key: Array) -> Any:
        """Return a new learner's state of pi, which observes so many numbers of mu."""
        return self.learner.init(_widen(spaces, numbers), fold_key(key, 0))

    def targets(self, agent: Any, mu: Array) -> Array:
        """Return what phi is to estimate, of mu (..., K): mu."""
        return mu

    def conditioned_policy(self, agent: Any) -> Any:
        """Return the policy that observes (o, what phi estimates)."""
        return self.learner.policy(agent)

    def conditioned_behaviour(self, agent: Any) -> Any:
        """Return the behaviour that observes (o, what phi estimates)."""
        return self.learner.behaviour(agent)

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of box lines 2 and 3, or of 4 and 5."""
        if s.phase == POLICY and s.source_steps < self.pretraining:
            return self._learn_policy(problem, s)
        return self._learn_estimator(problem, self._advance_phase(s))

    def _advance_phase(self, s: State) -> State:
        """Return the state in the phase of its next round."""
        n, steps = self.learner.rollout_shape
        if s.phase == POLICY:
            s = s._replace(phase=np.int64(INFORMED), round=np.int64(0))
        if s.phase == INFORMED and s.round * n * steps >= self.informed_steps:
            s = s._replace(phase=np.int64(ESTIMATED), round=np.int64(0))
        return s

    def _learn_policy(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 2.
        behaviour = self.learner.behaviour(s.learner.agent)
        worlds, tr = self._roll_out_informed(problem, s, behaviour)
        # 3.
        inner = s._replace(learner=s.learner.agent)
        after, metrics = learn(self.learner, inner, s.worlds, worlds, with_known(tr))
        estimator = self.estimator.observe(s.learner.estimator, tr)
        return after._replace(
            learner=OSIState(after.learner, estimator),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics

    def _learn_estimator(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        # 4.
        agent = s.learner.agent
        if s.phase == INFORMED:
            acting = Deterministic(self.learner.policy(agent))
            worlds, tr = self._roll_out_informed(problem, s, acting)
        else:
            worlds, tr = self._roll_out_estimating(problem, s)
        # 5.
        mu = Law.of(self.trained_in(problem))(tr.parameters)
        rows = EstimatorRows.of(tr, self.targets(agent, mu))
        key = fold_key(s.key, 6, int(s.phase), int(s.round))
        estimator, metrics = self.estimator.learn(s.learner.estimator, rows, key)
        returns = finished_returns(s.worlds, tr)
        metrics["episodes"] = float(len(returns))
        if len(returns):
            metrics["training_return"] = float(returns.mean())
        return s._replace(
            learner=OSIState(agent, estimator),
            worlds=worlds,
            round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + tr.reward.size),
        ), metrics

    def _roll_out_estimating(self, problem: Problem, s: State) -> tuple[Worlds, Transition]:
        """Return the worlds after, and transitions of the policy as it is deployed."""
        acting = Deterministic(self.conditioned_policy(s.learner.agent))
        behaviour = EstimatingBehaviour(acting, *self._estimator(s))
        steps = self.learner.rollout_shape[1]
        return rollout_steps(self.trained_in(problem), s.worlds, behaviour, steps)

    def _roll_out_informed(
        self, problem: Problem, s: State, behaviour: Any
    ) -> tuple[Worlds, Transition]:
        """Return the worlds after, and transitions of a behaviour that observes (o, mu)."""
        domain = self.trained_in(problem)
        informed = InformedBehaviour(behaviour, Law.of(domain), self._estimator(s)[1])
        steps = self.learner.rollout_shape[1]
        return rollout_steps(domain, s.worlds, informed, steps, informed=True)

    def _estimator(self, s: State) -> tuple[Estimator, PairHistory]:
        """Return phi, and the history at the begin of a task."""
        learned = s.learner.estimator
        estimator = self.estimator.estimator(learned, self.limit)
        return estimator, self.estimator.empty_history(learned)

    def policy(self, s: State) -> EstimatingPolicy:
        """Return the policy that is deployed."""
        return EstimatingPolicy(self.conditioned_policy(s.learner.agent), *self._estimator(s))

    def behaviour(self, s: State) -> EstimatingBehaviour:
        """Return the deployed policy as it explores."""
        return EstimatingBehaviour(self.conditioned_behaviour(s.learner.agent), *self._estimator(s))

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what is learned."""
        return s.learner.agent


def _widen(spaces: Spaces, numbers: int) -> Spaces:
    """Return the spaces of a policy that observes so many numbers more."""
    return spaces._replace(observation=spaces.observation + numbers)


class EncodedWeights(NamedTuple):
    """In the place of a first layer's weights: `x @ weights`, of which the last numbers of x, mu,
    come in through an encoder.

    With it PPO's actor is pi(o, e(mu)), and PPO learns both.
    """

    observed: Array  # (O, units)
    latent: Array  # (Z, units)
    encoder: MLP  # e, from K numbers to Z

    @staticmethod
    def of(weights: Array, encoder: MLP) -> EncodedWeights:
        """Return the weights (O + Z, units) of a layer that observes (o, z), with the encoder."""
        latents = encoder[-1][1].size
        return EncodedWeights(weights[:-latents], weights[-latents:], encoder)

    def __rmatmul__(self, x: Array) -> Array:
        """Return what the layer's units get (..., units) of x (..., O + K)."""
        size = len(self.observed)
        return x[..., :size] @ self.observed + self.encode(x[..., size:]) @ self.latent

    def encode(self, mu: Array) -> Array:
        """Return z (..., Z) of normalized mu (..., K)."""
        return mlp(self.encoder, mu)

    @property
    def joined(self) -> Array:
        """The weights (O + Z, units) of a layer that observes (o, z)."""
        return jnp.concatenate([self.observed, self.latent])


def latent_policy(policy: GaussianPolicy) -> GaussianPolicy:
    """Return pi(o, z) of pi(o, e(mu)): z passes the normalizer as it is."""
    (weights, bias), *rest = policy.actor
    size, latents = len(weights.observed), len(weights.latent)
    mean, std = policy.normalizer
    normalizer = Normalizer(
        np.concatenate([mean[:size], np.zeros(latents, np.float32)]),
        np.concatenate([std[:size], np.ones(latents, np.float32)]),
    )
    return policy._replace(normalizer=normalizer, actor=((weights.joined, bias), *rest))


@dataclass(frozen=True)
class RMA(UPOSI):
    """As the box. Raises BadValue for a number that cannot be and for a learner other than PPO."""

    limit: ClassVar[float] = LIMIT
    learner: PPO = field(default_factory=PPO)
    informed_steps: NonNegativeInt = 0  # source steps that follow, acting on the true dynamics
    latents: PositiveInt = 8  # numbers of z
    encoder: tuple[int, ...] = (64, 64)  # hidden layers of e

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO):
            raise BadValue("rma's encoder is a part of PPO's network; leave learner=ppo")
        super().__post_init__()

    def init_agent(self, spaces: Spaces, numbers: int, key: Array) -> PPOState:
        """Return a new state of PPO, whose actor is pi(o, e(mu)); the critic sees mu itself."""
        agent = super().init_agent(spaces, numbers, key)
        sizes = (spaces.observation + self.latents, *self.learner.hidden, spaces.action)
        (weights, bias), *rest = init_mlp(fold_key(key, 7), sizes, 0.01)
        encoder = init_mlp(fold_key(key, 8), (numbers, *self.encoder, self.latents), 1.0)
        actor = ((EncodedWeights.of(weights, encoder), bias), *rest)
        networks = agent.networks._replace(actor=actor)
        return self.learner.warm_start(agent._replace(networks=networks))

    def targets(self, agent: PPOState, mu: Array) -> Array:
        """Return what phi is to estimate, of mu (..., K): z."""
        policy = self.learner.policy(agent)
        weights, (mean, std) = policy.actor[0][0], policy.normalizer
        size = len(weights.observed)
        return weights.encode(Normalizer(mean[size:], std[size:])(mu))

    def conditioned_policy(self, agent: PPOState) -> GaussianPolicy:
        """Return the policy that observes (o, z)."""
        return latent_policy(self.learner.policy(agent))

    def conditioned_behaviour(self, agent: PPOState) -> Any:
        """Return the behaviour that observes (o, z)."""
        behaviour = self.learner.behaviour(agent)
        return behaviour._replace(policy=latent_policy(behaviour.policy))
