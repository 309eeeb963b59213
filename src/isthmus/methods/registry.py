"""Tables of methods and learners: nothing is imported until one is asked for.

A method or a learner of one's own joins them by a decorator, in a file that is named with
`--import` or in an installed package (`isthmus.plugins`):

    @register_method("my_method", learners="PPO", citation="where it is from")
    @dataclass(frozen=True)
    class MyMethod(SourceOnly): ...

    @register_learner("my_learner")
    @dataclass(frozen=True)
    class MyLearner: ...
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from isthmus.plugins import Registry
from isthmus.types import BadValue, UnknownName

Registered = TypeVar("Registered", bound=type)


class MethodEntry(NamedTuple):
    """A row of the table of methods, as `isthmus methods` prints it."""

    factory: str | type  # "module:Class", or the class
    access: str
    learners: str
    citation: str


_SINGLE_DOMAIN = "isthmus.methods.single_domain:"
_METHODS: dict[str, MethodEntry] = {
    "source_only": MethodEntry(
        _SINGLE_DOMAIN + "SourceOnly", "none", "PPO, TRPO, SAC", "the floor: direct transfer"
    ),
    "target_only": MethodEntry(
        _SINGLE_DOMAIN + "TargetOnly", "online", "PPO, TRPO, SAC", "the ceiling: RL on target"
    ),
    "domain_randomization": MethodEntry(
        _SINGLE_DOMAIN + "DomainRandomization",
        "none",
        "PPO, TRPO, SAC",
        "Peng et al. 2018, arXiv 1710.06537",
    ),
    "recurrent_randomization": MethodEntry(
        "isthmus.methods.recurrent:RecurrentRandomization",
        "none",
        "RecurrentPPO",
        "Peng et al. 2018, with a memory",
    ),
    "rl2": MethodEntry(
        "isthmus.methods.recurrent:RL2",
        "few_shot, online",
        "RecurrentPPO",
        "Duan et al. 2016, arXiv 1611.02779",
    ),
    "up_osi": MethodEntry(
        "isthmus.methods.osi:UPOSI",
        "none",
        "PPO, TRPO, SAC, RecurrentPPO",
        "Yu et al. 2017, arXiv 1702.02453",
    ),
    "rma": MethodEntry(
        "isthmus.methods.osi:RMA", "none", "PPO", "Kumar et al. 2021, arXiv 2107.04034"
    ),
    "system_identification": MethodEntry(
        "isthmus.methods.system_identification:SystemIdentification",
        "dataset, online",
        "PPO, TRPO, SAC, RecurrentPPO",
        "Chebotar et al. 2019, arXiv 1810.05687 (SimOpt), by least squares",
    ),
    "fine_tuning": MethodEntry(
        _SINGLE_DOMAIN + "FineTuning", "online", "PPO, TRPO, SAC", "source, then target"
    ),
    "few_shot_ppo": MethodEntry(
        _SINGLE_DOMAIN + "FewShotPPO",
        "few_shot, online",
        "PPO, TRPO, SAC",
        "randomization, then K PPO updates; a control for ES-sim2real",
    ),
    "es_maml": MethodEntry(
        "isthmus.methods.es_maml:ESMAML",
        "few_shot, online",
        "PPO",
        "ES-sim2real: evolution, PPO updates inside",
    ),
    "maml": MethodEntry(
        "isthmus.methods.maml:MAML",
        "few_shot, online",
        "PPO",
        "Finn et al. 2017, arXiv 1703.03400, by PPO's surrogate",
    ),
    "learned_reward": MethodEntry(
        "isthmus.methods.learned_reward:LearnedReward",
        "few_shot, online",
        "PPO",
        "ES-sim2real: updates paid by a reward that is evolved",
    ),
    "evolution": MethodEntry(
        "isthmus.methods.es_maml:Evolution",
        "none",
        "PPO",
        "evolution strategies without an inner loop",
    ),
    "matl": MethodEntry(
        "isthmus.methods.matl:MATL", "online", "TRPO", "Wulfmeier et al. 2017, arXiv 1707.07907"
    ),
    "matlu": MethodEntry(
        "isthmus.methods.matl:MATLu", "online", "TRPO", "MATL, the robot alone aligned"
    ),
    "matlf": MethodEntry(
        "isthmus.methods.matl:MATLf",
        "online",
        "TRPO",
        "MATL from a policy trained in the source",
    ),
    "state_alignment": MethodEntry(
        "isthmus.methods.state_alignment:StateAlignment",
        "online",
        "TRPO",
        "state-wise alignment; MATL's baseline",
    ),
    "dap": MethodEntry(
        "isthmus.methods.dap:DAP", "dataset", "SAC", "dual action policy, arXiv 2410.12250"
    ),
    "dap_u": MethodEntry(
        "isthmus.methods.dap:DAPu",
        "dataset",
        "SAC",
        "DAP with uncertainty: actions redrawn where classifiers disagree",
    ),
    "dap_inverse": MethodEntry(
        "isthmus.methods.dap_inverse:DAPInverse",
        "dataset",
        "SAC",
        "ours: DAP by inverse models of the log",
    ),
    "h2o": MethodEntry(
        "isthmus.methods.h2o:H2O", "dataset", "SAC", "Niu et al. 2022, arXiv 2206.13464"
    ),
    "darc": MethodEntry(
        "isthmus.methods.darc:DARC",
        "dataset, online",
        "SAC",
        "Eysenbach et al. 2020, arXiv 2006.13916",
    ),
    "rlpd": MethodEntry(
        "isthmus.methods.rlpd:RLPD",
        "dataset, online",
        "EnsembleSAC, SAC",
        "Ball et al. 2023, arXiv 2302.02948",
    ),
    "par": MethodEntry(
        "isthmus.methods.par:PAR", "dataset, online", "SAC", "Lyu et al. 2024, arXiv 2405.15369"
    ),
    "vgdf": MethodEntry(
        "isthmus.methods.vgdf:VGDF", "dataset, online", "SAC", "Xu et al. 2023, arXiv 2305.17625"
    ),
    "garat": MethodEntry(
        "isthmus.methods.garat:GARAT",
        "dataset, online",
        "PPO, TRPO",
        "Desai et al. 2020, arXiv 2008.01594",
    ),
}
METHODS = Registry("method", "methods", _METHODS)
LEARNERS: Registry[str | type] = Registry(
    "learner",
    "learners",
    {
        "ppo": "isthmus.learning.ppo:PPO",
        "recurrent_ppo": "isthmus.learning.recurrent_ppo:RecurrentPPO",
        "trpo": "isthmus.learning.trpo:TRPO",
        "sac": "isthmus.learning.sac:SAC",
        "ensemble_sac": "isthmus.learning.ensemble_sac:EnsembleSAC",
    },
)
METHOD_PARTS = ("accepts", "init", "step", "policy", "trained_in", "adapt")
LEARNER_PARTS = (
    "rollout_shape", "check_rollout_shape", "with_num_worlds", "init", "random", "observe",
    "behaviour", "policy", "learn", "warm_start",
)  # fmt: skip


_CONTRACTS = {"method": "methods.method.Method", "learner": "learning.learner.Learner"}


def register_method(
    name: str, *, access: str = "", learners: str = "", citation: str = ""
) -> Callable[[Registered], Registered]:
    """Return a class decorator that makes a method known by `name`.

    `access`, `learners` and `citation` are what `isthmus methods` prints of it; `access` is, where
    nothing is given, what the class `accepts`. The decorator raises BadValue for the name of a
    built-in method and for a class that is no frozen dataclass or lacks a part of `Method`.
    """

    def register(method: Registered) -> Registered:
        _check_declarations("method", name, method, METHOD_PARTS)
        accepted = access or ", ".join(sorted(method.accepts))
        METHODS.add(name, MethodEntry(method, accepted, learners, citation))
        return method

    return register


def register_learner(name: str) -> Callable[[Registered], Registered]:
    """Return a class decorator that makes a learner known by `name`.

    The decorator raises BadValue for the name of a built-in learner and for a class that is no
    frozen dataclass or lacks a part of `Learner`.
    """

    def register(learner: Registered) -> Registered:
        _check_declarations("learner", name, learner, LEARNER_PARTS)
        LEARNERS.add(name, learner)
        return learner

    return register


def _check_declarations(kind: str, name: str, entry: type, parts: Sequence[str]) -> None:
    """Raise BadValue where a class cannot be what it is registered as."""
    if not re.fullmatch(r"[^\s/:,=]+", name):
        raise BadValue(
            f"the {kind} {entry.__name__} has the name {name!r}: needs a word without / : , ="
        )
    parameters = vars(entry).get("__dataclass_params__")  # its own, none that is inherited
    if parameters is None or not parameters.frozen:
        raise BadValue(
            f"the {kind} {name} is no frozen dataclass: write @dataclass(frozen=True) below "
            f"@register_{kind}"
        )
    for setting in dataclasses.fields(entry):
        has_default = setting.default is not setting.default_factory  # both are MISSING without one
        if setting.init and not has_default:
            raise BadValue(f"the {kind} {name} has no default for its setting {setting.name}")
    for part in parts:
        if not hasattr(entry, part):
            raise BadValue(f"the {kind} {name} has no {part}: see isthmus.{_CONTRACTS[kind]}")


def find_method(name: str) -> type:
    """Return a method's class. Raises UnknownName with the nearest names."""
    return _load(METHODS.find(name).factory)


