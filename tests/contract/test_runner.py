"""The runner: decisions of an export by numpy and onnxruntime alone, guards, rate and log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import isthmus
from isthmus.cli.main import main
from isthmus.deploy.onnx_export import export_run
from isthmus.deploy.runner import REACTIONS, Guards, Runner
from isthmus.domains.parse import parse_domain
from isthmus.logs.read import read_log
from isthmus.types import BadValue


class Clock:
    """Seconds that pass when somebody sleeps, or when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runner") / "out"
    return export_run(tiny.trained("source_only"), folder).folder


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runner") / "rl2"
    return export_run(tiny.trained("rl2"), folder).folder


def make_runner(folder: Path, **named: Any) -> tuple[Runner, Clock]:
    clock = Clock()
    runner = Runner(folder, clock=clock, sleep=clock.sleep, **named)
    runner.begin_episode()
    return runner, clock


def reference(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    held = np.load(folder / "reference.npz")
    return held["observations"], held["actions"]


def test_it_decides_as_the_reference_says(exported: Path) -> None:
    observations, actions = reference(exported)
    runner, _ = make_runner(exported, guards=Guards(range="ignore"))
    for observation, action in zip(observations, actions, strict=True):
        np.testing.assert_allclose(runner.decide(observation).action, action, atol=1e-5)


def test_a_memory_is_carried_and_forgotten_as_the_contract_says(remembering: Path) -> None:
    observations, _ = reference(remembering)
    runner, _ = make_runner(remembering, guards=Guards(range="ignore"))
    obs = observations[:5]
    first = [runner.decide(o).action for o in obs]
    runner.begin_episode(new_task=False)
    kept = runner.contract.memory[0].reset == "task"
    again = [runner.decide(o).action for o in obs]
    assert np.allclose(first, again) != kept
    runner.begin_episode()
    np.testing.assert_array_equal(first, [runner.decide(o).action for o in obs])


def middle(runner: Runner) -> np.ndarray:
    seen = runner.contract.observations
    return (np.array(seen.seen_low) + np.array(seen.seen_high)) / 2


@pytest.mark.parametrize("reaction", REACTIONS["nan"])
def test_a_number_that_is_none(exported: Path, reaction: str) -> None:
    runner, _ = make_runner(exported, guards=Guards(nan=reaction))
    before = runner.decide(middle(runner)).action
    decision = runner.decide(np.full(11, np.nan))
    assert decision.tripped == (f"nan: {reaction}",)
    neutral = np.array(runner.contract.actions.neutral)
    np.testing.assert_array_equal(decision.action, before if reaction == "hold" else neutral)
    after = runner.decide(middle(runner))
    assert after.tripped == (("stopped",) if reaction == "stop" else ())
    runner.begin_episode()
    assert runner.decide(middle(runner)).tripped == ()


def test_beyond_what_training_saw(exported: Path) -> None:
    far = {}
    for reaction in ("clip", "ignore"):
        runner, _ = make_runner(exported, guards=Guards(range=reaction, margin=0.0))
        high = np.array(runner.contract.observations.seen_high)
        decision = runner.decide(high + 5)
        assert decision.tripped == (f"range: {reaction}",)
        far[reaction] = decision.action
        if reaction == "clip":
            other, _ = make_runner(exported, guards=Guards(margin=0.0))
            np.testing.assert_array_equal(decision.action, other.decide(high).action)
    assert not np.array_equal(far["clip"], far["ignore"])
    runner, _ = make_runner(exported, guards=Guards(margin=1e6))
    assert runner.decide(high + 5).tripped == ()


def test_an_old_observation(exported: Path) -> None:
    runner, clock = make_runner(exported, guards=Guards(late="neutral", patience=2))
    seen = middle(runner)
    assert runner.decide(seen, clock() - 1.9 * runner.period).tripped == ()
    assert runner.decide(seen, clock() - 2.1 * runner.period).tripped == ("late: neutral",)


def test_an_action_that_changes_too_fast(exported: Path) -> None:
    runner, _ = make_runner(exported, guards=Guards(largest_change=1e-3, range="ignore"))
    neutral = np.array(runner.contract.actions.neutral)
    decision = runner.decide(middle(runner))
    width = np.array(runner.contract.actions.high) - np.array(runner.contract.actions.low)
    assert (np.abs(decision.action - neutral) <= 1e-3 * width + 1e-12).all()
    assert decision.tripped == ("change: clip",)


def test_it_keeps_the_rate_and_counts_overruns(exported: Path) -> None:
    runner, clock = make_runner(exported)
    started = clock()
    for _ in range(10):
        assert runner.wait() == pytest.approx(0)
        clock.now += runner.period / 2
    assert clock() - started == pytest.approx(9.5 * runner.period)
    clock.now += 5 * runner.period
    assert runner.wait() > 4 * runner.period
    assert runner.overruns == 1
    assert runner.wait() == pytest.approx(0)


def test_its_log_is_imported(exported: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "monday.csv"
    runner, _ = make_runner(exported, log=path, guards=Guards(range="ignore"))
    observations, _ = reference(exported)
    told = []
    for observation in observations[:60]:
        runner.wait()
        told.append(runner.decide(observation).action)
    runner.close()
    out = tmp_path / "log.npz"
    main(["import", str(path), "--map", str(tmp_path / "monday.toml"), "-o", str(out)])
    log = read_log(str(out), parse_domain("hopper")).log
    np.testing.assert_allclose(log.obs[:50], observations[:50], rtol=1e-6)
    np.testing.assert_allclose(log.action[:50], told[:50], rtol=1e-5, atol=1e-7)
    assert "tripped" in path.read_text(encoding="utf-8").splitlines()[0]


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"jax", "jaxlib", "mujoco", "gymnasium", "scipy", "optax"}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import numpy as np
from isthmus.deploy.runner import Runner
runner = Runner(sys.argv[1])
runner.begin_episode()
print(runner.decide(np.zeros(11)).action.tolist())
"""


def test_neither_jax_nor_mujoco_is_needed(exported: Path) -> None:
    command = [sys.executable, "-c", BLOCKED, str(exported)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runner, _ = make_runner(exported)
    assert done.stdout.strip() == str(runner.decide(np.zeros(11)).action.tolist())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"nan": "clip"}, "guard nan='clip': needs stop, hold, neutral"),
        ({"range": "no"}, "guard range"),
        ({"patience": -1.0}, "patience"),
        ({"margin": float("nan")}, "margin"),
    ],
)
def test_what_a_guard_cannot_do_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadValue, match=told):
        Guards(**settings)


def test_what_is_no_export_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="cannot be read"):
        Runner(tmp_path)
    with pytest.raises(BadValue, match="an observation of 3 numbers; the policy takes 11"):
        make_runner(exported)[0].decide(np.zeros(3))
    assert isthmus.Runner is Runner and isthmus.Guards is Guards


def test_the_pages_example_runs(exported: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """As it stands, with a robot that is not there, a folder and a clock of the test's."""
    page = Path(__file__).parents[2] / "docs" / "guide" / "runner.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").symlink_to(exported)
    clock, sent = Clock(), []

    class Robot:
        def read(self) -> np.ndarray:
            return np.zeros(11)

        def send(self, action: np.ndarray) -> None:
            sent.append(action)

    def make(*given: Any, **named: Any) -> Runner:
        return Runner(*given, **named, clock=clock, sleep=clock.sleep)

    monkeypatch.setattr(isthmus, "Runner", make, raising=False)
    exec(code, {"robot": Robot()})
    assert len(sent) == 1000
    assert len((tmp_path / "monday.csv").read_text(encoding="utf-8").splitlines()) == 1001
