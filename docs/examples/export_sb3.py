"""A policy of Stable-Baselines3 as ONNX: pip install onnx onnxscript, beside SB3 and torch.

What SB3 does around its networks goes inside: VecNormalize, the clip of PPO's predict, the scale of
SAC's. Observations are double, as SB3 normalizes them.
"""

import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize


class Deployed(torch.nn.Module):
    """What `model.predict(normalize.normalize_obs(observation), deterministic=True)` gives."""

    def __init__(self, model: BaseAlgorithm, normalize: VecNormalize | None):
        super().__init__()
        space = model.observation_space
        if space.__class__.__name__ != "Box" or len(space.shape) != 1:
            raise ValueError(f"observations are {space}: flatten them to one Box [O] first")
        self.policy, self.is_sac = model.policy, isinstance(model, SAC)
        mean, std, self.limit = np.zeros(space.shape), np.ones(space.shape), np.inf
        if normalize is not None and normalize.norm_obs:
            mean = normalize.obs_rms.mean
            std = np.sqrt(normalize.obs_rms.var + normalize.epsilon)
            self.limit = normalize.clip_obs
        low, high = model.action_space.low, model.action_space.high
        for name, value in {"mean": mean, "std": std, "low": low, "high": high}.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, observation):
        """Return actions [N, A] for observations [N, O]."""
        scaled = ((observation - self.mean) / self.std).clamp(-self.limit, self.limit).float()
        if self.is_sac:
            actor = self.policy.actor
            features = actor.latent_pi(actor.extract_features(scaled, actor.features_extractor))
            unit = torch.tanh(actor.mu(features))
            return self.low + 0.5 * (unit + 1) * (self.high - self.low)
        policy = self.policy
        features = policy.extract_features(scaled, policy.pi_features_extractor)
        mean = policy.action_net(policy.mlp_extractor.forward_actor(features))
        return mean.clamp(self.low, self.high)


def export(model: PPO | SAC, path: str, normalize: VecNormalize | None = None) -> None:
    """Write a policy as ONNX, in one file, for any number of rows."""
    module = Deployed(model, normalize).eval()
    example = torch.zeros(2, model.observation_space.shape[0], dtype=torch.double)
    torch.onnx.export(
        module,
        (example,),
        path,
        input_names=["observation"],
        output_names=["action"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        external_data=False,
        dynamo=True,
    )
