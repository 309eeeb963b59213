"""Actuators of a compiled MuJoCo model: which joints they drive, and which of its numbers scale
their force.

An actuator's force is gain (its control or activation) + bias (its length and velocity), clamped to
its `forcerange`; the gear carries it to the joint, and carries the joint's angle to the actuator's
length. A servo compares this length with its target, so that a smaller gear would weaken it and
move where it settles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mujoco
import numpy as np

Fields = Mapping[str, np.ndarray]
Apply = Callable[[Fields, np.ndarray], None]
Masks = dict[str, np.ndarray]  # by model field: bool, of the field's shape

GAIN, BIAS, TRANSMISSION = mujoco.mjtGain, mujoco.mjtBias, mujoco.mjtTrn
AT_JOINT = (int(TRANSMISSION.mjTRN_JOINT), int(TRANSMISSION.mjTRN_JOINTINPARENT))

GAIN_COLUMNS: dict[int, list[int]] = {
    int(GAIN.mjGAIN_FIXED): [0],
    int(GAIN.mjGAIN_AFFINE): [0, 1, 2],
    int(GAIN.mjGAIN_MUSCLE): [
        2,
        3,
    ],  # the peak force; where it is negative, what it is computed from
    int(GAIN.mjGAIN_SO3): [0],
    int(GAIN.mjGAIN_PID): [0],  # the integral's; kp and kv are in the bias
}
"""The columns of `actuator_gainprm` that are proportional to the force, by type; a type that is not here has none."""
BIAS_COLUMNS: dict[int, list[int]] = {
    int(BIAS.mjBIAS_NONE): [],
    int(BIAS.mjBIAS_AFFINE): [0, 1, 2],
    int(BIAS.mjBIAS_MUSCLE): [2, 3],
    int(BIAS.mjBIAS_SO3): [0, 2],
}
"""The same of `actuator_biasprm`."""


def find_actuated(model: mujoco.MjModel) -> dict[int, list[int]]:
    """Return the joints that actuators drive directly, each with its actuators."""
    joints: dict[int, list[int]] = {}
    for a in range(model.nactuator):
        if model.actuator_trntype[a] in AT_JOINT:
            joints.setdefault(int(model.actuator_trnid[a, 0]), []).append(a)
    return joints


def explain_unscalable(model: mujoco.MjModel, actuator: int) -> str:
    """Return why no numbers of the model scale an actuator's force; empty where some do."""
    gain, bias = int(model.actuator_gaintype[actuator]), int(model.actuator_biastype[actuator])
    if model.actuator_plugin[actuator] >= 0:
        return "its force is a plugin's"
    if gain == GAIN.mjGAIN_DCMOTOR or bias == BIAS.mjBIAS_DCMOTOR:
        return "a DC motor's force follows from its circuit, whose resistance and constant also set its speed"
    if gain not in GAIN_COLUMNS or bias not in BIAS_COLUMNS:
        return "its gain or bias is a user's callback"
    if (
        gain == GAIN.mjGAIN_PID
        and model.actuator_ctrlspec[actuator] & mujoco.mjtCtrlInput.mjINPUT_FF
    ):
        return "its feedforward input is a force, which no gain scales"
    return ""


def find_compensated(model: mujoco.MjModel, joints: list[int]) -> list[int]:
    """Return the bodies whose gravity compensation acts through the actuators of any of `joints`
    (actuatorgravcomp).
    """
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY or not model.opt.gravity.any():
        return []
    through = {j for j in joints if model.jnt_actgravcomp[j]}
    heavy = np.flatnonzero((model.body_gravcomp != 0) & (model.body_mass > 0))
    return [int(b) for b in heavy if through & set(find_movers(model, int(b)))]


def find_movers(model: mujoco.MjModel, body: int) -> list[int]:
    """Return the joints that move a body: its own and its ancestors'."""
    movers: list[int] = []
    while body:
        first = int(model.body_jntadr[body])
        movers += range(first, first + int(model.body_jntnum[body]))
        body = int(model.body_parentid[body])
    return movers


def explain_uncompensated(model: mujoco.MjModel, joints: list[int]) -> str:
    """Return why the gravity compensation in the force at `joints` cannot be scaled; empty where it
    can, or is none.

    It is scaled by the `body_gravcomp` of the bodies: right only where no other force comes from
    that.
    """
    through = {j for j in joints if model.jnt_actgravcomp[j]}
    for body in find_compensated(model, joints):
        movers = find_movers(model, body)
        others = [j for j in movers if j not in through]
        if others:
            joint = _name_joint(model, next(j for j in movers if j in through))
            return (
                f"joint {joint} has actuatorgravcomp, so that its motors' force includes gravity "
                "compensation, "
                f"which cannot be scaled without that of joint {_name_joint(model, others[0])}"
            )
    return ""


