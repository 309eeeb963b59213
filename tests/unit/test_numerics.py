"""Numerics as settings of a domain: what is read, what is refused, and that the engine obeys."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json

import mujoco
import numpy as np
import own
import pytest

import isthmus
from isthmus.audit.audit import audit
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.evaluation.landscape import make_grid
from isthmus.physics.mujoco import load_model
from isthmus.physics.numerics import NUMERICS, Numerics
from isthmus.tasks.task import find_task
from isthmus.types import BadValue, UnknownName

REFUSED = [
    ("timestep=0.003", "does not divide the control step of 0.008 s; these do: .*0.002666667"),
    ("timestep=0.02", "needs 8e-06..0.008 s"),
    ("timestep=0", "needs 8e-06..0.008 s"),
    ("timestep=nan", "needs 8e-06..0.008 s"),
    ("timestep=fast", "needs seconds"),
    ("timestep=0.001..0.002:2", "one value for all worlds"),
    ("integrator=Euler|RK4", "one value for all worlds"),
    ("solver_iterations=0", "whole number in 1..10000"),
    ("solver_iterations=2.5", "whole number in 1..10000"),
    ("cone=elliptic,engine=dart", "cone cannot be set with engine=dart: DART bounds friction"),
    ("integrator=RK4,engine=dart", "DART has one integrator"),
]


@pytest.mark.parametrize(("settings", "line"), REFUSED)
def test_what_cannot_be_computed_is_refused_in_a_line(settings, line):
    with pytest.raises(BadValue, match=line):
        parse_domain(f"hopper/{settings}")


def test_names_are_suggested():
    with pytest.raises(UnknownName, match="unknown integrator 'implicitfst'; did you mean implici"):
        parse_domain("hopper/integrator=implicitfst")
    with pytest.raises(UnknownName, match="did you mean timestep"):
        parse_domain("hopper/timestp=0.001")
    with pytest.raises(BadValue, match="one value for all worlds"):
        make_grid(parse_domain("hopper"), "timestep=0.001..0.002:2,torso_mass=1..9:2")


def test_a_change_of_engine_looks_at_the_numerics():
    with pytest.raises(BadValue, match="integrator cannot be set with engine=dart"):
        parse_domain("hopper/integrator=RK4").shift("engine=dart")
    with pytest.raises(UnknownName, match="unknown setting of gym:Hopper-v5"):
        parse_domain("gym:Hopper-v5/timestep=0.001")


@pytest.mark.parametrize(
    ("text", "numerics"),
    [
        ("timestep=0.001", Numerics(timestep=0.001)),
        ("timestep=x0.5", Numerics(timestep=0.001)),
        ("timestep=0.002", Numerics(timestep=0.002)),
        ("timestep=0.0026666667", Numerics(timestep=0.008 / 3)),
        ("integrator=euler,cone=elliptic", Numerics(integrator="Euler", cone="elliptic")),
        ("solver=cg,solver_iterations=3", Numerics(solver="CG", solver_iterations=3)),
    ],
)
def test_texts_are_read_back(text, numerics):
    domain = parse_domain(f"hopper/gravity=x2,{text}")
    assert domain.numerics == numerics
    assert parse_domain(str(domain)) == domain
    assert domain.names == ("gravity",) and domain.step_seconds == 0.008


def roll(domain, steps: int = 40) -> np.ndarray:
    """Return a hopper's rows, 3 worlds that fall under random actions."""
    simulator = PhysicsSimulation(parse_domain(domain), 3).simulator
    ids, rng = np.arange(3), np.random.default_rng(0)
    simulator.reset(ids, np.tile(simulator.qpos0, (3, 1)), np.zeros((3, simulator.nv)))
    for _ in range(steps):
        assert not simulator.step(ids, rng.uniform(-1, 1, (3, 3))).any()
    return np.concatenate([simulator.qpos, simulator.qvel], axis=1)


def compile_and_roll(steps: int = 40, frame_skip: int = 4, **options: str) -> np.ndarray:
    """Return what MuJoCo's own step makes of a model with other options in its file."""
    spec = mujoco.MjSpec.from_file(str(find_task("hopper").model_path()))
    for name, value in options.items():
        setattr(spec.option, name, value)
    model = spec.compile()
    rows, rng = [], np.random.default_rng(0)
    actions = [rng.uniform(-1, 1, (3, 3)) for _ in range(steps)]
    for world in range(3):
        data = mujoco.MjData(model)
        for action in actions:
            data.ctrl[:] = action[world]
            mujoco.mj_step(model, data, frame_skip)
        rows.append(np.concatenate([data.qpos, data.qvel]))
    return np.array(rows)


