"""What the repository promises about itself: it is tied to no machine, and its versions are
pinned.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TREE = Path(__file__).parents[2]
PINS = ["constraints.txt", "constraints-bench.txt"]

# A folder of one machine, not preceded by what makes it part of a longer path or an address.
MACHINE = re.compile(r"(?<![\w.~$}-])/(?:work|tmp|root|opt|home/\w+|Users/\w+)(?:/|\b)")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)|registry\.npmjs\.org"
)


def tied(text: str) -> list[str]:
    """The lines of `text` that name a folder of a machine or the host of a package registry."""
    return [line for line in text.splitlines() if MACHINE.search(line) or REGISTRY.search(line)]


def tracked() -> list[Path]:
    if not (TREE / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are the project's")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TREE, check=True, capture_output=True, text=True
    ).stdout
    return [path for name in listed.split("\0") if name and (path := TREE / name).is_file()]


UNNAMED = {"gpu"}
"""Extras that change what is installed of a package which is imported anyway: jax[cuda12]."""


def test_each_dependency_and_extra_is_imported() -> None:
    """What nothing imports would be downloaded, and could break an installation, for nothing."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: needs
        for name, needs in project["optional-dependencies"].items()
        if name not in ("dev", *UNNAMED)
    }
    source = "\n".join(path.read_text(encoding="utf-8") for path in (TREE / "src").rglob("*.py"))
    imported = set(re.findall(r"(?:import|from) (\w+)", source))
    imported |= set(re.findall(r"\bmodule=\"(\w+)\"", source))  # robots', whose files are read
    needed = {
        canonicalize_name(Requirement(need).name)
        for need in chain(project["dependencies"], *extras.values())
    }
    assert needed - {canonicalize_name(name) for name in imported} == set()


def test_no_tracked_file_is_tied_to_a_machine() -> None:
    found = {}
    for path in tracked():
        if path.is_relative_to(TREE / "tests"):
            continue
        if lines := tied(path.read_bytes().decode(errors="ignore")):
            found[str(path.relative_to(TREE))] = lines
    assert found == {}


@pytest.mark.parametrize(
    ("text", "is_tied"),
    [
        ("log = '/tmp/run.log'", True),
        ("cd /work/project", True),
        ("see /home/ada/isthmus", True),
        ("--index-url https://pypi.org/simple", True),
        ("#!/usr/bin/env bash", False),
        ("https://example.org/work/paper.pdf", False),
        ("docs/work/plan.md and ../tmp/x and seconds/root", False),
    ],
)
def test_the_search_sees_a_tie(text: str, is_tied: bool) -> None:
    assert bool(tied(text)) is is_tied


def pins(name: str) -> list[Requirement]:
    lines = (TREE / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", PINS)
def test_pins_are_exact_and_name_no_address(name: str) -> None:
    assert "://" not in (TREE / name).read_text()
    loose = [
        str(pin)
        for pin in pins(name)
        if pin.url or not re.fullmatch(r"==[\w.+!]+", str(pin.specifier))
    ]
    assert loose == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_dependency_is_pinned_once_on_each_python(python: str) -> None:
    """Also those of the extras, so that no set-up takes a version that nobody tried."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
    }
    pinned: dict[str, list[str]] = {}
    for pin in pins("constraints.txt"):
        if pin.marker is None or pin.marker.evaluate(machine):
            pinned.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier)[2:])
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}
    for requirement in map(Requirement, wanted):
        (version,) = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("row", range(8))
def test_a_group_stays_in_one_process(row: int) -> None:
    """Else each of pytest's workers compiles the programs of all methods."""
    here = os.environ.get("PYTEST_XDIST_WORKER", "the only one")
    seen = Path(os.environ["ISTHMUS_TEST_SESSION"]) / "workers"
    with seen.open("a") as file:
        file.write(f"{here}\n")
    time.sleep(0.1)  # the others would take the next rows meanwhile
    assert set(seen.read_text().splitlines()) == {here}
