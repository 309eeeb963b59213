"""Meta-learning by evolution strategies with PPO as the adaptation (ES-sim2real, Spigler and
Dalbagno; ES-MAML, Song et al. 2019, arXiv 1910.01215).

    input: source, uncertainty p(T), n pairs, sigma; U = K PPO updates, or another operator
1.  theta <- initialize (policy, deviations, value function), or --start
    for each generation:
        for i = 1..n:
2.          T_i ~ p(T), e_i ~ N(0, I)
3.          f_i+-, the mean return in T_i of U(theta +- sigma e_i, T_i): antithetic, with the same random numbers
4.      f <- centred ranks of all 2n, in -0.5..0.5
5.      theta <- Adam on the estimated gradient 1 / (2 n sigma) sum_i (f_i+ - f_i-) e_i
6.      what all members saw is merged into the moments; theta follows, so that policy and values stay what they are
    deploy U(theta, target)

evolution   evolution strategies alone, U does nothing: a control
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.learning.learner import ABOVE_ZERO, EVEN, WHOLE, check_settings
from isthmus.learning.normalization import Moments, popart_inputs, popart_outputs
from isthmus.learning.ppo import PPO, PPOState
from isthmus.methods.adaptation import GradientFewShot, update_seed
from isthmus.methods.method import NoAdaptation, State, fold_key, start_in_source
from isthmus.methods.operators import OPERATORS, Pay, hill_climb
from isthmus.physics import random
from isthmus.problems.problem import Access, Problem
from isthmus.types import Array, BadValue, Metrics, UnknownName, Worlds

EVALUATION_COUNTER = 2**32  # in place of an update's number, which it can never be
PAIRS_PER_SHARD = 4  # pairs whose worlds are one batch, and one process's; no bit depends on it


class ESState(NamedTuple):
    center: PPOState  # theta, and the moments
    optimizer: Any  # of theta as a vector


class Evaluated(NamedTuple):
    """What came of one member."""

    fitness: float
    gained: tuple[Moments, ...]  # of what it saw, and of returns while it adapted
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
    seeds: tuple[int, int]  # of the worlds that they adapt in, and of those that they are judged in
    key: Array  # of their updates
    generation: int


def centred_ranks(fitness: np.ndarray) -> np.ndarray:
    """-0.5 for the least to 0.5 for the most; equal ones share theirs."""
    below, least = (
        np.less(fitness[None], fitness[:, None]).sum(1),
        np.less_equal(fitness[None], fitness[:, None]),
    )
    return (below + least.sum(1) - 1) / 2 / max(1, len(fitness) - 1) - 0.5


MOMENTS = ("obs_moments", "returns")


def moments_of(s: PPOState) -> tuple[Moments, ...]:
    return s.obs_moments, s.returns


def no_episodes(s: PPOState) -> tuple[Moments, ...]:
    """Moments of no rows, as a state has them."""
    return tuple(Moments.empty(moments.mean.shape) for moments in moments_of(s))


def merge_gained_moments(gained: tuple[Moments, ...], rows: np.ndarray) -> tuple[Moments, ...]:
    """With observations (B, O) that came of playing."""
    observations, *others = gained
    return observations.merge(rows), *others


def joined(worlds: list[Worlds]) -> Worlds:
    return jax.tree.map(lambda *x: np.concatenate(x), *worlds)


@dataclass(frozen=True)
class Evolution(NoAdaptation):
    """Evolution strategies over the uncertainty, without an inner loop: the control that the
    abstract leaves out.

    The value function and the deviations drift with
    their noise: a fitness that is played by the policy's mean does not depend on them. Raises
    BadValue for a learner other than PPO, whose networks are evolved, or a number that cannot be.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.NONE})
    learner: PPO = field(default_factory=PPO)
    pairs: int = 16
    sigma: float = 0.02
    outer_rate: float = 3e-3
    episodes: int = 2  # of each fitness, by the policy's mean

    def __post_init__(self) -> None:
        if not isinstance(self.learner, PPO):
            raise BadValue("this method evolves what PPO learns; leave learner=ppo")
        check_settings(self, (("pairs", "episodes"), WHOLE), (("sigma", "outer_rate"), ABOVE_ZERO))

    def trained_in(self, problem: Problem) -> Domain:
        return problem.randomized_source

    def policy(self, s: State) -> Any:
        return self.learner.policy(s.learner.center)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.outer_rate)

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """1."""
        s = start_in_source(self.learner, problem.randomized_source, seed, start)
        center = self.learner.warm_start(s.learner)
        theta, _ = ravel_pytree(center.networks)
        return s._replace(learner=ESState(center, self._adam.init(theta)), worlds=())

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        return self.merge(s, [self.work(problem, shard) for shard in self.shards(s)])

    def shards(self, s: State) -> list[Shard]:
        """A generation's work in parts, for any process."""
        center = jax.tree.map(np.asarray, s.learner.center)
        parts = [
            range(at, min(at + PAIRS_PER_SHARD, self.pairs))
            for at in range(0, self.pairs, PAIRS_PER_SHARD)
        ]
        return [Shard(center, s.key, int(s.round), tuple(part)) for part in parts]

    def work(self, problem: Problem, shard: Shard) -> list[Evaluated]:
        """3., two members a pair."""
        return self.evaluate(
            problem.randomized_source,
            shard.center,
            [self.pair(problem.randomized_source, shard, i) for i in shard.pairs],
        )

    def merge(self, s: State, results: Sequence[list[Evaluated]]) -> tuple[State, Metrics]:
        """4. to 6.; the results in the shards' order."""
        center, optimizer = s.learner
        theta, unravel = ravel_pytree(center.networks)
        found = [each for result in results for each in result]
        fitness = np.array([each.fitness for each in found]).reshape(-1, 2)
        # 4.
        ranks = centred_ranks(fitness.ravel()).reshape(-1, 2)
        # 5.
        weights = jnp.asarray(ranks[:, 0] - ranks[:, 1], jnp.float32)
        noise = jnp.stack(
            [self.noise(s.key, int(s.round), i, center.networks) for i in range(self.pairs)]
        )
        slope = weights @ noise / (2 * self.pairs * self.sigma)
        move, optimizer = self._adam.update(-slope, optimizer, theta)
        center = center._replace(networks=unravel(optax.apply_updates(theta, move)))
        # 6.
        before = moments_of(center)
        for each in found:
            center = center._replace(
                **dict(
                    zip(MOMENTS, map(Moments.join, moments_of(center), each.gained), strict=True)
                )
            )
        center = center._replace(
            networks=self.following(center.networks, before, moments_of(center))
        )
        played = sum(each.playing for each in found)
        steps = played + sum(each.adapting for each in found)
        return s._replace(
            learner=ESState(center, optimizer), round=np.int64(s.round + 1),
            source_steps=np.int64(s.source_steps + steps),
        ), {
            "training_return": float(fitness.mean()), "fitness_best": float(fitness.max()),
            "fitness_sd": float(fitness.std()), "slope": float(jnp.linalg.norm(slope)),
            "moved": float(jnp.linalg.norm(move)), "episodes": float(fitness.size * self.episodes),
            "played_steps": float(played),
        }  # fmt: skip

    def following(
        self, networks: Any, before: tuple[Moments, ...], after: tuple[Moments, ...]
    ) -> Any:
        """The same policy and values under other moments. Without gradients nothing else would make
        up for these: within thirty generations they moved by half a deviation, where a policy of
        2,750 in Hopper's box is worth 170.
        """
        (seen, returns), (now_seen, now_returns) = before, after
        actor, critic = (
            popart_inputs(network, seen, now_seen) for network in (networks.actor, networks.critic)
        )
        return networks._replace(actor=actor, critic=popart_outputs(critic, returns, now_returns))

    def noise(self, key: Array, generation: int, i: int, networks: Any) -> Array:
        """e_i, theta's size, keyed by the run, the generation and the pair alone, as all that a
        pair draws.
        """
        size = sum(leaf.size for leaf in jax.tree.leaves(networks))
        return jax.random.normal(fold_key(key, 4, generation, i), (size,))

    def pair(self, believed: Domain, shard: Shard, i: int) -> AntitheticPair:
        """2."""
        key, generation = shard.key, shard.generation
        base = random.fold(np.array([int(key[0]) << 32 | int(key[1])], np.uint64), generation, i)
        task = believed.draw(base, np.ones(1, np.int64))[0]
        seeds = int(base[0]), int(random.fold(base, EVALUATION_COUNTER)[0])
        noise = self.noise(key, generation, i, shard.center.networks)
        return AntitheticPair(task, noise, seeds, fold_key(key, 3, generation, i), generation)

    def evaluate(
        self, believed: Domain, center: PPOState, pairs: Sequence[AntitheticPair]
    ) -> list[Evaluated]:
        """3. The members of `pairs`, theta + sigma e before theta - sigma e."""
        theta, unravel = ravel_pytree(center.networks)
        twice = [pair for pair in pairs for _ in range(2)]
        moved = [theta + sign * self.sigma * pair.noise for pair in pairs for sign in (1, -1)]
        members = [center._replace(networks=unravel(each)) for each in moved]
        members, gained, steps = self.adapted(members, believed, twice)
        worlds = joined([believed.worlds(self.episodes, pair.seeds[1], np.tile(pair.task, (self.episodes, 1)))
                         for pair in twice])  # fmt: skip
        seen: list[np.ndarray] = []
        alive: list[np.ndarray] = []

        def watch(live: SteppedWorlds, done: int) -> None:
            seen.append(live.state["observation"].astype(np.float32))
            alive.append(live.state["finished"] == 0)

        played = rollout_episodes(
            believed, worlds, [self.learner.policy(member) for member in members], watch
        )
        saw, living = (
            np.stack(x).reshape(len(x), len(members), self.episodes, *x[0].shape[1:])
            for x in (seen, alive)
        )
        returns, lengths = (x.reshape(len(members), -1) for x in (played.returns, played.lengths))
        return [
            Evaluated(
                float(returns[m].mean()), merge_gained_moments(gained[m], saw[:, m][living[:, m]]), int(steps[m]),
                int(lengths[m].sum()),
            )
            for m in range(len(members))
        ]  # fmt: skip

    def adapted(
        self, members: list[PPOState], believed: Domain, pairs: Sequence[AntitheticPair]
    ) -> tuple[list[PPOState], list[tuple[Moments, ...]], np.ndarray]:
        """U: the members after it, what it adds to the moments of each, and the steps (M,) that it
        took of each.
        """
        return members, [no_episodes(members[0])] * len(members), np.zeros(len(members), np.int64)


