"""Convex hulls of meshes as shapes of DART's: what MuJoCo lets collide of a mesh.

dartpy makes a mesh of a file alone, which its reader of URDF opens: a hull is written into a
temporary folder, read from there, and kept.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import mujoco
import numpy as np

from isthmus.types import BadValue

MESH = mujoco.mjtGeom.mjGEOM_MESH
URDF = """<robot name="hull"><link name="link"><inertial><mass value="1"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
<collision><geometry><mesh filename="hull.obj"/></geometry></collision></link></robot>"""


def find_vertices(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Return the vertices [V, 3] of what collides of a mesh's geom, in the geom's frame, metres.

    Those of the hull that MuJoCo computed (with `maxhullvert`, a coarser one), else all.
    """
    mesh = int(model.geom_dataid[geom])
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices = np.asarray(model.mesh_vert[first : first + count], float)
    graph = int(model.mesh_graphadr[mesh])
    if graph < 0:
        return vertices
    # numvert, numface, an address for each vertex, then their numbers in the mesh
    hull_count = int(model.mesh_graph[graph])
    numbers = graph + 2 + hull_count
    return vertices[model.mesh_graph[numbers : numbers + hull_count]]


def make_hull(dart: ModuleType, model: mujoco.MjModel, geom: int) -> Any:
    """Return the shape of a mesh's geom, which worlds share. Raises BadValue for a flat mesh."""
    vertices = find_vertices(model, geom)
    try:
        return _make_shape(dart, vertices.tobytes())
    except _flat_error() as error:
        reason = str(error).split("\n", 1)[0]
        raise BadValue(
            f"engine=dart: the mesh of geom {model.geom(geom).name or geom} has no hull: {reason}"
        ) from None


def _flat_error() -> type[Exception]:
    from scipy.spatial import QhullError

    return QhullError


@lru_cache(maxsize=256)
def _make_shape(dart: ModuleType, data: bytes) -> Any:
    """Return the shape of a hull, of its vertices' bytes."""
    vertices = np.frombuffer(data).reshape(-1, 3)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hull.obj").write_text(_format_hull(vertices), encoding="ascii")
        robot = Path(folder, "hull.urdf")
        robot.write_text(URDF, encoding="ascii")
        skeleton = dart.utils.DartLoader().parseSkeleton(str(robot))
    return skeleton.getBodyNode(0).getShapeNode(0).getShape()


def _format_hull(vertices: np.ndarray) -> str:
    """Return a hull as an OBJ file has it: vertices, and triangles that face outward."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(vertices)
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    for triangle, plane in zip(hull.simplices, hull.equations, strict=True):
        a, b, c = vertices[triangle]
        if np.cross(b - a, c - a) @ plane[:3] < 0:
            triangle = triangle[::-1]
        lines.append("f " + " ".join(str(i + 1) for i in triangle))
    return "\n".join(lines) + "\n"
