"""What a policy's model does not say of itself: `contract.toml`, which lies beside it.

    format = 1
    control_rate_hz = 125.0
    [task]              name, and the domain trained in
    [observations]      names in order, units; scale, clip, history where they are not in the model
    [actions]           names in order, units, low, high, neutral; scale and offset likewise
    [effects]           delays, noise and the like that training assumed
    [[memory]]          inputs and outputs of what the model remembers; zeros at first
    [run], [versions], [[evaluations]]

Only `format` must be there: who describes a policy of their own says what they know.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from isthmus.types import BadValue, UnknownName

CONTRACT_FORMAT = 1
RESETS = ("episode", "task")

Numbers = tuple[float, ...]
Names = tuple[str, ...]


@dataclass(frozen=True)
class TaskContract:
    """What the policy learned to do, and where."""

    name: str = ""
    trained_in: str = ""  # a domain, `hopper/gravity=x2`
    deployed_to: str = ""  # the problem's target


@dataclass(frozen=True)
class ObservationContract:
    """The model's input, (O,): `(observation * scale)` clipped, of the named ones in order,
    `history` of them side by side, the newest last.

    What is said to be inside the model, its user need not do: `normalizer_*` is information, and
    `history_inside` observations and the previous action are part of its memory.
    """

    names: Names = ()
    units: Names = ()
    scale: Numbers = (1.0,)
    clip: Numbers = ()  # low and high
    history: int = 1
    history_inside: int = 1
    previous_action_inside: bool = False
    normalizer_mean: Numbers = ()  # of the newest observation
    normalizer_std: Numbers = ()
    seen_low: Numbers = ()  # the range of each observation, with this policy in training's domain
    seen_high: Numbers = ()


@dataclass(frozen=True)
class ActionContract:
    """The model's output, (A,): it becomes `action * scale + offset`, which is in low..high."""

    names: Names = ()
    units: Names = ()  # what 1 is: "200 N m", "rad"; "1" of a servo's action
    scale: Numbers = (1.0,)
    offset: Numbers = (0.0,)
    low: Numbers = ()
    high: Numbers = ()
    neutral: Numbers = ()  # what the robot is told before anything is commanded


@dataclass(frozen=True)
class ServoContract:
    """What the robot does with an action: joint targets `pose + scale * action`, and servos.

    One number a joint. Information: nothing of it is inside the model. Units of the joints: rad and
    N m, or m and N.
    """

    joints: Names = ()
    pose: Numbers = ()
    scale: Numbers = ()
    kp: Numbers = ()  # as the model has them: a domain may have changed them
    kd: Numbers = ()
    effort: Numbers = ()  # the largest torque
    stall: Numbers = ()  # where the torque-speed line begins at rest
    speed: Numbers = ()  # and where it ends


@dataclass(frozen=True)
class MemoryContract:
    """A part of what the model remembers, zeros at the begin of each `reset`."""

    input: str
    output: str
    shape: tuple[int, ...]  # of one robot, without the axis of the batch
    reset: str = "episode"  # or "task": kept from episode to episode on one robot


@dataclass(frozen=True)
class RunContract:
    """Where the policy is from."""

    method: str = ""
    learner: str = ""
    seed: int = 0
    steps: int = 0
    digest: str = ""  # of the checkpoint
    checkpoint: str = ""  # "best", or empty for the newest
    adapted_to: str = ""  # the target in which updates at deployment were done, if they were


@dataclass(frozen=True)
class EvaluationContract:
    """What the policy earned in a domain."""

    domain: str
    mean_return: float
    seed: int
    episodes: int
    step: int = 0  # steps of training before it
    fell: float = math.nan  # the share of episodes


