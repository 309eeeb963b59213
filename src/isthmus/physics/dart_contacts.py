"""Friction by pairs in an engine that takes the smaller coefficient of two shapes.

Each geom's own shape gets the largest friction that any of its contacts has. Where the smaller of
two such shapes is not what MuJoCo has for the pair (limbs on a rough floor that slide on each
other), the pair is made to touch by a copy of one of its shapes, with the pair's friction, on a
body of the copy's own: DART filters collisions by body.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.friction import GeomContact, colliding, find_contact

Frictions = dict[tuple[int, int], float]  # of pairs of geoms


class ShapeCopy(NamedTuple):
    """A second shape of a geom, and its friction."""

    geom: int
    friction: float


class ShapePlan(NamedTuple):
    """Which shapes a world has, their coefficients, and which bodies touch.

    `frictions` are of the geoms' own shapes, by geom; `copies` are bodies of their own, numbered
    from nbody on; `touching` are pairs (lower, higher) of these numbers and of the model's bodies.
    """

    frictions: dict[int, float]
    copies: tuple[ShapeCopy, ...]
    touching: frozenset[tuple[int, int]]

    def has_structure_of(self, other: ShapePlan) -> bool:
        """Say whether two plans differ by coefficients alone."""
        geoms, others = ([copy.geom for copy in plan.copies] for plan in (self, other))
        return geoms == others and self.touching == other.touching


def find_dynamic_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return what `plan_shapes` goes by: the contacts of all colliding pairs."""
    return [find_contact(model, g, h) for g, h in colliding(model)]


def plan_shapes(
    model: mujoco.MjModel, contacts: list[GeomContact], sliding: np.ndarray
) -> ShapePlan:
    """Return shapes by which all contacts rub as in MuJoCo, under the geoms' coefficients `sliding`
    [ngeom].
    """
    wanted = {
        (contact.geom, contact.other): contact.friction_under(sliding) for contact in contacts
    }
    frictions: dict[int, float] = {}
    for pair, friction in wanted.items():
        for g in pair:
            frictions[g] = max(frictions.get(g, 0.0), friction)
    copies: list[ShapeCopy] = []
    touching: set[tuple[int, int]] = set()
    for bodies, group in _group_by_bodies(model, wanted).items():
        if all(min(frictions[g], frictions[h]) == friction for (g, h), friction in group.items()):
            touching.add(bodies)
        else:
            touching |= _add_copies(copies, bodies, group, model.nbody)
    return ShapePlan(frictions, tuple(copies), frozenset(touching))


def _group_by_bodies(model: mujoco.MjModel, wanted: Frictions) -> dict[tuple[int, int], Frictions]:
    """Return the pairs by their bodies (lower, higher), each pair in the order of the bodies."""
    groups: dict[tuple[int, int], Frictions] = {}
    owner = model.geom_bodyid.tolist()
    for (g, h), friction in wanted.items():
        b, c = owner[g], owner[h]
        if b > c:
            b, c, g, h = c, b, h, g
        groups.setdefault((b, c), {})[g, h] = friction
    return groups


def _add_copies(
    copies: list[ShapeCopy], bodies: tuple[int, int], group: Frictions, nbody: int
) -> set[tuple[int, int]]:
    """Add the copies that let two bodies touch by the frictions in `group`; return which bodies
    touch thereby.

    One side is copied, and meets the other body itself, where each of its geoms has one friction
    with all of that body's; else both are, pair by pair.
    """
    sides = [side for side in (0, 1) if _has_one_friction_each(group, side)]
    if not sides:
        met = set()
        for (g, h), friction in group.items():
            pair = [_number(copies, ShapeCopy(k, friction)) + nbody for k in (g, h)]
            met.add((min(pair), max(pair)))
        return met
    needed = {
        side: {ShapeCopy(pair[side], friction) for pair, friction in group.items()}
        for side in sides
    }
    side = min(sides, key=lambda s: len(needed[s] - set(copies)))
    other = bodies[1 - side]
    return {(other, _number(copies, copy) + nbody) for copy in sorted(needed[side])}


def _has_one_friction_each(group: Frictions, side: int) -> bool:
    """Say whether each geom on a side has one and the same friction with all geoms of the other."""
    found: dict[int, float] = {}
    return all(
        found.setdefault(pair[side], friction) == friction for pair, friction in group.items()
    )


def _number(copies: list[ShapeCopy], copy: ShapeCopy) -> int:
    """Return the place of a copy, which is added where there is none yet."""
    if copy not in copies:
        copies.append(copy)
    return copies.index(copy)
