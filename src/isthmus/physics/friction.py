"""What two geoms of a compiled MuJoCo model rub by when they touch, and the parameters that set it.

MuJoCo's rules, which are followed here (its documentation, Computation, Contact): an explicit
`<contact><pair>` has a friction of its own; else the geom of higher priority decides; among equals,
the larger friction does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.parameters import Parameter

FLAT = [
    int(mujoco.mjtGeom.mjGEOM_PLANE),
    int(mujoco.mjtGeom.mjGEOM_HFIELD),
]  # two of these never collide
CONSTRAINT, CONTACT = mujoco.mjtDisableBit.mjDSBL_CONSTRAINT, mujoco.mjtDisableBit.mjDSBL_CONTACT
FILTER_PARENT = mujoco.mjtDisableBit.mjDSBL_FILTERPARENT
OVERRIDE = mujoco.mjtEnableBit.mjENBL_OVERRIDE
OF_ALL_CONTACTS = (
    "friction",
    "friction_scale",
)  # either scales all contacts; a model has one of them at most


class GeomContact(NamedTuple):
    """Two geoms that can touch. `geom` moves; `other` is scenery wherever one of the two is."""

    geom: int
    other: int
    friction: float  # the sliding friction where they touch; 0 without friction (condim 1)
    condim: int
    # what decides: "larger", "geom", "other" (a higher priority) or "pair" (an explicit one)
    rule: str
    across: float | None = (
        # the friction in the second direction; None: as in the first. Pairs alone have another
        None
    )

    def friction_under(self, sliding: np.ndarray) -> float:
        """Return the friction under other coefficients of the geoms, [ngeom]."""
        if self.condim == 1:
            return 0.0
        if self.rule == "pair":
            return self.friction
        if self.rule == "larger":
            return float(max(sliding[self.geom], sliding[self.other]))
        return float(sliding[self.geom if self.rule == "geom" else self.other])


def colliding(model: mujoco.MjModel) -> list[tuple[int, int]]:
    """Return the pairs of geoms that MuJoCo lets collide: by contype and conaffinity, not parent
    and child, not excluded, not both of one rigid body. Explicit `<contact><pair>`s, which none of
    this filters, are not among them.
    """
    if model.opt.disableflags & (CONSTRAINT | CONTACT):
        return []
    g, h = np.triu_indices(model.ngeom, 1)
    kept = _kinds_meet(model, g, h) & ~_are_related(model, g, h)
    kept &= ~np.isin(_sign_bodies(model, g, h), model.exclude_signature)
    return list(zip(g[kept].tolist(), h[kept].tolist(), strict=True))


def _kinds_meet(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Say of pairs of geoms (P,), (P,) whether their masks meet, and MuJoCo can collide their
    shapes, bool [P].
    """
    contype, conaffinity = model.geom_contype, model.geom_conaffinity
    flat = np.isin(model.geom_type, FLAT)
    masks = (contype[g] & conaffinity[h]) | (contype[h] & conaffinity[g])
    return (masks != 0) & ~(flat[g] & flat[h])


