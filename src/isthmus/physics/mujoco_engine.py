"""MuJoCo as an engine: its row of the table."""

from __future__ import annotations

from pathlib import Path

from isthmus.physics.engine import Engine, Equipment
from isthmus.physics.mujoco import (
    MujocoSimulator,
    action_scales_force,
    load_model,
    load_parameters,
    load_withheld,
)
from isthmus.physics.numerics import NUMERICS, Numeric, format_default, read_numeric
from isthmus.physics.parameters import Parameter


class MujocoEngine(Engine):
    """MuJoCo, the engine that is meant where none is named."""

    name = "mujoco"
    simulator = MujocoSimulator
    packages = ("mujoco",)

    def check_equipment(self, task: str, equipment: Equipment) -> None:
        """Refuse nothing: MuJoCo has it all."""

    def parameters(self, path: Path) -> dict[str, Parameter]:
        """Return `load_parameters`."""
        return load_parameters(path)

    def withheld(self, path: Path) -> dict[str, str]:
        """Return `load_withheld`."""
        return load_withheld(path)

    def numerics(self, path: Path) -> dict[str, str]:
        """Return the settings that are not among `lacked_numerics`, as the model has them."""
        model, values = load_model(path), {}
        for name in NUMERICS:
            if name not in self.lacked_numerics:
                values[name] = format_default(name, model)
        return values

    def read_numeric(self, path: Path, frame_skip: int, name: str, text: str) -> Numeric:
        """Return `isthmus.physics.numerics.read_numeric` of the model."""
        return read_numeric(name, text, load_model(path), frame_skip)

    def action_scales_force(self, path: Path) -> bool:
        """Return `action_scales_force`."""
        return action_scales_force(path)