def _name_joint(model: mujoco.MjModel, joint: int) -> str:
    return repr(model.joint(joint).name or joint)


def is_torque_motor(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether a force depends on the control alone, and the gear on nothing else: then
    scaling it is enough.
    """
    has_own_dynamics = (
        model.actuator_damping[actuator]
        or model.actuator_dampingpoly[actuator].any()
        or model.actuator_armature[actuator]
    )  # the joint has them times the gear's square
    return bool(
        model.actuator_gaintype[actuator] == GAIN.mjGAIN_FIXED
        and model.actuator_biastype[actuator] == BIAS.mjBIAS_NONE
        and model.actuator_trntype[actuator] != TRANSMISSION.mjTRN_BODY  # adhesion has no gear
        and not has_own_dynamics
    )


def mark_force(model: mujoco.MjModel, actuators: list[int], joints: list[int]) -> Masks:
    """Return the entries of the model that scale, together, the force of actuators at every state.

    A torque motor's is its gear, which acts after the clamp to `forcerange`. Others have their
    gain, their bias and their `forcerange` scaled. The limits on the whole actuator force of
    `joints` (`actuatorfrcrange`) go with them, and so does the gravity compensation in it (see
    `explain_uncompensated`).
    """
    masks: Masks = {}
    for a in actuators:
        if is_torque_motor(model, a):
            outputs = slice(
                model.actuator_outadr[a], model.actuator_outadr[a] + model.actuator_outnum[a]
            )
            _mark(model, masks, "actuator_gear", outputs)
            continue
        _mark(model, masks, "actuator_gainprm", (a, GAIN_COLUMNS[int(model.actuator_gaintype[a])]))
        _mark(model, masks, "actuator_biasprm", (a, BIAS_COLUMNS[int(model.actuator_biastype[a])]))
        if model.actuator_forcelimited[a]:
            _mark(model, masks, "actuator_forcerange", a)
    for j in joints:
        if model.jnt_actfrclimited[j]:
            _mark(model, masks, "jnt_actfrcrange", j)
    if compensated := find_compensated(model, joints):
        _mark(model, masks, "body_gravcomp", compensated)
    return {field: mask for field, mask in masks.items() if mask.any()}


def _mark(model: mujoco.MjModel, masks: Masks, field: str, index: Any) -> None:
    mask = masks.setdefault(field, np.zeros(getattr(model, field).shape, bool))
    mask[index] = True


def mark_all_forces(model: mujoco.MjModel) -> Masks:
    """Return the entries that scale the force of all actuators, limits of joints and tendons
    included.
    """
    masks = mark_force(model, list(range(model.nactuator)), list(range(model.njnt)))
    limited = np.flatnonzero(model.tendon_actfrclimited)
    if len(limited):
        _mark(model, masks, "tendon_actfrcrange", limited)
    return masks


def scale_marked(masks: Masks) -> Apply:
    """Return what multiplies the marked entries by the value."""

    def apply(fields: Fields, values: np.ndarray) -> None:
        for field, mask in masks.items():
            rows = fields[field]
            rows[:, mask] = rows[:, mask] * values[:, None]

    return apply


def is_linear_in_control(model: mujoco.MjModel) -> bool:
    """Return whether a scaled action scales every actuator's force: linear in its control, without
    bias or clamp.

    Nor is it so where gravity compensation, which no action scales, acts through the actuators.
    """
    if find_compensated(model, list(range(model.njnt))):
        return False
    clamped = (
        model.actuator_forcelimited.any()
        or model.jnt_actfrclimited.any()
        or model.tendon_actfrclimited.any()
    )
    proportional = (
        np.isin(model.actuator_gaintype, [GAIN.mjGAIN_FIXED, GAIN.mjGAIN_AFFINE])
        & (model.actuator_biastype == BIAS.mjBIAS_NONE)
        & (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE)
        & (model.actuator_plugin < 0)
    )
    low, high = model.actuator_ctrlrange.T
    zero_allowed = ~np.asarray(model.actuator_ctrllimited, bool) | ((low <= 0) & (high >= 0))
    return bool(not clamped and proportional.all() and zero_allowed.all())
