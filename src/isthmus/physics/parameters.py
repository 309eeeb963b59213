"""Physical parameters by name: unit, default, bounds, what they change; and the one grammar for shifts.

    torso_mass=6            absolute                 friction=x0.5            relative to the default
    torso_mass=1..9         uniform                  friction=x0.5..x2        uniform, relative
    damping=log:0.1..10     log-uniform              torso_mass=normal:6:1.5:3..9    normal, truncated to 3..9
    torso_mass=0.5..11.5:12  a grid of 12 values (only for targets and landscapes)

A parameter is always applied to the model's defaults, never to a value that was already changed. Parameters of the
whole robot come before those of its parts, whatever the order they are named in: with density=2,torso_mass=6 the torso
weighs 6 kg.
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

    `apply(fields, values)` writes values (n,) into `fields`, a mapping from model field to its rows (n, ...), which
    hold the defaults; `fields` lists them. `constants` says that derived constants depend on it.
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
            raise BadValue(f"{self.name}={value:g} is out of bounds; allowed: {self.low:g}..{self.high:g} {self.unit}")
        return value


@dataclass(frozen=True)
class Law:
    """How a parameter is drawn, in absolute units: `uniform`, `log` (log-uniform) or `normal` (truncated)."""

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
class Values:
    """A grid axis: the values a parameter takes, in absolute units."""

    values: tuple[float, ...]


Setting = float | Law | Values

NUMBER = r"x?[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"  # no bare final point: 0...5 would read two ways
RANGE = re.compile(rf"(?P<kind>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})(?::(?P<count>\d+))?")
NORMAL = re.compile(rf"normal:(?P<mean>{NUMBER}):(?P<sd>{NUMBER}):(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})")


def parse_setting(text: str, parameter: Parameter) -> Setting:
    """Read the right side of `name=...`; relative values (x2) become absolute by the parameter's default.

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
                    f"{parameter.name}={text}: a grid axis has 2 to 1000 values (1 where its ends are equal)"
                )
            axis = np.geomspace(low, high, count) if match["kind"] else np.linspace(low, high, count)
            return Values(tuple(float(v) for v in axis))
        return Law("log" if match["kind"] else "uniform", low, high)
    if match := NORMAL.fullmatch(text):
        low, high = parameter.check(number(match["low"])), parameter.check(number(match["high"]))
        mean, sd = number(match["mean"]), number(match["sd"])
        if not (low < high and sd > 0 and low <= mean <= high):
            raise BadValue(f"{parameter.name}={text}: normal:MEAN:SD:LOW..HIGH needs LOW <= MEAN <= HIGH and SD > 0")
        return Law("normal", low, high, mean, sd)
    raise BadValue(
        f"{parameter.name}={text!r} is no setting; write a number (2), a relative one (x2), "
        "a law (1..9, log:1..9, normal:6:1.5:3..9) or a grid (1..9:5)"
    )


def format_setting(setting: Setting) -> str:
    """The canonical text of a setting: `parse_setting` reads it back to an equal one."""
    if isinstance(setting, Values):
        v = np.array(setting.values)
        if len(v) == 1 or np.array_equal(v, np.linspace(v[0], v[-1], len(v))):
            return f"{v[0]!s}..{v[-1]!s}:{len(v)}"
        return f"log:{v[0]!s}..{v[-1]!s}:{len(v)}"
    if isinstance(setting, Law):
        span = f"{setting.low!r}..{setting.high!r}"
        if setting.kind == "normal":
            return f"normal:{setting.mean!r}:{setting.sd!r}:{span}"
        return span if setting.kind == "uniform" else f"log:{span}"
    return f"{setting:g}" if float(f"{setting:g}") == setting else repr(setting)


