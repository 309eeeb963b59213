"""A task: what a robot observes, what it is paid for, when it has fallen. All of it on N worlds at
once.

Write one by subclassing `Task` in a file of your own, decorate it with `@register`, and name the
file with `--import`.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from operator import add
from pathlib import Path
from typing import ClassVar

import numpy as np

from isthmus.physics.engine import Simulator, Start
from isthmus.physics.random import Single, Streams
from isthmus.types import BadValue, UnknownName

Random = Streams | Single
Rewards = Callable[["SimView", np.ndarray, np.ndarray], Mapping[str, np.ndarray]]

VARIANTS = {
    "dense": "what the task pays",
    "sparse": "1 at the goal, else 0",
    "uninformative": "only what falling costs",
    "none": "nothing",
}


RUN = 5.0
"""Metres: where a runner's goal is, as in VIME's sparse locomotion (Houthooft et al. 2016, arXiv 1605.09674)."""


class SimView:
    """Worlds `ids` of a simulator as a task sees them: rows [n, ...] of the state and of what
    derives from it.
    """

    def __init__(self, simulator: Simulator, ids: np.ndarray):
        self.simulator, self.ids = simulator, ids
        self.dt = simulator.dt
        self._rows: np.ndarray | slice = slice(None) if len(ids) == simulator.n else ids

    @property
    def qpos(self) -> np.ndarray:
        return self.simulator.qpos[self._rows]

    @property
    def qvel(self) -> np.ndarray:
        return self.simulator.qvel[self._rows]

    def position(self, body: str) -> np.ndarray:
        return self.simulator.position(body)[self._rows]

    @property
    def contact_forces(self) -> np.ndarray:
        return self.simulator.contact_forces(self.ids)


class Task:
    """The contract. Every method takes and returns one row a world.

    Reward terms are named and signed; those in `costs` are summed apart and added last, which is
    the order in which Gymnasium adds, so that rewards agree to the last bit.
    """

    name: ClassVar[str]
    model: ClassVar[
        str | Path
    ]  # an MJCF file, beside the Python file; or one of the installed gymnasium package
    frame_skip: ClassVar[int]
    time_limit: ClassVar[int] = 1000
    observation_names: ClassVar[tuple[str, ...]]
    costs: ClassVar[tuple[str, ...]] = ("control",)
    falling: ClassVar[tuple[str, ...]] = ()  # the reward terms that speak only of falling
    forces: ClassVar[bool] = False  # needs contact forces
    main_body: ClassVar[str] = (
        "torso"  # what a camera follows; if not said and not there, the first body that moves
    )
    keyframe: ClassVar[str | None] = None  # the MJCF's keyframe in which episodes begin
    neutral_action: ClassVar[Sequence[float] | None] = None  # if it is not what holds the start
    reference: ClassVar[str | None] = None  # the Gymnasium id that this task equals to the bit

    @classmethod
    def model_path(cls) -> Path:
        """The MJCF file `model`: beside the Python file whose class names it, else, a bare name,
        one of Gymnasium's.

        A path with folders that is not there is taken from the working directory. Raises BadValue
        where there is none.
        """
        path = Path(cls.model)
        if path.is_absolute():
            return path
        beside = _folder_of(cls) / path
        if beside.is_file():
            return beside
        other = path if path.parent != Path(".") else _gymnasium_assets() / path
        if not other.is_file():
            raise BadValue(
                f"no MJCF file {path} of task {cls.name}, neither at {beside} nor at "
                f"{other.absolute()}"
            )
        return other

    def start(self, simulator: Simulator, random: Random) -> Start | tuple[np.ndarray, np.ndarray]:
        """Where an episode begins, one row a stream of `random`: a `Start`, or its first two parts,
        qpos and qvel.

        What is left out is the keyframe's, where the task names one. If not overridden: that
        keyframe.
        """
        if self.keyframe is None:
            raise NotImplementedError
        return _repeat_keyframe(self, len(random.uniform(0.0, 1.0, 0)))

    def complete(self, start: Start | tuple[np.ndarray, np.ndarray]) -> Start:
        """Return a start with what it leaves out: an episode that begins at a keyframe begins at
        the whole of it.
        """
        if not isinstance(start, Start):
            start = Start(*start)
        if self.keyframe is None:
            return start
        given = {field: values for field, values in start._asdict().items() if values is not None}
        return _repeat_keyframe(self, len(start.qpos))._replace(**given)

    def remember(self, view: SimView) -> np.ndarray:
        """What the next step's reward needs of this moment, float64 [n, ?]."""
        raise NotImplementedError

    def observe(self, view: SimView) -> np.ndarray:
        """Observations float64 [n, O]."""
        raise NotImplementedError

    def rewards(
        self, view: SimView, memory: np.ndarray, action: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Named reward terms, [n] each, after a step that began at `memory` with `action` [n, A]
        chosen.
        """
        raise NotImplementedError

    def terminated(self, view: SimView) -> np.ndarray:
        """Which worlds have fallen, bool [n]. A time limit is not a fall: it is the domain's."""
        return np.zeros(len(view.ids), bool)

    def progress(self, view: SimView) -> np.ndarray:
        """The task's own measure, [n]: metres forward, or the distance to a goal."""
        raise NotImplementedError

    def at_goal(self, view: SimView) -> np.ndarray:
        """Which worlds are where the task wants them, bool [n]: what `sparse` pays for, and an
        episode's success.
        """
        return np.zeros(len(view.ids), bool)

    @property
    def variants(self) -> tuple[str, ...]:
        """The reward variants that this task has, of `VARIANTS`."""
        has_goal = type(self).at_goal is not Task.at_goal
        return tuple(
            v
            for v in VARIANTS
            if {"sparse": has_goal, "uninformative": bool(self.falling)}.get(v, True)
        )

    def with_reward(self, variant: str) -> Rewards:
        """`rewards`, or what pays another of `VARIANTS` by the same arguments. Raises UnknownName
        or BadValue.
        """
        if variant not in VARIANTS:
            raise UnknownName("reward", variant, VARIANTS)
        if variant not in self.variants:
            lacks = {"sparse": "has no goal", "uninformative": "cannot fall"}[variant]
            raise BadValue(
                f"reward={variant}: {self.name} {lacks}; its rewards: {', '.join(self.variants)}"
            )
        if variant == "sparse":
            return lambda view, memory, action: {"goal": 1.0 * self.at_goal(view)}
        if variant == "uninformative":
            return lambda view, memory, action: {
                k: v for k, v in self.rewards(view, memory, action).items() if k in self.falling
            }
        if variant == "none":
            return lambda view, memory, action: {"none": np.zeros(len(view.ids))}
        return self.rewards

    def total(self, terms: Mapping[str, np.ndarray]) -> np.ndarray:
        gains = [v for k, v in terms.items() if k not in self.costs]
        costs = [v for k, v in terms.items() if k in self.costs]
        return reduce(add, [reduce(add, part) for part in (gains, costs) if part])


def _folder_of(task: type[Task]) -> Path:
    """Return the folder of the file whose class names the task's model; of a notebook's, the
    working directory.
    """
    namer = next(kind for kind in task.__mro__ if "model" in vars(kind))
    file = getattr(sys.modules.get(namer.__module__), "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


@cache
def _gymnasium_assets() -> Path:
    spec = importlib.util.find_spec("gymnasium")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets"


def _repeat_keyframe(task: Task, n: int) -> Start:
    """Return a task's keyframe, n rows of it. Raises UnknownName where the model has none of that
    name.
    """
    from isthmus.physics.mujoco import load_keyframe

    assert task.keyframe is not None
    parts = load_keyframe(task.model_path(), task.keyframe)._asdict()
    return Start(
        **{
            field: np.repeat(part[None], n, axis=0)
            for field, part in parts.items()
            if part is not None
        }
    )


def find_main_body(task: Task, bodies: Sequence[str]) -> int:
    """Return the index of the body that a camera follows. Raises UnknownName where the task names
    one that is not.
    """
    if task.main_body in bodies:
        return bodies.index(task.main_body)
    if type(task).main_body != Task.main_body or len(bodies) < 2:
        raise UnknownName(
            f"body of {task.name}, for its main_body", task.main_body, filter(None, bodies)
        )
    return 1


def control_cost(weight: float, action: np.ndarray) -> np.ndarray:
    """-weight |a|^2, in the action's own precision, as Gymnasium computes it (float32 actions:
    float32).
    """
    # In C order a row's sum is taken in the same order in any batch.
    return -(weight * np.square(action, order="C").sum(axis=-1))


_registry: dict[str, type[Task]] = {}
BUILT_IN = {
    "hopper": "isthmus.tasks.hopper",
    "half_cheetah": "isthmus.tasks.half_cheetah",
    "walker2d": "isthmus.tasks.walker2d",
    "ant": "isthmus.tasks.ant",
    "reacher": "isthmus.tasks.reacher",
    "cartpole_swingup": "isthmus.tasks.cartpole_swingup",
    "ball": "isthmus.tasks.ball",
}


def register(task: type[Task]) -> type[Task]:
    """Class decorator: make a task known by its name.

    Raises BadValue where it does not declare what a task must, or has the name of a built-in one.
    """
    _check_declarations(task)
    if task.name in BUILT_IN and task.__module__ != BUILT_IN[task.name]:
        raise BadValue(
            f"the task {task.__name__} cannot be called {task.name}, as a built-in one is; choose "
            "another name"
        )
    _registry[task.name] = task
    return task


def _check_declarations(task: type[Task]) -> None:
    """Refuse a class without what `Task` leaves open, or with values of another kind: before
    anything asks for them.
    """
    for attribute in ("name", "model", "frame_skip", "observation_names"):
        if not hasattr(task, attribute):
            raise BadValue(
                f"the task {task.__name__} declares no {attribute}; write {attribute} = ... in its "
                "class"
            )
    if not isinstance(task.name, str) or not re.fullmatch(r"[^\s/:,=]+", task.name):
        raise BadValue(
            f"the task {task.__name__} has name = {task.name!r}: needs a word without / : , ="
        )
    for attribute in ("observation_names", "costs", "falling"):
        _check_words(f"{task.name}.{attribute}", getattr(task, attribute))
    for attribute in ("frame_skip", "time_limit"):
        _check_count(f"{task.name}.{attribute}", getattr(task, attribute))


def _check_words(attribute: str, value: object) -> None:
    if not isinstance(value, tuple | list) or not all(isinstance(word, str) for word in value):
        raise BadValue(f"{attribute} is {value!r}: needs a tuple of names, ('one',) with its comma")


def _check_count(attribute: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise BadValue(f"{attribute} is {value!r}: needs a whole number, 1 or more")


def names() -> list[str]:
    return sorted({*BUILT_IN, *_registry})


def is_built_in(task: Task) -> bool:
    """Return whether a task is one of Isthmus's own, and not another of its name."""
    return BUILT_IN.get(task.name) == type(task).__module__


def find_task(name: str) -> Task:
    """A task by name. Raises UnknownName with the nearest names, and how a task of one's own is
    made known.
    """
    if name not in _registry and name in BUILT_IN:
        importlib.import_module(BUILT_IN[name])
    if name not in _registry:
        raise UnknownName("task", name, names(), _import_advice())
    return _registry[name]()


def _import_advice() -> str:
    if multiprocessing.parent_process() is None:
        return "a task of your own: name its file with --import"
    return (
        "worker processes do not know what a notebook or a script registers: put the task in a "
        "file of its own and "
        "name that with --import, or imports=('FILE.py',) in Python"
    )
