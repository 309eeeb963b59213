"""The contract of a method, and what all of them share: one state shape, one way to run a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Metrics, Worlds


class State(NamedTuple):
    """All that a run's future depends on: one tree of arrays."""

    learner: Any
    worlds: Any  # Worlds, or a tree of several
    key: Array  # the run's own; rounds fold it with their number
    phase: np.int64
    round: np.int64  # of this phase
    source_steps: np.int64
    usage: TargetUsage  # what was taken from the target


class SourceAndTarget(NamedTuple):
    """The worlds of a method that steps source and target side by side; no target where it is known
    by its log.
    """

    source: Worlds
    target: Any


class Method(Protocol):
    """One algorithm box. Everything else (progress, evaluation, logging, checkpoints, budgets) is
    the training loop's.

    `accepts` says which access suffices; a method that accepts `none` runs on every problem.

    A method whose round is work that several processes can share says so by three more functions,
    and its step is `merge(s, [work(problem, shard) for shard in shards(s)])`: `shards(s)`, parts of
    a round, picklable; `work`, a pure function that simulates and never touches the target;
    `merge`, which takes the results in the shards' order.
    """

    accepts: frozenset[Access]
    adapts: bool  # whether `adapt` does anything
    has_source_action: bool  # whether what acts in the source is not what is deployed

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """State before the first round; `start` is the learner's state of another run to begin
        from, or None.
        """
        ...

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """One round of the box."""
        ...

    def policy(self, s: State) -> Any:
        """What is deployed."""
        ...

    def source_policy(self, s: State) -> Any:
        """What runs in the source: the deployed policy, but where a method has an action for each."""
        ...

    def trained_in(self, problem: Problem) -> Domain:
        """Where the deployed policy learned: a landscape draws its box."""
        ...

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[Sequence[Any], TargetUsage]:
        """One policy for each of M targets, dynamics (M, P) of `target`, and what adapting took
        from each of them.
        """
        ...


class NoAdaptation:
    """The default: the deployed policy is the same everywhere and touches no target."""

    adapts: ClassVar[bool] = False
    has_source_action: ClassVar[bool] = False

    def policy(self, s: State) -> Any:
        raise NotImplementedError

    def source_policy(self, s: State) -> Any:
        return self.policy(s)

    def adapt(self, s, problem, target, parameters, seed):
        return [self.policy(s)], TargetUsage()


def initial_state(seed: int, learner: Any, worlds: Worlds, book: TargetUsage) -> State:
    """A state before its first round; the run's key comes from its seed."""
    key = np.asarray(jax.random.key_data(jax.random.key(seed)))
    return State(learner, worlds, key, np.int64(0), np.int64(0), np.int64(0), book)


def fold_key(key: Array, *counters: int) -> Array:
    """A typed key for one purpose of one round."""
    out = jax.random.wrap_key_data(jax.numpy.asarray(key, np.uint32))
    for counter in counters:
        out = jax.random.fold_in(out, counter)
    return out


def start_in_source(learner: Any, domain: Domain, seed: int, start: Any = None) -> State:
    """Worlds of `domain`, and a learner that is new and fed by random steps, or that `start`s where
    another stopped.
    """
    n, steps = learner.rollout_shape
    s = initial_state(seed, None, domain.worlds(n, seed), TargetUsage())
    if start is not None:
        return s._replace(learner=learner.warm_start(start))
    new = learner.init(domain.spaces, fold_key(s.key, 0))
    worlds, tr = rollout_steps(domain, s.worlds, learner.random(new), steps)
    return s._replace(
        learner=learner.observe(new, tr), worlds=worlds, source_steps=np.int64(n * steps)
    )


def check_dynamics(learner: Any, first: Domain, second: Domain) -> None:
    """Raise BadValue where a learner that sees the dynamics, by their place, would go on in a
    domain of other ones.
    """
    if learner.privileged and first.names != second.names:
        raise BadValue(
            f"a privileged critic that learned in {first} cannot go on in {second}, which sets "
            "other parameters; "
            "set the same ones in both, or learner.privileged=False"
        )


def learn(learner: Any, s: State, before: Worlds, worlds: Worlds, tr: Any) -> tuple[State, Metrics]:
    """The learner's part of a round, and the round's metrics."""
    state, metrics = learner.learn(s.learner, tr, fold_key(s.key, 1, int(s.phase), int(s.round)))
    returns = finished_returns(before, tr)
    if len(returns):
        metrics["training_return"] = float(returns.mean())
    metrics["episodes"] = float(len(returns))
    return s._replace(learner=state, worlds=worlds, round=np.int64(s.round + 1)), metrics


def hold_moments(before: Any, after: Any) -> Any:
    """Return a learner's state `after` a round in worlds that it crossed to, with the observation
    moments of `before`.

    Under moments that go on merging there the policy would change without having learned: its
    weights do not follow them. A learner that normalizes no observations has none.
    """
    return (
        after._replace(obs_moments=before.obs_moments) if hasattr(after, "obs_moments") else after
    )


def source_round(learner: Any, domain: Domain, s: State) -> tuple[State, Metrics]:
    """Collect in a simulated domain, learn."""
    n, steps = learner.rollout_shape
    worlds, tr = rollout_steps(domain, s.worlds, learner.behaviour(s.learner), steps)
    s, metrics = learn(learner, s, s.worlds, worlds, tr)
    return s._replace(source_steps=np.int64(s.source_steps + n * steps)), metrics


def target_round(learner: Any, problem: Problem, s: State) -> tuple[State, Metrics]:
    """Collect in the target through the meter, learn. From phase 1 on the learner has crossed to it
    from elsewhere.
    """
    _, steps = learner.rollout_shape
    before = s.learner
    book, worlds, tr = problem.collect(s.usage, s.worlds, learner.behaviour(before), steps)
    s, metrics = learn(learner, s, s.worlds, worlds, tr)
    if s.phase:
        s = s._replace(learner=hold_moments(before, s.learner))
    return s._replace(usage=book), metrics
