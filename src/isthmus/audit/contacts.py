"""The sliding friction of a robot's contacts with the floor, as the engine made them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import mujoco
import numpy as np

from isthmus.audit.effect import HORIZON_STEPS
from isthmus.audit.plan import AuditPlan, DomainVariant, VariantComparison
from isthmus.domains.physics_simulation import build_simulator
from isthmus.physics.engine import Simulator
from isthmus.physics.geom_contacts import is_scenery
from isthmus.physics.mujoco import load_model
from isthmus.physics.numerics import Numerics
from isthmus.tasks.motors import command_motors

FALL_STEPS = 2 * HORIZON_STEPS  # in which the robot falls under random actions

Frictions = dict[str, float]
"""The largest friction with which a part touched the floor, by its name."""


def measure_contacts(
    plan: AuditPlan, comparisons: list[VariantComparison], seed: int
) -> dict[DomainVariant, Frictions]:
    """Return the friction of every part's contacts with the floor, of each variant.

    The robot stands up, then falls under random actions.
    """
    by_engine: dict[tuple[str, Numerics], list[DomainVariant]] = {}
    for variant in dict.fromkeys(chain.from_iterable(comparisons)):
        by_engine.setdefault(variant.computed_by, []).append(variant)
    contacts = {}
    for variants in by_engine.values():
        contacts.update(zip(variants, _measure_falls(plan, variants, seed), strict=True))
    return contacts


def _measure_falls(plan: AuditPlan, variants: list[DomainVariant], seed: int) -> list[Frictions]:
    worlds: list[Frictions] = [{} for _ in variants]
    for simulator in _drop_robots(plan, variants, seed):
        for world, frictions in enumerate(worlds):
            for part, friction in _list_floor_contacts(plan, simulator, world):
                frictions[part] = max(frictions.get(part, 0.0), friction)
    return worlds


def _drop_robots(plan: AuditPlan, variants: list[DomainVariant], seed: int) -> Iterator[Simulator]:
    """Yield a simulator with a world a variant, after each step under random actions."""
    engine, numerics = variants[0].computed_by
    task, spaces = plan.source.description(), plan.source.spaces
    known, values = plan.select_known(engine, variants)
    n, rng = len(variants), np.random.default_rng(seed)
    ids = np.arange(n)
    simulator = build_simulator(task, engine, known, n, numerics, forces=True)
    simulator.set_parameters(ids, values)
    simulator.reset(ids, np.tile(simulator.qpos0, (n, 1)), np.zeros((n, simulator.nv)))
    for _ in range(FALL_STEPS):
        actions = np.tile(rng.uniform(spaces.low, spaces.high), (n, 1))
        simulator.step(ids, command_motors(task, actions))
        yield simulator


def _list_floor_contacts(
    plan: AuditPlan, simulator: Simulator, world: int
) -> Iterator[tuple[str, float]]:
    """Yield the part and the friction of each contact between the robot and what it stands on."""
    model = load_model(plan.source.description().model_path())
    scenery = is_scenery(model)
    for geoms, friction in simulator.contacts(world):
        parts = np.array(geoms)[~scenery[list(geoms)]]
        if len(parts) == 1:
            yield _name_part(model, int(parts[0])), friction


def _name_part(model: mujoco.MjModel, geom: int) -> str:
    name = model.geom(geom).name or model.body(model.geom_bodyid[geom]).name
    return name.removesuffix("_geom")
