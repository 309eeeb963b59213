"""Actuators of a compiled MuJoCo model: the joints they drive, and the numbers that scale forces.

An actuator's force is gain (its control or activation) + bias (its length and velocity), clamped to
its `forcerange`; the gear carries it to the joint, and carries the joint's angle to the actuator's
length. A servo compares this length with its target, so that a smaller gear would weaken it and
move where it settles.
"""

from __future__ import annotations

import mujoco
import numpy as np

from isthmus.physics.actuator_controls import describe_actuator
from isthmus.physics.model_fields import Masks

Index = int | slice | list[int] | np.ndarray | tuple[int, list[int]]

GAIN, BIAS, TRANSMISSION = mujoco.mjtGain, mujoco.mjtBias, mujoco.mjtTrn
AT_JOINT = (int(TRANSMISSION.mjTRN_JOINT), int(TRANSMISSION.mjTRN_JOINTINPARENT))

GAIN_COLUMNS: dict[int, list[int]] = {
    int(GAIN.mjGAIN_FIXED): [0],
    int(GAIN.mjGAIN_AFFINE): [0, 1, 2],
    # the peak force; where it is negative, what it is computed from
    int(GAIN.mjGAIN_MUSCLE): [2, 3],
    int(GAIN.mjGAIN_SO3): [0],
    int(GAIN.mjGAIN_PID): [0],  # the integral's; kp and kv are in the bias
}
"""The columns of `actuator_gainprm` that are proportional to the force, by type.

A type that is not here has none.
"""
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
    has_feedforward = model.actuator_ctrlspec[actuator] & mujoco.mjtCtrlInput.mjINPUT_FF
    if model.actuator_plugin[actuator] >= 0:
        return "its force is a plugin's"
    if gain == GAIN.mjGAIN_DCMOTOR or bias == BIAS.mjBIAS_DCMOTOR:
        return (
            "a DC motor's force follows from its circuit, whose resistance and constant also set "
            "its speed"
        )
    if gain not in GAIN_COLUMNS or bias not in BIAS_COLUMNS:
        return "its gain or bias is a user's callback"
    if gain == GAIN.mjGAIN_PID and has_feedforward:
        return "its feedforward input is a force, which no gain scales"
    return ""


def explain_strength(model: mujoco.MjModel, actuators: list[int], joints: list[int]) -> str:
    """Return why the force of actuators at `joints` cannot be scaled; empty where it can."""
    for a in actuators:
        if reason := explain_unscalable(model, a):
            return f"the force of {describe_actuator(model, a)} cannot be scaled: {reason}"
    return explain_uncompensated(model, joints)


def _find_through(model: mujoco.MjModel, joints: list[int]) -> set[int]:
    """Return those of some joints whose actuators compensate gravity (actuatorgravcomp)."""
    return set(np.asarray(joints, int)[model.jnt_actgravcomp[joints] != 0].tolist())


def find_compensated(model: mujoco.MjModel, joints: list[int]) -> list[int]:
    """Return the bodies whose gravity compensation acts through the actuators of `joints`."""
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY or not model.opt.gravity.any():
        return []
    through = _find_through(model, joints)
    compensated = []
    for body in np.flatnonzero((model.body_gravcomp != 0) & (model.body_mass > 0)).tolist():
        if not through.isdisjoint(find_movers(model, body)):
            compensated.append(body)
    return compensated


def find_movers(model: mujoco.MjModel, body: int) -> list[int]:
    """Return the joints that move a body: its own and its ancestors'."""
    movers: list[int] = []
    while body:
        first = int(model.body_jntadr[body])
        movers += range(first, first + int(model.body_jntnum[body]))
        body = int(model.body_parentid[body])
    return movers


