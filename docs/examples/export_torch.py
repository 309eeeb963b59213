"""A policy of rsl_rl, or any torch network, as ONNX: pip install onnx onnxscript, beside torch.

A recurrent one has its states as inputs and outputs: where a module keeps them itself, they become
constants, without a warning.
"""

import torch

ANY = torch.export.Dim("N")


class Deployed(torch.nn.Module):
    """A normalizer and an actor, as rsl_rl's `act_inference` runs them."""

    def __init__(self, actor: torch.nn.Module, normalizer: torch.nn.Module | None = None):
        super().__init__()
        self.actor, self.normalizer = actor, normalizer or torch.nn.Identity()

    def forward(self, observation):
        """Return actions [N, A] for observations [N, O]."""
        return self.actor(self.normalizer(observation))


class DeployedLSTM(torch.nn.Module):
    """The same with an LSTM before the actor, its states [layers, N, units]."""

    def __init__(
        self, rnn: torch.nn.LSTM, actor: torch.nn.Module, normalizer: torch.nn.Module | None = None
    ):
        super().__init__()
        self.rnn, self.actor, self.normalizer = rnn, actor, normalizer or torch.nn.Identity()

    def forward(self, observation, h_in, c_in):
        """Return actions [N, A] and the states after."""
        steps = self.normalizer(observation).unsqueeze(0)
        out, (h_out, c_out) = self.rnn(steps, (h_in, c_in))
        return self.actor(out.squeeze(0)), h_out, c_out


def export(module: Deployed, obs_size: int, path: str) -> None:
    """Write a policy as ONNX, in one file, for any number of rows."""
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, obs_size),),
        path,
        input_names=["observation"],
        output_names=["action"],
        dynamic_shapes=({0: ANY},),
        external_data=False,
        dynamo=True,
    )


def export_lstm(module: DeployedLSTM, obs_size: int, path: str) -> None:
    """Write a recurrent policy as ONNX.

    The examples of both states are two tensors: of one tensor twice, torch makes one input.
    """
    shape = module.rnn.num_layers, 2, module.rnn.hidden_size
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, obs_size), torch.zeros(shape), torch.zeros(shape)),
        path,
        input_names=["observation", "h_in", "c_in"],
        output_names=["action", "h_out", "c_out"],
        dynamic_shapes=({0: ANY}, {1: ANY}, {1: ANY}),
        external_data=False,
        dynamo=True,
    )
