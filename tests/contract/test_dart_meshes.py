"""Meshes that collide in DART: by their convex hull, as in MuJoCo."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from isthmus.physics.dart import DartSimulator
from isthmus.physics.dart_meshes import find_vertices
from isthmus.physics.mujoco import MujocoSimulator
from isthmus.types import BadValue

pytestmark = pytest.mark.skipif(
    find_spec("dartpy") is None and sys.platform != "linux", reason="no dartpy here"
)
G = 9.81
CORNERS = np.array(list(product((-0.1, 0.1), (-0.2, 0.2), (-0.05, 0.05))))
FLOOR = '<geom name="floor" type="plane" size="0 0 1" friction="0.5"/>'
BRICK = (
    '<body name="brick" pos="0 0 .05"><freejoint/>'
    '<geom name="brick" {} mass="2" friction="0.5"/></body>'
)
MESH, BOX = 'type="mesh" mesh="brick"', 'type="box" size=".1 .2 .05"'


def write(folder: Path, bodies: str, vertices: np.ndarray = CORNERS, **attributes: Any) -> Path:
    path = folder / "mesh.xml"
    numbers = " ".join(map(repr, vertices.ravel().tolist()))
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    path.write_text(
        f'<mujoco><option timestep="0.002"/><asset><mesh name="brick" vertex="{numbers}"{said}/>'
        f"</asset><worldbody>{bodies}</worldbody></mujoco>"
    )
    return path


def coast(simulator: Any, steps: int, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """[qpos, qvel] of the one world after each step, [T, S]."""
    simulator.reset(np.array([0]), qpos[None], qvel[None])
    rows = []
    for _ in range(steps):
        assert not simulator.step(np.array([0]), np.zeros((1, 0))).any()
        rows.append(np.concatenate([simulator.qpos[0], simulator.qvel[0]]))
    return np.array(rows)


REST = np.array([0, 0, 0.05, 1, 0, 0, 0])
SLIDING = np.array([1.0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("geom", [MESH, BOX])
def test_a_brick_slides_by_its_friction(tmp_path: Path, geom: str) -> None:
    simulator = DartSimulator(write(tmp_path, FLOOR + BRICK.format(geom)), (), 1, 1)
    rows = coast(simulator, 100, REST, SLIDING)
    assert rows[-1, 7] == pytest.approx(1 - 0.5 * G * 0.2, abs=1e-5)
    assert np.abs(rows[:, 2] - 0.05).max() < 1e-4
    touching = {geoms for geoms, _ in simulator.contacts(0)}
    assert {tuple(sorted(geoms)) for geoms in touching} == {(0, 1)}


def test_a_mesh_falls_as_in_mujoco(tmp_path: Path) -> None:
    """Off centre, turned, scaled: its frame is not the file's."""
    vertices = CORNERS + np.array([0.3, 0, 0])
    body = BRICK.replace("{}", 'type="mesh" mesh="brick" pos=".1 0 .02" euler="20 30 40"')
    path = write(tmp_path, FLOOR + body, vertices, scale="1 .5 2")
    ours, theirs = DartSimulator(path, (), 1, 1), MujocoSimulator(path, (), 1, 1)
    start = np.array([0, 0, 0.6, 1, 0, 0, 0])
    dart, mujoco_ = coast(ours, 600, start, 0 * SLIDING), coast(theirs, 600, start, 0 * SLIDING)
    lows = []
    for rows in (dart, mujoco_):
        lows.append([_find_lowest(ours.model, row[:7]) for row in rows])
    touch = int(np.argmax(np.array(lows[0]) < 1e-3))
    assert 50 < touch < 200
    assert np.allclose(dart[touch - 2, :7], mujoco_[touch - 2, :7], atol=2e-3)
    assert min(lows[0]) > -0.01 and abs(lows[0][-1]) < 2e-3  # it lies on the floor, not in it
    assert dart[-1, 2] == pytest.approx(mujoco_[-1, 2], abs=5e-3)


