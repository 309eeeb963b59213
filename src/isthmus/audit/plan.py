"""Which points of two domains an audit compares: all differences together, and each alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from isthmus.audit.effect import ENGINE
from isthmus.domains.domain import Domain
from isthmus.domains.effect_chain import Effect
from isthmus.domains.effects import EFFECTS
from isthmus.physics.friction import OF_ALL_CONTACTS, find_inert_foot_friction
from isthmus.physics.mujoco import load_model
from isthmus.physics.numerics import AS_MODELLED, NUMERICS, Numerics
from isthmus.physics.parameters import (
    Distribution,
    Grid,
    Parameter,
    ParameterSpec,
    format_setting,
)

FOOT, ARMATURE = "foot_friction", "armature"
AS_IN_MODEL = "the model's"


class DomainVariant(NamedTuple):
    """One domain at one point: a value for each of the plan's names, its effects, its engine.

    A value that the engine has no parameter for is not looked at.
    """

    values: tuple[float, ...]
    effects: tuple[Effect, ...]
    engine: str
    numerics: Numerics = AS_MODELLED

    @property
    def computed_by(self) -> tuple[str, Numerics]:
        """What worlds share that are stepped as one batch: an engine and its numerics."""
        return self.engine, self.numerics


class VariantComparison(NamedTuple):
    """Two variants that are run side by side."""

    source: DomainVariant
    target: DomainVariant

    def change_target(self, **changes: Any) -> VariantComparison:
        """Return the comparison with other fields of its target."""
        return self._replace(target=self.target._replace(**changes))


class PlannedValues(NamedTuple):
    """A setting's values in source and target, as text, and the comparison of them alone."""

    source: str
    target: str
    comparison: VariantComparison


class PlannedDifference(NamedTuple):
    """A setting in which the domains differ, as text, and the points at which it is compared."""

    name: str
    source: str
    target: str
    points: list[PlannedValues]


class FootFriction(NamedTuple):
    """A foot's friction, and the floor's which is larger."""

    foot: float
    floor: float


class ValuePair(NamedTuple):
    """A parameter's values in source and target."""

    source: float
    target: float


class SettingPair(NamedTuple):
    """A parameter's settings in source and target."""

    source: ParameterSpec
    target: ParameterSpec


