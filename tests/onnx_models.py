"""Small models, built with onnx.helper: what users bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {
    np.float16: TensorProto.FLOAT16,
    np.float32: TensorProto.FLOAT,
    np.float64: TensorProto.DOUBLE,
    np.int64: TensorProto.INT64,
}


def value(name: str, shape: Sequence[Any], dtype: Any = np.float32) -> Any:
    return helper.make_tensor_value_info(name, KINDS[dtype], list(shape))


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "policy", list(inputs), list(outputs), weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path), **options)
    return path


def weights(
    obs: int = 11, hidden: int = 8, act: int = 3, dtype: Any = np.float32
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes = {"w0": (obs, hidden), "b0": (hidden,), "w1": (hidden, act), "b1": (act,)}
    return {name: (0.2 * random.normal(size=s)).astype(dtype) for name, s in shapes.items()}


LAYERS = [
    node("Gemm", "rows w0 b0", "hidden"),
    node("Tanh", "hidden", "bounded"),
    node("Gemm", "bounded w1 b1", "out"),
]


def mlp(
    path: Path,
    shape: Sequence[Any] = ("N", 11),
    dtype: Any = np.float32,
    names: tuple[str, str] = ("observation", "action"),
    out: Sequence[Any] = ("N", 3),
    metadata: dict[str, str] | None = None,
    **options: Any,
) -> Path:
    """A network of one hidden layer, whatever shape its observation has."""
    size = next(n for n in reversed(shape) if isinstance(n, int))
    constants = weights(size, dtype=dtype) | {"flat": np.array([-1, size])}
    constants["form"] = np.array([-1 if isinstance(n, str) else n for n in out])
    nodes = [
        node("Reshape", f"{names[0]} flat", "rows"),
        *LAYERS,
        node("Reshape", "out form", names[1]),
    ]
    return save(
        path, nodes, [value(names[0], shape, dtype)], [value(names[1], out, dtype)], constants,
        metadata, **options,
    )  # fmt: skip


UNITS = 4


def lstm(
    path: Path,
    batch: Any = "N",
    names: tuple[str, str, str, str] = ("h_in", "c_in", "h_out", "c_out"),
    memory_batch: Any = None,
) -> Path:
    """An LSTM whose states [1, N, units] are inputs and outputs, as torch's is exported."""
    random = np.random.default_rng(1)
    state = [1, batch if memory_batch is None else memory_batch, UNITS]
    constants = {
        "W": (0.5 * random.normal(size=(1, 4 * UNITS, 11))).astype(np.float32),
        "R": (0.5 * random.normal(size=(1, 4 * UNITS, UNITS))).astype(np.float32),
        "head": random.normal(size=(UNITS, 3)).astype(np.float32),
        "first": np.array([0]),
    }
    nodes = [
        node("Unsqueeze", "obs first", "sequence"),
        helper.make_node(
            "LSTM", ["sequence", "W", "R", "", "", names[0], names[1]], ["", names[2], names[3]],
            hidden_size=UNITS,
        ),
        node("Squeeze", f"{names[2]} first", "last"),
        node("MatMul", "last head", "actions"),
    ]  # fmt: skip
    inputs = [value("obs", [batch, 11]), value(names[0], state), value(names[1], state)]
    outputs = [value("actions", [batch, 3]), value(names[2], state), value(names[3], state)]
    return save(path, nodes, inputs, outputs, constants)
