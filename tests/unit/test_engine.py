"""The table of engines: an engine from outside is a class and a row, and runs as a built-in one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

import isthmus
from isthmus.domains.domain import RobotDomain
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.physics.engine import DEFAULT_ENGINE, ENGINES, Engine, find_engine, register_engine
from isthmus.physics.mujoco import MujocoSimulator
from isthmus.physics.mujoco_engine import MujocoEngine
from isthmus.types import BadValue, UnknownName


class ToySimulator(MujocoSimulator):
    """MuJoCo, whose steps are counted."""

    steps = 0

    def step(self, ids: np.ndarray, control: np.ndarray) -> np.ndarray:
        ToySimulator.steps += len(ids)
        return super().step(ids, control)


class ToyEngine(MujocoEngine):
    name = "toy"
    simulator = ToySimulator
    packages = ("numpy", "pytest")

    def lacked(self, path):
        return {"gravity": "a toy has no weight"}

    def parameters(self, path):
        return {k: v for k, v in super().parameters(path).items() if k != "gravity"}

    def check(self, path, forces):
        if forces:
            raise BadValue("engine=toy has no contact forces")

    def left_out(self, path):
        return ("a toy has no gravity parameter",)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    register_engine(ToyEngine)
    ToySimulator.steps = 0
    yield
    del ENGINES._entries["toy"]


def test_an_engine_from_outside_steps_worlds():
    domain = parse_domain("hopper/engine=toy")
    assert str(domain) == "hopper/engine=toy" and domain.shift("engine=mujoco") == RobotDomain(
        "hopper"
    )
    simulation = PhysicsSimulation(domain, 3)
    reference = PhysicsSimulation(parse_domain("hopper"), 3)
    ids, control = np.arange(3), np.full((3, 3), 0.5)
    for one in (simulation.simulator, reference.simulator):
        one.reset(ids, np.tile(one.qpos0, (3, 1)), np.zeros((3, 6)))
        one.step(ids, control)
    assert isinstance(simulation.simulator, ToySimulator) and ToySimulator.steps == 3
    assert np.array_equal(simulation.rows, reference.rows)


def test_an_engine_from_outside_is_trained_in(tmp_path):
    settings = {"learner.worlds": 4, "learner.steps": 32, "learner.epochs": 1}
    isthmus.train("source_only", "hopper/engine=toy", steps=128, out=tmp_path / "run",
                  settings=settings, quiet=True)  # fmt: skip
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert list(config["versions"])[-4:-3] == ["pytest"]
    assert ToySimulator.steps > 0


def test_an_engine_answers_for_itself():
    with pytest.raises(BadValue, match="gravity cannot be set with engine=toy: a toy has no"):
        parse_domain("hopper/gravity=x2,engine=toy")
    with pytest.raises(BadValue, match="engine=toy has no contact forces"):
        parse_domain("ant/engine=toy")
    assert parse_domain("hopper/engine=toy").left_out() == ("a toy has no gravity parameter",)


def test_a_built_in_name_is_taken_and_an_unknown_one_gets_the_nearest():
    taken = type("Other", (MujocoEngine,), {"name": "mujoco"})
    with pytest.raises(BadValue, match="the engine mujoco is a built-in one"):
        register_engine(taken)
    with pytest.raises(UnknownName, match="did you mean toy"):
        find_engine("toys")


def test_the_built_in_engines_are_engines():
    assert DEFAULT_ENGINE in ENGINES
    for name in ("mujoco", "dart"):
        engine = find_engine(name)
        assert isinstance(engine, Engine) and engine.name == name
