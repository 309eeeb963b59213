"""Meta-learning by evolution strategies with PPO as the adaptation: ES-sim2real.

Spigler and Dalbagno; ES-MAML, Song et al. 2019 (arXiv 1910.01215).

    input: source, uncertainty p(T), n pairs, sigma; U = K PPO updates, or another operator
1.  theta <- initialize (policy, deviations, value function), or --start
    for each generation:
        for i = 1..n:
2.          T_i ~ p(T), e_i ~ N(0, I)
3.          f_i+-, the mean return in T_i of U(theta +- sigma e_i, T_i): antithetic, with the same
            random numbers
4.      f <- centred ranks of all 2n, in -0.5..0.5
5.      theta <- Adam on the estimated gradient 1 / (2 n sigma) sum_i (f_i+ - f_i-) e_i
6.      all members' observations are merged into the moments; theta follows, so that policy and
        values stay what they are
    deploy U(theta, target)

evolution   evolution strategies alone, U does nothing: a control
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.stats import rankdata

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.learning.normalization import Moments, popart_inputs, popart_outputs
from isthmus.learning.ppo import PPO, PPOState
from isthmus.learning.settings import EvenInt, PositiveFloat, PositiveInt, Settings
from isthmus.methods.adaptation import GradientFewShot, update_seed
from isthmus.methods.method import MethodDefaults, State, fold_key, start_in_source
from isthmus.methods.operators import OPERATORS, Members, MemberUsage, Search, hill_climb
from isthmus.physics import random
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Episodes, Metrics, Transition, UnknownName, Worlds

EVALUATION_COUNTER = 2**32  # in place of an update's number, which it can never be
PAIRS_PER_SHARD = 4  # pairs whose worlds are one batch, and one process's; no bit depends on it


class ESState(NamedTuple):
    """What is evolved, and its optimizer."""

    center: PPOState  # theta, and the moments
    optimizer: Any  # of theta as a vector


class GainedMoments(NamedTuple):
    """Moments of one member's observations, and of its returns while it adapted."""

    obs_moments: Moments
    returns: Moments

    @staticmethod
    def of(s: PPOState) -> GainedMoments:
        """Return those of a learner's state."""
        return GainedMoments(s.obs_moments, s.returns)

    @staticmethod
    def empty(s: PPOState) -> GainedMoments:
        """Return moments of no rows, in the shapes of a learner's state."""
        return GainedMoments(*[Moments.empty(x.mean.shape) for x in GainedMoments.of(s)])

    def join(self, other: GainedMoments) -> GainedMoments:
        """Return the moments of the rows of both."""
        return GainedMoments(
            self.obs_moments.join(other.obs_moments), self.returns.join(other.returns)
        )


class Evaluated(NamedTuple):
    """What came of one member."""

    fitness: float
    gained: GainedMoments
    adapting: int  # steps
    playing: int


class Shard(NamedTuple):
    """Some pairs of a generation, all that is needed to evaluate them."""

    center: PPOState
    key: Array  # the run's
    generation: int
    pairs: tuple[int, ...]


class AntitheticPair(NamedTuple):
    """What the two members of a pair share: all but the sign of their noise."""

    task: np.ndarray  # (P,) dynamics
    noise: Array  # like theta
    seeds: tuple[int, int]  # of the worlds in which they adapt, and in which they are evaluated
    key: Array  # of their updates
    generation: int

    def worlds(self, domain: Domain, n: int, seed: int) -> Worlds:
        """Return n worlds of the pair's dynamics, at their begin."""
        return domain.worlds(n, seed, np.tile(self.task, (n, 1)))


def centred_ranks(fitness: np.ndarray) -> np.ndarray:
    """Return -0.5 for the least to 0.5 for the most; equal ones share theirs."""
    return (rankdata(fitness) - 1) / max(1, len(fitness) - 1) - 0.5


