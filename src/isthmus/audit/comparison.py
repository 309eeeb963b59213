"""Source and target side by side, from equal starts under equal actions.

Three runs: the source; the target left to itself; and the target teleported into the source's state
before each step. How the last differs after each step is what the shift does at once, how the
second differs is what that grows to. Two engines of one task are compared in the same way, from
equal positions and velocities.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from isthmus.audit.effect import HORIZON_STEPS, ShiftEffect
from isthmus.audit.observed import list_observed
from isthmus.audit.plan import AuditPlan, DomainVariant, VariantComparison
from isthmus.audit.stepping import (
    ActionSequence,
    Episode,
    StepEngine,
    VariantStep,
    count_episodes,
)
from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.simulation import START
from isthmus.physics.random import Streams, fold, keys

MIN_CHANGE = 1e-6  # of a number's standard deviation: less is no change of a step


class ComparisonResult(NamedTuple):
    """What a comparison measured; `lengths` and `diverged` are of source and target."""

    effect: ShiftEffect
    std: np.ndarray  # [O]
    one_step: np.ndarray  # [O]
    apart: np.ndarray  # [O]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


class Samples(NamedTuple):
    """What was observed around steps from equal states, [samples, O]."""

    before: np.ndarray
    after: np.ndarray
    one_step_obs: np.ndarray  # after the same step in the teleported target


def compare_all(
    plan: AuditPlan,
    comparisons: list[VariantComparison],
    episodes: int,
    seed: int,
    policy: PolicyLike | None,
) -> dict[VariantComparison, ComparisonResult]:
    """Return what each comparison measures; those between the same engines are one batch."""
    batches: dict[tuple[Hashable, Hashable], list[VariantComparison]] = {}
    for comparison in dict.fromkeys(comparisons):
        engines = comparison.source.computed_by, comparison.target.computed_by
        batches.setdefault(engines, []).append(comparison)
    results = {}
    for batch in batches.values():
        measured = ComparisonBatch(plan, batch, episodes, seed, policy).run()
        results.update(zip(batch, measured, strict=True))
    return results


class ComparisonSide:
    """The worlds [C E] of one side of all comparisons: an engine, and effects."""

    def __init__(self, plan: AuditPlan, variants: Sequence[DomainVariant], key: np.ndarray):
        self.engine = StepEngine(plan, variants, len(key))
        self.episode = Episode(plan.source, variants, key)
        starts = Streams(np.tile(fold(key, START, 1), len(variants)))
        self.first_obs = self.engine.begin(starts)

    @property
    def obs(self) -> np.ndarray:
        """Return what a policy observes, [C E, O]."""
        return self.episode.obs

    def begin(self, obs: np.ndarray) -> None:
        """Begin the episodes with the simulator's first observations [C E, O]."""
        self.episode.begin(obs, self.engine.neutral_action())

    def step(self, commanded: np.ndarray, t: int) -> VariantStep:
        """Step under commanded actions [C E, A] for the t-th time."""
        outcome = self.engine.step(commanded=commanded, applied=self.episode.apply(commanded))
        self.episode.sense(outcome.obs, t)
        return outcome


