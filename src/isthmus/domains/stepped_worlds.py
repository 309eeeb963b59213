"""N worlds as they are stepped: effects, time limits, tasks and episodes, divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from isthmus.domains.simulation import BEHAVE, SENSE, START, Simulation, SimulationStep
from isthmus.physics.random import Streams, fold
from isthmus.tasks.task import Random
from isthmus.types import BadValue, Worlds

if TYPE_CHECKING:
    from isthmus.domains.domain import Domain

T = TypeVar("T")
GIVEN_TASK = -1
"""In place of a task's number: the world's dynamics were given, and are not drawn."""


class StepOutcome(NamedTuple):
    """What a step of n worlds gave a policy; the new observations are in the worlds' state."""

    reward: np.ndarray  # float64 [n]
    terminated: np.ndarray  # bool [n]
    truncated: np.ndarray  # bool [n]


class SteppedWorlds:
    """N worlds in a running simulation. Mutable; `worlds()` is its value.

    `idle` makes worlds whose first episode has not begun, `new` begins it, `resume` continues a
    value. `state` holds the fields of `Worlds` but for the rows, which are the simulation's own;
    `new_task` (bool [N]) are the worlds that `resume` could not continue and put at the begin of a
    task.
    """

    def __init__(self, domain: Domain, simulation: Simulation, n: int):
        self.domain, self.simulation = domain, simulation
        self.effects = domain.effect_chain()
        self.all = np.arange(n)
        self.state: dict[str, Any] = {}
        self._folded: dict[int, np.ndarray] = {}  # the worlds' keys by purpose
        self._dynamics, self._starts = _Ahead[np.ndarray](), _Ahead[Streams]()
        self._rows_before = np.empty_like(simulation.rows)
        self.new_task = np.zeros(n, bool)

    @staticmethod
    def idle(domain: Domain, simulation: Simulation, key: np.ndarray) -> SteppedWorlds:
        """Make worlds of these keys (n,) in a simulation of n, before their first episode."""
        n = len(key)
        live = SteppedWorlds(domain, simulation, n)
        live.state = {
            "parameters": np.zeros((n, len(domain.names))),
            "observation": np.zeros((n, live.effects.obs_size)),
            "effect_memory": np.zeros((n, live.effects.memory_size)),
            "task_memory": None,
            "behaviour_memory": None,
            "key": np.array(key, np.uint64),
            "task": np.zeros(n, np.int64),
            "episode": np.zeros(n, np.int64),
            "step": np.zeros(n, np.int64),
            "total": np.zeros(n, np.int64),
            "returns": np.zeros(n),
            "finished": np.zeros(n, np.int64),
            "diverged": np.zeros(n, np.int64),
            "diverged_rows": np.zeros_like(live.simulation.rows),
        }
        return live

    def rekey(self, ids: np.ndarray, key: np.ndarray) -> None:
        """Make worlds `ids` those of other keys (n,), whose first episode has not begun."""
        self.state["key"][ids] = key
        self._folded.clear()
        self._dynamics.clear()
        self._starts.clear()
        for count in ("task", "episode", "total", "finished", "diverged"):
            self.state[count][ids] = 0

    @staticmethod
    def new(
        domain: Domain,
        key: np.ndarray,
        parameters: np.ndarray | None = None,
        purpose: str = "collect",
    ) -> SteppedWorlds:
        """Begin the first episodes of worlds of these keys (n,).

        `parameters` (n, P) fix the dynamics, which are drawn otherwise.
        """
        live = SteppedWorlds.idle(domain, domain.simulation(len(key), purpose), key)
        if parameters is not None:
            live.state["task"][:] = GIVEN_TASK
        live.begin(live.all, parameters)
        return live

    @staticmethod
    def resume(domain: Domain, worlds: Worlds, purpose: str = "collect") -> SteppedWorlds:
        """Continue worlds, or begin their episodes anew where the simulation cannot."""
        live = SteppedWorlds(
            domain, domain.simulation(worlds.size, purpose, worlds.rows), worlds.size
        )
        live.state = _copy_state(worlds._asdict())
        del live.state["rows"]
        if not live.simulation.restore(worlds.rows, worlds.parameters):
            # An episode in which nothing has moved yet is begun again as it was; one under way is
            # lost, and counts.
            live.state["episode"] -= live.state["step"] == 0
            live.new_task = live.begin(live.all)
        return live

    def worlds(self) -> Worlds:
        """Return the worlds as a value."""
        return Worlds(rows=self.simulation.rows.copy(), **_copy_state(self.state))

    def begin(
        self, ids: np.ndarray, parameters: np.ndarray | None = None, random: Random | None = None
    ) -> np.ndarray:
        """Begin an episode in worlds `ids`; return which of them began a new task, bool [n].

        A task is `episodes_per_task` episodes under one draw of the dynamics. `parameters` (n, P)
        are put in place of what is drawn, but for those that are NaN. `random` is where starts are
        drawn from, if not the worlds' own streams.
        """
        s = self.state
        new_task = self._count_begin(ids)
        if parameters is not None:
            s["parameters"][ids] = np.where(np.isnan(parameters), s["parameters"][ids], parameters)
        if random is None:
            random = self._starts.find(ids, s["episode"], self._open_starts).select(ids)
        obs, memory = self.simulation.begin(ids, s["parameters"][ids], random)
        if s["task_memory"] is None:
            s["task_memory"] = np.zeros((len(self.all), memory.shape[1]))
        s["task_memory"][ids] = memory
        s["step"][ids], s["returns"][ids] = 0, 0.0
        if self.effects.effects:
            effect_memory = s["effect_memory"][ids]
            neutral = self.simulation.neutral_action(ids)
            random = self._sensing_streams(ids)
            drawn = s["parameters"][ids]
            obs = self.effects.begin(effect_memory, obs, random, neutral, drawn)
            s["effect_memory"][ids] = effect_memory
        s["observation"][ids] = obs
        return new_task

    def _count_begin(self, ids: np.ndarray) -> np.ndarray:
        """Count the episodes of worlds `ids`, and draw the dynamics of those with a new task."""
        s = self.state
        episode, task = s["episode"][ids], s["task"][ids]
        new_task = episode % self.domain.episodes_per_task == 0
        draws = new_task & (task != GIVEN_TASK)
        s["episode"][ids], s["task"][ids] = episode + 1, task + draws
        if self.domain.settings and draws.any():
            drawn = ids[draws]
            dynamics = self._dynamics.find(drawn, s["task"], self._draw_dynamics)
            s["parameters"][drawn] = dynamics[drawn]
        return new_task

    def _fold_keys(self, purpose: int) -> np.ndarray:
        """Return the worlds' keys (N,) for a purpose."""
        if purpose not in self._folded:
            self._folded[purpose] = fold(self.state["key"], purpose)
        return self._folded[purpose]

    def _draw_dynamics(self, task: np.ndarray) -> np.ndarray:
        return self.domain.draw(self.state["key"], task)

    def _open_starts(self, episode: np.ndarray) -> Streams:
        return Streams(self._fold_keys(START), episode)

    def _sensing_streams(self, at: np.ndarray | slice) -> Streams:
        s = self.state
        return Streams(self._fold_keys(SENSE)[at], s["episode"][at], s["step"][at])

    def step(
        self, ids: np.ndarray, *, commanded: np.ndarray, applied: np.ndarray | None = None
    ) -> StepOutcome:
        """Step worlds `ids`; the new observations are in `state`.

        `commanded` (n, A) is charged, `applied` moves the robot (None: the same). A world that
        diverges ends its episode as a fall with reward 0 and keeps its last observation. Raises
        BadValue where an action is not finite.
        """
        s = self.state
        _check_finite(commanded)
        if applied is None:
            applied = commanded
        else:
            _check_finite(applied)
        # All of them are views, where an index array would copy.
        at = slice(None) if len(ids) == len(self.all) else ids
        rows_before = self._copy_rows(at)
        effect_memory = s["effect_memory"][at]
        applied = self.effects.act(effect_memory, commanded=commanded, applied=applied)
        split = self.effects.split(effect_memory)
        early = {} if split is None else {"split": split}
        result = self.simulation.step(
            ids, s["task_memory"][at], commanded=commanded, applied=applied, **early
        )
        step = _add(s["step"], at, 1)
        _add(s["total"], at, 1)
        if self.effects.effects:
            obs = self.effects.sense(effect_memory, result.observation, self._sensing_streams(at))
            s["effect_memory"][at] = effect_memory
            result = result._replace(observation=obs)
        if result.diverged.any():
            result = self._contain_divergence(ids, result, rows_before)
        s["observation"][at], s["task_memory"][at] = result.observation, result.memory
        _add(s["returns"], at, result.reward)
        timeout = step >= self.simulation.time_limit
        truncated = (result.truncated | timeout) & ~result.terminated
        _add(s["finished"], at, result.terminated | truncated)
        return StepOutcome(result.reward, result.terminated, truncated)

    def _copy_rows(self, at: np.ndarray | slice) -> np.ndarray:
        """Return a copy of rows; that of all of them holds until the next."""
        if not isinstance(at, slice):
            return self.simulation.rows[at]
        np.copyto(self._rows_before, self.simulation.rows)
        return self._rows_before

    def _contain_divergence(
        self, ids: np.ndarray, result: SimulationStep, rows_before: np.ndarray
    ) -> SimulationStep:
        """Count the worlds that diverged, and make their step a fall at the last observation."""
        s, diverged = self.state, result.diverged
        lost = ids[diverged]
        s["diverged"][lost] += 1
        s["diverged_rows"][lost] = rows_before[diverged]
        result.observation[diverged] = s["observation"][lost]
        result.reward[diverged] = 0.0
        result.memory[diverged] = s["task_memory"][lost]
        return result._replace(terminated=result.terminated | diverged)

    def behaviour_keys(self, steps: int) -> np.ndarray:
        """Return raw JAX keys uint32 [steps, N, 2] for the worlds' next decisions."""
        s = self.state
        counters = s["total"] + np.arange(steps)[:, None]
        return fold(self._fold_keys(BEHAVE), counters)[..., None].view(np.uint32)


