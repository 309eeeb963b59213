"""What actuators can be told: the box of controls, and the control that holds a pose."""

from __future__ import annotations

import mujoco
import numpy as np

from isthmus.types import BadValue

SETPOINT_GAINS = (mujoco.mjtGain.mjGAIN_PID, mujoco.mjtGain.mjGAIN_DCMOTOR)
"""Gains of actuators whose controls are set points by name (`input="pos vel"`), position first."""
SPRING_GAINS = (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE)
FOLLOWING_DYNAMICS = (
    mujoco.mjtDyn.mjDYN_NONE,
    mujoco.mjtDyn.mjDYN_FILTER,
    mujoco.mjtDyn.mjDYN_FILTEREXACT,
)
"""Dynamics whose activation is the control, at once or in time."""
INPUT_RANGES = {
    mujoco.mjtCtrlInput.mjINPUT_POS: "posrange",
    mujoco.mjtCtrlInput.mjINPUT_VEL: "velrange",
    mujoco.mjtCtrlInput.mjINPUT_FF: "ffrange",
}
"""What bounds the inputs of a `<pid>` in an MJCF file, in the order of its controls; its ctrlrange is at most one's."""


def control_box(model: mujoco.MjModel, robot: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest controls, float32 (A,) each: the box that a policy's
    actions are in.

    Raises BadValue for a robot without actuators, or with one whose controls have no bounds that
    MuJoCo enforces.
    """
    if model.nu == 0:
        raise BadValue(
            f"{robot} has no actuators, and so nothing to act with; add some to the MJCF's "
            "<actuator>"
        )
    limits = np.asarray(model.actuator_ctrlrange)
    with np.errstate(over="ignore"):
        low, high = limits.astype(np.float32).T.copy()
    bounded = (
        np.asarray(model.actuator_ctrllimited, bool)
        & np.isfinite([low, high]).all(0)
        & (low < high)
    )
    if not bounded.all():
        raise BadValue(_describe_unbounded(model, robot, int(np.argmin(bounded))))
    return low, high


def _describe_unbounded(model: mujoco.MjModel, robot: str, control: int) -> str:
    actuator = int(np.searchsorted(model.actuator_ctrladr, control, side="right")) - 1
    named = describe_actuator(model, actuator)
    if model.actuator_ctrlnum[actuator] > 1:
        named += f", control {control - int(model.actuator_ctrladr[actuator])}"
    low, high = model.actuator_ctrlrange[control]
    attribute = _name_range(model, actuator, control)
    if not model.actuator_ctrllimited[control] and low < high:
        return f'{robot}: {named} has ctrllimited="false", so that its {attribute} bounds nothing; leave ctrllimited out'
    fault = (
        f"has no {attribute}"
        if low == high == 0
        else f'has {attribute}="{low:g} {high:g}", which is no range'
    )
    usual = "0 1" if model.actuator_dyntype[actuator] == mujoco.mjtDyn.mjDYN_MUSCLE else "-1 1"
    return f'{robot}: {named} {fault}, and the policy\'s actions would have no bounds; write {attribute}="{usual}" there'


def _name_range(model: mujoco.MjModel, actuator: int, control: int) -> str:
    """Return the attribute of an actuator that bounds a control."""
    if model.actuator_gaintype[actuator] != mujoco.mjtGain.mjGAIN_PID:
        return "ctrlrange"
    attributes = [
        name for bit, name in INPUT_RANGES.items() if model.actuator_ctrlspec[actuator] & bit
    ]
    return attributes[control - int(model.actuator_ctrladr[actuator])]


def describe_actuator(model: mujoco.MjModel, actuator: int) -> str:
    """Name an actuator in words: by its name, or where it has none by its index and what it drives."""
    if name := model.actuator(actuator).name:
        return f"actuator {name!r}"
    driven = {
        mujoco.mjtTrn.mjTRN_JOINT: ("joint", mujoco.mjtObj.mjOBJ_JOINT),
        mujoco.mjtTrn.mjTRN_JOINTINPARENT: ("joint", mujoco.mjtObj.mjOBJ_JOINT),
        mujoco.mjtTrn.mjTRN_TENDON: ("tendon", mujoco.mjtObj.mjOBJ_TENDON),
        mujoco.mjtTrn.mjTRN_SITE: ("site", mujoco.mjtObj.mjOBJ_SITE),
        mujoco.mjtTrn.mjTRN_BODY: ("body", mujoco.mjtObj.mjOBJ_BODY),
    }
    kind = mujoco.mjtTrn(model.actuator_trntype[actuator])
    if kind not in driven:
        return f"actuator {actuator}"
    word, table = driven[kind]
    target = int(model.actuator_trnid[actuator, 0])
    name = mujoco.mj_id2name(model, table, target) or target
    return f"actuator {actuator} (of {word} {name!r})"


def holds_poses(model: mujoco.MjModel) -> bool:
    """Return whether any actuator of the model is a spring to a set point: its force depends on the
    pose.
    """
    return bool(_find_springs(model).any() or _find_setpoints(model).any())


def _find_springs(model: mujoco.MjModel) -> np.ndarray:
    """Return which actuators have an affine force whose control, at rest, sets where it is zero;
    bool [actuators].
    """
    affine = np.asarray(model.actuator_biastype) == mujoco.mjtBias.mjBIAS_AFFINE
    gains = np.isin(model.actuator_gaintype, [int(kind) for kind in SPRING_GAINS])
    follow = np.isin(model.actuator_dyntype, [int(kind) for kind in FOLLOWING_DYNAMICS])
    return affine & gains & follow & (np.asarray(model.actuator_ctrlnum) == 1)


def _find_setpoints(model: mujoco.MjModel) -> np.ndarray:
    """Return which actuators' first control is a position by name; bool [actuators]."""
    gains = np.isin(model.actuator_gaintype, [int(kind) for kind in SETPOINT_GAINS])
    return gains & (np.asarray(model.actuator_ctrlspec) & int(mujoco.mjtCtrlInput.mjINPUT_POS) > 0)


def find_lagging(model: mujoco.MjModel) -> np.ndarray:
    """Return the actuators whose activation follows their one control in time (filters); int."""
    kinds = [int(kind) for kind in FOLLOWING_DYNAMICS if kind != mujoco.mjtDyn.mjDYN_NONE]
    return np.flatnonzero(np.isin(model.actuator_dyntype, kinds))


def settle_activation(
    model: mujoco.MjModel, actuators: np.ndarray, control: np.ndarray
) -> np.ndarray:
    """Return where the activations (n, actuators) of `find_lagging` come to rest under controls (n,
    A).
    """
    told = control[:, model.actuator_ctrladr[actuators]]
    if not model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL:
        told = _clip_limited(
            told,
            model.actuator_ctrllimited,
            model.actuator_ctrlrange,
            model.actuator_ctrladr[actuators],
        )
    return _clip_limited(told, model.actuator_actlimited, model.actuator_actrange, actuators)


def _clip_limited(
    values: np.ndarray, limited: np.ndarray, limits: np.ndarray, index: np.ndarray
) -> np.ndarray:
    low, high = np.where(np.asarray(limited, bool)[index, None], limits[index], [-np.inf, np.inf]).T
    return np.clip(values, low, high)


def find_holding_control(
    model: mujoco.MjModel, length: np.ndarray, rest: np.ndarray, gain: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Return the control (n, A) that holds poses at rest, within the controls' bounds.

    `length` (n, outputs) are the actuators' lengths there, `rest` (A,) what the model is told by
    default (zero; the identity where a control is a quaternion), `gain` and `bias` (n, actuators,
    ?) their parameters. An actuator of force gain * u + b0 + b1 * length (a position servo, any
    affine one) is told the u of no force; a set point by name the length; all others `rest`:
    motors, velocity servos, dampers and muscles, and those whose control is integrated, where the
    activation holds.
    """
    control = np.tile(rest, (len(length), 1))
    springs, setpoints = _find_springs(model), _find_setpoints(model)
    first, outputs = model.actuator_ctrladr, model.actuator_outadr
    for actuator in np.flatnonzero(springs):
        at = length[:, outputs[actuator]]
        slope = gain[:, actuator, 0]
        if model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_AFFINE:
            slope = slope + gain[:, actuator, 1] * at
        offset = bias[:, actuator, 0] + bias[:, actuator, 1] * at
        moved = (slope != 0) & (offset != 0)
        control[moved, first[actuator]] = -offset[moved] / slope[moved]
    for actuator in np.flatnonzero(setpoints):
        control[:, first[actuator]] = length[:, outputs[actuator]]
    return _clip_limited(
        control, model.actuator_ctrllimited, model.actuator_ctrlrange, np.arange(model.nu)
    )