def explain_uncompensated(model: mujoco.MjModel, joints: list[int]) -> str:
    """Return why the gravity compensation in the force at `joints` cannot be scaled.

    Empty where it can, or is none. It is scaled by the `body_gravcomp` of the bodies: right only
    where no other force comes from that.
    """
    through = _find_through(model, joints)
    for body in find_compensated(model, joints):
        movers = find_movers(model, body)
        others = [j for j in movers if j not in through]
        if others:
            joint = _quote_joint(model, next(j for j in movers if j in through))
            return (
                f"joint {joint} has actuatorgravcomp, so that its motors' force includes gravity "
                "compensation, which cannot be scaled without that of joint "
                f"{_quote_joint(model, others[0])}"
            )
    return ""


def _quote_joint(model: mujoco.MjModel, joint: int) -> str:
    return repr(model.joint(joint).name or joint)


def is_torque_motor(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether an actuator's force is scaled by its gear, and nothing else is.

    Then the force depends on the control alone.
    """
    # The joint has these times the gear's square.
    for field in ("actuator_damping", "actuator_dampingpoly", "actuator_armature"):
        if np.any(getattr(model, field)[actuator]):
            return False
    if model.actuator_trntype[actuator] == TRANSMISSION.mjTRN_BODY:  # adhesion has no gear
        return False
    kind = model.actuator_gaintype[actuator], model.actuator_biastype[actuator]
    return kind == (GAIN.mjGAIN_FIXED, BIAS.mjBIAS_NONE)


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
            first, count = model.actuator_outadr[a], model.actuator_outnum[a]
            _mark(model, masks, "actuator_gear", slice(first, first + count))
        else:
            _mark_servo(model, masks, a)
    for j in joints:
        if model.jnt_actfrclimited[j]:
            _mark(model, masks, "jnt_actfrcrange", j)
    if compensated := find_compensated(model, joints):
        _mark(model, masks, "body_gravcomp", compensated)
    for field in list(masks):
        if not masks[field].any():
            del masks[field]
    return masks


def _mark_servo(model: mujoco.MjModel, masks: Masks, actuator: int) -> None:
    """Mark gain, bias and limits of an actuator whose gear does not scale its force alone."""
    gain, bias = int(model.actuator_gaintype[actuator]), int(model.actuator_biastype[actuator])
    _mark(model, masks, "actuator_gainprm", (actuator, GAIN_COLUMNS[gain]))
    _mark(model, masks, "actuator_biasprm", (actuator, BIAS_COLUMNS[bias]))
    if model.actuator_forcelimited[actuator]:
        _mark(model, masks, "actuator_forcerange", actuator)


def _mark(model: mujoco.MjModel, masks: Masks, field: str, index: Index) -> None:
    mask = masks.setdefault(field, np.zeros(getattr(model, field).shape, bool))
    mask[index] = True


def mark_all_forces(model: mujoco.MjModel) -> Masks:
    """Return the entries that scale all actuators' force, limits of joints and tendons included."""
    masks = mark_force(model, list(range(model.nactuator)), list(range(model.njnt)))
    limited = np.flatnonzero(model.tendon_actfrclimited)
    if len(limited):
        _mark(model, masks, "tendon_actfrcrange", limited)
    return masks


def is_linear_in_control(model: mujoco.MjModel) -> bool:
    """Return whether every actuator's force is linear in its control, without bias or clamp.

    Nor is it so where gravity compensation, which no action scales, acts through the actuators.
    """
    if find_compensated(model, list(range(model.njnt))):
        return False
    for field in ("actuator_forcelimited", "jnt_actfrclimited", "tendon_actfrclimited"):
        if np.any(getattr(model, field)):
            return False
    proportional = (
        np.isin(model.actuator_gaintype, [GAIN.mjGAIN_FIXED, GAIN.mjGAIN_AFFINE])
        & (model.actuator_biastype == BIAS.mjBIAS_NONE)
        & (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE)
        & (model.actuator_plugin < 0)
    )
    low, high = model.actuator_ctrlrange.T
    zero_allowed = ~np.asarray(model.actuator_ctrllimited, bool) | ((low <= 0) & (high >= 0))
    return bool(proportional.all() and zero_allowed.all())
