"""The physical parameters of a compiled MuJoCo model: one small function a kind, in the order in
which they apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from isthmus.physics.actuator_controls import describe_actuator
from isthmus.physics.actuator_strength import (
    Apply,
    Fields,
    Masks,
    explain_uncompensated,
    explain_unscalable,
    find_actuated,
    mark_all_forces,
    mark_force,
    scale_marked,
)
from isthmus.physics.friction import find_withheld, offer_friction
from isthmus.physics.parameter_names import name_bodies, name_joints
from isthmus.physics.parameters import Parameter
from isthmus.types import BadValue

FREE, BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)
SLIDE, HINGE = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
DOFS = {FREE: 6, BALL: 3, SLIDE: 1, HINGE: 1}

PASSIVE = ("damping", "frictionloss")
DRIVEN = (*PASSIVE, "armature", "strength")
"""What the parameters of a joint end with; a limited, driven joint has `range` as well."""


def mujoco_parameters(model: mujoco.MjModel) -> dict[str, Parameter]:
    """Return the parameters of a compiled MuJoCo model, by name.

    Names come from the model: every body with mass gives `<body>_mass`; every actuated joint
    `<joint>_armature`, `<joint>_strength`, `<joint>_range`; every actuated joint and every passive
    hinge or slide `<joint>_damping` and `<joint>_frictionloss` (for `<joint>` see `name_joints`).
    The joints that let a whole body float (a walker's root, Reacher's goal) are no mechanism and
    have no names here. A factor of nothing is not offered either: `damping` needs an actuated joint
    that is damped, `armature` one with a rotor. Nor is a strength that cannot be told: see
    `explain_withheld`. Raises BadValue where two things of the model have one name.
    """
    table: dict[str, Parameter] = {}
    for offer in KINDS:
        for parameter in offer(model):
            if parameter.name in table:
                raise BadValue(
                    f"the model has two parameters called {parameter.name}; rename its body or "
                    "joint"
                )
            table[parameter.name] = parameter
    return table


def explain_withheld(model: mujoco.MjModel) -> dict[str, str]:
    """Return the frictions and strengths that are not offered, by name: each with the reason."""
    withheld = find_withheld(model)
    prefixes, driven = name_prefixes(model), find_actuated(model)
    for j, actuators in driven.items():
        if j in prefixes and (reason := _explain_strength(model, actuators, [j])):
            withheld[f"{prefixes[j]}_strength"] = reason
    if reason := _explain_motor_strength(model):
        withheld["motor_strength"] = reason
    return withheld


def _explain_motor_strength(model: mujoco.MjModel) -> str:
    if not model.nactuator:
        return ""
    return _explain_strength(model, list(range(model.nactuator)), list(range(model.njnt)))


def _explain_strength(model: mujoco.MjModel, actuators: list[int], joints: list[int]) -> str:
    """Return why the force of actuators at `joints` cannot be scaled; empty where it can."""
    for a in actuators:
        if reason := explain_unscalable(model, a):
            return f"the force of {describe_actuator(model, a)} cannot be scaled: {reason}"
    return explain_uncompensated(model, joints)


def scale(field: str, index: int | list[int]) -> Apply:
    """Return what multiplies a field's entries at `index` by the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        rows = fields[field]
        rows[:, index] = rows[:, index] * values.reshape((-1,) + (1,) * (rows[:, index].ndim - 1))

    return apply


def assign(field: str, index: int | list[int]) -> Apply:
    """Return what sets a field's entries at `index` to the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        rows = fields[field]
        rows[:, index] = values.reshape((-1,) + (1,) * (rows[:, index].ndim - 1))

    return apply


def offer_gravity(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `gravity`, where there is some."""
    gravity = float(np.linalg.norm(model.opt.gravity))
    if gravity == 0:
        return

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["opt.gravity"][:] = fields["opt.gravity"] * (values[:, None] / gravity)

    meaning = "magnitude; its direction stays"
    yield Parameter("gravity", "m/s2", gravity, 0.0, 1000.0, ("opt.gravity",), apply, meaning)


