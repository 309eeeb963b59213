"""Gymnasium both ways: our domains as its environments, its environments as our domains.

    gymnasium.make("isthmus.domains.gym:isthmus/Hopper-v0")                        importing this module registers ids
    gymnasium.make("isthmus.domains.gym:isthmus/Domain-v0", domain="hopper/gravity=x2")
    gymnasium.make_vec("isthmus.domains.gym:isthmus/Hopper-v0", num_envs=64,
    autoreset_mode="SameStep")

    Domain.parse("gym:Hopper-v5")                                                  any Gymnasium id
    Domain.parse("my_robot:make/action_delay=2,time_limit=500,step_seconds=0.05")  any function that makes one

In the second direction the settings follow the last `/`; a Gymnasium id may hold others
(`gym:namespace/Name-v0`).
"""

from __future__ import annotations

import importlib
import math
import os
import secrets
import sys
import traceback
import warnings
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box, Dict, Tuple
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from isthmus.domains.domain import Domain, PhysicsSimulation, Simulation, pairs
from isthmus.domains.effects import EFFECTS
from isthmus.domains.foreign_contract import (
    Step,
    call_environment,
    check_reset,
    check_step,
    declared_limit,
    read_success,
)
from isthmus.domains.rollout import SteppedWorlds
from isthmus.domains.simulated_time import find_clocks, is_simulation, measure_clocks, measure_gain
from isthmus.physics.concurrency import ThreadList
from isthmus.physics.parameters import Parameter, find_parameter
from isthmus.physics.random import Single, keys
from isthmus.tasks import task as tasks
from isthmus.types import BadValue, IsthmusError, Spaces, UnknownName, describe_error

# Ours to Gymnasium


class CannotRender(IsthmusError):
    """This machine, or this domain, has no pictures to give."""


