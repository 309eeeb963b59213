"""Numerics: how an engine computes, by name, as settings of a domain.

    timestep=0.001           seconds; x0.5 is half the model's
    integrator=implicitfast
    cone=elliptic
    solver=CG
    solver_iterations=4

Each is one value for all worlds of a domain. The control rate stays: with another timestep a
control step has as many more of them. What is not named is the model's own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from isthmus.types import BadValue, UnknownName

if TYPE_CHECKING:
    import mujoco

MAX_SUBSTEPS = 1000  # time steps in a control step
MAX_ITERATIONS = 10_000
SAME_TIMESTEP = 1e-6
"""Two timesteps differ by less, relatively, where one is the other, written with few digits."""

Numeric = float | int | str


@dataclass(frozen=True)
class Numerics:
    """What a domain says of its engine's numerics; None is the model's own."""

    timestep: float | None = None
    integrator: str | None = None
    cone: str | None = None
    solver: str | None = None
    solver_iterations: int | None = None

    def named(self) -> dict[str, Numeric]:
        """Return what is said, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def texts(self) -> list[str]:
        """Return what is said, as `name=value`: numbers to the last bit."""
        return [f"{name}={value}" for name, value in self.named().items()]


AS_MODELLED = Numerics()
"""The model's own numerics."""


class NumericSetting(NamedTuple):
    """A row of the table: what may be said, and where a compiled model has it."""

    field: str  # of `opt`
    unit: str
    allowed: str
    meaning: str
    choices: Mapping[str, str] = {}
    """MuJoCo's constants by what a user writes; empty for a number."""


INTEGRATORS = {
    "Euler": "mjINT_EULER",
    "RK4": "mjINT_RK4",
    "implicit": "mjINT_IMPLICIT",
    "implicitfast": "mjINT_IMPLICITFAST",
    "discrete": "mjINT_DISCRETE",
}
CONES = {"pyramidal": "mjCONE_PYRAMIDAL", "elliptic": "mjCONE_ELLIPTIC"}
SOLVERS = {"PGS": "mjSOL_PGS", "CG": "mjSOL_CG", "Newton": "mjSOL_NEWTON"}


def _choose(field: str, choices: Mapping[str, str], meaning: str) -> NumericSetting:
    return NumericSetting(field, "", ", ".join(choices), meaning, choices)


NUMERICS = {
    "timestep": NumericSetting(
        "timestep", "s", "a whole part of a control step", "of physics; the control rate stays"
    ),
    "integrator": _choose("integrator", INTEGRATORS, "from one time step to the next"),
    "cone": _choose("cone", CONES, "of contact friction"),
    "solver": _choose("solver", SOLVERS, "of contacts and other constraints"),
    "solver_iterations": NumericSetting(
        "iterations", "iterations", f"1..{MAX_ITERATIONS}", "of the solver, at most"
    ),
}


def format_default(name: str, model: mujoco.MjModel) -> str:
    """Return a model's own value of a setting, as a user would write it."""
    setting = NUMERICS[name]
    value = getattr(model.opt, setting.field)
    for choice, constant in setting.choices.items():
        if _find_constant(constant) == value:
            return choice
    return f"{value:g}"


def read_numeric(name: str, text: str, model: mujoco.MjModel, frame_skip: int) -> Numeric:
    """Read the right side of `name=...`, of a robot that is controlled every `frame_skip` steps.

    Raises BadValue or UnknownName, in one line.
    """
    setting = NUMERICS[name]
    if ".." in text or "|" in text:
        raise BadValue(
            f"{name}={text}: it is one value for all worlds of a domain, no axis and no "
            "distribution; name a domain for each"
        )
    if setting.choices:
        return _read_choice(name, text, setting.choices)
    if name == "timestep":
        if model.nhistory:
            raise BadValue(
                "timestep cannot be set in this model: it has actuators or sensors with delay or "
                "nsample, which count its time steps"
            )
        return _read_timestep(text, model.opt.timestep, frame_skip)
    return _read_iterations(name, text)


def _read_choice(name: str, text: str, choices: Mapping[str, str]) -> str:
    for choice in choices:
        if choice.casefold() == text.casefold():
            return choice
    raise UnknownName(name, text, choices)


def _read_iterations(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_ITERATIONS):
        raise BadValue(f"{name}={text}: needs a whole number in 1..{MAX_ITERATIONS}")
    return int(text)


def _read_timestep(text: str, default: float, frame_skip: int) -> float:
    """Return a timestep of which a control step has a whole number, exactly."""
    try:
        value = float(text.removeprefix("x"))
    except ValueError:
        raise BadValue(
            f"timestep={text!r}: needs seconds (0.001), or a part of the model's (x0.5)"
        ) from None
    if text.startswith("x"):
        value *= default
    control_step = default * frame_skip
    if not control_step / MAX_SUBSTEPS * (1 - SAME_TIMESTEP) <= value <= control_step * 1.5:
        raise BadValue(
            f"timestep={text}: needs {control_step / MAX_SUBSTEPS:g}..{control_step:g} s, the "
            "last of which is a control step"
        )
    steps = round(control_step / value)
    if abs(steps * value / control_step - 1) > SAME_TIMESTEP:
        raise BadValue(_name_neighbours(text, control_step, value))
    return default if steps == frame_skip else control_step / steps


def _name_neighbours(text: str, control_step: float, value: float) -> str:
    """Say which timesteps divide a control step, those next to a value that does not."""
    fewer = max(1, int(control_step / value))
    near = []
    for steps in dict.fromkeys((max(1, fewer - 1), fewer, fewer + 1, fewer + 2)):
        near.append(f"{control_step / steps:.7g}")
    return (
        f"timestep={text} does not divide the control step of {control_step:g} s; these do: "
        f"{', '.join(near)} ({control_step:g}/1, /2, /3, ...)"
    )


def apply_numerics(
    model: mujoco.MjModel, frame_skip: int, numerics: Numerics
) -> tuple[mujoco.MjModel, int]:
    """Return a model with other numerics, and how many of its time steps make a control step.

    The model itself where nothing is said.
    """
    if numerics == AS_MODELLED:
        return model, frame_skip
    control_step = model.opt.timestep * frame_skip
    model = copy.copy(model)
    for name, value in numerics.named().items():
        setting = NUMERICS[name]
        if setting.choices:
            value = _find_constant(setting.choices[str(value)])
        setattr(model.opt, setting.field, value)
    return model, round(control_step / model.opt.timestep)


def _find_constant(name: str) -> int:
    import mujoco

    for kind in (mujoco.mjtIntegrator, mujoco.mjtCone, mujoco.mjtSolver):
        if name in kind.__members__:
            return int(kind.__members__[name])
    raise BadValue(f"this MuJoCo, {mujoco.__version__}, has no {name}")
