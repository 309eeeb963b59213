"""A domain: the recipe for worlds (task, engine, physical parameters, effects), written
`task/name=setting,...`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import Any, Protocol

import numpy as np

from isthmus.domains.effects import EFFECTS, Effect, EffectChain, WeakMotors
from isthmus.physics.concurrency import ThreadCache
from isthmus.physics.engine import DEFAULT_ENGINE, SimulatorFactory, find_engine
from isthmus.physics.parameters import (
    Distribution,
    Grid,
    Parameter,
    ParameterSpec,
    find_parameter,
    format_setting,
    parse_setting,
)
from isthmus.physics.random import Streams, fold, keys
from isthmus.tasks.contract import check_contract_once, check_finite, is_finite
from isthmus.tasks.task import BUILT_IN, Random, SimView, Task, is_built_in, list_tasks
from isthmus.tasks.task import find_task as find_task
from isthmus.types import BadValue, Spaces, UnknownName, Worlds, decode_text


def engine_class(engine: str) -> SimulatorFactory:
    """The class of an engine's simulator."""
    return find_engine(engine).simulator


MOTOR_STRENGTH = "motor_strength"
"""The parameter that scales the force of all motors."""

# What a world's random numbers are for; each purpose has a stream of its own.
DYNAMICS, START, SENSE, BEHAVE = 1, 2, 3, 4