@pytest.mark.parametrize(
    ("text", "frame_skip", "options"),
    [
        ("timestep=0.001", 8, {"timestep": 0.001}),
        ("timestep=0.004", 2, {"timestep": 0.004}),
        ("integrator=Euler", 4, {"integrator": mujoco.mjtIntegrator.mjINT_EULER}),
        ("integrator=implicit", 4, {"integrator": mujoco.mjtIntegrator.mjINT_IMPLICIT}),
        ("integrator=implicitfast", 4, {"integrator": mujoco.mjtIntegrator.mjINT_IMPLICITFAST}),
        ("integrator=discrete", 4, {"integrator": mujoco.mjtIntegrator.mjINT_DISCRETE}),
        ("cone=elliptic", 4, {"cone": mujoco.mjtCone.mjCONE_ELLIPTIC}),
        ("solver=PGS", 4, {"solver": mujoco.mjtSolver.mjSOL_PGS}),
        ("solver_iterations=1", 4, {"iterations": 1}),
    ],
)
def test_the_engine_computes_as_a_model_compiled_so(text, frame_skip, options):
    found = roll(f"hopper/{text}")
    assert np.array_equal(found, compile_and_roll(frame_skip=frame_skip, **options))
    assert not np.array_equal(found, roll("hopper"))


def test_naming_the_models_own_numerics_moves_no_bit():
    named = "hopper/timestep=0.002,integrator=RK4,cone=pyramidal,solver=Newton"
    assert np.array_equal(roll(named), roll("hopper"))
    assert load_model(find_task("hopper").model_path()).opt.timestep == 0.002  # and none is shared


def test_rewards_are_paid_by_the_control_step():
    """Speeds are taken over it: another timestep changes no unit."""
    fine = PhysicsSimulation(parse_domain("half_cheetah/timestep=x0.1"), 1)
    assert fine.simulator.dt == 0.05 and fine.simulator.frame_skip == 50
    assert fine.simulator.model.opt.timestep == pytest.approx(0.001, rel=1e-12)


def test_the_audit_tells_numerics_apart():
    result = audit("hopper/integrator=Euler", "hopper/timestep=0.001,torso_mass=6", episodes=2)
    alone = {part.name: part for part in result.alone}
    assert list(alone) == ["torso_mass", "timestep", "integrator"]
    assert alone["timestep"].source == "the model's" and alone["timestep"].target == "0.001"
    assert all(not part.is_inert for part in result.alone)
    inert = audit("hopper", "hopper/integrator=RK4", episodes=2)
    assert [part.is_inert for part in inert.alone] == [True]


def test_every_row_of_the_table_has_a_default():
    table = parse_domain("half_cheetah").numerics_table()
    assert list(table) == list(NUMERICS) and table["integrator"] == "Euler"
    assert list(parse_domain("hopper/engine=dart").numerics_table()) == ["timestep"]


def test_a_model_that_counts_its_time_steps_keeps_them(tmp_path, monkeypatch):
    from isthmus.tasks import task as tasks

    monkeypatch.setattr(tasks.TASKS, "_entries", dict(tasks.TASKS._entries))
    delayed = '<motor joint="hip" ctrlrange="-1 1" delay="0.01" nsample="3"/>'
    name = own.register(tmp_path, delayed)
    with pytest.raises(BadValue, match="timestep cannot be set in this model: it has actuators"):
        parse_domain(f"{name}/timestep=x0.5")
    assert parse_domain(f"{name}/integrator=implicit").numerics.integrator == "implicit"


def test_dart_takes_a_timestep():
    pytest.importorskip("dartpy")
    fine = PhysicsSimulation(parse_domain("hopper/engine=dart,timestep=0.001"), 1).simulator
    assert fine.dt == 0.008 and fine.frame_skip == 8
    assert not np.array_equal(
        roll("hopper/engine=dart,timestep=0.001", 20), roll("hopper/engine=dart", 20)
    )


def test_a_run_records_its_numerics(tmp_path):
    """In its problem's text, and it is opened and resumed in the same."""
    settings = {"learner.worlds": 4, "learner.steps": 32, "learner.epochs": 1}
    source, target = "timestep=0.004,integrator=Euler", "timestep=0.001"
    problem = isthmus.problem("hopper", source=source, target=target, access="none")
    run = isthmus.train(
        "source_only", problem, steps=128, out=tmp_path / "run", settings=settings, quiet=True
    )
    config = json.loads((run.folder / "run.json").read_text())
    assert config["problem"]["source"] == f"hopper/{source}"
    opened = isthmus.Run.open(run.folder).problem
    assert opened.source.numerics == Numerics(0.004, "Euler")
    assert opened.target.numerics == Numerics(0.001)
    landed = [isthmus.evaluate(run.policy, f"hopper/{d}", 4).mean for d in (source, target)]
    assert landed[0] != landed[1]
