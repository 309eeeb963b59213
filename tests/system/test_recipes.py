"""The recipes of docs/guide/policies_in.md, run by SB3 and torch in the benchmarks' environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isthmus
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.rollout import repeated
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.evaluation.evaluate import SEED

pytest.importorskip("onnxruntime", reason="policies as ONNX need the extra onnx")

TREE = Path(__file__).parents[2]
PYTHON = TREE / ".bench-venv" / "bin" / "python"
EPISODES = 20
STEPS = {"ppo": 12_000, "sac": 2000}  # until a hopper hops a few times
SB3 = """
import json, sys
sys.path.insert(0, {examples!r})
import gymnasium, numpy, torch
from export_sb3 import export
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

torch.set_num_threads(1)
starts, steps = json.load(open("starts.json")), {steps}


class Starts(gymnasium.Wrapper):
    def reset(self, **arguments):
        obs, info = self.env.reset(**arguments)
        if starts:
            self.unwrapped.set_state(*map(numpy.array, starts.pop(0)))
        return self.unwrapped._get_obs(), info


if {name!r} == "ppo":
    env = VecNormalize(make_vec_env("Hopper-v5", 1, seed=0))
    model = PPO("MlpPolicy", env, device="cpu", seed=0, n_steps=1024).learn(steps)
else:
    env = None
    model = SAC("MlpPolicy", "Hopper-v5", device="cpu", seed=0, train_freq=4).learn(steps)
export(model, "policy.onnx", env)
play = DummyVecEnv([lambda: Monitor(Starts(gymnasium.make("Hopper-v5")))])
if env is not None:
    play = VecNormalize(play, training=False, norm_reward=False)
    play.obs_rms = env.obs_rms
found = evaluate_policy(model, play, len(starts), return_episode_rewards=True)
json.dump([list(map(float, column)) for column in found], open("theirs.json", "w"))
"""
TORCH = """
import sys
sys.path.insert(0, {examples!r})
import numpy, torch
from export_torch import Deployed, DeployedLSTM, export, export_lstm

torch.manual_seed(0)
actor = torch.nn.Sequential(torch.nn.Linear(11, 8), torch.nn.ELU(), torch.nn.Linear(8, 3))
mlp = Deployed(actor)
export(mlp, 11, "mlp.onnx")
rnn, head = torch.nn.LSTM(11, 8, num_layers=2), torch.nn.Linear(8, 3)
lstm = DeployedLSTM(rnn, head)
export_lstm(lstm, 11, "lstm.onnx")
obs = torch.tensor(numpy.load("obs.npy"))
state = torch.zeros(2, 1, 8), torch.zeros(2, 1, 8)
actions = []
with torch.no_grad():
    for row in obs:
        out, state = rnn(row[None, None], state)
        actions.append(head(out[0, 0]).numpy())
    numpy.savez("theirs.npz", mlp=mlp(obs).numpy(), lstm=actions)
"""


def run_there(script: str, folder: Path) -> None:
    """Run a script in the benchmarks' environment; skip where that is not there, or has no onnx."""
    if not PYTHON.exists():
        pytest.skip("the peers' environment is not there: `make bench` makes it")
    asked = subprocess.run([str(PYTHON), "-c", "import onnx, onnxscript"], capture_output=True)
    if asked.returncode:
        pytest.skip("the peers' environment has no onnx and onnxscript: `make bench` anew")
    done = subprocess.run(
        [str(PYTHON), "-c", script], cwd=folder, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]


def list_starts() -> list[Any]:
    """The starts of evaluation's episodes: positions and velocities."""
    domain = isthmus.parse_domain("hopper")
    live = SteppedWorlds.resume(domain, domain.worlds(EPISODES, SEED))
    assert isinstance(live.simulation, PhysicsSimulation)
    simulator: Any = live.simulation.simulator
    return [[q.tolist(), v.tolist()] for q, v in zip(simulator.qpos, simulator.qvel)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_policy_of_sb3_earns_what_sb3_says(tmp_path: Path, name: str) -> None:
    """Episode by episode, from equal starts, to a thousandth of the returns' spread."""
    (tmp_path / "starts.json").write_text(json.dumps(list_starts()))
    examples = str(TREE / "docs" / "examples")
    run_there(SB3.format(examples=examples, name=name, steps=STEPS[name]), tmp_path)
    returns, lengths = map(np.array, json.loads((tmp_path / "theirs.json").read_text()))
    policy = isthmus.load_policy(tmp_path, "task")
    ours = isthmus.evaluate(policy, "hopper", EPISODES).episodes
    assert np.array_equal(ours.lengths, lengths)
    assert np.abs(ours.returns - returns).max() < 1e-3 * returns.std()


@pytest.mark.slow
def test_a_torch_network_acts_as_in_torch(tmp_path: Path) -> None:
    """Also one that remembers."""
    domain = isthmus.parse_domain("hopper")
    obs = np.random.default_rng(0).normal(size=(30, 11)).astype(np.float32)
    np.save(tmp_path / "obs.npy", obs)
    run_there(TORCH.format(examples=str(TREE / "docs" / "examples")), tmp_path)
    theirs = np.load(tmp_path / "theirs.npz")
    for name in ("mlp", "lstm"):
        policy = isthmus.load_policy(tmp_path / f"{name}.onnx", "task").for_domain(domain)
        memory, actions = repeated(policy.memory(), 1), []
        for row in obs:
            action, memory = policy.act(memory, row[None])
            actions.append(action[0])
        assert np.allclose(actions, theirs[name], atol=1e-5)