def find_learner(name: str) -> type:
    """Return a learner's class. Raises UnknownName with the nearest names."""
    return _load(LEARNERS.find(name))


def name_learner(learner: Any) -> str:
    """Return the name by which a learner's class is registered.

    Raises BadValue where it is not: a run that another process could not build again.
    """
    kind = type(learner)
    for name, factory in LEARNERS.items():
        if factory in (kind, f"{kind.__module__}:{kind.__qualname__}"):
            return name
    raise BadValue(
        f"the learner {kind.__name__} has no name: write @register_learner(...) above its class"
    )


def _load(factory: str | type) -> type:
    if isinstance(factory, type):
        return factory
    module, _, attribute = factory.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, settings: dict[str, Any] | None = None) -> Any:
    """Return a method with settings changed.

    `{"learner": "trpo", "learner.max_kl": 0.02, "updates": "5"}`: the learner is chosen before any
    of its settings. Raises UnknownName or BadValue, in one line.
    """
    method = with_learner(name, settings)
    known = settings_of(method)
    for key, value in (settings or {}).items():
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known)
        if key != "learner":
            method = _change(method, key.split("."), _convert(value, known[key], key))
    return method


def with_learner(name: str, settings: dict[str, Any] | None = None) -> Any:
    """Return a method with its defaults and the learner that `settings` choose.

    This decides which settings there are.
    """
    method = find_method(name)()
    learner = (settings or {}).get("learner")
    known = settings_of(method)
    if learner is None or learner == known.get("learner", learner):
        return method
    return dataclasses.replace(method, learner=find_learner(str(learner))())


