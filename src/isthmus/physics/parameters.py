"""Physical parameters by name: unit, default, bounds, what they change; and the one grammar for
shifts.

    torso_mass=6            absolute                 friction=x0.5            relative to the default
    torso_mass=1..9         uniform                  friction=x0.5..x2        uniform, relative
    damping=log:0.1..10     log-uniform              torso_mass=normal:6:1.5:3..9    normal, truncated to 3..9
    torso_mass=0.5..11.5:12  a grid of 12 values (only for targets and landscapes)

A parameter is always applied to the model's defaults, never to a value that was already changed.
Parameters of the whole robot come before those of its parts, whatever the order they are named in:
with density=2,torso_mass=6 the torso weighs 6 kg.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.physics.random import Streams
from isthmus.types import BadValue, UnknownName


@dataclass(frozen=True)
class Parameter:
    """One physical parameter of one robot.

    `apply(fields, values)` writes values (n,) into `fields`, a mapping from model field to its rows
    (n, ...), which hold the defaults; `fields` lists them. `constants` says that derived constants
    depend on it.
    """

    name: str
    unit: str
    default: float
    low: float
    high: float
    fields: tuple[str, ...]
    apply: Callable[[Mapping[str, np.ndarray], np.ndarray], None]
    meaning: str
    constants: bool = False

    def check(self, value: float) -> float:
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise BadValue(
                f"{self.name}={value:g} is out of bounds; allowed: {self.low:g}..{self.high:g} "
                f"{self.unit}"
            )
        return value


@dataclass(frozen=True)
class Distribution:
    """How a parameter is drawn, in absolute units: `uniform`, `log` (log-uniform) or `normal`
    (truncated).
    """

    kind: str
    low: float
    high: float
    mean: float = 0.0
    sd: float = 0.0

    def draw(self, random: Streams) -> np.ndarray:
        """One value a stream, float64 [n]."""
        u = random.uniform(0.0, 1.0, 1)[:, 0]
        if self.kind == "uniform":
            value = self.low + u * (self.high - self.low)
        elif self.kind == "log":
            value = self.low * (self.high / self.low) ** u
        else:
            from scipy.special import ndtr, ndtri

            a, b = ndtr((self.low - self.mean) / self.sd), ndtr((self.high - self.mean) / self.sd)
            value = self.mean + self.sd * ndtri(a + u * (b - a))
        return np.clip(value, self.low, self.high)  # rounding may step over an end


@dataclass(frozen=True)
class Grid:
    """A grid axis: the values a parameter takes, in absolute units."""

    values: tuple[float, ...]


ParameterSpec = float | Distribution | Grid

# no bare final point: 0...5 would read two ways
NUMBER = r"x?[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"(?P<kind>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})(?::(?P<count>\d+))?")
NORMAL = re.compile(
    rf"normal:(?P<mean>{NUMBER}):(?P<sd>{NUMBER}):(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})"
)


def parse_setting(text: str, parameter: Parameter) -> ParameterSpec:
    """Read the right side of `name=...`; relative values (x2) become absolute by the parameter's
    default.

    Raises BadValue with the grammar in one line.
    """

    def number(s: str) -> float:
        return float(s[1:]) * parameter.default if s.startswith("x") else float(s)

    if re.fullmatch(NUMBER, text):
        return parameter.check(number(text))
    if match := RANGE.fullmatch(text):
        low, high = parameter.check(number(match["low"])), parameter.check(number(match["high"]))
        if low > high:
            raise BadValue(f"{parameter.name}={text}: the lower end comes first")
        if match["kind"] and low <= 0:
            raise BadValue(f"{parameter.name}={text}: log: needs a lower end above 0")
        if match["count"]:
            count = int(match["count"])
            if not (1 if low == high else 2) <= count <= 1000:
                raise BadValue(
                    f"{parameter.name}={text}: a grid axis has 2 to 1000 values (1 where its ends "
                    "are equal)"
                )
            axis = (
                np.geomspace(low, high, count) if match["kind"] else np.linspace(low, high, count)
            )
            return Grid(tuple(float(v) for v in axis))
        return Distribution("log" if match["kind"] else "uniform", low, high)
    if match := NORMAL.fullmatch(text):
        low, high = parameter.check(number(match["low"])), parameter.check(number(match["high"]))
        mean, sd = number(match["mean"]), number(match["sd"])
        if not (low < high and sd > 0 and low <= mean <= high):
            raise BadValue(
                f"{parameter.name}={text}: normal:MEAN:SD:LOW..HIGH needs LOW <= MEAN <= HIGH and "
                "SD > 0"
            )
        return Distribution("normal", low, high, mean, sd)
    raise BadValue(
        f"{parameter.name}={text!r} is no setting; write a number (2), a relative one (x2), "
        "a law (1..9, log:1..9, normal:6:1.5:3..9) or a grid (1..9:5)"
    )


def format_setting(setting: ParameterSpec) -> str:
    """The canonical text of a setting: `parse_setting` reads it back to an equal one."""
    if isinstance(setting, Grid):
        v = np.array(setting.values)
        if len(v) == 1 or np.array_equal(v, np.linspace(v[0], v[-1], len(v))):
            return f"{v[0]!s}..{v[-1]!s}:{len(v)}"
        return f"log:{v[0]!s}..{v[-1]!s}:{len(v)}"
    if isinstance(setting, Distribution):
        span = f"{setting.low!r}..{setting.high!r}"
        if setting.kind == "normal":
            return f"normal:{setting.mean!r}:{setting.sd!r}:{span}"
        return span if setting.kind == "uniform" else f"log:{span}"
    return f"{setting:g}" if float(f"{setting:g}") == setting else repr(setting)


def find_parameter(table: Mapping[str, Parameter], name: str, robot: str) -> Parameter:
    if name not in table:
        raise UnknownName(f"parameter of {robot}", name, table)
    return table[name]