def draw_task(source: Domain, key: Array, generation: int, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the dynamics (P,) of a generation's i-th task, and the key that it was drawn by.

    The key, uint64 (1,), is of the run's `key`, the generation and i alone.
    """
    base = random.fold(np.array([int(key[0]) << 32 | int(key[1])], np.uint64), generation, i)
    return source.draw(base, np.ones(1, np.int64))[0], base


def concatenate_worlds(worlds: Sequence[Worlds]) -> Worlds:
    """Return all worlds as one batch, in order."""
    return jax.tree.map(lambda *x: np.concatenate(x), *worlds)


class PairMembers(Members):
    """The members of pairs, two each, in worlds of the source under their pair's dynamics."""

    def __init__(self, source: Domain, pairs: Sequence[AntitheticPair]):
        super().__init__(source)
        self.pairs = [pair for pair in pairs for _ in range(2)]

    def worlds(self, n: int, update: int) -> Worlds:
        """Return n worlds for each member to adapt in."""
        seeds = [update_seed(pair.seeds[0], update) for pair in self.pairs]
        return concatenate_worlds(
            [pair.worlds(self.domain, n, seed) for pair, seed in zip(self.pairs, seeds)]
        )

    def evaluation_worlds(self, n: int) -> Worlds:
        """Return n worlds for each member to be evaluated in."""
        return concatenate_worlds(
            [pair.worlds(self.domain, n, pair.seeds[1]) for pair in self.pairs]
        )

    def key(self, member: int, update: int) -> Array:
        """Return the key of a member's update; the two of a pair share theirs."""
        return jax.random.fold_in(self.pairs[member].key, update)


class AdaptingMembers(PairMembers):
    """Members that adapt, and the moments that each gains as it does."""

    def __init__(
        self, method: ESMAML, source: Domain, pairs: Sequence[AntitheticPair], s: PPOState
    ):
        super().__init__(source, pairs)
        self.learner = method.learner.with_num_worlds(method.adaptation_worlds)
        self._relabel = method.relabel_at(pairs[0].generation)
        self.gained = [GainedMoments.empty(s)] * len(self.pairs)

    def relabel(self, s: PPOState, tr: Transition) -> Transition:
        """Return what a member learns from, as of the pairs' generation."""
        return self._relabel(s, tr)

    def record(self, member: int, s: PPOState, tr: Transition) -> None:
        """Add an update's observations and returns to the member's moments."""
        blank = s._replace(**GainedMoments.empty(s)._asdict())
        of_update = GainedMoments.of(self.learner.observe(blank, tr))
        self.gained[member] = self.gained[member].join(of_update)


class Recording:
    """Observations of an evaluation's steps, and which worlds were in their first episode."""

    def __init__(self) -> None:
        self.observations: list[np.ndarray] = []
        self.alive: list[np.ndarray] = []

    def record(self, live: SteppedWorlds, done: int) -> None:
        """Take note of worlds before a step."""
        self.observations.append(live.state["observation"].astype(np.float32))
        self.alive.append(live.state["finished"] == 0)

    def of_members(self, count: int) -> list[np.ndarray]:
        """Return each member's observations (B, O) while its worlds were alive, in time's order."""
        observations, alive = np.stack(self.observations), np.stack(self.alive)
        shape = (len(alive), count, -1)
        alive = alive.reshape(shape)
        observations = observations.reshape(*alive.shape, observations.shape[-1])
        return [observations[:, m][alive[:, m]] for m in range(count)]


@dataclass(frozen=True)
class Evolution(Settings, MethodDefaults):
    """Evolution strategies over the uncertainty, without an inner loop: a control.

    It is the one that the abstract leaves out. The value function and the deviations drift with
    their noise: a fitness that is played by the policy's mean does not depend on them. Raises
    BadValue for a learner other than PPO, whose networks are evolved, or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.NONE})
    randomizes: ClassVar[bool] = True
    shares_rounds: ClassVar[bool] = True
    learner: PPO = field(default_factory=PPO)
    pairs: PositiveInt = 16
    sigma: PositiveFloat = 0.02
    outer_rate: PositiveFloat = 3e-3
    episodes: PositiveInt = 2  # of each fitness, by the policy's mean

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO):
            raise BadValue("this method evolves what PPO learns; leave learner=ppo")
        super().__post_init__()

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source under what is believed of the target."""
        return problem.randomized_source

    def policy(self, s: State) -> Any:
        """Return the policy of theta."""
        return self.learner.policy(s.learner.center)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.outer_rate)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Do box line 1."""
        s = start_in_source(self.learner, problem.randomized_source, seed, start)
        center = self.learner.warm_start(s.learner)
        theta, _ = ravel_pytree(center.networks)
        return s._replace(learner=ESState(center, self._adam.init(theta)), worlds=())

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do box lines 2 to 6, one generation."""
        return self.merge(s, [self.work(problem, shard) for shard in self.shards(s)])

    def shards(self, s: State) -> list[Shard]:
        """Return a generation's work in parts, for any process."""
        center = jax.tree.map(np.asarray, s.learner.center)
        numbers = range(self.pairs)
        parts = [
            numbers[first : first + PAIRS_PER_SHARD]
            for first in range(0, self.pairs, PAIRS_PER_SHARD)
        ]
        return [Shard(center, s.key, int(s.round), tuple(part)) for part in parts]

    def work(self, problem: Problem, shard: Shard) -> list[Evaluated]:
        """Do box lines 2 and 3, two members a pair."""
        source = problem.randomized_source
        pairs = [self.pair(source, shard, i) for i in shard.pairs]
        return self.evaluate(source, shard.center, pairs)

    def merge(self, s: State, results: Sequence[list[Evaluated]]) -> tuple[State, Metrics]:
        """Do box lines 4 to 6; the results are in the shards' order."""
        center, optimizer = s.learner
        theta, unravel = ravel_pytree(center.networks)
        members = list(itertools.chain.from_iterable(results))
        fitness = np.array([member.fitness for member in members]).reshape(-1, 2)
        # 4.
        ranks = centred_ranks(fitness.ravel()).reshape(-1, 2)
        # 5.
        slope = self._estimate_slope(s, ranks)
        move, optimizer = self._adam.update(-slope, optimizer, theta)
        center = center._replace(networks=unravel(optax.apply_updates(theta, move)))
        # 6.
        center = self._merge_moments(center, members)
        steps = sum(member.playing + member.adapting for member in members)
        s = s._replace(learner=ESState(center, optimizer), round=np.int64(s.round + 1))
        s = s._replace(source_steps=np.int64(s.source_steps + steps))
        return s, self._describe_generation(members, fitness, slope, move)

    def _describe_generation(
        self, members: Sequence[Evaluated], fitness: np.ndarray, slope: Array, move: Array
    ) -> Metrics:
        """Return a generation's metrics; fitness is (n, 2)."""
        return {
            "training_return": float(fitness.mean()),
            "fitness_best": float(fitness.max()),
            "fitness_sd": float(fitness.std()),
            "slope": float(jnp.linalg.norm(slope)),
            "moved": float(jnp.linalg.norm(move)),
            "episodes": float(fitness.size * self.episodes),
            "played_steps": float(sum(member.playing for member in members)),
        }

    def _estimate_slope(self, s: State, ranks: np.ndarray) -> Array:
        """Return box line 5's gradient, from ranks (n, 2)."""
        networks, generation = s.learner.center.networks, int(s.round)
        weights = jnp.asarray(ranks[:, 0] - ranks[:, 1], jnp.float32)
        noise = [self.noise(s.key, generation, i, networks) for i in range(self.pairs)]
        return weights @ jnp.stack(noise) / (2 * self.pairs * self.sigma)

    def _merge_moments(self, center: PPOState, members: Sequence[Evaluated]) -> PPOState:
        before = after = GainedMoments.of(center)
        for member in members:
            after = after.join(member.gained)
        networks = self.follow_moments(center.networks, before, after)
        return center._replace(networks=networks, **after._asdict())

    def follow_moments(self, networks: Any, before: GainedMoments, after: GainedMoments) -> Any:
        """Return networks that are the same policy and values under other moments.

        Without gradients nothing else would make up for these: within thirty generations they moved
        by half a deviation, where a policy of 2,750 in Hopper's box is worth 170.
        """
        actor = popart_inputs(networks.actor, before.obs_moments, after.obs_moments)
        critic = popart_inputs(networks.critic, before.obs_moments, after.obs_moments)
        critic = popart_outputs(critic, before.returns, after.returns)
        return networks._replace(actor=actor, critic=critic)

    def noise(self, key: Array, generation: int, i: int, networks: Any) -> Array:
        """Return e_i, of theta's size.

        Its key is the run, the generation and the pair alone, as of all that a pair draws.
        """
        size = sum(leaf.size for leaf in jax.tree.leaves(networks))
        return jax.random.normal(fold_key(key, 4, generation, i), (size,))

    def pair(self, source: Domain, shard: Shard, i: int) -> AntitheticPair:
        """Do box line 2."""
        key, generation = shard.key, shard.generation
        task, base = draw_task(source, key, generation, i)
        seeds = int(base[0]), int(random.fold(base, EVALUATION_COUNTER)[0])
        noise = self.noise(key, generation, i, shard.center.networks)
        return AntitheticPair(task, noise, seeds, fold_key(key, 3, generation, i), generation)

    def evaluate(
        self, source: Domain, center: PPOState, pairs: Sequence[AntitheticPair]
    ) -> list[Evaluated]:
        """Do box line 3: the members of `pairs`, theta + sigma e before theta - sigma e."""
        theta, unravel = ravel_pytree(center.networks)
        states = []
        for pair in pairs:
            for sign in (1, -1):
                networks = unravel(theta + sign * self.sigma * pair.noise)
                states.append(center._replace(networks=networks))
        states, gained, steps = self.adapt_members(states, source, pairs)
        worlds = PairMembers(source, pairs).evaluation_worlds(self.episodes)
        policies = [self.learner.policy(s) for s in states]
        recording = Recording()
        episodes = rollout_episodes(source, worlds, policies, recording.record)
        rows = recording.of_members(len(states))
        return self._collect_results(episodes, gained, rows, steps)

    def _collect_results(
        self,
        episodes: Episodes,
        gained: Sequence[GainedMoments],
        rows: Sequence[np.ndarray],
        steps: np.ndarray,
    ) -> list[Evaluated]:
        """Return a result for each member; its observations (B, O) join the moments it gained."""
        returns = episodes.returns.reshape(len(rows), -1)
        lengths = episodes.lengths.reshape(len(rows), -1)
        results = []
        for m, (moments, observations) in enumerate(zip(gained, rows, strict=True)):
            moments = moments._replace(obs_moments=moments.obs_moments.merge(observations))
            fitness, played = float(returns[m].mean()), int(lengths[m].sum())
            results.append(Evaluated(fitness, moments, int(steps[m]), played))
        return results

    def adapt_members(
        self, states: list[PPOState], source: Domain, pairs: Sequence[AntitheticPair]
    ) -> tuple[list[PPOState], list[GainedMoments], np.ndarray]:
        """Return the members after U, the moments each gained, and the steps (M,) U took of each.

        Here U does nothing.
        """
        count = len(states)
        return states, [GainedMoments.empty(states[0])] * count, np.zeros(count, np.int64)


