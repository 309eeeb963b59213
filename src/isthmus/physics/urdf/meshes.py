"""The files of a URDF's meshes: `package://` and `file://` paths, and formats that MuJoCo reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from isthmus.physics.urdf.description import UrdfShape
from isthmus.types import BadValue

READABLE = (".stl", ".obj", ".msh")
"""The formats of meshes that MuJoCo reads."""


def parse_packages(texts: Iterable[str]) -> dict[str, Path]:
    """Return folders of ROS packages by name, each written NAME=DIR.

    Raises BadValue where one is written otherwise, or its folder is not there.
    """
    packages = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not all((name, equals, folder)):
            raise BadValue(f"--package {text}: write NAME=DIR, the folder that NAME stands for")
        if not Path(folder).is_dir():
            raise BadValue(f"--package {text}: there is no folder {folder}")
        packages[name] = Path(folder)
    return packages


def find_mesh(
    urdf: Path, shape: UrdfShape, packages: Mapping[str, Path], meshdir: str | None
) -> Path:
    """Return the absolute path of a shape's mesh.

    It is the file of that name in `meshdir`, the folder of meshes that the URDF gives to MuJoCo, if
    there is one; else a relative path is one from the URDF's folder, and a package is a folder of
    `packages`, or one of its name that holds the URDF. Raises BadValue where there is no file, or
    none that MuJoCo reads.
    """
    path = _locate(urdf, shape.mesh, packages, meshdir)
    label = f"{urdf}: the {shape.role} mesh {shape.mesh} of link {shape.link!r}"
    remedy = ""
    if shape.role == "visual":
        remedy = "; or leave visual meshes out: --no-visuals"
    if not path.is_file():
        raise BadValue(f"{label} is missing; put it at {path}, or correct its path{remedy}")
    if path.suffix.lower() not in READABLE:
        raise BadValue(
            f"{label} cannot be read: MuJoCo reads {', '.join(READABLE)}; convert it and name the "
            f"new file{remedy}"
        )
    return path.resolve()


def _locate(urdf: Path, written: str, packages: Mapping[str, Path], meshdir: str | None) -> Path:
    if meshdir is not None:
        path = urdf.parent / meshdir / Path(written).name
        if path.is_file():
            return path
    for scheme in ("package://", "model://"):
        if written.startswith(scheme):
            name, _, rest = written.removeprefix(scheme).partition("/")
            return _find_package(urdf, name, packages) / rest
    if written.startswith("file://"):
        return Path(written.removeprefix("file://"))
    if "://" in written:
        raise BadValue(f"{urdf} names the mesh {written}; fetch it, and write the file's path")
    return urdf.parent / written


def _find_package(urdf: Path, name: str, packages: Mapping[str, Path]) -> Path:
    if name in packages:
        return packages[name]
    for folder in urdf.resolve().parents:
        if folder.name == name:
            return folder
        if (folder / name).is_dir():
            return folder / name
    raise BadValue(
        f"{urdf} names meshes in the ROS package {name!r}, and no folder above it is called so; "
        f"say where it lies: --package {name}=DIR"
    )
