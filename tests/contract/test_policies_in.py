"""Policies from elsewhere: models in every shape that exporters give them, factories, and the line
that each mistake gets.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import isthmus
from isthmus.deploy.onnx_export import export_run
from isthmus.domains.batched import fit_policy
from isthmus.domains.parse import parse_domain
from isthmus.domains.rollout import repeated, rollout_steps
from isthmus.types import BadValue, IsthmusError

pytest.importorskip("onnx", reason="policies as ONNX need the extra onnx")
pytest.importorskip("onnxruntime", reason="policies as ONNX need the extra onnx")
import onnx_models as models
import onnxruntime

HOPPER = parse_domain("hopper")
OBSERVATIONS = np.random.default_rng(2).normal(size=(70, 11)).astype(np.float32)


def expected_actions(observations: np.ndarray) -> np.ndarray:
    w = models.weights()
    actions = np.tanh(observations @ w["w0"] + w["b0"]) @ w["w1"] + w["b1"]
    return np.clip(actions, -1, 1)


def act(path: Path, observations: np.ndarray = OBSERVATIONS) -> np.ndarray:
    policy = fit_policy(isthmus.load_policy(path, "task"), HOPPER)
    return policy.act(repeated(policy.memory(), len(observations)), observations)[0]


@pytest.mark.parametrize(
    ("shape", "out", "dtype", "tolerance"),
    [
        (("N", 11), ("N", 3), np.float32, 1e-6),
        (("batch", 11), ("batch", 3), np.float64, 1e-6),
        (("N", 11), ("N", 3), np.float16, 1e-2),
        ((1, 11), (1, 3), np.float32, 1e-6),
        ((16, 11), (16, 3), np.float32, 1e-6),
        ((11,), (3,), np.float32, 1e-6),
        ((1, 1, 11), (1, 1, 3), np.float32, 1e-6),
        (("N", 1, 11), ("N", 1, 3), np.float32, 1e-6),
        ((1, "N", 11), ("N", 3), np.float32, 1e-6),
    ],
)
def test_a_model_acts_whatever_its_shape(
    tmp_path: Path, shape: Any, out: Any, dtype: Any, tolerance: float
) -> None:
    path = models.mlp(tmp_path / "policy.onnx", shape, dtype, ("input_7", "mu"), out)
    assert np.allclose(act(path), expected_actions(OBSERVATIONS), atol=tolerance)


def test_rows_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "policy.onnx")
    order = np.random.default_rng(0).permutation(70)
    assert np.array_equal(act(path)[order], act(path, OBSERVATIONS[order]))
    assert np.array_equal(act(path)[:3], act(path, OBSERVATIONS[:3]))


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize(
    "names",
    [
        ("h_in", "c_in", "h_out", "c_out"),
        ("memory_h", "memory_c", "next_memory_h", "next_memory_c"),
        ("h0", "c0", "hn", "cn"),
    ],
)
def test_a_recurrent_model_remembers_an_episode(tmp_path: Path, batch: Any, names: Any) -> None:
    """Its states go from step to step, and begin anew in the worlds that end, in no others."""
    policy = isthmus.load_policy(models.lstm(tmp_path / "policy.onnx", batch, names), "task")
    worlds = HOPPER.worlds(3, seed=1)
    _, played = rollout_steps(HOPPER, worlds, policy, 60)
    ends = np.asarray(played.terminated) | np.asarray(played.truncated)
    assert ends.any()
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"))
    for world in range(3):
        h = c = np.zeros((1, 1, models.UNITS), np.float32)
        for t in range(60):
            feed = {"obs": played.obs[t, world][None], names[0]: h, names[1]: c}
            action, h, c = session.run(["actions", *names[2:]], feed)
            assert np.allclose(np.clip(action[0], -1, 1), played.action[t, world], atol=1e-5)
            if ends[t, world]:
                h = c = np.zeros_like(h)


def test_a_recurrent_model_of_one_row_has_the_bits_of_any_number(tmp_path: Path) -> None:
    returns = []
    for name, batch, memory_batch in (("any", "N", None), ("one", 1, None), ("mixed", "N", 1)):
        path = models.lstm(tmp_path / f"{name}.onnx", batch, memory_batch=memory_batch)
        returns.append(isthmus.evaluate(isthmus.load_policy(path, "task"), HOPPER, 5).mean)
    assert returns[1] == returns[2] and returns[0] == pytest.approx(returns[1], rel=1e-3)


def test_a_policy_describes_what_its_results_depend_on(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "policy.onnx")
    described = isthmus.load_policy(path, "task").describe()
    assert described["onnxruntime"] == onnxruntime.__version__
    assert described["contract"] == "task" and len(described["sha256"]) == 64
    folder = isthmus.load_policy(tmp_path, "task")
    assert folder.describe() == described


NAMES = list(HOPPER.description().observation_names)


def test_metadata_say_order_and_scale(tmp_path: Path) -> None:
    """mjlab's keys: names of single numbers, joints, an action around the default pose."""
    order = [3, 0, 1, 2, *range(4, 11)]
    metadata = {
        "observation_names": ",".join(NAMES[i] for i in order),
        "joint_names": "foot_joint,thigh_joint,leg_joint",
        "action_scale": "0.5",
        "default_joint_pos": "0.1, -0.2, 0.3",
    }
    path = models.mlp(tmp_path / "policy.onnx", metadata=metadata)
    policy = fit_policy(isthmus.load_policy(path), HOPPER)
    w = models.weights()
    raw = np.tanh(OBSERVATIONS[:, order] @ w["w0"] + w["b0"]) @ w["w1"] + w["b1"]
    moved = raw * 0.5 + [0.1, -0.2, 0.3]
    found, _ = policy.act(repeated(policy.memory(), 70), OBSERVATIONS)
    assert np.allclose(found, np.clip(moved[:, [1, 2, 0]], -1, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"observation_names": "joint_pos,joint_vel"}, "its metadata name 2 terms (joint_pos, "),
        (
            {"observation_names": ",".join(["height", *NAMES[1:]])},
            "unknown observation of hopper, which policy.onnx takes, 'height'",
        ),
        (
            {"observation_names": ",".join(NAMES), "joint_names": "foot_joint,leg_joint,knee"},
            "unknown actuator or joint of hopper, which policy.onnx moves, 'knee'",
        ),
        (
            {"observation_names": ",".join(NAMES), "joint_names": "foot_joint,leg_joint"},
            "policy.onnx moves foot_joint, leg_joint: it needs each of 3 actuators once",
        ),
        (
            {"observation_names": ",".join(NAMES), "action_scale": "1,2"},
            "policy.onnx: action.scale has 2 numbers; it needs 1 or 3",
        ),
        (
            {"observation_names": ",".join(NAMES), "action_scale": "half"},
            "action_scale in its metadata is no list of numbers",
        ),
        ({}, "policy.onnx does not say what it observes and what its actions are: if both are"),
    ],
)
def test_what_metadata_leave_out_is_asked_for(tmp_path: Path, metadata: Any, line: str) -> None:
    path = models.mlp(tmp_path / "policy.onnx", metadata=metadata)
    with pytest.raises(IsthmusError) as caught:
        isthmus.evaluate(isthmus.load_policy(path), HOPPER, 2)
    assert line in str(caught.value) and "\n" not in str(caught.value)


