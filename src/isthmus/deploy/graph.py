"""The graph of a policy's model as it grows: operators, weights, and what it remembers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from isthmus.deploy.contract import MemoryContract
from isthmus.types import Array, BadValue

OPSET, IR_VERSION = 17, 10  # runtimes since 2022 read the one, since 2024 the other
OBSERVATION, ACTION, BATCH = "observation", "action", "N"


class _Memory(NamedTuple):
    """A memory, [N, size]; `after` names its next value."""

    contract: MemoryContract
    after: str


class PolicyGraph:
    """A model with the input `observation` [N, O] and the output `action` [N, A], float32.

    What it remembers are inputs `memory_*` and outputs `next_memory_*`, [N, M] each, zeros at
    first. Values are named by texts.
    """

    def __init__(self, obs_size: int, action_size: int):
        self.obs_size, self.action_size = obs_size, action_size
        self.observation = OBSERVATION
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._memories: dict[str, _Memory] = {}

    def constant(self, value: Array) -> str:
        """Return the name of an array that does not change; int64 or else float32."""
        from onnx import numpy_helper

        array = np.asarray(value)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        name = f"constant_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.array(array, kind), name))
        return name

    def add(self, operator: str, *inputs: str | Array, **attributes: Any) -> str:
        """Add an operator; return the name of its output. Inputs that are arrays are constants."""
        from onnx import helper

        names = []
        for value in inputs:
            names.append(value if isinstance(value, str) else self.constant(value))
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def clip(self, value: str, low: Array, high: Array) -> str:
        """Return what lies in low..high, which may differ by column; NaN stays."""
        return self.add("Min", self.add("Max", value, low), high)

    def mlp(self, layers: Any, value: str, activation: str = "Tanh") -> str:
        """Return the output of a network, [N, out], without an activation after its last layer."""
        for i, (weights, bias) in enumerate(layers):
            if i:
                value = self.add(activation, value)
            value = self.add("Add", self.add("MatMul", value, weights), bias)
        return value

    def columns(self, value: str, start: int, stop: int) -> str:
        """Return columns start..stop of a value [N, ...]."""
        bounds = (np.array([start]), np.array([stop]), np.array([1]))
        return self.add("Slice", value, *bounds)

    def remember(self, name: str, size: int, reset: str, first: str | None = None) -> str:
        """Return a memory's value [N, size] before this step; its next is said by `keep`.

        At the begin of each `reset`, an episode or a task, its value is `first`; zeros where that
        is None.
        """
        before = self._new_memory(name, size, reset)
        if first is None:
            return before
        begun = self._new_memory(f"{name}_begun", 1, reset)
        self.keep(f"{name}_begun", self.add("Max", begun, np.ones((1, 1))))
        return self.add("Where", self.add("Greater", begun, np.full((1, 1), 0.5)), before, first)

    def keep(self, name: str, value: str) -> None:
        """Say what a memory is after this step, [N, size]."""
        self._memories[name] = self._memories[name]._replace(after=value)

    def _new_memory(self, name: str, size: int, reset: str) -> str:
        if name in self._memories:
            raise BadValue(f"a policy's model has two memories called {name}")
        given, taken = f"memory_{name}", f"next_memory_{name}"
        self._memories[name] = _Memory(MemoryContract(given, taken, (size,), reset), given)
        return given

    @property
    def memories(self) -> tuple[MemoryContract, ...]:
        """Return what the model remembers, in the order of its inputs."""
        return tuple(memory.contract for memory in self._memories.values())

    def model(self, action: str, metadata: dict[str, str]) -> bytes:
        """Return the model as a file's bytes, checked by onnx."""
        import onnx
        from onnx import helper

        inputs = [_describe_value(OBSERVATION, self.obs_size)]
        outputs = [_describe_value(ACTION, self.action_size)]
        ends = [helper.make_node("Identity", [action], [ACTION])]
        for contract, after in self._memories.values():
            inputs.append(_describe_value(contract.input, contract.shape[0]))
            outputs.append(_describe_value(contract.output, contract.shape[0]))
            ends.append(helper.make_node("Identity", [after], [contract.output]))
        graph = helper.make_graph(self._nodes + ends, "policy", inputs, outputs, self._weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="isthmus")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def _describe_value(name: str, size: int) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, size])
