"""A URDF file as a tree of XML elements, read without trust.

Nothing in the file is fetched, expanded or evaluated: a document type, where entities would be
declared, raises an error before the tree is built.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.parsers import expat

from isthmus.types import BadValue

OTHER_FORMATS = {
    "mujoco": "is an MJCF file, which a task names as its `model`; there is nothing to import",
    "sdf": "is an SDF file; write it as URDF first, or name the URDF that it was made from",
    "COLLADA": "is a mesh; name the URDF that names it",
}
"""What a file is whose root element is not `robot`, and what to do with it."""

MAX_BYTES = 64 * 2**20  # a URDF of meshes by name has some 100 KiB


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of a URDF file.

    Raises BadValue where there is no such file, it is no well-formed XML, has a document type, or
    is xacro, MJCF, SDF or anything else.
    """
    content = _read_bytes(path)
    _check_well_formed(path, content)
    root = ElementTree.fromstring(content)
    if root.tag in OTHER_FORMATS:
        raise BadValue(f"{path} {OTHER_FORMATS[root.tag]}")
    if root.tag != "robot":
        raise BadValue(f"{path} is no URDF: its root element is <{root.tag}>, and not <robot>")
    _check_evaluated(path, root)
    return root


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise BadValue(f"{path} is a folder; name the URDF file in it")
    if not path.is_file():
        raise BadValue(f"no URDF file at {path}")
    if path.stat().st_size > MAX_BYTES:
        raise BadValue(f"{path} has more than {MAX_BYTES >> 20} MiB; a URDF names its meshes")
    return path.read_bytes()


def _advise_xacro(path: Path) -> str:
    plain = path.name.split(".")[0] + "_plain.urdf"
    return f"{path} is a xacro file, which ROS expands: run `xacro {path.name} > {plain}` first"


def _check_well_formed(path: Path, content: bytes) -> None:
    """Refuse what is no XML, and a document type, in which a file may declare entities."""

    def refuse_doctype(*_: object) -> None:
        raise BadValue(
            f"{path} declares a document type, which may name other files and entities; take the "
            "<!DOCTYPE ...> out of it"
        )

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, BadValue):
            raise
        if "unbound prefix" in str(error) and b"xacro:" in content:
            raise BadValue(_advise_xacro(path)) from None
        raise BadValue(f"{path} is no well-formed XML: {error}") from None


def _check_evaluated(path: Path, root: ElementTree.Element) -> None:
    """Refuse what xacro has not expanded; its namespace alone may be left over."""
    for element in root.iter():
        if "xacro" in element.tag:
            raise BadValue(_advise_xacro(path))
        for value in element.attrib.values():
            if "${" in value or "$(" in value:
                raise BadValue(f"{_advise_xacro(path)} (it has {value!r})")
