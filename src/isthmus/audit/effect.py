"""The effect of a shift, as a number and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

HORIZON_STEPS = 50  # steps
SMALL_SHARE = 0.05
"""A step's difference up to this share of what a step changes anyway is called small."""
ENGINE = "engine"
"""The difference between two domains in different engines, beside those of their settings."""
NO_CHANGE, SMALL_SHIFT, SHIFT = "no change", "a small shift", "a shift"


@dataclass(frozen=True)
class ShiftEffect:
    """What the differences between two domains do.

    `identical`: every state, observation, reward and fall is equal to the bit. `one_step` is the
    root mean square of the difference after one step from equal states, in standard deviations of
    what a step changes in the source; `apart` that after HORIZON_STEPS from equal starts (or at the
    end of the source's episode), in standard deviations of what is observed in the source. Both are
    of the observed number in which they are largest, named by `one_step_in` and `apart_in`.
    """

    identical: bool
    one_step: float
    one_step_in: str
    apart: float
    apart_in: str

    @property
    def verdict(self) -> str:
        """Return NO_CHANGE, SMALL_SHIFT or SHIFT."""
        if self.identical:
            return NO_CHANGE
        return SMALL_SHIFT if self.one_step <= SMALL_SHARE else SHIFT

    def __str__(self) -> str:
        if self.identical:
            return NO_CHANGE
        if math.isnan(self.one_step):
            return "cannot be compared: every episode blew up in its first step"
        return (
            f"{self.verdict}: {self.one_step:.2g} after one step ({self.one_step_in}), "
            f"{self.apart:.2g} after {HORIZON_STEPS} ({self.apart_in})"
        )
