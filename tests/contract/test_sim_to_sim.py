"""`isthmus cross`, with policies and robots for which the answer is known by construction."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import isthmus
from isthmus.cli.main import main
from isthmus.deploy.cross import STAGES
from isthmus.deploy.crossing import CROSSES, EXIT_CODES, UNDECIDED, Crossing, Outcome, Stage
from isthmus.deploy.crossing_numerics import list_other_numerics
from isthmus.domains.parameter_groups import copy_groups, find_group, list_differing_groups
from isthmus.domains.parse import parse_domain
from isthmus.evaluation.episode_intervals import compare_shares
from isthmus.tasks import task as tasks
from isthmus.types import BadValue, UnknownName

EPISODES = 60
HINGE = """<mujoco>
  <option timestep="0.002" gravity="0 0 0"/>
  <worldbody>
    <body name="torso">
      <joint name="hinge" axis="0 1 0" {joint}/>
      <geom type="capsule" fromto="0 0 0 0 0 -1" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator>{actuator}</actuator>
</mujoco>"""
STIFF = '<position joint="hinge" kp="170000" ctrlrange="-1 1"/>'
"""A spring of 0.7 kHz: explicit integration is stable at 2 ms, and blows up at 4 ms."""
MOTOR = '<motor joint="hinge" ctrlrange="-1 1"/>'


class Hinge(tasks.Task):
    """A rod that must not turn by more than half a radian."""

    name = "hinge"
    frame_skip = 4
    time_limit = 100
    observation_names = ("angle", "velocity")
    costs = ()

    def start(self, simulator, random):
        noise = random.uniform(-1e-3, 1e-3, 1)
        return noise, np.zeros_like(noise)

    def observe(self, view):
        return np.concatenate([view.qpos, view.qvel], axis=1)

    def remember(self, view):
        return np.empty((len(view.ids), 0))

    def rewards(self, view, memory, action):
        return {"alive": np.ones(len(view.ids))}

    def terminated(self, view):
        return np.abs(view.qpos[:, 0]) > 0.5

    def progress(self, view):
        return view.qpos[:, 0].copy()


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Any]:
    """Registers hinges, and takes them back."""
    before = dict(tasks.TASKS._entries)

    def make(actuator: str, joint: str = "") -> str:
        model = tmp_path / "hinge.xml"
        model.write_text(HINGE.format(actuator=actuator, joint=joint))
        return tasks.register(type("Own", (Hinge,), {"model": model})).name

    yield make
    tasks.TASKS._entries.clear()
    tasks.TASKS._entries.update(before)


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 1))


def push(observations: np.ndarray) -> np.ndarray:
    """Push a ball to the origin."""
    return -0.8 * observations[:, :2] - 0.8 * observations[:, 2:4]


def cross(policy: Any, source: str, target: str | None = None, **options: Any) -> Crossing:
    return isthmus.cross(policy, source, target, EPISODES, **options)


def outcomes(crossing: Crossing, stage: Stage) -> dict[str, str]:
    return {row.done: str(row.outcome) for row in crossing.list_rows(stage)}


# Numerics


def test_a_policy_that_needs_a_timestep_is_found_without_another_engine(register: Any) -> None:
    crossing = cross(still, register(STIFF), stages=["numerics"])
    found = outcomes(crossing, Stage.NUMERICS)
    assert found.pop("timestep=0.004") == "breaks" and set(found.values()) == {"holds"}
    assert list(found)[:2] == ["timestep=0.001", "integrator=RK4"]
    assert crossing.exit_code == EXIT_CODES[Stage.NUMERICS] == 4
    line = crossing.describe()[1]
    assert line.startswith("Numerics: it breaks with timestep=0.004, and holds with timestep=0.001")
    broken = crossing.list_rows(Stage.NUMERICS, Outcome.BREAKS)[0]
    assert broken.summary is not None and broken.summary.fell.value == 1.0
    assert broken.falls is not None and broken.falls.low > 0.9


def test_which_numerics_are_tried() -> None:
    assert list_other_numerics(parse_domain("hopper")) == [
        "timestep=0.001", "timestep=0.004", "integrator=Euler", "integrator=implicitfast",
        "cone=elliptic", "solver_iterations=2",
    ]  # fmt: skip
    assert list_other_numerics(parse_domain("half_cheetah/solver_iterations=1,cone=elliptic")) == [
        "timestep=0.005", "timestep=0.025", "integrator=RK4", "integrator=implicitfast",
        "cone=pyramidal",
    ]  # fmt: skip
    pytest.importorskip("dartpy")
    assert list_other_numerics(parse_domain("hopper/engine=dart,timestep=0.008")) == [
        "timestep=0.004"
    ]


# Engines


def test_an_engine_that_lacks_the_armature(register: Any) -> None:
    """A rotor of 20 kg m2 keeps the rod from turning; DART has none."""
    pytest.importorskip("dartpy")

    def turn(observations: np.ndarray) -> np.ndarray:
        return np.ones((len(observations), 1))

    crossing = cross(turn, register(MOTOR, 'armature="20"'), stages=["engine"])
    assert outcomes(crossing, Stage.ENGINE) == {"engine=dart": "breaks"}
    assert crossing.exit_code == 5 and "engine=dart" in crossing.describe()[1]
    (why,) = crossing.list_rows(Stage.CAUSE)
    assert why.done == "armature=x0 in mujoco" and why.meaning.startswith("yes")


def test_an_engine_that_is_not_installed_is_not_asked(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "dartpy", None)
    crossing = isthmus.cross(push, "ball", episodes=1, stages=["engine"])
    (row,) = crossing.list_rows(Stage.ENGINE)
    assert row.outcome == Outcome.NOT_ASKED and "pip install 'isthmus[dart]'" in row.meaning


def test_an_engine_that_cannot_hold_the_robot_is_not_asked() -> None:
    def rest(observations: np.ndarray) -> np.ndarray:
        return np.zeros((len(observations), 8))

    crossing = isthmus.cross(rest, "ant", episodes=2, stages=["engine"])
    (row,) = crossing.list_rows(Stage.ENGINE)
    assert row.outcome == Outcome.NOT_ASKED and "no contact forces" in row.meaning
    assert crossing.describe()[0] == "Nothing was asked but the source: there is no verdict."


def test_a_target_that_is_not_ours_is_played_and_not_explained() -> None:
    def rest(observations: np.ndarray) -> np.ndarray:
        return np.zeros((len(observations), 3))

    crossing = isthmus.cross(rest, "hopper/gravity=x0.1", "gym:Hopper-v5", 20, stages=["target"])
    assert crossing.exit_code == EXIT_CODES[Stage.TARGET]
    (row,) = crossing.list_rows(Stage.TARGET)
    assert row.loss is not None and "Welch over episodes" in row.loss.method
    (why,) = crossing.list_rows(Stage.CAUSE)
    assert why.outcome == Outcome.NOT_ASKED and "not ours to copy" in why.meaning
    crossing = isthmus.cross(rest, "gym:Hopper-v5", episodes=2)
    assert [row.outcome for row in crossing.rows if row.stage != Stage.SOURCE] == ["not asked"] * 4
    assert crossing.describe()[-1] == "It falls in 100% of episodes in its own source."


# Parameters


def test_damping_is_the_one_cause() -> None:
    crossing = cross(push, "ball", "ball/damping=x30,ball_mass=1.02,action_delay=1")
    assert outcomes(crossing, Stage.CAUSE) == {
        "masses": "breaks", "damping": "holds", "gaps": "breaks"
    }  # fmt: skip
    assert crossing.exit_code == EXIT_CODES[Stage.TARGET] == 6
    assert crossing.describe()[1].endswith("copied from the source, damping alone mends it.")
    assert set(outcomes(crossing, Stage.NUMERICS).values()) == {"holds"}


def test_two_causes_are_found_together() -> None:
    """Neither mends it alone; the third group has nothing to do with it."""
    target = "ball/damping=x30,motor_strength=x0.1,ball_mass=1.02"
    crossing = cross(push, "ball", target, stages=["target"])
    found = outcomes(crossing, Stage.CAUSE)
    assert [found[name] for name in ("masses", "damping", "actuators")] == ["breaks"] * 3
    together = list(found)[-1]
    assert set(together.split(" and ")) == {"damping", "actuators"} and found[together] == "holds"
    assert f"{together} alone mends it" in crossing.describe()[1]


def test_one_group_alone_needs_no_counterfactual() -> None:
    crossing = cross(push, "ball", "ball/damping=x30", stages=["target"])
    assert outcomes(crossing, Stage.CAUSE) == {"damping": "holds"}


def test_a_policy_that_crosses() -> None:
    crossing = cross(push, "ball", "ball/damping=x1.01")
    assert crossing.exit_code == CROSSES
    assert crossing.describe()[0].startswith("It crosses: numerics")


def test_too_few_episodes_tell_nothing() -> None:
    crossing = isthmus.cross(push, "ball", "ball/damping=x1.05", episodes=2, stages=["target"])
    assert crossing.exit_code == UNDECIDED and "Too few episodes" in crossing.describe()[0]


def test_groups() -> None:
    """Every parameter of the built-in robots has one, and a copy of all is the source."""
    for name in ("hopper", "ant", "reacher", "cartpole_swingup", "ball"):
        assert "other parameters" not in {find_group(p) for p in parse_domain(name).table()}
    source = parse_domain("hopper/torso_mass=3,gravity=x1.1,observation_noise=0.1")
    target = parse_domain(
        "hopper/torso_mass=4,foot_friction=1,leg_damping=3,armature=x2,thigh_strength=0.5,"
        "action_delay=1,timestep=0.001"
    )
    groups = list_differing_groups(source, target)
    assert groups == [
        "gravity", "masses", "friction", "damping", "armature", "actuators", "gaps", "numerics"
    ]  # fmt: skip
    assert copy_groups(source, target, groups) == source
    assert str(copy_groups(source, target, ["masses", "gaps"])) == str(
        target.shift("torso_mass=3")
    ).replace("action_delay=1", "observation_noise=0.1")


def test_newcombes_own_examples() -> None:
    """His table II, method 10."""

    def shares(a: int, m: int, b: int, n: int) -> list[float]:
        found = compare_shares(np.arange(m) < a, np.arange(n) < b)
        return [round(found.low, 4), round(found.high, 4)]

    assert shares(56, 70, 48, 80) == [0.0524, 0.3339]
    assert shares(9, 10, 3, 10) == [0.1705, 0.8090]
    assert shares(10, 10, 0, 20) == [0.6791, 1.0]


# The contract


@pytest.fixture(scope="module")
def exported(tmp_path_factory: Any) -> Path:
    pytest.importorskip("onnx", reason="contracts need the extra onnx")
    pytest.importorskip("onnxruntime", reason="contracts need the extra onnx")
    pytest.importorskip("tomli_w", reason="contracts need the extra onnx")
    from isthmus.deploy.onnx_export import export_run

    return export_run(tiny.trained("source_only"), tmp_path_factory.mktemp("x") / "out").folder


def change_contract(folder: Path, exported: Path, old: str, new: str) -> Path:
    """A copy of an export whose contract says something else."""
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    contract = folder / "contract.toml"
    text = contract.read_text()
    assert old in text
    contract.write_text(text.replace(old, new))
    return folder


def ask_contract(folder: Path) -> Crossing:
    policy = isthmus.load_policy(folder)
    return isthmus.cross(policy, policy.trained_in, episodes=3, stages=["contract"])


def test_a_right_contract(exported: Path) -> None:
    crossing = ask_contract(exported)
    found = {row.question: str(row.outcome) for row in crossing.list_rows(Stage.CONTRACT)}
    assert found == {
        "contract fits the robot": "holds",
        "contract and model": "holds",
        "reference replayed": "holds",
        "reference rebuilt": "holds",
        "recorded return": "holds",
    }
    assert crossing.exit_code == CROSSES


def test_a_reference_is_rebuilt_through_history_noise_and_memory(tmp_path: Path) -> None:
    """What a policy sees through, and what it remembers, begin as they did."""
    pytest.importorskip("onnx", reason="contracts need the extra onnx")
    from isthmus.deploy.onnx_export import export_run

    seen = "history=3,previous_action=1,observation_noise=0.01,action_delay=1"
    problem = isthmus.problem(f"hopper/{seen}", source=seen, access="none")
    method, steps = "recurrent_randomization", 3 * tiny.ROUND
    run = isthmus.train(
        method, problem, steps=steps, out=tmp_path / "run", settings=tiny.settings(method),
        quiet=True,
    )  # fmt: skip
    folder = export_run(run, tmp_path / "out").folder
    crossing = ask_contract(folder)
    found = {row.question: str(row.outcome) for row in crossing.list_rows(Stage.CONTRACT)}
    assert found["reference rebuilt"] == "holds" and crossing.exit_code == CROSSES


def test_permuted_observations_are_the_contract_not_physics(exported: Path, tmp_path: Path) -> None:
    """The model's bytes and its reference are right: only the names are in another order."""
    old = '    "angle",\n    "thigh angle",\n'
    folder = change_contract(tmp_path, exported, old, '    "thigh angle",\n    "angle",\n')
    crossing = ask_contract(folder)
    rebuilt = crossing.rows[-1]
    assert rebuilt.question == "reference rebuilt" and crossing.exit_code == 3
    assert "another order: 'thigh angle' is 'angle', 'angle' is 'thigh angle'" in rebuilt.meaning
    assert crossing.describe()[1].startswith("Contract, not physics")
    assert not crossing.list_rows(Stage.SOURCE)  # nothing else was asked