class ComparisonBatch:
    """C comparisons between the same two engines, of E episodes each, stepped as one batch."""

    def __init__(
        self,
        plan: AuditPlan,
        comparisons: list[VariantComparison],
        episodes: int,
        seed: int,
        policy: PolicyLike | None,
    ):
        self.plan, self.count = plan, len(comparisons)
        self.episodes = count_episodes(episodes, policy)
        key = keys(seed, self.episodes)
        sources, targets = zip(*comparisons)
        self.source = ComparisonSide(plan, sources, key)
        self.target = ComparisonSide(plan, targets, key)
        self.teleported = ComparisonSide(plan, targets, key)
        self.source.begin(self.source.first_obs)
        self.target.begin(self.target.first_obs)
        self.teleported.begin(self.source.first_obs)
        self.actions = ActionSequence(plan.source, self.count, episodes, seed, policy)
        n = self.count * self.episodes
        self.identical = (self.source.obs == self.target.obs).all(1)
        # Of the source and of the target, [2, C E].
        self.alive, self.diverged = np.ones((2, n), bool), np.zeros((2, n), bool)
        self.lengths = np.zeros((2, n))
        self.apart = np.zeros_like(self.source.obs)  # at the last step of the source's episode
        self.usable: list[np.ndarray] = []  # bool [C E] a step: which of its samples count
        self.samples: list[Samples] = []  # [C E, O] a step

    def run(self) -> list[ComparisonResult]:
        """Step all worlds to the horizon; what each comparison measured."""
        for t in range(min(HORIZON_STEPS, self.plan.source.time_limit)):
            self._step(t)
        names = list_observed(self.plan.source)
        return [self._summarize(k, names) for k in range(self.count)]

    def _step(self, t: int) -> None:
        before = self.source.obs
        commanded = self.actions.at(t, before)
        self.teleported.engine.teleport_to(self.source.engine)
        teleported = self.teleported.step(commanded, t + 1)
        source = self.source.step(commanded, t + 1)
        target = self.target.step(commanded, t + 1)
        self.identical &= self._are_same(source, target) | ~self.alive[0]
        self.lengths += self.alive
        self.diverged |= self.alive & [source.diverged, target.diverged]
        usable = self.alive[0] & ~source.diverged & ~target.diverged & ~teleported.diverged
        self.usable.append(usable)
        self.samples.append(Samples(before, self.source.obs, self.teleported.obs))
        self.apart[usable] = (self.target.obs - self.source.obs)[usable]
        ended = [source.fell | source.diverged, target.fell | target.diverged]
        self.alive &= ~np.array(ended)

    def _are_same(self, source: VariantStep, target: VariantStep) -> np.ndarray:
        """Return which worlds are equal to the bit after a step, bool [C E]."""
        own, other = self.source.engine.simulator, self.target.engine.simulator
        pairs = (
            (own.qpos, other.qpos),
            (own.qvel, other.qvel),
            (self.source.obs, self.target.obs),
            (source.reward, target.reward),
            (source.fell, target.fell),
            (source.diverged, target.diverged),
        )
        same = np.ones(len(self.identical), bool)
        for first, second in pairs:
            same &= (first == second).reshape(len(same), -1).all(1)
        return same

    def _summarize(self, k: int, names: list[str]) -> ComparisonResult:
        rows = slice(k * self.episodes, (k + 1) * self.episodes)
        length, diverged = self.lengths[:, rows].mean(1), self.diverged[:, rows].sum(1)
        lengths, counts = (length[0], length[1]), (int(diverged[0]), int(diverged[1]))
        usable = np.array(self.usable)[:, rows]
        if not usable.any():
            nothing = np.full(len(names), np.nan)
            effect = ShiftEffect(False, np.nan, "", np.nan, "")
            return ComparisonResult(effect, nothing, nothing, nothing, lengths, counts)
        samples = Samples(*(np.array(column)[:, rows][usable] for column in zip(*self.samples)))
        std, change = samples.after.std(0), (samples.after - samples.before).std(0)
        spread = np.where(std > 0, std, 1.0)
        unit = np.where(change > MIN_CHANGE * spread, change, spread)
        one_step = _root_mean_square(samples.one_step_obs - samples.after) / unit
        apart = _root_mean_square(self.apart[rows]) / spread
        i, j = int(one_step.argmax()), int(apart.argmax())
        identical = bool(self.identical[rows].all())
        effect = ShiftEffect(identical, float(one_step[i]), names[i], float(apart[j]), names[j])
        return ComparisonResult(effect, std, one_step, apart, lengths, counts)


def _root_mean_square(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x).mean(0))
