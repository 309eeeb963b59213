"""What is said about a policy from elsewhere: by its contract, else by its model's metadata."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.deploy.interface import PolicyInterface
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.types import BadValue, UnknownName

TASK = "task"
DESCRIPTIVE_KEYS = frozenset({"units", "low", "high", "ranges"})
OBSERVATION_KEYS = DESCRIPTIVE_KEYS | {"names", "scale", "clip", "history"}
ACTION_KEYS = DESCRIPTIVE_KEYS | {"names", "scale", "offset"}


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
    """Return what a contract's tables say. Raises BadValue for a key or value that is none."""
    observation = _read_table(path, data, "observation", OBSERVATION_KEYS)
    action = _read_table(path, data, "action", ACTION_KEYS)
    trained = data.get("trained", {})
    domain = trained.get("domain", "") if isinstance(trained, dict) else trained
    if not isinstance(domain, str):
        raise BadValue(f"{path}: trained.domain is {domain!r}; write a domain, hopper/gravity=x2")
    history = observation.get("history", 1)
    if not isinstance(history, int) or history < 1:
        raise BadValue(
            f"{path}: observation.history is {history!r}; it needs a whole number from 1"
        )
    return PolicyInterface(
        said_by=path.name,
        trained_in=domain,
        observations=_read_names(path, "observation", observation),
        observation_scale=_read_list(path, "observation.scale", observation.get("scale", 1.0)),
        observation_clip=_read_clip(path, observation.get("clip")),
        history=history,
        actions=_read_names(path, "action", action),
        action_scale=_read_list(path, "action.scale", action.get("scale", 1.0)),
        action_offset=_read_list(path, "action.offset", action.get("offset", 0.0)),
    )


def _read_table(
    path: Path, data: Mapping[str, Any], name: str, known: frozenset[str]
) -> dict[str, Any]:
    table = data.get(name)
    if not isinstance(table, dict):
        raise BadValue(f'{path} has no [{name}]; write names = [...] there, or names = "task"')
    for key in table:
        if key not in known:
            raise UnknownName(f"key of [{name}] in {path}", key, known)
    return table


def _read_names(path: Path, name: str, table: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return names in the model's order; None for the task's own."""
    names = table.get("names")
    if names == TASK:
        return None
    if isinstance(names, list) and names and all(isinstance(one, str) for one in names):
        return tuple(names)
    raise BadValue(f'{path}: [{name}] needs names = [...] in the model\'s order, or names = "task"')


def _read_list(path: Path, name: str, value: Any) -> tuple[float, ...]:
    """Return one number or several. Raises BadValue for what is none."""
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise BadValue(f"{path}: {name} is {value!r}; it needs a number, or a list of them")
    return tuple(map(float, numbers))


def _read_clip(path: Path, value: Any) -> tuple[float, float] | None:
    """Return the bounds of scaled observations, if they have some."""
    if value is None:
        return None
    bounds = _read_list(path, "observation.clip", value)
    if len(bounds) != 2 or bounds[0] >= bounds[1]:
        raise BadValue(f"{path}: observation.clip is {value!r}; it needs [low, high]")
    return bounds[0], bounds[1]