CONTRACT = """
format = 1
control_rate_hz = 125
[task]
trained_in = "hopper/torso_mass=1..9"
[observations]
names = {names}
scale = [0.5]
clip = [-0.4, 0.4]
history = 2
[actions]
names = ["foot_joint", "thigh_joint", "leg_joint"]
scale = [1, 2, 3]
offset = [0.1]
"""


def test_a_contract_beside_a_model_says_order_scale_clip_and_history(tmp_path: Path) -> None:
    """The first observation of an episode fills the history."""
    order = [9, 0, 3]
    path = models.mlp(tmp_path / "policy.onnx", ("N", 6))
    (tmp_path / "contract.toml").write_text(CONTRACT.format(names=[NAMES[i] for i in order]))
    policy = isthmus.load_policy(tmp_path)
    assert policy.trained_in == "hopper/torso_mass=1..9"
    assert policy.describe()["contract"] == "contract.toml"
    _, played = rollout_steps(HOPPER, HOPPER.worlds(2, seed=1), policy, 40)
    w, begins = models.weights(6), np.ones(2, bool)
    older = np.zeros((2, 3))
    for t in range(40):
        newest = np.clip(played.obs[t][:, order] * 0.5, -0.4, 0.4)
        older = np.where(np.asarray(begins)[:, None], newest, older)
        both = np.concatenate([older, newest], axis=1)
        raw = np.tanh(both @ w["w0"] + w["b0"]) @ w["w1"] + w["b1"]
        expected = (raw * [1, 2, 3] + 0.1)[:, [1, 2, 0]]
        assert np.allclose(played.action[t], np.clip(expected, -1, 1), atol=1e-5)
        older, begins = newest, played.terminated[t] | played.truncated[t]
    assert played.terminated.any() and path.exists()


