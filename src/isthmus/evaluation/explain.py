"""What a landscape of many parameters says in words: which of them matter, where a policy fails,
and a box in which it does not.

Half of the episodes explore: their Sobol design gives the indices, a tree the regions, peeling the
boxes. The other half are fresh, and they alone say how often a policy fails in either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isthmus.domains.behaviours import PolicyLike
from isthmus.domains.domain import Domain
from isthmus.domains.parse import as_domain
from isthmus.domains.rollout import rollout_episodes
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.boxes import BoxTest, QuantileBox, certify, grow_tree, peel
from isthmus.evaluation.episode_intervals import wilson
from isthmus.evaluation.evaluate import MAX_EPISODES, SEED, OnStep
from isthmus.evaluation.sensitivity import SobolIndex, estimate_indices, make_design
from isthmus.evaluation.statistics import CONFIDENCE_LEVEL, Estimate
from isthmus.physics.parameters import Distribution, JointLaw, ParameterSpec
from isthmus.physics.random import keys
from isthmus.types import BadValue, Episodes

LIMIT = 0.05  # of failures, in a box that holds
FEWEST_ROWS = 16  # of a block of the design
CANDIDATE_SHARES = (0.8 * LIMIT, 0.4 * LIMIT, 0.1 * LIMIT)  # at which peeling keeps boxes
MAX_REGIONS = 4
FRESH_SEED_OFFSET = 2_000_000  # from a seed of evaluation to that of the fresh episodes


if TYPE_CHECKING:
    from typing_extensions import TypeIs

PlayPoints = Callable[[np.ndarray, np.ndarray], Episodes]
"""Plays an episode at each of the quantiles (n, P), from the starts of world keys (n,)."""


class ExplainedParameter(NamedTuple):
    """A parameter that is varied: its law, in absolute units, and its nominal value."""

    name: str
    law: Distribution
    nominal: float

    @property
    def quantile(self) -> float:
        """Where the nominal lies in the law, 0..1."""
        places = np.linspace(0, 1, 1001)
        return float(np.interp(self.nominal, self.law.invert(places), places))


class FailureRegion(NamedTuple):
    """A leaf of the tree, and the share of fresh episodes that failed there."""

    box: QuantileBox
    failed: Estimate


@dataclass(frozen=True)
class Explanation:
    """What episodes over laws of P parameters say.

    `boxes` are nested, the smallest first. The fresh episodes over the whole range are kept for
    pictures: `values` (n, P) in absolute units, `returns` (n,), `failed` (n,).
    """

    domain: Domain
    parameters: list[ExplainedParameter]
    threshold: float | None
    explored: int
    fresh: int
    indices: dict[str, list[SobolIndex]]  # of "return" and "failures"
    regions: list[FailureRegion]
    boxes: list[BoxTest]
    failed_share: Estimate
    values: np.ndarray
    returns: np.ndarray
    failed: np.ndarray

    @property
    def box(self) -> BoxTest | None:
        """The largest box that holds; None where none does."""
        for test in reversed(self.boxes):
            if test.holds:
                return test
        return None

    @property
    def failing(self) -> str:
        """What an episode does that counts as a failure."""
        if self.threshold is None:
            return "fell"
        return f"fell or returned less than {self.threshold:g}"

    def locate(self, box: QuantileBox) -> dict[str, tuple[float, float]]:
        """Return a box's ends by parameter's name, in absolute units."""
        ends = {}
        for i, parameter in enumerate(self.parameters):
            low, high = parameter.law.invert(np.array([box.low[i], box.high[i]]))
            ends[parameter.name] = (float(low), float(high))
        return ends


def explain(
    policy: PolicyLike,
    domain: Domain | str,
    over: str,
    episodes: int = 4000,
    threshold: float | None = None,
    seed: int = SEED,
    on_step: OnStep | None = None,
) -> Explanation:
    """Play a policy over laws of parameters, `over` (`name=low..high,...`), and say what matters.

    An episode fails that ends by a fall, or whose return (of the task's rewards) is below
    `threshold`. What else the domain draws gives way, its fixed values stay. Raises BadValue for
    what is no law, a nominal value outside of its law, or too few episodes.
    """
    varied, parameters = _vary(as_domain(domain), over)

    def play(quantiles: np.ndarray, key: np.ndarray) -> Episodes:
        return _play_points(policy, varied, parameters, quantiles, key, on_step)

    return explain_outcomes(play, varied, parameters, episodes, threshold, seed)


def explain_outcomes(
    play: PlayPoints,
    domain: Domain,
    parameters: list[ExplainedParameter],
    episodes: int,
    threshold: float | None,
    seed: int,
) -> Explanation:
    """Explain what `play(quantiles [n, P], keys [n])` gives, an episode a point.

    Raises BadValue for too few episodes.
    """
    names = [parameter.name for parameter in parameters]
    rows = _count_rows(len(names), episodes)
    design = make_design(len(names), rows, seed)
    played = play(design.quantiles, keys(seed, 2 * rows)[design.starts])
    failed = find_failures(played, threshold)
    nominal = np.array([parameter.quantile for parameter in parameters])
    boxes = peel(design.quantiles, failed, nominal, CANDIDATE_SHARES)
    quantiles, drawn_in = draw_fresh(boxes, episodes - len(failed), seed + FRESH_SEED_OFFSET)
    fresh = play(quantiles, keys(seed + FRESH_SEED_OFFSET, len(quantiles)))
    fresh_failed = find_failures(fresh, threshold)
    whole = drawn_in == len(boxes) - 1
    indices = {"return": estimate_indices(names, played.returns, seed)}
    if len(np.unique(failed)) == 2:
        indices["failures"] = estimate_indices(names, failed, seed)
    return Explanation(
        domain=domain,
        parameters=parameters,
        threshold=threshold,
        explored=len(failed),
        fresh=len(quantiles),
        indices=indices,
        regions=measure_regions(design.quantiles, failed, quantiles[whole], fresh_failed[whole]),
        boxes=certify(boxes, quantiles, fresh_failed, drawn_in, LIMIT, CONFIDENCE_LEVEL),
        failed_share=wilson(fresh_failed[whole]),
        values=_invert(parameters, quantiles[whole]),
        returns=fresh.returns[whole],
        failed=fresh_failed[whole],
    )


def find_failures(played: Episodes, threshold: float | None) -> np.ndarray:
    """Return which episodes fell, or returned less than the threshold, bool [E]."""
    if threshold is None:
        return played.terminated
    return played.terminated | (played.returns < threshold)


def _vary(domain: Domain, over: str) -> tuple[Domain, list[ExplainedParameter]]:
    """Return the domain with these laws and its fixed values alone, and the parameters varied."""
    domain.check_timed()
    fixed = []
    for name, setting in domain.settings:
        if isinstance(setting, float):
            fixed.append((name, setting))
    place = replace(domain, settings=tuple(fixed))
    wanted = replace(domain, settings=()).shift(over)
    if not wanted.settings:
        raise BadValue("--over names no parameter to vary: write --over friction=x0.5..x2")
    parameters = []
    for name, law in wanted.settings:
        if not _is_law(law):
            raise BadValue(
                f"{name}: --over takes a law of its own, {name}=LOW..HIGH or {name}=log:LOW..HIGH; "
                "cells of a grid are for isthmus landscape"
            )
        parameters.append(_find_nominal(domain, name, law))
    return place.shift(over), parameters


def _is_law(setting: ParameterSpec) -> TypeIs[Distribution]:
    """Return whether a setting is a law of one parameter alone that has a width."""
    if isinstance(setting, JointLaw) or not isinstance(setting, Distribution):
        return False
    return setting.low < setting.high


def _find_nominal(domain: Domain, name: str, law: Distribution) -> ExplainedParameter:
    """Return a parameter with the value that its domain has: fixed, its law's median, its own."""
    own = dict(domain.settings).get(name)
    if own is None:
        own = domain.table()[name].default
    if isinstance(own, Distribution):
        own = float(own.invert(np.array([0.5]))[0])
    if not isinstance(own, float):
        raise BadValue(f"{name}: the domain has a grid of it, and no nominal value")
    if not law.low <= own <= law.high:
        raise BadValue(
            f"{name}: its nominal value, {own:g}, is not in {law.low:g}..{law.high:g}; a box "
            "around it needs a range that holds it"
        )
    return ExplainedParameter(name, law, own)


def _count_rows(parameters: int, episodes: int) -> int:
    """Return how many rows a block of the design has, from half of the episodes."""
    blocks = parameters + 3
    fewest = 2 * FEWEST_ROWS * blocks
    if not fewest <= episodes <= MAX_EPISODES:
        raise BadValue(
            f"-n {episodes}: {parameters} parameters need {fewest:,} to {MAX_EPISODES:,} episodes"
        )
    return 2 ** int(np.log2(episodes // 2 // blocks))


def _invert(parameters: list[ExplainedParameter], quantiles: np.ndarray) -> np.ndarray:
    """Return the values (n, P) at quantiles (n, P)."""
    values = np.empty(quantiles.shape)
    for i, parameter in enumerate(parameters):
        values[:, i] = parameter.law.invert(quantiles[:, i])
    return values


def _play_points(
    policy: PolicyLike,
    domain: Domain,
    parameters: list[ExplainedParameter],
    quantiles: np.ndarray,
    key: np.ndarray,
    on_step: OnStep | None,
) -> Episodes:
    """Play an episode at each point (n, P), all in one batch, from the starts of keys (n,)."""
    values = domain.draw(key, np.ones(len(key), np.int64))  # what is fixed has its value
    for column, parameter in zip(_invert(parameters, quantiles).T, parameters, strict=True):
        values[:, domain.names.index(parameter.name)] = column
    worlds = SteppedWorlds.new(domain, key, parameters=values).worlds()
    return rollout_episodes(domain, worlds, policy, on_step)


def draw_fresh(boxes: list[QuantileBox], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n points: half in the whole range, the last box, the rest shared among the others;
    and the number of each one's box.
    """
    counts = np.zeros(len(boxes), int)
    if len(boxes) > 1:
        counts[:-1] = n // 2 // (len(boxes) - 1)
    counts[-1] = n - counts.sum()
    drawn_in = np.repeat(np.arange(len(boxes)), counts)
    dimensions = len(boxes[0].low)
    quantiles = np.random.default_rng(seed).uniform(size=(n, dimensions))
    for i, box in enumerate(boxes):
        quantiles[drawn_in == i] = box.scale(quantiles[drawn_in == i])
    return quantiles, drawn_in


def measure_regions(
    explored: np.ndarray, failed: np.ndarray, fresh: np.ndarray, fresh_failed: np.ndarray
) -> list[FailureRegion]:
    """Return the tree's leaves in which more failed than elsewhere, the worst first, measured by
    fresh points.
    """
    shares, threshold = [], max(float(failed.mean()), LIMIT)
    for leaf in grow_tree(explored, failed):
        share = failed[leaf.contains(explored)].mean()
        inside = leaf.contains(fresh)
        if share > threshold and inside.any():
            shares.append((float(share), FailureRegion(leaf, wilson(fresh_failed[inside]))))
    shares.sort(key=lambda pair: -pair[0])
    return [region for _, region in shares[:MAX_REGIONS]]
