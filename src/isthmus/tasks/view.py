"""What a task sees of its worlds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from isthmus.physics.engine import Simulator
from isthmus.types import BadValue, UnknownName

if TYPE_CHECKING:
    import mujoco


def find_sensor(model: mujoco.MjModel, name: str) -> tuple[int, int]:
    """Return where a sensor's numbers begin, and how many there are.

    Raises UnknownName with the nearest names.
    """
    try:
        sensor = model.sensor(name).id
    except KeyError:
        names = [model.sensor(i).name for i in range(model.nsensor)]
        raise UnknownName("sensor of the model", name, filter(None, names)) from None
    return int(model.sensor_adr[sensor]), int(model.sensor_dim[sensor])


def find_body(model: mujoco.MjModel, name: str) -> int:
    """Return the index of a body. Raises UnknownName with the nearest names."""
    try:
        return model.body(name).id
    except KeyError:
        names = [model.body(i).name for i in range(model.nbody)]
        raise UnknownName("body of the model", name, filter(None, names)) from None


class SimView:
    """Worlds `ids` of a simulator as a task sees them, one row [n, ...] a world."""

    def __init__(self, simulator: Simulator, ids: np.ndarray):
        self.simulator, self.ids = simulator, ids
        self.dt = simulator.dt
        self._rows: np.ndarray | slice = slice(None) if len(ids) == simulator.n else ids

    @property
    def qpos(self) -> np.ndarray:
        """Positions, float64 [n, nq]."""
        return self._select("qpos", self.simulator.qpos)

    @property
    def qvel(self) -> np.ndarray:
        """Velocities, float64 [n, nv]."""
        return self._select("qvel", self.simulator.qvel)

    def position(self, body: str) -> np.ndarray:
        """Return the world positions of a body, float64 [n, 3]."""
        return self._select(f"position {body}", self.simulator.position(body))

    @property
    def contact_forces(self) -> np.ndarray:
        """External contact forces, float64 [n, bodies, 6]; only for a task that has `forces`."""
        return self.simulator.contact_forces(self.ids)

    def sensor(self, name: str) -> np.ndarray:
        """Return a sensor of the model, float64 [n, size]; for a task that needs "sensors".

        It is of the last physics step's begin, as MuJoCo computes it. Raises UnknownName with the
        nearest names.
        """
        first, size = find_sensor(self.simulator.model, name)
        return self._derive("sensors", "sensordata")[:, first : first + size]

    def orientation(self, body: str) -> np.ndarray:
        """Return quaternions of a body in the world, [n, 4]; for a task that needs
        "orientations".
        """
        return self._derive("orientations", "xquat")[:, self._find_body(body)]

    def velocity(self, body: str) -> np.ndarray:
        """Return a body's velocity in the world's axes, [n, 6]: m/s of its frame, then rad/s.

        For a task that needs "velocities".
        """
        index, model = self._find_body(body), self.simulator.model
        twist = self._derive("velocities", "cvel")[:, index]
        root = int(model.body_rootid[index])
        centre = self._derive("velocities", "subtree_com")[:, root]
        arm = self._derive("velocities", "xpos")[:, index] - centre
        turning, moving = twist[:, :3], twist[:, 3:]
        return np.concatenate([moving + np.cross(turning, arm), turning], axis=1)

    @property
    def effort(self) -> np.ndarray:
        """What the motors gave in the last physics step, [n, A]; for a task that needs
        "efforts".
        """
        return self._derive("efforts", "actuator_force")

    @property
    def state(self) -> np.ndarray:
        """A copy of the task's own state of the worlds, float64 [n, K]."""
        return np.array(self.simulator.task_state[self._rows])

    def write_state(self, first: int, values: np.ndarray) -> None:
        """Write values (n, k) into the task's own state, from column `first` on."""
        self.simulator.task_state[self._rows, first : first + values.shape[1]] = values

    def add_velocity(self, worlds: np.ndarray, first: int, kick: np.ndarray) -> None:
        """Add a kick (k, ?) to the velocities of some of the view's worlds, by their places (k,),
        from the coordinate `first` on.
        """
        ids = self.ids[worlds]
        self.simulator.qvel[ids, first : first + kick.shape[1]] += kick

    def _derive(self, need: str, field: str) -> np.ndarray:
        try:
            values = self.simulator.derived(field)
        except KeyError:
            raise BadValue(
                f"a view shows {need} to a task that needs them; write needs = ({need!r},) in its "
                "class"
            ) from None
        return self._select(field, values)

    def _find_body(self, body: str) -> int:
        return find_body(self.simulator.model, body)

    def once(self, compute: Callable[[SimView], np.ndarray]) -> np.ndarray:
        """Return `compute(view)`, which several methods of a task need; do not write to it."""
        return compute(self)

    def _select(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the view's rows of `values` [N, ...], which are called `name`."""
        return values[self._rows]


class MomentView(SimView):
    """Worlds between two steps: what is asked for again is neither copied nor computed again."""

    def __init__(self, simulator: Simulator, ids: np.ndarray):
        super().__init__(simulator, ids)
        self._kept: dict[object, np.ndarray] = {}

    def once(self, compute: Callable[[SimView], np.ndarray]) -> np.ndarray:
        """Return `compute(view)`, computed once; do not write to it."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        return self._kept[compute]

    def add_velocity(self, worlds: np.ndarray, first: int, kick: np.ndarray) -> None:
        """Add a kick, and forget what was known of the moment before."""
        super().add_velocity(worlds, first, kick)
        self._kept.clear()

    def _select(self, name: str, values: np.ndarray) -> np.ndarray:
        if isinstance(self._rows, slice):
            return values
        if name not in self._kept:
            self._kept[name] = values[self._rows]
        return self._kept[name]
