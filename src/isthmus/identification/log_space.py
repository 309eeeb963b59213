"""The coordinates in which parameters are fitted: logarithms, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.physics.parameters import Parameter
from isthmus.types import BadValue

SPAN = 1e3  # of the starting value, up and down, as far as the bounds allow
OFFSET = 0.1
"""What is added before the logarithm where a parameter starts at 0, in its own unit."""


@dataclass(frozen=True)
class LogSpace:
    """P parameters as u = log(value + offset), all arrays [P].

    A parameter that starts above 0 has no offset: its u is a plain logarithm. One that starts at 0
    (dry friction, an absolute damping), or may be negative, is shifted by OFFSET above its lowest
    value, so that 0 can be reached and left.
    """

    names: tuple[str, ...]
    start: np.ndarray
    offset: np.ndarray
    low: np.ndarray  # u
    high: np.ndarray  # u

    @staticmethod
    def of(table: Mapping[str, Parameter], start: Mapping[str, float]) -> LogSpace:
        """Return the space of parameters that start at the values `start`, by name."""
        offsets, lows, highs = [], [], []
        for name, value in start.items():
            parameter = table[name]
            offset, low = 0.0, max(parameter.low, value / SPAN)
            if value <= 0 or parameter.low < 0:
                offset, low = OFFSET - min(parameter.low, 0.0), parameter.low
            reach = max(abs(value), offset) * SPAN
            offsets.append(offset)
            lows.append(np.log(low + offset))
            highs.append(np.log(min(parameter.high, reach) + offset))
        values = np.array(list(start.values()), float)
        return LogSpace(tuple(start), values, np.array(offsets), np.array(lows), np.array(highs))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return u of values."""
        return np.log(np.asarray(values, float) + self.offset)

    def decode(self, u: np.ndarray) -> np.ndarray:
        """Return values of u."""
        return np.exp(u) - self.offset

    @property
    def origin(self) -> np.ndarray:
        """The u at which the fit starts."""
        return self.encode(self.start)

    def find_at_bound(self, u: np.ndarray) -> np.ndarray:
        """Return which parameters lie at a bound, bool [P]."""
        return (u <= self.low + 1e-6) | (u >= self.high - 1e-6)


def choose_parameters(table: Mapping[str, Parameter], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the parameters meant by names and patterns with `*`, in the table's order.

    Without any: those of the whole robot that it has. Raises BadValue.
    """
    from fnmatch import fnmatchcase

    if not wanted:
        return tuple(name for name in WHOLE_ROBOT if name in table)
    chosen: set[str] = set()
    for pattern in wanted:
        matching = [name for name in table if fnmatchcase(name, pattern)]
        if not matching:
            raise BadValue(f"no parameter matches {pattern!r}; {_suggest(table, pattern)}")
        chosen.update(matching)
    return tuple(name for name in table if name in chosen)


def _suggest(table: Mapping[str, Parameter], pattern: str) -> str:
    import difflib

    near = difflib.get_close_matches(pattern.strip("*"), table, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "`isthmus parameters TASK` lists those that the engine can set"


WHOLE_ROBOT = ("gravity", "friction", "density", "damping", "armature", "motor_strength")
"""What is fitted where no parameters are named."""
