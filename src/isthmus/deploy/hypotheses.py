"""Why recorded actions do not follow from recorded observations: one hypothesis at a time.

Each is a change of the observations that the model is given, or of the actions that it answered;
the one that is right leaves nothing. Many changes are one call: each is a row of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from isthmus.deploy.contract import PolicyContract
from isthmus.deploy.onnx_model import OnnxModel
from isthmus.types import Array

SEARCHED_STEPS = 200
GRID = 33  # values of a scale or an offset at once
ZOOMS = 8
MIN_OFFSET, MAX_OFFSET = 0.01, 1000.0  # in deviations of an observation
MAX_SCALE = 1000.0
MAX_ROWS = 4096
MAX_SORTED = 40  # observations that are put in order swap by swap
MAX_CYCLED = 20  # that are so by threes


class Mend(NamedTuple):
    """A hypothesis, and what it leaves: the difference of each row [T], in half the range."""

    text: str
    difference: np.ndarray

    def share(self, tolerance: float) -> float:
        """Return the share of rows within a tolerance."""
        return float((self.difference <= tolerance).mean())


class Change(NamedTuple):
    """What observations become before the model: column `order[i]`, times scale, plus offset."""

    order: np.ndarray  # int [O]
    scale: np.ndarray  # [O]
    offset: np.ndarray  # [O]


class Bench:
    """A log, and the model that its actions are said to come from."""

    def __init__(
        self,
        contract: PolicyContract,
        model: OnnxModel,
        observations: np.ndarray,
        actions: np.ndarray,
        begins: np.ndarray,
        task_begins: np.ndarray,
        unit: float,
    ):
        self.contract, self.model, self.unit = contract, model, unit
        self.observations, self.actions = observations, actions
        self.begins, self.task_begins = begins, task_begins
        self.size = observations.shape[1]
        resets = {part.input: part.reset for part in contract.memory}
        self._resets = [resets[part.input] for part in model.signature.memories]

    def unchanged(self) -> Change:
        """Return the change that changes nothing."""
        return Change(np.arange(self.size), np.ones(self.size), np.zeros(self.size))

    def name(self, i: int) -> str:
        """Return an observation's name."""
        names = self.contract.observations.names
        return names[i] if names else str(i)

    def name_action(self, i: int) -> str:
        """Return an action's name."""
        names = self.contract.actions.names
        return names[i] if names else str(i)

    def replay_log(self, change: Change | None = None) -> np.ndarray:
        """Return the model's actions [T, A] for all of the log."""
        changes = [change or self.unchanged()]
        return self._replay(changes, len(self.observations))[:, 0]

    def difference(self, actions: np.ndarray, recorded: np.ndarray | None = None) -> np.ndarray:
        """Return the largest difference of an action in each row, [T], in half the range."""
        recorded = self.actions if recorded is None else recorded
        return np.abs(actions - recorded).max(-1) / self.unit

    def errors(self, changes: Sequence[Change]) -> np.ndarray:
        """Return the mean absolute difference under each change, over the log's begin."""
        steps = min(SEARCHED_STEPS, len(self.observations))
        found = []
        for start in range(0, len(changes), MAX_ROWS):
            actions = self._replay(changes[start : start + MAX_ROWS], steps)
            found.append(np.abs(actions - self.actions[:steps, None]).mean((0, 2)) / self.unit)
        return np.concatenate(found)

    def _replay(self, changes: Sequence[Change], steps: int) -> np.ndarray:
        """Return the model's actions [T, N, A] under each of N changes."""
        order = np.stack([change.order for change in changes])
        scale = np.stack([change.scale for change in changes])
        offset = np.stack([change.offset for change in changes])
        initial = []
        for part in self.model.initial_memory():
            initial.append(np.repeat(part[None], len(changes), axis=0))
        memory, actions = list(initial), []
        for t in range(steps):
            begins = {"episode": self.begins[t], "task": self.task_begins[t]}
            for i, reset in enumerate(self._resets):
                if begins[reset]:
                    memory[i] = initial[i]
            observed = self.observations[t][order] * scale + offset
            action, after = self.model.act(tuple(memory), observed.astype(np.float32))
            memory = list(after)
            actions.append(action)
        return np.stack(actions)


