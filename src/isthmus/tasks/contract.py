"""A rehearsal of a task's methods against its contract, before anything is trained or charged.

It steps a few worlds of its own once, with random numbers of its own: what is learned later has the
same bits with it and without. Each mistake is one line that names the task, the method and what was
expected.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.physics.engine import Simulator, Start
from isthmus.physics.random import Streams, keys
from isthmus.tasks.motors import command_motors
from isthmus.tasks.task import SimView, Task, Terms, find_main_body, is_built_in
from isthmus.types import BadValue, IsthmusError, UnknownName

WORLD_COUNTS = (1, 3)  # one, where a wrong axis can hide; and several, that it shows
PART = np.array([1, 2])  # of three: without the first, which a row must not lean on
FLOATS, NUMBERS, BOOLEANS = "f", "fiu", "b"
ARRAYS = {
    FLOATS: "an array of floats",
    NUMBERS: "an array of numbers",
    BOOLEANS: "an array of bool",
}
REWARDS = "rewards "  # what the keys of reward terms begin with, beside those of methods

_passed: set[tuple[type[Task], str]] = set()  # tasks that kept their contract, and in which engine

SimulatorBuilder = Callable[[int], Simulator]  # a simulator of n worlds
Box = tuple[np.ndarray, np.ndarray]
Shape = tuple[int | str, ...]  # a letter stands for any length
Answers = dict[str, np.ndarray]  # what a task's methods gave, (n, ...) each


def check_contract_once(task: Task, engine: str, box: Box, build: SimulatorBuilder) -> None:
    """Run `check_contract` where a task of the user's has not passed it in this engine."""
    if is_built_in(task) or (type(task), engine) in _passed:
        return
    check_contract(task, box, build)
    _passed.add((type(task), engine))


def check_contract(task: Task, box: Box, build: SimulatorBuilder) -> None:
    """Raise BadValue or UnknownName, in one line, where a task does not keep its contract.

    `box` are the lowest and the highest actions, (A,) each; `build(n)` makes a simulator of the
    task's model.
    """
    _check_neutral_action(task, box)
    for n in WORLD_COUNTS:
        _Rehearsal(task, build(n)).run(box)


def is_finite(*arrays: np.ndarray) -> bool:
    """Return whether all numbers of some arrays are finite, in one pass over each."""
    return math.isfinite(sum(array.sum() for array in arrays))


def check_finite(
    task: Task, view: SimView, obs: np.ndarray, terms: Terms, good: np.ndarray
) -> None:
    """Raise BadValue where an observation (n, O) or a reward term is not finite.

    `good` (bool [n]) are the worlds that count.
    """
    for column, name in enumerate(task.observation_names):
        _check_finite_column(f"{task.name}.observe", name, view, obs[:, column], good)
    for name, values in terms.items():
        _check_finite_column(f"{task.name}.rewards", name, view, values, good)


def _check_finite_column(
    method: str, name: str, view: SimView, values: np.ndarray, good: np.ndarray
) -> None:
    bad = np.flatnonzero(~np.isfinite(values) & good)
    if len(bad):
        raise BadValue(
            f"{method}: {name!r} is {values[bad[0]]} in world {int(view.ids[bad[0]])}, whose state "
            "is finite; mend it there, for nothing can be learned from it"
        )