OWN = f"[observations]\nnames={NAMES}\n[actions]\nnames=['thigh_joint','leg_joint','foot_joint']\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("format", "contract.toml is no TOML"),
        ("[observations]\nscael=[1]", "contract.toml: unknown key of observations 'scael'"),
        ("", "contract.toml does not name its observations: write [observations] names"),
        (f"[observations]\nnames={NAMES}", "does not name its actions: write [actions] names"),
        ("control_rate_hz=50\n" + OWN, "policy.onnx acts 50 times a second, hopper 125 times"),
        ("model_sha256='12'\n" + OWN, "is of another model: it says sha256 12, policy.onnx has"),
        (OWN.replace("[actions]", "history=2\n[actions]"),
         "policy.onnx takes 11 observations, contract.toml says 22: they contradict each other"),
        (OWN.replace("'z', ", "", 1),
         "policy.onnx takes 11 observations, contract.toml says 10: they contradict each other"),
        (OWN + "[[memory]]\ninput='h'\noutput='hn'\nshape=[2]",
         "policy.onnx has no memory h, given back as hn, which its contract says"),
    ],
)  # fmt: skip
def test_a_contract_that_does_not_fit_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = models.mlp(tmp_path / "policy.onnx")
    (tmp_path / "contract.toml").write_text(f"format = 1\n{text}")
    with pytest.raises(IsthmusError) as caught:
        isthmus.evaluate(isthmus.load_policy(path), HOPPER, 2)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_contract_names_memories(tmp_path: Path) -> None:
    """Where names do not say which output is taken again."""
    names = ("state", "cell", "later", "kept")
    text = "[[memory]]\ninput='state'\noutput='later'\nshape=[1,4]\n"
    text += "[[memory]]\ninput='cell'\noutput='kept'\nshape=[1,4]\n"
    (tmp_path / "contract.toml").write_text(f"format = 1\n{OWN}{text}")
    path = models.lstm(tmp_path / "policy.onnx", "N", names)
    found = isthmus.evaluate(isthmus.load_policy(path), HOPPER, 3).mean
    usual = models.lstm(tmp_path / "usual.onnx")
    assert found == isthmus.evaluate(isthmus.load_policy(usual, "task"), HOPPER, 3).mean
    with pytest.raises(BadValue, match="takes 3 inputs"):
        isthmus.load_policy(path, "task")
    wrong = text.replace("shape=[1,4]", "shape=[5]")
    (tmp_path / "contract.toml").write_text(f"format = 1\n{OWN}{wrong}")
    with pytest.raises(BadValue, match=r"state is \[5\], policy.onnx takes \[1, 4\]"):
        isthmus.load_policy(path)


def broken(kind: str, folder: Path) -> Path:
    """A file that is no policy for a hopper."""
    path, value, node = folder / "policy.onnx", models.value, models.node
    if kind == "sizes":
        return models.mlp(path, ("N", 12))
    if kind == "actions":
        return models.save(path, [node("Slice", "obs low high last", "action")],
            [value("obs", ["N", 11])], [value("action", ["N", 2])],
            {"low": np.array([0]), "high": np.array([2]), "last": np.array([1])})  # fmt: skip
    if kind == "operator":
        nodes = [node("Unheard", "obs", "action", domain="mine")]
        return models.save(path, nodes, [value("obs", ["N", 11])], [value("action", ["N", 3])])
    if kind == "corrupt":
        models.mlp(path)
        path.write_bytes(path.read_bytes()[:300])
    if kind == "text":
        path.write_text("no model at all")
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "external":
        models.mlp(
            path, save_as_external_data=True, location="policy.onnx.data", size_threshold=100
        )
        (folder / "policy.onnx.data").unlink()
    if kind == "dictionary":
        nodes = [node("Concat", "joints height", "rows", axis=1), *models.LAYERS]
        return models.save(path, nodes, [value("joints", ["N", 10]), value("height", ["N", 1])],
                           [value("out", ["N", 3])], models.weights())  # fmt: skip
    if kind == "outputs":
        nodes = [node("Identity", "obs", "mean"), node("Identity", "obs", "value")]
        return models.save(path, nodes, [value("obs", ["N", 11])],
                           [value("mean", ["N", 11]), value("value", ["N", 11])])  # fmt: skip
    if kind == "integers":
        return models.save(path, [node("Identity", "obs", "action")],
            [value("obs", ["N", 11], np.int64)],
            [value("action", ["N", 11], np.int64)])  # fmt: skip
    if kind == "image":
        return models.mlp(path, ("N", "T", 11))
    if kind == "nan":
        nodes = [node("Sqrt", "obs", "root"), node("Slice", "root low high last", "action")]
        return models.save(path, nodes, [value("obs", ["N", 11])], [value("action", ["N", 3])],
            {"low": np.array([1]), "high": np.array([4]), "last": np.array([1])})  # fmt: skip
    if kind == "memory":
        return models.lstm(path, 16)
    return path


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("sizes", "policy.onnx takes 12 observations, hopper has 11"),
        ("actions", "policy.onnx gives 2 actions, the robot has 3"),
        ("operator", "policy.onnx has an operator that onnxruntime"),
        ("corrupt", "policy.onnx is no ONNX model, or damaged"),
        ("text", "policy.onnx is no ONNX model, or damaged"),
        ("empty", "policy.onnx is no ONNX model, or damaged"),
        ("external", "policy.onnx keeps its weights in a second file, which is not beside it"),
        ("dictionary", "policy.onnx takes 2 inputs (height, joints): a policy takes one"),
        ("outputs", "policy.onnx gives mean, value: call the output that acts `action`"),
        ("integers", "the input obs is a tensor(int64); a policy takes floats"),
        ("image", "policy.onnx observes [N, T, 11]: it needs [N, O]"),
        ("nan", "is nan at a finite observation"),
        ("memory", "the memory h_in is [1, 16, 4] for 16 rows: export it for one row"),
        ("nowhere", "policy.onnx: there is no such file"),
    ],
)
def test_a_model_that_cannot_act_is_one_line(tmp_path: Path, kind: str, line: str) -> None:
    with pytest.raises(BadValue) as caught:
        isthmus.evaluate(isthmus.load_policy(broken(kind, tmp_path), "task"), HOPPER, 2)
    assert line in str(caught.value) and "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["ppo.zip", "model.pt", "model.pth", "agent.pkl"])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        BadValue, match=r"export it as ONNX by the recipe in docs/guide/policies_in"
    ):
        isthmus.load_policy(name)
    assert not Path("exploded").exists()


