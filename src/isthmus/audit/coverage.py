"""What a log covers: its episodes, its states and actions, how far they are from a policy's.

A method that learns from a log knows of the target what the log holds, and no more. Actions are
held against what the policy would have done in the log's own states, states against those that it
meets in the source.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isthmus.audit.observed import list_observed
from isthmus.audit.text import QUANTILES, format_coverage
from isthmus.domains.batched import fit_policy
from isthmus.domains.behaviours import Behaviour, PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.rollout import act_in_worlds, repeated
from isthmus.logs.checks import warn_if_small
from isthmus.logs.log import DataSet, Log, find_origin
from isthmus.logs.margins import note_other_margins
from isthmus.logs.record import record_log
from isthmus.types import BadValue

MAX_SOURCE_STEPS = 5000  # transitions of the policy in the source
MADE_BY_UNKNOWN = "unknown: the file does not say"


@dataclass(frozen=True)
class StateSummary:
    """An observed number: its QUANTILES in the log.

    `away` is the log's mean minus the source's, in standard deviations of the source's (NaN: it
    never changes there; None: no policy).
    """

    name: str
    quantiles: tuple[float, ...]
    away: float | None = None


@dataclass(frozen=True)
class ActionSummary:
    """An action: its QUANTILES in the log, and the share of it at the motor's bounds.

    `away` is the mean distance to the policy's in half ranges, compared with `noise`, the same of
    the policy's own exploring in the source (None: no policy).
    """

    name: str
    quantiles: tuple[float, ...]
    at_bounds: float
    away: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Coverage:
    """What a log covers.

    `returns` and `lengths` are of the whole episodes (of all, if none is). An episode is whole if
    it ended in a fall or at the time limit; one that was cut short has no return.
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
    states: tuple[StateSummary, ...]
    actions: tuple[ActionSummary, ...]
    notes: tuple[str, ...]

    @property
    def distance(self) -> float | None:
        """Return the mean over transitions and actions of |a - pi(s)| in half ranges.

        None without a policy.
        """
        away = [action.away for action in self.actions if action.away is not None]
        return float(np.mean(away)) if away else None

    def lines(self) -> list[str]:
        """Return the coverage as lines of text."""
        return format_coverage(self)


def describe_coverage(
    data: DataSet,
    domain: Domain,
    policy: PolicyLike | None = None,
    own: Log | None = None,
    simulated: PolicyLike | None = None,
) -> Coverage:
    """Describe what the log of a domain covers; with a `policy` also how far it is from it.

    `own` is the log of what explored in the source (`log_in_source`): the policy, or `simulated`
    where another acted there than is deployed. Raises BadValue for a recurrent policy, whose
    actions do not follow from a log's states.
    """
    log, metadata = data.log, data.metadata
    states, actions = _summarize_states(log, domain), _summarize_actions(log, domain)
    if policy is not None and own is not None:
        policy, simulated = fit_policy(policy, domain), fit_policy(simulated or policy, domain)
        states = _compare_states(states, log, own)
        half = (domain.spaces.high - domain.spaces.low) / 2
        away = _measure_distance(policy, log, half)
        actions = _compare_actions(actions, away, _measure_distance(simulated, own, half))
    fell = log.terminated[np.cumsum(log.lengths) - 1]
    whole = fell | (log.lengths >= domain.time_limit)
    counted = whole | ~whole.any()
    return Coverage(
        data.text,
        domain=str(domain),
        made_by=_describe_maker(metadata),
        made_in=find_origin(metadata) or MADE_BY_UNKNOWN,
        transitions=log.size,
        episodes=log.episodes,
        whole=int(whole.sum()),
        falls=int(fell.sum()),
        seconds=log.size * _find_step_seconds(metadata, domain),
        returns=log.returns[counted],
        lengths=log.lengths[counted],
        states=tuple(states),
        actions=tuple(actions),
        notes=(*data.notes, *note_other_margins(metadata, domain), *warn_if_small(log)),
    )


def _summarize_states(log: Log, domain: Domain) -> list[StateSummary]:
    return list(map(StateSummary, list_observed(domain), map(_find_quantiles, log.obs.T)))


def _compare_states(states: list[StateSummary], log: Log, own: Log) -> list[StateSummary]:
    """Return states with the distance of their means to those of the policy's own log."""
    own_obs = own.obs.astype(np.float64)
    mean, std = own_obs.mean(0), own_obs.std(0)
    unknown = np.full(len(mean), np.nan)
    away = np.divide(log.obs.mean(0, np.float64) - mean, std, out=unknown, where=std > 0)
    return [replace(state, away=far) for state, far in zip(states, away.tolist(), strict=True)]


def _summarize_actions(log: Log, domain: Domain) -> list[ActionSummary]:
    spaces = domain.spaces
    at_bounds = ((log.action <= spaces.low) | (log.action >= spaces.high)).mean(0)
    names = map(str, range(len(at_bounds)))
    quantiles = map(_find_quantiles, log.action.T)
    return list(map(ActionSummary, names, quantiles, at_bounds.tolist()))


def _compare_actions(
    actions: list[ActionSummary], away: np.ndarray, noise: np.ndarray
) -> list[ActionSummary]:
    """Return actions with their distance to the policy's, and its own exploring, [A] each."""
    compared = []
    for i, action in enumerate(actions):
        compared.append(replace(action, away=float(away[i]), noise=float(noise[i])))
    return compared


def _measure_distance(policy: PolicyLike, log: Log, half: np.ndarray) -> np.ndarray:
    """Return the mean distance of a log's actions to a policy's, in half ranges, [A]."""
    return (np.abs(log.action - policy_actions(policy, log.obs)) / half).mean(0)


def log_in_source(
    source: Domain, behaviour: Behaviour | PolicyLike, size: int, seed: int = 0
) -> Log:
    """Record a policy's log of the source, as long as the one that it is compared with.

    At most MAX_SOURCE_STEPS transitions.
    """
    return record_log(source, behaviour, min(size, MAX_SOURCE_STEPS), seed)


def policy_actions(policy: PolicyLike, obs: np.ndarray) -> np.ndarray:
    """Return what a policy does in states [B, O], [B, A]. Raises BadValue for a recurrent one."""
    import jax

    memory = policy.memory()
    if jax.tree.leaves(memory):
        raise BadValue("a policy that remembers cannot be held against a log: leave out --policy")
    return act_in_worlds(policy, repeated(memory, len(obs)), obs)[0]


def _find_step_seconds(metadata: dict[str, Any], domain: Domain) -> float:
    """Return the seconds of a step as the log's file says.

    Else as the domain does without being moved; NaN where neither does.
    """
    seconds, transitions = metadata.get("seconds"), metadata.get("transitions")
    if isinstance(seconds, float | int) and isinstance(transitions, int) and transitions > 0:
        return seconds / transitions
    return domain.stated_seconds


def _describe_maker(metadata: dict[str, Any]) -> str:
    """Return who acted, as far as the file says."""
    policy = metadata.get("policy")
    if isinstance(policy, dict):
        how = "as deployed" if metadata.get("deterministic") else "exploring"
        if "name" in policy:  # from elsewhere
            return f"{policy['name']}; {how}"
        return (
            f"{policy.get('method')}, seed {policy.get('seed')}, trained in "
            f"{policy.get('source')}; {how}"
        )
    return str(metadata.get("algorithm_name") or metadata.get("dataset_id") or MADE_BY_UNKNOWN)


def _find_quantiles(column: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, np.quantile(column, QUANTILES)))