class _Ahead(Generic[T]):
    """What worlds draw as they begin, by a counter of theirs: for all worlds at once.

    Few worlds begin in a step, and for few it takes as many calls as for all.
    """

    def __init__(self):
        self._drawn: tuple[np.ndarray, T] | None = None  # the counters (N,), and what they gave

    def clear(self) -> None:
        """Forget what was drawn: the worlds have other keys."""
        self._drawn = None

    def find(self, ids: np.ndarray, counter: np.ndarray, draw: Callable[[np.ndarray], T]) -> T:
        """Return what `draw` gives for counters (N,): in worlds `ids` for `counter`, (N,) too."""
        if self._drawn is not None and (self._drawn[0][ids] == counter[ids]).all():
            return self._drawn[1]
        upcoming = counter + 1
        upcoming[ids] = counter[ids]
        self._drawn = upcoming, draw(upcoming)
        return self._drawn[1]


def _copy_state(state: dict[str, Any]) -> dict[str, Any]:
    """Copy the arrays of a state; a behaviour's memory is never written to."""
    copied = {}
    for name, value in state.items():
        copied[name] = value if name == "behaviour_memory" else np.array(value)
    return copied


def _add(values: np.ndarray, at: np.ndarray | slice, amount: np.ndarray | int) -> np.ndarray:
    """Add to the values of worlds, in place; return them."""
    if isinstance(at, slice):
        values += amount
        return values
    values[at] = sums = values[at] + amount
    return sums


def _check_finite(action: np.ndarray) -> None:
    if not np.isfinite(action).all():
        raise BadValue(
            "an action is not finite: the policy's weights or its observations are not numbers"
        )
