"""Gaps as parameters: effects whose value is drawn per task, or is an axis.

    action_delay=0..3          a whole number of steps, each as likely
    action_delay=0.5..2        halves, or what parts of a control step physics has, each as likely
    observation_noise=0..0.02  uniform; also log:, normal: and grids (0..0.02:5)

A drawn effect is a setting of its domain like any physical parameter, and stands among its effects
with the largest value that it can have: lines in which actions wait are that long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from isthmus.domains.effect_chain import Effect
from isthmus.domains.effects import EFFECTS, ActionDelay, SplitDelay
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
    """A distribution of whole numbers of 1 / `parts`: each is as likely where it is uniform, others
    are rounded.
    """

    parts: int = 1

    def invert(self, u: np.ndarray) -> np.ndarray:
        """Return the quantiles at `u` (n,) in 0..1, float64 [n]."""
        if self.kind != "uniform":
            return np.rint(super().invert(u) * self.parts) / self.parts
        low, high = round(self.low * self.parts), round(self.high * self.parts)
        return np.minimum(low + np.floor(u * (high - low + 1)), high) / self.parts


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


def read_gap(name: str, text: str, substeps: int = 1) -> tuple[Effect, ParameterSpec | None]:
    """Return the effect that `name=text` says, with its law or axis where it is drawn.

    `substeps` are the physics steps of a control step, of which a delay of actions may have any
    number. Raises BadValue or UnknownName.
    """
    kind = EFFECTS.find(name)
    if not (".." in text and kind.can_be_drawn):
        value = _read_value(kind, text)
        return _make_effect(kind, value, _find_parts(kind, (value,), text, substeps)), None
    law = parse_setting(text, _as_parameter(kind))
    if isinstance(law, JointLaw):
        raise BadValue(f"{name}={text}: a fit's law is of physical parameters; write low..high")
    parts = _find_parts(kind, _list_values(law), text, substeps)
    if kind.whole and isinstance(law, Distribution):
        law = WholeDistribution(law.kind, law.low, law.high, law.mean, law.sd, parts)
    return _make_effect(kind, _find_ends(law)[1], parts), law


def _make_effect(kind: type[Effect], value: float, parts: int) -> Effect:
    if parts > 1:
        return SplitDelay(round(value * parts) / parts, parts).check()
    return kind(value).check()


def _find_parts(kind: type[Effect], values: Sequence[float], text: str, substeps: int) -> int:
    """Return 1, or into how many parts of a step a delay of such values has to be cut.

    Raises BadValue where values that must be are no whole numbers of either.
    """
    if not kind.whole or np.array_equal(values, np.rint(values)):
        return 1
    if issubclass(kind, ActionDelay) and substeps > 1:
        in_substeps = np.array(values) * substeps
        if np.allclose(in_substeps, np.rint(in_substeps), atol=1e-3):
            return substeps
        raise BadValue(
            f"{kind.name}={text}: a control step has {substeps} physics steps here; needs "
            f"multiples of {1 / substeps:g}"
        )
    raise BadValue(
        f"{kind.name}={text}: {kind.name} counts steps; needs whole numbers, for instance "
        f"{kind.name}=0..3 or the axis {kind.name}=0..3:4"
    )


def count_substeps(domain: Domain) -> int:
    """Return the physics steps of a domain's control step; 1 where they are not ours to cut."""
    if not domain.has_substeps:
        return 1
    skip, timestep = domain.description().frame_skip, domain.numerics.timestep
    return skip if timestep is None else round(domain.step_seconds / timestep)


def check_split(domain: Domain) -> None:
    """Raise BadValue where a delay's parts of a step are not those of the domain's physics."""
    for effect in domain.effects:
        if isinstance(effect, SplitDelay) and effect.substeps != count_substeps(domain):
            raise BadValue(
                f"{effect.name}={effect.value:g} was read for {effect.substeps} physics steps in a "
                f"control step, and this timestep makes it {count_substeps(domain)}; write both "
                "settings at once"
            )


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


SettingPairs = tuple[tuple[str, ParameterSpec], ...]


class Gaps(NamedTuple):
    """A domain's settings and effects, which a drawn gap is both of."""

    settings: SettingPairs
    effects: tuple[Effect, ...]

    def change(self, name: str, text: str, substeps: int) -> Gaps:
        """Return both with one effect changed or added. Raises BadValue or UnknownName."""
        effect, law = read_gap(name, text, substeps)
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