def mujoco_parameters(model) -> dict[str, Parameter]:
    """The parameters of a compiled MuJoCo model, by name.

    Names come from the model: every body with mass gives `<body>_mass`; every actuated joint `<joint>_armature`,
    `<joint>_strength`, `<joint>_range`; every actuated joint and every passive hinge or slide `<joint>_damping` and
    `<joint>_frictionloss` (the suffix `_joint` of a joint's name is dropped). The joints that let a whole body float
    (a walker's root, Reacher's goal) are no mechanism and have no names here. A factor of nothing is not offered
    either: `damping` needs an actuated joint that is damped, `armature` one with a rotor.
    """
    import mujoco

    from isthmus.physics.friction import offer_friction

    table: dict[str, Parameter] = {}

    def add(name, unit, default, low, high, fields, apply, meaning, constants=False) -> None:
        table[name] = Parameter(name, unit, float(default), low, high, tuple(fields), apply, meaning, constants)

    def scaled(field: str, index: int | list[int] | slice = slice(None)) -> Callable:
        def apply(fields, values):
            rows = fields[field]
            rows[:, index] = rows[:, index] * values.reshape((-1,) + (1,) * (rows[:, index].ndim - 1))

        return apply

    def assigned(field: str, index: int) -> Callable:
        def apply(fields, values):
            fields[field][:, index] = values

        return apply

    gravity = float(np.linalg.norm(model.opt.gravity))

    def set_gravity(fields, values):
        fields["opt.gravity"][:] = fields["opt.gravity"] * (values[:, None] / gravity)

    if gravity > 0:
        add("gravity", "m/s2", gravity, 0.0, 1000.0, ["opt.gravity"], set_gravity, "magnitude; its direction stays")

    table.update({parameter.name: parameter for parameter in offer_friction(model)})

    def set_density(fields, values):
        fields["body_mass"][:] = fields["body_mass"] * values[:, None]
        fields["body_inertia"][:] = fields["body_inertia"] * values[:, None, None]

    add(
        "density", "x", 1.0, 0.01, 100.0, ["body_mass", "body_inertia"], set_density,
        "mass and inertia of all bodies together", constants=True,
    )  # fmt: skip
    for b in range(1, model.nbody):
        if model.body_mass[b] > 0 and model.body(b).name:
            add(
                f"{model.body(b).name}_mass", "kg", model.body_mass[b], 1e-3, 1e4, ["body_mass"],
                assigned("body_mass", b), "mass alone, as published: the body's inertia stays", constants=True,
            )  # fmt: skip

    joints = {int(model.actuator_trnid[a, 0]): a for a in range(model.nu)
              if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT}  # fmt: skip
    dofs = [int(model.jnt_dofadr[j]) for j in joints]
    limited = [j for j in joints if model.jnt_limited[j]]
    if model.dof_damping[dofs].any():
        add("damping", "x", 1.0, 0.0, 1000.0, ["dof_damping"], scaled("dof_damping", dofs), "all actuated joints")
    if model.dof_armature[dofs].any():
        add("armature", "x", 1.0, 0.0, 1000.0, ["dof_armature"], scaled("dof_armature", dofs),
            "rotor inertia of all actuated joints", constants=True)  # fmt: skip
    if model.nu:
        add("motor_strength", "x", 1.0, 0.0, 100.0, ["actuator_gear"], scaled("actuator_gear"), "all motors' gear",
            constants=True)  # fmt: skip
    if limited:
        add("joint_range", "x", 1.0, 0.0, 10.0, ["jnt_range"], scaled("jnt_range", limited),
            "both ends of all limited, actuated joints' ranges")  # fmt: skip
    slide, hinge = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
    kind, body = model.jnt_type, model.jnt_bodyid
    passive = [j for j in range(model.njnt) if j not in joints]
    floating = {body[j] for j in passive if model.body_parentid[body[j]] == 0 and kind[j] != hinge}
    passive = [j for j in passive if kind[j] in (slide, hinge) and body[j] not in floating]
    for j in (*joints, *passive):
        name, d = model.joint(j).name.removesuffix("_joint"), int(model.jnt_dofadr[j])
        if not name:
            continue
        force, viscous, inertia = ("N", "N s/m", "kg") if kind[j] == slide else ("N m", "N m s/rad", "kg m2")
        add(f"{name}_damping", viscous, model.dof_damping[d], 0.0, 1e4, ["dof_damping"],
            assigned("dof_damping", d), "absolute")  # fmt: skip
        add(f"{name}_frictionloss", force, model.dof_frictionloss[d], 0.0, 1e4, ["dof_frictionloss"],
            assigned("dof_frictionloss", d), "absolute; dry friction in the joint, whatever its speed")  # fmt: skip
        if j in passive:
            continue
        add(f"{name}_armature", inertia, model.dof_armature[d], 0.0, 1e4, ["dof_armature"],
            assigned("dof_armature", d), "absolute", constants=True)  # fmt: skip
        add(f"{name}_strength", "x", 1.0, 0.0, 100.0, ["actuator_gear"], scaled("actuator_gear", joints[j]),
            "one motor's gear", constants=True)  # fmt: skip
        if model.jnt_limited[j]:
            add(f"{name}_range", "x", 1.0, 0.0, 10.0, ["jnt_range"], scaled("jnt_range", j), "both ends")
    return table


def find(table: Mapping[str, Parameter], name: str, robot: str) -> Parameter:
    if name not in table:
        raise UnknownName(f"parameter of {robot}", name, table)
    return table[name]
