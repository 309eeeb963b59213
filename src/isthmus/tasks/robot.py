"""What tasks of robots share: servos, sensors, commands, pushes, starts from a keyframe.

A robot's own file says which: see docs/guide/own_robot.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isthmus.physics.engine import Simulator
from isthmus.tasks.command import Command, Push
from isthmus.tasks.motors import find_actuation
from isthmus.tasks.task import Random, Task, find_main_body, repeat_keyframe
from isthmus.tasks.view import SimView
from isthmus.types import BadValue

if TYPE_CHECKING:
    import mujoco

    from isthmus.tasks.actuation import Actuation
    from isthmus.tasks.observation import Part

KEY, STEP, DRAWN, NEXT_DRAW, PUSHED, NEXT_PUSH = range(6)
"""The columns of a world's state that every robot has; then the command, the last action, and the
task's own.
"""
OWN_COLUMNS = 6


class RobotTask(Task):
    """A robot with a servo, as a subclass declares it: `observed` parts, a `command`, a `push`.

    An episode begins in the keyframe, joints off by up to `start_noise` rad (m), and speeds by as
    much a second. `extra_size` numbers a world are the task's own (`read_own`, `write_own`).
    """

    keyframe = "home"
    costs = ()
    observed: ClassVar[tuple[Part, ...]]
    command: ClassVar[Command | None] = None
    push: ClassVar[Push | None] = None
    start_noise: ClassVar[float] = 0.05
    looks_at: ClassVar[tuple[str, ...]] = ()  # what rewards need of the view beside `observed`
    extra_size: ClassVar[int] = 0

    # What follows from the declarations and the model

    @property
    def observation_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The names of all observed parts, with units."""
        return _name_observations(type(self))

    @property
    def needs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the view must show."""
        needs = dict.fromkeys(self.looks_at)
        for part in self.observed:
            needs.update(dict.fromkeys(part.needs))
        return tuple(needs)

    @property
    def state_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The numbers that are kept with each world. Raises BadValue for a wrong declaration."""
        _name_observations(type(self))
        return self._action_column + self._count_actions() + self.extra_size

    @property
    def given_columns(self) -> tuple[int, ...]:
        """The observed numbers that tell what was said to the robot, not how it moves."""
        return _find_given(type(self))

    @property
    def _action_column(self) -> int:
        return OWN_COLUMNS + (self.command.size if self.command else 0)

    def _count_actions(self) -> int:
        return len(self.find_actuation().pose)

    def find_model(self) -> mujoco.MjModel:
        """Return the compiled model."""
        from isthmus.physics.mujoco import load_model

        return load_model(self.model_path())

    def find_actuation(self) -> Actuation:
        """Return the servo, by the model's joints. Raises BadValue where there is none."""
        actuation = find_actuation(self)
        if actuation is None:
            raise BadValue(f"{self.name} has no servo; write servo = Servo(...) in its class")
        return actuation

    def find_base(self) -> int:
        """Return where the floating base's velocity begins. Raises BadValue where none floats."""
        base = _find_base(type(self))
        if base is None:
            raise BadValue(
                f"{self.name} observes or pushes a floating base, and {self.main_body} has no free "
                "joint"
            )
        return base[1]

    # What a world's state holds

    def read_command(self, view: SimView) -> np.ndarray:
        """Return what worlds are told, float64 [n, C]."""
        return view.state[:, OWN_COLUMNS : self._action_column]

    def read_last_action(self, view: SimView) -> np.ndarray:
        """Return the last actions, float64 [n, A]."""
        first = self._action_column
        return view.state[:, first : first + self._count_actions()]

    def read_own(self, view: SimView) -> np.ndarray:
        """Return the task's own numbers, [n, extra_size]."""
        return view.state[:, self._action_column + self._count_actions() :]

    def write_own(self, view: SimView, values: np.ndarray) -> None:
        """Write the task's own numbers, [n, extra_size]."""
        view.write_state(self._action_column + self._count_actions(), values)

    def read_base_quaternion(self, view: SimView) -> np.ndarray:
        """Return the base's orientation, [n, 4]."""
        base = _find_base(type(self))
        assert base is not None
        return view.qpos[:, base[0] + 3 : base[0] + 7]

    # The contract

    def start(self, simulator: Simulator, random: Random) -> tuple[np.ndarray, np.ndarray]:
        """Return the keyframe, its driven joints a little off."""
        actuation = self.find_actuation()
        size = len(actuation.pose)
        noise = self.start_noise * random.uniform(-1.0, 1.0, 2 * size)
        home = repeat_keyframe(self, len(noise))
        qpos, qvel = home.qpos.copy(), home.qvel.copy()
        qpos[:, actuation.angles] = actuation.limit(qpos[:, actuation.angles] + noise[:, :size])
        qvel[:, actuation.speeds] += noise[:, size:]
        return qpos, qvel

    def begin(self, view: SimView, random: Random) -> None:
        """Draw an episode's key, its first command and its first push."""
        key = np.floor(random.uniform(0.0, 1.0, 1)[:, 0] * 2.0**53)
        state = np.zeros((len(key), self.state_size))
        state[:, KEY], state[:, NEXT_DRAW], state[:, NEXT_PUSH] = key, np.inf, np.inf
        everyone = np.arange(len(key))
        self._draw_command(state, everyone, view.dt)
        self._draw_push(state, everyone, view.dt)
        view.write_state(0, state)

    def advance(self, view: SimView, action: np.ndarray) -> None:
        """Count a step, keep its action, and draw the commands and pushes that are due."""
        state = view.state
        state[:, STEP] += 1
        first = self._action_column
        state[:, first : first + self._count_actions()] = action
        due = np.flatnonzero(state[:, STEP] >= state[:, NEXT_DRAW])
        if len(due):
            self._draw_command(state, due, view.dt)
        due = np.flatnonzero(state[:, STEP] >= state[:, NEXT_PUSH])
        if len(due):
            view.add_velocity(due, self.find_base(), self._draw_push(state, due, view.dt))
        view.write_state(0, state)

    def _draw_command(self, state: np.ndarray, due: np.ndarray, dt: float) -> None:
        """Write new commands of worlds into their states, and when the next are drawn."""
        if self.command is None:
            return
        drawn, seconds = self.command.draw(state[due, KEY].astype(np.uint64), state[due, DRAWN])
        state[due, OWN_COLUMNS : self._action_column] = drawn
        state[due, NEXT_DRAW] = state[due, STEP] + np.ceil(seconds / dt)
        state[due, DRAWN] += 1

    def _draw_push(self, state: np.ndarray, due: np.ndarray, dt: float) -> np.ndarray:
        """Return kicks (n, 2), m/s; write when the next ones come."""
        if self.push is None:
            return np.zeros((len(due), 2))
        kick, seconds = self.push.draw(state[due, KEY].astype(np.uint64), state[due, PUSHED])
        state[due, NEXT_PUSH] = state[due, STEP] + np.ceil(seconds / dt)
        state[due, PUSHED] += 1
        return kick

    def remember(self, view: SimView) -> np.ndarray:
        """Return nothing, (n, 0): what the next step needs is in the state."""
        return np.empty((len(view.ids), 0))

    def observe(self, view: SimView) -> np.ndarray:
        """Return the observed parts, one after the other."""
        return np.concatenate([part.read(view, self) for part in self.observed], axis=1)


@lru_cache(maxsize=64)
def _name_observations(kind: type[RobotTask]) -> tuple[str, ...]:
    task = kind()
    if task.command is not None:
        task.command.check(task.name)
    if task.push is not None:
        task.push.check(task.name)
        task.find_base()
    names: list[str] = []
    for part in task.observed:
        names += part.names(task)
    return tuple(names)


@lru_cache(maxsize=64)
def _find_given(kind: type[RobotTask]) -> tuple[int, ...]:
    """Return the columns of parts that are `given`."""
    task, column = kind(), 0
    given: list[int] = []
    for part in task.observed:
        count = len(part.names(task))
        if part.given:
            given += range(column, column + count)
        column += count
    return tuple(given)


@lru_cache(maxsize=64)
def _find_base(kind: type[RobotTask]) -> tuple[int, int] | None:
    """Return where the main body's free joint begins in qpos and qvel; None without one."""
    from isthmus.physics.joint_parameters import FREE

    task = kind()
    model = task.find_model()
    body = find_main_body(task, [model.body(i).name for i in range(model.nbody)])
    joint = int(model.body_jntadr[body])
    if joint < 0 or model.jnt_type[joint] != FREE:
        return None
    return int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
