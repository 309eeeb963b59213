"""`isthmus export` and `isthmus check`: each method's policy leaves as it is, or not at all; a log
whose actions do not follow is explained by what was done to it.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import tiny

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tomli_w")

import isthmus
from isthmus import collect_log
from isthmus.cli.main import main
from isthmus.deploy import onnx_export
from isthmus.deploy.check import check_export
from isthmus.deploy.contract import PolicyContract
from isthmus.deploy.exporters import EXPORTERS, add_policy, register_export
from isthmus.deploy.graph import PolicyGraph
from isthmus.deploy.onnx_export import TOLERANCE, build_graph, export_run
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.deploy.reference import read_reference, worst_difference
from isthmus.deploy.sensing import SensedPolicy
from isthmus.domains.effect_chain import Effect
from isthmus.domains.parse import parse_domain
from isthmus.evaluation.evaluate import ADAPTATION_SEED_OFFSET, SEED, draw_targets
from isthmus.learning.networks import GRU, LSTM, init_mlp
from isthmus.learning.normalization import Normalizer
from isthmus.learning.policies import GaussianPolicy, SquashedPolicy
from isthmus.learning.recurrent_ppo import Recurrent, RecurrentPolicy
from isthmus.methods.registry import METHODS
from isthmus.training.run import Run
from isthmus.types import BadValue, IsthmusError

f32 = np.float32


def export(method: str, folder: Path, **options: Any) -> onnx_export.Export:
    return export_run(tiny.trained(method), folder / "out", **options)


def exported(method: str, folder: Path) -> Path:
    """A copy of an export made once a session."""
    with tiny.locked(f"export-{method}") as made:
        if not (made / "policy.onnx").exists():
            export_run(tiny.trained(method), made)
    return Path(shutil.copytree(made, folder / "copy"))


# Every method


@pytest.mark.parametrize("method", tiny.each(METHODS))
def test_a_method_leaves_as_it_is(method: str, tmp_path: Path) -> None:
    run, made = tiny.trained(method), export(method, tmp_path)
    assert made.states == 10_000 and made.worst <= TOLERANCE and made.worst_reference <= TOLERANCE
    contract = PolicyContract.read(made.folder / "contract.toml")
    assert repr(contract) == repr(made.contract)
    assert contract.run.digest == run.digest
    assert bool(contract.run.adapted_to) == run.method.adapts
    assert contract.observations.names[0] == "z" and len(contract.actions.names) == 3
    assert contract.control_rate_hz == 125
    assert [e.mean_return for e in contract.evaluations] == [
        tiny.lines(run)[-1][f"{name}_return"] for name in ("source", "target")
    ]
    metadata = OnnxModel(made.folder / "policy.onnx").metadata
    assert metadata["observation_names"].split(",") == list(contract.observations.names)
    assert metadata["joint_names"] == "thigh_joint,leg_joint,foot_joint"
    assert all(finding.passed for finding in check_export(made.folder))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert sorted(p.name for p in made.folder.iterdir()) == [
        "contract.toml", "policy.onnx", "reference.npz",
    ]  # fmt: skip


def test_what_adapting_left_is_exported(tmp_path: Path) -> None:
    run = tiny.trained("few_shot_ppo")
    target = run.problem.evaluation_target
    parameters, _ = draw_targets(target, 1, SEED, adapting=True)
    policies, _ = run.method.adapt(
        run.state(), run.problem, target, parameters, SEED + ADAPTATION_SEED_OFFSET
    )
    obs = np.random.default_rng(0).standard_normal((4, 11)).astype(f32)
    for adapt, policy in ((True, policies[0]), (False, run.policy)):
        made = export_run(run, tmp_path / str(adapt), adapt)
        actions, _ = OnnxModel(made.folder / "policy.onnx").act((), obs)
        np.testing.assert_allclose(actions, [policy.act((), o)[0] for o in obs], atol=1e-6)
        assert bool(made.contract.run.adapted_to) == adapt


# Policies, one by one


def normalizer(size: int, scale: float = 1.0) -> Normalizer:
    random = np.random.default_rng(1)
    return Normalizer(random.normal(size=size).astype(f32), f32(scale) * np.ones(size, f32))


LOW, HIGH = np.array([-1, -2, 0.5], f32), np.array([1, 0.5, 3], f32)
KEY = jax.random.key(0)


def gaussian(size: int) -> GaussianPolicy:
    return GaussianPolicy(normalizer(size), init_mlp(KEY, (size, 16, 3), 2.0), LOW, HIGH)


def recurrent(size: int, kind: type, begin: float) -> RecurrentPolicy:
    cell = kind.init(KEY, size, 8)
    head = init_mlp(KEY, (8, 16, 3), 2.0)
    first = np.full(cell.initial_carry.shape, begin, f32)
    return RecurrentPolicy(normalizer(size), Recurrent(cell, head), first, LOW, HIGH)


POLICIES = {
    "gaussian": gaussian,
    "squashed": lambda n: SquashedPolicy((init_mlp(KEY, (n, 16, 6), 2.0),), LOW, HIGH),
    "squashed, two networks": lambda n: SquashedPolicy(
        (init_mlp(KEY, (n, 16, 2), 2.0), init_mlp(KEY, (n, 16, 4), 2.0)), LOW, HIGH
    ),
    "lstm": lambda n: recurrent(n, LSTM, 0.0),
    "gru": lambda n: recurrent(n, GRU, 0.0),
    "lstm that begins elsewhere": lambda n: recurrent(n, LSTM, 0.3),
}
SENSING = {"": 11, "history=3": 33, "previous_action=1": 14, "history=2,previous_action=1": 25}


def model_of(policy: Any, settings: str, neutral: np.ndarray, folder: Path) -> OnnxModel:
    action, graph = build_graph(policy, parse_domain(f"hopper/{settings}"), neutral)
    (folder / "policy.onnx").write_bytes(graph.model(action, {}))
    return OnnxModel(folder / "policy.onnx")


@pytest.mark.parametrize("settings", SENSING)
@pytest.mark.parametrize("kind", POLICIES)
def test_the_past_is_in_the_model(kind: str, settings: str, tmp_path: Path) -> None:
    """Against the effects that training saw through, step by step, from a neutral action that is
    not zero.
    """
    policy, neutral = POLICIES[kind](SENSING[settings]), np.array([0.3, 0.0, 1.0], f32)
    model = model_of(policy, settings, neutral, tmp_path)
    rows = np.random.default_rng(2).standard_normal((6, 5, 11)).astype(f32)
    sensed = SensedPolicy(policy, parse_domain(f"hopper/{settings}"), neutral, 5)
    assert worst_difference(sensed, model, rows) < 3e-6
    assert all(not part.any() for part in model.initial_memory())


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """The comparison of the test above tells policies apart."""
    model = model_of(gaussian(11), "", np.zeros(3, f32), tmp_path)
    other = gaussian(11)._replace(normalizer=normalizer(11, 1.001))
    rows = np.random.default_rng(2).standard_normal((2, 5, 11)).astype(f32)
    sensed = SensedPolicy(other, parse_domain("hopper"), np.zeros(3, f32), 5)
    assert worst_difference(sensed, model, rows) > 1e-4
    sensed = SensedPolicy(gaussian(11), parse_domain("hopper"), np.zeros(3, f32), 5)
    assert worst_difference(sensed, model, np.full_like(rows, np.nan)) == np.inf


@pytest.mark.parametrize("kind", POLICIES)
def test_a_dead_sensor_is_seen(kind: str, tmp_path: Path) -> None:
    """NaN comes out where it went in; onnxruntime's own LSTM and GRU would swallow it."""
    model = model_of(POLICIES[kind](11), "", np.zeros(3, f32), tmp_path)
    rows = np.zeros((2, 11), f32)
    rows[1, 4] = np.nan
    memory = tuple(np.repeat(part[None], 2, axis=0) for part in model.initial_memory())
    actions, _ = model.act(memory, rows)
    assert np.isfinite(actions[0]).all() and np.isnan(actions[1]).all()


