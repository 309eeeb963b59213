"""What an audit measures of a shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from isthmus.audit.effect import ShiftEffect
from isthmus.audit.text import format_audit


class ComparedValues(NamedTuple):
    """A setting's values in source and target, as text, and what their difference does."""

    source: str
    target: str
    effect: ShiftEffect


@dataclass(frozen=True)
class SettingDifference:
    """A setting in which the domains differ, and what it does with all others as in the source.

    There is one point, or three for a distribution or a grid, its ends and its middle. Of two
    engines there is a second where one has something that the other has not: it is then compared
    without.
    """

    name: str
    source: str
    target: str
    points: tuple[ComparedValues, ...]

    @property
    def is_inert(self) -> bool:
        """Return whether the setting changes nothing, to the bit."""
        return all(point.effect.identical for point in self.points)


@dataclass(frozen=True)
class AuditPoint:
    """All differences together: `setting` names the point of distributions and grids.

    `contact` is the sliding friction that the engine gave each part's contact with the floor, in
    source and target (NaN: it never touched); `lengths` are the mean steps until a fall, at most
    HORIZON_STEPS; `diverged` counts episodes that blew up.
    """

    setting: str
    effect: ShiftEffect
    contact: dict[str, tuple[float, float]]
    lengths: tuple[float, float]
    diverged: tuple[int, int]


@dataclass(frozen=True)
class ObservedDimension:
    """An observed number: its standard deviation in the source, and its differences.

    `one_step` and `apart` are as in `ShiftEffect`, at worst of all points.
    """

    name: str
    std: float
    one_step: float
    apart: float

    @property
    def never_changes(self) -> bool:
        """Return whether the number is constant in both domains."""
        return self.std == self.one_step == self.apart == 0


@dataclass(frozen=True)
class Audit:
    """What `audit` measured. `alone` are the differences one at a time."""

    source: str
    target: str
    points: tuple[AuditPoint, ...]
    alone: tuple[SettingDifference, ...]
    dimensions: tuple[ObservedDimension, ...]
    notes: tuple[str, ...]
    episodes: int

    @property
    def effect(self) -> ShiftEffect:
        """Return the largest effect of all points."""
        effects = [point.effect for point in self.points]
        return max(
            effects, key=lambda effect: (not effect.identical, effect.one_step, effect.apart)
        )

    @property
    def verdict(self) -> str:
        """Return NO_CHANGE, SMALL_SHIFT or SHIFT, of the largest effect."""
        return self.effect.verdict

    def lines(self) -> list[str]:
        """Return the audit as lines of text."""
        return format_audit(self)