def find_mends(bench: Bench) -> list[Mend]:
    """Return all hypotheses, each with what it leaves of a log."""
    replayed = bench.replay_log()
    mends = [*_late(bench, replayed), *_about_actions(bench, replayed)]
    mends += _about_normalizer(bench)
    mends += [_signs(bench), _permutation(bench), _scale(bench), _offset(bench)]
    return [mend for mend in mends if mend is not None]


# Of actions: in closed form


def _late(bench: Bench, replayed: np.ndarray) -> list[Mend]:
    """Return the hypotheses that rows belong to other steps."""
    late = bench.difference(replayed[:-1], bench.actions[1:])[~bench.begins[1:]]
    early = bench.difference(replayed[1:], bench.actions[:-1])[~bench.begins[1:]]
    mends = []
    if late.size:
        mends.append(Mend("actions come one step late (they follow from the row before)", late))
        mends.append(Mend("actions come one step early (they follow from the next row)", early))
    return mends


def _about_actions(bench: Bench, replayed: np.ndarray) -> list[Mend | None]:
    """Return the hypotheses that actions are others by order, sign, scale or offset."""
    recorded = bench.actions
    cost = np.abs(replayed[:, :, None] - recorded[:, None]).mean(0)  # [A model, A recorded]
    source, place = linear_sum_assignment(cost)
    order = source[np.argsort(place)]
    names = ", ".join(bench.name_action(i) for i in order)
    flipped = np.abs(replayed + recorded).mean(0) < np.abs(replayed - recorded).mean(0)
    signs = np.where(flipped, -1.0, 1.0)
    negated = ", ".join(bench.name_action(int(i)) for i in np.flatnonzero(flipped))
    scale = (replayed * recorded).sum(0) / np.maximum((replayed**2).sum(0), 1e-12)
    offset = np.median(recorded - replayed, axis=0)
    candidates = (
        (f"actions in another order: {names}", replayed[:, order]),
        (f"the sign of the action {negated}", replayed * signs),
        (f"actions scaled by {_format(scale)}", replayed * scale),
        (f"actions offset by {_format(offset)}", replayed + offset),
    )
    useful = (np.any(order != np.arange(len(order))), flipped.any(), not flipped.any(), True)
    mends: list[Mend | None] = []
    for (text, actions), used in zip(candidates, useful, strict=True):
        mends.append(Mend(text, bench.difference(actions)) if used else None)
    return mends