def settings_of(method: Any, prefix: str = "") -> dict[str, Any]:
    """Return all settings of a method, dotted, with their values.

    `learner` is the name of the chosen one.
    """
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(method):
        name, value = prefix + field.name, getattr(method, field.name)
        if not dataclasses.is_dataclass(value):
            settings[name] = value
            continue
        if field.name == "learner":
            settings[name] = name_learner(value)
        settings |= settings_of(value, f"{name}.")
    return settings


def _change(settings: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _change(getattr(settings, path[0]), path[1:], value)
    return dataclasses.replace(settings, **{path[0]: value})


def _convert(value: Any, default: object, name: str) -> Any:
    """Return a value from the command line (text) or Python, of the kind of `default`."""
    if isinstance(value, str) and not isinstance(default, str):
        value = _parse(value, default, name)
    if isinstance(default, tuple):
        value = _as_tuple(value)
    if not _is_like(value, default):
        raise BadValue(f"{name}={value!r}: needs a value like {default!r}")
    return float(value) if isinstance(default, float) else value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _parse(text: str, default: Any, name: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all it documents
        raise BadValue(f"{name}={text!r}: needs a value like {default!r}") from None


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value is of the kind of `default`; bool, a kind of int, is none here."""
    if isinstance(default, tuple):
        return all(isinstance(size, int) and size > 0 for size in value)
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    number = int if isinstance(default, int) else int | float
    return isinstance(value, number) and not isinstance(value, bool)
