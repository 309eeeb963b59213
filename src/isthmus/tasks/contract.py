"""Is a task what `Task` promises? A rehearsal of its methods, before anything is trained, written
or charged.

It steps a few worlds of its own once, with random numbers of its own: what is learned later has the
same bits with it and without. Each mistake is one line that names the task, the method and what was
expected.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.physics.engine import Simulator, Start
from isthmus.physics.random import Streams, keys
from isthmus.tasks.task import SimView, Task, find_main_body, is_built_in
from isthmus.types import BadValue, IsthmusError, UnknownName

WORLDS = (1, 3)  # one, where a wrong axis can hide; and several, that it shows
PART = np.array([1, 2])  # of three: without the first, which a row must not lean on
FLOATS, NUMBERS, BOOLEANS = "f", "fiu", "b"
_kept: set[tuple[type[Task], str]] = set()  # tasks that kept their contract, and in which engine

Build = Callable[[int], Simulator]  # a simulator of n worlds
Box = tuple[np.ndarray, np.ndarray]


def check_contract_once(task: Task, engine: str, box: Box, build: Build) -> None:
    """Run `check_contract` where this task has not passed it in this engine, and is none of the
    built-in ones.
    """
    if is_built_in(task) or (type(task), engine) in _kept:
        return
    check_contract(task, box, build)
    _kept.add((type(task), engine))


def check_contract(task: Task, box: Box, build: Build) -> None:
    """Raise BadValue or UnknownName, in one line, where a task does not keep its contract.

    `box` are the lowest and the highest actions, (A,) each; `build(n)` makes a simulator of the
    task's model.
    """
    _check_neutral_action(task, box)
    for n in WORLDS:
        _Rehearsal(task, build(n)).run(box)


def is_finite(*arrays: np.ndarray) -> bool:
    """Return whether all numbers of some arrays are finite, in one pass over each."""
    return math.isfinite(sum(array.sum() for array in arrays))


def check_finite(
    task: Task, view: SimView, obs: np.ndarray, terms: Mapping[str, np.ndarray], good: np.ndarray
) -> None:
    """Raise BadValue where an observation (n, O) or a reward term is not finite in a world of
    `good` (bool [n]).
    """
    columns = [("observe", name, obs[:, i]) for i, name in enumerate(task.observation_names)]
    columns += [("rewards", name, values) for name, values in terms.items()]
    for method, name, values in columns:
        bad = np.flatnonzero(~np.isfinite(values) & good)
        if len(bad):
            world = int(view.ids[bad[0]])
            raise BadValue(
                f"{task.name}.{method}: {name!r} is {values[bad[0]]} in world {world}, whose state "
                "is finite; "
                "mend it there, for nothing can be learned from it"
            )


class _Rehearsal:
    """One step of n worlds, and everything that is asked of a task on the way."""

    def __init__(self, task: Task, simulator: Simulator):
        self.task, self.simulator, self.n = task, simulator, simulator.n
        self.ids = np.arange(self.n)

    def run(self, box: Box) -> None:
        model = self.simulator.world_model(0)
        find_main_body(self.task, [model.body(i).name for i in range(model.nbody)])
        self.simulator.reset(self.ids, *self._start())
        whole = SimView(self.simulator, self.ids)
        memory = self._remember(whole)
        asked = {
            "observe": self._observe(whole),
            "remember": memory,
            "progress": self._progress(whole),
        }
        check_finite(self.task, whole, asked["observe"], {}, np.ones(self.n, bool))
        before = {method: values.copy() for method, values in asked.items()}
        action = self._choose_action(box)
        diverged = self.simulator.step(self.ids, action)
        for method, values in asked.items():
            if not np.array_equal(values, before[method], equal_nan=values.dtype.kind == FLOATS):
                raise self._fault(
                    method,
                    "returns the simulator's own array, which the next step changes; add .copy()",
                )
        after = self._ask_all(whole, before["remember"], action)
        terms = {
            name.removeprefix("rewards "): v
            for name, v in after.items()
            if name.startswith("rewards ")
        }
        self._check_named_terms(terms)
        check_finite(self.task, whole, after["observe"], terms, ~diverged)
        if self.n > PART.max():
            self._check_part(before["remember"], action, after)

    def _fault(self, method: str, what: str) -> BadValue:
        return BadValue(f"{self.task.name}.{method} {what}")

    def _call(self, method: str, *arguments: Any) -> Any:
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
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = (str(error).splitlines() or [""])[0]
            where, worlds = (
                f"{Path(last.filename).name}:{last.lineno}",
                "1 world" if self.n == 1 else f"{self.n} worlds",
            )
            what = f"raises {type(error).__name__}: {reason} ({where}, with {worlds})"
            raise self._fault(method, what) from error

    def _check_array(
        self, method: str, value: Any, kinds: str, shape: tuple[int | str, ...], what: str = ""
    ) -> None:
        """Refuse what is no array of these kinds and this shape; a letter in `shape` stands for any
        length.
        """
        told = f" {what}" if what else ""
        number = {
            FLOATS: "an array of floats",
            NUMBERS: "an array of numbers",
            BOOLEANS: "an array of bool",
        }[kinds]
        size = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        if not isinstance(value, np.ndarray):
            found = f"a {type(value).__name__}"
        else:
            found = f"{value.dtype} of shape {value.shape}"
            fits = len(value.shape) == len(shape)
            fits = fits and all(
                s == want or isinstance(want, str)
                for s, want in zip(value.shape, shape, strict=True)
            )
            if fits and value.dtype.kind in kinds:
                return
        raise self._fault(
            method, f"gives {found}{told}; with n={shape[0]} it needs {number} of shape ({size})"
        )

    def _start(self) -> Start:
        from isthmus.physics.mujoco import load_model

        simulator, model = self.simulator, load_model(self.task.model_path())
        given = self._call("start", simulator, Streams(keys(0, self.n)))
        if not isinstance(given, tuple) or not 2 <= len(given) <= len(Start._fields):
            raise self._fault("start", "must give a Start, or the pair of qpos and qvel")
        shapes = {
            "qpos": (model.nq,), "qvel": (model.nv,), "act": (model.na,), "ctrl": (model.nu,),
            "mocap_pos": (model.nmocap, 3), "mocap_quat": (model.nmocap, 4),
        }  # fmt: skip
        start = Start(*given)
        for field, values in start._asdict().items():
            if values is None and field not in ("qpos", "qvel"):
                continue
            self._check_array("start", values, NUMBERS, (self.n, *shapes[field]), f"for {field}")
            assert values is not None
            if not np.isfinite(values).all():
                raise self._fault("start", f"gives numbers for {field} that are not finite")
        if self.n > PART.max():
            self._check_part_of_start(start)
        return self.task.complete(start)

    def _check_part_of_start(self, whole: Start) -> None:
        """Begin two of three worlds alone, as happens wherever an episode ends before its
        neighbours'.
        """
        part = Start(*self._call("start", self.simulator, Streams(keys(0, self.n)[PART])))
        for field, values in part._asdict().items():
            if not _is_part_of(values, getattr(whole, field)):
                raise self._fault(
                    "start",
                    f"gives a world another {field} when others begin with it; give one row a "
                    "stream of `random`, "
                    "drawn from `random` alone",
                )

    def _choose_action(self, box: Box) -> np.ndarray:
        """Another action for each world, float32 (n, A), as policies give them."""
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

    def _rewards(
        self, view: SimView, memory: np.ndarray, action: np.ndarray
    ) -> dict[str, np.ndarray]:
        terms = self._call("rewards", view, memory, action)
        if not isinstance(terms, Mapping) or not terms:
            raise self._fault(
                "rewards", "must give a dict of named terms, one at least: {'speed': ...}"
            )
        for name, values in terms.items():
            self._check_array("rewards", values, NUMBERS, (len(view.ids),), f"for {name!r}")
        return dict(terms)

    def _ask_all(
        self, view: SimView, memory: np.ndarray, action: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Everything that is asked after a step, (n, ...) each: by method, each reward by its term."""
        asked = {"observe": self._observe(view)}
        for term, values in self._rewards(view, memory, action).items():
            asked[f"rewards {term}"] = values
        for method in ("terminated", "at_goal"):
            asked[method] = self._call(method, view)
            self._check_array(method, asked[method], BOOLEANS, (len(view.ids),))
        asked["progress"], asked["remember"] = self._progress(view), self._remember(view)
        if asked["remember"].shape != (len(view.ids), memory.shape[1]):
            width = asked["remember"].shape[1]
            raise self._fault(
                "remember",
                f"gives {memory.shape[1]} numbers a world at a start and {width} after a step",
            )
        return asked

    def _check_named_terms(self, terms: Mapping[str, np.ndarray]) -> None:
        """Refuse names in `costs` and `falling` that no reward term has. The default of `costs`
        need not be there.
        """
        declared = {"falling": self.task.falling}
        if any("costs" in vars(cls) for cls in type(self.task).__mro__ if cls is not Task):
            declared["costs"] = self.task.costs
        for attribute, names in declared.items():
            for name in names:
                if name not in terms:
                    raise UnknownName(f"reward term in {self.task.name}.{attribute}", name, terms)

    def _check_part(
        self, memory: np.ndarray, action: np.ndarray, whole: Mapping[str, np.ndarray]
    ) -> None:
        """Ask two of three worlds alone: a row that changes depends on its neighbours, or on
        chance.
        """
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


def _is_part_of(part: Any, whole: np.ndarray | None) -> bool:
    if part is None or whole is None:
        return part is whole
    return np.shape(part) == whole[PART].shape and _is_close(part, whole[PART])


def _is_close(part: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether numbers agree but for rounding, which may depend on how many rows are computed
    together.
    """
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