def offer_density(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `density`."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["body_mass"][:] = fields["body_mass"] * values[:, None]
        fields["body_inertia"][:] = fields["body_inertia"] * values[:, None, None]

    fields = ("body_mass", "body_inertia")
    meaning = "mass and inertia of all bodies together"
    yield Parameter("density", "x", 1.0, 0.01, 100.0, fields, apply, meaning, constants=True)


def offer_body_masses(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `<body>_mass` for every body that has mass and a name."""
    bodies = {model.body(b).name: b for b in range(1, model.nbody) if model.body_mass[b] > 0}
    for name, prefix in name_bodies(bodies).items():
        b = bodies[name]
        mass, apply = float(model.body_mass[b]), assign("body_mass", b)
        meaning = "mass alone, as published: the body's inertia stays"
        yield Parameter(
            f"{prefix}_mass", "kg", mass, 1e-3, 1e4, ("body_mass",), apply, meaning, constants=True
        )


# Joints


def find_passive(model: mujoco.MjModel) -> list[int]:
    """Return the hinges and slides that no actuator drives, without those of a body that floats."""
    kind, body = model.jnt_type, model.jnt_bodyid
    driven = find_actuated(model)
    passive = [j for j in range(model.njnt) if j not in driven]
    floating = {body[j] for j in passive if model.body_parentid[body[j]] == 0 and kind[j] != HINGE}
    return [j for j in passive if kind[j] in (SLIDE, HINGE) and body[j] not in floating]


def name_prefixes(model: mujoco.MjModel) -> dict[int, str]:
    """Return what the parameters of each joint that has some begin with; joints without a name have
    none.
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


def find_units(model: mujoco.MjModel, joint: int) -> tuple[str, str, str]:
    """Return the units of a joint's force, of its damping and of its armature."""
    linear, angular = ("N", "N s/m", "kg"), ("N m", "N m s/rad", "kg m2")
    if model.jnt_type[joint] == FREE:
        return (
            f"{linear[0]}, {angular[0]}",
            f"{linear[1]}, {angular[1]}",
            f"{linear[2]}, {angular[2]}",
        )
    return linear if model.jnt_type[joint] == SLIDE else angular


def sum_at_joint(model: mujoco.MjModel, coefficients: np.ndarray, actuators: list[int]) -> float:
    """Return what actuators add to their joint of a coefficient (`actuator_damping`), in MuJoCo's
    order of sums.
    """
    total = 0.0
    for a in actuators:
        gear = float(model.actuator_gear[model.actuator_outadr[a], 0])
        total += float(coefficients[a]) * (gear * gear)
    return total


def mark_joints(
    model: mujoco.MjModel, of_dofs: tuple[str, ...], of_actuators: tuple[str, ...]
) -> Masks:
    """Return the entries of actuated joints and of the actuators that drive them, in the fields
    that are not zero.
    """
    driven = find_actuated(model)
    dofs = [dof for j in driven for dof in find_dofs(model, j)]
    actuators = [a for j in driven for a in driven[j]]
    masks: Masks = {}
    for field in (*of_dofs, *of_actuators):
        values = np.asarray(getattr(model, field))
        mask = np.zeros(values.shape, bool)
        mask[dofs if field in of_dofs else actuators] = True
        if values[mask].any():
            masks[field] = mask
    return masks


def _except_tendons(model: mujoco.MjModel, *fields: str) -> str:
    """Return what a parameter of joints says of tendons that have the like: they keep theirs."""
    return "; the tendons' stays" if any(getattr(model, field).any() for field in fields) else ""


def offer_damping(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `damping`, where an actuated joint is damped: linear and polynomial, by itself and by
    its motors.
    """
    masks = mark_joints(
        model, ("dof_damping", "dof_dampingpoly"), ("actuator_damping", "actuator_dampingpoly")
    )
    if not masks:
        return
    meaning = "all actuated joints"
    if "dof_dampingpoly" in masks or "actuator_dampingpoly" in masks:
        meaning += ", polynomial terms included"
    if "actuator_damping" in masks or "actuator_dampingpoly" in masks:
        meaning += ", their motors' own included"
    meaning += _except_tendons(model, "tendon_damping", "tendon_dampingpoly")
    yield Parameter("damping", "x", 1.0, 0.0, 1000.0, tuple(masks), scale_marked(masks), meaning)


def offer_armature(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `armature`, where an actuated joint has a rotor, by itself or by its motors."""
    masks = mark_joints(model, ("dof_armature",), ("actuator_armature",))
    if not masks:
        return
    meaning = "rotor inertia of all actuated joints"
    if "actuator_armature" in masks:
        meaning += ", their motors' own included"
    meaning += _except_tendons(model, "tendon_armature")
    apply = scale_marked(masks)
    yield Parameter("armature", "x", 1.0, 0.0, 1000.0, tuple(masks), apply, meaning, constants=True)


def offer_motor_strength(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `motor_strength`, where there are motors and the force of each can be scaled."""
    if not model.nactuator or _explain_motor_strength(model):
        return
    yield _strength(
        "motor_strength", mark_all_forces(model), "the force of all motors, at every state"
    )


def _strength(name: str, masks: Masks, meaning: str) -> Parameter:
    if "actuator_biasprm" in masks:
        meaning += "; a servo keeps its target"
    if "jnt_actfrcrange" in masks or "tendon_actfrcrange" in masks:
        meaning += "; limits of the actuator force are scaled with it"
    if "body_gravcomp" in masks:
        meaning += "; gravity compensation through the actuators too"
    constants = "actuator_gear" in masks  # nothing derives from gain and bias
    return Parameter(
        name, "x", 1.0, 0.0, 100.0, tuple(masks), scale_marked(masks), meaning, constants
    )


def offer_joint_range(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `joint_range`, where an actuated joint has limits."""
    limited = [j for j in find_actuated(model) if model.jnt_limited[j]]
    if limited:
        apply, meaning = (
            scale("jnt_range", limited),
            "both ends of all limited, actuated joints' ranges",
        )
        yield Parameter("joint_range", "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, meaning)


def offer_joints(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield what each joint has of its own, first the actuated ones, then the passive."""
    prefixes, driven = name_prefixes(model), find_actuated(model)
    for j, actuators in driven.items():
        if j in prefixes:
            yield _joint_damping(model, prefixes[j], j, actuators)
            yield _joint_frictionloss(model, prefixes[j], j)
            yield _joint_armature(model, prefixes[j], j, actuators)
            yield from _offer_joint_strength(model, prefixes[j], j, actuators)
            yield from _offer_range(model, prefixes[j], j)
    for j in find_passive(model):
        if j in prefixes:
            yield _joint_damping(model, prefixes[j], j, [])
            yield _joint_frictionloss(model, prefixes[j], j)


def assign_total(of_dofs: str, dofs: list[int], of_actuators: str, actuators: list[int]) -> Apply:
    """Return what gives a joint the value in all, its motors' own part in it."""
    assign_dofs = assign(of_dofs, dofs)

    def apply(fields: Fields, values: np.ndarray) -> None:
        assign_dofs(fields, values)
        if of_actuators in fields:
            fields[of_actuators][:, actuators] = 0.0

    return apply


def _joint_damping(
    model: mujoco.MjModel, prefix: str, joint: int, actuators: list[int]
) -> Parameter:
    dofs = find_dofs(model, joint)
    damping = float(model.dof_damping[dofs[0]]) + sum_at_joint(
        model, model.actuator_damping, actuators
    )
    fields, meaning = ("dof_damping",), "absolute"
    if model.actuator_damping[actuators].any():
        fields, meaning = ("dof_damping", "actuator_damping"), "absolute, its motors' own in it"
    if model.dof_dampingpoly[dofs].any() or model.actuator_dampingpoly[actuators].any():
        meaning += "; the linear term, polynomial terms stay"
    meaning += _except_tendons(model, "tendon_damping", "tendon_dampingpoly")
    apply = assign_total("dof_damping", dofs, "actuator_damping", actuators)
    return Parameter(
        f"{prefix}_damping", find_units(model, joint)[1], damping, 0.0, 1e4, fields, apply, meaning
    )


def _joint_frictionloss(model: mujoco.MjModel, prefix: str, joint: int) -> Parameter:
    dofs, unit = find_dofs(model, joint), find_units(model, joint)[0]
    loss, apply = float(model.dof_frictionloss[dofs[0]]), assign("dof_frictionloss", dofs)
    meaning = "absolute; dry friction in the joint, whatever its speed"
    meaning += _except_tendons(model, "tendon_frictionloss")
    return Parameter(
        f"{prefix}_frictionloss", unit, loss, 0.0, 1e4, ("dof_frictionloss",), apply, meaning
    )


def _joint_armature(
    model: mujoco.MjModel, prefix: str, joint: int, actuators: list[int]
) -> Parameter:
    dofs, unit = find_dofs(model, joint), find_units(model, joint)[2]
    armature = float(model.dof_armature[dofs[0]]) + sum_at_joint(
        model, model.actuator_armature, actuators
    )
    fields, meaning = ("dof_armature",), "absolute"
    if model.actuator_armature[actuators].any():
        fields, meaning = ("dof_armature", "actuator_armature"), "absolute, its motors' own in it"
    meaning += _except_tendons(model, "tendon_armature")
    apply = assign_total("dof_armature", dofs, "actuator_armature", actuators)
    return Parameter(
        f"{prefix}_armature", unit, armature, 0.0, 1e4, fields, apply, meaning, constants=True
    )


def _offer_joint_strength(
    model: mujoco.MjModel, prefix: str, joint: int, actuators: list[int]
) -> Iterator[Parameter]:
    if not _explain_strength(model, actuators, [joint]):
        meaning = (
            "the force of its motor"
            if len(actuators) == 1
            else f"the force of its {len(actuators)} motors"
        )
        masks = mark_force(model, actuators, [joint])
        yield _strength(f"{prefix}_strength", masks, f"{meaning}, at every state")


def _offer_range(model: mujoco.MjModel, prefix: str, joint: int) -> Iterator[Parameter]:
    if model.jnt_limited[joint]:
        apply = scale("jnt_range", joint)
        yield Parameter(f"{prefix}_range", "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, "both ends")


KINDS: tuple[Callable[[mujoco.MjModel], Iterator[Parameter]], ...] = (
    # What is written last holds: the whole robot before its parts.
    offer_gravity,
    offer_friction,
    offer_density,
    offer_body_masses,
    offer_damping,
    offer_armature,
    offer_motor_strength,
    offer_joint_range,
    offer_joints,
)
"""What a model may have, each from a function of its own."""
