"""Of which robots and how much training DAP's verdicts are, and at which scale a claim about
several robots can be decided at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.papers.dap.trials import CROSSABLE, PAIR, SCALES, TASKS
from isthmus.studies.claims import describe_missing
from isthmus.studies.contrasts import Contrast

FLOORS = ("D1",)
"""Claims of the floor and the ceiling alone, which figure "shifts" trains on all robots."""


@dataclass(frozen=True)
class Training:
    """What a scale trains: the robots of figure 2, and how much shorter than the paper (empty: as
    long).
    """

    robots: tuple[str, ...] = TASKS
    length: str = ""


def list_trained_tasks(claim: str, robots: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks that a claim finds trained at a scale with these robots in figure 2."""
    trained = TASKS if claim in FLOORS else robots
    return (*trained, *CROSSABLE, PAIR)


def find_scales(claim: str, tasks: Sequence[str], need: int | None) -> str:
    """Return the scales that train as many of a claim's tasks as *holds* needs (None: all)."""
    needed = len(tasks) if need is None else need
    scales = []
    for scale in ("laptop", "paper"):
        trained = list_trained_tasks(claim, SCALES[scale].tasks)
        if len({*tasks} & {*trained}) >= needed:
            scales.append(scale)
    return ", ".join(scales)


def describe_partial(
    by_task: Mapping[str, Sequence[Contrast | None]], absent: list[str], beyond: list[str]
) -> str:
    """Return which of a scale's tasks were not run, and whether others were in part only."""
    not_run = [task for task in absent if task not in beyond]
    incomplete = False
    for task, tests in by_task.items():
        if task not in absent and None in tests:
            incomplete = True
    return describe_missing(not_run, incomplete=incomplete)


def describe_beyond(tasks: list[str], total: int, need: int | None) -> str:
    """Return which robots a scale does not train, and what can be concluded without them."""
    if not tasks:
        return ""
    possible = total - len(tasks)
    can_hold = need is not None and need <= possible
    can_fall = need is None or total - need + 1 <= possible
    conclusions = {
        (False, True): "here it can fall, and hold there only",
        (True, False): "here it can hold, and fall there only",
        (False, False): "here it can do neither",
        (True, True): "here it can do both",
    }
    return f"{', '.join(tasks)} at paper scale only, {conclusions[can_hold, can_fall]}"


def describe_scope(tasks: tuple[str, ...], absent: list[str], length: str) -> str:
    """Return of which robots and what training a verdict is."""
    present = [task for task in tasks if task not in absent]
    parts = [f"{', '.join(present)} alone"] if absent else []
    if length and present != [PAIR]:
        parts.append(length)
    return "; ".join(parts)
