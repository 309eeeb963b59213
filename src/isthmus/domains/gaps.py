"""Gaps as parameters: effects whose value is drawn per task, or is an axis.

    action_delay=0..3          a whole number of steps, each as likely
    observation_noise=0..0.02  uniform; also log:, normal: and grids (0..0.02:5)

A drawn effect is a setting of its domain like any physical parameter, and stands among its effects
with the largest value that it can have: lines in which actions wait are that long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from isthmus.domains.effect_chain import Effect
from isthmus.domains.effects import EFFECTS
from isthmus.physics.model_fields import Fields
from isthmus.physics.parameters import (
    Distribution,
    Grid,
    JointLaw,
    Parameter,
    ParameterSpec,
    parse_setting,
)
from isthmus.types import BadValue

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

D = TypeVar("D", bound="Domain")


@dataclass(frozen=True)
class WholeDistribution(Distribution):
    """A distribution of whole numbers: of a uniform one's each is as likely, others are rounded."""

    def invert(self, u: np.ndarray) -> np.ndarray:
        """Return the quantiles at `u` (n,) in 0..1, float64 [n]."""
        if self.kind != "uniform":
            return np.rint(super().invert(u))
        steps = np.floor(u * (self.high - self.low + 1))
        return np.minimum(self.low + steps, self.high)


def _apply_nothing(fields: Fields, values: np.ndarray) -> None:
    """Change no field: a gap is not in the model."""


def list_gaps() -> dict[str, Parameter]:
    """Return the effects that can be drawn, as parameters by name."""
    gaps = {}
    for name, effect in EFFECTS.items():
        if effect.can_be_drawn:
            gaps[name] = _as_parameter(effect)
    return gaps


def _as_parameter(effect: type[Effect]) -> Parameter:
    return Parameter(
        effect.name, effect.unit, effect.without, float(effect.low), float(effect.high), (),
        _apply_nothing, effect.meaning,
    )  # fmt: skip


def read_gap(name: str, text: str) -> tuple[Effect, ParameterSpec | None]:
    """Return the effect that `name=text` says, with its law or axis where it is drawn.

    Raises BadValue or UnknownName.
    """
    kind = EFFECTS.find(name)
    if not (".." in text and kind.can_be_drawn):
        return kind(_read_value(kind, text)).check(), None
    law = parse_setting(text, _as_parameter(kind))
    if isinstance(law, JointLaw):
        raise BadValue(f"{name}={text}: a fit's law is of physical parameters; write low..high")
    if kind.whole:
        law = _make_whole(name, text, law)
    return kind(_find_ends(law)[1]).check(), law


def _find_ends(law: ParameterSpec) -> tuple[float, float]:
    if isinstance(law, Grid):
        return min(law.values), max(law.values)
    assert isinstance(law, Distribution)
    return law.low, law.high


def _read_value(kind: type[Effect], text: str) -> float:
    if ".." in text:
        raise BadValue(f"{kind.name}={text}: it is one value for all worlds of a domain")
    if text.startswith("x"):
        raise BadValue(f"{kind.name}={text}: needs a number, not one relative to a default")
    try:
        return float(text)
    except ValueError:
        raise BadValue(f"{kind.name}={text!r}: needs a number") from None


def _list_values(law: ParameterSpec) -> tuple[float, ...]:
    """Return the values of an axis, or a law's ends."""
    return law.values if isinstance(law, Grid) else _find_ends(law)


def _make_whole(name: str, text: str, law: ParameterSpec) -> ParameterSpec:
    """Return a law or axis of whole numbers. Raises BadValue where its ends or values are none."""
    values = _list_values(law)
    if not np.array_equal(values, np.rint(values)):
        raise BadValue(
            f"{name}={text}: {name} counts steps; needs whole numbers, for instance "
            f"{name}=0..3 or the axis {name}=0..3:4"
        )
    if isinstance(law, Grid):
        return law
    assert isinstance(law, Distribution)
    return WholeDistribution(law.kind, law.low, law.high, law.mean, law.sd)


SettingPairs = tuple[tuple[str, ParameterSpec], ...]


class Gaps(NamedTuple):
    """A domain's settings and effects, which a drawn gap is both of."""

    settings: SettingPairs
    effects: tuple[Effect, ...]

    def change(self, name: str, text: str) -> Gaps:
        """Return both with one effect changed or added. Raises BadValue or UnknownName."""
        effect, law = read_gap(name, text)
        settings = dict(self.settings)
        settings.pop(name, None)
        if law is not None:
            settings[name] = law
        effects = {each.name: each for each in self.effects} | {name: effect}
        ordered = [effects[each] for each in filter(effects.__contains__, EFFECTS)]
        return Gaps(tuple(sorted(settings.items())), tuple(ordered))


def find_drawn(settings: SettingPairs) -> dict[str, int]:
    """Return the columns of drawn gaps among a domain's settings, by name."""
    known, columns = tuple(EFFECTS), {}
    for column, (name, _) in enumerate(settings):
        if name in known:
            columns[name] = column
    return columns


def with_settings(domain: D, settings: SettingPairs) -> D:
    """Return a domain with other settings; gaps that were drawn and are not any more are gone."""
    lost = domain.drawn_gaps.keys() - dict(settings).keys()
    effects = tuple(effect for effect in domain.effects if effect.name not in lost)
    return replace(domain, settings=settings, effects=effects)


def find_fixed(domain: Domain, name: str) -> float:
    """Return the value that a parameter or gap has where the domain draws none: its own."""
    for effect in domain.effects:
        if effect.name == name:
            return float(effect.value)
    return domain.parameter_table()[name].default