class Simulation(Protocol):
    """N worlds of one domain that can be stepped: a task in an engine, or somebody else's
    environment.

    What `collect`, `play` and the Gymnasium environments drive. Rows as in
    `isthmus.physics.engine`.
    """

    rows: np.ndarray
    time_limit: int
    terms: Mapping[str, np.ndarray]  # the reward of the last step, by term, (n,) each

    def restore(self, rows: np.ndarray, parameters: np.ndarray) -> bool:
        """Make the worlds continue from `rows`; False where the environment cannot (episodes then
        begin anew).
        """
        ...

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray, random: Random
    ) -> tuple[np.ndarray, np.ndarray]:
        """Begin episodes; first observations (n, O) and the task's memory (n, ?)."""
        ...

    def neutral_action(self, ids: np.ndarray) -> np.ndarray:
        """What the robots were told before the first decision of episodes that have just begun, (n,
        A).
        """
        ...

    def step(
        self, ids: np.ndarray, applied: np.ndarray, commanded: np.ndarray, memory: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One step; observation, reward, terminated, truncated, diverged, memory, each (n, ...).

        `applied` goes to the actuators, `commanded` is charged.
        """
        ...

    def progress(self, ids: np.ndarray) -> np.ndarray:
        """The task's own measure, (n,)."""
        ...

    def at_goal(self, ids: np.ndarray) -> np.ndarray:
        """Which worlds are where the task wants them, bool (n,); nowhere where the task has no
        goal.
        """
        ...


def control_bounds(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest actions of a task, float32 (A,) each. Raises BadValue where an
    actuator has none.
    """
    from isthmus.physics.actuator_controls import control_box
    from isthmus.physics.mujoco import load_model

    return control_box(load_model(task.model_path()), task.name)


def build_simulator(task: Task, engine: str, names: tuple[str, ...], n: int) -> Any:
    """A simulator of n worlds of a task's robot, in which the parameters `names` may differ."""
    return engine_class(engine)(task.model_path(), names, n, task.frame_skip, forces=task.forces)


def rehearse_task(task: Task, engine: str) -> None:
    """Hold a task of the user's own to its contract, the first time it is used. Raises BadValue or
    UnknownName.
    """
    check_contract_once(
        task, engine, control_bounds(task), partial(build_simulator, task, engine, ())
    )


class PhysicsSimulation:
    """A task of ours in a physics engine.

    `motor_force` (float64 [n], or None) multiplies each world's `motor_strength`, whether that is a
    parameter of the domain or not: it is what `weak_motors` does to a robot with servos.
    """

    terms: Mapping[str, np.ndarray]

    def __init__(self, domain: Domain, n: int):
        self.task = find_task(domain.task)
        self.low, self.high = control_bounds(self.task)
        rehearse_task(self.task, domain.engine)
        names = domain.names
        self.motor_force = None if domain.motor_force is None else np.full(n, domain.motor_force)
        if self.motor_force is not None and MOTOR_STRENGTH not in names:
            names = (*names, MOTOR_STRENGTH)
        self._strength = names.index(MOTOR_STRENGTH) if self.motor_force is not None else None
        self.simulator = build_simulator(self.task, domain.engine, names, n)
        self.rows = self.simulator.rows
        self.time_limit = self.task.time_limit
        self.rewards = self.task.with_reward(domain.reward)
        self._own = not is_built_in(
            self.task
        )  # whose numbers are not known to be finite wherever the state is
        self.terms = {}

    def restore(self, rows, parameters):
        self.rows[:] = rows
        self._set_parameters(np.arange(self.simulator.n), parameters)
        return True

    def _set_parameters(self, ids: np.ndarray, parameters: np.ndarray) -> None:
        """Give worlds the domain's parameters (n, P), their motors weakened."""
        if self.motor_force is not None:
            values = np.ones((len(ids), len(self.simulator.parameters)))
            values[:, : parameters.shape[1]] = parameters
            values[:, self._strength] *= self.motor_force[ids]
            parameters = values
        self.simulator.set_parameters(ids, parameters)

    def begin(self, ids, parameters, random):
        self._set_parameters(ids, parameters)
        self.simulator.reset(ids, *self.task.complete(self.task.start(self.simulator, random)))
        view = SimView(self.simulator, ids)
        obs = self.task.observe(view)
        if self._own and not is_finite(obs):
            check_finite(self.task, view, obs, {}, np.ones(len(ids), bool))
        return obs, self.task.remember(view)

    def neutral_action(self, ids):
        """What the task declares, else what the start says that the actuators were told, within
        their bounds.
        """
        if self.task.neutral_action is not None:
            return np.tile(np.asarray(self.task.neutral_action, float), (len(ids), 1))
        return np.clip(self.simulator.control[ids], self.low, self.high)

    def step(self, ids, applied, commanded, memory):
        diverged = self.simulator.step(ids, applied)
        view = SimView(self.simulator, ids)
        with np.errstate(invalid="ignore", over="ignore"):
            self.terms = self.rewards(view, memory, commanded)
            obs, reward = self.task.observe(view), self.task.total(self.terms)
            if self._own and not is_finite(obs, reward):
                check_finite(self.task, view, obs, self.terms, ~diverged)
            return (obs, reward, self.task.terminated(view),
                    np.zeros(len(ids), bool), diverged, self.task.remember(view))  # fmt: skip

    def progress(self, ids):
        with np.errstate(invalid="ignore"):  # of a world that diverged
            return self.task.progress(SimView(self.simulator, ids))

    def at_goal(self, ids):
        with np.errstate(invalid="ignore"):
            return self.task.at_goal(SimView(self.simulator, ids))


@dataclass(frozen=True)
class Domain:
    """The recipe for worlds.

    `settings` holds the physical parameters that are not the robot's own: a value, a law (drawn per
    task) or grid values (drawn uniformly per task where the domain trains or is played; a landscape
    visits them all). `reward` is what is paid for, of `isthmus.tasks.task.VARIANTS`.
    """

    task: str
    settings: tuple[tuple[str, ParameterSpec], ...] = ()
    effects: tuple[Effect, ...] = ()
    engine: str = DEFAULT_ENGINE
    episodes_per_task: int = 1
    reward: str = "dense"

    @staticmethod
    def parse(text: str, trusted: bool = True) -> Domain:
        """Read `task/name=setting,...`, or somebody else's environment (`gym:ID`,
        `module:function`), or `log:` and a domain: a target known only by its log, of that domain's
        spaces.

        A text that the user did not give (a run folder's) is not `trusted`: it imports no module of
        its own. Raises UnknownName or BadValue, in one line.
        """
        text = decode_text(text)
        if text.startswith("log:"):
            from isthmus.logs.datasets import LoggedDomain

            return LoggedDomain.of(Domain.parse(text.removeprefix("log:"), trusted))
        if ":" in text.partition("/")[0]:
            from isthmus.domains.gym import ForeignDomain

            return ForeignDomain.read(text, trusted)
        task, _, rest = text.partition("/")
        return Domain(task)._check().shift(rest)

    @staticmethod
    def coerce(domain: Domain | str) -> Domain:
        """Return a domain, or what its text says."""
        return Domain.parse(domain) if isinstance(domain, str) else domain

    def _check(self) -> Domain:
        find_task(self.task)
        return self

    def shift(self, text: str) -> Domain:
        """This domain with settings changed or added, `name=setting,...`; an empty text changes
        nothing.
        """
        settings, effects, domain = dict(self.settings), {g.name: g for g in self.effects}, self
        # The engine first: it says which parameters there are.
        for name, value in sorted(pairs(text), key=lambda pair: pair[0] != "engine"):
            if name == "engine":
                domain = domain._on(value)
            elif name == "episodes_per_task":
                if not value.isdigit() or not 1 <= int(value) <= 1000:
                    raise BadValue(f"episodes_per_task={value}: needs a whole number in 1..1000")
                domain = replace(domain, episodes_per_task=int(value))
            elif name == "reward":
                find_task(self.task).with_reward(value)
                domain = replace(domain, reward=value)
            elif name in EFFECTS:
                try:
                    effects[name] = EFFECTS[name](float(value)).check()
                except ValueError as error:
                    if isinstance(error, BadValue):
                        raise
                    raise BadValue(f"{name}={value!r}: needs a number") from None
            else:
                settings[name] = parse_setting(value, domain._find(name))
        shifted = replace(
            domain,
            settings=tuple(sorted(settings.items())),
            effects=tuple(effects[name] for name in EFFECTS if name in effects),
        )
        shifted._check_motor_force()
        return shifted

    def _on(self, engine: str) -> Domain:
        """This domain in another engine. Raises UnknownName, or BadValue where the engine cannot
        build the robot.
        """
        domain, task = replace(self, engine=engine), find_task(self.task)
        find_engine(engine).check(task.model_path(), task.forces)
        for name in self.names:
            domain._find(name)
        return domain

    def ready(self, moved: bool = True) -> None:
        """Raises BadValue where the engine is not installed, or a task of the user's own breaks its
        contract.

        Better said before training than in the middle of it. `moved`: whether training moves this
        domain.
        """
        find_engine(self.engine).check_installed()
        if self.task in list_tasks():  # and is no environment of somebody else's
            rehearse_task(find_task(self.task), self.engine)

    def _find(self, name: str) -> Parameter:
        table = self.table()
        if name not in table:
            lacked = find_engine(self.engine).lacked(find_task(self.task).model_path())
            if name in lacked:
                raise BadValue(f"{name} cannot be set with engine={self.engine}: {lacked[name]}")
        known = {
            **table,
            **dict.fromkeys(EFFECTS),
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
        """The physical parameters this domain has, by name."""
        return find_engine(self.engine).parameters(find_task(self.task).model_path())

    def left_out(self) -> tuple[str, ...]:
        """Return what this domain's engine leaves out of its robot's model, a line a kind."""
        if self.task not in list_tasks():
            return ()
        return find_engine(self.engine).left_out(find_task(self.task).model_path())

    def withheld(self) -> dict[str, str]:
        """The parameters that one might look for and that its robot cannot have, by name: the
        reasons.
        """
        return find_engine(self.engine).withheld(find_task(self.task).model_path())

    def action_scales_force(self) -> bool:
        """Whether a scaled action scales the force of every motor, so that `weak_motors` may scale
        it.
        """
        return find_engine(self.engine).action_scales_force(find_task(self.task).model_path())

    @property
    def motor_force(self) -> float | None:
        """What the simulator multiplies the motors' force by: `weak_motors`, where a scaled action
        would not do it.
        """
        for effect in self.effects:
            if isinstance(effect, WeakMotors) and not self.action_scales_force():
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

    def __str__(self) -> str:
        parts = self._parts()
        return self.task + ("/" + ",".join(parts) if parts else "")

    def _parts(self) -> list[str]:
        parts = [f"{name}={format_setting(setting)}" for name, setting in self.settings]
        parts += [f"{effect.name}={effect.value:g}" for effect in self.effects]
        if self.engine != DEFAULT_ENGINE:
            parts.append(f"engine={self.engine}")
        if self.episodes_per_task != 1:
            parts.append(f"episodes_per_task={self.episodes_per_task}")
        if self.reward != "dense":
            parts.append(f"reward={self.reward}")
        return parts

    @property
    def names(self) -> tuple[str, ...]:
        """The physical parameters recorded with each world, in the order of `Worlds.parameters`."""
        return tuple(name for name, _ in self.settings)

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """The axes of a grid, by name; empty where this is no grid."""
        return {
            name: setting.values for name, setting in self.settings if isinstance(setting, Grid)
        }

    @property
    def replayable(self) -> bool:
        """Whether worlds can be put back exactly as they were."""
        return True

    @property
    def measurable(self) -> bool:
        """Whether a policy can be played here at all."""
        return True

    def without_settings(self) -> Domain:
        """The task as it is, with nothing changed."""
        return Domain(self.task)

    def with_reward(self, reward: str) -> Domain:
        """This domain with another reward. Raises UnknownName or BadValue where its task has none
        of that name.
        """
        return self if reward == self.reward else self.shift(f"reward={reward}")

    @property
    def step_seconds(self) -> float:
        """Seconds a control step lasts on the robot."""
        from isthmus.physics.mujoco import load_model

        task = find_task(self.task)
        return load_model(task.model_path()).opt.timestep * task.frame_skip

    @property
    def stated_seconds(self) -> float:
        """`step_seconds` where it is known without moving anything, else NaN."""
        return self.step_seconds

    def check_timed(self) -> None:
        """Raise BadValue where a step's seconds are needed and cannot be had unless the user writes
        them.

        Nothing moves.
        """

    def draw(self, key: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Dynamics (n, P) of the worlds' tasks: equal keys and task numbers, equal dynamics.

        A parameter's draw depends on its name, not on which others are drawn beside it.
        """
        out = np.empty((len(key), len(self.settings)))
        each = fold(key[:, None], DYNAMICS, task[:, None], _salts(self.names))
        for column, (_, setting) in enumerate(self.settings):
            random = Streams(each[:, column])
            if isinstance(setting, Distribution):
                out[:, column] = setting.draw(random)
            elif isinstance(setting, Grid):
                index = (random.uniform(0, 1, 1)[:, 0] * len(setting.values)).astype(int)
                out[:, column] = np.array(setting.values)[index]
            else:
                out[:, column] = setting
        return out

    def description(self) -> Task:
        return find_task(self.task)

    @property
    def time_limit(self) -> int:
        return find_task(self.task).time_limit

    def effect_chain(self, effects: tuple[Effect, ...] | None = None) -> EffectChain:
        """What the domain's effects, or others, do to actions and observations: without those that
        the simulator does.
        """
        spaces, effects = self.inner_spaces(), self.effects if effects is None else effects
        if (
            any(isinstance(effect, WeakMotors) for effect in effects)
            and not self.action_scales_force()
        ):
            effects = tuple(effect for effect in effects if not isinstance(effect, WeakMotors))
        return EffectChain(effects, spaces.observation, spaces.action)

    def inner_spaces(self) -> Spaces:
        """Spaces before effects and sensing."""
        task = find_task(self.task)
        low, high = control_bounds(task)
        return Spaces(len(task.observation_names), low, high, len(self.settings))

    @property
    def spaces(self) -> Spaces:
        return self.inner_spaces()._replace(observation=self.effect_chain().observation)

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        """A simulation of n worlds, kept for this thread's next call; worlds are loaded into it by
        value.

        `rows` are those that it shall continue: where they cannot be loaded, the simulation that
        they came from.
        """
        return _simulation(self, n, purpose)

    def build(self, n: int) -> Simulation:
        return PhysicsSimulation(self, n)

    def worlds(self, n: int, seed: int, parameters: np.ndarray | None = None) -> Worlds:
        """n worlds at the begin of their first episode, determined by `seed`.

        `parameters` (n, P) fixes each world's dynamics, in this episode and all that follow,
        instead of drawing them.
        """
        from isthmus.domains.rollout import SteppedWorlds

        return SteppedWorlds.new(self, keys(seed, n), parameters=parameters).worlds()


def robot(text: str) -> str:
    """The robot of a domain's text or a Gymnasium id, `HalfCheetah`; empty where it is none that is
    known.
    """
    head = re.sub(r"-v\d+$", "", re.split(r"[/:]", re.sub(r"/[^/]*=.*", "", text))[-1])
    return _robots().get(head, "")


@cache
def _robots() -> dict[str, str]:
    titles = {name: "".join(word.capitalize() for word in name.split("_")) for name in BUILT_IN}
    both = {
        name: re.sub(r"-v\d+$", "", find_task(name).reference or title)
        for name, title in titles.items()
    }
    return both | {title: title for title in both.values()}


def check_fits(ours: Domain, theirs: Domain) -> None:
    """Raise BadValue where a policy that learned in `ours` cannot act in `theirs`: other sizes, or
    another robot.
    """
    sizes = [(d.spaces.observation, d.spaces.action) for d in (ours, theirs)]
    if sizes[0] != sizes[1]:
        (o, a), (n, m) = sizes
        raise BadValue(
            f"the policy takes {o} observations to {a} actions; {theirs} has {n} and {m}"
        )
    known = [robot(str(d)) for d in (ours, theirs)]
    if all(known) and known[0] != known[1]:
        raise BadValue(f"the policy learned on a {known[0]}; {theirs} is another robot")


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """The names and values of `name=value,...`. Raises BadValue."""
    for part in filter(None, re.split(r"[,\s]+", decode_text(text))):
        name, _, value = part.partition("=")
        if not name or not value:
            raise BadValue(f"{part!r} is no setting; write name=value, for instance gravity=x2")
        yield name, value


@lru_cache(maxsize=64)
def _salts(names: tuple[str, ...]) -> np.ndarray:
    """What keeps the draws of parameters apart, uint64 [P]."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)


def _build(domain: Domain, n: int, purpose: str) -> Simulation:
    return domain.build(n)


_simulation = ThreadCache(_build, maxsize=8)
