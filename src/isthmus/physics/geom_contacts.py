"""Which geoms of a compiled MuJoCo model can touch, and the friction between them.

MuJoCo's rules, which are followed here (its documentation, Computation, Contact): an explicit
`<contact><pair>` has a friction of its own; else the geom of higher priority decides; among equals,
the larger friction does.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

# Two of these never collide.
FLAT_GEOMS = [int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD)]
CONSTRAINT, CONTACT = mujoco.mjtDisableBit.mjDSBL_CONSTRAINT, mujoco.mjtDisableBit.mjDSBL_CONTACT
FILTER_PARENT = mujoco.mjtDisableBit.mjDSBL_FILTERPARENT

GeomPair = tuple[int, int]


class GeomContact(NamedTuple):
    """Two geoms that can touch. `geom` moves; `other` is scenery wherever one of the two is."""

    geom: int
    other: int
    friction: float  # the sliding friction where they touch; 0 without friction (condim 1)
    condim: int
    # what decides: "larger", "geom", "other" (a higher priority) or "pair" (an explicit one)
    rule: str
    # the friction in the second direction, which pairs alone have; None: as in the first
    across: float | None = None

    def friction_under(self, sliding: np.ndarray) -> float:
        """Return the friction under other coefficients of the geoms, [ngeom]."""
        if self.condim == 1:
            return 0.0
        if self.rule == "pair":
            return self.friction
        if self.rule == "larger":
            return float(max(sliding[self.geom], sliding[self.other]))
        return float(sliding[self.geom if self.rule == "geom" else self.other])


def find_colliding(model: mujoco.MjModel) -> list[GeomPair]:
    """Return the pairs of geoms that MuJoCo lets collide.

    That goes by contype and conaffinity, not parent and child, not excluded, not both of one rigid
    body. Explicit `<contact><pair>`s, which none of this filters, are not among them.
    """
    if model.opt.disableflags & (CONSTRAINT | CONTACT):
        return []
    g, h = np.triu_indices(model.ngeom, 1)
    kept = _masks_meet(model, g, h) & ~_are_related(model, g, h)
    kept &= ~np.isin(_compute_signatures(model, g, h), model.exclude_signature)
    return list(zip(g[kept].tolist(), h[kept].tolist(), strict=True))


def _masks_meet(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return which pairs of geoms (P,), (P,) have masks that meet and shapes that can, bool [P]."""
    contype, conaffinity = model.geom_contype, model.geom_conaffinity
    flat = np.isin(model.geom_type, FLAT_GEOMS)
    masks = (contype[g] & conaffinity[h]) | (contype[h] & conaffinity[g])
    return (masks != 0) & ~(flat[g] & flat[h])


def _are_related(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return which pairs of geoms are of one rigid body, or of a parent and its child, bool [P]."""
    weld = model.body_weldid
    v, w = weld[model.geom_bodyid[g]], weld[model.geom_bodyid[h]]
    if model.opt.disableflags & FILTER_PARENT:
        return v == w
    above = weld[model.body_parentid]
    # The world is nobody's parent here: a robot that hangs from it meets the floor.
    return (v == w) | ((v > 0) & (w > 0) & ((v == above[w]) | (w == above[v])))


def _compute_signatures(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return the numbers by which MuJoCo excludes pairs of bodies, int64 [P]."""
    b = model.geom_bodyid[g].astype(np.int64)
    c = model.geom_bodyid[h].astype(np.int64)
    return (np.minimum(b, c) << 16) + np.maximum(b, c)


def is_scenery(model: mujoco.MjModel) -> np.ndarray:
    """Return which geoms no joint moves, bool [ngeom]: floors, wherever in the tree, and mocap."""
    return np.asarray(model.body_treeid)[model.geom_bodyid] < 0


def find_contact(model: mujoco.MjModel, g: int, h: int) -> GeomContact:
    """Return the contact of two colliding geoms."""
    if model.body_treeid[model.geom_bodyid[g]] < 0:  # no joint moves it: scenery
        g, h = h, g
    condim, other_condim = int(model.geom_condim[g]), int(model.geom_condim[h])
    ahead = int(model.geom_priority[g]) - int(model.geom_priority[h])
    if ahead > 0:
        rule = "geom"
    elif ahead < 0:
        rule, condim = "other", other_condim
    else:
        rule, condim = "larger", max(condim, other_condim)
    contact = GeomContact(g, h, 0.0, condim, rule)
    return contact._replace(friction=contact.friction_under(model.geom_friction[:, 0]))


def find_colliding_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return the contacts of all colliding pairs, without the explicit ones."""
    return [find_contact(model, g, h) for g, h in find_colliding(model)]


def find_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return all contacts that the model's geoms can make, explicit pairs included."""
    explicit = find_explicit_contacts(model)
    replaced = {frozenset((contact.geom, contact.other)) for contact in explicit}
    contacts = []
    for contact in find_colliding_contacts(model):
        if frozenset((contact.geom, contact.other)) not in replaced:
            contacts.append(contact)
    return contacts + explicit


def find_explicit_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return the contacts of all `<contact><pair>`s.

    Two geoms may have several, and make contacts by each.
    """
    if model.opt.disableflags & (CONSTRAINT | CONTACT):
        return []
    scenery = is_scenery(model)
    contacts = []
    for k in range(model.npair):
        g, h = int(model.pair_geom1[k]), int(model.pair_geom2[k])
        if scenery[g]:
            g, h = h, g
        contacts.append(_make_explicit_contact(model, k, g, h))
    return contacts


def _make_explicit_contact(model: mujoco.MjModel, k: int, g: int, h: int) -> GeomContact:
    condim = int(model.pair_dim[k])
    if condim == 1:
        return GeomContact(g, h, 0.0, condim, "pair")
    along, across = float(model.pair_friction[k, 0]), float(model.pair_friction[k, 1])
    return GeomContact(g, h, along, condim, "pair", None if across == along else across)


def describe_geom(model: mujoco.MjModel, geom: int) -> str:
    """Return a geom's name, or its body's where it has none."""
    body = model.body(model.geom_bodyid[geom]).name
    return model.geom(geom).name or f"a geom of body {body or 'world'}"