class Camera:
    """Looks at the worlds of a simulation of ours and follows the robot. Raises CannotRender where
    nothing renders.
    """

    def __init__(self, simulation: Simulation, width: int = 480, height: int = 480):
        if not isinstance(simulation, PhysicsSimulation):
            raise CannotRender(
                "only our own tasks can be rendered: a foreign environment draws its own pictures"
            )
        self.simulator = simulation.simulator
        model = self.simulator.model
        self.data = mujoco.MjData(model)
        self.camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self.camera)
        self.camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        bodies = [model.body(i).name for i in range(model.nbody)]
        self.camera.trackbodyid = tasks.find_main_body(simulation.task, bodies)
        mujoco.mj_forward(model, self.data)
        parts = np.flatnonzero(model.geom_bodyid)
        low, high = self.data.geom_xpos[parts].min(0), self.data.geom_xpos[parts].max(0)
        reach = np.linalg.norm(high - low) / 2 + model.geom_rbound[parts].max()
        flat = (high - low)[2] < 0.1 * np.linalg.norm(high - low)
        self.camera.distance, self.camera.elevation = (4 * reach, -50) if flat else (3 * reach, -15)
        try:
            from mujoco.rendering.classic import gl_context

            if sys.platform == "linux" and not any(
                map(os.environ.get, ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"))
            ):
                # MuJoCo chose a window system when it was imported; without a screen only EGL can
                # work.
                from mujoco.egl import GLContext

                gl_context.GLContext = GLContext
            self.renderer = mujoco.Renderer(model, height, width)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CannotRender(
                f"nothing renders here ({reason}); install a graphics driver with EGL, such as "
                "Mesa's libegl1, or set "
                "MUJOCO_GL to egl, osmesa or glfw, whichever this machine has"
            ) from error

    def frame(self, world: int = 0) -> np.ndarray:
        """What the camera sees of one world, uint8 [height, width, 3]."""
        self.data.qpos[:] = self.simulator.qpos[world]
        mujoco.mj_forward(self.simulator.model, self.data)
        self.renderer.update_scene(self.data, self.camera)
        return self.renderer.render()

    def close(self) -> None:
        self.renderer.close()


def _box(space: Spaces) -> tuple[Box, Box]:
    """Observation and action space of one world."""
    return Box(-np.inf, np.inf, (space.observation,), np.float64), Box(
        space.low, space.high, dtype=np.float32
    )


def _given(domain: Domain, n: int, options: Mapping[str, Any] | None) -> np.ndarray | None:
    """Dynamics [n, P] from `options["parameters"]`, name -> value or values (n,); NaN where they
    are to be drawn.
    """
    asked = (options or {}).get("parameters")
    if asked is None:
        return None
    values = np.full((n, len(domain.names)), np.nan)
    for name, value in asked.items():
        parameter = find_parameter(domain.table(), name, domain.task)
        if name not in domain.names:
            raise BadValue(
                f"{name} is fixed in {domain}; to set it, name the domain "
                f"{domain.shift(name + '=x1')}"
            )
        for v in np.ravel(value):
            parameter.check(float(v))
        values[:, domain.names.index(name)] = value
    return values


def _moment(live: SteppedWorlds, ids: np.ndarray) -> dict[str, Any]:
    """What an info says at any time; arrays (n,)."""
    parameters = live.state["parameters"][ids]
    return {
        "parameters": {name: parameters[:, i] for i, name in enumerate(live.domain.names)},
        "forward": live.simulation.progress(ids),
    }


def _after(live: SteppedWorlds, ids: np.ndarray, diverged: np.ndarray) -> dict[str, Any]:
    """What an info says after a step; arrays (n,)."""
    terms = {name: np.array(value) for name, value in live.simulation.terms.items()}
    return {
        "reward_terms": terms,
        **_moment(live, ids),
        "diverged": live.state["diverged"][ids] > diverged,
    }


def _first(info: Mapping[str, Any]) -> dict[str, Any]:
    """The info of one world out of that of a batch of one."""
    return {k: _first(v) if isinstance(v, dict) else v[0].item() for k, v in info.items()}


class Environment(gymnasium.Env):
    """One world of a domain as a Gymnasium environment.

    Observations are float64 (O,), actions float32 (A,). `reset(seed=...)` starts a built-in task
    exactly as Gymnasium's v5 does; laws and effects draw from streams of their own.
    `reset(options={"parameters": {"torso_mass": 6}})` fixes dynamics that the domain varies for
    this episode. Infos hold `reward_terms`, `parameters`, `forward` (the task's own measure of
    progress) and `diverged`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(
        self, domain: str, render_mode: str | None = None, width: int = 480, height: int = 480
    ):
        self.domain = Domain.parse(domain)
        self.render_mode, self.size = render_mode, (width, height)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.domain.step_seconds)}
        self.observation_space, self.action_space = _box(self.domain.spaces)
        self.live = SteppedWorlds.idle(self.domain, self.domain.build(1), keys(0, 1))
        self._camera: Camera | None = None
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        live = self.live
        if seed is not None or not self._seeded:
            live.rekey(live.all, keys(self.np_random_seed, 1))
            self._seeded = True
        live.begin(live.all, _given(self.domain, 1, options), Single(self.np_random))
        return live.state["observation"][0].copy(), _first(_moment(live, live.all))

    def step(self, action):
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise BadValue(f"an action has shape {self.action_space.shape}, not {action.shape}")
        live = self.live
        diverged = live.state["diverged"].copy()
        reward, terminated, truncated = live.step(live.all, action[None])
        info = _first(_after(live, live.all, diverged))
        return (
            live.state["observation"][0].copy(),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            info,
        )

    def render(self):
        if self.render_mode is None:
            return None
        self._camera = self._camera or Camera(self.live.simulation, *self.size)
        return self._camera.frame()

    @property
    def simulated_time(self) -> float:
        """Seconds of the robot that all of its episodes have taken."""
        return int(self.live.state["total"][0]) * self.domain.step_seconds

    def close(self):
        if self._camera:
            self._camera.close()
            self._camera = None


class VectorEnvironment(gymnasium.vector.VectorEnv):
    """N worlds of a domain as one Gymnasium vector environment, stepped in one batch.

    Autoreset modes are Gymnasium's: NEXT_STEP (a finished world ignores the next action and begins
    anew, with reward 0), SAME_STEP (it begins anew at once; `final_obs` and `final_info` hold the
    end) and DISABLED (it waits for `reset(options={"reset_mask": ...})`). Options and infos as in
    `Environment`, values (num_envs,).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        num_envs: int,
        domain: str,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ):
        self.domain, self.num_envs = Domain.parse(domain), num_envs
        self.mode = AutoresetMode(autoreset_mode)
        self.render_mode, self.size = render_mode, (width, height)
        fps = round(1 / self.domain.step_seconds)
        self.metadata = {**self.metadata, "render_fps": fps, "autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = _box(self.domain.spaces)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.live = SteppedWorlds.idle(self.domain, self.domain.build(num_envs), keys(0, num_envs))
        if max_episode_steps is not None:
            self.live.simulation.time_limit = max_episode_steps
        self.ended = np.zeros(num_envs, bool)  # finished, and not begun anew yet
        self._camera: Camera | None = None
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        live, mask = self.live, (options or {}).get("reset_mask")
        ids = live.all if mask is None else np.flatnonzero(self._checked(mask))
        if seed is not None or not self._seeded:
            live.rekey(ids, keys(int(self.np_random_seed or 0), self.num_envs)[ids])
            self._seeded = True
        given = _given(self.domain, self.num_envs, options)
        self._begin(ids, None if given is None else given[ids])
        return live.state["observation"].copy(), self._spread({}, ids, _moment(live, ids))

    def _checked(self, mask: Any) -> np.ndarray:
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != bool
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise BadValue(
                f"reset_mask is a NumPy array of bool, shape ({self.num_envs},), with at least one "
                "True"
            )
        if not self._seeded:
            raise gymnasium.error.ResetNeeded(
                "a first reset() is of all environments, without a reset_mask"
            )
        return mask

    def _begin(self, ids: np.ndarray, parameters: np.ndarray | None = None) -> None:
        self.live.begin(ids, parameters)
        self.ended[ids] = False

    def step(self, actions):
        actions, live = np.asarray(actions), self.live
        if actions.shape != self.action_space.shape:
            raise BadValue(f"actions have shape {self.action_space.shape}, not {actions.shape}")
        if not self._seeded:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self.mode == AutoresetMode.DISABLED and self.ended.any():
            raise gymnasium.error.ResetNeeded(
                f"reset the finished environments {np.flatnonzero(self.ended)} first"
            )
        infos: dict[str, Any] = {}
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)

        again, ids = np.flatnonzero(self.ended), np.flatnonzero(~self.ended)
        if len(ids):
            diverged = live.state["diverged"][ids]
            rewards[ids], terminated[ids], truncated[ids] = live.step(ids, actions[ids])
            self.ended[ids] = terminated[ids] | truncated[ids]
            after = _after(live, ids, diverged)
            last = self.ended[ids] & (self.mode == AutoresetMode.SAME_STEP)
            self._spread(infos, ids[~last], _some(after, ~last))
            if last.any():
                again = ids[last]
                infos["final_obs"] = np.full(self.num_envs, None, object)
                for i in again:
                    infos["final_obs"][i] = live.state["observation"][i].copy()
                infos["_final_obs"] = np.isin(live.all, again)
                self._spread(infos, again, {"final_info": _some(after, last)})
        if len(again):
            self._begin(again)
            self._spread(infos, again, _moment(live, again))
        return live.state["observation"].copy(), rewards, terminated, truncated, infos

    def _spread(
        self, infos: dict[str, Any], ids: np.ndarray, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add the values (n, ...) of environments `ids` to Gymnasium's vector infos: `key` and the
        mask `_key`.
        """
        for key, value in values.items() if len(ids) else ():
            if isinstance(value, dict):
                infos[key] = self._spread(infos.get(key, {}), ids, value)
            else:
                infos.setdefault(key, np.zeros(self.num_envs, value.dtype))[ids] = value
            infos.setdefault(f"_{key}", np.zeros(self.num_envs, bool))[ids] = True
        return infos

    def render(self):
        if self.render_mode is None:
            return None
        self._camera = self._camera or Camera(self.live.simulation, *self.size)
        return tuple(self._camera.frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any):
        if self._camera:
            self._camera.close()
            self._camera = None


def _some(values: Mapping[str, Any], where: np.ndarray) -> dict[str, Any]:
    return {k: _some(v, where) if isinstance(v, dict) else v[where] for k, v in values.items()}


def _register() -> None:
    points: Any = {
        "entry_point": f"{__name__}:Environment",
        "vector_entry_point": f"{__name__}:VectorEnvironment",
    }
    for name in tasks.BUILT_IN:
        title = "".join(word.capitalize() for word in name.split("_"))
        limit = tasks.find_task(name).time_limit
        gymnasium.register(
            f"isthmus/{title}-v0", **points, kwargs={"domain": name}, max_episode_steps=limit
        )
    gymnasium.register("isthmus/Domain-v0", **points)


_register()


# Gymnasium to ours


class _Facts(NamedTuple):
    """What an environment says of itself, before anything moves."""

    spaces: Spaces
    time_limit: int | None
    timed: bool  # it holds simulated time
    simulated: bool  # it is known to be a simulation, and may be moved for a measurement
    declared: dict[
        str, float
    ]  # what it says of a step's length, which may be another wrapper's or the pictures'


@dataclass(frozen=True)
class ForeignDomain(Domain):
    """Somebody else's environment as a domain: `gym:ID`, or `module:function` for a function that
    returns one.

    Its physics has no parameters by name; effects apply to it as to ours, but `weak_motors` scales
    the action, whatever that means there. `time_limit` (steps) needs to be written where the
    environment declares none, `step_seconds` where it holds no simulated time or is not known to be
    a simulation (`isthmus.domains.simulated_time`). Otherwise, where none is written, one instance
    is rehearsed when the seconds are first needed: its step is measured, and its contract held to.
    Any other might be a robot: it does not move before that is counted. A module is imported when
    the environment is first needed, and only if the text is `trusted` or the module already
    imported. Its worlds cannot be put back as they were, unless the environments that hold them
    have not moved since; each thread has environments of its own, so worlds that another thread
    continues begin a new episode there.
    """

    limit: int | None = None
    seconds: float | None = None
    trusted: bool = field(default=True, compare=False)

    @staticmethod
    def read(text: str, trusted: bool = True) -> ForeignDomain:
        """Read `gym:ID/name=value,...` or `module:function/name=value,...`. Raises UnknownName or
        BadValue.
        """
        head, slash, rest = text.rpartition("/")
        task, settings = (head, rest) if slash and "=" in rest else (text, "")
        module, _, name = task.partition(":")
        if module != "gym" and not all(
            part.isidentifier() for part in (*module.split("."), *name.split("."))
        ):
            raise BadValue(f"{task!r} is no environment; write gym:ID or module:function")
        domain = ForeignDomain(task, trusted=trusted)
        if module == "gym" and ":" not in name and name not in gymnasium.registry:
            raise UnknownName("Gymnasium environment", name, gymnasium.registry)
        return domain.shift(settings)

    def shift(self, text: str) -> ForeignDomain:
        domain, rest = self, []
        for name, value in pairs(text):
            if name == "time_limit":
                if not value.isdigit() or int(value) < 1:
                    raise BadValue(f"time_limit={value}: needs a whole number of steps, 1 or more")
                domain = replace(domain, limit=int(value))
            elif name == "step_seconds":
                try:
                    seconds = float(value)
                except ValueError:
                    seconds = math.nan
                if not 0 < seconds < math.inf:
                    raise BadValue(f"step_seconds={value}: needs a number above 0")
                domain = replace(domain, seconds=seconds)
            elif name in EFFECTS or name == "episodes_per_task":
                rest.append(f"{name}={value}")
            else:
                known = [*EFFECTS, "episodes_per_task", "time_limit", "step_seconds"]
                raise UnknownName(f"setting of {self.task}, whose physics is not ours", name, known)
        return super(ForeignDomain, domain).shift(",".join(rest))  # pyright: ignore[reportReturnType]

    def _parts(self) -> list[str]:
        parts = super()._parts()
        if self.limit is not None:
            parts.append(f"time_limit={self.limit}")
        if self.seconds is not None:
            parts.append(f"step_seconds={self.seconds!r}")
        return parts

    def without_settings(self) -> ForeignDomain:
        return replace(self, effects=(), episodes_per_task=1)

    def with_reward(self, reward: str) -> ForeignDomain:
        return self  # its reward is its own

    def table(self) -> dict[str, Parameter]:
        return {}

    def action_scales_force(self) -> bool:
        return True  # nobody knows its motors: `weak_motors` scales the action

    @property
    def replayable(self) -> bool:
        return False

    @property
    def facts(self) -> _Facts:
        """What the environment says of itself; nothing moves. Raises UnknownName or BadValue, in
        one line.
        """
        if not self.trusted:
            _check_imported(self.task)
        return _facts(self.task)

    @property
    def step_seconds(self) -> float:
        """Seconds a step lasts on the robot: as written, else measured, which rehearses one
        instance.

        Where it can be neither: as a run's environment declares it, if the text is not `trusted`;
        else raises BadValue.
        """
        if self.seconds:
            return self.seconds
        found = self._not_measurable() or _rehearsed(self.task)
        return self._declared_seconds(found) if isinstance(found, str) else found

    @property
    def stated_seconds(self) -> float:
        return self.seconds or math.nan

    def check_timed(self) -> None:
        if self.trusted and not self.seconds and (reason := self._not_measurable()):
            raise self._seconds_missing(reason)

    def ready(self, moved: bool = True) -> None:
        """As of any domain. Where it is to be `moved` and its step has to be measured, it is
        rehearsed now.

        Raises BadValue where a step's seconds need to be written, or the contract is broken.
        """
        _ = self.spaces
        if moved:
            _ = self.step_seconds

    def _not_measurable(self) -> str:
        """Why a step cannot be measured, or not without moving what may be a robot; empty where it
        can.
        """
        facts = self.facts
        if not facts.timed:
            return "holds no simulated time that would say how long a step lasts"
        if not facts.simulated:
            return (
                "holds MuJoCo's data, as a robot's environment may too, and is not moved to "
                "measure a step unless it "
                "declares an attribute simulated_time, in seconds"
            )
        return ""

    def _seconds_missing(self, reason: str) -> BadValue:
        words = ", ".join(f"{name} {value:g}" for name, value in self.facts.declared.items())
        hint = f" (its {words} may be something else)" if words else ""
        return BadValue(f"{self.task} {reason}{hint}; write {self.task}/step_seconds=SECONDS")

    def _declared_seconds(self, reason: str) -> float:
        """A step's seconds as a run of an older version took them. Raises BadValue where that is no
        such run's.
        """
        declared = self.facts.declared
        if self.trusted or not declared:
            raise self._seconds_missing(reason)
        name, value = next(iter(declared.items()))
        seconds = value if name == "dt" else 1 / value
        if self.task not in _warned:
            _warned.add(self.task)
            warnings.warn(
                f"{self.task} {reason}, and the run's problem says no step_seconds: {seconds:g} s "
                "are taken for a "
                f"step, from its {name}, as older versions did",
                stacklevel=3,
            )
        return seconds

    @property
    def time_limit(self) -> int:
        limits = [limit for limit in (self.limit, self.facts.time_limit) if limit]
        if not limits:
            raise BadValue(
                f"{self.task} declares no time limit; write {self.task}/time_limit=STEPS"
            )
        return min(limits)

    def inner_spaces(self) -> Spaces:
        _ = self.time_limit  # where it is missing, that should be said now, not amid training
        return self.facts.spaces

    def description(self) -> tasks.Task:
        names = tuple(str(i) for i in range(self.inner_spaces().observation))
        facts = {"name": self.task, "observation_names": names, "time_limit": self.time_limit}
        return type("ForeignTask", (tasks.Task,), facts)()

    def simulation(
        self, n: int, purpose: str = "collect", rows: np.ndarray | None = None
    ) -> Simulation:
        return _simulation(self, n, rows)

    def build(self, n: int) -> Simulation:
        return ForeignSimulation(self, n)


def _imported(name: str) -> ModuleType | None:
    """A module that is imported: under its name, or as a file that the user named with --import."""
    files = (
        module
        for key, module in list(sys.modules.items())  # another thread may import meanwhile
        if key.startswith("isthmus_import_") and Path(module.__file__ or "").stem == name
    )
    return sys.modules.get(name) or next(files, None)


def _check_imported(task: str) -> None:
    """Raise BadValue where making an environment would import a module that nobody imported."""
    module, _, name = task.partition(":")
    code = module if module != "gym" else name.rpartition(":")[0]
    if code and not _imported(code):
        raise BadValue(
            f"{task} would import {code}; to allow that, import it yourself or name it with "
            "--import"
        )


def _make(task: str) -> gymnasium.Env:
    """Build one environment. Raises UnknownName or BadValue, in one line."""
    module, _, name = task.partition(":")
    try:
        if module == "gym":
            env: Any = gymnasium.make(name, disable_env_checker=True)
        else:
            env = _imported(module) or importlib.import_module(module)
            for part in name.split("."):
                if not hasattr(env, part):
                    raise UnknownName(
                        f"function of {module}", name, [n for n in dir(env) if n[0] != "_"]
                    )
                env = getattr(env, part)
            env = env()
    except IsthmusError:
        raise
    except ModuleNotFoundError as error:
        raise BadValue(f"{task} could not be made: {error}; name its file with --import") from error
    except Exception as error:
        raise BadValue(
            f"{task} could not be made: {describe_error(error)}{_known_fault(error)}"
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise BadValue(f"{task} returns a {type(env).__name__}; it must return one gymnasium.Env")
    return env


def _known_fault(error: BaseException) -> str:
    """What is known of an error of somebody else's library, to be added to its line."""
    frames = traceback.extract_tb(error.__traceback__)
    robotics = any("gymnasium_robotics" in Path(frame.filename).parts for frame in frames)
    if not (
        robotics
        and isinstance(error, AssertionError)
        and int(mujoco.__version__.partition(".")[0]) >= 4
    ):
        return ""
    return (
        "; gymnasium_robotics up to 1.4.2 does not work with MuJoCo 4 here: there an enum compares "
        "unequal to the "
        "number in the model (enum == number, which it asks by `in`); it needs a newer version, or "
        "one that is mended"
    )


_spare: dict[
    str, gymnasium.Env
] = {}  # the environment that was asked for its facts becomes the first world's

_first_made: dict[str, weakref.ref[gymnasium.Env]] = {}  # the same, bare, also when a world has it
_warned: set[str] = set()  # tasks of which it was said that a step's seconds are the declared ones


@lru_cache(maxsize=64)
def _facts(task: str) -> _Facts:
    env = _make(task)
    for what, space in (("observations", env.observation_space), ("actions", env.action_space)):
        if not (isinstance(space, Box) and len(space.shape) == 1 and space.dtype.kind == "f"):
            parts = isinstance(space, Dict | Tuple) and what == "observations"
            way = (
                "; gymnasium.wrappers.FlattenObservation makes one, in a module:function of yours"
                if parts
                else ""
            )
            raise BadValue(
                f"{task} has {what} {space}: only a Box of floats with one axis can be used "
                f"here{way}"
            )
    assert isinstance(env.action_space, Box) and env.observation_space.shape
    low, high = (
        np.asarray(bound, np.float32) for bound in (env.action_space.low, env.action_space.high)
    )
    if not np.isfinite([low, high]).all():
        raise BadValue(f"{task} has unbounded actions; give them bounds by a wrapper")
    _spare[task], _first_made[task] = env, weakref.ref(env.unwrapped)
    spaces = Spaces(env.observation_space.shape[0], low, high)
    return _Facts(
        spaces, declared_limit(env), bool(find_clocks(env)), is_simulation(env), _declared(env)
    )


def _declared(env: gymnasium.Env) -> dict[str, float]:
    """What an environment declares of its pace, by name."""
    said = {"dt": getattr(env.unwrapped, "dt", None), "render_fps": env.metadata.get("render_fps")}
    numbers = {
        name: float(value)
        for name, value in said.items()
        if isinstance(value, float | int | np.number)
    }
    return {name: value for name, value in numbers.items() if 0 < value < math.inf}


@lru_cache(maxsize=64)
def _rehearsed(task: str) -> float | str:
    """Rehearse an instance that no world gets; the simulated seconds of a step, or why they cannot
    be told.
    """
    env = _make(task)
    first = _first_made.get(task)
    if first is not None and first() is env.unwrapped:
        return (
            "returns the same environment again, and a world's own is not moved to measure a step"
        )
    try:
        seconds = measure_clocks(task, env)
    finally:
        env.close()
    return (
        "has a simulated time that does not move by one and the same amount each step"
        if seconds is None
        else seconds
    )


class ForeignSimulation:
    """N environments, each stepped and reset by name: no autoreset, so that every observation is a
    true next state.

    `rows` (n, 2) hold no state, only what tells whether this simulation still is where a value of
    worlds left it: its token, and how often each environment has moved. Episodes are seeded by the
    worlds' own streams.
    """

    def __init__(self, domain: ForeignDomain, n: int):
        spaces = domain.inner_spaces()
        self.domain, self.time_limit, self.shape = domain, domain.time_limit, (spaces.observation,)
        spared = _spare.pop(domain.task, None)  # at once: another thread may ask for it
        spare = [] if spared is None else [spared]
        self.envs = [*spare, *(_make(domain.task) for _ in range(n - len(spare)))]
        if len({id(env.unwrapped) for env in self.envs}) < n:
            raise BadValue(
                f"{domain.task} returns the same environment again; {n} worlds need {n} "
                "environments"
            )
        # Learners see the bounds in float32; an environment's own may lie between two of those
        # numbers.
        space: Any = self.envs[0].action_space
        self.low, self.high, self.dtype = space.low, space.high, space.dtype
        # Whether simulated time, if there is any, is still to be compared with what is written.
        self.seconds_unchecked = domain.seconds is not None
        self.terms: Mapping[str, np.ndarray] = {}
        self.rows = np.zeros((n, 2))
        self.rows[:, 0] = secrets.randbits(53)  # what a float64 holds exactly
        self.forward = np.full(n, np.nan)
        self.success = np.zeros(n, bool)
        self._closing = weakref.finalize(self, _close_all, self.envs)  # at the process's end, too

    def holds(self, rows: np.ndarray) -> bool:
        return np.array_equal(rows, self.rows)

    def restore(self, rows, parameters):
        return self.holds(rows)

    def begin(self, ids, parameters, random):
        seeds = (random.uniform(0, 1, 1)[:, 0] * 2**31).astype(int)
        self.rows[ids, 1] += 1
        results = [self._reset(i, int(seed)) for i, seed in zip(ids, seeds, strict=True)]
        self._read(ids, [info for _, info in results])
        return np.array([obs for obs, _ in results], np.float64), np.empty((len(ids), 0))

    def _reset(self, i: int, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        result = call_environment(self.domain.task, "reset", lambda: self.envs[i].reset(seed=seed))
        return check_reset(self.domain.task, result, self.shape)

    def neutral_action(self, ids):
        """What an environment would call neutral is not known: the action nearest to zero."""
        return np.tile(np.clip(0.0, self.low, self.high), (len(ids), 1))

    def step(self, ids, applied, commanded, memory):
        self.rows[ids, 1] += 1
        # The bounds are numbers of the space's own precision: what is clipped first is within them
        # once it is rounded.
        actions = np.clip(np.asarray(applied, np.float64), self.low, self.high).astype(self.dtype)
        steps = [self._step(i, action) for i, action in zip(ids, actions, strict=True)]
        obs = np.array([step.observation for step in steps], np.float64)
        reward = np.array([step.reward for step in steps])
        self._read(ids, [step.info for step in steps])
        diverged = ~(np.isfinite(obs).all(1) & np.isfinite(reward))
        self.terms = {"reward": reward}
        terminated = np.array([step.terminated for step in steps])
        truncated = np.array([step.truncated for step in steps])
        return obs, reward, terminated, truncated, diverged, memory

    def _step(self, i: int, action: np.ndarray) -> Step:
        env = self.envs[i]
        if not self.seconds_unchecked:
            result = call_environment(self.domain.task, "step", lambda: env.step(action))
            return check_step(self.domain.task, result, self.shape)
        self.seconds_unchecked = False
        clocks = find_clocks(env)
        before = [clock() for clock in clocks]
        result = call_environment(self.domain.task, "step", lambda: env.step(action))
        self._compare_seconds(measure_gain(before, [clock() for clock in clocks]))
        return check_step(self.domain.task, result, self.shape)

    def _compare_seconds(self, measured: float | None) -> None:
        """Warn where a step's simulated time is not what is written; what is written holds."""
        written = self.domain.step_seconds
        if measured is not None and not math.isclose(measured, written, rel_tol=1e-6):
            warnings.warn(
                f"{self.domain.task}: step_seconds={written:g} is written, and a step took "
                f"{measured:g} s of simulated "
                "time; what is written counts",
                stacklevel=2,
            )

    def _read(self, ids: np.ndarray, infos: list[Mapping[str, Any]]) -> None:
        self.forward[ids] = [info.get("x_position", np.nan) for info in infos]
        self.success[ids] = [read_success(self.domain.task, info) for info in infos]

    def progress(self, ids):
        """Metres forward where the environment reports `x_position`; else NaN."""
        return self.forward[ids]

    def at_goal(self, ids):
        """Where the last info says so by `success` or `is_success`."""
        return self.success[ids]

    def close(self) -> None:
        self._closing()


def _close_all(envs: list[gymnasium.Env]) -> None:
    for env in envs:
        with suppress(
            Exception
        ):  # what holds a robot's connection should end, whatever the others do
            env.close()


_live: ThreadList[ForeignSimulation] = ThreadList()  # the least recently used first


def _simulation(domain: ForeignDomain, n: int, rows: np.ndarray | None) -> ForeignSimulation:
    """The simulation that holds `rows`; else one that is new, or has long not been used.

    Several are kept, since training in a source, training in a target and evaluation may all use
    equal environments at the same time, each of which must find its own again.
    """
    same = [s for s in _live if s.domain == domain and len(s.envs) == n]
    found = next((s for s in same if rows is not None and s.holds(rows)), None)
    found = found or (same[0] if len(same) == 3 else ForeignSimulation(domain, n))
    if found in _live:
        _live.remove(found)
    elif len(_live) == 8:
        _live.pop(0).close()
    _live.append(found)
    return found
