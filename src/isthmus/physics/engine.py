"""The contract of a physics engine, and the table of engines.

An engine steps N worlds, each with its own dynamics, and never sees a reward, an observation or a
policy. A simulator's `rows` are opaque and exact (written back into any simulator of the same model
they continue bit for bit); `qpos` and `qvel` are the engine-neutral configuration.

An engine is a class in a file of its own, and a row of `ENGINES`, or `@register_engine` in a file
that is named with `--import`:

    @register_engine
    class MyEngine(MujocoEngine):
        name = "mine"
        simulator = MySimulator
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np

from isthmus.physics.numerics import Numeric, Numerics
from isthmus.physics.parameters import Parameter
from isthmus.plugins import Registry, import_entry
from isthmus.types import BadValue

if TYPE_CHECKING:
    import mujoco

    from isthmus.physics.servos import Servos

VELOCITY_BOUND = 1e4
"""A world whose joint velocity (m/s or rad/s) exceeds this has diverged.

With all motors at full power, whichever way, the built-in robots reach 25 (Ant) to 200 (Reacher).
"""

Contact = tuple[tuple[int, int], float]
"""Two geoms of the model that touch, and the sliding friction between them."""


class Start(NamedTuple):
    """Where worlds begin, one row a world; of a keyframe, without the leading axis.

    None means: for `ctrl`, the last control of the actuators, the one that holds the pose; for
    `act`, the activations of actuators that have one, that control where they follow it (filters),
    zeros elsewhere; for mocap bodies where the model has them.
    """

    qpos: np.ndarray  # float64 [n, nq]
    qvel: np.ndarray  # float64 [n, nv]
    act: np.ndarray | None = None  # float64 [n, na]
    ctrl: np.ndarray | None = None  # float64 [n, A]
    mocap_pos: np.ndarray | None = None  # float64 [n, nmocap, 3]
    mocap_quat: np.ndarray | None = None  # float64 [n, nmocap, 4]


class Equipment(NamedTuple):
    """What a task's worlds have that its robot's model has not, or that costs to look at."""

    servos: Servos | None = None
    """Servos computed at every physics step: then controls are their targets."""
    state_size: int = 0
    """Numbers a world that the task keeps in its row, such as a command."""
    needs: tuple[str, ...] = ()
    """What is derived by the engine and looked at, of `DERIVED`."""


NO_EQUIPMENT = Equipment()

DERIVED = {
    "sensors": ("sensordata",),
    "orientations": ("xquat",),
    "velocities": ("cvel", "subtree_com", "xpos"),
    "efforts": ("actuator_force",),
}
"""What a task may look at beyond positions, and MuJoCo's fields that hold it."""


class Simulator(Protocol):
    """N worlds of one robot.

    `ids` are the worlds meant, int [n], ascending; arrays have one row a world.
    """

    model: mujoco.MjModel  # the robot, with its default dynamics
    parameters: list[Parameter]  # those that may differ between worlds
    n: int
    nq: int
    nv: int
    dt: float  # seconds a step (frame skip included)
    rows: np.ndarray  # float64 [N, S], live and writable
    qpos: np.ndarray  # float64 [N, nq], live
    qvel: np.ndarray  # float64 [N, nv], live
    control: np.ndarray  # float64 [N, A], the last control
    qpos0: np.ndarray  # float64 [nq], the model's default pose
    task_state: np.ndarray  # float64 [N, K], live: a task's own part of `rows`; resets leave it

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Give worlds the dynamics `values` (n, P), in absolute units, a column a parameter."""
        ...

    def reset(
        self,
        ids: np.ndarray,
        qpos: np.ndarray,
        qvel: np.ndarray,
        act: np.ndarray | None = None,
        ctrl: np.ndarray | None = None,
        mocap_pos: np.ndarray | None = None,
        mocap_quat: np.ndarray | None = None,
    ) -> None:
        """Put worlds where a `Start` says, with no past, and compute what derives from it."""
        ...

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Advance worlds by one step under `control` (n, A); return which diverged, bool (n,).

        Divergence is a state that is not finite, a velocity beyond VELOCITY_BOUND, a control that
        is not finite, or an error of the engine. It is contained, not repaired: other worlds are
        untouched, the row of a diverged one is what the engine left there.
        """
        ...

    def position(self, body: str) -> np.ndarray:
        """Return the world positions (N, 3) of a body, live.

        They may lag the state by one substep, as in MuJoCo's `mj_step`.
        """
        ...

    def derived(self, field: str) -> np.ndarray:
        """Return a field of MuJoCo's (N, ...) that the equipment needs, live.

        It may lag the state by one substep, as positions do.
        """
        ...

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        """Return external contact forces (n, bodies, 6), as MuJoCo's `cfrc_ext`, of a step."""
        ...

    def contacts(self, world: int) -> list[Contact]:
        """Return one world's contacts in the last substep."""
        ...

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return a MuJoCo model with one world's own dynamics: what draws it."""
        ...


