"""Stable-Baselines3's side, in an environment of its own: one JSON request a line in, one answer a
line out.

Between requests it waits on its input, so that it takes nothing from the other side's turn.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from typing import Any

import mujoco
import numpy as np
import torch
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

ENVIRONMENT = "Hopper-v5"


def build(
    algorithm: type[PPO | TRPO], env: VecNormalize, hidden: list[int], **settings: Any
) -> PPO | TRPO:
    network = {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.Tanh}
    return algorithm("MlpPolicy", env, policy_kwargs=network, device="cpu", seed=0, **settings)


class Peer:
    """The requests, one method each."""

    model: PPO | TRPO | RecurrentPPO | None = None

    def versions(self) -> dict[str, str]:
        return {
            name: importlib.metadata.version(name)
            for name in ("stable-baselines3", "sb3-contrib", "torch")
        }

    def begin(
        self,
        environments: int,
        processes: bool,
        threads: int,
        steps: int,
        minibatch: int,
        epochs: int,
        hidden: list[int],
        trust: dict[str, float] | None = None,
        units: int = 0,
    ) -> None:
        """A new training; `steps` a round, over all environments. With settings of a trust region
        it is TRPO's, with `units` of an LSTM recurrent PPO's.
        """
        if self.model is not None:
            self.model.get_env().close()
        torch.set_num_threads(threads)
        # fork: with the default, every worker would import torch first. They never compute with it.
        how = (
            {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "fork"}}
            if processes
            else {}
        )
        env = VecNormalize(make_vec_env(ENVIRONMENT, environments, seed=0, **how))
        self.steps = steps
        common = {"n_steps": steps // environments, "batch_size": minibatch}
        if units:
            network = {
                "net_arch": hidden,
                "activation_fn": torch.nn.Tanh,
                "lstm_hidden_size": units,
            }
            self.model = RecurrentPPO(
                "MlpLstmPolicy",
                env,
                policy_kwargs=network,
                device="cpu",
                seed=0,
                n_epochs=epochs,
                **common,
            )
        elif trust is None:
            self.model = build(PPO, env, hidden, n_epochs=epochs, **common)
        else:
            self.model = build(TRPO, env, hidden, n_critic_updates=epochs, **common, **trust)

    def train(self, rounds: int) -> float:
        """Seconds for `rounds` more rounds."""
        begun = time.perf_counter()
        self.model.learn(rounds * self.steps, reset_num_timesteps=False)
        return time.perf_counter() - begun

    def begin_sac(self, task: str, threads: int) -> None:
        """SAC with its defaults, its replay filled by a thousand random steps; networks are its
        own, 256-256.
        """
        torch.set_num_threads(threads)
        self.sac = SAC(
            "MlpPolicy", task, device="cpu", seed=0, learning_starts=1000, buffer_size=10_000
        )
        self.sac.learn(1000)

    def update_sac(self, updates: int, minibatch: int) -> float:
        """Seconds for so many gradient steps."""
        begun = time.perf_counter()
        self.sac.train(updates, minibatch)
        return time.perf_counter() - begun

    def load(self, threads: int, mean: list[float], variance: list[float], layers: list) -> None:
        """The policy to play: moments of its observations, and weights (in, out) and biases of its
        layers.
        """
        torch.set_num_threads(threads)
        self.env = VecNormalize(
            make_vec_env(ENVIRONMENT, 1, seed=0), training=False, norm_reward=False
        )
        self.env.obs_rms.mean, self.env.obs_rms.var = np.array(mean), np.array(variance)
        self.player = build(PPO, self.env, [len(bias) for _, bias in layers[:-1]])
        policy = self.player.policy
        linear = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)] + [
            policy.action_net
        ]
        with torch.no_grad():
            for module, (weights, bias) in zip(linear, layers, strict=True):
                module.weight.copy_(torch.tensor(weights).T)
                module.bias.copy_(torch.tensor(bias))

    def act(self, observations: list[list[float]]) -> list[list[float]]:
        normalized = self.env.normalize_obs(np.array(observations))
        return self.player.predict(normalized, deterministic=True)[0].tolist()

    def evaluate(self, cells: list[dict[str, list]], episodes: int) -> dict[str, Any]:
        """A loop over cells: set the model, `evaluate_policy`. Seconds; returns and lengths
        [cells][episodes].
        """
        inner = self.env.venv.envs[0].unwrapped
        begun, returns, lengths = time.perf_counter(), [], []
        for fields in cells:
            for name, values in fields.items():
                getattr(inner.model, name)[:] = values
            mujoco.mj_setConst(inner.model, inner.data)
            r, n = evaluate_policy(
                self.player, self.env, n_eval_episodes=episodes, return_episode_rewards=True
            )
            returns.append([float(x) for x in r])
            lengths.append([int(x) for x in n])
        return {"seconds": time.perf_counter() - begun, "returns": returns, "lengths": lengths}


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # whatever prints must not be taken for an answer
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(getattr(peer, request.pop("request"))(**request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