class _Rehearsal:
    """One step of n worlds, and everything that is asked of a task on the way."""

    def __init__(self, task: Task, simulator: Simulator):
        self.task, self.simulator, self.n = task, simulator, simulator.n
        self.ids = np.arange(self.n)

    def run(self, box: Box) -> None:
        """Begin, ask, step, ask again, and ask for a part. Raises BadValue or UnknownName."""
        self._begin()
        view = SimView(self.simulator, self.ids)
        before = self._ask_first(view)
        copies = {method: values.copy() for method, values in before.items()}
        action = self._choose_action(box)
        diverged = self.simulator.step(self.ids, command_motors(self.task, action))
        self._check_copied(before, copies)
        after = self._ask_all(view, copies["remember"], action)
        terms = _select_terms(after)
        self._check_named_terms(terms)
        check_finite(self.task, view, after["observe"], terms, ~diverged)
        if self.n > PART.max():
            self._check_part(copies["remember"], action, after)
        self._call("advance", view, action)

    def _begin(self) -> None:
        model = self.simulator.world_model(0)
        find_main_body(self.task, [model.body(i).name for i in range(model.nbody)])
        self.simulator.reset(self.ids, *self._start())
        self._begin_state()

    def _begin_state(self) -> None:
        """Let the task write the worlds' state: of all, then of two of three alone."""
        key, state = keys(1, self.n), self.simulator.task_state
        self._call("begin", SimView(self.simulator, self.ids), Streams(key))
        if self.n > PART.max():
            whole = state.copy()
            self._call("begin", SimView(self.simulator, PART), Streams(key[PART]))
            if not np.array_equal(state, whole, equal_nan=True):
                raise self._fault(
                    "begin",
                    "writes a world another state when others begin with it; draw it from `random` "
                    "alone, and write all of it",
                )

    def _ask_first(self, view: SimView) -> Answers:
        """Return what is asked at a start, by method."""
        memory, obs = self._remember(view), self._observe(view)
        answers = {"observe": obs, "remember": memory, "progress": self._progress(view)}
        check_finite(self.task, view, obs, {}, np.ones(self.n, bool))
        return answers

    def _check_copied(self, answers: Answers, before: Answers) -> None:
        """Refuse answers that a step has changed, of what they were before it."""
        for method, values in answers.items():
            if not np.array_equal(values, before[method], equal_nan=values.dtype.kind == FLOATS):
                raise self._fault(
                    method,
                    "returns the simulator's own array, which the next step changes; add .copy()",
                )

    def _fault(self, method: str, what: str) -> BadValue:
        return BadValue(f"{self.task.name}.{method} {what}")

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return what a method gives. Raises BadValue, in one line, where it raises."""
        try:
            with np.errstate(all="ignore"):
                return getattr(self.task, method)(*arguments)
        except IsthmusError:
            raise
        except NotImplementedError as error:
            raise BadValue(
                f"{self.task.name} has no method {method}, which every task needs"
            ) from error
        except Exception as error:
            raise self._fault(method, self._describe_raised(error)) from error

    def _describe_raised(self, error: Exception) -> str:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{Path(last.filename).name}:{last.lineno}"
        reason = (str(error).splitlines() or [""])[0]
        worlds = "1 world" if self.n == 1 else f"{self.n} worlds"
        return f"raises {type(error).__name__}: {reason} ({line}, with {worlds})"

    def _check_array(
        self, method: str, value: Any, kinds: str, shape: Shape, what: str = ""
    ) -> None:
        """Refuse what is no array of these kinds and this shape; `what` says what it is for."""
        if not isinstance(value, np.ndarray):
            got = f"a {type(value).__name__}"
        elif _has_form(value, kinds, shape):
            return
        else:
            got = f"{value.dtype} of shape {value.shape}"
        gives = " ".join(filter(None, ["gives", got, what]))
        size = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise self._fault(
            method, f"{gives}; with n={shape[0]} it needs {ARRAYS[kinds]} of shape ({size})"
        )

    def _start(self) -> Start:
        """Return the start of an episode, completed and checked."""
        given = self._call("start", self.simulator, Streams(keys(0, self.n)))
        if not isinstance(given, tuple) or not 2 <= len(given) <= len(Start._fields):
            raise self._fault("start", "must give a Start, or the pair of qpos and qvel")
        start = Start(*given)
        for field, shape in self._list_start_shapes().items():
            self._check_start_field(field, getattr(start, field), shape)
        if self.n > PART.max():
            self._check_part_of_start(start)
        return self.task.complete(start)

    def _list_start_shapes(self) -> dict[str, Shape]:
        """Return the shape of each field of a Start, without its axis of worlds."""
        from isthmus.physics.mujoco import load_model

        model = load_model(self.task.model_path())
        return {
            "qpos": (model.nq,), "qvel": (model.nv,), "act": (model.na,), "ctrl": (model.nu,),
            "mocap_pos": (model.nmocap, 3), "mocap_quat": (model.nmocap, 4),
        }  # fmt: skip

    def _check_start_field(self, field: str, values: np.ndarray | None, shape: Shape) -> None:
        if values is None and field not in ("qpos", "qvel"):
            return
        self._check_array("start", values, NUMBERS, (self.n, *shape), f"for {field}")
        assert values is not None
        if not np.isfinite(values).all():
            raise self._fault("start", f"gives numbers for {field} that are not finite")

    def _check_part_of_start(self, whole: Start) -> None:
        """Begin two of three worlds alone, as happens wherever episodes end at different times."""
        part = Start(*self._call("start", self.simulator, Streams(keys(0, self.n)[PART])))
        for field, values in part._asdict().items():
            if not _is_part_of(values, getattr(whole, field)):
                raise self._fault(
                    "start",
                    f"gives a world another {field} when others begin with it; give one row a "
                    "stream of `random`, drawn from `random` alone",
                )

    def _choose_action(self, box: Box) -> np.ndarray:
        """Return another action for each world, float32 (n, A), as policies give them."""
        low, high = box
        share = (np.arange(self.n) + 1) / (self.n + 1)
        return (low + (high - low) * share[:, None]).astype(np.float32)

    def _observe(self, view: SimView) -> np.ndarray:
        obs, names = self._call("observe", view), self.task.observation_names
        self._check_array("observe", obs, FLOATS, (len(view.ids), "O"))
        if obs.shape[1] != len(names):
            raise self._fault(
                "observe",
                f"gives {obs.shape[1]} numbers a world and observation_names has {len(names)}",
            )
        return obs

    def _remember(self, view: SimView) -> np.ndarray:
        memory = self._call("remember", view)
        self._check_array("remember", memory, NUMBERS, (len(view.ids), "M"))
        return memory

    def _progress(self, view: SimView) -> np.ndarray:
        progress = self._call("progress", view)
        self._check_array("progress", progress, NUMBERS, (len(view.ids),))
        return progress

    def _rewards(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Terms:
        terms = self._call("rewards", view, memory, action)
        if not isinstance(terms, Mapping) or not terms:
            raise self._fault(
                "rewards", "must give a dict of named terms, one at least: {'speed': ...}"
            )
        for name, values in terms.items():
            self._check_array("rewards", values, NUMBERS, (len(view.ids),), f"for {name!r}")
        return terms

    def _ask_all(self, view: SimView, memory: np.ndarray, action: np.ndarray) -> Answers:
        """Return all that is asked after a step: by method, each reward by its term (REWARDS)."""
        answers = {"observe": self._observe(view)}
        for term, values in self._rewards(view, memory, action).items():
            answers[REWARDS + term] = values
        for method in ("terminated", "at_goal"):
            answers[method] = self._call(method, view)
            self._check_array(method, answers[method], BOOLEANS, (len(view.ids),))
        answers["progress"], answers["remember"] = self._progress(view), self._remember(view)
        width = answers["remember"].shape[1]
        if width != memory.shape[1]:
            raise self._fault(
                "remember",
                f"gives {memory.shape[1]} numbers a world at a start and {width} after a step",
            )
        return answers

    def _check_named_terms(self, terms: Terms) -> None:
        """Refuse names in `costs` (but its default) and `falling` that no reward term has."""
        self._check_terms("falling", self.task.falling, terms)
        owner = next(kind for kind in type(self.task).__mro__ if "costs" in vars(kind))
        if owner is not Task:
            self._check_terms("costs", self.task.costs, terms)

    def _check_terms(self, attribute: str, names: Iterable[str], terms: Terms) -> None:
        for name in names:
            if name not in terms:
                raise UnknownName(f"reward term in {self.task.name}.{attribute}", name, terms)

    def _check_part(self, memory: np.ndarray, action: np.ndarray, whole: Answers) -> None:
        """Ask two of three worlds alone: a row that changes depends on others, or on chance."""
        part = self._ask_all(SimView(self.simulator, PART), memory[PART], action[PART])
        for asked, values in part.items():
            if not _is_close(values, whole[asked][PART]):
                method, _, term = asked.partition(" ")
                what = f"gives {term!r}" if term else "gives"
                raise self._fault(
                    method,
                    f"{what} other numbers when other worlds are asked for; compute each row from "
                    "its own alone",
                )


def _select_terms(answers: Answers) -> Answers:
    """Return the reward terms among answers, by name."""
    terms: Answers = {}
    for asked, values in answers.items():
        if asked.startswith(REWARDS):
            terms[asked.removeprefix(REWARDS)] = values
    return terms


def _has_form(value: np.ndarray, kinds: str, shape: Shape) -> bool:
    """Return whether an array has one of the kinds, and the shape."""
    if value.dtype.kind not in kinds or value.ndim != len(shape):
        return False
    for size, wanted in zip(value.shape, shape, strict=True):
        if not isinstance(wanted, str) and size != wanted:
            return False
    return True


def _is_part_of(part: Any, whole: np.ndarray | None) -> bool:
    if part is None or whole is None:
        return part is whole
    return np.shape(part) == whole[PART].shape and _is_close(part, whole[PART])


def _is_close(part: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether numbers agree but for rounding, which may depend on the number of rows."""
    return np.allclose(part, whole, rtol=1e-6, atol=1e-9, equal_nan=True)


def _check_neutral_action(task: Task, box: Box) -> None:
    if task.neutral_action is None:
        return
    low, high = box
    action = np.asarray(task.neutral_action, float)
    if action.shape != low.shape or not ((low <= action) & (action <= high)).all():
        inside = ", ".join(f"{a:g}..{b:g}" for a, b in zip(low, high, strict=True))
        raise BadValue(
            f"{task.name}.neutral_action is {task.neutral_action}; it needs a number for each of: "
            f"{inside}"
        )
