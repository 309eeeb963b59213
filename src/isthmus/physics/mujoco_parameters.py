"""The physical parameters of a compiled MuJoCo model: one small function a kind, in the order in which they apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import mujoco
import numpy as np

from isthmus.physics.parameters import Parameter

Fields = Mapping[str, np.ndarray]
Apply = Callable[[Fields, np.ndarray], None]

SLIDE, HINGE = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)


def mujoco_parameters(model: mujoco.MjModel) -> dict[str, Parameter]:
    """Return the parameters of a compiled MuJoCo model, by name.

    Names come from the model: every body with mass gives `<body>_mass`; every actuated joint `<joint>_armature`,
    `<joint>_strength`, `<joint>_range`; every actuated joint and every passive hinge or slide `<joint>_damping` and
    `<joint>_frictionloss` (the suffix `_joint` of a joint's name is dropped). The joints that let a whole body float
    (a walker's root, Reacher's goal) are no mechanism and have no names here. A factor of nothing is not offered
    either: `damping` needs an actuated joint that is damped, `armature` one with a rotor.
    """
    table: dict[str, Parameter] = {}
    for offer in KINDS:
        for parameter in offer(model):
            table[parameter.name] = parameter
    return table


def scale(field: str, index: int | list[int] | slice = slice(None)) -> Apply:
    """Return what multiplies a field's entries at `index` by the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        rows = fields[field]
        rows[:, index] = rows[:, index] * values.reshape((-1,) + (1,) * (rows[:, index].ndim - 1))

    return apply


def assign(field: str, index: int) -> Apply:
    """Return what sets a field's entry at `index` to the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields[field][:, index] = values

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


def offer_friction(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `friction`, that of the contact between robot and floor."""
    sliding = np.asarray(model.geom_friction)[:, 0]
    floor = [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0]
    limbs = [g for g in range(model.ngeom) if model.geom_bodyid[g] != 0]
    feet = [g for g in limbs if "foot" in model.geom(g).name]
    ground = float(max(sliding[floor], default=0.0))
    contact = max(float(max(sliding[feet or limbs], default=0.0)), ground)
    if contact == 0:
        return

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["geom_friction"][:, :, 0] = fields["geom_friction"][:, :, 0] * (values[:, None] / contact)

    meaning = "the sliding friction of the foot's (or limbs') contact with the floor: floor and robot scaled together"
    yield Parameter("friction", "1", contact, 0.0, 100.0, ("geom_friction",), apply, meaning)


def offer_foot_friction(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `foot_friction`, where geoms of the robot are called feet."""
    sliding = np.asarray(model.geom_friction)[:, 0]
    floor = [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0]
    limbs = [g for g in range(model.ngeom) if model.geom_bodyid[g] != 0]
    feet = [g for g in limbs if "foot" in model.geom(g).name]
    ground = float(max(sliding[floor], default=0.0))
    if not feet:
        return

    def apply(fields: Fields, values: np.ndarray) -> None:
        fields["geom_friction"][:, feet, 0] = values[:, None]

    meaning = (
        "the feet's own coefficient, as published; contact takes the larger of foot and floor, "
        f"so that all values up to the floor's {ground:g} are the same"
    )
    default = float(sliding[feet].max())
    yield Parameter("foot_friction", "1", default, 0.0, 100.0, ("geom_friction",), apply, meaning)


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
    for b in range(1, model.nbody):
        mass, name = float(model.body_mass[b]), model.body(b).name
        if mass > 0 and name:
            meaning = "mass alone, as published: the body's inertia stays"
            apply = assign("body_mass", b)
            yield Parameter(f"{name}_mass", "kg", mass, 1e-3, 1e4, ("body_mass",), apply, meaning, constants=True)


def find_actuated(model: mujoco.MjModel) -> dict[int, int]:
    """Return the joints that an actuator drives, each with its actuator."""
    joints = {}
    for a in range(model.nu):
        if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT:
            joints[int(model.actuator_trnid[a, 0])] = a
    return joints


def find_passive(model: mujoco.MjModel) -> list[int]:
    """Return the hinges and slides that no actuator drives, without those of a body that floats."""
    kind, body = model.jnt_type, model.jnt_bodyid
    driven = find_actuated(model)
    passive = [j for j in range(model.njnt) if j not in driven]
    floating = {body[j] for j in passive if model.body_parentid[body[j]] == 0 and kind[j] != HINGE}
    return [j for j in passive if kind[j] in (SLIDE, HINGE) and body[j] not in floating]


def offer_damping(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `damping`, where an actuated joint is damped."""
    dofs = [int(model.jnt_dofadr[j]) for j in find_actuated(model)]
    if model.dof_damping[dofs].any():
        apply = scale("dof_damping", dofs)
        yield Parameter("damping", "x", 1.0, 0.0, 1000.0, ("dof_damping",), apply, "all actuated joints")


def offer_armature(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `armature`, where an actuated joint has a rotor."""
    dofs = [int(model.jnt_dofadr[j]) for j in find_actuated(model)]
    if model.dof_armature[dofs].any():
        apply, meaning = scale("dof_armature", dofs), "rotor inertia of all actuated joints"
        yield Parameter("armature", "x", 1.0, 0.0, 1000.0, ("dof_armature",), apply, meaning, constants=True)


def offer_motor_strength(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `motor_strength`, where there are motors."""
    if model.nu:
        apply, fields = scale("actuator_gear"), ("actuator_gear",)
        yield Parameter("motor_strength", "x", 1.0, 0.0, 100.0, fields, apply, "all motors' gear", constants=True)


def offer_joint_range(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `joint_range`, where an actuated joint has limits."""
    limited = [j for j in find_actuated(model) if model.jnt_limited[j]]
    if limited:
        apply, meaning = scale("jnt_range", limited), "both ends of all limited, actuated joints' ranges"
        yield Parameter("joint_range", "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, meaning)


def offer_joints(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield what each joint has of its own, first the actuated ones, then the passive."""
    for j in find_actuated(model):
        yield from offer_friction_losses(model, j)
        yield from offer_actuation(model, j)
    for j in find_passive(model):
        yield from offer_friction_losses(model, j)


def name_joint(model: mujoco.MjModel, joint: int) -> str:
    """Return what a joint's parameters begin with; empty where the joint has no name."""
    return model.joint(joint).name.removesuffix("_joint")


def offer_friction_losses(model: mujoco.MjModel, joint: int) -> Iterator[Parameter]:
    """Yield a joint's `<joint>_damping` and `<joint>_frictionloss`."""
    name, dof = name_joint(model, joint), int(model.jnt_dofadr[joint])
    if not name:
        return
    force, viscous = ("N", "N s/m") if model.jnt_type[joint] == SLIDE else ("N m", "N m s/rad")
    damping, apply = float(model.dof_damping[dof]), assign("dof_damping", dof)
    yield Parameter(f"{name}_damping", viscous, damping, 0.0, 1e4, ("dof_damping",), apply, "absolute")
    loss, apply = float(model.dof_frictionloss[dof]), assign("dof_frictionloss", dof)
    meaning = "absolute; dry friction in the joint, whatever its speed"
    yield Parameter(f"{name}_frictionloss", force, loss, 0.0, 1e4, ("dof_frictionloss",), apply, meaning)


def offer_actuation(model: mujoco.MjModel, joint: int) -> Iterator[Parameter]:
    """Yield an actuated joint's `<joint>_armature`, `<joint>_strength` and, with limits, `<joint>_range`."""
    name, dof = name_joint(model, joint), int(model.jnt_dofadr[joint])
    if not name:
        return
    inertia = "kg" if model.jnt_type[joint] == SLIDE else "kg m2"
    armature, apply = float(model.dof_armature[dof]), assign("dof_armature", dof)
    yield Parameter(
        f"{name}_armature", inertia, armature, 0.0, 1e4, ("dof_armature",), apply, "absolute", constants=True
    )
    fields, apply = ("actuator_gear",), scale("actuator_gear", find_actuated(model)[joint])
    yield Parameter(f"{name}_strength", "x", 1.0, 0.0, 100.0, fields, apply, "one motor's gear", constants=True)
    if model.jnt_limited[joint]:
        apply = scale("jnt_range", joint)
        yield Parameter(f"{name}_range", "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, "both ends")


KINDS: tuple[Callable[[mujoco.MjModel], Iterator[Parameter]], ...] = (
    # What is written last holds: the whole robot before its parts.
    offer_gravity,
    offer_friction,
    offer_foot_friction,
    offer_density,
    offer_body_masses,
    offer_damping,
    offer_armature,
    offer_motor_strength,
    offer_joint_range,
    offer_joints,
)
"""What a model may have, each from a function of its own."""