@dataclass(frozen=True)
class ESMAML(GradientFewShot, Evolution):
    """U = K updates by `operator`: the learner's own on 4,096 steps each, the abstract's.

    Or another of ES-MAML's on `queries` episodes each, of actors perturbed by `radius`.
    """

    learner: PPO = field(default_factory=PPO)  # pyright: ignore[reportIncompatibleVariableOverride]
    operator: str = "ppo"
    queries: EvenInt = 4
    radius: PositiveFloat = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("ppo", *OPERATORS)
        if self.operator not in known:
            raise UnknownName("operator", self.operator, known)

    def check_update(self) -> None:
        """Raise BadValue where an update is too small; other operators know no minibatch."""
        if self.operator == "ppo":
            super().check_update()

    def learned(self, s: State) -> PPOState:
        """Return theta's state, from which adaptation begins."""
        return s.learner.center

    def relabel_at(self, generation: int) -> Callable[[PPOState, Transition], Transition]:
        """Return `relabel`, as of a generation."""
        return self.relabel

    def operate(self, states: list[Any], members: Members) -> tuple[list[Any], MemberUsage]:
        """Return the members after U, and what it took; in a target, by its meter."""
        if self.operator == "ppo":
            return super().operate(states, members)
        search = Search(OPERATORS[self.operator], self.queries, self.radius)
        return hill_climb(self.learner, states, members, self.updates, search)

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        """Return the most that adapting may take of a target, and the settings that decide it."""
        if self.operator == "ppo":
            return super().max_usage(target)
        episodes = self.updates * self.queries
        return episodes * target.time_limit, episodes, "updates or queries"

    def adapt_members(
        self, states: list[PPOState], source: Domain, pairs: Sequence[AntitheticPair]
    ) -> tuple[list[PPOState], list[GainedMoments], np.ndarray]:
        """Return the members after U, the moments each gained, and the steps (M,) that it took."""
        members = AdaptingMembers(self, source, pairs, states[0])
        states, taken = self.operate(states, members)
        return states, members.gained, taken.steps