class SimulatorFactory(Protocol):
    """How a simulator is made, usually its class."""

    def __call__(
        self,
        path: Path,
        names: tuple[str, ...],
        n: int,
        frame_skip: int,
        forces: bool = False,
        numerics: Numerics = ...,
        equipment: Equipment = NO_EQUIPMENT,
    ) -> Simulator:
        """Return a simulator of n worlds of an MJCF file's robot.

        `names` are the parameters that may differ between worlds; `forces` says that contacts and
        their forces will be needed. A step lasts `frame_skip` of the model's own time steps, also
        where `numerics` name another. `equipment` is given to an engine that passed it in
        `check_equipment`, where a task has some: others need not take it.
        """
        ...


class Engine:
    """What the package asks of an engine about the robot in an MJCF file, `path`.

    A subclass names its simulator, and answers what has no default.
    """

    name: ClassVar[str]  # as `engine=NAME` writes it
    simulator: ClassVar[SimulatorFactory]
    packages: ClassVar[tuple[str, ...]] = ()
    """Installed packages on which the bits of a run depend: a run records their versions."""
    lacked_numerics: ClassVar[Mapping[str, str]] = {}
    """Settings of `isthmus.physics.numerics` that the engine lacks, by name: why."""

    def check_installed(self) -> None:
        """Raise BadValue where a package of the engine is missing."""

    def check(self, path: Path, forces: bool) -> None:
        """Raise BadValue where the engine cannot build the robot.

        `forces` says that its task needs contact forces.
        """

    def check_equipment(self, task: str, equipment: Equipment) -> None:
        """Raise BadValue where the engine lacks a task's equipment: by default it has none."""
        if equipment.servos:
            raise BadValue(
                f"engine={self.name} computes no servos, which {task} has; leave "
                f"engine={self.name} out"
            )
        if equipment != NO_EQUIPMENT:
            raise BadValue(
                f"engine={self.name} has no sensors, body velocities or state of a task's own, and "
                f"{task} needs them; leave engine={self.name} out"
            )

    def parameters(self, path: Path) -> dict[str, Parameter]:
        """Return the physical parameters that may be set, by name, in the order they apply."""
        raise NotImplementedError

    def withheld(self, path: Path) -> dict[str, str]:
        """Return the parameters that no engine can offer of this robot, by name: why."""
        return {}

    def lacked(self, path: Path) -> dict[str, str]:
        """Return the parameters that the model has and the engine lacks, by name: why."""
        return {}

    def numerics(self, path: Path) -> dict[str, str]:
        """Return the settings of `isthmus.physics.numerics` that may be set: the robot's own."""
        return {}

    def read_numeric(self, path: Path, frame_skip: int, name: str, text: str) -> Numeric:
        """Return what the right side of `name=...` says of a setting in `numerics`."""
        raise NotImplementedError

    def check_numeric(self, path: Path, name: str) -> None:
        """Raise BadValue where the engine lacks a setting of `isthmus.physics.numerics`."""
        if name not in self.numerics(path):
            reason = self.lacked_numerics.get(name, "the engine has no such setting")
            raise BadValue(f"{name} cannot be set with engine={self.name}: {reason}")

    def left_out(self, path: Path) -> tuple[str, ...]:
        """Return what the model has and the engine is built without, a line a kind."""
        return ()

    def action_scales_force(self, path: Path) -> bool:
        """Return whether a scaled action scales the force of every motor."""
        raise NotImplementedError


DEFAULT_ENGINE = "mujoco"

ENGINES: Registry[str | type[Engine]] = Registry(
    "engine",
    "engines",
    {
        "mujoco": "isthmus.physics.mujoco_engine:MujocoEngine",
        "dart": "isthmus.physics.dart:DartEngine",
    },
)
"""Engines by name: the class, or "module:class", which is imported once the engine is asked for."""


def register_engine(engine: type[Engine]) -> type[Engine]:
    """Add an engine to the table, as a class decorator. Raises BadValue for a built-in name."""
    ENGINES.add(engine.name, engine)
    return engine


def find_engine(name: str) -> Engine:
    """Return the engine of that name. Raises UnknownName with the nearest names."""
    engine = import_entry(ENGINES.find(name))
    return engine()
