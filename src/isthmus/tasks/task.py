"""A task: what a robot observes, what it is paid for, when it has fallen; on N worlds at once.

Write one by subclassing `Task` in a file of your own, decorate it with `@register`, and name the
file with `--import`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from isthmus.physics.engine import Simulator, Start
from isthmus.physics.random import Single, Streams
from isthmus.plugins import Registry, import_entry
from isthmus.tasks.view import MomentView as MomentView
from isthmus.tasks.view import SimView
from isthmus.types import BadValue, UnknownName

if TYPE_CHECKING:
    from isthmus.tasks.servo import Servo

Random = Streams | Single
Terms = Mapping[str, np.ndarray]
"""The named terms of a reward, (n,) each."""
Rewards = Callable[[SimView, np.ndarray, np.ndarray], Terms]

VARIANTS = {
    "dense": "what the task pays",
    "sparse": "1 at the goal, else 0",
    "uninformative": "only what falling costs",
    "none": "nothing",
}
"""The rewards that a task may have, and what each pays for."""

GOAL_DISTANCE = 5.0
"""Metres to a runner's goal, as in VIME's sparse locomotion.

Houthooft et al. 2016, arXiv 1605.09674.
"""


class Task:
    """The contract of a task. Every method takes and returns one row a world.

    Reward terms are named and signed; those in `costs` are summed apart and added last, which is
    the order in which Gymnasium adds, so that rewards agree to the last bit.
    """

    name: ClassVar[str]
    # an MJCF file, beside the Python file; or one of the installed gymnasium package
    model: ClassVar[str | Path]
    frame_skip: ClassVar[int]
    time_limit: ClassVar[int] = 1000
    observation_names: ClassVar[tuple[str, ...]]
    # a unit a name, "1" where there is none; left out: what the name ends with, "gyro x [rad/s]"
    observation_units: ClassVar[tuple[str, ...]] = ()
    costs: ClassVar[tuple[str, ...]] = ("control",)
    falling: ClassVar[tuple[str, ...]] = ()  # the reward terms that depend on falling alone
    forces: ClassVar[bool] = False  # needs contact forces
    # what `view` shall have: "sensors", "orientations", "velocities", "efforts"
    needs: ClassVar[Sequence[str]] = ()
    servo: ClassVar[Servo | None] = None  # actions are position targets
    state_size: ClassVar[int] = 0  # numbers that are kept with each world: `view.state`
    # what a camera follows; by default the first body that moves, where there is no torso
    main_body: ClassVar[str] = "torso"
    keyframe: ClassVar[str | None] = None  # the MJCF's keyframe in which episodes begin
    neutral_action: ClassVar[Sequence[float] | None] = None  # if it is not what holds the start
    reference: ClassVar[str | None] = None  # the Gymnasium id that this task equals to the bit

    @classmethod
    def model_path(cls) -> Path:
        """Return the path of the MJCF file `model`.

        It lies beside the Python file whose class names it; else a bare name is one of Gymnasium's,
        and a path with folders is taken from the working directory. Raises BadValue where there is
        none.
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
        """Return where an episode begins, one row a stream of `random`.

        That is a `Start`, or its first two parts, qpos and qvel; what is left out is the
        keyframe's, where the task names one. If not overridden: that keyframe.
        """
        if self.keyframe is None:
            raise NotImplementedError
        return repeat_keyframe(self, len(random.uniform(0.0, 1.0, 0)))

    def complete(self, start: Start | tuple[np.ndarray, np.ndarray]) -> Start:
        """Return a start with what it leaves out, taken from the keyframe where there is one."""
        if not isinstance(start, Start):
            start = Start(*start)
        if self.keyframe is None:
            return start
        whole = repeat_keyframe(self, len(start.qpos))
        for field, values in start._asdict().items():
            if values is not None:
                whole = whole._replace(**{field: values})
        return whole

    def begin(self, view: SimView, random: Random) -> None:
        """Write the state of worlds whose episodes begin: `view.write_state`, all of it."""

    def advance(self, view: SimView, action: np.ndarray) -> None:
        """Go on with the state after a step by `action` (n, A), once it is paid for."""

    def remember(self, view: SimView) -> np.ndarray:
        """Return what the next step's reward needs of this moment, float64 [n, ?]."""
        raise NotImplementedError

    def observe(self, view: SimView) -> np.ndarray:
        """Return observations, float64 [n, O]."""
        raise NotImplementedError

    @property
    def given_columns(self) -> Sequence[int]:
        """The observed numbers that tell nothing of the robot's motion, such as a command."""
        return ()

    def state_of(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions [n, nq] and velocities [n, nv] that observations [n, O] tell.

        float64; NaN where a coordinate is not told, by any row or by this one (a number that was
        clipped). A coordinate on which nothing depends, a runner's x, is any constant. It is what
        `isthmus identify` needs of a task; the built-in ones have it. Raises NotImplementedError.
        """
        raise NotImplementedError

    def rewards(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Terms:
        """Return named reward terms, [n] each, after a step.

        It began at `memory`, and `action` [n, A] was commanded.
        """
        raise NotImplementedError

    def observed_rewards(self, action: np.ndarray, next_obs: np.ndarray) -> Terms | None:
        """Return `rewards` of logged transitions where they follow from what is observed, else
        None.

        `action` [n, A] was commanded, `next_obs` [n, O] is what was observed after the step.
        """
        return None

    def observed_falls(self, obs: np.ndarray) -> np.ndarray:
        """Return `terminated` of observations [n, O], bool [n]; asked where `observed_rewards` are
        known.
        """
        return np.zeros(len(obs), bool)

    def terminated(self, view: SimView) -> np.ndarray:
        """Return which worlds have fallen, bool [n]. A time limit is not a fall."""
        return np.zeros(len(view.ids), bool)

    def progress(self, view: SimView) -> np.ndarray:
        """Return the task's own measure, [n]: metres forward, or the distance to a goal."""
        raise NotImplementedError

    def at_goal(self, view: SimView) -> np.ndarray:
        """Return which worlds are at the goal, bool [n]: what `sparse` pays for, and success."""
        return np.zeros(len(view.ids), bool)

    @property
    def variants(self) -> tuple[str, ...]:
        """The reward variants that this task has, of `VARIANTS`."""
        variants = list(VARIANTS)
        if type(self).at_goal is Task.at_goal:
            variants.remove("sparse")
        if not self.falling:
            variants.remove("uninformative")
        return tuple(variants)

    def with_reward(self, variant: str) -> Rewards:
        """Return `rewards`, or what pays another of `VARIANTS` by the same arguments.

        Raises UnknownName, or BadValue where the task has no such variant.
        """
        if variant not in VARIANTS:
            raise UnknownName("reward", variant, VARIANTS)
        if variant not in self.variants:
            lacks = {"sparse": "has no goal", "uninformative": "cannot fall"}[variant]
            raise BadValue(
                f"reward={variant}: {self.name} {lacks}; its rewards: {', '.join(self.variants)}"
            )
        payments: dict[str, Rewards] = {
            "dense": self.rewards,
            "sparse": self._pay_goal,
            "uninformative": self._pay_falling,
            "none": self._pay_nothing,
        }
        return payments[variant]

    def _pay_goal(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Terms:
        return {"goal": 1.0 * self.at_goal(view)}

    def _pay_falling(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Terms:
        terms = self.rewards(view, memory, action)
        return {name: terms[name] for name in terms if name in self.falling}

    def _pay_nothing(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Terms:
        return {"none": np.zeros(len(view.ids))}

    def total(self, terms: Terms) -> np.ndarray:
        """Return the reward, [n]: the gains in their order, plus the costs in theirs."""
        gains: list[np.ndarray] = []
        costs: list[np.ndarray] = []
        for name, values in terms.items():
            part = costs if name in self.costs else gains
            part.append(values)
        if not costs:
            return reduce(add, gains)
        if not gains:
            return reduce(add, costs)
        return reduce(add, gains) + reduce(add, costs)


def _folder_of(task: type[Task]) -> Path:
    """Return the folder of the file whose class names the task's model.

    Of a notebook's class that is the working directory.
    """
    owner = next(kind for kind in task.__mro__ if "model" in vars(kind))
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


@cache
def _gymnasium_assets() -> Path:
    spec = importlib.util.find_spec("gymnasium")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets"


def repeat_keyframe(task: Task, n: int) -> Start:
    """Return n rows of a task's keyframe. Raises UnknownName where the model has no such one."""
    from isthmus.physics.keyframes import load_keyframe

    assert task.keyframe is not None
    keyframe = load_keyframe(task.model_path(), task.keyframe)
    for field, part in keyframe._asdict().items():
        if part is not None:
            keyframe = keyframe._replace(**{field: np.repeat(part[None], n, axis=0)})
    return keyframe


def read_pose(task: Task) -> np.ndarray:
    """Return the positions (nq,) of a task's keyframe; the model's default where it names none."""
    from isthmus.physics.mujoco import load_model

    if task.keyframe is None:
        return np.array(load_model(task.model_path()).qpos0)
    return repeat_keyframe(task, 1).qpos[0]


def find_main_body(task: Task, bodies: Sequence[str]) -> int:
    """Return the index of the body that a camera follows.

    Raises UnknownName where the task names one that is not there.
    """
    if task.main_body in bodies:
        return bodies.index(task.main_body)
    if type(task).main_body != Task.main_body or len(bodies) < 2:
        raise UnknownName(
            f"body of {task.name}, for its main_body", task.main_body, filter(None, bodies)
        )
    return 1


def control_cost(weight: float, action: np.ndarray) -> np.ndarray:
    """Return -weight |a|^2, [n], in the action's own precision, as Gymnasium computes it."""
    # In C order a row's sum is taken in the same order in any batch.
    return -(weight * np.square(action, order="C").sum(axis=-1))


BUILT_IN = {
    "hopper": "isthmus.tasks.hopper:Hopper",
    "half_cheetah": "isthmus.tasks.half_cheetah:HalfCheetah",
    "walker2d": "isthmus.tasks.walker2d:Walker2d",
    "ant": "isthmus.tasks.ant:Ant",
    "reacher": "isthmus.tasks.reacher:Reacher",
    "cartpole_swingup": "isthmus.tasks.cartpole_swingup:CartpoleSwingup",
    "ball": "isthmus.tasks.ball:Ball",
    "quadruped": "isthmus.tasks.quadruped:Quadruped",
    "arm": "isthmus.tasks.arm:Arm",
}
"""The tasks that come with the package, by name: "module:class", imported when one is asked for."""

PACKAGED = {
    "go2": "isthmus.tasks.go2:Go2",
    "mini_cheetah": "isthmus.tasks.mini_cheetah:MiniCheetah",
    "so101": "isthmus.tasks.so101:SO101",
}
"""Likewise the tasks whose models come with other packages, those of the extra `robots`."""

TASKS: Registry[str | type[Task]] = Registry("task", "tasks", {**BUILT_IN, **PACKAGED})
"""All tasks by name, those of users and of installed packages included."""


T = TypeVar("T", bound=type[Task])


def register(task: T) -> T:
    """Make a task known by its name, as a class decorator.

    Raises BadValue where it does not declare what a task must, or has the name of a built-in one.
    """
    _check_declarations(task)
    if _is_built_in(task):
        return task
    if TASKS.is_built_in(task.name):
        raise BadValue(
            f"the task {task.__name__} cannot be called {task.name}, as a built-in one is; choose "
            "another name"
        )
    TASKS.add(task.name, task)
    return task


def _check_declarations(task: type[Task]) -> None:
    """Refuse a class that does not declare what `Task` leaves open, or declares other kinds."""
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
        value = getattr(task, attribute)
        if not isinstance(value, property):  # which needs the model
            _check_words(f"{task.name}.{attribute}", value)
    for attribute in ("frame_skip", "time_limit"):
        _check_count(f"{task.name}.{attribute}", getattr(task, attribute))


def _check_words(attribute: str, value: object) -> None:
    if not isinstance(value, tuple | list) or not all(isinstance(word, str) for word in value):
        raise BadValue(f"{attribute} is {value!r}: needs a tuple of names, ('one',) with its comma")


def _check_count(attribute: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise BadValue(f"{attribute} is {value!r}: needs a whole number, 1 or more")


def list_tasks() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(TASKS)


def is_built_in(task: Task) -> bool:
    """Return whether a task is one of Isthmus's own, and not another of its name."""
    return _is_built_in(type(task))


def _is_built_in(task: type[Task]) -> bool:
    address = f"{task.__module__}:{task.__name__}"
    return address in (BUILT_IN.get(task.name), PACKAGED.get(task.name))


def find_task(name: str) -> Task:
    """Return a task by name.

    Raises UnknownName with the nearest names, and how a task of one's own is made known.
    """
    try:
        entry = TASKS.find(name)
    except UnknownName:
        raise UnknownName("task", name, TASKS, _import_advice()) from None
    task = import_entry(entry)
    return task()


def _import_advice() -> str:
    if multiprocessing.parent_process() is None:
        return "a task of your own: name its file with --import"
    return (
        "worker processes do not know what a notebook or a script registers: put the task in a "
        "file of its own and "
        "name that with --import, or imports=('FILE.py',) in Python"
    )
