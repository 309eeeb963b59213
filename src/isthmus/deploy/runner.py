"""A policy on its robot: an exported folder, by numpy and onnxruntime alone.

    runner = Runner("exported", log="monday.csv")
    runner.begin_episode()
    while running:
        runner.wait()                                  # keeps the contract's rate
        robot.send(runner.decide(robot.read()).action)

Neither jax nor mujoco is imported. Guards look at what comes in and at what goes out; what a guard
does when it trips is chosen, and recorded with the decision.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from isthmus.deploy.contract import PolicyContract
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.deploy.policy import CONTRACT_FILE, MODEL_FILE
from isthmus.types import BadValue

REACTIONS = {
    "nan": ("stop", "hold", "neutral"),
    "late": ("stop", "hold", "neutral", "ignore"),
    "range": ("stop", "hold", "neutral", "clip", "ignore"),
    "change": ("clip", "stop", "ignore"),
}
"""What each guard may do. `stop`: the neutral action, from now on; `hold`: the last action;
`neutral`: the neutral action, this once; `clip`: what is too far is cut; `ignore`: recorded alone.
"""


@dataclass(frozen=True)
class Guards:
    """What a runner looks at, and what it does when that trips.

    Raises BadValue for what a guard cannot do, or a number that cannot be.
    """

    nan: str = "stop"  # an observation or an action that is not finite
    late: str = "hold"  # an observation older than `patience`
    range: str = "clip"  # an observation beyond what training saw, by more than `margin`
    change: str = "clip"  # an action that differs from the last by more than `largest_change`
    patience: float = 2.0  # control steps
    margin: float = 0.5  # of the range's width, on either side
    largest_change: float = math.inf  # of the action's own range, in one control step

    def __post_init__(self) -> None:
        for guard, known in REACTIONS.items():
            chosen = getattr(self, guard)
            if chosen not in known:
                raise BadValue(f"guard {guard}={chosen!r}: needs {', '.join(known)}")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in REACTIONS and not value >= 0:
                raise BadValue(f"{item.name}={value}: needs a number from 0 on")


class RunnerDecision(NamedTuple):
    """What the robot is to be told, (A,), and what tripped: `range: clip`; nothing by default."""

    action: np.ndarray
    tripped: tuple[str, ...] = ()


class Runner:
    """An exported policy that decides for one robot, at the contract's rate.

    `log` is a CSV file, beside which a map for `isthmus import` is written. `clock` and `sleep` are
    seconds of one clock, the observations' stamps too. Raises BadValue, in one line, where the
    folder is no export, or does not say its rate.
    """

    def __init__(
        self,
        folder: Path | str,
        guards: Guards | None = None,
        log: Path | str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        folder = Path(folder)
        self.contract = PolicyContract.read(folder / CONTRACT_FILE)
        if not self.contract.control_rate_hz:
            raise BadValue(f"{folder / CONTRACT_FILE} says no control_rate_hz; write the robot's")
        pairs = {part.input: part.output for part in self.contract.memory}
        self._model = OnnxModel(folder / MODEL_FILE, pairs)
        self.guards, self.period = guards or Guards(), 1 / self.contract.control_rate_hz
        self._clock, self._sleep = clock, sleep
        self._limits = _Limits.of(self.contract, self.guards)
        self._log = None if log is None else _Log(Path(log), self.contract)
        self._due: float | None = None
        self.overruns, self.stopped, self._episode = 0, False, 0
        self._memory = self._blank()
        self._last = self._limits.neutral
        self._past: list[np.ndarray] = []

    def _blank(self) -> tuple[np.ndarray, ...]:
        return tuple(part[None] for part in self._model.initial_memory())

    def begin_episode(self, new_task: bool = True) -> None:
        """Forget the episode before. What the contract keeps for a task, a robot that a memory has
        got to know, is forgotten with `new_task` alone.
        """
        kept = {part.input for part in self.contract.memory if part.reset == "task"}
        memory = list(self._blank())
        for i, part in enumerate(self._model.signature.memories):
            if part.input in kept and not new_task:
                memory[i] = self._memory[i]
        self._memory, self._past = tuple(memory), []
        self._last, self._due, self.stopped = self._limits.neutral, None, False
        self._episode += 1

    def wait(self) -> float:
        """Sleep until the next decision is due; return how late it is, in seconds.

        A decision that is late by a whole step or more is counted in `overruns`, and the rate goes
        on from there.
        """
        now = self._clock()
        if self._due is None:
            self._due = now
        if now < self._due:
            self._sleep(self._due - now)
            now = self._clock()
        late = now - self._due
        if late >= self.period:
            self.overruns += 1
            self._due = now
        self._due += self.period
        return late

    def decide(self, observation: Any, stamp: float | None = None) -> RunnerDecision:
        """Return the action for an observation (O,), which was made at `stamp`, or just now.

        Raises BadValue for an observation of another size.
        """
        seen = np.asarray(observation, float).ravel()
        size = len(self.contract.observations.names) or len(seen)
        if len(seen) != size:
            raise BadValue(f"an observation of {len(seen)} numbers; the policy takes {size}")
        tripped: list[str] = []
        action = self._guard_inputs(seen, stamp, tripped)
        if action is None:
            action = self._guard_output(self._act(self._limit(seen, tripped)), tripped)
        self._last = action
        decision = RunnerDecision(action.copy(), tuple(tripped))
        if self._log is not None:
            self._log.write(self._clock(), self._episode, seen, decision)
        return decision

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _guard_inputs(
        self, seen: np.ndarray, stamp: float | None, tripped: list[str]
    ) -> np.ndarray | None:
        """Return the action where the policy is not asked; None where it is."""
        if self.stopped:
            tripped.append("stopped")
            return self._limits.neutral
        old = 0.0 if stamp is None else self._clock() - stamp
        checks = {
            "nan": not np.isfinite(seen).all(),
            "late": old > self.guards.patience * self.period,
            "range": self._limits.is_outside(seen),
        }
        for guard, trips in checks.items():
            if trips:
                action = self._react(guard, tripped)
                if action is not None:
                    return action
        return None

    def _react(self, guard: str, tripped: list[str]) -> np.ndarray | None:
        """Note that a guard tripped; return the action that it gives, None where the policy's
        counts.
        """
        reaction = getattr(self.guards, guard)
        tripped.append(f"{guard}: {reaction}")
        if reaction == "stop":
            self.stopped = True
        return {
            "stop": self._limits.neutral,
            "neutral": self._limits.neutral,
            "hold": self._last,
        }.get(reaction)

    def _limit(self, seen: np.ndarray, tripped: Sequence[str]) -> np.ndarray:
        """Return what the policy is shown of an observation."""
        if "range: clip" in tripped:
            seen = np.clip(seen, self._limits.seen_low, self._limits.seen_high)
        return seen

    def _act(self, seen: np.ndarray) -> np.ndarray:
        """Return the policy's action (A,), scaled as the contract says, within its bounds."""
        observed = self.contract.observations
        shown = seen * np.array(observed.scale)
        if observed.clip:
            low, high = observed.clip
            shown = np.clip(shown, low, high)
        self._past = [*(self._past or [shown] * observed.history), shown][-observed.history :]
        actions, self._memory = self._model.act(self._memory, np.concatenate(self._past)[None])
        said = self.contract.actions
        return np.asarray(actions[0], float) * np.array(said.scale) + np.array(said.offset)

    def _guard_output(self, action: np.ndarray, tripped: list[str]) -> np.ndarray:
        """Return the action that is sent, for the policy's."""
        if not np.isfinite(action).all():
            reacted = self._react("nan", tripped)
            assert reacted is not None
            return reacted
        action = np.clip(action, self._limits.low, self._limits.high)
        change = action - self._last
        if (np.abs(change) > self._limits.change).any():
            reacted = self._react("change", tripped)
            if reacted is not None:
                return reacted
            if self.guards.change == "clip":
                action = self._last + np.clip(change, -self._limits.change, self._limits.change)
        return action


