"""System identification: fit the simulator to the target, train in what was fitted.

    the target is known by a log D (access dataset):
1.  p(xi | D) <- least squares on predictions of D: values, and the law of their errors
    repeat:
2.      collect in the source, dynamics drawn per task from p(xi | D);  3. learn
    deploy as it is

    the target may be moved (access online), after SimOpt (Chebotar et al. 2019) with least squares
    in the place of its distance between trajectories; every `interval` source steps:
1.  D <- `transitions` in the target by the newest policy, metered;  p(xi | D) as above, from the
    last values
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from isthmus.domains.domain import Domain
from isthmus.identification.fit import Fit
from isthmus.identification.identify import identify
from isthmus.identification.log_space import choose_parameters
from isthmus.learning.learner import Learner
from isthmus.learning.ppo import PPO
from isthmus.learning.settings import NonNegativeInt, PositiveInt, Settings
from isthmus.logs.log import Log
from isthmus.logs.record import make_log
from isthmus.methods.method import (
    MethodDefaults,
    SourceAndTarget,
    State,
    source_round,
    start_in_source,
)
from isthmus.problems.problem import Access, Problem
from isthmus.types import BadValue, BudgetExceeded, Metrics, Worlds

FIT_WORLDS = 8  # of the target, in which a fit's transitions are collected


class Identified(NamedTuple):
    """What is learned: the policy, and the law of the dynamics in which it learns."""

    learner: Any
    law: np.ndarray  # uint8, the text of the fitted law: settings of the source
    fits: np.int64  # so far


@dataclass(frozen=True)
class SystemIdentification(Settings, MethodDefaults):
    """Fit the source to a log of the target, train in the posterior of the fit.

    `parameters` are names and patterns, comma-separated; none: those of the whole robot. `horizon`
    is the steps of a segment, 0: by what one step leaves (see `isthmus identify`). `interval` and
    `transitions` are the source steps between two fits and the target steps of each, with access
    online; a fit that the budget does not allow is left out.
    """

    accepts: ClassVar[frozenset[Access]] = frozenset({Access.DATASET, Access.ONLINE})
    explores: ClassVar[bool] = True
    learner: Learner[Any] = field(default_factory=PPO)
    parameters: str = ""
    horizon: NonNegativeInt = 0
    max_delay: NonNegativeInt = 2
    interval: PositiveInt = 100_000
    transitions: PositiveInt = 2_048

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learner.privileged:
            raise BadValue(
                "system_identification's dynamics are fitted on the way, which a privileged critic "
                "cannot see; learner.privileged=False"
            )

    def trained_in(self, problem: Problem) -> Domain:
        """Return the source; where in it, the fit decides."""
        return problem.source

    def init(self, problem: Problem, seed: int, start: Any = None) -> State:
        """Return the state before the first round; a log is fitted now."""
        self.learner.check_rollout_shape(*self.learner.rollout_shape)
        choose_parameters(problem.source.table(), self._names)
        law = ""
        if problem.access == Access.DATASET:
            # 1.
            law = self._fit(problem.source, problem.log()).law()
        domain = change_source(problem.source, law)
        s = start_in_source(self.learner, domain, seed, start)
        learned = Identified(s.learner, write_law(law), np.int64(bool(law)))
        return s._replace(learner=learned, worlds=SourceAndTarget(s.worlds, None))

    def step(self, problem: Problem, s: State) -> tuple[State, Metrics]:
        """Do one round of the box."""
        if problem.access == Access.ONLINE and self._is_due(s):
            # 1.
            s = self._fit_anew(problem, s)
        domain = change_source(problem.source, read_law(s.learner.law))
        # 2. and 3.
        alone = s._replace(learner=s.learner.learner, worlds=s.worlds.source)
        after, metrics = source_round(self.learner, domain, alone)
        learned = s.learner._replace(learner=after.learner)
        worlds = s.worlds._replace(source=after.worlds)
        metrics["fits"] = float(s.learner.fits)
        return after._replace(learner=learned, worlds=worlds), metrics

    def _is_due(self, s: State) -> bool:
        return int(s.source_steps) // self.interval > int(s.phase)

    def _fit(self, source: Domain, log: Log) -> Fit:
        horizon = self.horizon or None
        return identify(source, log, self._names, horizon=horizon, max_delay=self.max_delay)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(filter(None, self.parameters.split(",")))

    def _fit_anew(self, problem: Problem, s: State) -> State:
        """Collect in the target, fit, and begin anew in what was fitted.

        The phase counts the times at which a fit was due.
        """
        s = s._replace(phase=np.int64(int(s.source_steps) // self.interval))
        behaviour = self.behaviour(s)
        steps = -(-self.transitions // FIT_WORLDS)
        try:
            usage, worlds = s.usage, s.worlds.target
            if worlds is None:
                seed = int(s.key[-1])
                usage, worlds = problem.target_worlds(usage, FIT_WORLDS, seed, batch=steps)
            usage, worlds, tr = problem.collect(usage, worlds, behaviour, steps)
        except BudgetExceeded:
            return s
        # The target's reward is not used, and nothing of it stays.
        worlds = worlds._replace(returns=np.zeros(worlds.size))
        tr = tr._replace(reward=np.zeros_like(tr.reward))
        s = s._replace(usage=usage, worlds=s.worlds._replace(target=worlds))
        try:
            fit = self._fit(problem.source, make_log(tr))
        except BadValue:  # it explains nothing
            return s
        return self._move(problem, s, fit.law())

    def _move(self, problem: Problem, s: State, law: str) -> State:
        """Return the state in worlds of another law."""
        domain = change_source(problem.source, law)
        n, _ = self.learner.rollout_shape
        source: Worlds = domain.worlds(n, int(s.key[-1]) + int(s.phase))
        learned = Identified(
            self.learner.warm_start(s.learner.learner),
            write_law(law),
            np.int64(s.learner.fits + 1),
        )
        return s._replace(learner=learned, worlds=s.worlds._replace(source=source))

    def policy(self, s: State) -> Any:
        """Return the policy that is deployed."""
        return self.learner.policy(s.learner.learner)

    def behaviour(self, s: State) -> Any:
        """Return the policy as it explores."""
        return self.learner.behaviour(s.learner.learner)

    def learner_state(self, s: State) -> Any:
        """Return the learner's part: what another run may start from."""
        return s.learner.learner


@lru_cache(maxsize=8)
def change_source(source: Domain, law: str) -> Domain:
    """Return the source under a fitted law."""
    return source.shift(law)


def write_law(text: str) -> np.ndarray:
    """Return a text as an array of a state."""
    return np.frombuffer(text.encode(), np.uint8).copy()


def read_law(law: np.ndarray) -> str:
    """Return the text of `write_law`."""
    return np.asarray(law, np.uint8).tobytes().decode()