def _format(values: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


# Of observations: by trying


def _about_normalizer(bench: Bench) -> list[Mend | None]:
    """Return the hypotheses that observations were normalized once too little, or too often."""
    observed = bench.contract.observations
    if not observed.normalizer_mean or not observed.normalizer_std:
        return []
    mean, std = np.array(observed.normalizer_mean), np.array(observed.normalizer_std)
    identity = bench.unchanged()
    missing = identity._replace(scale=std, offset=mean)
    twice = identity._replace(scale=1 / std, offset=-mean / std)
    return [
        _try(
            bench,
            "the normalizer is missing where actions were made (or in the log alone: "
            "its observations are normalized)",
            missing,
        ),
        _try(bench, "observations were normalized twice where actions were made", twice),
    ]


def _try(bench: Bench, text: str, change: Change) -> Mend:
    return Mend(text, bench.difference(bench.replay_log(change)))


def _signs(bench: Bench) -> Mend:
    """Return the hypothesis that observations have another sign: one by one, while it helps."""
    change, flipped = bench.unchanged(), []
    error = bench.errors([change])[0]
    for _ in range(bench.size):
        changes = []
        for i in range(bench.size):
            scale = change.scale.copy()
            scale[i] *= -1
            changes.append(change._replace(scale=scale))
        errors = bench.errors(changes)
        best = int(errors.argmin())
        if errors[best] >= error:
            break
        change, error = changes[best], errors[best]
    flipped = [bench.name(int(i)) for i in np.flatnonzero(change.scale < 0)]
    return _try(bench, f"the sign of {', '.join(flipped) or 'no observation'}", change)


def _permutation(bench: Bench) -> Mend:
    """Return the hypothesis that observations come in another order: swap by swap, while it helps,
    from their own order and from that of their sorted names.
    """
    starts = [bench.unchanged()]
    names = bench.contract.observations.names
    if names:
        by_name = np.argsort(np.array(names))
        starts.append(starts[0]._replace(order=by_name))
        starts.append(starts[0]._replace(order=np.argsort(by_name)))
    found = []
    for start in starts:
        found.append(_sort_by_swaps(bench, start))
    change = found[int(bench.errors(found).argmin())]
    moved = []
    for i in np.flatnonzero(change.order != np.arange(bench.size)):
        moved.append(f"{bench.name(int(i))} in the place of {bench.name(int(change.order[i]))}")
    return _try(bench, f"observations in another order: {'; '.join(moved) or 'none'}", change)


def _sort_by_swaps(bench: Bench, change: Change) -> Change:
    """Return a change with columns swapped again and again, the best pair, while it helps.

    Where no pair does, the best three in a circle.
    """
    error = bench.errors([change])[0]
    rounds = 2 * bench.size if bench.size <= MAX_SORTED else 1
    for _ in range(rounds):
        for count in (2, 3):
            changes = _rotate_columns(change, count)
            errors = bench.errors(changes) if changes else np.array([np.inf])
            best = int(errors.argmin())
            if errors[best] < error:
                break
        else:
            break
        change, error = changes[best], errors[best]
    return change


def _rotate_columns(change: Change, count: int) -> list[Change]:
    """Return all changes in which so many columns take each other's places, in either direction.

    None of three columns where there are too many.
    """
    size = len(change.order)
    if count > 2 and size > MAX_CYCLED:
        return []
    changes = []
    for columns in itertools.combinations(range(size), count):
        for shift in range(1, count):
            order = change.order.copy()
            order[list(columns)] = np.roll(order[list(columns)], shift)
            changes.append(change._replace(order=order))
    return changes


def _scale(bench: Bench) -> Mend:
    """Return the hypothesis that one observation, or all, have another unit."""

    def apply(columns: list[int], value: float) -> Change:
        change = bench.unchanged()
        change.scale[columns] = np.exp(value)
        return change

    groups = [[i] for i in range(bench.size)] + [list(range(bench.size))]
    grid = np.linspace(-np.log(MAX_SCALE), np.log(MAX_SCALE), GRID)
    columns, value = _search(bench, apply, groups, grid)
    what = bench.name(columns[0]) if len(columns) == 1 else "all observations"
    return _try(bench, f"{what} scaled by {np.exp(value):.4g}", apply(columns, value))


def _offset(bench: Bench) -> Mend:
    """Return the hypothesis that one observation is offset."""
    deviation = np.maximum(bench.observations.std(0), 1e-3)

    def apply(columns: list[int], value: float) -> Change:
        change = bench.unchanged()
        change.offset[columns] = value * deviation[columns]
        return change

    # Near offsets closer to each other than far ones.
    far = np.geomspace(MIN_OFFSET, MAX_OFFSET, GRID // 2)
    grid = np.concatenate([-far[::-1], [0.0], far])
    (column, *_), value = _search(bench, apply, [[i] for i in range(bench.size)], grid)
    text = f"{bench.name(column)} offset by {value * deviation[column]:.4g}"
    return _try(bench, text, apply([column], value))


class _Found(NamedTuple):
    """The columns and the number under which the difference is smallest."""

    columns: list[int]
    value: float


def _search(
    bench: Bench,
    apply: Callable[[list[int], float], Change],
    groups: list[list[int]],
    grid: np.ndarray,
) -> _Found:
    """Search groups of columns over a grid, which then closes in on each group's best number."""
    grids = np.tile(grid, (len(groups), 1))
    rows = np.arange(len(groups))
    best, errors = np.zeros(len(groups)), np.zeros(len(groups))
    for _ in range(ZOOMS):
        changes = []
        for group, values in zip(groups, grids, strict=True):
            changes += [apply(group, value) for value in values]
        found = bench.errors(changes).reshape(grids.shape)
        at = found.argmin(1)
        best, errors = grids[rows, at], found.min(1)
        below = grids[rows, np.maximum(at - 1, 0)]
        above = grids[rows, np.minimum(at + 1, GRID - 1)]
        grids = np.linspace(below, above, GRID, axis=1)
    winner = int(errors.argmin())
    return _Found(groups[winner], float(best[winner]))
