"""Units in contracts: one for each observed number, and what an action of 1 is."""

from __future__ import annotations

import pytest

from isthmus.deploy.units import list_action_units, list_observation_units
from isthmus.domains.parse import parse_domain
from isthmus.tasks.task import TASKS, find_task
from isthmus.types import BadValue

OURS = (
    "hopper", "half_cheetah", "walker2d", "ant", "reacher", "cartpole_swingup", "ball",
    "quadruped", "arm",
)  # fmt: skip
UNITLESS = ("quaternion", "cos ", "sin ", "down ", "last action")


@pytest.mark.parametrize("name", OURS)
def test_every_observed_number_has_a_unit(name: str) -> None:
    assert name in TASKS
    task = find_task(name)
    units = list_observation_units(task)
    assert len(units) == len(task.observation_names)
    for observed, unit in zip(task.observation_names, units, strict=True):
        if observed.startswith(UNITLESS[:-1]) or observed.endswith(UNITLESS[-1]):
            assert unit in ("1", "")
        else:
            assert unit in ("m", "rad", "m/s", "rad/s", "N", "N m"), observed
        if "velocity" in observed and "contact" not in observed:
            assert unit in ("m/s", "rad/s")


def test_hoppers_units() -> None:
    task = find_task("hopper")
    found = dict(zip(task.observation_names, list_observation_units(task), strict=True))
    assert found["z"] == "m" and found["foot angle"] == "rad"
    assert found["z velocity"] == "m/s" and found["thigh velocity"] == "rad/s"


def test_ants_contacts_have_torques_before_forces() -> None:
    task = find_task("ant")
    for observed, unit in zip(task.observation_names, list_observation_units(task), strict=True):
        if "contact torque" in observed:
            assert unit == "N m"
        if "contact force" in observed:
            assert unit == "N"


def test_what_an_action_of_one_is() -> None:
    assert list_action_units(parse_domain("hopper")) == ("200 N m",) * 3
    assert list_action_units(parse_domain("half_cheetah"))[0] == "120 N m"
    assert list_action_units(parse_domain("quadruped")) == ("1",) * 12
    assert list_action_units(parse_domain("ball")) == ("1 N", "1 N")
    assert list_action_units(parse_domain("gym:Pendulum-v1")) == ("",)


def test_another_number_of_units_than_of_names_is_refused() -> None:
    task = type("Odd", (type(find_task("ball")),), {"observation_units": ("m",)})()
    with pytest.raises(BadValue, match="4 observation_names and 1 observation_units"):
        list_observation_units(task)