class Doubled(NamedTuple):
    inner: GaussianPolicy


def test_a_class_joins_by_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadValue, match=r"class Doubled cannot be exported.*@register_export"):
        add_policy(Doubled(gaussian(11)), PolicyGraph(11, 3), "observation")
    monkeypatch.setattr("isthmus.deploy.exporters.EXPORTERS", dict(EXPORTERS))

    @register_export(Doubled)
    def export_doubled(policy: Doubled, graph: PolicyGraph, observation: str) -> str:
        return graph.add("Mul", add_policy(policy.inner, graph, observation), 2.0)

    graph = PolicyGraph(11, 3)
    assert graph.model(add_policy(Doubled(gaussian(11)), graph, "observation"), {})


def test_a_run_that_sees_its_past(tmp_path: Path) -> None:
    """The model is given the newest observation alone, also in the reference."""
    seeing = "history=2,previous_action=1,action_delay=1"
    problem = isthmus.problem("hopper/gravity=x2", source=seeing, target=seeing)
    run = tiny.train("source_only", tmp_path / "run", 2, problem=problem)
    made = export_run(run, tmp_path / "out")
    assert made.worst <= TOLERANCE and made.worst_reference <= TOLERANCE
    observed = made.contract.observations
    assert (observed.history_inside, observed.previous_action_inside) == (2, True)
    assert made.contract.effects == {"action_delay": 1.0}
    assert [(part.input, part.shape) for part in made.contract.memory] == [
        ("memory_history", (11,)), ("memory_history_begun", (1,)), ("memory_previous_action", (3,)),
    ]  # fmt: skip
    log = tmp_path / "log.npz"
    reference = read_reference(made.folder / "reference.npz")
    assert reference.observations.shape == (200, 11)
    collect_log(run, problem, log, 50, deterministic=True)  # as the policy sees: history and all
    assert all(row.passed is not False for row in check_export(made.folder, log))