class AuditPlan:
    """Which points of two domains are compared.

    `names` are the parameters that are set in either domain; `points` their values at each point,
    `middle` those of the source at its middle.
    """

    def __init__(self, source: Domain, target: Domain):
        self.source, self.target = source, target
        own, other = source.table(), target.table()
        self.tables = {source.engine: own, target.engine: other}
        self.table: dict[str, Parameter] = {**own, **other}
        self.shared = own.keys() & other.keys()
        names = {*source.names, *target.names}
        # DART has no armature, a difference of the engines that no setting says.
        self.lacks_armature = ARMATURE in self.table.keys() - self.shared
        if self.lacks_armature:
            names.add(ARMATURE)
        self.names = sorted(names)
        self.settings: dict[str, SettingPair] = {}
        self.points: dict[str, list[ValuePair]] = {}
        self.middle: dict[str, float] = {}
        for name in self.names:
            self._add_parameter(name)

    def _add_parameter(self, name: str) -> None:
        default = self.table[name].default
        source, target = dict(self.source.settings), dict(self.target.settings)
        pair = SettingPair(source.get(name, default), target.get(name, default))
        points = list_values(*pair)
        self.settings[name], self.points[name] = pair, points
        self.middle[name] = points[len(points) // 2].source

    def select_known(
        self, engine: str, variants: Sequence[DomainVariant]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the parameters that an engine has of `names`, and n variants' values, (n, P)."""
        names = tuple(filter(self.tables[engine].__contains__, self.names))
        values = np.array([variant.values for variant in variants])
        return names, values[:, np.isin(self.names, names)]

    def _variant(self, domain: Domain, values: dict[str, float]) -> DomainVariant:
        """Return a domain at a point."""
        point = tuple(values[name] for name in self.names)
        return DomainVariant(point, domain.effects, domain.engine, domain.numerics)

    def _compare_values(
        self, source: dict[str, float], target: dict[str, float]
    ) -> VariantComparison:
        """Return a comparison of values, all else as in the source."""
        return VariantComparison(
            self._variant(self.source, source), self._variant(self.source, target)
        )

    # All differences at once

    def list_together(self) -> list[VariantComparison]:
        """Return the comparisons of all differences at once.

        The low ends, the middles, the high ends; one point where nothing varies.
        """
        comparisons = []
        for k in range(max(map(len, self.points.values()), default=1)):
            source, target = {}, {}
            for name, points in self.points.items():
                source[name], target[name] = points[min(k, len(points) - 1)]
            comparisons.append(
                VariantComparison(
                    self._variant(self.source, source), self._variant(self.target, target)
                )
            )
        return comparisons

    def format_point(self, k: int) -> str:
        """Return the k-th point's values of what varies, as text."""
        texts = []
        for name, points in self.points.items():
            if len(points) > 1:
                varies_in_source = isinstance(self.settings[name].source, Distribution | Grid)
                value = points[k].source if varies_in_source else points[k].target
                texts.append(f"{name}={value:.4g}")
        return ", ".join(texts)

    # One difference at a time, all else as in the source

    def list_differences(self) -> list[PlannedDifference]:
        """Return each difference alone: of parameters, of the engine, of effects."""
        return [
            *self._list_parameter_differences(),
            *self._list_engine_differences(),
            *self._list_numeric_differences(),
            *self._list_effect_differences(),
        ]

    def _list_parameter_differences(self) -> list[PlannedDifference]:
        differences = []
        for name, (source, target) in self.settings.items():
            if source == target or name not in self.shared:
                continue
            points = []
            for value, other in self.points[name]:
                comparison = self._compare_values(
                    {**self.middle, name: value}, {**self.middle, name: other}
                )
                points.append(PlannedValues(f"{value:.4g}", f"{other:.4g}", comparison))
            texts = format_setting(source), format_setting(target)
            differences.append(PlannedDifference(name, *texts, points))
        return differences

    def _list_engine_differences(self) -> list[PlannedDifference]:
        source, target = self.source.engine, self.target.engine
        if source == target:
            return []
        changes = {"engine": target, "numerics": self.target.numerics}
        comparison = self._compare_values(self.middle, self.middle).change_target(**changes)
        points = [PlannedValues(source, target, comparison)]
        if self.lacks_armature and self.middle[ARMATURE]:
            without = dict(self.middle)
            for name in without:
                if name.endswith(ARMATURE):
                    without[name] = 0.0
            comparison = self._compare_values(without, without).change_target(**changes)
            texts = self._name_without_armature(source), self._name_without_armature(target)
            points.append(PlannedValues(*texts, comparison))
        return [PlannedDifference(ENGINE, source, target, points)]

    def _list_numeric_differences(self) -> list[PlannedDifference]:
        """Return each setting of numerics in which the domains differ, in the source's engine."""
        own, other = self.source.numerics.named(), self.target.numerics.named()
        if own == other or self.source.engine != self.target.engine:
            return []
        differences = []
        for name in NUMERICS:
            if own.get(name) == other.get(name):
                continue
            changed = replace(self.source.numerics, **{name: other.get(name)})
            comparison = self._compare_values(self.middle, self.middle)
            comparison = comparison.change_target(numerics=changed)
            texts = str(own.get(name, AS_IN_MODEL)), str(other.get(name, AS_IN_MODEL))
            differences.append(PlannedDifference(name, *texts, [PlannedValues(*texts, comparison)]))
        return differences

    def _name_without_armature(self, engine: str) -> str:
        if ARMATURE not in self.tables[engine]:
            return engine
        return f"{engine} with {ARMATURE}=x0"

    def _list_effect_differences(self) -> list[PlannedDifference]:
        own, other = _name_effects(self.source), _name_effects(self.target)
        differences = []
        for name in EFFECTS:
            texts = _format_effect(own.get(name)), _format_effect(other.get(name))
            if texts[0] == texts[1]:
                continue
            changed = _replace_effect(own, name, other.get(name))
            # An effect that changes what can be seen has no comparison alone.
            chain = self.source.effect_chain(changed)
            if chain.obs_size != self.source.spaces.observation:
                continue
            comparison = self._compare_values(self.middle, self.middle)
            points = [PlannedValues(*texts, comparison.change_target(effects=changed))]
            differences.append(PlannedDifference(name, *texts, points))
        return differences

    # A foot on the floor

    def list_inert_feet(self) -> dict[FootFriction, VariantComparison]:
        """Return the comparisons of a foot at the floor's friction with the foot as it is.

        Only where the foot's friction is below the floor's.
        """
        if FOOT not in self.names:
            return {}
        floor_friction = find_inert_foot_friction(
            load_model(self.source.description().model_path())
        )
        if floor_friction is None:
            return {}
        feet = {}
        for comparison in self.list_together():
            for variant in comparison:
                values = dict(zip(self.names, variant.values, strict=True))
                floor = floor_friction * self._scale_of_floor(values)
                foot = values[FOOT]
                if foot < floor:
                    values[FOOT] = floor
                    raised = variant._replace(values=tuple(values[name] for name in self.names))
                    feet[FootFriction(foot, floor)] = VariantComparison(raised, variant)
        return feet

    @property
    def of_all_contacts(self) -> str:
        """Return the parameter that scales the friction of all contacts."""
        own, stand_in = OF_ALL_CONTACTS
        return own if own in self.table else stand_in

    def _scale_of_floor(self, values: dict[str, float]) -> float:
        """Return what the parameter of all contacts scales the floor's friction by."""
        name = self.of_all_contacts
        if name not in values:
            return 1.0
        return values[name] / self.table[name].default


def list_values(source: ParameterSpec, target: ParameterSpec) -> list[ValuePair]:
    """Return the values at which a parameter is compared: one pair, or the ends and the middle.

    A distribution that is the same on both sides is held at its middle.
    """
    own, other = _list_ends(source), _list_ends(target)
    if source == target:
        return [ValuePair(own[len(own) // 2], other[len(other) // 2])]
    n = max(len(own), len(other))
    return list(map(ValuePair, own * (n // len(own)), other * (n // len(other))))


def _list_ends(setting: ParameterSpec) -> list[float]:
    """Return a setting's low end, middle and high end; a fixed value alone."""
    if isinstance(setting, Grid):
        values = setting.values
        if len(values) == 1:
            return [*values]
        return [values[0], values[len(values) // 2], values[-1]]
    if isinstance(setting, Distribution):
        return [setting.low, _find_middle(setting), setting.high]
    return [setting]


def _find_middle(distribution: Distribution) -> float:
    low, high = distribution.low, distribution.high
    if distribution.kind == "uniform":
        return (low + high) / 2
    if distribution.kind == "log":
        return math.sqrt(low * high)
    return distribution.mean


def _name_effects(domain: Domain) -> dict[str, Effect]:
    return {effect.name: effect for effect in domain.effects}


def _format_effect(effect: Effect | None) -> str:
    return f"{effect.value:g}" if effect else "off"


def _replace_effect(
    effects: dict[str, Effect], name: str, replacement: Effect | None
) -> tuple[Effect, ...]:
    """Return effects in their order, with one of another value, added or left out."""
    replaced = {**effects, name: replacement}
    return tuple(filter(None, map(replaced.get, EFFECTS)))
