"""The physical parameters of a compiled MuJoCo model, in the order in which they apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mujoco
import numpy as np

from isthmus.physics.actuator_strength import explain_strength, find_actuated, mark_all_forces
from isthmus.physics.friction import find_withheld, offer_friction
from isthmus.physics.joint_parameters import (
    except_tendons,
    make_strength,
    mark_joints,
    name_prefixes,
    offer_joints,
)
from isthmus.physics.model_fields import Fields, assign, scale, scale_marked
from isthmus.physics.parameter_names import name_bodies
from isthmus.physics.parameters import Parameter
from isthmus.physics.servos import offer_gains
from isthmus.types import BadValue


def mujoco_parameters(model: mujoco.MjModel) -> dict[str, Parameter]:
    """Return the parameters of a compiled MuJoCo model, by name.

    Names come from the model: every body with mass gives `<body>_mass`; every actuated joint
    `<joint>_armature`, `<joint>_strength`, `<joint>_range`; every actuated joint and every passive
    hinge or slide `<joint>_damping` and `<joint>_frictionloss` (for `<joint>` see `name_joints`).
    The joints that let a whole body float (a walker's root, Reacher's goal) are no mechanism and
    have no names here. A factor of nothing is not offered either: `damping` needs an actuated joint
    that is damped, `armature` one with a rotor. Nor is a strength that cannot be scaled: see
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
    prefixes = name_prefixes(model)
    for j, actuators in find_actuated(model).items():
        reason = explain_strength(model, actuators, [j])
        if reason and j in prefixes:
            withheld[f"{prefixes[j]}_strength"] = reason
    if reason := _explain_motor_strength(model):
        withheld["motor_strength"] = reason
    return withheld


def _explain_motor_strength(model: mujoco.MjModel) -> str:
    if not model.nactuator:
        return ""
    return explain_strength(model, list(range(model.nactuator)), list(range(model.njnt)))


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
    bodies: dict[str, int] = {}
    for b in range(1, model.nbody):
        if model.body_mass[b] > 0:
            bodies[model.body(b).name] = b
    fields, meaning = ("body_mass",), "mass alone, as published: the body's inertia stays"
    for name, prefix in name_bodies(bodies).items():
        mass, apply = float(model.body_mass[bodies[name]]), assign("body_mass", bodies[name])
        label = f"{prefix}_mass"
        yield Parameter(label, "kg", mass, 1e-3, 1e4, fields, apply, meaning, constants=True)


def offer_damping(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `damping`, where an actuated joint is damped, by itself or by its motors.

    It scales linear and polynomial terms.
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
    meaning += except_tendons(model, "tendon_damping", "tendon_dampingpoly")
    yield Parameter("damping", "x", 1.0, 0.0, 1000.0, tuple(masks), scale_marked(masks), meaning)


def offer_armature(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `armature`, where an actuated joint has a rotor, by itself or by its motors."""
    masks = mark_joints(model, ("dof_armature",), ("actuator_armature",))
    if not masks:
        return
    meaning = "rotor inertia of all actuated joints"
    if "actuator_armature" in masks:
        meaning += ", their motors' own included"
    meaning += except_tendons(model, "tendon_armature")
    apply = scale_marked(masks)
    yield Parameter("armature", "x", 1.0, 0.0, 1000.0, tuple(masks), apply, meaning, constants=True)


def offer_motor_strength(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `motor_strength`, where there are motors and the force of each can be scaled."""
    if not model.nactuator or _explain_motor_strength(model):
        return
    masks = mark_all_forces(model)
    yield make_strength("motor_strength", masks, "the force of all motors, at every state")


def offer_joint_range(model: mujoco.MjModel) -> Iterator[Parameter]:
    """Yield `joint_range`, where an actuated joint has limits."""
    limited = [j for j in find_actuated(model) if model.jnt_limited[j]]
    if limited:
        apply, meaning = (
            scale("jnt_range", limited),
            "both ends of all limited, actuated joints' ranges",
        )
        yield Parameter("joint_range", "x", 1.0, 0.0, 10.0, ("jnt_range",), apply, meaning)


KINDS: tuple[Callable[[mujoco.MjModel], Iterator[Parameter]], ...] = (
    # What is written last holds: the whole robot before its parts.
    offer_gravity,
    offer_friction,
    offer_density,
    offer_body_masses,
    offer_damping,
    offer_armature,
    offer_gains,  # which strengths scale
    offer_motor_strength,
    offer_joint_range,
    offer_joints,
)
"""What a model may have, each from a function of its own."""
