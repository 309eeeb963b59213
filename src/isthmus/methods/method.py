"""The contract of a method, and what all of them share: one state shape, one way to run a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from isthmus.domains.domain import Domain
from isthmus.domains.rollout import finished_returns, rollout_steps
from isthmus.learning.learner import Learner
from isthmus.problems.problem import Access, Problem, TargetUsage
from isthmus.types import Array, BadValue, Metrics, Worlds

L = TypeVar("L")  # a learner's state, or what a method holds around it


class State(NamedTuple, Generic[L]):
    """All that a run's future depends on: one tree of arrays."""

    learner: L
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
    target: Worlds | None


class Method(Protocol[L]):
    """One algorithm box. Everything else (progress, evaluation, logging, checkpoints, budgets) is
    the training loop's.

    A method accepts the kinds of access that suffice for it; one that accepts `none` runs on every
    problem. What a method may leave out has its default in `MethodDefaults`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # its settings: a method is a frozen dataclass
    accepts: ClassVar[frozenset[Access]]
    adapts: ClassVar[bool]  # whether `adapt` does anything
    explores: ClassVar[bool]  # whether there is an exploring policy, `behaviour`
    has_source_action: ClassVar[bool]  # whether what acts in the source is not what is deployed
    randomizes: ClassVar[bool]  # whether dynamics are drawn from the problem's uncertainty
    shares_rounds: ClassVar[bool]  # whether processes can share a round: `shards`, `work`, `merge`
    takes_start: ClassVar[bool]  # whether `init` takes another run's learner

    @property
    def learner(self) -> Learner:
        """Return the learner, a frozen dataclass of settings."""
        ...

    @property
    def pretraining(self) -> int:
        """Return the source steps of a first phase; 0 where the method has none."""
        ...

    def init(self, problem: Problem, seed: int, start: Any = None) -> State[L]:
        """Return the state before the first round.

        `start` is the learner's state of another run to begin from, or None.
        """
        ...

    def step(self, problem: Problem, s: State[L]) -> tuple[State[L], Metrics]:
        """Do one round of the box."""
        ...

    def policy(self, s: State[L]) -> Any:
        """Return what is deployed."""
        ...

    def source_policy(self, s: State[L]) -> Any:
        """Return what runs in the source: the deployed policy, but where there is an action for
        each.
        """
        ...

    def behaviour(self, s: State[L]) -> Any:
        """Return the policy as it explores, where the method `explores`."""
        ...

    def learner_state(self, s: State[L]) -> Any:
        """Return the learner's part of what the method holds: what another run may start from."""
        ...

    def trained_in(self, problem: Problem) -> Domain:
        """Return where the deployed policy learned: a landscape draws its box."""
        ...

    def adapt(
        self, s: State[L], problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[Sequence[Any], TargetUsage]:
        """Return one policy for each of M targets, dynamics (M, P) of `target`, and what adapting
        took from each of them.
        """
        ...

    def shards(self, s: State[L]) -> Sequence[Any]:
        """Return the parts of a round, picklable.

        A step is `merge(s, [work(problem, shard) for shard in shards(s)])`.
        """
        ...

    def work(self, problem: Problem, shard: Any) -> Any:
        """Do one part: a pure function that simulates and never touches the target."""
        ...

    def merge(self, s: State[L], results: Sequence[Any]) -> tuple[State[L], Metrics]:
        """Return the state after a round, from the parts' results in the shards' order."""
        ...


class MethodDefaults:
    """What a method has that says nothing else: it deploys one policy everywhere, touches no target
    to adapt, and does its rounds in one process.
    """

    adapts: ClassVar[bool] = False
    explores: ClassVar[bool] = False
    has_source_action: ClassVar[bool] = False
    randomizes: ClassVar[bool] = False
    shares_rounds: ClassVar[bool] = False
    takes_start: ClassVar[bool] = True
    pretraining: int = 0  # a method that has a first phase makes it a setting

    def policy(self, s: State) -> Any:
        """Return what is deployed."""
        raise NotImplementedError

    def source_policy(self, s: State) -> Any:
        """Return what runs in the source: the deployed policy."""
        return self.policy(s)

    def behaviour(self, s: State) -> Any:
        """Return the policy as it explores."""
        raise NotImplementedError

    def learner_state(self, s: State) -> Any:
        """Return the learner's part of what the method holds: all of it."""
        return s.learner

    def adapt(
        self, s: State, problem: Problem, target: Domain, parameters: np.ndarray, seed: int
    ) -> tuple[Sequence[Any], TargetUsage]:
        """Return the deployed policy, which takes nothing of any target."""
        return [self.policy(s)], TargetUsage()

    def shards(self, s: State) -> Sequence[Any]:
        """Return the parts of a round."""
        raise NotImplementedError

    def work(self, problem: Problem, shard: Any) -> Any:
        """Do one part of a round."""
        raise NotImplementedError

    def merge(self, s: State, results: Sequence[Any]) -> tuple[State, Metrics]:
        """Return the state after a round."""
        raise NotImplementedError


def initial_state(seed: int, learner: Any, worlds: Worlds, usage: TargetUsage) -> State:
    """A state before its first round; the run's key comes from its seed."""
    key = np.asarray(jax.random.key_data(jax.random.key(seed)))
    return State(learner, worlds, key, np.int64(0), np.int64(0), np.int64(0), usage)


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
    usage, worlds, tr = problem.collect(s.usage, s.worlds, learner.behaviour(before), steps)
    s, metrics = learn(learner, s, s.worlds, worlds, tr)
    if s.phase:
        s = s._replace(learner=hold_moments(before, s.learner))
    return s._replace(usage=usage), metrics
