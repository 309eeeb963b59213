"""The parameters that set the friction of a model's contacts, and why some are withheld.

`friction` sets that of all contacts, or `friction_scale` scales it where contacts differ by
default; `foot_friction` sets the coefficient of the feet alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.geom_contacts import GeomContact, describe_geom, find_contacts, is_scenery
from isthmus.physics.model_fields import Apply, Fields
from isthmus.physics.parameters import Parameter

OVERRIDE = mujoco.mjtEnableBit.mjENBL_OVERRIDE

OF_ALL_CONTACTS = ("friction", "friction_scale")
"""Parameters that scale all contacts; a model has one of them at most."""

UNDECIDED_RULES = {
    "other": (
        "the priority of {other} is above that of {foot}, whose friction therefore does not count"
    ),
    "pair": "<contact><pair> gives {foot} and {other} a friction of their own",
}
"""Rules of a contact by which a foot's own coefficient does not count."""

Offer = Parameter | str | None
"""A parameter; or the reason why it is withheld; or None, where the model has no use for it."""


class NamedFriction(NamedTuple):
    """The friction of a contact by default, and which contact it is."""

    friction: float
    contact: str


class FrictionContacts:
    """A model's contacts, as the parameters of friction need them."""

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        self.scenery = is_scenery(model)
        self.all = find_contacts(model)
        self.explicit = any(contact.rule == "pair" for contact in self.all)
        self.on_scenery: list[GeomContact] = []
        self.of_feet: list[GeomContact] = []  # with scenery
        for contact in self.all:
            self._sort_contact(contact)
        self.feet = sorted({contact.geom for contact in self.of_feet})

    def _sort_contact(self, contact: GeomContact) -> None:
        if self.scenery[contact.geom] or not self.scenery[contact.other]:
            return
        self.on_scenery.append(contact)
        if is_called_foot(self.model, contact.geom):
            self.of_feet.append(contact)

    @property
    def on_floor(self) -> list[GeomContact]:
        """The contacts that `friction` is about.

        They are those of the feet with scenery, else of any part; where a robot meets no scenery
        (balls in space), its parts meet each other.
        """
        return self.of_feet or self.on_scenery or self.all

    def list_frictions(self) -> list[NamedFriction]:
        """Return the frictions on the floor, both where a contact has one in each direction."""
        frictions = []
        for contact in self.on_floor:
            geom = describe_geom(self.model, contact.geom)
            name = f"{geom} with {describe_geom(self.model, contact.other)}"
            frictions.append(NamedFriction(contact.friction, name))
            if contact.across is not None:
                name = f"{name} in the second direction"
                frictions.append(NamedFriction(contact.across, name))
        return frictions


def is_called_foot(model: mujoco.MjModel, geom: int) -> bool:
    """Return whether a geom's name says that it is a foot."""
    return "foot" in model.geom(geom).name.lower()