def test_permuted_actions_are_the_contract_too(exported: Path, tmp_path: Path) -> None:
    old = '    "thigh_joint",\n    "leg_joint",\n'
    folder = change_contract(tmp_path, exported, old, '    "leg_joint",\n    "thigh_joint",\n')
    crossing = ask_contract(folder)
    assert crossing.exit_code == 3 and "actions reach the robot in another order" in str(
        crossing.rows[-1].meaning
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("control_rate_hz = 125.0", "control_rate_hz = 50.0", "acts 50 times a second"),
        ('"foot_joint"', '"ankle"', "unknown actuator or joint of hopper"),
    ],
)
def test_a_contract_of_another_robot(
    exported: Path, tmp_path: Path, old: str, new: str, line: str
) -> None:
    crossing = ask_contract(change_contract(tmp_path, exported, old, new))
    assert crossing.exit_code == 3 and line in crossing.rows[-1].meaning


def test_a_recorded_return_that_is_not_reached(exported: Path, tmp_path: Path) -> None:
    contract = (exported / "contract.toml").read_text()
    start = contract.index("mean_return = ")
    old = contract[start : contract.index("\n", start)]
    folder = change_contract(tmp_path, exported, old, "mean_return = 3000.0")
    crossing = ask_contract(folder)
    assert crossing.rows[-1].question == "recorded return" and crossing.exit_code == 3
    assert "the contract says 3000.0, here it is" in crossing.rows[-1].meaning