@dataclass(frozen=True)
class ESMAML(GradientFewShot, Evolution):
    """U = K updates by `operator`: the learner's own on 4,096 steps each, the abstract's, or
    another of ES-MAML's on `queries` episodes each, of actors perturbed by `radius`.
    """

    operator: str = "ppo"
    queries: int = 4
    radius: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, (("queries",), EVEN), (("radius",), ABOVE_ZERO))
        if self.operator not in (known := ("ppo", *OPERATORS)):
            raise UnknownName("operator", self.operator, known)

    def check_update(self) -> None:
        if self.operator == "ppo":  # the others know no minibatch
            super().check_update()

    def learned(self, s: State) -> PPOState:
        return s.learner.center

    def pay(self, generation: int) -> Pay:
        """What a member learns from."""
        return self.paid

    def operate(self, members, domain, begin, key, pay, watch=None, meter=None):
        if self.operator == "ppo":
            return super().operate(members, domain, begin, key, pay, watch, meter)
        operator = OPERATORS[self.operator]
        return hill_climb(
            self.learner,
            members,
            domain,
            begin,
            self.updates,
            self.queries,
            self.radius,
            operator,
            key,
            meter,
        )

    def max_usage(self, target: Domain) -> tuple[int, int, str]:
        if self.operator == "ppo":
            return super().max_usage(target)
        episodes = self.updates * self.queries
        return episodes * target.time_limit, episodes, "updates or queries"

    def adapted(self, members, believed, pairs):
        gained = [no_episodes(member) for member in members]

        def watch(m: int, before: PPOState, tr: Any) -> None:
            blank = before._replace(**dict(zip(MOMENTS, no_episodes(before), strict=True)))
            seen = self.learner.with_num_worlds(self.adaptation_worlds).observe(blank, tr)
            gained[m] = tuple(map(Moments.join, gained[m], moments_of(seen)))

        begin = lambda n, update: joined(
            [
                believed.worlds(n, update_seed(pair.seeds[0], update), np.tile(pair.task, (n, 1)))
                for pair in pairs
            ]
        )
        key = lambda m, update: jax.random.fold_in(pairs[m].key, update)
        members, taken = self.operate(
            members, believed, begin, key, self.pay(pairs[0].generation), watch
        )
        return members, gained, taken.steps
