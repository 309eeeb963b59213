"""Trials: what a study runs, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SCALE_NAMES = ("smoke", "laptop", "paper")


@dataclass(frozen=True)
class Trial:
    """One training and its final evaluation. `landscapes` maps a name to the grid's settings.

    `start` names the trial whose finished run this one starts from, `start_at="best"` from that
    run's best evaluation in the source instead of its end. `beside` names one that it is measured
    against, `log` one whose policy logs the target for it: `log_steps` transitions, of which it is
    given those that `log_size` selects.
    """

    name: str
    method: str
    problem: str
    seed: int
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    access: str | None = None
    uncertainty: str = ""  # of the problem, where it has none of its own
    start: str | None = None
    start_at: str = ""
    beside: str | None = None
    log: str | None = None
    log_steps: int = 20_000
    log_size: str = ""  # as in `isthmus.logs.paths`: ":5000", ":1episode"
    evaluations: int | None = None  # in training
    evaluation_episodes: int | None = None
    episodes: int = 100  # final evaluation, in either domain
    landscapes: dict[str, str] = field(default_factory=dict)
    landscape_episodes: int = 10

    @property
    def logged(self) -> dict[str, Any]:
        """What its file records of its log; empty where it has none."""
        if not self.log:
            return {}
        return {"log": self.log, "log_steps": self.log_steps, "log_size": self.log_size}

    @property
    def drawn(self) -> dict[str, Any]:
        """What its file records of its uncertainty; empty where that is the problem's."""
        return {"uncertainty": self.uncertainty} if self.uncertainty else {}

    @property
    def needs(self) -> set[str]:
        """Trials whose finished runs must be there before this one."""
        return {*filter(None, (self.start, self.beside, self.log))}


@dataclass(frozen=True)
class Measurement:
    """A trial that trains no policy: `function(seed, **given)`, a module's, gives the measures of
    its file.
    """

    name: str
    function: Callable[..., dict[str, float]]
    seed: int
    given: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    needs: frozenset[str] = frozenset()


AnyTrial = Trial | Measurement


class TrialName(NamedTuple):
    """The parts of a name like "laptop-hopper-dap-s0", or without experiment "laptop-rl2-s0"."""

    scale: str
    experiment: str
    approach: str
    seed: int


def parse_trial_name(name: str) -> TrialName:
    """Split a trial's name into its parts."""
    head, approach, seed = name.rsplit("-", 2)
    scale, _, experiment = head.partition("-")
    return TrialName(scale, experiment, approach, int(seed[1:]))
