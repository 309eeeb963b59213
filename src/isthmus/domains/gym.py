"""Our domains as Gymnasium's environments; importing this module registers their ids.

    gymnasium.make("isthmus.domains.gym:isthmus/Hopper-v0")
    gymnasium.make("isthmus.domains.gym:isthmus/Domain-v0", domain="hopper/gravity=x2")
    gymnasium.make_vec("isthmus.domains.gym:isthmus/Hopper-v0", num_envs=64,
                       autoreset_mode="SameStep")

The other way, Gymnasium's environments as domains, is `isthmus.domains.foreign`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from isthmus.domains.domain import Domain
from isthmus.domains.gym_ids import register_ids
from isthmus.domains.parse import parse_domain
from isthmus.domains.physics_simulation import PhysicsSimulation
from isthmus.domains.simulation import Simulation
from isthmus.domains.stepped_worlds import SteppedWorlds
from isthmus.physics.parameters import find_parameter
from isthmus.physics.random import Single, keys
from isthmus.rendering import CannotRender, RobotCamera
from isthmus.types import BadValue, Spaces

Info = dict[str, Any]
"""Of Gymnasium: numbers of one world or arrays of several, by name, in groups."""


def _open_camera(simulation: Simulation, size: tuple[int, int]) -> RobotCamera:
    """Return a camera on a simulation of ours. Raises CannotRender for a foreign one, and where
    nothing renders.
    """
    if not isinstance(simulation, PhysicsSimulation):
        raise CannotRender(
            "only our own tasks can be rendered: a foreign environment draws its own pictures"
        )
    return RobotCamera(simulation, size)


def _make_boxes(spaces: Spaces) -> tuple[Box, Box]:
    """Return the observation and the action space of one world."""
    observations = Box(-np.inf, np.inf, (spaces.observation,), np.float64)
    return observations, Box(spaces.low, spaces.high, dtype=np.float32)


def _read_parameters(domain: Domain, n: int, options: Mapping[str, Any] | None) -> np.ndarray:
    """Return dynamics [n, P] of `options["parameters"]`, name -> value or values (n,).

    NaN where they are to be drawn. Raises BadValue for a parameter that the domain fixes.
    """
    values = np.full((n, len(domain.names)), np.nan)
    for name, value in (_get_option(options, "parameters") or {}).items():
        parameter = find_parameter(domain.parameter_table(), name, domain.task)
        if name not in domain.names:
            raise BadValue(
                f"{name} is fixed in {domain}; to set it, name the domain "
                f"{domain.shift(name + '=x1')}"
            )
        for number in np.ravel(value):
            parameter.check(float(number))
        values[:, domain.names.index(name)] = value
    return values


def _get_option(options: Mapping[str, Any] | None, name: str) -> Any:
    return None if options is None else options.get(name)


def _reset_info(live: SteppedWorlds, ids: np.ndarray) -> Info:
    """Return what an info says at any time; arrays (n,)."""
    parameters = live.state["parameters"][ids]
    return {
        "parameters": {name: parameters[:, i] for i, name in enumerate(live.domain.names)},
        "forward": live.simulation.progress(ids),
    }


def _step_info(live: SteppedWorlds, ids: np.ndarray, diverged: np.ndarray) -> Info:
    """Return what an info says after a step, before which so many had `diverged`; arrays (n,)."""
    terms = {name: np.array(value) for name, value in live.simulation.terms.items()}
    return {
        "reward_terms": terms,
        **_reset_info(live, ids),
        "diverged": live.state["diverged"][ids] > diverged,
    }


def _unbatch(info: Info) -> Info:
    """Return the info of one world out of that of a batch of one."""
    return {k: _unbatch(v) if isinstance(v, dict) else v[0].item() for k, v in info.items()}


class Environment(gymnasium.Env):
    """One world of a domain as a Gymnasium environment.

    Observations are float64 (O,), actions float32 (A,). `reset(seed=...)` starts a built-in task
    exactly as Gymnasium's v5 does; distributions and effects draw from streams of their own.
    `reset(options={"parameters": {"torso_mass": 6}})` fixes dynamics that the domain varies for
    this episode. Infos hold `reward_terms`, `parameters`, `forward` (the task's own measure of
    progress) and `diverged`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, domain: str, render_mode: str | None = None, width: int = 480, height: int = 480
    ):
        self.domain = parse_domain(domain)
        self.render_mode, self.size = render_mode, (width, height)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.domain.step_seconds)}
        self.observation_space, self.action_space = _make_boxes(self.domain.spaces)
        self.live = SteppedWorlds.idle(self.domain, self.domain.build(1), keys(0, 1))
        self._camera: RobotCamera | None = None
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin an episode; return the observation (O,) and an info."""
        super().reset(seed=seed)
        live = self.live
        if seed is not None or not self._seeded:
            live.rekey(live.all, keys(self.np_random_seed, 1))
            self._seeded = True
        parameters = _read_parameters(self.domain, 1, options)
        live.begin(live.all, parameters, Single(self.np_random))
        return live.state["observation"][0].copy(), _unbatch(_reset_info(live, live.all))

    def step(self, action):
        """Step by an action (A,); return observation, reward, terminated, truncated and info."""
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise BadValue(f"an action has shape {self.action_space.shape}, not {action.shape}")
        live = self.live
        diverged = live.state["diverged"].copy()
        outcome = live.step(live.all, commanded=action[None])
        return (
            live.state["observation"][0].copy(),
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            _unbatch(_step_info(live, live.all, diverged)),
        )

    def render(self):
        """Return a picture, uint8 [height, width, 3], where a render mode is set."""
        if self.render_mode is None:
            return None
        if self._camera is None:
            self._camera = _open_camera(self.live.simulation, self.size)
        return self._camera.frame()

    @property
    def simulated_time(self) -> float:
        """Seconds of the robot that all of its episodes have taken."""
        return int(self.live.state["total"][0]) * self.domain.step_seconds

    def close(self):
        """Close the camera."""
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

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

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
        self.domain, self.num_envs = parse_domain(domain), num_envs
        self.mode = AutoresetMode(autoreset_mode)
        self.render_mode, self.size = render_mode, (width, height)
        fps = round(1 / self.domain.step_seconds)
        self.metadata = {**self.metadata, "render_fps": fps, "autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = _make_boxes(self.domain.spaces)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.live = SteppedWorlds.idle(self.domain, self.domain.build(num_envs), keys(0, num_envs))
        if max_episode_steps is not None:
            self.live.simulation.time_limit = max_episode_steps
        self.ended = np.zeros(num_envs, bool)  # finished, and not begun anew yet
        self._camera: RobotCamera | None = None
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin episodes, of the environments `options["reset_mask"]` if it is given.

        Return observations (num_envs, O) and infos.
        """
        super().reset(seed=seed)
        live, ids = self.live, self._select(_get_option(options, "reset_mask"))
        if seed is not None or not self._seeded:
            live.rekey(ids, keys(int(self.np_random_seed or 0), self.num_envs)[ids])
            self._seeded = True
        parameters = _read_parameters(self.domain, self.num_envs, options)
        self._begin(ids, parameters[ids])
        return live.state["observation"].copy(), self._spread({}, ids, _reset_info(live, ids))

    def _select(self, mask: Any) -> np.ndarray:
        """Return the environments of a reset mask, all where there is none."""
        if mask is None:
            return self.live.all
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not is_mask or mask.shape != (self.num_envs,) or not mask.any():
            raise BadValue(
                f"reset_mask is a NumPy array of bool, shape ({self.num_envs},), with at least one "
                "True"
            )
        if not self._seeded:
            raise gymnasium.error.ResetNeeded(
                "a first reset() is of all environments, without a reset_mask"
            )
        return np.flatnonzero(mask)

    def _begin(self, ids: np.ndarray, parameters: np.ndarray | None = None) -> None:
        self.live.begin(ids, parameters)
        self.ended[ids] = False

    def step(self, actions):
        """Step by actions (num_envs, A); return Gymnasium's five values, one row an environment."""
        actions = np.asarray(actions)
        self._check_step(actions)
        infos: Info = {}
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        again, ids = np.flatnonzero(self.ended), np.flatnonzero(~self.ended)
        if len(ids):
            diverged = self.live.state["diverged"][ids]
            outcome = self.live.step(ids, commanded=actions[ids])
            rewards[ids] = outcome.reward
            terminated[ids], truncated[ids] = outcome.terminated, outcome.truncated
            self.ended[ids] = terminated[ids] | truncated[ids]
            info = _step_info(self.live, ids, diverged)
            last = self.ended[ids] & (self.mode == AutoresetMode.SAME_STEP)
            self._spread(infos, ids[~last], _take_worlds(info, ~last))
            if last.any():
                again = ids[last]
                self._spread_final(infos, again, _take_worlds(info, last))
        if len(again):
            self._begin(again)
            self._spread(infos, again, _reset_info(self.live, again))
        return self.live.state["observation"].copy(), rewards, terminated, truncated, infos

    def _check_step(self, actions: np.ndarray) -> None:
        """Raise BadValue or Gymnasium's ResetNeeded where no step can be made."""
        if actions.shape != self.action_space.shape:
            raise BadValue(f"actions have shape {self.action_space.shape}, not {actions.shape}")
        if not self._seeded:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self.mode == AutoresetMode.DISABLED and self.ended.any():
            raise gymnasium.error.ResetNeeded(
                f"reset the finished environments {np.flatnonzero(self.ended)} first"
            )

    def _spread_final(self, infos: Info, ids: np.ndarray, info: Info) -> None:
        """Add the last observations and infos of the environments that begin anew at once."""
        observations = np.full(self.num_envs, None, object)
        for i in ids:
            observations[i] = self.live.state["observation"][i].copy()
        infos["final_obs"] = observations
        infos["_final_obs"] = np.isin(self.live.all, ids)
        self._spread(infos, ids, {"final_info": info})

    def _spread(self, infos: Info, ids: np.ndarray, values: Info) -> Info:
        """Add the values (n, ...) of environments `ids` to Gymnasium's vector infos; return those.

        Each is there under `key`, and as the mask `_key`.
        """
        if not len(ids):
            return infos
        for key, value in values.items():
            if isinstance(value, dict):
                infos[key] = self._spread(infos.get(key, {}), ids, value)
            else:
                infos.setdefault(key, np.zeros(self.num_envs, value.dtype))[ids] = value
            infos.setdefault(f"_{key}", np.zeros(self.num_envs, bool))[ids] = True
        return infos

    def render(self):
        """Return a picture of each environment, where a render mode is set."""
        if self.render_mode is None:
            return None
        if self._camera is None:
            self._camera = _open_camera(self.live.simulation, self.size)
        return tuple(self._camera.frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any):
        """Close the camera."""
        if self._camera:
            self._camera.close()
            self._camera = None


def _take_worlds(info: Info, where: np.ndarray) -> Info:
    """Return the info of the worlds `where` (bool [n])."""
    return {k: _take_worlds(v, where) if isinstance(v, dict) else v[where] for k, v in info.items()}


register_ids()
