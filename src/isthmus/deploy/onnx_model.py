"""A model in onnxruntime: which input observes, which output acts, what it remembers, how many
rows it takes.

One thread computes, so that bits repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.types import BadValue

GUIDE = "docs/guide/policies_in.md"
FLOATS = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
}
ACTION_NAMES = ("action", "actions")
# What a memory's output is called, where its input is called {}.
NEXT_NAMES = ("next_{}", "new_{}", "{}_next", "{}_out", "{}n")
# The same by a word that is replaced, at the end of the name: torch's h0 and hn, h_in and h_out.
NEXT_ENDINGS = (("_in", "_out"), ("0", "n"), ("_0", "_n"))

Dimension = int | str | None  # a name, or None, stands for any length


class ModelMemory(NamedTuple):
    """A state that a model takes and gives back; `axis` is that of the batch, None where the model
    takes one row at a time.
    """

    input: str
    output: str
    shape: tuple[int, ...]  # of one world, without the axis of the batch
    axis: int | None
    dtype: np.dtype


class Signature(NamedTuple):
    """Inputs and outputs of a model. `rows` is how many it takes at once, None for any number."""

    observation: str
    shape: tuple[Dimension, ...]  # the observation's, its last axis O
    dtype: np.dtype
    batch_axis: int | None
    rows: int | None
    action: str
    memories: tuple[ModelMemory, ...]


class OnnxModel:
    """A policy's model, loaded; `memories` names outputs by the inputs that take them again, where
    they are not to be guessed from their names.

    Raises BadValue, in one line, where it cannot be one.
    """

    def __init__(self, path: Path, memories: Mapping[str, str] | None = None):
        self.path, self.name = path, path.name
        self._session = _open_session(path)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.signature = _read_signature(self.name, self._session, memories or {})
        last = self.signature.shape[-1]
        self.obs_size = last if isinstance(last, int) else None

    def initial_memory(self) -> tuple[np.ndarray, ...]:
        """Return what one world remembers at the begin of an episode: zeros."""
        return tuple(np.zeros(m.shape, m.dtype) for m in self.signature.memories)

    def act(
        self, memory: tuple[np.ndarray, ...], observations: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return actions [N, A] for observations [N, O], and the memory [N, ...] each.

        Raises BadValue where the model fails on them.
        """
        n, rows = len(observations), self.signature.rows
        if rows is None:
            return self._run(memory, observations)
        parts: list[tuple[np.ndarray, tuple[np.ndarray, ...]]] = []
        for start in range(0, n, rows):
            ids = np.minimum(np.arange(start, start + rows), n - 1)
            parts.append(self._run(tuple(m[ids] for m in memory), observations[ids]))
        actions, memories = zip(*parts, strict=True)
        joined = tuple(np.concatenate(leaf)[:n] for leaf in zip(*memories, strict=True))
        return np.concatenate(actions)[:n], joined

    def _run(
        self, memory: tuple[np.ndarray, ...], observations: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return what one call gives, for as many rows as it takes."""
        n, signature = len(observations), self.signature
        shape = _shape_of_call(signature, n, observations.shape[1])
        feed = {signature.observation: observations.astype(signature.dtype).reshape(shape)}
        for state, value in zip(signature.memories, memory, strict=True):
            feed[state.input] = _put_batch(value, state).astype(state.dtype)
        wanted = [signature.action, *(state.output for state in signature.memories)]
        try:
            actions, *states = self._session.run(wanted, feed)
        except Exception as error:
            raise BadValue(f"{self.name} fails on {n} rows: {_first_line(error)}") from None
        remembered = []
        for state, value in zip(signature.memories, states, strict=True):
            remembered.append(self._take_batch(value, state, n))
        if np.size(actions) % n:
            raise BadValue(
                f"{self.name} gives {np.shape(actions)} for {n} rows: not an action each"
            )
        return np.reshape(actions, (n, -1)), tuple(remembered)

    def _take_batch(self, value: np.ndarray, state: ModelMemory, n: int) -> np.ndarray:
        """Return a memory [n, ...] that the model gave, by rows."""
        taken = value[None] if state.axis is None else np.moveaxis(value, state.axis, 0)
        if taken.shape != (n, *state.shape):
            raise BadValue(
                f"{self.name} gives {state.output} of shape {value.shape} for {n} rows, which is "
                f"not that of {state.input}"
            )
        return taken


def load_onnxruntime() -> Any:
    """Return the module. Raises BadValue where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise BadValue("a policy as ONNX needs onnxruntime: pip install 'isthmus[onnx]'") from None
    return onnxruntime


def _open_session(path: Path) -> Any:
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what is wrong is raised
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BadValue(_describe_load_error(path, error, runtime.__version__)) from None


def _describe_load_error(path: Path, error: Exception, version: str) -> str:
    """Say in one line why onnxruntime does not load a model."""
    kind, reason = type(error).__name__, _first_line(error)
    if kind == "InvalidProtobuf" or "No graph was found" in reason:
        return f"{path} is no ONNX model, or damaged: {reason}"
    if "external" in reason.lower() or ".data" in reason:
        return f"{path} keeps its weights in a second file, which is not beside it: {reason}"
    if kind == "NotImplemented" or "No Op registered" in reason or "not a registered" in reason:
        return f"{path} has an operator that onnxruntime {version} lacks: {reason}"
    return f"{path} cannot be loaded by onnxruntime {version}: {reason}"


def _first_line(error: Exception) -> str:
    """Return the first line of an error of onnxruntime, without its code."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if line.startswith("[ONNXRuntimeError]"):
        line = line.split(" : ", 3)[-1]
    if line.startswith("Load model from"):
        line = line.partition("failed:")[2]
    return line.strip()


def _read_signature(name: str, session: Any, memories_said: Mapping[str, str]) -> Signature:
    """Return which input is what. Raises BadValue where that cannot be told."""
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    pairs = dict(memories_said) or _pair_memories(list(inputs), outputs)
    _check_pairs(name, pairs, set(inputs), set(outputs))
    observation = inputs[_choose_observation(name, set(inputs) - set(pairs))]
    shape, dtype = tuple(observation.shape), _find_dtype(name, observation)
    batch_axis, rows = _find_batch(name, shape)
    memories = []
    for taken, given in pairs.items():
        memories.append(_read_memory(name, inputs[taken], given, rows))
        if memories[-1].axis is None:
            rows = 1
    action = _choose_action(name, [one for one in outputs if one not in pairs.values()])
    return Signature(observation.name, shape, dtype, batch_axis, rows, action, tuple(memories))


def _check_pairs(name: str, pairs: Mapping[str, str], inputs: set[str], outputs: set[str]) -> None:
    """Raise BadValue for a memory that a model does not have."""
    for taken, given in pairs.items():
        if taken not in inputs or given not in outputs:
            raise BadValue(
                f"{name} has no memory {taken}, given back as {given}, which its contract says"
            )


def _choose_observation(name: str, inputs: set[str]) -> str:
    """Return the input that observes. Raises BadValue where there are several, or none."""
    if len(inputs) == 1:
        return inputs.pop()
    taken = "no observation"
    if inputs:
        taken = f"{len(inputs)} inputs ({', '.join(sorted(inputs))})"
    raise BadValue(
        f"{name} takes {taken}: a policy takes one observation [N, O] and its memories, each given "
        "back under a name such as next_NAME; concatenate what is observed in one input "
        f"({GUIDE})"
    )


def _pair_memories(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Return the outputs that give inputs back, by the inputs' names; a lone input observes."""
    pairs: dict[str, str] = {}
    if len(inputs) == 1:
        return pairs
    for taken in inputs:
        names = [form.format(taken) for form in NEXT_NAMES]
        for end, new_end in NEXT_ENDINGS:
            if taken.endswith(end):
                names.append(taken.removesuffix(end) + new_end)
        for given in names:
            if given in outputs:
                pairs[taken] = given
                break
    return pairs


def _find_dtype(name: str, value: Any) -> np.dtype:
    if value.type not in FLOATS:
        raise BadValue(f"{name}: the input {value.name} is a {value.type}; a policy takes floats")
    return FLOATS[value.type]


def _find_batch(name: str, shape: Sequence[Dimension]) -> tuple[int | None, int | None]:
    """Return the batch's axis in an observation's shape, and how many rows a call takes.

    No axis, and one row, where all axes but the last are 1.
    """
    if not shape:
        raise BadValue(f"{name} observes one number without an axis; it needs [N, O]")
    axes = [axis for axis, size in enumerate(shape[:-1]) if size != 1]
    if len(axes) > 1:
        raise BadValue(
            f"{name} observes {_format_shape(shape)}: it needs [N, O], and 1 for an axis of steps"
        )
    if not axes:
        return None, 1
    size = shape[axes[0]]
    return axes[0], size if isinstance(size, int) else None


def _format_shape(shape: Sequence[Dimension]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _read_memory(name: str, value: Any, given: str, rows: int | None) -> ModelMemory:
    """Return a memory of a model that observes so many rows at once (None: any number).

    Raises BadValue where the axis of the rows cannot be told.
    """
    shape, dtype = tuple(value.shape), _find_dtype(name, value)
    axes = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    fault = f"{name}: the memory {value.name} is {_format_shape(shape)}"
    if len(axes) > 1:
        raise BadValue(f"{fault}: it needs one open axis, that of the rows")
    if axes:
        axis = axes[0]
        return ModelMemory(value.name, given, shape[:axis] + shape[axis + 1 :], axis, dtype)
    if rows not in (None, 1):
        raise BadValue(f"{fault} for {rows} rows: export it for one row, or any number")
    return ModelMemory(value.name, given, shape, None, dtype)


def _choose_action(name: str, outputs: Sequence[str]) -> str:
    """Return the output that acts. Raises BadValue where several might."""
    if len(outputs) == 1:
        return outputs[0]
    named = [output for output in outputs if output in ACTION_NAMES]
    if len(named) == 1:
        return named[0]
    raise BadValue(
        f"{name} gives {', '.join(outputs) or 'nothing'}: call the output that acts `action`"
    )


def _shape_of_call(signature: Signature, n: int, size: int) -> tuple[int, ...]:
    """Return the shape in which a call takes n observations of `size` numbers."""
    shape = [1] * len(signature.shape)
    shape[-1] = size
    if signature.batch_axis is not None:
        shape[signature.batch_axis] = n
    return tuple(shape)


def _put_batch(value: np.ndarray, state: ModelMemory) -> np.ndarray:
    """Return memories [n, ...] as a model takes them."""
    if state.axis is None:
        return value[0]
    return np.moveaxis(value, 0, state.axis)
