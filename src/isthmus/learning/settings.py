"""Settings: frozen dataclasses whose fields say, by their annotations, which values are allowed.

    epochs: PositiveInt = 10        # Annotated[int, Ge(1)]

The bounds are those of `annotated_types`; `Settings` checks them when an instance is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from numbers import Integral
from typing import Annotated, Any, ClassVar, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from isthmus.types import BadValue

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
EvenInt = Annotated[int, Ge(2), MultipleOf(2)]
PositiveFloat = Annotated[float, Gt(0), Lt(math.inf)]
NonNegativeFloat = Annotated[float, Ge(0), Lt(math.inf)]
FiniteFloat = Annotated[float, Gt(-math.inf), Lt(math.inf)]
UnitFloat = Annotated[float, Ge(0), Le(1)]
OpenUnitFloat = Annotated[float, Gt(0), Lt(1)]


class Constraint(NamedTuple):
    """What the value of one field must be: an int or a float, and within bounds."""

    field: str
    kind: type
    bounds: tuple[Any, ...]

    def allows(self, value: Any) -> bool:
        """Return whether a value is of the kind and within all bounds; NaN is within none."""
        if self.kind is int and not isinstance(value, Integral):
            return False
        return all(_is_within(value, bound) for bound in self.bounds)

    def describe(self) -> str:
        """Return what is allowed, as an error tells it: "a whole number from 1 on"."""
        return f"{self._noun()} {self._range()}".rstrip()

    def _noun(self) -> str:
        if any(isinstance(bound, MultipleOf) for bound in self.bounds):
            return "an even number"
        return "a whole number" if self.kind is int else "a number"

    def _range(self) -> str:
        low = _find_finite(self.bounds, Ge, "ge")
        above = _find_finite(self.bounds, Gt, "gt")
        high = _find_finite(self.bounds, Le, "le")
        below = _find_finite(self.bounds, Lt, "lt")
        if above is not None:
            return f"above {above}" if below is None else f"between {above} and {below}"
        if low is None:
            return ""
        return f"from {low} on" if high is None else f"in {low}..{high}"


def _is_within(value: Any, bound: Any) -> bool:
    match bound:
        case Ge(ge=low):
            return value >= low
        case Gt(gt=low):
            return value > low
        case Le(le=high):
            return value <= high
        case Lt(lt=high):
            return value < high
        case MultipleOf(multiple_of=factor):
            return value % factor == 0
    return True


def _find_finite(bounds: Sequence[Any], kind: type, attribute: str) -> Any:
    """Return the finite number of the bound of one kind, None where there is none."""
    for bound in bounds:
        if isinstance(bound, kind) and math.isfinite(getattr(bound, attribute)):
            return getattr(bound, attribute)
    return None


@cache
def _list_constraints(kind: type) -> tuple[Constraint, ...]:
    constraints = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Annotated:
            base, *bounds = get_args(hint)
            constraints.append(Constraint(name, base, tuple(bounds)))
    return tuple(constraints)


def check_settings(settings: object, prefix: str = "") -> None:
    """Raise BadValue for the first field whose value its annotation does not allow.

    `prefix` comes before the field's name in the error: "inverse.".
    """
    for constraint in _list_constraints(type(settings)):
        value = getattr(settings, constraint.field)
        if not constraint.allows(value):
            raise BadValue(f"{prefix}{constraint.field}={value}: needs {constraint.describe()}")


class Settings:
    """Base of frozen dataclasses of settings: raises BadValue for a value that is not allowed.

    A class that checks more overrides `__post_init__` and calls that of its base.
    """

    PREFIX: ClassVar[str] = ""  # before a field's name in an error

    def __post_init__(self) -> None:
        check_settings(self, self.PREFIX)
