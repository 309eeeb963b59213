"""The parameters of the joints of a compiled MuJoCo model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from isthmus.physics.actuator_strength import explain_strength, find_actuated, mark_force
from isthmus.physics.model_fields import Apply, Fields, Masks, assign, scale, scale_marked
from isthmus.physics.parameter_names import name_joints
from isthmus.physics.parameters import Parameter

FREE, BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
SLIDE, HINGE = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
DOFS = {FREE: 6, BALL: 3, SLIDE: 1, HINGE: 1}

PASSIVE = ("damping", "frictionloss")
DRIVEN = (*PASSIVE, "armature", "strength")
"""What the parameters of a joint end with; a limited, driven joint has `range` as well."""


class Units(NamedTuple):
    """The units of a joint's force, of its damping and of its armature."""

    force: str
    damping: str
    armature: str


LINEAR_UNITS = Units("N", "N s/m", "kg")
ANGULAR_UNITS = Units("N m", "N m s/rad", "kg m2")
FREE_UNITS = Units("N, N m", "N s/m, N m s/rad", "kg, kg m2")


class NamedJoint(NamedTuple):
    """A joint that has parameters of its own, and what their names begin with."""

    prefix: str
    joint: int
    dofs: list[int]
    actuators: list[int]  # those that drive it; none of a passive one
    units: Units