def _are_related(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Say of pairs of geoms whether they are of one rigid body, or of a parent and its child."""
    weld = model.body_weldid
    v, w = (weld[model.geom_bodyid[k]] for k in (g, h))
    if model.opt.disableflags & FILTER_PARENT:
        return v == w
    above = weld[model.body_parentid]
    # The world is nobody's parent here: a robot that hangs from it meets the floor.
    return (v == w) | ((v > 0) & (w > 0) & ((v == above[w]) | (w == above[v])))


def _sign_bodies(model: mujoco.MjModel, g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return what MuJoCo excludes pairs of bodies by."""
    b, c = (model.geom_bodyid[k].astype(np.int64) for k in (g, h))
    return (np.minimum(b, c) << 16) + np.maximum(b, c)


def is_scenery(model: mujoco.MjModel) -> np.ndarray:
    """Say of every geom whether no joint moves it, bool [ngeom]: floors, wherever they are in the
    tree, and mocap.
    """
    return np.asarray(model.body_treeid)[model.geom_bodyid] < 0


def find_contact(model: mujoco.MjModel, g: int, h: int) -> GeomContact:
    """Return the contact of two colliding geoms."""
    if model.body_treeid[model.geom_bodyid[g]] < 0:  # no joint moves it: scenery
        g, h = h, g
    condims = [int(model.geom_condim[k]) for k in (g, h)]
    ahead = int(model.geom_priority[g]) - int(model.geom_priority[h])
    if ahead > 0:
        rule, condim = "geom", condims[0]
    elif ahead < 0:
        rule, condim = "other", condims[1]
    else:
        rule, condim = "larger", max(condims)
    contact = GeomContact(g, h, 0.0, condim, rule)
    return contact._replace(friction=contact.friction_under(model.geom_friction[:, 0]))


def find_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return all contacts that the model's geoms can make, explicit pairs included."""
    explicit = _find_explicit_contacts(model)
    replaced = {frozenset((c.geom, c.other)) for c in explicit}
    dynamic = [
        find_contact(model, g, h) for g, h in colliding(model) if frozenset((g, h)) not in replaced
    ]
    return dynamic + explicit


def _find_explicit_contacts(model: mujoco.MjModel) -> list[GeomContact]:
    """Return the contacts of all `<contact><pair>`s: two geoms may have several, and make contacts
    by each.
    """
    if model.opt.disableflags & (CONSTRAINT | CONTACT):
        return []
    scenery, found = is_scenery(model), []
    for k in range(model.npair):
        g, h = int(model.pair_geom1[k]), int(model.pair_geom2[k])
        if scenery[g]:
            g, h = h, g
        condim = int(model.pair_dim[k])
        along, across = (float(mu) if condim > 1 else 0.0 for mu in model.pair_friction[k, :2])
        found.append(GeomContact(g, h, along, condim, "pair", None if across == along else across))
    return found


def _find_feet(model: mujoco.MjModel, contacts: list[GeomContact]) -> list[int]:
    """Return the geoms called a foot that can touch some scenery."""
    scenery = is_scenery(model)
    touching = {c.geom for c in contacts if scenery[c.other] and not scenery[c.geom]}
    return [g for g in sorted(touching) if _is_called_foot(model, g)]


def _is_called_foot(model: mujoco.MjModel, geom: int) -> bool:
    return "foot" in model.geom(geom).name.lower()


def _find_floor_contacts(model: mujoco.MjModel, contacts: list[GeomContact]) -> list[GeomContact]:
    """Return the contacts that `friction` is about: of the feet with scenery, else of any part,
    else whatever there is.

    Where a robot meets no scenery (balls in space), its parts meet each other.
    """
    scenery = is_scenery(model)
    on_scenery = [c for c in contacts if scenery[c.other] and not scenery[c.geom]]
    feet = _find_feet(model, contacts)
    return [c for c in on_scenery if c.geom in feet] or on_scenery or contacts


def _find_uncontrolled(model: mujoco.MjModel) -> str | None:
    """Return why no parameter can set the friction of this model's contacts; None where one can."""
    if model.opt.enableflags & OVERRIDE:
        return 'with <flag override="enable"/> all contacts have the option o_friction'
    if model.nflex:
        return "it has flexible bodies, whose friction is their own"
    return None


def offer_friction(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `friction` or else `friction_scale`, and `foot_friction`, as far as the model keeps
    what they promise.
    """
    for offer in _list_offers(model).values():
        if not isinstance(offer, str):
            yield offer


def find_withheld(model: mujoco.MjModel) -> dict[str, str]:
    """Return why a name is not offered, for `friction` and `foot_friction`."""
    return {name: offer for name, offer in _list_offers(model).items() if isinstance(offer, str)}


def _list_offers(model: mujoco.MjModel) -> dict[str, Parameter | str]:
    """Return each of the parameters, or the reason why it is withheld; none that the model has no
    use for.
    """
    contacts = find_contacts(model)
    offers = {
        "friction": _offer_friction(model, contacts),
        "friction_scale": _offer_friction_scale(model, contacts),
        "foot_friction": _offer_foot_friction(model, contacts),
    }
    return {name: offer for name, offer in offers.items() if offer is not None}


def _offer_friction(model: mujoco.MjModel, contacts: list[GeomContact]) -> Parameter | str | None:
    """Return the parameter `friction`, or why there is none; None for a model without friction
    anywhere.
    """
    if reason := _find_uncontrolled(model):
        return reason
    on_floor = _find_floor_contacts(model, contacts)
    meaning = "the sliding friction of the foot's (or limbs') contact with the floor: floor and robot scaled together"
    if on_floor:
        frictions = _name_frictions(model, on_floor)
        default = max(named.friction for named in frictions)
        if default == 0:
            return _explain_no_friction(on_floor)
        if min(named.friction for named in frictions) < default:
            return _explain_difference(frictions)
    else:
        default = float(np.asarray(model.geom_friction)[:, 0].max(initial=0.0))
        meaning += "; here nothing can touch anything, and it changes nothing"
    if default == 0:
        return None
    explicit = any(c.rule == "pair" for c in contacts)
    return _parameter("friction", default, _scale_friction(default, explicit), meaning, explicit)


class _NamedFriction(NamedTuple):
    """The friction of a contact by default, and which contact it is."""

    friction: float
    contact: str


def _name_frictions(model: mujoco.MjModel, contacts: list[GeomContact]) -> list[_NamedFriction]:
    """Return the frictions of contacts, both where a contact has one in each direction."""
    frictions = []
    for c in contacts:
        contact = f"{_name(model, c.geom)} with {_name(model, c.other)}"
        frictions.append(_NamedFriction(c.friction, contact))
        if c.across is not None:
            frictions.append(_NamedFriction(c.across, f"{contact} in the second direction"))
    return frictions


def _explain_difference(frictions: list[_NamedFriction]) -> str:
    low, high = (choose(frictions, key=_get_friction) for choose in (min, max))
    return (
        f"one value would not hold for all contacts, which differ by default: {low.contact} "
        f"{low.friction:g}, "
        f"{high.contact} {high.friction:g}; scale all of them by friction_scale=x0.5"
    )


def _get_friction(named: _NamedFriction) -> float:
    return named.friction


def _offer_friction_scale(model: mujoco.MjModel, contacts: list[GeomContact]) -> Parameter | None:
    """Return the parameter `friction_scale`, which stands in for `friction` where contacts differ
    by default.
    """
    frictions = [
        named.friction for named in _name_frictions(model, _find_floor_contacts(model, contacts))
    ]
    if _find_uncontrolled(model) or not frictions or min(frictions) == max(frictions):
        return None
    meaning = "the sliding friction of all contacts together; those with the floor have "
    meaning += f"{min(frictions):g} to {max(frictions):g} by default"
    explicit = any(c.rule == "pair" for c in contacts)
    return _parameter(
        "friction_scale", 1.0, _scale_friction(1.0, explicit), meaning, explicit, unit="x"
    )


def _explain_no_friction(on_floor: list[GeomContact]) -> str:
    if all(c.condim == 1 for c in on_floor):
        return "contacts with the floor are without friction (condim 1)"
    return "the friction of contacts with the floor is 0 by default, and it is set by scaling"


def _scale_friction(
    default: float, explicit: bool
) -> Callable[[Mapping[str, np.ndarray], np.ndarray], None]:
    """Return what scales all contacts together: their rules pick among geoms, and so scale with
    them.
    """

    def apply(fields: Mapping[str, np.ndarray], values: np.ndarray) -> None:
        fields["geom_friction"][:, :, 0] = fields["geom_friction"][:, :, 0] * (
            values[:, None] / default
        )
        if explicit:
            factor = values[:, None, None] / default
            fields["pair_friction"][:, :, :2] = fields["pair_friction"][:, :, :2] * factor

    return apply


def _offer_foot_friction(
    model: mujoco.MjModel, contacts: list[GeomContact]
) -> Parameter | str | None:
    """Return the parameter `foot_friction`, or why there is none; None for a robot without feet."""
    named = [g for g in np.flatnonzero(~is_scenery(model)).tolist() if _is_called_foot(model, g)]
    if not named:
        return None
    if reason := _find_uncontrolled(model):
        return reason
    feet = _find_feet(model, contacts)
    if not feet:
        return "no geom called a foot can touch the floor"
    on_floor = _find_foot_contacts(model, contacts)
    if reason := _find_undecided(model, on_floor) or _find_unlike_feet(model, feet, contacts):
        return reason
    meaning = "the feet's own coefficient, as published; "
    floor = _find_inert_friction(model, on_floor)
    if floor is None:
        meaning += "the contact's too, for the feet have the higher priority"
    else:
        meaning += "contact takes the larger of foot and floor, "
        meaning += f"so that all values up to the floor's {floor:g} are the same"

    def apply(fields: Mapping[str, np.ndarray], values: np.ndarray) -> None:
        fields["geom_friction"][:, feet, 0] = values[:, None]

    return _parameter(
        "foot_friction", model.geom_friction[feet, 0].max(), apply, meaning, explicit=False
    )


def _find_foot_contacts(model: mujoco.MjModel, contacts: list[GeomContact]) -> list[GeomContact]:
    """Return the contacts of feet with scenery."""
    scenery = is_scenery(model)
    feet = _find_feet(model, contacts)
    return [c for c in contacts if c.geom in feet and scenery[c.other]]


def _find_undecided(model: mujoco.MjModel, on_floor: list[GeomContact]) -> str | None:
    """Return why the feet's own coefficient does not say what they rub by; None where it does."""
    reasons = {
        "other": "the priority of {other} is above that of {foot}, whose friction therefore does not count",
        "pair": "<contact><pair> gives {foot} and {other} a friction of their own",
    }
    for c in on_floor:
        if c.condim == 1:
            return f"{_name(model, c.geom)} touches {_name(model, c.other)} without friction (condim 1)"
        if c.rule in reasons:
            return reasons[c.rule].format(foot=_name(model, c.geom), other=_name(model, c.other))
    if len({c.rule for c in on_floor}) > 1:
        return "the feet have a higher priority than some floors only: one rule does not say what they rub by"
    return None


def _find_unlike_feet(
    model: mujoco.MjModel, feet: list[int], contacts: list[GeomContact]
) -> str | None:
    """Return why one coefficient is not the default of all feet; None where it is."""
    sliding = model.geom_friction[feet, 0]
    low, high = feet[int(sliding.argmin())], feet[int(sliding.argmax())]
    if sliding.min() == sliding.max():
        return None
    offered = "friction" if _offer_friction_scale(model, contacts) is None else "friction_scale"
    return (
        f"the feet's own coefficients differ by default: {_name(model, low)} {sliding.min():g}, "
        f"{_name(model, high)} {sliding.max():g}; set {offered}"
    )


def find_inert_foot_friction(model: mujoco.MjModel) -> float | None:
    """Return the friction of the floor, up to which `foot_friction` has no effect; None where it
    always has one.
    """
    return _find_inert_friction(model, _find_foot_contacts(model, find_contacts(model)))


def _find_inert_friction(model: mujoco.MjModel, on_floor: list[GeomContact]) -> float | None:
    """Return the lowest friction of what the feet touch; None where it does not count beside
    theirs.
    """
    if not on_floor or any(c.rule != "larger" for c in on_floor):
        return None
    return min(float(model.geom_friction[c.other, 0]) for c in on_floor)


def _name(model: mujoco.MjModel, geom: int) -> str:
    body = model.body(model.geom_bodyid[geom]).name
    return model.geom(geom).name or f"a geom of body {body or 'world'}"


def _parameter(
    name: str, default: float, apply: Callable, meaning: str, explicit: bool, unit: str = "1"
) -> Parameter:
    fields = ("geom_friction", "pair_friction") if explicit else ("geom_friction",)
    return Parameter(name, unit, float(default), 0.0, 100.0, fields, apply, meaning)
