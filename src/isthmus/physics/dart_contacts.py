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

from isthmus.physics.geom_contacts import GeomContact, GeomPair

Frictions = dict[GeomPair, float]
BodyPair = tuple[int, int]  # the lower number first


class ShapeCopy(NamedTuple):
    """A second shape of a geom, and its friction."""

    geom: int
    friction: float


class ShapePlan(NamedTuple):
    """Which shapes a world has, their coefficients, and which bodies touch.

    `frictions` are of the geoms' own shapes, by geom; `copies` are bodies of their own, numbered
    from nbody on; `touching` are pairs of these numbers and of the model's bodies.
    """

    frictions: dict[int, float]
    copies: tuple[ShapeCopy, ...]
    touching: frozenset[BodyPair]

    def has_structure_of(self, other: ShapePlan) -> bool:
        """Return whether two plans differ by coefficients alone."""
        return self._list_copied() == other._list_copied() and self.touching == other.touching

    def _list_copied(self) -> list[int]:
        return [copy.geom for copy in self.copies]


def plan_shapes(
    model: mujoco.MjModel, contacts: list[GeomContact], sliding: np.ndarray
) -> ShapePlan:
    """Return shapes by which all contacts rub as in MuJoCo.

    `contacts` are those of all colliding pairs, `sliding` [ngeom] the geoms' coefficients.
    """
    wanted: Frictions = {}
    for contact in contacts:
        wanted[contact.geom, contact.other] = contact.friction_under(sliding)
    frictions = _find_largest(wanted)
    copies: list[ShapeCopy] = []
    touching: set[BodyPair] = set()
    for bodies, group in _group_by_bodies(model, wanted).items():
        if _rub_by_themselves(group, frictions):
            touching.add(bodies)
        else:
            touching |= _add_copies(copies, bodies, group, model.nbody)
    return ShapePlan(frictions, tuple(copies), frozenset(touching))


def _find_largest(wanted: Frictions) -> dict[int, float]:
    """Return the largest friction of each geom's contacts."""
    frictions: dict[int, float] = {}
    for pair, friction in wanted.items():
        for g in pair:
            frictions[g] = max(frictions.get(g, 0.0), friction)
    return frictions


def _rub_by_themselves(group: Frictions, frictions: dict[int, float]) -> bool:
    """Return whether the smaller of two shapes' frictions is that of each pair in `group`."""
    return all(min(frictions[g], frictions[h]) == group[g, h] for g, h in group)


def _group_by_bodies(model: mujoco.MjModel, wanted: Frictions) -> dict[BodyPair, Frictions]:
    """Return the pairs by their bodies, each pair in the order of the bodies."""
    groups: dict[BodyPair, Frictions] = {}
    owner = model.geom_bodyid.tolist()
    for (g, h), friction in wanted.items():
        b, c = owner[g], owner[h]
        if b > c:
            b, c, g, h = c, b, h, g
        groups.setdefault((b, c), {})[g, h] = friction
    return groups


def _add_copies(
    copies: list[ShapeCopy], bodies: BodyPair, group: Frictions, nbody: int
) -> set[BodyPair]:
    """Add the copies that let two bodies touch by the frictions in `group`; return who touches.

    One side is copied, and meets the other body itself, where each of its geoms has one friction
    with all of that body's (the side that needs fewer new copies); else both are, pair by pair.
    """
    sides: dict[int, set[ShapeCopy]] = {}
    for side in (0, 1):
        if _has_one_friction_each(group, side):
            sides[side] = {ShapeCopy(pair[side], group[pair]) for pair in group}
    if not sides:
        return _add_pairs_of_copies(copies, group, nbody)
    side = min(sides, key=lambda side: len(sides[side].difference(copies)))
    other = bodies[1 - side]
    return {(other, _number(copies, copy) + nbody) for copy in sorted(sides[side])}


def _add_pairs_of_copies(copies: list[ShapeCopy], group: Frictions, nbody: int) -> set[BodyPair]:
    """Copy both geoms of every pair; return which copies touch."""
    touching: set[BodyPair] = set()
    for (g, h), friction in group.items():
        first = _number(copies, ShapeCopy(g, friction)) + nbody
        second = _number(copies, ShapeCopy(h, friction)) + nbody
        touching.add((min(first, second), max(first, second)))
    return touching


def _has_one_friction_each(group: Frictions, side: int) -> bool:
    """Return whether each geom on a side has one friction with all geoms of the other."""
    frictions: dict[int, float] = {}
    for pair, friction in group.items():
        if frictions.setdefault(pair[side], friction) != friction:
            return False
    return True


def _number(copies: list[ShapeCopy], copy: ShapeCopy) -> int:
    """Return the place of a copy, which is added where there is none yet."""
    if copy not in copies:
        copies.append(copy)
    return copies.index(copy)
