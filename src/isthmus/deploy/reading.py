"""What is said about a policy from elsewhere: by its contract, else by its model's metadata."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.deploy.interface import PolicyInterface
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.types import BadValue

TASK = "task"


def read_interface(model: OnnxModel, contract: str | Path | None) -> PolicyInterface:
    """Return what a model observes and what its actions mean, as its contract says, else its
    metadata; unsaid where neither does. Raises BadValue, in one line, for what cannot be read.
    """
    if contract is not None and str(contract) == TASK:
        return PolicyInterface(said_by=TASK)
    if contract is not None:
        return read_contract(Path(contract))
    if "observation_names" in model.metadata:
        return read_metadata(model.name, model.metadata, model.obs_size)
    return PolicyInterface()


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


def read_contract(path: Path) -> PolicyInterface:
    """Return what a contract.toml says. Raises BadValue, in one line, where it cannot be read."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadValue(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadValue(f"{path} is no TOML: {error}") from None
    return _read_tables(path, data)


def _read_tables(path: Path, data: Mapping[str, Any]) -> PolicyInterface:
    raise BadValue(f"{path}: unread")
