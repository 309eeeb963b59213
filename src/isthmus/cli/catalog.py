"""Commands that say what there is: methods, problems, tasks, parameters."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from tyro.conf import Positional

from isthmus.cli.console import make_table, print_text, screen
from isthmus.cli.options import ImportOptions

if TYPE_CHECKING:
    from isthmus.tasks.task import Task


def show_methods(code: ImportOptions, name: Positional[str | None] = None) -> None:
    """What there is to train with; with a NAME, its algorithm box, its settings, their defaults."""
    from isthmus.methods import registry

    code.load()
    if name:
        _show_method(name)
        return
    table = make_table("method", "needs access", "learners", "from")
    for key, row in registry.METHODS.items():
        table.add_row(key, row.access, row.learners, row.citation)
    screen.print(table)
    print_text(f"\nlearners, by --set learner=NAME: {', '.join(registry.LEARNERS)}")


def _show_method(name: str) -> None:
    """Print a method's algorithm box and its settings."""
    from isthmus.methods import registry

    method = registry.build(name)
    box = _read_docstring(sys.modules[type(method).__module__])
    summary = _read_docstring(type(method)).partition("\n\n")[0].strip()
    screen.print(f"[bold]{name}[/]")
    print_text(f"{box}\n\n{name}: {summary}\n")
    for key, value in registry.settings_of(method).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        screen.print(f"  --set {key}={text}")


def _read_docstring(documented: object) -> str:
    return (documented.__doc__ or "").strip()


def show_problems() -> None:
    """Problems by name. Any shift is a problem too: half_cheetah/gravity=x2."""
    from isthmus.problems.catalog import CATALOG

    name_width = max(map(len, CATALOG))
    for citation in dict.fromkeys(row.citation for row in CATALOG.values()):
        table = make_table("", "", "", title=f"[bold not italic]{escape(citation)}[/]")
        table.show_header = False
        table.columns[0].min_width, table.columns[1].min_width = name_width, len("few_shot")
        for key, row in CATALOG.items():
            if row.citation == citation:
                note = f"\n  {row.note}" if row.note else ""
                table.add_row(key, row.access, escape(f"{row.source} -> {row.target}{note}"))
        screen.print(table)


def show_tasks(code: ImportOptions) -> None:
    """Robots, what they observe, and what they can be paid for: hopper/reward=sparse."""
    from isthmus.tasks.task import VARIANTS, find_task, list_tasks

    code.load()
    tasks = {name: find_task(name) for name in list_tasks()}
    table = make_table("task", "observation", "steps at most", "equals", "in one line")
    for name, task in tasks.items():
        size, limit = _count_observed(task), task.time_limit
        table.add_row(name, size, str(limit), task.reference or "-", _summarize(task))
    screen.print(table)
    rewards = make_table("reward", "what it pays", "of")
    for variant, meaning in VARIANTS.items():
        rewards.add_row(f"reward={variant}", meaning, _list_tasks_with(variant, tasks))
    screen.print("\n[bold]rewards[/], chosen apart for source and target:")
    screen.print(rewards)


def _count_observed(task: Task) -> str:
    """Return how many numbers a task observes, where that is known without its model's sensors."""
    if isinstance(inspect.getattr_static(task, "observation_names", None), property):
        return "by its sensors"
    return str(len(task.observation_names))


def _list_tasks_with(variant: str, tasks: Mapping[str, Task]) -> str:
    """Return the tasks that have a kind of reward."""
    having = [name for name, task in tasks.items() if variant in task.variants]
    if len(having) == len(tasks):
        return "all"
    return ", ".join(having)


def _summarize(task: Task) -> str:
    """Return the first line of the docstring of a task's file."""
    return _read_docstring(sys.modules[type(task).__module__]).partition("\n")[0]


def show_parameters(code: ImportOptions, task: Positional[str] = "hopper") -> None:
    """Physical parameters of a robot by name, and the effects, with units, defaults and bounds.

    Write them name=2 (absolute), name=x2 (relative), name=1..9 or name=log:0.1..10 or
    name=normal:6:1.5:3..9 (drawn per task), name=1..9:5 (a grid). Last come the engine's numerics:
    one value for all worlds of a domain, timestep=0.001, integrator=implicitfast.
    """
    from isthmus.domains.effects import EFFECTS
    from isthmus.domains.parse import parse_domain
    from isthmus.physics.numerics import NUMERICS

    code.load()
    table = make_table("parameter", "default", "unit", "bounds", "what it changes")
    domain = parse_domain(task)
    for parameter in domain.table().values():
        bounds = f"{parameter.low:g}..{parameter.high:g}"
        default = f"{parameter.default:.4g}"
        table.add_row(escape(parameter.name), default, parameter.unit, bounds, parameter.meaning)
    table.add_section()
    for effect in EFFECTS.values():
        bounds = f"{effect.low:g}..{effect.high:g}"
        drawn = "; can be drawn" if effect.can_be_drawn else ""
        table.add_row(effect.name, "off", effect.unit, bounds, effect.meaning + drawn)
    table.add_section()
    for name, default in domain.numerics_table().items():
        setting = NUMERICS[name]
        table.add_row(name, default, setting.unit, setting.allowed, setting.meaning)
    screen.print(table)