class _Limits(NamedTuple):
    """Bounds of what comes in and of what goes out."""

    seen_low: np.ndarray
    seen_high: np.ndarray
    low: np.ndarray
    high: np.ndarray
    neutral: np.ndarray
    change: np.ndarray

    @staticmethod
    def of(contract: PolicyContract, guards: Guards) -> _Limits:
        """Return a contract's; infinite where it says none. Raises BadValue without a neutral
        action.
        """
        observed, actions = contract.observations, contract.actions
        if not actions.neutral:
            raise BadValue("the contract says no actions.neutral, what the robot does when stopped")
        neutral = np.array(actions.neutral, float)
        low = np.array(actions.low or np.full(len(neutral), -np.inf), float)
        high = np.array(actions.high or np.full(len(neutral), np.inf), float)
        seen_low = np.array(observed.seen_low or (-np.inf,), float)
        seen_high = np.array(observed.seen_high or (np.inf,), float)
        room = guards.margin * np.nan_to_num(seen_high - seen_low, posinf=0.0)
        with np.errstate(invalid="ignore"):  # no width, or no bound, times no limit
            change = np.nan_to_num((high - low) * guards.largest_change, nan=np.inf, posinf=np.inf)
        return _Limits(seen_low - room, seen_high + room, low, high, neutral, change)

    def is_outside(self, seen: np.ndarray) -> bool:
        """Return whether any number is beyond what training saw."""
        return bool(((seen < self.seen_low) | (seen > self.seen_high)).any())


class _Log:
    """Decisions as CSV, and the map by which `isthmus import` reads them."""

    def __init__(self, path: Path, contract: PolicyContract):
        observed = contract.observations.names
        self._file: TextIO = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        columns = [f"o{i}" for i in range(len(observed))]
        actions = [f"a{i}" for i in range(len(contract.actions.neutral))]
        self._rows.writerow(["t", "episode", *columns, *actions, "tripped"])
        names = contract.actions.names or tuple(actions)
        map_path = path.with_suffix(".toml")
        map_path.write_text(_write_map(contract, observed, names), encoding="utf-8")

    def write(self, at: float, episode: int, seen: np.ndarray, decision: RunnerDecision) -> None:
        """Add a decision, and have it on disk."""
        numbers = [*seen.tolist(), *decision.action.tolist()]
        self._rows.writerow([repr(at), episode, *map(repr, numbers), "; ".join(decision.tripped)])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _write_map(contract: PolicyContract, observed: Sequence[str], actions: Sequence[str]) -> str:
    """Return the map of a log's columns, as TOML: its basic strings are JSON's."""
    lines = [
        f"task = {json.dumps(contract.task.name)}",
        f"rate = {contract.control_rate_hz:g}",
        'time = "t"',
        'episode = "episode"',
        "",
        "[observations]",
        *(f'{json.dumps(name)} = "o{i}"' for i, name in enumerate(observed)),
        "",
        "[actions]",
        *(f'{json.dumps(name)} = "a{i}"' for i, name in enumerate(actions)),
    ]
    return "\n".join(lines) + "\n"