# What goes wrong


def test_a_model_that_differs_is_not_written(tmp_path: Path, monkeypatch: Any) -> None:
    def shifted(policy: GaussianPolicy, graph: PolicyGraph, observation: str) -> str:
        return graph.add("Add", before(policy, graph, observation), 2e-5)

    before = EXPORTERS[GaussianPolicy]
    monkeypatch.setitem(EXPORTERS, GaussianPolicy, shifted)
    with pytest.raises(BadValue, match=r"by up to 2.0e-05 .* 10,000 states.*nothing is written"):
        export("source_only", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tomli_w"])
def test_a_missing_package_is_one_line(package: str, tmp_path: Path, monkeypatch: Any) -> None:
    found = onnx_export.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else found(name)
    )
    with pytest.raises(BadValue, match=r"needs \S+: pip install 'isthmus\[onnx\]'"):
        export("source_only", tmp_path)


def test_no_run_is_one_line(tmp_path: Path, capsys: Any) -> None:
    for arguments in (
        ["export", str(tmp_path / "none"), "-o", str(tmp_path / "out")],
        ["check", str(tmp_path)],
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(BadValue, match="is there already"):
        export("source_only", tmp_path)
    assert (tmp_path / "out" / "mine").read_text() == "kept"


class Smoothed(Effect):
    """An effect of a user's own that says what a policy may see."""

    name, is_sensing = "smoothed", True


def test_a_sense_that_no_model_holds_is_refused() -> None:
    domain = dataclasses.replace(parse_domain("hopper"), effects=(Smoothed(1),))
    with pytest.raises(BadValue, match="through the effect smoothed, which no model holds"):
        build_graph(gaussian(11), domain, np.zeros(3, f32))


def damage(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_what_contradicts_is_one_line(tmp_path: Path) -> None:
    cases = (
        (lambda f: damage(f, "contract.toml", '"z",', ""), "entries for 10 names"),
        (
            lambda f: damage(f, "contract.toml", "history = 1", "history = 2"),
            "22 observations, the model has 11",
        ),
        (
            lambda f: damage(f, "contract.toml", "model_sha256 = ", 'model_sha256 = "0" #'),
            "another",
        ),
        (lambda f: damage(f, "contract.toml", "format = 1", "format = 9"), "of format 9"),
        (lambda f: (f / "policy.onnx").write_bytes(b"no model"), "is no ONNX model"),
        (lambda f: (f / "policy.onnx").unlink(), "has no policy.onnx"),
        (lambda f: (f / "contract.toml").unlink(), "cannot be read"),
        (lambda f: (f / "reference.npz").write_bytes(b"PK"), "no reference.npz, or damaged"),
        (lambda f: (f / "reference.npz").unlink(), "is missing"),
        (
            lambda f: np.savez(f / "reference.npz", observations=np.array([{}], object)),
            "no reference.npz, or damaged",
        ),
    )
    for i, (break_it, line) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        folder = exported("source_only", tmp_path / str(i))
        break_it(folder)
        with pytest.raises(IsthmusError, match=line) as raised:
            check_export(folder)
        assert "\n" not in str(raised.value)


# A log


def shuffle(rows: np.ndarray, *order: int) -> np.ndarray:
    return rows[:, list(order)]


def change_column(rows: np.ndarray, column: int, scale: float, offset: float) -> np.ndarray:
    out = rows.copy()
    out[:, column] = rows[:, column] * scale + offset
    return out


def normalize(rows: np.ndarray, contract: PolicyContract) -> np.ndarray:
    observed = contract.observations
    return (rows - np.array(observed.normalizer_mean)) / np.array(observed.normalizer_std)


FAULTS: dict[str, tuple[Any, str]] = {
    "none": (lambda o, a, c: (o, a), ""),
    "swap": (
        lambda o, a, c: (shuffle(o, 0, 1, 5, 3, 4, 2, 6, 7, 8, 9, 10), a),
        "observations in another order: thigh angle in the place of x velocity",
    ),
    "rotated": (
        lambda o, a, c: (shuffle(o, 5, 0, 1, 2, 3, 4, 10, 6, 7, 8, 9), a),
        "observations in another order",
    ),
    "sign": (lambda o, a, c: (change_column(o, 5, -1, 0), a), "the sign of x velocity"),
    "degrees": (
        lambda o, a, c: (change_column(o, 3, 57.29578, 0), a),
        "leg angle scaled by 0.01745",
    ),
    "offset": (lambda o, a, c: (change_column(o, 3, 1, 0.7), a), "leg angle offset by -0.7"),
    "normalizer": (lambda o, a, c: (normalize(o, c), a), "the normalizer is missing"),
    "late": (lambda o, a, c: (o, np.concatenate([a[:1], a[:-1]])), "actions come one step late"),
    "actions, order": (
        lambda o, a, c: (o, shuffle(a, 2, 0, 1)),
        "actions in another order: foot_joint, thigh_joint, leg_joint",
    ),
    "actions, sign": (lambda o, a, c: (o, a * [1, -1, 1]), "the sign of the action leg_joint"),
    "actions, scale": (lambda o, a, c: (o, a * 0.5), "actions scaled by 0.5, 0.5, 0.5"),
    "actions, offset": (lambda o, a, c: (o, a + 0.2), "actions offset by 0.2, 0.2, 0.2"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["source_only", "rl2"])
def test_what_was_done_to_a_log_is_named(method: str, fault: str, tmp_path: Path) -> None:
    folder = exported(method, tmp_path)
    reference = read_reference(folder / "reference.npz")
    break_it, text = FAULTS[fault]
    contract = PolicyContract.read(folder / "contract.toml")
    # Of one episode, of which no end is known.
    length = int(reference.episode_begins[1:].argmax()) or len(reference.actions)
    first = reference.observations[:length], reference.actions[:length]
    observations, actions = break_it(*first, contract)
    np.savez(tmp_path / "robot.npz", observations=observations, actions=actions)
    findings = check_export(folder, tmp_path / "robot.npz")
    follows = next(f for f in findings if f.question == "recorded actions follow")
    mends = [f.answer for f in findings if f.question == "mended by"]
    assert bool(follows.passed) == (fault == "none")
    assert [mend.startswith(text) for mend in mends] == [True] * len(mends)
    assert len(mends) == (fault != "none")


def test_two_faults_are_not_one(tmp_path: Path) -> None:
    folder = exported("source_only", tmp_path)
    reference = read_reference(folder / "reference.npz")
    np.savez(
        tmp_path / "robot.npz",
        observations=change_column(reference.observations, 3, 57.3, 0),
        actions=reference.actions * [1, -1, 1],
    )
    findings = check_export(folder, tmp_path / "robot.npz")
    assert any(f.answer.startswith("no single hypothesis; nearest:") for f in findings)


def test_what_leaves_the_range_is_named(tmp_path: Path) -> None:
    folder = exported("source_only", tmp_path)
    reference = read_reference(folder / "reference.npz")
    observations = reference.observations.copy()
    observations[:20, 5] = 9.0
    np.savez(tmp_path / "robot.npz", observations=observations, actions=reference.actions)
    findings = check_export(folder, tmp_path / "robot.npz")
    outside = [f.answer for f in findings if f.question == "outside the range seen"]
    assert len(outside) == 1 and outside[0].startswith("x velocity: 10% of rows outside")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"observations": np.zeros((3, 11))}, "has no actions; it holds"),
        ({"observations": np.zeros((3, 10)), "actions": np.zeros((3, 3))}, "10 observations and 3"),
        ({"observations": np.zeros((3, 11)), "actions": np.zeros((2, 3))}, "3 observations and 2"),
        ({"observations": np.full((3, 11), np.nan), "actions": np.zeros((3, 3))}, "row 0 holds"),
        ({"observations": np.zeros(11), "actions": np.zeros((3, 3))}, "need rows of numbers"),
        ({"observations": np.array([{}], object), "actions": np.zeros((3, 3))}, "cannot be read"),
    ],
)
def test_a_log_that_is_none_is_one_line(columns: Any, line: str, tmp_path: Path) -> None:
    folder = exported("source_only", tmp_path)
    np.savez(tmp_path / "robot.npz", **columns)
    with pytest.raises(BadValue, match=line):
        check_export(folder, tmp_path / "robot.npz")


# The commands


def test_the_commands(tmp_path: Path, capsys: Any) -> None:
    run, out = tiny.trained("source_only"), tmp_path / "out"
    main(["export", str(run.folder), "-o", str(out)])
    said = capsys.readouterr().out
    assert "in 10,000 states" in said and "125 Hz" in said
    main(["check", str(out), "--log", str(out / "reference.npz")])
    assert "no observation leaves it" in capsys.readouterr().out
    reference = read_reference(out / "reference.npz")
    np.savez(
        tmp_path / "robot.npz", observations=reference.observations, actions=-reference.actions
    )
    with pytest.raises(SystemExit) as left:
        main(["check", str(out), "--log", str(tmp_path / "robot.npz")])
    assert left.value.code == 1
    assert "the sign of the action" in capsys.readouterr().out


def test_the_same_run_leaves_the_same_bytes(tmp_path: Path) -> None:
    run = Run.open(tiny.trained("source_only").folder)
    for name in ("a", "b"):
        export_run(run, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