@dataclass(frozen=True)
class PolicyContract:
    """All that a contract.toml holds; see the module."""

    format: int = CONTRACT_FORMAT
    control_rate_hz: float = 0.0  # 0: not said
    model_sha256: str = ""
    task: TaskContract = field(default_factory=TaskContract)
    observations: ObservationContract = field(default_factory=ObservationContract)
    actions: ActionContract = field(default_factory=ActionContract)
    servo: ServoContract = field(default_factory=ServoContract)
    effects: dict[str, float] = field(default_factory=dict)
    memory: tuple[MemoryContract, ...] = ()
    run: RunContract = field(default_factory=RunContract)
    versions: dict[str, str] = field(default_factory=dict)
    evaluations: tuple[EvaluationContract, ...] = ()

    @staticmethod
    def read(path: Path | str) -> PolicyContract:
        """Read a contract.toml. Raises BadValue or UnknownName, in one line, for what is none."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadValue(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadValue(f"{path} is no TOML: {error}") from None
        if "format" not in data:
            raise BadValue(f"{path} does not say its format; write format = {CONTRACT_FORMAT}")
        if data["format"] != CONTRACT_FORMAT:
            raise BadValue(
                f"{path} is of format {data['format']!r}; this version reads {CONTRACT_FORMAT}"
            )
        try:
            contract = _read_table(PolicyContract, data, "")
            contract.check()
        except UnknownName as error:
            raise BadValue(f"{path}: {error}") from None
        except BadValue as error:
            raise BadValue(f"{path}: {error}") from None
        return contract

    def check(self) -> None:
        """Raise BadValue where its parts contradict each other."""
        observations, actions = self.observations, self.actions
        for group, part in (("observations", observations), ("actions", actions)):
            _check_lengths(group, part)
        if len(observations.clip) not in (0, 2):
            raise BadValue("observations.clip needs low and high")
        if min(observations.history, observations.history_inside) < 1:
            raise BadValue("observations.history needs a whole number above 0")
        if self.control_rate_hz < 0:
            raise BadValue(f"control_rate_hz = {self.control_rate_hz:g}: needs a rate above 0")
        for low, high in zip(actions.low, actions.high):
            if low > high:
                raise BadValue(f"actions.low {low:g} is above actions.high {high:g}")
        for part in self.memory:
            if part.reset not in RESETS:
                raise BadValue(f"memory.reset is {part.reset!r}; needs {' or '.join(RESETS)}")

    def to_toml(self) -> str:
        """Return the text of a contract.toml. Raises BadValue where tomli-w is not installed."""
        try:
            import tomli_w
        except ImportError:
            raise BadValue(
                "writing a contract.toml needs tomli-w: pip install 'isthmus[onnx]'"
            ) from None
        return tomli_w.dumps(_write_table(self))


def _check_lengths(group: str, part: Any) -> None:
    """Raise BadValue where lists of a group are neither as long as its names nor one for all."""
    names = part.names
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        single = item.name in ("scale", "offset")
        if item.name in ("names", "clip") or not isinstance(value, tuple) or not value:
            continue
        if names and len(value) != len(names) and not (single and len(value) == 1):
            raise BadValue(f"{group}.{item.name} has {len(value)} entries for {len(names)} names")
    if len(set(names)) != len(names):
        raise BadValue(f"{group}.names has a name twice")


def _read_table(kind: type, data: Any, place: str) -> Any:
    """Return a dataclass of what a table holds. Raises BadValue, or UnknownName for a key."""
    if not isinstance(data, dict):
        raise BadValue(f"{place or 'the file'} is no table")
    hints = get_type_hints(kind)
    values = {}
    for key, value in data.items():
        if key not in hints:
            raise UnknownName(f"key of {place or 'a contract'}", key, hints)
        values[key] = _read_value(hints[key], value, f"{place}.{key}".lstrip("."))
    for item in dataclasses.fields(kind):
        required = item.default is item.default_factory  # both are MISSING
        if required and item.name not in values:
            raise BadValue(f"{place} has no {item.name}")
    return kind(**values)


def _read_value(kind: Any, value: Any, place: str) -> Any:
    """Return a value of a kind. Raises BadValue where it is of another."""
    if dataclasses.is_dataclass(kind):
        return _read_table(kind, value, place)  # pyright: ignore[reportArgumentType]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise BadValue(f"{place} is {value!r}: needs a list")
        return tuple(_read_value(arguments[0], entry, place) for entry in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise BadValue(f"{place} is {value!r}: needs a table")
        return {key: _read_value(arguments[1], v, f"{place}.{key}") for key, v in value.items()}
    return _read_scalar(kind, value, place)


def _read_scalar(kind: type, value: Any, place: str) -> Any:
    """Return a text, truth, whole number or number. Raises BadValue where it is another."""
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        wanted = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
        raise BadValue(f"{place} is {value!r}: needs {wanted[kind]}")
    return value


def _write_table(part: Any) -> dict[str, Any]:
    """Return what TOML holds of a dataclass: no empty entries, no NaN."""
    table: dict[str, Any] = {}
    for item in dataclasses.fields(part):
        value = _write_value(getattr(part, item.name))
        absent = isinstance(value, float) and math.isnan(value)
        if value not in ("", [], {}) and not absent:
            table[item.name] = value
    return table


def _write_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _write_table(value)
    if isinstance(value, tuple):
        return [_write_value(entry) for entry in value]
    return dict(value) if isinstance(value, dict) else value