def offer_friction(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `friction` or else `friction_scale`, and `foot_friction`, as far as they would hold."""
    for offer in _list_offers(model).values():
        if isinstance(offer, Parameter):
            yield offer


def find_withheld(model: mujoco.MjModel) -> dict[str, str]:
    """Return why a parameter is not offered, for `friction` and `foot_friction`."""
    reasons: dict[str, str] = {}
    for name, offer in _list_offers(model).items():
        if isinstance(offer, str):
            reasons[name] = offer
    return reasons


def _list_offers(model: mujoco.MjModel) -> dict[str, Offer]:
    """Return what becomes of each parameter, by name."""
    contacts = FrictionContacts(model)
    return {
        "friction": _offer_friction(contacts),
        "friction_scale": _offer_friction_scale(contacts),
        "foot_friction": _offer_foot_friction(contacts),
    }


def _find_uncontrolled(model: mujoco.MjModel) -> str | None:
    """Return why no parameter can set the friction of this model's contacts; None where one can."""
    if model.opt.enableflags & OVERRIDE:
        return 'with <flag override="enable"/> all contacts have the option o_friction'
    if model.nflex:
        return "it has flexible bodies, whose friction is their own"
    return None


# All contacts


def _offer_friction(contacts: FrictionContacts) -> Offer:
    """Return `friction`, or why there is none; None for a model without friction anywhere."""
    if reason := _find_uncontrolled(contacts.model):
        return reason
    meaning = (
        "the sliding friction of the foot's (or limbs') contact with the floor: floor and robot "
        "scaled together"
    )
    frictions = contacts.list_frictions()
    if not frictions:
        default = float(np.asarray(contacts.model.geom_friction)[:, 0].max(initial=0.0))
        meaning += "; here nothing can touch anything, and it changes nothing"
        return _make_scaling("friction", default, contacts, meaning) if default else None
    lowest = min(frictions, key=attrgetter("friction"))
    highest = max(frictions, key=attrgetter("friction"))
    if highest.friction == 0:
        return _explain_no_friction(contacts.on_floor)
    if lowest.friction < highest.friction:
        return _explain_difference(lowest, highest)
    return _make_scaling("friction", highest.friction, contacts, meaning)


def _explain_difference(lowest: NamedFriction, highest: NamedFriction) -> str:
    return (
        "one value would not hold for all contacts, which differ by default: "
        f"{lowest.contact} {lowest.friction:g}, {highest.contact} {highest.friction:g}; scale all "
        "of them by friction_scale=x0.5"
    )


def _explain_no_friction(on_floor: list[GeomContact]) -> str:
    if all(contact.condim == 1 for contact in on_floor):
        return "contacts with the floor are without friction (condim 1)"
    return "the friction of contacts with the floor is 0 by default, and it is set by scaling"


def _offer_friction_scale(contacts: FrictionContacts) -> Parameter | None:
    """Return `friction_scale`, which stands in for `friction` where contacts differ by default."""
    frictions = [named.friction for named in contacts.list_frictions()]
    if _find_uncontrolled(contacts.model) or len(set(frictions)) < 2:
        return None
    meaning = (
        "the sliding friction of all contacts together; those with the floor have "
        f"{min(frictions):g} to {max(frictions):g} by default"
    )
    return _make_scaling("friction_scale", 1.0, contacts, meaning, unit="x")


def _make_scaling(
    name: str, default: float, contacts: FrictionContacts, meaning: str, unit: str = "1"
) -> Parameter:
    """Return a parameter that scales all contacts together, from a default on.

    Their rules pick among geoms, and so scale with them.
    """
    explicit = contacts.explicit
    fields = ("geom_friction", "pair_friction") if explicit else ("geom_friction",)

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["geom_friction"][:, :, 0] = fields["geom_friction"][:, :, 0] * (
            values[:, None] / default
        )
        if explicit:
            factor = values[:, None, None] / default
            fields["pair_friction"][:, :, :2] = fields["pair_friction"][:, :, :2] * factor

    return _make_parameter(name, default, fields, apply, meaning, unit)


# Feet


def _offer_foot_friction(contacts: FrictionContacts) -> Offer:
    """Return `foot_friction`, or why there is none; None for a robot without feet."""
    model, feet = contacts.model, contacts.feet
    moving = np.flatnonzero(~contacts.scenery).tolist()
    if not any(is_called_foot(model, geom) for geom in moving):
        return None
    if reason := _explain_foot_friction(contacts):
        return reason

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["geom_friction"][:, feet, 0] = values[:, None]

    meaning = "the feet's own coefficient, as published; "
    floor = _find_inert_friction(contacts)
    if floor is None:
        meaning += "the contact's too, for the feet have the higher priority"
    else:
        meaning += "contact takes the larger of foot and floor, "
        meaning += f"so that all values up to the floor's {floor:g} are the same"
    default = float(model.geom_friction[feet, 0].max())
    return _make_parameter("foot_friction", default, ("geom_friction",), apply, meaning)


def _explain_foot_friction(contacts: FrictionContacts) -> str | None:
    """Return why the feet's own coefficient is withheld; None where it is not."""
    if reason := _find_uncontrolled(contacts.model):
        return reason
    if not contacts.feet:
        return "no geom called a foot can touch the floor"
    return _find_undecided(contacts) or _find_unlike_feet(contacts)


def _find_undecided(contacts: FrictionContacts) -> str | None:
    """Return why the feet's own coefficient is not what they rub by; None where it is."""
    rules: set[str] = set()
    for contact in contacts.of_feet:
        foot = describe_geom(contacts.model, contact.geom)
        other = describe_geom(contacts.model, contact.other)
        if contact.condim == 1:
            return f"{foot} touches {other} without friction (condim 1)"
        if contact.rule in UNDECIDED_RULES:
            return UNDECIDED_RULES[contact.rule].format(foot=foot, other=other)
        rules.add(contact.rule)
    if len(rules) > 1:
        return (
            "the feet have a higher priority than some floors only: one rule does not say what "
            "they rub by"
        )
    return None


def _find_unlike_feet(contacts: FrictionContacts) -> str | None:
    """Return why one coefficient is not the default of all feet; None where it is."""
    model, feet = contacts.model, contacts.feet
    sliding = model.geom_friction[feet, 0]
    if sliding.min() == sliding.max():
        return None
    low = describe_geom(model, feet[int(sliding.argmin())])
    high = describe_geom(model, feet[int(sliding.argmax())])
    offered = "friction" if _offer_friction_scale(contacts) is None else "friction_scale"
    return (
        f"the feet's own coefficients differ by default: {low} {sliding.min():g}, "
        f"{high} {sliding.max():g}; set {offered}"
    )


def find_inert_foot_friction(model: mujoco.MjModel) -> float | None:
    """Return the friction up to which `foot_friction` has no effect; None where it always has.

    That is the friction of the floor, where contact takes the larger of foot and floor.
    """
    return _find_inert_friction(FrictionContacts(model))


def _find_inert_friction(contacts: FrictionContacts) -> float | None:
    rules = {contact.rule for contact in contacts.of_feet}
    if rules != {"larger"}:
        return None
    sliding = contacts.model.geom_friction[:, 0]
    return min(float(sliding[contact.other]) for contact in contacts.of_feet)


def _make_parameter(
    name: str,
    default: float,
    fields: tuple[str, ...],
    apply: Apply,
    meaning: str,
    unit: str = "1",
) -> Parameter:
    return Parameter(name, unit, default, 0.0, 100.0, fields, apply, meaning)
