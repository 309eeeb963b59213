"""Methods as rows of strings: nothing is imported until one is asked for."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from typing import Any, NamedTuple

from isthmus.types import BadValue, UnknownName


class MethodEntry(NamedTuple):
    factory: str  # "module:Class"
    access: str
    learners: str
    citation: str


_HERE = "isthmus.methods.single_domain:"
METHODS: dict[str, MethodEntry] = {
    "source_only": MethodEntry(
        _HERE + "SourceOnly", "none", "PPO, TRPO, SAC", "the floor: direct transfer"
    ),
    "target_only": MethodEntry(
        _HERE + "TargetOnly", "online", "PPO, TRPO, SAC", "the ceiling: RL on target"
    ),
    "domain_randomization": MethodEntry(
        _HERE + "DomainRandomization",
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
    "fine_tuning": MethodEntry(
        _HERE + "FineTuning", "online", "PPO, TRPO, SAC", "source, then target"
    ),
    "few_shot_ppo": MethodEntry(
        _HERE + "FewShotPPO",
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
        "isthmus.methods.matl:MATLf", "online", "TRPO", "MATL from a policy trained in the source"
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
    "garat": MethodEntry(
        "isthmus.methods.garat:GARAT",
        "dataset, online",
        "PPO, TRPO",
        "Desai et al. 2020, arXiv 2008.01594",
    ),
}
LEARNERS = {
    "ppo": "isthmus.learning.ppo:PPO",
    "recurrent_ppo": "isthmus.learning.recurrent_ppo:RecurrentPPO",
    "trpo": "isthmus.learning.trpo:TRPO",
    "sac": "isthmus.learning.sac:SAC",
}


def find_method(name: str) -> type:
    """A method's class. Raises UnknownName with the nearest names."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    return _load(METHODS[name].factory)


def find_learner(name: str) -> type:
    """A learner's class. Raises UnknownName with the nearest names."""
    if name not in LEARNERS:
        raise UnknownName("learner", name, LEARNERS)
    return _load(LEARNERS[name])


def _load(factory: str) -> type:
    module, _, attribute = factory.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, settings: dict[str, Any] | None = None) -> Any:
    """A method with settings changed, `{"learner": "trpo", "learner.max_kl": 0.02, "updates":
    "5"}`.

    The learner is chosen before any of its settings. Raises UnknownName or BadValue, in one line.
    """
    method = with_learner(name, settings)
    known = settings_of(method)
    for key, value in (settings or {}).items():
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known)
        if key == "learner":
            continue
        method = _change(method, key.split("."), _convert(value, known[key], key))
    return method


def with_learner(name: str, settings: dict[str, Any] | None = None) -> Any:
    """A method with its defaults and the learner that `settings` choose: it says which settings
    there are.
    """
    method = find_method(name)()
    learner = (settings or {}).get("learner")
    known = settings_of(method)
    if learner is None or learner == known.get("learner", learner):
        return method
    return dataclasses.replace(method, learner=find_learner(str(learner))())


def settings_of(method: Any, prefix: str = "") -> dict[str, Any]:
    """All settings of a method, dotted, with their values; `learner` is the name of the chosen one."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if dataclasses.is_dataclass(value):
            if field.name == "learner":
                out[prefix + field.name] = next(
                    name for name in LEARNERS if isinstance(value, find_learner(name))
                )
            out |= settings_of(value, f"{prefix}{field.name}.")
        else:
            out[prefix + field.name] = value
    return out


def _change(thing: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _change(getattr(thing, path[0]), path[1:], value)
    return dataclasses.replace(thing, **{path[0]: value})


def _convert(value: Any, like: Any, name: str) -> Any:
    """A value from the command line (text) or Python, of the kind of `like`."""
    if isinstance(value, str) and not isinstance(like, str):
        try:
            value = ast.literal_eval(value)
        except (
            ValueError,
            SyntaxError,
            TypeError,
            MemoryError,
            RecursionError,
        ):  # all that it documents
            raise BadValue(f"{name}={value!r}: needs a value like {like!r}") from None
    if isinstance(like, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        good = all(isinstance(v, int) and v > 0 for v in value)
    elif isinstance(like, bool | str):
        good = isinstance(value, type(like))
    elif isinstance(like, int):
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if good else value
    if not good:
        raise BadValue(f"{name}={value!r}: needs a value like {like!r}")
    return value