def offer_joints(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield what each joint has of its own, first the actuated ones, then the passive."""
    prefixes, driven = name_prefixes(model), find_actuated(model)
    for j, actuators in driven.items():
        if j in prefixes:
            yield from _offer_driven(model, _make_joint(model, prefixes[j], j, actuators))
    for j in find_passive(model):
        if j in prefixes:
            joint = _make_joint(model, prefixes[j], j, [])
            yield _make_damping(model, joint)
            yield _make_frictionloss(model, joint)


def _make_joint(model: mujoco.MjModel, prefix: str, joint: int, actuators: list[int]) -> NamedJoint:
    return NamedJoint(prefix, joint, find_dofs(model, joint), actuators, find_units(model, joint))


def find_passive(model: mujoco.MjModel) -> list[int]:
    """Return the hinges and slides that no actuator drives, without those of a body that floats."""
    kind, body = model.jnt_type, model.jnt_bodyid
    passive: list[int] = []
    floating: set[int] = set()
    for j in sorted(set(range(model.njnt)).difference(find_actuated(model))):
        if _lets_float(model, j):
            floating.add(body[j])
        if kind[j] in (SLIDE, HINGE):
            passive.append(j)
    return [j for j in passive if body[j] not in floating]


def _lets_float(model: mujoco.MjModel, joint: int) -> bool:
    """Return whether a joint moves a whole robot, in any way but turning it."""
    root = model.body_parentid[model.jnt_bodyid[joint]] == 0
    return bool(root and model.jnt_type[joint] != HINGE)


def name_prefixes(model: mujoco.MjModel) -> dict[int, str]:
    """Return what the parameters of each joint that has some begin with, by joint.

    Joints without a name have none.
    """
    suffixes: dict[str, tuple[str, ...]] = {}
    for j in find_actuated(model):
        suffixes[model.joint(j).name] = (*DRIVEN, "range") if model.jnt_limited[j] else DRIVEN
    for j in find_passive(model):
        suffixes[model.joint(j).name] = PASSIVE
    return {model.joint(name).id: prefix for name, prefix in name_joints(suffixes).items()}


def find_dofs(model: mujoco.MjModel, joint: int) -> list[int]:
    """Return a joint's degrees of freedom."""
    first = int(model.jnt_dofadr[joint])
    return list(range(first, first + DOFS[int(model.jnt_type[joint])]))


def find_units(model: mujoco.MjModel, joint: int) -> Units:
    """Return the units of a joint's coefficients."""
    units = {FREE: FREE_UNITS, SLIDE: LINEAR_UNITS}
    return units.get(int(model.jnt_type[joint]), ANGULAR_UNITS)


def sum_at_joint(model: mujoco.MjModel, coefficients: np.ndarray, actuators: list[int]) -> float:
    """Return what actuators add to their joint of a coefficient, in MuJoCo's order of sums."""
    total = 0.0
    for a in actuators:
        gear = float(model.actuator_gear[model.actuator_outadr[a], 0])
        total += float(coefficients[a]) * (gear * gear)
    return total


def mark_joints(
    model: mujoco.MjModel, of_dofs: Sequence[str], of_actuators: Sequence[str]
) -> Masks:
    """Return the entries of actuated joints and of their actuators, in fields that are not zero."""
    dofs: list[int] = []
    actuators: list[int] = []
    for j, driving in find_actuated(model).items():
        dofs += find_dofs(model, j)
        actuators += driving
    masks: Masks = {}
    for fields, index in ((of_dofs, dofs), (of_actuators, actuators)):
        for field in fields:
            values = np.asarray(getattr(model, field))
            mask = np.zeros(values.shape, bool)
            mask[index] = True
            if values[mask].any():
                masks[field] = mask
    return masks


def except_tendons(model: mujoco.MjModel, *fields: str) -> str:
    """Return what a parameter of joints says of tendons that have the like: they keep theirs."""
    for field in fields:
        if getattr(model, field).any():
            return "; the tendons' stays"
    return ""


def _offer_driven(model: mujoco.MjModel, joint: NamedJoint) -> Iterator[Parameter]:
    """Yield what an actuated joint has of its own."""
    yield _make_damping(model, joint)
    yield _make_frictionloss(model, joint)
    yield _make_armature(model, joint)
    if not explain_strength(model, joint.actuators, [joint.joint]):
        yield _make_joint_strength(model, joint)
    if model.jnt_limited[joint.joint]:
        name, apply = f"{joint.prefix}_range", scale("jnt_range", joint.joint)
        yield Parameter(name, "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, "both ends")


def _assign_total(of_dofs: str, of_actuators: str, joint: NamedJoint) -> Apply:
    """Return a function that gives a joint the value in all, its motors' own part in it."""
    assign_dofs = assign(of_dofs, joint.dofs)

    def apply(fields: Fields, values: np.ndarray) -> None:
        assign_dofs(fields, values)
        if of_actuators in fields:
            fields[of_actuators][:, joint.actuators] = 0.0

    return apply


def _make_damping(model: mujoco.MjModel, joint: NamedJoint) -> Parameter:
    dofs, actuators = joint.dofs, joint.actuators
    by_motors = sum_at_joint(model, model.actuator_damping, actuators)
    damping = float(model.dof_damping[dofs[0]]) + by_motors
    fields, meaning = ("dof_damping",), "absolute"
    if model.actuator_damping[actuators].any():
        fields, meaning = ("dof_damping", "actuator_damping"), "absolute, its motors' own in it"
    if model.dof_dampingpoly[dofs].any() or model.actuator_dampingpoly[actuators].any():
        meaning += "; the linear term, polynomial terms stay"
    meaning += except_tendons(model, "tendon_damping", "tendon_dampingpoly")
    apply = _assign_total("dof_damping", "actuator_damping", joint)
    name, unit = f"{joint.prefix}_damping", joint.units.damping
    return Parameter(name, unit, damping, 0.0, 1e4, fields, apply, meaning)


def _make_frictionloss(model: mujoco.MjModel, joint: NamedJoint) -> Parameter:
    loss = float(model.dof_frictionloss[joint.dofs[0]])
    meaning = "absolute; dry friction in the joint, whatever its speed"
    meaning += except_tendons(model, "tendon_frictionloss")
    name, unit = f"{joint.prefix}_frictionloss", joint.units.force
    fields, apply = ("dof_frictionloss",), assign("dof_frictionloss", joint.dofs)
    return Parameter(name, unit, loss, 0.0, 1e4, fields, apply, meaning)


def _make_armature(model: mujoco.MjModel, joint: NamedJoint) -> Parameter:
    by_motors = sum_at_joint(model, model.actuator_armature, joint.actuators)
    armature = float(model.dof_armature[joint.dofs[0]]) + by_motors
    fields, meaning = ("dof_armature",), "absolute"
    if model.actuator_armature[joint.actuators].any():
        fields, meaning = ("dof_armature", "actuator_armature"), "absolute, its motors' own in it"
    meaning += except_tendons(model, "tendon_armature")
    apply = _assign_total("dof_armature", "actuator_armature", joint)
    name, unit = f"{joint.prefix}_armature", joint.units.armature
    return Parameter(name, unit, armature, 0.0, 1e4, fields, apply, meaning, constants=True)


def _make_joint_strength(model: mujoco.MjModel, joint: NamedJoint) -> Parameter:
    count = len(joint.actuators)
    meaning = "the force of its motor" if count == 1 else f"the force of its {count} motors"
    masks = mark_force(model, joint.actuators, [joint.joint])
    return make_strength(f"{joint.prefix}_strength", masks, f"{meaning}, at every state")


def make_strength(name: str, masks: Masks, meaning: str) -> Parameter:
    """Return a parameter that scales the force of some motors, by the entries that do so."""
    if "actuator_biasprm" in masks:
        meaning += "; a servo keeps its target"
    if "jnt_actfrcrange" in masks or "tendon_actfrcrange" in masks:
        meaning += "; limits of the actuator force are scaled with it"
    if "body_gravcomp" in masks:
        meaning += "; gravity compensation through the actuators too"
    constants = "actuator_gear" in masks  # nothing derives from gain and bias
    apply = scale_marked(masks)
    return Parameter(name, "x", 1.0, 0.0, 100.0, tuple(masks), apply, meaning, constants)
