"""What a log covers: its episodes, the states and actions that were seen, how far they are from a
policy of the source.

A method that learns from a log knows of the target what was seen there, and no more. Actions are
held against what the policy would have done in the log's own states, states against those that it
meets in the source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.audit.audit import observe_domain
from isthmus.domains.domain import Domain
from isthmus.domains.rollout import act, repeated
from isthmus.logs.datasets import DataSet, Log, origin, record_log
from isthmus.logs.margins import note_other_margins
from isthmus.types import BadValue

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
MIN_TRANSITIONS = 1000  # transitions
MAX_SOURCE_STEPS = 5000  # transitions of the policy in the source
MADE_BY_UNKNOWN = "unknown: the file does not say"


@dataclass(frozen=True)
class ColumnSummary:
    """An observed number, or an action: its QUANTILES in the log.

    Of a number, `away` is the log's mean minus the source's, in standard deviations of the source's
    (NaN: it never changes there). Of an action, `at_bounds` is the share of it at the motor's
    bounds, and `away` the mean distance to the policy's in half ranges, beside `noise`, the same of
    the policy's own exploring in the source.
    """

    name: str
    quantiles: tuple[float, ...]
    away: float | None = None
    at_bounds: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Coverage:
    """What `coverage` found; `lines()` says it. `returns` and `lengths` are of the whole episodes
    (of all, if none is).

    An episode is whole if it ended in a fall or at the time limit; one that was cut short has no
    return.
    """

    text: str
    domain: str
    made_by: str
    made_in: str
    transitions: int
    episodes: int
    whole: int
    falls: int
    seconds: float  # NaN where a step's length is not known
    returns: np.ndarray
    lengths: np.ndarray
    states: tuple[ColumnSummary, ...]
    actions: tuple[ColumnSummary, ...]
    notes: tuple[str, ...]

    @property
    def distance(self) -> float | None:
        """Mean over transitions and actions of |a - pi(s)| in half ranges; None without a policy."""
        away = [each.away for each in self.actions if each.away is not None]
        return float(np.mean(away)) if away else None

    def lines(self) -> list[str]:
        cut = self.episodes - self.whole
        ends = [f"{self.falls} fell"] * bool(self.falls) + [f"{cut} cut short"] * bool(cut)
        time = "an unknown time" if math.isnan(self.seconds) else f"{self.seconds:,.0f} s"
        held = f"{self.transitions:,} transitions, {time} of the robot: {_episodes(self.episodes)}"
        held += f", of which {' and '.join(ends)}" if ends else ""
        out = [
            f"log      {self.text}",
            f"target   {self.domain}",
            f"made by  {self.made_by}",
            f"made in  {self.made_in}",
            f"holds    {held}",
        ]
        which = "" if self.whole else ", of episodes cut short: no return of this target is known"
        out += [
            f"returns  {_spread(self.returns)}{which}",
            f"lengths  {_spread(self.lengths)}",
            *self.notes,
        ]
        compared = self.distance is not None
        width = max(len(each.name) for each in (*self.states, *self.actions))
        head = f"{'min':>9}  {'5 %':>9}  {'median':>9}  {'95 %':>9}  {'max':>9}"
        out += ["", f"{'observed':{width}}  {head}" + f"  {'away':>9}" * compared]
        out += [
            _row(each, width) + (f"  {each.away:9.2f}" if each.away is not None else "")
            for each in self.states
        ]
        out += [
            "",
            f"{'action':{width}}  {head}  {'at bounds':>9}"
            + f"  {'away':>9}  {'noise':>9}" * compared,
        ]
        for each in self.actions:
            far = "" if each.away is None else f"  {each.away:9.3f}  {each.noise:9.3f}"
            out.append(f"{_row(each, width)}  {each.at_bounds:9.1%}{far}")
        if compared:
            out += [
                "away, of an observed number: the log's mean minus that of the policy in the "
                "source, in standard "
                "deviations there",
                "away, of an action: mean distance to what the policy does in the log's states, in "
                "half ranges; noise: "
                "the same of its own exploring in the source",
            ]
        return out


def describe_coverage(
    data: DataSet, domain: Domain, policy: Any = None, own: Log | None = None, simulated: Any = None
) -> Coverage:
    """What the log of a domain covers; with a `policy` also how far it is from it.

    `own` is the log of what explored in the source (`in_source`): the policy, or `simulated` where
    another acted there than is deployed. Raises BadValue for a policy that remembers, whose actions
    do not follow from a log's states.
    """
    log, spaces, half = data.log, domain.spaces, (domain.spaces.high - domain.spaces.low) / 2
    ends = np.cumsum(log.lengths) - 1
    fell = log.terminated[ends]
    whole = fell | (log.lengths >= domain.time_limit)
    which = whole if whole.any() else ~whole
    states = [
        ColumnSummary(name, _quantiles(x))
        for name, x in zip(observe_domain(domain), log.obs.T, strict=True)
    ]
    bounds = (log.action <= spaces.low) | (log.action >= spaces.high)
    actions = [
        ColumnSummary(str(i), _quantiles(x), at_bounds=float(bounds[:, i].mean()))
        for i, x in enumerate(log.action.T)
    ]
    if policy is not None and own is not None:
        mean, std = own.obs.astype(np.float64).mean(0), own.obs.astype(np.float64).std(0)
        away = np.divide(
            log.obs.mean(0, np.float64) - mean, std, out=np.full(len(mean), np.nan), where=std > 0
        )
        sides = (log, policy), (own, simulated or policy)
        far, noise = (
            (np.abs(x.action - policy_actions(its, x.obs)) / half).mean(0) for x, its in sides
        )
        states = [ColumnSummary(s.name, s.quantiles, float(a)) for s, a in zip(states, away)]
        actions = [
            ColumnSummary(s.name, s.quantiles, float(a), s.at_bounds, float(n))
            for s, a, n in zip(actions, far, noise)
        ]
    return Coverage(
        data.text, str(domain), _made_by(data.metadata), origin(data.metadata) or MADE_BY_UNKNOWN, log.size, log.episodes,
        int(whole.sum()), int(fell.sum()), log.size * _logged_step(data.metadata, domain),
        log.returns[which], log.lengths[which], tuple(states), tuple(actions),
        (*data.notes, *note_other_margins(data.metadata, domain), *warn_if_small(log)),
    )  # fmt: skip


def log_in_source(source: Domain, behaviour: Any, size: int, seed: int = 0) -> Log:
    """A policy's log of the source, as long as the one that it is compared with, at most MOST
    transitions.
    """
    return record_log(source, behaviour, min(size, MAX_SOURCE_STEPS), seed)


def policy_actions(policy: Any, obs: np.ndarray) -> np.ndarray:
    """What a policy does in states [B, O], [B, A]. Raises BadValue for one that remembers."""
    import jax

    memory = policy.memory()
    if jax.tree.leaves(memory):
        raise BadValue("a policy that remembers cannot be held against a log: leave out --policy")
    return np.asarray(act()(policy, repeated(memory, len(obs)), obs)[0])


def warn_if_small(log: Log) -> list[str]:
    """What there is too little of to learn from."""
    out = []
    if log.episodes == 1:
        out.append("only one episode: one start and one way through the target were seen")
    if log.size < MIN_TRANSITIONS:
        out.append(
            f"only {log.size:,} transition{'s' * (log.size != 1)}: what is learned from so few "
            "says little"
        )
    for name, x in (("observed numbers", log.obs), ("actions", log.action)):
        if fixed := int((x == x[0]).all(0).sum()):
            out.append(f"{fixed} {name} never change: nothing of their effect can be learned")
    return out


def _logged_step(metadata: dict[str, Any], domain: Domain) -> float:
    """Seconds of a step as the log's file says, else as the domain does without being moved; NaN:
    neither does.
    """
    seconds, transitions = metadata.get("seconds"), metadata.get("transitions")
    if isinstance(seconds, float | int) and isinstance(transitions, int) and transitions > 0:
        return seconds / transitions
    return domain.stated_seconds


def _made_by(metadata: dict[str, Any]) -> str:
    """Who acted, as far as the file says."""
    policy = metadata.get("policy")
    if isinstance(policy, dict):
        how = "as deployed" if metadata.get("deterministic") else "exploring"
        return f"{policy.get('method')}, seed {policy.get('seed')}, trained in {policy.get('source')}; {how}"
    return str(metadata.get("algorithm_name") or metadata.get("dataset_id") or MADE_BY_UNKNOWN)


def _episodes(n: int) -> str:
    return f"{n} episode" + "s" * (n != 1)


def _quantiles(x: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, np.quantile(x, QUANTILES)))


def _row(seen: ColumnSummary, width: int) -> str:
    return f"{seen.name:{width}}  " + "  ".join(f"{q:9.3g}" for q in seen.quantiles)


def _spread(x: np.ndarray) -> str:
    low, five, median, ninety_five, high = _quantiles(x)
    return (
        f"mean {x.mean():.1f}; min {low:.1f}, 5 % {five:.1f}, median {median:.1f}, 95 % "
        f"{ninety_five:.1f}, "
        f"max {high:.1f}"
    )