# The command


def test_the_command(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def make():\n    return lambda o: -0.8 * (o[:, :2] + o[:, 2:4])\n")
    command = "cross mine.py:make --robot ball --target damping=x30 --stages target --episodes 20"
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"{command} -o found.json"))
    assert caught.value.code == 6
    said = capsys.readouterr().out
    assert "copied from the source, damping alone mends it." in said
    assert "one policy is one seed" in said
    found = json.loads(Path("found.json").read_text())
    assert found["exit_code"] == 6 and found["target"] == "ball/damping=30"
    assert [row["stage"] for row in found["rows"]] == ["source", "target", "cause"]
    assert found["rows"][1]["loss"]["low"] > 0 and Path("found.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        main(shlex.split(f"{command} --json"))
    assert json.loads(capsys.readouterr().out) == found
    main(shlex.split("cross mine.py:make --robot ball --target damping=x1.01 --stages target"))
    assert "It crosses: target hold" in capsys.readouterr().out


def test_a_run_is_asked_in_its_own_problem(capsys: Any) -> None:
    run = tiny.trained("source_only")
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"cross {run.folder} --episodes 2 --stages contract target"))
    said = capsys.readouterr().out
    assert caught.value.code in EXIT_CODES.values() or caught.value.code == UNDECIDED
    assert "a run acts by itself" in said and str(run.problem.evaluation_target) in said


