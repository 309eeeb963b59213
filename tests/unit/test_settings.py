"""Settings: what annotations allow, and the errors of what they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pytest
from annotated_types import Ge, Le

from isthmus.learning.settings import (
    EvenInt,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
    UnitFloat,
)
from isthmus.types import BadValue


@dataclass(frozen=True)
class Bounded(Settings):
    PREFIX: ClassVar[str] = "bounded."
    count: PositiveInt = 1
    steps: NonNegativeInt = 0
    pairs: EvenInt = 2
    rate: PositiveFloat = 0.1
    weight: NonNegativeFloat = 0.0
    discount: UnitFloat = 1.0
    shrink: OpenUnitFloat = 0.5
    log_std: FiniteFloat = 0.0
    episodes: Annotated[int, Ge(2), Le(1000)] = 2
    free: float = math.nan


@pytest.mark.parametrize(
    ("name", "wrong", "needs"),
    [
        ("count", (0, -1, 1.5, math.nan), "a whole number from 1 on"),
        ("steps", (-1, 0.5), "a whole number from 0 on"),
        ("pairs", (0, 3, 2.0), "an even number from 2 on"),
        ("rate", (0.0, -1.0, math.inf, math.nan), "a number above 0"),
        ("weight", (-1e-9, math.inf, math.nan), "a number from 0 on"),
        ("discount", (-0.1, 1.1, math.nan), r"a number in 0\.\.1"),
        ("shrink", (0.0, 1.0, math.nan), "a number between 0 and 1"),
        ("log_std", (math.inf, -math.inf, math.nan), "a number"),
        ("episodes", (1, 1001), r"a whole number in 2\.\.1000"),
    ],
)
def test_what_is_not_allowed_is_one_line(name: str, wrong: tuple[float, ...], needs: str) -> None:
    for value in wrong:
        with pytest.raises(BadValue, match=rf"^bounded\.{name}={value}: needs {needs}$"):
            Bounded(**{name: value})


def test_numpys_numbers_are_allowed() -> None:
    assert Bounded(count=np.int64(3), rate=np.float32(1)).count == 3  # pyright: ignore[reportArgumentType]
