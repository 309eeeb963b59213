"""Physical parameters by name (unit, default, bounds, fields), and the one grammar of their values.

    torso_mass=6                   absolute
    friction=x0.5                  relative to the default
    torso_mass=1..9                uniform
    friction=x0.5..x2              uniform, relative
    damping=log:0.1..10            log-uniform
    torso_mass=normal:6:1.5:3..9   normal, truncated to 3..9
    torso_mass=0.5..11.5:12        a grid of 12 values (only for targets and landscapes)
    damping=fit:3:0:0.02;0.01:2.8..3.2   a fit's law, joint with the other parameters' (`JointLaw`)

A parameter is always applied to the model's defaults, never to a value that was already changed.
Parameters of the whole robot come before those of its parts, whatever the order they are named in:
with density=2,torso_mass=6 the torso weighs 6 kg.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.physics.model_fields import Apply
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
    apply: Apply
    meaning: str
    constants: bool = False

    def check(self, value: float) -> float:
        """Return a value. Raises BadValue where it is out of bounds."""
        if not (math.isfinite(value) and self.low <= value <= self.high):
            raise BadValue(
                f"{self.name}={value:g} is out of bounds; allowed: {self.low:g}..{self.high:g} "
                f"{self.unit}"
            )
        return value


@dataclass(frozen=True)
class Distribution:
    """How a parameter is drawn, in absolute units.

    `kind` is `uniform`, `log` (log-uniform) or `normal` (truncated).
    """

    kind: str
    low: float
    high: float
    mean: float = 0.0
    sd: float = 0.0

    def draw(self, random: Streams) -> np.ndarray:
        """Return one value a stream, float64 [n]."""
        return self.invert(random.uniform(0.0, 1.0, 1)[:, 0])

    def invert(self, u: np.ndarray) -> np.ndarray:
        """Return the quantiles at `u` (n,) in 0..1, float64 [n]."""
        if self.kind == "uniform":
            value = self.low + u * (self.high - self.low)
        elif self.kind == "log":
            value = self.low * (self.high / self.low) ** u
        else:
            value = self._invert_normal(u)
        return np.clip(value, self.low, self.high)  # rounding may step over an end

    def _invert_normal(self, u: np.ndarray) -> np.ndarray:
        """Return the quantiles of the truncated normal distribution at `u` in 0..1."""
        from scipy.special import ndtr, ndtri

        a, b = ndtr((self.low - self.mean) / self.sd), ndtr((self.high - self.mean) / self.sd)
        return self.mean + self.sd * ndtri(a + u * (b - a))


@dataclass(frozen=True)
class JointLaw(Distribution):
    """A parameter's part of a joint law: log-normal, truncated to low..high.

    log(value + offset) is normal around log(mean + offset), by the `loadings` [K] on K standard
    normal factors that all parameters of a world's task share: what is in one parameter's law is
    its own, and the correlation is there nevertheless. Truncation maps the quantiles, so that each
    parameter alone is exactly a truncated log-normal.
    """

    offset: float = 0.0
    loadings: tuple[float, ...] = ()

    def draw_jointly(self, factors: np.ndarray) -> np.ndarray:
        """Return one value a row of standard normal factors (n, K or more), float64 [n]."""
        from scipy.special import ndtr, ndtri

        # A sum over columns, one after the other: the same bits in any batch.
        total = np.zeros(len(factors))
        for k, loading in enumerate(self.loadings):
            total = total + loading * factors[:, k]
        centre = math.log(self.mean + self.offset)
        a = ndtr((math.log(self.low + self.offset) - centre) / self.sd)
        b = ndtr((math.log(self.high + self.offset) - centre) / self.sd)
        z = ndtri(a + ndtr(total / self.sd) * (b - a))
        return np.clip(np.exp(centre + self.sd * z) - self.offset, self.low, self.high)


@dataclass(frozen=True)
class Grid:
    """A grid axis: the values a parameter takes, in absolute units."""

    values: tuple[float, ...]


ParameterSpec = float | Distribution | Grid

MAX_GRID_VALUES = 1000

# no bare final point: 0...5 would read two ways
NUMBER = r"x?[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
VALUE = re.compile(NUMBER)
RANGE = re.compile(rf"(?P<kind>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})(?::(?P<count>\d+))?")
NORMAL = re.compile(
    rf"normal:(?P<mean>{NUMBER}):(?P<sd>{NUMBER}):(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})"
)

JOINT = re.compile(
    rf"fit:(?P<mean>{NUMBER}):(?P<offset>{NUMBER}):(?P<loadings>{NUMBER}(?:;{NUMBER})*)"
    rf":(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})"
)


def parse_setting(text: str, parameter: Parameter) -> ParameterSpec:
    """Return what the right side of `name=...` says; relative values (x2) become absolute.

    Raises BadValue with the grammar in one line.
    """
    if VALUE.fullmatch(text):
        return parameter.check(_parse_number(text, parameter))
    if match := RANGE.fullmatch(text):
        return _parse_range(match, parameter)
    if match := NORMAL.fullmatch(text):
        return _parse_normal(match, parameter)
    if match := JOINT.fullmatch(text):
        return _parse_joint(match, parameter)
    raise BadValue(
        f"{parameter.name}={text!r} is no setting; write a number (2), a relative one (x2), "
        "a distribution (1..9, log:1..9, normal:6:1.5:3..9) or a grid (1..9:5)"
    )


def _parse_number(text: str, parameter: Parameter) -> float:
    if text.startswith("x"):
        return float(text[1:]) * parameter.default
    return float(text)


def _parse_range(match: re.Match[str], parameter: Parameter) -> Distribution | Grid:
    low, high = _parse_ends(match, parameter)
    if low > high:
        raise BadValue(f"{parameter.name}={match.string}: the lower end comes first")
    if match["kind"] and low <= 0:
        raise BadValue(f"{parameter.name}={match.string}: log: needs a lower end above 0")
    if match["count"]:
        return _parse_grid(match, parameter, low, high)
    return Distribution("log" if match["kind"] else "uniform", low, high)


def _parse_ends(match: re.Match[str], parameter: Parameter) -> tuple[float, float]:
    low = parameter.check(_parse_number(match["low"], parameter))
    high = parameter.check(_parse_number(match["high"], parameter))
    return low, high


def _parse_grid(match: re.Match[str], parameter: Parameter, low: float, high: float) -> Grid:
    count = int(match["count"])
    fewest = 1 if low == high else 2
    if not fewest <= count <= MAX_GRID_VALUES:
        raise BadValue(
            f"{parameter.name}={match.string}: a grid axis has 2 to {MAX_GRID_VALUES} values (1 "
            "where its ends are equal)"
        )
    space = np.geomspace if match["kind"] else np.linspace
    return Grid(tuple(space(low, high, count).tolist()))


def _parse_normal(match: re.Match[str], parameter: Parameter) -> Distribution:
    low, high = _parse_ends(match, parameter)
    mean, sd = _parse_number(match["mean"], parameter), _parse_number(match["sd"], parameter)
    if not (low < high and sd > 0 and low <= mean <= high):
        raise BadValue(
            f"{parameter.name}={match.string}: normal:MEAN:SD:LOW..HIGH needs LOW <= MEAN <= HIGH "
            "and SD > 0"
        )
    return Distribution("normal", low, high, mean, sd)


def _parse_joint(match: re.Match[str], parameter: Parameter) -> JointLaw:
    low, high = _parse_ends(match, parameter)
    mean, offset = _parse_number(match["mean"], parameter), float(match["offset"])
    loadings = tuple(map(float, match["loadings"].split(";")))
    sd = math.hypot(*loadings)
    if not (low < high and low <= mean <= high and sd > 0 and low + offset > 0):
        raise BadValue(
            f"{parameter.name}={match.string}: fit:MEAN:OFFSET:LOADINGS:LOW..HIGH needs "
            "LOW <= MEAN <= HIGH, LOW + OFFSET > 0, and a loading that is not 0"
        )
    return JointLaw("fit", low, high, mean, sd, offset, loadings)


def format_setting(setting: ParameterSpec) -> str:
    """Return the canonical text of a setting: `parse_setting` reads it back to an equal one."""
    if isinstance(setting, Grid):
        return _format_grid(np.array(setting.values))
    if isinstance(setting, Distribution):
        return _format_distribution(setting)
    short = f"{setting:g}"
    return short if float(short) == setting else repr(setting)


def _format_grid(values: np.ndarray) -> str:
    axis = f"{values[0]!s}..{values[-1]!s}:{len(values)}"
    if np.array_equal(values, np.linspace(values[0], values[-1], len(values))):
        return axis
    return f"log:{axis}"


def _format_distribution(distribution: Distribution) -> str:
    span = f"{distribution.low!r}..{distribution.high!r}"
    if isinstance(distribution, JointLaw):
        loadings = ";".join(map(repr, distribution.loadings))
        return f"fit:{distribution.mean!r}:{distribution.offset!r}:{loadings}:{span}"
    if distribution.kind == "normal":
        return f"normal:{distribution.mean!r}:{distribution.sd!r}:{span}"
    return span if distribution.kind == "uniform" else f"log:{span}"


def find_parameter(table: Mapping[str, Parameter], name: str, robot: str) -> Parameter:
    """Return a parameter by name. Raises UnknownName with the nearest names."""
    if name not in table:
        raise UnknownName(f"parameter of {robot}", name, table)
    return table[name]


class WorldParameters:
    """The parameters that may differ between n worlds, and the model fields that they give."""

    def __init__(self, table: Mapping[str, Parameter], names: Sequence[str], n: int):
        self.parameters = [table[name] for name in names]
        self.values = np.tile([p.default for p in self.parameters], (n, 1))  # float64 [n, P]
        # What is written last holds: the table goes from the whole robot to its parts, so that
        # density=2,torso_mass=6 means a torso of 6 kg in whatever order the two are named.
        place = list(table)
        self._order = sorted(range(len(names)), key=lambda i: place.index(names[i]))

    def find_changed(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return which worlds `ids` have other values than `values` (k, P), bool (k,)."""
        return np.any(self.values[ids] != values, axis=1)

    def compute_fields(
        self, defaults: Mapping[str, np.ndarray], values: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return model fields (k, ...) under values (k, P), from the fields' defaults."""
        fields = {
            field: np.repeat(default[None], len(values), axis=0)
            for field, default in defaults.items()
        }
        for i in self._order:
            self.parameters[i].apply(fields, values[:, i])
        return fields
