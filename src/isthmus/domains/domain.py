"""A domain: the recipe for worlds (task, engine, physical parameters, effects), written
`task/name=setting,...`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from isthmus.domains.draws import draw_parameters
from isthmus.domains.effect_chain import Effect, EffectChain
from isthmus.domains.effects import EFFECTS, WeakMotors
from isthmus.domains.grammar import is_common_setting, read_number, read_pairs
from isthmus.domains.physics_simulation import (
    MOTOR_STRENGTH,
    PhysicsSimulation,
    control_bounds,
    rehearse_task,
)
from isthmus.domains.simulation import Simulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.concurrency import ThreadCache
from isthmus.physics.engine import DEFAULT_ENGINE, NO_EQUIPMENT, find_engine
from isthmus.physics.numerics import AS_MODELLED, NUMERICS, Numerics
from isthmus.physics.parameters import (
    Grid,
    Parameter,
    ParameterSpec,
    find_parameter,
    format_setting,
    parse_setting,
)
from isthmus.physics.random import keys
from isthmus.tasks.motors import find_actuation, find_equipment, load_servo_gains
from isthmus.tasks.task import Task, find_task
from isthmus.types import BadValue, Spaces, UnknownName, Worlds

MAX_EPISODES_PER_TASK = 1000


@dataclass(frozen=True)
class Domain(ABC):
    """The recipe for worlds, whoever's physics it is: what the rest of the package asks of it.

    A `RobotDomain` is a task in a physics engine, a `ForeignDomain` somebody else's environment, a
    `LoggedDomain` known only by its log. `settings` holds the physical parameters that are not the
    robot's own: a value, a distribution (drawn per task) or grid values (drawn uniformly per task
    where the domain trains or is played; a landscape visits them all). `reward` is what is paid
    for, of `isthmus.tasks.task.VARIANTS`; `numerics` is how the engine computes. Only a robot's
    domain has settings, another engine, reward or numerics.
    """

    task: str
    settings: tuple[tuple[str, ParameterSpec], ...] = ()
    effects: tuple[Effect, ...] = ()
    engine: str = DEFAULT_ENGINE
    episodes_per_task: int = 1
    reward: str = "dense"
    numerics: Numerics = AS_MODELLED

    # Its text

    def shift(self, text: str) -> Self:
        """Return this domain with settings changed or added, `name=setting,...`.

        An empty text changes nothing. Raises UnknownName or BadValue, in one line.
        """
        shifted = self
        for name, value in read_pairs(text):
            shifted = shifted._change(name, value)
        return shifted

    def _change(self, name: str, value: str) -> Self:
        """Return this domain with one setting changed, of those that every domain has."""
        if name == "episodes_per_task":
            if not value.isdigit() or not 1 <= int(value) <= MAX_EPISODES_PER_TASK:
                raise BadValue(
                    f"episodes_per_task={value}: needs a whole number in 1..{MAX_EPISODES_PER_TASK}"
                )
            return replace(self, episodes_per_task=int(value))
        changed = {effect.name: effect for effect in self.effects}
        changed[name] = EFFECTS.find(name)(read_number(name, value)).check()
        return replace(self, effects=tuple(changed[n] for n in EFFECTS if n in changed))

    def __str__(self) -> str:
        parts = self._parts()
        return self.task + ("/" + ",".join(parts) if parts else "")

    def _parts(self) -> list[str]:
        """Return the settings as texts, `name=value`."""
        parts = [f"{effect.name}={effect.value:g}" for effect in self.effects]
        if self.episodes_per_task != 1:
            parts.append(f"episodes_per_task={self.episodes_per_task}")
        return parts

    @abstractmethod
    def without_settings(self) -> Domain:
        """Return the task as it is, with nothing changed."""

    def with_reward(self, reward: str) -> Domain:
        """Return this domain with another reward, where it is not known to have one alone.

        Raises UnknownName or BadValue where its task has none of that name.
        """
        return self

    # What is known of it, before anything moves

    def table(self) -> dict[str, Parameter]:
        """Return the physical parameters that this domain has, by name."""
        return {}

    def numerics_table(self) -> dict[str, str]:
        """Return the numerics that can be set here, by name: the robot's own."""
        return {}

    @property
    def names(self) -> tuple[str, ...]:
        """The physical parameters recorded with each world, in the order of `Worlds.parameters`."""
        return tuple(name for name, _ in self.settings)

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """The axes of a grid, by name; empty where this is no grid."""
        axes = {}
        for name, setting in self.settings:
            if isinstance(setting, Grid):
                axes[name] = setting.values
        return axes

    @property
    def replayable(self) -> bool:
        """Whether worlds can be put back exactly as they were."""
        return False

    @property
    def measurable(self) -> bool:
        """Whether a policy can be played here at all."""
        return True

    @property
    @abstractmethod
    def step_seconds(self) -> float:
        """Seconds a control step lasts on the robot. Raises BadValue where they are not known."""

    @property
    def stated_seconds(self) -> float:
        """`step_seconds` where it is known without moving anything, else NaN."""
        return self.step_seconds

    def check_timed(self) -> None:
        """Raise BadValue where a step's seconds are needed, and only the user can tell them.

        Nothing moves.
        """
        return None

    def ready(self, moved: bool = True) -> None:
        """Raise BadValue where worlds could not be built; better before training than amid it.

        `moved`: whether training moves this domain.
        """
        return None

    def left_out(self) -> tuple[str, ...]:
        """Return what this domain's engine leaves out of its robot's model, a line a kind."""
        return ()

    @abstractmethod
    def description(self) -> Task:
        """Return the task: names of the observed numbers, time limit, what is paid for."""

    @property
    @abstractmethod
    def time_limit(self) -> int:
        """Steps after which an episode is cut."""

    def action_scales_force(self) -> bool:
        """Return whether a scaled action scales the force of every motor.

        If so `weak_motors` scales the action. Where nobody knows the motors, it does.
        """
        return True

    def effect_chain(self, effects: tuple[Effect, ...] | None = None) -> EffectChain:
        """Return what the domain's effects, or others, do to actions and observations.

        Those that the simulator does itself are left out.
        """
        if effects is None:
            effects = self.effects
        chained = tuple(effect for effect in effects if not self._is_simulated(effect))
        spaces = self.inner_spaces()
        return EffectChain(chained, spaces.observation, spaces.action)

    def _is_simulated(self, effect: Effect) -> bool:
        """Return whether the simulator does what an effect says."""
        return isinstance(effect, WeakMotors) and not self.action_scales_force()

    @abstractmethod
    def inner_spaces(self) -> Spaces:
        """Return the spaces before effects and sensing."""

    @property
    def spaces(self) -> Spaces:
        """The spaces that a policy meets."""
        return self.inner_spaces()._replace(observation=self.effect_chain().obs_size)

    # Its worlds

    def draw(self, key: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Return the dynamics (n, P) of worlds' tasks: equal keys and task numbers, equal dynamics.

        A parameter's draw depends on its name, not on which others are drawn beside it.
        """
        return draw_parameters(self.settings, key, task)

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        """Return a simulation of n worlds; worlds are loaded into it by value.

        `rows` are those that it shall continue: where they cannot be loaded, the simulation that
        they came from.
        """
        return self.build(n)

    @abstractmethod
    def build(self, n: int) -> Simulation:
        """Build a new simulation of n worlds."""

    def worlds(self, n: int, seed: int, parameters: np.ndarray | None = None) -> Worlds:
        """Return n worlds at the begin of their first episode, determined by `seed`.

        `parameters` (n, P) fixes each world's dynamics, in this episode and all that follow,
        instead of drawing them.
        """
        return SteppedWorlds.new(self, keys(seed, n), parameters=parameters).worlds()


@dataclass(frozen=True)
class RobotDomain(Domain):
    """A task in a physics engine, written `task/name=setting,...`."""

    @staticmethod
    def read(text: str) -> RobotDomain:
        """Read `task/name=setting,...`. Raises UnknownName or BadValue, in one line."""
        task, _, settings = text.partition("/")
        find_task(task)
        return RobotDomain(task).shift(settings)

    def shift(self, text: str) -> Self:
        """Return this domain with settings changed or added, `name=setting,...`.

        Raises UnknownName or BadValue, in one line.
        """
        shifted = self
        # The engine first: it says which parameters there are.
        for name, value in sorted(read_pairs(text), key=lambda pair: pair[0] != "engine"):
            shifted = shifted._change(name, value)
        shifted._check_motor_force()
        return shifted

    def _change(self, name: str, value: str) -> Self:
        if name == "engine":
            return self._on(value)
        if name == "reward":
            find_task(self.task).with_reward(value)
            return replace(self, reward=value)
        if name in NUMERICS:
            return self._with_numeric(name, value)
        if is_common_setting(name):
            return super()._change(name, value)
        changed = dict(self.settings)
        changed[name] = parse_setting(value, self._find(name))
        return replace(self, settings=tuple(sorted(changed.items())))

    def _on(self, engine: str) -> Self:
        """Return this domain in another engine.

        Raises UnknownName, or BadValue where the engine cannot build the robot.
        """
        domain, task = replace(self, engine=engine), find_task(self.task)
        found, equipment = find_engine(engine), find_equipment(task)
        found.check(task.model_path(), task.forces)
        if equipment != NO_EQUIPMENT:
            found.check_equipment(task.name, equipment)
        for name in self.names:
            domain._find(name)
        for name in self.numerics.named():
            found.check_numeric(task.model_path(), name)
        return domain

    def _with_numeric(self, name: str, text: str) -> Self:
        """Return this domain with a setting of `isthmus.physics.numerics` changed.

        Raises BadValue or UnknownName.
        """
        engine, task = find_engine(self.engine), find_task(self.task)
        engine.check_numeric(task.model_path(), name)
        value = engine.read_numeric(task.model_path(), task.frame_skip, name, text)
        return replace(self, numerics=replace(self.numerics, **{name: value}))

    def ready(self, moved: bool = True) -> None:
        """Raise BadValue where the engine is not installed, or a user's task breaks its rules."""
        find_engine(self.engine).check_installed()
        rehearse_task(find_task(self.task), self.engine)

    def _find(self, name: str) -> Parameter:
        """Return the parameter of that name. Raises BadValue or UnknownName, saying why not."""
        table = self.table()
        if name not in table:
            lacked = find_engine(self.engine).lacked(find_task(self.task).model_path())
            if name in lacked:
                raise BadValue(f"{name} cannot be set with engine={self.engine}: {lacked[name]}")
        known = {
            **table,
            **dict.fromkeys(EFFECTS),
            **dict.fromkeys(NUMERICS),
            "engine": None,
            "episodes_per_task": None,
            "reward": None,
        }
        if name not in known and (reason := self.withheld().get(name)):
            raise BadValue(f"{self.task} has no {name}: {reason}")
        if name not in known:
            raise UnknownName(f"parameter of {self.task}", name, known)
        return find_parameter(table, name, self.task)

    def table(self) -> dict[str, Parameter]:
        """Return the physical parameters that its engine can set in its robot, by name."""
        task = find_task(self.task)
        return find_engine(self.engine).parameters(task.model_path()) | load_servo_gains(task)

    def numerics_table(self) -> dict[str, str]:
        """Return the numerics that its engine has, by name: the robot's own."""
        return find_engine(self.engine).numerics(find_task(self.task).model_path())

    def left_out(self) -> tuple[str, ...]:
        """Return what this domain's engine leaves out of its robot's model, a line a kind."""
        return find_engine(self.engine).left_out(find_task(self.task).model_path())

    def withheld(self) -> dict[str, str]:
        """Return why its robot cannot have parameters that one might look for, by their names."""
        return find_engine(self.engine).withheld(find_task(self.task).model_path())

    def action_scales_force(self) -> bool:
        """Return whether a scaled action scales the force of every motor.

        If so `weak_motors` scales the action.
        """
        task = find_task(self.task)
        if find_actuation(task):
            return False
        return find_engine(self.engine).action_scales_force(task.model_path())

    @property
    def motor_force(self) -> float | None:
        """What the simulator multiplies the motors' force by: `weak_motors`, where a scaled action
        would not do it.
        """
        for effect in self.effects:
            if self._is_simulated(effect):
                return effect.value
        return None

    def _check_motor_force(self) -> None:
        """Raise BadValue where `weak_motors` has to weaken a force that the engine cannot."""
        if self.motor_force is None:
            return
        try:
            self._find(MOTOR_STRENGTH)
        except BadValue as error:
            raise BadValue(f"{WeakMotors.name}: {error}") from None

    def _parts(self) -> list[str]:
        parts = [f"{name}={format_setting(setting)}" for name, setting in self.settings]
        parts += [f"{effect.name}={effect.value:g}" for effect in self.effects]
        parts += self.numerics.texts()
        if self.engine != DEFAULT_ENGINE:
            parts.append(f"engine={self.engine}")
        if self.episodes_per_task != 1:
            parts.append(f"episodes_per_task={self.episodes_per_task}")
        if self.reward != "dense":
            parts.append(f"reward={self.reward}")
        return parts

    @property
    def replayable(self) -> bool:
        """Whether worlds can be put back exactly as they were: they can."""
        return True

    def without_settings(self) -> RobotDomain:
        """Return the task as it is, with nothing changed."""
        return RobotDomain(self.task)

    def with_reward(self, reward: str) -> RobotDomain:
        """Return this domain with another reward.

        Raises UnknownName or BadValue where its task has none of that name.
        """
        return self if reward == self.reward else self.shift(f"reward={reward}")

    @property
    def step_seconds(self) -> float:
        """Seconds a control step lasts on the robot."""
        from isthmus.physics.mujoco import load_model

        task = find_task(self.task)
        return load_model(task.model_path()).opt.timestep * task.frame_skip

    def description(self) -> Task:
        """Return the task."""
        return find_task(self.task)

    @property
    def time_limit(self) -> int:
        """Steps after which an episode is cut, as the task says."""
        return find_task(self.task).time_limit

    def inner_spaces(self) -> Spaces:
        """Return the task's spaces, before effects and sensing."""
        task = find_task(self.task)
        low, high = control_bounds(task)
        return Spaces(len(task.observation_names), low, high, len(self.settings))

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        """Return a simulation of n worlds, kept for this thread's next call of that `purpose`."""
        return _simulation(self, n, purpose)

    def build(self, n: int) -> PhysicsSimulation:
        """Build a new simulation of n worlds."""
        return PhysicsSimulation(self, n)


def _build(domain: RobotDomain, n: int, purpose: str) -> PhysicsSimulation:
    return domain.build(n)


_simulation = ThreadCache(_build, maxsize=8)