FACTORY = """
import numpy as np

class Mine:
    def act(self, observations):
        return np.zeros((len(observations), 3))

still = Mine()

def make():
    return Mine()

def plain():
    return lambda observations: np.zeros((len(observations), 3))

def needs(path):
    return Mine()

def fails():
    raise OSError("no weights")

def number():
    return 3
"""


def test_factories(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_policies.py").write_text(FACTORY)
    expected = isthmus.evaluate(lambda obs: np.zeros((len(obs), 3)), HOPPER, 3).mean
    for reference in ("my_policies.py:make", "my_policies:Mine", "my_policies:still",
                      "my_policies.py:plain"):  # fmt: skip
        policy = isthmus.load_policy(reference)
        assert isthmus.evaluate(policy, HOPPER, 3).mean == expected
        assert policy.describe() == {"policy": reference}


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("my_policies.py:nothing", "my_policies.py has no 'nothing'"),
        ("my_policies.py:needs", "a factory is called without arguments; it raises TypeError"),
        ("my_policies.py:fails", "it raises OSError: no weights"),
        ("my_policies.py:number", "the factory gives a int; it needs an object with act"),
        ("nowhere.py:make", "nowhere.py:make: no such Python file"),
        ("no_such_module:make", "No module named 'no_such_module'"),
    ],
)
def test_a_factory_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: Any, reference: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_policies.py").write_text(FACTORY)
    with pytest.raises(BadValue) as caught:
        isthmus.load_policy(reference)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    path = models.mlp(tmp_path / "policy.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(BadValue, match=r"pip install 'isthmus\[onnx\]'"):
        isthmus.load_policy(path)


def test_a_model_may_be_moved_with_its_weights(tmp_path: Path) -> None:
    models.mlp(tmp_path / "policy.onnx", save_as_external_data=True, location="policy.onnx.data",
               size_threshold=100)  # fmt: skip
    assert (tmp_path / "policy.onnx.data").exists()
    shutil.copytree(tmp_path, tmp_path / "moved")
    assert np.allclose(act(tmp_path / "moved"), expected_actions(OBSERVATIONS), atol=1e-6)


def test_a_run_that_was_exported_plays_as_the_run(tmp_path: Path) -> None:
    """The folder says where it was trained; landscapes, audits and logs do not ask which it is."""
    pytest.importorskip("tomli_w", reason="exports need the extra onnx")
    run = tiny.trained("source_only")
    export_run(run, tmp_path / "exported")
    policy = isthmus.load_policy(tmp_path / "exported")
    assert policy.trained_in == str(run.problem.source)
    expected = isthmus.evaluate(run.policy, "hopper", 10).episodes
    found = isthmus.evaluate(policy, "hopper", 10).episodes
    assert np.array_equal(found.lengths, expected.lengths)
    assert np.allclose(found.returns, expected.returns, rtol=1e-3)