def test_a_problem_by_name_says_both_domains(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def make():\n    return lambda o: 0 * o[:, :3]\n")
    problem = isthmus.problem("hopper-gravity-2")
    with pytest.raises(SystemExit):
        main(shlex.split("cross mine.py:make --robot hopper-gravity-2 --stages target --json"))
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["target"]) == (str(problem.source), str(problem.target))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", "does not say where it was trained: name the robot, --robot hopper"),
        ("--robot ball --tolerance 2", "needs a share between 0 and 1"),
        ("--robot ball --target hopper", "a policy of one cannot act in the other"),
        ("--robot ball --target log:ball", "known only by its log"),
        ("--robot ball -o found.txt", "the result's file ends in .json"),
        ("--robot ball -o nowhere/found.json", "there is no folder nowhere"),
        ("--robot bal", "did you mean ball"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: Any, capsys: Any, arguments: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def make():\n    return lambda o: 0 * o[:, :2]\n")
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(f"cross mine.py:make {arguments}"))
    said = capsys.readouterr().err.strip()
    assert caught.value.code == 2 and line in said and "\n" not in said


def test_a_stage_that_is_not_there() -> None:
    from isthmus.cli.crossing import ALL_STAGES

    assert [str(stage) for stage in STAGES] == [*ALL_STAGES]
    with pytest.raises(UnknownName, match="unknown stage 'numeric'; did you mean numerics"):
        isthmus.cross(push, "ball", stages=["numeric"])
    with pytest.raises(BadValue, match="share between"):
        isthmus.cross(push, "ball", tolerance=0.0)


def test_the_page(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """Its first command, as a reader gives it, says what the page's table says."""
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "guide" / "crossing.md").read_text()
    command = next(line for line in text.splitlines() if line.startswith("    isthmus cross docs/"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(docs)
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(command)[1:])
    said = capsys.readouterr().out
    assert caught.value.code == 6 and "damping alone mends it." in said
    table = text.partition("### A run of Hopper")[0]
    numbers = [line.split("|")[3].strip() for line in table.splitlines() if "[-" in line]
    assert len(numbers) == 6 and all(number in said for number in numbers)
