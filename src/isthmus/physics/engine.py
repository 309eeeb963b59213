"""The contract of a physics engine: code that steps N worlds, each with its own dynamics, and
nothing else.

An engine never sees a reward, an observation or a policy. Its `rows` are opaque and exact (written
back into any simulator of the same model they continue bit for bit); `qpos` and `qvel` are the
engine-neutral configuration.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

VELOCITY_BOUND = 1e4
"""A world whose joint velocity (m/s or rad/s) exceeds this has diverged: with all motors at full power, whichever way,
the robots here reach 25 (Ant) to 200 (Reacher)."""


class Start(NamedTuple):
    """Where worlds begin, one row a world; of a keyframe, without the leading axis.

    None means: for `ctrl`, what the actuators were told last, the control that holds the pose; for
    `act`, the activations of actuators that have one, that control where they follow it (filters),
    zeros elsewhere; for mocap bodies where the model has them.
    """

    qpos: np.ndarray  # float64 [n, nq]
    qvel: np.ndarray  # float64 [n, nv]
    act: np.ndarray | None = None  # float64 [n, na]
    ctrl: np.ndarray | None = None  # float64 [n, A]
    mocap_pos: np.ndarray | None = None  # float64 [n, nmocap, 3]
    mocap_quat: np.ndarray | None = None  # float64 [n, nmocap, 4]


class Simulator(Protocol):
    """N worlds of one robot. `ids` are the worlds meant, int [n], ascending; arrays have one row a
    world.
    """

    n: int
    dt: float  # seconds a step (frame skip included)
    rows: np.ndarray  # float64 [N, S], live and writable
    qpos: np.ndarray  # float64 [N, nq], live
    qvel: np.ndarray  # float64 [N, nv], live
    control: np.ndarray  # float64 [N, A], what the actuators were told last
    qpos0: np.ndarray  # float64 [nq], the model's default pose

    def set_parameters(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Give worlds the dynamics `values` (n, P), in absolute units and in the order of the
        simulator's names.
        """
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
        """Put worlds where a `Start` says, with no past, and compute what derives from it; see
        there for None.
        """
        ...

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        """Advance worlds by one step under `control` (n, A); return which of them diverged, bool
        (n,).

        Divergence is a state that is not finite, a velocity beyond VELOCITY_BOUND, a control that
        is not finite, or an error of the engine. It is contained, not repaired: other worlds are
        untouched, the row of a diverged one is what the engine left there.
        """
        ...

    def position(self, body: str) -> np.ndarray:
        """World positions (N, 3) of a body, live; they may lag the state by one substep, as in
        MuJoCo's `mj_step`.
        """
        ...

    def contact_forces(self, ids: np.ndarray) -> np.ndarray:
        """External contact forces (n, bodies, 6) in MuJoCo's `cfrc_ext` layout, after the last
        step.
        """
        ...

    def contacts(self, world: int) -> list[tuple[tuple[int, int], float]]:
        """One world's contacts in the last substep: the two geoms of the model, and the sliding
        friction there.
        """
        ...

    def world_model(self, world: int) -> Any:
        """A MuJoCo model of one world's own, with its dynamics: what draws it."""
        ...
