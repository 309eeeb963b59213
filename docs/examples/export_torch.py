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
    """The same with an LSTM before the actor, its states [layers, N, units].

    One step is written out: torch 2.13's exporter gives an `nn.LSTM` its cell state twice, and its
    hidden state never.
    """

    def __init__(
        self, rnn: torch.nn.LSTM, actor: torch.nn.Module, normalizer: torch.nn.Module | None = None
    ):
        super().__init__()
        self.rnn, self.actor, self.normalizer = rnn, actor, normalizer or torch.nn.Identity()

    def forward(self, observation, h_in, c_in):
        """Return actions [N, A] and the states after."""
        out, states, cells = self.normalizer(observation), [], []
        for layer in range(self.rnn.num_layers):
            w_in, w_state, b_in, b_state = self.rnn.all_weights[layer]
            gates = out @ w_in.T + b_in + h_in[layer] @ w_state.T + b_state
            enter, forget, candidate, leave = gates.chunk(4, dim=-1)
            cell = forget.sigmoid() * c_in[layer] + enter.sigmoid() * candidate.tanh()
            out = leave.sigmoid() * cell.tanh()
            states.append(out)
            cells.append(cell)
        return self.actor(out), torch.stack(states), torch.stack(cells)


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
    """Write a recurrent policy as ONNX."""
    state = torch.zeros(module.rnn.num_layers, 2, module.rnn.hidden_size)
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, obs_size), state, state),
        path,
        input_names=["observation", "h_in", "c_in"],
        output_names=["action", "h_out", "c_out"],
        dynamic_shapes=({0: ANY}, {1: ANY}, {1: ANY}),
        external_data=False,
        dynamo=True,
    )