def _find_lowest(model: mujoco.MjModel, qpos: np.ndarray) -> float:
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    vertices = find_vertices(model, 1) @ data.geom_xmat[1].reshape(3, 3).T + data.geom_xpos[1]
    return float(vertices[:, 2].min())


@pytest.mark.parametrize(
    "other", ['type="sphere" size=".1"', 'type="capsule" size=".1 .2" euler="0 90 0"', BOX, MESH]
)
def test_a_mesh_rests_on_other_shapes(tmp_path: Path, other: str) -> None:
    below = f'<body><geom name="below" {other} friction="1"/></body>'
    simulator = DartSimulator(write(tmp_path, below + BRICK.format(MESH)), (), 1, 1)
    height = {"sphere": 0.15, "capsule": 0.15, "box": 0.1, "mesh": 0.1}
    want = height[other.split('"')[1]]
    start = np.array([0, 0, want + 0.02, 1, 0, 0, 0])
    rows = coast(simulator, 150, start, 0 * SLIDING)
    assert rows[100, 2] == pytest.approx(want, abs=3e-3)


def test_a_row_is_all_that_a_future_depends_on(tmp_path: Path) -> None:
    """Written into a world with another past, it continues bit for bit."""
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(40, 3))
    vertices *= 0.1 / np.linalg.norm(vertices, axis=1, keepdims=True)
    path = write(
        tmp_path,
        FLOOR
        + BRICK.format(MESH)
        + BRICK.format(MESH)
        .replace('"brick" pos', '"other" pos')
        .replace('name="brick" type', 'name="second" type'),
        vertices,
    )
    simulator, other = DartSimulator(path, (), 1, 1), DartSimulator(path, (), 1, 1)
    ids, none = np.array([0]), np.zeros((1, 0))
    start = np.tile([0, 0, 0.3, 1, 0, 0, 0.0], 2)
    start[7], start[9] = 0.05, 0.6
    simulator.reset(ids, start[None], np.zeros((1, 12)))
    for _ in range(500):
        other.rows[:] = simulator.rows
        simulator.step(ids, none)
        other.step(ids, none)
        assert np.array_equal(simulator.rows, other.rows)
        other.reset(ids, start[None] + rng.normal(size=14) * 0.01, np.zeros((1, 12)))
        other.step(ids, none)


def test_a_coarser_hull_and_a_mesh_that_is_only_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(200, 3))
    vertices *= 0.1 / np.linalg.norm(vertices, axis=1, keepdims=True)
    path = write(tmp_path, FLOOR + BRICK.format(MESH), vertices, maxhullvert=20)
    simulator = DartSimulator(path, (), 1, 1)
    assert len(find_vertices(simulator.model, 1)) == 20
    drawn = BRICK.format(f'{MESH} contype="0" conaffinity="0"')
    (tmp_path / "drawn").mkdir()
    path = write(tmp_path / "drawn", FLOOR + drawn)
    assert not DartSimulator(path, (), 1, 1)._worlds[0].shapes


def test_reading_a_hull_says_nothing(tmp_path: Path, capfd: Any) -> None:
    DartSimulator(write(tmp_path, FLOOR + BRICK.format(MESH), 1.01 * CORNERS), (), 1, 1)
    assert capfd.readouterr() == ("", "")


def test_a_flat_mesh_has_no_hull(tmp_path: Path) -> None:
    from isthmus.physics.dart_meshes import make_hull
    from isthmus.physics.dart_world import import_dartpy

    simulator = DartSimulator(write(tmp_path, FLOOR + BRICK.format(MESH)), (), 1, 1)
    simulator.model.mesh_vert[:, 2] = 0.0
    with pytest.raises(BadValue, match="the mesh of geom brick has no hull"):
        make_hull(import_dartpy(), simulator.model, 1)
