"""What is said about a policy from elsewhere: by its contract, else by its model's metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from isthmus.deploy.contract import PolicyContract
from isthmus.deploy.interface import PolicyInterface
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.types import BadValue

TASK = "task"


def open_model(path: Path, contract: str | Path | None) -> tuple[OnnxModel, PolicyInterface]:
    """Return a model, and what it observes and what its actions mean: as its contract says, else
    its metadata; unsaid where neither does.

    `contract` is a file, or "task". Raises BadValue or UnknownName, in one line, for what cannot be
    read, or contradicts the model.
    """
    if contract is None:
        model = OnnxModel(path)
        if "observation_names" in model.metadata:
            return model, read_metadata(model.name, model.metadata, model.obs_size)
        return model, PolicyInterface()
    if str(contract) == TASK:
        return OnnxModel(path), PolicyInterface(said_by=TASK)
    said = PolicyContract.read(contract)
    model = OnnxModel(path, {part.input: part.output for part in said.memory})
    _check_model(said, model, Path(contract))
    return model, read_contract(said, Path(contract).name)


def _check_model(said: PolicyContract, model: OnnxModel, contract: Path) -> None:
    """Raise BadValue where a contract is of another model, or of other memories."""
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    if said.model_sha256 not in ("", digest):
        raise BadValue(
            f"{contract} is of another model: it says sha256 {said.model_sha256[:16]}, "
            f"{model.name} has {digest[:16]}"
        )
    shapes = {memory.input: memory.shape for memory in model.signature.memories}
    for part in said.memory:
        if _drop_ones(part.shape) != _drop_ones(shapes[part.input]):
            raise BadValue(
                f"{contract} says that {part.input} is {list(part.shape)}, {model.name} takes "
                f"{list(shapes[part.input])}: they contradict each other"
            )


def _drop_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of 1, one of which may be a batch's."""
    return tuple(size for size in shape if size != 1)


def read_contract(said: PolicyContract, name: str) -> PolicyInterface:
    """Return what a contract says of observations and actions; without names it is unsaid."""
    for group, part in (("observations", said.observations), ("actions", said.actions)):
        if not part.names:
            return PolicyInterface(
                missing=f"{name} does not name its {group}: write [{group}] names"
            )
    clip = said.observations.clip
    return PolicyInterface(
        said_by=name,
        trained_in=said.task.trained_in,
        deployed_to=said.task.deployed_to,
        rate=said.control_rate_hz,
        observations=said.observations.names,
        observation_scale=said.observations.scale,
        observation_clip=(clip[0], clip[1]) if clip else None,
        history=said.observations.history,
        actions=said.actions.names,
        action_scale=said.actions.scale,
        action_offset=said.actions.offset,
    )


def read_metadata(name: str, metadata: Mapping[str, str], obs_size: int | None) -> PolicyInterface:
    """Return what mjlab's keys in a model's metadata say: strings, their parts between commas.

    Its actions are set points of the joints: `default_joint_pos + action_scale * action`. Names of
    terms that are several numbers each do not say the order of these: then it stays unsaid.
    """
    observations = split_names(metadata["observation_names"])
    if obs_size is not None and len(observations) != obs_size:
        terms = ", ".join(observations)
        return PolicyInterface(
            missing=f"its metadata name {len(observations)} terms ({terms}) of {obs_size} numbers: "
            "name each number"
        )
    actions = split_names(metadata.get("joint_names", ""))
    return PolicyInterface(
        said_by="its metadata",
        observations=observations,
        actions=actions or None,
        action_scale=_read_numbers(name, metadata, "action_scale", 1.0),
        action_offset=_read_numbers(name, metadata, "default_joint_pos", 0.0),
    )


def split_names(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_numbers(
    name: str, metadata: Mapping[str, str], key: str, default: float
) -> tuple[float, ...]:
    parts = split_names(metadata.get(key, ""))
    try:
        return tuple(map(float, parts)) or (default,)
    except ValueError:
        raise BadValue(f"{name}: {key} in its metadata is no list of numbers: {parts}") from None
